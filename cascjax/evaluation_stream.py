"""What a policy does on files larger than memory: sums of pieces, and what they say."""

import functools
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from cascjax.data.source import Paths, Source, as_source
from cascjax.data.table import ESTIMATE_COLUMNS, EVALUATE, Chunk, Table
from cascjax.engine.jobs import collect
from cascjax.engine.options import RunOptions
from cascjax.engine.passes import Job, fit_mask
from cascjax.engine.run import Run
from cascjax.errors import CascjaxError
from cascjax.estimators import Independent
from cascjax.estimators.specs import ChunkEstimates, FitData, Noisy
from cascjax.evaluation import (
    Evaluation,
    Mean,
    Part,
    Replay,
    costs_of,
    on_hull,
    replay,
    target_of,
    unchecked,
)
from cascjax.metrics.bootstrap import (
    check_bootstrap,
    check_confidence,
    interval,
    queries_needed,
    weighted_totals,
)
from cascjax.policy import Policy
from cascjax.search.rules import COST

Row = dict[str, Any]
"""Sums by name."""

TOTAL, RULE, GROUP = "total", "rule", "group"


@dataclass(frozen=True)
class Replaying:
    """What is to be replayed on a stream.

    Attributes:
        policy: what.
        source: its models are the policy's, in its order.
        resamples: of the bootstrap; 0 for none.
        seed: of it.
        noise: noisy estimates, fitted on all rows.
    """

    policy: Policy
    source: Source
    resamples: int
    seed: int
    noise: ChunkEstimates | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """What is read of the files."""
        seen = ("features", "signals", "answer") if self.policy.learned is not None else ()
        supplied = ESTIMATE_COLUMNS if self.policy.source.kind == "supplied" else ()
        return ("split", "group", "extra_costs", *supplied, *seen)

    def evaluated(self, chunk: Chunk, table: Table) -> Bool[np.ndarray, " n"]:
        """The rows to evaluate on; see `cascjax.evaluation.evaluate`."""
        if table.split is not None:
            return table.split == EVALUATE
        if self.policy.fingerprint == self.source.fingerprint():
            return ~fit_mask(self.source, self.policy.source.seed, chunk, table)
        return np.ones(chunk.n_rows, bool)


def tallies(of: Replaying, chunks: Iterable[Chunk]) -> Iterator[tuple[Chunk, list[Row]]]:
    """Sums of every chunk, a row for all its queries, each rule and each group.

    Args:
        of: what is replayed.
        chunks: which.

    Raises:
        CascjaxError: see `Source.read` and `Policy.beliefs`.
    """
    policy, source = of.policy, of.source
    _, _, costs = costs_of(policy, tuple(source.extra_costs))
    for chunk, table in source.read(chunks, of.columns):
        rows = np.flatnonzero(of.evaluated(chunk, table))
        noisy = None if of.noise is None else of.noise.estimator(table, chunk.rows)
        assert isinstance(noisy, Independent | None)
        found = replay(policy, policy.beliefs(table, noisy), table, rows, costs)
        measured = np.concatenate([found.quality[None], found.cost]).T
        truths = [table.cost if name == COST else table.extra_costs[name] for name in costs]
        alone = [column[rows].sum(0, dtype=np.float64) for column in (*truths, table.quality)]

        tally = functools.partial(_tally, of, found, measured, chunk.first + rows)
        total = tally(TOTAL, "", np.arange(len(rows)))
        total["use"] = np.concatenate([found.ran, found.answered, found.depth]).tolist()
        total["alone"] = np.concatenate(alone).tolist()
        each = [total]
        for place, name in enumerate(("", *policy.groups)):
            if len(chosen := np.flatnonzero(found.rule_of == place)):
                each.append(tally(RULE, name, chosen))
        if table.group is not None:
            for index, name in enumerate(table.groups):
                if len(chosen := np.flatnonzero(table.group[rows] == index)):
                    each.append(tally(GROUP, name, chosen))
        yield chunk, each


def _tally(
    of: Replaying,
    found: Replay,
    measured: Float[np.ndarray, "n M"],
    numbers: Int[np.ndarray, " n"],
    kind: str,
    name: str,
    chosen: Int[np.ndarray, " m"],
) -> Row:
    """Sums over some of the rows of a piece, whose numbers among all rows weights go by."""
    weighted = np.zeros(0)
    if of.resamples:
        weighted = weighted_totals(measured[chosen], of.resamples, of.seed, numbers[chosen])
    return {
        "kind": kind,
        "name": name,
        "n": len(chosen),
        "places": np.unique(found.rule_of[chosen]).tolist(),
        "sums": measured[chosen].sum(0).tolist(),
        "weighted": weighted.ravel().tolist(),
        "use": [],
        "alone": [],
    }


