"""Better parameters than one price for all steps, and whether they hold on other queries.

At the optimum of a budget B a strategy maximises quality - mu cost, where mu, the multiplier of
the budget, is the slope of its frontier there. So each budget is tuned at its mu, all budgets as
one batch, in whichever way a strategy allows:

- pandora, where moving one model's z leaves the others' as they are, by line searches on the exact
  outcome: a scale on every model's sigma and an offset on its quality, the same for all budgets.
  Beside them stand a few scales that all sigmas share: estimates of several models err together,
  so that another answer tells less than independent sigmas say;
- thresholding and cascading, where a query goes on after step s while theta_s is below a limit
  of its own, by exact line searches along one step after the other: sort the limits, add up
  what going on is worth, and take the best of all thresholds there are;
- the rest, a price a step, by antithetic evolution strategies (Salimans et al. 2017, arXiv
  1703.03864) with Adam.

Every fold of a cross-validation is one more row of the same batch. What was tuned replaces the
plain parameters only where it does better on the queries that the fold left out.
"""

import functools
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from cascjax import __version__
from cascjax.data.table import Table, mean_rows, upper_hull
from cascjax.engine.journal import Journal
from cascjax.engine.simulate import outcomes, query_spends
from cascjax.errors import CascjaxError
from cascjax.estimators import Independent
from cascjax.search.budgets import SETTINGS, Fit, fit_budgets, fit_settings, mix
from cascjax.search.corrections import Corrected, Seen, improved
from cascjax.strategies import InOrder, Mixing, Pandora, Routing, Strategy
from cascjax.words import counted

SAMPLE = 1 << 13
"""Queries at most that parameters are tuned on and cross-validated with."""

_BATCH = 512
"""Queries of one gradient."""

_MULTIPLIERS = 32
"""Budgets at most that are tuned at; others are met by mixing their neighbours."""

_FEW = 8
"""The same where each is expensive to simulate, or all share what is tuned."""

_FOLDS, _FEW_FOLDS = 20, 5
"""Parts of a cross-validation, by default."""

_RATE = 0.05
"""Of Adam, falling to 0 along a cosine; parameters are logarithms, or in units of sigma."""

_SCALES = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.2, 1.5)
"""Of all sigmas alike, each a candidate."""

_WIDTHS = (1.0, 0.4, 0.15, 0.06)
"""How far each round of pandora's line searches looks."""

_ROUNDS = (1, 2, 4)
"""Rounds after which what is found is a candidate."""

_PULL = 1e-3
"""Weight of the squared corrections, in standard deviations of quality."""

_SPREAD = 0.2
"""Standard deviation of what an evolution strategy tries, in the logarithm of the price."""

_PAIRS = 4
"""Antithetic pairs that it tries at once."""

_SWEEPS = 3
"""Times that line searches go through all steps; one finds most of the gain, three all."""

_TINY, _HUGE = 1e-30, 1e30
"""Ends of the prices whose logarithm is taken."""


@dataclass(frozen=True)
class Candidate:
    """One way to set the parameters, and what cross-validation says of it.

    Attributes:
        name: how it was made.
        gain: quality at equal cost above that of the plain parameters, mean over budgets and
            over queries left out when it was tuned.
        error: standard error of the gain.
    """

    name: str
    gain: float
    error: float


