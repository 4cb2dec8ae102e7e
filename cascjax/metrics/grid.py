"""Budgets that a frontier is drawn at."""

import itertools
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Float

from cascjax.data.table import upper_hull
from cascjax.errors import CascjaxError

Grid: TypeAlias = Literal["full", "paper"]
"""What the AUC of a frontier is taken on: the settings that draw all of it, or the paper's budgets,
their points joined linearly."""

_COUNT = 20


def budgets(
    single_cost: Float[np.ndarray, " K"],
    single_quality: Float[np.ndarray, " K"],
    count: int | None = None,
    *,
    grid: Grid = "full",
) -> Float[np.ndarray, " P"]:
    """Return the budgets to draw a frontier at, in rising order.

    Args:
        single_cost: `[K]` mean cost of each model alone.
        single_quality: `[K]` mean quality of each model alone.
        count: number of budgets, evenly spaced from the cheapest to the most expensive model; by
            default 20, and the models on their upper hull.
        grid: "paper" for the default of the paper: ten between each pair of neighbours on the
            single models' upper hull, the ends included.

    Raises:
        CascjaxError: `count` is less than 1.

    Reference: Dekoninck, Baader, Vechev, "A Unified Approach to Routing and Cascading for LLMs",
    ICML 2025.

    Example:
      >>> budgets(np.array([1.0, 3.0]), np.array([0.4, 0.8]), count=3).tolist()
      [1.0, 2.0, 3.0]
    """
    if count is not None and count < 1:
        raise CascjaxError(f"the number of budgets must be at least 1, not {count}")
    knots = single_cost[upper_hull(single_cost, single_quality)]
    evenly = np.linspace(single_cost.min(), single_cost.max(), count or _COUNT)
    if count is not None:
        return evenly
    if grid == "full":
        return np.union1d(evenly, knots)
    gaps = [np.linspace(a, b, 10) for a, b in itertools.pairwise(knots)]
    return np.unique(np.concatenate(gaps)) if gaps else knots
