"""Policies for a budget, a target of quality, or parameters given."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from cascjax.data.table import Table, mean_rows, split_rows
from cascjax.errors import CascjaxError, too_few, unknown_name
from cascjax.estimators import (
    Independent,
    LearnedEstimates,
    check_kind,
    learned,
    noise_level,
    noisy,
    supplied,
    truth,
)
from cascjax.estimators.independent import check_estimator
from cascjax.policy import Beliefs, Policy, fingerprint, spent
from cascjax.policy_file import Source
from cascjax.search.budgets import Fit, Seen, fit_budgets, fit_targets
from cascjax.search.confidence import Spread, check_fit_confidence
from cascjax.search.costs import Pool, UnreachableError, fit_costs
from cascjax.search.rules import COST, Fitted, Rule
from cascjax.search.sigma_scale import check_sigma_scale, with_sigma_scale
from cascjax.strategies import CascadeRouting, Frugal, Strategy, strategy
from cascjax.strategies.base import Priced
from cascjax.words import counted

_ROUNDS = 12
"""Times at most that a margin is read off settings found; three as a rule."""

_CLOSE = 1e-3
"""Share of a margin that it may be off."""

_SLACK = 1e-5
"""What sums of float32 costs and printed digits may miss a budget or target by."""

_BINDING = 1e-4
"""A budget of which a smaller share is left is used up."""

_Means = tuple[float, Float[np.ndarray, " R"]]
"""Mean quality and costs, nan where a cost is not known yet."""

_Found = tuple[Rule, _Means, tuple[float, float] | None]
"""A rule, what it gives, and the reachable costs where one cost was fitted."""

Budget = float | int | Mapping[str, float | int]
Progress = Callable[[int], None]


@dataclass(frozen=True)
class Prepared:
    """A table made ready for a fit: its models in order, its rows split, its queries estimated.

    Attributes:
        strategy: what is fitted.
        table: models in rising mean cost on the rows to fit on.
        fit_rows: rows to fit on.
        evaluate_rows: rows to score on.
        source: where the estimates come from.
        beliefs: what the strategy is shown.
        costs: R names, the table's own cost first.
        learned: where estimates are learned, all there is to them: rows to fit on are shown those
            of weights not fitted on them, and the policy keeps the weights fitted on all of them.
    """

    strategy: Strategy
    table: Table
    fit_rows: Int[np.ndarray, " n"]
    evaluate_rows: Int[np.ndarray, " m"]
    source: Source
    beliefs: Beliefs
    costs: tuple[str, ...]
    learned: LearnedEstimates | None = None

    @functools.cached_property
    def fingerprint(self) -> str:
        """What the table is known by."""
        return fingerprint(self.table)

    def policy(self, rule: Rule, **more: Any) -> Policy:
        """The policy of a rule found here; `more` are fields of `Policy`."""
        table, estimator = self.table, self.beliefs.estimator
        units = dict(table.extra_cost_units)
        if not isinstance(estimator, Independent):
            # Of estimates that move with what has run, that of the first query before anything has.
            first = jax.jit(lambda these: these(jnp.zeros((1, table.n_models), bool)).variance)
            variance = np.asarray(first(estimator.take(slice(0, 1))), np.float64)
            sigma = np.sqrt(variance.clip(0))
        else:
            sigma = np.asarray(estimator.sigma, np.float64)
            if len(sigma) > 1:
                sigma = np.sqrt(mean_rows(sigma, self.fit_rows, transform=np.square))
        return Policy(
            strategy=self.strategy,
            models=table.models,
            rule=rule,
            sigma=sigma.reshape(-1),
            mean_costs=_mean_costs(table, self.costs, self.fit_rows),
            costs=self.costs,
            cost_units=(table.cost_unit, *(units.get(name, "") for name in self.costs[1:])),
            source=self.source,
            fingerprint=self.fingerprint,
            learned=None if self.learned is None else self.learned.model,
            **more,
        )


def prepare(
    table: Table,
    kind: str | Strategy,
    *,
    estimates: str | None = None,
    noise: str | tuple[float, float, float, float] = "low",
    learner: str = "logistic",
    folds: int = 5,
    cost_model: str | None = None,
    ridge: float | None = 1.0,
    sigma_scale: float | str = "auto",
    max_depth: int = 5,
    seed: int = 0,
) -> Prepared:
    """Splits a table, puts its models in order and estimates its queries.

    Args:
        table: the truth, and the estimates where it has them.
        kind: the strategy, or its name.
        estimates: "supplied", "noisy" or "learned"; by default what the table supplies, else noisy.
        noise: level of noisy estimates.
        learner: of learned estimates, see `cascjax.estimators.learned`; so are `folds`,
            `cost_model` and `ridge`.
        folds: of their cross-fitting.
        cost_model: what their costs are told from.
        ridge: what their squared weights cost.
        sigma_scale: scale on their sigmas, or "auto", see `cascjax.search.sigma_scale`.
        max_depth: models cascade routing or frugal runs on one query at most, where it is named.
        seed: of the noise, the folds, and of the split where the table has none.

    Raises:
        CascjaxError: an unknown name, a table without model names, missing estimates, an empty
            split, or a learner that refuses the table or whose estimates cannot be kept.
    """
    if len(table.models) != table.n_models:
        raise CascjaxError(
            f"the table names {counted(len(table.models), 'model')} and has"
            f" {table.n_models}; give it `models`, a name for each"
        )
    if isinstance(kind, str):
        deep = kind in (CascadeRouting.name, Frugal.name)
        kind = strategy(kind, **({"max_depth": max_depth} if deep else {}))
    check_kind(estimates)
    level, scale = noise_level(noise), check_sigma_scale(sigma_scale)
    fit_rows, evaluate_rows = split_rows(table, seed)
    table = table.sort_models(mean_rows(table.cost, fit_rows))
    kind.footprint(table.n_models)  # refuses too many models, before the work
    costs = (COST, *sorted(table.extra_costs))
    if estimates is None:
        estimates = "noisy" if table.quality_ante is None else "supplied"
    if kind.sees_truth:
        source, estimator = Source("truth", None, seed), truth(table)
        more = tuple(table.extra_costs[name] for name in costs[1:])
        return Prepared(
            kind, table, fit_rows, evaluate_rows, source, Beliefs(estimator, more), costs
        )
    found = None
    if estimates == "learned":
        found = learned(
            table, fit_rows,
            estimator=learner, folds=folds, seed=seed, cost_model=cost_model, ridge=ridge,
        )  # fmt: skip
        check_estimator(found.estimator, table)
        found = kept(found, kind, table, fit_rows, scale, seed)
        source, estimator = Source("learned", None, seed), found.estimator
    elif estimates == "supplied":
        source, estimator = Source("supplied", None, seed), supplied(table, fit_rows)
    else:
        source = Source("noisy", level, seed)
        estimator = noisy(table, jax.random.key(seed), level)
    check_estimator(estimator, table)
    means = _mean_costs(table, costs, fit_rows).astype(np.float32)
    more = tuple(np.broadcast_to(mean, table.cost.shape) for mean in means[1:])
    return Prepared(
        kind, table, fit_rows, evaluate_rows, source, Beliefs(estimator, more), costs, found
    )  # fmt: skip


def kept(
    found: LearnedEstimates,
    strategy: Strategy,
    table: Table,
    rows: Int[np.ndarray, " n"],
    sigma_scale: float | None,
    seed: int,
) -> LearnedEstimates:
    """Return the learned estimates a policy keeps, at the strategy's best sigma scale.

    Args:
        found: what was learned.
        strategy: what will be shown it.
        table: the truth.
        rows: to fit on.
        sigma_scale: see `cascjax.search.sigma_scale.with_sigma_scale`.
        seed: see there.

    Raises:
        CascjaxError: a policy cannot keep it.
    """
    found.model  # noqa: B018  (refuses what cannot be kept, before the work)
    estimator, believed = with_sigma_scale(
        strategy, table, found.estimator, rows, sigma_scale, seed
    )
    return replace(found, estimator=estimator, sigma_scale=believed)


def fit(
    table: Table,
    strategy: str | Strategy,
    *,
    budget: Budget | None = None,
    quality: float | int | None = None,
    parameter: float | int | Sequence[float] | Float[np.ndarray, "*D"] | None = None,
    group_budgets: Mapping[str, Budget] | None = None,
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
    progress: Progress = lambda queries: None,
) -> Policy:
    """Finds the parameters of a strategy on the fit split of a table, ready to deploy.

    Exactly one of `budget`, `quality` and `parameter` says what is wanted. A budget is met with
    something left where it is above the most expensive mean cost the strategy reaches, or where a
    cheaper setting gives clearly more: quality need not rise with cost.

    Args:
        table: the truth, and the estimates where it has them.
        strategy: what to fit, or its name.
        budget: mean cost allowed, in the table's cost unit; or the mean of each cost named,
            "cost" being the table's own. Costs that are not named are not limited.
        quality: mean quality wanted, at the least mean cost.
        parameter: lambda, or tau for thresholding, or one a step; for frugal a chain in binary and
            tau: taken as it is.
        group_budgets: budgets of the rows of a group, by its name; these are fitted by themselves,
            and all other rows share `budget`. If there are none, that is fitted on all.
        confidence: probability that each mean cost of new queries keeps within its budget, and
            all of them at once (Bonferroni); see `cascjax.search.confidence`.
        new_queries: how many new queries that is said of; by default as many as are fitted on.
            May be `math.inf`. Of these a group has its share.
        estimates: see `prepare`.
        noise: see `prepare`.
        learner: see `prepare`.
        folds: see `prepare`.
        cost_model: see `prepare`.
        ridge: see `prepare`.
        sigma_scale: see `prepare`.
        max_depth: see `prepare`.
        seed: see `prepare`.
        progress: called with the number of queries of each block simulated.

    Raises:
        CascjaxError: what is wanted is nonsense, names a cost or group that the table lacks, or is
            out of reach; there are too few queries for the confidence; or what `prepare` refuses.
    """
    wanted = Wanted(budget, quality, parameter, group_budgets, confidence, new_queries)
    wanted.check()
    ready = prepare(
        table, strategy, estimates=estimates, noise=noise, learner=learner, folds=folds,
        cost_model=cost_model, ridge=ridge, sigma_scale=sigma_scale, max_depth=max_depth, seed=seed,
    )  # fmt: skip
    record: dict[str, Any] = {
        "n_fit": len(ready.fit_rows),
        "split": "drawn by seed" if table.split is None else "of the table",
    }
    if ready.learned is not None:
        record |= ready.learned.settings() | {"sigma_scale": ready.learned.sigma_scale}
    return fit_prepared(ready, wanted, record, progress)


def fit_prepared(
    ready: Prepared,
    wanted: "Wanted",
    record: dict[str, Any],
    progress: Progress = lambda queries: None,
) -> Policy:
    """The policy for what is wanted, found on rows made ready; see `fit`.

    Args:
        ready: the rows.
        wanted: what for, checked.
        record: what is to be said of it beside that.
        progress: see `fit`.

    Raises:
        CascjaxError: see `fit`.
    """
    search = _Search(ready, wanted.confidence, wanted.new_queries, progress)
    record = dict(record)
    if wanted.quality is not None:
        target = float(wanted.quality)
        rule, record["quality"] = search.at_quality(target), target
        return ready.policy(rule, record=record)
    if wanted.parameter is not None:
        given = np.asarray(wanted.parameter, np.float32)
        record["parameter"] = given.tolist()
        return ready.policy(search.given(given), record=record)
    assert wanted.budget is not None
    budgets = {"": search.budgets("budget", wanted.budget)}
    for name, of in (wanted.group_budgets or {}).items():
        budgets[name] = search.budgets(f"the budget of group {name!r}", of)
    rows = _rows_of(ready, tuple(wanted.group_budgets or ()))
    # Of several promises each must be safer, for all to be kept at once.
    promises = sum(int(np.isfinite(of).sum()) for of in budgets.values())
    if wanted.confidence is not None:
        record |= {"confidence": wanted.confidence}
        record["new_queries"] = _json_number(wanted.new_queries)
    rules: dict[str, Rule] = {}
    for name, of in budgets.items():
        try:
            rules[name] = search.within(of, rows[name], promises)
        except CascjaxError as error:
            if not name:
                raise
            raise CascjaxError(f"group {name!r}: {error}") from error
    return ready.policy(rules.pop(""), group_rules=rules, record=record)


@dataclass(frozen=True)
class Wanted:
    """What a policy is fitted for; the fields are arguments of `fit`."""

    budget: Budget | None = None
    quality: float | int | None = None
    parameter: float | int | Sequence[float] | Float[np.ndarray, "*D"] | None = None
    group_budgets: Mapping[str, Budget] | None = None
    confidence: float | None = None
    new_queries: float | int | None = None

    def check(self) -> None:
        """Refuses what is nonsense whatever the table.

        Raises:
            CascjaxError: it is.
        """
        asked = [
            name for name in ("budget", "quality", "parameter") if getattr(self, name) is not None
        ]
        if len(asked) != 1:
            given = " and ".join(asked) or "none"
            raise CascjaxError(f"give exactly one of budget, quality and parameter, not {given}")
        if self.budget is None and (self.confidence is not None or self.group_budgets):
            what = (
                "confidence is that of a budget"
                if self.confidence is not None
                else "groups have budgets of their own"
            )
            raise CascjaxError(f"{what}: give a budget instead of {asked[0]}")
        if self.new_queries is not None and (self.confidence is None or not self.new_queries >= 1):
            raise CascjaxError("new_queries must be at least 1, and goes with a confidence")


@dataclass
class _Asked:
    """What was simulated of some queries: budgets a margin apart ask for nearly the same again.

    Attributes:
        rows: the queries.
        alone: settings, where the first cost alone is limited.
        pools: settings by which other costs are limited.
        outcomes: quality `[n]` and costs `[R, n]` of each query under the settings of the last rule
            looked at, by the bytes of a setting and of its prices.
    """

    rows: Int[np.ndarray, " n"]
    alone: Seen = field(default_factory=Seen)
    pools: dict[tuple[int, ...], Pool] = field(default_factory=dict)
    outcomes: dict[tuple[bytes, bytes], tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Search:
    """Rules for what was asked for."""

    ready: Prepared
    confidence: float | None
    new_queries: float | int | None
    progress: Progress

    def budgets(self, what: str, budget: Budget) -> Float[np.ndarray, " R"]:
        """A budget a cost, infinite where there is none."""
        costs = self.ready.costs
        named = budget if isinstance(budget, Mapping) else {COST: budget}
        if not all(isinstance(of, int | float | np.number) for of in named.values()):
            raise CascjaxError(f"{what} must be a number, or one for each cost it names")
        for name in named:
            if name not in costs:
                raise unknown_name("cost", name, costs)
        if not named or not all(0 < float(of) < math.inf for of in named.values()):
            raise CascjaxError(f"{what} must be finite and above 0, for each cost it names")
        return np.array([float(named.get(name, math.inf)) for name in costs])

    def within(
        self, budgets: Float[np.ndarray, " R"], rows: Int[np.ndarray, " n"], promises: int
    ) -> Rule:
        """The rule of highest quality within all budgets, or within as much less as is safe."""
        nothing, asked = np.zeros(len(budgets)), _Asked(rows)
        if self.confidence is None:
            return self._fitted(*self._within(budgets, asked), asked, budgets, nothing)
        check_fit_confidence(self.confidence, len(rows))
        safe = 1 - (1 - self.confidence) / promises
        m = self._new_queries(len(rows))
        limited = np.isfinite(budgets)
        # Out of reach even without a margin: no number of queries is the way out of that.
        self._within(budgets, asked)

        def margins(rule: Rule) -> Float[np.ndarray, " R"]:
            spreads = self._spreads(rule, asked)
            found = [spread.margin(len(rows), m, safe) for spread in spreads]
            return np.where(limited, found, 0)

        # The margin is that of the settings it leads to: a fixed point, looked for by going on from
        # the last, and by halves once one that is safe and one that is not are known.
        wanted, margin, kept, exceeded = budgets, np.zeros(len(budgets)), None, None
        for _ in range(_ROUNDS):
            try:
                found = self._within(wanted, asked)
                margin = margins(found[0])
            except UnreachableError as error:
                # A rule of little cost varies little: maybe its margin still fits.
                margin, wanted = margins(error.rule), error.nearest * (1 + _SLACK)
                if ((wanted + margin)[limited] > budgets[limited]).any():
                    raise self._too_few(error, budgets, asked, safe) from error
                found = self._within(wanted, asked)
            room = np.where(limited, budgets - np.where(limited, wanted, 0), 0)
            if (margin <= room * (1 + _CLOSE)).all():
                kept = wanted, found, room
                if (margin >= room * (1 - _CLOSE)).all():
                    break
            else:
                exceeded = wanted
            if kept is not None and exceeded is not None:
                wanted = np.where(limited, (kept[0] + exceeded) / 2, np.inf)
            else:
                wanted = budgets - margin
        if kept is None:  # every round came closer from above, the last to a hair
            kept = wanted, self._within(wanted, asked), np.where(limited, margin, 0)
        return self._fitted(*kept[1], asked, budgets, kept[2])

    def at_quality(self, target: float) -> Rule:
        """The rule of least mean cost that reaches the target."""
        ready, rows = self.ready, self.ready.fit_rows
        if not math.isfinite(target):
            raise CascjaxError(f"quality must be a number, not {target}")
        found = fit_targets(
            ready.strategy, ready.beliefs.priced(None), ready.table, np.array([target]),
            self.progress, rows=rows,
        )  # fmt: skip
        if found.reach[0] < 0 and found.best < target - _SLACK * abs(target):
            raise CascjaxError(
                f"quality {target:g} is out of reach of {ready.strategy.name}: the highest mean"
                f" quality it reaches is {found.best:.6g}; choose no more than that"
            )
        rule = mixed(found.parameters[0], found.gamma[0])
        reachable = (found.cheapest, found.most_expensive)
        nothing = np.zeros(len(ready.costs))
        return self._fitted(
            rule, self._means(found), reachable, _Asked(rows), nothing + np.inf, nothing
        )

    def given(self, parameter: Float[np.ndarray, "*D"]) -> Rule:
        """The rule of one setting."""
        if parameter.ndim > 1 or not parameter.size or not np.isfinite(parameter).all():
            raise CascjaxError("parameter must be a number, or one a step, all finite")
        if isinstance(self.ready.strategy, Priced) and parameter.min() < 0:
            name = self.ready.strategy.name
            raise CascjaxError(
                f"parameter of {name} must not be negative, as {parameter.min():g} is: it is the"
                " price of cost; choose 0 where cost is no object"
            )
        rule = Rule(parameter[None], np.ones(1))
        nothing = np.zeros(len(self.ready.costs))
        self.ready.policy(rule)  # refuses what is no parameter of the strategy
        return self._fitted(
            rule, None, None, _Asked(self.ready.fit_rows), nothing + np.inf, nothing
        )

    def _within(self, budgets: Float[np.ndarray, " R"], asked: _Asked) -> _Found:
        """A rule, its mean quality and costs, and the reachable costs.

        Raises:
            UnreachableError: there is none.
        """
        ready = self.ready
        limited = np.flatnonzero(np.isfinite(budgets))
        if limited.tolist() != [0]:
            key = tuple(limited.tolist())
            if key not in asked.pools:
                asked.pools[key] = Pool(
                    ready.strategy, ready.beliefs, ready.table, ready.costs, asked.rows, limited,
                    self.progress,
                )  # fmt: skip
            rule, quality, cost = fit_costs(asked.pools[key], budgets)
            # A cost whose budget does not bind has no price, unless it is what keeps it so.
            binds = limited[cost[limited] >= budgets[limited] * (1 - _BINDING)]
            if 0 < len(binds) < len(limited):
                alone = np.full(len(budgets), np.inf)
                alone[binds] = budgets[binds]
                found = self._within(alone, asked)
                other = np.where(np.isfinite(alone), np.inf, budgets)
                _, costs = self._outcomes(found[0], asked)
                if (costs.mean(2) @ found[0].weights <= other * (1 + _SLACK)).all():
                    return found
            return rule, (quality, cost), None
        found = fit_budgets(
            ready.strategy, ready.beliefs.priced(None), ready.table, budgets[:1], self.progress,
            rows=asked.rows, spare=True, seen=asked.alone,
        )  # fmt: skip
        check_budget(found, budgets, ready.strategy.name, ready.table.cost_unit)
        rule = mixed(found.parameters[0], found.gamma[0])
        return rule, self._means(found), (found.cheapest, found.most_expensive)

    def _means(self, found: Fit, p: int = 0) -> _Means:
        cost = np.full(len(self.ready.costs), np.nan)
        cost[0] = found.cost[p]
        return float(found.quality[p]), cost

    def _spreads(self, rule: Rule, asked: _Asked) -> list[Spread]:
        return [Spread.of(cost, rule.weights) for cost in self._outcomes(rule, asked)[1]]

    def _outcomes(
        self, rule: Rule, asked: _Asked
    ) -> tuple[Float[np.ndarray, "M n"], Float[np.ndarray, "R M n"]]:
        """Quality and costs of each query under each setting of a rule."""
        ready, prices = self.ready, rule.prices
        keys = [
            (of.tobytes(), b"" if prices is None else prices[m].tobytes())
            for m, of in enumerate(rule.parameters)
        ]
        new = [m for m, key in enumerate(keys) if key not in asked.outcomes]
        if new:
            some = Rule(
                rule.parameters[new], rule.weights[new], None if prices is None else prices[new]
            )
            found = spent(
                ready.strategy, some, ready.beliefs, ready.table, asked.rows, ready.costs,
                self.progress,
            )  # fmt: skip
            for i, m in enumerate(new):
                asked.outcomes[keys[m]] = found.quality[i], found.cost[:, i]
        # Those of the last rule alone: they take room.
        asked.outcomes = {key: asked.outcomes[key] for key in keys}
        quality, cost = zip(*(asked.outcomes[key] for key in keys), strict=True)
        return np.stack(quality), np.stack(cost, axis=1)

    def _new_queries(self, n: int) -> float | int:
        if self.new_queries is None:
            return n
        return self.new_queries * n / len(self.ready.fit_rows)

    def _too_few(
        self,
        error: UnreachableError,
        budgets: Float[np.ndarray, " R"],
        asked: _Asked,
        safe: float,
    ) -> CascjaxError:
        """What to say where a budget can be met, but not safely."""
        rule, n = error.rule, len(asked.rows)
        m = None if self.new_queries is None else self._new_queries(n)
        needed, new = 0, 0
        for r, spread in enumerate(self._spreads(rule, asked)):
            if np.isfinite(budgets[r]):
                room = float(budgets[r] - error.nearest[r])
                more, of_new = spread.queries_needed(n, m, safe, room)
                needed = None if more is None or needed is None else max(needed, more)
                new = max(new, of_new or 0)
        cause = (
            f"{too_few(n)} for confidence {self.confidence:g}: the budget less its"
            f" margin falls below {error.what}"
        )
        if needed is None and (not new or self.new_queries is None):
            return CascjaxError(f"{cause}; no number of them is enough: raise the budget")
        if needed is None:
            return CascjaxError(
                f"{cause}; no number of them is enough for {self.new_queries:,.0f} new queries, but"
                f" for about {new:,} it is; or raise the budget"
            )
        return CascjaxError(f"{cause}; about {max(needed, n + 1):,} are needed, or a larger budget")

    def _fitted(
        self,
        rule: Rule,
        means: _Means | None,
        reachable: tuple[float, float] | None,
        asked: _Asked,
        budgets: Float[np.ndarray, " R"],
        margin: Float[np.ndarray, " R"],
    ) -> Rule:
        """The rule with what it gave on its rows."""
        quality, cost = means or (math.nan, np.full(len(budgets), np.nan))
        if np.isnan(cost).any():
            got, costs = self._outcomes(rule, asked)
            # What the search found stands: rounding may tell a query at the brink another way.
            quality = float(rule.weights @ got.mean(1)) if means is None else quality
            cost = np.where(np.isnan(cost), costs.mean(2) @ rule.weights, cost)
        return replace(
            rule,
            fitted=Fitted(
                n_fit=len(asked.rows),
                quality=quality,
                cost=tuple(cost.tolist()),
                budget=tuple(b if b < math.inf else None for b in budgets.tolist()),
                margin=tuple(margin.tolist()),
                reachable=reachable,
            ),
        )


def policies(
    ready: Prepared,
    found: Fit,
    budgets: Float[np.ndarray, " P"],
    estimator: Independent,
    **more: Any,
) -> tuple[Policy, ...]:
    """A policy for each of P budgets of the table's own cost, from settings found for them.

    Args:
        ready: the table they were found on.
        found: the settings.
        budgets: what they were found for.
        estimator: the estimates they were found with, corrected where the policy corrects them.
        more: further fields of `Policy`.
    """
    believed = replace(ready, beliefs=replace(ready.beliefs, estimator=estimator))
    search = _Search(believed, None, None, lambda queries: None)
    limits = np.full((len(budgets), len(ready.costs)), np.inf)
    limits[:, 0] = budgets
    reachable, asked = (found.cheapest, found.most_expensive), _Asked(ready.fit_rows)
    others = np.full(len(ready.costs) - 1, np.nan)  # seen when the settings are simulated
    rules = (
        search._fitted(
            mixed(found.parameters[p], found.gamma[p]),
            (float(found.quality[p]), np.append(found.cost[p], others)),
            reachable,
            asked,
            limits[p],
            np.zeros(len(ready.costs)),
        )
        for p in range(len(budgets))
    )
    return tuple(ready.policy(rule, **more) for rule in rules)


def check_budget(
    found: Fit, budgets: Float[np.ndarray, " R"], strategy: str, cost_unit: str
) -> None:
    """Refuses a budget of the first cost, and of no other, below the cheapest within reach.

    Raises:
        UnreachableError: it is.
    """
    if budgets[0] < found.cheapest * (1 - _SLACK):
        unit = cost_unit.removesuffix("/query") or "units"
        least = f"{found.cheapest:.6g} {unit} a query"
        raise UnreachableError(
            f"budget {budgets[0]:g} is out of reach of {strategy}: the lowest mean"
            f" cost it reaches is {least}; choose no less than that",
            f"the lowest mean cost within reach, {least}",
            np.append(found.cheapest, np.full(len(budgets) - 1, np.inf)),
            mixed(found.parameters[0], 0.0),
        )


def mixed(parameters: Float[np.ndarray, "2 *D"], gamma: float) -> Rule:
    """The rule of a cheap and a expensive neighbour; of one alone where it takes all queries."""
    weights = np.array([1 - gamma, gamma])
    if np.array_equal(parameters[0], parameters[1]):
        weights = np.array([1.0, 0.0])
    used = weights > 0
    return Rule(parameters[used], weights[used])


def _rows_of(ready: Prepared, groups: tuple[str, ...]) -> dict[str, Int[np.ndarray, " n"]]:
    """Rows to fit each group on, by its name; under "" all others."""
    table, rows = ready.table, ready.fit_rows
    if not groups:
        return {"": rows}
    if table.group is None:
        raise CascjaxError("the table has no column 'group', so groups have no budgets; bring it")
    found, rest = {}, np.ones(len(rows), bool)
    for name in groups:
        if not name:
            raise CascjaxError("a group without a name has no budget of its own; name the group")
        if name not in table.groups:
            raise unknown_name("group", name, table.groups)
        of = table.group[rows] == table.groups.index(name)
        if not of.any():
            raise CascjaxError(f"group {name!r} has no row to fit on: leave its budget out")
        found[name], rest = rows[of], rest & ~of
    return {"": rows[rest] if rest.any() else rows} | found


def _mean_costs(
    table: Table, costs: tuple[str, ...], rows: Int[np.ndarray, " n"]
) -> Float[np.ndarray, "R K"]:
    truths = (table.cost, *(table.extra_costs[name] for name in costs[1:]))
    return np.stack([mean_rows(of, rows) for of in truths])


def _json_number(value: float | int | None) -> float | int | str | None:
    return "infinite" if value is not None and math.isinf(value) else value
