"""The terminal's view of studies and tables, legible at 80 columns and without colour."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from jaxtyping import Float
from rich import box
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
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

from cascjax.metrics import upper_hull
from cascjax.report.facts import (
    REFERENCES,
    cost_texts,
    difference_text,
    gain_text,
    interval_text,
    intervals_note,
    missing_scores,
    plain,
    quality_text,
    reach_notes,
    score_meanings,
    score_text,
    scores,
    share_text,
    summary,
)
from cascjax.search.frontier import Frontier, Study
from cascjax.table import ESTIMATE_COLUMNS, EVALUATE, FIT, Table
from cascjax.words import counted

GROUPS_SHOWN = 12
"""Groups listed by name; the rest are counted together."""

NAMES_SHOWN = 24
"""Features or signals listed by name."""

COSTS_SHOWN = 3
"""Further costs in a grid, so that it keeps within 80 columns."""

_GAP = 3
"""Columns between the columns of a grid."""


def areas_table(study: Study) -> Grid:
    """One row a strategy in falling order of area: area, gain over mixing, seconds.

    And where the queries were resampled the area's interval, and the difference to the best.
    """
    sure = [f"{100 * study.confidence:.4g}% interval", "to the best"] if study.resamples else []
    grid = grid_of(
        "strategy", "area", *sure, "over\nmixing" if sure else "gain over mixing", "seconds"
    )
    for score in scores(study):
        f = score.frontier
        grid.add_row(
            Text(f.strategy),
            quality_text(f.area),
            *((interval_text(f.area_interval, "–"), difference_text(score)) if sure else ()),
            gain_text(score.gain),
            f"{f.seconds:.2f}",
            style="dim" if f.strategy in REFERENCES else None,
        )
    return grid


def scores_tables(study: Study, width: int = 80) -> list[RenderableType]:
    """The scores asked for, a row a strategy in falling order of area; then what each one says.

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
    """Prints the areas, any scores, the finding in words, and the budgets out of reach."""
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

    A fit has no end that is known, and shows what was simulated for it.
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
                whole = not doing.startswith("fitting")
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


def print_table(table: Table, source: str, console: Console) -> None:
    """Prints what an evaluation table holds; `source`, its file, stands in one line."""
    heading, *parts = inspect_table(table, source)
    console.print(heading, soft_wrap=True)
    for part in parts:
        console.print(part)


def inspect_table(table: Table, source: str) -> list[RenderableType]:
    """What an evaluation table holds: its models, rows, splits, groups and optional columns.

    Args:
        table: what to describe; models are listed in rising mean cost.
        source: where it came from, for the heading.
    """
    heading = Text(f"{plain(source)}\n", style="bold")
    counts = f"{counted(table.n_queries, 'row')}, {counted(table.n_models, 'model')}, cost in "
    heading.append(counts + (plain(table.cost_unit) or "an unnamed unit"), style="not bold")
    parts: list[RenderableType] = [heading, _models(table), *_more_costs(table)]
    lines = [_line("split", _split(table)), _line("columns", _columns(table))]
    lines += [_line(name, text) for name, text in _seen(table)]
    parts.append(Group(*lines))
    if table.group is not None:
        parts.append(_groups(table))
    return parts


def grid_of(first: str, *others: str) -> Grid:
    """An empty table of these columns, the first of names and the others of numbers."""
    grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    grid.add_column(Text(first), overflow="fold")
    for name in others:
        grid.add_column(Text(name), justify="right", no_wrap=True)
    return grid


def _line(name: str, value: str) -> RenderableType:
    row = Grid.grid(padding=(0, 2))
    row.add_column(width=8)
    row.add_column(overflow="fold")
    row.add_row(Text(name, style="bold"), Text(value))
    return row


def _models(table: Table) -> Grid:
    quality, cost = (c.mean(axis=0, dtype=np.float64) for c in (table.quality, table.cost))
    hull, order = upper_hull(cost, quality), np.argsort(cost, kind="stable")
    grid = grid_of("model", "mean quality", _mean("cost", table.cost_unit), "on hull", "number")
    for i, text in zip(order, cost_texts(cost[order]), strict=True):
        name = Text(plain(table.models[i]))
        of_hull = "yes" if i in hull else ""
        grid.add_row(name, quality_text(quality[i]), text, of_hull, str(i))
    return grid