@dataclass(frozen=True)
class Tuned:
    """Tuned parameters of one strategy for P budgets.

    Attributes:
        strategy: what was tuned.
        models: the K names.
        budget: `[P]` mean costs tuned for, in the table's cost unit.
        multiplier: `[P]` what the last unit of each budget buys, in units of quality.
        settings: `[M, D]` a setting a row, one number a step, to be mixed for a budget; None
            where the corrections are what was tuned.
        scale: `[K]` sigma is multiplied by it.
        offset: `[K]` added to quality estimates before a model has run.
        candidates: what was tried, the plain parameters first.
        chosen: which of them stands here: 0 where none did better than the plain parameters.
        folds: parts of the cross-validation.
        n_queries: queries it was tuned on.
        seconds: wall time.
    """

    strategy: Strategy
    models: tuple[str, ...]
    budget: Float[np.ndarray, " P"]
    multiplier: Float[np.ndarray, " P"]
    settings: Float[np.ndarray, "M D"] | None
    scale: Float[np.ndarray, " K"]
    offset: Float[np.ndarray, " K"]
    candidates: tuple[Candidate, ...]
    chosen: int
    folds: int
    n_queries: int
    seconds: float

    @property
    def replaces(self) -> bool:
        """Whether the tuned parameters did better than the plain ones out of sample."""
        return self.chosen > 0

    def estimator(self, estimator: Independent) -> Independent:
        """Estimates with the corrections."""
        if np.all(self.scale == 1) and np.all(self.offset == 0):
            return estimator
        return estimator.corrected(self.scale, self.offset)

    def fit(
        self,
        estimator: Independent,
        table: Table,
        budgets: Float[np.ndarray, " P"],
        *,
        rows: Int[np.ndarray, " n"] | None = None,
    ) -> Fit:
        """The two settings whose mix meets each budget on some queries, by default all.

        Args:
            estimator: estimates of the table's queries, without the corrections.
            table: their true quality and cost.
            budgets: mean costs wanted, in the table's cost unit.
            rows: the queries to fit on.
        """
        if self.settings is None:
            return fit_budgets(self.strategy, self.estimator(estimator), table, budgets, rows=rows)
        return fit_settings(self.strategy, self.settings, estimator, table, budgets, rows=rows)


