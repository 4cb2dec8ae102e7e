"""The passes of a job over the chunks of a source, as pure functions of single chunks.

Pass 1 (`collect_statistics`) collects what must be known of all rows before any decision: mean
costs and qualities, the statistics that estimates need, and a sample of the fit split.
`make_setup` puts these together, and `search_candidates` finds, on the sample, the parameter
settings around every budget. Pass 2 (`chunk_totals`) adds up what those settings do on all rows.
Optional passes add up bootstrap resamples and what scores need.

If the sample is the whole fit split, its settings are final. If it is not, the settings around
every budget are also summed over all fit rows, and the mixture of each budget is chosen by those
sums, so that budgets are met on all fit rows.

What a pass returns is kept per chunk, merging is associative and commutative, and sums are added in
chunk order. So results are equal to the bit for any number of processes and any order of chunks.
The sample holds the fit rows whose hash of seed and row number is lowest, for any chunks.
"""

import functools
import operator
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from cascjax.core.random import hash_numbers
from cascjax.core.sweep import has_breakpoints, single_model, single_settings
from cascjax.data.source import Source
from cascjax.data.table import (
    FIT,
    Chunk,
    Table,
    check_split,
    concatenate,
    drawn_split,
    hash_rows,
    take_rows,
)
from cascjax.engine.options import SAMPLE
from cascjax.engine.simulate import Totals, query_spends, resampled_sums
from cascjax.estimators import Estimator, Independent, Scalable, truth
from cascjax.estimators.specs import ChunkEstimates, EstimatesSpec, FitData
from cascjax.metrics import Grid, auc
from cascjax.metrics import budgets as default_budgets
from cascjax.metrics.scores import sound
from cascjax.search.budgets import (
    SETTINGS,
    Fit,
    Pool,
    SettingsCache,
    around,
    at_once,
    drawing,
    enough,
    fit_budgets,
    sum_settings,
)
from cascjax.search.sigma_scale import with_sigma_scale
from cascjax.strategies import SearchContext, Strategy
from cascjax.strategies.base import float32_grid

PERMUTED = 1 << 22
"""Largest number of rows whose split is drawn by a permutation; above it, by a hash per row."""

_MAX_CANDIDATES = 1 << 10
"""Largest number of candidate settings of a strategy that simulates many at once."""

_ERRORS = 3.0
"""Standard errors of a sample's mean cost that candidates cover on each side of a budget."""

MANY_CANDIDATES = 128
"""Settings that draw a frontier where one pass serves any number."""

_SAMPLE_CLOSE = 1 / 256
"""Share of the range of costs by which settings differ that are close enough on a sample."""

REFIT_SETTINGS = 64  # Settings beside those in use that a resample may be fitted with

_ERROR_BUDGETS = 8  # Number of budgets at which the standard error of a sample is measured
_BLOCK = 1 << 13  # Rows that are converted to float64 at once

_NO_LIMIT = np.uint64(np.iinfo(np.uint64).max)

_Progress = Callable[[int], None]


def _no_progress(queries: int) -> None:
    pass


@dataclass(frozen=True)
class Job:
    """What is computed on a source."""

    source: Source
    strategies: tuple[Strategy, ...]
    estimates: EstimatesSpec
    budgets: int | tuple[float, ...] | None = None  # their number, or mean costs
    seed: int = 0
    sample: int = SAMPLE  # largest number of fit rows that parameters are searched on
    resamples: int = 0
    columns: tuple[str, ...] = ()  # kept in the sample beside the columns of the estimates
    grid: Grid | None = None  # what AUC is taken on; None where it is not wanted
    refit: bool = False  # whether resamples are fitted again

    @property
    def all_columns(self) -> tuple[str, ...]:
        """Columns that are read in addition to quality and cost."""
        return ("split", *self.estimates.columns, *self.columns)

    def settings(self) -> dict[str, Any]:
        """Return JSON values that distinguish the job from others on the same rows."""
        return {
            "strategies": [repr(strategy) for strategy in self.strategies],
            "models": self.source.models,
            "estimates": repr(self.estimates),
            "budgets": self.budgets,
            "seed": self.seed,
            "sample": self.sample,
            "resamples": self.resamples,
            "columns": self.all_columns,
            "grid": self.grid,
            "refit": self.refit,
        }


