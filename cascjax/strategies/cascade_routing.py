"""Cascade routing: of all supermodels take the best, and run one model more (paper, section 5)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from cascjax.errors import CascjaxError
from cascjax.estimators import Estimates, Independent
from cascjax.expected_max import members, supermodel_gains, supermodel_values
from cascjax.strategies.base import STOP, Outcome, Priced, Strategy, at_step
from cascjax.strategies.beam import best_addition


@dataclass(frozen=True)
class CascadeRouting(Priced, Strategy):
    """Take argmax_M V(M | S) - lambda C(M) over supersets M of what has run, S.

    Stop if M = S, else run the cheapest model of M that has not run.

    Attributes:
        max_depth: models run on one query at most.
        search: "exact" looks at every superset; "beam" builds them one model at a time and keeps
            the best `beam_width` of each size; "greedy" looks one model ahead.
        beam_width: supermodels a beam keeps.
        uncertainty: False values a supermodel at the highest mean, as if every estimate were
            certain (the paper's ablation).
    """

    name: ClassVar[str] = "cascade-routing"
    max_depth: int = 5
    search: Literal["exact", "beam", "greedy"] = "exact"
    beam_width: int = 8
    uncertainty: bool = True

    def __post_init__(self):
        if self.max_depth < 1 or self.beam_width < 1:
            raise CascjaxError("max_depth and beam_width must be at least 1")

    def next_model(
        self,
        parameters: Float[Array, "*D"],
        estimates: Estimates,
        run: Bool[Array, "B K"],
    ) -> Int[Array, " B"]:
        """The cheapest model of the best superset that has not run, or `STOP`."""
        price = jnp.broadcast_to(at_step(parameters, run), run.shape[:1])
        covariance = estimates.covariance * self.uncertainty
        cost = jnp.where(run, 0, estimates.cost)
        if self.search != "exact":
            levels = 1 if self.search == "greedy" else self.max_depth
            return best_addition(
                price, estimates.quality, covariance, cost, run,
                width=self.beam_width, levels=levels, max_depth=self.max_depth,
            )  # fmt: skip
        supermodels = jnp.asarray(members(run.shape[-1], self.max_depth))
        value = supermodel_values(estimates.quality, covariance, max_size=self.max_depth)
        worth = value - price[:, None] * (cost @ supermodels.T.astype(cost.dtype))
        superset = jnp.all(supermodels | ~run[:, None, :], axis=-1)
        best = supermodels[jnp.argmax(jnp.where(superset, worth, -jnp.inf), axis=-1)]
        added = best & ~run
        return jnp.where(jnp.any(added, axis=-1), jnp.argmax(added, axis=-1), STOP)

    def max_steps(self, n_models: int) -> int:
        """`max_depth`, or as many models as there are."""
        return min(self.max_depth, n_models)

    def sweep(self, parameters: Float[Array, "L *D"], estimator: Independent) -> Outcome | None:
        """Every price, from one table a query.

        With independent estimates and certain answers the state is what has run and the best
        quality in hand, one of K post-hoc values: so V of every superset in every state is in
        `supermodel_gains`, whatever the price.
        """
        if self.search != "exact":
            return None
        n_queries, k = estimator.quality_ante.shape
        depth = self.max_steps(k)
        price = jnp.broadcast_to(
            parameters.reshape(parameters.shape[0], -1), (parameters.shape[0], depth)
        )
        ante, post = jnp.asarray(estimator.quality_ante), jnp.asarray(estimator.quality_post)
        sigma = jnp.broadcast_to(estimator.sigma * self.uncertainty, ante.shape)
        supermodels = members(k, depth)
        bits = jnp.asarray(supermodels @ (1 << np.arange(k)), jnp.int32)
        size = jnp.asarray(supermodels.sum(1))
        cost = estimator.cost_ante @ supermodels.T.astype(np.float32)
        from_nothing = supermodel_values(ante, jnp.square(sigma), max_size=depth)
        from_answer = supermodel_gains(post, ante, sigma, max_size=depth).at[:, :, 0].set(0)
        query = jnp.arange(n_queries)

        def choose(gain: Array, step: int | Array, ran: Array) -> Array:
            """The model to run next, from the gains `[L, B, M]` of adding each supermodel."""
            disjoint = (bits & ran[..., None]) == 0
            worth = gain - price[:, step][:, None, None] * cost
            worth = jnp.where(disjoint & (size <= depth - step), worth, -jnp.inf)
            added = bits[jnp.argmax(worth, axis=-1)]
            return jax.lax.population_count((added & -added) - 1)  # 32 where nothing is added

        shape = (parameters.shape[0], n_queries)
        first = choose(from_nothing[None], 0, jnp.zeros(shape, jnp.int32))

        def one_step(step: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
            ran, answer = state
            new = choose(from_answer[query, answer], step, ran)
            go_on = new < k
            new = jnp.where(go_on, new, answer)
            better = post[query, new] > post[query, answer]
            return ran | jnp.where(go_on, 1 << new, 0), jnp.where(better, new, answer)

        ran, answer = jax.lax.fori_loop(1, depth, one_step, (1 << first, first))
        return Outcome((ran[..., None] >> jnp.arange(k)) & 1 == 1, answer)

    def footprint(self, n_models: int) -> int:
        """One worth a supermodel."""
        return len(members(n_models, self.max_steps(n_models))) if self.search == "exact" else 0
