"""Cascade routing without one thing or another: what AUC that costs, and what time it saves."""

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Array, Float

from cascjax.comparison import frontier
from cascjax.core.estimates import Independent, Tabulated
from cascjax.engine.simulate import query_outcomes
from cascjax.experiments.base import Experiment, Findings, Job
from cascjax.experiments.cells import Cell, Row
from cascjax.experiments.drawing import legend_below, no_ticks, plain_ticks
from cascjax.experiments.legacy import Settled
from cascjax.experiments.live import decision_seconds
from cascjax.experiments.protocol import MAX_DEPTH, Setup, check_stream, setup
from cascjax.experiments.published import ABLATION, CAVEAT, LEVELS
from cascjax.experiments.streams import Question, answered, row_of
from cascjax.experiments.table4 import CONFIDENCE, difference, with_interval
from cascjax.experiments.tables import Entry, Grid, percent, signed, times
from cascjax.report.pictures import INK
from cascjax.search.budgets import SETTINGS, simulate_settings
from cascjax.strategies import CascadeRouting, Outcome, Pandora, Strategy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

N_MODELS = 11
"""Of the paper's ablation."""

_LIVE = 50
"""Queries decided one at a time."""

_BATCH = 1 << 10
"""Queries decided together, to be timed."""

_SLOW = 1 << 7
"""The same of what is slow."""


@dataclass(frozen=True)
class Slow(CascadeRouting):
    """Cascade routing by its rule alone: every superset valued again at every step and price."""

    def sweep(
        self, parameters: Float[Array, "L *D"], estimator: Independent | Tabulated
    ) -> Outcome | None:
        """None: each setting is rolled out step by step."""
        del parameters, estimator
        return None


SQUARED = "variance for sigma"
"""Believes each estimate's variance to be its standard deviation, as the published E[max] does."""

_OURS = "cascade-routing"
"""What every variant is set beside."""

VARIANTS: dict[str, Strategy] = {
    "cascade-routing": CascadeRouting(max_depth=MAX_DEPTH),
    "slow": Slow(max_depth=MAX_DEPTH),
    "greedy": CascadeRouting(max_depth=MAX_DEPTH, search="greedy"),
    "no-uncertainty": CascadeRouting(max_depth=MAX_DEPTH, uncertainty=False),
    SQUARED: CascadeRouting(max_depth=MAX_DEPTH),
    "max depth 1": CascadeRouting(max_depth=1),
    "max depth 2": CascadeRouting(max_depth=2),
    "max depth 3": CascadeRouting(max_depth=3),
    "pandora": Pandora(),
}
"""What is compared, by name; `SQUARED` differs in its estimates alone."""

_WEIGHTS = {"cascade-routing": 4.0, "no-uncertainty": 4.0, SQUARED: 4.0}
"""How long cells take beside others."""


def _cells(job: Job) -> list[Cell]:
    if job.stream is not None:
        check_stream(job.stream)
        return [Cell("all", f"{N_MODELS} models", _stream_work(job))]
    given = setup(job.data, N_MODELS)
    return [
        Cell(
            f"{level}-{name.replace(' ', '-')}",
            f"{level}: {name}",
            _work(given, level, name, job.seed, job.settings["resamples"]),
            _WEIGHTS.get(name, 1.0),
        )
        for level in LEVELS
        for name in VARIANTS
    ]


