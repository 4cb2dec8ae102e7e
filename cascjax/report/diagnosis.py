"""Views of a diagnosis: in words, as tables, as pictures and a page, and as files."""

import json
from collections.abc import Callable
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
from cascjax.metrics.calibration import Measured, Reliability
from cascjax.report.findings import finite, singles_listing
from cascjax.report.html import palette, record
from cascjax.report.pictures import (
    INK,
    OTHERS,
    css_variable,
    kind_of,
    mark,
    new_axes,
    new_figure,
    picture_style,
    strategy_styles,
    to_svg,
)
from cascjax.report.tables import Listing, RowStyle, each, simulated, simulation_note, template
from cascjax.words import (
    counted,
    gain_text,
    listed,
    percent_text,
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


# ---- sentences


def headline(result: Diagnosis) -> str:
    """Return the answer in a sentence or two."""
    paying = [gain for gain in result.gains if gain.answer == "pays"]
    best = max(paying, key=lambda gain: gain.gain.value) if paying else result.best
    apart = f"{_signed(best.gain)} of AUC"
    lies = f"The best, {best.strategy}, lies {apart} from it."
    share = f", {best.share:.0%} of what an oracle would gain" if best.share >= 0 else ""
    return {
        "pays": f"Yes, it pays: {best.strategy} lies {apart} above mixing single models at"
        f" random{share}.",
        "undecided": "No, not with these estimates: no strategy is distinguishable from mixing"
        f" single models at random, which looks at nothing. {lies}",
        "loses": "No: with these estimates every strategy does worse than mixing single models at"
        f" random. {lies}",
        "unknown": "Not settled: without resamples of the"
        f" {counted(result.n_evaluate, 'query', 'queries')} no gain is distinguishable from"
        f" chance. The best strategy, {best.strategy}, lies {apart} from mixing single models at"
        " random.",
    }[result.answer]


def reasons(result: Diagnosis) -> list[str]:
    """Return the reasons and what to do about them, one finding per line."""
    return [
        *_routing(result), *_cascading(result), *_combined(result), _prize(result),
        *_refit(result), *_needed(result), _costs(result), *_warnings(result),
    ]  # fmt: skip


def _best(result: Diagnosis, role: str) -> Gain | None:
    return next((gain for gain in _ranked(result) if gain.role == role), None)


def _routing(result: Diagnosis) -> list[str]:
    gain, side = _best(result, "routing"), result.ante
    if gain is None:
        return []
    alone = f"of each model's quality {_mean_r2(side)} on average"
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


def _cascading(result: Diagnosis) -> list[str]:
    best, side = _best(result, "cascading"), result.post
    if best is None:
        return []
    return [
        f"Cascading, at best {best.strategy}, {_answered(best)}. It depends on estimates of an"
        " answer once it is seen: of each model's quality the post-hoc estimates explain"
        f" {_mean_r2(side)} on average, of differences between models {_r2(side.differences)}."
    ]


def _combined(result: Diagnosis) -> list[str]:
    lines = []
    if (apart := result.both_at_once) is not None:
        lines.append(
            f"Both at once, by {apart.strategy}, lies {_signed(apart.above)} from one of the two"
            f" alone, at best {apart.other}{_chance(apart.above)}."
        )
    if (apart := result.combined) is not None:
        name = apart.strategy.capitalize()
        if all(round(value or 0.0, 4) == 0 for value in apart.above):
            lines.append(f"{name} and {apart.other} have the same AUC, to the digits shown.")
        else:
            lines.append(
                f"{name} lies {_signed(apart.above)} from {apart.other}{_chance(apart.above)}."
            )
    return lines


def _prize(result: Diagnosis) -> str:
    reached, tops = result.best.gain.value + result.mixing.value, []
    for name in (PERFECT_POST, PERFECT_ANTE):
        best, value, _ = _top(result, name)
        gain = gain_text(value - reached)
        tops.append(f"with {name} estimates {quality_text(value)} ({gain}, {best})")
    return (
        f"Best AUCs: mixing single models {quality_text(result.mixing.value)}, now"
        f" {quality_text(reached)}, {', '.join(tops)}, oracle {quality_text(result.oracle.value)}."
    )


def _top(result: Diagnosis, name: str) -> tuple[str, float, Span]:
    """Return the best strategy of a scenario, its AUC, and how far it lies above its AUC now."""
    scenario = result.scenario(name)
    assert scenario is not None
    best = max(scenario.auc, key=lambda strategy: scenario.auc[strategy].value)
    return best, scenario.auc[best].value, scenario.above[best]


def _refit(result: Diagnosis) -> list[str]:
    best, _, above = _top(result, REFITTED)
    if not _clear(above):
        return []
    advice = "they are better left as they are."
    if above.value > 0:
        advice = "do that first, it needs no better estimator."
    return [
        "Refitting these very estimates by least squares on the fit split moves"
        f" {best} by {_signed(above)}: {advice}"
    ]


def _needed(result: Diagnosis) -> list[str]:
    """Return the accuracies needed of routing, and of the best strategy that was searched."""
    needs: dict[str, list[str]] = {}
    for need in result.needs:
        needs.setdefault(need.strategy, []).append(need_text(need))
    ranked = [gain for gain in _ranked(result) if gain.strategy in needs]
    reported = [*(gain for gain in ranked if gain.role == "routing"), *ranked[:1]]
    return [
        f"For {result.target:+g} of AUC, {name}: {'; '.join(needs[name])}."
        for name in dict.fromkeys(gain.strategy for gain in reported)
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
    now, needed = _number(need.r2_now), _number(need.r2_needed)
    if need.r2_needed <= need.r2_now or now == needed:
        # Of few queries, or where estimates are worse than a mean, noise is enough.
        return f"no rise of {side} R2 is needed: R2 {now} already suffices"
    differences = ""
    if need.side == "ante" and need.differences_needed > need.differences_now:
        ends = f"{_number(need.differences_now)} to {_number(need.differences_needed)}"
        differences = f", of differences between models from {ends}"
    return (
        f"{side} R2 must rise from {now} to {needed} on average"
        f"{differences} ({need.share:.0%} of the unexplained variance)"
    )


def _costs(result: Diagnosis) -> str:
    ratio = _cost_ratio(result)
    costs = f"The most expensive model costs {ratio:,.3g} times the cheapest. " if ratio else ""
    return (
        f"{costs}On {share_text(result.cheapest_suffices)} of the queries no model does better than"
        f" the cheapest, on {share_text(result.all_equal)} all do equally well; an oracle would"
        f" gain {gain_text(result.oracle.value - result.mixing.value)} over the hull, and no"
        " estimates can give more, except by chance."
    )


def _warnings(result: Diagnosis) -> list[str]:
    names, lines = short_names(result.models, 32), []
    for side, accuracy in _sides(result).items():
        off = [
            f"{name} ({_number(bins.ece)}, chance makes up to {_number(bins.limit)})"
            for name, bins in zip(names, accuracy.reliability, strict=True)
            if not bins.calibrated
        ]
        if off:
            lines.append(
                f"Not calibrated {SIDES[side]}, by expected calibration error: {listed(off)}."
                " Where the diagrams bend, refit with a curve, such as isotonic regression."
            )
    spans = [_span(result.moves.ratio, k) for k in range(len(names))]
    odd = [
        f"{name} ({span.value:.2f} times)"
        for name, span in zip(names, spans, strict=True)
        if abs(span.value - 1) > _ODD_SIGMA
        and (span.low is None or span.high is None or not span.low <= 1 <= span.high)
    ]
    if odd:
        lines.append(
            "The standard deviation stated differs from how far estimates move once models run:"
            f" {listed(odd)}."
        )
    scaled = [f"{g.strategy} by {g.sigma_scale:g}" for g in result.gains if g.sigma_scale != 1]
    if scaled:
        # Of an estimator of the caller's own no scale is recorded.
        best = result.settings.get("sigma_scale") == "auto"
        zero = any(gain.sigma_scale == 0 for gain in result.gains)
        lines.append(
            "Strategies use the stated standard deviations"
            f" {'times the factor that did best on the fit split' if best else 'scaled'}:"
            f" {listed(scaled)}{', 0 being as if estimates were certain' if zero else ''}."
        )
    correlation = result.moves.correlation
    apart = np.abs(np.triu(correlation, 1))
    if np.nanmax(apart, initial=0) > _CORRELATED:
        i, j = map(int, np.unravel_index(np.nanargmax(apart), apart.shape))
        pair = f"the moves of {names[i]} and {names[j]} correlate by {correlation[i, j]:+.2f}"
        lines.append(
            f"Pandora assumes that the moves of models are independent; {pair}."
            if result.scenario(REDUCED) is None
            else "Pandora looks at models one by one, again after each answer; their moves are not"
            f" independent, {pair}, which cascade routing takes into account."
        )
    post, both = mean_known(result.post.accuracy.r2.value), mean_known(result.both_r2)
    if both - post > _FORGOT:
        lines.append(
            "Post-hoc estimates forget what ex-ante ones knew: refitted on both, their R2 would be"
            f" {_number(both)} rather than {_number(post)}."
        )
    if result.unsearched:
        lines.append(
            f"No accuracy needed was searched for {listed(result.unsearched)}: with"
            f" {len(names)} models it is slow to simulate, and pandora is close to it."
        )
    return lines + [f"Estimator: {plain(note).rstrip('.')}." for note in result.notes]


def _sides(result: Diagnosis) -> dict[str, SideAccuracy]:
    return {"ante": result.ante, "post": result.post}


def _cost_ratio(result: Diagnosis) -> float | None:
    low, high = float(result.single_cost.min()), float(result.single_cost.max())
    return finite(high / low) if low > 0 else None


def _answered(gain: Gain) -> str:
    above = _signed(gain.gain)
    return {
        "pays": f"pays, {above} over the hull",
        "loses": f"loses, {above} against the hull",
        "undecided": f"is not distinguishable from the hull, {above}",
        "unknown": f"is measured, {above}",
    }[gain.answer]


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


def _mean_r2(side: SideAccuracy) -> str:
    return f"R2 {_number(mean_known(side.accuracy.r2.value))}"


def _number(value: float) -> str:
    """Return two decimals, or three of a small number; a dash for none."""
    if not np.isfinite(value):
        return "–"
    return f"{value:.2f}" if abs(value) >= 0.095 or value == 0 else f"{value:.3f}"


def _span(measured: Measured, k: int) -> Span:
    """Return the score of one model."""
    ends = () if measured.ends is None else measured.ends[k].tolist()
    return Span(measured.value[k], *ends)


# ---- tables


def _ranked(result: Diagnosis) -> list[Gain]:
    return sorted(result.gains, key=lambda gain: -gain.gain.value)


def frame(result: Diagnosis) -> "DataFrame":
    """Return one row per strategy, in falling order of AUC."""
    import pandas as pd

    rows = []
    for gain in _ranked(result):
        aucs = {s.name: s.auc[gain.strategy].value for s in result.scenarios}
        rows.append(
            {"strategy": gain.strategy, "AUC": aucs.pop(NOW), "gain": gain.gain.value,
             "low": gain.gain.low, "high": gain.gain.high, "share of oracle": gain.share,
             "answer": gain.answer, "sigma_scale": gain.sigma_scale} | aucs
        )  # fmt: skip
    return pd.DataFrame(rows).set_index("strategy").astype({"low": float, "high": float})


def summary(result: Diagnosis) -> Listing:
    """Return the short table: gains now, and AUCs on better estimates."""
    numbers: Any = frame(result)
    if numbers["high"].notna().any():
        # Intervals of all strategies at once reach as far below as above.
        numbers.insert(2, "±", numbers["high"] - numbers["gain"])
    renamed = {REFITTED: "refit", PERFECT_POST: "post", PERFECT_ANTE: "ante", "answer": " "}
    columns = [name for name in ("AUC", "gain", "±", *renamed) if name in numbers]
    formats = dict.fromkeys(["AUC", "±", *renamed.values()], each(quality_text))
    formats |= {"gain": each(gain_text), " ": each(lambda x: "noise" if x == "undecided" else x)}
    words = simulated(result.settings)
    title = f"{words.capitalize()}. {headline(result)}" if words else headline(result)
    return Listing(numbers[columns].rename(columns=renamed), formats, title)


def models_listing(result: Diagnosis, width: int = 18, page: bool = False) -> Listing:
    """Return the accuracy of each model's estimates, one row per model and side.

    Names are cut to the width; a page has room for intervals and more columns.
    """
    import pandas as pd

    rows, styles = [], []
    for k, name in enumerate(short_names(result.models, width)):
        for side, estimates in _sides(result).items():
            a, bins, outside = estimates.accuracy, estimates.reliability[k], estimates.outside[k]
            r2, slope = _span(a.r2, k), _span(a.slope, k)
            row = {
                "model": f"{name}, {SIDES[side]}",
                "R2": _with_ends(r2, _number) if page else _number(r2.value),
                "Brier": quality_text(a.brier.value[k]),
                "of mean": quality_text(a.prior_brier[k]),
                "ECE": _number(bins.ece),
                "below": _number(bins.limit),
                "slope": _with_ends(slope, _number) if page else _number(slope.value),
                "bias": gain_text(a.bias.value[k]),
            }
            if page:
                parts = f"{bins.reliability:.4f} − {bins.resolution:.4f} + {bins.uncertainty:.4f}"
                row |= {"parts": parts, "calibrated": "yes" if bins.calibrated else "no"}
                row["outside 0 to 1"] = share_text(outside) if np.isfinite(outside) else "–"
            rows.append(row)
            color = f"var({css_variable(_SIDE_STYLES[side].light)})"
            styles.append(RowStyle(color=color, rule=k > 0 and side == "ante"))
    return Listing(pd.DataFrame(rows).set_index("model"), styles=styles)


def _gains_listing(result: Diagnosis) -> Listing:
    numbers = frame(result)
    formats = dict.fromkeys(numbers.columns, each(quality_text))
    formats |= dict.fromkeys(["gain", "low", "high"], each(gain_text))
    formats |= {"answer": each(ANSWERS.__getitem__), "sigma_scale": each("{:g}".format)}
    formats["share of oracle"] = each(lambda x: f"{x:.0%}" if x == x else "–")
    styles = [
        RowStyle(color=f"var({css_variable(style.light)})", note=kind_of(name).description)
        for name, style in strategy_styles(numbers.index.tolist()).items()
    ]
    return Listing(numbers, formats, styles=styles)


def _needs_listing(result: Diagnosis) -> Listing:
    import pandas as pd

    numbers = pd.DataFrame([vars(need) for need in result.needs]).set_index("strategy")
    numbers = numbers.drop(columns="r2_needed_by_model").astype({"share": float})
    numbers.columns = [name.replace("_", " ") for name in numbers.columns]
    formats = {
        name: each(quality_text if "auc" in name or name == "most" else _number)
        for name in numbers.columns
    }
    share = each(lambda x: f"{x:.0%}" if x == x else "out of reach")
    return Listing(numbers, formats | {"side": each(SIDES.__getitem__), "share": share})


def _singles_listing(result: Diagnosis) -> Listing:
    alone, moves = singles_listing(result), result.moves
    spans = [_span(moves.ratio, k) for k in range(len(result.models))]
    sigmas = {"sigma stated": moves.stated, "measured": moves.measured}
    ratio = {"ratio": [_with_ends(span, _number) for span in spans]}
    formats = {**alone.formats, **dict.fromkeys(sigmas, each(_number))}
    return Listing(alone.frame.assign(**sigmas, **ratio), formats)


def _matrix(matrix: Float[np.ndarray, "K K"], names: list[str]) -> Listing:
    import pandas as pd

    texts = np.array([[_number(x) for x in row] for row in matrix], object)
    np.fill_diagonal(texts, "")
    return Listing(pd.DataFrame(texts, index=pd.Index(names, name="model"), columns=names))


def print_diagnosis(result: Diagnosis, console: Console) -> None:
    """Print the answer, what each strategy gains, how good the estimates are, and why."""
    if note := simulation_note(result.settings):
        console.print(Text(note))
    console.print(Text(headline(result), style="bold"))
    for listing, note in ((summary(result), GAINS_NOTE), (models_listing(result), MODELS_NOTE)):
        console.print(*listing.grids(console.width), Text(note), sep="\n")
    for line in reasons(result):
        console.print(Text(f"- {line}"))


# ---- files


def save(result: Diagnosis, folder: Path, command: str = "") -> Path:
    """Write diagnosis.json, reliability.parquet and report.html, and return the report's path.

    The folder must exist; an error leaves none of them.
    """
    names = ("diagnosis.json", "reliability.parquet", "report.html")
    with ExitStack() as files:
        numbers, bins, page = (files.enter_context(atomic_write(folder / name)) for name in names)
        text = json.dumps(to_json(result), indent=2, allow_nan=False)
        numbers.write_text(text + "\n", encoding="utf-8")
        bins_frame(result).to_parquet(bins, index=False)
        page.write_text(render(result, command), encoding="utf-8")
    return folder / names[-1]


def to_json(result: Diagnosis) -> dict[str, Any]:
    """Return everything but the bins as JSON values; lists over models are in their order.

    A number with an interval is {"value", "low", "high"}, or {"value", "ends"} of lists over
    models; null stands for a number that does not exist.
    """
    return {
        "answer": result.answer,
        "headline": headline(result),
        "reasons": reasons(result),
        "cost_ratio": _cost_ratio(result),
    } | _jsonable(result)


def _jsonable(value: Any) -> Any:
    if isinstance(value, Span | Apart):
        return _jsonable(value._asdict())
    if is_dataclass(value):
        names = [field.name for field in fields(value)]
        if isinstance(value, Reliability):  # its bins are in a file of their own
            names = ["calibrated", *names[5:]]
        return {name: _jsonable(getattr(value, name)) for name in names}
    if isinstance(value, dict):
        return {name: _jsonable(item) for name, item in value.items()}
    if isinstance(value, np.ndarray):
        return _jsonable(value.tolist())
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    return finite(value) if isinstance(value, float) else value


def bins_frame(result: Diagnosis) -> "DataFrame":
    """Return the bins of the reliability diagrams, one row per model, side and bin."""
    import pandas as pd

    columns = ("count", "estimate", "quality", "low", "high")
    blocks = []
    for k, name in enumerate(result.models):
        for side, estimates in _sides(result).items():
            bins = estimates.reliability[k]
            block = pd.DataFrame({column: getattr(bins, column) for column in columns})
            labels = {"model": name, "estimates": SIDES[side], "bin": np.arange(len(block))}
            blocks.append(block.assign(**labels)[[*labels, *columns]])
    return pd.concat(blocks)


# ---- pictures and the page


def plot(result: Diagnosis, ax: "Axes | None" = None) -> "Axes":
    """Draw the AUCs of every strategy now and on better estimates, between hull and oracle."""
    ax = new_axes(1.7 + 0.5 * len(result.gains)) if ax is None else ax
    handles = _draw_scenarios(result, ax)
    ax.legend(handles=handles, bbox_to_anchor=(1, 1), frameon=False)
    return ax


def scenarios_figure(result: Diagnosis, narrow: bool = False) -> "Figure":
    """Return the picture of `plot` for the page; `narrow` for phones."""
    height = 1.7 + 0.62 * len(result.gains) + (0.5 if narrow else 0)
    figure = new_figure(5.4 if narrow else 11.0, height)
    axes = figure.subplots()
    top = 1 - (1.15 if narrow else 0.62) / height
    figure.subplots_adjust(left=0.27 if narrow else 0.14, right=0.97, top=top, bottom=0.62 / height)
    handles = _draw_scenarios(result, axes)
    if narrow:
        axes.locator_params(axis="x", nbins=4)
    figure.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(0.01, 0.995), frameon=False,
        ncols=2 if narrow else len(handles), handlelength=2.0, columnspacing=1.4, fontsize=10,
    )  # fmt: skip
    return figure


def _draw_scenarios(result: Diagnosis, axes: "Axes") -> list[Any]:
    """Draw one row per strategy; return the legend's handles."""
    names = [gain.strategy for gain in _ranked(result)[::-1]]
    soft, ink, paper = (INK[name][0] for name in ("soft", "ink", "paper"))
    hull, oracle = (
        axes.axvline(span.value, color=soft, lw=1.4, ls=dashes, zorder=1.5, label=label)
        for span, dashes, label in (
            (result.mixing, (0, (4, 3)), "hull of single models"), (result.oracle, "-", "oracle"),
        )
    )  # fmt: skip
    mark(hull, f"hull: AUC {quality_text(result.mixing.value)}")
    mark(oracle, f"oracle: AUC {quality_text(result.oracle.value)}")
    for row, (name, style) in enumerate(strategy_styles(names).items()):
        spans = {scenario.name: scenario.auc[name] for scenario in result.scenarios}
        color, now = style.light, spans[NOW]
        ends = [end([span.value for span in spans.values()]) for end in (min, max)]
        axes.plot(ends, [row, row], color=color, lw=1.4, alpha=0.55, zorder=2)
        if now.low is not None and now.high is not None:
            bar = {"lw": 7, "alpha": 0.25, "solid_capstyle": "butt", "zorder": 1.8}
            axes.plot([now.low, now.high], [row, row], color=color, **bar)
        for scenario, span in spans.items():
            marker, size, label = _MARKERS[scenario]
            fill, order = (color, 4) if scenario == NOW else (paper, 3)
            (point,) = axes.plot(
                [span.value], [row], color=color, mfc=fill, zorder=order, marker=marker, ms=size,
                mew=1.6, ls="none",
            )  # fmt: skip
            mark(point, f"{name}, {label}: AUC {quality_text(span.value)}")
    handles = [hull, oracle]
    for scenario in result.scenarios:
        marker, size, label = _MARKERS[scenario.name]
        look = {"marker": marker, "ms": size, "mew": 1.6, "ls": "none", "label": label}
        fill = ink if scenario.name == NOW else paper
        handles += axes.plot([], [], color=ink, mfc=fill, **look)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0, labelcolor=ink)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.margins(x=0.04)
    axes.set_xlabel("AUC: mean quality over the range of costs")
    return handles


