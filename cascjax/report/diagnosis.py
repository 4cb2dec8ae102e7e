"""Views of a diagnosis: in words, as tables, as a page, and as files."""

import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import fields, is_dataclass, replace
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
from cascjax.plots import SIDE_STYLES, kind_of, strategy_styles
from cascjax.plots import plot_scenarios as plot
from cascjax.report import page
from cascjax.report.charts import reliability_chart, scenarios_chart
from cascjax.report.findings import finite, singles_listing
from cascjax.report.page import Part, Tile
from cascjax.report.tables import Listing, RowStyle, each, simulated, simulation_note, swatch
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

# pandas takes long to import, and is wanted only where a table is made.
if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["frame", "plot", "render", "save", "summary"]

SIDES = {"ante": "ex-ante", "post": "post-hoc"}

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
    """Return what the answer depends on, and what is odd, one finding per line."""
    return [*_roles(result), *_combined(result), _costs(result), *_warnings(result)]


def _roles(result: Diagnosis) -> list[str]:
    """Return what the best strategies that route and that cascade gain, and from which accuracy."""
    best = {gain.role: gain for gain in _ranked(result)[::-1]}
    lines = []
    if (gain := best.get("routing")) is not None:
        differences = _r2(result.ante.differences)
        alone = f"of each model's quality {_mean_r2(result.ante)} on average"
        if gain.answer == "pays" and (result.ante.differences.low or 0) < 0:
            # The order of queries is enough to route by; R2 measures the size of differences.
            why = (
                ": where the ex-ante estimates send queries to a more expensive model, whole groups"
                " of them perhaps, it is worth its price more often than elsewhere. They do not"
                f" tell how far models differ on a single query: they explain {differences} of"
                f" these differences, and {alone}."
            )
        else:
            why = (
                ". It depends on how models differ on a query before any has run: of those"
                f" differences the ex-ante estimates explain {differences}, and {alone}."
            )
        lines.append(f"Routing {_answered(gain)}{why}")
    if (gain := best.get("cascading")) is not None:
        lines.append(
            f"Cascading, at best {gain.strategy}, {_answered(gain)}. It depends on estimates of an"
            " answer once it is seen: of each model's quality the post-hoc estimates explain"
            f" {_mean_r2(result.post)} on average, of differences between models"
            f" {_r2(result.post.differences)}."
        )
    return lines


def _combined(result: Diagnosis) -> list[str]:
    lines = []
    for apart in filter(None, (result.both_at_once, result.combined)):
        name = apart.strategy.capitalize()
        text = f"{name} lies {_signed(apart.above)} from {apart.other}."
        if all(round(value or 0.0, 3) == 0 for value in apart.above):
            text = f"{name} and {apart.other} have the same AUC, to the digits shown."
        elif apart.above.low is not None and not _clear(apart.above):
            text = f"{text[:-1]}, which may be chance."
        lines.append(text)
    return list(dict.fromkeys(lines))


def _top(result: Diagnosis, name: str) -> tuple[str, float, Span]:
    """Return the best strategy of a scenario, its AUC, and how far it lies above its AUC now."""
    scenario = result.scenario(name)
    assert scenario is not None
    best = max(scenario.auc, key=lambda strategy: scenario.auc[strategy].value)
    return best, scenario.auc[best].value, scenario.above[best]


def actions(result: Diagnosis) -> list[tuple[str, str, str]]:
    """Return the three actions of highest expected gain of AUC: what, the gain, and why."""
    best, ranked = result.best, []
    now = best.gain.value + result.mixing.value
    if best.answer == "pays":
        why = "Its gain over mixing single models at random, on the estimates as they are."
        ranked.append((best.gain.value, f"Deploy {best.strategy}.", _signed(best.gain), why))
    name, value, above = _top(result, REFITTED)
    if value > now and (above.low is None or above.low > 0):
        why = f"By least squares on the fit split, then {name}; it needs no better estimator."
        ranked.append((value - now, "Refit the estimates.", _gain(value - now), why))
    for side, scenario in (("post", PERFECT_POST), ("ante", PERFECT_ANTE)):
        name, value, _ = _top(result, scenario)
        why = f"The most that perfect ones would add, with {name}."
        for need in result.needs:
            if need.side == side and need.strategy == name:
                why += f" For {result.target:+g}: {need_text(need)}."
        gain = f"up to {_gain(value - now)}"
        if value > now:
            ranked.append((value - now, f"Improve the {SIDES[side]} estimates.", gain, why))
    return [action[1:] for action in sorted(ranked, reverse=True)[:3]]


