"""Commands in several processes: the place of each, and one line when a process is lost.

JAX aborts a process with a stack dump when another process of the job is lost or never comes. The
command therefore runs itself again as a worker, waits for the worker to end, and says in one line
what happened. A socket connects the two, so that each ends when the other is killed.
"""

import os
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click

from cascjax.errors import CascjaxError, first_line

WAIT = 300
"""Default number of seconds that processes wait for each other at the start."""

GRACE = 10
"""Seconds that a worker has to end after an interrupt; it may be waiting for another process."""

_HEARTBEAT = 30
"""Seconds after which a process without a sign of life counts as lost."""

_WORKER = "CASCJAX_WORKER"
_PROGRAM = "from cascjax.cli import main; main()"
_PEER_LOST = b"JAX distributed service detected fatal errors"

# JAX itself finds its place under Slurm, Open MPI 4, Kubernetes and TPUs. These variables are for
# other launchers with a given coordinator, and for the devices of a process; the order matters, as
# an mpirun inside a Slurm job keeps the variables of the job.
_INDEX = ("RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID", "JOB_COMPLETION_INDEX")
_COUNT = ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_NTASKS")
_ON_HOST = {
    "LOCAL_WORLD_SIZE": "LOCAL_RANK",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "OMPI_COMM_WORLD_LOCAL_RANK",
    "MPI_LOCALNRANKS": "MPI_LOCALRANKID",
    "SLURM_STEP_TASKS_PER_NODE": "SLURM_LOCALID",
}
"""Variables with the number of processes on this host (for Slurm, as in 4(x2),1) and the index."""


@dataclass(frozen=True)
class Place:
    """Place of a process in a job of several; JAX asks the launcher for what is None.

    Attributes:
      distributed: Whether the job has several processes, even if nothing else is given.
      coordinator: Host and port where process 0 listens.
      processes: Number of processes.
      process: Index of this process, from 0.
      wait: Seconds that processes wait for each other at the start.
      device: The only accelerator this process uses; None for all that it sees.
    """

    distributed: bool = False
    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None
    wait: int = WAIT
    device: int | None = None

    def __str__(self) -> str:
        """Return the name of the process."""
        known = self.process is not None and self.processes is not None
        return f"process {self.process} of {self.processes}" if known else "this process"

    @property
    def several(self) -> bool:
        """Whether the job has several processes."""
        return self.distributed or (self.coordinator, self.processes, self.process) != (None,) * 3

    def resolve(self, environment: Mapping[str, str]) -> "Place":
        """Return the place with the variables of the launcher filled in.

        Raises:
          CascjaxError: The place is incomplete or contradictory.
        """
        coordinator = self.coordinator or environment.get("JAX_COORDINATOR_ADDRESS")
        if coordinator is None and {"MASTER_ADDR", "MASTER_PORT"} <= set(environment):
            # The agent of torchrun listens at that port itself.
            taken = environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
            port = (_number(environment, "MASTER_PORT") or 0) + taken
            coordinator = f"{environment['MASTER_ADDR']}:{port}"
        device = _device(environment)
        if coordinator is None:
            if (self.processes, self.process) != (None, None):
                raise CascjaxError("--processes and --process need --coordinator HOST:PORT")
            return replace(self, device=device)
        host, _, port = coordinator.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
            raise CascjaxError(
                f"--coordinator {coordinator!r}: give HOST:PORT, as in 10.0.0.1:9876"
            )
        count = _number(environment, *_COUNT) if self.processes is None else self.processes
        index = _number(environment, *_INDEX) if self.process is None else self.process
        if count is None or index is None:
            raise CascjaxError(
                f"--coordinator {coordinator}: add --processes P and --process I, from 0, or start"
                " all processes with srun, mpirun or torchrun"
            )
        if not 0 <= index < count:
            raise CascjaxError(f"--process {index}: give an index from 0 to {count - 1}")
        return replace(self, coordinator=coordinator, processes=count, process=index, device=device)


def _device(environment: Mapping[str, str]) -> int | None:
    """Return the accelerator of a process that shares its host with others of the job."""
    visible = (environment.get(f"{kind}_VISIBLE_DEVICES") for kind in ("CUDA", "ROCR"))
    if any(devices is not None and "," not in devices for devices in visible):
        return None  # the launcher has chosen it
    count = next((name for name in _ON_HOST if name in environment), None)
    if count is None or set(re.findall(r"(?:^|,)(\d+)", environment[count])) <= {"1"}:
        return None
    return _number(environment, _ON_HOST[count])


def _number(environment: Mapping[str, str], *names: str) -> int | None:
    for name in names:
        if (value := environment.get(name)) is not None:
            if not value.isdecimal():
                raise CascjaxError(
                    f"the environment variable {name} must be a number, not {value!r}"
                )
            return int(value)
    return None


def enter(
    place: Place, arguments: Sequence[str], checkpoint: Path, note: Callable[[str], None]
) -> bool:
    """Make this process one of several, and return whether it prints and writes for all of them.

    Args:
      place: Place among the processes; returns at once if there is only one.
      arguments: Arguments of the command line, for the worker.
      checkpoint: Folder of partial results, for messages.
      note: Prints a line.

    Raises:
      CascjaxError: The place is invalid, or the other processes cannot be reached.
    """
    if not place.several:
        return True
    place = place.resolve(os.environ)
    if _WORKER not in os.environ:
        note(f"Waiting up to {place.wait} s for the other processes.")
        sys.exit(watch(place, arguments, checkpoint))
    return _connect(place)


