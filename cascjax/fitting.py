"""Fit a strategy: a policy for a budget, for a target of quality, or for given parameters.

The policy is searched on a sample of the fit split. If the sample is not the whole fit split, one
budget of the column cost is then met on all fit rows by a second pass; anything else holds on the
sample, and the policy's record says so.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from cascjax.comparison import compare_job
from cascjax.data.source import Paths, Source, as_source
from cascjax.data.table import Table, mean_rows
from cascjax.engine.jobs import find_candidates, prepare, start_run, sum_candidates
from cascjax.engine.options import RunOptions
from cascjax.engine.passes import Job, Setup, describe_split, fit_totals, split_fingerprint
from cascjax.errors import CascjaxError, check_name, too_few
from cascjax.estimators import Estimator, Independent, truth
from cascjax.estimators.specs import EstimatesSpec
from cascjax.policy import Policy
from cascjax.search.budgets import SLACK, Fit, SettingsCache, fit_budgets, fit_targets
from cascjax.search.confidence import Spread, check_fit_confidence
from cascjax.search.costs import Pool, UnreachableError, fit_costs
from cascjax.search.rules import (
    COST,
    CostEstimates,
    Fitted,
    Rule,
    cost_column,
    simulate_rule,
)
from cascjax.search.sigma_scale import with_sigma_scale
from cascjax.strategies import Strategy
from cascjax.strategies import strategy as strategy_named
from cascjax.strategies.base import Priced

_ROUNDS = 12  # Maximum number of times that a margin is computed from settings; three as a rule
_CLOSE = 1e-3  # Relative error of a margin that is tolerated
_BINDING = 1e-4  # Share of a budget that may be left over where the budget still counts as used up

Budget: TypeAlias = float | int | Mapping[str, float | int]

_Means: TypeAlias = tuple[float, Float[np.ndarray, " R"]]
"""Mean quality and costs, NaN where a cost is not known yet."""

_Solution: TypeAlias = tuple[Rule, _Means | None, tuple[float, float] | None]
"""A rule, its means if they are known, and the reachable costs if a single cost was fitted."""


@dataclass(frozen=True)
class Confidence:
    """Probability that mean costs of new queries keep within their budgets.

    Args:
        level: the probability, above 0.5 and below 1, for all budgets at once (Bonferroni).
        new_queries: number of new queries, of which a group has its share; may be `math.inf`. By
            default as many as are fitted on.

    Example:
        >>> Confidence(0.95, new_queries=10_000).level
        0.95
    """

    level: float
    new_queries: float | int | None = None


@dataclass(frozen=True)
class Target:
    """Define what a policy is fitted for; the fields are arguments of `fit`."""

    budget: Budget | None = None
    quality: float | int | None = None
    parameter: float | int | Sequence[float] | Float[np.ndarray, "*D"] | None = None
    group_budgets: Mapping[str, Budget] | None = None
    confidence: float | None = None
    new_queries: float | int | None = None

    def __post_init__(self) -> None:
        given = [n for n in ("budget", "quality", "parameter") if getattr(self, n) is not None]
        if len(given) != 1:
            names = " and ".join(given) or "none"
            raise CascjaxError(f"give exactly one of budget, quality and parameter, not {names}")
        for name in ("confidence", "group_budgets"):
            if self.budget is None and getattr(self, name):
                raise CascjaxError(f"{name} needs a budget: give a budget instead of {given[0]}")
        if self.new_queries is not None and not self.new_queries >= 1:
            raise CascjaxError("new_queries must be at least 1")

    @property
    def own_budget(self) -> float | None:
        """The budget of the column cost, if nothing else is limited."""
        named = self.budget if isinstance(self.budget, Mapping) else {COST: self.budget}
        value = named.get(COST)
        if len(named) > 1 or self.group_budgets or self.confidence is not None:
            return None
        if not isinstance(value, int | float | np.number) or not 0 < float(value) < math.inf:
            return None
        return float(value)


@dataclass(frozen=True)
class FitData:
    """Rows that a strategy is fitted on, and their estimates with the chosen sigma scale."""

    strategy: Strategy
    job: Job
    setup: Setup
    estimates: CostEstimates
    sigma_scale: float = 1.0

    @classmethod
    def from_setup(
        cls, job: Job, setup: Setup, strategy: Strategy, sigma_scale: float | None = None
    ) -> "FitData":
        """Return the sample with the estimates that the strategy decides by.

        The sigma scale is chosen if neither the argument nor the estimates give it.
        """
        table, every = setup.table, np.arange(len(setup.rows))
        if strategy.sees_truth:
            extra = tuple(table.extra_costs[name] for name in sorted(table.extra_costs))
            return cls(strategy, job, setup, CostEstimates(truth(table), extra))
        if sigma_scale is None:
            sigma_scale = setup.estimates.sigma_scale
        estimator, sigma_scale = with_sigma_scale(
            strategy, table, setup.estimator(), every, sigma_scale, job.seed
        )
        means = [mean_rows(table.extra_costs[name]) for name in sorted(table.extra_costs)]
        extra = tuple(np.broadcast_to(mean.astype(np.float32), table.cost.shape) for mean in means)
        return cls(strategy, job, setup, CostEstimates(estimator, extra), sigma_scale)

    @property
    def table(self) -> Table:
        """The sample of the fit split."""
        return self.setup.table

    @property
    def rows(self) -> Int[np.ndarray, " m"]:
        """`[m]` positions of all rows of the sample."""
        return np.arange(len(self.setup.rows))

    @property
    def costs(self) -> tuple[str, ...]:
        """R names, the column cost first."""
        return (COST, *sorted(self.table.extra_costs))

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of the source with the models in rising mean cost."""
        return split_fingerprint(self.job.source.select_models(self.setup.models))

    def record(self) -> dict[str, Any]:
        """Return what a policy's record says about the rows and the estimates."""
        setup = self.setup
        record: dict[str, Any] = {
            "n_fit": int(setup.count[0]), "split": describe_split(self.job.source),
        }  # fmt: skip
        if not self.strategy.sees_truth and (learned := setup.estimates.record()):
            record |= learned | {"sigma_scale": self.sigma_scale}
        return record if setup.exact else record | {"sample": len(setup.rows)}

    def policy(self, rule: Rule, **more: Any) -> Policy:
        """Return the policy of a rule; `more` are fields of `Policy`."""
        source, table, oracle = self.job.source, self.table, self.strategy.sees_truth
        fitted = self.setup.estimates
        learned = None if oracle or fitted.model is None else fitted.model.scaled(self.sigma_scale)
        truths = [cost_column(table, name) for name in self.costs[1:]]
        mean_costs = np.stack([self.setup.cost[0], *map(mean_rows, truths)])
        units = dict(source.extra_cost_units)
        return Policy(
            strategy=self.strategy,
            models=self.setup.models,
            rule=rule,
            sigma=_mean_sigma(self.estimates.estimator, table.n_models),
            mean_costs=mean_costs,
            costs=self.costs,
            cost_units=(source.cost_unit, *(units.get(name, "") for name in self.costs[1:])),
            estimates_spec=None if oracle else fitted.spec or self.job.estimates,
            seed=self.job.seed,
            fingerprint=self.fingerprint,
            learned=learned,
            **more,
        )


