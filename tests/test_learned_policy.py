"""Policies that make their own estimates: on other tables, live, and kept in a file."""

import functools
import inspect
import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from bent import Change, assert_refused
from bent import put as put_anywhere
from test_fit import searched

from cascjax import evaluate, fit, load_policy, synthetic
from cascjax.data.table import EVALUATE, FIT, Table, split_rows
from cascjax.errors import CascjaxError
from cascjax.estimators import FeatureSpec, RunSets, design, learned
from cascjax.estimators.joint import Joint
from cascjax.estimators.learned_model import LearnedModel
from cascjax.estimators.specs import Learned, Noisy
from cascjax.policy import Policy
from cascjax.search.rules import CostEstimates, simulate_rule

N, K = 900, 3
RUNS = [np.array(run, bool) for run in itertools.product([0, 1], repeat=K)]


@functools.cache
def make_table(n: int = N, seed: int = 0) -> Table:
    """A world whose answers, signals, features, groups and costs all tell something."""
    made = synthetic.make_dataset(K, 0)
    table = synthetic.sample(made, seed, n, features=True)
    rng = np.random.default_rng(seed)
    features = table.features.copy()
    features[rng.random(n) < 0.05, 0] = np.nan
    answer = np.where(rng.random((n, K)) < 0.1, -1, rng.integers(0, 3, (n, K))).astype(np.int32)
    group = rng.integers(0, 3, n).astype(np.int32)
    group[:28] = [3] * 14 + [4] * 14  # nine rows each to fit on
    split = np.where(np.arange(n) % 3 > 0, FIT, EVALUATE).astype(np.int8)
    return replace(
        table, features=features, answer=answer, group=group, split=split,
        groups=("law", "math", "code", "rare", "odd"),
        extra_costs={"seconds": (table.cost / table.cost.mean(0) * [3, 2, 1]).astype(np.float32)},
    )  # fmt: skip


def fit_rows(table: Table) -> np.ndarray:
    return split_rows(table)[0]


@functools.cache
def made(name: str = "routing", **more: Any) -> Policy:
    asked: dict[str, Any] = {"budget": 0.0004} | more
    return fit(make_table(), name, Learned(), **asked)


def slow(name: str) -> Any:
    """What takes longest to compile."""
    return pytest.param(name, marks=pytest.mark.slow)


@functools.cache
def joint() -> Policy:
    return fit(make_table(), "cascade-routing", Learned("joint"), parameter=300.0)


@functools.cache
def feature_spec() -> FeatureSpec:
    return design(make_table(), fit_rows(make_table())).feature_spec


# Columns.


def test_models_groups_and_names_are_matched_in_any_order() -> None:
    table = make_table()
    assert table.group is not None
    per = table.signals.shape[1] // K
    # More models, features, signals and groups than were fitted on, and all in another order.
    order = [2, 0, 1]
    signals = table.signals.reshape(N, K, per)[:, order, ::-1]
    signals = np.concatenate([signals, np.ones((N, K, 1), np.float32)], 2)
    signals = np.concatenate([signals[:, :1], signals[:, :1], signals[:, 1:]], 1)

    def mixed(of: np.ndarray) -> np.ndarray:
        return np.concatenate([of[:, [2]], of[:, [2]] * 2, of[:, [0, 1]]], 1)

    more = replace(
        table,
        quality=mixed(table.quality),
        cost=mixed(table.cost),
        answer=mixed(np.asarray(table.answer)),
        extra_costs={},
        signals=signals.reshape(N, -1),
        signal_names=(*table.signal_names[::-1], "more"),
        features=np.concatenate([np.ones((N, 1), np.float32), table.features[:, ::-1]], 1),
        feature_names=("more", *table.feature_names[::-1]),
        models=(table.models[2], "another", table.models[0], table.models[1]),
        groups=("nobody", *table.groups[::-1]),
        group=len(table.groups) - table.group,
        quality_ante=None, quality_post=None, quality_sigma=None, cost_ante=None, cost_post=None,
    )  # fmt: skip
    np.testing.assert_array_equal(feature_spec().seen(more), feature_spec().seen(table))
    kinds = {column.kind for column in feature_spec().columns}
    assert kinds >= {"one", "feature", "group", "small groups", "signal", "answers", "cost"}
    policy = made()
    got, want = (evaluate(policy, of, resamples=0) for of in (more, table))
    np.testing.assert_array_equal(got.quality, want.quality)
    np.testing.assert_array_equal(got.cost[0], want.cost[0])


