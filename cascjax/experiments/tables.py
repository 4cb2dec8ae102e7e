"""Tables of numbers beside published ones, as Markdown and as LaTeX."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cascjax.experiments.cells import Row
from cascjax.report.facts import plain

MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Entry:
    """One number of a table, and what was published in its place.

    Attributes:
        ours: what was found here.
        published: what was printed, if anything.
        best: whether it stands out.
    """

    ours: str
    published: str = ""
    best: bool = False


@dataclass(frozen=True)
class Grid:
    """A table: words in the first column, numbers in the others.

    Attributes:
        title: what it is of, one line.
        head: names of the columns.
        rows: as many entries each; words stand for an entry without a published number.
        notes: a sentence each, beneath it.
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str | Entry]]
    notes: Sequence[str] = field(default_factory=tuple)


def markdown(grid: Grid) -> str:
    """The table in Markdown: ours, and what was published in brackets."""

    def cell(of: str | Entry) -> str:
        entry = of if isinstance(of, Entry) else Entry(of)
        text = plain(entry.ours).replace("|", "\\|")
        text = f"**{text}**" if entry.best else text
        return f"{text} ({entry.published})" if entry.published else text

    lines = [list(grid.head), ["---", *["---:"] * (len(grid.head) - 1)]]
    lines += [[cell(of) for of in row] for row in grid.rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return "\n\n".join([f"**{plain(grid.title)}**", table, *map(plain, grid.notes)]) + "\n"


_ESCAPES = {
    **{c: f"\\{c}" for c in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    MINUS: "$-$",
    "±": r"$\pm$",
    "µ": r"$\mu$",
    "–": "--",
}


_WIDE = 6
"""Columns that fit a page's width."""


def escaped(text: str) -> str:
    """Words as LaTeX prints them."""
    return "".join(_ESCAPES.get(c, c) for c in plain(text))


def latex(grid: Grid) -> str:
    """The table in LaTeX, for the packages booktabs and, where it is wide, graphicx."""

    def cell(of: str | Entry) -> str:
        entry = of if isinstance(of, Entry) else Entry(of)
        text = escaped(entry.ours)
        text = rf"\textbf{{{text}}}" if entry.best else text
        return rf"{text} {{\scriptsize ({escaped(entry.published)})}}" if entry.published else text

    wide = len(grid.head) > _WIDE
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escaped(' '.join([grid.title + '.', *grid.notes]))}}}",
        *([r"\resizebox{\linewidth}{!}{%"] if wide else []),
        rf"\begin{{tabular}}{{l{'r' * (len(grid.head) - 1)}}}",
        r"\toprule",
        " & ".join(map(escaped, grid.head)) + r" \\",
        r"\midrule",
        *(" & ".join(map(cell, row)) + r" \\" for row in grid.rows),
        r"\bottomrule",
        r"\end{tabular}" + ("}" if wide else ""),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def percent(value: float) -> str:
    """An area in percent, as the paper prints it."""
    return f"{100 * value:.2f}"


def signed(value: float, digits: int = 2) -> str:
    """A difference with its sign."""
    text = f"{abs(value):.{digits}f}"
    if not float(text):
        return text
    return f"{'+' if value > 0 else MINUS}{text}"


def turned(ours: Mapping[str, float], published: Mapping[str, float]) -> list[tuple[str, str]]:
    """Pairs of strategies, better before worse as published, that stand the other way here."""
    ranked = sorted(published, key=lambda name: -published[name])
    pairs = itertools.combinations(ranked, 2)
    return [(a, b) for a, b in pairs if published[a] > published[b] and not ours[a] > ours[b]]


def seconds(rows: Sequence[Row]) -> tuple[float, float]:
    """Wall and CPU seconds of the cells of some rows."""
    return sum(row["wall"] for row in rows), sum(row["cpu"] for row in rows)


def times(parts: Sequence[tuple[str, Sequence[Row], str]], note: str = "") -> Grid:
    """How long parts of an experiment took.

    Args:
        parts: name, rows and goal of each; those without rows are left out.
        note: what the goals are for, a sentence.
    """
    shown = [(name, seconds(rows), goal) for name, rows, goal in parts if rows]
    return Grid(
        "Time",
        ["part", "wall", "CPU", "goal"],
        [[name, f"{w:.1f} s", f"{c:.1f} s", goal or "–"] for name, (w, c), goal in shown],
        (
            "Wall time is what a clock on the wall showed, compilation included; CPU seconds are"
            f" those of all threads, and grow less with what else runs.{f' {note}' * bool(note)}",
        ),
    )