def evaluate_stream(
    policy: Policy,
    source: Source | Paths,
    *,
    resamples: int = 0,
    confidence: float = 0.95,
    seed: int = 0,
    options: RunOptions = RunOptions(),
) -> Evaluation:
    """Evaluate a policy on files, without results of single queries; see `cascjax.evaluate`.

    Returns:
        The evaluation, whose `rows`, `quality`, `cost`, `steps` and `answer` are empty.

    Raises:
        CascjaxError: what `cascjax.evaluate`, `Source.read` and `Run.start` refuse.
    """
    source = as_source(source)
    missing = [name for name in policy.models if name not in source.models]
    if missing:
        raise CascjaxError(
            f"{source.name}: the policy chooses among models the files lack: {', '.join(missing)};"
            f" they have {', '.join(source.models)}"
        )
    check_confidence(confidence)
    if resamples:
        check_bootstrap(resamples, confidence, source.n_rows)
    source = source.select_models(policy.models)
    of = Replaying(policy, source, resamples, seed)
    asked = {"policy": policy.text(), "resamples": resamples, "seed": seed}
    chunks, doing = source.chunks, "evaluating"
    keys = [f"evaluate-{chunk.index:06d}" for chunk in chunks]
    noisy = policy.source.kind == "noisy"
    files = {"read-00": chunks} if noisy else {
        key: [chunk] for key, chunk in zip(keys, chunks, strict=True)
    }  # fmt: skip
    run = Run.start(options, source, asked, files)
    if noisy:
        of = replace(of, noise=_noise(of, run))

    def do(places: Sequence[int]) -> Generator[tuple[int, list[Row]], None, None]:
        for chunk, each in tallies(of, [chunks[place] for place in places]):
            run.progress(doing, chunk.n_rows)
            yield chunk.index, each

    parts = run.each(doing, keys, [chunk.n_rows for chunk in chunks], do)
    return _evaluation(of, confidence, (row for part in parts for row in part))


def _noise(of: Replaying, run: Run) -> ChunkEstimates:
    """Return the noisy estimates, whose regressions are over all rows."""
    policy = of.policy
    noise = policy.source.noise or (0.0, 0.0, 0.0, 0.0)
    job = Job(of.source, (policy.strategy,), Noisy(noise), seed=policy.source.seed, sample=1)
    statistics = collect(job, run)
    assert statistics.sample.table is not None
    fitted = job.estimates.fit(
        FitData(
            order=np.arange(len(policy.models)),
            mean_cost=policy.mean_costs[0],
            statistics=statistics.for_estimates(),
            table=statistics.sample.table,
            rows=statistics.sample.rows,
            n_fit=1,
            seed=job.seed,
        )
    )
    # How far answers move is what the policy was fitted with.
    return replace(fitted, sigma=of.policy.sigma)  # pyright: ignore[reportCallIssue, reportArgumentType]


def _evaluation(of: Replaying, confidence: float, rows: Iterable[Row]) -> Evaluation:
    """What the sums of all pieces say, in the order of the pieces."""
    policy, source = of.policy, of.source
    present, foreign, costs = costs_of(policy, tuple(source.extra_costs))
    k, names = len(policy.models), ("", *policy.groups)
    joined: dict[tuple[str, str], Row] = {}
    for row in rows:
        key = row["kind"], row["name"]
        row = dict(row)
        for name in ("sums", "weighted", "use", "alone"):
            row[name] = np.array(row[name], np.float64)
        if (before := joined.get(key)) is not None:
            row["places"] = sorted({*before["places"], *row["places"]})
            for name in ("n", "sums", "weighted", "use", "alone"):
                row[name] = before[name] + row[name]
        joined[key] = row
    total = joined[TOTAL, ""]
    n = total["n"]
    if not n:
        raise CascjaxError(
            "there are no rows to evaluate on: name other files, or fix the column 'split'"
        )
    if of.resamples:
        check_bootstrap(of.resamples, confidence, n)

    def part(row: Mapping[str, Any]) -> Part:
        values = (row["sums"] / row["n"]).tolist()
        means = [Mean(value) for value in values]
        if of.resamples and row["n"] >= queries_needed(confidence):
            weighted = row["weighted"].reshape(of.resamples, -1)
            ends = interval(weighted[:, :-1] / weighted[:, -1:], confidence).tolist()
            means = [Mean(v, low, high) for v, (low, high) in zip(values, ends, strict=True)]
        # Queries under several rules have no budget in common.
        place = 0 if row["kind"] == TOTAL else row["places"][0]
        fitted = policy.rules[place].fitted if row["places"] in ([], [place]) else None
        budget = [None if fitted is None else fitted.budget[i] for i in present]
        budget += [None] * len(foreign)
        return Part(row["n"], means[0], tuple(means[1:]), names[place], tuple(budget))

    parts = {key: part(row) for key, row in joined.items()}
    ran, answered, depth = total["use"].reshape(3, k) / n
    *single_cost, single_quality = total["alone"].reshape(-1, k) / n
    units = dict(source.extra_cost_units)
    none: Float[np.ndarray, " n"] = np.zeros(0)
    places = [place for place, name in enumerate(names) if (RULE, name) in joined]
    return Evaluation(
        strategy=policy.strategy.name,
        models=policy.models,
        costs=costs,
        cost_units=(
            *(policy.cost_units[i] for i in present),
            *(units.get(name, "") for name in foreign),
        ),
        total=parts[TOTAL, ""],
        rules={names[place]: parts[RULE, names[place]] for place in places},
        groups={name: of for (kind, name), of in parts.items() if kind == GROUP},
        ran=ran,
        answered=answered,
        depth=depth,
        single_cost=np.stack(single_cost),
        single_quality=single_quality,
        hull_quality=on_hull(single_cost[0], single_quality, parts[TOTAL, ""].cost[0].value),
        confidence=confidence,
        rows=np.zeros(0, np.int64),
        quality=none,
        cost=np.zeros((len(costs), 0)),
        steps=none,
        answer=np.zeros(0, np.int32),
        unchecked=unchecked(policy, tuple(source.extra_costs), "group" in source.columns, places),
        target=target_of(policy),
        foreign=foreign,
    )
