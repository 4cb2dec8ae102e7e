"""Long logs: one row per query and model."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Shaped

from cascjax.data.schema import (
    encode,
    extra_cost_column,
    refuse_rows,
    repeats,
    split_codes,
    strings,
)
from cascjax.data.table import Table
from cascjax.errors import CascjaxError, unknown_name
from cascjax.features.responses import (
    CLASS_SIGNALS,
    LOGPROB_SIGNALS,
    class_signals,
    logprob_signals,
)
from cascjax.importers.base import (
    Assembly,
    ImportResult,
    TextOptions,
    absent_cells,
    check_invalid,
    option,
)
from cascjax.importers.logs import (
    ColumnKind,
    Log,
    numbers,
    optional_numbers,
    read_log,
    rows_of_file,
    texts,
)
from cascjax.words import counted

_MAX_CELLS = 1 << 31
_NAMED = 6  # Number of models in a message


@dataclass(frozen=True, kw_only=True)
class Options(TextOptions):
    """Columns of a long log.

    Each "column" is the name of a column of the log, each "columns" a dictionary from the name of
    a quantity to the name of its column.
    """

    query: str = option("column", "Column with the id of the query.", required=True)
    model: str = option("column", "Column with the name of the model.", required=True)
    quality: str = option("column", "Column with the quality of the answer.", required=True)
    cost: str = option("column", "Column with the cost of the answer.", required=True)
    group: str | None = option("column", "Column with the benchmark or customer of the query.")
    split: str | None = option("column", 'Column with the split, "fit" or "evaluate".')
    extra_costs: Mapping[str, str] = option(
        "columns", "Extra costs of the answer and their columns, such as seconds=latency_s."
    )
    prompt: str | None = option("column", "Column with the prompt of the query, for features.")
    response: str | None = option("column", "Column with the response of the model, for features.")
    extra_features: Mapping[str, str] = option(
        "columns", "Numbers known before any model runs, and their columns."
    )
    extra_signals: Mapping[str, str] = option(
        "columns", "Numbers known once a model has run, and their columns."
    )
    logprobs: str | None = option(
        "column",
        "Column with a list of log-probabilities of the answer's tokens; their mean and the last"
        " become signals.",
    )
    draws: str = option(
        "choice",
        "Rows that repeat a query and model with another quality or cost: refuse them, take their"
        " mean, or keep the first.",
        default="error",
        choices=("error", "mean", "first"),
    )
    where: str | Sequence[str] = option(
        "filters", "Keep only rows with this value in this column, or with one of several values."
    )
    class_probabilities: str | None = option(
        "column",
        "Column with a list of the probability of each class; entropy and margin become signals.",
    )

    def __post_init__(self) -> None:
        """Refuse text columns without text features, and the reverse."""
        super().__post_init__()
        if self.features is not None and self.prompt is None:
            raise CascjaxError("features='text' needs prompt, the column with the prompts")
        if self.features is None and (self.prompt, self.response) != (None, None):
            raise CascjaxError("prompt and response need features='text'")
        if self.response is None and self.answers != "auto":
            raise CascjaxError("answers needs response, the column with the responses")

    @property
    def filters(self) -> dict[str, list[str]]:
        """Values of the rows to keep, by column."""
        filters: dict[str, list[str]] = {}
        for text in (self.where,) if isinstance(self.where, str) else self.where:
            column, sign, value = text.partition("=")
            if not sign:
                raise CascjaxError(f"where must be 'COLUMN=VALUE', not {text!r}")
            filters.setdefault(column.strip(), []).append(value.strip())
        return filters


def import_long(
    path: str | os.PathLike[str], query: str, model: str, quality: str, cost: str, **options: Any
) -> ImportResult:
    r"""Import a log with one row per query and model from CSV, JSON, Parquet, Arrow or pickle.

    Text may be compressed with gzip, bz2 or zstd. CSV may be separated by commas, semicolons, tabs
    or bars; JSON is JSON Lines or an array of records, whose nested fields are columns such as
    "usage.cost". Numbers in text may be words (true, pass, C), percentages, amounts such as $0.01,
    or have separators; notes of the result say what was converted.

    Queries and models keep the order of their first appearance; costs keep the file's unit. A row
    without quality or any of its costs counts as absent. Rows that repeat a query and model, with
    the same quality and costs, are merged.

    Args:
      path: Log.
      query: Column with the id of the query.
      model: Column with the name of the model.
      quality: Column with the quality of the answer.
      cost: Column with the cost of the answer.
      options: Optional, by name. `invalid`: "error" refuses a file in which a query lacks a model;
        "drop" keeps the queries that have all models. `draws`: "error" refuses rows that repeat a
        query and model with another quality or cost, "mean" takes the mean of their numbers, with
        the response of the first, and "first" keeps the first. `where`: "COLUMN=VALUE", or a
        list of such texts, keeps only rows with that value in that column. Columns: `group`,
        `split` ("fit" or "evaluate"), `prompt`, `response`, `logprobs` and `class_probabilities`
        (lists of numbers, from which `cascjax.features` makes signals). Dictionaries from name to
        column: `extra_costs`, `extra_features`, `extra_signals`. Text: `features="text"` adds
        features of the prompts and signals of the responses, with `text_model` (a file, read or
        else fitted and written), `n_components`, and `answers`, the convention by which responses
        mark their answers, one of `cascjax.features.CONVENTIONS`.

    Returns:
      The evaluation table, and counts of what was left out.

    Raises:
      CascjaxError: The file cannot be read, a column is unknown or named twice, a value is
        invalid, or there are invalid rows.

    Example:
      >>> import tempfile
      >>> path = os.path.join(tempfile.mkdtemp(), "log.csv")
      >>> with open(path, "w") as file:
      ...     rows = ["id,llm,score,usd", "q1,small,0,0.1", "q1,large,1,0.9"]
      ...     _ = file.write("\n".join(rows))
      >>> import_long(path, query="id", model="llm", quality="score", cost="usd")
      ImportResult: 1 query, 2 models
    """
    return read(path, Options(query=query, model=model, quality=quality, cost=cost, **options))


def read(path: str | os.PathLike[str], options: Options) -> ImportResult:
    """Read a long log, as `import_long`."""
    source = os.fspath(path)
    log = read_log(path, lambda names: _kinds(options, names, source), options.filters)
    with rows_of_file(log.rows):
        return _assemble(log, options, source)


def _assemble(file: Log, options: Options, source: str) -> ImportResult:
    """Return the table of the rows of a log."""
    log = _Rows(file, options, source)
    keep = log.keep
    columns: dict[str, Any] = {"models": log.models}
    if options.group is not None:
        groups = strings(log.columns[options.group], source, options.group)
        log.by_query(options.group, encode(groups)[0])
        columns["group"], columns["groups"] = encode(groups.take(pa.array(log.last_row[keep])))
    if options.split is not None:
        codes = split_codes(log.columns[options.split], source, options.split)
        columns["split"] = log.by_query(options.split, codes)[keep]
    if options.extra_costs:
        extra = zip(options.extra_costs, log.costs[1:], strict=True)
        columns["extra_costs"] = {name: values[keep] for name, values in extra}
    ids = pa.array(log.queries, pa.string()).take(pa.array(keep))
    made = Assembly(source, ids, Table(log.quality[keep], log.costs[0][keep], **columns))
    made.notes += [*file.notes, *log.notes]
    if options.features is not None:
        responses = []
        if options.response is not None:
            column = log.columns[options.response]
            rows = log.first_row[keep]  # kept queries have a row for every model
            responses = [texts(column.take(pa.array(each))) for each in rows.T]
        prompts = [log.prompts[row] for row in keep]
        made.add_text(prompts, responses, [text for text in log.prompts if text.strip()], options)
    for name, column in options.extra_features.items():
        values = log.by_query(column, optional_numbers(log.columns, column, source))
        made.features.append(([name], values[keep, None]))
    for name, column in options.extra_signals.items():
        values = log.by_model(optional_numbers(log.columns, column, source))
        made.signals.append(([name], values[keep, :, None]))
    for column, names, make in (
        (options.logprobs, LOGPROB_SIGNALS, logprob_signals),
        (options.class_probabilities, CLASS_SIGNALS, class_signals),
    ):
        if column is not None:
            signals = make(log.columns[column], source, column)
            made.signals.append((names, log.by_model(signals)[keep]))
    return made.finish(len(log.queries) - len(keep), log.n_repeated, log.n_dropped)


class _Rows:
    """Rows of a long log, arranged by query and model."""

    def __init__(self, log: Log, options: Options, source: str) -> None:
        """Arrange the rows; refuse invalid rows, unless they are to be dropped."""
        self.columns = columns = log.columns
        self._rows, self._source, self.notes = log.rows, source, list[str]()
        self.query_codes, self.queries = encode(
            strings(columns[options.query], source, options.query)
        )
        self._model_codes, self.models = encode(
            strings(columns[options.model], source, options.model)
        )
        costs = [options.cost, *options.extra_costs.values()]
        quality, *values = [numbers(columns, name) for name in (options.quality, *costs)]
        for name, cost in zip(costs, values, strict=True):
            refuse_rows(source, name, cost < 0, "negative", "costs must be at least 0")
        N, K = len(self.queries), len(self.models)
        if N * K > _MAX_CELLS:
            raise CascjaxError(
                f"{source}: {N:,} queries and {K:,} models are too many; check that query and"
                " model are not swapped"
            )
        self.last_row = np.zeros(N, np.int64)
        self.last_row[self.query_codes] = np.arange(len(self.query_codes))
        self._pairs = self.query_codes.astype(np.int64) * K + self._model_codes
        present = np.isfinite(quality) & np.logical_and.reduce(list(map(np.isfinite, values)))
        repeated = repeats(self._pairs, present)
        first = np.flatnonzero(present & ~repeated)
        self.first_row = np.full(N * K, -1)
        self.first_row[self._pairs[first]] = first
        averaged = options.draws == "mean"
        self.n_repeated = 0 if averaged else int(np.count_nonzero(repeated))
        self._used = np.flatnonzero(present) if averaged else first
        refused = self._merge(repeated, [quality, *values], options.draws)
        ignored = int(np.count_nonzero(~present & (self.first_row[self._pairs] >= 0)))
        if ignored:
            self.notes.append(
                f"{counted(ignored, 'row')} without a quality or a cost ignored: other rows have"
                " the query and model"
            )
        self.first_row = self.first_row.reshape(N, K)
        self.quality, *self.costs = map(self.by_model, (quality, *values))

        needed = [f"one of the {K} models", "its quality"]
        needed.append("its cost" if len(costs) == 1 else "one of its costs")
        self.prompts: list[str] = []
        usable = np.ones(N, bool)
        if options.prompt is not None:
            codes, distinct = encode(columns[options.prompt].fill_null(""))
            self.prompts = [distinct[code] for code in self.by_query(options.prompt, codes)]
            usable = np.array([bool(text.strip()) for text in self.prompts], bool)
            needed.append("a prompt")
        complete = usable & (self.first_row >= 0).all(axis=1)
        self.keep = np.flatnonzero(complete)
        self.n_dropped = len(quality) - int(
            np.count_nonzero(complete[self.query_codes[self._used]])
        )
        absent = absent_cells(self.models, self._absent(quality), usable)
        check_invalid(
            source,
            options.invalid,
            [
                (
                    [self.queries[row] for row in np.flatnonzero(~complete)],
                    ("query", "queries"),
                    f"lacking {', '.join(needed[:-1])} or {needed[-1]}",
                ),
            ],
            len(self.keep),
            absent,
            refused,
            f"keep the models of such a group with where='{options.model}=NAME', or add rows"
            if K > 2
            else "add complete rows",
        )
        if absent:
            self.notes.append(absent[0].upper() + absent[1:])

    def _merge(
        self, repeated: Bool[np.ndarray, " R"], values: Sequence[np.ndarray], draws: str
    ) -> str:
        """Note how repeated rows are merged; return the error if they must not be."""
        rows = np.flatnonzero(repeated)
        if not len(rows):
            return ""
        first = self.first_row[self._pairs[rows]]
        differs = np.logical_or.reduce([column[rows] != column[first] for column in values])
        n_differ = int(np.count_nonzero(differs))
        text = f"{counted(len(rows), 'row repeats', 'rows repeat')} a query and model"
        if not n_differ:
            self.notes.append(f"{text}, with the same quality and cost: merged")
            return ""
        by_model = np.bincount(self._model_codes[rows[differs]], minlength=len(self.models))
        order = [k for k in np.argsort(-by_model, kind="stable") if by_model[k]]
        each = [f"{self.models[k]!r} {by_model[k]:,}" for k in order[:_NAMED]]
        each += [f"{len(order) - _NAMED:,} more models"] if len(order) > _NAMED else []
        text += f", {n_differ:,} of them with another quality or cost ({', '.join(each)})"
        if draws == "error":
            place = int(np.argmax(differs))
            row, kept = int(rows[place]), int(first[place])
            pairs = zip(("quality", "cost"), values, strict=False)
            different = [
                f"{name} {column[kept]:.6g} and {column[row]:.6g}"
                for name, column in pairs
                if column[row] != column[kept]
            ]
            return (
                f"{text}; first: query {self.queries[self.query_codes[row]]!r} and model"
                f" {self.models[self._model_codes[row]]!r} have"
                f" {' and '.join(different) or 'different extra costs'} in rows {self._rows[kept]}"
                f" and {self._rows[row]}; take their mean with draws='mean', keep the first with"
                " draws='first', or keep one kind of rows with where='COLUMN=VALUE'"
            )
        if draws == "mean":
            most = np.bincount(self._pairs[self._used]).max()
            text += f": the mean is taken, of up to {most:,} rows per query and model"
        self.notes.append(text if draws == "mean" else f"{text}: the first is kept")
        return ""

    def _absent(self, quality: Float[np.ndarray, " R"]) -> dict[str, Bool[np.ndarray, "N K"]]:
        """Return the cells without a complete row, by reason."""
        listed = np.zeros(self.first_row.size, bool)
        listed[self._pairs] = True
        scored = np.zeros(self.first_row.size, bool)
        scored[self._pairs[np.isfinite(quality)]] = True
        shape, missing = self.first_row.shape, self.first_row.reshape(-1) < 0
        return {
            "without a row": (~listed).reshape(shape),
            "without a quality": (listed & ~scored).reshape(shape),
            "without a cost": (missing & scored).reshape(shape),
        }

    def by_model(self, values: Float[np.ndarray, "R ..."]) -> Float[np.ndarray, "N K ..."]:
        """Return the mean of the used rows by query and model, NaN where none has a number."""
        N, K, rest = len(self.queries), len(self.models), values.shape[1:]
        cells = np.full((N * K, *rest), np.nan)
        for place in np.ndindex(rest):
            column = values[(self._used, *place)]
            rows, numbers = self._pairs[self._used][~np.isnan(column)], column[~np.isnan(column)]
            count = np.bincount(rows, minlength=N * K)
            total = np.bincount(rows, numbers, minlength=N * K)
            np.divide(total, count, out=cells[(slice(None), *place)], where=count > 0)
        return cells.reshape(N, K, *rest)

    def by_query(self, name: str, values: Shaped[np.ndarray, " R"]) -> Shaped[np.ndarray, " N"]:
        """Return the value that each query has in all of its rows; refuse several values."""
        of_query = values[self.last_row]
        other = of_query[self.query_codes]
        differs = (other != values) & ~((other != other) & (values != values))  # NaN equals NaN
        if differs.any():
            query = self.queries[self.query_codes[np.argmax(differs)]]
            problem = f"query {query!r} has several values"
            fix = "a query needs the same value in all rows"
            refuse_rows(self._source, name, differs, problem, fix)
        return of_query


def _kinds(options: Options, present: Sequence[str], source: str) -> dict[str, ColumnKind]:
    """Return the columns to read and the kinds of their values."""
    o = options
    for name in o.extra_costs:
        extra_cost_column(name, source)
    wanted: list[tuple[ColumnKind, tuple[str | None, ...]]] = [
        ("text", (o.query, o.model, o.group, o.split, o.prompt, o.response)),
        ("quality", (o.quality,)),
        ("cost", (o.cost, *o.extra_costs.values())),
        ("number", (*o.extra_features.values(), *o.extra_signals.values())),
        ("numbers", (o.logprobs, o.class_probabilities)),
    ]
    kinds: dict[str, ColumnKind] = {}
    for kind, names in wanted:
        for name in names:
            if name in kinds:
                raise CascjaxError(f"column {name!r} is named twice; name one column for each")
            if name is not None:
                kinds[name] = kind
                if name not in present:
                    raise CascjaxError(f"{source}: {unknown_name('column', name, present)}")
    for name in o.filters:
        if name not in present:
            raise CascjaxError(f"{source}: {unknown_name('column', name, present)}")
        if kinds.setdefault(name, "text") != "text":
            raise CascjaxError(f"where cannot filter by {name!r}, a column of numbers")
    return kinds
