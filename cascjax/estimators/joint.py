"""Qualities and signals as one multivariate normal, for any number of models.

Given its features, the signals Z of a query (all that needs a model to have run) and the qualities
Q of its models are modelled as jointly normal: a mean from a predictor, and the covariance of the
predictor's errors on rows it was not fitted on. What a run set shows of Z then moves the estimates
of every model by conditioning, and how far they may still move is known: Cov(E[Q | Z] | S) =
Cov(Q | S) - Cov(Q | Z). One matrix serves all 2**K run sets.
"""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from cascjax.core.estimates import Estimates
from cascjax.data.table import take_rows
from cascjax.errors import CascjaxError
from cascjax.estimators.base import estimates_of, every_run_set, shown_by, with_ran
from cascjax.estimators.run_sets import RunSets

JITTER = 1e-4  # Added to a signal's variance of 1, so that two equal signals can be solved for
_CHUNK = 1 << 22  # Most numbers in the matrices that are worked on at once
MAX_TABULATED = 11  # Most models for which a joint normal is tabulated over its run sets
_MAX_WEIGHTS = 1 << 28  # Most numbers of a table of all run sets: 1 GB of float32


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Joint:
    """Estimates by conditioning on the signals of what has run, for any number of models.

    `covariance` is of the M signals, in units of their errors, and the K qualities. `surprise` is
    each signal minus its expectation, in the same units; `remaining` the covariance of qualities
    once every model has run. Both follow from the last of the G covariances, for all queries.
    """

    quality: Float[Array, "B K"] | Float[np.ndarray, "B K"]
    surprise: Float[Array, "B M"] | Float[np.ndarray, "B M"]
    cost: Float[Array, "B K"] | Float[np.ndarray, "B K"]
    cost_run: Float[Array, "B K"] | Float[np.ndarray, "B K"]
    fold: Int[Array, " B"] | Int[np.ndarray, " B"]
    covariance: Float[Array, "G P P"] | Float[np.ndarray, "G P P"]
    remaining: Float[Array, "K K"] | Float[np.ndarray, "K K"]
    needs: Bool[Array, "M K"] | Bool[np.ndarray, "M K"]
    sigma_scale: Float[Array, ""] | float = 1.0

    def scaled(self, sigma_scale: float) -> "Joint":
        """Return the estimates with every sigma times `sigma_scale`."""
        return replace(self, sigma_scale=self.sigma_scale * sigma_scale)

    def __call__(self, run: Bool[Array, "B K"]) -> Estimates:
        """Return the estimates given the signals that `run` shows.

        Each run set and fold that occurs is conditioned on once.
        """
        fold, needs = jnp.asarray(self.fold, jnp.int32), jnp.asarray(self.needs)
        covariance, surprise = jnp.asarray(self.covariance), jnp.asarray(self.surprise)
        (b, k), m, p = run.shape, needs.shape[0], covariance.shape[-1]
        words = jnp.packbits(run, axis=1).astype(jnp.int32)
        kinds = jnp.concatenate([words, fold[:, None]], axis=1)
        _, first, kind = jnp.unique(
            kinds, axis=0, return_index=True, return_inverse=True, size=b, fill_value=0
        )
        block = min(b, max(1, _CHUNK // (2 * p * p)))
        first = jnp.pad(first, (0, -b % block))

        def solve_block(
            at: Int[Array, ""], done: tuple[Array, Array]
        ) -> tuple[Float[Array, "B1 K M"], Float[Array, "B1 K K"]]:
            these = jax.lax.dynamic_slice(first, (at * block,), (block,))
            visible = jnp.asarray(shown_by(run[these], needs))
            gains, _ = condition(covariance[fold[these]], visible, k)
            # How far estimates may move is one matrix per run set, fitted on all rows.
            whole = jnp.broadcast_to(covariance[-1], (block, p, p))
            _, rest = condition(whole, visible, k)
            left = jnp.where(with_ran(run[these]), 0, rest - jnp.asarray(self.remaining))
            place = (at * block, 0, 0)
            return (
                jax.lax.dynamic_update_slice(done[0], gains, place),
                jax.lax.dynamic_update_slice(done[1], left, place),
            )

        empty = (jnp.zeros((len(first), k, m)), jnp.zeros((len(first), k, k)))
        blocks = (kind.max(initial=-1) + block) // block
        gains, left = jax.lax.fori_loop(0, blocks, solve_block, empty)

        def moved(query: tuple[Array, Array]) -> Float[Array, " K"]:
            kind, surprise = query
            return jnp.matmul(gains[kind], surprise, precision="highest")

        size = max(1, _CHUNK // max(1, k * m))
        quality = jnp.asarray(self.quality) + jax.lax.map(moved, (kind, surprise), batch_size=size)
        cost = jnp.where(run, jnp.asarray(self.cost_run), jnp.asarray(self.cost))
        return Estimates(quality, left[kind] * jnp.square(jnp.float32(self.sigma_scale)), cost)

    def on_host(
        self, run: Bool[np.ndarray, "B K"]
    ) -> tuple[Float[np.ndarray, "B K"], Float[np.ndarray, "B K K"], Float[np.ndarray, "B K"]]:
        """Return quality, covariance and cost as estimated, also of models that have run."""
        estimates = estimates_of(self, run)
        covariance = np.asarray(estimates.covariance)
        return np.asarray(estimates.quality), covariance, np.asarray(self.cost)

    def take(self, rows: slice | Int[np.ndarray, " n"]) -> "Joint":
        """Return the estimates of some of the queries."""
        cut = ("quality", "surprise", "cost", "cost_run", "fold")
        return replace(self, **{name: take_rows(getattr(self, name), rows) for name in cut})

    @property
    def seen(self) -> Float[np.ndarray, "B D"]:
        """Columns of the tabulated form: 1, expected qualities and costs, and surprises."""
        constant = np.ones((len(self.fold), 1), np.float32)
        return np.concatenate([constant, self.quality, self.cost, self.surprise], 1)

    def to_run_sets(self) -> RunSets:
        """Return the same estimates as a table of gains for each run set, from float64."""
        normal, needs = np.asarray(self.covariance, np.float64), np.asarray(self.needs)
        g, (m, k) = len(normal), needs.shape
        columns = 1 + 2 * k + m
        if g * 2**k * k * columns > _MAX_WEIGHTS:
            raise CascjaxError(
                f"a table of all run sets of {k} models and {m} signals would not fit in memory;"
                " use the joint estimator as it is, or select fewer models"
            )
        runs = every_run_set(k)
        visible = np.asarray(shown_by(runs, needs))
        weights = np.zeros((g, 2**k, k, columns), np.float32)
        weights[..., 1 : 1 + k] = np.eye(k)
        covariance = np.zeros((2**k, k, k), np.float32)
        # Run sets that show about as many signals share systems of that size.
        order = np.argsort(visible.sum(1), kind="stable")
        for part in np.array_split(order, max(1, 2**k * m * m // _CHUNK)):
            for fold in range(g):
                weights[fold, part, :, 1 + 2 * k :] = gains_of(normal[fold], visible[part], k)
            gains = weights[-1, part, :, 1 + 2 * k :].astype(np.float64)
            rest = normal[-1, m:, m:] - gains @ normal[-1, :m, m:] - self.remaining
            covariance[part] = np.where(with_ran(runs[part]), 0, rest)
        cost_weights = np.zeros((g, 1, k, columns), np.float32)
        cost_weights[..., 1 + k : 1 + 2 * k] = np.eye(k)
        return RunSets(
            seen=self.seen,
            fold=self.fold,
            quality_weights=weights,
            cost_weights=cost_weights,
            covariance=covariance * np.float32(np.square(self.sigma_scale)),
            cost_run=self.cost_run,
            logistic=False,
        )


def gains_of(
    covariance: Float[np.ndarray, "P P"], visible: Bool[np.ndarray, "S M"], k: int
) -> Float[np.ndarray, "S K M"]:
    """Return by how much each signal moves each estimate; 0 for signals that are not visible."""
    m, most = len(covariance) - k, int(visible.sum(1).max(initial=0))
    signals = covariance[:m, :m] + JITTER * np.eye(m)
    # Shown signals first; the identity fills up where a run set shows fewer than others.
    at = np.argsort(~visible, axis=1, kind="stable")[:, :most]
    real = np.take_along_axis(visible, at, 1)
    both = real[:, :, None] & real[:, None, :]
    system = np.where(both, signals[at[:, :, None], at[:, None, :]], np.eye(most))
    solved = np.linalg.solve(system, covariance[:m, m:][at] * real[:, :, None])
    gains = np.zeros((len(visible), k, m))
    np.put_along_axis(gains, at[:, None, :], np.swapaxes(solved, 1, 2), 2)
    return gains


def condition(
    covariance: Float[Array, "S P P"], visible: Bool[Array, "S M"], k: int
) -> tuple[Float[Array, "S K M"], Float[Array, "S K K"]]:
    """Return gains as `gains_of` does, and the covariance of the qualities given what is visible.

    By the sweep operator (Goodnight, The American Statistician 1979), one shown signal at a time,
    so that few signals are little work. XLA's batched solves block its CPU threads if two run at
    once.
    """
    m, p = visible.shape[1], covariance.shape[-1]
    if m == 0:
        return jnp.zeros((len(visible), k, 0)), covariance
    covariance = covariance + jnp.diag((jnp.arange(p) < m) * jnp.float32(JITTER))
    order, count = jnp.argsort(~visible, axis=1), visible.sum(1)
    columns = jnp.arange(p)

    def sweep(step: Int[Array, ""], swept: Float[Array, "S P P"]) -> Float[Array, "S P P"]:
        signal = order[:, step]
        column = jnp.take_along_axis(swept, signal[:, None, None], 2)[:, :, 0]
        pivot = jnp.take_along_axis(column, signal[:, None], 1)
        gain = column / pivot
        own = columns == signal[:, None]
        new = swept - column[:, :, None] * gain[:, None, :]
        new = jnp.where(own[:, :, None], gain[:, None, :], new)
        new = jnp.where(own[:, None, :], gain[:, :, None], new)
        new = jnp.where(own[:, :, None] & own[:, None, :], -1 / pivot[:, :, None], new)
        return jnp.where((step < count)[:, None, None], new, swept)

    swept = jax.lax.fori_loop(0, count.max(initial=0), sweep, covariance)
    return swept[:, m:, :m] * visible[:, None, :], swept[:, m:, m:]
