"""Log files of any format as Arrow columns of text, numbers and lists of numbers."""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq
from jaxtyping import Float, Int, Int32

from cascjax.data.files import find_files, sniff, whole
from cascjax.data.schema import (
    MAX_COST,
    MAX_QUALITY,
    BadRowsError,
    check_magnitude,
    encode,
    find_column,
    refuse_rows,
)
from cascjax.errors import CascjaxError, one_line, unknown_name
from cascjax.importers.pickles import read_pickled_columns
from cascjax.importers.text import ANY, Choose, Json, one_type, read_text
from cascjax.importers.values import parse_numbers

ColumnKind = Literal["text", "quality", "cost", "number", "numbers", "time"]
Data: TypeAlias = Any
"""A path, a folder, a pattern, a list of them; or a table of pandas, polars or Arrow."""
MODEL = "{model}"
"""Column of the model that the path of a file, or the key of a map, names."""
ROW = "{row}"
"""Column of the number of the row."""
THE_TABLE = "the table"

_TYPES = {
    "text": pa.large_string(),
    "numbers": pa.list_(pa.float64()),
    "time": pa.timestamp("us"),
}
_WORDS = {"text": "text", "numbers": "lists of numbers", "time": "times"}
_LIMITS = {"quality": MAX_QUALITY, "cost": MAX_COST}
_TEXTS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
_NUMERIC = ("quality", "cost", "number")
_SHOWN = 40


@dataclass(frozen=True)
class Log:
    """Columns of a log, each of the type of its kind.

    Attributes:
      columns: Text, float64 numbers or lists of numbers. Missing values are null; a number may
        also be NaN or infinite. Text may be dictionary encoded.
      rows: Number of each row in its file.
      notes: What was converted on reading, one line each.
      files: First row of each file, and the name of the file; empty for a single one.
    """

    columns: pa.Table
    rows: Int[np.ndarray, " R"]
    notes: tuple[str, ...] = ()
    files: tuple[tuple[int, str], ...] = ()

    @contextmanager
    def naming(self) -> Iterator[None]:
        """Give errors the file, and the row of the file, of which only `rows` are kept."""
        try:
            yield
        except BadRowsError as error:
            file = next((name for first, name in self.files[::-1] if first <= error.row), None)
            raise error.moved(int(self.rows[error.row]), file) from None


@dataclass(frozen=True)
class Part:
    """Columns of one file.

    Attributes:
      source: Name of the file.
      columns: Its columns.
      kinds: Kinds of the columns that are used.
      decimal_comma: Whether a comma may be a decimal point.
      notes: What was converted on reading, one line each.
    """

    source: str
    columns: pa.Table
    kinds: Mapping[str, str]
    decimal_comma: bool = False
    notes: Sequence[str] = ()


def read_log(
    data: Data,
    choose: Choose,
    where: Mapping[str, Sequence[str]] | None = None,
    layout: Json = ANY,
    model_from_path: str | None = None,
) -> Log:
    """Read chosen columns of Parquet, Arrow, CSV, JSON or pickle files, or of a table in memory.

    In text, a list is "[-0.1, -2.5]", and numbers are read by `cascjax.importers.values`. With
    `where`, only rows are read whose columns, which are text, have one of the given values. The
    column `MODEL`, if chosen, is what the first group of `model_from_path` matches in the path. Of
    folders, files are read whose names match a pattern of the layout.
    """
    if not isinstance(data, str | os.PathLike) and not is_paths(data):
        return converted([_read_memory(data, choose)], where or {})
    parts = []
    for path in find_logs(data, layout.names):
        with one_line(f"cannot read {path}"):
            os.stat(path)  # before its name is judged
        constant = {} if model_from_path is None else {MODEL: _model(model_from_path, path)}

        def with_constants(names: Sequence[str], constant: Any = constant) -> Mapping[str, str]:
            kinds = choose([*names, *constant])
            return {name: kind for name, kind in kinds.items() if name not in constant}

        with one_line(f"cannot read {path}"):
            part = _read_file(path, with_constants, layout)
        for name, value in constant.items():
            codes = pa.array(np.zeros(part.columns.num_rows, np.int32))
            column = pa.DictionaryArray.from_arrays(codes, pa.array([value], pa.large_string()))
            columns = part.columns.append_column(name, column)
            part = replace(part, columns=columns, kinds={**part.kinds, name: "text"})
        parts.append(part)
    return converted(parts, where or {})


