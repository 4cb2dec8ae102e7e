"""Line searches for pandora's corrections, on the exact outcome of every query.

Move one model's reservation value z while all others stay, and let k be the highest kappa of the
others. Below k the model does not run and nothing changes. From k on it runs; where its answer is
better than k it is returned, and the others run whose z is at least min(post, z). So any
number of places along a line cost one pass over the others each, without derivative or
temperature.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cascjax.core.arrays import materialize
from cascjax.core.reservation import reservation_value
from cascjax.estimators import Independent

_PLACES = np.array([0, -1, -0.75, -0.5, -0.25, 0.25, 0.5, 0.75, 1], np.float32)
"""Places looked at on a line, in widths; the present place comes first and wins ties."""

_COMMON, _PRICE = 0.7, 1.5
"""Width along the common scale of all sigmas and along the price, relative to one model's."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Queries:
    """Estimates and truth of n queries, models first; an offset has the RMS sigma as its unit."""

    ante: Float[Array, "*K n"]
    post: Float[Array, "*K n"]
    sigma: Float[Array, "*K n"]
    cost_ante: Float[Array, "*K n"]
    quality: Float[Array, "*K n"]
    cost: Float[Array, "*K n"]
    unit: Float[Array, " *K"]

    @classmethod
    def make(
        cls,
        estimator: Independent,
        quality: Float[np.ndarray, "n K"],
        cost: Float[np.ndarray, "n K"],
    ) -> "Queries":
        """Return the queries of `[n, K]` arrays, transposed."""
        estimates = (
            estimator.quality_ante, estimator.quality_post, estimator.sigma, estimator.cost_ante
        )  # fmt: skip
        rows_last = (
            jnp.asarray(np.broadcast_to(np.asarray(x), quality.shape).T, jnp.float32)
            for x in (*estimates, quality, cost)
        )
        unit = jnp.sqrt(jnp.mean(jnp.square(jnp.asarray(estimator.sigma)), axis=0))
        return cls(*rows_last, unit=unit)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Corrected:
    """Corrections that all budgets share, and a price for each.

    `log_scale` multiplies sigma; `shift` is added to quality before a model has run, in units of
    its sigma.
    """

    log_scale: Float[Array, " K"]
    shift: Float[Array, " K"]
    log_price: Float[Array, " P"]


