"""The field's scores of a frontier, each as its own authors define it.

Every function takes mean costs and qualities `[P]` of a strategy's points, in any order, on the
queries it is judged on; qualities in the table's own scale, costs in any one unit. A score that
does not exist for what it is given is nan. Where a score was defined for routers, which run one
model, it is read here for strategies that run several: the docstring says how.
"""

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Bool, Float, Int

from cascjax.core.auc import auc
from cascjax.data.table import upper_hull
from cascjax.errors import CascjaxError, unknown_name

F = TypeVar("F", bound=Callable[..., float])

_SLACK = 1e-6
"""Share of a quality that may be missing where it is to be reached: sums over queries differ by
about this much with the order they are added up in."""


@dataclass(frozen=True)
class Evidence:
    """The arguments of all scores: a strategy's points and what they are compared with.

    Attributes:
        cost: `[P]` mean cost of each point, in the table's cost unit.
        quality: `[P]` mean quality of each point.
        ran: `[P, K]` share of queries on which each model ran.
        single_cost: `[K]` mean cost of each model alone.
        single_quality: `[K]` mean quality of each model alone.
        floor: mean cost and quality where every query goes to the model cheapest for it.
        ceiling: mean cost where every query goes to the model most expensive for it.
        collapsed: see `rci`, at the largest budget; NaN where it was not computed.
        oracle: AUC of the oracle's frontier; NaN where it was not drawn.
    """

    cost: Float[np.ndarray, " P"]
    quality: Float[np.ndarray, " P"]
    ran: Float[np.ndarray, "P K"]
    single_cost: Float[np.ndarray, " K"]
    single_quality: Float[np.ndarray, " K"]
    floor: tuple[float, float]
    ceiling: float
    collapsed: float = np.nan
    oracle: float = np.nan

    @property
    def auc(self) -> float:
        """AUC under the points."""
        return float(auc(self.cost, self.quality, self.single_cost, self.single_quality))

    @property
    def mixing(self) -> float:
        """AUC under the single models' upper hull."""
        cost, quality = self.single_cost, self.single_quality
        hull = upper_hull(cost, quality)
        return float(auc(cost[hull], quality[hull], cost, quality))


@dataclass(frozen=True)
class Score:
    """A way to put a frontier into a number.

    Attributes:
        of: from the evidence to the number, NaN where it does not exist.
        meaning: what it says, in a few words.
        higher: whether more is better.
        undefined: when it does not exist.
    """

    of: Callable[[Evidence], float]
    meaning: str
    higher: bool
    undefined: str


SCORES: dict[str, Score] = {
    "auc": Score(
        lambda evidence: evidence.auc,
        "mean quality from the cheapest to the most expensive model's cost",
        True,
        "every model costs the same",
    )
}
"""The scores by name, in the order they are shown in; `score` adds others."""

_EQUAL = "all models are equally good"


def score(
    name: str, meaning: str, undefined: str, *, higher: bool = True, **fixed: Any
) -> Callable[[F], F]:
    """Make a function of fields of `Evidence` a score of that name.

    Args:
        name: name of the score.
        meaning: what it says, in a few words.
        undefined: when it does not exist.
        higher: whether more is better.
        **fixed: arguments of the function that are no fields.
    """

    def registered(function: F) -> F:
        names = [n for n in inspect.signature(function).parameters if n not in fixed]

        def of(evidence: Evidence) -> float:
            return function(**{n: getattr(evidence, n) for n in names}, **fixed)

        SCORES[name] = Score(of, meaning, higher, undefined)
        return function

    return registered


