"""Policies fitted on files larger than memory; see `streamed`."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float

from cascjax.comparison import compare_job, strategies_named
from cascjax.data.source import Paths, Source, as_source
from cascjax.engine.jobs import find_candidates, prepare, start_run, sum_candidates
from cascjax.engine.options import RunOptions
from cascjax.engine.passes import Candidates, Job, Setup, describe_split, fit_totals
from cascjax.engine.run import Run
from cascjax.errors import CascjaxError
from cascjax.estimators import Estimator, truth
from cascjax.estimators.learned import check_keepable
from cascjax.estimators.specs import (
    EstimatesSpec,
    FittedLearned,
    FittedNoisy,
    FittedSupplied,
    Learned,
    Noisy,
)
from cascjax.fitting import Budget, Prepared, Wanted, check_budget, fit_prepared, kept, mixed
from cascjax.policy import Beliefs, Policy
from cascjax.policy_file import Source as Origin
from cascjax.search.rules import COST, Fitted
from cascjax.strategies import Strategy


def fit_stream(
    source: Source | Paths,
    strategy: str | Strategy,
    estimates: EstimatesSpec | Estimator | str | None = None,
    *,
    budget: Budget | None = None,
    quality: float | int | None = None,
    parameter: float | int | Sequence[float] | Float[np.ndarray, "*D"] | None = None,
    confidence: float | None = None,
    new_queries: float | int | None = None,
    seed: int = 0,
    options: RunOptions = RunOptions(),
) -> Policy:
    """Fit a policy on files; see `cascjax.fit`.

    Raises:
        CascjaxError: what `cascjax.fit` and `cascjax.compare` refuse.
    """
    wanted = Wanted(budget, quality, parameter, None, confidence, new_queries)
    wanted.check()
    kinds = strategies_named([strategy])
    if estimates == "learned" or isinstance(estimates, Learned):
        if kinds[0].sees_truth:
            estimates = None  # it does not use them
        elif isinstance(estimates, Learned):
            check_keepable(estimates.estimator)
    more = ("extra_costs",) if isinstance(budget, Mapping) and set(budget) - {COST} else ()
    job = compare_job(
        as_source(source), kinds, estimates, seed=seed, sample=options.sample,
        budgets=_own_budget(wanted), columns=more,
    )  # fmt: skip
    run = start_run(job, options)
    setup = prepare(job, run)
    candidates = []
    if not setup.exact and job.budgets is not None and confidence is None:
        candidates = find_candidates(job, setup, run)
    # What the settings were found with, so that it is looked for once.
    ready = _prepared(
        job, setup, candidates[0].sigma_scale if candidates else setup.estimates.sigma_scale
    )
    record: dict[str, Any] = {
        "n_fit": int(setup.count[0]), "split": describe_split(job.source),
    }  # fmt: skip
    if ready.learned is not None:
        record |= setup.estimates.record() | {"sigma_scale": ready.learned.sigma_scale}
    if not setup.exact:
        record["sample"] = len(setup.rows)
        if not candidates:
            record["notes"] = [
                *record.get("notes", ()),
                f"fitted on a sample of {len(setup.rows):,} of {setup.count[0]:,} rows",
            ]
    if candidates:
        policy = _on_all_rows(job, setup, candidates, ready, record, run)
    else:
        doing = f"fitting {ready.strategy.name}"
        policy = fit_prepared(ready, wanted, record, functools.partial(options.progress, doing))
    means = policy.mean_costs.copy()
    means[0] = setup.cost[0]
    sigma = getattr(setup.estimates, "sigma", None)
    if sigma is None or ready.strategy.sees_truth:
        sigma = policy.sigma
    return replace(policy, mean_costs=means, sigma=sigma, fingerprint=job.source.fingerprint())


def _own_budget(wanted: Wanted) -> list[float] | None:
    """The budget of the table's own cost, where that alone is limited."""
    budget = wanted.budget
    named = budget if isinstance(budget, Mapping) else {COST: budget}
    if budget is None or set(named) != {COST}:
        return None
    value = named[COST]
    if not isinstance(value, int | float | np.number) or not 0 < float(value) < np.inf:
        raise CascjaxError("budget must be finite and above 0, for each cost it names")
    return [float(value)]


def _prepared(job: Job, setup: Setup, sigma_scale: float | None) -> Prepared:
    """Return the sample, made ready for a fit."""
    strategy, table, every = job.strategies[0], setup.table, np.arange(len(setup.rows))
    costs = (COST, *sorted(table.extra_costs))
    means = [table.extra_costs[name].mean(0, dtype=np.float64) for name in costs[1:]]
    more = tuple(np.broadcast_to(mean.astype(np.float32), table.cost.shape) for mean in means)
    result, estimates = None, setup.estimates
    if strategy.sees_truth:
        origin, estimator = Origin("truth", None, job.seed), truth(table)
        more = tuple(table.extra_costs[name] for name in costs[1:])
    elif isinstance(estimates, FittedLearned):
        result = kept(estimates.result, strategy, table, every, sigma_scale, job.seed)
        origin, estimator = Origin("learned", None, job.seed), result.estimator
    else:
        assert isinstance(estimates, FittedNoisy | FittedSupplied)
        estimator = setup.estimator()
        noise = job.estimates.sigmas if isinstance(job.estimates, Noisy) else None
        origin = Origin("supplied" if noise is None else "noisy", noise, job.seed)
    none = np.zeros(0, np.int64)
    return Prepared(strategy, table, every, none, origin, Beliefs(estimator, more), costs, result)


def _on_all_rows(
    job: Job,
    setup: Setup,
    candidates: Sequence[Candidates],
    ready: Prepared,
    record: dict[str, Any],
    run: Run,
) -> Policy:
    """Return the policy for one budget, from sums over all fit rows."""
    (totals,) = sum_candidates(job, setup, candidates, run)
    budgets = setup.budgets
    fit = fit_totals(candidates[0], totals, budgets, setup.quality[0])
    check_budget(fit, budgets, ready.strategy.name, job.source.cost_unit)
    rule = replace(
        mixed(fit.parameters[0], fit.gamma[0]),
        fitted=Fitted(
            n_fit=int(setup.count[0]),
            quality=float(fit.quality[0]),
            cost=(float(fit.cost[0]),),
            budget=(float(budgets[0]),),
            margin=(0.0,),
            reachable=(fit.cheapest, fit.most_expensive),
        ),
    )
    return ready.policy(rule, record=record)