def _mean_sigma(estimator: Estimator, n_models: int) -> Float[np.ndarray, " K"]:
    """Return the root mean square of sigma before any model has run, for estimates live."""
    if isinstance(estimator, Independent):
        sigma = np.asarray(estimator.sigma, np.float64)
        return sigma[0] if len(sigma) == 1 else np.sqrt(mean_rows(sigma, None, transform=np.square))
    # Estimates that move with what has run: of the first query, before anything has run.
    first = jax.jit(lambda these: these(jnp.zeros((1, n_models), bool)).variance)
    variance = np.asarray(first(estimator.take(slice(0, 1))), np.float64)
    return np.sqrt(variance.clip(0))[0]


def fit(
    source: Source | Paths,
    strategy: str | Strategy,
    estimates: EstimatesSpec | Estimator | str | None = None,
    *,
    budget: Budget | None = None,
    quality: float | int | None = None,
    parameter: float | int | Sequence[float] | Float[np.ndarray, "*D"] | None = None,
    group_budgets: Mapping[str, Budget] | None = None,
    confidence: float | Confidence | None = None,
    seed: int = 0,
    options: RunOptions = RunOptions(),
) -> Policy:
    """Return a policy: the strategy with parameters fitted on the fit split, ready to deploy.

    Give exactly one of `budget`, `quality` and `parameter`. The policy mixes two settings of the
    strategy, or models alone, that are neighbours on their upper hull. Part of a budget is left
    over if no setting, at any cost, has a higher quality.

    Args:
        source: a table, files, or what `cascjax.open` takes.
        strategy: the strategy, or its name.
        estimates: `Supplied`, `Noisy`, `Learned`, their names, or an estimator of all rows; by
            default supplied if the source has them, else learned if it has features, signals,
            answers or groups.
        budget: mean cost allowed, in the source's cost unit; or the mean of each cost by name,
            "cost" being the column cost. Costs that are not named are not limited.
        quality: mean quality wanted, at the lowest mean cost.
        parameter: the parameter to use: lambda, or tau for thresholding, or one number per step;
            for frugal a chain in binary and tau.
        group_budgets: budgets of the rows of a group, by its name. Each group is fitted by itself,
            and all other rows share `budget`; if there are none, `budget` is fitted on all rows.
        confidence: probability that mean costs of new queries keep within their budgets; or a
            `Confidence`, which also says how many new queries there are.
        seed: seed of noise, folds and sample, and of the split if the source has none.
        options: how the job runs.

    Returns:
        The policy. Its rules have `fitted`, their means on the rows they were fitted on.

    Raises:
        CascjaxError: the target is invalid, names a cost or group that the source lacks, or is
            out of reach; there are too few queries for the confidence; or the source cannot be
            read or cannot give the estimates.

    Example:
        >>> from cascjax import synthetic
        >>> table = synthetic.sample(synthetic.make_dataset(3, seed=0), 0, 200)
        >>> fit(table, "routing", quality=0.5).strategy
        Routing()
    """
    new = confidence.new_queries if isinstance(confidence, Confidence) else None
    level = confidence.level if isinstance(confidence, Confidence) else confidence
    target = Target(budget, quality, parameter, group_budgets, level, new)
    own = target.own_budget
    columns = ("extra_costs", "group") if group_budgets else ("extra_costs",)
    kind = strategy_named(strategy) if isinstance(strategy, str) else strategy
    # The oracle sees the truth: no estimates are made for it.
    job = compare_job(
        as_source(source), kind, None if kind.sees_truth else estimates,
        budgets=None if own is None else (own,), seed=seed, sample=options.sample, columns=columns,
    )  # fmt: skip
    job.estimates.check_policy()
    run = start_run(job, options)
    setup = prepare(job, run)
    if setup.exact or own is None:
        data = FitData.from_setup(job, setup, kind)
        search = _Search(data, target, functools.partial(options.progress, f"fitting {kind.name}"))
        return search.policy()
    (candidates,) = find_candidates(job, setup, run)
    (totals,) = sum_candidates(job, setup, [candidates], run)
    means = fit_totals(kind, candidates, totals, setup.budgets)
    data = FitData.from_setup(job, setup, kind, candidates.sigma_scale)
    limits = np.append(setup.budgets, np.full(len(data.costs) - 1, np.inf))
    check_budget(means, limits, kind.name, job.source.cost_unit)
    estimator, record = data.estimates.estimator, data.record()
    (policy,) = budget_policies(data, means, setup.budgets, estimator, record=record)
    # The budget is met on all fit rows; the other costs are those of the sample.
    assert policy.rule.fitted is not None
    fitted = replace(policy.rule.fitted, n_fit=record["n_fit"])
    return replace(policy, rule=replace(policy.rule, fitted=fitted))


