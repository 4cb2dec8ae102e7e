"""Pickled pandas frames, read without running any of the code a pickle may ask for.

A pickle is a program: it names functions and calls them. To admit only pandas' and numpy's own is
not enough, for those sigma_scale their arguments (a numpy dtype with chosen flags turns bytes into
object pointers). So nothing a pickle names is ever looked up, let alone called: each name on the
list below becomes an inert `_Node` that records what it would have been called with, any other
name is refused, and the frame is then built from the recorded parts, each checked.

The parts are those pandas 1 to 3 and numpy 1 and 2 write for columns of numbers and text.
"""

import io
import os
import pickle
import struct
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pyarrow as pa

from cascjax.data.files import one_line, sniff
from cascjax.errors import CascjaxError

_Nodes = dict[tuple[str, str], type["_Node"]]


class _Frozen(type):
    """Class of the node classes: a pickle's BUILD sets attributes on whatever it has, so refuse."""

    def __setattr__(cls, name: str, value: object) -> None:
        raise TypeError("a part of a pickle cannot be changed")


class _Node(metaclass=_Frozen):
    """What a pickle calls: the arguments and state it gives, and no behaviour."""

    __slots__ = ("args", "state")
    args: tuple[Any, ...]
    state: Any

    def __new__(cls, *args: Any) -> "_Node":
        node = object.__new__(cls)
        node.args = args
        node.state = None
        return node

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Frame(_Node):
    """DataFrame(), state {"_mgr": manager}."""


class _Manager(_Node):
    """BlockManager(blocks, axes); before pandas 1.3 BlockManager(), state (axes, ...)."""


class _Block(_Node):
    """Block(values, placement, ndim)."""


class _NewIndex(_Node):
    """An index: new(class, {"data": values, "name": name})."""


class _IndexClass(_Node):
    """The class of an index of values."""


class _RangeClass(_Node):
    """The class of an index {"start", "stop", "step", "name"}."""


class _Array(_Node):
    """A numpy array: _reconstruct(...), state (version, shape, dtype, is_fortran, data)."""


class _FromBuffer(_Node):
    """A numpy array: _frombuffer(buffer, dtype, shape, order)."""


class _Scalar(_Node):
    """A numpy number: scalar(dtype, bytes)."""


class _ArrayClass(_Node):
    """numpy.ndarray itself."""


class _DType(_Node):
    """dtype(code, align, copy), state (version, byte order, ...)."""


class _Strings(_Node):
    """A numpy column of strings: new(class, checksum, None), state with the array within."""


class _StringsClass(_Node):
    """The class of a numpy column of strings."""


class _ArrowStrings(_Node):
    """An Arrow column of strings, state {"_pa_array": array}."""


class _StringDType(_Node):
    """StringDtype(storage, na_value)."""


class _ArrowArray(_Node):
    """_restore_array((type, length, null count, offset, buffers, children, dictionary))."""


class _ArrowType(_Node):
    """type_for_alias(name)."""


class _Wrapped(_Node):
    """py_buffer(bytes), bytearray(bytes), and bytearray() if empty."""


class _Encoded(_Node):
    """_codecs.encode(text, "latin1"), how old protocols write bytes; bytes() if empty."""


class _Slice(_Node):
    """slice(start, stop, step)."""


def _names(node: type[_Node], *dotted: str) -> _Nodes:
    return {(name.rpartition(".")[0], name.rpartition(".")[2]): node for name in dotted}


# Both `builtins` and its name before Python 3, which protocol 2 keeps.
_ADMITTED: _Nodes = {
    **_names(_Frame, "pandas.DataFrame", "pandas.core.frame.DataFrame"),
    **_names(_Manager, "pandas.core.internals.managers.BlockManager"),
    **_names(
        _Block,
        "pandas._libs.internals._unpickle_block",
        "pandas.core.internals.blocks.new_block",
    ),
    **_names(_NewIndex, "pandas.core.indexes.base._new_Index"),
    **_names(
        _IndexClass,
        "pandas.Index",
        "pandas.core.indexes.base.Index",
        "pandas.core.indexes.numeric.Int64Index",
        "pandas.core.indexes.numeric.UInt64Index",
        "pandas.core.indexes.numeric.Float64Index",
    ),
    **_names(_RangeClass, "pandas.RangeIndex", "pandas.core.indexes.range.RangeIndex"),
    **_names(_Array, "numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct"),
    **_names(_FromBuffer, "numpy.core.numeric._frombuffer", "numpy._core.numeric._frombuffer"),
    **_names(_Scalar, "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"),
    **_names(_ArrayClass, "numpy.ndarray"),
    **_names(_DType, "numpy.dtype"),
    **_names(_Strings, "pandas._libs.arrays.__pyx_unpickle_NDArrayBacked"),
    **_names(_StringsClass, "pandas.arrays.StringArray"),
    **_names(_ArrowStrings, "pandas.arrays.ArrowStringArray"),
    **_names(_StringDType, "pandas.StringDtype"),
    **_names(_ArrowArray, "pyarrow.lib._restore_array"),
    **_names(_ArrowType, "pyarrow.lib.type_for_alias"),
    **_names(_Wrapped, "pyarrow.lib.py_buffer", "builtins.bytearray", "__builtin__.bytearray"),
    **_names(_Encoded, "_codecs.encode", "builtins.bytes", "__builtin__.bytes"),
    **_names(_Slice, "builtins.slice", "__builtin__.slice"),
}

