"""Pictures of a study: vector for the page, which themes them by CSS variables, and PNG."""

import io
import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float

from cascjax.comparison import Frontier, Study
from cascjax.data.files import atomic_write
from cascjax.metrics import upper_hull
from cascjax.report.facts import curve, expected_improvement
from cascjax.words import cost_text, cost_texts, counted, plain, quality_text, short_names

# matplotlib takes most of a second to import, so only the drawing functions do.
if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

INK = {
    "ink": ("#1f2733", "#e6e9ef"),
    "soft": ("#56606e", "#a3adbb"),
    "grid": ("#e3e7ec", "#2c333d"),
    "paper": ("#ffffff", "#161b22"),
}
"""Name to (light, dark) colour of all that is not data."""

# After Okabe and Ito (2008), which the common colour blindnesses keep apart; line style and
# marker tell the strategies apart without any colour.
STRATEGIES: dict[str, tuple[str, str, Any, str]] = {
    "cascade-routing": ("#0072b2", "#56b4e9", "-", "o"),
    "pandora": ("#d55e00", "#ff8c42", (0, (7, 1.5)), "s"),
    "routing": ("#009e73", "#35d0a5", (0, (4, 1.5, 1, 1.5)), "^"),
    "cascading": ("#aa3377", "#e58cc0", (0, (2.5, 1.2)), "D"),
    "thresholding": ("#a67c00", "#e6c229", (0, (1, 1.2)), "v"),
    "frugal": ("#882255", "#ff8fb8", (0, (5, 1.5)), "X"),
    "mixing": ("#7a8491", "#8f9aa8", "none", "x"),
    "oracle": ("#3d4654", "#c3cad4", "-", ""),
}
OTHERS: tuple[tuple[str, str, Any, str], ...] = (
    ("#332288", "#a99cff", "-", "P"),
    ("#117733", "#7fd18c", (0, (3, 1.5, 1, 1.5)), "<"),
    ("#6b4c2a", "#d3a878", (0, (2, 1)), ">"),
)

Place = tuple[float, float, Literal["left", "center", "right"]]
"""A label's offset from its point, in points, and the side it hangs from."""

LOG_SPAN = 30
"""Costs that span more than this factor are drawn on a logarithmic axis."""

LABELS_SHOWN = 40
"""Single models labelled by name, the hull's and then the best; more could not be read."""


def strategy_styles(study: Study) -> dict[str, tuple[str, str, Any, str]]:
    """Strategy to (light colour, dark colour, line style, marker), the same in every report."""
    styles, spare = dict(STRATEGIES), 0
    for f in study.frontiers:
        if f.strategy not in styles:
            styles[f.strategy] = OTHERS[spare % len(OTHERS)]
            spare += 1
    return {f.strategy: styles[f.strategy] for f in study.frontiers}


def model_colors(count: int) -> list[str]:
    """Colours for models in rising cost: a ramp, so that light always means expensive."""
    return _ramp("viridis", 0.12, 0.97, count)


def depth_colors(count: int) -> list[str]:
    """Colours for 1, 2, ..., `count` models run."""
    return _ramp("magma", 0.93, 0.28, count)


def css_variable(light: str) -> str:
    """The page's CSS variable that holds a strategy's colour in the theme in force."""
    return f"--c{light[1:]}"


@dataclass(frozen=True)
class Picture:
    """The frontier picture as an SVG element, and where in it things are, in its own units.

    Elements of one series bear its number as `data-series`, its sample in the legend as
    `data-legend`. The series are the frontiers, the hull, and the single models.

    Attributes:
        svg: the element, for embedding.
        narrow: whether it is the one for phones.
        log: whether its cost axis is logarithmic.
        legend: height of the legend, at the top.
        panels: top and bottom of the two panels together.
        points: for each series `[P, 3]`, in the study's order: x, y, and y in the lower panel, or
            NaN where that does not show it. The hull has none.
    """

    svg: str
    narrow: bool
    log: bool
    legend: float
    panels: tuple[float, float]
    points: tuple[Float[np.ndarray, "_ 3"], ...]


