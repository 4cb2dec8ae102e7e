"""Frontiers over a stream: the whole job in one call, and its steps for whoever shares it out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from cascjax.errors import CascjaxError, unknown_name
from cascjax.estimators import noise_level
from cascjax.io.parts import Parts
from cascjax.io.stream import Stream, open_stream
from cascjax.metrics.bootstrap import check_bootstrap
from cascjax.search.frontier import Frontier, Study, check_reach, differences_of, strategies_named
from cascjax.search.ledger import (
    Ledger,
    read_choice,
    read_looked,
    read_resamples,
    read_sums,
    write_choice,
    write_looked,
    write_resamples,
    write_sums,
)
from cascjax.search.streamed import (
    SAMPLE,
    Choice,
    Job,
    Looked,
    Progress,
    Settled,
    Summed,
    choose,
    finish,
    look,
    resample,
    settle,
    sums,
    with_intervals,
)
from cascjax.strategies import Strategy


def compare_stream(
    stream: Stream | str | Path | Sequence[str | Path],
    strategies: Sequence[str | Strategy] | str | None = None,
    *,
    estimates: str | None = None,
    noise: str | tuple[float, float, float, float] = "low",
    budgets: int | Sequence[float] | Float[np.ndarray, " P"] | None = None,
    max_depth: int = 5,
    seed: int = 0,
    sample: int = SAMPLE,
    resamples: int = 0,
    confidence: float = 0.95,
    ledger: Ledger | None = None,
    settings: Mapping[str, Any] | None = None,
    progress: Progress = lambda doing, rows: None,
) -> Study:
    """Draws the frontiers of several strategies over files larger than memory.

    As `cascjax.compare` of a table of all rows would, to 1e-6 where the sample holds all rows to
    fit on. Memory does not grow with the rows, but for a few hundred bytes a piece and model.

    Args:
        stream: the files, opened or as `open_stream` takes them.
        strategies: names or strategies, or one name; by default every one there is.
        estimates: "supplied" or "noisy"; by default what the files supply, else noisy.
        noise: level of noisy estimates.
        budgets: see `cascjax.search.frontier.study`.
        max_depth: models cascade routing runs on one query at most.
        seed: of the noise, the sample, and of the split where the files have none.
        sample: rows to fit on that settings are looked for on, at most.
        resamples: of the rows to evaluate on, for intervals, which take a third reading; 0 for
            none.
        confidence: of those intervals.
        ledger: where to keep what is done; by default nowhere. Its parts stay when all is done:
            they go with `cascjax.io.parts.discard`.
        settings: what was asked for, for the record.
        progress: called with what is being done, and the rows or queries it is done with.

    Raises:
        CascjaxError: an unknown name; learned estimates, which need the whole table; estimates
            that the files lack; or what `open_stream`, `Stream.tables`, `Ledger.opened` and
            `cascjax.search.frontier.study` refuse.
    """
    job = asked(
        stream, strategies, estimates=estimates, noise=noise, budgets=budgets,
        max_depth=max_depth, seed=seed, sample=sample, resamples=resamples, confidence=confidence,
    )  # fmt: skip
    return draw(job, None if ledger is None else ledger.opened(job), settings, progress)


def asked(
    stream: Stream | str | Path | Sequence[str | Path],
    strategies: Sequence[str | Strategy] | str | None = None,
    *,
    estimates: str | None = None,
    noise: str | tuple[float, float, float, float] = "low",
    budgets: int | Sequence[float] | Float[np.ndarray, " P"] | None = None,
    max_depth: int = 5,
    seed: int = 0,
    sample: int = SAMPLE,
    resamples: int = 0,
    confidence: float = 0.95,
) -> Job:
    """The job of `compare_stream`, refused where it cannot succeed.

    Raises:
        CascjaxError: see `compare_stream`.
    """
    if not isinstance(stream, Stream):
        stream = open_stream(stream)
    chosen = strategies_named(strategies, max_depth)
    if not chosen:
        raise CascjaxError("no strategy to draw: name at least one")
    for kind in chosen:
        kind.footprint(stream.n_models)
    if estimates == "learned":
        raise CascjaxError(
            "learned estimates are fitted on a table in memory: fit a policy on one of the files,"
            " with cascjax fit FILE --estimates learned --out POLICY, and hold the others to it"
            " with cascjax evaluate POLICY"
        )
    if estimates not in (None, "supplied", "noisy"):
        raise unknown_name("kind of estimates", estimates, ("supplied", "noisy", "learned"))
    kind = estimates or ("supplied" if "quality_ante" in stream.columns else "noisy")
    if kind == "supplied":
        for column in ("quality_ante", "quality_post"):
            if column not in stream.columns:
                raise CascjaxError(
                    f"{stream.name}: the files have no column {column!r}, which supplied estimates"
                    " need; bring it, or use --estimates noisy"
                )
    level = noise_level(noise)
    if not isinstance(budgets, int | None):
        budgets = tuple(np.asarray(budgets, np.float64).tolist())
    if sample < 1:
        raise CascjaxError(f"the sample must hold at least 1 row, not {sample}")
    noises = level if kind == "noisy" else (0.0, 0.0, 0.0, 0.0)
    if resamples:
        check_bootstrap(resamples, confidence, stream.n_rows)
    return Job(stream, tuple(chosen), kind, noises, budgets, seed, sample, resamples, confidence)


def draw(
    job: Job,
    parts: Parts | None = None,
    settings: Mapping[str, Any] | None = None,
    progress: Progress = lambda doing, rows: None,
) -> Study:
    """Does a job in one process: both readings, and what comes out.

    Args:
        job: what is asked.
        parts: where what is done is kept and found, opened.
        settings: what was asked for, for the record.
        progress: see `compare_stream`.

    Raises:
        CascjaxError: see `compare_stream`.
    """
    looked = looked_at(job, parts, progress)
    settled = settle(job, looked)
    choices = chosen(job, settled, parts, progress)
    found = summed(job, settled, choices, parts, progress)
    frontiers = finish(job, settled, choices, found)
    if job.budgets is not None and not isinstance(job.budgets, int):
        check_reach(frontiers, settled.budgets, job.stream.cost_unit)
    if job.resamples:
        check_bootstrap(job.resamples, job.confidence, int(settled.count[1]))
        frontiers = _with_intervals(job, settled, choices, frontiers, parts, progress)
    return Study(
        frontiers=tuple(frontiers),
        models=settled.models,
        cost_unit=job.stream.cost_unit,
        single_cost=settled.cost[1],
        single_quality=settled.quality[1],
        n_fit=int(settled.count[0]),
        n_evaluate=int(settled.count[1]),
        settings=record(job, settled, choices) | dict(settings or {}),
        resamples=job.resamples,
        confidence=job.confidence,
        **differences_of(frontiers, job.confidence),
    )


def looked_at(
    job: Job, parts: Parts | None = None, progress: Progress = lambda doing, rows: None
) -> Looked:
    """What the first reading of all pieces finds, or was kept of it; see `draw`."""
    found = None if parts is None else read_looked(job, parts)
    if found is not None:
        progress("looking", job.stream.n_rows)
        return found
    found = look(job, job.stream.pieces, lambda rows: progress("looking", rows))
    if parts is not None:
        write_looked(found, parts)
    return found


def summed(
    job: Job,
    settled: Settled,
    choices: Sequence[Choice],
    parts: Parts | None = None,
    progress: Progress = lambda doing, rows: None,
) -> dict[int, tuple[Summed, ...]]:
    """The sums of all pieces by index, read or kept; see `draw`."""
    found: dict[int, tuple[Summed, ...]] = {}
    if parts is not None:
        for piece in job.stream.pieces:
            if (done := read_sums(job, choices, piece, parts)) is not None:
                found[piece.index] = done
                progress("summing", piece.n_rows)
    left = [piece for piece in job.stream.pieces if piece.index not in found]
    for piece, of in sums(job, settled, choices, left):
        if parts is not None:
            write_sums(piece, of, parts)
        found[piece.index] = of
        progress("summing", piece.n_rows)
    return found


def _with_intervals(
    job: Job,
    settled: Settled,
    choices: Sequence[Choice],
    frontiers: Sequence[Frontier],
    parts: Parts | None,
    progress: Progress,
) -> list[Frontier]:
    pieces, found = job.stream.pieces, {}
    if parts is not None:
        for piece in pieces:
            if (done := read_resamples(job, piece, parts)) is not None:
                found[piece.index] = done
                progress("resampling", piece.n_rows)
    left = [piece for piece in pieces if piece.index not in found]
    for piece, sums_ in resample(job, settled, choices, frontiers, left):
        if parts is not None:
            write_resamples(piece, sums_, parts)
        found[piece.index] = sums_
        progress("resampling", piece.n_rows)
    return with_intervals(job, frontiers, found)


def chosen(
    job: Job,
    settled: Settled,
    parts: Parts | None = None,
    progress: Progress = lambda doing, rows: None,
) -> list[Choice]:
    """What every strategy is fitted to on the sample; see `choose`.

    Args:
        job: what is asked.
        settled: what is known of all rows.
        parts: where what is done is kept and found, opened.
        progress: see `compare_stream`.
    """
    estimates = settled.known.estimates(settled.table, settled.sample)
    choices = []
    for place, strategy in enumerate(job.strategies):
        key = f"choice-{place:02d}-{strategy.name}"
        choice = None if parts is None else read_choice(key, parts)
        if choice is None:
            doing = f"fitting {strategy.name}"
            choice = choose(settled, strategy, estimates, lambda n, of=doing: progress(of, n))
            if parts is not None:
                write_choice(key, choice, parts)
        choices.append(choice)
    return choices


def record(job: Job, settled: Settled, choices: Sequence[Choice]) -> dict[str, Any]:
    """What is to be said of how a job was done."""
    found: dict[str, Any] = {
        "files": len(job.stream.files),
        "estimates": job.estimates,
        "split": job.split,
        "seed": job.seed,
    }
    if job.estimates == "noisy":
        found["noise"] = list(job.noise)
    if not settled.exact:
        found["sample"] = len(settled.sample)
        found["sample_cost_error"] = max(choice.cost_error for choice in choices)
        found["sample_quality_error"] = max(choice.quality_error for choice in choices)
    return found
