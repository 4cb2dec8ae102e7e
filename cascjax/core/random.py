"""Weights of a bootstrap over queries: resamples without copies.

The bootstrap draws N queries with replacement, again and again. How often each one is drawn is its
weight, and a resample's mean is a weighted mean. Independent Poisson(1) weights differ from the
multinomial ones of drawing in their total alone, by which a mean is divided (Hanley and MacGibbon,
"Creating non-parametric bootstrap samples using Poisson frequencies", 2006; Chamandy,
Muralidharan, Najmi and Naidu, "Estimating uncertainty for massive data streams", Google 2012).
Since they are independent, each is worked out where it is needed, and none is kept.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt32, UInt64

from cascjax.core.arrays import materialize
from cascjax.errors import CascjaxError, too_few

MAX_RESAMPLES = 100_000  # Largest number of resamples: their sums are held at once

MIN_QUERIES = 30  # Smallest number of queries to resample: of fewer, all may get weight 0 (e^-N)

COUNTS_OF_2_16 = (41426, 17318, 5263, 1244, 240, 39, 5, 1)
"""Number of the 2^16 equally likely draws that give a weight above 0, 1, ..., 7.

2^16 P(Poisson(1) > k), rounded, and one count moved from the first to the second: then mean and
variance are 1 exactly. No probability is off by more than 2e-5.
"""

_CHUNK = 1 << 19  # Weights in memory at once, or 64 a resample: what stays in a core's cache

_LONGEST = 512  # Queries that float32 adds up without compensation: to 1e-6


def check_resamples(resamples: int, n_queries: int) -> None:
    """Refuse a number of resamples, or of queries, that no spread can be computed from."""
    if not 2 <= resamples <= MAX_RESAMPLES:
        raise CascjaxError(
            f"the number of resamples must be from 2 to {MAX_RESAMPLES:,}, not {resamples}"
        )
    if n_queries < MIN_QUERIES:
        raise CascjaxError(
            f"{too_few(n_queries)} to resample: bring at least {MIN_QUERIES}, or ask"
            " for no resamples"
        )


def key_of(seed: int) -> UInt32[np.ndarray, "2"]:
    """Return the key of a seed: its two halves."""
    if not 0 <= seed < 1 << 64:
        raise CascjaxError(f"the seed of the resamples must be from 0 to 2^64 - 1, not {seed}")
    return np.array([seed >> 32, seed & 0xFFFFFFFF], np.uint32)


def hash_numbers(seed: int, numbers: Int[np.ndarray, " n"]) -> UInt64[np.ndarray, " n"]:
    """Return a random number for each whole number, different for different ones; on the host.

    Reference: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014.
    """

    def mixed(x: np.ndarray) -> np.ndarray:
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))

    start = mixed(np.array([seed & (1 << 64) - 1], np.uint64) * np.uint64(0x9E3779B97F4A7C15))
    steps = numbers.astype(np.uint64) + np.uint64(1)
    return mixed(start + steps * np.uint64(0x9E3779B97F4A7C15))


def weights(
    key: UInt32[Array, "2"] | UInt32[np.ndarray, "2"],
    rows: UInt32[Array, " B"] | UInt32[np.ndarray, " B"],
    resamples: int,
) -> Float[Array, "R B"]:
    """Return how often each resample draws each query: Poisson(1), from key, row and resample.

    Neither the number of resamples, nor which rows stand beside, nor their order changes a weight.
    """
    words = -(-resamples // 4)
    shape = (words, len(rows))
    row = jnp.broadcast_to(jnp.asarray(rows), shape)
    word = jnp.broadcast_to(jnp.arange(words, dtype=jnp.uint32)[:, None], shape)
    bits = jnp.stack(threefry(jnp.asarray(key), row, word), axis=1)
    # In memory before it is cut in two: XLA would work the cipher out once for each half.
    bits = materialize(bits)
    halves = jnp.stack([bits & np.uint32(0xFFFF), bits >> np.uint32(16)], axis=2)
    number = halves.reshape(-1, len(rows))[:resamples]
    weight = jnp.zeros(number.shape)
    for count in COUNTS_OF_2_16:
        weight = weight + (number >= np.uint32((1 << 16) - count))
    return weight


def threefry(
    key: UInt32[Array, "2"], x: UInt32[Array, "*B"], y: UInt32[Array, "*B"]
) -> tuple[UInt32[Array, "*B"], UInt32[Array, "*B"]]:
    """Return the cipher Threefry-2x32 with 20 rounds.

    Reference: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011.

    It is behind `jax.random`; here for counters of our own choice and as one straight line of code,
    which fuses.
    """
    parts = (key[0], key[1], key[0] ^ key[1] ^ np.uint32(0x1BD11BDA))
    x, y = x + parts[0], y + parts[1]
    for turn in range(5):
        for shift in (17, 29, 16, 24) if turn % 2 else (13, 15, 26, 6):
            x = x + y
            y = x ^ ((y << np.uint32(shift)) | (y >> np.uint32(32 - shift)))
        x = x + parts[(turn + 1) % 3]
        y = y + parts[(turn + 2) % 3] + np.uint32(turn + 1)
    return x, y


@functools.partial(jax.jit, static_argnums=0)
def weighted_sums(
    resamples: int,
    key: UInt32[Array, "2"] | UInt32[np.ndarray, "2"],
    rows: UInt32[Array, " B"] | UInt32[np.ndarray, " B"],
    values: Float[Array, "M B"] | Float[np.ndarray, "M B"],
) -> Float[Array, "R M"]:
    """Return weighted sums of values over a block of queries, a power of two, in every resample.

    The values of a query that only fills the block up are 0.
    """
    size = len(rows)
    chunk = min(size, _LONGEST, max(64, 1 << max(1, _CHUNK // resamples).bit_length() - 1))

    def one_chunk(
        state: tuple[Array, Array], part: tuple[Array, Array]
    ) -> tuple[tuple[Array, Array], None]:
        sums, lost = state
        # Cut out first: a moving slice inside the cipher would keep XLA from vectorising it.
        rows, values = materialize(part)
        # Accelerators would cut the values to fewer digits than float32 has.
        dot = jax.lax.dot_general(
            weights(key, rows, resamples), values, (((1,), (1,)), ((), ())),
            precision=jax.lax.Precision.HIGHEST,
        )  # fmt: skip
        # What a sum rounds off is taken from the next (Kahan summation).
        more = dot - lost
        total = sums + more
        return (total, (total - sums) - more), None

    cut = jnp.moveaxis(jnp.asarray(values).reshape(len(values), -1, chunk), 1, 0)
    start = jnp.zeros((resamples, len(values)))
    parts = (jnp.asarray(rows).reshape(-1, chunk), cut)
    return jax.lax.scan(one_chunk, (start, start), parts)[0][0]
