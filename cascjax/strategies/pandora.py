"""Pandora: run models in falling reservation value (Weitzman, Econometrica 1979)."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from cascjax.core.arrays import materialize, over_models, per_step
from cascjax.core.estimates import Estimates, Tabulated
from cascjax.core.reservation import reservation_value, standard_reservation
from cascjax.core.sweep import STOP, Outcome
from cascjax.strategies.base import Priced, Readable, Strategy, Style, Tuning, step_price
from cascjax.strategies.supersets import (
    Supersets,
    best_answer,
    best_of,
    rows_of,
    run_sets_up_to,
    select,
    supersets,
)


@dataclass(frozen=True)
class Pandora(Priced, Strategy):
    """Run models in falling z_i; stop when the best answer is at least the next z.

    The reservation value z_i solves E[(Q_i - z_i)+] = lambda c_i. For independent estimates this
    is the optimal adaptive policy. With correlated ones the indices are recomputed from the
    current estimates after each answer.

    Example:
      >>> import numpy as np
      >>> from cascjax import core
      >>> quality, cost = np.array([[0.5, 0.7]]), np.array([[1.0, 3.0]])
      >>> estimates = core.Independent(quality, quality, np.full((1, 2), 0.2), cost, cost)
      >>> core.sweep(Pandora(), [0.0, 0.2], estimates).answer.tolist()
      [[1], [0]]
    """

    name: ClassVar[str] = "pandora"
    description: ClassVar[str] = (
        "Runs the models in falling order of their reservation value, and stops once the best"
        " answer beats the next one."
    )
    style: ClassVar[Style | None] = Style("#d55e00", "#ff8c42", (0, (7, 1.5)), "s")
    tuning: ClassVar[Tuning | None] = "corrections"

    def next_model(
        self, parameters: Float[Array, "*D"], estimates: Estimates, run: Bool[Array, "B K"]
    ) -> Int[Array, " B"]:
        """Return the model of the highest z that has not run, or `STOP` if none beats the best."""
        price = step_price(parameters, run)[:, None]
        z = reservation_value(
            estimates.quality, jnp.sqrt(estimates.variance), price * estimates.cost
        )
        z = jnp.where(run, -jnp.inf, z)
        best = jnp.max(jnp.where(run, estimates.quality, -jnp.inf), axis=-1)
        ended = jnp.all(run, axis=-1) | (best >= jnp.max(z, axis=-1))
        return jnp.where(ended, STOP, jnp.argmax(z, axis=-1))

    def run_sets(self, n_models: int) -> Int[np.ndarray, " S"]:
        """Return all of them, the smallest first."""
        return run_sets_up_to(n_models, n_models)

    def sweep(self, parameters: Float[Array, "L *D"], estimator: Readable) -> Outcome | None:
        """Return the outcome at every price in closed form (Kleinberg, Waggoner, Weyl 2016).

        With kappa_i = min(post_i, z_i) and k* = max_i kappa_i, the models run are those of
        z_i >= k*, and the answer is argmax_i kappa_i. There is none for one price per step.
        """
        if isinstance(estimator, Tabulated):
            return self._table_sweep(parameters, estimator)
        if parameters.size > parameters.shape[0]:
            return None
        price = parameters.reshape(parameters.shape[0], -1)[:, :1]
        ante, post, sigma, cost = estimator.queries_last()
        # All that the prices share: one logarithm per query and model, not one per price besides.
        log_ratio = materialize(jnp.log(cost / sigma))[:, None]
        spent = price * cost[:, None]
        beyond = standard_reservation(jnp.log(price) + log_ratio)
        z = ante[:, None] + (sigma[:, None] * beyond - spent)
        # In memory before it is compared: each result below would compute it again.
        z = materialize(jnp.where(spent > 0, z, jnp.inf))

        def step(best: tuple[Array, Array], model: tuple[Array, ...]) -> tuple[Any, None]:
            top, answer = best
            index, post, z = model
            kappa = jnp.minimum(post, z)
            return (jnp.maximum(top, kappa), jnp.where(kappa > top, index, answer)), None

        start = jnp.full((len(price), ante.shape[1]), -jnp.inf)
        start = (start, jnp.zeros(start.shape, jnp.int32))
        (top, answer), _ = over_models(step, start, post, z)
        top, answer = materialize((top, answer))
        # Among models tied at k* those run that come before the one that answers.
        index = jnp.arange(len(z))[:, None, None]
        run = (z > top) | (index == answer) | ((z == top) & (index < answer))
        return Outcome(jnp.moveaxis(run, 0, -1), answer)

    def _table_sweep(self, parameters: Float[Array, "L *D"], table: Tabulated) -> Outcome:
        """Return every price step by step: each answer may change the index of all models left."""
        _, k, n_queries = table.quality.shape
        price = per_step(parameters, k)
        ran = jnp.zeros((price.shape[1], n_queries), jnp.int32)
        for step in range(k):
            ran = materialize(_moved(ran, price[step], table, supersets(k, step, step)))
        return Outcome((ran[..., None] >> jnp.arange(k)) & 1 == 1, best_answer(ran, table, k))

    def footprint(self, n_models: int, panels: int | None = None) -> int:
        """Return the room of z and kappa of every model, and of their evaluation."""
        return 4 * n_models


def _moved(
    ran: Int[Array, "L B"], price: Float[Array, "L 1"], table: Tabulated, sets: Supersets
) -> Int[Array, "L B"]:
    """Return what has run once every query at one of these run sets ran its next model."""
    here = sets.part(table)
    n_sets, step = sets.ran.shape
    cost = jnp.broadcast_to(here.cost, here.quality.shape)
    variance = jnp.diagonal(here.covariance, axis1=1, axis2=2)
    sigma = jnp.sqrt(jnp.maximum(variance, 0))
    left = []
    for models in sets.rest.T:
        mean, model_cost = rows_of(here.quality, models), rows_of(cost, models)
        spread = sigma[np.arange(n_sets), models][:, None]
        runs = (spread > 0) & (model_cost > 0)
        # All that the prices share: one logarithm per run set and model, not one per price.
        log_ratio = jnp.log(jnp.where(runs, model_cost, 1) / jnp.where(runs, spread, 1))
        left.append((mean, log_ratio, model_cost, spread, jnp.asarray(1 << models[:, None])))
    incumbent, _ = best_of(here.quality, sets.ran)
    left, incumbent = materialize((left, incumbent))
    log_price = jnp.log(price)
    (top,) = select(ran, sets.run_sets, [incumbent])
    new = jnp.zeros_like(ran)
    for rows in left:
        mean, log_ratio, cost, spread, bit = select(ran, sets.run_sets, rows)
        spent = price * cost
        z = mean + (spread * standard_reservation(log_price + log_ratio) - spent)
        z = jnp.where(spent > 0, z, jnp.inf)
        # The first of equals, and none that is only as good as the incumbent.
        top, new = jnp.maximum(top, z), jnp.where(z > top, bit, new)
    return jnp.where(jax.lax.population_count(ran) == step, ran | new, ran)
