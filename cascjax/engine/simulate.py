"""Rolls a strategy over queries: what it runs, what that costs and how good the answers are."""

import functools
import math
import operator
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int, UInt32

from cascjax.core.breakpoints import Breakpoints, Histogram, chain_changes, stage_changes
from cascjax.core.expected_max import materialize
from cascjax.core.random import check_resamples, key_of, weighted_sums
from cascjax.data.table import take_rows
from cascjax.engine.devices import AXIS, mesh
from cascjax.errors import CascjaxError
from cascjax.estimators import Estimator, Grouped, Independent, Tabulable, Tabulated
from cascjax.strategies import Frugal, Outcome, Stages, Strategy
from cascjax.strategies.base import over_models
from cascjax.strategies.frugal import seen_last

X = TypeVar("X")
Y = TypeVar("Y")
F = TypeVar("F", bound=Callable[..., Any])
Settings: TypeAlias = Float[Array, "L *D"] | Float[np.ndarray, "L *D"]
Matrix: TypeAlias = Float[Array, "*S K B"] | Float[np.ndarray, "*S K B"]
Rows: TypeAlias = range | Int[np.ndarray, " n"]

_BLOCK_FLOATS = 1 << 18
"""Numbers a device's queries in a block may take at least: what stays in a core's cache."""

_STAGED_BLOCK = 1 << 14
"""Queries of a block a device has at most where each goes through stages on a CPU."""

_CHAINED_BLOCK = 1 << 12
"""Queries a block holds at least where each goes through every chain of models."""

_ACCELERATED = 1 << 17
"""Queries of a block an accelerator has at most: what goes through its cache between programs.
On an H200 64 prices of 10M x 11 took pandora 1.1 s in these, 3.7 in blocks that fill its memory; to
turn them there instead of on the host took routing twice as long."""

_LANES = 64
"""Partial sums kept of a block at least, and what each adds up at most, few enough for float32."""

Sums: TypeAlias = Float[np.ndarray, "..."] | Float[Array, "..."]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Totals:
    """Sums over queries of what L settings of a strategy did.

    Attributes:
        cost: `[L]` true cost of all models run, or of several costs `[L, C]`.
        quality: `[L]` true quality of the answers returned.
        ran: `[L, K]` queries each model ran on.
        answered: `[L, K]` queries each model's answer was returned for.
        depth: `[L, K]` queries on which 1, 2, ..., K models ran.
        count: queries.
    """

    cost: Sums
    quality: Sums
    ran: Sums
    answered: Sums
    depth: Sums
    count: Sums | float

    def means(self) -> "Totals":
        """The same per query."""
        return jax.tree.map(lambda total: total / self.count, self)

    def __getitem__(self, index: slice | np.ndarray) -> "Totals":
        """The totals of some settings."""
        return jax.tree.map(lambda total: total[index] if np.ndim(total) else total, self)


def rollout(
    strategy: Strategy,
    parameters: Float[Array, "*D"],
    estimator: Estimator,
    nothing_run: Bool[Array, "B K"],
) -> Outcome:
    """One setting of a strategy, step by step: ask for the next model, run it, until it stops.

    The plain way, for any estimator; `outcomes` is the fast one.
    """

    def one_step(_: Array, run: Bool[Array, "B K"]) -> Bool[Array, "B K"]:
        new = strategy.next_model(parameters, estimator(run), run)
        # one_hot of STOP is all zeros: a query that has stopped stays as it is.
        return run | jax.nn.one_hot(new, run.shape[-1], dtype=bool)

    run = jax.lax.fori_loop(0, strategy.max_steps(nothing_run.shape[-1]), one_step, nothing_run)
    return Outcome(run, strategy.answer(estimator(run), run))


def outcomes(
    strategy: Strategy,
    parameters: Float[Array, "L *D"],
    estimator: Estimator,
    nothing_run: Bool[Array, "B K"],
) -> Outcome:
    """Every setting of a strategy: its own sweep where it has one, else a rollout each."""
    beliefs = estimator if isinstance(estimator, Independent) else None
    if takes_table(strategy, estimator, nothing_run.shape[-1]):
        beliefs = _table(strategy, cast(Tabulable, estimator), nothing_run.shape[-1])
    if beliefs is not None:
        swept = strategy.sweep(parameters, beliefs)
        if swept is not None:
            return swept
    return jax.lax.map(lambda p: rollout(strategy, p, estimator, nothing_run), parameters)


def has_stages(strategy: Strategy, estimator: Estimator) -> bool:
    """Whether a single pass over the queries serves any number of settings of one parameter."""
    return strategy.staged and isinstance(estimator, Independent | Tabulable)


def takes_table(strategy: Strategy, estimator: Estimator, n_models: int) -> bool:
    """Whether a strategy is simulated from a table of the estimates under every run set."""
    return isinstance(estimator, Tabulable) and strategy.run_sets(n_models) is not None


