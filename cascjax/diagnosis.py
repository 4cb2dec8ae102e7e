"""Whether estimates of quality are good enough for routing or cascading to pay, and what would be.

The paper's question (section 5, "quality estimation"): routing lives on estimates made before any
model runs, of how the models differ on a query; cascading on estimates made once an answer is seen.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from cascjax.comparison import Frontier, frontier
from cascjax.data.table import Table, mean_rows, split_rows, take_rows
from cascjax.errors import CascjaxError
from cascjax.estimators import (
    Estimator,
    Independent,
    check_kind,
    learned,
    noise_level,
    noisy,
    supplied,
)
from cascjax.estimators.better import (
    Side,
    beliefs_of,
    blocks,
    improved,
    perfect_ante,
    perfect_post,
    reduced,
    refitted,
)
from cascjax.estimators.independent import check_estimator
from cascjax.metrics import auc
from cascjax.metrics import budgets as default_budgets
from cascjax.metrics.bootstrap import (
    DEFAULT_RESAMPLES,
    check_bootstrap,
    check_confidence,
    interval,
    queries_needed,
    resampled_means,
    simultaneous,
)
from cascjax.metrics.calibration import (
    Accuracy,
    Measured,
    Reliability,
    accuracy,
    correlation,
    differences_r2,
    pooled_differences_r2,
    reliability,
)
from cascjax.search.sigma_scale import check_sigma_scale, with_sigma_scale
from cascjax.strategies import CascadeRouting, Frugal, Mixing, Oracle, Strategy, strategy
from cascjax.words import counted

CHOICES = ("routing", "thresholding", "cascading", "cascade-routing", "pandora")
"""Strategies diagnosed by default: those that estimates decide on."""

NOW, REDUCED, REFITTED = "now", "reduced", "refitted"
PERFECT_POST, PERFECT_ANTE = "perfect post-hoc", "perfect ex-ante"

TARGET = 0.01
"""The rise of AUC whose price in accuracy is asked for."""

Answer = Literal["pays", "undecided", "loses", "unknown"]

_LEAST = 1e-3
"""A gain is one from this share of the oracle's on: less is rounding, however sure."""

_SAMPLE = 1 << 13
"""Queries to fit and to evaluate on, each, in the search for the accuracy needed."""

_COPIES = 8
"""Times at most that few queries are looked at, each under noise of its own."""

_SHARES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.35, 0.55, 0.8, 1.0)
"""Shares of what is unknown that are tried in turn, until the AUC is reached."""

_ROUNDS = 6
"""Times at most that the share is narrowed down then."""

_NEAR = 2e-4
"""Of AUC: near enough to what was wanted; noise alone moves it by more."""

_FEW_MODELS = 6
"""Models up to which the search takes cascade routing too: it looks at all sets of them."""


