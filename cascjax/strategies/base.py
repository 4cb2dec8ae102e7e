"""Base of strategies: pure functions of parameters, estimates and run set."""

import functools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal, TypeAlias, get_args, get_origin, get_type_hints

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from cascjax.core.arrays import at_step, materialize, order_of_bits, over_models, per_step
from cascjax.core.breakpoints import Breakpoints
from cascjax.core.estimates import Estimates, Estimator, Independent, Tabulated
from cascjax.core.expected_max import LEAST_GAIN
from cascjax.core.frontier import Statistics
from cascjax.core.sweep import STOP, Outcome, single_model
from cascjax.data.table import Table, mean_rows
from cascjax.errors import CascjaxError

Readable: TypeAlias = Independent | Tabulated
Grid: TypeAlias = Float[np.ndarray, " count"] | Float[Array, " count"]
Tuning: TypeAlias = Literal["steps", "corrections", "evolution"]
Role: TypeAlias = Literal["routing", "cascading", "combined"]


@dataclass(frozen=True)
class Style:
    """Drawing style of a strategy, the same in every chart.

    Attributes:
        light: colour on a light background, "#rrggbb".
        dark: colour on a dark background.
        dash: line style, as Matplotlib takes it.
        marker: marker, as Matplotlib takes it.
    """

    light: str
    dark: str
    dash: Any
    marker: str


@dataclass(frozen=True)
class Option:
    """Static option of a strategy, as a command line needs to know it.

    Attributes:
        name: name of the field.
        kind: type of its value: int, float, str or bool.
        choices: values that are allowed; empty where any value of the type is.
        default: value where nothing is given.
        help: one sentence.
    """

    name: str
    kind: type
    choices: tuple[Any, ...]
    default: Any
    help: str


