"""Measure how much of the quality each kind of synthetic dataset makes predictable.

    python benchmarks/datasets.py [--queries 20000] [--models 4]

Prints Markdown; takes half a minute on an idle core. Half of the queries fit logistic regressions
(scikit-learn, one per group and model), the other half measures the share of the variance of
quality that they explain, next to the share that the exact posterior explains
(`synthetic.known_posterior`), which is an upper bound on average. Inputs are: "before", the
features; "own answer", also the model's own signals; "all answers", the signals of all models and
which answers agree, where both shares are of 2,000 queries. AUCs are of the exact estimates that
a dataset supplies (for kind routerbench, which supplies none, of noisy estimates at level low).
"""

import argparse
import itertools
import time
import warnings

import numpy as np
from jaxtyping import Bool, Float
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import cascjax as cj
from cascjax import synthetic
from cascjax.synthetic.answers import AnswerDataset
from cascjax.synthetic.judged import JudgedDataset

STRATEGIES = ["mixing", "routing", "cascading", "cascade-routing", "pandora", "oracle"]
KNOWN_ROWS = 2_000


def main() -> None:
    """Sample every kind of dataset, and print one row for each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--queries", type=int, default=20_000)
    parser.add_argument("--models", type=int, default=4)
    arguments = parser.parse_args()
    n, K = arguments.queries, arguments.models
    tables = {}
    print(f"{n:,} queries, {K} models; share of variance explained: learned / exact, model mean")
    print()
    print("| kind | mean quality | cost ratio | before | own answer | all answers | rows/s |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for kind in synthetic.KINDS:
        dataset = synthetic.make_dataset(K, kind=kind)
        synthetic.sample(dataset, 1, 1 << 14, features=True)  # first calls are slower
        start = time.perf_counter()
        for _ in synthetic.batches(dataset, 1 << 18, 1, features=True):
            pass
        speed = (1 << 18) / (time.perf_counter() - start)
        tables[kind] = table = synthetic.sample(dataset, 0, n, features=True)
        print(f"| {kind} | {row(dataset, table)} | {speed:,.0f} |", flush=True)
    print(f"\nAUC\n\n| kind | {' | '.join(STRATEGIES)} |")
    print("| --- |" + " --- |" * len(STRATEGIES))
    for kind, table in tables.items():
        estimates = cj.Noisy("low") if table.quality_ante is None else cj.Supplied()
        study = cj.compare(table, STRATEGIES, estimates, budgets=20)
        print(f"| {kind} | {' | '.join(f'{f.auc:.4f}' for f in study.frontiers)} |", flush=True)


def row(dataset: JudgedDataset | AnswerDataset, table: cj.Table) -> str:
    """Return mean qualities and costs, and the shares explained under three run sets."""
    K, half = table.n_models, table.n_queries // 2
    later = np.arange(half, table.n_queries)
    test, few = table.take(later), table.take(later[:KNOWN_ROWS])
    quality, cost = table.quality.mean(0), table.cost.mean(0)
    cells = [f"{quality.min():.2f} to {quality.max():.2f}", f"{cost.max() / cost.min():.0f}"]
    for runs in (np.zeros((K, K), bool), np.eye(K, dtype=bool), np.ones((K, K), bool)):
        learned, known = np.empty(K), np.empty(K)
        scored = few if runs.all() else test
        for k in range(K):
            posterior = synthetic.known_posterior(dataset, few, runs[k])
            known[k] = explained(few.quality[:, k], posterior.quality[:, k])
            learned[k] = explained(
                scored.quality[:, k], logistic(table, half, runs[k], k)[: scored.n_queries]
            )
        cells.append(f"{learned.mean():.3f} / {known.mean():.3f}")
    return " | ".join(cells)


def explained(quality: Float[np.ndarray, " n"], estimate: Float[np.ndarray, " n"]) -> float:
    """Return the share of the variance of quality that an estimate explains."""
    return float(1 - np.square(quality - estimate).mean() / quality.var())


def logistic(
    table: cj.Table, half: int, run: Bool[np.ndarray, " K"], k: int
) -> Float[np.ndarray, " m"]:
    """Return estimates of the later queries from regressions on the first `half`, one per group."""
    assert table.features is not None
    assert table.signals is not None
    assert table.group is not None
    by_model = table.signals.reshape(table.n_queries, table.n_models, -1)
    columns = [table.features, by_model[:, run].reshape(table.n_queries, -1)]
    if table.answer is not None:
        a, models = table.answer, np.flatnonzero(run)
        agree = [(a[:, i] == a[:, j])[:, None] for i, j in itertools.combinations(models, 2)]
        refused = [(a[:, i] == -1)[:, None] for i in models]
        columns += agree + refused
    design, right = np.concatenate(columns, axis=1), table.quality[:, k] > 0
    estimate = np.empty(table.n_queries - half)
    first = np.arange(table.n_queries) < half
    for g in range(len(table.groups)):
        fit, later = first & (table.group == g), ~first & (table.group == g)
        if right[fit].all() or not right[fit].any():
            estimate[later[half:]] = right[fit].mean()
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # constant columns
            model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
            model.fit(design[fit], right[fit])
            estimate[later[half:]] = model.predict_proba(design[later])[:, 1]
    return estimate


if __name__ == "__main__":
    main()