def diagram(result: Diagnosis, k: int) -> "Figure":
    """Return the reliability diagram of one model: mean quality against mean estimate by bin."""
    figure = new_figure(3.9, 3.6)
    axes = figure.subplots()
    figure.subplots_adjust(left=0.17, right=0.97, top=0.88, bottom=0.16)
    values = []
    for side, estimates in _sides(result).items():
        bins, style = estimates.reliability[k], _SIDE_STYLES[side]
        values += [bins.estimate, bins.quality, bins.low, bins.high]
        axes.vlines(
            bins.estimate, bins.low, bins.high, color=style.light, lw=1.6, alpha=0.5, zorder=2
        )
        (line,) = axes.plot(
            bins.estimate, bins.quality, color=style.light, marker=style.marker, ms=5, lw=1.2,
            label=SIDES[side], zorder=3,
        )  # fmt: skip
        mark(line, f"{SIDES[side]}: expected calibration error {_number(bins.ece)}")
    low, high = (float(end(np.concatenate(values))) for end in (np.nanmin, np.nanmax))
    pad = 0.04 * (high - low) or 0.05
    axes.plot([low, high], [low, high], color=INK["soft"][0], lw=1.0, ls=(0, (4, 3)), zorder=1.5)
    axes.set(xlim=(low - pad, high + pad), ylim=(low - pad, high + pad))
    axes.set(xlabel="estimated quality", ylabel="mean quality")
    figure.legend(loc="upper left", bbox_to_anchor=(0.12, 1.0), ncols=2, frameon=False, fontsize=10)
    return figure


