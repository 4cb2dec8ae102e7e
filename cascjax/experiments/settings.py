"""Worlds in kind of the paper's other data, with estimates learned from a part of each."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from cascjax import synthetic
from cascjax.comparison import frontier
from cascjax.data.table import Table, mean_rows, split_rows
from cascjax.errors import CascjaxError
from cascjax.estimators import learned, supplied
from cascjax.experiments.base import Experiment, Findings, Job
from cascjax.experiments.cells import Cell, Row
from cascjax.experiments.drawing import frontiers, legend_below, name_frontiers
from cascjax.experiments.table1 import PLAIN, named
from cascjax.experiments.tables import Entry, Grid, percent, times
from cascjax.metrics import budgets

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SETTINGS: dict[str, int] = {"swebench": 5, "code-math": 4, "classification": 3, "open-form": 3}
"""Kinds of world, and the models of each: as many as the paper has in that setting."""

ESTIMATES = ("learned", "known")
"""Learned from the half to fit on; and known, exactly, of each model by itself.

What one answer tells of other models is in the learned ones alone: they may do better.
"""

LEAST = 200
"""Queries of a world at least: half of them teach the estimates."""

_QUERIES = 1000
"""About as many as the paper's data sets have."""

_WEIGHTS = {"cascade-routing": 8.0, "cascading": 3.0, "pandora": 2.0}
"""How long cells take beside others of 3 models; four times that for one model more."""


def world(kind: str, queries: int, seed: int) -> Table:
    """The first queries of a world, its models in rising mean cost on the half to fit on."""
    made = synthetic.make_dataset(SETTINGS[kind], seed, kind=kind)
    table = synthetic.sample(made, seed, queries, features=True)
    fit, _ = split_rows(table, seed)
    return table.sort_models(mean_rows(table.cost, fit))


def _cells(job: Job) -> list[Cell]:
    queries = job.settings["queries"]
    if queries < LEAST:
        raise CascjaxError(
            f"{queries} queries are too few to learn estimates from: take at least {LEAST}"
        )
    return [
        Cell(
            f"{kind}-{estimates}-{name}",
            f"{kind}, {estimates}: {name}",
            _work(kind, estimates, name, queries, job.seed),
            _WEIGHTS.get(name, 1.0) * 4.0 ** (SETTINGS[kind] - 3),
        )
        for kind in SETTINGS
        for estimates in ESTIMATES
        for name in PLAIN
    ]


def _work(
    kind: str, estimates: str, name: str, queries: int, seed: int
) -> Callable[[Callable[[float], None]], list[Row]]:
    def work(progress: Callable[[float], None]) -> list[Row]:
        table = world(kind, queries, seed)
        rows = split_rows(table, seed)
        if estimates == "learned":
            binary = np.isin(table.quality, (0, 1)).all()
            taught = learned(
                replace(table, quality_ante=None, quality_post=None, quality_sigma=None),
                rows[0], estimator="logistic" if binary else "linear", seed=seed,
            )  # fmt: skip
            estimator = taught.estimator
        else:
            estimator = supplied(table, rows[0])
        cost, quality = (mean_rows(of, rows[1]) for of in (table.cost, table.quality))
        drawn = frontier(named(name), table, estimator, *rows, budgets(cost, quality))
        return [
            {
                "setting": kind,
                "models": table.n_models,
                "estimates": estimates,
                "strategy": name,
                "auc": drawn.auc,
                "fit": len(rows[0]),
                "evaluate": len(rows[1]),
                "cost": drawn.cost.tolist(),
                "quality": drawn.quality.tolist(),
            }
        ]

    return work


def _findings(job: Job, rows: Sequence[Row]) -> Findings:
    auc = {(row["strategy"], row["setting"], row["estimates"]): row["auc"] for row in rows}
    columns = [(kind, estimates) for kind in SETTINGS for estimates in ESTIMATES]
    best = {c: max(percent(auc[(name, *c)]) for name in PLAIN) for c in columns}
    body = []
    for name in PLAIN:
        entries = []
        for column in columns:
            text = percent(auc[(name, *column)])
            entries.append(Entry(text, best=text == best[column]))
        body.append([name, *entries])

    def above(other: str) -> str:
        ours = {c: auc[("cascade-routing", *c)] for c in columns}
        return str(sum(ours[c] >= auc[(other, *c)] for c in columns))

    grid = Grid(
        "AUC in percent, by world and estimates",
        ["strategy", *(f"{kind} ({SETTINGS[kind]}), {estimates}" for kind, estimates in columns)],
        body,
        (
            f"Synthetic synthetic of {rows[0]['fit'] + rows[0]['evaluate']:,} queries, seed"
            f" {job.seed}, half to fit on; the number of models in brackets. Learned: regressions"
            " of every run set, of features and signals, fitted on that half. Known: what is to be"
            " believed there of each model by itself. Nothing published stands beside them: the"
            " paper's data for these settings are others, so only what beats what is to be"
            " compared.",
        ),
        together=2,
    )
    lines = [
        f"Cascade routing is at or above routing in {above('routing')}, thresholding in"
        f" {above('thresholding')} and cascading in {above('cascading')} of {len(columns)} columns."
    ]
    clock = times(
        [("all", rows, ""), *((k, [r for r in rows if r["setting"] == k], "") for k in SETTINGS)]
    )
    return Findings([grid, clock], lines, lambda f: _draw(f, rows), (11.0, 6.5))


def _draw(figure: "Figure", rows: Sequence[Row]) -> None:
    """A panel for each world and kind of estimates."""
    panels = figure.subplots(len(ESTIMATES), len(SETTINGS), sharey="col", squeeze=False)
    for i, estimates in enumerate(ESTIMATES):
        for j, kind in enumerate(SETTINGS):
            axes = panels[i, j]
            frontiers(
                axes, [r for r in rows if (r["setting"], r["estimates"]) == (kind, estimates)]
            )
            axes.set_title(f"{kind}, {estimates}", fontsize=11)
    name_frontiers(panels)
    legend_below(figure, panels[0, 0], len(PLAIN), 0.05)


SETTINGS_EXPERIMENT = Experiment(
    "settings",
    "synthetic in kind of the paper's other data, with learned estimates",
    _cells,
    _findings,
    {"queries": _QUERIES},
    needs_table=False,
)
