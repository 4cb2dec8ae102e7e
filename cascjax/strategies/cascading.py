"""Cascading: stop when the best longer prefix is not worth its cost (paper, section 4)."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from cascjax.core.arrays import materialize
from cascjax.core.estimates import Estimates, Tabulated
from cascjax.core.expected_max import (
    Segments,
    expected_improvement,
    prefix_values,
    real_gains,
)
from cascjax.core.sweep import STOP
from cascjax.strategies.base import InOrder, Priced, Readable, Style, step_price, without_rounding
from cascjax.strategies.supersets import (
    SAMPLES,
    best_of,
    exact_for_one,
    joint_points,
    means_of_maxima,
    over_incumbent,
    real,
)

_LINE = 8  # Models up to which the loop over steps is a straight line of code


@dataclass(frozen=True)
class Cascading(Priced, InOrder):
    """Take the best prefix of the models in order of mean cost, and run its next model.

    A prefix M_{1:j}, at least as long as what has run, is worth V(M_{1:j}) - lambda C(M_{1:j});
    stop when what has run is the best of them.

    Example:
      >>> import numpy as np
      >>> from cascjax import core
      >>> quality, cost = np.array([[0.5, 0.7]]), np.array([[1.0, 3.0]])
      >>> estimates = core.Independent(quality, quality, np.full((1, 2), 0.2), cost, cost)
      >>> core.sweep(Cascading(), [0.0, 0.2], estimates).answer.tolist()
      [[1], [0]]
    """

    name: ClassVar[str] = "cascading"
    description: ClassVar[str] = (
        "Runs the models cheapest first, and after each answer weighs whether going on is worth"
        " its cost."
    )
    style: ClassVar[Style | None] = Style("#aa3377", "#e58cc0", (0, (2.5, 1.2)), "D")
    integrates: ClassVar[bool] = True
    idle: ClassVar[int] = 1

    def next_model(
        self, parameters: Float[Array, "*D"], estimates: Estimates, run: Bool[Array, "B K"]
    ) -> Int[Array, " B"]:
        """Return the next model in order, or `STOP`."""
        k = run.shape[-1]
        step, price = jnp.sum(run, axis=-1), step_price(parameters, run)[:, None]
        cost = jnp.cumsum(jnp.where(run, 0, estimates.cost), axis=-1)
        estimates = over_incumbent(estimates, run)
        value = prefix_values(estimates.quality, estimates.covariance, samples=SAMPLES)
        value = exact_for_one(value, np.tri(k, dtype=bool), estimates, run)
        value_run = jnp.take_along_axis(value, jnp.maximum(step - 1, 0)[:, None], axis=-1)[:, 0]
        value_run = jnp.where(step > 0, value_run, -jnp.inf)
        worth = without_rounding(value, value_run, estimates) - price * cost
        length = jnp.arange(1, k + 1)
        allowed = length >= jnp.maximum(step, 1)[:, None]
        best = length[jnp.argmax(jnp.where(allowed, worth, -jnp.inf), axis=-1)]
        return jnp.where(best > step, step, STOP)

    def answers(self, estimator: Readable) -> Int[Array, "K B"]:
        """Return the last model to beat all before it; of a table, the best of those run so far."""
        if isinstance(estimator, Tabulated):
            rows = (rows[None] for rows in estimator.quality)
            best = (best_of(row, np.arange(j + 1)[None])[1] for j, row in enumerate(rows))
            return jnp.concatenate(list(best))
        post = jnp.asarray(estimator.quality_post).T
        depth = jnp.broadcast_to(jnp.arange(len(post), dtype=jnp.int32)[:, None], post.shape)
        best = jax.lax.cummax(post, axis=0)
        better = jnp.concatenate([depth[:1], jnp.where(post[1:] > best[:-1], depth[1:], 0)])
        return jax.lax.cummax(better, axis=0)

    def limits(self, estimator: Readable) -> Float[Array, "J B"]:
        """Return the price below which going on pays, after 1, ..., K - 1 models."""
        if isinstance(estimator, Tabulated):
            return _table_limits(estimator)
        ante, post, sigma, cost = estimator.queries_last()
        k, panels = len(ante), estimator.panels
        # At step s >= 1 the incumbent is the best of the first s answers.
        best = jax.lax.cummax(post, axis=0)[: k - 1]

        def pays_below(gain: Float[Array, "I B"], cost: Float[Array, "I B"]) -> Array:
            return jnp.max(_rates(real_gains(gain, sigma), jnp.cumsum(cost, axis=0)), axis=0)

        if k == 1:
            return jnp.zeros((0, ante.shape[1]))
        table = Segments.of(best, ante, sigma, panels)
        if panels and k <= _LINE:
            below = [pays_below(table.prefix_gains(s), cost[s:]) for s in range(1, k)]
            return materialize(jnp.stack(below))
        later = jnp.arange(k)[:, None]
        return jax.lax.map(
            lambda s: pays_below(table.prefix_gains(s), jnp.where(later >= s, cost, 0)),
            jnp.arange(1, k),
        )

    def footprint(self, n_models: int, panels: int | None = None) -> int:
        """Return the number of Phi_i: in every panel, or for every incumbent between all knots."""
        return 8 * (8 + n_models) * n_models if panels else 48 * n_models**3


def _rates(gain: Float[Array, "*J B"], extra: Float[Array, "*J B"]) -> Float[Array, "*J B"]:
    """Return the price below which a gain pays for what it costs."""
    # What costs nothing pays at any price, unless it adds nothing.
    free = jnp.where((extra < 0) | (gain > 0), jnp.inf, 0)
    return jnp.where(extra > 0, gain / jnp.where(extra > 0, extra, 1), free)


def _table_limits(table: Tabulated) -> Float[Array, "J B"]:
    """Return `Cascading.limits` of the estimates under every prefix."""
    k, _, n_queries = table.quality.shape
    if k == 1:
        return jnp.zeros((0, n_queries))
    best = [best_of(q[None], np.arange(s + 1)[None])[0] for s, q in enumerate(table.quality)]
    incumbent = materialize(jnp.concatenate(best)[:-1])
    mean = table.quality[:-1] - incumbent[:, None]
    covariance = table.covariance[:-1]
    points = joint_points(covariance)
    variance = jnp.diagonal(covariance, axis1=1, axis2=2)
    sigma = jnp.sqrt(jnp.maximum(variance, 0))
    cost = jnp.broadcast_to(table.cost, table.quality.shape)

    def rows(values: Array, more: int) -> Array:
        """Return, of what the first 1, 2, ... models leave, the model so many places on."""
        return jnp.stack([values[s, s + more] for s in range(k - more)])

    # Prefixes longer by one model, by two, and so on.
    means = [[rows(mean, i)[: k - more] for i in range(1, more + 1)] for more in range(1, k)]
    moves = [[rows(points, i)[: k - more] for i in range(1, more + 1)] for more in range(1, k)]
    spread = rows(sigma, 1)[:, None]
    gain = [expected_improvement(jnp.zeros_like(spread), means[0][0], spread)]
    gain += means_of_maxima(means[1:], moves[1:], over_zero=True)
    extra = jnp.zeros((k - 1, n_queries))
    limits = jnp.full(extra.shape, -jnp.inf)
    for more in range(1, k):
        extra = extra[: k - more] + rows(cost, more)
        rate = _rates(real(gain[more - 1][:, None], sigma[: k - more])[:, 0], extra)
        limits = limits.at[: k - more].max(rate)
    return materialize(limits)
