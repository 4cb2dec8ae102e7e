"""What every command needs of the machine it runs on: one-line errors, folders, a cache."""

import os
import shlex
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from cascjax.engine.launch import leave
from cascjax.errors import CascjaxError

if TYPE_CHECKING:
    from rich.console import Console


class OneLineErrors(click.Group):
    """Says what a user can fix in one line, with exit code 2; an interrupt is 130.

    What a KeyboardInterrupt says is left takes the place of "nothing half-written is left".

    The command as it was typed is the context's `obj`.
    """

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = "cascjax",
        *rest: Any,
        **extra: Any,
    ) -> NoReturn:
        """Runs the command and exits."""
        args = sys.argv[1:] if args is None else list(args)
        extra |= {"standalone_mode": False, "obj": shlex.join(["cascjax", *args])}
        try:
            with _termination_as_interrupt():
                self._run(args, prog_name, *rest, **extra)
        except SystemExit as end:
            leave(end.code if isinstance(end.code, int) else int(end.code is not None))
            raise
        except Exception as error:
            leave(1, error)
            raise

    def _run(
        self, args: Sequence[str], prog_name: str | None, *rest: Any, **extra: Any
    ) -> NoReturn:
        try:
            sys.exit(super().main(args, prog_name, *rest, **extra))
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()  # a group alone: its help is the way out
            sys.exit(2)
        except click.UsageError as error:
            command = error.ctx.command_path if error.ctx else "cascjax"
            _fail(f"{error.format_message().rstrip('.')}; see {command} --help")

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the subcommand."""
        try:
            return super().invoke(ctx)
        except CascjaxError as error:
            _fail(str(error))
        except BrokenPipeError:
            raise  # whoever read the output has had enough; click ends it quietly
        except OSError as error:
            _fail(f"{error.filename or 'cannot go on'}: {error.strerror or error}")
        except KeyboardInterrupt as stop:
            _fail(f"interrupted; {str(stop) or 'nothing half-written is left'}", code=130)


def _fail(message: str, code: int = 2) -> NoReturn:
    line = " ".join(message.split())
    # Names in it may come from a stranger's file, and go to a terminal.
    line = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)
    click.echo(f"cascjax: {line}", err=True)
    sys.exit(code)


@contextmanager
def _termination_as_interrupt() -> Iterator[None]:
    """Takes SIGTERM, which schedulers send, for Ctrl-C, so that what is left is said."""
    main_thread = threading.current_thread() is threading.main_thread()
    if not main_thread or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def interrupt(number: int, frame: object) -> None:
        if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as of nohup
            raise KeyboardInterrupt
        signal.raise_signal(signal.SIGINT)  # which may be held back

    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Holds an interrupt back until the end: JAX interrupted in its import may crash."""
    before, held = signal.getsignal(signal.SIGINT), []
    main_thread = threading.current_thread() is threading.main_thread()
    if before is not signal.default_int_handler or not main_thread:
        yield  # an interrupt is ignored, or somebody else's
        return
    signal.signal(signal.SIGINT, lambda number, frame: held.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if held:
        raise KeyboardInterrupt


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Puts a file's name before what is wrong with what it holds."""
    try:
        yield
    except CascjaxError as error:
        raise CascjaxError(f"{path}: {error}") from error


def make_console() -> "Console":
    """The terminal; a pipe or a file is given more width than rich would guess."""
    from rich.console import Console

    piped = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(width=100) if piped else Console()


@contextmanager
def output_folder(path: Path) -> Iterator[None]:
    """Makes a folder before anything is computed for it; takes it away if that fails.

    Raises:
        CascjaxError: the folder cannot be made, or nothing can be written to it.
    """
    made = []
    try:
        try:
            made = [folder for folder in (path, *path.parents) if not folder.exists()]
            path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=path):
                pass
        except OSError as error:
            reason = f"cannot write to the folder {path}: {error.strerror}; choose another"
            raise CascjaxError(reason) from error
        yield
    except BaseException:
        for folder in made:
            with suppress(OSError):  # not empty: something whole stands in it
                folder.rmdir()
        raise


def keep_compiled() -> None:
    """Keeps what XLA compiles between runs, in a folder that this user alone can enter."""
    import jax
    import platformdirs

    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    if os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return  # JAX sees to it
    folder = platformdirs.user_cache_path("cascjax") / "xla"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
    except OSError:
        return  # only speed is lost
    # Into a folder open to others they could have put what would be run.
    if found.st_uid == os.getuid() and not found.st_mode & 0o077:
        jax.config.update("jax_compilation_cache_dir", str(folder))
