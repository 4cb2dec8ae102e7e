"""Frontiers over files larger than memory: two readings of the rows, piece by piece.

The first reading (`look`) takes what must be known of all rows before any is decided: mean costs
and qualities, what estimates take of all rows, and a sample of the rows to fit on. `settle` puts
that together, and `choose` fits every strategy to every budget on the sample, as in memory. The
second (`piece_sums`) adds up what the settings chosen do, and `finish` makes frontiers of the sums.
Where the sample is all rows to fit on, its fit stands. Where it is not, it only shows where to
look: the settings around every budget are summed over all rows to fit on too, and neighbours and
gamma found again in these sums, so that budgets are met on all of them.

Everything is made for several processes (see `cases` and `run`). `look` and `piece_sums` are pure
functions of the pieces they are given; what they return is kept by piece, `merge` is associative
and commutative, and `settle` and `add_up` add up in the order of the pieces: so the result is the
same to the bit, whoever did which piece, and in which order. The sample holds the rows of least
hash of seed and row, which is no matter of pieces either.
"""

import functools
import operator
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float, Int, UInt64

from cascjax.comparison import Frontier, budgets_at, of_mixes, with_resamples
from cascjax.data.source import Piece, Stream
from cascjax.data.table import (
    FIT,
    PAPER_EVALUATE,
    PAPER_SEED,
    Table,
    check_split,
    concatenate,
    drawn_split,
    paper_split,
    take_rows,
    upper_hull,
)
from cascjax.engine.simulate import Resampled, Totals, query_spends, resampled_sums
from cascjax.errors import RefusedError
from cascjax.estimators import Estimator, Scalable, truth
from cascjax.estimators.learned import check_quality
from cascjax.estimators.pieces import (
    SUPPLIED_COLUMNS,
    Known,
    Moments,
    Spread,
    lines,
    noise_keys,
    normals,
)
from cascjax.metrics import auc
from cascjax.search.budgets import (
    Fit,
    Seen,
    around,
    at_once,
    fit_budgets,
    mix,
    near_chains,
    spared,
    sum_settings,
)
from cascjax.search.sigma_scale import scaled, with_sigma_scale
from cascjax.strategies import Frugal, Mixing, SearchContext, Strategy

SAMPLE = 1 << 18
"""Rows to fit on that settings are looked for on, and estimates learned from."""

LEARNED_COLUMNS = ("features", "signals", "answer", "group")
"""What estimates are learned from, beside what models that have run cost."""

PERMUTED = 1 << 22
"""Largest number of rows whose split is a permutation, as `split_rows` draws it; else a hash."""

_MOST = 1 << 10
"""Settings summed where their number hardly counts."""

_ERRORS = 3.0
"""Standard errors of a sample's mean cost that settings are spread over, on each side of one."""

_LOOKED_AT = 8
"""Budgets at which the error of a sample is taken."""

_BLOCK = 1 << 13
"""Rows worked on in float64 at once."""


