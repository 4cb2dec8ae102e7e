"""Views of a diagnosis: in words, as tables, as pictures and a page, and as files."""

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from rich.console import Console
from rich.text import Text

from cascjax.data.files import atomic_write
from cascjax.diagnosis import (
    NOW,
    PERFECT_ANTE,
    PERFECT_POST,
    REDUCED,
    REFITTED,
    Apart,
    Diagnosis,
    Gain,
    Need,
    SideAccuracy,
    Span,
    mean_known,
)
from cascjax.metrics import upper_hull
from cascjax.metrics.calibration import Measured, Reliability
from cascjax.report.html import now, palette, versions
from cascjax.report.pictures import (
    INK,
    OTHERS,
    css_variable,
    new_figure,
    picture_style,
    strategy_styles,
    to_svg,
)
from cascjax.report.study import finite
from cascjax.report.tables import Listing, RowStyle, each, template
from cascjax.strategies import STRATEGIES
from cascjax.words import (
    cost_texts,
    counted,
    gain_text,
    headed,
    listed,
    plain,
    quality_text,
    share_text,
    short_names,
)

# matplotlib and pandas take most of a second to import, so only the functions that use them do.
if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

SIDES = {"ante": "ex-ante", "post": "post-hoc"}

ANSWERS = {
    "pays": "pays",
    "undecided": "not distinguishable from the hull",
    "loses": "loses",
    "unknown": "no interval",
}
"""The values of `cascjax.diagnosis.Gain.answer`, in words."""

_SIDE_STYLES = {"ante": OTHERS[0], "post": OTHERS[2]}

_MARKERS = {
    NOW: ("o", 8.0, "now"),
    REDUCED: ("x", 7.0, "as independent"),
    REFITTED: ("|", 10.0, "refitted"),
    PERFECT_POST: ("^", 7.5, "perfect post-hoc"),
    PERFECT_ANTE: ("D", 6.5, "perfect ex-ante"),
}
"""Marker, size and label of each scenario."""

_SHORT = {REFITTED: "refit", PERFECT_POST: "post", PERFECT_ANTE: "ante"}
"""Headings of the scenarios in the short table."""

GAINS_NOTE = (
    "gain: AUC above mixing single models at random. AUC on better estimates: refit, these"
    " estimates refitted by least squares on the fit split; post, on estimates that know each"
    " answer's quality once it is seen; ante, on estimates that know all qualities before any model"
    " runs."
)
"""Explanation of the columns of the short table."""

MODELS_NOTE = (
    "R2: variance of quality explained. Brier: mean squared error, beside the error of the model's"
    " mean. ECE: expected calibration error, and what it stays below by chance. Slope: of quality"
    " on the estimate, 1 where calibrated. Bias: mean estimate less mean quality."
)
"""Explanation of the columns of the table of models."""

_ODD_SIGMA, _FORGOT, _CORRELATED = 0.1, 0.02, 0.2
"""Remarkable from here: relative error of sigma, R2 that post-hoc estimates lack, correlation."""


# In words.


def headline(found: Diagnosis) -> str:
    """Return the answer in a sentence or two."""
    paying = [gain for gain in found.gains if gain.answer == "pays"]
    best = max(paying, key=lambda gain: gain.gain.value) if paying else found.best
    apart = f"{_signed(best.gain)} of AUC"
    if paying:
        text = f"Yes, it pays: {best.strategy} lies {apart} above mixing single models at random"
        share = f", {best.share:.0%} of what an oracle would gain" if best.share >= 0 else ""
        return f"{text}{share}."
    lies = f"The best, {best.strategy}, lies {apart} from it."
    if found.answer == "undecided":
        return (
            "No, not with these estimates: no strategy is distinguishable from mixing single models"
            f" at random, which looks at nothing. {lies}"
        )
    if found.answer == "loses":
        return (
            "No: with these estimates every strategy does worse than mixing single models at"
            f" random. {lies}"
        )
    return (
        f"Not settled: without resamples of the"
        f" {counted(found.n_evaluate, 'query', 'queries')} no gain is distinguishable from chance."
        f" The best strategy, {best.strategy}, lies {apart} from mixing single models at random."
    )


