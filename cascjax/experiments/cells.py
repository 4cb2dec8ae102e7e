"""The work of an experiment in cells, each kept in a file of its own as soon as it is done."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from cascjax.engine.parts import Parts, Row


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


def run_cells(
    cells: Sequence[Cell],
    parts: Parts,
    progress: Callable[[str, float, int], None] = lambda label, share, done: None,
) -> list[Row]:
    """Does what is not done yet, and returns the rows of all cells, in order.

    Every row gets `wall`, `cpu`: seconds of its cell, shared by what its rows say they took
    (`seconds`), or else on the first of them, and 0 on the others. Of a cell that was cut off and
    gone on with they are those of its last run.

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
            found = [row | {name: share * of for name, of in took.items()}
                     for row, share in zip(found, _shares(found), strict=True)]  # fmt: skip
            parts.write(cell.key, found)
        rows.append(found)
        behind += cell.weight
        progress(cell.label, behind / total, done + 1)
    return [row for part in rows for row in part]


def _shares(rows: Sequence[Row]) -> list[float]:
    """What share of their cell's time is each row's."""
    seconds = [row.get("seconds", 0.0) for row in rows]
    whole = sum(seconds)
    return [of / whole for of in seconds] if whole else [1.0, *[0.0] * (len(rows) - 1)][: len(rows)]


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
