"""What lists beside an answer say of it: log-probabilities of tokens, class distributions."""

import json

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int

from cascjax.data.checks import refuse
from cascjax.errors import CascjaxError

LOGPROB_SIGNALS = ("logprob_mean", "logprob_last")
"""Mean and last of the log-probabilities of an answer's tokens."""

CLASS_SIGNALS = ("class_entropy", "class_margin")
"""Entropy in nats of an answer's class distribution, and its highest probability less the next."""

_SUM = 1e-3
"""What probabilities may miss 1 by: they are often written with few digits."""

_SHOWN = 40


def parsed(column: pa.ChunkedArray, source: str, name: str) -> pa.ChunkedArray:
    """Lists of float64 of a column of text such as "[-0.1, -2.5]"; empty text is none.

    Raises:
        CascjaxError: a text is no list of numbers.
    """
    lists: list[list[float] | None] = []
    for row, text in enumerate(column.to_pylist()):
        if text is None or not text.strip():
            lists.append(None)
            continue
        try:
            found = json.loads(text)  # NaN and Infinity too: they are refused by their row
            lists.append([float(x) for x in found] if isinstance(found, list) else None)
        except (ValueError, TypeError, RecursionError):
            lists.append(None)
        if lists[-1] is None:
            shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
            raise CascjaxError(
                f"{source}: column {name!r}, row {row}: {shown!r} is no list of numbers; give"
                " one such as [-0.1, -2.5]"
            )
    return pa.chunked_array([pa.array(lists, pa.list_(pa.float64()))])


def logprob_signals(column: pa.ChunkedArray, source: str, name: str) -> Float[np.ndarray, "R 2"]:
    """`LOGPROB_SIGNALS` of R lists of log-probabilities; NaN where there is none or an empty one.

    Raises:
        CascjaxError: a number is not finite, or above 0.
    """
    values, row, some, starts = _flat(column, source, name)
    way_out = "give natural logarithms of probabilities, or leave it empty"
    refuse(source, name, _rows(values > 0, row, len(column)), "a log-probability above 0", way_out)
    found = np.full((len(column), 2), np.nan)
    if len(some):
        counts = np.diff(np.append(starts, len(values)))
        found[some, 0] = np.add.reduceat(values, starts) / counts
        found[some, 1] = values[starts + counts - 1]
    return found


def class_signals(column: pa.ChunkedArray, source: str, name: str) -> Float[np.ndarray, "R 2"]:
    """`CLASS_SIGNALS` of R lists of probabilities; NaN where there is none or an empty one.

    Raises:
        CascjaxError: a number is not finite or negative, a list has one class alone, or does not
            sum to 1.
    """
    values, row, some, starts = _flat(column, source, name)
    way_out = "give the probability of each class, or leave it empty"
    refuse(source, name, _rows(values < 0, row, len(column)), "a negative probability", way_out)
    found = np.full((len(column), 2), np.nan)
    if not len(some):
        return found
    counts = np.diff(np.append(starts, len(values)))
    alone, off = np.zeros((2, len(column)), bool)
    alone[some] = counts < 2
    refuse(source, name, alone, "a distribution of one class", way_out)
    total = np.add.reduceat(values, starts)
    off[some] = np.abs(total - 1) > _SUM
    refuse(source, name, off, "probabilities that do not sum to 1", way_out)
    share = values / np.repeat(total, counts)
    found[some, 0] = -np.add.reduceat(share * np.log(np.where(share > 0, share, 1)), starts)
    # The highest of each list, then the highest of what is left once one such is taken off.
    top = np.maximum.reduceat(share, starts)
    is_top = np.flatnonzero(share == np.repeat(top, counts))
    _, first = np.unique(row[is_top], return_index=True)
    rest = share.copy()
    rest[is_top[first]] = -1
    found[some, 1] = top - np.maximum.reduceat(rest, starts)
    return found


def _flat(
    column: pa.ChunkedArray, source: str, name: str
) -> tuple[
    Float[np.ndarray, " V"], Int[np.ndarray, " V"], Int[np.ndarray, " s"], Int[np.ndarray, " s"]
]:
    """All numbers, the row of each, the rows that have any, and where each of these begins.

    Raises:
        CascjaxError: one is missing or not finite.
    """
    lists = column.combine_chunks()
    lists = lists if isinstance(lists, pa.ListArray) else pa.concat_arrays(lists.chunks)
    sizes = lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    values = lists.flatten().fill_null(float("nan")).to_numpy(zero_copy_only=False)
    row = np.repeat(np.arange(len(sizes)), sizes)
    bad = _rows(~np.isfinite(values), row, len(sizes))
    refuse(source, name, bad, "a number that is missing or infinite", "fix it or leave it empty")
    some = np.flatnonzero(sizes)
    return values, row, some, (np.cumsum(sizes) - sizes)[some]


def _rows(bad: np.ndarray, row: np.ndarray, count: int) -> np.ndarray:
    """The rows that any bad number is in."""
    return np.bincount(row[bad], minlength=count) > 0
