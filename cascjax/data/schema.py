"""Columns of an evaluation table in Arrow: names, types, metadata, and checks of values.

One row per query; all columns but the first three are optional:

    query_id                  string, unique
    quality, cost             fixed_size_list<float>[K]: quality and cost of each model's answer
    split                     string or dictionary, "fit" or "evaluate"
    group                     string or dictionary: benchmark or customer of the query
    quality_ante, quality_post, quality_sigma, cost_ante, cost_post
                              fixed_size_list<float>[K]: supplied estimates
    cost.NAME                 fixed_size_list<float>[K]: an extra cost, such as cost.seconds
    features                  fixed_size_list<float>[F]: known before any model runs
    signals                   fixed_size_list<float>[K*P]: known once a model has run, model-major;
                              features and signals may be missing (NaN or null), but not infinite
    answer                    fixed_size_list<int32>[K]: identity of the answer, -1 for none
    draws                     fixed_size_list<int32>[K]: number of runs that a cell is the mean of
    quality_variance          fixed_size_list<float>[K]: variance of quality between those runs, NaN
                              where there is one

Qualities, and estimates of them, are below 1e6 in magnitude, costs below 1e12: larger numbers are
mistakes of unit or damage, and 32-bit sums of them lose what distinguishes models.

Schema metadata, key "cascjax": JSON with version (1), models (names in column order), cost_unit,
cost_units (units of extra costs, by name), features and signals (names). Without it, models are
numbered.
"""

import json
from collections.abc import Sequence
from typing import Annotated, Any, Protocol, runtime_checkable

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float, Float32, Int, Int8, Int32

from cascjax.data.table import DRAW_COLUMNS, ESTIMATE_COLUMNS, EVALUATE, FIT, Table
from cascjax.errors import CascjaxError, one_line
from cascjax.words import counted

VERSION = 1
METADATA_KEY = b"cascjax"
REQUIRED = ("query_id", "quality", "cost")
COLUMNS = (
    *(*REQUIRED, "split", "group", *ESTIMATE_COLUMNS, "features", "signals", "answer"),
    *DRAW_COLUMNS,
)
"""Every column of the format but the extra costs; a file may have others, which are ignored."""
EXTRA_COST = "cost."  # Prefix of the column of an extra cost, before the name of that cost
SPLITS = ("fit", "evaluate")
"""Values of the column split, in the order of the codes `FIT` and `EVALUATE`."""
MAX_QUALITY = 1e6
"""Magnitude that no quality, and no estimate of a quality, may reach."""
MAX_COST = 1e12
"""Magnitude that no cost, extra cost or estimate of a cost may reach."""

assert (FIT, EVALUATE) == (0, 1)


@runtime_checkable
class Columns(Protocol):
    """Columns that can be read one at a time; a `pa.Table` is one."""

    schema: pa.Schema
    column_names: list[str]

    def column(self, index: int) -> pa.ChunkedArray:
        """Return the column at a position of the schema."""
        ...


class BadRowsError(CascjaxError):
    """Some rows of a column are invalid; the message names the first row and counts the others."""

    def __init__(self, source: str, column: str, row: int, count: int, problem: str) -> None:
        """Compose the message."""
        more = f" (and {count - 1:,} more)" if count > 1 else ""
        super().__init__(f"{source}: column {column!r}, row {row}{more}: {problem}")
        self.row = row
        self._parts = (source, column, row, count, problem)

    def moved(self, row: int, source: str | None = None) -> "BadRowsError":
        """Return the error with another row, and another name of the file if one is given."""
        name, column, _, count, problem = self._parts
        return BadRowsError(source or name, column, row, count, problem)


def refuse_rows(
    source: str, column: str, bad: Bool[np.ndarray, " N"], problem: str, fix: str
) -> None:
    """Raise an error that names the first `bad` row of a column and counts the others."""
    if count := int(np.count_nonzero(bad)):
        raise BadRowsError(source, column, int(np.argmax(bad)), count, f"{problem}; {fix}")


