"""Routing: run one model, chosen before any has run (paper, section 3)."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from cascjax.core.arrays import materialize, over_models, take_model
from cascjax.core.breakpoints import Breakpoints
from cascjax.core.estimates import Estimates, Tabulated
from cascjax.core.sweep import STOP, Outcome
from cascjax.strategies.base import Priced, Readable, Role, Strategy, Style, Tuning


@dataclass(frozen=True)
class Routing(Priced, Strategy):
    """Run argmax_i q_i - lambda c_i on the ex-ante estimates.

    Optimal for its class: this is the Lagrangian of the linear program that maximises mean
    quality under a bound on mean cost.

    Example:
      >>> import numpy as np
      >>> from cascjax import core
      >>> quality, cost = np.array([[0.5, 0.7]]), np.array([[1.0, 3.0]])
      >>> estimates = core.Independent(quality, quality, np.full((1, 2), 0.2), cost, cost)
      >>> core.sweep(Routing(), [0.0, 0.2], estimates).answer.tolist()
      [[1], [0]]
    """

    name: ClassVar[str] = "routing"
    description: ClassVar[str] = "Picks one model before any has run, and runs that one alone."
    style: ClassVar[Style | None] = Style("#009e73", "#35d0a5", (0, (4, 1.5, 1, 1.5)), "^")
    reads: ClassVar[tuple[str, ...]] = ("quality_ante", "cost_ante")
    role: ClassVar[Role] = "routing"
    has_breakpoints: ClassVar[bool] = True
    tuning: ClassVar[Tuning | None] = None

    def next_model(
        self, parameters: Float[Array, "*D"], estimates: Estimates, run: Bool[Array, "B K"]
    ) -> Int[Array, " B"]:
        """Return the best single model, then `STOP`."""
        price = parameters.reshape(-1)[0]
        best = jnp.argmax(estimates.quality - price * estimates.cost, axis=-1)
        return jnp.where(jnp.any(run, axis=-1), STOP, best)

    def max_steps(self, n_models: int) -> int:
        """Return 1."""
        return 1

    def run_sets(self, n_models: int) -> Int[np.ndarray, " S"]:
        """Return the empty one."""
        return np.zeros(1, int)

    def sweep(self, parameters: Float[Array, "L *D"], estimator: Readable) -> Outcome:
        """Return the best single model at every price."""
        price = parameters.reshape(parameters.shape[0], -1)[:, :1]

        def step(best: tuple[Array, Array], model: tuple[Array, ...]) -> tuple[Any, None]:
            index, quality, cost = model
            worth = quality - price * cost
            return (jnp.maximum(best[0], worth), jnp.where(worth > best[0], index, best[1])), None

        quality, cost = _in_advance(estimator)
        start = jnp.full((len(price), quality.shape[1]), -jnp.inf)
        nothing = jnp.zeros(start.shape, jnp.int32)
        (_, answer), _ = over_models(step, (start, nothing), quality, cost)
        answer = materialize(answer)
        return Outcome(answer[..., None] == jnp.arange(len(quality)), answer)

    def breakpoints(
        self, estimator: Readable, least: Float[Array, ""] | float = -np.inf
    ) -> Breakpoints:
        """Return the upper hull of each query's models, from the cheapest up to the best.

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
            step, slope, at, q_at, c_at, below, model = state

            def steepest(best: tuple[Array, Array], row: tuple[Array, ...]) -> tuple[Any, None]:
                index, q, c = row
                new = jnp.where(c > c_at, (q - q_at) / (c - c_at), -jnp.inf)
                return (jnp.maximum(best[0], new), jnp.where(new > best[0], index, best[1])), None

            (_, at), _ = over_models(steepest, (jnp.full(n_queries, -jnp.inf), at), quality, cost)
            # Taken again for the chosen model: one result leaves the loop above, not two.
            q, c = take_model(quality, at), take_model(cost, at)
            # Rounding may let a slope rise by a hair: then no price is in between.
            new = jnp.minimum(slope, (q - q_at) / (c - c_at))
            slope = jnp.where(c > c_at, new, -jnp.inf)
            return step + 1, slope, at, q, c, below.at[step].set(slope), model.at[step].set(at)

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
        return Breakpoints(below, model, model, count, cumulative=False)


def _in_advance(estimator: Readable) -> tuple[Float[Array, "K B"], Float[Array, "K B"]]:
    """Return quality and cost before any model runs."""
    if isinstance(estimator, Tabulated):
        return materialize((estimator.quality[0], estimator.cost[0]))
    quality, _, _, cost = estimator.queries_last()
    return quality, cost
