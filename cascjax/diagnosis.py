"""Diagnosis: whether estimates are good enough for routing or cascading, and what better ones give.

The paper's question (section 5, "quality estimation"). Routing depends on ex-ante estimates of how
the models differ on a query, cascading on post-hoc estimates of an answer that was seen.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from cascjax.comparison import Frontier, compare_job, frontier
from cascjax.data.source import Paths, Source, as_source
from cascjax.data.table import Table, concatenate, mean_rows, take_rows
from cascjax.engine.jobs import prepare, start_run
from cascjax.engine.options import RunOptions
from cascjax.engine.passes import Job, Setup, fit_mask
from cascjax.errors import CascjaxError
from cascjax.estimators import Estimator, Independent
from cascjax.estimators.base import estimates_of
from cascjax.estimators.better import (
    Columns,
    Side,
    blocks,
    improved,
    perfect_ante,
    perfect_post,
    reduced,
    refitted,
)
from cascjax.estimators.specs import EstimatesSpec
from cascjax.metrics.bootstrap import (
    DEFAULT_RESAMPLES,
    check_bootstrap,
    check_confidence,
    interval,
    simultaneous,
    too_few_queries,
)
from cascjax.metrics.calibration import (
    Accuracy,
    Measured,
    Reliability,
    accuracy,
    correlation,
    differences_r2,
    measure,
    pooled_differences_r2,
    reliability,
)
from cascjax.results import Result
from cascjax.search.sigma_scale import with_sigma_scale
from cascjax.strategies import Strategy, strategy
from cascjax.words import counted

DIAGNOSED = ("routing", "thresholding", "cascading", "cascade-routing", "pandora")
"""Strategies diagnosed by default."""

NOW, REDUCED, REFITTED = "now", "reduced", "refitted"
PERFECT_POST, PERFECT_ANTE = "perfect post-hoc", "perfect ex-ante"

TARGET = 0.01  # Default rise of AUC whose price in accuracy is searched

Answer = Literal["pays", "undecided", "loses", "unknown"]

_LEAST = 1e-3  # Share of the oracle's gain below which a gain is rounding

_SAMPLE = 1 << 13
"""Maximum number of fit and of evaluation queries in the search for the accuracy needed."""

_COPIES = 8  # Maximum number of times that few queries are repeated, each time under fresh noise

_SHARES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.35, 0.55, 0.8, 1.0)
"""Shares of the unexplained that are tried in turn, until the AUC is reached."""

_ROUNDS = 6  # Maximum number of refinements of the share after that

_FEW_MODELS = 6
"""Number of models up to which expensive strategies are searched for the accuracy needed."""

_NEAR = 2e-4  # Difference in AUC that is near enough; noise alone moves it by more


class Span(NamedTuple):
    """A number and its interval; None where nothing was resampled."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, eq=False)
class SideAccuracy:
    """Accuracy of the ex-ante or the post-hoc estimates on the evaluation queries.

    `differences` is the R2 of the differences of all pairs of models together and `pairs` of each
    pair; `errors` the correlation of estimate - truth; `outside` the share of estimates below 0 or
    above 1, nan where quality is not on that scale.
    """

    accuracy: Accuracy
    reliability: tuple[Reliability, ...]
    differences: Span
    pairs: Float[np.ndarray, "K K"]
    errors: Float[np.ndarray, "K K"]
    outside: Float[np.ndarray, " K"]


@dataclass(frozen=True, eq=False)
class Moves:
    """Distance that estimates move from nothing run to everything run, stated and measured.

    `stated` is the root mean square of the sigmas of the estimator, `measured` the standard
    deviation of (after - before). The `ratio` stated / measured is 1 where sigma is right, above 1
    where it is too large, nan where estimates do not move. Pandora, and cascade routing on
    independent estimates, assume a `correlation` of 0 between models.
    """

    stated: Float[np.ndarray, " K"]
    measured: Float[np.ndarray, " K"]
    ratio: Measured
    correlation: Float[np.ndarray, "K K"]


@dataclass(frozen=True)
class Scenario:
    """AUCs by strategy on one kind of estimates.

    `above` is the AUC less the same strategy's AUC now, paired.
    """

    name: str
    auc: dict[str, Span]
    above: dict[str, Span]


