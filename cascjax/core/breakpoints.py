"""Sums over queries for any number of settings at once, where a query's fate is a staircase.

Under some strategies a query goes through a few stages as its one parameter falls (`Stages`): it
changes model at the corners of its upper hull, or goes one model deeper. Sums over queries are
then suffix sums of a histogram: each stage adds what it changes to the bin of the first setting
that reaches it. The work is one pass over the stages, however many settings there are.
"""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt32

from cascjax.strategies.base import Stages, of_model, order_of_bits

_BUCKETS = 1 << 15


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Breakpoints:
    """L settings in rising order, and an index that finds a number's place among them.

    Floats in rising order have rising bits, so their leading bits are a bucket; within a bucket
    a few bisections are left.

    Attributes:
        rungs: `[L]` settings, rising, no two the same; infinite ones fill up.
        first: bits of the first of them.
        shift: trailing bits a bucket leaves aside.
        index: `[T]` settings in the buckets before each one.
        bisections: needed in the fullest bucket.
    """

    rungs: Float[Array, " L"]
    first: Int[Array, ""]
    shift: UInt32[Array, ""]
    index: Int[Array, " T"]
    bisections: Int[Array, ""]

    @classmethod
    def of(cls, settings: Float[np.ndarray, " M"], room: int) -> "Breakpoints":
        """The ladder of rising settings, padded to `room` of them; on the host."""
        # Adding 0 makes of -0.0, whose bits come before those of 0, the 0 it equals.
        bits = np.asarray(settings + 0.0, np.float32).view(np.int32)
        rising = order_of_bits(bits).astype(np.int64)
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

    def count_below(self, x: Float[Array, "*B"]) -> Int[Array, "*B"]:
        """How many settings are less than each x."""
        order = order_of_bits(jax.lax.bitcast_convert_type(x + 0.0, jnp.int32))
        off = jax.lax.bitcast_convert_type(order - self.first, jnp.uint32) >> self.shift
        bucket = jnp.minimum(off, _BUCKETS - 1).astype(jnp.int32)
        inside = order >= self.first
        low, high = (jnp.where(inside, _take(self.index, bucket + side), 0) for side in (0, 1))

        def bisect(_: Array, ends: tuple[Array, Array]) -> tuple[Array, Array]:
            low, high = ends
            middle = (low + high) // 2
            rung = _take(self.rungs, jnp.minimum(middle, len(self.rungs) - 1))
            less = (low < high) & (rung < x)
            return jnp.where(less, middle + 1, low), jnp.where(less, high, middle)

        return jax.lax.fori_loop(0, self.bisections, bisect, (low, high))[1]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Histogram:
    """Changes by the number of settings that see them: bin b holds what the first b do.

    Of several devices along a first axis of all arrays, not added up yet.

    Attributes:
        sums: `[L + 1, D]` cost, then quality, each in D / 2 whole numbers of ever smaller units.
        ran: `[L + 1, K]` queries by model run; like the rest `[0, K]` where it is not counted.
        answered: `[L + 1, K]` queries by model answering.
        deep: `[L + 1, K]` queries by number of models run.
        unit: `[2]` powers of two above all costs and all qualities.
        bits: of it that the first whole number has, and each next one of what is left.
    """

    sums: Int[Array, "*S M D"]
    ran: Int[Array, "*S U K"]
    answered: Int[Array, "*S U K"]
    deep: Int[Array, "*S U K"]
    unit: Float[Array, "*S 2"]
    bits: int = field(metadata={"static": True})

    def in_float64(
        self,
    ) -> tuple[Float[np.ndarray, "*S M 2"], *tuple[Float[np.ndarray, "*S U K"], ...]]:
        """Cost and quality put together, and the counts, on the host."""
        sums = np.asarray(self.sums, np.float64)
        pieces = sums.reshape(*sums.shape[:-1], 2, -1)
        smaller = 0.5 ** (self.bits * np.arange(1, pieces.shape[-1] + 1))
        counts = (np.asarray(c, np.float64) for c in (self.ran, self.answered, self.deep))
        return pieces @ smaller * np.asarray(self.unit)[..., None, :], *counts