# Split.


def fit_mask(source: Source, seed: int, chunk: Chunk, table: Table) -> Bool[np.ndarray, " n"]:
    """Return which rows of a chunk are in the fit split: by its column, else drawn by seed."""
    if table.split is not None:
        return table.split == FIT
    if source.n_rows <= PERMUTED:
        return _drawn(source.n_rows, seed)[chunk.first : chunk.first + chunk.n_rows]
    # With another seed than the sample, which takes the lowest hashes of these rows.
    return hash_numbers(~seed, chunk.rows) < np.uint64(1 << 63)


def split_fingerprint(source: Source) -> str:
    """Return a hash by which a source is recognised whose split is drawn by seed.

    A table and files with the same rows have the same one, as they have the same split. Where that
    does not matter or takes long, it is the fingerprint of the source.
    """
    if isinstance(source, Table) or "split" in source.columns or source.n_rows > PERMUTED:
        return source.fingerprint()
    tables = (table for _, table in source.read(source.chunks, ()))
    return hash_rows(tables, source.n_rows, source.models)


def describe_split(source: Source) -> str:
    """Return where the split comes from, in words."""
    if "split" in source.columns:
        return "given by the column 'split'"
    return "drawn by seed" if source.n_rows <= PERMUTED else "drawn by seed, row by row"


@functools.lru_cache(maxsize=2)
def _drawn(n_rows: int, seed: int) -> Bool[np.ndarray, " N"]:
    fit = np.zeros(n_rows, bool)
    fit[drawn_split(n_rows, seed)[0]] = True
    return fit


# Pass 1: statistics of all rows, and the sample.


@dataclass(frozen=True)
class ChunkStatistics:
    """Sums over the fit rows and the evaluation rows of a chunk, models as in the source."""

    count: Float[np.ndarray, "2"]
    cost: Float[np.ndarray, "2 K"]
    quality: Float[np.ndarray, "2 K"]
    estimates: Any = None  # what the estimates need of all rows


@dataclass(frozen=True)
class Sample:
    """The fit rows of lowest hash: rising row numbers, and the rows unless they are in memory."""

    rows: Int[np.ndarray, " m"] = field(default_factory=lambda: np.zeros(0, np.int64))
    table: Table | None = None


@dataclass(frozen=True)
class Statistics:
    """What pass 1 collects from some chunks: statistics by chunk index, and a sample."""

    chunks: Mapping[int, ChunkStatistics] = field(default_factory=dict)
    sample: Sample = field(default_factory=Sample)

    def in_order(self) -> list[ChunkStatistics]:
        """Return the statistics of all chunks in row order."""
        return [self.chunks[index] for index in sorted(self.chunks)]

    def for_estimates(self) -> Any:
        """Return what the estimates need of all rows, merged; None if they need nothing."""
        parts = [s.estimates for s in self.in_order() if s.estimates is not None]
        return functools.reduce(lambda one, other: one.merge(other), parts) if parts else None


def collect_statistics(
    job: Job,
    chunks: Iterable[tuple[Chunk, Table]],
    progress: _Progress = _no_progress,
    *,
    other: Sample,
) -> Statistics:
    """Return the statistics and the sample of chunks with their rows."""
    collected, limit = Statistics(), _hash_limit(job, other)
    for chunk, table in chunks:
        fit, rows = fit_mask(job.source, job.seed, chunk, table), chunk.rows
        weights = np.stack([fit, ~fit]).astype(np.float64)
        statistics = ChunkStatistics(
            count=weights.sum(1),
            cost=_weighted_sums(weights, table.cost),
            quality=_weighted_sums(weights, table.quality),
            estimates=job.estimates.statistics(chunk, table, fit, job.seed),
        )
        limit = min(limit, _hash_limit(job, collected.sample))
        lowest = rows[fit][_lowest(job, rows[fit], limit)]
        sample = Sample(lowest)
        if len(lowest) and not isinstance(job.source, Table):
            sample = Sample(lowest, _sample_table(table, lowest - chunk.first))
        collected = merge_statistics(job, collected, Statistics({chunk.index: statistics}, sample))
        progress(chunk.n_rows)
    return collected


