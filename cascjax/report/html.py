"""The report: one HTML file that explains a study and opens anywhere, offline."""

import base64
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import numpy as np

from cascjax import __version__
from cascjax.comparison import Frontier, Study
from cascjax.data.files import atomic_write
from cascjax.metrics import upper_hull
from cascjax.report.facts import (
    DESCRIPTIONS,
    REFERENCES,
    difference_text,
    intervals_note,
    missing_scores,
    out_of_reach,
    score_meanings,
    score_text,
    scores,
    summary,
)
from cascjax.report.pictures import (
    INK,
    css_variable,
    depth_colors,
    frontier_pictures,
    model_colors,
    runs_svgs,
    strategy_styles,
)
from cascjax.report.points import points_data, script_json
from cascjax.report.tables import template
from cascjax.words import (
    cost_texts,
    counted,
    gain_text,
    interval_text,
    plain,
    quality_text,
    share_text,
    short_names,
)


@dataclass(frozen=True)
class _Runs:
    """What one strategy runs, ready for the page."""

    strategy: str
    description: str
    pictures: dict[str, Any]
    budgets: list[str]
    rows: list[tuple[str, list[str]]]
    models: list[tuple[str, str, list[str]]]
    unused: list[str]
    depths: list[tuple[str, str, list[str]]]


def write_report(study: Study, path: str | Path, command: str) -> None:
    """Writes the study as one self-contained HTML page, atomically.

    The page shows the finding in words, the frontiers, their AUCs, what each strategy runs at
    its budgets, the single models, and how it was made.

    Args:
        study: what to show.
        path: where to write.
        command: the command line that made the study, for the record.

    Raises:
        CascjaxError: the file cannot be written; what was there before is left as it was.
    """
    html = render(study, command)
    with atomic_write(path) as temporary:
        Path(temporary).write_text(html, encoding="utf-8")


def render(study: Study, command: str, tuning: Mapping[str, Any] | None = None) -> str:
    """The report as a string of HTML.

    Args:
        study: what to show.
        command: the command line that made the study, for the record.
        tuning: what a cross-validation found, if there was one: its `candidates`, a row of texts
            each, and its `verdict`.
    """
    from markupsafe import Markup

    ranked = scores(study)
    styles = strategy_styles(study)
    references = [s.frontier for s in ranked if s.frontier.strategy in REFERENCES]
    choices = [s.frontier for s in ranked if s.frontier.strategy not in REFERENCES]
    gains = [s.gain for s in ranked if np.isfinite(s.gain)]
    widest = max(gains, default=0.0)
    drawn = frontier_pictures(study)
    script = resources.files("cascjax.report").joinpath("frontier.js").read_text("utf-8")
    return template("report.html").render(
        title=f"Routing and cascading over {counted(len(study.models), 'model')}",
        summary=summary(study),
        # The pictures are built by an XML writer, which has escaped every name in them.
        pictures=[{"svg": Markup(p.svg), "narrow": p.narrow, "log": p.log} for p in drawn],
        first_is_log=drawn[0].log,
        points=Markup(script_json(points_data(study, drawn))),
        script=Markup(script),
        # The one script that may run, by what it says.
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        palette=palette(strategy_styles(study).values()),
        scores=[
            {
                "strategy": s.frontier.strategy,
                "description": DESCRIPTIONS.get(s.frontier.strategy, ""),
                "color": f"var({css_variable(styles[s.frontier.strategy][0])})",
                "auc": quality_text(s.frontier.auc),
                "interval": interval_text(s.frontier.auc_interval),
                "difference": difference_text(s),
                "gain": gain_text(s.gain),
                "bar": _bar(s.gain, widest),
                "seconds": f"{s.frontier.seconds:.2f}",
                "reference": s.frontier.strategy in REFERENCES,
            }
            for s in ranked
        ],
        confidence=f"{100 * study.confidence:.4g}%" if study.resamples else None,
        intervals=intervals_note(study),
        asked=_asked_scores(study),
        tuning=tuning,
        runs=[_runs(study, f, i, Markup) for i, f in enumerate(choices + references)],
        best=(choices + references)[0].strategy if ranked else None,
        singles=_singles(study),
        unreached=out_of_reach(study),
        unit=plain(study.cost_unit),
        n_fit=f"{study.n_fit:,}",
        n_evaluate=f"{study.n_evaluate:,}",
        settings={plain(k): plain(v) for k, v in study.settings.items()},
        command=plain(command),
        versions=versions(),
        date=now(),
    )


