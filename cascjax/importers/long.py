"""Long logs: one row per query and model."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Int32

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
    log = read_log(path, lambda names: _kinds(options, names, source))
    query_codes, queries = encode(strings(log[options.query], source, options.query))
    model_codes, models = encode(strings(log[options.model], source, options.model))
    costs = {"cost": options.cost, **options.extra_costs}
    values = [numbers(log, name) for name in (options.quality, *costs.values())]
    for name, of_cost in zip(costs.values(), values[1:], strict=True):
        refuse_rows(source, name, of_cost < 0, "negative", "costs must be at least 0")
    N, K = len(queries), len(models)
    if N * K > _MAX_CELLS:
        raise CascjaxError(
            f"{source}: {N:,} queries and {K:,} models are too many; check that query and model are"
            " not swapped"
        )

    pairs = query_codes.astype(np.int64) * K + model_codes
    present = np.logical_and.reduce([np.isfinite(each) for each in values])
    repeated = repeats(pairs, present)
    used = np.flatnonzero(present & ~repeated)

    def by_model(of_rows: np.ndarray) -> np.ndarray:  # [R, ...] to [N, K, ...]
        cells = np.full((N * K, *of_rows.shape[1:]), np.nan)
        cells[pairs[used]] = of_rows[used]
        return cells.reshape(N, K, *of_rows.shape[1:])

    def by_query(codes: Int32[np.ndarray, " R"], name: str) -> Int32[np.ndarray, " N"]:
        """Return the value that each query has in all of its rows; refuse several values."""
        value = np.zeros(N, np.int32)
        value[query_codes] = codes
        differs = value[query_codes] != codes
        if differs.any():
            query = queries[query_codes[np.argmax(differs)]]
            problem = f"query {query!r} has several values"
            refuse_rows(source, name, differs, problem, "a query needs the same value in all rows")
        return value

    quality, *cost = [by_model(each) for each in values]
    complete = ~np.isnan(quality).any(axis=1)
    prompts: list[str] = []
    if options.prompt is not None:
        codes, distinct = encode(log[options.prompt].fill_null(""))
        prompts = [distinct[code] for code in by_query(codes, options.prompt)]
        complete &= np.array([bool(text.strip()) for text in prompts], bool)
    keep, missing = np.flatnonzero(complete), np.flatnonzero(~complete)
    needed = [f"one of the {K} models", "its quality"]
    needed.append("its cost" if len(costs) == 1 else "one of its costs")
    needed += ["a prompt"] * (options.prompt is not None)
    lacking = f"lacking {', '.join(needed[:-1])} or {needed[-1]}"
    pairs_of = [
        f"{queries[query_codes[r]]} of {models[model_codes[r]]}" for r in np.flatnonzero(repeated)
    ]
    check_invalid(
        source,
        options.invalid,
        [
            ([queries[row] for row in missing], f"query {lacking}", f"queries {lacking}"),
            (pairs_of, "row repeating a query and model", "rows repeating a query and model"),
        ],
        len(keep),
        never=[models[k] for k in np.flatnonzero(np.isnan(quality).all(axis=0))],
    )

    columns: dict[str, Any] = {}
    if options.group is not None:
        codes, names = encode(strings(log[options.group], source, options.group))
        kept, groups = encode(
            pa.chunked_array(
                [pa.array(names, pa.string()).take(by_query(codes, options.group)[keep])]
            )
        )
        columns |= {"group": kept, "groups": groups}
    if options.split is not None:
        codes = split_codes(log[options.split], source, options.split).astype(np.int32)
        columns["split"] = by_query(codes, options.split)[keep].astype(np.int8)
    if options.extra_costs:
        extra = zip(options.extra_costs, cost[1:], strict=True)
        columns["extra_costs"] = {name: each[keep] for name, each in extra}
    ids = pa.array(queries, pa.string()).take(pa.array(keep))
    made = Assembly(source, ids, Table(quality[keep], cost[0][keep], models=models, **columns))
    if options.features is not None:
        responses = []
        if options.response is not None:
            # Row of the file for each query and model; kept queries have one for every model.
            rows = by_model(np.arange(log.num_rows, dtype=float))[keep].astype(np.int64)
            responses = [texts(log[options.response].take(pa.array(each))) for each in rows.T]
        kept = [prompts[row] for row in keep]
        made.add_text(kept, responses, [text for text in prompts if text.strip()], options)
    for name, column in options.extra_features.items():
        distinct, codes = np.unique(optional_numbers(log, column, source), return_inverse=True)
        of_query = distinct[by_query(codes.astype(np.int32), column)]  # NaN is equal to NaN here
        made.features.append(([name], of_query[keep, None]))
    for name, column in options.extra_signals.items():
        values = by_model(optional_numbers(log, column, source))
        made.signals.append(([name], values[keep, :, None]))
    for column, names, make in (
        (options.logprobs, LOGPROB_SIGNALS, logprob_signals),
        (options.class_probabilities, CLASS_SIGNALS, class_signals),
    ):
        if column is not None:
            made.signals.append((names, by_model(make(log[column], source, column))[keep]))
    return made.finish(len(missing), int(repeated.sum()), log.num_rows - len(keep) * K)


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