@dataclass(frozen=True)
class Job:
    """What is asked of a stream.

    Attributes:
        stream: the rows.
        strategies: what to draw.
        estimates: "supplied", "noisy" or "learned".
        noise: the four sigmas of noisy estimates.
        learning: of learned estimates, arguments of `cascjax.estimators.learned`.
        sigma_scale: of learned estimates, see `Known`.
        budgets: see `cascjax.compare.study`.
        seed: of the noise, the folds, the sample, and of the split where the files have none.
        sample: rows to fit on that settings are looked for on, at most.
        resamples: of the rows to evaluate on, for intervals; 0 for none.
        confidence: of those intervals.
        more: further fields of `Table` to read and keep of the sample.
        cut: how rows to fit on are told: "halves", as the files have it or else half of them, drawn
            by seed; or "paper", 5% of them by the paper's own seed, whatever the files have.
    """

    stream: Stream
    strategies: tuple[Strategy, ...]
    estimates: str = "supplied"
    noise: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    budgets: int | tuple[float, ...] | None = None
    seed: int = 0
    sample: int = SAMPLE
    resamples: int = 0
    confidence: float = 0.95
    more: tuple[str, ...] = ()
    cut: str = "halves"
    learning: Mapping[str, Any] = field(default_factory=dict)
    sigma_scale: float | None = 1.0

    @property
    def columns(self) -> tuple[str, ...]:
        """What is read of the files, beside quality and cost."""
        of_kind = {"supplied": SUPPLIED_COLUMNS, "learned": LEARNED_COLUMNS}
        split = () if self.cut == "paper" else ("split",)
        return (*split, *of_kind.get(self.estimates, ()), *self.more)

    @property
    def split(self) -> str:
        """Where the split comes from, in words."""
        if self.cut == "paper":
            drawn = self.stream.n_rows <= PERMUTED
            return "as the paper draws it" if drawn else "5% to fit on, drawn row by row"
        if "split" in self.stream.columns:
            return "of the files"
        if self.stream.n_rows <= PERMUTED:
            return "drawn by seed"
        return "drawn by seed, row by row"

    def settings(self) -> dict[str, Any]:
        """What tells it from another job on the same files, for a journal."""
        return {
            "strategies": [repr(strategy) for strategy in self.strategies],
            "models": list(self.stream.models),
            "estimates": self.estimates,
            "noise": list(self.noise),
            "budgets": self.budgets if isinstance(self.budgets, int) else
            None if self.budgets is None else list(self.budgets),
            "seed": self.seed,
            "sample": self.sample,
            "resamples": self.resamples,
            "confidence": self.confidence,
            "columns": list(self.columns),
            "cut": self.cut,
            "learning": dict(self.learning) | {"sigma_scale": self.sigma_scale},
        }  # fmt: skip


# The first reading.


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Glance:
    """Sums over the rows of a piece, models in the files' order; first to fit on, then the others.

    Attributes:
        count: `[2]` rows.
        cost: `[2, K]` sums of true costs.
        quality: `[2, K]` sums of true qualities.
        moved: of supplied estimates, ante less post over the rows to fit on.
        qualities: of noisy estimates, moments of qualities over all rows.
        costs: of noisy estimates, moments of costs over all rows.
    """

    count: Float[np.ndarray, "2"]
    cost: Float[np.ndarray, "2 K"]
    quality: Float[np.ndarray, "2 K"]
    moved: Spread | None = None
    qualities: Moments | None = None
    costs: Moments | None = None


@dataclass(frozen=True)
class Sample:
    """The rows to fit on of least hash.

    Attributes:
        rows: `[m]` their numbers, rising.
        table: what the files say of them, models in the files' order; None of no rows.
    """

    rows: Int[np.ndarray, " m"]
    table: Table | None = None


NO_SAMPLE = Sample(np.zeros(0, np.int64))
"""A sample of no rows."""


@dataclass(frozen=True)
class Looked:
    """What a first reading of some pieces found.

    Attributes:
        glances: by the index of the piece.
        sample: of the rows of all these pieces.
    """

    glances: Mapping[int, Glance]
    sample: Sample


def look(
    job: Job,
    pieces: Iterable[Piece],
    progress: Callable[[int], None] = lambda rows: None,
    *,
    beside: Sample = NO_SAMPLE,
) -> Looked:
    """Reads some pieces for the first time.

    Args:
        job: what is asked.
        pieces: which.
        progress: called with the rows of each piece when it is done.
        beside: a sample of other pieces; of these, rows that it would push out are left out.

    Raises:
        CascjaxError: see `Stream.tables`, or a quality that the learner cannot take.
    """
    looked, most = Looked({}, NO_SAMPLE), _most(job, beside)
    for piece, table in job.stream.tables(pieces, job.columns):
        fit, rows = is_fit(job, piece, table), piece.rows
        if job.learning:
            _check_quality(job, piece, table, fit)
        glance = _glance(job, table, fit, rows)
        some = _least(job, rows[fit], min(most, _most(job, looked.sample)))
        sample = NO_SAMPLE
        if len(some):
            found = replace(table.take(some - piece.first), split=None)
            sample = Sample(some, concatenate([found]))
        looked = merge(job, looked, Looked({piece.index: glance}, sample))
        progress(piece.n_rows)
    return looked


