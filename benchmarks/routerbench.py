"""Write the tables of ROUTERBENCH.md and README.md: AUCs on the RouterBench sample.

    python -m benchmarks.routerbench routerbench-sample.parquet [--quick]

Noisy estimates: half of the queries to fit on, AUC on the others, default budgets, seed 0.

Learned estimates, in 5 folds: each fifth of the queries is evaluated once, with estimates and
parameters fitted on the other four. AUCs are means over the folds. Intervals of differences to
routing are from 1,000 paired bootstrap resamples of the queries of each fold, also averaged.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

import cascjax as cj
from benchmarks.paper.published import CHOICES, LEVELS, MODELS
from benchmarks.results import replace_tables
from cascjax.data.table import EVALUATE, FIT

HERE = Path(__file__).parent
FOLDS, RESAMPLES, SEED = 5, 1000, 0
FOUR = (
    "mistralai/mistral-7b-chat", "zero-one-ai/Yi-34B-Chat", "gpt-3.5-turbo-1106",
    "gpt-4-1106-preview",
)  # fmt: skip

STRATEGIES = (
    "mixing", "routing", "thresholding", "frugal", "cascading", "cascade-routing", "pandora",
    "oracle",
)  # fmt: skip

POLICIES = STRATEGIES[:-1]
README = (3, 11)  # Numbers of models in the table of README.md


def noisy(table: cj.Table, n_models: int, noise: str) -> cj.Study:
    """Return the study of the paper's choice of models at a level of noise."""
    chosen = table.select_models([MODELS[i] for i in CHOICES[n_models]])
    return cj.compare(chosen, STRATEGIES, cj.Noisy(noise), seed=SEED)


def noisy_row(n_models: int, noise: str, auc: Sequence[float]) -> str:
    """Return a row of the table of noisy estimates, the best policy in bold."""
    models = "all" if n_models == len(MODELS) else f"`{','.join(map(str, CHOICES[n_models]))}`"
    best = int(np.argmax(auc[:-1]))
    cells = [f"**{value:.4f}**" if i == best else f"{value:.4f}" for i, value in enumerate(auc)]
    first = f"{n_models} ({models})" if noise == LEVELS[0] else ""
    return f"| {' | '.join([first, noise, *cells])} |"


def folds(table: cj.Table, estimator: str, text: bool) -> list[cj.Study]:
    """Return one study per fold."""
    if not text:
        table = replace(table, features=None, signals=None, feature_names=(), signal_names=())
    fold = np.random.default_rng(SEED).permutation(table.n_queries) % FOLDS
    return [
        cj.compare(
            replace(table, split=np.where(fold == f, EVALUATE, FIT).astype(np.int8)),
            POLICIES, cj.Learned(estimator), resamples=RESAMPLES, seed=f,
        )
        for f in range(FOLDS)
    ]  # fmt: skip


def learned_row(estimator: str, text: bool, studies: list[cj.Study]) -> str:
    """Return AUCs, and differences to routing with their intervals where they are above it."""
    auc = np.array([[f.auc for f in study.frontiers] for study in studies]).mean(0)
    samples = [np.stack([np.asarray(f.auc_samples) for f in s.frontiers]) for s in studies]
    more = np.mean(samples, axis=0)
    routing, best = POLICIES.index("routing"), int(np.argmax(auc))
    cells = [f"{estimator}{', text' if text else ''}"]
    for i, value in enumerate(auc):
        cell = f"**{value:.4f}**" if i == best else f"{value:.4f}"
        if value > auc[routing]:
            low, high = np.quantile(more[i] - more[routing], [0.025, 0.975])
            cell += f" ({value - auc[routing]:+.4f} [{low:+.4f}, {high:+.4f}])"
        cells.append(cell)
    return f"| {' | '.join(cells)} |"


def header(*columns: str) -> list[str]:
    """Return the first two lines of a table."""
    return [f"| {' | '.join(columns)} |", "| --- |" + " --- |" * (len(columns) - 1)]


def main() -> None:
    """Measure, and write both pages."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--quick", action="store_true", help="noisy estimates only")
    asked = parser.parse_args()
    table = cj.import_routerbench(asked.file, invalid="drop").table
    head, rows = header("models", "noise", *STRATEGIES), {}
    for n_models in CHOICES:
        for noise in LEVELS:
            study = noisy(table, n_models, noise)
            rows[n_models, noise] = noisy_row(n_models, noise, [f.auc for f in study.frontiers])
            print(rows[n_models, noise], flush=True)
    begin, end = "<!-- noisy: made by benchmarks/routerbench.py -->\n", "<!-- end of noisy -->\n"
    whole = "\n".join([*head, *rows.values(), ""])
    replace_tables(HERE / "ROUTERBENCH.md", begin, end, whole)
    few = [row for (n_models, _), row in rows.items() if n_models in README]
    replace_tables(HERE.parent / "README.md", begin, end, "\n".join([*head, *few, ""]))
    if asked.quick:
        return
    table = cj.import_routerbench(asked.file, invalid="drop", features="text").table
    table = table.select_models(FOUR)
    lines = header("estimates", *POLICIES)
    for estimator in ("logistic", "joint"):
        for text in (False, True):
            lines.append(learned_row(estimator, text, folds(table, estimator, text)))
            print(lines[-1], flush=True)
    begin, end = "<!-- learned: made by routerbench.py -->\n", "<!-- end of learned -->\n"
    replace_tables(HERE / "ROUTERBENCH.md", begin, end, "\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
