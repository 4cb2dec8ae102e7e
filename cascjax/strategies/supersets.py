"""What further models add to those that have run, where estimates depend on all that has run.

Given the models that have run, S, the qualities of the rest are jointly normal with a covariance
that is the same for all queries (`Tabulated`), and what has run is known: its best answer is the
incumbent. Adding the models A is worth E[(max_{i in A} Q_i - incumbent)+]. For one model that is a
closed form, for more a mean over quasi-random normal points, the same points for every query. The
arithmetic of all pairs (S, A) of one size is one straight line of code, with queries in the vector
lanes: the maximum over A at a point is worked out again for every A, out of registers, not fetched
from memory by way of a smaller A.
"""

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from cascjax.core.arrays import materialize, over_rows
from cascjax.core.estimates import Estimates, Tabulated
from cascjax.core.expected_max import (
    LEAST_GAIN,
    MAX_ENUMERATED,
    expected_improvement,
    members,
    normal_points,
    semidefinite_root,
)

SAMPLES = 128
"""Points of a mean over correlated qualities: for five models it errs by 0.0065 of sigma in the
root mean square and by 0.03 at worst; more points change quality less cost by less than 2e-4 where
sigma is 0.4 (benchmarks/LEARNED.md)."""

_LINE = 16  # Points, or run sets of which a row is selected, in one straight line of code


@dataclass(frozen=True)
class Supersets:
    """The run sets of s models and what may be added to each: C sets, A additions to each.

    First nothing is added, then one model, then two, in the order of `members`.
    """

    run_sets: Int[np.ndarray, " C"]  # in binary, rising
    place: Int[np.ndarray, " C"]  # their places in `run_sets_up_to`
    ran: Int[np.ndarray, "C s"]
    rest: Int[np.ndarray, "C r"]  # the models that have not run, rising
    sizes: tuple[Int[np.ndarray, "_ _"], ...]  # for each j: positions in `rest` of j models added
    added: Bool[np.ndarray, "C A K"]
    first: Int[np.ndarray, "C A"]  # the bit of the first model added, 0 for nothing

    @property
    def slice(self) -> slice:
        """Places of these run sets in `run_sets_up_to`: one after the other."""
        return slice(int(self.place[0]), int(self.place[-1]) + 1)

    def part(self, table: Tabulated) -> Tabulated:
        """Return the rows of these run sets from a table of `run_sets_up_to`."""
        cost = table.cost[self.slice] if len(table.cost) > 1 else table.cost
        return Tabulated(table.quality[self.slice], table.covariance[self.slice], cost)


@functools.lru_cache(maxsize=16)
def run_sets_up_to(n_models: int, most: int) -> Int[np.ndarray, " S"]:
    """Return all run sets of at most so many models, in binary, the smallest first."""
    return members(n_models, most) @ (1 << np.arange(n_models))


@functools.lru_cache(maxsize=64)
def supersets(n_models: int, ran: int, most: int) -> Supersets:
    """Return the run sets of `ran` models, and what may be added to have at most `most` models."""
    every = run_sets_up_to(n_models, MAX_ENUMERATED)
    bits = every[:, None] >> np.arange(n_models) & 1 == 1
    place = np.flatnonzero(bits.sum(1) == ran)
    masks = bits[place]
    models = np.broadcast_to(np.arange(n_models), masks.shape)
    rest = models[~masks].reshape(len(masks), n_models - ran)
    sizes = []
    for j in range(1, min(most, n_models) - ran + 1):
        sets = [list(chosen) for chosen in itertools.combinations(range(n_models - ran), j)]
        # In the order of their binary numbers, as `members` has them.
        sets.sort(key=lambda chosen: sum(1 << i for i in chosen))
        sizes.append(np.array(sets).reshape(-1, j))
    chosen = np.zeros((1, n_models - ran), bool)
    for sets in sizes:
        new = (sets[:, :, None] == np.arange(n_models - ran)).any(1)
        chosen = np.concatenate([chosen, new])
    added = np.zeros((len(masks), len(chosen), n_models), bool)
    shape = (len(masks), *chosen.shape)
    places = np.broadcast_to(rest[:, None], shape)
    np.put_along_axis(added, places, np.broadcast_to(chosen, shape), axis=2)
    first = np.where(added.any(2), 1 << added.argmax(2), 0)
    ran_models = models[masks].reshape(len(masks), ran)
    return Supersets(every[place], place, ran_models, rest, tuple(sizes), added, first)


