"""One command in several processes: who they are, and what is said when one of them is lost.

JAX ends a process at once, with a dump, when a peer is lost or never comes. So the command that was
typed starts itself again as a worker, waits for it, and says in one line what became of it. It
holds a pipe to the worker: whichever of the two is killed, the other one ends.
"""

import os
import re
import select
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import click

from cascjax.errors import CascjaxError

WAIT = 300
"""Seconds that processes wait for each other at the start."""

_HEARTBEAT = 30
"""Seconds after which a process that gives no sign of life is taken for lost."""

_PATIENCE = 10
"""Seconds after which a process that still waits for others says so."""

_GRACE = 10
"""Seconds that a worker is given to end after an interrupt: it may be waiting for another."""

_WORKER = "CASCJAX_WORKER"
_CODE = "from cascjax.cli.main import main; main()"
_PEER_LOST = b"JAX distributed service detected fatal errors"

# In this order: an mpirun in a Slurm job leaves the job's own variables in place.
_INDEX = ("RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID", "JOB_COMPLETION_INDEX")
_COUNT = ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_NTASKS")
_ON_HOST = {
    "LOCAL_WORLD_SIZE": "LOCAL_RANK",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "OMPI_COMM_WORLD_LOCAL_RANK",
    "MPI_LOCALNRANKS": "MPI_LOCALRANKID",
    "SLURM_STEP_TASKS_PER_NODE": "SLURM_LOCALID",
}
"""How many processes a host has, of Slurm as in 4(x2),1; and which of them this one is."""
_VISIBLE = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")


@dataclass(frozen=True)
class Asked:
    """What is said of the processes on the command line.

    Attributes:
        distributed: whether to be one of several.
        coordinator: host and port that process 0 listens at, and the others look for it.
        processes: how many.
        process: which this one is.
        wait: seconds that they wait for each other at the start.
    """

    distributed: bool = False
    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None
    wait: int = WAIT

    @property
    def several(self) -> bool:
        """Whether this command is one of several processes."""
        return any(of is not None and of is not False for of in self.places.values())

    @property
    def places(self) -> dict[str, bool | str | int | None]:
        """What says so, by option."""
        return {
            "distributed": self.distributed,
            "coordinator": self.coordinator,
            "processes": self.processes,
            "process": self.process,
        }


@dataclass(frozen=True)
class Place:
    """Where a process stands among the others; None is for JAX to find out of its launcher.

    Attributes:
        coordinator: host and port of process 0.
        processes: how many.
        process: which.
        device: the one accelerator it is to use; None for all that it sees.
    """

    coordinator: str | None
    processes: int | None
    process: int | None
    device: int | None = None

    @property
    def name(self) -> str:
        """The process in words."""
        if self.process is None or self.processes is None:
            return "this process"
        return f"process {self.process} of {self.processes}"


def place(asked: Asked, environment: Mapping[str, str]) -> Place:
    """Where this process stands, by what was typed, or else by its launcher's variables.

    Raises:
        CascjaxError: they say too little, or what cannot be.
    """
    coordinator = asked.coordinator or environment.get("JAX_COORDINATOR_ADDRESS")
    if coordinator is None and "MASTER_ADDR" in environment and "MASTER_PORT" in environment:
        # The launcher itself may listen there.
        taken = environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        port = _number(environment, "MASTER_PORT")
        coordinator = f"{environment['MASTER_ADDR']}:{port and port + taken}"
    if coordinator is None:
        if asked.processes is not None or asked.process is not None:
            raise CascjaxError("--processes and --process need --coordinator HOST:PORT")
        return Place(None, None, None, _device(environment))
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise CascjaxError(f"--coordinator {coordinator!r}: give HOST:PORT, as in 10.0.0.1:9876")
    processes = _number(environment, *_COUNT) if asked.processes is None else asked.processes
    process = _number(environment, *_INDEX) if asked.process is None else asked.process
    if processes is None or process is None:
        raise CascjaxError(
            f"--coordinator {coordinator}: give --processes P and --process I as well, from 0, or"
            " start all with srun, mpirun or torchrun"
        )
    if not 0 <= process < processes:
        raise CascjaxError(f"--process {process}: of {processes} give one of 0 to {processes - 1}")
    return Place(coordinator, processes, process, _device(environment))


def _device(environment: Mapping[str, str]) -> int | None:
    """The accelerator of a process that its launcher started beside others on the same host."""
    if any("," not in environment[name] for name in _VISIBLE if name in environment):
        return None  # It sees its own alone.
    count = next((name for name in _ON_HOST if name in environment), None)
    if count is None or set(re.findall(r"(?:^|,)(\d+)", environment[count])) <= {"1"}:
        return None
    return _number(environment, _ON_HOST[count])


def _number(environment: Mapping[str, str], *names: str) -> int | None:
    """What the first of these variables that is there says."""
    for name in names:
        if (found := environment.get(name)) is not None:
            if not found.isdecimal():
                raise CascjaxError(f"the launcher's variable {name} is {found!r}, and no number")
            return int(found)
    return None


def enter(asked: Asked, command: str, kept: Path) -> bool:
    """Makes this process one of several; returns in the worker alone, once all are there.

    Args:
        asked: what was typed of the processes.
        command: the whole command as it was typed.
        kept: where what is done is kept, to be named where a process is lost.

    Returns:
        Whether it is the one that speaks for all.

    Raises:
        CascjaxError: what `place` refuses, or the others cannot be reached.
    """
    if not asked.several:
        return True
    where = place(asked, os.environ)
    if _WORKER not in os.environ:
        _watch(where, asked.wait, shlex.split(command)[1:], kept)
    return _connect(where, asked.wait)


