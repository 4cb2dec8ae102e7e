"""Long logs: one row per query and model."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Shaped

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
from cascjax.importers.base import Assembly, ImportResult, TextOptions, check_invalid, option
from cascjax.importers.logs import ColumnKind, numbers, optional_numbers, read_log, texts

_MAX_CELLS = 1 << 31


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


def import_long(
    path: str | os.PathLike[str], query: str, model: str, quality: str, cost: str, **options: Any
) -> ImportResult:
    r"""Import a log with one row per query and model from Parquet, Arrow, CSV or pickle.

    Queries and models keep the order of their first appearance; costs keep the file's unit. A row
    without quality or any of its costs counts as absent.

    Args:
      path: Log.
      query: Column with the id of the query.
      model: Column with the name of the model.
      quality: Column with the quality of the answer.
      cost: Column with the cost of the answer.
      options: Optional, by name. `invalid`: "error" refuses a file in which a query lacks a model
        or a pair of query and model repeats; "drop" keeps the first complete row of each pair and
        the queries that have all models. Columns: `group`, `split` ("fit" or "evaluate"),
        `prompt`, `response`, `logprobs` and `class_probabilities` (lists of numbers, from which
        `cascjax.features` makes signals). Dictionaries from name to column: `extra_costs`,
        `extra_features`, `extra_signals`. Text: `features="text"` adds features of the prompts and
        signals of the responses, with `text_model` (a file, read or else fitted and written) and
        `n_components`.

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
    log = _Log(read_log(path, lambda names: _kinds(options, names, source)), options, source)
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
    if options.features is not None:
        responses = []
        if options.response is not None:
            # Row of the file for each query and model; kept queries have one for every model.
            rows = log.by_model(np.arange(len(log.query_codes), dtype=float))[keep].astype(np.int64)
            column = log.columns[options.response]
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
    n_dropped = len(log.query_codes) - len(keep) * len(log.models)
    n_missing = len(log.queries) - len(keep)
    return made.finish(n_missing, int(log.repeated.sum()), n_dropped)


class _Log:
    """Rows of a long log, arranged by query and model."""

    def __init__(self, columns: pa.Table, options: Options, source: str) -> None:
        """Arrange the rows; refuse invalid rows, unless they are to be dropped."""
        self.columns, self._source = columns, source
        self.query_codes, self.queries = encode(
            strings(columns[options.query], source, options.query)
        )
        model_codes, self.models = encode(strings(columns[options.model], source, options.model))
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
        self._pairs = self.query_codes.astype(np.int64) * K + model_codes
        present = np.isfinite(quality) & np.logical_and.reduce(list(map(np.isfinite, values)))
        self.repeated = repeats(self._pairs, present)
        self._used = np.flatnonzero(present & ~self.repeated)
        self.quality, *self.costs = map(self.by_model, (quality, *values))

        complete = ~np.isnan(self.quality).any(axis=1)
        needed = [f"one of the {K} models", "its quality"]
        needed.append("its cost" if len(costs) == 1 else "one of its costs")
        self.prompts: list[str] = []
        if options.prompt is not None:
            codes, distinct = encode(columns[options.prompt].fill_null(""))
            self.prompts = [distinct[code] for code in self.by_query(options.prompt, codes)]
            complete &= np.array([bool(text.strip()) for text in self.prompts], bool)
            needed.append("a prompt")
        self.keep = np.flatnonzero(complete)
        lacking = f"lacking {', '.join(needed[:-1])} or {needed[-1]}"
        incomplete = [self.queries[row] for row in np.flatnonzero(~complete)]
        repeated = [
            f"{self.queries[self.query_codes[row]]} of {self.models[model_codes[row]]}"
            for row in np.flatnonzero(self.repeated)
        ]
        check_invalid(
            source,
            options.invalid,
            [
                (incomplete, ("query", "queries"), lacking),
                (repeated, ("row", "rows"), "repeating a query and model"),
            ],
            len(self.keep),
            never=[self.models[k] for k in np.flatnonzero(np.isnan(self.quality).all(axis=0))],
        )

    def by_model(self, values: Float[np.ndarray, "R ..."]) -> Float[np.ndarray, "N K ..."]:
        """Return values of rows by query and model, NaN where there is no complete row."""
        N, K, rest = len(self.queries), len(self.models), values.shape[1:]
        cells = np.full((N * K, *rest), np.nan)
        cells[self._pairs[self._used]] = values[self._used]
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
        ("number", (o.quality, o.cost, *o.extra_costs.values())),
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
    return kinds
