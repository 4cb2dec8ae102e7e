"""Benchmarks of one live decision, warm: from estimates, or features and answers, to a model.

Measured in CPU time: on a shared machine the wait for a core may be many times the decision.
"""

import functools
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cascjax import synthetic
from cascjax.estimators import learned
from cascjax.estimators.specs import Learned
from cascjax.policy import Policy
from cascjax.search.rules import Rule
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
    """Decide a query on which one model has run, with a mixture of two settings."""
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


FEATURES, SIGNALS, ROWS = 40, 19, 600
"""Numbers of features and signals that `cascjax import --features text` makes; fit rows."""

LEARNED = [("none", 4), ("none", 11), ("logistic", 4), ("logistic", 8), ("joint", 4), ("joint", 11)]
"""Estimators and numbers of models; "none" for estimates of the live system itself."""


@functools.cache
def learned_policy(estimator: str, n_models: int) -> tuple[Policy, dict[str, Any]]:
    """Return a policy of pandora on learned estimates, and the features and answers of a query."""
    rng = np.random.default_rng(0)
    sample = synthetic.sample(synthetic.make_dataset(n_models, seed=0), 0, ROWS)
    table = replace(
        sample,
        features=rng.normal(size=(ROWS, FEATURES)).astype(np.float32),
        signals=rng.normal(size=(ROWS, n_models * SIGNALS)).astype(np.float32),
        answer=rng.integers(0, 4, (ROWS, n_models)).astype(np.int32),
        group=rng.integers(0, 3, ROWS).astype(np.int32),
        groups=("law", "mathematics", "code"),
        feature_names=tuple(f"feature-{i}" for i in range(FEATURES)),
        signal_names=tuple(f"signal-{i}" for i in range(SIGNALS)),
    )
    policy = Policy(
        Pandora(),
        table.models,
        Rule(np.array([5.0, 6.0]), np.array([0.5, 0.5])),
        np.full(n_models, 0.2),
        table.cost.mean(0)[None],
    )
    if estimator != "none":
        model = learned(table, np.arange(ROWS), estimator=estimator, folds=5).model
        policy = replace(policy, estimates_spec=Learned(estimator), learned=model)
    assert table.features is not None
    assert table.signals is not None
    assert table.answer is not None
    query = {
        "features": table.features[0],
        "group": "law",
        "signals": table.signals[0].reshape(n_models, SIGNALS),
        "answers": table.answer[0],
        "costs": table.cost[0],
    }
    return policy, query


@pytest.mark.benchmark(timer=time.process_time)
@pytest.mark.parametrize(("estimator", "n_models"), LEARNED, ids=[f"{n}-{k}" for n, k in LEARNED])
def test_learned_next_model(benchmark: Any, estimator: str, n_models: int) -> None:
    """Decide a query on which one model has run, by learned estimates."""
    policy, query = learned_policy(estimator, n_models)
    run, quality = np.arange(n_models) == 0, np.linspace(0.4, 0.6, n_models, dtype=np.float32)

    def decide() -> object:
        if policy.learned is None:
            return policy.next_model(policy.estimates(quality, run), run, 7)
        return policy.next_model(policy.learned_estimates(run, **query), run, 7)

    benchmark.pedantic(decide, rounds=500, warmup_rounds=20)
    benchmark.extra_info |= {
        "job": "learned_next_model",
        "strategy": f"pandora, {estimator}",
        "models": n_models,
        "queries": 1,
    }