@dataclass(frozen=True, eq=False)
class Need:
    """The accuracy at which one strategy's AUC has risen by the target, on the search's sample.

    `share` is the share of the unexplained variance that must be explained: None where no accuracy
    of this side alone suffices (then `..._needed` are nan), 0 where a refit by least squares is
    enough. R2 values are means over models, `differences` the R2 of differences of models.
    `auc_reached` is the AUC at `share`, `auc_checked` the AUC there under fresh noise, and `most`
    the highest AUC tried.
    """

    strategy: str
    side: Side
    share: float | None
    r2_now: float
    r2_refitted: float
    r2_needed: float
    differences_now: float
    differences_needed: float
    r2_needed_by_model: Float[np.ndarray, " K"]
    auc_now: float
    auc_reached: float
    auc_checked: float
    most: float


@dataclass(frozen=True)
class Gain:
    """Gain of one strategy over mixing single models at random, on the estimates as they are.

    The intervals of all strategies hold at once. `share` is the share of the oracle's gain, nan
    where the oracle gains nothing; `answer` says whether the interval lies above 0, about 0, or
    below.
    """

    strategy: str
    role: str
    gain: Span
    share: float
    answer: Answer
    sigma_scale: float = 1.0


class Apart(NamedTuple):
    """Paired difference in AUC between two strategies."""

    strategy: str
    other: str
    above: Span


@dataclass(frozen=True, repr=False, eq=False)
class Diagnosis(Result):
    """What estimates are worth, and what better ones would be; K models in rising mean cost.

    Attributes:
        models: the K names.
        cost_unit: unit of the costs.
        n_fit: number of queries that parameters and refits were fitted on.
        n_evaluate: number of queries that everything was measured on.
        ante: accuracy of the estimates before any model has run.
        post: accuracy of a model's estimates once it alone has run.
        post_all_r2: `[K]` R2 once every model has run; None where that is the same.
        both_r2: `[K]` R2 of the least-squares fit of quality on both estimates: above `post`'s
            where the later estimate forgets what the earlier one knew.
        moves: how far estimates move, and how far they are stated to.
        single_cost: `[K]` mean cost of each single model.
        single_quality: `[K]` mean quality of each single model.
        cheapest_suffices: share of queries on which no model does better than the cheapest.
        all_equal: share of queries on which all models do equally well.
        mixing: AUC of mixing single models: the hull.
        oracle: AUC of routing on true quality and cost.
        scenarios: from the estimates as they are up to perfect ones.
        gains: gain of each strategy, on the estimates as they are.
        both_at_once: the best strategy that may run any models in any order, against the best that
            routes or cascades; None where there is none of either.
        combined: the last strategy that may run any models in any order, against the first.
        needs: accuracies needed for `target` more.
        target: rise of AUC asked for.
        unsearched: strategies left out of `needs`, because they are slow to simulate.
        resamples: resamples of the evaluation queries; 0 for none.
        confidence: confidence of the intervals.
        notes: remarks on rows and estimates.
        settings: arguments, for the record.

    Example:
      >>> import cascjax as cj
      >>> from cascjax import synthetic
      >>> table = synthetic.sample(synthetic.make_dataset(3), 0, 400)
      >>> diagnosis = cj.diagnose(table, strategies=["routing"], budgets=4, resamples=0)
      >>> diagnosis.gains[0].strategy
      'routing'
    """

    view: ClassVar[str] = "diagnosis"

    models: tuple[str, ...]
    cost_unit: str
    n_fit: int
    n_evaluate: int
    ante: SideAccuracy
    post: SideAccuracy
    post_all_r2: Float[np.ndarray, " K"] | None
    both_r2: Float[np.ndarray, " K"]
    moves: Moves
    single_cost: Float[np.ndarray, " K"]
    single_quality: Float[np.ndarray, " K"]
    cheapest_suffices: float
    all_equal: float
    mixing: Span
    oracle: Span
    scenarios: tuple[Scenario, ...]
    gains: tuple[Gain, ...]
    both_at_once: Apart | None
    combined: Apart | None
    needs: tuple[Need, ...]
    target: float | int
    unsearched: tuple[str, ...] = ()
    resamples: int = 0
    confidence: float = 0.95
    notes: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def answer(self) -> Answer:
        """Whether any strategy pays: "undecided" where none is distinguishable from the hull."""
        answers = [gain.answer for gain in self.gains]
        for answer in ("pays", "unknown", "undecided"):
            if answer in answers:
                return answer
        return "loses"

    @property
    def best(self) -> Gain:
        """The strategy of highest AUC."""
        return max(self.gains, key=lambda gain: gain.gain.value)

    def scenario(self, name: str) -> Scenario | None:
        """Return the scenario of that name, if there is one."""
        return next((scenario for scenario in self.scenarios if scenario.name == name), None)


