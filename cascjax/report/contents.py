"""What evaluation tables hold, as the terminal shows it: of one table, or of pieces added up."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table as Grid
from rich.text import Text

from cascjax.data.schema import EXTRA_COST
from cascjax.data.table import ESTIMATE_COLUMNS, EVALUATE, FIT, Table
from cascjax.metrics import upper_hull
from cascjax.report.console import GROUPS_SHOWN
from cascjax.report.tables import grid_of
from cascjax.words import cost_texts, counted, plain, quality_text, share_text

NAMES_SHOWN = 24
"""Features or signals listed by name."""

COSTS_SHOWN = 3
"""Further costs in a grid, so that it keeps within 80 columns."""

_OPTIONAL = (*ESTIMATE_COLUMNS, "features", "signals", "answer", "split", "group")


@dataclass(frozen=True)
class Contents:
    """What is told of an evaluation table's rows, as sums: those of two pieces can be added.

    Attributes:
        models: K names, in column order.
        units: of "cost" and of each extra cost by its name, empty where none is known.
        widths: the shape of a row of each optional column there is; a extra cost's is
            "cost.<name>".
        names: of "features" and of "signals", where there are any.
        n_queries: N, the number of rows.
        sums: over rows, in float64: "quality" and each cost `[K]`; "fit" and "evaluate", rows of
            these splits; "features" `[F]` and "signals" `[P]`, missing values; "given", responses
            with an answer, and "agreed", pairs of models that agree.
        groups: of each by name, its rows and then its summed qualities, `[M]`, M = 1 + K.
    """

    models: tuple[str, ...]
    units: dict[str, str]
    widths: dict[str, tuple[int, ...]]
    names: dict[str, tuple[str, ...]]
    n_queries: int
    sums: dict[str, Float[np.ndarray, "..."]]
    groups: dict[str, Float[np.ndarray, " M"]]

    def __add__(self, other: "Contents") -> "Contents":
        """What is told of the rows of both, whose columns and models are the same."""
        nothing = np.zeros(1 + len(self.models))
        names = dict.fromkeys([*self.groups, *other.groups])
        return replace(
            self,
            n_queries=self.n_queries + other.n_queries,
            sums={name: value + other.sums[name] for name, value in self.sums.items()},
            groups={
                name: self.groups.get(name, nothing) + other.groups.get(name, nothing)
                for name in names
            },
        )

    def mean(self, name: str) -> Float[np.ndarray, " K"]:
        """Mean of "quality", "cost" or "cost.<name>" of each model."""
        return self.sums[name] / self.n_queries


def contents_of(table: Table) -> Contents:
    """What is told of a table."""
    columns = {name: getattr(table, name) for name in _OPTIONAL}
    columns |= {EXTRA_COST + name: table.extra_costs[name] for name in sorted(table.extra_costs)}
    there = {name: column for name, column in columns.items() if column is not None}
    summed = ["quality", "cost", *(name for name in there if name.startswith(EXTRA_COST))]
    of_model = {"quality": table.quality, "cost": table.cost, **there}
    sums = {name: of_model[name].sum(axis=0, dtype=np.float64) for name in summed}
    names = {}
    if table.split is not None:
        sums |= {"fit": np.sum(table.split == FIT), "evaluate": np.sum(table.split == EVALUATE)}
    if table.features is not None:
        names["features"] = _names(table.feature_names, table.features.shape[1])
        sums["features"] = np.isnan(table.features).sum(axis=0)
    if table.signals is not None:
        by_model = table.signals.reshape(table.n_queries, table.n_models, -1)
        names["signals"] = _names(table.signal_names, by_model.shape[2])
        sums["signals"] = np.isnan(by_model).sum(axis=(0, 1))
    if (answer := table.answer) is not None:
        given = answer >= 0
        pairs = [
            np.sum(given[:, i] & (answer[:, i] == answer[:, j]))
            for i in range(table.n_models)
            for j in range(i)
        ]
        sums |= {"given": np.sum(given), "agreed": np.sum(pairs)}
    return Contents(
        models=table.models,
        units={name: table.unit_of(name) for name in ("cost", *sorted(table.extra_costs))},
        widths={name: column.shape[1:] for name, column in there.items()},
        names=names,
        n_queries=table.n_queries,
        sums={name: np.asarray(value, np.float64) for name, value in sums.items()},
        groups=_by_group(table),
    )


def _names(names: Sequence[str], count: int) -> tuple[str, ...]:
    return tuple(names) or tuple(f"number {p + 1}" for p in range(count))


def _by_group(table: Table) -> dict[str, Float[np.ndarray, " M"]]:
    if table.group is None:
        return {}
    size = len(table.groups)
    counts = np.bincount(table.group, minlength=size)
    quality = [np.bincount(table.group, of, minlength=size) for of in table.quality.T]
    found = np.stack([counts, *quality], axis=1).astype(np.float64)
    return {table.groups[g]: found[g] for g in np.flatnonzero(counts).tolist()}


def print_contents(contents: Contents, source: str, console: Console, files: int = 1) -> None:
    """Prints what tables hold.

    Args:
        contents: what is told of them.
        source: where they came from, for the heading, where it stands in one line.
        console: where to print.
        files: how many there are.
    """
    heading, *parts = described(contents, source, files)
    console.print(heading, soft_wrap=True)
    for part in parts:
        console.print(part)


def described(contents: Contents, source: str, files: int = 1) -> list[RenderableType]:
    """A heading, and then models, rows, splits, optional columns and groups.

    Args:
        contents: what is told of the tables; models are listed in rising mean cost.
        source: where they came from.
        files: how many there are.
    """
    heading = Text(f"{plain(source)}\n", style="bold")
    rows = counted(contents.n_queries, "row") + (f" in {counted(files, 'file')}" * (files > 1))
    unit = plain(contents.units["cost"]) or "an unnamed unit"
    heading.append(
        f"{rows}, {counted(len(contents.models), 'model')}, cost in {unit}", style="not bold"
    )
    parts: list[RenderableType] = [heading, _models(contents), *_more_costs(contents)]
    lines = [_line("split", _split(contents)), _line("columns", _columns(contents))]
    lines += [_line(name, _named(contents, name)) for name in contents.names]
    if "given" in contents.sums:
        lines.append(_line("answers", _answers(contents)))
    parts.append(Group(*lines))
    if contents.groups:
        parts.append(_groups(contents))
    return parts


def _line(name: str, value: str) -> RenderableType:
    row = Grid.grid(padding=(0, 2))
    row.add_column(width=8)
    row.add_column(overflow="fold")
    row.add_row(Text(name, style="bold"), Text(value))
    return row


def _models(contents: Contents) -> Grid:
    quality, cost = contents.mean("quality"), contents.mean("cost")
    hull, order = upper_hull(cost, quality), np.argsort(cost, kind="stable")
    heading = _mean("cost", contents.units["cost"])
    grid = grid_of("model", "mean quality", heading, "on hull", "number")
    for i, text in zip(order, cost_texts(cost[order]), strict=True):
        name = Text(plain(contents.models[i]))
        of_hull = "yes" if i in hull else ""
        grid.add_row(name, quality_text(float(quality[i])), text, of_hull, str(i))
    return grid


def _more_costs(contents: Contents) -> list[Grid]:
    """The means of the extra costs, some to a grid, the models in the order of the first cost."""
    order = np.argsort(contents.mean("cost"), kind="stable")
    names, grids = [name for name in contents.units if name != "cost"], []
    for start in range(0, len(names), COSTS_SHOWN):
        grid, texts = grid_of("model"), []
        for name in names[start : start + COSTS_SHOWN]:
            # A heading of any length breaks into lines rather than be cut.
            heading = Text(_mean(plain(name), contents.units[name]))
            grid.add_column(heading, justify="right", overflow="fold")
            texts.append(cost_texts(contents.mean(EXTRA_COST + name)[order]))
        for i, *row in zip(order, *texts, strict=True):
            grid.add_row(Text(plain(contents.models[i])), *row)
        grids.append(grid)
    return grids


def _mean(cost: str, unit: str) -> str:
    return f"mean {cost} ({plain(unit)})" if unit else f"mean {cost}"


def _split(contents: Contents) -> str:
    if "split" not in contents.widths:
        return "none in the file: drawn by seed"
    fit, evaluate = (int(contents.sums[side]) for side in ("fit", "evaluate"))
    return f"{counted(fit, 'row')} to fit, {evaluate:,} to evaluate"


def _columns(contents: Contents) -> str:
    present = [
        f"{plain(name)} [{', '.join(map(str, (contents.n_queries, *width)))}]"
        for name, width in contents.widths.items()
    ]
    absent = [name for name in _OPTIONAL if name not in contents.widths]
    text = ", ".join(present) or "none but quality and cost"
    return text + (f"\nabsent: {', '.join(absent)}" if absent else "")


def _named(contents: Contents, kind: str) -> str:
    """How many features or signals there are, their names, and what share of each is missing."""
    names = contents.names[kind]
    listed = [plain(name) for name in names[:NAMES_SHOWN]]
    if len(names) > NAMES_SHOWN:
        listed.append(f"and {len(names) - NAMES_SHOWN} more")
    values = contents.n_queries * (len(contents.models) if kind == "signals" else 1)
    lacking = contents.sums[kind] / values
    missing = [
        f"{plain(names[p])} {share_text(float(lacking[p]))}"
        for p in np.flatnonzero(lacking).tolist()
    ]
    if len(missing) > NAMES_SHOWN:
        missing[NAMES_SHOWN:] = [f"and {len(missing) - NAMES_SHOWN} more"]
    text = f"{len(names)}: {', '.join(listed)}"
    return text + f"\nmissing values: {', '.join(missing) or 'none'}"


def _answers(contents: Contents) -> str:
    n, k = contents.n_queries, len(contents.models)
    given = f"of {share_text(float(contents.sums['given']) / (n * k))} of responses"
    if k == 1:
        return given
    agreed = float(contents.sums["agreed"]) / (n * k * (k - 1) / 2)
    return f"{given}; two models agree on {share_text(agreed)} of queries on average"


def _groups(contents: Contents) -> RenderableType:
    falling = sorted(contents.groups.items(), key=lambda of: -of[1][0])
    # One group more than fits would take the line that says one was left out.
    few = len(falling) <= GROUPS_SHOWN + 1
    listed = falling if few else falling[:GROUPS_SHOWN]
    grid = grid_of("group", "rows", "share", "best model's mean quality")
    for name, (rows, *quality) in listed:
        share = share_text(float(rows) / contents.n_queries)
        grid.add_row(Text(plain(name)), f"{rows:,.0f}", share, quality_text(max(quality) / rows))
    if few:
        return grid
    rest = sum(int(of[0]) for _, of in falling[GROUPS_SHOWN:])
    note = f"and {len(falling) - GROUPS_SHOWN} more groups, {counted(rest, 'row')} in all"
    return Group(grid, Padding(Text(note), (0, 0, 1, 0)))