def _wrong_type(source: str, name: str, kind: pa.DataType, wanted: str) -> CascjaxError:
    return CascjaxError(f"{source}: column {name!r} must hold {wanted}, not {kind}; convert it")


Name = Annotated[str, msgspec.Meta(min_length=1)]


class Metadata(msgspec.Struct, frozen=True):
    """Contents of the schema metadata; names are empty where the file gives none."""

    version: int
    models: tuple[Name, ...] = ()
    cost_unit: str = ""
    features: tuple[Name, ...] = ()
    signals: tuple[Name, ...] = ()
    units: dict[str, str] = msgspec.field(name="cost_units", default_factory=dict)

    @property
    def cost_units(self) -> tuple[tuple[str, str], ...]:
        """Name and unit of every extra cost whose unit is known, in order of names."""
        return tuple(sorted((name, unit) for name, unit in self.units.items() if unit))


def read_metadata(schema: pa.Schema, source: str) -> Metadata:
    """Return the schema metadata under the key "cascjax"."""
    raw = (schema.metadata or {}).get(METADATA_KEY)
    if raw is None:
        return Metadata(VERSION)
    where = f"{source}: schema metadata 'cascjax'"
    try:
        version = msgspec.json.decode(raw)["version"]
        if version != VERSION or isinstance(version, bool):
            raise CascjaxError(
                f"{source}: the table has format version {version!r} and this cascjax reads"
                f" {VERSION}; use the cascjax that wrote it, or write it again"
            )
        metadata = msgspec.json.decode(raw, type=Metadata)
    except msgspec.ValidationError as error:
        raise CascjaxError(f"{where}: {error}; write the table again") from None
    except (msgspec.DecodeError, KeyError, TypeError, RecursionError):
        raise CascjaxError(f"{where} is not JSON with a version; write the table again") from None
    for key in ("models", "features", "signals"):
        check_distinct(getattr(metadata, key), f"{where}: {key}")
    return metadata


def check_distinct(names: Sequence[str], where: str) -> None:
    """Refuse names that are listed twice."""
    for i, name in enumerate(names):
        if name in names[:i]:
            raise CascjaxError(f"{where}: {name!r} is listed twice; names must be distinct")


def find_column(schema: pa.Schema, name: str, source: str) -> int:
    """Return the position of the only column with that name."""
    places = schema.get_all_field_indices(name)
    if len(places) != 1:
        problem = f"is listed {len(places)} times" if places else "is missing"
        more = f" and {len(schema.names) - 8} more" if len(schema.names) > 8 else ""
        present = ", ".join(map(repr, schema.names[:8])) + more or "no columns"
        raise CascjaxError(f"{source}: column {name!r} {problem}; the file has {present}")
    return places[0]


def check_columns(schema: pa.Schema, source: str) -> None:
    """Refuse a schema that lacks a required column, or lists a column of the format twice."""
    present = [name for name in COLUMNS if name in schema.names]
    for name in (*REQUIRED, *present, *_extra_costs(schema.names)):
        find_column(schema, name, source)


def _extra_costs(names: Sequence[str]) -> list[str]:
    return sorted({name for name in names if name.startswith(EXTRA_COST)})


def extra_cost_column(name: str, source: str) -> str:
    """Return the name of the column that holds an extra cost."""
    if not name or name == "cost":
        problem = "is taken by the column 'cost'" if name else "is empty"
        raise CascjaxError(
            f"{source}: column {EXTRA_COST + name!r}: the name of the extra cost {problem}; choose"
            f" another, as in {EXTRA_COST + 'seconds'!r}"
        )
    return EXTRA_COST + name


