"""Parameters for a budget or a target: two settings on the upper hull, and the shares to mix them.

All settings that a search simulates, and every model alone, are points (mean cost, mean quality).
A budget is met by mixing the two neighbours on their rising upper hull, so that no cheaper mixture
has more quality. A setting on the hull lies in the middle of the parameters that decide alike: a
rounding error then moves no query, also where many queries share an estimate.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from cascjax.core.arrays import in_float32
from cascjax.core.estimates import Estimator
from cascjax.core.sweep import has_breakpoints, single_model, single_settings
from cascjax.core.totals import Totals
from cascjax.data.table import Table, mean_rows, upper_hull
from cascjax.engine.simulate import grid_means, sized, totals
from cascjax.strategies import SearchContext, Strategy
from cascjax.strategies.base import float32_grid

SETTINGS = 64  # Settings simulated at once; one number, so that each strategy compiles once

SMALL_SETTINGS = 1024
"""Settings simulated at once on at most `SMALL` queries, each of which is a large share of all."""

SMALL = 256

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
qualities and targets. A larger difference is a jump: many queries decide another way at once."""

_STEP = 1e-6  # Smallest relative difference of parameters that a search tells apart

_GRID = 33  # Costs from the cheapest to the most expensive model that a whole frontier is fitted at
_AREA = 5e-5  # Share of a frontier's area that the settings it is drawn with may leave out


@dataclass(frozen=True)
class Fit:
    """Mixtures of two settings, cheap then expensive, for P budgets or targets.

    `gamma` is the share of queries that take the expensive setting; `cost` and `quality` are means
    on the fit queries. `reach` is 0 where the budget is met, -1 below the lowest reachable cost and
    1 above the cost of the setting of highest quality, which is all that is spent then; for targets
    -1 above the highest reachable quality and 1 where the cheapest setting gives more. `cheapest`
    is the lowest mean cost within reach, `best` the highest mean quality and `most_expensive` its
    cost. `knots` are settings on the hull, in rising cost, that draw the whole frontier:
    between two of them lie their mixtures.
    """

    parameters: Float[np.ndarray, "P 2 *D"]
    gamma: Float[np.ndarray, " P"]
    cost: Float[np.ndarray, " P"]
    quality: Float[np.ndarray, " P"]
    reach: Int[np.ndarray, " P"]
    cheapest: float
    most_expensive: float
    best: float
    knots: Float[np.ndarray, "V *D"]

    def points(self) -> tuple[Float[np.ndarray, "M 2 *D"], Float[np.ndarray, " M"]]:
        """Return the mixtures of all budgets, then each knot as a mixture with itself."""
        knots = np.stack([self.knots, self.knots], axis=1)
        gamma = np.append(self.gamma, np.zeros(len(knots)))
        return np.concatenate([self.parameters, knots]), gamma

    def settings(self) -> Float[np.ndarray, "L *D"]:
        """Return every setting in use, each once."""
        parameters, _ = self.points()
        return np.unique(parameters.reshape(-1, *parameters.shape[2:]), axis=0)


