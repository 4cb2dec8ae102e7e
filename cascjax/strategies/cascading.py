"""Cascading: stop when the best longer prefix is not worth its cost (paper, section 4)."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from cascjax.core.expected_max import (
    Prefixes,
    expected_improvement,
    materialize,
    prefix_gains,
    prefix_values,
    real_gains,
)
from cascjax.estimators import Estimates, Independent, Tabulated
from cascjax.strategies.base import (
    STOP,
    InOrder,
    Outcome,
    Priced,
    Style,
    at_step,
    over_models,
    per_step,
    without_rounding,
)
from cascjax.strategies.supersets import (
    SAMPLES,
    best_of,
    exact_for_one,
    joint_points,
    means_of_maxima,
    over_floor,
    real,
)


@dataclass(frozen=True)
class Cascading(Priced, InOrder):
    """Of the prefixes of the models in order of mean cost take the best, and run its next model.

    A prefix M_{1:j}, at least as long as what has run, is worth V(M_{1:j}) - lambda C(M_{1:j});
    stop when what has run is the best of them.
    """

    name: ClassVar[str] = "cascading"
    description: ClassVar[str] = (
        "Runs the models cheapest first, and after each answer weighs whether going on is worth"
        " its cost."
    )
    style: ClassVar[Style] = Style("#aa3377", "#e58cc0", (0, (2.5, 1.2)), "D")
    integrates: ClassVar[bool] = True
    idle: ClassVar[int] = 1

    def next_model(
        self,
        parameters: Float[Array, "*D"],
        estimates: Estimates,
        run: Bool[Array, "B K"],
    ) -> Int[Array, " B"]:
        """The next model in order, or `STOP`."""
        k = run.shape[-1]
        step = jnp.sum(run, axis=-1)
        price = jnp.broadcast_to(at_step(parameters, run), step.shape)[:, None]
        cost = jnp.cumsum(jnp.where(run, 0, estimates.cost), axis=-1)
        estimates = over_floor(estimates, run)
        value = prefix_values(estimates.quality, estimates.covariance, samples=SAMPLES)
        value = exact_for_one(value, np.tri(k, dtype=bool), estimates, run)
        in_hand = jnp.take_along_axis(value, jnp.maximum(step - 1, 0)[:, None], axis=-1)[:, 0]
        in_hand = jnp.where(step > 0, in_hand, -jnp.inf)
        worth = without_rounding(value, in_hand, estimates) - price * cost
        length = jnp.arange(1, k + 1)
        allowed = length >= jnp.maximum(step, 1)[:, None]
        best = length[jnp.argmax(jnp.where(allowed, worth, -jnp.inf), axis=-1)]
        return jnp.where(best > step, step, STOP)

    def sweep(
        self, parameters: Float[Array, "L *D"], estimator: Independent | Tabulated
    ) -> Outcome:
        """How deep every price goes: one table of gains a query serves them all."""
        if isinstance(estimator, Tabulated):
            return self._table_sweep(parameters, estimator)
        _, post, _, _ = estimator.queries_last()
        k, n_queries = post.shape
        price = per_step(parameters, k)

        def step(state: tuple[Array, Any], model: tuple[Array, ...]) -> tuple[Any, Array]:
            index, quality, below, price = model
            depth, (top, answer) = state
            go_on = (depth == index) & (price < below)
            better = go_on & (quality > top)
            answer = (jnp.where(better, quality, top), jnp.where(better, index + 1, answer))
            return (depth + go_on, answer), go_on

        none = jnp.zeros((price.shape[1], n_queries), jnp.int32)
        start = (none, (jnp.broadcast_to(post[0], none.shape), none))
        below = self.limits(estimator)
        (_, (_, answer)), run = over_models(step, start, post[1:], below, price[1:])
        run = jnp.concatenate([jnp.ones((1, *none.shape), bool), run])
        return Outcome(jnp.moveaxis(run, 0, -1), answer)

    def _table_sweep(self, parameters: Float[Array, "L *D"], table: Tabulated) -> Outcome:
        """The same where an answer may change the estimates of those before it."""
        below, answers = materialize((self.limits(table), self.answers(table)))
        price = per_step(parameters, len(answers))

        def step(depth: Array, model: tuple[Array, ...]) -> tuple[Array, Array]:
            index, below, price = model
            go_on = (depth == index) & (price < below)
            return depth + go_on, go_on

        def pick(answer: Array, at: tuple[Array, ...]) -> tuple[Array, None]:
            index, model = at
            return jnp.where(depth == index, model, answer), None

        none = jnp.zeros((price.shape[1], answers.shape[1]), jnp.int32)
        depth, run = over_models(step, none, below, price[1:])
        answer, _ = over_models(pick, none, answers)
        run = jnp.concatenate([jnp.ones((1, *none.shape), bool), run])
        return Outcome(jnp.moveaxis(run, 0, -1), answer)

    def answers(self, estimator: Independent | Tabulated) -> Int[Array, "K B"]:
        """The last model to beat all before it; of a table, the best of those run so far."""
        if isinstance(estimator, Tabulated):
            rows = (rows[None] for rows in estimator.quality)
            best = (best_of(of, np.arange(j + 1)[None])[1] for j, of in enumerate(rows))
            return jnp.concatenate(list(best))
        _, post, _, _ = estimator.queries_last()
        depth = jnp.broadcast_to(jnp.arange(len(post), dtype=jnp.int32)[:, None], post.shape)
        best = jax.lax.cummax(post, axis=0)
        better = jnp.concatenate([depth[:1], jnp.where(post[1:] > best[:-1], depth[1:], 0)])
        return jax.lax.cummax(better, axis=0)

    def limits(self, estimator: Independent | Tabulated) -> Float[Array, "J B"]:
        """The price below which going on pays, once 1, ..., K - 1 models have run."""
        if isinstance(estimator, Tabulated):
            return _table_limits(estimator)
        ante, post, sigma, cost = estimator.queries_last()
        k = len(ante)
        # At step s >= 1 the best of the first s answers is in hand.
        best = jax.lax.cummax(post, axis=0)[: k - 1]

        def pays_below(gain: Float[Array, "I B"], cost: Float[Array, "I B"]) -> Array:
            return jnp.max(_rates(real_gains(gain, sigma), jnp.cumsum(cost, axis=0)), axis=0)

        steps = range(1, k)
        if k == 1:
            return jnp.zeros((0, ante.shape[1]))
        panels = estimator.panels
        if not panels:
            plain = prefix_gains(best.T, ante.T, sigma.T)
            below = [pays_below(plain[:, s - 1, s:].T, cost[s:]) for s in steps]
        elif k <= _LINE:
            table = Prefixes.of(best, ante, sigma, panels)
            below = [pays_below(table.gains(s), cost[s:]) for s in steps]
        else:
            table = Prefixes.of(best, ante, sigma, panels)
            index = jnp.arange(k)[:, None]
            return jax.lax.map(
                lambda s: pays_below(table.gains(s), jnp.where(index >= s, cost, 0)),
                jnp.array(steps),
            )
        return materialize(jnp.stack(below))

    def footprint(self, n_models: int, panels: int | None = None) -> int:
        """Return the number of Phi_i: in every panel, or for every floor between all knots."""
        if not panels:
            return 48 * n_models**3
        return 8 * (8 + n_models) * n_models


def _rates(gain: Float[Array, "*J B"], extra: Float[Array, "*J B"]) -> Float[Array, "*J B"]:
    """The price below which a gain pays for what it costs."""
    # One that costs nothing pays at any price, but for one that adds nothing.
    free = jnp.where((extra < 0) | (gain > 0), jnp.inf, 0)
    return jnp.where(extra > 0, gain / jnp.where(extra > 0, extra, 1), free)


def _table_limits(table: Tabulated) -> Float[Array, "J B"]:
    """`Cascading.limits` of the estimates under every prefix."""
    k, _, n_queries = table.quality.shape
    if k == 1:
        return jnp.zeros((0, n_queries))
    best = [best_of(of[None], np.arange(s + 1)[None])[0] for s, of in enumerate(table.quality)]
    floor = materialize(jnp.concatenate(best)[:-1])
    mean = table.quality[:-1] - floor[:, None]
    covariance = table.covariance[:-1]
    points = joint_points(covariance)
    variance = jnp.diagonal(covariance, axis1=1, axis2=2)
    sigma = jnp.sqrt(jnp.maximum(variance, 0))
    cost = jnp.broadcast_to(table.cost, table.quality.shape)

    def rows(of: Array, more: int) -> Array:
        """Of what the first 1, 2, ... models leave, the model so many places on."""
        return jnp.stack([of[s, s + more] for s in range(k - more)])

    # Prefixes longer by one model, by two, and so on.
    means = [[rows(mean, i)[: k - more] for i in range(1, more + 1)] for more in range(1, k)]
    moves = [[rows(points, i)[: k - more] for i in range(1, more + 1)] for more in range(1, k)]
    spread = rows(sigma, 1)[:, None]
    gain = [expected_improvement(jnp.zeros_like(spread), means[0][0], spread)]
    gain += means_of_maxima(means[1:], moves[1:], floored=True)
    extra = jnp.zeros((k - 1, n_queries))
    limits = jnp.full(extra.shape, -jnp.inf)
    for more in range(1, k):
        extra = extra[: k - more] + rows(cost, more)
        rate = _rates(real(gain[more - 1][:, None], sigma[: k - more])[:, 0], extra)
        limits = limits.at[: k - more].max(rate)
    return materialize(limits)


_LINE = 8
"""Models up to which the loop over steps is a straight line of code."""