class Span(NamedTuple):
    """A number and its interval, None where nothing was resampled."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Seen:
    """How good the estimates of one time are, on the queries to evaluate.

    Attributes:
        accuracy: of each model.
        reliability: of each of the K models.
        differences: R2 of the differences of all pairs of models together, see
            `cascjax.metrics.calibration.pooled_differences_r2`.
        pairs: `[K, K]` R2 of the difference of each pair.
        errors: `[K, K]` correlation of the errors, estimate less truth.
        outside: `[K]` share of the estimates below 0 or above 1; nan where quality is not on that
            scale.
    """

    accuracy: Accuracy
    reliability: tuple[Reliability, ...]
    differences: Span
    pairs: Float[np.ndarray, "K K"]
    errors: Float[np.ndarray, "K K"]
    outside: Float[np.ndarray, " K"]


@dataclass(frozen=True)
class Moves:
    """How estimates move from nothing run to everything run, beside what was said they would.

    Attributes:
        stated: `[K]` root mean square of the standard deviations the estimator states.
        found: `[K]` standard deviation of (after - before) on the queries to evaluate.
        ratio: stated / found: 1 where sigma is right, above where it is too large; nan where
            estimates do not move.
        correlation: `[K, K]` of the moves: what pandora and cascade routing on independent
            estimates take to be 0 between models.
    """

    stated: Float[np.ndarray, " K"]
    found: Float[np.ndarray, " K"]
    ratio: Measured
    correlation: Float[np.ndarray, "K K"]


@dataclass(frozen=True)
class Rung:
    """The AUCs that strategies reach on one kind of estimates.

    Attributes:
        name: of the estimates.
        auc: by strategy.
        above: AUC above what the same strategy reaches now, by strategy; paired.
    """

    name: str
    auc: dict[str, Span]
    above: dict[str, Span]


@dataclass(frozen=True)
class Need:
    """How accurate estimates must become for one strategy's AUC to rise by a given amount.

    The AUC now and those reached are of the search's own sample of queries.

    Attributes:
        strategy: its name.
        side: which estimates get better, those before ("ante") or those after a model has run
            ("post"); the others stay as they are.
        share: of what the estimates leave unexplained that must be explained; None where no
            accuracy of this side alone suffices. 0: refitting by least squares is enough.
        r2_now: mean over models of R2 as it is.
        r2_refitted: the same once the estimates are refitted.
        r2_needed: the same once they are good enough; nan where they cannot be.
        differences_now: R2 of differences as it is.
        differences_needed: R2 of differences once the estimates are good enough.
        r2_needed_by_model: `[K]` what `r2_needed` is the mean of.
        area_now: with the estimates as they are.
        area_reached: at `share`.
        area_checked: at `share`, under fresh noise.
        most: highest AUC that any accuracy tried reaches.
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
    area_now: float
    area_reached: float
    area_checked: float
    most: float


@dataclass(frozen=True)
class Gain:
    """What one strategy gains over mixing single models at random, on the estimates as they are.

    Attributes:
        strategy: its name.
        gain: AUC above that of mixing. The intervals of all strategies hold at once.
        share: of the oracle's gain; nan where that has none.
        answer: whether it pays: the interval lies above 0, about 0, or below; or is unknown.
        sigma_scale: scale on the sigmas of learned estimates it was shown, see
            `cascjax.search.sigma_scale`.
    """

    strategy: str
    gain: Span
    share: float
    answer: Answer
    sigma_scale: float = 1.0


@dataclass(frozen=True)
class Diagnosis:
    """What estimates are worth, and what better ones would be; K models in rising mean cost.

    Attributes:
        models: K names.
        cost_unit: of the costs.
        n_fit: queries that parameters and refits were found on.
        n_evaluate: queries that everything was measured on.
        ante: estimates before any model has run.
        post: estimates of a model once it has run, alone.
        post_all_r2: `[K]` R2 once every model has run; None where that tells nothing new.
        both_r2: `[K]` R2 of the least-squares fit of quality on both estimates: above that of
            `post` where the later one forgets what the earlier one knew.
        moves: how far estimates move, and how far they are said to.
        single_cost: `[K]` mean cost of each model alone.
        single_quality: `[K]` mean quality of each model alone.
        cheapest_suffices: share of queries on which no model does better than the cheapest.
        all_alike: share of queries on which all models do equally well.
        mixing: AUC of mixing single models: the hull.
        oracle: AUC of routing on true quality and cost.
        rungs: from the estimates as they are up to perfect ones.
        gains: of each strategy, on the estimates as they are.
        both_at_once: AUC of the better of cascade routing and pandora above the better of
            routing, thresholding, frugal and cascading; None where one of the two is missing.
        pandora_above: AUC of pandora above that of cascade routing, or None.
        needs: accuracies needed for `target` more.
        target: the rise asked for.
        unsearched: strategies left out of `needs`, expensive as they are to simulate.
        resamples: of the queries to evaluate; 0 for none.
        confidence: of the intervals.
        notes: of the estimator: what was filled in or left out.
        settings: what was asked for, for the record.
    """

    models: tuple[str, ...]
    cost_unit: str
    n_fit: int
    n_evaluate: int
    ante: Seen
    post: Seen
    post_all_r2: Float[np.ndarray, " K"] | None
    both_r2: Float[np.ndarray, " K"]
    moves: Moves
    single_cost: Float[np.ndarray, " K"]
    single_quality: Float[np.ndarray, " K"]
    cheapest_suffices: float
    all_alike: float
    mixing: Span
    oracle: Span
    rungs: tuple[Rung, ...]
    gains: tuple[Gain, ...]
    both_at_once: Span | None
    pandora_above: Span | None
    needs: tuple[Need, ...]
    target: float | int
    unsearched: tuple[str, ...] = ()
    resamples: int = 0
    confidence: float = 0.95
    notes: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def answer(self) -> Answer:
        """Whether any strategy pays: "undecided" where none can be told from the hull."""
        answers = [of.answer for of in self.gains]
        for answer in ("pays", "unknown", "undecided"):
            if answer in answers:
                return answer
        return "loses"

    @property
    def best(self) -> Gain:
        """The strategy of highest AUC."""
        return max(self.gains, key=lambda of: of.gain.value)

    def rung(self, name: str) -> Rung | None:
        """The rung of that name, if there is one."""
        return next((rung for rung in self.rungs if rung.name == name), None)


