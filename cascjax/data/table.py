"""The evaluation table: what every model really gave and cost on every query."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int, Int8

from cascjax.errors import CascjaxError, unknown_name
from cascjax.words import counted

FIT, EVALUATE = 0, 1

PAPER_EVALUATE = 0.95
"""Of the rows, to evaluate as the paper does; the rest are to fit on."""

PAPER_SEED = 42
"""The paper's: the same table in the same order is split into the same rows."""

_ROWS = 1 << 12
"""Rows worked on at once where all of them would be a copy of the table."""


ESTIMATE_COLUMNS = ("quality_ante", "quality_post", "quality_sigma", "cost_ante", "cost_post")
"""The optional columns that hold estimates from elsewhere, each `[N, K]`."""


_PER_MODEL = ("quality", "cost", *ESTIMATE_COLUMNS, "extra_costs", "signals", "answer")


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Table:
    """An evaluation table of N queries and K models; `cascjax.data.arrow` has its file format.

    Attributes:
        quality: `[N, K]` the quality of each model's answer.
        cost: `[N, K]` what each answer cost, in `cost_unit`.
        quality_ante: `[N, K]` quality as estimated before the model runs, or None.
        quality_post: `[N, K]` quality as estimated once the answer is seen, or None.
        quality_sigma: `[N, K]` standard deviation of ante minus post, or None.
        cost_ante: `[N, K]` cost as estimated before the model runs, in `cost_unit`, or None.
        cost_post: `[N, K]` cost as estimated once the answer is seen, in `cost_unit`, or None.
        extra_costs: extra costs by name, each `[N, K]`: "seconds", for instance.
        features: `[N, F]` what is known of a query before any model runs, or None; NaN is missing.
        signals: `[N, K * P]` what is seen once a model has run, model-major, or None; NaN is
            missing.
        answer: `[N, K]` the identity of each answer, -1 where there is none, or None.
        split: `[N]` `FIT` or `EVALUATE`, or None.
        group: `[N]` index into `groups`, or None.
        models: the K model names, in column order.
        cost_unit: the unit of every cost but the further ones, for instance "USD".
        extra_cost_units: name and unit of the extra costs whose unit is known, in order of names.
        groups: the names `group` counts in.
        feature_names: F names, or empty.
        signal_names: P names, or empty.
    """

    quality: Float[np.ndarray, "N K"]
    cost: Float[np.ndarray, "N K"]
    quality_ante: Float[np.ndarray, "N K"] | None = None
    quality_post: Float[np.ndarray, "N K"] | None = None
    quality_sigma: Float[np.ndarray, "N K"] | None = None
    cost_ante: Float[np.ndarray, "N K"] | None = None
    cost_post: Float[np.ndarray, "N K"] | None = None
    extra_costs: dict[str, Float[np.ndarray, "N K"]] = field(default_factory=dict)
    features: Float[np.ndarray, "N F"] | None = None
    signals: Float[np.ndarray, "N KP"] | None = None
    answer: Int[np.ndarray, "N K"] | None = None
    split: Int8[np.ndarray, " N"] | None = None
    group: Int[np.ndarray, " N"] | None = None
    models: tuple[str, ...] = field(default=(), metadata={"static": True})
    cost_unit: str = field(default="", metadata={"static": True})
    extra_cost_units: tuple[tuple[str, str], ...] = field(default=(), metadata={"static": True})
    groups: tuple[str, ...] = field(default=(), metadata={"static": True})
    feature_names: tuple[str, ...] = field(default=(), metadata={"static": True})
    signal_names: tuple[str, ...] = field(default=(), metadata={"static": True})

    @property
    def n_queries(self) -> int:
        """N, the number of rows."""
        return self.quality.shape[0]

    @property
    def n_models(self) -> int:
        """K, the number of models."""
        return self.quality.shape[1]

    def unit_of(self, cost: str) -> str:
        """The unit of "cost" or of a extra cost by its name, empty where none is known."""
        return self.cost_unit if cost == "cost" else dict(self.extra_cost_units).get(cost, "")

    def take(self, rows: Int[np.ndarray, " n"]) -> "Table":
        """The table of the given rows, in that order."""
        return jax.tree.map(lambda column: take_rows(column, rows), self)

    def select_models(self, models: Sequence[str]) -> "Table":
        """The table of the named models alone, in that order.

        Raises:
            CascjaxError: a name is unknown or is listed twice.
        """
        check_models(models, self.models)
        index = np.array([self.models.index(name) for name in models])

        def chosen(column: np.ndarray) -> np.ndarray:
            found = self._by_model(column).take(index, axis=1)
            return found.reshape(len(found), found.shape[1] * found.shape[2])

        return replace(self, models=tuple(models), **jax.tree.map(chosen, self._per_model()))

    def sort_models(self, mean_cost: Float[np.ndarray, " K"], *, reuse: bool = False) -> "Table":
        """The table with its models in rising `mean_cost`, the order cascades run in.

        With `reuse` it takes the memory of this one where it can be written to, so that there is
        no second copy: neither this table nor the arrays it was made of may be used any more.
        """
        order = np.argsort(mean_cost, kind="stable")
        if (order == np.arange(self.n_models)).all():
            return self
        columns = self._per_model()
        pairs = itertools.combinations(jax.tree.leaves(columns), 2)
        if not reuse or any(np.may_share_memory(one, other) for one, other in pairs):
            return self.select_models([self.models[i] for i in order])

        def sorted_in_place(column: np.ndarray) -> np.ndarray:
            column = column if column.flags.writeable else column.copy()
            view = self._by_model(column)
            for start in range(0, len(column), _ROWS):
                view[start : start + _ROWS] = view[start : start + _ROWS, order]
            return column

        models = tuple(self.models[i] for i in order)
        return replace(self, models=models, **jax.tree.map(sorted_in_place, columns))

    def _per_model(self) -> dict[str, Any]:
        """The columns that hold something of each model, by the name of their field."""
        columns = {name: getattr(self, name) for name in _PER_MODEL}
        return {name: column for name, column in columns.items() if column is not None}

    def _by_model(self, column: np.ndarray) -> np.ndarray:
        """A column `[N, K * P]` as `[N, K, P]`."""
        return column.reshape(len(column), self.n_models, column.shape[1] // self.n_models)


def check_models(models: Sequence[str], known: Sequence[str]) -> None:
    """Refuses names that are not among the known ones, or stand twice.

    Raises:
        CascjaxError: there is such a name.
    """
    for name in models:
        if name not in known:
            raise unknown_name("model", name, known)
    if len(set(models)) != len(models):
        raise CascjaxError(f"a model is named twice in {', '.join(models)}")


def take_rows(column: Any, rows: slice | Int[np.ndarray, " n"]) -> Any:
    """Some rows of an array: a view where they are a slice, or all the same."""
    if isinstance(rows, slice) or not isinstance(column, np.ndarray):
        return column[rows]
    if column.strides[0] == 0 and len(column) >= len(rows):
        return column[: len(rows)]
    # np.take is twice as fast as an index, but copies what is not contiguous, and whole.
    return column.take(rows, axis=0) if column.flags.c_contiguous else column[rows]


def concatenate(tables: Sequence[Table]) -> Table:
    """The rows of tables of the same columns and models, one table after the other.

    Groups are told by name: those of no row are left out, and the names sorted.
    """
    groups: set[str] = set()
    for of in tables:
        if of.group is not None:
            groups |= {of.groups[g] for g in np.unique(of.group).tolist()}
    number = {name: g for g, name in enumerate(sorted(groups))}

    def told(of: Table) -> Table:
        if of.group is None:
            return of
        numbers = np.array([number.get(name, -1) for name in of.groups], np.int32)
        return replace(of, group=numbers[of.group], groups=tuple(number))

    tables = [told(of) for of in tables]
    if len(tables) == 1:
        return tables[0]
    return jax.tree.map(lambda *of: np.concatenate(of), *tables)


def mean_rows(
    column: Float[np.ndarray, "N K"],
    rows: Int[np.ndarray, " n"] | None = None,
    *more: Float[np.ndarray, "N K"],
    of: Callable[..., np.ndarray] = lambda block: block,
) -> Float[np.ndarray, " K"]:
    """Mean over rows, by default all of them, in float64 and without a copy of the table.

    Args:
        column: what to average.
        rows: the rows that count.
        more: other columns `of` wants.
        of: what to average instead, from blocks of the columns.
    """
    n_rows, total = len(column) if rows is None else len(rows), np.zeros(column.shape[1])
    for start in range(0, n_rows, _ROWS):
        part = slice(start, min(start + _ROWS, n_rows))
        cut = part if rows is None else rows[part]
        block = of(*(take_rows(one, cut) for one in (column, *more)))
        # A product with ones adds up more than twice as fast as `sum` over the first axis.
        total += np.ones(len(block)) @ block.astype(np.float64)
    return total / n_rows


def split_rows(
    table: Table, seed: int = 0, fit_fraction: float = 0.5
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " m"]]:
    """Rows to fit on and rows to evaluate on: the table's own split, or one drawn by seed.

    Raises:
        CascjaxError: a side would be empty, or the seed is negative.
    """
    if table.split is not None:
        fit, evaluate = np.flatnonzero(table.split == FIT), np.flatnonzero(table.split == EVALUATE)
    else:
        fit, evaluate = drawn_split(table.n_queries, seed, fit_fraction)
    check_split(len(fit), len(evaluate))
    return fit, evaluate