def stage_changes(
    stages: Stages,
    ladder: Breakpoints,
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
    # Whole numbers of so many bits, of which what one bin can get of all queries fits an int32.
    bits = 30 - (k * n_queries).bit_length()
    units = [_power_above(truth) for truth in (cost, quality)]

    def one_stage(s: Array, state: tuple[Any, ...]) -> tuple[Any, ...]:
        sums, counts, spent, got, last = state
        below, model, answer = (
            jax.lax.dynamic_index_in_dim(rows, s, keepdims=False)
            for rows in (stages.below, stages.model, stages.answer)
        )
        # The first stage is there under every setting, also an infinite one.
        all_ = (s == 0) & (below > -jnp.inf)
        bin_ = jnp.where(all_, bins - 1, ladder.count_below(below))
        now_spent = _pieces(of_model(cost, model), units[0], bits)
        now_got = _pieces(of_model(quality, answer), units[1], bits)
        more = now_spent if stages.keeps else [n - b for n, b in zip(now_spent, spent, strict=True)]
        better = [n - b for n, b in zip(now_got, got, strict=True)]
        sums = _add(sums, bin_, jnp.stack([*more, *better], axis=-1))
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
    zero = [jnp.zeros(n_queries, jnp.int32)] * _count(bits)
    state = (jnp.zeros((bins, 2 * _count(bits)), jnp.int32), (none,) * 3, zero, zero, zero[0])
    sums, counts, *_ = jax.lax.fori_loop(0, stages.count, one_stage, state)
    ran, answered, deep = (c.reshape(-1, k) for c in counts)
    return Histogram(sums, ran, answered, deep, jnp.stack(units), bits)


def chain_changes(
    chains: Int[np.ndarray, " C"],
    shorter: Int[np.ndarray, " C"],
    seen: Float[Array, "C B"],
    ladder: Breakpoints,
    quality: Float[Array, "K B"],
    cost: Float[Array, "K B"],
    real: Bool[Array, " B"],
) -> Histogram:
    """What the last model of each chain changes, in the bin of how many thresholds reach it.

    To what the chain without it does: so each chain is one pass, however long it is. Nothing is
    counted of what ran.

    Args:
        chains: models in binary, a chain after its part without the last model.
        shorter: where that part stands; -1 of a single model.
        seen: quality of the last model of each once all of it has run.
        ladder: negatives of the thresholds.
        quality: true qualities.
        cost: true costs.
        real: False for queries that only fill a block up.
    """
    n_chains, (k, n_queries) = len(chains), quality.shape
    bins = len(ladder.rungs) + 1
    # Of one bin all queries may change by twice the unit.
    bits = 29 - n_queries.bit_length()
    units = [_power_above(truth) for truth in (cost, quality)]
    goes_on = ladder.count_below(-seen)
    reached = jnp.broadcast_to(jnp.int32(bins - 1), (k, n_queries))
    first, size = k, 1
    while first < n_chains:
        size += 1
        longer = [at for at in range(first, n_chains) if int(chains[at]).bit_count() == size]
        before = shorter[longer]
        reached = jnp.concatenate([reached, jnp.minimum(reached[before], goes_on[before])])
        first += len(longer)
    last = np.array([int(chain).bit_length() - 1 for chain in chains])
    before = np.where(shorter >= 0, last[shorter], 0)
    spent, got = (
        jnp.stack(_pieces(jnp.where(real, of, 0), unit, bits), axis=1)
        for of, unit in zip((cost, quality), units, strict=True)
    )

    def one_chain(at: tuple[Array, ...]) -> Int[Array, "M D"]:
        reached, last, before, alone = at
        lost = jnp.where(alone, 0, got[before])
        change = jnp.concatenate([spent[last], got[last] - lost]).T
        return _add(jnp.zeros((bins, change.shape[1]), jnp.int32), reached, change)

    rows = (reached, *(jnp.asarray(x) for x in (last, before, shorter < 0)))
    sums = jax.lax.map(one_chain, rows)
    none = jnp.zeros((0, k), jnp.int32)
    return Histogram(sums.reshape(n_chains * bins, -1), none, none, none, jnp.stack(units), bits)


def _count(bits: int) -> int:
    """Pieces of so many bits that make 36."""
    return -(-36 // bits)


def _power_above(values: Float[Array, "K B"]) -> Float[Array, ""]:
    """The power of two next above all values."""
    _, exponent = jnp.frexp(jnp.max(jnp.abs(values)))
    return jnp.ldexp(jnp.float32(1), exponent)


def _pieces(value: Float[Array, "*B"], unit: Float[Array, ""], bits: int) -> list[Array]:
    """A float32 as whole numbers of unit / 2^bits, of that / 2^bits, and so on: they sum exactly.

    To 2^-36 of the largest of all: exact for values down to 2^-12 of it.

    Sums of float32 would not: what is added again and again is rounded the same way each time.
    """
    pieces, rest = [], value / unit
    for _ in range(_count(bits)):
        rest = rest * np.float32(2**bits)
        # Towards 0, which is one instruction; `round` is a call that does not fill the lanes.
        pieces.append(rest.astype(jnp.int32))
        rest = rest - pieces[-1].astype(value.dtype)
    return pieces


def _take(of: Array, index: Int[Array, "*B"]) -> Array:
    return of.at[index].get(mode="promise_in_bounds")


def _add(to: Array, index: Int[Array, " B"], value: Array | int) -> Array:
    return to.at[index].add(value, mode="promise_in_bounds")
