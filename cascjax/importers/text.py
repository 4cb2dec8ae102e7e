"""Logs as text: CSV with any common delimiter and JSON, also compressed, read as a stream."""

import codecs
import contextlib
import csv
import io
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from cascjax.errors import CascjaxError
from cascjax.importers.scan import add_names, blocks, json_text, value_at
from cascjax.words import counted

Choose = Callable[[Sequence[str]], Mapping[str, str]]
"""Selects from a file's column names those to read, with their kinds, or raises CascjaxError."""

_BLOCKS = (1 << 20, 1 << 24, 1 << 28)  # bytes; a row of a CSV file that is longer takes the next
_HEAD = 1 << 20  # bytes in which the header of a CSV file ends
_DELIMITERS = ",;\t|"
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\x28\xb5\x2f\xfd": "zstd"}
_ARCHIVES = {b"PK\x03\x04": "a zip archive or a spreadsheet", b"\xfd7zXZ": "an xz archive"}
_BOMS = {
    b"\xef\xbb\xbf": "utf-8",
    b"\xff\xfe\x00\x00": "utf-32",
    b"\x00\x00\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
_BINARY = (b"PAR1", b"ARROW1", b"\x80")
_NUMBERS = {int, float, bool, type(None)}
_KINDS_OF_NUMBERS = ("quality", "cost", "number")
_REPEATING = 0.5  # Share of distinct texts below which a column is kept as codes


@dataclass(frozen=True)
class Json:
    """What is known of the layout of JSON.

    Attributes:
      records: Dotted path of the records, see `cascjax.importers.scan.blocks`; empty if unknown.
      only: Whether the text must be JSON, in UTF-8.
      names: Patterns of the names of files that are read from folders.
      all_names: Whether columns are chosen from the names in all records, not in the first ones
        that suffice.
    """

    records: str = ""
    only: bool = False
    names: tuple[str, ...] = ("*",)
    all_names: bool = False


ANY = Json()


def read_text(
    source: str, choose: Choose, layout: Json = ANY
) -> tuple[dict[str, pa.ChunkedArray], str, list[str]]:
    """Read chosen columns of a text file, of which no more than a block is in memory at once.

    JSON is recognised by its first character. Nested fields of JSON records are columns with dotted
    names, such as "usage.cost".

    Returns:
      Each chosen column: numbers if all of its values are, else text, null where it is missing;
      the delimiter, empty for JSON; notes.
    """
    text = _Text(source, layout.only)
    head = text.head.lstrip(codecs.BOM_UTF8).lstrip()
    if not head:
        raise CascjaxError(f"cannot read {source}: it has no columns and no rows")
    if head[:1] in b"{[":
        return _read_json(text, choose, layout), "", text.notes
    if layout.only:
        start = head[:20].decode(errors="replace").splitlines()[0]
        raise CascjaxError(f"cannot read {source}: it is not JSON but starts with {start!r}")
    columns, delimiter = _read_csv(text, choose)
    return columns, delimiter, text.notes


class _Text:
    """A text file, decompressed and as UTF-8, that can be read several times."""

    def __init__(self, source: str, utf8: bool) -> None:
        self.source, self.notes, self.utf8 = source, list[str](), utf8
        with pa.OSFile(source) as file:
            start = file.read(8)
        for magic, kind in _ARCHIVES.items():
            if start.startswith(magic):
                raise CascjaxError(
                    f"cannot read {source}: it is {kind}; unpack it, or save it as CSV"
                )
        codecs_by_magic = (codec for mark, codec in _COMPRESSED.items() if start.startswith(mark))
        self._codec, self._encoding = next(codecs_by_magic, None), "utf-8"
        with self.open() as file:
            start = file.read(_HEAD)
        if self._codec and start.startswith(_BINARY):
            raise CascjaxError(f"cannot read {source}: it is a compressed binary; unpack it")
        self._encoding = next((e for mark, e in _BOMS.items() if start.startswith(mark)), "")
        if not self._encoding and b"\0" in start[:4096]:
            raise CascjaxError(
                f"cannot read {source}: it is neither text nor Parquet, Arrow or pickle; save it as"
                " UTF-8 text"
            )
        self._encoding = self._encoding or (utf8 and "utf-8") or self._guess()
        with self.open() as file:
            self.head = file.read(_HEAD)

    def open(self) -> pa.NativeFile:
        """Open the text as a stream of UTF-8."""
        file = pa.input_stream(self.source, compression=self._codec)
        if self._encoding == "utf-8":
            return file
        return pa.transcoding_input_stream(file, self._encoding, "utf-8")

    def _guess(self) -> str:
        """Return "utf-8" if all of the text is, else "cp1252", with a note."""
        for encoding in ("utf-8", "cp1252"):
            decoder = codecs.getincrementaldecoder(encoding)()
            try:
                self._encoding = "utf-8"  # read the bytes as they are
                with self.open() as file:
                    while block := file.read(1 << 22):
                        decoder.decode(block)
                    decoder.decode(b"", final=True)
            except UnicodeDecodeError:
                continue
            if encoding == "cp1252":
                self.notes.append(f"{self.source} is not UTF-8: read as Latin-1 (Windows-1252)")
            return encoding
        raise CascjaxError(
            f"cannot read {self.source}: its text is neither UTF-8 nor Latin-1; save it as UTF-8"
        )


class Columns:
    """Columns in the making: numbers while all of a column's values are, else text.

    Texts that repeat, such as names of models, are kept as codes.
    """

    def __init__(self, kinds: Mapping[str, str]) -> None:
        """Start empty columns of these kinds, by name."""
        self.kinds, self._chunks = kinds, {name: list[pa.Array]() for name in kinds}
        self._coded: dict[str, bool] = {}

    def add_texts(self, name: str, column: pa.Array) -> None:
        """Append texts, nulls where they are missing."""
        if self.kinds[name] in _KINDS_OF_NUMBERS:
            with contextlib.suppress(pa.ArrowInvalid):
                column = column.cast(pa.float64())
        elif self.kinds[name] == "text":
            if name not in self._coded and len(column):
                distinct = pc.call_function("count_distinct", [column]).as_py()
                self._coded[name] = distinct < _REPEATING * len(column)
            column = column.dictionary_encode() if self._coded.get(name) else column
        self._chunks[name].append(column)

    def add_values(self, name: str, values: Sequence[Any]) -> None:
        """Append values of JSON."""
        kind, column = self.kinds[name], None
        try:
            if kind in _KINDS_OF_NUMBERS and set(map(type, values)) <= _NUMBERS:
                numbers = [None if value is None else float(value) for value in values]
                column = pa.array(numbers, pa.float64())
            elif kind == "numbers" and set(map(type, values)) <= {list, type(None)}:
                column = pa.array(values, pa.list_(pa.float64()))
        except (pa.ArrowException, OverflowError, TypeError):
            column = None
        if column is not None:
            self._chunks[name].append(column)
            return
        if not set(map(type, values)) <= {str, type(None)}:
            values = list(map(json_text, values))
        self.add_texts(name, pa.array(values, pa.large_string()))

    def finish(self) -> dict[str, pa.ChunkedArray]:
        """Return the columns, each of one type."""
        return {name: one_type(chunks) for name, chunks in self._chunks.items()}


def one_type(chunks: Sequence[pa.Array]) -> pa.ChunkedArray:
    """Return chunks as one column: of text, if they differ in type."""
    if len({chunk.type for chunk in chunks}) != 1:
        return pa.chunked_array([_as_text(chunk) for chunk in chunks], pa.large_string())
    if len(chunks) == 1 or not pa.types.is_dictionary(chunks[0].type):
        return pa.chunked_array(chunks)
    # Arrow's own unification takes time quadratic in the number of chunks.
    names: dict[Any, int] = {}
    codes = []
    for chunk in chunks:
        numbers = [names.setdefault(name, len(names)) for name in chunk.dictionary.to_pylist()]
        codes.append(pa.array(numbers, pa.int32()).take(chunk.indices))
    dictionary = pa.array(list(names), chunks[0].type.value_type)
    column = pa.DictionaryArray.from_arrays(pa.concat_arrays(codes), dictionary)
    return pa.chunked_array([column])


def _as_text(chunk: pa.Array) -> pa.Array:
    if pa.types.is_list(chunk.type):
        return pa.array(list(map(json_text, chunk.to_pylist())), pa.large_string())
    return chunk.cast(pa.large_string())


def _read_csv(text: _Text, choose: Choose) -> tuple[dict[str, pa.ChunkedArray], str]:
    """Return chosen columns, and the delimiter with which the header has all of them."""
    source = text.source
    start = text.head.decode(errors="ignore").lstrip("\ufeff")
    skipped = len(start) - len(start.lstrip())
    n_before = len(start[:skipped].splitlines())
    start = start.lstrip()
    if start.startswith("sep=") and len(start.splitlines()[0]) == 5:  # Excel names the delimiter
        n_before, start = n_before + 1, start.partition(start[5])[2].lstrip("\r\n")
    header, kinds, delimiter = _header(start, source, choose)
    for name in kinds:
        if header.count(name) > 1:
            raise CascjaxError(f"{source}: column {name!r} is listed {header.count(name)} times")
    if len(text.head) < _HEAD and len(start.splitlines()) < 2:
        return Columns(kinds).finish(), delimiter
    positions = {str(header.index(name)): name for name in kinds}

    parsing = {
        # Names are positions, because names of columns that are not read may repeat.
        "column_names": [str(i) for i in range(len(header))],
        "skip_rows": n_before,
        "skip_rows_after_names": 1,
    }

    def parsed(parse: Any, on_wrong_row: Callable[[Any], str], **more: Any) -> Any:
        return parse(
            stream,
            read_options=pacsv.ReadOptions(**parsing, **more),
            parse_options=pacsv.ParseOptions(
                delimiter=delimiter, newlines_in_values=True, invalid_row_handler=on_wrong_row
            ),
            # Null is an empty field without quotes, as pandas writes it; "NA" is an answer.
            convert_options=pacsv.ConvertOptions(
                column_types=dict.fromkeys(positions, pa.large_string()),
                include_columns=list(positions),
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )

    def read(block_size: int) -> Columns:
        columns = Columns(kinds)
        for batch in parsed(pacsv.open_csv, refuse, block_size=block_size):
            for position, column in zip(batch.schema.names, batch.columns, strict=True):
                columns.add_texts(positions[position], column)
        return columns

    wrong = list[Any]()

    def refuse(row: Any) -> str:
        wrong.append(row)
        return "error"

    try:
        for block_size in _BLOCKS:
            try:
                with text.open() as stream:
                    return read(block_size).finish(), delimiter
            except pa.ArrowInvalid as error:
                if "straddling" not in str(error) or block_size == _BLOCKS[-1]:
                    raise
    except pa.ArrowInvalid:
        if not wrong:
            raise
        wrong = []
        with text.open() as stream:  # rows have numbers only where all are read, without threads
            whole = {"use_threads": False, "block_size": _BLOCKS[-1]}
            parsed(pacsv.read_csv, lambda row: wrong.append(row) or "skip", **whole)
        n_fields = counted(wrong[0].actual_columns, "field")
        more = f" (and {len(wrong) - 1:,} more)" if len(wrong) > 1 else ""
        raise CascjaxError(
            f"{source}: row {wrong[0].number - 2 - n_before}{more}: {n_fields} where"
            f" the header has {len(header)}; quote fields that contain {delimiter!r}"
        ) from None
    raise AssertionError(source)  # pragma: no cover - the largest block is read or refused


def _header(start: str, source: str, choose: Choose) -> tuple[list[str], Mapping[str, str], str]:
    """Return the names of the columns, the kinds of the chosen ones, and the delimiter."""
    refused: list[tuple[int, CascjaxError]] = []
    for delimiter in _DELIMITERS:
        try:
            names = next(csv.reader(io.StringIO(start, newline=""), delimiter=delimiter))
        except csv.Error:
            raise CascjaxError(f"cannot read {source}: its first line names no columns") from None
        names = [name.strip() for name in names]
        try:
            return names, choose(names), delimiter
        except CascjaxError as error:
            refused.append((len(names), error))
    raise max(refused, key=lambda each: each[0])[1]


def _read_json(text: _Text, choose: Choose, layout: Json) -> dict[str, pa.ChunkedArray]:
    """Return chosen columns of the records of JSON."""
    kinds = _chosen(text, choose, layout)
    columns, row = Columns(kinds), 0
    parts = (name.split(".") for name in kinds)
    fields = {".".join(part[:i]) for part in parts for i in range(1, len(part) + 1)}
    for records, keys in _records(text, layout, fields):
        _check_records(records, row, text.source)
        for name in kinds:
            if name.strip("{}") in keys and name not in records[0]:
                columns.add_values(name, keys[name.strip("{}")])
            else:
                columns.add_values(name, _values(records, name, row, text.source))
        row += len(records)
    return columns.finish()


def _records(
    text: _Text, layout: Json, fields: Collection[str] = ()
) -> Iterator[tuple[list[Any], dict[str, list[str]]]]:
    with text.open() as stream:
        if text.head.startswith(codecs.BOM_UTF8):
            stream.read(len(codecs.BOM_UTF8))
        yield from blocks(stream.read, text.source, layout.records, layout.only, fields)


def _chosen(text: _Text, choose: Choose, layout: Json) -> Mapping[str, str]:
    """Return the kinds of the chosen columns, from as few records as have them all."""
    names: dict[str, None] = {}
    row, refused = 0, None
    for records, keys in _records(text, layout):
        _check_records(records, row, text.source)
        names |= {f"{{{name}}}": None for name in keys}
        for record in records:
            add_names(record, "", names)
        row += len(records)
        if not layout.all_names:
            try:
                return choose(list(names))
            except CascjaxError as error:
                refused = error
    try:
        return choose(list(names))
    except CascjaxError as error:
        refused = error
    if not row and layout.records:
        raise CascjaxError(
            f"{text.source}: there is nothing at the path {layout.records!r} of the records; the"
            f" file starts with {_outline(text)}"
        )
    if row == 1:
        raise CascjaxError(f"{refused}; the file is one JSON object, not one per row")
    raise refused


def _outline(text: _Text) -> str:
    """Return the first characters of a file, for messages."""
    start = " ".join(text.head[:200].decode(errors="replace").split())
    return repr(start if len(start) <= 60 else f"{start[:60]}...")


def _check_records(records: Sequence[Any], row: int, source: str) -> None:
    if set(map(type, records)) <= {dict}:
        return
    for i, record in enumerate(records):
        if not isinstance(record, dict):
            kind = "an array" if isinstance(record, list) else json.dumps(record)[:40]
            raise CascjaxError(
                f"{source}: row {row + i}: {kind} is not a JSON object; give one object per row"
            )


def _values(records: Sequence[dict[str, Any]], name: str, row: int, source: str) -> list[Any]:
    """Return the values of a field; refuse records of another shape."""
    if "." not in name:
        return [record.get(name) for record in records]
    values: list[Any] = list(records)
    for part in name.split("."):
        if not set(map(type, values)) <= {dict}:
            break
        values = [value.get(part) for value in values]
    else:
        if None not in values:  # the common shape; what is missing may have another
            return values
    values = []
    for record in records:
        try:
            values.append(value_at(record, name))
        except TypeError as error:
            part, value = error.args
            shape = {list: "a list", str: "text", bool: "a boolean"}.get(type(value), "a number")
            raise CascjaxError(
                f"{source}: row {row + len(values)}: field {part!r} holds {shape}, not an object"
                f" with {name.removeprefix(part).lstrip('.')!r}; give all records one shape"
            ) from None
    return values
