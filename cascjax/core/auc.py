"""AUC under a frontier, and the budgets it is drawn at."""

import itertools

import numpy as np
from jaxtyping import Float

from cascjax.data.table import upper_hull
from cascjax.errors import CascjaxError


def auc(
    cost: Float[np.ndarray, " P"],
    quality: Float[np.ndarray, " P"],
    single_cost: Float[np.ndarray, " K"],
    single_quality: Float[np.ndarray, " K"],
) -> float:
    """Return the paper's AUC: mean quality over the range of single-model mean costs.

    The points are joined linearly in rising cost, extended flat on the right, and on the left
    joined to (cheapest single model's cost, lowest single-model quality) if nothing reaches
    that far.

    Args:
        cost: mean cost of each point.
        quality: mean quality of each point.
        single_cost: mean cost of each model alone.
        single_quality: mean quality of each model alone.

    Raises:
        CascjaxError: every single model costs the same, so there is nothing to integrate over.
    """
    low, high = single_cost.min(), single_cost.max()
    if not low < high:
        raise CascjaxError(
            f"every model has the same mean cost, {low:g}, so there is no trade-off to draw;"
            " choose models of different cost"
        )
    order = np.lexsort((quality, cost))
    x, y = cost[order], quality[order]
    if x[0] > low:
        x, y = np.append(low, x), np.append(single_quality.min(), y)
    inside = (x > low) & (x < high)
    grid = np.concatenate([[low], x[inside], [high]])
    # Of points that cost the same the last, hence best, one counts at either end.
    ends = np.interp([low, high], x, y)
    values = np.concatenate([[ends[0]], y[inside], [ends[1]]])
    return float(np.trapezoid(values, grid) / (high - low))


def budgets(
    single_cost: Float[np.ndarray, " K"],
    single_quality: Float[np.ndarray, " K"],
    count: int | None = None,
    per_gap: int = 10,
) -> Float[np.ndarray, " P"]:
    """Budgets to draw a frontier at, in rising order.

    Args:
        single_cost: mean cost of each model alone.
        single_quality: mean quality of each model alone.
        count: exact number wanted, evenly spaced from the cheapest to the most expensive model; by
            default `per_gap` between each pair of neighbours on the single models' upper hull.
        per_gap: budgets between two neighbours, the ends included.

    Raises:
        CascjaxError: `count` is less than 1.
    """
    if count is not None:
        if count < 1:
            raise CascjaxError(f"the number of budgets must be at least 1, not {count}")
        return np.linspace(single_cost.min(), single_cost.max(), count)
    knots = single_cost[upper_hull(single_cost, single_quality)]
    gaps = [np.linspace(a, b, per_gap) for a, b in itertools.pairwise(knots)]
    return np.unique(np.concatenate(gaps)) if gaps else knots
