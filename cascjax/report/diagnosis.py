"""What a diagnosis says: in words, on the terminal, as pictures and a page, and as files."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table as Grid
from rich.text import Text

from cascjax.data.files import atomic_write
from cascjax.diagnosis import (
    NOW,
    PERFECT_ANTE,
    PERFECT_POST,
    REDUCED,
    REFITTED,
    Diagnosis,
    Gain,
    Need,
    Seen,
    Span,
)
from cascjax.metrics import upper_hull
from cascjax.metrics.calibration import Reliability
from cascjax.report.facts import DESCRIPTIONS
from cascjax.report.html import now, palette, versions
from cascjax.report.pictures import (
    INK,
    OTHERS,
    STRATEGIES,
    css_variable,
    new_figure,
    picture_style,
    to_svg,
)
from cascjax.report.tables import grid_of, template
from cascjax.report.write import finite
from cascjax.words import (
    cost_texts,
    counted,
    gain_text,
    plain,
    quality_text,
    share_text,
    short_names,
)

# matplotlib takes most of a second to import, so only the drawing functions do.
if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIDES = {"ante": "ex-ante", "post": "post-hoc"}
"""What the estimates of before and after are called."""

ANSWERS = {
    "pays": "pays",
    "undecided": "not distinguishable from the hull",
    "loses": "loses",
    "unknown": "no interval",
}
"""The answers of `cascjax.diagnosis.Gain`, in words."""

_SIDE_STYLES = {"ante": STRATEGIES["cascade-routing"], "post": STRATEGIES["pandora"]}

_RUNGS = {
    NOW: ("o", 8.0, "now"),
    REDUCED: ("x", 7.0, "as independent"),
    REFITTED: ("|", 10.0, "the same, refitted"),
    PERFECT_POST: ("^", 7.5, "perfect post-hoc"),
    PERFECT_ANTE: ("D", 6.5, "perfect ex-ante"),
}
"""Marker, size and label of each rung of the ladder."""

_SHORT = {REFITTED: "re-\nfitted", PERFECT_POST: "post-\nhoc", PERFECT_ANTE: "ex-\nante"}
"""Headings of the rungs that the terminal shows beside the first."""

GAINS_NOTE = (
    "AUCs on better estimates: refitted, these ones by least squares on the fit split; post-hoc,"
    " on estimates that know each answer's quality once it is seen; ex-ante, on estimates that know"
    " all qualities before any model runs."
)
"""What the columns of the table of gains are."""

MODELS_NOTE = (
    "R2: variance of quality explained. Brier: mean squared error, beside that of the model's mean."
    " ECE: expected calibration error, and what it stays below by chance. Slope: of quality on the"
    " estimate, 1 where calibrated. Bias: mean estimate less mean quality."
)
"""What the columns of the table of models are."""

_ODD_SIGMA = 0.1
"""A sigma that is off by more than this share is worth a word, if the interval agrees."""

_FORGOT = 0.02
"""So is R2 that post-hoc estimates lack of what both together have."""

_ALIKE = 0.2
"""And a correlation of moves that are taken to be independent."""


def headline(found: Diagnosis) -> str:
    """The answer, in a sentence or two."""
    paying = [of for of in found.gains if of.answer == "pays"]
    best = max(paying, key=lambda of: of.gain.value) if paying else found.best
    apart = f"{_signed(best.gain)} of AUC"
    if paying:
        text = f"Yes, it pays: {best.strategy} lies {apart} above mixing single models at random"
        if np.isfinite(best.share):
            text += f", {best.share:.0%} of what an oracle would gain"
        return text + "."
    if found.answer == "undecided":
        return (
            "No, not with these estimates: no strategy is distinguishable from mixing single models"
            f" at random, which looks at nothing. The best, {best.strategy}, lies {apart} from it."
        )
    if found.answer == "loses":
        return (
            "No: with these estimates every strategy does worse than mixing single models at"
            f" random. The best, {best.strategy}, lies {apart} from it."
        )
    return (
        f"Not settled: without resamples of the"
        f" {counted(found.n_evaluate, 'query', 'queries')} nothing can be told from chance."
        f" The best strategy, {best.strategy}, lies {apart} from mixing single models at random."
    )


def reasons(found: Diagnosis) -> list[str]:
    """Why, and what to do about it: a finding each."""
    lines = [
        *_routing(found),
        *_cascading(found),
        *_both(found),
        _prize(found),
        *_refit(found),
        *_needed(found),
        _costs(found),
        *_warnings(found),
    ]
    return [line for line in lines if line]


def _routing(found: Diagnosis) -> list[str]:
    gain = _gain(found, "routing")
    if gain is None:
        return []
    seen = found.ante
    alone = f"of each model's quality by itself R2 {_number(_mean(seen.accuracy.r2.value))}"
    if gain.answer == "pays" and (seen.differences.low or 0) < 0:
        # The order of queries is enough to route by; R2 is of the size of differences.
        return [
            f"Routing {_answered(gain)}: where the ex-ante estimates send queries to a more"
            " expensive"
            " model, whole groups of them perhaps, it is worth its price more often than elsewhere."
            " How far models differ on a single query they do not tell: of that they explain"
            f" {_r2(seen.differences)}, and {alone} on average."
        ]
    return [
        f"Routing {_answered(gain)}. It lives on how models differ on a query before any has run:"
        f" of those differences the ex-ante estimates explain {_r2(seen.differences)}, and {alone}"
        " on average."
    ]


def _cascading(found: Diagnosis) -> list[str]:
    gains = [
        g for g in map(lambda n: _gain(found, n), ("thresholding", "frugal", "cascading")) if g
    ]
    if not gains:
        return []
    best, seen = max(gains, key=lambda of: of.gain.value), found.post
    return [
        f"Cascading, at best {best.strategy}, {_answered(best)}. It lives on what is believed of an"
        " answer once it is seen: of each model's quality the post-hoc estimates explain R2"
        f" {_number(_mean(seen.accuracy.r2.value))} on average, of differences between models"
        f" {_r2(seen.differences)}."
    ]


def _both(found: Diagnosis) -> list[str]:
    lines = []
    if (apart := found.both_at_once) is not None:
        names = [n for n in ("cascade-routing", "pandora") if _gain(found, n)]
        best = max(names, key=lambda n: _area(found, n))
        others = [n for n in ("routing", "thresholding", "frugal", "cascading") if _gain(found, n)]
        below = max(others, key=lambda n: _area(found, n))
        lines.append(
            f"Both at once, by {best}, lies {_signed(apart)} from one of the two alone, at best"
            f" {below}{_chance(apart)}."
        )
    if (apart := found.pandora_above) is not None:
        ends = (apart.value, apart.low or 0.0, apart.high or 0.0)
        if all(round(of, 4) == 0 for of in ends):
            lines.append("Pandora's AUC is that of cascade routing, to the digits shown.")
        else:
            lines.append(f"Pandora lies {_signed(apart)} from cascade routing{_chance(apart)}.")
    return lines


def _prize(found: Diagnosis) -> str:
    tops = []
    for name in (PERFECT_POST, PERFECT_ANTE):
        rung = found.rung(name)
        assert rung is not None
        best = max(rung.auc, key=rung.auc.__getitem__)
        gain = rung.auc[best].value - found.best.gain.value - found.mixing.value
        tops.append(f"{name} estimates {quality_text(rung.auc[best].value)} ({gain_text(gain)},"
                    f" {best})")  # fmt: skip
    return (
        f"Best AUCs: mixing single models {quality_text(found.mixing.value)}, now"
        f" {quality_text(found.best.gain.value + found.mixing.value)}, with {tops[0]}, with"
        f" {tops[1]}, oracle {quality_text(found.oracle.value)}."
    )


def _refit(found: Diagnosis) -> list[str]:
    rung = found.rung(REFITTED)
    assert rung is not None
    best = max(rung.auc, key=rung.auc.__getitem__)
    apart = rung.above[best]
    if not _clear(apart):
        return []
    return [
        f"Refitting these very estimates by least squares on the fit split moves {best} by"
        f" {_signed(apart)}: "
        + (
            "take that first, it needs no better estimator."
            if apart.value > 0
            else "they are better left as they are."
        )
    ]


def _needed(found: Diagnosis) -> list[str]:
    """For routing, and for the best strategy that was looked into."""
    known = [need.strategy for need in found.needs]
    if not known:
        return []
    best = max(known, key=lambda name: _area(found, name))
    shown = dict.fromkeys([name for name in ("routing", best) if name in known])
    return [f"For {found.target:+g} of AUC, {of}: {'; '.join(_needs(found, of))}." for of in shown]


def _needs(found: Diagnosis, strategy: str) -> list[str]:
    return [need_text(need) for need in found.needs if need.strategy == strategy]


def need_text(need: Need) -> str:
    """What one side's estimates must become, in words."""
    side = SIDES[need.side]
    if need.share is None:
        most = max(0.0, need.most - need.area_now)
        return f"no {side} accuracy alone is enough: the most that was found is {gain_text(most)}"
    if need.share == 0:
        return (
            f"refitting the {side} estimates by least squares is enough (R2"
            f" {_number(need.r2_now)} as they are, {_number(need.r2_refitted)} refitted)"
        )
    differences = ""
    if need.side == "ante":
        differences = (
            f", of differences between models from {_number(need.differences_now)} to"
            f" {_number(need.differences_needed)}"
        )
    return (
        f"{side} R2 must rise from {_number(need.r2_now)} to {_number(need.r2_needed)} on average"
        f"{differences} ({need.share:.0%} of what it leaves unexplained)"
    )


