"""The command compare."""

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import click

import cascjax as cj
from cascjax.cli import options
from cascjax.cli.errors import Command
from cascjax.cli.job import Job, job
from cascjax.cli.types import PATH, names
from cascjax.metrics import SCORES, Grid
from cascjax.report.findings import print_study, to_json
from cascjax.report.study import save
from cascjax.strategies import STRATEGIES


def _scores(ctx: click.Context, param: click.Parameter, value: list[str] | None) -> list[str]:
    return list(SCORES) if value == ["all"] else value or []


@click.command("compare", cls=Command)
@options.SOURCE
@options.strategies(tuple(STRATEGIES))
@options.estimates
@options.BUDGETS
@options.MODELS
@click.option(
    "--grid",
    type=click.Choice(get_args(Grid)),
    default="full",
    show_default=True,
    help="Points that AUC is taken on: the whole frontier, or the budgets alone as in the paper.",
)
@click.option(
    "--scores",
    type=names,
    metavar="LIST|all",
    callback=_scores,
    help=f"Further scores of each frontier, with commas, or all: {', '.join(SCORES)}.",
)
@click.option(
    "--prices",
    type=PATH,
    help="Prices, YAML or LiteLLM's JSON, at which costs are computed from counts of tokens.",
)
@options.resamples(0)
@click.option(
    "--fixed-parameters",
    is_flag=True,
    help="Intervals for the fitted parameters as they are. [default: fit again in each resample]",
)
@options.CONFIDENCE
@options.seed("noise, folds, sample and resamples, and of the split if the source has none")
@job
@options.OUT
def command(
    paths: tuple[Path, ...],
    models: list[str] | None,
    job: Job,
    out: Path,
    resamples: int,
    fixed_parameters: bool,
    prices: Path | None,
    **arguments: Any,
) -> None:
    """Compare strategies: fit each to every budget, and score it on the evaluation split.

    SOURCE is a table, or a folder, a pattern or several files, which may be larger than memory.
    Writes frontier.parquet, summary.json and report.html to --out.
    """
    with job.run(paths, models, out) as (source, run):
        about = {"source": source.name} | ({"prices": str(prices)} if prices else {})
        source = cj.reprice(source, prices) if prices else source
        bootstrap = cj.Bootstrap(resamples, refit=not fixed_parameters)
        study = cj.compare(source, resamples=bootstrap, **arguments, options=run)
        study = replace(study, settings={**about, **study.settings})
        job.save(lambda: save(study, out, job.typed))
    job.result(lambda: to_json(study), lambda console: print_study(study, console))
    job.note(f"Report: {out / 'report.html'}")
