"""E[max] of normal qualities: what a supermodel is worth.

A supermodel M answers with the best of its models, so its value is V(M) = E[max_{i in M} Q_i]
with Q ~ Normal(mean, covariance) (paper, section 4). For independent qualities it is a
one-dimensional integral of the product of distribution functions,

    E[max] = lo + integral from lo of (1 - prod_i Phi((x - mean_i) / sigma_i)) dx,

taken by Gauss-Legendre quadrature between knots that sit where the factors bend. For a full
covariance it is a mean over quasi-random normal points, the same points for every query.

A sigma of 0 is a quality that is known: a step in the product, exact because the step is a knot.
"""

import functools
from dataclasses import dataclass
from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr
from jaxtyping import Array, Bool, Float, Int

from cascjax.core.arrays import Numbers, as_float32, in_float32, materialize
from cascjax.core.checks import check_normal, is_diagonal
from cascjax.errors import CascjaxError

Covariance: TypeAlias = Float[Array, "*B K"] | Float[Array, "*B K K"]

MAX_ENUMERATED = 14  # Largest number of models whose 2^K supermodels are enumerated

# Quadrature knots of one factor Phi((x - mean) / sigma), in units of sigma. With 8 nodes
# between neighbours the error stays below 1e-6 of the largest sigma (tests/test_expected_max.py).
_KNOTS = (-6.0, -2.0, 0.0, 2.0, 6.0)
_MAX_PANELS = 32
_TABLE = 1 << 20  # Integrals of all sets of models and segments that a core's cache takes
LEAST_GAIN = 1e-6
"""Gains below this share of the largest sigma are rounding: a model that adds so little adds
nothing. Else the sign of a rounding error would decide where cost is (almost) no object."""

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(8)


@in_float32
def expected_max(
    mean: Numbers,
    covariance: Numbers,
    *,
    method: Literal["auto", "quadrature", "qmc"] = "auto",
    samples: int = 1024,
) -> Float[Array, "*B"]:
    """Return E[max_i Q_i] for Q ~ Normal(mean, covariance).

    Differentiable in both arguments; usable inside jit and vmap.

    Args:
        mean: `[*B, K]` quality means.
        covariance: the variances `[*B, K]` of independent qualities, or whole matrices
            `[*B, K, K]`; told apart by the number of axes.
        method: "quadrature" needs variances and errs by less than 1e-5 of the largest sigma, beside
            what float32 rounds of the means; "qmc" averages over points, and errs in the root mean
            square by less than sigma / samples^0.8 for up to 5 models, sigma / samples^0.7 for up
            to 11, at worst three times that; "auto" takes quadrature wherever it applies.
        samples: number of points for "qmc"; a power of two.

    Returns:
        `[*B]` expected maxima.

    Raises:
        CascjaxError: "quadrature" was asked for a full covariance, shapes do not fit, `samples`
            is no power of two, or, outside of traced programs, the mean or the covariance is not
            finite, a variance is negative, or a matrix is not symmetric and positive semi-definite.

    Example:
      >>> round(float(expected_max([0.0, 0.0], [1.0, 1.0])), 4)
      0.5642
    """
    mean, covariance = as_float32("mean", mean), as_float32("covariance", covariance)
    diagonal = is_diagonal(mean, covariance)
    if samples < 2 or samples & (samples - 1):
        raise CascjaxError(f"samples must be a power of two, 2 or more, not {samples}")
    if method == "quadrature" and not diagonal:
        raise CascjaxError("method 'quadrature' needs variances [B, K]; use 'qmc' for matrices")
    check_normal(mean, covariance)
    if diagonal and method != "qmc":
        sigma = _deviation(covariance)
        # Below the highest of the lower ends the maximum cannot fall: start there.
        low = jnp.max(mean + _KNOTS[0] * sigma, axis=-1, keepdims=True)
        x, weight = _quadrature(mean, sigma, low)
        product = jnp.prod(_cdf(x, mean, sigma), axis=-2)
        return low[..., 0] + jnp.sum(weight * (1 - product), axis=-1)
    return jnp.mean(jnp.max(_points(mean, covariance, samples), axis=-1), axis=-1)


