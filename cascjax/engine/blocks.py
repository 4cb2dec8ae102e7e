"""Queries in blocks: sized for a cache, spread over devices and threads, and added up in order."""

import functools
import math
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias, TypeVar, cast

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int, UInt32

from cascjax.core.arrays import in_float32
from cascjax.core.estimates import Estimator, Grouped, Independent
from cascjax.core.totals import LANES
from cascjax.data.table import take_rows
from cascjax.engine.devices import AXIS, mesh
from cascjax.errors import CascjaxError

X = TypeVar("X")
Y = TypeVar("Y")
F = TypeVar("F", bound=Callable[..., Any])
Matrix: TypeAlias = Float[Array, "*S K B"] | Float[np.ndarray, "*S K B"]
Rows: TypeAlias = range | Int[np.ndarray, " n"]

ACCELERATED = 1 << 17
"""Queries per block and accelerator at most: what goes through its cache between programs. On an
H200 64 prices of 10M x 11 took pandora 1.1 s in these, 3.7 s in blocks that fill its memory; to
transpose them there instead of on the host took routing twice as long."""


@dataclass(frozen=True)
class BlockSizes:
    """Sizes of blocks, which change speed and memory but no result."""

    floats: int = 1 << 18  # numbers per device and block at least: what stays in a core's cache
    breakpoint_queries: int = 1 << 14  # largest number per CPU device where each has breakpoints
    queries: int = LANES  # smallest number of queries per device, if there are as many


_DEFAULT_SIZES = BlockSizes()

_sizes: ContextVar[BlockSizes] = ContextVar("block_sizes", default=_DEFAULT_SIZES)


@contextmanager
def use_block_sizes(sizes: BlockSizes) -> Iterator[None]:
    """Simulate in blocks of these sizes as long as the context lasts."""
    before = _sizes.set(sizes)
    try:
        yield
    finally:
        _sizes.reset(before)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Block:
    """Queries that a kernel works on, with models first.

    Each device's queries are a row along a first axis of S devices, which is gone in a kernel.
    With several costs there is an axis of them between models and queries.
    """

    own: list[Any]  # leaves of the estimator that have an axis of queries
    shared: list[Any]  # its other leaves, which are the same for all queries and devices
    quality: Matrix
    cost: Matrix | Float[Array, "*S K C B"] | Float[np.ndarray, "*S K C B"]
    real: Bool[Array, "*S B"] | Bool[np.ndarray, "*S B"]  # False for those that only fill it up
    row: UInt32[Array, "*S B"] | UInt32[np.ndarray, "*S B"]  # each query's row in the table
    tree: Any = field(metadata={"static": True})  # structure of the estimator
    is_own: tuple[bool, ...] = field(metadata={"static": True})  # each leaf: whether one of `own`
    transposed: bool = field(metadata={"static": True})  # whether leaves have their queries last
    mesh: Mesh = field(metadata={"static": True})

    @property
    def leaves(self) -> list[Any]:
        """All leaves of the estimator, in its order."""
        own, shared = iter(self.own), iter(self.shared)
        return [next(own if is_own else shared) for is_own in self.is_own]

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of queries and models, inside a kernel."""
        n_models, size = self.quality.shape
        return size, n_models

    def estimator(self) -> Estimator:
        """Return the estimates, queries first."""
        leaves = [leaf.T for leaf in self.leaves] if self.transposed else self.leaves
        return jax.tree.unflatten(self.tree, leaves)

    def by_query(self, result: Any) -> np.ndarray:
        """Return a kernel's result per query, `[S, L, B, ...]`, on the host as `[L, n, ...]`."""
        rows = np.swapaxes(np.asarray(result), 0, 1)
        rows = rows.reshape(len(rows), self.real.size, *rows.shape[3:])
        return rows[:, : int(np.count_nonzero(self.real))]


