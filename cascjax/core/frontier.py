"""The frontier of a strategy on arrays: which settings meet each budget, at what quality."""

import functools
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from cascjax.core.arrays import Numbers, as_float32, in_float32, leaves_as_float32
from cascjax.core.estimates import Estimator
from cascjax.core.sweep import outcomes, single_settings
from cascjax.core.totals import lane_sums
from cascjax.errors import CascjaxError

_SAMPLE = 1 << 14  # Queries at most that a search takes its scale from

_SHARES = (0.25, 0.5, 0.75)  # Places of new settings on the way between neighbours


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Curve:
    """A strategy's frontier at P budgets.

    Attributes:
        cost: `[P]` mean cost: the budget, or the nearest that can be reached.
        quality: `[P]` mean quality.
        parameters: `[P, 2]` or `[P, 2, D]` the two settings of each mixture, cheap then expensive.
        gamma: `[P]` share of queries that take the expensive setting.
    """

    cost: Float[Array, "*G P"]
    quality: Float[Array, "*G P"]
    parameters: Float[Array, "..."]
    gamma: Float[Array, "*G P"]


class Statistics(ABC):
    """Statistics of the data that a strategy's initial grid starts from.

    Attributes:
        xp: array library of the statistics: NumPy, or jax.numpy where they may be traced.
        cost: `[K]` mean cost of each model alone.
        quality: `[K]` mean quality of each model alone.
    """

    xp: ClassVar[Any]
    cost: Any
    quality: Any

    @abstractmethod
    def sample(self, most: int) -> tuple[Estimator, tuple[int, int]]:
        """Return the estimates of at most so many queries, evenly spread, and their shape."""

    @functools.cached_property
    def ante(self) -> Any:
        """`[n, K]` quality estimates before any model runs, for a sample of queries."""
        return self._estimates(run=False)

    @functools.cached_property
    def post(self) -> Any:
        """`[n, K]` quality estimates once all models have run, for a sample of queries."""
        return self._estimates(run=True)

    def _estimates(self, run: bool) -> Any:
        estimator, shape = self.sample(_SAMPLE)
        return self.xp.asarray(estimator(jnp.full(shape, run)).quality)


@in_float32
def frontier(
    strategy: Any,
    estimates: Estimator,
    quality: Numbers,
    cost: Numbers,
    budgets: Numbers,
    *,
    settings: int = 64,
    rounds: int = 5,
    singles: bool = True,
) -> Curve:
    """Return the best mixtures of a strategy's settings at each budget, its search included.

    A pure function as `sweep` is: jit it with the strategy static, map it over noise levels or
    seeds with vmap. All budgets share one pool of settings: first the strategy's initial grid, then
    a fixed number of rounds of settings between the neighbours of every budget; the result is the
    upper hull of the pool, with every model alone.

    Args:
        strategy: a strategy; static.
        estimates: the estimates of B queries and K models.
        quality: `[B, K]` true quality of each answer.
        cost: `[B, K]` true cost of running each model.
        budgets: `[P]` mean costs allowed.
        settings: number of settings in the initial grid.
        rounds: number of rounds of refinement; each adds three settings per budget, and closes in
            on it by a factor of four.
        singles: whether every model alone is a setting too; static.

    Raises:
        CascjaxError: an argument is no array of numbers, or shapes do not fit.

    Reference: Dekoninck, Baader, Vechev, "A Unified Approach to Routing and Cascading for LLMs",
    ICML 2025.

    Example:
      >>> import numpy as np
      >>> from cascjax.core import Independent
      >>> from cascjax.strategies import Routing
      >>> rng = np.random.default_rng(0)
      >>> quality, cost = rng.random((2, 200, 2)) * [1.0, 1.5]
      >>> estimates = Independent(quality, quality, np.zeros((1, 2)), cost, cost)
      >>> curve = frontier(Routing(), estimates, quality, cost, [0.5, 0.6])
      >>> np.allclose(curve.cost, [0.5, 0.6], rtol=1e-4)
      True
    """
    estimates = leaves_as_float32("estimates", estimates)
    quality, cost, budgets = (
        as_float32(name, x)
        for name, x in (("quality", quality), ("cost", cost), ("budgets", budgets))
    )
    if quality.ndim != 2 or quality.shape != cost.shape or budgets.ndim != 1:
        raise CascjaxError(
            f"quality {quality.shape} and cost {cost.shape} must have the same shape [B, K], and"
            f" budgets {budgets.shape} the shape [P]"
        )
    context = _ArrayStatistics(estimates, quality, cost)
    n_models, every = quality.shape[1], strategy.all_settings(quality.shape[1])
    grid = strategy.initial_grid(context, settings) if every is None else jnp.asarray(every)
    first = strategy.grid_settings(as_float32("grid", grid), n_models)

    def means(parameters: Float[Array, "L *D"]) -> tuple[Array, Array]:
        outcome = outcomes(strategy, parameters, estimates, (len(quality), n_models))
        run, weight = jnp.moveaxis(outcome.run, -1, 0), jnp.ones(len(quality))
        sums = lane_sums(run, outcome.answer, quality.T, cost.T, weight, usage=False)
        return jnp.sum(sums.cost, -1) / len(quality), jnp.sum(sums.quality, -1) / len(quality)

    parameters, (spent, got) = first, means(first)
    if strategy.line and rounds and len(budgets):
        n_first, n_new = len(first), len(_SHARES) * len(budgets)
        # Room for all rounds, filled up with the first setting.
        short = rounds * n_new
        pool = tuple(
            jnp.concatenate([x, jnp.broadcast_to(x[:1], (short,))]) for x in (first, spent, got)
        )

        def refine(index: Array, pool: tuple[Array, ...]) -> tuple[Array, ...]:
            low, high = _neighbours(pool, budgets)
            shares = jnp.asarray(_SHARES, jnp.float32)[:, None]
            new = strategy.between(low, high, shares).reshape(-1)
            start = n_first + index * n_new
            return tuple(
                jax.lax.dynamic_update_slice_in_dim(x, part, start, axis=0)
                for x, part in zip(pool, (new, *means(new)), strict=True)
            )

        parameters, spent, got = jax.lax.fori_loop(0, rounds, refine, pool)
    if singles and strategy.line and not strategy.reference:
        parameters = jnp.concatenate([parameters, as_float32("", single_settings(n_models))])
        spent = jnp.concatenate([spent, jnp.mean(cost, axis=0)])
        got = jnp.concatenate([got, jnp.mean(quality, axis=0)])
    cheap, expensive = _bracket(*_upper_hull(spent, got), spent, budgets)
    gap = spent[expensive] - spent[cheap]
    share = jnp.where(gap > 0, (budgets - spent[cheap]) / jnp.where(gap > 0, gap, 1), 0)
    gamma = jnp.clip(share, 0, 1)
    return Curve(
        cost=spent[cheap] + gamma * gap,
        quality=got[cheap] + gamma * (got[expensive] - got[cheap]),
        parameters=jnp.stack([parameters[cheap], parameters[expensive]], axis=1),
        gamma=gamma,
    )


