"""Checkpoints: the finished parts of a job, each in a file of its own, so that it can resume.

A folder holds run.json, which describes the job, and one npz file per part. A part is any nesting
of arrays, numbers, strings, None, tuples, lists, dictionaries and dataclasses of this package.
Every file is written under another name and renamed when complete, so the folder is consistent at
any moment.
"""

import hashlib
import importlib
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cascjax.data.files import atomic_write, one_line
from cascjax.errors import CascjaxError

RUN = "run.json"  # Name of the file that describes the job
FILES = "files"  # Key of the description under which the identity of each input file is kept

UNFINISHED = "an unfinished run"

_BAD = "bad"  # Noted in place of the identity of an input file that must be fixed

_DAMAGE = (
    ValueError, TypeError, AttributeError, KeyError, EOFError, IndexError, NotImplementedError,
    ImportError, zipfile.BadZipFile, zlib.error, struct.error,
)  # fmt: skip
"""Exceptions of NumPy, zipfile and `_join` for a file that is not what was written."""


class Checkpoint:
    """The finished parts of one job in a folder."""

    def __init__(self, folder: Path, job: Mapping[str, Any]) -> None:
        """Describe where parts are kept; nothing is read or written yet."""
        self._folder, self._job = folder, json.loads(json.dumps(job))
        settings = {name: value for name, value in self._job.items() if name != FILES}
        text = json.dumps(settings, sort_keys=True)
        self._digest = hashlib.sha256(text.encode()).hexdigest()

    def open(
        self,
        *,
        resume: bool,
        force: bool = False,
        unaffected: Callable[[set[str]], bool] = lambda changed: False,
    ) -> None:
        """Resume the job that the folder holds, or start one."""
        with one_line(f"cannot use the folder {self._folder}"):
            content = self._other_content(resume, unaffected) if self._folder.exists() else None
            if content and not force:
                advice = "resume it with resume=True" if content == UNFINISHED else "use another"
                raise CascjaxError(
                    f"{self._folder} holds {content}: {advice}, or start over with force=True"
                )
            if content:
                for path in [*self._folder.glob("*.npz"), self._folder / RUN]:
                    path.unlink(missing_ok=True)
            self._folder.mkdir(exist_ok=True)
        if self._read_job() != self._job:
            self._write_job(self._job)

    @property
    def keys(self) -> list[str]:
        """Names of the parts that are kept."""
        return sorted(path.stem for path in self._folder.glob("*.npz"))

    @property
    def bad_files(self) -> set[str]:
        """Input files that were noted as invalid, see `note_bad`."""
        files = (self._read_job() or {}).get(FILES, {})
        return {name for name, identity in files.items() if identity == _BAD}

    def note_bad(self, file: str) -> None:
        """Note that an input file must be fixed, so it may have changed when the job resumes."""
        job = self._read_job() or {}
        if file in job.get(FILES, {}):
            self._write_job(job | {FILES: job[FILES] | {file: _BAD}})

    def get(self, key: str) -> Any | None:
        """Return a part, or None if it is not kept."""
        path = self._path(key)
        if not path.exists():
            return None
        with one_line(f"cannot read {path}"):
            content = path.read_bytes()
        try:
            digest, value = unpack(content)
        except _DAMAGE as error:
            raise CascjaxError(f"{path} is damaged; remove it to compute it again") from error
        if digest != self._digest:
            raise CascjaxError(f"{path} belongs to another run; remove it to compute it again")
        return value

    def put(self, key: str, value: Any) -> None:
        """Keep a part."""
        with atomic_write(self._path(key)) as temporary:
            temporary.write_bytes(pack(value, self._digest))

    def remove(self, key: str) -> None:
        """Remove a part if it is kept."""
        with one_line(f"cannot remove {self._path(key)}"):
            self._path(key).unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.npz"

    def _read_job(self) -> dict[str, Any] | None:
        """Return the description in the folder; None if there is none, or it is damaged."""
        path = self._folder / RUN
        if not path.exists():
            return None
        with one_line(f"cannot read {path}"):
            text = path.read_bytes()
        try:
            job = json.loads(text)
        except ValueError:
            return None
        return job if isinstance(job, dict) else None

    def _write_job(self, job: Mapping[str, Any]) -> None:
        with atomic_write(self._folder / RUN) as temporary:
            temporary.write_text(json.dumps(job, indent=2) + "\n", encoding="utf-8")

    def _other_content(self, resume: bool, unaffected: Callable[[set[str]], bool]) -> str | None:
        """Return what prevents the folder from being used, in words; None if nothing does."""
        if not self.keys:
            return None
        if not (self._folder / RUN).exists():
            return "parts of an unknown run"
        if (job := self._read_job()) is None:
            return f"a damaged {RUN}"
        for name in {**self._job, **job}:
            before, now = job.get(name), self._job.get(name)
            if before == now:
                continue
            if name == FILES and isinstance(before, dict) and isinstance(now, dict):
                changed = {k for k in {**now, **before} if before.get(k) != now.get(k)}
                changed -= self.bad_files
                if not changed or (resume and unaffected(changed)):
                    continue
                return f"a run of other files: {min(changed)} has changed, come or gone"
            return f"a run of other settings, {name} {before} and not {now}"
        return None if resume else UNFINISHED


