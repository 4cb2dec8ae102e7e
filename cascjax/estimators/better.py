"""Estimates better than the ones at hand: refitted, perfect, or with more information."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Array, Float, Int

from cascjax.core.estimates import Estimator, Independent
from cascjax.data.table import Table, mean_rows
from cascjax.estimators.base import estimates_of
from cascjax.estimators.statistics import Moments

Side: TypeAlias = Literal["ante", "post"]  # Estimates from before a model has run, or from after

Columns: TypeAlias = Float[np.ndarray, "N K"] | Float[Array, "N K"]

_BLOCK = 1 << 14  # Queries whose estimates are computed at once


def blocks(n: int) -> Iterator[slice]:
    """Return slices of n queries, small enough for their estimates under one run set."""
    return (slice(start, min(start + _BLOCK, n)) for start in range(0, n, _BLOCK))


def reduced(estimator: Estimator, table: Table) -> tuple[Independent, Columns]:
    """Return an estimator as independent estimates, and its qualities once all models have run.

    The ex-ante estimates are those while nothing has run, the post-hoc estimates of each model
    those once it alone has run. Sigma is the spread of the difference over all queries, which the
    truth has no part in. Independent estimates are returned as they are.
    """
    if isinstance(estimator, Independent):
        return estimator, estimator.quality_post
    n, k = table.quality.shape
    ante, post, post_all, cost_ante, cost_post = (np.empty((n, k), np.float32) for _ in range(5))
    for part in blocks(n):
        block, shape = estimator.take(part), (part.stop - part.start, k)
        nothing = estimates_of(block, np.zeros(shape, bool))
        ante[part], cost_ante[part] = nothing.quality, nothing.cost
        post_all[part] = estimates_of(block, np.ones(shape, bool)).quality
        for i in range(k):
            alone = estimates_of(block, np.broadcast_to(np.arange(k) == i, shape))
            post[part, i], cost_post[part, i] = alone.quality[:, i], alone.cost[:, i]
    return Independent(
        ante, post, _spread(ante, post, np.arange(n)), cost_ante, cost_post
    ), post_all


def perfect_ante(estimator: Independent, table: Table) -> Independent:
    """Return estimates that know every quality before any model runs; costs as estimated."""
    sigma = np.zeros((1, table.n_models), np.float32)
    return _with(estimator, table.quality, table.quality, sigma)


def perfect_post(estimator: Independent, table: Table, rows: Int[np.ndarray, " n"]) -> Independent:
    """Return estimates that know a model's quality once it has run, and are unchanged before.

    Sigma is the spread of estimate less truth over the given rows.
    """
    ante = estimator.quality_ante
    return _with(estimator, ante, table.quality, _spread(ante, table.quality, rows))


def refitted(estimator: Independent, table: Table, rows: Int[np.ndarray, " n"]) -> Independent:
    """Return the estimates refitted by least squares on the given rows.

    Ex-ante: quality regressed on the ex-ante estimate. Post-hoc: on both estimates, since what was
    known before is still known. Sigma is the spread of their difference.
    """
    ante, post = estimator.quality_ante, estimator.quality_post
    refit = _regressed(table.quality, [ante], rows), _regressed(table.quality, [ante, post], rows)
    return _with(estimator, *refit, _spread(*refit, rows))


def improved(
    estimator: Independent,
    table: Table,
    rows: Int[np.ndarray, " n"],
    side: Side,
    share: float,
    *,
    seed: int = 0,
) -> Independent:
    """Return estimates of one side that explain a given share of what they leave unexplained.

    As in the paper's RouterBench protocol, better estimates are made from more information: beside
    the estimate e an observation o = truth + normal noise, and the least-squares fit of the truth
    on both. Such an estimate has no bias and slope 1 whatever the share, and its R2 is
    1 - (1 - share)(1 - R2 of e refitted), for noise of variance v (1 - share) / share, v being what
    e leaves unexplained. Moving e towards the truth, to (1 - t) e + t truth, would not do: a
    calibrated e gets a slope above 1, and the truth is given away. Where e is the same for all
    queries and quality is 0 or 1, any t above 0 orders the queries without a mistake.
    """
    ante, post = estimator.quality_ante, estimator.quality_post
    e = ante if side == "ante" else post
    refit = _regressed(table.quality, [e], rows)
    if share > 0:
        error = refit.astype(np.float64) - table.quality
        left = np.sqrt(mean_rows(error, rows, transform=np.square))
        rng = np.random.default_rng([seed, 0 if side == "ante" else 1])
        noise = rng.standard_normal(e.shape, np.float32)
        seen = table.quality + noise * np.float32(np.sqrt((1 - share) / share)) * left
        refit = _regressed(table.quality, [e, seen], rows)
    both = (refit, post) if side == "ante" else (ante, refit)
    return _with(estimator, *both, _spread(*both, rows))


def _with(
    estimator: Independent, ante: Columns, post: Columns, sigma: Float[np.ndarray, "1 K"]
) -> Independent:
    return replace(estimator, quality_ante=ante, quality_post=post, sigma=sigma, panels=None)


def _spread(ante: Columns, post: Columns, rows: Int[np.ndarray, " n"]) -> Float[np.ndarray, "1 K"]:
    """Return the standard deviation of ante - post over some rows."""
    spread = Moments.of_difference(np.asarray(ante), np.asarray(post), rows)
    return spread.sigma[None].astype(np.float32)


def _regressed(
    truth: Float[np.ndarray, "N K"], inputs: Sequence[Columns], rows: Int[np.ndarray, " n"]
) -> Float[np.ndarray, "N K"]:
    """Return the least-squares prediction of each column of `truth`, fitted on `rows`."""
    inputs, predicted = [np.asarray(x) for x in inputs], np.empty(truth.shape, np.float32)
    for k in range(truth.shape[1]):
        columns = np.stack([x[:, k].astype(np.float64) for x in inputs], axis=1)
        fitted, aim = columns[rows], truth[rows, k].astype(np.float64)
        middle, level = fitted.mean(0), aim.mean()
        # Columns that do not vary, or vary as one, have weight 0: the least of all solutions.
        weights = np.linalg.lstsq(fitted - middle, aim - level)[0]
        predicted[:, k] = level + (columns - middle) @ weights
    return predicted
