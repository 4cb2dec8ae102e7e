import dataclasses
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cascjax.data import TableWriter, from_arrow, read_table, to_arrow, write_table
from cascjax.data.table import EVALUATE, FIT, Table
from cascjax.errors import CascjaxError

SUFFIXES = (".arrow", ".feather", ".ipc", ".parquet")


def lists(rows: Any, kind: pa.DataType | None = None) -> pa.Array:
    return pa.array(rows, kind or pa.list_(pa.float32(), 2))


def small(**columns: Any) -> pa.Table:
    """A table of three queries and two models, with columns replaced, added or (None) left out."""
    content = {
        "query_id": pa.array(["a", "b", "c"]),
        "quality": lists([[0, 1], [1, 1], [0, 0]]),
        "cost": lists([[0.1, 1], [0.2, 1], [0.1, 2]]),
    } | columns
    return pa.table({name: column for name, column in content.items() if column is not None})


def tagged(arrow: pa.Table, **names: Any) -> pa.Table:
    return arrow.replace_schema_metadata({"cascjax": json.dumps({"version": 1} | names)})


def assert_same(left: Table, right: Table) -> None:
    for field in dataclasses.fields(Table):
        a, b = getattr(left, field.name), getattr(right, field.name)
        if field.name == "extra_costs":
            assert list(a) == list(b)
            assert all(a[name].dtype == b[name].dtype for name in a)
            for name in a:
                np.testing.assert_array_equal(a[name], b[name], err_msg=name)
        elif isinstance(a, np.ndarray):
            assert isinstance(b, np.ndarray), field.name
            assert a.dtype == b.dtype, field.name
            np.testing.assert_array_equal(a, b, err_msg=field.name)
        else:
            assert a == b, field.name


def full_table(N: int = 5, K: int = 3) -> Table:
    rng = np.random.default_rng(0)

    def values(width: int) -> np.ndarray:
        return rng.random((N, width), np.float32)

    return Table(
        quality=values(K),
        cost=values(K),
        quality_ante=values(K),
        quality_post=values(K),
        quality_sigma=values(K),
        cost_ante=values(K) - 0.5,
        cost_post=values(K),
        extra_costs={"grams of CO2": values(K), "seconds": values(K)},
        features=values(2),
        signals=values(2 * K),
        answer=rng.integers(-1, 4, (N, K), np.int32),
        split=np.arange(N, dtype=np.int8) % 2,
        group=np.arange(N, dtype=np.int32)[::-1] % 3,
        models=tuple(f"m{k}" for k in range(K)),
        cost_unit="USD",
        extra_cost_units=(("seconds", "s"),),
        groups=("law", "chat", "code", "never seen"),
        feature_names=("length", "hardness"),
        signal_names=("judge", "entropy"),
    )


# Writing and reading


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_table_comes_back(tmp_path: Path, suffix: str) -> None:
    table = full_table()
    write_table(tmp_path / f"table{suffix}", table)
    assert_same(table, read_table(tmp_path / f"table{suffix}"))
    assert os.listdir(tmp_path) == [f"table{suffix}"]


@st.composite
def columns(draw: st.DrawFn) -> dict[str, Any]:
    N, K, P = draw(st.integers(1, 6)), draw(st.integers(2, 4)), draw(st.integers(1, 2))
    names = st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=5
    )

    def matrix(width: int, elements: st.SearchStrategy[float]) -> np.ndarray:
        return draw(hnp.arrays(np.float32, (N, width), elements=elements))

    anything = st.floats(-(2.0**100), 2.0**100, width=32)
    positive = st.floats(0, 2.0**100, width=32)
    groups = tuple(draw(st.lists(names, min_size=1, max_size=4, unique=True)))
    costs = sorted(set(draw(st.lists(names, max_size=3))) - {"cost"})
    return dict(
        quality=matrix(K, anything),
        cost=matrix(K, positive),
        quality_ante=draw(st.none() | st.just(matrix(K, anything))),
        quality_sigma=draw(st.none() | st.just(matrix(K, positive))),
        cost_post=draw(st.none() | st.just(matrix(K, anything))),
        extra_costs={name: matrix(K, positive) for name in costs},
        extra_cost_units=tuple((name, draw(names)) for name in costs[::2]),
        signals=matrix(K * P, anything),
        answer=draw(hnp.arrays(np.int32, (N, K))),
        split=draw(hnp.arrays(np.int8, N, elements=st.sampled_from([FIT, EVALUATE]))),
        group=draw(hnp.arrays(np.int32, N, elements=st.integers(0, len(groups) - 1))),
        models=tuple(draw(st.lists(names, min_size=K, max_size=K, unique=True))),
        cost_unit=draw(st.just("") | names),
        groups=groups,
        signal_names=tuple(f"signal {p}" for p in range(P)),
    )


