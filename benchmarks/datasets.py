"""How much each kind of dataset lets an estimator know, and what that is worth to each strategy.

    python benchmarks/synthetic.py [--queries 20000] [--models 4]

Prints Markdown; half a minute on an idle core. Half of the queries fit logistic regressions
(scikit-learn, one a group and model), the others judge them: the share of the variance of quality
they explain, beside what `synthetic.known_posterior` explains, which nothing that sees the same can
beat but by chance. "Before" is the features, "own answer" a model's signals besides, "all answers"
the signals of all models and which answers agree; on all answers the known one is that of 2,000
queries. AUCs are those of the exact estimates a dataset supplies (of noisy ones, at the low level,
for RouterBench's twin, which supplies none).
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

import cascjax
from cascjax import synthetic
from cascjax.data.table import Table
from cascjax.synthetic.answers import AnswerDataset
from cascjax.synthetic.judged import JudgedDataset

STRATEGIES = ["mixing", "routing", "cascading", "cascade-routing", "pandora", "oracle"]
KNOWN_ROWS = 2_000


def main() -> None:
    """Draw every kind, and print a row of each."""
    parser = argparse.ArgumentParser(description="How much each kind of dataset lets be known.")
    parser.add_argument("--queries", type=int, default=20_000)
    parser.add_argument("--models", type=int, default=4)
    arguments = parser.parse_args()
    n, K = arguments.queries, arguments.models
    drawn = {}
    print(f"{n:,} queries of {K} models; explained, as learned / as known, mean over the models\n")
    print("| kind | mean quality | cost ratio | before | own answer | all answers | rows/s |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for kind in synthetic.KINDS:
        dataset = synthetic.make_dataset(K, kind=kind)
        synthetic.sample(dataset, 1, 1 << 14, features=True)  # first calls are slower
        start = time.perf_counter()
        for _ in synthetic.batches(dataset, 1 << 18, 1, features=True):
            pass
        speed = (1 << 18) / (time.perf_counter() - start)
        drawn[kind] = table = synthetic.sample(dataset, 0, n, features=True)
        print(f"| {kind} | {row(dataset, table)} | {speed:,.0f} |", flush=True)
    print(f"\nAreas\n\n| kind | {' | '.join(STRATEGIES)} |")
    print("| --- |" + " --- |" * len(STRATEGIES))
    for kind, table in drawn.items():
        how = "noisy" if table.quality_ante is None else "supplied"
        study = cascjax.compare(table, STRATEGIES, budgets=20, estimates=how, resamples=0)
        auc = {f.strategy: f.auc for f in study.frontiers}
        print(f"| {kind} | {' | '.join(f'{auc[s]:.4f}' for s in STRATEGIES)} |", flush=True)


def row(dataset: JudgedDataset | AnswerDataset, table: Table) -> str:
    """Mean qualities and costs, and what is explained under three run sets."""
    K, half = table.n_models, table.n_queries // 2
    later = np.arange(half, table.n_queries)
    test, few = table.take(later), table.take(later[:KNOWN_ROWS])
    quality, cost = table.quality.mean(0), table.cost.mean(0)
    cells = [f"{quality.min():.2f} to {quality.max():.2f}", f"{cost.max() / cost.min():.0f}"]
    for runs in (np.zeros((K, K), bool), np.eye(K, dtype=bool), np.ones((K, K), bool)):
        learned, known = np.empty(K), np.empty(K)
        judged = few if runs.all() else test
        for k in range(K):
            belief, _ = synthetic.known_posterior(dataset, few, runs[k])
            known[k] = explained(few.quality[:, k], belief[:, k])
            learned[k] = explained(
                judged.quality[:, k], logistic(table, half, runs[k], k)[: judged.n_queries]
            )
        cells.append(f"{learned.mean():.3f} / {known.mean():.3f}")
    return " | ".join(cells)


def explained(quality: Float[np.ndarray, " n"], belief: Float[np.ndarray, " n"]) -> float:
    """The share of the variance of quality that a belief explains."""
    return float(1 - np.square(quality - belief).mean() / quality.var())


def logistic(
    table: Table, half: int, run: Bool[np.ndarray, " K"], k: int
) -> Float[np.ndarray, " m"]:
    """A model's quality on the later queries, from regressions on the first `half`, one a group."""
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
    seen, right = np.concatenate(columns, axis=1), table.quality[:, k] > 0
    belief = np.empty(table.n_queries - half)
    first = np.arange(table.n_queries) < half
    for g in range(len(table.groups)):
        fit, later = first & (table.group == g), ~first & (table.group == g)
        if right[fit].all() or not right[fit].any():
            belief[later[half:]] = right[fit].mean()
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # constant columns
            model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
            model.fit(seen[fit], right[fit])
            belief[later[half:]] = model.predict_proba(seen[later])[:, 1]
    return belief


if __name__ == "__main__":
    main()
