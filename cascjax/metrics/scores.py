"""The field's scores of a frontier, each as its own authors define it.

A score is a function of `Evidence`: a strategy's points, in any order, on the queries it is judged
on. It is NaN where it does not exist. Scores defined for routers, which run one model, are read
here for strategies that run several; the docstrings say how.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Bool, Float

from cascjax.core.auc import auc
from cascjax.data.table import upper_hull
from cascjax.errors import CascjaxError, check_name

F = TypeVar("F", bound=Callable[..., float])

_SLACK = 1e-6
"""Share of a quality that may be missing where it is to be reached: sums over queries differ by
about this much with the order they are added up in."""

_EQUAL = "all models are equally good"


@dataclass(frozen=True)
class Evidence:
    """The arguments of all scores: a strategy's points and what they are compared with.

    Attributes:
        cost: mean cost of each point, in the table's cost unit.
        quality: mean quality of each point.
        ran: share of queries on which each model ran.
        single_cost: mean cost of each model alone.
        single_quality: mean quality of each model alone.
        floor: mean cost and quality where every query goes to the model cheapest for it.
        ceiling: mean cost where every query goes to the model most expensive for it.
        collapsed: share of queries that `sound` refuses, at the largest budget; NaN if unknown.
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
    def hull(self) -> tuple[Float[np.ndarray, " H"], Float[np.ndarray, " H"]]:
        """Costs and qualities of the single models on their upper hull."""
        hull = upper_hull(self.single_cost, self.single_quality)
        return self.single_cost[hull], self.single_quality[hull]


@dataclass(frozen=True)
class Score:
    """A way to put a frontier into a number.

    Attributes:
        compute: from the evidence to the number, NaN where it does not exist.
        meaning: what it says, in a few words.
        higher: whether more is better.
        undefined: when it does not exist.
    """

    compute: Callable[[Evidence], float]
    meaning: str
    higher: bool
    undefined: str


SCORES: dict[str, Score] = {}
"""The scores by name, in the order they are shown in; `score` adds one."""


def score(
    name: str, meaning: str, undefined: str, *, higher: bool = True, **fixed: Any
) -> Callable[[F], F]:
    """Register a function of `Evidence`, and of `fixed` arguments, as a score of that name."""

    def register(function: F) -> F:
        SCORES[name] = Score(partial(function, **fixed), meaning, higher, undefined)
        return function

    return register


score(
    "auc",
    "mean quality from the cheapest to the most expensive model's cost",
    "every model costs the same",
)(lambda given: given.auc)


@score(
    "gain",
    "most quality above mixing single models at one cost",
    "no point costs as much as the cheapest model",
)
def gain(given: Evidence) -> float:
    """Return the most by which the points lie above the upper hull of the single models.

    max over c of q(c) - hull(c), with the points joined linearly as in `auc`, and the hull flat
    right of its last model. Left of the cheapest model there is no hull, and nothing counts.
    """
    order = np.lexsort((given.quality, given.cost))
    x, y = given.cost[order], given.quality[order]
    low = given.single_cost.min()
    if x[0] < low < x[-1]:
        at = np.interp(low, x, y)
        x, y = np.append(low, x), np.append(at, y)
    counts = x >= low
    if not counts.any():
        return np.nan
    # The hull is concave: between two points the distance is nowhere above that of its ends.
    return float((y - np.interp(x, *given.hull))[counts].max())


@score(
    "aiq",
    "the AUC of the points' non-decreasing convex hull (RouterBench)",
    "every model costs the same",
)
def aiq(given: Evidence) -> float:
    """Return the average improvement in quality: mean height of the non-decreasing hull.

    AIQ(R) = 1 / (c_max - c_min) * integral of R~ over [c_min, c_max], R~ the non-decreasing
    convex hull of the router's points (Hu et al. 2024, arXiv 2403.12031, section 3). Here c_min and
    c_max are the costs of the cheapest and the most expensive single model, and left of the first
    point the curve is the one of `auc`: both are the same for every strategy. The authors' code
    (withmartian/routerbench, evaluation/AIQ.py) integrates each router from its own cheapest point
    and divides by the largest cost of all routers drawn together.
    """
    hull = upper_hull(given.cost, given.quality)
    return auc(given.cost[hull], given.quality[hull], given.single_cost, given.single_quality)