def _check_quality(job: Job, piece: Piece, table: Table, fit: Bool[np.ndarray, " n"]) -> None:
    """Of all rows to fit on, not of the sample alone: so that it is no matter of luck."""
    rows = np.flatnonzero(fit)
    try:
        quality = take_rows(table.quality, rows)
        check_quality(job.learning["estimator"], quality, piece.start + rows, table.models)
    except RefusedError as error:
        raise RefusedError(f"{job.stream.files[piece.file].path}: {error}") from error


def merge(job: Job, *looked: Looked) -> Looked:
    """What a reading of all these pieces together would have found; in any order."""
    glances: dict[int, Glance] = {}
    for one in looked:
        glances |= one.glances
    samples = [one.sample for one in looked if one.sample.table is not None]
    if not samples:
        return Looked(glances, NO_SAMPLE)
    if len(samples) == 1:
        return Looked(glances, samples[0])
    rows = np.concatenate([sample.rows for sample in samples])
    table = concatenate([sample.table for sample in samples if sample.table is not None])
    keep = np.arange(len(rows))
    if len(rows) > job.sample:
        keep = np.argpartition(_hash(job.seed, rows), job.sample - 1)[: job.sample]
    keep = keep[np.argsort(rows[keep])]
    return Looked(glances, Sample(rows[keep], concatenate([table.take(keep)])))


def _glance(
    job: Job, table: Table, fit: Bool[np.ndarray, " n"], rows: Int[np.ndarray, " n"]
) -> Glance:
    moved = qualities = costs = None
    if job.estimates == "noisy":
        noise = normals(noise_keys(job.seed), rows, table.n_models)
        qualities = Moments.of(table.quality, noise[0], noise[1])
        costs = Moments.of(table.cost, noise[2], noise[3])
    elif job.estimates == "supplied" and table.quality_sigma is None:
        assert table.quality_ante is not None
        assert table.quality_post is not None
        moved = Spread.of(table.quality_ante, table.quality_post, np.flatnonzero(fit))
    sides = np.stack([fit, ~fit]).astype(np.float64)
    return Glance(
        sides.sum(1), _sums(sides, table.cost), _sums(sides, table.quality), moved, qualities, costs
    )


def _sums(
    weights: Float[np.ndarray, "W n"], column: Float[np.ndarray, "n K"]
) -> Float[np.ndarray, "W K"]:
    found = np.zeros((len(weights), column.shape[1]))
    for start in range(0, len(column), _BLOCK):
        part = slice(start, start + _BLOCK)
        found += weights[:, part] @ column[part].astype(np.float64)
    return found


def is_fit(job: Job, piece: Piece, table: Table) -> Bool[np.ndarray, " n"]:
    """Which rows of a piece are to fit on."""
    if table.split is not None:
        return table.split == FIT
    if job.stream.n_rows <= PERMUTED:
        fit = _drawn(job.stream.n_rows, job.cut, job.seed)
        return fit[piece.first : piece.first + piece.n_rows]
    rows = piece.rows
    # Another seed than the sample's, which takes the least of these rows.
    if job.cut == "paper":
        return _hash(~PAPER_SEED, rows) < np.uint64((1 - PAPER_EVALUATE) * 2**64)
    return _hash(~job.seed, rows) < np.uint64(1 << 63)


@functools.lru_cache(maxsize=2)
def _drawn(n_rows: int, cut: str, seed: int) -> Bool[np.ndarray, " N"]:
    fit = np.zeros(n_rows, bool)
    fit[(paper_split(n_rows) if cut == "paper" else drawn_split(n_rows, seed))[0]] = True
    return fit


