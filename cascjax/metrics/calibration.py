"""How good estimates of quality are: accuracy, calibration, and what tells models apart."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from cascjax.metrics.bootstrap import interval, resampled_means

_DRAWS = 4000
"""Of what chance alone would make of a calibration error."""


@dataclass(frozen=True)
class Measured:
    """A score of each of K models (or of a single thing: K = 1), and its interval.

    Attributes:
        value: `[K]` the score; nan where there is none.
        ends: `[K, 2]` the interval's ends, or None where nothing was resampled.
    """

    value: Float[np.ndarray, " K"]
    ends: Float[np.ndarray, "K 2"] | None = None


@dataclass(frozen=True)
class Accuracy:
    """How near estimates of K models come to the truth.

    Attributes:
        r2: share of the variance of quality that the estimates explain; below 0 where the mean
            would do better, nan where quality does not vary.
        brier: mean squared error; of qualities of 0 and 1 the Brier score (Brier 1950).
        prior_brier: `[K]` the same of each model's mean quality on other queries.
        bias: mean estimate less mean quality.
        slope: of the least-squares line of quality on the estimate (Cox 1958, "Two further
            applications of a model for binary regression", here linear): 1 where estimates are
            calibrated, below where they are too bold; nan where they do not vary.
    """

    r2: Measured
    brier: Measured
    prior_brier: Float[np.ndarray, " K"]
    bias: Measured
    slope: Measured


@dataclass(frozen=True)
class Reliability:
    """One model's estimates against its quality, in b bins of about equally many queries.

    Attributes:
        estimate: `[b]` mean estimate.
        quality: `[b]` mean quality.
        low: `[b]` lower end of the interval of mean quality.
        high: `[b]` upper end.
        count: `[b]` queries.
        ece: expected calibration error, the mean over queries of |mean quality - mean estimate|
            of their bin (Naeini, Cooper and Hauskrecht, AAAI 2015; bins of equal mass as Nixon et
            al., CVPR workshops 2019, have them). Chance alone makes it positive.
        by_chance: what it would be on average if every bin were calibrated.
        limit: what it would not exceed then, with the confidence of the intervals.
        reliability: of the Brier score's parts (Murphy 1973), the squared errors of bins: 0 is
            best.
        resolution: how far the qualities of queries of different estimates lie apart, within bins
            too (the generalized resolution of Stephenson, Coelho and Jolliffe 2008): then Brier
            score = reliability - resolution + uncertainty exactly.
        uncertainty: variance of quality.
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
        """Whether the calibration error is no more than chance would make it."""
        return self.ece <= self.limit


def accuracy(
    estimate: Float[np.ndarray, "n K"],
    quality: Float[np.ndarray, "n K"],
    prior: Float[np.ndarray, " K"],
    *,
    rows: Int[np.ndarray, " n"] | None = None,
    resamples: int = 0,
    confidence: float = 0.95,
    seed: int = 0,
) -> Accuracy:
    """Accuracy of estimates of n queries.

    Args:
        estimate: what is believed.
        quality: the truth.
        prior: mean quality of each model on other queries: what a constant would estimate.
        rows: see `cascjax.metrics.bootstrap.resampled_means`.
        resamples: of the queries, for intervals; 0 for none.
        confidence: of the intervals.
        seed: of the resamples.
    """
    from sklearn.metrics import mean_squared_error, r2_score  # half a second to import

    e, q = estimate.astype(np.float64), quality.astype(np.float64)
    k = e.shape[1]
    # Of a constant scikit-learn would make 1 or minus infinity: there is none to speak of.
    varies = np.ptp(q, axis=0) > 0
    r2 = np.full(k, np.nan)
    if varies.any():
        r2[varies] = r2_score(q[:, varies], e[:, varies], multioutput="raw_values")
    brier = np.asarray(mean_squared_error(q, e, multioutput="raw_values"))
    constant = np.broadcast_to(prior, q.shape)
    prior_brier = np.asarray(mean_squared_error(q, constant, multioutput="raw_values"))
    # Centred: then the sums of float32 lose nothing to a common offset.
    middle = q.mean(0)
    moments = _moments(e - middle, q - middle)
    point = _scores(moments.mean(0)[None], k)
    scores = {name: value[0] for name, value in point.items()} | {"r2": r2, "brier": brier}
    ends: dict[str, np.ndarray | None] = dict.fromkeys(scores)
    if resamples:
        drawn = resampled_means(moments.astype(np.float32), resamples, seed, rows=rows)
        ends |= {name: interval(of, confidence) for name, of in _scores(drawn, k).items()}
    of = {name: Measured(value, ends[name]) for name, value in scores.items()}
    return Accuracy(of["r2"], of["brier"], prior_brier, of["bias"], of["slope"])


def _moments(e: Float[np.ndarray, "n K"], q: Float[np.ndarray, "n K"]) -> np.ndarray:
    """`[n, 6K]` what the scores are worked out from the means of."""
    return np.concatenate([e, q, e * e, q * q, e * q, np.square(e - q)], axis=1)


def _scores(means: Float[np.ndarray, "R M"], k: int) -> dict[str, np.ndarray]:
    """The scores `[R, K]` by name, of means of the moments."""
    e, q, ee, qq, eq, error = means.reshape(len(means), 6, k).transpose(1, 0, 2)
    spread_q, spread_e = qq - q * q, ee - e * e
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "r2": np.where(spread_q > _TINY * qq, 1 - error / spread_q, np.nan),
            "brier": error,
            "bias": e - q,
            "slope": np.where(spread_e > _TINY * ee, (eq - e * q) / spread_e, np.nan),
        }


