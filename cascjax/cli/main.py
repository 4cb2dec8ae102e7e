"""The command line: cascjax demo, import, world, inspect, frontier, diagnose, and so on."""

import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cascjax import __version__
from cascjax.cli import arguments, options
from cascjax.cli import diagnose as diagnose_command
from cascjax.cli import experiments as experiment_commands
from cascjax.cli import policy as policy_commands
from cascjax.cli import stream as stream_commands
from cascjax.cli.terminal import (
    OneLineErrors,
    make_console,
    output_folder,
    uninterrupted,
)
from cascjax.engine import launch
from cascjax.engine.launch import Asked
from cascjax.errors import CascjaxError

# Everything that needs JAX is imported inside the commands: the first words come at once.
if TYPE_CHECKING:
    from cascjax.importers import ImportResult


@click.group(
    name="cascjax",
    cls=OneLineErrors,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__)
def main() -> None:
    """What would routing, cascading or cascade routing of language models give for the money?

    From a log of what several models scored and cost on your queries, draws the cost-quality
    frontier of every strategy.
    """


_KINDS = {
    "judged": "a judge scores answers",
    "routerbench": "a twin of RouterBench, by numbers measured there",
    "swebench": "tests tell what is right, once a model has run",
    "code-math": "tests for code, agreement for mathematics",
    "classification": "class probabilities",
    "open-form": "log-probabilities and lengths",
}

_MODELS = click.option("--models", type=click.IntRange(2, 1000), default=5, show_default=True)


@main.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("demo"), show_default=True)
@click.option("--queries", type=click.IntRange(min=2), default=100_000, show_default=True)
@_MODELS
@click.option(
    "--budgets", type=click.IntRange(2, arguments.MAX_BUDGETS), default=20, show_default=True
)
@click.option("--seed", **options.SEED_TYPE)
@click.pass_obj
def demo(command: str, out: Path, queries: int, models: int, budgets: int, seed: int) -> None:
    """The whole way on a synthetic workload: a table, its frontier, a report to open."""
    click.echo(f"A synthetic workload: {queries:,} queries x {models} models (seed {seed}).")
    with output_folder(out):
        table = out / "table.arrow"
        _write_world(table, queries, models, seed)
        click.echo(f"Wrote {table}; try: cascjax inspect {shlex.quote(str(table))}")
        stream_commands.frontier(
            (table,), out, command, budgets=budgets, strategies=None, estimates=None, noise=None,
            models=None, seed=seed, scores=None, resamples=None, confidence=None,
        )  # fmt: skip


@main.group(name="import")
def import_() -> None:
    """Make an evaluation table from a log of another shape."""


_INVALID = click.option(
    "--invalid",
    type=click.Choice(["error", "drop"]),
    default="error",
    show_default=True,
    help="Refuse a file with missing scores or repeated ids, or drop such rows.",
)


_FEATURES = click.option(
    "--features",
    type=click.Choice(["text"]),
    help="Add features of the prompts and signals of the responses, for learned estimates.",
)
_TEXT_MODEL = click.option(
    "--text-model",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="What words become, so that other logs get the same features: read where it exists, else"
    " fitted on this log's prompts and written.",
)
_COMPONENTS = click.option(
    "--components",
    type=click.IntRange(1, 1024),
    help="How many features the words become; default: 32, or as in --text-model.",
)


@import_.command()
@options.FILE
@options.TABLE
@_INVALID
@_FEATURES
@_TEXT_MODEL
@_COMPONENTS
@click.option(
    "--signal",
    multiple=True,
    metavar="NAME=COL",
    help="A number seen once a model has run, and what its columns '<model>|COL' have after the"
    " bar; can be given several times.",
)
def routerbench(
    file: Path,
    table: Path,
    invalid: str,
    features: str | None,
    text_model: Path | None,
    components: int | None,
    signal: tuple[str, ...],
) -> None:
    """RouterBench's wide table: parquet, csv or pickle."""
    signals = arguments.named_columns("--signal", signal)
    _check_outputs(file, table, text_model)
    _import(
        file,
        table,
        lambda importers: importers.import_routerbench(
            file,
            invalid=invalid,
            features=features,
            text_model=text_model,
            n_components=components,
            extra_signals=signals,
        ),
    )


