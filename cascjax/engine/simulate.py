"""The functional core over any number of queries: its kernels mapped over blocks and devices."""

import functools
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt32

from cascjax.core.breakpoints import (
    Breakpoints,
    Changes,
    Histogram,
    SortedSettings,
    breakpoint_changes,
    sums_from,
)
from cascjax.core.estimates import Estimator, Independent, Tabulated
from cascjax.core.random import key_of, weighted_sums
from cascjax.core.sweep import (
    has_breakpoints,
    outcomes,
    readable_form,
    single_model,
    takes_table,
)
from cascjax.core.totals import LANES, Sums, Totals, lane_sums, spent_and_got
from cascjax.data.table import mean_rows
from cascjax.engine.blocks import (
    Block,
    Queries,
    block_floats,
    breakpoint_queries,
    over_devices,
    power_of_two,
)
from cascjax.errors import CascjaxError
from cascjax.strategies import Strategy

Settings: TypeAlias = Float[Array, "L *D"] | Float[np.ndarray, "L *D"]

__all__ = [
    "Resampled", "Settings", "Sums", "Totals", "grid_means", "outcomes", "query_outcomes",
    "query_spends", "resampled_sums", "sized", "totals",
]  # fmt: skip

_BINS = 1 << 12  # Settings that breakpoints are sorted into at least

_GRID_BLOCK = 1 << 12
"""Queries a block holds at least where each goes through every member of a grid."""


def totals(
    strategy: Strategy,
    parameters: Float[np.ndarray, "L *D"],
    estimator: Estimator,
    quality: Float[np.ndarray, "N K"],
    cost: Float[np.ndarray, "N K"],
    *,
    rows: Int[np.ndarray, " n"] | None = None,
    usage: bool = True,
    progress: Callable[[int], None] = lambda queries: None,
    extra_costs: Sequence[Float[np.ndarray, "N K"]] = (),
) -> Totals:
    """Return sums over queries of what each setting does, by the true quality and cost.

    Queries go through in blocks that fit a cache, in parallel over the cores, and each block is
    spread over all devices (`cascjax.engine.devices`); what is held beside the arguments does not
    grow with N. Where decisions have breakpoints sums are exact, whatever the order and the blocks;
    else they are float32 over a few dozen queries and float64 from there on.

    Without `usage` the counts `ran`, `answered` and `depth` are empty. Sums of `extra_costs` come
    along in `cost`, `[L, 1 + len(extra_costs)]`, unless one pass serves any number of settings (see
    `has_breakpoints`). `progress` is called with the number of queries of each block as it ends,
    from any of the threads that work on blocks. A block that does not fit in memory is halved, with
    a warning.

    Raises:
        CascjaxError: no query, no setting, or not even one query fits in memory.
    """
    settings = np.asarray(parameters, np.float32)
    _check_any(settings, len(quality if rows is None else rows))
    by_breakpoints = has_breakpoints(strategy, estimator) and settings.size == len(settings)
    if by_breakpoints:
        extra_costs = ()
    # Models alone are sums of columns, to the bit the same for all strategies.
    model = single_model(settings)
    sums = _single_totals(model, quality, (cost, *extra_costs), rows, usage)
    own = np.flatnonzero(model < 0)
    if not own.size:
        return sums
    settings, estimator = settings[own], sized(strategy, estimator)
    if by_breakpoints and isinstance(estimator, Independent):
        estimator = estimator.only(strategy.reads)
    every = range(len(quality)) if rows is None else rows
    costs = (cost, *extra_costs) if extra_costs else cost
    # The few run sets that breakpoints need cost less than rows that lie far from each other.
    queries = Queries(estimator, quality, costs, every, apart=not by_breakpoints)

    def one_block(block: Block) -> Totals:
        if usage:
            # Counts read the outcome many times over: a program of its own leaves it in memory.
            lanes = _block_sums(usage, *_block_outcomes(strategy, settings, block), block)
        else:
            lanes = _block_spend(strategy, settings, block)
        sums = jax.tree.map(lambda part: np.asarray(part, np.float64).sum((0, -1)), lanes)
        return replace(sums, cost=np.moveaxis(sums.cost, 0, -1)) if extra_costs else sums

    if by_breakpoints:
        part = _breakpoint_totals(strategy, settings.reshape(-1), queries, usage, progress)
    else:
        part = queries.in_blocks(one_block, _room(strategy, queries, len(settings)), progress)
    for name in ("cost", "quality", "ran", "answered", "depth")[: 5 if usage else 2]:
        getattr(sums, name)[own] = getattr(part, name)
    return sums


