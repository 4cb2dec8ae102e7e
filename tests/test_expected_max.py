"""E[max]: against plain float64 integrals, closed forms and scipy's adaptive quadrature."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import plain
import pytest
from scipy.integrate import quad
from scipy.special import ndtr

from cascjax.core.checks import check_normal
from cascjax.core.expected_max import (
    MAX_ENUMERATED,
    Maximum,
    Segments,
    expected_max,
    members,
    panels_needed,
    prefix_values,
    semidefinite_root,
    supermodel_tables,
    supermodel_values,
)
from cascjax.errors import CascjaxError

EPS = float(np.finfo(np.float32).eps)

ROWS = 24

SIGMAS: dict[str, Callable[[np.random.Generator, tuple[int, int]], np.ndarray]] = {
    "mixed from 1e-3 to 10": lambda rng, shape: 10 ** rng.uniform(-3, 1, shape),
    "alike": lambda rng, shape: rng.uniform(0.3, 0.6, shape),
    "some zero": lambda rng, shape: rng.uniform(0.1, 2, shape) * (rng.random(shape) < 0.6),
    "all zero": lambda rng, shape: np.zeros(shape),
}

MEANS: dict[str, Callable[[np.random.Generator, tuple[int, int]], np.ndarray]] = {
    "near": lambda rng, shape: rng.normal(0.7, 0.2, shape),
    "far": lambda rng, shape: rng.normal(0, 20, shape),
    "equal": lambda rng, shape: np.repeat(rng.normal(0, 1, (shape[0], 1)), shape[1], 1),
    "tied in part": lambda rng, shape: rng.integers(0, 3, shape) / 2,
}

CASES = [(sigma, mean) for sigma in SIGMAS for mean in MEANS]


def drawn(sigma: str, mean: str, k: int, rows: int = ROWS) -> tuple[np.ndarray, ...]:
    """Float32 means, variances, and float64 square roots of them."""
    rng = np.random.default_rng(k)
    variance = np.square(SIGMAS[sigma](rng, (ROWS, k))).astype(np.float32)[:rows]
    means = MEANS[mean](rng, (ROWS, k)).astype(np.float32)[:rows]
    return means, variance, np.sqrt(variance.astype(np.float64))


def allowance(mean: np.ndarray, sigma: np.ndarray, floor: np.ndarray | None = None) -> np.ndarray:
    """The error stated, 1e-5 of the largest sigma, and what float32 adds to it.

    A sum of weights over the whole range of the nodes, six sigma around every mean, rounds to a
    few units in the last place of that range and of the means.
    """
    ends = [mean - 6 * sigma, mean + 6 * sigma] + ([] if floor is None else [floor])
    ends = np.concatenate(ends, axis=1)
    return 1e-5 * sigma.max(1) + 4 * EPS * (np.ptp(ends, axis=1) + abs(ends).max(1))


@functools.cache
def jitted(kernel: Callable[..., Any], **static: Any) -> Callable[..., Any]:
    return jax.jit(functools.partial(kernel, **static))


def check(
    found: np.ndarray,
    mean: np.ndarray,
    sigma: np.ndarray,
    sets: np.ndarray,
    floor: np.ndarray | None = None,
    least: np.ndarray | None = None,
) -> None:
    """Hold V `[B, M]` of nonempty sets, or gains over floors `[B]`, to the plain integral.

    The nodes span all models, so a small supermodel bears the error of the largest.
    """
    least = allowance(mean, sigma) if least is None else least
    sets = np.broadcast_to(sets, (*found.shape, mean.shape[1]))
    for b, j in zip(*np.nonzero(sets.any(-1) | (floor is not None)), strict=True):
        chosen = mean[b, sets[b, j]], sigma[b, sets[b, j]]
        expected = (
            plain.expected_max(*chosen) if floor is None else plain.gain(float(floor[b]), *chosen)
        )
        assert abs(found[b, j] - expected) <= least[b]


# The plain integral first, since all else leans on it.


@pytest.mark.parametrize("seed", range(6))
def test_plain_integral_is_adaptive_quadrature(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mean, sigma = rng.normal(0, 1, 4), 10 ** rng.uniform(-2, 0.5, 4)
    sigma[: seed % 3] = 0
    low, high = (mean - 12 * sigma).max(), (mean + 12 * sigma).max()

    def above(x: float) -> float:
        sure = sigma == 0
        return 1 - float(np.prod(ndtr((x - mean[~sure]) / sigma[~sure])) * (x >= mean[sure]).all())

    points = np.clip(np.sort(mean), low, high)
    expected = low + quad(above, low, high, points=points, epsabs=1e-12, limit=500)[0]
    assert plain.expected_max(mean, sigma) == pytest.approx(expected, abs=1e-9)  # quad's own error


def test_plain_integral_has_the_textbook_values() -> None:
    # Expected largest of n unit normals: 1/sqrt(pi), 3/(2 sqrt(pi)), ...
    textbook = {1: 0, 2: np.pi**-0.5, 3: 1.5 * np.pi**-0.5, 4: 1.029375373003964}
    for n, expected in textbook.items():
        assert plain.expected_max(np.zeros(n), np.ones(n)) == pytest.approx(expected, abs=1e-12)


# Independent qualities.


@pytest.mark.parametrize(
    ("sigmas", "means", "k"),
    [
        *((*case, k) for k in (1, 2, 5, 11) for case in CASES),
        *(("mixed from 1e-3 to 10", "near", k) for k in (3, 8, 10)),
    ],
)
def test_expected_max_is_the_integral(sigmas: str, means: str, k: int) -> None:
    mean, variance, sigma = drawn(sigmas, means, k)
    found = np.asarray(jitted(expected_max)(mean, variance))
    check(found[:, None], mean, sigma, np.ones((1, k), bool))


@pytest.mark.parametrize("shift", [1e4, -1e6])
def test_large_means_cost_only_their_rounding(shift: float) -> None:
    mean, variance, sigma = drawn("alike", "near", 5)
    mean += np.float32(shift)
    least, every = allowance(mean, sigma), np.ones((1, 5), bool)
    check(np.asarray(jitted(expected_max)(mean, variance))[:, None], mean, sigma, every)
    assert np.isfinite(np.asarray(slopes(mean, variance))).all()
    found = np.asarray(jitted(expected_max, method="qmc")(mean, variance))
    points = 3 * stated(5, 1024) * sigma.max(1)
    check(found[:, None], mean, sigma, every, least=points + least)


@pytest.mark.parametrize("how", ["quadrature", "points", "matrix"])
def test_one_model_is_worth_its_mean(how: str) -> None:
    sigma = np.array([0, 0.3, 10])
    mean, variance = jnp.full((3, 1), 0.7), jnp.asarray(np.square(sigma)[:, None], jnp.float32)
    covariance = variance[..., None] if how == "matrix" else variance

    def total(mean: jax.Array, covariance: jax.Array) -> tuple[jax.Array, jax.Array]:
        values = expected_max(mean, covariance, method="qmc" if how == "points" else "auto")
        return values.sum(), values

    gradient = jax.jit(jax.grad(total, (0, 1), has_aux=True))
    (by_mean, by_covariance), values = gradient(mean, covariance)
    # float32 sums over a range of 12 sigma.
    assert (abs(np.asarray(values) - 0.7) <= 4 * EPS * (1 + 12 * sigma)).all()
    np.testing.assert_allclose(by_mean, 1, atol=8 * EPS)
    np.testing.assert_allclose(by_covariance.ravel(), 0, atol=1e-5)


def test_certain_qualities_give_their_maximum_exactly() -> None:
    mean = np.array([[0.1, 0.7, 0.7], [-3, -5, -4], [1e-3, 0, 1e3]], np.float32)
    found = jitted(expected_max)(mean, np.zeros((3, 3), np.float32))
    np.testing.assert_array_equal(found, mean.max(1))
    by_points = jitted(expected_max)(mean, np.zeros((3, 3, 3), np.float32))
    np.testing.assert_allclose(by_points, mean.max(1), rtol=4 * EPS)  # a mean of equal numbers


@pytest.mark.parametrize(("sigmas", "means"), CASES)
@pytest.mark.parametrize("max_size", [None, 2])
def test_every_supermodel_has_its_value(sigmas: str, means: str, max_size: int | None) -> None:
    mean, variance, sigma = drawn(sigmas, means, 5, 6)
    found = np.asarray(jitted(supermodel_values, max_size=max_size)(mean, variance))
    assert (found[:, 0] == -np.inf).all()
    check(found, mean, sigma, members(5, max_size))


def test_supermodels_of_many_models() -> None:
    mean, variance, sigma = drawn("mixed from 1e-3 to 10", "near", 11, 2)
    picked = np.random.default_rng(0).integers(1, 2**11, 60)
    found = np.asarray(jitted(supermodel_values)(mean, variance))[:, picked]
    check(found, mean, sigma, members(11)[picked])


def test_members_are_all_subsets_once() -> None:
    masks = members(4)
    assert masks.shape == (16, 4)
    assert not masks[0].any()
    assert len({tuple(mask) for mask in masks.tolist()}) == 16
    np.testing.assert_array_equal(np.bincount(members(6, 3).sum(1)), [1, 6, 15, 20])
    with pytest.raises(CascjaxError, match="too many"):
        members(MAX_ENUMERATED + 1)


@pytest.mark.parametrize(("sigmas", "means"), CASES)
def test_prefixes(sigmas: str, means: str) -> None:
    mean, variance, sigma = drawn(sigmas, means, 5, 16)
    found = np.asarray(jitted(prefix_values)(mean, variance))
    check(found, mean, sigma, np.tri(5, dtype=bool))


def prefix_table(
    floor: jax.Array, mean: jax.Array, sigma: jax.Array, panels: int | None
) -> jax.Array:
    table = Segments.of(floor, mean, sigma, panels)
    return jax.lax.map(table.prefix_gains, jnp.arange(1, len(floor) + 1))


@pytest.mark.parametrize(
    ("sigmas", "means", "equal"),
    [
        *((*case, False) for case in CASES),
        *(("alike", mean, True) for mean in MEANS if mean != "far"),
    ],
)
def test_gains_over_floors(sigmas: str, means: str, equal: bool) -> None:
    """Of supermodels and prefixes, by sorted knots or equal panels."""
    k = 5
    mean, variance, exact = drawn(sigmas, means, k, 6)
    sigma = np.sqrt(variance)
    panels = panels_needed(mean, sigma) if equal else None
    assert (panels is not None) == equal
    # Floors in rising order: below every panel, at a mean, and above every panel.
    floor = np.sort(mean[:, :4] + np.array([-9, 0, 0, 90], np.float32), axis=1)
    given, least = (floor.T, mean.T, sigma.T), allowance(mean, exact, floor)
    tables = jitted(supermodel_tables, max_size=k, panels=panels)(*given)
    values, gains = (np.asarray(table) for table in tables)
    joined = np.asarray(jitted(prefix_table, panels=panels)(*given))
    check(values.T, mean, exact, members(k), least=least)
    for s in range(4):  # s + 1 models have run, and each row joins one model more
        check(gains[:, s].T, mean, exact, members(k), floor[:, s], least)
        sets = np.tri(k, dtype=bool) & (np.arange(k) > s)
        check(joined[s].T, mean, exact, sets, floor[:, s], least)
        assert (joined[s, : s + 1] == 0).all()


@pytest.mark.parametrize("least", [0.0, 1e-45, 1e-3])
def test_panels_are_refused_where_one_sigma_is_far_below_the_others(least: float) -> None:
    sigma = np.array([[least, 0.5]], np.float32)
    assert panels_needed(np.zeros((1, 2), np.float32), sigma) is None


@functools.partial(jax.jit, static_argnames="panels")
def grown(
    mean: jax.Array, variance: jax.Array, chosen: jax.Array, panels: int | None = None
) -> jax.Array:
    """What the chosen are worth, then with each other model, and with the last one."""
    maximum = Maximum.of(mean, variance, panels=panels)
    held = maximum.among(chosen)[:, None]
    last = maximum.extend(held, jnp.full((len(mean), 1), mean.shape[1] - 1))
    values = (maximum.value(held)[..., None], maximum.values_with_each(held))
    return jnp.concatenate([*values, maximum.value(last)[..., None]], axis=-1)[:, 0]


@pytest.mark.parametrize("n_known", [None, 0, 2, 5])
def test_a_maximum_grows_as_a_whole_set_would(n_known: int | None) -> None:
    """By sorted knots, or equal panels above the best known quality: the questions a beam asks."""
    k = 6
    mean, variance, sigma = drawn("alike", "near", k, 8)
    chosen = np.random.default_rng(0).random((8, k)) < 0.4
    chosen[:, 0] = True
    panels = None if n_known is None else panels_needed(mean, sigma.astype(np.float32))
    if n_known is not None:
        variance[:, :n_known], sigma[:, :n_known] = 0, 0
        chosen = sigma == 0 if n_known else np.ones_like(chosen)
    found = np.asarray(grown(mean, variance, chosen, panels))
    new = np.concatenate([np.zeros((1, k)), np.eye(k), np.eye(k)[-1:]]).astype(bool)
    again = (chosen[:, None] & new).any(-1, keepdims=True)
    sets = (chosen[:, None] | new) & ~np.asarray(again)
    check(found, mean, sigma, sets)


# Correlated qualities.


def correlated(rng: np.random.Generator, n: int, k: int, rank: int) -> np.ndarray:
    root = rng.normal(0, 0.7, (n, k, rank))
    return (root @ root.swapaxes(1, 2)).astype(np.float32)


def stated(k: int, samples: int) -> float:
    """The error stated for quasi-random points: root mean square, in units of the largest sigma."""
    return samples ** (-0.8 if k <= 5 else -0.7)


def assert_as_stated(error: np.ndarray, k: int, samples: int) -> None:
    assert np.sqrt(np.square(error).mean()) < stated(k, samples)
    assert abs(error).max() < 3 * stated(k, samples)


@functools.cache
def one_factor(k: int, n: int = 16) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Means, matrices d + b b^T, their E[max], and d.

    Given the one factor z that b weighs, qualities are independent: so E[max] is an integral of
    plain ones over z, by 8 nodes a unit within 8 sigma, which leaves 1e-8.
    """
    rng = np.random.default_rng(k)
    mean = rng.normal(0, 0.5, (n, k)).astype(np.float32)
    d = np.square(rng.uniform(0.3, 1, (n, k)))
    b = rng.normal(0, 0.7, (n, k))
    nodes, weights = np.polynomial.legendre.leggauss(8)
    z = (np.arange(-8, 8)[:, None] + (nodes + 1) / 2).ravel()
    mass = np.tile(weights / 2, 16) * plain.density(z)
    rows = zip(mean, b, np.sqrt(d), strict=True)
    values = [mass @ [plain.expected_max(m + by * x, s) for x in z] for m, by, s in rows]
    matrix = b[:, :, None] * b[:, None, :] + d[:, :, None] * np.eye(k)
    return mean, matrix.astype(np.float32), np.array(values), d.astype(np.float32)


