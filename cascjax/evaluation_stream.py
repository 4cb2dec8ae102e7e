"""What a policy does on files larger than memory: sums of pieces, and what they say."""

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Int

from cascjax.comparison_stream import looked_at, lots
from cascjax.data.source import Piece, Stream, open_stream
from cascjax.data.table import EVALUATE, Table
from cascjax.engine.parts import Row
from cascjax.engine.passes import Job, is_fit, moments_of, under_noise
from cascjax.engine.run import Done, Ledger, Progress, Run
from cascjax.errors import CascjaxError
from cascjax.estimators import Independent
from cascjax.estimators.pieces import SUPPLIED_COLUMNS, Known
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

TOTAL, RULE, GROUP = "total", "rule", "group"


@dataclass(frozen=True)
class Replaying:
    """What is to be replayed on a stream.

    Attributes:
        policy: what.
        stream: its models are the policy's, in its order.
        resamples: of the bootstrap; 0 for none.
        seed: of it.
        known: of noisy estimates, what they take of all rows.
    """

    policy: Policy
    stream: Stream
    resamples: int
    seed: int
    known: Known | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """What is read of the files."""
        seen = ("features", "signals", "answer") if self.policy.learned is not None else ()
        supplied = SUPPLIED_COLUMNS if self.policy.source.kind == "supplied" else ()
        return ("split", "group", "extra_costs", *supplied, *seen)

    def evaluated(self, piece: Piece, table: Table) -> Bool[np.ndarray, " n"]:
        """The rows to evaluate on; see `cascjax.evaluation.evaluate`."""
        if table.split is not None:
            return table.split == EVALUATE
        if self.policy.fingerprint == self.stream.fingerprint():
            job = Job(self.stream, (self.policy.strategy,), seed=self.policy.source.seed)
            return ~is_fit(job, piece, table)
        return np.ones(piece.n_rows, bool)


def tallies(of: Replaying, pieces: Iterable[Piece]) -> Iterator[tuple[Piece, list[Row]]]:
    """Sums of every piece, a row for all its queries, each rule and each group.

    Args:
        of: what is replayed.
        pieces: which.

    Raises:
        CascjaxError: see `Stream.tables` and `Policy.beliefs`.
    """
    policy, stream = of.policy, of.stream
    _, _, costs = costs_of(policy, stream.extra_costs)
    for piece, table in stream.tables(pieces, of.columns):
        rows = np.flatnonzero(of.evaluated(piece, table))
        numbers = piece.rows
        noisy = None if of.known is None else of.known.estimates(table, numbers)
        assert isinstance(noisy, Independent | None)
        found = replay(policy, policy.beliefs(table, noisy), table, rows, costs)
        measured = np.concatenate([found.quality[None], found.cost]).T
        truths = [table.cost if name == COST else table.extra_costs[name] for name in costs]
        alone = [column[rows].sum(0, dtype=np.float64) for column in (*truths, table.quality)]

        tally = functools.partial(_tally, of, found, measured, piece.first + rows)
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
        yield piece, each


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
    stream: Stream | str | Path | Sequence[str | Path],
    *,
    resamples: int = 0,
    confidence: float = 0.95,
    seed: int = 0,
    ledger: Ledger | None = None,
    progress: Progress = lambda doing, rows: None,
) -> Evaluation:
    """As `cascjax.evaluate`, on files larger than memory: all but what came of single queries.

    Args:
        policy: what to replay; models and groups are matched by name.
        stream: the files, opened or as `open_stream` takes them.
        resamples: see `cascjax.evaluate`; 0 by default, since they take longer than the rest.
        confidence: see there.
        seed: see there.
        ledger: where to keep what is done; by default nowhere.
        progress: see `cascjax.comparison_stream.compare_stream`.

    Returns:
        The evaluation, whose `rows`, `quality`, `cost`, `steps` and `answer` are empty.

    Raises:
        CascjaxError: what `cascjax.evaluate`, `open_stream`, `Stream.tables` and `Run.begun`
            refuse.
    """
    if not isinstance(stream, Stream):
        stream = open_stream(stream)
    missing = [name for name in policy.models if name not in stream.models]
    if missing:
        raise CascjaxError(
            f"{stream.name}: the policy chooses among models the files lack: {', '.join(missing)};"
            f" they have {', '.join(stream.models)}"
        )
    check_confidence(confidence)
    if resamples:
        check_bootstrap(resamples, confidence, stream.n_rows)
    stream = stream.select_models(policy.models)
    if policy.learned is not None:
        stream = stream.with_room_for(stream.n_seen + len(policy.learned.feature_spec.columns))
    of = Replaying(policy, stream, resamples, seed)
    asked = {"policy": policy.text(), "resamples": resamples, "seed": seed}
    pieces, doing = stream.pieces, "evaluating"
    keys = [f"evaluate-{piece.index:06d}" for piece in pieces]
    noisy = policy.source.kind == "noisy"
    of_some = lots(_noise_job(of)) if noisy else {
        key: [piece] for key, piece in zip(keys, pieces, strict=True)
    }  # fmt: skip
    run = Run.begun(ledger, of.stream, asked, progress, of_some)
    if noisy:
        of = replace(of, known=_noise(of, run))

    def do(places: Sequence[int]) -> Done:
        for piece, each in tallies(of, [pieces[place] for place in places]):
            run.progress(doing, piece.n_rows)
            yield piece.index, pa.Table.from_pylist(each)

    tables = run.each(doing, keys, [piece.n_rows for piece in pieces], do)
    return _evaluation(of, confidence, (row for table in tables for row in table.to_pylist()))


def _noise_job(of: Replaying) -> Job:
    policy = of.policy
    noise = policy.source.noise or (0.0, 0.0, 0.0, 0.0)
    return Job(of.stream, (policy.strategy,), "noisy", noise, seed=policy.source.seed, sample=1)


def _noise(of: Replaying, run: Run) -> Known:
    """What noisy estimates take of all rows, by a reading of their own."""
    job, mean_cost = _noise_job(of), of.policy.mean_costs[0]
    moments = moments_of(looked_at(job, run))
    known = under_noise(Known("noisy", mean_cost, seed=job.seed), moments, job.noise)
    # How far answers move is what the policy was fitted with.
    return replace(known, sigma=of.policy.sigma)


def _evaluation(of: Replaying, confidence: float, rows: Iterable[Row]) -> Evaluation:
    """What the sums of all pieces say, in the order of the pieces."""
    policy, stream = of.policy, of.stream
    present, foreign, costs = costs_of(policy, stream.extra_costs)
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
    units = dict(stream.metadata.cost_units)
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
        unchecked=unchecked(policy, stream.extra_costs, "group" in stream.columns, places),
        target=target_of(policy),
        foreign=foreign,
    )