@settings(max_examples=40, deadline=None)
@given(columns=columns(), suffix=st.sampled_from([".arrow", ".parquet"]))
def test_writing_then_reading_is_the_identity(columns: dict[str, Any], suffix: str) -> None:
    table = Table(**columns)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"table{suffix}"
        write_table(path, table)
        assert_same(table, read_table(path))


@pytest.mark.parametrize("suffix", [".arrow", ".parquet"])
def test_batches_make_one_table_with_ids_that_go_on(tmp_path: Path, suffix: str) -> None:
    table, path = full_table(7), tmp_path / f"table{suffix}"
    with TableWriter(path) as writer:
        for rows in (np.arange(4), np.arange(4, 7)):
            writer.write(table.take(rows))
            assert not path.exists()
    assert writer.n_rows == 7
    assert_same(table, read_table(path))
    arrow = pq.read_table(path) if suffix == ".parquet" else ipc.open_file(path).read_all()
    assert arrow["query_id"].to_pylist() == [str(row) for row in range(7)]


def test_the_format_is_told_by_content_not_suffix(tmp_path: Path) -> None:
    table = full_table()
    write_table(tmp_path / "table.parquet", table)
    (tmp_path / "table.parquet").rename(tmp_path / "table.arrow")
    assert_same(table, read_table(tmp_path / "table.arrow"))


def test_an_ipc_file_is_mapped_not_copied(tmp_path: Path) -> None:
    write_table(tmp_path / "table.arrow", full_table(20_000))
    before = pa.total_allocated_bytes()
    table = read_table(tmp_path / "table.arrow")
    assert pa.total_allocated_bytes() - before < table.quality.nbytes
    assert not table.quality.flags.writeable
    assert not table.quality.flags.owndata


def test_given_ids_are_written() -> None:
    table = full_table(2)
    assert to_arrow(table, ["x", "y"])["query_id"].to_pylist() == ["x", "y"]
    with pytest.raises(CascjaxError, match="query_id has 1 ids for 2 queries"):
        to_arrow(table, ["x"])
    with pytest.raises(CascjaxError, match="must hold strings"):
        to_arrow(table, np.array([1, 2]))


def test_the_reference_tables_are_read(shared_data: Path) -> None:
    table = read_table(shared_data / "reference-k3-low.parquet")
    assert table.quality.shape == (1400, 3)
    assert table.quality.dtype == np.float32
    assert table.split is not None
    assert set(table.split) == {FIT, EVALUATE}
    assert len(set(table.models)) == 3


# What else a file may hold


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.float64(), 2),
        pa.list_(pa.float16(), 2),
        pa.list_(pa.float64()),
        pa.large_list(pa.float32()),
        pa.list_(pa.int64()),
    ],
    ids=str,
)
def test_numbers_of_any_width_in_lists_of_any_kind(kind: pa.DataType) -> None:
    rows = [[0, 1], [1, 1], [0, 0]]
    table = from_arrow(small(quality=lists(np.array(rows, np.float16).tolist(), kind)), "t")
    assert table.quality.dtype == np.float32
    np.testing.assert_array_equal(table.quality, rows)


def test_sliced_and_chunked_columns() -> None:
    arrow = pa.concat_tables([small(), small().slice(1), small().slice(2, 1)])
    arrow = arrow.set_column(0, "query_id", pa.array(list("abcdef")))
    arrow = arrow.append_column("answer", [lists([[1, 2]] * 6, pa.list_(pa.int32(), 2))])
    table = from_arrow(arrow.slice(2), "t")
    np.testing.assert_array_equal(table.quality, [[0, 0], [1, 1], [0, 0], [0, 0]])
    assert table.answer is not None
    np.testing.assert_array_equal(table.answer, [[1, 2]] * 4)


