"""What can be seen of a query, as columns of numbers, and what must have run to see each."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from cascjax.data.table import Table, take_rows
from cascjax.errors import CascjaxError
from cascjax.estimators.base import every_run_set, shown_by
from cascjax.estimators.feature_spec import Column, FeatureSpec, Places

LEAST_OF_GROUP = 10
"""Rows to fit on that a group needs for a column of its own."""

_LEAST_SPREAD = 1e-6
"""Spread below which a column is constant, relative to its size: float32 tells no more apart."""


@dataclass(frozen=True)
class Design:
    """All that is ever seen of N queries: D columns for regressions.

    Attributes:
        seen: `[N, D]` the columns, float32; the first is 1, the others have mean 0 and spread 1 on
            the rows fitted on.
        needs: `[D, K]` the models that must have run for a column to be seen: none of them for a
            feature, one for a signal, two for the agreement of two answers.
        names: D names, for messages.
        notes: what was left out or filled in, and why, a line each.
        feature spec: how to make the same columns of other queries, or None.
    """

    seen: Float[np.ndarray, "N D"]
    needs: Bool[np.ndarray, "D K"]
    names: tuple[str, ...]
    notes: tuple[str, ...] = ()
    feature_spec: FeatureSpec | None = None

    def shown(self) -> Bool[np.ndarray, "S D"]:
        """Which columns each of the 2**K run sets shows; bit i of a run set is model i."""
        return np.asarray(shown_by(every_run_set(self.needs.shape[1]), self.needs))


def design(table: Table, fit_rows: Int[np.ndarray, " n"], *, costs: bool = True) -> Design:
    """Every column that can be made of a table, told apart by what must have run to see it.

    Beforehand: the features, and a column a group but the most frequent. Once a model has run: its
    signals, whether it gave an answer where some are missing, and the logarithm of its cost, as a
    longer answer tells something. Once two have run: whether their answers agree; what has no
    answer agrees with none (paper, section 6).

    Args:
        table: what is known of its queries; neither quality nor, without `costs`, cost is read.
        fit_rows: the rows whose means and spreads the columns are brought to 0 and 1 with.
        costs: whether to add what the models that have run cost.

    Raises:
        CascjaxError: there is no row to fit on, or `signals` are not a whole number a model.
    """
    if not len(fit_rows):
        raise CascjaxError("no rows to fit on: the split must leave at least one")
    at, notes = Places.of(table), []
    kept, seen, constant = [Column("one")], [np.ones(table.n_queries, np.float32)], []
    for column in _columns(table, at, fit_rows, costs, notes):
        values = at.values(table, column)
        missing = ~np.isfinite(values)
        of_fit = values[fit_rows].astype(np.float64)
        of_fit = of_fit[~missing[fit_rows]]
        if not len(of_fit):
            notes.append(f"{column.name} is missing in every row to fit on: left out")
            continue
        centre, spread = float(of_fit.mean()), float(of_fit.std())
        if spread <= _LEAST_SPREAD * max(float(np.abs(of_fit).max()), 1e-30):
            constant.append(column.name)
            continue
        if count := int(np.count_nonzero(missing)):
            notes.append(
                f"{column.name} is missing in {count:,} of {table.n_queries:,} rows: taken as its"
                " mean there"
            )
        kept.append(replace(column, centre=centre, spread=spread))
        seen.append(kept[-1].scaled(values))
    if constant:
        which = ", ".join(constant[:4]) + (f" and {len(constant) - 4} more" * (len(constant) > 4))
        verb = "is" if len(constant) == 1 else "are"
        notes.append(f"{which} {verb} the same in all rows to fit on: left out")
    if len(kept) == 1:
        notes.append(
            "the table shows nothing that tells queries apart (no features, groups, signals or"
            " answers that vary): every estimate is a mean"
        )
    feature_spec = FeatureSpec(tuple(at.models), tuple(at.features), tuple(at.signals), tuple(kept))
    return Design(
        np.stack(seen, 1),
        feature_spec.needs,
        tuple(column.name for column in kept),
        tuple(notes),
        feature_spec,
    )


def _columns(
    table: Table, at: Places, fit_rows: Int[np.ndarray, " n"], costs: bool, notes: list[str]
) -> Iterator[Column]:
    """Each column there may be, not scaled yet."""
    for name in at.features:
        yield Column("feature", (name,))
    if table.group is not None:
        yield from _groups(table, fit_rows, notes)
    for model, name in itertools.product(at.models, at.signals):
        yield Column("signal", (name,), (model,))
    if costs:
        for i, model in enumerate(at.models):
            paid = take_rows(table.cost[:, i], fit_rows)
            paid = paid[paid > 0]
            # What cost nothing is taken to have cost half the least that was ever paid.
            least = float(paid.min()) / 2 if len(paid) else 1.0
            yield Column("cost", (), (model,), least=least)
    if table.answer is not None:
        for i, model in enumerate(at.models):
            if not (table.answer[fit_rows, i] >= 0).all():
                yield Column("answers", (), (model,))
        for pair in itertools.combinations(at.models, 2):
            yield Column("agreement", (), pair)


def _groups(table: Table, fit_rows: Int[np.ndarray, " n"], notes: list[str]) -> Iterator[Column]:
    """A column a group but the most frequent, which all others are measured against.

    By name, whatever the order in which a file or a piece of one lists them.
    """
    assert table.group is not None
    by_name = np.array(sorted(range(len(table.groups)), key=lambda g: table.groups[g]))
    count = np.bincount(table.group[fit_rows], minlength=len(table.groups))
    usual = by_name[np.argmax(count[by_name])]
    large = by_name[count[by_name] >= LEAST_OF_GROUP]
    for g in large[large != usual]:
        yield Column("group", (table.groups[g],))
    small = by_name[count[by_name] < LEAST_OF_GROUP]
    small = small[small != usual]
    if len(small) and count[small].sum() < LEAST_OF_GROUP:
        notes.append(
            f"{_some_groups(table, small)} fewer than {LEAST_OF_GROUP} rows to fit on: no column"
            " tells them from the rest"
        )
    elif len(small):
        notes.append(
            f"{_some_groups(table, small)} fewer than {LEAST_OF_GROUP} rows to fit on each: they"
            " share a column"
        )
        others = by_name[~np.isin(by_name, small)]
        yield Column("small groups", tuple(table.groups[g] for g in others))


def _some_groups(table: Table, groups: Int[np.ndarray, " G"]) -> str:
    named = ", ".join(table.groups[g] for g in groups[:3])
    more = f" and {len(groups) - 3} more" if len(groups) > 3 else ""
    return f"group {named} has" if len(groups) == 1 else f"groups {named}{more} have"
