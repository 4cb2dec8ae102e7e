"""Linear and logistic regressions of every model's quality under every run set, in one batch.

A run set only hides columns, so all regressions share one matrix X `[N, D]`: their margins are one
product X W, their gradients another with the transpose. The logistic ones are found by L-BFGS
(Liu and Nocedal, "On the limited memory BFGS method", 1989), all at once, each preconditioned with
its own Hessian on a thousand rows. Those are drawn with a probability that grows with leverage
(Drineas et al., "Fast approximation of matrix coherence and statistical leverage", 2012), so that
a column few rows tell of is not missed; Newton's method on them gives the start. How many passes
over all rows that takes does not grow with their number.
"""

import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from scipy.special import logit

TOLERANCE = 1e-4
"""Step of the search, in any coefficient, below which it ends."""

_STEPS = 10
"""Passes over all rows before what has not converged is left to Newton's method."""

_SPARE = 8
"""One regression of so many may be left over to it earlier: few steps of many would be wasted."""

_NEWTON_STEPS = 30
_TOGETHER = 16
"""Regressions that take Newton's steps at once."""

_MEMORY = 4
_SAMPLED = 1024
_SAMPLED_A_COLUMN = 24
"""Rows that Hessians are made of: at least so many, and so many a column."""

_SAMPLED_STEPS = 8
_SAMPLED_TOLERANCE = 0.2
"""Newton steps on the rows sampled; what they miss by is a few tenths in any case."""

_OVERSHOT = 0.25
"""Slope at a step's end, as a share of that at its start, above which the step was too long."""

_BLOCK_FLOATS = 1 << 18
_LEAST_BLOCK = 256
"""Rows of a block: its margins stay in a core's cache."""

_CHUNK_BYTES = 1 << 28
"""Bytes the Hessians of run sets fitted together may take."""

Weights: TypeAlias = Float[np.ndarray, "S K D"]


@dataclass(frozen=True)
class Regressions:
    """Weights of all regressions, fitted on all rows and on all but each fold.

    Attributes:
        weights: `[F + 1, S, K, D]` float64; the last without a fold left out. 0 where a run set
            does not show a column.
        passes: passes over the rows that took, the most of any fit; 0 for a closed form.
        remaining: the largest step still to go, in any coefficient of any regression.
        unfinished: regressions, of all `(F + 1) S K`, whose step is above `TOLERANCE`.
    """

    weights: Float[np.ndarray, "G S K D"]
    passes: int = 0
    remaining: float = 0.0
    unfinished: int = 0


