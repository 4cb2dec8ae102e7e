"""Pickled frames: what comes back, and that nothing a pickle asks for is run."""

import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cascjax.errors import CascjaxError
from cascjax.importers.pickles import ADMITTED, read_pickled_columns

FIXTURES = sorted((Path(__file__).parent / "data").glob("*.pkl"))
PROTOCOLS = pytest.mark.parametrize("protocol", range(2, 6))


def refusal(path: Path, content: bytes) -> str:
    """The one line that `content` is refused with."""
    path.write_bytes(content)
    with pytest.raises(CascjaxError) as caught:
        read_pickled_columns(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "frame.pkl"


def test_frames_of_every_pandas_are_the_same() -> None:
    assert len(FIXTURES) == 18
    for path in FIXTURES:
        columns = read_pickled_columns(path)
        models = ["acme/small", "acme/medium", "acme/large"]
        assert list(columns)[:6] == ["sample_id", "prompt", "eval_name", *models]
        ids = ["quiz.1", "quiz.2", "sums.1", "code.1", "quiz.3", "quiz.1"]
        assert columns["sample_id"].tolist() == ids
        assert columns["prompt"][1].endswith("“One word.”")
        scores = np.stack([columns[model] for model in models], 1)
        expected = [[0, 0, 1], [1, 0.5, 0.5], [1, 1, 1], [0, 1, 1], [np.nan] * 3, [0, 0, 1]]
        np.testing.assert_array_equal(scores, expected)
        np.testing.assert_allclose(columns["acme/large|total_cost"], np.arange(1, 7) / 1000)
        responses = pd.isna(columns["acme/large|model_response"]).tolist()
        assert responses == [False] * 4 + [True, False]


@PROTOCOLS
def test_what_the_installed_pandas_writes_comes_back(path: Path, protocol: int) -> None:
    frame = pd.DataFrame(
        {
            "text": ["a", "é", None],
            "double": [0.5, np.nan, -1],
            "single": np.array([1, 2, 3], np.float32),
            "count": np.array([1, 2, 3], np.int16),
            "flag": [True, False, True],
            "swapped": np.array([1, 2, 3], ">f8"),
            "mixed": pd.Series([np.float64(0.5), 1, "one"], dtype=object),
            "answers": pd.Series([["a", "b"], "c", None], dtype=object),
        }
    )
    fortran = pd.DataFrame(np.arange(6.0).reshape(2, 3, order="F"), columns=list("abc"))
    rows = (frame, frame.iloc[::2], frame.iloc[:0], frame.set_index("text").iloc[:2], fortran)
    for each in rows:
        each.to_pickle(path, protocol=protocol)
        columns = read_pickled_columns(path)
        assert list(columns) == list(each.columns)
        for name, column in columns.items():
            expected = each[name].to_numpy()
            if column.dtype != object:
                assert column.dtype == expected.dtype.newbyteorder("=")
                np.testing.assert_array_equal(column, expected)
            else:
                pairs = zip(column, expected, strict=True)
                assert all(a == b or (pd.isna(a) and pd.isna(b)) for a, b in pairs)


class Call:
    """Pickles as the call of a function."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


def text(value: str) -> bytes:
    return b"\x8c" + bytes([len(value)]) + value.encode()


def ask(module: str, name: str) -> bytes:
    """STACK_GLOBAL."""
    return text(module) + text(name) + b"\x93"


HARM = Call(os.system, "echo harm > harm")
HOSTILE = [
    (HARM, "'posix.system'"),
    (Call(eval, "open('harm', 'w')"), "'builtins.eval'"),
    (Call(exec, "open('harm', 'w')"), "'builtins.exec'"),
    (Call(open, "harm", "w"), "open'"),
    (Call(getattr, Call(__import__, "os"), "system"), "'builtins.getattr'"),
    (Call(__import__, "os"), "'builtins.__import__'"),
    (Call(pickle.loads, pickle.dumps(HARM)), "loads'"),
    (Call(pd.read_pickle, "other.pkl"), "read_pickle'"),
    (Call(pd.eval, "1 + 1"), "eval'"),
    (Call(np.load, "other.npy", None, True), "load'"),
    ([{"a": (HARM,)}], "'posix.system'"),
    (pd.DataFrame({"a": pd.Series([HARM], dtype=object)}), "'posix.system'"),
    (Path("harm"), "PosixPath'"),
    (pd.DataFrame({"a": pd.Categorical(["x"])}), "Categorical"),
    (pd.DataFrame({"a": pd.to_datetime(["2024-01-01"])}), "DatetimeArray"),
]


@PROTOCOLS
@pytest.mark.parametrize(("content", "asked"), HOSTILE)
def test_what_is_no_part_of_a_frame_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int, content: Any, asked: str
) -> None:
    monkeypatch.chdir(path.parent)
    message = refusal(path, pickle.dumps(content, protocol))
    assert asked.replace("builtins", "__builtin__" if protocol == 2 else "builtins") in message
    assert os.listdir() == ["frame.pkl"]


@pytest.mark.parametrize(
    "name",
    [
        "pandas/read_pickle", "pandas/DataFrame.to_pickle", "pandas.core.frame/DataFrame.eval",
        "pandas/io.common.os.system", "numpy/ndarray.tofile", "numpy/dtype.__class__",
        "numpy/lib.npyio.os.system", "builtins/slice.__class__", "builtins/bytearray.join",
        "copyreg/_reconstructor", "copyreg/__newobj__", "copy_reg/_reconstructor",
        "functools/partial", "operator/attrgetter", "cascjax.importers.pickles/_Node", "/",
        "os\n\x1b[2J/system\n",
    ],
)  # fmt: skip
def test_dotted_and_odd_names_are_refused(path: Path, name: str) -> None:
    module, attribute = name.split("/")
    message = refusal(path, b"\x80\x04" + ask(module, attribute) + b".")
    assert repr(f"{module}.{attribute}") in message
    assert "\x1b" not in message


def test_the_old_opcodes_look_names_up_the_same_way(path: Path) -> None:
    for body in (b"cos\nsystem\n(S'echo'\ntR.", b"(S'echo'\nios\nsystem\n."):
        assert "'os.system'" in refusal(path, b"\x80\x02" + body)
    for body in (b"(cos\nsystem\nS'echo'\no.", b"cos\nsystem\n)\x81.", b"cos\nsystem\n)}\x92."):
        assert "'os.system'" in refusal(path, b"\x80\x04" + body)
    refusal(path, b"\x80\x04\x82\x01.")  # an extension code
    refusal(path, b"\x80\x04Pid\n.")  # a persistent id


def test_announced_sizes_take_no_memory(path: Path) -> None:
    refusal(path, b"\x80\x04]r\xff\xff\xff\xff.")  # the memo
    for opcode in (b"\x95", b"\x96", b"\x8d", b"\x8e"):  # frame, bytearray, text and bytes
        for size in (1 << 36, 1 << 40, 1 << 63):
            refusal(path, b"\x80\x05" + opcode + struct.pack("<Q", size) + b"short")


def test_no_admitted_name_is_more_than_a_record(path: Path) -> None:
    """Whatever a pickle does to the names it may use, it changes nothing and gets nothing."""
    harm = b"}" + text("args") + text("harm") + b"s"
    before = {node: dict(vars(node)) for node in ADMITTED.values()}
    for module, name in ADMITTED:
        got = ask(module, name)
        for body in (
            got + harm + b"b.",  # state set on the class itself
            got + b"N" + harm + b"\x86b.",  # as slots
            got + b")R" + b"N" + harm + b"\x86b.",
            got + b"K\x01\x85R.",
            got + b"K\x01\x85\x81.",
            got + b")R)R.",  # calling what a call gave
            got + b")R(K\x01K\x02e.",  # appending to it
            got + b")R(K\x01K\x02u.",  # setting items of it
            got + b".",
        ):
            refusal(path, b"\x80\x04" + body)
    assert before == {node: dict(vars(node)) for node in ADMITTED.values()}
    assert not {slice, np.ndarray, np.dtype, pd.DataFrame} & set(ADMITTED.values())


def unframed(frame: pd.DataFrame) -> bytes:
    """A pickle of protocol 3, without frames, so that its bytes may be edited."""
    return pickle.dumps(frame, 3)


def rewrite(content: bytes, old: bytes, new: bytes) -> bytes:
    assert content.count(old) >= 1
    return content.replace(old, new)


def test_flags_of_a_dtype_do_not_turn_bytes_into_pointers(path: Path) -> None:
    """An object dtype without its flags has numpy take bytes for addresses of objects."""
    content = unframed(pd.DataFrame({"a": np.array([1, 2], np.int64)}))
    assert "found bytes for list" in refusal(path, rewrite(content, b"i8", b"O8"))
    flags = b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t"
    path.write_bytes(rewrite(content, flags, flags.replace(b"K\x00", b"K\x3f")))
    assert read_pickled_columns(path)["a"].tolist() == [1, 2]


def test_false_sizes_and_offsets_are_refused(path: Path) -> None:
    content = unframed(pd.DataFrame({"a": np.array([1, 2, 3], np.int64), "b": [0.5, 0.5, 0.5]}))
    for shape in (b"K\x01K\x04\x86", b"K\x02K\x03\x86", b"K\x01J\xff\xff\xff\xff\x86", b"NN\x86"):
        refusal(path, rewrite(content, b"K\x01K\x03\x86", shape))
    # Arrow trusts the offsets of a string column: false ones read foreign memory.
    content = unframed(pd.DataFrame({"a": ["one", "two"]}))
    offsets = struct.pack("<3q", 0, 3, 6)
    for false in ((0, 3, 1 << 40), (0, -(1 << 40), 6), (1 << 50, 3, 6)):
        refusal(path, rewrite(content, offsets, struct.pack("<3q", *false)))


def test_what_is_no_frame_is_refused(path: Path) -> None:
    for value in (1, "text", [1, 2], {"a": 1}, np.arange(3), pd.Index([1]), None):
        assert "no data frame" in refusal(path, pickle.dumps(value))
    twice = pd.DataFrame([[1, 2]], columns=["a", "a"])
    assert "'a' is listed twice" in refusal(path, pickle.dumps(twice))
    deep = pd.DataFrame({"a": pd.Series([{"b": 1}], dtype=object)})
    assert "found dict" in refusal(path, pickle.dumps(deep))
    assert "columns have no names" in refusal(path, pickle.dumps(pd.DataFrame([[1, 2]])))


def test_damaged_pickles_are_refused_or_read(path: Path) -> None:
    assert "not a pickle" in refusal(path, b"")
    assert "not a pickle" in refusal(path, b"sample_id,prompt\n")
    rng = np.random.default_rng(0)
    for fixture in FIXTURES[::2]:
        content = np.frombuffer(fixture.read_bytes(), np.uint8)
        for length in np.linspace(1, len(content) - 1, 25).astype(int):
            refusal(path, content[:length].tobytes())
        for _ in range(30):
            damaged = content.copy()
            damaged[rng.integers(2, len(content), 3)] = rng.integers(256, size=3)
            path.write_bytes(damaged.tobytes())
            try:
                read_pickled_columns(path)
            except CascjaxError as error:
                assert "\n" not in str(error)  # noqa: PT017
