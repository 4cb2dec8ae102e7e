"""Pictures of a study: SVG for the page, which themes it by CSS variables, or on given axes."""

import io
import itertools
import json
import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from cascjax.comparison import Frontier, Study
from cascjax.metrics import upper_hull
from cascjax.strategies import STRATEGIES, Strategy, Style
from cascjax.words import (
    cost_texts,
    counted,
    headed,
    plain,
    price_text,
    quality_text,
    short_names,
)

# matplotlib takes most of a second to import, so only the drawing functions do.
if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = {
    "ink": ("#1f2733", "#e6e9ef"),
    "soft": ("#56606e", "#a3adbb"),
    "grid": ("#e3e7ec", "#2c333d"),
    "paper": ("#ffffff", "#161b22"),
}
"""Name to (light, dark) colour of all that is not data."""

OTHERS = (
    Style("#332288", "#a99cff", "-", "P"),
    Style("#117733", "#7fd18c", (0, (3, 1.5, 1, 1.5)), "<"),
    Style("#6b4c2a", "#d3a878", (0, (2, 1)), ">"),
)
"""Styles of strategies that have none of their own."""

LOG_SPAN = 30
"""Costs that span more than this factor are drawn on a logarithmic axis."""

LABELS_SHOWN = 40
"""Largest number of single models labelled by name: those on the hull, then the best."""


def kind_of(name: str) -> type[Strategy]:
    """Return the class of a strategy, or the base class where its name is not registered."""
    return STRATEGIES.get(name, Strategy)


def strategy_styles(names: Sequence[str]) -> dict[str, Style]:
    """Return the style of each strategy: its own, or the next free one."""
    spare = itertools.cycle(OTHERS)
    return {name: kind_of(name).style or next(spare) for name in dict.fromkeys(names)}


def model_colors(count: int) -> list[str]:
    """Return colours of models in rising cost: a ramp, where light means expensive."""
    return _ramp("viridis", np.linspace(0.12, 0.97, count))


def depth_colors(count: int) -> list[str]:
    """Return colours of 1, 2, ..., `count` models run."""
    return _ramp("magma", np.linspace(0.93, 0.28, count))


def _ramp(name: str, at: Float[np.ndarray, " L"]) -> list[str]:
    import matplotlib
    from matplotlib.colors import to_hex

    return [to_hex(color) for color in matplotlib.colormaps[name](at)]


def css_variable(light: str) -> str:
    """Return the page's CSS variable of a strategy's colour, which depends on the theme."""
    return f"--c{light[1:]}"


@dataclass(frozen=True)
class Picture:
    """The frontier picture as an SVG element, and the places of things in it, in its own units.

    Elements of one series have its number as `data-series`, its sample in the legend as
    `data-legend`. The series are the frontiers, the hull, and the single models. A narrow picture
    is for phones. `legend` is the height of the legend, at the top; `panels` are top and bottom of
    the two panels together; `points` are x, y, and y in the lower panel (NaN where that does not
    show the point) of each series but the hull.
    """

    svg: str
    narrow: bool
    log: bool
    legend: float
    panels: tuple[float, float]
    points: tuple[Float[np.ndarray, "_ 3"], ...]


def mark(artist: "Artist", tip: str = "", **attributes: object) -> None:
    """Give an artist a tooltip and attributes such as `data_series`, for `to_svg`."""
    texts = {name.replace("_", "-"): str(value) for name, value in attributes.items()}
    artist.set_gid(json.dumps(texts | {"title": tip}))


def frontier_pictures(study: Study) -> list[Picture]:
    """Return the frontier picture, wide and narrow, on the suitable cost axis, then on the other.

    A logarithmic axis needs costs above 0.
    """
    costs = _costs(study)
    first = is_log(costs)
    both = bool(len(costs) and np.all(np.isfinite(costs) & (costs > 0)))
    scales = (first, not first) if both else (first,)
    return [frontier_picture(study, narrow, log) for log in scales for narrow in (False, True)]


