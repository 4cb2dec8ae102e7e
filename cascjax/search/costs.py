"""Several costs, each with its own budget: a linear program over settings, grown as it is solved.

Of all mixtures of settings the one of highest mean quality whose mean costs keep within their
budgets: a linear program with a column a setting, of which a vertex mixes one more than there are
budgets at most. Settings cannot all be simulated, so they come in rounds, by column generation
(Dantzig and Wolfe, Operations Research 1960): the program's dual prices say what a unit of each
cost is worth, and the setting of exactly these prices is the one to add. For routing on exact
estimates that setting is the best there is at those prices, so the program over settings ends where
the one over all queries does.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import linprog

from cascjax.core.sweep import has_breakpoints
from cascjax.data.table import Table, mean_rows
from cascjax.errors import CascjaxError, RefusedError
from cascjax.policy import Beliefs
from cascjax.search.budgets import (
    FEW_SETTINGS,
    SETTINGS,
    is_large,
    sampled,
    simulate_settings,
)
from cascjax.search.rules import COST, Rule
from cascjax.strategies import SearchContext, Strategy
from cascjax.strategies.base import Priced

_ROUNDS = 24
"""Rounds of new settings at most."""

_AGAIN, _SAMPLED = 1, 3
"""Halvings of that width where the search goes on from other budgets, and from a sample."""

_SAME = 1e-6
"""Prices that differ by a smaller share are the same."""

_LEAST = 1e-7
"""A setting that adds less than this share of the range of qualities adds nothing."""

_WIDEST = 4.0
"""Prices tried around those of the program at first, as a factor; every round tries closer ones."""


class UnreachableError(RefusedError):
    """Budgets that no mixture of settings keeps to.

    Attributes:
        what: what is reachable, in words.
        nearest: `[R]` the nearest mean costs, infinite where there is no budget.
        rule: the rule that has them.
    """

    def __init__(self, message: str, what: str, nearest: Float[np.ndarray, " R"], rule: Rule):
        super().__init__(message)
        self.what, self.nearest, self.rule = what, nearest, rule


def fit_costs(
    pool: "Pool", budgets: Float[np.ndarray, " R"]
) -> tuple[Rule, float, Float[np.ndarray, " R"]]:
    """The mixture of settings of highest mean quality within every budget.

    A strategy whose parameter is no price of cost cannot weigh costs against each other: of it the
    settings are mixed as they are.

    Args:
        pool: what to fit, and what was simulated of it for other budgets of the same costs; what is
            simulated for these is added.
        budgets: mean costs allowed, infinite where a cost is not limited.

    Returns:
        The mixture, its mean quality, and its mean costs, nan where they are not limited.

    Raises:
        UnreachableError: no mixture keeps within all budgets.
        CascjaxError: the strategy's settings are chains, which are listed for one cost.
    """
    if not pool.strategy.several_costs:
        raise CascjaxError(
            f"{pool.strategy.name} is fitted to budgets of the table's own cost alone: leave the"
            " other budgets out, or take another strategy, such as 'pandora'"
        )
    limited, scale = pool.limited, pool.scale[pool.limited]
    bound = budgets[limited] / scale
    pool.start(bound)
    least = pool.grown_to_feasible(bound)
    if least is not None:
        raise _unreachable(pool, budgets, least)
    weights = pool.grown_to_best(bound)
    used = np.flatnonzero(weights > 1e-9)
    shares = weights[used] / weights[used].sum()
    cost = np.full(len(budgets), np.nan)
    cost[limited] = pool.spent[:, used] @ shares * scale
    return pool.rule(used, shares), float(pool.quality[used] @ shares), cost


def _unreachable(
    pool: "Pool", budgets: Float[np.ndarray, " R"], weights: Float[np.ndarray, " L"]
) -> UnreachableError:
    limited, used = pool.limited, np.flatnonzero(weights > 1e-9)
    nearest = np.full(len(budgets), np.inf)
    nearest[limited] = pool.spent @ weights * pool.scale[limited]

    def listed(of: Float[np.ndarray, " R"]) -> str:
        return " and ".join(f"{pool.costs[r]} {of[r]:.6g}" for r in limited)

    asked, found = listed(budgets), listed(nearest)
    return UnreachableError(
        f"the budget of mean {asked} is out of reach of {pool.strategy.name}: the nearest it"
        f" reaches is {found}; choose no less than that",
        f"the nearest reachable, mean {found}",
        nearest,
        pool.rule(used, weights[used] / weights[used].sum()),
    )


@dataclass
class Pool:
    """The settings simulated so far, and the programs over them; C of R costs are limited.

    Attributes:
        strategy: what to fit.
        beliefs: what it is shown of the table's queries.
        table: their true quality and costs.
        costs: R names, "cost" or a extra cost of the table.
        rows: the queries to fit on.
        limited: `[C]` the costs with a budget.
        progress: called with the number of queries of each block simulated.
        truths: R costs of every model, each `[N, K]`.
        scale: `[R]` what each cost is divided by.
        direction: `[L, C]` shares of the scaled costs in the one the strategy sees.
        parameter: `[L]` of each setting.
        quality: `[L]` its mean quality.
        spent: `[C, L]` its mean costs, scaled.
        settled: `[C]` prices of bounds, with that of a share, at which nothing more is to be had.
        width: of the prices tried at first around those of the program, as a logarithm.
    """

    strategy: Strategy
    beliefs: Beliefs
    table: Table
    costs: Sequence[str]
    rows: Int[np.ndarray, " n"]
    limited: Int[np.ndarray, " C"]
    progress: Callable[[int], None] = lambda queries: None
    truths: list[Float[np.ndarray, "N K"]] = field(init=False)
    scale: Float[np.ndarray, " R"] = field(init=False)
    direction: Float[np.ndarray, "L C"] = field(init=False)
    parameter: Float[np.ndarray, " L"] = field(init=False)
    quality: Float[np.ndarray, " L"] = field(init=False)
    spent: Float[np.ndarray, "C L"] = field(init=False)
    settled: list[Float[np.ndarray, " C"]] = field(init=False)
    width: float = field(init=False)

    def __post_init__(self):
        c, table = len(self.limited), self.table
        self.truths = [table.cost if of == COST else table.extra_costs[of] for of in self.costs]
        means = np.array([mean_rows(of, self.rows).mean() for of in self.truths])
        # Costs of one size, whatever their unit: directions between them can be compared.
        self.scale = np.where(means > 0, means, 1)
        self.direction, self.parameter = np.empty((0, c)), np.empty(0)
        self.quality, self.spent = np.empty(0), np.empty((c, 0))
        self.settled, self.width = [], float(np.log(_WIDEST))
        # Panels depend on qualities alone: they are found once, not with every price.
        size = getattr(self.beliefs.estimator, "sized", None)
        if self.strategy.integrates and size is not None:
            self.beliefs = replace(self.beliefs, estimator=size())

    @functools.cached_property
    def priced(self) -> bool:
        """Whether prices mean anything to the strategy."""
        return isinstance(self.strategy, Priced)

    def prices(self, direction: Float[np.ndarray, "*L C"]) -> Float[np.ndarray, "*L R"]:
        """Prices of all costs, in float32 as a policy keeps them."""
        prices = np.zeros((*direction.shape[:-1], len(self.truths)))
        prices[..., self.limited] = direction / self.scale[self.limited]
        return prices.astype(np.float32).astype(np.float64)

    def rule(self, used: Int[np.ndarray, " M"], weights: Float[np.ndarray, " M"]) -> Rule:
        """The mixture of some settings."""
        prices = self.prices(self.direction[used]) if self.priced else None
        return Rule(self.parameter[used], weights, prices)

    def start(self, bound: Float[np.ndarray, " C"]) -> None:
        """Each cost alone, and all of them alike, over the strategy's whole family.

        Of many queries a sample shows where to look. Where settings are there, nothing.
        """
        if len(self.parameter):
            return
        c = len(self.limited)
        alike = np.full((1, c), 1 / c)
        first = np.concatenate([np.eye(c), alike]) if c > 1 and self.priced else alike
        sample = None
        if is_large(self.table, self.rows):
            sample = replace(
                self, rows=sampled(self.table, self.rows), progress=lambda queries: None
            )
            sample.start(bound)
            if sample.grown_to_feasible(bound) is not None:
                sample = None
        if sample is None:
            for direction in first:
                self.add(direction, self.family(direction))
            return
        weights = sample.grown_to_best(bound)
        _, price, share = sample.best(bound)
        lack = share + price @ sample.spent - sample.quality
        near = np.unique(sample.direction[weights > 1e-9], axis=0)
        for direction in np.unique(np.concatenate([first, near]), axis=0):
            of = np.flatnonzero((sample.direction == direction).all(1))
            of = of[np.argsort(sample.parameter[of])]
            count = FEW_SETTINGS
            chosen = of[np.linspace(0, len(of) - 1, count).astype(int)]
            if (near == direction).all(1).any():
                best = of[np.argsort(lack[of], kind="stable")]
                chosen = np.append(chosen, best[: SETTINGS - count])
            self.add(direction, sample.parameter[chosen])
        self.width /= 2**_SAMPLED

    def family(self, direction: Float[np.ndarray, " C"]) -> Float[np.ndarray, " F"]:
        """The strategy's parameters, from where cost is no object to where it is all."""
        every = self.strategy.all_settings(self.table.n_models)
        if every is not None:
            return every  # one cost's hull is not another's
        shown = self.beliefs.priced(self.prices(direction)) if self.priced else None
        table = self.table
        if shown is not None:
            table = replace(table, cost=shown.cost_ante)
        shown = shown or self.beliefs.priced(None)
        return self.strategy.initial_grid(SearchContext(table, shown, self.rows), SETTINGS)

    def add(self, direction: Float[np.ndarray, " C"], parameters: Float[np.ndarray, " L"]) -> None:
        """Simulates settings of one direction, those that are not there yet."""
        new = np.unique(np.asarray(parameters, np.float32)).astype(np.float64)
        new = np.setdiff1d(new, self.parameter[(self.direction == direction).all(1)])
        if not len(new):
            return
        shown = self.beliefs.priced(self.prices(direction) if self.priced else None)
        truths = [self.truths[r] for r in self.limited]
        # A pass adds up all costs, unless it serves any number of settings of one.
        passes = [[of] for of in truths] if has_breakpoints(self.strategy, shown) else [truths]
        found, quality = [], np.empty(0)
        for first, *more in passes:
            means = simulate_settings(
                self.strategy, new, shown, replace(self.table, cost=first), rows=self.rows,
                usage=False, progress=self.progress, extra_costs=more,
            )  # fmt: skip
            found.append(np.asarray(means.cost).reshape(len(new), -1))
            quality = np.asarray(means.quality)
        spent = np.concatenate(found, axis=1).T / self.scale[self.limited, None]
        self.direction = np.concatenate([self.direction, np.tile(direction, (len(new), 1))])
        self.parameter = np.append(self.parameter, new)
        self.quality = np.append(self.quality, quality)
        self.spent = np.concatenate([self.spent, spent], axis=1)

    def grown_to_feasible(self, bound: Float[np.ndarray, " C"]) -> Float[np.ndarray, " L"] | None:
        """Adds settings until some mixture keeps within the bounds; else the nearest mixture.

        The program that spends the least beyond the bounds, as shares of them, has prices too:
        those at which to look for settings that are cheaper still.
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
            self.add(direction, self.family(direction))

    def least_excess(
        self, bound: Float[np.ndarray, " C"]
    ) -> tuple[Float[np.ndarray, " L"], float, Float[np.ndarray, " C"]]:
        """The mixture that exceeds the bounds least, by how much, and the prices of the bounds."""
        n, c = len(self.parameter), len(bound)
        share = 1 / np.maximum(bound, 1e-12)
        found = linprog(
            np.concatenate([np.zeros(n), np.ones(c)]),
            A_ub=np.concatenate([self.spent * share[:, None], -np.eye(c)], axis=1),
            b_ub=bound * share,
            A_eq=np.concatenate([np.ones(n), np.zeros(c)])[None],
            b_eq=[1],
            method="highs-ds",
        )
        return found.x[:n], float(found.fun), -found.ineqlin.marginals * share

    def best(
        self, bound: Float[np.ndarray, " C"]
    ) -> tuple[Float[np.ndarray, " L"], Float[np.ndarray, " C"], float]:
        """The best mixture within the bounds, the prices of the bounds, and that of a share."""
        found = linprog(
            -self.quality,
            A_ub=self.spent,
            b_ub=bound * (1 + 1e-12),
            A_eq=np.ones((1, len(self.parameter))),
            b_eq=[1],
            method="highs-ds",
        )
        return found.x, -found.ineqlin.marginals, -float(found.eqlin.marginals[0])

    def grown_to_best(self, bound: Float[np.ndarray, " C"]) -> Float[np.ndarray, " L"]:
        """Adds settings until none adds to the best mixture; that mixture."""
        least = _LEAST * max(float(np.ptp(self.quality)), 1e-9)
        weights, price, share = self.best(bound)
        width, in_vain = self.width, 0
        for _ in range(_ROUNDS):
            at = np.append(price, share)
            if any(np.abs(of - at).max() <= _SAME * np.abs(at).max() for of in self.settled):
                return weights
            before = len(self.parameter)
            if self.priced:
                self.add_around(price, weights, width)
            else:
                self.add_between(weights)
            new = slice(before, None)
            worth = self.quality[new] - price @ self.spent[:, new] - share
            in_vain = 0 if len(worth) and worth.max() > least else in_vain + 1
            weights, price, share = self.best(bound)
            # Twice, for with closer prices there may be more to be had.
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
        """Settings of the program's prices, and of directions between them and those in use."""
        total = price.sum()
        count = FEW_SETTINGS if is_large(self.table, self.rows) else SETTINGS
        ladder = np.exp(np.linspace(-width, width, count - 1))
        if total <= 0:  # no budget binds: cost is no object
            self.add(
                np.full(len(price), 1 / len(price)), np.append(0, self.parameter.min() * ladder)
            )
            return
        in_use = np.unique(self.direction[weights > 1e-9], axis=0)
        # In float32, so that a direction that comes again is known again.
        at = (price / total).astype(np.float32).astype(np.float64)
        self.add(at, np.append(total, total * ladder))
        for used in in_use:
            middle = ((at + used) / 2).astype(np.float32).astype(np.float64)
            if np.abs(at - used).max() > 1e-4:
                self.add(middle, np.append(total, total * ladder))

    def add_between(self, weights: Float[np.ndarray, " L"]) -> None:
        """Settings between those in use and their neighbours."""
        order = np.argsort(self.parameter)
        inner: list[np.ndarray] = []
        for place in np.flatnonzero(weights[order] > 1e-9):
            near = self.parameter[order][max(0, place - 1) : place + 2]
            for low, high in zip(near[:-1].tolist(), near[1:].tolist(), strict=True):
                if self.strategy.line:
                    inner.append(self.strategy.midpoints(low, high, SETTINGS // 8))
        if inner:
            self.add(self.direction[0], np.concatenate(inner))
