"""Checks of means and covariances, on the host and before a job; traced values pass unseen."""

from collections.abc import Iterator, Sequence

import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float

from cascjax.errors import CascjaxError

_ROUNDING = 1e-5
"""Share of the largest variance that float32 may have left in a matrix, with room to spare."""

_TINY = np.finfo(np.float64).tiny

_CHECKED = 1 << 18
"""Numbers checked at once: temporaries of a few megabytes, however many the queries."""


def is_diagonal(mean: Array, covariance: Array) -> bool:
    """Return whether a covariance is given as variances rather than matrices."""
    k = mean.shape[-1]
    if covariance.ndim == mean.ndim and covariance.shape[-1] == k:
        return True
    if covariance.ndim == mean.ndim + 1 and covariance.shape[-2:] == (k, k):
        return False
    raise CascjaxError(
        f"mean {mean.shape} needs variances of the same shape or matrices"
        f" {(*mean.shape, k)}, not {covariance.shape}"
    )


def check_numbers(
    what: str,
    values: Float[Array, "*B K"] | Float[np.ndarray, "*B K"],
    least: float,
    way_out: str,
    models: Sequence[str] = (),
) -> None:
    """Refuse numbers that are not finite or below `least`, naming the first query and model."""
    if isinstance(values, Tracer):
        return
    for start, block in _slices(values, 1):
        # Both are False for NaN.
        if block.min() >= least and block.max() < np.inf:
            continue
        row, model = _first(~((block >= least) & (block < np.inf)))
        where = _model(model, models) + _query(start + row, values.shape[:-1])
        raise CascjaxError(f"the {what} of {where} is {block[row, model]:.4g}; {way_out}")


def check_normal(
    mean: Float[Array, "*B K"],
    covariance: Float[Array, "*B K"] | Float[Array, "*B K K"],
    models: Sequence[str] = (),
    where: str = "",
) -> None:
    """Refuse what is no mean or no covariance of a normal, naming the first query and model.

    Eigenvalues may be negative by what float32 rounds off the largest variance. The words `where`
    follow the name of the entry in the message.
    """
    lowest = np.finfo(np.float64).min
    check_numbers("quality mean", mean, lowest, "means must be finite", models)
    if is_diagonal(mean, covariance):
        way_out = "variances must be finite and not negative"
        check_numbers("variance", covariance, 0.0, way_out, models)
    elif not isinstance(covariance, Tracer):
        _check_matrices(covariance, models, where)


def _check_matrices(covariance: Float[Array, "*B K K"], models: Sequence[str], where: str) -> None:
    eye, batch = np.eye(covariance.shape[-1]), covariance.shape[:-2]
    for start, block in _slices(covariance, 2):
        matrix = block.astype(np.float64)
        slack = _ROUNDING * np.diagonal(matrix, axis1=1, axis2=2).max(axis=1).clip(0)
        most = slack[:, None, None]
        with np.errstate(invalid="ignore"):
            apart = abs(matrix - matrix.swapaxes(1, 2)) > most
        for bad, way_out in (
            (~np.isfinite(matrix), "covariances must be finite"),
            ((matrix < -most) & (eye > 0), "variances must not be negative"),
            (apart, "give symmetric matrices"),
        ):
            if bad.any():
                row, i, j = _first(bad)
                what, value = f"variance of {_model(i, models)}", f"{matrix[row, i, j]:.4g}"
                if i != j:
                    what = f"co{what} and {_model(j, models)}"
                    value += f" one way round and {matrix[row, j, i]:.4g} the other"
                raise CascjaxError(
                    f"the {what}{_query(start + row, batch)} is {value}{where}; {way_out}"
                )
        try:
            # Many times faster than eigenvalues; never with 0, where a matrix is all zeros.
            np.linalg.cholesky(matrix + np.maximum(most, _TINY) * eye)
        except np.linalg.LinAlgError:
            lowest = np.linalg.eigvalsh(matrix)[:, 0]
            if (lowest < -slack).any():
                (row,) = _first(lowest < -slack)
                raise CascjaxError(
                    f"the covariance{_query(start + row, batch)} has the eigenvalue"
                    f" {lowest[row]:.4g}, so it is not positive semi-definite{where}; give a"
                    " matrix of the form A A^T, or set such eigenvalues to 0"
                ) from None


def _slices(values: Array | np.ndarray, axes: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield slices of the queries with their start; the last `axes` axes belong to one query."""
    host = np.asarray(values)
    rows = host.reshape(-1, *host.shape[host.ndim - axes :])
    size = max(1, _CHECKED // max(1, rows[:1].size))
    for start in range(0, len(rows), size):
        yield start, rows[start : start + size]


def _first(bad: Bool[np.ndarray, "..."]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(np.argmax(bad), bad.shape))


def _model(index: int, models: Sequence[str]) -> str:
    return f"model {models[index]!r}" if len(models) else f"model {index}"


def _query(row: int, batch: tuple[int, ...]) -> str:
    """Return the words that name a query by its number; none where there is one query."""
    if not batch:
        return ""
    index = tuple(int(i) for i in np.unravel_index(row, batch))
    return f" of query {index[0] if len(index) == 1 else index}"