def from_arrow(arrow: Columns, source: str) -> Table:
    """Return the evaluation table that an Arrow table holds, after checking all of it.

    Args:
      arrow: Columns of the format; others are ignored.
      source: Name of the table in error messages, such as its file.

    Raises:
      CascjaxError: A required column is missing; a type, width, id, name or value is wrong.

    Example:
      >>> arrow = pa.table({"query_id": ["a"], "quality": [[0.5, 1]], "cost": [[1.0, 2]]})
      >>> from_arrow(arrow, "example").models
      ('model 1', 'model 2')
    """
    with one_line(f"cannot read {source}"):
        check_columns(arrow.schema, source)
        ids = arrow.column(find_column(arrow.schema, "query_id", source))
        ids.validate(full=True)
        if not len(ids):
            raise CascjaxError(f"{source}: the table has no rows; at least one query is needed")
        check_unique(strings(ids, source, "query_id"), source, "query_id")
        del ids
        return table_of_columns(arrow, source, read_metadata(arrow.schema, source))


def table_of_columns(
    arrow: Columns, source: str, metadata: Metadata, width: int | None = None
) -> Table:
    """Return the evaluation table of columns that have passed `check_columns`; ids are not read.

    `width` is the number of models K, if it is known.
    """

    def column(name: str) -> pa.ChunkedArray:
        values = arrow.column(find_column(arrow.schema, name, source))
        values.validate(full=True)  # offsets and text of a mapped file have not been checked
        return values

    present = [name for name in COLUMNS if name in arrow.column_names]
    quality = matrix(column("quality"), source, "quality", width)
    K = quality.shape[1]
    models = metadata.models or tuple(f"model {k + 1}" for k in range(K))
    if K < 2:
        raise CascjaxError(f"{source}: column 'quality' has {K} model; at least 2 are needed")
    if len(models) != K:
        raise CascjaxError(
            f"{source}: column 'quality' has {counted(K, 'value')} per row and the metadata"
            f" names {counted(len(models), 'model')}; make them agree"
        )
    check_magnitude(quality, source, "quality", MAX_QUALITY)
    columns: dict[str, Any] = {"quality": quality}
    for name in ("cost", *ESTIMATE_COLUMNS):
        if name in present:
            columns[name] = matrix(column(name), source, name, K)
            limit = MAX_COST if name.startswith("cost") else MAX_QUALITY
            check_magnitude(columns[name], source, name, limit)
    for name in ("cost", "quality_sigma"):  # an estimate of a cost may be negative
        if name in present:
            check_not_negative(columns[name], source, name, models)
    columns["extra_costs"] = {}
    for name in _extra_costs(arrow.column_names):
        cost = name.removeprefix(EXTRA_COST)
        extra_cost_column(cost, source)
        columns["extra_costs"][cost] = matrix(column(name), source, name, K)
        check_not_negative(columns["extra_costs"][cost], source, name, models)
        check_magnitude(columns["extra_costs"][cost], source, name, MAX_COST)
    columns["extra_cost_units"] = tuple(
        (cost, unit) for cost, unit in metadata.cost_units if cost in columns["extra_costs"]
    )
    if "answer" in present:
        columns["answer"] = answers(column("answer"), source, "answer", K)
    if "draws" in present:
        columns["draws"] = answers(column("draws"), source, "draws", K)
        few = np.any(columns["draws"] < 1, axis=1)
        refuse_rows(source, "draws", few, "fewer than 1", "a cell is the mean of at least 1 run")
    if "quality_variance" in present:
        variance = matrix(column("quality_variance"), source, "quality_variance", K, missing=True)
        check_not_negative(variance, source, "quality_variance", models)
        columns["quality_variance"] = variance
    if "split" in present:
        columns["split"] = split_codes(column("split"), source, "split")
    if "group" in present:
        columns["group"], columns["groups"] = group_codes(column("group"), source, "group")
    for name, names, per in (("features", metadata.features, 1), ("signals", metadata.signals, K)):
        if name in present:
            wanted = len(names) * per if names else None
            columns[name] = matrix(column(name), source, name, wanted, missing=True)
            if columns[name].shape[1] % per:
                raise CascjaxError(
                    f"{source}: column {name!r} has {counted(columns[name].shape[1], 'value')} per"
                    f" row, which is no multiple of the {K} models"
                )
            columns[f"{name[:-1]}_names"] = names
    return Table(models=models, cost_unit=metadata.cost_unit, **columns)


