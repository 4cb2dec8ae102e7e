"""Statistics of all rows that supplied and simulated noisy estimates need, added up over chunks.

They hold centred squares and products, because sums of squares minus squares of sums cancel: a cost
of 1e-5 would vanish next to noise of 100 (Chan, Golub and LeVeque, "Updating formulae and a
pairwise algorithm for computing sample variances", 1979).
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int, UInt32

from cascjax.core.random import threefry
from cascjax.data.table import mean_rows, take_rows

_ROWS = 1 << 16  # Rows whose noise is drawn at once
_BLOCK = 1 << 13  # Rows that are converted to float64 at once


def noise_keys(seed: int) -> UInt32[np.ndarray, "4 2"]:
    """Return the random keys of the noise of quality ante, quality post, cost ante and cost post.

    They are the keys that `cascjax.estimators.noisy` derives from `jax.random.key(seed)`.
    """
    key = jax.random.key(seed, impl="threefry2x32")
    return np.asarray(jax.random.key_data(jax.random.split(key, 4)))


def normals(
    keys: UInt32[np.ndarray, "J 2"], rows: Int[np.ndarray, " n"], k: int
) -> Float32[np.ndarray, "J n K"]:
    """Return rows of `jax.random.normal(key, (N, K))` for each key, for any N, to the bit.

    The noise of row i and model j comes from counter i K + j (JAX's partitionable threefry), so
    any rows can be drawn without the others.
    """
    noise = np.empty((len(keys), len(rows), k), np.float32)
    for start in range(0, len(rows), _ROWS):
        part = rows[start : start + _ROWS].astype(np.uint64)
        size = min(_ROWS, 1 << (len(part) - 1).bit_length()) if len(part) else 0
        counter = np.zeros((size, k), np.uint64)
        counter[: len(part)] = part[:, None] * np.uint64(k) + np.arange(k, dtype=np.uint64)
        high = (counter >> np.uint64(32)).astype(np.uint32)
        drawn = _normals(keys, high, counter.astype(np.uint32))
        noise[:, start : start + len(part)] = np.asarray(drawn)[:, : len(part)]
    return noise


@jax.jit
def _normals(
    keys: UInt32[np.ndarray, "J 2"] | UInt32[Array, "J 2"],
    high: UInt32[np.ndarray, "n K"] | UInt32[Array, "n K"],
    low: UInt32[np.ndarray, "n K"] | UInt32[Array, "n K"],
) -> Float32[Array, "J n K"]:
    def of_key(key: UInt32[Array, "2"]) -> Float32[Array, "n K"]:
        x, y = threefry(key, jnp.asarray(high), jnp.asarray(low))
        # Numbers in [1, 2) by their bits, then what `jax.random.normal` does with them.
        bits = ((x ^ y) >> np.uint32(9)) | np.float32(1).view(np.uint32)
        unit = jax.lax.bitcast_convert_type(bits, jnp.float32) - np.float32(1)
        least = np.nextafter(np.float32(-1), np.float32(0))
        uniform = jnp.maximum(least, unit * (np.float32(1) - least) + least)
        return np.float32(np.sqrt(2)) * jax.lax.erf_inv(uniform)

    return jnp.stack([of_key(key) for key in jnp.asarray(keys)])


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Moments:
    """First and second moments of a true value t and of two noises u and v, for K models.

    Model k gets the k-th noise once the models are sorted by mean cost, which is not known yet, so
    the products of every model with every noise are kept.
    """

    count: Float[np.ndarray, ""]  # number of rows
    mean: Float[np.ndarray, "3 K"]  # means of t by model, and of u and v by position
    square: Float[np.ndarray, "3 K"]  # sums of squares about the mean
    truth_noise: Float[np.ndarray, "2 K K"]  # sums of products of t with u, and with v
    noises: Float[np.ndarray, " K"]  # sums of products of u and v

    @classmethod
    def from_rows(
        cls,
        truth: Float[np.ndarray, "n K"],
        first: Float[np.ndarray, "n K"],
        second: Float[np.ndarray, "n K"],
    ) -> "Moments":
        """Return the moments of some rows, which are at least one."""
        columns, n = (truth, first, second), len(truth)
        mean = np.stack([column.mean(0, dtype=np.float64) for column in columns])
        k = truth.shape[1]
        square, cross, noises = np.zeros((3, k)), np.zeros((2, k, k)), np.zeros(k)
        for start in range(0, n, _BLOCK):
            part = slice(start, start + _BLOCK)
            t, u, v = (c[part].astype(np.float64) - m for c, m in zip(columns, mean, strict=True))
            for i, x in enumerate((t, u, v)):
                square[i] += np.einsum("nk,nk->k", x, x)
            cross[0] += t.T @ u
            cross[1] += t.T @ v
            noises += np.einsum("nk,nk->k", u, v)
        return cls(np.array(float(n)), mean, square, cross, noises)

    def merge(self, other: "Moments") -> "Moments":
        """Return the moments of the rows of both."""
        n = self.count + other.count
        gap, weight = other.mean - self.mean, self.count * other.count / n
        t, u, v = gap
        between = np.stack([np.outer(t, u), np.outer(t, v)]) * weight
        return Moments(
            np.array(n),
            self.mean + gap * (other.count / n),
            self.square + other.square + gap * gap * weight,
            self.truth_noise + other.truth_noise + between,
            self.noises + other.noises + u * v * weight,
        )

    def sort_models(self, order: Int[np.ndarray, " K"]) -> "Moments":
        """Return the moments with the models in another order; the noises keep their positions."""
        mean, square = self.mean.copy(), self.square.copy()
        mean[0], square[0] = mean[0, order], square[0, order]
        return Moments(self.count, mean, square, self.truth_noise[:, order], self.noises)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Spread:
    """Mean and variance of the difference of two columns of K models."""

    count: Float[np.ndarray, ""]  # number of rows
    mean: Float[np.ndarray, " K"]  # means
    square: Float[np.ndarray, " K"]  # sums of squares about the mean

    @classmethod
    def from_rows(
        cls,
        before: Float[np.ndarray, "N K"],
        after: Float[np.ndarray, "N K"],
        rows: Int[np.ndarray, " n"],
    ) -> "Spread":
        """Return the spread of `before - after` over the given rows, of which there may be none."""
        k = before.shape[1]
        if not len(rows):
            return cls(np.array(0.0), np.zeros(k), np.zeros(k))
        mean = mean_rows(before, rows) - mean_rows(after, rows)
        square = np.zeros(k)
        for start in range(0, len(rows), _BLOCK):
            part = rows[start : start + _BLOCK]
            gap = take_rows(before, part).astype(np.float64) - take_rows(after, part) - mean
            square += np.einsum("nk,nk->k", gap, gap)
        return cls(np.array(float(len(rows))), mean, square)

    def merge(self, other: "Spread") -> "Spread":
        """Return the spread over the rows of both."""
        if not other.count or not self.count:
            return self if self.count else other
        n, gap = self.count + other.count, other.mean - self.mean
        square = self.square + other.square + gap * gap * (self.count * other.count / n)
        return Spread(np.array(n), self.mean + gap * (other.count / n), square)

    @property
    def sigma(self) -> Float[np.ndarray, " K"]:
        """`[K]` standard deviations."""
        return np.sqrt(self.square / self.count)


@dataclass(frozen=True)
class Line:
    """Least-squares prediction of true values from noisy copies, for each model."""

    noise: float  # standard deviation of the noise
    mean: Float[np.ndarray, " K"]  # means of the truth
    noisy_mean: Float[np.ndarray, " K"]  # means of the noisy copy
    slope: Float[np.ndarray, " K"]  # slopes of the truth on the noisy copy

    def predict(
        self, truth: Float[np.ndarray, "n K"], noise: Float[np.ndarray, "n K"]
    ) -> Float32[np.ndarray, "n K"]:
        """Return the predictions for some rows from their truth and their unit noise."""
        if not self.noise:
            return truth.astype(np.float32)  # exact, so that ties remain ties
        predicted = np.empty(truth.shape, np.float32)
        for start in range(0, len(truth), _BLOCK):
            part = slice(start, start + _BLOCK)
            noisy = truth[part].astype(np.float64) + self.noise * noise[part].astype(np.float64)
            predicted[part] = self.mean + self.slope * (noisy - self.noisy_mean)
        return predicted


def fit_lines(
    moments: Moments, noises: tuple[float, float]
) -> tuple[Line, Line, Float[np.ndarray, " K"]]:
    """Return the predictions from both noisy copies, and the spread of their difference."""
    t, u, v = moments.square
    lines = []
    for i, (sigma, noise_square) in enumerate(zip(noises, (u, v), strict=True)):
        cross = np.diagonal(moments.truth_noise[i])
        spread = t + 2 * sigma * cross + sigma**2 * noise_square
        slope = (t + sigma * cross) / np.where(spread > 0, spread, 1)
        mean = moments.mean[0]
        lines.append(Line(sigma, mean, mean + sigma * moments.mean[1 + i], slope))
    # Ante minus post is a (t + sigma u) - b (t + tau v); this is its square, term by term.
    (a, b), (sigma, tau) = (line.slope for line in lines), noises
    tu, tv = (np.diagonal(cross) for cross in moments.truth_noise)
    squares = (
        (a - b) ** 2 * t
        + (a * sigma) ** 2 * u
        + (b * tau) ** 2 * v
        + 2 * (a - b) * (a * sigma * tu - b * tau * tv)
        - 2 * a * sigma * b * tau * moments.noises
    )
    return lines[0], lines[1], np.sqrt(np.maximum(squares, 0) / moments.count)
