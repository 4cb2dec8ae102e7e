"""The evaluation table: quality and cost of every model on every query."""

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int, Int8

from cascjax.errors import CascjaxError, unknown_name
from cascjax.words import counted

FIT, EVALUATE = 0, 1  # Codes of the column split
_HASHED = 1 << 14  # Rows that are hashed at once: part of the definition of a fingerprint
_ROWS = 1 << 12  # Rows worked on at once where all of them would be a copy of the table
_MAX_SHOWN = 20  # Models that the representation of a table lists

ESTIMATE_COLUMNS = ("quality_ante", "quality_post", "quality_sigma", "cost_ante", "cost_post")
"""Optional columns of supplied estimates, each `[N, K]`."""

_COSTS = ("cost", "cost_ante", "cost_post")  # Columns in `cost_unit`

CHUNK_ROWS = 1 << 20  # Largest number of rows of a chunk

_CHUNK_NUMBERS = 1 << 24
"""Numbers that a chunk may hold per column or design matrix; wide rows make smaller chunks."""

_LEAST_CHUNK_ROWS = 1 << 14

DRAW_COLUMNS = ("draws", "quality_variance")
"""Optional columns of cells that are means of several runs, each `[N, K]`."""

_OPTIONAL = (
    *(*ESTIMATE_COLUMNS, "extra_costs", "features", "signals", "answer", *DRAW_COLUMNS),
    *("split", "group"),
)
"""Fields of `Table` that may be absent."""

_PER_MODEL = (
    *("quality", "cost", *ESTIMATE_COLUMNS, "extra_costs", "signals", "answer", *DRAW_COLUMNS),
)


@dataclass(frozen=True)
class Chunk:
    """Consecutive rows of a source that are processed at once."""

    index: int  # Position among the chunks of the source
    file: str  # Path of the file the rows are in, empty for a table in memory
    start: int  # First row, counted within the file
    n_rows: int  # Number of rows
    first: int  # First row, counted over the whole source

    @property
    def rows(self) -> Int[np.ndarray, " n"]:
        """Row numbers, counted over the whole source."""
        return np.arange(self.first, self.first + self.n_rows)