def test_one_factor_is_clarks_value_for_two() -> None:
    mean, covariance, values, _ = one_factor(2)
    rows = zip(mean.astype(np.float64), covariance.astype(np.float64), strict=True)
    # The matrices are float32.
    np.testing.assert_allclose(values, [plain.expected_max_of_two(*row) for row in rows], atol=1e-6)


@pytest.mark.parametrize("samples", [256, 1024, 4096, 16384])
@pytest.mark.parametrize("k", [5, 11])
def test_points_err_as_stated(k: int, samples: int) -> None:
    mean, covariance, expected, variance = one_factor(k)
    found = np.asarray(jitted(expected_max, samples=samples)(mean, covariance))
    sigma = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2).max(1))
    assert_as_stated((found - expected) / sigma, k, samples)
    found = np.asarray(jitted(expected_max, method="qmc", samples=samples)(mean, variance))
    rows = zip(mean, np.sqrt(variance), strict=True)
    expected = [plain.expected_max(*row) for row in rows]
    assert_as_stated((found - expected) / np.sqrt(variance.max(1)), k, samples)


@pytest.mark.parametrize("samples", [256, 1024, 4096])
@pytest.mark.parametrize("rank", [1, 2])
def test_two_correlated_models_have_clarks_value(samples: int, rank: int) -> None:
    rng = np.random.default_rng(rank)
    mean = rng.normal(0, 0.7, (200, 2)).astype(np.float32)
    covariance = correlated(rng, 200, 2, rank)
    found = np.asarray(jitted(expected_max, samples=samples)(mean, covariance))
    rows = zip(mean, covariance.astype(np.float64), strict=True)
    error = abs(found - [plain.expected_max_of_two(m, c) for m, c in rows])
    sigma = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2).max(1))
    assert_as_stated(error / sigma, 2, samples)


