"""All regressions at once, held to scikit-learn's one at a time."""

import itertools

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression, Ridge

from cascjax.estimators.regression import Blocks, fit_linear, fit_logistic, moments

N, K, F = 1500, 3, 3
RUNS = (np.arange(2**K)[:, None] >> np.arange(K)) & 1 == 1


def drawn(
    sharp: float = 1.0, seed: int = 0, n: int = N
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Features, two signals a model, agreement; what each run set shows; quality; folds."""
    rng = np.random.default_rng(seed)
    difficulty, own = rng.normal(size=n), rng.normal(size=(n, K))
    margin = sharp * (np.array([0.0, 0.5, 1.0]) - difficulty[:, None] + own)
    quality = (margin + rng.logistic(size=(n, K)) > 0).astype(np.float32)
    columns = [np.ones(n), difficulty + rng.normal(size=n), rng.normal(size=n)]
    needs = [np.zeros(K, bool)] * 3
    for i in range(K):
        columns += [margin[:, i] + rng.normal(size=n), own[:, i] ** 2]
        needs += [np.arange(K) == i] * 2
    columns.append((quality[:, 0] == (rng.random(n) < 0.7)).astype(float))
    needs.append(np.array([True, True, False]))
    seen = np.stack(columns, 1)
    seen[:, 1:] = (seen[:, 1:] - seen[:, 1:].mean(0)) / seen[:, 1:].std(0)
    shown = np.array([[all(run[need]) for need in needs] for run in RUNS])
    return seen.astype(np.float32), shown, quality, rng.permutation(n) % F


def scikit_learn(seen: np.ndarray, quality: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Its default logistic regression, but converged."""
    weights = np.zeros(len(shown))
    columns = np.flatnonzero(shown)[1:]
    if not len(columns):
        weights[0] = np.log(quality.mean() / (1 - quality.mean()))
        return weights
    model = LogisticRegression(tol=1e-10, max_iter=10_000)
    model.fit(seen[:, columns].astype(np.float64), quality)
    weights[0], weights[columns] = np.ravel(model.intercept_)[0], model.coef_[0]
    return weights


# Beyond 3, two in three margins are certain, and few rows hold the curvature.
@pytest.mark.parametrize("sharp", [1.0, 3.0, 10.0])
def test_logistic_is_scikit_learns(sharp: float) -> None:
    seen, shown, quality, fold = drawn(sharp)
    got = fit_logistic(Blocks.cut(seen, quality, fold, n_sets=len(shown)), shown)
    assert got.weights.shape == (F, 2**K, K, seen.shape[1])
    assert got.unfinished == 0
    assert got.remaining <= 1e-4
    for f in (0, F - 1):
        rows = fold != f
        for s, k in itertools.product((0, 0b010, 0b011, 0b111), range(K)):
            expected = scikit_learn(seen[rows], quality[rows, k], shown[s])
            # The search ends at steps of 1e-4.
            np.testing.assert_allclose(got.weights[f, s, k], expected, atol=1e-3)
            assert not got.weights[f, s, k][~shown[s]].any()


def test_nearly_separable_quality_is_fitted_too() -> None:
    """A signal that is the quality itself, as tests of code are: only the ridge holds it."""
    seen, shown, quality, fold = drawn()
    seen[:, 3] = (quality[:, 0] - quality[:, 0].mean()) / quality[:, 0].std()
    got = fit_logistic(Blocks.cut(seen, quality, fold), shown, folds=False)
    assert got.unfinished == 0
    for s in (0b001, 0b111):
        expected = scikit_learn(seen, quality[:, 0], shown[s])
        np.testing.assert_allclose(got.weights[0, s, 0], expected, atol=1e-3)


def test_a_column_of_three_rows() -> None:
    """Rows drawn evenly would miss it; those drawn by leverage do not."""
    seen, shown, quality, _fold = drawn(n=20_000)
    seen[:, 2] = 0
    seen[:3, 2] = 80
    got = fit_logistic(Blocks.cut(seen, quality), shown[:1], folds=False)
    assert got.unfinished == 0
    assert got.passes <= 12
    expected = scikit_learn(seen, quality[:, 1], shown[0])
    np.testing.assert_allclose(got.weights[0, 0, 1], expected, atol=1e-3)


def test_graded_quality_is_a_fractional_response() -> None:
    """A share y is as much as weights y and 1 - y on a good and a bad answer."""
    seen, shown, quality, _fold = drawn()
    graded = np.random.default_rng(1).beta(2, 2, quality.shape) * 0.5 + quality * 0.5
    got = fit_logistic(Blocks.cut(seen, graded), shown, folds=False)
    twice = np.concatenate([seen, seen]).astype(np.float64)
    for s, k in ((0b000, 1), (0b111, 0)):
        columns = np.flatnonzero(shown[s])[1:]
        model = LogisticRegression(tol=1e-10, max_iter=10_000)
        y = graded[:, k].astype(np.float32).astype(np.float64)
        labels, weight = np.repeat([1, 0], len(y)), np.concatenate([y, 1 - y])
        model.fit(twice[:, columns], labels, sample_weight=weight)
        np.testing.assert_allclose(got.weights[0, s, k, columns], model.coef_[0], atol=1e-3)


def test_linear_is_scikit_learns() -> None:
    seen, shown, quality, fold = drawn()
    got = fit_linear(Blocks.cut(seen, quality, fold), shown)
    for f in range(F):
        rows = fold != f
        for s, k in np.ndindex(2**K, K):
            columns = np.flatnonzero(shown[s])[1:]
            model = Ridge(alpha=1.0).fit(
                seen[rows][:, columns].astype(np.float64), quality[rows, k]
            )
            # Both are closed forms in float64.
            np.testing.assert_allclose(got.weights[f, s, k, columns], model.coef_, atol=1e-9)
            assert got.weights[f, s, k, 0] == pytest.approx(model.intercept_, abs=1e-9)


def test_blocks_do_not_matter() -> None:
    seen, shown, quality, fold = drawn()
    whole = fit_logistic(Blocks.cut(seen, quality, fold), shown)
    blocks = Blocks.cut(seen, quality, fold, block_floats=1)
    assert len(blocks.columns) > F
    for chunk_bytes in (1 << 28, 1 << 14):
        cut = fit_logistic(blocks, shown, chunk_bytes=chunk_bytes)
        # Float order decides in which pass a step is small enough to be the last.
        np.testing.assert_allclose(cut.weights, whole.weights, atol=1e-4)


def test_what_has_not_converged_is_counted() -> None:
    seen, shown, quality, _ = drawn(n=4000)
    got = fit_logistic(Blocks.cut(seen, quality), shown, folds=False, max_passes=(1, 1))
    assert got.unfinished > 0
    assert got.remaining > 1e-4


@pytest.mark.parametrize("logistic", [False, True])
def test_moments_by_loops(logistic: bool) -> None:
    seen, shown, quality, fold = drawn()
    blocks = Blocks.cut(seen, quality, fold, n_sets=len(shown))
    weights = (fit_logistic if logistic else fit_linear)(blocks, shown).weights
    covariance, error = moments(blocks, weights, logistic=logistic)
    told = np.zeros((2**K, N, K))
    for s, n in np.ndindex(2**K, N):
        margin = weights[fold[n], s] @ seen[n]
        told[s, n] = expit(margin) if logistic else margin
    for s in range(2**K):
        squared = np.mean((told[s] - quality) ** 2, 0)
        np.testing.assert_allclose(error[s], squared, rtol=1e-5)  # float32 estimates
        np.testing.assert_allclose(covariance[s], np.cov((told[s] - told[-1]).T), atol=1e-6)