_NUMBERS = frozenset(["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"])
_ARROW_STRINGS = {
    "string": pa.string(),
    "utf8": pa.string(),
    "large_string": pa.large_string(),
    "large_utf8": pa.large_string(),
}
_PLAIN = (str, bytes, int, float, bool, type(None))


def _load_bytearray8(unpickler: Any) -> None:
    # As in the standard library, but for reading first: there, room is made for what is promised.
    (size,) = struct.unpack("<Q", unpickler.read(8))
    unpickler.append(bytearray(unpickler.read(size)))


# The unpickler written in Python: the one in C takes tens of gigabytes for a memo if five bytes
# of a damaged file say so. pandas' own reader of old pickles builds on this one too.
class _Unpickler(pickle._Unpickler):
    dispatch: ClassVar[dict[int, Any]] = {
        **pickle._Unpickler.dispatch,
        pickle.BYTEARRAY8[0]: _load_bytearray8,
    }

    def __init__(self, content: bytes, source: str) -> None:
        super().__init__(io.BytesIO(content))
        self._source = source

    def find_class(self, module: str, name: str) -> type[_Node]:
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise CascjaxError(
                f"{self._source}: the pickle asks for {f'{module}.{name}'[:80]!r}, which is no part"
                " of a table of numbers and text and may do harm; save the table as parquet or csv"
                " where you sigma_scale it"
            ) from None


class _NotAFrameError(Exception):
    """The recorded parts do not make a frame."""