def best_of(
    quality: Float[Array, "C K B"], ran: Int[np.ndarray, "C s"]
) -> tuple[Float[Array, "C B"], Int[Array, "C B"]]:
    """Return the highest quality of what has run, and its model; -inf where nothing has run."""
    n_sets, _, n_queries = quality.shape
    best = jnp.full((n_sets, n_queries), -jnp.inf)
    which = jnp.zeros(best.shape, jnp.int32)
    for model in ran.T:
        new = rows_of(quality, model)
        better = new > best
        best, which = jnp.where(better, new, best), jnp.where(better, model[:, None], which)
    return best, which


def best_answer(ran: Int[Array, "L B"], table: Tabulated, most: int) -> Int[Array, "L B"]:
    """Return the model of the highest quality among those run, at most so many.

    The table is one of `run_sets_up_to`, and `ran` in binary.
    """
    answer = jnp.zeros_like(ran)
    for size in range(1, most + 1):
        sets = supersets(table.quality.shape[1], size, size)
        _, which = materialize(best_of(sets.part(table).quality, sets.ran))
        (answer,) = select(ran, sets.run_sets, [which], [answer])
    return materialize(answer)


def select(
    ran: Int[Array, "L B"],
    run_sets: Int[np.ndarray, " C"],
    rows: Sequence[Float[Array, "C _"] | Int[Array, "C _"]],
    otherwise: Sequence[Array] | None = None,
) -> list[Array]:
    """Return, of arrays with run sets first, the row of what has run.

    Where that is none of these run sets: `otherwise`, by default the first row. By selection, which
    fills vector lanes where a gather cannot.
    """
    if otherwise is None:
        otherwise = [jnp.broadcast_to(row[0], ran.shape) for row in rows]

    def one(selected: list[Array], row: tuple[Array, ...]) -> tuple[list[Array], None]:
        run_set, *new = row
        here = ran == run_set
        return [jnp.where(here, n, old) for n, old in zip(new, selected, strict=True)], None

    numbers = jnp.asarray(run_sets, jnp.int32)
    return over_rows(one, list(otherwise), len(run_sets), numbers, *rows, unrolled=_LINE)


def rows_of(quality: Float[Array, "C K B"], model: Int[np.ndarray, " C"]) -> Float[Array, "C B"]:
    """Return the row of one model for each run set."""
    return _take(quality, np.arange(len(quality)) * quality.shape[1] + model)


def gains_over(
    table: Tabulated,
    sets: Supersets,
    incumbent: Float[Array, "C B"] | None,
    points: Float[Array, "C K n"] | None,
) -> Float[Array, "C A B"]:
    """Return what each addition adds to the incumbent; without one, what it is worth.

    Nothing added is worth 0 with an incumbent, else -inf. Without points (`joint_points` of the
    table's covariance) every estimate counts as certain.
    """
    n_sets, k, n_queries = table.quality.shape
    mean = table.quality if incumbent is None else table.quality - incumbent[:, None]
    sigma = jnp.sqrt(jnp.maximum(jnp.diagonal(table.covariance, axis1=1, axis2=2), 0))
    # For each size [n_j, j] positions become rows [C * n_j] for each of the j models.
    models = (sets.rest[:, positions] for positions in sets.sizes)
    starts = np.arange(n_sets)[:, None, None] * k
    rows = [(starts + each).reshape(-1, each.shape[-1]).T for each in models]
    means = [[_take(mean, row) for row in each] for each in rows]
    if points is None:
        values = [functools.reduce(jnp.maximum, each) for each in means]
        values = values if incumbent is None else [jnp.maximum(value, 0) for value in values]
    else:
        alone = means[0][0]
        if incumbent is not None:
            spread = _take(sigma[..., None], rows[0][0])
            alone = expected_improvement(jnp.zeros_like(spread), alone, spread)
        moves = [[_take(points, row) for row in each] for each in rows[1:]]
        values = [alone, *means_of_maxima(means[1:], moves, over_zero=incumbent is not None)]
    nothing = jnp.full((n_sets, 1, n_queries), -jnp.inf if incumbent is None else 0)
    gain = [nothing, *(value.reshape(n_sets, -1, n_queries) for value in values)]
    gain = jnp.concatenate(gain, axis=1)
    return gain if incumbent is None else real(gain, sigma)


