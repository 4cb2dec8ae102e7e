"""Frontiers over a stream: the whole job in one call, and its steps for whoever shares it out."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from cascjax.comparison import Study, differences_of, strategies_named
from cascjax.data.source import Piece, Stream, open_stream
from cascjax.engine.cases import Case, draw_cases
from cascjax.engine.ledger import looked_of, looked_table
from cascjax.engine.parts import packed, unpacked
from cascjax.engine.passes import (
    NO_SAMPLE,
    SAMPLE,
    Choice,
    Job,
    Looked,
    Settled,
    look,
    merge,
    settle,
)
from cascjax.engine.run import Done, Ledger, Progress, Run
from cascjax.errors import CascjaxError, RefusedError
from cascjax.estimators import check_kind, learned, noise_level
from cascjax.estimators.independent import check_estimator
from cascjax.estimators.learned import check_learning
from cascjax.metrics.bootstrap import check_bootstrap
from cascjax.search.sigma_scale import check_sigma_scale
from cascjax.strategies import Strategy
from cascjax.words import counted

_LOTS = 64
"""Lots that the pieces are looked at in, if there are as many: what is found is kept by lot."""


def compare_stream(
    stream: Stream | str | Path | Sequence[str | Path],
    strategies: Sequence[str | Strategy] | str | None = None,
    *,
    estimates: str | None = None,
    noise: str | tuple[float, float, float, float] = "low",
    learner: str = "logistic",
    folds: int = 5,
    cost_model: str | None = None,
    ridge: float | None = 1.0,
    sigma_scale: float | str = "auto",
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
    fit on. Memory does not grow with the rows, but for a few hundred bytes a piece and model, and
    without a ledger for the sums of each piece. Processes of `jax.distributed` share the work: call
    it in all of them.

    Args:
        stream: the files, opened or as `open_stream` takes them.
        strategies: names or strategies, or one name; by default every one there is.
        estimates: "supplied", "noisy" or "learned"; by default what the files supply, else noisy.
            Learned ones are learned from the sample, and are cross-fitted of its rows.
        noise: level of noisy estimates.
        learner: of learned estimates, see `cascjax.compare`; so are the next four.
        folds: see there.
        cost_model: see there.
        ridge: see there.
        sigma_scale: see there.
        budgets: see `cascjax.compare.study`.
        max_depth: models cascade routing runs on one query at most.
        seed: of the noise, the folds, the sample, and of the split where the files have none.
        sample: rows to fit on that settings are looked for on, and estimates learned from, at most.
        resamples: of the rows to evaluate on, for intervals, which take a third reading; 0 for
            none.
        confidence: of those intervals.
        ledger: where to keep what is done; by default nowhere. Its parts stay when all is done:
            they go with `cascjax.engine.parts.discard`.
        settings: what was asked for, for the record.
        progress: called with what is being done, and the rows or queries it is done with.

    Raises:
        CascjaxError: an unknown name; estimates that the files lack; processes that learn other
            estimates; or what `cascjax.estimators.learned`, `open_stream`, `Stream.tables`,
            `Run.begun` and `cascjax.compare.study` refuse.
    """
    job = asked(
        stream, strategies, estimates=estimates, noise=noise, learner=learner, folds=folds,
        cost_model=cost_model, ridge=ridge, sigma_scale=sigma_scale, budgets=budgets,
        max_depth=max_depth, seed=seed, sample=sample, resamples=resamples, confidence=confidence,
    )  # fmt: skip
    return draw(job, begun(job, ledger, progress), settings)