def reasons(found: Diagnosis) -> list[str]:
    """Return the reasons and what to do about them, one finding per line."""
    lines = [
        *_routing(found), *_cascading(found), *_combined(found), _prize(found), *_refit(found),
        *_needed(found), _costs(found), *_warnings(found),
    ]  # fmt: skip
    return [line for line in lines if line]


def _best(found: Diagnosis, role: str) -> Gain | None:
    gains = [gain for gain in found.gains if gain.role == role]
    return max(gains, key=lambda gain: gain.gain.value, default=None)


def _routing(found: Diagnosis) -> list[str]:
    gain, side = _best(found, "routing"), found.ante
    if gain is None:
        return []
    alone = f"of each model's quality R2 {_number(mean_known(side.accuracy.r2.value))} on average"
    if gain.answer == "pays" and (side.differences.low or 0) < 0:
        # The order of queries is enough to route by; R2 measures the size of differences.
        return [
            f"Routing {_answered(gain)}: where the ex-ante estimates send queries to a more"
            " expensive model, whole groups of them perhaps, it is worth its price more often than"
            " elsewhere. They do not tell how far models differ on a single query: they explain"
            f" {_r2(side.differences)} of these differences, and {alone}."
        ]
    return [
        f"Routing {_answered(gain)}. It depends on how models differ on a query before any has run:"
        f" of those differences the ex-ante estimates explain {_r2(side.differences)}, and {alone}."
    ]


def _cascading(found: Diagnosis) -> list[str]:
    best, side = _best(found, "cascading"), found.post
    if best is None:
        return []
    return [
        f"Cascading, at best {best.strategy}, {_answered(best)}. It depends on estimates of an"
        " answer once it is seen: of each model's quality the post-hoc estimates explain R2"
        f" {_number(mean_known(side.accuracy.r2.value))} on average, of differences between models"
        f" {_r2(side.differences)}."
    ]


def _combined(found: Diagnosis) -> list[str]:
    lines = []
    if (apart := found.both_at_once) is not None:
        lines.append(
            f"Both at once, by {apart.strategy}, lies {_signed(apart.above)} from one of the two"
            f" alone, at best {apart.other}{_chance(apart.above)}."
        )
    if (apart := found.combined) is not None:
        name = apart.strategy.capitalize()
        if all(round(value or 0.0, 4) == 0 for value in apart.above):
            lines.append(f"{name} and {apart.other} have the same AUC, to the digits shown.")
        else:
            lines.append(
                f"{name} lies {_signed(apart.above)} from {apart.other}{_chance(apart.above)}."
            )
    return lines


def _prize(found: Diagnosis) -> str:
    reached, tops = found.best.gain.value + found.mixing.value, []
    for name in (PERFECT_POST, PERFECT_ANTE):
        best, span = _top(found, name)
        gain = gain_text(span.value - reached)
        tops.append(f"with {name} estimates {quality_text(span.value)} ({gain}, {best})")
    return (
        f"Best AUCs: mixing single models {quality_text(found.mixing.value)}, now"
        f" {quality_text(reached)}, {', '.join(tops)}, oracle {quality_text(found.oracle.value)}."
    )


def _top(found: Diagnosis, name: str) -> tuple[str, Span]:
    """Return the best strategy of a scenario, and its AUC."""
    scenario = found.scenario(name)
    assert scenario is not None
    return max(scenario.auc.items(), key=lambda item: item[1].value)


