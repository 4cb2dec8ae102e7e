"""Estimators that are not independent, memory that does not suffice, and what is refused first."""

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Bool, Float

from cascjax.comparison import compare
from cascjax.core.sweep import rollout
from cascjax.data.table import Table
from cascjax.engine.blocks import Block, BlockSizes, Queries, use_block_sizes
from cascjax.engine.simulate import query_spends, totals
from cascjax.errors import CascjaxError
from cascjax.estimators import Estimates, Independent
from cascjax.strategies import CascadeRouting, Pandora, Routing, Strategy, Thresholding

N, K, MANY = 37, 3, 300

PRICES = np.array([0.01, 0.3, 2.0])


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Shared:
    """Independent estimates whose covariance is one matrix for all queries, not diagonal in form.

    It holds a leaf of K rows beside leaves of N: what is cut by query is the estimator's to say.
    """

    inner: Independent
    matrix: Float[Array, "K K"] | Float[np.ndarray, "K K"]

    def __call__(self, run: Bool[Array, "B K"]) -> Estimates:
        ahead = ~run[:, :, None] & ~run[:, None, :]
        return replace(self.inner(run), covariance=jnp.where(ahead, self.matrix, 0))

    def take(self, rows: slice | np.ndarray) -> "Shared":
        return Shared(self.inner.take(rows), self.matrix)


def estimates(n_queries: int = MANY, seed: int = 0) -> Independent:
    ante, post, price = np.random.default_rng(seed).random((3, n_queries, K)).astype(np.float32)
    return Independent(ante, post, np.full((1, K), 0.3, np.float32), price, price)


def truths(n_queries: int, count: int = 2) -> np.ndarray:
    return np.random.default_rng(9).random((count, n_queries, K)).astype(np.float32)


@pytest.mark.parametrize("n_queries", [N, K])
@pytest.mark.parametrize("strategy", [Routing(), Pandora()])
def test_any_estimator_is_simulated(strategy: Routing | Pandora, n_queries: int) -> None:
    inner, given = estimates(n_queries, n_queries), truths(n_queries)
    shared = Shared(inner, np.diag(np.square(np.asarray(inner.sigma)[0])))
    fast, plain = (totals(strategy, PRICES, of, *given) for of in (inner, shared))
    # The same choices on every query; sums of a few dozen float32 numbers.
    np.testing.assert_array_equal(plain.ran, fast.ran)
    np.testing.assert_allclose(plain.cost, fast.cost, rtol=1e-6)
    np.testing.assert_allclose(plain.quality, fast.quality, rtol=1e-6)


@pytest.mark.parametrize("kind", [Pandora(), CascadeRouting(max_depth=2)])
def test_several_costs_in_one_pass_are_those_one_by_one(kind: Strategy) -> None:
    quality, cost, *extra = truths(MANY, 4)
    given = (kind, PRICES, estimates(), quality)
    for usage in (True, False):
        both = totals(*given, cost, usage=usage, extra_costs=extra)
        each = [totals(*given, of, usage=usage) for of in (cost, *extra)]
        # Added up in the same order, but in programs of their own.
        np.testing.assert_allclose(both.cost, np.stack([e.cost for e in each], 1), rtol=1e-6)
        np.testing.assert_allclose(both.quality, each[0].quality, rtol=1e-6)
        np.testing.assert_array_equal(both.ran, each[0].ran)


# Blocks that do not fit in memory.

OUT_OF_MEMORY = [
    lambda: jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes"),
    MemoryError,
]


@dataclass(frozen=True)
class Cut(Independent):
    """Estimates of which no more than so many queries can be cut at once."""

    most: int = MANY

    def take(self, rows: slice | np.ndarray) -> Independent:
        if not isinstance(rows, slice) and len(rows) > self.most:
            raise MemoryError
        return super().take(rows)


def summed(
    room: int, most: int, error: Callable[[], Exception]
) -> tuple[np.ndarray, list[int], list[str]]:
    """Sums of whole numbers by a kernel that works on blocks of at most so many queries."""
    truth = np.arange(MANY * K, dtype=np.float32).reshape(MANY, K)
    queries, seen = Queries(estimates(), truth, truth, range(MANY)), []

    def kernel(block: Block) -> np.ndarray:
        if block.quality.shape[-1] > most:
            raise error()
        return np.where(block.real[:, None], block.quality, 0).sum((0, 2), dtype=np.float64)

    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        sums = queries.in_blocks(kernel, room, seen.append)
    np.testing.assert_array_equal(sums, truth.sum(0, dtype=np.float64))
    return sums, seen, [str(w.message) for w in warned]


SAID = "a block of {} queries does not fit in memory: going on with {}"


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=["device", "host"])
def test_a_block_that_does_not_fit_is_halved(error: Callable[[], Exception]) -> None:
    # Several blocks, on which threads come to fail at the same time.
    _, seen, warned = summed(128, 32, error)
    assert sorted(warned) == sorted([SAID.format(128, 64), SAID.format(64, 32)])
    assert (sum(seen), max(seen)) == (MANY, 32)


