"""What cascade routing and cascading gain if they are given less uncertainty than there is.

The estimates are the same in all columns; only the standard deviations that go into E[max] differ.
Cases: the table as it is; half of the evaluation rows added to the fit rows; the scores of every
model shuffled by themselves, so that errors of models are independent.
"""

import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

import cascjax as cj
from benchmarks.paper.areas import difference, interval_cell
from benchmarks.paper.base import Cell, Experiment, Findings, Frame, Job, Row, times
from benchmarks.paper.protocol import choose, noisy_estimates, paper_strategy
from benchmarks.paper.published import LEVELS
from cascjax.data.table import FIT, split_rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

N_MODELS = 11
STRATEGIES = ("cascade-routing", "cascading")

SIGMAS: dict[str, Callable[[Any], Any]] = {
    "exact": lambda sigma: sigma,
    "no uncertainty": lambda sigma: 0 * sigma,
    "sigma / 4": lambda sigma: sigma / 4,
    "variance for sigma": lambda sigma: sigma**2,
}
"""Standard deviation that the strategy is given, by column."""


def half(table: cj.Table) -> cj.Table:
    """Return a table whose every other evaluation row is in the fit split."""
    split = table.split.copy() if table.split is not None else np.zeros(0, np.int8)
    split[split_rows(table)[1][::2]] = FIT
    return replace(table, split=split)


def shuffled(table: cj.Table) -> cj.Table:
    """Return a table with the qualities of each model in a random order of their own."""
    rng = np.random.default_rng(1)
    columns = [rng.permutation(column) for column in table.quality.T]
    return replace(table, quality=np.stack(columns, axis=1))


CASES: dict[str, Callable[[cj.Table], cj.Table]] = {
    "as-is": lambda table: table,
    "half": half,
    "shuffled": shuffled,
}


def cells(job: Job) -> Iterator[Cell]:
    """Yield one cell per case, noise level and strategy."""
    table = choose(job.data, N_MODELS)
    for case, level, name in itertools.product(CASES, LEVELS, STRATEGIES):
        yield f"{case}-{level}-{name}", functools.partial(case_rows, table, case, level, name, job)


def case_rows(table: cj.Table, case: str, level: str, name: str, job: Job) -> list[Row]:
    """Return the AUC of a strategy with each standard deviation."""
    table = CASES[case](table)
    estimates, rows = noisy_estimates(table, level, job.seed), []
    for column, change in SIGMAS.items():
        given = replace(estimates, sigma=change(np.asarray(estimates.sigma)), panels=None)
        study = cj.compare(
            table,
            paper_strategy(name),
            given,
            seed=job.seed,
            resamples=job.settings["resamples"],
            grid="paper",
        )
        frontier = study.frontiers[0]
        assert frontier.auc_samples is not None
        rows.append(
            {
                "case": case,
                "noise": level,
                "strategy": name,
                "sigma": column,
                "auc": frontier.auc,
                "auc_samples": frontier.auc_samples.tolist(),
            }
        )
    return rows


def findings(job: Job, rows: Frame) -> Findings:
    """Return one table per strategy: AUCs and differences to the exact rule."""
    tables = {}
    for name in STRATEGIES:
        keyed = rows[rows["strategy"] == name].set_index(["case", "noise", "sigma"])
        frame = pd.DataFrame()
        for case, level, sigma in itertools.product(CASES, LEVELS, SIGMAS):
            row, exact = keyed.loc[(case, level, sigma)], keyed.loc[(case, level, "exact")]
            gain = "" if sigma == "exact" else f" ({interval_cell(difference(row, exact))})"
            frame.loc[f"{case}, {level}", sigma] = f"{100 * row['auc']:.2f}{gain}"
        tables[f"{name}: AUC in percent, in parentheses above exact"] = frame.rename_axis("noise")
    tables["Time"] = times(rows, ["case"])
    return Findings(tables, [], lambda figure: draw(figure, rows))


def draw(figure: "Figure", rows: Frame) -> None:
    """Draw the AUC by noise level, one panel per case and strategy."""
    panels = figure.subplots(len(STRATEGIES), len(CASES), sharex=True, squeeze=False)
    for (i, name), (j, case) in itertools.product(enumerate(STRATEGIES), enumerate(CASES)):
        mine = rows[(rows["strategy"] == name) & (rows["case"] == case)]
        for sigma, group in mine.groupby("sigma", sort=False):
            panels[i, j].plot(group["noise"], 100 * group["auc"], "o-", label=sigma)
        panels[i, j].set_title(f"{name}, {case}", fontsize=11)
    figure.supylabel("AUC in percent")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)


UNCERTAINTY = Experiment(
    "cascade routing and cascading with less uncertainty than there is",
    cells,
    findings,
    {"resamples": 1000},
)
