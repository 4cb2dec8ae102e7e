"""Comparing strategies: one frontier per strategy, one point per budget."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, get_args

import numpy as np
from jaxtyping import Float, Int

from cascjax.core.random import check_resamples
from cascjax.data.scales import CALLS
from cascjax.data.source import Files, Paths, Source, as_source
from cascjax.data.table import Table, mean_rows
from cascjax.engine.jobs import (
    find_candidates,
    prepare,
    start_run,
    sum_candidates,
    sum_chunks,
)
from cascjax.engine.options import SAMPLE, RunOptions
from cascjax.engine.passes import (
    Candidates,
    ChunkInputs,
    Job,
    ScoreSums,
    Setup,
    SplitTotals,
    chunk_refits,
    chunk_resamples,
    chunk_scores,
    describe_split,
    fit_totals,
    refit_settings,
)
from cascjax.engine.run import Run
from cascjax.engine.simulate import Resampled, Sums, Totals, resampled_sums
from cascjax.errors import CascjaxError, RefusedError, unknown_name
from cascjax.estimators import Estimator, truth
from cascjax.estimators.specs import EstimatesSpec, Unread, as_estimates
from cascjax.metrics import SCORES, Evidence, Grid, auc, check_scores
from cascjax.metrics.bootstrap import Bootstrap, aucs, check_bootstrap, differences, interval
from cascjax.results import Result
from cascjax.search.budgets import SLACK, Fit, Pool, enough, fit_budgets, simulate_settings
from cascjax.strategies import STRATEGIES, Strategy, strategy
from cascjax.words import counted, listed, quality_text


@dataclass(frozen=True, repr=False, eq=False)
class Frontier:
    """Mean cost and quality that a strategy reaches at P budgets.

    Attributes:
        strategy: name of the strategy.
        budget: `[P]` mean cost allowed, in the cost unit of the source.
        cost: `[P]` mean cost on the evaluation split.
        quality: `[P]` mean quality on the evaluation split.
        fit_cost: `[P]` mean cost on the fit split; equal to a budget that is reachable.
        fit_quality: `[P]` mean quality on the fit split.
        gamma: `[P]` share of queries that take the expensive setting of the mixture.
        parameters: `[P, 2]` cheap and expensive setting of each mixture: lambda, or tau for
            thresholding; `[P, 2, D]` for settings of several numbers.
        reach: `[P]` 0 if the budget is met on the fit split, -1 if it is below the lowest
            reachable cost, 1 if it is above the cost of the highest quality, which is then spent.
        ran: `[P, K]` share of evaluation queries on which each model ran.
        answered: `[P, K]` share of evaluation queries that each model answered.
        depth: `[P, K]` share of evaluation queries on which 1, 2, ..., K models ran.
        reachable: lowest mean cost that the strategy reaches on the fit split, and the mean cost of
            its highest quality there.
        auc: area under the frontier, divided by its width, see `cascjax.core.auc`: of all its
            settings, whatever the budgets, or of the budgets' points on the paper's grid.
        seconds: wall time of fit and evaluation.
        scores: further scores by name, see `cascjax.metrics.SCORES`; nan if undefined.
        cost_interval: `[P, 2]` interval of the mean cost, or None without resamples.
        quality_interval: `[P, 2]` interval of the mean quality, or None.
        auc_interval: interval of the AUC, or None.
        auc_samples: `[R]` AUC in each resample, or None; paired between strategies.
        sigma_scale: factor on the standard deviations of learned estimates.
        curve_cost: `[V]` mean cost, on the evaluation split, of the V settings that draw the whole
            frontier; of the budgets' points on the paper's grid.
        curve_quality: `[V]` their mean quality.
        curve_ran: `[V, K]` share of evaluation queries on which each model ran under them.

    Example:
      >>> import cascjax as cj
      >>> from cascjax import synthetic
      >>> table = synthetic.sample(synthetic.make_dataset(3), 0, 500)
      >>> cj.compare(table, "routing", budgets=4)["routing"].budget.shape
      (4,)
    """

    strategy: str
    budget: Float[np.ndarray, " P"]
    cost: Float[np.ndarray, " P"]
    quality: Float[np.ndarray, " P"]
    fit_cost: Float[np.ndarray, " P"]
    fit_quality: Float[np.ndarray, " P"]
    gamma: Float[np.ndarray, " P"]
    parameters: Float[np.ndarray, "P 2 *D"]
    reach: Int[np.ndarray, " P"]
    ran: Float[np.ndarray, "P K"]
    answered: Float[np.ndarray, "P K"]
    depth: Float[np.ndarray, "P K"]
    reachable: tuple[float, float]
    auc: float
    seconds: float
    scores: dict[str, float] = field(default_factory=dict)
    cost_interval: Float[np.ndarray, "P 2"] | None = None
    quality_interval: Float[np.ndarray, "P 2"] | None = None
    auc_interval: tuple[float, float] | None = None
    auc_samples: Float[np.ndarray, " R"] | None = None
    sigma_scale: float = 1.0
    curve_cost: Float[np.ndarray, " V"] = field(default_factory=lambda: np.zeros(0))
    curve_quality: Float[np.ndarray, " V"] = field(default_factory=lambda: np.zeros(0))
    curve_ran: Float[np.ndarray, "V _"] = field(default_factory=lambda: np.zeros((0, 0)))

    def __repr__(self) -> str:
        low, high = quality_text(float(self.quality.min())), quality_text(float(self.quality.max()))
        return (
            f"Frontier of {self.strategy}: AUC {quality_text(self.auc)}, mean quality {low} to"
            f" {high} over {counted(len(self.budget), 'budget')}"
        )


@dataclass(frozen=True, repr=False, eq=False)
class Study(Result):
    """The frontiers of several strategies on one source, with their AUCs and intervals.

    It prints as a short table; `to_pandas` has one row per strategy and budget, `plot` draws
    quality against cost, `save` writes the report, and `study["routing"]` is a frontier.

    Attributes:
        frontiers: one per strategy, in the order given.
        models: the K model names in rising mean cost; every `[K]` axis is in this order.
        cost_unit: unit of every cost.
        single_cost: `[K]` mean cost of each model alone, on the evaluation split.
        single_quality: `[K]` mean quality of each model alone, on the evaluation split.
        n_fit: number of rows of the fit split.
        n_evaluate: number of rows of the evaluation split.
        settings: arguments and notes by name, for the record.
        resamples: number of resamples of the evaluation rows; 0 without intervals.
        confidence: confidence of the intervals.
        difference: `[S, S]` AUC of the first strategy minus AUC of the second, or None.
        difference_interval: `[S, S, 2]` its interval, from paired resamples, or None.

    Example:
      >>> import cascjax as cj
      >>> from cascjax import synthetic
      >>> table = synthetic.sample(synthetic.make_dataset(3), 0, 500)
      >>> study = cj.compare(table, ["mixing", "routing"], budgets=4)
      >>> study.to_pandas().shape[0], bool(study["routing"].auc > study["mixing"].auc)
      (8, True)
    """

    frontiers: tuple[Frontier, ...]
    models: tuple[str, ...]
    cost_unit: str
    single_cost: Float[np.ndarray, " K"]
    single_quality: Float[np.ndarray, " K"]
    n_fit: int
    n_evaluate: int
    settings: dict[str, Any] = field(default_factory=dict)
    resamples: int = 0
    confidence: float = 0.95
    difference: Float[np.ndarray, "S S"] | None = None
    difference_interval: Float[np.ndarray, "S S 2"] | None = None
    view: ClassVar[str] = "study"

    def __getitem__(self, name: str) -> Frontier:
        """Return the frontier of a strategy.

        Raises:
            CascjaxError: there is no strategy of that name.
        """
        for f in self.frontiers:
            if f.strategy == name:
                return f
        raise unknown_name("strategy", name, [f.strategy for f in self.frontiers])


def frontier(
    strategy: Strategy,
    table: Table,
    estimator: Estimator,
    fit_rows: Int[np.ndarray, " n"],
    evaluate_rows: Int[np.ndarray, " m"],
    budgets: Float[np.ndarray, " P"],
    *,
    resamples: int = 0,
    confidence: float = 0.95,
    seed: int = 0,
    grid: Grid = "full",
) -> Frontier:
    """Return the frontier of a strategy on given rows of a table in memory.

    A mixture is scored by its expectation: (1 - gamma) times the mean of the cheap setting plus
    gamma times the mean of the expensive one. A bound is fitted on the rows that it bounds.
    """
    if resamples:
        check_bootstrap(resamples, confidence, len(evaluate_rows))
    start = time.perf_counter()
    if strategy.sees_truth:
        estimator, fit_rows = truth(table), evaluate_rows
    full = grid == "full"
    fit = fit_budgets(strategy, estimator, table, budgets, rows=fit_rows, whole=full, singles=full)
    parameters, gamma = fit.points()
    settings = fit.settings()
    means = simulate_settings(strategy, settings, estimator, table, rows=evaluate_rows)
    single = [mean_rows(column, evaluate_rows) for column in (table.cost, table.quality)]
    seconds = time.perf_counter() - start
    frontier = _mix(strategy.name, budgets, fit, settings, means, single, seconds, grid)
    if not resamples:
        return frontier
    check_resamples(resamples, len(evaluate_rows))
    sums = resampled_sums(
        strategy, parameters, gamma, estimator, table.quality, table.cost,
        resamples=resamples, seed=seed, rows=evaluate_rows,
    )  # fmt: skip
    return with_resamples(frontier, Drawn.fixed(sums, fit, grid), confidence)


def frontier_of_candidates(
    strategy: Strategy, setup: Setup, candidates: Candidates, totals: SplitTotals, fit: Fit
) -> Frontier:
    """Return the frontier of a strategy from the sums of its settings over all rows."""
    seconds = candidates.seconds + float(totals.seconds)
    frontier = _mix(
        strategy.name, setup.budgets, fit, candidates.settings, totals.evaluate.means(),
        (setup.cost[1], setup.quality[1]), seconds, setup.grid,
    )  # fmt: skip
    return replace(frontier, sigma_scale=candidates.sigma_scale)


def _mix(
    name: str,
    budgets: Float[np.ndarray, " P"],
    fit: Fit,
    settings: Float[np.ndarray, "L *D"],
    means: Totals,
    single: Sequence[Float[np.ndarray, " K"]],
    seconds: float,
    grid: Grid | None,
) -> Frontier:
    """Return the frontier of fitted mixtures of the L settings, given the means of each setting."""

    def places(wanted: Float[np.ndarray, "M *D"]) -> Int[np.ndarray, " M"]:
        flat = wanted.reshape(len(wanted), 1, -1)
        return (flat == settings.reshape(1, len(settings), -1)).all(2).argmax(1)

    cheap, expensive = places(fit.parameters[:, 0]), places(fit.parameters[:, 1])

    def mixed(values: Sums) -> np.ndarray:
        array = np.asarray(values)
        gamma = fit.gamma.reshape(-1, *[1] * (array.ndim - 1))
        return (1 - gamma) * array[cheap] + gamma * array[expensive]

    points = curve = [mixed(x) for x in (means.cost, means.quality, means.ran)]
    if grid == "full":
        knots = places(fit.knots)
        curve = [np.asarray(x)[knots] for x in (means.cost, means.quality, means.ran)]
    return Frontier(
        strategy=name,
        budget=budgets,
        cost=points[0],
        quality=points[1],
        fit_cost=fit.cost,
        fit_quality=fit.quality,
        gamma=fit.gamma,
        parameters=fit.parameters,
        reach=fit.reach,
        ran=points[2],
        answered=mixed(means.answered),
        depth=mixed(means.depth),
        reachable=(fit.cheapest, fit.most_expensive),
        auc=auc(*curve[:2], *single),
        seconds=seconds,
        curve_cost=curve[0],
        curve_quality=curve[1],
        curve_ran=curve[2],
    )


@dataclass(frozen=True)
class Drawn:
    """A frontier in R resamples: its points at P budgets, and its AUC."""

    cost: Float[np.ndarray, "R P"]
    quality: Float[np.ndarray, "R P"]
    auc: Float[np.ndarray, " R"]

    @classmethod
    def fixed(cls, sums: Float[np.ndarray, "R M"], fit: Fit, grid: Grid | None) -> "Drawn":
        """Return a frontier of fixed mixtures, from the `resampled_sums` of their points."""
        points, resamples = len(fit.gamma), Resampled.of(sums, len(fit.gamma) + len(fit.knots))
        curve = slice(points, None) if grid == "full" else slice(points)
        samples = aucs(
            resamples.cost[:, curve], resamples.quality[:, curve],
            resamples.single_cost, resamples.single_quality,
        )  # fmt: skip
        return cls(resamples.cost[:, :points], resamples.quality[:, :points], samples)

    @classmethod
    def refitted(
        cls, fit: Resampled, evaluate: Resampled, budgets: Float[np.ndarray, " P"]
    ) -> "Drawn":
        """Return a frontier whose mixtures are fitted again to each resample of the fit rows."""
        shape = len(evaluate.cost), len(budgets)
        cost, quality, samples = np.empty(shape), np.empty(shape), np.full(shape[0], np.nan)
        places = np.arange(float(fit.cost.shape[1]))
        for r in range(shape[0]):
            pool, single = Pool(places, fit.cost[r], fit.quality[r]), evaluate.single_cost[r]
            cheap, expensive, gamma = pool.shares(budgets)
            for values, out in ((evaluate.cost, cost), (evaluate.quality, quality)):
                own = values[r]
                out[r] = own[cheap] + gamma * (own[expensive] - own[cheap])
            if single.min() < single.max():
                curve = evaluate.cost[r, pool.hull], evaluate.quality[r, pool.hull]
                samples[r] = auc(*curve, single, evaluate.single_quality[r])
        return cls(cost, quality, samples)

    def centred(self, frontier: Frontier) -> "Drawn":
        """Return resamples whose medians are the frontier's own points and AUC."""
        pairs = (self.cost, frontier.cost), (self.quality, frontier.quality)
        cost, quality = (drawn - np.median(drawn, 0) + value for drawn, value in pairs)
        return Drawn(cost, quality, self.auc - np.nanmedian(self.auc) + frontier.auc)