def real(gain: Float[Array, "C A B"], sigma: Float[Array, "C K"]) -> Float[Array, "C A B"]:
    """Return the gains, or 0 where they are only rounding, as `without_rounding` has it."""
    least = LEAST_GAIN * jnp.max(sigma, axis=1)
    return jnp.where(gain > least[:, None, None], gain, 0)


def joint_points(covariance: Float[Array, "C K K"]) -> Float[Array, "C K n"]:
    """Return how far from its mean each model's quality is at each point."""
    normal = jnp.asarray(normal_points(covariance.shape[-1], SAMPLES), covariance.dtype)
    exact = jax.lax.Precision.HIGHEST
    return jnp.einsum("cij,nj->cin", semidefinite_root(covariance), normal, precision=exact)


def means_of_maxima(
    means: Sequence[Sequence[Float[Array, "_ B"]]],
    points: Sequence[Sequence[Float[Array, "_ n"]]],
    *,
    over_zero: bool,
) -> list[Float[Array, "_ B"]]:
    """Return means over n points of the highest quality of each table, or of 0 if that is higher.

    A table holds the means of the qualities, and how far each is from its mean at each point.
    """
    if not means:
        return []
    n_points = points[0][0].shape[-1]

    def line(index: Array, totals: list[Float[Array, "_ B"]]) -> list[Float[Array, "_ B"]]:
        # Cut out first: a moving slice inside the arithmetic would keep XLA from vectorising.
        cut = materialize(
            jax.tree.map(
                lambda z: jax.lax.dynamic_slice_in_dim(z, index * _LINE, _LINE, axis=1), points
            )
        )
        sums = []
        for total, each, moves in zip(totals, means, cut, strict=True):
            for p in range(_LINE):
                at = [mean + z[:, p, None] for mean, z in zip(each, moves, strict=True)]
                best = functools.reduce(jnp.maximum, at)
                total = total + (jnp.maximum(best, 0) if over_zero else best)
            sums.append(total)
        return sums

    zero = [jnp.zeros_like(each[0]) for each in means]
    return [total / n_points for total in jax.lax.fori_loop(0, n_points // _LINE, line, zero)]


def over_incumbent(estimates: Estimates, run: Bool[Array, "B K"]) -> Estimates:
    """Return the estimates with qualities relative to the incumbent, if covariances are matrices.

    Then what a sum over points rounds off is a share of gains, not of qualities.
    """
    if estimates.covariance.ndim == estimates.quality.ndim:
        return estimates
    best = jnp.max(jnp.where(run, estimates.quality, -jnp.inf), axis=-1, keepdims=True)
    incumbent = jnp.where(jnp.any(run, axis=-1, keepdims=True), best, 0)
    return replace(estimates, quality=estimates.quality - incumbent)


def exact_for_one(
    value: Float[Array, "B M"],
    supermodels: Bool[np.ndarray, "M K"] | Bool[Array, "M K"],
    estimates: Estimates,
    run: Bool[Array, "B K"],
) -> Float[Array, "B M"]:
    """Return values of supermodels, in closed form where they have one model more than has run.

    The estimates are those of `over_incumbent`; of variances all values are exact.
    """
    if estimates.covariance.ndim == estimates.quality.ndim:
        return value
    mean, new = estimates.quality, supermodels & ~run[:, None, :]
    sigma = jnp.sqrt(jnp.maximum(estimates.variance, 0))
    started = jnp.any(run, axis=-1, keepdims=True)
    alone = jnp.where(started, expected_improvement(jnp.zeros_like(mean), mean, sigma), mean)
    # A sum over the one model that is new: the others count 0.
    exact = jnp.sum(jnp.where(new, alone[:, None, :], 0), axis=-1)
    return jnp.where(jnp.sum(new, axis=-1) == 1, exact, value)


def _take(rows: Float[Array, "C K X"], row: Int[np.ndarray, " P"]) -> Float[Array, "P X"]:
    return rows.reshape(-1, rows.shape[-1]).at[row].get(mode="promise_in_bounds")