@dataclass(frozen=True)
class Pool:
    """Settings with their means on the queries fitted on; on a `line` if others lie between.

    With `adjacent`, only neighbours on the line are mixed, as in the paper, rather than any two.
    """

    parameters: Float[np.ndarray, "L *D"]
    cost: Float[np.ndarray, " L"]
    quality: Float[np.ndarray, " L"]
    line: bool = False
    adjacent: bool = False

    @classmethod
    def from_totals(
        cls,
        strategy: Strategy,
        settings: Float[np.ndarray, "L *D"],
        sums: Totals,
        *,
        adjacent: bool = False,
    ) -> "Pool":
        """Return settings of a strategy with their means, from sums over queries."""
        means = sums.means()
        cost, quality = (np.asarray(mean, np.float64) for mean in (means.cost, means.quality))
        return cls(settings, cost, quality, strategy.line and settings.ndim == 1, adjacent)

    def with_settings(self, *others: "Pool") -> "Pool":
        """Return a pool with the settings of others too."""
        pools = (self, *others)
        return replace(
            self,
            parameters=np.concatenate([pool.parameters for pool in pools]),
            cost=np.concatenate([pool.cost for pool in pools]),
            quality=np.concatenate([pool.quality for pool in pools]),
        )

    @functools.cached_property
    def plateaus(self) -> Int[np.ndarray, "R 3"]:
        """First, middle and last setting of each run along the line that decides alike."""
        own = np.flatnonzero(single_model(self.parameters) < 0)
        own = own[np.argsort(self.parameters[own], kind="stable")]
        value, cost, quality = self.parameters[own], self.cost[own], self.quality[own]
        changes = np.flatnonzero((np.diff(cost) != 0) | (np.diff(quality) != 0))
        first, last = np.append(0, changes + 1), np.append(changes, len(own) - 1)
        right = np.searchsorted(value, (value[first] + value[last]) / 2).clip(first, last)
        left = np.maximum(right - 1, first)
        away = value[first] + value[last] - 2 * value[[left, right]]
        middle = np.where(np.abs(away[0]) < np.abs(away[1]), left, right)
        return own[np.stack([first, middle, last], axis=1)]

    @functools.cached_property
    def hull(self) -> Int[np.ndarray, " H"]:
        """Places of the settings on the rising upper hull, in rising cost."""
        places = np.arange(len(self.cost))
        if self.line:
            own = self.plateaus[~self._fragile(), 1]
            alone = places[single_model(self.parameters) >= 0]
            places = np.concatenate([own, alone[~self._same(alone, own)]])
        return places[upper_hull(self.cost[places], self.quality[places])]

    def _same(
        self, alone: Int[np.ndarray, " S"], own: Int[np.ndarray, " R"]
    ) -> Bool[np.ndarray, " S"]:
        """Return the models alone that a setting of the strategy equals but for rounding."""
        return np.all(
            [
                np.abs(value[alone, None] - value[own]) <= _STEP * np.ptp(value)
                for value in (self.cost, self.quality)
            ],
            axis=0,
        ).any(1)

    def _fragile(self) -> Bool[np.ndarray, " R"]:
        """Return the runs so short that a rounding error takes many queries to the next run."""
        first, middle, last = self.plateaus.T
        value, cost = self.parameters, self.cost
        jump = np.abs(np.diff(cost[middle])) > _CLOSE * np.ptp(cost)
        least = 2 * _STEP * np.abs(value[middle])
        below = value[middle[1:]] - value[last[:-1]] <= least[1:]
        above = value[first[1:]] - value[middle[:-1]] <= least[:-1]
        return np.append(False, jump & below) | np.append(jump & above, False)

    def bracket(
        self, wanted: Float[np.ndarray, " P"], *, targets: bool = False
    ) -> tuple[Int[np.ndarray, " P"], Int[np.ndarray, " P"]]:
        """Return the places of the cheap and the expensive setting around each budget, or target.

        Twice the same beyond either end. Of several adjacent pairs the one of the best mixed
        quality is taken: cost need not be monotone in the parameter.
        """
        if not (self.line and self.adjacent):
            left, right = _around((self.quality if targets else self.cost)[self.hull], wanted)
            return self.hull[left], self.hull[right]
        places = self.plateaus[:, 1]
        cost, quality = self.cost[places], self.quality[places]
        gap, budget = np.diff(cost), wanted[:, None]
        share = (budget - cost[:-1]) / np.where(gap != 0, gap, 1)
        within = (gap != 0) & (share >= 0) & (share <= 1)
        mixed = np.where(within, quality[:-1] + share * np.diff(quality), -np.inf)
        pair = mixed.argmax(1) if len(gap) else np.zeros(len(wanted), int)
        nearest = np.lexsort((-quality, cost))[np.where(wanted < cost.min(), 0, -1)]
        first, second = np.where(within.any(1), [pair, pair + 1], nearest)
        swap = cost[first] > cost[second]
        return places[np.where(swap, second, first)], places[np.where(swap, first, second)]

    def shares(
        self, wanted: Float[np.ndarray, " P"], *, targets: bool = False
    ) -> tuple[Int[np.ndarray, " P"], Int[np.ndarray, " P"], Float[np.ndarray, " P"]]:
        """Return the places around each budget, or target, and the share of the expensive one."""
        left, right = self.bracket(wanted, targets=targets)
        values = self.quality if targets else self.cost
        gap = values[right] - values[left]
        gamma = np.clip((wanted - values[left]) / np.where(gap > 0, gap, 1), 0, 1) * (gap > 0)
        return left, right, gamma

    def mix(self, wanted: Float[np.ndarray, " P"], *, targets: bool = False) -> Fit:
        """Return the two settings whose mixture has each budget, or target."""
        left, right, gamma = self.shares(wanted, targets=targets)
        cost, quality = self.cost[self.hull], self.quality[self.hull]
        reached = self.cost if self.line and self.adjacent else cost
        least, most = reached.min(), reached.max()
        low, high = (quality[0], quality[-1]) if targets else (least, most)
        side = np.where(wanted > high, 1, np.where(wanted < low, -1, 0))
        return Fit(
            parameters=self.parameters[np.stack([left, right], axis=1)],
            gamma=gamma,
            cost=self.cost[left] + gamma * (self.cost[right] - self.cost[left]),
            quality=self.quality[left] + gamma * (self.quality[right] - self.quality[left]),
            reach=-side if targets else side,
            cheapest=float(least),
            most_expensive=float(most),
            best=float(quality[-1]),
            knots=self.parameters[self.hull[_corners(cost, quality)]],
        )

    def spread(self, count: int) -> Float[np.ndarray, "M *D"]:
        """Return at most so many settings that a rounding does not change, even in cost."""
        places = self.plateaus[~self._fragile(), 1] if self.line else np.arange(len(self.cost))
        places = places[np.argsort(self.cost[places], kind="stable")]
        cost = self.cost[places]
        at = np.searchsorted(cost, np.linspace(cost[0], cost[-1], count)).clip(max=len(cost) - 1)
        return self.parameters[np.unique(places[at])]

    def near(
        self,
        wanted: Float[np.ndarray, " P"],
        error: Float[np.ndarray, " P"] | float,
        *,
        targets: bool = False,
    ) -> Int[np.ndarray, "M 2"]:
        """Return pairs of places, on the line or along the hull, that bracket all that is wanted.

        Means are off by up to `error`. Hull vertices that are single models have no place on the
        line, and need none.
        """
        ends = [self.bracket(wanted + side * error, targets=targets) for side in (-1, 0, 1)]
        along = self.plateaus[:, 1] if self.line else self.hull
        place = np.full(len(self.cost), -1)
        place[along] = np.arange(len(along))
        places = place[np.stack([end for pair in ends for end in pair], axis=1)]
        low, high = np.where(places < 0, len(self.cost), places).min(1), places.max(1)
        return np.unique(np.stack([low, high], axis=1)[high >= 0], axis=0)


