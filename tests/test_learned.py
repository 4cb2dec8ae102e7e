"""Learned estimates: that they have skill, that nothing leaks into them, and their registry."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cascjax
from cascjax import synthetic
from cascjax.data import write_table
from cascjax.data.table import EVALUATE, FIT, Table
from cascjax.errors import CascjaxError
from cascjax.estimators import (
    COST_MODELS,
    ESTIMATORS,
    Design,
    Estimates,
    FittedEstimator,
    Independent,
    LearnedEstimator,
    RunSets,
    TrainingSet,
    learned,
    register,
    supplied,
)
from cascjax.estimators.learned import LearnedEstimates, check_keepable, check_learning
from cascjax.estimators.registry import learned_estimator, load_model
from cascjax.estimators.run_set_regression import MIN_CLASS_COUNT
from cascjax.estimators.training import Folds, fold_numbers

N, K = 1200, 3
SPLIT = np.where(np.arange(N) % 3 > 0, FIT, EVALUATE).astype(np.int8)
FIT_ROWS, OTHERS = np.flatnonzero(SPLIT == FIT), np.flatnonzero(SPLIT == EVALUATE)


def dataset() -> Table:
    table = synthetic.sample(synthetic.make_dataset(K, 0), 0, N, features=True)
    return replace(table, split=SPLIT)


def noise(n_features: int = 60) -> Table:
    """Features that say nothing, and so many that a fit finds something."""
    rng = np.random.default_rng(0)
    return Table(
        quality=(rng.random((N, K)) < 0.5).astype(np.float32),
        cost=np.tile(np.array([1, 2, 3], np.float32), (N, 1)),
        features=rng.normal(size=(N, n_features)).astype(np.float32),
        models=("a", "b", "c"),
    )


def at(found: LearnedEstimates, run: tuple[int, ...] = (0,) * K) -> dict[str, np.ndarray]:
    """The estimates of all queries under one run set."""
    every = jnp.broadcast_to(jnp.asarray(run, bool), (len(found.folds.fold), K))
    estimates = found.estimator(every)
    return {
        name: np.asarray(getattr(estimates, name)) for name in ("quality", "cost", "covariance")
    }


def skill(quality: np.ndarray, estimate: np.ndarray) -> np.ndarray:
    """Share of the variance of each model's quality that estimates explain."""
    return 1 - np.mean((quality - estimate) ** 2, 0) / quality.var(0)


def arrays(found: LearnedEstimates) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(found.fitted.weights)]


@pytest.mark.parametrize("estimator", ["logistic", "linear"])
def test_estimates_explain_quality_and_more_so_once_a_model_ran(estimator: str) -> None:
    table = dataset()
    found = learned(table, FIT_ROWS, estimator=estimator)
    before, after = at(found)["quality"], at(found, (1,) * K)["quality"]
    for rows in (FIT_ROWS, OTHERS):
        ante, post = (skill(table.quality[rows], x[rows]) for x in (before, after))
        assert (ante > 0.1).all()
        assert (post > ante + 0.1).all()
    # New queries get the weights of a fold by their number, as the rows not fitted on.
    again = found.model.estimator_for(table)(jnp.zeros((N, K), bool))
    np.testing.assert_allclose(again.quality[OTHERS], before[OTHERS], atol=1e-6)


def test_covariance_is_how_far_estimates_out_of_fold_still_move() -> None:
    found = learned(dataset(), FIT_ROWS)
    last = at(found, (1, 1, 1))["quality"][FIT_ROWS].astype(np.float64)
    for run in ((0, 0, 0), (0, 1, 0), (1, 0, 1), (1, 1, 1)):
        got, ran = at(found, run), np.array(run, bool)
        expected = np.cov((got["quality"][FIT_ROWS].astype(np.float64) - last).T)
        expected[ran] = expected[:, ran] = 0
        np.testing.assert_allclose(got["covariance"][0], expected, atol=1e-6)  # float32
    half = at(replace(found, estimator=found.model.scaled(0.5).estimator_for(dataset())), (0, 1, 0))
    half = half["covariance"]
    np.testing.assert_allclose(half, at(found, (0, 1, 0))["covariance"] / 4, rtol=1e-6)


