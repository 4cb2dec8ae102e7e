"""The definitions of the strategies and scores once more, in plain float64 loops.

Slow and short on purpose, and sharing no code with cascjax: what the tests hold it to.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq
from scipy.special import ndtr

from cascjax.strategies import Strategy

Vector: TypeAlias = Float[np.ndarray, " K"]

Choice: TypeAlias = tuple[int | None, float]
"""The model to run next, None to stop, and by how much that beat the best other choice."""

Policy: TypeAlias = Callable[["Believed", Any, frozenset[int]], Choice]
"""What is believed, the parameter in force (of frugal all) and the run set, to a choice."""

# Panels one sigma wide around every mean: 12 Gauss-Legendre nodes leave less than 1e-13 there,
# and beyond 9 sigma lies 1e-19 of the mass (tests/test_expected_max.py holds it to quad).
_PANELS = np.arange(-9.0, 10.0)
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(12)


def density(t: np.ndarray | float) -> np.ndarray:
    """The unit normal density."""
    return np.exp(-(t**2) / 2) / np.sqrt(2 * np.pi)


def highest_density(mean: Vector, sigma: Vector) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Nodes x, each model's weighted density of being the maximum there, a floor and its mass.

    Models of sigma 0 are the floor: no maximum lies below the best of them.
    """
    sure = sigma == 0
    floor = mean[sure].max() if sure.any() else -np.inf
    mean, sigma = mean[~sure], sigma[~sure]
    knots = np.maximum((mean[:, None] + sigma[:, None] * _PANELS).ravel(), floor)
    knots = np.unique(knots)
    half, middle = np.diff(knots) / 2, (knots[1:] + knots[:-1]) / 2
    x = (middle[:, None] + half[:, None] * _NODES).ravel()
    weight = (half[:, None] * _WEIGHTS).ravel()
    t = (x - mean[:, None]) / sigma[:, None]
    below = ndtr(t)
    rows = [
        weight * density(t[i]) / sigma[i] * np.delete(below, i, axis=0).prod(0)
        for i in range(len(mean))
    ]
    mass = float(ndtr((floor - mean) / sigma).prod()) if sure.any() else 0.0
    return x, np.array(rows).reshape(len(mean), -1), float(floor), mass


def expected_max(mean: Sequence[float] | Vector, sigma: Sequence[float] | Vector) -> float:
    """E[max_i Q_i] of independent normal Q_i: the integral of x times the maximum's density."""
    means, sigmas = np.asarray(mean, np.float64), np.asarray(sigma, np.float64)
    if not (sigmas > 0).any():
        return float(means.max())
    x, rows, floor, mass = highest_density(means, sigmas)
    return float((x * rows).sum()) + (floor * mass if mass else 0.0)


def gain(floor: float, mean: Vector, sigma: Vector) -> float:
    """E[(max_i Q_i - floor)+], 0 of no models."""
    return expected_max([floor, *mean.tolist()], [0.0, *sigma.tolist()]) - float(floor)


def highest_probability(mean: Vector, sigma: Vector) -> Vector:
    """P(i is the argmax) of independent uncertain Q_i: what E[max] gains per unit of mean_i."""
    return highest_density(mean, sigma)[1].sum(1)


def expected_max_of_two(mean: Vector, covariance: Float[np.ndarray, "2 2"]) -> float:
    """E[max(Q_1, Q_2)] of two correlated normals (Clark, Operations Research 1961)."""
    spread = np.sqrt(max(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1], 0))
    if spread == 0:
        return float(mean.max())
    t = (mean[0] - mean[1]) / spread
    return float(mean[0] * ndtr(t) + mean[1] * ndtr(-t) + spread * density(t))


def reservation_value(mean: float, sigma: float, cost: float) -> float:
    """The z at which E[(Q - z)+] = cost, by bracketing."""
    if cost <= 0:
        return np.inf
    if sigma == 0:
        return mean - cost

    def short(t: float) -> float:
        return float(density(t)) - t * float(ndtr(-t)) - cost / sigma

    root: Any = brentq(short, -cost / sigma - 1, 40, xtol=1e-13)
    return mean + sigma * root


