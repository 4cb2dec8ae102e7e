"""The report of a study: one HTML file that opens anywhere, offline."""

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata, resources
from typing import Any

import numpy as np
from jaxtyping import Int

from cascjax import __version__
from cascjax.comparison import Frontier, Study
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
from cascjax.report.study import (
    aucs_listing,
    findings,
    interval_note,
    missing_scores,
    ranked,
    reach_notes,
    score_meanings,
    scores_listing,
    simulation_note,
    singles_listing,
)
from cascjax.report.tables import Listing, RowStyle, each, template
from cascjax.strategies import Style
from cascjax.words import (
    cost_texts,
    counted,
    gain_text,
    headed,
    interval_text,
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

    Args:
        study: what to show.
        command: the command line that made the study, for the record.
        tuning: result of a cross-validation, if there was one: `candidates`, a row of texts each,
            and its `verdict`.
    """
    from markupsafe import Markup

    # References last, both parts in falling order of AUC.
    frontiers = ranked(study).sort_values("reference", kind="stable")["frontier"].tolist()
    drawn = frontier_pictures(study)
    script = resources.files("cascjax.report").joinpath("frontier.js").read_text("utf-8")
    return template("report.html").render(
        title=f"Routing and cascading over {counted(len(study.models), 'model')}",
        findings=[*filter(None, [simulation_note(study)]), *findings(study)],
        # The pictures are built by an XML writer, which has escaped every name in them.
        pictures=[{"svg": Markup(p.svg), "narrow": p.narrow, "log": p.log} for p in drawn],
        first_is_log=drawn[0].log,
        points=Markup(script_json(points_data(study, drawn))),
        script=Markup(script),
        # The hash of the only script that may run.
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        palette=palette(strategy_styles([f.strategy for f in frontiers]).values()),
        confidence=f"{100 * study.confidence:.4g}%" if study.resamples else "",
        aucs=aucs_listing(study),
        interval_note=interval_note(study),
        scores=scores_listing(study),
        meanings=score_meanings(study),
        missing=missing_scores(study),
        tuning=tuning,
        reach=reach_notes(study),
        runs=[_runs(study, f, i, Markup) for i, f in enumerate(frontiers)],
        singles=singles_listing(study),
        command=plain(command),
        record={
            "fit queries": f"{study.n_fit:,}",
            "evaluation queries": f"{study.n_evaluate:,}",
            **{plain(name): plain(value) for name, value in study.settings.items()},
            **{f"{name} version": version for name, version in versions().items()},
            "date": now(),
        },
    )


def palette(styles: Iterable[Style]) -> dict[str, dict[str, str]]:
    """Return the page's CSS variables for each theme: the colours of INK and of these styles."""
    pairs = {name: pair for name, pair in INK.items()}
    pairs |= {css_variable(style.light)[2:]: (style.light, style.dark) for style in styles}
    return {
        theme: {name: pair[i] for name, pair in pairs.items()}
        for i, theme in enumerate(("light", "dark"))
    }


def versions() -> dict[str, str]:
    """Return the versions of what made the page."""
    return {"cascjax": __version__, "jax": metadata.version("jax")}


def now() -> str:
    """Return the date and time for a page."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _runs(study: Study, f: Frontier, number: int, markup: Any) -> dict[str, Any]:
    """Return a table over about five budgets, evenly spread in rank, and pictures over them all."""
    import pandas as pd

    order = np.argsort(f.budget, kind="stable")
    picked = order[
        np.unique(np.linspace(0, len(order) - 1, min(5, len(order))).round().astype(int))
    ]
    counts, deep = np.arange(1, f.depth.shape[1] + 1), _is_deep(f)
    rows = {"mean cost": cost_texts(f.cost[picked])}
    rows["mean quality"] = [quality_text(q) for q in f.quality[picked]]
    rows["models run per query"] = [f"{d:.2f}" for d in f.depth[picked] @ counts]
    cells, styles = list(rows.items()), [RowStyle()] * len(rows)

    def add(label: str, texts: list[str], color: str, rule: bool) -> None:
        cells.append((label, texts))
        styles.append(RowStyle(color=color, rule=rule))

    used_depths = np.flatnonzero((f.depth > 0).any(axis=0)) if deep else np.arange(0)
    ramp = depth_colors(int(used_depths.max(initial=0)) + 1)
    for d in used_depths.tolist():
        texts = [share_text(share) for share in f.depth[picked, d]]
        add(counted(d + 1, "model"), texts, ramp[d], d == int(used_depths[0]))
    names, colors = short_names(study.models, 32), model_colors(len(study.models))
    used = (f.ran > 0).any(axis=0) | (f.answered > 0).any(axis=0)
    for k in np.flatnonzero(used).tolist():
        texts = [share_text(share) for share in f.ran[picked, k]]
        if deep:  # where every model that runs answers, one number will do
            answers = [share_text(share) for share in f.answered[picked, k]]
            both = zip(f.ran[picked, k], texts, answers, strict=True)
            texts = [f"{ran} | {answer}" if share > 0 else ran for share, ran, answer in both]
        add(names[k], texts, colors[k], k == int(np.argmax(used)))
    index = pd.Index([label for label, _ in cells], name=headed("budget", study.cost_unit))
    table = pd.DataFrame(
        [texts for _, texts in cells], index=index, columns=cost_texts(f.budget[picked])
    )
    return {
        "strategy": f.strategy,
        "description": kind_of(f.strategy).description,
        "pictures": {k: markup(v) for k, v in runs_svgs(study, f, f"runs-{number}").items()},
        "table": Listing(table, styles=styles),
        "deep": deep,
        "unused": [names[k] for k in np.flatnonzero(~used)],
    }


# ---- the points of the frontier picture, for its script


def points_data(study: Study, drawn: Sequence[Picture]) -> dict[str, Any]:
    """Return all that the script needs, in JSON's own types.

    Numbers are the texts to show, so that the page rounds in one way only.

    Args:
        study: what the pictures show.
        drawn: the pictures, in the order of the page.
    """
    picked = [_thinned(f) for f in study.frontiers]
    styles = strategy_styles([f.strategy for f in study.frontiers])
    series: list[dict[str, Any]] = []
    for f, at in zip(study.frontiers, picked, strict=True):
        listing, color = points_listing(study, f), css_variable(styles[f.strategy].light)
        drawn_as = {"name": plain(f.strategy), "color": f"var({color})"}
        shares = ["ran", "answered"] if _is_deep(f) else ["ran"]
        numbers = {"rows": listing.headings[1:], "points": _points(f, listing, at)}
        series.append(drawn_as | {"shares": shares} | numbers)
    series.append({"name": "hull of single models", "color": "var(--soft)", "points": []})
    singles = singles_listing(study)
    numbers = [[cells[1:], [], 0] for _, cells in singles.rows]
    titles = {"rows": singles.headings[1:], "titles": [cells[0] for _, cells in singles.rows]}
    series.append({"name": "single model", "color": "var(--ink)", "points": numbers} | titles)
    # Frontiers are thinned, single models are not.
    kept = [*picked, np.arange(0), np.arange(len(study.models))]
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
                "points": [
                    [[round(v, 1) if np.isfinite(v) else None for v in place] for place in places]
                    for places in (
                        points[at].tolist() for points, at in zip(p.points, kept, strict=True)
                    )
                ],
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
    at = np.linspace(0, len(order) - 1, min(len(order), POINTS_SHOWN)).round().astype(int)
    return order[at]


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
        columns[f"{100 * study.confidence:.4g}% interval"] = ends
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
    cheap, expensive = (kind_of(f.strategy).setting_text(side, names) for side in sides)
    if cheap == expensive or gamma <= 0:
        return cheap
    if gamma >= 1:
        return expensive
    return f"{cheap} ({share_text(1 - gamma)}), {expensive} ({share_text(gamma)})"
