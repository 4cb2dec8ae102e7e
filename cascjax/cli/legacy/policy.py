"""Commands that make and use policies: cascjax fit, tune, evaluate."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cascjax.cli.legacy import arguments, options
from cascjax.cli.terminal import keep_compiled, make_console, naming, output_folder, uninterrupted
from cascjax.words import counted

# Everything that needs JAX is imported inside the commands: the first words come at once.
if TYPE_CHECKING:
    from cascjax.data.table import Table


def readied(
    table: "Table", models: str | None, estimates: str | None, noise: str | None, seed: int
) -> "tuple[Table, str]":
    """A table as read, with the models asked for in order of cost, and the kind of estimates."""
    from cascjax.data.table import ESTIMATE_COLUMNS, mean_rows, split_rows

    if models is not None:
        table = table.select_models(arguments.models(models, table.models))
    if estimates is None:
        estimates = "noisy" if noise or table.quality_ante is None else "supplied"
    if estimates == "noisy":
        # What the table supplies is not asked for: the room is for what the noise makes.
        table = replace(table, **dict.fromkeys(ESTIMATE_COLUMNS))
    rows, _ = split_rows(table, seed)
    table = table.sort_models(mean_rows(table.cost, rows), reuse=True)
    keep_compiled()
    click.echo(
        f"{counted(table.n_queries, 'query', 'queries')} x {counted(table.n_models, 'model')},"
        f" {len(rows):,} to fit;"
        f" {estimates} estimates."
    )
    if estimates == "noisy":
        click.echo("Noisy estimates are the truth under simulated noise, not what one would have.")
    return table, estimates


@click.command()
@options.TABLE
@click.option(
    "--strategy",
    required=True,
    metavar="NAME",
    help="thresholding, cascading, cascade-routing or pandora.",
)
@click.option(
    "--budgets",
    metavar="N|COSTS",
    help="How many, or comma-separated mean costs, a policy each; default: ten between neighbours"
    " on the hull.",
)
@click.option(
    "--folds",
    type=click.IntRange(2, 100),
    help="Of the cross-validation that decides whether tuning pays; default: 20, or 5 for"
    " cascade-routing.",
)
@click.option(
    "--resamples",
    type=click.IntRange(0, 100_000),
    help="Of the queries to evaluate, for intervals; default: 1,000 where that takes seconds.",
)
@options.ESTIMATES
@options.NOISE
@options.MODELS
@options.MAX_DEPTH
@options.SEARCH
@options.SEED
@options.OUT_FOLDER
@click.pass_context
def tune(
    context: click.Context,
    table: Path,
    strategy: str,
    budgets: str | None,
    folds: int | None,
    resamples: int | None,
    estimates: str | None,
    noise: str | None,
    models: str | None,
    max_depth: int,
    search: str,
    seed: int,
    out: Path,
) -> None:
    """Tune a strategy for all budgets at once: a policy for each, and the gain out of sample.

    An interrupt keeps the best so far, and the same command goes on from there; thresholding and
    cascading are tuned in less than a second, and start over.
    """
    n_budgets, costs = arguments.budgets(budgets)
    level = arguments.noise(noise or "low")
    with _journal_kept(out / "journal.npz"):
        click.echo(f"Reading {table}")
        with uninterrupted():
            from cascjax import strategies
            from cascjax.data import read_table
            from cascjax.data.table import split_rows
            from cascjax.engine.journal import Journal
            from cascjax.metrics.bootstrap import default_resamples
            from cascjax.report.console import progress
            from cascjax.report.study import print_study
            from cascjax.report.tuning import print_tuning
            from cascjax.report.tuning import save as save_tuning
            from cascjax.search.tune import SearchRun
            from cascjax.tuning import tune as tune_policies

        named = arguments.of_strategy(strategy, max_depth, search)
        kind = strategies.strategy(strategy, **named)
        with output_folder(out):
            journal = Journal(out / "journal.npz")
            data = read_table(table)
            with naming(table):
                data, estimates = readied(data, models, estimates, noise, seed)
                if resamples is None:
                    resamples = default_resamples(len(split_rows(data, seed)[1]), 0.95)
                with progress() as advance:
                    found = tune_policies(
                        data, kind, budgets=costs or n_budgets, folds=folds, estimates=estimates,
                        noise=level, seed=seed, resamples=resamples,
                        run=SearchRun(journal, lambda step, steps: advance("tuning", 1)),
                    )  # fmt: skip
                interrupted = found.tuned.interrupted
            report = save_tuning(found, out, context.obj, {"table": str(table)})
            if not interrupted:
                journal.remove()
    console = make_console()
    print_study(found.study, console)
    print_tuning(found, console)
    click.echo(f"Report: {report}; policies: {out}/policy-*.json")
    if interrupted:
        click.echo(
            f"cascjax: interrupted; the best after {journal.steps} steps is written, and the same"
            " command goes on from there",
            err=True,
        )
        context.exit(130)


@contextmanager
def _journal_kept(path: Path) -> Iterator[None]:
    """Says of an interrupt, where a search can go on from what it found before, that it can."""
    try:
        yield
    except KeyboardInterrupt as stop:
        if not path.exists():
            raise
        raise KeyboardInterrupt(
            f"the best so far is kept in {path.parent}, and the same command goes on from there"
        ) from stop
