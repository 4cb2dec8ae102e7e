"""Frontiers under many levels of noise at once: the level is one more axis.

The estimates of a level are one of a few noisy copies of the truth beforehand and one of a few
afterwards: a stack of either holds them all. A block of queries, fetched once, goes through every
level and setting by one program, and the search for parameters takes its rounds for all levels
together.
"""

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from cascjax.core.arrays import over_models
from cascjax.data.table import Table, take_rows
from cascjax.engine.simulate import outcomes
from cascjax.estimators import Independent, noisy
from cascjax.estimators.statistics import fit_lines as lines
from cascjax.estimators.statistics import noise_keys, normals
from cascjax.experiments.legacy import Settled, sized_like
from cascjax.experiments.protocol import Setup
from cascjax.metrics import auc
from cascjax.search.budgets import ROUNDS, SETTINGS, closer, mix
from cascjax.strategies import CascadeRouting, SearchContext, Strategy

_BLOCK_FLOATS = 1 << 18
"""Numbers a block of queries may take on a CPU: what stays in a core's cache."""

_ACCELERATOR_FLOATS = 1 << 25
"""The same on an accelerator, of each level of a few that go together."""

_SIDE_BY_SIDE = 8
"""Levels that an accelerator works on at once."""

_LANES = 64
"""Queries that float32 sums over at most; the host adds up their sums in float64."""


@dataclass(frozen=True)
class NoiseStack:
    """Estimates under G levels of noise of N queries.

    Attributes:
        ante: `[A, N, K]` quality as estimated beforehand, for each of A levels.
        post: `[A, N, K]` quality as estimated afterwards.
        cost_ante: `[N, K]` cost as estimated beforehand.
        cost_post: `[N, K]` cost as estimated afterwards.
        which: `[G, 2]` the levels beforehand and afterwards of each of the G.
        sigma: `[G, K]` standard deviation of ante minus post.
    """

    ante: Float[np.ndarray, "A N K"]
    post: Float[np.ndarray, "A N K"]
    cost_ante: Float[np.ndarray, "N K"]
    cost_post: Float[np.ndarray, "N K"]
    which: Int[np.ndarray, "G 2"]
    sigma: Float[np.ndarray, "G K"]

    @classmethod
    def of(
        cls,
        given: Setup,
        levels: Sequence[float],
        which: Int[np.ndarray, "G 2"],
        cost_noise: tuple[float, float],
        seed: int,
    ) -> "NoiseStack":
        """What `cascjax.estimators.noisy` makes of every level, with the same draws for all.

        Args:
            given: the truth.
            levels: A standard deviations of noise on quality.
            which: places in them, beforehand and afterwards.
            cost_noise: standard deviations of noise on cost, beforehand and afterwards.
            seed: of the noise.
        """
        key = jax.random.key(seed)
        made = [noisy(given.table, key, (s, s, *cost_noise)) for s in levels]
        ante = np.stack([np.asarray(of.quality_ante) for of in made])
        post = np.stack([np.asarray(of.quality_post) for of in made])
        sigma = [np.std(ante[a].astype(np.float64) - post[p], axis=0) for a, p in which]
        costs = np.asarray(made[0].cost_ante), np.asarray(made[0].cost_post)
        return cls(ante, post, *costs, which, np.stack(sigma).astype(np.float32))

    @classmethod
    def of_rows(
        cls,
        settled: Settled,
        table: Table,
        rows: Int[np.ndarray, " N"],
        levels: Sequence[float],
        which: Int[np.ndarray, "G 2"],
    ) -> "NoiseStack":
        """The same of some rows of a stream, by what is known of all of them.

        Args:
            settled: of noisy estimates; their noise on costs is that of every level.
            table: the rows, models in order.
            rows: their numbers among all rows.
            levels: A standard deviations of noise on quality.
            which: places in them, beforehand and afterwards.
        """
        assert settled.moments is not None
        known, qualities = settled.known, settled.moments[0]
        noise = normals(noise_keys(known.seed), rows, table.n_models)
        made = [lines(qualities, (s, s)) for s in levels]
        ante = np.stack([of[0].predicted(table.quality, noise[0]) for of in made])
        post = np.stack([of[1].predicted(table.quality, noise[1]) for of in made])
        costs = [
            line.predicted(table.cost, of)
            for line, of in zip(known.lines[2:], noise[2:], strict=True)
        ]
        sigma = [lines(qualities, (levels[a], levels[p]))[2] for a, p in which]
        return cls(ante, post, costs[0], costs[1], which, np.stack(sigma).astype(np.float32))

    def level(self, g: int) -> Independent:
        """The estimates of one level."""
        a, p = self.which[g]
        sigma = self.sigma[g][None]
        return Independent(self.ante[a], self.post[p], sigma, self.cost_ante, self.cost_post)