def frontier_picture(study: Study, narrow: bool = False, log: bool | None = None) -> Picture:
    """Return the picture, `narrow` for phones; `log` by default where costs span widely."""
    log = is_log(_costs(study)) if log is None else log
    with picture_style():
        figure = frontier_figure(study, narrow, log)
        title = (
            "Mean quality against mean cost per query: one curve each for "
            f"{', '.join(f.strategy for f in study.frontiers)}; a point for each of"
            f" {len(study.models)} single models"
        )
        svg = to_svg(figure, ("narrow" if narrow else "frontier") + "-log" * log, title)
        top, below = figure.axes
        height = float(figure.bbox.height)
        panels = (height - float(top.bbox.y1), height - float(below.bbox.y0))

        def places(points: Frontier | None) -> Float[np.ndarray, "P 3"]:
            """Return the places of a frontier's points, or of the single models."""
            if points is None:
                cost, quality = study.single_cost, study.single_quality
                gain = np.full(len(cost), np.nan)
            else:
                cost, quality = points.cost, points.quality
                gain = gain_over_mixing(study, cost, quality)
            low, high = below.get_ylim()
            gain = np.where((gain >= low) & (gain <= high), gain, np.nan)
            x, y = top.transData.transform(np.column_stack([cost, quality])).T
            z = below.transData.transform(np.column_stack([cost, gain]))[:, 1]
            return np.column_stack([x, height - y, height - z])

        points = (*map(places, study.frontiers), np.zeros((0, 3)), places(None))
        # A little air is left above the panels, for a label or marker at their edge.
        return Picture(svg, narrow, log, max(panels[0] - 8, 0.0), panels, points)


def gain_over_mixing(
    study: Study, cost: Float[np.ndarray, " P"], quality: Float[np.ndarray, " P"]
) -> Float[np.ndarray, " P"]:
    """Return the quality above the single models' hull at the same cost; NaN left of the hull."""
    hull = upper_hull(study.single_cost, study.single_quality)
    mixing = np.interp(cost, study.single_cost[hull], study.single_quality[hull], left=np.nan)
    return quality - mixing


def curve(frontier: Frontier) -> tuple[Float[np.ndarray, " P"], Float[np.ndarray, " P"]]:
    """Return the costs and qualities that AUC is taken on, in the order in which it joins them."""
    cost, quality = frontier.curve_cost, frontier.curve_quality
    if len(cost) < 2:
        cost, quality = frontier.cost, frontier.quality
    order = np.lexsort((quality, cost))
    return cost[order], quality[order]


def runs_svgs(study: Study, frontier: Frontier, prefix: str) -> dict[str, str]:
    """Return pictures of what a strategy runs over its budgets: caption to SVG element.

    With one model per query, depth is always 1 and the model that runs is the one that answers,
    so only that is drawn. The prefix starts every element id, so that many pictures fit on a page.
    """
    colors = model_colors(len(study.models))
    models = list(zip(map(plain, study.models), colors, strict=True))
    share = "share of queries"
    panels = {"Whose answer is returned": (share, frontier.answered, models)}
    deepest = int(np.flatnonzero(frontier.depth.max(axis=0, initial=0) > 0).max(initial=0)) + 1
    if deepest > 1:
        steps = [counted(d + 1, "model") for d in range(deepest)]
        depths = list(zip(steps, depth_colors(deepest), strict=True))
        panels = {
            "How many models run": (share, frontier.depth[:, :deepest], depths),
            "Which models run": ("models run per query", frontier.ran, models),
        } | panels
    budgets = f"over {counted(len(frontier.budget), 'budget')}"
    if len(frontier.budget):
        ends = (float(np.min(frontier.budget)), float(np.max(frontier.budget)))
        low, high = (price_text(end, study.cost_unit) for end in ends)
        budgets += f" from {low} to {high}"
    svgs = {}
    with picture_style():
        for i, (caption, panel) in enumerate(panels.items()):
            figure = _stack(frontier, headed("budget", study.cost_unit), *panel)
            title = f"{frontier.strategy}: {caption.lower()}, {budgets}"
            svgs[caption] = to_svg(figure, f"{prefix}-{i}", title)
    return svgs


