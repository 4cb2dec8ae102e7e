"""Parameters for a budget or a target: two neighbours of what is wanted, and how to mix them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import jax
import numpy as np
from jaxtyping import Float, Int

from cascjax.data.table import Table, mean_rows, upper_hull
from cascjax.engine.simulate import Totals, chain_means, has_stages, totals
from cascjax.estimators import Estimator
from cascjax.strategies import Frugal, SearchContext, Strategy

SETTINGS = 64
"""Settings simulated at once; one number, so that each strategy compiles once."""

STAGED_SETTINGS = 4096
"""The same where their number hardly counts, see `simulate.has_stages`."""

FEW_SETTINGS = 8
"""The same where few will do, of so many queries that another program to compile pays."""

SAMPLE = 1 << 15
"""Queries of a sample that shows where to look, where there are many times more."""

_FEW_BUDGETS = 4
"""Budgets up to which a sample shows where to spend as few settings as `SETTINGS`."""

ROUNDS = 16
"""Rounds of refinement at most; they end earlier where no budget is left to bracket closely."""

_CLOSE = 1e-3
"""Neighbours whose costs differ by less than this share of the budgets' range are close enough:
mixing them then loses about 1e-6 of quality, since the loss falls with the square. The same of
qualities and targets."""


_TINY = np.finfo(np.float32).tiny

_THRESHOLDS = 128
"""Thresholds tried on every chain of models."""


@dataclass(frozen=True)
class Fit:
    """Parameters of one strategy for P budgets, or P targets of quality.

    Attributes:
        parameters: `[P, 2]` or `[P, 2, D]` two neighbouring settings, cheap then expensive.
        gamma: `[P]` share of queries that take the expensive one, so that expected cost is the
            budget, or expected quality the target.
        cost: `[P]` mean cost on the queries fitted on.
        quality: `[P]` mean quality on the queries fitted on.
        reach: `[P]` 0 where the budget is met, -1 where it lies below the cheapest reachable
            cost, 1 where it lies above the most expensive: then the nearest reachable setting
            stands.
            Of targets: -1 above the highest reachable quality, 1 where the cheapest setting that
            meets the target gives more.
        cheapest: lowest mean cost the strategy reaches.
        most expensive: highest mean cost the strategy reaches.
        best: highest mean quality the strategy reaches.
    """

    parameters: Float[np.ndarray, "P 2 *D"]
    gamma: Float[np.ndarray, " P"]
    cost: Float[np.ndarray, " P"]
    quality: Float[np.ndarray, " P"]
    reach: Int[np.ndarray, " P"]
    cheapest: float
    most_expensive: float
    best: float


@dataclass
class Seen:
    """What was simulated for budgets so far: what is asked next of the same queries goes on there.

    Attributes:
        settings: parameters in rising order, their mean costs and mean qualities; of chains these
            and their thresholds first. None at first.
    """

    settings: Float[np.ndarray, "R L"] | None = None


def simulate_settings(
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
    """Means per query of any number of settings, as many at a time as `totals` takes at once."""
    return sum_settings(
        strategy, parameters, estimator, table,
        rows=rows, usage=usage, progress=progress, extra_costs=extra_costs,
    ).means()  # fmt: skip


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
    """Sums over queries of any number of settings, as many at a time as `totals` takes at once."""
    parts: list[Totals] = []
    most = at_once(strategy, estimator)
    for start in range(0, len(parameters), most):
        part = parameters[start : start + most]
        # Where each setting is worked out by itself, always as many: few programs to compile.
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
    """Whether there are so many queries that a sample is worth a look first."""
    return (table.n_queries if rows is None else len(rows)) > 4 * SAMPLE


def sampled(table: Table, rows: Int[np.ndarray, " n"] | None) -> Int[np.ndarray, " m"]:
    """About `SAMPLE` of the rows, evenly spread."""
    rows = np.arange(table.n_queries) if rows is None else rows
    return rows[:: max(1, len(rows) // SAMPLE)]


def fit_budgets(
    strategy: Strategy,
    estimator: Estimator,
    table: Table,
    budgets: Float[np.ndarray, " P"],
    progress: Callable[[int], None] = lambda queries: None,
    *,
    rows: Int[np.ndarray, " n"] | None = None,
    spare: bool = False,
    seen: Seen | None = None,
) -> Fit:
    """Finds, for every budget, the cheap and the expensive neighbour whose mix costs exactly that.

    All budgets share one pool of simulated settings: first the strategy's whole family, or what
    a sample of the queries shows to be near the budgets; then rounds of points between the
    neighbours of every budget not yet bracketed closely, until the two cost nearly the same or no
    float32 lies between them.

    Args:
        strategy: what to fit.
        estimator: estimates of the table's queries.
        table: their true quality and cost.
        budgets: mean costs wanted, in the table's cost unit.
        progress: called with the number of queries of each block as it ends, see `totals`.
        rows: the queries to fit on; by default all.
        spare: whether to leave some of a budget where a cheaper setting gives clearly more, by a
            thousandth of the spread of the single models: quality need not rise with cost.
        seen: what was simulated for other budgets of the same queries; what is simulated for these
            is added.
    """
    if isinstance(strategy, Frugal):
        pool, settings = _best_chains(strategy, estimator, table, progress, rows, seen)
        return _from_list(mix(pool, budgets), settings)
    pool = _searched(strategy, estimator, table, budgets, progress, rows, seen, targets=False)
    if seen is not None:
        seen.settings = pool
    fit = mix(pool, budgets)
    return spared(fit, pool, budgets, mean_rows(table.quality, rows)) if spare else fit


def spared(
    fit: Fit,
    pool: Float[np.ndarray, "3 L"],
    budgets: Float[np.ndarray, " P"],
    single_quality: Float[np.ndarray, " K"],
) -> Fit:
    """The fit, but for budgets of which a cheaper setting leaves some and gives clearly more.

    Args:
        fit: of the pool to the budgets.
        pool: parameters, mean costs and mean qualities.
        budgets: mean costs wanted.
        single_quality: mean quality of each model alone.
    """
    parameter, cost, quality = pool
    alone = np.where(cost <= budgets[:, None], quality, -np.inf)
    best = alone.argmax(1)
    clear = _CLOSE * np.ptp(single_quality)
    more = alone.max(1) > fit.quality + clear
    return replace(
        fit,
        parameters=np.where(more[:, None], parameter[best, None], fit.parameters),
        gamma=np.where(more, 0, fit.gamma),
        cost=np.where(more, cost[best], fit.cost),
        quality=np.where(more, quality[best], fit.quality),
    )


def fit_targets(
    strategy: Strategy,
    estimator: Estimator,
    table: Table,
    targets: Float[np.ndarray, " P"],
    progress: Callable[[int], None] = lambda queries: None,
    *,
    rows: Int[np.ndarray, " n"] | None = None,
) -> Fit:
    """Finds, for every target, the settings of least mean cost whose mean quality reaches it.

    As `fit_budgets`, with cost and quality in each other's place.

    Args:
        strategy: what to fit.
        estimator: estimates of the table's queries.
        table: their true quality and cost.
        targets: mean qualities wanted.
        progress: see `fit_budgets`.
        rows: the queries to fit on; by default all.
    """
    settings = None
    if isinstance(strategy, Frugal):
        found, settings = _best_chains(strategy, estimator, table, progress, rows, None)
        pool = np.stack([found[0], -found[2], -found[1]])
    else:
        pool = _searched(strategy, estimator, table, targets, progress, rows, None, targets=True)
    turned = mix(pool, -targets)
    fit = replace(
        turned,
        parameters=turned.parameters[:, ::-1], gamma=1 - turned.gamma,
        cost=-turned.quality, quality=-turned.cost,
        cheapest=float(-pool[2].max()), most_expensive=float(-pool[2].min()),
        best=float(-pool[1].min()),
    )  # fmt: skip
    # Quality need not rise with cost: one setting alone may meet the target for less.
    parameter, quality, cost = pool[0], -pool[1], -pool[2]
    alone = np.where(quality >= targets[:, None], cost, np.inf)
    best = alone.argmin(1)
    less = (alone.min(1) <= fit.cost) & (fit.reach >= 0)
    fit = replace(
        fit,
        parameters=np.where(less[:, None], parameter[best, None], fit.parameters),
        gamma=np.where(less, 0, fit.gamma),
        cost=np.where(less, cost[best], fit.cost),
        quality=np.where(less, quality[best], fit.quality),
        reach=np.where(less & (quality[best] > targets), 1, np.minimum(fit.reach, 0)),
    )
    return fit if settings is None else _from_list(fit, settings)


def fit_settings(
    strategy: Strategy,
    settings: Float[np.ndarray, "M D"],
    estimator: Estimator,
    table: Table,
    budgets: Float[np.ndarray, " P"],
    *,
    rows: Int[np.ndarray, " n"] | None = None,
) -> Fit:
    """Finds, among settings given, the two whose mix costs each budget and is best.

    Args:
        strategy: what to fit.
        settings: a setting a row, one number a step.
        estimator: estimates of the table's queries.
        table: their true quality and cost.
        budgets: mean costs wanted, in the table's cost unit.
        rows: the queries to fit on; by default all.
    """
    means = simulate_settings(strategy, settings, estimator, table, rows=rows, usage=False)
    cost, quality = np.asarray(means.cost), np.asarray(means.quality)
    hull = upper_hull(cost, quality)
    found = mix(np.stack([hull, cost[hull], quality[hull]]).astype(np.float64), budgets)
    return _from_list(found, np.asarray(settings))


def _from_list(fit: Fit, settings: Float[np.ndarray, "M D"]) -> Fit:
    """A fit whose parameters are places among some settings, with these in their place."""
    return replace(fit, parameters=settings[fit.parameters.astype(int)])


def _best_chains(
    strategy: Frugal,
    estimator: Estimator,
    table: Table,
    progress: Callable[[int], None],
    rows: Int[np.ndarray, " n"] | None,
    seen: Seen | None,
) -> tuple[Float[np.ndarray, "3 M"], Float[np.ndarray, "M 2"]]:
    """The upper hull over all chains and thresholds: places, mean costs and qualities; settings.

    One pass finds the settings on the hull, a second simulates them as any other.
    """
    if seen is not None and seen.settings is not None:
        return np.stack([np.arange(len(seen.settings[0])), *seen.settings[2:]]), seen.settings[:2].T
    taus = _float32(strategy.initial_grid(SearchContext(table, estimator, rows), _THRESHOLDS))
    means = chain_means(
        strategy, taus, estimator, table.quality, table.cost, rows=rows, progress=progress
    )
    hull = upper_hull(*means.reshape(-1, 2).T)
    chain, tau = np.unravel_index(hull, means.shape[:2])
    settings = np.stack([strategy.chains(table.n_models)[chain], taus[tau]], axis=1)
    found = simulate_settings(strategy, settings, estimator, table, rows=rows, usage=False)
    cost, quality = (np.asarray(of, np.float64) for of in (found.cost, found.quality))
    hull = upper_hull(cost, quality)
    settings, cost, quality = settings[hull], cost[hull], quality[hull]
    if seen is not None:
        seen.settings = np.concatenate([settings.T, cost[None], quality[None]])
    return np.stack([np.arange(len(hull)), cost, quality]), settings


def _searched(
    strategy: Strategy,
    estimator: Estimator,
    table: Table,
    wanted: Float[np.ndarray, " P"],
    progress: Callable[[int], None],
    rows: Int[np.ndarray, " n"] | None,
    seen: Seen | None,
    *,
    targets: bool,
) -> Float[np.ndarray, "3 L"]:
    """Settings in rising parameter with their mean cost and mean quality, close to all wanted.

    Of targets the second row is -quality and the third -cost, so that a target is a budget.
    """
    if targets:
        wanted = -wanted
    most, context = at_once(strategy, estimator), SearchContext(table, estimator, rows)
    spread = np.ptp(context.quality) + context.ante.std() if targets else np.ptp(context.cost)

    def refined(
        start: Float[np.ndarray, " L"] | Float[np.ndarray, "3 L"],
        some: Int[np.ndarray, " n"] | None,
    ) -> Float[np.ndarray, "3 M"]:
        def simulate(parameters: Float[np.ndarray, " L"]) -> Float[np.ndarray, "3 L"]:
            means = simulate_settings(
                strategy, parameters, estimator, table, rows=some, usage=False,
                progress=progress if some is rows else lambda queries: None,
            )  # fmt: skip
            if targets:
                return np.stack([parameters, -means.quality, -means.cost])
            return np.stack([parameters, means.cost, means.quality])

        pool = simulate(start) if start.ndim == 1 else start
        for _ in range(ROUNDS):
            new = closer(strategy, pool, wanted, spread, most)
            if not len(new):
                break
            pool = np.concatenate([pool, simulate(new)], axis=1)
            pool = pool[:, np.argsort(pool[0])]
        return pool

    if seen is not None and seen.settings is not None:
        return refined(seen.settings, rows)
    # float32 from the start: what is returned is what was simulated.
    family = _float32(strategy.initial_grid(context, most))
    if is_large(table, rows) and (most > SETTINGS or len(wanted) <= _FEW_BUDGETS):
        # A sample shows where the budgets lie, but for its error; there all settings are spent.
        pool = refined(family, sampled(table, rows))
        error = 2 * spread / np.sqrt(SAMPLE)
        ends = [_neighbours(pool, wanted + side * error) for side in (-1, 1)]
        near = pool[0, np.stack([*ends[0], *ends[1]], axis=1)]
        near = np.unique(np.stack([near.min(1), near.max(1)], axis=1), axis=0)
        coarse = np.union1d(family[:: max(most // SETTINGS, 4)], pool[0, [0, -1]])
        family = np.union1d(coarse, _between(strategy, near, most - len(coarse)))
    return refined(family, rows)


def closer(
    strategy: Strategy,
    pool: Float[np.ndarray, "3 L"],
    wanted: Float[np.ndarray, " P"],
    spread: float | np.floating,
    most: int,
) -> Float[np.ndarray, " M"]:
    """Settings to simulate next: between the neighbours of all that is not bracketed closely yet.

    Args:
        strategy: whose parameters they are.
        pool: parameters in rising order, mean costs and mean qualities.
        wanted: mean costs.
        spread: of the costs, on whose scale neighbours are close.
        most: settings at most; none where nothing is left to be found.
    """
    left, right = _neighbours(pool, wanted)
    gap = np.abs(pool[1, left] - pool[1, right])
    wide = np.flatnonzero((left != right) & (gap > _CLOSE * spread))
    pairs = np.unique(np.stack([left[wide], right[wide]], axis=1), axis=0)[:most]
    new = _between(strategy, pool[0, pairs], most)
    return np.setdiff1d(new, pool[0])


def around(
    strategy: Strategy,
    pool: Float[np.ndarray, "3 L"],
    wanted: Float[np.ndarray, " P"],
    error: Float[np.ndarray, " P"],
    most: int,
) -> Float[np.ndarray, " M"]:
    """Settings that bracket all that is wanted, where mean costs are known but for an error.

    Args:
        strategy: whose parameters they are.
        pool: parameters in rising order, mean costs and mean qualities of a sample.
        wanted: mean costs.
        error: how far those of the sample may be off, beside each.
        most: settings come in so many: as few times that as hold what is needed.

    Returns:
        Parameters in rising order, the pool's first and last among them.
    """
    ends = [_neighbours(pool, wanted + side * error) for side in (-1, 0, 1)]
    near = pool[0, np.stack([place for pair in ends for place in pair], axis=1)]
    pairs = np.unique(np.stack([near.min(1), near.max(1)], axis=1), axis=0)
    # A few of the whole range beside, for what turns out to lie elsewhere.
    coarse = pool[0, np.linspace(0, pool.shape[1] - 1, 8).astype(int)]
    needed = np.union1d(near, coarse)
    room = most * -(-(len(needed) + len(pairs)) // most) - len(needed)
    return np.union1d(needed, _between(strategy, pairs, room))


def near_chains(
    pool: Float[np.ndarray, "4 M"],
    wanted: Float[np.ndarray, " P"],
    error: Float[np.ndarray, " P"],
) -> Float[np.ndarray, "L 2"]:
    """Of the chains and thresholds on a sample's hull those that `around` would take.

    Args:
        pool: chains, thresholds, mean costs and mean qualities, along the hull.
        wanted: see `around`.
        error: see there.
    """
    hull = np.stack([np.arange(pool.shape[1]), *pool[2:]])
    ends = [_neighbours(hull, wanted + side * error) for side in (-1, 1)]
    places = np.stack([place for pair in ends for place in pair], axis=1)
    near = np.linspace(0, pool.shape[1] - 1, 8).astype(int).tolist()
    for low, high in zip(places.min(1).tolist(), places.max(1).tolist(), strict=True):
        near += range(low, high + 1)
    return pool[:2, np.unique(near)].T


def _between(
    strategy: Strategy, pairs: Float[np.ndarray, "P 2"], count: int
) -> Float[np.ndarray, " M"]:
    """Parameters between the two of each pair, `count` in all at most."""
    apart = pairs[pairs[:, 0] != pairs[:, 1]].tolist()
    inner = [strategy.midpoints(min(p), max(p), count // len(apart)) for p in apart]
    return _float32(np.concatenate(inner)) if inner else np.empty(0)


def at_once(strategy: Strategy, estimator: Estimator) -> int:
    """Settings that one pass over the queries serves."""
    return STAGED_SETTINGS if has_stages(strategy, estimator) else SETTINGS


def _float32(values: Float[np.ndarray, " L"]) -> Float[np.ndarray, " M"]:
    found = np.asarray(values, np.float32)
    # Some programs take numbers below the normal ones for 0, and others do not: none are tried.
    return np.unique(np.where(np.abs(found) < _TINY, 0, found)).astype(np.float64)


def _neighbours(
    pool: Float[np.ndarray, "3 L"], budgets: Float[np.ndarray, " P"]
) -> tuple[Int[np.ndarray, " P"], Int[np.ndarray, " P"]]:
    """Positions, next to each other in the pool, of settings around each budget.

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
    """The two neighbours in a pool of settings whose mix costs each budget; see `_neighbours`.

    Args:
        pool: parameters, mean costs and mean qualities, in the order in which they are neighbours.
        budgets: mean costs wanted.
    """
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