@score("nauc", "AUC from the least to the most a query can cost (ORBIT)", "there is no point")
def nauc(given: Evidence) -> float:
    """Return the AUC under the Pareto front, from the least to the most a query can cost.

    1 / (ceiling - floor) * integral of the front, joined linearly from the point `floor` on and
    flat from its last point to `ceiling`; points that cost more do not count (ORBIT,
    LAMDA-Model-Reuse/ORBIT, utils/metrics.py of October 2026 and its README). ORBIT's first
    release, of June 2026, divided by each router's own largest cost instead.
    """
    (low, start), high = given.floor, given.ceiling
    inside = given.cost <= high
    x = np.maximum(np.append(low, given.cost[inside]), low)
    y = np.append(start, given.quality[inside])
    # Points better than all cheaper ones; the best at equal cost.
    order = np.lexsort((-y, x))
    x, y = x[order], y[order]
    better = y > np.append(-np.inf, np.maximum.accumulate(y)[:-1])
    x, y = x[better], y[better]
    if not low < high:
        return float(y[-1])
    return float(np.trapezoid(np.append(y, y[-1]), np.append(x, high)) / (high - low))


@score("peak", "highest quality at any cost (ORBIT)", "there is no point")
def peak(given: Evidence) -> float:
    """Return the highest mean quality of any point, or of the point `floor`.

    ORBIT, methods/base.py, `_calculate_max_accuracy`: its Pareto front includes that point.
    """
    return float(max(given.quality.max(), given.floor[1]))


@score(
    "qnc",
    "least cost of a point as good as the best single model, over that model's (ORBIT)",
    "no point is as good as the best single model, or that model is free",
    higher=False,
)
def qnc(given: Evidence) -> float:
    """Return the least cost that gives the best single model's quality, as its share.

    min {c : q(c) >= best single quality} / that model's cost, over the points and `floor`, without
    interpolation: with few budgets it is coarse (ORBIT, methods/base.py,
    `_find_min_cost_for_target`; the same idea in Jitkrittum et al. 2025, arXiv 2502.08773). The
    cheapest of equally good models counts.
    """
    best = np.lexsort((given.single_cost, -given.single_quality))[0]
    target, price = given.single_quality[best], given.single_cost[best]
    x, y = np.append(given.cost, given.floor[0]), np.append(given.quality, given.floor[1])
    enough = y >= target - _SLACK * abs(target)
    return float(x[enough].min() / price) if enough.any() and price > 0 else np.nan


def sound(
    quality: Float[np.ndarray, "N K"], single_cost: Float[np.ndarray, " K"]
) -> Bool[np.ndarray, "N K"]:
    """Return which answers pass on each query.

    A model's answer is sound where no other is better, and either the model is not the most
    expensive by `single_cost`, ties included, or only the most expensive are that good. The score
    rci is 1 - the mean over queries of sound(n, answer(n)) (ORBIT, methods/base.py, `cal_rci`,
    after Lai and Ye 2026, arXiv 2602.03478). ORBIT takes it where no budget holds the router back;
    a study takes it at its largest budget. Of a strategy that runs several models, the model whose
    answer it returns counts.
    """
    best = quality == quality.max(1, keepdims=True)
    most_expensive = single_cost == single_cost.max()
    cheaper_is_best = (best & ~most_expensive).any(1, keepdims=True)
    return best & (~most_expensive | ~cheaper_is_best)