def drawn_split(
    n_queries: int, seed: int, fit_fraction: float = 0.5
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " m"]]:
    """Rows to fit on and rows to evaluate on, drawn by seed.

    Raises:
        CascjaxError: the seed is negative.
    """
    if seed < 0:
        raise CascjaxError(f"the seed of the split must not be negative, but is {seed}")
    rows = np.random.default_rng(seed).permutation(n_queries)
    n_fit = round(fit_fraction * n_queries)
    return np.sort(rows[:n_fit]), np.sort(rows[n_fit:])


def paper_split(n_queries: int) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " m"]]:
    """5% of the rows to fit on and 95% to evaluate, those that the paper's own split takes.

    That is scikit-learn's `train_test_split(test_size=0.95, random_state=42)`.
    """
    n_evaluate = math.ceil(PAPER_EVALUATE * n_queries)
    rows = np.random.RandomState(PAPER_SEED).permutation(n_queries)
    return np.sort(rows[n_evaluate:]), np.sort(rows[:n_evaluate])


def check_split(n_fit: int, n_evaluate: int) -> None:
    """Refuses a split of which a side is empty.

    Raises:
        CascjaxError: it is.
    """
    if not n_fit or not n_evaluate:
        raise CascjaxError(
            f"the split leaves {counted(n_fit, 'row')} to fit and {n_evaluate} to evaluate;"
            " both need at least one: fix the column 'split' or bring more rows"
        )


def upper_hull(
    cost: Float[np.ndarray, " K"], quality: Float[np.ndarray, " K"]
) -> Int[np.ndarray, " H"]:
    """Indices of the points on the rising upper hull, in rising cost.

    Mixing two neighbours at random reaches every point between them, so this is the best that
    can be had without looking at the query (RouterBench's "zero router").
    """
    hull: list[int] = []
    # Of points that cost the same only the best can be on the hull.
    for i in np.lexsort((-quality, cost)):
        if hull and quality[i] <= quality[hull[-1]]:
            continue
        while len(hull) >= 2:
            a, b = hull[-2], hull[-1]
            before = (quality[b] - quality[a]) * (cost[i] - cost[a])
            after = (quality[i] - quality[a]) * (cost[b] - cost[a])
            if before > after:
                break
            hull.pop()
        hull.append(int(i))
    return np.array(hull)
