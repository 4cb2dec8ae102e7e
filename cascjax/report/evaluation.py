"""An evaluation of a policy: its tables, its findings in sentences, and its files."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.text import Text

from cascjax.comparison import Study
from cascjax.data.files import atomic_write
from cascjax.data.schema import EXTRA_COST
from cascjax.evaluation import Evaluation, Mean, Part
from cascjax.plots import new_axes, plot_frontier
from cascjax.report import page
from cascjax.report.charts import policy_chart
from cascjax.report.tables import Listing, each, simulated, simulation_note
from cascjax.search.rules import COST
from cascjax.words import (
    cost_texts,
    counted,
    headed,
    plain,
    price_text,
    quality_text,
    share_text,
    short_names,
)

# Both take long to import, and a result may never be shown.
if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

GROUPS_SHOWN = 12
"""Largest number of groups listed by name; the rest are counted together."""


def summary(evaluation: Evaluation) -> Listing:
    """Return the table that an evaluation prints as: all queries, then the largest groups."""
    import pandas as pd

    groups = sorted(evaluation.groups.items(), key=lambda item: -item[1].n)[:GROUPS_SHOWN]
    parts = {"all": evaluation.total, **{plain(name): part for name, part in groups}}
    columns: dict[str, Any] = {
        "number": [f"{part.n:,}" for part in parts.values()],
        "mean quality": [_interval(part.quality, each(quality_text)) for part in parts.values()],
    }
    for r, (name, unit) in enumerate(zip(evaluation.costs, evaluation.cost_units, strict=True)):
        cells = [_interval(part.cost[r], cost_texts) for part in parts.values()]
        columns[headed(f"mean {name}", unit)] = cells
    title = ", ".join(
        filter(None, [f"Evaluation of {evaluation.strategy}", simulated(evaluation.estimates)])
    )
    return Listing(pd.DataFrame(columns, index=pd.Index(list(parts), name="queries")), title=title)


def _interval(mean: Mean, texts: Any) -> str:
    if mean.low is None or mean.high is None:
        return texts([mean.value])[0]
    value, low, high = texts([mean.value, mean.low, mean.high])
    return f"{value} [{low}, {high}]"


def models_listing(evaluation: Evaluation) -> Listing:
    """Return the table of models: how often each runs and answers, and its means alone."""
    import pandas as pd

    columns: dict[str, Any] = {
        "runs on": evaluation.ran,
        "answers": evaluation.answered,
        "alone: quality": evaluation.single_quality,
    }
    alone = {
        f"alone: {plain(name)}": evaluation.single_cost[r]
        for r, name in enumerate(evaluation.costs)
    }
    formats = dict.fromkeys(columns, each(share_text)) | {"alone: quality": each(quality_text)}
    formats |= dict.fromkeys(alone, cost_texts)
    index = pd.Index(evaluation.models, name="model")
    return Listing(pd.DataFrame(columns | alone, index=index), formats)


def frame(evaluation: Evaluation) -> "DataFrame":
    """Return one row per evaluated query: its row, costs, quality, steps and likeliest answer."""
    import pandas as pd

    columns: dict[str, Any] = {"row": evaluation.rows}
    for name, cost in zip(evaluation.costs, evaluation.cost, strict=True):
        columns[COST if name == COST else EXTRA_COST + name] = cost
    answer = pd.Categorical.from_codes(evaluation.answer, categories=list(evaluation.models))
    columns |= {"quality": evaluation.quality, "steps": evaluation.steps, "answer": answer}
    return pd.DataFrame(columns)


def plot(evaluation: Evaluation, ax: "Axes | None" = None) -> "Axes":
    """Draw mean cost and quality of the policy, with intervals, among the single models."""
    ax = new_axes() if ax is None else ax
    total, spans = evaluation.total, []
    mean: Any
    for mean in (total.quality, total.cost[0]):
        known = mean.low is not None and mean.high is not None
        spans.append([[mean.value - mean.low], [mean.high - mean.value]] if known else None)
    ax.errorbar(
        [total.cost[0].value], [total.quality.value], *spans, fmt="D", color="#0072b2", capsize=3,
        zorder=5, label=f"policy ({evaluation.strategy})",
    )  # fmt: skip
    models = (evaluation.single_cost[0], evaluation.single_quality)
    alone = Study((), evaluation.models, evaluation.cost_units[0], *models, 0, total.n)
    return plot_frontier(alone, ax)


def rows_note(evaluation: Evaluation, n_rows: int, *, split: bool) -> str:
    """Return a warning where all rows of a log without a column split were evaluated."""
    if split or evaluation.total.n < n_rows:
        return ""
    return (
        f"all {counted(n_rows, 'row')} are evaluated. If the policy was fitted on some of these"
        " rows, the result is too good; mark the fit rows in a column 'split'"
    )


def print_evaluation(evaluation: Evaluation, console: Console) -> None:
    """Print mean quality and costs with intervals, the budgets in words, and the models' use."""
    if note := simulation_note(evaluation.estimates):
        console.print(Text(note))
    console.print(*summary(evaluation).grids(console.width))
    if len(evaluation.groups) > GROUPS_SHOWN:
        console.print(f"and {counted(len(evaluation.groups) - GROUPS_SHOWN, 'more group')}")
    missed = ("above the budget", "below the target", "not checked")
    for line in evaluation.verdicts():
        style = "yellow" if any(words in line for words in missed) else ""
        console.print(Text(f"{plain(line)}.", style=style))
    if evaluation.hull_quality is not None:
        console.print(
            f"Mean quality {quality_text(evaluation.total.quality.value)}, against"
            f" {quality_text(evaluation.hull_quality)} for picking models at random at the same"
            f" {COST}."
        )
    console.print(*models_listing(evaluation).grids(console.width))