@pytest.mark.parametrize(
    "ids",
    [
        pa.array(["x", "y", "z"], pa.large_string()),
        pa.array(["x", "y", "z"]).dictionary_encode(),
        pa.array([7, 8, 9]),
        pa.array(["x", "y", "z"], pa.string_view()),
    ],
    ids=lambda ids: str(ids.type),
)
def test_ids_of_any_kind(ids: pa.Array) -> None:
    assert from_arrow(small(query_id=ids), "t").n_queries == 3


def test_split_and_group_as_words() -> None:
    words = pa.array(["evaluate", "fit", "fit"])
    for split in (words, words.dictionary_encode(), words.cast(pa.large_string())):
        table = from_arrow(small(split=split, group=pa.array(["b", "a", "b"])), "t")
        assert table.split is not None
        assert table.group is not None
        assert table.split.dtype == np.int8
        assert table.split.tolist() == [EVALUATE, FIT, FIT]
        assert [table.groups[code] for code in table.group] == ["b", "a", "b"]


def test_a_missing_answer_is_minus_one() -> None:
    for kind in (pa.list_(pa.int32(), 2), pa.list_(pa.int64())):
        rows = [[3, None], None, [1, 2]]
        table = from_arrow(small(answer=lists(rows, kind)).slice(0), "t")
        assert table.answer is not None
        assert table.answer.dtype == np.int32
        assert table.answer.tolist() == [[3, -1], [-1, -1], [1, 2]]


def test_models_without_names_are_numbered_and_other_columns_ignored() -> None:
    table = from_arrow(small(note=pa.array([b"\xff", None, b""])), "t")
    assert table.models == ("model 1", "model 2")
    assert table.cost_unit == ""


def test_an_estimate_of_cost_may_be_negative() -> None:
    assert from_arrow(small(cost_ante=lists([[-1, 0]] * 3)), "t").cost_ante is not None


def test_further_costs_come_in_order_of_names_with_their_units() -> None:
    seconds, calls = [[1, 2], [3, 4], [5, 6]], [[7, 8]] * 3
    arrow = small(**{"cost.seconds": lists(seconds), "cost.calls": lists(calls)})
    units = {"seconds": "s", "calls": "", "gone": "kg"}
    table = from_arrow(tagged(arrow, cost_unit="USD", cost_units=units), "t")
    assert list(table.extra_costs) == ["calls", "seconds"]
    np.testing.assert_array_equal(table.extra_costs["seconds"], seconds)
    np.testing.assert_array_equal(table.extra_costs["calls"], calls)
    assert table.extra_cost_units == (("seconds", "s"),)
    assert [table.unit_of(name) for name in ("cost", "calls", "seconds")] == ["USD", "", "s"]
    assert from_arrow(small(), "t").extra_costs == {}


def test_a_table_without_further_costs_is_written_as_before() -> None:
    arrow = to_arrow(from_arrow(small(), "t"))
    assert arrow.column_names == ["query_id", "quality", "cost"]
    assert b"cost_units" not in arrow.schema.metadata[b"cascjax"]


def test_further_costs_follow_their_rows_and_models() -> None:
    # Each value says where it was: thousands for the row, units for the model.
    where = 1000.0 * np.arange(6, dtype=np.float32)[:, None] + np.arange(3, dtype=np.float32)
    quality, seconds, calls, both = where, where + 100, where + 200, np.repeat(where, 2, axis=1)

    def made() -> Table:
        more = {"seconds": seconds.copy(), "calls": calls.copy()}
        return Table(
            quality=quality.copy(),
            cost=where[:, ::-1].copy(),
            extra_costs=more,
            signals=both.copy(),
            models=("a", "b", "c"),
        )

    def holds(table: Table, rows: list[int], models: list[int]) -> None:
        assert table.models == tuple("abc"[k] for k in models)
        assert set(table.extra_costs) == {"seconds", "calls"}
        for column, expected in (
            (table.quality, quality),
            (table.extra_costs["seconds"], seconds),
            (table.extra_costs["calls"], calls),
        ):
            np.testing.assert_array_equal(column, expected[np.ix_(rows, models)])
        expected = both.reshape(6, 3, 2)[np.ix_(rows, models)].reshape(len(rows), -1)
        np.testing.assert_array_equal(table.signals, expected)  # pyright: ignore

    every = list(range(6))
    holds(made().take(np.array([4, 0, 4])), [4, 0, 4], [0, 1, 2])
    holds(made().select_models(["c", "a"]), every, [2, 0])
    mean_cost = np.array([2.0, 3.0, 1.0])
    holds(made().sort_models(mean_cost), every, [2, 0, 1])
    holds(made().sort_models(mean_cost, reuse=True), every, [2, 0, 1])
    # What a file maps cannot be written to, and what two columns share must not be moved twice.
    fixed = made()
    fixed.extra_costs["calls"].flags.writeable = False
    holds(fixed.sort_models(mean_cost, reuse=True), every, [2, 0, 1])
    shared = made()
    shared.extra_costs["twin"] = shared.extra_costs["calls"]
    found = shared.sort_models(mean_cost, reuse=True).extra_costs
    np.testing.assert_array_equal(found["twin"], calls[:, [2, 0, 1]])
    np.testing.assert_array_equal(found["calls"], calls[:, [2, 0, 1]])


