"""Sums over queries for any number of settings at once, where decisions are step functions.

Under some strategies a query's decision changes at a few breakpoints as the one parameter falls: it
changes model at the corners of its upper hull, or goes one model deeper. Sums over queries are then
suffix sums of a histogram: each breakpoint adds what it changes to the bin of the first setting
beyond it. The work is one pass over the breakpoints, however many settings there are.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Num, UInt32

from cascjax.core.arrays import materialize, order_of_bits, take_model
from cascjax.core.exact import ExactSums, digits_of, int32_bits, is_cut, n_digits, power_above

_BUCKETS = 1 << 15


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Breakpoints:
    """Decisions for B queries as step functions of a strategy's one parameter, S steps each.

    A query is in the last step s of those with `parameter < below[s]`.

    Attributes:
        below: `[S, B]` falling along S from the first, infinite; -inf where a step is not reached.
        model: `[S, B]` the model each step runs.
        answer: `[S, B]` the model whose answer it returns.
        count: steps in use; rows beyond are not reached by any query.
        cumulative: whether a step runs its model after those before, or instead of them.
    """

    below: Float[Array, "*C S B"]
    model: Int[Array, "*C S B"]
    answer: Int[Array, "*C S B"]
    count: Int[Array, "*C"] | int
    cumulative: bool = field(metadata={"static": True})


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SortedSettings:
    """L settings in rising order, with an index that finds a number's place among them.

    Floats in rising order have rising bits, so their leading bits are a bucket; within a bucket
    a few bisections are left.
    """

    settings: Float[Array, " L"]
    first: Int[Array, ""]
    shift: UInt32[Array, ""]
    index: Int[Array, " T"]
    bisections: Int[Array, ""]

    @classmethod
    def of(cls, settings: Float[np.ndarray, " M"], size: int) -> "SortedSettings":
        """Return the index of rising settings, padded to `size` of them; on the host."""
        # Adding 0 makes of -0.0, whose bits come before those of 0, the 0 it equals.
        bits = np.asarray(settings + 0.0, np.float32).view(np.int32)
        rising = order_of_bits(bits).astype(np.int64)
        offset, shift = rising - rising[0], 0
        while offset[-1] >> shift >= _BUCKETS:
            shift += 1
        index = np.searchsorted(offset >> shift, np.arange(_BUCKETS + 1))
        bisections = int(np.diff(index).max()).bit_length()
        padded = np.full(size, np.inf, np.float32)
        padded[: len(settings)] = settings
        return cls(
            jnp.asarray(padded),
            jnp.asarray(rising[0], jnp.int32),
            jnp.asarray(shift, jnp.uint32),
            jnp.asarray(index, jnp.int32),
            jnp.asarray(bisections, jnp.int32),
        )

    def count_below(self, x: Float[Array, "*B"]) -> Int[Array, "*B"]:
        """Return how many settings are less than each x."""
        order = order_of_bits(jax.lax.bitcast_convert_type(x + 0.0, jnp.int32))
        offset = jax.lax.bitcast_convert_type(order - self.first, jnp.uint32) >> self.shift
        bucket = jnp.minimum(offset, _BUCKETS - 1).astype(jnp.int32)
        inside = order >= self.first
        low, high = (jnp.where(inside, _take(self.index, bucket + side), 0) for side in (0, 1))

        def bisect(_: Array, ends: tuple[Array, Array]) -> tuple[Array, Array]:
            low, high = ends
            middle = (low + high) // 2
            setting = _take(self.settings, jnp.minimum(middle, len(self.settings) - 1))
            less = (low < high) & (setting < x)
            return jnp.where(less, middle + 1, low), jnp.where(less, high, middle)

        return jax.lax.fori_loop(0, self.bisections, bisect, (low, high))[1]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Histogram:
    """Changes by the number of settings that see them: bin b holds what the first b do.

    Sums hold cost and quality as digits of `bits` bits below `unit`, a power of two above all costs
    or qualities; `cut` says whether any had more bits than that. Counts by model run, model
    answering and number of models run are empty without usage. There is a first axis of S devices
    outside a kernel.
    """

    sums: tuple[Int[Array, "*S M D"], Int[Array, "*S M E"]]
    counts: tuple[Int[Array, "*S U K"], ...]
    unit: Float[Array, "*S 2"]
    cut: Bool[Array, "*S"]
    bits: tuple[int, int] = field(metadata={"static": True})

    def changes(self) -> "Changes":
        """Return the sums over devices, on the host."""
        cost, quality = (
            ExactSums.from_digits(np.asarray(sums), unit, bits)
            for sums, unit, bits in zip(self.sums, np.asarray(self.unit).T, self.bits, strict=True)
        )
        counts = tuple(np.asarray(count, np.float64).sum(0) for count in self.counts)
        return Changes(cost, quality, counts)

    def rest(self, cost: Any, quality: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return what the digits leave of `[S, K, B]` costs and qualities."""
        units = np.asarray(self.unit).T[..., None, None]
        last = [np.ldexp(u, -b * n_digits(b)) for u, b in zip(units, self.bits, strict=True)]
        return np.fmod(cost, last[0]), np.fmod(quality, last[1])


