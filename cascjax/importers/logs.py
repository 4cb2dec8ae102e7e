"""Log files of any format as Arrow columns of text, numbers and lists of numbers."""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc as ipc
import pyarrow.parquet as pq
from jaxtyping import Float, Int

from cascjax.data.files import sniff, whole
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
from cascjax.importers.text import read_text
from cascjax.importers.values import parse_numbers

ColumnKind = Literal["text", "quality", "cost", "number", "numbers"]
Choose = Callable[[Sequence[str]], Mapping[str, ColumnKind]]
"""Selects from a file's column names those to read, or raises CascjaxError."""

_TYPES = {"text": pa.large_string(), "numbers": pa.list_(pa.float64())}
_WORDS = {"text": "text", "numbers": "lists of numbers"}
_LIMITS = {"quality": MAX_QUALITY, "cost": MAX_COST}
_SHOWN = 40


@dataclass(frozen=True)
class Log:
    """Columns of a log, each of the type of its kind.

    Attributes:
      columns: Text, float64 numbers or lists of numbers. Missing values are null; a number may
        also be NaN or infinite.
      rows: Number of each row in the file.
      notes: What was converted on reading, one line each.
    """

    columns: pa.Table
    rows: Int[np.ndarray, " R"]
    notes: tuple[str, ...] = ()


def read_log(
    path: str | os.PathLike[str],
    choose: Choose,
    where: Mapping[str, Sequence[str]] | None = None,
) -> Log:
    """Read chosen columns of a Parquet, Arrow, CSV, JSON or pickle file.

    In text, a list is "[-0.1, -2.5]", and numbers are read by `cascjax.importers.values`. With
    `where`, only rows are read whose columns, which are text, have one of the given values.
    """
    source, kind = os.fspath(path), sniff(path)
    if kind == "empty":
        raise CascjaxError(f"cannot read {source}: it is empty")
    notes: list[str] = []
    delimiter = ""
    with one_line(f"cannot read {source}"):
        if kind == "parquet":
            with whole(source):
                opened = pq.ParquetFile(source, memory_map=True)
            with opened as file:
                kinds = choose(file.schema_arrow.names)
                arrow = file.read(columns=list(kinds))
        elif kind == "ipc":
            with whole(source):
                opened = ipc.open_file(pa.memory_map(source))
            arrow = opened.read_all()
            kinds = choose(arrow.column_names)
        elif kind == "pickle":
            arrow, kinds = _read_pickle(source, choose)
        else:
            texts, delimiter, notes = read_text(source, choose)
            arrow, kinds = pa.table(texts), choose(list(texts))
        places = {name: find_column(arrow.schema, name, source) for name in kinds}
        arrow = pa.table({name: arrow.column(place) for name, place in places.items()})
        if not arrow.num_rows:
            raise CascjaxError(f"{source}: no query is complete: the file has no rows; add rows")
        rows = np.arange(arrow.num_rows)
        for name, values in (where or {}).items():
            texts = _convert(arrow[name], "text", source, name)
            present = [str(value) for value in encode(texts)[1]]
            for value in values:
                if value not in present:
                    unknown = unknown_name("value", value, present)
                    raise CascjaxError(f"{source}: column {name!r}: {unknown}")
            keep = pc.call_function("is_in", [texts], pc.SetLookupOptions(pa.array(values)))
            arrow, rows = arrow.filter(keep), rows[keep.to_numpy()]
        columns = {}
        with rows_of_file(rows):
            for name, kind in kinds.items():
                column = _convert(arrow[name], kind, source, name)
                if kind not in ("text", "numbers") and column.type == pa.large_string():
                    column, more = parse_numbers(column, kind, source, name, delimiter == ";")
                    notes += more
                columns[name] = column
                if kind in _LIMITS:
                    values = column.fill_null(0.0).to_numpy()
                    check_magnitude(values[:, None], source, name, _LIMITS[kind])
    return Log(pa.table(columns), rows, tuple(notes))


@contextmanager
def rows_of_file(rows: Int[np.ndarray, " R"]) -> Iterator[None]:
    """Give errors the row of the file, of which only `rows` are kept."""
    try:
        yield
    except BadRowsError as error:
        raise error.shifted(int(rows[error.row]) - error.row) from None


def _read_pickle(source: str, choose: Choose) -> tuple[pa.Table, Mapping[str, ColumnKind]]:
    frame = read_pickled_columns(source)
    kinds = choose(list(frame))
    columns = {}
    for name, kind in kinds.items():
        values: Any = frame[name]
        if values.dtype == object:
            # NaN differs from itself. Text that holds numbers is parsed as in CSV.
            plain = [None if value is None or value != value else value for value in values]
            is_text = kind == "text" or any(isinstance(value, str) for value in plain)
            values = [v if v is None or not is_text else str(v) for v in plain]
        try:
            columns[name] = pa.array(values, from_pandas=True)
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise CascjaxError(
                f"{source}: column {name!r} must hold {_WORDS.get(kind, 'numbers')};"
                f" {str(error).splitlines()[0]}"
            ) from error
    return pa.table(columns), kinds


def _convert(column: pa.ChunkedArray, kind: ColumnKind, source: str, name: str) -> pa.ChunkedArray:
    """Return the column in the type of its kind, or numbers as text; refuse other types."""
    stored = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    number = pa.types.is_floating(stored) or pa.types.is_integer(stored)
    string = pa.types.is_string(stored) or pa.types.is_large_string(stored)
    boolean = pa.types.is_boolean(stored)
    fits = {
        "text": string or number or boolean or pa.types.is_string_view(stored),
        "numbers": string or _is_list(stored),
    }
    is_number = number or boolean or string or pa.types.is_decimal(stored)
    if not (fits.get(kind, is_number) or pa.types.is_null(stored)):
        raise CascjaxError(
            f"{source}: column {name!r} must hold {_WORDS.get(kind, 'numbers')}, not"
            f" {column.type}; convert it or name another column"
        )
    column.validate(full=True)
    if kind == "numbers" and string:
        return _parse_lists(column.cast(pa.large_string()), source, name)
    if string and kind != "text":
        return column.cast(pa.large_string())
    wanted = _TYPES.get(kind, pa.float64())
    if column.type == wanted:
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
