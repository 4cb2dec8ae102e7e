"""Independent estimators: a model's estimate moves only when that model runs."""

from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from cascjax.core.checks import check_normal, check_numbers
from cascjax.core.estimates import Estimator, Independent
from cascjax.data.table import Table, mean_rows
from cascjax.errors import CascjaxError, check_name
from cascjax.estimators.run_sets import RunSets
from cascjax.estimators.statistics import Line, Moments, fit_lines

NOISE_LEVELS = {
    "low": (0.6, 0.3, 0.0002, 0.00005),
    "medium": (1.6, 0.8, 0.0004, 0.0001),
    "high": (2.4, 1.2, 100.0, 100.0),
}
"""The paper's RouterBench noise: sigma of quality ante, post, and of cost ante, post."""

_RANGES = (0.1, 1.5)
"""Ranges of quality for which the noise levels, made for 0 to 1, are taken as they are."""

_CHECKED_QUERIES = 256
"""Queries of which a whole covariance is checked: an estimator is called to see it."""


def check_estimator(estimator: Estimator, table: Table) -> None:
    """Refuse an estimator whose uncertainty is none, once and before a job, naming the first.

    Every sigma of an `Independent` is read, in slices, and all that a `RunSets` is made of; of any
    other estimator, the means and covariance of the first queries while nothing has run. On the
    host: not for traced programs.
    """
    if isinstance(estimator, Independent):
        # One sigma for all queries: then no query is to be named.
        sigma = estimator.sigma[0] if len(estimator.sigma) == 1 else estimator.sigma
        way_out = "give standard deviations that are finite and not negative (quality_sigma)"
        check_numbers("sigma", sigma, 0.0, way_out, table.models)
        return
    if isinstance(estimator, RunSets):
        estimator.check(table.models)
        return
    shape = (min(table.n_queries, _CHECKED_QUERIES), table.n_models)
    # Traced, as in a simulation: not every estimator can be called otherwise.
    first = jax.jit(lambda these: these(jnp.zeros(shape, bool)))
    believed = first(estimator.take(slice(0, shape[0])))
    check_normal(believed.quality, believed.covariance, table.models)


def supplied(table: Table, fit_rows: Int[np.ndarray, " n"]) -> Independent:
    """Return the estimates in the columns of a table.

    Without a column quality_sigma, sigma is the standard deviation of ante minus post over the fit
    rows. Without cost columns, the cost of a model is its mean over the fit rows until it has run,
    and its true cost afterwards.

    Raises:
        CascjaxError: the table has no quality_ante or no quality_post.

    Example:
        >>> ones = np.ones((2, 2), np.float32)
        >>> supplied(Table(ones, ones, ones, 0 * ones), np.arange(2)).sigma.tolist()
        [[0.0, 0.0]]
    """
    ante, post = table.quality_ante, table.quality_post
    if ante is None or post is None:
        column = "quality_ante" if ante is None else "quality_post"
        raise CascjaxError(
            f"the table has no column {column!r}, which supplied estimates need; add the column, or"
            " use noisy()"
        )
    given = table.quality_sigma is not None
    sigma = None if given else Moments.of_difference(ante, post, fit_rows).sigma
    return from_columns(table, sigma, mean_rows(table.cost, fit_rows))


def from_columns(
    table: Table, sigma: Float[np.ndarray, " K"] | None, mean_cost: Float[np.ndarray, " K"]
) -> Independent:
    """Return supplied estimates; `sigma` and `mean_cost` stand in for columns that are missing."""
    assert table.quality_ante is not None
    assert table.quality_post is not None
    if table.quality_sigma is not None:
        sigmas = np.asarray(table.quality_sigma, np.float32)
    else:
        assert sigma is not None
        sigmas = sigma[None].astype(np.float32)
    cost_ante = table.cost_ante
    if cost_ante is None:
        cost_ante = np.broadcast_to(mean_cost.astype(np.float32), table.cost.shape)
    cost_post = table.cost if table.cost_post is None else table.cost_post
    return Independent(table.quality_ante, table.quality_post, sigmas, cost_ante, cost_post)


