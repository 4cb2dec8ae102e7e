"""One of several processes at one job, and what tests of several processes share.

    XLA_FLAGS=--xla_force_host_platform_device_count=2 \\
        python tests/workers.py PORT PROCESSES PROCESS FOLDER OUT

JAX joins others once, before it does anything else. The first process writes its results to OUT.
"""

import itertools
import os
import socket
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from cascjax import Learned, Noisy, RunOptions, Study, Table, synthetic
from cascjax.data import write_table

K, N, FILES = 3, 4000, 5
CASES: dict[str, dict[str, Any]] = {
    # The sample is the whole fit split; and it is not.
    "exact": {"strategies": ("routing", "pandora"), "budgets": 4},
    "sampled": {
        "strategies": ("mixing", "routing"), "budgets": 4, "resamples": 40,
        "estimates": Noisy((0.4, 0.2, 0.0002, 0.00005)), "options": RunOptions(sample=300),
    },
    "learned": {"strategies": ("routing",), "budgets": 4, "estimates": Learned("linear")},
}  # fmt: skip
"""Arguments of comparisons."""

BUDGET = 0.002


@pytest.fixture(scope="module")
def table() -> Table:
    return synthetic.sample(synthetic.make_dataset(K, seed=1), 0, N)


@pytest.fixture(scope="module")
def folder(table: Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source of five files, so that two processes have unequal shares."""
    folder = tmp_path_factory.mktemp("processes") / "parts"
    folder.mkdir()
    for i, (start, stop) in enumerate(itertools.pairwise(np.linspace(0, N, FILES + 1).astype(int))):
        suffix = "arrow" if i % 2 else "parquet"
        write_table(folder / f"{i}.{suffix}", table.take(np.arange(start, stop)))
    return folder


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return os.environ | {
        # Compiling takes longest, and longer with optimisation.
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2"
        " --xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("cache")),
        "TMPDIR": str(tmp_path_factory.mktemp("logs")),  # of processes that are lost
    }


def free_port() -> int:
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        return tried.getsockname()[1]


def numbers(name: str, study: Study) -> dict[str, np.ndarray]:
    """Return what the frontiers of a comparison do, by name."""
    parts = ("cost", "quality", "ran", "answered", "depth", "auc_samples")
    return {
        f"{name}/{frontier.strategy}/{part}": np.asarray(getattr(frontier, part))
        for frontier in study.frontiers
        for part in parts
        if getattr(frontier, part) is not None
    }


def main() -> None:
    port, processes, process = map(int, sys.argv[1:4])
    folder, out = map(Path, sys.argv[4:])
    address = f"127.0.0.1:{port}"
    jax.distributed.initialize(
        address, processes, process, coordinator_bind_address=address, initialization_timeout=120
    )
    from cascjax import compare, evaluate, fit
    from cascjax.engine import run

    results = {"devices": np.array(jax.local_device_count())}
    for name, arguments in CASES.items():
        # They exchange what is done after each chunk; and only once each has done its share.
        run.ROUND_SECONDS = 0.0 if name == "exact" else 300.0
        results |= numbers(name, compare(folder, **arguments))
    evaluation = evaluate(fit(folder, "routing", budget=BUDGET), folder, resamples=40)
    total = evaluation.total
    for name, mean in (("quality", total.quality), ("cost", total.cost[0])):
        results[f"evaluation/{name}"] = np.array([mean.value, mean.low, mean.high])
    results["evaluation/ran"] = evaluation.ran
    if jax.process_index() == 0:
        np.savez(out, **results)  # pyright: ignore[reportArgumentType]


if __name__ == "__main__":
    main()
