"""How long a decision takes where queries come one at a time."""

import time

import numpy as np
from jaxtyping import Float, Int

from cascjax.estimators import Independent
from cascjax.policy import Policy
from cascjax.search.rules import Rule
from cascjax.strategies import STOP, Strategy

_WARM = 3
"""Queries decided before the clock starts: programs are compiled by then."""


def decision_seconds(
    kind: Strategy,
    models: tuple[str, ...],
    estimator: Independent,
    parameter: float,
    rows: Int[np.ndarray, " n"],
    *,
    first_only: bool = False,
) -> Float[np.ndarray, " d"]:
    """Wall seconds of each decision, from quality numbers to the next model or to stop.

    Args:
        kind: what decides.
        models: the K names.
        estimator: what is believed.
        parameter: the setting.
        rows: the queries to decide.
        first_only: only of the first decision on each query.
    """
    of_model = np.broadcast_to(np.asarray(estimator.sigma), estimator.quality_ante.shape).mean(0)
    cost = np.asarray(estimator.cost_ante, np.float32)
    policy = Policy(
        kind, models, Rule(np.array([parameter]), np.array([1.0])), of_model,
        cost.mean(0, dtype=np.float64)[None],
    )  # fmt: skip
    ante, post = (np.asarray(of) for of in (estimator.quality_ante, estimator.quality_post))
    steps = 1 if first_only else kind.max_steps(len(models)) + 1
    found = []
    warm = rows[:_WARM]
    for count, row in enumerate([*warm, *rows]):
        quality, run = ante[row].copy(), np.zeros(len(models), bool)
        for _ in range(steps):
            start = time.perf_counter()
            chosen = policy.next_model(policy.estimates(quality, run, cost[row]), run)
            took = time.perf_counter() - start
            if count >= len(warm):
                found.append(took)
            assert isinstance(chosen, int)  # of one query
            if chosen == STOP:
                break
            run[chosen], quality[chosen] = True, post[row, chosen]
            if run.all():
                break
    return np.array(found)
