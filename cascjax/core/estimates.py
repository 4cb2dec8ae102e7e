"""Estimates as pytrees: functions of what has run, and the two forms that fast rules read.

`Independent` and `Tabulated` hold arrays; any other estimator is a pytree that can be called.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol, TypeAlias, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from cascjax.core.expected_max import panels_needed

Matrix: TypeAlias = Float[Array, "*G B K"] | Float[np.ndarray, "*G B K"]

_SIZED_AT_ONCE = 1 << 14  # Queries that `Independent.sized` looks at at once


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Estimates:
    """Estimates of every model given what has run, for a batch of queries or for one query.

    Attributes:
        quality: `[B, K]` mean of each model's quality.
        covariance: how far the quality estimates may still move until every model has run:
            variances `[B, K]` where models are independent, else matrices `[B, K, K]`; 0 for
            models already run.
        cost: `[B, K]` cost of each model, in the table's cost unit.
        panels: `Independent.panels` of the estimator, None for any other estimator.

    Example:
      >>> import jax.numpy as jnp
      >>> quality, variance = jnp.array([0.5, 0.75]), jnp.array([0.25, 0.0625])
      >>> Estimates(quality, variance, cost=jnp.array([1.0, 3.0])).variance.tolist()
      [0.25, 0.0625]
    """

    quality: Float[Array, "*B K"]
    covariance: Float[Array, "*B K"] | Float[Array, "*B K K"]
    cost: Float[Array, "*B K"]
    panels: int | None = field(default=None, metadata={"static": True})

    @property
    def variance(self) -> Float[Array, "*B K"]:
        """Variance of each model's estimate alone: the diagonal of the covariance."""
        if self.covariance.ndim == self.quality.ndim:
            return self.covariance
        return jnp.diagonal(self.covariance, axis1=-2, axis2=-1)


@runtime_checkable
class Estimator(Protocol):
    """Estimates of B queries as a function of what has run on each.

    Implementations are frozen dataclasses registered as pytrees, so they pass through jit.

    Example:
      >>> import numpy as np
      >>> from cascjax import core
      >>> quality, cost = np.array([[0.5, 0.7]]), np.array([[1.0, 3.0]])
      >>> estimates = core.Independent(quality, quality, np.full((1, 2), 0.2), cost, cost)
      >>> isinstance(estimates, Estimator)
      True
    """

    def __call__(self, run: Bool[Array, "B K"]) -> Estimates:
        """Return the estimates once the models in `run` have answered."""
        ...

    def take(self, rows: slice | np.ndarray) -> "Estimator":
        """Return the estimator of a subset of its queries."""
        ...


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Tabulated:
    """Estimates of B queries under each of S run sets, queries last.

    Run sets count in binary: bit i of their number is set where model i has run. The S sets are
    all 2**K in that order, or those that were asked for in the order asked.

    Attributes:
        quality: `[S, K, B]` mean of each model's quality; `[S, 1, B]` where one model per run set
            was asked for.
        covariance: `[S, K, K]` covariance of (estimate under the run set) - (estimate once every
            model has run), the same for all queries; 0 in rows and columns of models that have run.
        cost: `[S, K, B]` cost of each model that has not run, in the table's cost unit; or
            `[1, K, B]` where it does not depend on the run set; any number for models that have
            run. `[S, 0, B]` where one model per run set was asked for: no decision needs its cost.
    """

    quality: Float[Array, "S M B"]
    covariance: Float[Array, "S K K"]
    cost: Float[Array, "#S N B"]


@runtime_checkable
class Tabulable(Estimator, Protocol):
    """An estimator that can return its estimates under all run sets at once."""

    def tabulate(
        self,
        run_sets: Int[np.ndarray, " S"] | None = None,
        models: Int[np.ndarray, " S"] | None = None,
    ) -> Tabulated:
        """Return the estimates under these run sets, by default all 2**K; traceable.

        With `models` the quality of one model per run set alone.
        """
        ...


