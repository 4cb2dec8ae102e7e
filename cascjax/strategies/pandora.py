"""Pandora: run models in falling reservation value (Weitzman, Econometrica 1979)."""

import functools
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from scipy.special import erfcx

from cascjax.core.expected_max import materialize
from cascjax.estimators import Estimates, Independent, Tabulated
from cascjax.strategies.base import (
    STOP,
    Outcome,
    Priced,
    Strategy,
    Style,
    at_step,
    over_models,
    per_step,
)
from cascjax.strategies.supersets import (
    Additions,
    additions,
    best_answer,
    best_of,
    rows_of,
    run_sets_up_to,
    select,
)


@dataclass(frozen=True)
class Pandora(Priced, Strategy):
    """Run models in falling z_i; stop when the best answer is at least the next z.

    The reservation value z_i solves E[(Q_i - z_i)+] = lambda c_i. For independent estimates this
    is the optimal adaptive policy. With correlated ones the indices are recomputed from the
    current estimates after each answer.
    """

    name: ClassVar[str] = "pandora"
    description: ClassVar[str] = (
        "Runs the models in falling order of their reservation value, and stops once the best"
        " answer beats the next one."
    )
    style: ClassVar[Style] = Style("#d55e00", "#ff8c42", (0, (7, 1.5)), "s")
    tuning: ClassVar[Literal["steps", "corrections", "evolution"] | None] = "corrections"

    def next_model(
        self,
        parameters: Float[Array, "*D"],
        estimates: Estimates,
        run: Bool[Array, "B K"],
    ) -> Int[Array, " B"]:
        """The model of the highest z that has not run, or `STOP` where none beats the best."""
        price = jnp.broadcast_to(at_step(parameters, run), run.shape[:1])[:, None]
        z = reservation_value(
            estimates.quality, jnp.sqrt(estimates.variance), price * estimates.cost
        )
        z = jnp.where(run, -jnp.inf, z)
        best = jnp.max(jnp.where(run, estimates.quality, -jnp.inf), axis=-1)
        ended = jnp.all(run, axis=-1) | (best >= jnp.max(z, axis=-1))
        return jnp.where(ended, STOP, jnp.argmax(z, axis=-1))

    def run_sets(self, n_models: int) -> Int[np.ndarray, " S"]:
        """All of them, the smallest first."""
        return run_sets_up_to(n_models, n_models)

    def sweep(
        self, parameters: Float[Array, "L *D"], estimator: Independent | Tabulated
    ) -> Outcome | None:
        """Every price in closed form (Kleinberg, Waggoner, Weyl 2016).

        With kappa_i = min(post_i, z_i) and k* = max_i kappa_i, the models run are those of
        z_i >= k*, and the answer is argmax_i kappa_i. There is none for a price a step.
        """
        if isinstance(estimator, Tabulated):
            return self._table_sweep(parameters, estimator)
        if parameters.size > parameters.shape[0]:
            return None
        price = parameters.reshape(parameters.shape[0], -1)[:, :1]
        ante, post, sigma, cost = estimator.queries_last()
        # All that the prices share: a logarithm a query and model, not one a price besides.
        log_ratio = materialize(jnp.log(cost / sigma))[:, None]
        spent = price * cost[:, None]
        z = ante[:, None] + (sigma[:, None] * _beyond(jnp.log(price) + log_ratio) - spent)
        # In memory before it is compared: each result below would work it out again.
        z = materialize(jnp.where(spent > 0, z, jnp.inf))

        def step(best: tuple[Array, Array], model: tuple[Array, ...]) -> tuple[Any, None]:
            top, answer = best
            index, post, z = model
            kappa = jnp.minimum(post, z)
            return (jnp.maximum(top, kappa), jnp.where(kappa > top, index, answer)), None

        start = jnp.full((len(price), ante.shape[1]), -jnp.inf)
        start = (start, jnp.zeros(start.shape, jnp.int32))
        (top, answer), _ = over_models(step, start, post, z)
        top, answer = materialize((top, answer))
        # Of models tied at k* those run that come before the one that answers.
        index = jnp.arange(len(z))[:, None, None]
        run = (z > top) | (index == answer) | ((z == top) & (index < answer))
        return Outcome(jnp.moveaxis(run, 0, -1), answer)

    def _table_sweep(self, parameters: Float[Array, "L *D"], table: Tabulated) -> Outcome:
        """Every price step by step: each answer may change the index of all models left."""
        _, k, n_queries = table.quality.shape
        price = per_step(parameters, k)
        ran = jnp.zeros((price.shape[1], n_queries), jnp.int32)
        for step in range(k):
            ran = materialize(_moved(ran, price[step], table, additions(k, step, step)))
        return Outcome((ran[..., None] >> jnp.arange(k)) & 1 == 1, best_answer(ran, table, k))

    def footprint(self, n_models: int, panels: int | None = None) -> int:
        """Return the room of z and kappa of every model, and of their evaluation."""
        del panels
        return 4 * n_models


