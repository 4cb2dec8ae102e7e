"""Search for more parameters than one price for all steps, and cross-validate what it proposes.

At the optimum of a budget a strategy maximises quality - mu cost, where the multiplier mu is the
slope of its frontier there. Each budget is tuned at its multiplier, all budgets as one batch, by
the search that the strategy names (`Strategy.tuning`):

- "steps", where a query goes on after step s while theta_s is below a limit of its own:
  exact line searches along one step after the other. Sort the limits, add up what going on gains,
  and take the best of all thresholds;
- "corrections", where one model's index leaves the others' unchanged (pandora): line searches on
  the exact outcome, over a scale of every model's sigma and an offset of its quality that all
  budgets share. A few scales that all sigmas share are candidates too: estimates of several
  models err together, so another answer says less than independent sigmas state;
- "evolution", one price per step: antithetic evolution strategies (Salimans et al. 2017, arXiv
  1703.03864) with Adam.

Every fold of a cross-validation is one more row of the same batch. Tuned parameters replace the
plain ones only where they do better on the queries that the fold left out.
"""

import functools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from cascjax.data.table import Table, mean_rows, upper_hull
from cascjax.engine.checkpoint import Checkpoint
from cascjax.engine.simulate import outcomes, query_spends
from cascjax.errors import CascjaxError, RefusedError
from cascjax.estimators import Independent
from cascjax.search.budgets import SETTINGS, Fit, Pool, fit_budgets, fit_settings
from cascjax.search.corrections import Corrected, Queries, improved
from cascjax.strategies import InOrder, Strategy
from cascjax.words import counted

SAMPLE = 1 << 13  # Maximum number of queries that parameters are tuned and cross-validated on
SCALES = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.2, 1.5)  # Scales of all sigmas together, each a candidate
WIDTHS = (1.0, 0.4, 0.15, 0.06)  # How far each round of the line searches for corrections looks
ROUNDS = (1, 2, 4)  # Rounds after which the corrections are a candidate
GENERATIONS = (5, 10, 20)  # Generations of evolution after which the parameters are a candidate
_PULL = 1e-3  # Weight of the squared corrections, in standard deviations of quality

_BATCH, _PAIRS, _SPREAD, _RATE = 512, 4, 0.2, 0.05
"""Evolution: queries and antithetic pairs per gradient, standard deviation of the trials in log
price, and Adam's learning rate, which falls to 0 along a cosine."""

_SWEEPS = 3  # Times that line searches go through all steps; one finds most of the gain, three all
_TINY, _HUGE = 1e-30, 1e30  # Range of the prices whose logarithm is taken


@dataclass(frozen=True)
class Candidate:
    """One way to set the parameters, and its cross-validated gain with standard error.

    The gain is quality at equal cost above the plain parameters, mean over budgets and over left-
    out queries.
    """

    name: str
    gain: float
    error: float