def over_devices(static: int = 0, common: int = 0) -> Callable[[F], F]:
    """Make a kernel of one device's queries a jitted kernel of all, each device for itself.

    Devices do not talk to each other: what a kernel returns gets a first axis of devices, and the
    host adds up in float64 what is to be added up. First come `static` arguments, then `common`
    ones, the same on all devices; of all others, the block last, each device has its own part.
    """

    def decorated(kernel: F) -> F:
        @in_float32
        @functools.partial(jax.jit, static_argnums=tuple(range(static)))
        @functools.wraps(kernel)
        def on_all(*arguments: Any) -> Any:
            block = arguments[-1]
            fixed, alike = arguments[:static], arguments[static : static + common]
            own = (*arguments[static + common : -1], replace(block, shared=[]))

            def on_one(alike: Any, shared: list[Any], own: Any) -> Any:
                *own, block = jax.tree.map(lambda leaf: leaf[0], own)
                result = kernel(*fixed, *alike, *own, replace(block, shared=shared))
                return jax.tree.map(lambda leaf: leaf[None], result)

            each, every = PartitionSpec(AXIS), PartitionSpec()
            # Unchecked, loops may begin with zeros that are the same on all devices.
            spread = jax.shard_map(
                on_one, mesh=block.mesh, in_specs=(every, every, each), out_specs=each,
                check_vma=False,
            )  # fmt: skip
            return spread(alike, block.shared, own)

        return cast(F, on_all)

    return decorated


def add(total: Y, part: Y) -> Y:
    """Return the sum of two pytrees of host arrays."""
    return jax.tree.map(np.add, total, part)