def _stack(
    frontier: Frontier,
    heading: str,
    label: str,
    shares: Float[np.ndarray, "P L"],
    layers: Sequence[tuple[str, str]],
) -> "Figure":
    """Return a stacked picture over the budgets; a layer has a name and a colour."""
    order = np.argsort(frontier.budget, kind="stable")
    budget, shares = frontier.budget[order], shares[order]
    if len(budget) == 1:  # one budget has no width to fill
        budget = budget[0] * np.array([0.95, 1.05]) if budget[0] else np.array([-0.5, 0.5])
        shares = np.repeat(shares, 2, axis=0)
    figure = new_figure(3.9, 2.9)
    axes = figure.subplots()
    figure.subplots_adjust(left=0.16, right=0.97, top=0.96, bottom=0.18)
    used = np.flatnonzero((shares > 0).any(axis=0)).tolist()
    if used:
        areas = axes.stackplot(
            budget, shares[:, used].T, colors=[layers[i][1] for i in used],
            edgecolor=INK["paper"][0], linewidth=0.6,
        )  # fmt: skip
        for i, area in zip(used, areas, strict=True):
            mark(area, layers[i][0])
    _cost_axis(axes, is_log(budget), heading, ticks=4)
    axes.set_ylabel(label)
    axes.set_ylim(0, max(1.0, float(shares.sum(axis=1).max(initial=0))))
    if len(budget) and budget[0] < budget[-1]:
        axes.set_xlim(float(budget[0]), float(budget[-1]))
    return figure


@contextmanager
def picture_style() -> Iterator[None]:
    """Set matplotlib's settings for every picture of a report; see report.mplstyle."""
    import matplotlib

    style = resources.as_file(resources.files("cascjax.report") / "report.mplstyle")
    with style as path, matplotlib.rc_context(fname=path):
        yield


@contextmanager
def no_glyph_warnings() -> Iterator[None]:
    """Silence warnings of letters that matplotlib's own font lacks; the browser's has them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font")
        yield


def new_figure(width: float, height: float) -> "Figure":
    """Return an empty figure, its size in units of 72 points."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # At 72 dots an inch a pixel is a point, the unit of SVG and of label offsets.
    figure = Figure(figsize=(width, height), dpi=72)
    FigureCanvasAgg(figure)
    return figure


def new_axes(height: float = 5.0) -> "Axes":
    """Return the axes of a new pyplot figure with room for a legend."""
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(9.0, height), layout="constrained")[1]


def is_log(costs: Float[np.ndarray, " P"]) -> bool:
    """Return whether costs are drawn on a logarithmic axis: all positive, and far apart."""
    positive = costs[np.isfinite(costs) & (costs > 0)]
    return bool(len(positive) == len(costs) > 0 and positive.max() > LOG_SPAN * positive.min())