def _costs(found: Diagnosis) -> str:
    cost = found.single_cost
    ratio = ""
    if cost.min() > 0:
        ratio = (
            f"The most expensive model costs {cost.max() / cost.min():,.3g} times the cheapest. "
        )
    return (
        f"{ratio}On {share_text(found.cheapest_suffices)} of the queries no model does better than"
        f" the cheapest, on {share_text(found.all_alike)} all do equally well; an oracle would gain"
        f" {gain_text(found.oracle.value - found.mixing.value)} over the hull, and no estimates"
        " can give more, but by chance."
    )


def _warnings(found: Diagnosis) -> list[str]:
    names, lines = short_names(found.models, 32), []
    for side, seen in _sides(found).items():
        off = [
            f"{names[k]} ({_number(of.ece)}, chance makes up to {_number(of.limit)})"
            for k, of in enumerate(seen.reliability)
            if not of.calibrated
        ]
        if off:
            lines.append(
                f"Not calibrated {SIDES[side]}, by expected calibration error: {_listed(off)}."
                " Where the diagrams bend, refit with a curve, such as isotonic regression."
            )
    ratio = found.moves.ratio
    odd = [
        f"{names[k]} ({value:.2f} times)"
        for k, value in enumerate(ratio.value)
        if abs(value - 1) > _ODD_SIGMA
        and (ratio.ends is None or not ratio.ends[k][0] <= 1 <= ratio.ends[k][1])
    ]
    if odd:
        lines.append(
            "The standard deviation stated is not that of how estimates move once models run:"
            f" {_listed(odd)}."
        )
    scaled = [f"{of.strategy} by {of.sigma_scale:g}" for of in found.gains if of.sigma_scale != 1]
    if scaled:
        certain = ", 0 being as if estimates were certain"
        # Of an estimator handed over with a scale nothing is recorded.
        found_best = found.settings.get("sigma_scale") == "auto"
        lines.append(
            "Strategies are shown the stated standard deviations"
            f" {'times what did best on the queries fitted on' if found_best else 'scaled'}:"
            f" {_listed(scaled)}"
            f"{certain if any(of.sigma_scale == 0 for of in found.gains) else ''}."
        )
    apart = np.abs(np.triu(found.moves.correlation, 1))
    if np.nanmax(apart, initial=0) > _ALIKE:
        i, j = np.unravel_index(np.nanargmax(apart), apart.shape)
        of_two = (
            f"those of {names[int(i)]} and {names[int(j)]} correlate by"
            f" {found.moves.correlation[i, j]:+.2f}"
        )
        lines.append(
            f"Pandora takes the moves of models to be independent; {of_two}."
            if found.rung(REDUCED) is None
            else f"Pandora looks at models one by one, again after each answer; their moves are not"
            f" independent, {of_two}, which cascade routing reckons with."
        )
    lost = _mean(found.both_r2) - _mean(found.post.accuracy.r2.value)
    if lost > _FORGOT:
        lines.append(
            "Post-hoc estimates forget what ex-ante ones knew: refitted on both, their R2 would be"
            f" {_number(_mean(found.both_r2))} rather than"
            f" {_number(_mean(found.post.accuracy.r2.value))}."
        )
    if found.unsearched:
        lines.append(
            f"No accuracy needed was looked for of {_listed(found.unsearched)}: with"
            f" {len(found.models)} models it is expensive to simulate, and pandora stands near it."
        )
    if found.settings.get("estimates") == "noisy":
        lines.append(
            "These estimates are the truth under simulated noise"
            f" ({plain(found.settings.get('noise', 'level not recorded'))}), not what one would"
            " have."
        )
    lines += [f"Estimator: {plain(note).rstrip('.')}." for note in found.notes]
    return lines


