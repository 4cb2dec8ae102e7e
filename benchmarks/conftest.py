"""Tables the benchmarks share, and how long a benchmark may take."""

import functools
import time
from collections.abc import Callable

import numpy as np
import pytest

from cascjax import worlds
from cascjax.estimators import Independent, supplied
from cascjax.search.budget import SETTINGS
from cascjax.simulate import totals
from cascjax.strategies import Sketch, Strategy
from cascjax.table import Table, mean_rows

SECONDS = 2.5
"""A benchmark of which a single round would take longer is skipped, and says how long."""


@functools.lru_cache(maxsize=4)
def data(n_queries: int, n_models: int) -> tuple[Table, Independent]:
    """A synthetic world's queries and the estimates it supplies, models in rising mean cost."""
    table = worlds.sample(worlds.make_world(n_models, seed=0), 0, n_queries)
    table = table.sort_models(mean_rows(table.cost), reuse=True)
    return table, supplied(table, np.arange(n_queries))


def one_pass(
    kind: Strategy, n_queries: int, n_models: int, *, usage: bool = False
) -> Callable[[], object]:
    """64 settings of a strategy over the queries, ready to run."""
    table, estimator = data(n_queries, n_models)
    sized, settings = kind.sized_for(estimator), kind.family(Sketch(table, estimator), SETTINGS)
    return lambda: totals(sized, settings, estimator, table.quality, table.cost, usage=usage)


def rounds(kind: Strategy, n_queries: int, n_models: int, passes: float = 1) -> int:
    """How many rounds of so many passes to take; skips where one would take too long."""
    seconds = passes * n_queries * _seconds_a_query(kind, n_models)
    if seconds > SECONDS:
        pytest.skip(f"a round would take about {seconds:,.0f} s")
    return 5 if seconds < 1 else 3


@functools.cache
def _seconds_a_query(kind: Strategy, n_models: int) -> float:
    for few in (256, 16_384):
        run = one_pass(kind, few, n_models)
        run()  # compiles
        start = time.perf_counter()
        run()
        seconds = (time.perf_counter() - start) / few
        if 16_384 * seconds > 2:
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
