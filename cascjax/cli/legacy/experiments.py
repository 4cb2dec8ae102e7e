"""The command that runs the paper's experiments: cascjax reproduce."""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cascjax.cli.legacy import options
from cascjax.cli.legacy.stream import is_stream
from cascjax.cli.terminal import keep_compiled, make_console, naming, output_folder, uninterrupted
from cascjax.errors import CascjaxError

# Everything that needs JAX is imported inside the command: the first words come at once.
if TYPE_CHECKING:
    from rich.table import Table as Shown

    from cascjax.data.table import Table
    from cascjax.experiments import Experiment, Findings
    from cascjax.experiments.tables import Entry, Grid

EXPERIMENTS = {
    "table1": "AUCs for 3, 5 and 11 models at three noise levels",
    "table4": "the same as differences to cascade-routing",
    "noise-grid": "what cascade-routing gains at 136 levels of noise",
    "ablation": "cascade-routing without one thing or another: AUC and time",
    "runtime": "time of a decision for 2 to 100 models",
    "settings": "synthetic in kind of the paper's other data",
}
"""What there is, for the help; the experiments themselves need JAX to say more."""

_TABLELESS = ("runtime", "settings")
"""What is not run on a table: it draws its own data."""

QUERIES = 36_497
"""Of a synthetic table: RouterBench's own number, here for the help as well."""

_HELP = "\b\nNAME is one of\n" + "\n".join(f"  {n:12}{about}" for n, about in EXPERIMENTS.items())


@click.command(epilog=_HELP)
@click.argument("name", type=click.Choice(tuple(EXPERIMENTS)), metavar="NAME")
@options.ANY_TABLES
@click.option("--synthetic", is_flag=True, help="Instead of TABLE, a world shaped like it.")
@click.option(
    "--queries",
    type=click.IntRange(min=1),
    help=f"Of the synthetic table, default: RouterBench's own {QUERIES:,}; or of the synthetic of"
    " settings, default: 1,000.",
)
@click.option(
    "--tuned",
    type=click.Choice(["none", "thresholding", "cheap", "all"]),
    help="Of table1 and table4: also tune none; thresholding; that, cascading and pandora (cheap);"
    " or cascade-routing too. Default: cheap for table1, none for table4 and of many files, whose"
    " table is never in memory whole.",
)
@click.option(
    "--resamples", type=click.IntRange(40, 100_000), help="Of table4 and ablation; default: 1,000."
)
@click.option("--seed", help="Of noise, resamples and synthetic.", **options.SEED_TYPE)
@click.option("--force", is_flag=True, help="Begin again where --out holds another run.")
@options.OUT_FOLDER
@click.pass_context
def reproduce(
    context: click.Context,
    name: str,
    tables: tuple[Path, ...],
    synthetic: bool,
    queries: int | None,
    tuned: str | None,
    resamples: int | None,
    seed: int,
    force: bool,
    out: Path,
) -> None:
    """Run an experiment of the paper, and set what comes out beside what was published.

    TABLE is RouterBench, zero-shot or five-shot, as cascjax import routerbench makes it; what was
    published, and stands beside, is of zero-shot. Finished parts are kept in OUT, so that the same
    command goes on after an interrupt.

    A folder, a pattern or several files of such a table are read as one, piece by piece: they may
    be larger than memory. They are read twice by noise-grid, three times by ablation, which times
    decisions on some of the rows alone, and for each of the three choices of models twice by table1
    and three times by table4.
    """
    files = list(tables)
    if name in _TABLELESS:
        if files or synthetic:
            given = str(files[0]) if files else "--synthetic"
            raise CascjaxError(f"{name} draws its own data and needs no table: leave out {given}")
    elif bool(files) == synthetic:
        raise CascjaxError(f"{name} needs a TABLE or --synthetic, one of them")
    elif queries is not None and not synthetic:
        raise CascjaxError("--queries is of a synthetic table: give --synthetic, or leave it out")
    with output_folder(out):
        with uninterrupted():
            from cascjax import experiments
            from cascjax.data import read_table
            from cascjax.data.source import open_files
            from cascjax.experiments.cells import cell_progress

        experiment = experiments.EXPERIMENTS[name]
        many = bool(files) and is_stream(files)
        asked = {"tuned": tuned, "resamples": resamples}
        if many and "tuned" in experiment.defaults:
            asked["tuned"] = tuned or "none"
        if name in _TABLELESS:
            asked["queries"] = queries
        settings = _settings(experiment, asked)
        keep_compiled()
        data, stream, source = None, None, ""
        if files:
            more = f" and {len(files) - 1} more" if len(files) > 1 else ""
            click.echo(f"Reading {files[0]}{more}")
            if many:
                _check_out(files, out)
                stream = open_files(files, chunk_rows=experiments.PIECE_ROWS)
                source = stream.name
            else:
                data, source = read_table(files[0]), files[0].name
        elif synthetic:
            data = _world(queries or QUERIES, seed)
            source = f"a synthetic twin of RouterBench (seed {seed})"
        job = experiments.Job(data, source, seed, settings, stream)
        kept = total = 0

        def counted(cells: int, found: int) -> None:
            nonlocal kept, total
            kept, total = found, cells
            if found:
                click.echo(f"{found} of {cells} parts were done before, and are kept.")

        def moved(label: str, share: float, done: int) -> None:
            nonlocal kept
            kept = max(kept, done)
            bar(label, share, done)

        try:
            # What is wrong with a stream is said of one of its files, or of all, already.
            where = nullcontext() if many else naming(files[0] if files else Path(name))
            with cell_progress(lambda: total) as bar, where:
                found = experiments.reproduce(
                    experiment, job, out, context.obj, force=force, progress=moved,
                    counted=counted,
                )  # fmt: skip
        except KeyboardInterrupt:
            also = ", what is done of the next as well" if many and kept < total else ""
            click.echo(
                f"cascjax: interrupted; {kept} of {total} parts are kept in {out}{also}, and the"
                " same command goes on from there",
                err=True,
            )
            context.exit(130)
    if job.rows:
        click.echo(job.rows)
    _print(found)
    click.echo(f"Wrote {out / name}.md, .tex, .parquet, .png and .svg")


