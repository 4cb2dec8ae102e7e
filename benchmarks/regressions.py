"""How long the regressions of learned estimates take, beside scikit-learn's one at a time.

    python benchmarks/regressions.py [--queries N] [--paper FOLDER]

On one design, of features and agreement as the paper's code makes it for code and mathematics, and
once more with signals: all regressions at once, and a plain loop over scikit-learn's, with its
default tolerance. With --paper, a folder that holds a checkout of eth-sri/cascade-routing, its own
`CodeMathQualityComputer.fit` on the same queries too; a stub stands in for sentence_transformers,
which that does not use.
"""

import argparse
import sys
import time
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

import jax
import numpy as np
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from cascjax.estimators.regression import Blocks, Regressions, fit_logistic

T = TypeVar("T")
K, FEATURES = 5, 10


def queries(n: int, signals: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Columns, what each run set shows, quality and answers of queries of latent difficulty."""
    rng = np.random.default_rng(0)
    difficulty, own = rng.normal(size=n), rng.normal(size=(n, K))
    margin = 1.5 * (np.linspace(-0.3, 1.2, K) - difficulty[:, None]) + own
    quality = (margin + rng.logistic(size=(n, K)) > 0).astype(np.float32)
    answer = np.where(quality > 0, 0, rng.integers(1, 4, (n, K)))
    columns = [np.ones(n), difficulty + 0.6 * rng.normal(size=n)]
    columns += [rng.normal(size=n) for _ in range(FEATURES - 1)]
    needs = [np.zeros(K, bool)] * len(columns)
    for i in range(K):
        columns += [margin[:, i] + rng.normal(size=n) for _ in range(signals)]
        needs += [np.arange(K) == i] * signals
    for i in range(K):
        for j in range(i):
            columns.append(answer[:, i] == answer[:, j])
            needs.append((np.arange(K) == i) | (np.arange(K) == j))
    seen = np.stack(columns, 1)
    seen[:, 1:] = (seen[:, 1:] - seen[:, 1:].mean(0)) / seen[:, 1:].std(0)
    runs = (np.arange(2**K)[:, None] >> np.arange(K)) & 1 == 1
    shown = ~(np.stack(needs)[None] & ~runs[:, None]).any(-1)
    return seen.astype(np.float32), shown, quality, answer


def one_at_a_time(seen: np.ndarray, shown: np.ndarray, quality: np.ndarray) -> np.ndarray:
    """scikit-learn's fit of each run set and model."""
    weights = np.zeros((len(shown), K, seen.shape[1]))
    columns64 = seen.astype(np.float64)
    for s, row in enumerate(shown):
        columns = np.flatnonzero(row)[1:]
        x = columns64[:, columns]
        for k in range(K):
            model = LogisticRegression().fit(x, quality[:, k])
            weights[s, k, 0], weights[s, k, columns] = np.ravel(model.intercept_)[0], model.coef_[0]
    return weights


def papers(folder: Path, seen: np.ndarray, quality: np.ndarray, answer: np.ndarray) -> None:
    """The paper's own fit."""
    sys.path.insert(0, str(folder / "src"))
    stub = types.ModuleType("sentence_transformers")
    vars(stub)["SentenceTransformer"] = object
    sys.modules.setdefault("sentence_transformers", stub)
    package = types.ModuleType("selection")  # whose own start imports clients of models
    package.__path__ = [str(folder / "src" / "selection")]
    sys.modules.setdefault("selection", package)
    from selection.code_math import CodeMathQualityComputer  # pyright: ignore

    rng = np.random.default_rng(1)
    names = ["algebra", "geometry"]
    levels = ["level 1", "level 2", "level 3", "easy", "hard"]
    asked = [
        ("x" * int(200 * np.exp(row[1])), names[rng.integers(2)], levels[rng.integers(5)])
        for row in seen
    ]
    answers = [[("", 0.0, int(a)) for a in row] for row in answer]
    CodeMathQualityComputer().fit(asked, answers, quality)


def seconds(work: Callable[[], T], repeats: int) -> tuple[float, T]:
    """The least of several times, and what came of it."""
    found, result = [], None
    for _ in range(repeats):
        start = time.perf_counter()
        result = work()
        found.append(time.perf_counter() - start)
    return min(found), cast(T, result)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--paper", type=Path)
    parser.add_argument("--repeats", type=int, default=7)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    n, f = given.queries, 5
    fold = np.random.default_rng(0).permutation(n) % f
    print(f"{n:,} queries, {K} models, {2**K} run sets; {jax.devices()[0].device_kind}")
    for signals in (0, 2):
        compare(n, signals, fold, given.repeats, given.paper)


def compare(n: int, signals: int, fold: np.ndarray, repeats: int, paper: Path | None) -> None:
    """Prints the times of one design, and how far coefficients are apart."""
    seen, shown, quality, answer = queries(n, signals)

    def at_once() -> Regressions:
        blocks = Blocks.cut(seen, quality, fold, n_sets=len(shown))
        return fit_logistic(blocks, shown, folds=False)

    first, _ = seconds(at_once, 1)
    ours, found = seconds(at_once, repeats)
    blocks = Blocks.cut(seen, quality, fold, n_sets=len(shown))
    fit_logistic(blocks, shown)
    crossed, _ = seconds(lambda: fit_logistic(blocks, shown), 3)
    threads, theirs = seconds(lambda: one_at_a_time(seen, shown, quality), 1)
    with threadpool_limits(1):  # on small matrices threads only wait for each other
        single, _ = seconds(lambda: one_at_a_time(seen, shown, quality), 2)
    print(
        f"{seen.shape[1]} columns ({signals} signals a model): at once {ours * 1e3:.1f} ms"
        f" ({found.passes} passes, {found.unfinished} unfinished; the first time {first:.2f} s);"
        f" with {fold.max() + 1} folds left out in turn too {crossed * 1e3:.0f} ms\n"
        f"  scikit-learn's {len(shown) * K} fits: {threads:.2f} s, on one thread {single:.2f} s:"
        f" {min(single, threads) / ours:.0f} times as long; coefficients apart by up to"
        f" {np.abs(theirs - found.weights[0]).max():.1e}",
        flush=True,
    )
    if paper is not None and not signals:
        took, _ = seconds(lambda: papers(paper, seen, quality, answer), 1)
        print(f"  the paper's own fit: {took:.1f} s, {took / ours:,.0f} times as long", flush=True)


if __name__ == "__main__":
    main()
