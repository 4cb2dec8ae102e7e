"""Thresholding: the usual cascade (for instance FrugalGPT, Chen, Zaharia, Zou 2023)."""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from cascjax.core.expected_max import materialize
from cascjax.estimators import Estimates, Independent, Tabulated
from cascjax.strategies.base import (
    STOP,
    InOrder,
    Outcome,
    SearchContext,
    Style,
    over_models,
    per_step,
)


@dataclass(frozen=True)
class Thresholding(InOrder):
    """Run models in order of mean cost until the last answer's post-hoc quality reaches tau.

    Its answer is the last model run. One tau for all steps, or one a step.
    """

    name: ClassVar[str] = "thresholding"
    description: ClassVar[str] = (
        "Runs the models cheapest first, and stops at the first answer whose estimated quality"
        " passes a threshold."
    )
    style: ClassVar[Style] = Style("#a67c00", "#e6c229", (0, (1, 1.2)), "v")
    parameter_name: ClassVar[str] = "threshold τ"
    rising: ClassVar[bool] = True
    reads: ClassVar[tuple[str, ...]] = ("quality_post",)

    def next_model(
        self,
        parameters: Float[Array, "*D"],
        estimates: Estimates,
        run: Bool[Array, "B K"],
    ) -> Int[Array, " B"]:
        """The next model in order while the last one fell short of its tau."""
        k = run.shape[-1]
        step = jnp.sum(run, axis=-1)
        last = jnp.maximum(step - 1, 0)
        quality = jnp.take_along_axis(estimates.quality, last[:, None], axis=-1)[:, 0]
        # tau_j follows step j: the first of them is in force once one model has run.
        tau = parameters
        if parameters.ndim:
            tau = parameters[jnp.minimum(last, parameters.shape[0] - 1)]
        go_on = (step == 0) | ((step < k) & (quality < tau))
        return jnp.where(go_on, step, STOP)

    def answer(self, estimates: Estimates, run: Bool[Array, "B K"]) -> Int[Array, " B"]:
        """The last model run."""
        return jnp.sum(run, axis=-1) - 1

    def initial_grid(self, context: SearchContext, count: int) -> Float[np.ndarray, " count"]:
        """Thresholds at the quantiles of the post-hoc qualities, and beyond them at either end."""
        # Of some queries: beyond the quantiles by more than any other answer may be.
        inner = np.quantile(context.post, np.linspace(1, 0, count - 2))
        margin = 1 + np.ptp(context.post)
        return np.concatenate([[inner[0] + margin], inner, [inner[-1] - margin]])

    def models_read(self, n_models: int) -> Int[np.ndarray, " S"]:
        """The last one in order."""
        return np.arange(n_models)

    def sweep(
        self, parameters: Float[Array, "L *D"], estimator: Independent | Tabulated
    ) -> Outcome:
        """How deep every threshold goes."""
        post = _seen_last(estimator)
        k, n_queries = post.shape
        tau = per_step(parameters, k - 1)

        def step(depth: Array, model: tuple[Array, ...]) -> tuple[Array, Array]:
            index, quality, least = model
            go_on = (depth == index) & (quality < least)
            return depth + go_on, depth >= index

        start = jnp.zeros((tau.shape[1], n_queries), jnp.int32)
        depth, run = over_models(step, start, post[: k - 1], tau)
        run = jnp.concatenate([run, (depth >= k - 1)[None]])
        return Outcome(jnp.moveaxis(run, 0, -1), depth)

    def limits(self, estimator: Independent | Tabulated) -> Float[Array, "J B"]:
        """A step goes on where -tau is below -post."""
        return -_seen_last(estimator)[:-1]

    def answers(self, estimator: Independent | Tabulated) -> Int[Array, "K B"]:
        """The last model run."""
        shape = _seen_last(estimator).shape
        return jnp.broadcast_to(jnp.arange(shape[0], dtype=jnp.int32)[:, None], shape)


def _seen_last(estimator: Independent | Tabulated) -> Float[Array, "K B"]:
    """Quality of each model where it is the last of those run in order."""
    if isinstance(estimator, Tabulated):
        return materialize(estimator.quality[:, 0])
    _, post, _, _ = estimator.queries_last()
    return post