def merge_statistics(job: Job, *parts: Statistics) -> Statistics:
    """Return the statistics of the chunks of all parts; their order does not matter."""
    chunks: dict[int, ChunkStatistics] = {}
    for part in parts:
        chunks |= part.chunks
    samples = [part.sample for part in parts if len(part.sample.rows)]
    if len(samples) < 2:
        return Statistics(chunks, samples[0] if samples else Sample())
    rows = np.concatenate([sample.rows for sample in samples])
    tables = [sample.table for sample in samples if sample.table is not None]
    keep = _lowest(job, rows)
    table = _sample_table(concatenate(tables), keep) if tables else None
    return Statistics(chunks, Sample(rows[keep], table))


def _sample_table(table: Table, rows: Int[np.ndarray, " m"]) -> Table:
    """Return rows of a table without its split, with the groups that they have."""
    return concatenate([replace(table.take(rows), split=None)])


def _weighted_sums(
    weights: Float[np.ndarray, "W n"], column: Float[np.ndarray, "n K"]
) -> Float[np.ndarray, "W K"]:
    sums = np.zeros((len(weights), column.shape[1]))
    for start in range(0, len(column), _BLOCK):
        part = slice(start, start + _BLOCK)
        sums += weights[:, part] @ column[part].astype(np.float64)
    return sums


def _hash_limit(job: Job, sample: Sample) -> np.uint64:
    """Return the highest hash with which a row may enter a sample."""
    return _NO_LIMIT if len(sample.rows) < job.sample else hash_numbers(job.seed, sample.rows).max()


def _lowest(
    job: Job, rows: Int[np.ndarray, " n"], limit: np.uint64 = _NO_LIMIT
) -> Int[np.ndarray, " m"]:
    """Return the positions of the rows that may be in the sample, in the order of the rows."""
    hashes = hash_numbers(job.seed, rows)
    keep = np.flatnonzero(hashes <= limit)
    if len(keep) > job.sample:
        keep = keep[np.argpartition(hashes[keep], job.sample - 1)[: job.sample]]
    return keep[np.argsort(rows[keep])]


# Between the passes, on the sample.


@dataclass(frozen=True)
class Setup:
    """What is known once pass 1 is complete; models in rising mean cost over the fit split."""

    order: Int[np.ndarray, " K"]  # position of each model in the order of the source
    models: tuple[str, ...]
    estimates: ChunkEstimates
    count: Int[np.ndarray, "2"]  # number of fit rows and of evaluation rows
    cost: Float[np.ndarray, "2 K"]  # mean cost of each model alone, over either split
    quality: Float[np.ndarray, "2 K"]
    budgets: Float[np.ndarray, " P"]
    rows: Int[np.ndarray, " m"]  # row numbers of the sample
    table: Table  # the sample of the fit split
    grid: Grid | None = None  # as in the job

    @property
    def exact(self) -> bool:
        """Whether the sample is the whole fit split."""
        return len(self.rows) == int(self.count[0])

    def sort(self, table: Table) -> Table:
        """Return rows of the source with models in rising mean cost."""
        return table if table.models == self.models else table.select_models(self.models)

    def estimator(self) -> Estimator:
        """Return the estimator of the sample."""
        return self.estimates.estimator(self.table, self.rows)