def test_what_another_table_lacks_is_named() -> None:
    table = make_table()
    feature, signal = table.feature_names[0], table.signal_names[0]
    lacking: list[tuple[dict[str, Any], str]] = [
        ({"features": None}, "lacks the column 'features'"),
        ({"signals": None}, "lacks the column 'signals'"),
        ({"answer": None}, "lacks the column 'answer'"),
        ({"group": None}, "lacks the column 'group'"),
        ({"models": ("a", "b", "c")}, f"lacks the model '{table.models[0]}'"),
        ({"feature_names": ("x", *table.feature_names[1:])}, f"lacks the feature '{feature}'"),
        ({"signal_names": ("x", *table.signal_names[1:])}, f"lacks the signal '{signal}'"),
        ({"feature_names": ()}, "does not name its"),
    ]
    for columns, words in lacking:
        with pytest.raises(CascjaxError, match=words):
            feature_spec().seen(replace(table, **columns))
    with pytest.raises(CascjaxError, match="lacks the column 'answer'"):
        evaluate(made(), replace(table, answer=None))
    # Columns that the design does not use are not needed.
    plain = replace(table, answer=None, group=None, signals=None, signal_names=())
    spec = design(plain, fit_rows(table)).feature_spec
    np.testing.assert_array_equal(spec.seen(table), spec.seen(plain))


# One query.


def live(table: Table, rows: Any, run: np.ndarray) -> dict[str, Any]:
    """What a live system sees of queries once some models have run."""
    signals = table.signals.reshape(table.n_queries, K, -1)[rows]
    groups = np.array(table.groups)[table.group[rows]]
    return {
        "features": table.features[rows],
        "group": groups.tolist() if np.ndim(rows) else str(groups),
        "signals": np.where(run[..., None], signals, np.nan),
        "answers": np.where(run, table.answer[rows], -1),
        "costs": np.where(run, table.cost[rows], np.nan),
        "key": rows if np.ndim(rows) else int(rows),
    }


@pytest.mark.parametrize("name", ["logistic", "linear", "joint", slow("joint-mlp")])
def test_a_kept_policy_estimates_as_the_fit_did_and_live_as_in_a_table(
    name: str, tmp_path: Path
) -> None:
    table = make_table()
    policy = fit(table, "pandora", Learned(name, sigma_scale=0.5), parameter=300.0)
    assert policy.record["sigma_scale"] == 0.5
    policy.save(tmp_path / "policy.json")
    loaded = load_policy(tmp_path / "policy.json")
    found = learned(table, fit_rows(table), estimator=name).estimator
    kept = loaded.learned.estimator_for(table)
    assert isinstance(kept, RunSets)
    rows = np.flatnonzero(table.split == EVALUATE)[:60]
    for run in RUNS:
        runs = np.tile(run, (len(rows), 1))
        want, got = (of.take(rows)(jnp.asarray(runs)) for of in (found, kept))
        for part in ("quality", "cost"):
            # A network rounds another way where a fold has another number of rows: what is nearly
            # 0 by the rounding of terms of about 1.
            pair = getattr(got, part), getattr(want, part)
            np.testing.assert_allclose(*pair, rtol=1e-6, atol=1e-7 if part == "quality" else 0)
        np.testing.assert_allclose(got.covariance, np.asarray(want.covariance) / 4, rtol=1e-6)
        seen = loaded.learned_estimates(runs, **live(table, rows, runs))
        # Sums of two dozen float32 products, added up in another order.
        for part in ("quality", "covariance"):
            np.testing.assert_allclose(getattr(seen, part), getattr(got, part), atol=3e-6)
        np.testing.assert_allclose(seen.cost, got.cost, rtol=1e-5, atol=1e-9)
        one = loaded.learned_estimates(run, **live(table, rows[7], run))
        for part in ("quality", "covariance", "cost"):
            whole = np.asarray(getattr(seen, part))[7]
            np.testing.assert_allclose(getattr(one, part), whole, rtol=1e-4, atol=1e-7)
    both = [evaluate(of, table, resamples=0) for of in (policy, loaded)]
    np.testing.assert_array_equal(both[0].quality, both[1].quality)


