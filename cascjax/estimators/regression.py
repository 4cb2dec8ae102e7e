"""Linear and logistic regressions of every model's quality under every run set, in one batch.

A run set only hides columns, so all regressions share one matrix X `[N, D]`: their margins are one
product X W, and their gradients another with the transpose. Logistic regressions are fitted by
L-BFGS (Liu and Nocedal, "On the limited memory BFGS method", 1989), all in the same passes over the
rows, each preconditioned with its own Hessian on about a thousand rows. These rows are drawn with a
probability that grows with leverage (Drineas et al., "Fast approximation of matrix coherence and
statistical leverage", 2012), so that columns that few rows determine are not missed; Newton's
method on them gives the start.

optax.lbfgs under vmap is not used, because it is more than 20 times slower. From the same start, on
2 cores, 256 run sets x 8 models on 1,500 rows x 35 columns take it 12 s until steps are below 1e-3
and 70 s until they are below 1e-4, against 0.55 s until 1e-4 here: up to 19 iterations with line
searches, where 5 passes suffice.
"""

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from scipy.special import logit

TOLERANCE = 1e-4  # Step in any coefficient below which a regression has converged

_SPARE = 8
"""L-BFGS leaves the last 1 in 8 regressions to Newton's method, as passes for few are wasteful."""

_TOGETHER = 16  # Regressions that take Newton steps at once

_MEMORY = 4
_SAMPLED, _SAMPLED_PER_COLUMN = 1024, 24
"""Rows that Hessians are computed on: at least so many, and at least so many per column."""

_SAMPLED_STEPS, _SAMPLED_TOLERANCE = 8, 0.2
"""Newton steps on the sampled rows, whose optimum is a few tenths off in any case."""

_OVERSHOT = 0.25
"""Slope at the end of a step, relative to the slope at its start, above which it was too long."""

_MIN_BLOCK = 256  # Fewest rows of a block

_product = functools.partial(jnp.matmul, precision="highest")


@dataclass(frozen=True)
class Regressions:
    """Weights of all regressions: fitted without each of the G folds, or once on all rows."""

    weights: Float[np.ndarray, "G S K D"]
    passes: int = 0  # passes over the rows, the most of any fit; 0 for a closed form
    remaining: float = 0.0  # largest step still to go, in any coefficient
    unfinished: int = 0  # number of regressions whose step is above `TOLERANCE`


