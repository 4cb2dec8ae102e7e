"""How a study prints, its data frame, its plot, its page and its files; see `cascjax.results`."""

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cascjax.comparison import Frontier, Study
from cascjax.data.files import atomic_write
from cascjax.plots import kind_of, ramp, spread
from cascjax.plots import plot_frontier as plot
from cascjax.report import page
from cascjax.report.charts import frontier_chart, is_deep, usage_chart
from cascjax.report.findings import (
    aucs_listing,
    best_single,
    findings,
    frame,
    interval_note,
    missing_scores,
    ranked,
    reach_notes,
    score_meanings,
    scores_listing,
    singles_listing,
    summary,
    to_json,
)
from cascjax.report.page import Part, Section, Tile
from cascjax.report.tables import Listing, RowStyle, simulation_note
from cascjax.words import (
    cost_texts,
    counted,
    gain_text,
    headed,
    percent_text,
    quality_text,
    share_text,
    short_names,
)

__all__ = ["frame", "plot", "render", "save", "summary"]


def render(
    study: Study,
    command: str = "",
    tiles: Sequence[Tile] = (),
    sections: Sequence[Section] = (),
) -> str:
    """Return the report: key numbers, frontiers, AUCs, what each strategy runs, single models.

    `command` is the command line that made the study; `tiles` and `sections` come before its own.
    """
    rows: Any = ranked(study)
    # References come last, both parts in falling order of AUC.
    ordered = rows.sort_values("reference", kind="stable")
    best = None if rows["reference"].all() else ordered["frontier"].iloc[0]
    lead, *others = findings(study)
    caption = (
        "A curve shows the mean cost and quality that a strategy reaches on the evaluation queries"
        " as its budget grows; higher and further left is better. The dashed line is the hull of"
        " the single models: what mixing them at random reaches, without looking at the query. The"
        " lower panel shows the quality above the hull at the same cost. Click a name to highlight"
        " it, with shift for several; point at a marker for its numbers."
    )
    if study.resamples:
        caption += (
            f" Bands are {percent_text(study.confidence)} intervals, of the best strategy and of"
            " mixing until another is highlighted or pointed at."
        )
    chart = frontier_chart(study, best.strategy if best else "")
    parts: list[Part] = [
        ("chart", replace(chart, caption=(*chart.caption, caption))),
        ("csv", page.csv(frame(study))),
    ]
    listing = aucs_listing(study)
    aucs = replace(
        listing,
        frame=listing.frame.drop(columns="seconds"),
        title="AUC: mean quality over all costs between the cheapest and the most expensive single"
        " model.",
    )
    return page.render(
        f"Routing and cascading over {counted(len(study.models), 'model')}",
        warning=simulation_note(study.settings),
        tiles=[*tiles, *_tiles(study, best)],
        lead=lead,
        sections=[
            ("Quality for cost", parts),
            *sections,
            (
                "Findings",
                [("items", others), ("table", aucs), *_notes([interval_note(study)])]
                if study.frontiers
                else [],
            ),
            ("Scores", _scores(study)),
            ("Budgets out of reach", _reach(study)),
            (
                "What each strategy runs",
                [("more", [_usage(study, f) for f in ordered["frontier"]])],
            ),
            ("Single models", [("table", _singles(study))]),
        ],
        file="frontier",
        command=command,
        record=page.record(study),
    )


def _notes(texts: Sequence[str]) -> list[Part]:
    return [("note", text) for text in texts if text]


