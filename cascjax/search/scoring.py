"""The scores of drawn frontiers, with what they need beyond the points themselves."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int

from cascjax.data.table import Table, mean_rows, take_rows
from cascjax.estimators import Estimator, truth
from cascjax.metrics.scores import SCORES, Evidence, sound
from cascjax.search.budgets import simulate_settings
from cascjax.strategies import Strategy

if TYPE_CHECKING:
    from cascjax.comparison import Frontier

_ROWS = 1 << 12
"""Queries looked at together."""


def scores_of(
    names: Sequence[str],
    frontiers: "Sequence[Frontier]",
    strategies: Sequence[Strategy],
    table: Table,
    estimator: Estimator,
    rows: Int[np.ndarray, " n"],
    oracle: float = np.nan,
) -> list[dict[str, float]]:
    """The named scores of every frontier, by name; nan where one does not exist.

    Args:
        names: of scores, see `cascjax.metrics.SCORES`.
        frontiers: what was drawn.
        strategies: what they were drawn of, in the same order.
        table: the truth.
        estimator: the estimates of all its queries.
        rows: the queries to score on.
        oracle: AUC of the oracle's frontier, for "oracle-gap".
    """
    single_cost, single_quality = mean_rows(table.cost, rows), mean_rows(table.quality, rows)
    floor, ceiling = extremes(table, rows)
    found = []
    for drawn, strategy in zip(frontiers, strategies, strict=True):
        evidence = Evidence(
            cost=drawn.cost,
            quality=drawn.quality,
            ran=drawn.ran,
            single_cost=single_cost,
            single_quality=single_quality,
            floor=floor,
            ceiling=ceiling,
            collapsed=collapsed(strategy, drawn, table, estimator, rows)
            if "rci" in names
            else np.nan,
            oracle=oracle,
        )
        found.append({name: SCORES[name].of(evidence) for name in names})
    return found


def extremes(table: Table, rows: Int[np.ndarray, " n"]) -> tuple[tuple[float, float], float]:
    """Least and most the queries can cost, one model each.

    Returns:
        Mean cost and quality where each goes to the model cheapest for it, of equals the first;
        and mean cost where each goes to the model most expensive for it.
    """
    sums = np.zeros(3)
    for start in range(0, len(rows), _ROWS):
        part = rows[start : start + _ROWS]
        cost, quality = (take_rows(column, part) for column in (table.cost, table.quality))
        at = np.arange(len(part)), cost.argmin(1)
        for i, values in enumerate((cost[at], quality[at], cost.max(1))):
            sums[i] += values.sum(dtype=np.float64)
    low, quality_there, high = (sums / len(rows)).tolist()
    return (low, quality_there), high


def collapsed(
    strategy: Strategy,
    drawn: "Frontier",
    table: Table,
    estimator: Estimator,
    rows: Int[np.ndarray, " n"],
) -> float:
    """Routing collapse index at the largest budget, in expectation over the mixed settings.

    See `cascjax.metrics.scores.rci`. The same decisions are simulated once more, on a table where
    an answer that is let pass has quality 1 and any other 0: one less what that gives.
    """
    beliefs = truth(table) if strategy.sees_truth else estimator
    judged = sound(table.quality, mean_rows(table.cost, rows))
    table = replace(table, quality=judged.astype(np.float32))
    at, strategy = int(drawn.budget.argmax()), strategy.sized_for(beliefs)
    cheap, expensive = simulate_settings(
        strategy, drawn.parameters[at], beliefs, table, rows=rows, usage=False
    ).quality
    gamma = drawn.gamma[at]
    return float(1 - (1 - gamma) * cheap - gamma * expensive)
