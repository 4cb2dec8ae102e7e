"""What a study found: its tables, its sentences, and its numbers for summary.json."""

import itertools
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table as Grid
from rich.text import Text

from cascjax.comparison import Frontier, Study
from cascjax.diagnosis import Diagnosis
from cascjax.errors import CascjaxError
from cascjax.metrics import SCORES, auc, upper_hull
from cascjax.plots import curve, kind_of, strategy_styles
from cascjax.report.tables import Listing, RowStyle, each, simulated, simulation_note, swatch
from cascjax.words import (
    cost_texts,
    counted,
    gain_text,
    headed,
    interval_text,
    listed,
    percent_text,
    price_text,
    quality_text,
    short_names,
)

# pandas takes long to import, and is wanted only where a table is made.
if TYPE_CHECKING:
    from pandas import DataFrame

NOTES_SHOWN = 3
"""Largest number of notes on budgets out of reach in the terminal; the page has all."""


def ranked(study: Study) -> "DataFrame":
    """Return one row per strategy in falling order of AUC.

    Columns: frontier; auc; gain, the AUC above mixing single models at random, NaN where there is
    nothing to mix; difference, the AUC above the best strategy to choose from, NaN for that one and
    where nothing was resampled; noise, whether the interval of the difference contains 0;
    reference, whether it is drawn for comparison rather than chosen; seconds.
    """
    import pandas as pd

    rows = pd.DataFrame({"frontier": list(study.frontiers)})
    rows.index = pd.Index([f.strategy for f in study.frontiers], name="strategy")
    aucs = rows["auc"] = np.array([f.auc for f in study.frontiers])
    rows["gain"] = aucs - _mixing_auc(study)
    rows["difference"], rows["noise"] = np.nan, False
    rows["reference"] = [kind_of(f.strategy).reference for f in study.frontiers]
    rows["seconds"] = [f.seconds for f in study.frontiers]
    order = np.argsort(-np.nan_to_num(aucs, nan=-np.inf), kind="stable")
    if study.difference is not None and study.difference_interval is not None:
        best = next((i for i in order if not rows["reference"].iloc[i]), order[0])
        low, high = study.difference_interval[:, best].T
        others = np.arange(len(aucs)) != best
        rows["difference"] = np.where(others, study.difference[:, best], np.nan)
        rows["noise"] = others & (low <= 0) & (high >= 0)
    return rows.iloc[order]


def _mixing_auc(study: Study) -> float:
    """Return the AUC of mixing single models: of its frontier if there is one, else of the hull."""
    for f in study.frontiers:
        if kind_of(f.strategy).reference and not kind_of(f.strategy).sees_truth:
            return f.auc
    cost, quality = study.single_cost, study.single_quality
    hull = upper_hull(cost, quality)
    try:
        return auc(cost[hull], quality[hull], cost, quality)
    except CascjaxError:  # one model, or all of one cost: nothing to mix between
        return np.nan


# ---- tables


def aucs_listing(study: Study) -> Listing:
    """Return the table of AUCs: a row for each strategy, the highest AUC first."""
    scores: Any = ranked(study)
    looks = strategy_styles([f.strategy for f in study.frontiers])
    names = {"auc": "AUC", "gain": "over mixing", "seconds": "seconds"}
    scored = scores[[*names]].rename(columns=names)
    if study.resamples:
        ends = [interval_text(f.auc_interval, "–") for f in scores["frontier"]]
        scored.insert(1, f"{percent_text(study.confidence)} interval", ends)
        pairs = zip(scores["difference"], scores["noise"], strict=True)
        apart = [gain_text(value) + " (noise)" * noise for value, noise in pairs]
        scored.insert(2, "to the best", apart)
    formats = {"AUC": each(quality_text), "over mixing": each(gain_text)}
    formats["seconds"] = each("{:.2f}".format)
    # Bars of strategies below mixing are empty.
    bars = (100 * scores["gain"] / scores["gain"].max()).where(scores["gain"] > 0, 0.0).round(1)
    styles = []
    for (name, bar), muted in zip(bars.items(), scores["reference"].tolist(), strict=True):
        note = kind_of(str(name)).description
        styles.append(RowStyle(muted, swatch(looks[str(name)]), note, bars={"over mixing": bar}))
    return Listing(scored, formats, styles=styles)


