import builtins
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
from cascjax.importers.pickles import _ADMITTED, read_pickle_frame

FIXTURES = sorted((Path(__file__).parent / "data").glob("*.pkl"))


def refusal(path: Path, content: bytes) -> str:
    """The one line `content` is refused with."""
    path.write_bytes(content)
    with pytest.raises(CascjaxError) as caught:
        read_pickle_frame(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "frame.pkl"


# Genuine frames


def test_fixtures_are_there() -> None:
    assert len(FIXTURES) == 18


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_frames_of_every_pandas_are_the_same(path: Path) -> None:
    frame = read_pickle_frame(path)
    assert list(frame.columns[:6]) == [
        *("sample_id", "prompt", "eval_name"),
        *("acme/small", "acme/medium", "acme/large"),
    ]
    assert frame["sample_id"].tolist() == [
        *("quiz.1", "quiz.2", "sums.1", "code.1", "quiz.3", "quiz.1")
    ]
    assert frame["prompt"].iloc[1].endswith("“One word.”")
    scores = frame[["acme/small", "acme/medium", "acme/large"]].to_numpy()
    expected = [[0, 0, 1], [1, 0.5, 0.5], [1, 1, 1], [0, 1, 1], [np.nan] * 3, [0, 0, 1]]
    np.testing.assert_array_equal(scores, expected)
    np.testing.assert_allclose(frame["acme/large|total_cost"], np.arange(1, 7) / 1000)
    assert frame["acme/large|model_response"].isna().tolist() == [False] * 4 + [True, False]
    assert frame.index.tolist() == ([0, 1, 2, 5, 8, 9] if "protocol2" in path.stem else [*range(6)])


@pytest.mark.parametrize("protocol", range(2, 6))
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
        }
    )
    for rows in (frame, frame.iloc[::2], frame.iloc[:0], frame.set_index("text").iloc[:2]):
        rows.to_pickle(path, protocol=protocol)
        found = read_pickle_frame(path)
        pd.testing.assert_frame_equal(found, rows, check_dtype=False)
    fortran = pd.DataFrame(np.arange(6.0).reshape(2, 3, order="F"), columns=list("abc"))
    fortran.to_pickle(path, protocol=protocol)
    pd.testing.assert_frame_equal(read_pickle_frame(path), fortran)


def test_lists_of_answers_are_kept(path: Path) -> None:
    frame = pd.DataFrame({"answer": pd.Series([["a", "b"], "c", None], dtype=object)})
    frame.to_pickle(path)
    assert read_pickle_frame(path)["answer"].tolist()[:2] == [["a", "b"], "c"]


# Hostile pickles: each would, if run, do something to be seen


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


HOSTILE = {
    "os.system": (Call(os.system, "echo harm > harm"), "'posix.system'"),
    "eval": (Call(eval, "open('harm', 'w')"), "'builtins.eval'"),
    "exec": (Call(exec, "open('harm', 'w')"), "'builtins.exec'"),
    "open": (Call(open, "harm", "w"), "open'"),
    "getattr": (Call(getattr, Call(__import__, "os"), "system"), "'builtins.getattr'"),
    "import": (Call(__import__, "os"), "'builtins.__import__'"),
    "pickle.loads": (Call(pickle.loads, pickle.dumps(Call(os.system, "x"))), "loads'"),
    "pandas.read_pickle": (Call(pd.read_pickle, "other.pkl"), "read_pickle'"),
    "pandas.eval": (Call(pd.eval, "1 + 1"), "eval'"),
    "numpy.load": (Call(np.load, "other.npy", None, True), "load'"),
    "in a list": ([{"a": (Call(os.system, "echo harm > harm"),)}], "'posix.system'"),
    "in a frame": (
        pd.DataFrame({"a": pd.Series([Call(os.system, "echo harm > harm")], dtype=object)}),
        "'posix.system'",
    ),
    "own class": (Path("harm"), "PosixPath'"),
    "categories": (pd.DataFrame({"a": pd.Categorical(["x"])}), "Categorical"),
    "dates": (pd.DataFrame({"a": pd.to_datetime(["2024-01-01"])}), "DatetimeArray"),
}


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize(("content", "asked"), HOSTILE.values(), ids=HOSTILE.keys())
def test_what_is_no_part_of_a_frame_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int, content: Any, asked: str
) -> None:
    monkeypatch.chdir(path.parent)
    message = refusal(path, pickle.dumps(content, protocol))
    assert asked.replace("builtins", "__builtin__" if protocol == 2 else "builtins") in message
    assert os.listdir() == ["frame.pkl"]


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("pandas", "read_pickle"),
        ("pandas", "DataFrame.to_pickle"),
        ("pandas.core.frame", "DataFrame.eval"),
        ("pandas", "io.common.os.system"),
        ("numpy", "ndarray.tofile"),
        ("numpy", "dtype.__class__"),
        ("numpy", "lib.npyio.os.system"),
        ("builtins", "slice.__class__"),
        ("builtins", "bytearray.join"),
        ("copyreg", "_reconstructor"),
        ("copyreg", "__newobj__"),
        ("copy_reg", "_reconstructor"),
        ("functools", "partial"),
        ("operator", "attrgetter"),
        ("cascjax.importers.pickles", "_Node"),
        ("", ""),
        ("os\n\x1b[2J", "system\n"),
    ],
)
def test_dotted_and_odd_names_are_refused(path: Path, module: str, name: str) -> None:
    message = refusal(path, b"\x80\x04" + ask(module, name) + b".")
    assert repr(f"{module}.{name}") in message
    assert "\x1b" not in message


