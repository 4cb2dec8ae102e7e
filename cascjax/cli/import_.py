"""The command import, with one subcommand per registered importer."""

from pathlib import Path
from typing import Any

import click

from cascjax.cli.errors import Command
from cascjax.cli.output import Output, named, output
from cascjax.cli.terminal import Program
from cascjax.cli.types import PATH, names, pair, several
from cascjax.errors import CascjaxError
from cascjax.importers import IMPORTERS


class Import(Program):
    """A group of importers, whose options are those that they declare."""

    @property
    def summaries(self) -> dict[str, str]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Summaries of the importers."""
        return {name: importer.summary for name, importer in IMPORTERS.items()}

    def load(self, name: str) -> click.Command:
        """Return the command of an importer."""

        def run(files: tuple[Path, ...], table: Path, output: Output, **options: Any) -> None:
            given = {name: value for name, value in options.items() if value is not None}
            _import(name, files, table, output, given)

        command: Any = output(run)
        for option in reversed(IMPORTERS[name].options):
            command = _option(option)(command)
        command = click.argument("table", type=PATH)(command)
        command = click.argument("files", type=PATH, nargs=-1, required=True)(command)
        help = (
            f"{IMPORTERS[name].summary}\n\nReads FILES, which may be folders, and writes the"
            " evaluation table TABLE."
        )
        return click.command(name, cls=Command, help=help)(command)


def _option(option: Any) -> Any:
    """Return the option of the command line for an option of an importer."""
    named = {"type": pair("NAME=COL"), "metavar": "NAME=COL", "callback": several}
    kinds: dict[str, dict[str, Any]] = {
        "choice": {"type": click.Choice(option.choices)},
        "column": {"metavar": "COL"},
        "columns": named | {"multiple": True},
        "filters": {"metavar": "COL=VALUE", "multiple": True},
        "file": {"type": PATH},
        "integer": {"type": click.IntRange(min=1)},
        "names": {"type": names, "metavar": "LIST"},
        "text": {"metavar": "TEXT"},
    }
    more, help = kinds[option.kind], option.help
    if option.kind in ("columns", "filters"):
        help += " Repeatable."
    if option.default not in (None, ()):
        more |= {"default": option.default, "show_default": True}
    flag = "--" + option.name.replace("_", "-")
    return click.option(flag, option.name, required=option.required, help=help, **more)


def _import(
    name: str, files: tuple[Path, ...], table: Path, output: Output, options: dict[str, Any]
) -> None:
    """Read a log, and write its evaluation table."""
    from cascjax.data import TableWriter

    written = [table, *(path for path in options.values() if isinstance(path, Path))]
    for i, path in enumerate(written):
        if path.resolve() in [other.resolve() for other in (*files, *written[:i])]:
            raise CascjaxError(f"{path} is given twice; give each file a name of its own")
    output.note(f"Reading {named(files)}")
    with TableWriter(table) as writer:
        result = IMPORTERS[name].read(list(files), **options)
        writer.write(result.arrow)
    for note in result.notes:
        output.note(note)
    output.result(
        lambda: {
            "table": str(table),
            "queries": result.table.n_queries,
            "models": list(result.table.models),
            "missing": result.n_missing,
            "repeated": result.n_repeated,
            "dropped": result.n_dropped,
            "notes": list(result.notes),
        },
        lambda _: click.echo(f"{result.summary}\nWrote {table}"),
    )


command = Import(name="import", help="Convert a log of another format into an evaluation table.")
