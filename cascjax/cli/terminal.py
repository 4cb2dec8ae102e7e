"""What commands need of their machine: one-line errors, interrupts, folders, a compile cache."""

import importlib
import keyword
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from cascjax import interrupts
from cascjax.cli.launch import distributed, leave
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
        program = args is None  # else a test, or another program, calls it
        if program:
            interrupts.handle()
        args = sys.argv[1:] if args is None else list(args)
        extra |= {"standalone_mode": False, "obj": shlex.join(["cascjax", *args])}
        try:
            with _usage_in_one_line():
                sys.exit(super().main(args, prog_name, *rest, **extra))
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
            leave(code)
            if program and not distributed():  # else JAX takes leave of the other processes
                interrupts.leave(code)
            raise
        except Exception as error:
            leave(1, error)
            raise

    def invoke(self, ctx: click.Context) -> Any:
        """Run the subcommand."""
        try:
            return super().invoke(ctx)
        except CascjaxError as error:
            _fail(f"cascjax: {error}")
        except BrokenPipeError:
            raise  # the reader of the output has closed it; click ends the program quietly
        except OSError as error:
            _fail(f"cascjax: {error.filename or 'cannot continue'}: {error.strerror or error}")
        except KeyboardInterrupt as stop:
            _fail(interrupts.line(str(stop)), code=130)


def _fail(message: str, code: int = 2) -> NoReturn:
    line = " ".join(message.split())
    # Names in the message may come from a foreign file, and go to a terminal.
    line = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)
    interrupts.claim()
    click.echo(line, err=True)
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
        _fail(f"cascjax: {error.format_message().rstrip('.')}; see {command} --help")


def make_console() -> "Console":
    """Return the terminal; a pipe or a file has 100 columns."""
    from rich.console import Console

    piped = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(width=100) if piped else Console()


@contextmanager
def output_folder(path: Path) -> Iterator[None]:
    """Make a folder before anything is computed for it, and remove it if that fails."""
    made: list[Path] = []

    def remove() -> None:
        for folder in made:
            with suppress(OSError):  # not empty: it holds something complete
                folder.rmdir()

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
        with interrupts.undone(remove):
            yield
    except BaseException:
        remove()
        raise
