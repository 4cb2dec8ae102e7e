"""Area under a frontier, and the hull of the single models (DESIGN.md, section 4)."""

import numpy as np
from jaxtyping import Float, Int

from cascjax.errors import CascjaxError


def upper_hull(
    cost: Float[np.ndarray, " K"], quality: Float[np.ndarray, " K"]
) -> Int[np.ndarray, " H"]:
    """Indices of the points on the rising upper hull, in rising cost.

    Mixing two neighbours at random reaches every point between them, so this is the best that
    can be had without looking at the query (RouterBench's "zero router").
    """
    hull: list[int] = []
    # Of points that cost the same only the best can be on the hull.
    for i in np.lexsort((-quality, cost)):
        if hull and quality[i] <= quality[hull[-1]]:
            continue
        while len(hull) >= 2:
            a, b = hull[-2], hull[-1]
            before = (quality[b] - quality[a]) * (cost[i] - cost[a])
            after = (quality[i] - quality[a]) * (cost[b] - cost[a])
            if before > after:
                break
            hull.pop()
        hull.append(int(i))
    return np.array(hull)


def area(
    cost: Float[np.ndarray, " P"],
    quality: Float[np.ndarray, " P"],
    single_cost: Float[np.ndarray, " K"],
    single_quality: Float[np.ndarray, " K"],
) -> float:
    """Mean quality over costs from the cheapest to the dearest single model (the paper's AUC).

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
        raise CascjaxError(f"every model has the same mean cost, {low:g}: there is no trade-off")
    order = np.lexsort((quality, cost))
    x, y = cost[order], quality[order]
    if x[0] > low:
        x, y = np.append(low, x), np.append(single_quality.min(), y)
    inside = (x > low) & (x < high)
    grid = np.concatenate([[low], x[inside], [high]])
    # Of points that cost the same the last, hence best, one counts at either end.
    ends = [_at(x, y, low), _at(x, y, high)]
    values = np.concatenate([[ends[0]], y[inside], [ends[1]]])
    return float(np.trapezoid(values, grid) / (high - low))


def _at(x: Float[np.ndarray, " P"], y: Float[np.ndarray, " P"], at: float) -> float:
    return float(np.interp(at, x, y))


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
        count: exact number wanted, evenly spaced from the cheapest to the dearest model; by
            default `per_gap` between each pair of neighbours on the single models' upper hull.
        per_gap: budgets between two neighbours, the ends included.
    """
    if count is not None:
        return np.linspace(single_cost.min(), single_cost.max(), count)
    knots = single_cost[upper_hull(single_cost, single_quality)]
    gaps = [np.linspace(a, b, per_gap) for a, b in zip(knots[:-1], knots[1:], strict=True)]
    return np.unique(np.concatenate(gaps)) if gaps else knots