def make_setup(job: Job, statistics: Statistics) -> Setup:
    """Return the setup of a job, from the statistics of all chunks."""
    chunks = statistics.in_order()
    count, cost, quality = (
        functools.reduce(operator.add, [getattr(chunk, name) for chunk in chunks])
        for name in ("count", "cost", "quality")
    )
    check_split(int(count[0]), int(count[1]))
    cost, quality = cost / count[:, None], quality / count[:, None]
    order = np.argsort(cost[0], kind="stable")
    cost, quality = cost[:, order], quality[:, order]
    auc(cost[1], quality[1], cost[1], quality[1])  # refuses models that all cost the same
    models, rows = tuple(job.source.models[i] for i in order), statistics.sample.rows
    table = statistics.sample.table
    if isinstance(job.source, Table):
        everything = Chunk(0, "", 0, job.source.n_rows, 0)
        ((_, kept),) = job.source.read([everything], job.all_columns)
        table = _sample_table(kept, rows)
    assert table is not None
    table = table.select_models(models)
    estimates = job.estimates.fit(
        FitData(
            order=order,
            mean_cost=cost[0],
            statistics=statistics.for_estimates(),
            table=table,
            rows=rows,
            n_fit=int(count[0]),
            seed=job.seed,
        )
    )
    if job.budgets is None or isinstance(job.budgets, int):
        budgets = default_budgets(cost[1], quality[1], job.budgets, grid=job.grid or "full")
    else:
        budgets = np.unique(np.asarray(job.budgets, np.float64))
    return Setup(
        order=order,
        models=models,
        estimates=estimates,
        count=count.astype(np.int64),
        cost=cost,
        quality=quality,
        budgets=budgets,
        rows=rows,
        table=table,
        grid=job.grid,
    )


@dataclass(frozen=True)
class Candidates:
    """The settings of a strategy that pass 2 sums over all rows."""

    settings: Float[np.ndarray, "L *D"]  # rising, if a setting is one number
    panels: int | None = None  # quadrature panels of the sample's estimates
    fit: Fit | None = None  # the mixture of each budget, if the sample is the whole fit split
    searched: int = 0  # fit rows that they were searched on, if not all
    cost_error: float = 0.0  # largest standard error of a mean of those rows, of a model alone
    quality_error: float = 0.0
    seconds: float = 0.0
    sigma_scale: float = 1.0
    # Factor on sigma and addition to ex-ante quality that the strategy's estimates are corrected by
    correction: tuple[Float[np.ndarray, " K"], Float[np.ndarray, " K"]] | None = None


