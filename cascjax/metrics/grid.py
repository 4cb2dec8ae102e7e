"""Budgets that a frontier is drawn at."""

import itertools

import numpy as np
from jaxtyping import Float

from cascjax.data.table import upper_hull
from cascjax.errors import CascjaxError


def budgets(
    single_cost: Float[np.ndarray, " K"],
    single_quality: Float[np.ndarray, " K"],
    count: int | None = None,
    per_gap: int = 10,
) -> Float[np.ndarray, " P"]:
    """Return the budgets to draw a frontier at, in rising order.

    Args:
        single_cost: `[K]` mean cost of each model alone.
        single_quality: `[K]` mean quality of each model alone.
        count: number of budgets, evenly spaced from the cheapest to the most expensive model; by
            default `per_gap` between each pair of neighbours on the single models' upper hull.
        per_gap: number of budgets between two neighbours, the ends included.

    Raises:
        CascjaxError: `count` is less than 1.

    Example:
      >>> budgets(np.array([1.0, 3.0]), np.array([0.4, 0.8]), count=3).tolist()
      [1.0, 2.0, 3.0]
    """
    if count is not None:
        if count < 1:
            raise CascjaxError(f"the number of budgets must be at least 1, not {count}")
        return np.linspace(single_cost.min(), single_cost.max(), count)
    knots = single_cost[upper_hull(single_cost, single_quality)]
    gaps = [np.linspace(a, b, per_gap) for a, b in itertools.pairwise(knots)]
    return np.unique(np.concatenate(gaps)) if gaps else knots
