"""What is believed before and after a model runs."""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Bool, Float

from cascjax.data.table import EVALUATE, FIT, Table
from cascjax.errors import CascjaxError
from cascjax.estimators import Estimates, Independent, noisy, supplied, truth
from cascjax.estimators.independent import check_estimator

N, K = 4000, 3


def drawn(seed: int = 0) -> Table:
    rng = np.random.default_rng(seed)
    quality = (rng.random((N, K)) < [0.5, 0.6, 0.8]).astype(np.float32)
    cost = ([1e-4, 1e-3, 1e-2] * rng.lognormal(0, 1, (N, K))).astype(np.float32)
    ante, post = (
        (quality + rng.normal(0, sigma, (N, K))).astype(np.float32) for sigma in (0.5, 0.2)
    )
    split = np.where(np.arange(N) % 4 == 0, EVALUATE, FIT).astype(np.int8)
    return Table(
        quality, cost, quality_ante=ante, quality_post=post, split=split, models=("a", "b", "c")
    )


COLUMNS = ("quality_ante", "quality_post", "cost_ante", "cost_post")


def column(estimator: Independent, name: str) -> np.ndarray:
    return np.asarray(getattr(estimator, name), np.float64)


def test_estimates_jump_where_a_model_has_run() -> None:
    rng = np.random.default_rng(0)
    columns = [rng.random((6, K)).astype(np.float32) for _ in range(5)]
    ante, post, sigma, cost_ante, cost_post = columns
    estimator = Independent(ante, post, sigma, cost_ante, cost_post)
    run = rng.random((6, K)) < 0.5
    got = estimator(jax.numpy.asarray(run))
    for b, i in np.ndindex(6, K):
        assert got.quality[b, i] == (post if run[b, i] else ante)[b, i]
        assert got.cost[b, i] == (cost_post if run[b, i] else cost_ante)[b, i]
        variance = 0 if run[b, i] else sigma[b, i] ** 2
        assert float(got.covariance[b, i]) == pytest.approx(variance, rel=1e-6)  # float32


@pytest.mark.parametrize("rows", [slice(2, 5), np.array([5, 0, 5])])
@pytest.mark.parametrize("shared", [True, False])
def test_take_takes_rows(rows: slice | np.ndarray, shared: bool) -> None:
    values = np.arange(18, dtype=np.float32).reshape(6, K)
    estimator = Independent(values, values + 1, values[:1] if shared else values, values, values)
    taken = estimator.take(rows)
    np.testing.assert_array_equal(taken.quality_post, values[rows] + 1)
    np.testing.assert_array_equal(taken.sigma, values[:1] if shared else values[rows])


def test_truth_is_certain() -> None:
    table = drawn()
    estimator = truth(table)
    for run in (np.zeros((N, K), bool), np.ones((N, K), bool)):
        got = estimator(jax.numpy.asarray(run))
        np.testing.assert_array_equal(got.quality, table.quality)
        np.testing.assert_array_equal(got.cost, table.cost)
        assert not np.asarray(got.covariance).any()


def test_supplied_sigma_and_costs_come_from_the_fit_split() -> None:
    table = drawn()
    fit = np.flatnonzero(table.split == FIT)
    estimator = supplied(table, fit)
    for i in range(K):
        moved = [float(table.quality_ante[n, i]) - float(table.quality_post[n, i]) for n in fit]
        mean = sum(moved) / len(moved)
        spread = (sum((m - mean) ** 2 for m in moved) / len(moved)) ** 0.5
        # Stored in float32.
        assert float(estimator.sigma[0, i]) == pytest.approx(spread, rel=1e-6)
        expected = sum(float(table.cost[n, i]) for n in fit) / len(fit)
        np.testing.assert_allclose(estimator.cost_ante[:, i], expected, rtol=1e-6)
    np.testing.assert_array_equal(estimator.cost_post, table.cost)
    np.testing.assert_array_equal(estimator.quality_ante, table.quality_ante)
    np.testing.assert_array_equal(estimator.quality_post, table.quality_post)


