"""How a command over a source runs: processes, checkpoint, progress."""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import jax

from cascjax import __version__, interrupts
from cascjax.cli.errors import translate
from cascjax.cli.launch import WAIT, Place, enter, resumption
from cascjax.cli.options import select
from cascjax.cli.output import OUTPUT, Output, named
from cascjax.cli.terminal import output_folder
from cascjax.cli.types import gathered, integer
from cascjax.data.source import BadFileError, Files, open_files
from cascjax.engine.checkpoint import discard, hold
from cascjax.engine.options import SAMPLE, RunOptions
from cascjax.engine.processes import GONE, all_processes
from cascjax.errors import CascjaxError, RefusedError
from cascjax.report.console import progress
from cascjax.words import counted


@dataclass
class Job(Output):
    """A command over a source that may be interrupted and resumed, in one or more processes."""

    resume: bool = False
    force: bool = False
    sample: int = SAMPLE
    place: Place = field(default_factory=Place)

    @property
    def typed(self) -> str:
        """The command line as it was typed."""
        return click.get_current_context().obj

    @contextlib.contextmanager
    def run(
        self, paths: Sequence[Path], models: Sequence[str] | None, out: Path, *, file: bool = False
    ) -> Iterator[tuple[Files, RunOptions]]:
        """Open the source, and yield it with the options of the run.

        `out` is the folder for the results, which is removed if the command fails, or a `file`,
        which the command writes itself.
        """
        checkpoint = out.with_name(f"{out.name}.checkpoint") if file else out / "checkpoint"
        with interrupts.patience(functools.partial(_kept, checkpoint, self.place.several)):
            self.first = enter(self.place, checkpoint, self.note)
            if any(path.resolve() == out.resolve() for path in paths):
                raise CascjaxError(f"--out {out} is the source; choose another")
            self.note(f"Reading {named(paths)}")
            with (
                contextlib.nullcontext() if file else output_folder(out),
                _resumable(checkpoint),
                hold(checkpoint) if self.first else contextlib.nullcontext(),
            ):
                source = select(open_files(paths), models)
                count = all_processes().count
                size = f"{counted(source.n_rows, 'query', 'queries')} x {source.n_models} models"
                self.note(f"{size}." if count == 1 else f"{size}, shared by {count} processes.")
                devices = counted(jax.device_count(), f"{jax.default_backend()} device")
                self.detail(f"cascjax {__version__}, JAX {jax.__version__}, {devices}.")
                self.detail(f"Partial results are kept in {checkpoint} until the end.")
                start, quiet = time.monotonic(), self.quiet or not self.first
                with _naming(source), progress(source.n_rows, quiet) as advance:

                    def each(work: str, rows: int) -> None:
                        interrupts.check()
                        advance(work, rows * count)  # each process reports its own share

                    def note(text: str) -> None:
                        self.note(translate(text, click.get_current_context().command))

                    settings = (checkpoint, self.resume, self.force, self.sample)
                    yield source, RunOptions(*settings, each, note)
                self.detail(f"Took {time.monotonic() - start:.1f} s.")
                all_processes().agree(lambda: discard(checkpoint))

    def save(self, write: Callable[[], Any]) -> None:
        """Write results in the first process; if that fails, fail in all."""
        all_processes().agree(lambda: write() if self.first else None)


def _kept(checkpoint: Path, several: bool) -> str:
    """Return what an interrupted job has kept, in words; remove a checkpoint without parts."""
    resume = resumption(checkpoint, several=several)
    if not resume:
        discard(checkpoint)
    return resume


@contextlib.contextmanager
def _naming(source: Files) -> Iterator[None]:
    """Put the name of the source before an error about its rows."""
    try:
        yield
    except RefusedError as error:
        if source.name in str(error):
            raise
        raise RefusedError(f"{source.name}: {error}") from error


@contextlib.contextmanager
def _resumable(checkpoint: Path) -> Iterator[None]:
    """Add to an error what is kept and how to resume; remove an empty checkpoint."""
    existed = checkpoint.exists()
    try:
        yield
    except BaseException as error:
        alone, kept = all_processes().count == 1, any(checkpoint.glob("*.npz"))
        lost = str(error) == GONE
        # A disk or a file can be fixed; what else is refused now would be refused again.
        fixable = isinstance(error, BadFileError) or str(error).startswith("cannot ")
        refused = isinstance(error, CascjaxError) and not (existed or fixable or lost)
        if isinstance(error, RefusedError) or (alone and (refused or not kept)):
            with contextlib.suppress(CascjaxError):
                discard(checkpoint)
            raise
        if lost and not kept:
            raise CascjaxError(f"{error}; start all processes again with --resume") from error
        resume = f"partial results are kept in {checkpoint}; add --resume to continue"
        if kept and isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt(resume) from error
        if kept and fixable:
            raise CascjaxError(f"{error}; {resume} once that is fixed") from error
        if lost:
            raise CascjaxError(f"{error}; {resume}, in all processes") from error
        raise


# Options.

_RUN = (
    click.option("--resume", is_flag=True, help="Resume an interrupted run."),
    click.option("--force", is_flag=True, help="Discard what an interrupted run has left."),
    click.option(
        "--distributed",
        is_flag=True,
        help="Run as one of several processes, started by srun, mpirun, torchrun or a Kubernetes"
        " job, whose variables say which.",
    ),
    click.option(
        "--coordinator",
        metavar="HOST:PORT",
        help="Address where process 0 listens, if no launcher says it.",
    ),
    integer("--processes", 1, None, None, "Number of processes."),
    integer("--process", 0, None, None, "Index of this process, from 0."),
    integer("--wait", 1, None, WAIT, "Seconds that processes wait for each other at the start."),
)

_SAMPLE_HELP = "Maximum number of fit rows used to search parameters and to learn estimates."
_SAMPLE = integer("--sample", 1, None, SAMPLE, _SAMPLE_HELP)


def _job(
    distributed: bool,
    coordinator: str | None,
    processes: int | None,
    process: int | None,
    wait: int,
    **values: Any,
) -> Job:
    return Job(place=Place(distributed, coordinator, processes, process, wait), **values)


job = gathered("job", _job, (_SAMPLE, *_RUN, *OUTPUT))
"""Options of how a command runs and what it prints; the command gets a `Job`."""

job_without_sample = gathered("job", _job, (*_RUN, *OUTPUT))
"""Options of a command that searches nothing; the command gets a `Job`."""
