"""Charts of the pages as Vega-Lite specifications, made with Altair."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from cascjax.comparison import Frontier, Study
from cascjax.diagnosis import NOW, Diagnosis
from cascjax.evaluation import Evaluation, Mean
from cascjax.metrics import upper_hull
from cascjax.plots import (
    INK,
    SCENARIOS,
    SIDE_STYLES,
    all_costs,
    curve,
    gain_over_mixing,
    gain_range,
    is_log,
    joined,
    kind_of,
    ramp,
    spread,
    strategy_styles,
)
from cascjax.strategies import Style
from cascjax.words import (
    cost_texts,
    counted,
    gain_text,
    headed,
    interval_text,
    listed,
    percent_text,
    plain,
    quality_text,
    share_text,
    short_names,
)

# Altair and pandas take long to import, so only the functions that draw import them.
if TYPE_CHECKING:
    from pandas import DataFrame

WIDE, CELL, CELLS, LEGEND = 900, 290, 3, 8
"""Widths and numbers of columns for which page.js puts what fits the window."""

POINTS = 200
"""Maximum number of budgets with a tooltip per strategy, evenly spread."""

MODELS_SHOWN = 8
"""Maximum number of models listed in a tooltip, those that run most; the rest are counted."""

COINCIDE = 1e-3
"""Two curves coincide if they lie nowhere further apart than this share of the quality range."""

SINGLES, POLICY = "single models", "#0072b2"

SHAPES = {
    "o": "circle", "s": "square", "^": "triangle-up", "v": "triangle-down", "D": "diamond",
    "<": "triangle-left", ">": "triangle-right", "P": "cross", "|": "stroke",
    "x": "M-.9,-.5L-.5,-.9L0,-.4L.5,-.9L.9,-.5L.4,0L.9,.5L.5,.9L0,.4L-.5,.9L-.9,.5L-.4,0Z",
    "X": "M-.3,-1L.3,-1L.3,1L-.3,1Z",
}  # fmt: skip
"""Vega's name or path of Matplotlib's markers."""


@dataclass(frozen=True)
class Chart:
    """A Vega-Lite specification, what it shows in words, and notes below it.

    `scale` is the type of its cost axis where the reader may switch that, else "".
    """

    spec: dict[str, Any]
    label: str
    caption: Sequence[str] = ()
    scale: str = ""


def chart(drawn: Any, label: str, caption: Sequence[str] = (), scale: str = "") -> Chart:
    """Return what Altair has drawn as a chart of a page."""
    import altair as alt

    with alt.data_transformers.enable("default", max_rows=None):
        spec = drawn.to_dict()
    return Chart(
        {k: v for k, v in spec.items() if k not in ("$schema", "config")}, label, caption, scale
    )


def _round(values: Any) -> list[float]:
    return [float(f"{value:.6g}") for value in values]


def _dash(style: Style) -> list[float]:
    """Return Matplotlib's line style in pixels; a line that Matplotlib leaves out is dotted."""
    if isinstance(style.dash, tuple):
        return [2.0 * length for length in style.dash[1]]
    return [1.0, 0.0] if style.dash == "-" else [1.0, 4.0]


