"""The command synthesize."""

import shutil
import sys
from pathlib import Path
from typing import Any

import click

from cascjax import synthetic
from cascjax.cli import options
from cascjax.cli.errors import Command
from cascjax.cli.output import Output, output
from cascjax.cli.types import PATH, integer
from cascjax.data import TableWriter
from cascjax.data.source import write_parts
from cascjax.errors import CascjaxError


@click.command("synthesize", cls=Command)
@click.argument("table", type=PATH)
@integer("--queries", 1, None, 100_000, "Number of queries.")
@integer("--models", 2, 1000, 5, "Number of models.")
@click.option(
    "--kind",
    type=click.Choice(list(synthetic.KINDS)),
    default="judged",
    show_default=True,
    help="Kind of dataset: what is asked, and how answers are scored.",
)
@click.option(
    "--quality",
    type=click.Choice(["binary", "graded"]),
    help="Scale of the quality of kind judged. [default: binary]",
)
@click.option(
    "--features", is_flag=True, help="Add features and signals, which other kinds always have."
)
@click.option("--seconds", is_flag=True, help="Add the extra cost seconds, the time of an answer.")
@integer("--parts", 1, 100_000, None, "Number of files, written to the folder TABLE.")
@options.seed("models and queries")
@output
def command(table: Path, queries: int, models: int, output: Output, **arguments: Any) -> None:
    """Write a synthetic dataset of any size, whose truth is known, to TABLE."""
    write(table, queries, models, **arguments)
    parts = arguments["parts"]
    files = "" if parts is None else f" in {parts} file{'s' * (parts > 1)}"
    content = {"table": str(table), "queries": queries, "models": models}
    output.result(
        lambda: content,
        lambda _: click.echo(f"Wrote {table}: {queries:,} queries x {models} models{files}"),
    )


def write(
    path: Path,
    queries: int,
    models: int,
    seed: int,
    *,
    kind: str = "judged",
    features: bool = False,
    seconds: bool = False,
    parts: int | None = None,
    **settings: Any,
) -> None:
    """Write a synthetic dataset in batches, to one file or to a folder of `parts` files."""
    if parts is not None and parts > queries:
        raise CascjaxError(f"parts must be at most the {queries:,} queries, not {parts:,}")
    features = features or kind != "judged"
    free = shutil.disk_usage(path.parent).free if path.parent.is_dir() else sys.maxsize
    columns = 6 + seconds + 5 * features  # of float32 per model
    if (size := 4 * columns * queries * models) > free:
        raise CascjaxError(
            f"cannot write {path}: {queries:,} queries x {models} models take about"
            f" {size / 1e9:,.0f} GB and {free / 1e9:,.0f} GB are free; use fewer --queries"
        )
    settings = {name: value for name, value in settings.items() if value is not None}
    made = synthetic.make_dataset(models, seed, kind=kind, **settings)
    batches = synthetic.batches(made, queries, seed, features=features, seconds=seconds)
    if parts is not None:
        write_parts(path, batches, queries, parts)
        return
    with TableWriter(path) as writer:
        for batch in batches:
            writer.write(batch)
