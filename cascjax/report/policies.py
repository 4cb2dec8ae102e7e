"""Policies and their evaluations: for the terminal, and as files."""

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from cascjax.data.files import atomic_write
from cascjax.data.schema import EXTRA_COST
from cascjax.evaluation import Evaluation, Mean, Part, target_of
from cascjax.policy import Policy
from cascjax.report.console import GROUPS_SHOWN
from cascjax.report.facts import chain_text
from cascjax.report.tables import grid_of
from cascjax.search.rules import COST, Fitted, Rule
from cascjax.words import cost_texts, counted, plain, quality_text, share_text, short_names


def print_policy(policy: Policy, console: Console) -> None:
    """Prints the settings each rule mixes, and what they gave when they were fitted."""
    several = len(policy.rules) > 1
    for name, rule in zip(("", *policy.groups), policy.rules, strict=True):
        if several:
            console.print(Text(f"group {plain(name)}" if name else "all other queries", "bold"))
        console.print(_settings(policy, rule))
        if rule.fitted is not None:
            for line in _fitted(policy, rule.fitted):
                console.print(Text(line))


def rows_note(found: Evaluation, n_rows: int, *, split: bool) -> str:
    """What is to be said where all rows of a log were counted; else nothing.

    Args:
        found: what came of them.
        n_rows: of the log.
        split: whether it says which are to evaluate on.
    """
    if split or found.total.n < n_rows:
        return ""
    return (
        f"all {counted(n_rows, 'row')} are counted, as of a log that the policy was not fitted on;"
        " if it is that log in another form, rows fitted on flatter the policy: mark them in a"
        " column 'split'"
    )


def _settings(policy: Policy, rule: Rule) -> Grid:
    names = ["parameter"]
    if rule.prices is not None:
        names = [f"price of {plain(name)}" for name in policy.costs]
    settings = [of.reshape(-1).tolist() for of in rule.parameters]
    if rule.prices is not None:
        settings = [(of[0] * rule.prices[m]).tolist() for m, of in enumerate(settings)]

    def cells(digits: int) -> list[list[str]]:
        if policy.strategy.name == "frugal":
            return [[chain_text(of, short_names(policy.models), digits)] for of in settings]
        texts = [[f"{x:.{digits}g}" for x in of] for of in settings]
        return texts if rule.prices is not None else [[", ".join(of)] for of in texts]

    # Neighbours may be closer than six digits tell; nine tell any two float32 apart.
    alike = len({tuple(of) for of in cells(6)}) < len(settings)
    grid = grid_of("share of queries", *names)
    for weight, of in zip(rule.weights, cells(9 if alike else 6), strict=True):
        grid.add_row(f"{weight:.2%}", *of)
    return grid


def _fitted(policy: Policy, of: Fitted) -> list[str]:
    quality, target = f"mean quality {quality_text(of.quality)}", target_of(policy)
    if target is not None:
        quality += f", the target {target:g}"
        if of.quality > target * (1 + 1e-4):
            quality += ": no cheaper setting is there"
    lines = [f"On the {counted(of.n_fit, 'query', 'queries')} fitted on: {quality}."]
    names = zip(policy.costs, policy.cost_units, of.cost, of.budget, of.margin, strict=True)
    for name, unit, cost, budget, margin in names:
        unit = plain(unit).removesuffix("/query")
        text = f"Mean {plain(name)} {cost:.6g}{unit and ' ' + unit}"
        if budget is None:
            text += ", not limited" if len(policy.costs) > 1 else ""
        else:
            text += f", the budget {budget:.6g}"
            text += f" less a margin of {margin:.3g}" if margin else ""
            if cost < (budget - margin) * (1 - 1e-4):
                text += ": it does not bind, more would buy nothing"
        lines.append(text + ".")
    return lines