@pytest.mark.parametrize(("name", "said"), [("", "is empty"), ("cost", "is that of the column")])
def test_a_further_cost_of_no_name_of_its_own_is_not_written(name: str, said: str) -> None:
    table = dataclasses.replace(full_table(), extra_costs={name: full_table().cost})
    with pytest.raises(CascjaxError, match=said):
        to_arrow(table)


# What is refused, in one line that names file, column and row

NAN = float("nan")
BAD = {
    "no rows": (small().slice(0, 0), r"no rows"),
    "no id": (small(query_id=None), r"'query_id' is missing; the file has 'quality', 'cost'"),
    "no quality": (small(quality=None), r"column 'quality' is missing"),
    "no cost": (small(cost=None), r"column 'cost' is missing"),
    "twice": (small().append_column("cost", small()["cost"]), r"column 'cost' is listed 2 times"),
    "null id": (small(query_id=pa.array(["a", None, None])), r"'query_id', row 1 \(and 1 more\)"),
    "id type": (small(query_id=pa.array([1.0, 2, 3])), r"'query_id' must hold strings, not double"),
    "repeated": (small(query_id=pa.array(["a", "b", "a"])), r"'query_id', row 2: 'a' repeats"),
    "one model": (
        small(quality=lists([[1]] * 3, pa.list_(pa.float32(), 1))),
        r"'quality' has 1 model",
    ),
    "no values": (
        small(quality=lists([[]] * 3, pa.list_(pa.float32(), 0))),
        r"'quality' has empty lists",
    ),
    "empty lists": (small(quality=lists([[]] * 3, pa.list_(pa.float32()))), r"row 0 \(and 2 more"),
    "ragged": (
        small(quality=lists([[0, 1], [1], [1, 1]], pa.list_(pa.float64()))),
        r"'quality', row 1: 1 value where 2",
    ),
    "widths": (
        small(cost=lists([[1, 1, 1]] * 3, pa.list_(pa.float32(), 3))),
        r"'cost' has 3 values per row where 2",
    ),
    "ragged widths": (
        small(cost=lists([[1, 1, 1]] * 3, pa.list_(pa.float32()))),
        r"'cost', row 0 \(and 2 more\): 3 values where 2",
    ),
    "names": (tagged(small(), models=["x", "y", "z"]), r"names 3 models"),
    "same names": (tagged(small(), models=["x", "x"]), r"models: 'x' is listed twice"),
    "odd names": (tagged(small(), models="xy"), r"'models' must be a list of names"),
    "odd unit": (tagged(small(), cost_unit=3), r"'cost_unit'"),
    "version": (tagged(small(), version=2), r"version 2 and this cascjax reads 1"),
    "no version": (small().replace_schema_metadata({"cascjax": "{}"}), r"not JSON with a version"),
    "no json": (small().replace_schema_metadata({"cascjax": "\xff{"}), r"not JSON"),
    "feature names": (
        tagged(small(features=lists([[1, 1]] * 3)), features=["x"]),
        r"'features' has 2 values per row where 1",
    ),
    "signal width": (
        small(signals=lists([[1, 1, 1]] * 3, pa.list_(pa.float32(), 3))),
        r"'signals' has 3 values per row, which is no multiple of the 2",
    ),
    "nan": (
        small(quality=lists([[0, 1], [1, NAN], [NAN, 0]])),
        r"'quality', row 1 \(and 1 more\): nan",
    ),
    "inf": (
        small(quality_post=lists([[0, 1], [1, 1], [0, -np.inf]])),
        r"'quality_post', row 2: -i",
    ),
    "too large": (
        small(cost=lists([[0, 1], [1e300, 1], [0, 0]], pa.list_(pa.float64()))),
        r"'cost', row 1: inf as a 32-bit number",
    ),
    "null": (small(cost=lists([[0, 1], [1, 1], [None, 0]])), r"'cost', row 2: null"),
    "null list": (small(cost=lists([[0, 1], None, [1, 0]])), r"'cost', row 1: null"),
    "null in later chunk": (
        pa.concat_tables(
            [
                small(),
                small(query_id=pa.array(list("def")), cost=lists([[0, 1], [1, None], [1, 0]])),
            ]
        ),
        r"'cost', row 4: null",
    ),
    "negative cost": (
        tagged(small(cost=lists([[0, 1], [1, -2], [0, 0]])), models=["x", "y"]),
        r"'cost', row 1: -2 for model 'y' is negative",
    ),
    "negative sigma": (
        small(quality_sigma=lists([[0, 1], [1, 1], [-1, 0]])),
        r"'quality_sigma', row 2: -1 for model 'model 1' is negative",
    ),
    "extra cost negative": (
        tagged(small(**{"cost.s": lists([[0, 1], [1, 1], [0, -3]])}), models=["x", "y"]),
        r"'cost\.s', row 2: -3 for model 'y' is negative",
    ),
    "extra cost nan": (
        small(**{"cost.s": lists([[0, 1], [1, NAN], [0, NAN]])}),
        r"'cost\.s', row 1 \(and 1 more\): nan",
    ),
    "extra cost inf": (
        small(**{"cost.s": lists([[0, 1], [1, 1], [np.inf, 0]])}),
        r"'cost\.s', row 2: inf",
    ),
    "extra cost null": (
        small(**{"cost.s": lists([[0, 1], None, [1, 0]])}),
        r"'cost\.s', row 1: null",
    ),
    "extra cost width": (
        small(**{"cost.s": lists([[1, 1, 1]] * 3, pa.list_(pa.float32(), 3))}),
        r"'cost\.s' has 3 values per row where 2",
    ),
    "extra cost type": (
        small(**{"cost.s": pa.array([1.0, 2, 3])}),
        r"'cost\.s' must hold one list of numbers per row",
    ),
    "extra cost twice": (
        small(**{"cost.s": lists([[0, 1]] * 3)}).append_column("cost.s", small()["cost"]),
        r"'cost\.s' is listed 2 times",
    ),
    "extra cost of no name": (
        small(**{"cost.": lists([[0, 1]] * 3)}),
        r"column 'cost\.': the name of the extra cost is empty; choose another",
    ),
    "extra cost of the first": (
        small(**{"cost.cost": lists([[0, 1]] * 3)}),
        r"column 'cost\.cost': the name of the extra cost is that of the column 'cost'",
    ),
    "odd units": (tagged(small(), cost_units=["s"]), r"'cost_units' .* to units, such as"),
    "odd unit of a extra cost": (tagged(small(), cost_units={"s": 1}), r"'cost_units'"),
    "type": (
        small(cost=pa.array([1.0, 2, 3])),
        r"'cost' must hold one list of numbers per row, not d",
    ),
    "element type": (
        small(cost=lists([["1", "2"]] * 3, pa.list_(pa.string(), 2))),
        r"'cost' must hold one list of numbers",
    ),
    "answer type": (small(answer=lists([[1, 1]] * 3)), r"'answer' must hold a list of K whole"),
    "answer size": (
        small(answer=lists([[1, 2**40]] * 3, pa.list_(pa.int64(), 2))),
        r"1099511627776",
    ),
    "split word": (
        small(split=pa.array(["fit", "train", "test"])),
        r"'split', row 1 \(and 1 more\): 'train'; must be 'fit' or 'evaluate'",
    ),
    "split null": (small(split=pa.array(["fit", None, "fit"])), r"'split', row 1: null"),
    "split type": (small(split=pa.array([True, False, True])), r"'split' must hold strings"),
    "group null": (
        small(group=pa.array(["g", None, "g"]).dictionary_encode()),
        r"'group', row 1: null",
    ),
    "group type": (small(group=pa.array([b"g"] * 3)), r"'group' must hold strings"),
}


