"""One live query decided, warm: from quality numbers to the next model.

In CPU time: on a shared machine the wait for a core may be many times the decision itself.
"""

import time
from typing import Any

import numpy as np
import pytest

from cascjax.policy import Policy, Rule
from cascjax.strategies import (
    CascadeRouting,
    Cascading,
    Mixing,
    Pandora,
    Routing,
    Strategy,
    Thresholding,
)

KINDS: list[tuple[str, Strategy]] = [
    ("mixing", Mixing()),
    ("routing", Routing()),
    ("thresholding", Thresholding()),
    ("cascading", Cascading()),
    ("cascade-routing", CascadeRouting()),
    ("cascade-routing, beam", CascadeRouting(search="beam")),
    ("cascade-routing, greedy", CascadeRouting(search="greedy")),
    ("pandora", Pandora()),
]
CELLS = [(name, kind, k) for k in (5, 11) for name, kind in KINDS]


@pytest.mark.benchmark(timer=time.process_time)
@pytest.mark.parametrize(
    ("name", "kind", "n_models"), CELLS, ids=[f"{name}-{k}" for name, _, k in CELLS]
)
def test_next_model(benchmark: Any, name: str, kind: Strategy, n_models: int) -> None:
    """Estimates of a query of which one model has run, and what to run next; two settings mixed."""
    rng = np.random.default_rng(0)
    parameters = np.array([0.0, 1.0] if name == "mixing" else [5.0, 6.0])
    policy = Policy(
        kind,
        tuple(f"model-{i}" for i in range(n_models)),
        Rule(parameters, np.array([0.5, 0.5])),
        np.full(n_models, 0.2),
        np.geomspace(0.001, 0.03, n_models)[None],
    )
    quality, run = rng.normal(0.5, 0.2, n_models).astype(np.float32), np.arange(n_models) == 0

    def decide() -> object:
        return policy.next_model(policy.estimates(quality, run), run, 7)

    benchmark.pedantic(decide, rounds=500, warmup_rounds=20)
    benchmark.extra_info |= {
        "job": "next_model",
        "strategy": name,
        "models": n_models,
        "queries": 1,
    }