def _sides(found: Diagnosis) -> dict[str, Seen]:
    return {"ante": found.ante, "post": found.post}


def _gain(found: Diagnosis, name: str) -> Gain | None:
    return next((of for of in found.gains if of.strategy == name), None)


def _area(found: Diagnosis, name: str) -> float:
    rung = found.rung(NOW)
    assert rung is not None
    return rung.auc[name].value


def _answered(gain: Gain) -> str:
    if gain.answer == "pays":
        return f"pays, {_signed(gain.gain)} over the hull"
    if gain.answer == "loses":
        return f"loses, {_signed(gain.gain)} against the hull"
    words = "is not distinguishable from the hull" if gain.answer == "undecided" else "is measured"
    return f"{words}, {_signed(gain.gain)}"


def _signed(span: Span) -> str:
    return f"{gain_text(span.value)} {_ends(span)}".rstrip()


def _ends(span: Span) -> str:
    """The interval, or nothing."""
    if span.low is None or span.high is None:
        return ""
    return f"[{gain_text(span.low)}, {gain_text(span.high)}]"


def _clear(span: Span) -> bool:
    return span.low is not None and span.high is not None and not span.low <= 0 <= span.high


def _chance(span: Span) -> str:
    return "" if span.low is None or _clear(span) else ", which may be chance"


