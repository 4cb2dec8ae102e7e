"""How long a decision takes as models grow in number: 2 to 100, estimates at random."""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import jax
import numpy as np

from cascjax.core.expected_max import MAX_ENUMERATED
from cascjax.engine.simulate import outcomes
from cascjax.estimators import Independent
from cascjax.experiments.base import Experiment, Findings, Job
from cascjax.experiments.cells import Cell, Row
from cascjax.experiments.drawing import legend_below, no_ticks
from cascjax.experiments.live import decision_seconds
from cascjax.experiments.tables import Grid, times
from cascjax.strategies import CascadeRouting, Pandora, Strategy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MODELS = tuple(range(2, 101, 5))
"""Numbers of models: the paper's."""

SIGMA = 0.1
"""Standard deviation of every quality estimate: the paper's."""

_QUERIES = 100
"""Decided one after another, each at a price of its own in the paper; here at ten prices."""

_PRICES = 10

_BATCH = 256
"""Queries decided together."""

_DEPTH = 3
"""Of the variant of limited depth: the paper's."""

VARIANTS: dict[str, Callable[[int], Strategy]] = {
    "exact": lambda k: CascadeRouting(max_depth=k),
    "exact, max depth 3": lambda k: CascadeRouting(max_depth=_DEPTH),
    "no-uncertainty": lambda k: CascadeRouting(max_depth=k, uncertainty=False),
    "beam": lambda k: CascadeRouting(max_depth=5, search="beam"),
    "greedy": lambda k: CascadeRouting(max_depth=5, search="greedy"),
    "pandora": lambda k: Pandora(),
}
"""By name, a strategy for so many models."""

_ENUMERATED = ("exact", "exact, max depth 3", "no-uncertainty")
"""What looks at every set of models, so for a few models only."""


def _cells(job: Job) -> list[Cell]:
    return [
        Cell(f"{k:03d}-{name.replace(', ', '-').replace(' ', '-')}", f"{k} models: {name}",
             _work(k, name, job.seed))
        for k in MODELS
        for name in VARIANTS
        if k <= MAX_ENUMERATED or name not in _ENUMERATED
    ]  # fmt: skip


def estimates(k: int, seed: int, count: int) -> Independent:
    """Qualities and costs from 0 to 1, and sigma 0.1: what the paper times decisions on."""
    rng = np.random.default_rng(seed)
    ante, post, cost = rng.random((3, count, k)).astype(np.float32)
    return Independent(ante, post, np.full((1, k), SIGMA, np.float32), cost, cost)


def _work(k: int, name: str, seed: int) -> Callable[[Callable[[float], None]], list[Row]]:
    def work(progress: Callable[[float], None]) -> list[Row]:
        kind, believed = VARIANTS[name](k), estimates(k, seed, _BATCH)
        kind = kind.sized_for(believed)
        rng = np.random.default_rng(seed + 1)
        found = []
        for i, price in enumerate(rng.random(_PRICES).tolist()):
            rows = np.arange(i, _QUERIES, _PRICES)
            live = decision_seconds(
                kind, tuple(map(str, range(k))), believed, price, rows, first_only=True
            )
            found.append(live)
            progress(0.7 * (i + 1) / _PRICES)
        live = np.concatenate(found)
        prices = np.asarray(rng.random(1), np.float32)
        together = jax.jit(lambda p, of: outcomes(kind, p, of, (_BATCH, k)))
        took = []
        for _ in range(3):
            start = time.perf_counter()
            jax.block_until_ready(together(prices, believed))
            took.append(time.perf_counter() - start)
        return [
            {
                "models": k,
                "variant": name,
                "live": float(live.mean()),
                "live_median": float(np.median(live)),
                "live_spread": float(live.std()),
                "compiling": max(took[0] - min(took[1:]), 0.0),
                "batch": min(took[1:]) / _BATCH,
            }
        ]

    return work


def _findings(job: Job, rows: Sequence[Row]) -> Findings:
    by_key = {(row["models"], row["variant"]): row for row in rows}

    def grid(title: str, field: str, notes: tuple[str, ...] = ()) -> Grid:
        body = []
        for k in MODELS:
            shown = [by_key.get((k, name)) for name in VARIANTS]
            body.append(
                [str(k), *("–" if row is None else f"{1000 * row[field]:.3g}" for row in shown)]
            )
        return Grid(title, ["models", *VARIANTS], body, notes)

    one = grid(
        "Milliseconds of a decision, one query at a time, median",
        "live_median",
        (
            f"First decisions on {_QUERIES} queries, programs compiled before; qualities, costs and"
            f" prices at random from 0 to 1, sigma {SIGMA}. The paper prints this as a picture,"
            f" without numbers; sets of models are enumerated for up to {MAX_ENUMERATED} models"
            " here, and beyond that beam, greedy and pandora decide.",
        ),
    )
    batch = grid(
        "Milliseconds of a query's whole way, many at a time",
        "batch",
        (f"{_BATCH} queries at one price, from no model run to the answer.",),
    )
    longest = max(rows, key=lambda row: row["compiling"])
    lines = [
        f"Compiling took {longest['compiling']:.1f} s at most ({longest['variant']},"
        f" {longest['models']} models), once for each number of models."
    ]
    return Findings([one, batch, times([("all", rows, "")])], lines, lambda f: _draw(f, rows))


_TICKS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)
"""Milliseconds."""

_COLORS = ("#0072b2", "#56b4e9", "#aa3377", "#009e73", "#a67c00", "#d55e00")


def _draw(figure: "Figure", rows: Sequence[Row]) -> None:
    """Time against number of models, both logarithmic."""
    axes = figure.subplots()
    for name, color in zip(VARIANTS, _COLORS, strict=True):
        mine = [row for row in rows if row["variant"] == name]
        axes.plot(
            [row["models"] for row in mine], [1000 * row["live_median"] for row in mine],
            "o-", markersize=4, color=color, label=name,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks([2, 5, 10, 20, 50, 100], ["2", "5", "10", "20", "50", "100"])
    axes.set_yticks(_TICKS, [f"{tick:g}" for tick in _TICKS])
    axes.yaxis.set_minor_formatter(no_ticks())
    shown = [1000 * row["live_median"] for row in rows]
    axes.set_ylim(min(shown) / 1.5, 1.5 * max(shown))
    axes.set_xlabel("models")
    axes.set_ylabel("ms a decision, one query at a time")
    legend_below(figure, axes, 3, 0.12)


RUNTIME = Experiment(
    "runtime",
    "time of a decision for 2 to 100 models",
    _cells,
    _findings,
    needs_table=False,
)
