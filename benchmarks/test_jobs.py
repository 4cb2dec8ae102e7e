"""Whole jobs: frontiers, fitted on one half of the queries and scored on the other."""

from typing import Any

import conftest
import numpy as np
import pytest
import run_sets
import test_kernels

from cascjax.comparison import Frontier, frontier
from cascjax.data.table import mean_rows, split_rows
from cascjax.engine.simulate import resampled
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


def drawn(kind: Strategy, n_queries: int, n_models: int, count: int) -> Frontier:
    """The frontier of `count` budgets over the shared table."""
    table, estimator = conftest.data(n_queries, n_models)
    fit, evaluate = split_rows(table)
    at = budgets(mean_rows(table.cost, fit), mean_rows(table.quality, fit), count)
    return frontier(kind, table, estimator, fit, evaluate, at)


@pytest.mark.parametrize(("name", "kind", "n_models", "n_queries"), CELLS, ids=IDS)
def test_frontier(benchmark: Any, name: str, kind: Strategy, n_models: int, n_queries: int) -> None:
    """100 budgets."""
    # About so many passes over all queries, the fitted half and the scored half added up.
    count = conftest.rounds(kind, n_queries, n_models, passes=2 if kind.staged else 7)
    job = (kind, n_queries, n_models, 100)
    benchmark.pedantic(drawn, job, rounds=count, warmup_rounds=1)
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
    """What a search that does not look at every set loses, where all of them can be looked at.

    Of quality, not of time, and the same on every device: no part of `bench.py`.
    """
    found = benchmark.pedantic(drawn, (kind, 2_000, n_models, 10), rounds=1, warmup_rounds=0)
    benchmark.extra_info |= {
        "job": "search", "strategy": name, "queries": 2_000, "models": n_models,
        "auc": found.auc, "fitted": float(found.fit_quality.mean()),
    }  # fmt: skip


FIVE: list[tuple[str, list[Strategy]]] = [
    ("with pandora", [Mixing(), Routing(), Thresholding(), Cascading(), Pandora()]),
    ("with cascade-routing", [Mixing(), Routing(), Thresholding(), Cascading(), CascadeRouting()]),
]


@pytest.mark.parametrize(("name", "kinds"), FIVE, ids=[name for name, _ in FIVE])
def test_bootstrap(benchmark: Any, name: str, kinds: list[Strategy]) -> None:
    """1,000 resamples of 36,000 queries, 40 budgets: intervals of points, AUCs, differences."""
    table, estimator = conftest.data(72_000, 5)
    fit, evaluate = split_rows(table)
    at = budgets(mean_rows(table.cost, fit), mean_rows(table.quality, fit), 40)
    fits = [fit_budgets(kind, estimator, table, at, rows=fit) for kind in kinds]

    def intervals() -> list[np.ndarray]:
        def one(kind: Strategy, of: Fit) -> tuple[np.ndarray, ...]:
            found = resampled(
                kind, of.parameters, of.gamma, estimator, table.quality, table.cost,
                resamples=1_000, rows=evaluate,
            )  # fmt: skip
            auc = aucs(found.cost, found.quality, found.single_cost, found.single_quality)
            return auc, *(interval(x, 0.95) for x in (found.cost, found.quality, auc))

        each = [one(kind, of) for kind, of in zip(kinds, fits, strict=True)]
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
    """100 budgets, estimates under every run set beside those of each model by itself."""
    table, supplied, of_all = run_sets.world(n_queries, n_models)
    run = run_sets.job(kind, table, supplied if way == "supplied" else of_all)
    auc = benchmark.pedantic(run, rounds=2, warmup_rounds=1)
    benchmark.extra_info |= {
        "job": "learned", "strategy": f"{kind.name}, {way}", "queries": n_queries,
        "models": n_models, "auc": auc,
        "us": benchmark.stats.stats.median / n_queries * 1e6,
    }  # fmt: skip
