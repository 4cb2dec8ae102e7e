"""One of several processes at one job, for tests/test_processes.py.

    XLA_FLAGS=--xla_force_host_platform_device_count=2 \\
        python tests/workers.py PORT PROCESSES PROCESS FOLDER OUT

A process of its own: JAX joins others once, and before it does anything else. The first writes what
was found to OUT.
"""

import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cascjax.engine.options import RunOptions
from cascjax.estimators.specs import Learned, Noisy

NOISE = (0.4, 0.2, 0.0002, 0.00005)
ASKED: dict[str, dict[str, Any]] = {
    # The sample holds all rows to fit on; and it does not.
    "exact": {"strategies": ("routing", "pandora"), "budgets": 4},
    "sampled": {
        "strategies": ("mixing", "routing"), "budgets": 4, "resamples": 40,
        "estimates": Noisy(NOISE), "options": RunOptions(sample=300),
    },
    "learned": {"strategies": ("routing",), "budgets": 4, "estimates": Learned("linear")},
}  # fmt: skip
"""Frontiers drawn."""

BUDGET = 0.002


def main() -> None:
    """Joins the others, draws, fits, evaluates, and writes."""
    port, processes, process = map(int, sys.argv[1:4])
    folder, out = map(Path, sys.argv[4:])
    address = f"127.0.0.1:{port}"
    jax.distributed.initialize(
        address, processes, process, coordinator_bind_address=address, initialization_timeout=120
    )
    from cascjax import compare, evaluate, fit
    from cascjax.engine import run

    found: dict[str, np.ndarray] = {"devices": np.array([jax.local_device_count()])}
    for name, asked in ASKED.items():
        # They meet after each piece; and only once each has done its share.
        run.ROUND_SECONDS = 0.0 if name == "exact" else 300.0
        for frontier in compare(folder, **asked).frontiers:
            for part in ("cost", "quality", "parameters", "gamma", "ran", "answered", "depth"):
                found[f"{name}/{frontier.strategy}/{part}"] = np.asarray(getattr(frontier, part))
            if frontier.auc_samples is not None:
                found[f"{name}/{frontier.strategy}/resamples"] = frontier.auc_samples
    policy = fit(folder, "routing", budget=BUDGET)
    evaluation = evaluate(policy, folder, resamples=40)
    for name, mean in (("quality", evaluation.total.quality), ("cost", evaluation.total.cost[0])):
        found[f"evaluation/{name}"] = np.array([mean.value, mean.low, mean.high])
    found["evaluation/ran"] = evaluation.ran
    if jax.process_index() == 0:
        np.savez(out, **found)  # pyright: ignore[reportArgumentType]


if __name__ == "__main__":
    main()
