"""What is expected of a query before any model runs: ridge, nearest neighbours, a small network.

All predict M numbers, here heads, from F features at once. The features are expected on a common
scale, as a `Design` has them. A predictor is its options; `fit` gives a pytree that predicts. With
no features, or for heads that features tell nothing of, that is about the mean.
"""

import functools
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int

from cascjax.errors import CascjaxError, unknown_name

Features: TypeAlias = Float[Array, "n F"] | Float[np.ndarray, "n F"]
Heads: TypeAlias = Float[Array, "n M"] | Float[np.ndarray, "n M"]

_BLOCK = 256
"""Queries of which distances to all rows are held at once, and rows of a step of training."""


@runtime_checkable
class Prediction(Protocol):
    """A fitted predictor: a pytree."""

    def predict(self, x: Features) -> Float[Array, "n M"]:
        """The M heads of n queries, each from its own features alone."""
        ...


@runtime_checkable
class Predictor(Protocol):
    """The options of a predictor."""

    def fit(self, x: Features, y: Heads, key: Array) -> Prediction:
        """Learn y from x; `key` is all that is random of it."""
        ...


@dataclass(frozen=True)
class Ridge:
    """Linear regression with a penalty of its own for each head.

    The penalty is the one with the least squared error on rows left out one at a time, in closed
    form (Golub, Heath and Wahba, Technometrics 1979): the residual of a row over 1 - its leverage.

    Attributes:
        penalties: the ones to choose from, times the number of rows: of the sum of squared weights
            beside the mean squared error.
    """

    penalties: tuple[float, ...] = tuple(10.0**p for p in np.arange(-4, 3.1, 0.5))

    def fit(self, x: Features, y: Heads, key: Array | None = None) -> "Linear":
        """Fit in float64 on the host; nothing is random."""
        n = _check(x, y)
        features, heads = np.asarray(x, np.float64), np.asarray(y, np.float64)
        middle, mean = features.mean(0), heads.mean(0)
        features, heads = features - middle, heads - mean
        # The smaller of the two matrices of products; either gives the n x r scores in the basis
        # where the penalised problem is diagonal.
        few = features.shape[1] <= n
        squares, basis = np.linalg.eigh(features.T @ features if few else features @ features.T)
        kept = squares > squares[-1:].clip(0) * max(features.shape) * np.finfo(np.float64).eps
        squares, basis = squares[kept], basis[:, kept]
        scores = features @ basis if few else basis * np.sqrt(squares)
        products, leverages = scores.T @ heads, np.square(scores)
        errors = np.empty((len(self.penalties), heads.shape[1]))
        for at, penalty in enumerate(self.penalties):
            shrunk = 1 / (squares + penalty * n)
            left = 1 - 1 / n - leverages @ shrunk
            residual = heads - scores @ (products * shrunk[:, None])
            # A row that alone decides its own prediction says nothing of the error on others.
            residual /= np.maximum(left, 1e-6)[:, None]
            errors[at] = np.square(residual).sum(0)
        # Of equal errors the largest penalty: the simplest.
        best = len(errors) - 1 - np.argmin(errors[::-1], axis=0)
        penalty = np.asarray(self.penalties)[best]
        weights = products / (squares[:, None] + penalty * n)
        back = basis if few else features.T @ (basis / np.sqrt(squares))
        weights = back @ weights
        return Linear(
            weights=weights.astype(np.float32),
            offset=(mean - middle @ weights).astype(np.float32),
            penalty=penalty.astype(np.float32),
        )


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Linear:
    """Weighted sums of the features.

    Attributes:
        weights: `[F, M]`.
        offset: `[M]` the prediction where all features are 0.
        penalty: `[M]` the one chosen for each head.
    """

    weights: Float[Array, "F M"] | Float[np.ndarray, "F M"]
    offset: Float[Array, " M"] | Float[np.ndarray, " M"]
    penalty: Float[Array, " M"] | Float[np.ndarray, " M"]

    def predict(self, x: Features) -> Float[Array, "n M"]:
        """The weighted sums."""
        return _product(jnp.asarray(x), jnp.asarray(self.weights)) + self.offset


