"""Every strategy on estimates learned from RouterBench's prompts and responses alone, in 5 folds.

    python benchmarks/routerbench.py routerbench-sample.parquet [--models LIST] [--learners LIST]

Each fifth of the queries is evaluated on once, with estimates and parameters from the other four
fifths; no score of it is seen before. AUCs are means over the folds; intervals of differences to
routing are of 1,000 paired bootstrap resamples of each fold's queries, averaged likewise. Prints
Markdown.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from cascjax.comparison import Study, compare
from cascjax.data import from_arrow
from cascjax.data.table import EVALUATE, FIT, Table
from cascjax.importers import import_routerbench

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


def folds(table: Table, learner: str, text: bool, budgets: int) -> list[Study]:
    """One study a fold."""
    if not text:
        table = replace(table, features=None, signals=None, feature_names=(), signal_names=())
    fold = np.random.default_rng(SEED).permutation(table.n_queries) % FOLDS
    return [
        compare(
            replace(table, split=np.where(fold == f, EVALUATE, FIT).astype(np.int8)),
            STRATEGIES, estimates="learned", learner=learner, budgets=budgets,
            ridge=None if learner in ("logistic", "linear") else 1.0, resamples=RESAMPLES, seed=f,
        )
        for f in range(FOLDS)
    ]  # fmt: skip


def row(learner: str, text: bool, studies: list[Study]) -> list[str]:
    """AUCs, then differences to routing with their intervals, then what was believed."""
    auc = np.array([[f.auc for f in study.frontiers] for study in studies]).mean(0)
    samples = [np.stack([np.asarray(f.auc_samples) for f in s.frontiers]) for s in studies]
    mean = np.mean(samples, axis=0)
    routing = STRATEGIES.index("routing")
    cells = [f"{learner}{', text' if text else ''}"]
    for i, name in enumerate(STRATEGIES):
        text_ = f"{auc[i]:.4f}"
        if i != routing:
            low, high = np.quantile(mean[i] - mean[routing], [0.025, 0.975])
            text_ += f" ({auc[i] - auc[routing]:+.4f} [{low:+.4f}, {high:+.4f}])"
        trusts = [s.frontiers[i].sigma_scale for s in studies]
        if name in ("cascading", "cascade-routing", "pandora"):
            text_ += f" s = {np.mean(trusts):.2f}"
        cells.append(text_)
    return cells


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--models", default=FOUR)
    parser.add_argument("--learners", default="logistic,joint")
    parser.add_argument("--budgets", type=int, default=20)
    asked = parser.parse_args()
    found = import_routerbench(asked.file, invalid="drop", features="text")
    table = from_arrow(found.arrow, str(asked.file))
    if asked.models != "all":
        table = table.select_models(asked.models.split(","))
    print("| estimates | " + " | ".join(STRATEGIES) + " |")
    print("| --- |" + " --- |" * len(STRATEGIES), flush=True)
    for learner in asked.learners.split(","):
        for text in (False, True):
            studies = folds(table, learner, text, asked.budgets)
            print("| " + " | ".join(row(learner, text, studies)) + " |", flush=True)


if __name__ == "__main__":
    main()