@dataclass(frozen=True)
class _ArrayStatistics(Statistics):
    """Statistics of arrays, which may be traced."""

    estimates: Estimator
    qualities: Float[Array, "B K"]
    costs: Float[Array, "B K"]

    xp: ClassVar[Any] = jnp

    @functools.cached_property
    def cost(self) -> Float[Array, " K"]:
        """Mean cost of each model alone."""
        return jnp.mean(self.costs, axis=0)

    @functools.cached_property
    def quality(self) -> Float[Array, " K"]:
        """Mean quality of each model alone."""
        return jnp.mean(self.qualities, axis=0)

    def sample(self, most: int) -> tuple[Estimator, tuple[int, int]]:
        """Return all queries: a sample would save no compilation."""
        n_queries, n_models = self.costs.shape
        return self.estimates, (n_queries, n_models)


def _neighbours(
    pool: tuple[Float[Array, " L"], ...], budgets: Float[Array, " P"]
) -> tuple[Float[Array, " P"], Float[Array, " P"]]:
    """Return the two neighbouring parameters whose mixture at each budget is best.

    The pool holds parameters, mean costs and mean qualities.
    """
    order = jnp.argsort(pool[0])
    parameters, cost, quality = (x[order] for x in pool)
    low, high = jnp.minimum(cost[:-1], cost[1:]), jnp.maximum(cost[:-1], cost[1:])
    gap = jnp.diff(cost)
    share = (budgets[:, None] - cost[:-1]) / jnp.where(gap == 0, 1, gap)
    mixed = quality[:-1] + jnp.where(gap == 0, 0, share) * jnp.diff(quality)
    around = (low <= budgets[:, None]) & (budgets[:, None] <= high) & (gap != 0)
    left = jnp.argmax(jnp.where(around, mixed, -jnp.inf), axis=1)
    return parameters[left], parameters[left + 1]


def _upper_hull(
    cost: Float[Array, " L"], quality: Float[Array, " L"]
) -> tuple[Int[Array, " L"], Int[Array, ""]]:
    """Return the points on the rising upper hull, in rising cost, and how many there are."""

    def bends_up(stack: Array, size: Array, i: Array) -> Array:
        a, b = stack[jnp.maximum(size - 2, 0)], stack[jnp.maximum(size - 1, 0)]
        before = (quality[b] - quality[a]) * (cost[i] - cost[a])
        return (size >= 2) & (before <= (quality[i] - quality[a]) * (cost[b] - cost[a]))

    def add(state: tuple[Array, Array], i: Array) -> tuple[tuple[Array, Array], None]:
        stack, size = state
        worse = (size > 0) & (quality[i] <= quality[stack[jnp.maximum(size - 1, 0)]])
        kept = jax.lax.while_loop(lambda n: ~worse & bends_up(stack, n, i), lambda n: n - 1, size)
        pushed = stack.at[kept].set(i)
        return (jnp.where(worse, stack, pushed), jnp.where(worse, size, kept + 1)), None

    # Of points that cost the same only the best can be on the hull.
    order = jnp.lexsort((-quality, cost)).astype(jnp.int32)
    start = (jnp.zeros(len(cost), jnp.int32), jnp.int32(0))
    return jax.lax.scan(add, start, order)[0]


def _bracket(
    hull: Int[Array, " L"], size: Int[Array, ""], cost: Float[Array, " L"], budgets: Array
) -> tuple[Int[Array, " P"], Int[Array, " P"]]:
    """Return the neighbours on the hull around each budget; twice the nearest out of reach."""
    on_hull = jnp.where(jnp.arange(len(hull)) < size, cost[hull], jnp.inf)
    right = jnp.searchsorted(on_hull, budgets)
    left = jnp.where(right == 0, 0, jnp.minimum(right, size) - 1)
    return hull[left], hull[jnp.minimum(right, size - 1)]