def frontier_chart(study: Study, best: str = "") -> Chart:
    """Return quality against cost of every strategy, and below it the gain over mixing.

    A click in the legend highlights a strategy. Intervals are drawn for `best` and the strategies
    that only mix single models; for any other while it is highlighted or pointed at.
    """
    import altair as alt

    styles = strategy_styles([f.strategy for f in study.frontiers])
    names = [*map(plain, styles), SINGLES]
    pick = alt.selection_point(name="pick", fields=["strategy"], bind="legend")
    hover = alt.selection_point(
        name="hover", fields=["strategy"], on="pointerover", clear="pointerout", empty=False
    )
    soft = Style(INK["soft"][0], INK["soft"][1], (0, (2.5, 2)), "o")
    looks = [*styles.values(), soft]

    legend = alt.Legend(orient="top", columns=LEGEND, symbolOpacity=1)
    color, dash, shape = (
        channel(
            "strategy:N", title=None, legend=legend, scale=alt.Scale(domain=names, range=values)
        )
        for channel, values in (
            (alt.Color, [style.light for style in looks]),
            (alt.StrokeDash, [_dash(style) for style in looks]),
            (alt.Shape, [SHAPES.get(style.marker, "circle") for style in looks]),
        )
    )
    faded = alt.when(pick).then(alt.value(1)).otherwise(alt.value(0.07))
    banded = alt.when(hover).then(alt.value(0.2)).when("datum.main && !length(data('pick_store'))")
    banded = banded.then(alt.value(0.16)).when(alt.selection_point(name="pick"), empty=False)
    x = _cost_channel(study)
    lines, points = _curves(study), _points(study, best)
    tooltip = [
        alt.Tooltip(f"{name}:N", title=title)
        for name, title in _tooltips(study).items()
        if name in points
    ]

    def panel(name: str, axis: Any, scale: Any, title: str, *params: Any) -> list[Any]:
        y = alt.Y(f"{name}:Q", title=title, scale=scale)
        line = alt.Chart(lines).mark_line(strokeWidth=2, clip=True)
        marks = alt.Chart(points).mark_point(filled=True, size=45, clip=True)
        return [
            line.encode(axis, y, color, dash, opacity=faded, detail="strategy:N"),
            marks.encode(axis, y, color, shape, opacity=faded, tooltip=tooltip).add_params(*params),
        ]

    axis = x.axis(title=None, labels=False)
    top = panel("q", axis, alt.Scale(zero=False), "mean quality", hover, pick)
    if "lo" in points:
        band = alt.Chart(points).mark_area(clip=True, interpolate="linear")
        band = band.encode(
            x, alt.Y("lo:Q"), alt.Y2("hi:Q"), color,
            opacity=banded.then(alt.value(0.2)).otherwise(alt.value(0)),
        )  # fmt: skip
        top.insert(0, band)
    top += _singles(study, x, faded)
    gains = alt.Scale(domain=gain_range(study), nice=False)
    below = panel("g", x, gains, "gain over mixing")
    zero = alt.Chart(alt.InlineData([{}])).mark_rule(strokeDash=[5, 4], color=soft.light)
    drawn = alt.vconcat(
        alt.layer(*top).properties(width=WIDE, height=380),
        alt.layer(zero.encode(y=alt.datum(0)), *below).properties(width=WIDE, height=150),
        spacing=8,
    ).resolve_scale(color="shared", shape="shared", strokeDash="shared", x="shared")
    label = f"Mean quality against mean cost per query of {listed(names)}"
    return chart(drawn, label, coincidences(study), _switch(study))


def _switch(study: Study) -> str:
    """Return the type of the cost axis where it can be switched, else ""."""
    costs = all_costs(study)
    return ("log" if is_log(costs) else "linear") if np.all(costs > 0) else ""


def _cost_channel(study: Study, more: Sequence[float] = ()) -> Any:
    """Return the cost axis, whose range suits both a linear and a logarithmic scale."""
    import altair as alt

    log = is_log(all_costs(study))
    costs = np.concatenate([all_costs(study), more])
    costs = costs[np.isfinite(costs)]
    low, high = float(costs.min()), float(costs.max())
    pad = 0.03 * (high - low) or 0.05 * abs(high) or 1.0
    domain = [low * 0.9 if low > 0 else low - pad, high + pad]
    scale = alt.Scale(type="log" if log else "linear", domain=domain, nice=False)
    axis = alt.Axis(labelOverlap="greedy", tickCount=6, grid=False)
    return alt.X(
        "c:Q", title=headed("mean cost per query", study.cost_unit), scale=scale, axis=axis
    )


def _curves(study: Study) -> Any:
    """Return the vertices of every curve, that of the single models' hull included."""
    import pandas as pd

    hull = upper_hull(study.single_cost, study.single_quality)
    curves = {plain(f.strategy): curve(f) for f in study.frontiers}
    curves[SINGLES] = (study.single_cost[hull], study.single_quality[hull])
    frames = []
    for name, (cost, quality) in curves.items():
        x, y = joined(cost, quality)
        # The panel of gains shows strategies to choose from.
        known = np.full(len(x), np.nan)
        if name != SINGLES and not kind_of(name).reference:
            known = gain_over_mixing(study, x, y)
        frames.append(pd.DataFrame({"c": _round(x), "q": _round(y), "g": _round(known)}))
        frames[-1].insert(0, "strategy", name)
    return pd.concat(frames, ignore_index=True)


