"""What a command prints: the result on standard output, all else on standard error."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cascjax.cli.terminal import make_console
from cascjax.cli.types import gathered

if TYPE_CHECKING:
    from rich.console import Console


@dataclass
class Output:
    """Options of what a command prints, in the first process of its job."""

    as_json: bool = False
    quiet: bool = False
    verbose: bool = False
    first: bool = True

    def note(self, text: str) -> None:
        """Print a line on standard error, unless --quiet is given."""
        if self.first and not self.quiet:
            click.echo(text, err=True)

    def detail(self, text: str) -> None:
        """Print a line on standard error if --verbose is given."""
        if self.verbose:
            self.note(text)

    def result(self, content: Callable[[], Any], show: "Callable[[Console], Any]") -> None:
        """Print a result: its JSON values if --json is given, else what `show` prints."""
        if not self.first:
            return
        if self.as_json:
            click.echo(json.dumps(content(), indent=2, allow_nan=False))
        else:
            show(make_console())


def named(paths: Sequence[Path]) -> str:
    """Return the names of the paths of a source, for messages."""
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return f"{paths[0]}{more}"


OUTPUT = (
    click.option("--json", "as_json", is_flag=True, help="Print the result as JSON."),
    click.option("--quiet", is_flag=True, help="Print nothing but the result and errors."),
    click.option("--verbose", is_flag=True, help="Print details of the run."),
)

output = gathered("output", Output, OUTPUT)
"""Options of what is printed; the command gets an `Output`."""