def _work(
    given: Setup, level: str, name: str, seed: int, resamples: int
) -> Callable[[Callable[[float], None]], list[Row]]:
    def work(progress: Callable[[float], None]) -> list[Row]:
        estimator, table, rows = given.noisy(level, seed), given.table, given.evaluate_rows
        if name == SQUARED:
            estimator = replace(estimator, sigma=estimator.sigma**2)
        kind, budgets = VARIANTS[name], given.budgets
        row: Row = {"noise": level, "variant": name, "auc": np.nan, "alike": np.nan}
        slow = isinstance(kind, Slow)
        drawn_as = VARIANTS["cascade-routing"] if slow else kind
        middle = budgets[[len(budgets) // 2]] if slow else budgets
        drawn = frontier(
            drawn_as, table, estimator, given.fit_rows, rows, middle,
            resamples=0 if slow else resamples, seed=seed,
        )  # fmt: skip
        progress(0.7)
        at = drawn.parameters[len(middle) // 2]
        batch = rows[: _SLOW if slow else _BATCH]
        if slow:
            # The same settings of the same queries, by both ways.
            ways = [
                query_outcomes(way, at, estimator, table.quality.shape, rows=batch)
                for way in (kind, drawn_as)
            ]
            (one, answer), (other, other_answer) = ways
            same = (one == other).all(-1) & (answer == other_answer)
            row["alike"] = float(same.mean())
        else:
            row["auc"] = drawn.auc
            if drawn.auc_samples is not None:
                row["auc_samples"] = drawn.auc_samples.tolist()
        settings = np.asarray(at if slow else np.resize(np.unique(drawn.parameters), SETTINGS))
        sized = kind.sized_for(estimator)
        took = []
        for _ in range(2):  # the first compiles
            start = time.perf_counter()
            simulate_settings(sized, settings, estimator, table, rows=batch, usage=False)
            took.append(time.perf_counter() - start)
        row["batch"] = took[-1] / (len(batch) * len(settings))
        progress(0.9)
        live = decision_seconds(kind, table.models, estimator, float(at[0]), rows[:_LIVE])
        row |= {"live": float(live.mean()), "live_median": float(np.median(live))}
        return [row]

    return work


def _stream_work(job: Job) -> Callable[[Callable[[float], None]], list[Row]]:
    """AUCs of a stream, over three readings of its files; times on a few of its rows."""

    def work(progress: Callable[[float], None]) -> list[Row]:
        drawn = {n: kind for n, kind in VARIANTS.items() if not isinstance(kind, Slow)}
        plain = tuple(kind for name, kind in drawn.items() if name != SQUARED)
        questions = [Question(level, plain) for level in LEVELS]
        if SQUARED in drawn:
            questions += [Question(level, (drawn[SQUARED],), squared=True) for level in LEVELS]
        resamples = job.settings["resamples"]
        answers = answered(
            job, "all", N_MODELS, questions, lambda share: progress(0.95 * share), resamples
        )
        found: dict[tuple[str, str], Row] = {}
        for one, settled, frontiers in answers:
            names = [name for name in drawn if (name == SQUARED) == one.squared]
            for name, of in zip(names, frontiers, strict=True):
                found[name, one.level] = row_of(settled, of)
        rows, few = [], _few(answers[0][1])
        timed = {"timed_on": len(few.evaluate_rows)}
        for level in LEVELS:
            for name in VARIANTS:
                (row,) = _work(few, level, name, job.seed, 0)(lambda share: None)
                rows.append(row | timed | found.get((name, level), {}))
        return rows

    return work


def _few(settled: Settled) -> Setup:
    """Some rows of a stream's sample as a table of their own, half of them to fit on."""
    table = settled.table.take(np.arange(min(settled.table.n_queries, 2 * _BATCH)))
    rows = np.arange(table.n_queries)
    return Setup(table, rows[::2], rows[1::2], settled.budgets)


def _findings(job: Job, rows: Sequence[Row]) -> Findings:
    by_key = {(row["variant"], row["noise"]): row for row in rows}
    best = {
        level: max(by_key[v, level]["auc"] for v in VARIANTS if v != "slow") for level in LEVELS
    }

    def of(variant: str, level: str, field: str) -> float:
        exact = field == "auc" and variant == "slow"
        return by_key["cascade-routing" if exact else variant, level][field]

    def entries(variant: str, level: str) -> list[Entry]:
        theirs = ABLATION.get((variant, level))
        auc, row = of(variant, level, "auc"), by_key[variant, level]
        shown = ("", "") if theirs is None else (f"{theirs[0]:.2f}", f"{theirs[1]:g}")
        return [
            Entry(percent(auc), shown[0], auc == best[level]),
            Entry(_ms(row["live"]), shown[1]),
            Entry(_ms(row["batch"])),
        ]

    head = [f"{level} {what}" for level in LEVELS for what in ("auc", "ms, one", "ms, batch")]
    order = _order(rows)
    said = ["order as published", *itertools.chain(*([of, "", ""] for of in order.plain))]
    alike = [by_key["slow", level]["alike"] for level in LEVELS]
    grid = Grid(
        f"AUC in percent and milliseconds a decision, {N_MODELS} models, and in brackets as"
        " published",
        ["variant", *head],
        [*([v, *(e for level in LEVELS for e in entries(v, level))] for v in VARIANTS), said],
        (
            "One: a policy asked about one query after another, mean over decisions, as the"
            " published times are. Batch: many queries and prices together, a query's whole way"
            " at one price. Slow: the published one does without pruning. Ours prunes nothing:"
            " every set of models is valued, once for all prices and steps; slow values them again"
            f" at each. Its outcomes were alike on {_shares(alike)} of queries and prices tried,"
            f" and its AUC is that of cascade-routing. {SQUARED.capitalize()}: cascade-routing as"
            " the published implementation works out E[max], its samples multiplied by the variance"
            " of independent estimates. The published ablation is of cascade routing that runs no"
            f" model cheaper than the last; here any may follow. {CAVEAT}",
        ),
        together=3,
    )
    found = above(rows)

    def beside(variant: str, level: str) -> Entry:
        theirs = ABLATION.get((variant, level))
        shown = "" if theirs is None else signed(theirs[0] - ABLATION[_OURS, level][0])
        return with_interval(found[variant, level], shown)

    gains = Grid(
        f"AUC above that of {_OURS}, in points, with intervals, and in brackets as published",
        ["variant", *LEVELS],
        [
            *([v, *(beside(v, level) for level in LEVELS)] for v in _others()),
            ["as published", *order.sure],
        ],
        (
            f"{100 * CONFIDENCE:.0f}% intervals of {job.settings['resamples']:,} bootstrap"
            " resamples of the queries to evaluate on, the same for all variants; bold where the"
            " whole interval is above 0. As published: yes where every two stand as published"
            " by more than their interval, no where some two stand the other way by more than"
            " theirs, else open.",
        ),
        together=len(LEVELS),
    )
    kept = [row | _beside(found.get((row["variant"], row["noise"]))) for row in rows]
    draw = lambda figure: _draw(figure, by_key, found)  # noqa: E731
    return Findings(
        [grid, gains, times([("all", rows, "")])], [order.line], draw, (11.0, 5.5), kept
    )


def _others() -> list[str]:
    """What has an AUC of its own to be set beside cascade routing's."""
    return [v for v in VARIANTS if v not in (_OURS, "slow")]


def above(rows: Sequence[Row]) -> dict[tuple[str, str], tuple[float, float, float]]:
    """AUC of each variant above cascade routing's, and the ends of its interval, by noise."""
    by_key = {(row["variant"], row["noise"]): row for row in rows}
    return {
        (v, level): difference(by_key[v, level], by_key[_OURS, level])
        for v in _others()
        for level in LEVELS
    }


def _beside(found: tuple[float, float, float] | None) -> Row:
    """A difference to cascade routing as columns of a row; none of its own."""
    if found is None:
        return {}
    return {"above_cascade_routing": found[0], "above_cascade_routing_interval": list(found[1:])}


@dataclass(frozen=True)
class _Order:
    """Whether variants stand as published.

    Attributes:
        plain: "yes" or "no", by level of noise.
        sure: the same of differences beyond their interval; "open" where these do not say.
        line: how many pairs do, and which do not.
    """

    plain: list[str]
    sure: list[str]
    line: str


def _order(rows: Sequence[Row]) -> _Order:
    by_key = {(row["variant"], row["noise"]): row for row in rows}
    known = [v for v in VARIANTS if (v, LEVELS[0]) in ABLATION and v != "slow"]
    plain, sure, notes, total, alike, certain = [], [], [], 0, 0, 0
    for level in LEVELS:
        published = {v: ABLATION[v, level][0] for v in known}
        # What ties as published says nothing.
        pairs = [
            (better, worse)
            for better, worse in itertools.permutations(known, 2)
            if published[better] > published[worse]
        ]
        found = {pair: difference(*(by_key[v, level] for v in pair)) for pair in pairs}
        wrong = [pair for pair in pairs if not found[pair][0] > 0]
        turned = [pair for pair in wrong if found[pair][2] < 0]
        right = sum(low > 0 for _, low, _ in found.values())
        total, alike, certain = total + len(pairs), alike + len(pairs) - len(wrong), certain + right
        plain.append("no" if wrong else "yes")
        sure.append("no" if turned else "yes" if right == len(pairs) else "open")
        notes += [
            f"{level}: {worse} above {better} by {-100 * found[better, worse][0]:.2f}"
            + ("" if (better, worse) in turned else ", within its interval")
            for better, worse in wrong
        ]
    line = (
        "Order as published (slow left out, which is the same rule): in"
        f" {plain.count('yes')} of {len(LEVELS)} columns; {alike} of {total} pairs, of which"
        f" {certain} beyond their interval."
    )
    if notes:
        line += f" Otherwise here, in points of AUC: {'; '.join(notes)}."
        line += f" Beyond intervals the order is another in {sure.count('no')} of {len(LEVELS)}"
        line += " columns."
    return _Order(plain, sure, line)


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.2g}" if seconds < 1e-3 else f"{1000 * seconds:.2f}"


def _shares(shares: Sequence[float]) -> str:
    texts = list(dict.fromkeys(f"{100 * share:.1f}%" for share in shares))
    return " and ".join(texts)


_COLORS = (
    "#0072b2", "#56b4e9", "#a67c00", "#aa3377", "#77808c", "#b9dcc8", "#6cc2a1", "#009e73",
    "#d55e00",
)  # fmt: skip
"""Of the variants, in their order; depths are shades of one."""


def _draw(
    figure: "Figure",
    by_key: dict[tuple[str, str], Row],
    found: dict[tuple[str, str], tuple[float, float, float]],
) -> None:
    """AUC beside that of cascade routing against time of a decision, a panel a level of noise."""
    panels = figure.subplots(1, len(LEVELS), sharex=True, sharey=True, squeeze=False)[0]
    for level, axes in zip(LEVELS, panels, strict=True):
        axes.axhline(0, color=INK["soft"][0], linewidth=1)
        for v, color in zip(VARIANTS, _COLORS, strict=False):
            gain, low, high = (100 * x for x in found.get((v, level), (0.0, 0.0, 0.0)))
            time_ = 1000 * by_key[v, level]["live_median"]
            axes.vlines(time_, low, high, color=color, linewidth=1.5)
            axes.plot(time_, gain, "o", color=color, markersize=7, label=v)
            if (v, level) in ABLATION:
                auc, milliseconds = ABLATION[v, level]
                gain = auc - ABLATION["cascade-routing", level][0]
                axes.plot(milliseconds, gain, "x", color=color, markersize=8, markeredgewidth=2)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(plain_ticks())
        axes.xaxis.set_minor_formatter(no_ticks())
        axes.set_title(f"{level} noise", fontsize=11)
        axes.set_xlabel("ms a decision, one at a time")
    panels[0].set_ylabel("points of AUC above cascade-routing")
    figure.suptitle(
        "ours (dots, 95% interval) and as published (x), each beside its cascade-routing",
        fontsize=12,
    )
    legend_below(figure, panels[0], 5, 0.12)


ABLATION_EXPERIMENT = Experiment(
    "ablation",
    "cascade routing without one thing or another, AUC and time",
    _cells,
    _findings,
    {"resamples": 1000},
    readings=3,
)
