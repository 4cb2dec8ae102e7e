"""Design matrix: all that can be known of a query, as columns of numbers."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from cascjax.data.table import Table, take_rows
from cascjax.errors import CascjaxError
from cascjax.estimators.feature_spec import Column, FeatureSpec, column_names

MIN_GROUP_ROWS = 10  # Rows to fit on that a group needs for a column of its own

_MIN_SPREAD = 1e-6
"""Spread relative to size below which a column is constant, as float32 cannot resolve less."""


@dataclass(frozen=True)
class Design:
    """The D columns of N queries.

    Attributes:
        seen: `[N, D]` columns, float32; the first is 1, the others have mean 0 and standard
            deviation 1 on the rows fitted on.
        feature_spec: how the columns are made of any queries.
        notes: what was left out or filled in, and why, one line each.
    """

    seen: Float[np.ndarray, "N D"]
    feature_spec: FeatureSpec
    notes: tuple[str, ...] = ()

    @property
    def needs(self) -> Bool[np.ndarray, "D K"]:
        """Models that must have run for each column to be known."""
        return self.feature_spec.needs

    @property
    def names(self) -> tuple[str, ...]:
        """Description of each column."""
        return tuple(column.name for column in self.feature_spec.columns)


def design(table: Table, fit_rows: Int[np.ndarray, " n"]) -> Design:
    """Return every column that can be made of a table.

    Before any model has run: the features, and a column for each group but the most frequent. Once
    a model has run: its signals, whether it gave an answer if any are missing, and the logarithm of
    its cost, as longer answers are informative. Once two have run: whether their answers agree; a
    missing answer agrees with none (paper, section 6).

    Args:
        table: the queries; quality is not read.
        fit_rows: `[n]` rows on which columns are brought to mean 0 and standard deviation 1.

    Raises:
        CascjaxError: there are no rows to fit on, or signals are not a multiple of the models.

    Example:
        >>> cost = np.array([[1, 2], [1, 4], [1, 8]], np.float32)
        >>> table = Table(quality=cost, cost=cost, features=cost[:, 1:], models=("a", "b"))
        >>> design(table, np.arange(3)).names
        ('1', 'feature 0', 'log cost of b')
    """
    if not len(fit_rows):
        raise CascjaxError("no rows to fit on: the split must leave at least one")
    notes, constant = [], []
    names = column_names(table)
    candidates = (Column("one"), *_candidates(table, names, fit_rows, notes))
    raw = FeatureSpec(*names, candidates).raw(table)
    columns, kept = [candidates[0]], [0]
    for d, column in enumerate(candidates[1:], start=1):
        values = raw[fit_rows, d].astype(np.float64)
        values = values[np.isfinite(values)]
        if not len(values):
            notes.append(f"{column.name} is missing in every row to fit on: left out")
            continue
        centre, spread = float(values.mean()), float(values.std())
        if spread <= _MIN_SPREAD * max(float(np.abs(values).max()), 1e-30):
            constant.append(column.name)
            continue
        if count := int(np.count_nonzero(~np.isfinite(raw[:, d]))):
            notes.append(
                f"{column.name} is missing in {count:,} of {table.n_queries:,} rows: taken as its"
                " mean there"
            )
        columns.append(replace(column, centre=centre, spread=spread))
        kept.append(d)
    if constant:
        which = ", ".join(constant[:4]) + (f" and {len(constant) - 4} more" * (len(constant) > 4))
        verb = "is" if len(constant) == 1 else "are"
        notes.append(f"{which} {verb} the same in all rows to fit on: left out")
    if len(kept) == 1:
        notes.append(
            "the table has nothing that tells queries apart (no features, groups, signals or"
            " answers that vary): every estimate is a mean"
        )
    feature_spec = FeatureSpec(*names, tuple(columns))
    return Design(feature_spec.scale(raw[:, kept]), feature_spec, tuple(notes))


def _candidates(
    table: Table,
    names: tuple[tuple[str, ...], ...],
    fit_rows: Int[np.ndarray, " n"],
    notes: list[str],
) -> Iterator[Column]:
    """Yield each possible column, not yet scaled."""
    models, features, signals = names
    for name in features:
        yield Column("feature", (name,))
    if table.group is not None:
        yield from _groups(table, fit_rows, notes)
    for model, name in itertools.product(models, signals):
        yield Column("signal", (name,), (model,))
    for i, model in enumerate(models):
        paid = take_rows(table.cost[:, i], fit_rows)
        paid = paid[paid > 0]
        # A cost of 0 counts as half the lowest cost that was paid.
        least = float(paid.min()) / 2 if len(paid) else 1.0
        yield Column("cost", (), (model,), least=least)
    if table.answer is not None:
        for i, model in enumerate(models):
            if not (table.answer[fit_rows, i] >= 0).all():
                yield Column("answers", (), (model,))
        for pair in itertools.combinations(models, 2):
            yield Column("agreement", (), pair)


def _groups(table: Table, fit_rows: Int[np.ndarray, " n"], notes: list[str]) -> Iterator[Column]:
    """Yield a column for each group but the most frequent, which others are measured against.

    By name, whatever the order in which a file lists them.
    """
    assert table.group is not None
    by_name = np.array(sorted(range(len(table.groups)), key=lambda g: table.groups[g]))
    count = np.bincount(table.group[fit_rows], minlength=len(table.groups))
    others = by_name[by_name != by_name[np.argmax(count[by_name])]]
    large, small = (others[(count[others] >= MIN_GROUP_ROWS) == size] for size in (True, False))
    for g in large:
        yield Column("group", (table.groups[g],))
    if not len(small):
        return
    named = ", ".join(table.groups[g] for g in small[:3])
    more = f" and {len(small) - 3} more" if len(small) > 3 else ""
    which = f"group {named} has" if len(small) == 1 else f"groups {named}{more} have"
    if count[small].sum() < MIN_GROUP_ROWS:
        notes.append(
            f"{which} fewer than {MIN_GROUP_ROWS} rows to fit on: no column tells them from the"
            " rest"
        )
    else:
        notes.append(
            f"{which} fewer than {MIN_GROUP_ROWS} rows to fit on each: they share a column"
        )
        rest = by_name[~np.isin(by_name, small)]
        yield Column("small groups", tuple(table.groups[g] for g in rest))
