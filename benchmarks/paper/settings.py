"""Synthetic datasets like the paper's other data, with learned and with exact estimates."""

import functools
import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

import cascjax as cj
from benchmarks.paper.areas import PLAIN, as_row
from benchmarks.paper.base import Cell, Experiment, Findings, Frame, Job, Row, times, with_published
from benchmarks.paper.protocol import paper_strategy
from cascjax import synthetic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = {"swebench": 5, "code-math": 4, "classification": 3, "open-form": 3}
"""Kind of dataset and number of models."""

ESTIMATES = ("learned", "exact")
"""Learned from the fit half, or the exact posterior of each model by itself."""

LEAST = 200


def cells(job: Job) -> Iterator[Cell]:
    """Yield one cell per dataset and kind of estimates."""
    if job.settings["queries"] < LEAST:
        raise cj.CascjaxError(f"learning estimates needs at least {LEAST} queries")
    for kind, estimates in itertools.product(KINDS, ESTIMATES):
        yield f"{kind}-{estimates}", functools.partial(dataset_rows, kind, estimates, job)


def dataset_rows(kind: str, estimates: str, job: Job) -> list[Row]:
    """Return one row per strategy."""
    dataset = synthetic.make_dataset(KINDS[kind], job.seed, kind=kind)
    table = synthetic.sample(dataset, job.seed, job.settings["queries"], features=True)
    spec = cj.Supplied()
    if estimates == "learned":
        binary = np.isin(table.quality, (0, 1)).all()
        spec = cj.Learned("logistic" if binary else "linear", sigma_scale=1.0)
        table = replace(table, quality_ante=None, quality_post=None, quality_sigma=None)
    study = cj.compare(
        table, [paper_strategy(name) for name in PLAIN], spec, seed=job.seed, grid="paper"
    )
    rows = [as_row(study, study[name], table.n_models, estimates) for name in PLAIN]
    return [row | {"setting": kind, "estimates": estimates} for row in rows]


def findings(job: Job, rows: Frame) -> Findings:
    """Return AUCs by dataset and estimates."""
    aucs = rows.set_index(["strategy", "setting", "estimates"])["auc"].unstack([1, 2]).loc[[*PLAIN]]
    texts = pd.DataFrame(index=aucs.index)
    for kind, estimates in aucs.columns:
        column = aucs[kind, estimates]
        texts[f"{kind} ({KINDS[kind]}), {estimates}"] = [
            with_published(f"{100 * auc:.2f}", bold=auc == column.max()) for auc in column
        ]
    counts = ", ".join(
        f"{name} in {(aucs.loc['cascade-routing'] >= aucs.loc[name]).sum()}"
        for name in ("routing", "thresholding", "cascading")
    )
    notes = [
        f"Synthetic datasets of {job.settings['queries']:,} queries, seed {job.seed}, half to fit"
        " on. The paper's data for these settings are others, so only the order can be compared.",
        f"Cascade routing is at or above {counts} of {aucs.shape[1]} columns.",
    ]
    tables = {"AUC in percent, by dataset and estimates": texts, "Time": times(rows, ["setting"])}
    return Findings(tables, notes, lambda figure: draw(figure, rows), (11.0, 6.5))


def draw(figure: "Figure", rows: Frame) -> None:
    """Draw one panel per dataset and kind of estimates."""
    panels = figure.subplots(len(ESTIMATES), len(KINDS), sharey="col", squeeze=False)
    for (i, estimates), (j, kind) in itertools.product(enumerate(ESTIMATES), enumerate(KINDS)):
        axes = panels[i, j]
        mine = rows[(rows["setting"] == kind) & (rows["estimates"] == estimates)]
        for _, row in mine.iterrows():
            axes.plot(row["cost"], row["quality"], label=row["strategy"])
        axes.set_title(f"{kind}, {estimates}", fontsize=11)
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=6)


SETTINGS = Experiment(
    "synthetic datasets like the paper's other data, with learned estimates",
    cells,
    findings,
    {"queries": 1000},
    needs_table=False,
)