def test_the_old_opcodes_look_names_up_the_same_way(path: Path) -> None:
    for body in (b"cos\nsystem\n(S'echo'\ntR.", b"(S'echo'\nios\nsystem\n."):
        assert "'os.system'" in refusal(path, b"\x80\x02" + body)
    for body in (b"(cos\nsystem\nS'echo'\no.", b"cos\nsystem\n)\x81.", b"cos\nsystem\n)}\x92."):
        assert "'os.system'" in refusal(path, b"\x80\x04" + body)
    refusal(path, b"\x80\x04\x82\x01.")  # an extension code
    refusal(path, b"\x80\x04Pid\n.")  # a persistent id


def test_sizes_that_are_only_said_take_no_memory(path: Path) -> None:
    refusal(path, b"\x80\x04]r\xff\xff\xff\xff.")  # the memo
    for opcode in (b"\x95", b"\x96", b"\x8d", b"\x8e"):  # frame, bytearray, text and bytes
        for size in (1 << 36, 1 << 40, 1 << 63):
            refusal(path, b"\x80\x05" + opcode + struct.pack("<Q", size) + b"short")
    frame = unframed(pd.DataFrame([[1, 2]]))  # with a range of columns
    stop = b"stopq"
    at = frame.index(stop) + len(stop) + 1
    assert frame[at : at + 2] == b"K\x02"
    refusal(path, frame[:at] + b"\x8a\x06" + (1 << 40).to_bytes(6, "little") + frame[at + 2 :])


def test_no_admitted_name_is_more_than_a_record(path: Path) -> None:
    """Whatever a pickle does to the names it may use, it changes nothing and gets nothing."""
    harm = b"}" + text("args") + text("harm") + b"s"
    before = {node: dict(vars(node)) for node in _ADMITTED.values()}
    for module, name in _ADMITTED:
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
    assert before == {node: dict(vars(node)) for node in _ADMITTED.values()}
    genuine = {getattr(builtins, "slice"), np.ndarray, np.dtype, pd.DataFrame}  # noqa: B009
    assert not genuine & set(_ADMITTED.values())


def rewrite(content: bytes, old: bytes, new: bytes) -> bytes:
    assert content.count(old) >= 1
    return content.replace(old, new)


def unframed(frame: pd.DataFrame) -> bytes:
    """A pickle of protocol 3, without frames, so that its bytes may be edited."""
    return pickle.dumps(frame, 3)


def test_flags_of_a_dtype_do_not_turn_bytes_into_pointers(path: Path) -> None:
    """An object dtype without its flags has numpy take bytes for addresses of objects."""
    content = unframed(pd.DataFrame({"a": np.array([1, 2], np.int64)}))
    hostile = rewrite(content, b"i8", b"O8")
    assert "found bytes for list" in refusal(path, hostile)
    flags = b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t"
    assert flags in content
    honest = rewrite(content, flags, flags.replace(b"K\x00", b"K\x3f"))
    path.write_bytes(honest)
    assert read_pickle_frame(path)["a"].tolist() == [1, 2]


def test_sizes_that_lie_are_refused(path: Path) -> None:
    content = unframed(pd.DataFrame({"a": np.array([1, 2, 3], np.int64), "b": [0.5, 0.5, 0.5]}))
    assert b"K\x01K\x03\x86" in content
    for shape in (b"K\x01K\x04\x86", b"K\x02K\x03\x86", b"K\x01J\xff\xff\xff\xff\x86", b"NN\x86"):
        refusal(path, rewrite(content, b"K\x01K\x03\x86", shape))


def test_offsets_beyond_the_text_are_refused(path: Path) -> None:
    """Arrow trusts the offsets of a string column: wrong ones read foreign memory."""
    content = unframed(pd.DataFrame({"a": ["one", "two"]}))
    offsets = struct.pack("<3q", 0, 3, 6)
    for lie in ((0, 3, 1 << 40), (0, -(1 << 40), 6), (1 << 50, 3, 6)):
        refusal(path, rewrite(content, offsets, struct.pack("<3q", *lie)))


def test_what_is_no_frame_is_refused(path: Path) -> None:
    for value in (1, "text", [1, 2], {"a": 1}, np.arange(3), pd.Index([1]), None):
        assert "no data frame" in refusal(path, pickle.dumps(value))
    twice = pd.DataFrame([[1, 2]], columns=["a", "a"])
    assert "'a' is listed twice" in refusal(path, pickle.dumps(twice))
    deep = pd.DataFrame({"a": pd.Series([{"b": 1}], dtype=object)})
    assert "found dict" in refusal(path, pickle.dumps(deep))


def test_damaged_pickles_are_refused(path: Path) -> None:
    assert "not a pickle" in refusal(path, b"")
    assert "not a pickle" in refusal(path, b"sample_id,prompt\n")
    for fixture in FIXTURES[:: len(FIXTURES) // 5]:
        content = fixture.read_bytes()
        for length in np.linspace(1, len(content) - 1, 40).astype(int):
            refusal(path, content[:length])


def test_random_damage_never_raises_anything_else(path: Path) -> None:
    rng = np.random.default_rng(0)
    for fixture in FIXTURES[::2]:
        content = np.frombuffer(fixture.read_bytes(), np.uint8)
        for _ in range(30):
            damaged = content.copy()
            damaged[rng.integers(2, len(content), 3)] = rng.integers(256, size=3)
            path.write_bytes(damaged.tobytes())
            try:
                read_pickle_frame(path)
            except CascjaxError as error:
                assert "\n" not in str(error)  # noqa: PT017
