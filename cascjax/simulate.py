"""Rolls a strategy over queries: what it runs, what that costs and how good the answers are."""

import functools
import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from cascjax.estimators import Estimator, Independent
from cascjax.strategies import Outcome, Strategy
from cascjax.strategies.base import over_models

_BLOCK_FLOATS = 1 << 18
"""Numbers a block of queries may take: what stays in a core's cache."""

_LANES = 64
"""Partial sums kept of a block, so that each adds few enough numbers for float32."""

Sums: TypeAlias = Float[np.ndarray, "..."] | Float[Array, "..."]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Totals:
    """Sums over queries of what L settings of a strategy did.

    Attributes:
        cost: `[L]` true cost of all models run.
        quality: `[L]` true quality of the answers returned.
        ran: `[L, K]` queries each model ran on.
        answered: `[L, K]` queries each model's answer was returned for.
        depth: `[L, K]` queries on which 1, 2, ..., K models ran.
        count: queries.
    """

    cost: Sums
    quality: Sums
    ran: Sums
    answered: Sums
    depth: Sums
    count: Sums | float

    def means(self) -> "Totals":
        """The same per query."""
        return jax.tree.map(lambda total: total / self.count, self)

    def __getitem__(self, index: slice | np.ndarray) -> "Totals":
        """The totals of some settings."""
        return jax.tree.map(lambda total: total[index] if np.ndim(total) else total, self)


def rollout(
    strategy: Strategy,
    parameters: Float[Array, "*D"],
    estimator: Estimator,
    nothing_run: Bool[Array, "B K"],
) -> Outcome:
    """One setting of a strategy, step by step: ask for the next model, run it, until it stops.

    The plain way, for any estimator; `outcomes` is the fast one.
    """

    def one_step(_: Array, run: Bool[Array, "B K"]) -> Bool[Array, "B K"]:
        new = strategy.next_model(parameters, estimator(run), run)
        # one_hot of STOP is all zeros: a query that has stopped stays as it is.
        return run | jax.nn.one_hot(new, run.shape[-1], dtype=bool)

    run = jax.lax.fori_loop(0, strategy.max_steps(nothing_run.shape[-1]), one_step, nothing_run)
    return Outcome(run, strategy.answer(estimator(run), run))


def outcomes(
    strategy: Strategy,
    parameters: Float[Array, "L *D"],
    estimator: Estimator,
    nothing_run: Bool[Array, "B K"],
) -> Outcome:
    """Every setting of a strategy: its own sweep where it has one, else a rollout each."""
    if isinstance(estimator, Independent):
        swept = strategy.sweep(parameters, estimator)
        if swept is not None:
            return swept
    return jax.lax.map(lambda p: rollout(strategy, p, estimator, nothing_run), parameters)


def totals(
    strategy: Strategy,
    parameters: Float[np.ndarray, "L *D"],
    estimator: Estimator,
    quality: Float[np.ndarray, "N K"],
    cost: Float[np.ndarray, "N K"],
    *,
    usage: bool = True,
    progress: Callable[[int], None] = lambda queries: None,
) -> Totals:
    """Sums over all queries of what each setting does, held to the true quality and cost.

    Queries go through in blocks that fit a cache, in parallel over the cores. Sums are float32
    over a few dozen queries and float64 from there on.

    Args:
        strategy: what to simulate; static.
        parameters: L settings.
        estimator: the estimates of all N queries.
        quality: true qualities.
        cost: true costs.
        usage: whether to count what ran; without it `ran`, `answered` and `depth` are empty.
        progress: called with the number of queries of each block as it ends, from any of the
            threads that work on blocks.
    """
    n_queries, k = quality.shape
    settings = jnp.asarray(parameters, jnp.float32)
    strategy = strategy.sized_for(estimator)
    room = _BLOCK_FLOATS // max(1, strategy.footprint(k) + len(settings))
    size = _power_of_two(min(n_queries, max(_LANES, room)))
    # Independent estimates are matrices, which turn; what other estimators hold is theirs to cut.
    turned = isinstance(estimator, Independent)

    def one_block(start: int) -> Totals:
        rows = slice(start, min(start + size, n_queries))
        got = rows.stop - rows.start
        # A whole block is a view; rows that fill the last one up repeat its first.
        filled = rows if got == size else np.r_[rows, np.full(size - got, start)]
        leaves, tree = jax.tree.flatten(estimator.take(filled))
        beliefs = [np.ascontiguousarray(leaf.T) for leaf in leaves] if turned else leaves
        # Zero truth for the rows that fill a block up: they count for nothing.
        truth = [np.zeros((k, size), np.float32) for _ in range(2)]
        for block, column in zip(truth, (quality, cost), strict=True):
            block[:, :got] = column[rows].T
        weight = (np.arange(size) < got).astype(np.float32)
        run, answer = _block_outcomes(strategy, (size, k), tree, turned, settings, beliefs)
        sums = _block_sums(usage, run, answer, *truth, weight)
        progress(got)
        return jax.tree.map(lambda lanes: np.asarray(lanes, np.float64).sum(-1), sums)

    starts = range(0, n_queries, size)
    with ThreadPoolExecutor(_workers()) as pool:
        parts = list(pool.map(one_block, starts))
    return cast(Totals, jax.tree.map(lambda *sums: np.sum(sums, axis=0), *parts))


