"""Qualities and signals as one multivariate normal, for any number of models.

Given its features, the signals Z of a query (all that needs a model to have run) and the
qualities Q of its models are taken as normal together: a mean from a predictor, and the covariance
of what the predictor misses on rows it was not fitted on. What a run set shows of Z then moves the
estimates of every model, run or not, by conditioning; and how far they may still move is known:
Cov(E[Q | Z] | S) = Cov(Q | S) - Cov(Q | Z). One matrix serves all run sets, where a regression for
each of them has 2**K to learn.
"""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from cascjax.data.table import mean_rows, take_rows
from cascjax.errors import CascjaxError, unknown_name
from cascjax.estimators.base import Estimates, every_run_set, shown_by, with_ran
from cascjax.estimators.design import Design
from cascjax.estimators.predictors import Prediction, Predictor, Ridge
from cascjax.estimators.run_sets import RunSets

SHRINKAGES = ("held-out", "ledoit-wolf", "none")
"""Ways to choose how far correlations are shrunk towards 0."""

_SHARES = (0.0, *np.geomspace(0.005, 1.0, 16).round(4))
"""Shares of shrinkage that held-out rows choose among."""

_DISTRUSTS = (1.0, 8.0, 64.0)
"""How much more than agreements signals of one model may be shrunk: they are many, and often of the
text alone. Held-out rows choose."""

_JITTER = 1e-4
"""Added to a signal's variance of 1, so that two signals that say the same stay solvable."""

_LEAST_SPREAD = 0.03
"""Of a signal's spread of 1, what features leave at least: of one that they tell exactly on rows
fitted on, an exception among others would else be thousands of spreads from what is expected."""

_LEAST_COST = 0.01
"""Share of a model's mean cost below which it is never expected: lines cross 0."""

_CHUNK = 1 << 22
"""Numbers in the matrices that are worked on at once."""

MAX_TABULATED_OF = 11
"""Models at most for which a joint normal is laid out as a table of its run sets."""