def _more_costs(table: Table) -> list[Grid]:
    """The means of the further costs, some to a grid, the models in the order of the first cost."""
    order = np.argsort(table.cost.mean(axis=0, dtype=np.float64), kind="stable")
    names, grids = sorted(table.more_costs), []
    for start in range(0, len(names), COSTS_SHOWN):
        grid, texts = grid_of("model"), []
        for name in names[start : start + COSTS_SHOWN]:
            # A heading of any length breaks into lines rather than be cut.
            heading = Text(_mean(plain(name), table.unit_of(name)))
            grid.add_column(heading, justify="right", overflow="fold")
            mean = table.more_costs[name].mean(axis=0, dtype=np.float64)
            texts.append(cost_texts(mean[order]))
        for i, *row in zip(order, *texts, strict=True):
            grid.add_row(Text(plain(table.models[i])), *row)
        grids.append(grid)
    return grids


def _mean(cost: str, unit: str) -> str:
    return f"mean {cost} ({plain(unit)})" if unit else f"mean {cost}"


def _split(table: Table) -> str:
    if table.split is None:
        return "none in the file: drawn by seed"
    fit, evaluate = (int(np.sum(table.split == side)) for side in (FIT, EVALUATE))
    return f"{counted(fit, 'row')} to fit, {evaluate:,} to evaluate"


def _columns(table: Table) -> str:
    names = (*ESTIMATE_COLUMNS, "features", "signals", "answer", "split", "group")
    present = [
        f"{name} {_shape(value.shape)}"
        for name in names
        if (value := getattr(table, name)) is not None
    ]
    present += [
        f"cost.{plain(name)} {_shape(table.more_costs[name].shape)}"
        for name in sorted(table.more_costs)
    ]
    absent = [name for name in names if getattr(table, name) is None]
    text = ", ".join(present) or "none but quality and cost"
    return text + (f"\nabsent: {', '.join(absent)}" if absent else "")


def _seen(table: Table) -> list[tuple[str, str]]:
    """What the features, signals and answers are, a line each."""
    found = []
    if table.features is not None:
        found.append(("features", _named(table.feature_names, table.features[:, None])))
    if table.signals is not None:
        by_model = table.signals.reshape(table.n_queries, table.n_models, -1)
        found.append(("signals", _named(table.signal_names, by_model)))
    if table.answer is not None:
        given = table.answer >= 0
        pairs = [
            (given[:, i] & (table.answer[:, i] == table.answer[:, j])).mean()
            for i in range(table.n_models)
            for j in range(i)
        ]
        found.append(
            (
                "answers",
                f"of {share_text(float(given.mean()))} of responses;"
                f" two models agree on {share_text(float(np.mean(pairs)))} of queries on average",
            )
        )
    return found


def _named(names: Sequence[str], values: Float[np.ndarray, "N M P"]) -> str:
    """How many columns there are, their names, and which of them lack how many values."""
    names = names or [f"number {p + 1}" for p in range(values.shape[-1])]
    listed = [plain(name) for name in names[:NAMES_SHOWN]]
    if len(names) > NAMES_SHOWN:
        listed.append(f"and {len(names) - NAMES_SHOWN} more")
    lacking = np.isnan(values).mean(axis=(0, 1))
    missing = [
        f"{plain(names[p])} {share_text(lacking[p])}" for p in np.flatnonzero(lacking).tolist()
    ]
    if len(missing) > NAMES_SHOWN:
        missing[NAMES_SHOWN:] = [f"and {len(missing) - NAMES_SHOWN} more"]
    text = f"{len(names)}: {', '.join(listed)}"
    return text + f"\nmissing values: {', '.join(missing) or 'none'}"


def _shape(shape: tuple[int, ...]) -> str:
    return f"[{', '.join(str(n) for n in shape)}]"


def _groups(table: Table) -> RenderableType:
    assert table.group is not None
    counts = np.bincount(table.group, minlength=len(table.groups))
    order = np.argsort(-counts, kind="stable")
    order = order[counts[order] > 0]
    # One group more than fits would take the line that says one was left out.
    shown = order if len(order) <= GROUPS_SHOWN + 1 else order[:GROUPS_SHOWN]
    grid = grid_of("group", "rows", "share", "best model's mean quality")
    for g in shown:
        rows = table.group == g
        best = quality_text(table.quality[rows].mean(axis=0, dtype=np.float64).max())
        share = share_text(float(counts[g]) / table.n_queries)
        grid.add_row(Text(plain(table.groups[g])), f"{counts[g]:,}", share, best)
    if len(shown) < len(order):
        rest = int(counts[order[len(shown) :]].sum())
        note = f"and {len(order) - len(shown)} more groups, {counted(rest, 'row')} in all"
        return Group(grid, Padding(Text(note), (0, 0, 1, 0)))
    return grid