def with_resamples(frontier: Frontier, drawn: Drawn, confidence: float) -> Frontier:
    """Return a frontier with the intervals of its points and of its AUC."""
    low, high = interval(drawn.auc, confidence).tolist()
    return replace(
        frontier,
        cost_interval=interval(drawn.cost, confidence),
        quality_interval=interval(drawn.quality, confidence),
        auc_interval=(low, high),
        auc_samples=drawn.auc,
    )


def compare(
    source: Source | Paths,
    strategies: Sequence[str | Strategy] | str | Strategy | None = None,
    estimates: EstimatesSpec | Estimator | str | None = None,
    *,
    budgets: int | Sequence[float] | Float[np.ndarray, " P"] | None = None,
    scores: Sequence[str] = (),
    resamples: int | Bootstrap = 0,
    confidence: float = 0.95,
    seed: int = 0,
    grid: Grid = "full",
    options: RunOptions = RunOptions(),
) -> Study:
    """Compare strategies: fit each to every budget on the fit split, score it on the other.

    Args:
        source: a `Table`, the files of `cascjax.open`, or anything that function opens.
        strategies: names or instances of strategies; by default all of them.
        estimates: `Supplied()`, `Noisy()`, `Learned()`, or an estimator of all rows of the source.
            By default supplied estimates if the source has quality_ante and quality_post, else
            learned ones if it has features, signals, answers or groups.
        budgets: mean costs per query in the cost unit of the source, or how many, spread from the
            cheapest to the most expensive single model; by default 20, and the models on the hull.
        scores: names of further scores of every frontier, see `cascjax.metrics.SCORES`.
        resamples: number of bootstrap resamples for intervals, 0 for none; or a `Bootstrap`. By
            default an interval covers the choice of the fit rows and of the evaluation rows, except
            that estimators are not learned again. With more than 262,144 fit rows, and on the
            paper's grid, it covers the evaluation rows alone, and `study.settings` says so.
        confidence: confidence of the intervals, between 0 and 1.
        seed: seed of noise, folds, sample and resamples, and of the split if the source has none.
        grid: what AUC is taken on: "full" for the whole frontier, with every model alone as a
            setting of each strategy, whatever the budgets; "paper" for the points of the budgets,
            by default ten between each pair of neighbours on the hull, with neighbours of the
            strategy's own settings mixed, as in the paper.
        options: how the job runs: checkpoint, sample, progress.

    Returns:
        One frontier per strategy, in the order given.

    Raises:
        CascjaxError: an unknown name; estimates that the source cannot give; too many models for
            a strategy; models that all cost the same; a budget that no strategy reaches; too few
            rows for the split or the intervals; or an invalid row.

    Example:
        >>> from cascjax import synthetic
        >>> table = synthetic.sample(synthetic.make_dataset(3), 0, 500)
        >>> study = compare(table, ["mixing", "routing"], budgets=4)
        >>> [frontier.strategy for frontier in study.frontiers]
        ['mixing', 'routing']
    """
    source = as_source(source)
    check_scores(scores)
    bootstrap = resamples if isinstance(resamples, Bootstrap) else Bootstrap(resamples)
    resamples = bootstrap.resamples
    job = compare_job(
        source, strategies, estimates, budgets=budgets, resamples=resamples, seed=seed,
        sample=options.sample, grid=grid,
    )  # fmt: skip
    job = replace(job, refit=bool(resamples) and bootstrap.refit and grid == "full")
    if grid == "full" and not job.estimates.learns:
        # More rows are read, hashed and kept than a search looks at.
        job = replace(job, sample=min(job.sample, 2 * max(map(enough, job.strategies))))
    if resamples:
        check_bootstrap(resamples, confidence, source.n_rows)
    n_strategies = len(job.strategies)
    if "oracle-gap" in scores and not any(s.sees_truth for s in job.strategies):
        oracle = next(kind for kind in STRATEGIES.values() if kind.sees_truth)
        job = replace(job, strategies=(*job.strategies, oracle()))
    run = start_run(job, options, {"scores": list(scores)})
    setup = prepare(job, run)
    if resamples:
        check_bootstrap(resamples, confidence, int(setup.count[1]))
    candidates = find_candidates(job, setup, run)
    # Where rows are so many, parameters vary less than anything else.
    job = replace(job, refit=job.refit and int(setup.count[0]) <= SAMPLE)
    fits, frontiers = draw_frontiers(job, setup, candidates, run, confidence)
    if scores:
        single_cost = setup.cost[1] if "rci" in scores else None

        def score(inputs: ChunkInputs) -> ScoreSums:
            return chunk_scores(
                inputs, job.strategies, candidates, fits, setup.budgets, single_cost
            )

        sums = sum_chunks(job, setup, "scoring", score, run)
        frontiers = _with_scores(job, frontiers, scores, setup, sums)
    record = _record(job, setup, candidates)
    if resamples:
        record["refit"] = job.refit
    return study_of(job, setup, frontiers[:n_strategies], record, confidence)


