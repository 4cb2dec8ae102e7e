"""Log files of any format as Arrow columns of text, numbers and lists of numbers."""

import csv
import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.ipc as ipc
import pyarrow.parquet as pq
from jaxtyping import Float

from cascjax.data.files import sniff, whole
from cascjax.data.schema import find_column, refuse_rows
from cascjax.errors import CascjaxError, one_line
from cascjax.importers.pickles import read_pickled_columns

ColumnKind = Literal["text", "number", "numbers"]
Choose = Callable[[Sequence[str]], Mapping[str, ColumnKind]]
"""Selects from a file's column names those to read, or raises CascjaxError."""

_TYPES = {"text": pa.large_string(), "number": pa.float64(), "numbers": pa.list_(pa.float64())}
_WORDS = {"text": "text", "number": "numbers", "numbers": "lists of numbers"}
_CSV_BLOCK = 1 << 26  # bytes; no row may be longer, and answers of models are long
_SHOWN = 40


def read_log(path: str | os.PathLike[str], choose: Choose) -> pa.Table:
    """Read chosen columns of a Parquet, Arrow, CSV or pickle file as text, float64, or lists.

    In CSV, a list is text such as "[-0.1, -2.5]". Missing values are null; a number may also be
    NaN or infinite.
    """
    source, kind = os.fspath(path), sniff(path)
    if kind == "empty":
        raise CascjaxError(f"cannot read {source}: it is empty")
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
        else:
            arrow, kinds = (_read_pickle if kind == "pickle" else _read_csv)(source, choose)
        places = {name: find_column(arrow.schema, name, source) for name in kinds}
        return pa.table(
            {
                name: _convert(arrow.column(places[name]), kinds[name], source, name)
                for name in kinds
            }
        )


def _read_csv(source: str, choose: Choose) -> tuple[pa.Table, Mapping[str, ColumnKind]]:
    with open(source, newline="", encoding="utf-8-sig") as file:
        try:
            header = next(csv.reader(file))
        except (csv.Error, StopIteration):
            raise CascjaxError(f"cannot read {source}: its first line names no columns") from None
    kinds = choose(header)
    for name in kinds:
        if header.count(name) > 1:
            raise CascjaxError(f"{source}: column {name!r} is listed {header.count(name)} times")
    arrow = pacsv.read_csv(
        source,
        read_options=pacsv.ReadOptions(block_size=_CSV_BLOCK),
        parse_options=pacsv.ParseOptions(newlines_in_values=True),
        # Types are given, because pyarrow infers them from the first block alone. Null is an empty
        # field without quotes, as pandas writes it; "NA" and "null" are answers.
        convert_options=pacsv.ConvertOptions(
            column_types={
                name: _TYPES["text" if kind == "numbers" else kind] for name, kind in kinds.items()
            },
            include_columns=list(kinds),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )
    return arrow, kinds


def _read_pickle(source: str, choose: Choose) -> tuple[pa.Table, Mapping[str, ColumnKind]]:
    frame = read_pickled_columns(source)
    kinds = choose(list(frame))
    columns = {}
    for name, kind in kinds.items():
        values: Any = frame[name]
        if kind == "text" and values.dtype == object:  # NaN differs from itself
            values = [None if value is None or value != value else str(value) for value in values]
        is_text = kind == "numbers" and any(isinstance(value, str) for value in values)
        try:
            columns[name] = pa.array(values, _TYPES["text" if is_text else kind], from_pandas=True)
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise CascjaxError(
                f"{source}: column {name!r} must hold {_WORDS[kind]}; {str(error).splitlines()[0]}"
            ) from error
    return pa.table(columns), kinds


def _convert(column: pa.ChunkedArray, kind: ColumnKind, source: str, name: str) -> pa.ChunkedArray:
    """Return the column in the type of its kind; refuse types that do not fit."""
    stored = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    number = pa.types.is_floating(stored) or pa.types.is_integer(stored)
    string = pa.types.is_string(stored) or pa.types.is_large_string(stored)
    fits = {
        "number": number or pa.types.is_boolean(stored) or pa.types.is_decimal(stored),
        "text": string or number or pa.types.is_string_view(stored),
        "numbers": string or _is_list(stored),
    }
    if not (fits[kind] or pa.types.is_null(stored)):
        raise CascjaxError(
            f"{source}: column {name!r} must hold {_WORDS[kind]}, not {column.type}; convert it or"
            " name another column"
        )
    column.validate(full=True)
    if kind == "numbers" and string:
        return _parse_lists(column.cast(pa.large_string()), source, name)
    if column.type == _TYPES[kind]:
        return column
    if pa.types.is_boolean(stored):
        column = column.cast(pa.int8())
    return column.cast(_TYPES[kind], safe=False)


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