def frontier_pictures(study: Study) -> list[Picture]:
    """The frontier picture wide and narrow, on the cost axis that suits the costs, then the other.

    Without the other where a cost is not positive.
    """
    costs = _costs(study)
    first = _is_log(costs)
    both = bool(len(costs) and np.all(np.isfinite(costs) & (costs > 0)))
    scales = (first, not first) if both else (first,)
    return [frontier_picture(study, narrow, log) for log in scales for narrow in (False, True)]


def frontier_picture(study: Study, narrow: bool = False, log: bool | None = None) -> Picture:
    """The frontier picture for embedding: see `save_png`.

    Args:
        study: what to draw.
        narrow: for phones.
        log: whether the cost axis is logarithmic; None for where costs span widely.
    """
    log = _is_log(_costs(study)) if log is None else log
    with picture_style():
        drawn = _frontier(study, narrow=narrow, log=log)
        names = ", ".join(f.strategy for f in study.frontiers)
        title = (
            "Mean quality against mean cost per query: one curve each for "
            f"{names}; a point for each of {len(study.models)} single models"
        )
        prefix = ("narrow" if narrow else "frontier") + ("-log" if log else "")
        svg = to_svg(drawn.figure, prefix, title, drawn.tips, drawn.marks)
        top, below = drawn.figure.axes
        height = float(drawn.figure.bbox.height)
        panels = (height - float(top.bbox.y1), height - float(below.bbox.y0))
        single = (study.single_cost, study.single_quality)
        places = [_places_of(study, drawn.figure, f.cost, f.quality) for f in study.frontiers]
        places += [np.zeros((0, 3)), _places_of(study, drawn.figure, *single, gains=False)]
        # A little air is left above the panels, for a label or marker at their edge.
        legend = max(panels[0] - 8, 0.0)
        return Picture(svg, narrow, log, legend, panels, tuple(places))


def save_png(study: Study, path: str | Path, dpi: int = 150) -> None:
    """Writes the frontier picture as a PNG, atomically.

    Above, mean quality against mean cost of every strategy, the single models and their hull;
    below, the quality gained over that hull at the same cost.

    Args:
        study: what to draw.
        path: where to write.
        dpi: pixels per inch; the picture is 11 inches wide.
    """
    with picture_style(), atomic_write(path) as temporary:
        figure = _frontier(study, halo=True).figure
        with _no_glyph_warnings():
            figure.savefig(temporary, format="png", dpi=dpi, facecolor=INK["paper"][0])


def runs_svgs(study: Study, frontier: Frontier, prefix: str) -> dict[str, str]:
    """What a strategy runs over its budgets: caption to SVG element.

    Only what tells something is drawn: with one model a query, depth is always 1 and the model
    that runs is the one that answers.

    Args:
        study: what the frontier belongs to.
        frontier: the strategy to draw.
        prefix: starts every element id, so that many pictures can stand on one page.
    """
    names, depth = [plain(m) for m in study.models], frontier.depth
    deepest = int(np.flatnonzero(depth.max(axis=0, initial=0) > 0).max(initial=0)) + 1
    models = (names, model_colors(len(names)))
    steps = [f"{d + 1} model{'s' if d else ''}" for d in range(deepest)]
    panels = {"Whose answer is returned": (frontier.answered, "share of queries", *models)}
    if deepest > 1:
        panels = {
            "How many models run": (
                depth[:, :deepest],
                "share of queries",
                steps,
                depth_colors(deepest),
            ),
            "Which models run": (frontier.ran, "models run per query", *models),
        } | panels
    with picture_style():
        return {
            caption: _stack(study, frontier, caption, f"{prefix}-{i}", *panel)
            for i, (caption, panel) in enumerate(panels.items())
        }