def draw_frontiers(
    job: Job,
    setup: Setup,
    candidates: Sequence[Candidates],
    run: Run,
    confidence: float,
    part: str = "",
) -> tuple[list[Fit], list[Frontier]]:
    """Return every strategy's mixtures and frontier, from the sums of its settings over all rows.

    `part` tells the sums in the checkpoint from those of other settings.
    """
    totals = sum_candidates(job, setup, candidates, run, f"totals{part}")
    fits = [
        fit_totals(strategy, these, sums, setup.budgets, adjacent=setup.grid == "paper")
        for strategy, these, sums in zip(job.strategies, candidates, totals, strict=True)
    ]
    frontiers = [
        frontier_of_candidates(strategy, setup, these, sums, fit)
        for strategy, these, sums, fit in zip(job.strategies, candidates, totals, fits, strict=True)
    ]
    if isinstance(job.budgets, tuple):
        highest = float(setup.cost[1].max())
        check_reach(frontiers, setup.budgets, job.source.cost_unit, highest)
    if not job.resamples:
        return fits, frontiers
    compute = chunk_refits if job.refit else chunk_resamples

    def resample(inputs: ChunkInputs) -> tuple[Any, ...]:
        return compute(inputs, job.strategies, candidates, fits, job.resamples, job.seed)

    sums = sum_chunks(job, setup, f"resampling{part}", resample, run)
    drawn = _drawn(job, setup, candidates, fits, sums)
    return fits, [
        with_resamples(frontier, each.centred(frontier) if job.refit else each, confidence)
        for frontier, each in zip(frontiers, drawn, strict=True)
    ]