def _cost_axis(axes: "Axes", log: bool, label: str, ticks: int = 6, even: bool = False) -> None:
    """Set scale, ticks and label; `even` steps also on a logarithmic axis below a decade."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    locator: Any = MaxNLocator(ticks)
    if log:
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
        if not even:
            locator = LogLocator(subs=(1.0, 2.0, 5.0) if ticks > 4 else (1.0, 3.0), numticks=12)
    axes.xaxis.set_major_locator(locator)
    # Each tick on its own: `0.5` and `0.001` on one axis need not share their decimals.
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _tick(x)))
    axes.set_xlabel(label)


def _tick(value: float) -> str:
    text = f"{value:.10f}".rstrip("0").rstrip(".") if 1e-6 <= abs(value) < 1e6 else f"{value:g}"
    return text if len(text) <= 9 else f"{value:.3g}"


def _costs(study: Study) -> Float[np.ndarray, " Q"]:
    return np.concatenate([study.single_cost, *(f.cost for f in study.frontiers)])


def plot(study: Study, ax: "Axes | None" = None) -> "Axes":
    """Draw quality against cost of every strategy, with the single models and their hull."""
    ax = new_axes() if ax is None else ax
    log = is_log(_costs(study))
    _cost_axis(ax, log, headed("mean cost per query", study.cost_unit))
    handles = [*ax.containers, *_draw_quality(ax, study, log)]
    legend = {"loc": "upper left", "bbox_to_anchor": (1, 1), "handlelength": 3.2}
    ax.legend(handles=handles, frameon=False, **legend)
    return ax


def frontier_figure(study: Study, narrow: bool = False, log: bool | None = None) -> "Figure":
    """Draw the two panels: quality, and gain over mixing; see `frontier_picture`."""
    log = is_log(_costs(study)) if log is None else log
    figure = new_figure(5.4, 7.4) if narrow else new_figure(11.0, 8.2)
    top, below = figure.subplots(2, 1, sharex=True, height_ratios=(2.5, 1))
    columns = 2 if narrow else 5
    legend = 0.03 * -(-(len(study.frontiers) + 2) // columns) + 0.035
    left, right = (0.14, 0.98) if narrow else (0.075, 0.985)
    figure.subplots_adjust(left=left, right=right, top=1 - legend, bottom=0.075, hspace=0.07)
    figure.align_ylabels()
    even = bool(np.max(_costs(study)) < 8 * np.min(_costs(study)))
    label = headed("mean cost per query", study.cost_unit)
    _cost_axis(below, log, label, ticks=4 if narrow else 6, even=even)
    below.set_ylabel("gain over mixing")
    top.tick_params(labelbottom=False)
    _draw_gains(below, study, log)
    handles = _draw_quality(top, study, log)
    chosen = figure.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(left - 0.01, 0.998), ncols=columns,
        frameon=False, handlelength=3.2, columnspacing=1.8,
    )  # fmt: skip
    for i, sample in enumerate(chosen.legend_handles):
        if sample is not None:
            mark(sample, data_legend=i)
    return figure


def _draw_quality(axes: "Axes", study: Study, log: bool) -> list[Any]:
    """Draw every curve, the single models and their hull; return what a legend shows."""
    axes.set_ylabel("mean quality")
    handles = []
    for i, (f, look) in enumerate(_looks(study)):
        cost, quality = curve(f)
        x, y, knots = _joined(cost, quality, log)
        (line,) = axes.plot(x, y, markevery=knots, label=f.strategy, **look)
        mark(line, f"{f.strategy}: AUC {quality_text(f.auc)}", data_series=i)
        handles.append(line)
        if f.quality_interval is not None:
            order = np.lexsort((f.quality, f.cost))
            low, high = (_joined(f.cost[order], end, log)[1] for end in f.quality_interval[order].T)
            x = _joined(f.cost[order], f.cost[order], log)[0]
            faint = {"alpha": 0.15, "linewidth": 0, "zorder": 1.2}
            mark(axes.fill_between(x, low, high, color=look["color"], **faint), data_series=i)

    soft, ink, series = INK["soft"][0], INK["ink"][0], len(study.frontiers)
    cost, quality = study.single_cost, study.single_quality
    hull = upper_hull(cost, quality).tolist()
    x, y, _ = _joined(cost[hull], quality[hull], log)
    (line,) = axes.plot(x, y, color=soft, lw=1.2, ls=(0, (4, 3)), label="hull of single models")
    mark(line, data_series=series)
    others = len(axes.lines)
    for i in range(len(cost)):
        (point,) = axes.plot(
            cost[[i]], quality[[i]], marker="o", ms=6.5, mew=1.4, color=ink, ls="none", zorder=4,
            mfc=ink if i in hull else INK["paper"][0], label="single model",
        )  # fmt: skip
    handles += [line, axes.lines[others + hull[0]]]
    axes.margins(x=0.03, y=0.06)
    _label_points(axes, cost, quality, short_names(study.models), hull)
    for artist in axes.texts:
        mark(artist, data_series=series + 1, **{"class": "halo"})
    for artist in axes.lines[others:]:
        mark(artist, data_series=series + 1)
    texts, unit = cost_texts(cost), headed("", study.cost_unit)
    for i, point in enumerate(axes.lines[others : others + len(cost)]):
        tip = f"{plain(study.models[i])}: quality {quality_text(quality[i])} at {texts[i]}{unit}"
        mark(point, tip, data_series=series + 1)
    return handles


def _draw_gains(axes: "Axes", study: Study, log: bool) -> None:
    """Draw the quality gained over mixing at the same cost, of strategies to choose from."""
    gains = []
    for i, (f, look) in enumerate(_looks(study)):
        if kind_of(f.strategy).reference:
            continue
        x, y, knots = _joined(*curve(f), log)
        gains.append(gain_over_mixing(study, x, y))
        (line,) = axes.plot(x, gains[-1], markevery=knots, **look)
        mark(line, f"{f.strategy}: quality above mixing at the same cost", data_series=i)
    axes.axhline(0, color=INK["soft"][0], lw=1.2, ls=(0, (4, 3)), zorder=1.5)
    values = np.concatenate([*gains, [0.0]])
    values = values[np.isfinite(values)]
    high, low = float(values.max()), float(values.min())
    # A strategy far below mixing must not flatten the others.
    low, high = (min(low, -1e-3), 0.0) if high <= 0 else (max(low, -high), high)
    pad = 0.08 * (high - low)
    axes.set_ylim(low - pad, high + pad)


def _looks(study: Study) -> list[tuple[Frontier, dict[str, Any]]]:
    """Return each frontier and how its lines are drawn; bounds are drawn thin."""
    styles = strategy_styles([f.strategy for f in study.frontiers])
    looks = []
    for i, f in enumerate(study.frontiers):
        style, bound = styles[f.strategy], kind_of(f.strategy).sees_truth
        look = {"color": style.light, "linestyle": style.dash, "marker": style.marker}
        look |= {"markersize": 5.5, "linewidth": 1.0 if bound else 2.0, "zorder": 3 - 0.01 * i}
        looks.append((f, look))
    return looks


def _joined(
    cost: Float[np.ndarray, " P"], quality: Float[np.ndarray, " P"], log: bool
) -> tuple[Float[np.ndarray, " Q"], Float[np.ndarray, " Q"], list[int]]:
    """Return the curve, straight in cost on any axis, and which of its points have a marker.

    Points are joined linearly in cost, by random mixing; on a logarithmic axis that bends.
    """
    between = 12 if log and len(cost) <= 200 else 1
    at = np.arange((len(cost) - 1) * between + 1) / between
    knot = np.arange(len(cost))
    every = max(1, -(-len(cost) // 11))
    marked = (knot[::every] * between).tolist()
    return np.interp(at, knot, cost), np.interp(at, knot, quality), marked


def _label_ways(rise: float) -> Float[np.ndarray, "C 3"]:
    """Return places for a label: offset from its point, and side it hangs from; nearest first.

    Sides are 0 left, 0.5 centre, 1 right.
    """
    ways = [(8.0, 0.0, 0.0), (-8.0, 0.0, 1.0)]
    for far, up in itertools.product((0, 10, 22, 36, 54, 76), (1, -1)):
        ways.append((0.0, up * (rise + far), 0.5))
        for away, low in ((5.0 + far, 1.0), (14.0 + 2 * far, 0.6)):
            ways += [(s * away, up * low * (rise + far), (1 - s) / 2) for s in (1, -1)]
    return np.array(ways)


def _label_points(
    axes: "Axes",
    x: Float[np.ndarray, " K"],
    y: Float[np.ndarray, " K"],
    labels: Sequence[str],
    hull: Sequence[int],
) -> None:
    """Write each label where it covers least of other labels, points and curves."""
    axes.set_xlim(axes.get_xlim())
    axes.set_ylim(axes.get_ylim())
    figure: Any = axes.figure
    figure.canvas.draw_idle()
    frame = axes.get_window_extent()
    scale = figure.dpi / 72
    points = axes.transData.transform(np.column_stack([x, y]))
    ink = np.concatenate([_course(axes, line) for line in axes.lines] + [points])
    taken = np.zeros((0, 4))
    # Labels on the hull matter most, so they choose first.
    chosen = sorted(range(len(labels)), key=lambda i: (i not in hull, -y[i]))[:LABELS_SHOWN]
    for i in sorted(chosen, key=lambda i: (i not in hull, x[i])):
        text = axes.annotate(
            labels[i], (float(x[i]), float(y[i])), textcoords="offset points", xytext=(0, 0),
            fontsize=10, va="center", zorder=5,
        )  # fmt: skip
        with no_glyph_warnings():
            size = text.get_window_extent()
        dx, dy, side = _label_ways(size.height / scale / 2 + 6).T
        left = points[i, 0] + dx * scale - side * size.width
        low = points[i, 1] + dy * scale - size.height / 2
        boxes = np.stack([left, low, left + size.width, low + size.height], axis=-1)
        outside = (boxes[:, :2] < frame.min).any(1) | (boxes[:, 2:] > frame.max).any(1)
        bad = 1e4 * outside + 0.5 * np.hypot(dx, dy)
        bad += 6.0 * _inside(ink, boxes, 1.0) + 60.0 * _inside(points, boxes, 4.0)
        most = np.minimum(boxes[:, None, 2:], taken[:, 2:] + [3, 1])
        over = most - np.maximum(boxes[:, None, :2], taken[:, :2] - [3, 1])
        best = int(np.argmin(bad + over.clip(0).prod(-1).sum(-1)))
        text.set_position((float(dx[best]), float(dy[best])))
        text.set(horizontalalignment={0.0: "left", 0.5: "center", 1.0: "right"}[side[best]])
        taken = np.vstack([taken, boxes[best]])
        if np.hypot(dx[best], dy[best]) > 16:
            # Far from its point: a hairline says whose label it is.
            away = np.array([dx[best] - (2 if side[best] == 0 else -2), dy[best]]) * scale
            ends = points[i] + away * np.array([[5 / np.hypot(*away)], [1.0]])
            ends = axes.transData.inverted().transform(ends)
            axes.plot(ends[:, 0], ends[:, 1], color=INK["soft"][0], lw=0.7, zorder=2.5)


def _inside(
    marks: Float[np.ndarray, "Q 2"], boxes: Float[np.ndarray, "C 4"], pad: float
) -> Float[np.ndarray, " C"]:
    """Return how many marks are in each box or within `pad` of it."""
    low, high = boxes[:, None, :2] - pad, boxes[:, None, 2:] + pad
    return ((marks > low) & (marks < high)).all(-1).sum(-1).astype(float)


def _course(axes: "Axes", line: Any) -> Float[np.ndarray, "Q 2"]:
    """Return a line's course in pixels, a point every few pixels."""
    course = axes.transData.transform(line.get_xydata())
    course = course[np.isfinite(course).all(axis=1)]
    if len(course) < 2:
        return course
    length = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(course, axis=0).T))])
    at = np.arange(0, length[-1], 5.0)
    return np.column_stack([np.interp(at, length, course[:, axis]) for axis in (0, 1)])


