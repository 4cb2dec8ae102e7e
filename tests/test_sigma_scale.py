"""How far stated spreads are believed: by what they are worth on the rows to fit on."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from test_joint import drawn_joint
from test_run_sets import drawn

import cascjax
from cascjax import synthetic
from cascjax.data.table import Table, mean_rows, split_rows
from cascjax.errors import CascjaxError
from cascjax.estimators import RunSets, learned
from cascjax.estimators.joint import Joint
from cascjax.search.sigma_scale import SCALES, scaled, with_sigma_scale
from cascjax.strategies import CascadeRouting, Pandora, Routing, Thresholding


def log(n: int = 600) -> tuple[Table, RunSets, np.ndarray, np.ndarray]:
    """A world in which answers tell nothing, and estimates of which it is said they do."""
    table = synthetic.sample(synthetic.make_dataset(3, seed=0), 0, n, features=True)
    table = replace(table, signals=None, signal_names=(), answer=None)
    fit, evaluate = split_rows(table, 0)
    table = table.sort_models(mean_rows(table.cost, fit))
    found = learned(table, fit, folds=2, cost_model="constant").estimator
    assert isinstance(found, RunSets)
    said = np.asarray(found.covariance).copy()
    for run_set in range(8):
        left = [i for i in range(3) if not run_set >> i & 1]
        said[run_set][left, left] = 0.2
    return table, replace(found, covariance=said), fit, evaluate


@pytest.mark.slow
def test_spreads_that_are_made_up_are_not_believed() -> None:
    table, estimator, fit, evaluate = log()
    kind = CascadeRouting()
    _, believed = with_sigma_scale(kind, table, estimator, fit, None)
    assert believed < 0.5
    split = np.isin(np.arange(table.n_queries), evaluate).astype(np.int8)
    both = [
        cascjax.compare(replace(table, split=split), kind, one, budgets=8).frontiers[0]
        for one in (scaled(estimator, believed), estimator)
    ]
    # On other queries too: nothing is paid for what does not come.
    assert both[0].auc > both[1].auc


def test_sigmas_are_scaled_and_nothing_else() -> None:
    estimator = drawn(40, 3)
    assert isinstance(estimator, RunSets)
    half = scaled(estimator, 0.5)
    assert isinstance(half, RunSets)
    np.testing.assert_allclose(half.covariance, np.asarray(estimator.covariance) / 4, rtol=1e-6)
    assert half.quality_weights is estimator.quality_weights


def test_many_models_are_trusted_as_asked() -> None:
    """Of too many to tabulate nothing is tried, but what is asked for holds."""
    joint = drawn_joint(12, 15, 40, seed=0)
    table = Table(np.zeros((40, 12), np.float32), np.ones((40, 12), np.float32))
    run = jnp.asarray(np.random.default_rng(0).random((40, 12)) < 0.3)
    shown, believed = with_sigma_scale(Pandora(), table, joint, np.arange(40), 0.5)
    assert believed == 0.5
    got, plain = shown(run), joint(run)
    np.testing.assert_allclose(got.covariance, np.asarray(plain.covariance) / 4, rtol=1e-6)
    np.testing.assert_array_equal(got.quality, plain.quality)
    assert with_sigma_scale(Pandora(), table, joint, np.arange(40), None) == (joint, 1.0)
    assert isinstance(shown, Joint)
    few = scaled(drawn_joint(3, 5, 8, seed=1), 0.5)
    assert isinstance(few, Joint)
    run = jnp.asarray(np.arange(8)[:, None] >> np.arange(3) & 1 == 1)
    # One in float32 by sweeps, one in float64 by solving.
    want, got = few(run), few.to_run_sets()(run)
    np.testing.assert_allclose(got.covariance, want.covariance, atol=2e-5)


def test_only_what_reads_sigma_asks() -> None:
    table, estimator, fit, _ = log(200)
    for kind in (Routing(), Thresholding()):
        assert with_sigma_scale(kind, table, estimator, fit, None) == (estimator, 1.0)
    supplied = synthetic.sample(synthetic.make_dataset(3, seed=0), 0, 200)
    found = cascjax.compare(supplied, ["pandora"], budgets=4)
    assert found.frontiers[0].sigma_scale == 1.0


@pytest.mark.parametrize("sigma_scale", [-1.0, 11.0, float("nan")])
def test_nonsense_is_refused(sigma_scale: float) -> None:
    with pytest.raises(CascjaxError, match="sigma_scale must be 'auto' or a number from 0 to 10"):
        cascjax.Learned(sigma_scale=sigma_scale)


def test_scales_go_from_all_to_none() -> None:
    assert (SCALES[0], SCALES[-1]) == (1, 0)
    assert list(SCALES) == sorted(SCALES, reverse=True)