def _most(job: Job, sample: Sample) -> np.uint64:
    """What the hash of a row must be below to come into a sample."""
    if len(sample.rows) < job.sample:
        return np.uint64(np.iinfo(np.uint64).max)
    return _hash(job.seed, sample.rows).max()


def _least(job: Job, rows: Int[np.ndarray, " n"], most: np.uint64) -> Int[np.ndarray, " m"]:
    """Of these rows those that may be in the sample, rising."""
    hashes = _hash(job.seed, rows)
    less = hashes < most
    rows, hashes = rows[less], hashes[less]
    if len(rows) > job.sample:
        rows = np.sort(rows[np.argpartition(hashes, job.sample - 1)[: job.sample]])
    return rows


def _hash(seed: int, rows: Int[np.ndarray, " n"]) -> UInt64[np.ndarray, " n"]:
    """A number for each row, no two the same: splitmix64 (Steele, Lea and Flood, 2014)."""

    def mixed(x: np.ndarray) -> np.ndarray:
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))

    start = mixed(np.array([seed & (1 << 64) - 1], np.uint64) * np.uint64(0x9E3779B97F4A7C15))
    return mixed(start + (rows.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15))


# What the first reading says.


@dataclass(frozen=True)
class Settled:
    """What is known of all rows before any is decided; models in rising mean cost.

    Attributes:
        order: `[K]` places of the models in the files' order.
        models: K names.
        known: what estimates take of all rows.
        count: `[2]` rows to fit on, and to evaluate on.
        cost: `[2, K]` mean cost of each model alone, on either.
        quality: `[2, K]` mean quality of each model alone, on either.
        budgets: `[P]` mean costs wanted.
        sample: the sample's rows.
        table: what is true of them.
        exact: whether they are all rows to fit on.
        moments: of noisy estimates, moments of qualities and of costs.
    """

    order: Int[np.ndarray, " K"]
    models: tuple[str, ...]
    known: Known
    count: Int[np.ndarray, "2"]
    cost: Float[np.ndarray, "2 K"]
    quality: Float[np.ndarray, "2 K"]
    budgets: Float[np.ndarray, " P"]
    sample: Int[np.ndarray, " m"]
    table: Table
    exact: bool
    moments: tuple[Moments, Moments] | None = None


def settle(job: Job, looked: Looked) -> Settled:
    """Puts together what was found in all pieces.

    Raises:
        CascjaxError: a side of the split is empty, or all models cost the same.
    """
    glances = [looked.glances[index] for index in sorted(looked.glances)]
    count, cost, quality = (
        functools.reduce(operator.add, [getattr(glance, name) for glance in glances])
        for name in ("count", "cost", "quality")
    )
    check_split(int(count[0]), int(count[1]))
    cost, quality = cost / count[:, None], quality / count[:, None]
    order = np.argsort(cost[0], kind="stable")
    cost, quality = cost[:, order], quality[:, order]
    known, moments = Known(job.estimates, cost[0], seed=job.seed, sigma_scale=job.sigma_scale), None
    if job.estimates == "noisy":
        qualities, costs = moments_of(looked)
        moments = qualities.in_order(order), costs.in_order(order)
        known = under_noise(known, moments, job.noise)
    elif glances[0].moved is not None:
        spread = functools.reduce(Spread.joined, [of.moved for of in glances if of.moved])
        known = replace(known, sigma=spread.sigma[order])
    auc(cost[1], quality[1], cost[1], quality[1])  # refuses models that cost the same
    models = tuple(job.stream.models[i] for i in order)
    assert looked.sample.table is not None
    return Settled(
        order=order,
        models=models,
        known=known,
        count=count.astype(np.int64),
        cost=cost,
        quality=quality,
        budgets=budgets_at(job.budgets, cost[1], quality[1]),
        sample=looked.sample.rows,
        table=looked.sample.table.select_models(models),
        exact=len(looked.sample.rows) == int(count[0]),
        moments=moments,
    )


