"""Estimates that move with every answer: one linear or logistic regression a run set and model."""

from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from cascjax.estimators.base import Estimates, Estimator
from cascjax.table import take_rows


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Tabulated:
    """What would be believed of B queries under every run set, queries last.

    Run sets count in binary: bit i of their number is set where model i has run.

    Attributes:
        quality: `[2**K, K, B]` mean of each model's quality.
        covariance: `[2**K, K, K]` of (estimate under the run set) - (estimate once every model has
            run), the same for all queries; rows and columns of models that have run are 0.
        cost: `[2**K, K, B]` cost of each model, in the table's cost unit; or `[1, K, B]` where it
            does not depend on the run set for models that have not run.
    """

    quality: Float[Array, "S K B"]
    covariance: Float[Array, "S K K"]
    cost: Float[Array, "#S K B"]


@runtime_checkable
class Tabulable(Estimator, Protocol):
    """An estimator that can say what it believes under all run sets at once."""

    def tabulate(self) -> Tabulated:
        """The estimates of every run set; traceable."""
        ...


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class RunSets:
    """Regressions on what a run set shows (paper, section 6), a row of weights a run set and model.

    Run sets count in binary: bit i of their number is set where model i has run.

    Attributes:
        seen: `[B, D]` all that is seen of a query once every model has run; the first column is 1.
        fold: `[B]` which of the F sets of weights each query is estimated with: one that was not
            fitted on it.
        quality_weights: `[F, 2**K, K, D]` of quality, 0 where a run set does not show a column.
        cost_weights: `[F, 2**K, K, D]` of cost, in the table's cost unit; `[F, 1, K, D]` where
            what has run tells nothing of the cost of the rest.
        covariance: `[2**K, K, K]`, as in `Tabulated`.
        cost_run: `[B, K]` cost of each model once it has run, in the table's cost unit.
        logistic: whether quality is the logistic function of the weighted sum, or the sum itself.
    """

    seen: Float[Array, "B D"] | Float[np.ndarray, "B D"]
    fold: Int[Array, " B"] | Int[np.ndarray, " B"]
    quality_weights: Float[Array, "F S K D"] | Float[np.ndarray, "F S K D"]
    cost_weights: Float[Array, "F #S K D"] | Float[np.ndarray, "F #S K D"]
    covariance: Float[Array, "S K K"] | Float[np.ndarray, "S K K"]
    cost_run: Float[Array, "B K"] | Float[np.ndarray, "B K"]
    logistic: bool = field(metadata={"static": True})

    def __call__(self, run: Bool[Array, "B K"]) -> Estimates:
        """The regressions of what has run on each query."""
        k = run.shape[-1]
        run_set = run.astype(jnp.int32) @ (1 << jnp.arange(k))
        seen, fold = jnp.asarray(self.seen), jnp.asarray(self.fold)
        quality = jnp.einsum("bkd,bd->bk", jnp.asarray(self.quality_weights)[fold, run_set], seen)
        of_cost = jnp.asarray(self.cost_weights)
        of_cost = of_cost[fold, run_set if of_cost.shape[1] > 1 else 0]
        cost = jnp.einsum("bkd,bd->bk", of_cost, seen)
        return Estimates(
            quality=jax.nn.sigmoid(quality) if self.logistic else quality,
            covariance=jnp.asarray(self.covariance)[run_set],
            cost=jnp.where(run, jnp.asarray(self.cost_run), cost),
        )

    def take(self, rows: slice | Int[np.ndarray, " n"]) -> "RunSets":
        """The estimator of some of its queries alone."""
        seen, fold, cost_run = (take_rows(x, rows) for x in (self.seen, self.fold, self.cost_run))
        return replace(self, seen=seen, fold=fold, cost_run=cost_run)