def _refit(found: Diagnosis) -> list[str]:
    best, _ = _top(found, REFITTED)
    scenario = found.scenario(REFITTED)
    assert scenario is not None
    above = scenario.above[best]
    if not _clear(above):
        return []
    advice = (
        "do that first, it needs no better estimator."
        if above.value > 0
        else "they are better left as they are."
    )
    return [
        "Refitting these very estimates by least squares on the fit split moves"
        f" {best} by {_signed(above)}: {advice}"
    ]


def _needed(found: Diagnosis) -> list[str]:
    """Return the accuracies needed of routing, and of the best strategy that was searched."""
    known = {need.strategy for need in found.needs}
    ranked = [gain for gain in _ranked(found) if gain.strategy in known]
    shown = [g.strategy for g in [*(g for g in ranked if g.role == "routing"), *ranked[:1]]]
    return [
        f"For {found.target:+g} of AUC, {name}: "
        + "; ".join(need_text(need) for need in found.needs if need.strategy == name)
        + "."
        for name in dict.fromkeys(shown)
    ]


def need_text(need: Need) -> str:
    """Return the accuracy that one side's estimates need, in words."""
    side = SIDES[need.side]
    if need.share is None:
        most = gain_text(max(0.0, need.most - need.auc_now))
        return f"no {side} accuracy alone is enough: the highest rise found is {most}"
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
        f"{differences} ({need.share:.0%} of the unexplained variance)"
    )


def _costs(found: Diagnosis) -> str:
    ratio = _cost_ratio(found)
    costs = f"The most expensive model costs {ratio:,.3g} times the cheapest. " if ratio else ""
    return (
        f"{costs}On {share_text(found.cheapest_suffices)} of the queries no model does better than"
        f" the cheapest, on {share_text(found.all_equal)} all do equally well; an oracle would gain"
        f" {gain_text(found.oracle.value - found.mixing.value)} over the hull, and no estimates"
        " can give more, except by chance."
    )


def _warnings(found: Diagnosis) -> list[str]:
    names, lines = short_names(found.models, 32), []
    for side, accuracy in _sides(found).items():
        off = [
            f"{names[k]} ({_number(bins.ece)}, chance makes up to {_number(bins.limit)})"
            for k, bins in enumerate(accuracy.reliability)
            if not bins.calibrated
        ]
        if off:
            lines.append(
                f"Not calibrated {SIDES[side]}, by expected calibration error: {listed(off)}."
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
            "The standard deviation stated differs from how far estimates move once models run:"
            f" {listed(odd)}."
        )
    scaled = [f"{g.strategy} by {g.sigma_scale:g}" for g in found.gains if g.sigma_scale != 1]
    if scaled:
        # Of an estimator of the caller's own no scale is recorded.
        best = found.settings.get("sigma_scale") == "auto"
        zero = any(gain.sigma_scale == 0 for gain in found.gains)
        lines.append(
            "Strategies use the stated standard deviations"
            f" {'times the factor that did best on the fit split' if best else 'scaled'}:"
            f" {listed(scaled)}{', 0 being as if estimates were certain' if zero else ''}."
        )
    apart = np.abs(np.triu(found.moves.correlation, 1))
    if np.nanmax(apart, initial=0) > _CORRELATED:
        i, j = np.unravel_index(np.nanargmax(apart), apart.shape)
        pair = (
            f"the moves of {names[int(i)]} and {names[int(j)]} correlate by"
            f" {found.moves.correlation[i, j]:+.2f}"
        )
        lines.append(
            f"Pandora assumes that the moves of models are independent; {pair}."
            if found.scenario(REDUCED) is None
            else "Pandora looks at models one by one, again after each answer; their moves are not"
            f" independent, {pair}, which cascade routing takes into account."
        )
    post, both = mean_known(found.post.accuracy.r2.value), mean_known(found.both_r2)
    if both - post > _FORGOT:
        lines.append(
            "Post-hoc estimates forget what ex-ante ones knew: refitted on both, their R2 would be"
            f" {_number(both)} rather than {_number(post)}."
        )
    if found.unsearched:
        lines.append(
            f"No accuracy needed was searched for {listed(found.unsearched)}: with"
            f" {len(found.models)} models it is slow to simulate, and pandora is close to it."
        )
    if found.settings.get("estimates") == "noisy":
        lines.append(
            "These estimates are the truth under simulated noise"
            f" ({plain(found.settings.get('noise', 'level not recorded'))}), not what one would"
            " have."
        )
    return lines + [f"Estimator: {plain(note).rstrip('.')}." for note in found.notes]