def _drawn(
    job: Job,
    setup: Setup,
    candidates: Sequence[Candidates],
    fits: Sequence[Fit],
    sums: Sequence[Any],
) -> Iterator[Drawn]:
    """Yield every frontier in each resample, from the sums over all rows."""
    for kind, these, fit, own in zip(job.strategies, candidates, fits, sums, strict=True):
        if not job.refit:
            yield Drawn.fixed(own, fit, setup.grid)
            continue
        count = len(refit_settings(kind, these, fit))
        evaluate = Resampled.of(own["evaluate"], count)
        # A bound is fitted on the rows that it bounds.
        resampled = evaluate if kind.sees_truth else Resampled.of(own["fit"], count)
        yield Drawn.refitted(resampled, evaluate, setup.budgets)


def study_of(
    job: Job, setup: Setup, frontiers: Sequence[Frontier], record: dict[str, Any], confidence: float
) -> Study:
    """Return the study of frontiers, with the differences of AUCs if they were resampled."""
    samples = [f.auc_samples for f in frontiers if f.auc_samples is not None]
    auc = np.array([f.auc for f in frontiers])
    return Study(
        frontiers=tuple(frontiers),
        models=setup.models,
        cost_unit=job.source.cost_unit,
        single_cost=setup.cost[1],
        single_quality=setup.quality[1],
        n_fit=int(setup.count[0]),
        n_evaluate=int(setup.count[1]),
        settings=record,
        resamples=job.resamples,
        confidence=confidence,
        difference=auc[:, None] - auc if samples else None,
        difference_interval=differences(np.stack(samples), confidence) if samples else None,
    )