@dataclass(frozen=True, eq=False)
class Tuned:
    """Tuned parameters of one strategy for P budgets.

    `multiplier` is the quality that the last unit of each budget buys. `settings` are to be mixed
    for a budget, one number per step; None where the corrections, `scale` of sigma and `offset` of
    quality before a model has run, were tuned. `candidates` has everything tried, the plain
    parameters first; `chosen` is 0 where the gain of the best is no more than its standard error.
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
    interrupted: bool = False

    @property
    def replaces(self) -> bool:
        """Whether the tuned parameters gained more than a standard error out of fold."""
        return self.chosen > 0

    def estimator(self, estimator: Independent) -> Independent:
        """Return the estimates with the corrections applied."""
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
        """Return the mixtures that meet the budgets, on estimates without the corrections."""
        if self.settings is None:
            return fit_budgets(self.strategy, self.estimator(estimator), table, budgets, rows=rows)
        return fit_settings(self.strategy, self.settings, estimator, table, budgets, rows=rows)


@dataclass
class SearchRun:
    """Where a search keeps its states, and what is called with its steps done of all steps."""

    checkpoint: Checkpoint | None = None
    progress: Callable[[int, int], None] = lambda step, steps: None
    interrupted: bool = False

    def states(
        self, advance: Callable[[Any, int, int], Any], state: Any, stops: Sequence[int]
    ) -> Iterator[tuple[int, Any]]:
        """Yield the state of a search at each stop, a rising number of steps.

        `advance` maps a state, the steps done and the steps wanted to the state there.
        """
        done, structure = 0, jax.tree.structure(state)
        for stop in stops:
            key = f"search-{stop:03d}"
            leaves = None if self.checkpoint is None else self.checkpoint.get(key)
            try:
                if leaves is None:
                    state = jax.block_until_ready(advance(state, done, stop))
                    leaves = list(map(np.asarray, jax.tree.leaves(state)))
                    if self.checkpoint is not None:
                        self.checkpoint.put(key, leaves)
                state, done = jax.tree.unflatten(structure, leaves), stop
                self.progress(stop, stops[-1])
            except KeyboardInterrupt:
                if self.checkpoint is None or not done:
                    raise
                self.interrupted = True
            if done == stop:
                yield stop, state
            if self.interrupted:
                return


def tune(
    strategy: Strategy,
    table: Table,
    estimator: Independent,
    budgets: Float[np.ndarray, " P"],
    *,
    rows: Int[np.ndarray, " n"] | None = None,
    folds: int | None = None,
    seed: int = 0,
    sample: int = SAMPLE,
    run: SearchRun | None = None,
) -> Tuned:
    """Tune a strategy for all budgets at once, and cross-validate the result.

    The best candidate replaces the plain parameters only if its out-of-fold gain exceeds the
    standard error of the gain, of differences on the same queries.

    By default there are 20 folds, so that nearly all queries train each fold, or 5 where the
    strategy is expensive to simulate. Of more rows than `sample` a random sample is taken.
    """
    start = time.perf_counter()
    search = search_of(strategy)
    if table.n_models < 2:
        raise CascjaxError("a single model leaves nothing to tune: bring another")
    rows = np.arange(table.n_queries) if rows is None else rows
    if folds is None:
        folds = min(search.folds, max(2, len(rows) // 8))
    if folds < 2:
        raise CascjaxError(f"the cross-validation needs at least 2 folds, not {folds}")
    if len(rows) < 4 * folds:
        raise RefusedError(
            f"{counted(len(rows), 'query is', 'queries are')} too few to tune on with"
            f" {folds} folds: ask for fewer, or give at least 4 queries a fold, {4 * folds}"
        )
    run = run or SearchRun()
    problem = Problem.make(
        strategy, table, estimator, budgets, rows=rows, folds=folds, seed=seed, sample=sample
    )
    proposals = [Proposal("plain"), *propose(problem, seed, run)]
    worth = [_held_out(problem, proposal) for proposal in proposals]
    candidates = []
    for proposal, value in zip(proposals, worth, strict=True):
        gain = value - worth[0]
        error = float(gain.std() / np.sqrt(len(gain)))
        candidates.append(Candidate(proposal.name, float(gain.mean()), error))
    chosen = int(np.argmax([c.gain for c in candidates]))
    if candidates[chosen].gain <= candidates[chosen].error:
        chosen = 0
    best, k = proposals[chosen], table.n_models
    return Tuned(
        strategy=strategy,
        models=table.models,
        budget=problem.budgets,
        multiplier=problem.multiplier,
        settings=None if best.theta is None else problem.settings(best.theta[-1]),
        scale=np.ones(k) if best.scale is None else best.scale[-1],
        offset=np.zeros(k) if best.offset is None else best.offset[-1],
        candidates=tuple(candidates),
        chosen=chosen,
        folds=folds,
        n_queries=len(problem.fold),
        seconds=time.perf_counter() - start,
        interrupted=run.interrupted,
    )


@dataclass(frozen=True, eq=False)
class Proposal:
    """Parameters that a search proposes, for each of G training sets: one per fold, and all.

    `theta` has a setting per multiplier, on the search line; `scale` and `offset` are corrections,
    and `log_price` the best price with them at each multiplier.
    """

    name: str
    theta: Float[np.ndarray, "G P J"] | None = None
    scale: Float[np.ndarray, "G K"] | None = None
    offset: Float[np.ndarray, "G K"] | None = None
    log_price: Float[np.ndarray, "G P"] | None = None


def propose(problem: "Problem", seed: int = 0, run: SearchRun | None = None) -> list[Proposal]:
    """Return what the strategy's search proposes, from few steps to all of them."""
    return search_of(problem.strategy).propose(problem, seed, run or SearchRun())


