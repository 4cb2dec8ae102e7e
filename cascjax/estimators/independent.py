"""Independent estimators: a model's estimate moves only when that model runs."""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from cascjax.core.checks import check_normal, check_numbers
from cascjax.core.estimates import Estimator, Independent
from cascjax.data.table import Table, mean_rows
from cascjax.errors import CascjaxError, unknown_name
from cascjax.estimators.run_sets import RunSets

NOISE_LEVELS = {
    "low": (0.6, 0.3, 0.0002, 0.00005),
    "medium": (1.6, 0.8, 0.0004, 0.0001),
    "high": (2.4, 1.2, 100.0, 100.0),
}
"""The paper's RouterBench noise: sigma of quality ante, post, and of cost ante, post."""


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
    """The estimates that stand in the table.

    Without a column quality_sigma, sigma is the spread of ante minus post over the fit split.
    Without cost columns, the cost of a model is its mean over the fit split until it has run,
    and what it really cost from then on.

    Raises:
        CascjaxError: the table has no quality_ante or no quality_post.
    """
    ante, post = table.quality_ante, table.quality_post
    if ante is None or post is None:
        missing = "quality_ante" if ante is None else "quality_post"
        raise CascjaxError(
            f"the table has no column {missing!r}, which supplied estimates need;"
            " bring it, or use --estimates noisy"
        )
    sigma = table.quality_sigma
    if sigma is None:
        sigma = _spread(ante, post, fit_rows)[None]
    cost_ante = table.cost_ante
    if cost_ante is None:
        mean = mean_rows(table.cost, fit_rows).astype(np.float32)
        cost_ante = np.broadcast_to(mean, table.cost.shape)
    cost_post = table.cost if table.cost_post is None else table.cost_post
    return Independent(ante, post, np.asarray(sigma, np.float32), cost_ante, cost_post)


def noise_level(
    level: str | tuple[float, float, float, float],
) -> tuple[float, float, float, float]:
    """The four sigmas of a noise level, given by name or as they are.

    Raises:
        CascjaxError: an unknown level, or sigmas that are not four, or negative, or not finite.
    """
    if isinstance(level, str):
        if level not in NOISE_LEVELS:
            raise unknown_name("noise level", level, NOISE_LEVELS)
        return NOISE_LEVELS[level]
    if len(level) != 4 or not all(0 <= sigma < np.inf for sigma in level):
        raise CascjaxError(f"noise must be four finite numbers, none negative, not {level}")
    return level


def noisy(
    table: Table,
    key: Array,
    level: Literal["low", "medium", "high"] | str | tuple[float, float, float, float] = "low",
) -> Independent:
    """The paper's RouterBench protocol: the truth with normal noise, then least squares.

    For each model the true value is regressed on its noisy copy, once for each noise; the fits
    and sigma use all rows, since here the noise is the laboratory and nothing is learned.

    Args:
        table: the truth.
        key: a JAX random key.
        level: a name in `NOISE_LEVELS`, or the four sigmas quality ante, quality post, cost ante,
            cost post.

    Raises:
        CascjaxError: an unknown level, or sigmas that are not four, or negative, or not finite.
    """
    sigmas = noise_level(level)
    truths = (table.quality, table.quality, table.cost, table.cost)
    ante, post, cost_ante, cost_post = (
        _regressed(truth, sigma, k)
        for truth, sigma, k in zip(truths, sigmas, jax.random.split(key, 4), strict=True)
    )
    sigma = _spread(ante, post)[None].astype(np.float32)
    return Independent(ante, post, sigma, cost_ante, cost_post)


def _regressed(
    truth: Float[np.ndarray, "N K"], sigma: float, key: Array
) -> Float[np.ndarray, "N K"]:
    """Least-squares prediction of each column of `truth` from its noisy copy."""
    if not sigma:
        return truth.astype(np.float32)  # to the bit: what ties still does
    noise = np.asarray(jax.random.normal(key, truth.shape, np.float32))
    predicted = np.empty(truth.shape, np.float32)
    for k in range(truth.shape[1]):
        # In float64 on the host: a cost of 1e-5 under a noise of 100 leaves nothing in float32.
        # Model by model, so that no copy of the whole table is.
        true = truth[:, k].astype(np.float64)
        observed = true + sigma * noise[:, k].astype(np.float64)
        centred = observed - observed.mean()
        spread = np.square(centred).sum()
        slope = (centred * true).sum() / (spread if spread > 0 else 1)
        predicted[:, k] = true.mean() + slope * centred
    return predicted


def _spread(
    before: Float[np.ndarray, "N K"],
    after: Float[np.ndarray, "N K"],
    rows: Int[np.ndarray, " n"] | None = None,
) -> Float[np.ndarray, " K"]:
    """Standard deviation of before minus after, by default over all rows."""
    middle = mean_rows(before, rows) - mean_rows(after, rows)

    def squared(before: Float[np.ndarray, "n K"], after: Float[np.ndarray, "n K"]) -> np.ndarray:
        return np.square(before.astype(np.float64) - after - middle)

    return np.sqrt(mean_rows(before, rows, after, transform=squared))


def truth(table: Table) -> Independent:
    """What an oracle believes: the true quality and cost, before and after."""
    none = np.zeros((1, table.n_models), np.float32)
    return Independent(table.quality, table.quality, none, table.cost, table.cost)
