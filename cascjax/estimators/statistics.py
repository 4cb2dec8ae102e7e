"""Statistics of all rows that supplied and simulated noisy estimates need, added up over chunks.

They hold centred squares and products, because sums of squares minus squares of sums cancel: a cost
of 1e-5 would vanish next to noise of 100 (Chan, Golub and LeVeque, "Updating formulae and a
pairwise algorithm for computing sample variances", 1979).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int, UInt32

from cascjax.core.random import threefry
from cascjax.data.table import take_rows

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
    """Number of rows, means, and sums of products about the means, of M columns."""

    count: Float[np.ndarray, ""]
    mean: Float[np.ndarray, " M"]
    product: Float[np.ndarray, "M M"]

    @classmethod
    def from_blocks(cls, blocks: Iterable[Float[np.ndarray, "n M"]], width: int) -> "Moments":
        """Return the moments of the rows of all blocks, of which there may be none."""
        total = cls(np.array(0.0), np.zeros(width), np.zeros((width, width)))
        for block in blocks:
            values = block.astype(np.float64)
            mean = values.mean(0)
            values -= mean
            total = total.merge(cls(np.array(float(len(block))), mean, values.T @ values))
        return total

    @classmethod
    def of_noise(
        cls,
        truth: Float[np.ndarray, "n K"],
        ante: Float[np.ndarray, "n K"],
        post: Float[np.ndarray, "n K"],
    ) -> "Moments":
        """Return the moments of the truth by model, and of two noises by position.

        Model k gets the k-th noise once the models are sorted by mean cost, which is not known yet,
        so the products of every model with every noise are kept.
        """
        columns = (truth, ante, post)
        parts = (slice(start, start + _BLOCK) for start in range(0, len(truth), _BLOCK))
        blocks = (np.concatenate([column[part] for column in columns], 1) for part in parts)
        return cls.from_blocks(blocks, 3 * truth.shape[1])

    @classmethod
    def of_difference(
        cls,
        before: Float[np.ndarray, "N K"],
        after: Float[np.ndarray, "N K"],
        rows: Int[np.ndarray, " n"],
    ) -> "Moments":
        """Return the moments of `before - after` over the given rows."""
        parts = (rows[start : start + _BLOCK] for start in range(0, len(rows), _BLOCK))
        blocks = (
            take_rows(before, part).astype(np.float64) - take_rows(after, part) for part in parts
        )
        return cls.from_blocks(blocks, before.shape[1])

    def merge(self, other: "Moments") -> "Moments":
        """Return the moments of the rows of both."""
        if not self.count or not other.count:
            return self if self.count else other
        n, gap = self.count + other.count, other.mean - self.mean
        product = self.product + other.product
        product += np.outer(gap, gap) * (self.count * other.count / n)
        return Moments(np.array(n), self.mean + gap * (other.count / n), product)

    @property
    def sigma(self) -> Float[np.ndarray, " M"]:
        """Standard deviations."""
        return np.sqrt(np.diagonal(self.product) / self.count)


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
    moments: Moments, noises: tuple[float, float], order: Int[np.ndarray, " K"] | None = None
) -> tuple[Line, Line, Float[np.ndarray, " K"]]:
    """Return the predictions from both noisy copies, and the spread of their difference.

    `moments` are those of `Moments.of_noise`; `order` sorts the models, and not the noises.
    """
    k = len(moments.mean) // 3
    columns = np.arange(3 * k)
    columns[:k] = columns[:k] if order is None else order
    mean = moments.mean[columns].reshape(3, k)
    # Of the truth and both noises, for each model with the noise at its position.
    product = moments.product[np.ix_(columns, columns)].reshape(3, k, 3, k)
    product = np.einsum("ikjk->ijk", product)
    lines, weights = [], []
    for place, sigma in enumerate(noises, start=1):
        noisy = np.zeros((3, 1))
        noisy[[0, place], 0] = 1, sigma
        with_truth = (noisy * product[0]).sum(0)
        square = np.einsum("il,jl,ijk->k", noisy, noisy, product)
        slope = with_truth / np.where(square > 0, square, 1)
        lines.append(Line(sigma, mean[0], (noisy * mean).sum(0), slope))
        weights.append(noisy * slope)
    difference = weights[0] - weights[1]
    squares = np.einsum("ik,jk,ijk->k", difference, difference, product)
    return lines[0], lines[1], np.sqrt(np.maximum(squares, 0) / moments.count)
