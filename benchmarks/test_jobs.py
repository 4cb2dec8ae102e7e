"""Whole jobs: a frontier of 100 budgets, fitted on one half of the queries, scored on the other."""

from collections.abc import Callable
from typing import Any

import conftest
import numpy as np
import pytest
import test_kernels

from cascjax.metrics import budgets
from cascjax.search.frontier import Frontier, frontier
from cascjax.strategies import CascadeRouting, Pandora, Routing, Strategy
from cascjax.table import mean_rows, split_rows

BUDGETS = 100
KINDS = [k for k in test_kernels.KINDS if not k[0].endswith("beam")]
CELLS = [(name, kind, k, n) for name, kind, ks in KINDS for k in ks for n in test_kernels.QUERIES]
IDS = [f"{name}-{k}-{n}" for name, _, k, n in CELLS]
PASSES = {"routing": 3, "thresholding": 3, "cascading": 3}
"""Passes over the queries, about; ten where settings are worked out one by one."""


def drawn(kind: Strategy, n_queries: int, n_models: int) -> Frontier:
    """The frontier over the first queries of the shared table."""
    table, estimator = conftest.data(n_queries, n_models)
    fit, evaluate = split_rows(table)
    at = budgets(mean_rows(table.cost, fit), mean_rows(table.quality, fit), BUDGETS)
    return frontier(kind, table, estimator, fit, evaluate, at)


@pytest.mark.parametrize(("name", "kind", "n_models", "n_queries"), CELLS, ids=IDS)
def test_frontier(
    benchmark: Any,
    name: str,
    kind: Strategy,
    n_models: int,
    n_queries: int,
    numpy_pass: Callable[[int, int], float],
) -> None:
    """100 budgets."""
    conftest.skip_if_long(
        lambda n: [
            test_kernels.totals(
                kind.sized_for(estimator), kind.family(test_kernels.Sketch(table, estimator), 64),
                estimator, table.quality, table.cost, usage=False,
            )
            for table, estimator in [conftest.data(n, n_models)]
            for _ in range(PASSES.get(name, 10))
        ],
        n_queries,
    )  # fmt: skip
    found = benchmark.pedantic(drawn, (kind, n_queries, n_models), rounds=3, warmup_rounds=1)
    assert np.isfinite(found.area)
    seconds = benchmark.stats.stats.median
    benchmark.extra_info |= {
        "job": "frontier, 100 budgets", "strategy": name, "queries": n_queries,
        "models": n_models, "us a query": seconds / n_queries * 1e6, "area": found.area,
        "numpy passes": seconds / numpy_pass(n_queries, n_models),
    }  # fmt: skip


SEARCHES: list[tuple[str, Strategy]] = [
    ("exact", CascadeRouting()),
    ("beam, 8 wide", CascadeRouting(search="beam")),
    ("beam, 2 wide", CascadeRouting(search="beam", beam_width=2)),
    ("greedy", CascadeRouting(search="greedy")),
    ("pandora", Pandora()),
    ("routing", Routing()),
]


@pytest.mark.parametrize("n_models", [8, 12])
@pytest.mark.parametrize(("name", "kind"), SEARCHES, ids=[name for name, _ in SEARCHES])
def test_search_loss(benchmark: Any, name: str, kind: Strategy, n_models: int) -> None:
    """What a search that does not look at every set loses in area, where all can be looked at."""
    table, estimator = conftest.data(2_000, n_models)
    fit, evaluate = split_rows(table)
    at = budgets(mean_rows(table.cost, fit), mean_rows(table.quality, fit), 10)
    found = benchmark.pedantic(
        frontier, (kind, table, estimator, fit, evaluate, at), rounds=1, warmup_rounds=0
    )
    benchmark.extra_info |= {
        "job": "search", "strategy": name, "queries": 2_000, "models": n_models,
        "area": found.area, "quality on what it was fitted on": float(found.fit_quality.mean()),
    }  # fmt: skip
