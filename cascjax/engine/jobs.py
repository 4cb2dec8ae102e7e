"""The passes of a job, each shared among processes and kept in the checkpoint."""

import functools
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from cascjax.data.source import Source
from cascjax.data.table import Chunk, Table
from cascjax.engine.compiled import keep_compiled
from cascjax.engine.options import RunOptions
from cascjax.engine.passes import (
    Candidates,
    ChunkInputs,
    Job,
    Sample,
    Setup,
    SplitTotals,
    Statistics,
    chunk_totals,
    collect_statistics,
    make_setup,
    merge_statistics,
    search_candidates,
)
from cascjax.engine.processes import Processes
from cascjax.engine.run import Run
from cascjax.errors import CascjaxError

_GROUPS = 64  # Largest number of groups of chunks in pass 1, whose statistics are kept together


def start_run(
    job: Job,
    options: RunOptions,
    settings: Mapping[str, Any] | None = None,
    processes: Processes | None = None,
) -> Run:
    """Return the run of a job; see `Run.start`."""
    keep_compiled()
    settings = job.settings() | dict(settings or {})
    return Run.start(options, job.source, settings, _groups(job), processes)


def collect(job: Job, run: Run) -> Statistics:
    """Return the statistics of all chunks: pass 1."""
    groups, work = _groups(job), "reading"

    def do(places: Sequence[int]) -> Generator[tuple[int, Statistics], None, None]:
        sample = Sample()
        for place in places:
            chunks = list(groups.values())[place]
            progress = functools.partial(run.progress, work)
            rows = run.read(chunks, job.all_columns)
            statistics = collect_statistics(job, rows, progress, other=sample)
            yield place, statistics
            sample = merge_statistics(job, Statistics(sample=sample), statistics).sample

    parts = run.each(work, list(groups), list(groups.values()), do)
    return functools.reduce(functools.partial(merge_statistics, job), parts, Statistics())


def prepare(job: Job, run: Run) -> Setup:
    """Return what is known after pass 1, with the estimates fitted on the sample."""
    setup, work = make_setup(job, collect(job, run)), "learning"
    if not setup.estimates.digest:
        return setup
    digest = np.frombuffer(setup.estimates.digest.encode(), np.uint8)

    # Every process learns by itself; a resumed job learns again what it learned before.
    equal = (run.processes.gather(digest) == digest).all()
    (kept,) = run.each(work, ["learned"], [()], lambda places: ((p, digest) for p in places))
    if not equal or not np.array_equal(kept, digest):
        raise CascjaxError(
            "learned estimates differ between processes or from those before the interrupt,"
            " because processors of different kinds round differently: use machines of one kind,"
            " start over with force=True, or fit a policy on one machine and share its evaluation"
        )
    return setup


def find_candidates(job: Job, setup: Setup, run: Run) -> list[Candidates]:
    """Return the settings of every strategy around the budgets, found on the sample."""

    def do(places: Sequence[int]) -> Generator[tuple[int, Candidates], None, None]:
        estimator = setup.estimator() if places else None
        for place in places:
            assert estimator is not None
            strategy = job.strategies[place]
            progress = functools.partial(run.progress, f"fitting {strategy.name}")
            yield (
                place,
                search_candidates(setup, strategy, estimator, job.seed, progress, refit=job.refit),
            )

    keys = [f"candidates-{place:02d}" for place in range(len(job.strategies))]
    return list(run.each("fitting", keys, [()] * len(keys), do))


def sum_candidates(
    job: Job, setup: Setup, candidates: Sequence[Candidates], run: Run, name: str = "totals"
) -> tuple[SplitTotals, ...]:
    """Return the sums of every strategy's settings over all rows: pass 2."""
    return sum_chunks(
        job, setup, name, lambda inputs: chunk_totals(inputs, job.strategies, candidates), run
    )


def sum_chunks(
    job: Job, setup: Setup, name: str, compute: Callable[[ChunkInputs], Any], run: Run
) -> Any:
    """Return the sum over all chunks of a pytree of arrays, added in chunk order."""

    def of_chunk(chunk: Chunk, table: Table) -> Any:
        return compute(ChunkInputs.from_chunk(job, setup, chunk, table))

    parts = each_chunk(job.source, run, name, job.all_columns, of_chunk)
    return functools.reduce(lambda total, part: jax.tree.map(np.add, total, part), parts)


def each_chunk(
    source: Source,
    run: Run,
    work: str,
    columns: Iterable[str],
    compute: Callable[[Chunk, Table], Any],
) -> Iterable[Any]:
    """Return the results of a function of every chunk, in order, shared among processes."""
    chunks = source.chunks

    def do(places: Sequence[int]) -> Generator[tuple[int, Any], None, None]:
        for chunk, table in run.read([chunks[place] for place in places], columns):
            yield chunk.index, compute(chunk, table)
            run.progress(work, chunk.n_rows)

    keys = [f"{work}-{chunk.index:06d}" for chunk in chunks]
    return run.each(work, keys, [[chunk] for chunk in chunks], do)


def _groups(job: Job) -> dict[str, tuple[Chunk, ...]]:
    """Return the chunks in groups for pass 1, by the key under which a group is kept."""
    chunks = job.source.chunks
    size = -(-len(chunks) // _GROUPS)
    starts = range(0, len(chunks), size)
    return {f"read-{i:02d}": chunks[start : start + size] for i, start in enumerate(starts)}
