"""Progress of long jobs on standard error: bars on a terminal, now and then a line elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

SECONDS_APART = 60.0
"""Shortest time between two lines where standard error is not a terminal."""

_OPEN_ENDED = ("learning", "fitting", "measuring", "tuning", "searching")
"""First words of tasks whose number of rows is not known in advance."""


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        """Return the count where there is no end, and the rate of the last seconds."""
        speed = task.finished_speed or task.speed
        count = f"{task.completed:,.0f} rows" if task.total is None else ""
        return Text(f"{count} {'' if speed is None else f'{speed:,.0f} rows/s'}".strip())


@contextmanager
def progress(
    n_rows: int | None = None, quiet: bool = False
) -> Iterator[Callable[[str, int], None]]:
    """Show what is being done; yield what is to be called with that and the rows just done.

    `n_rows` is the number of rows of a task, None where that is unknown, as for a search.
    """
    console, tasks, last = Console(stderr=True), {}, time.monotonic()
    with Progress(
        TextColumn("{task.description:24}"),
        BarColumn(),
        TaskProgressColumn(),
        _Rate(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=quiet or not console.is_terminal,
    ) as bars:

        def advance(doing: str, rows: int) -> None:
            nonlocal last
            if doing not in tasks:
                total = None if doing.startswith(_OPEN_ENDED) else n_rows
                tasks[doing] = bars.add_task(doing, total=total)
            bars.advance(tasks[doing], rows)
            if bars.disable and not quiet and time.monotonic() - last > SECONDS_APART:
                last, task = time.monotonic(), bars.tasks[tasks[doing]]
                whole = "" if task.total is None else f" of {task.total:,.0f}"
                console.print(Text(f"{doing}: {task.completed:,.0f}{whole} rows"))

        yield advance
