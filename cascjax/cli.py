"""The command line: cascjax demo, import, world, inspect, frontier."""

import functools
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from cascjax import __version__
from cascjax.errors import CascjaxError

# Everything that needs JAX is imported inside the commands: `cascjax --help` answers at once.


def _one_line(command: Callable[..., None]) -> Callable[..., None]:
    """Turns what a user can mend into one line and exit code 2, an interrupt into 130."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except CascjaxError as error:
            click.echo(f"cascjax: {' '.join(str(error).split())}", err=True)
            sys.exit(2)
        except KeyboardInterrupt:
            click.echo("cascjax: interrupted; nothing half-written is left", err=True)
            sys.exit(130)

    return wrapped


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__)
def main() -> None:
    """What would routing, cascading or cascade routing of language models give for the money?

    From a log of what several models scored and cost on your queries, draws the cost-quality
    frontier of every strategy.
    """


@main.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("demo"), show_default=True)
@click.option("--queries", type=click.IntRange(min=2), default=100_000, show_default=True)
@click.option("--models", type=click.IntRange(min=2), default=5, show_default=True)
@click.option("--budgets", type=click.IntRange(min=2), default=20, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@_one_line
def demo(out: Path, queries: int, models: int, budgets: int, seed: int) -> None:
    """The whole way on a synthetic workload: a table, its frontier, a report to open."""
    console = Console()
    console.print(f"A synthetic workload: {queries:,} queries x {models} models (seed {seed}).")
    _writable(out)
    table = out / "table.arrow"
    _write_world(table, queries, models, seed, "binary")
    console.print(f"Wrote {table}; try: cascjax inspect {shlex.quote(str(table))}")
    _frontier(console, table, out, n_budgets=budgets, seed=seed)


@main.group(name="import")
def import_() -> None:
    """Make an evaluation table from a log of another shape."""


_ON_BAD = click.option(
    "--on-bad",
    type=click.Choice(["fail", "drop"]),
    default="fail",
    show_default=True,
    help="What to do with rows of missing scores and repeated ids.",
)
_FILE = click.argument("file", type=click.Path(path_type=Path))
_TABLE = click.argument("table", type=click.Path(path_type=Path))


@import_.command()
@_FILE
@_TABLE
@_ON_BAD
@_one_line
def routerbench(file: Path, table: Path, on_bad: str) -> None:
    """RouterBench's wide table: parquet, csv or pickle."""
    from cascjax.io import import_routerbench, write_table

    result = import_routerbench(file, on_bad=on_bad)
    write_table(table, result.arrow)
    click.echo(f"{result.summary}\nWrote {table}")


@import_.command()
@_FILE
@_TABLE
@click.option("--query", required=True, metavar="COL", help="Column of the query's id.")
@click.option("--model", required=True, metavar="COL", help="Column of the model's name.")
@click.option("--quality", required=True, metavar="COL", help="Column of the answer's quality.")
@click.option("--cost", required=True, metavar="COL", help="Column of the answer's cost.")
@click.option("--group", metavar="COL", help="Column of the query's group.")
@click.option("--split", metavar="COL", help='Column of the split, "fit" or "evaluate".')
@_ON_BAD
@_one_line
def long(file: Path, table: Path, on_bad: str, **columns: str | None) -> None:
    """A row per query and model: csv, parquet or Arrow."""
    from cascjax.io import import_long, write_table

    result = import_long(file, on_bad=on_bad, **columns)
    write_table(table, result.arrow)
    click.echo(f"{result.summary}\nWrote {table}")


@main.command()
@_TABLE
@click.option("--queries", type=click.IntRange(min=1), default=100_000, show_default=True)
@click.option("--models", type=click.IntRange(min=2), default=5, show_default=True)
@click.option("--quality", type=click.Choice(["binary", "graded"]), default="binary")
@click.option("--seed", type=int, default=0, show_default=True)
@_one_line
def world(table: Path, queries: int, models: int, quality: str, seed: int) -> None:
    """Write a synthetic workload of any size, in batches."""
    _write_world(table, queries, models, seed, quality)
    click.echo(f"Wrote {table}: {queries:,} queries x {models} models")


@main.command()
@_TABLE
@_one_line
def inspect(table: Path) -> None:
    """Show a table's models, rows, splits, mean quality and cost, and the single-model hull."""
    from cascjax.io import read_table
    from cascjax.report.console import inspect_table

    console = Console()
    for part in inspect_table(read_table(table), str(table)):
        console.print(part)


@main.command()
@_TABLE
@click.option("--strategies", metavar="LIST", help="Comma-separated; default: all of them.")
@click.option(
    "--budgets",
    metavar="N|COSTS",
    help="How many, or comma-separated mean costs; default: ten between neighbours on the hull.",
)
@click.option("--estimates", type=click.Choice(["supplied", "noisy"]), help="Default: supplied"
              " where the table has them, else noisy.")  # fmt: skip
@click.option(
    "--noise",
    default="low",
    show_default=True,
    metavar="LEVEL|QA,QP,CA,CP",
    help="low, medium, high, or the four sigmas of quality ante, post and cost ante, post.",
)
@click.option("--models", metavar="LIST", help="Comma-separated names or column numbers.")
@click.option("--max-depth", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True, help="Of split and noise.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to write.")
@_one_line
def frontier(table: Path, out: Path, budgets: str | None, **options: Any) -> None:
    """Draw the cost-quality frontier of every strategy, and write a report."""
    n_budgets, costs = _budgets(budgets)
    _writable(out)
    _frontier(Console(), table, out, n_budgets=n_budgets, costs=costs, **options)


