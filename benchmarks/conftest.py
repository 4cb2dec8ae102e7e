"""Tables the benchmarks share, and how long a benchmark may take."""

import functools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cascjax import worlds
from cascjax.estimators import Independent, supplied
from cascjax.table import Table

SECONDS = 20.0
"""A benchmark of which a single round would take longer is skipped, and says how long."""


@functools.lru_cache(maxsize=2)
def data(n_queries: int, n_models: int) -> tuple[Table, Independent]:
    """A synthetic world's queries and the estimates it supplies, models in rising mean cost."""
    table = worlds.sample(worlds.make_world(n_models, seed=0), 0, n_queries)
    table = table.sort_models(table.cost.mean(0, dtype=np.float64))
    return table, supplied(table, np.arange(n_queries))


def skip_if_long(one_round: Callable[[int], Any], n_queries: int) -> None:
    """Skips where a round over a few queries shows that all would take too long."""
    few = min(n_queries, 512)
    for _ in range(2):  # the first time compiles
        start = time.perf_counter()
        one_round(few)
        seconds = (time.perf_counter() - start) * n_queries / few
    if few < n_queries and seconds > SECONDS:
        pytest.skip(f"a round would take about {seconds:,.0f} s")


@pytest.fixture(scope="session", autouse=True)
def numpy_pass() -> Callable[[int, int], float]:
    """Seconds of NumPy's (q - lambda c).argmax over N x K, the sanity peer; median of nine."""

    @functools.cache
    def seconds(n_queries: int, n_models: int) -> float:
        table, estimator = data(n_queries, n_models)
        ante, cost = np.asarray(table.quality_ante), np.array(estimator.cost_ante)
        times = []
        for _ in range(9):
            start = time.perf_counter()
            (ante - np.float32(10) * cost).argmax(1)
            times.append(time.perf_counter() - start)
        return float(np.median(times))

    return seconds