def option(default: Any, help: str) -> Any:
    """Return the dataclass field of a strategy's option, with its help text."""
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class SearchContext(Statistics):
    """Statistics of a table that a search starts from, computed on first use.

    Attributes:
        table: the truth.
        estimator: estimates of its queries.
        rows: the queries that count; by default all.
    """

    table: Table
    estimator: Estimator
    rows: Int[np.ndarray, " n"] | None = None

    xp: ClassVar[Any] = np

    @functools.cached_property
    def cost(self) -> Float[np.ndarray, " K"]:
        """Mean cost of each model alone."""
        return mean_rows(self.table.cost, self.rows)

    @functools.cached_property
    def quality(self) -> Float[np.ndarray, " K"]:
        """Mean quality of each model alone."""
        return mean_rows(self.table.quality, self.rows)

    def sample(self, most: int) -> tuple[Estimator, tuple[int, int]]:
        """Return estimates of at most so many queries, evenly spread, and their shape."""
        rows = np.arange(self.table.n_queries) if self.rows is None else self.rows
        sample = rows[:: -(-len(rows) // most)]
        return self.estimator.take(sample), (len(sample), self.table.n_models)


@dataclass(frozen=True)
class Strategy(ABC):
    """A way to spend: which model to run next, when to stop, whose answer to return.

    The models are numbered in rising mean cost. A subclass is a frozen dataclass whose fields are
    its static options; what is searched is in `parameters`: one number, or one per step. A rule may
    be given twice: `next_model`, plain, for any estimator, and `sweep` (or `breakpoints`), fast,
    for many parameters at once and estimates that are independent or tabulated; they choose alike.

    Example:
      >>> from cascjax.strategies import STRATEGIES
      >>> issubclass(STRATEGIES["routing"], Strategy)
      True
    """

    name: ClassVar[str]
    description: ClassVar[str] = ""  # One sentence for reports and help
    style: ClassVar[Style | None] = None  # Drawing style; None to take the next free style
    parameter_name: ClassVar[str] = "price λ"  # Heading of its parameters in reports
    sees_truth: ClassVar[bool] = False
    """Whether it is a bound rather than a policy: simulated on what only an oracle knows."""
    reference: ClassVar[bool] = False
    """Whether it is drawn for comparison rather than chosen: mixing and the oracle."""
    reads: ClassVar[tuple[str, ...]] = ("quality_ante", "quality_post", "sigma", "cost_ante")
    """Fields of independent estimates that it reads; none for one that reads no estimates."""
    role: ClassVar[Role] = "combined"
    """Whether it picks one model, runs models in a fixed order, or may run any models."""
    integrates: ClassVar[bool] = False
    """Whether it takes quadratures of E[max], which `Independent.sized` makes faster."""
    expensive: ClassVar[bool] = False
    """Whether one simulation takes many times longer than one of routing."""
    has_breakpoints: ClassVar[bool] = False  # Whether it has `breakpoints`
    idle: ClassVar[int] = 0  # Number of leading parameters that decide nothing
    rising: ClassVar[bool] = False
    """Whether breakpoints are reached as the parameter rises: as its negative falls."""
    line: ClassVar[bool] = True
    """Whether settings lie on a line: one number each, with others between any two."""
    several_costs: ClassVar[bool] = True  # Whether it can be fitted to budgets of several costs
    tuning: ClassVar[Tuning | None] = "evolution"
    """Search that tunes it: line searches along the steps, corrections of the estimates, or an
    evolution strategy that simulates it over and over; None where there is nothing to tune."""
    instead: ClassVar[str] = "the strategy 'pandora'"
    """What to choose where there are too many models, for the message."""

    # The rule.

    @abstractmethod
    def next_model(
        self, parameters: Float[Array, "*D"], estimates: Estimates, run: Bool[Array, "B K"]
    ) -> Int[Array, " B"]:
        """Return the model to run next on each query, or `STOP`."""

    def answer(self, estimates: Estimates, run: Bool[Array, "B K"]) -> Int[Array, " B"]:
        """Return the run model with the highest current quality estimate."""
        return jnp.argmax(jnp.where(run, estimates.quality, -jnp.inf), axis=-1)

    def max_steps(self, n_models: int) -> int:
        """Return the largest number of models it runs on one query."""
        return n_models

    # The same rule, fast.

    def sweep(self, parameters: Float[Array, "L *D"], estimator: Readable) -> Outcome | None:
        """Return the outcome of every setting at once, or None where there is only `next_model`."""
        return None

    def breakpoints(
        self, estimator: Readable, least: Float[Array, ""] | float = -np.inf
    ) -> Breakpoints | None:
        """Return the outcome under every parameter that is the same at all steps.

        Breakpoints that begin only below `least` may be left out.
        """
        return None

    def run_sets(self, n_models: int) -> Int[np.ndarray, " S"] | None:
        """Return the run sets a table must have for the fast rule, in order; None for no table."""
        return None

    def models_read(self, n_models: int) -> Int[np.ndarray, " S"] | None:
        """Return the one model whose quality it reads in each run set; None where it reads all."""
        return None

    def footprint(self, n_models: int, panels: int | None = None) -> int:
        """Return the numbers `sweep` holds per query beside its settings, to size blocks.

        Args:
            n_models: K.
            panels: `Independent.panels` of the estimates.
        """
        return 2 * n_models

    def table_footprint(self, n_models: int) -> int:
        """Return the numbers `sweep` holds per query where estimates are tabulated."""
        run_sets = self.run_sets(n_models)
        return 2 * n_models * (1 if run_sets is None else len(run_sets) + 1)

    # Its search.

    @abstractmethod
    def initial_grid(self, context: Statistics, count: int) -> Grid:
        """Return the parameters a search starts from, the most expensive first; by `context.xp`."""

    def grid_settings(self, grid: Any, n_models: int) -> Any:
        """Return the settings `[M]` or `[M, D]` of a grid of parameters; traceable."""
        return grid

    def midpoints(self, low: float, high: float, count: int) -> Float[np.ndarray, " count"]:
        """Return parameters between two neighbours of the grid, for a search to go on with.

        Evenly spaced in their bits, so that a few rounds tell any two numbers apart.
        """
        first, last = order_of_bits(np.array([low, high], np.float32).view(np.int32)).tolist()
        bits = np.linspace(first, last, count + 2)[1:-1].astype(np.int32)
        return order_of_bits(bits).view(np.float32).astype(np.float64)

    def between(self, low: Array, high: Array, share: Array) -> Array:
        """Return the parameters at a share of the way between neighbours; traceable."""
        return low + share * (high - low)

    def all_settings(self, n_models: int) -> Float[np.ndarray, " M"] | None:
        """Return all settings there are, or None where there are others between any two."""
        return None

    def candidates(self, context: SearchContext, evaluate: Any) -> Float[np.ndarray, "M D"] | None:
        """Return the settings worth simulating, or None where settings lie on a line to search.

        Args:
            context: the data.
            evaluate: from parameters of the grid to `[C, T, 2]` mean cost and quality of the grid's
                C members; see `cascjax.engine.simulate.grid_means`.
        """
        return None

    # Its options, limits and words.

    @classmethod
    def options(cls) -> tuple[Option, ...]:
        """Return its static options, in the order of the dataclass fields."""
        hints = get_type_hints(cls)
        return tuple(
            Option(
                f.name,
                type(f.default) if get_origin(hints[f.name]) is Literal else hints[f.name],
                get_args(hints[f.name]) if get_origin(hints[f.name]) is Literal else (),
                f.default,
                f.metadata.get("help", ""),
            )
            for f in fields(cls)
        )

    @property
    def max_models(self) -> int | None:
        """Largest number of models it can be simulated with; None where any number will do."""
        return None

    def check_size(self, n_models: int) -> None:
        """Refuse more models than it can look at."""
        if self.max_models is not None and n_models > self.max_models:
            raise CascjaxError(
                f"strategy {self.name!r} looks at every set of models, for at most"
                f" {self.max_models} models and not {n_models}: choose fewer models or"
                f" {self.instead}"
            )

    def check_settings(self, settings: Float[np.ndarray, "M *D"], n_models: int) -> None:
        """Refuse parameters that mean nothing to the strategy; by default all numbers pass."""
        del settings, n_models

    @classmethod
    def text(cls, setting: Float[np.ndarray, " D"], models: Sequence[str], digits: int = 4) -> str:
        """Return a setting in words, for tables of a report; a single model's included."""
        alone = int(single_model(setting[None])[0])
        return cls.setting_text(setting, models, digits) if alone < 0 else f"{models[alone]} alone"

    @classmethod
    def setting_text(
        cls, setting: Float[np.ndarray, " D"], models: Sequence[str], digits: int = 4
    ) -> str:
        """Return one of the strategy's own settings in words."""
        return ", ".join(f"{value:.{digits}g}" for value in setting.tolist())


class InOrder(Strategy):
    """A strategy that runs the models in order while each step's parameter is below a limit.

    A `rising` one goes by the parameter's negative.
    """

    has_breakpoints: ClassVar[bool] = True
    role: ClassVar[Role] = "cascading"
    tuning: ClassVar[Tuning | None] = "steps"

    @abstractmethod
    def limits(self, estimator: Readable) -> Float[Array, "J B"]:
        """Return what the parameter must be below to go on after 1, ..., K - 1 models."""

    @abstractmethod
    def answers(self, estimator: Readable) -> Int[Array, "K B"]:
        """Return the model whose answer is returned after 1, ..., K models."""

    def run_sets(self, n_models: int) -> Int[np.ndarray, " S"]:
        """Return the first 1, ..., K models."""
        return (2 << np.arange(n_models)) - 1

    def sweep(self, parameters: Float[Array, "L *D"], estimator: Readable) -> Outcome:
        """Return how deep every setting goes: one table of limits per query serves them all."""
        answers, limits = materialize((self.answers(estimator), self.limits(estimator)))
        steps = per_step(-parameters if self.rising else parameters, len(limits) + self.idle)
        start = (
            jnp.zeros((len(parameters), answers.shape[1]), jnp.int32),
            jnp.broadcast_to(answers[0], (len(parameters), answers.shape[1])),
        )

        def step(state: tuple[Array, Array], model: tuple[Array, ...]) -> tuple[Any, Array]:
            (depth, answer), (index, limit, parameter, deeper) = state, model
            go_on = (depth == index) & (parameter < limit)
            return (depth + go_on, jnp.where(go_on, deeper, answer)), go_on

        (_, answer), run = over_models(step, start, limits, steps[self.idle :], answers[1:])
        run = jnp.concatenate([jnp.ones((1, *answer.shape), bool), run])
        return Outcome(jnp.moveaxis(run, 0, -1), answer)

    def breakpoints(
        self, estimator: Readable, least: Float[Array, ""] | float = -np.inf
    ) -> Breakpoints:
        """Return one model deeper where one parameter is below every limit so far."""
        answers = self.answers(estimator)
        below = jax.lax.cummin(self.limits(estimator), axis=0)
        below = jnp.concatenate([jnp.full((1, answers.shape[1]), jnp.inf), below])
        depth = jnp.broadcast_to(jnp.arange(len(answers), dtype=jnp.int32)[:, None], answers.shape)
        return Breakpoints(below, depth, answers, len(answers), cumulative=True)


class Priced:
    """A strategy whose parameter is lambda, the price of cost in units of quality."""

    def initial_grid(self, context: Statistics, count: int) -> Grid:
        """Return prices from 0, where cost is no object, to where cost is all that counts."""
        xp = context.xp
        spread = context.ante.std() + xp.ptp(context.ante.mean(0)) + 1e-6
        gaps = xp.diff(xp.sort(context.cost))
        differ = xp.any(gaps > 0)
        smallest = xp.min(xp.where(gaps > 0, gaps, xp.inf), initial=xp.inf)
        least, most = (xp.float32(xp.where(differ, gap, 1)) for gap in (smallest, xp.sum(gaps)))
        # From where the most expensive difference in cost hardly counts to where the least decides.
        high = xp.maximum(1e5 * spread / most, 1e2 * spread / least)
        return xp.append(0, xp.geomspace(1e-4 * spread / most, high, count - 1))

    def between(self, low: Array, high: Array, share: Array) -> Array:
        """Return the prices at a share of the way between neighbours, by their logarithm."""
        first = jnp.where(low > 0, low, jnp.where(high > 0, 1e-3 * high, 1))
        return jnp.where(high > 0, first * (high / first) ** share, low)

    def midpoints(self, low: float, high: float, count: int) -> Float[np.ndarray, " count"]:
        """Return prices between two neighbours, evenly spaced in their logarithm."""
        if low <= 0:
            low = high * 1e-3
            return np.geomspace(low, high, count + 1)[:-1]
        return np.geomspace(low, high, count + 2)[1:-1]


def step_price(parameters: Float[Array, "*D"], run: Bool[Array, "B K"]) -> Float[Array, " B"]:
    """Return the parameter in force on each query: the only one, or the one of its step."""
    return jnp.broadcast_to(at_step(parameters, jnp.sum(run, axis=-1)), run.shape[:1])


def float32_grid(values: Grid) -> Float[np.ndarray, " M"]:
    """Return parameters in rising order as float32 has them, each once."""
    rounded = np.asarray(values, np.float32)
    # Some programs take numbers below the normal ones for 0, and others do not: none are tried.
    tiny = np.abs(rounded) < np.finfo(np.float32).tiny
    return np.unique(np.where(tiny, 0, rounded)).astype(np.float64)


def without_rounding(
    value: Float[Array, "B M"], value_run: Float[Array, " B"], estimates: Estimates
) -> Float[Array, "B M"]:
    """Return values of supermodels, or of what has run where they exceed it by rounding alone."""
    least = LEAST_GAIN * jnp.sqrt(jnp.max(estimates.variance, axis=-1))
    return jnp.where(value > (value_run + least)[:, None], value, value_run[:, None])


__all__ = [
    "STOP", "Breakpoints", "Grid", "InOrder", "Option", "Outcome", "Priced", "Readable", "Role",
    "SearchContext", "Statistics", "Strategy", "Style", "Tuning", "float32_grid", "option",
    "step_price", "without_rounding",
]  # fmt: skip
