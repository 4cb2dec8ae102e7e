"""What an experiment is, and the job of running one: cells, tables, a picture, files."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from cascjax import __version__
from cascjax.data.files import atomic_write
from cascjax.data.table import PAPER_EVALUATE, Table
from cascjax.engine.parts import FILES, discard
from cascjax.engine.passes import PERMUTED
from cascjax.errors import CascjaxError
from cascjax.experiments.cells import Cell, Parts, Row, run_cells
from cascjax.experiments.drawing import save_drawing
from cascjax.experiments.legacy import Ledger, Stream
from cascjax.experiments.protocol import split
from cascjax.experiments.tables import Grid, latex, markdown

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Job:
    """What an experiment is run on and with.

    Attributes:
        table: RouterBench or what is shaped like it; None where an experiment needs none.
        source: where the table came from, in words.
        seed: of noise, resamples and synthetic.
        settings: what else was asked for, by name; see each experiment's `defaults`.
        stream: the same in files that are read piece by piece, in place of a table.
        ledger: in whose folder cells of a stream keep what is done of them, each in a folder of its
            own; by default nowhere.
    """

    table: Table | None
    source: str
    seed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    stream: Stream | None = None
    ledger: Ledger | None = None

    @property
    def data(self) -> Table:
        """The table, of an experiment that needs one."""
        assert self.table is not None
        return self.table

    @property
    def rows(self) -> str:
        """What it is run on, a sentence; none where it needs no table."""
        if self.stream is not None:
            return self._stream_rows(self.stream)
        if self.table is None:
            return ""
        fit, evaluate = split(self.table.n_queries)
        return (
            f"On {self.source}: {self.table.n_queries:,} queries, of which {len(fit):,} to fit on"
            f" and {len(evaluate):,} to evaluate on, as the paper cuts them."
        )

    def _stream_rows(self, stream: Stream) -> str:
        n, files = stream.n_rows, len(stream.files)
        n_fit = n - math.ceil(PAPER_EVALUATE * n)
        some = f"{n_fit:,} to fit on and {n - n_fit:,} to evaluate on, as the paper cuts them"
        if n > PERMUTED:
            some = "about 5% to fit on and the rest to evaluate on, drawn row by row"
        of_files = f"{files:,} file{'s' * (files > 1)}"
        return f"On {self.source}: {n:,} queries in {of_files}, of which {some}."


@dataclass(frozen=True)
class Findings:
    """What an experiment found, to be written.

    Attributes:
        grids: tables, the one that answers its question first.
        lines: sentences that stand after the tables.
        draw: draws the picture on an empty figure.
        size: of the picture, in inches.
        rows: those of all cells, where they are written with more than the cells knew.
    """

    grids: Sequence[Grid]
    lines: Sequence[str]
    draw: "Callable[[Figure], None]"
    size: tuple[float, float] = (8.0, 4.5)
    rows: Sequence[Row] | None = None


@dataclass(frozen=True)
class Experiment:
    """One table or figure of the paper.

    Attributes:
        name: what the command calls it.
        about: one line.
        cells: the work, in pieces.
        findings: tables and picture from all rows.
        defaults: settings it takes, with what they are where nothing is asked for.
        needs_table: whether it runs on a table.
        readings: how many times it reads the files of a stream; 0 where it takes none.
    """

    name: str
    about: str
    cells: Callable[[Job], Sequence[Cell]]
    findings: Callable[[Job, Sequence[Row]], Findings]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    needs_table: bool = True
    readings: int = 0


INSIDE = ".parts"
"""How the folder is called, after its cell, that a cell of a stream keeps what is done in."""

SUFFIXES = (".parquet", ".png", ".svg", ".md", ".tex")
"""Of the files that an experiment leaves, each named after it."""


def reproduce(
    experiment: Experiment,
    job: Job,
    out: Path,
    command: str,
    *,
    force: bool = False,
    progress: Callable[[str, float, int], None] = lambda label, share, done: None,
    counted: Callable[[int, int], None] = lambda cells, kept: None,
) -> Findings:
    """Runs an experiment, keeping every finished cell, and writes what it found.

    Args:
        experiment: what to run.
        job: on what.
        out: a folder that exists. Cells are kept in its folder NAME.cells.
        command: the command line, for the record.
        force: start over where the folder holds another run.
        progress: see `run_cells`.
        counted: called once with the number of cells and of those that an earlier run kept.

    Raises:
        CascjaxError: the folder holds another run or files of none, the table does not suit the
            experiment, or what the work itself refuses.
    """
    folder = out / f"{experiment.name}.cells"
    job = replace(job, ledger=Ledger(folder, resume=True, force=force))
    cells = experiment.cells(job)
    run = {
        "experiment": experiment.name,
        "version": __version__,
        "table": None if job.table is None else job.table.fingerprint(),
        "seed": job.seed,
    } | dict(job.settings)
    if job.stream is not None:
        run |= {FILES: job.stream.identity()}
    foreign = [out / f"{experiment.name}{suffix}" for suffix in SUFFIXES]
    foreign = [path for path in foreign if path.exists() and not folder.exists()]
    if foreign and not force:
        raise CascjaxError(
            f"{foreign[0]} is there, and not the cells it came from: choose another --out, or"
            " write over it with --force"
        )
    parts = Parts(folder, run)
    # Until a cell of a stream is done, it is for its own folder to say what may be gone on with.
    parts.open(force=force, resume=None if job.stream is None else True)
    counted(len(cells), sum(parts.read(cell.key) is not None for cell in cells))
    rows = run_cells(cells, parts, progress)
    findings = experiment.findings(job, rows)
    if job.stream is not None:
        lines = [*findings.lines, *_of_stream(experiment, rows)]
        findings = replace(findings, lines=lines)
    _write(experiment, job, rows, findings, out, command)
    for inside in folder.glob(f"*{INSIDE}"):
        discard(inside)
    return findings


def _of_stream(experiment: Experiment, rows: Sequence[Row]) -> list[str]:
    """What is to be said of a run on a stream, sentences."""
    said = [f"The files are read {experiment.readings} times over."]
    for row in rows:
        if row.get("sample"):
            met = "these" if row.get("met_on_sample") else "all of them"
            said.append(
                f"Settings were looked for on a sample of {row['sample']:,} of the {row['fit']:,}"
                f" rows to fit on; budgets are met on {met}."
            )
            break
    if rows and (timed := rows[0].get("timed_on")):
        said.append(
            f"Decisions were timed on {timed:,} of the rows to fit on, in memory; so was it tried"
            " there whether the slow way comes to the same."
        )
    return said


def page(experiment: Experiment, job: Job, findings: Findings, command: str) -> str:
    """What an experiment found, as Markdown."""
    parts = [f"## {experiment.name}: {experiment.about}", f"    {command}"]
    if job.rows:
        parts.append(job.rows)
    parts += [markdown(grid).rstrip("\n") for grid in findings.grids]
    parts += findings.lines
    return "\n\n".join(parts) + "\n"


def _write(
    experiment: Experiment,
    job: Job,
    rows: Sequence[Row],
    findings: Findings,
    out: Path,
    command: str,
) -> None:
    """All files are finished before the first of them is moved into place."""
    with ExitStack() as files:
        results, png, svg, md, tex = (
            files.enter_context(atomic_write(out / f"{experiment.name}{suffix}"))
            for suffix in SUFFIXES
        )
        shown = rows if findings.rows is None else findings.rows
        pq.write_table(pa.Table.from_pylist(_filled(shown)), results)
        save_drawing(findings.draw, findings.size, png, svg)
        md.write_text(page(experiment, job, findings, command), encoding="utf-8")
        text = "\n".join([f"% {command}", *map(latex, findings.grids)])
        tex.write_text(text, encoding="utf-8")


def _filled(rows: Sequence[Row]) -> list[Row]:
    """Rows of one set of columns: those of all rows, with None where a row has none."""
    names = dict.fromkeys(name for row in rows for name in row)
    return [{name: row.get(name) for name in names} for row in rows]