def render(result: Diagnosis, command: str = "") -> str:
    """Return the report as a string of HTML."""
    from markupsafe import Markup

    names = short_names(result.models, 32)
    ranked = [gain.strategy for gain in _ranked(result)]
    title = f"AUCs of {', '.join(ranked)}: now, refitted, and on perfect estimates"
    # The pictures are built by an XML writer, which has escaped every name in them.
    with picture_style():
        wide, narrow = (
            Markup(to_svg(scenarios_figure(result, is_narrow), prefix, title))
            for prefix, is_narrow in (("wide", False), ("narrow", True))
        )
        diagrams = {}
        for k, name in enumerate(names):
            title = f"{plain(result.models[k])}: mean quality against estimated quality"
            diagrams[name] = Markup(to_svg(diagram(result, k), f"diagram-{k}", title))
    return template("diagnosis.html").render(
        title="Are these estimates good enough?",
        headline=headline(result),
        simulation=simulation_note(result.settings),
        reasons=reasons(result),
        picture=wide,
        narrow=narrow,
        diagrams=diagrams,
        palette=palette([*strategy_styles(ranked).values(), *_SIDE_STYLES.values()]),
        as_independent=result.scenario(REDUCED) is not None,
        gains=_gains_listing(result),
        mixing=quality_text(result.mixing.value),
        oracle=quality_text(result.oracle.value),
        needs=_needs_listing(result) if result.needs else None,
        target=f"{result.target:+g}",
        accuracy=models_listing(result, 32, page=True),
        models=_singles_listing(result),
        matrices={
            "R2 of differences, ex-ante": _matrix(result.ante.pairs, names),
            "R2 of differences, post-hoc": _matrix(result.post.pairs, names),
            "Correlation of ex-ante errors": _matrix(result.ante.errors, names),
            "Correlation of moves": _matrix(result.moves.correlation, names),
        },
        confidence=percent_text(result.confidence),
        resamples=f"{result.resamples:,}" if result.resamples else None,
        made=record(result),
        command=plain(command),
    )
