"""Sums over queries for any number of settings at once, where decisions are step functions.

Under some strategies a query's decision changes at a few breakpoints as the one parameter falls: it
changes model at the corners of its upper hull, or goes one model deeper. Sums over queries are then
suffix sums of a histogram: each breakpoint adds what it changes to the bin of the first setting
beyond it. The work is one pass over the breakpoints, however many settings there are.
"""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt32

from cascjax.core.arrays import order_of_bits, take_model

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

    Sums hold cost, then quality, each in D / 2 whole numbers of `bits` bits: digits of `unit`,
    powers of two above all costs and qualities. Counts by model run, model answering and number of
    models run are empty without usage. There is a first axis of devices if there are several.
    """

    sums: Int[Array, "*S M D"]
    ran: Int[Array, "*S U K"]
    answered: Int[Array, "*S U K"]
    depth: Int[Array, "*S U K"]
    unit: Float[Array, "*S 2"]
    bits: int = field(metadata={"static": True})

    def in_float64(
        self,
    ) -> tuple[Float[np.ndarray, "*S M 2"], *tuple[Float[np.ndarray, "*S U K"], ...]]:
        """Return cost and quality put together, and the counts, on the host."""
        sums = np.asarray(self.sums, np.float64)
        digits = sums.reshape(*sums.shape[:-1], 2, -1)
        smaller = 0.5 ** (self.bits * np.arange(1, digits.shape[-1] + 1))
        counts = (np.asarray(c, np.float64) for c in (self.ran, self.answered, self.depth))
        return digits @ smaller * np.asarray(self.unit)[..., None, :], *counts


def sums_from(bins: Float[np.ndarray, "M *D"]) -> Float[np.ndarray, "L *D"]:
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
    # Whole numbers of so many bits that the sum of all queries in one bin fits an int32.
    bits = 30 - (k * n_queries).bit_length()
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
        now_spent = digits_of(take_model(cost, model), units[0], bits)
        now_got = digits_of(take_model(quality, answer), units[1], bits)
        more = now_spent
        if not breakpoints.cumulative:
            more = [n - b for n, b in zip(now_spent, spent, strict=True)]
        better = [n - b for n, b in zip(now_got, got, strict=True)]
        sums = add_at(sums, bin_, jnp.stack([*more, *better], axis=-1))
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
    zero = [jnp.zeros(n_queries, jnp.int32)] * n_digits(bits)
    state = (jnp.zeros((bins, 2 * n_digits(bits)), jnp.int32), (none,) * 3, zero, zero, zero[0])
    sums, counts, *_ = jax.lax.fori_loop(0, breakpoints.count, one_step, state)
    ran, answered, depth = (c.reshape(-1, k) for c in counts)
    return Histogram(sums, ran, answered, depth, jnp.stack(units), bits)


def n_digits(bits: int) -> int:
    """Return how many numbers of so many bits make 36."""
    return -(-36 // bits)


def power_above(values: Float[Array, "K B"]) -> Float[Array, ""]:
    """Return the power of two next above all values."""
    _, exponent = jnp.frexp(jnp.max(jnp.abs(values)))
    return jnp.ldexp(jnp.float32(1), exponent)


def digits_of(value: Float[Array, "*B"], unit: Float[Array, ""], bits: int) -> list[Array]:
    """Return float32 as whole numbers of unit / 2^bits, unit / 4^bits, and so on.

    To 2^-36 of the largest value: exact for values down to 2^-12 of it. Such numbers sum exactly.
    Sums of float32 would not: what is added again and again is rounded the same way each time.
    """
    digits, rest = [], value / unit
    for _ in range(n_digits(bits)):
        rest = rest * np.float32(2**bits)
        # Towards 0, which is one instruction; `round` is a call that does not fill the lanes.
        digits.append(rest.astype(jnp.int32))
        rest = rest - digits[-1].astype(value.dtype)
    return digits


def _take(rows: Array, index: Int[Array, "*B"]) -> Array:
    return rows.at[index].get(mode="promise_in_bounds")


def add_at(sums: Array, index: Int[Array, " B"], value: Array | int) -> Array:
    """Return the sums with values added at indices within bounds."""
    return sums.at[index].add(value, mode="promise_in_bounds")
