"""JSON from a stream: records of any layout, one block at a time, so that memory does not grow.

A log is JSON Lines, an array of records, records one after the other, an object that holds the
list of records somewhere, or nested maps whose keys are names. Lines are decoded by msgspec; other
layouts by the scanner of the standard library on a sliding window, which takes NaN, as Python
writes it, and knows the line of an error.
"""

import codecs
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, TypedDict

import msgspec

from cascjax.errors import CascjaxError

RECORD = 1 << 28
"""Largest number of characters of a record; a longer one is no record, or a decompression bomb."""

_CHUNK = 1 << 20  # Characters that are read at once
_BLOCK = 4096  # Records that are handed on at once
_SPACE = re.compile(r"\s*")
_CAPTURE = re.compile(r"\{(\w+)\}")

Block = tuple[list[Any], dict[str, list[str]]]
"""Records, and the keys of the maps around them by the name in braces, one per record."""


def blocks(
    read: Callable[[int], bytes],
    source: str,
    records: str = "",
    strict: bool = False,
    fields: Collection[str] = (),
) -> Iterator[Block]:
    """Yield the records of a stream of UTF-8.

    Args:
      read: Returns the next bytes, as many as are asked for or fewer, and none at the end.
      source: Name of the file in messages.
      records: Dotted path of the records, such as "data.results"; a name in braces stands for
        every key of a map, as in "{model}.{query}". [default: the layout is recognised]
      strict: Whether text that is not UTF-8 is refused by record and field.
      fields: Fields that are needed; of lines, others are skipped, which is faster. [default: all]
    """
    head = read(_CHUNK)
    while len(head) < _CHUNK and (more := read(_CHUNK)):
        head += more
    if not records and _is_lines(head):
        kind: Any = Any
        if fields and all(map(str.isascii, fields)):  # msgspec finds no other keys
            needed: Any = dict.fromkeys(fields, Any)
            kind = TypedDict("kind", needed, total=False)  # pyright: ignore[reportGeneralTypeIssues, reportArgumentType]
        yield from _lines(head, read, source, strict, msgspec.json.Decoder(kind))
        return
    scanner = _Scanner(head, read, source)
    names = [match[1] for match in _CAPTURE.finditer(records)]
    if records:
        walked = _walk(scanner, records.split("."))
    else:
        walked = (((), value) for value in _top_level(scanner))
    captured: list[Sequence[str]] = []
    values: list[Any] = []
    for keys, value in walked:
        values.append(value)
        captured.append(keys)
        if len(values) == _BLOCK:
            yield values, dict(zip(names, map(list, zip(*captured, strict=True)), strict=False))
            values, captured = [], []
    if values:
        yield values, dict(zip(names, map(list, zip(*captured, strict=True)), strict=False))


def is_capture(part: str) -> bool:
    """Return whether a part of a path is a name in braces."""
    return _CAPTURE.fullmatch(part) is not None


def _is_lines(head: bytes) -> bool:
    """Return whether the first of several lines is a whole record."""
    first, _, rest = head.lstrip().partition(b"\n")
    if not rest.strip():
        return False
    try:
        return isinstance(_decoded(first), dict)
    except (ValueError, RecursionError):
        return False


def _decoded(line: bytes) -> Any:
    try:
        return msgspec.json.decode(line)
    except msgspec.DecodeError:
        return json.loads(line)  # which takes NaN


def _lines(
    rest: bytes, read: Callable[[int], bytes], source: str, strict: bool, decoder: Any
) -> Iterator[Block]:
    n_lines, more = 0, True
    while rest or more:
        end = rest.rfind(b"\n") + 1
        if end or not more:
            block, rest = (rest[:end], rest[end:]) if end and more else (rest, b"")
            try:
                values = decoder.decode_lines(block)
            except (msgspec.DecodeError, RecursionError):
                values = _one_by_one(block, n_lines, source, strict)
            n_lines += block.count(b"\n")
            if values:
                yield values, {}
        elif len(rest) > RECORD:
            raise CascjaxError(
                f"cannot read {source}: line {n_lines + 1} is longer than {RECORD:,} characters;"
                " give one record per line"
            )
        if more:
            chunk = read(max(_CHUNK, len(rest)))
            more, rest = bool(chunk), rest + chunk


