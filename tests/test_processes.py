"""Several processes over loopback: they find what one finds, and none is lost in silence."""

import itertools
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TypeVar

import click
import jax
import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from jax.experimental import multihost_utils

from cascjax import (
    CascjaxError,
    RunOptions,
    compare,
    evaluate,
    fit,
    synthetic,
)
from cascjax.cli.main import main
from cascjax.cli.terminal import OneLineErrors
from cascjax.data import write_table
from cascjax.data.source import open_files
from cascjax.data.table import Table
from cascjax.engine import launch, run
from cascjax.engine.launch import Asked, Place, place
from cascjax.engine.processes import ALONE, Processes, all_processes
from cascjax.engine.run import Run

from workers import ASKED, BUDGET  # isort: skip

T = TypeVar("T")

K, N, FILES = 3, 4000, 5

CODE = "from cascjax.cli.main import main; main()"


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
    assert ALONE.tell(0, b"words") == b"words"
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
        Processes(0, 2).tell(0, b"words")


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
        room.check_alike("files", b"\0\0\0\0")
    object.__setattr__(room, "said", [np.zeros(4, np.uint8)] * 2)
    room.check_alike("files", b"\0\0\0\0")


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


def test_parts_come_in_order_whoever_did_them() -> None:
    done: list[int] = []

    def do(places: Sequence[int]) -> Generator[tuple[int, np.ndarray], None, None]:
        for part in places[::-1]:
            done.append(part)
            yield part, np.array([part, 0.1 + part])

    found = [part[0] for part in Run().each("x", list("abcd"), [1, 1, 1, 1], do)]
    assert found == [0, 1, 2, 3]
    assert done == [3, 2, 1, 0]


# Who they are.


@pytest.mark.parametrize(
    ("asked", "environment", "found"),
    [
        (Asked(True), {}, Place(None, None, None)),
        (Asked(coordinator="h:1", processes=4, process=3), {"RANK": "0"}, Place("h:1", 4, 3)),
        (
            Asked(True),
            {"MASTER_ADDR": "m", "MASTER_PORT": "29", "RANK": "1", "WORLD_SIZE": "2"},
            Place("m:29", 2, 1),
        ),
        (
            Asked(True),
            {
                "MASTER_ADDR": "m", "MASTER_PORT": "29", "RANK": "5", "WORLD_SIZE": "8",
                "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4", "TORCHELASTIC_USE_AGENT_STORE": "True",
            },
            Place("m:30", 8, 5, 1),
        ),
        (
            Asked(True, "h:9"),
            {"OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_SIZE": "3"},
            Place("h:9", 3, 2),
        ),
        (Asked(processes=2), {"JAX_COORDINATOR_ADDRESS": "h:9", "JOB_COMPLETION_INDEX": "1"},
         Place("h:9", 2, 1)),
        (Asked(True), {"SLURM_PROCID": "1", "SLURM_NTASKS": "2"}, Place(None, None, None)),
        # A process that has its host for itself has all of its devices.
        (Asked(True), {"SLURM_LOCALID": "0", "SLURM_STEP_TASKS_PER_NODE": "1(x12),1"},
         Place(None, None, None)),
        (Asked(True), {"SLURM_LOCALID": "3", "SLURM_STEP_TASKS_PER_NODE": "4(x2)"},
         Place(None, None, None, 3)),
        # Bound to its own by the launcher, it sees one, whose number is 0.
        (
            Asked(True),
            {"SLURM_LOCALID": "3", "SLURM_STEP_TASKS_PER_NODE": "4", "CUDA_VISIBLE_DEVICES": "0"},
            Place(None, None, None),
        ),
        # MPICH in a Slurm job, whose variables are those of the job's first step.
        (
            Asked(True, "h:9"),
            {
                "PMI_RANK": "2", "PMI_SIZE": "3", "SLURM_PROCID": "0", "SLURM_NTASKS": "8",
                "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "2", "CUDA_VISIBLE_DEVICES": "0,1",
            },
            Place("h:9", 3, 2, 1),
        ),
    ],
)  # fmt: skip
def test_places(asked: Asked, environment: dict[str, str], found: Place) -> None:
    assert asked.several
    assert place(asked, environment) == found


@pytest.mark.parametrize(
    ("asked", "environment", "words"),
    [
        (Asked(processes=2, process=0), {}, "need --coordinator HOST:PORT"),
        (Asked(coordinator="10.0.0.1"), {}, "give HOST:PORT"),
        (Asked(coordinator="h:99999"), {}, "give HOST:PORT"),
        (Asked(coordinator="h:1", processes=2), {}, "give --processes P and --process I"),
        (Asked(coordinator="h:1", processes=2, process=2), {}, "give one of 0 to 1"),
        (Asked(coordinator="h:1", processes=2), {"RANK": "one"}, "RANK is 'one', and no number"),
        (Asked(True), {"MASTER_ADDR": "m", "MASTER_PORT": "x"}, "MASTER_PORT is 'x', and no"),
    ],
)
def test_places_that_cannot_be(asked: Asked, environment: dict[str, str], words: str) -> None:
    with pytest.raises(CascjaxError, match=words):
        place(asked, environment)


