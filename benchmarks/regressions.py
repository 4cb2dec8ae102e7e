"""Time the regressions of learned estimates, and scikit-learn's fits one at a time.

    python benchmarks/regressions.py [--queries N] [--paper FOLDER]

Two design matrices: features and agreement of answers, as the paper's code has for code and
mathematics, without and with signals. All regressions at once are compared with a plain loop over
scikit-learn's `LogisticRegression`, with its default tolerance. With --paper, a checkout of
eth-sri/cascade-routing, its `CodeMathQualityComputer.fit` is timed on the same queries; a stub
replaces sentence_transformers, which it does not use.
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
    """Return a design matrix, the columns known under each run set, quality and answers."""
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
    design = np.stack(columns, 1)
    design[:, 1:] = (design[:, 1:] - design[:, 1:].mean(0)) / design[:, 1:].std(0)
    runs = (np.arange(2**K)[:, None] >> np.arange(K)) & 1 == 1
    known = ~(np.stack(needs)[None] & ~runs[:, None]).any(-1)
    return design.astype(np.float32), known, quality, answer


def one_at_a_time(design: np.ndarray, known: np.ndarray, quality: np.ndarray) -> np.ndarray:
    """Return the weights of scikit-learn's fit of each run set and model."""
    weights = np.zeros((len(known), K, design.shape[1]))
    columns64 = design.astype(np.float64)
    for s, row in enumerate(known):
        columns = np.flatnonzero(row)[1:]
        x = columns64[:, columns]
        for k in range(K):
            model = LogisticRegression().fit(x, quality[:, k])
            weights[s, k, 0], weights[s, k, columns] = np.ravel(model.intercept_)[0], model.coef_[0]
    return weights


def papers(folder: Path, design: np.ndarray, quality: np.ndarray, answer: np.ndarray) -> None:
    """Run the fit of the paper's code."""
    sys.path.insert(0, str(folder / "src"))
    stub = types.ModuleType("sentence_transformers")
    vars(stub)["SentenceTransformer"] = object
    sys.modules.setdefault("sentence_transformers", stub)
    package = types.ModuleType("selection")  # its __init__ imports clients of model APIs
    package.__path__ = [str(folder / "src" / "selection")]
    sys.modules.setdefault("selection", package)
    from selection.code_math import CodeMathQualityComputer  # pyright: ignore

    rng = np.random.default_rng(1)
    names = ["algebra", "geometry"]
    levels = ["level 1", "level 2", "level 3", "easy", "hard"]
    questions = [
        ("x" * int(200 * np.exp(row[1])), names[rng.integers(2)], levels[rng.integers(5)])
        for row in design
    ]
    answers = [[("", 0.0, int(a)) for a in row] for row in answer]
    CodeMathQualityComputer().fit(questions, answers, quality)


def seconds(work: Callable[[], T], repeats: int) -> tuple[float, T]:
    """Return the smallest of several times, and the result."""
    times, result = [], None
    for _ in range(repeats):
        start = time.perf_counter()
        result = work()
        times.append(time.perf_counter() - start)
    return min(times), cast(T, result)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--paper", type=Path)
    parser.add_argument("--repeats", type=int, default=7)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    n, f = asked.queries, 5
    fold = np.random.default_rng(0).permutation(n) % f
    print(f"{n:,} queries, {K} models, {2**K} run sets; {jax.devices()[0].device_kind}")
    for signals in (0, 2):
        compare(n, signals, fold, asked.repeats, asked.paper)


def compare(n: int, signals: int, fold: np.ndarray, repeats: int, paper: Path | None) -> None:
    """Print the times of one design matrix, and the largest difference of coefficients."""
    design, known, quality, answer = queries(n, signals)

    def at_once() -> Regressions:
        blocks = Blocks.cut(design, quality, fold, n_sets=len(known))
        return fit_logistic(blocks, known, folds=False)

    first, _ = seconds(at_once, 1)
    ours, fit = seconds(at_once, repeats)
    blocks = Blocks.cut(design, quality, fold, n_sets=len(known))
    fit_logistic(blocks, known)
    crossed, _ = seconds(lambda: fit_logistic(blocks, known), 3)
    threads, theirs = seconds(lambda: one_at_a_time(design, known, quality), 1)
    with threadpool_limits(1):  # small matrices are faster on one thread
        single, _ = seconds(lambda: one_at_a_time(design, known, quality), 2)
    print(
        f"{design.shape[1]} columns ({signals} signals per model): at once {ours * 1e3:.1f} ms"
        f" ({fit.passes} passes, {fit.unfinished} unfinished; first call {first:.2f} s);"
        f" with {fold.max() + 1} leave-one-fold-out fits {crossed * 1e3:.0f} ms\n"
        f"  scikit-learn's {len(known) * K} fits: {threads:.2f} s, on one thread {single:.2f} s,"
        f" {min(single, threads) / ours:.0f} times as long; largest difference of"
        f" coefficients {np.abs(theirs - fit.weights[0]).max():.1e}",
        flush=True,
    )
    if paper is not None and not signals:
        took, _ = seconds(lambda: papers(paper, design, quality, answer), 1)
        print(f"  the paper's fit: {took:.1f} s, {took / ours:,.0f} times as long", flush=True)


if __name__ == "__main__":
    main()
