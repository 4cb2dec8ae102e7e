"""The report of a study: one HTML file that opens anywhere, offline."""

import base64
import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib import metadata, resources
from typing import Any

import numpy as np
from jaxtyping import Int

from cascjax import __version__
from cascjax.comparison import Frontier, Study
from cascjax.diagnosis import Diagnosis
from cascjax.report.findings import (
    aucs_listing,
    findings,
    interval_note,
    missing_scores,
    ranked,
    reach_notes,
    score_meanings,
    scores_listing,
    singles_listing,
)
from cascjax.report.pictures import (
    INK,
    Picture,
    css_variable,
    depth_colors,
    frontier_pictures,
    gain_over_mixing,
    kind_of,
    model_colors,
    runs_svgs,
    strategy_styles,
)
from cascjax.report.tables import Listing, RowStyle, each, simulation_note, template
from cascjax.strategies import Style
from cascjax.words import (
    cost_texts,
    counted,
    gain_text,
    headed,
    interval_text,
    percent_text,
    plain,
    quality_text,
    share_text,
    short_names,
)

POINTS_SHOWN = 200
"""Largest number of points of a strategy with a tooltip; of more, these many evenly spread."""

MODELS_SHOWN = 8
"""Largest number of models listed at a point, those that run most; the rest are counted."""


def render(study: Study, command: str = "", tuning: Mapping[str, Any] | None = None) -> str:
    """Return the page: findings, frontiers, AUCs, what each strategy runs, and the single models.

    `command` is the command line that made the study; `tuning` the result of a cross-validation, if
    there was one: `candidates`, a listing, and its `verdict`.
    """
    from markupsafe import Markup

    # References last, both parts in falling order of AUC.
    frontiers = ranked(study).sort_values("reference", kind="stable")["frontier"].tolist()
    drawn = frontier_pictures(study)
    script = resources.files("cascjax.report").joinpath("frontier.js").read_text("utf-8")
    return template("report.html").render(
        title=f"Routing and cascading over {counted(len(study.models), 'model')}",
        findings=[*filter(None, [simulation_note(study.settings)]), *findings(study)],
        # The pictures are built by an XML writer, which has escaped every name in them.
        pictures=[replace(p, svg=Markup(p.svg)) for p in drawn],
        first_is_log=drawn[0].log,
        points=Markup(script_json(points_data(study, drawn))),
        script=Markup(script),
        # The hash of the only script that may run.
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        palette=palette(strategy_styles([f.strategy for f in frontiers]).values()),
        confidence=percent_text(study.confidence) if study.resamples else "",
        aucs=aucs_listing(study),
        interval_note=interval_note(study),
        scores=scores_listing(study),
        meanings=score_meanings(study),
        missing=missing_scores(study),
        tuning=tuning,
        reach=reach_notes(study),
        runs=[_runs(study, f, i) for i, f in enumerate(frontiers)],
        singles=singles_listing(study),
        command=plain(command),
        record=record(study),
    )


def palette(styles: Iterable[Style]) -> dict[str, dict[str, str]]:
    """Return the page's CSS variables for each theme: the colours of INK and of these styles."""
    pairs = INK | {css_variable(style.light)[2:]: (style.light, style.dark) for style in styles}
    return {
        theme: {name: pair[i] for name, pair in pairs.items()}
        for i, theme in enumerate(("light", "dark"))
    }


