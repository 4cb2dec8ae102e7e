"""Simulate 64 settings of every strategy in one pass over the queries, on the current device.

`extra_info` describes a round; benchmarks/results.py makes tables of it.
"""

from typing import Any

import conftest
import jax
import pytest

from cascjax.search.budgets import SETTINGS
from cascjax.strategies import (
    CascadeRouting,
    Cascading,
    Pandora,
    Routing,
    Strategy,
    Thresholding,
)

QUERIES, MODELS = (10_000, 100_000, 1_000_000), (3, 5, 11, 32, 100)


class Grid(Routing):
    """Routing over (query, price, model), without breakpoints, to compare pandora's grid with."""

    has_breakpoints = False


KINDS: list[tuple[str, Strategy, tuple[int, ...]]] = [
    ("routing", Routing(), MODELS),
    ("routing, as a grid", Grid(), MODELS),
    ("thresholding", Thresholding(), MODELS),
    ("cascading", Cascading(), MODELS),
    ("pandora", Pandora(), MODELS),
    ("cascade-routing", CascadeRouting(), (3, 5, 11)),
    ("cascade-routing, greedy", CascadeRouting(search="greedy"), MODELS),
]
# Size by size: each table is made once.
CELLS = [(name, kind, k, n) for k in MODELS for n in QUERIES for name, kind, ks in KINDS if k in ks]
BEAM = CascadeRouting(search="beam")
CELLS += [("cascade-routing, beam", BEAM, k, 256) for k in (11, 32, 100, 300)]
CELLS += [
    ("cascade-routing, greedy", KINDS[-1][1], 300, 10_000),
    ("pandora", Pandora(), 300, 10_000),
]
IDS = [f"{name}-{k}-{n}" for name, _, k, n in CELLS]


@pytest.mark.parametrize(("name", "kind", "n_models", "n_queries"), CELLS, ids=IDS)
def test_settings(benchmark: Any, name: str, kind: Strategy, n_models: int, n_queries: int) -> None:
    """Simulate 64 settings, cost and quality only."""
    few = n_queries < min(QUERIES)
    count = 2 if few else conftest.rounds(kind, n_queries, n_models)
    warm = 1 if few else conftest.warm_up(n_queries)
    run = conftest.one_pass(kind, n_queries, n_models)
    benchmark.pedantic(run, rounds=count, warmup_rounds=warm)
    seconds = benchmark.stats.stats.median
    benchmark.extra_info |= {
        "job": "pass", "strategy": name, "queries": n_queries, "models": n_models,
        "us": seconds / n_queries / SETTINGS * 1e6,
        "numpy": seconds / conftest.numpy_pass(n_queries, n_models),
    }  # fmt: skip


LARGE: list[tuple[str, Strategy, int]] = [
    ("cascade-routing", CascadeRouting(), 1_000_000),
    ("routing", Routing(), 10_000_000),
    ("pandora", Pandora(), 10_000_000),
]


@pytest.mark.parametrize(("name", "kind", "n_queries"), LARGE, ids=[name for name, *_ in LARGE])
def test_large(benchmark: Any, name: str, kind: Strategy, n_queries: int) -> None:
    """Simulate 11 models on accelerators only: a CPU would take half a minute per round."""
    if jax.default_backend() == "cpu":
        pytest.skip("on accelerators only")
    run = conftest.one_pass(kind, n_queries, 11)
    benchmark.pedantic(run, rounds=3 if n_queries > 1_000_000 else 2, warmup_rounds=1)
    benchmark.extra_info |= {
        "job": "large", "strategy": name, "queries": n_queries, "models": 11,
        "us": benchmark.stats.stats.median / n_queries / SETTINGS * 1e6,
    }  # fmt: skip


@pytest.mark.parametrize("n_models", [5, 11])
def test_usage(benchmark: Any, n_models: int) -> None:
    """Simulate 64 settings with counts of the models that ran."""
    run = conftest.one_pass(Pandora(), 100_000, n_models, usage=True)
    benchmark.pedantic(run, rounds=3, warmup_rounds=1)
    benchmark.extra_info |= {
        "job": "pass", "strategy": "pandora, with counts", "queries": 100_000, "models": n_models,
        "us": benchmark.stats.stats.median / 100_000 / SETTINGS * 1e6,
        "numpy": benchmark.stats.stats.median / conftest.numpy_pass(100_000, n_models),
    }  # fmt: skip