def test_supplied_columns_stand_as_they_are() -> None:
    table = drawn()
    sigma, before, after = (np.full((N, K), x, np.float32) for x in (0.3, 2, 3))
    table = replace(table, quality_sigma=sigma, cost_ante=before, cost_post=after)
    estimator = supplied(table, np.arange(10))
    np.testing.assert_array_equal(estimator.sigma, sigma)
    np.testing.assert_array_equal(estimator.cost_ante, before)
    np.testing.assert_array_equal(estimator.cost_post, after)
    for missing in ("quality_ante", "quality_post"):
        with pytest.raises(CascjaxError, match=f"'{missing}'"):
            supplied(replace(table, **{missing: None}), np.arange(10))


def test_estimates_are_the_least_squares_line() -> None:
    # The same noise, drawn as `noisy` says it does: one key for each of the four.
    table, key = drawn(), jax.random.key(3)
    zs = np.array([jax.random.normal(k, (N, K)) for k in jax.random.split(key, 4)], np.float64)
    level = (0.6, 0.3, 0.002, 0.0005)
    estimator = noisy(table, key, level)
    for name, sigma, z in zip(COLUMNS, level, zs, strict=True):
        true = (table.quality if "quality" in name else table.cost).astype(np.float64)
        observed = true + sigma * z
        for i in range(K):
            slope, at_zero = np.polyfit(observed[:, i], true[:, i], 1)
            expected = at_zero + slope * observed[:, i]
            least = 1e-6 * abs(expected).max()  # float32
            np.testing.assert_allclose(column(estimator, name)[:, i], expected, atol=least)
    moved = column(estimator, "quality_ante") - column(estimator, "quality_post")
    np.testing.assert_allclose(estimator.sigma, moved.std(0)[None], rtol=1e-6)  # float32
    # Without noise the truth is exact, and a constant column is its own estimate.
    table = replace(table, quality=np.ones((N, K), np.float32))
    estimator = noisy(table, key, (0.0, 0.5, 0.0, 0.0))
    np.testing.assert_array_equal(estimator.quality_ante, table.quality)
    np.testing.assert_allclose(estimator.quality_post, 1, rtol=1e-6)
    np.testing.assert_array_equal(estimator.cost_post, table.cost)
    assert np.isfinite(estimator.sigma).all()


def test_noise_is_a_function_of_its_key() -> None:
    table = drawn()
    one, same, other = (noisy(table, jax.random.key(k), "low") for k in (0, 0, 1))
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(one, name), getattr(same, name))
        assert (getattr(one, name) != getattr(other, name)).mean() > 0.9
    # Four noises, not one noise four times.
    errors = [column(one, name)[:, 0] for name in ("quality_ante", "quality_post")]
    first, second = (error[table.quality[:, 0] == 1] for error in errors)
    # Of some 2,000 rows: six standard errors.
    assert abs(np.corrcoef(first, second)[0, 1]) < 6 / np.sqrt(len(first))


@pytest.mark.parametrize(
    ("level", "message"),
    [("meduim", "did you mean 'medium'")]
    + [((0.1, bad, 0.0, 0.0), "negative") for bad in (-0.1, np.nan, np.inf)],
)
def test_noise_that_is_none_is_refused(level: Any, message: str) -> None:
    with pytest.raises(CascjaxError, match=message):
        noisy(drawn(), jax.random.key(0), level)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Correlated:
    """Estimates of quality 0 with whole matrices, one a query."""

    matrix: Float[Array, "B K K"] | Float[np.ndarray, "B K K"]

    def __call__(self, run: Bool[Array, "B K"]) -> Estimates:
        ahead = ~run[:, :, None] & ~run[:, None, :]
        zero = jnp.zeros(run.shape)
        return Estimates(zero, jnp.where(ahead, self.matrix, 0), zero)

    def take(self, rows: slice | np.ndarray) -> "Correlated":
        return Correlated(self.matrix[rows])