def _moved(
    ran: Int[Array, "L B"], price: Float[Array, "L 1"], table: Tabulated, of: Additions
) -> Int[Array, "L B"]:
    """What has run once every query that is at one of these run sets ran its next model."""
    here = of.part(table)
    n_sets, step = of.ran.shape
    cost = jnp.broadcast_to(here.cost, here.quality.shape)
    variance = jnp.diagonal(here.covariance, axis1=1, axis2=2)
    sigma = jnp.sqrt(jnp.maximum(variance, 0))
    left = []
    for models in of.rest.T:
        mean, price_of = rows_of(here.quality, models), rows_of(cost, models)
        spread = sigma[np.arange(n_sets), models][:, None]
        runs = (spread > 0) & (price_of > 0)
        # All that the prices share: a logarithm a run set and model, not one a price besides.
        log_ratio = jnp.log(jnp.where(runs, price_of, 1) / jnp.where(runs, spread, 1))
        left.append((mean, log_ratio, price_of, spread, jnp.asarray(1 << models[:, None])))
    in_hand, _ = best_of(here.quality, of.ran)
    left, in_hand = materialize((left, in_hand))
    log_price = jnp.log(price)
    (top,) = select(ran, of.run_sets, [in_hand])
    new = jnp.zeros_like(ran)
    for rows in left:
        mean, log_ratio, cost, spread, bit = select(ran, of.run_sets, rows)
        spent = price * cost
        z = mean + (spread * _beyond(log_price + log_ratio) - spent)
        z = jnp.where(spent > 0, z, jnp.inf)
        # Of those alike the first, and none that is only as good as what is in hand.
        top, new = jnp.maximum(top, z), jnp.where(z > top, bit, new)
    return jnp.where(jax.lax.population_count(ran) == step, ran | new, ran)


def reservation_value(
    mean: Float[Array, "*#B"], sigma: Float[Array, "*#B"], cost: Float[Array, "*#B"]
) -> Float[Array, "*B"]:
    """The z at which E[(Q - z)+] = cost, for Q ~ Normal(mean, sigma^2).

    Infinite where the cost is not positive; mean - cost where sigma is 0.

    Args:
        mean: quality means.
        sigma: their standard deviations.
        cost: what running costs, in units of quality.
    """
    runs = (sigma > 0) & (cost > 0)
    log_u = jnp.log(jnp.where(runs, cost, 1) / jnp.where(runs, sigma, 1))
    z = mean + (sigma * _beyond(log_u) - cost)
    return jnp.where(cost > 0, z, jnp.inf)


def _beyond(log_u: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """h^{-1}(u) + u for the unit normal loss h(t) = phi(t) - t (1 - Phi(t)).

    So z = mean + sigma h^{-1}(u) with u = cost / sigma is mean - cost and something on top that
    vanishes where the cost is high or sigma 0. Two polynomials: in log u from u = 1 up to
    exp(1.65), beyond which nothing is left in float32; and in sqrt(2 - log u) below, where
    h^{-1} grows like sqrt(-2 log u). Absolute error below 4e-6 for u > 1e-10. No iteration, and
    no root found at run time.
    """
    x = jnp.clip(log_u, _LOWEST, _HIGHEST)
    low, high = _loss_polynomials()
    expensive = _horner(x * (2 / _HIGHEST) - 1, high)
    first, last = np.sqrt(_SHIFT), np.sqrt(_SHIFT - _LOWEST)
    root = jnp.sqrt(_SHIFT - jnp.minimum(x, 0))
    cheap = _horner(root * (2 / (last - first)) - (first + last) / (last - first), low)
    return jnp.where(x < 0, cheap, expensive)


_LOWEST, _HIGHEST, _SHIFT = -25.0, 1.65, 2.0


@functools.cache
def _loss_polynomials() -> tuple[Float[np.ndarray, " C"], Float[np.ndarray, " D"]]:
    """Coefficients of h^{-1}(u) + u below and above u = 1 on [-1, 1], found in float64."""

    def fitted(log_u: Float[np.ndarray, " n"], at: Float[np.ndarray, " n"], degree: int):
        low, high = np.full_like(log_u, -10.0), np.full_like(log_u, 10.0)
        for _ in range(60):
            t = (low + high) / 2
            mills = np.sqrt(np.pi / 2) * erfcx(t / np.sqrt(2))
            loss = np.log1p(-t * mills) - t**2 / 2 - np.log(2 * np.pi) / 2
            low, high = np.where(loss > log_u, t, low), np.where(loss > log_u, high, t)
        series = np.polynomial.chebyshev.chebfit(at, low + np.exp(log_u), degree)
        return np.polynomial.chebyshev.cheb2poly(series)

    at = np.polynomial.chebyshev.chebpts1(64)
    first, last = np.sqrt(_SHIFT), np.sqrt(_SHIFT - _LOWEST)
    root = (at * (last - first) + last + first) / 2
    return fitted(_SHIFT - root**2, at, 14), fitted((at + 1) * _HIGHEST / 2, at, 9)


def _horner(x: Float[Array, "*B"], coefficients: Float[np.ndarray, " C"]) -> Float[Array, "*B"]:
    """A polynomial, its coefficients in rising powers."""
    value = jnp.full_like(x, coefficients[-1])
    for c in coefficients[-2::-1]:
        value = value * x + float(c)
    return value
