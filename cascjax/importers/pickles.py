"""Pickled pandas frames, read without running any of the code a pickle asks for.

A pickle is a program: it names functions and calls them. Admitting only functions of pandas and
numpy is not enough, because those trust their arguments: a numpy dtype with chosen flags turns
bytes into object pointers. So nothing that a pickle names is ever looked up or called. Each
admitted name becomes an inert node that records its arguments, any other name is refused, and the
columns are then built from the recorded parts, each checked.

The parts are those that pandas 1 to 3 and numpy 1 and 2 write for columns of numbers and text. The
row index of a frame is not read.
"""

import io
import os
import pickle
import struct
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from cascjax.data.files import sniff
from cascjax.errors import CascjaxError, one_line


class _Frozen(type):
    """Class of the node classes, which a pickle's BUILD cannot change."""

    def __setattr__(cls, name: str, value: object) -> None:
        raise TypeError("a part of a pickle cannot be changed")


class _Node(metaclass=_Frozen):
    """A name that a pickle calls: the arguments and the state it gives, and no behaviour."""

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


ADMITTED: dict[tuple[str, str], type[_Node]] = {}  # Node class by module and name


def _admit(kind: str, *names: str) -> type[_Node]:
    """Return a new node class that stands for the given dotted names."""
    node = _Frozen(kind, (_Node,), {"__slots__": ()})
    for name in names:
        module, _, attribute = name.rpartition(".")
        ADMITTED[module, attribute] = node
        if module == "builtins":  # its name before Python 3, which protocol 2 keeps
            ADMITTED["__builtin__", attribute] = node
    return node