@dataclass(frozen=True)
class Blocks:
    """Rows to fit on, cut into blocks of one size, each with rows of one fold."""

    columns: tuple[Float[Array, "D R"], ...]
    target: tuple[Float[Array, "K R"], ...]  # targets of each block
    fold: tuple[int, ...]  # fold of each block
    n_rows: int  # number of rows
    n_folds: int  # F; 1 without folds

    @classmethod
    def cut(
        cls,
        columns: Float[np.ndarray, "n D"],
        target: Float[np.ndarray, "n K"],
        fold: Int[np.ndarray, " n"] | None = None,
        *,
        n_sets: int = 1,
        block_floats: int | None = None,
    ) -> "Blocks":
        """Return the rows in blocks."""
        n, k = target.shape
        fold = np.zeros(n, np.int64) if fold is None else fold
        if block_floats is None:
            block_floats = 1 << (18 if jax.default_backend() == "cpu" else 28)
        room = max(_MIN_BLOCK, block_floats // (n_sets * k))
        largest = int(np.bincount(fold).max())
        size = -(-largest // -(-largest // room))
        size = -(-size // 64) * 64  # whole vectors
        blocks, targets, folds = [], [], []
        for f in range(int(fold.max()) + 1):
            rows = np.flatnonzero(fold == f)
            for start in range(0, len(rows), size):
                part = rows[start : start + size]
                filled = ((0, 0), (0, size - len(part)))
                blocks.append(jnp.asarray(np.pad(columns[part].T.astype(np.float32), filled)))
                targets.append(jnp.asarray(np.pad(target[part].T.astype(np.float32), filled)))
                folds.append(f)
        return cls(tuple(blocks), tuple(targets), tuple(folds), n, int(fold.max()) + 1)

    def without(self, fold: int) -> "Blocks":
        """Return the blocks of all other folds."""
        rest = [b for b, f in enumerate(self.fold) if f != fold]
        columns, target = (tuple(x[b] for b in rest) for x in (self.columns, self.target))
        n_rows = sum(int(np.asarray(x[0]).sum()) for x in columns)  # the first column is 1
        return Blocks(columns, target, tuple(self.fold[b] for b in rest), n_rows, self.n_folds)

    def sum(
        self, kernel: Callable[[int, Array, Array], tuple[Array, ...]]
    ) -> tuple[np.ndarray, ...]:
        """Return float64 sums of what a kernel returns for each fold, columns and targets.

        Blocks run on all cores, and are added up in their order.
        """
        workers = (os.cpu_count() or 1) if jax.default_backend() == "cpu" else 2
        with ThreadPoolExecutor(workers) as pool:
            parts = pool.map(
                lambda block: jax.block_until_ready(kernel(*block)),
                zip(self.fold, self.columns, self.target, strict=True),
            )
            total: list[np.ndarray] = []
            for part in parts:
                terms = [np.asarray(x, np.float64) for x in part]
                total = [a + b for a, b in zip(total, terms, strict=True)] if total else terms
        return tuple(total)


def _penalty(n_columns: int, ridge: float) -> Float[np.ndarray, " D"]:
    """Return the penalty of each squared weight; 0 for the first, the intercept."""
    return np.where(np.arange(n_columns) > 0, ridge, 0.0)


def fit_linear(
    blocks: Blocks, visible: Bool[np.ndarray, "S D"], *, ridge: float = 1.0, folds: bool = True
) -> Regressions:
    """Return ridge regressions, which minimise sum of squares + ridge * |weights|^2.

    They equal scikit-learn's `Ridge(alpha=ridge)`; the intercept is not penalised. One Gram matrix
    serves all.
    """
    d, k = blocks.columns[0].shape[0], blocks.target[0].shape[0]
    # In float64: regressing costs on costs leaves few digits to float32.
    gram, moment = np.zeros((blocks.n_folds, d, d)), np.zeros((blocks.n_folds, d, k))
    for f, x, y in zip(blocks.fold, blocks.columns, blocks.target, strict=True):
        x64 = np.asarray(x, np.float64)
        gram[f] += x64 @ x64.T
        moment[f] += x64 @ np.asarray(y, np.float64).T
    both = visible[:, :, None] & visible[:, None, :]
    weights = []
    for f in range(blocks.n_folds) if folds else [-1]:
        rest = np.arange(blocks.n_folds) != f
        system = gram[rest].sum(0) + np.diag(_penalty(d, ridge))
        right = visible[:, :, None] * moment[rest].sum(0)
        solved = np.linalg.solve(np.where(both, system, np.eye(d)), right)
        weights.append(np.moveaxis(solved, 1, 2))
    return Regressions(np.stack(weights))


def fit_logistic(
    blocks: Blocks,
    visible: Bool[np.ndarray, "S D"],
    *,
    ridge: float = 1.0,
    folds: bool = True,
    max_passes: tuple[int, int] = (10, 30),
    chunk_bytes: int = 1 << 28,
) -> Regressions:
    """Return logistic regressions, which minimise cross-entropy + ridge/2 * |weights|^2.

    They equal scikit-learn's `LogisticRegression(C=1/ridge)`; the intercept is not penalised.
    Targets between 0 and 1 are shares (fractional response, Papke and Wooldridge 1996).
    """
    d, k = blocks.columns[0].shape[0], blocks.target[0].shape[0]
    together = max(1, chunk_bytes // (8 * k * d * d))
    together = len(visible) if len(visible) <= together else 1 << (together.bit_length() - 1)
    linear = fit_linear(blocks, visible, ridge=ridge, folds=False).weights[0]
    sample, pull = _sample_rows(blocks, ridge), _penalty(d, ridge)
    weights, searches = [], []
    for start in range(0, len(visible), together):
        part = slice(start, start + together)
        search = functools.partial(_search, visible=visible[part], pull=pull, max_passes=max_passes)
        whole = search(blocks, *_start(*sample, linear[part], visible[part], pull))
        rest = [blocks.without(f) for f in range(blocks.n_folds if folds else 0)]
        fits = [search(b, whole.weights, whole.inverse * (blocks.n_rows / b.n_rows)) for b in rest]
        fits = fits or [whole]
        weights.append(np.stack([fit.weights for fit in fits]))
        searches += fits
    return Regressions(
        np.concatenate(weights, 1),
        max(fit.passes for fit in searches),
        max(float(fit.step.max()) for fit in searches),
        sum(int(np.count_nonzero(fit.step > TOLERANCE)) for fit in searches),
    )


def _sample_rows(
    blocks: Blocks, ridge: float
) -> tuple[Float[Array, "D n"], Float[Array, "K n"], Float[Array, " n"], Float[np.ndarray, " K"]]:
    """Return columns, targets and weights of sampled rows, and the mean of each target.

    Weighted sums over the sampled rows estimate sums over all rows.
    """
    d, n = blocks.columns[0].shape[0], blocks.n_rows
    x = np.concatenate([np.asarray(block) for block in blocks.columns], 1)
    y = np.concatenate([np.asarray(block) for block in blocks.target], 1)
    real = x[0] > 0
    x, y = x[:, real], y[:, real]
    wanted, share = max(_SAMPLED, _SAMPLED_PER_COLUMN * d), np.ones(n)
    if wanted < n:
        gram = x.astype(np.float64) @ x.T.astype(np.float64) + np.diag(_penalty(d, ridge))
        leverage = np.sum(x * (np.linalg.inv(gram).astype(np.float32) @ x), 0, np.float64)
        share = np.minimum(1, wanted * (0.5 / n + 0.5 * leverage / leverage.sum()))
    # Filled up to a size that does not vary from draw to draw: one program to compile.
    size = min(n, wanted) if wanted >= n else wanted + wanted // 8
    drawn = np.flatnonzero(np.random.default_rng(0).random(n) < share)[:size]
    weight = np.zeros(size, np.float32)
    weight[: len(drawn)] = 1 / share[drawn]
    rows = np.concatenate([drawn, np.zeros(size - len(drawn), np.int64)])
    return jnp.asarray(x[:, rows]), jnp.asarray(y[:, rows]), jnp.asarray(weight), y.mean(1)


def _start(
    x: Float[Array, "D n"],
    y: Float[Array, "K n"],
    weight: Float[Array, " n"],
    mean: Float[np.ndarray, " K"],
    linear: Float[np.ndarray, "S K D"],
    visible: Bool[np.ndarray, "S D"],
    pull: Float[np.ndarray, " D"],
) -> tuple[Float[np.ndarray, "S K D"], Float[np.ndarray, "S K D D"]]:
    """Return weights near the optimum, and inverse Hessians near them, from sampled rows."""
    # The linear fit in units of margin. It is too short where much is explained, and Newton's
    # method is safe from there, but not from too far out.
    start = linear / (mean * (1 - mean))[:, None]
    start[:, :, 0] = logit(mean)
    s, k, d = start.shape
    model = jnp.asarray(np.tile(np.arange(k), s))
    newton = _Newton(
        lambda w: _curvature(x, y, weight, model, w), np.repeat(visible, k, axis=0), pull
    )
    flat = start.reshape(-1, d)
    weights, *_ = _descend(newton, flat, _SAMPLED_STEPS, _SAMPLED_TOLERANCE, len(flat) // _SPARE)
    return weights.reshape(start.shape), np.linalg.inv(newton.hessian).reshape(s, k, d, d)


class _Newton:
    """Newton's method for M regressions, with the Hessians at the weights last evaluated."""

    def __init__(
        self,
        sums: Callable[[Array], tuple[Array | np.ndarray, ...]],
        visible: Bool[np.ndarray, "M D"],
        pull: Float[np.ndarray, " D"],
    ):
        self.sums, self.visible, self.pull = sums, visible, pull
        self.hessian = np.zeros(0)

    def gradient(self, w: Float[np.ndarray, "M D"]) -> Float[np.ndarray, "M D"]:
        sums = self.sums(jnp.asarray(w, jnp.float32))
        gradient, curvature = (np.asarray(x, np.float64) for x in sums)
        hessian = curvature + np.diag(self.pull)
        # Where all is certain in float32, the intercept has no curvature left.
        hessian[:, 0, 0] *= 1 + 1e-6
        hessian[:, 0, 0] += 1e-6
        both = self.visible[:, :, None] & self.visible[:, None, :]
        self.hessian = np.where(both, hessian, np.eye(len(self.pull)))
        return (gradient + self.pull * w) * self.visible

    def step(self, gradient: np.ndarray, moved: np.ndarray, changed: np.ndarray) -> np.ndarray:
        return np.linalg.solve(self.hessian, gradient[..., None])[..., 0]


class _Lbfgs:
    """L-BFGS for M regressions, whose inverse Hessians start as given."""

    def __init__(
        self,
        gradient: Callable[[Float[np.ndarray, "M D"]], Float[np.ndarray, "M D"]],
        inverse: Float[np.ndarray, "M D D"],
    ):
        self.gradient, self.inverse = gradient, inverse
        self.history: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def step(self, gradient: np.ndarray, moved: np.ndarray, changed: np.ndarray) -> np.ndarray:
        along = np.sum(moved * changed, -1, keepdims=True)
        if (along > 0).any():
            scale = np.where(along > 0, 1 / np.where(along > 0, along, 1), 0)
            self.history = [*self.history, (moved, changed, scale)][-_MEMORY:]
        step, shares = gradient, []
        for moved, changed, scale in reversed(self.history):
            shares.append(scale * np.sum(moved * step, -1, keepdims=True))
            step = step - shares[-1] * changed
        step = np.matmul(self.inverse, step[..., None])[..., 0]
        for (moved, changed, scale), share in zip(self.history, reversed(shares), strict=True):
            step = step + moved * (share - scale * np.sum(changed * step, -1, keepdims=True))
        return step


def _descend(
    method: _Newton | _Lbfgs,
    w: Float[np.ndarray, "M D"],
    max_passes: int,
    tolerance: float,
    spare: int = 0,
) -> tuple[Float[np.ndarray, "M D"], Float[np.ndarray, " M"], Bool[np.ndarray, " M"], int]:
    """Minimise M convex functions, each by itself, but all in the same passes over the rows.

    A step at whose end the function clearly rises again is cut to where its slope would be 0. For
    convex functions slopes suffice for that, so that their values are never computed.
    """
    gradient, nothing = method.gradient(w), np.zeros_like(w)
    step = method.step(gradient, nothing, nothing)
    length, last = np.ones(len(w)), np.full(len(w), np.inf)
    active, passes = np.ones(len(w), bool), 1
    while True:
        ahead = np.where(active, length, 0)[:, None] * step
        last = np.where(active, np.abs(ahead).max(-1), last)
        trial, ends = w - ahead, active & (last <= tolerance)
        # So short a step is taken without evaluating its end, and is the last.
        w, active = np.where(ends[:, None], trial, w), active & ~ends
        if np.count_nonzero(active) <= spare or passes >= max_passes:
            return w, last, active, passes
        new = method.gradient(trial)
        passes += 1
        before, after = np.sum(gradient * step, -1), np.sum(new * step, -1)
        good = after >= -_OVERSHOT * before
        cut = before / np.where(good, 1, before - after)
        far = (active & good)[:, None]
        moved, changed = np.where(far, trial - w, 0), np.where(far, new - gradient, 0)
        w, gradient = w + moved, gradient + changed
        length = np.where(good, 1, length * np.clip(cut, 0.05, 0.9))
        step = np.where(good[:, None], method.step(gradient, moved, changed), step)


class _Search(NamedTuple):
    """Regressions fitted on some rows: weights, inverse Hessians, last steps and passes."""

    weights: Float[np.ndarray, "S K D"]
    inverse: Float[np.ndarray, "S K D D"]
    step: Float[np.ndarray, " M"]
    passes: int


def _search(
    blocks: Blocks,
    start: Float[np.ndarray, "S K D"],
    inverse: Float[np.ndarray, "S K D D"],
    visible: Bool[np.ndarray, "S D"],
    pull: Float[np.ndarray, " D"],
    max_passes: tuple[int, int],
) -> _Search:
    """Fit all regressions on all rows, from weights and inverse Hessians near the optimum.

    Newton's method finishes those that L-BFGS does not, as few rows hold their curvature.
    """
    s, k, d = start.shape
    each = np.repeat(visible, k, axis=0)

    def gradient(w: Float[np.ndarray, "M D"]) -> Float[np.ndarray, "M D"]:
        weights = jnp.asarray(w.reshape(s, k, d), jnp.float32)
        (sums,) = blocks.sum(lambda _, x, y: (_gradient(x, y, weights),))
        return (sums.reshape(w.shape) + pull * w) * each

    lbfgs = _Lbfgs(gradient, inverse.reshape(-1, d, d))
    w, last, active, passes = _descend(
        lbfgs, start.reshape(-1, d), max_passes[0], TOLERANCE, len(each) // _SPARE
    )
    left, inverse = np.flatnonzero(active), lbfgs.inverse.copy()
    for begin in range(0, len(left), _TOGETHER):
        batch = left[begin : begin + _TOGETHER]
        filled = np.resize(batch, _TOGETHER)  # always as many: one program to compile
        model = jnp.asarray(filled % k)
        newton = _Newton(
            lambda w, model=model: blocks.sum(lambda _, x, y: _curvature(x, y, x[0], model, w)),
            each[filled],
            pull,
        )
        ended, step, _, more = _descend(newton, w[filled], max_passes[1], TOLERANCE)
        w[batch], last[batch] = ended[: len(batch)], step[: len(batch)]
        inverse[batch] = np.linalg.inv(newton.hessian[: len(batch)])
        passes += more
    return _Search(w.reshape(s, k, d), inverse.reshape(s, k, d, d), last, passes)


@jax.jit
def _gradient(
    x: Float[Array, "D R"], y: Float[Array, "K R"], w: Float[Array, "S K D"]
) -> Float[Array, "S K D"]:
    """Return the gradients of the cross-entropies of a block."""
    flat = w.reshape(-1, w.shape[-1])
    p = jax.nn.sigmoid(_product(flat, x)).reshape(*w.shape[:2], -1)
    return _product((p - y).reshape(len(flat), -1), x.T).reshape(w.shape)


@jax.jit
def _curvature(
    x: Float[Array, "D n"],
    y: Float[Array, "K n"],
    weight: Float[Array, " n"],
    model: Int[Array, " M"],
    w: Float[Array, "M D"],
) -> tuple[Float[Array, "M D"], Float[Array, "M D D"]]:
    """Return gradients and Hessians on weighted rows, of regressions of one model each."""

    def one_regression(each: tuple[Array, Array]) -> tuple[Array, Array]:
        k, w = each
        p = jax.nn.sigmoid(_product(w, x))
        return _product((p - y[k]) * weight, x.T), _product(p * (1 - p) * weight * x, x.T)

    return jax.lax.map(one_regression, (model, w))


def moments(
    blocks: Blocks, weights: Float[np.ndarray, "G S K D"], *, logistic: bool
) -> tuple[Float[np.ndarray, "S K K"], Float[np.ndarray, "S K"]]:
    """Return how far out-of-fold estimates still move, and their errors, on the rows fitted on."""
    by_fold = [jnp.asarray(w, jnp.float32) for w in weights]
    off, product, squared = blocks.sum(lambda f, x, y: _moments(logistic, x, y, by_fold[f]))
    n = blocks.n_rows
    mean = off / n
    covariance = (product - n * mean[:, :, None] * mean[:, None, :]) / max(n - 1, 1)
    return covariance, squared / n


@functools.partial(jax.jit, static_argnums=0)
def _moments(
    logistic: bool, x: Float[Array, "D R"], y: Float[Array, "K R"], w: Float[Array, "S K D"]
) -> tuple[Array, Array, Array]:
    """Return a block's sums of estimates less those under all, their products, squared errors."""
    margin = _product(w.reshape(-1, w.shape[-1]), x).reshape(*w.shape[:2], -1)
    estimate = (jax.nn.sigmoid(margin) if logistic else margin) * x[0]
    off = estimate - estimate[-1]
    return off.sum(-1), _product(off, jnp.swapaxes(off, 1, 2)), jnp.square(estimate - y).sum(-1)
