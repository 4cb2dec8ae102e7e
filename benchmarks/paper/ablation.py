"""The ablation: cascade routing without one part or another, its AUC and its time per decision."""

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

import cascjax as cj
from benchmarks.paper.areas import difference, interval_cell
from benchmarks.paper.base import (
    Cell,
    Experiment,
    Findings,
    Frame,
    Job,
    Row,
    signed,
    times,
    with_published,
)
from benchmarks.paper.protocol import MAX_DEPTH, choose, noisy_estimates
from benchmarks.paper.published import ABLATION, CAVEAT, LEVELS
from benchmarks.paper.timing import batch_seconds, decision_seconds
from cascjax import core
from cascjax.data.table import split_rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

N_MODELS = 11
OURS = "cascade-routing"
SQUARED = "variance for sigma"
"""Takes each variance for a standard deviation, as the published E[max] does."""


@dataclass(frozen=True)
class Slow(cj.CascadeRouting):
    """Cascade routing by its plain rule: every superset is valued again at every step."""

    def sweep(self, parameters: Any, estimator: Any) -> None:
        """Return None, so that every setting is rolled out step by step."""
        del parameters, estimator


VARIANTS: dict[str, cj.Strategy] = {
    OURS: cj.CascadeRouting(max_depth=MAX_DEPTH),
    "greedy": cj.CascadeRouting(max_depth=MAX_DEPTH, search="greedy"),
    "no-uncertainty": cj.CascadeRouting(max_depth=MAX_DEPTH, uncertainty=False),
    "max depth 1": cj.CascadeRouting(max_depth=1),
    "max depth 2": cj.CascadeRouting(max_depth=2),
    "max depth 3": cj.CascadeRouting(max_depth=3),
    "pandora": cj.Pandora(),
    SQUARED: cj.CascadeRouting(max_depth=MAX_DEPTH),
    "slow": Slow(max_depth=MAX_DEPTH),
}


def cells(job: Job) -> Iterator[Cell]:
    """Yield one cell per noise level and variant; `slow` is timed and held to the fast rule."""
    table = choose(job.data, N_MODELS)
    for level, name in itertools.product(LEVELS, VARIANTS):
        yield (
            f"{level}-{name.replace(' ', '-')}",
            functools.partial(variant_rows, table, level, name, job),
        )


