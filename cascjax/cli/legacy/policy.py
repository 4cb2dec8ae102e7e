"""Commands that make and use policies: cascjax fit, tune, evaluate."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cascjax.cli import launch
from cascjax.cli.launch import Place as Asked
from cascjax.cli.legacy import arguments, options
from cascjax.cli.legacy import stream as stream_commands
from cascjax.cli.terminal import keep_compiled, make_console, naming, output_folder, uninterrupted
from cascjax.errors import CascjaxError, unknown_name
from cascjax.words import counted

# Everything that needs JAX is imported inside the commands: the first words come at once.
if TYPE_CHECKING:
    from cascjax.data.table import Table


@click.command()
@options.TABLES
@click.option("--strategy", required=True, metavar="NAME", help="What to fit.")
@click.option(
    "--budget",
    multiple=True,
    metavar="B|COST=B",
    help="Mean cost allowed; of several costs one each, as in cost=0.001 and seconds=2.",
)
@click.option("--quality", type=float, metavar="Q", help="Mean quality wanted, for the least cost.")
@click.option(
    "--parameter",
    metavar="X|X,X,...",
    help="Lambda, or tau for thresholding, or one a step; of frugal the models of a chain in binary"
    " and tau, as in 5,0.7 for the first and the third.",
)
@click.option(
    "--group-budget",
    multiple=True,
    metavar="GROUP=B|GROUP:COST=B",
    help="Mean cost allowed to the queries of a group, which get parameters of their own.",
)
@click.option(
    "--confidence",
    type=float,
    metavar="P",
    help="Of new queries keeping within every budget; above 0.5 and below 1.",
)
@click.option(
    "--new-queries",
    metavar="M|inf",
    help="How many new queries that is; default: as many as are fitted on.",
)
@options.learned_estimates
@options.NOISE
@options.MODELS
@options.MAX_DEPTH
@options.SEARCH
@click.option("--seed", help="Of split, folds and noise.", **options.SEED_TYPE)
@options.SAMPLE
@options.RESUME
@options.FORCE
@options.processes
@click.option("--out", required=True, type=click.Path(path_type=Path), help="File to write.")
@click.pass_obj
def fit(
    command: str,
    tables: tuple[Path, ...],
    strategy: str,
    budget: tuple[str, ...],
    quality: float | None,
    parameter: str | None,
    group_budget: tuple[str, ...],
    confidence: float | None,
    new_queries: str | None,
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
    sample: int | None,
    resume: bool,
    force: bool,
    several: Asked,
    out: Path,
) -> None:
    """Find a strategy's parameters for a budget or a quality, and write them as a policy.

    Of a folder, a pattern or several files, which may be larger than memory, settings are looked
    for on a sample of rows; one budget of the column cost is then met on all rows to fit on.
    """
    asked = [
        name
        for name, given in (
            ("--budget", budget),
            ("--quality", quality is not None),
            ("--parameter", parameter is not None),
        )
        if given
    ]
    if len(asked) != 1:
        raise CascjaxError(
            f"give one of --budget, --quality and --parameter, not {' and '.join(asked) or 'none'}"
        )
    budgets = arguments.named_numbers("--budget", budget, "cost")
    of_groups = arguments.named_numbers("--group-budget", group_budget, None)
    steps = None
    if parameter is not None:
        steps = [arguments.number("--parameter", step) for step in parameter.split(",")]
    m = None if new_queries is None else arguments.count("--new-queries", new_queries)
    if m is not None and confidence is None:
        raise CascjaxError("--new-queries goes with a confidence: give --confidence too")
    arguments.noise(noise or "low")
    estimates, learning = arguments.learning(
        estimates, noise, learner, folds, cost_model, ridge, sigma_scale
    )
    if any(out.resolve() == table.resolve() for table in tables):
        raise CascjaxError(f"{out} is the table itself: name another file for the policy")
    if stream_commands.is_stream(tables):
        if of_groups:
            raise CascjaxError("--group-budget is of one table: leave it out, or name one file")
        speaks = launch.enter(several, shlex.split(command)[1:], stream_commands.journal_of(out))
        stream_commands.fit(
            tables, out, speaks, strategy=strategy, budget=budgets or None, quality=quality,
            parameter=None if steps is None else steps[0] if len(steps) == 1 else steps,
            confidence=confidence, new_queries=m, estimates=estimates, noise=noise, models=models,
            max_depth=max_depth, search=search, seed=seed, sample=sample, resume=resume,
            force=force, learning=learning,
        )  # fmt: skip
        return
    stream_commands.check_table_options(
        tables[0], sample=sample, resume=resume, force=force, **options.places(several)
    )
    table = tables[0]
    click.echo(f"Reading {table}")
    with uninterrupted():
        from cascjax import strategies
        from cascjax.data import read_table
        from cascjax.data.files import atomic_write
        from cascjax.engine.options import RunOptions
        from cascjax.fitting import Confidence
        from cascjax.fitting import fit as fit_policy
        from cascjax.report.console import query_progress
        from cascjax.report.policy import print_policy

    kind = strategies.strategy(strategy, **arguments.of_strategy(strategy, max_depth, search))
    # The file is there before anything is computed for it: what cannot be written fails now.
    with atomic_write(out) as temporary:
        data = read_table(table)
        with naming(table):
            data, estimates = readied(data, models, estimates, noise, seed)
            with query_progress("fitting") as progress:
                sure = None if confidence is None else Confidence(confidence, m)
                policy = fit_policy(
                    data,
                    kind,
                    arguments.spec(estimates, noise, learning),
                    budget=budgets or None,
                    quality=quality,
                    parameter=None if steps is None else steps[0] if len(steps) == 1 else steps,
                    group_budgets=_by_group(of_groups, data.groups) or None,
                    confidence=sure,
                    seed=seed,
                    options=RunOptions(
                        progress=lambda work, n: progress(n * (work != "reading")),
                        sample=data.n_rows,
                    ),
                )
        temporary.write_text(policy.text(), encoding="utf-8")
    for note in policy.record.get("notes", ()):
        click.echo(f"note: {note}.")
    print_policy(policy, make_console())
    paths = f"{shlex.quote(str(out))} {shlex.quote(str(table))}"
    click.echo(f"Wrote {out}; try: cascjax evaluate {paths} --out evaluation")


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


def _by_group(found: dict[str, float], groups: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """Budgets by group and cost, of GROUP or GROUP:COST; a name may hold a colon itself."""
    budgets: dict[str, dict[str, float]] = {}
    for name, budget in found.items():
        group, cost = name, "cost"
        if name not in groups:
            group, sign, cost = name.rpartition(":")
            if not sign or group not in groups:
                raise unknown_name("group", group or name, groups)
        if cost in budgets.setdefault(group, {}):
            raise CascjaxError(f"--group-budget: {name!r} is listed twice; name it once")
        budgets[group][cost] = budget
    return budgets


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
            from cascjax.report.console import query_progress
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
                with query_progress("tuning") as progress:
                    found = tune_policies(
                        data, kind, budgets=costs or n_budgets, folds=folds, estimates=estimates,
                        noise=level, seed=seed, resamples=resamples,
                        run=SearchRun(journal, lambda step, steps: progress(1)),
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


@click.command()
@options.POLICY
@options.TABLES
@click.option(
    "--resamples",
    type=click.IntRange(0, 100_000),
    help="Of the bootstrap behind the intervals; 0 for none. Default: 1,000, and 0 of many files.",
)
@click.option(
    "--confidence",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.95,
    show_default=True,
    help="Of the intervals.",
)
@click.option("--seed", help="Of the resamples.", **options.SEED_TYPE)
@options.RESUME
@options.FORCE
@options.processes
@options.OUT_FOLDER
@click.pass_obj
def evaluate(
    command: str,
    policy: Path,
    tables: tuple[Path, ...],
    resamples: int | None,
    confidence: float,
    seed: int,
    resume: bool,
    force: bool,
    several: Asked,
    out: Path,
) -> None:
    """Replay a policy on a table: quality and costs with intervals, and whether budgets hold.

    Of a folder, a pattern or several files, which may be larger than memory, summary.json is
    written, and no row a query.
    """
    if stream_commands.is_stream(tables):
        speaks = launch.enter(several, shlex.split(command)[1:], out / stream_commands.JOURNAL)
        with output_folder(out):
            stream_commands.evaluate(
                policy, tables, out, speaks, resamples=resamples or 0, confidence=confidence,
                seed=seed, resume=resume, force=force,
            )  # fmt: skip
        return
    stream_commands.check_table_options(
        tables[0], resume=resume, force=force, **options.places(several)
    )
    table, resamples = tables[0], 1000 if resamples is None else resamples
    click.echo(f"Reading {policy} and {table}")
    with output_folder(out):
        with uninterrupted():
            from cascjax.data import read_table
            from cascjax.data.files import read_ids
            from cascjax.engine.options import RunOptions
            from cascjax.evaluation import evaluate as evaluate_policy
            from cascjax.policy import load_policy
            from cascjax.report.console import query_progress
            from cascjax.report.evaluation import print_evaluation, rows_note, save

        loaded = load_policy(policy)
        data = read_table(table)
        keep_compiled()
        with naming(table), query_progress("evaluating") as progress:
            found = evaluate_policy(
                loaded, data, resamples=resamples, confidence=confidence, seed=seed,
                options=RunOptions(progress=lambda work, n: progress(n)),
            )  # fmt: skip
        settings = {"policy": str(policy), "table": str(table), "seed": seed}
        save(found, out, read_ids(table), settings | {"resamples": resamples})
    print_evaluation(found, make_console())
    if note := rows_note(found, data.n_queries, split=data.split is not None):
        click.echo(f"note: {note}.")
    click.echo(f"Wrote {out / 'evaluation.parquet'} and {out / 'summary.json'}")