def search_candidates(
    setup: Setup,
    strategy: Strategy,
    estimator: Estimator,
    seed: int,
    progress: _Progress = _no_progress,
    *,
    refit: bool = False,
) -> Candidates:
    """Fit a strategy to every budget on the sample and return the settings around the budgets.

    To `refit` resamples of a sample that is the whole fit split, others beside are returned too.
    """
    start, table, budgets = time.perf_counter(), setup.table, setup.budgets
    estimator = truth(table) if strategy.sees_truth else estimator
    estimator, sigma_scale = with_sigma_scale(
        strategy, table, estimator, np.arange(len(setup.rows)), setup.estimates.sigma_scale, seed
    )
    k = len(setup.models)
    every = strategy.all_settings(k)
    singles = setup.grid != "paper" and not strategy.reference
    if not setup.exact and every is not None:
        return Candidates(np.sort(every))
    estimator, cache = _sized(strategy, estimator), SettingsCache()
    panels = getattr(estimator, "panels", None)
    if strategy.sees_truth:
        # A bound on the evaluation rows: all its settings are tried there.
        grid = strategy.initial_grid(
            SearchContext(table, estimator), at_once(strategy, estimator, table)
        )
        return Candidates(float32_grid(grid), panels, seconds=time.perf_counter() - start)
    whole, n, most = setup.grid == "full", int(setup.count[0]), enough(strategy)
    searched = len(setup.rows)
    if whole and searched > 2 * most:
        # So many queries show which settings draw the frontier; all fit rows then say how well.
        spread = np.linspace(0, searched - 1, most).astype(np.int64)
        table, estimator, searched = table.take(spread), estimator.take(spread), most
    find = functools.partial(
        fit_budgets, strategy, estimator, table, budgets, progress,
        cache=cache, whole=whole, singles=singles,
    )  # fmt: skip
    if searched == n:
        fit = find()
        used = [fit.parameters.reshape(-1, *fit.parameters.shape[2:]), *([fit.knots] * whole)]
        if refit and cache.settings is not None:
            used.append(cache.settings.spread(REFIT_SETTINGS))
        settings = np.unique(np.concatenate(used), axis=0)
        seconds = time.perf_counter() - start
        return Candidates(settings, panels, fit, seconds=seconds, sigma_scale=sigma_scale)
    find(close=_SAMPLE_CLOSE) if whole else find()
    assert cache.settings is not None
    scale = np.sqrt((1 - searched / n) / searched)
    if whole:
        many = has_breakpoints(strategy, estimator)
        count = MANY_CANDIDATES if many else SETTINGS // 2 if strategy.expensive else SETTINGS
        settings = drawing(strategy, cache.settings, count)
        cost_error, quality_error = (
            x.std(0, dtype=np.float64) * scale for x in (table.cost, table.quality)
        )
    else:
        wide = cache.settings.mix(budgets)
        at = np.unique(np.linspace(0, len(budgets) - 1, min(_ERROR_BUDGETS, len(budgets))))
        at = at.astype(int)
        spends = query_spends(
            strategy, wide.parameters[at, 0], estimator, table.quality, table.cost
        )
        cost_error, quality_error = (spend.std(1, dtype=np.float64) * scale for spend in spends)
        error = _ERRORS * np.interp(budgets, budgets[at], cost_error)
        room = min(_MAX_CANDIDATES, at_once(strategy, estimator, table))
        settings = around(strategy, cache.settings, budgets, error, room)
    if singles and settings.ndim == 1:
        settings = np.union1d(settings, single_settings(k))
    return Candidates(
        settings=settings,
        panels=panels,
        searched=searched,
        cost_error=float(cost_error.max()),
        quality_error=float(quality_error.max()),
        seconds=time.perf_counter() - start,
        sigma_scale=sigma_scale,
    )


def _sized(strategy: Strategy, estimator: Estimator) -> Estimator:
    """Return the estimator with the number of quadrature panels it needs, if any are taken."""
    size = getattr(estimator, "sized", None) if strategy.integrates else None
    return estimator if size is None else size()


# Pass 2 and the optional passes: sums over all rows.


@dataclass(frozen=True)
class ChunkInputs:
    """A chunk that is ready to be simulated, models in rising mean cost."""

    chunk: Chunk
    table: Table
    fit: Bool[np.ndarray, " n"]
    estimator: Estimator

    @classmethod
    def from_chunk(cls, job: Job, setup: Setup, chunk: Chunk, table: Table) -> "ChunkInputs":
        """Return the inputs of a chunk from its rows, models in the order of the source."""
        fit, table = fit_mask(job.source, job.seed, chunk, table), setup.sort(table)
        return cls(chunk, table, fit, setup.estimates.estimator(table, chunk.rows))

    def evaluation_rows(self) -> Int[np.ndarray, " m"]:
        """Return the positions of the evaluation rows in the chunk."""
        return np.flatnonzero(~self.fit)

    def estimator_for(self, strategy: Strategy, candidates: Candidates) -> Estimator:
        """Return the estimator that a strategy decides by."""
        if strategy.sees_truth:
            return truth(self.table)
        estimator = self.estimator
        if isinstance(estimator, Scalable):
            estimator = estimator.scaled(candidates.sigma_scale)
        if candidates.correction is not None:
            assert isinstance(estimator, Independent)
            estimator = estimator.corrected(*candidates.correction)
        estimator = _sized(strategy, estimator)
        panels = getattr(estimator, "panels", None)
        # As many quadrature panels as the sample took, or more if the chunk needs more.
        if panels and candidates.panels and panels < candidates.panels:
            estimator = replace(estimator, panels=candidates.panels)  # pyright: ignore[reportCallIssue, reportArgumentType]
        return estimator


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SplitTotals:
    """Sums of what the candidates of a strategy do, over either split."""

    evaluate: Totals
    fit: Totals | None  # without usage; None where it is not needed
    seconds: float


