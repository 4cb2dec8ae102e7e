"""Better estimates than there are: refitted, perfect, or seeing more; and independent ones."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from cascjax.data.table import Table, mean_rows
from cascjax.estimators.base import Estimates, Estimator
from cascjax.estimators.independent import Independent

Side: TypeAlias = Literal["ante", "post"]
"""Estimates from before a model has run, or from after."""

_BLOCK = 1 << 14
"""Queries whose estimates are read at once."""


def blocks(n: int) -> Iterator[slice]:
    """Rows of n queries, so many at a time that their estimates under one run set are small."""
    return (slice(start, min(start + _BLOCK, n)) for start in range(0, n, _BLOCK))


def reduced(
    estimator: Estimator, table: Table
) -> tuple[Independent, Float[np.ndarray, "N K"] | Float[Array, "N K"]]:
    """An estimator as independent estimates, and its quality estimates once all models have run.

    Before: while nothing has run. After: of each model once it alone has run. Sigma is the spread
    of the difference over all queries, which the truth has no part in. Independent estimates are
    returned as they are.
    """
    if isinstance(estimator, Independent):
        return estimator, estimator.quality_post
    n, k = table.quality.shape
    ante, post, post_all, cost_ante, cost_post = (np.empty((n, k), np.float32) for _ in range(5))
    for part in blocks(n):
        these, shape = estimator.take(part), (part.stop - part.start, k)
        nothing = beliefs_of(these, np.zeros(shape, bool))
        ante[part], cost_ante[part] = nothing.quality, nothing.cost
        post_all[part] = beliefs_of(these, np.ones(shape, bool)).quality
        for i in range(k):
            alone = beliefs_of(these, np.broadcast_to(np.arange(k) == i, shape))
            post[part, i], cost_post[part, i] = alone.quality[:, i], alone.cost[:, i]
    sigma = _spread(ante, post, np.arange(n))
    return Independent(ante, post, sigma, cost_ante, cost_post), post_all


@jax.jit
def beliefs_of(
    estimator: Estimator, run: Bool[Array, "B K"] | Bool[np.ndarray, "B K"]
) -> Estimates:
    """Estimates of B queries once `run` has run, compiled."""
    return estimator(jnp.asarray(run))


def perfect_ante(estimator: Independent, table: Table) -> Independent:
    """Estimates that know every quality before any model runs, hence after; costs as estimated."""
    sigma = np.zeros((1, table.n_models), np.float32)
    return replace(estimator, quality_ante=table.quality, quality_post=table.quality, sigma=sigma)


def perfect_post(estimator: Independent, table: Table, rows: Int[np.ndarray, " n"]) -> Independent:
    """Estimates that know a model's quality once it has run, and are before as they were.

    Sigma is the spread of estimate less truth over the given rows.
    """
    sigma = _spread(np.asarray(estimator.quality_ante), table.quality, rows)
    return replace(estimator, quality_post=table.quality, sigma=sigma)


def refitted(estimator: Independent, table: Table, rows: Int[np.ndarray, " n"]) -> Independent:
    """What the same estimates give once made the best of, by least squares on the given rows.

    Before: quality regressed on the estimate from before. After: on both, for what was known
    before is known still. Sigma is the spread of their difference.
    """
    ante, post = estimator.quality_ante, estimator.quality_post
    return _with(
        estimator, table, rows,
        ante=_regressed(table.quality, [ante], rows),
        post=_regressed(table.quality, [ante, post], rows),
    )  # fmt: skip


def improved(
    estimator: Independent,
    table: Table,
    rows: Int[np.ndarray, " n"],
    side: Side,
    share: float,
    *,
    seed: int = 0,
) -> Independent:
    """Estimates of one side that explain a given share of what they leave unexplained.

    As in the paper's RouterBench protocol, better estimates are made by seeing more: beside the
    estimate e one sees o = truth + normal noise, and believes the least-squares fit of the truth on
    both. Such an estimate is without bias and of slope 1 whatever the share, and its R2 is
    1 - (1 - share)(1 - R2 of e refitted), for noise of variance v (1 - share) / share, v being what
    e leaves unexplained. Drawing e towards the truth instead, to (1 - t) e + t truth, would not
    do: of a calibrated e it makes estimates of a slope above 1, and it gives the truth away. Where
    e is the same for all queries and quality is 0 or 1, any t above 0 at all orders the queries
    without a mistake.

    Args:
        estimator: the estimates there are.
        table: the truth.
        rows: what the regressions and sigma are fitted on.
        side: "ante" or "post".
        share: from 0, a refit by least squares, to 1, the truth.
        seed: of the noise, which is another for each side.
    """
    e = np.asarray(estimator.quality_ante if side == "ante" else estimator.quality_post)
    refit = _regressed(table.quality, [e], rows)
    if share > 0:
        left = np.sqrt(mean_rows(refit, rows, table.quality, of=_squared_error))
        rng = np.random.default_rng([seed, 0 if side == "ante" else 1])
        noise = rng.standard_normal(e.shape, np.float32)
        seen = table.quality + noise * np.float32(np.sqrt((1 - share) / share)) * left
        refit = _regressed(table.quality, [e, seen], rows)
    return _with(estimator, table, rows, **{side: refit})


def _squared_error(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.square(one.astype(np.float64) - other)


def _with(
    estimator: Independent,
    table: Table,
    rows: Int[np.ndarray, " n"],
    *,
    ante: Float[np.ndarray, "N K"] | None = None,
    post: Float[np.ndarray, "N K"] | None = None,
) -> Independent:
    before = np.asarray(estimator.quality_ante) if ante is None else ante
    after = np.asarray(estimator.quality_post) if post is None else post
    sigma = _spread(before, after, rows)
    return replace(estimator, quality_ante=before, quality_post=after, sigma=sigma)


def _spread(
    before: Float[np.ndarray, "N K"], after: Float[np.ndarray, "N K"], rows: Int[np.ndarray, " n"]
) -> Float[np.ndarray, "1 K"]:
    """Standard deviation of before - after over some rows."""
    middle = mean_rows(before, rows) - mean_rows(after, rows)
    squared = mean_rows(
        before, rows, after, of=lambda a, b: np.square(a.astype(np.float64) - b - middle)
    )
    return np.sqrt(squared)[None].astype(np.float32)


def _regressed(
    truth: Float[np.ndarray, "N K"],
    seen: Sequence[Float[np.ndarray, "N K"] | Float[Array, "N K"]],
    rows: Int[np.ndarray, " n"],
) -> Float[np.ndarray, "N K"]:
    """Least-squares prediction of each column of `truth` from those of `seen`, fitted on `rows`."""
    predicted = np.empty(truth.shape, np.float32)
    for k in range(truth.shape[1]):
        columns = np.stack([np.asarray(of)[:, k].astype(np.float64) for of in seen], axis=1)
        fitted, aim = columns[rows], truth[rows, k].astype(np.float64)
        middle, level = fitted.mean(0), aim.mean()
        # Columns that do not vary, or vary as one, have weight 0: the least of all solutions.
        weights = np.linalg.lstsq(fitted - middle, aim - level)[0]
        predicted[:, k] = level + (columns - middle) @ weights
    return predicted
