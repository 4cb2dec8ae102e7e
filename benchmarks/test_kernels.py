"""64 settings of every strategy in one pass over the queries, on whatever device there is.

`make bench` runs this and writes the table of benchmarks/RESULTS.md; by itself it is
`pytest benchmarks --benchmark-only`. `extra_info` says what a round was: rows of the table.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import conftest
import numpy as np
import pytest

from cascjax.search.budget import SETTINGS
from cascjax.simulate import totals
from cascjax.strategies import CascadeRouting, Cascading, Pandora, Routing, Sketch, Strategy
from cascjax.strategies import Thresholding

QUERIES, MODELS = (10_000, 100_000, 1_000_000), (3, 5, 11, 32, 100)
EXACT = (3, 5, 11)
KINDS: list[tuple[str, Strategy, tuple[int, ...]]] = [
    ("routing", Routing(), MODELS),
    ("thresholding", Thresholding(), MODELS),
    ("cascading", Cascading(), MODELS),
    ("pandora", Pandora(), MODELS),
    ("cascade-routing", CascadeRouting(), EXACT),
    ("cascade-routing, greedy", CascadeRouting(search="greedy"), MODELS),
    ("cascade-routing, beam", CascadeRouting(search="beam"), (11, 32, 100)),
]
CELLS = [(name, kind, k, n) for name, kind, ks in KINDS for k in ks for n in QUERIES]
IDS = [f"{name}-{k}-{n}" for name, _, k, n in CELLS]
BEAM = 512
"""Queries at most for the beam, at about 0.2 ms each for every setting."""


@pytest.mark.parametrize(("name", "kind", "n_models", "n_queries"), CELLS, ids=IDS)
def test_settings(
    benchmark: Any,
    name: str,
    kind: Strategy,
    n_models: int,
    n_queries: int,
    numpy_pass: Callable[[int, int], float],
) -> None:
    """64 settings, cost and quality alone."""
    if name.endswith("beam"):
        if n_queries > min(QUERIES):
            pytest.skip("its time a query does not depend on how many there are")
        n_queries = BEAM
    table, estimator = conftest.data(n_queries, n_models)
    sized = kind.sized_for(estimator)
    settings = kind.family(Sketch(table, estimator), SETTINGS)

    def one_round(n: int) -> None:
        part = estimator if n == n_queries else estimator.take(slice(0, n))
        totals(sized, settings, part, table.quality[:n], table.cost[:n], usage=False)

    conftest.skip_if_long(one_round, n_queries)
    benchmark.pedantic(one_round, (n_queries,), rounds=5, warmup_rounds=1)
    seconds = benchmark.stats.stats.median
    benchmark.extra_info |= {
        "job": "64 settings", "strategy": name, "queries": n_queries, "models": n_models,
        "us a query and setting": seconds / n_queries / SETTINGS * 1e6,
        "numpy passes": seconds / numpy_pass(n_queries, n_models),
    }  # fmt: skip


@pytest.mark.parametrize("n_models", MODELS)
def test_grid(benchmark: Any, n_models: int, numpy_pass: Callable[[int, int], float]) -> None:
    """Routing price by price, over (query, price, model): what pandora's grid is held to."""

    class Grid(Routing):
        staged = False

    n_queries = 1_000_000 if n_models <= 11 else 100_000
    table, estimator = conftest.data(n_queries, n_models)
    settings = Routing().family(Sketch(table, estimator), SETTINGS)

    def one_round() -> None:
        totals(Grid(), settings, estimator, table.quality, table.cost, usage=False)

    benchmark.pedantic(one_round, rounds=5, warmup_rounds=1)
    seconds = benchmark.stats.stats.median
    benchmark.extra_info |= {
        "job": "64 settings", "strategy": "routing, as a grid", "queries": n_queries,
        "models": n_models, "us a query and setting": seconds / n_queries / SETTINGS * 1e6,
        "numpy passes": seconds / numpy_pass(n_queries, n_models),
    }  # fmt: skip


@pytest.mark.parametrize("n_models", [5, 11])
def test_usage(benchmark: Any, n_models: int) -> None:
    """What counting which models ran adds, for a strategy of each kind."""
    table, estimator = conftest.data(100_000, n_models)
    kind = replace(Pandora())
    settings = kind.family(Sketch(table, estimator), SETTINGS)

    def one_round() -> None:
        totals(kind, settings, estimator, table.quality, table.cost, usage=True)

    benchmark.pedantic(one_round, rounds=5, warmup_rounds=1)
    seconds = benchmark.stats.stats.median
    benchmark.extra_info |= {
        "job": "64 settings with counts", "strategy": "pandora", "queries": 100_000,
        "models": n_models, "us a query and setting": seconds / 100_000 / SETTINGS * 1e6,
    }  # fmt: skip
