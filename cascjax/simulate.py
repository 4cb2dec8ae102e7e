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
from jaxtyping import Array, Bool, Float, Int, UInt32

from cascjax.errors import CascjaxError
from cascjax.estimators import Estimator, Grouped, Independent, Tabulable, Tabulated
from cascjax.expected_max import materialize
from cascjax.resampling import check_resamples, key_of, weighted_sums
from cascjax.staircase import Histogram, Ladder, stage_changes
from cascjax.strategies import Outcome, Stages, Strategy
from cascjax.strategies.base import over_models
from cascjax.table import take_rows

X = TypeVar("X")
Y = TypeVar("Y")
Settings: TypeAlias = Float[Array, "L *D"] | Float[np.ndarray, "L *D"]
Matrix: TypeAlias = Float[Array, "K B"] | Float[np.ndarray, "K B"]
Rows: TypeAlias = range | Int[np.ndarray, " n"]

_BLOCK_FLOATS = 1 << 18
"""Numbers a block of queries may take at least: what stays in a core's cache."""

_STAGED_BLOCK = 1 << 14
"""Queries a block holds at most where each goes through stages on a CPU."""

_ACCELERATED = 1 << 17
"""Queries a block holds at most on an accelerator: what goes through its cache between programs.
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
    return materialize(estimator.tabulate(strategy.run_sets(n_models)))


def _held(strategy: Strategy, estimator: Estimator, n_models: int) -> int:
    """Numbers held a query, beside the settings."""
    if takes_table(strategy, estimator, n_models):
        return strategy.table_footprint(n_models)
    return strategy.footprint(n_models)


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
    more_costs: Sequence[Float[np.ndarray, "N K"]] = (),
) -> Totals:
    """Sums over queries of what each setting does, held to the true quality and cost.

    Queries go through in blocks that fit a cache, in parallel over the cores; what is held beside
    the arguments does not grow with N. Sums are exact, or float32 over a few dozen queries, and
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
        more_costs: further true costs to add up in the same pass; the sums of all costs are then
            `[L, 1 + len(more_costs)]`. Not where one pass serves any number of settings, see
            `has_stages`.

    Raises:
        CascjaxError: no query, no setting, or not even one query fits in memory. A larger block
            that does not fit is halved, with a warning.
    """
    settings = np.asarray(parameters, np.float32)
    if not len(settings) or not len(quality if rows is None else rows):
        raise CascjaxError("nothing to simulate: there must be a query and a setting at least")
    strategy = strategy.sized_for(estimator)
    staged = has_stages(strategy, estimator) and settings.size == len(settings)
    if staged and isinstance(estimator, Independent):
        estimator = estimator.only(strategy.reads)
    every = range(len(quality)) if rows is None else rows
    if more_costs and not staged:
        cost = (cost, *more_costs)  # pyright: ignore[reportAssignmentType]
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
        sums = jax.tree.map(lambda part: np.asarray(part, np.float64).sum(-1), lanes)
        return replace(sums, cost=np.moveaxis(sums.cost, 0, -1)) if more_costs else sums

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
    strategy = strategy.sized_for(estimator)
    # The truth is not asked for, and takes no memory.
    nothing = np.broadcast_to(np.float32(0), shape)
    queries = _Queries(estimator, nothing, nothing, range(shape[0]) if rows is None else rows)

    def one_block(block: _Block) -> list[tuple[np.ndarray, np.ndarray]]:
        run, answer = _block_outcomes(strategy, settings, block)
        count = int(np.count_nonzero(block.real))
        return [(np.moveaxis(np.asarray(run), 0, -1)[:, :count], np.asarray(answer)[:, :count])]

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
    strategy = strategy.sized_for(estimator)
    queries = _Queries(estimator, quality, cost, range(len(quality)) if rows is None else rows)

    def one_block(block: _Block) -> list[tuple[np.ndarray, np.ndarray]]:
        spent, got = _block_query_spends(strategy, settings, block)
        count = int(np.count_nonzero(block.real))
        return [(np.asarray(spent)[:, :count], np.asarray(got)[:, :count])]

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
    ladder = Ladder.of(rungs, _power_of_two(max(_LANES, len(rungs))))
    k = queries.quality.shape[1]
    chunk = _power_of_two(_block_floats() // _held(strategy, queries.estimator, k))

    def one_block(block: _Block) -> tuple[np.ndarray, ...]:
        return _block_histogram(strategy, usage, chunk, ladder, block).in_float64()

    size = _STAGED_BLOCK if jax.default_backend() == "cpu" else _ACCELERATED
    changes = queries.in_blocks(one_block, size, progress)

    # Bin b holds what the first b rungs see: a rung sees all bins beyond its own number.
    sums, ran, answered, depth = (
        np.cumsum(bins[::-1], axis=0)[::-1][1 + rung] if len(bins) else bins for bins in changes
    )
    return Totals(sums[:, 0], sums[:, 1], ran, answered, depth, count=float(len(queries.rows)))


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

    A query's weight depends on the seed, its row and the resample alone (`cascjax.resampling`): not
    on the strategy, so that the resamples of two strategies are pairs, nor on blocks or order.
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
    key, strategy = key_of(seed), strategy.sized_for(estimator)
    pairs = np.asarray(parameters, np.float32).reshape(2 * points, *parameters.shape[2:])
    settings, where = np.unique(pairs, axis=0, return_inverse=True)
    # Always as many settings at once: one program to compile.
    short = -len(settings) % _LANES
    settings = np.concatenate([settings, np.repeat(settings[-1:], short, axis=0)])
    mix = np.zeros((points, len(settings)), np.float32)
    cheap, dear = where.reshape(-1, 2).T
    np.add.at(mix, (np.arange(points), cheap), 1 - gamma)
    np.add.at(mix, (np.arange(points), dear), gamma)
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
        return np.asarray(sums, np.float64)

    held = _held(strategy, estimator, k) + _LANES
    return queries.in_blocks(one_block, _block_floats() // held, progress)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _Block:
    """Some queries, with models first: what a kernel works on.

    Attributes:
        beliefs: leaves of the estimator; independent ones are turned, queries last.
        quality: `[K, B]` true qualities.
        cost: `[K, B]` true costs; of several costs `[K, C, B]`.
        real: `[B]` False for queries that only fill the block up.
        row: `[B]` each query's row in the table.
        tree: the estimator's structure.
        turned: whether `beliefs` are.
    """

    beliefs: list[Any]
    quality: Matrix
    cost: Matrix | Float[Array, "K C B"] | Float[np.ndarray, "K C B"]
    real: Bool[Array, " B"] | Bool[np.ndarray, " B"]
    row: UInt32[Array, " B"] | UInt32[np.ndarray, " B"]
    tree: Any = field(metadata={"static": True})
    turned: bool = field(metadata={"static": True})

    def estimator(self) -> Estimator:
        """The estimates, queries first."""
        leaves = [leaf.T for leaf in self.beliefs] if self.turned else self.beliefs
        return jax.tree.unflatten(self.tree, leaves)


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
    """

    estimator: Estimator
    quality: Float[np.ndarray, "N K"]
    cost: Float[np.ndarray, "N K"] | tuple[Float[np.ndarray, "N K"], ...]
    rows: Rows
    apart: bool = True
    first_row: int = 0

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

    def block(self, rows: Rows, size: int) -> _Block:
        """Those rows and, to fill the block up, their first again and again."""
        short = size - len(rows)
        if short:
            cut = np.concatenate([rows, np.full(short, rows[0])])
        else:
            cut = slice(rows.start, rows.stop) if isinstance(rows, range) else rows
        leaves, tree = jax.tree.flatten(self.estimator.take(cut))
        # Independent estimates are matrices, which turn; what others hold is theirs to cut.
        turned = isinstance(self.estimator, Independent)
        quality = take_rows(self.quality, cut).T
        if isinstance(self.cost, tuple):
            cost = np.stack([take_rows(one, cut).T for one in self.cost], axis=1)
        else:
            cost = take_rows(self.cost, cut).T
        beliefs = [leaf.T for leaf in leaves] if turned else leaves
        real, row = np.arange(size) < len(rows), np.zeros(size, np.uint32)
        row[: len(rows)] = np.asarray(rows) + self.first_row
        return _Block(beliefs, quality, cost, real, row, tree, turned)

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
            room: queries a block may hold, if there are as many.
            progress: called with the number of queries of each block as it ends.
            join: how to add up, in the order of the queries of each group in turn.
        """
        most = max(len(queries.rows) for queries, _ in self.groups)
        if jax.default_backend() != "cpu":
            room = min(room, _ACCELERATED)
        size = _power_of_two(min(most, max(_LANES, room)))

        def sums(some: tuple[_Queries, Rows]) -> Any:
            nonlocal size
            queries, rows = some
            fits = size
            if len(rows) > fits:
                cuts = (rows[start : start + fits] for start in range(0, len(rows), fits))
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
            (queries, queries.rows[start : start + size])
            for queries, _ in self.groups
            for start in range(0, len(queries.rows), size)
        ]
        try:
            with ThreadPoolExecutor(_workers()) as pool:
                # In order, so that the sum is the same whichever thread is faster.
                return functools.reduce(join, _mapped_ahead(pool, sums, blocks))
        finally:
            # It calls itself: the table it holds would stay until the next garbage collection.
            del sums


def _mapped_ahead(
    pool: ThreadPoolExecutor, work: Callable[[X], Y], over: Iterable[X]
) -> Iterator[Y]:
    """As `pool.map`, but only a few calls ahead of what is asked for: results do not pile up."""
    ahead: deque[Future[Y]] = deque()
    try:
        for item in over:
            ahead.append(pool.submit(work, item))
            if len(ahead) > 4 * _workers():
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
    """Numbers a block may take: a core's cache, or a 64th of what bytes an accelerator has."""
    if jax.default_backend() == "cpu":
        return _BLOCK_FLOATS
    memory = jax.local_devices()[0].memory_stats() or {}
    return max(_BLOCK_FLOATS, memory.get("bytes_limit", 0) // 64)


def _workers() -> int:
    # XLA runs a block on one core; beside an accelerator one is cut while another is worked on.
    return (os.cpu_count() or 1) if jax.default_backend() == "cpu" else 2


@functools.partial(jax.jit, static_argnums=0)
def _block_outcomes(
    strategy: Strategy, parameters: Settings, block: _Block
) -> tuple[Bool[Array, "K L B"], Int[Array, "L B"]]:
    """What ran and what was answered, models first."""
    nothing_run = jnp.zeros(block.quality.shape[::-1], bool)
    outcome = outcomes(strategy, jnp.asarray(parameters), block.estimator(), nothing_run)
    return jnp.moveaxis(outcome.run, -1, 0), outcome.answer


@functools.partial(jax.jit, static_argnums=0)
def _block_spend(strategy: Strategy, parameters: Settings, block: _Block) -> Totals:
    """Cost and quality alone, without ever holding what ran."""
    return _block_sums(False, *_block_outcomes(strategy, parameters, block), block)


@functools.partial(jax.jit, static_argnums=0)
def _block_query_spends(
    strategy: Strategy, parameters: Settings, block: _Block
) -> tuple[Float[Array, "L B"], Float[Array, "L B"]]:
    """Cost and quality of every setting and query."""
    run, answer = _block_outcomes(strategy, parameters, block)
    return _spent_and_got(run, answer, jnp.asarray(block.quality), jnp.asarray(block.cost))


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _block_histogram(
    strategy: Strategy, usage: bool, chunk: int, ladder: Ladder, block: _Block
) -> Histogram:
    """What each stage changes, by how many rungs it reaches."""
    k, size = block.quality.shape
    chunk = min(chunk, size)
    least = ladder.rungs[0]

    if block.turned:
        beliefs, common = block.beliefs, None
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
        cut = [jnp.moveaxis(leaf.reshape(*leaf.shape[:-1], -1, chunk), -2, 0) for leaf in beliefs]
        parts = jax.lax.map(stages, cut)
        below, model, answer = (
            jnp.moveaxis(rows, 0, 1).reshape(-1, size)
            for rows in (parts.below, parts.model, parts.answer)
        )
        went = Stages(below, model, answer, jnp.max(parts.count), parts.keeps)
    went = replace(went, below=jnp.where(block.real, went.below, -jnp.inf))
    quality, cost = jnp.asarray(block.quality), jnp.asarray(block.cost)
    return stage_changes(went, ladder, quality, cost, usage)


@functools.partial(jax.jit, static_argnums=0)
def _block_sums(
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


@jax.jit
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


@functools.partial(jax.jit, static_argnums=0)
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
