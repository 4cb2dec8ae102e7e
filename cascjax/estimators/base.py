"""What an estimator is: a pytree and a pure function of the run set."""

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from cascjax.errors import unknown_name


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
        panels: `Independent.panels` of the estimator, None of any other.
    """

    quality: Float[Array, "*B K"]
    covariance: Float[Array, "*B K"] | Float[Array, "*B K K"]
    cost: Float[Array, "*B K"]
    panels: int | None = field(default=None, metadata={"static": True})

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


@runtime_checkable
class Scalable(Estimator, Protocol):
    """An estimator whose stated sigmas may be off by a factor, as those of learned estimates."""

    def scaled(self, sigma_scale: float) -> "Estimator":
        """Return the same estimates with every sigma multiplied by a number."""
        ...


KINDS = ("supplied", "noisy", "learned")
"""Kinds of estimates that can be asked for."""


def check_kind(estimates: str | None) -> None:
    """Refuses what is no kind of estimates; None leaves it open.

    Raises:
        CascjaxError: it is none.
    """
    if estimates not in (None, *KINDS):
        raise unknown_name("kind of estimates", estimates, KINDS)


def every_run_set(n_models: int) -> Bool[np.ndarray, "S K"]:
    """All S = 2**K run sets in binary order: bit i of a number is set where model i has run."""
    return (np.arange(2**n_models)[:, None] >> np.arange(n_models)) & 1 == 1


def shown_by(
    run: Bool[np.ndarray, "S K"] | Bool[Array, "S K"],
    needs: Bool[np.ndarray, "D K"] | Bool[Array, "D K"],
) -> Bool[np.ndarray, "S D"] | Bool[Array, "S D"]:
    """Which of D columns each run set shows: those all of whose models have run."""
    return (~needs[None] | run[:, None]).all(-1)  # pyright: ignore[reportReturnType]


def with_ran(
    run: Bool[np.ndarray, "S K"] | Bool[Array, "S K"],
) -> Bool[np.ndarray, "S K K"] | Bool[Array, "S K K"]:
    """The pairs of models of which one has run, whose covariance is 0."""
    return run[:, :, None] | run[:, None, :]