def _around(
    values: Float[np.ndarray, " H"], wanted: Float[np.ndarray, " P"]
) -> tuple[Int[np.ndarray, " P"], Int[np.ndarray, " P"]]:
    """Return the neighbours among rising values around each number; twice the nearest beyond."""
    right = np.searchsorted(values, wanted)
    return np.maximum(right - 1, 0), np.minimum(right, len(values) - 1)


def _corners(
    cost: Float[np.ndarray, " H"], quality: Float[np.ndarray, " H"], most: int | None = None
) -> Int[np.ndarray, " V"]:
    """Return the vertices of a hull, at most so many, or what draws almost all of its area.

    The vertex that adds the smallest triangle is left out, one after the other.

    Reference: Visvalingam and Whyatt, "Line generalisation by repeated elimination of points",
    The Cartographic Journal 1993.
    """
    kept, room = list(range(len(cost))), _AREA * np.ptp(cost) * np.ptp(quality)
    while len(kept) > 2:
        x, y = cost[kept], quality[kept]
        across = (x[2:] - x[:-2]) * (y[1:-1] - y[:-2]) - (x[1:-1] - x[:-2]) * (y[2:] - y[:-2])
        least = int(np.argmin(across))
        room -= across[least] / 2
        if room < 0 if most is None else len(kept) <= most:
            break
        del kept[least + 1]
    return np.array(kept)


@dataclass
class SettingsCache:
    """Settings simulated so far, for a further search on the same queries."""

    settings: Pool | None = None