def need_text(need: Need) -> str:
    """Return the accuracy that one side's estimates need, in words."""
    side, now, needed = SIDES[need.side], _number(need.r2_now), _number(need.r2_needed)
    if need.share is None:
        most = _gain(max(0.0, need.most - need.auc_now))
        return f"no {side} accuracy alone is enough: the highest rise found is {most}"
    if need.share == 0:
        return (
            f"refitting the {side} estimates by least squares is enough (R2 {now} as they are,"
            f" {_number(need.r2_refitted)} refitted)"
        )
    if need.r2_needed <= need.r2_now or now == needed:
        # Of few queries, or where estimates are worse than a mean, noise alone does it.
        return f"how far {side} R2 would have to rise from {now} these queries cannot tell"
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
        f" gain {_gain(result.oracle.value - result.mixing.value)} over the hull, and no"
        " estimates can give more, except by chance."
    )


def _warnings(result: Diagnosis) -> list[str]:
    names, lines = short_names(result.models, 32), []
    for side, accuracy in _sides(result).items():
        bins = zip(names, accuracy.reliability, strict=True)
        if off := [f"{name} ({_number(b.ece)})" for name, b in bins if not b.calibrated]:
            lines.append(
                f"Not calibrated {SIDES[side]}, by expected calibration error: {listed(off)}."
                " Where the diagrams bend, refit with a curve, such as isotonic regression."
            )
    odd = []
    for k, name in enumerate(names):
        value, low, high = _span(result.moves.ratio, k)
        if abs(value - 1) > _ODD_SIGMA and not (low is not None and low <= 1 <= (high or 0)):
            odd.append(f"{name} ({value:.2f} times)")
    if odd:
        lines.append(
            "The standard deviation stated differs from how far estimates move once models run:"
            f" {listed(odd)}."
        )
    if scaled := [f"{g.strategy} by {g.sigma_scale:g}" for g in result.gains if g.sigma_scale != 1]:
        # Of an estimator of the caller's own no scale is recorded.
        best = result.settings.get("sigma_scale") == "auto"
        how = "times the factor that did best on the fit split" if best else "scaled"
        lines.append(f"Strategies use the stated standard deviations {how}: {listed(scaled)}.")
    apart = np.abs(np.triu(result.moves.correlation, 1))
    if np.nanmax(apart, initial=0) > _CORRELATED:
        i, j = map(int, np.unravel_index(np.nanargmax(apart), apart.shape))
        lines.append(
            "Pandora takes the moves of models as independent; those of"
            f" {names[i]} and {names[j]} correlate by {result.moves.correlation[i, j]:+.2f}."
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
    return _with_ends(span, _gain)


def _gain(value: float) -> str:
    return gain_text(value, 3)


def _with_ends(span: Span, form: Callable[[float], str]) -> str:
    """Return a number and its interval, if there is one."""
    if span.low is None or span.high is None or np.isnan(span.low):
        return form(span.value)
    return f"{form(span.value)} [{form(span.low)}, {form(span.high)}]"


def _clear(span: Span) -> bool:
    return span.low is not None and span.high is not None and not span.low <= 0 <= span.high


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

    Names are cut to the width; a page has room for intervals.
    """
    import pandas as pd

    rows, styles = [], []
    for k, name in enumerate(short_names(result.models, width)):
        for side, estimates in _sides(result).items():
            a, bins = estimates.accuracy, estimates.reliability[k]
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
                row["calibrated"] = "yes" if bins.calibrated else "no"
            rows.append(row)
            color = swatch(SIDE_STYLES[SIDES[side]])
            styles.append(RowStyle(color=color, rule=k > 0 and side == "ante"))
    return Listing(pd.DataFrame(rows).set_index("model"), styles=styles)


def _gains_listing(result: Diagnosis) -> Listing:
    listing, looks = summary(result), strategy_styles([gain.strategy for gain in _ranked(result)])
    styles = [
        RowStyle(
            g.answer == "undecided", swatch(looks[g.strategy]), kind_of(g.strategy).description
        )
        for g in _ranked(result)
    ]
    title = f"{GAINS_NOTE} Strategies not distinguishable from the hull are grey."
    return replace(listing, frame=listing.frame.drop(columns=" "), title=title, styles=styles)


def _needs_listing(result: Diagnosis) -> Listing:
    import pandas as pd

    columns = {
        "side": [SIDES[need.side] for need in result.needs],
        "R2 now": [_number(need.r2_now) for need in result.needs],
        "R2 needed": [_number(need.r2_needed) for need in result.needs],
        "share": [
            "out of reach" if need.share is None else f"{need.share:.0%}" for need in result.needs
        ],
        "AUC now": [quality_text(need.auc_now) for need in result.needs],
        "AUC at that": [quality_text(need.auc_reached) for need in result.needs],
        "highest AUC": [quality_text(need.most) for need in result.needs],
    }
    index = pd.Index([need.strategy for need in result.needs], name="strategy")
    title = (
        "Estimates of one side get better, the others stay: beside the estimate, an observation of"
        " the truth under normal noise, and the least-squares fit on both. R2 is the mean over"
        " models; share is the part of the unexplained variance that must be explained."
    )
    return Listing(pd.DataFrame(columns, index=index), title=title)


def _singles_listing(result: Diagnosis) -> Listing:
    alone, moves = singles_listing(result), result.moves
    spans = [_span(moves.ratio, k) for k in range(len(result.models))]
    sigmas = {"sigma stated": moves.stated, "measured": moves.measured}
    ratio = {"ratio": [_with_ends(span, _number) for span in spans]}
    formats = {**alone.formats, **dict.fromkeys(sigmas, each(_number))}
    return Listing(alone.frame.assign(**sigmas, **ratio), formats)


def _matrix(result: Diagnosis, matrix: Float[np.ndarray, "K K"]) -> Listing:
    import pandas as pd

    names = short_names(result.models, 16)
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
    for head, gain, why in actions(result):
        console.print(Text(f"- {head} {gain}. {why}"))
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


# ---- the page


def _tiles(result: Diagnosis) -> list[Tile]:
    best, words = result.best, {"pays": "yes", "undecided": "no", "loses": "no", "unknown": "?"}
    share = f"{best.share:.0%}" if best.share >= 0 else "–"
    return [
        ("does it pay?", words[result.answer], f"at best {best.strategy}"),
        ("gain of AUC", _gain(best.gain.value), "over mixing single models at random"),
        ("share of the oracle's gain", share, "AUC: mean quality over all costs"),
        ("ex-ante R2", _number(mean_known(result.ante.accuracy.r2.value)), "before a model runs"),
        ("post-hoc R2", _number(mean_known(result.post.accuracy.r2.value)), "once it has answered"),
    ]


def render(result: Diagnosis, command: str = "") -> str:
    """Return the report as a string of HTML."""
    confidence = percent_text(result.confidence)
    scenarios = (
        "Between the hull of the single models (dashed) and the oracle, the AUC of each strategy:"
        " on the estimates as they are; refitted by least squares; on estimates that know each"
        " answer's quality once it is seen; and on estimates that know all qualities before any"
        " model runs. Costs stay as estimated."
    )
    bars = ""
    if result.resamples:
        bars = (
            f" Bars and ± are {confidence} intervals from {result.resamples:,} resamples of the"
            " evaluation queries, for all strategies at once; a gain whose interval contains 0, or"
            " below a thousandth of the oracle's, is noise."
        )
    bins = (
        "Mean quality against mean estimate in bins of about equally many evaluation queries; on"
        f" the dashed line estimates are right on average. Bars are {confidence} intervals:"
        " Wilson's where quality is 0 or 1, else Student's t."
    )
    worth = replace(scenarios_chart(result), caption=(scenarios + bars,))
    reliability = replace(reliability_chart(bins_frame(result)), caption=(bins,))
    between = (
        "Routing depends on estimates of differences. Errors are estimate less truth; moves are"
        " changes of estimates from nothing run to everything run."
    )
    matrices = {
        "R2 of differences, ex-ante": result.ante.pairs,
        "R2 of differences, post-hoc": result.post.pairs,
        "Correlation of ex-ante errors": result.ante.errors,
        "Correlation of moves": result.moves.correlation,
    }
    tables = [(name, "", [("table", _matrix(result, m))]) for name, m in matrices.items()]
    singles = replace(
        _singles_listing(result),
        title="Each model alone on the evaluation queries, and how far its estimates are stated to"
        " move once all models have run, with how far they do.",
    )
    needs: list[Part] = [("table", _needs_listing(result))] if result.needs else []
    steps = actions(result)
    note = "Gains do not add up: each is measured on its own, from the best strategy now."
    return page.render(
        "Are these estimates good enough?",
        warning=simulation_note(result.settings),
        tiles=_tiles(result),
        lead=headline(result),
        sections=[
            ("What to do", [("steps", steps), ("note", note)] if steps else []),
            ("What estimates are worth", [
                ("chart", worth), ("csv", page.csv(frame(result))),
                ("table", _gains_listing(result)),
            ]),
            ("Why", [("items", reasons(result))]),
            (f"Accuracy needed for {result.target:+g} of AUC", needs),
            ("How good the estimates are", [
                ("table", replace(models_listing(result, 32, page=True), title=MODELS_NOTE)),
            ]),
            ("Are they right on average?", [("chart", reliability)]),
            ("Between models", [("note", between), ("more", tables)]),
            ("Models", [("table", singles)]),
        ],
        file="diagnosis",
        command=command,
        record=page.record(result),
    )  # fmt: skip
