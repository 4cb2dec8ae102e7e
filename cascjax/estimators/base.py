"""Run sets that estimators are functions of, and estimators with a sigma scale."""

from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from cascjax.core.estimates import Estimates, Estimator


@runtime_checkable
class Scalable(Estimator, Protocol):
    """An estimator whose stated sigmas may be off by a factor, as those of learned estimates."""

    def scaled(self, sigma_scale: float) -> "Estimator":
        """Return the same estimates with every sigma multiplied by a number."""
        ...


@jax.jit
def estimates_of(
    estimator: Estimator, run: Bool[Array, "B K"] | Bool[np.ndarray, "B K"]
) -> Estimates:
    """Return the estimates of B queries once `run` has run, compiled."""
    return estimator(jnp.asarray(run))


def every_run_set(n_models: int) -> Bool[np.ndarray, "S K"]:
    """Return all S = 2**K run sets in binary order: bit i is set where model i has run."""
    return (np.arange(2**n_models)[:, None] >> np.arange(n_models)) & 1 == 1


def shown_by(
    run: Bool[np.ndarray, "S K"] | Bool[Array, "S K"],
    needs: Bool[np.ndarray, "D K"] | Bool[Array, "D K"],
) -> Bool[np.ndarray, "S D"] | Bool[Array, "S D"]:
    """Return which of D columns each run set shows: those all of whose models have run."""
    return (~needs[None] | run[:, None]).all(-1)  # pyright: ignore[reportReturnType]


def with_ran(
    run: Bool[np.ndarray, "S K"] | Bool[Array, "S K"],
) -> Bool[np.ndarray, "S K K"] | Bool[Array, "S K K"]:
    """Return the pairs of models of which one has run, whose covariance is 0."""
    return run[:, :, None] | run[:, None, :]
