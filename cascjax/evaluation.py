"""Evaluate a policy: mean quality and costs with intervals, and the use of models.

A policy is replayed chunk by chunk; settings that a rule mixes at random count in expectation. The
sums of chunks are kept in the checkpoint and added up in chunk order.
"""

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias

import jax
import numpy as np
from jaxtyping import Float, Int

from cascjax.data.source import Files, Paths, Source, as_source
from cascjax.data.table import EVALUATE, Chunk, Table
from cascjax.engine.jobs import each_chunk
from cascjax.engine.options import RunOptions
from cascjax.engine.passes import fit_mask, split_fingerprint
from cascjax.engine.run import Run
from cascjax.errors import CascjaxError, check_name
from cascjax.estimators import Independent, truth
from cascjax.estimators.specs import ChunkEstimates, FitData
from cascjax.estimators.training import fold_numbers
from cascjax.metrics import upper_hull
from cascjax.metrics.bootstrap import (
    DEFAULT_RESAMPLES,
    check_bootstrap,
    check_confidence,
    interval,
    queries_needed,
    too_few_queries,
    weighted_totals,
)
from cascjax.policy import Policy
from cascjax.results import Result
from cascjax.search.budgets import SLACK
from cascjax.search.rules import COST, CostEstimates, cost_column, simulate_rule


@dataclass(frozen=True)
class Mean:
    """A mean over queries and its interval, None if there is none."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Part:
    """Means over some of the queries, in expectation over the settings a rule mixes.

    R costs as in `Evaluation.costs`; `rule` is the group whose rule decided, "" for the default,
    and `budget` has its R budgets, None where there is none.
    """

    n: int
    quality: Mean
    cost: tuple[Mean, ...]
    rule: str
    budget: tuple[float | None, ...]


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation(Result):
    """What a policy does on n queries; models in the policy's order, R costs.

    Attributes:
        strategy: its name.
        models: K names.
        costs: R names: the policy's costs that the source has, then other costs that it has.
        cost_units: R units.
        total: means over all queries.
        rules: means over the queries under each rule of the policy, by the name of its group, ""
            for the default; rules without a query are left out.
        groups: means over the queries of each group of the source, by name.
        ran: `[K]` share of queries each model ran on.
        answered: `[K]` share of queries each model's answer was returned for.
        depth: `[K]` share of queries on which 1, 2, ..., K models ran.
        single_cost: `[R, K]` mean costs of each model alone.
        single_quality: `[K]` mean quality of each model alone.
        hull_quality: quality that mixing single models reaches at the same first cost; None if
            that cost is below the cheapest model's.
        confidence: level of the intervals.
        rows: `[n]` row numbers in the source, rising; empty if results were not kept per query.
        quality: `[n]` expected quality of each query.
        cost: `[R, n]` expected costs of each query.
        steps: `[n]` expected number of models run.
        answer: `[n]` the model whose answer is most likely returned.
        unchecked: budgets and rules, in words, for which the source lacks a column.
        target: mean quality the policy was fitted for, if it was.
        foreign: costs of the source that the policy does not know, and so does not limit.
        estimates: record of the estimates that the policy was fitted on.

    Example:
      >>> from cascjax import fit, synthetic
      >>> table = synthetic.sample(synthetic.make_dataset(3, seed=0), 0, 200)
      >>> policy = fit(table, "routing", budget=0.001, confidence=0.95)
      >>> evaluation = evaluate(policy, table, resamples=0)
      >>> evaluation.met()
      True
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
    estimates: Mapping[str, Any] = field(default_factory=dict)

    view: ClassVar[str] = "evaluation"

    def verdicts(self) -> list[str]:
        """Return for each budget or target a sentence: whether it is met, and how surely."""
        lines = [] if self.target is None else [self._target_verdict(self.target)]
        for name, part in self.rules.items():
            where = f"group {name!r}: " if name else ""
            for cost, unit, mean, budget in zip(
                self.costs, self.cost_units, part.cost, part.budget, strict=True
            ):
                if budget is None:
                    continue
                text = f"{where}mean {cost} {mean.value:.6g}{unit and ' ' + unit}"
                over = mean.value / budget - 1
                if over > SLACK:
                    text += f" is {over:.2%} above the budget of {budget:g}"
                    if mean.low is not None and mean.low <= budget:
                        text += "; the interval reaches down to it, so this may be chance"
                else:
                    text += f" is within the budget of {budget:g}"
                    if mean.high is not None and mean.high > budget * (1 + SLACK):
                        text += "; other queries may exceed it, for the interval does"
                lines.append(text)
        for cost in self.foreign:
            at = self.costs.index(cost)
            unit, mean = self.cost_units[at], self.total.cost[at].value
            lines.append(
                f"mean {cost} {mean:.6g}{unit and ' ' + unit} is not limited: the policy was fitted"
                " without this cost"
            )
        return [*lines, *self.unchecked]

    def _target_verdict(self, target: float) -> str:
        mean = self.total.quality
        text, slack = f"mean quality {mean.value:.6g}", SLACK * abs(target)
        if mean.value < target - slack:
            text += f" is {target - mean.value:.4f} below the target of {target:g}"
            if mean.high is not None and mean.high >= target:
                text += "; the interval reaches up to it, so this may be chance"
        else:
            text += f" reaches the target of {target:g}"
            if mean.low is not None and mean.low < target - slack:
                text += "; other queries may fall below it, for the interval does"
        return text

    def met(self) -> bool:
        """Return whether every budget and target is met; one that was not checked is not."""
        target, quality = self.target, self.total.quality.value
        reached = target is None or quality >= target - SLACK * abs(target)
        kept = all(
            budget is None or mean.value <= budget * (1 + SLACK)
            for part in self.rules.values()
            for mean, budget in zip(part.cost, part.budget, strict=True)
        )
        return reached and kept and not self.unchecked


