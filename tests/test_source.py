"""Tables of many files: what is read is what is there, and what is wrong is named."""

import itertools
import json
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq
import pytest

from cascjax import CascjaxError, synthetic
from cascjax.data import to_arrow, write_table
from cascjax.data.source import Files, open_files, write_parts
from cascjax.data.table import ESTIMATE_COLUMNS, Chunk, Table

K, CUTS = 3, (0, 700, 701, 1500, 2000)
EVERY = ("split", "group", "extra_costs", "features", "signals", *ESTIMATE_COLUMNS)


@pytest.fixture(scope="module")
def table() -> Table:
    made = synthetic.sample(
        synthetic.make_dataset(K, seed=1), 0, CUTS[-1], features=True, seconds=True
    )
    split = (np.arange(CUTS[-1]) % 3 > 0).astype(np.int8)
    return replace(made, split=split)


def write(folder: Path, table: Table) -> Path:
    """Four files of different sizes, in both formats and with row groups of different sizes."""
    folder.mkdir()
    for i, (start, stop) in enumerate(itertools.pairwise(CUTS)):
        part = to_arrow(table.take(np.arange(start, stop)))
        if i == 0:
            pq.write_table(part, folder / "a.parquet", row_group_size=130)
        elif i == 2:
            pq.write_table(part, folder / "c.parquet", row_group_size=5000)
        else:
            options = ipc.IpcWriteOptions(compression="lz4" if i == 1 else None)
            with ipc.new_file(folder / f"{'abcd'[i]}.arrow", part.schema, options=options) as file:
                file.write_table(part, max_chunksize=64)
    return folder


@pytest.fixture(scope="module")
def folder(table: Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("source") / "parts", table)


def same(one: Table, other: Table) -> None:
    for name in ("quality", "cost", "split", "features", "signals", *ESTIMATE_COLUMNS):
        mine, yours = getattr(one, name), getattr(other, name)
        assert (mine is None) == (yours is None), name
        if mine is not None:
            np.testing.assert_array_equal(mine, yours, err_msg=name)
    np.testing.assert_array_equal(one.extra_costs["seconds"], other.extra_costs["seconds"])
    mine, yours = (np.array(t.groups)[t.group] for t in (one, other))
    np.testing.assert_array_equal(mine, yours)


def check_rows(source: Files, chunks: Sequence[Chunk], table: Table) -> None:
    for chunk, rows in source.read(chunks, EVERY):
        same(rows, table.take(chunk.rows))


@pytest.mark.parametrize("rows", [1, 100, 333, 10_000])
def test_chunks_are_all_rows_in_order_and_can_be_read_in_any(
    table: Table, folder: Path, rows: int
) -> None:
    source = open_files(folder, chunk_rows=rows)
    assert source.n_rows == len(table.quality)
    ends = np.cumsum([chunk.n_rows for chunk in source.chunks])
    assert [chunk.first for chunk in source.chunks] == [0, *ends[:-1]]
    assert max(chunk.n_rows for chunk in source.chunks) <= rows
    chunks = source.chunks if rows > 1 else source.chunks[::97]
    check_rows(source, chunks, table)
    mixed = [chunks[i] for i in np.random.default_rng(0).permutation(len(chunks))]
    check_rows(source, mixed, table)


def test_only_what_is_asked_for_is_read(folder: Path) -> None:
    source = open_files(folder)
    _, found = next(source.read(source.chunks, ["split"]))
    assert found.quality_ante is None
    assert found.features is None
    assert not found.extra_costs


def test_files_are_taken_in_the_order_of_their_names(folder: Path) -> None:
    paths = sorted(folder.iterdir())
    every = (folder, str(folder / "*"), paths[::-1])
    assert len({tuple(f.path for f in open_files(of).files) for of in every}) == 1


def test_models_are_chosen_by_name(table: Table, folder: Path) -> None:
    source = open_files(folder, chunk_rows=500)
    chosen = [source.models[2], source.models[0]]
    for chunk, rows in source.select_models(chosen).read(source.chunks[1:3], []):
        np.testing.assert_array_equal(rows.cost, table.cost[chunk.rows][:, [2, 0]])
    with pytest.raises(CascjaxError, match="unknown model"):
        source.select_models(["nobody", source.models[0]])