def _frontier(
    console: Console,
    path: Path,
    out: Path,
    *,
    strategies: str | None = None,
    n_budgets: int | None = None,
    costs: list[float] | None = None,
    estimates: str | None = None,
    noise: str = "low",
    models: str | None = None,
    max_depth: int = 5,
    seed: int = 0,
) -> None:
    import jax
    import numpy as np

    from cascjax import estimators
    from cascjax.io import read_table
    from cascjax.report.console import print_study
    from cascjax.report.write import write_study
    from cascjax.search.frontier import study
    from cascjax.strategies import STRATEGIES, strategy
    from cascjax.table import split_rows

    chosen = [
        strategy(name, **({"max_depth": max_depth} if name == "cascade-routing" else {}))
        for name in (_names(strategies) if strategies else STRATEGIES)
    ]
    level = _noise(noise)
    table = read_table(path)
    if models:
        table = table.select_models(_model_names(models, table.models))
    fit, evaluate = split_rows(table, seed)
    table = table.sort_models(table.cost[fit].mean(0, dtype=np.float64))
    estimates = estimates or ("noisy" if table.quality_ante is None else "supplied")
    console.print(
        f"{path}: {table.n_queries:,} queries x {table.n_models} models, {len(fit):,} to fit,"
        f" {len(evaluate):,} to evaluate; {estimates} estimates."
    )
    _compilation_cache()
    if estimates == "noisy":
        estimator = estimators.noisy(table, jax.random.key(seed), level)
    else:
        estimator = estimators.supplied(table, fit)
    settings = {
        "table": str(path),
        "estimates": estimates,
        "noise": noise if estimates == "noisy" else None,
        "max_depth": max_depth,
        "seed": seed,
    }
    with _progress([s.name for s in chosen], len(fit), len(evaluate)) as progress:
        result = study(
            chosen, table, estimator, fit, evaluate,
            budgets=np.array(costs) if costs else n_budgets,
            settings={k: v for k, v in settings.items() if v is not None},
            progress=progress,
        )  # fmt: skip
    report = write_study(result, out, shlex.join(["cascjax", *sys.argv[1:]]))
    print_study(result, console)
    console.print(f"Report: {report}", soft_wrap=True)


@contextmanager
def _progress(
    names: list[str], n_fit: int, n_evaluate: int
) -> Iterator[Callable[[str, int, bool], None]]:
    """A bar over strategies, with time left; rounds of the search are guessed at until they end."""
    per_strategy = 5 * n_fit + n_evaluate
    with Progress(
        TextColumn("{task.description:16}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("strategy"),
        MofNCompleteColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as bar:
        task = bar.add_task("compiling", total=len(names))
        spent = dict.fromkeys(names, 0)
        ended: list[str] = []

        def advance(name: str, queries: int, done: bool) -> None:
            spent[name] += queries
            if done:
                ended.append(name)
            # A search that outlasts the guess approaches the end of its share, never passes it.
            part = 0 if done else min(0.95, spent[name] / per_strategy)
            bar.update(task, description=name, completed=len(ended) + part)

        yield advance


def _write_world(path: Path, queries: int, models: int, seed: int, quality: str) -> None:
    from cascjax import worlds
    from cascjax.io import TableWriter

    made = worlds.make_world(models, seed, quality=quality)
    with TableWriter(path) as writer:
        for batch in worlds.batches(made, queries, seed):
            writer.write(batch)


def _writable(folder: Path) -> None:
    """Refuses a folder that cannot be written before anything is computed for it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CascjaxError(f"cannot make the folder {folder}: {error.strerror}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise CascjaxError(f"cannot write to the folder {folder}; choose another --out")


def _compilation_cache() -> None:
    """Keeps what XLA compiles between runs, readable by this user alone."""
    import jax
    import platformdirs

    if jax.config.jax_compilation_cache_dir is None:
        folder = platformdirs.user_cache_path("cascjax") / "xla"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            owner = folder.stat()
        except OSError:
            return  # only speed is lost
        if owner.st_uid != os.getuid() or owner.st_mode & 0o077:
            return  # someone else could have written what would be run
        jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if len(set(names)) != len(names):
        raise CascjaxError(f"a name stands twice in {text!r}")
    return names


def _model_names(text: str, known: tuple[str, ...]) -> list[str]:
    """Names as they stand, numbers as columns of the table."""
    names = []
    for name in _names(text):
        if name not in known and name.isdecimal():
            if int(name) >= len(known):
                raise CascjaxError(
                    f"--models: there is no model number {name}; they go from 0 to {len(known) - 1}"
                )
            name = known[int(name)]
        names.append(name)
    return names


def _noise(text: str) -> str | tuple[float, float, float, float]:
    if "," not in text:
        return text
    try:
        quality_ante, quality_post, cost_ante, cost_post = (float(x) for x in text.split(","))
    except ValueError:
        raise CascjaxError(
            f"--noise {text!r}: give low, medium, high, or four numbers QA,QP,CA,CP"
        ) from None
    return quality_ante, quality_post, cost_ante, cost_post


def _budgets(text: str | None) -> tuple[int | None, list[float] | None]:
    """A count, or costs."""
    if text is None:
        return None, None
    try:
        if text.isdecimal() and int(text) >= 2:
            return int(text), None
        costs = [float(x) for x in text.split(",")]
        if all(0 < cost < float("inf") for cost in costs) and not text.isdecimal():
            return None, costs
    except ValueError:
        pass
    raise CascjaxError(
        f"--budgets {text!r}: give how many (2 or more), or costs such as 0.001,0.002"
    )