def single_pool(strategy: Strategy, table: Table, rows: Int[np.ndarray, " n"] | None) -> list[Pool]:
    """Return the models alone as settings of a strategy; none where it has no use for them."""
    if strategy.reference:
        return []
    means = mean_rows(table.cost, rows), mean_rows(table.quality, rows)
    return [Pool(single_settings(table.n_models), *means)]


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
    alone = single_model(parameters) >= 0
    own, most = parameters[~alone], at_once(strategy, estimator, table, rows)
    # Where each setting is computed by itself, always as many: few programs to compile.
    many = has_breakpoints(strategy, estimator)
    costly = strategy.expensive and _count(table, rows) > SAMPLE // 4
    few = (FEW_SETTINGS, SETTINGS // 2) if costly or is_large(table, rows) else ()
    parts: list[Totals] = []
    for part in [parameters[alone]] * bool(alone.any()) + [
        own[start : start + most] for start in range(0, len(own), most)
    ]:
        size = len(part) if many else min(x for x in (*few, most) if x >= len(part))
        fill = np.repeat(part[-1:], size - len(part), axis=0)
        sums = totals(
            strategy, np.concatenate([part, fill]), estimator, table.quality, table.cost, rows=rows,
            usage=usage, progress=progress, extra_costs=extra_costs,
        )  # fmt: skip
        parts.append(sums[: len(part)])
    # Back in the order of the parameters.
    order = np.argsort(np.concatenate([np.flatnonzero(alone), np.flatnonzero(~alone)]))
    joined = jax.tree.map(lambda *sums: np.concatenate([np.atleast_1d(s) for s in sums]), *parts)
    joined = jax.tree.map(lambda sums: sums[order] if len(sums) == len(order) else sums, joined)
    return replace(joined, count=parts[0].count)


def is_large(table: Table, rows: Int[np.ndarray, " n"] | None) -> bool:
    """Return whether there are so many queries that a sample is worth a look first."""
    return _count(table, rows) > 4 * SAMPLE


def enough(strategy: Strategy) -> int:
    """Return the number of queries that show which settings draw a frontier.

    Where there are no more than twice as many, all are searched. With breakpoints as many as
    a block has: the program that sums blocks of all rows is the same.
    """
    if not strategy.line:
        return 2 * SAMPLE
    if strategy.has_breakpoints:
        return SAMPLE // 2
    return SAMPLE // 16 if strategy.expensive else SAMPLE // 4


def _count(table: Table, rows: Int[np.ndarray, " n"] | None) -> int:
    return table.n_queries if rows is None else len(rows)


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
    cache: SettingsCache | None = None,
    whole: bool = False,
    singles: bool = True,
    close: float = _CLOSE,
) -> Fit:
    """Return, for every budget, the cheap and the expensive setting whose mixture costs it.

    All budgets share one pool of simulated settings: first the strategy's whole initial grid, or
    what a sample of the queries shows to be near the budgets; then rounds of points between the
    neighbours of every budget not yet bracketed closely, until the two cost nearly the same or
    hardly differ. With `whole`, the knots are fitted as closely as budgets are; with `singles`,
    every model alone is a setting too, and any two settings may be mixed. Neighbours are close if
    their costs differ by less than a share `close` of the range of costs.
    """
    at = whole_range(budgets, mean_rows(table.cost, rows)) if whole else budgets
    pool = _searched(
        strategy, estimator, table, at, progress, rows, cache, singles=singles, close=close
    )
    if cache is not None:
        cache.settings = pool
    return pool.mix(budgets)


def whole_range(
    budgets: Float[np.ndarray, " P"], single_cost: Float[np.ndarray, " K"]
) -> Float[np.ndarray, " Q"]:
    """Return budgets, and others from the cheapest to the most expensive model between them."""
    return np.union1d(budgets, np.linspace(single_cost.min(), single_cost.max(), _GRID))


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
    """Return, for every target, the mixture of least mean cost whose mean quality reaches it."""
    pool = _searched(strategy, estimator, table, targets, progress, rows, None, targets=True)
    return pool.mix(targets, targets=True)


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
    return _simulated(strategy, np.asarray(settings), estimator, table, rows).mix(budgets)