def to_arrow(
    table: Table, query_id: Sequence[str] | np.ndarray | pa.Array | None = None, first_row: int = 0
) -> pa.Table:
    """Return an evaluation table as Arrow columns.

    Args:
      table: N queries and K models.
      query_id: `[N]` ids. [default: row numbers from `first_row` on]
      first_row: Number of the first row.

    Raises:
      CascjaxError: The ids are not N strings, or the name of an extra cost is not allowed.

    Example:
      >>> table = Table(np.ones((1, 2), np.float32), np.ones((1, 2), np.float32), models=("a", "b"))
      >>> to_arrow(table)["query_id"].to_pylist()
      ['0']
    """
    N = table.n_queries
    if query_id is None:
        ids = _row_numbers(first_row, N)
    else:
        with one_line("query_id must hold strings"):
            ids = pa.array(query_id, pa.string())
    if len(ids) != N:
        raise CascjaxError(f"query_id has {len(ids)} ids for {counted(N, 'query', 'queries')}")
    columns: dict[str, pa.Array] = {"query_id": ids}
    if table.split is not None:
        columns["split"] = _dictionary(np.asarray(table.split), pa.int8(), SPLITS)
    if table.group is not None:
        columns["group"] = _dictionary(np.asarray(table.group), pa.int32(), table.groups)
    for name in ("quality", "cost", *ESTIMATE_COLUMNS, "features", "signals", "quality_variance"):
        if (values := getattr(table, name)) is not None:
            columns[name] = _lists(np.asarray(values, np.float32))
    for cost in sorted(table.extra_costs):
        values = np.asarray(table.extra_costs[cost], np.float32)
        columns[extra_cost_column(cost, "the table")] = _lists(values)
    for name in ("answer", "draws"):
        if (values := getattr(table, name)) is not None:
            columns[name] = _lists(np.asarray(values, np.int32))
    metadata = {
        "version": VERSION,
        "models": table.models,
        "cost_unit": table.cost_unit,
        "features": table.feature_names,
        "signals": table.signal_names,
    }
    if table.extra_cost_units:
        metadata["cost_units"] = dict(table.extra_cost_units)
    return pa.table(columns).replace_schema_metadata({METADATA_KEY: json.dumps(metadata)})


def _lists(values: np.ndarray) -> pa.FixedSizeListArray:
    """Return `[N, W]` values as N lists of W, without a copy where they are in row order."""
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])


def _dictionary(codes: np.ndarray, kind: pa.DataType, names: Sequence[str]) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(codes, kind), pa.array(names, pa.string()))


# Columns to arrays; each function refuses another type, and nulls where they are not allowed


