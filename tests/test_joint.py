"""The joint normal: against formulas query by query, and data whose posterior is known."""

from dataclasses import replace
from typing import Any

import jax
import numpy as np
import pytest

from cascjax import synthetic
from cascjax.data.table import Table
from cascjax.errors import CascjaxError
from cascjax.estimators import Estimates, Estimator, FeatureSpec, learned
from cascjax.estimators.design import Design
from cascjax.estimators.feature_spec import Column
from cascjax.estimators.joint import Joint, condition, gains_of
from cascjax.estimators.joint_gaussian import fit_joint, shrinkage
from cascjax.estimators.joint_model import JointModel
from cascjax.estimators.predictors import Neighbours

K = 4

NEEDS = np.array(
    [*np.eye(K, dtype=bool), *(np.eye(K, dtype=bool)[[0, 0]] | np.eye(K, dtype=bool)[[1, 3]])]
)
"""A signal per model, and the agreements of models 0 and 1, and of 0 and 3."""

M = len(NEEDS)

KEY = jax.random.key(0)


@jax.jit
def estimates(estimator: Estimator, run: jax.Array) -> Estimates:
    return estimator(run)


class Gaussian:
    """Features X, signals and qualities B X + Normal(0, Sigma)."""

    def __init__(self, seed: int, f: int = 3):
        rng = np.random.default_rng(seed)
        self.slopes = 0.4 * rng.standard_normal((f, M + K))
        root = rng.standard_normal((M + K, M + K)) / np.sqrt(M + K)
        self.sigma = root @ root.T + 0.2 * np.eye(M + K)

    def sample(self, n: int, seed: int) -> tuple[Design, np.ndarray, np.ndarray]:
        """A design, the qualities, and the true expectations before anything runs."""
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((n, len(self.slopes)))
        mean = x @ self.slopes
        drawn = mean + rng.standard_normal((n, M + K)) @ np.linalg.cholesky(self.sigma).T
        seen = np.concatenate([np.ones((n, 1)), x, drawn[:, :M]], 1).astype(np.float32)
        return Design(seen, spec(x.shape[1])), drawn[:, M:].astype(np.float32), mean

    def posterior(
        self, design: Design, mean: np.ndarray, run: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Estimates and remaining covariance of each query once `run` has run: the textbook's."""
        quality, left = np.empty((len(mean), K)), np.empty((len(mean), K, K))
        every = given(self.sigma, np.ones(M, bool))[1]
        for row, has in enumerate(run):
            shown = shown_by(NEEDS, has)
            gain, rest = given(self.sigma, shown)
            surprise = design.seen[row, -M:][shown] - mean[row, :M][shown]
            quality[row] = mean[row, M:] + gain @ surprise
            left[row] = masked(rest - every, has)
        return quality, left


def spec(f: int, signals: bool = True) -> FeatureSpec:
    """The columns of a design of f features."""
    models, features = tuple("abcd"), tuple("xyz"[:f])
    columns = [Column("one"), *(Column("feature", (name,)) for name in features)]
    if signals:
        columns += [Column("signal", ("s",), (model,)) for model in models]
        columns += [Column("agreement", (), pair) for pair in (("a", "b"), ("a", "d"))]
    return FeatureSpec(models, features, ("s",), tuple(columns))


def shown_by(needs: np.ndarray, has: np.ndarray) -> np.ndarray:
    return np.array([all(has[i] for i in np.flatnonzero(need)) for need in needs], bool)


def given(
    covariance: np.ndarray, shown: np.ndarray, jitter: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Gains of the signals shown, and the covariance of the qualities given them."""
    m, at = len(shown), np.flatnonzero(shown)
    signals = covariance[np.ix_(at, at)] + jitter * np.eye(len(at))
    gain = covariance[m:][:, at] @ np.linalg.inv(signals)
    return gain, covariance[m:, m:] - gain @ covariance[at][:, m:]


def masked(covariance: np.ndarray, has: np.ndarray) -> np.ndarray:
    return np.where(has[:, None] | has, 0, covariance)


def folds(n: int, n_fit: int, n_folds: int = 4) -> np.ndarray:
    return np.where(np.arange(n) < n_fit, np.arange(n) % n_folds, n_folds)


def fitted(
    design: Design, quality: np.ndarray, fold: np.ndarray, **options: Any
) -> tuple[JointModel, Joint]:
    cost = np.ones_like(quality)
    fit, _ = fit_joint(design, quality, cost, fold, KEY, n_folds=int(fold.max()), **options)
    return fit, fit.joint(design, cost, fold)


def random_runs(n: int, k: int = K) -> np.ndarray:
    return np.random.default_rng(0).random((n, k)) < 0.5


def drawn_joint(k: int, m: int, n: int, seed: int, g: int = 3) -> Joint:
    """A joint estimator of random numbers: any K, signals of one model and of pairs."""
    rng = np.random.default_rng(seed)
    needs = np.zeros((m, k), bool)
    needs[np.arange(m), rng.integers(0, k, m)] = True
    needs[m // 2 :][np.arange(m - m // 2), rng.integers(0, k, m - m // 2)] = True
    root = rng.standard_normal((g, m + k, 2 * (m + k))) / np.sqrt(2 * (m + k))
    covariance = root @ np.swapaxes(root, 1, 2)
    numbers = rng.standard_normal((4, n, max(k, m))).astype(np.float32)
    return Joint(
        quality=numbers[0, :, :k],
        surprise=numbers[1, :, :m],
        cost=np.abs(numbers[2, :, :k]),
        cost_run=np.abs(numbers[3, :, :k]),
        fold=rng.integers(0, g, n).astype(np.int32),
        covariance=covariance.astype(np.float32),
        remaining=given(covariance[-1], np.ones(m, bool), 1e-4)[1].astype(np.float32),
        needs=needs,
    )


@pytest.mark.parametrize(("k", "m"), [(3, 5), (5, 18), (33, 40)])
def test_conditioning_is_the_formula_query_by_query(k: int, m: int):
    joint, rng = drawn_joint(k, m, 60, seed=k), np.random.default_rng(k)
    # Some run sets twice, none and all among them; 33 models do not fit one machine word.
    run = rng.random((60, k)) < rng.choice([0, 0.2, 0.6, 1], (60, 1))
    found = estimates(joint, run)
    covariance = np.asarray(joint.covariance, np.float64)
    for row, has in enumerate(run):
        shown = shown_by(np.asarray(joint.needs), has)
        moved = given(covariance[joint.fold[row]], shown, 1e-4)[0] @ joint.surprise[row][shown]
        # float32 sweeps over M signals whose correlations have condition numbers of about 100.
        np.testing.assert_allclose(found.quality[row], joint.quality[row] + moved, atol=2e-4)
        left = masked(given(covariance[-1], shown, 1e-4)[1] - joint.remaining, has)
        np.testing.assert_allclose(found.covariance[row], left, atol=2e-5)
    np.testing.assert_array_equal(found.cost, np.where(run, joint.cost_run, joint.cost))
    # Models that have run move no more, exactly.
    assert not np.asarray(found.covariance)[run].any()
    for rows in (slice(7, 19), np.array([3, 3, 30])):
        part = estimates(joint.take(rows), run[rows])
        np.testing.assert_allclose(part.quality, found.quality[rows], atol=1e-6)
        np.testing.assert_allclose(part.covariance, found.covariance[rows], atol=1e-6)


def test_the_table_of_run_sets_is_equal():
    joint = drawn_joint(6, 20, 64, seed=4)
    run = (np.arange(64)[:, None] >> np.arange(6)) & 1 == 1
    ours, table = estimates(joint, run), estimates(joint.to_run_sets(), run)
    # One in float32 by sweeps, one in float64 by solving.
    np.testing.assert_allclose(ours.quality, table.quality, atol=2e-4)
    np.testing.assert_allclose(ours.covariance, table.covariance, atol=2e-5)
    np.testing.assert_allclose(ours.cost, table.cost, rtol=1e-6)
    with pytest.raises(CascjaxError, match="run sets of 24 models"):
        drawn_joint(24, 30, 2, seed=5).to_run_sets()


def test_more_signals_never_raise_a_variance():
    joint = drawn_joint(5, 14, 1, seed=6)
    shown = np.tril(np.ones((15, 14), bool), -1)
    whole = np.asarray(joint.covariance[-1])
    gains, rest = jax.jit(condition, static_argnums=2)(
        np.broadcast_to(whole, (15, 19, 19)), shown, 5
    )
    np.testing.assert_allclose(gains, gains_of(whole.astype(np.float64), shown, 5), atol=1e-4)
    rest = np.asarray(rest)
    # Loewner order: each difference of covariances has no negative eigenvalue but rounding.
    assert np.linalg.eigvalsh(rest[:-1] - rest[1:]).min() > -1e-5
    assert (np.diff(np.diagonal(rest, axis1=1, axis2=2), axis=0) < 1e-6).all()


def test_equal_signals_are_no_harm():
    joint, run = drawn_joint(3, 6, 10, seed=7), np.ones((10, 3), bool)
    signals, twice = [*range(6), 0], np.array([*range(6), 0, *range(6, 9)])
    doubled = replace(
        joint,
        covariance=np.asarray(joint.covariance)[:, twice][:, :, twice],
        surprise=joint.surprise[:, signals],
        needs=joint.needs[signals],
    )
    # The second of two equal signals is worth the jitter, 1e-4 of its variance.
    expected = estimates(joint, run).quality
    np.testing.assert_allclose(estimates(doubled, run).quality, expected, atol=2e-3)


@pytest.mark.parametrize("n", [500, 8000])
def test_normal_data_are_learned(n: int):
    data, new = Gaussian(seed=1), slice(n, None)
    design, quality, mean = data.sample(n + 400, seed=2)
    _, joint = fitted(design, quality, folds(n + 400, n))
    run = random_runs(400)
    found = estimates(joint.take(new), run)
    expected, left = data.posterior(replace(design, seen=design.seen[new]), mean[new], run)
    # A coefficient is known to about sqrt(sd of the rest / n); F + M = 9 of them add up to
    # sqrt(9 / n) of the noise, whose variance is about 1 here; the root mean square is held to 1.5
    # times that. Correlations, and so covariances, are known to about 1 / sqrt(n) each.
    assert np.sqrt(np.square(found.quality - expected).mean()) < 1.5 * np.sqrt(9 / n)
    assert np.sqrt(np.square(found.covariance - left).mean()) < 1.5 / np.sqrt(n)


def test_rows_fitted_on_have_the_errors_of_new_ones():
    """Estimates of a row that had seen its quality would look better than they are."""
    design, quality, _ = Gaussian(seed=3).sample(6000, seed=4)
    # Few rows per parameter: without folds, rows fitted on would have much smaller errors.
    _, joint = fitted(design, quality, folds(6000, 60))
    found = np.asarray(estimates(joint, np.ones((6000, K), bool)).quality)
    error = np.square(found - quality).mean(1)
    # 60 rows' mean squared error has a standard error of about 60**-0.5 * sqrt(2 / K); folds of 45
    # rows are a little worse than all 60.
    assert 0.75 < error[:60].mean() / error[60:].mean() < 1.6


def test_total_variance():
    """Var(Q) is the variance of estimates plus what is left: on average, on new queries."""
    design, quality, _ = Gaussian(seed=5).sample(24_000, seed=6)
    _, joint = fitted(design, quality, folds(24_000, 4000))
    new = joint.take(slice(4000, None))
    every = estimates(new, np.ones((20_000, K), bool))
    for run in ([0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 1]):
        now = estimates(new, np.broadcast_to(np.array(run, bool), (20_000, K)))
        # Estimates of models that have not run move by as much as they say.
        moved, rest = np.asarray(every.quality - now.quality), np.array(run) == 0
        stated = np.asarray(now.covariance)[0][rest][:, rest]
        # 4,000 rows of fit: 1 / sqrt(4000) per correlation, three of those; variances are below 1.
        np.testing.assert_allclose(np.cov(moved.T)[rest][:, rest], stated, atol=3 / 4000**0.5)
        # And their mean does not move: an estimate is the expectation of the next.
        assert np.abs(moved.mean(0)).max() < 0.05


def test_right_and_wrong_answers_are_estimated_as_well_as_lines_can():
    """Supplied estimates of a synthetic dataset are its exact conditional expectations."""
    dataset = synthetic.make_dataset(3, seed=2, n_domains=2)
    table = synthetic.sample(dataset, seed=1, n=5000, features=True)
    ante, features = table.quality_ante, table.features
    new = np.arange(2500, 5000)
    found = learned(table, np.arange(2500), estimator="joint")
    quality = estimates(found.estimator.take(new), np.zeros((2500, 3), bool)).quality
    error = np.square(np.asarray(quality) - table.quality[new]).mean()
    # The best a line can do: of exact expectations, on the new rows themselves.
    columns = np.concatenate([np.ones((2500, 1)), features[new]], 1)
    line = columns @ np.linalg.lstsq(columns, ante[new], rcond=None)[0]
    # 5 coefficients of 2,500 rows add 5 / 2500 of the error, and fitting the line to the new
    # rows takes none away; four times that.
    assert error < np.square(line - table.quality[new]).mean() * (1 + 4 * 5 / 2500)
    run = estimates(found.estimator.take(new), np.ones((2500, 3), bool)).quality
    assert np.square(np.asarray(run) - table.quality[new]).mean() < error - 0.01


def test_correlations_are_shrunk_where_they_are_noise():
    rng, single = np.random.default_rng(8), np.arange(9) < 5
    # Independent columns: all that is seen of correlation is noise.
    assert shrinkage(standard(rng.standard_normal((30, 12))), single)[0] > 0.5
    related = standard(rng.standard_normal((9000, 12)) @ rng.standard_normal((12, 12)))
    assert shrinkage(related, single)[0] < 0.02
    # 80 signals that say nothing, and 6 agreements that together say nearly all.
    agreements = rng.standard_normal((200, 6))
    quality = agreements @ rng.standard_normal((6, 3)) + 0.3 * rng.standard_normal((200, 3))
    columns = standard(np.concatenate([rng.standard_normal((200, 80)), agreements, quality], 1))
    assert shrinkage(columns, np.arange(86) < 80)[1] > 1


def test_shrinkage_is_the_one_of_least_error_by_loops():
    """The same by solving for each share and factor, on each of the rows left out."""
    rng, single, m = np.random.default_rng(9), np.arange(6) < 4, 6
    root = np.eye(8) + np.diag(np.ones(7), 1)
    x = standard(rng.standard_normal((60, 8)) @ root)
    errors = {}
    for factor in (1.0, 8.0, 64.0):
        for share in (0.0, *np.geomspace(0.005, 1.0, 16).round(4)):
            total = 0.0
            for f in range(5):
                rest, test = x[np.arange(60) % 5 != f], x[np.arange(60) % 5 == f]
                products = (1 - share) * rest.T @ rest / len(rest)
                # Each share in units in which single signals are smaller by the factor.
                noise = np.diag((share + 1e-4) * np.where(single, factor, 1.0))
                gain = np.linalg.solve(products[:m, :m] + noise, products[:m, m:])
                total += np.square(test[:, m:] - test[:, :m] @ gain).sum()
            errors[share, factor] = total
    share, factor = shrinkage(x, single)
    assert errors[share, factor] == pytest.approx(min(errors.values()), rel=1e-9)
    assert 0 < share < 1


def standard(x: np.ndarray) -> np.ndarray:
    return x / np.sqrt(np.square(x).mean(0))


def test_without_signals_nothing_moves():
    design, quality, _ = Gaussian(seed=10).sample(200, seed=11)
    bare = Design(design.seen[:, ~design.needs.any(1)], spec(3, signals=False))
    _, joint = fitted(bare, quality, folds(200, 150))
    for estimator in (joint, joint.to_run_sets()):
        found = estimates(estimator, random_runs(200))
        np.testing.assert_allclose(found.quality, joint.quality, atol=1e-6)
        assert np.abs(np.asarray(found.covariance)).max() < 1e-6


def test_other_predictors_and_constant_columns():
    design, quality, _ = Gaussian(seed=12).sample(300, seed=13)
    quality[:, 2] = 1
    design.seen[:, -1] = 0
    fit, joint = fitted(design, quality, folds(300, 200), predictor=Neighbours((20,)))
    found = estimates(joint, random_runs(300))
    np.testing.assert_allclose(found.quality[:, 2], 1, atol=1e-6)
    assert np.isfinite(np.asarray(found.quality)).all()
    assert np.abs(np.asarray(found.covariance)[:, 2]).max() < 1e-6
    assert len(fit.predictions) == 5


def test_an_exception_to_what_features_determine_is_no_catastrophe():
    """Code in every answer to a group's prompts, say, and one new answer without."""
    rng = np.random.default_rng(20)
    design, quality, _ = Gaussian(seed=20).sample(500, seed=21)
    design.seen[:, 1] = rng.random(500) < 0.4
    design.seen[:, -M] = design.seen[:, 1]
    design.seen[400:, -M] = 1 - design.seen[400:, 1]
    fit, joint = fitted(design, (quality > 0).astype(np.float32), folds(500, 400))
    assert fit.spread[-1, 0] == pytest.approx(0.03)
    found = np.asarray(estimates(joint, np.ones((500, K), bool)).quality)
    # Lines leave 0 to 1 by some tenths; each exception is 30 of the least spreads off.
    assert np.abs(found[400:] - found[:400].mean()).max() < 1.5


def test_shrinking_leaves_every_variance():
    data = Gaussian(seed=22)
    design, quality, _ = data.sample(300, seed=23)
    fit, _ = fitted(design, quality, folds(300, 200))
    variances = fit.covariance[-1].diagonal()[M:]
    # What ridge regression leaves of 4 qualities, of 200 rows: 10% per variance, three times.
    np.testing.assert_allclose(variances, data.sigma.diagonal()[M:], rtol=0.3)
    # Eight rows are too few for a share to be found: correlations are not used at all.
    few, _ = fitted(design, quality, folds(300, 8, 2))
    covariance = few.covariance[-1]
    np.testing.assert_array_equal(covariance, np.diag(covariance.diagonal()))


def test_rows_that_are_not_fitted_on_teach_nothing():
    design, quality, _ = Gaussian(seed=14).sample(200, seed=15)
    hidden, fold = quality.copy(), folds(200, 120)
    hidden[120:] = np.nan
    leaves = (jax.tree.leaves(fitted(design, x, fold)[1]) for x in (quality, hidden))
    for leaf, same in zip(*leaves, strict=True):
        np.testing.assert_array_equal(leaf, same)


def test_costs_are_positive_and_estimated_from_features():
    rng, fold = np.random.default_rng(16), folds(400, 300)
    design, quality, _ = Gaussian(seed=16).sample(400, seed=17)
    cost = np.exp(design.seen[:, 1:2] + 0.1 * rng.standard_normal((400, K))).astype(np.float32)
    model, _ = fit_joint(design, quality, cost, fold, KEY, n_folds=4)
    joint = model.joint(design, cost, fold)
    expected = np.asarray(joint.cost)[300:]
    assert expected.min() > 0
    assert np.square(expected - cost[300:]).mean() < 0.6 * cost[300:].var()
    assert joint.to_run_sets().cost_weights.shape[1] == 1


@pytest.mark.parametrize("k", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_tables_of_few_and_many_models(k: int):
    table: Table = synthetic.sample(synthetic.make_dataset(k, seed=3), seed=4, n=250, features=True)
    found = learned(table, np.arange(200), estimator="joint")
    assert isinstance(found.estimator, Joint) == (k > 11)
    run = random_runs(250, k)
    got = estimates(found.estimator, run)
    assert np.isfinite(np.asarray(got.quality)).all()
    assert got.covariance.shape == (250, k, k)
    np.testing.assert_allclose(np.asarray(got.cost)[run], table.cost[run], rtol=1e-6)
    assert any("shrunk" in note for note in found.notes)
    assert any("with more than 11 models" in note for note in found.notes) == (k > 11)
    assert (found.settings()["cost_model"], found.settings()["ridge"]) == ("features", None)


def test_what_cannot_be_is_refused():
    design, quality, _ = Gaussian(seed=18).sample(40, seed=19)
    for fold in (np.zeros(40, int), folds(40, 0), np.full(40, 3)):
        with pytest.raises(CascjaxError, match="at least two folds"):
            fitted(design, quality, fold)
