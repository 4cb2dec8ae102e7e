"""Compare all strategies on estimates learned from RouterBench's prompts and responses, in 5 folds.

    python benchmarks/routerbench.py routerbench-sample.parquet [--models LIST] [--estimators LIST]

Each fifth of the queries is evaluated once, with estimates and parameters fitted on the other four.
AUCs are means over the folds. Intervals of differences to routing are from 1,000 paired bootstrap
resamples of the queries of each fold, also averaged. Prints Markdown.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

import cascjax as cj
from cascjax.data.table import EVALUATE, FIT

FOLDS, RESAMPLES, SEED = 5, 1000, 0
FOUR = "mistralai/mistral-7b-chat,zero-one-ai/Yi-34B-Chat,gpt-3.5-turbo-1106,gpt-4-1106-preview"
STRATEGIES = [
    "mixing",
    "routing",
    "thresholding",
    "frugal",
    "cascading",
    "cascade-routing",
    "pandora",
]


def folds(table: cj.Table, estimator: str, text: bool, budgets: int) -> list[cj.Study]:
    """Return one study per fold."""
    if not text:
        table = replace(table, features=None, signals=None, feature_names=(), signal_names=())
    fold = np.random.default_rng(SEED).permutation(table.n_queries) % FOLDS
    ridge = None if estimator in ("logistic", "linear") else 1.0
    return [
        cj.compare(
            replace(table, split=np.where(fold == f, EVALUATE, FIT).astype(np.int8)),
            STRATEGIES, cj.Learned(estimator, ridge=ridge), budgets=budgets, resamples=RESAMPLES,
            seed=f,
        )
        for f in range(FOLDS)
    ]  # fmt: skip


def row(estimator: str, text: bool, studies: list[cj.Study]) -> list[str]:
    """Return AUCs, differences to routing with their intervals, and sigma scales."""
    auc = np.array([[f.auc for f in study.frontiers] for study in studies]).mean(0)
    samples = [np.stack([np.asarray(f.auc_samples) for f in s.frontiers]) for s in studies]
    mean = np.mean(samples, axis=0)
    routing = STRATEGIES.index("routing")
    cells = [f"{estimator}{', text' if text else ''}"]
    for i, name in enumerate(STRATEGIES):
        cell = f"{auc[i]:.4f}"
        if i != routing:
            low, high = np.quantile(mean[i] - mean[routing], [0.025, 0.975])
            cell += f" ({auc[i] - auc[routing]:+.4f} [{low:+.4f}, {high:+.4f}])"
        scales = [s.frontiers[i].sigma_scale for s in studies]
        if name in ("cascading", "cascade-routing", "pandora"):
            cell += f" s = {np.mean(scales):.2f}"
        cells.append(cell)
    return cells


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--models", default=FOUR)
    parser.add_argument("--estimators", default="logistic,joint")
    parser.add_argument("--budgets", type=int, default=20)
    asked = parser.parse_args()
    table = cj.import_routerbench(asked.file, invalid="drop", features="text").table
    if asked.models != "all":
        table = table.select_models(asked.models.split(","))
    print("| estimates | " + " | ".join(STRATEGIES) + " |")
    print("| --- |" + " --- |" * len(STRATEGIES), flush=True)
    for estimator in asked.estimators.split(","):
        for text in (False, True):
            studies = folds(table, estimator, text, asked.budgets)
            print("| " + " | ".join(row(estimator, text, studies)) + " |", flush=True)


if __name__ == "__main__":
    main()
