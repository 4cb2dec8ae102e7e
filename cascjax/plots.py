"""Plots of results with Matplotlib; a strategy has the same colour here as in every report."""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from cascjax.comparison import Frontier, Study
from cascjax.diagnosis import (
    NOW,
    PERFECT_ANTE,
    PERFECT_POST,
    REDUCED,
    REFITTED,
    Diagnosis,
)
from cascjax.errors import unknown_name
from cascjax.metrics import upper_hull
from cascjax.strategies import STRATEGIES, Strategy, Style
from cascjax.words import headed, plain, short_names

# Matplotlib takes most of a second to import, so only the functions that draw import it.
if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_frontier", "plot_gain", "plot_reliability", "plot_scenarios", "plot_usage"]

INK = {
    "ink": ("#1f2733", "#e6e9ef"),
    "soft": ("#56606e", "#a3adbb"),
    "grid": ("#e3e7ec", "#2c333d"),
    "paper": ("#ffffff", "#161b22"),
}
"""Name to (light, dark) colour of everything that is not data."""

OTHERS = (
    Style("#332288", "#a99cff", "-", "P"),
    Style("#117733", "#7fd18c", (0, (3, 1.5, 1, 1.5)), "<"),
    Style("#6b4c2a", "#d3a878", (0, (2, 1)), ">"),
)
"""Styles of strategies that have none of their own."""

SIDE_STYLES = {"ex-ante": OTHERS[0], "post-hoc": OTHERS[2]}

SCENARIOS = {
    NOW: ("o", "now"),
    REDUCED: ("x", "as independent"),
    REFITTED: ("s", "refitted"),
    PERFECT_POST: ("^", "perfect post-hoc"),
    PERFECT_ANTE: ("D", "perfect ex-ante"),
}
"""Marker and label of each scenario of a diagnosis."""

LOG_SPAN = 30
"""Costs that span more than this factor are drawn on a logarithmic axis."""

VERTICES = 150
"""Maximum number of vertices of a curve that are drawn, evenly spread."""


def kind_of(name: str) -> type[Strategy]:
    """Return the class of a strategy, or the base class where its name is not registered."""
    return STRATEGIES.get(name, Strategy)


def strategy_styles(names: Sequence[str]) -> dict[str, Style]:
    """Return the style of each strategy: its own, or the next free one."""
    spare = itertools.cycle(OTHERS)
    return {name: kind_of(name).style or next(spare) for name in dict.fromkeys(names)}


def ramp(count: int, name: str = "viridis") -> list[str]:
    """Return colours of models in rising cost, or of other ordered things."""
    import matplotlib
    from matplotlib.colors import to_hex

    return [to_hex(color) for color in matplotlib.colormaps[name](np.linspace(0.12, 0.95, count))]


def is_log(costs: Float[np.ndarray, " P"]) -> bool:
    """Return whether costs are drawn on a logarithmic axis: all positive, and far apart."""
    positive = costs[np.isfinite(costs) & (costs > 0)]
    return bool(len(positive) == len(costs) > 0 and positive.max() > LOG_SPAN * positive.min())


def all_costs(study: Study) -> Float[np.ndarray, " Q"]:
    """Return the costs of all single models and frontiers."""
    return np.concatenate([study.single_cost, *(f.cost for f in study.frontiers)])


def curve(frontier: Frontier) -> tuple[Float[np.ndarray, " P"], Float[np.ndarray, " P"]]:
    """Return the costs and qualities that AUC is taken on, in the order in which it joins them."""
    cost, quality = frontier.curve_cost, frontier.curve_quality
    if len(cost) < 2:
        cost, quality = frontier.cost, frontier.quality
    order = np.lexsort((quality, cost))
    return cost[order], quality[order]


def spread(count: int, most: int) -> Int[np.ndarray, " Q"]:
    """Return at most so many of the first `count` numbers, evenly spread."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(int)


def joined(
    cost: Float[np.ndarray, " P"], quality: Float[np.ndarray, " P"]
) -> tuple[Float[np.ndarray, " Q"], Float[np.ndarray, " Q"]]:
    """Return a curve at its vertices and between: a straight line bends on a logarithmic axis."""
    known = np.isfinite(cost) & np.isfinite(quality)
    cost, quality = cost[known], quality[known]
    if len(cost) < 2:
        return cost, quality
    between = np.linspace(cost[0], cost[-1], 40)
    if cost[0] > 0:
        between = np.append(between, np.geomspace(cost[0], cost[-1], 80))
    x = np.union1d(cost[spread(len(cost), VERTICES)], between.clip(cost[0], cost[-1]))
    return x, np.interp(x, cost, quality)


def gain_over_mixing(
    study: Study, cost: Float[np.ndarray, " P"], quality: Float[np.ndarray, " P"]
) -> Float[np.ndarray, " P"]:
    """Return the quality above the single models' hull at the same cost; NaN left of the hull."""
    hull = upper_hull(study.single_cost, study.single_quality)
    mixing = np.interp(cost, study.single_cost[hull], study.single_quality[hull], left=np.nan)
    return quality - mixing