def _table(strategy: Strategy, estimator: Tabulable, n_models: int) -> Tabulated:
    # In memory: what is read of it again and again is not to be worked out again.
    return materialize(
        estimator.tabulate(strategy.run_sets(n_models), strategy.models_read(n_models))
    )


def _held(strategy: Strategy, estimator: Estimator, n_models: int) -> int:
    """Numbers held a query, beside the settings."""
    if takes_table(strategy, estimator, n_models):
        return strategy.table_footprint(n_models)
    return strategy.footprint(n_models, getattr(estimator, "panels", None))


def _sized(strategy: Strategy, estimator: Estimator) -> Estimator:
    """The estimates, sized for quadrature if the strategy takes any."""
    size = getattr(estimator, "sized", None) if strategy.integrates else None
    return estimator if size is None else size()


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
    """Sums over queries of what each setting does, held to the true quality and cost.

    Queries go through in blocks that fit a cache, in parallel over the cores, and each block is
    spread over all devices (`cascjax.engine.devices`); what is held beside the arguments does not
    grow with N. Sums are exact, or float32 over a few dozen queries, and
    float64 from there on.

    Args:
        strategy: what to simulate; static.
        parameters: L settings.
        estimator: the estimates of all N queries.
        quality: true qualities.
        cost: true costs.
        rows: the queries to sum over; by default all.
        usage: whether to count what ran; without it `ran`, `answered` and `depth` are empty.
        progress: called with the number of queries of each block as it ends, from any of the
            threads that work on blocks.
        extra_costs: further true costs to add up in the same pass; the sums of all costs are then
            `[L, 1 + len(extra_costs)]`. Not where one pass serves any number of settings, see
            `has_stages`.

    Raises:
        CascjaxError: no query, no setting, or not even one query fits in memory. A larger block
            that does not fit is halved, with a warning.
    """
    settings = np.asarray(parameters, np.float32)
    if not len(settings) or not len(quality if rows is None else rows):
        raise CascjaxError("nothing to simulate: there must be a query and a setting at least")
    estimator = _sized(strategy, estimator)
    staged = has_stages(strategy, estimator) and settings.size == len(settings)
    if staged and isinstance(estimator, Independent):
        estimator = estimator.only(strategy.reads)
    every = range(len(quality)) if rows is None else rows
    if extra_costs and not staged:
        cost = (cost, *extra_costs)  # pyright: ignore[reportAssignmentType]
    # The few run sets stages are made of cost less than rows that lie far from each other.
    queries = _Queries(estimator, quality, cost, every, apart=not staged)
    if staged:
        return _staged_totals(strategy, settings.reshape(-1), queries, usage, progress)

    def one_block(block: _Block) -> Totals:
        if usage:
            # Counts read the outcome many times over: a program of its own leaves it in memory.
            lanes = _block_sums(usage, *_block_outcomes(strategy, settings, block), block)
        else:
            lanes = _block_spend(strategy, settings, block)
        sums = jax.tree.map(lambda part: np.asarray(part, np.float64).sum((0, -1)), lanes)
        return replace(sums, cost=np.moveaxis(sums.cost, 0, -1)) if extra_costs else sums

    held = _held(strategy, estimator, quality.shape[1]) + len(settings)
    return queries.in_blocks(one_block, _block_floats() // held, progress)


def query_outcomes(
    strategy: Strategy,
    parameters: Float[np.ndarray, "L *D"],
    estimator: Estimator,
    shape: tuple[int, int],
    *,
    rows: Int[np.ndarray, " n"] | None = None,
    progress: Callable[[int], None] = lambda queries: None,
) -> tuple[Bool[np.ndarray, "L n K"], Int[np.ndarray, "L n"]]:
    """What each setting ran on every query, and whose answer it returned; on the host.

    In blocks as `totals` works, but what comes back grows with the queries: L n (K + 4) bytes.

    Args:
        strategy: what to simulate; static.
        parameters: L settings.
        estimator: the estimates of all N queries.
        shape: N and K.
        rows: the queries to look at; by default all.
        progress: see `totals`.

    Raises:
        CascjaxError: see `totals`.
    """
    settings = np.asarray(parameters, np.float32)
    if not len(settings) or not (shape[0] if rows is None else len(rows)):
        raise CascjaxError("nothing to simulate: there must be a query and a setting at least")
    estimator = _sized(strategy, estimator)
    # The truth is not asked for, and takes no memory.
    nothing = np.broadcast_to(np.float32(0), shape)
    queries = _Queries(estimator, nothing, nothing, range(shape[0]) if rows is None else rows)

    def one_block(block: _Block) -> list[tuple[np.ndarray, np.ndarray]]:
        run, answer = _block_outcomes(strategy, settings, block)
        return [(block.by_query(np.moveaxis(np.asarray(run), 1, -1)), block.by_query(answer))]

    held = _held(strategy, estimator, shape[1]) + len(settings)
    parts = queries.in_blocks(one_block, _block_floats() // held, progress, operator.add)
    ran, answered = (queries.in_order(list(part)) for part in zip(*parts, strict=True))
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
    """What each setting spent on every query, and the quality it got for that; on the host.

    In blocks as `totals` works, but what comes back grows with the queries: 8 L n bytes.

    Args:
        strategy: what to simulate; static.
        parameters: L settings.
        estimator: the estimates of all N queries.
        quality: true qualities.
        cost: true costs.
        rows: the queries to look at; by default all.
    """
    settings = np.asarray(parameters, np.float32)
    estimator = _sized(strategy, estimator)
    queries = _Queries(estimator, quality, cost, range(len(quality)) if rows is None else rows)

    def one_block(block: _Block) -> list[tuple[np.ndarray, np.ndarray]]:
        spent, got = _block_query_spends(strategy, settings, block)
        return [(block.by_query(spent), block.by_query(got))]

    held = _held(strategy, estimator, quality.shape[1]) + len(settings)
    parts = queries.in_blocks(
        one_block, _block_floats() // held, lambda queries: None, operator.add
    )
    spent, got = (queries.in_order(list(part)) for part in zip(*parts, strict=True))
    return spent, got


def _staged_totals(
    strategy: Strategy,
    settings: Float[np.ndarray, " L"],
    queries: "_Queries",
    usage: bool,
    progress: Callable[[int], None],
) -> Totals:
    """The same by way of the stages each query goes through."""
    # Stages are reached as the parameter falls, or its negative.
    rungs, rung = np.unique(-settings if strategy.rising else settings, return_inverse=True)
    ladder = Breakpoints.of(rungs, _power_of_two(max(_LANES, len(rungs))))
    k = queries.quality.shape[1]
    chunk = _power_of_two(_block_floats() // _held(strategy, queries.estimator, k))

    def one_block(block: _Block) -> tuple[np.ndarray, ...]:
        changes = _block_histogram(strategy, usage, chunk, ladder, block).in_float64()
        return tuple(of.sum(0) for of in changes)

    size = _STAGED_BLOCK if jax.default_backend() == "cpu" else _ACCELERATED
    changes = queries.in_blocks(one_block, size, progress)

    # Bin b holds what the first b rungs see: a rung sees all bins beyond its own number.
    sums, ran, answered, depth = (
        np.cumsum(bins[::-1], axis=0)[::-1][1 + rung] if len(bins) else bins for bins in changes
    )
    return Totals(sums[:, 0], sums[:, 1], ran, answered, depth, count=float(len(queries.rows)))


def chain_means(
    strategy: Frugal,
    taus: Float[np.ndarray, " T"],
    estimator: Estimator,
    quality: Float[np.ndarray, "N K"],
    cost: Float[np.ndarray, "N K"],
    *,
    rows: Int[np.ndarray, " n"] | None = None,
    progress: Callable[[int], None] = lambda queries: None,
) -> Float[np.ndarray, "C T 2"]:
    """Mean cost and quality of every chain of models under every threshold, in one pass.

    Args:
        strategy: whose chains, in the order of `Frugal.chains`.
        taus: in rising order, no two the same.
        estimator: the estimates of all N queries.
        quality: true qualities.
        cost: true costs.
        rows: the queries to take means of; by default all.
        progress: see `totals`.
    """
    k, every = quality.shape[1], range(len(quality)) if rows is None else rows
    # A step is taken where tau is above what is seen: where -tau is below its negative.
    ladder = Breakpoints.of(-taus[::-1].astype(np.float32), _power_of_two(max(_LANES, len(taus))))
    queries = _Queries(estimator, quality, cost, every)

    def one_block(block: _Block) -> np.ndarray:
        return _block_chains(strategy, ladder, block).in_float64()[0].sum(0)

    chains = strategy.chains(k)
    held = _block_floats() // (4 * len(chains))
    bins = queries.in_blocks(one_block, max(_CHAINED_BLOCK, held), progress)
    # Bin b holds what the first b rungs see: a rung sees all bins beyond its own number.
    sums = np.cumsum(bins.reshape(len(chains), -1, 2)[:, ::-1], axis=1)[:, ::-1]
    sums = sums[:, 1 : 1 + len(taus)][:, ::-1]
    # What a chain does beyond that without its last model; the shorter come first.
    for at, shorter in enumerate(_without_last(chains)):
        if shorter >= 0:
            sums[at] += sums[shorter]
    return sums / len(every)


def _without_last(chains: Int[np.ndarray, " C"]) -> Int[np.ndarray, " C"]:
    """Where each chain without its last model stands among them, -1 where that is none."""
    place = {chain: at for at, chain in enumerate(chains.tolist())}
    return np.array([place.get(c ^ 1 << c.bit_length() - 1, -1) for c in chains.tolist()], np.int32)


@dataclass(frozen=True)
class Resampled:
    """Means over the queries of R bootstrap resamples.

    Attributes:
        cost: `[R, P]` mean cost of each mix of settings.
        quality: `[R, P]` mean quality of each mix of settings.
        single_cost: `[R, K]` mean cost of each model alone.
        single_quality: `[R, K]` mean quality of each model alone.
    """

    cost: Float[np.ndarray, "R P"]
    quality: Float[np.ndarray, "R P"]
    single_cost: Float[np.ndarray, "R K"]
    single_quality: Float[np.ndarray, "R K"]

    @classmethod
    def of(cls, sums: Float[np.ndarray, "R M"], points: int) -> "Resampled":
        """The means of sums, see `resampled_sums`, of so many mixes."""
        k = (sums.shape[1] - 1 - 2 * points) // 2
        ends = np.cumsum([points, points, k])
        return cls(*np.split(sums[:, :-1] / sums[:, -1:], ends, axis=1))


def resampled(
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
    progress: Callable[[int], None] = lambda queries: None,
) -> Resampled:
    """What mixes of two settings do on average, in every resample of a bootstrap over queries.

    A query's weight depends on the seed, its row and the resample alone (`cascjax.core.random`):
    not on the strategy, so that the resamples of two strategies are pairs, nor on blocks or order.
    Each query counts with its expectation under the mix. What is held does not grow with N: the
    sums of the resamples, in float64 between blocks.

    Args:
        strategy: what to simulate; static.
        parameters: the two settings of each mix, a number each or one a step.
        gamma: share of queries that take the second one.
        estimator: the estimates of all N queries.
        quality: true qualities.
        cost: true costs.
        resamples: R.
        seed: of the resamples.
        rows: the queries to resample; by default all.
        progress: see `totals`.

    Raises:
        CascjaxError: no mix, or see `totals`, `check_resamples` and `key_of`.
    """
    check_resamples(resamples, len(quality if rows is None else rows))
    sums = resampled_sums(
        strategy, parameters, gamma, estimator, quality, cost,
        resamples=resamples, seed=seed, rows=rows, progress=progress,
    )  # fmt: skip
    return Resampled.of(sums, len(gamma))


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
    progress: Callable[[int], None] = lambda queries: None,
) -> Float[np.ndarray, "R M"]:
    """The sums that `resampled` makes means of: those of some queries and of others add up.

    Args:
        strategy: see `resampled`, as all that is not named here.
        parameters: see there.
        gamma: see there.
        estimator: see there.
        quality: see there.
        cost: see there.
        resamples: see there.
        seed: see there.
        rows: see there.
        first_row: number of the first of the N queries among all there are: weights go by that.
        progress: see there.

    Returns:
        Weighted sums of the P mixes' costs, their qualities, the models' costs, their qualities,
        and of the weights alone.

    Raises:
        CascjaxError: see there.
    """
    n_rows, (points, k) = len(quality if rows is None else rows), (len(gamma), quality.shape[1])
    if not points:
        raise CascjaxError("nothing to resample: there must be a mix of settings at least")
    key, estimator = key_of(seed), _sized(strategy, estimator)
    pairs = np.asarray(parameters, np.float32).reshape(2 * points, *parameters.shape[2:])
    settings, where = np.unique(pairs, axis=0, return_inverse=True)
    # Always as many settings at once: one program to compile.
    short = -len(settings) % _LANES
    settings = np.concatenate([settings, np.repeat(settings[-1:], short, axis=0)])
    mix = np.zeros((points, len(settings)), np.float32)
    cheap, expensive = where.reshape(-1, 2).T
    np.add.at(mix, (np.arange(points), cheap), 1 - gamma)
    np.add.at(mix, (np.arange(points), expensive), gamma)
    every = range(n_rows) if rows is None else rows
    queries = _Queries(estimator, quality, cost, every, first_row=first_row)

    def one_block(block: _Block) -> Float[np.ndarray, "R M"]:
        parts = [
            _block_mixed(
                mix[:, start : start + _LANES],
                *_block_outcomes(strategy, settings[start : start + _LANES], block),
                block,
            )
            for start in range(0, len(settings), _LANES)
        ]
        sums = _block_resamples(resamples, key, functools.reduce(operator.add, parts), block)
        return np.asarray(sums, np.float64).sum(0)

    held = _held(strategy, estimator, k) + _LANES
    return queries.in_blocks(one_block, _block_floats() // held, progress)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _Block:
    """Some queries, with models first: what a kernel works on.

    Those of each device are a row along a first axis of S devices, which is gone inside a kernel.

    Attributes:
        beliefs: leaves of the estimator that have an axis of queries; independent ones are turned,
            queries last.
        shared: its other leaves, which are the same for all queries and devices.
        quality: `[S, K, B]` true qualities.
        cost: `[S, K, B]` true costs; of several costs `[S, K, C, B]`.
        real: `[S, B]` False for queries that only fill the block up.
        row: `[S, B]` each query's row in the table.
        tree: the estimator's structure.
        own: whether each of its leaves is one of `beliefs`.
        turned: whether `beliefs` and `shared` are.
        mesh: the devices.
    """

    beliefs: list[Any]
    shared: list[Any]
    quality: Matrix
    cost: Matrix | Float[Array, "*S K C B"] | Float[np.ndarray, "*S K C B"]
    real: Bool[Array, "*S B"] | Bool[np.ndarray, "*S B"]
    row: UInt32[Array, "*S B"] | UInt32[np.ndarray, "*S B"]
    tree: Any = field(metadata={"static": True})
    own: tuple[bool, ...] = field(metadata={"static": True})
    turned: bool = field(metadata={"static": True})
    mesh: Mesh = field(metadata={"static": True})

    @property
    def leaves(self) -> list[Any]:
        """All leaves of the estimator, in its order."""
        beliefs, shared = iter(self.beliefs), iter(self.shared)
        return [next(beliefs if own else shared) for own in self.own]

    def estimator(self) -> Estimator:
        """The estimates, queries first."""
        leaves = [leaf.T for leaf in self.leaves] if self.turned else self.leaves
        return jax.tree.unflatten(self.tree, leaves)

    def by_query(self, found: Any) -> np.ndarray:
        """What a kernel found of each query, `[S, L, B, ...]`, on the host as `[L, n, ...]`."""
        rows = np.swapaxes(np.asarray(found), 0, 1)
        rows = rows.reshape(len(rows), self.real.size, *rows.shape[3:])
        return rows[:, : int(np.count_nonzero(self.real))]


def _added(total: Y, part: Y) -> Y:
    return jax.tree.map(np.add, total, part)


@dataclass(frozen=True)
class _Queries:
    """Some rows of a table with what is believed of them, to be worked on in blocks.

    Attributes:
        estimator: the estimates of all queries.
        quality: true qualities.
        cost: true costs.
        rows: those that count.
        apart: whether queries that share what is costly are worked on apart from others.
        first_row: number of row 0 among all rows there are.
        mesh: the devices each block is spread over.
    """

    estimator: Estimator
    quality: Float[np.ndarray, "N K"]
    cost: Float[np.ndarray, "N K"] | tuple[Float[np.ndarray, "N K"], ...]
    rows: Rows
    apart: bool = True
    first_row: int = 0
    mesh: Mesh = field(default_factory=mesh)

    @functools.cached_property
    def groups(self) -> list[tuple["_Queries", Int[np.ndarray, " m"] | None]]:
        """Those that are worked on together, and which of the rows they are; None for all."""
        found = []
        if isinstance(self.estimator, Grouped):
            found = self.estimator.groups(self.rows, apart=self.apart)
        if len(found) <= 1:
            alone = [replace(self, estimator=estimator) for estimator, _ in found]
            # A copy: what is kept here of itself would stay until the next garbage collection.
            return [(alone[0] if alone else replace(self), None)]
        rows = np.asarray(self.rows)
        return [
            (replace(self, estimator=estimator, rows=rows[places]), places)
            for estimator, places in found
        ]

    def in_order(self, parts: list[np.ndarray]) -> np.ndarray:
        """Arrays `[L, n, ...]` of blocks, as `in_blocks` joins them, in the order of the rows."""
        joined = np.concatenate(parts, axis=1)
        places = [of for _, of in self.groups if of is not None]
        return joined[:, np.argsort(np.concatenate(places))] if places else joined

    @property
    def turned(self) -> bool:
        """Whether the estimator's leaves are turned, queries last."""
        # Independent estimates are matrices, which turn; what others hold is theirs to cut.
        return isinstance(self.estimator, Independent)

    @functools.cached_property
    def axes(self) -> tuple[int | None, ...]:
        """Where each leaf of the estimator has its queries: the axis that grows with them."""
        first = self.rows[0]
        one, two = (jax.tree.leaves(self.estimator.take(np.full(n, first))) for n in (1, 2))
        grew = (
            np.flatnonzero(np.not_equal(np.shape(a), np.shape(b)))
            for a, b in zip(one, two, strict=True)
        )
        return tuple(int(axes[0]) if len(axes) else None for axes in grew)

    @functools.cached_property
    def shared(self) -> list[Any]:
        """The leaves that are the same for all queries, on every device."""
        leaves = jax.tree.leaves(self.estimator.take(np.full(1, self.rows[0])))
        shared = [leaf for leaf, axis in zip(leaves, self.axes, strict=True) if axis is None]
        turned = [np.asarray(leaf).T for leaf in shared] if self.turned else shared
        return jax.device_put(turned, NamedSharding(self.mesh, PartitionSpec()))

    def block(self, rows: Rows, size: int) -> _Block:
        """Those rows and, to fill the block up, their first again and again.

        Args:
            rows: of them `size` a device, in order; the last devices may lack some.
            size: queries of each device.
        """
        n_devices = self.mesh.size
        whole = n_devices * size
        if len(rows) < whole:
            cut = np.concatenate([rows, np.full(whole - len(rows), rows[0])])
        else:
            cut = slice(rows.start, rows.stop) if isinstance(rows, range) else rows

        def spread(column: Any, axis: int = 0) -> Any:
            """What each device gets: views, where it is on the host."""
            shape = (*column.shape[:axis], n_devices, size, *column.shape[axis + 1 :])
            own = column.reshape(shape)
            own = own if axis == 0 else np.moveaxis(own, axis, 0)
            if isinstance(own, jax.Array):
                # What was put on one device is not sent to others by itself.
                own = jax.device_put(own, NamedSharding(self.mesh, PartitionSpec(AXIS)))
            return own

        def turned(column: Any) -> Any:
            return spread(column).swapaxes(1, 2)

        leaves, tree = jax.tree.flatten(self.estimator.take(cut))
        beliefs = [
            turned(leaf) if self.turned else spread(leaf, axis)
            for leaf, axis in zip(leaves, self.axes, strict=True)
            if axis is not None
        ]
        quality = turned(take_rows(self.quality, cut))
        if isinstance(self.cost, tuple):
            cost = np.stack([turned(take_rows(one, cut)) for one in self.cost], axis=2)
        else:
            cost = turned(take_rows(self.cost, cut))
        real, row = np.arange(whole) < len(rows), np.zeros(whole, np.uint32)
        row[: len(rows)] = np.asarray(rows) + self.first_row
        own = tuple(axis is not None for axis in self.axes)
        return _Block(
            beliefs, self.shared, quality, cost, spread(real), spread(row),
            tree, own, self.turned, self.mesh,
        )  # fmt: skip

    def in_blocks(
        self,
        kernel: Callable[[_Block], Y],
        room: int,
        progress: Callable[[int], None],
        join: Callable[[Y, Y], Y] = _added,
    ) -> Y:
        """The sum of what a kernel returns for each block.

        Args:
            kernel: from a block to float64 arrays on the host.
            room: queries of a block that one device may hold, if there are as many.
            progress: called with the number of queries of each block as it ends.
            join: how to add up, in the order of the queries of each group in turn.
        """
        most = max(len(queries.rows) for queries, _ in self.groups)
        if jax.default_backend() != "cpu":
            room = min(room, _ACCELERATED)
        n_devices = self.mesh.size
        size = _power_of_two(min(-(-most // n_devices), max(_LANES, room)))

        def sums(some: tuple[_Queries, Rows]) -> Any:
            nonlocal size
            queries, rows = some
            fits, whole = size, size * n_devices
            if len(rows) > whole:
                cuts = (rows[start : start + whole] for start in range(0, len(rows), whole))
                return functools.reduce(join, (sums((queries, cut)) for cut in cuts))
            try:
                part = kernel(queries.block(rows, fits))
            except (MemoryError, jax.errors.JaxRuntimeError) as error:
                if not _is_memory(error):
                    raise
                if fits == 1:
                    raise CascjaxError(
                        "the memory left does not hold a single query; use fewer models or"
                        " settings, or a shallower or narrower search"
                    ) from error
                part = None
            if part is None:
                # Not while the error is handled: it holds on to what there was no room for.
                if size == fits:
                    size = fits // 2
                    warnings.warn(
                        f"a block of {fits} queries does not fit in memory: going on with {size}",
                        RuntimeWarning,
                        stacklevel=2,
                    )
                return sums(some)
            progress(len(rows))
            return part

        blocks = [
            (queries, queries.rows[start : start + size * n_devices])
            for queries, _ in self.groups
            for start in range(0, len(queries.rows), size * n_devices)
        ]
        workers = _workers(n_devices)
        try:
            with ThreadPoolExecutor(workers) as pool:
                # In order, so that the sum is the same whichever thread is faster.
                return functools.reduce(join, _mapped_ahead(pool, sums, blocks, 4 * workers))
        finally:
            # It calls itself: the table it holds would stay until the next garbage collection.
            del sums


def _mapped_ahead(
    pool: ThreadPoolExecutor, work: Callable[[X], Y], over: Iterable[X], most: int
) -> Iterator[Y]:
    """As `pool.map`, but so many calls ahead of what is asked for: results do not pile up."""
    ahead: deque[Future[Y]] = deque()
    try:
        for item in over:
            ahead.append(pool.submit(work, item))
            if len(ahead) > most:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        for one in ahead:
            one.cancel()


def _is_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def _power_of_two(least: int) -> int:
    return 1 << max(0, math.ceil(math.log2(max(1, least))))


def _block_floats() -> int:
    """Numbers a device may take: a core's cache, or a 64th of what bytes an accelerator has."""
    if jax.default_backend() == "cpu":
        return _BLOCK_FLOATS
    memory = jax.local_devices()[0].memory_stats() or {}
    return max(_BLOCK_FLOATS, memory.get("bytes_limit", 0) // 64)


def _workers(n_devices: int) -> int:
    # XLA runs what a device has of a block on one core; beside an accelerator one block is cut
    # while another is worked on.
    cores = (os.cpu_count() or 1) if jax.default_backend() == "cpu" else 1
    return max(2, cores // n_devices)


def _over_devices(static: int = 0, common: int = 0) -> Callable[[F], F]:
    """Makes a kernel of one device's queries a jitted one of all, each device for itself.

    Devices do not talk to each other: what a kernel returns gets a first axis of devices, and the
    host, in float64, adds up what is to be added up.

    Args:
        static: leading arguments that are static.
        common: arguments after those that are the same on all devices. Of the rest, the last of
            them the block, each device has its own.
    """

    def decorated(kernel: F) -> F:
        @functools.partial(jax.jit, static_argnums=tuple(range(static)))
        @functools.wraps(kernel)
        def over_devices(*arguments: Any) -> Any:
            block = arguments[-1]
            fixed, alike = arguments[:static], arguments[static : static + common]
            own = (*arguments[static + common : -1], replace(block, shared=[]))

            def one_device(alike: Any, shared: list[Any], own: Any) -> Any:
                *own, block = jax.tree.map(lambda of: of[0], own)
                found = kernel(*fixed, *alike, *own, replace(block, shared=shared))
                return jax.tree.map(lambda of: of[None], found)

            each, all_ = PartitionSpec(AXIS), PartitionSpec()
            # Unchecked, loops may begin with zeros that are the same on all devices.
            spread = jax.shard_map(
                one_device, mesh=block.mesh, in_specs=(all_, all_, each), out_specs=each,
                check_vma=False,
            )  # fmt: skip
            return spread(alike, block.shared, own)

        return cast(F, over_devices)

    return decorated


def _outcomes(
    strategy: Strategy, parameters: Settings, block: _Block
) -> tuple[Bool[Array, "K L B"], Int[Array, "L B"]]:
    """What ran and what was answered, models first."""
    nothing_run = jnp.zeros(block.quality.shape[::-1], bool)
    outcome = outcomes(strategy, jnp.asarray(parameters), block.estimator(), nothing_run)
    return jnp.moveaxis(outcome.run, -1, 0), outcome.answer


_block_outcomes = _over_devices(static=1, common=1)(_outcomes)


@_over_devices(static=1, common=1)
def _block_spend(strategy: Strategy, parameters: Settings, block: _Block) -> Totals:
    """Cost and quality alone, without ever holding what ran."""
    return _sums(False, *_outcomes(strategy, parameters, block), block)


@_over_devices(static=1, common=1)
def _block_query_spends(
    strategy: Strategy, parameters: Settings, block: _Block
) -> tuple[Float[Array, "L B"], Float[Array, "L B"]]:
    """Cost and quality of every setting and query."""
    run, answer = _outcomes(strategy, parameters, block)
    return _spent_and_got(run, answer, jnp.asarray(block.quality), jnp.asarray(block.cost))


@_over_devices(static=3, common=1)
def _block_histogram(
    strategy: Strategy, usage: bool, chunk: int, ladder: Breakpoints, block: _Block
) -> Histogram:
    """What each stage changes, by how many rungs it reaches."""
    k, size = block.quality.shape
    chunk = min(chunk, size)
    least = ladder.rungs[0]

    if block.turned:
        beliefs, common = block.leaves, None
    else:
        table = _table(strategy, cast(Tabulable, block.estimator()), k)
        beliefs, common = [table.quality, table.cost], table.covariance

    def stages(beliefs: list[Array]) -> Stages:
        if common is None:
            estimator = jax.tree.unflatten(block.tree, [leaf.T for leaf in beliefs])
        else:
            quality, cost = beliefs
            estimator = Tabulated(quality, common, cost)
        return cast(Stages, strategy.stages(estimator, least))

    if chunk == size:
        went = stages(beliefs)
    else:
        # A table of E[max] takes more room a query than its stages do.
        beliefs = [jnp.broadcast_to(leaf, (*leaf.shape[:-1], size)) for leaf in beliefs]
        parts = (size // chunk, chunk)
        cut = [jnp.moveaxis(leaf.reshape(*leaf.shape[:-1], *parts), -2, 0) for leaf in beliefs]
        parts = jax.lax.map(stages, cut)
        below, model, answer = (
            jnp.moveaxis(rows, 0, 1).reshape(-1, size)
            for rows in (parts.below, parts.model, parts.answer)
        )
        went = Stages(below, model, answer, jnp.max(parts.count), parts.keeps)
    went = replace(went, below=jnp.where(block.real, went.below, -jnp.inf))
    quality, cost = jnp.asarray(block.quality), jnp.asarray(block.cost)
    return stage_changes(went, ladder, quality, cost, usage)


@_over_devices(static=1, common=1)
def _block_chains(strategy: Frugal, ladder: Breakpoints, block: _Block) -> Histogram:
    """What the last model of each chain changes, by how many rungs reach it."""
    k, size = block.quality.shape
    chains = strategy.chains(k)
    seen = materialize(seen_last(strategy, k, block.estimator(), size))
    quality, cost = jnp.asarray(block.quality), jnp.asarray(block.cost)
    return chain_changes(
        chains, _without_last(chains), seen, ladder, quality, cost, jnp.asarray(block.real)
    )


def _sums(
    usage: bool, run: Bool[Array, "K L B"], answer: Int[Array, "L B"], block: _Block
) -> Totals:
    """Sums over a block of queries, each left as a few lanes for float64 on the host to add."""
    k, size = block.quality.shape
    weight = jnp.asarray(block.real, jnp.float32)
    quality, cost = (jnp.asarray(truth) * weight for truth in (block.quality, block.cost))

    def lanes(x: Float[Array, "*L B"]) -> Float[Array, "*L S"]:
        width = min(size, max(_LANES, size // _LANES))
        return jnp.sum(x.reshape(*x.shape[:-1], size // width, width), axis=-2)

    spent, got = _spent_and_got(run, answer, quality, cost)
    counts = [jnp.zeros((0, 1))] * 3
    if usage:

        def count(depth: Array, model: tuple[Array, ...]) -> tuple[Any, tuple[Array, Array]]:
            index, run = model
            answered = lanes((answer == index) * weight)
            return depth + run, (lanes(run * weight), answered)

        depth, (ran, answered) = over_models(count, jnp.zeros(answer.shape, jnp.int32), run)
        deep = [lanes((depth == d + 1) * weight) for d in range(k)]
        counts = [jnp.swapaxes(c, 0, 1) for c in (ran, answered, jnp.stack(deep))]
    return Totals(lanes(spent), lanes(got), *counts, count=lanes(jnp.asarray(weight)))


_block_sums = _over_devices(static=1)(_sums)


def _spent_and_got(
    run: Bool[Array, "K L B"],
    answer: Int[Array, "L B"],
    quality: Float[Array, "K B"],
    cost: Float[Array, "K *C B"],
) -> tuple[Float[Array, "*C L B"], Float[Array, "L B"]]:
    """Cost, or several costs, and quality of each query."""

    def spend(total: tuple[Array, Array], model: tuple[Array, ...]) -> tuple[Any, None]:
        index, run, quality, cost = model
        got = jnp.where(answer == index, quality, total[1])
        return (total[0] + jnp.where(run, cost[..., None, :], 0), got), None

    zero = jnp.zeros(answer.shape)
    nothing = jnp.zeros((*cost.shape[1:-1], *answer.shape))
    return over_models(spend, (nothing, zero), run, quality, cost)[0]


@_over_devices(common=1)
def _block_mixed(
    mix: Float[np.ndarray, "P L"] | Float[Array, "P L"],
    run: Bool[Array, "K L B"],
    answer: Int[Array, "L B"],
    block: _Block,
) -> Float[Array, "P+P B"]:
    """What each query costs and gives in expectation over these settings, for each mix of them."""
    both = _spent_and_got(run, answer, jnp.asarray(block.quality), jnp.asarray(block.cost))
    exact = jax.lax.Precision.HIGHEST
    return jnp.concatenate([jnp.matmul(mix, each, precision=exact) for each in both])


@_over_devices(static=1, common=1)
def _block_resamples(
    resamples: int,
    key: UInt32[Array, "2"] | UInt32[np.ndarray, "2"],
    mixed: Float[Array, "M B"],
    block: _Block,
) -> Float[Array, "R S"]:
    """Weighted sums of the mixes, of each model's cost and quality, and of the weights alone."""
    one = jnp.asarray(block.real, jnp.float32)
    singles = (jnp.asarray(block.cost), jnp.asarray(block.quality))
    values = jnp.concatenate([mixed, *singles, jnp.ones((1, len(one)))])
    return weighted_sums(resamples, key, block.row, values * one)
