"""The definitions once more in NumPy and SciPy, with no import from cascjax.

Slow and short on purpose: plain loops in float64, query by query.
"""

import itertools

import numpy as np
from scipy.integrate import quad
from scipy.optimize import brentq, linprog
from scipy.sparse import coo_array
from scipy.special import ndtr

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(12)


def mixture(cost, quality, budget):
    """Return the best mean quality of a mixture of two models that costs at most the budget."""
    best = -np.inf
    for a, b in itertools.product(range(len(cost)), repeat=2):
        if cost[a] <= budget:
            best = max(best, quality[a])
        if cost[a] <= budget < cost[b]:
            share = (budget - cost[a]) / (cost[b] - cost[a])
            best = max(best, quality[a] + share * (quality[b] - quality[a]))
    return best


def mixture_auc(cost, quality):
    """Return the area under all mixtures, exactly: between two models' costs they are linear."""
    knots = np.unique(cost)
    heights = [mixture(cost, quality, x) for x in knots]
    return np.trapezoid(heights, knots) / np.ptp(knots)


def routed(quality, cost):
    """Return the knots (mean cost, mean quality) of the best routing on what is known exactly.

    The knapsack of multiple choice: steps along each query's hull, the steepest first.
    """
    steps, start = [], np.zeros(2)
    for q, c in zip(quality, cost, strict=True):
        at = min(range(len(q)), key=lambda i: (c[i], -q[i]))
        start += c[at], q[at]
        while (q > q[at]).any():
            slope = [(q[i] - q[at]) / (c[i] - c[at]) if q[i] > q[at] else 0 for i in range(len(q))]
            top = max(range(len(q)), key=lambda i: (slope[i], q[i]))
            steps.append((slope[top], c[top] - c[at], q[top] - q[at]))
            at = top
    steps.sort(key=lambda step: -step[0])
    knots = np.cumsum([start, *(step[1:] for step in steps)], axis=0) / len(quality)
    return knots[:, 0], knots[:, 1]


def routed_auc(quality, cost):
    """Return the exact area under the best routing."""
    x, y = routed(quality, cost)
    low, high = cost.mean(0).min(), cost.mean(0).max()
    knots = np.unique([low, high, *x[(x > low) & (x < high)]])
    return np.trapezoid(np.interp(knots, x, y), knots) / (high - low)


def linear_program(quality, cost, budget):
    """Return the optimum of routing as a linear program over shares of models by query."""
    n, k = quality.shape
    place = np.arange(n * k)
    whole = coo_array((np.ones(n * k), (place // k, place)), shape=(n, n * k)).tocsr()
    unit = cost.max()
    solution = linprog(
        -quality.ravel() / n, A_ub=cost.reshape(1, -1) / n / unit, b_ub=[budget / unit],
        A_eq=whole, b_eq=np.ones(n), method="highs",
    )  # fmt: skip
    return -solution.fun


def expected_max(mean, sigma):
    """Return E[max] of independent normals: the highest value minus the integral of their CDF."""
    sure = sigma == 0
    floor = mean[sure].max(initial=-np.inf)
    mean, sigma = mean[~sure], sigma[~sure]
    low = max(floor, (mean - 10 * sigma).max(initial=-np.inf))
    high = max(low, (mean + 10 * sigma).max(initial=-np.inf))
    knots = (mean[:, None] + sigma[:, None] * np.arange(-10, 11)).ravel()
    knots = np.unique(np.clip([low, high, *knots], low, high))
    half, middle = np.diff(knots) / 2, (knots[1:] + knots[:-1]) / 2
    x = middle[:, None] + half[:, None] * _NODES
    product = ndtr((x[..., None] - mean) / np.where(sigma > 0, sigma, 1)).prod(-1)
    return high - (product * half[:, None] * _WEIGHTS).sum()


def expected_max_quad(mean, sigma):
    """Return E[max] of independent normals by adaptive quadrature of the survival function."""
    floor = mean[sigma == 0].max(initial=-np.inf)
    mean, sigma = mean[sigma > 0], sigma[sigma > 0]
    low = max(floor, (mean - 10 * sigma).max(initial=-np.inf))
    knots = np.sort([low, *(mean[:, None] + sigma[:, None] * [-6, -3, 0, 3, 6, 10]).ravel()])
    knots = np.unique(knots[knots >= low])
    return low + sum(
        quad(lambda x: 1 - ndtr((x - mean) / sigma).prod(), a, b, epsabs=1e-13, epsrel=1e-11)[0]
        for a, b in itertools.pairwise(knots)
    )


def unit_loss(t):
    """Return E[(Z - t)+] of a standard normal."""
    return np.exp(-t * t / 2) / np.sqrt(2 * np.pi) - t * ndtr(-t)


def unit_loss_quad(t):
    """Return the same by quadrature of P(Z > x) from t on."""
    low = max(t, -9)
    tail = quad(lambda x: ndtr(-x), low, max(low, 0) + 12, epsabs=0, epsrel=1e-12)[0]
    return tail + max(-9 - t, 0)


def reservation_value(mean, sigma, cost, loss=unit_loss):
    """Return the z at which E[(Q - z)+] is the cost, by bracketing."""
    if cost <= 0:
        return np.inf
    if sigma == 0:
        return mean - cost
    ratio = cost / sigma
    return mean + sigma * brentq(lambda t: loss(t) - ratio, -ratio - 1, 8, xtol=1e-12)


def options(strategy, parameter, estimated, run):
    """Return pairs (worth, next model or None to stop) of a strategy, DESIGN section 4.

    `estimated` are quality, sigma and cost of every model, given the models in `run`.
    """
    quality, sigma, cost = estimated
    k, step = len(quality), len(run)
    models = range(k)
    if strategy == "routing":
        return [(0, None)] if run else [(quality[i] - parameter * cost[i], i) for i in models]
    if strategy == "thresholding":
        go_on = not run or (step < k and quality[step - 1] < parameter)
        return [(np.inf, step if go_on else None)]
    if strategy == "pandora":
        z = [(reservation_value(quality[i], sigma[i], parameter * cost[i]), i) for i in models]
        stop = [(max(quality[i] for i in run), None)] if run else []
        return stop + [(value, i) for value, i in z if i not in run]

    def worth(chosen):
        chosen = sorted(chosen)
        return expected_max(quality[chosen], sigma[chosen]) - parameter * cost[chosen].sum()

    if strategy == "cascading":
        prefixes = [range(j) for j in range(max(step, 1), k + 1)]
        return [(worth(m), step if len(m) > step else None) for m in prefixes]
    left = [i for i in models if i not in run]
    more = [set(m) for n in range(len(left) + 1) for m in itertools.combinations(left, n)]
    return [(worth(run | m), min(m, default=None)) for m in more if run | m]


def rollout(strategy, parameter, ante, post, sigma, cost):
    """Return what runs on one query, the answer, and the smallest lead of a choice over others."""
    run, least, k = set(), np.inf, len(ante)
    while len(run) < k:
        is_run = np.isin(np.arange(k), list(run))
        estimated = np.where(is_run, post, ante), np.where(is_run, 0, sigma), cost
        ranked = options(strategy, parameter, estimated, run)
        best, choice = max(ranked, key=lambda option: option[0])
        others = [worth for worth, other in ranked if other != choice]
        least = min(least, 0 if best in others else best - max(others, default=-np.inf))
        if choice is None:
            break
        run.add(choice)
    last = strategy == "thresholding"
    return run, max(run) if last else max(sorted(run), key=lambda i: post[i]), least
