"""Estimators that are not independent go through the simulator too, the plain way."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Bool, Float

from cascjax.estimators import Estimates, Independent
from cascjax.simulate import totals
from cascjax.strategies import Pandora, Routing

N, K = 37, 3


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Shared:
    """Independent estimates whose covariance is one matrix for all queries, not diagonal in form.

    It holds a leaf of K rows beside leaves of N: what is cut by query is the estimator's to say.
    """

    inner: Independent
    matrix: Float[Array, "K K"] | Float[np.ndarray, "K K"]

    def __call__(self, run: Bool[Array, "B K"]) -> Estimates:
        ahead = ~run[:, :, None] & ~run[:, None, :]
        return replace(self.inner(run), covariance=jnp.where(ahead, self.matrix, 0))

    def take(self, rows: slice | np.ndarray) -> "Shared":
        return Shared(self.inner.take(rows), self.matrix)


@pytest.mark.parametrize("n_queries", [N, K])
@pytest.mark.parametrize("strategy", [Routing(), Pandora()])
def test_any_estimator_is_simulated(strategy: Routing | Pandora, n_queries: int) -> None:
    rng = np.random.default_rng(n_queries)
    quality, ante, post, cost = rng.random((4, n_queries, K)).astype(np.float32)
    sigma = np.full((1, K), 0.3, np.float32)
    inner = Independent(ante, post, sigma, cost, cost)
    shared = Shared(inner, np.diag(np.square(sigma[0])))
    prices = np.array([0.01, 0.3, 2.0])
    fast = totals(strategy, prices, inner, quality, cost)
    plain = totals(strategy, prices, shared, quality, cost)
    # The same choices on every query; sums of a few dozen float32 numbers.
    np.testing.assert_array_equal(plain.ran, fast.ran)
    np.testing.assert_allclose(plain.cost, fast.cost, rtol=1e-6)
    np.testing.assert_allclose(plain.quality, fast.quality, rtol=1e-6)
