"""Whole frontiers: one point a budget, for every strategy asked for."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import jax
import numpy as np
from jaxtyping import Float, Int

from cascjax.data.table import Table, mean_rows, split_rows
from cascjax.engine.simulate import Resampled, Sums, Totals, resampled
from cascjax.errors import CascjaxError, RefusedError, unknown_name
from cascjax.estimators import Estimator, check_kind, learned, noise_level, noisy, supplied, truth
from cascjax.estimators.independent import check_estimator
from cascjax.metrics import auc, check_scores
from cascjax.metrics import budgets as default_budgets
from cascjax.metrics.bootstrap import aucs, check_bootstrap, differences, interval
from cascjax.results import Result
from cascjax.search.budgets import Fit, fit_budgets, simulate_settings
from cascjax.search.scoring import scores_of
from cascjax.search.sigma_scale import check_sigma_scale, with_sigma_scale
from cascjax.strategies import STRATEGIES, CascadeRouting, Frugal, Oracle, Strategy, strategy
from cascjax.words import counted, quality_text


@dataclass(frozen=True, repr=False, eq=False)
class Frontier:
    """What one strategy reaches at P budgets.

    Attributes:
        strategy: its name.
        budget: `[P]` mean cost allowed, in the table's cost unit.
        cost: `[P]` mean cost on the evaluation split, in the table's cost unit.
        quality: `[P]` mean quality on the evaluation split.
        fit_cost: `[P]` mean cost on the fit split; equals the budget where it is reachable.
        fit_quality: `[P]` mean quality on the fit split.
        gamma: `[P]` share of queries that take the expensive one of the two neighbouring
            parameters.
        parameters: `[P, 2]` the neighbours, cheap then expensive (lambda, or tau for thresholding);
            `[P, 2, D]` where each has a number a step, or a chain of models and tau.
        reach: `[P]` 0 where the budget is met exactly on the fit split, -1 where it lies below
            the cheapest reachable cost, 1 where it lies above the most expensive.
        ran: `[P, K]` share of evaluation queries on which each model ran.
        answered: `[P, K]` share of evaluation queries each model's answer was returned for.
        depth: `[P, K]` share of evaluation queries on which 1, 2, ..., K models ran.
        reachable: lowest and highest mean cost it reaches on the fit split.
        auc: AUC under (cost, quality), divided by its width, see `cascjax.core.auc`.
        seconds: wall time to fit and evaluate.
        scores: the scores asked for, by name, see `cascjax.metrics.SCORES`; nan where one does
            not exist.
        cost_interval: `[P, 2]` interval of the mean cost, or None where nothing was resampled.
        quality_interval: `[P, 2]` interval of the mean quality, or None.
        auc_interval: interval of the AUC, or None.
        auc_samples: `[R]` AUC in each resample, or None. Those of two strategies on the same
            rows are pairs: the resamples are the same.
        sigma_scale: scale on the sigmas of learned estimates it was shown, see
            `cascjax.search.sigma_scale`.
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
        frontiers: one a strategy, in the order asked for.
        models: the K model names, cheapest mean cost first; every `[K]` axis is in this order.
        cost_unit: the unit of every cost.
        single_cost: `[K]` mean cost of each model alone, on the evaluation split.
        single_quality: `[K]` mean quality of each model alone, on the evaluation split.
        n_fit: rows the parameters were found on.
        n_evaluate: rows the scores were taken on.
        settings: what was asked for, name to value, for the record.
        resamples: of the evaluation queries, that the intervals come from; 0 where there are none.
        confidence: of the intervals.
        difference: `[S, S]` AUC of the first strategy above that of the second, or None.
        difference_interval: `[S, S, 2]` its interval, from the same resamples of both, or None.
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
    progress: Callable[[int], None] = lambda queries: None,
    *,
    resamples: int = 0,
    confidence: float = 0.95,
    seed: int = 0,
    fit: Fit | None = None,
) -> Frontier:
    """Fits a strategy to every budget on one part of a table and scores it on the other.

    Mixed settings are scored by their expectation: (1 - gamma) of the cheap neighbour's mean and
    gamma of the expensive one's. So they are resampled too, with the parameters as fitted: an
    interval says what other queries to evaluate on would change, not what others to fit on would.

    Args:
        strategy: what to draw.
        table: the truth, models in rising mean cost.
        estimator: the estimates of all its queries.
        fit_rows: rows the parameters are found on.
        evaluate_rows: rows the scores are taken on.
        budgets: mean costs allowed, in the table's cost unit.
        progress: called with the number of queries of each chunk simulated.
        resamples: of the rows to evaluate, for intervals of cost, quality and AUC; 0 for none.
        confidence: of those intervals.
        seed: of the resamples.
        fit: settings already fitted to these budgets on these rows, to be scored as they are.

    Raises:
        CascjaxError: see `check_bootstrap` in `cascjax.metrics.bootstrap`.
    """
    if resamples:
        check_bootstrap(resamples, confidence, len(evaluate_rows))
    start = time.perf_counter()
    beliefs = truth(table) if strategy.sees_truth else estimator
    strategy = strategy.sized_for(beliefs)
    if fit is None:
        fit = fit_budgets(strategy, beliefs, table, budgets, progress, rows=fit_rows)
    pairs = fit.parameters.reshape(2 * len(budgets), *fit.parameters.shape[2:])
    settings, where = np.unique(pairs, axis=0, return_inverse=True)
    means = simulate_settings(
        strategy, settings, beliefs, table, rows=evaluate_rows, progress=progress
    )
    cheap, expensive = where.reshape(-1, 2).T
    singles = _single_models(table, evaluate_rows)
    drawn = of_mixes(
        strategy.name, budgets, fit, means, cheap, expensive, *singles, time.perf_counter() - start
    )
    if not resamples:
        return drawn
    others = resampled(
        strategy, fit.parameters, fit.gamma, beliefs, table.quality, table.cost,
        resamples=resamples, seed=seed, rows=evaluate_rows, progress=progress,
    )  # fmt: skip
    return with_resamples(drawn, others, confidence)