@pytest.mark.parametrize("rank", [1, 3, 5])
def test_correlated_values_are_means_over_draws(rank: int) -> None:
    rng, n, k, draws = np.random.default_rng(rank), 3, 5, 100_000
    mean, covariance = rng.normal(0, 0.5, (n, k)).astype(np.float32), correlated(rng, n, k, rank)
    if rank == 3:  # a model that has run: no variance left, nor covariance
        covariance[:, 2], covariance[:, :, 2] = 0, 0
    values = np.asarray(jitted(supermodel_values)(mean, covariance))
    prefixes = np.asarray(jitted(prefix_values)(mean, covariance))
    alone = np.asarray(jitted(expected_max, samples=1024)(mean, covariance))
    masks = members(k)
    for b in range(n):
        # float64 draws by the symmetric root: nothing in common with Cholesky or Sobol.
        eigenvalue, vector = np.linalg.eigh(covariance[b].astype(np.float64))
        root = vector * np.sqrt(np.clip(eigenvalue, 0, None))
        q = mean[b] + rng.standard_normal((draws, k)) @ root.T
        sigma = np.sqrt(np.diag(covariance[b]).max())
        # The worst stated of 1024 points, and four standard errors of these draws.
        least = sigma * (3 * stated(k, 1024) + 4 * draws**-0.5)
        for j in range(1, len(masks)):
            assert abs(values[b, j] - q[:, masks[j]].max(1).mean()) < least
        highest = np.maximum.accumulate(q, axis=1).mean(0)
        assert (abs(prefixes[b] - highest) < least).all()
        assert abs(alone[b] - highest[-1]) < least