@dataclass(frozen=True)
class Changes:
    """Exact sums of costs and qualities, and counts, of a histogram on the host."""

    cost: ExactSums
    quality: ExactSums
    counts: tuple[Float[np.ndarray, "U K"], ...]

    def __add__(self, other: "Changes") -> "Changes":
        """Return the changes of both."""
        counts = (a + b for a, b in zip(self.counts, other.counts, strict=True))
        return Changes(self.cost + other.cost, self.quality + other.quality, tuple(counts))


def sums_from(bins: Num[np.ndarray, "M *D"]) -> Num[np.ndarray, "L *D"]:
    """Return what each setting sees of a histogram's bins: all those beyond its own number."""
    return np.cumsum(bins[::-1], axis=0)[::-1][1:] if len(bins) else bins


def breakpoint_changes(
    breakpoints: Breakpoints,
    sorted_settings: SortedSettings,
    quality: Float[Array, "K B"],
    cost: Float[Array, "K B"],
    usage: bool,
) -> Histogram:
    """Return what each breakpoint changes, in the bin of how many settings reach it.

    Breakpoints of queries that only fill a block up must reach no setting.
    """
    k, n_queries = quality.shape
    bins = len(sorted_settings.settings) + 1
    # Changes of a query add up to a difference of two digits, or to a digit per model run.
    most = [k * n_queries if breakpoints.cumulative else 2 * n_queries, 2 * n_queries]
    cost_bits, quality_bits = bits = int32_bits(most[0]), int32_bits(most[1])
    units = [power_above(truth) for truth in (cost, quality)]

    def one_step(s: Array, state: tuple[Any, ...]) -> tuple[Any, ...]:
        sums, counts, spent, got, last = state
        below, model, answer = (
            jax.lax.dynamic_index_in_dim(rows, s, keepdims=False)
            for rows in (breakpoints.below, breakpoints.model, breakpoints.answer)
        )
        # The first step is there under every setting, also an infinite one.
        always = (s == 0) & (below > -jnp.inf)
        bin_ = jnp.where(always, bins - 1, sorted_settings.count_below(below))
        now_spent, now_got = materialize(
            (
                digits_of(take_model(cost, model), units[0], cost_bits),
                digits_of(take_model(quality, answer), units[1], quality_bits),
            )
        )
        more = now_spent
        if not breakpoints.cumulative:
            more = [n - b for n, b in zip(now_spent, spent, strict=True)]
        better = [n - b for n, b in zip(now_got, got, strict=True)]
        # A scatter per digit: of several columns at once it takes longer on a CPU.
        sums = [add_at(total, bin_, x) for total, x in zip(sums, [*more, *better], strict=True)]
        if usage:
            ran, answered, depth = counts
            before = jnp.where(s > 0, -1, 0)
            ran = add_at(ran, bin_ * k + model, 1)
            answered = add_at(add_at(answered, bin_ * k + answer, 1), bin_ * k + last, before)
            if breakpoints.cumulative:
                # One deeper: no longer as deep as at the step before.
                depth = add_at(
                    add_at(depth, bin_ * k + s, 1), bin_ * k + jnp.maximum(s - 1, 0), before
                )
            else:
                ran = add_at(ran, bin_ * k + last, before)
                depth = add_at(depth, bin_ * k, 1 + before)
            counts = (ran, answered, depth)
        return sums, counts, now_spent, now_got, answer

    none = jnp.zeros(bins * k if usage else 0, jnp.int32)
    zero, none_yet = jnp.zeros(n_queries, jnp.int32), jnp.zeros(bins, jnp.int32)
    digits = [n_digits(each) for each in bits]
    state = (
        [none_yet] * sum(digits), (none,) * 3, [zero] * digits[0], [zero] * digits[1], zero,
    )  # fmt: skip
    sums, counts, *_ = jax.lax.fori_loop(0, breakpoints.count, one_step, state)
    counts = tuple(count.reshape(-1, k) for count in counts)
    return histogram(jnp.stack(sums, axis=-1), counts, (cost, quality), units, bits)


def histogram(
    sums: Int[Array, "M D"],
    counts: tuple[Int[Array, "U K"], ...],
    truths: tuple[Float[Array, "K B"], Float[Array, "K B"]],
    units: Sequence[Float[Array, ""]],
    bits: tuple[int, int],
) -> Histogram:
    """Return the histogram of sums of the digits of cost, then of quality."""
    cut = [is_cut(*each) for each in zip(truths, units, bits, strict=True)]
    at = n_digits(bits[0])
    return Histogram((sums[:, :at], sums[:, at:]), counts, jnp.stack(units), cut[0] | cut[1], bits)


def _take(rows: Array, index: Int[Array, "*B"]) -> Array:
    return rows.at[index].get(mode="promise_in_bounds")


def add_at(sums: Array, index: Int[Array, " B"], value: Array | int) -> Array:
    """Return the sums with values added at indices within bounds."""
    return sums.at[index].add(value, mode="promise_in_bounds")
