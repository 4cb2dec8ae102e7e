"""Benchmarks of whole jobs: frontiers fitted on one half of the queries, scored on the other."""

from typing import Any

import conftest
import numpy as np
import pytest
import run_sets
import test_kernels

from cascjax.data.table import mean_rows, split_rows
from cascjax.engine.simulate import Resampled, resampled_sums
from cascjax.metrics import budgets
from cascjax.metrics.bootstrap import aucs, differences, interval
from cascjax.search.budgets import Fit, fit_budgets
from cascjax.strategies import (
    CascadeRouting,
    Cascading,
    Mixing,
    Pandora,
    Routing,
    Strategy,
    Thresholding,
)

CELLS = [
    cell
    for cell in test_kernels.CELLS
    if cell[3] in test_kernels.QUERIES and cell[2] <= 100 and "grid" not in cell[0]
]
IDS = [f"{name}-{k}-{n}" for name, _, k, n in CELLS]


@pytest.mark.parametrize(("name", "kind", "n_models", "n_queries"), CELLS, ids=IDS)
def test_frontier(benchmark: Any, name: str, kind: Strategy, n_models: int, n_queries: int) -> None:
    """Compute a frontier of 100 budgets."""
    # Approximate number of passes over all queries.
    count = conftest.rounds(kind, n_queries, n_models, passes=2 if kind.has_breakpoints else 7)
    job = (kind, *conftest.data(n_queries, n_models), 100)
    benchmark.pedantic(conftest.half_frontier, job, rounds=count, warmup_rounds=1)
    seconds = benchmark.stats.stats.median
    benchmark.extra_info |= {
        "job": "frontier", "strategy": name, "queries": n_queries, "models": n_models,
        "us": seconds / n_queries * 1e6,
        "numpy": seconds / conftest.numpy_pass(n_queries, n_models),
    }  # fmt: skip


SEARCHES: list[tuple[str, Strategy]] = [
    ("exact", CascadeRouting()),
    ("beam, 8 wide", CascadeRouting(search="beam")),
    ("beam, 2 wide", CascadeRouting(search="beam", beam_width=2)),
    ("greedy", CascadeRouting(search="greedy")),
    ("pandora", Pandora()),
    ("routing", Routing()),
]


@pytest.mark.parametrize("n_models", [5, 8, 12])
@pytest.mark.parametrize(("name", "kind"), SEARCHES, ids=[name for name, _ in SEARCHES])
def test_search_loss(benchmark: Any, name: str, kind: Strategy, n_models: int) -> None:
    """Compute the quality that a search loses by not looking at every set.

    The result is the same on every device, so `bench.py` leaves it out.
    """
    job = (kind, *conftest.data(2_000, n_models), 10)
    frontier = benchmark.pedantic(conftest.half_frontier, job, rounds=1, warmup_rounds=0)
    benchmark.extra_info |= {
        "job": "search", "strategy": name, "queries": 2_000, "models": n_models,
        "auc": frontier.auc, "fitted": float(frontier.fit_quality.mean()),
    }  # fmt: skip


FIVE: list[tuple[str, list[Strategy]]] = [
    ("with pandora", [Mixing(), Routing(), Thresholding(), Cascading(), Pandora()]),
    ("with cascade-routing", [Mixing(), Routing(), Thresholding(), Cascading(), CascadeRouting()]),
]


@pytest.mark.parametrize(("name", "kinds"), FIVE, ids=[name for name, _ in FIVE])
def test_bootstrap(benchmark: Any, name: str, kinds: list[Strategy]) -> None:
    """Resample 36,000 queries 1,000 times, 40 budgets: intervals of points, AUCs, differences."""
    table, estimator = conftest.data(72_000, 5)
    fit_rows, evaluate = split_rows(table)
    at = budgets(mean_rows(table.cost, fit_rows), mean_rows(table.quality, fit_rows), 40)
    fits = [fit_budgets(kind, estimator, table, at, rows=fit_rows) for kind in kinds]

    def intervals() -> list[np.ndarray]:
        def resample(kind: Strategy, fit: Fit) -> tuple[np.ndarray, ...]:
            sums = resampled_sums(
                kind, fit.parameters, fit.gamma, estimator, table.quality, table.cost,
                resamples=1_000, rows=evaluate,
            )  # fmt: skip
            means = Resampled.of(sums, len(fit.gamma))
            auc = aucs(means.cost, means.quality, means.single_cost, means.single_quality)
            return auc, *(interval(x, 0.95) for x in (means.cost, means.quality, auc))

        each = [resample(kind, fit) for kind, fit in zip(kinds, fits, strict=True)]
        return [differences(np.stack([auc for auc, *_ in each]), 0.95)]

    benchmark.pedantic(intervals, rounds=3, warmup_rounds=1)
    benchmark.extra_info |= {
        "job": "bootstrap", "strategy": name, "queries": len(evaluate), "models": 5,
    }  # fmt: skip


LEARNED = [(kind, 5, 100_000) for kind in run_sets.KINDS[:-1]]
LEARNED += [(run_sets.KINDS[-1], 5, 20_000), *((kind, 8, 2_000) for kind in run_sets.KINDS[-2:])]


@pytest.mark.parametrize("way", ["supplied", "learned"])
@pytest.mark.parametrize(
    ("kind", "n_models", "n_queries"), LEARNED, ids=[f"{s.name}-{k}-{n}" for s, k, n in LEARNED]
)
def test_learned(benchmark: Any, kind: Strategy, n_models: int, n_queries: int, way: str) -> None:
    """Compute a frontier of 100 budgets, with independent estimates or one per run set."""
    table, supplied, learned = run_sets.dataset(n_queries, n_models)
    job = (kind, table, supplied if way == "supplied" else learned, 100)
    frontier = benchmark.pedantic(conftest.half_frontier, job, rounds=2, warmup_rounds=1)
    benchmark.extra_info |= {
        "job": "learned", "strategy": f"{kind.name}, {way}", "queries": n_queries,
        "models": n_models, "auc": frontier.auc,
        "us": benchmark.stats.stats.median / n_queries * 1e6,
    }  # fmt: skip