@dataclass
class _Simulated:
    """Simulations of some queries, reused by searches for budgets one margin apart.

    Settings are kept by the costs that are limited, and the quality `[n]` and costs `[R, n]` of
    every query under the settings of the last rule by the bytes of a setting and of its prices.
    """

    data: FitData
    rows: Int[np.ndarray, " n"]
    progress: Callable[[int], None] = lambda queries: None
    alone: SettingsCache = field(default_factory=SettingsCache)
    pools: dict[tuple[int, ...], Pool] = field(default_factory=dict)
    kept: dict[tuple[bytes, bytes], tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    def best(self, budgets: Float[np.ndarray, " R"]) -> _Solution:
        """Return the best rule within budgets; raise UnreachableError if there is none."""
        data = self.data
        limited = np.flatnonzero(np.isfinite(budgets))
        if limited.tolist() == [0]:
            fit = fit_budgets(
                data.strategy, data.estimates.weighed(None), data.table, budgets[:1],
                self.progress, rows=self.rows, cache=self.alone,
            )  # fmt: skip
            check_budget(fit, budgets, data.strategy.name, data.table.cost_unit)
            return _solution(fit, len(budgets))
        key = tuple(limited.tolist())
        if key not in self.pools:
            self.pools[key] = Pool(
                data.strategy, data.estimates, data.table, data.costs, self.rows, limited,
                self.progress,
            )  # fmt: skip
        rule, quality, cost = fit_costs(self.pools[key], budgets)
        # A cost whose budget does not bind has no price, unless its price is what keeps it so.
        binds = limited[cost[limited] >= budgets[limited] * (1 - _BINDING)]
        if 0 < len(binds) < len(limited):
            alone = np.full(len(budgets), np.inf)
            alone[binds] = budgets[binds]
            solution = self.best(alone)
            other = np.where(np.isfinite(alone), np.inf, budgets)
            _, costs = self.outcomes(solution[0])
            if (costs.mean(2) @ solution[0].weights <= other * (1 + SLACK)).all():
                return solution
        return rule, (quality, cost), None

    def outcomes(self, rule: Rule) -> tuple[Float[np.ndarray, "M n"], Float[np.ndarray, "R M n"]]:
        """Return quality and costs of each query under each setting of a rule."""
        data, prices, kept = self.data, rule.prices, self.kept
        keys = [
            (setting.tobytes(), b"" if prices is None else prices[m].tobytes())
            for m, setting in enumerate(rule.parameters)
        ]
        new = [m for m, key in enumerate(keys) if key not in kept]
        if new:
            part = Rule(
                rule.parameters[new], rule.weights[new], None if prices is None else prices[new]
            )
            outcome = simulate_rule(
                data.strategy, part, data.estimates, data.table, self.rows, data.costs,
                self.progress,
            )  # fmt: skip
            for i, m in enumerate(new):
                kept[keys[m]] = outcome.quality[i], outcome.cost[:, i]
        # Only those of the last rule: they take memory.
        self.kept = {key: kept[key] for key in keys}
        quality, cost = zip(*self.kept.values(), strict=True)
        return np.stack(quality), np.stack(cost, axis=1)

    def spreads(self, rule: Rule) -> list[Spread]:
        """Return the spread of each cost under a rule."""
        return [Spread.from_costs(cost, rule.weights) for cost in self.outcomes(rule)[1]]

    def fitted(
        self,
        solution: _Solution,
        budgets: Float[np.ndarray, " R"] | None = None,
        margin: Float[np.ndarray, " R"] | None = None,
    ) -> Rule:
        """Return the rule of a solution with its means on the rows; by default without budgets."""
        rule, means, reachable = solution
        n_costs = len(self.data.costs)
        quality, cost = means or (math.nan, np.full(n_costs, np.nan))
        if np.isnan(cost).any():
            qualities, costs = self.outcomes(rule)
            # The search's numbers stand: rounding may decide a query at a threshold differently.
            quality = float(rule.weights @ qualities.mean(1)) if means is None else quality
            cost = np.where(np.isnan(cost), costs.mean(2) @ rule.weights, cost)
        limits = np.full(n_costs, np.inf) if budgets is None else budgets
        fitted = Fitted(
            n_fit=len(self.rows),
            quality=quality,
            cost=tuple(cost.tolist()),
            budget=tuple(b if b < math.inf else None for b in limits.tolist()),
            margin=tuple((np.zeros(n_costs) if margin is None else margin).tolist()),
            reachable=reachable,
        )
        return replace(rule, fitted=fitted)


@dataclass(frozen=True)
class _Search:
    """The search for the rules of a target on the sample."""

    data: FitData
    target: Target
    progress: Callable[[int], None] = lambda queries: None

    def policy(self) -> Policy:
        """Return the policy of the target."""
        data, target, record = self.data, self.target, self.data.record()
        if not data.setup.exact:
            note = f"fitted on a sample of {len(data.rows):,} of {data.setup.count[0]:,} fit rows"
            record["notes"] = [*record.get("notes", ()), note]
        if target.quality is not None:
            record["quality"] = float(target.quality)
            return data.policy(self.at_quality(record["quality"]), record=record)
        if target.parameter is not None:
            given = np.asarray(target.parameter, np.float32)
            record["parameter"] = given.tolist()
            return data.policy(self.given(given), record=record)
        assert target.budget is not None
        groups = target.group_budgets or {}
        budgets = {"": self.limits("budget", target.budget)}
        budgets |= {g: self.limits(f"the budget of group {g!r}", b) for g, b in groups.items()}
        rows = _group_rows(data, tuple(groups))
        # Of several promises each must be safer, for all to be kept at once.
        promises = sum(int(np.isfinite(limits).sum()) for limits in budgets.values())
        if target.confidence is not None:
            m = target.new_queries
            infinite = m is not None and math.isinf(m)
            record |= {"confidence": target.confidence}
            record["new_queries"] = "infinite" if infinite else m
        rules: dict[str, Rule] = {}
        for name, limits in budgets.items():
            try:
                rules[name] = self.within(limits, rows[name], promises)
            except CascjaxError as error:
                if not name:
                    raise
                raise CascjaxError(f"group {name!r}: {error}") from error
        return data.policy(rules.pop(""), group_rules=rules, record=record)

    def limits(self, what: str, budget: Budget) -> Float[np.ndarray, " R"]:
        """Return one budget per cost, infinite where there is none."""
        costs = self.data.costs
        named = budget if isinstance(budget, Mapping) else {COST: budget}
        if not all(isinstance(value, int | float | np.number) for value in named.values()):
            raise CascjaxError(f"{what} must be a number, or one number for each cost it names")
        for name in named:
            check_name("cost", name, costs)
        if not named or not all(0 < float(value) < math.inf for value in named.values()):
            raise CascjaxError(f"{what} must be finite and above 0, for each cost it names")
        return np.array([float(named.get(name, math.inf)) for name in costs])

    def within(
        self, budgets: Float[np.ndarray, " R"], rows: Int[np.ndarray, " n"], promises: int
    ) -> Rule:
        """Return the rule of highest quality within all budgets, less a margin if one is due."""
        simulated, level = _Simulated(self.data, rows, self.progress), self.target.confidence
        if level is None:
            return simulated.fitted(simulated.best(budgets), budgets)
        check_fit_confidence(level, len(rows))
        safe, m = 1 - (1 - level) / promises, self._new_queries(len(rows))
        limited = np.isfinite(budgets)
        # Out of reach even without a margin: then more queries would not help.
        simulated.best(budgets)

        def margins(rule: Rule) -> Float[np.ndarray, " R"]:
            spreads = simulated.spreads(rule)
            return np.where(limited, [s.margin(len(rows), m, safe) for s in spreads], 0)

        # The margin depends on the settings it leads to: a fixed point, iterated from the last
        # margin, and by bisection once one that is safe and one that is not are known.
        wanted, margin, kept, exceeded = budgets, np.zeros(len(budgets)), None, None
        for _ in range(_ROUNDS):
            try:
                solution = simulated.best(wanted)
                margin = margins(solution[0])
            except UnreachableError as error:
                # A rule of low cost varies little: its margin may still fit.
                margin, wanted = margins(error.rule), error.nearest * (1 + SLACK)
                if ((wanted + margin)[limited] > budgets[limited]).any():
                    raise self._too_few(error, budgets, simulated, safe) from error
                solution = simulated.best(wanted)
            room = np.where(limited, budgets - np.where(limited, wanted, 0), 0)
            if (margin <= room * (1 + _CLOSE)).all():
                kept = wanted, solution, room
                if (margin >= room * (1 - _CLOSE)).all():
                    break
            else:
                exceeded = wanted
            if kept is not None and exceeded is not None:
                wanted = np.where(limited, (kept[0] + exceeded) / 2, np.inf)
            else:
                wanted = budgets - margin
        if kept is None:  # every round came closer from above, the last very close
            kept = wanted, simulated.best(wanted), np.where(limited, margin, 0)
        return simulated.fitted(kept[1], budgets, kept[2])

    def at_quality(self, quality: float) -> Rule:
        """Return the rule of lowest mean cost that reaches a mean quality."""
        data = self.data
        if not math.isfinite(quality):
            raise CascjaxError(f"quality must be a finite number, not {quality}")
        fit = fit_targets(
            data.strategy, data.estimates.weighed(None), data.table, np.array([quality]),
            self.progress, rows=data.rows,
        )  # fmt: skip
        if fit.reach[0] < 0 and fit.best < quality - SLACK * abs(quality):
            raise CascjaxError(
                f"quality {quality:g} is out of reach of {data.strategy.name}: the highest mean"
                f" quality it reaches is {fit.best:.6g}; choose no more than that"
            )
        return _Simulated(data, data.rows, self.progress).fitted(_solution(fit, len(data.costs)))

    def given(self, parameter: Float[np.ndarray, "*D"]) -> Rule:
        """Return the rule of one setting."""
        if parameter.ndim > 1 or not parameter.size or not np.isfinite(parameter).all():
            raise CascjaxError("parameter must be one number, or one per step, all finite")
        if isinstance(self.data.strategy, Priced) and parameter.min() < 0:
            name = self.data.strategy.name
            raise CascjaxError(
                f"parameter of {name} must not be negative, as {parameter.min():g} is: it is the"
                " price of cost; choose 0 where cost is no object"
            )
        rule = Rule(parameter[None], np.ones(1))
        rule.check(self.data.strategy, self.data.table.n_models, len(self.data.costs))
        simulated = _Simulated(self.data, self.data.rows, self.progress)
        return simulated.fitted((rule, None, None))

    def _new_queries(self, n: int) -> float | int:
        new = self.target.new_queries
        return n if new is None else new * n / len(self.data.rows)

    def _too_few(
        self,
        error: UnreachableError,
        budgets: Float[np.ndarray, " R"],
        simulated: _Simulated,
        safe: float,
    ) -> CascjaxError:
        """Return the error where a budget can be met, but not safely."""
        n, new_queries = len(simulated.rows), self.target.new_queries
        m = None if new_queries is None else self._new_queries(n)
        needed, new = 0, 0
        for r, spread in enumerate(simulated.spreads(error.rule)):
            if np.isfinite(budgets[r]):
                room = float(budgets[r] - error.nearest[r])
                more, more_new = spread.queries_needed(n, m, safe, room)
                needed = None if more is None or needed is None else max(needed, more)
                new = max(new, more_new or 0)
        cause = (
            f"{too_few(n)} for confidence {self.target.confidence:g}: the budget less its margin"
            f" falls below {error.what}"
        )
        if needed is not None:
            return CascjaxError(
                f"{cause}; about {max(needed, n + 1):,} are needed, or a larger budget"
            )
        if new and new_queries is not None:
            return CascjaxError(
                f"{cause}; no number of them is enough for {new_queries:,.0f} new queries, but for"
                f" about {new:,} it is; or raise the budget"
            )
        return CascjaxError(f"{cause}; no number of them is enough: raise the budget")


def budget_policies(
    data: FitData,
    fit: Fit,
    budgets: Float[np.ndarray, " P"],
    estimator: Estimator,
    **more: Any,
) -> tuple[Policy, ...]:
    """Return a policy for each of P budgets of the column cost, from settings fitted to them.

    The estimator is the one they were fitted with; `more` are further fields of `Policy`.
    """
    corrected = replace(data, estimates=replace(data.estimates, estimator=estimator))
    simulated, policies = _Simulated(corrected, data.rows), []
    for p, budget in enumerate(budgets):
        limits = np.append(budget, np.full(len(data.costs) - 1, np.inf))
        rule = simulated.fitted(_solution(fit, len(limits), p), limits)
        policies.append(data.policy(rule, **more))
    return tuple(policies)


def check_budget(fit: Fit, budgets: Float[np.ndarray, " R"], strategy: str, cost_unit: str) -> None:
    """Refuse a budget of the first cost alone below the lowest mean cost within reach."""
    if budgets[0] < fit.cheapest * (1 - SLACK):
        unit = cost_unit.removesuffix("/query") or "units"
        least = f"{fit.cheapest:.6g} {unit} per query"
        raise UnreachableError(
            f"budget {budgets[0]:g} is out of reach of {strategy}: the lowest mean"
            f" cost it reaches is {least}; choose no less than that",
            f"the lowest mean cost within reach, {least}",
            np.append(fit.cheapest, np.full(len(budgets) - 1, np.inf)),
            mixed(fit.parameters[0], 0.0),
        )


def _solution(fit: Fit, n_costs: int, p: int = 0) -> _Solution:
    """Return the rule that a fit of the column cost has for a budget, with what is known of it."""
    cost = np.append(fit.cost[p], np.full(n_costs - 1, np.nan))
    means = float(fit.quality[p]), cost
    return mixed(fit.parameters[p], fit.gamma[p]), means, (fit.cheapest, fit.most_expensive)


def mixed(parameters: Float[np.ndarray, "2 *D"], gamma: float) -> Rule:
    """Return the rule of a cheap and an expensive setting, or of one that takes all queries."""
    weights = np.array([1 - gamma, gamma])
    if np.array_equal(parameters[0], parameters[1]):
        weights = np.array([1.0, 0.0])
    used = weights > 0
    return Rule(parameters[used], weights[used])


def _group_rows(data: FitData, groups: tuple[str, ...]) -> dict[str, Int[np.ndarray, " n"]]:
    """Return the rows of each group by its name, and all others under ""."""
    table, rows = data.table, data.rows
    if not groups:
        return {"": rows}
    if table.group is None:
        raise CascjaxError(
            f"{data.job.source.name} has no column 'group', so groups cannot have budgets; add the"
            " column, or leave out group_budgets"
        )
    by_group, rest = {}, np.ones(len(rows), bool)
    for name in groups:
        if not name:
            raise CascjaxError("a group without a name cannot have a budget; name the group")
        check_name("group with fit rows", name, table.groups)
        own = table.group == table.groups.index(name)
        by_group[name], rest = rows[own], rest & ~own
    return {"": rows[rest] if rest.any() else rows} | by_group