def under(settled: Settled, noise: tuple[float, float, float, float]) -> Settled:
    """The same under another noise, whose draws are the same: what was found once serves all."""
    assert settled.moments is not None
    return replace(settled, known=under_noise(settled.known, settled.moments, noise))


def moments_of(looked: Looked) -> tuple[Moments, Moments]:
    """Of noisy estimates the moments of qualities and of costs, in the files' order."""
    glances = [looked.glances[index] for index in sorted(looked.glances)]
    qualities, costs = (
        functools.reduce(Moments.joined, [getattr(glance, name) for glance in glances])
        for name in ("qualities", "costs")
    )
    return qualities, costs


def under_noise(
    known: Known, moments: tuple[Moments, Moments], noise: tuple[float, float, float, float]
) -> Known:
    """What noisy estimates take of all rows, by moments in the order of the models."""
    quality, cost = (lines(of, at) for of, at in zip(moments, (noise[:2], noise[2:]), strict=True))
    return replace(known, sigma=quality[2], lines=(*quality[:2], *cost[:2]))


@dataclass(frozen=True)
class Choice:
    """The settings of a strategy that are summed over all rows.

    Attributes:
        settings: `[L]` rising, or `[L, D]` where each has several numbers.
        panels: see `Strategy.sized_for`: of the sample's estimates; None where there are none.
        fit: what was fitted, where the sample is all rows to fit on.
        cost_error: standard error of a mean cost of the sample, as of all rows to fit on, at most;
            in the files' cost unit. 0 where these are all of them.
        quality_error: that of a mean quality.
        seconds: that it took.
        sigma_scale: scale on the sigmas of learned estimates it is shown; see
            `cascjax.search.sigma_scale`.
    """

    settings: Float[np.ndarray, "L *D"]
    panels: int | None = None
    fit: Fit | None = None
    cost_error: float = 0.0
    quality_error: float = 0.0
    seconds: float = 0.0
    sigma_scale: float = 1.0


def choose(
    settled: Settled,
    strategy: Strategy,
    estimates: Estimator,
    progress: Callable[[int], None] = lambda queries: None,
) -> Choice:
    """Fits a strategy to every budget on the sample.

    Args:
        settled: what is known of all rows.
        strategy: what to fit.
        estimates: those of the sample.
        progress: called with the number of queries of each block simulated.
    """
    start, table, budgets = time.perf_counter(), settled.table, settled.budgets
    known, every = settled.known, np.arange(len(settled.sample))
    beliefs = truth(table) if strategy.sees_truth else estimates
    beliefs, sigma_scale = with_sigma_scale(
        strategy, table, beliefs, every, known.sigma_scale, known.seed
    )
    strategy = strategy.sized_for(beliefs)
    panels, seen = getattr(strategy, "panels", None), Seen()
    if not settled.exact and isinstance(strategy, Mixing):
        # Single models, whose means are known of all rows.
        of_all = _Known(table, beliefs, None, settled.cost[0], settled.quality[0])
        return Choice(np.sort(strategy.initial_grid(of_all, len(settled.models))), panels)
    fit = fit_budgets(strategy, beliefs, table, budgets, progress, seen=seen)
    if settled.exact:
        settings = np.unique(fit.parameters.reshape(-1, *fit.parameters.shape[2:]), axis=0)
        seconds = time.perf_counter() - start
        return Choice(settings, panels, fit, seconds=seconds, sigma_scale=sigma_scale)
    assert seen.settings is not None
    at = np.unique(np.linspace(0, len(budgets) - 1, min(_LOOKED_AT, len(budgets))).astype(int))
    spends = query_spends(strategy, fit.parameters[at, 0], beliefs, table.quality, table.cost)
    n, m = int(settled.count[0]), len(settled.sample)
    scale = np.sqrt((1 - m / n) / m)
    cost_error, quality_error = (of.std(1, dtype=np.float64) * scale for of in spends)
    error = _ERRORS * np.interp(budgets, budgets[at], cost_error)
    most = min(_MOST, at_once(strategy, beliefs))
    if isinstance(strategy, Frugal):
        settings = near_chains(seen.settings, budgets, error)
    else:
        settings = around(strategy, seen.settings, budgets, error, most)
    return Choice(
        settings,
        panels,
        None,
        float(cost_error.max()),
        float(quality_error.max()),
        time.perf_counter() - start,
        sigma_scale,
    )


