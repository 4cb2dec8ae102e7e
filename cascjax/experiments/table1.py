"""Table 1: the AUC of every strategy for 3, 5 and 11 models at three noise levels."""

import math
from collections.abc import Callable, Mapping, Sequence, Sized
from typing import TYPE_CHECKING, Any

import numpy as np

from cascjax.comparison import frontier
from cascjax.errors import CascjaxError
from cascjax.experiments.base import Experiment, Findings, Job
from cascjax.experiments.cells import Cell, Row
from cascjax.experiments.drawing import frontiers, legend_below, name_frontiers
from cascjax.experiments.protocol import MAX_DEPTH, Setup, check_stream, setup
from cascjax.experiments.published import AREAS, CAVEAT, CHOICES, COLUMNS, GOALS, STRATEGIES
from cascjax.experiments.streams import Question, answered, row_of
from cascjax.experiments.tables import Entry, Grid, percent, times, turned
from cascjax.search.tune import tune
from cascjax.strategies import CascadeRouting, Strategy, strategy
from cascjax.tuning import TUNED

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLAIN = (*STRATEGIES, "pandora")
"""Drawn with one parameter for all steps, found by plain search."""

TUNABLE = {
    "none": (),
    "thresholding": ("thresholding",),
    "cheap": ("thresholding", "cascading", "pandora"),
    "all": ("thresholding", "cascading", "cascade-routing", "pandora"),
}
"""What is tuned besides, by how much time there is: cascade routing is expensive to tune.

The published thresholding, cascading and cascade routing are tuned: after one parameter for all
steps, 400 trials of one a step, of which the best within the budget is kept.
"""

_WEIGHTS = {"cascade-routing": 3.0, f"{TUNED} cascade-routing": 30.0}
"""How long cells take beside others of 3 models; of 11 models 20 times that."""


def named(name: str) -> Strategy:
    """A strategy as the paper sets it up."""
    kind = strategy(name)
    return CascadeRouting(max_depth=MAX_DEPTH) if isinstance(kind, CascadeRouting) else kind


def area_cells(job: Job, resamples: int) -> list[Cell]:
    """A cell for each choice of models, noise and strategy; of a stream for each choice of models.

    Args:
        job: its setting "tuned" says what is tuned.
        resamples: of the rows to evaluate, whose AUCs are kept as well; 0 for none.

    Raises:
        CascjaxError: see `setup`, and `check_stream` of a stream, of which nothing is tuned.
    """
    if job.stream is not None:
        if job.settings["tuned"] != "none":
            raise CascjaxError(
                f"--tuned {job.settings['tuned']} needs the table in memory: leave it out, or name"
                " a single file"
            )
        check_stream(job.stream)
        return [
            Cell(f"{k}", f"{k} models", _stream_work(job, k, resamples), 20.0 if k == 11 else 1.0)
            for k in CHOICES
        ]
    tuned = [f"{TUNED} {name}" for name in TUNABLE[job.settings["tuned"]]]
    setups = {k: setup(job.data, k) for k in CHOICES}
    return [
        Cell(
            f"{k}-{level}-{name.replace(' ', '-')}",
            f"{k} models, {level}: {name}",
            _work(setups[k], k, level, name, job.seed, resamples),
            _WEIGHTS.get(name, 1.0) * (20.0 if k == 11 and name in _WEIGHTS else 1.0),
        )
        for k, level in COLUMNS
        for name in (*PLAIN, *tuned)
    ]