def evaluate(
    policy: Policy,
    source: Source | Paths,
    *,
    rows: Int[np.ndarray, " n"] | None = None,
    resamples: int | None = None,
    confidence: float = 0.95,
    seed: int = 0,
    per_query: bool | None = None,
    unit_rate: float | Mapping[str, float] | None = None,
    options: RunOptions = RunOptions(),
) -> Evaluation:
    """Return what a policy does on a source; what it mixes at random counts in expectation.

    Args:
        policy: the policy; models and groups are matched by name.
        source: a table, files, or what `cascjax.open` takes, with the estimates that the policy
            was fitted on.
        rows: `[n]` row numbers to evaluate on. By default the evaluation split of the column
            split, or of the policy's fit if it was fitted on this source, else all rows.
        resamples: number of bootstrap resamples of the evaluated rows for intervals; 0 for none.
            By default 1,000, or none of too few rows. A group of too few queries has none.
        confidence: level of the intervals.
        seed: seed of the resamples.
        per_query: whether to keep the results of every query; by default for tables only. They
            take 28 bytes per query, and 8 more per extra cost.
        unit_rate: units of the policy's cost per unit of the source's cost, such as 1.08 USD per
            EUR; for extra costs, rates by name of the cost. By default both must have the same
            unit, unless it is unknown.
        options: how the job runs.

    Returns:
        The evaluation, in the units of the policy.

    Raises:
        CascjaxError: the source lacks a model, or the estimates that the policy needs; costs are in
            other units; there is no row to evaluate on; or there are too few queries or resamples
            for the intervals.

    Example:
        >>> from cascjax import fit, synthetic
        >>> table = synthetic.sample(synthetic.make_dataset(3, seed=0), 0, 200)
        >>> policy = fit(table, "routing", quality=0.5)
        >>> evaluate(policy, table, resamples=0).total.n
        100
    """
    source = _in_units_of(policy, policy.matched(as_source(source)), unit_rate)
    check_confidence(confidence)
    asked, resamples = resamples, DEFAULT_RESAMPLES if resamples is None else resamples
    if asked:
        check_bootstrap(asked, confidence, source.n_rows if rows is None else len(rows))
    if per_query is None:
        per_query = isinstance(source, Table)
    chosen = None if rows is None else np.unique(np.asarray(rows))
    settings: dict[str, Any] = {
        "policy": policy.text(), "resamples": resamples, "seed": seed, "per_query": per_query,
        "unit_rate": unit_rate,
        "rows": None if chosen is None else hashlib.sha256(chosen.tobytes()).hexdigest(),
    }  # fmt: skip
    chunks = {f"evaluating-{chunk.index:06d}": [chunk] for chunk in source.chunks}
    run = Run.start(options, source, settings, chunks)
    fitted = _fitted_estimates(policy, source, run)
    replay = _Replay(policy, source, fitted, chosen, resamples, seed, per_query)
    sums: _Sums = {}
    queries: list[dict[str, np.ndarray]] = []
    for part, each in each_chunk(source, run, "evaluating", replay.columns, replay.chunk_sums):
        for key, values in part.items():
            sums[key] = jax.tree.map(np.add, sums[key], values) if key in sums else values
        queries.append(each)
    n = int(sums["total", ""]["n"])
    if not n:
        raise CascjaxError(
            f"{source.name} has no rows to evaluate on: give rows, or fix the column 'split'"
        )
    if asked:
        check_bootstrap(asked, confidence, n)
    elif resamples and (note := too_few_queries(confidence, n)):
        options.note(f"note: {note}.")
    results = {name: np.concatenate([q[name] for q in queries], axis=-1) for name in queries[0]}
    return replay.evaluation(sums, results, confidence)


