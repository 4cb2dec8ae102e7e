"""What a study says, in numbers and plain words, for the page and the terminal alike."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from cascjax.comparison import Frontier, Study
from cascjax.errors import CascjaxError
from cascjax.metrics import SCORES, auc, upper_hull
from cascjax.words import (
    cost_text,
    cost_texts,
    counted,
    gain_text,
    plain,
    quality_text,
    short_names,
)

REFERENCES = ("mixing", "oracle")
"""Strategies that are not there to be chosen: what is had for free, and the ceiling."""

DESCRIPTIONS = {
    "routing": "Picks one model before any has run, and runs that one alone.",
    "thresholding": "Runs the models cheapest first, and stops at the first answer whose "
    "estimated quality passes a threshold.",
    "frugal": "Runs the models of a chosen chain cheapest first, and stops at the first answer "
    "whose estimated quality passes a threshold.",
    "cascading": "Runs the models cheapest first, and after each answer weighs whether going "
    "on is worth its cost.",
    "cascade-routing": "After each answer weighs every set of models that could still be run, "
    "and may skip any of them.",
    "pandora": "Runs the models in falling order of their reservation value, and stops once "
    "the best answer beats the next one.",
    "mixing": "Picks one single model at random, without looking at the query: the upper hull "
    "of the single models.",
    "oracle": "Routing on the true quality and cost of every answer: a ceiling, out "
    "of reach in practice.",
}
"""One sentence for each strategy known by name."""


@dataclass(frozen=True)
class Score:
    """One row of the table of AUCs.

    Attributes:
        frontier: whose score it is.
        gain: AUC above that of mixing single models at random; NaN where it has none.
        difference: AUC above that of the best strategy to choose; NaN for that one, and where
            nothing was resampled.
        ends: the interval of that difference.
    """

    frontier: Frontier
    gain: float
    difference: float = np.nan
    ends: tuple[float, float] = (np.nan, np.nan)

    @property
    def in_noise(self) -> bool:
        """Whether the interval of the difference holds 0: other queries may turn the order."""
        return self.ends[0] <= 0 <= self.ends[1]


def chain_text(
    setting: Sequence[float] | Float[np.ndarray, " D"], names: Sequence[str], digits: int = 4
) -> str:
    """A chain of models and its thresholds, which decide nothing where it is one model."""
    models = " → ".join(name for i, name in enumerate(names) if int(setting[0]) >> i & 1)
    taus = ", ".join(f"{float(tau):.{digits}g}" for tau in setting[1:])
    return f"{models}, τ {taus}" if "→" in models else models


def difference_text(score: Score) -> str:
    """How far a strategy is from the best one, and whether that may be chance; a dash for that."""
    text = gain_text(score.difference)
    return f"{text} (noise)" if score.in_noise else text


def intervals_note(study: Study) -> str:
    """What the intervals are, in a sentence or two; nothing where there are none."""
    if not study.resamples:
        return ""
    return (
        f"Intervals hold {100 * study.confidence:.4g}% of {study.resamples:,} resamples of the"
        f" {counted(study.n_evaluate, 'held-out query', 'held-out queries')}, with"
        " the parameters as fitted; (noise): the interval of the difference to the best,"
        " taken on the same resamples, holds 0."
    )


def expected_improvement(
    study: Study, cost: Float[np.ndarray, " P"], quality: Float[np.ndarray, " P"]
) -> Float[np.ndarray, " P"]:
    """`[P]` quality above the single models' upper hull at the same cost; NaN left of the hull."""
    hull = upper_hull(study.single_cost, study.single_quality)
    mixing = np.interp(cost, study.single_cost[hull], study.single_quality[hull], left=np.nan)
    return quality - mixing


def score_text(value: float) -> str:
    """A score, or "n/a" where it does not exist."""
    return quality_text(value) if np.isfinite(value) else "n/a"