@dataclass(frozen=True)
class _Known(SearchContext):
    """A sketch whose means are those of more rows than its table has."""

    mean_cost: Float[np.ndarray, " K"] = field(default_factory=lambda: np.zeros(0))
    mean_quality: Float[np.ndarray, " K"] = field(default_factory=lambda: np.zeros(0))

    @functools.cached_property
    def cost(self) -> Float[np.ndarray, " K"]:
        """Mean cost of each model alone."""
        return self.mean_cost

    @functools.cached_property
    def quality(self) -> Float[np.ndarray, " K"]:
        """Mean quality of each model alone."""
        return self.mean_quality


# The second reading.


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Summed:
    """What the settings of a strategy did on the rows of a piece, added up.

    Attributes:
        evaluate: over the rows to evaluate on.
        fit: over the rows to fit on, without what ran; None where the sample is all of these.
        seconds: that it took.
    """

    evaluate: Totals
    fit: Totals | None
    seconds: float


def piece_sums(
    job: Job,
    settled: Settled,
    choices: Sequence[Choice],
    piece: Piece,
    table: Table,
    progress: Callable[[int], None] = lambda rows: None,
) -> tuple[Summed, ...]:
    """Sums for every strategy over a piece that was read.

    Args:
        job: what is asked.
        settled: what is known of all rows.
        choices: of each strategy.
        piece: which.
        table: its rows, whose models are in order.
        progress: called with the number of queries of each block simulated.
    """
    fit = is_fit(job, piece, table)
    to_fit, others = np.flatnonzero(fit), np.flatnonzero(~fit)
    estimates = settled.known.estimates(table, piece.rows)
    found = []
    for strategy, choice in zip(job.strategies, choices, strict=True):
        start = time.perf_counter()
        beliefs = shown(strategy, choice, table, estimates)
        sized = sized_like(strategy, choice.panels, beliefs)
        of_side = functools.partial(
            _side, sized, choice.settings, beliefs, table, progress=progress
        )
        evaluate = of_side(rows=others, usage=True)
        of_fit = None if choice.fit is not None else of_side(rows=to_fit, usage=False)
        found.append(Summed(evaluate, of_fit, time.perf_counter() - start))
    return tuple(found)


def _side(
    strategy: Strategy,
    settings: Float[np.ndarray, "L *D"],
    estimates: Estimator,
    table: Table,
    *,
    rows: Int[np.ndarray, " n"],
    usage: bool,
    progress: Callable[[int], None],
) -> Totals:
    """Sums over some rows of a piece, of which there may be none."""
    none, counts = np.zeros(len(settings)), np.zeros((len(settings) * usage, table.n_models))
    if not len(rows):
        return Totals(none, none, counts, counts, counts, count=0.0)
    found = sum_settings(
        strategy, settings, estimates, table, rows=rows, usage=usage, progress=progress
    )
    # Empty counts are of one shape, whatever the piece: sums of pieces are added up.
    return found if usage else replace(found, ran=counts, answered=counts, depth=counts)


def shown(strategy: Strategy, choice: Choice, table: Table, estimates: Estimator) -> Estimator:
    """What a strategy is shown of some rows."""
    if strategy.sees_truth:
        return truth(table)
    scalable = isinstance(estimates, Scalable)
    return scaled(estimates, choice.sigma_scale) if scalable else estimates


def sized_like(strategy: Strategy, panels: int | None, estimates: Estimator) -> Strategy:
    """The strategy with as many quadrature panels as the sample took, or more if need be."""
    sized = strategy.sized_for(estimates)
    mine = getattr(sized, "panels", None)
    if not panels or not mine or mine >= panels:
        return sized
    return replace(sized, panels=panels)  # pyright: ignore[reportCallIssue]