def _work(
    given: Setup, k: int, level: str, name: str, seed: int, resamples: int
) -> Callable[[Callable[[float], None]], list[Row]]:
    def work(progress: Callable[[float], None]) -> list[Row]:
        table, estimator = given.table, given.noisy(level, seed)
        rows, at = (given.fit_rows, given.evaluate_rows), given.budgets
        kind, fit, shown = named(name.removeprefix(f"{TUNED} ")), None, estimator
        if name.startswith(TUNED):
            found = tune(
                kind, table, estimator, at, rows=given.fit_rows, seed=seed,
                progress=lambda step, steps: progress(0.9 * step / max(steps, 1)),
            )  # fmt: skip
            shown = found.estimator(estimator)
            fit = found.fit(estimator, table, at, rows=given.fit_rows)
        drawn = frontier(kind, table, shown, *rows, at, fit=fit, resamples=resamples, seed=seed)
        row: Row = {
            "models": k,
            "noise": level,
            "strategy": name,
            "auc": drawn.auc,
            "fit": len(rows[0]),
            "evaluate": len(rows[1]),
            "unreachable": int(np.count_nonzero(drawn.reach)),
            "budget": drawn.budget.tolist(),
            "cost": drawn.cost.tolist(),
            "quality": drawn.quality.tolist(),
        }
        if drawn.auc_samples is not None:
            row["auc_samples"] = drawn.auc_samples.tolist()
        return [row]

    return work


def _stream_work(
    job: Job, k: int, resamples: int
) -> Callable[[Callable[[float], None]], list[Row]]:
    def work(progress: Callable[[float], None]) -> list[Row]:
        kinds, levels = tuple(map(named, PLAIN)), [level for of, level in COLUMNS if of == k]
        questions = [Question(level, kinds) for level in levels]
        return [
            {"models": k, "noise": one.level, "strategy": name, **row_of(settled, drawn)}
            for one, settled, found in answered(job, f"{k}", k, questions, progress, resamples)
            for name, drawn in zip(PLAIN, found, strict=True)
        ]

    return work


def share_of(
    progress: Callable[[float], None],
    fit_rows: Sized,
    evaluate_rows: Sized,
    resamples: int = 0,
) -> Callable[[int], None]:
    """What a frontier tells of its queries, as a share of about so many as it will take."""
    expected, spent = 5 * len(fit_rows) + len(evaluate_rows) * (1 + bool(resamples)), 0

    def advance(queries: int) -> None:
        nonlocal spent
        spent += queries
        progress(min(0.95, spent / expected))

    return advance


def areas_of(rows: Sequence[Row]) -> dict[tuple[str, int, str], float]:
    """AUCs by strategy, models and noise."""
    return {(row["strategy"], row["models"], row["noise"]): row["auc"] for row in rows}


def strategies_of(rows: Sequence[Row]) -> list[str]:
    """The strategies of some rows, each once, in order."""
    return list(dict.fromkeys(row["strategy"] for row in rows))


def heads() -> list[str]:
    """What the columns of models and noise are called."""
    return [f"{k} {level}" for k, level in COLUMNS]


def order_row(
    aucs: dict[tuple[str, int, str], float], instead: Mapping[str, str] | None = None
) -> tuple[list[str], list[str]]:
    """Whether the published strategies stand in the published order, by column; what does not.

    Args:
        aucs: by strategy, models and noise.
        instead: of ours, which stands for a published one of another name.
    """
    ours_of = dict(instead or {})
    others = " and ".join(ours_of.values())
    said, notes, wrong = ["the same, tuned" if others else "order as published"], [], 0
    for k, level in COLUMNS:
        ours = {s: aucs[ours_of.get(s, s), k, level] for s in STRATEGIES}
        theirs = {s: AREAS[s, k, level] for s in STRATEGIES}
        pairs = turned(ours, theirs)
        said.append("no" if pairs else "yes")
        wrong += len(pairs)
        if pairs:
            swapped = ", ".join(
                f"{ours_of.get(b, b)} above {ours_of.get(a, a)} by {100 * (ours[b] - ours[a]):.2f}"
                f" (published: below by {theirs[a] - theirs[b]:.2f})"
                for a, b in pairs
            )
            notes.append(f"{k} {level}: {swapped}")
    count, of_pairs = said.count("yes"), len(COLUMNS) * math.comb(len(STRATEGIES), 2)
    line = f"Order as published{f', with {others}' * bool(others)}: in {count} of {len(COLUMNS)}"
    line += f" columns; {of_pairs - wrong} of {of_pairs} pairs of strategies."
    if notes:
        line += f" Otherwise here, in points of AUC: {'; '.join(notes)}."
    return said, [line]