def score_meanings(ranked: Sequence[Frontier]) -> dict[str, str]:
    """What each score asked for says, by its name."""
    better = {True: "higher is better", False: "lower is better"}
    return {
        name: f"{SCORES[name].meaning}; {better[SCORES[name].higher]}"
        for name in (ranked[0].scores if ranked else ())
    }


def missing_scores(ranked: Sequence[Frontier]) -> list[str]:
    """Of whom a score asked for does not exist, and why."""
    notes = []
    for name in ranked[0].scores if ranked else ():
        without = [f.strategy for f in ranked if not np.isfinite(f.scores[name])]
        if without:
            notes.append(f"no {name} for {', '.join(without)}: {SCORES[name].undefined}.")
    return notes


def scores(study: Study) -> list[Score]:
    """The frontiers in falling order of AUC, each with its gain over mixing."""
    mixing = next((f.auc for f in study.frontiers if f.strategy == "mixing"), None)
    if mixing is None:
        try:
            hull = upper_hull(study.single_cost, study.single_quality)
            cost, quality = study.single_cost, study.single_quality
            mixing = auc(cost[hull], quality[hull], cost, quality)
        except CascjaxError:  # one model, or all at one cost: nothing to mix between
            mixing = np.nan
    aucs = [f.auc if np.isfinite(f.auc) else -np.inf for f in study.frontiers]
    ranked = sorted(range(len(aucs)), key=lambda i: -aucs[i])
    choices = [i for i in ranked if study.frontiers[i].strategy not in REFERENCES] or ranked
    found = []
    for i in ranked:
        f, apart = study.frontiers[i], {}
        if (
            study.difference is not None
            and study.difference_interval is not None
            and i != choices[0]
        ):
            low, high = study.difference_interval[i, choices[0]].tolist()
            apart = {"difference": float(study.difference[i, choices[0]]), "ends": (low, high)}
        found.append(Score(f, f.auc - mixing, **apart))
    return found


def out_of_reach(study: Study) -> list[str]:
    """One sentence for each strategy and side on which budgets could not be met exactly."""
    notes = []
    for f in study.frontiers:
        ends = (
            (-1, "below its cheapest", f.reachable[0]),
            (1, "above its most expensive", f.reachable[1]),
        )
        for side, end, cost in ends:
            missed = np.sort(f.budget[f.reach == side])
            if len(missed):
                notes.append(
                    f"{f.strategy}: {len(missed)} of {len(f.budget)} budgets ({_listed(missed)})"
                    f" {'lies' if len(missed) == 1 else 'lie'} {end} reachable cost,"
                    f" {cost_text(cost)}{_unit(study)}."
                )
    return notes


def reach_notes(study: Study) -> list[str]:
    """The same in short: one sentence a side, with the number of budgets of each strategy."""
    notes = []
    for side, end in ((-1, "below the cheapest"), (1, "above the most expensive")):
        missed = [(f.strategy, int(np.sum(f.reach == side)), len(f.reach)) for f in study.frontiers]
        listed = [f"{name} {count} of {total}" for name, count, total in missed if count]
        if listed:
            notes.append(f"budgets {end} cost a strategy reaches: {', '.join(listed)}.")
    return notes


def _listed(budgets: Float[np.ndarray, " P"]) -> str:
    texts = cost_texts(budgets)
    return ", ".join(texts) if len(texts) <= 5 else f"{texts[0]} to {texts[-1]}"


def _unit(study: Study) -> str:
    # Costs are per query already, whether or not the table's unit says so.
    unit = plain(study.cost_unit).removesuffix("/query")
    return f" {unit}" if unit else ""


def curve(frontier: Frontier) -> tuple[Float[np.ndarray, " P"], Float[np.ndarray, " P"]]:
    """Costs and qualities `[P]` in rising cost, as the AUC joins them."""
    order = np.lexsort((frontier.quality, frontier.cost))
    return frontier.cost[order], frontier.quality[order]