_MOST_WEIGHTS = 1 << 28
"""Numbers a table of all run sets may have: 1 GB of float32."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Normal:
    """Signals, each over its spread, and qualities around what is expected of them: their normal.

    There are G of them: one for each fold, fitted without it, and the last fitted on all rows.

    Attributes:
        spread: `[G, M]` root mean square by which each signal misses, but at least 0.03; 1 where it
            never does.
        covariance: `[G, M + K, M + K]` of the M signals, in spreads, and the K qualities.
        shrinkage: `[G]` the share by which correlations were shrunk, 0 to 1.
        distrust: `[G]` how much more than agreements signals of one model were.
    """

    spread: Float[np.ndarray, "G M"]
    covariance: Float[np.ndarray, "G P P"]
    shrinkage: Float[np.ndarray, " G"]
    distrust: Float[np.ndarray, " G"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Joint:
    """Estimates by conditioning on the signals of what has run, for any number of models.

    Attributes:
        quality: `[B, K]` expected quality before any model runs.
        surprise: `[B, M]` each signal less what was expected, in spreads.
        cost: `[B, K]` expected cost of each model, in the table's cost unit.
        cost_run: `[B, K]` cost of each model once it has run, in the table's cost unit.
        fold: `[B]` which of the G covariances a query is estimated with: not fitted on it.
        covariance: `[G, M + K, M + K]`, as in `Normal`; how far estimates may move is told by
            the last for all queries.
        remaining: `[K, K]` covariance of the qualities once every model has run, by the last.
        needs: `[M, K]` the models that must have run for a signal to be seen.
        sigma_scale: scale on the sigmas stated, see `cascjax.search.sigma_scale`.
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
        """Condition on the signals that `run` shows, once for each run set and fold that occurs."""
        fold, needs = jnp.asarray(self.fold, jnp.int32), jnp.asarray(self.needs)
        covariance, surprise = jnp.asarray(self.covariance), jnp.asarray(self.surprise)
        (b, k), m, p = run.shape, needs.shape[0], covariance.shape[-1]
        kinds = jnp.concatenate([_words(run), fold[:, None]], axis=1)
        _, first, kind = jnp.unique(
            kinds, axis=0, return_index=True, return_inverse=True, size=b, fill_value=0
        )
        block = min(b, max(1, _CHUNK // (2 * p * p)))
        first = jnp.pad(first, (0, -b % block))

        def condition(
            at: Int[Array, ""], found: tuple[Array, Array]
        ) -> tuple[Float[Array, "B1 K M"], Float[Array, "B1 K K"]]:
            these = jax.lax.dynamic_slice(first, (at * block,), (block,))
            shown = jnp.asarray(shown_by(run[these], needs))
            gains, _ = _conditioned(covariance[fold[these]], shown, k)
            # How far estimates may move is one matrix a run set: that of all rows.
            whole = jnp.broadcast_to(covariance[-1], (block, p, p))
            _, rest = _conditioned(whole, shown, k)
            left = jnp.where(with_ran(run[these]), 0, rest - jnp.asarray(self.remaining))
            return tuple(
                jax.lax.dynamic_update_slice(to, new, (at * block, 0, 0))
                for to, new in zip(found, (gains, left), strict=True)
            )  # pyright: ignore[reportReturnType]

        empty = (jnp.zeros((len(first), k, m)), jnp.zeros((len(first), k, k)))
        blocks = (kind.max(initial=-1) + block) // block
        gains, left = jax.lax.fori_loop(0, blocks, condition, empty)

        def moved(query: tuple[Array, Array]) -> Float[Array, " K"]:
            kind, surprise = query
            return jnp.matmul(gains[kind], surprise, precision="highest")

        size = max(1, _CHUNK // max(1, k * m))
        quality = jnp.asarray(self.quality) + jax.lax.map(moved, (kind, surprise), batch_size=size)
        cost = jnp.where(run, jnp.asarray(self.cost_run), jnp.asarray(self.cost))
        return Estimates(quality, left[kind] * jnp.square(jnp.float32(self.sigma_scale)), cost)

    def take(self, rows: slice | Int[np.ndarray, " n"]) -> "Joint":
        """The estimator of some of its queries alone."""
        cut = ("quality", "surprise", "cost", "cost_run", "fold")
        return replace(self, **{name: take_rows(getattr(self, name), rows) for name in cut})

    @property
    def seen(self) -> Float[np.ndarray, "B D"]:
        """1, the K expected qualities, the K expected costs and the M surprises of each query."""
        one = np.ones((len(self.fold), 1), np.float32)
        return np.concatenate([one, self.quality, self.cost, self.surprise], 1)

    def to_run_sets(self) -> RunSets:
        """The same as one table of weights: gains for each run set, in float64 on the host.

        What is seen becomes `seen`.

        Raises:
            CascjaxError: the 2**K run sets would need too much memory.
        """
        normal, needs = np.asarray(self.covariance, np.float64), np.asarray(self.needs)
        g, (m, k) = len(normal), needs.shape
        columns = 1 + 2 * k + m
        if g * 2**k * k * columns > _MOST_WEIGHTS:
            raise CascjaxError(
                f"a table of all run sets of {k} models and {m} signals would not fit in memory;"
                " keep the joint estimator as it is, or name fewer models"
            )
        runs = every_run_set(k)
        shown = np.asarray(shown_by(runs, needs))
        weights = np.zeros((g, 2**k, k, columns), np.float32)
        weights[..., 1 : 1 + k] = np.eye(k)
        covariance = np.zeros((2**k, k, k), np.float32)
        # Of run sets that show about as many signals, systems of that size.
        order = np.argsort(shown.sum(1), kind="stable")
        for part in np.array_split(order, max(1, 2**k * m * m // _CHUNK)):
            for fold in range(g):
                weights[fold, part, :, 1 + 2 * k :] = gains_of(normal[fold], shown[part], k)
            gains = weights[-1, part, :, 1 + 2 * k :].astype(np.float64)
            rest = normal[-1, m:, m:] - gains @ normal[-1, :m, m:] - self.remaining
            covariance[part] = np.where(with_ran(runs[part]), 0, rest)
        of_cost = np.zeros((g, 1, k, columns), np.float32)
        of_cost[..., 1 + k : 1 + 2 * k] = np.eye(k)
        return RunSets(
            seen=self.seen,
            fold=self.fold,
            quality_weights=weights,
            cost_weights=of_cost,
            covariance=covariance * np.float32(np.square(self.sigma_scale)),
            cost_run=self.cost_run,
            logistic=False,
        )


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class JointFit:
    """A fitted joint normal, which makes estimators of any queries.

    Attributes:
        predictions: of the signals, qualities and costs: one for each fold, fitted without it, and
            the last fitted on all rows.
        normal: the covariances, in the same order.
        needs: `[M, K]` the models that must have run for a signal to be seen.
        least_cost: `[K]` what no model is expected to cost less than, in the table's cost unit.
    """

    predictions: tuple[Prediction, ...]
    normal: Normal
    needs: Bool[np.ndarray, "M K"]
    least_cost: Float[np.ndarray, " K"]

    def estimator(
        self,
        design: Design,
        cost_run: Float[np.ndarray, "N K"],
        fold: Int[np.ndarray, " N"] | None = None,
    ) -> Joint:
        """Estimates of the queries of a design.

        Args:
            design: what is seen of N queries, in the columns fitted on.
            cost_run: `[N, K]` the cost of each model once it has run.
            fold: `[N]` for rows fitted on their fold, whose predictions come from the other folds;
                for others the number of folds. By default all are others.
        """
        return self.joint(*_parts(design), cost_run, fold)

    def joint(
        self,
        features: Float[np.ndarray, "N F"],
        signals: Float[np.ndarray, "N M"],
        cost_run: Float[np.ndarray, "N K"],
        fold: Int[np.ndarray, " N"] | None = None,
    ) -> Joint:
        """The same of features and signals, as they stand in the columns of a design."""
        last = len(self.predictions) - 1
        fold = np.full(len(features), last) if fold is None else fold
        expected = _expected(self.predictions, features, fold)
        m, k = self.needs.shape
        whole = self.normal.covariance[-1].astype(np.float64)
        gains = gains_of(whole, np.ones((1, m), bool), k)[0]
        return Joint(
            quality=expected[:, m : m + k],
            surprise=(signals - expected[:, :m]) / self.normal.spread[fold],
            cost=np.maximum(expected[:, m + k :], self.least_cost),
            cost_run=np.asarray(cost_run, np.float32),
            fold=np.asarray(fold, np.int32),
            covariance=self.normal.covariance,
            remaining=(whole[m:, m:] - gains @ whole[:m, m:]).astype(np.float32),
            needs=self.needs,
        )


def fit_joint(
    design: Design,
    quality: Float[np.ndarray, "N K"],
    cost: Float[np.ndarray, "N K"],
    fold: Int[np.ndarray, " N"],
    key: Array,
    *,
    n_folds: int,
    predictor: Predictor | None = None,
    shrinkage: str = "held-out",
) -> JointFit:
    """Fit means and covariances, each fold's without its rows.

    A fold's covariance is that of what the other folds' predictions miss on their own rows. These
    were fitted on its rows too, so it is not quite free of them: but a row moves a prediction by
    1 / n, and what is missed is not of its own, so that on noise no skill is seen to come of it.

    Args:
        design: what is seen of N queries.
        quality: `[N, K]` the truth, read on rows fitted on alone.
        cost: `[N, K]` likewise, in the table's cost unit.
        fold: `[N]` folds 0 to F - 1 of the rows fitted on; F for all other rows.
        key: a JAX random key, for predictors that draw.
        n_folds: F.
        predictor: of the means; ridge regression by default.
        shrinkage: how far correlations are shrunk towards 0: the share by "ledoit-wolf" (Journal of
            Multivariate Analysis 2004), "none", or the one under which "held-out" rows' qualities
            are estimated best.

    Raises:
        CascjaxError: fewer than two folds, an empty one, or an unknown shrinkage.
    """
    if shrinkage not in SHRINKAGES:
        raise unknown_name("shrinkage", shrinkage, SHRINKAGES)
    rows = np.flatnonzero(fold < n_folds)
    if n_folds < 2 or len(np.unique(fold[rows])) < n_folds:
        raise CascjaxError(
            "a joint fit needs at least two folds of rows and none empty;"
            " give it more rows to fit on, or fewer folds"
        )
    predictor = Ridge() if predictor is None else predictor
    features, signals = _parts(design)
    m, k = signals.shape[1], quality.shape[1]
    heads = np.concatenate([signals, quality, cost], axis=1).astype(np.float32)
    parts = [*(rows[fold[rows] != f] for f in range(n_folds)), rows]
    predictions = tuple(
        predictor.fit(features[part], heads[part], one)
        for part, one in zip(parts, jax.random.split(key, len(parts)), strict=True)
    )
    missed = heads[rows] - _expected(predictions, features[rows], fold[rows])
    missed = missed[:, : m + k].astype(np.float64)
    needs = design.needs[design.needs.any(1)]
    single = needs.sum(1) == 1
    normals = [_normal(missed[fold[rows] != f], single, shrinkage) for f in range(n_folds + 1)]
    return JointFit(
        predictions=predictions,
        normal=Normal(*(np.stack(of).astype(np.float32) for of in zip(*normals, strict=True))),
        needs=needs,
        least_cost=(_LEAST_COST * mean_rows(cost, rows)).astype(np.float32),
    )


def _parts(design: Design) -> tuple[Float[np.ndarray, "N F"], Float[np.ndarray, "N M"]]:
    """The features, without the constant, and the signals."""
    signal = design.needs.any(1)
    constant = np.arange(design.needs.shape[0]) == 0
    return design.seen[:, ~signal & ~constant], design.seen[:, signal]


def _expected(
    predictions: tuple[Prediction, ...],
    features: Float[np.ndarray, "n F"],
    fold: Int[np.ndarray, " n"],
) -> Float[np.ndarray, "n H"]:
    """What each row's own prediction expects of it."""
    parts = [np.flatnonzero(fold == f) for f in range(len(predictions))]
    found = [
        np.asarray(one.predict(features[part]))
        for one, part in zip(predictions, parts, strict=True)
    ]
    expected = np.empty((len(features), found[0].shape[1]), np.float32)
    for part, one in zip(parts, found, strict=True):
        expected[part] = one
    return expected


def _normal(
    missed: Float[np.ndarray, "n P"], single: Bool[np.ndarray, " M"], method: str
) -> tuple[Float[np.ndarray, " M"], Float[np.ndarray, "P P"], float, float]:
    """Of `Normal`, what belongs to one fold: of M signals, then the qualities."""
    m = len(single)
    spread = np.sqrt(np.square(missed).mean(0))
    least = np.where(np.arange(missed.shape[1]) < m, _LEAST_SPREAD, 0)
    divisor = np.where(spread > 0, np.maximum(spread, least), 1)
    standard = missed / divisor
    share, distrust = shrinkage_of(standard, single, method)
    target = np.ones(missed.shape[1])
    target[:m][single] = distrust
    correlation = (1 - share) * (standard.T @ standard) / max(len(standard), 1)
    # Less is believed of a signal as of one with noise added to it: still a normal. So is a signal
    # that misses by less than the least spread filled up to a variance of 1.
    correlation += np.diag(share * target + 1 - np.square(standard).mean(0))
    unit = np.concatenate([np.ones(m), spread[m:]])
    return divisor[:m], correlation * unit * unit[:, None], share, distrust


def shrinkage_of(
    standard: Float[np.ndarray, "n P"], single: Bool[np.ndarray, " M"], method: str
) -> tuple[float, float]:
    """The share by which correlations are shrunk, and how much more those of single models.

    Args:
        standard: `[n, P]` M signals, then the qualities, with mean square 1, or less of signals
            that hardly miss.
        single: `[M]` signals that need one model alone.
        method: one of `SHRINKAGES`.
    """
    n, p = standard.shape
    if method == "none":
        return 0.0, 1.0
    if method == "held-out":
        return _held_out_shares(standard, single)
    # Ledoit and Wolf: the variance of the products over their distance from the target.
    products = standard.T @ standard / n
    squared = np.square(products).sum()
    away = squared - np.trace(products) ** 2 / p
    noise = (np.square(np.square(standard).sum(1)).sum() / n - squared) / n
    return (float(np.clip(noise / away, 0, 1)) if away > 0 else 1.0), 1.0


def _held_out_shares(
    standard: Float[np.ndarray, "n P"], single: Bool[np.ndarray, " M"], folds: int = 5
) -> tuple[float, float]:
    """The shrinkage with which all signals of held-out rows estimate their qualities best."""
    n, m = len(standard), len(single)
    if m == 0 or n < 2 * folds:
        return 1.0, 1.0
    held, shares = np.arange(n) % folds, np.array(_SHARES)[:, None]
    # Where all signals are of one kind, more for that kind is a share of its own.
    distrusts = _DISTRUSTS if single.any() and not single.all() else (1.0,)
    errors = np.zeros((len(distrusts), len(_SHARES)))
    for f in range(folds):
        products = standard[held != f].T @ standard[held != f] / np.count_nonzero(held != f)
        tried = standard[held == f]
        for of, distrust in enumerate(distrusts):
            # In units in which every signal is shrunk alike, and in the basis of the axes of
            # their covariance, each share is a division.
            unit = np.where(single, distrust**-0.5, 1)
            squares, axes = np.linalg.eigh(products[:m, :m] * unit * unit[:, None])
            along, of_quality = (
                tried[:, :m] * unit @ axes,
                axes.T @ (unit[:, None] * products[:m, m:]),
            )
            factors = (1 - shares) / ((1 - shares) * squares.clip(0) + shares + _JITTER)
            for at, factor in enumerate(factors):
                told = along @ (factor[:, None] * of_quality)
                errors[of, at] += np.square(tried[:, m:] - told).sum()
    of, at = np.unravel_index(int(np.argmin(errors)), errors.shape)
    return float(_SHARES[at]), float(distrusts[of])


def _words(run: Bool[Array, "B K"]) -> Int[Array, "B W"]:
    """Run sets as whole numbers, 30 models a number."""
    k = run.shape[1]
    parts = [run[:, at : at + 30] for at in range(0, k, 30)]
    return jnp.stack(
        [part.astype(jnp.int32) @ (1 << jnp.arange(part.shape[1])) for part in parts], 1
    )


def gains_of(
    covariance: Float[np.ndarray, "P P"], shown: Bool[np.ndarray, "S M"], k: int
) -> Float[np.ndarray, "S K M"]:
    """By how much each signal that is shown moves each estimate; 0 for those that are not."""
    m, most = len(covariance) - k, int(shown.sum(1).max(initial=0))
    signals = covariance[:m, :m] + _JITTER * np.eye(m)
    # The shown ones first; where a run set shows fewer than most do, the identity fills up.
    at = np.argsort(~shown, axis=1, kind="stable")[:, :most]
    real = np.take_along_axis(shown, at, 1)
    both = real[:, :, None] & real[:, None, :]
    system = np.where(both, signals[at[:, :, None], at[:, None, :]], np.eye(most))
    solved = np.linalg.solve(system, covariance[:m, m:][at] * real[:, :, None])
    gains = np.zeros((len(shown), k, m))
    np.put_along_axis(gains, at[:, None, :], np.swapaxes(solved, 1, 2), 2)
    return gains


def _conditioned(
    covariance: Float[Array, "S P P"], shown: Bool[Array, "S M"], k: int
) -> tuple[Float[Array, "S K M"], Float[Array, "S K K"]]:
    """Gains as in `gains_of`, and the covariance of the qualities given what is shown.

    By the sweep operator (Goodnight, The American Statistician 1979), one shown signal at a time,
    so that few signals are little work. XLA's own batched solves block its CPU threads where two
    run at a time.
    """
    m, p = shown.shape[1], covariance.shape[-1]
    if m == 0:
        return jnp.zeros((len(shown), k, 0)), covariance
    covariance = covariance + jnp.diag((jnp.arange(p) < m) * jnp.float32(_JITTER))
    order, count = jnp.argsort(~shown, axis=1), shown.sum(1)
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
    return swept[:, m:, :m] * shown[:, None, :], swept[:, m:, m:]
