"""Every strategy under `jax_enable_x64` and on two devices, for tests/test_core.py.

    JAX_ENABLE_X64=1 XLA_FLAGS=--xla_force_host_platform_device_count=2 python tests/wide.py OUT.npz

A process of its own: both are settled before JAX starts. Without them the same numbers come out.
"""

import sys
from dataclasses import replace

import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from cascjax import core, synthetic
from cascjax.data.table import Table
from cascjax.engine import simulate
from cascjax.estimators import supplied
from cascjax.search.budgets import fit_budgets, fit_targets
from cascjax.strategies import STRATEGIES, Strategy

N, K = 256, 3


def workload() -> tuple[Table, core.Independent]:
    """Return a small table and its estimates."""
    table = synthetic.sample(synthetic.make_dataset(n_models=K, seed=4), 1, N)
    table = table.sort_models(table.cost.mean(0))
    return table, supplied(table, np.arange(N)).sized()


def settings_of(kind: Strategy) -> np.ndarray:
    """Return settings that differ in what they do."""
    if kind.name == "frugal":
        return np.array([[3.0, 0.5], [7.0, 0.9], [4.0, 0.0]])
    return np.array([0.0, 0.5, 2.0] if kind.name != "mixing" else [0.0, 1.0, 2.0])


def results() -> dict[str, np.ndarray]:
    """Return what sweep, totals, frontier and fits say, and totals of queries on all devices."""
    table, estimates = workload()
    single = table.cost.mean(0), table.quality.mean(0)
    at, found = np.linspace(single[0].min(), single[0].max(), 5), {}
    mesh = Mesh(np.array(jax.local_devices()), ("queries",))
    each, every = PartitionSpec("queries"), PartitionSpec()
    by_row = replace(estimates, sigma=np.broadcast_to(estimates.sigma, table.cost.shape))
    for name, strategy in ((name, make()) for name, make in STRATEGIES.items()):
        settings = settings_of(strategy)
        outcome = jax.jit(core.sweep, static_argnums=0)(strategy, settings, estimates)
        found |= {f"{name}/run": outcome.run, f"{name}/answer": outcome.answer}

        def shard(estimates, quality, cost, strategy=strategy, settings=settings):
            part = core.totals(strategy, settings, estimates, quality, cost)
            return jax.lax.psum(part, "queries")

        spread = jax.shard_map(shard, mesh=mesh, in_specs=each, out_specs=every, check_vma=False)
        summed = jax.jit(spread)(by_row, table.quality, table.cost)
        found |= {f"{name}/spread/{k}": getattr(summed, k) for k in ("cost", "quality", "depth")}
        curve = jax.jit(core.frontier, static_argnums=0)(
            strategy, estimates, table.quality, table.cost, at
        )
        assert curve.cost.dtype == summed.cost.dtype == np.float32
        found |= {f"{name}/curve/cost": curve.cost, f"{name}/curve/quality": curve.quality}
        sums = simulate.totals(strategy, settings, estimates, table.quality, table.cost)
        fits = fit_budgets(strategy, estimates, table, at)
        targets = fit_targets(strategy, estimates, table, fits.quality[2:4])
        found |= {
            f"{name}/totals/cost": sums.cost, f"{name}/totals/depth": sums.depth,
            f"{name}/fit/cost": fits.cost, f"{name}/fit/quality": fits.quality,
            f"{name}/targets": targets.cost,
        }  # fmt: skip
    found["devices"] = np.array(len(jax.local_devices()))
    found["wide"] = np.array(jax.config.jax_enable_x64)  # pyright: ignore[reportAttributeAccessIssue]
    return {name: np.asarray(value) for name, value in found.items()}


if __name__ == "__main__":
    np.savez(sys.argv[1], **results())  # pyright: ignore[reportArgumentType]
