"""Commands in several processes: the place of each, and one line when a process is lost.

JAX aborts a process with a stack dump when another process of the job is lost or never comes. Its
messages go to a log, and the command says in one line what happened.
"""

import ctypes
import os
import re
import signal
import socket
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from cascjax import interrupts
from cascjax.errors import CascjaxError, first_line

WAIT = 300  # Default number of seconds that processes wait for each other at the start

_HEARTBEAT = 30  # Seconds after which a process without a sign of life counts as lost

_PEER_LOST = b"JAX distributed service detected fatal errors"

_handlers: list[Any] = []  # Handlers of signals, which must not be garbage

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
    """Place of a process in a job of several; JAX asks the launcher for what is None."""

    distributed: bool = False  # several processes, even if nothing else is given
    coordinator: str | None = None  # host and port where process 0 listens
    processes: int | None = None
    process: int | None = None
    wait: int = WAIT
    device: int | None = None  # the only accelerator to use; None for all

    def __str__(self) -> str:
        """Return the name of the process."""
        known = self.process is not None and self.processes is not None
        return f"process {self.process} of {self.processes}" if known else "this process"

    @property
    def several(self) -> bool:
        """Whether the job has several processes."""
        return self.distributed or (self.coordinator, self.processes, self.process) != (None,) * 3

    def resolve(self, environment: Mapping[str, str]) -> "Place":
        """Return the place with the variables of the launcher filled in."""
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


def enter(place: Place, checkpoint: Path, note: Callable[[str], None]) -> bool:
    """Join the other processes, if there are any; return whether this process is the first.

    The folder of partial results is for messages.
    """
    if not place.several:
        return True
    place = place.resolve(os.environ)
    note(f"Waiting up to {place.wait} s for the other processes.")
    if place.process == 0 and place.coordinator is not None:
        _check_port(place.coordinator)
    joined = threading.Event()
    _end_in_one_line(place, checkpoint, joined)
    import jax

    # JAX would take SIGTERM for a notice, and continue.
    jax.config.update("jax_enable_preemption_service", False)
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
    joined.set()
    return jax.process_index() == 0


def leave(code: int, error: Exception | None = None) -> None:
    """End one of several processes that failed; JAX would wait for the others at a normal exit."""
    if code and distributed():
        if error is not None:
            traceback.print_exception(error)
        interrupts.leave(code)


def distributed() -> bool:
    """Return whether this process is one of several."""
    jax = sys.modules.get("jax")
    return jax is not None and jax.distributed.is_initialized()


def resumption(checkpoint: Path, *, several: bool) -> str:
    """Return how to resume a job, in words; empty for a job of one process that kept nothing."""
    kept = any(checkpoint.glob("*.npz"))
    if not several:
        return f"partial results are kept in {checkpoint}; add --resume to continue" * kept
    again = "start all processes again"
    return f"partial results are kept in {checkpoint}: {again} with --resume" if kept else again


def _end_in_one_line(place: Place, checkpoint: Path, joined: threading.Event) -> None:
    """Say in one line why JAX aborts."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:  # closed by the shell: the next file to be opened would take its number
            os.open(os.devnull, os.O_RDWR)
    # JAX prints to descriptors 1 and 2, which become a log; the command to copies of them.
    sys.stdout, sys.stderr = (os.fdopen(os.dup(fd), "w", buffering=1) for fd in (1, 2))
    log = tempfile.TemporaryFile()  # noqa: SIM115
    for fd in (1, 2):
        os.dup2(log.fileno(), fd)

    @ctypes.CFUNCTYPE(None, ctypes.c_int)
    def aborted(number: int) -> None:
        log.seek(0)
        words = log.read()
        with tempfile.NamedTemporaryFile(prefix="cascjax-", suffix=".log", delete=False) as named:
            named.write(words)
        reason = "stopped because another process of the job is lost"
        if _PEER_LOST not in words:
            reason = "was aborted"
        elif not joined.is_set():
            reason = (
                f"waited {place.wait} s at {place.coordinator or 'the coordinator'} for the other"
                " processes, and not all came: check that it can be reached, that --coordinator"
                " and --processes are the same everywhere"
            )
        resume = resumption(checkpoint, several=True)
        click.echo(f"cascjax: {place} {reason}; {resume} (messages of JAX: {named.name})", err=True)
        os._exit(1)

    _handlers.append(aborted)
    ctypes.CDLL(None).signal(signal.SIGABRT, aborted)


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