@functools.lru_cache(maxsize=16)
def members(n_models: int, max_size: int | None = None) -> Bool[np.ndarray, "M K"]:
    """Return all supermodels of at most `max_size` models as masks, the smallest first."""
    if n_models > MAX_ENUMERATED:
        raise CascjaxError(
            f"{n_models} models have 2^{n_models} supermodels, too many to enumerate (at most"
            f" {MAX_ENUMERATED} models): choose fewer models, or the beam or greedy search, or"
            " the strategy 'pandora'"
        )
    masks = (np.arange(2**n_models)[:, None] >> np.arange(n_models)) & 1 == 1
    masks = masks[np.argsort(masks.sum(1), kind="stable")]
    return masks if max_size is None else masks[masks.sum(1) <= max_size]


def supermodel_values(
    mean: Float[Array, "B K"],
    covariance: Float[Array, "B K"] | Float[Array, "B K K"],
    *,
    max_size: int | None = None,
    samples: int = 1024,
) -> Float[Array, "B M"]:
    """Return V(M) = E[max_{i in M} Q_i] of every supermodel in `members(K, max_size)`.

    The empty supermodel is worth -inf. Exact for variances, quasi-Monte Carlo for matrices.
    """
    rows = _rows(mean.shape[-1], max_size)
    if is_diagonal(mean, covariance):
        sigma = _deviation(covariance)
        low = jnp.min(mean + _KNOTS[0] * sigma, axis=-1, keepdims=True)
        # One query is decided in a third of the time where nothing is worked out again.
        x, weight = materialize(_quadrature(mean, sigma, low))
        values = low + _tail_integrals(x, weight, mean, sigma)[:, rows]
    else:
        points = _points(mean, covariance, samples)
        best = jnp.full((*points.shape[:-1], 1), -jnp.inf)
        for i in range(mean.shape[-1]):
            best = jnp.concatenate([best, jnp.maximum(best, points[..., i, None])], axis=-1)
        values = jnp.mean(best, axis=-2)[:, rows]
    return values.at[:, 0].set(-jnp.inf)


def expected_improvement(
    incumbent: Float[Array, "*#B"], mean: Float[Array, "*#B"], sigma: Float[Array, "*#B"]
) -> Float[Array, "*B"]:
    """Return E[(Q - incumbent)+] for Q ~ Normal(mean, sigma^2).

    In closed form, sigma phi(t) + (mean - incumbent) Phi(-t) with t = (incumbent - mean) / sigma.
    """
    above = mean - incumbent
    t = above / jnp.where(sigma > 0, sigma, 1)
    bell = np.float32(1 / np.sqrt(2 * np.pi)) * jnp.exp(-0.5 * t * t)
    gain = sigma * bell + above * (0.5 + 0.5 * jax.lax.erf(np.float32(np.sqrt(0.5)) * t))
    return jnp.where(sigma > 0, jnp.maximum(gain, 0), jnp.maximum(above, 0))


def panels_needed(mean: Float[np.ndarray, "N K"], sigma: Float[np.ndarray, "#N K"]) -> int | None:
    """Return the panels `supermodel_tables` must cut the axis into, or None if too many.

    A panel of eight nodes may be 2.5 of the smallest sigma wide: then the error stays below 1e-7
    of it. Rounded up to a power of two, so that few programs are compiled. On the host.
    """
    sigma = np.broadcast_to(sigma, mean.shape)
    least = sigma.min(axis=1)
    if not least.min() > 0:
        return None
    span = (mean - _KNOTS[0] * sigma).max(1) - (mean + _KNOTS[0] * sigma).min(1)
    # Not span / least, which overflows for the least of floats.
    if (span > 2.5 * _MAX_PANELS * least).any():
        return None
    return 1 << int(np.ceil(np.log2(max(1, (span / least).max() / 2.5))))


