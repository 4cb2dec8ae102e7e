"""Estimates learned from a log: that they are worth something, and that nothing leaks into them."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from click.testing import CliRunner

import cascjax
from cascjax import synthetic
from cascjax.cli.main import main
from cascjax.data import write_table
from cascjax.data.table import EVALUATE, FIT, Table
from cascjax.errors import CascjaxError
from cascjax.estimators import RunSets, learned
from cascjax.estimators.learned import COST_MODELS, LEAST_OF_CLASS, Folds, Learned

N, K = 1200, 3
FIT_ROWS = np.flatnonzero(np.arange(N) % 3 > 0)
OTHERS = np.flatnonzero(np.arange(N) % 3 == 0)


def world(seed: int = 0) -> Table:
    table = synthetic.sample(synthetic.make_dataset(K, seed), seed, N, features=True)
    split = np.where(np.arange(N) % 3 > 0, FIT, EVALUATE).astype(np.int8)
    return replace(table, split=split)


def noise(n_features: int = 60) -> Table:
    """Features that tell nothing, and so many that a fit finds something."""
    rng = np.random.default_rng(0)
    return Table(
        quality=(rng.random((N, K)) < 0.5).astype(np.float32),
        cost=np.tile(np.array([1, 2, 3], np.float32), (N, 1)),
        features=rng.normal(size=(N, n_features)).astype(np.float32),
        models=("a", "b", "c"),
    )


def told(found: Learned, run: tuple[int, ...] = (0,) * K) -> dict[str, np.ndarray]:
    """What is believed of all queries under one run set."""
    n = len(found.folds.fold)
    got = found.estimator(jax.numpy.broadcast_to(jax.numpy.asarray(run, bool), (n, K)))
    return {name: np.asarray(getattr(got, name)) for name in ("quality", "cost", "covariance")}


def skill(quality: np.ndarray, estimate: np.ndarray) -> np.ndarray:
    """Share of the variance of each model's quality that estimates explain."""
    return 1 - np.mean((quality - estimate) ** 2, 0) / quality.var(0)


def arrays(found: Learned) -> list[np.ndarray]:
    """All that is fitted."""
    of = found.estimator
    assert isinstance(of, RunSets)
    return [np.asarray(x) for x in (of.quality_weights, of.cost_weights, of.covariance)]


# What is learned.


@pytest.mark.parametrize("learner", ["logistic", "linear"])
def test_estimates_explain_quality_and_more_so_once_a_model_ran(learner: str) -> None:
    table = world()
    found = learned(table, FIT_ROWS, learner=learner)
    before, after = told(found)["quality"], told(found, (1,) * K)["quality"]
    for rows in (FIT_ROWS, OTHERS):
        ante, post = (skill(table.quality[rows], x[rows]) for x in (before, after))
        assert (ante > 0.1).all()
        assert (post > ante + 0.1).all()
    # The facts are those of the rows fitted on.
    fit = table.quality[FIT_ROWS]
    np.testing.assert_allclose(found.explained, skill(fit, before[FIT_ROWS]), atol=1e-4)
    np.testing.assert_allclose(found.explained_run, skill(fit, after[FIT_ROWS]), atol=1e-4)


def test_covariance_is_how_far_estimates_out_of_fold_still_move() -> None:
    found = learned(world(), FIT_ROWS)
    last = told(found, (1, 1, 1))["quality"][FIT_ROWS].astype(np.float64)
    for run in ((0, 0, 0), (0, 1, 0), (1, 0, 1), (1, 1, 1)):
        got = told(found, run)
        expected = np.cov((got["quality"][FIT_ROWS].astype(np.float64) - last).T)
        ran = np.array(run, bool)
        expected[ran] = expected[:, ran] = 0
        np.testing.assert_allclose(got["covariance"][0], expected, atol=1e-6)  # float32


def test_costs_are_exact_once_run_and_never_below_zero_on_rows_fitted_on() -> None:
    table = world()
    for model in ("constant", "features", "seen"):
        found = learned(table, FIT_ROWS, cost_model=model)
        assert found.cost_model == model
        for run in ((0, 0, 0), (0, 1, 0)):
            cost, ran = told(found, run)["cost"], np.array(run, bool)
            np.testing.assert_array_equal(cost[:, ran], table.cost[:, ran])
            assert (cost[FIT_ROWS] > 0).all()
            # Shrinking slopes moves no mean; folds and the ridge move it by little.
            mean = table.cost[FIT_ROWS].mean(0)
            np.testing.assert_allclose(cost[FIT_ROWS].mean(0), mean, rtol=0.02)
    constant = told(learned(table, FIT_ROWS, cost_model="constant"))["cost"]
    np.testing.assert_allclose(
        constant[OTHERS], np.broadcast_to(table.cost[FIT_ROWS].mean(0), (len(OTHERS), K)), rtol=1e-5
    )


