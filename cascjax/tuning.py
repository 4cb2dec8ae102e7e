"""Tuning as one job: from a table to tuned policies, and their frontier beside the plain one."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float

from cascjax import strategies
from cascjax.comparison import Study, differences_of, frontier
from cascjax.data.table import Table, mean_rows, split_rows
from cascjax.engine.options import SAMPLE, RunOptions
from cascjax.errors import CascjaxError
from cascjax.estimators import Independent
from cascjax.estimators.specs import Noisy, as_estimates
from cascjax.fitting import budget_policies, prepare
from cascjax.metrics import budgets as default_budgets
from cascjax.metrics.bootstrap import check_bootstrap
from cascjax.policy import Policy
from cascjax.results import Result
from cascjax.search.budgets import fit_budgets
from cascjax.search.tune import SearchRun, Tuned
from cascjax.search.tune import tune as tune_strategy
from cascjax.strategies import Mixing, Strategy

_SLACK = 1e-5
"""What sums of float32 costs and printed digits may miss a budget by."""

TUNED = "tuned"
"""What stands before a strategy's name once it is tuned."""


@dataclass(frozen=True, repr=False, eq=False)
class Tuning(Result):
    """Tuned parameters of one strategy, their frontier, and policies that hold them.

    Attributes:
        tuned: the parameters, and their cross-validation.
        study: frontiers of mixing, of the strategy and of the tuned strategy on the evaluation
            split, over the same budgets.
        budgets: `[P]` mean costs, in the table's cost unit.
        policies: one a budget, of the tuned parameters where these replace the plain ones.
    """

    view: ClassVar[str] = "tuning"

    tuned: Tuned
    study: Study
    budgets: Float[np.ndarray, " P"]
    policies: tuple[Policy, ...]

    def policy(self, budget: float) -> Policy:
        """The policy of the highest budget that is no more than this one.

        Raises:
            CascjaxError: every budget tuned for is more.
        """
        within = np.flatnonzero(self.budgets <= budget * (1 + _SLACK))
        if not len(within):
            raise CascjaxError(
                f"no policy keeps within {budget:g}: the lowest budget tuned for is"
                f" {self.budgets[0]:.6g}"
            )
        return self.policies[within[-1]]


def tune(
    table: Table,
    strategy: str | Strategy,
    *,
    budgets: int | Sequence[float] | Float[np.ndarray, " P"] | None = None,
    folds: int | None = None,
    estimates: str | None = None,
    noise: str | tuple[float, float, float, float] = "low",
    max_depth: int = 5,
    seed: int = 0,
    resamples: int = 0,
    confidence: float = 0.95,
    run: SearchRun | None = None,
) -> Tuning:
    """Tunes a strategy on the fit split and scores it, beside the plain one, on the other.

    Nothing of the evaluation split is seen before the parameters stand.

    Args:
        table: the truth, and the estimates where it has them.
        strategy: thresholding, cascading, cascade-routing or pandora; or a strategy.
        budgets: mean costs wanted, in the table's cost unit, or how many, spread from the
            cheapest to the most expensive single model; by default ten between neighbours on their
            hull.
        folds: parts of the cross-validation, see `cascjax.search.tune.tune`.
        estimates: "supplied" or "noisy"; by default what the table supplies, else noisy.
        noise: level of noisy estimates.
        max_depth: models cascade routing runs on one query at most, where it is named.
        seed: of the noise, the search, the resamples, and of the split where the table has none.
        resamples: of the evaluation queries, for intervals; 0 for none.
        confidence: of the intervals.
        run: where the search keeps its states, and its progress.

    Raises:
        CascjaxError: a budget is out of reach, estimates are learned ones, or what `prepare`,
            `cascjax.search.tune.tune` and `cascjax.compare.frontier` refuse.
    """
    if estimates == "learned":
        raise CascjaxError(
            "tuning corrects estimates that are independent, and learned ones are not: tune on"
            " supplied or noisy ones, or fit a policy on learned ones (cascjax fit)"
        )
    spec = Noisy(noise) if estimates == "noisy" else as_estimates(estimates, table)
    if isinstance(strategy, str):
        deep = "max_depth" in {option.name for option in strategies.STRATEGIES[strategy].options()}
        strategy = strategies.strategy(strategy, **({"max_depth": max_depth} if deep else {}))
    options = RunOptions(sample=max(SAMPLE, table.n_rows))
    ready = prepare(table, strategy, spec, seed=seed, options=options)
    fit_rows, evaluate_rows = split_rows(table, seed)
    table, kind = ready.setup.sort(table), ready.strategy
    estimator = ready.setup.estimates.estimator(table, np.arange(table.n_rows))
    assert isinstance(estimator, Independent)
    single = [mean_rows(of, fit_rows) for of in (table.cost, table.quality)]
    if budgets is None or isinstance(budgets, int):
        at = default_budgets(single[0], single[1], budgets)
    else:
        at = np.unique(np.asarray(budgets, np.float64))
        if not len(at) or not (np.isfinite(at).all() and at[0] > 0):
            raise CascjaxError("budgets must be finite and above 0, and at least one")
    # What cannot succeed fails now, not once the search is done.
    if resamples:
        check_bootstrap(resamples, confidence, len(evaluate_rows))
    reach = fit_budgets(kind, estimator, table, at[:1], rows=fit_rows)
    if budgets is None or isinstance(budgets, int):
        # The cheapest model alone may be out of reach of a strategy that cannot choose it.
        at = np.unique(np.maximum(at, reach.cheapest))
    if at[0] < reach.cheapest * (1 - _SLACK):
        raise CascjaxError(
            f"budget {at[0]:g} is out of reach of {kind.name}: the lowest mean cost it reaches is"
            f" {reach.cheapest:.6g} {table.cost_unit.removesuffix('/query') or 'units'} a query;"
            " choose no less than that"
        )
    found = tune_strategy(
        kind, table, estimator, at, rows=fit_rows, folds=folds, seed=seed, run=run
    )
    corrected = found.estimator(estimator)
    fit = found.fit(estimator, table, at, rows=fit_rows)
    rows = (fit_rows, evaluate_rows)
    sure: Any = {"resamples": resamples, "confidence": confidence, "seed": seed}
    drawn = [frontier(of, table, estimator, *rows, at, **sure) for of in (Mixing(), kind)]
    tuned = frontier(kind, table, corrected, *rows, at, fit=fit, **sure)
    tuned = replace(tuned, strategy=f"{TUNED} {kind.name}", seconds=tuned.seconds + found.seconds)
    frontiers = (*drawn, tuned)
    single = [mean_rows(of, evaluate_rows) for of in (table.cost, table.quality)]
    study = Study(
        frontiers=frontiers,
        models=table.models,
        cost_unit=table.cost_unit,
        single_cost=single[0],
        single_quality=single[1],
        n_fit=len(fit_rows),
        n_evaluate=len(evaluate_rows),
        settings={
            "strategy": kind.name, "estimates": spec.kind, "folds": found.folds,
            "seed": seed,
        } | ({"noise": noise} if spec.simulated else {}),
        resamples=resamples,
        confidence=confidence,
        **differences_of(frontiers, confidence),
    )  # fmt: skip
    best = found.candidates[found.chosen]
    record = {
        "n_fit": len(fit_rows), "tuned": best.name, "folds": found.folds,
        "gain": best.gain, "error": best.error,
    }  # fmt: skip
    made = budget_policies(
        ready, fit, at, found.estimator(estimator.take(fit_rows)), scale=found.scale,
        offset=found.offset, record=record,
    )  # fmt: skip
    return Tuning(found, study, at, made)