@contextmanager
def picture_style() -> Iterator[None]:
    """Matplotlib's settings for every picture of a report."""
    import matplotlib

    soft, ink, grid = INK["soft"][0], INK["ink"][0], INK["grid"][0]
    settings: dict[Any, Any] = {
        # Text stays text: small, selectable, read aloud, and set in the page's own font.
        "svg.fonttype": "none",
        "svg.hashsalt": "cascjax",
        "text.parse_math": False,
        "font.family": ["sans-serif"],
        "font.size": 11,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": soft,
        "axes.labelcolor": ink,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.facecolor": "none",
        "figure.facecolor": "none",
        "grid.color": grid,
        "grid.linewidth": 0.8,
        "text.color": ink,
        "xtick.color": soft,
        "ytick.color": soft,
        "xtick.labelcolor": soft,
        "ytick.labelcolor": soft,
    }
    with matplotlib.rc_context(settings):
        yield


@contextmanager
def _no_glyph_warnings() -> Iterator[None]:
    """Matplotlib warns of letters its own font lacks; the browser has a font that does not."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font")
        yield


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure, its size in units of 72 points."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # At 72 dots an inch a pixel is a point, the unit of SVG and of label offsets.
    figure = Figure(figsize=(width, height), dpi=72)
    FigureCanvasAgg(figure)
    return figure


def _ramp(name: str, start: float, stop: float, count: int) -> list[str]:
    import matplotlib
    from matplotlib.colors import to_hex

    return [to_hex(c) for c in matplotlib.colormaps[name](np.linspace(start, stop, count))]


def _is_log(costs: Float[np.ndarray, " P"]) -> bool:
    positive = costs[np.isfinite(costs) & (costs > 0)]
    return bool(len(positive) == len(costs) > 0 and positive.max() > LOG_SPAN * positive.min())


def _cost_axis(axes: "Axes", log: bool, label: str, ticks: int = 6, even: bool = False) -> None:
    """Scale, ticks and label; `even` steps also on a logarithmic axis, for less than a decade."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    if log:
        axes.set_xscale("log")
        subs = (1.0, 2.0, 5.0) if ticks > 4 else (1.0, 3.0)
        axes.xaxis.set_major_locator(
            MaxNLocator(ticks) if even else LogLocator(subs=subs, numticks=12)
        )
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(ticks))
    # Each tick on its own: `0.5` and `0.001` on one axis need not share their decimals.
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _tick(x)))
    axes.set_xlabel(label)


def _tick(value: float) -> str:
    text = f"{value:.10f}".rstrip("0").rstrip(".") if 1e-6 <= abs(value) < 1e6 else f"{value:g}"
    return text if len(text) <= 9 else f"{value:.3g}"


def _unit(study: Study) -> str:
    unit = plain(study.cost_unit).removesuffix("/query")
    return f" ({unit})" if unit else ""


@dataclass(frozen=True)
class _Drawn:
    """A frontier figure; by the id of its elements the tooltip, and further attributes."""

    figure: "Figure"
    tips: dict[str, str]
    marks: dict[str, dict[str, str]]


def _costs(study: Study) -> Float[np.ndarray, " Q"]:
    return np.concatenate([study.single_cost, *(f.cost for f in study.frontiers)])


def _places_of(
    study: Study,
    figure: "Figure",
    cost: Float[np.ndarray, " P"],
    quality: Float[np.ndarray, " P"],
    gains: bool = True,
) -> Float[np.ndarray, "P 3"]:
    """Where points of the frontier figure are, as `Picture` says."""
    top, below = figure.axes
    height = float(figure.bbox.height)
    x, y = top.transData.transform(np.column_stack([cost, quality])).T
    gain = expected_improvement(study, cost, quality)
    low, high = below.get_ylim()
    gain = np.where(gains & (gain >= low) & (gain <= high), gain, np.nan)
    z = below.transData.transform(np.column_stack([cost, gain]))[:, 1]
    return np.column_stack([x, height - y, height - z])


