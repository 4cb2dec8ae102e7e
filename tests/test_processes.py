"""Several processes over loopback: they find what one finds, and none is lost in silence."""

import itertools
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TypeVar

import jax
import numpy as np
import pytest
from jax.experimental import multihost_utils

from cascjax import (
    CascjaxError,
    compare,
    evaluate,
    fit,
    synthetic,
)
from cascjax.data import write_table
from cascjax.data.table import Table
from cascjax.engine.processes import ALONE, Processes, all_processes

from workers import ASKED, BUDGET  # isort: skip

T = TypeVar("T")

K, N, FILES = 3, 4000, 5


@pytest.fixture(scope="module")
def table() -> Table:
    return synthetic.sample(synthetic.make_dataset(K, seed=1), 0, N)


@pytest.fixture(scope="module")
def folder(table: Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A piece a file: some for each process, and not as many."""
    folder = tmp_path_factory.mktemp("processes") / "parts"
    folder.mkdir()
    for i, (start, stop) in enumerate(itertools.pairwise(np.linspace(0, N, FILES + 1).astype(int))):
        write_table(
            folder / f"{i}.{'arrow' if i % 2 else 'parquet'}", table.take(np.arange(start, stop))
        )
    return folder


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return os.environ | {
        # Nearly all of the time is XLA's: the least of optimisation saves half of it.
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2"
        " --xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("cache")),
        "TMPDIR": str(tmp_path_factory.mktemp("logs")),  # of processes that are lost
    }


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


# What they find.


def test_two_processes_of_two_devices_find_what_one_finds(
    table: Table, folder: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    script, out, port = Path(__file__).with_name("workers.py"), tmp_path / "found.npz", free_port()
    several = [
        subprocess.Popen(
            [sys.executable, script, str(port), "2", str(process), str(folder), str(out)],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        for process in range(2)
    ]  # fmt: skip
    said = [process.communicate()[0].decode() for process in several]
    assert [process.returncode for process in several] == [0, 0], said
    found = np.load(out)
    assert found["devices"] == 2
    # In memory where the sample is all rows to fit on; else as one process streams it.
    alone = {
        "exact": compare(table, **ASKED["exact"]),
        "learned": compare(table, **ASKED["learned"]),
        "sampled": compare(folder, **ASKED["sampled"]),
    }
    for name, study in alone.items():
        for frontier in study.frontiers:
            for part in ("cost", "quality", "parameters", "gamma", "ran", "answered", "depth"):
                mine, yours = found[f"{name}/{frontier.strategy}/{part}"], getattr(frontier, part)
                # A mix of equal neighbours may be any; what it does may not.
                if part not in ("parameters", "gamma"):
                    np.testing.assert_allclose(mine, yours, rtol=1e-6, atol=1e-12)
    for frontier in alone["sampled"].frontiers:
        assert frontier.auc_samples is not None
        mine = found[f"sampled/{frontier.strategy}/resamples"]
        np.testing.assert_allclose(mine, frontier.auc_samples, rtol=1e-6)
    policy = fit(table, "routing", budget=BUDGET)
    evaluation = evaluate(policy, table, resamples=0)
    for name, mean in (("quality", evaluation.total.quality), ("cost", evaluation.total.cost[0])):
        mine, low, high = found[f"evaluation/{name}"]
        assert mine == pytest.approx(mean.value, rel=1e-6)
        assert low < mine < high
    np.testing.assert_allclose(found["evaluation/ran"], evaluation.ran, rtol=1e-6)


def test_one_process_tells_itself() -> None:
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
    "error",
    [
        ValueError("UNKNOWN: Gloo AllGather failed: Connection reset by peer"),
        jax.errors.JaxRuntimeError("UNKNOWN: Gloo all-reduce failed"),
    ],
)
def test_a_peer_that_is_gone_is_one_line(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """As JAX raises them in one whose peer was killed while it waited for it, or just before."""

    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(multihost_utils, "process_allgather", fails)
    with pytest.raises(CascjaxError, match="cannot be reached any more"):
        Processes(0, 2).gather(np.zeros(3))
    monkeypatch.setattr(multihost_utils, "process_allgather", lambda sent: np.stack([sent, sent]))
    monkeypatch.setattr(multihost_utils, "broadcast_one_to_all", fails)
    with pytest.raises(CascjaxError, match="cannot be reached any more"):
        Processes(0, 2).broadcast(0, b"words")


class Room(Processes):
    """Processes whose words are all known beforehand."""

    said: list[np.ndarray]

    def gather(self, mine: np.ndarray) -> np.ndarray:
        return np.stack([mine if i == self.index else of for i, of in enumerate(self.said)])


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


@pytest.mark.parametrize(
    ("error", "raised", "words"),
    [
        (ValueError("UNKNOWN: Gloo AllGather failed: Connection closed"), CascjaxError, "reached"),
        (ValueError("FAILED_PRECONDITION: Gloo"), CascjaxError, "reached"),
        (jax.errors.JaxRuntimeError("INTERNAL: NCCL"), CascjaxError, "reached"),
        (ValueError("Incompatible shapes: (2,) and (3,)"), ValueError, "shapes"),
    ],
)
def test_a_peer_that_does_not_answer_is_told_from_a_fault(
    error: Exception, raised: type[Exception], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JAX raises one kind where it waits for what was told, another while it tells."""

    def fails(*told: object) -> None:
        raise error

    monkeypatch.setattr(multihost_utils, "process_allgather", fails)
    with pytest.raises(raised, match=words):
        Processes(0, 2).gather(np.zeros(1))


def test_hosts_of_other_numbers_of_devices_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = [SimpleNamespace(process_index=index) for index in (0, 0, 1, 1, 2)]
    monkeypatch.setattr(jax, "devices", lambda: seen)
    with pytest.raises(
        CascjaxError, match="process 2 has another number of devices, 1, than process 0, 2: let"
    ):
        all_processes()