def variant_rows(table: cj.Table, level: str, name: str, job: Job) -> list[Row]:
    """Return AUC and times of one variant."""
    estimates = noisy_estimates(table, level, job.seed)
    if name == SQUARED:
        estimates = replace(estimates, sigma=np.square(estimates.sigma), panels=None)
    strategy, slow = VARIANTS[name], name == "slow"
    study = cj.compare(
        table, VARIANTS[OURS] if slow else strategy, estimates, seed=job.seed,
        budgets=4 if slow else None, resamples=0 if slow else job.settings["resamples"],
        grid="paper",
    )  # fmt: skip
    frontier = study.frontiers[0]
    settings = np.unique(frontier.parameters)
    middle = float(settings[len(settings) // 2])
    _, rows = split_rows(table)
    batch = estimates.take(rows[: 128 if slow else 1024]).sized()
    live = decision_seconds(strategy, estimates, middle, rows[:50])
    row = {
        "noise": level,
        "variant": name,
        "auc": np.nan if slow else frontier.auc,
        "auc_samples": [] if frontier.auc_samples is None else frontier.auc_samples.tolist(),
        "live": float(live.mean()),
        "live_median": float(np.median(live)),
        "batch": batch_seconds(strategy, settings[:1] if slow else np.resize(settings, 64), batch),
        "alike": np.nan,
    }
    if slow:
        plain, fast = (core.sweep(s, [middle], batch) for s in (strategy, VARIANTS[OURS]))
        same = (plain.run == fast.run).all(-1) & (plain.answer == fast.answer)
        row["alike"] = float(same.mean())
    return [row]


def findings(job: Job, rows: Frame) -> Findings:
    """Return AUCs, times, and differences to cascade routing with intervals."""
    keyed = rows.set_index(["variant", "noise"])
    found = {
        (name, level): difference(keyed.loc[name, level], keyed.loc[OURS, level])
        for name in VARIANTS
        if name not in (OURS, "slow")
        for level in LEVELS
    }
    texts = pd.DataFrame(index=pd.Index(VARIANTS, name="variant"))
    gains = pd.DataFrame(index=pd.Index(dict.fromkeys(n for n, _ in found), name="variant"))
    for level in LEVELS:
        aucs = keyed["auc"].xs(level, level="noise")
        best = aucs.max()
        published = {name: ABLATION.get((name, level)) for name in VARIANTS}
        texts[f"{level} AUC"] = [
            with_published(
                f"{100 * aucs[OURS if name == 'slow' else name]:.2f}",
                f"{theirs[0]:.2f}" if theirs else "",
                bold=aucs[name] == best,
            )
            for name, theirs in published.items()
        ]
        texts[f"{level} ms, one"] = [
            with_published(
                f"{1000 * keyed.loc[(name, level), 'live']:.3g}", f"{theirs[1]:g}" if theirs else ""
            )
            for name, theirs in published.items()
        ]
        texts[f"{level} ms, batch"] = [
            f"{1000 * keyed.loc[(name, level), 'batch']:.2g}" for name in VARIANTS
        ]
        gains[level] = [
            interval_cell(
                found[name, level],
                signed(theirs[0] - ABLATION[OURS, level][0]) if (theirs := published[name]) else "",
            )
            for name in gains.index
        ]
    alike = 100 * keyed.loc["slow", "alike"].min()
    notes = [
        "One: a policy decides one query after another, mean over decisions, as published. Batch:"
        " many queries and settings together, time per query and setting.",
        f"slow makes the same choices as {OURS} on at least {alike:.1f}% of the queries tried; its"
        f" AUC is that of {OURS}.",
        order_note(rows),
        CAVEAT,
    ]
    tables = {
        f"AUC in percent and milliseconds per decision, {N_MODELS} models": texts,
        f"AUC above that of {OURS}, in points, with 95% intervals": gains,
        "Time": times(rows, ["variant"]),
    }
    return Findings(tables, notes, lambda figure: draw(figure, keyed, found), (11.0, 5.5))


def order_note(rows: Frame) -> str:
    """Return a sentence on how many pairs of variants are in the published order."""
    keyed = rows.set_index(["variant", "noise"])
    known = [name for name in VARIANTS if (name, LEVELS[0]) in ABLATION and name != "slow"]
    total = alike = sure = 0
    notes = []
    for level, (a, b) in itertools.product(LEVELS, itertools.permutations(known, 2)):
        if ABLATION[a, level][0] <= ABLATION[b, level][0]:
            continue
        gain, low, high = difference(keyed.loc[a, level], keyed.loc[b, level])
        total, alike, sure = total + 1, alike + (gain > 0), sure + (low > 0)
        if gain <= 0:
            within = "" if high < 0 else ", within its interval"
            notes.append(f"{level}: {b} above {a} by {-100 * gain:.2f}{within}")
    text = f"Published order: {alike} of {total} pairs, {sure} of them beyond the interval."
    return text + (f" Otherwise, in points of AUC: {'; '.join(notes)}." if notes else "")


def draw(figure: "Figure", keyed: Frame, found: dict) -> None:
    """Draw the difference in AUC against the time of a decision; crosses are published."""
    panels = figure.subplots(1, len(LEVELS), sharex=True, sharey=True, squeeze=False)[0]
    for level, axes in zip(LEVELS, panels, strict=True):
        axes.axhline(0, color="gray", linewidth=1)
        for i, name in enumerate(VARIANTS):
            gain, low, high = (100 * x for x in found.get((name, level), (0.0, 0.0, 0.0)))
            at, color = 1000 * keyed.loc[(name, level), "live_median"], f"C{i}"
            axes.vlines(at, low, high, color=color)
            axes.plot(at, gain, "o", color=color, label=name)
            if (name, level) in ABLATION:
                auc, ms = ABLATION[name, level]
                axes.plot(ms, auc - ABLATION[OURS, level][0], "x", color=color, markersize=8)
        axes.set_xscale("log")
        axes.set_title(f"{level} noise", fontsize=11)
    figure.supxlabel("ms per decision, one query at a time")
    figure.supylabel(f"points of AUC above {OURS}")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)


ABLATION_EXPERIMENT = Experiment(
    "cascade routing without one part or another, AUC and time",
    cells,
    findings,
    {"resamples": 1000},
)
