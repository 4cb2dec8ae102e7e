"""Sums over queries of what settings of a strategy cost and give."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from cascjax.core.arrays import Numbers, as_float32, in_float32, over_models
from cascjax.core.estimates import Estimator
from cascjax.core.sweep import sweep
from cascjax.errors import CascjaxError

LANES = 64
"""Partial sums kept of a block at least, and what each adds up at most, few enough for float32."""

Sums: TypeAlias = Float[np.ndarray, "..."] | Float[Array, "..."]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Totals:
    """Sums over queries of what L settings of a strategy did.

    Attributes:
        cost: `[L]` true cost of all models run, or of several costs `[L, C]`.
        quality: `[L]` true quality of the answers returned.
        ran: `[L, K]` queries each model ran on.
        answered: `[L, K]` queries each model's answer was returned for.
        depth: `[L, K]` queries on which 1, 2, ..., K models ran.
        count: number of queries.
    """

    cost: Sums
    quality: Sums
    ran: Sums
    answered: Sums
    depth: Sums
    count: Sums | float

    def means(self) -> "Totals":
        """Return the same per query."""
        return jax.tree.map(lambda total: total / self.count, self)

    def __getitem__(self, index: slice | np.ndarray) -> "Totals":
        """Return the totals of a subset of the settings."""
        return jax.tree.map(lambda total: total[index] if np.ndim(total) else total, self)


@in_float32
def totals(
    strategy: Any,
    parameters: Numbers,
    estimates: Estimator,
    quality: Numbers,
    cost: Numbers,
) -> Totals:
    """Return the sums over queries of true cost, true quality and usage of every setting.

    A pure function as `sweep` is, with gradients in `quality` and `cost`. Totals of shards of the
    queries add up; `means()` divides them by the number of queries.

    Args:
        strategy: a strategy; static.
        parameters: L settings: a number each, or `[L, D]` one number per step.
        estimates: the estimates of B queries and K models.
        quality: `[B, K]` true quality of each answer.
        cost: `[B, K]` true cost of running each model.

    Raises:
        CascjaxError: an argument is no array of numbers, or shapes do not fit.

    Example:
      >>> import numpy as np
      >>> from cascjax.core import Independent
      >>> from cascjax.strategies import Routing
      >>> quality, cost = np.array([[0.5, 0.7], [0.6, 0.6]]), np.array([[1.0, 3.0]] * 2)
      >>> estimates = Independent(quality, quality, np.zeros((1, 2)), cost, cost)
      >>> totals(Routing(), [0.0, 0.2], estimates, quality, cost).means().cost.tolist()
      [2.0, 1.0]
    """
    quality, cost = as_float32("quality", quality), as_float32("cost", cost)
    if quality.ndim != 2 or quality.shape != cost.shape:
        raise CascjaxError(
            f"quality {quality.shape} and cost {cost.shape} must have the same shape [B, K]"
        )
    b, k = quality.shape
    outcome = sweep(strategy, parameters, estimates, shape=(b, k))
    run = jnp.moveaxis(outcome.run, -1, 0)
    sums = lane_sums(run, outcome.answer, quality.T, cost.T, jnp.ones(b), usage=True)
    return jax.tree.map(lambda part: jnp.sum(part, axis=-1), sums)


def lane_sums(
    run: Bool[Array, "K L B"],
    answer: Int[Array, "L B"],
    quality: Float[Array, "K B"],
    cost: Float[Array, "K *C B"],
    weight: Float[Array, " B"],
    *,
    usage: bool,
) -> Totals:
    """Return sums over queries, each left as lanes along a last axis, for float64 to add up.

    The weight is 0 for queries that only fill a block up. Without `usage` the counts are empty.
    """
    size = len(weight)
    quality, cost = quality * weight, cost * weight
    width = min(size, max(LANES, size // LANES))
    short = -size % width

    def lanes(x: Array) -> Array:
        if short:
            x = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, short)])
        return jnp.sum(x.reshape(*x.shape[:-1], -1, width), axis=-2)

    spent, got = spent_and_got(run, answer, quality, cost)
    counts = [jnp.zeros((0, 1))] * 3
    if usage:
        counts = [
            x[..., None].astype(quality.dtype) for x in _usage(run, answer, weight > 0, lanes)
        ]
    return Totals(lanes(spent), lanes(got), *counts, count=lanes(weight))


def _usage(
    run: Bool[Array, "K L B"],
    answer: Int[Array, "L B"],
    real: Bool[Array, " B"],
    lanes: Callable[[Array], Array],
) -> list[Array]:
    """Return on how many queries each model ran and answered, and on how many 1, ..., K ran.

    Four counts at a time, a byte each: a lane adds up fewer than 256 queries.
    """
    k = len(run)
    fours = jnp.pad(run, [(0, -k % 4), (0, 0), (0, 0)]).reshape(-1, 4, *answer.shape)
    byte = 8 * jnp.arange(4, dtype=jnp.uint32)
    depth = jnp.sum(run, axis=0, dtype=jnp.int32) - 1
    in_byte = [jnp.where(real, jnp.uint32(1) << 8 * (x & 3), 0) for x in (answer, depth)]

    def of_four(row: tuple[Array, Array]) -> list[Array]:
        index, ran = row
        bits = [ran[i].astype(jnp.uint32) << 8 * i for i in range(4)]
        words = [jnp.where(real, functools.reduce(jnp.bitwise_or, bits), 0)]
        words += [
            jnp.where(x >> 2 == index, unit, 0)
            for x, unit in zip((answer, depth), in_byte, strict=True)
        ]
        return [jnp.sum(lanes(w)[..., None] >> byte & 255, axis=-2) for w in words]

    counts = jax.lax.map(of_four, (jnp.arange(len(fours), dtype=jnp.int32), fours))
    return [jnp.moveaxis(c, 0, 1).reshape(len(answer), -1)[:, :k] for c in counts]


def spent_and_got(
    run: Bool[Array, "K L B"],
    answer: Int[Array, "L B"],
    quality: Float[Array, "K B"],
    cost: Float[Array, "K *C B"],
) -> tuple[Float[Array, "*C L B"], Float[Array, "L B"]]:
    """Return cost, or several costs, and quality of each query under each setting."""

    def spend(total: tuple[Array, Array], model: tuple[Array, ...]) -> tuple[Any, None]:
        index, run, quality, cost = model
        got = jnp.where(answer == index, quality, total[1])
        return (total[0] + jnp.where(run, cost[..., None, :], 0), got), None

    zero = jnp.zeros(answer.shape)
    nothing = jnp.zeros((*cost.shape[1:-1], *answer.shape))
    return over_models(spend, (nothing, zero), run, quality, cost)[0]
