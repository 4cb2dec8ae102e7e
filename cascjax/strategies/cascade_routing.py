"""Cascade routing: of all supermodels take the best, and run one model more (paper, section 5)."""

import functools
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from cascjax.errors import CascjaxError
from cascjax.estimators import Estimates, Estimator, Independent
from cascjax.expected_max import (
    LEAST_GAIN,
    certain_tables,
    materialize,
    members,
    single_gain,
    supermodel_tables,
    supermodel_values,
)
from cascjax.strategies.base import (
    STOP,
    Outcome,
    Priced,
    Strategy,
    at_step,
    over_models,
    panels_for,
    per_step,
    without_rounding,
)
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
        panels: cuts of the quadrature in `sweep` and in a beam; set by `sized_for`,
            0 where the plain way is taken.
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
                panels=self.panels or None,
            )  # fmt: skip
        supermodels = jnp.asarray(members(run.shape[-1], self.max_depth))
        value = supermodel_values(estimates.quality, covariance, max_size=self.max_depth)
        superset = jnp.all(supermodels | ~run[:, None, :], axis=-1)
        # Supersets come in rising size: the first is what has run.
        of_run = jnp.take_along_axis(value, jnp.argmax(superset, axis=-1)[:, None], axis=-1)[:, 0]
        value = without_rounding(value, of_run, estimates)
        worth = value - price[:, None] * (cost @ supermodels.T.astype(cost.dtype))
        best = supermodels[jnp.argmax(jnp.where(superset, worth, -jnp.inf), axis=-1)]
        added = best & ~run
        return jnp.where(jnp.any(added, axis=-1), jnp.argmax(added, axis=-1), STOP)

    def max_steps(self, n_models: int) -> int:
        """`max_depth`, or as many models as there are."""
        return min(self.max_depth, n_models)

    def sized_for(self, estimator: Independent | Estimator) -> "CascadeRouting":
        """With as many quadrature panels as these estimates need."""
        if self.panels is not None:
            return self
        return replace(self, panels=panels_for(estimator) if self.uncertainty else 0)

    def sweep(self, parameters: Float[Array, "L *D"], estimator: Independent) -> Outcome | None:
        """Every price, from one table a query.

        With independent estimates and certain answers the state is what has run and the best
        quality in hand, one of K post-hoc values: so V of every superset in every state is in
        `supermodel_tables`, whatever the price.
        """
        if self.search == "greedy" and self.max_steps(estimator.quality_ante.shape[1]) <= 16:
            return self._greedy_sweep(parameters, estimator)
        if self.search != "exact":
            return None
        ante, post, sigma, cost = estimator.queries_last()
        k, n_queries = ante.shape
        depth = self.max_steps(k)
        price = per_step(parameters, depth)
        values, gains = materialize(
            supermodel_tables(post, ante, sigma, depth, self.panels or None)
            if self.uncertainty
            else certain_tables(post, ante, depth)
        )
        masks = members(k, depth)
        size, total = masks.sum(1), materialize(jnp.asarray(masks, cost.dtype) @ cost)
        bits = jnp.asarray(masks @ (1 << np.arange(k)), jnp.int32)
        cheapest = jnp.asarray(masks.argmax(1), jnp.int32)

        def first(best: tuple[Array, Array], model: tuple[Array, ...]) -> tuple[Any, None]:
            worth, new = best
            value, cheapest, total = model
            worth_now = value - price[0] * total
            return _better(worth, new, worth_now, cheapest), None

        nothing = jnp.full((len(parameters), n_queries), -jnp.inf)
        start = (nothing, jnp.zeros(nothing.shape, jnp.int32))
        _, new = _over_supermodels(first, start, len(masks), values, cheapest, total)
        # What a step may add comes first, smaller supermodels before larger ones.
        counts = [int((size <= depth - step).sum()) for step in range(depth)]

        def one_step(step: Any, count: Any, state: tuple[Array, ...]) -> tuple[Array, ...]:
            ran, answer, in_hand = state
            now = price[step]

            def extend(best: tuple[Array, Array], model: tuple[Array, ...]) -> tuple[Any, None]:
                worth, new = best
                gain, bits, cheapest, total = model
                worth_now = _pick(answer, gain) - now * total
                worth_now = jnp.where((bits & ran) == 0, worth_now, -jnp.inf)
                return _better(worth, new, worth_now, cheapest), None

            # Stopping is worth 0; so is the empty addition, which is not better.
            stop = (jnp.zeros(ran.shape), jnp.full(ran.shape, STOP))
            # Those too large for this step count as run, also where a line of code takes them in.
            fits = jnp.where(jnp.arange(len(masks)) < count, bits, -1)
            _, new = _over_supermodels(extend, stop, count, gains, fits, cheapest, total)
            # Whoever has stopped stays so, even where a later step is cheaper.
            new = jnp.where(jax.lax.population_count(ran) == step, new, STOP)
            got = jnp.where(new == STOP, -jnp.inf, _pick(new, post))
            return (
                ran | jnp.where(new == STOP, 0, 1 << jnp.maximum(new, 0)),
                jnp.where(got > in_hand, new, answer),
                jnp.maximum(got, in_hand),
            )

        state = (1 << new, new, _pick(new, post))
        if len(masks) <= _LINE:
            for step in range(1, depth):
                state = one_step(step, counts[step], state)
        else:
            ends = jnp.array(counts)
            state = jax.lax.fori_loop(
                1, depth, lambda step, state: one_step(step, ends[step], state), state
            )
        ran, answer = materialize(state[:2])
        return Outcome((ran[..., None] >> jnp.arange(k)) & 1 == 1, answer)

    def _greedy_sweep(self, parameters: Float[Array, "L *D"], estimator: Independent) -> Outcome:
        """Every price, one model ahead: a model's gain over the best in hand has a closed form."""
        ante, post, sigma, cost = estimator.queries_last()
        sigma = sigma * self.uncertainty
        k, n_queries = ante.shape
        depth = self.max_steps(k)
        price = per_step(parameters, depth)
        least = LEAST_GAIN * jnp.max(sigma, axis=0)

        def one_step(step: Any, state: tuple[Array, ...]) -> tuple[Array, ...]:
            chosen, answer, in_hand = state
            now = price[step]

            def best(found: tuple[Array, Array], model: tuple[Array, ...]) -> tuple[Any, None]:
                index, ante, sigma, cost = model
                gain = single_gain(in_hand, ante, sigma)
                # Before any has run, what a model adds is all that it is worth.
                gain = jnp.where(step == 0, ante, jnp.where(gain > least, gain, 0))
                used = functools.reduce(jnp.logical_or, [one == index for one in chosen])
                return _better(*found, jnp.where(used, -jnp.inf, gain - now * cost), index), None

            none = jnp.full(answer.shape, STOP)
            nothing = jnp.where(step == 0, -jnp.inf, jnp.zeros(answer.shape))
            (_, new), _ = over_models(best, (nothing, none), ante, sigma, cost)
            # Whoever has stopped stays so, even where a later step is cheaper.
            new = materialize(jnp.where((step == 0) | (chosen[step - 1] != STOP), new, STOP))

            def see(seen: Array, model: tuple[Array, ...]) -> tuple[Array, None]:
                index, post = model
                return jnp.where(new == index, post, seen), None

            got, _ = over_models(see, jnp.full(answer.shape, -jnp.inf), post)
            better = got > in_hand
            return (
                chosen.at[step].set(new),
                jnp.where(better, new, answer),
                jnp.where(better, got, in_hand),
            )

        chosen = jnp.full((depth, len(parameters), n_queries), STOP)
        state = (chosen, chosen[0], jnp.full(chosen.shape[1:], -jnp.inf))
        chosen, answer, _ = jax.lax.fori_loop(0, depth, one_step, state)
        run = (one[..., None] == jnp.arange(k) for one in chosen)
        return Outcome(functools.reduce(jnp.logical_or, run), answer)

    def footprint(self, n_models: int) -> int:
        """Integrals and gains of every supermodel, or what a beam holds."""
        if self.search == "greedy":
            return 16 * n_models
        if self.search == "exact":
            return 8 * n_models * len(members(n_models, self.max_steps(n_models)))
        return 40 * n_models * self.beam_width