@score(
    "gain",
    "most quality above mixing single models at one cost",
    "no point costs as much as the cheapest model",
)
def gain(
    cost: Float[np.ndarray, " P"],
    quality: Float[np.ndarray, " P"],
    single_cost: Float[np.ndarray, " K"],
    single_quality: Float[np.ndarray, " K"],
) -> float:
    """Return the most by which the points lie above the upper hull of the single models.

    max over c of q(c) - hull(c), with the points joined linearly as in `auc`, and the hull flat
    right of its last model. Left of the cheapest model there is no hull, and nothing counts. nan
    where no point costs as much as the cheapest model.
    """
    hull = upper_hull(single_cost, single_quality)
    order = np.lexsort((quality, cost))
    x, y = cost[order], quality[order]
    low = single_cost.min()
    if x[0] < low < x[-1]:
        at = np.interp(low, x, y)
        x, y = np.append(low, x), np.append(at, y)
    counts = x >= low
    if not counts.any():
        return np.nan
    # The hull is concave: between two points the distance is nowhere above that of its ends.
    above = y - np.interp(x, single_cost[hull], single_quality[hull])
    return float(above[counts].max())


@score(
    "aiq",
    "the AUC of the points' non-decreasing convex hull (RouterBench)",
    "every model costs the same",
)
def aiq(
    cost: Float[np.ndarray, " P"],
    quality: Float[np.ndarray, " P"],
    single_cost: Float[np.ndarray, " K"],
    single_quality: Float[np.ndarray, " K"],
) -> float:
    """Return the average improvement in quality: mean height of the non-decreasing hull.

    AIQ(R) = 1 / (c_max - c_min) * integral of R~ over [c_min, c_max], R~ the non-decreasing
    convex hull of the router's points, flat beyond its last (Hu et al. 2024, arXiv 2403.12031,
    section 3; withmartian/routerbench, evaluation/AIQ.py). Here c_min and c_max are the costs of
    the cheapest and the most expensive single model, and left of the first point the curve is that
    of `auc`: both are the same for every strategy. The authors' code integrates each router from
    its own cheapest point and divides by c_max, the most expensive point of all routers drawn
    together,
    so its numbers compare only within one of its runs.

    Raises:
        CascjaxError: see `auc`.
    """
    hull = upper_hull(cost, quality)
    return auc(cost[hull], quality[hull], single_cost, single_quality)


@score("nauc", "AUC from the least to the most a query can cost (ORBIT)", "there is no point")
def nauc(
    cost: Float[np.ndarray, " P"],
    quality: Float[np.ndarray, " P"],
    floor: tuple[float, float],
    ceiling: float,
) -> float:
    """Return the AUC under the Pareto front, from the least to the most a query can cost.

    1 / (ceiling - floor) * integral of the front, joined linearly from the point `floor` on and
    flat from its last point to `ceiling`; points that cost more than that do not count (ORBIT,
    LAMDA-Model-Reuse/ORBIT, utils/metrics.py of October 2026 and its README). ORBIT's first
    release, of June 2026, divided by each router's own largest cost instead.

    Args:
        cost: mean cost of each point.
        quality: mean quality of each point.
        floor: mean cost and quality where every query goes to the model cheapest for it.
        ceiling: mean cost where every query goes to the model most expensive for it.
    """
    low, start = floor
    inside = cost <= ceiling
    x = np.maximum(np.append(low, cost[inside]), low)
    y = np.append(start, quality[inside])
    x, y = _pareto(x, y)
    if not low < ceiling:
        return float(y[-1])
    return float(np.trapezoid(np.append(y, y[-1]), np.append(x, ceiling)) / (ceiling - low))


@score("peak", "highest quality at any cost (ORBIT)", "there is no point")
def peak(quality: Float[np.ndarray, " P"], floor: tuple[float, float]) -> float:
    """Return the highest mean quality of any point, or of the point `floor` (see `nauc`).

    ORBIT's peak score: the largest performance on the Pareto front, in which that point stands
    (LAMDA-Model-Reuse/ORBIT, methods/base.py, `_calculate_max_accuracy`).
    """
    return float(max(quality.max(), floor[1]))