def gain_range(study: Study) -> tuple[float, float]:
    """Return the ends of an axis of gains over mixing, which a poor strategy must not flatten."""
    gains = [gain_over_mixing(study, *curve(f)) for f in study.frontiers if not _reference(f)]
    values = np.concatenate([*gains, [0.0]])
    high, low = float(np.nanmax(values)), float(np.nanmin(values))
    low, high = (min(low, -1e-3), 0.0) if high <= 0 else (max(low, -high), high)
    return low - 0.08 * (high - low), high + 0.08 * (high - low)


def _reference(frontier: Frontier) -> bool:
    return kind_of(frontier.strategy).reference


@contextmanager
def picture_style() -> Iterator[None]:
    """Set Matplotlib's settings to those of the package's own figures."""
    import matplotlib

    style = resources.as_file(resources.files("cascjax.report") / "report.mplstyle")
    with style as path, matplotlib.rc_context(fname=path):
        yield


def new_axes(height: float = 5.0) -> "Axes":
    """Return the axes of a new pyplot figure with room for a legend."""
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(9.0, height), layout="constrained")[1]


def _cost_axes(study: Study, ax: "Axes | None", label: str) -> "Axes":
    """Return axes with a cost axis, logarithmic where costs span widely."""
    ax = new_axes() if ax is None else ax
    if is_log(all_costs(study)):
        ax.set_xscale("log")
    ax.set_xlabel(headed("mean cost per query", study.cost_unit))
    ax.set_ylabel(label)
    return ax


def _draw(ax: "Axes", name: str, style: Style, line: Any, points: Any) -> Any:
    """Draw a strategy's curve and the points of its budgets; return its entry in a legend."""
    from matplotlib.lines import Line2D

    look: dict[str, Any] = {"color": style.light, "linestyle": style.dash}
    look["linewidth"] = 1.0 if kind_of(name).sees_truth else 2.0
    ax.plot(*line, **look)
    ax.plot(*points, color=style.light, marker=style.marker, linestyle="none", markersize=5)
    return Line2D([], [], marker=style.marker, markersize=5, label=name, **look)


def _legend(ax: "Axes", handles: Sequence[Any]) -> "Axes":
    handles = [*ax.containers, *handles]
    ax.legend(handles=handles, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return ax


def plot_frontier(study: Study, ax: "Axes | None" = None) -> "Axes":
    """Draw quality against cost of every strategy, with the single models and their hull.

    Args:
      study: What `cascjax.compare` returned.
      ax: Axes to draw on. [default: those of a new figure]

    Returns:
      The axes.

    Example:
      >>> import cascjax as cj
      >>> from cascjax import plots, synthetic
      >>> table = synthetic.sample(synthetic.make_dataset(3), 0, 500)
      >>> ax = plots.plot_frontier(cj.compare(table, "routing", budgets=4))
      >>> ax.get_ylabel()
      'mean quality'
    """
    ax, handles = _cost_axes(study, ax, "mean quality"), []
    for name, style in strategy_styles([f.strategy for f in study.frontiers]).items():
        f = study[name]
        handles.append(_draw(ax, name, style, joined(*curve(f)), (f.cost, f.quality)))
        if f.quality_interval is not None:
            order = np.argsort(f.cost, kind="stable")
            low, high = f.quality_interval[order].T
            ax.fill_between(f.cost[order], low, high, color=style.light, alpha=0.15, lw=0)
    cost, quality = study.single_cost, study.single_quality
    hull = upper_hull(cost, quality)
    soft, ink = INK["soft"][0], INK["ink"][0]
    look: dict[str, Any] = {"color": soft, "lw": 1.2, "ls": (0, (4, 3))}
    handles += ax.plot(*joined(cost[hull], quality[hull]), label="hull of single models", **look)
    handles += ax.plot(cost, quality, "o", color=ink, ms=6, zorder=4, label="single model")
    for i, name in enumerate(short_names(study.models)):
        if i in hull:
            ax.annotate(name, (cost[i], quality[i]), (6, -11), textcoords="offset points")
    return _legend(ax, handles)


def plot_gain(study: Study, ax: "Axes | None" = None) -> "Axes":
    """Draw the quality that each strategy gains over mixing single models at the same cost.

    Args:
      study: What `cascjax.compare` returned.
      ax: Axes to draw on. [default: those of a new figure]

    Returns:
      The axes.
    """
    ax, handles = _cost_axes(study, ax, "gain over mixing"), []
    for name, style in strategy_styles([f.strategy for f in study.frontiers]).items():
        f = study[name]
        if not _reference(f):
            x, y = joined(*curve(f))
            points = (f.cost, gain_over_mixing(study, f.cost, f.quality))
            line = (x, gain_over_mixing(study, x, y))
            handles.append(_draw(ax, name, style, line, points))
    ax.axhline(0, color=INK["soft"][0], lw=1.2, ls=(0, (4, 3)), zorder=1.5)
    ax.set_ylim(*gain_range(study))
    return _legend(ax, handles)


def plot_usage(study: Study, strategy: str, ax: "Axes | None" = None) -> "Axes":
    """Draw how many models a strategy runs per query at each budget, stacked by model.

    Args:
      study: What `cascjax.compare` returned.
      strategy: Name of the strategy.
      ax: Axes to draw on. [default: those of a new figure]

    Returns:
      The axes.

    Raises:
      CascjaxError: The study has no strategy of that name.
    """
    f, ax = study[strategy], new_axes() if ax is None else ax
    order, used = np.argsort(f.budget, kind="stable"), np.flatnonzero((f.ran > 0).any(axis=0))
    colors, names = ramp(len(study.models)), short_names(study.models)
    ax.stackplot(
        f.budget[order], f.ran[order][:, used].T,
        colors=[colors[k] for k in used], labels=[names[k] for k in used],
    )  # fmt: skip
    if is_log(f.budget):
        ax.set_xscale("log")
    ax.set_xlabel(headed("budget", study.cost_unit))
    ax.set_ylabel("models run per query")
    ax.set_title(plain(strategy))
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, reverse=True)
    return ax