def discard(folder: Path) -> None:
    """Remove a checkpoint folder, once its job is complete."""
    with one_line(f"cannot remove {folder}"):
        for part in [*folder.glob("*.npz"), *folder.glob(".cascjax-*.tmp")]:
            part.unlink(missing_ok=True)
        (folder / RUN).unlink(missing_ok=True)
        # Another process may remove it at the same time.
        with suppress(FileNotFoundError):
            if not any(folder.iterdir()):
                folder.rmdir()


def pack(value: Any, digest: str = "") -> bytes:
    """Return a value as the bytes of an npz file; arrays are kept to the bit."""
    arrays: list[np.ndarray] = []
    tree = json.dumps([digest, _split(value, arrays)])
    buffer = io.BytesIO()
    named = {str(i): array for i, array in enumerate(arrays)}
    np.savez(buffer, allow_pickle=False, tree=np.array(tree), **named)  # pyright: ignore[reportArgumentType]
    return buffer.getvalue()


def unpack(content: bytes) -> tuple[str, Any]:
    """Return the digest and the value that `pack` wrote."""
    with np.load(io.BytesIO(content)) as arrays:
        digest, tree = json.loads(str(arrays["tree"]))
        return digest, _join(tree, arrays)


def _split(value: Any, arrays: list[np.ndarray]) -> Any:
    """Return a value as JSON, in which arrays are replaced by their position in a list."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        arrays.append(np.asarray(value))
        return {"array": len(arrays) - 1}
    if isinstance(value, tuple | list):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_split(item, arrays) for item in value]}
    if isinstance(value, Mapping):
        pairs = value.items()
        return {"dict": [[_split(k, arrays), _split(item, arrays)] for k, item in pairs]}
    if is_dataclass(value) and not isinstance(value, type):
        kind = type(value)
        content = {f.name: _split(getattr(value, f.name), arrays) for f in fields(value)}
        return {"class": f"{kind.__module__}:{kind.__qualname__}", "fields": content}
    raise TypeError(f"a checkpoint cannot hold {type(value).__name__}")


def _join(tree: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """Return the value that `_split` made JSON of."""
    if not isinstance(tree, dict):
        return tree
    if "array" in tree:
        return arrays[str(tree["array"])]
    if "tuple" in tree:
        return tuple(_join(item, arrays) for item in tree["tuple"])
    if "list" in tree:
        return [_join(item, arrays) for item in tree["list"]]
    if "dict" in tree:
        return {_join(k, arrays): _join(item, arrays) for k, item in tree["dict"]}
    module, _, name = tree["class"].partition(":")
    kind = getattr(importlib.import_module(module), name) if module.startswith("cascjax.") else None
    if not (isinstance(kind, type) and is_dataclass(kind)):
        raise ValueError(f"unknown class {tree['class']}")
    return kind(**{key: _join(item, arrays) for key, item in tree["fields"].items()})