def _tiles(study: Study, best: Frontier | None) -> list[Tile]:
    """Return the best strategy, its gain, and its saving at the best single model's quality."""
    if best is None:
        return []
    auc = f"AUC {quality_text(best.auc, 3)}"
    if best.auc_interval is not None:
        auc += f" ({'–'.join(quality_text(end, 3) for end in best.auc_interval)})"
    tiles = [("best strategy", best.strategy, auc)]
    gain = float(ranked(study).loc[best.strategy, "gain"])  # type: ignore[arg-type]
    if np.isfinite(gain):
        tiles.append(("gain of AUC", gain_text(gain, 3), "over mixing single models at random"))
    name, target, price, reached = best_single(study, best)
    note = f"at the quality of {name}, {quality_text(target, 3)}"
    if reached is not None and price > 0:
        tiles.append(("saves", f"{1 - reached / price:.0%}", f"of the cost, {note}"))
    elif reached is None:
        tiles.append(("saves", "–", f"it does not reach the quality of {name}"))
    return tiles


def _scores(study: Study) -> list[Part]:
    listing = scores_listing(study)
    if listing is None:
        return []
    titled = replace(listing, title="Scores of each strategy; n/a where a score does not exist.")
    return [("table", titled), ("terms", score_meanings(study)), *_notes(missing_scores(study))]


def _reach(study: Study) -> list[Part]:
    notes = reach_notes(study)
    text = (
        "On the fit queries, no parameters of these strategies spend exactly these budgets. The"
        " nearest reachable cost is used instead."
    )
    return [("text", text), ("items", notes)] if notes else []


def _singles(study: Study) -> Listing:
    title = (
        "Each model alone on the evaluation queries, cheapest first. Random mixing uses the models"
        " on the hull."
    )
    return replace(singles_listing(study), title=title)


def _usage(study: Study, f: Frontier) -> tuple[str, str, list[Part]]:
    """Return what a strategy runs: name, description, stacks over all budgets, table of five."""
    import pandas as pd

    order = np.argsort(f.budget, kind="stable")
    picked, deep = order[spread(len(order), 5)], is_deep(f)
    counts = np.arange(1, f.depth.shape[1] + 1)
    rows: list[tuple[str, Sequence[str], RowStyle]] = [
        ("mean cost", cost_texts(f.cost[picked]), RowStyle()),
        ("mean quality", [quality_text(q) for q in f.quality[picked]], RowStyle()),
        ("models run per query", [f"{d:.2f}" for d in f.depth[picked] @ counts], RowStyle()),
    ]
    names, colors = short_names(study.models, 32), ramp(len(study.models))
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
    title = "For each model, the share of queries on which it ran"
    title += " and, after the bar, for which its answer was returned." if deep else "."
    unused = [name for k, name in enumerate(names) if k not in used]
    parts: list[Part] = [
        ("chart", usage_chart(study, f)), ("table", Listing(table, title=title, styles=styles)),
        *_notes([f"Never run: {', '.join(unused)}."] if unused else []),
    ]  # fmt: skip
    return f.strategy, kind_of(f.strategy).description, parts


def save(
    study: Study,
    folder: Path,
    command: str = "",
    more: Mapping[str, object] | None = None,
    texts: Mapping[str, str] | None = None,
    tiles: Sequence[Tile] = (),
    sections: Sequence[Section] = (),
) -> Path:
    """Write frontier.parquet, summary.json and report.html; an error or interrupt leaves none.

    The folder must exist. `command` is the command line that made it, `more` are further entries
    of summary.json, `texts` further files by name, and `tiles` and `sections` are passed to the
    page; returns the path of the report.
    """
    rows = pa.Table.from_pandas(frame(study), preserve_index=False).replace_schema_metadata()
    rows = rows.set_column(0, "strategy", rows["strategy"].cast(pa.string()))
    numbers = json.dumps(to_json(study) | dict(more or {}), indent=2, allow_nan=False)
    contents = {
        "summary.json": f"{numbers}\n",
        "report.html": render(study, command, tiles, sections),
        **(texts or {}),
    }
    # All are finished before the first of them is moved into place.
    with ExitStack() as files:
        pq.write_table(rows, files.enter_context(atomic_write(folder / "frontier.parquet")))
        for name, content in contents.items():
            file = files.enter_context(atomic_write(folder / name))
            file.write_text(content, encoding="utf-8")
    return folder / "report.html"