def _tooltips(study: Study) -> dict[str, str]:
    return {
        "strategy": "strategy",
        "budget": headed("budget", study.cost_unit),
        "cost": headed("cost", study.cost_unit),
        "quality": "quality",
        "interval": f"{percent_text(study.confidence)} interval",
        "gain": "gain over mixing",
        "parameters": "parameters",
        "models": "models per query",
        "usage": "queries it runs on",
    }


def _points(study: Study, best: str) -> Any:
    """Return the budgets of every strategy in rising cost: places, and texts of the tooltip."""
    import pandas as pd

    names, frames = short_names(study.models), [pd.DataFrame({"strategy": []})]
    for f in study.frontiers:
        order = np.lexsort((f.quality, f.cost))
        order = order[np.isfinite(f.cost[order]) & np.isfinite(f.quality[order])]
        at = order[spread(len(order), POINTS)]
        cost, quality = f.cost[at], f.quality[at]
        gain = gain_over_mixing(study, cost, quality)
        columns: dict[str, Any] = {
            "strategy": [plain(f.strategy)] * len(at),
            "c": _round(cost),
            "q": _round(quality),
            "g": _round(np.full(len(at), np.nan) if kind_of(f.strategy).reference else gain),
            "budget": cost_texts(f.budget[at]),
            "cost": cost_texts(cost),
            "quality": list(map(quality_text, quality)),
            "gain": list(map(gain_text, gain)),
            "parameters": [parameters_text(f, p, names) for p in at.tolist()],
            "models": [f"{n:.2f}" for n in f.depth[at] @ np.arange(1, f.depth.shape[1] + 1)],
            "usage": [usage_text(f, p, names) for p in at.tolist()],
        }
        if f.quality_interval is not None:
            ends = f.quality_interval[at]
            columns |= {"lo": _round(ends[:, 0]), "hi": _round(ends[:, 1])}
            columns["interval"] = list(map(interval_text, ends.tolist()))
            kind = kind_of(f.strategy)
            columns["main"] = f.strategy == best or (kind.reference and not kind.sees_truth)
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)


def is_deep(f: Frontier) -> bool:
    """Return whether more than one model may run on a query."""
    return bool(np.any(f.depth[:, 1:] > 0))


def usage_text(f: Frontier, p: int, names: Sequence[str]) -> str:
    """Return the models run at a budget in rising cost, a line each, with shares of queries."""
    used = np.flatnonzero(f.ran[p] > 0)
    most = np.sort(used[np.argsort(-f.ran[p, used], kind="stable")[:MODELS_SHOWN]]).tolist()
    lines = []
    for k in most:
        answers = f", answers {share_text(f.answered[p, k], 'none')}" if is_deep(f) else ""
        lines.append(f"{names[k]} {share_text(f.ran[p, k])}{answers}")
    more = [f"and {len(used) - len(most)} more"] if len(used) > len(most) else []
    return "\n".join([*lines, *more])


def parameters_text(f: Frontier, p: int, names: Sequence[str]) -> str:
    """Return the parameters that meet a budget: one setting, or two and their shares of queries."""
    kind, gamma = kind_of(f.strategy), float(f.gamma[p])
    cheap, expensive = (
        kind.text(side, names) for side in f.parameters.reshape(len(f.budget), 2, -1)[p]
    )
    text = f"{cheap} ({share_text(1 - gamma)}), {expensive} ({share_text(gamma)})"
    if cheap == expensive or gamma <= 0:
        text = cheap
    elif gamma >= 1:
        text = expensive
    return f"{kind.parameter_name} {text}"


def _singles(study: Study, x: Any, opacity: Any) -> list[Any]:
    """Return the layers of the single models: a point each, and the names that have room."""
    import altair as alt
    import pandas as pd

    cost, quality = study.single_cost, study.single_quality
    hull = upper_hull(cost, quality).tolist()
    titles = {
        "model": "model", "quality": "mean quality",
        "cost": headed("mean cost", study.cost_unit), "on": "on the hull",
    }  # fmt: skip
    on = ["yes" if k in hull else "no" for k in range(len(cost))]
    table = pd.DataFrame(
        {
            "strategy": SINGLES, "c": _round(cost), "q": _round(quality), "on": on,
            "model": list(map(plain, study.models)), "quality": list(map(quality_text, quality)),
            "cost": cost_texts(cost), "label": _labels(study, hull),
            "side": np.where(_places(cost)[-1] > 0.5, -1, 1),
        }
    )  # fmt: skip
    y = alt.Y("q:Q")
    base = alt.Chart(table).encode(x, y, opacity=opacity)
    text = {
        "align": alt.expr("datum.side > 0 ? 'left' : 'right'"), "dx": alt.expr("7 * datum.side"),
        "dy": 11, "fontSize": 11,
    }  # fmt: skip
    ink, paper = INK["ink"][0], INK["paper"][0]
    return [
        base.mark_text(stroke=paper, strokeWidth=3, **text).encode(text="label:N"),
        base.mark_text(color=ink, **text).encode(text="label:N"),
        base.mark_point(filled=True, size=60, color=ink).encode(
            tooltip=[alt.Tooltip(f"{name}:N", title=title) for name, title in titles.items()]
        ),
    ]