@runtime_checkable
class Grouped(Estimator, Protocol):
    """An estimator whose queries share what is costly to hold, in groups."""

    def groups(
        self, rows: range | Int[np.ndarray, " n"], *, apart: bool
    ) -> list[tuple[Estimator, Int[np.ndarray, " m"]]]:
        """Return the rows in groups: an estimator for each, and which of the rows are its own.

        What a group shares is on the device once, however often its estimator is cut by `take`,
        which still counts all queries. With `apart` each group is worked on by itself, at the
        price of rows that lie farther from each other; else there is one group.
        """
        ...


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Independent:
    """Estimates that jump from ex-ante to post-hoc once a model has run.

    To map over noise levels or seeds with vmap, stack the matrices along a first axis.

    Attributes:
        quality_ante: `[B, K]` quality as estimated before each model runs.
        quality_post: `[B, K]` quality as estimated once its answer is seen.
        sigma: `[1, K]` or `[B, K]` standard deviation of ante minus post.
        cost_ante: `[B, K]` cost as estimated before each model runs, in the table's cost unit.
        cost_post: `[B, K]` cost as estimated once it has run, in the table's cost unit.
        panels: number of equal panels that quadratures of E[max] cut their range into, 0 where the
            estimates do not allow for equal panels; None until `sized` has looked: then the knots
            are sorted, which is as exact and several times slower.

    Example:
      >>> import numpy as np
      >>> rng = np.random.default_rng(0)
      >>> ante, post, cost = rng.random((3, 100, 2), np.float32)
      >>> estimates = Independent(ante, post, np.full((1, 2), 0.3, np.float32), cost, cost)
      >>> estimates.shape
      (100, 2)
    """

    quality_ante: Matrix
    quality_post: Matrix
    sigma: Float[Array, "*G #B K"] | Float[np.ndarray, "*G #B K"]
    cost_ante: Matrix
    cost_post: Matrix
    panels: int | None = field(default=None, metadata={"static": True})

    @property
    def shape(self) -> tuple[int, int]:
        """Number of queries and number of models."""
        n_queries, n_models = np.shape(self.quality_ante)
        return n_queries, n_models

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
        """Return post-hoc estimates for the models in `run`, ex-ante estimates for the rest."""
        return Estimates(
            quality=jnp.where(run, self.quality_post, self.quality_ante),
            covariance=jnp.where(run, 0, jnp.square(self.sigma)),
            cost=jnp.where(run, self.cost_post, self.cost_ante),
            panels=self.panels,
        )

    def queries_last(self) -> tuple[Array, Array, Array, Array]:
        """Return quality ante, quality post, sigma and cost ante, each `[K, B]`.

        With queries last a sweep works on whole vectors of them.
        """
        sigma = jnp.broadcast_to(jnp.asarray(self.sigma), np.shape(self.quality_ante))
        leaves = (self.quality_ante, self.quality_post, sigma, self.cost_ante)
        ante, post, sigma, cost = (jnp.asarray(leaf).T for leaf in leaves)
        return ante, post, sigma, cost

    def corrected(
        self, scale: Float[np.ndarray, " K"], offset: Float[np.ndarray, " K"]
    ) -> "Independent":
        """Return the same with sigma times `scale`, and `offset` added to ex-ante quality."""
        ante = np.asarray(self.quality_ante) + np.asarray(offset, np.float32)
        sigma = self.sigma * np.asarray(scale, np.float32)
        return replace(self, quality_ante=ante, sigma=sigma, panels=None)

    def weighed(
        self, prices: Float[np.ndarray, " R"], more: Sequence[Float[np.ndarray, "N K"]]
    ) -> "Independent":
        """Return the estimates with several costs weighed into one."""
        # Only what is yet to run is ever weighed, so one matrix serves before and after.
        cost = np.float32(prices[0]) * np.asarray(self.cost_ante)
        for price, ante in zip(prices[1:], more, strict=True):
            if price:
                cost = cost + np.float32(price) * ante
        return replace(self, cost_ante=cost, cost_post=cost)

    def only(self, names: tuple[str, ...]) -> "Independent":
        """Return the same with NaN for every matrix but those named, which need not be read."""
        blank = np.broadcast_to(np.float32(np.nan), self.shape)
        matrices = [f.name for f in fields(Independent) if f.name != "panels"]
        return replace(self, **{name: blank for name in matrices if name not in names})

    def take(self, rows: slice | Int[np.ndarray, " n"]) -> "Independent":
        """Return the estimator of a subset of its queries."""
        ante, post, cost_ante, cost_post = (
            _take_rows(leaf, rows)
            for leaf in (self.quality_ante, self.quality_post, self.cost_ante, self.cost_post)
        )
        sigma = self.sigma if len(self.sigma) == 1 else _take_rows(self.sigma, rows)
        return Independent(ante, post, sigma, cost_ante, cost_post, self.panels)


def _take_rows(column: Any, rows: slice | Int[np.ndarray, " n"]) -> Any:
    """Return rows of an array: a view where they are a slice, or all the same."""
    if isinstance(rows, slice) or not isinstance(column, np.ndarray):
        return column[rows]
    if column.strides[0] == 0 and len(column) >= len(rows):
        return column[: len(rows)]
    # np.take is twice as fast as an index, but copies what is not contiguous, and whole.
    return column.take(rows, axis=0) if column.flags.c_contiguous else column[rows]