def test_points_and_quadrature_agree_on_a_diagonal() -> None:
    mean, variance, _ = drawn("alike", "near", 5)
    exact = np.asarray(jitted(expected_max)(mean, variance))
    by_points = np.asarray(jitted(expected_max, method="qmc")(mean, variance))
    matrices = variance[:, :, None] * np.eye(5, dtype=np.float32)
    by_matrices = np.asarray(jitted(expected_max)(mean, matrices))
    assert_as_stated((by_points - exact) / np.sqrt(variance.max(1)), 5, 1024)
    np.testing.assert_allclose(by_matrices, by_points, atol=1e-5)  # the same points; float32


@pytest.mark.parametrize(
    ("k", "rank"), [(1, 1), (2, 1), (5, 5), (5, 2), (11, 1), (11, 4), (11, 10), (11, 11)]
)
def test_semidefinite_root(k: int, rank: int) -> None:
    n = 2000
    covariance = correlated(np.random.default_rng(k), n, k, rank)
    scale = 10 ** np.random.default_rng(rank).uniform(-3, 1, (n, k)).astype(np.float32)
    covariance *= scale[:, :, None] * scale[:, None, :]
    covariance[::3, 0], covariance[::3, :, 0] = 0, 0
    root = np.asarray(jax.jit(semidefinite_root)(covariance), np.float64)
    assert np.isfinite(root).all()
    assert (root[::3, 0] == 0).all()
    sigma = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    error = abs(root @ root.swapaxes(1, 2) - covariance)
    # A pivot of 1e-6 of a variance may be dropped, when no more than that is left of any other:
    # so what is left is as small a share of the two sigmas' product. Ten times that for float32.
    assert (error <= 1e-5 * sigma[:, :, None] * sigma[:, None, :]).all()