def _places(cost: Float[np.ndarray, " K"]) -> list[Float[np.ndarray, " K"]]:
    """Return where costs stand on a linear axis, from 0 to 1, and on a logarithmic one."""
    scales = [cost, np.log(cost)] if (cost > 0).all() else [cost]
    return [(at - at.min()) / (np.ptp(at) or 1.0) for at in scales]


def _labels(study: Study, hull: Sequence[int]) -> list[str]:
    """Return the name of each single model, "" where it would cover another one's."""
    quality, axes = study.single_quality, _places(study.single_cost)
    height = (quality - quality.min()) / (np.ptp(quality) or 1.0)
    kept: list[int] = []
    for k in sorted(range(len(quality)), key=lambda k: (k not in hull, -quality[k])):
        level = np.abs(height[k] - height[kept]) < 0.1
        if not any(np.any(level & (np.abs(at[k] - at[kept]) < 0.25)) for at in axes):
            kept.append(k)
    return [name if k in kept else "" for k, name in enumerate(short_names(study.models))]


def coincidences(study: Study) -> list[str]:
    """Return a note for each strategy whose curve lies on the curve of an earlier one."""
    curves = {plain(f.strategy): joined(*curve(f)) for f in study.frontiers}
    ends = [
        end for _, y in curves.values() for end in (y.min(initial=np.inf), y.max(initial=-np.inf))
    ]
    limit = COINCIDE * (max(ends, default=0.0) - min(ends, default=0.0))
    on: dict[str, list[str]] = {}
    for name, (x, y) in curves.items():
        for other in on:
            a, b = curves[other]
            if not len(x) or not len(a) or max(x[0], a[0]) > min(x[-1], a[-1]):
                continue
            at = np.union1d(x, a)
            # Left of its first point a curve does not exist; right of its last it stays.
            low, high = max(x[0], a[0]), at[-1]
            at = at[(at >= low) & (at <= high)]
            if np.abs(np.interp(at, x, y) - np.interp(at, a, b)).max(initial=0.0) <= limit:
                on[other].append(name)
                break
        else:
            on[name] = []
    return [
        f"{listed(names)} {'coincides' if len(names) == 1 else 'coincide'} with {other}."
        for other, names in on.items()
        if names
    ]