@dataclass(frozen=True)
class Neighbours:
    """The mean of the heads over the k rows nearest in features, k chosen for each head.

    The choice is by squared error on rows left out one at a time; the mean of all rows stands
    beside the k to choose from.

    Attributes:
        neighbours: the k to choose from.
        weights: "uniform", or "distance": nearer rows count more, by 1 / distance.
        tried: rows that are left out for the choice, at most.
    """

    neighbours: tuple[int, ...] = (5, 10, 20, 40, 80, 160)
    weights: str = "uniform"
    tried: int = 1 << 12

    def fit(self, x: Features, y: Heads, key: Array) -> "Nearest":
        """Keep the rows, and choose k; random are the rows tried where there are more.

        Raises:
            CascjaxError: weights of no known name, or a k below 1.
        """
        if self.weights not in ("uniform", "distance"):
            raise unknown_name("neighbour weights", self.weights, ("uniform", "distance"))
        if min(self.neighbours, default=1) < 1:
            raise CascjaxError(f"neighbours must be at least 1, not {min(self.neighbours)}")
        n = _check(x, y)
        x, y = jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)
        # One row fewer is left to each of them once it is left out.
        counts = tuple(sorted({k for k in self.neighbours if k < n})) if x.shape[1] else ()
        fitted = Nearest(
            x=x,
            y=y,
            mean=y.mean(0),
            choice=jnp.full(y.shape[1], len(counts)),
            neighbours=counts,
            near_counts_more=self.weights == "distance",
        )
        if not counts:
            return fitted
        rows = jax.random.permutation(key, n)[: self.tried]
        return Nearest(x, y, fitted.mean, _best_of(fitted, rows), counts, fitted.near_counts_more)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Nearest:
    """Rows to look among, and how many of the nearest count.

    Attributes:
        x: `[R, F]` the features of the rows fitted on.
        y: `[R, M]` their heads.
        mean: `[M]` of y.
        choice: `[M]` which of `neighbours` counts for a head; beyond them: the mean of all rows.
        neighbours: numbers of nearest rows, rising.
        near_counts_more: whether rows count by 1 / distance.
    """

    x: Float[Array, "R F"]
    y: Float[Array, "R M"]
    mean: Float[Array, " M"]
    choice: Int[Array, " M"]
    neighbours: tuple[int, ...] = field(metadata={"static": True})
    near_counts_more: bool = field(metadata={"static": True})

    def predict(self, x: Features) -> Float[Array, "n M"]:
        """Means over the nearest rows."""
        if not self.neighbours:
            return jnp.broadcast_to(self.mean, (len(x), len(self.mean)))
        return _nearest_means(self, jnp.asarray(x, jnp.float32))

    def _each(self, x: Float[Array, " F"], own: Int[Array, ""] | None) -> Float[Array, "C M"]:
        """The predictions of one query with each of `neighbours`, then the mean of all rows.

        `own` is the row that the query itself is, left out.
        """
        lengths = jnp.square(self.x).sum(-1)
        squared = jnp.square(x).sum() + lengths - 2 * _product(self.x, x)
        if own is not None:
            squared = jnp.where(jnp.arange(len(lengths)) == own, jnp.inf, squared)
        nearness, nearest = jax.lax.top_k(-squared, self.neighbours[-1])
        heads, weight = self.y[nearest], jnp.ones(self.neighbours[-1])
        if self.near_counts_more:
            # Products in float32 know a squared distance no better than this.
            floor = 1e-6 * (jnp.square(x).sum() + lengths.mean())
            weight = jax.lax.rsqrt(jnp.maximum(-nearness, floor) + jnp.finfo(jnp.float32).tiny)
            weight = weight / weight[0]  # the largest: sums stay finite
        last = jnp.array(self.neighbours) - 1
        total = jnp.cumsum(weight[:, None] * heads, 0)[last]
        mean, n = self.mean, len(self.y)
        if own is not None:
            mean = (mean * n - self.y[own]) / (n - 1)
        return jnp.concatenate([total / jnp.cumsum(weight)[last, None], mean[None]])


@jax.jit
def _nearest_means(fitted: Nearest, x: Float[Array, "n F"]) -> Float[Array, "n M"]:
    """Predictions of all queries, a block at a time."""

    def one(query: Float[Array, " F"]) -> Float[Array, " M"]:
        each = fitted._each(query, None)
        return jnp.take_along_axis(each, fitted.choice[None], 0)[0]

    return jax.lax.map(one, x, batch_size=_BLOCK)


@jax.jit
def _best_of(fitted: Nearest, rows: Int[Array, " r"]) -> Int[Array, " M"]:
    """Which number of neighbours has the least squared error on `rows`, each left out."""

    def errors(row: Int[Array, ""]) -> Float[Array, "C M"]:
        return jnp.square(fitted._each(fitted.x[row], row) - fitted.y[row])

    total = jax.lax.map(errors, rows, batch_size=_BLOCK).sum(0)
    # Of equal errors the largest number: the smoothest.
    return len(total) - 1 - jnp.argmin(total[::-1], axis=0)


