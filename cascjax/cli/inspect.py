"""The command inspect."""

from pathlib import Path

import click

import cascjax as cj
from cascjax.cli import options
from cascjax.cli.errors import Command
from cascjax.cli.output import Output, named, output
from cascjax.report.console import progress
from cascjax.report.contents import Contents, contents_of, print_contents, to_json


@click.command("inspect", cls=Command)
@options.SOURCE
@output
def command(paths: tuple[Path, ...], output: Output) -> None:
    """Show models, rows, splits, columns, mean quality and cost, and the hull of single models.

    SOURCE is a table, or a folder, a pattern or several files, which may be larger than memory.
    """
    source = cj.open(paths)
    contents: Contents | None = None
    with progress(source.n_rows, output.quiet) as advance:
        for chunk, table in source.read(source.chunks, source.columns):
            part = contents_of(table)
            contents = part if contents is None else contents + part
            advance("reading", chunk.n_rows)
    assert contents is not None
    output.result(
        lambda: to_json(contents),
        lambda console: print_contents(contents, named(paths), console, len(source.files)),
    )