_TINY = 1e-9
"""A variance that is less than this share of the mean square is none, but rounding."""


def differences_r2(
    estimate: Float[np.ndarray, "n K"], quality: Float[np.ndarray, "n K"]
) -> Float[np.ndarray, "K K"]:
    """R2 of the estimated difference of every two models; nan where the true one never varies.

    A constant offset between two models is not counted as explained: it takes no estimator.
    """
    from sklearn.metrics import r2_score

    k = estimate.shape[1]
    found = np.full((k, k), np.nan)
    e, q = estimate.astype(np.float64), quality.astype(np.float64)
    for i in range(k - 1):
        apart_e, apart_q = e[:, i, None] - e[:, i + 1 :], q[:, i, None] - q[:, i + 1 :]
        varies = np.flatnonzero(np.ptp(apart_q, axis=0) > 0)
        if len(varies):
            r2 = r2_score(apart_q[:, varies], apart_e[:, varies], multioutput="raw_values")
            found[i, i + 1 + varies] = found[i + 1 + varies, i] = r2
    return found


def pooled_differences_r2(
    estimate: Float[np.ndarray, "n K"],
    quality: Float[np.ndarray, "n K"],
    *,
    rows: Int[np.ndarray, " n"] | None = None,
    resamples: int = 0,
    confidence: float = 0.95,
    seed: int = 0,
) -> Measured:
    """R2 of the differences of all pairs of models together: what a choice between them lives on.

    1 - (sum over pairs of the mean squared error of the estimated difference) / (sum over pairs of
    the variance of the true one). Since sum over pairs of (d_i - d_j)^2 is K times the sum of
    (d_i - mean d)^2, no pair has to be looked at.

    Args:
        estimate: what is believed.
        quality: the truth.
        rows: see `accuracy`.
        resamples: see `accuracy`.
        confidence: see `accuracy`.
        seed: see `accuracy`.

    Returns:
        A score of K = 1; nan where the differences never vary.
    """
    e, q = estimate.astype(np.float64), quality.astype(np.float64)
    rounding = _TINY * float(np.square(q).sum(1).mean())
    e, q = e - e.mean(1, keepdims=True), q - q.mean(1, keepdims=True)
    q, e = q - (middle := q.mean(0)), e - middle
    moments = np.concatenate(
        [q, np.square(q).sum(1, keepdims=True), np.square(e - q).sum(1, keepdims=True)], axis=1
    )

    def r2(means: Float[np.ndarray, "R M"]) -> Float[np.ndarray, "R 1"]:
        spread = means[:, -2] - np.square(means[:, :-2]).sum(1)
        with np.errstate(divide="ignore", invalid="ignore"):
            found = np.where(spread > rounding, 1 - means[:, -1] / spread, np.nan)
        return found[:, None]

    value, ends = r2(moments.mean(0)[None])[0], None
    if resamples:
        drawn = resampled_means(moments.astype(np.float32), resamples, seed, rows=rows)
        ends = interval(r2(drawn), confidence)
    return Measured(value, ends)