def of_mixes(
    strategy: str,
    budgets: Float[np.ndarray, " P"],
    fit: Fit,
    means: Totals,
    cheap: Int[np.ndarray, " P"],
    expensive: Int[np.ndarray, " P"],
    single_cost: Float[np.ndarray, " K"],
    single_quality: Float[np.ndarray, " K"],
    seconds: float,
) -> Frontier:
    """The frontier of fitted mixes, by what their settings do on the rows to evaluate on.

    Args:
        strategy: its name.
        budgets: mean costs allowed.
        fit: the mixes.
        means: what any number of settings do.
        cheap: which of them is the cheap neighbour of each mix.
        expensive: which is the expensive one.
        single_cost: mean cost of each model alone.
        single_quality: mean quality of each model alone.
        seconds: that it took.
    """

    def mixed(means: Sums) -> np.ndarray:
        of = np.asarray(means)
        gamma = fit.gamma.reshape(-1, *[1] * (of.ndim - 1))
        return (1 - gamma) * of[cheap] + gamma * of[expensive]

    cost, quality = mixed(means.cost), mixed(means.quality)
    return Frontier(
        strategy=strategy,
        budget=budgets,
        cost=cost,
        quality=quality,
        fit_cost=fit.cost,
        fit_quality=fit.quality,
        gamma=fit.gamma,
        parameters=fit.parameters,
        reach=fit.reach,
        ran=mixed(means.ran),
        answered=mixed(means.answered),
        depth=mixed(means.depth),
        reachable=(fit.cheapest, fit.most_expensive),
        auc=auc(cost, quality, single_cost, single_quality),
        seconds=seconds,
    )


def with_resamples(drawn: Frontier, others: Resampled, confidence: float) -> Frontier:
    """A frontier with the intervals of its points and its AUC."""
    samples = aucs(others.cost, others.quality, others.single_cost, others.single_quality)
    low, high = interval(samples, confidence).tolist()
    return replace(
        drawn,
        cost_interval=interval(others.cost, confidence),
        quality_interval=interval(others.quality, confidence),
        auc_interval=(low, high),
        auc_samples=samples,
    )