@pytest.mark.parametrize("model", COST_MODELS)
def test_costs_are_exact_once_run_and_positive_on_rows_fitted_on(model: str) -> None:
    table = dataset()
    found = learned(table, FIT_ROWS, cost_model=model)
    assert found.fitted.cost_model == model
    mean = table.cost[FIT_ROWS].mean(0)
    for run in ((0, 0, 0), (0, 1, 0)):
        cost, ran = at(found, run)["cost"], np.array(run, bool)
        np.testing.assert_array_equal(cost[:, ran], table.cost[:, ran])
        assert (cost[FIT_ROWS] > 0).all()
        # Shrinking slopes moves no mean; folds and the ridge move it by little.
        np.testing.assert_allclose(cost[FIT_ROWS].mean(0), mean, rtol=0.02)
    if model == "constant":
        cost = at(found)["cost"][OTHERS]
        # Each fold has the mean of the others' rows: four fifths of all.
        np.testing.assert_allclose(cost, np.broadcast_to(mean, cost.shape), rtol=0.1)
        np.testing.assert_allclose(np.unique(cost[:, 0]).mean(), mean[0], rtol=1e-3)


def test_the_cost_model_is_the_one_that_explains_most() -> None:
    rng, table = np.random.default_rng(0), dataset()
    # The answers to a query are long or short together, which features half explain.
    length = 5 + np.asarray(table.features)[:, [0]].clip(-2, 2) + rng.uniform(-2, 2, (N, 1))
    cost = [1, 2, 3] * (length + rng.uniform(-0.5, 0.5, (N, K)))
    table = replace(table, cost=cost.astype(np.float32))
    assert learned(table, FIT_ROWS).fitted.cost_model == "seen"
    error = []
    for model in COST_MODELS:
        cost = at(learned(table, FIT_ROWS, cost_model=model), (1, 0, 0))["cost"]
        error.append(((cost - table.cost)[OTHERS, 1:] ** 2).mean(0))
    assert (np.diff(error, axis=0) < 0).all()
    # What always costs the same is best estimated from nothing.
    assert learned(noise(3), FIT_ROWS).fitted.cost_model == "constant"


def test_folds_are_even_and_drawn_by_seed() -> None:
    folds, same, other = (Folds.drawn(N, FIT_ROWS, 5, seed) for seed in (1, 1, 2))
    assert (folds.fold[OTHERS] == 5).all()
    assert np.ptp(np.bincount(folds.fold[FIT_ROWS], minlength=5)) <= 1
    np.testing.assert_array_equal(folds.fit_rows, FIT_ROWS)
    np.testing.assert_array_equal(folds.fold, same.fold)
    assert (folds.fold != other.fold).any()
    one, two = (learned(dataset(), FIT_ROWS, seed=1) for _ in range(2))
    assert one.digest == two.digest


def leaks(fit: Callable[[Table, np.ndarray], LearnedEstimates]) -> list[str]:
    """What leaks into estimates that `fit` makes of a table and its rows to fit on."""
    found, table = [], noise()
    plain = fit(table, FIT_ROWS)
    # Quality and cost of rows to evaluate, overwritten, change nothing that is fitted.
    quality, cost = table.quality.copy(), table.cost.copy()
    quality[OTHERS], cost[OTHERS] = 1 - quality[OTHERS], 100 * cost[OTHERS]
    for name, columns in {"quality": {"quality": quality}, "cost": {"cost": cost}}.items():
        after = arrays(fit(replace(table, **columns), FIT_ROWS))
        same = all(np.array_equal(a, b) for a, b in zip(arrays(plain), after, strict=True))
        found += [] if same else [f"{name} of rows to evaluate"]
    # Out of fold, noise has no skill.
    estimate = at(plain)["quality"]
    if (skill(table.quality[FIT_ROWS], estimate[FIT_ROWS]) > 0.01).any():
        found.append("a row's own quality")
    return found


def in_fold(table: Table, fit_rows: np.ndarray) -> LearnedEstimates:
    """A planted leak: rows fitted on get the weights fitted on all of them."""
    found = learned(table, fit_rows)
    return replace(found, estimator=found.model.estimator_for(table))


def test_nothing_leaks_and_the_guard_sees_planted_leaks() -> None:
    assert leaks(learned) == []
    assert leaks(lambda table, rows: learned(table, rows, estimator="linear")) == []
    assert leaks(in_fold) == ["a row's own quality"]
    on_all_rows = leaks(lambda table, rows: learned(table, np.arange(table.n_queries)))
    assert on_all_rows == ["quality of rows to evaluate", "cost of rows to evaluate"]


