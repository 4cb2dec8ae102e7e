"""RouterBench as the paper uses it: its models, split, noise and strategies."""

import math
from dataclasses import replace

import jax
import numpy as np
from jaxtyping import Int

from benchmarks.paper.published import CHOICES, MODELS
from cascjax import CascadeRouting, CascjaxError, Strategy, Table, strategy, synthetic
from cascjax.core import Independent
from cascjax.data.table import (
    ESTIMATE_COLUMNS,
    EVALUATE,
    FIT,
    mean_rows,
)
from cascjax.estimators import noisy

MAX_DEPTH = 5
"""Maximum number of models that cascade routing runs on one query."""

EVALUATE_SHARE = 0.95
"""Share of the rows in the paper's evaluation split."""

SPLIT_SEED = 42
"""Seed of the paper's split: a table in the same order is split into the same rows."""

LEAST_FIT = 20
"""Smallest number of fit rows: with fewer, neighbouring budgets can hardly be told apart."""


def twin(queries: int, seed: int) -> Table:
    """Return a synthetic dataset with the scores, costs and overlaps of RouterBench."""
    return synthetic.sample(synthetic.make_dataset(11, kind="routerbench"), seed, queries)


def paper_split(n_queries: int) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " m"]]:
    """Return the paper's split: 5% of the rows to fit on and 95% to evaluate on.

    It is scikit-learn's `train_test_split(test_size=0.95, random_state=42)`.
    """
    n_evaluate = math.ceil(EVALUATE_SHARE * n_queries)
    rows = np.random.RandomState(SPLIT_SEED).permutation(n_queries)
    return np.sort(rows[n_evaluate:]), np.sort(rows[:n_evaluate])


def choose(table: Table, n_models: int) -> Table:
    """Return the paper's choice of models, cheapest first, with the paper's split.

    Args:
        table: RouterBench, `[N, 11]` or more models.
        n_models: 3, 5 or 11.

    Raises:
        CascjaxError: a model is missing, or 5% of the rows are fewer than `LEAST_FIT`.
    """
    missing = [name for name in MODELS if name not in table.models]
    if missing:
        raise CascjaxError(
            f"the table lacks {len(missing)} of RouterBench's {len(MODELS)} models, such as"
            f" {missing[0]}: write it with cascjax import routerbench, or use --synthetic"
        )
    n_fit = table.n_queries - math.ceil(EVALUATE_SHARE * table.n_queries)
    if n_fit < LEAST_FIT:
        raise CascjaxError(
            f"{table.n_queries:,} rows leave {n_fit} to fit on, 5% of them, and {LEAST_FIT} are"
            f" needed: use at least {math.ceil(LEAST_FIT / (1 - EVALUATE_SHARE)):,} rows"
        )
    fit, _ = paper_split(table.n_queries)
    split = np.full(table.n_queries, EVALUATE, np.int8)
    split[fit] = FIT
    table = replace(table, **dict.fromkeys(ESTIMATE_COLUMNS), split=split)
    table = table.select_models([MODELS[m] for m in CHOICES[n_models]])
    return table.sort_models(mean_rows(table.cost, fit))


def noisy_estimates(
    table: Table, noise: str | tuple[float, float, float, float], seed: int
) -> Independent:
    """Return the noisy estimates of all rows of a table, as `cj.Noisy(noise)` makes them."""
    return noisy(table, jax.random.key(seed), noise)


def paper_strategy(name: str) -> Strategy:
    """Return a strategy with the options that the paper gives it."""
    return CascadeRouting(max_depth=MAX_DEPTH) if name == "cascade-routing" else strategy(name)