@dataclass(frozen=True)
class Believed:
    """What is believed of the K models of one query: quality, its sigma, and cost."""

    quality: Vector
    sigma: Vector
    cost: Vector

    def value(self, models: frozenset[int]) -> float:
        """V of a supermodel; of none, -inf."""
        chosen = sorted(models)
        return expected_max(self.quality[chosen], self.sigma[chosen]) if chosen else -np.inf

    def worth(self, models: frozenset[int], price: float) -> float:
        """V - lambda C."""
        return self.value(models) - price * float(self.cost[sorted(models)].sum())


@dataclass(frozen=True)
class Query:
    """One query: estimates before and after, and sigma."""

    quality_ante: Vector
    quality_post: Vector
    sigma: Vector
    cost_ante: Vector
    cost_post: Vector

    def believed(self, run: frozenset[int]) -> Believed:
        """Post-hoc estimates of what has run, ex-ante of the rest."""
        is_run = np.isin(np.arange(len(self.sigma)), list(run))
        return Believed(
            np.where(is_run, self.quality_post, self.quality_ante),
            np.where(is_run, 0.0, self.sigma),
            np.where(is_run, self.cost_post, self.cost_ante),
        )


def _decide(options: list[tuple[float, int | None]]) -> Choice:
    """The choice of the highest worth, and its lead over the best other choice."""
    worth, choice = max(options, key=lambda option: option[0])
    others = [other for other, to in options if to != choice]
    return choice, worth - max(others, default=-np.inf)


def supersets(k: int, run: frozenset[int], max_depth: int) -> list[frozenset[int]]:
    """All supermodels that hold what has run, of at most max_depth models."""
    rest = [i for i in range(k) if i not in run]
    sizes = range(max_depth - len(run) + 1)
    return [run | set(more) for n in sizes for more in itertools.combinations(rest, n)]


def routing(believed: Believed, price: float, run: frozenset[int]) -> Choice:
    """Routing: the best single model, then stop."""
    if run:
        return None, np.inf
    return _decide([(q - price * c, i) for i, (q, c) in enumerate(_pairs(believed))])


def _pairs(believed: Believed) -> list[tuple[float, float]]:
    return list(zip(believed.quality.tolist(), believed.cost.tolist(), strict=True))


def mixing(believed: Believed, model: float, run: frozenset[int]) -> Choice:
    """Mixing: always the same model."""
    del believed
    return (None if run else round(model)), np.inf


def thresholding(believed: Believed, tau: float, run: frozenset[int]) -> Choice:
    """Thresholding: go on in order while the last model run falls short of tau."""
    step = len(run)
    if step == 0:
        return 0, np.inf
    last = believed.quality[step - 1]
    return (step if step < len(believed.quality) and last < tau else None), abs(last - tau)