def chunk_totals(
    inputs: ChunkInputs, strategies: Sequence[Strategy], candidates: Sequence[Candidates]
) -> tuple[SplitTotals, ...]:
    """Return the sums of every strategy over a chunk."""
    rows = {True: np.flatnonzero(inputs.fit), False: inputs.evaluation_rows()}
    totals = []
    for strategy, these in zip(strategies, candidates, strict=True):
        start = time.perf_counter()
        estimator = inputs.estimator_for(strategy, these)
        side = functools.partial(_sum, strategy, estimator, these.settings, inputs)
        evaluate = side(rows[False], usage=True)
        unused = these.fit is not None or strategy.sees_truth
        fit = None if unused else side(rows[True], usage=False)
        totals.append(SplitTotals(evaluate, fit, time.perf_counter() - start))
    return tuple(totals)


def _sum(
    strategy: Strategy,
    estimator: Estimator,
    settings: Float[np.ndarray, "L *D"],
    inputs: ChunkInputs,
    rows: Int[np.ndarray, " n"],
    *,
    usage: bool,
) -> Totals:
    """Return sums over rows of a chunk, of which there may be none, in float64."""
    none = np.zeros(len(settings))
    counts = np.zeros((len(settings) * usage, inputs.table.n_models))
    if not len(rows):
        return Totals(none, none, counts, counts, counts, count=0.0)
    sums = sum_settings(strategy, settings, estimator, inputs.table, rows=rows, usage=usage)
    if not usage:  # of one shape for any chunk, since sums of chunks are added up
        sums = replace(sums, ran=counts, answered=counts, depth=counts)
    sums = jax.tree.map(lambda total: np.asarray(total, np.float64), sums)
    return replace(sums, count=float(sums.count))


def fit_totals(
    strategy: Strategy,
    candidates: Candidates,
    totals: SplitTotals,
    budgets: Float[np.ndarray, " P"],
    *,
    adjacent: bool = False,
) -> Fit:
    """Return the mixture of each budget: of the sample if it is exact, else of all fit rows.

    A bound is fitted on the evaluation rows, which it bounds.
    """
    if candidates.fit is not None:
        return candidates.fit
    sums = totals.evaluate if strategy.sees_truth else totals.fit
    assert sums is not None
    return Pool.from_totals(strategy, candidates.settings, sums, adjacent=adjacent).mix(budgets)


def chunk_resamples(
    inputs: ChunkInputs,
    strategies: Sequence[Strategy],
    candidates: Sequence[Candidates],
    fits: Sequence[Fit],
    resamples: int,
    seed: int,
) -> tuple[Float[np.ndarray, "R M"], ...]:
    """Return sums over a chunk in every resample: of each budget's mixture, and each knot."""
    rows, sums = inputs.evaluation_rows(), []
    for strategy, these, fit in zip(strategies, candidates, fits, strict=True):
        estimator = inputs.estimator_for(strategy, these)
        sums.append(_resampled(inputs, strategy, estimator, *fit.points(), rows, resamples, seed))
    return tuple(sums)


