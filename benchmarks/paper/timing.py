"""Times of decisions: one query at a time through a policy, and many queries in one program."""

import functools
import time

import jax
import numpy as np
from jaxtyping import Float, Int

from cascjax import STOP, Policy, Strategy, core
from cascjax.search.rules import Rule

_WARM = 3
"""Queries decided before the clock starts, so that programs are compiled."""


def decision_seconds(
    strategy: Strategy,
    estimates: core.Independent,
    parameter: float,
    rows: Int[np.ndarray, " n"],
    *,
    first_only: bool = False,
) -> Float[np.ndarray, " d"]:
    """Return wall seconds of each decision, from quality estimates to the next model or STOP.

    Args:
        strategy: what decides.
        estimates: estimates of all queries.
        parameter: the setting.
        rows: queries to decide.
        first_only: whether to time only the first decision on each query.
    """
    ante, post, sigma, cost = (np.asarray(x).T for x in estimates.queries_last())
    models = tuple(f"model {k}" for k in range(ante.shape[1]))
    rule = Rule(np.array([parameter]), np.array([1.0]))
    policy = Policy(strategy, models, rule, sigma.mean(0), cost.mean(0, dtype=np.float64)[None])
    steps = 1 if first_only else len(models) + 1
    seconds = []
    for count, row in enumerate([*rows[:_WARM], *rows]):
        quality, run = ante[row].copy(), np.zeros(len(models), bool)
        for _ in range(steps):
            start = time.perf_counter()
            model = policy.next_model(policy.estimates(quality, run, cost[row]), run)
            if count >= min(_WARM, len(rows)):
                seconds.append(time.perf_counter() - start)
            assert isinstance(model, int)
            if model == STOP:
                break
            run[model], quality[model] = True, post[row, model]
            if run.all():
                break
    return np.array(seconds)


def batch_seconds(
    strategy: Strategy, parameters: Float[np.ndarray, " L"], estimates: core.Independent
) -> float:
    """Return seconds per query and setting of a compiled sweep over all queries."""
    sweep = jax.jit(functools.partial(core.sweep, strategy))
    estimates, least = estimates.sized(), np.inf
    for _ in range(3):  # the first call compiles
        start = time.perf_counter()
        jax.block_until_ready(sweep(np.asarray(parameters, np.float32), estimates))
        least = min(least, time.perf_counter() - start)
    return least / (len(estimates.quality_ante) * len(parameters))