@import_.command()
@options.FILE
@options.TABLE
@click.option("--query", required=True, metavar="COL", help="Column of the query's id.")
@click.option("--model", required=True, metavar="COL", help="Column of the model's name.")
@click.option("--quality", required=True, metavar="COL", help="Column of the answer's quality.")
@click.option("--cost", required=True, metavar="COL", help="Column of the answer's cost.")
@click.option("--group", metavar="COL", help="Column of the query's group.")
@click.option("--split", metavar="COL", help='Column of the split, "fit" or "evaluate".')
@click.option(
    "--extra-cost",
    multiple=True,
    metavar="NAME=COL",
    help="A extra cost and its column, such as seconds=latency_s; can be given several times.",
)
@click.option("--prompt", metavar="COL", help="Column of the query's prompt, for --features.")
@click.option("--response", metavar="COL", help="Column of the model's response, for --features.")
@_FEATURES
@_TEXT_MODEL
@_COMPONENTS
@click.option(
    "--feature",
    multiple=True,
    metavar="NAME=COL",
    help="A number known of a query before any model runs, and its column; several times.",
)
@click.option(
    "--signal",
    multiple=True,
    metavar="NAME=COL",
    help="A number seen once a model has run, and its column, such as logprob=mean_logprob;"
    " several times.",
)
@click.option(
    "--logprobs",
    metavar="COL",
    help="Column with a list of the log-probabilities of the answer's tokens: their mean and the"
    " last become signals.",
)
@click.option(
    "--class-probabilities",
    metavar="COL",
    help="Column with a list of the probability of each class: entropy and margin become signals.",
)
@_INVALID
def long(
    file: Path,
    table: Path,
    extra_cost: tuple[str, ...],
    text_model: Path | None,
    components: int | None,
    feature: tuple[str, ...],
    signal: tuple[str, ...],
    **columns: Any,
) -> None:
    """A row per query and model: csv, parquet or Arrow."""
    more: dict[str, Any] = {
        "extra_costs": arguments.extra_costs(extra_cost),
        "extra_features": arguments.named_columns("--feature", feature),
        "extra_signals": arguments.named_columns("--signal", signal),
        "text_model": text_model,
        "n_components": components,
    }
    _check_outputs(file, table, text_model)
    _import(file, table, lambda importers: importers.import_long(file, **columns, **more))


def _check_outputs(file: Path, table: Path, text_model: Path | None) -> None:
    """Refuse a text model that is the log or the table: it would be read, or written over."""
    if text_model is None:
        return
    for other, what in ((file, "log"), (table, "table")):
        if text_model.resolve() == other.resolve():
            raise CascjaxError(f"{text_model} is the {what}: name another file for --text-model")


_AS_OPTIONS = (
    ("invalid='drop'", "--invalid drop"),
    ("text_model and n_components", "--text-model and --components"),
    ("features='text'", "--features text"),
    ("needs prompt, the column with", "needs --prompt, the column with"),
)
"""What a library's user is told to do, and how it is done here."""


def _import(file: Path, table: Path, read: "Callable[[Any], ImportResult]") -> None:
    if file.resolve() == table.resolve():
        raise CascjaxError(f"{table} is the log itself: name another file for the table")
    click.echo(f"Reading {file}")
    with uninterrupted():
        from cascjax import importers
        from cascjax.data import TableWriter

    try:
        with TableWriter(table) as writer:
            result = read(importers)
            writer.write(result.arrow)
    except CascjaxError as error:
        said = str(error)
        for word, option in _AS_OPTIONS:
            said = said.replace(word, option)
        raise CascjaxError(said) from error
    click.echo("\n".join((result.summary, *result.notes, f"Wrote {table}")))


@main.command()
@options.TABLE
@click.option("--queries", type=click.IntRange(min=1), default=100_000, show_default=True)
@click.option(
    "--parts",
    type=click.IntRange(1, 100_000),
    help="Write so many files to a folder TABLE, part-00000.arrow and so on.",
)
@_MODELS
@click.option(
    "--kind",
    type=click.Choice(tuple(_KINDS)),
    default="judged",
    show_default=True,
    help="; ".join(f"{name}: {what}" for name, what in _KINDS.items()) + ".",
)
@click.option("--quality", type=click.Choice(["binary", "graded"]), help="Of judged; binary.")
@click.option("--features", is_flag=True, help="Add features and signals; other kinds have them.")
@click.option("--seconds", is_flag=True, help="Add a extra cost: how long an answer takes.")
@click.option("--seed", **options.SEED_TYPE)
def world(
    table: Path,
    queries: int,
    parts: int | None,
    models: int,
    kind: str,
    quality: str | None,
    features: bool,
    seconds: bool,
    seed: int,
) -> None:
    """Write a synthetic workload of any size, in batches."""
    if quality is not None and kind != "judged":
        raise CascjaxError(f"--quality is of judged datasets: leave it out with --kind {kind}")
    _write_world(table, queries, models, seed, kind, quality, features, seconds, parts)
    files = "" if parts is None else f" in {parts} file{'s' * (parts > 1)}"
    click.echo(f"Wrote {table}: {queries:,} queries x {models} models{files}")