def _in_units_of(
    policy: Policy, source: Source, unit_rate: float | Mapping[str, float] | None
) -> Source:
    """Return a source with its costs in the units of a policy; refuse units that differ."""
    rates = dict(unit_rate) if isinstance(unit_rate, Mapping) else {COST: unit_rate}
    rates = {name: rate for name, rate in rates.items() if rate is not None}
    shared = [name for name in policy.costs if name == COST or name in source.extra_costs]
    for name, rate in rates.items():
        check_name("cost", name, shared)
        if not 0 < rate < np.inf:
            raise CascjaxError(f"unit_rate must be a finite number above 0, not {rate}")
    theirs, units = {COST: source.cost_unit, **dict(source.extra_cost_units)}, {}
    for name, unit in zip(policy.costs, policy.cost_units, strict=True):
        other = theirs.get(name, "")
        known, equal = bool(unit and other), _plain_unit(unit) == _plain_unit(other)
        if known and name not in rates and not equal:
            raise CascjaxError(
                f"{source.name} has {name} in {other}, and the policy in {unit}: give unit_rate,"
                f" the number of {unit} per {other}, to convert it"
            )
        if known and equal and rates.get(name, 1) != 1:
            raise CascjaxError(
                f"{source.name} has {name} in {other}, as the policy has: leave out unit_rate"
            )
        if unit and name in rates:
            units[name] = unit
    if not rates:
        return source
    if not isinstance(source, Table | Files):
        raise CascjaxError("unit_rate needs a table or files: convert the costs of your source")
    return source.converted(rates, units)


def _plain_unit(unit: str) -> str:
    """Return a unit as it is compared; costs are per query anyway."""
    return unit.strip().casefold().removesuffix("/query")


