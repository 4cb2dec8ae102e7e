"""What a strategy is measured against: mixing single models, and the oracle."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from cascjax.core.estimates import Estimates, Tabulated
from cascjax.core.sweep import STOP, Outcome
from cascjax.data.table import upper_hull
from cascjax.errors import CascjaxError
from cascjax.strategies.base import Grid, Readable, Statistics, Strategy, Style, Tuning
from cascjax.strategies.routing import Routing


@dataclass(frozen=True)
class Mixing(Strategy):
    """Always run the same model; its parameter is which one.

    Two neighbours on the single models' upper hull, mixed at random to meet a budget, are what
    can be had without looking at the query (RouterBench's "zero router").

    Example:
      >>> import numpy as np
      >>> from cascjax import core
      >>> quality, cost = np.array([[0.5, 0.7]]), np.array([[1.0, 3.0]])
      >>> estimates = core.Independent(quality, quality, np.full((1, 2), 0.2), cost, cost)
      >>> core.sweep(Mixing(), [0, 1], estimates).answer.tolist()
      [[0], [1]]
    """

    name: ClassVar[str] = "mixing"
    description: ClassVar[str] = (
        "Picks one single model at random, without looking at the query: the upper hull of the"
        " single models."
    )
    style: ClassVar[Style | None] = Style("#7a8491", "#8f9aa8", "none", "x")
    parameter_name: ClassVar[str] = "models mixed"
    reference: ClassVar[bool] = True
    reads: ClassVar[tuple[str, ...]] = ()
    line: ClassVar[bool] = False
    tuning: ClassVar[Tuning | None] = None

    def next_model(
        self, parameters: Float[Array, "*D"], estimates: Estimates, run: Bool[Array, "B K"]
    ) -> Int[Array, " B"]:
        """Return the one model, then `STOP`."""
        model = jnp.rint(parameters.reshape(-1)[0]).astype(jnp.int32)
        return jnp.where(jnp.any(run, axis=-1), STOP, model)

    def max_steps(self, n_models: int) -> int:
        """Return 1."""
        return 1

    def run_sets(self, n_models: int) -> Int[np.ndarray, " S"]:
        """Return the empty one: for the number of queries, no estimate is read."""
        return np.zeros(1, int)

    def sweep(self, parameters: Float[Array, "L *D"], estimator: Readable) -> Outcome:
        """Return the one model on every query."""
        if isinstance(estimator, Tabulated):
            _, k, n_queries = estimator.quality.shape
        else:
            n_queries, k = estimator.shape
        model = jnp.rint(parameters.reshape(parameters.shape[0], -1)[:, 0]).astype(jnp.int32)
        answer = jnp.broadcast_to(model[:, None], (len(model), n_queries))
        return Outcome(answer[..., None] == jnp.arange(k), answer)

    def initial_grid(self, context: Statistics, count: int) -> Grid:
        """Return the models on the single models' upper hull, most expensive first."""
        return upper_hull(context.cost, context.quality)[::-1].astype(np.float64)

    def midpoints(self, low: float, high: float, count: int) -> Float[np.ndarray, " count"]:
        """Return the lower end: there is no model between two models."""
        return np.full(count, low)

    def all_settings(self, n_models: int) -> Float[np.ndarray, " M"]:
        """Return the models."""
        return np.arange(float(n_models))

    def check_settings(self, settings: Float[np.ndarray, "M *D"], n_models: int) -> None:
        """Refuse numbers that are no model's."""
        if not (settings.min() > -0.5 and settings.max() < n_models - 0.5):
            raise CascjaxError(
                f"there is no model {settings.max():g}: they go from 0 to {n_models - 1}"
            )

    @classmethod
    def setting_text(
        cls, setting: Float[np.ndarray, " D"], models: Sequence[str], digits: int = 4
    ) -> str:
        """Return the name of the model."""
        return models[int(np.clip(np.rint(setting[0]), 0, len(models) - 1))]


@dataclass(frozen=True)
class Oracle(Routing):
    """Routing on the true quality and cost: no router can do better.

    Example:
      >>> import numpy as np
      >>> from cascjax import core
      >>> quality, cost = np.array([[0.5, 0.7]]), np.array([[1.0, 3.0]])
      >>> estimates = core.Independent(quality, quality, np.full((1, 2), 0.2), cost, cost)
      >>> core.sweep(Oracle(), [0.0, 0.2], estimates).answer.tolist()
      [[1], [0]]
    """

    name: ClassVar[str] = "oracle"
    description: ClassVar[str] = (
        "Routing on the true quality and cost of every answer: a ceiling, out of reach in practice."
    )
    style: ClassVar[Style | None] = Style("#3d4654", "#c3cad4", "-", "")
    reference: ClassVar[bool] = True
    sees_truth: ClassVar[bool] = True