def _r2(span: Span) -> str:
    text = f"R2 {_number(span.value)}"
    if span.low is None or span.high is None:
        return text
    text += f" [{_number(span.low)}, {_number(span.high)}]"
    return text + (", no more than chance" if span.low <= 0 else "")


def _number(value: float) -> str:
    """Two decimals, or three of what is small; a dash for none."""
    if not np.isfinite(value):
        return "–"
    return f"{value:.2f}" if abs(value) >= 0.095 or value == 0 else f"{value:.3f}"


def _mean(values: Float[np.ndarray, " K"]) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else np.nan


def _listed(items: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(items[:-1]), items[-1]]))


@contextmanager
def diagnosis_progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar over the frontiers to draw on a terminal's stderr, and what moves it."""
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task("diagnosing", total=None)
        yield lambda what, step, steps: bar.update(
            task, description=what, completed=step, total=steps
        )


def gains_table(found: Diagnosis) -> Grid:
    """A row a strategy in falling order of AUC: what it gains, and what better estimates would."""
    rungs = [rung for rung in found.rungs if rung.name in _SHORT]
    # Intervals of all at once are as wide below as above; two lines a heading keep to 80 columns.
    sure = [f"± at\n{100 * found.confidence:.4g}%"] if found.resamples else []
    heads = [_SHORT[rung.name] for rung in rungs]
    grid = grid_of("strategy", "auc", "over\nhull", *sure, *heads, "")
    for gain in sorted(found.gains, key=lambda of: -of.gain.value):
        of = gain.strategy
        ends = [quality_text((gain.gain.high or 0) - gain.gain.value)] if sure else []
        grid.add_row(
            Text(of),
            quality_text(_area(found, of)),
            gain_text(gain.gain.value),
            *ends,
            *(quality_text(rung.auc[of].value) for rung in rungs),
            "noise" if gain.answer == "undecided" else gain.answer,
        )
    return grid