def usage_chart(study: Study, f: Frontier) -> Chart:
    """Return what a strategy runs over its budgets: how many models, which, and which answer.

    With one model per query only the models are drawn: the one that runs is the one that answers.
    """
    import altair as alt
    import pandas as pd

    order = np.argsort(f.budget, kind="stable")
    order = order[spread(len(order), 60)]
    budget = f.budget[order]
    if len(order) == 1:  # one budget has no width to fill
        order, budget = np.repeat(order, 2), budget[0] + np.array([-0.05, 0.05]) * (budget[0] or 1)
    names, colors = short_names(study.models, 20), ramp(len(study.models))
    panels: dict[str, Any] = {"Whose answer is returned": (f.answered, names, colors)}
    if is_deep(f):
        depths = [counted(d + 1, "model") for d in range(f.depth.shape[1])]
        panels = {
            "How many models run": (f.depth, depths, ramp(len(depths), "magma_r")),
            "Which models run": (f.ran, names, colors),
        } | panels
    stacks = []
    for title, (shares, layers, palette) in panels.items():
        used = np.flatnonzero((shares > 0).any(axis=0)).tolist()
        domain = [layers[k] for k in used]
        table = pd.DataFrame(
            [
                {"b": b, "share": round(float(shares[p, k]), 4), "layer": layers[k], "k": k}
                for k in used
                for b, p in zip(_round(budget), order.tolist(), strict=True)
            ],
            columns=pd.Index(["b", "share", "layer", "k"]),
        )
        scale = alt.Scale(type="log" if is_log(budget) else "linear", nice=False)
        axis = alt.Axis(tickCount=4, labelOverlap="greedy", grid=False)
        legend = alt.Legend(orient="bottom", columns=2, symbolType="square", labelLimit=95)
        label = "models run" if shares is f.ran else "share of queries"
        fill = alt.Scale(domain=domain, range=[palette[k] for k in used])
        stacks.append(
            alt.Chart(table, title=title)
            .mark_area(stroke=INK["paper"][0], strokeWidth=0.6)
            .encode(
                alt.X("b:Q", title=headed("budget", study.cost_unit), scale=scale, axis=axis),
                alt.Y("share:Q", title=label, scale=alt.Scale(nice=shares is f.ran, domainMin=0)),
                alt.Color("layer:N", title=None, scale=fill, legend=legend, sort=domain),
                alt.Order("k:Q"),
                tooltip=[alt.Tooltip("layer:N", title="part")],
            )
            .properties(width=CELL, height=190)
        )
    drawn = alt.concat(*stacks, columns=CELLS).resolve_scale(color="independent")
    return chart(drawn, f"What {f.strategy} runs at each budget")


def scenarios_chart(result: Diagnosis) -> Chart:
    """Return the AUCs of every strategy on each kind of estimates, between hull and oracle."""
    import altair as alt
    import pandas as pd

    ranked = sorted(result.gains, key=lambda gain: -gain.gain.value)
    styles = strategy_styles([gain.strategy for gain in ranked])
    labels = [SCENARIOS[scenario.name][1] for scenario in result.scenarios]
    rows = []
    for scenario in result.scenarios:
        for name, span in scenario.auc.items():
            row = {"strategy": plain(name), "auc": span.value, "text": quality_text(span.value)}
            row |= {"scenario": SCENARIOS[scenario.name][1], "now": scenario.name == NOW}
            if scenario.name == NOW and span.low is not None:
                row |= {"low": span.low, "high": span.high}
            rows.append(row)
    base = alt.Chart(pd.DataFrame(rows)).encode(
        alt.Y("strategy:N", title=None, sort=[*map(plain, styles)]),
        alt.Color(
            "strategy:N", legend=None,
            scale=alt.Scale(domain=[*map(plain, styles)], range=[s.light for s in styles.values()]),
        ),
    )  # fmt: skip
    x = alt.X("auc:Q", scale=alt.Scale(zero=False), title="AUC: mean quality over all costs")
    shape = alt.Scale(domain=labels, range=[SHAPES[SCENARIOS[s.name][0]] for s in result.scenarios])
    legend = alt.Legend(orient="top", columns=LEGEND, symbolStrokeColor=INK["ink"][0])
    tooltip = [alt.Tooltip(f"{name}:N") for name in ("strategy", "scenario")]
    bounds = pd.DataFrame(
        {"auc": [result.mixing.value, result.oracle.value], "name": ["hull", "oracle"]}
    )
    rule = alt.Chart(bounds).encode(x)
    layers = [
        rule.mark_rule().encode(
            strokeDash=alt.when("datum.name == 'hull'")
            .then(alt.value([5, 4]))
            .otherwise(alt.value([1, 0]))
        ),
        rule.mark_text(dy=-7, color=INK["soft"][0]).encode(y=alt.value(0), text="name:N"),
        base.mark_rule(strokeWidth=1.4, opacity=0.5).encode(x="min(auc):Q", x2="max(auc):Q"),
        base.mark_point(size=70, strokeWidth=1.8).encode(
            x,
            alt.Shape("scenario:N", title=None, scale=shape, legend=legend),
            fillOpacity=alt.when("datum.now").then(alt.value(1)).otherwise(alt.value(0)),
            tooltip=[*tooltip, alt.Tooltip("text:N", title="AUC")],
        ),
    ]
    if result.resamples:
        bar = base.mark_rule(strokeWidth=7, opacity=0.25).transform_filter("datum.now")
        layers.insert(1, bar.encode(x="low:Q", x2="high:Q"))
    drawn = alt.layer(*layers).properties(width=WIDE, height=50 + 34 * len(styles))
    return chart(drawn, f"AUCs of {listed([*styles])}: {listed(labels)}")


