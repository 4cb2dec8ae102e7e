"""Evaluation tables: their files and columns, and every kind of input that is refused."""

import dataclasses
import json
import os
import stat
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

from cascjax.data import TableWriter, atomic_write, from_arrow, read_table, to_arrow, write_table
from cascjax.data.table import EVALUATE, FIT, Table, concatenate
from cascjax.errors import CascjaxError

NAN, INF = float("nan"), float("inf")
BOTH = pytest.mark.parametrize("suffix", [".arrow", ".parquet"])
F32, F64, INTS = pa.list_(pa.float32(), 2), pa.list_(pa.float64()), pa.list_(pa.int32(), 2)


def lists(rows: Any, kind: pa.DataType = F32) -> pa.Array:
    return pa.array(rows, kind)


def small(**columns: Any) -> pa.Table:
    """Three queries and two models, with columns replaced, added or (None) left out.

    Nested lists are lists of float32; a dictionary is schema metadata.
    """
    content = {
        "query_id": pa.array(["a", "b", "c"]),
        "quality": [[0, 1], [1, 1], [0, 0]],
        "cost": [[0.1, 1], [0.2, 1], [0.1, 2]],
    } | columns
    arrays = {
        name: lists(column) if isinstance(column, list) else column
        for name, column in content.items()
        if column is not None and not isinstance(column, dict)
    }
    arrow = pa.table(arrays)
    if "metadata" in columns:
        metadata = {"version": 1} | columns["metadata"]
        arrow = arrow.replace_schema_metadata({"cascjax": json.dumps(metadata)})
    return arrow


def full_table(N: int = 5, K: int = 3) -> Table:
    rng = np.random.default_rng(0)

    def values(width: int = K) -> np.ndarray:
        return rng.random((N, width), np.float32)

    return Table(
        quality=values(),
        cost=values(),
        quality_ante=values(),
        quality_post=values(),
        quality_sigma=values(),
        cost_ante=values() - 0.5,
        cost_post=values(),
        extra_costs={"grams of CO2": values(), "seconds": values()},
        features=values(2),
        signals=values(2 * K),
        answer=rng.integers(-1, 4, (N, K), np.int32),
        split=np.arange(N, dtype=np.int8) % 2,
        group=np.arange(N, dtype=np.int32)[::-1] % 3,
        models=tuple(f"m{k}" for k in range(K)),
        cost_unit="USD",
        extra_cost_units=(("seconds", "s"),),
        groups=("law", "chat", "code", "unused"),
        feature_names=("length", "hardness"),
        signal_names=("judge", "entropy"),
    )


def refusal(call: Any, *args: Any) -> str:
    with pytest.raises(CascjaxError) as caught:
        call(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("suffix", [".arrow", ".feather", ".ipc", ".parquet"])
def test_a_full_table_comes_back(tmp_path: Path, suffix: str) -> None:
    path, table = tmp_path / f"table{suffix}", full_table()
    write_table(path, table)
    again = read_table(path)
    assert again == table
    for field in dataclasses.fields(Table):
        column = getattr(table, field.name)
        if isinstance(column, np.ndarray):
            assert getattr(again, field.name).dtype == column.dtype
    assert os.listdir(tmp_path) == [path.name]
    path.rename(tmp_path / "table.csv")  # the format is told by content
    assert read_table(tmp_path / "table.csv") == table


@st.composite
def columns(draw: st.DrawFn) -> dict[str, Any]:
    N, K, P = draw(st.integers(1, 6)), draw(st.integers(2, 4)), draw(st.integers(1, 2))
    characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
    names = st.text(characters, min_size=1, max_size=5)

    def matrix(width: int, elements: st.SearchStrategy[float]) -> np.ndarray:
        return draw(hnp.arrays(np.float32, (N, width), elements=elements))

    anything, positive = (st.floats(low, 2.0**19, width=32) for low in (-(2.0**19), 0))
    large = st.floats(-(2.0**100), 2.0**100, width=32)
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
        signals=matrix(K * P, large),
        answer=draw(hnp.arrays(np.int32, (N, K))),
        split=draw(hnp.arrays(np.int8, N, elements=st.sampled_from([FIT, EVALUATE]))),
        group=draw(hnp.arrays(np.int32, N, elements=st.integers(0, len(groups) - 1))),
        models=tuple(draw(st.lists(names, min_size=K, max_size=K, unique=True))),
        cost_unit=draw(st.just("") | names),
        groups=groups,
        signal_names=tuple(f"signal {p}" for p in range(P)),
    )