def query_outcomes(
    strategy: Strategy,
    parameters: Float[np.ndarray, "L *D"],
    estimator: Estimator,
    shape: tuple[int, int],
    *,
    rows: Int[np.ndarray, " n"] | None = None,
    progress: Callable[[int], None] = lambda queries: None,
) -> tuple[Bool[np.ndarray, "L n K"], Int[np.ndarray, "L n"]]:
    """Return what each setting ran on every query, and whose answer it returned; on the host.

    In blocks as `totals` works, but what is returned grows with the queries: L n (K + 4) bytes.
    """
    # The truth is not asked for, and takes no memory.
    nothing = np.broadcast_to(np.float32(0), shape)

    def kernel(settings: Settings, block: Block) -> tuple[np.ndarray, Any]:
        run, answer = _block_outcomes(strategy, settings, block)
        return np.moveaxis(np.asarray(run), 1, -1), answer

    given = (estimator, nothing, nothing)
    ran, answered = _per_query(strategy, parameters, *given, kernel, rows, progress)
    return ran, answered


def query_spends(
    strategy: Strategy,
    parameters: Settings,
    estimator: Estimator,
    quality: Float[np.ndarray, "N K"],
    cost: Float[np.ndarray, "N K"],
    *,
    rows: Int[np.ndarray, " n"] | None = None,
) -> tuple[Float[np.ndarray, "L n"], Float[np.ndarray, "L n"]]:
    """Return what each setting spent on every query, and the quality it got; on the host.

    In blocks as `totals` works, but what is returned grows with the queries: 8 L n bytes.
    """
    kernel = functools.partial(_block_query_spends, strategy)
    given = (estimator, quality, cost)
    spent, got = _per_query(strategy, parameters, *given, kernel, rows, lambda queries: None)
    return spent, got


def _per_query(
    strategy: Strategy,
    parameters: Settings,
    estimator: Estimator,
    quality: Float[np.ndarray, "N K"],
    cost: Float[np.ndarray, "N K"],
    kernel: Callable[[Settings, Block], Sequence[Any]],
    rows: Int[np.ndarray, " n"] | None,
    progress: Callable[[int], None],
) -> list[np.ndarray]:
    """Return what a kernel returns per query, in the order of the rows."""
    settings = np.asarray(parameters, np.float32)
    every = range(len(quality)) if rows is None else rows
    _check_any(settings, len(every))
    queries = Queries(sized(strategy, estimator), quality, cost, every)

    def one_block(block: Block) -> list[list[np.ndarray]]:
        return [[block.by_query(part) for part in kernel(settings, block)]]

    room = _room(strategy, queries, len(settings))
    parts = queries.in_blocks(one_block, room, progress, operator.add)
    return [queries.in_order(list(part)) for part in zip(*parts, strict=True)]


def _single_totals(
    model: Int[np.ndarray, " L"],
    quality: Float[np.ndarray, "N K"],
    costs: Sequence[Float[np.ndarray, "N K"]],
    rows: Int[np.ndarray, " n"] | None,
    usage: bool,
) -> Totals:
    """Return totals of settings that stand for a model alone, zeros for others (-1)."""
    count, k = float(len(quality) if rows is None else len(rows)), quality.shape[1]
    sums = np.zeros((1 + len(costs), len(model)))
    if (model >= 0).any():
        sums[:] = [np.append(count * mean_rows(x, rows), 0)[model] for x in (quality, *costs)]
    counts = [np.zeros((len(model) * usage, k)) for _ in range(3)]
    if usage:
        counts[0] += count * (model[:, None] == np.arange(k))
        counts[1] += counts[0]
        counts[2][:, 0] = count * (model >= 0)
    cost = sums[1] if len(costs) == 1 else sums[1:].T
    return Totals(cost, sums[0], *counts, count=count)