def _simulated(
    strategy: Strategy,
    settings: Float[np.ndarray, "M *D"],
    estimator: Estimator,
    table: Table,
    rows: Int[np.ndarray, " n"] | None,
    progress: Callable[[int], None] = lambda queries: None,
    adjacent: bool = False,
) -> Pool:
    """Return settings with their means."""
    sums = sum_settings(
        strategy, settings, estimator, table, rows=rows, usage=False, progress=progress
    )
    return Pool.from_totals(strategy, settings, sums, adjacent=adjacent)


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
    singles: bool = True,
    close: float = _CLOSE,
) -> Pool:
    """Return settings that bracket all that is wanted closely."""
    estimator = sized(strategy, estimator)
    most, context = at_once(strategy, estimator, table, rows), SearchContext(table, estimator, rows)
    start = None if cache is None else cache.settings
    if not strategy.line and start is not None:
        return start

    def evaluate(grid: Float[np.ndarray, " T"]) -> Float[np.ndarray, "C T 2"]:
        return grid_means(
            strategy, grid, estimator, table.quality, table.cost, rows=rows, progress=progress
        )

    settings = strategy.candidates(context, evaluate)
    if settings is None and not strategy.line:
        settings = strategy.initial_grid(context, most)
    if settings is not None:
        return _simulated(strategy, np.asarray(settings), estimator, table, rows)
    spread = np.ptp(context.quality) + context.ante.std() if targets else np.ptp(context.cost)

    def refined(pool: Pool, sample: Int[np.ndarray, " n"] | None) -> Pool:
        report = progress if sample is rows else lambda queries: None
        for _ in range(ROUNDS):
            new = closer(strategy, pool, wanted, close * spread, most, targets=targets)
            if not len(new):
                break
            pool = pool.with_settings(_simulated(strategy, new, estimator, table, sample, report))
        return pool

    def first(grid: Float[np.ndarray, " L"], sample: Int[np.ndarray, " n"] | None) -> Pool:
        alone = single_pool(strategy, table, sample) if singles else []
        report = progress if sample is rows else lambda queries: None
        own = _simulated(strategy, grid, estimator, table, sample, report, not singles)
        return own.with_settings(*alone)

    if start is not None:
        return refined(start, rows)
    # float32 from the start: what is returned is what was simulated.
    grid = float32_grid(strategy.initial_grid(context, most))
    if is_large(table, rows) and (
        has_breakpoints(strategy, estimator) or len(wanted) <= _FEW_BUDGETS
    ):
        # A sample shows where the budgets lie, but for its error; there all settings are spent.
        sample = sampled(table, rows)
        pool = refined(first(grid, sample), sample)
        pairs = _ends(pool, pool.near(wanted, 2 * spread / np.sqrt(SAMPLE), targets=targets))
        value = pool.parameters[pool.plateaus[[0, -1], [0, 2]]]
        coarse = np.union1d(grid[:: max(most // SETTINGS, 4)], value)
        grid = np.union1d(coarse, _between(strategy, pairs, most - len(coarse)))
    return refined(first(grid, rows), rows)


def closer(
    strategy: Strategy,
    pool: Pool,
    wanted: Float[np.ndarray, " P"],
    close: float | np.floating,
    most: int,
    *,
    targets: bool = False,
) -> Float[np.ndarray, " M"]:
    """Return the settings to simulate next: between neighbours not yet bracketed closely.

    Neighbours are close if their costs, or qualities, differ by no more than `close`; none are
    returned where nothing is left to bracket. Where the two settings on the hull are no neighbours
    on the line, the settings beside either may be better. Where more settings serve than there are
    neighbours, as for few queries, all count: a peak of the hull may lie between any two.
    """
    first, middle, last = pool.plateaus.T
    values = (pool.quality if targets else pool.cost)[middle]
    pairs = pool.parameters[np.stack([last[:-1], first[1:]], axis=1)]
    apart = pairs[:, 1] - pairs[:, 0] > _STEP * np.abs(pairs).max(1)
    if most == SMALL_SETTINGS and apart.sum() <= most:
        return np.setdiff1d(_between(strategy, pairs[apart], most), pool.parameters)
    wide = apart & (np.abs(np.diff(values)) > close)
    asked = np.zeros(len(middle) + 1, bool)  # the gap before each run, and that after the last
    for low, high in pool.near(wanted, 0.0, targets=targets):
        if high - low == 1:
            asked[high] = True
        else:
            asked[[low, low + 1, high, high + 1]] = True
    pairs = pairs[wide & asked[1:-1]][:most]
    new = _between(strategy, pairs, most)
    return np.setdiff1d(new, pool.parameters)


def around(
    strategy: Strategy,
    pool: Pool,
    wanted: Float[np.ndarray, " P"],
    error: Float[np.ndarray, " P"],
    most: int,
) -> Float[np.ndarray, "M *D"]:
    """Return settings that bracket all that is wanted, on the line in rising order.

    The pool's means are off by up to `error`, one value per budget. Settings come in the fewest
    multiples of `most` that hold what is needed, the pool's first and last among them.
    """
    near = pool.near(wanted, error)
    count = len(pool.plateaus if pool.line else pool.hull)
    # A few of the whole range beside, for what turns out to lie elsewhere.
    coarse = np.linspace(0, count - 1, 8).astype(int)
    if not pool.line:
        inner = [np.arange(low, high + 1) for low, high in near.tolist()]
        return pool.parameters[pool.hull[np.unique(np.concatenate([coarse, *inner]))]]
    middle = pool.plateaus[:, 1]
    needed = np.unique(pool.parameters[middle[np.append(near, coarse)]])
    pairs = pool.parameters[middle[near]]
    room = most * -(-(len(needed) + len(pairs)) // most) - len(needed)
    return np.union1d(needed, _between(strategy, pairs, room))


def drawing(strategy: Strategy, pool: Pool, count: int) -> Float[np.ndarray, "M *D"]:
    """Return at most so many settings that draw the frontier of other queries.

    On a line they lie where lines between neighbours leave out least of a smooth frontier with the
    slopes of the pool's hull: the closer, the faster the slope changes.
    """
    hull = pool.hull[single_model(pool.parameters[pool.hull]) < 0]
    cost, quality = pool.cost[hull], pool.quality[hull]
    if not pool.line or len(hull) < 3:
        return pool.parameters[hull[_corners(cost, quality, count)]]
    middle = np.concatenate([cost[:1], (cost[1:] + cost[:-1]) / 2, cost[-1:]])
    slope = np.diff(quality) / np.diff(cost)
    # Beyond both ends as much again: there the slope is not known.
    bend = np.abs(np.diff(slope, prepend=2 * slope[0], append=0))
    wide = np.diff(middle)
    # An interval of width w leaves out bend w^2 / 12, which is the least where all are equal.
    along = np.append(0, np.cumsum(np.cbrt(bend * wide**2)))
    places = pool.plateaus[:, 1]
    # What is beyond the hull here may be on that of other queries.
    beyond = np.linspace(cost[-1], pool.cost[places].max(), count // 8)
    wanted = np.interp(np.linspace(0, along[-1], count - len(beyond)), along, middle)
    wanted = np.append(wanted, beyond)
    rising = np.sign(pool.cost[places[-1]] - pool.cost[places[0]])
    level = np.maximum.accumulate(rising * pool.cost[places])
    right = np.searchsorted(level, rising * wanted).clip(1, len(places) - 1)
    low, high = level[right - 1], level[right]
    share = ((rising * wanted - low) / np.where(high > low, high - low, 1)).clip(0, 1)
    first, last = pool.parameters[places[right - 1]], pool.parameters[places[right]]
    return float32_grid(
        np.asarray(strategy.between(jnp.asarray(first), jnp.asarray(last), jnp.asarray(share)))
    )


def _ends(pool: Pool, near: Int[np.ndarray, "M 2"]) -> Float[np.ndarray, "M 2"]:
    """Return the parameters between which runs of the line lie."""
    return pool.parameters[
        np.stack([pool.plateaus[near[:, 0], 0], pool.plateaus[near[:, 1], 2]], 1)
    ]


def _between(
    strategy: Strategy, pairs: Float[np.ndarray, "P 2"], count: int
) -> Float[np.ndarray, " M"]:
    """Return parameters between the two of each pair, `count` in all at most."""
    apart = pairs[pairs[:, 0] != pairs[:, 1]].tolist()
    inner = [strategy.midpoints(min(p), max(p), count // len(apart)) for p in apart]
    return float32_grid(np.concatenate(inner)) if inner else np.empty(0)


def at_once(
    strategy: Strategy,
    estimator: Estimator,
    table: Table,
    rows: Int[np.ndarray, " n"] | None = None,
) -> int:
    """Return the number of settings that one pass over the queries serves."""
    if has_breakpoints(strategy, estimator):
        return MANY_SETTINGS
    return SMALL_SETTINGS if _count(table, rows) <= SMALL else SETTINGS