def models_table(found: Diagnosis) -> Grid:
    """A row a model and side: R2, Brier score beside that of the mean, ECE beside chance."""
    grid = grid_of("model", "R2", "Brier", "of\nmean", "ECE", "below", "slope", "bias")
    for k, name in enumerate(short_names(found.models, 18)):
        grid.add_row(Text(name))
        for side, seen in _sides(found).items():
            of, bins = seen.accuracy, seen.reliability[k]
            grid.add_row(
                f"  {SIDES[side]}",
                _number(of.r2.value[k]),
                quality_text(of.brier.value[k]),
                quality_text(of.prior_brier[k]),
                _number(bins.ece),
                _number(bins.limit),
                _number(of.slope.value[k]),
                gain_text(of.bias.value[k]),
            )
    return grid


def print_diagnosis(found: Diagnosis, console: Console) -> None:
    """Prints the answer, what each strategy gains, how good the estimates are, and why."""
    console.print(Text(headline(found), style="bold"))
    console.print(gains_table(found))
    console.print(Text(GAINS_NOTE))
    console.print(models_table(found))
    console.print(Text(MODELS_NOTE))
    for line in reasons(found):
        console.print(Text(f"- {line}"))


def write_diagnosis(found: Diagnosis, directory: Path, command: str) -> Path:
    """Writes diagnosis.json, reliability.parquet and report.html; an error leaves none of them.

    Args:
        found: what to write.
        directory: a folder that exists.
        command: the command line that made it.

    Returns:
        The path of the report.

    Raises:
        CascjaxError: the folder cannot be written.
    """
    report = directory / "report.html"
    with ExitStack() as files:
        numbers, bins, page = (
            files.enter_context(atomic_write(path))
            for path in (directory / "diagnosis.json", directory / "reliability.parquet", report)
        )
        numbers.write_text(
            json.dumps(summary(found), indent=2, allow_nan=False) + "\n", encoding="utf-8"
        )
        pq.write_table(to_arrow(found), bins)
        page.write_text(render(found, command), encoding="utf-8")
    return report


def summary(found: Diagnosis) -> dict[str, Any]:
    """All that was found but the bins, as JSON has it: lists over models in their order.

    A number with an interval is {"value", "low", "high"}, or {"value", "ends"} of lists over
    models; null stands for what does not exist.
    """
    fields_of = _jsonable(found)
    assert isinstance(fields_of, dict)
    return {
        "answer": found.answer,
        "headline": headline(found),
        "reasons": reasons(found),
        "cost_ratio": finite(float(found.single_cost.max() / found.single_cost.min()))
        if found.single_cost.min() > 0
        else None,
    } | fields_of


def _jsonable(value: Any) -> Any:
    if isinstance(value, Span):
        return {name: _jsonable(of) for name, of in value._asdict().items()}
    if isinstance(value, Reliability):
        names = ("ece", "by_chance", "limit", "calibrated", "reliability", "resolution",
                 "uncertainty")  # fmt: skip
        return {name: _jsonable(getattr(value, name)) for name in names}
    if is_dataclass(value):
        return {of.name: _jsonable(getattr(value, of.name)) for of in fields(value)}
    if isinstance(value, np.ndarray):
        return _jsonable(value.tolist())
    if isinstance(value, dict):
        return {name: _jsonable(of) for name, of in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(of) for of in value]
    return finite(value) if isinstance(value, float) else value