# Gradients: one compiled function, [ROWS, 5], serves them all.


@jax.jit
def slopes(mean: jax.Array, variance: jax.Array) -> tuple[jax.Array, jax.Array]:
    """dE[max]/dmean and dE[max]/dvariance of each row."""
    return jax.grad(lambda m, v: expected_max(m, v).sum(), argnums=(0, 1))(mean, variance)


def test_gradients_are_chances_and_differences() -> None:
    mean, variance, sigma = drawn("alike", "near", 5)
    by_mean, by_variance = slopes(mean, variance)
    m, v, h = mean[0].astype(np.float64), variance[0].astype(np.float64), 1e-5
    rows = zip(mean.astype(np.float64), sigma, strict=True)
    expected = [plain.highest_probability(m, s) for m, s in rows]
    # The error of a derivative of the quadrature; 1e-5 holds for values.
    np.testing.assert_allclose(by_mean, expected, atol=1e-4)

    def value(m: np.ndarray, v: np.ndarray) -> float:
        return plain.expected_max(m, np.sqrt(v))

    for i, step in enumerate(h * np.eye(5)):
        slope = (value(m + step, v) - value(m - step, v)) / (2 * h)
        assert by_mean[0, i] == pytest.approx(slope, abs=1e-4)
        slope = (value(m, v + step) - value(m, v - step)) / (2 * h)
        # d sigma / d variance = 1 / (2 sigma) is up to 1.7 here: as much more error.
        assert by_variance[0, i] == pytest.approx(slope, abs=2e-4)