@pytest.mark.parametrize("name", ["list", "element", "list.element"])
def test_an_extra_cost_may_be_named_as_a_part_of_a_list(tmp_path: Path, name: str) -> None:
    ones = np.ones((3, 2), np.float32)
    table = Table(ones, 2 * ones, models=("a", "b"), extra_costs={name: 3 * ones})
    write_table(tmp_path / "table.parquet", table)
    assert read_table(tmp_path / "table.parquet") == table


@settings(max_examples=40, deadline=None)
@given(columns=columns(), suffix=st.sampled_from([".arrow", ".parquet"]))
def test_writing_then_reading_is_the_identity(columns: dict[str, Any], suffix: str) -> None:
    table = Table(**columns)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"table{suffix}"
        write_table(path, table)
        assert read_table(path) == table


@BOTH
def test_batches_make_one_table_with_ids_that_go_on(tmp_path: Path, suffix: str) -> None:
    table, path = full_table(7), tmp_path / f"table{suffix}"
    with TableWriter(path) as writer:
        for rows in (np.arange(4), np.arange(4, 7)):
            writer.write(table.take(rows))
            assert not path.exists()
        other = dataclasses.replace(table, split=None)
        assert "the batch at row 7 has other columns" in refusal(writer.write, other)
    assert writer.n_rows == 7
    assert read_table(path) == table
    arrow = pq.read_table(path) if suffix == ".parquet" else ipc.open_file(path).read_all()
    assert arrow["query_id"].to_pylist() == [str(row) for row in range(7)]


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
    assert "query_id has 1 ids for 2 queries" in refusal(to_arrow, table, ["x"])
    assert "query_id must hold strings" in refusal(to_arrow, table, np.array([1, 2]))


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.float64(), 2), pa.list_(pa.float16(), 2), F64, pa.large_list(pa.float32()),
        pa.list_(pa.int64()),
    ],
    ids=str,
)  # fmt: skip
def test_numbers_of_any_width_in_lists_of_any_kind(kind: pa.DataType) -> None:
    rows = [[0, 1], [1, 1], [0, 0]]
    table = from_arrow(small(quality=lists(np.array(rows, np.float16).tolist(), kind)), "t")
    assert table.quality.dtype == np.float32
    np.testing.assert_array_equal(table.quality, rows)


def test_sliced_and_chunked_columns() -> None:
    arrow = pa.concat_tables([small(), small().slice(1), small().slice(2, 1)])
    arrow = arrow.set_column(0, "query_id", pa.array(list("abcdef")))
    arrow = arrow.append_column("answer", [lists([[1, 2]] * 6, INTS)])
    table = from_arrow(arrow.slice(2), "t")
    np.testing.assert_array_equal(table.quality, [[0, 0], [1, 1], [0, 0], [0, 0]])
    np.testing.assert_array_equal(np.asarray(table.answer), [[1, 2]] * 4)


@pytest.mark.parametrize("kind", [pa.large_string(), pa.int64(), pa.string_view(), None], ids=str)
def test_ids_of_any_kind(kind: pa.DataType | None) -> None:
    ids = pa.array(["7", "8", "9"])
    ids = ids.dictionary_encode() if kind is None else ids.cast(kind)
    assert from_arrow(small(query_id=ids), "t").n_queries == 3


def test_split_and_group_as_words() -> None:
    words = pa.array(["evaluate", "fit", "fit"])
    for split in (words, words.dictionary_encode(), words.cast(pa.large_string())):
        table = from_arrow(small(split=split, group=pa.array(["b", "a", "b"])), "t")
        assert np.asarray(table.split).tolist() == [EVALUATE, FIT, FIT]
        assert [table.groups[code] for code in np.asarray(table.group)] == ["b", "a", "b"]


