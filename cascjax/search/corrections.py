"""Pandora's corrections, by line searches that look at every query's outcome as it is.

One model's z is moved while all others stay: let k be the highest kappa of the others. Below k the
model does not run and nothing changes. From k on it runs, and where its answer is better than k it
is returned, and those of the others run whose z is at least min(post, z). So any number of places
along a line cost one pass over the others each, and no derivative and no temperature is needed.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cascjax.core.expected_max import materialize
from cascjax.estimators import Independent
from cascjax.strategies.pandora import reservation_value

_PLACES = np.array([0, -1, -0.75, -0.5, -0.25, 0.25, 0.5, 0.75, 1], np.float32)
"""Where a line is looked at, in units of the width; where it stands comes first and wins ties."""

_SIDES = len(_PLACES) - 1

_COMMON, _PRICE = 0.7, 1.5
"""Width along the scale of all sigmas, and along the price, where that of one model's is 1."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Seen:
    """What line searches look at, models first; of one model by itself too.

    Attributes:
        ante: `[K, n]` quality estimates before a model has run.
        post: `[K, n]` after it has.
        sigma: `[K, n]` standard deviations of the difference.
        believed: `[K, n]` cost estimates.
        quality: `[K, n]` true qualities.
        cost: `[K, n]` true costs.
        unit: `[K]` of each model's offset: its sigma over all queries.
    """

    ante: Float[Array, "*K n"]
    post: Float[Array, "*K n"]
    sigma: Float[Array, "*K n"]
    believed: Float[Array, "*K n"]
    quality: Float[Array, "*K n"]
    cost: Float[Array, "*K n"]
    unit: Float[Array, " *K"]

    @classmethod
    def of(
        cls,
        estimator: Independent,
        quality: Float[np.ndarray, "n K"],
        cost: Float[np.ndarray, "n K"],
    ) -> "Seen":
        """Estimates and truths as they are held elsewhere, turned."""
        believed = (
            estimator.quality_ante, estimator.quality_post, estimator.sigma, estimator.cost_ante
        )  # fmt: skip
        turned = (
            np.broadcast_to(np.asarray(of), quality.shape).T for of in (*believed, quality, cost)
        )
        return cls(*(jnp.asarray(of, jnp.float32) for of in turned), unit=deviation(estimator))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Corrected:
    """Corrections that all budgets share, and a price for each.

    Attributes:
        log_scale: `[K]` of sigma.
        shift: `[K]` added to quality before a model has run, in units of its sigma.
        log_price: `[P]` the price at each budget.
    """

    log_scale: Float[Array, " K"]
    shift: Float[Array, " K"]
    log_price: Float[Array, " P"]


def deviation(estimator: Independent) -> Float[Array, " K"]:
    """Each model's sigma, over all queries: the unit of its offset."""
    return jnp.sqrt(jnp.mean(jnp.square(jnp.asarray(estimator.sigma)), axis=0))