@pytest.mark.parametrize("words", [["--distributed"], ["--process", "0"]])
def test_one_table_needs_no_processes(table: Table, tmp_path: Path, words: list[str]) -> None:
    write_table(tmp_path / "one.arrow", table)
    command = ["frontier", str(tmp_path / "one.arrow"), "--out", str(tmp_path / "out")]
    found = CliRunner().invoke(main, [*command, *words])
    assert found.exit_code == 2
    assert f"{words[0]} is of a folder" in found.stderr
    command[1] = str(tmp_path / "none")
    found = CliRunner().invoke(main, [*command, *words])
    assert f"cannot read {command[1]}: there is no such file or folder" in found.stderr


def test_hosts_of_other_numbers_of_devices_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = [SimpleNamespace(process_index=index) for index in (0, 0, 1, 1, 2)]
    monkeypatch.setattr(jax, "devices", lambda: seen)
    with pytest.raises(
        CascjaxError, match="process 2 has another number of devices, 1, than process 0, 2: let"
    ):
        all_processes()


def test_processes_that_would_wait_for_different_words_are_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would each wait for ever: a ledger in one of them, pieces of another size."""
    asked: list[list[bytes]] = []

    class Heard(Processes):
        def check_alike(self, what: str, digest: bytes) -> None:
            asked[-1].append(digest)

        def tell(self, teller: int, words: bytes | None) -> bytes:
            return words or b""

        def agree(self, do: Callable[[], T]) -> T:
            return do()

    monkeypatch.setattr(run, "all_processes", lambda: Heard(0, 2))
    kept = RunOptions(tmp_path / "kept")
    for options, rows in (
        (RunOptions(), None),
        (RunOptions(), None),
        (kept, None),
        (RunOptions(), 9),
    ):
        asked.append([])
        Run.start(options, open_files(folder, chunk_rows=rows), {}, {})
    assert asked[0] == asked[1]
    assert len({tuple(of) for of in asked}) == 3


# One that is watched.

WATCH = """
from pathlib import Path
from cascjax.engine import launch
launch._CODE = {code!r}
launch._GRACE = 1
launch._watch(launch.Place("h:1", 2, 0), 1, [], Path("."))
"""

WORKER = """
import os, time
def say(words): os.write(int(os.environ["CASCJAX_WORKER"].split(",")[3]), words)
time.sleep(0.3)  # the other one listens by now
try: say(b"here "); time.sleep(2)
except KeyboardInterrupt: say(b"cleared up "); os._exit(130)
say(b"done ")
"""


@pytest.mark.parametrize(
    ("ignored", "sent", "code", "words"),
    [
        # Started with nohup, it outlives the terminal.
        (True, signal.SIGHUP, 0, "here done "),
        # JAX takes SIGTERM for a notice, and a worker would be killed before it has cleared up.
        (False, signal.SIGTERM, 130, "here cleared up "),
        (False, signal.SIGHUP, 130, "here cleared up "),
    ],
)
def test_signals_are_passed_on(ignored: bool, sent: int, code: int, words: str) -> None:
    # Not as these tests were started themselves.
    handler = "SIG_IGN" if ignored else "SIG_DFL"
    watch = f"import signal; signal.signal({sent}, signal.{handler})\n"
    command = [sys.executable, "-c", watch + WATCH.format(code=f"exec({WORKER!r})")]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as watcher:
        assert watcher.stderr is not None
        said = os.read(watcher.stderr.fileno(), 5)
        watcher.send_signal(sent)
        said += watcher.stderr.read()
    assert (watcher.returncode, said.decode()) == (code, words)


def test_a_worker_is_the_command_that_was_typed(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """Whatever stands in the folder it is typed in, and though nobody reads what it says."""
    (tmp_path / "click.py").write_text("raise SystemExit(7)")
    (tmp_path / "logs").mkdir()
    command = [sys.executable, "-I", "-c", f"import sys; sys.path[:] = {sys.path!r}; {CODE}"]
    words = ["frontier", "logs", "--out", "out", "--coordinator", f"127.0.0.1:{free_port()}",
             "--processes", "1", "--process", "0"]  # fmt: skip
    found = subprocess.run(
        ["sh", "-c", '"$@" >&-', "sh", *command, *words],
        cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True, timeout=120,
    )  # fmt: skip
    assert found.returncode == 2
    assert "cannot read logs: the folder has no files" in found.stderr
    assert found.stderr.count("\n") == 1


def test_a_fault_of_ours_ends_a_worker_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """JAX would keep it, and all others with it, until it has waited for them in vain."""

    @click.group(cls=OneLineErrors)
    def group() -> None:
        pass

    @group.command()
    def fails() -> None:
        raise ZeroDivisionError("ours")

    class Ended(BaseException):
        pass

    def end(code: int) -> None:
        raise Ended(code)

    with pytest.raises(ZeroDivisionError):
        group(["fails"])
    monkeypatch.setenv(launch._WORKER, "3,4,5,6")
    monkeypatch.setattr(os, "_exit", end)
    with pytest.raises(Ended, match="1"):
        group(["fails"])
    assert "ZeroDivisionError: ours" in capsys.readouterr().err


# One that is lost.


class Several:
    """A command in two processes."""

    def __init__(
        self, folder: Path, out: Path, environment: dict[str, str], *more: str, count: int = 2
    ) -> None:
        port, self.out = free_port(), out
        words = [
            "frontier", str(folder), "--strategies", "mixing,routing", "--budgets", "4",
            "--sample", "200", "--out", str(out), "--coordinator", f"127.0.0.1:{port}",
            "--processes", "2", *more,
        ]  # fmt: skip
        self.each = [
            subprocess.Popen(
                [sys.executable, "-c", CODE, *words, "--process", str(process)],
                env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            )
            for process in range(count)
        ]  # fmt: skip

    def ended(self) -> tuple[list[int], list[str]]:
        said = [process.communicate(timeout=120)[1] for process in self.each]
        return [process.returncode for process in self.each], said

    def worker(self, process: int) -> int:
        """The process that works for one of them; 0 where it has none yet, or any more."""
        pid = self.each[process].pid
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except OSError:
            return 0
        return int(children[0]) if children else 0

    def kept(self) -> int:
        try:
            return sum(name.endswith(".parquet") for name in os.listdir(self.out / "journal"))
        except FileNotFoundError:  # not there yet, or any more
            return 0

    @property
    def over(self) -> bool:
        return any(process.poll() is not None for process in self.each)


def points(out: Path) -> list[dict]:
    return pq.read_table(out / "frontier.parquet").to_pylist()


@pytest.mark.slow
def test_a_process_that_dies_stops_the_other_and_the_run_goes_on(
    folder: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    several = Several(folder, out, environment)
    while not several.over and several.kept() < 2:
        time.sleep(0.01)
    os.kill(several.worker(0), signal.SIGKILL)
    codes, (first, second) = several.ended()
    assert all(codes)
    assert "process 0 of 2 was ended by SIGKILL" in first
    assert "another process of this run" in second
    for said in (first, second):
        assert "start all of them again with --resume" in said or "go on with --resume" in said
        assert said.count("\n") == 1
    codes, said = Several(folder, out, environment, "--resume").ended()
    assert codes == [0, 0], said
    assert not (out / "journal").exists()
    words = ["frontier", str(folder), "--strategies", "mixing,routing", "--budgets", "4",
             "--sample", "200", "--out", str(tmp_path / "alone")]  # fmt: skip
    assert CliRunner().invoke(main, words).exit_code == 0
    for mine, yours in zip(points(out), points(tmp_path / "alone"), strict=True):
        assert mine["strategy"] == yours["strategy"]
        assert mine["parameters"] == pytest.approx(yours["parameters"], rel=1e-6)
        for name in ("cost", "quality", "fit_cost", "fit_quality"):
            assert mine[name] == pytest.approx(yours[name], rel=1e-6)


def test_a_coordinator_that_never_answers_is_named(
    folder: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    several = Several(folder, tmp_path / "out", environment, "--wait", "3", count=1)
    (code,), (said,) = several.ended()
    assert code == 1
    assert "process 0 of 2 waited 3 s at 127.0.0.1:" in said
    assert said.count("\n") == 1


def test_a_port_that_another_listens_at_is_named(folder: Path, tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        at = f"127.0.0.1:{other.getsockname()[1]}"
        words = ["frontier", str(folder), "--out", str(tmp_path / "out"), "--coordinator", at]
        found = subprocess.run(
            [sys.executable, "-c", CODE, *words, "--processes", "2", "--process", "0"],
            env=os.environ | {"TMPDIR": str(tmp_path)}, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
    assert found.returncode == 2
    assert f"--coordinator {at}: process 0 cannot listen" in found.stderr
    assert "name another port" in found.stderr
    assert found.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_twenty_deaths_lose_nothing(
    folder: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    """Each at a moment of chance, of a worker or of who watches it, in the first or the second."""
    chance, out = random.Random(7), tmp_path / "out"
    codes, said = Several(folder, tmp_path / "whole", environment).ended()
    assert codes == [0, 0], said
    whole, deaths = points(tmp_path / "whole"), 0
    while deaths < 20:
        several = Several(folder, out, environment, "--resume")
        victim, watcher = chance.randrange(2), chance.random() < 0.3
        # Once so many parts more are kept, and a little later.
        wanted, later = several.kept() + chance.randrange(1, 7), chance.random() * 0.1
        while not several.over and several.kept() < wanted:
            time.sleep(0.005)
        time.sleep(later)
        pid = several.each[victim].pid if watcher else several.worker(victim)
        if not several.over and pid:
            os.kill(pid, signal.SIGKILL)
            deaths += 1
        killed = time.monotonic()
        codes, said = several.ended()
        assert time.monotonic() - killed < 60
        if (out / "frontier.parquet").exists():  # it was faster
            assert points(out) == whole
            (out / "frontier.parquet").unlink()
        else:
            assert all(codes), said
    codes, said = Several(folder, out, environment, "--resume").ended()
    assert codes == [0, 0], said
    assert points(out) == whole
    assert not (out / "journal").exists()
