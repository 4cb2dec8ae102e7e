"""Beam and greedy search for the best superset, where there are too many to enumerate."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from cascjax.expected_max import Maximum
from cascjax.strategies.base import STOP


def best_addition(
    price: Float[Array, " B"],
    mean: Float[Array, "B K"],
    covariance: Float[Array, "B K"] | Float[Array, "B K K"],
    cost: Float[Array, "B K"],
    run: Bool[Array, "B K"],
    *,
    width: int,
    levels: int,
    max_depth: int,
    panels: int | None = None,
) -> Int[Array, " B"]:
    """First model of the best superset a beam finds, or `STOP` where nothing added pays.

    Supersets grow by one model a level, in rising index so that none is built twice; of each
    size the `width` best by V - lambda C live on.

    Args:
        price: lambda.
        mean: quality means.
        covariance: variances, or matrices.
        cost: what each model would add, 0 for those run.
        run: what has run.
        width: supersets that live on a level.
        levels: models added at most.
        max_depth: models run at most, those in `run` counted.
        panels: cuts of the quadrature, see `expected_max.panels_needed`.
    """
    n_queries, k = run.shape
    maximum = Maximum.of(mean, covariance, panels=panels)
    room = max_depth - jnp.sum(run, axis=-1)
    none = ~jnp.any(run, axis=-1)
    # One beam to start with, what has run; the others are dead until they are filled.
    held = maximum.among(run)[:, None].repeat(width, axis=1)
    alive = jnp.where(jnp.arange(width) == 0, 0.0, -jnp.inf) * jnp.ones((n_queries, 1))
    spent = jnp.zeros((n_queries, width))
    last = jnp.full((n_queries, width), -1)
    first = jnp.full((n_queries, width), STOP)
    best_worth = jnp.where(none, -jnp.inf, maximum.value(held)[:, 0])
    best_first = jnp.full(n_queries, STOP)
    query = jnp.arange(n_queries)[:, None]

    def grow(level: Array, state: tuple[Array, ...]) -> tuple[Array, ...]:
        held, alive, spent, last, first, best_worth, best_first = state
        value = maximum.values_with_each(held)
        worth = value - price[:, None, None] * (spent[..., None] + cost[:, None, :])
        model = jnp.arange(k)
        open_ = (model > last[..., None]) & ~run[:, None, :] & (level < room)[:, None, None]
        worth = jnp.where(open_ & (alive[..., None] == 0), worth, -jnp.inf)
        top, index = jax.lax.top_k(worth.reshape(n_queries, -1), width)
        parent, new = index // k, index % k
        first = jnp.where(first[query, parent] == STOP, new, first[query, parent])
        better = top[:, 0] > best_worth
        return (
            maximum.extend(held[query, parent], new),
            jnp.where(jnp.isfinite(top), 0.0, -jnp.inf),
            spent[query, parent] + cost[query, new],
            new,
            first,
            jnp.where(better, top[:, 0], best_worth),
            jnp.where(better, first[:, 0], best_first),
        )

    state = (held, alive, spent, last, first, best_worth, best_first)
    return jax.lax.fori_loop(0, min(levels, max_depth, k), grow, state)[-1]
