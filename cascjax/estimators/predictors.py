"""Predictors of qualities, signals and costs from features: ridge, nearest neighbours, networks.

All predict M numbers, called heads, from F features at once. Features are expected on one scale,
as a `Design` has them. A predictor is its options; `fit` returns a pytree that predicts. Without
features, or for heads that features do not explain, predictions are about the mean.
"""

import functools
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int

from cascjax.errors import CascjaxError

Features: TypeAlias = Float[Array, "n F"] | Float[np.ndarray, "n F"]
Heads: TypeAlias = Float[Array, "n M"] | Float[np.ndarray, "n M"]

_BLOCK = 256
"""Queries whose distances to all rows are computed at once, and rows of a training step."""

_product = functools.partial(jnp.matmul, precision="highest")


@runtime_checkable
class Prediction(Protocol):
    """A fitted predictor: a pytree."""

    def predict(self, x: Features) -> Float[Array, "n M"]:
        """Return the M heads of n queries, each from its own features alone."""
        ...


@runtime_checkable
class Predictor(Protocol):
    """The options of a predictor."""

    def fit(self, x: Features, y: Heads, key: Array) -> Prediction:
        """Learn y from x; `key` is the source of all random numbers."""
        ...


@dataclass(frozen=True)
class Ridge:
    """Linear regression with a penalty for each head.

    The penalty is the one with the lowest squared error on rows left out one at a time, in closed
    form (Golub, Heath and Wahba, Technometrics 1979).
    """

    # Choices, relative to the mean squared error.
    penalties: tuple[float, ...] = tuple(10.0**p for p in np.arange(-4, 3.1, 0.5))

    def fit(self, x: Features, y: Heads, key: Array | None = None) -> "Linear":
        """Fit in float64 on the host; nothing is random."""
        from sklearn.linear_model import RidgeCV  # slow to import

        n = _check(x, y)
        features, heads = np.asarray(x, np.float64), np.asarray(y, np.float64)
        weights, offset = np.zeros((x.shape[1], y.shape[1])), heads.mean(0)
        if n > 1 and x.shape[1]:
            # Of equal errors the largest penalty, which is the simplest, so it comes first.
            choices = np.sort(self.penalties)[::-1] * n
            model = RidgeCV(choices, alpha_per_target=True).fit(features, heads)
            weights, offset = np.asarray(model.coef_).T, np.asarray(model.intercept_)
        return Linear(weights.astype(np.float32), offset.astype(np.float32))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Linear:
    """Weighted sums of the features."""

    weights: Float[Array, "F M"] | Float[np.ndarray, "F M"]
    offset: Float[Array, " M"] | Float[np.ndarray, " M"]  # prediction where all features are 0

    def predict(self, x: Features) -> Float[Array, "n M"]:
        """Return the weighted sums."""
        return _product(jnp.asarray(x), jnp.asarray(self.weights)) + self.offset


@dataclass(frozen=True)
class Neighbours:
    """Mean over the k nearest rows, with k chosen for each head.

    The choice is by squared error on rows left out one at a time, among some k and all rows.
    """

    neighbours: tuple[int, ...] = (5, 10, 20, 40, 80, 160)  # choices of k
    max_rows: int = 1 << 12  # most rows that are left out for the choice

    def fit(self, x: Features, y: Heads, key: Array) -> "Nearest":
        """Keep the rows, and choose k on random rows if there are more than `max_rows`."""
        if min(self.neighbours, default=1) < 1:
            raise CascjaxError(f"neighbours must be at least 1, not {min(self.neighbours)}")
        n = _check(x, y)
        x, y = jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)
        # One row fewer is left once a row is left out.
        counts = tuple(sorted({k for k in self.neighbours if k < n})) if x.shape[1] else ()
        choice = jnp.full(y.shape[1], len(counts))
        if counts:
            rows = jax.random.permutation(key, n)[: self.max_rows]
            choice = _choose(Nearest(x, y, y.mean(0), choice, counts), rows)
        return Nearest(x, y, y.mean(0), choice, counts)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Nearest:
    """Rows to search, and how many of the nearest are averaged."""

    x: Float[Array, "R F"]  # features of the rows fitted on
    y: Float[Array, "R M"]  # their heads
    mean: Float[Array, " M"]  # mean of y
    choice: Int[Array, " M"]  # index into `neighbours` of each head; beyond them all rows
    neighbours: tuple[int, ...] = field(metadata={"static": True})

    @jax.jit
    def predict(self, x: Features) -> Float[Array, "n M"]:
        """Return the means over the nearest rows, in blocks of queries."""

        def chosen(query: Float[Array, " F"]) -> Float[Array, " M"]:
            return jnp.take_along_axis(self.candidates(query), self.choice[None], 0)[0]

        return jax.lax.map(chosen, jnp.asarray(x, jnp.float32), batch_size=_BLOCK)

    def candidates(
        self, x: Float[Array, " F"], own: Int[Array, ""] | None = None
    ) -> Float[Array, "C M"]:
        """Return the predictions with each of `neighbours`, then the mean; without row `own`."""
        mean, n = self.mean, len(self.y)
        if own is not None:
            mean = (mean * n - self.y[own]) / (n - 1)
        if not self.neighbours:
            return mean[None]
        lengths = jnp.square(self.x).sum(-1)
        squared = jnp.square(x).sum() + lengths - 2 * _product(self.x, x)
        if own is not None:
            squared = jnp.where(jnp.arange(n) == own, jnp.inf, squared)
        _, nearest = jax.lax.top_k(-squared, self.neighbours[-1])
        counts = jnp.array(self.neighbours)
        total = jnp.cumsum(self.y[nearest], 0)[counts - 1]
        return jnp.concatenate([total / counts[:, None], mean[None]])