def reliability(
    estimate: Float[np.ndarray, " n"],
    quality: Float[np.ndarray, " n"],
    *,
    bins: int = 10,
    confidence: float = 0.95,
    seed: int = 0,
) -> Reliability:
    """Estimates of one model against its quality, bin by bin.

    Bins hold about equally many queries, and equal estimates share a bin. The intervals of mean
    quality are Wilson's where every quality is 0 or 1, else Student's t.

    Args:
        estimate: what is believed.
        quality: the truth.
        bins: how many, fewer where estimates are equal.
        confidence: of the intervals and of the limit.
        seed: of the draws that tell what chance would make of the error.
    """
    e, q = estimate.astype(np.float64), quality.astype(np.float64)
    n, place = len(e), equal_mass(e, bins)
    count = np.bincount(place)
    mean_e, mean_q = (np.bincount(place, of) / count for of in (e, q))
    binary = bool(np.isin(q, (0, 1)).all())
    low, high = _bin_intervals(place, q, mean_q, count, binary, confidence)
    weight, miss = count / n, mean_q - mean_e
    # Were the bins calibrated, each would miss by chance alone, as the errors within it scatter.
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
    """The bin of each query, counted from 0 in rising estimate; no bin is empty."""
    ranked = np.sort(estimate)
    cuts = ranked[np.arange(1, bins) * len(ranked) // bins]
    place = np.searchsorted(np.unique(cuts), estimate, side="right")
    return np.unique(place, return_inverse=True)[1].reshape(-1)


def _bin_intervals(
    place: Int[np.ndarray, " n"],
    quality: Float[np.ndarray, " n"],
    mean: Float[np.ndarray, " b"],
    count: Int[np.ndarray, " b"],
    binary: bool,
    confidence: float,
) -> tuple[Float[np.ndarray, " b"], Float[np.ndarray, " b"]]:
    from scipy import stats

    if binary:
        right = np.rint(mean * count).astype(int).tolist()
        ends = [
            stats.binomtest(hits, of).proportion_ci(confidence, method="wilson")
            for hits, of in zip(right, count.tolist(), strict=True)
        ]
        return np.array([end.low for end in ends]), np.array([end.high for end in ends])
    free = np.maximum(count - 1, 1)
    spread = np.bincount(place, np.square(quality - mean[place])) / free
    half = stats.t.ppf((1 + confidence) / 2, free) * np.sqrt(spread / count)
    half = np.where(count > 1, half, np.nan)  # one query tells nothing of others
    return mean - half, mean + half


def correlation(values: Float[np.ndarray, "n K"]) -> Float[np.ndarray, "K K"]:
    """Correlation between the columns; nan where one does not vary, but 1 with itself."""
    v = values.astype(np.float64)
    v = v - v.mean(0)
    size = np.sqrt(np.square(v).mean(0))
    known = size > _TINY * np.abs(values).max(initial=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = v.T @ v / len(v) / np.outer(size, size)
    found[~known] = found[:, ~known] = np.nan
    np.fill_diagonal(found, 1.0)
    return found