def to_svg(figure: "Figure", prefix: str, title: str) -> str:
    """Return the figure as an SVG element with its own title, tooltips and theme.

    Colours become CSS variables of the page with the light colour to fall back on, ids get the
    prefix, and fonts are the page's. Names go in as XML text, so markup in them stays text.
    """
    with io.BytesIO() as buffer, no_glyph_warnings():
        metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(buffer, format="svg", metadata=metadata)
        root = ET.fromstring(buffer.getvalue())
    themed = {light: f"var(--{name},{light})" for name, (light, _) in INK.items()}
    styles = [kind.style for kind in STRATEGIES.values() if kind.style is not None]
    for style in (*styles, *OTHERS):
        themed[style.light] = f"var({css_variable(style.light)},{style.light})"
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith(("}metadata", "}style")):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.rsplit("}", 1)[-1]
        if (gid := element.get("id", "")).startswith("{"):
            marks = json.loads(gid)
            if tip := marks.pop("title"):
                ET.SubElement(element, "title").text = tip
            element.attrib.update(marks)
        if element.tag == "g":
            element.text = None
        element.tail = None
        _tidy(element, prefix, themed)
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
    """Shorten one element's numbers and make its ids, links and colours the page's own."""
    for key in list(element.attrib):
        value = element.attrib.pop(key)
        key = key.rsplit("}", 1)[-1]
        if key == "id":
            # Ids that nothing refers to are dead weight.
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