def to_arrow(found: Diagnosis) -> pa.Table:
    """The bins of the reliability diagrams: a row a model, kind of estimates and bin."""
    parts = []
    for k, name in enumerate(found.models):
        for side, seen in _sides(found).items():
            of = seen.reliability[k]
            n = len(of.count)
            columns = {"model": [name] * n, "estimates": [SIDES[side]] * n, "bin": np.arange(n)}
            for column in ("count", "estimate", "quality", "low", "high"):
                columns[column] = getattr(of, column)
            parts.append(pa.table(columns))
    return pa.concat_tables(parts)


def ladder(found: Diagnosis, narrow: bool = False) -> tuple["Figure", dict[str, str]]:
    """AUCs now and on better estimates, a row a strategy, between the hull and the oracle.

    Returns:
        The figure, and the tooltip of each element with an id.
    """
    gains = sorted(found.gains, key=lambda of: of.gain.value)
    height = 1.7 + 0.62 * len(gains) + (0.5 if narrow else 0)
    figure = new_figure(5.4 if narrow else 11.0, height)
    axes = figure.subplots()
    top = 1 - (1.15 if narrow else 0.62) / height
    figure.subplots_adjust(left=0.27 if narrow else 0.14, right=0.97, top=top, bottom=0.62 / height)
    soft, ink, tips = INK["soft"][0], INK["ink"][0], {}
    handles: dict[str, Any] = {}
    for name, span, dashes in (("hull", found.mixing, (0, (4, 3))), ("oracle", found.oracle, "-")):
        line = axes.axvline(span.value, color=soft, lw=1.4, ls=dashes, zorder=1.5)
        line.set_gid(f"tip-{name}")
        tips[f"tip-{name}"] = f"{name}: AUC {quality_text(span.value)}"
        handles["hull of single models" if name == "hull" else name] = line
    for row, gain in enumerate(gains):
        of = gain.strategy
        color = STRATEGIES.get(of, OTHERS[0])[0]
        aucs = [rung.auc[of].value for rung in found.rungs]
        axes.plot([min(aucs), max(aucs)], [row, row], color=color, lw=1.4, alpha=0.55, zorder=2)
        for rung in found.rungs:
            marker, size, label = _RUNGS[rung.name]
            span = rung.auc[of]
            if rung.name == NOW and span.low is not None and span.high is not None:
                axes.plot(
                    [span.low, span.high], [row, row], color=color, lw=7, alpha=0.25,
                    solid_capstyle="butt", zorder=1.8,
                )  # fmt: skip
            filled = rung.name == NOW
            (point,) = axes.plot(
                [span.value], [row], marker=marker, ms=size, mew=1.6, color=color, ls="none",
                mfc=color if filled else INK["paper"][0], zorder=4 if filled else 3,
            )  # fmt: skip
            point.set_gid(f"tip-{row}-{rung.name.replace(' ', '-')}")
            tips[f"tip-{row}-{rung.name.replace(' ', '-')}"] = (
                f"{of}, {label}: AUC {quality_text(span.value)}"
            )
            if row == 0:
                (handles[label],) = axes.plot(
                    [], [], marker=marker, ms=size, mew=1.6, color=ink, ls="none",
                    mfc=ink if filled else INK["paper"][0],
                )  # fmt: skip
    axes.set_yticks(range(len(gains)), [of.strategy for of in gains])
    axes.tick_params(axis="y", length=0, labelcolor=ink)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.set_ylim(-0.6, len(gains) - 0.4)
    axes.margins(x=0.04)
    if narrow:
        axes.locator_params(axis="x", nbins=4)
    axes.set_xlabel("auc: mean quality over the range of costs")
    figure.legend(
        list(handles.values()), list(handles), loc="upper left", bbox_to_anchor=(0.01, 0.995),
        ncols=2 if narrow else len(handles), frameon=False, handlelength=2.0, columnspacing=1.4,
        fontsize=10,
    )  # fmt: skip
    return figure, tips


