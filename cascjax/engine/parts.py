"""The finished parts of a long work, each in a file of its own, so that an interrupt loses little.

A folder holds run.json, which says what the parts are of, and Parquet files. Each is written under
another name and renamed once it is whole: at any moment what stands there is whole.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cascjax.data.files import atomic_write, one_line
from cascjax.errors import CascjaxError

Row = dict[str, Any]
"""Numbers, words and lists of numbers by name: a line of the results."""

RUN = "run.json"
"""The file that says what the parts beside it are of."""

FILES = "files"
"""What a run says of the files it reads."""

_BAD = "bad"
"""What is noted of a file that is to be fixed, in place of what tells it from others."""

_KEY, _SHAPES = b"cascjax-run", b"cascjax-shapes"

_UNFINISHED = "an unfinished run"


class Parts:
    """Finished parts of a work in a folder, all of one run: a table, settings and version."""

    def __init__(self, folder: Path, run: Mapping[str, Any]) -> None:
        """Keep them in `folder`; nothing is read or written yet.

        Args:
            folder: made when it is opened; its parent exists.
            run: what tells this run from others, as JSON can hold it; of files read, under
                "files", what tells each from others.
        """
        self._folder, self._run = folder, json.loads(json.dumps(run))
        asked = {name: of for name, of in self._run.items() if name != FILES}
        text = json.dumps(asked, sort_keys=True)
        self._digest = hashlib.sha256(text.encode()).hexdigest().encode()

    def open(
        self,
        *,
        force: bool = False,
        resume: bool | None = None,
        spared: Callable[[set[str]], bool] = lambda changed: False,
    ) -> None:
        """Goes on with the run that the folder holds, or begins one.

        Args:
            force: start over where it holds another run.
            resume: True to go on, and False to refuse what an earlier run left, or with `force` to
                start over; by default this run is gone on with unasked.
            spared: whether no part that is done is of these files, which have changed since.

        Raises:
            CascjaxError: it holds another run, or cannot be written.
        """
        path = self._folder / RUN
        with one_line(f"cannot use the folder {self._folder}"):
            if self._folder.exists() and (found := self._other(path, resume, spared)):
                if not force:
                    way_out = "choose another --out, or start over with --force"
                    if resume is False and found == _UNFINISHED:
                        way_out = "go on with --resume, or start over with --force"
                    raise CascjaxError(f"{self._folder} holds {found}: {way_out}")
                for part in [*self._folder.glob("*.parquet"), path]:
                    part.unlink(missing_ok=True)
            self._folder.mkdir(exist_ok=True)
        if self._found() != self._run:
            self._write_run(self._run)

    @property
    def begun(self) -> bool:
        """Whether any part is done."""
        return any(self._folder.glob("*.parquet"))

    @property
    def keys(self) -> list[str]:
        """Which parts are done."""
        return sorted(path.stem for path in self._folder.glob("*.parquet"))

    @property
    def bad(self) -> set[str]:
        """The files that were named as bad; see `note_bad`."""
        files = (self._found() or {}).get(FILES, {})
        return {name for name, of in files.items() if of == _BAD}

    def note_bad(self, file: str) -> None:
        """Notes that a file is to be fixed: it may have changed when the run is gone on with.

        Raises:
            CascjaxError: that cannot be written.
        """
        if file in (found := self._found() or {}).get(FILES, {}):
            self._write_run(found | {FILES: found[FILES] | {file: _BAD}})

    def _found(self) -> dict[str, Any] | None:
        """What the folder says it holds; None where it says it badly, or not at all."""
        path = self._folder / RUN
        if not path.exists():
            return None
        with one_line(f"cannot read {path}"):
            text = path.read_bytes()
        try:
            found = json.loads(text)
        except ValueError:
            return None
        return found if isinstance(found, dict) else None

    def _write_run(self, run: Mapping[str, Any]) -> None:
        with atomic_write(self._folder / RUN) as temporary:
            temporary.write_text(json.dumps(run, indent=2) + "\n", encoding="utf-8")

    def _other(
        self, path: Path, resume: bool | None, spared: Callable[[set[str]], bool]
    ) -> str | None:
        """What the folder holds instead of this run, in words; None where it is this run."""
        if not path.exists():
            return "parts of an unknown run" if self.begun else None
        if resume is not None and not self.begun:
            return None
        if (found := self._found()) is None:
            return f"a damaged {RUN}"
        for name in {**self._run, **found}:
            before, now = found.get(name), self._run.get(name)
            if before != now:
                if isinstance(before, dict) and isinstance(now, dict):
                    changed = {k for k in {**now, **before} if before.get(k) != now.get(k)}
                    if name == FILES:
                        changed -= self.bad
                        if not changed or (resume and spared(changed)):
                            continue
                    one = min(changed)
                    return f"a run of other {name}: {one} has changed, come or gone"
                if name == "table":
                    return "a run on another table"
                return f"a run of other settings, {name} {before} and not {now}"
        return _UNFINISHED if resume is False else None

    def read_table(self, key: str) -> pa.Table | None:
        """What a part holds, or None where it is not done.

        Raises:
            CascjaxError: its file is damaged, or of another run.
        """
        path = self._folder / f"{key}.parquet"
        if not path.exists():
            return None
        try:
            with one_line(f"cannot read {path}"):
                found = pq.read_table(path)
        except CascjaxError as error:
            raise CascjaxError(f"{error}; remove it to do that part again") from error
        if (found.schema.metadata or {}).get(_KEY) != self._digest:
            raise CascjaxError(f"{path} is of another run: remove it to do that part again")
        return found

    def read(self, key: str) -> list[Row] | None:
        """The rows of a part, or None where it is not done; see `read_table`."""
        found = self.read_table(key)
        return None if found is None else found.to_pylist()

    def write_table(self, key: str, table: pa.Table) -> None:
        """Keeps a part.

        Raises:
            CascjaxError: the file cannot be written.
        """
        metadata = {**(table.schema.metadata or {}), _KEY: self._digest}
        with atomic_write(self._folder / f"{key}.parquet") as temporary:
            pq.write_table(table.replace_schema_metadata(metadata), temporary)

    def remove(self, key: str) -> None:
        """Takes a part away, if it is there.

        Raises:
            CascjaxError: that fails.
        """
        with one_line(f"cannot remove {self._folder / key}.parquet"):
            (self._folder / f"{key}.parquet").unlink(missing_ok=True)

    def write(self, key: str, rows: Sequence[Row]) -> None:
        """Keeps the rows of a part; see `write_table`."""
        self.write_table(key, pa.Table.from_pylist(list(rows)))


def packed(arrays: Mapping[str, np.ndarray]) -> pa.Table:
    """Arrays of numbers by name as a table, which holds them to the bit."""
    columns = {}
    for name, of in arrays.items():
        flat = pa.array(np.ascontiguousarray(of).reshape(-1))
        columns[name] = pa.LargeListArray.from_arrays([0, len(flat)], flat)
    shapes = json.dumps({name: np.shape(of) for name, of in arrays.items()})
    return pa.table(columns).replace_schema_metadata({_SHAPES: shapes.encode()})


def unpacked(table: pa.Table) -> dict[str, np.ndarray]:
    """The arrays that `packed` made a table of."""
    shapes = json.loads(table.schema.metadata[_SHAPES])
    return {
        name: table.column(name).chunk(0).flatten().to_numpy().reshape(shapes[name])
        for name in table.column_names
    }


def discard(folder: Path) -> None:
    """Takes a folder of parts away: the run is at its end.

    Raises:
        CascjaxError: that fails.
    """
    with one_line(f"cannot remove {folder}"):
        for part in [*folder.glob("*.parquet"), *folder.glob(".cascjax-*.tmp")]:
            part.unlink(missing_ok=True)
        (folder / RUN).unlink(missing_ok=True)
        # Another process may take it away as well.
        with suppress(FileNotFoundError):
            if not any(folder.iterdir()):
                folder.rmdir()
