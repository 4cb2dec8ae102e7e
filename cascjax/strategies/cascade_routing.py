"""Cascade routing: of all supermodels take the best, and run one model more (paper, section 5)."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from cascjax.errors import CascjaxError
from cascjax.estimators import Estimates, Estimator, Independent
from cascjax.expected_max import members, panels_needed, supermodel_tables, supermodel_values
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
        panels: cuts of the quadrature in `sweep`; set by `sized_for`.
    """

    name: ClassVar[str] = "cascade-routing"
    max_depth: int = 5
    search: Literal["exact", "beam", "greedy"] = "exact"
    beam_width: int = 8
    uncertainty: bool = True
    panels: int | None = None

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

    def sized_for(self, estimator: Independent | Estimator) -> "CascadeRouting":
        """With as many quadrature panels as these estimates need."""
        if not (isinstance(estimator, Independent) and self.uncertainty):
            return self
        ante, sigma = np.asarray(estimator.quality_ante), np.asarray(estimator.sigma)
        return replace(self, panels=panels_needed(ante, sigma))

    def sweep(self, parameters: Float[Array, "L *D"], estimator: Independent) -> Outcome | None:
        """Every price, from one table a query.

        With independent estimates and certain answers the state is what has run and the best
        quality in hand, one of K post-hoc values: so V of every superset in every state is in
        `supermodel_tables`, whatever the price.
        """
        if self.search != "exact":
            return None
        ante, post, cost = (
            leaf.T for leaf in (estimator.quality_ante, estimator.quality_post, estimator.cost_ante)
        )
        sigma = jnp.broadcast_to(estimator.sigma * self.uncertainty, estimator.quality_ante.shape).T
        k, n_queries = ante.shape
        depth = self.max_steps(k)
        price = parameters.reshape(parameters.shape[0], -1, 1)
        price = jnp.broadcast_to(price, (price.shape[0], max(depth, price.shape[1]), 1))
        values, gains = supermodel_tables(post, ante, sigma, depth, self.panels)

        def supermodels(max_size: int) -> tuple[Array, ...]:
            """Bit pattern, size, lowest model and cost of each."""
            masks = members(k, max_size)
            bits, size, low = masks @ (1 << np.arange(k)), masks.sum(1), masks.argmax(1)
            static = (jnp.asarray(x, jnp.int32) for x in (bits, size, low))
            return *static, jnp.asarray(masks, cost.dtype) @ cost

        def first(best: tuple[Array, Array], model: tuple[Array, ...]) -> tuple[Any, None]:
            worth, new = best
            value, low, cost = model
            worth_now = value - price[:, 0] * cost
            better = worth_now > worth
            return (jnp.where(better, worth_now, worth), jnp.where(better, low, new)), None

        _, _, low, total = supermodels(depth)
        nothing = jnp.full((len(price), n_queries), -jnp.inf)
        none = jnp.zeros(nothing.shape, jnp.int32)
        (_, new), _ = jax.lax.scan(first, (nothing, none), (values, low, total), unroll=8)
        state = (1 << new, new, _pick(new, post))
        bits, size, low, total = supermodels(depth - 1)

        def one_step(step: Array, state: tuple[Array, ...]) -> tuple[Array, ...]:
            ran, answer, in_hand = state
            now = jax.lax.dynamic_index_in_dim(price, step, axis=1, keepdims=False)

            def extend(best: tuple[Array, Array], model: tuple[Array, ...]) -> tuple[Any, None]:
                worth, new = best
                gain, bits, size, low, cost = model
                worth_now = _pick(answer, gain) - now * cost
                better = (worth_now > worth) & ((bits & ran) == 0) & (size <= depth - step)
                return (jnp.where(better, worth_now, worth), jnp.where(better, low, new)), None

            # Stopping is worth 0: the empty addition, the first of all, is never better than it.
            start = (jnp.zeros(ran.shape), jnp.full(ran.shape, STOP))
            models = (gains, bits, size, low, total)
            (_, new), _ = jax.lax.scan(extend, start, models, unroll=8)
            got = jnp.where(new == STOP, -jnp.inf, _pick(new, post))
            return (
                ran | jnp.where(new == STOP, 0, 1 << new),
                jnp.where(got > in_hand, new, answer),
                jnp.maximum(got, in_hand),
            )

        ran, answer, _ = jax.lax.fori_loop(1, depth, one_step, state)
        return Outcome((ran[..., None] >> jnp.arange(k)) & 1 == 1, answer)

    def footprint(self, n_models: int) -> int:
        """A gain a supermodel and model in hand, or what a beam holds."""
        if self.search == "exact":
            return n_models * len(members(n_models, self.max_steps(n_models)))
        return 40 * n_models * self.beam_width


def _pick(model: Int[Array, "L B"], of: Float[Array, "K B"]) -> Float[Array, "L B"]:
    """The row of each query's model; by selection, which fills vector lanes where gather cannot."""
    picked = jnp.broadcast_to(of[0], model.shape)
    for k in range(1, len(of)):
        picked = jnp.where(model == k, of[k], picked)
    return picked