def read_pickle_frame(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read a pickled frame of number and text columns, running none of the pickle's code.

    Numbers keep their type; text comes back in the type the pandas installed here gives it.

    Raises:
        CascjaxError: the file is missing, damaged, or asks for anything but such a frame.
    """
    source = os.fspath(path)
    if sniff(path) != "pickle":
        raise CascjaxError(f"cannot read {source}: it is not a pickle of protocol 2 or later")
    try:
        with one_line(f"cannot read {source}"):
            root = _Unpickler(Path(path).read_bytes(), source).load()
    except CascjaxError:
        raise
    # A damaged pickle raises almost anything; the nodes make sure that nothing else happens.
    except Exception as error:
        raise CascjaxError(
            f"cannot read {source}: the pickle is damaged ({type(error).__name__}); bring it again"
        ) from error
    try:
        return _frame(root)
    except _NotAFrameError as error:
        reason = str(error)
    except Exception as error:  # parts of a wrong shape, whatever pandas and pyarrow call it
        reason = f"its parts do not fit ({type(error).__name__})"
    raise CascjaxError(
        f"cannot read {source}: the pickle holds no data frame of numbers and text: {reason};"
        " save the table as parquet or csv"
    )


def _part(value: Any, *kinds: type) -> Any:
    """The value, if it is of one of exactly these types."""
    if type(value) not in kinds:
        name = type(value).__name__.lstrip("_")
        raise _NotAFrameError(f"found {name} for {kinds[0].__name__.lstrip('_')}")
    return value


def _frame(root: Any) -> pd.DataFrame:
    state = _part(_part(root, _Frame).state, dict)
    manager = _part(state["_mgr"] if "_mgr" in state else state.get("_data"), _Manager)
    if manager.args:
        blocks, axes = manager.args
        parts = [_part(block, _Block).args[:2] for block in blocks]
    else:  # pandas before 1.3
        content = _part(_part(manager.state, tuple)[3], dict)["0.14.1"]
        axes = content["axes"]
        parts = [(block["values"], block["mgr_locs"]) for block in content["blocks"]]
    columns, rows = (_index(axis) for axis in axes)
    if not columns.is_unique:
        raise _NotAFrameError(f"column {columns[columns.duplicated()][0]!r} is listed twice")

    table: dict[int, np.ndarray] = {}
    for values, placement in parts:
        block = _values(values)
        block = block if block.ndim == 2 else block[None]
        places = _places(placement)
        if len(places) != len(block) or block.shape[1] != len(rows):
            raise _NotAFrameError("a block does not fit its columns and rows")
        for place, column in zip(places, block, strict=True):
            if place in table or not 0 <= place < len(columns):
                raise _NotAFrameError("a block stands in place of another or of none")
            table[place] = column
    if len(table) != len(columns):
        raise _NotAFrameError("a column has no block")
    frame = pd.DataFrame(
        {place: pd.Series(table[place], rows, copy=True) for place in range(len(columns))}, rows
    )
    frame.columns = columns
    return frame


def _index(node: Any) -> pd.Index:
    kind, content = _part(node, _NewIndex).args
    content = _part(content, dict)
    name = _part(content.get("name"), str, int, type(None))
    if kind is _RangeClass:
        start, stop, step = (_part(content[key], int) for key in ("start", "stop", "step"))
        return pd.RangeIndex(start, stop, step, name=name)
    if kind is not _IndexClass:
        raise _NotAFrameError("an index is of no known class")
    values = _values(content["data"])
    if values.ndim != 1:
        raise _NotAFrameError("an index has several dimensions")
    return pd.Index(values, name=name)


def _places(node: Any) -> list[int]:
    """The columns a block fills."""
    if type(node) is _Slice:
        start, stop, step = (_part(value, int) for value in node.args)
        places = range(start, stop, step)
        if len(places) > 1_000_000:  # a slice costs its maker nothing
            raise _NotAFrameError("a block has too many columns")
        return list(places)
    return [int(place) for place in _values(node)]


def _values(node: Any) -> np.ndarray:
    """A numpy array, a numpy column of strings or an Arrow column of strings."""
    if type(node) is _Strings:
        # (dtype, array) or (dtype, array, attributes), in the order of the version.
        arrays = [part for part in _part(node.state, tuple) if type(part) in (_Array, _FromBuffer)]
        return _array(arrays[0])
    if type(node) is _ArrowStrings:
        values = _arrow(_part(node.state, dict)["_pa_array"])
        return np.asarray(values.to_numpy(zero_copy_only=False), object)
    return _array(node)


def _array(node: Any) -> np.ndarray:
    if type(node) is _FromBuffer:
        data, kind, shape, order = node.args
        data, fortran = _bytes(data), order == "F"
    else:
        _, shape, kind, fortran, data = _part(_part(node, _Array).state, tuple)
    shape = tuple(_part(size, int) for size in _part(shape, tuple))
    if min(shape, default=0) < 0:  # numpy would guess a size of -1
        raise _NotAFrameError("an array has a negative size")
    if not 1 <= len(shape) <= 2:
        raise _NotAFrameError(f"an array has {len(shape)} dimensions")
    dtype = _dtype(kind)
    values = _objects(_part(data, list)) if dtype.hasobject else np.frombuffer(_bytes(data), dtype)
    return values.reshape(shape, order="F" if fortran else "C")


def _objects(values: list[Any]) -> np.ndarray:
    """Text, numbers and what is missing; lists of them, as some logs keep answers."""
    if not {type(value) for value in values} <= set(_PLAIN):
        values = [_object(value) for value in values]
    return np.fromiter(values, dtype=object, count=len(values))


def _object(value: Any) -> Any:
    if type(value) is _Scalar:
        kind, data = value.args
        return np.frombuffer(_bytes(data), _dtype(kind))[0]
    if type(value) in (list, tuple):
        return [_part(item, *_PLAIN) for item in value]
    return _part(value, *_PLAIN)


def _dtype(node: Any) -> np.dtype:
    """A dtype made again from its code and byte order; the flags a pickle gives are ignored."""
    code, order = _part(node, _DType).args[0], _part(node.state, tuple)[1]
    if code in ("O8", "O4", "O"):
        return np.dtype(object)
    if code not in _NUMBERS or order not in ("<", ">", "=", "|"):
        raise _NotAFrameError(f"a column holds {code!r}")
    return np.dtype(order + code)


def _arrow(node: Any) -> pa.Array:
    state = _part(_part(node, _ArrowArray).args[0], tuple)
    kind, length, _null_count, offset, buffers, children, dictionary = state
    if children or dictionary is not None:
        raise _NotAFrameError("an Arrow column is not plain strings")
    array = pa.Array.from_buffers(
        _ARROW_STRINGS[_part(kind, _ArrowType).args[0]],
        _part(length, int),
        [None if buffer is None else pa.py_buffer(_bytes(buffer)) for buffer in buffers],
        offset=_part(offset, int),
    )
    array.validate(full=True)  # offsets beyond the text would read foreign memory
    return array


def _bytes(node: Any) -> bytes:
    if type(node) in (_Wrapped, _Encoded) and not node.args:
        return b""
    if type(node) is _Wrapped:
        return _bytes(*node.args)
    if type(node) is _Encoded:
        text, encoding = node.args
        if encoding != "latin1":
            raise _NotAFrameError(f"bytes are written as {encoding!r}")
        return _part(text, str).encode("latin1")
    return bytes(_part(node, bytes, bytearray))