def test_lists_of_any_length_are_read_where_all_are_of_one(table: Table, tmp_path: Path) -> None:
    part = to_arrow(table)
    for name in ("quality", "cost"):
        part = retyped(part, name, part.column(name).cast(pa.list_(pa.float32())))
    part = part.select(["query_id", "quality", "cost"]).replace_schema_metadata(None)
    pq.write_table(part, tmp_path / "a.parquet")
    source = open_files(tmp_path)
    assert source.models == ("model 1", "model 2", "model 3")
    for _, found in source.read(source.chunks, []):
        np.testing.assert_array_equal(found.cost, table.cost)


def readers() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("cascjax-read")]


def test_the_reader_ends_with_whoever_asked(folder: Path) -> None:
    source = open_files(folder, chunk_rows=100)
    for error in (GeneratorExit, ZeroDivisionError):
        tables = source.read(source.chunks, [])
        next(tables)
        assert readers()
        with pytest.raises(error):
            tables.throw(error)
        assert not readers()


def changed(arrow: pa.Table, **more: object) -> pa.Table:
    metadata = json.loads((arrow.schema.metadata or {})[b"cascjax"])
    return arrow.replace_schema_metadata({"cascjax": json.dumps(metadata | more)})


def retyped(arrow: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return arrow.set_column(arrow.schema.get_field_index(name), name, values)


WRONG = {
    "models": lambda t: changed(to_arrow(t), models=["x", "y", "z"]),
    "cost_unit": lambda t: changed(to_arrow(t), cost_unit="EUR"),
    "version": lambda t: changed(to_arrow(t), version=9),
    "columns differ from .*a.parquet: it lacks 'split'": lambda t: to_arrow(replace(t, split=None)),
    "columns differ from .*: it has 'answer'": lambda t: to_arrow(
        replace(t, answer=np.zeros(t.cost.shape, np.int32))
    ),
    "models differ from .*a.parquet: it lacks '[^']*';": lambda t: to_arrow(
        t.select_models(t.models[:2])
    ),
    "models differ from .*: it lacks '[^']*' and 2 more;": lambda t: changed(
        to_arrow(t), models=[]
    ),
    "'quality' has 2 values": lambda t: changed(
        to_arrow(t.select_models(t.models[:2])), models=list(t.models)
    ),
    "'quality' must hold": lambda t: retyped(to_arrow(t), "quality", pa.array(["?"] * t.n_queries)),
    "the table has no rows": lambda t: to_arrow(t).slice(0, 0),
}


@pytest.mark.parametrize("what", WRONG)
@pytest.mark.parametrize("suffix", ["arrow", "parquet"])
def test_a_file_of_another_shape_is_named(
    table: Table, tmp_path: Path, what: str, suffix: str
) -> None:
    folder = write(tmp_path / "parts", table)
    odd = folder / f"e.{suffix}"
    part = WRONG[what](table.take(np.arange(50)))
    if suffix == "parquet":
        pq.write_table(part, odd)
    else:
        with ipc.new_file(odd, part.schema) as file:
            file.write_table(part)
    with pytest.raises(CascjaxError, match=rf"{odd}.*{what}") as caught:
        open_files(folder)
    assert "\n" not in str(caught.value)


def test_a_copy_is_named(table: Table, tmp_path: Path) -> None:
    folder = write(tmp_path / "parts", table)
    for name in ("a.parquet", "d.arrow"):
        odd = folder / f"z{name}"
        odd.write_bytes((folder / name).read_bytes())
        with pytest.raises(CascjaxError, match=f"{odd} holds the same rows as {folder / name}"):
            open_files(folder)
        odd.unlink()
    # Of one size and with the same end, but of other rows.
    rows = table.take(np.arange(40_000) % table.n_queries)
    for i in range(2):
        quality = rows.quality.copy()
        quality[:100] = i
        write_table(folder / f"z{i}.arrow", replace(rows, quality=quality))
    source = open_files(folder)
    one, other = source.files[-2:]
    assert (one.size, one.footer) == (other.size, other.footer)


def test_damage_behind_a_whole_end_is_named(table: Table, tmp_path: Path) -> None:
    folder = write(tmp_path / "parts", table)
    odd = folder / "a.parquet"
    content = bytearray(odd.read_bytes())
    content[100 : len(content) // 2] = bytes(len(content) // 2 - 100)
    odd.write_bytes(content)
    source = open_files(folder)
    with pytest.raises(CascjaxError, match=f"{odd}: it is damaged or cut short") as caught:
        list(source.read(source.chunks, []))
    assert "\n" not in str(caught.value)


def test_what_is_no_table_is_named(table: Table, tmp_path: Path) -> None:
    folder = write(tmp_path / "parts", table)
    odd = folder / "e.parquet"
    whole = {name: (folder / name).read_bytes() for name in ("a.parquet", "d.arrow")}
    for content in (b"", b"hello", *(of[: len(of) // 2] for of in whole.values())):
        odd.write_bytes(content)
        with pytest.raises(CascjaxError, match=str(odd)) as caught:
            open_files(folder)
        assert "\n" not in str(caught.value)
    odd.unlink()
    (folder / "_SUCCESS").write_bytes(b"")
    (folder / ".hidden").write_bytes(b"")
    assert len(open_files(folder).files) == 4


@pytest.mark.parametrize(
    ("source", "what"),
    [("nothing", "cannot read"), ("no*.parquet", "no file matches"), ("empty", "no files")],
)
def test_sources_without_files(tmp_path: Path, source: str, what: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CascjaxError, match=what):
        open_files(tmp_path / source)


@pytest.mark.parametrize("name", ["a.parquet", "b.arrow", "c.parquet", "d.arrow"])
@pytest.mark.parametrize(
    ("column", "value", "what"),
    [
        ("cost", -1.0, "negative"),
        ("cost", np.inf, "inf"),
        ("quality", np.nan, "nan"),
        ("quality_ante", np.nan, "nan"),
    ],
)
def test_bad_values_are_named_by_file_and_row(
    table: Table, tmp_path: Path, name: str, column: str, value: float, what: str
) -> None:
    i = "abcd".index(name[0])
    row = (CUTS[i] + CUTS[i + 1]) // 2
    values = getattr(table, column).copy()
    values[row, 1] = value
    folder = write(tmp_path / "parts", replace(table, **{column: values}))
    source = open_files(folder, chunk_rows=64)
    where = rf"{folder / name}: column '{column}', row {row - CUTS[i]}: .*{what}"
    with pytest.raises(CascjaxError, match=where):
        list(source.read(source.chunks, EVERY))
    assert not readers()


def test_a_file_that_changes_meanwhile_is_refused(table: Table, tmp_path: Path) -> None:
    folder = write(tmp_path / "parts", table)
    source = open_files(folder, chunk_rows=100)
    write_table(folder / "d.arrow", table.take(np.arange(30)))
    with pytest.raises(CascjaxError, match=r"d\.arrow has changed"):
        list(source.read(source.chunks, []))


@pytest.mark.parametrize("parts", [1, 3, 7])
def test_parts_hold_the_rows_of_the_batches(table: Table, tmp_path: Path, parts: int) -> None:
    n = len(table.quality)
    batches = [table.take(np.arange(s, min(s + 450, n))) for s in range(0, n, 450)]
    write_parts(tmp_path / "w", iter(batches), n, parts)
    source = open_files(tmp_path / "w")
    rows = [file.n_rows for file in source.files]
    assert len(rows) == parts
    assert max(rows) - min(rows) <= 1
    check_rows(source, source.chunks, table)
    with pytest.raises(CascjaxError, match="it exists"):
        write_parts(tmp_path / "w", iter(batches), n, parts)
    assert [path.name for path in tmp_path.iterdir()] == ["w"]