def test_gradients_where_qualities_are_certain_or_tie() -> None:
    mean, variance, _ = drawn("alike", "near", 5)
    # No noise; one uncertain rival; certain ties; an uncertain tie; all alike.
    mean[:5], variance[:5] = 0.7, 0
    mean[0], mean[1] = [0.1, 0.2, 0.9, 0.3, 0.4], [0.4, 0.9, 0.3, 0.2, 0.1]
    mean[2] = [0.1, 0.7, 0.7, 0.2, 0.1]
    variance[1, 0], variance[3, 1], variance[4] = 0.09, 0.09, 0.09
    by_mean, by_variance = slopes(mean, variance)
    assert np.isfinite(by_variance).all()
    win = ndtr((0.4 - 0.9) / 0.3)
    np.testing.assert_allclose(by_mean[:2], [[0, 0, 1, 0, 0], [win, 1 - win, 0, 0, 0]], atol=1e-4)
    # The one uncertain quality moves E[max] by density / (2 sigma) a unit of variance.
    slope = plain.density(np.array(5 / 3)) / 0.6
    assert by_variance[1, 0] == pytest.approx(slope, abs=2e-4)
    # Of certain ones any shares are a subgradient.
    assert by_mean[2, [1, 2]].sum() == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(by_mean[2:4].sum(1), 1, atol=1e-5)
    np.testing.assert_array_equal(by_variance[2], 0)
    assert by_mean[3, 1] == pytest.approx(0.5, abs=1e-5)
    assert by_variance[3, 1] == pytest.approx(plain.density(0.0) / 0.6, abs=2e-4)
    np.testing.assert_allclose(by_mean[4], 1 / 5, atol=1e-4)
    # E[max] = 0.7 + e sigma of all five, and each has a fifth of d sigma / d variance = 1 / 0.6.
    e = plain.expected_max(np.zeros(5), np.ones(5))
    np.testing.assert_allclose(by_variance[4], e / 5 / 0.6, atol=2e-4)