@pytest.mark.parametrize(("arrow", "message"), BAD.values(), ids=BAD.keys())
def test_bad_tables_are_refused_in_one_line(arrow: pa.Table, message: str) -> None:
    with pytest.raises(CascjaxError, match=message) as caught:
        from_arrow(arrow, "logs.arrow")
    assert "logs.arrow" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    write_table(path, small(cost=lists([[0, 1], [1, -2], [0, 0]])))
    with pytest.raises(CascjaxError, match=r"table\.parquet: column 'cost', row 1"):
        read_table(path)


@pytest.mark.parametrize("content", [b"", b"A", b"ARROW1", b"PAR1", b"PAR1" * 9, bytes(range(256))])
def test_other_bytes_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "table.arrow"
    path.write_bytes(content)
    with pytest.raises(CascjaxError, match=r"cannot read .*table\.arrow") as caught:
        read_table(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".arrow", ".parquet"])
def test_truncated_files_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"table{suffix}"
    write_table(path, full_table(50))
    content = path.read_bytes()
    for length in np.linspace(0, len(content) - 1, 60).astype(int):
        path.write_bytes(content[:length])
        with pytest.raises(CascjaxError, match="cannot read") as caught:
            read_table(path)
        assert "\n" not in str(caught.value)
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(CascjaxError, match=r"damaged or cut short \(.*\); copy or write it again"):
        read_table(path)


