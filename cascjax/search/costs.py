"""Several costs, each with its own budget: a linear program over settings, by column generation.

The mixture of settings of highest mean quality whose mean costs keep within their budgets is a
linear program with one column per setting; a vertex mixes at most one setting more than there are
budgets. Settings come in rounds (Dantzig and Wolfe, Operations Research 1960): the program's dual
prices say what a unit of each cost is worth, and the setting with exactly these prices is added
next. For routing on exact estimates that setting is the best one at those prices, so the program
over settings ends where the program over all queries does.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import linprog

from cascjax.core.sweep import has_breakpoints, single_model, single_settings
from cascjax.data.table import Table, mean_rows
from cascjax.errors import CascjaxError, RefusedError
from cascjax.search.budgets import (
    FEW_SETTINGS,
    SETTINGS,
    is_large,
    sampled,
    simulate_settings,
)
from cascjax.search.rules import CostEstimates, Rule, cost_column
from cascjax.strategies import SearchContext, Strategy
from cascjax.strategies.base import Priced

_ROUNDS = 24  # Maximum number of rounds of new settings

_AGAIN, _SAMPLED = 1, 3
"""Halvings of the width of prices after a search for other budgets, and after one on a sample."""

_SAME = 1e-6  # Prices that differ by a smaller share are the same
_LEAST = 1e-7  # Smallest improvement that counts, as a share of the range of qualities

_WIDEST = 4.0
"""Factor around the program's prices within which prices are tried at first; it narrows later."""

_USED = 1e-9  # Smallest weight of a setting in use


class UnreachableError(RefusedError):
    """Budgets that no mixture of settings keeps to.

    `what` is reachable, in words, at mean costs `nearest` `[R]`, infinite where there is no budget,
    with `rule`.
    """

    def __init__(self, message: str, what: str, nearest: Float[np.ndarray, " R"], rule: Rule):
        super().__init__(message)
        self.what, self.nearest, self.rule = what, nearest, rule


def fit_costs(
    pool: "Pool", budgets: Float[np.ndarray, " R"]
) -> tuple[Rule, float, Float[np.ndarray, " R"]]:
    """Return the mixture of highest mean quality within every budget, its quality and its costs.

    Budgets are infinite, and costs NaN, where a cost is not limited. A strategy whose parameter is
    not a price of cost cannot weigh costs against each other: its settings are mixed as they are.
    """
    if not pool.strategy.several_costs:
        raise CascjaxError(
            f"{pool.strategy.name} is fitted to budgets of the table's own cost alone: leave the"
            " other budgets out, or take another strategy, such as 'pandora'"
        )
    limited, scale = pool.limited, pool.scale[pool.limited]
    bound = budgets[limited] / scale
    pool.start(bound)
    nearest = pool.make_feasible(bound)
    if nearest is not None:
        raise _unreachable(pool, budgets, nearest)
    weights = pool.make_best(bound)
    used = np.flatnonzero(weights > _USED)
    shares = weights[used] / weights[used].sum()
    cost = np.full(len(budgets), np.nan)
    cost[limited] = pool.cost[:, used] @ shares * scale
    return pool.rule(used, shares), float(pool.quality[used] @ shares), cost


def _unreachable(
    pool: "Pool", budgets: Float[np.ndarray, " R"], weights: Float[np.ndarray, " L"]
) -> UnreachableError:
    limited, used = pool.limited, np.flatnonzero(weights > _USED)
    nearest = np.full(len(budgets), np.inf)
    nearest[limited] = pool.cost @ weights * pool.scale[limited]

    def listed(values: Float[np.ndarray, " R"]) -> str:
        return " and ".join(f"{pool.costs[r]} {values[r]:.6g}" for r in limited)

    return UnreachableError(
        f"the budget of mean {listed(budgets)} is out of reach of {pool.strategy.name}: the nearest"
        f" it reaches is {listed(nearest)}; choose no less than that",
        f"the nearest reachable, mean {listed(nearest)}",
        nearest,
        pool.rule(used, weights[used] / weights[used].sum()),
    )