def _read_file(path: str, choose: Choose, layout: Json) -> Part:
    """Return chosen columns of a file."""
    kind = sniff(path)
    if kind == "empty":
        raise CascjaxError(f"cannot read {path}: it is empty")
    if kind == "other":
        chosen: dict[str, str] = {}

        def remember(names: Sequence[str]) -> Mapping[str, str]:
            chosen.clear()
            chosen.update(choose(names))
            return chosen

        texts, delimiter, notes = read_text(path, remember, layout)
        return Part(path, pa.table(texts), chosen, delimiter == ";", notes)
    if layout.only:
        raise CascjaxError(f"cannot read {path}: it is not JSON")
    if kind == "parquet":
        with whole(path):
            opened = pq.ParquetFile(path, memory_map=True)
        with opened as file:
            kinds = choose(_flat(file.schema_arrow.empty_table()).column_names)
            arrow = _flat(file.read(columns=list(kinds)))
    elif kind == "ipc":
        with whole(path):
            opened = ipc.open_file(pa.memory_map(path))
        arrow = _flat(opened.read_all())
        kinds = choose(arrow.column_names)
    else:
        frame = read_pickled_columns(path)
        kinds = choose(list(frame))
        arrow = pa.table({n: _object_column(frame[n], n, k, path) for n, k in kinds.items()})
    return Part(path, arrow, kinds)


def _flat(table: pa.Table) -> pa.Table:
    """Return a table whose nested fields are columns with dotted names, such as "usage.cost"."""
    while any(pa.types.is_struct(kind) for kind in table.schema.types):
        table = table.flatten()
    return table


def _read_memory(data: Any, choose: Choose) -> Part:
    """Return chosen columns of a data frame of pandas or polars, or of a table of Arrow."""
    if hasattr(data, "dtypes") and hasattr(data, "to_numpy") and hasattr(data, "iloc"):  # pandas
        kinds = choose(list(map(str, data.columns)))
        columns = {str(name): position for position, name in enumerate(data.columns)}
        arrow = pa.table(
            {
                name: _object_column(data.iloc[:, columns[name]], name, kind, THE_TABLE)
                for name, kind in kinds.items()
            }
        )
        return Part(THE_TABLE, arrow, kinds)
    if not hasattr(data, "__arrow_c_stream__"):
        raise CascjaxError(
            f"cannot import a {type(data).__name__}; give a path, several paths, or a table of"
            " pandas, polars or Arrow"
        )
    arrow = _flat(data if isinstance(data, pa.Table) else pa.table(data))
    return Part(THE_TABLE, arrow, choose(arrow.column_names))


def name_of(data: Data) -> str:
    """Return the name of a log in messages."""
    if is_paths(data) and not isinstance(data, str):
        return os.fspath(data[0]) if len(data) == 1 else f"{data[0]} and {len(data) - 1} more"
    return os.fspath(data) if isinstance(data, str | os.PathLike) else THE_TABLE


def is_paths(data: Any) -> bool:
    """Return whether data is a list of paths."""
    return isinstance(data, Sequence) and all(isinstance(p, str | os.PathLike) for p in data)


def find_logs(data: Any, names: Sequence[str] = ("*",)) -> list[str]:
    """Return the files of a path, a folder (with the folders in it), a pattern, or a list of them.

    Of folders, only files whose names match one of the patterns `names` are taken.
    """
    several = [data] if isinstance(data, str | os.PathLike) else data
    paths = [path for each in several for path in find_files(os.fspath(each), names, deep=True)]
    if not paths:
        raise CascjaxError("there is no file to read: name at least one")
    return paths


def _model(pattern: str, path: str) -> str:
    """Return the model that a path names."""
    try:
        match = re.search(pattern, path)
    except re.error as error:
        raise CascjaxError(
            f"model_from_path: {pattern!r} is no regular expression: {error}"
        ) from None
    if match is None or not match.groups() or not match[1]:
        problem = (
            "has no group in parentheses" if match and not match.groups() else "does not match"
        )
        raise CascjaxError(
            f"{path}: model_from_path {pattern!r} {problem}; put parentheses around the model, as"
            " in '([^/]+)/[^/]+$'"
        )
    return match[1]