@dataclass(frozen=True)
class Blocks:
    """Rows to fit on, in blocks of one size; each block holds rows of one fold alone.

    Attributes:
        seen: a matrix `[D, R]` a block, rows last; 0 in rows that only fill the block up.
        target: a matrix `[K, R]` a block.
        fold: the fold of each block.
        n_rows: rows there are.
        n_folds: F; 1 where there are none.
    """

    seen: tuple[Float[Array, "D R"], ...]
    target: tuple[Float[Array, "K R"], ...]
    fold: tuple[int, ...]
    n_rows: int
    n_folds: int

    @classmethod
    def of(
        cls,
        seen: Float[np.ndarray, "n D"],
        target: Float[np.ndarray, "n K"],
        fold: Int[np.ndarray, " n"] | None = None,
        *,
        n_sets: int = 1,
    ) -> "Blocks":
        """Cuts rows up, by fold; `n_sets` run sets are fitted together."""
        n, k = target.shape
        fold = np.zeros(n, np.int64) if fold is None else fold
        count = np.bincount(fold)
        room = max(_LEAST_BLOCK, _block_floats() // (n_sets * k))
        largest = int(count.max())
        size = -(-largest // -(-largest // room))
        size = -(-size // 64) * 64  # whole vectors
        blocks, targets, folds = [], [], []
        for f in range(len(count)):
            rows = np.flatnonzero(fold == f)
            for start in range(0, len(rows), size):
                cut = rows[start : start + size]
                x = np.zeros((seen.shape[1], size), np.float32)
                y = np.zeros((k, size), np.float32)
                x[:, : len(cut)], y[:, : len(cut)] = seen[cut].T, target[cut].T
                blocks.append(jnp.asarray(x))
                targets.append(jnp.asarray(y))
                folds.append(f)
        return cls(tuple(blocks), tuple(targets), tuple(folds), n, len(count))

    def without(self, fold: int) -> "Blocks":
        """The blocks of all other folds."""
        kept = [b for b, f in enumerate(self.fold) if f != fold]
        seen, target = (tuple(of[b] for b in kept) for of in (self.seen, self.target))
        n_rows = sum(int(np.asarray(x[0]).sum()) for x in seen)  # the first column is 1
        return Blocks(seen, target, tuple(self.fold[b] for b in kept), n_rows, self.n_folds)

    def summed(
        self, kernel: Callable[[int, Array, Array], tuple[Array, ...]]
    ) -> tuple[np.ndarray, ...]:
        """Sums in float64 of what a kernel returns for each block, its fold and its two matrices.

        Blocks go to the cores in parallel, and are added up in their order.
        """
        work = zip(self.fold, self.seen, self.target, strict=True)
        with ThreadPoolExecutor(_workers()) as pool:
            parts = pool.map(lambda one: jax.block_until_ready(kernel(*one)), work)
            total: list[np.ndarray] = []
            for part in parts:
                found = [np.asarray(x, np.float64) for x in part]
                total = [a + b for a, b in zip(total, found, strict=True)] if total else found
        return tuple(total)


def penalty(n_columns: int, ridge: float = 1.0) -> Float[np.ndarray, " D"]:
    """What the square of each weight costs twice; nothing for the first, the intercept."""
    weight = np.full(n_columns, ridge)
    weight[0] = 0
    return weight


# Linear: one Gram matrix serves all.


def fit_linear(
    blocks: Blocks, shown: Bool[np.ndarray, "S D"], *, ridge: float = 1.0, folds: bool = True
) -> Regressions:
    """Ridge regressions, by the normal equations: sum of squares + ridge * |weights|^2.

    As scikit-learn's `Ridge(alpha=ridge)`; the intercept is not penalised.

    Args:
        blocks: rows to fit on, of any number K of targets.
        shown: the columns each run set shows.
        ridge: at least 0.
        folds: whether to fit without each fold too; else weights are `[1, S, K, D]`.
    """
    n_folds = blocks.n_folds if folds else 0
    d, k = blocks.seen[0].shape[0], blocks.target[0].shape[0]
    # In float64: a cost regressed on costs leaves few digits to float32.
    gram, moment = np.zeros((blocks.n_folds, d, d)), np.zeros((blocks.n_folds, d, k))
    for f, x, y in zip(blocks.fold, blocks.seen, blocks.target, strict=True):
        x64 = np.asarray(x, np.float64)
        gram[f] += x64 @ x64.T
        moment[f] += x64 @ np.asarray(y, np.float64).T
    weights = np.zeros((n_folds + 1, len(shown), k, d))
    for f in range(n_folds + 1):
        left = np.arange(blocks.n_folds) != (f if f < n_folds else -1)
        system = _masked(gram[left].sum(0) + np.diag(penalty(d, ridge)), shown)
        right = shown[:, :, None] * moment[left].sum(0)
        weights[f] = np.moveaxis(np.linalg.solve(system, right), 1, 2)
    return Regressions(weights)


def _masked(
    matrix: Float[np.ndarray, "*B D D"], shown: Bool[np.ndarray, "S D"]
) -> Float[np.ndarray, "S *B D D"]:
    """A matrix a run set, that of the identity in what it does not show."""
    d = shown.shape[1]
    both = shown[:, :, None] & shown[:, None, :]
    both = both.reshape(len(shown), *[1] * (matrix.ndim - 2), d, d)
    return np.where(both, matrix, np.eye(d))


# Logistic.


def fit_logistic(
    blocks: Blocks, shown: Bool[np.ndarray, "S D"], *, ridge: float = 1.0, folds: bool = True
) -> Regressions:
    """Logistic regressions: sum of cross-entropies + ridge/2 * |weights|^2.

    As scikit-learn's `LogisticRegression(C=1/ridge)`; the intercept is not penalised. Targets
    between 0 and 1 are shares (fractional response, Papke and Wooldridge 1996).

    Args:
        blocks: rows to fit on; every target must vary.
        shown: the columns each run set shows.
        ridge: above 0.
        folds: whether to fit without each fold too; else weights are `[1, S, K, D]`.
    """
    n_folds = blocks.n_folds if folds else 0
    d, k = blocks.seen[0].shape[0], blocks.target[0].shape[0]
    together = max(1, _CHUNK_BYTES // (8 * k * d * d))
    together = len(shown) if len(shown) <= together else 1 << (together.bit_length() - 1)
    linear = fit_linear(blocks, shown, ridge=ridge, folds=False).weights[0]
    sample = _Sample.of(blocks, ridge)
    parts: list[Regressions] = []
    for start in range(0, len(shown), together):
        some = shown[start : start + together]
        begun, inverse = sample.newton(linear[start : start + together], some, ridge)
        whole, inverse = _on_all(blocks, some, ridge, begun, inverse)
        found = []
        for f in range(n_folds):
            rest = blocks.without(f)
            scaled = inverse * (blocks.n_rows / rest.n_rows)
            found.append(_on_all(rest, some, ridge, whole.weights[0], scaled)[0])
        found.append(whole)
        parts.append(_joined(found, 0))
    return _joined(parts, 1)


def _joined(parts: Sequence[Regressions], axis: int) -> Regressions:
    return Regressions(
        np.concatenate([part.weights for part in parts], axis),
        max(part.passes for part in parts),
        max(part.remaining for part in parts),
        sum(part.unfinished for part in parts),
    )


@dataclass(frozen=True)
class _Sample:
    """Some rows and what each counts, so that their sums stand for those of all."""

    seen: Float[Array, "D n"]
    target: Float[Array, "K n"]
    weight: Float[Array, " n"]
    mean: Float[np.ndarray, " K"]

    @classmethod
    def of(cls, blocks: Blocks, ridge: float) -> "_Sample":
        d, n = blocks.seen[0].shape[0], blocks.n_rows
        x = np.concatenate([np.asarray(block) for block in blocks.seen], 1)
        y = np.concatenate([np.asarray(block) for block in blocks.target], 1)
        real = x[0] > 0
        x, y = x[:, real], y[:, real]
        wanted = max(_SAMPLED, _SAMPLED_A_COLUMN * d)
        share = np.ones(n)
        if wanted < n:
            gram = x.astype(np.float64) @ x.T.astype(np.float64) + np.diag(penalty(d, ridge))
            leverage = np.sum(x * (np.linalg.inv(gram).astype(np.float32) @ x), 0, np.float64)
            share = np.minimum(1, wanted * (0.5 / n + 0.5 * leverage / leverage.sum()))
        drawn = np.flatnonzero(np.random.default_rng(0).random(n) < share)
        # Filled up to a size that does not vary from draw to draw: one program to compile.
        size = min(n, wanted) if wanted >= n else wanted + wanted // 8
        drawn = drawn[:size]
        weight = np.zeros(size, np.float32)
        weight[: len(drawn)] = 1 / share[drawn]
        filled = np.concatenate([drawn, np.zeros(size - len(drawn), np.int64)])
        return cls(
            jnp.asarray(x[:, filled]), jnp.asarray(y[:, filled]), jnp.asarray(weight), y.mean(1)
        )

    def newton(
        self, linear: Weights, shown: Bool[np.ndarray, "S D"], ridge: float
    ) -> tuple[Weights, Float[np.ndarray, "S K D D"]]:
        """Weights about right, and the inverse Hessians near them."""
        # The linear fit in units of margin: too short where much is explained. Newton's steps are
        # safe from there, where from too far out they are not.
        start = linear / (self.mean * (1 - self.mean))[:, None]
        start[:, :, 0] = logit(self.mean)
        k, d = start.shape[1:]
        each = np.repeat(shown, k, axis=0)
        of = jnp.asarray(np.tile(np.arange(k), len(shown)))
        curved = _Curved(
            lambda w: _curved(self.seen, self.target, self.weight, of, w), each, penalty(d, ridge)
        )
        spare = len(each) // _SPARE
        went = _descend(
            curved.slope, curved.step, start.reshape(-1, d), _SAMPLED_STEPS, _SAMPLED_TOLERANCE,
            spare,
        )  # fmt: skip
        inverse = np.linalg.inv(curved.hessian)
        return went.weights.reshape(start.shape), inverse.reshape(*start.shape, d)


class _Curved:
    """Newton's steps for M regressions, whose Hessians are those at the weights last looked at."""

    def __init__(
        self,
        sums: Callable[[Array], Sequence[Array | np.ndarray]],
        shown: Bool[np.ndarray, "M D"],
        pull: Float[np.ndarray, " D"],
    ):
        self.sums, self.shown, self.pull = sums, shown, pull
        self.hessian = np.zeros(0)

    def slope(self, w: Float[np.ndarray, "M D"]) -> Float[np.ndarray, "M D"]:
        gradient, curved = (
            np.asarray(x, np.float64) for x in self.sums(jnp.asarray(w, jnp.float32))
        )
        both = self.shown[:, :, None] & self.shown[:, None, :]
        hessian = curved + np.diag(self.pull)
        # Where all is certain in float32, the intercept has no curvature left.
        hessian[:, 0, 0] *= 1 + 1e-6
        hessian[:, 0, 0] += 1e-6
        self.hessian = np.where(both, hessian, np.eye(len(self.pull)))
        return (gradient + self.pull * w) * self.shown

    def step(self, gradient: np.ndarray, moved: np.ndarray, changed: np.ndarray) -> np.ndarray:
        return np.linalg.solve(self.hessian, gradient[..., None])[..., 0]


@dataclass(frozen=True)
class _Descent:
    """Where M searches ended.

    Attributes:
        weights: `[M, D]`.
        last: `[M]` largest coefficient of the last step.
        active: `[M]` whether that was not yet small.
        passes: gradients looked at.
    """

    weights: Float[np.ndarray, "M D"]
    last: Float[np.ndarray, " M"]
    active: Bool[np.ndarray, " M"]
    passes: int


def _descend(
    slope: Callable[[np.ndarray], np.ndarray],
    direction: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray],
    start: Float[np.ndarray, "M D"],
    steps: int,
    tolerance: float,
    spare: int = 0,
) -> _Descent:
    """Goes down M convex valleys, each by itself, but all in the same passes over the rows.

    A step that ends where the valley clearly rises again is cut to where the slope along it would
    be none. Of a convex function slopes tell all of that: no value of it is ever asked for.

    Args:
        slope: the gradients at some weights.
        direction: what to take off the weights, from the gradients, and by how much weights and
            gradients moved since the last; zeros where a step was cut.
        start: where to begin.
        steps: gradients to look at, at most.
        tolerance: largest step that is the last.
        spare: how many may be left over.
    """
    w, gradient = start, slope(start)
    nothing = np.zeros_like(start)
    step = direction(gradient, nothing, nothing)
    length, last = np.ones(len(start)), np.full(len(start), np.inf)
    active, passes = np.ones(len(start), bool), 1
    while True:
        ahead = np.where(active, length, 0)[:, None] * step
        last = np.where(active, np.abs(ahead).max(-1), last)
        trial, ends = w - ahead, active & (last <= tolerance)
        # So short a step is taken without a look at where it ends, and is the last.
        w, active = np.where(ends[:, None], trial, w), active & ~ends
        if np.count_nonzero(active) <= spare or passes >= steps:
            return _Descent(w, last, active, passes)
        found = slope(trial)
        passes += 1
        before, after = np.sum(gradient * step, -1), np.sum(found * step, -1)
        good = after >= -_OVERSHOT * before
        cut = before / np.where(good, 1, before - after)
        far = (active & good)[:, None]
        moved, changed = np.where(far, trial - w, 0), np.where(far, found - gradient, 0)
        w, gradient = w + moved, gradient + changed
        length = np.where(good, 1, length * np.clip(cut, 0.05, 0.9))
        step = np.where(good[:, None], direction(gradient, moved, changed), step)


class _Lbfgs:
    """Directions of L-BFGS, whose inverse Hessians begin as those given."""

    def __init__(self, inverse: Float[np.ndarray, "M D D"]):
        self.inverse = inverse
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


def _on_all(
    blocks: Blocks,
    shown: Bool[np.ndarray, "S D"],
    ridge: float,
    start: Weights,
    inverse: Float[np.ndarray, "S K D D"],
) -> tuple[Regressions, Float[np.ndarray, "S K D D"]]:
    """All regressions on all rows, from a start and inverse Hessians about right.

    Those that L-BFGS leaves over, as their curvature lies with few rows, get Newton's steps.
    """
    s, k, d = start.shape
    pull, each = penalty(d, ridge), np.repeat(shown, k, axis=0)

    def slope(w: Float[np.ndarray, "M D"]) -> Float[np.ndarray, "M D"]:
        on_device = jnp.asarray(w.reshape(s, k, d), jnp.float32)
        (found,) = blocks.summed(lambda _, x, y: (_gradient(x, y, on_device),))
        return (found.reshape(w.shape) + pull * w) * each

    search = _Lbfgs(inverse.reshape(-1, d, d))
    spare = len(each) // _SPARE
    went = _descend(slope, search.step, start.reshape(-1, d), _STEPS, TOLERANCE, spare)
    weights, last, passes = went.weights, went.last, went.passes
    left = np.flatnonzero(went.active)
    inverse = inverse.reshape(-1, d, d).copy()
    for begin in range(0, len(left), _TOGETHER):
        some = left[begin : begin + _TOGETHER]
        # Always as many at once: one program to compile.
        filled = np.resize(some, _TOGETHER)
        of = jnp.asarray(filled % k)
        curved = _Curved(
            lambda w, of=of: blocks.summed(lambda _, x, y: _curved(x, y, x[0], of, w)),
            each[filled],
            pull,
        )
        then = _descend(curved.slope, curved.step, weights[filled], _NEWTON_STEPS, TOLERANCE)
        weights[some], last[some] = then.weights[: len(some)], then.last[: len(some)]
        inverse[some] = np.linalg.inv(curved.hessian[: len(some)])
        passes += then.passes
    unfinished = int(np.count_nonzero(last > TOLERANCE))
    found = Regressions(weights.reshape(1, s, k, d), passes, float(last.max()), unfinished)
    return found, inverse.reshape(s, k, d, d)


@jax.jit
def _gradient(
    x: Float[Array, "D R"], y: Float[Array, "K R"], w: Float[Array, "S K D"]
) -> Float[Array, "S K D"]:
    """Of the sum of cross-entropies of a block."""
    flat = w.reshape(-1, w.shape[-1])
    p = jax.nn.sigmoid(_product(flat, x)).reshape(*w.shape[:2], -1)
    return _product((p - y).reshape(len(flat), -1), x.T).reshape(w.shape)


@jax.jit
def _curved(
    x: Float[Array, "D n"],
    y: Float[Array, "K n"],
    weight: Float[Array, " n"],
    of: Int[Array, " M"],
    w: Float[Array, "M D"],
) -> tuple[Float[Array, "M D"], Float[Array, "M D D"]]:
    """Gradients and Hessians on weighted rows, of regressions each of one model."""

    def one(each: tuple[Array, Array]) -> tuple[Array, Array]:
        k, w = each
        p = jax.nn.sigmoid(_product(w, x))
        return _product((p - y[k]) * weight, x.T), _product(p * (1 - p) * weight * x, x.T)

    return jax.lax.map(one, (of, w))


def _product(a: Float[Array, "*m n"], b: Float[Array, "n l"]) -> Float[Array, "*m l"]:
    """In float32 also where the hardware would take fewer bits."""
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


# What the estimates move by until every model has run.


@dataclass(frozen=True)
class Moments:
    """What out-of-fold estimates did on the rows fitted on.

    Attributes:
        covariance: `[S, K, K]` of (estimate under a run set) - (estimate under all).
        error: `[S, K]` mean squared error of the estimates.
    """

    covariance: Float[np.ndarray, "S K K"]
    error: Float[np.ndarray, "S K"]


def moments(blocks: Blocks, weights: Float[np.ndarray, "G S K D"], *, logistic: bool) -> Moments:
    """Errors of estimates that were not fitted on the rows they are held to, and how they move.

    Args:
        blocks: the rows, by fold.
        weights: `[F or more, S, K, D]`, of which fold f's rows take the f-th; the last run set is
            that of all models.
        logistic: see `RunSets`.
    """
    of_fold = [jnp.asarray(w, jnp.float32) for w in weights]
    off, product, squared = blocks.summed(lambda f, x, y: _moved(logistic, x, y, of_fold[f]))
    n = blocks.n_rows
    mean = off / n
    covariance = (product - n * mean[:, :, None] * mean[:, None, :]) / max(n - 1, 1)
    return Moments(covariance, squared / n)


@functools.partial(jax.jit, static_argnums=0)
def _moved(
    logistic: bool, x: Float[Array, "D R"], y: Float[Array, "K R"], w: Float[Array, "S K D"]
) -> tuple[Array, Array, Array]:
    """Sums over a block of estimates less those under all, their products, and squared errors."""
    margin = _product(w.reshape(-1, w.shape[-1]), x).reshape(*w.shape[:2], -1)
    estimate = (jax.nn.sigmoid(margin) if logistic else margin) * x[0]
    off = estimate - estimate[-1]
    product = jnp.matmul(off, jnp.swapaxes(off, 1, 2), precision=jax.lax.Precision.HIGHEST)
    return off.sum(-1), product, jnp.square(estimate - y).sum(-1)


def _block_floats() -> int:
    """Numbers the margins of a block may take: a core's cache, or much of an accelerator."""
    return _BLOCK_FLOATS if jax.default_backend() == "cpu" else 1 << 28


def _workers() -> int:
    return (os.cpu_count() or 1) if jax.default_backend() == "cpu" else 2
