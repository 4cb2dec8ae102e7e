"""Independent estimators: a model's estimate moves only when that model runs."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from cascjax.core.expected_max import check_normal, check_numbers, panels_needed
from cascjax.data.table import Table, mean_rows, take_rows
from cascjax.errors import CascjaxError, unknown_name
from cascjax.estimators.base import Estimates, Estimator
from cascjax.estimators.run_sets import RunSets

Matrix: TypeAlias = Float[Array, "B K"] | Float[np.ndarray, "B K"]

NOISE_LEVELS = {
    "low": (0.6, 0.3, 0.0002, 0.00005),
    "medium": (1.6, 0.8, 0.0004, 0.0001),
    "high": (2.4, 1.2, 100.0, 100.0),
}
"""The paper's RouterBench noise: sigma of quality ante, post, and of cost ante, post."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Independent:
    """Estimates that jump from ante to post once a model has run.

    Attributes:
        quality_ante: `[B, K]` quality as estimated before each model runs.
        quality_post: `[B, K]` quality as estimated once its answer is seen.
        sigma: `[1, K]` or `[B, K]` standard deviation of ante minus post.
        cost_ante: `[B, K]` cost as estimated before each model runs, in the table's cost unit.
        cost_post: `[B, K]` cost as estimated once it has run, in the table's cost unit.
        panels: equal panels that quadratures of E[max] cut their range into, 0 where the estimates
            do not allow for equal panels; None until `sized` has looked: then knots are sorted,
            which takes several times longer and is as exact.
    """

    quality_ante: Matrix
    quality_post: Matrix
    sigma: Float[Array, "#B K"] | Float[np.ndarray, "#B K"]
    cost_ante: Matrix
    cost_post: Matrix
    panels: int | None = field(default=None, metadata={"static": True})

    def sized(self) -> "Independent":
        """Return the same estimates with the panels that they need; on the host, not in a jit."""
        return self if self.panels is not None else self._sized

    @functools.cached_property
    def _sized(self) -> "Independent":
        most = 1
        for start in range(0, len(self.quality_ante), _SIZED_AT_ONCE):
            part = self.take(slice(start, start + _SIZED_AT_ONCE))
            needed = panels_needed(np.asarray(part.quality_ante), np.asarray(part.sigma))
            if needed is None:
                return replace(self, panels=0)
            most = max(most, needed)
        return replace(self, panels=most)

    def __call__(self, run: Bool[Array, "B K"]) -> Estimates:
        """Post-hoc estimates for the models in `run`, ex-ante ones for the rest."""
        return Estimates(
            quality=jnp.where(run, self.quality_post, self.quality_ante),
            covariance=jnp.where(run, 0, jnp.square(self.sigma)),
            cost=jnp.where(run, self.cost_post, self.cost_ante),
            panels=self.panels,
        )

    def queries_last(self) -> tuple[Array, Array, Array, Array]:
        """Quality ante, quality post, sigma and cost ante, each `[K, B]`.

        With queries last a sweep works on whole vectors of them.
        """
        sigma = jnp.broadcast_to(self.sigma, self.quality_ante.shape)
        leaves = (self.quality_ante, self.quality_post, sigma, self.cost_ante)
        ante, post, sigma, cost = (jnp.asarray(leaf).T for leaf in leaves)
        return ante, post, sigma, cost

    def corrected(
        self, scale: Float[np.ndarray, " K"], offset: Float[np.ndarray, " K"]
    ) -> "Independent":
        """The same with sigma times `scale`, and `offset` added to quality before a model runs."""
        ante = np.asarray(self.quality_ante) + np.asarray(offset, np.float32)
        sigma = self.sigma * np.asarray(scale, np.float32)
        return replace(self, quality_ante=ante, sigma=sigma, panels=None)

    def weighed(
        self, prices: Float[np.ndarray, " R"], more: Sequence[Float[np.ndarray, "N K"]]
    ) -> "Independent":
        """Return the estimates with several costs weighed into one.

        Args:
            prices: price of the estimates' own cost, then of each further cost.
            more: estimates of each further cost before a model runs.
        """
        # Only what is yet to run is ever weighed, so one matrix serves before and after.
        cost = np.float32(prices[0]) * np.asarray(self.cost_ante)
        for price, ante in zip(prices[1:], more, strict=True):
            if price:
                cost = cost + np.float32(price) * ante
        return replace(self, cost_ante=cost, cost_post=cost)

    def only(self, names: tuple[str, ...]) -> "Independent":
        """The same with nan for every matrix but those named, which need not be read then."""
        blank = np.broadcast_to(np.float32(np.nan), self.quality_ante.shape)
        kept = (*names, "panels")
        return replace(self, **{f.name: blank for f in fields(self) if f.name not in kept})

    def take(self, rows: slice | Int[np.ndarray, " n"]) -> "Independent":
        """The estimator of some of its queries alone."""
        ante, post, cost_ante, cost_post = (
            take_rows(leaf, rows)
            for leaf in (self.quality_ante, self.quality_post, self.cost_ante, self.cost_post)
        )
        sigma = self.sigma if len(self.sigma) == 1 else take_rows(self.sigma, rows)
        return Independent(ante, post, sigma, cost_ante, cost_post, self.panels)


_SIZED_AT_ONCE = 1 << 14
"""Queries that `Independent.sized` looks at at once."""

_CHECKED_QUERIES = 256
"""Queries of which a whole covariance is checked: an estimator is called to see it."""


def check_estimator(estimator: Estimator, table: Table) -> None:
    """Refuse an estimator whose uncertainty is none, once and before a job, naming the first.

    Every sigma of an `Independent` is read, in slices, and all that a `RunSets` is made of; of any
    other estimator, the means and covariance of the first queries while nothing has run. On the
    host: not for traced programs.

    Args:
        estimator: the estimates of all queries of the table.
        table: gives the numbers of queries and models, and the models' names for the message.

    Raises:
        CascjaxError: a sigma is negative or not finite, or what `RunSets.check` or
            `cascjax.core.expected_max.check_normal` refuses.
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
    noise = np.asarray(jax.random.normal(key, truth.shape))
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

    return np.sqrt(mean_rows(before, rows, after, of=squared))


def truth(table: Table) -> Independent:
    """What an oracle believes: the true quality and cost, before and after."""
    none = np.zeros((1, table.n_models), np.float32)
    return Independent(table.quality, table.quality, none, table.cost, table.cost)
