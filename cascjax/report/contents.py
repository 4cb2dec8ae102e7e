"""Contents of evaluation tables for the terminal: of one table, or added up over chunks."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table as Grid
from rich.text import Text

from cascjax.data.scales import Scales, scales_of
from cascjax.data.schema import EXTRA_COST
from cascjax.data.table import ESTIMATE_COLUMNS, EVALUATE, FIT, Table
from cascjax.features.answers import agreement_text, agreements
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
    """Sums over the rows of an evaluation table; contents of two chunks can be added.

    `units` are of "cost" and of each extra cost; `widths` are shapes of a row of each optional
    column, where an extra cost's column is "cost.<name>"; `names` are of "features" and "signals".
    `sums` are pandas objects. "models": quality and costs of each model; "groups": rows, and
    quality of each model, by group; "features" and "signals": missing values; "agreed": queries on
    which each pair of models agrees; "counts": rows, fit and evaluate rows, and responses with an
    answer. `scales` are the ranges of quality and cost.
    """

    units: dict[str, str]
    widths: dict[str, tuple[int, ...]]
    names: dict[str, tuple[str, ...]]
    sums: dict[str, Any]
    scales: Scales

    def __add__(self, other: "Contents") -> "Contents":
        """Return the contents of the rows of both, whose columns and models are the same."""
        both = {k: sums.add(other.sums[k], fill_value=0) for k, sums in self.sums.items()}
        both["models"] = self.sums["models"] + other.sums["models"]  # which keeps their order
        return replace(self, sums=both, scales=self.scales + other.scales)

    @property
    def n_queries(self) -> int:
        """Number of rows."""
        return int(self.sums["counts"]["rows"])

    @property
    def models(self) -> Any:
        """Mean quality and costs of each model, in rising mean cost, with its column number."""
        means = self.sums["models"] / self.n_queries
        return means.assign(number=range(len(means))).sort_values("cost", kind="stable")


def contents_of(table: Table) -> Contents:
    """Return the contents of a table."""
    import pandas as pd

    columns = {name: getattr(table, name) for name in _OPTIONAL}
    columns |= {EXTRA_COST + name: table.extra_costs[name] for name in sorted(table.extra_costs)}
    present = {name: column for name, column in columns.items() if column is not None}
    values = {"quality": table.quality, "cost": table.cost}
    values |= {name: column for name, column in present.items() if name.startswith(EXTRA_COST)}
    by_model = {name: column.sum(axis=0, dtype=np.float64) for name, column in values.items()}
    index = pd.Index(table.models, name="model")
    sums: dict[str, Any] = {"models": pd.DataFrame(by_model, index=index)}
    counts: dict[str, Any] = {"rows": table.n_queries}
    names = {}
    if table.split is not None:
        counts |= {"fit": np.sum(table.split == FIT), "evaluate": np.sum(table.split == EVALUATE)}
    for kind, listed in (("features", table.feature_names), ("signals", table.signal_names)):
        if (numbers := present.get(kind)) is not None:
            width = numbers.shape[1] // (table.n_models if kind == "signals" else 1)
            names[kind] = tuple(listed) or tuple(f"number {p + 1}" for p in range(width))
            sums[kind] = pd.Series(np.isnan(numbers).reshape(-1, width).sum(axis=0))
    if (answer := table.answer) is not None:
        counts["given"] = np.sum(answer >= 0)
        sums["agreed"] = pd.Series(agreements(answer))
    if table.group is not None:
        size = len(table.groups)
        by_group = [np.bincount(table.group, column, size) for column in table.quality.T]
        groups = pd.DataFrame(by_group, columns=pd.Index(table.groups)).T
        groups["rows"] = np.bincount(table.group, minlength=size).astype(float)
        sums["groups"] = groups[groups["rows"] > 0]
    return Contents(
        units={name: table.unit_of(name) for name in ("cost", *sorted(table.extra_costs))},
        widths={name: column.shape[1:] for name, column in present.items()},
        names=names,
        sums=sums | {"counts": pd.Series(counts, dtype=float)},
        scales=scales_of(table),
    )


def to_json(contents: Contents) -> dict[str, Any]:
    """Return the contents as JSON values: counts, columns, and means of each model."""
    counts, means = contents.sums["counts"], contents.sums["models"] / contents.n_queries
    groups = contents.sums["groups"]["rows"] if "groups" in contents.sums else {}
    return {
        "n_queries": contents.n_queries,
        "models": means.index.tolist(),
        "cost_units": contents.units,
        "columns": {name: list(width) for name, width in contents.widths.items()},
        "names": {name: list(names) for name, names in contents.names.items()},
        "splits": {side: int(counts[side]) for side in ("fit", "evaluate") if side in counts},
        "means": means.to_dict(),
        "answers": _agreement(contents),
        "groups": {name: int(rows) for name, rows in groups.items()},
        "notes": list(contents.scales.notes),
    }


def _agreement(contents: Contents) -> dict[str, Any]:
    """Return the share of responses with an answer, and of queries on which two models agree."""
    if "agreed" not in contents.sums:
        return {}
    models = contents.sums["models"].index
    given = contents.sums["counts"]["given"] / (contents.n_queries * len(models))
    shares = (contents.sums["agreed"] / contents.n_queries).tolist()
    pairs = [list(pair) for pair in combinations(models, 2)]
    agree = [{"models": pair, "share": n} for pair, n in zip(pairs, shares, strict=True)]
    return {"given": float(given), "agree": agree}


def print_contents(contents: Contents, source: str, console: Console, files: int = 1) -> None:
    """Print what the tables of so many files contain; the heading with the source is one line."""
    rows = counted(contents.n_queries, "row") + (f" in {counted(files, 'file')}" * (files > 1))
    models = counted(len(contents.models), "model")
    unit = plain(contents.units["cost"]) or "an unnamed unit"
    heading = Text(f"{plain(source)}\n", style="bold")
    heading.append(f"{rows}, {models}, cost in {unit}", style="not bold")
    console.print(heading, soft_wrap=True)
    console.print(*_models(contents).grids(console.width))
    if len(contents.units) > 1:
        console.print(*_extra_costs(contents).grids(console.width))
    lines = {"split": _split(contents), "columns": _columns(contents)}
    lines |= {name: _numbers(contents, name) for name in contents.names}
    if notes := contents.scales.notes:
        lines["notes"] = "\n".join(map(plain, notes))
    if "given" in contents.sums["counts"]:
        lines["answers"] = _answers(contents)
    grid = Grid.grid(padding=(0, 2))
    grid.add_column(width=8)
    grid.add_column(overflow="fold")
    for name, value in lines.items():
        grid.add_row(Text(name, style="bold"), Text(value))
    console.print(grid)
    if "groups" in contents.sums:
        console.print(*_groups(contents, console.width))


def _models(contents: Contents) -> Listing:
    means, cost = contents.models, headed("mean cost", contents.units["cost"])
    hull = upper_hull(means["cost"].to_numpy(), means["quality"].to_numpy())
    listed = means[["quality", "cost", "number"]].set_axis(["mean quality", cost, "number"], axis=1)
    listed.insert(2, "on hull", ["yes" if i in hull else "" for i in range(len(means))])
    return Listing(listed, {"mean quality": each(quality_text), cost: cost_texts})


def _extra_costs(contents: Contents) -> Listing:
    names = [name for name in contents.units if name != "cost"]
    listed = contents.models[[EXTRA_COST + name for name in names]]
    listed.columns = [headed(f"mean {name}", contents.units[name]) for name in names]
    return Listing(listed, dict.fromkeys(listed.columns, cost_texts))


def _split(contents: Contents) -> str:
    if "split" not in contents.widths:
        return "none in the file: drawn by seed"
    fit, evaluate = (int(contents.sums["counts"][side]) for side in ("fit", "evaluate"))
    return f"{counted(fit, 'row')} to fit, {evaluate:,} to evaluate"


def _columns(contents: Contents) -> str:
    present = [
        f"{plain(name)} [{', '.join(map(str, (contents.n_queries, *width)))}]"
        for name, width in contents.widths.items()
    ]
    absent = [name for name in _OPTIONAL if name not in contents.widths]
    text = ", ".join(present) or "none but quality and cost"
    return text + (f"\nabsent: {', '.join(absent)}" if absent else "")


def _numbers(contents: Contents, kind: str) -> str:
    names = [plain(name) for name in contents.names[kind]]
    per_row = len(contents.models) if kind == "signals" else 1
    missing = (contents.sums[kind] / (contents.n_queries * per_row)).tolist()
    lacking = [f"{name} {share_text(m)}" for name, m in zip(names, missing, strict=True) if m > 0]
    return f"{len(names)}: {_first(names)}\nmissing values: {_first(lacking) or 'none'}"


def _first(names: Sequence[str]) -> str:
    more = [f"and {len(names) - NAMES_SHOWN} more"] if len(names) > NAMES_SHOWN else []
    return ", ".join([*names[:NAMES_SHOWN], *more])


def _answers(contents: Contents) -> str:
    counts, k = contents.sums["counts"], len(contents.models)
    given = f"{share_text(counts['given'] / (contents.n_queries * k))} of responses have one"
    agreed = contents.sums["agreed"].to_numpy()
    models = [plain(name) for name in contents.sums["models"].index]
    return "; ".join(filter(None, [given, agreement_text(agreed, contents.n_queries, models)]))


def _groups(contents: Contents, width: int) -> list[RenderableType]:
    sums = contents.sums["groups"].sort_index().sort_values("rows", ascending=False, kind="stable")
    # One group more than fits would take the line that says one was left out.
    few = len(sums) <= GROUPS_SHOWN + 1
    rows, quality = sums["rows"], sums.drop(columns="rows").max(axis=1)
    listed = rows.to_frame().assign(share=rows / contents.n_queries)
    listed["best model's mean quality"] = quality / rows
    formats = {
        "rows": each("{:,.0f}".format), "share": each(share_text),
        "best model's mean quality": each(quality_text),
    }  # fmt: skip
    listing = Listing(listed.rename_axis("group").head(None if few else GROUPS_SHOWN), formats)
    if few:
        return [*listing.grids(width)]
    rest = counted(int(rows.iloc[GROUPS_SHOWN:].sum()), "row")
    note = f"and {len(sums) - GROUPS_SHOWN} more groups, {rest} in all"
    return [*listing.grids(width), Padding(Text(note), (0, 0, 1, 0))]