@dataclass(frozen=True, eq=False)
class Problem:
    """Data of every search: n queries, P multipliers, and G training sets (folds, then all).

    `fold` has the fold each query is left out of (0 folds: all queries train), `multiplier` the
    slope of the plain frontier at each budget, `grid` the plain parameters with cost and quality of
    every query, `plain` the plain parameter nearest to each budget, repeated for every step, on the
    search line, and `ends` the settings of lowest and of highest mean cost.
    """

    strategy: Strategy
    estimator: Independent
    quality: Float[np.ndarray, "n K"]
    cost: Float[np.ndarray, "n K"]
    fold: Int[np.ndarray, " n"]
    folds: int
    budgets: Float[np.ndarray, " P"]
    multiplier: Float[np.ndarray, " P"]
    grid: Float[np.ndarray, " L"]
    grid_cost: Float[np.ndarray, "L n"]
    grid_quality: Float[np.ndarray, "L n"]
    plain: Float[np.ndarray, "G P J"]
    ends: Float[np.ndarray, "2 D"]

    @classmethod
    def make(
        cls,
        strategy: Strategy,
        table: Table,
        estimator: Independent,
        budgets: Float[np.ndarray, " P"],
        *,
        rows: Int[np.ndarray, " n"],
        folds: int = 0,
        seed: int = 0,
        sample: int = SAMPLE,
    ) -> "Problem":
        """Return the problem of these budgets and rows, or of a sample of them; see `tune`."""
        rng = np.random.default_rng(seed)
        chosen = np.sort(rng.permutation(rows)[:sample])
        part, estimator = table.take(chosen), estimator.take(chosen)
        estimator = estimator.sized() if strategy.integrates else estimator
        budgets = np.unique(budgets)
        most = search_of(strategy).budgets
        if len(budgets) > most:
            budgets = budgets[np.linspace(0, len(budgets) - 1, most).round().astype(int)]
        single = mean_rows(part.cost)
        at = np.union1d(budgets, np.linspace(single.min(), single.max(), SETTINGS // 2))
        fit = fit_budgets(strategy, estimator, part, at, singles=False)
        grid = np.unique(fit.parameters)
        grid = grid[np.linspace(0, len(grid) - 1, 2 * SETTINGS).round().astype(int)]
        spent, got = query_spends(strategy, grid, estimator, part.quality, part.cost)
        fold = rng.permutation(len(chosen)) % max(folds, 1)
        mixes = [_mixtures(spent, got, rows, budgets) for rows in _training_sets(fold, folds)]
        nearest = np.array(
            [np.where(gamma < 0.5, cheap, expensive) for cheap, expensive, gamma in mixes]
        )
        # After the last model in order nothing is left to decide.
        steps = strategy.max_steps(table.n_models) - (strategy.tuning == "steps")
        mean = spent.mean(1)

        def all_steps(parameter: np.ndarray) -> np.ndarray:
            return np.repeat(_to_line(strategy, parameter)[..., None], steps, axis=-1)

        return cls(
            strategy, estimator, part.quality, part.cost, fold, folds, budgets,
            multiplier=_slopes(fit, budgets), grid=grid, grid_cost=spent, grid_quality=got,
            plain=all_steps(grid[nearest]),
            ends=_from_line(strategy, all_steps(grid[[mean.argmin(), mean.argmax()]])),
        )  # fmt: skip

    def settings(self, theta: Float[np.ndarray, "P J"]) -> Float[np.ndarray, "M D"]:
        """Return the settings that may be mixed: points on the search line, and both ends."""
        return np.concatenate([_from_line(self.strategy, theta), self.ends])

    def training_sets(self) -> list[Int[np.ndarray, " m"]]:
        """Return the queries of each training set: all but one fold's, and last all queries."""
        return _training_sets(self.fold, self.folds)

    def unit(self) -> np.float32:
        """Return the standard deviation of quality, the unit of every objective."""
        return np.float32(self.quality.std() or 1)


def _held_out(problem: Problem, proposal: Proposal) -> Float[np.ndarray, " n"]:
    """Return quality - mu cost of every query as fitted without it, mean over budgets.

    The fit is a policy's: mixtures of two settings that meet each budget. Taking the best setting
    for mu instead would select among noise.
    """
    worth = np.empty(len(problem.fold))
    training = problem.training_sets()
    for f, (spent, got) in enumerate(_simulated(problem, proposal)):
        cheap, expensive, gamma = _mixtures(spent, got, training[f], problem.budgets)
        out = np.flatnonzero(problem.fold == f)
        value = got[:, out] - problem.multiplier[:, None, None] * spent[:, out]
        at, share = np.arange(len(gamma)), gamma[:, None]
        worth[out] = ((1 - share) * value[at, cheap] + share * value[at, expensive]).mean(0)
    return worth


def _simulated(
    problem: Problem, proposal: Proposal
) -> Iterator[tuple[Float[np.ndarray, "L n"], Float[np.ndarray, "L n"]]]:
    """Yield for every fold the cost and quality of every query under each setting."""
    truths, folds = (problem.quality, problem.cost), range(problem.folds)
    if proposal.theta is not None:
        # All at once: what a strategy tabulates of a query serves any number of settings.
        settings = np.concatenate([problem.settings(proposal.theta[f]) for f in folds])
        both = query_spends(problem.strategy, settings, problem.estimator, *truths)
        yield from zip(*(np.split(each, problem.folds) for each in both), strict=True)
        return
    both, last = (problem.grid_cost, problem.grid_quality), None
    for f in folds:
        if proposal.scale is not None and proposal.offset is not None:
            now = np.stack([proposal.scale[f], proposal.offset[f]])
            if last is None or not np.array_equal(now, last):
                estimator, last = problem.estimator.corrected(*now), now
                both = query_spends(problem.strategy, problem.grid, estimator, *truths)
        yield both


def _training_sets(fold: Int[np.ndarray, " n"], folds: int) -> list[Int[np.ndarray, " m"]]:
    return [np.flatnonzero(fold != f) for f in range(folds)] + [np.arange(len(fold))]


def _mixtures(
    spent: Float[np.ndarray, "L n"],
    got: Float[np.ndarray, "L n"],
    rows: Int[np.ndarray, " m"],
    budgets: Float[np.ndarray, " P"],
) -> tuple[Int[np.ndarray, " P"], Int[np.ndarray, " P"], Float[np.ndarray, " P"]]:
    """Return the two settings on the upper hull that meet each budget, and the second's share."""
    cost, quality = (each[:, rows].mean(1, dtype=np.float64) for each in (spent, got))
    fit = Pool(np.arange(float(len(cost))), cost, quality).mix(budgets)
    cheap, expensive = fit.parameters.astype(int).T
    return cheap, expensive, fit.gamma


def _slopes(fit: Fit, budgets: Float[np.ndarray, " P"]) -> Float[np.ndarray, " P"]:
    """Return the slope of the fit's hull at each budget, 0 beyond its top."""
    hull = upper_hull(fit.cost, fit.quality)
    cost, quality = fit.cost[hull], fit.quality[hull]
    slope = np.append(np.diff(quality) / np.diff(cost), 0)
    return slope[np.clip(np.searchsorted(cost, budgets) - 1, 0, len(slope) - 1)]


def _to_line(strategy: Strategy, parameter: np.ndarray) -> np.ndarray:
    """Return the place of a parameter on the search line: the lower, the more models run.

    The negative of a threshold, the logarithm of a price.
    """
    return -parameter if strategy.rising else np.log(np.clip(parameter, _TINY, _HUGE))


def _from_line(strategy: Strategy, theta: Float[np.ndarray, "P J"]) -> Float[np.ndarray, "P D"]:
    """Return the settings at points on the search line.

    A step whose parameter decides nothing gets the next step's.
    """
    theta = np.concatenate([theta[:, : strategy.idle], theta], axis=1)
    return -theta if strategy.rising else np.exp(theta)


# Corrections.


def _corrections(problem: Problem, seed: int, run: SearchRun) -> list[Proposal]:
    """Propose corrections: scales common to all models, then line searches model by model."""
    del seed
    k, training = problem.quality.shape[1], problem.training_sets()
    queries = Queries.make(problem.estimator, problem.quality, problem.cost)
    multiplier = jnp.asarray(problem.multiplier, jnp.float32)
    right = jnp.asarray(_to_line(problem.strategy, problem.multiplier), jnp.float32)
    pull = jnp.float32(_PULL * problem.unit())
    weights, prices = [], []
    for rows in training:
        cost, quality = (
            each[:, rows].mean(1, dtype=np.float64)
            for each in (problem.grid_cost, problem.grid_quality)
        )
        best = (quality - problem.multiplier[:, None] * cost).argmax(1)
        prices.append(_to_line(problem.strategy, problem.grid[best]))
        weights.append(np.bincount(rows, minlength=len(problem.fold)) / len(rows))
    zeros = np.zeros((len(training), k), np.float32)

    def advance(state: tuple[np.ndarray, ...], begin: int, end: int) -> tuple[np.ndarray, ...]:
        def advance_one(g: int) -> tuple[np.ndarray, ...]:
            own = Corrected(*(jnp.asarray(each[g]) for each in state))
            weight = jnp.asarray(weights[g], jnp.float32)
            # Where estimates are far off, the best plain price may lie where hardly any model
            # runs, and no line leads away; with right estimates mu is the price.
            starts = [own, Corrected(own.log_scale, own.shift, right)]
            for step in range(begin, end):
                width = jnp.float32(WIDTHS[step])
                reached = [
                    improved(queries, weight, multiplier, pull, width, start)
                    for start in (starts if step == 0 else [own])
                ]
                own, _ = max(reached, key=lambda each: float(each[1]))
            return jax.device_get((own.log_scale, own.shift, own.log_price))

        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            states = list(pool.map(advance_one, range(len(training))))
        log_scale, shift, log_price = (np.stack(each) for each in zip(*states, strict=True))
        return log_scale, shift, log_price

    start = (zeros, zeros, np.array(prices, np.float32))
    return [
        Proposal(f"every sigma x {scale:g}", scale=np.full(zeros.shape, scale), offset=zeros)
        for scale in SCALES
    ] + [
        Proposal(
            f"{counted(stop, 'round')} of line searches",
            scale=np.exp(log_scale, dtype=np.float64),
            offset=shift * np.asarray(queries.unit),
            log_price=np.asarray(log_price, np.float64),
        )
        for stop, (log_scale, shift, log_price) in run.states(advance, start, ROUNDS)
    ]


# Evolution.


_ADAM = optax.adam(optax.cosine_decay_schedule(_RATE, GENERATIONS[-1]))


def _evolution(problem: Problem, seed: int, run: SearchRun) -> list[Proposal]:
    """Propose a price per step, by the slope between antithetic pairs of trials."""
    (data, size), key = evolution_data(problem), jax.random.key(seed)

    def advance(state: Any, begin: int, end: int) -> Any:
        return _evolve(problem.strategy, size, data, state, key, begin, end)

    theta = jnp.asarray(problem.plain, jnp.float32)
    return [
        Proposal(f"{stop} generations", theta=np.asarray(state[0], np.float64))
        for stop, state in run.states(advance, (theta, _ADAM.init(theta)), GENERATIONS)
    ]


def evolution_data(problem: Problem) -> tuple[tuple[Any, ...], int]:
    """Return the data of `slope` and the number of queries per batch."""
    training = problem.training_sets()
    room = max(map(len, training))  # rows are repeated to fill up
    arrays = (
        problem.estimator, problem.quality, problem.cost, np.float32(problem.multiplier),
        np.stack([np.resize(rows, room) for rows in training]).astype(np.int32), problem.unit(),
    )  # fmt: skip
    return jax.tree.map(jnp.asarray, arrays), min(_BATCH, *map(len, training))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _evolve(
    strategy: Strategy, size: int, data: tuple[Any, ...], state: Any, key: Array,
    begin: int | Array, end: int | Array,
) -> Any:  # fmt: skip
    """Take Adam's steps `begin` to `end`."""

    def one_step(step: Array, state: Any) -> Any:
        theta, moments = state
        gradient = slope(strategy, size, data, theta, jax.random.fold_in(key, step))
        update, moments = _ADAM.update(gradient, moments)
        return optax.apply_updates(theta, update), moments

    return jax.lax.fori_loop(begin, end, one_step, state)


def slope(
    strategy: Strategy, size: int, data: tuple[Any, ...], theta: Float[Array, "G P J"], key: Array
) -> Float[Array, "G P J"]:
    """Return the gradient of the mean loss around theta, estimated from antithetic pairs."""
    estimator, quality, cost, multiplier, rows, unit = data
    of_rows, of_trials = jax.random.split(key)
    n_sets, budgets, steps = theta.shape
    trials = jax.random.normal(of_trials, (n_sets, _PAIRS, budgets, steps))
    place = jax.random.randint(of_rows, (n_sets, size), 0, rows.shape[1])
    batches = jnp.take_along_axis(rows, place, axis=1)

    def worth(theta: Float[Array, "L P J"], rows: Array) -> Float[Array, "L P"]:
        batch = jax.tree.map(lambda x: x if len(x) == 1 else x[rows], estimator)
        settings, paid = jnp.exp(theta.reshape(-1, steps)), cost[rows]
        outcome = outcomes(strategy, settings, batch, paid.shape)
        got = jnp.mean(jnp.take_along_axis(quality[rows].T, outcome.answer, axis=0), axis=-1)
        spent = jnp.mean(jnp.einsum("lbk,bk->lb", outcome.run.astype(paid.dtype), paid), axis=-1)
        return (got.reshape(-1, budgets) - multiplier * spent.reshape(-1, budgets)) / unit

    def slope_of(problem: tuple[Array, Array, Array]) -> Array:
        theta, trials, rows = problem
        both = jnp.concatenate([theta + _SPREAD * trials, theta - _SPREAD * trials])
        up, down = jnp.split(worth(both, rows), 2)
        return jnp.mean(((down - up) / (2 * _SPREAD))[..., None] * trials, axis=0)

    # One training set after the other: a table of every supermodel takes its room.
    return jax.lax.map(slope_of, (theta, trials, batches))


# Line searches.


def _line_searches(problem: Problem, seed: int, run: SearchRun) -> list[Proposal]:
    """Propose a parameter per step, each the best given the others, and part of the way there."""
    del seed, run  # exact, and done in less than a second
    limit, answer = _in_order(cast(InOrder, problem.strategy), problem.estimator)
    limit = np.asarray(limit, np.float64)
    if not problem.strategy.rising:
        # No price is below a limit of 0, and every one is below an infinite limit.
        with np.errstate(divide="ignore"):
            limit = np.log(limit)
    got = np.take_along_axis(problem.quality.T, np.asarray(answer), axis=0).astype(np.float64)
    spent = np.cumsum(problem.cost.T, axis=0, dtype=np.float64)
    best = np.stack([
        line_searched(limit[:, rows], got[:, rows], spent[:, rows], problem.multiplier, theta)
        for rows, theta in zip(problem.training_sets(), problem.plain, strict=True)
    ])  # fmt: skip
    return [
        Proposal(f"{share:.0%} of the way", problem.plain + share * (best - problem.plain))
        for share in (0.25, 0.5, 1.0)
    ]


@functools.partial(jax.jit, static_argnums=0)
def _in_order(strategy: InOrder, estimator: Independent) -> tuple[Array, Array]:
    return strategy.limits(estimator), strategy.answers(estimator)


def line_searched(
    limit: Float[np.ndarray, "J n"],
    got: Float[np.ndarray, "K n"],
    spent: Float[np.ndarray, "K n"],
    multiplier: Float[np.ndarray, " P"],
    theta: Float[np.ndarray, "P J"],
) -> Float[np.ndarray, "P J"]:
    """Return theta after line searches along each step; the objective never falls.

    A query, of quality `got` and cost `spent` at each depth, goes on after step j while theta_j <
    limit_j. From the last step back, the gain of going on is known; the queries that get that far,
    sorted by their limit, are cut where the sum of the gain over those before the cut is highest.
    """
    theta, steps = theta.copy(), range(len(limit))
    order = np.argsort(-limit, axis=1, kind="stable")
    falling = np.take_along_axis(limit, order, axis=1)
    # A cut lies between two limits, or beyond either end; never among equal limits, nor where no
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


@dataclass(frozen=True)
class _Search:
    """A search, and how many folds and budgets it can afford by default."""

    propose: Callable[[Problem, int, SearchRun], list[Proposal]]
    folds: int
    budgets: int


_SEARCHES = {
    "steps": _Search(_line_searches, folds=20, budgets=32),
    "corrections": _Search(_corrections, folds=20, budgets=8),
    "evolution": _Search(_evolution, folds=5, budgets=8),
}


def search_of(strategy: Strategy) -> _Search:
    """Return the search that tunes a strategy, or refuse a strategy with nothing to tune."""
    if strategy.tuning is None:
        raise CascjaxError(
            f"strategy {strategy.name!r} has nothing to tune beside the price that a fit searches;"
            " choose thresholding, cascading, cascade-routing or pandora, or fit it as it is"
        )
    return _SEARCHES[strategy.tuning]
