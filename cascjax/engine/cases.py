"""Several questions on the same models of a stream, answered by the same readings of its files.

Levels of noise, for one: what `look` finds does not depend on them, and a piece that was read
serves all. A single question is the usual one. What is kept is kept by piece and case.
"""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import jax
import numpy as np
import pyarrow as pa

from cascjax.comparison import Frontier, check_reach
from cascjax.data.source import Piece
from cascjax.data.table import Table
from cascjax.engine.ledger import (
    choice_of,
    choice_table,
    resamples_of,
    resamples_table,
    sums_of,
    sums_table,
)
from cascjax.engine.passes import (
    Choice,
    Job,
    Settled,
    Summed,
    choose,
    finish,
    piece_resamples,
    piece_sums,
    with_intervals,
)
from cascjax.engine.run import Done, Run
from cascjax.metrics.bootstrap import check_bootstrap

T = TypeVar("T")


@dataclass(frozen=True)
class Case:
    """One of several questions.

    Attributes:
        job: what is asked; the same as the others' but for strategies and noise.
        settled: what is known of all rows, for this one.
    """

    job: Job
    settled: Settled


def draw_cases(cases: Sequence[Case], run: Run) -> list[tuple[list[Choice], list[Frontier]]]:
    """What every case's settings and frontiers are, by a second reading, and of resamples a third.

    Args:
        cases: at least one.
        run: how it is done.

    Raises:
        CascjaxError: a budget asked for is out of reach, or see `Stream.tables` and `Run.each`.
    """
    choices = choose_cases(cases, run)
    found = sum_cases(cases, choices, run)
    drawn = [
        finish(one.job, one.settled, chosen, of)
        for one, chosen, of in zip(cases, choices, found, strict=True)
    ]
    for one, frontiers in zip(cases, drawn, strict=True):
        if isinstance(one.job.budgets, tuple):
            check_reach(frontiers, one.settled.budgets, one.job.stream.cost_unit)
    return list(zip(choices, _resampled(cases, choices, drawn, run), strict=True))


def choose_cases(cases: Sequence[Case], run: Run) -> list[list[Choice]]:
    """Of each case what every strategy is fitted to on the sample; see `choose`.

    Raises:
        CascjaxError: resamples that cannot show their ends, or see `Run.each`.
    """
    for one in cases:
        if one.job.resamples:
            check_bootstrap(one.job.resamples, one.job.confidence, int(one.settled.count[1]))
    pairs = [(i, place) for i, one in enumerate(cases) for place in range(len(one.job.strategies))]

    def do(places: Sequence[int]) -> Done:
        for case, some in itertools.groupby(places, lambda place: pairs[place][0]):
            settled = cases[case].settled
            estimates = settled.known.estimates(settled.table, settled.sample)
            for place in some:
                strategy = cases[case].job.strategies[pairs[place][1]]
                told = functools.partial(run.progress, f"fitting {strategy.name}")
                yield place, choice_table(choose(settled, strategy, estimates, told))

    keys = [f"choice-{case:03d}-{place:02d}" for case, place in pairs]
    found: list[list[Choice]] = [[] for _ in cases]
    tables = run.each("fitting", keys, [0] * len(keys), do)
    for (case, _), table in zip(pairs, tables, strict=True):
        found[case].append(choice_of(table))
    return found


def sum_cases(
    cases: Sequence[Case], choices: Sequence[Sequence[Choice]], run: Run
) -> list[tuple[Summed, ...]]:
    """Of each case the sums of every strategy over all pieces, by a second reading.

    Raises:
        CascjaxError: see `Stream.tables` and `Run.each`.
    """

    def work(case: int, piece: Piece, table: Table) -> pa.Table:
        one = cases[case]
        return sums_table(piece_sums(one.job, one.settled, choices[case], piece, table))

    tables = over_pieces("sums", "summing", cases[0], len(cases), work, run)
    return add_up((sums_of(table) for table in tables), len(cases))


def _resampled(
    cases: Sequence[Case],
    choices: Sequence[Sequence[Choice]],
    drawn: Sequence[list[Frontier]],
    run: Run,
) -> list[list[Frontier]]:
    """The frontiers of each case with intervals, by a third reading, if any were asked for."""
    if not cases[0].job.resamples:
        return list(drawn)

    def work(case: int, piece: Piece, table: Table) -> pa.Table:
        one = cases[case]
        return resamples_table(
            piece_resamples(one.job, one.settled, choices[case], drawn[case], piece, table)
        )

    tables = over_pieces("resamples", "resampling", cases[0], len(cases), work, run)
    sums = add_up((resamples_of(table) for table in tables), len(cases))
    return [
        with_intervals(one.job, frontiers, of)
        for one, frontiers, of in zip(cases, drawn, sums, strict=True)
    ]


def over_pieces(
    name: str,
    doing: str,
    like: Case,
    count: int,
    work: Callable[[int, Piece, Table], pa.Table],
    run: Run,
) -> Iterator[pa.Table]:
    """What comes of every piece for each of several cases, each piece being read once.

    Args:
        name: what is kept is called.
        doing: what is being done, in words.
        like: one of the cases, whose rows, models and columns are those of all.
        count: of cases.
        work: makes what is kept of a case and a piece that was read.
        run: how it is done; is told the rows of a piece for each case.

    Returns:
        Those of the first piece, in the order of the cases, then those of the next one.

    Raises:
        CascjaxError: see `Stream.tables` and `Run.each`.
    """
    stream = like.job.stream.select_models(like.settled.models)
    pieces = stream.pieces

    def do(places: Sequence[int]) -> Done:
        missing: dict[int, list[int]] = {}
        for place in places:
            missing.setdefault(place // count, []).append(place % count)
        for piece, table in stream.tables([pieces[i] for i in missing], like.job.columns):
            for case in missing[piece.index]:
                yield piece.index * count + case, work(case, piece, table)
                run.progress(doing, piece.n_rows)

    keys = [f"{name}-{piece.index:06d}-{case:03d}" for piece in pieces for case in range(count)]
    return run.each(doing, keys, [piece.n_rows for piece in pieces for _ in range(count)], do)


def add_up(found: Iterable[T], count: int) -> list[T]:
    """Of each case the sums over all pieces, of what comes in the order of `over_pieces`."""
    sums: list[T] = []
    for place, of in enumerate(found):
        if place < count:
            sums.append(of)
        else:
            sums[place % count] = jax.tree.map(np.add, sums[place % count], of)
    return sums
