"""The design matrix: which columns a table makes, what each needs, and what is left out."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

import cascjax as cj
from cascjax.data.source import write_parts
from cascjax.data.table import Table
from cascjax.errors import CascjaxError
from cascjax.estimators.base import estimates_of
from cascjax.estimators.design import MIN_GROUP_ROWS, design, normal_scores
from cascjax.estimators.feature_spec import Column, FeatureSpec
from cascjax.estimators.learned import learned
from cascjax.estimators.training import Folds

N, K = 400, 3
FIT = np.arange(0, N, 2)


def made(**columns: Any) -> Table:
    rng = np.random.default_rng(0)
    table = Table(
        quality=(rng.random((N, K)) < 0.5).astype(np.float32),
        cost=rng.lognormal(0, 1, (N, K)).astype(np.float32),
        features=rng.normal(3, 2, (N, 2)).astype(np.float32),
        signals=rng.normal(size=(N, 2 * K)).astype(np.float32),
        answer=rng.integers(0, 3, (N, K)).astype(np.int32),
        group=rng.integers(0, 3, N).astype(np.int32),
        models=("a", "b", "c"),
        groups=("law", "math", "code"),
        feature_names=("length", "digits"),
        signal_names=("judge", "tokens"),
    )
    return replace(table, **columns)


def column(table: Table, name: str) -> np.ndarray:
    got = design(table, FIT)
    return got.seen[:, got.names.index(name)]


def standardised(values: np.ndarray) -> np.ndarray:
    values = values.astype(np.float64)
    return (values - values[FIT].mean()) / values[FIT].std()


def test_columns_and_what_they_need() -> None:
    got, group = design(made(), FIT), made().group
    usual = np.argmax(np.bincount(group[FIT]))
    others = [f"group {name}" for g, name in enumerate(made().groups) if g != usual]
    needs = {
        "1": "", "feature length": "", "feature digits": "", **dict.fromkeys(others, ""),
        "signal judge of a": "a", "signal tokens of a": "a", "signal judge of b": "b",
        "signal tokens of b": "b", "signal judge of c": "c", "signal tokens of c": "c",
        "log cost of a": "a", "log cost of b": "b", "log cost of c": "c",
        "agreement of a and b": "ab", "agreement of a and c": "ac", "agreement of b and c": "bc",
    }  # fmt: skip
    assert got.names == tuple(needs)
    for name, row in zip(got.names, got.needs, strict=True):
        assert "".join(m for m, need in zip("abc", row, strict=True) if need) == needs[name]
    assert got.notes == ()
    # By hand: run set 0b101 is models a and c.
    shown = got.feature_spec.shown()[0b101]
    hidden = {name for name, is_shown in zip(got.names, shown, strict=True) if not is_shown}
    assert hidden == {name for name, models in needs.items() if "b" in models}


def test_values() -> None:
    table = made()
    np.testing.assert_array_equal(column(table, "1"), 1)
    for name, values in {
        "feature digits": np.asarray(table.features)[:, 1],
        "signal tokens of b": np.asarray(table.signals)[:, 2 * 1 + 1],
        "log cost of c": np.log(table.cost[:, 2]),
        "agreement of a and c": np.asarray(table.answer)[:, 0] == np.asarray(table.answer)[:, 2],
    }.items():
        # float32 of a float64 result.
        expected = standardised(values)
        np.testing.assert_allclose(column(table, name), expected, rtol=1e-6, atol=1e-6)


def test_standardised_on_the_fit_rows_alone_without_reading_quality() -> None:
    table, got = made(), design(made(), FIT)
    fit = got.seen[FIT, 1:].astype(np.float64)
    np.testing.assert_allclose(fit.mean(0), 0, atol=1e-6)  # float32
    np.testing.assert_allclose(fit.std(0), 1, atol=1e-6)
    other = np.asarray(table.features).copy()
    other[1::2] *= 100  # rows to evaluate
    hidden = np.full((N, K), np.nan, np.float32)
    changed = design(replace(table, features=other, quality=hidden), FIT)
    np.testing.assert_array_equal(changed.seen[FIT], got.seen[FIT])
    scale = got.feature_spec.columns[1]
    back = got.seen[:, 1] * scale.spread + scale.centre
    np.testing.assert_allclose(back, np.asarray(table.features)[:, 0], rtol=1e-5, atol=1e-5)


def test_no_answer_agrees_with_none() -> None:
    answer = np.array(made().answer)
    answer[:100] = -1
    table, given = made(answer=answer), np.arange(N) >= 100
    agree = (answer[:, 0] == answer[:, 1]) & given
    for name, values in {"agreement of a and b": agree, "whether b answers": given}.items():
        np.testing.assert_allclose(column(table, name), standardised(values), atol=1e-6)


def test_constant_and_missing_columns() -> None:
    features, signals = np.array(made().features), np.array(made().signals)
    features[FIT, 0] = 1e6  # float32: a sum would leave rounding, and a spread of it
    features[:20, 1] = np.nan
    signals[:, 0] = np.nan
    got = design(made(features=features, signals=signals), FIT)
    assert not {"feature length", "signal judge of a"} & set(got.names)
    assert [note.split(":")[0] for note in got.notes] == [
        "feature digits is missing in 20 of 400 rows",
        "signal judge of a is missing in every row to fit on",
        "feature length is the same in all rows to fit on",
    ]
    filled = got.seen[:, got.names.index("feature digits")]
    assert not filled[:20].any()
    assert np.isfinite(got.seen).all()
    assert filled[FIT[FIT >= 20]].astype(np.float64).mean() == pytest.approx(0, abs=1e-6)


def test_small_groups_share_a_column() -> None:
    group = np.zeros(N, np.int32)
    group[FIT[:60]] = 1
    group[FIT[60 : 60 + MIN_GROUP_ROWS - 1]] = 2
    group[FIT[80:84]] = 3
    table = made(group=group, groups=("usual", "large", "small", "tiny", "unseen"))
    got = design(table, FIT)
    assert {name for name in got.names if "group" in name} == {"group large", "small groups"}
    (note,) = got.notes
    assert note.startswith("groups small, tiny, unseen have fewer than 10 rows")
    member = np.isin(group, [2, 3])
    np.testing.assert_allclose(column(table, "small groups"), standardised(member), atol=1e-6)
    few = design(made(group=np.where(np.arange(N) < 6, 1, 0), groups=("usual", "tiny")), FIT)
    assert not any("group" in name for name in few.names)
    assert few.notes == (
        "group tiny has fewer than 10 rows to fit on: no column tells them from the rest",
    )


def test_nothing_to_see() -> None:
    bare = made(
        features=None, signals=None, answer=None, group=None, cost=np.ones_like(made().cost)
    )
    got = design(bare, FIT)
    assert got.names == ("1",)
    assert "every estimate is a mean" in got.notes[-1]


def test_free_models_have_a_lowest_cost_to_take_the_logarithm_of() -> None:
    cost = made().cost.copy()
    cost[:, 0] = 0
    cost[:50, 1] = 0
    got = design(made(cost=cost), FIT)
    assert np.isfinite(got.seen).all()
    assert "log cost of a" not in got.names  # the same everywhere
    lowest = got.seen[:, got.names.index("log cost of b")]
    assert (lowest[:50] == lowest.min()).all()


@pytest.mark.parametrize("k", [1, 2, 11])
def test_any_number_of_models(k: int) -> None:
    rng = np.random.default_rng(k)
    table = Table(
        quality=np.zeros((50, k), np.float32),
        cost=rng.lognormal(0, 1, (50, k)).astype(np.float32),
        answer=rng.integers(0, 3, (50, k)).astype(np.int32),
    )
    got = design(table, np.arange(50))
    assert got.seen.shape == (50, 1 + k + k * (k - 1) // 2)
    assert got.needs.sum() == k + k * (k - 1)


def test_refusals() -> None:
    with pytest.raises(CascjaxError, match="no rows to fit on"):
        design(made(), np.zeros(0, int))
    with pytest.raises(CascjaxError, match="'signals' has 4 values per row, which 3 models"):
        design(made(signals=np.zeros((N, 4), np.float32)), FIT)


@pytest.mark.parametrize(
    "values",
    [
        [5.0, 1, 1, 100],
        [2.0, 2, 2, 7, 7, 9, 1000],
        np.linspace(-1, 1, 100) ** 3,
        np.random.default_rng(0).poisson(3, 500),
    ],
)
def test_normal_scores_are_quantiles_of_middle_ranks(values: Any) -> None:
    knots, scores = normal_scores(np.asarray(values, float))
    ranks = (stats.rankdata(values) - 0.5) / len(values)
    np.testing.assert_allclose(np.interp(values, knots, scores), stats.norm.ppf(ranks), atol=1e-5)


def test_many_values_share_few_knots() -> None:
    many = np.random.default_rng(0).exponential(size=100_000)
    knots, scores = normal_scores(many)
    assert len(knots) <= 128
    assert (knots[0], knots[-1]) == pytest.approx((many.min(), many.max()))
    expected = stats.norm.ppf(stats.expon.cdf([0.01, 0.5, 1, 3, 6]))
    np.testing.assert_allclose(np.interp([0.01, 0.5, 1, 3, 6], knots, scores), expected, atol=0.03)


FOLDS = Folds.drawn(N, FIT, 5, 0).fold
SCALES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "linear": lambda x: 1e6 * x + 3,
    "small": lambda x: 1e-7 * x,
    "reversed": lambda x: -x,
    "exponential": lambda x: np.exp(3 * x),
    "log-probability": lambda x: -np.exp(-3 * x),
    "power": lambda x: x**7,
    "outliers": lambda x: np.where(np.abs(x) > 2, 1e4 * x, x),
}


def confident(scale: str, n: int = N) -> Table:
    """Return a table in which the normal score of a signal and of a feature tells quality."""
    rng = np.random.default_rng(5)
    signal, feature = rng.normal(size=(n, K)), rng.normal(size=(n, 1))
    good = rng.random((n, K)) < 1 / (1 + np.exp(-2 * signal - 2 * feature))
    return Table(
        quality=good.astype(np.float32),
        cost=np.ones((n, K), np.float32) * np.array([1, 2, 3], np.float32),
        features=SCALES[scale](feature).astype(np.float32),
        signals=SCALES[scale](signal).astype(np.float32),
        models=("a", "b", "c"),
        feature_names=("length",),
        signal_names=("confidence",),
    )


@pytest.mark.parametrize("scale", SCALES)
def test_a_skewed_column_is_taken_by_rank(scale: str) -> None:
    columns = design(confident(scale), FIT, FOLDS).feature_spec.columns[1:]
    skewed = scale not in ("linear", "small", "reversed")
    assert [bool(column.knots) for column in columns] == [skewed] * 4
    got = design(confident(scale), FIT, FOLDS)
    assert [note for note in got.notes if "by rank" in note] == [
        "feature length, signal confidence are taken by rank, which predicts quality better out of"
        " fold"
    ] * skewed
    fit = got.seen[FIT, 1:].astype(np.float64)
    np.testing.assert_allclose(fit.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(fit.std(0), 1, atol=1e-6)
    if skewed:  # a live query beyond what was fitted on is taken at the end of the table
        row = got.feature_spec.row(features=[1e30])
        assert row[1] == pytest.approx(got.seen[FIT, 1].max(), rel=1e-6)


@pytest.mark.parametrize("estimator", ["logistic", "linear", "joint"])
def test_the_scale_of_a_column_makes_no_difference(estimator: str) -> None:
    rows = np.arange(0, 1200, 2)
    quality, explained = confident("linear", 1200).quality[rows], []
    for scale in SCALES:
        found = learned(confident(scale, 1200), rows, estimator=estimator).estimator.take(rows)
        for run in (np.zeros((600, K), bool), np.ones((600, K), bool)):
            error = np.asarray(estimates_of(found, run).quality) - quality
            explained.append(1 - np.square(error).mean(0) / quality.var(0))
    explained = np.reshape(explained, (len(SCALES), -1))
    assert explained[0].min() > 0.1
    np.testing.assert_allclose(explained, np.broadcast_to(explained[0], (7, 6)), atol=0.015)


def test_the_better_of_values_and_ranks_is_what_the_estimator_minimises() -> None:
    # Rare high values with quality proportional to them, where ranks see nothing of the size.
    rng = np.random.default_rng(6)
    feature = rng.exponential(size=(N, 1)) ** 2
    noise = 0.05 * rng.normal(size=(N, K))
    for truth, by_rank in ((feature, False), (np.log(feature), True)):
        table = replace(
            confident("linear"),
            quality=(truth / truth.std() + noise).astype(np.float32),
            features=feature.astype(np.float32),
        )
        column = design(table, FIT, FOLDS, logistic=False).feature_spec.columns[1]
        assert column.kind == "feature"
        assert bool(column.knots) == by_rank


def test_a_constant_or_binary_column_and_unvarying_quality_need_no_table() -> None:
    rng = np.random.default_rng(0)
    table = confident("power")
    binary = replace(table, features=rng.integers(0, 2, (N, 1)).astype(np.float32))
    assert not design(binary, FIT, FOLDS).feature_spec.columns[1].knots
    flat = replace(table, quality=np.ones((N, K), np.float32))
    assert not any(c.knots for c in design(flat, FIT, FOLDS).feature_spec.columns)
    missing = np.asarray(table.signals).copy()
    missing[::3] = np.nan
    got = design(replace(table, signals=missing), FIT, FOLDS)
    np.testing.assert_array_equal(got.seen[::3, 2:5], 0)


@pytest.mark.parametrize(
    "knots",
    [
        ((1.0, 1.0), (0.0, 1.0)),
        ((1.0, 2.0), (0.0,)),
        ((1.0, np.inf), (0.0, 1.0)),
        ((1.0, 2.0), (1.0, 0.0)),
    ],
)
def test_damaged_tables_are_refused(knots: Any) -> None:
    table = Column("feature", ("x",), knots=knots[0], scores=knots[1])
    with pytest.raises(CascjaxError, match="knots and scores of a column"):
        FeatureSpec(("a",), ("x",), (), (Column("one"), table))


def test_a_policy_keeps_the_table_of_ranks(tmp_path: Path) -> None:
    table = confident("exponential")
    policy = cj.fit(table, "pandora", cj.Learned("linear", sigma_scale=1.0), budget=3.0)
    policy.save(tmp_path / "policy.json")
    loaded = cj.load_policy(tmp_path / "policy.json")
    assert loaded == policy
    spec = loaded.learned.feature_spec
    assert [bool(c.knots) for c in spec.columns if c.kind in ("feature", "signal")] == [True] * 4
    # A live query gets the columns that the table gets.
    live = spec.row(
        features=table.features, signals=table.signals.reshape(N, K, 1), costs=table.cost
    )
    np.testing.assert_array_equal(live, spec.seen(table))


def test_a_streamed_fit_learns_the_same_table(tmp_path: Path) -> None:
    table = replace(confident("power"), split=(np.arange(N) % 2).astype(np.int8))
    write_parts(tmp_path / "parts", [table], N, 3)
    source = cj.open(tmp_path / "parts", chunk_rows=70)
    one, two = (cj.fit(t, "routing", cj.Learned("linear"), budget=2.0) for t in (table, source))
    assert one.learned.feature_spec == two.learned.feature_spec
    assert any(column.knots for column in one.learned.feature_spec.columns)