def compare_job(
    source: Source,
    strategies: Sequence[str | Strategy] | str | Strategy | None = None,
    estimates: EstimatesSpec | Estimator | str | None = None,
    *,
    budgets: int | Sequence[float] | Float[np.ndarray, " P"] | None = None,
    resamples: int = 0,
    seed: int = 0,
    sample: int = SAMPLE,
    columns: tuple[str, ...] = (),
    grid: Grid | None = None,
) -> Job:
    """Return the job of fitting strategies to budgets, checked before any row is read."""
    if len(source.models) != source.n_models:
        raise CascjaxError(
            f"{source.name} names {len(source.models)} of its {source.n_models} models; give it"
            " `models`, a name for each"
        )
    if not (budgets is None or isinstance(budgets, int)):
        budgets = tuple(np.asarray(budgets, np.float64).tolist())
    chosen = tuple(strategies_named(strategies))
    if not chosen:
        raise CascjaxError("no strategy to compare: name at least one")
    read = any(kind.reads and not kind.sees_truth for kind in chosen)
    spec = as_estimates(estimates, source) if read or estimates is not None else Unread()
    _check_sizes(chosen, spec, source.n_models)
    spec.check(source, sample)
    if grid not in (None, *get_args(Grid)):
        raise unknown_name("grid", grid, get_args(Grid))
    return Job(source, chosen, spec, budgets, seed, sample, resamples, columns, grid)


