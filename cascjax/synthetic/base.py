"""What all synthetic datasets share: rows drawn in blocks, and checks of arguments."""

import math
from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import jax
import numpy as np

from cascjax.data.table import Table
from cascjax.errors import CascjaxError

BLOCK = 1 << 14
"""Rows that share a random generator; part of the format, since another value changes all rows."""

FIRST_TOKEN_SPREAD = 0.5  # Standard deviation of the logarithm of the time to the first token


@runtime_checkable
class Dataset(Protocol):
    """A synthetic dataset: models whose quality and cost on random queries are known exactly."""

    def block(self, seed: int, index: int, features: bool, seconds: bool) -> Table:
        """Return rows `index * BLOCK` to `(index + 1) * BLOCK` of the queries of a seed."""
        ...


def sample(
    dataset: Dataset, seed: int, n: int, *, features: bool = False, seconds: bool = False
) -> Table:
    """Return the first queries of a seed as one table.

    Args:
      dataset: Dataset to draw from.
      seed: Seed of the queries, at least 0.
      n: Number of queries N, at least 1.
      features: Add the columns `features` `[N, F]` and `signals` `[N, K * P]`.
      seconds: Add the extra cost "seconds" `[N, K]`, the time that an answer takes.

    Returns:
      Table in float32, with costs in the dataset's unit.

    Raises:
      CascjaxError: An argument is out of range.

    Example:
      >>> from cascjax import synthetic
      >>> dataset = synthetic.make_dataset(n_models=3, seed=0)
      >>> synthetic.sample(dataset, seed=0, n=1000).n_queries
      1000
    """
    return next(batches(dataset, n, seed, n, features=features, seconds=seconds))


def batches(
    dataset: Dataset,
    n: int,
    seed: int,
    batch: int = 1 << 17,
    *,
    features: bool = False,
    seconds: bool = False,
) -> Iterator[Table]:
    """Yield the first queries of a seed in tables of `batch` rows.

    The rows do not depend on the batch size; memory grows with the batch size and not with `n`.

    Args:
      dataset: Dataset to draw from.
      n: Number of queries N, at least 1.
      seed: Seed of the queries, at least 0.
      batch: Rows per table, at least 1; the last table may be shorter.
      features: As `sample`.
      seconds: As `sample`.

    Raises:
      CascjaxError: An argument is out of range.

    Example:
      >>> from cascjax import synthetic
      >>> dataset = synthetic.make_dataset(n_models=3, seed=0)
      >>> [table.n_queries for table in synthetic.batches(dataset, n=1000, seed=0, batch=400)]
      [400, 400, 200]
    """
    n, seed, batch = count("n", n, 1), count("seed", seed, 0), count("batch", batch, 1)

    def tables() -> Iterator[Table]:
        drawn, block = -1, None
        for start in range(0, n, batch):
            stop, parts = min(start + batch, n), []
            for index in range(start // BLOCK, -(-stop // BLOCK)):
                if index != drawn:  # the last block of a batch may be the first of the next
                    drawn, block = index, dataset.block(seed, index, features, seconds)
                first = index * BLOCK
                rows = slice(max(start - first, 0), stop - first)
                parts.append(jax.tree.map(lambda column, rows=rows: column[rows], block))
            yield jax.tree.map(lambda *columns: np.concatenate(columns), *parts)

    return tables()


def lognormal(mean: float | np.ndarray, log: np.ndarray, spread: float | np.ndarray) -> np.ndarray:
    """Return lognormal values of the given mean, from a centred Gaussian `log` of that spread."""
    return mean * np.exp(log - spread**2 / 2)


def model_names(n_models: int, stem: str = "model") -> tuple[str, ...]:
    """Return names that sort in order of their numbers: model-01, model-02, ..."""
    return tuple(f"{stem}-{k:0{len(str(n_models))}d}" for k in range(1, n_models + 1))


def sizes(n_models: int, seed: int) -> tuple[int, np.random.Generator]:
    """Return K and a generator, from checked arguments of `make_dataset`."""
    return count("n_models", n_models, 2), np.random.default_rng(count("seed", seed, 0))


def count(name: str, value: int, least: int) -> int:
    """Return the whole number `value`, or raise an error that names the argument."""
    if not isinstance(value, int | np.integer) or value < least:
        raise CascjaxError(f"{name} must be a whole number of at least {least}, not {value!r}")
    return int(value)


def positive(name: str, value: float, zero: bool = False) -> None:
    """Raise an error that names the argument unless `value` is finite and above 0 (or is 0)."""
    if not math.isfinite(value) or value < 0 or (value == 0 and not zero):
        bound = "at least 0" if zero else "above 0"
        raise CascjaxError(f"{name} must be finite and {bound}, not {value!r}")