def scores_listing(study: Study) -> Listing | None:
    """Return the table of further scores, "n/a" where one does not exist; None without scores."""
    import pandas as pd

    rows = ranked(study)
    scored = pd.DataFrame([f.scores for f in rows["frontier"]], index=rows.index)
    form = each(lambda value: quality_text(value) if np.isfinite(value) else "n/a")
    styles = [RowStyle(muted) for muted in rows["reference"].tolist()]
    formats = dict.fromkeys(scored.columns, form)
    return Listing(scored, formats, styles=styles) if len(scored.columns) else None


def score_meanings(study: Study) -> dict[str, str]:
    """Return what each score asked for means, by its name."""
    better = {True: "higher is better", False: "lower is better"}
    names = study.frontiers[0].scores if study.frontiers else ()
    return {n: f"{SCORES[n].meaning}; {better[SCORES[n].higher]}" for n in names}


def missing_scores(study: Study) -> list[str]:
    """Return for each score that does not exist for a strategy, for which and why."""
    frontiers, notes = ranked(study)["frontier"].tolist(), []
    for name in score_meanings(study):
        missing = [f.strategy for f in frontiers if np.isnan(f.scores[name])]
        if missing:
            notes.append(f"no {name} for {', '.join(missing)}: {SCORES[name].undefined}.")
    return notes


def singles_listing(result: Study | Diagnosis) -> Listing:
    """Return the table of single models, in the order of the result."""
    import pandas as pd

    cost = headed("mean cost", result.cost_unit)
    hull = upper_hull(result.single_cost, result.single_quality)
    columns = {
        "mean quality": result.single_quality,
        cost: result.single_cost,
        "on the hull": ["yes" if i in hull else "no" for i in range(len(result.models))],
    }
    frame = pd.DataFrame(columns, index=pd.Index(result.models, name="model"))
    return Listing(frame, {"mean quality": each(quality_text), cost: cost_texts})


def summary(study: Study) -> Listing:
    """Return the table that a study prints as."""
    title = (
        f"Study of {counted(len(study.models), 'model')}, fitted on {study.n_fit:,} and evaluated"
        f" on {counted(study.n_evaluate, 'query', 'queries')}"
    )
    listing = aucs_listing(study)
    styles = [replace(style, note="") for style in listing.styles]
    title = ", ".join(filter(None, [title, simulated(study.settings)]))
    return replace(listing, title=title, styles=styles)


def frame(study: Study) -> "DataFrame":
    """Return one row per strategy and budget; ends of intervals are NaN without resamples.

    The column `parameters` has the numbers of the cheap neighbour, then of the expensive one.
    """
    import pandas as pd

    blocks = []
    for f in study.frontiers:
        names = ("budget", "cost", "quality", "fit_cost", "fit_quality", "gamma")
        block = pd.DataFrame({name: getattr(f, name) for name in names})
        block["parameters"] = list(f.parameters.reshape(len(f.budget), -1).astype(float))
        for name in ("cost", "quality"):
            ends = getattr(f, f"{name}_interval")
            ends = (np.nan, np.nan) if ends is None else ends.T
            block[f"{name}_low"], block[f"{name}_high"] = ends
        block.insert(0, "strategy", f.strategy)
        blocks.append(block)
    return pd.concat(blocks, ignore_index=True)


# ---- sentences