def summary(study: Study) -> list[str]:
    """The finding in a few plain sentences; every number is read off the study."""
    ranked = [s for s in scores(study) if np.isfinite(s.frontier.auc)]
    contenders = [s for s in ranked if s.frontier.strategy not in REFERENCES]
    queries = counted(study.n_evaluate, "held-out query", "held-out queries")
    queries += f" and {counted(len(study.models), 'model')}"
    if not contenders:
        return [f"Measured on {queries}; only reference strategies were asked for."]
    best, others = contenders[0], contenders[1:]
    name = best.frontier.strategy
    area_text = quality_text(best.frontier.auc)
    lead = f"the {name}"
    if others:
        lead = f"{name} does best of {len(contenders)} strategies"
        level = quality_text(others[0].frontier.auc) == area_text
        if level:
            lead += f", level with {others[0].frontier.strategy} to the digits shown"
        # What is level is within noise as well: said once.
        close = [s.frontier.strategy for s in others[level:] if s.in_noise]
        if close:
            listed = filter(None, [", ".join(close[:-1]), close[-1]])
            lead += f", within noise of {' and '.join(listed)}"
        lead += ": its"
    sentences = [f"On {queries}, {lead} frontier has an AUC of {area_text}"]
    if np.isfinite(best.gain):
        sentences[0] += f", {_apart(best.gain)} mixing single models at random"
    sentences[0] += "."
    sentences += _at_the_middle(study, best.frontier, [s.frontier for s in others])
    sentences += _against_best_single(study, best.frontier)
    oracle = next((s for s in ranked if s.frontier.strategy == "oracle"), None)
    if oracle is not None:
        sentences.append(
            "An oracle that knew every answer's quality beforehand would have an AUC of"
            f" {quality_text(oracle.frontier.auc)}."
        )
    if study.settings.get("estimates") == "noisy":
        sentences.append(
            "The estimates were the true values under simulated noise"
            f" ({plain(study.settings.get('noise', 'level not recorded'))}): this is what estimates"
            " as good as that are worth, not what a fitted estimator reaches."
        )
    return sentences


def _apart(difference: float) -> str:
    """How far above or below what is named next, in the digits shown."""
    text = quality_text(abs(difference))
    if not text.strip("0."):
        return "level with"
    return f"{text} {'above' if difference > 0 else 'below'}"


def _at_the_middle(study: Study, best: Frontier, others: list[Frontier]) -> list[str]:
    """What `best` reaches at the middle budget, against routing or else the runner-up."""
    cost, quality = curve(best)
    if not len(cost):
        return []
    at = max(float(np.median(best.budget)), cost[0])
    reached = float(np.interp(at, cost, quality))
    text = (
        f"At the middle budget, {cost_text(at)}{_unit(study)} per query, it reaches quality"
        f" {quality_text(reached)}"
    )
    rival = next((f for f in others if f.strategy == "routing"), others[0] if others else None)
    if rival is not None:
        other = float(np.interp(at, *curve(rival), left=np.nan))
        if np.isfinite(other):
            text += f", {_apart(reached - other)} {rival.strategy}"
    return [text + "."]


def _against_best_single(study: Study, best: Frontier) -> list[str]:
    """How little of the best single model's cost buys its quality."""
    top = int(np.lexsort((study.single_cost, -study.single_quality))[0])
    target, price = float(study.single_quality[top]), float(study.single_cost[top])
    cost, quality = curve(best)
    model = f"the best single model, {short_names(study.models, 40)[top]}"
    enough = np.flatnonzero(quality >= target)
    if not len(enough):
        short = quality_text(target - float(np.nanmax(quality)))
        return [f"It stays {short} short of {model} (quality {quality_text(target)})."]
    i = int(enough[0])
    reached = float(cost[i])
    if i and quality[i] > quality[i - 1]:
        share = (target - quality[i - 1]) / (quality[i] - quality[i - 1])
        reached = float(cost[i - 1] + share * (cost[i] - cost[i - 1]))
    if price <= 0:
        return []
    return [
        f"It matches {model} (quality {quality_text(target)}), at {reached / price:.0%} of that"
        " model's cost."
    ]