def converted(parts: Sequence[Part], where: Mapping[str, Sequence[str]]) -> Log:
    """Return the columns of files, one after the other, in the types of their kinds."""
    chunks: dict[str, list[pa.Array]] = {}
    notes, files, rows, n_rows = list[str](), list[tuple[int, str]](), list[np.ndarray](), 0
    known = {name: dict[str, None]() for name in where}
    kinds: dict[str, Any] = {name: kind for part in parts for name, kind in part.kinds.items()}
    for part in parts:
        source, arrow = part.source, part.columns
        places = {name: find_column(arrow.schema, name, source) for name in part.kinds}
        absent = pa.chunked_array([pa.nulls(arrow.num_rows)])
        arrow = pa.table({n: arrow.column(places[n]) if n in places else absent for n in kinds})
        notes += part.notes
        keep = np.ones(arrow.num_rows, bool)
        for name, values in where.items():
            codes, present = distinct_codes(
                _convert(arrow[name], "text", source, name).fill_null("")
            )
            known[name] |= dict.fromkeys(present)
            keep &= np.isin(codes, [present.index(value) for value in values if value in present])
        if not keep.all():
            arrow = arrow.filter(pa.array(keep))
        kept = np.flatnonzero(keep)
        with Log(arrow, kept).naming(), one_line(f"cannot read {source}"):
            for name, kind in kinds.items():
                column = _convert(arrow[name], kind, source, name)
                if kind in _NUMERIC and column.type == pa.large_string():
                    quantity: Any = kind
                    column, more = parse_numbers(column, quantity, source, name, part.decimal_comma)
                    notes += more
                chunks.setdefault(name, []).extend(column.chunks)
                if kind in _LIMITS:
                    values = column.fill_null(0.0).to_numpy()
                    check_magnitude(values[:, None], source, name, _LIMITS[kind])
        files.append((n_rows, source))
        rows.append(kept)
        n_rows += len(kept)
    first = files[0][1]
    if not any(part.columns.num_rows for part in parts):
        raise CascjaxError(f"{first}: no query is complete: the file has no rows; add rows")
    for name, values in where.items():
        for value in values:
            if value not in known[name]:
                unknown = unknown_name("value", value, known[name])
                raise CascjaxError(f"{first}: column {name!r}: {unknown}")
    if not n_rows:
        raise CascjaxError(f"{first}: no row has these values of where: {where}; name others")
    columns = pa.table({name: one_type(column) for name, column in chunks.items()})
    many = tuple(files) if len(files) > 1 else ()
    return Log(columns, np.concatenate(rows), tuple(dict.fromkeys(notes)), many)


def distinct_codes(column: pa.ChunkedArray) -> tuple[Int32[np.ndarray, " R"], list[str]]:
    """Return texts as codes and distinct texts, in order of first appearance."""
    codes, names = encode(column)
    present, first = np.unique(codes, return_index=True)
    order = np.argsort(first, kind="stable")
    numbers = np.zeros(max(len(names), 1), np.int32)
    numbers[present[order]] = np.arange(len(present))
    return numbers[codes], [names[code] for code in present[order]]


def _object_column(values: Any, name: str, kind: str, source: str) -> pa.ChunkedArray:
    """Return a column of pandas or NumPy; text that holds numbers is parsed as in CSV."""
    try:
        if values.dtype == object:
            # NaN differs from itself.
            plain = [None if _is_missing(value) else value for value in values]
            is_text = kind == "text" or any(isinstance(value, str) for value in plain)
            values = [v if v is None or not is_text else str(v) for v in plain]
        column = pa.array(values, from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise CascjaxError(
            f"{source}: column {name!r} must hold {_WORDS.get(kind, 'numbers')};"
            f" {str(error).splitlines()[0]}"
        ) from error
    return column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])


def _is_missing(value: Any) -> bool:
    if isinstance(value, float | np.floating):
        return value != value
    return value is None or type(value).__name__ in ("NAType", "NaTType")