@dataclass
class Pool:
    """The settings simulated so far, and the programs over them; C of R costs are limited.

    `scale` divides each cost, so that costs of different units can be compared; `direction` has the
    shares of the scaled costs in the single cost the strategy sees. `settled` has the `[C + 1]`
    prices of the bounds, and of the sum of shares, at which searches ended; `width` is the
    logarithm of the factor around the program's prices that is tried first.
    """

    strategy: Strategy
    estimates: CostEstimates
    table: Table
    costs: Sequence[str]
    rows: Int[np.ndarray, " n"]
    limited: Int[np.ndarray, " C"]
    progress: Callable[[int], None] = lambda queries: None
    scale: Float[np.ndarray, " R"] = field(init=False)
    direction: Float[np.ndarray, "L C"] = field(init=False)
    parameter: Float[np.ndarray, " L"] = field(init=False)
    quality: Float[np.ndarray, " L"] = field(init=False)
    cost: Float[np.ndarray, "C L"] = field(init=False)
    settled: list[Float[np.ndarray, " P"]] = field(init=False)
    width: float = field(init=False)

    def __post_init__(self):
        c = len(self.limited)
        columns = [cost_column(self.table, name) for name in self.costs]
        means = np.array([mean_rows(column, self.rows).mean() for column in columns])
        self.scale = np.where(means > 0, means, 1)
        self.direction, self.parameter = np.empty((0, c)), np.empty(0)
        self.quality, self.cost = np.empty(0), np.empty((c, 0))
        self.settled, self.width = [], float(np.log(_WIDEST))
        # Quadratures depend on qualities alone: sized once, not again for every price.
        sized = getattr(self.estimates.estimator, "sized", None)
        if sized is not None and self.strategy.integrates:
            self.estimates = replace(self.estimates, estimator=sized())

    @functools.cached_property
    def priced(self) -> bool:
        """Whether the strategy's parameter is a price of cost."""
        return isinstance(self.strategy, Priced)

    def prices(self, direction: Float[np.ndarray, "*L C"]) -> Float[np.ndarray, "*L R"]:
        """Return the prices of all costs, rounded to float32 as a policy keeps them."""
        prices = np.zeros((*direction.shape[:-1], len(self.costs)))
        prices[..., self.limited] = direction / self.scale[self.limited]
        return prices.astype(np.float32).astype(np.float64)

    def rule(self, used: Int[np.ndarray, " M"], weights: Float[np.ndarray, " M"]) -> Rule:
        """Return the mixture of the given settings."""
        prices = self.prices(self.direction[used]) if self.priced else None
        return Rule(self.parameter[used], weights, prices)

    def start(self, bound: Float[np.ndarray, " C"]) -> None:
        """Simulate each cost alone, and all with equal shares, over the strategy's initial grid.

        If there are many queries, a sample shows where to look. A pool that has settings is left
        unchanged.
        """
        if len(self.parameter):
            return
        c = len(self.limited)
        equal = np.full((1, c), 1 / c)
        first = np.concatenate([np.eye(c), equal]) if c > 1 and self.priced else equal
        sample = None
        if is_large(self.table, self.rows):
            rows = sampled(self.table, self.rows)
            sample = replace(self, rows=rows, progress=lambda queries: None)
            sample.start(bound)
            if sample.make_feasible(bound) is not None:
                sample = None
        if sample is None:
            for direction in first:
                self.add(direction, self.initial_grid(direction))
            self.add_singles()
            return
        weights = sample.make_best(bound)
        _, price, share = sample.best(bound)
        lack = share + price @ sample.cost - sample.quality
        near = np.unique(sample.direction[weights > _USED], axis=0)
        for direction in np.unique(np.concatenate([first, near]), axis=0):
            own = np.flatnonzero((sample.direction == direction).all(1))
            own = own[np.argsort(sample.parameter[own])]
            chosen = own[np.linspace(0, len(own) - 1, FEW_SETTINGS).astype(int)]
            if (near == direction).all(1).any():
                best = own[np.argsort(lack[own], kind="stable")]
                chosen = np.append(chosen, best[: SETTINGS - FEW_SETTINGS])
            self.add(direction, sample.parameter[chosen])
        self.add_singles()
        self.width /= 2**_SAMPLED

    def add_singles(self) -> None:
        """Add every model alone."""
        c = len(self.limited)
        self.add(np.full(c, 1 / c), single_settings(self.table.n_models))

    def initial_grid(self, direction: Float[np.ndarray, " C"]) -> Float[np.ndarray, " F"]:
        """Return the strategy's parameters, most expensive setting first."""
        settings = self.strategy.all_settings(self.table.n_models)
        if settings is not None:
            return settings
        estimator, table = self.estimates.weighed(None), self.table
        if self.priced:
            estimator = self.estimates.weighed(self.prices(direction))
            table = replace(table, cost=estimator.cost_ante)  # pyright: ignore[reportAttributeAccessIssue]
        context = SearchContext(table, estimator, self.rows)
        return np.asarray(self.strategy.initial_grid(context, SETTINGS))

    def add(self, direction: Float[np.ndarray, " C"], parameters: Float[np.ndarray, " L"]) -> None:
        """Simulate the settings of one direction that are not in the pool yet."""
        new = np.unique(np.asarray(parameters, np.float32)).astype(np.float64)
        new = np.setdiff1d(new, self.parameter[(self.direction == direction).all(1)])
        if not len(new):
            return
        estimator = self.estimates.weighed(self.prices(direction) if self.priced else None)
        limited = [self.costs[int(r)] for r in self.limited]
        columns = [cost_column(self.table, name) for name in limited]
        # One pass adds up all costs, unless it serves any number of settings of one cost.
        staged = has_breakpoints(self.strategy, estimator)
        passes = [[column] for column in columns] if staged else [columns]
        means, quality = [], np.empty(0)
        for first, *more in passes:
            sums = simulate_settings(
                self.strategy, new, estimator, replace(self.table, cost=first), rows=self.rows,
                usage=False, progress=self.progress, extra_costs=more,
            )  # fmt: skip
            means.append(np.asarray(sums.cost).reshape(len(new), -1))
            quality = np.asarray(sums.quality)
        cost = np.concatenate(means, axis=1).T / self.scale[self.limited, None]
        self.direction = np.concatenate([self.direction, np.tile(direction, (len(new), 1))])
        self.parameter = np.append(self.parameter, new)
        self.quality = np.append(self.quality, quality)
        self.cost = np.concatenate([self.cost, cost], axis=1)

    def make_feasible(self, bound: Float[np.ndarray, " C"]) -> Float[np.ndarray, " L"] | None:
        """Add settings until a mixture keeps within the bounds; else return the nearest mixture.

        The program of least excess beyond the bounds has prices too: those at which to look for
        settings that are cheaper still.
        """
        last = np.inf
        while True:
            weights, excess, prices = self.least_excess(bound)
            if excess <= 1e-9:
                return None
            if excess > last * (1 - 1e-6) or not self.priced:
                return weights
            last = excess
            direction = prices / prices.sum()
            self.add(direction, self.initial_grid(direction))

    def least_excess(
        self, bound: Float[np.ndarray, " C"]
    ) -> tuple[Float[np.ndarray, " L"], float, Float[np.ndarray, " C"]]:
        """Return the mixture of least excess beyond the bounds, the excess, and their prices."""
        n, c = len(self.parameter), len(bound)
        share = 1 / np.maximum(bound, 1e-12)
        solution = linprog(
            np.concatenate([np.zeros(n), np.ones(c)]),
            A_ub=np.concatenate([self.cost * share[:, None], -np.eye(c)], axis=1),
            b_ub=bound * share,
            A_eq=np.concatenate([np.ones(n), np.zeros(c)])[None],
            b_eq=[1],
            method="highs-ds",
        )
        return solution.x[:n], float(solution.fun), -solution.ineqlin.marginals * share

    def best(
        self, bound: Float[np.ndarray, " C"]
    ) -> tuple[Float[np.ndarray, " L"], Float[np.ndarray, " C"], float]:
        """Return the best mixture within the bounds, their prices, and the price of a share."""
        solution = linprog(
            -self.quality,
            A_ub=self.cost,
            b_ub=bound * (1 + 1e-12),
            A_eq=np.ones((1, len(self.parameter))),
            b_eq=[1],
            method="highs-ds",
        )
        return solution.x, -solution.ineqlin.marginals, -float(solution.eqlin.marginals[0])

    def make_best(self, bound: Float[np.ndarray, " C"]) -> Float[np.ndarray, " L"]:
        """Run column generation until no setting improves the program; return the best mixture."""
        least = _LEAST * max(float(np.ptp(self.quality)), 1e-9)
        weights, price, share = self.best(bound)
        width, in_vain = self.width, 0
        for _ in range(_ROUNDS):
            at = np.append(price, share)
            if any(np.abs(old - at).max() <= _SAME * np.abs(at).max() for old in self.settled):
                return weights
            before = len(self.parameter)
            if self.priced:
                self.add_around(price, weights, width)
            else:
                self.add_between(weights)
            new = slice(before, None)
            worth = self.quality[new] - price @ self.cost[:, new] - share
            in_vain = 0 if len(worth) and worth.max() > least else in_vain + 1
            weights, price, share = self.best(bound)
            # Twice in vain, because closer prices may still improve it.
            if in_vain == 2 or len(self.parameter) == before:
                break
            width /= 2
        self.settled.append(np.append(price, share))
        # The next bounds are near these.
        self.width = min(self.width, float(np.log(_WIDEST)) / 2**_AGAIN)
        return weights

    def add_around(
        self, price: Float[np.ndarray, " C"], weights: Float[np.ndarray, " L"], width: float
    ) -> None:
        """Add settings at the program's prices, and halfway from there to directions in use."""
        total = price.sum()
        count = FEW_SETTINGS if is_large(self.table, self.rows) else SETTINGS
        factors = np.exp(np.linspace(-width, width, count - 1))
        if total <= 0:  # no budget binds: cost is no object
            equal = np.full(len(price), 1 / len(price))
            least = self.parameter[self.parameter >= 0].min()
            self.add(equal, np.append(0, least * factors))
            return
        in_use = np.unique(self.direction[weights > _USED], axis=0)
        # In float32, so that a direction that comes again is recognised.
        at = (price / total).astype(np.float32).astype(np.float64)
        self.add(at, np.append(total, total * factors))
        for used in in_use:
            middle = ((at + used) / 2).astype(np.float32).astype(np.float64)
            if np.abs(at - used).max() > 1e-4:
                self.add(middle, np.append(total, total * factors))

    def add_between(self, weights: Float[np.ndarray, " L"]) -> None:
        """Add settings between those in use and their neighbours."""
        if self.strategy.all_settings(self.table.n_models) is not None:
            return
        own = np.flatnonzero(single_model(self.parameter) < 0)
        order = own[np.argsort(self.parameter[own])]
        inner: list[np.ndarray] = []
        for place in np.flatnonzero(weights[order] > _USED):
            near = self.parameter[order][max(0, place - 1) : place + 2]
            for low, high in zip(near[:-1].tolist(), near[1:].tolist(), strict=True):
                inner.append(self.strategy.midpoints(low, high, SETTINGS // 8))
        if inner:
            self.add(self.direction[0], np.concatenate(inner))