def diagnose(
    table: Table,
    *,
    strategies: Sequence[str | Strategy] | None = None,
    estimates: str | None = None,
    noise: str | tuple[float, float, float, float] = "low",
    learner: str = "logistic",
    folds: int = 5,
    cost_model: str | None = None,
    ridge: float | None = 1.0,
    sigma_scale: float | str = "auto",
    budgets: int | None = None,
    target: float | int = TARGET,
    bins: int | None = None,
    max_depth: int = 5,
    seed: int = 0,
    resamples: int | None = None,
    confidence: float = 0.95,
    settings: dict[str, Any] | None = None,
    progress: Callable[[str, int, int], None] = lambda what, step, steps: None,
) -> Diagnosis:
    """Tells whether a table's estimates are good enough, and what better ones would be worth.

    Args:
        table: the truth, and the estimates where it has them.
        strategies: what to look at; by default `CHOICES`.
        estimates: "supplied", "noisy" or "learned", see `cascjax.estimators`; by default what the
            table supplies, else the truth under simulated noise.
        noise: level of noisy estimates.
        learner: of learned estimates, see `cascjax.estimators.ESTIMATORS`.
        folds: of the cross-fitting of learned estimates.
        cost_model: of learned estimates, see `cascjax.estimators.learned`.
        ridge: of learned estimates, see `cascjax.estimators.learned`.
        sigma_scale: of learned estimates, see `diagnose_estimator`.
        budgets: see `diagnose_estimator`.
        target: see `diagnose_estimator`.
        bins: see `diagnose_estimator`.
        max_depth: models cascade routing and frugal run on one query at most.
        seed: of the noise, the resamples, and of the split where the table has none.
        resamples: see `diagnose_estimator`.
        confidence: of the intervals.
        settings: what else to keep for the record.
        progress: called with what is done next, the steps done and the steps there are.

    Raises:
        CascjaxError: an unknown name, a table without model names, missing estimates, an empty
            split, or what `diagnose_estimator` refuses.
    """
    if len(table.models) != table.n_models:
        raise CascjaxError(
            f"the table names {counted(len(table.models), 'model')} and has"
            f" {table.n_models}; give it `models`, a name for each"
        )
    check_kind(estimates)
    noise_level(noise)
    kinds = named(CHOICES if strategies is None else strategies, max_depth=max_depth)
    fit, evaluate = split_rows(table, seed)
    table = table.sort_models(mean_rows(table.cost, fit))
    kind = estimates or ("noisy" if table.quality_ante is None else "supplied")
    record, notes = {**(settings or {}), "estimates": kind}, ()
    if kind == "supplied":
        estimator = supplied(table, fit)
    elif kind == "learned":
        found = learned(
            table, fit,
            estimator=learner, folds=folds, seed=seed, cost_model=cost_model, ridge=ridge,
        )  # fmt: skip
        estimator, notes = found.estimator, found.notes
        record |= found.settings() | {"sigma_scale": sigma_scale}
    else:
        estimator = noisy(table, jax.random.key(seed), noise)
        record["noise"] = noise
    return diagnose_estimator(
        table, estimator, fit, evaluate,
        strategies=kinds, budgets=budgets, target=target, bins=bins, seed=seed,
        resamples=resamples, confidence=confidence, notes=notes, progress=progress,
        sigma_scale=sigma_scale,
        settings=record | {"max_depth": max_depth, "seed": seed},
    )  # fmt: skip


