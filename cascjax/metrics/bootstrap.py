"""Bootstrap intervals: how scores would vary on other queries of the same kind."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from cascjax.core.auc import auc
from cascjax.core.random import MIN_QUERIES, check_resamples, key_of, weighted_sums
from cascjax.errors import CascjaxError
from cascjax.words import counted

DEFAULT_RESAMPLES = 1000


@dataclass(frozen=True)
class Bootstrap:
    """Number of resamples of the rows, and whether parameters are fitted again to each.

    Args:
        resamples: number of resamples; 0 for no intervals.
        refit: whether parameters are fitted again to a resample of the fit rows, so that an
            interval says how a result varies if all is done again with other rows; else it says how
            well these very parameters do on other rows. Estimators are not learned again. Refitted
            resamples are centred on what was found: a fit to a resample, noisier than one to the
            rows, gains less.

    Raises:
        CascjaxError: the number is negative.

    Reference: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993.

    Example:
        >>> Bootstrap(200, refit=False).resamples
        200
    """

    resamples: int = DEFAULT_RESAMPLES
    refit: bool = True

    def __post_init__(self) -> None:
        if self.resamples < 0:
            raise CascjaxError(f"resamples must be 0 or more, not {self.resamples}")


BLOCK = 1 << 12
"""Queries summed at once: few enough for float32 sums."""


def check_confidence(confidence: float) -> None:
    """Raise CascjaxError unless the confidence lies between 0 and 1."""
    if not 0 < confidence < 1:
        raise CascjaxError(f"the confidence must lie between 0 and 1, not {confidence:g}")


def resamples_needed(confidence: float) -> int:
    """Return the least number of resamples for an interval: each tail beyond it holds one."""
    check_confidence(confidence)
    # 2 / (1 - 0.95) is 40 and not 41.
    return math.ceil(round(2 / (1 - confidence), 6))


def queries_needed(confidence: float) -> int:
    """Return the least number of queries for an interval: `resamples_needed`, or `MIN_QUERIES`.

    Of fewer queries, none is expected to show what the tails beyond the interval are like.
    """
    return max(MIN_QUERIES, resamples_needed(confidence))


def check_bootstrap(resamples: int, confidence: float, n_queries: int) -> None:
    """Refuse a confidence outside 0 to 1, and too few resamples or queries for it."""
    check_confidence(confidence)
    check_resamples(resamples, max(n_queries, MIN_QUERIES))
    _check_enough(resamples, "resamples", resamples_needed(confidence), confidence)
    _check_enough(n_queries, "queries", queries_needed(confidence), confidence)


def too_few_queries(confidence: float, n_queries: int) -> str:
    """Return the note that default resamples were left out; nothing where queries are enough."""
    if n_queries >= (needed := queries_needed(confidence)):
        return ""
    return (
        f"no intervals (resamples=0): an interval of confidence {confidence:g} needs at least"
        f" {counted(needed, 'query', 'queries')}, and {n_queries:,} are evaluated"
    )


def _check_enough(count: int, noun: str, needed: int, confidence: float) -> None:
    if count < needed:
        raise CascjaxError(
            f"{count:,} {noun} are too few for an interval of confidence {confidence:g}: it needs"
            f" at least {needed:,}; use more, a lower confidence, or resamples=0 for none"
        )


def interval(samples: Float[np.ndarray, "R *D"], confidence: float) -> Float[np.ndarray, "*D 2"]:
    """Return the percentile interval: where the middle `confidence` of the resamples lies.

    Reference: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, section 13.3.
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
    block: int = BLOCK,
) -> Float[np.ndarray, "R M"]:
    """Return means over queries in every resample of a bootstrap.

    Scores resampled with the same seed and rows are pairs: their difference, resample by resample,
    is the difference on the same queries. The resamples of frontiers are the same. The weight of a
    query depends on its number in `rows`, by default 0, ..., n - 1, and not on its place.
    """
    check_resamples(resamples, len(values))
    rows = np.arange(len(values)) if rows is None else rows
    sums = weighted_totals(values, resamples, seed, rows, block)
    return sums[:, :-1] / sums[:, -1:]


def weighted_totals(
    values: Float[np.ndarray, "n M"],
    resamples: int,
    seed: int,
    rows: Int[np.ndarray, " n"],
    block: int = BLOCK,
) -> Float[np.ndarray, "R M+1"]:
    """Return weighted sums of values, and last of the weights, in every resample.

    The sums over chunks add up to the sums over all rows. Values may have any size, and n may be 0.
    """
    (n, m), key = values.shape, key_of(seed)
    # A cost per query may be too small for float32 as it is; powers of 2 round nothing.
    size = np.ldexp(1.0, np.frexp(np.abs(values).max(0, initial=0))[1])
    step = min(block, 1 << max(0, n - 1).bit_length())
    sums = np.zeros((resamples, m + 1))
    for start in range(0, n, step):
        part = values[start : start + step] / size
        columns, row = np.zeros((m + 1, step), np.float32), np.zeros(step, np.uint32)
        columns[:m, : len(part)], columns[m, : len(part)] = part.T, 1
        row[: len(part)] = rows[start : start + step]
        sums += np.asarray(weighted_sums(resamples, key, row, columns), np.float64)
    return sums * np.append(size, 1)


def aucs(
    cost: Float[np.ndarray, "R P"],
    quality: Float[np.ndarray, "R P"],
    single_cost: Float[np.ndarray, "R K"],
    single_quality: Float[np.ndarray, "R K"],
) -> Float[np.ndarray, " R"]:
    """Return the AUC of each of R frontiers, as `cascjax.core.auc`; NaN where there is no width."""
    wide = np.ptp(single_cost, axis=1) > 0
    curves = zip(cost, quality, single_cost, single_quality, strict=True)
    return np.array([auc(*curve) if w else np.nan for w, curve in zip(wide, curves, strict=True)])


def differences(samples: Float[np.ndarray, "S R"], confidence: float) -> Float[np.ndarray, "S S 2"]:
    """Return the intervals of the first of two scores less the second, for every two of S.

    Their common noise in the same resamples cancels.
    """
    return np.stack([interval((row - samples).T, confidence) for row in samples])


def simultaneous(
    value: Float[np.ndarray, " S"], samples: Float[np.ndarray, "S R"], confidence: float
) -> Float[np.ndarray, "S 2"]:
    """Return intervals of S scores that all hold at once, so that the best may be picked.

    Each reaches as many standard errors either way as the largest of the S deviations in the same
    resamples keeps within.

    Reference: max-t, Romano and Wolf, "Stepwise multiple testing as formalized data snooping",
    Econometrica 2005.
    """
    _check_enough(samples.shape[1], "resamples", resamples_needed(confidence), confidence)
    error = samples.std(1)
    away = np.abs(samples - value[:, None]) / np.where(error > 0, error, np.inf)[:, None]
    reach = np.quantile(away.max(0), confidence) * error
    return np.stack([value - reach, value + reach], axis=1)