def _frontier(
    study: Study, halo: bool = False, narrow: bool = False, log: bool | None = None
) -> _Drawn:
    """The frontier figure; the cost axis is logarithmic where costs span widely, or as told."""
    styles = strategy_styles(study)
    names, shorts = [plain(m) for m in study.models], short_names(study.models)
    hull = upper_hull(study.single_cost, study.single_quality).tolist()
    curves = [curve(f) for f in study.frontiers]
    log = _is_log(_costs(study)) if log is None else log
    tips: dict[str, str] = {}
    marks: dict[str, dict[str, str]] = {}

    def mark(artist: "Artist", gid: str, series: int, key: str = "data-series") -> None:
        artist.set_gid(gid)
        marks[gid] = {key: str(series)}

    figure = new_figure(5.4, 7.4) if narrow else new_figure(11.0, 8.2)
    top, below = figure.subplots(2, 1, sharex=True, height_ratios=(2.5, 1))
    columns = 2 if narrow else 5
    legend = 0.03 * -(-(len(study.frontiers) + 2) // columns) + 0.035
    left, right = (0.14, 0.98) if narrow else (0.075, 0.985)
    figure.subplots_adjust(left=left, right=right, top=1 - legend, bottom=0.075, hspace=0.07)
    figure.align_ylabels()
    even = bool(np.max(_costs(study)) < 8 * np.min(_costs(study)))
    ticks = 4 if narrow else 6
    _cost_axis(below, log, f"mean cost per query{_unit(study)}", ticks, even)
    top.set_ylabel("mean quality")
    below.set_ylabel("gain over mixing")
    top.tick_params(labelbottom=False)

    handles, gains = [], []
    for i, f in enumerate(study.frontiers):
        color, _, dashes, marker = styles[f.strategy]
        x, y, knots = _joined(*curves[i], log)
        look: dict[str, Any] = {
            "color": color,
            "linestyle": dashes,
            "linewidth": 1.0 if f.strategy == "oracle" else 2.0,
            "marker": marker,
            "markersize": 5.5,
            "markevery": knots,
            "label": f.strategy,
        }
        (line,) = top.plot(x, y, zorder=3 - 0.01 * i, **look)
        mark(line, f"tip-curve-{i}", i)
        tips[f"tip-curve-{i}"] = f"{f.strategy}: AUC {quality_text(f.auc)}"
        handles.append(line)
        if f.quality_interval is not None:
            order = np.lexsort((f.quality, f.cost))
            ends = [_joined(f.cost[order], end[order], log)[1] for end in f.quality_interval.T]
            band = top.fill_between(x, *ends, color=color, alpha=0.15, linewidth=0, zorder=1.2)
            mark(band, f"band-{i}", i)
        if f.strategy not in ("oracle", "mixing"):
            gain = expected_improvement(study, x, y)
            gains.append(gain)
            (line,) = below.plot(x, gain, zorder=3 - 0.01 * i, **look)
            mark(line, f"tip-gain-{i}", i)
            tips[f"tip-gain-{i}"] = f"{f.strategy}: quality above mixing at the same cost"

    soft, ink = INK["soft"][0], INK["ink"][0]
    x, y, _ = _joined(study.single_cost[hull], study.single_quality[hull], log)
    (line,) = top.plot(x, y, color=soft, lw=1.2, ls=(0, (4, 3)), label="hull of single models")
    mark(line, "hull", len(curves))
    handles.append(line)
    below.axhline(0, color=soft, lw=1.2, ls=(0, (4, 3)), zorder=1.5)
    _frame_gains(below, gains)
    costs = cost_texts(study.single_cost)
    for i, (cost, quality) in enumerate(zip(study.single_cost, study.single_quality, strict=True)):
        (point,) = top.plot(
            [cost],
            [quality],
            marker="o",
            ms=6.5,
            mew=1.4,
            color=ink,
            mfc=ink if i in hull else INK["paper"][0],
            ls="none",
            zorder=4,
            label="single model",
        )
        mark(point, f"tip-model-{i}", len(curves) + 1)
        tips[f"tip-model-{i}"] = (
            f"{names[i]}: quality {quality_text(quality)} at {costs[i]}{_unit(study)}"
        )
        if i == hull[0]:
            handles.append(point)
    labels = [str(h.get_label()) for h in handles]
    legend = figure.legend(
        handles,
        labels,
        loc="upper left",
        bbox_to_anchor=(left - 0.01, 0.998),
        ncols=columns,
        frameon=False,
        handlelength=3.2,
        columnspacing=1.8,
    )
    for i, sample in enumerate(legend.legend_handles):
        if sample is not None:
            mark(sample, f"sample-{i}", i, "data-legend")
    top.margins(x=0.03, y=0.06)
    lines = len(top.lines)
    _label_points(top, study.single_cost, study.single_quality, shorts, hull, halo)
    for i, artist in enumerate([*top.texts, *top.lines[lines:]]):
        mark(artist, artist.get_gid() or f"hairline-{i}", len(curves) + 1)
    return _Drawn(figure, tips, marks)


def _joined(
    cost: Float[np.ndarray, " P"], quality: Float[np.ndarray, " P"], log: bool
) -> tuple[Float[np.ndarray, " Q"], Float[np.ndarray, " Q"], list[int]]:
    """The curve with few enough knots marked to count, and straight in cost on any axis.

    Points are joined linearly in cost, by random mixing; on a logarithmic axis that bends.
    """
    between = 12 if log and len(cost) <= 30 else 1
    at = np.arange((len(cost) - 1) * between + 1) / between
    knot = np.arange(len(cost))
    every = max(1, -(-len(cost) // 11))
    marked = (knot[::every] * between).tolist()
    return np.interp(at, knot, cost), np.interp(at, knot, quality), marked


def _frame_gains(axes: "Axes", gains: list[Float[np.ndarray, " P"]]) -> None:
    """Frames the gains so that a strategy far below mixing does not flatten the others."""
    values = np.concatenate([*gains, [0.0]])
    values = values[np.isfinite(values)]
    high, low = float(values.max()), float(values.min())
    if high <= 0:
        low, high = min(low, -1e-3), 0.0
    else:
        low = max(low, -high)
    pad = 0.08 * (high - low)
    axes.set_ylim(low - pad, high + pad)


def _label_points(
    axes: "Axes",
    x: Float[np.ndarray, " K"],
    y: Float[np.ndarray, " K"],
    labels: Sequence[str],
    hull: Sequence[int],
    halo: bool,
) -> None:
    """Writes each label where it covers least of the curves, the points and other labels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.patheffects import withStroke

    axes.set_xlim(axes.get_xlim())
    axes.set_ylim(axes.get_ylim())
    canvas = axes.figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    frame = axes.get_window_extent()
    points = axes.transData.transform(np.column_stack([x, y]))
    ink = np.concatenate([_along(axes, line) for line in axes.lines] + [points])
    taken: list[Bbox] = []
    # Labels on the hull matter most, so they choose first.
    shown = sorted(range(len(labels)), key=lambda i: (i not in hull, -y[i]))[:LABELS_SHOWN]
    for i in sorted(shown, key=lambda i: (i not in hull, x[i])):
        text = axes.annotate(
            labels[i],
            (float(x[i]), float(y[i])),
            textcoords="offset points",
            xytext=(0, 0),
            fontsize=10,
            va="center",
            zorder=5,
        )
        text.set_gid(f"halo-{i}")
        if halo:
            text.set_path_effects([withStroke(linewidth=3, foreground=INK["paper"][0])])
        with _no_glyph_warnings():
            size = text.get_window_extent(canvas.get_renderer())
        best = min(
            _places(size.height),
            key=lambda place: _covered(place, points[i], size, ink, points, taken, frame),
        )
        dx, dy, align = best
        text.set_position((dx, dy))
        text.set_horizontalalignment(align)
        taken.append(_box(best, points[i], size))
        if np.hypot(dx, dy) > 16:
            # Far from its point: a hairline says whose label it is.
            end = points[i] + np.array([dx - (2 if align == "left" else -2), dy])
            start = points[i] + (end - points[i]) * 5 / np.hypot(*(end - points[i]))
            ends = axes.transData.inverted().transform(np.array([start, end]))
            axes.plot(ends[:, 0], ends[:, 1], color=INK["soft"][0], lw=0.7, zorder=2.5)


def _along(axes: "Axes", line: Any) -> Float[np.ndarray, "Q 2"]:
    """A line's course in pixels, a point every few pixels."""
    course = axes.transData.transform(line.get_xydata())
    course = course[np.isfinite(course).all(axis=1)]
    if len(course) < 2:
        return course
    length = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(course, axis=0).T))])
    at = np.arange(0, length[-1], 5.0)
    return np.column_stack([np.interp(at, length, course[:, axis]) for axis in (0, 1)])


