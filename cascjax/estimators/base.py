"""What an estimator is: a pytree and a pure function of the run set."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Estimates:
    """What is believed of every model, given what has run; of a batch of queries, or of one.

    Attributes:
        quality: `[B, K]` mean of each model's quality.
        covariance: how far the quality estimates may still move until every model has run:
            variances `[B, K]` where models are independent, else matrices `[B, K, K]`; 0 for
            models already run.
        cost: `[B, K]` cost of each model, in the table's cost unit.
    """

    quality: Float[Array, "*B K"]
    covariance: Float[Array, "*B K"] | Float[Array, "*B K K"]
    cost: Float[Array, "*B K"]

    @property
    def variance(self) -> Float[Array, "*B K"]:
        """Of each model's estimate alone: the covariance's diagonal."""
        if self.covariance.ndim == self.quality.ndim:
            return self.covariance
        return jnp.diagonal(self.covariance, axis1=-2, axis2=-1)


@runtime_checkable
class Estimator(Protocol):
    """Estimates of B queries as a function of what has run on each.

    Implementations are frozen dataclasses registered as pytrees, so they pass through jit.
    """

    def __call__(self, run: Bool[Array, "B K"]) -> Estimates:
        """Estimates once the models in `run` have answered."""
        ...

    def take(self, rows: slice | np.ndarray) -> "Estimator":
        """The estimator of some of its queries alone."""
        ...