def leave(code: int, error: Exception | None = None) -> None:
    """Ends a worker that failed at once: JAX would wait for the others, and end in a dump.

    Args:
        code: what it ends with; nothing is done where that is 0.
        error: what nobody foresaw, to be told whole.
    """
    if _WORKER in os.environ and code:
        if error is not None:
            traceback.print_exception(error)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _watch(where: Place, wait: int, arguments: list[str], kept: Path) -> NoReturn:
    """Runs the worker to its end, says what became of it, and exits as it did."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:  # closed: what is opened next would be taken for it
            os.open(os.devnull, os.O_RDWR)
    died, alive = os.pipe()
    news, told = os.pipe()
    out, err = os.dup(1), os.dup(2)
    # JAX's own words go to a file without a name, so that none is left whatever happens: of most of
    # them nothing need be said.
    log = tempfile.TemporaryFile()  # noqa: SIM115
    passed = (died, told, out, err)
    # Modules are found where this process finds them, not in the folder it stands in.
    program = f"import sys; sys.path[:] = {sys.path!r}; {_CODE}"
    with subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        env=os.environ | {_WORKER: ",".join(map(str, passed))},
        stdout=log,
        stderr=log,
        pass_fds=passed,
        process_group=0,
    ) as worker:
        for fd in passed:
            os.close(fd)
        interrupted = threading.Event()

        def connected() -> bool:
            return bool(select.select([news], [], [], 0)[0])

        def pass_on(number: int, frame: object) -> None:
            interrupted.set()
            # Whichever it was: JAX takes SIGTERM for a notice, and goes on.
            worker.send_signal(signal.SIGINT)
            # Before the others are there it has nothing to put in order, and JAX does not listen.
            threading.Timer(_GRACE if connected() else 1, worker.kill).start()

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN:  # as of nohup
                signal.signal(number, pass_on)
        try:
            code = worker.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            if wait > _PATIENCE and not connected():
                at = where.coordinator or "the coordinator"
                click.echo(f"Waiting {wait} s at {at} for the other processes (--wait)", err=True)
            code = worker.wait()
    os.close(alive)
    joined = bool(os.read(news, 1))
    if code >= 0 or interrupted.is_set():
        if code < 0:
            click.echo(f"cascjax: interrupted; {_kept(kept)}", err=True)
        # Without handlers of Python's at its end: timers of the grace may still wait.
        os._exit(code if code >= 0 else 130)
    log.seek(0)
    words = log.read()
    with tempfile.NamedTemporaryFile(prefix="cascjax-", suffix=".log", delete=False) as named:
        named.write(words)
    lost = _PEER_LOST in words
    if lost and not joined:
        why = (
            f"waited {wait} s at {where.coordinator or 'the coordinator'} for the other processes,"
            " of which not all came: start every one of them, with the same --coordinator and"
            " --processes, and see that they can reach it"
        )
    elif lost:
        why = f"stopped, for another process of this run is lost; {_kept(kept)}"
    else:
        name = signal.Signals(-code).name
        memory = ", as the system does where memory runs out" if name == "SIGKILL" else ""
        why = f"was ended by {name}{memory}; {_kept(kept)}"
    click.echo(f"cascjax: {where.name} {why} (JAX's own words are in {named.name})", err=True)
    sys.exit(1)


def _kept(kept: Path) -> str:
    if any(kept.glob("*.parquet")):
        return f"what is done is kept in {kept}: start all of them again with --resume"
    return "nothing was done yet: start all of them again"


def _connect(where: Place, wait: int) -> bool:
    """Joins the others, in the worker; whether it is the first of them."""
    died, told, out, err = map(int, os.environ[_WORKER].split(","))
    for fd in (died, told, out, err):
        os.set_inheritable(fd, False)
    sys.stdout, sys.stderr = (os.fdopen(fd, "w", buffering=1) for fd in (out, err))
    threading.Thread(target=_end_with, args=(died,), daemon=True).start()
    # Even where it was ignored: it comes from the one that watches alone.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if where.process == 0 and where.coordinator is not None:
        _check_free(where.coordinator)
    import jax

    # Of None JAX would make, under some launchers, one device of many.
    devices = [] if where.device is None else [where.device]
    if "JAX_LOCAL_DEVICE_IDS" in os.environ:
        devices = None
    try:
        jax.distributed.initialize(
            where.coordinator,
            where.processes,
            where.process,
            devices,
            initialization_timeout=wait,
            heartbeat_timeout_seconds=_HEARTBEAT,
        )
    except (ValueError, RuntimeError, OSError) as error:
        if where.coordinator is None:
            raise CascjaxError(
                "--distributed: nothing says which processes there are; give --coordinator"
                " HOST:PORT --processes P --process I, or start all with srun, mpirun or torchrun"
                f" ({_first_line(error)})"
            ) from error
        raise CascjaxError(
            f"{where.name} cannot be one of several at {where.coordinator}: {_first_line(error)}"
        ) from error
    os.write(told, b".")
    return jax.process_index() == 0


def _check_free(coordinator: str) -> None:
    """Refuses a port that JAX could not listen at: it would crash there, or share it in silence.

    Raises:
        CascjaxError: another program listens there, or this one may not.
    """
    if "JAX_COORDINATOR_BIND_ADDRESS" in os.environ:
        return  # JAX listens elsewhere
    with socket.socket() as tried:
        # A port of a run that has just ended is free.
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(("", int(coordinator.rpartition(":")[2])))
            tried.listen()
        except OSError as error:
            raise CascjaxError(
                f"--coordinator {coordinator}: process 0 cannot listen at that port"
                f" ({error.strerror}); name another port, in every process"
            ) from error


def _end_with(died: int) -> None:
    """Ends this process when the one that watches it is gone."""
    os.read(died, 1)
    os._exit(1)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