def rows_per_chunk(n_models: int, n_inputs: int = 0, answers: bool = False) -> int:
    """Return the default number of rows of a chunk."""
    inputs = n_inputs + n_models**2 if n_inputs or answers else n_models
    return min(CHUNK_ROWS, max(_LEAST_CHUNK_ROWS, _CHUNK_NUMBERS // inputs))


CONVERTERS: dict[str, Callable[..., Any]] = {}
"""Conversions of a table by name of the method; `cascjax.data.frames` enters them."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class Table:
    """An evaluation table of N queries and K models; `cascjax.data.schema` has its file format.

    Attributes:
      quality: `[N, K]` quality of each model's answer.
      cost: `[N, K]` cost of each model's answer, in `cost_unit`.
      quality_ante: `[N, K]` ex-ante estimate of quality, or None.
      quality_post: `[N, K]` post-hoc estimate of quality, or None.
      quality_sigma: `[N, K]` standard deviation of ex-ante minus post-hoc quality, or None.
      cost_ante: `[N, K]` ex-ante estimate of cost, in `cost_unit`, or None.
      cost_post: `[N, K]` post-hoc estimate of cost, in `cost_unit`, or None.
      extra_costs: Extra costs by name, each `[N, K]`, such as "seconds".
      features: `[N, F]` numbers known before any model runs, or None; NaN is missing.
      signals: `[N, K * P]` numbers known once a model has run, model-major, or None; NaN is
        missing.
      answer: `[N, K]` identity of each answer, -1 for none, or None.
      draws: `[N, K]` number of runs that quality and cost are the mean of, or None.
      quality_variance: `[N, K]` variance of quality between the runs of a cell, NaN where there is
        one run, or None.
      split: `[N]` `FIT` or `EVALUATE`, or None.
      group: `[N]` index into `groups`, or None.
      models: K model names, in column order.
      cost_unit: Unit of cost, such as "USD"; extra costs have units of their own.
      extra_cost_units: Pairs of name and unit of the extra costs whose unit is known, by name.
      groups: Group names.
      feature_names: F names, or empty.
      signal_names: P names, or empty.

    Example:
      >>> quality, cost = np.array([[0.0, 1.0], [1.0, 1.0]]), np.array([[1.0, 9.0], [2.0, 8.0]])
      >>> Table(quality, cost, models=("small", "large"), cost_unit="USD")
      Table: 2 queries, 2 models
             mean quality  mean cost (USD)
      small           0.5              1.5
      large             1              8.5
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
    draws: Int[np.ndarray, "N K"] | None = None
    quality_variance: Float[np.ndarray, "N K"] | None = None
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
        """Number of rows N."""
        return self.quality.shape[0]

    @property
    def n_models(self) -> int:
        """Number of models K."""
        return self.quality.shape[1]

    @classmethod
    def from_arrow(cls, arrow: Any) -> "Table":
        """Return the table of Arrow columns in the format of `cascjax.data.schema`.

        Args:
          arrow: Table of Arrow, or of a library that exports one, such as polars.

        Raises:
          CascjaxError: A required column is missing; a type, width, id, name or value is wrong.
        """
        return CONVERTERS["from_arrow"](arrow)

    def to_arrow(self) -> Any:
        """Return the table as Arrow columns in the format of `cascjax.data.schema`."""
        return CONVERTERS["to_arrow"](self)

    @classmethod
    def from_pandas(cls, frame: Any, cost_unit: str = "") -> "Table":
        """Return the table of a data frame with one row per query and model.

        Args:
          frame: Columns query, model, quality and cost; others of `to_pandas` if it has them. For
            frames with other names, repeated rows or missing cells, see `cascjax.import_long`.
          cost_unit: Unit of cost, such as "USD".

        Raises:
          CascjaxError: A column or a cell is missing, a pair is listed twice, or a value is wrong.

        Example:
          >>> import pandas as pd
          >>> cells = [("q1", "a", 1.0, 0.1), ("q1", "b", 0.5, 0.9)]
          >>> frame = pd.DataFrame(cells, columns=["query", "model", "quality", "cost"])
          >>> Table.from_pandas(frame).quality.tolist()
          [[1.0, 0.5]]
        """
        return CONVERTERS["from_pandas"](frame, cost_unit)

    def to_pandas(self) -> Any:
        """Return a data frame with one row per query and model, without features and signals.

        Columns are query (the row number), model, quality, cost, estimates, extra costs such as
        cost.seconds, answer, draws, quality_variance, split and group, as the table has them.
        """
        return CONVERTERS["to_pandas"](self)

    # The protocol `cascjax.data.source.Source`.

    @property
    def name(self) -> str:
        """Name of the source in messages."""
        return "the table"

    @property
    def n_rows(self) -> int:
        """Number of rows N."""
        return self.quality.shape[0]

    @property
    def columns(self) -> frozenset[str]:
        """Names of the columns it has; "extra_costs" if there is any extra cost."""
        optional = {name for name in _OPTIONAL if getattr(self, name) is not None}
        if not self.extra_costs:
            optional.discard("extra_costs")
        return frozenset({"quality", "cost", *optional})

    @property
    def chunks(self) -> tuple[Chunk, ...]:
        """Consecutive rows that are processed at once."""
        inputs = [column.shape[1] for column in (self.features, self.signals) if column is not None]
        # Smaller than those of files, as they are copied when models are sorted, and not read.
        most = rows_per_chunk(self.n_models, sum(inputs), self.answer is not None) // 4
        starts = range(0, self.n_rows, most)
        return tuple(
            Chunk(i, "", start, min(most, self.n_rows - start), start)
            for i, start in enumerate(starts)
        )

    def read(
        self, chunks: Iterable[Chunk], columns: Iterable[str]
    ) -> Iterator[tuple[Chunk, "Table"]]:
        """Yield each chunk with views of its rows."""
        dropped: dict[str, Any] = dict.fromkeys(set(_OPTIONAL) - {*columns})
        if "extra_costs" in dropped:
            dropped |= {"extra_costs": {}, "extra_cost_units": ()}
        kept = replace(self, **dropped)
        for chunk in chunks:
            rows = slice(chunk.first, chunk.first + chunk.n_rows)
            yield chunk, jax.tree.map(lambda column, rows=rows: column[rows], kept)

    def fingerprint(self) -> str:
        """Return a hash of models, true qualities and true costs."""
        return hash_rows([self], self.n_rows, self.models)

    def identity(self) -> dict[str, Any]:
        """Return what identifies the table, to detect changes between runs."""
        return {self.name: [self.n_rows, self.fingerprint()]}

    def unit_of(self, cost: str) -> str:
        """Return the unit of "cost" or of an extra cost by name; empty if unknown."""
        return self.cost_unit if cost == "cost" else dict(self.extra_cost_units).get(cost, "")

    def converted(self, rates: Mapping[str, float], units: Mapping[str, str]) -> "Table":
        """Return the table with costs in other units.

        Args:
            rates: factors of "cost", with its estimates, and of extra costs, by name.
            units: units of the costs that are named, which they have once they are multiplied.
        """

        def times(column: np.ndarray | None, cost: str) -> np.ndarray | None:
            return None if column is None else (column * rates.get(cost, 1)).astype(column.dtype)

        return replace(
            self,
            **{name: times(getattr(self, name), "cost") for name in _COSTS},
            extra_costs={name: times(column, name) for name, column in self.extra_costs.items()},
            cost_unit=units.get("cost", self.cost_unit),
            extra_cost_units=tuple((n, units.get(n, unit)) for n, unit in self.extra_cost_units),
        )

    def take(self, rows: Int[np.ndarray, " n"]) -> "Table":
        """Return the table of the given rows, in that order."""
        return jax.tree.map(lambda column: take_rows(column, rows), self)

    def select_models(self, models: Sequence[str]) -> "Table":
        """Return the table of the named models alone, in that order."""
        check_models(models, self.models)
        index = np.array([self.models.index(name) for name in models])

        def select(column: np.ndarray) -> np.ndarray:
            values = self._by_model(column).take(index, axis=1)
            return values.reshape(len(values), values.shape[1] * values.shape[2])

        return replace(self, models=tuple(models), **jax.tree.map(select, self._per_model()))

    def sort_models(self, mean_cost: Float[np.ndarray, " K"], *, reuse: bool = False) -> "Table":
        """Return the table with its models in order of rising `mean_cost`, as cascades run them."""
        order = np.argsort(mean_cost, kind="stable")
        if (order == np.arange(self.n_models)).all():
            return self
        columns, models = self._per_model(), tuple(self.models[i] for i in order)
        pairs = itertools.combinations(jax.tree.leaves(columns), 2)
        if not reuse or any(np.may_share_memory(left, right) for left, right in pairs):
            return self.select_models(models)

        def sort_in_place(column: np.ndarray) -> np.ndarray:
            column = column if column.flags.writeable else column.copy()
            view = self._by_model(column)
            for start in range(0, len(column), _ROWS):
                view[start : start + _ROWS] = view[start : start + _ROWS, order]
            return column

        return replace(self, models=models, **jax.tree.map(sort_in_place, columns))

    def _per_model(self) -> dict[str, Any]:
        """Return the columns that hold values per model, by field name."""
        columns = {name: getattr(self, name) for name in _PER_MODEL}
        return {name: column for name, column in columns.items() if column is not None}

    def _by_model(self, column: np.ndarray) -> np.ndarray:
        """Return a column `[N, K * P]` as `[N, K, P]`."""
        return column.reshape(len(column), self.n_models, column.shape[1] // self.n_models)

    def __eq__(self, other: object) -> bool:
        """Return whether all columns and names are equal; NaN equals NaN."""
        if not isinstance(other, Table):
            return NotImplemented
        return all(
            _equal(getattr(self, each.name), getattr(other, each.name)) for each in fields(Table)
        )

    def __hash__(self) -> int:
        """Hash the size and the names, not the values."""
        return hash((np.shape(self.quality), self.models, self.cost_unit))

    def _summary(self) -> tuple[str, Any]:
        """Return a title, and a data frame of the mean quality and cost of each model."""
        import pandas as pd  # takes long to import

        names = self.models or tuple(f"model {k + 1}" for k in range(self.n_models))
        cost = f"mean cost ({self.cost_unit})" if self.cost_unit else "mean cost"
        columns = {"mean quality": mean_rows(self.quality), cost: mean_rows(self.cost)}
        title = f"{counted(self.n_queries, 'query', 'queries')}, {counted(len(names), 'model')}"
        return f"Table: {title}", pd.DataFrame(columns, index=list(names))

    def __repr__(self) -> str:
        """Return the size, and the mean quality and cost of each model."""
        if np.ndim(self.quality) != 2 or not len(self.quality):  # such as the result of a tree map
            return "Table"
        title, means = self._summary()
        return f"{title}\n{means.to_string(float_format='{:.4g}'.format, max_rows=_MAX_SHOWN)}"

    def _repr_html_(self) -> str:
        """Return the representation as an HTML table."""
        title, means = self._summary()
        markup = means.to_html(float_format="{:.4g}".format, max_rows=_MAX_SHOWN)
        return f"<p>{title}</p>{markup}"


def _equal(left: Any, right: Any) -> bool:
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_equal(left[key], right[key]) for key in left)
    if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
        inexact = left.dtype.kind == right.dtype.kind == "f"
        return np.array_equal(left, right, equal_nan=inexact)
    return type(left) is type(right) and bool(left == right)


def hash_rows(tables: Iterable[Table], n_rows: int, models: tuple[str, ...]) -> str:
    """Return the fingerprint of the table that consists of tables of any sizes, in order."""
    digest, held = None, [np.zeros((0, 0), "<f4")] * 2
    for table in tables:
        if digest is None:
            digest = hashlib.sha256(f"{(n_rows, table.n_models)} {models}".encode())
        columns = [np.asarray(column, "<f4") for column in (table.quality, table.cost)]
        if len(held[0]):
            columns = [np.concatenate(pair) for pair in zip(held, columns, strict=True)]
        whole = len(columns[0]) // _HASHED * _HASHED
        for start in range(0, whole, _HASHED):
            for column in columns:
                digest.update(np.ascontiguousarray(column[start : start + _HASHED]).tobytes())
        held = [column[whole:] for column in columns]
    assert digest is not None
    for column in held:
        digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()


def check_models(models: Sequence[str], known: Sequence[str]) -> None:
    """Refuse names that are unknown or listed twice."""
    for i, name in enumerate(models):
        if name not in known:
            raise unknown_name("model", name, known)
        if name in models[:i]:
            raise CascjaxError(f"model {name!r} is listed twice; name each model once")


def take_rows(column: Any, rows: slice | Int[np.ndarray, " n"]) -> Any:
    """Return rows of an array: a view for a slice, or where all rows are equal by broadcasting."""
    if isinstance(rows, slice) or not isinstance(column, np.ndarray):
        return column[rows]
    if column.strides[0] == 0 and len(column) >= len(rows):
        return column[: len(rows)]
    # np.take is twice as fast as an index, but copies all of an array that is not contiguous.
    return column.take(rows, axis=0) if column.flags.c_contiguous else column[rows]


def concatenate(tables: Sequence[Table]) -> Table:
    """Return the rows of tables with the same columns and models, one table after the other.

    Groups are matched by name; names without a row are dropped, and the others sorted.
    """
    names: set[str] = set()
    for table in tables:
        if table.group is not None:
            names |= {table.groups[g] for g in np.unique(table.group).tolist()}
    codes = {name: g for g, name in enumerate(sorted(names))}

    def recoded(table: Table) -> Table:
        if table.group is None:
            return table
        renumber = np.array([codes.get(name, -1) for name in table.groups], np.int32)
        return replace(table, group=renumber[table.group], groups=tuple(codes))

    if len(tables) == 1:
        return recoded(tables[0])
    return jax.tree.map(lambda *columns: np.concatenate(columns), *map(recoded, tables))


def mean_rows(
    column: Float[np.ndarray, "N K"],
    rows: Int[np.ndarray, " n"] | None = None,
    *more: Float[np.ndarray, "N K"],
    transform: Callable[..., np.ndarray] = lambda block: block,
) -> Float[np.ndarray, " K"]:
    """Return the mean over rows, in float64 and without a copy of the table."""
    total = np.zeros(column.shape[1])
    n_rows = len(column) if rows is None else len(rows)
    for start in range(0, n_rows, _ROWS):
        block = slice(start, start + _ROWS) if rows is None else rows[start : start + _ROWS]
        values = transform(*(take_rows(each, block) for each in (column, *more)))
        # A product with ones adds up more than twice as fast as `sum` over the first axis.
        total += np.ones(len(values)) @ values.astype(np.float64)
    return total / n_rows


def split_rows(
    table: Table, seed: int = 0, fit_fraction: float = 0.5
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " m"]]:
    """Return the rows of the fit split and of the evaluation split."""
    if table.split is not None:
        fit, evaluate = np.flatnonzero(table.split == FIT), np.flatnonzero(table.split == EVALUATE)
    else:
        fit, evaluate = drawn_split(table.n_queries, seed, fit_fraction)
    check_split(len(fit), len(evaluate))
    return fit, evaluate


def drawn_split(
    n_queries: int, seed: int, fit_fraction: float = 0.5
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " m"]]:
    """Return rows to fit on and rows to evaluate on, drawn by seed, each in ascending order."""
    if seed < 0:
        raise CascjaxError(f"seed must not be negative, but is {seed}")
    rows = np.random.default_rng(seed).permutation(n_queries)
    n_fit = round(fit_fraction * n_queries)
    return np.sort(rows[:n_fit]), np.sort(rows[n_fit:])