def _places(height: float) -> list[Place]:
    """Offsets and alignments to try, nearest first."""
    places: list[Place] = [(8.0, 0.0, "left"), (-8.0, 0.0, "right")]
    for far in (0, 10, 22, 36, 54, 76):
        rise, near, wide = height / 2 + 6 + far, 5.0 + far, 14.0 + 2 * far
        for up, low in ((rise, 0.6 * rise), (-rise, -0.6 * rise)):
            places.append((0.0, up, "center"))
            places.append((near, up, "left"))
            places.append((-near, up, "right"))
            places.append((wide, low, "left"))
            places.append((-wide, low, "right"))
    return places


def _box(place: Place, point: Float[np.ndarray, " 2"], size: "Bbox") -> "Bbox":
    from matplotlib.transforms import Bbox

    dx, dy, align = place
    left = point[0] + dx - {"left": 0.0, "center": 0.5, "right": 1.0}[align] * size.width
    return Bbox.from_bounds(left, point[1] + dy - size.height / 2, size.width, size.height)


def _covered(
    place: Place,
    point: Float[np.ndarray, " 2"],
    size: "Bbox",
    ink: Float[np.ndarray, "Q 2"],
    points: Float[np.ndarray, "K 2"],
    taken: list["Bbox"],
    frame: "Bbox",
) -> float:
    """How bad a place is: other labels worst, then points, then curves, then distance."""
    box = _box(place, point, size)
    outside = box.x0 < frame.x0 or box.x1 > frame.x1 or box.y0 < frame.y0 or box.y1 > frame.y1
    bad = 1e4 * outside + 0.5 * float(np.hypot(place[0], place[1]))
    for other in taken:
        w = min(box.x1, other.x1 + 3) - max(box.x0, other.x0 - 3)
        h = min(box.y1, other.y1 + 1) - max(box.y0, other.y0 - 1)
        bad += max(w, 0) * max(h, 0)
    for marks, weight, pad in ((ink, 6.0, 1.0), (points, 60.0, 4.0)):
        inside = (np.abs(marks[:, 0] - (box.x0 + box.x1) / 2) < size.width / 2 + pad) & (
            np.abs(marks[:, 1] - (box.y0 + box.y1) / 2) < size.height / 2 + pad
        )
        bad += weight * float(inside.sum())
    return bad


