"""Logs as text: CSV with any common delimiter, JSON Lines and JSON arrays, also compressed."""

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from cascjax.errors import CascjaxError
from cascjax.words import counted

_BLOCK = 1 << 26  # bytes; no row of a CSV file may be longer, and answers of models are long
_HEAD = 1 << 20  # bytes in which the header of a CSV file ends
_DELIMITERS = ",;\t|"
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\x28\xb5\x2f\xfd": "zstd"}
_ARCHIVES = {b"PK\x03\x04": "a zip archive or a spreadsheet", b"\xfd7zXZ": "an xz archive"}
_BOMS = {
    b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe\x00\x00": "utf-32",
    b"\x00\x00\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
_BINARY = (b"PAR1", b"ARROW1", b"\x80")
_EXCEL = re.compile(rb"sep=.[\r\n]+")
_SPACE = re.compile(r"\s*")


def read_text(
    source: str, choose: Callable[[Sequence[str]], Iterable[str]]
) -> tuple[dict[str, pa.ChunkedArray], str, list[str]]:
    """Read chosen columns of a text file as text.

    JSON is recognised by its first character. Nested fields of JSON records are columns with dotted
    names, such as "usage.cost".

    Returns:
      Text of each chosen column, null where it is missing; the delimiter, empty for JSON; notes.
    """
    content, notes = _decoded(source)
    start = _head(content, _HEAD)
    blank = len(start) - len(start.lstrip())
    content, start = content.slice(blank), start.lstrip()
    if not start:
        raise CascjaxError(f"cannot read {source}: it has no columns and no rows")
    if line := _EXCEL.match(start):  # names the delimiter, which the header shows
        content, start = content.slice(line.end()), start[line.end() :]
    if start[:1] in b"{[":
        return _read_json(content, source, choose), "", notes
    columns, delimiter = _read_csv(content, source, choose)
    return columns, delimiter, notes


def _head(content: pa.Buffer, size: int) -> bytes:
    """Return the first bytes of a buffer."""
    return bytes(memoryview(content)[:size])


def _decoded(source: str) -> tuple[pa.Buffer, list[str]]:
    """Return the content of a file as UTF-8, decompressed, and notes on its encoding."""
    content, notes = pa.memory_map(source).read_buffer(), []
    head = _head(content, 8)
    for magic, kind in _ARCHIVES.items():
        if head.startswith(magic):
            raise CascjaxError(f"cannot read {source}: it is {kind}; unpack it, or save it as CSV")
    for magic, codec in _COMPRESSED.items():
        if head.startswith(magic):
            with pa.input_stream(source, compression=codec) as stream:
                content = stream.read_buffer()
            head = _head(content, 8)
            if head.startswith(_BINARY):
                raise CascjaxError(f"cannot read {source}: it is a compressed binary; unpack it")
    for mark, encoding in _BOMS.items():
        if head.startswith(mark):
            if encoding == "utf-8-sig":
                content = content.slice(len(mark))
                break
            return pa.py_buffer(content.to_pybytes().decode(encoding).encode()), notes
    if b"\0" in _head(content, 4096):
        raise CascjaxError(
            f"cannot read {source}: it is neither text nor Parquet, Arrow or pickle; save it as"
            " UTF-8 text"
        )
    offsets = pa.py_buffer(np.array([0, content.size], np.int64))
    try:
        pa.Array.from_buffers(pa.large_string(), 1, [None, offsets, content]).validate(full=True)
    except pa.ArrowInvalid:
        try:
            content = pa.py_buffer(content.to_pybytes().decode("cp1252").encode())
        except UnicodeDecodeError:
            raise CascjaxError(
                f"cannot read {source}: its text is neither UTF-8 nor Latin-1; save it as UTF-8"
            ) from None
        notes.append(f"{source} is not UTF-8: read as Latin-1 (Windows-1252)")
    return content, notes


def _read_csv(
    content: pa.Buffer, source: str, choose: Callable[[Sequence[str]], Iterable[str]]
) -> tuple[dict[str, pa.ChunkedArray], str]:
    """Return chosen columns, and the delimiter with which the header has all of them."""
    header, chosen, delimiter = _header(content, source, choose)
    for name in chosen:
        if header.count(name) > 1:
            raise CascjaxError(f"{source}: column {name!r} is listed {header.count(name)} times")
    if content.size < _HEAD and b"\n" not in content.to_pybytes():  # pyarrow needs a line end
        content = pa.py_buffer(content.to_pybytes() + b"\n")
    positions = [str(header.index(name)) for name in chosen]

    def parsed(on_wrong_row: Callable[[Any], str], threads: bool) -> pa.Table:
        return pacsv.read_csv(
            pa.BufferReader(content),
            read_options=pacsv.ReadOptions(
                # Names are positions, because names of columns that are not read may repeat.
                column_names=[str(i) for i in range(len(header))],
                skip_rows_after_names=1,
                block_size=_BLOCK,
                use_threads=threads,
            ),
            parse_options=pacsv.ParseOptions(
                delimiter=delimiter, newlines_in_values=True, invalid_row_handler=on_wrong_row
            ),
            # Null is an empty field without quotes, as pandas writes it; "NA" is an answer.
            convert_options=pacsv.ConvertOptions(
                column_types=dict.fromkeys(positions, pa.large_string()),
                include_columns=positions,
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )

    wrong: list[Any] = []
    try:
        table = parsed(lambda row: wrong.append(row) or "error", True)
    except pa.ArrowInvalid:
        if not wrong:
            raise
        wrong = []
        parsed(lambda row: wrong.append(row) or "skip", False)  # rows have numbers without threads
        n_fields = counted(wrong[0].actual_columns, "field")
        more = f" (and {len(wrong) - 1:,} more)" if len(wrong) > 1 else ""
        raise CascjaxError(
            f"{source}: row {wrong[0].number - 2}{more}: {n_fields} where"
            f" the header has {len(header)}; quote fields that contain {delimiter!r}"
        ) from None
    return dict(zip(chosen, table.columns, strict=True)), delimiter


def _header(
    content: pa.Buffer, source: str, choose: Callable[[Sequence[str]], Iterable[str]]
) -> tuple[list[str], list[str], str]:
    """Return the names of the columns, the chosen ones, and the delimiter between names."""
    start = _head(content, _HEAD).decode(errors="ignore")
    refused: list[tuple[int, CascjaxError]] = []
    for delimiter in _DELIMITERS:
        try:
            names = next(csv.reader(io.StringIO(start, newline=""), delimiter=delimiter))
        except csv.Error:
            raise CascjaxError(f"cannot read {source}: its first line names no columns") from None
        names = [name.strip() for name in names]
        try:
            return names, list(choose(names)), delimiter
        except CascjaxError as error:
            refused.append((len(names), error))
    raise max(refused, key=lambda each: each[0])[1]


def _read_json(
    content: pa.Buffer, source: str, choose: Callable[[Sequence[str]], Iterable[str]]
) -> dict[str, pa.ChunkedArray]:
    """Return chosen columns of JSON Lines, of an array of records, or of records after another."""
    data = memoryview(content)
    try:
        values = msgspec.json.Decoder().decode_lines(data)
    except (msgspec.DecodeError, RecursionError):
        values = _json_values(content.to_pybytes().decode(), source)
    records = values[0] if len(values) == 1 and isinstance(values[0], list) else values
    if len(records) == 1 and isinstance(records[0], dict):
        # An object around the records, such as {"version": 1, "results": [...]}.
        lists = [value for value in records[0].values() if isinstance(value, list) and value]
        inner = [value for value in lists if all(isinstance(each, dict) for each in value)]
        records = inner[0] if len(inner) == 1 else records
    names: dict[str, None] = {}
    for row, record in enumerate(records):
        if not isinstance(record, dict):
            kind = "an array" if isinstance(record, list) else json.dumps(record)[:40]
            raise CascjaxError(
                f"{source}: row {row}: {kind} is not a JSON object; give one object per row"
            )
        _add_names(record, "", names)
    try:
        chosen = choose(list(names))
    except CascjaxError as error:
        if len(records) != 1:
            raise
        raise CascjaxError(f"{error}; the file is one JSON object, not one per row") from None
    texts = {name: [_json_text(_value(record, name)) for record in records] for name in chosen}
    return {
        name: pa.chunked_array([pa.array(values, pa.large_string())])
        for name, values in texts.items()
    }


def _json_values(text: str, source: str) -> list[Any]:
    """Return the JSON values of a text, with white space between them, which may hold NaN."""
    values, decoder, position = [], json.JSONDecoder(), 0
    try:
        while position < len(text):
            value, position = decoder.raw_decode(text, position)
            values.append(value)
            position = _SPACE.match(text, position).end()  # pyright: ignore[reportOptionalMemberAccess]
    except json.JSONDecodeError as error:
        raise CascjaxError(
            f"cannot read {source}: line {error.lineno}, column {error.colno} is not JSON"
            f" ({error.msg}); correct it, or write the file again"
        ) from None
    except RecursionError:
        raise CascjaxError(f"cannot read {source}: its JSON is nested too deeply") from None
    return values


def _add_names(record: Mapping[str, Any], prefix: str, names: dict[str, None]) -> None:
    """Add the dotted names of the fields of a record."""
    for key, value in record.items():
        if isinstance(value, dict) and value:
            _add_names(value, f"{prefix}{key}.", names)
        else:
            names[prefix + key] = None


def _value(record: Any, name: str) -> Any:
    """Return the value of a field by its dotted name, None where it is missing."""
    if not isinstance(record, dict):
        return None
    if name in record:
        return record[name]
    parts = name.split(".")
    for i in range(1, len(parts)):
        if (head := ".".join(parts[:i])) in record:
            return _value(record[head], ".".join(parts[i:]))
    return None


def _json_text(value: Any) -> str | None:
    """Return a value as text: strings as they are, None as None, others as in JSON."""
    return value if value is None or isinstance(value, str) else json.dumps(value)