def diagram(found: Diagnosis, k: int) -> tuple["Figure", dict[str, str]]:
    """Reliability diagram of one model: mean quality against mean estimate, bin by bin."""
    figure = new_figure(3.9, 3.6)
    axes = figure.subplots()
    figure.subplots_adjust(left=0.17, right=0.97, top=0.88, bottom=0.16)
    tips: dict[str, str] = {}
    ends = []
    for side, seen in _sides(found).items():
        of = seen.reliability[k]
        color, marker = _SIDE_STYLES[side][0], _SIDE_STYLES[side][3]
        axes.vlines(of.estimate, of.low, of.high, color=color, lw=1.6, alpha=0.5, zorder=2)
        (line,) = axes.plot(
            of.estimate, of.quality, color=color, marker=marker, ms=5, lw=1.2, label=SIDES[side],
            zorder=3,
        )  # fmt: skip
        line.set_gid(f"tip-{side}")
        tips[f"tip-{side}"] = f"{SIDES[side]}: expected calibration error {_number(of.ece)}"
        ends += [of.estimate, of.quality]
        ends += [each[np.isfinite(each)] for each in (of.low, of.high)]
    values = np.concatenate(ends)
    low, high = float(values.min()), float(values.max())
    pad = 0.04 * (high - low) or 0.05
    axes.plot([low, high], [low, high], color=INK["soft"][0], lw=1.0, ls=(0, (4, 3)), zorder=1.5)
    axes.set_xlim(low - pad, high + pad)
    axes.set_ylim(low - pad, high + pad)
    axes.set_xlabel("estimated quality")
    axes.set_ylabel("mean quality")
    figure.legend(loc="upper left", bbox_to_anchor=(0.12, 1.0), ncols=2, frameon=False, fontsize=10)
    return figure, tips