def _findings(job: Job, rows: Sequence[Row]) -> Findings:
    aucs, names = areas_of(rows), strategies_of(rows)
    best = {c: max(aucs[(name, *c)] for name in names) for c in COLUMNS}

    def entry(name: str, column: tuple[int, str]) -> Entry:
        ours, theirs = aucs[(name, *column)], AREAS.get((name, *column))
        shown = "" if theirs is None else f"{theirs:.2f}"
        return Entry(percent(ours), shown, percent(ours) == percent(best[column]))

    body: list[list[Any]] = [[name, *(entry(name, c) for c in COLUMNS)] for name in names]
    orders = [order_row(aucs)]
    tuned = {s: f"{TUNED} {s}" for s in STRATEGIES if f"{TUNED} {s}" in names}
    if tuned:
        orders.append(order_row(aucs, tuned))
    grid = Grid(
        "AUC in percent, by models and noise, and in brackets as published",
        ["strategy", *heads()],
        [*body, *(said for said, _ in orders)],
        (
            f"{rows[0]['fit']:,} queries to fit on and {rows[0]['evaluate']:,} to evaluate on;"
            f" noise of seed {job.seed}. The published thresholding, cascading and cascade routing"
            " have a parameter of their own at every step, found by 400 trials: what is tuned here"
            f" is their like. {CAVEAT}",
        ),
        together=3,
    )
    lines = [line for _, notes in orders for line in notes]
    return Findings([grid, clock(rows)], lines, lambda figure: _draw(figure, rows), (11.0, 9.0))


def clock(rows: Sequence[Row]) -> Grid:
    """How long plain search, pandora and tuning took."""
    plain = [row for row in rows if not row["strategy"].startswith(TUNED)]
    few = [row for row in plain if row["models"] < 11]
    return times(
        [
            ("plain search, 3 and 5 models", few, "120 s"),
            ("plain search, 11 models", [r for r in plain if r["models"] == 11], "600 s"),
            ("pandora's share, 3 and 5 models",
             [r for r in few if r["strategy"] == "pandora"], "10 s"),
            ("pandora's share, 11 models",
             [r for r in plain if r["strategy"] == "pandora" and r["models"] == 11], "10 s"),
            *(
                (f"{TUNED} {name}", [r for r in rows if r["strategy"] == f"{TUNED} {name}"], "")
                for name in TUNABLE["all"]
            ),
        ],
        GOALS,
    )  # fmt: skip


def _draw(figure: "Figure", rows: Sequence[Row]) -> None:
    """A panel for each column: the frontiers, all on one scale of quality."""
    panels = figure.subplots(-(-len(COLUMNS) // 3), 3, sharey=True, squeeze=False)
    for axes in panels.flat[len(COLUMNS) :]:
        axes.set_visible(False)
    for (k, level), axes in zip(COLUMNS, panels.flat[: len(COLUMNS)], strict=True):
        here = [row for row in rows if (row["models"], row["noise"]) == (k, level)]
        frontiers(axes, [row for row in here if not row["strategy"].startswith(TUNED)])
        axes.set_title(f"{k} models, {level} noise", fontsize=11)
    name_frontiers(panels)
    legend_below(figure, panels[0, 0], len(PLAIN), 0.04)


TABLE1 = Experiment(
    "table1",
    "AUCs of every strategy for 3, 5 and 11 models at three noise levels",
    lambda job: area_cells(job, 0),
    _findings,
    {"tuned": "cheap"},
    readings=2 * len(CHOICES),
)
