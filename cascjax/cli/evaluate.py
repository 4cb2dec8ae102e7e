"""The command evaluate."""

from pathlib import Path
from typing import Any

import click

import cascjax as cj
from cascjax.cli import options
from cascjax.cli.errors import Command
from cascjax.cli.job import Job, job_without_sample
from cascjax.cli.types import PATH
from cascjax.report.evaluation import print_evaluation, rows_note, save, to_json

MOST_KEPT = 1_000_000
"""Largest number of rows whose results are written one by one unless asked for."""


@click.command("evaluate", cls=Command)
@click.argument("policy", type=PATH)
@options.SOURCE
@options.resamples(1000)
@options.CONFIDENCE
@options.seed("the resamples")
@click.option(
    "--per-query/--no-per-query",
    default=None,
    help="Write evaluation.parquet, one row per query. [default: for up to a million rows]",
)
@job_without_sample
@options.OUT
def command(
    policy: Path,
    paths: tuple[Path, ...],
    per_query: bool | None,
    job: Job,
    out: Path,
    **arguments: Any,
) -> None:
    """Evaluate a policy on a source: quality and costs with intervals, and whether budgets hold.

    SOURCE is a table, or a folder, a pattern or several files, which may be larger than memory.
    Writes evaluation.parquet and summary.json to --out.
    """
    with job.run(paths, None, out) as (source, run):
        kept = source.n_rows <= MOST_KEPT if per_query is None else per_query
        evaluation = cj.evaluate(
            cj.load_policy(policy), source, **arguments, per_query=kept, options=run
        )
        settings = {"policy": str(policy), "source": source.name, **arguments}
        ids = source.query_ids() if kept else None
        job.save(lambda: save(evaluation, out, ids, settings))
    job.result(lambda: to_json(evaluation), lambda console: print_evaluation(evaluation, console))
    if note := rows_note(evaluation, source.n_rows, split="split" in source.columns):
        job.note(f"note: {note}.")
    job.note(f"Wrote {'evaluation.parquet and ' * kept}summary.json to {out}")
