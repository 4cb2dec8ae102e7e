"""Tables the benchmarks share, the order they are run in, and how long one may take."""

import functools
import os
import time
from collections.abc import Callable

import jax
import numpy as np
import pytest

from cascjax import synthetic
from cascjax.data.table import Table, mean_rows
from cascjax.engine.simulate import totals
from cascjax.estimators import Independent, supplied
from cascjax.search.budgets import SETTINGS
from cascjax.strategies import SearchContext, Strategy

SECONDS = 2.5
"""A benchmark of which a single round would take longer is skipped, and says how long."""

LIMIT = float(os.environ.get("BENCH_SECONDS", "inf"))
"""Seconds after which no benchmark begins: a slow device ends in time, with rows missing."""

FEW = 10_000
"""Queries by which the time of more is told; of many models a few of these come first."""

MODELS = (11, 5, 3, 8, 12, 32, 100, 300, 4)
"""Numbers of models, those that matter most first."""

JOBS = (
    "large",
    "bootstrap",
    "next_model",
    "learned_next_model",
    "settings",
    "usage",
    "frontier",
    "learned",
)
"""Benchmarks, those that matter most first; settings, usage and frontiers share their tables."""

_START = time.perf_counter()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What matters most comes first, and table by table: each is made once."""

    def place(item: pytest.Item) -> tuple[int, int, int, int]:
        name = item.name.split("[")[0].removeprefix("test_")
        given = item.callspec.params  # pyright: ignore[reportAttributeAccessIssue]
        job = JOBS.index(name) if name in JOBS else len(JOBS)
        shared = JOBS.index("settings") if name in ("usage", "frontier") else job
        models = MODELS.index(given["n_models"]) if "n_models" in given else 0
        return shared, models, given.get("n_queries", 100_000), job

    items.sort(key=place)


@pytest.fixture(autouse=True)
def in_time() -> None:
    """Skips what would begin too late."""
    if time.perf_counter() - _START > LIMIT:
        pytest.skip(f"out of time: {LIMIT:,.0f} s are over")


@functools.lru_cache(maxsize=4)
def data(n_queries: int, n_models: int) -> tuple[Table, Independent]:
    """A synthetic world's queries and the estimates it supplies, models in rising mean cost."""
    table = synthetic.sample(synthetic.make_dataset(n_models, seed=0), 0, n_queries)
    table = table.sort_models(mean_rows(table.cost), reuse=True)
    return table, supplied(table, np.arange(n_queries))


def one_pass(
    kind: Strategy, n_queries: int, n_models: int, *, usage: bool = False
) -> Callable[[], object]:
    """64 settings of a strategy over the queries, ready to run."""
    table, estimator = data(n_queries, n_models)
    settings = kind.initial_grid(SearchContext(table, estimator), SETTINGS)
    return lambda: totals(kind, settings, estimator, table.quality, table.cost, usage=usage)


def rounds(kind: Strategy, n_queries: int, n_models: int, passes: float = 1) -> int:
    """How many rounds of so many passes to take; skips where one would take too long."""
    seconds = passes * n_queries * _seconds_a_query(kind, n_models)
    if seconds > SECONDS:
        pytest.skip(f"a round would take about {seconds:,.0f} s")
    return 3 if seconds < 1 else 2


def warm_up(n_queries: int) -> int:
    """Rounds before those that count: none where `rounds` has compiled what a pass needs."""
    # On a CPU a block holds no more queries than FEW, filled up.
    return 0 if jax.default_backend() == "cpu" or n_queries <= FEW else 1


@functools.cache
def _seconds_a_query(kind: Strategy, n_models: int) -> float:
    seconds = 0.0
    for few in (256, FEW) if n_models >= 32 else (FEW,):
        run = one_pass(kind, few, n_models)
        run()  # compiles
        times = []
        for _ in range(2):
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
            if times[0] > 1:
                break
        # The less of two, so that others on the machine do not have rows skipped.
        seconds = min(times) / few
        if FEW * seconds > 2:
            break  # long enough to tell
    return seconds


@functools.cache
def numpy_pass(n_queries: int, n_models: int) -> float:
    """Seconds of NumPy's (q - lambda c).argmax over N x K, the sanity peer; median of nine."""
    table, estimator = data(n_queries, n_models)
    # Row by row in memory, as argmax over the last axis is fastest.
    both = (table.quality_ante, estimator.cost_ante)
    ante, cost = (np.ascontiguousarray(np.asarray(x)) for x in both)
    times = []
    for _ in range(9):
        start = time.perf_counter()
        (ante - np.float32(10) * cost).argmax(1)
        times.append(time.perf_counter() - start)
    return float(np.median(times))