# What comes out.


def finish(
    job: Job, settled: Settled, choices: Sequence[Choice], found: Sequence[Summed]
) -> list[Frontier]:
    """The frontier of every strategy.

    Args:
        job: what was asked.
        settled: what is known of all rows.
        choices: of each strategy.
        found: of each strategy, its sums over all pieces.
    """
    frontiers = []
    for strategy, choice, of_all in zip(job.strategies, choices, found, strict=True):
        evaluate, fit = of_all.evaluate.means(), choice.fit
        if fit is None:
            assert of_all.fit is not None
            fit = refitted(choice.settings, of_all.fit.means(), settled.budgets)
        alike = fit.parameters.reshape(2 * len(fit.gamma), 1, -1) == choice.settings.reshape(
            1, len(choice.settings), -1
        )
        cheap, expensive = alike.all(2).argmax(1).reshape(-1, 2).T
        drawn = of_mixes(
            strategy.name, settled.budgets, fit, evaluate, cheap, expensive, settled.cost[1],
            settled.quality[1], choice.seconds + float(of_all.seconds),
        )  # fmt: skip
        frontiers.append(replace(drawn, sigma_scale=choice.sigma_scale))
    return frontiers


def refitted(
    settings: Float[np.ndarray, "L *D"],
    means: Totals,
    budgets: Float[np.ndarray, " P"],
    single_quality: Float[np.ndarray, " K"] | None = None,
) -> Fit:
    """The neighbours whose mix costs each budget, by what settings do on all rows to fit on.

    Args:
        settings: a setting a row.
        means: what they do.
        budgets: mean costs wanted.
        single_quality: mean quality of each model alone, where some of a budget is to be left if a
            cheaper setting gives clearly more; see `fit_budgets`.
    """
    cost, quality = np.asarray(means.cost), np.asarray(means.quality)
    # Settings of several numbers are in no order: of these the hull's are neighbours.
    places = np.arange(len(settings)) if settings.ndim == 1 else upper_hull(cost, quality)
    pool = np.stack([places.astype(np.float64), cost[places], quality[places]])
    fit = mix(pool, budgets)
    if single_quality is not None:
        fit = spared(fit, pool, budgets, single_quality)
    return replace(fit, parameters=settings[fit.parameters.astype(int)])


def piece_resamples(
    job: Job,
    settled: Settled,
    choices: Sequence[Choice],
    frontiers: Sequence[Frontier],
    piece: Piece,
    table: Table,
) -> tuple[Float[np.ndarray, "R M"], ...]:
    """Sums of every strategy's resamples over a piece that was read.

    Args:
        job: what is asked.
        settled: what is known of all rows.
        choices: of each strategy.
        frontiers: of each strategy, whose mixes are resampled.
        piece: which.
        table: its rows, whose models are in order.
    """
    rows = np.flatnonzero(~is_fit(job, piece, table))
    estimates = settled.known.estimates(table, piece.rows)
    found = []
    for strategy, choice, drawn in zip(job.strategies, choices, frontiers, strict=True):
        beliefs = shown(strategy, choice, table, estimates)
        width = 2 * (len(drawn.gamma) + table.n_models) + 1
        found.append(
            resampled_sums(
                sized_like(strategy, choice.panels, beliefs), drawn.parameters, drawn.gamma,
                beliefs, table.quality, table.cost, resamples=job.resamples, seed=job.seed,
                rows=rows, first_row=piece.first,
            )
            if len(rows) else np.zeros((job.resamples, width))
        )  # fmt: skip
    return tuple(found)


def with_intervals(
    job: Job, frontiers: Sequence[Frontier], found: Sequence[Float[np.ndarray, "R M"]]
) -> list[Frontier]:
    """The frontiers with intervals, of each its resamples' sums over all pieces."""
    return [
        with_resamples(frontier, Resampled.of(sums, len(frontier.gamma)), job.confidence)
        for frontier, sums in zip(frontiers, found, strict=True)
    ]