def test_models_that_cannot_be_learned_have_their_mean() -> None:
    table, quality = dataset(), dataset().quality.copy()
    quality[:, :2] = 1, 0
    quality[FIT_ROWS[: MIN_CLASS_COUNT - 1], 1] = 1
    found = learned(replace(table, quality=quality), FIT_ROWS)
    assert found.notes[0].startswith(f"{table.models[0]}: quality is 1 in all 800 rows")
    assert found.notes[1].startswith(f"{table.models[1]}: 9 good answers")
    for run in ((0, 0, 0), (1, 1, 1)):
        got = at(found, run)["quality"][OTHERS, :2]
        # Half an answer of 640 is added to each kind; a fold may hold some of the 9.
        np.testing.assert_allclose(got, np.broadcast_to([1, 9 / 800], got.shape), atol=5e-3)
    assert skill(table.quality, at(found)["quality"])[2] > 0.1
    assert (np.diagonal(at(found)["covariance"][0])[:2] < 1e-6).all()
    quality[:, 1] = 0.5
    for estimator in ("logistic", "linear"):
        found = learned(replace(table, quality=quality), FIT_ROWS, estimator=estimator)
        assert "quality is 0.5 in all 800 rows" in found.notes[1]
        np.testing.assert_allclose(at(found)["quality"][:, 1], 0.5, atol=1e-6)


def test_a_note_says_when_nothing_is_known_beforehand() -> None:
    table = replace(dataset(), features=None, feature_names=(), group=None, groups=())
    (note, *_) = learned(table, FIT_ROWS).notes
    assert note.startswith("nothing is known of a query before a model runs")
    assert not any("nothing is known" in note for note in learned(dataset(), FIT_ROWS).notes)


def test_all_models_constant_and_free() -> None:
    free = {"quality": np.ones((N, K), np.float32), "cost": np.zeros((N, K), np.float32)}
    found = learned(replace(dataset(), **free), FIT_ROWS)
    assert any("costs 0 on all rows" in note for note in found.notes)
    assert np.isfinite(at(found)["quality"]).all()
    assert not at(found)["cost"].any()


def test_graded_quality_and_quality_beyond_one() -> None:
    graded = replace(dataset(), quality=np.random.default_rng(0).random((N, K), np.float32))
    assert np.isfinite(at(learned(graded, FIT_ROWS))["quality"]).all()
    stars = replace(graded, quality=1 + 4 * graded.quality)
    with pytest.raises(CascjaxError, match=r"row 1: quality .* between 0 and 1 .* 'linear'"):
        learned(stars, FIT_ROWS)
    got = at(learned(stars, FIT_ROWS, estimator="linear"))["quality"]
    assert got.mean() == pytest.approx(3, abs=0.1)  # uniform in 1 to 5, 1,200 rows


def test_the_ridge_is_the_one_of_least_error_out_of_fold() -> None:
    weak, chosen = (learned(noise(), FIT_ROWS, ridge=ridge) for ridge in (1.0, None))
    # Of 60 columns that say nothing, the smaller the weights the better.
    quality = noise().quality[FIT_ROWS]
    better, worse = (skill(quality, at(found)["quality"][FIT_ROWS]) for found in (chosen, weak))
    assert (better > worse + 0.05).all()
    assert "ridge 1000 has the lowest cross-validated error" in chosen.notes
    assert chosen.settings()["ridge"] == 1000
    plain, chosen = (
        skill(dataset().quality, at(learned(dataset(), FIT_ROWS, ridge=ridge))["quality"]).mean()
        for ridge in (1.0, None)
    )
    assert chosen >= plain - 0.01


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"estimator": "logistics"}, "did you mean 'logistic'"),
        ({"cost_model": "seem"}, "did you mean 'seen'"),
        ({"folds": 1}, "folds must be at least 2"),
        ({"folds": 401}, "too few for 401 folds"),
        ({"seed": -1}, "seed of the folds"),
        ({"ridge": 0.0}, "ridge must be finite and above 0"),
        ({"estimator": "joint", "cost_model": "seen"}, "no cost model 'seen'.* use 'features'"),
        ({"estimator": "joint", "ridge": 10.0}, "no use for ridge 10"),
    ],
)
def test_refusals(options: dict[str, Any], words: str) -> None:
    with pytest.raises(CascjaxError, match=words):
        learned(dataset(), FIT_ROWS, **options)


