"""Thresholding: the usual cascade (for instance FrugalGPT, Chen, Zaharia, Zou 2023)."""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from cascjax.core.arrays import at_step, materialize
from cascjax.core.estimates import Estimates, Tabulated
from cascjax.core.sweep import STOP
from cascjax.strategies.base import Grid, InOrder, Readable, Statistics, Style


@dataclass(frozen=True)
class Thresholding(InOrder):
    """Run models in order of mean cost until the last answer's post-hoc quality reaches tau.

    Its answer is the last model run. One tau for all steps, or one per step.

    Example:
      >>> import numpy as np
      >>> from cascjax import core
      >>> quality, cost = np.array([[0.5, 0.7]]), np.array([[1.0, 3.0]])
      >>> estimates = core.Independent(quality, quality, np.full((1, 2), 0.2), cost, cost)
      >>> core.sweep(Thresholding(), [0.5, 0.6], estimates).answer.tolist()
      [[0], [1]]
    """

    name: ClassVar[str] = "thresholding"
    description: ClassVar[str] = (
        "Runs the models cheapest first, and stops at the first answer whose estimated quality"
        " passes a threshold."
    )
    style: ClassVar[Style | None] = Style("#a67c00", "#e6c229", (0, (1, 1.2)), "v")
    parameter_name: ClassVar[str] = "threshold τ"
    reads: ClassVar[tuple[str, ...]] = ("quality_post",)
    rising: ClassVar[bool] = True

    def next_model(
        self, parameters: Float[Array, "*D"], estimates: Estimates, run: Bool[Array, "B K"]
    ) -> Int[Array, " B"]:
        """Return the next model in order while the last one fell short of its tau."""
        k = run.shape[-1]
        step = jnp.sum(run, axis=-1)
        last = jnp.maximum(step - 1, 0)
        quality = jnp.take_along_axis(estimates.quality, last[:, None], axis=-1)[:, 0]
        # tau_j follows step j: the first of them is in force once one model has run.
        go_on = (step == 0) | ((step < k) & (quality < at_step(parameters, last)))
        return jnp.where(go_on, step, STOP)

    def answer(self, estimates: Estimates, run: Bool[Array, "B K"]) -> Int[Array, " B"]:
        """Return the last model run."""
        return jnp.sum(run, axis=-1) - 1

    def initial_grid(self, context: Statistics, count: int) -> Grid:
        """Return thresholds at the quantiles of the post-hoc qualities, and beyond either end."""
        xp = context.xp
        # The quantiles are a sample's: beyond them by more than any other answer may be.
        inner = xp.quantile(context.post, xp.linspace(1, 0, count - 2))
        margin = 1 + xp.ptp(context.post)
        return xp.concatenate([inner[:1] + margin, inner, inner[-1:] - margin])

    def models_read(self, n_models: int) -> Int[np.ndarray, " S"]:
        """Return the last one in order."""
        return np.arange(n_models)

    def limits(self, estimator: Readable) -> Float[Array, "J B"]:
        """Return -post: a step goes on where -tau is below it."""
        return -_last_quality(estimator)[:-1]

    def answers(self, estimator: Readable) -> Int[Array, "K B"]:
        """Return the last model run."""
        shape = _last_quality(estimator).shape
        return jnp.broadcast_to(jnp.arange(shape[0], dtype=jnp.int32)[:, None], shape)


def _last_quality(estimator: Readable) -> Float[Array, "K B"]:
    """Return the quality of each model where it is the last of those run in order."""
    if isinstance(estimator, Tabulated):
        return materialize(estimator.quality[:, 0])
    return jnp.asarray(estimator.quality_post).T