def _stack(
    study: Study,
    frontier: Frontier,
    caption: str,
    prefix: str,
    shares: Float[np.ndarray, "P L"],
    label: str,
    layers: Sequence[str],
    colors: Sequence[str],
) -> str:
    """One stacked picture over the budgets, a layer for each column of `shares`."""
    order = np.argsort(frontier.budget, kind="stable")
    budget, shares = frontier.budget[order], shares[order]
    figure = new_figure(3.9, 2.9)
    axes = figure.subplots()
    figure.subplots_adjust(left=0.16, right=0.97, top=0.96, bottom=0.18)
    low = np.zeros(len(budget))
    if len(budget) == 1:  # one budget has no width to fill
        budget = budget[0] * np.array([0.95, 1.05]) if budget[0] else np.array([-0.5, 0.5])
        shares, low = np.repeat(shares, 2, axis=0), np.zeros(2)
    tips = {}
    for i, (layer, color) in enumerate(zip(layers, colors, strict=True)):
        high = low + shares[:, i]
        if np.any(shares[:, i] > 0):
            auc = axes.fill_between(
                budget, low, high, facecolor=color, edgecolor=INK["paper"][0], linewidth=0.6
            )
            auc.set_gid(f"tip-{i}")
            tips[f"tip-{i}"] = layer
        low = high
    _cost_axis(axes, _is_log(budget), f"budget{_unit(study)}", ticks=4)
    axes.set_ylabel(label)
    axes.set_ylim(0, max(1.0, float(low.max(initial=0))))
    if len(budget) and budget[0] < budget[-1]:
        axes.set_xlim(float(budget[0]), float(budget[-1]))
    title = (
        f"{frontier.strategy}: {caption.lower()}, over {counted(len(frontier.budget), 'budget')}"
    )
    if len(frontier.budget):
        title += f" from {cost_text(budget[0])} to {cost_text(budget[-1])}{_unit(study)}"
    return to_svg(figure, prefix, title, tips)