def test_limits_name_the_estimators_without_them() -> None:
    with pytest.raises(CascjaxError, match=r"at most 8 models, not 9; use estimator 'joint'"):
        check_learning("linear", n_models=9)
    with pytest.raises(CascjaxError, match=r"'joint-knn' cannot be kept .* 'joint' or 'joint-mlp'"):
        check_keepable("joint-knn")
    with pytest.raises(CascjaxError, match="cannot be kept in a policy"):
        _ = learned(dataset(), FIT_ROWS, estimator="joint-knn").model
    with pytest.raises(CascjaxError, match="unknown kind of learned estimates 'tree'"):
        load_model({"kind": "tree"})


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Means:
    """Weights of an estimator of our own: mean quality and cost of each fold's other rows."""

    quality: np.ndarray
    cost: np.ndarray

    def estimator(self, design: Design, cost_run: np.ndarray, fold: np.ndarray) -> RunSets:
        quality, cost = (x[:, None, :, None].astype(np.float32) for x in (self.quality, self.cost))
        return RunSets(
            seen=np.ones((len(cost_run), 1), np.float32),
            fold=fold,
            quality_weights=np.repeat(quality, 2**K, 1),
            cost_weights=cost,
            covariance=np.zeros((2**K, K, K), np.float32),
            cost_run=cost_run,
            logistic=False,
        )


@dataclass(frozen=True)
class MeanEstimator(LearnedEstimator):
    def fit(self, training: TrainingSet) -> FittedEstimator:
        folds, rows = training.folds, training.folds.fit_rows
        rest = [rows[folds.fold[rows] != f] for f in range(folds.n_folds)]
        return FittedEstimator(
            Means(
                *(np.stack([x[r].mean(0) for r in rest]) for x in (training.quality, training.cost))
            ),
            cost_model="constant",
        )


MINE = MeanEstimator("mean", "the mean of each model", max_models=3, quality_range=(0.0, 1.0))


def test_an_estimator_of_our_own_is_one_class_and_one_registration() -> None:
    register(MINE)
    try:
        assert learned_estimator("mean") is MINE
        spec = cascjax.Learned("mean")
        found = cascjax.compare(dataset(), ["mixing", "routing"], spec, budgets=3)
        assert found.settings["estimator"] == "mean"
        mixing, routing = (frontier.auc for frontier in found.frontiers)
        # Means cannot tell queries apart, so routing is no better than mixing single models.
        assert 0.5 < routing < mixing + 0.01
        with pytest.raises(CascjaxError, match="'mean' takes at most 3 models, not 4"):
            check_learning("mean", n_models=4)
        with pytest.raises(CascjaxError, match="'mean' cannot be kept in a policy"):
            check_keepable("mean")
    finally:
        del ESTIMATORS["mean"]


def test_an_instance_does_as_well_as_a_name() -> None:
    found = learned(dataset(), FIT_ROWS, estimator=MINE, folds=2)
    fold = fold_numbers(OTHERS[:1], 2)[0]
    expected = dataset().quality[(found.folds.fold < 2) & (found.folds.fold != fold)].mean(0)
    np.testing.assert_allclose(at(found)["quality"][OTHERS[0]], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("estimator", "words"),
    [(replace(MINE, name=""), "that has a name"), (replace(MINE, name="joint"), "'joint' already")],
)
def test_what_cannot_be_registered(estimator: Any, words: str) -> None:
    with pytest.raises(CascjaxError, match=words):
        register(estimator)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Own:
    """An estimator that is none of ours: supplied estimates of all rows of a source."""

    inner: Independent

    def __call__(self, run: jax.Array) -> Estimates:
        return self.inner(run)

    def take(self, rows: slice | np.ndarray) -> "Own":
        return Own(self.inner.take(rows))


@pytest.mark.parametrize("files", [1, 4])
def test_an_estimator_that_is_none_of_ours_does_as_well(files: int, tmp_path: Path) -> None:
    """It gives what the same numbers give when they are supplied, in memory and in files."""
    table = replace(dataset(), quality_sigma=None)
    mine = Own(supplied(table, FIT_ROWS))
    source: Table | Path = table
    if files > 1:
        source = tmp_path
        for i, rows in enumerate(np.array_split(np.arange(N), files)):
            write_table(tmp_path / f"{i}.arrow", table.take(rows))
    kinds = ["routing", "cascade-routing"]
    expected, got = (
        cascjax.compare(source, kinds, estimates, budgets=4) for estimates in (None, mine)
    )
    for own, other in zip(got.frontiers, expected.frontiers, strict=True):
        # The search tries fewer settings where it cannot simulate many at once.
        assert own.auc == pytest.approx(other.auc, abs=2e-3)
    with pytest.raises(CascjaxError, match="make it from all rows of the source"):
        cascjax.compare(source, kinds, mine.take(slice(10)), budgets=4)