@dataclass(frozen=True)
class Network:
    """A network of two hidden layers beside a linear map, all heads in one, a few of them averaged.

    AdamW on squared error, heads on one scale; each member stops by rows of its own that are held
    out, which then say for each head how much of what it predicts beyond the mean to believe.

    Attributes:
        width: units of a hidden layer.
        members: networks that are averaged, each from its own start.
        rate: the learning rate.
        decay: the weight decay.
        held_out: the share of rows that stopping looks at.
        epochs: passes over the rows, at most.
        patience: passes without a lower error on the rows held out, then it stops.
    """

    width: int = 64
    members: int = 4
    rate: float = 2e-3
    decay: float = 1e-2
    held_out: float = 0.2
    epochs: int = 200
    patience: int = 10

    def fit(self, x: Features, y: Heads, key: Array) -> "Networks":
        """Train; random are the start, the rows held out and the order of the rest."""
        n = _check(x, y)
        features, heads = np.asarray(x, np.float64), np.asarray(y, np.float64)
        middle, mean = features.mean(0), heads.mean(0)
        spread, scale = _positive_or_one(features.std(0)), _positive_or_one(heads.std(0))
        features, heads = (features - middle) / spread, (heads - mean) / scale
        # Filled up to whole blocks, so that folds of nearly the same size are one program.
        size = -n % _BLOCK
        features, heads = (np.pad(z, ((0, size), (0, 0))) for z in (features, heads))
        weights, slope = _train(
            self,
            jnp.asarray(features, jnp.float32),
            jnp.asarray(heads, jnp.float32),
            jnp.arange(len(heads)) < n,
            jax.random.split(key, self.members),
        )
        return Networks(
            weights=weights,
            slope=slope,
            middle=jnp.asarray(middle, jnp.float32),
            spread=jnp.asarray(spread, jnp.float32),
            mean=jnp.asarray(mean, jnp.float32),
            scale=jnp.asarray(scale, jnp.float32),
        )


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Networks:
    """Trained networks, E of them.

    Attributes:
        weights: of the layers, each with a leading axis E.
        slope: `[E, M]` 0 to 1, how much of a prediction beyond the mean is believed.
        middle: `[F]` mean of the features.
        spread: `[F]` what the features are divided by.
        mean: `[M]` of the heads.
        scale: `[M]` what the heads were divided by.
    """

    weights: dict[str, Array]
    slope: Float[Array, "E M"]
    middle: Float[Array, " F"]
    spread: Float[Array, " F"]
    mean: Float[Array, " M"]
    scale: Float[Array, " M"]

    def predict(self, x: Features) -> Float[Array, "n M"]:
        """The mean of the networks."""
        return _average(self, jnp.asarray(x, jnp.float32))


@jax.jit
def _average(fitted: Networks, x: Float[Array, "n F"]) -> Float[Array, "n M"]:
    """Predictions of all queries, block by block: the layers are wider than what they tell."""

    def one(query: Float[Array, " F"]) -> Float[Array, " M"]:
        standard = ((query - fitted.middle) / fitted.spread)[None]
        each = jax.vmap(_forward, (0, None))(fitted.weights, standard)[:, 0]
        return fitted.mean + fitted.scale * (fitted.slope * each).mean(0)

    return jax.lax.map(one, x, batch_size=_BLOCK)


def _forward(weights: dict[str, Array], x: Float[Array, "n F"]) -> Float[Array, "n M"]:
    """One network."""
    hidden = jax.nn.gelu(_product(x, weights["first"]) + weights["first bias"])
    hidden = jax.nn.gelu(_product(hidden, weights["second"]) + weights["second bias"])
    return _product(hidden, weights["last"]) + _product(x, weights["linear"]) + weights["bias"]


def _start(key: Array, inputs: int, width: int, outputs: int) -> dict[str, Array]:
    """Weights before training: the hidden layers at random, and a prediction of 0."""
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
    """Weights and slopes of every member; rows that are not `real` are filling."""
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
        predicted, of = _forward(best, x), held[:, None]
        moved = jnp.where(of, jnp.square(predicted), 0).sum(0)
        along = jnp.where(of, predicted * y, 0).sum(0)
        return best, jnp.where(moved > 0, jnp.clip(along / moved, 0, 1), 0)

    return jax.vmap(member)(keys)


PREDICTORS: dict[str, Predictor] = {"ridge": Ridge(), "knn": Neighbours(), "mlp": Network()}
"""Predictors by name."""


def _check(x: Features, y: Heads) -> int:
    """The number of rows, refused where there is none."""
    if not len(x):
        raise CascjaxError("a predictor needs at least one row to fit on; the fit split has none")
    return len(x)


def _positive_or_one(spread: Float[np.ndarray, " F"]) -> Float[np.ndarray, " F"]:
    """The spread, or 1 where nothing varies."""
    return np.where(spread > 0, spread, 1)


def _product(a: Array, b: Array) -> Array:
    """The matrix product in full float32: an accelerator's default has three digits."""
    return jnp.matmul(a, b, precision="highest")
