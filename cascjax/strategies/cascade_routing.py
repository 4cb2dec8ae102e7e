"""Cascade routing: take the best supermodel, and run one model more (paper, section 5)."""

import functools
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from cascjax.core.arrays import (
    UNROLLED,
    better_of,
    materialize,
    over_models,
    over_rows,
    per_step,
    select_model,
)
from cascjax.core.estimates import Estimates, Independent, Tabulated
from cascjax.core.expected_max import (
    LEAST_GAIN,
    MAX_ENUMERATED,
    certain_tables,
    expected_improvement,
    members,
    supermodel_tables,
    supermodel_values,
)
from cascjax.core.sweep import STOP, Outcome
from cascjax.errors import CascjaxError
from cascjax.strategies.base import (
    Priced,
    Readable,
    Strategy,
    Style,
    option,
    step_price,
    without_rounding,
)
from cascjax.strategies.beam import best_first_model
from cascjax.strategies.supersets import (
    SAMPLES,
    Supersets,
    best_answer,
    best_of,
    exact_for_one,
    gains_over,
    joint_points,
    over_incumbent,
    run_sets_up_to,
    supersets,
)


@dataclass(frozen=True)
class CascadeRouting(Priced, Strategy):
    """Take argmax_M V(M | S) - lambda C(M) over supersets M of what has run, S.

    Stop if M = S, else run the cheapest model of M that has not run.

    Attributes:
        max_depth: maximum number of models run on one query.
        search: "exact" looks at every superset; "beam" builds them one model at a time and keeps
            the best `beam_width` of each size; "greedy" looks one model ahead.
        beam_width: supersets of each size that a beam keeps.
        uncertainty: False values a supermodel at the highest mean, as if every estimate were
            certain (the paper's ablation).

    Example:
      >>> import numpy as np
      >>> from cascjax import core
      >>> quality, cost = np.array([[0.5, 0.7]]), np.array([[1.0, 3.0]])
      >>> estimates = core.Independent(quality, quality, np.full((1, 2), 0.2), cost, cost)
      >>> core.sweep(CascadeRouting(max_depth=2), [0.0, 0.2], estimates).answer.tolist()
      [[1], [0]]
    """

    name: ClassVar[str] = "cascade-routing"
    description: ClassVar[str] = (
        "After each answer weighs every set of models that could still be run, and may skip any"
        " of them."
    )
    style: ClassVar[Style | None] = Style("#0072b2", "#56b4e9", "-", "o")
    integrates: ClassVar[bool] = True
    expensive: ClassVar[bool] = True
    instead: ClassVar[str] = "the beam or greedy search (search='beam'), or the strategy 'pandora'"
    max_depth: int = option(5, "Maximum number of models run on one query.")
    search: Literal["exact", "beam", "greedy"] = option(
        "exact", "Search for the best superset: all of them, a beam, or one model ahead."
    )
    beam_width: int = option(8, "Number of supersets of each size that a beam keeps.")
    uncertainty: bool = option(True, "Use the spread of the estimates, not their means alone.")

    def __post_init__(self):
        if self.max_depth < 1 or self.beam_width < 1:
            raise CascjaxError("max_depth and beam_width must be at least 1")

    def next_model(
        self, parameters: Float[Array, "*D"], estimates: Estimates, run: Bool[Array, "B K"]
    ) -> Int[Array, " B"]:
        """Return the cheapest model of the best superset that has not run, or `STOP`."""
        price, covariance = step_price(parameters, run), estimates.covariance
        if not self.uncertainty:
            covariance = jnp.zeros_like(estimates.quality)
        cost = jnp.where(run, 0, estimates.cost)
        if self.search != "exact":
            levels = 1 if self.search == "greedy" else self.max_depth
            if self.search == "greedy" and self.uncertainty:
                # How models move together means nothing to a single one.
                covariance = estimates.variance
            return best_first_model(
                price, estimates.quality, covariance, cost, run,
                width=self.beam_width, levels=levels, max_depth=self.max_depth,
                panels=(estimates.panels or None) if self.uncertainty else None,
            )  # fmt: skip
        estimates = over_incumbent(replace(estimates, covariance=covariance), run)
        supermodels = jnp.asarray(members(run.shape[-1], self.max_depth))
        value = supermodel_values(
            estimates.quality, covariance, max_size=self.max_depth, samples=SAMPLES
        )
        value = exact_for_one(value, supermodels, estimates, run)
        superset = jnp.all(supermodels | ~run[:, None, :], axis=-1)
        # Supersets come in rising size: the first is what has run.
        first = jnp.argmax(superset, axis=-1)[:, None]
        value_run = jnp.take_along_axis(value, first, axis=-1)[:, 0]
        value = without_rounding(value, value_run, estimates)
        worth = value - price[:, None] * (cost @ supermodels.T.astype(cost.dtype))
        best = supermodels[jnp.argmax(jnp.where(superset, worth, -jnp.inf), axis=-1)]
        added = best & ~run
        return jnp.where(jnp.any(added, axis=-1), jnp.argmax(added, axis=-1), STOP)

    def max_steps(self, n_models: int) -> int:
        """Return `max_depth`, or as many models as there are."""
        return min(self.max_depth, n_models)

    @property
    def max_models(self) -> int | None:
        """As many as whose sets can be enumerated, if all supersets are looked at."""
        return MAX_ENUMERATED if self.search == "exact" else None

    def run_sets(self, n_models: int) -> Int[np.ndarray, " S"] | None:
        """Return all of at most `max_depth` models, the smallest first; None for a beam."""
        if self.search == "beam":
            return None
        return run_sets_up_to(n_models, self.max_steps(n_models))

    def sweep(self, parameters: Float[Array, "L *D"], estimator: Readable) -> Outcome | None:
        """Return the outcome at every price, from one table per query.

        With independent estimates and certain answers the state is what has run and the incumbent,
        one of K post-hoc values: so V of every superset in every state is in `supermodel_tables`,
        whatever the price.
        """
        if isinstance(estimator, Tabulated):
            return self._table_sweep(parameters, estimator)
        if self.search == "greedy" and self.max_steps(estimator.shape[1]) <= 16:
            return self._greedy_sweep(parameters, estimator)
        if self.search != "exact":
            return None
        ante, post, sigma, cost = estimator.queries_last()
        k, n_queries = ante.shape
        depth = self.max_steps(k)
        price = per_step(parameters, depth)
        values, gains = materialize(
            supermodel_tables(post, ante, sigma, depth, estimator.panels or None)
            if self.uncertainty
            else certain_tables(post, ante, depth)
        )
        masks = members(k, depth)
        size, total = masks.sum(1), materialize(jnp.asarray(masks, cost.dtype) @ cost)
        bits = jnp.asarray(masks @ (1 << np.arange(k)), jnp.int32)
        cheapest = jnp.asarray(masks.argmax(1), jnp.int32)

        def first(best: tuple[Array, Array], model: tuple[Array, ...]) -> tuple[Any, None]:
            value, cheapest, total = model
            return better_of(*best, value - price[0] * total, cheapest), None

        nothing = jnp.full((len(parameters), n_queries), -jnp.inf)
        start = (nothing, jnp.zeros(nothing.shape, jnp.int32))
        _, new = over_rows(first, start, len(masks), values, cheapest, total)
        # What a step may add comes first, smaller supermodels before larger ones.
        counts = [int((size <= depth - step).sum()) for step in range(depth)]

        def one_step(step: Any, count: Any, state: tuple[Array, ...]) -> tuple[Array, ...]:
            ran, answer, incumbent = state
            now = price[step]

            def extend(best: tuple[Array, Array], model: tuple[Array, ...]) -> tuple[Any, None]:
                gain, bits, cheapest, total = model
                worth = select_model(gain, answer) - now * total
                worth = jnp.where((bits & ran) == 0, worth, -jnp.inf)
                return better_of(*best, worth, cheapest), None

            # Stopping is worth 0; so is the empty addition, which is not better.
            stop = (jnp.zeros(ran.shape), jnp.full(ran.shape, STOP))
            # Those too large for this step count as run, also where a line of code takes them in.
            fits = jnp.where(jnp.arange(len(masks)) < count, bits, -1)
            _, new = over_rows(extend, stop, count, gains, fits, cheapest, total)
            # Queries that have stopped stay so, even where a later step is cheaper.
            new = jnp.where(jax.lax.population_count(ran) == step, new, STOP)
            got = jnp.where(new == STOP, -jnp.inf, select_model(post, new))
            return (
                ran | jnp.where(new == STOP, 0, 1 << jnp.maximum(new, 0)),
                jnp.where(_better(got, new, incumbent, answer), new, answer),
                jnp.maximum(got, incumbent),
            )

        state = (1 << new, new, select_model(post, new))
        if len(masks) <= UNROLLED:
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
        """Return every price one model ahead: a model's expected improvement has a closed form."""
        ante, post, sigma, cost = estimator.queries_last()
        sigma = sigma * self.uncertainty
        k, n_queries = ante.shape
        depth = self.max_steps(k)
        price = per_step(parameters, depth)
        least = LEAST_GAIN * jnp.max(sigma, axis=0)

        def one_step(step: Any, state: tuple[Array, ...]) -> tuple[Array, ...]:
            chosen, answer, incumbent = state
            now = price[step]

            def best(top: tuple[Array, Array], model: tuple[Array, ...]) -> tuple[Any, None]:
                index, ante, sigma, cost = model
                gain = expected_improvement(incumbent, ante, sigma)
                # Before any model has run, what one adds is all that it is worth.
                gain = jnp.where(step == 0, ante, jnp.where(gain > least, gain, 0))
                used = functools.reduce(jnp.logical_or, [ran == index for ran in chosen])
                return better_of(*top, jnp.where(used, -jnp.inf, gain - now * cost), index), None

            none = jnp.full(answer.shape, STOP)
            nothing = jnp.where(step == 0, -jnp.inf, jnp.zeros(answer.shape))
            (_, new), _ = over_models(best, (nothing, none), ante, sigma, cost)
            # Queries that have stopped stay so, even where a later step is cheaper.
            new = materialize(jnp.where((step == 0) | (chosen[step - 1] != STOP), new, STOP))

            def look(got: Array, model: tuple[Array, ...]) -> tuple[Array, None]:
                index, post = model
                return jnp.where(new == index, post, got), None

            got, _ = over_models(look, jnp.full(answer.shape, -jnp.inf), post)
            return (
                chosen.at[step].set(new),
                jnp.where(_better(got, new, incumbent, answer), new, answer),
                jnp.maximum(got, incumbent),
            )

        chosen = jnp.full((depth, len(parameters), n_queries), STOP)
        state = (chosen, chosen[0], jnp.full(chosen.shape[1:], -jnp.inf))
        chosen, answer, _ = jax.lax.fori_loop(0, depth, one_step, state)
        run = (ran[..., None] == jnp.arange(k) for ran in chosen)
        return Outcome(functools.reduce(jnp.logical_or, run), answer)

    def _table_sweep(self, parameters: Float[Array, "L *D"], table: Tabulated) -> Outcome:
        """Return every price, where a query's estimates depend on all that has run.

        What it is best to add to a run set depends on the price alone. So run sets are gone
        through from the empty one on, and at each the queries that are there move on or stay.
        """
        _, k, n_queries = table.quality.shape
        depth = self.max_steps(k)
        price = per_step(parameters, depth)
        points = materialize(joint_points(table.covariance)) if self.uncertainty else None
        ran = jnp.zeros((len(parameters), n_queries), jnp.int32)
        for step in range(depth):
            sets = supersets(k, step, step + 1 if self.search == "greedy" else depth)
            here = sets.part(table)
            incumbent = materialize(best_of(here.quality, sets.ran)[0]) if step else None
            there = None if points is None else points[sets.slice]
            worth = materialize((gains_over(here, sets, incumbent, there), _costs(here, sets)))
            ran = _moved(ran, price[step], worth, sets)
        ran = materialize(ran)
        return Outcome((ran[..., None] >> jnp.arange(k)) & 1 == 1, best_answer(ran, table, depth))

    def footprint(self, n_models: int, panels: int | None = None) -> int:
        """Return the number of integrals and gains of every supermodel, or the room of a beam."""
        self.check_size(n_models)
        if self.search == "greedy":
            return 16 * n_models
        if self.search == "exact":
            return 8 * n_models * len(members(n_models, self.max_steps(n_models)))
        return 40 * n_models * self.beam_width

    def table_footprint(self, n_models: int) -> int:
        """Return the room of the table, and of gains and costs at the run sets of one size."""
        run_sets, depth = self.run_sets(n_models), self.max_steps(n_models)
        if run_sets is None:
            return self.footprint(n_models)
        counts = [supersets(n_models, step, depth).first.size for step in range(depth)]
        return 2 * n_models * (len(run_sets) + 1) + 4 * max(counts)