def reliability_chart(bins: "DataFrame") -> Chart:
    """Return for each model its mean quality against its estimates, before and after it runs.

    `bins` are those of `cascjax.report.diagnosis.bins_frame`.
    """
    import altair as alt
    import pandas as pd

    ends = bins[["estimate", "quality", "low", "high"]].to_numpy()
    scale = alt.Scale(domain=[float(np.nanmin(ends)), float(np.nanmax(ends))], nice=True)
    color = alt.Color(
        "estimates:N", title=None, legend=alt.Legend(orient="top", symbolOpacity=1),
        scale=alt.Scale(domain=[*SIDE_STYLES], range=[s.light for s in SIDE_STYLES.values()]),
    )  # fmt: skip
    diagonal = alt.Chart(pd.DataFrame({"at": scale.domain})).mark_line(
        strokeDash=[5, 4], strokeWidth=1, color=INK["soft"][0]
    )
    x = alt.X("estimate:Q", title="estimated quality", scale=scale)
    y = alt.Y("quality:Q", title="mean quality", scale=scale)
    tooltip = ["estimates:N", "estimate:Q", "quality:Q", "low:Q", "high:Q", "count:Q"]
    models, cells = bins["model"].unique(), []
    for model, name in zip(models, short_names(models, 32), strict=True):
        block = bins[bins["model"] == model].drop(columns="model")
        base = alt.Chart(block).encode(x, color)
        layers = [
            diagonal.encode(alt.X("at:Q", scale=scale), alt.Y("at:Q", scale=scale)),
            base.mark_rule(opacity=0.5).encode(alt.Y("low:Q", scale=scale), y2="high:Q"),
            base.mark_line(strokeWidth=1.2).encode(y),
            base.mark_point(filled=True, size=35).encode(y, tooltip=tooltip),
        ]
        cells.append(alt.layer(*layers).properties(width=CELL, height=210, title=name))
    drawn = alt.concat(*cells, columns=CELLS)
    return chart(drawn, "Mean quality against estimated quality of each model")


def policy_chart(result: Evaluation) -> Chart:
    """Return the mean cost and quality of a policy, overall and per group, among single models."""
    import altair as alt
    import pandas as pd

    alone = (result.single_cost[0], result.single_quality)
    study = Study((), result.models, result.cost_units[0], *alone, 0, result.total.n)

    def place(name: str, cost: Mean, quality: Mean) -> dict[str, Any]:
        row = {"name": name, "c": cost.value, "q": quality.value, "total": name == "policy"}
        row |= {"low": quality.low, "high": quality.high, "from": cost.low, "to": cost.high}
        return row | {"cost": cost_texts([cost.value])[0], "quality": quality_text(quality.value)}

    parts = {"policy": result.total, **{f"group {plain(g)}": p for g, p in result.groups.items()}}
    rows = [place(name, part.cost[0], part.quality) for name, part in parts.items()]
    x = _cost_channel(study, [row["c"] for row in rows])
    y = alt.Y("q:Q", title="mean quality", scale=alt.Scale(zero=False))
    base = alt.Chart(pd.DataFrame(rows)).encode(x, y)
    only = base.transform_filter("datum.total")
    hull = alt.Chart(_curves(study)).mark_line(strokeDash=[5, 4], color=INK["soft"][0])
    tooltip = [alt.Tooltip(f"{name}:N") for name in ("name", "cost", "quality")]
    groups = base.mark_point(size=40, color=POLICY).transform_filter("!datum.total")
    diamond = only.mark_point(size=110, filled=True, shape="diamond", color=POLICY, opacity=1)
    rule, ends = only.mark_rule(color=POLICY), []
    if result.total.quality.low is not None:
        ends.append(rule.encode(alt.Y("low:Q"), y2="high:Q"))
    if result.total.cost[0].low is not None:
        ends.append(rule.encode(alt.X("from:Q"), x2="to:Q"))
    drawn = alt.layer(
        hull.encode(x, y),
        groups.encode(tooltip=tooltip),
        *ends,
        diamond.encode(tooltip=tooltip),
        *_singles(study, x, alt.value(1)),
    ).properties(width=WIDE, height=340)
    label = "Mean quality and cost of the policy, its groups and the single models"
    return chart(drawn, label, (), _switch(study))
