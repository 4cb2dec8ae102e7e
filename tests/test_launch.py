"""Commands in several processes: their places, interrupts, and one line when a process is lost."""

import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import click
import jax
import pytest
from click.testing import CliRunner

from cascjax import CascjaxError
from cascjax.cli import main
from cascjax.cli.launch import Place
from cascjax.cli.terminal import Program

from commands import heeded_interrupts, rows  # isort: skip
from workers import environment, folder, free_port, table  # isort: skip

_ = (environment, folder, heeded_interrupts, table)  # fixtures

CODE = "from cascjax.cli import main; main()"


# Places.

TORCHRUN = {"MASTER_ADDR": "m", "MASTER_PORT": "29", "RANK": "1", "WORLD_SIZE": "2"}
AGENT = {"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4", "TORCHELASTIC_USE_AGENT_STORE": "True"}


@pytest.mark.parametrize(
    ("place", "environment", "expected"),
    [
        (Place(True), {}, (None, None, None, None)),
        (Place(coordinator="h:1", processes=4, process=3), {"RANK": "0"}, ("h:1", 4, 3, None)),
        (Place(True), TORCHRUN, ("m:29", 2, 1, None)),
        (Place(True), TORCHRUN | AGENT, ("m:30", 2, 1, 1)),
        (
            Place(True, "h:9"),
            {"OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_SIZE": "3"},
            ("h:9", 3, 2, None),
        ),
        (
            Place(processes=2),
            {"JAX_COORDINATOR_ADDRESS": "h:9", "JOB_COMPLETION_INDEX": "1"},
            ("h:9", 2, 1, None),
        ),
        (Place(True), {"SLURM_PROCID": "1", "SLURM_NTASKS": "2"}, (None, None, None, None)),
        # A process that has its host for itself has all of its devices.
        (
            Place(True),
            {"SLURM_LOCALID": "0", "SLURM_STEP_TASKS_PER_NODE": "1(x12),1"},
            (None, None, None, None),
        ),
        (
            Place(True),
            {"SLURM_LOCALID": "3", "SLURM_STEP_TASKS_PER_NODE": "4(x2)"},
            (None, None, None, 3),
        ),
        # Bound to its own device by the launcher, it sees one device, number 0.
        (
            Place(True),
            {"SLURM_LOCALID": "3", "SLURM_STEP_TASKS_PER_NODE": "4", "CUDA_VISIBLE_DEVICES": "0"},
            (None, None, None, None),
        ),
        # MPICH in a Slurm job, whose variables are those of the first step.
        (
            Place(True, "h:9"),
            {
                "PMI_RANK": "2", "PMI_SIZE": "3", "SLURM_PROCID": "0", "SLURM_NTASKS": "8",
                "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "2", "CUDA_VISIBLE_DEVICES": "0,1",
            },
            ("h:9", 3, 2, 1),
        ),
    ],
)  # fmt: skip
def test_places(place: Place, environment: dict[str, str], expected: tuple) -> None:
    assert place.several
    found = place.resolve(environment)
    assert (found.coordinator, found.processes, found.process, found.device) == expected


@pytest.mark.parametrize(
    ("place", "environment", "words"),
    [
        (Place(processes=2, process=0), {}, "need --coordinator HOST:PORT"),
        (Place(coordinator="10.0.0.1"), {}, "give HOST:PORT"),
        (Place(coordinator="h:99999"), {}, "give HOST:PORT"),
        (Place(coordinator="h:1", processes=2), {}, "add --processes P and --process I"),
        (Place(coordinator="h:1", processes=2, process=2), {}, "give an index from 0 to 1"),
        (Place(coordinator="h:1", processes=2), {"RANK": "one"}, "RANK must be a number"),
        (Place(True), {"MASTER_ADDR": "m", "MASTER_PORT": "x"}, "MASTER_PORT must be a number"),
    ],
)
def test_places_that_are_refused(place: Place, environment: dict[str, str], words: str) -> None:
    with pytest.raises(CascjaxError, match=words):
        place.resolve(environment)


# Joining.


@pytest.mark.parametrize("taken", [False, True])
def test_refusals_are_one_line(environment: dict[str, str], tmp_path: Path, taken: bool) -> None:
    """Whatever is in the working folder, and although standard output is closed."""
    (tmp_path / "click.py").write_text("raise SystemExit(7)")
    (tmp_path / "logs").mkdir()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        if taken:
            other.listen()
        at = f"127.0.0.1:{other.getsockname()[1] if taken else free_port()}"
        command = [sys.executable, "-I", "-c", f"import sys; sys.path[:] = {sys.path!r}; {CODE}"]
        words = ["compare", "logs", "--out", "out", "--coordinator", at, "--process", "0"]
        done = subprocess.run(
            ["sh", "-c", '"$@" >&-', "sh", *command, *words, "--processes", "1", "--quiet"],
            cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True, timeout=120,
        )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    if taken:
        assert f"--coordinator {at}: process 0 cannot listen at that port" in done.stderr
        assert "choose another port" in done.stderr
    else:
        assert "cannot read logs: the folder has no files" in done.stderr
    assert not (tmp_path / "out").exists()


