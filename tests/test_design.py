"""The design matrix: which columns a table makes, what each needs, and what is left out."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cascjax.data.table import Table
from cascjax.errors import CascjaxError
from cascjax.estimators.design import LEAST_OF_GROUP, design

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


def column(table: Table, name: str, **more: bool) -> np.ndarray:
    got = design(table, FIT, **more)
    return got.seen[:, got.names.index(name)]


def standardised(values: np.ndarray) -> np.ndarray:
    values = values.astype(np.float64)
    return (values - values[FIT].mean()) / values[FIT].std()


def test_columns_and_what_they_need() -> None:
    got = design(made(), FIT)
    group = made().group
    assert group is not None
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
        assert "".join(m for m, one in zip("abc", row, strict=True) if one) == needs[name]
    assert got.notes == ()
    # By hand: run set 0b101 is models a and c.
    shown = got.shown()[0b101]
    assert {n for n, one in zip(got.names, shown, strict=True) if not one} == {
        name for name, of in needs.items() if "b" in of
    }


def test_values() -> None:
    table = made()
    assert table.features is not None
    assert table.signals is not None
    assert table.answer is not None
    # float32 of a float64 result.
    close: Any = {"rtol": 1e-6, "atol": 1e-6}
    np.testing.assert_array_equal(column(table, "1"), 1)
    of = standardised(table.features[:, 1])
    np.testing.assert_allclose(column(table, "feature digits"), of, **close)
    of = standardised(table.signals[:, 2 * 1 + 1])
    np.testing.assert_allclose(column(table, "signal tokens of b"), of, **close)
    of = standardised(np.log(table.cost[:, 2]))
    np.testing.assert_allclose(column(table, "log cost of c"), of, **close)
    of = standardised(table.answer[:, 0] == table.answer[:, 2])
    np.testing.assert_allclose(column(table, "agreement of a and c"), of, **close)


def test_standardised_on_the_fit_rows_alone() -> None:
    table, got = made(), design(made(), FIT)
    fit = got.seen[FIT, 1:].astype(np.float64)
    np.testing.assert_allclose(fit.mean(0), 0, atol=1e-6)  # float32
    np.testing.assert_allclose(fit.std(0), 1, atol=1e-6)
    assert table.features is not None
    other = table.features.copy()
    other[1::2] *= 100  # rows to evaluate
    changed = design(replace(table, features=other), FIT)
    np.testing.assert_array_equal(changed.seen[FIT], got.seen[FIT])
    assert got.feature_spec is not None
    of = got.feature_spec.columns[1]
    back = got.seen[:, 1] * of.spread + of.centre
    np.testing.assert_allclose(back, table.features[:, 0], rtol=1e-5, atol=1e-5)


def test_quality_is_never_read() -> None:
    got = design(made(), FIT)
    changed = design(made(quality=np.full((N, K), np.nan, np.float32)), FIT)
    np.testing.assert_array_equal(changed.seen, got.seen)
    unpaid = design(made(cost=np.full((N, K), np.nan, np.float32)), FIT, costs=False)
    assert unpaid.names == tuple(n for n in got.names if "cost" not in n)


def test_no_answer_agrees_with_none() -> None:
    table = made()
    assert table.answer is not None
    answer = table.answer.copy()
    answer[:100] = -1
    table = replace(table, answer=answer)
    given = np.arange(N) >= 100
    agree = (answer[:, 0] == answer[:, 1]) & given
    np.testing.assert_allclose(
        column(table, "agreement of a and b"), standardised(agree), atol=1e-6
    )
    np.testing.assert_allclose(column(table, "whether b answers"), standardised(given), atol=1e-6)


def test_constant_and_missing_columns() -> None:
    table = made()
    assert table.features is not None
    assert table.signals is not None
    features, signals = table.features.copy(), table.signals.copy()
    features[:, 0] = 7
    features[:20, 1] = np.nan
    signals[:, 0] = np.nan
    got = design(replace(table, features=features, signals=signals), FIT)
    assert not {"feature length", "signal judge of a"} & set(got.names)
    assert [n.split(":")[0] for n in got.notes] == [
        "feature digits is missing in 20 of 400 rows",
        "signal judge of a is missing in every row to fit on",
        "feature length is the same in all rows to fit on",
    ]
    filled = got.seen[:, got.names.index("feature digits")]
    assert not filled[:20].any()
    assert np.isfinite(got.seen).all()
    there = FIT[FIT >= 20]
    assert filled[there].astype(np.float64).mean() == pytest.approx(0, abs=1e-6)


def test_a_column_that_varies_only_where_it_is_not_fitted_is_left_out() -> None:
    table = made()
    assert table.features is not None
    features = table.features.copy()
    features[FIT, 0] = 1e6  # float32: a sum would leave rounding, and a spread of it
    assert "feature length" not in design(replace(table, features=features), FIT).names


def test_small_groups_share_a_column() -> None:
    group = np.zeros(N, np.int32)
    group[FIT[:60]] = 1
    group[FIT[60 : 60 + LEAST_OF_GROUP - 1]] = 2
    group[FIT[80:84]] = 3
    table = made(group=group, groups=("usual", "large", "small", "tiny", "unseen"))
    got = design(table, FIT)
    assert {n for n in got.names if "group" in n} == {"group large", "small groups"}
    (note,) = got.notes
    assert note.startswith("groups small, tiny, unseen have fewer than 10 rows")
    member = np.isin(group, [2, 3])
    np.testing.assert_allclose(column(table, "small groups"), standardised(member), atol=1e-6)
    few = design(made(group=np.where(np.arange(N) < 6, 1, 0), groups=("usual", "tiny")), FIT)
    assert not any("group" in n for n in few.names)
    assert few.notes == (
        "group tiny has fewer than 10 rows to fit on: no column tells them from the rest",
    )


def test_nothing_to_see() -> None:
    bare = made(features=None, signals=None, answer=None, group=None)
    got = design(bare, FIT, costs=False)
    assert got.names == ("1",)
    assert "every estimate is a mean" in got.notes[0]


def test_free_models_cost_nothing_to_take_the_logarithm_of() -> None:
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
    with pytest.raises(CascjaxError, match="'signals' has 4 values a row, which 3 models"):
        design(made(signals=np.zeros((N, 4), np.float32)), FIT)
