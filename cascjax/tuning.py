"""Tuning: from a source to tuned policies, and their frontier beside the plain one."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from cascjax.comparison import Study, compare_job, draw_frontiers, study_of
from cascjax.data.source import Paths, Source, as_source
from cascjax.engine.jobs import prepare, start_run
from cascjax.engine.options import RunOptions
from cascjax.engine.passes import Candidates, Job, Setup, search_candidates
from cascjax.errors import CascjaxError
from cascjax.estimators import Estimator, Independent
from cascjax.estimators.specs import EstimatesSpec
from cascjax.fitting import FitData, budget_policies, check_budget
from cascjax.metrics import Grid
from cascjax.metrics import budgets as default_budgets
from cascjax.metrics.bootstrap import check_bootstrap
from cascjax.policy import Policy
from cascjax.results import Result
from cascjax.search.budgets import SLACK, fit_budgets
from cascjax.search.tune import SAMPLE, SearchRun, Tuned, search_of
from cascjax.search.tune import tune as tune_strategy
from cascjax.strategies import Strategy
from cascjax.strategies import strategy as named_strategy

TUNED = "tuned"  # Prefix of a strategy's name once it is tuned


@dataclass(frozen=True, repr=False, eq=False)
class Tuning(Result):
    """Tuned parameters of one strategy, their frontier, and policies that hold them.

    Attributes:
        tuned: the parameters, and their cross-validation.
        study: frontiers of mixing, of the strategy and of the tuned strategy on the evaluation
            split, over the same budgets.
        budgets: `[P]` mean costs, in the cost unit of the source.
        policies: one per budget, with the tuned parameters where they replace the plain ones.

    Example:
      >>> import cascjax as cj
      >>> from cascjax import synthetic
      >>> table = synthetic.sample(synthetic.make_dataset(3), 0, 400)
      >>> tuning = cj.tune(table, "thresholding", budgets=3)
      >>> tuning.study.frontiers[-1].strategy
      'tuned thresholding'
    """

    view: ClassVar[str] = "tuning"

    tuned: Tuned
    study: Study
    budgets: Float[np.ndarray, " P"]
    policies: tuple[Policy, ...]

    def policy(self, budget: float) -> Policy:
        """Return the policy of the highest budget that is no more than this one."""
        within = np.flatnonzero(self.budgets <= budget * (1 + SLACK))
        if not len(within):
            raise CascjaxError(
                f"no policy keeps within {budget:g}: the lowest budget tuned for is"
                f" {self.budgets[0]:.6g}"
            )
        return self.policies[within[-1]]


def tune(
    source: Source | Paths,
    strategy: str | Strategy,
    estimates: EstimatesSpec | Estimator | str | None = None,
    *,
    budgets: int | Sequence[float] | Float[np.ndarray, " P"] | None = None,
    folds: int | None = None,
    resamples: int = 0,
    confidence: float = 0.95,
    seed: int = 0,
    grid: Grid = "full",
    options: RunOptions = RunOptions(),
) -> Tuning:
    """Tune a strategy on the fit split and score it, beside the plain one, on the evaluation split.

    Tuned parameters replace the plain ones only if their out-of-fold gain exceeds its standard
    error, on the same queries.

    Up to 8,192 rows of the sample of the fit split are tuned on; nothing of the evaluation split
    is looked at before. An interrupt (KeyboardInterrupt) of a search with a checkpoint ends the
    search: what it has found so far is scored and returned, and `Tuning.tuned.interrupted` is set.
    The same call with `resume=True` then continues the search.

    Args:
        source: a `Table`, the files of `cascjax.open`, or anything that function opens.
        strategy: thresholding, cascading, cascade-routing or pandora, by name or as an instance.
        estimates: `Supplied()`, `Noisy()`, or an `Independent` estimator of all rows. By default
            supplied estimates.
        budgets: mean costs per query in the cost unit of the source, or how many, spread from the
            cheapest to the most expensive single model; by default 20, and the models on the hull.
        folds: number of folds of the cross-validation that decides whether tuned parameters
            replace the plain ones; by default 20, or 5 for strategies that are slow to simulate.
        resamples: number of bootstrap resamples of the evaluation rows for intervals; 0 for none.
        confidence: confidence of the intervals, between 0 and 1.
        seed: seed of noise, search, sample and resamples, and of the split if the source has none.
        grid: what AUC is taken on, as in `compare`.
        options: how the job runs: checkpoint, sample, progress.

    Returns:
        The tuned parameters, frontiers of mixing, the plain and the tuned strategy, and a policy
        per budget.

    Raises:
        CascjaxError: a strategy with nothing to tune; estimates that are not independent; a budget
            out of reach; too few rows for the folds or the intervals; or what `compare` refuses.

    Example:
        >>> from cascjax import synthetic
        >>> table = synthetic.sample(synthetic.make_dataset(3), 0, 500)
        >>> tuning = tune(table, "thresholding", budgets=3, folds=2)
        >>> [frontier.strategy for frontier in tuning.study.frontiers]
        ['mixing', 'thresholding', 'tuned thresholding']
    """
    source = as_source(source)
    job = compare_job(
        source, [strategy], estimates, resamples=resamples, seed=seed, sample=options.sample,
        columns=("extra_costs",), grid=grid,
    )  # fmt: skip
    kind = job.strategies[0]
    search_of(kind)  # refuses a strategy with nothing to tune
    if job.estimates.kind == "learned":
        raise CascjaxError(
            "tuning corrects independent estimates, and learned ones are not: tune on supplied or"
            " noisy estimates, or fit a policy on learned ones"
        )
    given = None
    if not (budgets is None or isinstance(budgets, int)):
        given = np.unique(np.asarray(budgets, np.float64))
    if given is not None and not (len(given) and np.isfinite(given).all() and given[0] > 0):
        raise CascjaxError("budgets must be finite and above 0, and at least one")
    if resamples:
        check_bootstrap(resamples, confidence, source.n_rows)
    asked = budgets if given is None else given.tolist()
    run = start_run(job, options, {"tune": [asked, folds, confidence]})
    setup = prepare(job, run)
    if resamples:
        check_bootstrap(resamples, confidence, int(setup.count[1]))
    estimator = setup.estimator()
    if not isinstance(estimator, Independent):
        raise CascjaxError("tuning needs independent estimates: supplied or noisy ones")
    at = _budgets(job, setup, estimator, budgets if given is None else given)  # pyright: ignore[reportArgumentType]
    setup = replace(setup, budgets=at)
    search = SearchRun(run.checkpoint, lambda step, steps: options.progress("tuning", 1))
    tuned = tune_strategy(
        kind, setup.table, estimator, at, folds=folds, seed=seed,
        sample=min(SAMPLE, options.sample), run=search,
    )  # fmt: skip
    job = replace(job, strategies=(named_strategy("mixing"), kind, kind))
    candidates = (
        *(search_candidates(setup, each, estimator, seed) for each in job.strategies[:2]),
        replace(
            _tuned_candidates(tuned, setup, estimator, seed),
            correction=(tuned.scale, tuned.offset),
        ),
    )
    # Another pass if the search was interrupted: its parameters are others once it is resumed.
    part = f"-{len(tuned.candidates):02d}"
    fits, frontiers = draw_frontiers(job, setup, candidates, run, confidence, part)
    frontiers[-1] = replace(
        frontiers[-1],
        strategy=f"{TUNED} {kind.name}",
        seconds=frontiers[-1].seconds + tuned.seconds,
    )
    settings = {"strategy": kind.name, "folds": tuned.folds, "seed": seed}
    settings = job.estimates.record() | setup.estimates.record() | settings
    study = study_of(job, setup, frontiers, settings, confidence)
    best, data = tuned.candidates[tuned.chosen], FitData.from_setup(job, setup, kind)
    record = data.record() | {
        "tuned": best.name, "folds": tuned.folds, "gain": best.gain, "error": best.error
    }  # fmt: skip
    policies = budget_policies(
        data, fits[-1], at, tuned.estimator(estimator),
        scale=tuned.scale, offset=tuned.offset, record=record,
    )  # fmt: skip
    return Tuning(tuned, study, at, policies)


def _budgets(
    job: Job,
    setup: Setup,
    estimator: Independent,
    budgets: int | Float[np.ndarray, " P"] | None,
) -> Float[np.ndarray, " P"]:
    """Return the budgets to tune for, all within reach of the strategy."""
    kind = job.strategies[0]
    at = budgets
    if not isinstance(at, np.ndarray):
        at = default_budgets(setup.cost[0], setup.quality[0], at, grid=setup.grid or "full")
    check_budget(
        fit_budgets(kind, estimator, setup.table, at[:1]), at[:1], kind.name, job.source.cost_unit
    )
    return at


def _tuned_candidates(tuned: Tuned, setup: Setup, estimator: Independent, seed: int) -> Candidates:
    """Return the settings of the tuned strategy that are summed over all rows."""
    if tuned.settings is None:
        return search_candidates(setup, tuned.strategy, tuned.estimator(estimator), seed)
    if not setup.exact:
        return Candidates(tuned.settings)
    fit = tuned.fit(estimator, setup.table, setup.budgets)
    return Candidates(fit.settings(), fit=fit)
