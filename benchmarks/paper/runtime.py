"""The runtime figure: time of a decision for 2 to 100 models."""

import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.paper.base import Cell, Experiment, Findings, Frame, Job, Row, times
from benchmarks.paper.timing import batch_seconds, decision_seconds
from cascjax import CascadeRouting, Pandora, Strategy, core
from cascjax.core.expected_max import MAX_ENUMERATED

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MODELS = tuple(range(2, 101, 5))
SIGMA = 0.1
"""Standard deviation of every quality estimate, as in the paper."""

VARIANTS: dict[str, Callable[[int], Strategy]] = {
    "exact": lambda k: CascadeRouting(max_depth=k),
    "exact, max depth 3": lambda k: CascadeRouting(max_depth=3),
    "no-uncertainty": lambda k: CascadeRouting(max_depth=k, uncertainty=False),
    "beam": lambda k: CascadeRouting(max_depth=5, search="beam"),
    "greedy": lambda k: CascadeRouting(max_depth=5, search="greedy"),
    "pandora": lambda k: Pandora(),
}
ENUMERATED = ("exact", "exact, max depth 3", "no-uncertainty")
"""Variants that look at every set of models, so for few models only."""


def cells(job: Job) -> Iterator[Cell]:
    """Yield one cell per number of models and variant."""
    for k in MODELS:
        for name in VARIANTS:
            if k <= MAX_ENUMERATED or name not in ENUMERATED:
                key = f"{k:03d}-{name.replace(', ', '-').replace(' ', '-')}"
                yield key, functools.partial(time_rows, k, name, job.seed)


def time_rows(k: int, name: str, seed: int) -> list[Row]:
    """Return the times of one variant: qualities, costs and prices uniform between 0 and 1."""
    rng = np.random.default_rng(seed)
    ante, post, cost = rng.random((3, 256, k)).astype(np.float32)
    estimates = core.Independent(ante, post, np.full((1, k), SIGMA, np.float32), cost, cost)
    strategy = VARIANTS[name](k)
    live = np.concatenate(
        [
            decision_seconds(strategy, estimates, price, np.arange(i, 100, 10), first_only=True)
            for i, price in enumerate(rng.random(10).tolist())
        ]
    )
    return [
        {
            "models": k,
            "variant": name,
            "live": float(live.mean()),
            "live_median": float(np.median(live)),
            "batch": batch_seconds(strategy, rng.random(1), estimates),
        }
    ]


def findings(job: Job, rows: Frame) -> Findings:
    """Return milliseconds by number of models and variant."""

    def table(column: str) -> Frame:
        frame = 1000 * rows.set_index(["models", "variant"])[column].unstack()[list(VARIANTS)]
        return frame.map(lambda ms: "–" if np.isnan(ms) else f"{ms:.3g}")

    tables = {
        "Milliseconds per decision, one query at a time, median": table("live_median"),
        "Milliseconds per query from start to answer, 256 queries at a time": table("batch"),
        "Time": times(rows, ["variant"]),
    }
    notes = [
        "First decisions on 100 queries, programs compiled before; qualities, costs and prices"
        f" uniform between 0 and 1, sigma {SIGMA}. The paper shows this as a picture, without"
        f" numbers. Sets of models are enumerated for up to {MAX_ENUMERATED} models."
    ]
    return Findings(tables, notes, lambda figure: draw(figure, rows), (8.0, 4.5))


def draw(figure: "Figure", rows: Frame) -> None:
    """Draw time against the number of models, both logarithmic."""
    axes = figure.subplots()
    for name in VARIANTS:
        mine = rows[rows["variant"] == name]
        axes.plot(mine["models"], 1000 * mine["live_median"], "o-", markersize=4, label=name)
    axes.set(xscale="log", yscale="log", xlabel="models", ylabel="ms per decision")
    figure.legend(loc="outside lower center", ncols=3)


RUNTIME = Experiment("time of a decision for 2 to 100 models", cells, findings, needs_table=False)
