"""How far scores would be apart on other queries of the same kind: the bootstrap."""

import math

import numpy as np
from jaxtyping import Float, Int

from cascjax.core.random import MIN_QUERIES, check_resamples, key_of, weighted_sums
from cascjax.errors import CascjaxError

DEFAULT_RESAMPLES = 1000

_QUICK = 100_000
"""Queries up to which so many resamples take seconds."""

_BLOCK = 1 << 12
"""Queries worked on at once: few enough for float32 sums."""


def check_confidence(confidence: float) -> None:
    """Refuses a confidence that is none.

    Raises:
        CascjaxError: it does not lie between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise CascjaxError(f"the confidence must lie between 0 and 1, not {confidence:g}")


def resamples_needed(confidence: float) -> int:
    """Resamples an interval takes at least: each tail beyond it holds one.

    Raises:
        CascjaxError: see `check_confidence`.
    """
    check_confidence(confidence)
    # 2 / (1 - 0.95) is 40 and not 41.
    return math.ceil(round(2 / (1 - confidence), 6))


def queries_needed(confidence: float) -> int:
    """Queries an interval takes at least: as many as resamples, or `MIN_QUERIES`.

    Of fewer, none is expected to show what the tails beyond the interval are like.

    Raises:
        CascjaxError: see `check_confidence`.
    """
    return max(MIN_QUERIES, resamples_needed(confidence))


def default_resamples(n_queries: int, confidence: float) -> int:
    """`DEFAULT_RESAMPLES` where that takes seconds and the queries suffice for it, else 0."""
    enough = queries_needed(confidence) <= n_queries <= _QUICK
    return DEFAULT_RESAMPLES if enough else 0


def check_bootstrap(resamples: int, confidence: float, n_queries: int) -> None:
    """Refuses, before any work, what gives no interval.

    Raises:
        CascjaxError: a confidence outside of (0, 1), or too few resamples or queries for it; says
            how many are needed.
    """
    queries, most = queries_needed(confidence), resamples_needed(confidence)
    check_resamples(resamples, max(n_queries, MIN_QUERIES))
    _check_enough(resamples, "resamples", most, confidence)
    _check_enough(n_queries, "queries", queries, confidence)


def _check_enough(count: int, what: str, needed: int, confidence: float) -> None:
    if count < needed:
        raise CascjaxError(
            f"{count:,} {what} are too few for an interval of confidence {confidence:g}: it needs"
            f" at least {needed:,}; bring more, or ask for less confidence"
        )


def interval(samples: Float[np.ndarray, "R *D"], confidence: float) -> Float[np.ndarray, "*D 2"]:
    """The percentile interval of a score: where the middle `confidence` of its resamples lies.

    The bootstrap's simplest (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993,
    section 13.3).

    Args:
        samples: the score in each of R resamples.
        confidence: between 0 and 1.

    Returns:
        Its lower and upper end.

    Raises:
        CascjaxError: see `check_confidence`, or too few resamples for it.
    """
    _check_enough(len(samples), "resamples", resamples_needed(confidence), confidence)
    tail = (1 - confidence) / 2
    return np.moveaxis(np.quantile(samples, [tail, 1 - tail], axis=0), 0, -1)


def resampled_means(
    values: Float[np.ndarray, "n M"],
    resamples: int,
    seed: int = 0,
    *,
    rows: Int[np.ndarray, " n"] | None = None,
) -> Float[np.ndarray, "R M"]:
    """Means over queries of what is measured of each, in every resample of a bootstrap.

    Scores resampled with one seed and the same rows are pairs: their difference, resample by
    resample, is that of the two on the same queries. So are the resamples of `frontier` and
    `study`.

    Args:
        values: M numbers of each of n queries.
        resamples: R.
        seed: of the resamples.
        rows: the numbers the queries go by, for instance their rows in a table, on which (and not
            on their order) their weights depend; by default 0, ..., n - 1.

    Raises:
        CascjaxError: see `check_resamples` and `key_of` in `cascjax.core.random`.
    """
    check_resamples(resamples, len(values))
    sums = _sums(values, resamples, seed, np.arange(len(values)) if rows is None else rows)
    return sums[:, :-1] / sums[:, -1:]


def weighted_totals(
    values: Float[np.ndarray, "n M"], resamples: int, seed: int, rows: Int[np.ndarray, " n"]
) -> Float[np.ndarray, "R M+1"]:
    """Sums of what `resampled_means` makes means of, then of the weights: those of lots add up.

    Args:
        values: see `resampled_means`; in float64, and of any size.
        resamples: see there.
        seed: see there.
        rows: see there; n may be 0.
    """
    # In float32 below: a cost per query may be too small for it as it is.
    size = np.abs(values).max(0, initial=0)
    size[size == 0] = 1
    sums = _sums((values / size).astype(np.float32), resamples, seed, rows)
    return sums * np.append(size, 1)


def _sums(
    values: Float[np.ndarray, "n M"], resamples: int, seed: int, rows: Int[np.ndarray, " n"]
) -> Float[np.ndarray, "R M+1"]:
    (n, m), key = values.shape, key_of(seed)
    size = min(_BLOCK, 1 << max(0, n - 1).bit_length())
    sums = np.zeros((resamples, m + 1))
    for start in range(0, n, size):
        part = values[start : start + size]
        block, row = np.zeros((m + 1, size), np.float32), np.zeros(size, np.uint32)
        block[:m, : len(part)], block[m, : len(part)] = part.T, 1
        row[: len(part)] = rows[start : start + size]
        sums += np.asarray(weighted_sums(resamples, key, row, block), np.float64)
    return sums


def aucs(
    cost: Float[np.ndarray, "R P"],
    quality: Float[np.ndarray, "R P"],
    single_cost: Float[np.ndarray, "R K"],
    single_quality: Float[np.ndarray, "R K"],
) -> Float[np.ndarray, " R"]:
    """The AUC under R frontiers at once, each as `auc` has it; NaN where there is no width.

    Args:
        cost: mean cost of each point.
        quality: mean quality of each point.
        single_cost: mean cost of each model alone.
        single_quality: mean quality of each model alone.
    """
    low, high = single_cost.min(1, keepdims=True), single_cost.max(1, keepdims=True)
    order = np.lexsort((quality, cost), axis=1)
    x, y = (np.take_along_axis(of, order, axis=1) for of in (cost, quality))
    # Points that reach both ends: of no width where nothing is to be joined.
    joined = x[:, :1] > low
    first = np.where(joined, low, x[:, :1])
    floor = np.where(joined, single_quality.min(1, keepdims=True), y[:, :1])
    x = np.concatenate([first, x, np.maximum(high, x[:, -1:])], axis=1)
    y = np.concatenate([floor, y, y[:, -1:]], axis=1)

    def at(cost: Float[np.ndarray, "R 1"]) -> Float[np.ndarray, "R 1"]:
        # Of points that cost the same the last, hence best, one counts.
        left = (x <= cost).sum(1, keepdims=True) - 1
        pair = np.concatenate([left, np.minimum(left + 1, x.shape[1] - 1)], axis=1)
        (x0, x1), (y0, y1) = (np.split(np.take_along_axis(of, pair, 1), 2, 1) for of in (x, y))
        return y0 + (y1 - y0) * (cost - x0) / np.where(x1 > x0, x1 - x0, 1)

    y = np.where(x <= low, at(low), np.where(x >= high, at(high), y))
    with np.errstate(invalid="ignore"):
        return np.trapezoid(y, np.clip(x, low, high), axis=1) / (high - low)[:, 0]


def differences(samples: Float[np.ndarray, "S R"], confidence: float) -> Float[np.ndarray, "S S 2"]:
    """Intervals of how much the first of two scores is above the second, for every two of S.

    Args:
        samples: each score in the same R resamples: pairs, whose common luck cancels.
        confidence: between 0 and 1.

    Raises:
        CascjaxError: see `interval`.
    """
    return np.stack([interval((one - samples).T, confidence) for one in samples])


def simultaneous(
    value: Float[np.ndarray, " S"], samples: Float[np.ndarray, "S R"], confidence: float
) -> Float[np.ndarray, "S 2"]:
    """Intervals of S scores that all hold at once, so that the best may be picked from them.

    Each is its score and as many standard errors either way as the largest of the S deviations
    keeps within (max-t: Romano and Wolf, "Stepwise multiple testing as formalized data snooping",
    Econometrica 2005).

    Args:
        value: the scores.
        samples: each score in the same R resamples.
        confidence: between 0 and 1.

    Raises:
        CascjaxError: see `interval`.
    """
    error = samples.std(1)
    away = np.abs(samples - value[:, None]) / np.where(error > 0, error, np.inf)[:, None]
    _check_enough(samples.shape[1], "resamples", resamples_needed(confidence), confidence)
    reach = np.quantile(away.max(0), confidence) * error
    return np.stack([value - reach, value + reach], axis=1)
