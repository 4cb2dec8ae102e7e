"""The command diagnose."""

from pathlib import Path
from typing import Any

import click

import cascjax as cj
from cascjax.cli import options
from cascjax.cli.errors import Command
from cascjax.cli.job import Job, job
from cascjax.cli.types import MAX_BUDGETS, integer
from cascjax.diagnosis import DIAGNOSED, TARGET
from cascjax.report.diagnosis import print_diagnosis, save, to_json


@click.command("diagnose", cls=Command)
@options.SOURCE
@options.strategies(DIAGNOSED)
@options.estimates
@click.option(
    "--budgets",
    type=click.IntRange(2, MAX_BUDGETS),
    help="Number of budgets. [default: 20, and the models on the hull]",
)
@click.option(
    "--target",
    type=float,
    default=TARGET,
    show_default=True,
    help="Rise of AUC for which the accuracy needed is searched; 0 for no search.",
)
@integer("--bins", 1, 1000, None, "Number of bins of a diagram. [default: 10, or fewer]")
@options.resamples(None, "1000, or 200 above 100,000 rows, or none of too few")
@options.CONFIDENCE
@options.MODELS
@options.seed("noise, folds, sample and resamples, and of the split if the source has none")
@job
@options.OUT
def command(
    paths: tuple[Path, ...], models: list[str] | None, job: Job, out: Path, **arguments: Any
) -> None:
    """Measure whether estimates are good enough to route or cascade on, and what better ones give.

    Reports accuracy and calibration before and after a model runs, the gain of each strategy over
    picking models at random, the gain with perfect estimates, and the accuracy needed for the next
    point of AUC. SOURCE is a table, or a folder, a pattern or several files. Writes report.html,
    diagnosis.json and reliability.parquet to --out.
    """
    with job.run(paths, models, out) as (source, run):
        diagnosis = cj.diagnose(source, **arguments, options=run)
        job.save(lambda: save(diagnosis, out, job.typed))
    job.result(lambda: to_json(diagnosis), lambda console: print_diagnosis(diagnosis, console))
    job.note(f"Report: {out / 'report.html'}; numbers: {out / 'diagnosis.json'}")