def check_split(n_fit: int, n_evaluate: int) -> None:
    """Refuse a split with an empty side."""
    if not n_fit or not n_evaluate:
        raise CascjaxError(
            f"the split leaves {counted(n_fit, 'row')} to fit and {n_evaluate} to evaluate; both"
            " need at least one: fix the column 'split' or add rows"
        )


def upper_hull(
    cost: Float[np.ndarray, " K"], quality: Float[np.ndarray, " K"]
) -> Int[np.ndarray, " H"]:
    """Return the indices of the points on the rising upper concave hull, in order of cost.

    Mixing two neighbours at random reaches every point between them, so this is the best that is
    possible without looking at the query.

    Args:
      cost: `[K]` costs.
      quality: `[K]` qualities.

    Reference: Hu et al., "RouterBench", 2024 (arXiv 2403.12031), where it is the zero router.

    Example:
      >>> upper_hull(np.array([1.0, 2.0, 3.0]), np.array([0.0, 0.2, 1.0]))
      array([0, 2])
    """
    hull: list[int] = []
    x, y = (np.asarray(values, np.float64).tolist() for values in (cost, quality))
    # Of points with the same cost only the best can be on the hull.
    for i in np.lexsort((-quality, cost)).tolist():
        if hull and y[i] <= y[hull[-1]]:
            continue
        while len(hull) >= 2:
            a, b = hull[-2], hull[-1]
            if (y[b] - y[a]) * (x[i] - x[a]) > (y[i] - y[a]) * (x[b] - x[a]):
                break
            hull.pop()
        hull.append(i)
    return np.array(hull)
