"""Tables of results: one description, for the terminal, for HTML, as text and as a data frame."""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np
from rich import box
from rich.cells import cell_len
from rich.table import Table as Grid
from rich.text import Text

from cascjax.strategies import Style
from cascjax.words import plain, short_names

# pandas takes long to import, and is wanted only where a table is made.
if TYPE_CHECKING:
    from pandas import DataFrame

Format = Callable[[Sequence[Any]], Sequence[str]]
"""Gives the texts of a column's values."""


def each(form: Callable[[Any], str]) -> Format:
    """Return the format of a column whose values are written one by one."""
    return lambda values: [form(value) for value in values]


@dataclass(frozen=True)
class RowStyle:
    """How a row of a listing is drawn: muted everywhere, all else on a page alone.

    The color is of a swatch before the label, the note a sentence below it; a rule separates the
    row from the one above; a bar below a column's cell has a length in percent.
    """

    muted: bool = False
    color: str = ""
    note: str = ""
    rule: bool = False
    bars: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Listing:
    """A data frame to be shown; its index holds the labels of the rows, its name heads them.

    Values are written by the format of their column, by default by `str`.
    """

    frame: "DataFrame"
    formats: Mapping[str, Format] = field(default_factory=dict)
    title: str = ""
    styles: Sequence[RowStyle] = ()

    @property
    def headings(self) -> list[str]:
        """The headings of the labels and of every column."""
        return [plain(self.frame.index.name or ""), *map(plain, self.frame.columns)]

    @property
    def rows(self) -> list[tuple[RowStyle, list[str]]]:
        """The style of each row, its label and its cells."""
        columns = [[plain(label) for label in self.frame.index]]
        for name, values in self.frame.items():
            columns.append(list(self.formats.get(str(name), each(plain))(values.tolist())))
        styles = self.styles or [RowStyle()] * len(self.frame)
        return list(zip(styles, map(list, zip(*columns, strict=True)), strict=True))

    def grids(self, width: int = 80) -> list[Grid]:
        """Return the table for a terminal of this width, as few tables as can hold its columns.

        Long headings break into lines before columns are moved to a further table. Labels that do
        not fit beside a column lose their middle, and stay distinct.
        """
        rows, headings = self.rows, self.headings
        columns = list(zip(*(cells for _, cells in rows), strict=True)) or [()] * len(headings)
        needed = [max(map(cell_len, cells), default=0) for cells in columns]
        if sum(map(max, needed, map(cell_len, headings))) + 3 * len(headings) > width + 1:
            headings = [_wrapped(h, max(8, n)) for h, n in zip(headings, needed, strict=True)]
        needed = [
            max([n, *map(cell_len, heading.splitlines())]) + 3
            for n, heading in zip(needed, headings, strict=True)
        ]
        blocks: list[np.ndarray] = []
        for n_grids in range(1, len(headings)):
            blocks = np.array_split(np.arange(1, len(headings)), n_grids)
            room = width + 1 - min(needed[0], width // 2)
            if all(sum(needed[i] for i in block) <= room for block in blocks):
                break
        grids = []
        for block in blocks:
            grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
            grid.add_column(Text(headings[0]), overflow="fold")
            beside = max(12, width - 2 - sum(needed[i] for i in block))
            labels = [texts[0] for _, texts in rows]
            if max(map(cell_len, labels), default=0) > beside:
                labels = short_names(labels, beside)
            for i in block:
                grid.add_column(Text(headings[i]), justify="right", no_wrap=True)
            for label, (style, texts) in zip(labels, rows, strict=True):
                cells = (Text(texts[i]) for i in block)
                grid.add_row(Text(label), *cells, style="dim" if style.muted else None)
            grids.append(grid)
        return grids

    def text(self) -> str:
        """Return the title and the table as text, without rows from its middle if it is long."""
        import pandas as pd

        lines = [self.headings, *(texts for _, texts in self.rows)]
        width = max(cell_len(label) for label, *_ in lines)
        head, *body = [[label.ljust(width), *cells] for label, *cells in lines]
        texts = pd.DataFrame(body, columns=pd.Index(head))
        body = texts.to_string(index=False, max_rows=24, line_width=None)
        return f"{self.title}\n{body}" if self.title else body

    def html(self) -> str:
        """Return the title and the table as HTML that stands alone, for a notebook."""
        return str(template("listing.html").module.table(self))


def _wrapped(heading: str, width: int) -> str:
    """Return a heading in lines of about the width of the cells below it."""
    lines = textwrap.wrap(heading, width, break_long_words=False, break_on_hyphens=False)
    return "\n".join(part for line in lines for part in textwrap.wrap(line, 30))


def template(name: str) -> Any:
    """Return a template of this folder."""
    # Jinja is wanted only here, and `cascjax` should start fast.
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    folder = resources.files("cascjax.report")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        loader=FunctionLoader(lambda name: folder.joinpath(name).read_text("utf-8")),
    )  # fmt: skip
    return environment.get_template(name)


def swatch(style: Style) -> str:
    """Return the colour of a strategy on a page, which depends on the theme."""
    return f"var(--c{style.light[1:]},{style.light})"


def simulation_note(settings: Mapping[str, Any]) -> str:
    """Return that estimates are simulated, which comes before any number; else nothing."""
    if settings.get("estimates") != "noisy":
        return ""
    noise = settings.get("noise", "level not recorded")
    text = (
        f"Simulation: the estimates are the true values with added noise ({plain(noise)}). It says"
        " what estimates of that accuracy would be worth."
    )
    if scale := settings.get("noise_scale"):
        low, high = settings["quality_range"]
        text += (
            f" Qualities range from {low:.6g} to {high:.6g}; noise level '{plain(noise)}' is made"
            f" for 0 to 1, so the noise of quality is multiplied by {scale:.6g}."
        )
    return text


def simulated(settings: Mapping[str, Any]) -> str:
    """Return the words of a title that say that estimates are simulated; else nothing."""
    if settings.get("estimates") != "noisy":
        return ""
    if "noise_scale" not in settings:
        return "simulated estimates"
    low, high = settings["quality_range"]
    return f"simulated estimates, noise scaled to qualities from {low:.6g} to {high:.6g}"