def render(evaluation: Evaluation, settings: Mapping[str, Any]) -> str:
    """Return the report: key numbers, the policy among the single models, groups and models."""
    total, unit = evaluation.total, evaluation.cost_units[0]
    cost, quality = price_text(total.cost[0].value, unit), quality_text(total.quality.value, 3)
    top = int(np.lexsort((evaluation.single_cost[0], -evaluation.single_quality))[0])
    price = float(evaluation.single_cost[0][top])
    tiles = [
        ("mean quality", quality, _ends(total.quality, lambda x: quality_text(x, 3))),
        ("mean cost per query", cost, _ends(total.cost[0], lambda x: price_text(x, unit))),
    ]
    if price > 0:
        best = f"{short_names(evaluation.models, 40)[top]}, the best single model"
        tiles.append(("of the cost", f"{total.cost[0].value / price:.0%}", f"of {best}"))
    lead = f"The policy reaches a mean quality of {quality} at {cost} per query"
    if evaluation.hull_quality is not None:
        hull = quality_text(evaluation.hull_quality, 3)
        lead += f", against {hull} for picking models at random at the same cost"
    caption = (
        "The policy (diamond) with its intervals, its groups (circles), and the single models; the"
        " dashed line is their hull, what mixing them at random reaches."
    )
    chart = replace(policy_chart(evaluation), caption=(caption,))
    means = replace(summary(evaluation), title="Means with intervals, of the largest groups.")
    verdicts: list[page.Part] = [("items", list(map(plain, evaluation.verdicts())))]
    return page.render(
        f"Evaluation of a policy of {evaluation.strategy}",
        warning=simulation_note(evaluation.estimates),
        tiles=tiles,
        lead=f"{lead}.",
        sections=[
            ("Quality for cost", [("chart", chart), ("csv", page.csv(means.frame))]),
            ("Budgets and targets", verdicts if evaluation.verdicts() else []),
            ("Queries and groups", [("table", means)]),
            ("Models", [("table", models_listing(evaluation))]),
        ],
        file="evaluation",
        record={"evaluation queries": f"{total.n:,}", **page.setting_texts(settings)},
    )


def _ends(mean: Mean, text: Callable[[float], str]) -> str:
    return "" if mean.low is None or mean.high is None else f"{text(mean.low)} to {text(mean.high)}"


def save(
    evaluation: Evaluation,
    folder: Path,
    ids: pa.ChunkedArray | None = None,
    settings: Mapping[str, Any] | None = None,
) -> None:
    """Write evaluation.parquet, one row per query, summary.json and report.html, or none.

    The folder must exist. `ids` is the query_id of every row of the table; without it the file has
    row numbers. `settings` is what was asked for, for the record. Without results per query there
    is no evaluation.parquet.
    """
    rows = pa.Table.from_pandas(frame(evaluation), preserve_index=False).replace_schema_metadata()
    if ids is not None:
        rows = rows.set_column(0, "query_id", ids.take(pa.array(evaluation.rows)))
    content = to_json(evaluation) | {"settings": dict(settings or {})}
    html = render(evaluation, settings or {})
    with ExitStack() as files:
        numbers = files.enter_context(atomic_write(folder / "summary.json"))
        files.enter_context(atomic_write(folder / "report.html")).write_text(html, "utf-8")
        if len(evaluation.rows):
            pq.write_table(rows, files.enter_context(atomic_write(folder / "evaluation.parquet")))
        numbers.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", "utf-8")


def to_json(evaluation: Evaluation) -> dict[str, Any]:
    """Return the numbers of summary.json: all but the results per query."""
    costs, models = evaluation.costs, evaluation.models

    def by_cost(values: Sequence[Any]) -> dict[str, Any]:
        return dict(zip(costs, values, strict=True))

    def by_model(values: np.ndarray) -> dict[str, float]:
        return dict(zip(models, values.tolist(), strict=True))

    def mean(value: Mean) -> dict[str, float | None]:
        return {"mean": value.value, "low": value.low, "high": value.high}

    def part(part: Part) -> dict[str, Any]:
        return {
            "n": part.n,
            "quality": mean(part.quality),
            "cost": by_cost([mean(cost) for cost in part.cost]),
            "budget": {k: v for k, v in by_cost(part.budget).items() if v is not None},
        }

    return {
        "strategy": evaluation.strategy,
        "models": list(models),
        "cost_units": by_cost(evaluation.cost_units),
        "confidence": evaluation.confidence,
        "total": part(evaluation.total),
        # A group may have any name: the default rule is kept apart, as in a policy's file.
        "rule": part(evaluation.rules[""]) if "" in evaluation.rules else None,
        "group_rules": {name: part(rule) for name, rule in evaluation.rules.items() if name},
        "groups": {name: part(group) for name, group in evaluation.groups.items()},
        "target": evaluation.target,
        "budgets_met": evaluation.met(),
        "verdicts": evaluation.verdicts(),
        "ran": by_model(evaluation.ran),
        "answered": by_model(evaluation.answered),
        "depth": evaluation.depth.tolist(),
        "single_models": {
            "quality": by_model(evaluation.single_quality),
            "cost": by_cost([by_model(cost) for cost in evaluation.single_cost]),
        },
        "mixed_single_models_quality": evaluation.hull_quality,
    }
