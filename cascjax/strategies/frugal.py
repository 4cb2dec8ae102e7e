"""Frugal: thresholds along a chain of chosen models (FrugalGPT, Chen, Zaharia, Zou 2023)."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from cascjax.core.expected_max import MAX_ENUMERATED, materialize
from cascjax.errors import CascjaxError
from cascjax.estimators import Estimates, Estimator, Independent, Tabulable, Tabulated
from cascjax.strategies.base import (
    STOP,
    Outcome,
    SearchContext,
    Strategy,
    Style,
    option,
    over_models,
    per_step,
)
from cascjax.strategies.supersets import run_sets_up_to

_SAMPLE = 1 << 10
"""Queries that thresholds are taken from."""


@dataclass(frozen=True)
class Frugal(Strategy):
    """Run the models of a chain, cheapest first, until the last answer's quality reaches tau.

    Which models are in the chain is a parameter beside tau: `[1 + D]` numbers, the chain in binary
    (bit i is set where model i is in it), then one tau for all its steps, or one a step. Its answer
    is the last model run. A chain of one model is that model, so on the queries fitted on no
    frontier is below the single models' hull.

    Attributes:
        max_depth: models in a chain at most.
    """

    name: ClassVar[str] = "frugal"
    description: ClassVar[str] = (
        "Runs the models of a chosen chain cheapest first, and stops at the first answer whose"
        " estimated quality passes a threshold."
    )
    style: ClassVar[Style] = Style("#882255", "#ff8fb8", (0, (5, 1.5)), "X")
    parameter_name: ClassVar[str] = "models, threshold τ"
    several_costs: ClassVar[bool] = False
    tuning: ClassVar[Literal["steps", "corrections", "evolution"] | None] = None
    instead: ClassVar[str] = "the strategy 'thresholding'"
    role: ClassVar[Literal["routing", "cascading", "combined"]] = "cascading"
    reads: ClassVar[tuple[str, ...]] = ("quality_post",)
    max_depth: int = option(5, "Maximum number of models in a chain.")

    def __post_init__(self):
        if self.max_depth < 1:
            raise CascjaxError(f"max_depth must be at least 1, not {self.max_depth}")

    def next_model(
        self,
        parameters: Float[Array, " D"],
        estimates: Estimates,
        run: Bool[Array, "B K"],
    ) -> Int[Array, " B"]:
        """The next model of the chain while the last one fell short of its tau."""
        k = run.shape[-1]
        in_chain = _chain(parameters[0])[..., None] >> jnp.arange(k) & 1 == 1
        step = jnp.sum(run, axis=-1)
        last = self.answer(estimates, run)
        quality = jnp.take_along_axis(estimates.quality, last[:, None], axis=-1)[:, 0]
        tau = parameters[1:][jnp.clip(step - 1, 0, parameters.shape[0] - 2)]
        left = in_chain & (jnp.arange(k) > jnp.where(step > 0, last, -1)[:, None])
        go_on = jnp.any(left, axis=-1) & ((step == 0) | (quality < tau))
        return jnp.where(go_on, jnp.argmax(left, axis=-1), STOP)

    def answer(self, estimates: Estimates, run: Bool[Array, "B K"]) -> Int[Array, " B"]:
        """The last model run."""
        del estimates
        return jnp.max(jnp.where(run, jnp.arange(run.shape[-1]), 0), axis=-1)

    def max_steps(self, n_models: int) -> int:
        """As many as the longest chain has."""
        return min(n_models, self.max_depth)

    @property
    def max_models(self) -> int:
        """As many as whose sets can be enumerated."""
        return MAX_ENUMERATED

    def chains(self, n_models: int) -> Int[np.ndarray, " C"]:
        """Every chain of at most `max_depth` models in binary, the shortest first.

        Raises:
            CascjaxError: more than `MAX_ENUMERATED` models.
        """
        self.check_size(n_models)
        return run_sets_up_to(n_models, self.max_depth)[1:]

    def initial_grid(self, context: SearchContext, count: int) -> Float[np.ndarray, " count"]:
        """Thresholds at the quantiles of what is seen last along any chain."""
        rows = np.arange(context.table.n_queries) if context.rows is None else context.rows
        some = rows[:: -(-len(rows) // _SAMPLE)]
        seen = _seen_last_of(self, context.table.n_models, context.estimator.take(some), len(some))
        return np.quantile(np.asarray(seen), np.linspace(1, 0, count))

    def run_sets(self, n_models: int) -> Int[np.ndarray, " S"]:
        """Every chain that has run to its end."""
        return self.chains(n_models)

    def models_read(self, n_models: int) -> Int[np.ndarray, " S"]:
        """Of each chain its last model."""
        return last_models(self.chains(n_models))

    def sweep(self, parameters: Float[Array, "L D"], estimator: Independent | Tabulated) -> Outcome:
        """How far along its chain every setting goes."""
        if isinstance(estimator, Tabulated):
            seen, k = estimator.quality[:, 0], estimator.covariance.shape[-1]
        else:
            seen = jnp.asarray(estimator.quality_post).T
            k = len(seen)
        seen, place = materialize(seen), jnp.asarray(_places(self, k))
        chain, taus = _chain(parameters[:, 0]), per_step(parameters[:, 1:], k)

        def step(state: tuple[Array, ...], model: tuple[Array, ...]) -> tuple[Any, Array]:
            going, answer = state
            index, given = model
            # All that come by model i along a chain have run the same models: those up to it.
            upto = chain & ((2 << index) - 1)
            runs = (chain >> index & 1 == 1)[:, None] & going
            of = given if isinstance(estimator, Independent) else seen[place[upto]]
            tau = taus[jnp.maximum(jax.lax.population_count(upto) - 1, 0), jnp.arange(len(chain))]
            going = going & ~(runs & (of >= tau))
            return (going, jnp.where(runs, index, answer)), runs

        shape = (len(parameters), seen.shape[-1])
        start = (jnp.ones(shape, bool), jnp.zeros(shape, jnp.int32))
        each = seen if isinstance(estimator, Independent) else jnp.arange(k)
        (_, answer), run = over_models(step, start, each)
        return Outcome(jnp.moveaxis(run, 0, -1), answer)

    def footprint(self, n_models: int, panels: int | None = None) -> int:
        """Return the number of post-hoc qualities."""
        self.check_size(n_models)
        return super().footprint(n_models, panels)

    def table_footprint(self, n_models: int) -> int:
        """A number a chain."""
        return 2 * len(self.chains(n_models))

    def check_settings(self, settings: Float[np.ndarray, "M *D"], n_models: int) -> None:
        """Refuse settings that are no chain and a tau, or one a step.

        Raises:
            CascjaxError: one is not.
        """
        if np.ndim(settings) < 2 or settings.shape[1] < 2:
            raise CascjaxError(
                "parameters of frugal are a chain of models in binary and a threshold, such as"
                " 5,0.7 for the first and the third model"
            )
        for chain in settings[:, 0].tolist():
            if chain != int(chain) or not 0 < chain < 2**n_models:
                raise CascjaxError(
                    f"there is no chain {chain:g} of {n_models} models: a chain is a whole number"
                    f" from 1 to {2**n_models - 1}, its models in binary"
                )
            if int(chain).bit_count() > self.max_depth:
                raise CascjaxError(
                    f"chain {chain:g} is of {int(chain).bit_count()} models, more than max_depth"
                    f" {self.max_depth}: take a shorter one, or raise max_depth"
                )

    @classmethod
    def setting_text(
        cls, setting: Float[np.ndarray, " D"], models: Sequence[str], digits: int = 4
    ) -> str:
        """Return the models of the chain and its thresholds, if it has any that matter."""
        chain = " → ".join(name for i, name in enumerate(models) if int(setting[0]) >> i & 1)
        taus = super().setting_text(setting[1:], models, digits)
        return f"{chain}, τ {taus}" if "→" in chain else chain


def last_models(chains: Int[np.ndarray, " C"]) -> Int[np.ndarray, " C"]:
    """The last model of each chain."""
    return np.array([int(chain).bit_length() - 1 for chain in chains])


def seen_last(
    strategy: Frugal, n_models: int, estimator: Estimator, n_queries: int
) -> Float[Array, "C B"]:
    """Quality of the last model of every chain once all of it has run; traceable.

    Args:
        strategy: whose chains.
        n_models: K.
        estimator: of B queries, of any kind.
        n_queries: B.
    """
    chains = strategy.chains(n_models)
    last = last_models(chains)
    if isinstance(estimator, Independent):
        return jnp.asarray(estimator.quality_post).T[last]
    if isinstance(estimator, Tabulable):
        return estimator.tabulate(chains, last).quality[:, 0]

    def one(at: tuple[Array, Array]) -> Float[Array, " B"]:
        chain, model = at
        run = jnp.broadcast_to(chain >> jnp.arange(n_models) & 1 == 1, (n_queries, n_models))
        return estimator(run).quality[:, model]

    return jax.lax.map(one, (jnp.asarray(chains), jnp.asarray(last)))


_seen_last_of = cast(Any, jax.jit(seen_last, static_argnums=(0, 1, 3)))


def _chain(number: Float[Array, "*L"]) -> Int[Array, "*L"]:
    return jnp.rint(number).astype(jnp.int32)


@functools.lru_cache(maxsize=16)
def _places(strategy: Frugal, n_models: int) -> Int[np.ndarray, " S"]:
    """Where each run set stands among the chains."""
    chains = strategy.chains(n_models)
    place = np.zeros(2**n_models, np.int32)
    place[chains] = np.arange(len(chains))
    return place
