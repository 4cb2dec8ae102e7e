"""The work of an experiment in cells, each kept in a file of its own as soon as it is done."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from cascjax.errors import CascjaxError
from cascjax.io.files import atomic_write, one_line

Row = dict[str, Any]
"""Numbers, words and lists of numbers by name: a line of the results."""

RUN = "run.json"
"""The file that says what the cells beside it are of."""

_KEY = b"cascjax-run"


@dataclass(frozen=True)
class Cell:
    """A piece of an experiment that is done or not.

    Attributes:
        key: its file's name, without the suffix; no other cell of the experiment has it.
        label: what the progress bar calls it.
        work: makes its rows; is given what to call with the share done so far, from 0 to 1.
        weight: how long it is expected to take, beside the other cells.
    """

    key: str
    label: str
    work: Callable[[Callable[[float], None]], list[Row]]
    weight: float = 1.0


class Parts:
    """Finished cells in a folder, all of one run: a table, settings and version."""

    def __init__(self, folder: Path, run: Mapping[str, Any]) -> None:
        """Keep them in `folder`; nothing is read or written yet.

        Args:
            folder: made when it is opened; its parent exists.
            run: what tells this run from others, as JSON can hold it.
        """
        self._folder, self._run = folder, json.loads(json.dumps(run))
        text = json.dumps(self._run, sort_keys=True)
        self._digest = hashlib.sha256(text.encode()).hexdigest().encode()

    def open(self, *, force: bool = False) -> None:
        """Goes on with the run that the folder holds, or begins one.

        Args:
            force: begin anew where it holds another run.

        Raises:
            CascjaxError: it holds another run, or cannot be written.
        """
        path = self._folder / RUN
        with one_line(f"cannot use the folder {self._folder}"):
            if self._folder.exists() and (found := self._other(path)) is not None:
                if not force:
                    raise CascjaxError(
                        f"{self._folder} holds {found}: choose another --out, or begin anew with"
                        " --force"
                    )
                for part in [*self._folder.glob("*.parquet"), path]:
                    part.unlink(missing_ok=True)
            self._folder.mkdir(exist_ok=True)
        if not path.exists():
            with atomic_write(path) as temporary:
                temporary.write_text(json.dumps(self._run, indent=2) + "\n", encoding="utf-8")

    def _other(self, path: Path) -> str | None:
        """What the folder holds instead of this run, in words; None where it is this run."""
        if not path.exists():
            return "cells of an unknown run" if any(self._folder.glob("*.parquet")) else None
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            return f"a damaged {RUN}"
        if not isinstance(found, dict):
            return f"a damaged {RUN}"
        for name in {**self._run, **found}:
            before, now = found.get(name), self._run.get(name)
            if before != now:
                if name == "table":
                    return "a run on another table"
                return f"a run of other settings, {name} {before} and not {now}"
        return None

    def read(self, key: str) -> list[Row] | None:
        """The rows of a cell, or None where it is not done.

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
            raise CascjaxError(f"{error}; remove it to do that cell again") from error
        if (found.schema.metadata or {}).get(_KEY) != self._digest:
            raise CascjaxError(f"{path} is of another run: remove it to do that cell again")
        return found.to_pylist()

    def write(self, key: str, rows: Sequence[Row]) -> None:
        """Keeps the rows of a cell.

        Raises:
            CascjaxError: the file cannot be written.
        """
        table = pa.Table.from_pylist(list(rows))
        table = table.replace_schema_metadata({_KEY: self._digest})
        with atomic_write(self._folder / f"{key}.parquet") as temporary:
            pq.write_table(table, temporary)


def run_cells(
    cells: Sequence[Cell],
    parts: Parts,
    progress: Callable[[str, float, int], None] = lambda label, share, done: None,
) -> list[Row]:
    """Does what is not done yet, and returns the rows of all cells, in order.

    Every row gets `wall`, `cpu` (seconds of its cell, on the first of its rows; 0 on the others).

    Args:
        cells: all of them.
        parts: opened; holds those that are done.
        progress: called with the label of the cell at work, the share of all work done, and the
            number of cells done.
    """
    rows: list[list[Row]] = []
    total, behind = sum(cell.weight for cell in cells), 0.0
    for done, cell in enumerate(cells):
        found = parts.read(cell.key)
        if found is None:

            def at(share: float, cell: Cell = cell, done: int = done, start: float = behind):
                progress(cell.label, (start + cell.weight * min(share, 1.0)) / total, done)

            at(0.0)
            wall, cpu = time.perf_counter(), time.process_time()
            found = cell.work(at)
            took = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
            found = [row | (took if i == 0 else dict.fromkeys(took, 0.0))
                     for i, row in enumerate(found)]  # fmt: skip
            parts.write(cell.key, found)
        rows.append(found)
        behind += cell.weight
        progress(cell.label, behind / total, done + 1)
    return [row for part in rows for row in part]


@contextmanager
def cell_progress(count: Callable[[], int]) -> Iterator[Callable[[str, float, int], None]]:
    """A bar over cells on a terminal's stderr, with the time left, and what moves it."""
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description:32}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[done]}"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task("reading", total=1.0, done="")
        yield lambda label, share, done: bar.update(
            task, description=label, completed=share, done=f"{done}/{count()}"
        )