def palette(styles: Iterable[tuple[str, str, Any, str]]) -> dict[str, dict[str, str]]:
    """The page's CSS variables for each theme: those that pictures of these styles refer to."""
    listed, themes = list(styles), {}
    for theme, column in (("light", 0), ("dark", 1)):
        themes[theme] = {name: pair[column] for name, pair in INK.items()}
        themes[theme] |= {css_variable(style[0])[2:]: style[column] for style in listed}
    return themes


def versions() -> dict[str, str]:
    """What made the page."""
    return {"cascjax": __version__, "jax": metadata.version("jax")}


def now() -> str:
    """The date and time a page bears."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _bar(gain: float, widest: float) -> float:
    """Width in percent of a gain's bar; the oracle's may run off the scale and is cut."""
    return round(100 * min(max(gain / widest, 0.0), 1.0), 1) if widest > 0 < gain else 0.0


def _asked_scores(study: Study) -> dict[str, Any] | None:
    """The scores asked for: a row a strategy in falling order of AUC, and what each one says."""
    ranked = [s.frontier for s in scores(study)]
    names = list(ranked[0].scores) if ranked else []
    if not names:
        return None
    rows = [
        (f.strategy, f.strategy in REFERENCES, [score_text(f.scores[n]) for n in names])
        for f in ranked
    ]
    return {
        "names": names,
        "rows": rows,
        "meanings": score_meanings(ranked),
        "missing": missing_scores(ranked),
    }


def _singles(study: Study) -> list[dict[str, Any]]:
    hull = upper_hull(study.single_cost, study.single_quality)
    costs = cost_texts(study.single_cost)
    return [
        {
            "name": plain(name),
            "quality": quality_text(study.single_quality[i]),
            "cost": costs[i],
            "on_hull": i in hull,
        }
        for i, name in enumerate(study.models)
    ]


def _runs(study: Study, f: Frontier, number: int, markup: Any) -> _Runs:
    """A table over about five budgets, evenly spread in rank, and the pictures over them all."""
    order = np.argsort(f.budget, kind="stable")
    shown = order[np.unique(np.linspace(0, len(order) - 1, min(5, len(order))).round().astype(int))]
    counts = np.arange(1, f.depth.shape[1] + 1)
    rows = [
        ("mean cost", cost_texts(f.cost[shown])),
        ("mean quality", [quality_text(q) for q in f.quality[shown]]),
        ("models run per query", [f"{d:.2f}" for d in f.depth[shown] @ counts]),
    ]
    names, colors = short_names(study.models, 32), model_colors(len(study.models))
    deep = np.flatnonzero((f.depth > 0).any(axis=0))
    used = (f.ran > 0).any(axis=0) | (f.answered > 0).any(axis=0)
    models = [
        (
            names[k],
            colors[k],
            [
                _ran_and_answered(f.ran[p, k], f.answered[p, k], bool(deep.max(initial=0)))
                for p in shown
            ],
        )
        for k in np.flatnonzero(used)
    ]
    ramp = depth_colors(int(deep.max(initial=0)) + 1)
    return _Runs(
        strategy=f.strategy,
        description=DESCRIPTIONS.get(f.strategy, ""),
        pictures={k: markup(v) for k, v in runs_svgs(study, f, f"runs-{number}").items()},
        budgets=cost_texts(f.budget[shown]),
        rows=rows,
        models=models,
        unused=[names[k] for k in np.flatnonzero(~used)],
        # Depth tells something only of strategies that may run more than one model.
        depths=[
            (
                f"{d + 1} model{'s' if d else ''}",
                ramp[d],
                [share_text(f.depth[p, d]) for p in shown],
            )
            for d in deep
            if deep.max() > 0
        ],
    )


def _ran_and_answered(ran: float, answered: float, both: bool) -> str:
    """A cell of the models' table; where every model that runs answers, one number will do."""
    return f"{share_text(ran)} | {share_text(answered)}" if both and ran > 0 else share_text(ran)
