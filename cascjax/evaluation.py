"""What a policy does on a table: mean quality and costs with intervals, and whose answers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from cascjax.data.schema import EXTRA_COST
from cascjax.data.table import EVALUATE, Table, mean_rows, split_rows
from cascjax.errors import CascjaxError
from cascjax.metrics import upper_hull
from cascjax.metrics.bootstrap import (
    check_bootstrap,
    check_confidence,
    interval,
    queries_needed,
    weighted_totals,
)
from cascjax.policy import Beliefs, Policy, fingerprint, spent
from cascjax.search.rules import COST


@dataclass(frozen=True)
class Mean:
    """A mean over queries and the interval it would lie in on other queries of the kind.

    Attributes:
        value: the mean.
        low: lower end of the interval, None where there is none.
        high: upper end.
    """

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Part:
    """What came of some of the queries, in expectation over the settings a rule mixes.

    Attributes:
        n: queries.
        quality: mean quality.
        cost: R mean costs, as `Evaluation.costs`.
        rule: the group whose rule decided, "" for the default.
        budget: R budgets of that rule, None where there is none.
    """

    n: int
    quality: Mean
    cost: tuple[Mean, ...]
    rule: str
    budget: tuple[float | None, ...]


@dataclass(frozen=True)
class Evaluation:
    """What a policy does on n queries; models in the policy's order, R costs.

    Attributes:
        strategy: its name.
        models: K names.
        costs: R names, those of the policy that the table has, then others that it has.
        cost_units: R units.
        total: all queries.
        rules: the queries under each rule of the policy, by the name of its group, "" for the
            default; rules without a query are left out.
        groups: the queries of each group of the table, by name.
        ran: `[K]` share of queries each model ran on.
        answered: `[K]` share of queries each model's answer was returned for.
        depth: `[K]` share of queries on which 1, 2, ..., K models ran.
        single_cost: `[R, K]` mean costs of each model alone.
        single_quality: `[K]` mean quality of each model alone.
        hull_quality: what mixing single models reaches at the same first cost; None where that
            lies below the cheapest model.
        confidence: of the intervals.
        rows: `[n]` the rows of the table.
        quality: `[n]` expected quality of each query.
        cost: `[R, n]` expected costs of each query.
        steps: `[n]` expected number of models run.
        answer: `[n]` the model whose answer is most likely returned.
        unchecked: budgets and rules, in words, that the table lacks a column to hold to.
        target: mean quality the policy was fitted for, if it was.
        foreign: costs of the table that the policy does not know, and so does not limit.
    """

    strategy: str
    models: tuple[str, ...]
    costs: tuple[str, ...]
    cost_units: tuple[str, ...]
    total: Part
    rules: dict[str, Part]
    groups: dict[str, Part]
    ran: Float[np.ndarray, " K"]
    answered: Float[np.ndarray, " K"]
    depth: Float[np.ndarray, " K"]
    single_cost: Float[np.ndarray, "R K"]
    single_quality: Float[np.ndarray, " K"]
    hull_quality: float | None
    confidence: float
    rows: Int[np.ndarray, " n"]
    quality: Float[np.ndarray, " n"]
    cost: Float[np.ndarray, "R n"]
    steps: Float[np.ndarray, " n"]
    answer: Int[np.ndarray, " n"]
    unchecked: tuple[str, ...] = ()
    target: float | None = None
    foreign: tuple[str, ...] = ()

    def verdicts(self) -> list[str]:
        """Each budget or target in words: met, or by how much not, and whether that is chance."""
        found = [] if self.target is None else [self._on_target(self.target)]
        for name, part in self.rules.items():
            where = f"group {name!r}: " if name else ""
            for cost, unit, mean, budget in zip(
                self.costs, self.cost_units, part.cost, part.budget, strict=True
            ):
                if budget is None:
                    continue
                of = f"{where}mean {cost} {mean.value:.6g}{unit and ' ' + unit}"
                over = mean.value / budget - 1
                if over > _SLACK:
                    text = f"{of} is {over:.2%} above the budget of {budget:g}"
                    if mean.low is not None and mean.low <= budget:
                        text += "; the interval reaches down to it, so this may be chance"
                else:
                    text = f"{of} is within the budget of {budget:g}"
                    if mean.high is not None and mean.high > budget * (1 + _SLACK):
                        text += "; other queries may exceed it, for the interval does"
                found.append(text)
        for cost in self.foreign:
            at = self.costs.index(cost)
            unit, mean = self.cost_units[at], self.total.cost[at].value
            found.append(
                f"mean {cost} {mean:.6g}{unit and ' ' + unit} is not limited: the policy was fitted"
                " without this cost"
            )
        return [*found, *self.unchecked]

    def _on_target(self, target: float) -> str:
        mean = self.total.quality
        of, slack = f"mean quality {mean.value:.6g}", _SLACK * abs(target)
        if mean.value < target - slack:
            text = f"{of} is {target - mean.value:.4f} below the target of {target:g}"
            if mean.high is not None and mean.high >= target:
                text += "; the interval reaches up to it, so this may be chance"
            return text
        text = f"{of} reaches the target of {target:g}"
        if mean.low is not None and mean.low < target - slack:
            text += "; other queries may fall below it, for the interval does"
        return text

    def met(self) -> bool:
        """Whether every budget and target is; one that could not be checked is not."""
        target, quality = self.target, self.total.quality.value
        reached = target is None or quality >= target - _SLACK * abs(target)
        kept = all(
            budget is None or mean.value <= budget * (1 + _SLACK)
            for part in self.rules.values()
            for mean, budget in zip(part.cost, part.budget, strict=True)
        )
        return reached and kept and not self.unchecked


_SLACK = 1e-5
"""What sums of float32 costs and printed digits may miss a budget by."""


def evaluate(
    policy: Policy,
    table: Table,
    *,
    rows: Int[np.ndarray, " n"] | None = None,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    progress: Callable[[int], None] = lambda queries: None,
) -> Evaluation:
    """Replays a policy on a table; what it mixes at random counts in expectation.

    Args:
        policy: what to replay; models and groups are matched by name.
        table: the truth, and the estimates where the policy was fitted on such.
        rows: indices of the queries to look at, not a mask; by default those the table's split,
            or that of the policy's fit on this very table, leaves to evaluate on, else all.
        resamples: of the bootstrap behind the intervals; 0 for none. A group of too few queries has
            none.
        confidence: of the intervals.
        seed: of the resamples.
        progress: called with the number of queries of each block simulated.

    Raises:
        CascjaxError: the table lacks a model or the estimates the policy needs, there is no row to
            evaluate on, or no interval to be had of so few queries or resamples.
    """
    table = policy.matched(table)
    rows = _default_rows(policy, table) if rows is None else np.asarray(rows)
    if not len(rows):
        raise CascjaxError("there are no rows to evaluate on: name some, or fix the column 'split'")
    check_confidence(confidence)
    if resamples:
        check_bootstrap(resamples, confidence, len(rows))
    present, foreign, costs = costs_of(policy, tuple(table.extra_costs))
    n = len(rows)
    found = replay(policy, policy.beliefs(table), table, rows, costs, progress)
    rule_of, quality, cost = found.rule_of, found.quality, found.cost
    measured = np.concatenate([quality[None], cost]).T

    def part(of: Int[np.ndarray, " m"], place: int) -> Part:
        means = _means(measured[of], rows[of], resamples, confidence, seed)
        # Queries under several rules have no budget in common.
        alike = not len(of) or bool((rule_of[of] == place).all())
        fitted = policy.rules[place].fitted if alike else None
        budget = [None if fitted is None else fitted.budget[i] for i in present]
        budget += [None] * len(foreign)
        return Part(len(of), means[0], tuple(means[1:]), ("", *policy.groups)[place], tuple(budget))

    by_rule = {place: np.flatnonzero(rule_of == place) for place in range(len(policy.rules))}
    groups = {}
    if table.group is not None:
        for index, name in enumerate(table.groups):
            of = np.flatnonzero(table.group[rows] == index)
            if len(of):
                groups[name] = part(of, int(rule_of[of[0]]))
    truths = [table.cost if name == COST else table.extra_costs[name] for name in costs]
    single_cost = np.stack([mean_rows(of, rows) for of in truths])
    single_quality = mean_rows(table.quality, rows)
    return Evaluation(
        strategy=policy.strategy.name,
        models=policy.models,
        costs=costs,
        cost_units=(
            *(policy.cost_units[i] for i in present),
            *(dict(table.extra_cost_units).get(name, "") for name in foreign),
        ),
        total=part(np.arange(n), 0),
        rules={("", *policy.groups)[p]: part(of, p) for p, of in by_rule.items() if len(of)},
        groups=groups,
        ran=found.ran / n,
        answered=found.answered / n,
        depth=found.depth / n,
        single_cost=single_cost,
        single_quality=single_quality,
        hull_quality=on_hull(single_cost[0], single_quality, float(cost[0].mean())),
        confidence=confidence,
        rows=rows,
        quality=quality,
        cost=cost,
        steps=found.steps,
        answer=found.answer,
        unchecked=unchecked(
            policy,
            tuple(table.extra_costs),
            table.group is not None,
            [place for place, of in by_rule.items() if len(of)],
        ),
        target=target_of(policy),
        foreign=foreign,
    )


def costs_of(
    policy: Policy, extra_costs: Sequence[str]
) -> tuple[list[int], tuple[str, ...], tuple[str, ...]]:
    """Which of a policy's costs a table has, which others, and the names of all of these.

    Args:
        policy: what is replayed.
        extra_costs: names of the extra costs that the table has.
    """
    present = [i for i, name in enumerate(policy.costs) if i == 0 or name in extra_costs]
    foreign = tuple(sorted(set(extra_costs) - set(policy.costs)))
    return present, foreign, (*(policy.costs[i] for i in present), *foreign)


@dataclass(frozen=True)
class Replay:
    """What a policy did on n queries, in expectation over the settings a rule mixes.

    Attributes:
        rule_of: `[n]` place of the rule that decided.
        quality: `[n]` quality.
        cost: `[R, n]` costs.
        steps: `[n]` number of models run.
        answer: `[n]` the model whose answer is most likely returned.
        ran: `[K]` queries each model ran on.
        answered: `[K]` queries each model's answer was returned for.
        depth: `[K]` queries on which 1, 2, ..., K models ran.
    """

    rule_of: Int[np.ndarray, " n"]
    quality: Float[np.ndarray, " n"]
    cost: Float[np.ndarray, "R n"]
    steps: Float[np.ndarray, " n"]
    answer: Int[np.ndarray, " n"]
    ran: Float[np.ndarray, " K"]
    answered: Float[np.ndarray, " K"]
    depth: Float[np.ndarray, " K"]


def replay(
    policy: Policy,
    shown: Beliefs,
    table: Table,
    rows: Int[np.ndarray, " n"],
    costs: Sequence[str],
    progress: Callable[[int], None] = lambda queries: None,
) -> Replay:
    """Replays a policy on some rows.

    Args:
        policy: what to replay.
        shown: what it is shown of the table's queries.
        table: the truth, models in the policy's order.
        rows: the queries to look at.
        costs: the R costs to add up.
        progress: see `evaluate`.
    """
    k, n = len(policy.models), len(rows)
    rule_of = np.zeros(n, np.int32)
    if table.group is not None and policy.groups:
        rule_of = policy.rule_of(table.groups)[table.group[rows]]
    quality, cost, steps = np.empty(n), np.empty((len(costs), n)), np.empty(n)
    answer, ran, answered, depth = np.empty(n, np.int32), np.zeros(k), np.zeros(k), np.zeros(k)
    for place, rule in enumerate(policy.rules):
        of = np.flatnonzero(rule_of == place)
        if not len(of):
            continue
        found = spent(policy.strategy, rule, shown, table, rows[of], costs, progress)
        weights, deep = found.weights, found.run.sum(-1)
        quality[of], cost[:, of] = weights @ found.quality, weights @ found.cost
        steps[of] = weights @ deep
        ran += weights @ found.run.sum(1)
        shares = np.zeros((len(of), k))
        for share, one, went in zip(weights, found.answer, deep, strict=True):
            shares[np.arange(len(of)), one] += share
            depth += share * np.bincount(went, minlength=k + 1)[1:]
        answered += shares.sum(0)
        answer[of] = shares.argmax(1)
    return Replay(rule_of, quality, cost, steps, answer, ran, answered, depth)


def target_of(policy: Policy) -> float | None:
    """The mean quality a policy was fitted for, None where it was for something else."""
    target = policy.record.get("quality")
    # What stands in a record was not checked when it was read.
    if not isinstance(target, int | float) or isinstance(target, bool) or abs(target) > 1e30:
        return None
    return float(target)


def unchecked(
    policy: Policy, extra_costs: Sequence[str], grouped: bool, places: list[int]
) -> tuple[str, ...]:
    """What the rules at these places ask for and a table has no column to check.

    Args:
        policy: whose rules.
        extra_costs: names of the extra costs that the table has.
        grouped: whether it has groups.
        places: of the rules.
    """
    found = []
    for place in places:
        name, fitted = ("", *policy.groups)[place], policy.rules[place].fitted
        where = f"group {name!r}: " if name else ""
        for cost, budget in zip(policy.costs, fitted.budget if fitted else (), strict=False):
            if budget is not None and cost != COST and cost not in extra_costs:
                found.append(
                    f"{where}budget of {cost}: the table lacks the column"
                    f" {EXTRA_COST + cost!r}, not checked"
                )
    if policy.groups and not grouped:
        found.append(
            "rules of groups: the table lacks the column 'group', not checked; all queries fell"
            " under the default rule"
        )
    return tuple(found)


def _default_rows(policy: Policy, table: Table) -> Int[np.ndarray, " n"]:
    if table.split is not None:
        return np.flatnonzero(table.split == EVALUATE)
    if policy.fingerprint and fingerprint(table) == policy.fingerprint:
        return split_rows(table, policy.source.seed)[1]
    return np.arange(table.n_queries)


def _means(
    values: Float[np.ndarray, "n M"],
    rows: Int[np.ndarray, " n"],
    resamples: int,
    confidence: float,
    seed: int,
) -> list[Mean]:
    means = values.mean(0).tolist()
    if not resamples or len(values) < queries_needed(confidence):
        return [Mean(value) for value in means]
    found = weighted_totals(values, resamples, seed, rows)
    ends = interval(found[:, :-1] / found[:, -1:], confidence).tolist()
    return [Mean(value, low, high) for value, (low, high) in zip(means, ends, strict=True)]


def on_hull(
    cost: Float[np.ndarray, " K"], quality: Float[np.ndarray, " K"], at: float
) -> float | None:
    """What mixing single models reaches at a cost; None below the cheapest."""
    hull = upper_hull(cost, quality)
    if at < cost[hull[0]]:
        return None
    return float(np.interp(at, cost[hull], quality[hull]))