def aucs(
    strategy: Strategy,
    given: Setup,
    stack: NoiseStack,
    levels: Int[np.ndarray, " G"],
    progress: Callable[[float], None] = lambda share: None,
) -> Float[np.ndarray, " G"]:
    """The AUC under the strategy's frontier at each of some levels of noise.

    As `cascjax.compare.frontier` fits and scores it, in one sweep for all levels; where
    that takes thousands of settings at once for a strategy of stages, this takes more rounds.

    Args:
        strategy: what to draw.
        given: the truth, the rows and the budgets.
        stack: estimates.
        levels: places in `stack.which`; always as many compile one program.
        progress: called with the share done.
    """
    rows, groups = given.evaluate_rows, by_panels(strategy, stack, levels)
    fitted = fits(groups, given, stack, levels, lambda share: progress(0.3 * share))
    found = sums(
        groups, fitted, given.table, rows, stack, levels,
        lambda share: progress(0.3 + 0.7 * share),
    )  # fmt: skip
    return areas_of(fitted, found / len(rows), *given.single)


@dataclass(frozen=True)
class Fits:
    """Two neighbouring settings for every level and budget, and how to mix them.

    Attributes:
        settings: `[G, M]` M = 2P: the cheap ones, then the expensive ones.
        gamma: `[G, P]` the share of the expensive one.
    """

    settings: Float[np.ndarray, "G M"]
    gamma: Float[np.ndarray, "G P"]


Groups: TypeAlias = Sequence[tuple[Strategy, Int[np.ndarray, "_"]]]
"""A strategy sized for some levels together, and their places among all that are worked on."""


def fits(
    groups: Groups,
    given: Setup,
    stack: NoiseStack,
    levels: Int[np.ndarray, " G"],
    progress: Callable[[float], None] = lambda share: None,
) -> Fits:
    """What a strategy is fitted to at every level; see `aucs`.

    Args:
        groups: see `by_panels`.
        given: the truth, the rows to fit on and the budgets.
        stack: estimates.
        levels: places in `stack.which`.
        progress: called with the share done.
    """
    settings, gamma = (np.empty((len(levels), n * len(given.budgets))) for n in (2, 1))
    for (sized, members), part in zip(groups, _parts(groups, progress), strict=True):
        cheap, expensive, mixed = _fitted(sized, given, stack, levels[members], len(levels), part)
        settings[members], gamma[members] = np.concatenate([cheap, expensive], axis=1), mixed
    return Fits(settings, gamma)


def sums(
    groups: Groups,
    fitted: Fits,
    table: Table,
    rows: Int[np.ndarray, " n"],
    stack: NoiseStack,
    levels: Int[np.ndarray, " G"],
    progress: Callable[[float], None] = lambda share: None,
) -> Float[np.ndarray, "2 G M"]:
    """Costs and qualities of every level's settings, added up over some rows.

    Args:
        groups: see `by_panels`.
        fitted: the settings.
        table: the truth.
        rows: which of it; at least one.
        stack: estimates of all of the table's rows.
        levels: places in `stack.which`.
        progress: called with the share done.
    """
    found = np.empty((2, *fitted.settings.shape))
    for (sized, members), part in zip(groups, _parts(groups, progress), strict=True):
        found[:, members] = _sums(
            sized, fitted.settings[members], stack, levels[members], table, rows, len(levels), part
        )
    return found


def areas_of(
    fitted: Fits,
    means: Float[np.ndarray, "2 G M"],
    single_cost: Float[np.ndarray, " K"],
    single_quality: Float[np.ndarray, " K"],
) -> Float[np.ndarray, " G"]:
    """The AUC of every level, from what its settings do."""
    cheap, expensive = np.split(means, 2, axis=2)
    points = (1 - fitted.gamma) * cheap + fitted.gamma * expensive
    return np.array([auc(c, q, single_cost, single_quality) for c, q in zip(*points, strict=True)])


def _parts(groups: Groups, progress: Callable[[float], None]) -> Iterator[Callable[[float], None]]:
    """What each group tells of its share, one after the other."""
    whole, done = sum(len(members) for _, members in groups), 0
    for _, members in groups:
        yield functools.partial(_told, progress, done / whole, len(members) / whole)
        done += len(members)


def _told(progress: Callable[[float], None], before: float, of: float, share: float) -> None:
    progress(before + share * of)


def by_panels(strategy: Strategy, stack: NoiseStack, levels: Int[np.ndarray, " G"]) -> Groups:
    """The strategy sized for all levels together, apart from those it takes the plain way for."""
    return _by_panels(strategy, [stack.level(g) for g in levels.tolist()])