def render(found: Diagnosis, command: str) -> str:
    """The report as a string of HTML."""
    from markupsafe import Markup

    names = short_names(found.models, 32)
    styles = {
        of.strategy: STRATEGIES.get(of.strategy, OTHERS[0])
        for of in sorted(found.gains, key=lambda of: -of.gain.value)
    }
    listed = ", ".join(styles)
    title = f"AUCs of {listed}: now, refitted, and on perfect post-hoc and ex-ante estimates"
    with picture_style():
        wide = to_svg(*_named(ladder(found), "ladder", title))
        narrow = to_svg(*_named(ladder(found, narrow=True), "narrow", title))
        diagrams = {
            name: Markup(
                to_svg(
                    *_named(
                        diagram(found, k), f"diagram-{k}",
                        f"{plain(found.models[k])}: mean quality against estimated quality",
                    )
                )
            )
            for k, name in enumerate(names)
        }  # fmt: skip
    rungs = list(found.rungs)
    hull = upper_hull(found.single_cost, found.single_quality).tolist()
    costs = cost_texts(found.single_cost)
    return template("diagnosis.html").render(
        title="Are these estimates good enough?",
        headline=headline(found),
        reasons=reasons(found),
        # The pictures are built by an XML writer, which has escaped every name in them.
        picture=Markup(wide),
        narrow=Markup(narrow),
        diagrams=diagrams,
        palette=palette([*styles.values(), *_SIDE_STYLES.values()]),
        rungs=[_RUNGS[rung.name][2] for rung in rungs],
        as_independent=_RUNGS[REDUCED][2],
        gains=[
            {
                "strategy": name,
                "description": DESCRIPTIONS.get(name, ""),
                "color": f"var({css_variable(style[0])})",
                "gain": gain_text(gain.gain.value),
                "ends": _ends(gain.gain),
                "share": f"{gain.share:.0%}" if np.isfinite(gain.share) else "–",
                "answer": ANSWERS[gain.answer],
                "aucs": [quality_text(rung.auc[name].value) for rung in rungs],
            }
            for name, style in styles.items()
            if (gain := _gain(found, name)) is not None
        ],
        mixing=quality_text(found.mixing.value),
        oracle=quality_text(found.oracle.value),
        needs=[
            {
                "strategy": need.strategy,
                "side": SIDES[need.side],
                "now": _number(need.r2_now),
                "needed": _number(need.r2_needed) if need.share is not None else "out of reach",
                "differences": f"{_number(need.differences_now)} → "
                f"{_number(need.differences_needed)}",
                "share": "–" if need.share is None else f"{need.share:.0%}",
                "reached": gain_text((need.area_reached if need.share is not None else need.most)
                                     - need.area_now),
                "checked": gain_text(need.area_checked - need.area_now),
            }
            for need in found.needs
        ],
        target=f"{found.target:+g}",
        models=[
            {
                "name": plain(found.models[k]),
                "quality": quality_text(found.single_quality[k]),
                "cost": costs[k],
                "on_hull": k in hull,
                "sides": [_row(found, seen, k, side) for side, seen in _sides(found).items()],
                "stated": _number(found.moves.stated[k]),
                "found": _number(found.moves.found[k]),
                "ratio": _of(found.moves.ratio.value, found.moves.ratio.ends, k),
            }
            for k in range(len(names))
        ],
        names=names,
        matrices={
            "R2 of differences, ex-ante": _cells(found.ante.pairs),
            "R2 of differences, post-hoc": _cells(found.post.pairs),
            "Correlation of ex-ante errors": _cells(found.ante.errors),
            "Correlation of moves": _cells(found.moves.correlation),
        },
        confidence=f"{100 * found.confidence:.4g}%",
        resamples=f"{found.resamples:,}" if found.resamples else None,
        unit=plain(found.cost_unit),
        n_fit=f"{found.n_fit:,}",
        n_evaluate=f"{found.n_evaluate:,}",
        settings={plain(k): plain(v) for k, v in found.settings.items()},
        command=plain(command),
        versions=versions(),
        date=now(),
    )  # fmt: skip


def _named(
    drawn: tuple["Figure", dict[str, str]], prefix: str, title: str
) -> tuple["Figure", str, str, dict[str, str]]:
    return drawn[0], prefix, title, drawn[1]


def _row(found: Diagnosis, seen: Seen, k: int, side: str) -> dict[str, Any]:
    of, bins = seen.accuracy, seen.reliability[k]
    return {
        "side": SIDES[side],
        "color": f"var({css_variable(_SIDE_STYLES[side][0])})",
        "r2": _of(of.r2.value, of.r2.ends, k),
        "brier": quality_text(of.brier.value[k]),
        "prior": quality_text(of.prior_brier[k]),
        "parts": (
            f"{bins.reliability:.4f}", f"− {bins.resolution:.4f}", f"+ {bins.uncertainty:.4f}",
        ),
        "ece": _number(bins.ece),
        "limit": _number(bins.limit),
        "calibrated": "yes" if bins.calibrated else "no",
        "slope": _of(of.slope.value, of.slope.ends, k),
        "bias": gain_text(of.bias.value[k]),
        "outside": share_text(seen.outside[k]) if np.isfinite(seen.outside[k]) else "–",
    }  # fmt: skip


def _of(
    value: Float[np.ndarray, " K"], ends: Float[np.ndarray, "K 2"] | None, k: int
) -> tuple[str, str]:
    """A model's number, and its interval or nothing."""
    within = "" if ends is None else f"[{_number(ends[k, 0])}, {_number(ends[k, 1])}]"
    return _number(value[k]), within


def _cells(matrix: Float[np.ndarray, "K K"]) -> list[list[str]]:
    return [
        ["" if i == j else _number(value) for j, value in enumerate(row)]
        for i, row in enumerate(matrix.tolist())
    ]
