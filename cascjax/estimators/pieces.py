"""Estimates of a table that is never in memory whole: what they take of all rows, and one piece's.

What supplied and noisy estimates take of all rows are sums over them: means, spreads, regressions.
`Moments` are those of some rows, and `joined` those of several lots of rows; of the centred squares
and products, not of sums of squares less squares of sums, which leave nothing of a cost of 1e-5
under a noise of 100 (Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for
computing sample variances", 1979).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int, UInt32

from cascjax.core.random import threefry
from cascjax.data.table import Table, mean_rows, take_rows
from cascjax.estimators.base import Estimator
from cascjax.estimators.independent import Independent
from cascjax.estimators.learned import LearnedEstimates

_ROWS = 1 << 16
"""Rows whose noise is drawn at once."""

_BLOCK = 1 << 13
"""Rows worked on in float64 at once."""

NOISES = 4
"""Noises of noisy estimates: quality ante, quality post, cost ante, cost post."""

SUPPLIED_COLUMNS = ("quality_ante", "quality_post", "quality_sigma", "cost_ante", "cost_post")


def noise_keys(seed: int) -> UInt32[np.ndarray, "4 2"]:
    """The keys of the four noises that `cascjax.estimators.noisy` draws with `key(seed)`."""
    key = jax.random.key(seed, impl="threefry2x32")
    return np.asarray(jax.random.key_data(jax.random.split(key, NOISES)))


def normals(
    keys: UInt32[np.ndarray, "J 2"], rows: Int[np.ndarray, " n"], k: int
) -> Float32[np.ndarray, "J n K"]:
    """Rows of `jax.random.normal(key, (N, K))` for each key, whatever N, to the bit.

    The noise of row i and model j is that of counter i K + j (JAX's partitionable threefry), so any
    rows can be had without the others.

    Args:
        keys: the two halves of each key.
        rows: which rows of the N.
        k: K.
    """
    found = np.empty((len(keys), len(rows), k), np.float32)
    for start in range(0, len(rows), _ROWS):
        part = rows[start : start + _ROWS].astype(np.uint64)
        size = min(_ROWS, 1 << (len(part) - 1).bit_length()) if len(part) else 0
        counter = np.zeros((size, k), np.uint64)
        counter[: len(part)] = part[:, None] * np.uint64(k) + np.arange(k, dtype=np.uint64)
        high = (counter >> np.uint64(32)).astype(np.uint32)
        drawn = _normals(keys, high, counter.astype(np.uint32))
        found[:, start : start + len(part)] = np.asarray(drawn)[:, : len(part)]
    return found


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
    """Means of a truth t and of two noises u, v of K models, and their products about the means.

    Which noise falls to which model is known once the models are in order of cost, so the products
    are those of every model with every noise.

    Attributes:
        count: `[]` rows.
        mean: `[3, K]` of t by model, u and v by place.
        square: `[3, K]` sums of squares about the mean.
        truth_noise: `[2, K, K]` sums of products of t by model with u, and with v, by place.
        noises: `[K]` sums of products of u and v.
    """

    count: Float[np.ndarray, ""]
    mean: Float[np.ndarray, "3 K"]
    square: Float[np.ndarray, "3 K"]
    truth_noise: Float[np.ndarray, "2 K K"]
    noises: Float[np.ndarray, " K"]

    @classmethod
    def of(
        cls,
        truth: Float[np.ndarray, "n K"],
        first: Float[np.ndarray, "n K"],
        second: Float[np.ndarray, "n K"],
    ) -> "Moments":
        """Those of some rows."""
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

    def joined(self, other: "Moments") -> "Moments":
        """Those of these rows and other ones."""
        if not other.count or not self.count:
            return self if self.count else other
        n = self.count + other.count
        gap, weight = other.mean - self.mean, self.count * other.count / n
        t, u, v = gap
        return Moments(
            np.array(n),
            self.mean + gap * (other.count / n),
            self.square + other.square + gap * gap * weight,
            self.truth_noise
            + other.truth_noise
            + np.stack([np.outer(t, u), np.outer(t, v)]) * weight,
            self.noises + other.noises + u * v * weight,
        )

    def in_order(self, order: Int[np.ndarray, " K"]) -> "Moments":
        """The same with the models in another order; the noises' places stay."""
        mean, square = self.mean.copy(), self.square.copy()
        mean[0], square[0] = mean[0, order], square[0, order]
        cross = self.truth_noise[:, order]
        return Moments(self.count, mean, square, cross, self.noises)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Spread:
    """Mean and squares about it of K numbers a row.

    Attributes:
        count: `[]` rows.
        mean: `[K]`
        square: `[K]` sums of squares about the mean.
    """

    count: Float[np.ndarray, ""]
    mean: Float[np.ndarray, " K"]
    square: Float[np.ndarray, " K"]

    @classmethod
    def of(
        cls,
        before: Float[np.ndarray, "N K"],
        after: Float[np.ndarray, "N K"],
        rows: Int[np.ndarray, " n"],
    ) -> "Spread":
        """That of before less after, over some rows."""
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

    def joined(self, other: "Spread") -> "Spread":
        """That of these rows and other ones."""
        if not other.count or not self.count:
            return self if self.count else other
        n, gap = self.count + other.count, other.mean - self.mean
        square = self.square + other.square + gap * gap * (self.count * other.count / n)
        return Spread(np.array(n), self.mean + gap * (other.count / n), square)

    @property
    def sigma(self) -> Float[np.ndarray, " K"]:
        """The standard deviations."""
        return np.sqrt(self.square / self.count)


@dataclass(frozen=True)
class Line:
    """A regression of the truth on its noisy copy, for each model; see `cascjax.estimators.noisy`.

    Attributes:
        noise: its sigma.
        mean: `[K]` of the truth.
        seen: `[K]` mean of the noisy copy.
        slope: `[K]` of the truth on it.
    """

    noise: float
    mean: Float[np.ndarray, " K"]
    seen: Float[np.ndarray, " K"]
    slope: Float[np.ndarray, " K"]

    def predicted(
        self, truth: Float[np.ndarray, "n K"], noise: Float[np.ndarray, "n K"]
    ) -> Float32[np.ndarray, "n K"]:
        """What it makes of some rows."""
        if not self.noise:
            return truth.astype(np.float32)  # to the bit: what ties still does
        found = np.empty(truth.shape, np.float32)
        for start in range(0, len(truth), _BLOCK):
            part = slice(start, start + _BLOCK)
            observed = truth[part].astype(np.float64) + self.noise * noise[part].astype(np.float64)
            found[part] = self.mean + self.slope * (observed - self.seen)
        return found


def lines(
    moments: Moments, noises: tuple[float, float]
) -> tuple[Line, Line, Float[np.ndarray, " K"]]:
    """The regressions on both noisy copies, and the spread of the first less the second.

    Args:
        moments: of all rows, models in order.
        noises: the two sigmas.
    """
    t, u, v = moments.square
    found = []
    for i, (sigma, of) in enumerate(zip(noises, (u, v), strict=True)):
        cross = np.diagonal(moments.truth_noise[i])
        spread = t + 2 * sigma * cross + sigma**2 * of
        slope = (t + sigma * cross) / np.where(spread > 0, spread, 1)
        mean = moments.mean[0]
        found.append(Line(sigma, mean, mean + sigma * moments.mean[1 + i], slope))
    # Ante less post is a (t + sigma u) - b (t + tau v): its square, product by product.
    (a, b), (sigma, tau) = (line.slope for line in found), noises
    tu, tv = (np.diagonal(cross) for cross in moments.truth_noise)
    squares = (
        (a - b) ** 2 * t
        + (a * sigma) ** 2 * u
        + (b * tau) ** 2 * v
        + 2 * (a - b) * (a * sigma * tu - b * tau * tv)
        - 2 * a * sigma * b * tau * moments.noises
    )
    return found[0], found[1], np.sqrt(np.maximum(squares, 0) / moments.count)


@dataclass(frozen=True)
class Known:
    """What estimates of some rows take of all rows, models in order.

    Attributes:
        kind: "supplied", "noisy" or "learned".
        mean_cost: `[K]` over the rows to fit on.
        sigma: `[K]` standard deviation of ante less post; None where the files have their own, and
            of learned estimates.
        lines: of noisy estimates, the regressions of quality ante and post and of cost ante, post.
        seed: of the noise.
        learned: of learned estimates, what was learned from a sample of the rows to fit on.
        taught: `[m]` the numbers of these rows, rising.
        sigma_scale: scale on sigmas of learned estimates; None for the one that does best on the
            sample.
    """

    kind: str
    mean_cost: Float[np.ndarray, " K"]
    sigma: Float[np.ndarray, " K"] | None = None
    lines: Sequence[Line] = ()
    seed: int = 0
    learned: LearnedEstimates | None = None
    taught: Int[np.ndarray, " m"] = field(default_factory=lambda: np.zeros(0, np.int64))
    sigma_scale: float | None = 1.0

    def estimates(self, table: Table, rows: Int[np.ndarray, " n"]) -> Estimator:
        """The estimates of some rows, as `supplied`, `noisy` or `learned` makes them of a table.

        Those of rows that others were learned from are cross-fitted.

        Args:
            table: those rows, models in order.
            rows: their numbers among all rows.

        Raises:
            CascjaxError: see `LearnedEstimates.estimator_for`.
        """
        if self.learned is not None:
            folds = self.learned.folds
            fold = np.full(len(rows), folds.n_folds, np.int32)
            place = np.searchsorted(self.taught, rows).clip(max=len(self.taught) - 1)
            own = self.taught[place] == rows
            fold[own] = folds.fold[place[own]]
            return self.learned.estimator_for(table, fold)
        if self.kind == "noisy":
            noise = normals(noise_keys(self.seed), rows, table.n_models)
            truths = (table.quality, table.quality, table.cost, table.cost)
            assert self.sigma is not None
            ante, post, cost_ante, cost_post = (
                line.predicted(truth, of)
                for line, truth, of in zip(self.lines, truths, noise, strict=True)
            )
            sigma = self.sigma[None].astype(np.float32)
            return Independent(ante, post, sigma, cost_ante, cost_post)
        assert table.quality_ante is not None
        assert table.quality_post is not None
        sigma = table.quality_sigma
        if sigma is None:
            assert self.sigma is not None
            sigma = self.sigma[None].astype(np.float32)
        cost_ante = table.cost_ante
        if cost_ante is None:
            cost_ante = np.broadcast_to(self.mean_cost.astype(np.float32), table.cost.shape)
        cost_post = table.cost if table.cost_post is None else table.cost_post
        return Independent(table.quality_ante, table.quality_post, sigma, cost_ante, cost_post)
