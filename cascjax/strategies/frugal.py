"""Frugal: thresholds along a chain of chosen models (FrugalGPT, Chen, Zaharia, Zou 2023)."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from cascjax.core.arrays import materialize, over_models, per_step
from cascjax.core.breakpoints import (
    Histogram,
    SortedSettings,
    add_at,
    histogram,
    sums_from,
)
from cascjax.core.estimates import Estimates, Estimator, Independent, Tabulable
from cascjax.core.exact import digits_of, int32_bits, n_digits, power_above
from cascjax.core.expected_max import MAX_ENUMERATED
from cascjax.core.sweep import STOP, Outcome
from cascjax.data.table import take_rows, upper_hull
from cascjax.errors import CascjaxError
from cascjax.strategies.base import (
    Grid,
    Readable,
    Role,
    SearchContext,
    Statistics,
    Strategy,
    Style,
    Tuning,
    float32_grid,
    option,
)
from cascjax.strategies.supersets import run_sets_up_to

_SAMPLE = 1 << 10  # Queries that thresholds are taken from

_THRESHOLDS = 512  # Thresholds tried on every chain of models, where not all of each are

_FEW = 1 << 12  # Queries with which all thresholds of every chain are tried,

_EVERY = 1 << 19  # and queries times chains


@dataclass(frozen=True)
class Frugal(Strategy):
    """Run the models of a chain, cheapest first, until the last answer's quality reaches tau.

    Which models are in the chain is a parameter beside tau: `[1 + D]` numbers, the chain in binary
    (bit i is set where model i is in it), then one tau for all its steps, or one per step. Its
    answer is the last model run. A chain of one model is that model, so on the queries fitted on no
    frontier is below the single models' hull.

    Attributes:
        max_depth: maximum number of models in a chain.

    Example:
      >>> Frugal(max_depth=2).name
      'frugal'
    """

    name: ClassVar[str] = "frugal"
    description: ClassVar[str] = (
        "Runs the models of a chosen chain cheapest first, and stops at the first answer whose"
        " estimated quality passes a threshold."
    )
    style: ClassVar[Style | None] = Style("#882255", "#ff8fb8", (0, (5, 1.5)), "X")
    parameter_name: ClassVar[str] = "models, threshold τ"
    reads: ClassVar[tuple[str, ...]] = ("quality_post",)
    line: ClassVar[bool] = False
    role: ClassVar[Role] = "cascading"
    several_costs: ClassVar[bool] = False
    tuning: ClassVar[Tuning | None] = None
    instead: ClassVar[str] = "the strategy 'thresholding'"
    max_depth: int = option(5, "Maximum number of models in a chain.")

    def __post_init__(self):
        if self.max_depth < 1:
            raise CascjaxError(f"max_depth must be at least 1, not {self.max_depth}")

    def next_model(
        self, parameters: Float[Array, " D"], estimates: Estimates, run: Bool[Array, "B K"]
    ) -> Int[Array, " B"]:
        """Return the next model of the chain while the last one fell short of its tau."""
        k = run.shape[-1]
        in_chain = _chain(parameters[0])[..., None] >> jnp.arange(k) & 1 == 1
        step = jnp.sum(run, axis=-1)
        last = self.answer(estimates, run)
        quality = jnp.take_along_axis(estimates.quality, last[:, None], axis=-1)[:, 0]
        tau = parameters[1:][jnp.clip(step - 1, 0, parameters.shape[0] - 2)]
        left = in_chain & (jnp.arange(k) > jnp.where(step > 0, last, -1)[:, None])
        go_on = jnp.any(left, axis=-1) & ((step == 0) | (quality < tau))
        return jnp.where(go_on, jnp.argmax(left, axis=-1), STOP)

    def answer(self, estimates: Estimates, run: Bool[Array, "B K"]) -> Int[Array, " B"]:
        """Return the last model run."""
        return jnp.max(jnp.where(run, jnp.arange(run.shape[-1]), 0), axis=-1)

    def max_steps(self, n_models: int) -> int:
        """Return the length of the longest chain."""
        return min(n_models, self.max_depth)

    @property
    def max_models(self) -> int:
        """As many as whose sets can be enumerated."""
        return MAX_ENUMERATED

    def chains(self, n_models: int) -> Int[np.ndarray, " C"]:
        """Return every chain of at most `max_depth` models in binary, the shortest first."""
        self.check_size(n_models)
        return run_sets_up_to(n_models, self.max_depth)[1:]

    def run_sets(self, n_models: int) -> Int[np.ndarray, " S"]:
        """Return every chain that has run to its end."""
        return self.chains(n_models)

    def models_read(self, n_models: int) -> Int[np.ndarray, " S"]:
        """Return the last model of each chain."""
        return _last_models(self.chains(n_models))

    def sweep(self, parameters: Float[Array, "L D"], estimator: Readable) -> Outcome:
        """Return how far along its chain every setting goes."""
        independent = isinstance(estimator, Independent)
        if independent:
            post = jnp.asarray(estimator.quality_post).T
            k = len(post)
        else:
            post, k = estimator.quality[:, 0], estimator.covariance.shape[-1]
        post, place = materialize(post), jnp.asarray(_places(self, k))
        chain, taus = _chain(parameters[:, 0]), per_step(parameters[:, 1:], k)

        def step(state: tuple[Array, ...], model: tuple[Array, ...]) -> tuple[Any, Array]:
            going, answer = state
            index, own = model
            # All that come by model i along a chain have run the same models: those up to it.
            upto = chain & ((2 << index) - 1)
            runs = (chain >> index & 1 == 1)[:, None] & going
            quality = own if independent else post[place[upto]]
            tau = taus[jnp.maximum(jax.lax.population_count(upto) - 1, 0), jnp.arange(len(chain))]
            going = going & ~(runs & (quality >= tau))
            return (going, jnp.where(runs, index, answer)), runs

        shape = (len(parameters), post.shape[-1])
        start = (jnp.ones(shape, bool), jnp.zeros(shape, jnp.int32))
        (_, answer), run = over_models(step, start, post if independent else jnp.arange(k))
        return Outcome(jnp.moveaxis(run, 0, -1), answer)

    def footprint(self, n_models: int, panels: int | None = None) -> int:
        """Return the number of post-hoc qualities."""
        self.check_size(n_models)
        return super().footprint(n_models, panels)

    def table_footprint(self, n_models: int) -> int:
        """Return one number per chain, and another."""
        return 2 * len(self.chains(n_models))

    def initial_grid(self, context: Statistics, count: int) -> Grid:
        """Return thresholds at the quantiles of the last quality seen along any chain."""
        estimator, (n_queries, n_models) = context.sample(_SAMPLE)
        last = _chain_quality(self, n_models, estimator, n_queries)
        return context.xp.quantile(context.xp.asarray(last), context.xp.linspace(1, 0, count))

    def grid_settings(self, grid: Array, n_models: int) -> Array:
        """Return every chain with every threshold of the grid."""
        chains = jnp.asarray(self.chains(n_models), jnp.float32)
        pairs = (jnp.repeat(chains, len(grid)), jnp.tile(grid, len(chains)))
        return jnp.stack(pairs, axis=1)

    def candidates(
        self, context: SearchContext, evaluate: Callable[[np.ndarray], np.ndarray]
    ) -> Float[np.ndarray, "M 2"]:
        """Return the chains and thresholds on the upper hull of them all.

        Of few queries every threshold of every chain is tried, of many those of a grid.
        """
        chains = self.chains(len(context.cost))
        rows = np.arange(context.table.n_queries) if context.rows is None else context.rows
        if len(rows) <= min(_FEW, _EVERY // len(chains)):
            return _own_thresholds(chains, context, rows)
        taus = float32_grid(self.initial_grid(context, _THRESHOLDS))
        means = evaluate(taus)
        chain, tau = np.unravel_index(_hull(*means.reshape(-1, 2).T), means.shape[:2])
        return np.stack([chains[chain], taus[tau]], axis=1)

    def grid_changes(
        self,
        thresholds: SortedSettings,
        estimator: Estimator,
        quality: Float[Array, "K B"],
        cost: Float[Array, "K B"],
        real: Bool[Array, " B"],
    ) -> Histogram:
        """Return what each chain's last model changes, in the bin of how many thresholds reach it.

        The thresholds are negatives: a chain goes on where -tau is below -quality. The change is to
        what the chain without its last model does, so each chain is one pass. Usage is not counted.
        Queries that are not `real` only fill a block up.
        """
        k, n_queries = quality.shape
        chains, bins = self.chains(k), len(thresholds.settings) + 1
        shorter, last = _without_last(chains), _last_models(chains)
        # In one bin all queries may change by the difference of two digits.
        bits = int32_bits(2 * n_queries)
        units = [power_above(truth) for truth in (cost, quality)]
        last_quality = materialize(chain_quality(self, k, estimator, n_queries))
        goes_on = thresholds.count_below(-last_quality)
        reached = jnp.broadcast_to(jnp.int32(bins - 1), (k, n_queries))
        sizes = np.array([int(chain).bit_count() for chain in chains])
        for size in range(2, sizes.max() + 1):
            longer = np.flatnonzero(sizes == size)
            before = shorter[longer]
            reached = jnp.concatenate([reached, jnp.minimum(reached[before], goes_on[before])])
        spent, got = (
            jnp.stack(digits_of(jnp.where(real, truth, 0), unit, bits), axis=1)
            for truth, unit in zip((cost, quality), units, strict=True)
        )

        def one_chain(row: tuple[Array, ...]) -> Int[Array, "M D"]:
            reached, last, before, alone = row
            lost = jnp.where(alone, 0, got[before])
            change = jnp.concatenate([spent[last], got[last] - lost]).T
            return add_at(jnp.zeros((bins, change.shape[1]), jnp.int32), reached, change)

        before = np.where(shorter >= 0, last[shorter], 0)
        rows = (reached, *(jnp.asarray(x) for x in (last, before, shorter < 0)))
        sums = jax.lax.map(one_chain, rows).reshape(len(chains) * bins, 2 * n_digits(bits))
        return histogram(sums, (), (cost, quality), units, (bits, bits))

    def grid_sums(self, bins: Int[np.ndarray, " M"], n_models: int) -> Int[np.ndarray, "C L"]:
        """Return the sums of every chain from its histogram, on the host."""
        chains = self.chains(n_models)
        sums = sums_from(bins.reshape(len(chains), -1).T).T.copy()
        # A chain's sums begin with those of the chain without its last model, which comes before.
        for at, before in enumerate(_without_last(chains)):
            if before >= 0:
                sums[at] += sums[before]
        return sums

    def check_settings(self, settings: Float[np.ndarray, "M *D"], n_models: int) -> None:
        """Refuse settings that are no chain and a tau, or one tau per step."""
        if np.ndim(settings) < 2 or settings.shape[1] < 2:
            raise CascjaxError(
                "parameters of frugal are a chain of models in binary and a threshold, such as"
                " 5,0.7 for the first and the third model"
            )
        for chain in settings[:, 0].tolist():
            if chain != int(chain) or not 0 < chain < 2**n_models:
                raise CascjaxError(
                    f"there is no chain {chain:g} of {n_models} models: a chain is a whole number"
                    f" from 1 to {2**n_models - 1}, its models in binary"
                )
            if int(chain).bit_count() > self.max_depth:
                raise CascjaxError(
                    f"chain {chain:g} is of {int(chain).bit_count()} models, more than max_depth"
                    f" {self.max_depth}: take a shorter one, or raise max_depth"
                )

    @classmethod
    def setting_text(
        cls, setting: Float[np.ndarray, " D"], models: Sequence[str], digits: int = 4
    ) -> str:
        """Return the models of the chain and its thresholds, if it has any that matter."""
        chain = " → ".join(name for i, name in enumerate(models) if int(setting[0]) >> i & 1)
        taus = super().setting_text(setting[1:], models, digits)
        return f"{chain}, τ {taus}" if "→" in chain else chain


def chain_quality(
    strategy: Frugal, n_models: int, estimator: Estimator, n_queries: int
) -> Float[Array, "C B"]:
    """Return the quality of the last model of every chain once all of it has run; traceable."""
    chains = strategy.chains(n_models)
    last = _last_models(chains)
    if isinstance(estimator, Independent):
        return jnp.asarray(estimator.quality_post).T[last]
    if isinstance(estimator, Tabulable):
        return estimator.tabulate(chains, last).quality[:, 0]

    def one(pair: tuple[Array, Array]) -> Float[Array, " B"]:
        chain, model = pair
        run = jnp.broadcast_to(chain >> jnp.arange(n_models) & 1 == 1, (n_queries, n_models))
        return estimator(run).quality[:, model]

    return jax.lax.map(one, (jnp.asarray(chains), jnp.asarray(last)))


def _own_thresholds(
    chains: Int[np.ndarray, " C"], context: SearchContext, rows: Int[np.ndarray, " B"]
) -> Float[np.ndarray, "M 2"]:
    """Return the settings on the upper hull of all thresholds of all chains.

    A chain goes on beyond its first j models where tau is above all that they have shown.
    """
    estimator, k = context.estimator.take(rows), len(context.cost)
    cost, quality = (
        take_rows(truth, rows).T.astype(np.float64)
        for truth in (context.table.cost, context.table.quality)
    )

    @functools.cache
    def seen(run: int) -> Float[np.ndarray, " B"]:
        """Return the quality of the last model of a chain that has run."""
        last = run.bit_length() - 1
        if isinstance(estimator, Independent):
            return np.asarray(estimator.quality_post)[:, last]
        mask = np.broadcast_to(run >> np.arange(k) & 1 == 1, (len(rows), k))
        return np.asarray(_estimated(estimator, mask))[:, last]

    settings, points = [], []
    for chain in chains.tolist():
        models = [model for model in range(k) if chain >> model & 1]
        shown = [seen(chain & (2 << model) - 1) for model in models[:-1]]
        passed = np.maximum.accumulate(shown).ravel() if shown else np.empty(0, np.float32)
        order = np.argsort(passed)
        level = np.append(np.float32(-np.inf), passed[order])
        # Thresholds halfway to what is shown next; what ties goes on together.
        end = np.flatnonzero(np.append(level[1:] > level[:-1], True))
        after = np.append(level[end[1:]], np.nextafter(level[-1], np.float32(np.inf)))
        middle = level[end] / 2 + after / 2
        tau = np.where(middle > level[end], middle, after) if shown else np.zeros(1)
        gain = np.diff(quality[models], axis=0).ravel()[order]
        means = [
            (first.sum() + np.append(0, np.cumsum(more)))[end] / len(rows)
            for first, more in (
                (cost[models[0]], cost[models[1:]].ravel()[order]), (quality[models[0]], gain)
            )
        ]  # fmt: skip
        best = _hull(*means)
        settings.append(np.stack([np.full(len(best), chain), tau[best]], axis=1))
        points.append(np.stack(means)[:, best])
    cost, quality = np.concatenate(points, axis=1)
    return np.concatenate(settings)[upper_hull(cost, quality)]


def _hull(cost: Float[np.ndarray, " M"], quality: Float[np.ndarray, " M"]) -> Int[np.ndarray, " H"]:
    """Return the upper hull, sooner than `upper_hull` alone where others beat almost all points."""
    order = np.lexsort((-quality, cost))
    best = np.maximum.accumulate(quality[order])
    kept = order[np.append(True, best[1:] > best[:-1])]
    return kept[upper_hull(cost[kept], quality[kept])]


@jax.jit
def _estimated(estimator: Estimator, run: Bool[Array, "B K"]) -> Float[Array, "B K"]:
    return estimator(run).quality


_chain_quality = cast(Any, jax.jit(chain_quality, static_argnums=(0, 1, 3)))


def _last_models(chains: Int[np.ndarray, " C"]) -> Int[np.ndarray, " C"]:
    """Return the last model of each chain."""
    return np.array([int(chain).bit_length() - 1 for chain in chains])


def _without_last(chains: Int[np.ndarray, " C"]) -> Int[np.ndarray, " C"]:
    """Return the place of each chain without its last model, -1 where there is none."""
    place = {chain: at for at, chain in enumerate(chains.tolist())}
    return np.array([place.get(c ^ 1 << c.bit_length() - 1, -1) for c in chains.tolist()], np.int32)


def _chain(number: Float[Array, "*L"]) -> Int[Array, "*L"]:
    return jnp.rint(number).astype(jnp.int32)


@functools.lru_cache(maxsize=16)
def _places(strategy: Frugal, n_models: int) -> Int[np.ndarray, " S"]:
    """Return the place of each run set among the chains."""
    chains = strategy.chains(n_models)
    place = np.zeros(2**n_models, np.int32)
    place[chains] = np.arange(len(chains))
    return place