@pytest.mark.parametrize("most", [1, 16])
def test_the_only_block_is_halved_as_often_as_need_be(most: int) -> None:
    _, seen, warned = summed(1 << 20, most, MemoryError)
    assert len(warned) == (9 if most == 1 else 5)  # from 512 on
    assert sum(seen) == MANY


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=["device", "host"])
def test_not_even_one_query_fits(error: Callable[[], Exception]) -> None:
    said = "does not hold a single query; use fewer models or settings"
    with pytest.raises(CascjaxError, match=said) as info:
        summed(128, 0, error)
    assert "\n" not in str(info.value)
    assert isinstance(info.value.__cause__, type(error()))


@pytest.mark.parametrize(
    "error", [jax.errors.JaxRuntimeError("INTERNAL: no"), ValueError("no")], ids=["JAX", "other"]
)
def test_another_error_passes_through(error: Exception) -> None:
    with pytest.raises(type(error), match="no") as info:
        summed(128, 0, lambda: error)
    assert info.value is error


@pytest.mark.parametrize("kind", [Routing(), Pandora()], ids=lambda kind: kind.name)
def test_rows_that_cannot_be_cut_for_want_of_memory_are_halved_too(kind: Strategy) -> None:
    # Sums that float32 holds exactly, so that blocks of any size give the same.
    quality, cost = (np.random.default_rng(0).integers(0, 65, (2, MANY, K)) / 64).astype(np.float32)
    expected = totals(kind, PRICES, estimates(), quality, cost)
    short = Cut(*jax.tree.leaves(estimates()), most=64)
    with pytest.warns(RuntimeWarning, match="does not fit"):
        found = totals(kind, PRICES, short, quality, cost, rows=np.arange(MANY))
    for f in fields(found):
        np.testing.assert_array_equal(getattr(found, f.name), getattr(expected, f.name), f.name)


# What is refused before anything is simulated.


@pytest.mark.parametrize("shared", [True, False], ids=["one for all", "one a query"])
@pytest.mark.parametrize("wrong", [-0.1, np.nan, np.inf])
def test_a_sigma_that_is_none_is_refused_before_anything_is_simulated(
    wrong: float, shared: bool
) -> None:
    rng = np.random.default_rng(0)
    quality, cost = rng.random((2, N, K)).astype(np.float32)
    table = Table(quality, cost * np.array([1, 2, 4], np.float32), models=("a", "b", "c"))
    sigma = np.full((1 if shared else N, K), 0.1, np.float32)
    sigma[-1, 1] = wrong
    estimator = Independent(quality, quality, sigma, cost, cost)

    with pytest.raises(CascjaxError, match=re.escape("'b'")) as info:
        compare(table, [Routing(), Pandora()], estimator)
    message = str(info.value)
    assert "\n" not in message
    assert "sigma" in message
    assert shared or str(N - 1) in message


def test_sorting_in_place_leaves_shared_columns_right() -> None:
    cost = np.array([[3.0, 1.0], [3.0, 1.0]], np.float32)
    for shared in (True, False):
        quality = np.array([[0.2, 0.8], [0.4, 0.6]], np.float32)
        post = quality if shared else quality.copy()
        models = ("expensive", "cheap")
        table = Table(quality, cost.copy(), quality_post=post, models=models)
        found = table.sort_models(cost.mean(0), reuse=True)
        assert found.models == ("cheap", "expensive")
        np.testing.assert_allclose(found.quality, [[0.8, 0.2], [0.6, 0.4]], rtol=1e-6)
        np.testing.assert_array_equal(found.quality_post, found.quality)
        np.testing.assert_array_equal(found.cost, cost[:, ::-1])


# Query by query.


@pytest.mark.parametrize("rows", [None, np.array([5, 0, 5, MANY - 1])], ids=["all", "some"])
@pytest.mark.parametrize("kind", [Thresholding(), Pandora()], ids=lambda kind: kind.name)
def test_each_query_spends_what_was_run(kind: Strategy, rows: np.ndarray | None) -> None:
    estimator, (quality, cost) = estimates(), truths(MANY)
    settings = np.array([0.01, 0.3, 0.6, 2.0])
    with use_block_sizes(BlockSizes(floats=64 * 32)):  # blocks, and a part of one
        spent, got = query_spends(kind, settings, estimator, quality, cost, rows=rows)
    some = np.arange(MANY) if rows is None else rows
    assert spent.shape == got.shape == (4, len(some))
    step = jax.jit(rollout, static_argnums=0)
    for at, setting in enumerate(settings):
        went = step(kind, jnp.float32(setting), estimator, jnp.zeros((MANY, K), bool))
        run, answer = np.asarray(went.run)[some], np.asarray(went.answer)[some]
        np.testing.assert_allclose(spent[at], (run * cost[some]).sum(-1), rtol=1e-6)
        np.testing.assert_array_equal(got[at], quality[some, answer])
    sums = totals(kind, settings, estimator, quality, cost, rows=rows)
    np.testing.assert_allclose(spent.sum(1, dtype=float), sums.cost, rtol=1e-5)
    np.testing.assert_allclose(got.sum(1, dtype=float), sums.quality, rtol=1e-5)
    assert len(np.unique(spent.mean(1))) > 1  # else any rows would do
