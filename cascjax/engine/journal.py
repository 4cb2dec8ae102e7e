"""A search that survives an interrupt: what it held after so many steps, in one file."""

import os
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cascjax.data.files import atomic_write, one_line
from cascjax.errors import CascjaxError

_DAMAGE = (
    ValueError, TypeError, AttributeError, KeyError, EOFError, NotImplementedError,
    zipfile.BadZipFile, zlib.error, struct.error,
)  # fmt: skip
"""What NumPy and zipfile raise of bytes that are not what was written."""


class Journal:
    """States of a search by step, kept in an npz file; the file is whole at any moment."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Keep them at `path`; nothing is read or written yet."""
        self._path = Path(path)
        self._kept: dict[str, np.ndarray] = {}

    @property
    def steps(self) -> int:
        """Steps of the latest state, 0 where there is none."""
        return max((int(name.split("/")[0]) for name in self._kept if "/" in name), default=0)

    def open(self, search: str) -> None:
        """Reads what an earlier run of the same search kept.

        Args:
            search: what tells this search from others: data, settings, seed.

        Raises:
            CascjaxError: the file is of another search, or damaged.
        """
        kept: dict[str, np.ndarray] = {}
        if self._path.exists():
            try:
                with one_line(f"cannot read {self._path}"), open(self._path, "rb") as file:
                    arrays = np.load(file)
                    kept = {name: arrays[name] for name in arrays.files}
            except _DAMAGE as error:
                if isinstance(error, CascjaxError):
                    raise
                raise CascjaxError(
                    f"{self._path} is damaged: remove it to begin the search again"
                ) from error
            if str(kept.get("search")) != search:
                raise CascjaxError(
                    f"{self._path} is of a search on other data or with other settings: remove it"
                    " to start over, or choose another folder"
                )
        self._kept = kept | {"search": np.array(search)}

    def load(self, step: int, like: Any) -> Any | None:
        """The state after so many steps, as the pytree `like`, or None."""
        leaves, tree = jax.tree.flatten(like)
        names = [f"{step}/{i}" for i in range(len(leaves))]
        if not all(name in self._kept for name in names):
            return None
        return jax.tree.unflatten(tree, [self._kept[name] for name in names])

    def save(self, step: int, state: Any) -> None:
        """Adds the state after so many steps.

        Raises:
            CascjaxError: the file cannot be written.
        """
        leaves = jax.tree.leaves(state)
        self._kept |= {f"{step}/{i}": np.asarray(leaf) for i, leaf in enumerate(leaves)}
        with atomic_write(self._path) as temporary, open(temporary, "wb") as file:
            np.savez(file, allow_pickle=False, **self._kept)

    def remove(self) -> None:
        """Takes the file away: the search is at its end."""
        self._path.unlink(missing_ok=True)