@jax.jit
def improved(
    seen: Seen,
    weight: Float[Array, " n"],
    multiplier: Float[Array, " P"],
    pull: Float[Array, ""],
    width: Float[Array, ""],
    state: Corrected,
) -> tuple[Corrected, Float[Array, ""]]:
    """One round of line searches, and what they maximise, which never falls.

    That is the mean over budgets of quality - mu cost, less `pull` times the squared corrections;
    of scales what counts is how far they lie from their mean, as a scale that all sigmas share is
    one number and no K. First comes that scale, then every budget's price, then each model's
    offset and scale.

    Args:
        seen: all queries.
        weight: what each query counts.
        multiplier: of the budgets.
        pull: towards no corrections.
        width: how far to look, in units of sigma and of the logarithm of the scale.
        state: where to start.
    """
    places = jnp.asarray(_PLACES) * width

    def penalty(log_scale: Float[Array, "*L K"], shift: Float[Array, "*L K"]) -> Array:
        apart = log_scale - jnp.mean(log_scale, axis=-1, keepdims=True)
        return pull * jnp.sum(apart**2 + shift**2, axis=-1)

    def along_scales(state: Corrected) -> Corrected:
        tried = state.log_scale + _COMMON * places[:, None]
        worth = jax.lax.map(
            lambda budget: _worth(seen, weight, tried, state.shift, *budget),
            (state.log_price[:, None], multiplier),
        )
        best = jnp.argmax(jnp.mean(worth, axis=0))
        return Corrected(tried[best], state.shift, state.log_price)

    def along_prices(state: Corrected) -> Corrected:
        def of_budget(budget: tuple[Array, Array]) -> Array:
            log_price, multiplier = budget
            tried = log_price + _PRICE * places
            scale = state.log_scale[None]
            worth = _worth(seen, weight, scale, state.shift, tried, multiplier)
            return tried[jnp.argmax(worth)]

        found = jax.lax.map(of_budget, (state.log_price, multiplier))
        return Corrected(state.log_scale, state.shift, found)

    def along_model(i: Array, carry: tuple[Corrected, Array, Array]) -> tuple[Any, ...]:
        state, z, _ = carry
        own = jax.tree.map(lambda of: of[i], seen)
        # Its scale or its offset: as many places along either, and where it stands first.
        still = jnp.zeros(_SIDES)
        log_scale = state.log_scale[i] + jnp.concatenate([places, still])
        shift = state.shift[i] + jnp.concatenate([0 * places, places[1:]])
        others = jnp.arange(len(z[0]))[:, None] != i

        def of_budget(budget: tuple[Array, ...]) -> tuple[Array, Array]:
            log_price, multiplier, z = budget
            # An offset moves z by as much, for next to nothing.
            moved = z[i] + places[1:, None] * own.unit
            scaled = _indices(own, log_scale[: len(places)], state.shift[i], log_price)
            own_z = jnp.concatenate([scaled, moved])
            z = jnp.where(others, z, -jnp.inf)
            top, got = _best(z, seen)
            top, got, own_z, z = materialize((top, got, own_z, z))
            runs = own_z >= top
            wins = runs & (own.post > top)
            bar = jnp.where(wins, jnp.minimum(own.post, own_z), top)
            spent = _spent(z, bar, seen) + jnp.where(runs, own.cost, 0)
            worth = jnp.where(wins, own.quality, got) - multiplier * spent
            return materialize(worth) @ weight, own_z

        worth, own_z = jax.lax.map(of_budget, (state.log_price, multiplier, z))
        at = jnp.arange(len(seen.ante)) == i
        tried = (
            jnp.where(at, log_scale[:, None], state.log_scale),
            jnp.where(at, shift[:, None], state.shift),
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
        lambda log_price: _indices(seen, state.log_scale, state.shift, log_price), state.log_price
    )
    start = (state, z, jnp.float32(0))
    state, _, score = jax.lax.fori_loop(0, len(seen.ante), along_model, start)
    return state, score


def _indices(
    seen: Seen, log_scale: Float[Array, "*#L"], shift: Float[Array, "*#L"], log_price: Array
) -> Float[Array, "*L n"]:
    """Reservation values of one model, or of all."""
    mean = seen.ante + (shift * seen.unit)[..., None]
    sigma = jnp.exp(log_scale)[..., None] * seen.sigma
    return reservation_value(mean, sigma, jnp.exp(log_price)[..., None] * seen.believed)


def _worth(
    seen: Seen, weight: Float[Array, " n"], log_scale: Float[Array, "#L K"],
    shift: Float[Array, " K"], log_price: Float[Array, "#L"], multiplier: Array,
) -> Float[Array, " L"]:  # fmt: skip
    """Of every scale or price, all models' indices found again."""
    each = jax.tree.map(lambda of: of[:, None], seen)
    z = materialize(_indices(each, log_scale.T, shift[:, None], log_price))
    top, got = materialize(_best(z, seen))
    return materialize(got - multiplier * _spent(z, top, seen)) @ weight


def _best(z: Float[Array, "K *L n"], seen: Seen) -> tuple[Array, Array]:
    """The highest kappa, and the quality of the model whose it is."""
    top, got = jnp.full(z.shape[1:], -jnp.inf), jnp.zeros(z.shape[1:])
    for z_j, post, quality in zip(z, seen.post, seen.quality, strict=True):
        kappa = jnp.minimum(post, z_j)
        got = jnp.where(kappa > top, quality, got)
        top = jnp.maximum(top, kappa)
    return top, got


def _spent(z: Float[Array, "K *L n"], bar: Float[Array, "*M n"], seen: Seen) -> Array:
    """The cost of all models whose index is at least a bar."""
    spent = jnp.zeros(bar.shape)
    for z_j, cost in zip(z, seen.cost, strict=True):
        spent = spent + jnp.where(z_j >= bar, cost, 0)
    return spent
