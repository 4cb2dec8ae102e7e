"""Table 4: how far cascade routing is above every other strategy, with bootstrap intervals."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cascjax.experiments.base import Experiment, Findings, Job
from cascjax.experiments.cells import Row
from cascjax.experiments.published import AREAS, CAVEAT, CHOICES, COLUMNS
from cascjax.experiments.table1 import area_cells, areas_of, clock, heads, strategies_of
from cascjax.experiments.tables import Entry, Grid, signed
from cascjax.metrics.bootstrap import interval
from cascjax.report.pictures import INK, strategy_styles
from cascjax.tuning import TUNED

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CONFIDENCE = 0.95
"""Of the intervals."""

_OURS = "cascade-routing"


def difference(one: Row, other: Row) -> tuple[float, float, float]:
    """How far one AUC is above another, and the ends of its interval.

    Their resamples are of the same queries: pairs, whose common luck cancels.

    Args:
        one: has `auc` and `auc_samples`, as many as the other's and of the same seed and rows.
        other: likewise.
    """
    samples = np.asarray(one["auc_samples"]) - np.asarray(other["auc_samples"])
    low, high = interval(samples, CONFIDENCE).tolist()
    return one["auc"] - other["auc"], low, high


def with_interval(found: tuple[float, float, float], published: str = "") -> Entry:
    """A difference of AUCs in points, with its interval; bold where all of that is above 0."""
    middle, low, high = (signed(100 * x) for x in found)
    return Entry(f"{middle} [{low}, {high}]", published, found[1] > 0)


def differences(rows: Sequence[Row]) -> dict[tuple[str, int, str], tuple[float, float, float]]:
    """AUC of cascade routing above each other strategy's, and the ends of its interval."""
    by_key = {(row["strategy"], row["models"], row["noise"]): row for row in rows}
    return {
        (name, k, level): difference(by_key[_OURS, k, level], row)
        for (name, k, level), row in by_key.items()
        if name != _OURS
    }


def _findings(job: Job, rows: Sequence[Row]) -> Findings:
    found, names = differences(rows), [n for n in strategies_of(rows) if n != _OURS]

    def entry(name: str, column: tuple[int, str]) -> Entry:
        theirs = AREAS.get((name, *column))
        shown = "" if theirs is None else signed(AREAS[(_OURS, *column)] - theirs)
        return with_interval(found[(name, *column)], shown)

    body = [[name, *(entry(name, column) for column in COLUMNS)] for name in names]
    said, line = _signs(found, names)
    grid = Grid(
        "AUC of cascade routing above that of others, in points, with intervals, and in brackets"
        " as published",
        ["strategy", *heads()],
        [*body, said],
        (
            f"{100 * CONFIDENCE:.0f}% intervals of {job.settings['resamples']:,} bootstrap"
            " resamples of the queries to evaluate on, the same for all strategies; bold where the"
            " whole interval is above 0. Published: the difference of the published AUCs."
            f" {CAVEAT}",
        ),
        together=3,
    )
    aucs = areas_of(rows)
    best = ", ".join(
        f"{k} {level} {max(strategies_of(rows), key=lambda s, c=(k, level): aucs[(s, *c)])}"
        for k, level in COLUMNS
    )
    lines = [line, f"Highest AUC: {best}."]
    kept = [row | below(found.get((row["strategy"], row["models"], row["noise"]))) for row in rows]
    draw = lambda figure: _draw(figure, found, names)  # noqa: E731
    return Findings([grid, clock(rows)], lines, draw, (11.0, 7.0), kept)


def below(found: tuple[float, float, float] | None) -> Row:
    """A difference to cascade routing as columns of a row; none of its own."""
    if found is None:
        return {}
    return {"cascade_routing_above": found[0], "cascade_routing_above_interval": list(found[1:])}


def _signs(
    found: dict[tuple[str, int, str], tuple[float, float, float]], names: Sequence[str]
) -> tuple[list[str], str]:
    """Whether cascade routing is above the same strategies as published, by column."""
    said, wrong, sure, count = ["signs as published"], [], 0, 0
    for k, level in COLUMNS:
        shared = [name for name in names if (name, k, level) in AREAS]
        above = {n: AREAS[_OURS, k, level] > AREAS[n, k, level] for n in shared}
        other = [n for n in shared if (found[n, k, level][0] > 0) != above[n]]
        count += len(shared)
        sure += sum(
            found[n, k, level][1] > 0 if above[n] else found[n, k, level][2] < 0 for n in shared
        )
        said.append("no" if other else "yes")
        wrong += [f"{k} {level} {name}" for name in other]
    line = f"Signs as published: {count - len(wrong)} of {count}, of which {sure} beyond their"
    line += " interval."
    return said, line + (f" Otherwise here: {', '.join(wrong)}." if wrong else "")


def _draw(
    figure: "Figure",
    found: dict[tuple[str, int, str], tuple[float, float, float]],
    names: Sequence[str],
) -> None:
    """Intervals side by side, a panel a strategy."""
    shown = [name for name in names if not name.startswith(TUNED)]
    panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for name, axes in zip(shown, panels, strict=True):
        values = 100 * np.array([found[(name, *column)] for column in COLUMNS])
        place = np.arange(len(COLUMNS))[::-1]
        color = strategy_styles([name])[name].light
        axes.axvline(0, color=INK["soft"][0], linewidth=1)
        axes.hlines(place, values[:, 1], values[:, 2], color=color, linewidth=2)
        axes.plot(values[:, 0], place, "o", color=color, markersize=5)
        theirs = [AREAS.get((name, *column)) for column in COLUMNS]
        at = [(AREAS[(_OURS, *c)] - t, p) for c, t, p in zip(COLUMNS, theirs, place, strict=True)
              if t is not None]  # fmt: skip
        if at:
            axes.plot(*np.array(at).T, "x", color=INK["ink"][0], markersize=6)
        axes.set_title(f"above {name}", fontsize=11)
        axes.set_yticks(place, heads())
        axes.set_xlabel("points of AUC")
    figure.suptitle("cascade routing: ours with 95% interval, and as published (x)", fontsize=12)
    figure.tight_layout()


TABLE4 = Experiment(
    "table4",
    "how far cascade routing is above every other strategy, with paired bootstrap intervals",
    lambda job: area_cells(job, job.settings["resamples"]),
    _findings,
    {"tuned": "none", "resamples": 1000},
    readings=3 * len(CHOICES),
)