def test_what_a_live_query_may_leave_out() -> None:
    table, policy = make_table(), made()
    rows = np.flatnonzero(table.split == EVALUATE)
    # Of models that have not run answers may be missing as all else may: their numbers stay whole.
    one, nan = np.array([True, False, False]), float("nan")
    got, want = (
        policy.learned_estimates(one, **{**live(table, rows[7], one), "answers": answers})
        for answers in ([5, nan, nan], [5, -1, -1])
    )
    np.testing.assert_array_equal(got.quality, want.quality)
    large = feature_spec().row(answers=[1 << 62, (1 << 62) + 1, 3])
    np.testing.assert_array_equal(large, feature_spec().row(answers=[1, 2, 3]))
    # Before anything has run nothing of it is asked for.
    nothing = np.zeros(K, bool)
    seen = live(table, rows[7], nothing)
    known = {name: seen[name] for name in ("features", "group", "key")}
    before = policy.learned_estimates(nothing, **known)
    want = policy.learned_estimates(nothing, **seen)
    np.testing.assert_array_equal(before.quality, want.quality)


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


@pytest.mark.parametrize("name", ["pandora", slow("cascade-routing")])
def test_a_live_system_does_what_the_replay_does(name: str) -> None:
    """Step by step, one query at a time, to the end: the models run and the answer returned."""
    table, policy = make_table(), made(name, budget=None, parameter=300.0)
    rows = np.flatnonzero(table.split == EVALUATE)[:40]
    estimates = CostEstimates(policy.learned.estimator_for(table))
    want = simulate_rule(policy.strategy, policy.rule, estimates, table, rows)
    for place, row in enumerate(rows.tolist()):
        run = np.zeros(K, bool)
        while (
            model := policy.next_model(policy.learned_estimates(run, **live(table, row, run)), run)
        ) >= 0:
            run[model] = True
        np.testing.assert_array_equal(run, want.run[0, place])
        estimates = policy.learned_estimates(run, **live(table, row, run))
        assert policy.answer(estimates, run) == want.answer[0, place]
    assert 0.1 < want.run.mean() < 0.9


def test_live_refusals() -> None:
    policy, run = made(), np.array([True, False, False])
    seen = live(make_table(), 0, run)
    for name in ("features", "group", "signals", "answers", "costs", "key"):
        with pytest.raises(CascjaxError, match=f"{name} is missing"):
            policy.learned_estimates(run, **(seen | {name: None}))
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"features": [1.0]}, r"features must be \[\d+\], or \[B, \d+\]"),
        ({"signals": np.zeros((K, 9))}, "signals must be"),
        ({"answers": [[1, 2, 3]] * 4}, "arguments are of"),
        ({"answers": ["yes", None, None]}, "answers must be numbers"),
    ]
    for more, words in wrong:
        with pytest.raises(CascjaxError, match=words):
            policy.learned_estimates(run, **(seen | more))
    # A table's group codes are no names; types are checked in tests alone.
    row = inspect.unwrap(type(feature_spec()).row)
    for group in (1, [1], np.array([0, 1])):
        with pytest.raises(CascjaxError, match="group must be a group's name"):
            row(feature_spec(), group=group)
    with pytest.raises(CascjaxError, match="run must be booleans"):
        policy.learned_estimates([True, False], **seen)
    with pytest.raises(CascjaxError, match="call learned_estimates instead"):
        policy.estimates([0.5] * K, run)
    other = fit(make_table(), "routing", Noisy(), parameter=1.0)
    with pytest.raises(CascjaxError, match="makes no estimates itself"):
        other.learned_estimates(run, **seen)


# The file.

put = functools.partial(put_anywhere, "learned")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (put("logistic", value=1), "learned.logistic' is wrong .expected 'bool'"),
        (put("feature_spec", value=[]), "learned.feature_spec' is wrong"),
        (put("more", value=[]), "unknown field 'more'"),
        (put("covariance", value=[[[0.0]]]), "covariance of learned estimates of 3 models"),
        (put("covariance", 1, 0, 0, value=0.5), "covariance of learned estimates"),
        (put("covariance", 0, 0, 0, value=-0.5), "covariance of learned estimates"),
        (put("quality_weights", 0, 0, 0, 0, value=1e39), "quality_weights .* must be finite"),
        (put("quality_weights", 0, 0, 0, -1, value=0.5), "columns that are not known yet"),
        (put("quality_weights", 0, 0, 0, value="a"), "quality_weights' must be an array"),
        (put("cost_weights", value=[[[0.0, 0.0]]]), "cost_weights .* must be"),
        (
            put("feature_spec", "models", value=["a", "b", "b"]),
            "models of a feature spec must be distinct",
        ),
        (put("feature_spec", "models", value=["c", "a", "b"]), "it cannot have"),
        (put("feature_spec", "columns", value=[]), "first column of a feature spec must be 1"),
        (put("feature_spec", "columns", 1, value=3), "columns.1.' is wrong"),
        (put("feature_spec", "columns", 1, "kind", value="guess"), "columns.1..kind' is wrong"),
        (put("feature_spec", "columns", 1, "spread", value=0), "must be above 0"),
        (put("feature_spec", "columns", 1, "centre", value="x"), "columns.1..centre' is wrong"),
        (put("feature_spec", "columns", 1, "of", value=["none"]), "unknown feature 'none'"),
        (put("feature_spec", "columns", 1, "of", value=[]), "one name or none"),
        (put("feature_spec", "columns", -1, "models", value=["model-1"]), "it cannot have"),
    ],
)
def test_files_that_hold_what_no_policy_can_are_refused(
    change: Change, words: str, tmp_path: Path
) -> None:
    assert_refused(tmp_path / "bent.json", made().text(), change, words)


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
def test_damaged_joint_models_are_refused(
    place: list[Any], value: Any, words: str, tmp_path: Path
) -> None:
    assert_refused(tmp_path / "bent.json", joint().text(), put(*place, value=value), words)