def named(
    names: Sequence[str | Strategy], *, max_depth: int = 5, search: str = "exact"
) -> list[Strategy]:
    """Strategies by name, to be diagnosed.

    Raises:
        CascjaxError: an unknown name, none at all, one that is listed twice, or one that sees no
            estimates.
    """
    static = {
        CascadeRouting.name: {"max_depth": max_depth, "search": search},
        Frugal.name: {"max_depth": max_depth},
    }
    kinds = [of if isinstance(of, Strategy) else strategy(of, **static.get(of, {})) for of in names]
    for i, of in enumerate(kinds):
        if isinstance(of, Mixing | Oracle):
            raise CascjaxError(
                f"strategy {of.name!r} looks at no estimates, so there is nothing to diagnose: it"
                f" is drawn beside the others as it is; choose among {', '.join(CHOICES)}"
            )
        if of.name in [other.name for other in kinds[:i]]:
            raise CascjaxError(f"strategy {of.name!r} is listed twice; name it once")
    if not kinds:
        raise CascjaxError(f"no strategy to diagnose: name one of {', '.join(CHOICES)}")
    return kinds


def diagnose_estimator(
    table: Table,
    estimator: Estimator,
    fit_rows: Int[np.ndarray, " n"],
    evaluate_rows: Int[np.ndarray, " m"],
    *,
    strategies: Sequence[Strategy],
    budgets: int | None = None,
    target: float | int = TARGET,
    bins: int | None = None,
    seed: int = 0,
    resamples: int | None = None,
    confidence: float = 0.95,
    notes: Sequence[str] = (),
    sigma_scale: float | str = 1.0,
    settings: dict[str, Any] | None = None,
    progress: Callable[[str, int, int], None] = lambda what, step, steps: None,
) -> Diagnosis:
    """Diagnoses any estimator, whose estimates of the rows to fit must be out of fold.

    What better estimates would give is worked out for independent ones: of another kind of
    estimator what it believes while nothing has run, and of each model once that one alone has,
    is taken ("reduced"), which a rung of its own shows the price of.

    Args:
        table: the truth, models in rising mean cost.
        estimator: the estimates of all its queries.
        fit_rows: rows that parameters and refits are found on.
        evaluate_rows: rows that everything is measured on.
        strategies: what to look at.
        budgets: how many, see `cascjax.metrics.budgets`.
        target: rise of AUC whose price in accuracy is looked for; 0 to look for none.
        bins: of the reliability diagrams; by default 10, or fewer of fewer than 300 queries.
        seed: of the resamples and of the noise of better estimates.
        resamples: of the rows to evaluate, 0 for none; by default 1,000, or 200 of more than
            100,000 rows, or none where the rows are too few for intervals.
        confidence: of the intervals.
        notes: of the estimator, for the record.
        sigma_scale: scale on the sigmas that strategies are shown of the estimates as they are,
            where these are learned, or "auto"; see `cascjax.search.sigma_scale`.
        settings: what was asked for, for the record.
        progress: called with what is done next, the steps done and the steps there are.

    Raises:
        CascjaxError: an impossible target or number of bins, every model costs the same, a sigma
            or covariance that is none, too many models for a strategy, or what `check_bootstrap`
            refuses.
    """
    m = len(evaluate_rows)
    if not 0 <= target < np.inf:
        raise CascjaxError(f"the target must be a rise of AUC of at least 0, not {target:g}")
    if bins is not None and bins < 1:
        raise CascjaxError(f"the number of bins must be at least 1, not {bins}")
    check_confidence(confidence)
    scale = check_sigma_scale(sigma_scale)
    if resamples is None:
        resamples = DEFAULT_RESAMPLES if m <= 100_000 else DEFAULT_RESAMPLES // 5
        resamples = resamples if m >= queries_needed(confidence) else 0
    if resamples:
        check_bootstrap(resamples, confidence, m)
    check_estimator(estimator, table)
    single = [mean_rows(of, evaluate_rows) for of in (table.cost, table.quality)]
    auc(single[0], single[1], single[0], single[1])  # refuses models that all cost the same
    for kind in strategies:
        kind.footprint(table.n_models)
    at = default_budgets(single[0], single[1], budgets)
    sure: Any = {"resamples": resamples, "confidence": confidence, "seed": seed}
    bins = max(1, min(10, m // 30)) if bins is None else bins

    believed, post_all = reduced(estimator, table)
    kinds = list(strategies)
    ladder: list[tuple[str, Estimator]] = [(NOW, estimator)]
    if not isinstance(estimator, Independent):
        ladder.append((REDUCED, believed))
    ladder += [
        (REFITTED, refitted(believed, table, fit_rows)),
        (PERFECT_POST, perfect_post(believed, table, fit_rows)),
        (PERFECT_ANTE, perfect_ante(believed, table)),
    ]
    searched = [of for of in kinds if _cheap(of, table.n_models)] if target else []
    asked: list[tuple[Strategy, Side]] = [(of, side) for of in searched for side in sides(of)]
    steps = 2 + len(ladder) * len(kinds) + len(asked)
    done = iter(range(steps))

    def drawn(kind: Strategy, beliefs: Estimator, what: str) -> Frontier:
        progress(f"{kind.name}, {what}", next(done), steps)
        shown, believed = with_sigma_scale(kind, table, beliefs, fit_rows, scale, seed)
        found = frontier(kind, table, shown, fit_rows, evaluate_rows, at, **sure)
        return replace(found, sigma_scale=believed)

    hull, oracle = drawn(Mixing(), estimator, "hull"), drawn(Oracle(), estimator, "truth")
    found = {
        name: {kind.name: drawn(kind, beliefs, name) for kind in kinds} for name, beliefs in ladder
    }
    needs = []
    if asked:
        problem = Improvement.of(believed, table, fit_rows, evaluate_rows, at, seed)
        for kind, side in asked:
            progress(f"{kind.name}, accuracy needed", next(done), steps)
            needs.append(problem.need(kind, side, target))
    now = found[NOW]
    gains = _gains(now, hull, oracle, confidence)
    truth = take_rows(table.quality, evaluate_rows)
    cost_of_mixing, cost_of_oracle = _span(hull), _span(oracle)
    alone = ("routing", "thresholding", "frugal", "cascading")
    return Diagnosis(
        models=table.models,
        cost_unit=table.cost_unit,
        n_fit=len(fit_rows),
        n_evaluate=m,
        ante=_seen(believed.quality_ante, table, fit_rows, evaluate_rows, bins, **sure),
        post=_seen(believed.quality_post, table, fit_rows, evaluate_rows, bins, **sure),
        post_all_r2=None
        if post_all is believed.quality_post
        else accuracy(take_rows(post_all, evaluate_rows), truth, single[1]).r2.value,
        both_r2=_both_r2(believed, table, fit_rows, evaluate_rows),
        moves=_moves(estimator, believed, post_all, evaluate_rows, **sure),
        single_cost=single[0],
        single_quality=single[1],
        cheapest_suffices=float((truth[:, 0] >= truth.max(1)).mean()),
        all_alike=float((truth.min(1) >= truth.max(1)).mean()),
        mixing=cost_of_mixing,
        oracle=cost_of_oracle,
        rungs=tuple(
            Rung(
                name,
                {of: _span(f) for of, f in frontiers.items()},
                {of: _apart(f, now[of], confidence) for of, f in frontiers.items()},
            )
            for name, frontiers in found.items()
        ),
        gains=gains,
        both_at_once=_best_apart(now, ("cascade-routing", "pandora"), alone, confidence),
        pandora_above=_best_apart(now, ("pandora",), ("cascade-routing",), confidence),
        needs=tuple(needs),
        target=target,
        unsearched=tuple(of.name for of in kinds if of not in searched) if target else (),
        resamples=resamples,
        confidence=confidence,
        notes=tuple(notes),
        settings=settings or {},
    )


def sides(kind: Strategy) -> tuple[Side, ...]:
    """The estimates that a strategy looks at."""
    reads: tuple[Side, ...] = tuple(
        side for side in ("ante", "post") if f"quality_{side}" in kind.reads
    )
    return reads


def _cheap(kind: Strategy, n_models: int) -> bool:
    return not isinstance(kind, CascadeRouting) or n_models <= _FEW_MODELS


@dataclass(frozen=True)
class Improvement:
    """The search for the accuracy needed: a sample of queries, each under several noises.

    Attributes:
        estimator: of the queries, those to fit on first, copy after copy.
        table: their truth.
        fit_rows: rows to fit on.
        evaluate_rows: rows to evaluate on.
        budgets: `[P]` mean costs.
        seed: of the noise.
    """

    estimator: Independent
    table: Table
    fit_rows: Int[np.ndarray, " n"]
    evaluate_rows: Int[np.ndarray, " m"]
    budgets: Float[np.ndarray, " P"]
    seed: int

    @staticmethod
    def of(
        estimator: Independent,
        table: Table,
        fit_rows: Int[np.ndarray, " n"],
        evaluate_rows: Int[np.ndarray, " m"],
        budgets: Float[np.ndarray, " P"],
        seed: int,
    ) -> "Improvement":
        """The search on rows of a table: a sample of many, several copies of few."""
        rng = np.random.default_rng(seed)
        parts = [
            np.sort(rng.choice(rows, _SAMPLE, replace=False)) if len(rows) > _SAMPLE else rows
            for rows in (fit_rows, evaluate_rows)
        ]
        copies = max(1, min(_COPIES, _SAMPLE // max(len(part) for part in parts)))
        fit, evaluate = (np.tile(part, copies) for part in parts)
        rows = np.concatenate([fit, evaluate])
        return Improvement(
            estimator=estimator.take(rows),
            table=Table(
                take_rows(table.quality, rows), take_rows(table.cost, rows), models=table.models
            ),
            fit_rows=np.arange(len(fit)),
            evaluate_rows=len(fit) + np.arange(len(evaluate)),
            budgets=budgets,
            seed=seed,
        )

    def better(self, side: Side, share: float, seed: int | None = None) -> Independent:
        """Estimates that explain more, see `improved`."""
        return improved(
            self.estimator, self.table, self.fit_rows, side, share,
            seed=self.seed if seed is None else seed,
        )  # fmt: skip

    def auc(self, kind: Strategy, estimator: Independent) -> float:
        """AUC that a strategy reaches on estimates."""
        return frontier(
            kind, self.table, estimator, self.fit_rows, self.evaluate_rows, self.budgets
        ).auc

    def need(self, kind: Strategy, side: Side, target: float | int) -> Need:
        """Looks for the smallest share tried at which the AUC has risen by the target."""
        start = self.auc(kind, self.estimator)
        wanted, low, high, most = start + target, (0.0, -np.inf), None, start
        for share in _SHARES:
            reached = self.auc(kind, self.better(side, share))
            most = max(most, reached)
            if reached >= wanted:
                high = (share, reached)
                break
            low = (share, reached)
        now, refit = self._r2(side, None), self._r2(side, 0.0)
        nothing = np.full(len(now[1]), np.nan)
        if high is None:
            return Need(
                kind.name, side, None, now[0], refit[0], np.nan, now[2], np.nan, nothing, start,
                np.nan, np.nan, most,
            )  # fmt: skip
        for _ in range(_ROUNDS if high[0] > 0 else 0):
            if high[1] - wanted < _NEAR:
                break
            # Along the chord, but well inside, so that a curve cannot hold one end for ever.
            part = (wanted - low[1]) / (high[1] - low[1])
            share = low[0] + min(max(part, 0.1), 0.9) * (high[0] - low[0])
            reached = self.auc(kind, self.better(side, share))
            low, high = (low, (share, reached)) if reached >= wanted else ((share, reached), high)
        found = self._r2(side, high[0])
        return Need(
            strategy=kind.name,
            side=side,
            share=high[0],
            r2_now=now[0],
            r2_refitted=refit[0],
            r2_needed=found[0],
            differences_now=now[2],
            differences_needed=found[2],
            r2_needed_by_model=found[1],
            area_now=start,
            area_reached=high[1],
            area_checked=self.auc(kind, self.better(side, high[0], self.seed + 1)),
            most=most,
        )

    def _r2(self, side: Side, share: float | None) -> tuple[float, Float[np.ndarray, " K"], float]:
        """R2 on the rows to evaluate: mean over models, of each, and of differences."""
        of = self.estimator if share is None else self.better(side, share)
        e = take_rows(
            np.asarray(of.quality_ante if side == "ante" else of.quality_post), self.evaluate_rows
        )
        truth = take_rows(self.table.quality, self.evaluate_rows)
        r2 = accuracy(e, truth, truth.mean(0)).r2.value
        differences = pooled_differences_r2(e, truth).value[0]
        return _mean(r2), r2, float(differences)


def _mean(values: Float[np.ndarray, " K"]) -> float:
    """Mean of those that there are."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else np.nan


def _seen(
    estimate: Float[np.ndarray, "N K"] | Float[Array, "N K"],
    table: Table,
    fit_rows: Int[np.ndarray, " n"],
    rows: Int[np.ndarray, " m"],
    bins: int,
    *,
    resamples: int,
    confidence: float,
    seed: int,
) -> Seen:
    e, q = take_rows(np.asarray(estimate), rows), take_rows(table.quality, rows)
    sure: Any = {"rows": rows, "resamples": resamples, "confidence": confidence, "seed": seed}
    pooled = pooled_differences_r2(e, q, **sure)
    low, high = (None, None) if pooled.ends is None else pooled.ends[0].tolist()
    on_scale = bool(q.min() >= 0 and q.max() <= 1)
    return Seen(
        accuracy=accuracy(e, q, mean_rows(table.quality, fit_rows), **sure),
        reliability=tuple(
            reliability(e[:, k], q[:, k], bins=bins, confidence=confidence, seed=seed)
            for k in range(q.shape[1])
        ),
        differences=Span(float(pooled.value[0]), low, high),
        pairs=differences_r2(e, q),
        errors=correlation(e.astype(np.float64) - q),
        outside=((e < 0) | (e > 1)).mean(0) if on_scale else np.full(q.shape[1], np.nan),
    )


def _both_r2(
    believed: Independent,
    table: Table,
    fit_rows: Int[np.ndarray, " n"],
    rows: Int[np.ndarray, " m"],
) -> Float[np.ndarray, " K"]:
    both = refitted(believed, table, fit_rows).quality_post
    truth = take_rows(table.quality, rows)
    return accuracy(take_rows(np.asarray(both), rows), truth, truth.mean(0)).r2.value


def _moves(
    estimator: Estimator,
    believed: Independent,
    post_all: Float[np.ndarray, "N K"] | Float[Array, "N K"],
    rows: Int[np.ndarray, " m"],
    *,
    resamples: int,
    confidence: float,
    seed: int,
) -> Moves:
    before, after = (take_rows(np.asarray(of), rows) for of in (believed.quality_ante, post_all))
    moved = after.astype(np.float64) - before
    variance = _stated(estimator, rows, moved.shape[1])
    middle = moved.mean(0)
    values = np.concatenate([variance, moved - middle, np.square(moved - middle)], axis=1)

    def ratio(means: Float[np.ndarray, "R M"]) -> Float[np.ndarray, "R K"]:
        stated, mean, squared = np.split(means, 3, axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            spread = np.sqrt(np.maximum(squared - mean**2, 0))
            return np.where(spread > 0, np.sqrt(stated) / spread, np.nan)

    ends = None
    if resamples:
        drawn = resampled_means(values.astype(np.float32), resamples, seed, rows=rows)
        ends = interval(ratio(drawn.astype(np.float64)), confidence)
    means = values.mean(0)[None]
    return Moves(
        stated=np.sqrt(variance.mean(0)),
        found=moved.std(0),
        ratio=Measured(ratio(means)[0], ends),
        correlation=correlation(moved),
    )


def _stated(estimator: Estimator, rows: Int[np.ndarray, " m"], k: int) -> Float[np.ndarray, "m K"]:
    """The variances of a query's estimates while nothing has run."""
    if isinstance(estimator, Independent):
        sigma = np.asarray(estimator.take(rows).sigma, np.float64)
        return np.broadcast_to(np.square(sigma), (len(rows), k))
    found = np.empty((len(rows), k))
    for part in blocks(len(rows)):
        run = np.zeros((part.stop - part.start, k), bool)
        found[part] = beliefs_of(estimator.take(rows[part]), run).variance
    return found


def _span(drawn: Frontier) -> Span:
    return Span(drawn.auc, *(drawn.auc_interval or (None, None)))


def _apart(one: Frontier, other: Frontier, confidence: float) -> Span:
    """How far the first AUC lies above the second, on the same resamples."""
    value = one.auc - other.auc
    if one.auc_samples is None or other.auc_samples is None:
        return Span(value)
    low, high = interval(one.auc_samples - other.auc_samples, confidence).tolist()
    return Span(value, low, high)


def _best_apart(
    drawn: dict[str, Frontier],
    ones: Sequence[str],
    others: Sequence[str],
    confidence: float,
) -> Span | None:
    """How far the best of some strategies lies above the best of others, where there are both."""
    best = [
        max((drawn[name] for name in names if name in drawn), key=lambda f: f.auc, default=None)
        for names in (ones, others)
    ]
    if best[0] is None or best[1] is None:
        return None
    return _apart(best[0], best[1], confidence)


def _gains(
    now: dict[str, Frontier], hull: Frontier, oracle: Frontier, confidence: float
) -> tuple[Gain, ...]:
    values = np.array([f.auc - hull.auc for f in now.values()])
    room = oracle.auc - hull.auc
    ends: list[list[float | None]] = [[None, None] for _ in values]
    if hull.auc_samples is not None:
        at_hull = hull.auc_samples
        samples = [f.auc_samples - at_hull for f in now.values() if f.auc_samples is not None]
        ends = simultaneous(values, np.stack(samples), confidence).tolist()
    found = []
    for name, value, (low, high) in zip(now, values.tolist(), ends, strict=True):
        answer: Answer = "unknown"
        if low is not None and high is not None:
            least = _LEAST * max(room, 0.0)
            answer = "pays" if low > least else "loses" if high < -least else "undecided"
        share = value / room if room > 0 else np.nan
        found.append(Gain(name, Span(value, low, high), share, answer, now[name].sigma_scale))
    return tuple(found)