def strings(column: pa.ChunkedArray, source: str, name: str) -> pa.ChunkedArray:
    """Return a column of strings, dictionary strings or integers as strings without nulls."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    plain = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if not (plain or pa.types.is_integer(kind) or pa.types.is_string_view(kind)):
        raise _wrong_type(source, name, column.type, "strings")
    if kind != column.type or not plain:
        column = column.cast(kind if plain else pa.string())
    if column.null_count:
        refuse_rows(source, name, column.is_null().to_numpy(), "null", "every row needs a value")
    return column


def matrix(
    column: pa.ChunkedArray,
    source: str,
    name: str,
    width: int | None = None,
    missing: bool = False,
) -> Float32[np.ndarray, "N W"]:
    """Return a column of lists of W finite numbers as float32, without a copy where possible.

    With `missing`, a value may be null or NaN, and is NaN.
    """
    values, is_null, width = _flat(column, source, name, width)
    refuse_rows(source, name, is_null, "null", "every row needs a list")
    if any(chunk.null_count for chunk in values) and not missing:
        nulls = np.concatenate([np.asarray(chunk.is_null()) for chunk in values])
        by_row = nulls.reshape(-1, width)
        refuse_rows(source, name, np.any(by_row, axis=1), "null", "every model needs a number")
    array = _joined([chunk.cast(pa.float32(), safe=False) for chunk in values], width)
    wrong = np.isinf(array) if missing else ~np.isfinite(array)
    if wrong.any():
        problem = f"{array.flat[np.argmax(wrong)]} as a 32-bit number"
        fix = "every value must be finite" + (", or NaN where it is missing" if missing else "")
        refuse_rows(source, name, np.any(wrong, axis=1), problem, fix)
    return array


def answers(
    column: pa.ChunkedArray, source: str, name: str, width: int
) -> Int32[np.ndarray, "N K"]:
    """Return a column of lists of K whole numbers as int32; a null is -1, no answer."""
    values, is_null, _ = _flat(column, source, name, width)
    if not pa.types.is_integer(column.type.value_type):
        raise _wrong_type(source, name, column.type, "a list of K whole numbers")
    whole = [chunk.cast(pa.int32()) for chunk in values]
    # Filling copies, even where there is no null.
    array = _joined([c.fill_null(-1) if c.null_count else c for c in whole], width)
    return np.where(is_null[:, None], np.int32(-1), array) if is_null.any() else array


def _flat(
    column: pa.ChunkedArray, source: str, name: str, width: int | None
) -> tuple[list[pa.Array], Bool[np.ndarray, " N"], int]:
    """Return the values of lists of equal length by chunk, which lists are null, and the length."""
    kind = column.type
    fixed = pa.types.is_fixed_size_list(kind)
    if not (fixed or pa.types.is_list(kind) or pa.types.is_large_list(kind)) or not (
        pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)
    ):
        raise _wrong_type(source, name, kind, "one list of numbers per row")
    if fixed:
        if not kind.list_size:
            raise CascjaxError(f"{source}: column {name!r} has empty lists; leave the column out")
        if width is not None and kind.list_size != width:
            raise CascjaxError(
                f"{source}: column {name!r} has {counted(kind.list_size, 'value')} per row where"
                f" {width} are expected; make every column and the model names agree"
            )
    else:
        lengths = pc.call_function("list_value_length", [column]).to_numpy()  # NaN where null
        known = lengths[~np.isnan(lengths)]
        expected = width if width is not None else int(known[0]) if len(known) else 0
        bad = ~np.isnan(lengths) & ((lengths != expected) | (lengths == 0))
        if bad.any():
            length = counted(int(lengths[np.argmax(bad)]), "value")
            problem = f"{length} where {expected} are expected"
            refuse_rows(source, name, bad, problem, "every row needs one value per model")
        column = column.cast(pa.list_(kind.value_type, expected))
    is_null = column.is_null().to_numpy() if column.null_count else np.zeros(len(column), bool)
    size, chunks = column.type.list_size, column.chunks or [pa.array([], column.type)]
    # Not flatten(), which leaves null lists out.
    return [c.values.slice(c.offset * size, len(c) * size) for c in chunks], is_null, size


def _joined(chunks: list[pa.Array], width: int) -> np.ndarray:
    """Return the values of chunks as `[N, W]`: one chunk without a copy, several writable."""
    parts = [chunk.to_numpy(zero_copy_only=False) for chunk in chunks]
    return (parts[0] if len(parts) == 1 else np.concatenate(parts)).reshape(-1, width)


def split_codes(column: pa.ChunkedArray, source: str, name: str) -> Int8[np.ndarray, " N"]:
    """Return a column of "fit" and "evaluate" as `FIT` and `EVALUATE`."""
    codes, names = encode(strings(column, source, name))
    known = np.array([SPLITS.index(word) if word in SPLITS else -1 for word in names], np.int8)
    split = known[codes]
    if (split < 0).any():
        value = names[codes[np.argmax(split < 0)]]
        refuse_rows(source, name, split < 0, f"{value!r}", "must be 'fit' or 'evaluate'")
    return split


def group_codes(
    column: pa.ChunkedArray, source: str, name: str
) -> tuple[Int32[np.ndarray, " N"], tuple[str, ...]]:
    """Return a column of strings as codes and names; a dictionary keeps its order of names."""
    plain = strings(column, source, name)
    if pa.types.is_dictionary(column.type):
        codes, names = encode(column)
        if all(isinstance(name, str) for name in names) and len(set(names)) == len(names):
            return codes, names
    return encode(plain)


def encode(column: pa.ChunkedArray) -> tuple[Int32[np.ndarray, " N"], tuple[str, ...]]:
    """Return strings as codes and distinct names, in order of first appearance."""
    encoded: Any = column.dictionary_encode().unify_dictionaries()
    encoded = encoded.chunk(0) if encoded.num_chunks == 1 else encoded.combine_chunks()
    codes = encoded.indices.to_numpy(zero_copy_only=False)
    return codes.astype(np.int32, copy=False), tuple(encoded.dictionary.to_pylist())


def repeats(
    keys: Int[np.ndarray, " N"], usable: Bool[np.ndarray, " N"] | None = None
) -> Bool[np.ndarray, " N"]:
    """Return a mask of the usable rows whose key is that of an earlier usable row."""
    rows = np.arange(len(keys)) if usable is None else np.flatnonzero(usable)
    _, first = np.unique(keys[rows], return_index=True)
    repeated = np.zeros(len(keys), bool)
    repeated[np.delete(rows, first)] = True
    return repeated


def check_unique(column: pa.ChunkedArray, source: str, name: str) -> None:
    """Refuse ids that appear more than once, naming the first."""
    if _are_row_numbers(column):
        return
    if pc.call_function("count_distinct", [column]).as_py() < len(column):
        codes, names = encode(column)
        repeated = repeats(codes)
        value = names[codes[np.argmax(repeated)]]
        refuse_rows(source, name, repeated, f"{value!r} repeats an id", "ids must be unique")


def check_not_negative(
    values: Float[np.ndarray, "N W"], source: str, name: str, models: Sequence[str]
) -> None:
    """Refuse values below 0, naming the model."""
    if (negative := values < 0).any():
        row, model = divmod(int(np.argmax(negative)), negative.shape[1])
        problem = f"{values[row, model]:g} for model {models[model]!r} is negative"
        refuse_rows(source, name, np.any(negative, axis=1), problem, "it must be at least 0")


def check_magnitude(values: Float[np.ndarray, "N W"], source: str, name: str, limit: float) -> None:
    """Refuse finite values whose magnitude is not below the limit, naming the first."""
    # Two passes without an array of magnitudes: tables are large, and hardly any is refused.
    if np.fmax.reduce(values, axis=None, initial=0) >= limit or (
        np.fmin.reduce(values, axis=None, initial=0) <= -limit
    ):
        large = np.isfinite(values) & (np.abs(values) >= limit)
        problem = f"{values.flat[np.argmax(large)]:g} is too large"
        fix = f"its magnitude must be below {limit:g}: check the unit"
        refuse_rows(source, name, np.any(large, axis=1), problem, fix)


def _are_row_numbers(column: pa.ChunkedArray) -> bool:
    """Return whether the ids are those that `to_arrow` gives a table without ids.

    This takes a tenth of the time of counting distinct strings, and no memory.
    """
    start = 0
    for chunk in column.chunks:
        if not chunk.equals(_row_numbers(start, len(chunk)).cast(chunk.type)):
            return False
        start += len(chunk)
    return True


def _row_numbers(start: int, count: int) -> pa.Array:
    return pa.array(np.arange(start, start + count)).cast(pa.string())
