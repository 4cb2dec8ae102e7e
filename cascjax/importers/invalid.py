"""What an import does with rows it cannot use, and what it has to tell afterwards."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from cascjax.errors import CascjaxError, unknown_name
from cascjax.words import counted

POLICIES = ("fail", "drop")


@dataclass(frozen=True)
class ImportResult:
    """An imported evaluation table and what was left out of it.

    Attributes:
        arrow: the table, with the columns and metadata of the format in `cascjax.data.arrow`.
        n_rows: queries in the table.
        n_models: models in the table.
        n_missing: queries left out because a score or a cost is missing or not finite.
        n_repeated: rows left out because an earlier one has the same id (in long logs: the same
            query and model).
        n_dropped: rows of the file left out, for either reason.
        n_features: features of each query.
        n_signals: signals of each model.
        notes: what else there is to know, a line each.
    """

    arrow: pa.Table
    n_rows: int
    n_models: int
    n_missing: int
    n_repeated: int
    n_dropped: int
    n_features: int = 0
    n_signals: int = 0
    notes: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """One line: the size of the table, and what was left out and why."""
        size = f"{counted(self.n_rows, 'query', 'queries')} of {counted(self.n_models, 'model')}"
        if self.n_features or self.n_signals:
            size += f", {counted(self.n_features, 'feature')}"
            size += f", {counted(self.n_signals, 'signal')} a model"
        if not self.n_dropped:
            return size
        return (
            f"{size}; left out {counted(self.n_dropped, 'row')} of the file:"
            f" {counted(self.n_missing, 'query', 'queries')} with missing values,"
            f" {counted(self.n_repeated, 'repeated row')}"
        )


def check_policy(on_bad: str) -> None:
    """Refuse a word that is no policy.

    Raises:
        CascjaxError: `on_bad` is neither "fail" nor "drop".
    """
    if on_bad not in POLICIES:
        raise unknown_name("on_bad", on_bad, POLICIES)


def settle(
    source: str,
    on_bad: str,
    missing: Sequence[str],
    repeated: Sequence[str],
    n_left: int,
    missing_means: tuple[str, str, str],
    repeated_means: tuple[str, str, str],
    never: Sequence[str] = (),
) -> None:
    """Let the bad rows pass if they are to be dropped and something is left, or raise.

    Args:
        source: the file, for messages.
        on_bad: "fail" or "drop".
        missing: the ids of what lacks values.
        repeated: the ids of what stands more than once.
        n_left: how many queries would be left.
        missing_means: what "missing" counts, of one and of more, and what is wrong with them, as
            in ("query", "queries", "lacking a model").
        repeated_means: the same of "repeated".
        never: the models without one complete row, for which no query is complete.

    Raises:
        CascjaxError: there are bad rows and `on_bad` is "fail", or nothing would be left.
    """
    found = [
        f"{counted(len(ids), one, many)} {wrong} (first: {', '.join(map(repr, ids[:3]))})"
        for ids, (one, many, wrong) in ((missing, missing_means), (repeated, repeated_means))
        if ids
    ]
    if never:
        raise CascjaxError(
            f"{source}: no query is left, for no row of {' or '.join(map(repr, never))} has both a"
            " quality and all costs; leave that model out of the file, or bring complete rows"
        )
    if found and on_bad == "fail":
        raise CascjaxError(
            f"{source}: {' and '.join(found)}; fix them, or leave them out with on_bad 'drop'"
        )
    if not n_left:
        reason = f" beside {' and '.join(found)}" if found else ""
        raise CascjaxError(f"{source}: no query is left{reason}; bring complete rows")