def _power_of_two(least: int) -> int:
    return 1 << max(0, math.ceil(math.log2(least)))


def _workers() -> int:
    # XLA runs a loop over blocks on one core; on an accelerator one chunk at a time is enough.
    return (os.cpu_count() or 1) if jax.default_backend() == "cpu" else 1


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _block_outcomes(
    strategy: Strategy,
    shape: tuple[int, int],
    tree: Any,
    turned: bool,
    parameters: Float[Array, "L *D"],
    beliefs: list[Array],
) -> tuple[Bool[Array, "K L B"], Int[Array, "L B"]]:
    """What ran and what was answered, models first; `turned` beliefs have queries last."""
    leaves = [leaf.T for leaf in beliefs] if turned else beliefs
    estimator: Estimator = jax.tree.unflatten(tree, leaves)
    outcome = outcomes(strategy, parameters, estimator, jnp.zeros(shape, bool))
    return jnp.moveaxis(outcome.run, -1, 0), outcome.answer


@functools.partial(jax.jit, static_argnums=0)
def _block_sums(
    usage: bool,
    run: Bool[Array, "K L B"],
    answer: Int[Array, "L B"],
    quality: Float[Array, "K B"],
    cost: Float[Array, "K B"],
    weight: Float[Array, " B"],
) -> Totals:
    """Sums over a block of queries, each left as a few lanes for float64 on the host to add.

    A program of its own: the outcome is worked out once, however many sums are taken of it.
    """
    k, size = quality.shape

    def lanes(x: Float[Array, "*L B"]) -> Float[Array, "*L S"]:
        width = min(size, _LANES)
        return jnp.sum(x.reshape(*x.shape[:-1], size // width, width), axis=-2)

    def spend(total: tuple[Array, Array], model: tuple[Array, ...]) -> tuple[Any, None]:
        index, run, quality, cost = model
        got = jnp.where(answer == index, quality, total[1])
        return (total[0] + jnp.where(run, cost, 0), got), None

    zero = jnp.zeros(answer.shape)
    (spent, got), _ = over_models(spend, (zero, zero), run, quality, cost)
    counts = [jnp.zeros((0, 1))] * 3
    if usage:

        def count(depth: Array, model: tuple[Array, ...]) -> tuple[Any, tuple[Array, Array]]:
            index, run = model
            answered = lanes((answer == index) * weight)
            return depth + run, (lanes(run * weight), answered)

        depth, (ran, answered) = over_models(count, jnp.zeros(answer.shape, jnp.int32), run)
        deep = [lanes((depth == d + 1) * weight) for d in range(k)]
        counts = [jnp.swapaxes(c, 0, 1) for c in (ran, answered, jnp.stack(deep))]
    return Totals(lanes(spent), lanes(got), *counts, count=lanes(weight))