def _one_by_one(block: bytes, n_lines: int, source: str, strict: bool) -> list[Any]:
    """Return the records of lines, or name the line that is not JSON."""
    values = []
    for i, line in enumerate(block.splitlines(), n_lines + 1):
        if not line.strip():
            continue
        try:
            values.append(_decoded(line))
        except json.JSONDecodeError as error:
            raise _not_json(source, i, error.colno, error.msg) from None
        except UnicodeDecodeError:
            raise CascjaxError(
                f"cannot read {source}: line {i}:{_field(line)} is not UTF-8; write it as UTF-8"
            ) from None
        except RecursionError:
            raise CascjaxError(f"cannot read {source}: its JSON is nested too deeply") from None
    return values


def _field(line: bytes) -> str:
    """Return the field of a record that is not UTF-8, in words; empty if it cannot be said."""
    try:
        record = json.loads(line.decode(errors="surrogateescape"))
    except (ValueError, RecursionError):
        return ""
    names = (name for name, value in _texts(record, "") if not _clean(value))
    return next((f" field {name!r}" for name in names), "")


def _texts(value: Any, prefix: str) -> Iterator[tuple[str, str]]:
    """Yield the dotted name of every text of a record, and the text."""
    if isinstance(value, str):
        yield prefix.removesuffix("."), value
    elif isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in items:
            yield f"{prefix}{key}".removesuffix("."), str(key)
            yield from _texts(inner, f"{prefix}{key}.")


def _clean(text: str) -> bool:
    return not any("\udc80" <= character <= "\udcff" for character in text)


def _not_json(source: str, line: int, column: int, problem: str) -> CascjaxError:
    return CascjaxError(
        f"cannot read {source}: line {line}, column {column} is not JSON ({problem}); correct it,"
        " or write the file again"
    )


class _Scanner:
    """Reads JSON values one after the other from a sliding window of text."""

    def __init__(self, head: bytes, read: Callable[[int], bytes], source: str) -> None:
        self._read, self._bytes, self.source = read, head, source
        self._text, self._at, self._line, self._column, self._last = "", 0, 1, 1, False
        self._decode = json.JSONDecoder().raw_decode
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._more()

    def _more(self) -> bool:
        """Move the window on; return False at the end of the stream."""
        if self._last:
            return False
        passed = self._text[: self._at]
        if lines := passed.count("\n"):
            self._line, self._column = self._line + lines, len(passed) - passed.rfind("\n")
        else:
            self._column += len(passed)
        self._text, self._at = self._text[self._at :], 0
        if len(self._text) > RECORD:
            raise CascjaxError(
                f"cannot read {self.source}: the record at line {self._line} is longer than"
                f" {RECORD:,} characters; name the path of the records with records='PATH'"
            )
        data = self._bytes or self._read(max(_CHUNK, len(self._text)))
        self._bytes, self._last = b"", not data
        try:
            self._text += self._utf8.decode(data, final=not data)
        except UnicodeDecodeError as error:
            line = self._line + self._text.count("\n") + data[: error.start].count(b"\n")
            raise CascjaxError(
                f"cannot read {self.source}: line {line} is not UTF-8; write it as UTF-8"
            ) from None
        return bool(data)

    @property
    def line(self) -> int:
        """Number of the line that is read."""
        return self._line + self._text.count("\n", 0, self._at)

    def peek(self) -> str:
        """Return the next character that is not white space, empty at the end."""
        while True:
            self._at = _SPACE.match(self._text, self._at).end()  # pyright: ignore[reportOptionalMemberAccess]
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def value(self) -> Any:
        """Return the next value."""
        self.peek()
        while True:
            try:
                value, end = self._decode(self._text, self._at)
            except json.JSONDecodeError as error:
                cut = "Unterminated" in error.msg or error.pos > len(self._text) - 16
                if cut and self._more():
                    continue
                raise self._error(error.msg, error.pos) from None
            except RecursionError:
                raise CascjaxError(
                    f"cannot read {self.source}: its JSON is nested too deeply"
                ) from None
            if end == len(self._text) and self._more():
                continue  # a number may go on
            self._at = end
            return value

    def items(self) -> Iterator[None]:
        """Stop at each element of an array; the caller takes its value."""
        yield from self._entries("]")

    def members(self) -> Iterator[str]:
        """Yield each key of an object; the caller takes its value."""
        for _ in self._entries("}"):
            key = self.value()
            if not isinstance(key, str) or self.peek() != ":":
                raise self._error("expected a key and a colon", self._at)
            self._at += 1
            yield key

    def _entries(self, end: str) -> Iterator[None]:
        self._at += 1  # past the bracket
        if self.peek() == end:
            self._at += 1
            return
        while True:
            yield
            if (mark := self.peek()) not in (",", end) or not mark:
                raise self._error(f"expected ',' or {end!r}", self._at)
            self._at += 1
            if mark == end:
                return

    def _error(self, problem: str, position: int) -> CascjaxError:
        passed = self._text[:position]
        lines = passed.count("\n")
        column = len(passed) - passed.rfind("\n") if lines else self._column + len(passed)
        return _not_json(self.source, self._line + lines, column, problem)