def _fitted_estimates(policy: Policy, source: Source, run: Run) -> ChunkEstimates | None:
    """Return the estimates of a policy on a source: its sigma and mean costs, or as learned."""
    spec, k = policy.estimates_spec, len(policy.models)
    unread = spec is None and not policy.strategy.reads
    if policy.strategy.sees_truth or policy.learned is not None or unread:
        return None
    if spec is None:
        raise CascjaxError(
            "the policy was fitted on an estimator of your own, which its file does not hold:"
            " evaluate the policy that fit returned"
        )
    spec.check(source, source.n_rows)
    statistics, every = None, np.arange(k)
    if spec.simulated:
        # Noise is put through regressions over all rows, whatever the rows to evaluate on.
        parts = each_chunk(
            source, run, "reading", (),
            lambda chunk, table: spec.statistics(
                chunk, table, np.zeros(chunk.n_rows, bool), policy.seed
            ),
        )  # fmt: skip
        statistics = functools.reduce(lambda total, part: total.merge(part), parts)
    none = np.zeros((0, k), np.float32)
    empty = Table(none, none, models=policy.models)
    return spec.fit(
        FitData(
            every, policy.mean_costs[0], statistics, empty, every[:0], 0, policy.seed, policy.sigma
        )
    )


_Sums: TypeAlias = dict[tuple[str, str], dict[str, Any]]
"""Sums over queries, by kind ("total", "rule" or "group") and name of the queries.

    n: number of queries.
    rules: `[G]` number of queries under each rule of the policy.
    values: `[1 + R]` sums of quality and costs.
    weighted: `[resamples, 2 + R]` sums of these under bootstrap weights, then of the weights.

Under "models", whatever the queries: `use` `[3, K]`, the number of queries each model ran on, each
model answered, and 1, 2, ..., K models ran on; and `single` `[R + 1, K]`, sums of the costs and of
the quality of each model alone.
"""