@pytest.mark.parametrize("value", [-0.25, -1e-30, np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("on", [np.asarray, jnp.asarray])
def test_a_sigma_that_is_none_is_refused(value: float, on: type) -> None:
    table = drawn()
    sigma = np.full((N, K), 0.3, np.float32)
    check_estimator(supplied(replace(table, quality_sigma=sigma), np.arange(N)), table)
    sigma[N - 1, 1] = value
    estimator = supplied(replace(table, quality_sigma=sigma), np.arange(N))
    estimator = replace(estimator, sigma=on(estimator.sigma))
    with pytest.raises(CascjaxError) as error:
        check_estimator(estimator, table)
    assert f"the sigma of model 'b' of query {N - 1} is {value:.4g}; give" in str(error.value)
    with pytest.raises(CascjaxError, match=f"the sigma of model 1 of query {N - 1} is"):
        check_estimator(estimator, replace(table, models=()))
    shared = replace(truth(table), sigma=on(np.array([[0.1, 0.2, value]], np.float32)))
    with pytest.raises(CascjaxError, match=r"the sigma of model 'c' is [^;]*; give"):
        check_estimator(shared, table)


def test_a_sigma_far_down_a_table_is_found() -> None:
    n = 200_001  # several slices
    none = np.broadcast_to(np.float32(0), (n, K))
    sigma = np.zeros((n, K), np.float32)
    table = Table(none, none)
    check_estimator(Independent(none, none, sigma, none, none), table)
    sigma[n - 1, 0] = -1
    with pytest.raises(CascjaxError, match="the sigma of model 0 of query 200000 is -1;"):
        check_estimator(Independent(none, none, sigma, none, none), table)


def test_a_matrix_that_is_no_covariance_is_refused() -> None:
    table = drawn()
    matrix = np.tile(np.eye(K, dtype=np.float32), (N, 1, 1))
    check_estimator(Correlated(matrix), table)
    matrix[5, 0, 2] = matrix[5, 2, 0] = 1.5
    with pytest.raises(CascjaxError, match=r"query 5 has the eigenvalue -0\.5, so"):
        check_estimator(Correlated(matrix), table)
    matrix[5, 0, 2] = 0
    with pytest.raises(CascjaxError, match="of model 'a' and model 'c' of query 5 is 0 one way"):
        check_estimator(Correlated(matrix), table)


@pytest.mark.parametrize("shared", [True, False], ids=["one sigma for all", "one a query"])
def test_corrections_touch_what_is_believed_before_a_model_has_run(shared: bool) -> None:
    rng = np.random.default_rng(0)
    ante, post, cost = rng.random((3, 6, K)).astype(np.float32)
    sigma = rng.random((1 if shared else 6, K)).astype(np.float32)
    estimator = Independent(ante, post, sigma, cost, cost + 1)
    found = estimator.corrected(np.array([0.5, 1.0, 2.0]), np.array([0.25, 0.0, -1.0]))
    run = np.zeros((6, K), bool)
    run[::2, 1:] = True
    before, after = (of(jax.numpy.asarray(run)) for of in (estimator, found))
    wanted = np.where(run, post, ante + np.array([0.25, 0, -1], np.float32))
    np.testing.assert_allclose(after.quality, wanted, rtol=1e-6)
    wanted = np.where(run, 0, (sigma * np.array([0.5, 1, 2], np.float32)) ** 2)
    np.testing.assert_allclose(after.covariance, wanted, rtol=1e-6)
    np.testing.assert_array_equal(after.cost, before.cost)
    assert found.sigma.shape == sigma.shape
    for column in (found.quality_ante, found.sigma):
        assert column.dtype == np.float32
    # None are none, and the estimator given is as it was.
    same = estimator.corrected(np.ones(K), np.zeros(K))
    np.testing.assert_array_equal(same.quality_ante, ante)
    np.testing.assert_array_equal(same.sigma, sigma)
    np.testing.assert_array_equal(estimator.quality_ante, ante)