def test_missing_answers_features_and_signals() -> None:
    for kind in (INTS, pa.list_(pa.int64())):
        table = from_arrow(small(answer=lists([[3, None], None, [1, 2]], kind)), "t")
        assert np.asarray(table.answer).tolist() == [[3, -1], [-1, -1], [1, 2]]
    table = from_arrow(small(features=[[1.0, None]] * 3, signals=[[NAN, 1.0]] * 3), "t")
    np.testing.assert_array_equal(np.asarray(table.features), [[1, NAN]] * 3)
    np.testing.assert_array_equal(np.asarray(table.signals), [[NAN, 1]] * 3)
    assert from_arrow(to_arrow(table), "t") == table


def test_models_without_names_are_numbered_and_other_columns_ignored() -> None:
    table = from_arrow(small(note=pa.array([b"\xff", None, b""]), cost_ante=[[-1, 0]] * 3), "t")
    assert (table.models, table.cost_unit) == (("model 1", "model 2"), "")
    assert np.asarray(table.cost_ante).min() == -1  # an estimate of a cost may be negative


def test_extra_costs_are_in_order_of_names_with_their_units() -> None:
    seconds, calls = [[1, 2], [3, 4], [5, 6]], [[7, 8]] * 3
    units = {"seconds": "s", "calls": "", "gone": "kg"}
    metadata = {"cost_unit": "USD", "cost_units": units}  # the name of the key in every file
    arrow = small(metadata=metadata, **{"cost.seconds": seconds, "cost.calls": calls})
    table = from_arrow(arrow, "t")
    assert list(table.extra_costs) == ["calls", "seconds"]
    np.testing.assert_array_equal(table.extra_costs["seconds"], seconds)
    np.testing.assert_array_equal(table.extra_costs["calls"], calls)
    assert table.extra_cost_units == (("seconds", "s"),)
    assert [table.unit_of(name) for name in ("cost", "calls", "seconds")] == ["USD", "", "s"]
    written = to_arrow(table)
    assert written.column_names[-2:] == ["cost.calls", "cost.seconds"]
    assert json.loads(written.schema.metadata[b"cascjax"])["cost_units"] == {"seconds": "s"}
    plain = to_arrow(from_arrow(small(), "t"))
    assert plain.column_names == ["query_id", "quality", "cost"]
    assert b"cost_units" not in plain.schema.metadata[b"cascjax"]
    for name, message in (("", "is empty"), ("cost", "is taken by the column")):
        bad = dataclasses.replace(full_table(), extra_costs={name: full_table().cost})
        assert message in refusal(to_arrow, bad)


def test_rows_and_models_are_selected_in_every_column() -> None:
    # Each value says where it was: thousands for the row, units for the model.
    place = 1000.0 * np.arange(6, dtype=np.float32)[:, None] + np.arange(3, dtype=np.float32)
    made = {
        "quality": place, "cost": place[:, ::-1], "seconds": place + 100, "calls": place + 200,
        "signals": np.repeat(place, 2, axis=1),
    }  # fmt: skip

    def table() -> Table:
        copies: dict[str, Any] = {name: values.copy() for name, values in made.items()}
        extra = {name: copies.pop(name) for name in ("seconds", "calls")}
        return Table(**copies, extra_costs=extra, models=("a", "b", "c"))

    def check(table: Table, rows: list[int], models: list[int]) -> None:
        assert table.models == tuple("abc"[k] for k in models)
        columns = {"quality": table.quality, "signals": table.signals, **table.extra_costs}
        for name, column in columns.items():
            by_model = made[name].reshape(6, 3, -1)[np.ix_(rows, models)]
            np.testing.assert_array_equal(np.asarray(column), by_model.reshape(len(rows), -1))

    every, mean_cost = list(range(6)), np.array([2.0, 3.0, 1.0])
    check(table().take(np.array([4, 0, 4])), [4, 0, 4], [0, 1, 2])
    check(table().select_models(["c", "a"]), every, [2, 0])
    check(table().sort_models(mean_cost), every, [2, 0, 1])
    plain = table()
    ordered = plain.sort_models(mean_cost, reuse=True)
    check(ordered, every, [2, 0, 1])
    assert np.shares_memory(plain.quality, ordered.quality)
    assert plain.sort_models(np.arange(3.0)) is plain
    # Memory of a mapped file cannot be written, and shared memory must not be reordered twice.
    fixed = table()
    fixed.extra_costs["calls"].flags.writeable = False
    check(fixed.sort_models(mean_cost, reuse=True), every, [2, 0, 1])
    shared = table()
    shared = dataclasses.replace(shared, cost=shared.quality)
    ordered = shared.sort_models(mean_cost, reuse=True)
    check(ordered, every, [2, 0, 1])
    np.testing.assert_array_equal(ordered.cost, made["quality"][:, [2, 0, 1]])