# DataFrame(), state {"_mgr": manager}, or {"_data": manager}
_Frame = _admit("frame", "pandas.DataFrame", "pandas.core.frame.DataFrame")
# BlockManager(blocks, axes); before pandas 1.3 BlockManager(), state (axes, ...)
_Manager = _admit("block manager", "pandas.core.internals.managers.BlockManager")
# Block(values, placement, ndim)
_Block = _admit(
    "block",
    "pandas._libs.internals._unpickle_block",
    "pandas.core.internals.blocks.new_block",
)
# new(class, {"data": values, "name": name})
_Index = _admit("index", "pandas.core.indexes.base._new_Index")
_IndexClass = _admit("index class", "pandas.Index", "pandas.core.indexes.base.Index")
_admit(
    "other index class",  # of rows
    "pandas.RangeIndex",
    "pandas.core.indexes.range.RangeIndex",
    *(f"pandas.core.indexes.numeric.{kind}Index" for kind in ("Int64", "UInt64", "Float64")),
)
# _reconstruct(...), state (version, shape, dtype, is_fortran, data)
_Array = _admit(
    "array", "numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct"
)
# _frombuffer(buffer, dtype, shape, order)
_Buffer = _admit(
    "array of a buffer", "numpy.core.numeric._frombuffer", "numpy._core.numeric._frombuffer"
)
# scalar(dtype, bytes)
_Scalar = _admit("scalar", "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
# dtype(code, align, copy), state (version, byte order, ...)
_DType = _admit("dtype", "numpy.dtype")
# new(class, checksum, None), state with the array
_Strings = _admit("strings", "pandas._libs.arrays.__pyx_unpickle_NDArrayBacked")
# state {"_pa_array": array}
_ArrowStrings = _admit("Arrow strings", "pandas.arrays.ArrowStringArray")
# _restore_array((type, length, null count, offset, buffers, children, dictionary))
_ArrowArray = _admit("Arrow array", "pyarrow.lib._restore_array")
_ArrowType = _admit("Arrow type", "pyarrow.lib.type_for_alias")
# py_buffer(bytes), bytearray(bytes), and bytearray() if empty
_Wrapped = _admit("bytes", "pyarrow.lib.py_buffer", "builtins.bytearray")
# encode(text, "latin1"), as old protocols write bytes, and bytes() if empty
_Encoded = _admit("encoded bytes", "_codecs.encode", "builtins.bytes")
_Slice = _admit("slice", "builtins.slice")
_admit("class", "numpy.ndarray", "pandas.arrays.StringArray", "pandas.StringDtype")

_NUMBERS = frozenset(["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"])
_ARROW_STRINGS = {
    "string": pa.string(),
    "utf8": pa.string(),
    "large_string": pa.large_string(),
    "large_utf8": pa.large_string(),
}
_PLAIN = (str, bytes, int, float, bool, type(None))


def _load_bytearray8(unpickler: Any) -> None:
    # The standard library allocates the announced size before it reads.
    (size,) = struct.unpack("<Q", unpickler.read(8))
    unpickler.append(bytearray(unpickler.read(size)))


# The unpickler written in Python: the one in C allocates tens of gigabytes for a memo if five bytes
# of a damaged file say so. pandas' own reader of old pickles is built on this one too.
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
            return ADMITTED[module, name]
        except KeyError:
            raise CascjaxError(
                f"{self._source}: the pickle asks for {f'{module}.{name}'[:80]!r}, which is no part"
                " of a table of numbers and text and may do harm; save the table as parquet or csv"
                " on a machine where you trust it"
            ) from None


class _NotAFrameError(Exception):
    """The recorded parts do not make a frame."""


def read_pickled_columns(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read the columns of a pickled frame (protocol 2 or later), running none of its code."""
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
            f"cannot read {source}: the pickle is damaged ({type(error).__name__}); copy or write"
            " it again"
        ) from error
    try:
        return _columns(root)
    except _NotAFrameError as error:
        reason = str(error)
    except Exception as error:  # parts of a wrong shape, whatever numpy and pyarrow call it
        reason = f"its parts do not fit ({type(error).__name__})"
    raise CascjaxError(
        f"cannot read {source}: the pickle holds no data frame of numbers and text: {reason};"
        " save the table as parquet or csv"
    )


def _part(value: Any, *kinds: type) -> Any:
    """Return the value, if its type is one of these exactly."""
    if type(value) not in kinds:
        raise _NotAFrameError(f"found {type(value).__name__} for {kinds[0].__name__}")
    return value


def _columns(root: Any) -> dict[str, np.ndarray]:
    state = _part(_part(root, _Frame).state, dict)
    manager = _part(state["_mgr"] if "_mgr" in state else state.get("_data"), _Manager)
    if manager.args:
        blocks, axes = manager.args
        parts = [_part(block, _Block).args[:2] for block in blocks]
    else:  # pandas before 1.3
        content = _part(_part(manager.state, tuple)[3], dict)["0.14.1"]
        axes = content["axes"]
        parts = [(block["values"], block["mgr_locs"]) for block in content["blocks"]]
    kind, index = _part(axes[0], _Index).args
    if kind is not _IndexClass:
        raise _NotAFrameError("its columns have no names")
    names = [_part(name, str) for name in _values(_part(index, dict)["data"]).tolist()]
    if repeated := [name for i, name in enumerate(names) if name in names[:i]]:
        raise _NotAFrameError(f"column {repeated[0]!r} is listed twice")

    table: dict[int, np.ndarray] = {}
    for values, placement in parts:
        block = np.atleast_2d(_values(values))
        places = _places(placement, len(names))
        if len(places) != len(block):
            raise _NotAFrameError("a block does not fit its columns")
        for place, column in zip(places, block, strict=True):
            if place in table or not 0 <= place < len(names):
                raise _NotAFrameError("a block is in place of another or of none")
            table[place] = column
    if len(table) != len(names) or len({len(column) for column in table.values()}) > 1:
        raise _NotAFrameError("a column has no block, or another number of rows")
    return {name: table[place] for place, name in enumerate(names)}


def _places(node: Any, n_columns: int) -> list[int]:
    """Return the columns of a block: a slice, or an array of integers."""
    if type(node) is not _Slice:
        return [_part(place, int) for place in _values(node).tolist()]
    return list(
        range(*slice(*[_part(end, int, type(None)) for end in node.args]).indices(n_columns))
    )


def _values(node: Any) -> np.ndarray:
    """Return a numpy array, a numpy column of strings, or an Arrow column of strings."""
    if type(node) is _Strings:
        # (dtype, array) or (dtype, array, attributes), in the order of the version.
        arrays = [part for part in _part(node.state, tuple) if type(part) in (_Array, _Buffer)]
        return _array(arrays[0])
    if type(node) is _ArrowStrings:
        values = _arrow(_part(node.state, dict)["_pa_array"])
        return np.asarray(values.to_numpy(zero_copy_only=False), object)
    return _array(node)


def _array(node: Any) -> np.ndarray:
    if type(node) is _Buffer:
        data, kind, shape, order = node.args
        data, fortran = _bytes(data), order == "F"
    else:
        _, shape, kind, fortran, data = _part(_part(node, _Array).state, tuple)
    shape = tuple(_part(size, int) for size in _part(shape, tuple))
    if min(shape, default=0) < 0 or not 1 <= len(shape) <= 2:  # numpy would infer a size of -1
        raise _NotAFrameError(f"an array has the shape {shape}")
    dtype = _dtype(kind)
    if dtype.hasobject:
        objects = _part(data, list)
        values = np.fromiter(map(_object, objects), dtype=object, count=len(objects))
    else:
        values = np.frombuffer(_bytes(data), dtype).astype(dtype.newbyteorder("="), copy=False)
    return values.reshape(shape, order="F" if fortran else "C")


def _object(value: Any) -> Any:
    """Return text, a number, what is missing, or a list of them, as some logs hold answers."""
    if type(value) is _Scalar:
        kind, data = value.args
        return np.frombuffer(_bytes(data), _dtype(kind))[0]
    if type(value) in (list, tuple):
        return [_part(item, *_PLAIN) for item in value]
    return _part(value, *_PLAIN)


def _dtype(node: Any) -> np.dtype:
    """Return a dtype made from its code and byte order; the flags of the pickle are ignored."""
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
            raise _NotAFrameError(f"bytes are encoded as {encoding!r}")
        return _part(text, str).encode("latin1")
    return bytes(_part(node, bytes, bytearray))