score(
    "rci",
    "share of queries a cheaper or better model should have had (ORBIT)",
    "it was not computed",
    higher=False,
)(lambda given: given.collapsed)


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
def cpt(given: Evidence, share: float) -> float:
    """Return the least share of calls to the strong model that recovers `share` of its lead.

    CPT(x%) is the least share of calls to the strong model at which the gap recovered,
    PGR = (q - q_weak) / (q_strong - q_weak), is x% (Ong et al. 2024, arXiv 2406.18665;
    lm-sys/RouteLLM, routellm/evals/evaluate.py, which interpolates linearly as well). Between
    0 and 1; theirs is in percent.

    They have two models. Here the strong one is the single model of highest mean quality, the
    weak one the one of lowest, of equals the cheapest, and a call is a query on which the strong
    model ran, whether or not its answer was taken. With more models there is quality without the
    strong one, so that 0 can be right. Where every point calls it, the points are joined to weak
    alone, share 0.
    """
    x, y = _recovered(given)
    reached = np.flatnonzero(y >= share - _SLACK)
    if not len(reached):
        return np.nan
    i = int(reached[0])
    return float(np.interp(share, y[[i - 1, i]], x[[i - 1, i]]) if i else x[0])


@score("apgr", "strong model's lead closed, averaged over its share of calls (RouteLLM)", _EQUAL)
def apgr(given: Evidence) -> float:
    """Return the average performance gap recovered, over the share of calls to the strong model.

    APGR = integral of PGR over that share from 0 to 1, as in `cpt` (Ong et al. 2024, who sum over
    ten shares; their code takes the trapezoids of the points it has, as is done here). Where no
    point has share 0 or 1, the curve ends at weak alone, PGR 0, and at strong alone, PGR 1: with
    two models these are its ends. Mixing the two at random scores 1/2, and more than 1 is reached
    where strategies do better than the strong model.
    """
    x, y = _recovered(given)
    if x[-1] < 1:
        x, y = np.append(x, 1), np.append(y, 1)
    return float(np.trapezoid(y, x))


@score(
    "oracle-gap",
    "share closed of the AUC between mixing and the oracle",
    "the oracle gains nothing over mixing",
)
def oracle_gap(given: Evidence) -> float:
    """Return the share of the gap between mixing and the oracle that a strategy closes.

    (A - A_mixing) / (A_oracle - A_mixing) of AUCs, A_mixing of the single models' upper hull. 1 is
    the best any router can do; strategies that run several models may pass it. The papers that
    speak of a gap closed compare qualities whatever they cost; over all budgets, the AUCs are our
    reading, and coarse with few budgets.
    """
    mixing = float(auc(*given.hull, given.single_cost, given.single_quality))
    gap = given.oracle - mixing
    return (given.auc - mixing) / gap if gap > _SLACK * abs(given.oracle) else np.nan


def _recovered(given: Evidence) -> tuple[Float[np.ndarray, " S"], Float[np.ndarray, " S"]]:
    """Return shares of calls to the strong model, and the gap recovered; NaN without a gap."""
    single = given.single_quality
    strong = np.lexsort((given.single_cost, -single))[0]
    weak = np.lexsort((given.single_cost, single))[0]
    gap = single[strong] - single[weak]
    if not gap > _SLACK * abs(single[strong]):
        gap = np.nan
    recovered, calls = (given.quality - single[weak]) / gap, np.clip(given.ran[:, strong], 0, 1)
    order = np.lexsort((recovered, calls))
    x, y = calls[order], recovered[order]
    return (np.append(0, x), np.append(0, y)) if x[0] > 0 else (x, y)


def check_scores(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names of scores, each listed once.

    Args:
        names: names from `SCORES`.

    Returns:
        The names, in their order.

    Raises:
        CascjaxError: an unknown name, or one that is listed twice.

    Example:
      >>> check_scores(["qnc", "auc"])
      ('qnc', 'auc')
    """
    listed = tuple(names)
    for at, name in enumerate(listed):
        check_name("score", name, SCORES)
        if name in listed[:at]:
            raise CascjaxError(f"score {name!r} is listed twice; name it once")
    return listed