def leave(code: int, error: Exception | None = None) -> None:
    """End a worker that failed; a normal exit would make JAX wait for the other processes.

    Args:
      code: Exit code; 0 for a worker that has succeeded, which exits normally.
      error: Unexpected error, to print its traceback.
    """
    if _WORKER in os.environ and code:
        if error is not None:
            traceback.print_exception(error)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def watch(
    place: Place,
    arguments: Sequence[str],
    checkpoint: Path,
    program: str = _PROGRAM,
    grace: float | int = GRACE,
) -> int:
    """Run a worker to its end, print one line if it was lost, and return the exit code.

    Args:
      place: Place of the process.
      arguments: Arguments of the worker's command line.
      checkpoint: Folder of partial results, for messages.
      program: Python code of the worker.
      grace: Seconds that the worker has to end after an interrupt.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:  # closed by the shell: the next file to be opened would take its number
            os.open(os.devnull, os.O_RDWR)
    link, theirs = socket.socketpair()
    passed = (theirs.detach(), os.dup(1), os.dup(2))
    # JAX prints to descriptors 1 and 2, which are the log; the command to the copies.
    log = tempfile.TemporaryFile()  # noqa: SIM115
    worker = subprocess.Popen(
        [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}; {program}", *arguments],
        env=os.environ | {_WORKER: ",".join(map(str, passed))},
        stdout=log,
        stderr=log,
        pass_fds=passed,
        process_group=0,
    )
    for fd in passed:
        os.close(fd)
    interrupted = threading.Event()

    def connected() -> bool:
        return bool(select.select([link], [], [], 0)[0])

    def pass_on(number: int, frame: object) -> None:
        interrupted.set()
        worker.send_signal(signal.SIGINT)  # JAX takes SIGTERM for a notice, and continues
        # A worker that waits for other processes has nothing to clean up, and cannot hear.
        killer = threading.Timer(grace if connected() else 1, worker.kill)
        killer.daemon = True
        killer.start()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup does
            signal.signal(number, pass_on)
    code, joined = worker.wait(), bool(link.recv(1))
    resume = "start all processes again"
    if any(checkpoint.glob("*.npz")):
        resume = f"partial results are kept in {checkpoint}: {resume} with --resume"
    if code >= 0:
        return code
    if interrupted.is_set():
        click.echo(f"cascjax: interrupted; {resume}", err=True)
        return 130
    log.seek(0)
    words = log.read()
    with tempfile.NamedTemporaryFile(prefix="cascjax-", suffix=".log", delete=False) as named:
        named.write(words)
    if _PEER_LOST not in words:
        name = signal.Signals(-code).name
        hint = ", as the system does when memory runs out" if name == "SIGKILL" else ""
        reason = f"was ended by {name}{hint}; {resume}"
    elif joined:
        reason = f"stopped because another process of the job is lost; {resume}"
    else:
        reason = (
            f"waited {place.wait} s at {place.coordinator or 'the coordinator'} for the other"
            " processes, and not all came: start every process with the same --coordinator and"
            " --processes, and check that it can be reached"
        )
    click.echo(f"cascjax: {place} {reason} (messages of JAX: {named.name})", err=True)
    return 1


def _connect(place: Place) -> bool:
    """Join the other processes, in the worker; return whether this process is the first."""
    link, out, err = map(int, os.environ[_WORKER].split(","))
    for fd in (link, out, err):
        os.set_inheritable(fd, False)
    sys.stdout, sys.stderr = (os.fdopen(fd, "w", buffering=1) for fd in (out, err))

    def end_with_watcher() -> None:
        os.read(link, 1)
        os._exit(1)

    threading.Thread(target=end_with_watcher, daemon=True).start()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # only the watcher sends it
    if place.process == 0 and place.coordinator is not None:
        _check_port(place.coordinator)
    import jax

    # With None, JAX would give each process one device under some launchers.
    devices = [] if place.device is None else [place.device]
    try:
        jax.distributed.initialize(
            place.coordinator,
            place.processes,
            place.process,
            None if "JAX_LOCAL_DEVICE_IDS" in os.environ else devices,
            initialization_timeout=place.wait,
            heartbeat_timeout_seconds=_HEARTBEAT,
        )
    except (ValueError, RuntimeError, OSError) as error:
        if place.coordinator is None:
            raise CascjaxError(
                "--distributed: no launcher was found; add --coordinator HOST:PORT --processes P"
                " --process I, or start all processes with srun, mpirun or torchrun"
                f" ({first_line(error)})"
            ) from error
        raise CascjaxError(
            f"{place} cannot join the others at {place.coordinator}: {first_line(error)}"
        ) from error
    os.write(link, b".")
    return jax.process_index() == 0


def _check_port(coordinator: str) -> None:
    """Refuse a port at which JAX could not listen, where it would crash or share it silently."""
    if "JAX_COORDINATOR_BIND_ADDRESS" in os.environ:
        return
    with socket.socket() as tried:
        # A port of a job that has just ended is free.
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(("", int(coordinator.rpartition(":")[2])))
            tried.listen()
        except OSError as error:
            raise CascjaxError(
                f"--coordinator {coordinator}: process 0 cannot listen at that port"
                f" ({error.strerror}); choose another port, in every process"
            ) from error
