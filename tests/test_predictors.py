"""Predictors: against scikit-learn, and on functions whose truth is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import Ridge as SklearnRidge
from sklearn.linear_model import RidgeCV
from sklearn.neighbors import KNeighborsRegressor

from cascjax.errors import CascjaxError
from cascjax.estimators.predictors import (
    Neighbours,
    Network,
    Predictor,
    Ridge,
)

KEY = jax.random.key(0)

SMALL = Network(width=32, members=2, epochs=150)

EACH = [Ridge(), Neighbours(), SMALL]


def bent(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features and three heads: a curve, a product, and noise that nothing tells of."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 4)).astype(np.float32)
    y = np.stack([np.sin(2 * x[:, 0]), x[:, 1] * x[:, 2], np.zeros(n)], 1)
    return x, (y + 0.3 * rng.standard_normal(y.shape)).astype(np.float32)


def straight(n: int, f: int, m: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, f)).astype(np.float32) + 0.5
    # Heads of very different noise: each wants a penalty of its own.
    noise = np.geomspace(0.1, 30, m) * rng.standard_normal((n, m))
    y = x @ rng.standard_normal((f, m)) + noise + 3
    return x, y.astype(np.float32)


@pytest.mark.parametrize(("n", "f"), [(80, 6), (30, 50)], ids=["more rows", "more features"])
def test_ridge_is_scikit_learns_with_the_penalty_that_leaving_one_out_finds(n: int, f: int):
    x, y = straight(n, f, 5, seed=n)
    penalties = tuple(np.geomspace(1e-3, 1e2, 11))
    ours = Ridge(penalties).fit(x, y)
    new = straight(20, f, 5, seed=1)[0]
    told = np.asarray(ours.predict(new))
    for head in range(5):
        # Leaves the intercept out with the row, as the closed form does.
        chosen = RidgeCV(alphas=[p * n for p in penalties]).fit(x.astype(float), y[:, head])
        penalty = np.asarray(ours.penalty)[head]
        assert penalty * n == pytest.approx(chosen.alpha_, rel=1e-5)
        theirs = SklearnRidge(alpha=float(penalty * n)).fit(x.astype(float), y[:, head])
        # Ours are float32 sums of numbers up to a few hundred.
        np.testing.assert_allclose(told[:, head], theirs.predict(new), rtol=1e-4, atol=1e-3)


def test_ridge_leaves_one_out_as_loops_do():
    x, y = straight(25, 3, 4, seed=3)
    penalties = (1e-3, 1e-1, 10.0)
    errors = np.zeros((3, 4))
    for at, penalty in enumerate(penalties):
        for row in range(25):
            rest = np.arange(25) != row
            # The leverage formula is of a fit whose penalty stays that of all 25 rows, and whose
            # mean is taken off with the row left out: scikit-learn's fit of the rest.
            model = SklearnRidge(alpha=penalty * 25).fit(x[rest].astype(float), y[rest])
            errors[at] += np.square(model.predict(x[row : row + 1])[0] - y[row])
    chosen = np.asarray(Ridge(penalties).fit(x, y).penalty)
    np.testing.assert_allclose(chosen, np.asarray(penalties)[errors.argmin(0)], rtol=1e-6)


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


@pytest.mark.parametrize("one", EACH, ids=lambda one: type(one).__name__)
def test_the_same_key_gives_the_same_and_other_rows_do_not_matter(one: Predictor):
    x, y = bent(120, seed=10)
    first, again = one.fit(x, y, KEY), one.fit(x, y, KEY)
    new = bent(9, seed=11)[0]
    np.testing.assert_array_equal(first.predict(new), again.predict(new))
    # A query's prediction is of its own features alone, to the rounding of other block sizes.
    np.testing.assert_allclose(first.predict(new)[4:5], first.predict(new[4:5]), atol=1e-5)


@pytest.mark.parametrize("one", EACH, ids=lambda one: type(one).__name__)
def test_without_features_it_is_the_mean(one: Predictor):
    y = bent(50, seed=12)[1]
    told = np.asarray(one.fit(np.zeros((50, 0), np.float32), y, KEY).predict(np.zeros((3, 0))))
    np.testing.assert_allclose(told, np.tile(y.mean(0), (3, 1)), atol=1e-6)


@pytest.mark.parametrize("n", [1, 2, 4])
@pytest.mark.parametrize("one", EACH, ids=lambda one: type(one).__name__)
def test_a_handful_of_rows_is_enough_to_predict_something_finite(one: Predictor, n: int):
    x, y = bent(n, seed=13)
    told = np.asarray(one.fit(x, y, KEY).predict(bent(5, seed=14)[0]))
    assert np.isfinite(told).all()
    if n == 1:
        np.testing.assert_allclose(told, np.tile(y, (5, 1)), atol=1e-6)


@pytest.mark.parametrize("one", EACH, ids=lambda one: type(one).__name__)
def test_a_constant_head_is_predicted_as_it_is(one: Predictor):
    x, y = bent(60, seed=15)
    y[:, 1] = 0.25
    told = np.asarray(one.fit(x, y, KEY).predict(x))
    np.testing.assert_allclose(told[:, 1], 0.25, atol=1e-6)


def test_fitted_predictors_pass_through_jit():
    x, y = bent(60, seed=16)
    for one in EACH:
        fitted = one.fit(x, y, KEY)
        traced = jax.jit(lambda these, x: these.predict(x))(fitted, jnp.asarray(x))
        np.testing.assert_allclose(traced, fitted.predict(x), atol=1e-5)


def test_what_cannot_be_is_refused():
    x, y = bent(5, seed=17)
    for predictor in EACH:
        with pytest.raises(CascjaxError, match="at least one row"):
            predictor.fit(x[:0], y[:0], KEY)
    with pytest.raises(CascjaxError, match="at least 1, not 0"):
        Neighbours((0, 3)).fit(x, y, KEY)
