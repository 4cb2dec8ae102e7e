"""What every synthetic world shares: rows by blocks of a seed, and checks of arguments."""

import math
from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import jax
import numpy as np

from cascjax.data.table import Table
from cascjax.errors import CascjaxError

BLOCK = 1 << 14
"""Rows a stream of random numbers; a constant of the format: another value is another world."""

FIRST_TOKEN_SPREAD = 0.5
"""Standard deviation of the logarithm of the time to the first token: how busy a model is."""


@runtime_checkable
class Drawable(Protocol):
    """A world that tables can be drawn from."""

    def block(self, seed: int, index: int, features: bool, seconds: bool) -> Table:
        """Rows `index * BLOCK` to `(index + 1) * BLOCK` of the queries of `seed`."""
        ...


def sample(
    world: Drawable, seed: int, n: int, *, features: bool = False, seconds: bool = False
) -> Table:
    """The first `n` queries of a seed as one table, float32, costs in `world.cost_unit`.

    Raises:
        CascjaxError: an argument is out of its range.
    """
    return next(batches(world, n, seed, n, features=features, seconds=seconds))


def batches(
    world: Drawable,
    n: int,
    seed: int,
    batch: int = 1 << 17,
    *,
    features: bool = False,
    seconds: bool = False,
) -> Iterator[Table]:
    """The first `n` queries of a seed in tables of `batch` rows, the last one maybe shorter.

    The rows are the same whatever the batch; memory grows with the batch and not with `n`.

    Args:
        world: the models and domains.
        n: N, the number of queries, at least 1.
        seed: picks the queries; no less than 0.
        batch: rows a table, at least 1.
        features: also give the columns `features` `[N, F]` and `signals` `[N, K * P]`.
        seconds: also give the extra cost "seconds" `[N, K]`: how long an answer takes.

    Raises:
        CascjaxError: an argument is out of its range.
    """
    n, seed, batch = count("n", n, 1), count("seed", seed, 0), count("batch", batch, 1)

    def tables() -> Iterator[Table]:
        drawn, block = -1, None
        for start in range(0, n, batch):
            stop, pieces = min(start + batch, n), []
            for index in range(start // BLOCK, -(-stop // BLOCK)):
                if index != drawn:  # the last block of one batch may be the first of the next
                    drawn, block = index, world.block(seed, index, features, seconds)
                first = index * BLOCK
                rows = slice(max(start - first, 0), stop - first)
                pieces.append(jax.tree.map(lambda column, rows=rows: column[rows], block))
            yield jax.tree.map(lambda *columns: np.concatenate(columns), *pieces)

    return tables()


def lognormal(mean: float | np.ndarray, log: np.ndarray, spread: float | np.ndarray) -> np.ndarray:
    """Lognormal values of the given mean, from a centred Gaussian `log` of deviation `spread`."""
    return mean * np.exp(log - spread**2 / 2)


def model_names(n_models: int, stem: str = "model") -> tuple[str, ...]:
    """Names that sort as they count: model-01 and so on."""
    return tuple(f"{stem}-{k:0{len(str(n_models))}d}" for k in range(1, n_models + 1))


def count(name: str, value: int, least: int) -> int:
    """The whole number `value`, or an error that names the argument.

    Raises:
        CascjaxError: it is none, or less than `least`.
    """
    if not isinstance(value, int | np.integer) or value < least:
        raise CascjaxError(f"{name} must be a whole number of at least {least}, not {value!r}")
    return int(value)


def positive(name: str, value: float, zero: bool = False) -> None:
    """Raise an error that names the argument unless `value` is finite and above 0.

    Raises:
        CascjaxError: it is not; `zero` lets 0 pass.
    """
    if not math.isfinite(value) or value < 0 or (value == 0 and not zero):
        bound = "at least 0" if zero else "above 0"
        raise CascjaxError(f"{name} must be finite and {bound}, not {value!r}")
