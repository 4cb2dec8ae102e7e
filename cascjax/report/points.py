"""What the page says of each point of the frontier picture, ready for its script."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from cascjax.comparison import Frontier, Study
from cascjax.data.table import upper_hull
from cascjax.report.facts import chain_text, expected_improvement
from cascjax.report.pictures import Picture, css_variable, model_colors, strategy_styles
from cascjax.words import (
    cost_texts,
    gain_text,
    interval_text,
    plain,
    quality_text,
    share_text,
    short_names,
)

POINTS_SHOWN = 200
"""Points a strategy that can be asked for their numbers; of more, these many evenly spread."""

MODELS_SHOWN = 8
"""Models listed at a point, those that run most; the rest are counted."""


def points_data(study: Study, drawn: Sequence[Picture]) -> dict[str, Any]:
    """All the script needs, in JSON's own types.

    Numbers come as the text to show, so that the page rounds in one way only.

    Args:
        study: what the pictures show.
        drawn: the pictures, in the order they stand on the page.
    """
    shown = [_shown(f) for f in study.frontiers]
    styles = strategy_styles(study)
    series = [
        {
            "name": plain(f.strategy),
            "color": f"var({css_variable(styles[f.strategy][0])})",
            "rows": _rows(study, f),
            "shares": ["ran", "answered"] if _deep(f) else ["ran"],
            "points": _points(study, f, at),
        }
        for f, at in zip(study.frontiers, shown, strict=True)
    ]
    series.append({"name": "hull of single models", "color": "var(--soft)", "points": []})
    series.append(_singles(study))
    # Frontiers are thinned, single models are not.
    kept = [*shown, np.arange(0), np.arange(len(study.models))]
    return {
        "models": [
            [name, color]
            for name, color in zip(
                short_names(study.models), model_colors(len(study.models)), strict=True
            )
        ],
        "series": series,
        "pictures": [
            {
                "narrow": p.narrow,
                "log": p.log,
                "legend": round(p.legend, 1),
                "panels": [round(y, 1) for y in p.panels],
                "points": [
                    [_places(place) for place in points[at]]
                    for points, at in zip(p.points, kept, strict=True)
                ],
            }
            for p in drawn
        ],
    }


def script_json(data: object) -> str:
    """JSON that can stand in a script element: nothing in it opens or closes a tag."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _shown(f: Frontier) -> Int[np.ndarray, " Q"]:
    """The points to tell of, in rising cost."""
    order = np.lexsort((f.quality, f.cost))
    order = order[np.isfinite(f.cost[order]) & np.isfinite(f.quality[order])]
    at = np.linspace(0, len(order) - 1, min(len(order), POINTS_SHOWN)).round().astype(int)
    return order[at]


def _places(place: Float[np.ndarray, " 3"]) -> list[float | None]:
    return [round(float(v), 1) if np.isfinite(v) else None for v in place]


def _deep(f: Frontier) -> bool:
    """Whether more than one model may run on a query."""
    return bool(np.any(f.depth[:, 1:] > 0))


def _rows(study: Study, f: Frontier) -> list[str]:
    unit = plain(study.cost_unit).removesuffix("/query")
    of = f" ({unit})" if unit else ""
    names = {
        "thresholding": "threshold τ",
        "frugal": "models, threshold τ",
        "mixing": "models mixed",
    }
    sure = [f"its {100 * study.confidence:.4g}% interval"] if f.quality_interval is not None else []
    return [
        f"budget{of}",
        f"cost{of}",
        "quality",
        *sure,
        "gain over mixing",
        names.get(f.strategy, "price λ"),
        "models a query",
    ]


def _points(study: Study, f: Frontier, at: Int[np.ndarray, " Q"]) -> list[list[Any]]:
    """For each point its numbers, then the models run: number, shares as text, share in percent."""
    budgets, costs = cost_texts(f.budget), cost_texts(f.cost)
    gains = expected_improvement(study, f.cost, f.quality)
    depth = f.depth @ np.arange(1, f.depth.shape[1] + 1)
    ends, deep, names = f.quality_interval, _deep(f), short_names(study.models)
    found: list[list[Any]] = []
    for p in at.tolist():
        sure = [] if ends is None else [interval_text((float(ends[p, 0]), float(ends[p, 1])))]
        numbers = [
            budgets[p],
            costs[p],
            quality_text(float(f.quality[p])),
            *sure,
            gain_text(float(gains[p])),
            _parameters(f, p, names),
            f"{depth[p]:.2f}",
        ]
        used = np.flatnonzero(f.ran[p] > 0)
        # Those that run most, in rising cost.
        most = np.sort(used[np.argsort(-f.ran[p, used], kind="stable")[:MODELS_SHOWN]])
        models = [
            [
                k,
                round(100 * float(f.ran[p, k]), 1),
                share_text(float(f.ran[p, k])),
                *([share_text(float(f.answered[p, k]))] if deep else []),
            ]
            for k in most.tolist()
        ]
        found.append([numbers, models, len(used) - len(most)])
    return found


def _parameters(f: Frontier, p: int, names: Sequence[str]) -> str:
    """The parameters that meet a budget: one, or two and the shares of queries that take them."""
    gamma, sides = float(f.gamma[p]), f.parameters.reshape(len(f.budget), 2, -1)[p]
    cheap, expensive = (_parameter(f, side, names) for side in sides)
    if cheap == expensive or gamma <= 0:
        return cheap
    if gamma >= 1:
        return expensive
    return f"{cheap} ({share_text(1 - gamma)}), {expensive} ({share_text(gamma)})"


def _parameter(f: Frontier, value: Float[np.ndarray, " D"], names: Sequence[str]) -> str:
    if f.strategy == "mixing":
        return names[int(np.clip(np.rint(value[0]), 0, len(names) - 1))]
    if f.strategy == "frugal":
        return chain_text(value, names)
    return ", ".join(f"{float(v):.4g}" for v in value)


def _singles(study: Study) -> dict[str, Any]:
    unit = plain(study.cost_unit).removesuffix("/query")
    hull = upper_hull(study.single_cost, study.single_quality)
    costs = cost_texts(study.single_cost)
    return {
        "name": "single model",
        "color": "var(--ink)",
        "rows": [f"cost ({unit})" if unit else "cost", "quality", "on the hull"],
        "titles": [plain(name) for name in study.models],
        "points": [
            [[costs[k], quality_text(study.single_quality[k]), "yes" if k in hull else "no"], [], 0]
            for k in range(len(study.models))
        ],
    }