@score(
    "qnc",
    "least cost of a point as good as the best single model, over that model's (ORBIT)",
    "no point is as good as the best single model, or that model is free",
    higher=False,
)
def qnc(
    cost: Float[np.ndarray, " P"],
    quality: Float[np.ndarray, " P"],
    single_cost: Float[np.ndarray, " K"],
    single_quality: Float[np.ndarray, " K"],
    floor: tuple[float, float],
) -> float:
    """Return the least cost that gives the best single model's quality, as its share.

    min {c : q(c) >= best single quality} / that model's cost, over the points and `floor` (see
    `nauc`), without interpolation (ORBIT, methods/base.py, `_find_min_cost_for_target`; the same
    idea in Jitkrittum et al. 2025, arXiv 2502.08773). The cheapest of equally good models counts.
    With few budgets it is coarse. NaN where no point is that good, or that model is free.
    """
    best = np.lexsort((single_cost, -single_quality))[0]
    target, price = single_quality[best], single_cost[best]
    x, y = np.append(cost, floor[0]), np.append(quality, floor[1])
    enough = y >= target - _SLACK * abs(target)
    if not enough.any() or price <= 0:
        return np.nan
    return float(x[enough].min() / price)


def sound(
    quality: Float[np.ndarray, "N K"], single_cost: Float[np.ndarray, " K"]
) -> Bool[np.ndarray, "N K"]:
    """Return which answers `rci` lets pass on each query.

    A model's answer is sound where no other is better, and either the model is not the most
    expensive,
    or the most expensive alone is that good. Dearest is the highest of `single_cost`, ties
    included.
    """
    best = quality == quality.max(1, keepdims=True)
    most_expensive = single_cost == single_cost.max()
    cheaper_is_best = (best & ~most_expensive).any(1, keepdims=True)
    return best & (~most_expensive | ~cheaper_is_best)


SCORES["rci"] = Score(
    lambda evidence: evidence.collapsed,
    "share of queries a cheaper or better model should have had (ORBIT)",
    False,
    "it was not computed",
)


def rci(
    answer: Int[np.ndarray, " N"],
    quality: Float[np.ndarray, "N K"],
    single_cost: Float[np.ndarray, " K"],
) -> float:
    """Return the share of queries answered by a model that should not have been taken.

    1 - mean of sound(n, answer(n)), see `sound`: a query counts against the router where its
    model is not among the best on that query, and where it is the most expensive although a cheaper
    one is as good (ORBIT, methods/base.py, `cal_rci`). ORBIT takes it where no budget holds the
    router back; a study takes it at its largest budget. Of a strategy that runs several models,
    the one whose answer it returns counts. The index comes from Lai and Ye 2026 (arXiv
    2602.03478), whose own text was not at hand: what holds here is ORBIT's code, of the same group.

    Args:
        answer: the model whose answer each query got.
        quality: true quality of every model on every query.
        single_cost: mean cost of each model alone.
    """
    passed = sound(quality, single_cost)[np.arange(len(answer)), answer]
    return float(1 - passed.mean())


@score(
    "cpt80",
    "strong model's calls that close 80% of its lead (RouteLLM)",
    f"no point closes as much, or {_EQUAL}",
    higher=False,
    share=0.8,
)
@score(
    "cpt50",
    "strong model's calls that close half its lead over the weak (RouteLLM)",
    f"no point closes as much, or {_EQUAL}",
    higher=False,
    share=0.5,
)
def cpt(
    quality: Float[np.ndarray, " P"],
    ran: Float[np.ndarray, "P K"],
    single_cost: Float[np.ndarray, " K"],
    single_quality: Float[np.ndarray, " K"],
    share: float,
) -> float:
    """Return the least share of calls to the strong model that recovers `share` of its lead.

    CPT(x%) is the least share of calls to the strong model at which the gap recovered,
    PGR = (q - q_weak) / (q_strong - q_weak), is x% (Ong et al. 2024, arXiv 2406.18665;
    lm-sys/RouteLLM, routellm/evals/evaluate.py, which interpolates linearly as well). Between
    0 and 1; theirs is in percent.

    They have two models. Here the strong one is the single model of highest mean quality, the
    weak one that of lowest, of equals the cheapest, and a call is a query on which the strong
    model ran, whether or not its answer was taken. With more models there is quality without the
    strong one, so that 0 can be right. Where every point calls it, the points are joined to weak
    alone, share 0. NaN where no point recovers as much, or all models are equally good.
    """
    curve = _recovered(quality, ran, single_cost, single_quality)
    if curve is None:
        return np.nan
    x, y = curve
    reached = np.flatnonzero(y >= share - _SLACK)
    if not len(reached):
        return np.nan
    i = int(reached[0])
    if i == 0:
        return float(x[0])
    part = min(1, (share - y[i - 1]) / (y[i] - y[i - 1]))
    return float(x[i - 1] + part * (x[i] - x[i - 1]))


