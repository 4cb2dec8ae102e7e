"""Rolls a strategy over queries: what it runs, what that costs and how good the answers are."""

import functools
import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeAlias, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from cascjax.estimators import Estimator, Independent
from cascjax.strategies import Outcome, Strategy

_CHUNK = 1 << 14
"""Queries a call: one shape for every table, so that each strategy compiles once."""

_BLOCK_FLOATS = 1 << 18
"""Numbers of one block's largest array: what stays in a core's cache."""


Sums: TypeAlias = Float[np.ndarray, "*L"] | Float[Array, "*L"]


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
    count: Sums

    def means(self) -> "Totals":
        """The same per query."""
        return jax.tree.map(lambda total: total / self.count, self)

    def __getitem__(self, index: slice | np.ndarray) -> "Totals":
        """The totals of some settings."""
        picked = jax.tree.map(lambda total: total[index], replace(self, count=None))
        return replace(picked, count=self.count)


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
    progress: Callable[[int], None] = lambda queries: None,
) -> Totals:
    """Sums over all queries of what each setting does, held to the true quality and cost.

    Queries go through in chunks of one size, the chunks in parallel over the cores and each in
    blocks that fit a cache. Sums are float32 within a block and float64 across blocks.

    Args:
        strategy: what to simulate; static.
        parameters: L settings.
        estimator: the estimates of all N queries.
        quality: true qualities.
        cost: true costs.
        progress: called with the number of queries of each chunk as it ends.
    """
    n_queries = len(quality)
    settings = jnp.asarray(parameters, jnp.float32)
    chunk = min(_CHUNK, 1 << max(0, math.ceil(math.log2(n_queries))))
    size = strategy.footprint(quality.shape[1]) * max(1, len(settings))
    block = min(chunk, 1 << max(0, int(math.log2(_BLOCK_FLOATS / max(size, 1)))))

    def one_chunk(start: int) -> Totals:
        rows = slice(start, min(start + chunk, n_queries))
        got = rows.stop - rows.start
        pad = functools.partial(_pad, rows=got, to=chunk)
        part = jax.tree.map(pad, (estimator.take(rows), quality[rows], cost[rows]))
        weight = (np.arange(chunk) < got).astype(np.float32)
        sums = _chunk_totals(strategy, block, settings, *part, weight)
        progress(got)
        return jax.tree.map(lambda sum_: np.asarray(sum_, np.float64).sum(0), sums)

    with ThreadPoolExecutor(_workers()) as pool:
        parts = list(pool.map(one_chunk, range(0, n_queries, chunk)))
    return cast(Totals, jax.tree.map(lambda *sums: np.sum(sums, axis=0), *parts))


def _workers() -> int:
    # XLA runs a loop over blocks on one core; on an accelerator one chunk at a time is enough.
    return (os.cpu_count() or 1) if jax.default_backend() == "cpu" else 1


def _pad(leaf: np.ndarray, rows: int, to: int) -> np.ndarray:
    """Fills a chunk up with copies of its first row, which count for nothing."""
    if len(leaf) != rows or rows == to:
        return leaf  # leaves shared by all queries have one row
    return np.concatenate([leaf, np.broadcast_to(leaf[:1], (to - rows, *leaf.shape[1:]))])


@functools.partial(jax.jit, static_argnums=(0, 1))
def _chunk_totals(
    strategy: Strategy,
    block: int,
    parameters: Float[Array, "L *D"],
    estimator: Estimator,
    quality: Float[Array, "C K"],
    cost: Float[Array, "C K"],
    weight: Float[Array, " C"],
) -> Totals:
    """Sums of each block of a chunk, `[C / block, ...]`."""
    n_queries, k = quality.shape
    one_row = [len(leaf) != n_queries for leaf in jax.tree.leaves(estimator)]
    leaves, tree = jax.tree.flatten(estimator)

    def one_block(start: Array) -> Totals:
        def cut(leaf: Array) -> Array:
            return jax.lax.dynamic_slice_in_dim(leaf, start, block)

        rows = [leaf if one else cut(leaf) for leaf, one in zip(leaves, one_row, strict=True)]
        part: Estimator = jax.tree.unflatten(tree, rows)
        outcome = outcomes(strategy, parameters, part, jnp.zeros((block, k), bool))
        counts = cut(weight)
        ran = outcome.run * counts[:, None]
        answered = (outcome.answer[..., None] == jnp.arange(k)) * counts[:, None]
        depth = jnp.sum(outcome.run, axis=-1)[..., None] == jnp.arange(1, k + 1)
        return Totals(
            cost=jnp.einsum("lbk,bk->l", ran, cut(cost)),
            quality=jnp.einsum("lbk,bk->l", answered, cut(quality)),
            ran=jnp.sum(ran, axis=1),
            answered=jnp.sum(answered, axis=1),
            depth=jnp.sum(depth * counts[:, None], axis=1),
            count=jnp.sum(counts),
        )

    return jax.lax.map(one_block, jnp.arange(0, n_queries, block))