@dataclass(frozen=True)
class _Replay:
    """Replay of a policy on a source with its models, in its order.

    `fitted` is None where estimates are learned or the truth; `rows` are rising, None for the
    default.
    """

    policy: Policy
    source: Source
    fitted: ChunkEstimates | None
    rows: Int[np.ndarray, " n"] | None
    resamples: int
    seed: int
    per_query: bool

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that are read in addition to quality and cost."""
        spec = self.policy.estimates_spec
        return ("split", "group", "extra_costs", *(() if spec is None else spec.columns))

    @property
    def own_costs(self) -> list[int]:
        """Positions of the policy's costs that the source has."""
        names = self.source.extra_costs
        return [i for i, name in enumerate(self.policy.costs) if i == 0 or name in names]

    @property
    def foreign_costs(self) -> tuple[str, ...]:
        """Names of the source's costs that the policy does not know."""
        return tuple(sorted(set(self.source.extra_costs) - set(self.policy.costs)))

    @property
    def costs(self) -> tuple[str, ...]:
        """R names: the policy's costs that the source has, then others."""
        return (*(self.policy.costs[i] for i in self.own_costs), *self.foreign_costs)

    def evaluated(self, chunk: Chunk, table: Table) -> Int[np.ndarray, " m"]:
        """Return the positions of the rows of a chunk to evaluate on."""
        if self.rows is not None:
            first, last = np.searchsorted(self.rows, (chunk.first, chunk.first + chunk.n_rows))
            return self.rows[first:last] - chunk.first
        if table.split is not None:
            return np.flatnonzero(table.split == EVALUATE)
        if self.fitted_on_source:
            return np.flatnonzero(~fit_mask(self.source, self.policy.seed, chunk, table))
        return np.arange(chunk.n_rows)

    @functools.cached_property
    def fitted_on_source(self) -> bool:
        """Whether the policy was fitted on this source."""
        fingerprint = self.policy.fingerprint
        if not fingerprint or fingerprint == self.source.fingerprint():
            return bool(fingerprint)
        return fingerprint == split_fingerprint(self.source)

    def estimates(self, chunk: Chunk, table: Table) -> CostEstimates:
        """Return the estimates that the policy decides by, corrected, of all rows of a chunk."""
        policy, shape = self.policy, table.cost.shape
        extra = policy.costs[1:]
        if policy.strategy.sees_truth:
            for name in extra:
                if name not in table.extra_costs:
                    raise CascjaxError(
                        f"{self.source.name} lacks the cost {name!r}, which the oracle was fitted"
                        f" with; add the column '{COST}.{name}'"
                    )
            return CostEstimates(truth(table), tuple(table.extra_costs[name] for name in extra))
        means = tuple(np.broadcast_to(mean, shape) for mean in policy.mean_costs[1:])
        if policy.learned is not None:
            fold = fold_numbers(chunk.rows, policy.learned.n_folds)
            return CostEstimates(policy.learned.estimator_for(table, fold), means)
        if self.fitted is None:  # of a strategy that reads no estimates
            return CostEstimates(truth(table), means)
        estimator = self.fitted.estimator(table, chunk.rows)
        if policy.corrected and policy.scale is not None and policy.offset is not None:
            assert isinstance(estimator, Independent)
            estimator = estimator.corrected(policy.scale, policy.offset)
        return CostEstimates(estimator, means)

    def chunk_sums(self, chunk: Chunk, table: Table) -> tuple[_Sums, dict[str, np.ndarray]]:
        """Return the sums over a chunk, and the results of its queries, none unless kept."""
        policy, k, rules = self.policy, len(self.policy.models), ("", *self.policy.groups)
        places = self.evaluated(chunk, table)
        rows, n = chunk.first + places, len(places)
        rule_of = np.zeros(n, np.int32)
        if table.group is not None and policy.groups:
            rule_of = policy.rule_of(table.groups)[table.group[places]]
        values, steps = np.empty((1 + len(self.costs), n)), np.empty(n)
        answer, use = np.empty(n, np.int32), np.zeros((3, k))
        estimates = self.estimates(chunk, table)
        sums: _Sums = {}

        def add(kind: str, name: str, own: Int[np.ndarray, " m"]) -> None:
            weighted = np.zeros((self.resamples, len(values) + 1))
            if self.resamples and len(own):
                weighted = weighted_totals(values.T[own], self.resamples, self.seed, rows[own])
            counts = np.bincount(rule_of[own], minlength=len(rules))
            total = {"n": np.array(len(own)), "rules": counts, "values": values.T[own].sum(0)}
            sums[kind, name] = total | {"weighted": weighted}

        for position, (name, rule) in enumerate(zip(rules, policy.rules, strict=True)):
            own = np.flatnonzero(rule_of == position)
            if not len(own):
                continue
            outcome = simulate_rule(
                policy.strategy, rule, estimates, table, places[own], self.costs
            )
            weights, depth = outcome.weights, outcome.run.sum(-1)
            values[0, own], values[1:, own] = weights @ outcome.quality, weights @ outcome.cost
            steps[own] = weights @ depth
            use[0] += weights @ outcome.run.sum(1)
            shares = np.zeros((len(own), k))
            for weight, answers, depths in zip(weights, outcome.answer, depth, strict=True):
                shares[np.arange(len(own)), answers] += weight
                use[2] += weight * np.bincount(depths, minlength=k + 1)[1:]
            use[1] += shares.sum(0)
            answer[own] = shares.argmax(1)
            add("rule", name, own)
        add("total", "", np.arange(n))
        for index, name in enumerate(table.groups if table.group is not None else ()):
            if len(own := np.flatnonzero(table.group[places] == index)):  # pyright: ignore[reportOptionalSubscript]
                add("group", name, own)
        truths = [*(cost_column(table, name) for name in self.costs), table.quality]
        single = np.stack([column[places].sum(0, dtype=np.float64) for column in truths])
        sums["models", ""] = {"use": use, "single": single}
        results = {
            "rows": rows, "quality": values[0], "cost": values[1:], "steps": steps,
            "answer": answer,
        }  # fmt: skip
        kept = slice(None) if self.per_query else slice(0)
        return sums, {name: array[..., kept] for name, array in results.items()}

    def evaluation(
        self, sums: _Sums, results: dict[str, np.ndarray], confidence: float
    ) -> Evaluation:
        """Return the evaluation from the sums over all chunks and the results of queries."""
        policy, names = self.policy, ("", *self.policy.groups)
        own_costs, foreign = self.own_costs, self.foreign_costs

        def part(kind: str, name: str) -> Part:
            own, n = sums[kind, name], int(sums[kind, name]["n"])
            values = (own["values"] / n).tolist()
            means = [Mean(value) for value in values]
            if self.resamples and n >= queries_needed(confidence):
                samples = own["weighted"][:, :-1] / own["weighted"][:, -1:]
                ends = interval(samples, confidence).tolist()
                means = [Mean(v, low, high) for v, (low, high) in zip(values, ends, strict=True)]
            # Queries under several rules have no budget in common.
            places = np.flatnonzero(own["rules"]).tolist()
            place = places[0] if kind != "total" else 0
            fitted = policy.rules[place].fitted if places == [place] else None
            budget = [None if fitted is None else fitted.budget[i] for i in own_costs]
            budget += [None] * len(foreign)
            return Part(n, means[0], tuple(means[1:]), names[place], tuple(budget))

        total, models = part("total", ""), sums["models", ""]
        rules = {name: part("rule", name) for name in names if ("rule", name) in sums}
        units = {COST: self.source.cost_unit, **dict(self.source.extra_cost_units)}
        *single_cost, single_quality = models["single"] / total.n
        ran, answered, depth = models["use"] / total.n
        return Evaluation(
            strategy=policy.strategy.name,
            models=policy.models,
            costs=self.costs,
            cost_units=(
                *(policy.cost_units[i] or units.get(policy.costs[i], "") for i in own_costs),
                *(units.get(name, "") for name in foreign),
            ),
            total=total,
            rules=rules,
            groups={name: part(kind, name) for kind, name in sums if kind == "group"},
            ran=ran,
            answered=answered,
            depth=depth,
            single_cost=np.stack(single_cost),
            single_quality=single_quality,
            hull_quality=_on_hull(single_cost[0], single_quality, total.cost[0].value),
            confidence=confidence,
            unchecked=self.unchecked(list(rules)),
            target=target_of(policy),
            foreign=foreign,
            estimates=estimates_record(policy),
            **results,
        )

    def unchecked(self, rules: list[str]) -> tuple[str, ...]:
        """Return the budgets and rules, in words, for which the source lacks a column."""
        policy, lines = self.policy, []
        for name in rules:
            rule = policy.group_rules[name] if name else policy.rule
            where = f"group {name!r}: " if name else ""
            for cost, budget in zip(policy.costs, rule.fitted.budget if rule.fitted else ()):  # noqa: B905
                if budget is not None and cost not in self.costs:
                    lines.append(
                        f"{where}budget of {cost}: {self.source.name} lacks the column"
                        f" '{COST}.{cost}', not checked"
                    )
        if policy.groups and "group" not in self.source.columns:
            lines.append(
                f"rules of groups: {self.source.name} lacks the column 'group', not checked; all"
                " queries fell under the default rule"
            )
        return tuple(lines)


def estimates_record(policy: Policy) -> dict[str, Any]:
    """Return what a report says about the estimates that a policy was fitted on."""
    spec = policy.estimates_spec
    if spec is None or policy.strategy.sees_truth:
        return {}
    names = ("noise_scale", "quality_range")
    return spec.record() | {name: policy.record[name] for name in names if name in policy.record}


def target_of(policy: Policy) -> float | None:
    """Return the mean quality a policy was fitted for, None if it was for something else."""
    target = policy.record.get("quality")
    # A record is not checked when it is read.
    if not isinstance(target, int | float) or isinstance(target, bool) or abs(target) > 1e30:
        return None
    return float(target)


def _on_hull(
    cost: Float[np.ndarray, " K"], quality: Float[np.ndarray, " K"], at: float
) -> float | None:
    """Return the quality that mixing single models reaches at a cost; None below the cheapest."""
    hull = upper_hull(cost, quality)
    if at < cost[hull[0]]:
        return None
    return float(np.interp(at, cost[hull], quality[hull]))