def _breakpoint_totals(
    strategy: Strategy,
    settings: Float[np.ndarray, " L"],
    queries: Queries,
    usage: bool,
    progress: Callable[[int], None],
) -> Totals:
    """Return totals by way of the breakpoints of each query."""
    # Breakpoints are reached as the parameter falls, or its negative.
    rising, place = np.unique(-settings if strategy.rising else settings, return_inverse=True)
    # One size without counts, which would grow with it: a search and its sums share a program.
    least = LANES if usage else _BINS
    sorted_settings = SortedSettings.of(rising, power_of_two(max(least, len(rising))))
    chunk = power_of_two(_room(strategy, queries, 0))

    def one_block(block: Block) -> Changes:
        return _exact(
            functools.partial(_block_histogram, strategy, usage, chunk, sorted_settings), block
        )

    changes = queries.in_blocks(one_block, breakpoint_queries(), progress, operator.add)
    cost, quality = (
        sums.map(lambda bins: sums_from(bins)[place]).in_float64()
        for sums in (changes.cost, changes.quality)
    )
    counts = (sums_from(bins)[place] if len(bins) else bins for bins in changes.counts)
    return Totals(cost, quality, *counts, count=float(len(queries.rows)))


def _exact(kernel: Callable[[Block], Histogram], block: Block) -> Changes:
    """Return the changes of a block, to the last bit of each cost and quality."""
    changes = kernel(block)
    total = changes.changes()
    while np.any(changes.cut):
        cost, quality = changes.rest(block.cost, block.quality)
        block = replace(block, cost=cost, quality=quality)
        changes = kernel(block)
        more = changes.changes()
        total = Changes(total.cost + more.cost, total.quality + more.quality, total.counts)
    return total