def _sides(found: Diagnosis) -> dict[str, SideAccuracy]:
    return {"ante": found.ante, "post": found.post}


def _cost_ratio(found: Diagnosis) -> float | None:
    low, high = float(found.single_cost.min()), float(found.single_cost.max())
    return finite(high / low) if low > 0 else None


def _answered(gain: Gain) -> str:
    words = {
        "pays": f"pays, {_signed(gain.gain)} over the hull",
        "loses": f"loses, {_signed(gain.gain)} against the hull",
        "undecided": f"is not distinguishable from the hull, {_signed(gain.gain)}",
        "unknown": f"is measured, {_signed(gain.gain)}",
    }
    return words[gain.answer]


def _signed(span: Span) -> str:
    return _with_ends(span, gain_text)


def _with_ends(span: Span, form: Callable[[float], str]) -> str:
    """Return a number and its interval, if there is one."""
    if span.low is None or span.high is None or np.isnan(span.low):
        return form(span.value)
    return f"{form(span.value)} [{form(span.low)}, {form(span.high)}]"


def _clear(span: Span) -> bool:
    return span.low is not None and span.high is not None and not span.low <= 0 <= span.high


def _chance(span: Span) -> str:
    return "" if span.low is None or _clear(span) else ", which may be chance"


def _r2(span: Span) -> str:
    chance = ", no more than chance" if span.low is not None and span.low <= 0 else ""
    return f"R2 {_with_ends(span, _number)}{chance}"


def _number(value: float) -> str:
    """Return two decimals, or three of a small number; a dash for none."""
    if not np.isfinite(value):
        return "–"
    return f"{value:.2f}" if abs(value) >= 0.095 or value == 0 else f"{value:.3f}"


# As tables.


def _listing(rows: Sequence[dict[str, Any]], **more: Any) -> Listing:
    """Return the listing of some rows; the first column holds the labels."""
    import pandas as pd

    frame = pd.DataFrame(rows)
    return Listing(frame.set_index(frame.columns[0]), **more)


def _ranked(found: Diagnosis) -> list[Gain]:
    return sorted(found.gains, key=lambda gain: -gain.gain.value)


def frame(found: Diagnosis) -> "DataFrame":
    """Return one row per strategy, in falling order of AUC."""
    rows = []
    for gain in _ranked(found):
        aucs = {s.name: s.auc[gain.strategy].value for s in found.scenarios}
        rows.append(
            {"strategy": gain.strategy, "AUC": aucs.pop(NOW), "gain": gain.gain.value,
             "low": gain.gain.low, "high": gain.gain.high, "share of oracle": gain.share,
             "answer": gain.answer, "sigma_scale": gain.sigma_scale} | aucs
        )  # fmt: skip
    return _listing(rows).frame


def summary(found: Diagnosis) -> Listing:
    """Return the short table: gains now, and AUCs on better estimates."""
    rows = []
    for gain in _ranked(found):
        aucs = {s.name: quality_text(s.auc[gain.strategy].value) for s in found.scenarios}
        row = {"strategy": gain.strategy, "AUC": aucs[NOW], "gain": gain_text(gain.gain.value)}
        if gain.gain.high is not None:
            # Intervals of all strategies at once reach as far below as above.
            row["±"] = quality_text(gain.gain.high - gain.gain.value)
        row |= {short: aucs[name] for name, short in _SHORT.items()}
        rows.append(row | {" ": "noise" if gain.answer == "undecided" else gain.answer})
    return _listing(rows, title=headline(found))


