"""Several processes over loopback: their results are those of one, and failures reach all."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from jax.experimental import multihost_utils

from cascjax import CascjaxError, Table, compare, evaluate, fit
from cascjax.engine.processes import ALONE, Processes, all_processes

from workers import BUDGET, CASES, environment, folder, free_port, numbers, table  # isort: skip

_ = (environment, folder, table)  # fixtures


def test_two_processes_of_two_devices_have_the_results_of_one(
    table: Table, folder: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    script, out, port = Path(__file__).with_name("workers.py"), tmp_path / "out.npz", free_port()
    several = [
        subprocess.Popen(
            [sys.executable, script, str(port), "2", str(process), str(folder), str(out)],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        for process in range(2)
    ]  # fmt: skip
    printed = [process.communicate()[0].decode() for process in several]
    assert [process.returncode for process in several] == [0, 0], printed
    results = np.load(out)
    assert results["devices"] == 2
    for name, arguments in CASES.items():
        source = folder if name == "sampled" else table  # in memory where the search is exact
        for key, expected in numbers(name, compare(source, **arguments)).items():
            np.testing.assert_allclose(results[key], expected, rtol=1e-6, atol=1e-12, err_msg=key)
    evaluation = evaluate(fit(table, "routing", budget=BUDGET), table, resamples=0)
    total = evaluation.total
    for name, mean in (("quality", total.quality), ("cost", total.cost[0])):
        value, low, high = results[f"evaluation/{name}"]
        assert value == pytest.approx(mean.value, rel=1e-6)
        assert low < value < high
    np.testing.assert_allclose(results["evaluation/ran"], evaluation.ran, rtol=1e-6)


def test_one_process_exchanges_with_itself() -> None:
    assert ALONE.share([1, 2, 3]) == [1, 2, 3]
    assert [Processes(i, 2).share(range(5)) for i in range(2)] == [[0, 2, 4], [1, 3]]
    assert ALONE.gather(np.array(3.5)).tolist() == [3.5]
    assert ALONE.broadcast(0, b"words") == b"words"
    assert ALONE.agree(lambda: 7) == 7

    def fails() -> None:
        raise CascjaxError("no")

    with pytest.raises(CascjaxError, match=r"^no$"):
        ALONE.agree(fails)


@pytest.mark.parametrize(
    ("error", "raised", "words"),
    [
        (ValueError("UNKNOWN: Gloo AllGather failed: Connection closed"), CascjaxError, "reached"),
        (ValueError("FAILED_PRECONDITION: Gloo"), CascjaxError, "reached"),
        (jax.errors.JaxRuntimeError("INTERNAL: NCCL"), CascjaxError, "reached"),
        (ValueError("Incompatible shapes: (2,) and (3,)"), ValueError, "shapes"),
    ],
)
def test_a_process_that_does_not_answer_is_one_line(
    error: Exception, raised: type[Exception], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JAX raises one kind of error where it waits, another while it dispatches."""

    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(multihost_utils, "process_allgather", fails)
    with pytest.raises(raised, match=words):
        Processes(0, 2).gather(np.zeros(3))
    monkeypatch.setattr(multihost_utils, "process_allgather", lambda sent: np.stack([sent, sent]))
    monkeypatch.setattr(multihost_utils, "broadcast_one_to_all", fails)
    with pytest.raises(raised, match=words):
        Processes(0, 2).broadcast(0, b"words")


class Room(Processes):
    """Processes whose messages are given."""

    said: list[np.ndarray]

    def gather(self, mine: np.ndarray) -> np.ndarray:
        return np.stack([mine if i == self.index else sent for i, sent in enumerate(self.said)])


def test_what_fails_in_one_fails_in_all() -> None:
    room = Room(0, 2)
    words = np.frombuffer(b"bad disk".ljust(1 << 10), np.uint8)
    object.__setattr__(room, "said", [words, words])
    with pytest.raises(CascjaxError, match="process 1 has stopped: bad disk"):
        room.agree(lambda: 1)
    object.__setattr__(room, "said", [np.zeros(4, np.uint8), np.ones(4, np.uint8)])
    with pytest.raises(CascjaxError, match="process 1 has other files than process 0"):
        room.check_same("files", b"\0\0\0\0")
    object.__setattr__(room, "said", [np.zeros(4, np.uint8)] * 2)
    room.check_same("files", b"\0\0\0\0")


def test_hosts_of_other_numbers_of_devices_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    devices = [SimpleNamespace(process_index=index) for index in (0, 0, 1, 1, 2)]
    monkeypatch.setattr(jax, "devices", lambda: devices)
    with pytest.raises(
        CascjaxError, match="process 2 has another number of devices, 1, than process 0, 2: let"
    ):
        all_processes()