def study(
    strategies: Sequence[Strategy],
    table: Table,
    estimator: Estimator,
    fit_rows: Int[np.ndarray, " n"],
    evaluate_rows: Int[np.ndarray, " m"],
    *,
    budgets: int | Sequence[float] | Float[np.ndarray, " P"] | None = None,
    settings: dict[str, Any] | None = None,
    progress: Callable[[str, int, bool], None] = lambda strategy, queries, done: None,
    scores: Sequence[str] = (),
    resamples: int = 0,
    confidence: float = 0.95,
    seed: int = 0,
    sigma_scale: float | str = 1.0,
) -> Study:
    """Draws the frontier of every strategy over the same budgets.

    Args:
        strategies: what to compare.
        table: the truth, models in rising mean cost (see `Table.sort_models`).
        estimator: the estimates of all its queries.
        fit_rows: rows the parameters are found on.
        evaluate_rows: rows the scores are taken on.
        budgets: mean costs wanted, in the table's cost unit, or how many, spread from the cheapest
            to the most expensive single model; by default ten between each pair of neighbours on
            their hull.
        settings: what was asked for, for the record.
        progress: called with a strategy's name, the number of queries just simulated, and
            whether that was its last.
        scores: names of scores to work out for every frontier, see `cascjax.metrics.SCORES`.
        resamples: of the rows to evaluate, for intervals of every point, AUC and difference of
            AUCs; 0 for none. See `frontier`.
        confidence: of those intervals.
        seed: of the resamples.
        sigma_scale: scale on the sigmas of learned estimates, or "auto" for the one that does best
            on the rows to fit on, strategy by strategy; see `cascjax.search.sigma_scale`.

    Raises:
        CascjaxError: no strategy, a sigma or covariance that is none, every model costs the same,
            there are too many models for a strategy, an unknown score, a budget asked for lies
            beyond the reach of every strategy, or what `check_bootstrap` refuses.
    """
    if not strategies:
        raise CascjaxError("no strategy to draw: name at least one")
    if resamples:
        check_bootstrap(resamples, confidence, len(evaluate_rows))
    wanted = check_scores(scores)
    check_estimator(estimator, table)
    single_cost, single_quality = _single_models(table, evaluate_rows)
    # What cannot succeed fails now, not once the strategies before it have been drawn.
    auc(single_cost, single_quality, single_cost, single_quality)
    for kind in strategies:
        kind.footprint(table.n_models)
    at = budgets_at(budgets, single_cost, single_quality)
    frontiers = []
    scale = check_sigma_scale(sigma_scale)
    for kind in strategies:
        name = kind.name
        shown, believed = with_sigma_scale(kind, table, estimator, fit_rows, scale, seed)
        drawn = frontier(
            kind, table, shown, fit_rows, evaluate_rows, at,
            lambda queries, name=name: progress(name, queries, False),
            resamples=resamples, confidence=confidence, seed=seed,
        )  # fmt: skip
        frontiers.append(replace(drawn, sigma_scale=believed))
        progress(name, 0, True)
    if not (budgets is None or isinstance(budgets, int)):
        check_reach(frontiers, at, table.cost_unit)
    if wanted:
        oracle = next((f for f in frontiers if f.strategy == Oracle.name), None)
        if oracle is None and "oracle-gap" in wanted:
            oracle = frontier(Oracle(), table, estimator, fit_rows, evaluate_rows, at)
        found = scores_of(
            wanted, frontiers, strategies, table, estimator, evaluate_rows,
            oracle=np.nan if oracle is None else oracle.auc,
        )  # fmt: skip
        frontiers = [replace(f, scores=each) for f, each in zip(frontiers, found, strict=True)]
    return Study(
        frontiers=tuple(frontiers),
        models=table.models,
        cost_unit=table.cost_unit,
        single_cost=single_cost,
        single_quality=single_quality,
        n_fit=len(fit_rows),
        n_evaluate=len(evaluate_rows),
        settings=settings or {},
        resamples=resamples,
        confidence=confidence,
        **differences_of(frontiers, confidence),
    )