@jax.jit
def _choose(fitted: Nearest, rows: Int[Array, " r"]) -> Int[Array, " M"]:
    """Return which number of neighbours has the lowest error on rows, each left out."""

    def errors(row: Int[Array, ""]) -> Float[Array, "C M"]:
        return jnp.square(fitted.candidates(fitted.x[row], row) - fitted.y[row])

    total = jax.lax.map(errors, rows, batch_size=_BLOCK).sum(0)
    # Of equal errors the largest number, which is the smoothest.
    return len(total) - 1 - jnp.argmin(total[::-1], axis=0)


@dataclass(frozen=True)
class Network:
    """Mean of a few networks with two hidden layers and a linear map, for all heads at once.

    They are trained by AdamW on squared error, with heads on one scale. Each stops by rows of its
    own that are held out, which also say for each head how far to shrink predictions to the mean.
    """

    width: int = 64  # units of a hidden layer
    members: int = 4  # number of networks, each from its own start
    rate: float = 2e-3
    decay: float = 1e-2
    held_out: float = 0.2  # share of rows that are held out
    epochs: int = 200  # most passes over the rows
    patience: int = 10  # passes without a lower held-out error before training stops

    def fit(self, x: Features, y: Heads, key: Array) -> "Networks":
        """Train; random are the starts, the rows held out and the order of the rest."""
        n = _check(x, y)
        features, heads = np.asarray(x, np.float64), np.asarray(y, np.float64)
        middle, mean = features.mean(0), heads.mean(0)
        spread, scale = (np.where(z.std(0) > 0, z.std(0), 1) for z in (features, heads))
        # Filled up to whole blocks, so that folds of nearly the same size are one program.
        filled = ((0, -n % _BLOCK), (0, 0))
        weights, slope = _train(
            self,
            jnp.asarray(np.pad((features - middle) / spread, filled), jnp.float32),
            jnp.asarray(np.pad((heads - mean) / scale, filled), jnp.float32),
            jnp.arange(n + filled[0][1]) < n,
            jax.random.split(key, self.members),
        )
        scales = (jnp.asarray(z, jnp.float32) for z in (middle, spread, mean, scale))
        return Networks(weights, slope, *scales)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Networks:
    """Trained networks, E of them."""

    weights: dict[str, Array]  # layers, each with a leading axis E
    slope: Float[Array, "E M"]  # factor from 0 to 1 on predictions relative to the mean
    middle: Float[Array, " F"]  # mean of the features
    spread: Float[Array, " F"]  # divisor of the features
    mean: Float[Array, " M"]  # mean of the heads
    scale: Float[Array, " M"]  # divisor of the heads

    @jax.jit
    def predict(self, x: Features) -> Float[Array, "n M"]:
        """Return the mean of the networks, in blocks of queries, as hidden layers are wide."""

        def one_query(query: Float[Array, " F"]) -> Float[Array, " M"]:
            standard = ((query - self.middle) / self.spread)[None]
            each = jax.vmap(_forward, (0, None))(self.weights, standard)[:, 0]
            return self.mean + self.scale * (self.slope * each).mean(0)

        return jax.lax.map(one_query, jnp.asarray(x, jnp.float32), batch_size=_BLOCK)