def _better(got: Array, new: Array, incumbent: Array, answer: Array) -> Array:
    """Return whether the new answer is taken: of equals that of the first model, as `answer`."""
    return (got > incumbent) | ((got == incumbent) & (new < answer))


def _costs(table: Tabulated, sets: Supersets) -> Float[Array, "C A B"]:
    """Return what each addition costs."""
    exact = jax.lax.Precision.HIGHEST
    shared = len(table.cost) == 1
    cost = jnp.broadcast_to(table.cost, table.quality.shape) if not shared else table.cost[0]
    added = jnp.asarray(sets.added, cost.dtype)
    return jnp.einsum("cak,kb->cab" if shared else "cak,ckb->cab", added, cost, precision=exact)


def _moved(
    ran: Int[Array, "L B"],
    price: Float[Array, "L 1"],
    worth: tuple[Float[Array, "C A B"], Float[Array, "C A B"]],
    sets: Supersets,
) -> Int[Array, "L B"]:
    """Return what has run once every query at one of these run sets ran its next model."""
    rows = (jnp.asarray(sets.run_sets, jnp.int32), jnp.asarray(sets.first, jnp.int32), *worth)

    def at(ran: Array, row: tuple[Array, ...]) -> tuple[Array, None]:
        run_set, first, gain, cost = materialize(row)

        def extend(best: tuple[Array, Array], addition: tuple[Array, ...]) -> tuple[Any, None]:
            gain, cost, first = addition
            return better_of(*best, gain - price * cost, first), None

        # Adding nothing is worth 0, or less than anything where nothing has run.
        stop = (jnp.broadcast_to(gain[0], ran.shape), jnp.zeros(ran.shape, jnp.int32))
        _, new = over_rows(extend, stop, len(gain), gain, cost, first)
        return jnp.where(ran == run_set, ran | new, ran), None

    return jax.lax.scan(at, ran, rows)[0]