def _check_out(tables: Sequence[Path], out: Path) -> None:
    """Refuses to write into a folder of tables: what is kept would be read as one of them."""
    if any(table.is_dir() and table.resolve() == out.resolve() for table in tables):
        raise CascjaxError(f"--out {out} is the folder of the tables: name another")


def _settings(experiment: "Experiment", asked: dict[str, Any]) -> dict[str, Any]:
    """The experiment's settings, with what was asked for; refuses what it does not take."""
    given = {name: value for name, value in asked.items() if value is not None}
    for name in given:
        if name not in experiment.defaults:
            raise CascjaxError(f"{experiment.name} has no --{name}: leave it out")
    return dict(experiment.defaults) | given


def _world(queries: int, seed: int) -> "Table":
    from cascjax import synthetic

    return synthetic.sample(synthetic.make_dataset(11, kind="routerbench"), seed, queries)


def _print(found: "Findings") -> None:
    from rich.text import Text

    console = make_console()
    for grid in found.grids:
        console.print(Text(grid.title, style="bold"))
        for part in _parts(grid, console.width):
            console.print(part)
        for note in grid.notes:
            console.print(Text(note))
    for line in found.lines:
        console.print(Text(line))


def _parts(grid: "Grid", width: int) -> "list[Shown]":
    """The table, or parts of it that fit a width, each with the first column: no number is cut."""
    from rich.text import Text

    from cascjax.experiments.tables import Entry
    from cascjax.report.tables import grid_of

    def cell(of: "str | Entry") -> Text:
        entry = of if isinstance(of, Entry) else Entry(of)
        text = entry.ours + (f" ({entry.published})" if entry.published else "")
        return Text(text, style="bold" if entry.best else "")

    columns = [
        [Text(name), *map(cell, rest)] for name, *rest in zip(grid.head, *grid.rows, strict=True)
    ]
    # Three spaces part columns, and one stands at either edge.
    wide = [3 + max(text.cell_len for text in column) for column in columns]
    parts: list[list[int]] = []
    for i in range(1, len(columns)):
        if not parts or wide[0] + sum(wide[j] for j in parts[-1]) + wide[i] > width:
            parts.append([])
        parts[-1].append(i)
    shown = []
    for part in parts:
        shown.append(grid_of(*(grid.head[i] for i in (0, *part))))
        for row in zip(*(columns[i][1:] for i in (0, *part)), strict=True):
            shown[-1].add_row(*row)
    return shown