def chunk_refits(
    inputs: ChunkInputs,
    strategies: Sequence[Strategy],
    candidates: Sequence[Candidates],
    fits: Sequence[Fit],
    resamples: int,
    seed: int,
) -> tuple[dict[str, Float[np.ndarray, "R M"]], ...]:
    """Return sums over a chunk in every resample of either split: of each setting by itself."""
    rows, sums = {"fit": np.flatnonzero(inputs.fit), "evaluate": inputs.evaluation_rows()}, []
    for strategy, these, fit in zip(strategies, candidates, fits, strict=True):
        settings = refit_settings(strategy, these, fit)
        estimator = inputs.estimator_for(strategy, these)  # sized once for both splits
        pairs, none = np.stack([settings, settings], axis=1), np.zeros(len(settings))
        sums.append(
            {
                side: _resampled(inputs, strategy, estimator, pairs, none, own, resamples, seed)
                for side, own in rows.items()
            }
        )
    return tuple(sums)


def refit_settings(
    strategy: Strategy, candidates: Candidates, fit: Fit
) -> Float[np.ndarray, "L *D"]:
    """Return the settings that a resample is fitted with: few, where a frontier has many.

    An interval says how far results spread; each setting less moves all resamples alike.
    """
    every = candidates.settings
    alone = single_model(every) >= 0
    count = REFIT_SETTINGS if strategy.sees_truth else REFIT_SETTINGS // 2
    own = np.flatnonzero(~alone)
    if not strategy.line or not (strategy.sees_truth or candidates.searched) or len(own) <= count:
        return every
    few = every[own[np.linspace(0, len(own) - 1, count).round().astype(int)]]
    used = [fit.parameters.reshape(-1), fit.knots] if strategy.sees_truth else [every[alone]]
    return np.unique(np.concatenate([*used, few]))


def _resampled(
    inputs: ChunkInputs,
    strategy: Strategy,
    estimator: Estimator,
    parameters: Float[np.ndarray, "P 2 *D"],
    gamma: Float[np.ndarray, " P"],
    rows: Int[np.ndarray, " n"],
    resamples: int,
    seed: int,
) -> Float[np.ndarray, "R M"]:
    """Return sums over rows of a chunk, of which there may be none, in every resample."""
    if not len(rows):
        return np.zeros((resamples, 2 * (len(gamma) + inputs.table.n_models) + 1))
    return resampled_sums(
        strategy, parameters, gamma, estimator,
        inputs.table.quality, inputs.table.cost, resamples=resamples, seed=seed, rows=rows,
        first_row=inputs.chunk.first,
    )  # fmt: skip


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ScoreSums:
    """Sums over evaluation rows that scores need.

    `extremes` sums the lowest cost of each row, the quality of that model (the first of equals),
    and the highest cost. `accepted` counts the rows on which a strategy, with the cheap and the
    expensive setting of its largest budget, returns an answer that does not count as collapsed.
    """

    extremes: Float[np.ndarray, "3"]
    accepted: Float[np.ndarray, "S 2"]


def chunk_scores(
    inputs: ChunkInputs,
    strategies: Sequence[Strategy],
    candidates: Sequence[Candidates],
    fits: Sequence[Fit],
    budgets: Float[np.ndarray, " P"],
    single_cost: Float[np.ndarray, " K"] | None,
) -> ScoreSums:
    """Return what scores need of a chunk, without `accepted` if no mean costs are given."""
    rows, table = inputs.evaluation_rows(), inputs.table
    cost, quality = take_rows(table.cost, rows), take_rows(table.quality, rows)
    at = np.arange(len(rows)), cost.argmin(1)
    extremes = [v.sum(dtype=np.float64) for v in (cost[at], quality[at], cost.max(1))]
    accepted = np.zeros((len(strategies), 2))
    if single_cost is not None and len(rows):
        quality = sound(table.quality, single_cost).astype(np.float32)
        judged, largest = replace(inputs, table=replace(table, quality=quality)), budgets.argmax()
        for i, strategy in enumerate(strategies):
            estimator = inputs.estimator_for(strategy, candidates[i])
            settings = fits[i].parameters[largest]
            accepted[i] = _sum(strategy, estimator, settings, judged, rows, usage=False).quality
    return ScoreSums(np.array(extremes), accepted)