def test_damage_is_seen(tmp_path: Path) -> None:
    text = made().text()
    made().save(tmp_path / "policy.json")
    assert load_policy(tmp_path / "policy.json").text() == text
    place = text.index('"quality_weights"')
    digit = next(i for i in range(place, len(text)) if text[i] in "12345678")
    bent = text[:digit] + str(int(text[digit]) + 1) + text[digit + 1 :]
    (tmp_path / "bent.json").write_text(bent)
    with pytest.raises(CascjaxError, match="its checksum does not match"):
        load_policy(tmp_path / "bent.json")
    with pytest.raises(CascjaxError, match="have its models, in its order"):
        replace(made(), models=tuple(reversed(made().models)))
    with pytest.raises(CascjaxError, match="not corrected"):
        replace(made(), scale=np.full(K, 2.0))
    with pytest.raises(CascjaxError, match="has a learned model"):
        replace(made(), learned=None)


# Fitting, and what comes of it.


def test_the_policy_keeps_the_weights_of_every_fold() -> None:
    table = make_table()
    found = learned(table, fit_rows(table))
    assert isinstance(found.estimator, RunSets)
    policy = made()
    assert isinstance(policy.learned, LearnedModel)
    np.testing.assert_array_equal(policy.learned.quality_weights, found.estimator.quality_weights)
    settings = {k: v for k, v in found.settings().items() if k != "notes"}
    assert settings.items() <= policy.record.items()
    assert policy.record["ridge"] == 1.0
    # On the rows fitted on budgets hold with estimates out of fold.
    ready = searched(table, "routing", Learned())
    back = simulate_rule(ready.strategy, policy.rule, ready.estimates, ready.table, ready.rows)
    assert back.cost.mean(2)[0] @ back.weights == pytest.approx(0.0004, rel=1e-5)


def test_budgets_hold_on_other_queries() -> None:
    """Of 20,000 new queries the mean cost is off by what chance and 600 rows to fit on explain."""
    policy, other = made(), replace(make_table(20_000, 7), split=None)
    found = evaluate(policy, other, resamples=200)
    (mean,) = found.total.cost[:1]
    assert mean.low is not None
    assert mean.high is not None
    # The error of a mean of 600 queries is that of one of 20,000, sqrt(20,000 / 600) times; four
    # of them, and a little for estimates that are better in the fold than out of it.
    error = (mean.high - mean.low) / (2 * 1.96) * np.sqrt(20_000 / 600)
    assert abs(mean.value - 0.0004) < 4 * error + 0.02 * 0.0004
    assert found.total.quality.value > max(found.hull_quality or 0, 0) + 0.02


def test_costs_are_weighed_as_they_are_for_estimates_of_other_kinds() -> None:
    table = make_table()
    found = learned(table, fit_rows(table), cost_model="seen")
    assert isinstance(found.estimator, RunSets)
    more = np.broadcast_to(np.array([3, 2, 1], np.float32), table.cost.shape)
    prices = np.array([0.7, 0.2])
    weighed = CostEstimates(found.estimator, (more,)).weighed(prices)
    for run in RUNS:
        runs = jnp.tile(jnp.asarray(run), (N, 1))
        cost = np.asarray(found.estimator(runs).cost)
        want = np.float32(0.7) * cost + np.float32(0.2) * more
        got = np.asarray(weighed(runs).cost)
        np.testing.assert_allclose(got[:, ~run], want[:, ~run], rtol=1e-5)
    nothing = jnp.zeros((N, K), bool)
    assert isinstance(weighed, RunSets)
    np.testing.assert_allclose(weighed.cost_ante, weighed(nothing).cost, rtol=1e-5)
    assert CostEstimates(found.estimator, (more,)).weighed(None) is found.estimator
