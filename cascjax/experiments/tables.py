"""Tables of numbers beside published ones, as Markdown and as LaTeX."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cascjax.experiments.cells import Row
from cascjax.words import plain

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
        together: columns of numbers that no page break parts, counted from the first of them.
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str | Entry]]
    notes: Sequence[str] = field(default_factory=tuple)
    together: int = 1


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

_PAGE = 70
"""Letters that fit the width of LaTeX's article."""

_SHRUNK = 100
"""Letters that can still be read when they are shrunk to it."""

_LONG = 36
"""Lines that fit its height beside a caption and notes."""

_GAP = 2.5
"""Letters that fit between two columns."""


def escaped(text: str) -> str:
    """Words as LaTeX prints them."""
    return "".join(_ESCAPES.get(c, c) for c in plain(text))


def latex(grid: Grid) -> str:
    """The table in LaTeX, for the packages booktabs and graphicx.

    Columns that do not fit beside others stand below them, each lot with the first column; what is
    still too wide is shrunk.
    """
    columns = list(zip(*grid.rows, strict=True))
    # As wide as what stands in brackets, where nothing does: numbers stand below each other.
    room = [max((_published(of) for of in column), key=len) for column in columns]

    def cell(of: str | Entry, i: int) -> str:
        entry = of if isinstance(of, Entry) else Entry(of)
        text = escaped(entry.ours)
        text = rf"\textbf{{{text}}}" if entry.best else text
        if not room[i] or not text:
            return text
        if entry.published:
            return text + _published(entry)
        return rf"{text}\phantom{{{room[i]}}}"

    body = []
    lots, width = _lots(grid)
    for lot in lots:
        body += [
            r"\midrule" if body else r"\toprule",
            " & ".join(escaped(grid.head[i]) for i in (0, *lot)) + r" \\",
            r"\midrule",
            *(" & ".join(cell(row[i], i) for i in (0, *lot)) + r" \\" for row in grid.rows),
        ]
    fit = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
    notes = rf"\par\medskip{{\footnotesize\raggedright {escaped(' '.join(grid.notes))}\par}}"
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escaped(grid.title)}.}}",
        r"\smallskip",
        *([r"\small"] if len(body) > _LONG else []),
        *([fit] if width > _PAGE else []),
        rf"\begin{{tabular}}{{l{'r' * max(map(len, lots))}}}",
        *body,
        r"\bottomrule",
        r"\end{tabular}" + ("}" if width > _PAGE else ""),
        *([notes] if grid.notes else []),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _published(of: str | Entry) -> str:
    if not isinstance(of, Entry) or not of.published:
        return ""
    return rf" {{\scriptsize ({escaped(of.published)})}}"


def _lots(grid: Grid) -> tuple[list[range], float]:
    """Columns of numbers that stand side by side, and the letters that the widest lot takes."""

    def letters(of: str | Entry) -> float:
        entry = of if isinstance(of, Entry) else Entry(of)
        # In brackets stands smaller print.
        return len(entry.ours) + (0.7 * len(entry.published) + 3) * bool(entry.published)

    first, *wide = (max(map(letters, column)) for column in zip(grid.head, *grid.rows, strict=True))
    groups = [
        range(i, min(i + grid.together, len(grid.head)))
        for i in range(1, len(grid.head), grid.together)
    ]

    def width(lot: range) -> float:
        return first + sum(_GAP + wide[i - 1] for i in lot)

    # As few lots as can be read, of as many groups each as the others; at worst each by itself.
    lots = groups
    for count in range(1, len(groups)):
        each = -(-len(groups) // count)
        parts = [groups[i : i + each] for i in range(0, len(groups), each)]
        joined = [range(part[0].start, part[-1].stop) for part in parts]
        if max(map(width, joined)) <= _SHRUNK:
            lots = joined
            break
    return lots, max(map(width, lots))


def percent(value: float) -> str:
    """An AUC in percent, as the paper prints it."""
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