@pytest.mark.parametrize("diagonal", [True, False])
def test_gradients_by_points_are_clarks(diagonal: bool) -> None:
    rng = np.random.default_rng(0)
    mean = rng.normal(0, 0.5, (50, 2)).astype(np.float32)
    correlation = 0 if diagonal else rng.uniform(-0.8, 0.8, 50)
    sigma = rng.uniform(0.5, 1, (50, 2))
    covariance = sigma[:, :, None] * sigma[:, None, :]
    covariance[:, 0, 1] *= correlation
    covariance[:, 1, 0] *= correlation
    given = np.diagonal(covariance, axis1=1, axis2=2) if diagonal else covariance
    given = given.astype(np.float32)

    def total(mean: jax.Array, covariance: jax.Array) -> jax.Array:
        return expected_max(mean, covariance, method="qmc", samples=4096).sum()

    by_mean, by_covariance = jax.jit(jax.grad(total, (0, 1)))(mean, given)
    by_covariance = np.asarray(by_covariance)
    # Clark: by mean the chance of being the higher one, by the variance of the difference
    # density / (2 spread); where entries stand twice, only their sum has a meaning.
    spread = np.sqrt(covariance[:, 0, 0] + covariance[:, 1, 1] - 2 * covariance[:, 0, 1])
    t = (mean[:, 0] - mean[:, 1]) / spread
    slope = plain.density(t) / (2 * spread)
    # A mean over steps, not bends: the error of values at a 16th of the points.
    least = stated(2, 4096 // 16)
    np.testing.assert_allclose(by_mean, np.stack([ndtr(t), ndtr(-t)], 1), atol=least)
    variances = by_covariance if diagonal else np.diagonal(by_covariance, axis1=1, axis2=2)
    np.testing.assert_allclose(variances, np.stack([slope, slope], 1), atol=least)
    if not diagonal:
        both = by_covariance[:, 0, 1] + by_covariance[:, 1, 0]
        np.testing.assert_allclose(both, -2 * slope, atol=least)


def test_gradients_in_a_matrix_with_a_model_that_has_run_are_finite() -> None:
    covariance = jnp.diag(jnp.array([0.09, 0.0, 0.04]))
    gradient = jax.jit(jax.grad(expected_max, argnums=(0, 1)))
    for slope in gradient(jnp.array([0.4, 0.5, 0.3]), covariance):
        assert np.isfinite(slope).all()


# What is refused.


@pytest.mark.parametrize(
    "shapes",
    [((4, 3), (4, 2)), ((4, 3), (4, 3, 2)), ((4, 3), (4, 4, 3)), ((3,), (4, 3, 3)), ((4, 3), (3,))],
)
def test_shapes_that_do_not_fit_are_refused(shapes: tuple[tuple[int, ...], ...]) -> None:
    mean, covariance = (jnp.ones(shape) for shape in shapes)
    # Where shapes are checked at run time, that check speaks first.
    with pytest.raises((CascjaxError, TypeError)):
        expected_max(mean, covariance)


def test_quadrature_of_matrices_is_refused() -> None:
    with pytest.raises(CascjaxError, match="qmc"):
        expected_max(jnp.ones((2, 3)), jnp.ones((2, 3, 3)), method="quadrature")


def queries(bad: dict[tuple[int, ...], float], *, matrices: bool = False) -> jax.Array:
    """Covariances of 20 queries and three models, with some entries replaced."""
    whole = np.tile(np.eye(3, dtype=np.float32), (20, 1, 1))
    covariance = whole if matrices else np.diagonal(whole, axis1=1, axis2=2).copy()
    for at, value in bad.items():
        covariance[at] = value
    return jnp.asarray(covariance)


NOT_COVARIANCES = [
    ({(17, 2): -0.3, (19, 0): -1}, "the variance of model 2 of query 17 is -0.3;"),
    ({(0, 0): np.nan}, "the variance of model 0 of query 0 is nan;"),
    ({(4, 1): np.inf}, "the variance of model 1 of query 4 is inf;"),
    ({(17, 2, 2): -0.3}, "the variance of model 2 of query 17 is -0.3;"),
    ({(9, 0, 0): np.nan}, "the variance of model 0 of query 9 is nan;"),
    ({(9, 0, 2): np.inf}, "the covariance of model 0 and model 2 of query 9 is inf one way"),
    ({(3, 0, 1): 0.5, (3, 1, 0): 0.2}, "model 0 and model 1 of query 3 is 0.5 one way round and 0"),
    # [[1, c], [c, 1]] has the eigenvalue 1 - c.
    ({(3, 0, 1): 1.12, (3, 1, 0): 1.12}, "the covariance of query 3 has the eigenvalue -0.12, so"),
    # Known, and yet it moves with another: [[0, c], [c, 1]] has (1 - sqrt(1 + 4 c^2)) / 2.
    ({(8, 0, 0): 0, (8, 0, 1): 0.5, (8, 1, 0): 0.5}, "of query 8 has the eigenvalue -0.2071, so"),
]


@pytest.mark.parametrize(("bad", "says"), NOT_COVARIANCES)
def test_what_is_no_covariance_is_refused(bad: dict[tuple[int, ...], float], says: str) -> None:
    covariance = queries(bad, matrices=len(next(iter(bad))) == 3)
    for method in ("auto", "qmc"):
        with pytest.raises(CascjaxError) as error:
            expected_max(jnp.zeros((20, 3)), covariance, method=method)
        assert says in str(error.value)
        assert "\n" not in str(error.value)


def test_means_that_are_not_finite_are_refused() -> None:
    mean = jnp.zeros((2, 4, 3)).at[1, 2, 0].set(-jnp.inf)
    with pytest.raises(CascjaxError, match=r"mean of model 0 of query \(1, 2\) is -inf"):
        expected_max(mean, jnp.ones((2, 4, 3)))
    with pytest.raises(CascjaxError, match="mean of model 1 is nan"):
        expected_max(jnp.array([0, jnp.nan]), jnp.eye(2))


def test_a_query_beyond_the_first_slice_is_named_by_its_number() -> None:
    n = 100_000  # slices hold some 87,000 queries of three variances, 29,000 of matrices
    with pytest.raises(CascjaxError, match="model 'c' of query 99999 is -1"):
        check_normal(jnp.zeros((n, 3)), jnp.ones((n, 3)).at[-1, 2].set(-1), ("a", "b", "c"))
    matrices = jnp.tile(jnp.eye(3), (n, 1, 1)).at[-2, 0, 1].set(2).at[-2, 1, 0].set(2)
    with pytest.raises(CascjaxError, match="query 99998 has the eigenvalue -1,"):
        check_normal(jnp.zeros((n, 3)), matrices)


@pytest.mark.parametrize("k", [2, 11, 30])
@pytest.mark.parametrize("rank", [0, 1, 2, 11])
def test_rounding_makes_no_covariance_bad(k: int, rank: int) -> None:
    rng = np.random.default_rng(rank)
    scale = 10 ** rng.uniform(-3, 1, (300, k)).astype(np.float32)
    covariance = correlated(rng, 300, k, rank) * scale[:, :, None] * scale[:, None, :]
    check_normal(jnp.zeros((300, k)), jnp.asarray(covariance))
    samples = rng.normal(3, 1, (4000, max(rank, 1))) @ rng.normal(0, 1, (max(rank, 1), k))
    covariance = np.cov(samples.astype(np.float32).T, dtype=np.float32)
    check_normal(jnp.zeros(k), jnp.asarray(covariance))


def test_traced_arrays_are_not_checked() -> None:
    """No value is known inside a transformation: it runs, whatever the values will be."""
    mean, bad, worse = jnp.zeros((4, 3)), jnp.full((4, 3), -1.0), jnp.full((4, 3, 3), -1.0)
    total = jax.grad(lambda m, c: expected_max(m, c).sum(), argnums=(0, 1))
    for transformed in (expected_max, jax.vmap(expected_max), total):
        jax.eval_shape(transformed, mean, bad)
        jax.eval_shape(transformed, mean, worse)
    # What a traced program closes over is known.
    with pytest.raises(CascjaxError, match="variance of model 0 of query 0 is -1"):
        jax.eval_shape(lambda m: expected_max(m, bad), mean)
    with pytest.raises(CascjaxError, match="quality mean of model 0 is inf"):
        jax.grad(lambda c: expected_max(jnp.full(3, jnp.inf), c))(bad[0])


@pytest.mark.parametrize("matrices", [False, True])
def test_transformations_give_the_same_values(matrices: bool) -> None:
    mean, variance, _ = (jnp.asarray(x) for x in drawn("some zero", "tied in part", 3))
    covariance = variance[..., None] * jnp.eye(3) if matrices else variance
    expected = jax.jit(expected_max)(mean, covariance)
    least = 1e-5  # float32, in another order
    np.testing.assert_allclose(expected_max(mean, covariance), expected, atol=least)
    by_query = jax.jit(jax.vmap(expected_max))(mean, covariance)
    np.testing.assert_allclose(by_query, expected, atol=least)
    stacked = [x.reshape(4, -1, *x.shape[1:]) for x in (mean, covariance)]
    np.testing.assert_allclose(jitted(expected_max)(*stacked).ravel(), expected, atol=least)
    shared = jax.jit(jax.vmap(expected_max, in_axes=(0, None)))(mean, covariance[0])
    np.testing.assert_allclose(shared[0], expected[0], atol=least)
