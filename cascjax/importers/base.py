"""Log files of any format as Arrow columns of text and numbers."""

import csv
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.ipc as ipc
import pyarrow.parquet as pq

from cascjax.data.checks import find_column
from cascjax.data.files import one_line, sniff, whole
from cascjax.errors import CascjaxError
from cascjax.features.lists import parsed

ColumnKind = Literal["text", "number", "numbers"]
Choose = Callable[[Sequence[str]], Mapping[str, ColumnKind]]
"""Picks from a file's column names those to read, or raises CascjaxError."""

_TYPES = {
    "text": pa.large_string(),
    "number": pa.float64(),
    "numbers": pa.list_(pa.float64()),
}
_CSV_BLOCK = 1 << 26  # bytes; no row may be longer, and answers of models are long


def read_log(path: str | os.PathLike[str], choose: Choose) -> pa.Table:
    """Read the chosen columns of a parquet, Arrow, CSV or pickle file: text, float64, or lists.

    In CSV a list is written as in "[-0.1, -2.5]". Missing values are null; a number may also be NaN
    or infinite.

    Raises:
        CascjaxError: the file cannot be read, lacks a column, or a column is of another type.
    """
    source, kind = os.fspath(path), sniff(path)
    if kind == "empty":
        raise CascjaxError(f"cannot read {source}: it is empty")
    with one_line(f"cannot read {source}"):
        if kind == "parquet":
            with whole(source):
                opened = pq.ParquetFile(source, memory_map=True)
            with opened as file:
                names = choose(file.schema_arrow.names)
                arrow = file.read(columns=list(names))
        elif kind == "ipc":
            with whole(source):
                opened = ipc.open_file(pa.memory_map(source))
            arrow = opened.read_all()
            names = choose(arrow.column_names)
        elif kind == "pickle":
            arrow, names = _read_pickle(source, choose)
        else:
            arrow, names = _read_csv(source, choose)
        columns = {
            name: _convert(
                arrow.column(find_column(arrow.schema, name, source)), names[name], source, name
            )
            for name in names
        }
        return pa.table(columns)


def _read_csv(source: str, choose: Choose) -> tuple[pa.Table, Mapping[str, ColumnKind]]:
    with open(source, newline="", encoding="utf-8-sig") as file:
        try:
            header = next(csv.reader(file))
        except (csv.Error, StopIteration):
            raise CascjaxError(f"cannot read {source}: its first line names no columns") from None
    names = choose(header)
    for name in names:
        if header.count(name) > 1:
            raise CascjaxError(f"{source}: column {name!r} stands {header.count(name)} times")
    arrow = pacsv.read_csv(
        source,
        read_options=pacsv.ReadOptions(block_size=_CSV_BLOCK),
        parse_options=pacsv.ParseOptions(newlines_in_values=True),
        # Types are given, not guessed: pyarrow guesses from the first block alone. Null is an
        # empty field without quotes, as pandas writes it; "NA" and "null" are answers.
        convert_options=pacsv.ConvertOptions(
            column_types={
                name: _TYPES["text" if kind == "numbers" else kind] for name, kind in names.items()
            },
            include_columns=list(names),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )
    return arrow, names


def _read_pickle(source: str, choose: Choose) -> tuple[pa.Table, Mapping[str, ColumnKind]]:
    from cascjax.importers.pickles import read_pickle_frame  # pandas takes long to import

    frame = read_pickle_frame(source)
    names = choose([str(name) for name in frame.columns])
    columns = {}
    for name, kind in names.items():
        series: Any = frame[name]
        if series.ndim != 1:
            raise CascjaxError(f"{source}: column {name!r} stands {series.shape[1]} times")
        if kind == "text" and series.dtype == object:
            series = series.map(str, na_action="ignore")
        try:
            if kind == "numbers" and any(isinstance(of, str) for of in series):
                columns[name] = pa.array(series.to_numpy(), pa.large_string(), from_pandas=True)
                continue
            columns[name] = pa.array(series.to_numpy(), _TYPES[kind], from_pandas=True)
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise CascjaxError(
                f"{source}: column {name!r} must hold {kind}s; {str(error).splitlines()[0]}"
            ) from error
    return pa.table(columns), names


def _convert(column: pa.ChunkedArray, kind: ColumnKind, source: str, name: str) -> pa.ChunkedArray:
    """The column as large_string or float64, refusing what has no plain meaning as such."""
    found = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    number = pa.types.is_floating(found) or pa.types.is_integer(found)
    string = pa.types.is_string(found) or pa.types.is_large_string(found)
    fits = {
        "number": number or pa.types.is_boolean(found) or pa.types.is_decimal(found),
        "text": string or number or pa.types.is_string_view(found),
        "numbers": string or _is_list(found),
    }
    if not (fits[kind] or pa.types.is_null(found)):
        raise CascjaxError(
            f"{source}: column {name!r} must hold {_WORDS[kind]}, not {column.type}; convert it or"
            " name another column"
        )
    column.validate(full=True)
    if kind == "numbers" and not _is_list(found) and not pa.types.is_null(found):
        return parsed(column.cast(pa.large_string()), source, name)
    if column.type == _TYPES[kind]:
        return column
    if pa.types.is_boolean(found):
        column = column.cast(pa.int8())
    return column.cast(_TYPES[kind], safe=False)


_WORDS = {"text": "text", "number": "number", "numbers": "lists of numbers"}


def _is_list(kind: pa.DataType) -> bool:
    """Whether it is one of numbers."""
    listed = (
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )
    if not listed:
        return False
    of: pa.DataType = kind.value_type  # pyright: ignore[reportAttributeAccessIssue]
    return pa.types.is_floating(of) or pa.types.is_integer(of) or pa.types.is_null(of)


def numbers(column: pa.ChunkedArray) -> np.ndarray:
    """A column of float64 as `[N]` values, NaN where there is none."""
    return column.fill_null(float("nan")).to_numpy()


def strings(column: pa.ChunkedArray, rows: np.ndarray) -> list[str]:
    """The values of a few rows, for a message."""
    return [str(value) for value in column.take(pa.array(rows)).to_pylist()]
