"""Sums over queries for any number of settings at once, where a query's fate is a staircase.

Under some strategies a query goes through a few stages as its one parameter falls (`Stages`): it
changes model at the corners of its upper hull, or goes one model deeper. Sums over queries are
then suffix sums of a histogram: each stage adds what it changes to the bin of the first setting
that reaches it. The work is one pass over the stages, however many settings there are.
"""

from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt32

from cascjax.strategies.base import Stages, of_model

_BUCKETS = 1 << 15

Bits = TypeVar("Bits", Array, np.ndarray)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Ladder:
    """L settings in rising order, and an index that finds a number's place among them.

    Floats in rising order have rising bits, so their leading bits are a bucket; within a bucket
    a few bisections are left.

    Attributes:
        rungs: `[L]` settings, rising, no two the same; infinite ones fill up.
        first: bits of the first of them.
        shift: trailing bits a bucket leaves aside.
        index: `[T + 1]` settings in the buckets before each one.
        bisections: needed in the fullest bucket.
    """

    rungs: Float[Array, " L"]
    first: Int[Array, ""]
    shift: UInt32[Array, ""]
    index: Int[Array, " T"]
    bisections: Int[Array, ""]

    @classmethod
    def of(cls, settings: Float[np.ndarray, " M"], room: int) -> "Ladder":
        """The ladder of rising settings, padded to `room` of them; on the host."""
        # Adding 0 makes of -0.0, whose bits come before those of 0, the 0 it equals.
        rising = _order(np.asarray(settings + 0.0, np.float32).view(np.int32)).astype(np.int64)
        off, shift = rising - rising[0], 0
        while off[-1] >> shift >= _BUCKETS:
            shift += 1
        index = np.searchsorted(off >> shift, np.arange(_BUCKETS + 1))
        bisections = int(np.diff(index).max()).bit_length()
        padded = np.full(room, np.inf, np.float32)
        padded[: len(settings)] = settings
        return cls(
            jnp.asarray(padded),
            jnp.asarray(rising[0], jnp.int32),
            jnp.asarray(shift, jnp.uint32),
            jnp.asarray(index, jnp.int32),
            jnp.asarray(bisections, jnp.int32),
        )

    def count_below(self, x: Float[Array, " B"]) -> Int[Array, " B"]:
        """How many settings are less than each x."""
        # The last float before x: a setting equal to x is not less.
        before = _order(jax.lax.bitcast_convert_type(x + 0.0, jnp.int32)) - 1
        off = jax.lax.bitcast_convert_type(before - self.first, jnp.uint32) >> self.shift
        bucket = jnp.minimum(off, _BUCKETS - 1).astype(jnp.int32)
        inside = before >= self.first
        low, high = (jnp.where(inside, _take(self.index, bucket + side), 0) for side in (0, 1))

        def bisect(_: Array, ends: tuple[Array, Array]) -> tuple[Array, Array]:
            low, high = ends
            middle = (low + high) // 2
            less = (low < high) & (_take(self.rungs, middle) < x)
            return jnp.where(less, middle + 1, low), jnp.where(less, high, middle)

        return jax.lax.fori_loop(0, self.bisections, bisect, (low, high))[1]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Histogram:
    """Changes by the number of settings that see them: bin b holds what the first b do.

    Attributes:
        sums: `[L + 1, 4]` cost and quality, each as an exact part and a small one.
        ran: `[L + 1, K]` queries by model run; like the rest `[0, K]` where it is not counted.
        answered: `[L + 1, K]` queries by model answering.
        deep: `[L + 1, K]` queries by number of models run.
    """

    sums: Float[Array, "L 4"] | Float[np.ndarray, "L 4"]
    ran: Int[Array, "U K"] | Float[np.ndarray, "U K"]
    answered: Int[Array, "U K"] | Float[np.ndarray, "U K"]
    deep: Int[Array, "U K"] | Float[np.ndarray, "U K"]


def stage_changes(
    stages: Stages,
    ladder: Ladder,
    quality: Float[Array, "K B"],
    cost: Float[Array, "K B"],
    usage: bool,
) -> Histogram:
    """What each stage changes, in the bin of how many settings reach it.

    Args:
        stages: of B queries; those that only fill a block up reach no stage.
        ladder: the settings.
        quality: true qualities.
        cost: true costs.
        usage: whether to count what ran.
    """
    k, n_queries = quality.shape
    bins = len(ladder.rungs) + 1
    tops = [_top(truth, k * n_queries) for truth in (cost, quality)]

    def one_stage(s: Array, state: tuple[Any, ...]) -> tuple[Any, ...]:
        sums, counts, spent, got, last = state
        below, model, answer = (
            jax.lax.dynamic_index_in_dim(rows, s, keepdims=False)
            for rows in (stages.below, stages.model, stages.answer)
        )
        bin_ = ladder.count_below(below)
        now_spent = of_model(cost, model)
        now_got = of_model(quality, answer)
        more = now_spent if stages.keeps else now_spent - spent
        # Each change as a part that adds up without rounding, and the little that is left of it.
        parts = [_split(d, top) for d, top in zip((more, now_got - got), tops, strict=True)]
        sums = _add(sums, bin_, jnp.stack([part for pair in parts for part in pair], axis=-1))
        if usage:
            ran, answered, deep = counts
            before = jnp.where(s > 0, -1, 0)
            ran = _add(ran, bin_ * k + model, 1)
            answered = _add(_add(answered, bin_ * k + answer, 1), bin_ * k + last, before)
            if stages.keeps:
                # One deeper: no longer as deep as at the stage before.
                deep = _add(_add(deep, bin_ * k + s, 1), bin_ * k + jnp.maximum(s - 1, 0), before)
            else:
                ran = _add(ran, bin_ * k + last, before)
                deep = _add(deep, bin_ * k, 1 + before)
            counts = (ran, answered, deep)
        return sums, counts, now_spent, now_got, answer

    none = jnp.zeros(bins * k if usage else 0, jnp.int32)
    zero = jnp.zeros(n_queries)
    state = (jnp.zeros((bins, 4)), (none,) * 3, zero, zero, jnp.zeros(n_queries, jnp.int32))
    sums, counts, *_ = jax.lax.fori_loop(0, stages.count, one_stage, state)
    return Histogram(sums, *(c.reshape(-1, k) for c in counts))


def _top(values: Float[Array, "K B"], count: int) -> Float[Array, ""]:
    """A number whose rounding leaves of each value what `count` of them add up to exactly."""
    most = jnp.maximum(2 * jnp.max(jnp.abs(values)), jnp.finfo(values.dtype).tiny)
    return 1.5 * 2.0 ** count.bit_length() * jnp.exp2(jnp.ceil(jnp.log2(most)))


def _split(value: Float[Array, " B"], top: Float[Array, ""]) -> tuple[Array, Array]:
    """The leading bits of a value, which sum without rounding in float32, and the rest of it."""
    exact = (value + top) - top
    return exact, value - exact


def _order(bits: Bits) -> Bits:
    """Integers in the order of the floats of these bits; its own inverse."""
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


def _take(of: Array, index: Int[Array, " B"]) -> Array:
    return of.at[index].get(mode="promise_in_bounds")


def _add(to: Array, index: Int[Array, " B"], value: Array | int) -> Array:
    return to.at[index].add(value, mode="promise_in_bounds")