@score(
    "apgr",
    "strong model's lead closed, averaged over its share of calls (RouteLLM)",
    _EQUAL,
)
def apgr(
    quality: Float[np.ndarray, " P"],
    ran: Float[np.ndarray, "P K"],
    single_cost: Float[np.ndarray, " K"],
    single_quality: Float[np.ndarray, " K"],
) -> float:
    """Return the average performance gap recovered, over the share of calls to the strong model.

    APGR = integral of PGR over that share from 0 to 1, see `cpt` (Ong et al. 2024, who sum over
    ten shares; their code takes the trapezoids of the points it has, as is done here). Where no
    point has share 0 or 1, the curve ends at weak alone, PGR 0, and at strong alone, PGR 1: with
    two models these are its ends. Mixing the two at random scores 1/2, and more than 1 is reached
    where strategies do better than the strong model. nan where all models are equally good.
    """
    curve = _recovered(quality, ran, single_cost, single_quality)
    if curve is None:
        return np.nan
    x, y = curve
    if x[-1] < 1:
        x, y = np.append(x, 1), np.append(y, 1)
    return float(np.trapezoid(y, x))


@score(
    "oracle-gap",
    "share closed of the AUC between mixing and the oracle",
    "the oracle gains nothing over mixing",
)
def oracle_gap(auc: float, mixing: float, oracle: float) -> float:
    """Return the share of the gap between mixing and the oracle that a strategy closes.

    (A - A_mixing) / (A_oracle - A_mixing) of AUCs, see `auc`; A_mixing is that of the single
    models' upper hull. 0 is what is had without looking at the query, 1 is the best any router
    can do; strategies that run several models may pass it. The papers that speak of a gap closed
    compare qualities whatever they cost; over all budgets, the AUCs are our reading. With a few
    budgets the strategy's and the oracle's AUCs are coarse, and so is this. NaN where the oracle
    gains nothing.
    """
    gap = oracle - mixing
    return float((auc - mixing) / gap) if gap > _SLACK * abs(oracle) else np.nan


def check_scores(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names of scores, each listed once.

    Raises:
        CascjaxError: an unknown name, or one that is listed twice.
    """
    listed = tuple(names)
    for at, name in enumerate(listed):
        if name not in SCORES:
            raise unknown_name("score", name, SCORES)
        if name in listed[:at]:
            raise CascjaxError(f"score {name!r} is listed twice; name it once")
    return listed


def _pareto(
    x: Float[np.ndarray, " P"], y: Float[np.ndarray, " P"]
) -> tuple[Float[np.ndarray, " F"], Float[np.ndarray, " F"]]:
    """Return the points better than all cheaper ones, in rising cost; the best at equal cost."""
    order = np.lexsort((-y, x))
    x, y = x[order], y[order]
    better = y > np.append(-np.inf, np.maximum.accumulate(y)[:-1])
    return x[better], y[better]


def _recovered(
    quality: Float[np.ndarray, " P"],
    ran: Float[np.ndarray, "P K"],
    single_cost: Float[np.ndarray, " K"],
    single_quality: Float[np.ndarray, " K"],
) -> tuple[Float[np.ndarray, " S"], Float[np.ndarray, " S"]] | None:
    """Return the gap recovered over the share of calls to the strong model; None without gap."""
    strong = np.lexsort((single_cost, -single_quality))[0]
    weak = np.lexsort((single_cost, single_quality))[0]
    gap = single_quality[strong] - single_quality[weak]
    if not gap > _SLACK * abs(single_quality[strong]):
        return None
    recovered = (quality - single_quality[weak]) / gap
    calls = np.clip(ran[:, strong], 0, 1)
    order = np.lexsort((recovered, calls))
    x, y = calls[order], recovered[order]
    return (np.append(0, x), np.append(0, y)) if x[0] > 0 else (x, y)