def print_evaluation(found: Evaluation, console: Console) -> None:
    """Prints mean quality and costs with intervals, the budgets in words, and the models' use."""
    grid = grid_of("queries", "number", "mean quality", *(_header(found, r) for r in _costs(found)))
    parts = [("all", found.total)]
    shown = sorted(found.groups.items(), key=lambda item: -item[1].n)[:GROUPS_SHOWN]
    parts += [(plain(name), part) for name, part in shown]
    for name, part in parts:
        costs = [_interval(mean, cost_texts) for mean in part.cost]
        quality = _interval(part.quality, lambda values: [quality_text(v) for v in values])
        grid.add_row(Text(name), f"{part.n:,}", quality, *costs)
    console.print(grid)
    if len(found.groups) > len(shown):
        console.print(Text(f"and {counted(len(found.groups) - len(shown), 'more group')}"))
    for line in found.verdicts():
        met = not any(of in line for of in ("above the budget", "below the target", "not checked"))
        console.print(Text(plain(line) + ".", style=None if met else "yellow"))  # pyright: ignore
    if found.hull_quality is not None:
        gain = found.total.quality.value - found.hull_quality
        console.print(
            f"Single models, mixed at random at the same {COST}, would give"
            f" {quality_text(found.hull_quality)}: {abs(gain):.4f}"
            f" {'less' if gain > 0 else 'more'}."
        )
    use = grid_of(
        "model", "runs on", "answers", "alone: quality",
        *(f"alone: {plain(name)}" for name in found.costs),
    )  # fmt: skip
    alone = [cost_texts(costs) for costs in found.single_cost]
    for k, model in enumerate(found.models):
        shares = (share_text(float(of[k])) for of in (found.ran, found.answered))
        quality = quality_text(float(found.single_quality[k]))
        use.add_row(Text(plain(model)), *shares, quality, *(texts[k] for texts in alone))
    console.print(use)


def _costs(found: Evaluation) -> range:
    return range(len(found.costs))


def _header(found: Evaluation, r: int) -> str:
    unit = plain(found.cost_units[r])
    return f"mean {plain(found.costs[r])}" + (f" ({unit})" if unit else "")


def _interval(mean: Mean, texts: Any) -> str:
    if mean.low is None or mean.high is None:
        return texts([mean.value])[0]
    value, low, high = texts([mean.value, mean.low, mean.high])
    return f"{value} [{low}, {high}]"


def write_evaluation(
    found: Evaluation, ids: pa.ChunkedArray, directory: Path, settings: dict[str, Any]
) -> None:
    """Writes evaluation.parquet, a row a query, and summary.json; an error leaves neither.

    Args:
        found: what to write.
        ids: the query_id of every row of the table.
        directory: a folder that exists.
        settings: what was asked for, for the record.

    Raises:
        CascjaxError: the folder cannot be written.
    """
    columns: dict[str, Any] = {"query_id": ids.take(pa.array(found.rows))}
    for name, cost in zip(found.costs, found.cost, strict=True):
        columns[COST if name == COST else EXTRA_COST + name] = cost
    models = pa.DictionaryArray.from_arrays(pa.array(found.answer), pa.array(found.models))
    columns |= {"quality": found.quality, "steps": found.steps, "answer": models}
    with ExitStack() as files:
        rows, numbers = (
            files.enter_context(atomic_write(directory / name))
            for name in ("evaluation.parquet", "summary.json")
        )
        pq.write_table(pa.table(columns), rows)
        text = json.dumps(summary(found) | {"settings": settings}, indent=2, allow_nan=False)
        numbers.write_text(text + "\n", encoding="utf-8")


def summary(found: Evaluation) -> dict[str, Any]:
    """What was found, but for single queries."""

    def mean(of: Mean) -> dict[str, float | None]:
        return {"mean": of.value, "low": of.low, "high": of.high}

    def part(of: Part) -> dict[str, Any]:
        budgets = zip(found.costs, of.budget, strict=True)
        return {
            "n": of.n,
            "quality": mean(of.quality),
            "cost": {name: mean(c) for name, c in zip(found.costs, of.cost, strict=True)},
            "budget": {name: budget for name, budget in budgets if budget is not None},
        }

    def by_model(of: np.ndarray) -> dict[str, float]:
        return dict(zip(found.models, of.tolist(), strict=True))

    return {
        "strategy": found.strategy,
        "models": list(found.models),
        "cost_units": dict(zip(found.costs, found.cost_units, strict=True)),
        "confidence": found.confidence,
        "total": part(found.total),
        # A group may have any name: the default rule is kept apart, as in a policy's file.
        "rule": part(found.rules[""]) if "" in found.rules else None,
        "group_rules": {name: part(of) for name, of in found.rules.items() if name},
        "groups": {name: part(of) for name, of in found.groups.items()},
        "target": found.target,
        "budgets_met": found.met(),
        "verdicts": found.verdicts(),
        "ran": by_model(found.ran),
        "answered": by_model(found.answered),
        "depth": found.depth.tolist(),
        "single_models": {
            "quality": by_model(found.single_quality),
            "cost": {
                name: by_model(of) for name, of in zip(found.costs, found.single_cost, strict=True)
            },
        },
        "mixed_single_models_quality": found.hull_quality,
    }