def supermodel_tables(
    incumbent: Float[Array, "J B"],
    mean: Float[Array, "K B"],
    sigma: Float[Array, "K B"],
    max_size: int,
    panels: int | None,
) -> tuple[Float[Array, "M B"], Float[Array, "M J B"]]:
    """Return `supermodel_values`, and E[(max_{i in M} Q_i - incumbent)+], with queries last.

    The qualities are independent, the incumbents known: so one table per query serves every state a
    strategy can be in, and every price of cost. See `panels_needed` for the panels.
    """
    k, n_queries = mean.shape
    segments = panels or len(_KNOTS) * k
    size = 1 << (_TABLE // (2**k * (segments + len(incumbent)))).bit_length() >> 1
    if jax.default_backend() != "cpu" or not size or n_queries % size or n_queries == size:
        return _tables(incumbent, mean, sigma, max_size, panels)
    # A few queries at a time, whose integrals stay in a cache.
    cut = [jnp.swapaxes(x.reshape(len(x), -1, size), 0, 1) for x in (incumbent, mean, sigma)]
    parts = jax.lax.map(lambda p: _tables(p[0], p[1], p[2], max_size, panels), tuple(cut))
    values, gains = (jnp.moveaxis(x, 0, -2) for x in parts)
    return values.reshape(*values.shape[:-2], -1), gains.reshape(*gains.shape[:-2], -1)


def _tables(
    incumbent: Float[Array, "J B"],
    mean: Float[Array, "K B"],
    sigma: Float[Array, "K B"],
    max_size: int,
    panels: int | None,
) -> tuple[Float[Array, "M B"], Float[Array, "M J B"]]:
    k, segments = len(mean), Segments.of(incumbent, mean, sigma, panels)
    # As in `_tail_integrals`: every product is one of the first half's times one of the second's.
    first = materialize(_products(segments.cdf[: k // 2]) * segments.weight)
    second = materialize(_products(segments.cdf[k // 2 :]))
    below = sum(first[None, :, n] * second[:, None, n] for n in range(len(_NODES)))
    integrals = (segments.width - below).reshape(-1, *segments.width.shape)
    integrals = materialize(materialize(integrals)[_rows(k, max_size)])
    values = segments.low + jnp.sum(integrals[:, : segments.shared], axis=1)
    gains = segments.beyond(integrals)
    return values.at[0].set(-jnp.inf), real_gains(gains, sigma).at[0].set(0)


def certain_tables(
    incumbent: Float[Array, "J B"], mean: Float[Array, "K B"], max_size: int
) -> tuple[Float[Array, "M B"], Float[Array, "M J B"]]:
    """Return `supermodel_tables` where every sigma is 0: a supermodel is worth its highest mean."""
    supermodels, values = members(len(mean), max_size), jnp.full((1, mean.shape[1]), -jnp.inf)
    values = jnp.repeat(values, len(supermodels), axis=0)
    for k in range(len(mean)):
        values = jnp.where(supermodels[:, k, None], jnp.maximum(values, mean[k]), values)
    return values, jnp.maximum(values[:, None] - incumbent, 0)


def real_gains(gains: Float[Array, "*M B"], sigma: Float[Array, "K B"]) -> Float[Array, "*M B"]:
    """Return the gains, or 0 where they are only rounding."""
    return jnp.where(gains > LEAST_GAIN * jnp.max(sigma, axis=0), gains, 0)


@dataclass(frozen=True)
class Segments:
    """Segments of where the maximum can fall, with eight nodes in each; queries last.

    They are so many panels of equal width, and after those what each of J incumbents leaves of its
    own; or they lie between sorted knots, the incumbents among them, and are all shared.
    """

    low: Float[Array, " B"]  # where the segments begin
    width: Float[Array, "S B"]
    weight: Float[Array, "n S B"]
    cdf: Float[Array, "K n S B"]  # Phi_i at every node
    shared: int  # number of segments that are no incumbent's own
    start: Float[Array, "J B"] | Int[Array, "J B"]  # the first of them above each incumbent
    under: Float[Array, "J B"]  # how far each incumbent lies below `low`, 0 where it does not

    @classmethod
    def of(
        cls,
        incumbent: Float[Array, "J B"],
        mean: Float[Array, "K B"],
        sigma: Float[Array, "K B"],
        panels: int | None,
    ) -> "Segments":
        """Return the segments for J incumbents, in so many panels or between knots."""
        low = jnp.min(mean + _KNOTS[0] * sigma, axis=0)
        if panels:
            width = (jnp.max(mean - _KNOTS[0] * sigma, axis=0) - low) / panels
            inside = jnp.clip((incumbent - low) / width, 0, panels)
            start, whole = jnp.ceil(inside), jnp.arange(panels, dtype=mean.dtype)[:, None]
            left = low + width * jnp.concatenate([whole * jnp.ones_like(low), inside])
            width *= jnp.concatenate([jnp.ones((panels, len(low))), start - inside])
        else:
            knots = mean[:, None] + sigma[:, None] * jnp.array(_KNOTS, mean.dtype)[:, None]
            knots = jnp.concatenate([knots.reshape(-1, len(low)), incumbent])
            knots = materialize(jnp.sort(jnp.maximum(knots, low), axis=0))
            left, width = knots[:-1], jnp.diff(knots, axis=0)
            start = jnp.sum(left[:, None] < incumbent, axis=0)
        # Nodes lead: each is one run of memory.
        x = left + width * jnp.array((_NODES + 1) / 2, mean.dtype)[:, None, None]
        away, spread = x - mean[:, None, None], sigma[:, None, None]
        if panels:
            # erf, not ndtr: three times faster; the tail it loses is below 1e-7 of the integral.
            cdf = 0.5 + 0.5 * jax.lax.erf(away * (np.sqrt(0.5) / spread))
        else:
            cdf = jnp.where(spread > 0, ndtr(away / jnp.where(spread > 0, spread, 1)), away >= 0)
        weight = width * jnp.array(_WEIGHTS / 2, mean.dtype)[:, None, None]
        if not panels:
            # As products add up: where none is below 1, nothing is left.
            width = functools.reduce(jnp.add, list(weight))
        under = jnp.maximum(low - incumbent, 0)
        return cls(low, width, weight, materialize(cdf), panels or len(left), start, under)

    def beyond(self, integrals: Float[Array, "M S B"]) -> Float[Array, "M J B"]:
        """Return integrals from each incumbent up, from the integrals of the segments."""
        above = (
            jnp.where(self.start <= s, integrals[:, s, None], jnp.zeros((), integrals.dtype))
            for s in range(self.shared)
        )
        own = integrals[:, self.shared :]
        return sum(above, start=self.under + (own if own.shape[1] else 0))

    def prefix_gains(self, s: int | Int[Array, ""]) -> Float[Array, "I B"]:
        """Return what models s + 1, ..., j add to the best of the first s, for every j.

        A row for each j > s if s is a number; a row for every j if it is traced, 0 up to s.
        """

        def segments(x: Array, axis: int) -> Array:
            """Return the shared segments, and this incumbent's own."""
            if x.shape[axis] == self.shared:
                return x
            shared = jax.lax.slice_in_dim(x, 0, self.shared, axis=axis)
            own = jax.lax.dynamic_slice_in_dim(x, self.shared + s - 1, 1, axis)
            return jnp.concatenate([shared, own], axis=axis)

        start, under = (
            jax.lax.dynamic_index_in_dim(x, s - 1, 0, False) for x in (self.start, self.under)
        )
        weight = segments(self.weight, 1)
        # Shared segments count from the incumbent up, its own always.
        index = jnp.arange(weight.shape[1])[:, None]
        weight = jnp.where((index >= start) | (index == self.shared), weight, 0)
        later = jnp.arange(len(self.cdf)) >= s
        if isinstance(s, int):
            cdf = segments(self.cdf[s:], 2)
        else:
            cdf = jnp.where(later[:, None, None, None], segments(self.cdf, 2), 1)
        flat = (len(cdf), -1, cdf.shape[-1])
        cdf, weight = materialize((cdf.reshape(flat), weight.reshape(flat[1:])))
        most = functools.reduce(jnp.add, list(weight)) + under

        def join(product: Array, factor: Array) -> tuple[Array, Array]:
            product = product * factor
            # As a chain: a reduction over many rows does not fill the lanes.
            return product, most - functools.reduce(jnp.add, list(product * weight))

        _, gains = jax.lax.scan(join, jnp.ones_like(weight), cdf)
        # Where the incumbent lies below all nodes, the empty product is not worth 0 by itself.
        return gains if isinstance(s, int) else jnp.where(later[:, None], gains, 0)


def _products(factors: Float[Array, "K *S"]) -> Float[Array, "2**K *S"]:
    """Return the products over all subsets of the factors, by bit pattern."""
    products = [jnp.ones(factors.shape[1:], factors.dtype)]
    for factor in factors:
        products += [product * factor for product in products]
    return jnp.stack(products)


def prefix_values(
    mean: Float[Array, "B K"],
    covariance: Float[Array, "B K"] | Float[Array, "B K K"],
    *,
    samples: int = 1024,
) -> Float[Array, "B K"]:
    """Return V(M_{1:j}) of the K prefixes of the models in order.

    Exact for variances, quasi-Monte Carlo for matrices.
    """
    if is_diagonal(mean, covariance):
        sigma = _deviation(covariance)
        low = jnp.min(mean + _KNOTS[0] * sigma, axis=-1, keepdims=True)
        x, weight = _quadrature(mean, sigma, low)
        product = jnp.cumprod(_cdf(x, mean, sigma), axis=-2)
        return low + jnp.sum(weight[:, None, :] * (1 - product), axis=-1)
    return jnp.mean(jax.lax.cummax(_points(mean, covariance, samples), axis=2), axis=1)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Maximum:
    """The distribution of a maximum that grows one model at a time, at fixed points.

    For variances `held` is the product of distribution functions at quadrature nodes, for
    matrices the maximum at quasi-random draws; either way a model is joined in O(points).
    """

    factor: Float[Array, "B K X"]
    weight: Float[Array, "B X"] | None
    low: Float[Array, "B 1"] | None

    @classmethod
    def of(
        cls,
        mean: Float[Array, "B K"],
        covariance: Float[Array, "B K"] | Float[Array, "B K K"],
        samples: int = 1024,
        panels: int | None = None,
    ) -> "Maximum":
        """Return the maximum of normal qualities; with `panels`, at fewer nodes."""
        if not is_diagonal(mean, covariance):
            draws = _points(mean, covariance, samples)
            return cls(jnp.swapaxes(draws, -1, -2), None, None)
        sigma = _deviation(covariance)
        low = jnp.min(mean + _KNOTS[0] * sigma, axis=-1, keepdims=True)
        if panels is None:
            x, weight = _quadrature(mean, sigma, low)
            return cls(_cdf(x, mean, sigma), weight, low)
        # Below a quality that is known the product is 0: start there, and no step is left inside.
        known = jnp.where(sigma > 0, -jnp.inf, mean)
        high = jnp.max(mean - _KNOTS[0] * sigma, axis=-1, keepdims=True)
        low = jnp.maximum(low, jnp.max(known, axis=-1, keepdims=True))
        width = jnp.maximum(high - low, 0)
        nodes = (np.arange(panels)[:, None] + (_NODES + 1) / 2).reshape(-1) / panels
        weight = jnp.array(np.tile(_WEIGHTS / 2 / panels, panels), mean.dtype) * width
        x = low + width * jnp.array(nodes, mean.dtype)
        return cls(_cdf(x, mean, sigma), weight, low)

    def among(self, chosen: Bool[Array, "B K"]) -> Float[Array, "B X"]:
        """Return what is held once the chosen models are joined."""
        if self.weight is None:
            return jnp.max(jnp.where(chosen[..., None], self.factor, -jnp.inf), axis=1)
        return jnp.prod(jnp.where(chosen[..., None], self.factor, 1), axis=1)

    def extend(self, held: Float[Array, "B W X"], new: Int[Array, "B W"]) -> Float[Array, "B W X"]:
        """Return what is held once one model more is joined to each of W maxima."""
        factor = jnp.take_along_axis(self.factor, new[..., None], axis=1)
        return jnp.maximum(held, factor) if self.weight is None else held * factor

    def value(self, held: Float[Array, "B W X"]) -> Float[Array, "B W"]:
        """Return E[max] of what is held."""
        if self.weight is None or self.low is None:
            return jnp.mean(held, axis=-1)
        return self.low + jnp.einsum("bx,bwx->bw", self.weight, 1 - held)

    def values_with_each(self, held: Float[Array, "B W X"]) -> Float[Array, "B W K"]:
        """Return E[max] of what is held and each single model."""
        if self.weight is None or self.low is None:
            return jnp.mean(jnp.maximum(held[:, :, None], self.factor[:, None]), axis=-1)
        total = self.low + jnp.sum(self.weight, axis=-1, keepdims=True)
        below = jnp.einsum("bwx,bkx->bwk", held * self.weight[:, None], self.factor)
        return total[..., None] - below


def _deviation(variance: Float[Array, "*B K"]) -> Float[Array, "*B K"]:
    """Return the square root, with a gradient of 0 where nothing is uncertain."""
    uncertain = variance > 0
    return jnp.where(uncertain, jnp.sqrt(jnp.where(uncertain, variance, 1)), 0)


def _rows(n_models: int, max_size: int | None) -> Int[np.ndarray, " M"]:
    """Return the bit patterns of `members`, model 0 the lowest bit."""
    return members(n_models, max_size) @ (1 << np.arange(n_models))


def _quadrature(
    mean: Float[Array, "*B K"],
    sigma: Float[Array, "*B K"],
    low: Float[Array, "*B 1"],
) -> tuple[Float[Array, "*B X"], Float[Array, "*B X"]]:
    """Return nodes and weights for the integral of 1 - prod Phi from `low` to where it vanishes."""
    knots = mean[..., None] + sigma[..., None] * jnp.array(_KNOTS, mean.dtype)
    knots = knots.reshape(*mean.shape[:-1], -1)
    # Not `maximum`, which at a tie gives each side half of the gradient.
    knots = jnp.sort(jnp.where(knots > low, knots, low), axis=-1)
    half = (knots[..., 1:] - knots[..., :-1])[..., None] / 2
    middle = (knots[..., 1:] + knots[..., :-1])[..., None] / 2
    x = middle + half * jnp.array(_NODES, mean.dtype)
    weight = half * jnp.array(_WEIGHTS, mean.dtype)
    flat = (*mean.shape[:-1], -1)
    return x.reshape(flat), weight.reshape(flat)


def _cdf(
    x: Float[Array, "*B X"], mean: Float[Array, "*B K"], sigma: Float[Array, "*B K"]
) -> Float[Array, "*B K X"]:
    """Return Phi((x - mean) / sigma), a unit step where sigma is 0."""
    away = x[..., None, :] - mean[..., None]
    uncertain = sigma[..., None] > 0
    scaled = away / jnp.where(uncertain, sigma[..., None], 1)
    return jnp.where(uncertain, ndtr(scaled), (away >= 0).astype(away.dtype))


def _tail_integrals(
    x: Float[Array, "B X"],
    weight: Float[Array, "B X"],
    mean: Float[Array, "B K"],
    sigma: Float[Array, "B K"],
) -> Float[Array, "B 2**K"]:
    """Return the integral of 1 - prod_{i in M} Phi_i for all 2^K subsets M, by bit pattern.

    A subset is a subset of the first half of the models and one of the second, and its product
    the product of theirs: so the sum over nodes is a matrix product, the bulk of the work.
    """
    cdf = materialize(_cdf(x, mean, sigma))
    half = mean.shape[-1] // 2
    first, second = (jax.vmap(_products)(part) for part in (cdf[:, :half], cdf[:, half:]))
    # The second comes first: whoever maps over weights maps over no condition then.
    second, first = materialize((second, first * weight[:, None, :]))
    products = jnp.einsum("bsx,btx->bts", first, second)
    return jnp.sum(weight, axis=-1, keepdims=True) - products.reshape(x.shape[0], -1)


def _points(
    mean: Float[Array, "*B K"], covariance: Covariance, samples: int
) -> Float[Array, "*B S K"]:
    """Return quasi-random draws of Normal(mean, covariance), common to the whole batch."""
    normal = jnp.asarray(normal_points(mean.shape[-1], samples), mean.dtype)
    if is_diagonal(mean, covariance):
        return mean[..., None, :] + normal * _deviation(covariance)[..., None, :]
    root = semidefinite_root(covariance)
    return mean[..., None, :] + jnp.einsum("sk,...jk->...sj", normal, root)


@functools.lru_cache(maxsize=16)
def normal_points(dimension: int, samples: int) -> Float[np.ndarray, "S K"]:
    """Return scrambled Sobol points made normal, each axis with mean 0 and variance 1."""
    from scipy.special import ndtri
    from scipy.stats import qmc

    # A scrambled point may be 0 exactly, which is no normal number.
    uniform = np.clip(qmc.Sobol(dimension, rng=0).random(samples), 2.0**-31, None)
    points = ndtri(uniform)
    points -= points.mean(0)
    return points / points.std(0)


def semidefinite_root(covariance: Float[Array, "*B K K"]) -> Float[Array, "*B K K"]:
    """Return R with R R^T = covariance, also where it is singular, by pivoted Cholesky.

    Always the model of which most is left unexplained goes next, so that no small pivot magnifies
    rounding; a column is zero once nothing is left of any: a model already run has no variance,
    and jitter on the diagonal would give it some.
    """
    k = covariance.shape[-1]
    diagonal = jnp.diagonal(covariance, axis1=-2, axis2=-1)
    known = diagonal <= 0

    def column(j: Int[Array, ""], root: Array) -> Array:
        left = diagonal - jnp.sum(jnp.square(root), axis=-1)
        # Relative to the model's own variance: float32 leaves about 1e-6 of a vanished pivot.
        share = jnp.where(known, 0, left / jnp.where(known, 1, diagonal))
        pivot = jnp.argmax(share, axis=-1)[..., None]
        chosen = jnp.take_along_axis(root, pivot[..., None], axis=-2)
        row = jnp.take_along_axis(covariance, pivot[..., None], axis=-2)[..., 0, :]
        rest = row - jnp.sum(root * chosen, axis=-1)
        alive = jnp.take_along_axis(share, pivot, axis=-1) > 1e-6
        variance = jnp.where(alive, jnp.take_along_axis(left, pivot, axis=-1), 1)
        new = jnp.where(alive & ~known, rest / jnp.sqrt(variance), 0)
        # No entry can explain more than the variance left, and what float32 rounds off it.
        most = _deviation(left + 1e-6 * diagonal)
        return root.at[..., j].set(jnp.clip(new, -most, most))

    return jax.lax.fori_loop(0, k, column, jnp.zeros_like(covariance))
