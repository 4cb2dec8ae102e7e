"""The command cascjax diagnose."""

from pathlib import Path

import click

from cascjax.cli.legacy import arguments, options
from cascjax.cli.legacy.policy import readied
from cascjax.cli.terminal import make_console, naming, output_folder, uninterrupted
from cascjax.errors import CascjaxError

# Everything that needs JAX is imported inside the command: the first words come at once.


@click.command()
@options.TABLE
@click.option(
    "--strategies",
    metavar="LIST",
    help="Comma-separated; default: routing, thresholding, cascading, cascade-routing, pandora.",
)
@click.option(
    "--budgets", metavar="N", help="How many; default: ten between neighbours on the hull."
)
@click.option(
    "--target",
    type=float,
    default=0.01,
    show_default=True,
    help="Rise of AUC to look for the accuracy needed of; 0 to look for none.",
)
@click.option(
    "--bins",
    type=click.IntRange(1, 1000),
    help="Of the reliability diagrams; default: 10, fewer below 300 queries to evaluate.",
)
@click.option(
    "--resamples",
    type=click.IntRange(0, 100_000),
    help="Of the queries to evaluate, for intervals, 0 for none; default: 1,000, or 200 above"
    " 100,000 queries.",
)
@click.option(
    "--confidence",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.95,
    show_default=True,
    help="Of the intervals.",
)
@options.learned_estimates
@options.NOISE
@options.MODELS
@options.MAX_DEPTH
@options.SEARCH
@click.option("--seed", help="Of split, folds, noise and resamples.", **options.SEED_TYPE)
@options.OUT_FOLDER
@click.pass_obj
def diagnose(
    command: str,
    table: Path,
    strategies: str | None,
    budgets: str | None,
    target: float,
    bins: int | None,
    resamples: int | None,
    confidence: float,
    estimates: str | None,
    learner: str | None,
    folds: int | None,
    cost_model: str | None,
    ridge: str | None,
    sigma_scale: str | None,
    noise: str | None,
    models: str | None,
    max_depth: int,
    search: str,
    seed: int,
    out: Path,
) -> None:
    """Tell whether estimates are good enough to route or cascade on, and what better would give.

    How accurate and calibrated they are before and after a model runs, what each strategy gains on
    them over mixing single models at random, what perfect ones would give, and how accurate they
    must become for the next point of AUC.
    """
    n_budgets, costs = arguments.budgets(budgets)
    if costs:
        raise CascjaxError(f"--budgets {budgets!r}: give how many, such as 20")
    level = arguments.noise(noise or "low")
    estimates, learning = arguments.learning(
        estimates, noise, learner, folds, cost_model, ridge, sigma_scale
    )
    named = None if strategies is None else arguments.names("--strategies", strategies)
    click.echo(f"Reading {table}")
    with output_folder(out):
        with uninterrupted():
            from cascjax import diagnosis
            from cascjax import strategies as strategies_of
            from cascjax.data import read_table
            from cascjax.report.diagnosis import print_diagnosis, save

        kinds = diagnosis.diagnosed_strategies(
            [
                strategies_of.strategy(name, **arguments.of_strategy(name, max_depth, search))
                for name in named or diagnosis.DIAGNOSED
            ]
        )
        data = read_table(table)
        with naming(table):
            data, estimates = readied(data, models, estimates, noise, seed)
            found = diagnosis.diagnose(
                data, strategies=kinds, estimates=estimates, noise=level, budgets=n_budgets,
                target=target, bins=bins, seed=seed, resamples=resamples, confidence=confidence,
                settings={"table": str(table)}, **learning,
            )  # fmt: skip
        report = save(found, out, command)
    print_diagnosis(found, make_console())
    click.echo(f"Report: {report}; numbers: {out / 'diagnosis.json'}")