def test_tables_are_concatenated_by_group_name() -> None:
    table = full_table(6)
    parts = [table.take(np.array([0, 1, 2])), table.take(np.array([3, 4, 5]))]
    parts[1] = dataclasses.replace(
        parts[1], groups=table.groups[::-1], group=3 - np.asarray(parts[1].group)
    )
    whole = concatenate(parts)
    assert whole.groups == ("chat", "code", "law")  # those of a row, sorted
    names = [whole.groups[g] for g in np.asarray(whole.group)]
    assert names == [table.groups[g] for g in np.asarray(table.group)]
    assert dataclasses.replace(whole, group=table.group, groups=table.groups) == table


def test_a_table_prints_and_compares() -> None:
    table = full_table(6)
    assert repr(table).splitlines()[0] == "Table: 6 queries, 3 models"
    assert len(repr(table).splitlines()) == 5
    assert "<td>m2</td>" in table._repr_html_().replace("<th>m2</th>", "<td>m2</td>")
    assert "20 models" in repr(full_table(2, 20))
    assert table == full_table(6)
    assert hash(table) == hash(full_table(6))
    assert table != dataclasses.replace(table, cost=table.cost + 1)
    assert table != dataclasses.replace(table, split=None)
    assert table != "table"


ID, SPLIT = pa.array(["a", "b", "a"]), pa.array(["fit", "train", "test"])
THREE = lists([[1, 1, 1]] * 3, pa.list_(pa.float32(), 3))
NAMED = {"models": ["x", "y"]}
BAD: list[tuple[dict[str, Any], str]] = [
    ({"query_id": None}, r"'query_id' is missing; the file has 'quality', 'cost'"),
    ({"quality": None}, r"column 'quality' is missing"),
    ({"cost": None}, r"column 'cost' is missing"),
    ({"query_id": pa.array(["a", None, None])}, r"'query_id', row 1 \(and 1 more\)"),
    ({"query_id": pa.array([1.0, 2, 3])}, r"'query_id' must hold strings, not double"),
    ({"query_id": ID}, r"'query_id', row 2: 'a' repeats an id; ids must be unique"),
    ({"quality": lists([[1]] * 3, pa.list_(pa.float32(), 1))}, r"'quality' has 1 model"),
    ({"quality": lists([[]] * 3, pa.list_(pa.float32(), 0))}, r"'quality' has empty lists"),
    ({"quality": lists([[]] * 3, F64)}, r"row 0 \(and 2 more"),
    ({"quality": lists([[0, 1], [1], [1, 1]], F64)}, r"'quality', row 1: 1 value where 2"),
    ({"cost": THREE}, r"'cost' has 3 values per row where 2"),
    ({"cost": THREE.cast(F64)}, r"'cost', row 0 \(and 2 more\): 3 values where 2"),
    ({"metadata": {"models": ["x", "y", "z"]}}, r"names 3 models"),
    ({"metadata": {"models": ["x", "x"]}}, r"models: 'x' is listed twice"),
    ({"metadata": {"models": "xy"}}, r"Expected `array`, got `str` - at `\$\.models`"),
    ({"metadata": {"cost_unit": 3}}, r"Expected `str`, got `int` - at `\$\.cost_unit`"),
    ({"metadata": {"cost_units": ["s"]}}, r"Expected `object`, got `array` - at `\$\.cost_units`"),
    ({"metadata": {"cost_units": {"s": 1}}}, r"got `int` - at `\$\.cost_units"),
    ({"metadata": {"models": ["", "x"]}}, r"length >= 1 - at `\$\.models"),
    ({"metadata": {"version": 2}}, r"version 2 and this cascjax reads 1"),
    ({"metadata": {"version": True}}, r"version True and this cascjax reads 1"),
    (
        {"features": [[1, 1]] * 3, "metadata": {"features": ["x"]}},
        r"'features' has 2 values per row where 1",
    ),
    ({"signals": THREE}, r"'signals' has 3 values per row, which is no multiple of the 2"),
    ({"features": [[1, 1], [NAN, -INF], [1, 1]]}, r"row 1: -inf as a 32-bit number; every"),
    ({"signals": [[1, 1], [NAN, -INF], [1, 1]]}, r"row 1: -inf as a 32-bit number; every"),
    ({"quality": [[0, 1], [1, NAN], [NAN, 0]]}, r"'quality', row 1 \(and 1 more\): nan"),
    ({"quality_post": [[0, 1], [1, 1], [0, -INF]]}, r"'quality_post', row 2: -inf"),
    ({"cost": lists([[0, 1], [1e300, 1], [0, 0]], F64)}, r"'cost', row 1: inf as a 32-bit"),
    ({"cost": [[0, 1], [1, 1], [None, 0]]}, r"'cost', row 2: null"),
    ({"cost": [[0, 1], None, [1, 0]]}, r"'cost', row 1: null"),
    (
        {"cost": [[0, 1], [1, -2], [0, 0]], "metadata": NAMED},
        r"'cost', row 1: -2 for model 'y' is negative; it must be at least 0",
    ),
    ({"quality_sigma": [[0, 1], [1, 1], [-1, 0]]}, r"row 2: -1 for model 'model 1' is neg"),
    (
        {"cost.s": [[0, 1], [1, 1], [0, -3]], "metadata": NAMED},
        r"'cost\.s', row 2: -3 for model 'y' is negative",
    ),
    ({"cost.s": [[0, 1], [1, NAN], [0, NAN]]}, r"'cost\.s', row 1 \(and 1 more\): nan"),
    ({"cost.s": [[0, 1], [1, 1], [INF, 0]]}, r"'cost\.s', row 2: inf"),
    ({"cost.s": [[0, 1], None, [1, 0]]}, r"'cost\.s', row 1: null"),
    ({"cost.s": THREE}, r"'cost\.s' has 3 values per row where 2"),
    ({"cost.s": pa.array([1.0, 2, 3])}, r"'cost\.s' must hold one list of numbers per row"),
    ({"cost.": [[0, 1]] * 3}, r"'cost\.': the name of the extra cost is empty; choose"),
    ({"cost.cost": [[0, 1]] * 3}, r"the name of the extra cost is taken by the column 'cost'"),
    ({"cost": pa.array([1.0, 2, 3])}, r"'cost' must hold one list of numbers per row, not d"),
    ({"cost": lists([["1", "2"]] * 3, pa.list_(pa.string(), 2))}, r"one list of numbers"),
    ({"answer": [[1, 1]] * 3}, r"'answer' must hold a list of K whole"),
    ({"answer": lists([[1, 2**40]] * 3, pa.list_(pa.int64(), 2))}, r"1099511627776"),
    ({"split": SPLIT}, r"'split', row 1 \(and 1 more\): 'train'; must be 'fit' or 'evaluate'"),
    ({"split": pa.array(["fit", None, "fit"])}, r"'split', row 1: null"),
    ({"split": pa.array([True, False, True])}, r"'split' must hold strings"),
    ({"group": pa.array(["g", None, "g"]).dictionary_encode()}, r"'group', row 1: null"),
    ({"group": pa.array([b"g"] * 3)}, r"'group' must hold strings"),
]
LATER = small(query_id=pa.array(list("def")), cost=[[0, 1], [1, None], [1, 0]])
BAD_ARROW = [(small(**columns), message) for columns, message in BAD]
BAD_ARROW += [
    (small().slice(0, 0), r"no rows"),
    (small().append_column("cost", small()["cost"]), r"column 'cost' is listed 2 times"),
    (
        small(**{"cost.s": [[0, 1]] * 3}).append_column("cost.s", small()["cost"]),
        r"'cost\.s' is listed 2 times",
    ),
    (pa.concat_tables([small(), LATER]), r"'cost', row 4: null"),
    (small().replace_schema_metadata({"cascjax": "{}"}), r"not JSON with a version"),
    (small().replace_schema_metadata({"cascjax": "\xff{"}), r"not JSON"),
]


