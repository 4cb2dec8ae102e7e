"""Contents of evaluation tables for the terminal: of one table, or added up over chunks."""

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
from cascjax.report.tables import Listing, each
from cascjax.words import cost_texts, counted, headed, plain, quality_text, share_text

NAMES_SHOWN = 24
"""Largest number of features or signals listed by name."""

GROUPS_SHOWN = 12
"""Largest number of groups listed by name; the rest are counted together."""

_OPTIONAL = (*ESTIMATE_COLUMNS, "features", "signals", "answer", "split", "group")


@dataclass(frozen=True)
class Contents:
    """Sums over the rows of an evaluation table; those of two chunks can be added.

    Attributes:
        models: K names, in column order.
        units: unit of "cost" and of each extra cost by its name, empty where none is known.
        widths: shape of a row of each optional column; an extra cost's column is "cost.<name>".
        names: names of "features" and of "signals", where there are any.
        n_queries: number of rows N.
        sums: sums over rows, in float64: "quality" and each cost `[K]`; "fit" and "evaluate", rows
            of these splits; "features" `[F]` and "signals" `[P]`, missing values; "given",
            responses with an answer, and "agreed", pairs of models that agree.
        groups: of each group by name, its number of rows and its summed qualities, `[M]`,
            M = 1 + K.
    """

    models: tuple[str, ...]
    units: dict[str, str]
    widths: dict[str, tuple[int, ...]]
    names: dict[str, tuple[str, ...]]
    n_queries: int
    sums: dict[str, Float[np.ndarray, "..."]]
    groups: dict[str, Float[np.ndarray, " M"]]

    def __add__(self, other: "Contents") -> "Contents":
        """Return the contents of the rows of both, whose columns and models are the same."""
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
        """Return the mean of "quality", "cost" or "cost.<name>" of each model."""
        return self.sums[name] / self.n_queries


def contents_of(table: Table) -> Contents:
    """Return the contents of a table."""
    columns = {name: getattr(table, name) for name in _OPTIONAL}
    columns |= {EXTRA_COST + name: table.extra_costs[name] for name in sorted(table.extra_costs)}
    present = {name: column for name, column in columns.items() if column is not None}
    summed = ["quality", "cost", *(name for name in present if name.startswith(EXTRA_COST))]
    by_name = {"quality": table.quality, "cost": table.cost, **present}
    sums = {name: by_name[name].sum(axis=0, dtype=np.float64) for name in summed}
    names, groups = {}, {}
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
    if table.group is not None:
        size = len(table.groups)
        counts = np.bincount(table.group, minlength=size)
        quality = [np.bincount(table.group, column, minlength=size) for column in table.quality.T]
        by_group = np.stack([counts, *quality], axis=1).astype(np.float64)
        groups = {table.groups[g]: by_group[g] for g in np.flatnonzero(counts).tolist()}
    return Contents(
        models=table.models,
        units={name: table.unit_of(name) for name in ("cost", *sorted(table.extra_costs))},
        widths={name: column.shape[1:] for name, column in present.items()},
        names=names,
        n_queries=table.n_queries,
        sums={name: np.asarray(value, np.float64) for name, value in sums.items()},
        groups=groups,
    )


def _names(names: Sequence[str], count: int) -> tuple[str, ...]:
    return tuple(names) or tuple(f"number {p + 1}" for p in range(count))


def print_contents(contents: Contents, source: str, console: Console, files: int = 1) -> None:
    """Print what tables contain.

    Args:
        contents: their contents.
        source: where they came from, for the heading, which stays one line.
        console: where to print.
        files: number of files.
    """
    heading, *parts = described(contents, source, files, console.width)
    console.print(heading, soft_wrap=True)
    for part in parts:
        console.print(part)


