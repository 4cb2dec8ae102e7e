"""Estimates that move with every answer: one regression per run set and model."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from cascjax.core.checks import check_normal, check_numbers
from cascjax.core.estimates import Estimates, Tabulated
from cascjax.data.table import take_rows
from cascjax.errors import CascjaxError
from cascjax.estimators.base import every_run_set, with_ran


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class RunSets:
    """Regressions on what a run set shows (paper, section 6), a row of weights a run set and model.

    Run sets count in binary: bit i of their number is set where model i has run.

    Attributes:
        seen: `[B, D]` all that is seen of a query once every model has run; the first column is 1.
        fold: `[B]` which of the F sets of weights each query is estimated with: one that was not
            fitted on it.
        quality_weights: `[F, 2**K, K, D]` of quality, 0 where a run set does not show a column.
        cost_weights: `[F, 2**K, K, D]` of cost, in the table's cost unit; `[F, 1, K, D]` where
            what has run tells nothing of the cost of the rest.
        covariance: `[2**K, K, K]`, as in `Tabulated`.
        cost_run: `[B, K]` cost of each model once it has run, in the table's cost unit.
        logistic: whether quality is the logistic function of the weighted sum, or the sum itself.
    """

    seen: Float[Array, "B D"] | Float[np.ndarray, "B D"]
    fold: Int[Array, " B"] | Int[np.ndarray, " B"]
    quality_weights: Float[Array, "F S K D"] | Float[np.ndarray, "F S K D"]
    cost_weights: Float[Array, "F #S K D"] | Float[np.ndarray, "F #S K D"]
    covariance: Float[Array, "S K K"] | Float[np.ndarray, "S K K"]
    cost_run: Float[Array, "B K"] | Float[np.ndarray, "B K"]
    logistic: bool = field(metadata={"static": True})

    def __call__(self, run: Bool[Array, "B K"]) -> Estimates:
        """Return the regressions of what has run on each query."""
        k = run.shape[-1]
        run_set = run.astype(jnp.int32) @ (1 << jnp.arange(k))
        seen, fold = jnp.asarray(self.seen), jnp.asarray(self.fold)
        # In full float32, as `tabulate` has it: an accelerator's default is coarser.
        exact = jax.lax.Precision.HIGHEST
        weights = jnp.asarray(self.quality_weights)[fold, run_set]
        quality = jnp.einsum("bkd,bd->bk", weights, seen, precision=exact)
        of_cost = jnp.asarray(self.cost_weights)
        of_cost = of_cost[fold, run_set if of_cost.shape[1] > 1 else 0]
        cost = jnp.einsum("bkd,bd->bk", of_cost, seen, precision=exact)
        return Estimates(
            quality=jax.nn.sigmoid(quality) if self.logistic else quality,
            covariance=jnp.asarray(self.covariance)[run_set],
            cost=jnp.where(run, jnp.asarray(self.cost_run), cost),
        )

    def on_host(
        self, run: Bool[np.ndarray, "B K"]
    ) -> tuple[Float[np.ndarray, "B K"], Float[np.ndarray, "B K K"], Float[np.ndarray, "B K"]]:
        """Return quality, covariance and cost as estimated, of few queries in microseconds each."""
        run_set, fold = run @ (1 << np.arange(run.shape[-1])), self.fold
        seen = np.asarray(self.seen)[:, :, None]
        quality = (np.asarray(self.quality_weights)[fold, run_set] @ seen)[:, :, 0]
        if self.logistic:
            # As a tanh, which cannot overflow.
            quality = np.float32(0.5) * (1 + np.tanh(np.float32(0.5) * quality))
        by_run_set = run_set if self.cost_weights.shape[1] > 1 else np.zeros_like(run_set)
        cost = (np.asarray(self.cost_weights)[fold, by_run_set] @ seen)[:, :, 0]
        return quality, np.asarray(self.covariance)[run_set], cost

    def tabulate(
        self,
        run_sets: Int[np.ndarray, " S"] | None = None,
        models: Int[np.ndarray, " S"] | None = None,
    ) -> Tabulated:
        """Return the estimates under run sets: one matrix product per fold for all queries.

        Without regard to `cost_run`: no decision needs the cost of a model that has run.
        """
        quality, cost, covariance = (
            jnp.asarray(x) for x in (self.quality_weights, self.cost_weights, self.covariance)
        )
        if run_sets is not None and not np.array_equal(run_sets, np.arange(len(covariance))):
            quality, covariance = quality[:, run_sets], covariance[run_sets]
            cost = cost[:, run_sets] if cost.shape[1] > 1 else cost
        if models is not None:
            quality = quality[:, np.arange(len(models)), models][:, :, None]
            cost = cost[:, : len(models), :0]
        sums = self._sums(quality)
        return Tabulated(
            jax.nn.sigmoid(sums) if self.logistic else sums, covariance, self._sums(cost)
        )

    def _sums(self, weights: Float[Array, "F S K D"]) -> Float[Array, "S K B"]:
        """Return weighted sums of what is seen, each query by the weights of its fold."""
        seen, fold = jnp.asarray(self.seen), jnp.asarray(self.fold)
        n_folds, *rows, columns = weights.shape
        flat = weights.reshape(n_folds, -1, columns)

        def under(weights: Float[Array, "R D"]) -> Float[Array, "R B"]:
            # Both by their last axis: what is seen lies query by query, and need not be turned.
            by_last = (((1,), (1,)), ((), ()))
            exact = jax.lax.Precision.HIGHEST
            return jax.lax.dot_general(weights, seen, by_last, precision=exact)

        def one_more(f: Int[Array, ""], sums: Float[Array, "R B"]) -> Float[Array, "R B"]:
            return jnp.where(fold == f, under(flat[f]), sums)

        sums = jax.lax.fori_loop(1, n_folds, one_more, under(flat[0]))
        return sums.reshape(*rows, len(seen))

    @property
    def shape(self) -> tuple[int, int]:
        """Number of queries and number of models."""
        n_queries, n_models = np.shape(self.cost_run)
        return n_queries, n_models

    @property
    def cost_ante(self) -> Float[np.ndarray, "B K"]:
        """Cost as estimated before any model runs, in the table's cost unit; on the host."""
        seen, fold, weights = (np.asarray(x) for x in (self.seen, self.fold, self.cost_weights))
        cost = np.empty((len(seen), weights.shape[2]), np.float32)
        for f in np.unique(fold):
            rows = np.flatnonzero(fold == f)
            cost[rows] = seen[rows] @ weights[f, 0].T
        return cost

    def weighed(
        self, prices: Float[np.ndarray, " R"], more: Sequence[Float[np.ndarray, "N K"]]
    ) -> "RunSets":
        """Return the estimates with several costs weighed into one, as `Independent.weighed`.

        Further costs must be the same for all queries.
        """
        constant = np.zeros(self.cost_run.shape[-1], np.float32)
        for price, ante in zip(prices[1:], more, strict=True):
            constant = constant + np.float32(price) * ante[0]
        weights = np.float32(prices[0]) * np.asarray(self.cost_weights)
        weights[..., 0] += constant  # the first column is 1
        return replace(self, cost_weights=weights)

    def scaled(self, sigma_scale: float) -> "RunSets":
        """Return the estimates with every sigma times `sigma_scale`."""
        if sigma_scale == 1:
            return self
        return replace(self, covariance=np.asarray(self.covariance) * np.float32(sigma_scale**2))

    def take(self, rows: slice | Int[np.ndarray, " n"]) -> "RunSets":
        """Return the estimator of a subset of its queries."""
        seen, fold, cost_run = (take_rows(x, rows) for x in (self.seen, self.fold, self.cost_run))
        return replace(self, seen=seen, fold=fold, cost_run=cost_run)

    def groups(
        self, rows: range | Int[np.ndarray, " n"], *, apart: bool
    ) -> list[tuple["RunSets", Int[np.ndarray, " m"]]]:
        """Return the queries of each fold with its weights alone, or all with all weights."""
        fold, covariance = np.asarray(self.fold), jnp.asarray(self.covariance)

        def shared(of: slice) -> "RunSets":
            quality, cost = (jnp.asarray(x[of]) for x in (self.quality_weights, self.cost_weights))
            return replace(self, quality_weights=quality, cost_weights=cost, covariance=covariance)

        if not apart:
            return [(shared(slice(None)), np.arange(len(rows)))]
        of = fold[rows.start : rows.stop] if isinstance(rows, range) else fold[rows]
        none = np.broadcast_to(np.int32(0), fold.shape)
        return [
            (replace(shared(slice(f, f + 1)), fold=none), np.flatnonzero(of == f))
            for f in np.flatnonzero(np.bincount(of)).tolist()
        ]

    def check(self, models: tuple[str, ...] = ()) -> None:
        """Refuse what is no estimate, naming the first: on the host, and once before a job."""
        lowest = np.finfo(np.float64).min
        for what, of in (("column seen", self.seen), ("cost once run", self.cost_run)):
            names = models if of is self.cost_run else ()
            check_numbers(what, np.asarray(of), lowest, "fit on numbers that are finite", names)
        for what, of in (("quality", self.quality_weights), ("cost", self.cost_weights)):
            if not np.isfinite(of).all():
                f, run_set, model, column = np.argwhere(~np.isfinite(of))[0].tolist()
                where = f"{_named(model, models)}{_once(run_set, models)}, fold {f}"
                raise CascjaxError(
                    f"the {what} weight of column {column} for {where} is not finite;"
                    " fit again with more ridge or without the column"
                )
        fold, n_folds = np.asarray(self.fold), len(self.quality_weights)
        if len(fold) and not (fold.min() >= 0 and fold.max() < n_folds):
            row = int(np.argmax((fold < 0) | (fold >= n_folds)))
            raise CascjaxError(
                f"query {row} is of fold {fold[row]}, but there are weights of {n_folds};"
                f" number the folds 0 to {n_folds - 1}"
            )
        covariance = np.asarray(self.covariance)
        left = np.argwhere((covariance != 0) & with_ran(every_run_set(covariance.shape[-1])))
        if len(left):
            run_set, i, j = left[0].tolist()
            raise CascjaxError(
                f"the covariance of {_named(i, models)} and {_named(j, models)}"
                f"{_once(run_set, models)} is {covariance[run_set, i, j]:.4g};"
                " set rows and columns of models that have run to 0"
            )
        for run_set, matrix in enumerate(covariance):
            once = _once(run_set, models)
            check_normal(jnp.zeros(len(matrix)), jnp.asarray(matrix), models, once)


def _named(model: int, models: tuple[str, ...]) -> str:
    return repr(models[model]) if models else f"model {model}"


def _once(run_set: int, models: tuple[str, ...]) -> str:
    """Return the words that name a run set by its models."""
    ran = [_named(i, models) for i in range(run_set.bit_length()) if run_set >> i & 1]
    return f" once {', '.join(ran)} {'has' if len(ran) == 1 else 'have'} run" if ran else ""
