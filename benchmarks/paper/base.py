"""Experiments: cells that are kept when done, tables as data frames, one page and one picture."""

import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pandas as pd

from cascjax import Table, __version__
from cascjax.data.files import atomic_write
from cascjax.engine.checkpoint import Checkpoint
from cascjax.plots import picture_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Row = dict[str, Any]
Frame: TypeAlias = Any
"""A data frame or a series: annotations of pandas do not follow what a selection returns."""
Cell = tuple[str, Callable[[], list[Row]]]
"""A name, and the work that makes its rows."""

SUFFIXES = (".parquet", ".md", ".tex", ".png", ".svg")
MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Job:
    """What an experiment runs on.

    Attributes:
        table: RouterBench, or a dataset like it; None if the experiment draws its own data.
        source: name of the table, for the page.
        seed: seed of noise, resamples and synthetic data.
        settings: further settings, see `Experiment.defaults`.
    """

    table: Table | None
    source: str = ""
    seed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def data(self) -> Table:
        """The table of an experiment that needs one."""
        assert self.table is not None
        return self.table


@dataclass(frozen=True)
class Findings:
    """What an experiment found.

    Attributes:
        tables: title to data frame of texts; `**text**` is bold.
        notes: sentences below the tables.
        draw: draws the picture on an empty figure.
        size: size of the picture in inches.
    """

    tables: Mapping[str, Frame]
    notes: Sequence[str]
    draw: "Callable[[Figure], Any]"
    size: tuple[float, float] = (11.0, 7.0)


@dataclass(frozen=True)
class Experiment:
    """One table or figure of the paper.

    Attributes:
        about: what it shows, in one line.
        cells: the work.
        findings: tables and picture of the rows of all cells.
        defaults: settings it takes, with their defaults.
        needs_table: whether it runs on RouterBench.
    """

    about: str
    cells: Callable[[Job], Iterator[Cell]]
    findings: Callable[[Job, Frame], Findings]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    needs_table: bool = True


def run(
    name: str, experiment: Experiment, job: Job, out: Path, command: str, *, force: bool = False
) -> Findings:
    """Run an experiment and write DIR/NAME.md, .tex, .parquet, .png and .svg.

    Finished cells are kept in DIR/NAME.cells, so the same command resumes an interrupted run.

    Args:
        name: name of the experiment and of its files.
        experiment: what to run.
        job: what to run it on.
        out: an existing folder.
        command: command line, for the page.
        force: whether to start over where the folder holds another run.

    Raises:
        CascjaxError: the folder holds another run, or the experiment refuses the table.
    """
    kept = Checkpoint(
        out / f"{name}.cells",
        {
            "experiment": name,
            "version": __version__,
            "table": None if job.table is None else job.table.fingerprint(),
            "seed": job.seed,
            **job.settings,
        },
    )
    kept.open(resume=True, force=force)
    rows: list[Row] = []
    for key, work in experiment.cells(job):
        made = kept.get(key)
        if made is None:
            print(f"{name}: {key}", file=sys.stderr)
            wall, cpu = time.perf_counter(), time.process_time()
            made = work()
            made[0] |= {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
            kept.put(key, made)
        rows += made
    frame = pd.DataFrame(rows)
    findings = experiment.findings(job, frame)
    write(name, experiment.about, job, frame, findings, out, command)
    return findings


def page(name: str, about: str, job: Job, findings: Findings, command: str) -> str:
    """Return the findings as Markdown."""
    parts = [f"## {name}: {about}", f"    {command}"]
    if job.table is not None:
        n = job.table.n_queries
        parts.append(f"{job.source}: {n:,} queries, 5% to fit on and 95% to evaluate on.")
    for title, frame in findings.tables.items():
        parts += [f"**{title}**", markdown(frame)]
    return "\n\n".join([*parts, *findings.notes]) + "\n"


def write(
    name: str, about: str, job: Job, rows: Frame, findings: Findings, out: Path, command: str
) -> None:
    """Write all files of an experiment; none is renamed before all are complete."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with ExitStack() as stack:
        paths = [stack.enter_context(atomic_write(out / f"{name}{s}")) for s in SUFFIXES]
        parquet, md, tex, png, svg = paths
        rows.to_parquet(parquet, index=False)
        md.write_text(page(name, about, job, findings, command), encoding="utf-8")
        tex.write_text("\n".join(latex(*item) for item in findings.tables.items()), "utf-8")
        with picture_style():
            figure = Figure(figsize=findings.size, layout="constrained")
            FigureCanvasAgg(figure)
            findings.draw(figure)
            figure.savefig(png, format="png", dpi=150)
            figure.savefig(svg, format="svg")


def markdown(frame: Frame) -> str:
    """Return a data frame as a Markdown table."""
    head = [frame.index.name or "", *map(str, frame.columns)]
    lines = [head, ["---", *["---:"] * len(frame.columns)]]
    lines += [[str(label), *map(str, row)] for label, row in zip(frame.index, frame.values)]  # noqa: B905
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |"
                     for line in lines)  # fmt: skip


def latex(title: str, frame: Frame) -> str:
    """Return a data frame as a LaTeX table for the package booktabs."""
    style = frame.style.format(escape="latex").format_index(escape="latex")
    style = style.format_index(escape="latex", axis=1)
    text = style.to_latex(
        hrules=True, caption=title.replace("%", r"\%"), position_float="centering"
    )
    return re.sub(r"\*\*(.+?)\*\*", r"\\textbf{\1}", text).replace(MINUS, "$-$")


def signed(value: float, digits: int = 2) -> str:
    """Return a difference with its sign."""
    text = f"{abs(value):.{digits}f}"
    return text if not float(text) else f"{'+' if value > 0 else MINUS}{text}"


def with_published(ours: str, published: str = "", *, bold: bool = False) -> str:
    """Return our number, and the published one in parentheses."""
    return (f"**{ours}**" if bold else ours) + (f" ({published})" if published else "")


def times(rows: Frame, by: Sequence[str]) -> Frame:
    """Return wall and CPU seconds by the given columns, compilation included."""
    seconds = rows.groupby(list(by), sort=False)[["wall", "cpu"]].sum()
    seconds.loc[("all",) + ("",) * (len(by) - 1) if len(by) > 1 else "all", :] = seconds.sum()
    texts = seconds.map(lambda s: f"{s:.1f} s")
    texts.index = [
        " ".join(map(str, key)) if isinstance(key, tuple) else key for key in texts.index
    ]
    return texts.rename(columns={"wall": "wall", "cpu": "CPU"}).rename_axis("part")