def test_the_cost_model_is_the_one_that_explains_most() -> None:
    rng, table = np.random.default_rng(0), world()
    assert table.features is not None
    # A query's answers are long or short together, which is half told beforehand.
    length = 5 + table.features[:, [0]].clip(-2, 2) + rng.uniform(-2, 2, (N, 1))
    cost = [1, 2, 3] * (length + rng.uniform(-0.5, 0.5, (N, K)))
    table = replace(table, cost=cost.astype(np.float32))
    found = learned(table, FIT_ROWS)
    assert found.cost_model == "seen"
    error = {}
    for model in ("constant", "features", "seen"):
        cost = told(learned(table, FIT_ROWS, cost_model=model), (1, 0, 0))["cost"]
        error[model] = ((cost - table.cost)[OTHERS, 1:] ** 2).mean(0)
    assert (error["seen"] < error["features"]).all()
    assert (error["features"] < error["constant"]).all()
    # What costs always the same is told best from nothing.
    assert learned(noise(3), FIT_ROWS).cost_model == "constant"


def test_same_seed_same_folds_and_other_seed_others() -> None:
    one, two, other = (learned(world(), FIT_ROWS, seed=seed) for seed in (1, 1, 2))
    for a, b in zip(arrays(one), arrays(two), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (one.folds.fold != other.folds.fold).any()


def test_folds() -> None:
    folds = Folds.drawn(N, FIT_ROWS, 5, 0)
    assert (folds.fold[OTHERS] == 5).all()
    assert (folds.fold[FIT_ROWS] < 5).all()
    assert np.ptp(np.bincount(folds.fold[FIT_ROWS])) <= 1
    np.testing.assert_array_equal(folds.fit_rows, FIT_ROWS)


# What must not leak.


def leaks(fit: Callable[[Table, np.ndarray], Learned]) -> list[str]:
    """The guard: what leaks into estimates made by `fit` from a table and its rows to fit on."""
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
    estimate = told(plain)["quality"]
    if (skill(table.quality[FIT_ROWS], estimate[FIT_ROWS]) > 0.01).any():
        found.append("a row's own quality")
    return found


def in_fold(table: Table, fit_rows: np.ndarray) -> Learned:
    """A planted leak: rows fitted on get the weights fitted on all of them."""
    found = learned(table, fit_rows)
    assert isinstance(found.estimator, RunSets)
    fold = np.full_like(found.folds.fold, found.folds.n_folds)
    return replace(found, estimator=replace(found.estimator, fold=fold))


def on_all_rows(table: Table, fit_rows: np.ndarray) -> Learned:
    """A planted leak: rows to evaluate are fitted on too."""
    return learned(table, np.arange(table.n_queries))


def test_nothing_leaks() -> None:
    assert leaks(learned) == []
    assert leaks(lambda table, rows: learned(table, rows, learner="linear")) == []


def test_the_guard_sees_planted_leaks() -> None:
    assert leaks(in_fold) == ["a row's own quality"]
    assert leaks(on_all_rows) == ["quality of rows to evaluate", "cost of rows to evaluate"]


# Bad input.


def test_models_that_cannot_be_learned_have_their_mean() -> None:
    table, quality = world(), world().quality.copy()
    quality[:, 0] = 1
    quality[:, 1] = 0
    quality[FIT_ROWS[: LEAST_OF_CLASS - 1], 1] = 1
    found = learned(replace(table, quality=quality), FIT_ROWS)
    assert [note.split(":")[0] for note in found.notes[:2]] == list(table.models[:2])
    assert "is 1 in all 800 rows" in found.notes[0]
    assert "9 good answers" in found.notes[1]
    for run in ((0, 0, 0), (1, 1, 1)):
        got = told(found, run)["quality"][OTHERS]
        assert np.ptp(got[:, :2]) == pytest.approx(np.ptp(got[0, :2]), abs=1e-6)
        np.testing.assert_allclose(got[:, 0], 1, atol=1e-3)  # half an answer of 800
        np.testing.assert_allclose(got[:, 1], 9 / 800, atol=1e-3)
    assert np.isnan(found.explained[0])
    assert found.explained[2] > 0.1
    assert (np.diagonal(told(found)["covariance"][0])[:2] < 1e-6).all()


def test_a_quality_that_never_varies_is_said_whatever_it_is() -> None:
    quality = world().quality.copy()
    quality[:, 1] = 0.5
    for learner in ("logistic", "linear"):
        found = learned(replace(world(), quality=quality), FIT_ROWS, learner=learner)
        assert "quality is 0.5 in all 800 rows" in found.notes[0]
        np.testing.assert_allclose(told(found)["quality"][:, 1], 0.5, atol=1e-6)


def test_all_models_constant_and_free() -> None:
    table = replace(world(), quality=np.ones((N, K), np.float32), cost=np.zeros((N, K), np.float32))
    found = learned(table, FIT_ROWS)
    assert any("costs 0 on all rows" in note for note in found.notes)
    got = told(found)
    assert np.isfinite(got["quality"]).all()
    assert not got["cost"].any()


def test_graded_quality_and_quality_beyond_one() -> None:
    graded = replace(world(), quality=np.random.default_rng(0).random((N, K), np.float32))
    assert np.isfinite(told(learned(graded, FIT_ROWS))["quality"]).all()
    stars = replace(graded, quality=1 + 4 * graded.quality)
    with pytest.raises(CascjaxError, match=r"not between 0 and 1.*--learner linear"):
        learned(stars, FIT_ROWS)
    got = told(learned(stars, FIT_ROWS, learner="linear"))["quality"]
    assert got.mean() == pytest.approx(3, abs=0.1)  # uniform in 1 to 5, 1,200 rows


def test_the_ridge_is_the_one_of_least_error_out_of_fold() -> None:
    table = noise()
    weak, chosen = (learned(table, FIT_ROWS, ridge=ridge) for ridge in (1.0, None))
    # Of 60 columns that tell nothing, the less is believed the better.
    assert (chosen.explained > weak.explained + 0.05).all()
    assert "of the ridges tried, 1000 errs least out of fold" in chosen.notes
    assert chosen.settings()["ridge"] == 1000
    told_well = learned(world(), FIT_ROWS, ridge=None)
    plain = learned(world(), FIT_ROWS)
    assert told_well.explained.mean() >= plain.explained.mean() - 0.01


def test_refusals() -> None:
    table = world()
    refused: list[tuple[dict[str, Any], str]] = [
        ({"learner": "logistics"}, "did you mean 'logistic'"),
        ({"cost_model": "seem"}, "did you mean 'seen'"),
        ({"folds": 1}, "folds must be at least 2"),
        ({"folds": 401}, "too few for 401 folds"),
        ({"seed": -1}, "seed of the folds"),
        ({"ridge": 0.0}, "ridge must be finite and above 0"),
    ]
    for more, words in refused:
        with pytest.raises(CascjaxError, match=words):
            learned(table, FIT_ROWS, **more)
    wide = Table(quality=np.ones((100, 9), np.float32), cost=np.ones((100, 9), np.float32))
    with pytest.raises(CascjaxError, match=r"at most 8 models, not 9.*--learner joint"):
        learned(wide, np.arange(100))


# From the outside.


def test_compare_with_learned_estimates() -> None:
    table = world()
    found = cascjax.compare(table, ["mixing", "routing"], estimates="learned", budgets=4)
    expected = {"estimates": "learned", "learner": "logistic", "folds": 5}
    assert {name: found.settings[name] for name in expected} == expected
    assert found.settings["cost_model"] in COST_MODELS
    mixing, routing = found.frontiers
    assert routing.auc > mixing.auc


def test_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "t.arrow"
    write_table(path, world())
    words = ["frontier", str(path), "--strategies", "routing", "--budgets", "3", "--resamples", "0"]
    words += ["--out", str(tmp_path / "out")]
    done = CliRunner().invoke(
        main, [*words, "--learner", "linear", "--folds", "4", "--ridge", "auto"]
    )
    assert done.exit_code == 0, done.output
    assert "learned estimates" in done.output
    assert "note: costs are told from" in done.output
    settings = json.loads((tmp_path / "out" / "summary.json").read_text())["settings"]
    assert (settings["learner"], settings["folds"]) == ("linear", 4)
    assert settings["cost_model"] in COST_MODELS
    assert len(settings["notes"]) >= 1
    for more, part in (
        (["--learner", "tree"], "'tree'"),
        (["--estimates", "noisy", "--folds", "4"], "--folds is of learned estimates"),
        (["--estimates", "learned", "--noise", "low"], "--noise is of noisy estimates"),
    ):
        done = CliRunner().invoke(main, [*words, *more])
        assert done.exit_code == 2
        assert part in done.output