def _convert(column: pa.ChunkedArray, kind: ColumnKind, source: str, name: str) -> pa.ChunkedArray:
    """Return the column in the type of its kind, or numbers as text; refuse other types."""
    stored = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    number = pa.types.is_floating(stored) or pa.types.is_integer(stored)
    string = any(is_text(stored) for is_text in _TEXTS)
    boolean = pa.types.is_boolean(stored)
    decimal = pa.types.is_decimal(stored)
    if kind == "number" and (_is_list(stored) or (string and _holds_lists(column))):
        kind = "numbers"
    fits = {
        "text": string or number or boolean,
        "numbers": string or _is_list(stored),
        "time": string or number or pa.types.is_timestamp(stored) or pa.types.is_date(stored),
    }
    is_number = number or boolean or string or decimal
    if not (fits.get(kind, is_number) or pa.types.is_null(stored)):
        raise CascjaxError(
            f"{source}: column {name!r} must hold {_WORDS.get(kind, 'numbers')}, not"
            f" {column.type}; convert it or name another column"
        )
    column.validate(full=True)
    if kind == "time":
        return _parse_times(column, source, name)
    if kind == "numbers" and string:
        return _parse_lists(column.cast(pa.large_string()), source, name)
    if string and kind != "text":
        return column.cast(pa.large_string())
    wanted = _TYPES.get(kind, pa.float64())
    if column.type == wanted or (kind == "text" and stored == wanted):
        return column
    if boolean and kind != "text":
        column = column.cast(pa.int8())
    return column.cast(wanted, safe=False)


def _is_list(kind: pa.DataType) -> bool:
    """Return whether a type is lists of numbers."""
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    if not any(is_list(kind) for is_list in lists):
        return False
    value: pa.DataType = kind.value_type  # pyright: ignore[reportAttributeAccessIssue]
    return pa.types.is_floating(value) or pa.types.is_integer(value) or pa.types.is_null(value)


def _holds_lists(column: pa.ChunkedArray) -> bool:
    """Return whether the first text of a column is a list."""
    first = next((text for text in column.drop_null()[:1].to_pylist()), "")
    return first.lstrip().startswith("[")


def _parse_times(column: pa.ChunkedArray, source: str, name: str) -> pa.ChunkedArray:
    """Return times, UTC: ISO 8601, or seconds since 1970."""
    import pandas as pd  # takes long to import

    values: Any = column.to_pandas()
    numeric: Any = pd.to_numeric(values, errors="coerce") if values.dtype.kind != "M" else values
    seconds = numeric.notna().sum() == values.notna().sum() and values.dtype.kind != "M"
    unit: dict[str, Any] = {"unit": "s"} if seconds else {"format": "ISO8601"}
    times: Any = pd.to_datetime(numeric if seconds else values, utc=True, errors="coerce", **unit)
    wrong = (times.isna() & values.notna()).to_numpy()
    if wrong.any():
        fix = "give times such as 2025-02-08T16:30:00Z, or seconds since 1970"
        refuse_rows(source, name, wrong, f"{values[wrong.argmax()]!r} is not a time", fix)
    return pa.chunked_array([pa.array(times.dt.tz_localize(None), pa.timestamp("us"))])


def _parse_lists(column: pa.ChunkedArray, source: str, name: str) -> pa.ChunkedArray:
    """Return the lists of numbers that a column of text holds; empty text is null."""
    lists: list[list[float] | None] = []
    for row, text in enumerate(column.to_pylist()):
        if text is None or not text.strip():
            lists.append(None)
            continue
        try:  # NaN and Infinity pass here, and are refused with their row later
            values = json.loads(text)
            if not isinstance(values, list):
                raise ValueError
            lists.append([float(value) for value in values])
        except (ValueError, TypeError, RecursionError):
            start = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
            raise CascjaxError(
                f"{source}: column {name!r}, row {row}: {start!r} is not a list of numbers such as"
                " [-0.1, -2.5]"
            ) from None
    return pa.chunked_array([pa.array(lists, pa.list_(pa.float64()))])


def numbers(log: pa.Table, name: str) -> Float[np.ndarray, " R"]:
    """Return a column of numbers as float64, NaN where a value is missing."""
    return log[name].fill_null(float("nan")).to_numpy()


def optional_numbers(log: pa.Table, name: str, source: str) -> Float[np.ndarray, " R"]:
    """Return a column of numbers that may be missing, but not infinite."""
    values = numbers(log, name)
    refuse_rows(source, name, np.isinf(values), "infinite", "leave it empty or correct it")
    return values


def texts(column: pa.ChunkedArray) -> list[str]:
    """Return the strings of a column, "" where a value is missing."""
    return column.fill_null("").to_pylist()
