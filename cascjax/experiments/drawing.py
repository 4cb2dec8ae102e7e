"""What the experiments' pictures share."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cascjax.experiments.cells import Row
from cascjax.report.pictures import (
    INK,
    new_figure,
    no_glyph_warnings,
    picture_style,
    strategy_styles,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import Formatter


def frontiers(axes: "Axes", rows: Sequence[Row]) -> None:
    """The frontier of each row's strategy: mean quality over the cost of 1,000 queries."""
    for row in rows:
        style = strategy_styles([row["strategy"]])[row["strategy"]]
        axes.plot(
            1000 * np.array(row["cost"]), row["quality"], color=style.light,
            linestyle=style.dash, marker=style.marker, markersize=3, linewidth=1.3,
            label=row["strategy"],
        )  # fmt: skip


def name_frontiers(panels: np.ndarray) -> None:
    """The axes of a grid of frontiers, named at its foot and at its left."""
    for axes in panels[-1]:
        axes.set_xlabel("mean cost of 1,000 queries")
    for axes in panels[:, 0]:
        axes.set_ylabel("mean quality")


def legend_below(figure: "Figure", axes: "Axes", columns: int, room: float) -> None:
    """The legend of one panel under all of them.

    Args:
        figure: the picture.
        axes: the panel whose lines it names.
        columns: how many names stand side by side.
        room: the share of the height that it takes.
    """
    lines, labels = axes.get_legend_handles_labels()
    figure.legend(lines, labels, loc="lower center", ncols=columns, frameon=False,
                  labelcolor=INK["ink"][0])  # fmt: skip
    figure.tight_layout(rect=(0, room, 1, 1))


def plain_ticks() -> "Formatter":
    """Numbers of a logarithmic axis as 0.1, 1 and 10: pictures here do not set mathematics."""
    from matplotlib.ticker import FuncFormatter

    return FuncFormatter(lambda value, _: f"{value:g}")


def no_ticks() -> "Formatter":
    """No numbers between the powers of ten."""
    from matplotlib.ticker import NullFormatter

    return NullFormatter()


def save_drawing(
    draw: "Callable[[Figure], None]",
    size: tuple[float, float],
    png: str | Path,
    svg: str | Path,
    dpi: int = 150,
) -> None:
    """Write a picture of any kind in the style of the report, as PNG and as SVG.

    Args:
        draw: draws it on an empty figure.
        size: width and height in inches.
        png: path of the PNG.
        svg: path of the SVG.
        dpi: pixels per inch of the PNG.
    """
    with picture_style(), no_glyph_warnings():
        figure = new_figure(*size)
        draw(figure)
        paper = INK["paper"][0]
        figure.savefig(png, format="png", dpi=dpi, facecolor=paper)
        figure.savefig(svg, format="svg", facecolor=paper, metadata={"Date": None})