def record(result: Study | Diagnosis) -> dict[str, str]:
    """Return what a page says about how a result was made."""
    return {
        "fit queries": f"{result.n_fit:,}",
        "evaluation queries": f"{result.n_evaluate:,}",
        **{plain(name): plain(value) for name, value in result.settings.items()},
        "cascjax version": __version__,
        "jax version": metadata.version("jax"),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _runs(study: Study, f: Frontier, number: int) -> dict[str, Any]:
    """Return a table over about five budgets, evenly spread in rank, and pictures over them all."""
    import pandas as pd
    from markupsafe import Markup

    order = np.argsort(f.budget, kind="stable")
    picked = order[_spread(len(order), 5)]
    counts, deep = np.arange(1, f.depth.shape[1] + 1), _is_deep(f)
    rows: list[tuple[str, Sequence[str], RowStyle]] = [
        ("mean cost", cost_texts(f.cost[picked]), RowStyle()),
        ("mean quality", [quality_text(q) for q in f.quality[picked]], RowStyle()),
        ("models run per query", [f"{d:.2f}" for d in f.depth[picked] @ counts], RowStyle()),
    ]
    depths = np.flatnonzero((f.depth > 0).any(axis=0)).tolist() if deep else []
    ramp = depth_colors(max(depths, default=0) + 1)
    for d in depths:
        style = RowStyle(color=ramp[d], rule=d == depths[0])
        rows.append((counted(d + 1, "model"), list(map(share_text, f.depth[picked, d])), style))
    names, colors = short_names(study.models, 32), model_colors(len(study.models))
    used = np.flatnonzero((f.ran > 0).any(axis=0) | (f.answered > 0).any(axis=0)).tolist()
    for k in used:
        pairs = zip(f.ran[picked, k].tolist(), f.answered[picked, k].tolist(), strict=True)
        texts = [
            # Where every model that runs answers, one number will do.
            f"{share_text(ran)} | {share_text(answered)}" if deep and ran > 0 else share_text(ran)
            for ran, answered in pairs
        ]
        rows.append((names[k], texts, RowStyle(color=colors[k], rule=k == used[0])))
    labels, cells, styles = zip(*rows, strict=True)
    index = pd.Index(labels, name=headed("budget", study.cost_unit))
    table = pd.DataFrame(cells, index=index, columns=pd.Index(cost_texts(f.budget[picked])))
    return {
        "strategy": f.strategy,
        "description": kind_of(f.strategy).description,
        "pictures": {k: Markup(v) for k, v in runs_svgs(study, f, f"runs-{number}").items()},
        "table": Listing(table, styles=styles),
        "deep": deep,
        "unused": [name for k, name in enumerate(names) if k not in used],
    }


def _spread(count: int, most: int) -> Int[np.ndarray, " Q"]:
    """Return at most so many of the first `count` numbers, evenly spread."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(int)


# ---- the points of the frontier picture, for its script


def points_data(study: Study, drawn: Sequence[Picture]) -> dict[str, Any]:
    """Return all that the script needs of pictures in the order of the page, in JSON's own types.

    Numbers are the texts to show, so that the page rounds in one way only.
    """
    picked = [_thinned(f) for f in study.frontiers]
    styles = strategy_styles([f.strategy for f in study.frontiers])
    series: list[dict[str, Any]] = []
    for f, at in zip(study.frontiers, picked, strict=True):
        listing = points_listing(study, f)
        series.append(
            {
                "name": plain(f.strategy),
                "color": f"var({css_variable(styles[f.strategy].light)})",
                "shares": ["ran", "answered"] if _is_deep(f) else ["ran"],
                "rows": listing.headings[1:],
                "points": _points(f, listing, at),
            }
        )
    singles = singles_listing(study)
    series += [
        {"name": "hull of single models", "color": "var(--soft)", "points": []},
        {
            "name": "single model",
            "color": "var(--ink)",
            "points": [[cells[1:], [], 0] for _, cells in singles.rows],
            "rows": singles.headings[1:],
            "titles": [cells[0] for _, cells in singles.rows],
        },
    ]
    # Frontiers are thinned, single models are not.
    kept = [*picked, np.arange(0), np.arange(len(study.models))]

    def places(picture: Picture) -> list[list[list[float | None]]]:
        points = [p[at].tolist() for p, at in zip(picture.points, kept, strict=True)]
        return [
            [[round(v, 1) if math.isfinite(v) else None for v in at] for at in p] for p in points
        ]

    names = short_names(study.models)
    return {
        "models": [list(pair) for pair in zip(names, model_colors(len(names)), strict=True)],
        "series": series,
        "pictures": [
            {
                "narrow": p.narrow,
                "log": p.log,
                "legend": round(p.legend, 1),
                "panels": [round(y, 1) for y in p.panels],
                "points": places(p),
            }
            for p in drawn
        ],
    }


def script_json(data: object) -> str:
    """Return JSON for a script element: nothing in it opens or closes a tag."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _thinned(f: Frontier) -> Int[np.ndarray, " Q"]:
    """Return the points that have a tooltip, in rising cost."""
    order = np.lexsort((f.quality, f.cost))
    order = order[np.isfinite(f.cost[order]) & np.isfinite(f.quality[order])]
    return order[_spread(len(order), POINTS_SHOWN)]


def _is_deep(f: Frontier) -> bool:
    """Return whether more than one model may run on a query."""
    return bool(np.any(f.depth[:, 1:] > 0))


def points_listing(study: Study, f: Frontier) -> Listing:
    """Return the numbers of each point of a strategy, in the order of its budgets."""
    import pandas as pd

    budget, cost = headed("budget", study.cost_unit), headed("cost", study.cost_unit)
    names = short_names(study.models)
    columns: dict[str, Any] = {budget: f.budget, cost: f.cost, "quality": f.quality}
    if f.quality_interval is not None:
        ends = [interval_text(pair) for pair in f.quality_interval.tolist()]
        columns[f"{percent_text(study.confidence)} interval"] = ends
    columns["gain over mixing"] = gain_over_mixing(study, f.cost, f.quality)
    parameters = [_parameters(f, p, names) for p in range(len(f.budget))]
    columns[kind_of(f.strategy).parameter_name] = parameters
    columns["models per query"] = f.depth @ np.arange(1, f.depth.shape[1] + 1)
    formats = {budget: cost_texts, cost: cost_texts, "quality": each(quality_text)}
    formats |= {"gain over mixing": each(gain_text), "models per query": each("{:.2f}".format)}
    return Listing(pd.DataFrame(columns), formats)


def _points(f: Frontier, listing: Listing, at: Int[np.ndarray, " Q"]) -> list[list[Any]]:
    """Return for each point its numbers, the models run with their shares, and how many more."""
    rows, deep, points = listing.rows, _is_deep(f), []
    for p in at.tolist():
        used = np.flatnonzero(f.ran[p] > 0)
        # Those that run most, in rising cost.
        most = np.sort(used[np.argsort(-f.ran[p, used], kind="stable")[:MODELS_SHOWN]]).tolist()
        models = []
        for k in most:
            shares = [float(f.ran[p, k]), *([float(f.answered[p, k])] if deep else [])]
            models.append([k, round(100 * shares[0], 1), *map(share_text, shares)])
        points.append([rows[p][1][1:], models, len(used) - len(most)])
    return points


def _parameters(f: Frontier, p: int, names: Sequence[str]) -> str:
    """Return the parameters that meet a budget: one, or two and their shares of queries."""
    gamma, sides = float(f.gamma[p]), f.parameters.reshape(len(f.budget), 2, -1)[p]
    cheap, expensive = (kind_of(f.strategy).text(side, names) for side in sides)
    if cheap == expensive or gamma <= 0:
        return cheap
    if gamma >= 1:
        return expensive
    return f"{cheap} ({share_text(1 - gamma)}), {expensive} ({share_text(gamma)})"
