"""AUC of a frontier: mean quality over the range of single-model mean costs."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cascjax.core.arrays import Numbers, as_float32, in_float32
from cascjax.errors import CascjaxError


def auc(cost: Numbers, quality: Numbers, single_cost: Numbers, single_quality: Numbers) -> Any:
    """Return the area under a frontier, divided by the range of single-model mean costs.

    The points are joined linearly in rising cost, extended flat on the right, and on the left
    joined to (cheapest single model's cost, lowest single-model quality) if nothing reaches that
    far. NumPy arrays and lists are integrated in float64; arrays of JAX in float32, with gradients
    and usable inside jit and vmap.

    Args:
        cost: `[P]` mean cost of each point, in any order.
        quality: `[P]` mean quality of each point.
        single_cost: `[K]` mean cost of each model alone.
        single_quality: `[K]` mean quality of each model alone.

    Returns:
        A number, in units of quality.

    Raises:
        CascjaxError: every single model costs the same, so there is nothing to integrate over;
            inside traced programs the result is NaN instead.

    Example:
      >>> float(auc([1.0, 2.0, 3.0], [0.4, 0.7, 0.8], [1.0, 3.0], [0.4, 0.8]))
      0.65
    """
    given = {
        "cost": cost, "quality": quality,
        "single_cost": single_cost, "single_quality": single_quality,
    }  # fmt: skip
    if any(isinstance(x, jax.Array) for x in given.values()):
        return in_float32(_area)(jnp, *(as_float32(name, x) for name, x in given.items()))
    low, high = np.min(single_cost), np.max(single_cost)
    if not low < high:
        raise CascjaxError(
            f"every model has the same mean cost, {low:g}, so there is no trade-off to draw;"
            " choose models of different cost"
        )
    return _area(np, *(np.asarray(x, np.float64) for x in given.values()))


def _area(xp: Any, cost: Any, quality: Any, single_cost: Any, single_quality: Any) -> Any:
    low, high = single_cost.min(), single_cost.max()
    order = xp.lexsort((quality, cost))
    x, y = cost[order], quality[order]
    # The left end of the curve, or its first point once more.
    reached = x[0] <= low
    x = xp.concatenate([xp.where(reached, x[:1], low), x])
    y = xp.concatenate([xp.where(reached, y[:1], single_quality.min()), y])
    # Points outside count as the curve does at the end they lie beyond. Among points that cost the
    # same the last, hence best, counts at either end.
    values = xp.where((x > low) & (x < high), y, xp.interp(xp.clip(x, low, high), x, y))
    end = xp.interp(high, x, y)
    x = xp.concatenate([xp.clip(x, low, high), high[None]])
    return xp.trapezoid(xp.concatenate([values, end[None]]), x) / (high - low)