@pytest.mark.parametrize("suffix", [".arrow", ".parquet"])
def test_damaged_files_are_read_or_refused_but_never_crash(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"table{suffix}"
    write_table(path, full_table(50))
    content = np.frombuffer(path.read_bytes(), np.uint8)
    rng = np.random.default_rng(0)
    for _ in range(150):
        damaged = content.copy()
        damaged[rng.integers(len(content), size=4)] = rng.integers(256, size=4)
        path.unlink()
        path.write_bytes(damaged.tobytes())
        try:
            read_table(path)
        except CascjaxError as error:
            assert "\n" not in str(error)  # noqa: PT017


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CascjaxError, match=r"nothing\.arrow: No such file"):
        read_table(tmp_path / "nothing.arrow")
    with pytest.raises(CascjaxError, match="it is a folder"):
        read_table(tmp_path)


# Writing that fails


def test_a_suffix_of_no_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CascjaxError, match=r"unknown suffix '\.csv'; use \.parquet"):
        write_table(tmp_path / "table.csv", full_table())


def test_a_writer_that_wrote_nothing_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(CascjaxError, match="no rows to write"), TableWriter(tmp_path / "t.arrow"):
        pass
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("suffix", [".arrow", ".parquet"])
def test_an_interrupt_keeps_the_old_file_alone(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"table{suffix}"
    write_table(path, full_table(2))
    before = path.read_bytes()
    with pytest.raises(KeyboardInterrupt), TableWriter(path) as writer:  # noqa: PT012
        writer.write(full_table(9))
        raise KeyboardInterrupt
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("suffix", [".arrow", ".parquet"])
def test_a_batch_of_other_columns_is_refused(tmp_path: Path, suffix: str) -> None:
    other = dataclasses.replace(full_table(), split=None)
    with TableWriter(tmp_path / f"table{suffix}") as writer:
        writer.write(full_table())
        with pytest.raises(CascjaxError, match="the batch at row 5 has other columns"):
            writer.write(other)
    assert read_table(tmp_path / f"table{suffix}").n_queries == 5


def test_features_and_signals_may_be_missing_but_not_infinite(tmp_path: Path) -> None:
    table = tagged(
        small(features=lists([[1.0, None]] * 3), signals=lists([[np.nan, 1.0]] * 3)),
        models=["a", "b"],
    )
    found = from_arrow(table, "it")
    np.testing.assert_array_equal(found.features, [[1, np.nan]] * 3)  # pyright: ignore
    np.testing.assert_array_equal(found.signals, [[np.nan, 1]] * 3)  # pyright: ignore
    write_table(tmp_path / "table.arrow", found)
    again = read_table(tmp_path / "table.arrow")
    np.testing.assert_array_equal(again.signals, found.signals)  # pyright: ignore
    for name in ("features", "signals"):
        bad = small(**{name: lists([[1.0, 1.0], [np.nan, -np.inf], [1.0, 1.0]])})
        with pytest.raises(CascjaxError, match="row 1: -inf as a 32-bit number; every value must"):
            from_arrow(bad, "it")
