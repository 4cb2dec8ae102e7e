"""The terminal's view of studies, and its progress bars, legible at 80 columns without colour."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table as Grid
from rich.text import Text

from cascjax.comparison import Frontier, Study
from cascjax.report.facts import (
    REFERENCES,
    difference_text,
    intervals_note,
    missing_scores,
    reach_notes,
    score_meanings,
    score_text,
    scores,
    summary,
)
from cascjax.report.tables import grid_of
from cascjax.words import gain_text, interval_text, quality_text

GROUPS_SHOWN = 12
"""Groups listed by name; the rest are counted together."""

_GAP = 3
"""Columns between the columns of a grid."""


def areas_table(study: Study) -> Grid:
    """One row a strategy in falling order of AUC: AUC, gain over mixing, seconds.

    And where the queries were resampled the AUC's interval, and the difference to the best.
    """
    sure = [f"{100 * study.confidence:.4g}% interval", "to the best"] if study.resamples else []
    grid = grid_of(
        "strategy", "AUC", *sure, "over\nmixing" if sure else "gain over mixing", "seconds"
    )
    for score in scores(study):
        f = score.frontier
        grid.add_row(
            Text(f.strategy),
            quality_text(f.auc),
            *((interval_text(f.auc_interval, "–"), difference_text(score)) if sure else ()),
            gain_text(score.gain),
            f"{f.seconds:.2f}",
            style="dim" if f.strategy in REFERENCES else None,
        )
    return grid


def scores_tables(study: Study, width: int = 80) -> list[RenderableType]:
    """The scores asked for, a row a strategy in falling order of AUC; then what each one says.

    As many scores to a table as the width holds. One that does not exist stands as "n/a", and why
    is said below.
    """
    ranked = [score.frontier for score in scores(study)]
    parts: list[RenderableType] = []
    for shown in _score_columns(ranked, width):
        grid = grid_of("strategy", *shown)
        for f in ranked:
            grid.add_row(
                Text(f.strategy),
                *(score_text(f.scores[n]) for n in shown),
                style="dim" if f.strategy in REFERENCES else None,
            )
        parts.append(grid)
    if meanings := score_meanings(ranked):
        legend = Grid.grid(padding=(0, 2))
        for name, meaning in meanings.items():
            legend.add_row(Text(name, style="bold"), Text(meaning))
        parts.append(Padding(legend, (0, 0, 1, 0)))
    for note in missing_scores(ranked):
        parts.append(Text(f"note: {note}", style="yellow"))
    return parts


def _score_columns(ranked: Sequence[Frontier], width: int) -> list[list[str]]:
    """The names of scores, cut into as few tables of about as many columns as the width takes."""
    names = list(ranked[0].scores) if ranked else []
    if not names:
        return []
    first = max(cell_len(f.strategy) for f in ranked) + 2
    wide = [max([len(n), *(len(score_text(f.scores[n])) for f in ranked)]) + _GAP for n in names]
    n_tables = 1
    while True:
        cut = [part.tolist() for part in np.array_split(np.arange(len(names)), n_tables)]
        if n_tables == len(names) or all(
            first + sum(wide[i] for i in part) <= width for part in cut
        ):
            return [[names[i] for i in part] for part in cut]
        n_tables += 1


def print_study(study: Study, console: Console) -> None:
    """Prints the AUCs, any scores, the finding in words, and the budgets out of reach."""
    console.print(areas_table(study))
    if study.resamples:
        console.print(Text(intervals_note(study)))
    for part in scores_tables(study, console.width):
        console.print(part)
    console.print(Text(" ".join(summary(study))))
    for note in reach_notes(study):
        console.print(Text(f"note: {note}", style="yellow"))


@contextmanager
def study_progress(
    names: Sequence[str], n_fit: int, n_evaluate: int
) -> Iterator[Callable[[str, int, bool], None]]:
    """A bar over strategies on a terminal's stderr, and what `study` is to call to move it.

    How many rounds a search takes is guessed at until it ends.
    """
    per_strategy = 5 * n_fit + n_evaluate
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description:16}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("strategy"),
        MofNCompleteColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task("compiling", total=len(names))
        spent = dict.fromkeys(names, 0)
        ended: list[str] = []

        def advance(name: str, queries: int, done: bool) -> None:
            spent[name] += queries
            if done:
                ended.append(name)
            # A search that outlasts the guess approaches the end of its share, never passes it.
            part = 0 if done else min(0.95, spent[name] / per_strategy)
            bar.update(task, description=name, completed=len(ended) + part)

        yield advance


class _RowsPerSecond(ProgressColumn):
    """How fast a task goes."""

    def render(self, task: Task) -> Text:
        """The rate of the last seconds."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f} rows/s")


@contextmanager
def stream_progress(n_rows: int) -> Iterator[Callable[[str, int], None]]:
    """A bar for each reading of a stream's rows on a terminal's stderr, and what moves them.

    What is learned or fitted has no end that is known; a fit shows what was simulated for it.
    """
    console, tasks = Console(stderr=True), {}
    with Progress(
        TextColumn("{task.description:24}"),
        BarColumn(),
        TaskProgressColumn(),
        _RowsPerSecond(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:

        def advance(doing: str, rows: int) -> None:
            if doing not in tasks:
                whole = not doing.startswith(("learning", "fitting"))
                tasks[doing] = bar.add_task(doing, total=n_rows if whole else None)
            bar.advance(tasks[doing], rows)

        yield advance


@contextmanager
def query_progress(doing: str) -> Iterator[Callable[[int], None]]:
    """A count of queries simulated on a terminal's stderr, and what moves it.

    How many there will be is not known: a search ends where nothing more is to be had.
    """
    console = Console(stderr=True)
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        TextColumn("{task.completed:,} queries simulated"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task(doing, total=None)
        yield lambda queries: bar.advance(task, queries)
