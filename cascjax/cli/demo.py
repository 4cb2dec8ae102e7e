"""The command demo."""

import shlex
from pathlib import Path

import click

import cascjax as cj
from cascjax.cli import options
from cascjax.cli.errors import Command
from cascjax.cli.output import Output, output
from cascjax.cli.synthesize import write
from cascjax.cli.terminal import output_folder
from cascjax.cli.types import MAX_BUDGETS, PATH, integer
from cascjax.engine.options import RunOptions
from cascjax.report.console import progress
from cascjax.report.findings import print_study, to_json


@click.command("demo", cls=Command)
@integer("--queries", 2, None, 100_000, "Number of queries.")
@integer("--models", 2, 1000, 5, "Number of models.")
@integer("--budgets", 2, MAX_BUDGETS, 20, "Number of budgets.")
@options.seed("the dataset")
@output
@click.option(
    "--out",
    type=PATH,
    default=Path("demo"),
    show_default=True,
    help="Folder for the results.",
)
def command(queries: int, models: int, budgets: int, seed: int, output: Output, out: Path) -> None:
    """Run the full pipeline on synthetic data and write an HTML report."""
    output.note(f"Synthetic dataset of {queries:,} queries x {models} models, seed {seed}.")
    table = out / "table.arrow"
    with output_folder(out):
        write(table, queries, models, seed)
        output.note(f"Wrote {table}; try: cascjax inspect {shlex.quote(str(table))}")
        with progress(queries, output.quiet) as advance:
            run = RunOptions(progress=advance)
            study = cj.compare(table, budgets=budgets, seed=seed, options=run)
        study.save(out)
    output.result(lambda: to_json(study), lambda console: print_study(study, console))
    output.note(f"Report: {out / 'report.html'}")
