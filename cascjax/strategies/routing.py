"""Routing: run one model, chosen before any has run (paper, section 3)."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from cascjax.core.expected_max import materialize
from cascjax.estimators import Estimates, Independent, Tabulated
from cascjax.strategies.base import (
    STOP,
    Outcome,
    Priced,
    Stages,
    Strategy,
    Style,
    of_model,
    over_models,
)


@dataclass(frozen=True)
class Routing(Priced, Strategy):
    """Run argmax_i q_i - lambda c_i on the ex-ante estimates.

    Optimal for its class: this is the Lagrangian of the linear program that maximises mean
    quality under a bound on mean cost.
    """

    name: ClassVar[str] = "routing"
    description: ClassVar[str] = "Picks one model before any has run, and runs that one alone."
    style: ClassVar[Style | None] = Style("#009e73", "#35d0a5", (0, (4, 1.5, 1, 1.5)), "^")
    tuning: ClassVar[Literal["steps", "corrections", "evolution"] | None] = None
    staged: ClassVar[bool] = True
    role: ClassVar[Literal["routing", "cascading", "combined"]] = "routing"
    reads: ClassVar[tuple[str, ...]] = ("quality_ante", "cost_ante")

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

    def run_sets(self, n_models: int) -> Int[np.ndarray, " S"]:
        """The empty one."""
        del n_models
        return np.zeros(1, int)

    def sweep(
        self, parameters: Float[Array, "L *D"], estimator: Independent | Tabulated
    ) -> Outcome:
        """The best single model at every price."""
        price = parameters.reshape(parameters.shape[0], -1)[:, :1]

        def step(best: tuple[Array, Array], model: tuple[Array, ...]) -> tuple[Any, None]:
            worth, answer = best
            index, quality, cost = model
            new = quality - price * cost
            return (jnp.maximum(worth, new), jnp.where(new > worth, index, answer)), None

        quality, cost = _in_advance(estimator)
        start = jnp.full((len(price), quality.shape[1]), -jnp.inf)
        (_, answer), _ = over_models(
            step, (start, jnp.zeros(start.shape, jnp.int32)), quality, cost
        )
        answer = materialize(answer)
        return Outcome(answer[..., None] == jnp.arange(len(quality)), answer)

    def stages(
        self, estimator: Independent | Tabulated, least: Float[Array, ""] | float = -np.inf
    ) -> Stages:
        """The upper hull of each query's models, from the cheapest up to the best.

        The next corner is the more expensive model that buys most quality for its extra cost; it
        takes over where the price falls below that slope.
        """
        quality, cost = _in_advance(estimator)
        k, n_queries = quality.shape

        def cheapest(best: tuple[Array, ...], model: tuple[Array, ...]) -> tuple[Any, None]:
            _, q, c = model
            _, top, least_cost = best
            better = (c < least_cost) | ((c == least_cost) & (q > top))
            return tuple(
                jnp.where(better, new, old) for new, old in zip(model, best, strict=True)
            ), None

        def corner(state: tuple[Array, ...]) -> tuple[Array, ...]:
            stage, slope, at, q_at, c_at, below, model = state

            def steepest(best: tuple[Array, Array], row: tuple[Array, ...]) -> tuple[Any, None]:
                index, q, c = row
                new = jnp.where(c > c_at, (q - q_at) / (c - c_at), -jnp.inf)
                return (jnp.maximum(best[0], new), jnp.where(new > best[0], index, best[1])), None

            (_, at), _ = over_models(steepest, (jnp.full(n_queries, -jnp.inf), at), quality, cost)
            # Taken again for the model found: one result leaves the loop above, not two.
            q, c = of_model(quality, at), of_model(cost, at)
            # Rounding may let a slope rise by a hair: then no price is in between.
            new = jnp.minimum(slope, (q - q_at) / (c - c_at))
            slope = jnp.where(c > c_at, new, -jnp.inf)
            return stage + 1, slope, at, q, c, below.at[stage].set(slope), model.at[stage].set(at)

        slope = jnp.full(n_queries, jnp.inf)
        worst = (jnp.zeros(n_queries, jnp.int32), -slope, slope)
        (at, q, c), _ = over_models(cheapest, worst, quality, cost)
        below = jnp.full((k, n_queries), -jnp.inf).at[0].set(slope)
        model = jnp.zeros((k, n_queries), jnp.int32).at[0].set(at)
        count, *_, below, model = jax.lax.while_loop(
            lambda state: (state[0] < k) & jnp.any(state[1] > least),
            corner,
            (jnp.int32(1), slope, at, q, c, below, model),
        )
        return Stages(below, model, model, count, keeps=False)


def _in_advance(
    estimator: Independent | Tabulated,
) -> tuple[Float[Array, "K B"], Float[Array, "K B"]]:
    """Quality and cost before any model runs."""
    if isinstance(estimator, Tabulated):
        return materialize((estimator.quality[0], estimator.cost[0]))
    quality, _, _, cost = estimator.queries_last()
    return quality, cost
