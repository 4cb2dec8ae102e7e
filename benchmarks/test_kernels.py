"""Kernels: microseconds a query and setting, on whatever device there is.

Run with `make bench`, or `pytest benchmarks --benchmark-only`.
"""

from typing import Any

import numpy as np
import pytest

from cascjax import worlds
from cascjax.estimators import supplied
from cascjax.simulate import totals
from cascjax.strategies import STRATEGIES, Sketch, strategy

SETTINGS = 64
SIZES = [("routing", 5), ("routing", 11), ("thresholding", 5), ("thresholding", 11)]
SIZES += [("pandora", 5), ("pandora", 11), ("cascading", 5), ("cascading", 11)]
SIZES += [("cascade-routing", 3), ("cascade-routing", 5), ("cascade-routing", 11)]


def _table(n_queries: int, n_models: int) -> Any:
    table = worlds.sample(worlds.make_world(n_models, seed=0), 0, n_queries)
    return table.sort_models(table.cost.mean(0))


@pytest.mark.parametrize(("name", "n_models"), SIZES)
def test_frontier_pass(benchmark: Any, name: str, n_models: int) -> None:
    """64 settings of one strategy over a table."""
    assert name in STRATEGIES
    n_queries = 10_000 if name == "cascade-routing" and n_models > 5 else 100_000
    table = _table(n_queries, n_models)
    estimator = supplied(table, np.arange(n_queries))
    kind = strategy(name)
    settings = kind.family(Sketch(table, estimator), SETTINGS)

    def one_pass() -> None:
        totals(kind, settings, estimator, table.quality, table.cost, usage=False)

    benchmark.pedantic(one_pass, rounds=5, warmup_rounds=1)
    seconds = benchmark.stats.stats.median
    benchmark.extra_info["ns a query and setting"] = seconds / n_queries / SETTINGS * 1e9


@pytest.mark.parametrize("n_models", [5, 11])
def test_numpy_routing_pass(benchmark: Any, n_models: int) -> None:
    """The sanity peer: one price of routing in NumPy."""
    table = _table(100_000, n_models)
    ante, cost = table.quality_ante, table.cost_ante
    benchmark.pedantic(lambda: (ante - np.float32(10) * cost).argmax(1), rounds=9, warmup_rounds=1)
    seconds = benchmark.stats.stats.median
    benchmark.extra_info["ns a query and setting"] = seconds / table.n_queries * 1e9