def _pick(model: Int[Array, "L B"], of: Float[Array, "K B"]) -> Float[Array, "L B"]:
    """The row of each query's model; by selection, which fills vector lanes where gather cannot."""
    picked = jnp.broadcast_to(of[0], model.shape)
    for k in range(1, len(of)):
        picked = jnp.where(model == k, of[k], picked)
    return picked


def _better(worth: Array, of: Array, new_worth: Array, new_of: Array) -> tuple[Array, Array]:
    better = new_worth > worth
    return jnp.where(better, new_worth, worth), jnp.where(better, new_of, of)


_LINE = 64
"""Supermodels up to which the loop over them is one straight line of code."""


def _over_supermodels(step: Any, carry: Any, count: int | Array, *rows: Array) -> Any:
    """Folds `step` over the first `count` rows, a few at a time in a straight line of code."""
    if len(rows[0]) <= _LINE:
        return jax.lax.scan(step, carry, tuple(row[:count] for row in rows), unroll=_LINE)[0]
    line = 8
    short = -len(rows[0]) % line
    # Rows beyond the count repeat the first, the empty supermodel, which never wins.
    rows = tuple(jnp.concatenate([row, jnp.repeat(row[:1], short, axis=0)]) for row in rows)

    def one_line(index: Array, carry: Any) -> Any:
        # Cut out first: a moving slice inside the arithmetic would keep XLA from vectorising.
        cut = [jax.lax.dynamic_slice_in_dim(row, index * line, line) for row in rows]
        return jax.lax.scan(step, carry, materialize(tuple(cut)), unroll=line)[0]

    return jax.lax.fori_loop(0, (count + line - 1) // line, one_line, carry)
