"""Policies that hold a joint normal: on other tables, live, and kept in a file."""

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
import pytest
from bent import assert_refused, put
from test_learned_policy import RUNS, fit_rows, live, make_table

from cascjax import evaluate, fit, load_policy, synthetic
from cascjax.data.table import EVALUATE, FIT
from cascjax.estimators import RunSets, learned
from cascjax.estimators.joint import Joint
from cascjax.estimators.joint_model import JointModel
from cascjax.estimators.specs import Learned
from cascjax.policy import Policy


@functools.cache
def made(name: str = "joint", scale: float | Literal["auto"] = "auto") -> Policy:
    spec = Learned(name, sigma_scale=scale)
    return fit(make_table(), "cascade-routing", spec, parameter=300.0)


@pytest.mark.parametrize("name", ["joint", pytest.param("joint-mlp", marks=pytest.mark.slow)])
def test_what_was_fitted_is_kept_and_estimates_live_are_equal(name: str, tmp_path: Path) -> None:
    table, policy = make_table(), made(name, 0.5)
    assert policy.record["sigma_scale"] == 0.5
    policy.save(tmp_path / "policy.json")
    loaded = load_policy(tmp_path / "policy.json")
    assert isinstance(loaded.learned, JointModel)
    found = learned(table, fit_rows(table), estimator=name).estimator
    rows = np.flatnonzero(table.split == EVALUATE)[:40]
    kept = loaded.learned.estimator_for(table)
    assert isinstance(kept, RunSets)
    for run in RUNS:
        runs = np.tile(run, (len(rows), 1))
        want, got = (of.take(rows)(jnp.asarray(runs)) for of in (found, kept))
        for name in ("quality", "cost"):
            # A network rounds another way where a fold has another number of rows.
            np.testing.assert_allclose(getattr(got, name), getattr(want, name), rtol=1e-6)
        np.testing.assert_allclose(got.covariance, np.asarray(want.covariance) / 4, rtol=1e-6)
        seen = loaded.learned_estimates(runs, **live(table, rows, runs))
        # Sums of two dozen float32 products, added up in another order.
        for name in ("quality", "covariance"):
            np.testing.assert_allclose(getattr(seen, name), getattr(got, name), atol=3e-6)
        np.testing.assert_allclose(seen.cost, got.cost, rtol=1e-5)
        one = loaded.learned_estimates(run, **live(table, rows[7], run))
        for name in ("quality", "covariance", "cost"):
            part = np.asarray(getattr(seen, name))[7]
            np.testing.assert_allclose(getattr(one, name), part, rtol=1e-4, atol=1e-7)
    both = [evaluate(of, table, resamples=0) for of in (policy, loaded)]
    np.testing.assert_array_equal(both[0].quality, both[1].quality)


@pytest.mark.slow
def test_more_models_than_a_table_has_run_sets_for() -> None:
    made_of = synthetic.make_dataset(12, 0)
    table = synthetic.sample(made_of, 0, 120, features=True)
    split = np.where(np.arange(120) % 3 > 0, FIT, EVALUATE).astype(np.int8)
    table = replace(table, split=split, answer=None)
    policy = fit(table, "pandora", Learned("joint"), parameter=30.0)
    table = policy.matched(table)
    estimator = policy.learned.estimator_for(table)
    assert isinstance(estimator, Joint)
    run = np.arange(12) % 3 == 0
    want = estimator.take(slice(0, 1))(jnp.asarray(run[None]))
    got = policy.learned_estimates(
        run, features=table.features[0], signals=table.signals[0].reshape(12, -1),
        costs=table.cost[0], key=0,
        group="" if table.group is None else table.groups[table.group[0]],
    )  # fmt: skip
    np.testing.assert_allclose(got.quality, want.quality[0], atol=1e-5)
    np.testing.assert_allclose(got.covariance, want.covariance[0], atol=1e-5)
    assert 1 <= evaluate(policy, table, resamples=0).ran.sum() <= 12


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (["kind"], "tree", "unknown kind of learned estimates 'tree'"),
        (["sigma_scale"], 11, "sigma_scale must be from 0 to 10"),
        (["spread", 0, 0], 0.0, "spread of learned estimates must be above 0"),
        (["spread"], [[1.0]] * 6, r"spread of learned estimates of 3 models"),
        (["covariance", 0, 0, 0], -1.0, "is not a covariance"),
        (["least_cost", 0], -1.0, "least_cost of learned estimates must not be negative"),
        (["prediction", 0, "offset", 0], 1e39, "offset of learned estimates must be finite"),
        (["prediction", 0, "weights"], "x", "prediction.* must be an array"),
        (["prediction", 0, "more"], [1.0], "unknown field of 'learned.prediction.*' 'more'"),
        (["covariance"], None, "learned.covariance' must be an array"),
    ],
)
def test_damaged_fields_are_refused(
    place: list[Any], value: Any, words: str, tmp_path: Path
) -> None:
    change = put("learned", *place, value=value)
    assert_refused(tmp_path / "bent.json", made().text(), change, words)