def _forward(weights: dict[str, Array], x: Float[Array, "n F"]) -> Float[Array, "n M"]:
    """Return the predictions of one network, on standard scales."""
    hidden = jax.nn.gelu(_product(x, weights["first"]) + weights["first bias"])
    hidden = jax.nn.gelu(_product(hidden, weights["second"]) + weights["second bias"])
    return _product(hidden, weights["last"]) + _product(x, weights["linear"]) + weights["bias"]


def _start(key: Array, inputs: int, width: int, outputs: int) -> dict[str, Array]:
    """Return weights before training: random hidden layers, and a prediction of 0."""
    first, second = jax.random.split(key)
    return {
        "first": jax.random.normal(first, (inputs, width)) * (2 / max(inputs, 1)) ** 0.5,
        "first bias": jnp.zeros(width),
        "second": jax.random.normal(second, (width, width)) * (2 / width) ** 0.5,
        "second bias": jnp.zeros(width),
        "last": jnp.zeros((width, outputs)),
        "linear": jnp.zeros((inputs, outputs)),
        "bias": jnp.zeros(outputs),
    }


@functools.partial(jax.jit, static_argnums=0)
def _train(
    options: Network,
    x: Float[Array, "n F"],
    y: Float[Array, "n M"],
    real: Bool[Array, " n"],
    keys: Array,
) -> tuple[dict[str, Array], Float[Array, "E M"]]:
    """Return weights and slopes of every member; rows that are not `real` only fill up."""
    optimizer = optax.adamw(options.rate, weight_decay=options.decay)
    n = len(x)

    def error(
        weights: dict[str, Array], rows: Int[Array, " r"], counts: Float[Array, " n"]
    ) -> Float[Array, ""]:
        count = counts[rows]
        squared = jnp.square(_forward(weights, x[rows]) - y[rows]).mean(-1)
        return (squared * count).sum() / jnp.maximum(count.sum(), 1)

    def member(key: Array) -> tuple[dict[str, Array], Float[Array, " M"]]:
        key, start, out = jax.random.split(key, 3)
        held = real & (jax.random.uniform(out, (n,)) < options.held_out)
        counts = (real & ~held).astype(jnp.float32)

        def step(state: tuple[Any, Any], rows: Int[Array, " r"]) -> tuple[tuple[Any, Any], None]:
            weights, moments = state
            slopes = jax.grad(error)(weights, rows, counts)
            change, moments = optimizer.update(slopes, moments, weights)
            return (optax.apply_updates(weights, change), moments), None

        def goes_on(state: dict[str, Any]) -> Bool[Array, ""]:
            waited = state["epoch"] - state["best epoch"]
            return (state["epoch"] < options.epochs) & (waited <= options.patience)

        def epoch(state: dict[str, Any]) -> dict[str, Any]:
            order = jax.random.permutation(jax.random.fold_in(key, state["epoch"]), n)
            trained, _ = jax.lax.scan(step, state["trained"], order.reshape(-1, _BLOCK))
            now = error(trained[0], jnp.arange(n), held.astype(jnp.float32))
            better = now < state["least"]
            best = jax.tree.map(
                lambda new, old: jnp.where(better, new, old), trained[0], state["best"]
            )
            return {
                "trained": trained,
                "best": best,
                "least": jnp.minimum(now, state["least"]),
                "epoch": state["epoch"] + 1,
                "best epoch": jnp.where(better, state["epoch"], state["best epoch"]),
            }

        weights = _start(start, x.shape[1], options.width, y.shape[1])
        state = {
            "trained": (weights, optimizer.init(weights)),
            "best": weights,
            "least": jnp.float32(jnp.inf),
            "epoch": jnp.int32(0),
            "best epoch": jnp.int32(0),
        }
        best = jax.lax.while_loop(goes_on, epoch, state)["best"]
        predicted, rows = _forward(best, x), held[:, None]
        moved = jnp.where(rows, jnp.square(predicted), 0).sum(0)
        along = jnp.where(rows, predicted * y, 0).sum(0)
        return best, jnp.where(moved > 0, jnp.clip(along / moved, 0, 1), 0)

    return jax.vmap(member)(keys)


def _check(x: Features, y: Heads) -> int:
    """Return the number of rows, if there is one."""
    if not len(x):
        raise CascjaxError("a predictor needs at least one row to fit on; the fit split has none")
    return len(x)
