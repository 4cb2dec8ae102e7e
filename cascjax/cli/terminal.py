"""What commands need of their machine: one-line errors, interrupts, folders, a compile cache."""

import importlib
import keyword
import os
import shlex
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from cascjax.cli.launch import leave
from cascjax.errors import CascjaxError

if TYPE_CHECKING:
    from rich.console import Console


class Program(click.Group):
    """A group of commands in modules of their own, imported when they are run.

    What the user can fix is printed in one line, with exit code 2; an interrupt exits with 130. The
    command line as it was typed is the `obj` of the context.
    """

    summaries: Mapping[str, str] = {}
    """Summary of each command, by name; its module is `cascjax.cli.<name>`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands."""
        return list(self.summaries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, with its module imported."""
        if cmd_name not in self.summaries:
            return None
        with uninterrupted():
            return self.load(cmd_name)

    def load(self, name: str) -> click.Command:
        """Import a command."""
        module = name + "_" * keyword.iskeyword(name)
        return importlib.import_module(f"cascjax.cli.{module}").command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the summaries of the commands, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self.summaries.items()))

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = "cascjax",
        *rest: Any,
        **extra: Any,
    ) -> NoReturn:
        """Run the command and exit."""
        args = sys.argv[1:] if args is None else list(args)
        extra |= {"standalone_mode": False, "obj": shlex.join(["cascjax", *args])}
        try:
            with _termination_as_interrupt(), _usage_in_one_line():
                sys.exit(super().main(args, prog_name, *rest, **extra))
        except SystemExit as end:
            leave(end.code if isinstance(end.code, int) else int(end.code is not None))
            raise
        except Exception as error:
            leave(1, error)
            raise

    def invoke(self, ctx: click.Context) -> Any:
        """Run the subcommand."""
        try:
            return super().invoke(ctx)
        except CascjaxError as error:
            _fail(str(error))
        except BrokenPipeError:
            raise  # the reader of the output has closed it; click ends the program quietly
        except OSError as error:
            _fail(f"{error.filename or 'cannot continue'}: {error.strerror or error}")
        except KeyboardInterrupt as stop:
            _fail(f"interrupted; {str(stop) or 'nothing half-written is left'}", code=130)


def _fail(message: str, code: int = 2) -> NoReturn:
    line = " ".join(message.split())
    # Names in the message may come from a foreign file, and go to a terminal.
    line = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)
    click.echo(f"cascjax: {line}", err=True)
    sys.exit(code)


@contextmanager
def _usage_in_one_line() -> Iterator[None]:
    try:
        yield
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(2)
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "cascjax"
        _fail(f"{error.format_message().rstrip('.')}; see {command} --help")


@contextmanager
def _termination_as_interrupt() -> Iterator[None]:
    """Treat SIGTERM, which schedulers send, like Ctrl-C."""
    main_thread = threading.current_thread() is threading.main_thread()
    if not main_thread or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def interrupt(number: int, frame: object) -> None:
        if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as nohup does
            raise KeyboardInterrupt
        signal.raise_signal(signal.SIGINT)  # which `uninterrupted` may hold back

    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Delay an interrupt to the end of the block: JAX may crash if its import is interrupted."""
    before, held = signal.getsignal(signal.SIGINT), []
    main_thread = threading.current_thread() is threading.main_thread()
    if before is not signal.default_int_handler or not main_thread:
        yield
        return
    signal.signal(signal.SIGINT, lambda number, frame: held.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if held:
        raise KeyboardInterrupt


def make_console() -> "Console":
    """Return the terminal; a pipe or a file has 100 columns."""
    from rich.console import Console

    piped = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(width=100) if piped else Console()


@contextmanager
def output_folder(path: Path) -> Iterator[None]:
    """Make a folder before anything is computed for it, and remove it if that fails."""
    made = []
    try:
        try:
            made = [folder for folder in (path, *path.parents) if not folder.exists()]
            path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=path):
                pass
        except OSError as error:
            raise CascjaxError(
                f"cannot write to the folder {path}: {error.strerror}; choose another"
            ) from error
        yield
    except BaseException:
        for folder in made:
            with suppress(OSError):  # not empty: it holds something complete
                folder.rmdir()
        raise


def keep_compiled() -> None:
    """Cache compiled programs between runs, in a folder that only this user can enter."""
    import jax
    import platformdirs

    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    if os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return  # JAX reads it
    folder = platformdirs.user_cache_path("cascjax") / "xla"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError:
        return
    # Others could put programs into a folder that is open to them.
    if status.st_uid == os.getuid() and not status.st_mode & 0o077:
        jax.config.update("jax_compilation_cache_dir", str(folder))