def _write_world(
    path: Path,
    queries: int,
    models: int,
    seed: int,
    kind: str = "judged",
    quality: str | None = None,
    features: bool = False,
    seconds: bool = False,
    parts: int | None = None,
) -> None:
    if parts is not None and parts > queries:
        raise CascjaxError(f"--parts {parts:,} are more than the {queries:,} queries: ask for less")
    features = features or kind != "judged"
    free = shutil.disk_usage(path.parent).free if path.parent.is_dir() else sys.maxsize
    columns = 6 + seconds + 5 * features  # of float32 by model; of features: signals, answer, sigma
    if (size := 4 * columns * queries * models) > free:
        raise CascjaxError(
            f"cannot write {path}: {queries:,} queries x {models} models take about"
            f" {size / 1e9:,.0f} GB and {free / 1e9:,.0f} GB are free; ask for fewer --queries"
        )
    with uninterrupted():
        from cascjax import synthetic
        from cascjax.data import TableWriter
        from cascjax.data.source import write_parts

    settings = {} if quality is None else {"quality": quality}
    made = synthetic.make_dataset(models, seed, kind=kind, **settings)
    batches = synthetic.batches(made, queries, seed, features=features, seconds=seconds)
    if parts is not None:
        write_parts(path, batches, queries, parts)
        return
    with TableWriter(path) as writer:
        for batch in batches:
            writer.write(batch)


@main.command()
@options.TABLES
def inspect(tables: tuple[Path, ...]) -> None:
    """Show a table's models, rows, splits, mean quality and cost, and the single-model hull.

    Of a folder, a pattern or several files, which may be larger than memory, those of all their
    rows.
    """
    if stream_commands.is_stream(tables):
        stream_commands.inspect(tables)
        return
    with uninterrupted():
        from cascjax.data import read_table
        from cascjax.report.contents import contents_of, print_contents

    print_contents(contents_of(read_table(tables[0])), str(tables[0]), make_console())


@main.command()
@options.TABLES
@click.option("--strategies", metavar="LIST", help="Comma-separated; default: all of them.")
@click.option(
    "--budgets",
    metavar="N|COSTS",
    help="How many, or comma-separated mean costs; default: ten between neighbours on the hull.",
)
@options.learned_estimates
@options.NOISE
@options.MODELS
@options.MAX_DEPTH
@options.SEARCH
@click.option(
    "--scores",
    metavar="LIST|all",
    help="Comma-separated names of the field's scores to print, such as aiq,qnc,apgr.",
)
@click.option(
    "--resamples",
    type=click.IntRange(min=0),
    help="Bootstrap resamples of the evaluate queries for intervals, 0 for none; default: 1,000"
    " for up to 100,000 queries, else 0; of many files 0.",
)
@click.option(
    "--confidence",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Of the intervals; default: 0.95.",
)
@click.option("--seed", help="Of split, folds, noise and resamples.", **options.SEED_TYPE)
@options.SAMPLE
@options.RESUME
@options.FORCE
@options.processes
@options.OUT_FOLDER
@click.pass_obj
def frontier(
    command: str,
    tables: tuple[Path, ...],
    out: Path,
    budgets: str | None,
    sample: int | None,
    resume: bool,
    force: bool,
    several: Asked,
    **asked: Any,
) -> None:
    """Draw the cost-quality frontier of every strategy, and write a report.

    Of a folder, a pattern or several files, which may be larger than memory, rows are read in
    pieces, by several processes if wanted, and what is done is kept in --out until the end: see
    --resume.
    """
    n_budgets, costs = arguments.budgets(budgets)
    several_files, speaks = stream_commands.is_stream(tables), True
    if several_files:
        speaks = launch.enter(several, command, out / stream_commands.JOURNAL)
    else:
        stream_commands.check_table_options(
            tables[0], sample=sample, resume=resume, force=force, **several.places
        )
    with output_folder(out):
        stream_commands.frontier(
            tables, out, command, speaks, budgets=costs or n_budgets, sample=sample,
            resume=resume, force=force, **asked,
        )  # fmt: skip


main.add_command(diagnose_command.diagnose)
main.add_command(policy_commands.fit)
main.add_command(policy_commands.tune)
main.add_command(policy_commands.evaluate)
main.add_command(experiment_commands.reproduce)
