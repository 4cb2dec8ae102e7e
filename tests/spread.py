"""Simulations spread over the first 1, 2 and 8 of eight devices, for tests/test_devices.py.

    XLA_FLAGS=--xla_force_host_platform_device_count=8 python tests/spread.py OUT.npz

A process of its own: how many devices a CPU has is settled before JAX starts. What it writes is
named "<devices>/<what>".
"""

import sys
from dataclasses import dataclass, fields, replace

import jax
import jax.numpy as jnp
import numpy as np

from cascjax import use_devices
from cascjax.data.table import Table
from cascjax.engine import simulate
from cascjax.engine.blocks import BlockSizes, Queries, use_block_sizes
from cascjax.engine.simulate import grid_means, query_outcomes, query_spends, resampled_sums, totals
from cascjax.estimators import Estimates, Independent, RunSets
from cascjax.strategies import STRATEGIES, Frugal, Mixing, Pandora, Routing, SearchContext

N, K, FOLDS, SETTINGS = 901, 2, 2, 5


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LastAxis:
    """An estimator of its own kind: of its leaves one is shared, one has its queries second."""

    matrix: jax.Array | np.ndarray
    turned: jax.Array | np.ndarray
    cost: jax.Array | np.ndarray

    def __call__(self, run: jax.Array) -> Estimates:
        ahead = ~run[:, :, None] & ~run[:, None, :]
        quality, cost = jnp.asarray(self.turned).T, jnp.asarray(self.cost)
        return Estimates(quality, jnp.where(ahead, self.matrix, 0), cost)

    def take(self, rows: slice | np.ndarray) -> "LastAxis":
        return replace(self, turned=self.turned[:, rows], cost=self.cost[rows])


def learned(rng: np.random.Generator, cost: np.ndarray) -> RunSets:
    """Regressions of two folds, with any weights."""
    seen = rng.random((N, 4)).astype(np.float32)
    fold = rng.integers(0, FOLDS, N).astype(np.int32)
    weights = rng.random((FOLDS, 2**K, K, 4)).astype(np.float32)
    left = (np.arange(2**K)[:, None] >> np.arange(K)) & 1 == 0
    covariance = (0.04 * np.eye(K) * left[:, None] * left[:, :, None]).astype(np.float32)
    return RunSets(seen, fold, weights / 4, weights[:, :1], covariance, cost, logistic=False)


def main() -> None:
    """Everything that is spread, on each number of devices in turn."""
    rng = np.random.default_rng(0)
    quality, ante, post, noise = rng.random((4, N, K)).astype(np.float32)
    cost = (0.5 + noise) * np.array([0.2, 1.0], np.float32)
    table = Table(quality, cost, models=("a", "b"))
    believed = Independent(ante, post, np.full((1, K), 0.3, np.float32), cost, cost)
    single = replace(believed, sigma=(0.1 + 0.4 * rng.random((N, K))).astype(np.float32))
    there = jax.device_put(cost, jax.local_devices()[0])
    joint = LastAxis(np.diag(np.full(K, 0.09, np.float32)), np.ascontiguousarray(ante.T), there)
    of_all = learned(rng, cost)
    sketch = SearchContext(table, believed)
    # Several blocks, the last in part.
    sizes = BlockSizes(floats=1 << 11, breakpoint_queries=64)
    # Rows in an order of their own, some twice; and fewer than there are devices.
    some, few = rng.integers(0, N, 700), np.array([5, 0, 900])
    found: dict[str, np.ndarray] = {}

    def keep(name: str, of: object) -> None:
        for f in fields(of):  # pyright: ignore[reportArgumentType]
            found[f"{name}/{f.name}"] = np.asarray(getattr(of, f.name))

    for count in (1, 2, 8):
        with use_devices(jax.local_devices()[:count]), use_block_sizes(sizes):
            for name, kind in STRATEGIES.items():
                one, settings = kind(), np.asarray(kind().initial_grid(sketch, SETTINGS))
                if isinstance(one, Frugal):
                    means = grid_means(one, settings, believed, quality, cost)
                    found[f"{count}/{name}/chains"] = means
                    settings = np.stack([np.array([1.0, 2.0, 3.0, 3.0, 3.0]), settings], axis=1)
                keep(f"{count}/{name}", totals(one, settings, believed, quality, cost))
            if count == 2:
                continue  # what is left costs time to compile, and two are like eight
            job = (Pandora(), np.array([0.1, 0.5]))
            keep(f"{count}/sigma a query", totals(*job, single, quality, cost, extra_costs=[noise]))
            keep(f"{count}/joint", totals(*job, joint, quality, cost, rows=some, usage=False))
            keep(f"{count}/learned", totals(Routing(), job[1], of_all, quality, cost, rows=some))
            for name, kind, rows in (("some", Routing(), some), ("few", Mixing(), few)):
                run, answer = query_outcomes(kind, job[1], of_all, (N, K), rows=rows)
                found[f"{count}/{name}/run"], found[f"{count}/{name}/answer"] = run, answer
            spent, got = query_spends(*job, believed, quality, cost, rows=some)
            found[f"{count}/spent/cost"], found[f"{count}/spent/quality"] = spent, got
            mixes = np.array([[0.1, 0.5], [0.5, 2.0]])
            given = (Pandora(), mixes, np.array([0.2, 0.7]), believed, quality, cost)
            sums = resampled_sums(*given, resamples=6, rows=some)
            found[f"{count}/resampled"] = sums
    # With eight devices: what is sent whole to each of them.
    with use_devices(jax.local_devices()):
        block = Queries(believed, quality, cost, range(N)).block(range(N), 128)
    lower = simulate._block_spend.__wrapped__.lower  # pyright: ignore[reportFunctionMemberAccess]
    compiled = lower(*job, block).compile()
    sent = jax.tree.leaves(compiled.input_shardings)
    found["whole"] = np.array([of.is_fully_replicated for of in sent])
    np.savez(sys.argv[1], **found)  # pyright: ignore[reportArgumentType]


if __name__ == "__main__":
    main()
