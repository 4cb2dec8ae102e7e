"""RouterBench as the paper cuts it: its models, its split, its noise, its budgets."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import jax
import numpy as np
from jaxtyping import Float, Int

from cascjax.errors import CascjaxError
from cascjax.estimators import Independent, noisy
from cascjax.experiments.published import CHOICES, MODELS
from cascjax.metrics import area
from cascjax.metrics import budgets as hull_budgets
from cascjax.table import ESTIMATE_COLUMNS, Table, mean_rows

MAX_DEPTH = 5
"""Models that cascade routing runs on one query at most."""

PER_GAP = 10
"""Budgets between each pair of neighbours on the single models' hull, the ends included."""

EVALUATE_SHARE = 0.95
"""Of the rows, to evaluate; the rest are to fit on."""

SPLIT_SEED = 42
"""The paper's: the same table in the same order is split into the same rows."""

LEAST_FIT = 20
"""Rows to fit on at least: on fewer, a budget can hardly be told from the next."""

NoiseLevel = str | tuple[float, float, float, float]


@dataclass(frozen=True)
class Setup:
    """A choice of models, ready to be drawn frontiers of.

    Attributes:
        table: the truth of the chosen models, in rising mean cost on the rows to fit.
        fit_rows: `[n]` rows that parameters are found on.
        evaluate_rows: `[m]` rows that areas are taken on.
        budgets: `[P]` mean costs, in the table's cost unit.
    """

    table: Table
    fit_rows: Int[np.ndarray, " n"]
    evaluate_rows: Int[np.ndarray, " m"]
    budgets: Float[np.ndarray, " P"]

    @property
    def single(self) -> tuple[Float[np.ndarray, " K"], Float[np.ndarray, " K"]]:
        """Mean cost and mean quality of each model alone, on the rows to evaluate."""
        cost, quality = self.table.cost, self.table.quality
        return mean_rows(cost, self.evaluate_rows), mean_rows(quality, self.evaluate_rows)

    def noisy(self, noise: NoiseLevel, seed: int) -> Independent:
        """The truth under noise, of all rows; see `cascjax.estimators.noisy`."""
        return noisy(self.table, jax.random.key(seed), noise)


def split(n_queries: int) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " m"]]:
    """5% of the rows to fit on and 95% to evaluate, those that the paper's own split takes.

    That is scikit-learn's `train_test_split(test_size=0.95, random_state=42)`.

    Raises:
        CascjaxError: fewer than `LEAST_FIT` rows are left to fit on.
    """
    n_evaluate = math.ceil(EVALUATE_SHARE * n_queries)
    if n_queries - n_evaluate < LEAST_FIT:
        least = math.ceil(LEAST_FIT / (1 - EVALUATE_SHARE))
        raise CascjaxError(
            f"{n_queries:,} rows leave {n_queries - n_evaluate} to fit on, 5% of them, and"
            f" {LEAST_FIT} are needed: bring at least {least:,} rows, or take --synthetic"
        )
    rows = np.random.RandomState(SPLIT_SEED).permutation(n_queries)
    return np.sort(rows[n_evaluate:]), np.sort(rows[:n_evaluate])


def check_models(table: Table) -> None:
    """Refuse a table that lacks a model of the paper's.

    Raises:
        CascjaxError: names what is missing.
    """
    missing = [name for name in MODELS if name not in table.models]
    if missing:
        shown = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" * (len(missing) > 3))
        raise CascjaxError(
            f"the table has {table.n_models} models, and of RouterBench's {len(MODELS)} it lacks"
            f" {shown}: make it with cascjax import routerbench, or take --synthetic"
        )


def setup(table: Table, n_models: int) -> Setup:
    """The paper's choice of so many models.

    Raises:
        CascjaxError: see `check_models`, `split` and `cascjax.metrics.area`.
    """
    check_models(table)
    return setup_of(table, [MODELS[m] for m in CHOICES[n_models]])


def setup_of(table: Table, models: Sequence[str]) -> Setup:
    """Any choice of models, by name.

    Raises:
        CascjaxError: see `split`, `cascjax.metrics.area` and `Table.select_models`.
    """
    table = replace(table, **dict.fromkeys((*ESTIMATE_COLUMNS, "split")))
    fit, evaluate = split(table.n_queries)
    table = table.select_models(models)
    table = table.sort_models(mean_rows(table.cost, fit), reuse=True)
    cost, quality = mean_rows(table.cost, evaluate), mean_rows(table.quality, evaluate)
    area(cost, quality, cost, quality)  # refuses models that all cost the same
    return Setup(table, fit, evaluate, hull_budgets(cost, quality, per_gap=PER_GAP))