def to_svg(
    figure: "Figure",
    prefix: str,
    title: str,
    tips: dict[str, str],
    marks: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
) -> str:
    """The figure as an SVG element that carries its own title, tooltips and theme.

    Colours become CSS variables of the page with the light colour to fall back on, ids get the
    prefix, and fonts are the page's. Names go in as XML text, so markup in them stays text.
    """
    with io.BytesIO() as buffer, _no_glyph_warnings():
        metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(buffer, format="svg", metadata=metadata)
        root = ET.fromstring(buffer.getvalue())
    themed = {light: f"var(--{name},{light})" for name, (light, _) in INK.items()}
    for light, *_ in (*STRATEGIES.values(), *OTHERS):
        themed[light] = f"var({css_variable(light)},{light})"
    for element in root.iter():
        element.tag = element.tag.rsplit("}", 1)[-1]
        gid = element.get("id", "")
        if gid in tips:
            ET.SubElement(element, "title").text = tips[gid]
        if gid.startswith("halo-"):
            element.set("class", "halo")
        for key, value in marks.get(gid, {}).items():
            element.set(key, value)
        if element.tag == "g" and element.text is not None:
            element.text = None
        element.tail = None
        _tidy(element, prefix, themed)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in ("metadata", "style"):
                parent.remove(child)
    head = ET.Element("title", id=f"{prefix}-title")
    head.text = title
    root.insert(0, head)
    width, height = root.get("viewBox", "0 0 1 1").split()[2:]
    root.attrib = {
        "xmlns": "http://www.w3.org/2000/svg",
        "viewBox": f"0 0 {width} {height}",
        "width": width,
        "height": height,
        "role": "img",
        "aria-labelledby": f"{prefix}-title",
        "font-family": "system-ui, sans-serif",
        "style": "stroke-linejoin: round; stroke-linecap: butt",
    }
    return ET.tostring(root, encoding="unicode")


def _tidy(element: ET.Element, prefix: str, themed: dict[str, str]) -> None:
    """Shortens one element's numbers and makes its ids, links and colours the page's own."""
    for key in list(element.attrib):
        value = element.attrib.pop(key)
        key = key.rsplit("}", 1)[-1]
        if key == "id":
            # Ids nothing points to are dead weight.
            if element.tag not in ("path", "clipPath"):
                continue
            value = f"{prefix}-{value}"
        elif key == "href":
            value = value.replace("#", f"#{prefix}-")
        elif key == "clip-path":
            value = value.replace("url(#", f"url(#{prefix}-")
        elif key == "style":
            value = re.sub(r"font-family:[^;]*;? ?", "", value)
            value = re.sub(r"#[0-9a-f]{6}", lambda m: themed.get(m[0], m[0]), value)
        elif key == "transform" and value.startswith("rotate(-0 "):
            continue
        if key in ("d", "x", "y", "width", "height", "transform"):
            value = re.sub(r"-?\d+\.\d+", lambda m: f"{float(m[0]):.2f}", value)
            value = " ".join(value.split())
        element.set(key, value)


def save_drawing(
    draw: "Callable[[Figure], None]",
    size: tuple[float, float],
    png: str | Path,
    svg: str | Path,
    dpi: int = 150,
) -> None:
    """Writes a picture of any kind in the style of the report, as PNG and as SVG.

    Args:
        draw: draws it on an empty figure.
        size: width and height in inches.
        png: where to write the one.
        svg: where to write the other.
        dpi: pixels per inch of the PNG.
    """
    with picture_style(), _no_glyph_warnings():
        figure = new_figure(*size)
        draw(figure)
        paper = INK["paper"][0]
        figure.savefig(png, format="png", dpi=dpi, facecolor=paper)
        figure.savefig(svg, format="svg", facecolor=paper, metadata={"Date": None})