@pytest.mark.parametrize(("arrow", "message"), BAD_ARROW, ids=[m[:40] for _, m in BAD_ARROW])
def test_bad_tables_are_refused_in_one_line(arrow: pa.Table, message: str) -> None:
    with pytest.raises(CascjaxError, match=message) as caught:
        from_arrow(arrow, "logs.arrow")
    assert "logs.arrow" in str(caught.value)
    assert "\n" not in str(caught.value)


@BOTH
def test_bad_files_are_refused_and_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"table{suffix}"
    write_table(path, small(cost=[[0, 1], [1, -2], [0, 0]]))
    assert f"table{suffix}: column 'cost', row 1" in refusal(read_table, path)
    for content in (b"", b"A", b"ARROW1", b"PAR1", b"PAR1" * 9, bytes(range(256))):
        path.write_bytes(content)
        assert f"cannot read {path}" in refusal(read_table, path)
    assert "No such file" in refusal(read_table, tmp_path / "none.arrow")
    assert "it is a folder" in refusal(read_table, tmp_path)


@BOTH
def test_cut_and_damaged_files_are_read_or_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"table{suffix}"
    write_table(path, full_table(50))
    content = np.frombuffer(path.read_bytes(), np.uint8)
    for length in np.linspace(0, len(content) - 1, 40).astype(int):
        path.write_bytes(content[:length].tobytes())
        assert "cannot read" in refusal(read_table, path)
    assert "damaged or cut short (" in refusal(read_table, path)
    rng = np.random.default_rng(0)
    for _ in range(150):
        damaged = content.copy()
        damaged[rng.integers(len(content), size=4)] = rng.integers(256, size=4)
        path.unlink()  # mapped files must not be overwritten
        path.write_bytes(damaged.tobytes())
        try:
            read_table(path)
        except CascjaxError as error:
            assert "\n" not in str(error)  # noqa: PT017