def sized_for(
    groups: Groups, stack: NoiseStack, levels: Int[np.ndarray, " G"]
) -> list[tuple[Strategy, Int[np.ndarray, "_"]]]:
    """The same groups for other estimates, with more panels where these need them."""
    found = []
    for sized, members in groups:
        if panels := getattr(sized, "panels", None):
            anew = replace(sized, panels=None)  # pyright: ignore[reportCallIssue]
            like = [sized_like(anew, panels, stack.level(g)) for g in levels[members].tolist()]
            needed = [getattr(of, "panels", 0) for of in like]
            # The plain way is right for all.
            sized = like[int(np.argmax(needed) if min(needed) else np.argmin(needed))]
        found.append((sized, members))
    return found


def _by_panels(
    strategy: Strategy, beliefs: Sequence[Independent]
) -> list[tuple[Strategy, Int[np.ndarray, "_"]]]:
    sized = [_certain(strategy, of).sized_for(of) for of in beliefs]
    panels = np.array([getattr(of, "panels", None) or 0 for of in sized])
    groups = []
    for members in (np.flatnonzero(panels == 0), np.flatnonzero(panels > 0)):
        if len(members):
            groups.append((sized[members[panels[members].argmax()]], members))
    return groups


def _certain(strategy: Strategy, believed: Independent) -> Strategy:
    """Cascade routing without uncertainty where there is none: no program with a quadrature."""
    if isinstance(strategy, CascadeRouting) and not np.any(believed.sigma):
        return replace(strategy, uncertainty=False)
    return strategy


def _fitted(
    strategy: Strategy,
    given: Setup,
    stack: NoiseStack,
    levels: Int[np.ndarray, " G"],
    together: int,
    progress: Callable[[float], None],
) -> tuple[Float[np.ndarray, "G P"], Float[np.ndarray, "G P"], Float[np.ndarray, "G P"]]:
    """Two settings and their mixing probability, for every level and budget.

    The search of `fit_budgets`, its rounds taken by all levels together.
    """
    rows, table = given.fit_rows, given.table
    sketches = [SearchContext(table, stack.level(g), rows) for g in levels.tolist()]
    new = [_rising(strategy.initial_grid(sketch, SETTINGS)) for sketch in sketches]
    spread = float(np.ptp(sketches[0].cost))
    pools = [np.empty((3, 0))] * len(levels)
    for round_ in range(ROUNDS):
        open_ = np.array([g for g, found in enumerate(new) if len(found)])
        if not len(open_):
            break
        # Every level tries as many: those with fewer repeat their last.
        tried = np.stack([np.pad(new[g], (0, SETTINGS - len(new[g])), mode="edge") for g in open_])
        means = _sums(strategy, tried, stack, levels[open_], table, rows, together) / len(rows)
        for i, g in enumerate(open_):
            count = len(new[g])
            more = np.stack([new[g], means[0, i, :count], means[1, i, :count]])
            pool = np.concatenate([pools[g], more], axis=1)
            pools[g] = pool[:, np.argsort(pool[0])]
            new[g] = closer(strategy, pools[g], given.budgets, spread, SETTINGS)
        progress(1 - 0.5 ** (round_ + 1))
    fits = [mix(pool, given.budgets) for pool in pools]
    cheap, expensive = (np.stack([fit.parameters[:, side] for fit in fits]) for side in (0, 1))
    return cheap, expensive, np.stack([fit.gamma for fit in fits])


def _rising(values: Float[np.ndarray, " L"]) -> Float[np.ndarray, " M"]:
    """As float32 holds them, so that what is returned is what was simulated."""
    return np.unique(np.asarray(values, np.float32)).astype(np.float64)


