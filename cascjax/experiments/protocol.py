"""RouterBench as the paper cuts it: its models, its split, its noise, its budgets."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import jax
import numpy as np
from jaxtyping import Float, Int

from cascjax.data.table import ESTIMATE_COLUMNS, PAPER_EVALUATE, Table, mean_rows, paper_split
from cascjax.errors import CascjaxError
from cascjax.estimators import Independent, noisy
from cascjax.estimators.independent import noise_level
from cascjax.experiments.legacy import Job, Stream
from cascjax.experiments.published import CHOICES, MODELS
from cascjax.metrics import auc
from cascjax.metrics import budgets as hull_budgets
from cascjax.strategies import Strategy

MAX_DEPTH = 5
"""Models that cascade routing runs on one query at most."""

PER_GAP = 10
"""Budgets between each pair of neighbours on the single models' hull, the ends included."""

LEAST_FIT = 20
"""Rows to fit on at least: on fewer, a budget can hardly be told from the next."""

NoiseLevel = str | tuple[float, float, float, float]


@dataclass(frozen=True)
class Setup:
    """A choice of models, ready to be drawn frontiers of.

    Attributes:
        table: the truth of the chosen models, in rising mean cost on the rows to fit.
        fit_rows: `[n]` rows that parameters are found on.
        evaluate_rows: `[m]` rows that AUCs are taken on.
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
    """Rows to fit on and rows to evaluate on; see `cascjax.data.table.paper_split`.

    Raises:
        CascjaxError: see `check_rows`.
    """
    check_rows(n_queries)
    return paper_split(n_queries)


def check_rows(n_queries: int) -> None:
    """Refuse so few rows that 5% of them are hardly any.

    Raises:
        CascjaxError: fewer than `LEAST_FIT` rows are left to fit on.
    """
    n_fit = n_queries - math.ceil(PAPER_EVALUATE * n_queries)
    if n_fit < LEAST_FIT:
        least = math.ceil(LEAST_FIT / (1 - PAPER_EVALUATE))
        raise CascjaxError(
            f"{n_queries:,} rows leave {n_fit} to fit on, 5% of them, and {LEAST_FIT} are needed:"
            f" bring at least {least:,} rows, or take as many --queries of --synthetic"
        )


def check_models(table: Table | Stream) -> None:
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
        CascjaxError: see `check_models`, `split` and `cascjax.core.auc`.
    """
    check_models(table)
    return setup_of(table, [MODELS[m] for m in CHOICES[n_models]])


def setup_of(table: Table, models: Sequence[str]) -> Setup:
    """Any choice of models, by name.

    Raises:
        CascjaxError: see `split`, `cascjax.core.auc` and `Table.select_models`.
    """
    table = replace(table, **dict.fromkeys((*ESTIMATE_COLUMNS, "split")))
    fit, evaluate = split(table.n_queries)
    table = table.select_models(models)
    table = table.sort_models(mean_rows(table.cost, fit), reuse=True)
    cost, quality = mean_rows(table.cost, evaluate), mean_rows(table.quality, evaluate)
    auc(cost, quality, cost, quality)  # refuses models that all cost the same
    return Setup(table, fit, evaluate, hull_budgets(cost, quality, per_gap=PER_GAP))


def check_stream(stream: Stream) -> None:
    """Refuse files that lack a model of the paper's, or hold too few rows.

    Raises:
        CascjaxError: names the first of the files, which are all alike, or all of them.
    """
    try:
        check_models(stream)
    except CascjaxError as error:
        raise CascjaxError(f"{stream.files[0].path}: {error}") from error
    try:
        check_rows(stream.n_rows)
    except CascjaxError as error:
        raise CascjaxError(f"{stream.name}: {error}") from error


def streamed(
    stream: Stream,
    n_models: int,
    strategies: Sequence[Strategy],
    noise: NoiseLevel,
    seed: int,
    resamples: int = 0,
) -> Job:
    """What `setup` and a frontier of each strategy are of a table, asked of a stream.

    Args:
        stream: of the paper's models, see `check_stream`.
        n_models: which of its choices.
        strategies: what to draw.
        noise: level of noise.
        seed: of the noise and the resamples.
        resamples: of the rows to evaluate; 0 for none.
    """
    chosen = stream.select_models([MODELS[m] for m in CHOICES[n_models]])
    return Job(
        chosen, tuple(strategies), "noisy", noise_level(noise), seed=seed, resamples=resamples,
        cut="paper",
    )  # fmt: skip
