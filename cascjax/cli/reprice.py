"""The command reprice."""

from pathlib import Path
from typing import Any

import click
import numpy as np

import cascjax as cj
from cascjax.cli import options
from cascjax.cli.errors import Command
from cascjax.cli.output import Output, named, output
from cascjax.cli.types import PATH
from cascjax.data import TableWriter, to_arrow
from cascjax.data.table import mean_rows
from cascjax.errors import CascjaxError
from cascjax.words import cost_text, counted


@click.command("reprice", cls=Command)
@options.SOURCE
@click.option(
    "--prices", required=True, type=PATH, help="Prices of tokens: YAML, or LiteLLM's JSON."
)
@click.option(
    "--date", metavar="DAY", help="Day of the prices, such as 2025-02-08. [default: the latest]"
)
@click.option("--out", required=True, type=PATH, help="Table to write.")
@output
def command(
    paths: tuple[Path, ...], prices: Path, date: str | None, out: Path, output: Output
) -> None:
    """Write a table whose costs are those of its counts of tokens at other prices.

    SOURCE is a table, or a folder, a pattern or several files, imported with counts of tokens.
    """
    before = cj.open(paths)
    if out.resolve() in [Path(file.path).resolve() for file in before.files]:
        raise CascjaxError(f"--out {out} is the source; choose another")
    after: Any = cj.reprice(before, prices, date)
    output.note(f"Reading {named(paths)}")
    ids = before.query_ids()
    sums = np.zeros((2, before.n_models))
    with TableWriter(out) as writer:
        old = before.read(before.chunks, ())
        new = after.read(after.chunks, after.columns)
        for (chunk, was), (_, table) in zip(old, new, strict=True):
            sums += [mean_rows(each.cost) * chunk.n_rows for each in (was, table)]
            taken = ids.slice(chunk.first, chunk.n_rows).combine_chunks()
            writer.write(to_arrow(table, taken))
    means = dict(zip(before.models, (sums / before.n_rows).T.tolist(), strict=True))

    def show(_: Any) -> None:
        for model, (was, now) in means.items():
            click.echo(f"{model}: {cost_text(was)} -> {cost_text(now)} {after.cost_unit} per query")
        click.echo(f"Wrote {out}, {counted(before.n_rows, 'query', 'queries')}")

    output.result(
        lambda: {
            "table": str(out),
            "cost_unit": after.cost_unit,
            "mean_cost": {
                model: {"before": was, "after": now} for model, (was, now) in means.items()
            },
        },
        show,
    )
