"""Columns of a file to arrays, or one line that says which row of which column is wrong."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float, Float32, Int, Int8, Int32

from cascjax.data.table import EVALUATE, FIT
from cascjax.errors import CascjaxError
from cascjax.words import counted

SPLITS = ("fit", "evaluate")
"""The words of the column split, in the order of the numbers `FIT` and `EVALUATE`."""

assert (FIT, EVALUATE) == (0, 1)


class BadRowsError(CascjaxError):
    """Some rows of a column are bad: `row` is the first of `count`, and `what` is wrong with it."""

    def __init__(self, source: str, column: str, row: int, count: int, what: str) -> None:
        """Says so in one line."""
        more = f" (and {count - 1:,} more)" if count > 1 else ""
        super().__init__(f"{source}: column {column!r}, row {row}{more}: {what}")
        self._parts = (source, column, row, count, what)

    def further_down(self, rows: int) -> "BadRowsError":
        """The same where so many rows of the file stand before those that were looked at."""
        source, column, row, count, what = self._parts
        return BadRowsError(source, column, row + rows, count, what)


def refuse(source: str, column: str, bad: Bool[np.ndarray, " N"], what: str, way_out: str) -> None:
    """Raise an error that names the first `bad` row of a column and counts the others.

    Raises:
        BadRowsError: any row is bad.
    """
    if count := int(np.count_nonzero(bad)):
        raise BadRowsError(source, column, int(np.argmax(bad)), count, f"{what}; {way_out}")


def find_column(schema: pa.Schema, name: str, source: str) -> int:
    """The position of the one column of that name.

    Raises:
        CascjaxError: there is none, or several.
    """
    found = schema.get_all_field_indices(name)
    if len(found) != 1:
        count = f"stands {len(found)} times" if found else "is missing"
        raise CascjaxError(f"{source}: column {name!r} {count}; the file has {_some(schema.names)}")
    return found[0]


def text(column: pa.ChunkedArray, source: str, name: str) -> pa.ChunkedArray:
    """A column of strings, dictionary strings or integers as plain strings, without nulls.

    Raises:
        CascjaxError: another type, or a null.
    """
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    plain = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if not (plain or pa.types.is_integer(kind) or pa.types.is_string_view(kind)):
        raise CascjaxError(
            f"{source}: column {name!r} must hold strings, not {column.type}; convert it"
        )
    if kind != column.type or not plain:
        column = column.cast(kind if plain else pa.string())
    refuse(source, name, _is_null(column), "null", "give every row a value")
    return column


def matrix(
    column: pa.ChunkedArray,
    source: str,
    name: str,
    width: int | None = None,
    missing: bool = False,
) -> Float32[np.ndarray, "N W"]:
    """A column of lists of W finite numbers as float32, without a copy where that can be.

    With `missing` a value may be absent: null and NaN are both NaN then.

    Raises:
        CascjaxError: another type, lists of unequal length or not of `width`, a value that is
            infinite, or one that is null or NaN without `missing`.
    """
    lists = _fixed_lists(column, source, name, width)
    refuse(source, name, _is_null(lists), "null", "give every row a list of numbers")
    size = lists.type.list_size
    parts = []
    for chunk in lists.chunks:
        values = chunk.flatten()
        if values.null_count and not missing:
            bad = np.zeros(len(lists), bool)
            start = sum(len(part) for part in parts)
            nulls = np.asarray(values.is_null()).reshape(-1, size).any(axis=1)
            bad[start : start + len(chunk)] = nulls
            refuse(source, name, bad, "null", "give every model a number")
        values = values.cast(pa.float32(), safe=False)
        parts.append(values.to_numpy(zero_copy_only=False).reshape(-1, size))
    whole = _join(parts)
    wrong = np.isinf(whole) if missing else ~np.isfinite(whole)
    if wrong.any():
        row, at = np.unravel_index(np.argmax(wrong), wrong.shape)
        what = f"{whole[row, at]} as a 32-bit number"
        way_out = "every value must be finite" + (", or NaN where it is missing" * missing)
        refuse(source, name, np.any(wrong, axis=1), what, way_out)
    return whole


def answers(
    column: pa.ChunkedArray, source: str, name: str, width: int
) -> Int32[np.ndarray, "N K"]:
    """A column of lists of whole numbers as int32; a null is -1, no answer.

    Raises:
        CascjaxError: another type, lists not of `width`, or a number beyond 32 bits.
    """
    lists = _fixed_lists(column, source, name, width)
    if not pa.types.is_integer(lists.type.value_type):
        raise _wrong_type(source, name, column.type, "a list of K whole numbers")
    parts = []
    for chunk in lists.chunks:
        # Not flatten(), which leaves null lists out.
        values = chunk.values.slice(chunk.offset * width, len(chunk) * width)
        values = values.cast(pa.int32())
        values = values.fill_null(-1) if values.null_count else values  # it copies in any case
        part = values.to_numpy(zero_copy_only=False).reshape(-1, width)
        if chunk.null_count:
            part = np.where(np.asarray(chunk.is_null())[:, None], np.int32(-1), part)
        parts.append(part)
    return _join(parts)


def split_codes(column: pa.ChunkedArray, source: str, name: str) -> Int8[np.ndarray, " N"]:
    """A column of "fit" and "evaluate" as `FIT` and `EVALUATE`.

    Raises:
        CascjaxError: another value or type, or a null.
    """
    codes, names = encode(text(column, source, name))
    known = np.array([SPLITS.index(word) if word in SPLITS else -1 for word in names], np.int8)
    split = known[codes]
    if (split < 0).any():
        value = names[codes[np.argmax(split < 0)]]
        refuse(source, name, split < 0, f"{value!r}", "must be 'fit' or 'evaluate'")
    return split


def encode(column: pa.ChunkedArray) -> tuple[Int32[np.ndarray, " N"], tuple[str, ...]]:
    """Strings as numbers and the names they count in, in order of first appearance."""
    whole = column.dictionary_encode().unify_dictionaries()
    codes = [chunk.indices.to_numpy(zero_copy_only=False) for chunk in whole.chunks]
    if not codes:
        return np.zeros(0, np.int32), ()
    # Unified, so any chunk's dictionary is every chunk's.
    names = tuple(str(name) for name in whole.chunk(0).dictionary.to_pylist())
    return _join(codes).astype(np.int32, copy=False), names


def group_codes(
    column: pa.ChunkedArray, source: str, name: str
) -> tuple[Int32[np.ndarray, " N"], tuple[str, ...]]:
    """A column of strings as numbers and names; a dictionary keeps its own order of names.

    Raises:
        CascjaxError: another type, or a null.
    """
    plain = text(column, source, name)
    if pa.types.is_dictionary(column.type) and column.num_chunks:
        whole = column.unify_dictionaries()
        names = whole.chunk(0).dictionary.to_pylist()
        if all(isinstance(word, str) for word in names) and len(set(names)) == len(names):
            codes = [chunk.indices.to_numpy(zero_copy_only=False) for chunk in whole.chunks]
            return _join(codes).astype(np.int32, copy=False), tuple(names)
    return encode(plain)


def repeats(
    keys: Int[np.ndarray, " N"], usable: Bool[np.ndarray, " N"] | None = None
) -> Bool[np.ndarray, " N"]:
    """Mask of the usable rows whose key stood in an earlier usable row."""
    rows = np.arange(len(keys)) if usable is None else np.flatnonzero(usable)
    _, first = np.unique(keys[rows], return_index=True)
    mask = np.ones(len(rows), bool)
    mask[first] = False
    repeated = np.zeros(len(keys), bool)
    repeated[rows[mask]] = True
    return repeated


def check_unique(column: pa.ChunkedArray, source: str, name: str) -> None:
    """Refuse ids that stand more than once, naming the first.

    Raises:
        CascjaxError: an id repeats.
    """
    if _are_row_numbers(column) or pc.call_function("count_distinct", [column]).as_py() == len(
        column
    ):
        return
    codes, names = encode(column)
    repeated = repeats(codes)
    value = names[codes[np.argmax(repeated)]]
    refuse(source, name, repeated, f"{value!r} repeats an id", "every id must stand once")


def check_not_negative(
    values: Float[np.ndarray, "N W"], source: str, name: str, models: tuple[str, ...]
) -> None:
    """Refuse values below 0, naming the model.

    Raises:
        CascjaxError: a value is negative.
    """
    if (negative := values < 0).any():
        row, model = np.unravel_index(np.argmax(negative), negative.shape)
        what = f"{values[row, model]:g} for model {models[model]!r} is negative"
        refuse(source, name, np.any(negative, axis=1), what, "it must be at least 0")


def _fixed_lists(
    column: pa.ChunkedArray, source: str, name: str, width: int | None
) -> pa.ChunkedArray:
    """A list column of any kind as lists of one fixed length, at least one chunk."""
    kind = column.type
    fixed = pa.types.is_fixed_size_list(kind)
    if not (fixed or pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        raise _wrong_type(source, name, kind, "a list of numbers a row")
    if not (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)):
        raise _wrong_type(source, name, kind, "a list of numbers a row")
    if fixed:
        if not kind.list_size:
            raise CascjaxError(
                f"{source}: column {name!r} has no values in its lists; leave it out"
            )
        if width is not None and kind.list_size != width:
            raise CascjaxError(
                f"{source}: column {name!r} has {counted(kind.list_size, 'value')} a row where"
                f" {width} are expected; make every column and the model names agree"
            )
        return column
    lengths = pc.call_function("list_value_length", [column]).to_numpy()  # NaN where null
    known = ~np.isnan(lengths)
    expected = width if width is not None else int(lengths[known][0]) if known.any() else 0
    bad = known & ((lengths != expected) | (lengths == 0))
    if bad.any():
        what = f"{counted(int(lengths[np.argmax(bad)]), 'value')} where {expected} are expected"
        refuse(source, name, bad, what, "every row needs one value a model")
    return column.cast(pa.list_(kind.value_type, expected))


def _some(names: Sequence[str]) -> str:
    """The first few names, for a message."""
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return (", ".join(map(repr, names[:8])) + more) or "none"


def _wrong_type(source: str, name: str, kind: pa.DataType, wanted: str) -> CascjaxError:
    return CascjaxError(f"{source}: column {name!r} must hold {wanted}, not {kind}; convert it")


def _join(parts: list[np.ndarray]) -> np.ndarray:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _is_null(column: pa.ChunkedArray) -> Bool[np.ndarray, " N"]:
    if not column.null_count:
        return np.zeros(len(column), bool)
    return column.is_null().to_numpy()


def _are_row_numbers(column: pa.ChunkedArray) -> bool:
    """Whether the ids are those a table without ids is written with.

    To see that takes a tenth of the time and none of the memory of counting distinct strings.
    """
    start = 0
    for chunk in column.chunks:
        if not chunk.equals(row_numbers(start, len(chunk)).cast(chunk.type)):
            return False
        start += len(chunk)
    return True


def row_numbers(start: int, count: int) -> pa.Array:
    """The row numbers from `start` on as strings, the ids of a table without ids."""
    return pa.array(np.arange(start, start + count)).cast(pa.string())
