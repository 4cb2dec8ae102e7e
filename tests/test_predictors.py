"""Predictors: against scikit-learn, and on functions whose truth is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import Ridge as SklearnRidge
from sklearn.neighbors import KNeighborsRegressor

from cascjax.errors import CascjaxError
from cascjax.estimators.predictors import Neighbours, Network, Predictor, Ridge

KEY = jax.random.key(0)

SMALL = Network(width=32, members=2, epochs=150)

EACH = [Ridge(), Neighbours(), SMALL]


def bent(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features and three heads: a curve, a product, and noise that nothing tells of."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 4)).astype(np.float32)
    y = np.stack([np.sin(2 * x[:, 0]), x[:, 1] * x[:, 2], np.zeros(n)], 1)
    return x, (y + 0.3 * rng.standard_normal(y.shape)).astype(np.float32)


@pytest.mark.parametrize(("n", "f"), [(40, 3), (25, 50)], ids=["more rows", "more features"])
def test_ridge_leaves_one_out_as_loops_do(n: int, f: int):
    rng = np.random.default_rng(n)
    x = rng.standard_normal((n, f)).astype(np.float32) + 0.5
    # Heads of very different noise: each wants a penalty of its own.
    noise = np.geomspace(0.1, 30, 4) * rng.standard_normal((n, 4))
    y = (x @ rng.standard_normal((f, 4)) + noise + 3).astype(np.float32)
    penalties = (1e-3, 1e-1, 10.0)

    def model(penalty: float, rows: np.ndarray) -> SklearnRidge:
        return SklearnRidge(alpha=penalty * n).fit(x[rows].astype(float), y[rows])

    errors = np.zeros((3, 4))
    for at, penalty in enumerate(penalties):
        for row in range(n):
            # The penalty stays that of all rows, and the mean goes with the row left out.
            predicted = model(penalty, np.arange(n) != row).predict(x[row : row + 1])[0]
            errors[at] += np.square(predicted - y[row])
    fitted, best = Ridge(penalties).fit(x, y), errors.argmin(0)
    assert len(set(best.tolist())) > 1
    for head, at in enumerate(best):
        expected = model(penalties[at], np.arange(n)).predict(x)[:, head]
        # Ours are float32 sums of numbers up to a few hundred.
        got = np.asarray(fitted.predict(x))[:, head]
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-3)


def test_neighbours_are_scikit_learns():
    x, y = bent(300, seed=5)
    new = bent(40, seed=6)[0]
    # One number of neighbours, and heads that want it: the mean of all rows is worse.
    y = y[:, :2]
    fitted = Neighbours((7,)).fit(x, y, KEY)
    assert np.asarray(fitted.choice).tolist() == [0, 0]
    theirs = KNeighborsRegressor(7).fit(x, y).predict(new)
    # Distances from products in float32 are off by 1e-6 of the squared lengths.
    np.testing.assert_allclose(fitted.predict(new), theirs, atol=1e-4)


def test_numbers_of_neighbours_are_those_of_least_error_left_out():
    x, y = bent(200, seed=7)
    candidates = (1, 3, 10, 30, 100)
    errors = np.zeros((len(candidates) + 1, 3))
    for row in range(len(x)):
        rest = np.arange(len(x)) != row
        nearest = np.argsort(np.square(x[rest] - x[row]).sum(1))
        heads = y[rest][nearest]
        for at, k in enumerate((*candidates, len(heads))):
            errors[at] += np.square(heads[:k].mean(0) - y[row])
    fitted = Neighbours(candidates).fit(x, y, KEY)
    assert np.asarray(fitted.choice).tolist() == errors.argmin(0).tolist()
    # What nothing tells of gets many neighbours or the mean.
    assert np.asarray(fitted.choice)[2] >= 4


def test_networks_find_what_lines_cannot():
    x, y = bent(1500, seed=8)
    new, true = bent(1000, seed=9)
    noise = 0.3**2
    error = {
        name: np.square(np.asarray(one.fit(x, y, KEY).predict(new)) - true).mean(0)
        for name, one in (("ridge", Ridge()), ("network", SMALL))
    }
    spread = true.var(0)
    # The curve and the product are uncorrelated, nearly, with every feature: lines see little.
    assert (error["ridge"][:2] > 0.5 * spread[:2]).all()
    assert (error["network"][:2] < noise + 0.25 * (spread[:2] - noise)).all()
    # Where nothing is to be found, no worse than the mean but for the noise of 300 held-out rows.
    assert error["network"][2] < 1.03 * spread[2]


@pytest.mark.parametrize("predictor", EACH, ids=lambda predictor: type(predictor).__name__)
def test_every_predictor(predictor: Predictor):
    x, y = bent(120, seed=10)
    new, means = bent(9, seed=11)[0], y.mean(0)
    # The same key gives the same.
    first, again = predictor.fit(x, y, KEY), predictor.fit(x, y, KEY)
    np.testing.assert_array_equal(first.predict(new), again.predict(new))
    # A query's prediction is of its own features alone, to the rounding of other block sizes.
    np.testing.assert_allclose(first.predict(new)[4:5], first.predict(new[4:5]), atol=1e-5)
    traced = jax.jit(lambda fitted, x: fitted.predict(x))(first, jnp.asarray(new))
    np.testing.assert_allclose(traced, first.predict(new), atol=1e-5)
    # Without features it is the mean.
    bare = predictor.fit(np.zeros((120, 0), np.float32), y, KEY).predict(np.zeros((3, 0)))
    np.testing.assert_allclose(bare, np.tile(means, (3, 1)), atol=1e-6)
    # A constant head is predicted as it is.
    y[:, 1] = 0.25
    constant = np.asarray(predictor.fit(x, y, KEY).predict(x))[:, 1]
    np.testing.assert_allclose(constant, 0.25, atol=1e-6)
    # A handful of rows suffice for something finite; no row is refused.
    for n in (1, 2, 4):
        few = np.asarray(predictor.fit(x[:n], y[:n], KEY).predict(new))
        assert np.isfinite(few).all()
        if n == 1:
            np.testing.assert_allclose(few, np.tile(y[:1], (9, 1)), atol=1e-6)
    with pytest.raises(CascjaxError, match="at least one row"):
        predictor.fit(x[:0], y[:0], KEY)
    with pytest.raises(CascjaxError, match="at least 1, not 0"):
        Neighbours((0, 3)).fit(x, y, KEY)