def grid_means(
    strategy: Strategy,
    grid: Float[np.ndarray, " T"],
    estimator: Estimator,
    quality: Float[np.ndarray, "N K"],
    cost: Float[np.ndarray, "N K"],
    *,
    rows: Int[np.ndarray, " n"] | None = None,
    progress: Callable[[int], None] = lambda queries: None,
) -> Float[np.ndarray, "C T 2"]:
    """Return mean cost and quality of every member of a strategy's grid, in one pass.

    The strategy has `grid_changes` and `grid_sums`, such as frugal, whose members are chains. Each
    member is tried with all parameters of the grid, in rising order, no two the same.
    """
    gridded, every = cast(Any, strategy), range(len(quality)) if rows is None else rows
    # A step is taken where the parameter is above what is seen: its negative below the negative.
    falling = -grid[::-1].astype(np.float32)
    sorted_settings = SortedSettings.of(falling, power_of_two(max(LANES, len(grid))))
    queries = Queries(estimator, quality, cost, every)

    def one_block(block: Block) -> Changes:
        return _exact(functools.partial(_block_grid, strategy, sorted_settings), block)

    n_models = quality.shape[1]
    room = max(_GRID_BLOCK, block_floats() // (2 * strategy.table_footprint(n_models)))
    changes = queries.in_blocks(one_block, room, progress, operator.add)

    def sums(bins: Int[np.ndarray, " M"]) -> Int[np.ndarray, "C T"]:
        return gridded.grid_sums(bins, n_models)[:, : len(grid)][:, ::-1]

    pair = [exact.map(sums).in_float64() for exact in (changes.cost, changes.quality)]
    return np.stack(pair, axis=-1) / len(every)


@dataclass(frozen=True)
class Resampled:
    """Means over the queries of R bootstrap resamples: of P mixtures, and of each model alone."""

    cost: Float[np.ndarray, "R P"]
    quality: Float[np.ndarray, "R P"]
    single_cost: Float[np.ndarray, "R K"]
    single_quality: Float[np.ndarray, "R K"]

    @classmethod
    def of(cls, sums: Float[np.ndarray, "R M"], points: int) -> "Resampled":
        """Return the means of `resampled_sums` of so many mixtures."""
        k = (sums.shape[1] - 1 - 2 * points) // 2
        ends = np.cumsum([points, points, k])
        return cls(*np.split(sums[:, :-1] / sums[:, -1:], ends, axis=1))


def resampled_sums(
    strategy: Strategy,
    parameters: Float[np.ndarray, "P 2 *D"],
    gamma: Float[np.ndarray, " P"],
    estimator: Estimator,
    quality: Float[np.ndarray, "N K"],
    cost: Float[np.ndarray, "N K"],
    *,
    resamples: int,
    seed: int = 0,
    rows: Int[np.ndarray, " n"] | None = None,
    first_row: int = 0,
) -> Float[np.ndarray, "R M"]:
    """Return sums over queries of mixtures of two settings, in every resample of a bootstrap.

    A query's weight depends on the seed, its row (`first_row` is the number of row 0 among all) and
    the resample alone: not on the strategy, so that the resamples of two strategies are pairs, nor
    on blocks or order. Each query counts with its expectation under the mixture.

    Returns:
        Weighted sums of the P mixtures' costs, their qualities, the models' costs, their qualities,
        and of the weights alone; sums of different queries add up.
    """
    n_rows, points = len(quality if rows is None else rows), len(gamma)
    if not points:
        raise CascjaxError("nothing to resample: there must be a mixture of settings at least")
    key, estimator = key_of(seed), sized(strategy, estimator)
    pairs = np.asarray(parameters, np.float32).reshape(2 * points, *parameters.shape[2:])
    settings, where = np.unique(pairs, axis=0, return_inverse=True)
    # Always as many settings at once: one program to compile.
    short = -len(settings) % LANES
    settings = np.concatenate([settings, np.repeat(settings[-1:], short, axis=0)])
    mix = np.zeros((points, len(settings)), np.float32)
    cheap, expensive = where.reshape(-1, 2).T
    np.add.at(mix, (np.arange(points), cheap), 1 - gamma)
    np.add.at(mix, (np.arange(points), expensive), gamma)
    every = range(n_rows) if rows is None else rows
    queries = Queries(estimator, quality, cost, every, first_row=first_row)

    def one_block(block: Block) -> Float[np.ndarray, "R M"]:
        parts = [
            _block_mixed(
                mix[:, start : start + LANES],
                *_block_outcomes(strategy, settings[start : start + LANES], block),
                block,
            )
            for start in range(0, len(settings), LANES)
        ]
        sums = _block_resamples(resamples, key, functools.reduce(operator.add, parts), block)
        return np.asarray(sums, np.float64).sum(0)

    return queries.in_blocks(one_block, _room(strategy, queries, LANES), lambda n: None)


def sized(strategy: Strategy, estimator: Estimator) -> Estimator:
    """Return the estimates sized for quadrature, if the strategy takes any."""
    if strategy.integrates and isinstance(estimator, Independent):
        return estimator.sized()
    return estimator


def _check_any(settings: Float[np.ndarray, "L *D"], n_queries: int) -> None:
    if not len(settings) or not n_queries:
        raise CascjaxError("nothing to simulate: there must be a query and a setting at least")


def _room(strategy: Strategy, queries: Queries, n_settings: int) -> int:
    """Return the queries of a block that fit what a device may take."""
    n_models, estimator = queries.quality.shape[1], queries.estimator
    if takes_table(strategy, estimator, n_models):
        held = strategy.table_footprint(n_models)
    else:
        held = strategy.footprint(n_models, getattr(estimator, "panels", None))
    return block_floats() // (held + n_settings)


# Kernels: the core on one device's part of a block.


def _outcomes(
    strategy: Strategy, parameters: Settings, block: Block
) -> tuple[Bool[Array, "K L B"], Int[Array, "L B"]]:
    """Return what ran and what was answered, models first."""
    outcome = outcomes(strategy, jnp.asarray(parameters), block.estimator(), block.shape)
    return jnp.moveaxis(outcome.run, -1, 0), outcome.answer


_block_outcomes = over_devices(static=1, common=1)(_outcomes)


def _sums(
    usage: bool, run: Bool[Array, "K L B"], answer: Int[Array, "L B"], block: Block
) -> Totals:
    weight = jnp.asarray(block.real, jnp.float32)
    quality, cost = jnp.asarray(block.quality), jnp.asarray(block.cost)
    return lane_sums(run, answer, quality, cost, weight, usage=usage)


_block_sums = over_devices(static=1)(_sums)


@over_devices(static=1, common=1)
def _block_spend(strategy: Strategy, parameters: Settings, block: Block) -> Totals:
    """Return cost and quality alone, without ever holding what ran."""
    return _sums(False, *_outcomes(strategy, parameters, block), block)


@over_devices(static=1, common=1)
def _block_query_spends(
    strategy: Strategy, parameters: Settings, block: Block
) -> tuple[Float[Array, "L B"], Float[Array, "L B"]]:
    """Return cost and quality of every setting and query."""
    run, answer = _outcomes(strategy, parameters, block)
    return spent_and_got(run, answer, jnp.asarray(block.quality), jnp.asarray(block.cost))


@over_devices(static=3, common=1)
def _block_histogram(
    strategy: Strategy, usage: bool, chunk: int, sorted_settings: SortedSettings, block: Block
) -> Histogram:
    """Return what each breakpoint changes, by how many settings it reaches."""
    size, k = block.shape
    chunk = min(chunk, size)
    least = sorted_settings.settings[0]
    if block.transposed:
        leaves, common = block.leaves, None
    else:
        table = cast(Tabulated, readable_form(strategy, block.estimator(), k))
        leaves, common = [table.quality, table.cost], table.covariance

    def breakpoints(leaves: list[Array]) -> Breakpoints:
        if common is None:
            estimator = jax.tree.unflatten(block.tree, [leaf.T for leaf in leaves])
        else:
            quality, cost = leaves
            estimator = Tabulated(quality, common, cost)
        return cast(Breakpoints, strategy.breakpoints(estimator, least))

    if chunk == size:
        every = breakpoints(leaves)
    else:
        # A table of E[max] takes more room per query than its breakpoints do.
        leaves = [jnp.broadcast_to(leaf, (*leaf.shape[:-1], size)) for leaf in leaves]
        parts = (size // chunk, chunk)
        cut = [jnp.moveaxis(leaf.reshape(*leaf.shape[:-1], *parts), -2, 0) for leaf in leaves]
        parts = jax.lax.map(breakpoints, cut)
        below, model, answer = (
            jnp.moveaxis(rows, 0, 1).reshape(-1, size)
            for rows in (parts.below, parts.model, parts.answer)
        )
        every = Breakpoints(below, model, answer, jnp.max(parts.count), parts.cumulative)
    every = replace(every, below=jnp.where(block.real, every.below, -jnp.inf))
    quality, cost = jnp.asarray(block.quality), jnp.asarray(block.cost)
    return breakpoint_changes(every, sorted_settings, quality, cost, usage)


@over_devices(static=1, common=1)
def _block_grid(strategy: Strategy, sorted_settings: SortedSettings, block: Block) -> Histogram:
    """Return what each member of a grid changes, by how many settings reach it."""
    quality, cost = jnp.asarray(block.quality), jnp.asarray(block.cost)
    return cast(Any, strategy).grid_changes(
        sorted_settings, block.estimator(), quality, cost, jnp.asarray(block.real)
    )


@over_devices(common=1)
def _block_mixed(
    mix: Float[np.ndarray, "P L"] | Float[Array, "P L"],
    run: Bool[Array, "K L B"],
    answer: Int[Array, "L B"],
    block: Block,
) -> Float[Array, "P+P B"]:
    """Return what each query costs and gives in expectation, for each mix of these settings."""
    both = spent_and_got(run, answer, jnp.asarray(block.quality), jnp.asarray(block.cost))
    exact = jax.lax.Precision.HIGHEST
    return jnp.concatenate([jnp.matmul(mix, each, precision=exact) for each in both])


@over_devices(static=1, common=1)
def _block_resamples(
    resamples: int,
    key: UInt32[Array, "2"] | UInt32[np.ndarray, "2"],
    mixed: Float[Array, "M B"],
    block: Block,
) -> Float[Array, "R S"]:
    """Return weighted sums of mixes, of each model's cost and quality, and of weights alone."""
    one = jnp.asarray(block.real, jnp.float32)
    singles = (jnp.asarray(block.cost), jnp.asarray(block.quality))
    values = jnp.concatenate([mixed, *singles, jnp.ones((1, len(one)))])
    return weighted_sums(resamples, key, block.row, values * one)