def test_an_unexpected_error_ends_a_process_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """At a normal exit, JAX would wait for the other processes."""

    @click.group(cls=Program)
    def group() -> None:
        pass

    def fails() -> None:
        raise ZeroDivisionError("unexpected")

    monkeypatch.setattr(Program, "get_command", lambda *_: click.Command("fails", callback=fails))

    class EndedError(BaseException):
        pass

    def end(code: int) -> None:
        raise EndedError(code)

    with pytest.raises(ZeroDivisionError):
        group(["fails"])
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(os, "_exit", end)
    with pytest.raises(EndedError, match="1"):
        group(["fails"])
    assert "ZeroDivisionError: unexpected" in capsys.readouterr().err


# Lost processes.


class Several:
    """A command in two processes."""

    def __init__(
        self, folder: Path, out: Path, environment: dict[str, str], *more: str, count: int = 2
    ) -> None:
        port, self.out = free_port(), out
        words = [
            "compare", str(folder), "--strategies", "mixing,routing", "--budgets", "4",
            *[w for w in ["--quiet"] if "--verbose" not in more], "--sample", "200",
            "--out", str(out), "--coordinator", f"127.0.0.1:{port}",
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

    def kept(self) -> int:
        try:
            return sum(name.endswith(".npz") for name in os.listdir(self.out / "checkpoint"))
        except FileNotFoundError:
            return 0

    @property
    def over(self) -> bool:
        return any(process.poll() is not None for process in self.each)


@pytest.mark.slow
def test_a_process_that_dies_stops_the_other_and_the_run_resumes(
    folder: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    several = Several(folder, out, environment)
    while not several.over and several.kept() < 2:
        time.sleep(0.01)
    several.each[0].kill()
    codes, (_, said) = several.ended()
    assert all(codes)
    assert re.search("another process of (this run has stopped|the job is lost)", said)
    assert "--resume" in said
    assert said.count("\n") == 1
    codes, said = Several(folder, out, environment, "--resume").ended()
    assert codes == [0, 0], said
    assert not (out / "checkpoint").exists()
    words = ["compare", str(folder), "--strategies", "mixing,routing", "--budgets", "4",
             "--sample", "200", "--out", str(tmp_path / "alone")]  # fmt: skip
    assert CliRunner().invoke(main, words).exit_code == 0
    for mine, yours in zip(rows(out), rows(tmp_path / "alone"), strict=True):
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


@pytest.mark.usefixtures("heeded_interrupts")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_process_that_waits_for_others_can_be_interrupted(
    folder: Path, environment: dict[str, str], tmp_path: Path, sent: int
) -> None:
    several = Several(folder, tmp_path / "out", environment, "--verbose", count=1)
    (process,) = several.each
    while "Waiting" not in process.stderr.readline():
        pass
    time.sleep(1)
    process.send_signal(sent)
    (code,), (said,) = several.ended()
    assert code == 130
    assert said.startswith("cascjax: interrupted; start all processes again")


@pytest.mark.slow
def test_twenty_deaths_lose_nothing(
    folder: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    """Each at a random moment, of the first or the second process."""
    chance, out = random.Random(7), tmp_path / "out"
    codes, said = Several(folder, tmp_path / "whole", environment).ended()
    assert codes == [0, 0], said
    whole, deaths = rows(tmp_path / "whole"), 0
    while deaths < 20:
        several = Several(folder, out, environment, "--resume")
        victim = several.each[chance.randrange(2)]
        wanted, later = several.kept() + chance.randrange(1, 7), chance.random() * 0.1
        while not several.over and several.kept() < wanted:
            time.sleep(0.005)
        time.sleep(later)
        if not several.over:
            victim.kill()
            deaths += 1
        killed = time.monotonic()
        codes, said = several.ended()
        assert time.monotonic() - killed < 60
        if (out / "frontier.parquet").exists():  # it was faster
            assert rows(out) == whole
            (out / "frontier.parquet").unlink()
        else:
            assert all(codes), said
    codes, said = Several(folder, out, environment, "--resume").ended()
    assert codes == [0, 0], said
    assert rows(out) == whole
    assert not (out / "checkpoint").exists()
