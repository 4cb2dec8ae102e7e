"""Tables that the benchmarks share, the order they run in, and their time limits."""

import functools
import os
import time
from collections.abc import Callable

import jax
import numpy as np
import pytest

from cascjax import Frontier, Strategy, synthetic
from cascjax.comparison import frontier
from cascjax.data.table import Table, mean_rows, split_rows
from cascjax.engine.simulate import totals
from cascjax.estimators import Estimator, Independent, supplied
from cascjax.metrics import budgets
from cascjax.search.budgets import SETTINGS
from cascjax.strategies import SearchContext

SECONDS = 2.5
"""Benchmarks whose rounds take longer are skipped, with the estimated time as the reason."""

LIMIT = float(os.environ.get("BENCH_SECONDS", "inf"))
"""Seconds after which no benchmark starts, so that the suite ends in time on a slow device."""

FEW = 10_000
"""Queries from which the time of larger tables is estimated."""

MODELS = (11, 5, 3, 8, 12, 32, 100, 300, 4)
"""Numbers of models, the most important first."""

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
"""Benchmarks, the most important first; settings, usage and frontier share their tables."""

_START = time.perf_counter()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort benchmarks by importance, then by table, so that each table is made once."""

    def place(item: pytest.Item) -> tuple[int, int, int, int]:
        name = item.name.split("[")[0].removeprefix("test_")
        params = item.callspec.params  # pyright: ignore[reportAttributeAccessIssue]
        job = JOBS.index(name) if name in JOBS else len(JOBS)
        shared = JOBS.index("settings") if name in ("usage", "frontier") else job
        models = MODELS.index(params["n_models"]) if "n_models" in params else 0
        return shared, models, params.get("n_queries", 100_000), job

    items.sort(key=place)


@pytest.fixture(autouse=True)
def in_time() -> None:
    """Skip benchmarks that would start after the time limit."""
    if time.perf_counter() - _START > LIMIT:
        pytest.skip(f"out of time: {LIMIT:,.0f} s are over")


@functools.lru_cache(maxsize=4)
def data(n_queries: int, n_models: int) -> tuple[Table, Independent]:
    """Return a synthetic table, models in rising mean cost, and its supplied estimates."""
    table = synthetic.sample(synthetic.make_dataset(n_models, seed=0), 0, n_queries)
    table = table.sort_models(mean_rows(table.cost), reuse=True)
    return table, supplied(table, np.arange(n_queries))


def one_pass(
    strategy: Strategy, n_queries: int, n_models: int, *, usage: bool = False
) -> Callable[[], object]:
    """Return a function that simulates 64 settings of a strategy on all queries."""
    table, estimator = data(n_queries, n_models)
    settings = np.asarray(strategy.initial_grid(SearchContext(table, estimator), SETTINGS))
    return lambda: totals(strategy, settings, estimator, table.quality, table.cost, usage=usage)


def half_frontier(
    strategy: Strategy, table: Table, estimator: Estimator, n_budgets: int
) -> Frontier:
    """Return the frontier of a strategy fitted on one half of the queries, scored on the other."""
    fit, evaluate = split_rows(table)
    at = budgets(mean_rows(table.cost, fit), mean_rows(table.quality, fit), n_budgets)
    return frontier(strategy, table, estimator, fit, evaluate, at)


def rounds(strategy: Strategy, n_queries: int, n_models: int, passes: float = 1) -> int:
    """Return how many rounds of this many passes to run; skip where one takes too long."""
    seconds = passes * n_queries * _seconds_per_query(strategy, n_models)
    if seconds > SECONDS:
        pytest.skip(f"a round would take about {seconds:,.0f} s")
    return 3 if seconds < 1 else 2


def warm_up(n_queries: int) -> int:
    """Return the number of warm-up rounds: none where `rounds` has compiled the pass."""
    # On a CPU a block holds at most FEW queries, padded.
    return 0 if jax.default_backend() == "cpu" or n_queries <= FEW else 1


@functools.cache
def _seconds_per_query(strategy: Strategy, n_models: int) -> float:
    seconds = 0.0
    for few in (256, FEW) if n_models >= 32 else (FEW,):
        run = one_pass(strategy, few, n_models)
        run()  # compiles
        times = []
        for _ in range(2):
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
            if times[0] > 1:
                break
        # The smaller of two, so that other load on the machine does not skip rows.
        seconds = min(times) / few
        if FEW * seconds > 2:
            break  # long enough to extrapolate
    return seconds


@functools.cache
def numpy_pass(n_queries: int, n_models: int) -> float:
    """Return the seconds NumPy takes for (q - lambda c).argmax over N x K; median of nine."""
    table, estimator = data(n_queries, n_models)
    # Row by row in memory, where argmax over the last axis is fastest.
    arrays = (table.quality_ante, estimator.cost_ante)
    ante, cost = (np.ascontiguousarray(np.asarray(x)) for x in arrays)
    times = []
    for _ in range(9):
        start = time.perf_counter()
        (ante - np.float32(10) * cost).argmax(1)
        times.append(time.perf_counter() - start)
    return float(np.median(times))
