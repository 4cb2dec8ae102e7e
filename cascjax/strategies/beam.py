"""Beam and greedy search for the best superset, where there are too many to enumerate."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from cascjax.core.expected_max import LEAST_GAIN, Maximum, expected_improvement
from cascjax.core.sweep import STOP

_CANDIDATES = 16  # Independent models a beam looks at, or twice its width if that is more


def best_first_model(
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
    """Return the first model of the best superset a beam finds, or `STOP` where none pays.

    Supersets grow by one model per level, in rising index so that none is built twice; of each
    size the `width` best by V - lambda C live on. Where there are many independent models, only
    those of the highest worth alone take part: a model adds to no set more than it adds alone.
    The cost is what each model would add, 0 for those run; `max_depth` counts those run as well.
    """
    k = mean.shape[-1]
    none = ~jnp.any(run, axis=-1)
    room = jnp.minimum(levels, max_depth - jnp.sum(run, axis=-1))
    few = max(_CANDIDATES, 2 * width)
    diagonal = covariance if covariance.ndim == 2 else jnp.diagonal(covariance, axis1=-2, axis2=-1)
    sigma = jnp.sqrt(diagonal)
    least = LEAST_GAIN * jnp.max(sigma, axis=-1)
    if covariance.ndim == 3 or k <= few:
        maximum = Maximum.of(mean, covariance, panels=panels)
        pool = _Pool(maximum, maximum.among(run), run, cost, none, room, least)
        return _grown(price, pool, width, min(levels, max_depth, k))
    # What has run is known: only the best of it counts. Before, a number below all.
    lowest = jnp.min(mean - 8 * sigma, axis=-1)
    incumbent = jnp.where(none, lowest, jnp.max(jnp.where(run, mean, -jnp.inf), axis=-1))
    alone = expected_improvement(incumbent[:, None], mean, sigma) - price[:, None] * cost
    _, promising = jax.lax.top_k(jnp.where(run, -jnp.inf, alone), few)
    promising = jnp.sort(promising, axis=-1)

    def of_few(x: Float[Array, "B K"], last: Float[Array, " B"]) -> Float[Array, "B C"]:
        return jnp.concatenate([jnp.take_along_axis(x, promising, axis=-1), last[:, None]], -1)

    nothing = jnp.zeros_like(lowest)
    maximum = Maximum.of(of_few(mean, incumbent), of_few(covariance, nothing), panels=panels)
    shut = of_few(run.astype(mean.dtype), nothing + 1) > 0
    held = maximum.among(jnp.broadcast_to(jnp.arange(few + 1) == few, shut.shape))
    pool = _Pool(maximum, held, shut, of_few(cost, nothing), none, room, least)
    first = _grown(price, pool, width, min(levels, max_depth))
    model = jnp.take_along_axis(promising, jnp.maximum(first, 0)[:, None], axis=-1)[:, 0]
    return jnp.where(first == STOP, STOP, model)


@dataclass(frozen=True)
class _Pool:
    """What a beam chooses from."""

    maximum: Maximum
    held: Float[Array, "B X"]  # the maximum of what has run
    shut: Bool[Array, "B C"]  # models that may not be added
    cost: Float[Array, "B C"]
    none: Bool[Array, " B"]  # whether nothing has run, so that something must
    room: Int[Array, " B"]  # number of models that may be added
    least: Float[Array, " B"]  # gain that a model must add to count


def _grown(price: Float[Array, " B"], pool: _Pool, width: int, levels: int) -> Int[Array, " B"]:
    """Return the first model of the best superset of so many levels."""
    maximum, cost = pool.maximum, pool.cost
    n_queries, k = cost.shape
    # The first beam is what has run; the others are dead until they are filled.
    held = pool.held[:, None].repeat(width, axis=1)
    alive = jnp.where(jnp.arange(width) == 0, 0.0, -jnp.inf) * jnp.ones((n_queries, 1))
    spent = jnp.zeros((n_queries, width))
    last = jnp.full((n_queries, width), -1)
    first = jnp.full((n_queries, width), STOP)
    stay = maximum.value(held)[:, 0]
    least = stay + pool.least
    best_worth = jnp.where(pool.none, -jnp.inf, stay)
    best_first = jnp.full(n_queries, STOP)
    query = jnp.arange(n_queries)[:, None]

    def grow(level: Array, state: tuple[Array, ...]) -> tuple[Array, ...]:
        held, alive, spent, last, first, best_worth, best_first = state
        value = maximum.values_with_each(held)
        # A gain that is only rounding is none: else it would decide where cost is no object.
        real = pool.none[:, None, None] | (value > least[:, None, None])
        value = jnp.where(real, value, stay[:, None, None])
        worth = value - price[:, None, None] * (spent[..., None] + cost[:, None, :])
        open_ = (jnp.arange(k) > last[..., None]) & ~pool.shut[:, None, :]
        open_ &= (level < pool.room)[:, None, None] & (alive[..., None] == 0)
        worth = jnp.where(open_, worth, -jnp.inf)
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
    return jax.lax.fori_loop(0, levels, grow, state)[-1]