def _top_level(scanner: _Scanner) -> Iterator[Any]:
    """Yield the elements of an array, or values one after the other.

    Of an object around the only list of records, such as {"version": 1, "results": [...]}, the
    records are yielded.
    """
    held: list[Any] = []
    n_values = 0
    while mark := scanner.peek():
        n_values += 1
        yield from held
        held = []
        if mark == "[":
            for _ in scanner.items():
                yield scanner.value()
        else:
            held = [scanner.value()]
    if n_values == 1 and held and isinstance(held[0], dict):
        lists = [value for value in held[0].values() if isinstance(value, list) and value]
        inner = [value for value in lists if all(isinstance(each, dict) for each in value)]
        held = inner[0] if len(inner) == 1 else held
    yield from held


def _walk(
    scanner: _Scanner, parts: Sequence[str], keys: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the values at a path, of every value of the stream, with the keys in braces."""
    while scanner.peek():
        yield from _descend(scanner, parts, keys)


def _descend(
    scanner: _Scanner, parts: Sequence[str], keys: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Any]]:
    mark = scanner.peek()
    if mark == "[":  # lists on the way are looked through
        for _ in scanner.items():
            yield from _descend(scanner, parts, keys)
    elif not parts:
        yield keys, scanner.value()
    elif mark == "{":
        for key in scanner.members():
            if is_capture(parts[0]):
                yield from _descend(scanner, parts[1:], (*keys, key))
            elif key == parts[0]:
                yield from _descend(scanner, parts[1:], keys)
            else:
                scanner.value()
    elif (value := scanner.value()) is not None:
        raise CascjaxError(
            f"{scanner.source}: line {scanner.line}: {str(value)[:40]!r} where the path of the"
            f" records goes on with {'.'.join(parts)!r}; give all records one shape"
        )


# Dotted paths


def add_names(record: Mapping[str, Any], prefix: str, names: dict[str, None]) -> None:
    """Add the dotted names of the fields of a record."""
    for key, value in record.items():
        if isinstance(value, dict) and value:
            add_names(value, f"{prefix}{key}.", names)
        else:
            names[prefix + key] = None


def value_at(record: Any, name: str) -> Any:
    """Return the value of a field by its dotted name, None where it is missing.

    A number in the path is a position in a list, as in "choices.0.text".

    Raises:
      TypeError: A part of the path holds neither an object nor a list; the arguments are the
        dotted name of the part and its value.
    """
    if record is None:
        return None
    if isinstance(record, list):
        head, _, rest = name.partition(".")
        if not head.isdecimal():
            raise TypeError("", record)
        inner = record[int(head)] if int(head) < len(record) else None
        return value_at(inner, rest) if rest else inner
    if not isinstance(record, dict):
        raise TypeError("", record)
    if name in record:
        return record[name]
    parts = name.split(".")
    for i in range(1, len(parts)):
        if (head := ".".join(parts[:i])) in record:
            try:
                return value_at(record[head], ".".join(parts[i:]))
            except TypeError as error:
                where, value = error.args
                raise TypeError(f"{head}.{where}".removesuffix("."), value) from None
    return None


def json_text(value: Any) -> str | None:
    """Return a value as text: strings as they are, None as None, others as in JSON."""
    return value if value is None or isinstance(value, str) else json.dumps(value)
