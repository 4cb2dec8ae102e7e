"""Experiments on streams: a cell is a choice of models, all of whose work shares the readings."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cascjax.comparison import Frontier
from cascjax.experiments import base
from cascjax.experiments.cells import Row
from cascjax.experiments.legacy import (
    Case,
    Job,
    Progress,
    Run,
    Settled,
    draw_cases,
    looked_at,
    lots,
    settle,
    under,
)
from cascjax.experiments.protocol import check_stream, streamed
from cascjax.strategies import Strategy

PIECE_ROWS = 1 << 17
"""Rows of a piece at most: of 11 models and one level of noise the work of some minutes."""

_LOOKING = 0.1
"""How long a row takes in the first reading, beside one in another for one case."""

_FITTING = 5
"""Rounds of a fit, about."""


@dataclass(frozen=True)
class Question:
    """Strategies to draw under one kind of estimates.

    Attributes:
        level: of noise.
        strategies: what to draw.
        squared: whether each estimate's variance is believed to be its standard deviation.
    """

    level: str
    strategies: tuple[Strategy, ...]
    squared: bool = False

    def case(self, job: Job, settled: Settled) -> Case:
        """This question of a stream, whose first reading is settled for any level."""
        settled = under(settled, job.noise)
        sigma = settled.known.sigma
        if self.squared and sigma is not None:
            settled = replace(settled, known=replace(settled.known, sigma=sigma**2))
        return Case(job, settled)


def answered(
    asked: base.Job,
    key: str,
    n_models: int,
    questions: Sequence[Question],
    progress: Callable[[float], None],
    resamples: int = 0,
) -> list[tuple[Question, Settled, list[Frontier]]]:
    """The frontiers of each question, under the paper's protocol.

    Args:
        asked: of the experiment.
        key: of the cell.
        n_models: which choice of models.
        questions: all of that choice.
        progress: is told the share that is done.
        resamples: of the rows to evaluate; 0 for none.

    Raises:
        CascjaxError: see `check_stream` and `cascjax.comparison_stream.compare_stream`.
    """
    assert asked.stream is not None
    check_stream(asked.stream)
    jobs = [
        streamed(asked.stream, n_models, one.strategies, one.level, asked.seed, resamples)
        for one in questions
    ]
    run = begun(asked, key, jobs[0], len(jobs), progress, {"questions": [*map(repr, questions)]})
    settled = settle(jobs[0], looked_at(jobs[0], run))
    cases = [one.case(job, settled) for one, job in zip(questions, jobs, strict=True)]
    settled_of = [case.settled for case in cases]
    frontiers = [drawn for _, drawn in draw_cases(cases, run)]
    return list(zip(questions, settled_of, frontiers, strict=True))


def begun(
    asked: base.Job,
    key: str,
    job: Job,
    cases: int,
    progress: Callable[[float], None],
    more: Mapping[str, Any],
) -> Run:
    """The run of a cell.

    Args:
        asked: of the experiment.
        key: of the cell.
        job: what the cell asks of the stream.
        cases: times that a row is gone through in every reading but the first.
        progress: is told the share that is done.
        more: what else tells the cell's work from another.

    Raises:
        CascjaxError: see `Run.begun`.
    """
    ledger = asked.ledger
    if ledger is not None:
        ledger = replace(ledger, folder=Path(ledger.folder) / f"{key}{base.INSIDE}")
    settings, told = job.settings() | dict(more), _share_of(progress, job, cases)
    return Run.begun(ledger, job.stream, settings, told, lots(job))


def _share_of(progress: Callable[[float], None], job: Job, cases: int) -> Progress:
    """What a run tells of its rows, as a share of about so many as there will be."""
    n, kinds, spent = job.stream.n_rows, max(len(job.strategies), 1), 0.0
    fitting = _FITTING * cases * min(n / 20, 1 << 18)
    expected = n * (_LOOKING + cases * (1 + bool(job.resamples))) + fitting

    def advance(doing: str, rows: int) -> None:
        nonlocal spent
        spent += rows * {"looking": _LOOKING, "fitting": 1 / kinds}.get(doing.split()[0], 1.0)
        progress(min(0.99, spent / expected))

    return advance


def row_of(settled: Settled, frontier: Frontier) -> Row:
    """What a frontier of a stream leaves, as one of a table does."""
    row: Row = {
        "auc": frontier.auc,
        "fit": int(settled.count[0]),
        "evaluate": int(settled.count[1]),
        "unreachable": int(np.count_nonzero(frontier.reach)),
        "budget": frontier.budget.tolist(),
        "cost": frontier.cost.tolist(),
        "quality": frontier.quality.tolist(),
        "seconds": frontier.seconds,
    }
    if frontier.auc_samples is not None:
        row["auc_samples"] = frontier.auc_samples.tolist()
    if not settled.exact:
        row["sample"] = len(settled.sample)
    return row
