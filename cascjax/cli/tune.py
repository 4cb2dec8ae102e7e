"""The command tune."""

from pathlib import Path
from typing import Any

import click

import cascjax as cj
from cascjax.cli import options
from cascjax.cli.errors import Command
from cascjax.cli.job import Job, job
from cascjax.report.findings import print_study
from cascjax.report.tuning import print_tuning, save, to_json


@click.command("tune", cls=Command)
@options.SOURCE
@options.one_strategy
@options.BUDGETS
@click.option(
    "--folds",
    type=click.IntRange(2, 100),
    help="Number of folds of the cross-validation that decides whether tuned parameters replace the"
    " plain ones. [default: 20, or 5 for strategies that are slow to simulate]",
)
@options.resamples(0)
@options.CONFIDENCE
@options.independent_estimates
@options.MODELS
@options.seed("noise, search, sample and resamples, and of the split if the source has none")
@job
@options.OUT
def command(
    paths: tuple[Path, ...], models: list[str] | None, job: Job, out: Path, **arguments: Any
) -> None:
    """Tune the parameters of a strategy for all budgets at once: one policy per budget.

    SOURCE is a table, or a folder, a pattern or several files, which may be larger than memory.
    Writes policy-01.json and so on, frontier.parquet, summary.json and report.html to --out. An
    interrupt writes the best so far if that takes less than 3 seconds; --resume continues the
    search.
    """
    with job.run(paths, models, out) as (source, run):
        tuning = cj.tune(source, **arguments, options=run)
        job.save(lambda: save(tuning, out, job.typed, {"source": source.name}))
        job.result(
            lambda: to_json(tuning),
            lambda console: (print_study(tuning.study, console), print_tuning(tuning, console)),
        )
        job.note(f"Report: {out / 'report.html'}; policies: {out}/policy-*.json")
        if tuning.tuned.interrupted:
            raise KeyboardInterrupt
