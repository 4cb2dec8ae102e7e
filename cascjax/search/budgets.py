"""Parameters for a budget or a target: two neighbouring settings, and the shares to mix them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from cascjax.core.arrays import in_float32
from cascjax.core.estimates import Estimator
from cascjax.core.sweep import has_breakpoints
from cascjax.core.totals import Totals
from cascjax.data.table import Table, mean_rows, upper_hull
from cascjax.engine.simulate import grid_means, sized, totals
from cascjax.strategies import SearchContext, Strategy
from cascjax.strategies.base import float32_grid

SETTINGS = 64  # Settings simulated at once; one number, so that each strategy compiles once

MANY_SETTINGS = 4096
"""Settings simulated at once where their number hardly counts, see `core.breakpoints`."""

FEW_SETTINGS = 8  # Settings simulated at once where few will do and the queries are many
SAMPLE = 1 << 15  # Queries of a sample that shows where to look, where there are many times more
_FEW_BUDGETS = 4  # Budgets up to which a sample shows where to spend as few settings as `SETTINGS`

ROUNDS = 16
"""Rounds of refinement at most; they end earlier where no budget is left to bracket closely."""

SLACK = 1e-5
"""Relative rounding of float32 sums and printed digits that a budget or target tolerates."""

_CLOSE = 1e-3
"""Neighbours whose costs differ by less than this share of the budgets' range are close enough:
mixing them then loses about 1e-6 of quality, since the loss falls with the square. Likewise for
qualities and targets."""


@dataclass(frozen=True)
class Fit:
    """Mixtures of two neighbouring settings, cheap then expensive, for P budgets or targets.

    `gamma` is the share of queries that take the expensive setting; `cost` and `quality` are means
    on the fit queries. `reach` is 0 where the budget is met, -1 below the lowest reachable cost and
    1 above the highest; for targets -1 above the highest reachable quality and 1 where the cheapest
    setting that meets the target gives more. `cheapest`, `most_expensive` and `best` are the lowest
    and highest mean cost and the highest mean quality within reach.
    """

    parameters: Float[np.ndarray, "P 2 *D"]
    gamma: Float[np.ndarray, " P"]
    cost: Float[np.ndarray, " P"]
    quality: Float[np.ndarray, " P"]
    reach: Int[np.ndarray, " P"]
    cheapest: float
    most_expensive: float
    best: float


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Pool:
    """Settings with their means on the queries fitted on, in the order they are neighbours in."""

    parameters: Float[np.ndarray, "L *D"]
    cost: Float[np.ndarray, " L"]
    quality: Float[np.ndarray, " L"]

    def mix(self, budgets: Float[np.ndarray, " P"]) -> Fit:
        """Return the two neighbours whose mixture costs each budget; see `_neighbours`."""
        places = np.arange(len(self.cost), dtype=np.float64)
        fit = mix(np.stack([places, self.cost, self.quality]), budgets)
        return replace(fit, parameters=self.parameters[fit.parameters.astype(int)])


@dataclass
class SettingsCache:
    """Settings simulated so far, for a further search on the same queries."""

    settings: Pool | None = None


def simulate_settings(
    strategy: Strategy,
    parameters: Float[np.ndarray, "L *D"],
    estimator: Estimator,
    table: Table,
    **how: Any,
) -> Totals:
    """Return means per query of any number of settings; `how` as in `sum_settings`."""
    return sum_settings(strategy, parameters, estimator, table, **how).means()


def sum_settings(
    strategy: Strategy,
    parameters: Float[np.ndarray, "L *D"],
    estimator: Estimator,
    table: Table,
    *,
    rows: Int[np.ndarray, " n"] | None = None,
    usage: bool = True,
    progress: Callable[[int], None] = lambda queries: None,
    extra_costs: Sequence[Float[np.ndarray, "N K"]] = (),
) -> Totals:
    """Return sums over queries of any number of settings, as many at a time as `totals` takes."""
    parts: list[Totals] = []
    most = at_once(strategy, estimator)
    for start in range(0, len(parameters), most):
        part = parameters[start : start + most]
        # Where each setting is computed by itself, always as many: few programs to compile.
        few = len(part) <= FEW_SETTINGS and is_large(table, rows)
        short = 0 if most > SETTINGS else (FEW_SETTINGS if few else most) - len(part)
        sums = totals(
            strategy, np.concatenate([part, np.repeat(part[-1:], short, axis=0)]), estimator,
            table.quality, table.cost, rows=rows, usage=usage, progress=progress,
            extra_costs=extra_costs,
        )  # fmt: skip
        parts.append(sums[: len(part)])
    count = parts[0].count
    joined = jax.tree.map(lambda *sums: np.concatenate([np.atleast_1d(s) for s in sums]), *parts)
    return replace(joined, count=count)


def is_large(table: Table, rows: Int[np.ndarray, " n"] | None) -> bool:
    """Return whether there are so many queries that a sample is worth a look first."""
    return (table.n_queries if rows is None else len(rows)) > 4 * SAMPLE


def sampled(table: Table, rows: Int[np.ndarray, " n"] | None) -> Int[np.ndarray, " m"]:
    """Return about `SAMPLE` of the rows, evenly spread."""
    rows = np.arange(table.n_queries) if rows is None else rows
    return rows[:: max(1, len(rows) // SAMPLE)]


@in_float32
def fit_budgets(
    strategy: Strategy,
    estimator: Estimator,
    table: Table,
    budgets: Float[np.ndarray, " P"],
    progress: Callable[[int], None] = lambda queries: None,
    *,
    rows: Int[np.ndarray, " n"] | None = None,
    spare: bool = False,
    cache: SettingsCache | None = None,
) -> Fit:
    """Return, for every budget, the cheap and the expensive neighbour whose mixture costs it.

    All budgets share one pool of simulated settings: first the strategy's whole initial grid, or
    what a sample of the queries shows to be near the budgets; then rounds of points between the
    neighbours of every budget not yet bracketed closely, until the two cost nearly the same or no
    float32 lies between them. With `spare`, part of a budget is left over where a cheaper setting
    gives clearly more, by a thousandth of the spread of the single models: quality need not rise
    with cost.
    """
    pool = _searched(strategy, estimator, table, budgets, progress, rows, cache)
    if cache is not None:
        cache.settings = pool
    fit = pool.mix(budgets)
    if spare and strategy.line:
        return spared(fit, pool, budgets, mean_rows(table.quality, rows))
    return fit


def spared(
    fit: Fit,
    pool: Pool | Float[np.ndarray, "3 L"],
    budgets: Float[np.ndarray, " P"],
    single_quality: Float[np.ndarray, " K"],
) -> Fit:
    """Return the fit, with the cheaper setting for budgets where one gives clearly more."""
    pool = pool if isinstance(pool, Pool) else Pool(*pool)
    alone = np.where(pool.cost <= budgets[:, None], pool.quality, -np.inf)
    best = alone.argmax(1)
    more = alone.max(1) > fit.quality + _CLOSE * np.ptp(single_quality)
    return _with_single(fit, pool, best, more)


@in_float32
def fit_targets(
    strategy: Strategy,
    estimator: Estimator,
    table: Table,
    targets: Float[np.ndarray, " P"],
    progress: Callable[[int], None] = lambda queries: None,
    *,
    rows: Int[np.ndarray, " n"] | None = None,
) -> Fit:
    """Return, for every target, the settings of least mean cost whose mean quality reaches it.

    As `fit_budgets`, with cost and quality in each other's place.
    """
    pool = _searched(strategy, estimator, table, targets, progress, rows, None, targets=True)
    turned = Pool(pool.parameters, -pool.quality, -pool.cost).mix(-targets)
    fit = replace(
        turned,
        parameters=turned.parameters[:, ::-1], gamma=1 - turned.gamma,
        cost=-turned.quality, quality=-turned.cost,
        cheapest=float(pool.cost.min()), most_expensive=float(pool.cost.max()),
        best=float(pool.quality.max()),
    )  # fmt: skip
    # Quality need not rise with cost: one setting alone may meet the target for less.
    alone = np.where(pool.quality >= targets[:, None], pool.cost, np.inf)
    best = alone.argmin(1)
    less = (alone.min(1) <= fit.cost) & (fit.reach >= 0)
    reach = np.where(less & (pool.quality[best] > targets), 1, np.minimum(fit.reach, 0))
    return replace(_with_single(fit, pool, best, less), reach=reach)


def _with_single(
    fit: Fit, pool: Pool, best: Int[np.ndarray, " P"], where: Bool[np.ndarray, " P"]
) -> Fit:
    """Return the fit with one setting of the pool in place of a mixture."""
    single = pool.parameters[best, None]
    shape = (-1, *[1] * (single.ndim - 1))
    return replace(
        fit,
        parameters=np.where(where.reshape(shape), single, fit.parameters),
        gamma=np.where(where, 0, fit.gamma),
        cost=np.where(where, pool.cost[best], fit.cost),
        quality=np.where(where, pool.quality[best], fit.quality),
    )


def fit_settings(
    strategy: Strategy,
    settings: Float[np.ndarray, "M D"],
    estimator: Estimator,
    table: Table,
    budgets: Float[np.ndarray, " P"],
    *,
    rows: Int[np.ndarray, " n"] | None = None,
) -> Fit:
    """Return, among given settings, the two whose mixture costs each budget and is best."""
    return _on_hull(strategy, np.asarray(settings), estimator, table, rows).mix(budgets)


def _on_hull(
    strategy: Strategy,
    settings: Float[np.ndarray, "M D"],
    estimator: Estimator,
    table: Table,
    rows: Int[np.ndarray, " n"] | None,
) -> Pool:
    """Return the settings on the upper hull of them all."""
    means = simulate_settings(strategy, settings, estimator, table, rows=rows, usage=False)
    cost, quality = (np.asarray(mean, np.float64) for mean in (means.cost, means.quality))
    hull = upper_hull(cost, quality)
    return Pool(settings[hull], cost[hull], quality[hull])


def _searched(
    strategy: Strategy,
    estimator: Estimator,
    table: Table,
    wanted: Float[np.ndarray, " P"],
    progress: Callable[[int], None],
    rows: Int[np.ndarray, " n"] | None,
    cache: SettingsCache | None,
    *,
    targets: bool = False,
) -> Pool:
    """Return settings in rising parameter, or along a hull, close to all that is wanted."""
    estimator = sized(strategy, estimator)
    most, context = at_once(strategy, estimator), SearchContext(table, estimator, rows)
    start = None if cache is None else cache.settings
    if not strategy.line and start is not None:
        return start

    def evaluate(grid: Float[np.ndarray, " T"]) -> Float[np.ndarray, "C T 2"]:
        return grid_means(
            strategy, grid, estimator, table.quality, table.cost, rows=rows, progress=progress
        )

    settings = strategy.candidates(context, evaluate)
    if settings is not None:
        return _on_hull(strategy, settings, estimator, table, rows)
    spread = np.ptp(context.quality) + context.ante.std() if targets else np.ptp(context.cost)

    def turned(pool: Pool) -> Float[np.ndarray, "3 L"]:
        """Return parameters, costs and qualities; for targets -quality and -cost in their place."""
        if targets:
            return np.stack([pool.parameters, -pool.quality, -pool.cost])
        return np.stack([pool.parameters, pool.cost, pool.quality])

    goal = -wanted if targets else wanted

    def refined(
        start: Pool | Float[np.ndarray, " L"], sample: Int[np.ndarray, " n"] | None
    ) -> Pool:
        def simulate(parameters: Float[np.ndarray, " L"]) -> Pool:
            means = simulate_settings(
                strategy, parameters, estimator, table, rows=sample, usage=False,
                progress=progress if sample is rows else lambda queries: None,
            )  # fmt: skip
            return Pool(parameters, np.asarray(means.cost), np.asarray(means.quality))

        pool = start if isinstance(start, Pool) else simulate(start)
        for _ in range(ROUNDS):
            new = closer(strategy, turned(pool), goal, spread, most)
            if not len(new):
                break
            pool = jax.tree.map(lambda *parts: np.concatenate(parts), pool, simulate(new))
            order = np.argsort(pool.parameters)
            pool = jax.tree.map(lambda column: column[order], pool)  # noqa: B023
        return pool

    if start is not None:
        return refined(start, rows)
    # float32 from the start: what is returned is what was simulated.
    grid = float32_grid(strategy.initial_grid(context, most))
    if is_large(table, rows) and (most > SETTINGS or len(wanted) <= _FEW_BUDGETS):
        # A sample shows where the budgets lie, but for its error; there all settings are spent.
        pool = turned(refined(grid, sampled(table, rows)))
        error = 2 * spread / np.sqrt(SAMPLE)
        ends = [_neighbours(pool, goal + side * error) for side in (-1, 1)]
        near = pool[0, np.stack([*ends[0], *ends[1]], axis=1)]
        near = np.unique(np.stack([near.min(1), near.max(1)], axis=1), axis=0)
        coarse = np.union1d(grid[:: max(most // SETTINGS, 4)], pool[0, [0, -1]])
        grid = np.union1d(coarse, _between(strategy, near, most - len(coarse)))
    return refined(grid, rows)


def closer(
    strategy: Strategy,
    pool: Float[np.ndarray, "3 L"],
    wanted: Float[np.ndarray, " P"],
    spread: float | np.floating,
    most: int,
) -> Float[np.ndarray, " M"]:
    """Return the settings to simulate next: between neighbours not yet bracketed closely.

    Neighbours are close on the scale of `spread`, the range of costs; none are returned where
    nothing is left to bracket. The pool has rising parameters, mean costs and mean qualities.
    """
    left, right = _neighbours(pool, wanted)
    gap = np.abs(pool[1, left] - pool[1, right])
    wide = np.flatnonzero((left != right) & (gap > _CLOSE * spread))
    pairs = np.unique(np.stack([left[wide], right[wide]], axis=1), axis=0)[:most]
    new = _between(strategy, pool[0, pairs], most)
    return np.setdiff1d(new, pool[0])


def around(
    strategy: Strategy,
    pool: Pool,
    wanted: Float[np.ndarray, " P"],
    error: Float[np.ndarray, " P"],
    most: int,
) -> Float[np.ndarray, "M *D"]:
    """Return settings that bracket all that is wanted, in the pool's order.

    The pool's means are off by up to `error`, one value per budget. Settings come in the fewest
    multiples of `most` that hold what is needed, the pool's first and last among them.
    """
    places = np.arange(len(pool.cost), dtype=np.float64)
    by_place = np.stack([places, pool.cost, pool.quality])
    sides = (-1, 0, 1) if strategy.line else (-1, 1)
    ends = [_neighbours(by_place, wanted + side * error) for side in sides]
    near = np.stack([place for pair in ends for place in pair], axis=1)
    # A few of the whole range beside, for what turns out to lie elsewhere.
    coarse = np.linspace(0, len(places) - 1, 8).astype(int)
    if not strategy.line:
        ends = zip(near.min(1).tolist(), near.max(1).tolist(), strict=True)
        inner = [np.arange(low, high + 1) for low, high in ends]
        return pool.parameters[np.unique(np.concatenate([coarse, *inner]))]
    near, coarse = pool.parameters[near], pool.parameters[coarse]
    pairs = np.unique(np.stack([near.min(1), near.max(1)], axis=1), axis=0)
    needed = np.union1d(near, coarse)
    room = most * -(-(len(needed) + len(pairs)) // most) - len(needed)
    return np.union1d(needed, _between(strategy, pairs, room))


def _between(
    strategy: Strategy, pairs: Float[np.ndarray, "P 2"], count: int
) -> Float[np.ndarray, " M"]:
    """Return parameters between the two of each pair, `count` in all at most."""
    apart = pairs[pairs[:, 0] != pairs[:, 1]].tolist()
    inner = [strategy.midpoints(min(p), max(p), count // len(apart)) for p in apart]
    return float32_grid(np.concatenate(inner)) if inner else np.empty(0)


def at_once(strategy: Strategy, estimator: Estimator) -> int:
    """Return the number of settings that one pass over the queries serves."""
    return MANY_SETTINGS if has_breakpoints(strategy, estimator) else SETTINGS


def _neighbours(
    pool: Float[np.ndarray, "3 L"], budgets: Float[np.ndarray, " P"]
) -> tuple[Int[np.ndarray, " P"], Int[np.ndarray, " P"]]:
    """Return positions, next to each other in the pool, of settings around each budget.

    Cost need not be monotone in the parameter, so several pairs may qualify: the one of the best
    mixed quality is taken. A budget out of reach gets the nearest setting twice.
    """
    _, cost, quality = pool
    budget = budgets[:, None]
    low, high = np.minimum(cost[:-1], cost[1:]), np.maximum(cost[:-1], cost[1:])
    around = (low <= budget) & (budget <= high)
    share = np.where(high > low, (budget - cost[:-1]) / np.where(high > low, np.diff(cost), 1), 0)
    mixed = np.where(around, quality[:-1] + share * np.diff(quality), -np.inf)
    left = mixed.argmax(1) if mixed.shape[1] else np.zeros(len(budgets), int)
    nearest = np.lexsort((-quality, cost))[np.where(budgets < cost.min(), 0, -1)]
    met = around.any(1)
    return np.where(met, left, nearest), np.where(met, left + 1, nearest)


def mix(pool: Float[np.ndarray, "3 L"], budgets: Float[np.ndarray, " P"]) -> Fit:
    """Return the neighbours of a pool (parameters, costs, qualities) that meet each budget."""
    parameter, cost, quality = pool
    left, right = _neighbours(pool, budgets)
    swap = cost[left] > cost[right]
    cheap, expensive = np.where(swap, right, left), np.where(swap, left, right)
    gap = cost[expensive] - cost[cheap]
    gamma = np.where(gap > 0, (budgets - cost[cheap]) / np.where(gap > 0, gap, 1), 0)
    reach = np.where(budgets < cost.min(), -1, np.where(budgets > cost.max(), 1, 0))
    return Fit(
        parameters=np.stack([parameter[cheap], parameter[expensive]], axis=1),
        gamma=gamma,
        cost=cost[cheap] + gamma * gap,
        quality=quality[cheap] + gamma * (quality[expensive] - quality[cheap]),
        reach=reach,
        cheapest=float(cost.min()),
        most_expensive=float(cost.max()),
        best=float(quality.max()),
    )
