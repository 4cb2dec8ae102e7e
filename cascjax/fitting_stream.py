"""Policies fitted on files larger than memory; see `streamed`."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from cascjax.comparison import strategies_named
from cascjax.comparison_stream import asked, begun, learned_from, settled_by
from cascjax.data.source import Stream
from cascjax.engine.cases import Case, choose_cases, sum_cases
from cascjax.engine.passes import SAMPLE, Choice, Job, Settled, refitted
from cascjax.engine.run import Ledger, Progress, Run
from cascjax.errors import CascjaxError
from cascjax.estimators import truth
from cascjax.estimators.learned import check_keepable
from cascjax.fitting import Budget, Prepared, Wanted, check_budget, fit_prepared, kept, mixed
from cascjax.policy import Beliefs, Policy
from cascjax.policy_file import Source
from cascjax.search.rules import COST, Fitted
from cascjax.strategies import Strategy


def fit_stream(
    stream: Stream | str | Path | Sequence[str | Path],
    strategy: str | Strategy,
    *,
    budget: Budget | None = None,
    quality: float | int | None = None,
    parameter: float | int | Sequence[float] | Float[np.ndarray, "*D"] | None = None,
    confidence: float | None = None,
    new_queries: float | int | None = None,
    estimates: str | None = None,
    noise: str | tuple[float, float, float, float] = "low",
    learner: str = "logistic",
    folds: int = 5,
    cost_model: str | None = None,
    ridge: float | None = 1.0,
    sigma_scale: float | str = "auto",
    max_depth: int = 5,
    seed: int = 0,
    sample: int = SAMPLE,
    ledger: Ledger | None = None,
    progress: Progress = lambda doing, rows: None,
) -> Policy:
    """As `cascjax.fit`, on files larger than memory.

    Where the sample holds all rows to fit on, the policy is that of the table in memory. Where it
    does not, a budget of the table's own cost is met on all rows to fit on, by a second reading;
    anything else is fitted on the sample alone, and the policy's record says so.

    Args:
        stream: the files, opened or as `open_stream` takes them.
        strategy: what to fit, or its name.
        budget: see `cascjax.fit`; so are the rest, but for these.
        quality: see there.
        parameter: see there.
        confidence: see there.
        new_queries: see there.
        estimates: "supplied", "noisy" or "learned"; by default what the files supply, else noisy.
        noise: see there.
        learner: see there.
        folds: see there.
        cost_model: see there.
        ridge: see there.
        sigma_scale: see there.
        max_depth: see there.
        seed: of the noise, the folds, the sample, and of the split where the files have none.
        sample: rows to fit on that settings are looked for on, and estimates learned from, at most.
        ledger: where to keep what is done; by default nowhere.
        progress: see `cascjax.comparison_stream.compare_stream`.

    Raises:
        CascjaxError: what `cascjax.fit` and `compare_stream` refuse.
    """
    wanted = Wanted(budget, quality, parameter, None, confidence, new_queries)
    wanted.check()
    kinds = strategies_named([strategy], max_depth)
    if estimates == "learned" and kinds[0].sees_truth:
        estimates = None  # it is shown none
    if estimates == "learned":
        check_keepable(learner)
    job = asked(
        stream, kinds, estimates=estimates, noise=noise, learner=learner, folds=folds,
        cost_model=cost_model, ridge=ridge, sigma_scale=sigma_scale, max_depth=max_depth, seed=seed,
        sample=sample, budgets=_own_budget(wanted),
    )  # fmt: skip
    if isinstance(budget, Mapping) and set(budget) - {COST}:
        job = replace(job, more=("extra_costs",))
    run = begun(job, ledger, progress)
    settled = settled_by(job, run)
    choices = []
    if not settled.exact and job.budgets is not None and confidence is None:
        choices = choose_cases([Case(job, settled)], run)
    # What the settings were found with, so that it is looked for once.
    ready = _prepared(
        job, settled, choices[0][0].sigma_scale if choices else settled.known.sigma_scale
    )
    record: dict[str, Any] = {"n_fit": int(settled.count[0]), "split": job.split}
    if ready.learned is not None:
        record |= ready.learned.settings() | {"sigma_scale": ready.learned.sigma_scale}
        record["notes"] += learned_from(settled)
    if not settled.exact:
        record["sample"] = len(settled.sample)
        if not choices:
            record["notes"] = [
                *record.get("notes", ()),
                f"fitted on a sample of {len(settled.sample):,} of {settled.count[0]:,} rows",
            ]
    if choices:
        policy = _on_all_rows(job, settled, choices, ready, record, run)
    else:
        doing = f"fitting {ready.strategy.name}"
        policy = fit_prepared(ready, wanted, record, functools.partial(progress, doing))
    means = policy.mean_costs.copy()
    means[0] = settled.cost[0]
    sigma = policy.sigma if settled.known.sigma is None else settled.known.sigma
    if ready.strategy.sees_truth:
        sigma = policy.sigma
    return replace(policy, mean_costs=means, sigma=sigma, fingerprint=job.stream.fingerprint())


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


def _prepared(job: Job, settled: Settled, sigma_scale: float | None) -> Prepared:
    """The sample, made ready for a fit."""
    strategy, table, every = job.strategies[0], settled.table, np.arange(len(settled.sample))
    costs = (COST, *sorted(table.extra_costs))
    means = [table.extra_costs[name].mean(0, dtype=np.float64) for name in costs[1:]]
    more = tuple(np.broadcast_to(mean.astype(np.float32), table.cost.shape) for mean in means)
    found = None
    if strategy.sees_truth:
        source, estimator = Source("truth", None, job.seed), truth(table)
        more = tuple(table.extra_costs[name] for name in costs[1:])
    elif (found := settled.known.learned) is not None:
        found = kept(found, strategy, table, every, sigma_scale, job.seed)
        source, estimator = Source("learned", None, job.seed), found.estimator
    else:
        estimator = settled.known.estimates(table, settled.sample)
        noisy = job.estimates == "noisy"
        source = Source("noisy" if noisy else "supplied", job.noise if noisy else None, job.seed)
    none = np.zeros(0, np.int64)
    return Prepared(strategy, table, every, none, source, Beliefs(estimator, more), costs, found)


def _on_all_rows(
    job: Job,
    settled: Settled,
    choices: Sequence[Sequence[Choice]],
    ready: Prepared,
    record: dict[str, Any],
    run: Run,
) -> Policy:
    """The policy for one budget, from sums over all rows to fit on."""
    ((found,),) = sum_cases([Case(job, settled)], choices, run)
    assert found.fit is not None
    budgets = settled.budgets
    fit = refitted(choices[0][0].settings, found.fit.means(), budgets, settled.quality[0])
    check_budget(fit, budgets, ready.strategy.name, job.stream.cost_unit)
    rule = replace(
        mixed(fit.parameters[0], fit.gamma[0]),
        fitted=Fitted(
            n_fit=int(settled.count[0]),
            quality=float(fit.quality[0]),
            cost=(float(fit.cost[0]),),
            budget=(float(budgets[0]),),
            margin=(0.0,),
            reachable=(fit.cheapest, fit.most_expensive),
        ),
    )
    return ready.policy(rule, record=record)