def asked(
    stream: Stream | str | Path | Sequence[str | Path],
    strategies: Sequence[str | Strategy] | str | None = None,
    *,
    estimates: str | None = None,
    noise: str | tuple[float, float, float, float] = "low",
    learner: str = "logistic",
    folds: int = 5,
    cost_model: str | None = None,
    ridge: float | None = 1.0,
    sigma_scale: float | str = "auto",
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
    check_kind(estimates)
    kind = estimates or ("supplied" if "quality_ante" in stream.columns else "noisy")
    if kind == "supplied":
        for column in ("quality_ante", "quality_post"):
            if column not in stream.columns:
                raise CascjaxError(
                    f"{stream.name}: the files have no column {column!r}, which supplied estimates"
                    " need; bring it, or use --estimates noisy"
                )
    learning: dict[str, Any] = {}
    if kind == "learned":
        check_learning(learner, cost_model, ridge, folds, n_models=stream.n_models)
        learning = {"estimator": learner, "folds": folds, "cost_model": cost_model, "ridge": ridge}
        # Beside what the files have, what each model cost and whether two of them agree.
        stream = stream.with_room_for(stream.n_seen + stream.n_models**2)
    level, scale = noise_level(noise), check_sigma_scale(sigma_scale)
    if not isinstance(budgets, int | None):
        budgets = tuple(np.asarray(budgets, np.float64).tolist())
    if sample < 1:
        raise CascjaxError(f"the sample must hold at least 1 row, not {sample}")
    if kind == "learned" and sample < 2 * folds:
        raise CascjaxError(
            f"a sample of {counted(sample, 'row')} (--sample) is too small for {folds} folds: take"
            f" at least {2 * folds}"
        )
    noises = level if kind == "noisy" else (0.0, 0.0, 0.0, 0.0)
    if resamples:
        check_bootstrap(resamples, confidence, stream.n_rows)
    return Job(
        stream, tuple(chosen), kind, noises, budgets, seed, sample, resamples, confidence,
        learning=learning, sigma_scale=scale,
    )  # fmt: skip


def begun(job: Job, ledger: Ledger | None, progress: Progress) -> Run:
    """A run of a job; see `Run.begun`."""
    return Run.begun(ledger, job.stream, job.settings(), progress, lots(job))


def draw(job: Job, run: Run | None = None, settings: Mapping[str, Any] | None = None) -> Study:
    """Does a job: both readings, and what comes out.

    Args:
        job: what is asked.
        run: how it is done; by default in this process alone, and nothing is kept.
        settings: what was asked for, for the record.

    Raises:
        CascjaxError: see `compare_stream`.
    """
    run = run or Run()
    settled = settled_by(job, run)
    ((choices, frontiers),) = draw_cases([Case(job, settled)], run)
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


def settled_by(job: Job, run: Run) -> Settled:
    """What is known of all rows after the first reading, and what is learned from the sample.

    Raises:
        RefusedError: what `cascjax.estimators.learned` refuses.
        CascjaxError: see `settle`; or what is learned is not what another process learned, or this
            run before it was interrupted.
    """
    settled = settle(job, looked_at(job, run))
    if job.estimates != "learned":
        return settled
    doing, every = "learning", np.arange(len(settled.sample))
    run.progress(doing, 0)
    try:
        found = learned(settled.table, every, seed=job.seed, **job.learning)
        check_estimator(found.estimator, settled.table)
    except CascjaxError as error:
        raise RefusedError(str(error)) from error
    digest = np.frombuffer(found.digest.encode(), np.uint8)

    def do(places: Sequence[int]) -> Done:
        for place in places:
            yield place, packed({"digest": digest})

    # Every process learns by itself, and what was found before an interrupt is found again.
    alike = (run.processes.gather(digest) == digest).all()
    (kept,) = run.each(doing, ["learned"], [0], do)
    if not alike or not np.array_equal(unpacked(kept)["digest"], digest):
        raise CascjaxError(
            "estimates are learned otherwise here than in another process, or than before the"
            " interrupt: processors of another kind round otherwise. Go on with machines alike,"
            " start over with --force, or fit a policy on one and share out its evaluation"
        )
    return replace(settled, known=replace(settled.known, learned=found, taught=settled.sample))


def lots(job: Job) -> dict[str, tuple[Piece, ...]]:
    """The pieces in lots for the first reading, by what is kept of each."""
    pieces = job.stream.pieces
    size = -(-len(pieces) // _LOTS)
    starts = range(0, len(pieces), size)
    return {f"look-{i:02d}": pieces[start : start + size] for i, start in enumerate(starts)}


def looked_at(job: Job, run: Run) -> Looked:
    """What the first reading of all pieces finds."""
    keys, of_each, doing = list(lots(job)), list(lots(job).values()), "looking"

    def do(places: Sequence[int]) -> Done:
        sample = NO_SAMPLE
        for place in places:
            found = look(job, of_each[place], lambda rows: run.progress(doing, rows), beside=sample)
            yield place, looked_table(found)
            sample = merge(job, Looked({}, sample), found).sample

    rows = [sum(piece.n_rows for piece in lot) for lot in of_each]
    looked = Looked({}, NO_SAMPLE)
    for table in run.each(doing, keys, rows, do):
        looked = merge(job, looked, looked_of(job, table))
    return looked


def learned_from(settled: Settled) -> list[str]:
    """What is to be said of the rows that estimates were learned from, where these are not all."""
    if settled.exact:
        return []
    m, n = len(settled.sample), int(settled.count[0])
    return [f"estimates were learned from {m:,} of {n:,} rows to fit on, a sample"]


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
    if settled.known.learned is not None:
        found |= settled.known.learned.settings()
        found["notes"] += learned_from(settled)
    if not settled.exact:
        found["sample"] = len(settled.sample)
        found["sample_cost_error"] = max(choice.cost_error for choice in choices)
        found["sample_quality_error"] = max(choice.quality_error for choice in choices)
    return found
