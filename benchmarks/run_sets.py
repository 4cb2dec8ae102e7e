"""Time frontiers of estimates that depend on the run set, and of independent estimates.

    python benchmarks/run_sets.py --queries 1000000 --models 5

Quality is jointly normal, so the conditional means under every run set are known: they depend on
features and on one noisy signal per model. The independent ("supplied") estimates of a model are
its means before anything has run and given its own signal alone. Both are timed in one process,
strategy by strategy, in wall seconds and in CPU seconds, whose ratio does not depend on other load.
"""

import argparse
import functools
import time

import numpy as np
from conftest import half_frontier
from jaxtyping import Float

from cascjax.data.table import Table
from cascjax.estimators import Independent, RunSets
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
def dataset(n_queries: int, n_models: int) -> tuple[Table, Independent, RunSets]:
    """Return queries, independent estimates, and estimates given all that has run."""
    n, k = n_queries, n_models
    rng = np.random.default_rng(0)
    spread = rng.uniform(0.3, 0.5, k)
    covariance = np.outer(spread, spread) * (0.5 + 0.5 * np.eye(k))
    root = np.linalg.cholesky(covariance)
    design = np.empty((n, 1 + FEATURES + k), np.float32)
    quality = np.empty((n, k), np.float32)
    slope = rng.standard_normal((FEATURES, k)) * 0.2 / np.sqrt(FEATURES)
    slope += rng.standard_normal((FEATURES, 1)) * 0.3 / np.sqrt(FEATURES)
    level = np.linspace(0, 0.4, k)
    for start in range(0, n, 1 << 16):
        part = slice(start, min(start + (1 << 16), n))
        features = rng.standard_normal((part.stop - start, FEATURES))
        true = level + features @ slope + rng.standard_normal((len(features), k)) @ root.T
        design[part, 0], design[part, 1 : 1 + FEATURES], quality[part] = 1, features, true
        design[part, 1 + FEATURES :] = true + NOISE * rng.standard_normal(true.shape)
    cost = np.broadcast_to(np.geomspace(0.02, 1, k).astype(np.float32), (n, k)).copy()
    prior = np.concatenate([level[None], slope])  # [1 + FEATURES, K]

    def posterior(run: list[int]) -> tuple[Float[np.ndarray, "K K"], Float[np.ndarray, "K K"]]:
        """Return the weights of the signals, and the covariance of quality."""
        gain = np.zeros((k, k))
        if run:
            block = covariance[np.ix_(run, run)] + NOISE**2 * np.eye(len(run))
            gain[:, run] = covariance[:, run] @ np.linalg.inv(block)
        return gain, covariance - gain @ covariance

    last = posterior(list(range(k)))[1]
    weights = np.zeros((2**k, k, design.shape[1]), np.float32)
    moves = np.zeros((2**k, k, k), np.float32)
    for run_set in range(2**k):
        run = [i for i in range(k) if run_set >> i & 1]
        left = [i for i in range(k) if not run_set >> i & 1]
        gain, now = posterior(run)
        weights[run_set, :, : 1 + FEATURES] = (prior @ (np.eye(k) - gain).T).T
        weights[run_set, :, 1 + FEATURES :] = gain
        moves[run_set][np.ix_(left, left)] = (now - last)[np.ix_(left, left)]
    cost_weights = np.zeros((1, k, design.shape[1]), np.float32)
    cost_weights[0, :, 0] = cost[0]
    fold = rng.integers(0, FOLDS, n).astype(np.int32)
    # All folds have equal weights, which does not change the time.
    weights, cost_weights = (
        np.broadcast_to(x, (FOLDS, *x.shape)).copy() for x in (weights, cost_weights)
    )
    learned = RunSets(design, fold, weights, cost_weights, moves, cost, logistic=False)
    ante = (design[:, : 1 + FEATURES] @ prior).astype(np.float32)
    share = spread**2 / (spread**2 + NOISE**2)
    post = ante + share * (design[:, 1 + FEATURES :] - ante)
    sigma = (np.sqrt(share) * spread)[None].astype(np.float32)
    supplied = Independent(ante, post.astype(np.float32), sigma, cost, cost)
    return Table(quality, cost, models=tuple(f"m{i}" for i in range(k))), supplied, learned


def main() -> None:
    """Print one line per strategy."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--queries", type=int, default=1_000_000)
    parser.add_argument("--models", type=int, default=5)
    parser.add_argument("--points", type=int, default=100, help="budgets of each frontier")
    names = ",".join(kind.name for kind in KINDS)
    parser.add_argument("--strategies", default=names, help="names, with commas")
    parser.add_argument("--learned-only", action="store_true", help="leave out supplied estimates")
    asked = parser.parse_args()
    # To compile: blocks of full size, and enough of them that a sample is searched first.
    few = dataset(min(asked.queries, 300_000 if asked.models <= 5 else 2_000), asked.models)
    table, supplied, learned = dataset(asked.queries, asked.models)
    print(f"{asked.queries:,} queries, {asked.models} models, {FEATURES} features, {FOLDS} folds")
    total = np.zeros((2, 2))
    for kind in [kind for kind in KINDS if kind.name in asked.strategies.split(",")]:
        seconds, auc, first = np.zeros((2, 2)), np.zeros(2), np.zeros(2)
        for i in range(int(asked.learned_only), 2):
            start = time.process_time()
            half_frontier(kind, few[0], few[1:][i], asked.points)
            first[i] = time.process_time() - start
            times = []
            # The number of breakpoints depends on the queries, so the first rounds compile too.
            for _ in range(3 if kind.has_breakpoints else 1):
                start = np.array([time.perf_counter(), time.process_time()])
                auc[i] = half_frontier(kind, table, (supplied, learned)[i], asked.points).auc
                times.append(np.array([time.perf_counter(), time.process_time()]) - start)
            seconds[i] = np.min(times, axis=0)
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