def test_nothing_is_written_without_rows_or_a_known_suffix(tmp_path: Path) -> None:
    assert "'.csv'; use .parquet" in refusal(write_table, tmp_path / "table.csv", full_table())
    with pytest.raises(CascjaxError, match="no rows to write"), TableWriter(tmp_path / "t.arrow"):
        pass
    assert not os.listdir(tmp_path)


@BOTH
def test_an_interrupt_keeps_the_old_file_alone(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"table{suffix}"
    write_table(path, full_table(2))
    before = path.read_bytes()
    with pytest.raises(KeyboardInterrupt), TableWriter(path) as writer:  # noqa: PT012
        writer.write(full_table(9))
        raise KeyboardInterrupt
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    target, plain = tmp_path / "out", tmp_path / "plain"
    plain.write_text("old")
    target.symlink_to("plain")
    with atomic_write(target) as temporary:
        temporary.write_text("new")
        assert (temporary.parent, plain.read_text()) == (tmp_path, "old")
    assert target.is_symlink()
    assert plain.read_text() == "new"
    for error in (ValueError, KeyboardInterrupt, SystemExit):
        with pytest.raises(error), atomic_write(target) as temporary:  # noqa: PT012
            temporary.write_text("half")
            raise error
    with pytest.raises(CascjaxError, match="out: No space left on device"), atomic_write(target):
        raise OSError(28, "No space left on device")
    assert sorted(os.listdir(tmp_path)) == ["out", "plain"]
    assert plain.read_text() == "new"
    (tmp_path / "touched").touch()
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "touched")}
    assert len(modes) == 1


def test_places_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "closed").mkdir(0o500)
    paths = [
        (tmp_path, "it is a folder"),
        (tmp_path / "no" / "out", "there is no folder"),
        (tmp_path / "file" / "out", "there is no folder"),
        (Path(os.devnull), "not a plain file"),
    ]
    if os.geteuid():  # the superuser may write to any folder
        paths.append((tmp_path / "closed" / "out", "Permission denied"))
    for path, reason in paths:
        with pytest.raises(CascjaxError, match=f"cannot write .*{reason}"), atomic_write(path):
            pytest.fail("the body must not run")