def models_listing(found: Diagnosis, width: int = 18, page: bool = False) -> Listing:
    """Return the accuracy of each model's estimates, one row per model and side.

    Args:
        found: the diagnosis.
        width: maximum length of a model's name.
        page: whether to add intervals and the columns that only a page has room for.
    """
    rows, styles = [], []
    for k, name in enumerate(short_names(found.models, width)):
        for side, estimates in _sides(found).items():
            a, bins, outside = estimates.accuracy, estimates.reliability[k], estimates.outside[k]
            rows.append({
                "model": f"{name}, {SIDES[side]}",
                "R2": _of_model(a.r2, k, page),
                "Brier": quality_text(a.brier.value[k]),
                "of mean": quality_text(a.prior_brier[k]),
                "ECE": _number(bins.ece),
                "below": _number(bins.limit),
                "slope": _of_model(a.slope, k, page),
                "bias": gain_text(a.bias.value[k]),
            } | ({
                "parts": f"{bins.reliability:.4f} − {bins.resolution:.4f}"
                         f" + {bins.uncertainty:.4f}",
                "calibrated": "yes" if bins.calibrated else "no",
                "outside 0 to 1": share_text(outside) if np.isfinite(outside) else "–",
            } if page else {}))  # fmt: skip
            color = f"var({css_variable(_SIDE_STYLES[side].light)})"
            styles.append(RowStyle(color=color, rule=k > 0 and side == "ante"))
    return _listing(rows, styles=styles)


def _of_model(measured: Measured, k: int, with_ends: bool = True) -> str:
    ends = measured.ends[k].tolist() if with_ends and measured.ends is not None else ()
    return _with_ends(Span(measured.value[k], *ends), _number)


def _gains_listing(found: Diagnosis) -> Listing:
    numbers = frame(found)
    formats = dict.fromkeys(numbers.columns, each(quality_text)) | {
        "answer": each(ANSWERS.__getitem__), "gain": each(gain_text), "low": each(_gain),
        "high": each(_gain), "share of oracle": each(lambda x: f"{x:.0%}" if x == x else "–"),
        "sigma_scale": each("{:g}".format),
    }  # fmt: skip
    styles = [
        RowStyle(
            color=f"var({css_variable(style.light)})",
            note=STRATEGIES[name].description if name in STRATEGIES else "",
        )
        for name, style in strategy_styles(numbers.index.tolist()).items()
    ]
    return Listing(numbers, formats, styles=styles)


def _gain(value: float | None) -> str:
    return "–" if value is None or value != value else gain_text(value)


def _needs_listing(found: Diagnosis) -> Listing:
    import pandas as pd

    numbers = pd.DataFrame([vars(need) for need in found.needs]).set_index("strategy")
    numbers = numbers.drop(columns="r2_needed_by_model").rename(
        columns=lambda c: c.replace("_", " ")
    )
    formats = dict.fromkeys(numbers.columns, each(_number)) | {
        name: each(quality_text) for name in numbers.columns if "auc" in name or name == "most"
    }
    share = each(lambda x: "out of reach" if x is None or x != x else f"{x:.0%}")
    return Listing(numbers, formats | {"side": each(SIDES.__getitem__), "share": share})


def _singles_listing(found: Diagnosis) -> Listing:
    hull, moves = upper_hull(found.single_cost, found.single_quality).tolist(), found.moves
    costs = cost_texts(found.single_cost)
    return _listing([
        {
            "model": plain(name),
            "mean quality": quality_text(found.single_quality[k]),
            headed("mean cost", found.cost_unit): costs[k],
            "on the hull": "yes" if k in hull else "no",
            "sigma stated": _number(moves.stated[k]),
            "measured": _number(moves.measured[k]),
            "ratio": _of_model(moves.ratio, k),
        }
        for k, name in enumerate(found.models)
    ])  # fmt: skip


