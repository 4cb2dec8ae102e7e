"""The command evaluate."""

from pathlib import Path
from typing import Any

import click

import cascjax as cj
from cascjax.cli import options
from cascjax.cli.errors import Command
from cascjax.cli.job import Job, job_without_sample
from cascjax.cli.types import PATH, named_number, several
from cascjax.report.evaluation import print_evaluation, rows_note, save, to_json
from cascjax.search.rules import COST

MOST_KEPT = 1_000_000
"""Largest number of rows whose results are written one by one unless asked for."""


@click.command("evaluate", cls=Command)
@click.argument("policy", type=PATH)
@options.SOURCE
@options.resamples(None, "1000, or none of too few rows")
@options.CONFIDENCE
@options.seed("the resamples")
@click.option(
    "--per-query/--no-per-query",
    default=None,
    help="Write evaluation.parquet, one row per query. [default: for up to a million rows]",
)
@click.option(
    "--unit-rate",
    type=named_number("COST=R", COST),
    metavar="R|COST=R",
    multiple=True,
    callback=several,
    help="Units of the policy's cost per unit of the source's cost, such as 1.08 USD per EUR; with"
    " several costs one each. [default: both must have the same unit]",
)
@job_without_sample
@options.OUT
def command(
    policy: Path,
    paths: tuple[Path, ...],
    per_query: bool | None,
    unit_rate: dict[str, float],
    job: Job,
    out: Path,
    **arguments: Any,
) -> None:
    """Evaluate a policy on a source: quality and costs with intervals, and whether budgets hold.

    SOURCE is a table, or a folder, a pattern or several files, which may be larger than memory.
    Writes report.html, summary.json and evaluation.parquet to --out.
    """
    with job.run(paths, None, out) as (source, run):
        kept = source.n_rows <= MOST_KEPT if per_query is None else per_query
        evaluation = cj.evaluate(
            cj.load_policy(policy), source, **arguments, per_query=kept, options=run,
            unit_rate=unit_rate or None,
        )  # fmt: skip
        settings = {"policy": str(policy), "source": source.name, **arguments}
        settings |= {"unit_rate": unit_rate} if unit_rate else {}
        ids = source.query_ids() if kept else None
        job.save(lambda: save(evaluation, out, ids, settings))
    job.result(lambda: to_json(evaluation), lambda console: print_evaluation(evaluation, console))
    if note := rows_note(evaluation, source.n_rows, split="split" in source.columns):
        job.note(f"note: {note}.")
    job.note(f"Report: {out / 'report.html'}; numbers: {out / 'summary.json'}")
