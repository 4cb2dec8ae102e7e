"""Tables 1 and 4: AUCs of all strategies for 3, 5 and 11 models at three noise levels."""

import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

import cascjax as cj
from benchmarks.paper.base import (
    Cell,
    Experiment,
    Findings,
    Frame,
    Job,
    Row,
    signed,
    times,
    with_published,
)
from benchmarks.paper.protocol import choose, paper_strategy
from benchmarks.paper.published import AREAS, CAVEAT, CHOICES, COLUMNS, STRATEGIES
from cascjax.metrics.bootstrap import interval
from cascjax.strategies import STRATEGIES as KINDS
from cascjax.tuning import TUNED

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLAIN = (*STRATEGIES, "pandora")
"""Strategies with one parameter for all steps."""

TUNABLE = {
    "none": (),
    "thresholding": ("thresholding",),
    "cheap": ("thresholding", "cascading", "pandora"),
    "all": ("thresholding", "cascading", "cascade-routing", "pandora"),
}
"""Strategies that are tuned as well. The published thresholding, cascading and cascade routing have
one parameter per step, found by 400 trials."""

HEADS = {column: f"{column[0]} {column[1]}" for column in COLUMNS}


def cells(job: Job) -> Iterator[Cell]:
    """Yield one cell for each choice of models, noise level, and what is drawn together."""
    tables = {k: choose(job.data, k) for k in CHOICES}
    resamples = job.settings.get("resamples", 0)
    for k, level in COLUMNS:
        yield f"{k}-{level}", lambda k=k, level=level: plain_rows(tables[k], level, job, resamples)
        for name in TUNABLE[job.settings["tuned"]]:
            yield (
                f"{k}-{level}-tuned-{name}",
                lambda k=k, level=level, name=name: [
                    tuned_row(tables[k], level, name, job, resamples)
                ],
            )


def plain_rows(table: cj.Table, level: str, job: Job, resamples: int) -> list[Row]:
    """Return one row per strategy: its frontier, AUC and resampled AUCs."""
    study = cj.compare(
        table, [paper_strategy(name) for name in PLAIN], cj.Noisy(level), seed=job.seed,
        resamples=resamples, grid="paper",
    )  # fmt: skip
    return [as_row(study, study[name], table.n_models, level) for name in PLAIN]


def tuned_row(table: cj.Table, level: str, name: str, job: Job, resamples: int) -> Row:
    """Return the row of a tuned strategy at the budgets of the plain ones."""
    tuning = cj.tune(
        table, paper_strategy(name), cj.Noisy(level), seed=job.seed, resamples=resamples,
        grid="paper",
    )  # fmt: skip
    return as_row(tuning.study, tuning.study[f"{TUNED} {name}"], table.n_models, level)


def as_row(study: cj.Study, frontier: cj.Frontier, k: int, level: str) -> Row:
    """Return a frontier as a row."""
    samples = frontier.auc_samples
    return {
        "models": k,
        "noise": level,
        "strategy": frontier.strategy,
        "auc": frontier.auc,
        "auc_samples": [] if samples is None else samples.tolist(),
        "n_fit": study.n_fit,
        "n_evaluate": study.n_evaluate,
        "budget": frontier.budget.tolist(),
        "cost": frontier.cost.tolist(),
        "quality": frontier.quality.tolist(),
        "seconds": frontier.seconds,
    }


def by_column(rows: Frame, value: str = "auc") -> Frame:
    """Return a value by strategy (rows) and models and noise (columns)."""
    found = rows.set_index(["strategy", "models", "noise"])[value].unstack(["models", "noise"])
    return found.loc[list(dict.fromkeys(rows["strategy"])), list(COLUMNS)]


def turned(ours: Frame, published: dict[str, float]) -> list[tuple[str, str]]:
    """Return pairs of strategies, better first as published, that are in the other order here."""
    pairs = itertools.permutations(published, 2)
    return [(a, b) for a, b in pairs if published[a] > published[b] and not ours[a] > ours[b]]


def order_note(aucs: Frame) -> str:
    """Return a sentence on how many pairs of strategies are in the published order."""
    notes, wrong = [], 0
    for column in COLUMNS:
        published = {s: AREAS[s, *column] for s in STRATEGIES}
        pairs = turned(aucs[column], published)
        wrong += len(pairs)
        notes += [
            f"{HEADS[column]}: {b} above {a} by {100 * (aucs[column][b] - aucs[column][a]):.2f}"
            for a, b in pairs
        ]
    count = len(COLUMNS) * len(list(itertools.combinations(STRATEGIES, 2)))
    text = f"Published order: {count - wrong} of {count} pairs of strategies."
    return text + (f" Otherwise, in points of AUC: {'; '.join(notes)}." if notes else "")


