"""Cascading: stop when the best longer prefix is not worth its cost (paper, section 4)."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from cascjax.estimators import Estimates, Independent
from cascjax.expected_max import prefix_gains, prefix_values
from cascjax.strategies.base import STOP, Outcome, Priced, Strategy, at_step


@dataclass(frozen=True)
class Cascading(Priced, Strategy):
    """Of the prefixes of the models in order of mean cost take the best, and run its next model.

    A prefix M_{1:j}, at least as long as what has run, is worth V(M_{1:j}) - lambda C(M_{1:j});
    stop when what has run is the best of them.
    """

    name: ClassVar[str] = "cascading"

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
        worth = prefix_values(estimates.quality, estimates.covariance) - price * cost
        length = jnp.arange(1, k + 1)
        allowed = length >= jnp.maximum(step, 1)[:, None]
        best = length[jnp.argmax(jnp.where(allowed, worth, -jnp.inf), axis=-1)]
        return jnp.where(best > step, step, STOP)

    def sweep(self, parameters: Float[Array, "L *D"], estimator: Independent) -> Outcome:
        """How deep every price goes: one table of gains a query serves them all."""
        k = estimator.quality_ante.shape[-1]
        price = jnp.broadcast_to(
            parameters.reshape(parameters.shape[0], -1), (parameters.shape[0], k)
        )
        # At step s >= 1 the best of the first s answers is in hand.
        best = jax.lax.cummax(jnp.asarray(estimator.quality_post), axis=1)
        ante, sigma = jnp.asarray(estimator.quality_ante), jnp.asarray(estimator.sigma)
        gain = prefix_gains(best[:, :-1], ante, sigma)
        total = jnp.cumsum(estimator.cost_ante, axis=-1)
        extra = total[:, None, :] - total[:, : k - 1, None]
        longer = np.arange(k) > np.arange(k - 1)[:, None]
        worth = jnp.where(longer, gain - price[:, None, 1:, None] * extra, -jnp.inf)
        go_on = jnp.max(worth, axis=-1) > 0
        depth = jnp.sum(jnp.cumprod(go_on.astype(jnp.int32), axis=-1), axis=-1)
        run = jnp.arange(k) <= depth[..., None]
        answer = jnp.argmax(jnp.where(run, estimator.quality_post, -jnp.inf), axis=-1)
        return Outcome(run, answer)

    def footprint(self, n_models: int) -> int:
        """One gain a prefix and longer prefix."""
        return n_models * n_models