@jax.jit
def improved(
    queries: Queries,
    weight: Float[Array, " n"],
    multiplier: Float[Array, " P"],
    pull: Float[Array, ""],
    width: Float[Array, ""],
    state: Corrected,
) -> tuple[Corrected, Float[Array, ""]]:
    """Return the state after one round of line searches, and the objective, which never falls.

    The objective is the mean over budgets of quality - mu cost, less `pull` times the squared
    corrections. Scales are penalised by their distance from their mean, as a scale that all sigmas
    share is one number and not K. The common scale is searched first, then every budget's price,
    then each model's offset and scale, `width` in units of sigma and of the logarithm of the scale.
    """
    places = jnp.asarray(_PLACES) * width
    k = len(queries.ante)

    def penalty(log_scale: Float[Array, "*L K"], shift: Float[Array, "*L K"]) -> Array:
        apart = log_scale - jnp.mean(log_scale, axis=-1, keepdims=True)
        return pull * jnp.sum(apart**2 + shift**2, axis=-1)

    def along_scales(state: Corrected) -> Corrected:
        tried = state.log_scale + _COMMON * places[:, None]
        worth = jax.lax.map(
            lambda budget: _worth(queries, weight, tried, state.shift, *budget),
            (state.log_price[:, None], multiplier),
        )
        best = jnp.argmax(jnp.mean(worth, axis=0))
        return Corrected(tried[best], state.shift, state.log_price)

    def along_prices(state: Corrected) -> Corrected:
        def best_price(budget: tuple[Array, Array]) -> Array:
            log_price, multiplier = budget
            tried = log_price + _PRICE * places
            scale = state.log_scale[None]
            worth = _worth(queries, weight, scale, state.shift, tried, multiplier)
            return tried[jnp.argmax(worth)]

        best = jax.lax.map(best_price, (state.log_price, multiplier))
        return Corrected(state.log_scale, state.shift, best)

    def along_model(i: Array, carry: tuple[Corrected, Array, Array]) -> tuple[Any, ...]:
        state, z, _ = carry
        own = jax.tree.map(lambda x: x[i], queries)
        # Its scale or its offset: as many places along either, the present place first.
        log_scale = state.log_scale[i] + jnp.concatenate([places, jnp.zeros(len(places) - 1)])
        shift = state.shift[i] + jnp.concatenate([0 * places, places[1:]])
        others = jnp.arange(k)[:, None] != i

        def at_budget(budget: tuple[Array, ...]) -> tuple[Array, Array]:
            log_price, multiplier, z = budget
            # An offset moves z by as much, for next to nothing.
            moved = z[i] + places[1:, None] * own.unit
            scaled = _indices(own, log_scale[: len(places)], state.shift[i], log_price)
            own_z = jnp.concatenate([scaled, moved])
            z = jnp.where(others, z, -jnp.inf)
            top, got = _best(z, queries)
            top, got, own_z, z = materialize((top, got, own_z, z))
            runs = own_z >= top
            wins = runs & (own.post > top)
            bar = jnp.where(wins, jnp.minimum(own.post, own_z), top)
            spent = _spent(z, bar, queries) + jnp.where(runs, own.cost, 0)
            worth = jnp.where(wins, own.quality, got) - multiplier * spent
            return materialize(worth) @ weight, own_z

        worth, own_z = jax.lax.map(at_budget, (state.log_price, multiplier, z))
        tried = tuple(
            jnp.where(jnp.arange(k) == i, moved[:, None], present)
            for moved, present in ((log_scale, state.log_scale), (shift, state.shift))
        )
        score = jnp.mean(worth, axis=0) - penalty(*tried)
        best = jnp.argmax(score)
        return (
            Corrected(tried[0][best], tried[1][best], state.log_price),
            z.at[:, i].set(own_z[:, best]),
            score[best],
        )

    state = along_prices(along_scales(state))
    z = jax.lax.map(
        lambda log_price: _indices(queries, state.log_scale, state.shift, log_price),
        state.log_price,
    )
    state, _, score = jax.lax.fori_loop(0, k, along_model, (state, z, jnp.float32(0)))
    return state, score


def _indices(
    queries: Queries, log_scale: Float[Array, "*#L"], shift: Float[Array, "*#L"], log_price: Array
) -> Float[Array, "*L n"]:
    """Return the reservation values of one model, or of all."""
    mean = queries.ante + (shift * queries.unit)[..., None]
    sigma = jnp.exp(log_scale)[..., None] * queries.sigma
    return reservation_value(mean, sigma, jnp.exp(log_price)[..., None] * queries.cost_ante)


def _worth(
    queries: Queries, weight: Float[Array, " n"], log_scale: Float[Array, "#L K"],
    shift: Float[Array, " K"], log_price: Float[Array, "#L"], multiplier: Array,
) -> Float[Array, " L"]:  # fmt: skip
    """Return the objective at every scale or price, with all reservation values recomputed."""
    each = jax.tree.map(lambda x: x[:, None], queries)
    z = materialize(_indices(each, log_scale.T, shift[:, None], log_price))
    top, got = materialize(_best(z, queries))
    return materialize(got - multiplier * _spent(z, top, queries)) @ weight


def _best(z: Float[Array, "K *L n"], queries: Queries) -> tuple[Array, Array]:
    """Return the highest kappa, and the quality of its model."""
    top, got = jnp.full(z.shape[1:], -jnp.inf), jnp.zeros(z.shape[1:])
    for z_j, post, quality in zip(z, queries.post, queries.quality, strict=True):
        kappa = jnp.minimum(post, z_j)
        got = jnp.where(kappa > top, quality, got)
        top = jnp.maximum(top, kappa)
    return top, got


def _spent(z: Float[Array, "K *L n"], bar: Float[Array, "*M n"], queries: Queries) -> Array:
    """Return the cost of all models whose reservation value is at least a bar."""
    spent = jnp.zeros(bar.shape)
    for z_j, cost in zip(z, queries.cost, strict=True):
        spent = spent + jnp.where(z_j >= bar, cost, 0)
    return spent
