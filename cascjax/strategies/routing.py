"""Routing: run one model, chosen before any has run (paper, section 3)."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from cascjax.estimators import Estimates, Independent
from cascjax.strategies.base import STOP, Outcome, Priced, Strategy, over_models


@dataclass(frozen=True)
class Routing(Priced, Strategy):
    """Run argmax_i q_i - lambda c_i on the ex-ante estimates.

    Optimal for its class: this is the Lagrangian of the linear program that maximises mean
    quality under a bound on mean cost.
    """

    name: ClassVar[str] = "routing"

    def next_model(
        self,
        parameters: Float[Array, "*D"],
        estimates: Estimates,
        run: Bool[Array, "B K"],
    ) -> Int[Array, " B"]:
        """The best single model, then `STOP`."""
        price = parameters.reshape(-1)[0]
        best = jnp.argmax(estimates.quality - price * estimates.cost, axis=-1)
        return jnp.where(jnp.any(run, axis=-1), STOP, best)

    def max_steps(self, n_models: int) -> int:
        """One."""
        return 1

    def sweep(self, parameters: Float[Array, "L *D"], estimator: Independent) -> Outcome:
        """The best single model at every price."""
        price = parameters.reshape(parameters.shape[0], -1)[:, :1]

        def step(best: tuple[Array, Array], model: tuple[Array, ...]) -> tuple[Any, None]:
            worth, answer = best
            index, quality, cost = model
            new = quality - price * cost
            return (jnp.maximum(worth, new), jnp.where(new > worth, index, answer)), None

        quality, _, _, cost = estimator.queries_last()
        start = jnp.full((len(price), quality.shape[1]), -jnp.inf)
        (_, answer), _ = over_models(
            step, (start, jnp.zeros(start.shape, jnp.int32)), quality, cost
        )
        return Outcome(answer[..., None] == jnp.arange(len(quality)), answer)