def plot_reliability(diagnosis: Diagnosis, model: str, ax: "Axes | None" = None) -> "Axes":
    """Draw the mean quality of one model against its estimated quality, with intervals.

    Args:
      diagnosis: What `cascjax.diagnose` returned.
      model: Name of the model.
      ax: Axes to draw on. [default: those of a new figure]

    Returns:
      The axes.

    Raises:
      CascjaxError: The diagnosis has no model of that name.
    """
    if model not in diagnosis.models:
        raise unknown_name("model", model, diagnosis.models)
    ax, k = new_axes() if ax is None else ax, diagnosis.models.index(model)
    sides = zip(SIDE_STYLES.items(), (diagnosis.ante, diagnosis.post), strict=True)
    for (name, style), side in sides:
        bins = side.reliability[k]
        ends = [bins.quality - bins.low, bins.high - bins.quality]
        look: dict[str, Any] = {"color": style.light, "marker": style.marker, "label": name}
        ax.errorbar(bins.estimate, bins.quality, ends, lw=1.2, ms=5, capsize=2, **look)
    ax.axline((0, 0), slope=1, color=INK["soft"][0], lw=1, ls=(0, (4, 3)))
    ax.set(xlabel="estimated quality", ylabel="mean quality", title=plain(model))
    ax.legend(frameon=False)
    return ax


def plot_scenarios(diagnosis: Diagnosis, ax: "Axes | None" = None) -> "Axes":
    """Draw the AUC of every strategy now and on better estimates, between hull and oracle.

    Args:
      diagnosis: What `cascjax.diagnose` returned.
      ax: Axes to draw on. [default: those of a new figure]

    Returns:
      The axes.
    """
    ax = new_axes(1.7 + 0.5 * len(diagnosis.gains)) if ax is None else ax
    ranked = [gain.strategy for gain in sorted(diagnosis.gains, key=lambda gain: gain.gain.value)]
    colors = [style.light for style in strategy_styles(ranked).values()]
    rows = range(len(ranked))
    for scenario in diagnosis.scenarios:
        marker, label = SCENARIOS[scenario.name]
        values = [scenario.auc[name].value for name in ranked]
        shape: dict[str, Any] = {"facecolors": colors if scenario.name == NOW else "none"}
        ax.scatter(values, rows, 60, marker=marker, edgecolors=colors, label=label, **shape)
    soft = INK["soft"][0]
    ax.axvline(diagnosis.mixing.value, color=soft, ls=(0, (4, 3)), label="hull of single models")
    ax.axvline(diagnosis.oracle.value, color=soft, label="oracle")
    ax.set_yticks(rows, ranked)
    ax.set_xlabel("AUC: mean quality over the range of costs")
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return ax