def described(
    contents: Contents, source: str, files: int = 1, width: int = 80
) -> list[RenderableType]:
    """Return a heading, then models, rows, splits, optional columns and groups.

    Args:
        contents: contents of the tables; models are listed in rising mean cost.
        source: where they came from.
        files: number of files.
        width: width of the terminal.
    """
    heading = Text(f"{plain(source)}\n", style="bold")
    rows = counted(contents.n_queries, "row") + (f" in {counted(files, 'file')}" * (files > 1))
    unit = plain(contents.units["cost"]) or "an unnamed unit"
    heading.append(
        f"{rows}, {counted(len(contents.models), 'model')}, cost in {unit}", style="not bold"
    )
    parts: list[RenderableType] = [heading, *models_listing(contents).grids(width)]
    if len(contents.units) > 1:
        parts += extra_costs_listing(contents).grids(width)
    lines = {"split": _split(contents), "columns": _columns(contents)}
    lines |= {name: _named(contents, name) for name in contents.names}
    if "given" in contents.sums:
        lines["answers"] = _answers(contents)
    for name, value in lines.items():
        line = Grid.grid(padding=(0, 2))
        line.add_column(width=8)
        line.add_column(overflow="fold")
        line.add_row(Text(name, style="bold"), Text(value))
        parts.append(line)
    if contents.groups:
        parts.append(_groups(contents, width))
    return parts


def models_listing(contents: Contents) -> Listing:
    """Return the table of models in rising mean cost, with their column numbers."""
    import pandas as pd

    quality, cost = contents.mean("quality"), contents.mean("cost")
    hull, order = upper_hull(cost, quality), np.argsort(cost, kind="stable")
    heading = headed("mean cost", contents.units["cost"])
    columns = {
        "mean quality": quality[order],
        heading: cost[order],
        "on hull": ["yes" if i in hull else "" for i in order],
        "number": order,
    }
    index = pd.Index([contents.models[i] for i in order], name="model")
    formats = {"mean quality": each(quality_text), heading: cost_texts}
    return Listing(pd.DataFrame(columns, index=index), formats)


def extra_costs_listing(contents: Contents) -> Listing:
    """Return the table of the means of the extra costs, the models in rising mean cost."""
    import pandas as pd

    order = np.argsort(contents.mean("cost"), kind="stable")
    columns = {
        headed(f"mean {name}", unit): contents.mean(EXTRA_COST + name)[order]
        for name, unit in contents.units.items()
        if name != "cost"
    }
    index = pd.Index([contents.models[i] for i in order], name="model")
    return Listing(pd.DataFrame(columns, index=index), dict.fromkeys(columns, cost_texts))


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
    """Return the number and names of features or signals, and the share of each that is missing."""
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
    given = f"{share_text(float(contents.sums['given']) / (n * k))} of responses have one"
    if k == 1:
        return given
    agreed = float(contents.sums["agreed"]) / (n * k * (k - 1) / 2)
    return f"{given}; two models agree on {share_text(agreed)} of queries on average"


def _groups(contents: Contents, width: int) -> RenderableType:
    import pandas as pd

    falling = sorted(contents.groups.items(), key=lambda item: -item[1][0])
    # One group more than fits would take the line that says one was left out.
    few = len(falling) <= GROUPS_SHOWN + 1
    shown = falling if few else falling[:GROUPS_SHOWN]
    columns = {
        "rows": [int(sums[0]) for _, sums in shown],
        "share": [float(sums[0]) / contents.n_queries for _, sums in shown],
        "best model's mean quality": [max(sums[1:]) / sums[0] for _, sums in shown],
    }
    frame = pd.DataFrame(columns, index=pd.Index([name for name, _ in shown], name="group"))
    formats = dict(zip(columns, map(each, ("{:,}".format, share_text, quality_text)), strict=True))
    (grid,) = Listing(frame, formats).grids(width)
    if few:
        return grid
    rest = sum(int(sums[0]) for _, sums in falling[GROUPS_SHOWN:])
    note = f"and {len(falling) - GROUPS_SHOWN} more groups, {counted(rest, 'row')} in all"
    return Group(grid, Padding(Text(note), (0, 0, 1, 0)))