def _check_sizes(chosen: Sequence[Strategy], spec: EstimatesSpec, n_models: int) -> None:
    """Refuse more models than strategies and estimates take, all at once."""

    def fits(limited: Strategy | EstimatesSpec) -> bool:
        return limited.max_models is None or n_models <= limited.max_models

    large, rest = [s for s in chosen if not fits(s)], [s.name for s in chosen if fits(s)]
    if not large and fits(spec):
        return
    many = [f"strategy {s.name!r} (at most {s.max_models})" for s in large]
    advice = [f"strategies={','.join(rest)}" if rest else large[0].instead] if large else []
    if not fits(spec):
        many.append(f"these {spec.kind} estimates (at most {spec.max_models})")
        advice.append(spec.instead)
    most = min(x.max_models for x in (*large, spec) if x.max_models is not None)
    raise CascjaxError(
        f"{n_models} models are too many for {listed(many)}; use {listed(advice)}, or choose at"
        f" most {most} models"
    )


def _with_scores(
    job: Job, frontiers: Sequence[Frontier], names: Sequence[str], setup: Setup, sums: ScoreSums
) -> list[Frontier]:
    """Return frontiers with the named scores; nan where a score does not exist."""
    n = float(setup.count[1])
    cheapest, floor_quality, ceiling = (sums.extremes / n).tolist()
    pairs = zip(job.strategies, frontiers, strict=True)
    oracle = next((f.auc for strategy, f in pairs if strategy.sees_truth), np.nan)
    scored = []
    for frontier, accepted in zip(frontiers, sums.accepted / n, strict=True):
        gamma = frontier.gamma[frontier.budget.argmax()]
        evidence = Evidence(
            cost=frontier.curve_cost,
            quality=frontier.curve_quality,
            ran=frontier.curve_ran,
            single_cost=setup.cost[1],
            single_quality=setup.quality[1],
            floor=(cheapest, floor_quality),
            ceiling=ceiling,
            collapsed=float(1 - (1 - gamma) * accepted[0] - gamma * accepted[1])
            if "rci" in names
            else np.nan,
            oracle=oracle,
        )
        scores = {name: SCORES[name].compute(evidence) for name in names}
        scored.append(replace(frontier, scores=scores))
    return scored