def _matrix(matrix: Float[np.ndarray, "K K"], names: Sequence[str]) -> Listing:
    return _listing([
        {"model": names[i]}
        | {names[j]: "" if i == j else _number(x) for j, x in enumerate(row)}
        for i, row in enumerate(matrix)
    ])  # fmt: skip


def print_diagnosis(found: Diagnosis, console: Console) -> None:
    """Print the answer, what each strategy gains, how good the estimates are, and why."""
    console.print(Text(headline(found), style="bold"))
    for listing, note in ((summary(found), GAINS_NOTE), (models_listing(found), MODELS_NOTE)):
        for grid in listing.grids(console.width):
            console.print(grid)
        console.print(Text(note))
    for line in reasons(found):
        console.print(Text(f"- {line}"))


# As files.


def save(found: Diagnosis, folder: Path, command: str = "") -> Path:
    """Write diagnosis.json, reliability.parquet and report.html; an error leaves none of them.

    Args:
        found: the diagnosis.
        folder: an existing folder.
        command: the command line, for the record.

    Returns:
        The path of the report.

    Raises:
        CascjaxError: the folder cannot be written.
    """
    names = ("diagnosis.json", "reliability.parquet", "report.html")
    with ExitStack() as files:
        numbers, bins, page = (files.enter_context(atomic_write(folder / name)) for name in names)
        text = json.dumps(to_json(found), indent=2, allow_nan=False)
        numbers.write_text(text + "\n", encoding="utf-8")
        bins_frame(found).to_parquet(bins, index=False)
        page.write_text(render(found, command), encoding="utf-8")
    return folder / names[-1]


def to_json(found: Diagnosis) -> dict[str, Any]:
    """Return everything but the bins as JSON values; lists over models are in their order.

    A number with an interval is {"value", "low", "high"}, or {"value", "ends"} of lists over
    models; null stands for a number that does not exist.
    """
    return {
        "answer": found.answer,
        "headline": headline(found),
        "reasons": reasons(found),
        "cost_ratio": _cost_ratio(found),
    } | _jsonable(found)