def diagnosed_strategies(names: Sequence[str | Strategy] | str | None = None) -> list[Strategy]:
    """Return the strategies to diagnose, by default `DIAGNOSED`."""
    names = DIAGNOSED if names is None else [names] if isinstance(names, str) else names
    choices = ", ".join(DIAGNOSED)
    kinds = [kind if isinstance(kind, Strategy) else strategy(kind) for kind in names]
    for i, kind in enumerate(kinds):
        if kind.reference:
            raise CascjaxError(
                f"strategy {kind.name!r} looks at no estimates, so there is nothing to diagnose: it"
                f" is drawn beside the others as it is; choose among {choices}"
            )
        if kind.name in [other.name for other in kinds[:i]]:
            raise CascjaxError(f"strategy {kind.name!r} is listed twice; name it once")
    if not kinds:
        raise CascjaxError(f"no strategy to diagnose: name one of {choices}")
    return kinds


def diagnose(
    source: Source | Paths,
    estimates: EstimatesSpec | Estimator | str | None = None,
    *,
    strategies: Sequence[str | Strategy] | str | None = None,
    budgets: int | None = None,
    target: float | int = TARGET,
    bins: int | None = None,
    resamples: int | None = None,
    confidence: float = 0.95,
    seed: int = 0,
    options: RunOptions = RunOptions(),
) -> Diagnosis:
    """Measure whether estimates are good enough to route or cascade on, and what better ones give.

    Of more than `options.sample` fit rows a random sample is used, and of more than
    `options.sample` evaluation rows every n-th; a note says so.

    Args:
        source: a `Table`, the files of `cascjax.open`, or anything that function opens.
        estimates: `Supplied()`, `Noisy()`, `Learned()`, or an estimator of all rows of the source.
            By default supplied estimates if the source has quality_ante and quality_post, else
            learned ones if it has features, signals, answers or groups.
        strategies: strategies that look at estimates, by name or as instances; by default routing,
            thresholding, cascading, cascade-routing and pandora.
        budgets: number of budgets, spread from the cheapest to the most expensive single model; by
            default 20, and the models on the hull.
        target: rise of AUC whose price in accuracy is searched; 0 for no search.
        bins: bins of the reliability diagrams; by default 10, fewer for less than 300 rows.
        resamples: number of bootstrap resamples of the evaluation rows for intervals; 0 for none.
            By default 1,000, or 200 of more than 100,000 rows, or none of too few rows.
        confidence: confidence of the intervals, between 0 and 1.
        seed: seed of noise, folds, sample and resamples, and of the split if the source has none.
        options: how the job runs: checkpoint, sample, progress.

    Returns:
        The accuracy and calibration of the estimates, the gain of every strategy, the AUCs that
        better estimates give, and the accuracy needed for `target`.

    Raises:
        CascjaxError: a strategy that looks at no estimates, or is unknown or listed twice; an
            impossible target or number of bins; or what `compare` refuses.

    Reference: Dekoninck, Baader and Vechev, "A Unified Approach to Routing and Cascading for LLMs",
    ICML 2025, section 5.

    Example:
        >>> from cascjax import synthetic
        >>> table = synthetic.sample(synthetic.make_dataset(3), 0, 500)
        >>> diagnose(table, strategies="routing", budgets=4, target=0, resamples=100).answer
        'pays'
    """
    source, kinds = as_source(source), diagnosed_strategies(strategies)
    if not 0 <= target < np.inf:
        raise CascjaxError(f"the target must be a rise of AUC of at least 0, not {target:g}")
    if bins is not None and bins < 1:
        raise CascjaxError(f"the number of bins must be at least 1, not {bins}")
    check_confidence(confidence)
    if resamples:
        check_bootstrap(resamples, confidence, source.n_rows)
    job = compare_job(
        source, kinds, estimates, budgets=budgets, resamples=resamples or 0, seed=seed,
        sample=options.sample,
    )  # fmt: skip
    run = start_run(job, options, {"diagnose": [target, bins, resamples, confidence]})
    setup = prepare(job, run)
    table, rows, is_fit = _rows(job, setup, options)
    n_fit, n_evaluate = int(is_fit.sum()), int((~is_fit).sum())
    if resamples is None:
        resamples = DEFAULT_RESAMPLES if n_evaluate <= 100_000 else DEFAULT_RESAMPLES // 5
        if note := too_few_queries(confidence, n_evaluate):
            options.note(f"note: {note}.")
            resamples = 0
    if resamples:
        check_bootstrap(resamples, confidence, n_evaluate)
    record = setup.estimates.record()
    notes = [
        f"{work} {counted(used, 'row')} of {total:,}"
        for work, used, total in zip(
            ("parameters and refits use", "everything is measured on"), (n_fit, n_evaluate),
            setup.count.tolist(), strict=True,
        )
        if used < total
    ]  # fmt: skip
    case = Case(
        table, setup.estimates.estimator(table, rows), np.flatnonzero(is_fit),
        np.flatnonzero(~is_fit), setup.budgets, resamples, confidence, seed,
        setup.estimates.sigma_scale,
    )  # fmt: skip
    return case.diagnose(
        kinds, target=target, bins=bins, notes=[*record.pop("notes", ()), *notes],
        settings=job.estimates.record() | record | {"seed": seed}, progress=options.progress,
    )  # fmt: skip


