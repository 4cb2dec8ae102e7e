"""What a strategy is: a pure function of parameters, estimates and run set."""

import functools
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal, TypeVar, get_args, get_origin, get_type_hints

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from cascjax.core.expected_max import LEAST_GAIN, materialize
from cascjax.data.table import Table, mean_rows
from cascjax.errors import CascjaxError
from cascjax.estimators import Estimates, Estimator, Independent, Tabulated

Bits = TypeVar("Bits", Array, np.ndarray)
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


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Stages:
    """What becomes of B queries as the one parameter of a strategy falls: S stages each.

    A query is in the last stage s of those with `parameter < below[s]`.

    Attributes:
        below: `[S, B]` falling along S from the first, infinite; -inf where a stage is not reached.
        model: `[S, B]` the model each stage runs.
        answer: `[S, B]` the model whose answer it returns.
        count: stages in use; rows beyond are not reached by any query.
        keeps: whether a stage runs its model after those of the stages before, or instead of them.
    """

    below: Float[Array, "*C S B"]
    model: Int[Array, "*C S B"]
    answer: Int[Array, "*C S B"]
    count: Int[Array, "*C"] | int
    keeps: bool = field(metadata={"static": True})


@dataclass(frozen=True)
class Style:
    """How a strategy is drawn, the same in every chart.

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
    """A static option of a strategy, as a command line needs to know it.

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
class SearchContext:
    """Statistics of the data that a search may start from, computed on first use.

    Attributes:
        table: the truth.
        estimator: estimates of its queries.
        rows: the queries that count; by default all.
    """

    table: Table
    estimator: Estimator
    rows: Int[np.ndarray, " n"] | None = None

    @functools.cached_property
    def cost(self) -> Float[np.ndarray, " K"]:
        """Mean cost of each model alone."""
        return mean_rows(self.table.cost, self.rows)

    @functools.cached_property
    def quality(self) -> Float[np.ndarray, " K"]:
        """Mean quality of each model alone."""
        return mean_rows(self.table.quality, self.rows)

    @functools.cached_property
    def ante(self) -> Float[np.ndarray, "n K"]:
        """Quality estimates of a sample of queries before any model runs."""
        return self._estimates(run=False)

    @functools.cached_property
    def post(self) -> Float[np.ndarray, "n K"]:
        """Quality estimates of a sample of queries once all models have run."""
        return self._estimates(run=True)

    def _estimates(self, run: bool) -> Float[np.ndarray, "n K"]:
        rows = np.arange(self.table.n_queries) if self.rows is None else self.rows
        some = rows[:: -(-len(rows) // _SAMPLE)]
        runs = jnp.full((len(some), self.table.n_models), run)
        return np.asarray(self.estimator.take(some)(runs).quality)


_SAMPLE = 1 << 14
"""Queries at most that a search takes its scale from, and that the host looks at at once."""


@dataclass(frozen=True)
class Strategy(ABC):
    """A way to spend: which model to run next, when to stop, whose answer to return.

    The models are numbered in rising mean cost. A subclass is a frozen dataclass whose fields
    are its static options; whatever is searched for is in `parameters`: one number, or one a
    step. The same rule can be given twice: `next_model`, plain, for any estimator, and `sweep`,
    fast, for many parameters at once and estimates that are independent, or those under every run
    set in a table; they choose alike.
    """

    name: ClassVar[str]
    description: ClassVar[str] = ""
    """One sentence for reports and help."""
    style: ClassVar[Style | None] = None
    """How it is drawn; None to take the next free style."""
    parameter_name: ClassVar[str] = "price λ"
    """Heading of its parameters in reports."""
    sees_truth: ClassVar[bool] = False
    """Whether it is a bound rather than a policy: simulated on what only an oracle knows."""
    reference: ClassVar[bool] = False
    """Whether it is drawn for comparison rather than chosen: mixing and the oracle."""
    several_costs: ClassVar[bool] = True
    """Whether it can be fitted to budgets of several costs."""
    tuning: ClassVar[Literal["steps", "corrections", "evolution"] | None] = "evolution"
    """Search that tunes it: line searches along the steps, corrections of the estimates, or an
    evolution strategy that simulates it over and over; None where there is nothing to tune."""
    expensive: ClassVar[bool] = False
    """Whether one simulation takes many times longer than one of routing."""
    integrates: ClassVar[bool] = False
    """Whether it takes quadratures of E[max], which `Independent.sized` makes faster."""
    staged: ClassVar[bool] = False
    """Whether it has `stages`."""
    rising: ClassVar[bool] = False
    """Whether stages are reached as the parameter rises: as its negative falls."""
    reads: ClassVar[tuple[str, ...]] = ("quality_ante", "quality_post", "sigma", "cost_ante")
    """What `stages` reads of independent estimates."""
    role: ClassVar[Literal["routing", "cascading", "combined"]] = "combined"
    """Whether it picks one model, runs models in a fixed order, or may run any models."""
    idle: ClassVar[int] = 0
    """Number of leading parameters that decide nothing."""

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
        """Refuse more models than it can look at.

        Raises:
            CascjaxError: more than `max_models`.
        """
        if self.max_models is not None and n_models > self.max_models:
            raise CascjaxError(
                f"strategy {self.name!r} looks at every set of models, for at most"
                f" {self.max_models} models and not {n_models}: choose fewer models or"
                f" {self.instead}"
            )

    instead: ClassVar[str] = "the strategy 'pandora'"
    """What to choose where there are too many models, for the message."""

    def check_settings(self, settings: Float[np.ndarray, "M *D"], n_models: int) -> None:
        """Refuse parameters that mean nothing to the strategy; by default all numbers pass.

        Raises:
            CascjaxError: one of them does not.
        """
        del settings, n_models

    @classmethod
    def setting_text(
        cls, setting: Float[np.ndarray, " D"], models: Sequence[str], digits: int = 4
    ) -> str:
        """Return a setting in words, for tables of a report."""
        del models
        return ", ".join(f"{value:.{digits}g}" for value in setting.tolist())

    def all_settings(self, n_models: int) -> Float[np.ndarray, " M"] | None:
        """Return all settings there are, or None where there are others between any two."""
        del n_models
        return None

    @abstractmethod
    def initial_grid(self, context: SearchContext, count: int) -> Float[np.ndarray, " count"]:
        """Return the parameters a search starts from, most expensive setting first."""

    def midpoints(self, low: float, high: float, count: int) -> Float[np.ndarray, " count"]:
        """Parameters between two neighbours of the family, for a search to go on with.

        Evenly spaced in their bits, so that a few rounds tell any two numbers apart.
        """
        first, last = order_of_bits(np.array([low, high], np.float32).view(np.int32)).tolist()
        bits = np.linspace(first, last, count + 2)[1:-1].astype(np.int32)
        return order_of_bits(bits).view(np.float32).astype(np.float64)

    def sized_for(self, estimator: Independent | Estimator) -> "Strategy":
        """Return the strategy itself: numerics are sized by the estimates, see `Independent`."""
        del estimator
        return self

    def run_sets(self, n_models: int) -> Int[np.ndarray, " S"] | None:
        """The run sets a table must have for `sweep` and `stages`; None where they take no table.

        In the order in which they are expected.
        """
        del n_models
        return None

    def models_read(self, n_models: int) -> Int[np.ndarray, " S"] | None:
        """Of each of its run sets the one model whose quality it reads; None where all are."""
        del n_models
        return None

    def sweep(
        self, parameters: Float[Array, "L *D"], estimator: Independent | Tabulated
    ) -> Outcome | None:
        """The outcome of every setting at once, or None where there is only `next_model`."""
        del parameters, estimator
        return None

    def stages(
        self, estimator: Independent | Tabulated, least: Float[Array, ""] | float = -np.inf
    ) -> Stages | None:
        """The outcome under every parameter that is the same at all steps, if it is `staged`.

        Stages that begin only below `least` may be left out.
        """
        del estimator, least
        return None

    def footprint(self, n_models: int, panels: int | None = None) -> int:
        """Return the numbers `sweep` holds per query beside its settings, to size blocks.

        Args:
            n_models: K.
            panels: `Independent.panels` of the estimates.
        """
        del panels
        return 2 * n_models

    def table_footprint(self, n_models: int) -> int:
        """The same of estimates in a table, which counts."""
        run_sets = self.run_sets(n_models)
        return 2 * n_models * (1 if run_sets is None else len(run_sets) + 1)


class InOrder(Strategy):
    """A strategy that runs the models in order while each step's parameter is below a limit.

    A `rising` one goes by the parameter's negative.
    """

    staged: ClassVar[bool] = True
    role: ClassVar[Literal["routing", "cascading", "combined"]] = "cascading"
    tuning: ClassVar[Literal["steps", "corrections", "evolution"] | None] = "steps"

    @abstractmethod
    def limits(self, estimator: Independent | Tabulated) -> Float[Array, "J B"]:
        """What the parameter must be below to go on once 1, ..., K - 1 models have run."""

    @abstractmethod
    def answers(self, estimator: Independent | Tabulated) -> Int[Array, "K B"]:
        """The model whose answer is returned where 1, ..., K models have run."""

    def run_sets(self, n_models: int) -> Int[np.ndarray, " S"]:
        """The first 1, ..., K models."""
        return (2 << np.arange(n_models)) - 1

    def stages(
        self, estimator: Independent | Tabulated, least: Float[Array, ""] | float = -np.inf
    ) -> Stages:
        """One model deeper where one parameter for all steps is below every limit so far."""
        answers = self.answers(estimator)
        below = jax.lax.cummin(self.limits(estimator), axis=0)
        below = jnp.concatenate([jnp.full((1, answers.shape[1]), jnp.inf), below])
        depth = jnp.broadcast_to(jnp.arange(len(answers), dtype=jnp.int32)[:, None], answers.shape)
        return Stages(below, depth, answers, len(answers), keeps=True)


def over_models(
    step: Callable[[Carry, tuple[Array, ...]], tuple[Carry, Y]], carry: Carry, *per_model: Array
) -> tuple[Carry, Y]:
    """`jax.lax.scan` over arrays with models first, in straight lines of code of up to 16."""
    n_models = len(per_model[0])
    rows = (jnp.arange(n_models, dtype=jnp.int32), *per_model)
    if n_models <= _LINE:
        return jax.lax.scan(step, carry, rows, unroll=n_models)
    whole = n_models // _LINE * _LINE

    def one_line(carry: Carry, line: tuple[Array, ...]) -> tuple[Carry, Y]:
        # Cut out first: a moving slice inside the arithmetic would keep XLA from vectorising.
        return jax.lax.scan(step, carry, materialize(line), unroll=_LINE)

    lines = tuple(row[:whole].reshape(-1, _LINE, *row.shape[1:]) for row in rows)
    carry, out = jax.lax.scan(one_line, carry, lines)
    out = jax.tree.map(lambda y: y.reshape(whole, *y.shape[2:]), out)
    if whole == n_models:
        return carry, out
    rest = tuple(row[whole:] for row in rows)
    carry, last = jax.lax.scan(step, carry, rest, unroll=n_models - whole)
    return carry, jax.tree.map(lambda *parts: jnp.concatenate(parts), out, last)


_LINE = 16
"""Models up to which a loop over them is one straight line of code."""


ROWS = 64
"""Rows up to which the loop over them is one straight line of code."""


def over_rows(step: Any, carry: Any, count: int | Array, *rows: Array, straight: int = ROWS) -> Any:
    """Folds `step` over the first `count` rows, a few at a time in a straight line of code.

    Up to `straight` rows in all are one such line.
    """
    if len(rows[0]) <= straight:
        return jax.lax.scan(step, carry, tuple(row[:count] for row in rows), unroll=straight)[0]
    line = 8
    short = -len(rows[0]) % line
    # Rows beyond the count repeat the first, which must change nothing when it comes again.
    rows = tuple(jnp.concatenate([row, jnp.repeat(row[:1], short, axis=0)]) for row in rows)

    def one_line(index: Array, carry: Any) -> Any:
        # Cut out first: a moving slice inside the arithmetic would keep XLA from vectorising.
        cut = [jax.lax.dynamic_slice_in_dim(row, index * line, line) for row in rows]
        return jax.lax.scan(step, carry, materialize(tuple(cut)), unroll=line)[0]

    return jax.lax.fori_loop(0, (count + line - 1) // line, one_line, carry)


def order_of_bits(bits: Bits) -> Bits:
    """Integers in the order of the floats of these bits; its own inverse."""
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


def of_model(of: Float[Array, "K B"], model: Int[Array, " B"]) -> Float[Array, " B"]:
    """The number of each query's model."""
    k, n_queries = of.shape
    place = model * n_queries + jnp.arange(n_queries, dtype=jnp.int32)
    return of.reshape(k * n_queries).at[place].get(mode="promise_in_bounds")


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

    def initial_grid(self, context: SearchContext, count: int) -> Float[np.ndarray, " count"]:
        """Return prices from 0, where cost is no object, to where cost is all that counts."""
        spread = context.ante.std() + np.ptp(context.ante.mean(0)) + 1e-6
        ordered = np.sort(context.cost).tolist()
        gaps = [after - before for before, after in itertools.pairwise(ordered) if after > before]
        least, most = (min(gaps), sum(gaps)) if gaps else (1.0, 1.0)
        # From where the most expensive difference in cost hardly counts to where the least decides.
        high = max(1e5 * spread / most, 1e2 * spread / least)
        return np.append(0, np.geomspace(1e-4 * spread / most, high, count - 1))

    def midpoints(self, low: float, high: float, count: int) -> Float[np.ndarray, " count"]:
        """Prices between two neighbours, evenly spaced in their logarithm."""
        if low <= 0:
            low = high * 1e-3
            return np.geomspace(low, high, count + 1)[:-1]
        return np.geomspace(low, high, count + 2)[1:-1]