@dataclass(frozen=True)
class Queries:
    """Rows of a table with their estimates, to be worked on in blocks."""

    estimator: Estimator
    quality: Float[np.ndarray, "N K"]
    cost: Float[np.ndarray, "N K"] | tuple[Float[np.ndarray, "N K"], ...]
    rows: Rows
    apart: bool = True  # whether queries that share what is costly are worked on by themselves
    first_row: int = 0  # number of row 0 among all rows there are
    mesh: Mesh = field(default_factory=mesh)

    @functools.cached_property
    def groups(self) -> list[tuple["Queries", Int[np.ndarray, " m"] | None]]:
        """Those that are worked on together, and which of the rows they are; None for all."""
        groups = []
        if isinstance(self.estimator, Grouped):
            groups = self.estimator.groups(self.rows, apart=self.apart)
        if len(groups) <= 1:
            alone = [replace(self, estimator=estimator) for estimator, _ in groups]
            # A copy: what is kept here of itself would stay until the next garbage collection.
            return [(alone[0] if alone else replace(self), None)]
        rows = np.asarray(self.rows)
        return [
            (replace(self, estimator=estimator, rows=rows[places]), places)
            for estimator, places in groups
        ]

    def in_order(self, parts: list[np.ndarray]) -> np.ndarray:
        """Return arrays `[L, n, ...]` of blocks, joined as `in_blocks` does, in row order."""
        joined = np.concatenate(parts, axis=1)
        places = [places for _, places in self.groups if places is not None]
        return joined[:, np.argsort(np.concatenate(places))] if places else joined

    @property
    def transposed(self) -> bool:
        """Whether the estimator's leaves are transposed, queries last."""
        # Independent estimates are matrices; what others hold is theirs to cut.
        return isinstance(self.estimator, Independent)

    @functools.cached_property
    def axes(self) -> tuple[int | None, ...]:
        """Axis of the queries in each leaf of the estimator: the one that grows with them."""
        first = self.rows[0]
        one, two = (jax.tree.leaves(self.estimator.take(np.full(n, first))) for n in (1, 2))
        grew = (
            np.flatnonzero(np.not_equal(np.shape(a), np.shape(b)))
            for a, b in zip(one, two, strict=True)
        )
        return tuple(int(axes[0]) if len(axes) else None for axes in grew)

    @functools.cached_property
    def shared(self) -> list[Any]:
        """Leaves that are the same for all queries, on every device."""
        leaves = jax.tree.leaves(self.estimator.take(np.full(1, self.rows[0])))
        shared = [leaf for leaf, axis in zip(leaves, self.axes, strict=True) if axis is None]
        placed = [np.asarray(leaf).T for leaf in shared] if self.transposed else shared
        return jax.device_put(placed, NamedSharding(self.mesh, PartitionSpec()))

    def block(self, rows: Rows, size: int) -> Block:
        """Return the block of rows, at most `size` per device, filled up by repeating the first."""
        n_devices = self.mesh.size
        whole = n_devices * size
        if len(rows) < whole:
            cut = np.concatenate([rows, np.full(whole - len(rows), rows[0])])
        else:
            cut = slice(rows.start, rows.stop) if isinstance(rows, range) else rows

        def spread(column: Any, axis: int = 0) -> Any:
            """Return what each device gets: views, where it is on the host."""
            shape = (*column.shape[:axis], n_devices, size, *column.shape[axis + 1 :])
            own = column.reshape(shape)
            own = own if axis == 0 else np.moveaxis(own, axis, 0)
            if isinstance(own, jax.Array):
                # What was put on one device is not sent to others by itself.
                own = jax.device_put(own, NamedSharding(self.mesh, PartitionSpec(AXIS)))
            return own

        def transposed(column: Any) -> Any:
            return spread(column).swapaxes(1, 2)

        leaves, tree = jax.tree.flatten(self.estimator.take(cut))
        own = [
            transposed(leaf) if self.transposed else spread(leaf, axis)
            for leaf, axis in zip(leaves, self.axes, strict=True)
            if axis is not None
        ]
        quality = transposed(take_rows(self.quality, cut))
        if isinstance(self.cost, tuple):
            cost = np.stack([transposed(take_rows(one, cut)) for one in self.cost], axis=2)
        else:
            cost = transposed(take_rows(self.cost, cut))
        real, row = np.arange(whole) < len(rows), np.zeros(whole, np.uint32)
        row[: len(rows)] = np.asarray(rows) + self.first_row
        is_own = tuple(axis is not None for axis in self.axes)
        return Block(
            own, self.shared, quality, cost, spread(real), spread(row),
            tree, is_own, self.transposed, self.mesh,
        )  # fmt: skip

    def in_blocks(
        self,
        kernel: Callable[[Block], Y],
        room: int,
        progress: Callable[[int], None],
        join: Callable[[Y, Y], Y] = add,
    ) -> Y:
        """Return the sum, by `join` in the order of each group's rows, of what a kernel returns.

        A kernel goes from a block to float64 arrays on the host; one device may hold `room` queries
        of it; `progress` is called with the number of queries of each block as it ends.
        """
        most = max(len(queries.rows) for queries, _ in self.groups)
        if jax.default_backend() != "cpu":
            room = min(room, ACCELERATED)
        n_devices = self.mesh.size
        size = power_of_two(min(-(-most // n_devices), max(_sizes.get().queries, room)))
        run = in_float32(lambda queries, rows, fits: kernel(queries.block(rows, fits)))

        def sums(part: tuple[Queries, Rows]) -> Any:
            nonlocal size
            queries, rows = part
            fits, whole = size, size * n_devices
            if len(rows) > whole:
                cuts = (rows[start : start + whole] for start in range(0, len(rows), whole))
                return functools.reduce(join, (sums((queries, cut)) for cut in cuts))
            try:
                result = run(queries, rows, fits)
            except (MemoryError, jax.errors.JaxRuntimeError) as error:
                if not _is_memory(error):
                    raise
                if fits == 1:
                    raise CascjaxError(
                        "the memory left does not hold a single query; use fewer models or"
                        " settings, or a shallower or narrower search"
                    ) from error
                result = None
            if result is None:
                # Not while the error is handled: it holds on to what there was no room for.
                if size == fits:
                    size = fits // 2
                    warnings.warn(
                        f"a block of {fits} queries does not fit in memory: going on with {size}",
                        RuntimeWarning,
                        stacklevel=2,
                    )
                return sums(part)
            progress(len(rows))
            return result

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
    pool: ThreadPoolExecutor, work: Callable[[X], Y], items: Iterable[X], most: int
) -> Iterator[Y]:
    """Map as `pool.map`, at most so many calls ahead of what is asked for."""
    ahead: deque[Future[Y]] = deque()
    try:
        for item in items:
            ahead.append(pool.submit(work, item))
            if len(ahead) > most:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        for future in ahead:
            future.cancel()


def _is_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def power_of_two(least: int) -> int:
    """Return the smallest power of two that is not less."""
    return 1 << max(0, math.ceil(math.log2(max(1, least))))


def block_floats() -> int:
    """Return the numbers a device may take: a core's cache, or a 64th of an accelerator's bytes."""
    floats = _sizes.get().floats
    if jax.default_backend() == "cpu":
        return floats
    memory = jax.local_devices()[0].memory_stats() or {}
    return max(floats, memory.get("bytes_limit", 0) // 64)


def breakpoint_queries() -> int:
    """Return the largest number of queries per device where each has breakpoints."""
    return _sizes.get().breakpoint_queries if jax.default_backend() == "cpu" else ACCELERATED


def _workers(n_devices: int) -> int:
    # XLA runs what a device has of a block on one core; beside an accelerator one block is cut
    # while another is worked on.
    cores = (os.cpu_count() or 1) if jax.default_backend() == "cpu" else 1
    return max(2, cores // n_devices)