def frugal(believed: Believed, setting: Vector, run: frozenset[int]) -> Choice:
    """Frugal: go on along a chain while the last model run falls short of its tau."""
    k = len(believed.quality)
    chain = [i for i in range(k) if int(setting[0]) // 2**i % 2]
    if not run:
        return chain[0], np.inf
    step, last = len(run), believed.quality[max(run)]
    tau = float(setting[min(step, len(setting) - 1)])
    return (chain[step] if step < len(chain) and last < tau else None), abs(last - tau)


def cascading(believed: Believed, price: float, run: frozenset[int]) -> Choice:
    """Cascading: the best prefix at least as long as what has run."""
    step, k = len(run), len(believed.quality)
    prefixes = [frozenset(range(j)) for j in range(max(step, 1), k + 1)]
    return _decide([(believed.worth(m, price), step if len(m) > step else None) for m in prefixes])


def cascade_routing(max_depth: int = 5, uncertainty: bool = True) -> Policy:
    """Cascade routing: the best superset, of which the cheapest model is run next."""

    def policy(believed: Believed, price: float, run: frozenset[int]) -> Choice:
        if not uncertainty:
            believed = Believed(believed.quality, 0 * believed.sigma, believed.cost)
        candidates = supersets(len(believed.quality), run, max_depth)
        return _decide(
            [(believed.worth(m, price), min(m - run, default=None)) for m in candidates if m]
        )

    return policy


def beam(width: int, levels: int, max_depth: int = 5) -> Policy:
    """The same, over supersets grown in rising index, the best `width` of each size kept."""

    def policy(believed: Believed, price: float, run: frozenset[int]) -> Choice:
        k, lead = len(believed.quality), np.inf
        options: list[tuple[float, int | None]] = []
        if run:
            options.append((believed.worth(run, price), None))
        kept: list[tuple[int, ...]] = [()]
        for _ in range(min(levels, max_depth - len(run))):
            grown = [(*m, i) for m in kept for i in range(max(m, default=-1) + 1, k)]
            scored = [(believed.worth(run | set(m), price), m) for m in grown if m[-1] not in run]
            scored.sort(reverse=True)
            if len(scored) > width:
                lead = min(lead, scored[width - 1][0] - scored[width][0])
            kept = [m for _, m in scored[:width]]
            options += [(worth, m[0]) for worth, m in scored[:width]]
        choice, last_lead = _decide(options) if options else (None, np.inf)
        return choice, min(lead, last_lead)

    return policy


def pandora(believed: Believed, price: float, run: frozenset[int]) -> Choice:
    """Weitzman's rule: the highest reservation value, while it beats the best in hand."""
    rows = zip(believed.quality, believed.sigma, price * believed.cost, strict=True)
    z = [reservation_value(float(q), float(s), float(c)) for q, s, c in rows]
    options: list[tuple[float, int | None]] = [(z[i], i) for i in range(len(z)) if i not in run]
    if run:
        options.append((max(float(believed.quality[i]) for i in run), None))
    return _decide(options)


def at_step(parameter: float | Vector, step: int) -> float:
    """The parameter in force at a step."""
    steps = np.atleast_1d(parameter)
    return float(steps[min(step, len(steps) - 1)])


def rollout(
    policy: Policy, parameter: float | Vector, query: Query, last_answers: bool = False
) -> tuple[frozenset[int], int, float]:
    """What a policy runs on one query, its answer, and the smallest lead of its choices.

    The answer is the run model of the highest post-hoc quality, or the last one in order.
    """
    run: frozenset[int] = frozenset()
    least = np.inf
    while len(run) < len(query.sigma):
        # A threshold belongs to the answer just seen, a price to the step to come.
        step = max(len(run) - 1, 0) if last_answers else len(run)
        now: Any = parameter if policy is frugal else at_step(parameter, step)
        choice, lead = policy(query.believed(run), now, run)
        least = min(least, lead)
        if choice is None:
            break
        run |= {choice}
    answer = max(run) if last_answers else max(run, key=lambda i: query.quality_post[i])
    return run, answer, least


def auc(
    cost: Sequence[float] | np.ndarray,
    quality: Sequence[float] | np.ndarray,
    low: float,
    high: float,
    lowest: float,
) -> float:
    """AUC between the costs low and high, segment by segment, divided by their distance."""
    points = sorted(zip(cost, quality, strict=True))
    if points[0][0] > low:
        points.insert(0, (low, lowest))
    points.append((max(high, points[-1][0]) + 1, points[-1][1]))
    total = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        left, right = max(x0, low), min(x1, high)
        if left < right:
            middle = y0 + (y1 - y0) * ((left + right) / 2 - x0) / (x1 - x0)
            total += (right - left) * middle
    return total / (high - low)


def upper_hull(cost: Vector, quality: Vector) -> list[int]:
    """Points that no other point dominates and no mix of two others reaches; in rising cost."""
    k = range(len(cost))

    def beaten(i: int) -> bool:
        as_good = [j for j in k if cost[j] <= cost[i] and quality[j] >= quality[i]]
        if any(cost[j] < cost[i] or quality[j] > quality[i] for j in as_good):
            return True
        return any(
            cost[a] < cost[i] < cost[b]
            and quality[a] + (quality[b] - quality[a]) * (cost[i] - cost[a]) / (cost[b] - cost[a])
            >= quality[i]
            for a in k
            for b in k
        )

    return sorted((i for i in k if not beaten(i)), key=lambda i: cost[i])


def swept_only(kind: Strategy) -> Strategy:
    """Return the strategy without breakpoints, so that totals go by its sweep."""
    plainly = type(type(kind).__name__, (type(kind),), {"has_breakpoints": False})
    return dataclass(frozen=True)(plainly)(**vars(kind))