def findings(study: Study) -> list[str]:
    """Return the findings in a few sentences."""
    scores: Any = ranked(study).dropna(subset="auc")
    choices = scores[~scores["reference"]]
    queries = counted(study.n_evaluate, "evaluation query", "evaluation queries")
    queries += f" and {counted(len(study.models), 'model')}"
    if choices.empty:
        return [f"Measured on {queries}, for reference strategies only."]
    best, others = choices.iloc[0], choices.iloc[1:]
    area = quality_text(best["auc"], 3)
    lead = f"{best.name} has an AUC of {area}"
    if len(others):
        lead = f"{best.name} has the highest AUC of {len(choices)} strategies: {area}"
    if np.isfinite(best["gain"]):
        mixing = quality_text(best["auc"] - best["gain"], 3)
        lead += f", against {mixing} for picking models at random at the same cost"
    sentences = [f"On {queries}, {lead}."]
    level = others["auc"].map(quality_text) == quality_text(best["auc"])
    if level.any():
        names = others.index[level].tolist()
        have = "has" if len(names) == 1 else "have"
        sentences.append(f"{listed(names)} {have} the same AUC to four digits.")
    if (others["noise"] & ~level).any():
        names = others.index[others["noise"] & ~level].tolist()
        sentences.append(f"The difference to {listed(names)} is within sampling noise.")
    sentences += _middle_budget(study, best["frontier"], *others["frontier"][:1])
    sentences += _best_single(study, best["frontier"])
    for name, area in scores["auc"].items():
        if kind_of(str(name)).sees_truth:
            area = quality_text(area, 3)
            sentences.append(
                f"With the quality of every answer known in advance, {name} has {area}."
            )
    return sentences


def _middle_budget(study: Study, best: Frontier, rival: Frontier | None = None) -> list[str]:
    """Return what `best` reaches at the middle budget, against the runner-up."""
    cost, quality = curve(best)
    if not len(cost):
        return []
    at = max(float(np.median(best.budget)), cost[0])
    reached = quality_text(float(np.interp(at, cost, quality)), 3)
    text = f"At the middle budget, {price_text(at, study.cost_unit)} per query, its quality is"
    text += f" {reached}"
    if rival is not None:
        other = float(np.interp(at, *curve(rival), left=np.nan))
        if np.isfinite(other):
            text += f", against {quality_text(other, 3)} for {rival.strategy}"
    return [f"{text}."]


def best_single(study: Study, best: Frontier) -> tuple[str, float, float, float | None]:
    """Return name, quality and cost of the best single model, and the cost of its quality.

    That is the cost at which `best` reaches the quality; None where it does not.
    """
    top = int(np.lexsort((study.single_cost, -study.single_quality))[0])
    name = short_names(study.models, 40)[top]
    target, price = float(study.single_quality[top]), float(study.single_cost[top])
    cost, quality = curve(best)
    enough = np.flatnonzero(quality >= target)
    if not len(enough):
        return name, target, price, None
    i = int(enough[0])
    reached = float(cost[i])
    if i and quality[i] > quality[i - 1]:
        reached = float(np.interp(target, quality[[i - 1, i]], cost[[i - 1, i]]))
    return name, target, price, reached


def _best_single(study: Study, best: Frontier) -> list[str]:
    """Return at what share of its cost `best` reaches the quality of the best single model."""
    name, target, price, reached = best_single(study, best)
    model = f"{name} ({quality_text(target, 3)})"
    if reached is None:
        short = quality_text(target - float(np.nanmax(curve(best)[1])), 3)
        return [f"Its quality stays {short} below the best single model, {model}."]
    if price <= 0:
        return []
    share = f"{reached / price:.0%}"
    return [f"It reaches the quality of the best single model, {model}, at {share} of its cost."]


def interval_note(study: Study) -> str:
    """Return what the intervals are; nothing where there are none."""
    if not study.resamples:
        return ""
    rows = f"the {counted(study.n_evaluate, 'evaluation query', 'evaluation queries')}"
    how = ", with fixed parameters"
    if study.settings.get("refit"):
        rows = f"the fit queries and of {rows}"
        how = "; parameters are fitted again in each, estimators are not"
    return (
        f"Intervals: {percent_text(study.confidence)} bootstrap intervals from"
        f" {study.resamples:,} resamples of {rows}{how}. (noise): the interval of the difference to"
        " the best contains 0."
    )