def _rows(
    job: Job, setup: Setup, options: RunOptions
) -> tuple[Table, Int[np.ndarray, " N"], Bool[np.ndarray, " N"]]:
    """Return the sample and evaluation rows in row order: rows, numbers, and whether each is fit.

    Of more evaluation rows than fit in a sample, every n-th is taken.
    """
    stride, count = -(-int(setup.count[1]) // options.sample), 0
    tables, numbers = [setup.table], [setup.rows]
    for chunk, table in job.source.read(job.source.chunks, job.all_columns):
        places = np.flatnonzero(~fit_mask(job.source, job.seed, chunk, table))
        taken = places[(count + np.arange(len(places))) % stride == 0]
        count += len(places)
        options.progress("reading evaluation rows", chunk.n_rows)
        if len(taken):
            tables.append(replace(setup.sort(table).take(taken), split=None))
            numbers.append(chunk.first + taken)
    rows = np.concatenate(numbers)
    order = np.argsort(rows)
    return concatenate(tables).take(order), rows[order], order < len(setup.rows)


@dataclass(frozen=True, eq=False)
class Case:
    """Queries on which strategies are measured under several estimates.

    Models are in rising mean cost, estimates out of fold on the fit rows, and a `sigma_scale` of
    None is searched.
    """

    table: Table
    estimator: Estimator
    fit_rows: Int[np.ndarray, " n"]
    evaluate_rows: Int[np.ndarray, " m"]
    budgets: Float[np.ndarray, " P"]
    resamples: int = 0
    confidence: float = 0.95
    seed: int = 0
    sigma_scale: float | None = 1.0

    @property
    def bootstrap(self) -> dict[str, Any]:
        """The arguments of every score's intervals."""
        return {"resamples": self.resamples, "confidence": self.confidence, "seed": self.seed}

    def measured(self, values: Columns) -> Float[np.ndarray, "m K"]:
        """Return the values of the evaluation rows."""
        return take_rows(np.asarray(values), self.evaluate_rows)

    def frontier(self, kind: Strategy, estimator: Estimator) -> Frontier:
        """Return the frontier of a strategy on some estimates."""
        scaled, scale = with_sigma_scale(
            kind, self.table, estimator, self.fit_rows, self.sigma_scale, self.seed
        )
        drawn = frontier(
            kind, self.table, scaled, self.fit_rows, self.evaluate_rows, self.budgets,
            **self.bootstrap,
        )  # fmt: skip
        return replace(drawn, sigma_scale=scale)

    def diagnose(
        self,
        kinds: Sequence[Strategy],
        *,
        target: float | int = TARGET,
        bins: int | None = None,
        notes: Sequence[str] = (),
        settings: dict[str, Any] | None = None,
        progress: Callable[[str, int], None] = lambda work, rows: None,
    ) -> Diagnosis:
        """Return the diagnosis; a target of 0 searches no accuracy.

        Better estimates are derived for independent ones. Any other estimator is reduced to its
        estimates while nothing has run, and of each model once it alone has run; a scenario of its
        own shows what that costs.
        """
        table, n_models, m = self.table, self.table.n_models, len(self.evaluate_rows)
        single = [mean_rows(x, self.evaluate_rows) for x in (table.cost, table.quality)]
        bins = max(1, min(10, m // 30)) if bins is None else bins
        independent, post_all = reduced(self.estimator, table)
        estimates: dict[str, Estimator] = {NOW: self.estimator}
        if not isinstance(self.estimator, Independent):
            estimates[REDUCED] = independent
        refit = refitted(independent, table, self.fit_rows)
        estimates[REFITTED] = refit
        estimates[PERFECT_POST] = perfect_post(independent, table, self.fit_rows)
        estimates[PERFECT_ANTE] = perfect_ante(independent, table)

        def drawn(kind: Strategy, name: str) -> Frontier:
            progress(f"measuring {kind.name}, {name}", table.n_queries)
            return self.frontier(kind, estimates.get(name, self.estimator))

        hull, oracle = drawn(strategy("mixing"), "hull"), drawn(strategy("oracle"), "truth")
        frontiers = {name: {kind.name: drawn(kind, name) for kind in kinds} for name in estimates}
        affordable = [k for k in kinds if not k.expensive or n_models <= _FEW_MODELS]
        needs, searched = [], affordable if target else []
        if searched:
            sample = replace(self, estimator=independent).sampled()
            for kind in searched:
                for side in sides(kind):
                    progress(
                        f"searching the accuracy that {kind.name} needs", sample.table.n_queries
                    )
                    needs.append(sample.need(kind, side, target))
        now, truth = frontiers[NOW], self.measured(table.quality)
        combined = [kind.name for kind in kinds if kind.role == "combined"]
        alone = [kind.name for kind in kinds if kind.role != "combined"]
        return Diagnosis(
            models=table.models,
            cost_unit=table.cost_unit,
            n_fit=len(self.fit_rows),
            n_evaluate=m,
            ante=self._side(independent.quality_ante, bins),
            post=self._side(independent.quality_post, bins),
            post_all_r2=None
            if post_all is independent.quality_post
            else _r2(self.measured(post_all), truth),
            both_r2=_r2(self.measured(refit.quality_post), truth),
            moves=self._moves(independent, post_all),
            single_cost=single[0],
            single_quality=single[1],
            cheapest_suffices=float((truth[:, 0] >= truth.max(1)).mean()),
            all_equal=float((truth.min(1) >= truth.max(1)).mean()),
            mixing=_span(hull),
            oracle=_span(oracle),
            scenarios=tuple(
                Scenario(
                    name,
                    {kind: _span(f) for kind, f in drawn.items()},
                    {kind: _above(f, now[kind], self.confidence) for kind, f in drawn.items()},
                )
                for name, drawn in frontiers.items()
            ),
            gains=_gains(kinds, now, hull, oracle, self.confidence),
            both_at_once=_best_apart(now, combined, alone, self.confidence),
            combined=_best_apart(now, combined[1:][-1:], combined[:1], self.confidence),
            needs=tuple(needs),
            target=target,
            unsearched=tuple(k.name for k in kinds if k not in searched) if target else (),
            resamples=self.resamples,
            confidence=self.confidence,
            notes=tuple(notes),
            settings=settings or {},
        )

    def _side(self, estimate: Columns, bins: int) -> SideAccuracy:
        """Return the accuracy of one side's estimates."""
        e, q = self.measured(estimate), self.measured(self.table.quality)
        bootstrap: dict[str, Any] = {**self.bootstrap, "rows": self.evaluate_rows}
        pooled = pooled_differences_r2(e, q, **bootstrap)
        ends = (None, None) if pooled.ends is None else pooled.ends[0].tolist()
        on_scale = bool(q.min() >= 0 and q.max() <= 1)
        return SideAccuracy(
            accuracy=accuracy(e, q, mean_rows(self.table.quality, self.fit_rows), **bootstrap),
            reliability=tuple(
                reliability(e[:, k], q[:, k], bins=bins, confidence=self.confidence, seed=self.seed)
                for k in range(q.shape[1])
            ),
            differences=Span(float(pooled.value[0]), *ends),
            pairs=differences_r2(e, q),
            errors=correlation(e.astype(np.float64) - q),
            outside=((e < 0) | (e > 1)).mean(0) if on_scale else np.full(q.shape[1], np.nan),
        )

    def _moves(self, independent: Independent, post_all: Columns) -> Moves:
        """Return how far estimates move, stated and measured."""
        rows = self.evaluate_rows
        moved = self.measured(post_all).astype(np.float64) - self.measured(independent.quality_ante)
        variance = _stated_variance(self.estimator, rows, moved.shape[1])
        centred = moved - moved.mean(0)
        values = np.concatenate([variance, centred, np.square(centred)], axis=1)

        def ratio(means: Float[np.ndarray, "R M"]) -> dict[str, Float[np.ndarray, "R K"]]:
            stated, mean, squared = np.split(means, 3, axis=1)
            with np.errstate(divide="ignore", invalid="ignore"):
                spread = np.sqrt(np.maximum(squared - mean**2, 0))
                return {"ratio": np.where(spread > 0, np.sqrt(stated) / spread, np.nan)}

        return Moves(
            stated=np.sqrt(variance.mean(0)),
            measured=moved.std(0),
            correlation=correlation(moved),
            **measure(ratio, values, **self.bootstrap, rows=rows),
        )

    def sampled(self) -> "Case":
        """Return the case of the search for accuracy: a sample of many queries, copies of few."""
        rng = np.random.default_rng(self.seed)
        parts = [
            np.sort(rng.choice(rows, _SAMPLE, replace=False)) if len(rows) > _SAMPLE else rows
            for rows in (self.fit_rows, self.evaluate_rows)
        ]
        copies = max(1, min(_COPIES, _SAMPLE // max(map(len, parts))))
        fit, evaluate = (np.tile(part, copies) for part in parts)
        rows, table = np.concatenate([fit, evaluate]), self.table
        return replace(
            self,
            estimator=self.estimator.take(rows),
            table=Table(
                take_rows(table.quality, rows), take_rows(table.cost, rows), models=table.models
            ),
            fit_rows=np.arange(len(fit)),
            evaluate_rows=len(fit) + np.arange(len(evaluate)),
            resamples=0,
        )

    def need(self, kind: Strategy, side: Side, target: float | int) -> Need:
        """Return the smallest accuracy found at which the AUC has risen by the target."""
        assert isinstance(self.estimator, Independent)
        estimator = self.estimator

        def better(share: float, seed: int = self.seed) -> Independent:
            return improved(estimator, self.table, self.fit_rows, side, share, seed=seed)

        def auc_of(estimator: Independent) -> float:
            return self.frontier(kind, estimator).auc

        def r2_of(estimator: Independent) -> tuple[Float[np.ndarray, " K"], float]:
            quality = estimator.quality_ante if side == "ante" else estimator.quality_post
            e, truth = self.measured(quality), self.measured(self.table.quality)
            return _r2(e, truth), float(pooled_differences_r2(e, truth).value[0])

        start = auc_of(estimator)
        wanted, low, high, most = start + target, (0.0, -np.inf), None, start
        for share in _SHARES:
            reached = auc_of(better(share))
            most = max(most, reached)
            if reached >= wanted:
                high = (share, reached)
                break
            low = (share, reached)
        (r2_now, differences_now), (r2_refitted, _) = r2_of(estimator), r2_of(better(0.0))
        nan = np.nan
        r2_needed, differences_needed, checked = np.full(len(r2_now), nan), nan, nan
        if high is not None:
            for _ in range(_ROUNDS if high[0] > 0 else 0):
                if high[1] - wanted < _NEAR:
                    break
                # Along the chord, but well inside, so that a curve cannot hold one end for ever.
                part = (wanted - low[1]) / (high[1] - low[1])
                share = low[0] + min(max(part, 0.1), 0.9) * (high[0] - low[0])
                point = share, auc_of(better(share))
                low, high = (low, point) if point[1] >= wanted else (point, high)
            r2_needed, differences_needed = r2_of(better(high[0]))
            checked = auc_of(better(high[0], self.seed + 1))
        return Need(
            strategy=kind.name,
            side=side,
            share=None if high is None else high[0],
            r2_now=mean_known(r2_now),
            r2_refitted=mean_known(r2_refitted),
            r2_needed=mean_known(r2_needed),
            differences_now=differences_now,
            differences_needed=differences_needed,
            r2_needed_by_model=r2_needed,
            auc_now=start,
            auc_reached=nan if high is None else high[1],
            auc_checked=checked,
            most=most,
        )


def sides(kind: Strategy) -> list[Side]:
    """Return the sides of the estimates that a strategy reads."""
    both: tuple[Side, Side] = ("ante", "post")
    return [side for side in both if f"quality_{side}" in kind.reads]


def mean_known(values: Float[np.ndarray, " K"]) -> float:
    """Return the mean of the finite values; nan if there is none."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else np.nan


def _r2(e: Float[np.ndarray, "m K"], truth: Float[np.ndarray, "m K"]) -> Float[np.ndarray, " K"]:
    return accuracy(e, truth, truth.mean(0)).r2.value


def _stated_variance(
    estimator: Estimator, rows: Int[np.ndarray, " m"], k: int
) -> Float[np.ndarray, "m K"]:
    """Return the variances of the estimates of some rows while nothing has run."""
    if isinstance(estimator, Independent):
        sigma = np.asarray(estimator.take(rows).sigma, np.float64)
        return np.broadcast_to(np.square(sigma), (len(rows), k))
    variance = np.empty((len(rows), k))
    for part in blocks(len(rows)):
        run = np.zeros((part.stop - part.start, k), bool)
        variance[part] = estimates_of(estimator.take(rows[part]), run).variance
    return variance


def _span(drawn: Frontier) -> Span:
    return Span(drawn.auc, *(drawn.auc_interval or (None, None)))


def _above(first: Frontier, second: Frontier, confidence: float) -> Span:
    """Return the AUC of the first less the AUC of the second, on the same resamples."""
    value = first.auc - second.auc
    if first.auc_samples is None or second.auc_samples is None:
        return Span(value)
    return Span(value, *interval(first.auc_samples - second.auc_samples, confidence).tolist())


def _best_apart(
    drawn: dict[str, Frontier], first: Sequence[str], second: Sequence[str], confidence: float
) -> Apart | None:
    """Return the best of the first strategies against the best of the second."""
    if not first or not second:
        return None
    a, b = (max(names, key=lambda name: drawn[name].auc) for names in (first, second))
    return Apart(a, b, _above(drawn[a], drawn[b], confidence))


def _gains(
    kinds: Sequence[Strategy],
    now: dict[str, Frontier],
    hull: Frontier,
    oracle: Frontier,
    confidence: float,
) -> tuple[Gain, ...]:
    values = np.array([f.auc - hull.auc for f in now.values()])
    room = oracle.auc - hull.auc
    ends: list[list[float | None]] = [[None, None] for _ in values]
    if hull.auc_samples is not None:
        samples = [f.auc_samples - hull.auc_samples for f in now.values()]  # pyright: ignore[reportOptionalOperand]
        ends = simultaneous(values, np.stack(samples), confidence).tolist()
    gains = []
    for kind, value, (low, high) in zip(kinds, values.tolist(), ends, strict=True):
        answer: Answer = "unknown"
        if low is not None and high is not None:
            least = _LEAST * max(room, 0.0)
            answer = "pays" if low > least else "loses" if high < -least else "undecided"
        share, scale = value / room if room > 0 else np.nan, now[kind.name].sigma_scale
        gains.append(Gain(kind.name, kind.role, Span(value, low, high), share, answer, scale))
    return tuple(gains)