def table1(job: Job, rows: Frame) -> Findings:
    """Return AUCs in percent next to the published ones."""
    aucs = by_column(rows)
    texts = pd.DataFrame(index=aucs.index.rename("strategy"))
    for column in COLUMNS:
        best = aucs[column].max()
        texts[HEADS[column]] = [
            with_published(
                f"{100 * auc:.2f}",
                f"{AREAS[name, *column]:.2f}" if (name, *column) in AREAS else "",
                bold=f"{100 * auc:.2f}" == f"{100 * best:.2f}",
            )
            for name, auc in aucs[column].items()
        ]
    notes = [order_note(aucs)]
    tuned = {f"{TUNED} {s}": s for s in STRATEGIES if f"{TUNED} {s}" in aucs.index}
    if tuned:
        replaced = aucs.drop(index=list(tuned.values())).rename(index=tuned)
        notes.append(f"With tuned strategies in place of plain ones. {order_note(replaced)}")
    notes.append(CAVEAT)
    title = "AUC in percent by models and noise, published in parentheses"
    tables = {title: texts, "Time": times(rows, ["models", "strategy"])}
    return Findings(tables, notes, lambda figure: draw_frontiers(figure, rows), (11.0, 9.0))


def difference(row: Frame, other: Frame) -> tuple[float, float, float]:
    """Return how much higher one AUC is than another, with its paired 95% interval."""
    samples = np.asarray(row["auc_samples"]) - np.asarray(other["auc_samples"])
    low, high = interval(samples, 0.95).tolist()
    return row["auc"] - other["auc"], low, high


def interval_cell(found: tuple[float, float, float], published: str = "") -> str:
    """Return a difference in points with its interval, bold if that is above 0."""
    middle, low, high = (signed(100 * x) for x in found)
    return with_published(f"{middle} [{low}, {high}]", published, bold=found[1] > 0)


def table4(job: Job, rows: Frame) -> Findings:
    """Return how much higher the AUC of cascade routing is than that of the others."""
    ours, names = "cascade-routing", [s for s in dict.fromkeys(rows["strategy"])]
    names.remove(ours)
    keyed = rows.set_index(["strategy", "models", "noise"])
    found = {
        (name, *column): difference(keyed.loc[(ours, *column)], keyed.loc[(name, *column)])
        for name in names
        for column in COLUMNS
    }
    texts = pd.DataFrame(index=pd.Index(names, name="strategy"))
    for column in COLUMNS:
        texts[HEADS[column]] = [
            interval_cell(
                found[name, *column],
                signed(AREAS[ours, *column] - AREAS[name, *column])
                if (name, *column) in AREAS
                else "",
            )
            for name in names
        ]
    shared = [key for key in found if key in AREAS]
    right = [key for key in shared if (found[key][0] > 0) == (AREAS[(ours, *key[1:])] > AREAS[key])]
    sure = [key for key in right if found[key][1] > 0 or found[key][2] < 0]
    notes = [
        f"Published signs: {len(right)} of {len(shared)}, {len(sure)} of them beyond the interval.",
        f"95% intervals of {job.settings['resamples']:,} bootstrap resamples of the evaluation"
        " rows, the same for all strategies; bold if the whole interval is above 0.",
        CAVEAT,
    ]
    title = "AUC of cascade routing above the others, in points, published in parentheses"
    return Findings({title: texts}, notes, lambda figure: draw_differences(figure, found, names))


def draw_frontiers(figure: "Figure", rows: Frame) -> None:
    """Draw one panel for each choice of models and noise level."""
    panels = figure.subplots(-(-len(COLUMNS) // 3), 3, sharey=True, squeeze=False)
    for column, axes in zip(COLUMNS, panels.flat, strict=False):
        mine = rows[(rows["models"] == column[0]) & (rows["noise"] == column[1])]
        for _, row in mine[~mine["strategy"].str.startswith(TUNED)].iterrows():
            style = KINDS[row["strategy"]].style
            color = style.light if style else None
            axes.plot(1000 * np.array(row["cost"]), row["quality"], color=color,
                      linewidth=1.3, label=row["strategy"])  # fmt: skip
        axes.set_title(f"{column[0]} models, {column[1]} noise", fontsize=11)
    figure.supxlabel("mean cost of 1,000 queries")
    figure.supylabel("mean quality")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=6)


def draw_differences(
    figure: "Figure", found: dict[tuple, tuple[float, float, float]], names: Sequence[str]
) -> None:
    """Draw the intervals, one panel per strategy, with the published differences as crosses."""
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    place = np.arange(len(COLUMNS))[::-1]
    for name, axes in zip(names, panels, strict=True):
        values = 100 * np.array([found[name, *column] for column in COLUMNS])
        axes.axvline(0, color="gray", linewidth=1)
        axes.hlines(place, values[:, 1], values[:, 2], linewidth=2)
        axes.plot(values[:, 0], place, "o", markersize=5)
        for column, at in zip(COLUMNS, place, strict=True):
            if (name, *column) in AREAS:
                axes.plot(AREAS["cascade-routing", *column] - AREAS[name, *column], at, "kx")
        axes.set_title(f"above {name}", fontsize=10)
        axes.set_yticks(place, list(HEADS.values()))
    figure.supxlabel("points of AUC")


TABLE1 = Experiment(
    "AUCs of every strategy for 3, 5 and 11 models at three noise levels",
    cells,
    table1,
    {"tuned": "cheap"},
)

TABLE4 = Experiment(
    "how much higher the AUC of cascade routing is, with paired bootstrap intervals",
    cells,
    table4,
    {"tuned": "none", "resamples": 1000},
)
