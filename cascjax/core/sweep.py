"""What a strategy does to queries: step by step by its plain rule, or at once by its fast one."""

from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from cascjax.core.arrays import (
    Numbers,
    as_float32,
    in_float32,
    leaves_as_float32,
    materialize,
)
from cascjax.core.estimates import Estimator, Independent, Tabulable, Tabulated
from cascjax.errors import CascjaxError

STOP = -1  # What `next_model` of a strategy returns once nothing more is run on a query

_SINGLE = 1e30
"""A setting whose first number is -_SINGLE (k + 1) stands for model k alone, for any strategy."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Outcome:
    """What a strategy did to B queries under each of L settings.

    Attributes:
        run: `[L, B, K]` whether each model ran.
        answer: `[L, B]` the model whose answer is returned.
    """

    run: Bool[Array, "*L B K"]
    answer: Int[Array, "*L B"]


@in_float32
def sweep(
    strategy: Any,
    parameters: Numbers,
    estimates: Estimator,
    *,
    shape: tuple[int, int] | None = None,
) -> Outcome:
    """Return which models run on every query, and whose answer is returned, for every setting.

    A pure function: it may be jitted (the strategy is static), mapped with vmap over parameters or
    estimates, and sharded over queries. NumPy arrays, lists and other float types are converted to
    float32. Outside of jit, `estimates.sized()` makes cascading and cascade-routing faster.

    Args:
        strategy: a strategy, such as `cascjax.strategies.Pandora()`.
        parameters: L settings: a number each, or `[L, D]` one number per step.
        estimates: the estimates of B queries and K models.
        shape: B and K; needed only if `estimates` has no attribute `shape`.

    Raises:
        CascjaxError: an argument is no array of numbers, or the shape is not known.

    Example:
      >>> import numpy as np
      >>> from cascjax.strategies import Routing
      >>> quality, cost = np.array([[0.5, 0.7], [0.6, 0.6]]), np.array([[1.0, 3.0]] * 2)
      >>> estimates = Independent(quality, quality, np.zeros((1, 2)), cost, cost)
      >>> sweep(Routing(), [0.0, 0.2], estimates).answer.tolist()
      [[1, 0], [0, 0]]
    """
    estimates = leaves_as_float32("estimates", estimates)
    parameters = as_float32("parameters", parameters)
    if parameters.ndim == 0:
        raise CascjaxError("parameters must be [L] or [L, D], one setting per row; wrap a number")
    return outcomes(strategy, parameters, estimates, shape_of(estimates, shape))


def shape_of(estimates: Any, shape: tuple[int, int] | None = None) -> tuple[int, int]:
    """Return the numbers of queries and models of estimates."""
    found = shape or getattr(estimates, "shape", None)
    if found is None:
        raise CascjaxError(
            f"estimates of type {type(estimates).__name__} have no attribute 'shape'; give the"
            " argument shape=(queries, models)"
        )
    return found


def outcomes(
    strategy: Any, parameters: Float[Array, "L *D"], estimates: Estimator, shape: tuple[int, int]
) -> Outcome:
    """Return the outcome of every setting: the strategy's own sweep if it has one, else rollouts.

    As `sweep`, of float32 arrays.
    """
    readable = readable_form(strategy, estimates, shape[1])
    if readable is not None:
        alone = single_model(parameters)
        own = alone.reshape(-1, *[1] * (parameters.ndim - 1)) < 0
        swept = strategy.sweep(jnp.where(own, parameters, 0), readable)
        if swept is not None:
            models, alone = jnp.arange(shape[1]), alone[:, None]
            run = jnp.where(alone[..., None] < 0, swept.run, models == alone[..., None])
            return Outcome(run, jnp.where(alone < 0, swept.answer, alone))
    nothing_run = jnp.zeros(shape, bool)
    return jax.lax.map(lambda p: rollout(strategy, p, estimates, nothing_run), parameters)


def single_settings(n_models: int) -> Float[np.ndarray, " K"]:
    """Return the settings under which each model answers every query alone."""
    return -_SINGLE * np.arange(1.0, n_models + 1).astype(np.float32).astype(np.float64)


def single_model(parameters: Float[Array, "L *D"] | Float[np.ndarray, "L *D"]) -> Any:
    """Return the model that each setting stands for, alone; -1 for the strategy's own settings."""
    xp = np if isinstance(parameters, np.ndarray) else jnp
    first = parameters if parameters.ndim == 1 else parameters[:, 0]
    own = ~((first <= -_SINGLE / 2) & (first > -_SINGLE * 1e6))
    return xp.where(own, -1, xp.rint(xp.where(own, 0, first) / -_SINGLE) - 1).astype(xp.int32)


def next_model(
    strategy: Any,
    parameters: Float[Array, "*D"],
    estimates: Any,
    run: Bool[Array, "B K"],
) -> Int[Array, " B"]:
    """Return the model to run next on each query under a setting, a single model's included."""
    alone = single_model(parameters.reshape(1, -1))[0]
    new = strategy.next_model(jnp.where(alone < 0, parameters, 0), estimates, run)
    return jnp.where(alone < 0, new, jnp.where(jnp.any(run, axis=-1), STOP, alone))


def rollout(
    strategy: Any,
    parameters: Float[Array, "*D"],
    estimates: Estimator,
    nothing_run: Bool[Array, "B K"],
) -> Outcome:
    """Run one setting of a strategy by its plain rule: ask for the next model until it stops."""

    def one_step(_: Array, run: Bool[Array, "B K"]) -> Bool[Array, "B K"]:
        new = next_model(strategy, parameters, estimates(run), run)
        # one_hot of STOP is all zeros: a query that has stopped stays as it is.
        return run | jax.nn.one_hot(new, run.shape[-1], dtype=bool)

    run = jax.lax.fori_loop(0, strategy.max_steps(nothing_run.shape[-1]), one_step, nothing_run)
    return Outcome(run, strategy.answer(estimates(run), run))


def has_breakpoints(strategy: Any, estimates: Any) -> bool:
    """Return whether one pass over the queries serves any number of settings."""
    return strategy.has_breakpoints and isinstance(estimates, Independent | Tabulable)


def takes_table(strategy: Any, estimates: Any, n_models: int) -> bool:
    """Return whether a strategy is simulated from a table of the estimates under run sets."""
    return isinstance(estimates, Tabulable) and strategy.run_sets(n_models) is not None


def readable_form(strategy: Any, estimates: Any, n_models: int) -> Independent | Tabulated | None:
    """Return the estimates as the strategy's fast rule reads them; None where it cannot."""
    if isinstance(estimates, Independent):
        return estimates
    if not takes_table(strategy, estimates, n_models):
        return None
    run_sets = cast(Int[np.ndarray, " S"], strategy.run_sets(n_models))
    # In memory: what is read again and again is not to be computed again.
    return materialize(estimates.tabulate(run_sets, strategy.models_read(n_models)))