def _sums(
    strategy: Strategy,
    settings: Float[np.ndarray, "G L"],
    stack: NoiseStack,
    levels: Int[np.ndarray, " G"],
    table: Table,
    rows: Int[np.ndarray, " n"],
    together: int,
    progress: Callable[[float], None] = lambda share: None,
) -> Float[np.ndarray, "2 G L"]:
    """Costs and qualities of each level's own settings, added up over some rows.

    There is room for `together` levels, at least as many as are given.
    """
    on_cpu = jax.default_backend() == "cpu"
    room = _BLOCK_FLOATS if on_cpu else _ACCELERATOR_FLOATS
    k, (count, n_settings) = table.n_models, settings.shape
    size = room // (strategy.footprint(k) + n_settings)
    size = min(max(_LANES, 1 << size.bit_length() - 1), 1 << (len(rows) - 1).bit_length())
    # As many levels as there are room for, also where some are done: one program to compile.
    at = np.concatenate([np.arange(count), np.zeros(together - count, int)])
    prices = np.asarray(settings[at], np.float32)
    chosen = levels[at]
    which, sigma = stack.which[chosen].astype(np.int32), stack.sigma[chosen]
    starts = range(0, len(rows), size)

    def one_block(start: int) -> Float[np.ndarray, "2 G L"]:
        part = rows[start : start + size]
        cut = np.concatenate([part, np.repeat(part[:1], size - len(part))])
        ante, post = (of[:, cut].transpose(0, 2, 1) for of in (stack.ante, stack.post))
        columns = (stack.cost_ante, table.quality, table.cost)
        cost_ante, quality, cost = (take_rows(of, cut).T for of in columns)
        shared = _Shared(cost_ante, quality, cost, (np.arange(size) < len(part)).astype(np.float32))
        if on_cpu:
            # One program for all levels, called for each: in a loop of XLA's own the same
            # arithmetic is not vectorised, and takes 10 to 50 times as long.
            levels_ = zip(prices[:count], which[:count], sigma[:count], strict=True)
            sums = np.stack(
                [_one_level(strategy, p, s, ante[w[0]], post[w[1]], shared) for p, w, s in levels_]
            )
        else:
            sums = _all_levels(strategy, prices, which, sigma, ante, post, shared)[:count]
        return np.asarray(sums, np.float64).sum(-1).transpose(1, 0, 2)

    total = np.zeros((2, count, n_settings))
    # XLA works on a block on one core.
    with ThreadPoolExecutor((os.cpu_count() or 1) if on_cpu else 2) as pool:
        for done, sums in enumerate(pool.map(one_block, starts)):
            total += sums
            progress((done + 1) / len(starts))
    return total


def _level_sums(
    strategy: Strategy,
    price: Float[Array, " L"] | Float[np.ndarray, " L"],
    sigma: Float[Array, " K"] | Float[np.ndarray, " K"],
    ante: Float[Array, "K B"] | Float[np.ndarray, "K B"],
    post: Float[Array, "K B"] | Float[np.ndarray, "K B"],
    shared: "_Shared",
) -> Float[Array, "2 L S"]:
    """Cost and quality of one level's settings, summed over a few dozen queries each."""
    size = shared.quality.shape[1]
    # What a model costs once it has run is asked by no strategy.
    costs = shared.cost_ante.T
    beliefs = Independent(ante.T, post.T, sigma[None], costs, costs)
    went = outcomes(strategy, jnp.asarray(price), beliefs, ante.shape[::-1])

    def add(total: tuple[Array, Array], model: tuple[Array, ...]):
        index, run, quality, cost = model
        got = jnp.where(went.answer == index, quality, total[1])
        return (total[0] + jnp.where(run, cost, 0), got), None

    zero = jnp.zeros(went.answer.shape)
    quality, cost = (jnp.asarray(of) * shared.real for of in (shared.quality, shared.cost))
    both, _ = over_models(add, (zero, zero), jnp.moveaxis(went.run, -1, 0), quality, cost)
    # Summed over all but the last axis: over that it would be scalar work.
    width = min(size, max(_LANES, size // _LANES))
    return jnp.stack([jnp.sum(of.reshape(len(price), -1, width), axis=1) for of in both])


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _Shared:
    """What all levels share of a block of queries.

    Attributes:
        cost_ante: `[K, B]` cost as estimated beforehand.
        quality: `[K, B]` true qualities.
        cost: `[K, B]` true costs.
        real: `[B]` 1, or 0 for queries that only fill the block up.
    """

    cost_ante: Float[Array, "K B"] | Float[np.ndarray, "K B"]
    quality: Float[Array, "K B"] | Float[np.ndarray, "K B"]
    cost: Float[Array, "K B"] | Float[np.ndarray, "K B"]
    real: Float[Array, " B"] | Float[np.ndarray, " B"]


_one_level = jax.jit(_level_sums, static_argnums=0)


@functools.partial(jax.jit, static_argnums=0)
def _all_levels(
    strategy: Strategy,
    prices: Float[Array, "G L"],
    which: Int[Array, "G 2"],
    sigma: Float[Array, "G K"],
    ante: Float[Array, "A K B"],
    post: Float[Array, "A K B"],
    shared: _Shared,
) -> Float[Array, "G 2 L S"]:
    """`_level_sums` of every level, a few of them side by side."""

    def one(level: tuple[Array, Array, Array]) -> Float[Array, "2 L S"]:
        price, place, spread = level
        return _level_sums(strategy, price, spread, ante[place[0]], post[place[1]], shared)

    return jax.lax.map(one, (prices, which, sigma), batch_size=_SIDE_BY_SIDE)