def _jsonable(value: Any) -> Any:
    if isinstance(value, Span | Apart):
        return _jsonable(value._asdict())
    if is_dataclass(value):
        names = [field.name for field in fields(value)]
        if isinstance(value, Reliability):  # its bins are in a file of their own
            names = ["calibrated", *names[5:]]
        return {name: _jsonable(getattr(value, name)) for name in names}
    if isinstance(value, np.ndarray):
        return _jsonable(value.tolist())
    if isinstance(value, dict):
        return {name: _jsonable(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    return finite(value) if isinstance(value, float) else value


def bins_frame(found: Diagnosis) -> "DataFrame":
    """Return the bins of the reliability diagrams, one row per model, side and bin."""
    import pandas as pd

    columns = ("count", "estimate", "quality", "low", "high")
    return pd.concat([
        pd.DataFrame(
            {"model": name, "estimates": SIDES[side], "bin": np.arange(len(bins.count))}
            | {column: getattr(bins, column) for column in columns}
        )
        for k, name in enumerate(found.models)
        for side, bins in ((s, e.reliability[k]) for s, e in _sides(found).items())
    ])  # fmt: skip


# As pictures and a page.


def plot(found: Diagnosis, ax: "Axes | None" = None) -> "Axes":
    """Draw the AUCs of every strategy now and on better estimates, between hull and oracle."""
    if ax is None:
        import matplotlib.pyplot as plt

        ax = plt.subplots(figsize=(9, 1.7 + 0.5 * len(found.gains)), layout="constrained")[1]
    handles, _ = _draw_scenarios(found, ax)
    ax.legend(list(handles.values()), list(handles), bbox_to_anchor=(1, 1), frameon=False)
    return ax


def scenarios_figure(found: Diagnosis, narrow: bool = False) -> tuple["Figure", dict[str, str]]:
    """Return the picture of `plot` for the page, and the tooltip of each element by its id."""
    height = 1.7 + 0.62 * len(found.gains) + (0.5 if narrow else 0)
    figure = new_figure(5.4 if narrow else 11.0, height)
    axes = figure.subplots()
    top = 1 - (1.15 if narrow else 0.62) / height
    figure.subplots_adjust(left=0.27 if narrow else 0.14, right=0.97, top=top, bottom=0.62 / height)
    handles, tips = _draw_scenarios(found, axes)
    if narrow:
        axes.locator_params(axis="x", nbins=4)
    figure.legend(
        list(handles.values()), list(handles), loc="upper left", bbox_to_anchor=(0.01, 0.995),
        ncols=2 if narrow else len(handles), frameon=False, handlelength=2.0, columnspacing=1.4,
        fontsize=10,
    )  # fmt: skip
    return figure, tips


def _draw_scenarios(found: Diagnosis, axes: "Axes") -> tuple[dict[str, Any], dict[str, str]]:
    """Draw one row per strategy; return the legend's handles and the tooltips."""
    gains = _ranked(found)[::-1]
    soft, ink, tips = INK["soft"][0], INK["ink"][0], {}
    handles: dict[str, Any] = {}
    for name, span, dashes in (("hull", found.mixing, (0, (4, 3))), ("oracle", found.oracle, "-")):
        line = axes.axvline(span.value, color=soft, lw=1.4, ls=dashes, zorder=1.5)
        line.set_gid(f"tip-{name}")
        tips[f"tip-{name}"] = f"{name}: AUC {quality_text(span.value)}"
        handles["hull of single models" if name == "hull" else name] = line
    styles = strategy_styles([gain.strategy for gain in gains])
    for row, (name, style) in enumerate(styles.items()):
        color = style.light
        aucs = [scenario.auc[name].value for scenario in found.scenarios]
        axes.plot([min(aucs), max(aucs)], [row, row], color=color, lw=1.4, alpha=0.55, zorder=2)
        for scenario in found.scenarios:
            marker, size, label = _MARKERS[scenario.name]
            span, present = scenario.auc[name], scenario.name == NOW
            if present and span.low is not None:
                axes.plot(
                    [span.low, span.high], [row, row], color=color, lw=7, alpha=0.25,
                    solid_capstyle="butt", zorder=1.8,
                )  # fmt: skip
            look: dict[str, Any] = {"marker": marker, "ms": size, "mew": 1.6, "ls": "none"}
            paper = INK["paper"][0]
            (point,) = axes.plot(
                [span.value], [row], color=color, mfc=color if present else paper,
                zorder=4 if present else 3, **look,
            )  # fmt: skip
            gid = f"tip-{row}-{scenario.name.replace(' ', '-')}"
            point.set_gid(gid)
            tips[gid] = f"{name}, {label}: AUC {quality_text(span.value)}"
            if row == 0:
                mfc = ink if present else paper
                (handles[label],) = axes.plot([], [], color=ink, mfc=mfc, **look)
    axes.set_yticks(range(len(gains)), [gain.strategy for gain in gains])
    axes.tick_params(axis="y", length=0, labelcolor=ink)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.set_ylim(-0.6, len(gains) - 0.4)
    axes.margins(x=0.04)
    axes.set_xlabel("AUC: mean quality over the range of costs")
    return handles, tips


def diagram(found: Diagnosis, k: int) -> tuple["Figure", dict[str, str]]:
    """Return the reliability diagram of one model: mean quality against mean estimate by bin."""
    figure = new_figure(3.9, 3.6)
    axes = figure.subplots()
    figure.subplots_adjust(left=0.17, right=0.97, top=0.88, bottom=0.16)
    tips: dict[str, str] = {}
    for side, estimates in _sides(found).items():
        bins, style = estimates.reliability[k], _SIDE_STYLES[side]
        axes.vlines(
            bins.estimate, bins.low, bins.high, color=style.light, lw=1.6, alpha=0.5, zorder=2
        )
        (line,) = axes.plot(
            bins.estimate, bins.quality, color=style.light, marker=style.marker, ms=5, lw=1.2,
            label=SIDES[side], zorder=3,
        )  # fmt: skip
        line.set_gid(f"tip-{side}")
        tips[f"tip-{side}"] = f"{SIDES[side]}: expected calibration error {_number(bins.ece)}"
    arrays = [
        getattr(estimates.reliability[k], name)
        for estimates in _sides(found).values()
        for name in ("estimate", "quality", "low", "high")
    ]
    low, high = (float(end(np.concatenate(arrays))) for end in (np.nanmin, np.nanmax))
    pad = 0.04 * (high - low) or 0.05
    axes.plot([low, high], [low, high], color=INK["soft"][0], lw=1.0, ls=(0, (4, 3)), zorder=1.5)
    axes.set_xlim(low - pad, high + pad)
    axes.set_ylim(low - pad, high + pad)
    axes.set_xlabel("estimated quality")
    axes.set_ylabel("mean quality")
    figure.legend(loc="upper left", bbox_to_anchor=(0.12, 1.0), ncols=2, frameon=False, fontsize=10)
    return figure, tips


def render(found: Diagnosis, command: str = "") -> str:
    """Return the report as a string of HTML."""
    from markupsafe import Markup

    names = short_names(found.models, 32)
    ranked = [gain.strategy for gain in _ranked(found)]
    styles = strategy_styles(ranked).values()

    def svg(drawn: tuple["Figure", dict[str, str]], prefix: str, title: str) -> Markup:
        # The pictures are built by an XML writer, which has escaped every name in them.
        return Markup(to_svg(drawn[0], prefix, title, drawn[1]))

    title = f"AUCs of {', '.join(ranked)}: now, refitted, and on perfect estimates"
    with picture_style():
        wide, narrow = (
            svg(scenarios_figure(found, narrow), prefix, title)
            for prefix, narrow in (("wide", False), ("narrow", True))
        )
        diagrams = {
            name: svg(diagram(found, k), f"diagram-{k}",
                      f"{plain(found.models[k])}: mean quality against estimated quality")
            for k, name in enumerate(names)
        }  # fmt: skip
    return template("diagnosis.html").render(
        title="Are these estimates good enough?",
        headline=headline(found),
        reasons=reasons(found),
        picture=wide,
        narrow=narrow,
        diagrams=diagrams,
        palette=palette([*styles, *_SIDE_STYLES.values()]),
        as_independent=found.scenario(REDUCED) is not None,
        gains=_gains_listing(found),
        mixing=quality_text(found.mixing.value),
        oracle=quality_text(found.oracle.value),
        needs=_needs_listing(found) if found.needs else None,
        target=f"{found.target:+g}",
        accuracy=models_listing(found, 32, page=True),
        models=_singles_listing(found),
        matrices={
            "R2 of differences, ex-ante": _matrix(found.ante.pairs, names),
            "R2 of differences, post-hoc": _matrix(found.post.pairs, names),
            "Correlation of ex-ante errors": _matrix(found.ante.errors, names),
            "Correlation of moves": _matrix(found.moves.correlation, names),
        },
        confidence=f"{100 * found.confidence:.4g}%",
        resamples=f"{found.resamples:,}" if found.resamples else None,
        made={
            "fit rows": f"{found.n_fit:,}",
            "evaluation rows": f"{found.n_evaluate:,}",
            **{plain(k): plain(v) for k, v in found.settings.items()},
            **{f"{name} version": version for name, version in versions().items()},
            "date": now(),
        },
        command=plain(command),
    )