def reach_notes(study: Study) -> list[str]:
    """Return a sentence for each strategy and side on which budgets could not be met exactly."""
    notes: dict[str, list[str]] = {}
    sides = (
        (-1, "cannot spend less than {}", "raised"),
        (1, "cannot use more than {}", "lowered"),
    )
    for side, words, moved in sides:
        for f in study.frontiers:
            missed = int(np.sum(f.reach == side))
            if missed:
                end = price_text(f.reachable[int(side > 0)], study.cost_unit)
                was = "was" if missed == 1 else "were"
                text = f"{words.format(end)} per query; {missed} of"
                text += f" {counted(len(f.budget), 'budget')} {was} {moved} to that."
                notes.setdefault(text, []).append(f.strategy)
    return [f"{listed(names)} {text}" for text, names in notes.items()]


def fit_notes(study: Study) -> list[str]:
    """Return what is worth knowing about learned estimates and a search on a sample."""
    settings, notes = study.settings, [f"{note}." for note in study.settings.get("notes", ())]
    if "sample" in settings:
        unit = f" {study.cost_unit}" if study.cost_unit else ""
        cost, quality = settings["sample_cost_error"], settings["sample_quality_error"]
        notes.append(
            f"parameters were searched on {settings['sample']:,} of {study.n_fit:,} fit rows, on"
            f" which a model's mean cost has a standard error of at most {cost:.2g}{unit} and its"
            f" mean quality of {quality:.2g}; budgets are met on all fit rows."
        )
    return notes


def print_study(study: Study, console: Console) -> None:
    """Print AUCs, any further scores, the findings, and the budgets out of reach."""
    parts: list[RenderableType] = [Text(note)] if (note := simulation_note(study.settings)) else []
    parts += aucs_listing(study).grids(console.width)
    if note := interval_note(study):
        parts.append(Text(note))
    if (scores := scores_listing(study)) is not None:
        parts += scores.grids(console.width)
        legend = Grid.grid(padding=(0, 2))
        for name, meaning in score_meanings(study).items():
            legend.add_row(Text(name, style="bold"), Text(meaning))
        parts.append(Padding(legend, (0, 0, 1, 0)))
    parts.append(Text(" ".join(findings(study))))
    notes, reach = [*fit_notes(study), *missing_scores(study)], reach_notes(study)
    if len(reach) > NOTES_SHOWN:
        more = len(reach) - NOTES_SHOWN + 1
        reach[NOTES_SHOWN - 1 :] = [f"the report lists {more} more limits of this kind."]
    parts += [Text(f"note: {note}", style="yellow") for note in (*notes, *reach)]
    for part in parts:
        console.print(part)


def to_json(study: Study) -> dict[str, object]:
    """Return the numbers of summary.json."""
    strategies = {}
    for f in study.frontiers:
        strategies[f.strategy] = entry = {"auc": finite(f.auc), "seconds": round(f.seconds, 3)}
        if f.sigma_scale != 1:
            entry["sigma_scale"] = f.sigma_scale
        if f.auc_interval:
            entry["auc_interval"] = [finite(x) for x in f.auc_interval]
        if f.scores:
            entry["scores"] = {name: finite(x) for name, x in f.scores.items()}
    numbers: dict[str, object] = {
        "models": list(study.models),
        "n_fit": study.n_fit,
        "n_evaluate": study.n_evaluate,
        "strategies": strategies,
        "settings": study.settings,
    }
    if study.difference is None or study.difference_interval is None:
        return numbers
    differences = [
        {
            "strategies": [study.frontiers[i].strategy, study.frontiers[j].strategy],
            "auc": finite(float(study.difference[i, j])),
            "auc_interval": [finite(x) for x in study.difference_interval[i, j].tolist()],
        }
        for i, j in itertools.combinations(range(len(study.frontiers)), 2)
    ]
    sure = {"resamples": study.resamples, "confidence": study.confidence}
    return numbers | sure | {"differences": differences}


def finite(value: float) -> float | None:
    """Return the number, or None where JSON has none for it."""
    return value if math.isfinite(value) else None