def _record(job: Job, setup: Setup, candidates: Sequence[Candidates]) -> dict[str, Any]:
    """Return what a report says about how a study was made."""
    record = job.estimates.record() | setup.estimates.record()
    record |= {"split": describe_split(job.source), "seed": job.seed}
    if isinstance(job.source, Files):
        record["files"] = len(job.source.files)
    if searched := [these.searched for these in candidates if these.searched]:
        record["sample"] = min(searched)
        record["sample_cost_error"] = max(these.cost_error for these in candidates)
        record["sample_quality_error"] = max(these.quality_error for these in candidates)
    free = [m for m, cost in zip(setup.models, setup.cost.max(0), strict=True) if cost == 0]
    if free and job.source.cost_unit != CALLS:
        verb = "costs" if len(free) == 1 else "cost"
        note = f"{listed(free)} {verb} 0 in every row, as if free or not priced"
        record["notes"] = [*record.get("notes", ()), note]
    return record


def strategies_named(
    strategies: Sequence[str | Strategy] | str | Strategy | None,
) -> list[Strategy]:
    """Return strategies given by name or as they are; by default one of each kind."""
    if strategies is None:
        strategies = list(STRATEGIES)
    if isinstance(strategies, str | Strategy):
        strategies = [strategies]
    return [s if isinstance(s, Strategy) else strategy(s) for s in strategies]


def check_reach(
    frontiers: Sequence[Frontier], budgets: Float[np.ndarray, " P"], unit: str, single: float
) -> None:
    """Refuse a budget below what any strategy reaches, or above it and every single model."""
    low = min(f.reachable[0] for f in frontiers)
    high = max(single, *(f.reachable[1] for f in frontiers))
    beyond = budgets[(budgets < low * (1 - SLACK)) | (budgets > high * (1 + SLACK))]
    if len(beyond):
        raise RefusedError(
            f"budget {beyond[0]:g} is out of reach: mean cost ranges from {low:.6g} to {high:.6g}"
            f" {unit.removesuffix('/query') or 'units'} per query"
        )
