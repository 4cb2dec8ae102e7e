"""Frontiers of estimates that depend on all that has run, beside those of supplied estimates.

    python benchmarks/run_sets.py --queries 1000000 --models 5

The world is a joint normal one, so that what is believed under each run set is known exactly: the
prior means of the K models, which are columns among the features, and a noisy signal of each. The
supplied estimates are what is believed of each model before anything and after its own signal.
Both ways in one process, one after the other, strategy by strategy: seconds, and seconds of CPU,
whose ratio is good on a machine that others use as well.
"""

import argparse
import functools
import time
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from cascjax.comparison import frontier
from cascjax.data.table import Table, mean_rows, split_rows
from cascjax.estimators import Estimator, Independent, RunSets
from cascjax.metrics import budgets
from cascjax.strategies import (
    CascadeRouting,
    Cascading,
    Frugal,
    Pandora,
    Routing,
    Strategy,
    Thresholding,
)

FEATURES, FOLDS, NOISE = 32, 5, 0.3
KINDS: list[Strategy] = [
    Routing(), Thresholding(), Frugal(), Cascading(), Pandora(), CascadeRouting(),
]  # fmt: skip


@functools.lru_cache(maxsize=2)
def world(n_queries: int, n_models: int) -> tuple[Table, Independent, RunSets]:
    """Queries, what is believed of each model by itself, and what is believed given all seen."""
    n, k = n_queries, n_models
    rng = np.random.default_rng(0)
    spread = rng.uniform(0.3, 0.5, k)
    covariance = np.outer(spread, spread) * (0.5 + 0.5 * np.eye(k))
    root = np.linalg.cholesky(covariance)
    seen = np.empty((n, 1 + FEATURES + k), np.float32)
    quality = np.empty((n, k), np.float32)
    taste = rng.standard_normal((FEATURES, k)) * 0.2 / np.sqrt(FEATURES)
    taste += rng.standard_normal((FEATURES, 1)) * 0.3 / np.sqrt(FEATURES)
    level = np.linspace(0, 0.4, k)
    for start in range(0, n, 1 << 16):
        part = slice(start, min(start + (1 << 16), n))
        features = rng.standard_normal((part.stop - start, FEATURES))
        true = level + features @ taste + rng.standard_normal((len(features), k)) @ root.T
        seen[part, 0], seen[part, 1 : 1 + FEATURES], quality[part] = 1, features, true
        seen[part, 1 + FEATURES :] = true + NOISE * rng.standard_normal(true.shape)
    cost = np.broadcast_to(np.geomspace(0.02, 1, k).astype(np.float32), (n, k)).copy()
    prior = np.concatenate([level[None], taste])  # [1 + FEATURES, K]

    def posterior(run: list[int]) -> tuple[Float[np.ndarray, "K K"], Float[np.ndarray, "K K"]]:
        """Weights of the signals, and the covariance of quality."""
        gain = np.zeros((k, k))
        if run:
            block = covariance[np.ix_(run, run)] + NOISE**2 * np.eye(len(run))
            gain[:, run] = covariance[:, run] @ np.linalg.inv(block)
        return gain, covariance - gain @ covariance

    last = posterior(list(range(k)))[1]
    weights = np.zeros((2**k, k, seen.shape[1]), np.float32)
    moves = np.zeros((2**k, k, k), np.float32)
    for run_set in range(2**k):
        run = [i for i in range(k) if run_set >> i & 1]
        left = [i for i in range(k) if not run_set >> i & 1]
        gain, now = posterior(run)
        weights[run_set, :, : 1 + FEATURES] = (prior @ (np.eye(k) - gain).T).T
        weights[run_set, :, 1 + FEATURES :] = gain
        moves[run_set][np.ix_(left, left)] = (now - last)[np.ix_(left, left)]
    of_cost = np.zeros((1, k, seen.shape[1]), np.float32)
    of_cost[0, :, 0] = cost[0]
    fold = rng.integers(0, FOLDS, n).astype(np.int32)
    # The same weights in every fold: what they are is nothing to the time they take.
    weights, of_cost = (np.broadcast_to(x, (FOLDS, *x.shape)).copy() for x in (weights, of_cost))
    learned = RunSets(seen, fold, weights, of_cost, moves, cost, logistic=False)
    ante = (seen[:, : 1 + FEATURES] @ prior).astype(np.float32)
    share = spread**2 / (spread**2 + NOISE**2)
    post = ante + share * (seen[:, 1 + FEATURES :] - ante)
    sigma = (np.sqrt(share) * spread)[None].astype(np.float32)
    supplied = Independent(ante, post.astype(np.float32), sigma, cost, cost)
    return Table(quality, cost, models=tuple(f"m{i}" for i in range(k))), supplied, learned


def job(
    kind: Strategy, table: Table, estimator: Estimator, points: int = 100
) -> Callable[[], float]:
    """A frontier, fitted on one half and scored on the other; gives its AUC."""
    fit, evaluate = split_rows(table)
    at = budgets(mean_rows(table.cost, fit), mean_rows(table.quality, fit), points)
    return lambda: frontier(kind, table, estimator, fit, evaluate, at).auc


def main() -> None:
    """Prints a line a strategy."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--queries", type=int, default=1_000_000)
    parser.add_argument("--models", type=int, default=5)
    parser.add_argument("--points", type=int, default=100, help="budgets of a frontier")
    names = ",".join(kind.name for kind in KINDS)
    parser.add_argument("--strategies", default=names, help="names with commas between them")
    parser.add_argument("--learned-alone", action="store_true", help="without supplied estimates")
    given = parser.parse_args()
    # Compiles: blocks are as large as they will be, and so many that a sample is looked at first.
    few = world(min(given.queries, 300_000 if given.models <= 5 else 2_000), given.models)
    table, supplied, learned = world(given.queries, given.models)
    print(f"{given.queries:,} queries, {given.models} models, {FEATURES} features, {FOLDS} folds")
    total = np.zeros((2, 2))
    for kind in [one for one in KINDS if one.name in given.strategies.split(",")]:
        seconds, auc, first = np.zeros((2, 2)), np.zeros(2), np.zeros(2)
        for i in range(int(given.learned_alone), 2):
            start = time.process_time()
            job(kind, few[0], few[1:][i], given.points)()
            first[i] = time.process_time() - start
            tried = []
            # Of stages how many settings there are depends on the queries: that compiles as well.
            for _ in range(3 if kind.staged else 1):
                start = np.array([time.perf_counter(), time.process_time()])
                auc[i] = job(kind, table, (supplied, learned)[i], given.points)()
                tried.append(np.array([time.perf_counter(), time.process_time()]) - start)
            seconds[i] = np.min(tried, axis=0)
        total += seconds
        _say(kind.name, seconds)
        print(f"  AUCs {auc[0]:.4f}, {auc[1]:.4f}; compiled and run: {first.round(1)} s of CPU")
    _say("all", total)


def _say(name: str, seconds: Float[np.ndarray, "2 2"]) -> None:
    (wall, cpu), (learned_wall, learned_cpu) = seconds
    ratio = learned_cpu / cpu if cpu else np.nan
    print(
        f"{name}: supplied {wall:.2f} s ({cpu:.2f} of CPU), learned {learned_wall:.2f} s"
        f" ({learned_cpu:.2f} of CPU), ratio of CPU {ratio:.2f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