def noise_level(level: str | Sequence[float]) -> tuple[float, float, float, float]:
    """Return the four sigmas of a noise level, given by name or as they are."""
    if isinstance(level, str):
        check_name("noise level", level, NOISE_LEVELS)
        return NOISE_LEVELS[level]
    if len(level) != 4 or not all(0 <= sigma < np.inf for sigma in level):
        raise CascjaxError(f"noise must be four finite numbers, none negative, not {level}")
    return level  # pyright: ignore[reportReturnType]


def noise_scale(low: float, high: float) -> float:
    """Return the factor on the noise of quality of a named level, made for qualities from 0 to 1.

    Args:
        low: lowest quality.
        high: highest quality.

    Returns:
        1 if the range is between 0.1 and 1.5 or is 0, else the range.

    Example:
        >>> noise_scale(0.0, 1.0), noise_scale(0.0, 100.0), noise_scale(1.0, 10.0)
        (1.0, 100.0, 9.0)
    """
    span = high - low
    return 1.0 if _RANGES[0] <= span <= _RANGES[1] or not span else span


def noisy(
    table: Table,
    key: Array,
    level: Literal["low", "medium", "high"] | str | tuple[float, float, float, float] = "low",
) -> Independent:
    """Return the paper's RouterBench estimates: the truth with normal noise, then least squares.

    For each model the true value is regressed on its noisy copy, once for each noise, on all rows.
    The noise of quality of a named level is multiplied by `noise_scale` of the qualities' range.

    Args:
        table: N queries and K models with their true quality and cost.
        key: a JAX random key.
        level: a name in `NOISE_LEVELS`, or the standard deviations of the noise of quality ante,
            quality post, cost ante and cost post.

    Raises:
        CascjaxError: an unknown level, or sigmas that are not four, or negative, or not finite.

    Example:
        >>> table = Table(np.eye(2, dtype=np.float32), np.ones((2, 2), np.float32))
        >>> noisy(table, jax.random.key(0), (0.0, 0.0, 0.0, 0.0)).quality_ante.tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    sigmas, shape = noise_level(level), table.quality.shape
    if isinstance(level, str):
        scale = noise_scale(float(table.quality.min()), float(table.quality.max()))
        sigmas = (sigmas[0] * scale, sigmas[1] * scale, *sigmas[2:])
    keys = jax.random.split(key, 4)
    noise = np.stack([jax.random.normal(k, shape, np.float32) for k in keys])
    *lines, sigma = fit_lines(Moments.of_noise(table.quality, *noise[:2]), sigmas[:2])
    lines += fit_lines(Moments.of_noise(table.cost, *noise[2:]), sigmas[2:])[:2]
    return from_lines(table, lines, noise, sigma)


def from_lines(
    table: Table,
    lines: Sequence[Line],
    noise: Float[np.ndarray, "4 N K"],
    sigma: Float[np.ndarray, " K"],
) -> Independent:
    """Return noisy estimates; lines and noise of quality ante, post, and cost ante, post."""
    truths = (table.quality, table.quality, table.cost, table.cost)
    ante, post, cost_ante, cost_post = (
        line.predict(true, unit) for line, true, unit in zip(lines, truths, noise, strict=True)
    )
    return Independent(ante, post, sigma[None].astype(np.float32), cost_ante, cost_post)


def truth(table: Table) -> Independent:
    """Return the true quality and cost as estimates before and after a model runs.

    Example:
        >>> ones = np.ones((2, 2), np.float32)
        >>> truth(Table(ones, 3 * ones)).cost_ante.tolist()
        [[3.0, 3.0], [3.0, 3.0]]
    """
    none = np.zeros((1, table.n_models), np.float32)
    return Independent(table.quality, table.quality, none, table.cost, table.cost)