def compare(
    table: Table,
    strategies: Sequence[str | Strategy] | str | None = None,
    *,
    estimates: str | None = None,
    noise: str | tuple[float, float, float, float] = "low",
    learner: str = "logistic",
    folds: int = 5,
    cost_model: str | None = None,
    ridge: float | None = 1.0,
    sigma_scale: float | str = "auto",
    budgets: int | Sequence[float] | Float[np.ndarray, " P"] | None = None,
    max_depth: int = 5,
    seed: int = 0,
    resamples: int = 0,
    confidence: float = 0.95,
    scores: Sequence[str] = (),
    progress: Callable[[str, int, bool], None] = lambda strategy, queries, done: None,
) -> Study:
    """Draws the frontiers of several strategies over one table: the whole job in one call.

    Args:
        table: the truth, and the estimates where it has them.
        strategies: names or strategies, or one name; by default every one there is.
        estimates: "supplied", "noisy" or "learned", see `cascjax.estimators`; by default what the
            table supplies, else the truth under simulated noise.
        noise: level of noisy estimates.
        learner: of learned estimates, see `cascjax.estimators.ESTIMATORS`.
        folds: of the cross-fitting of learned estimates.
        cost_model: of learned estimates, see `cascjax.estimators.learned`.
        ridge: of learned estimates, see `cascjax.estimators.learned`.
        sigma_scale: of learned estimates, see `study`.
        budgets: see `study`.
        max_depth: models cascade routing and frugal run on one query at most.
        seed: of the noise, the folds, the resamples, and of the split where the table has none.
        resamples: of the evaluation queries, for intervals; see `study`.
        confidence: of those intervals.
        scores: see `study`.
        progress: see `study`.

    Raises:
        CascjaxError: an unknown name, a table without model names, missing estimates, an empty
            split, or what `study` refuses.
    """
    if len(table.models) != table.n_models:
        raise CascjaxError(
            f"the table names {counted(len(table.models), 'model')} and has"
            f" {table.n_models}; give it `models`, a name for each"
        )
    chosen = strategies_named(strategies, max_depth)
    check_kind(estimates)
    noise_level(noise)
    check_sigma_scale(sigma_scale)
    fit, evaluate = split_rows(table, seed)
    table = table.sort_models(mean_rows(table.cost, fit))
    kind = estimates or ("noisy" if table.quality_ante is None else "supplied")
    settings: dict[str, Any] = {"estimates": kind}
    if kind == "supplied":
        estimator = supplied(table, fit)
    elif kind == "learned":
        found = learned(
            table, fit,
            estimator=learner, folds=folds, seed=seed, cost_model=cost_model, ridge=ridge,
        )  # fmt: skip
        estimator = found.estimator
        settings |= found.settings()
    else:
        estimator = noisy(table, jax.random.key(seed), noise)
        settings["noise"] = noise
    settings |= {"max_depth": max_depth, "seed": seed}
    return study(
        chosen, table, estimator, fit, evaluate,
        budgets=budgets, settings=settings, progress=progress, scores=scores,
        resamples=resamples, confidence=confidence, seed=seed, sigma_scale=sigma_scale,
    )  # fmt: skip


def strategies_named(
    strategies: Sequence[str | Strategy] | str | None, max_depth: int
) -> list[Strategy]:
    """Strategies of these names, with the depth where they have one; by default all there are.

    Raises:
        CascjaxError: an unknown name.
    """
    asked = [strategies] if isinstance(strategies, str) else strategies

    def named(name: str) -> Strategy:
        deep = name in (CascadeRouting.name, Frugal.name)
        return strategy(name, **({"max_depth": max_depth} if deep else {}))

    return [
        name if isinstance(name, Strategy) else named(name)
        for name in (STRATEGIES if asked is None else asked)
    ]


def differences_of(frontiers: Sequence[Frontier], confidence: float) -> dict[str, np.ndarray]:
    """The fields of a `Study` on differences of AUCs; none where nothing was resampled."""
    samples = [f.auc_samples for f in frontiers if f.auc_samples is not None]
    if not samples:
        return {}
    auc = np.array([f.auc for f in frontiers])
    return {
        "difference": auc[:, None] - auc,
        "difference_interval": differences(np.stack(samples), confidence),
    }


def budgets_at(
    budgets: int | Sequence[float] | Float[np.ndarray, " P"] | None,
    single_cost: Float[np.ndarray, " K"],
    single_quality: Float[np.ndarray, " K"],
) -> Float[np.ndarray, " P"]:
    """The mean costs wanted, rising; see `study`."""
    if budgets is None or isinstance(budgets, int):
        return default_budgets(single_cost, single_quality, budgets)
    return np.unique(np.asarray(budgets, np.float64))


def check_reach(frontiers: Sequence[Frontier], budgets: Float[np.ndarray, " P"], unit: str) -> None:
    """Refuses a budget asked for that is out of reach of every strategy.

    Raises:
        RefusedError: there is one.
    """
    low = min(f.reachable[0] for f in frontiers)
    high = max(f.reachable[1] for f in frontiers)
    # Sums of float32 costs and printed digits are no reason to refuse a budget.
    slack = 1e-5
    beyond = budgets[(budgets < low * (1 - slack)) | (budgets > high * (1 + slack))]
    if len(beyond):
        raise RefusedError(
            f"budget {beyond[0]:g} is out of reach: mean cost goes from {low:.6g} to {high:.6g}"
            f" {unit.removesuffix('/query') or 'units'} a query; choose within that range"
        )


def _single_models(
    table: Table, rows: Int[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " K"], Float[np.ndarray, " K"]]:
    return mean_rows(table.cost, rows), mean_rows(table.quality, rows)