def tune(
    strategy: Strategy,
    table: Table,
    estimator: Independent,
    budgets: Float[np.ndarray, " P"],
    *,
    rows: Int[np.ndarray, " n"] | None = None,
    folds: int | None = None,
    seed: int = 0,
    journal: Journal | None = None,
    descend: bool = True,
    progress: Callable[[int, int], None] = lambda step, steps: None,
) -> Tuned:
    """Tunes a strategy for all budgets at once, and cross-validates what it found.

    Args:
        strategy: thresholding, cascading, cascade routing or pandora.
        table: the truth, models in rising mean cost.
        estimator: estimates of all its queries.
        budgets: mean costs to tune for, in the table's cost unit.
        rows: the queries to tune on, by default all; of more than `SAMPLE` a sample is taken.
        folds: parts of the cross-validation; by default 20, so that each part is judged by what
            nearly all queries taught, or 5 where a strategy is expensive to simulate.
        seed: of sample, folds and search.
        journal: where to keep what is found on the way, and go on from.
        descend: False to judge what the journal holds and search no further.
        progress: called with the steps done and the steps there are.

    Raises:
        CascjaxError: there is nothing to tune in the strategy, the estimates are not
            independent, there are too few queries for the folds, or the journal is of another
            search.
    """
    start = time.perf_counter()
    if isinstance(strategy, (Mixing, Routing)):
        raise CascjaxError(
            f"strategy {strategy.name!r} has one price and nothing to tune beside it; choose"
            " thresholding, cascading, cascade-routing or pandora, or fit it as it is"
        )
    if not isinstance(estimator, Independent):
        raise CascjaxError("tuning needs independent estimates, supplied or noisy ones")
    if table.n_models < 2:
        raise CascjaxError("a single model leaves nothing to tune: bring another")
    rows = np.arange(table.n_queries) if rows is None else rows
    if folds is None:
        folds = _FEW_FOLDS if _is_dear(strategy) else min(_FOLDS, max(2, len(rows) // 8))
    if folds < 2:
        raise CascjaxError(f"the cross-validation needs at least 2 folds, not {folds}")
    if len(rows) < 4 * folds:
        raise CascjaxError(
            f"{counted(len(rows), 'query is', 'queries are')} too few to tune on with"
            f" {folds} folds: ask for fewer, or give at least 4 queries a fold, {4 * folds}"
        )
    if not len(budgets) or not np.all(np.isfinite(budgets)):
        raise CascjaxError("tuning needs at least one budget, and all of them finite")
    problem = Problem.of(strategy, table, estimator, budgets, rows=rows, folds=folds, seed=seed)
    guesses = [
        Plain(),
        *searched(problem, seed, journal=journal, descend=descend, progress=progress),
    ]
    worth = [_held_out(problem, guess) for guess in guesses]
    candidates = []
    for guess, of in zip(guesses, worth, strict=True):
        gain = of - worth[0]
        error = float(gain.std() / np.sqrt(len(gain)))
        candidates.append(Candidate(guess.name, float(gain.mean()), error))
    chosen = int(np.argmax([c.gain for c in candidates]))
    best, settings = guesses[chosen], None
    scale, offset = np.ones(table.n_models), np.zeros(table.n_models)
    if isinstance(best, Corrections):
        scale, offset = best.scale[-1], best.offset[-1]
    elif isinstance(best, Steps):
        settings = problem.settings(best.theta[-1])
    return Tuned(
        strategy=strategy,
        models=table.models,
        budget=problem.budgets,
        multiplier=problem.multiplier,
        settings=settings,
        scale=scale,
        offset=offset,
        candidates=tuple(candidates),
        chosen=chosen,
        folds=folds,
        n_queries=len(problem.fold),
        seconds=time.perf_counter() - start,
    )


def searched(
    problem: "Problem",
    seed: int = 0,
    *,
    journal: Journal | None = None,
    descend: bool = True,
    progress: Callable[[int, int], None] = lambda step, steps: None,
) -> "Sequence[Guess]":
    """What the search that suits the strategy finds, from little done to all of it; see `tune`."""
    if journal is not None:
        journal.open(problem.fingerprint(seed))
    if isinstance(problem.strategy, InOrder):
        return _line_searches(problem)
    looks = functools.partial(_looks, journal=journal, descend=descend, progress=progress)
    if isinstance(problem.strategy, Pandora):
        return _corrections(problem, looks)
    return _evolved(problem, looks, seed)


def _is_dear(strategy: Strategy) -> bool:
    """Whether a strategy is tuned by simulating it over and over."""
    return not isinstance(strategy, InOrder | Pandora)


@dataclass(frozen=True)
class Problem:
    """What all ways to tune share: n queries, P multipliers, and G problems, one a fold and all.

    Attributes:
        strategy: sized for the estimates.
        estimator: of the n queries.
        quality: `[n, K]` true qualities.
        cost: `[n, K]` true costs.
        fold: `[n]` the fold each query is left out in.
        folds: how many there are; 0 where all queries are tuned on.
        budgets: `[P]` mean costs.
        multiplier: `[P]` slope of the plain frontier at each.
        family: `[L]` plain parameters.
        spent: `[L, n]` cost of each on every query.
        got: `[L, n]` quality of each.
        plain: `[G, P, J]` the plain parameter of each problem that is nearest to the budget, the
            same at all steps, on the line that searches go along.
        ends: `[2, D]` the settings of least and of most mean cost.
    """

    strategy: Strategy
    estimator: Independent
    quality: Float[np.ndarray, "n K"]
    cost: Float[np.ndarray, "n K"]
    fold: Int[np.ndarray, " n"]
    folds: int
    budgets: Float[np.ndarray, " P"]
    multiplier: Float[np.ndarray, " P"]
    family: Float[np.ndarray, " L"]
    spent: Float[np.ndarray, "L n"]
    got: Float[np.ndarray, "L n"]
    plain: Float[np.ndarray, "G P J"]
    ends: Float[np.ndarray, "2 D"]

    @classmethod
    def of(
        cls,
        strategy: Strategy,
        table: Table,
        estimator: Independent,
        budgets: Float[np.ndarray, " P"],
        *,
        rows: Int[np.ndarray, " n"],
        folds: int = 0,
        seed: int = 0,
    ) -> "Problem":
        """The problem of some budgets and queries, or of a sample of them; see `tune`."""
        rng, k = np.random.default_rng(seed), table.n_models
        some = np.sort(rng.permutation(rows)[:SAMPLE])
        part, beliefs = table.take(some), estimator.take(some)
        strategy = strategy.sized_for(beliefs)
        in_order = isinstance(strategy, InOrder)
        budgets = np.unique(budgets)
        few = _is_dear(strategy) or isinstance(strategy, Pandora)
        most = _FEW if few else _MULTIPLIERS
        if len(budgets) > most:
            budgets = budgets[np.linspace(0, len(budgets) - 1, most).round().astype(int)]
        single = mean_rows(part.cost)
        at = np.union1d(budgets, np.linspace(single.min(), single.max(), SETTINGS // 2))
        fit = fit_budgets(strategy, beliefs, part, at)
        family = np.unique(fit.parameters)
        family = family[np.linspace(0, len(family) - 1, 2 * SETTINGS).round().astype(int)]
        spent, got = query_spends(strategy, family, beliefs, part.quality, part.cost)
        fold = rng.permutation(len(some)) % max(folds, 1)
        mixes = (_mixes(spent, got, rows, budgets) for rows in _trained_on(fold, folds))
        nearest = [np.where(gamma < 0.5, cheap, expensive) for cheap, expensive, gamma in mixes]
        steps, mean = k - 1 if in_order else strategy.max_steps(k), spent.mean(1)

        def all_steps(parameter: np.ndarray) -> np.ndarray:
            return np.repeat(_to_line(strategy, parameter)[..., None], steps, axis=-1)

        return cls(
            strategy, beliefs, part.quality, part.cost, fold, folds, budgets,
            multiplier=_slopes(fit, budgets), family=family, spent=spent, got=got,
            plain=all_steps(family[np.array(nearest)]),
            ends=_from_line(strategy, all_steps(family[[mean.argmin(), mean.argmax()]])),
        )  # fmt: skip

    def settings(self, theta: Float[np.ndarray, "P J"]) -> Float[np.ndarray, "M D"]:
        """What may be mixed: points on the line that searches go along, and both ends."""
        return np.concatenate([_from_line(self.strategy, theta), self.ends])

    def trained_on(self) -> list[Int[np.ndarray, " m"]]:
        """The queries of each problem: all but those of a fold, and at last all."""
        return _trained_on(self.fold, self.folds)

    def unit(self) -> np.float32:
        """What worth is measured in: the standard deviation of quality."""
        return np.float32(self.quality.std() or 1)

    def fingerprint(self, seed: int) -> str:
        """What a search on this problem can be told by."""
        digest = hashlib.sha256()
        for of in (self.quality, self.cost, self.budgets, *jax.tree.leaves(self.estimator)):
            digest.update(np.asarray(of).tobytes())
        shape = (*self.plain.shape, len(self.fold), seed)
        return f"{__version__} {self.strategy} {shape} {digest.hexdigest()}"


@dataclass(frozen=True)
class Plain:
    """The parameters as they are found without tuning."""

    name: str = "plain"
    pooled: ClassVar[bool] = False


@dataclass(frozen=True)
class Steps:
    """A setting for every problem and multiplier.

    Attributes:
        name: how they were made.
        theta: `[G, P, J]` on the line that searches go along.
    """

    name: str
    theta: Float[np.ndarray, "G P J"]
    pooled: ClassVar[bool] = True
    """Whether settings are mixed along their hull: they are not in order."""


@dataclass(frozen=True)
class Corrections:
    """Corrections of the estimates for every problem; the plain parameters are found again.

    Attributes:
        name: how they were made.
        scale: `[G, K]` of sigma.
        offset: `[G, K]` of quality before a model has run.
        log_price: `[G, P]` the best price found with them at each multiplier, where one was.
    """

    name: str
    scale: Float[np.ndarray, "G K"]
    offset: Float[np.ndarray, "G K"]
    log_price: Float[np.ndarray, "G P"] | None = None
    pooled: ClassVar[bool] = False


Guess: TypeAlias = Plain | Steps | Corrections


def _held_out(problem: Problem, guess: Guess) -> Float[np.ndarray, " n"]:
    """Quality - mu cost of every query as fitted to the budgets without it, mean over budgets.

    What is fitted is what a policy would be: mixes of two settings that meet each budget. To
    take the best setting for mu instead would be to select among noise.
    """
    worth = np.empty(len(problem.fold))
    trained = problem.trained_on()[:-1]
    for f, (spent, got) in enumerate(_spends(problem, guess)):
        cheap, expensive, gamma = _mixes(spent, got, trained[f], problem.budgets, hull=guess.pooled)
        out = np.flatnonzero(problem.fold == f)
        of = got[:, out] - problem.multiplier[:, None, None] * spent[:, out]
        at, share = np.arange(len(gamma)), gamma[:, None]
        worth[out] = ((1 - share) * of[at, cheap] + share * of[at, expensive]).mean(0)
    return worth


def _spends(
    problem: Problem, guess: Guess
) -> Iterator[tuple[Float[np.ndarray, "L n"], Float[np.ndarray, "L n"]]]:
    """For every fold, cost and quality of every query under each setting that may be mixed."""
    truths, folds = (problem.quality, problem.cost), range(problem.folds)
    if isinstance(guess, Plain):
        yield from ((problem.spent, problem.got) for _ in folds)
    elif isinstance(guess, Corrections):
        both, last = (problem.spent, problem.got), None
        for f in folds:
            now = np.stack([guess.scale[f], guess.offset[f]])
            if last is None or not np.array_equal(now, last):
                estimator = problem.estimator.corrected(*now)
                both, last = query_spends(problem.strategy, problem.family, estimator, *truths), now
            yield both
    else:
        # All at once: what a strategy tabulates of a query serves any number of settings.
        settings = np.concatenate([problem.settings(guess.theta[f]) for f in folds])
        both = query_spends(problem.strategy, settings, problem.estimator, *truths)
        yield from zip(*(np.split(of, problem.folds) for of in both), strict=True)


def _trained_on(fold: Int[np.ndarray, " n"], folds: int) -> list[Int[np.ndarray, " m"]]:
    return [np.flatnonzero(fold != f) for f in range(folds)] + [np.arange(len(fold))]


def _mixes(
    spent: Float[np.ndarray, "L n"],
    got: Float[np.ndarray, "L n"],
    rows: Int[np.ndarray, " m"],
    budgets: Float[np.ndarray, " P"],
    hull: bool = False,
) -> tuple[Int[np.ndarray, " P"], Int[np.ndarray, " P"], Float[np.ndarray, " P"]]:
    """Return the two settings that meet each budget, and the share of the expensive one.

    They are neighbours among the settings, or along the hull of what settings give.
    """
    cost, quality = (of[:, rows].mean(1, dtype=np.float64) for of in (spent, got))
    some = upper_hull(cost, quality) if hull else np.arange(len(cost))
    fit = mix(np.stack([some, cost[some], quality[some]]), budgets)
    cheap, expensive = fit.parameters.astype(int).T
    return cheap, expensive, fit.gamma


def _slopes(fit: Fit, budgets: Float[np.ndarray, " P"]) -> Float[np.ndarray, " P"]:
    """What the last unit of each budget buys along the hull of a frontier, 0 beyond its top."""
    hull = upper_hull(fit.cost, fit.quality)
    cost, quality = fit.cost[hull], fit.quality[hull]
    slope = np.append(np.diff(quality) / np.diff(cost), 0)
    return slope[np.clip(np.searchsorted(cost, budgets) - 1, 0, len(slope) - 1)]


def _to_line(strategy: Strategy, parameter: np.ndarray) -> np.ndarray:
    """Where a parameter lies on the line searched along: its logarithm where it is a price.

    The lower, the more is run.
    """
    if isinstance(strategy, InOrder) and strategy.rising:
        return -parameter
    return np.log(np.clip(parameter, _TINY, _HUGE))


def _from_line(strategy: Strategy, theta: Float[np.ndarray, "P J"]) -> Float[np.ndarray, "P D"]:
    """Settings at points on the line; steps whose parameter decides nothing get the next one's."""
    if isinstance(strategy, InOrder):
        theta = np.concatenate([theta[:, : strategy.idle], theta], axis=1)
        if strategy.rising:
            return -theta
    return np.exp(theta)


def _looks(
    advance: Callable[[Any, int, int], Any],
    state: Any,
    stops: Sequence[int],
    *,
    journal: Journal | None,
    descend: bool,
    progress: Callable[[int, int], None],
) -> Iterator[tuple[int, Any]]:
    """What a search holds after so many steps.

    Args:
        advance: from a state, the steps done and the steps wanted to the state there.
        state: where to start.
        stops: steps after which to look, rising; the last is the end.
        journal: keeps every look, and gives back those of an earlier search.
        descend: whether to go on where the journal ends.
        progress: see `tune`.
    """
    done = 0
    for stop in stops:
        kept = None if journal is None else journal.load(stop, state)
        if kept is not None:
            state = kept
        elif not descend:
            return
        else:
            state = jax.block_until_ready(advance(state, done, stop))
            if journal is not None:
                journal.save(stop, state)
        done = stop
        progress(stop, stops[-1])
        yield stop, jax.tree.map(np.asarray, state)


# Pandora's corrections.


def _corrections(problem: Problem, looks: Any) -> list[Corrections]:
    """Sigma and quality corrected: a few scales for all models, then lines model by model."""
    k, trained = problem.quality.shape[1], problem.trained_on()
    seen = Seen.of(problem.estimator, problem.quality, problem.cost)
    multiplier = jnp.asarray(problem.multiplier, jnp.float32)
    right = jnp.asarray(_to_line(problem.strategy, problem.multiplier), jnp.float32)
    pull = jnp.float32(_PULL * problem.unit())
    weights, prices = [], []
    for rows in trained:
        cost, quality = (
            of[:, rows].mean(1, dtype=np.float64) for of in (problem.spent, problem.got)
        )
        best = (quality - problem.multiplier[:, None] * cost).argmax(1)
        prices.append(_to_line(problem.strategy, problem.family[best]))
        weights.append(np.bincount(rows, minlength=len(problem.fold)) / len(rows))
    none = np.zeros((len(trained), k), np.float32)
    start = (none, none, np.array(prices, np.float32))

    def advance(state: tuple[np.ndarray, ...], begin: int, end: int) -> tuple[np.ndarray, ...]:
        def of_problem(g: int) -> tuple[np.ndarray, ...]:
            own = Corrected(*(jnp.asarray(of[g]) for of in state))
            weight = jnp.asarray(weights[g], jnp.float32)
            # Where estimates are far off, the plain price of most worth may lie where hardly any
            # model runs, and no line leads away; with right ones mu is the price.
            at_first = [own, Corrected(own.log_scale, own.shift, right)]
            for step in range(begin, end):
                found = [
                    improved(seen, weight, multiplier, pull, jnp.float32(_WIDTHS[step]), start)
                    for start in (at_first if step == 0 else [own])
                ]
                own, _ = max(found, key=lambda one: float(one[1]))
            return jax.device_get((own.log_scale, own.shift, own.log_price))

        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            found = list(pool.map(of_problem, range(len(trained))))
        log_scale, shift, log_price = (np.stack(of) for of in zip(*found, strict=True))
        return log_scale, shift, log_price

    alike = [Corrections(f"every sigma x {s:g}", np.full(none.shape, s), none) for s in _SCALES]
    return alike + [
        Corrections(
            f"{stop} round{'s' * (stop > 1)} of line searches",
            scale=np.exp(log_scale, dtype=np.float64),
            offset=shift * np.asarray(seen.unit),
            log_price=np.asarray(log_price, np.float64),
        )
        for stop, (log_scale, shift, log_price) in looks(advance, start, _ROUNDS)
    ]


# Evolution.

Theta: TypeAlias = Any
"""A pytree of arrays with one row a problem."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _Data:
    """What a gradient is taken on.

    Attributes:
        estimator: of n queries.
        quality: `[n, K]` true qualities.
        cost: `[n, K]` true costs.
        multiplier: `[P]` of the budgets.
        rows: `[G, m]` queries of each problem, some of them twice to fill up.
        unit: standard deviation of quality.
        size: queries of a batch.
    """

    estimator: Independent
    quality: Float[Array, "n K"]
    cost: Float[Array, "n K"]
    multiplier: Float[Array, " P"]
    rows: Int[Array, "G m"]
    unit: Float[Array, ""]
    size: int = field(metadata={"static": True})

    @classmethod
    def of(cls, problem: Problem) -> "_Data":
        trained = problem.trained_on()
        room = max(map(len, trained))
        arrays = (
            problem.estimator, problem.quality, problem.cost,
            problem.multiplier.astype(np.float32),
            np.stack([np.resize(rows, room) for rows in trained]).astype(np.int32),
            problem.unit(),
        )  # fmt: skip
        return cls(*jax.tree.map(jnp.asarray, arrays), size=min(_BATCH, *map(len, trained)))

    def draw(self, key: Array) -> Int[Array, "G B"]:
        """Some queries of every problem."""
        of_row = jax.random.randint(key, (len(self.rows), self.size), 0, self.rows.shape[1])
        return jnp.take_along_axis(self.rows, of_row, axis=1)

    def take(self, rows: Int[Array, " B"]) -> tuple[Independent, Array, Array]:
        """Estimates, qualities and costs of some queries."""
        some = jax.tree.map(lambda of: of if len(of) == 1 else of[rows], self.estimator)
        return some, self.quality[rows], self.cost[rows]


Gradient: TypeAlias = Callable[[Any, _Data, Theta, Array, Array], Theta]
"""From strategy, data, theta, share of the steps done and a key to the gradient of the loss."""


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _advance(
    gradient: Gradient, kind: Strategy, steps: int, data: _Data, state: Any, key: Array,
    begin: Int[Array, ""] | int, end: Int[Array, ""] | int,
) -> Any:  # fmt: skip
    """Steps `begin` to `end`, of `steps` in all, of Adam against a gradient."""

    def one_step(step: Array, state: Any) -> Any:
        theta, moments = state
        slope = gradient(kind, data, theta, step / steps, jax.random.fold_in(key, step))
        update, moments = _adam(steps).update(slope, moments)
        return optax.apply_updates(theta, update), moments

    return jax.lax.fori_loop(begin, end, one_step, state)


def _adam(steps: int) -> optax.GradientTransformation:
    return optax.adam(optax.cosine_decay_schedule(_RATE, steps))


def _evolved(problem: Problem, looks: Any, seed: int) -> list[Steps]:
    """A price a step, by the slope seen between antithetic pairs of guesses."""
    data, stops, key = _Data.of(problem), (5, 10, 20), jax.random.key(seed)

    def advance(state: Any, begin: int, end: int) -> Any:
        steps = stops[-1]
        return _advance(_antithetic, problem.strategy, steps, data, state, key, begin, end)

    theta = jnp.asarray(problem.plain, jnp.float32)
    return [
        Steps(f"{stop} generations", np.asarray(state[0], np.float64))
        for stop, state in looks(advance, (theta, _adam(stops[-1]).init(theta)), stops)
    ]


def _antithetic(kind: Strategy, data: _Data, theta: Theta, share: Array, key: Array) -> Theta:
    """The gradient of the mean outcome around theta, estimated from pairs on either side."""
    of_rows, of_tries = jax.random.split(key)
    _, budgets, steps = theta.shape
    tries = jax.random.normal(of_tries, (len(theta), _PAIRS, budgets, steps))

    def worth(theta: Float[Array, "L P J"], rows: Array) -> Float[Array, "L P"]:
        beliefs, quality, cost = data.take(rows)
        settings = jnp.exp(theta.reshape(-1, steps))
        outcome = outcomes(kind, settings, beliefs, jnp.zeros(quality.shape, bool))
        got = jnp.mean(jnp.take_along_axis(quality.T, outcome.answer, axis=0), axis=-1)
        spent = jnp.mean(jnp.einsum("lbk,bk->lb", outcome.run.astype(cost.dtype), cost), axis=-1)
        got, spent = got.reshape(-1, budgets), spent.reshape(-1, budgets)
        return (got - data.multiplier * spent) / data.unit

    def one(problem: tuple[Array, Array, Array]) -> Array:
        theta, tries, rows = problem
        both = jnp.concatenate([theta + _SPREAD * tries, theta - _SPREAD * tries])
        up, down = jnp.split(worth(both, rows), 2)
        return jnp.mean(((down - up) / (2 * _SPREAD))[..., None] * tries, axis=0)

    # One problem after the other: a table of every supermodel takes its room.
    return jax.lax.map(one, (theta, tries, data.draw(of_rows)))


# Line searches.


def _line_searches(problem: Problem) -> list[Steps]:
    """A parameter a step, each the best there is given the others, and part of the way there."""
    kind = cast(InOrder, problem.strategy)
    limit, answer = (np.asarray(of) for of in jax.jit(_in_order, static_argnums=0)(
        kind, problem.estimator
    ))  # fmt: skip
    limit = limit.astype(np.float64)
    if not kind.rising:
        # No price is below a limit of 0, and every one is below an infinite limit.
        with np.errstate(divide="ignore"):
            limit = np.log(limit)
    got = np.take_along_axis(problem.quality.T, answer, axis=0).astype(np.float64)
    spent = np.cumsum(problem.cost.T, axis=0, dtype=np.float64)
    found = np.stack([
        _searched(limit[:, rows], got[:, rows], spent[:, rows], problem.multiplier, theta)
        for rows, theta in zip(problem.trained_on(), problem.plain, strict=True)
    ])  # fmt: skip
    return [
        Steps(f"{share:.0%} of the way", problem.plain + share * (found - problem.plain))
        for share in (0.25, 0.5, 1.0)
    ]


def _in_order(kind: InOrder, estimator: Independent) -> tuple[Array, Array]:
    return kind.limits(estimator), kind.answers(estimator)


def _searched(
    limit: Float[np.ndarray, "J n"],
    got: Float[np.ndarray, "K n"],
    spent: Float[np.ndarray, "K n"],
    multiplier: Float[np.ndarray, " P"],
    theta: Float[np.ndarray, "P J"],
) -> Float[np.ndarray, "P J"]:
    """Theta after line searches along each step: the sum over queries never falls.

    A query goes on after step j while theta_j < limit_j. From the last step back, what going on
    is worth is known; the queries that get that far, sorted by their limit, are cut where the sum
    of it over those before the cut is highest.

    Args:
        limit: of each query after each step.
        got: quality of each query at each depth.
        spent: its cost.
        multiplier: of the budgets.
        theta: where to start.
    """
    theta, steps = theta.copy(), range(len(limit))
    order = np.argsort(-limit, axis=1, kind="stable")
    falling = np.take_along_axis(limit, order, axis=1)
    # A cut lies between two limits, or beyond either end; never among equals, nor where no
    # number is: above an infinite limit or below one of minus infinity.
    edge = np.full((len(limit), 1), np.inf)
    upper = np.concatenate([edge, falling], axis=1)
    lower = np.concatenate([falling, -edge], axis=1)
    ends = np.isfinite(upper), np.isfinite(lower)
    inside = np.where(ends[0], upper, 0) / 2 + np.where(ends[1], lower, 0) / 2
    beside = np.where(ends[0], upper - 1, np.where(ends[1], lower + 1, 0))
    between = np.where(ends[0] & ends[1], inside, beside)
    apart = upper > lower
    for _ in range(_SWEEPS):
        reached = [np.ones((len(theta), limit.shape[1]), bool)]
        for j in steps:
            reached.append(reached[-1] & (theta[:, j, None] < limit[j]))
        on = got[-1] - multiplier[:, None] * spent[-1]
        for j in reversed(steps):
            stop = got[j] - multiplier[:, None] * spent[j]
            gain = np.where(reached[j], on - stop, 0)[:, order[j]]
            total = np.concatenate([np.zeros((len(theta), 1)), np.cumsum(gain, axis=1)], axis=1)
            cut = np.where(apart[j], total, -np.inf).argmax(1)
            theta[:, j] = between[j][cut]
            on = np.where(theta[:, j, None] < limit[j], on, stop)
    return theta
