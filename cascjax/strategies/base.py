"""What a strategy is: a pure function of parameters, estimates and run set."""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from cascjax.estimators import Estimates, Estimator, Independent
from cascjax.expected_max import LEAST_GAIN, panels_needed
from cascjax.table import Table

Carry = TypeVar("Carry")
Y = TypeVar("Y")

STOP = -1
"""What `next_model` returns once nothing more is run on a query."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Outcome:
    """What a strategy did to B queries under each of L settings.

    Attributes:
        run: `[L, B, K]` the models it ran.
        answer: `[L, B]` the model whose answer it returned.
    """

    run: Bool[Array, "*L B K"]
    answer: Int[Array, "*L B"]


@dataclass(frozen=True)
class Strategy(ABC):
    """A way to spend: which model to run next, when to stop, whose answer to return.

    The models are numbered in rising mean cost. A subclass is a frozen dataclass whose fields
    are its static options; whatever is searched for is in `parameters`: one number, or one a
    step. The same rule can be given twice: `next_model`, plain, for any estimator, and `sweep`,
    fast, for independent estimates and many parameters at once; they choose alike.
    """

    name: ClassVar[str]
    sees_truth: ClassVar[bool] = False
    """Whether it is a bound rather than a policy: simulated on what only an oracle knows."""

    @abstractmethod
    def next_model(
        self,
        parameters: Float[Array, "*D"],
        estimates: Estimates,
        run: Bool[Array, "B K"],
    ) -> Int[Array, " B"]:
        """The model to run next on each query, or `STOP`."""

    def answer(self, estimates: Estimates, run: Bool[Array, "B K"]) -> Int[Array, " B"]:
        """The run model with the highest current quality estimate."""
        return jnp.argmax(jnp.where(run, estimates.quality, -jnp.inf), axis=-1)

    def max_steps(self, n_models: int) -> int:
        """Models it runs on one query at most."""
        return n_models

    @abstractmethod
    def family(
        self, table: Table, estimator: Independent | Estimator, count: int
    ) -> Float[np.ndarray, " count"]:
        """Parameters from the dearest setting to the cheapest, for a search to start from."""

    def midpoints(self, low: float, high: float, count: int) -> Float[np.ndarray, " count"]:
        """Parameters between two neighbours of the family, for a search to go on with."""
        return np.linspace(low, high, count + 2)[1:-1]

    def sized_for(self, estimator: Independent | Estimator) -> "Strategy":
        """The same rule with its static numerics sized for these estimates; on the host."""
        del estimator
        return self

    def sweep(self, parameters: Float[Array, "L *D"], estimator: Independent) -> Outcome | None:
        """The outcome of every setting at once, or None where there is only `next_model`."""
        del parameters, estimator
        return None

    def footprint(self, n_models: int) -> int:
        """Numbers `sweep` holds a query beside its settings: what sizes a block of queries."""
        return 2 * n_models


def over_models(
    step: Callable[[Carry, tuple[Array, ...]], tuple[Carry, Y]], carry: Carry, *per_model: Array
) -> tuple[Carry, Y]:
    """`jax.lax.scan` over arrays with models first; a straight line of code for up to 16."""
    n_models = len(per_model[0])
    index = jnp.arange(n_models, dtype=jnp.int32)
    return jax.lax.scan(step, carry, (index, *per_model), unroll=min(n_models, 16))


def panels_for(estimator: Independent | Estimator) -> int | None:
    """Quadrature panels these estimates need, or None where they are not independent."""
    if not isinstance(estimator, Independent):
        return None
    return panels_needed(np.asarray(estimator.quality_ante), np.asarray(estimator.sigma))


def at_step(parameters: Float[Array, "*D"], run: Bool[Array, "B K"]) -> Float[Array, "*B"]:
    """The parameter in force: the one there is, or the one of each query's step."""
    if parameters.ndim == 0:
        return parameters
    step = jnp.sum(run, axis=-1)
    return parameters[jnp.minimum(step, parameters.shape[0] - 1)]


def per_step(parameters: Float[Array, "L *D"], steps: int) -> Float[Array, "D L 1"]:
    """The parameter of each step and setting, as `at_step` has it."""
    each = parameters.reshape(parameters.shape[0], -1)
    return each.T[np.minimum(np.arange(steps), each.shape[1] - 1), :, None]


def without_rounding(
    value: Float[Array, "B M"], of_run: Float[Array, " B"], estimates: Estimates
) -> Float[Array, "B M"]:
    """Values of supermodels, or that of what has run where they exceed it by rounding alone."""
    least = LEAST_GAIN * jnp.sqrt(jnp.max(estimates.variance, axis=-1))
    return jnp.where(value > (of_run + least)[:, None], value, of_run[:, None])


class Priced:
    """A strategy whose parameter is lambda, the price of cost in units of quality."""

    def family(
        self, table: Table, estimator: Independent | Estimator, count: int
    ) -> Float[np.ndarray, " count"]:
        """Prices from 0, where cost is no object, to where cost is all that counts."""
        estimates = estimator(jnp.zeros(table.quality.shape, bool))
        quality, cost = np.asarray(estimates.quality), table.cost.mean(0, dtype=np.float64)
        spread = quality.std() + np.ptp(quality.mean(0)) + 1e-6
        ordered = np.sort(cost).tolist()
        gaps = [after - before for before, after in itertools.pairwise(ordered) if after > before]
        least, most = (min(gaps), sum(gaps)) if gaps else (1.0, 1.0)
        # From where the dearest difference in cost hardly counts to where the least decides.
        high = max(1e5 * spread / most, 1e2 * spread / least)
        return np.append(0, np.geomspace(1e-4 * spread / most, high, count - 1))

    def midpoints(self, low: float, high: float, count: int) -> Float[np.ndarray, " count"]:
        """Prices between two neighbours, evenly spaced in their logarithm."""
        if low <= 0:
            low = high * 1e-3
            return np.geomspace(low, high, count + 1)[:-1]
        return np.geomspace(low, high, count + 2)[1:-1]
