"""Accuracy and calibration of quality estimates, and how well they tell models apart."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from cascjax.metrics.bootstrap import interval, resampled_means

_DRAWS = 4000
"""Draws of the calibration error that chance alone gives."""

_TINY = 1e-9
"""A variance below this share of the mean square is rounding."""


@dataclass(frozen=True, eq=False)
class Measured:
    """A score of each of K models (K = 1 for a single score), NaN where it does not exist.

    The ends of its interval are None where nothing was resampled.
    """

    value: Float[np.ndarray, " K"]
    ends: Float[np.ndarray, "K 2"] | None = None


@dataclass(frozen=True, eq=False)
class Accuracy:
    """Accuracy of the estimates of K models; scores are NaN where they do not exist.

    R2 is the share of the variance of quality that the estimates explain, below 0 where the mean
    would do better. The Brier score (Brier 1950) is the mean squared error, `prior_brier` the error
    of each model's mean quality on other queries, and bias the mean estimate less mean quality. The
    slope of the least-squares line of quality on the estimate (Cox 1958, "Two further applications
    of a model for binary regression", here linear) is 1 where estimates are calibrated, below 1
    where they are too extreme.
    """

    r2: Measured
    brier: Measured
    prior_brier: Float[np.ndarray, " K"]
    bias: Measured
    slope: Measured


@dataclass(frozen=True, eq=False)
class Reliability:
    """Estimates of one model against its quality, in b bins of about equally many queries.

    Each bin has its mean estimate, its mean quality with an interval, and its number of queries.
    The expected calibration error is the mean over queries of |mean quality - mean estimate| of
    their bin (Naeini, Cooper and Hauskrecht, AAAI 2015; bins of equal mass as in Nixon et al., CVPR
    workshops 2019). If every bin were calibrated, its mean would be `by_chance`, and its quantile
    at the confidence of the intervals `limit`.

    The Brier score is reliability - resolution + uncertainty exactly (Murphy 1973): the mean
    squared error of the bins, how far the qualities of queries with different estimates lie apart,
    within bins too (Stephenson, Coelho and Jolliffe 2008), and the variance of quality.
    """

    estimate: Float[np.ndarray, " b"]
    quality: Float[np.ndarray, " b"]
    low: Float[np.ndarray, " b"]
    high: Float[np.ndarray, " b"]
    count: Int[np.ndarray, " b"]
    ece: float
    by_chance: float
    limit: float
    reliability: float
    resolution: float
    uncertainty: float

    @property
    def calibrated(self) -> bool:
        """Whether the calibration error is within chance."""
        return self.ece <= self.limit


def measure(
    scores: Callable[[Float[np.ndarray, "R M"]], dict[str, Float[np.ndarray, "R K"]]],
    moments: Float[np.ndarray, "n M"],
    resamples: int = 0,
    confidence: float = 0.95,
    **bootstrap: Any,
) -> dict[str, Measured]:
    """Return functions of mean moments, with intervals where there are resamples.

    `bootstrap` are `seed` and `rows` of `cascjax.metrics.bootstrap.resampled_means`.
    """
    ends = {}
    if resamples:
        drawn = scores(resampled_means(moments.astype(np.float32), resamples, **bootstrap))
        ends = {name: interval(x, confidence) for name, x in drawn.items()}
    values = scores(moments.mean(0)[None])
    return {name: Measured(x[0], ends.get(name)) for name, x in values.items()}


def accuracy(
    estimate: Float[np.ndarray, "n K"],
    quality: Float[np.ndarray, "n K"],
    prior: Float[np.ndarray, " K"],
    **bootstrap: Any,
) -> Accuracy:
    """Return the accuracy of estimates of n queries; `bootstrap` as in `measure`.

    The prior is each model's mean quality on other queries: a constant estimate to beat.
    """
    q = quality.astype(np.float64)
    # Centred: then the sums of float32 lose nothing to a common offset.
    middle = q.mean(0)
    prior_brier = np.square(q - prior).mean(0)
    e, q = estimate - middle, q - middle

    def scores(means: Float[np.ndarray, "R M"]) -> dict[str, np.ndarray]:
        e, q, ee, qq, eq, error = np.split(means, 6, axis=1)
        spread_q, spread_e = qq - q * q, ee - e * e
        with np.errstate(divide="ignore", invalid="ignore"):
            return {
                "r2": np.where(spread_q > _TINY * qq, 1 - error / spread_q, np.nan),
                "brier": error,
                "bias": e - q,
                "slope": np.where(spread_e > _TINY * ee, (eq - e * q) / spread_e, np.nan),
            }

    moments = np.concatenate([e, q, e * e, q * q, e * q, np.square(e - q)], axis=1)
    return Accuracy(prior_brier=prior_brier, **measure(scores, moments, **bootstrap))


def differences_r2(
    estimate: Float[np.ndarray, "n K"], quality: Float[np.ndarray, "n K"]
) -> Float[np.ndarray, "K K"]:
    """Return R2 of the difference between every two models; nan where it never varies."""
    q = quality.astype(np.float64)
    q, error = q - q.mean(0), estimate - q

    def mean_square(x: Float[np.ndarray, "n K"]) -> Float[np.ndarray, "K K"]:
        products = x.T @ x / len(x)
        own = np.diagonal(products)
        return own[:, None] + own - 2 * products

    spread, size = mean_square(q), np.square(q).mean(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        r2 = 1 - mean_square(error) / spread
    return np.where(spread > _TINY * (size[:, None] + size), r2, np.nan)


def pooled_differences_r2(
    estimate: Float[np.ndarray, "n K"], quality: Float[np.ndarray, "n K"], **bootstrap: Any
) -> Measured:
    """Return R2 of the differences of all pairs of models together, which a choice depends on.

    1 - (sum over pairs of the mean squared error of the estimated difference) / (sum over pairs of
    the variance of the true one). Since the sum over pairs of (d_i - d_j)^2 is K times the sum of
    (d_i - mean d)^2, no pair has to be looked at. `bootstrap` is as in `measure`; the score has
    K = 1, and is NaN where the differences never vary.
    """
    e, q = estimate.astype(np.float64), quality.astype(np.float64)
    rounding = _TINY * float(np.square(q).sum(1).mean())
    e, q = e - e.mean(1, keepdims=True), q - q.mean(1, keepdims=True)
    middle = q.mean(0)
    q, e = q - middle, e - middle
    squares = [np.square(x).sum(1, keepdims=True) for x in (q, e - q)]

    def r2(means: Float[np.ndarray, "R M"]) -> dict[str, Float[np.ndarray, "R 1"]]:
        spread = means[:, -2] - np.square(means[:, :-2]).sum(1)
        with np.errstate(divide="ignore", invalid="ignore"):
            r2 = np.where(spread > rounding, 1 - means[:, -1] / spread, np.nan)
        return {"r2": r2[:, None]}

    return measure(r2, np.concatenate([q, *squares], axis=1), **bootstrap)["r2"]


def reliability(
    estimate: Float[np.ndarray, " n"],
    quality: Float[np.ndarray, " n"],
    *,
    bins: int = 10,
    confidence: float = 0.95,
    seed: int = 0,
) -> Reliability:
    """Return the estimates of one model against its quality, bin by bin.

    Bins hold about equally many queries, and equal estimates share a bin. The intervals of mean
    quality are Wilson's where every quality is 0 or 1, else Student's t. `confidence` is also the
    one of the limit, `seed` draws the error under chance.
    """
    e, q = estimate.astype(np.float64), quality.astype(np.float64)
    n, place = len(e), equal_mass(e, bins)
    count = np.bincount(place)
    mean_e, mean_q = (np.bincount(place, x) / count for x in (e, q))
    low, high = _bin_intervals(place, q, mean_q, count, confidence)
    weight, miss = count / n, mean_q - mean_e
    # If the bins were calibrated, each would miss by chance alone, as the errors within it scatter.
    scatter = np.bincount(place, np.square(q - e - miss[place])) / np.maximum(count - 1, 1)
    chance = np.random.default_rng(seed).standard_normal((_DRAWS, len(count)))
    drawn = np.abs(chance * np.sqrt(scatter / count)) @ weight
    squared, uncertainty = float(weight @ miss**2), float(q.var())
    return Reliability(
        estimate=mean_e,
        quality=mean_q,
        low=low,
        high=high,
        count=count,
        ece=float(weight @ np.abs(miss)),
        by_chance=float(drawn.mean()),
        limit=float(np.quantile(drawn, confidence)),
        reliability=squared,
        resolution=squared + uncertainty - float(np.square(e - q).mean()),
        uncertainty=uncertainty,
    )


def equal_mass(estimate: Float[np.ndarray, " n"], bins: int) -> Int[np.ndarray, " n"]:
    """Return the bin of each query, counted from 0 in rising estimate; no bin is empty."""
    ranked = np.sort(estimate)
    cuts = ranked[np.arange(1, bins) * len(ranked) // bins]
    place = np.searchsorted(np.unique(cuts), estimate, side="right")
    return np.unique(place, return_inverse=True)[1].reshape(-1)


def _bin_intervals(
    place: Int[np.ndarray, " n"],
    quality: Float[np.ndarray, " n"],
    mean: Float[np.ndarray, " b"],
    count: Int[np.ndarray, " b"],
    confidence: float,
) -> tuple[Float[np.ndarray, " b"], Float[np.ndarray, " b"]]:
    from scipy import stats

    if np.isin(quality, (0, 1)).all():
        right = np.rint(mean * count).astype(int).tolist()
        ends = [
            stats.binomtest(hits, n).proportion_ci(confidence, method="wilson")
            for hits, n in zip(right, count.tolist(), strict=True)
        ]
        return np.array([end.low for end in ends]), np.array([end.high for end in ends])
    free = np.maximum(count - 1, 1)
    spread = np.bincount(place, np.square(quality - mean[place])) / free
    half = stats.t.ppf((1 + confidence) / 2, free) * np.sqrt(spread / count)
    half = np.where(count > 1, half, np.nan)  # one query has no spread
    return mean - half, mean + half


def correlation(values: Float[np.ndarray, "n K"]) -> Float[np.ndarray, "K K"]:
    """Return the correlation between columns; nan where one does not vary, but 1 with itself."""
    v = values.astype(np.float64)
    v = v - v.mean(0)
    size = np.sqrt(np.square(v).mean(0))
    known = size > _TINY * np.abs(values).max(initial=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        matrix = v.T @ v / len(v) / np.outer(size, size)
    matrix[~known] = matrix[:, ~known] = np.nan
    np.fill_diagonal(matrix, 1.0)
    return matrix
