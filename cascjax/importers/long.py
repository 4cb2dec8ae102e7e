"""Long logs: one row per query and model."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float, Shaped

from cascjax.data.prices import SUFFIX, TOKENS, disjoint, read_prices
from cascjax.data.scales import CALLS
from cascjax.data.schema import (
    BadRowsError,
    check_distinct,
    extra_cost_column,
    refuse_rows,
    repeats,
    split_codes,
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
    MODEL,
    ROW,
    ColumnKind,
    Data,
    Log,
    distinct_codes,
    name_of,
    numbers,
    optional_numbers,
    read_log,
    texts,
)
from cascjax.importers.text import Json, one_type
from cascjax.words import counted, listed

_MAX_CELLS = 1 << 31
MELTED = "{models}"  # Column of the models of a log with columns per model
_NAMED = 6  # Number of models in a message
_FEW = 5  # Queries from which the means of dropped and kept ones are compared
_DIFFERENT = 3.0  # Standard errors from which they differ


@dataclass(frozen=True, kw_only=True)
class PivotOptions(TextOptions):
    """Options of every importer of rows, one per query and model, whatever their format."""

    draws: str = option(
        "choice",
        "Rows that repeat a query and model with another quality or cost: refuse them, take their"
        " mean, keep the first, or make each draw of a model a model of its own.",
        default="error",
        choices=("error", "mean", "first", "arms"),
    )
    cost_unit: str | None = option("text", "Unit of the cost, such as USD.")
    prices: str | os.PathLike[str] | None = option(  # noqa: RUF009
        "file",
        "Prices by which costs are computed from counts of tokens: YAML, or LiteLLM's JSON.",
    )
    strong: str | None = option(
        "text",
        "Model whose share of calls is the cost, where there are no prices: it costs 1, the others"
        " 0.",
    )


@dataclass(frozen=True, kw_only=True)
class Options(PivotOptions):
    """Columns of a long log.

    Each "column" is the name of a column of the log, each "columns" a dictionary from the name of
    a quantity to the name of its column.
    """

    query: str | None = option("column", "Column with the id of the query.", required=True)
    model: str | None = option("column", "Column with the name of the model.", required=True)
    quality: str = option("column", "Column with the quality of the answer.", required=True)
    cost: str | None = option(
        "column", "Column with the cost of the answer. [default: from tokens and prices]"
    )
    tokens: Mapping[str, str] = option(
        "columns",
        "Counts of tokens and their columns: input, output, cached, cache_write, reasoning. They"
        " become extra costs, such as input_tokens.",
    )
    token_counts: str = option(
        "choice",
        "Place of cached and reasoning tokens: among input and output tokens (nested, as OpenAI"
        " counts them) or apart (separate).",
        default="nested",
        choices=("nested", "separate"),
    )
    time: str | None = option("column", "Column with the time of the call, for its prices.")
    group: str | None = option("column", "Column with the benchmark or customer of the query.")
    split: str | None = option("column", 'Column with the split, "fit" or "evaluate".')
    extra_costs: Mapping[str, str] = option(
        "columns", "Extra costs of the answer and their columns, such as seconds=latency_s."
    )
    prompt: str | None = option("column", "Column with the prompt of the query, for features.")
    response: str | None = option("column", "Column with the response of the model, for features.")
    answer: str | None = option(
        "column", "Column with the extracted answer; equal texts are the same answer."
    )
    extra_features: Mapping[str, str] = option(
        "columns", "Numbers, or lists of them, known before any model runs, and their columns."
    )
    extra_signals: Mapping[str, str] = option(
        "columns", "Numbers, or lists of them, known once a model has run, and their columns."
    )
    embedding: str | None = option(
        "column", "Column with the embedding of the prompt, a list of numbers, as features."
    )
    embedding_components: int | None = option(
        "integer", "Number of principal components that embeddings are reduced to. [default: all]"
    )
    logprobs: str | None = option(
        "column",
        "Column with a list of log-probabilities of the answer's tokens; their mean and the last"
        " become signals.",
    )
    models: Sequence[str] = ()
    model_from_path: str | None = None
    status: str | None = option(
        "column", "Column with the status of the call; a call that failed has no quality."
    )
    ok: Sequence[str] = option("names", "Values of the status of calls that did not fail.")
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
        if (self.status is None) != (not self.ok):
            raise CascjaxError("status and ok need each other: a column, and values in it")
        if self.embedding is None and self.embedding_components is not None:
            raise CascjaxError("embedding_components needs embedding, the column with the lists")
        for kind in self.tokens:
            if kind not in TOKENS:
                raise unknown_name("kind of tokens", kind, TOKENS)
        sources = [n for n in ("cost", "prices", "strong") if getattr(self, n) is not None]
        if len(sources) > 1:
            raise CascjaxError(f"{listed(sources)} exclude each other; give one source of costs")
        if not sources:
            known = "tokens without prices: " if self.tokens else ""
            raise CascjaxError(
                f"{known}costs need cost=COLUMN, prices=FILE with counts of tokens, or"
                " strong=MODEL, whose share of calls is the cost"
            )
        if self.time is not None and self.prices is None:
            raise CascjaxError("time needs prices, which may change over time")

    @property
    def row_filters(self) -> dict[str, list[str]]:
        """Values of the rows to keep, by column."""
        filters: dict[str, list[str]] = {}
        for text in (self.where,) if isinstance(self.where, str) else self.where:
            column, sign, value = text.partition("=")
            if not sign:
                raise CascjaxError(f"where must be 'COLUMN=VALUE', not {text!r}")
            filters.setdefault(column.strip(), []).append(value.strip())
        return filters

    @property
    def layout(self) -> Json:
        """Layout of a log in JSON."""
        return Json(all_names=bool(self.patterns))

    @property
    def patterns(self) -> list[str]:
        """Columns per model: names that hold "{model}" beside other text, or instead of it."""
        columns = (name for _, names in self.columns[1:] for name in names)
        return [name for name in columns if name and MODEL in name]

    @property
    def named(self) -> set[str]:
        """Columns that are the same for all models."""
        columns = {name for _, names in self.columns for name in names if name}
        return {*columns, *self.row_filters} - {*self.patterns}

    @property
    def columns(self) -> list[tuple[ColumnKind, tuple[str | None, ...]]]:
        """Kinds of columns, and the columns of each kind; None where none is named."""
        costs = (self.cost, *self.tokens.values(), *self.extra_costs.values())
        return [
            ("text", (self.query, self.model)),
            ("text", (self.group, self.split, self.prompt, self.response, self.answer)),
            ("text", (self.status,)),
            ("quality", (self.quality,)),
            ("cost", costs),
            ("time", (self.time,)),
            ("number", (*self.extra_features.values(), *self.extra_signals.values())),
            ("numbers", (self.logprobs, self.class_probabilities, self.embedding)),
        ]


def import_long(
    data: Data,
    query: str,
    model: str,
    quality: str,
    cost: str | None = None,
    **options: Any,
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
      data: Log: a path, a folder, a pattern, or a list of paths; or a table of pandas, polars or
        Arrow.
      query: Column with the id of the query.
      model: Column with the name of the model.
      quality: Column with the quality of the answer.
      cost: Column with the cost of the answer; in its place `prices`, a file, with `tokens`, a
        dictionary from "input", "output", "cached", "cache_write" and "reasoning" to columns; or
        `strong`, the model whose share of calls is the cost.
      options: Optional, by name. `invalid`: "error" refuses a file in which a query lacks a model;
        "drop" keeps the queries that have all models. `draws`: "error" refuses rows that repeat a
        query and model with another quality or cost, "mean" takes the mean of their numbers, with
        the response of the first, "first" keeps the first, and "arms" makes each draw a model of
        its own, such as "small#2". `where`: "COLUMN=VALUE", or a list of such texts, keeps only
        rows with that value in that column. Columns: `group`, `split` ("fit" or "evaluate"),
        `status` (of the call, which failed unless it is among `ok`), `time` (of the call, for
        prices that change), `prompt`, `response`, `answer`, `embedding` (a list of numbers, reduced
        to `embedding_components`), `logprobs` and `class_probabilities` (lists of numbers, from
        which `cascjax.features` makes signals). Dictionaries from name to column: `extra_costs`,
        `extra_features`, `extra_signals`. Text: `features="text"` adds
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
    return read(data, Options(query=query, model=model, quality=quality, cost=cost, **options))


def read(data: Data, options: Options) -> ImportResult:
    """Read a long log, as `import_long`."""
    source, models = name_of(data), list[str]()

    def choose(names: Sequence[str]) -> Mapping[str, ColumnKind]:
        if not options.patterns:
            return _kinds(options, names, source)
        named = _models(options, names, source)
        models.extend(model for model in named if model not in models)
        return _kinds(options, names, source, named)

    path = options.model_from_path
    log = read_log(data, choose, options.row_filters, options.layout, path)
    if options.query == ROW:
        if log.files:
            raise CascjaxError(f"{source}: several files need query, the column of the query's id")
        numbered = pa.array(log.rows).cast(pa.large_string())
        log = replace(log, columns=log.columns.append_column(ROW, numbered))
    if models:
        log, options = _melted(log, options, models), replace(options, model=MELTED)
    return pivot(log, options, source)


def _melted(log: Log, options: Options, models: Sequence[str]) -> Log:
    """Return a log with one row per query and model, of one with columns per model."""
    R, K, table = log.columns.num_rows, len(models), log.columns
    rows = pa.array(np.repeat(np.arange(R), K))
    interleaved = pa.array(np.arange(R * K).reshape(K, R).T.reshape(-1))
    columns: dict[str, Any] = {
        name: table[name].take(rows)
        for name in table.column_names
        if name in options.named or name == ROW
    }
    for pattern in options.patterns:
        names = [pattern.replace(MODEL, model) for model in models]
        known = [table[name].type for name in names if name in table.column_names]
        parts = [
            table[name] if name in table.column_names else pa.chunked_array([pa.nulls(R, known[0])])
            for name in names
        ]
        columns[pattern] = one_type([c for part in parts for c in part.chunks]).take(interleaved)
    codes = pa.array(np.tile(np.arange(K, dtype=np.int32), R))
    columns[MELTED] = pa.DictionaryArray.from_arrays(codes, pa.array(models, pa.large_string()))
    files = tuple((first * K, name) for first, name in log.files)
    return Log(pa.table(columns), np.repeat(log.rows, K), log.notes, files)


def _models(options: Options, present: Sequence[str], source: str) -> list[str]:
    """Return the models that have columns of qualities, and of costs where these are named."""
    matching: dict[str, dict[str, None]] = {}
    for pattern in options.patterns:
        before, _, after = (re.escape(part) for part in pattern.partition(MODEL))
        matches = (re.fullmatch(f"{before}(.+){after}", name) for name in present)
        matching[pattern] = dict.fromkeys(match[1] for match in matches if match)
        if not matching[pattern]:
            raise CascjaxError(f"{source}: {unknown_name('column', pattern, present)}")
    required = [options.quality, options.cost, *options.tokens.values()]
    sets = [matching[pattern] for pattern in required if pattern in matching]
    models = [model for model in sets[0] if all(model in each for each in sets)] if sets else []
    if options.models:
        for model in options.models:
            if model not in models:
                raise CascjaxError(f"{source}: {unknown_name('model', model, models)}")
        return list(options.models)
    if options.quality == MODEL and len(sets) == 1:
        raise CascjaxError(
            f"{source}: every column may be a model's; name the models with models, or their other"
            " columns, such as cost='{model}|cost'"
        )
    if not models:
        raise CascjaxError(
            f"{source}: no model has all of the columns {', '.join(map(repr, matching))}"
        )
    return models


def pivot(log: Log, options: Options, source: str) -> ImportResult:
    """Return the table of the rows of a log."""
    with log.naming():
        return _assemble(log, options, source)


def _assemble(file: Log, options: Options, source: str) -> ImportResult:
    """Return the table of the rows of a log."""
    log = _Rows(file, options, source)
    keep = log.keep
    columns: dict[str, Any] = {"models": tuple(log.models), "cost_unit": log.cost_unit}
    if options.group is not None:
        codes, names = _codes(log.columns[options.group], source, options.group)
        codes = log.by_query(options.group, codes)[keep]
        present, first = np.unique(codes, return_index=True)
        order = np.argsort(first)
        columns["group"] = np.argsort(order).astype(np.int32)[np.searchsorted(present, codes)]
        columns["groups"] = tuple(names[code] for code in present[order])
    if options.split is not None:
        codes = split_codes(log.columns[options.split], source, options.split)
        columns["split"] = log.by_query(options.split, codes)[keep]
    columns["extra_costs"] = {name: log.by_model(v)[keep] for name, v in log.extra_costs.items()}
    tokens = [kind + SUFFIX for kind in TOKENS if kind + SUFFIX in columns["extra_costs"]]
    columns["extra_cost_units"] = tuple((name, "tokens") for name in sorted(tokens))
    if options.draws == "mean" and log.n_draws.max() > 1:
        columns["draws"] = log.n_draws[keep]
        columns["quality_variance"] = log.variance()[keep]
        log.notes.append(_noise_note(columns, log.models))
    ids = pa.array(log.queries, pa.string()).take(pa.array(keep))
    made = Assembly(source, ids, Table(log.quality[keep], log.cost[keep], **columns))
    made.notes += [*file.notes, *log.notes]
    rows = log.first_row[keep]  # kept queries have a row for every model
    if options.features is not None:
        responses = []
        if options.response is not None:
            column = log.columns[options.response]
            responses = [texts(column.take(pa.array(each))) for each in rows.T]
        prompts = [log.prompts[row] for row in keep]
        made.add_text(prompts, responses, [text for text in log.prompts if text.strip()], options)
    if options.answer is not None:
        codes, names = distinct_codes(log.columns[options.answer].fill_null(""))
        blank = np.array([not name.strip() for name in names], bool)
        made.answer = np.where(blank[codes], -1, codes).astype(np.int32)[rows]
    if options.embedding is not None:
        of_query = log.last_row[keep]
        column = log.columns[options.embedding].take(pa.array(of_query))
        try:
            values = _lists(column, source, options.embedding)
        except BadRowsError as error:
            raise error.moved(int(of_query[error.row])) from None
        values = _components(values, options.embedding_components)
        made.features.append(([f"embedding_{i}" for i in range(values.shape[1])], values))
    for name, column in options.extra_features.items():
        values = log.by_query(column, _inputs(log.columns, column, source))[keep]
        made.features.append((_numbered(name, values), values))
    for name, column in options.extra_signals.items():
        values = log.by_model(_inputs(log.columns, column, source))[keep]
        made.signals.append((_numbered(name, values), values))
    for column, names, make in (
        (options.logprobs, LOGPROB_SIGNALS, logprob_signals),
        (options.class_probabilities, CLASS_SIGNALS, class_signals),
    ):
        if column is not None:
            signals = make(log.columns[column], source, column)
            made.signals.append((names, log.by_model(signals)[keep]))
    return made.finish(len(log.queries) - len(keep), log.n_repeated, log.n_dropped)


def _dropped_notes(
    quality: Float[np.ndarray, "N K"],
    cost: Float[np.ndarray, "N K"],
    complete: Bool[np.ndarray, " N"],
    models: Sequence[str],
) -> list[str]:
    """Return whether dropped queries differ from kept ones, of the model where they differ most."""
    notes, n_dropped = [], int(np.count_nonzero(~complete))
    for name, values in (("quality", quality), ("cost", cost)) if n_dropped else ():
        parts = [[column[rows & ~np.isnan(column)] for rows in (~complete, complete)]
                 for column in values.T]  # fmt: skip
        scores = np.zeros(len(models))
        for k, (dropped, kept) in enumerate(parts):
            if min(len(dropped), len(kept)) >= _FEW:
                error = np.hypot(
                    *(part.std(ddof=1) / np.sqrt(len(part)) for part in (dropped, kept))
                )
                scores[k] = abs(dropped.mean() - kept.mean()) / max(error, 1e-300)
        k = int(np.argmax(scores))
        if scores[k] >= _DIFFERENT:
            means = [f"{part.mean():.3g}" for part in parts[k]]
            notes.append(
                f"Dropped queries differ from kept ones: mean {name} of {models[k]!r} is {means[0]}"
                f" in {len(parts[k][0]):,} dropped ones, {means[1]} in kept ones"
            )
    return notes


def _noise_note(columns: Mapping[str, Any], models: Sequence[str]) -> str:
    """Return how much the runs of a query differ, of the model where they differ most."""
    variance, draws = columns["quality_variance"], columns["draws"]
    known = ~np.isnan(variance)
    sums = np.sum(variance, axis=0, where=known) / np.maximum(known.sum(axis=0), 1)
    k = int(np.argmax(sums))
    if not sums[k]:
        return "Run-to-run noise: none; the runs of a query have the same quality"
    error = np.sqrt(np.sum(variance[:, k] / draws[:, k], where=known[:, k])) / len(draws)
    return (
        f"Run-to-run noise, at most: the quality of {models[k]!r} varies by"
        f" +-{np.sqrt(sums[k]):.3g} between runs of a query, its mean over all queries"
        f" by +-{error:.3g}"
    )


def _codes(column: pa.ChunkedArray, source: str, name: str) -> tuple[np.ndarray, list[str]]:
    """Return a column of names as codes and names; refuse rows without a name."""
    if column.null_count:
        refuse_rows(source, name, column.is_null().to_numpy(), "null", "every row needs a value")
    return distinct_codes(column)


def _inputs(columns: pa.Table, name: str, source: str) -> Float[np.ndarray, "R d"]:
    """Return a column of numbers, or of lists of numbers, as a matrix."""
    if pa.types.is_list(columns[name].type):
        return _lists(columns[name], source, name)
    return optional_numbers(columns, name, source)[:, None]


def _lists(column: pa.ChunkedArray, source: str, name: str) -> Float[np.ndarray, "R d"]:
    """Return lists of numbers, all of one length, as a matrix; a missing list is NaN."""
    lengths = pc.call_function("list_value_length", [column]).fill_null(-1).to_numpy()
    known = lengths[lengths > 0]
    width = int(known[0]) if len(known) else 0
    wrong = (lengths > 0) & (lengths != width)
    if wrong.any():
        problem = f"{int(lengths[np.argmax(wrong)])} numbers where other lists have {width}"
        refuse_rows(source, name, wrong, problem, "give lists of one length")
    if not width:
        raise CascjaxError(f"{source}: column {name!r} has no list of numbers; name another")
    values = np.full((len(column), width), np.nan)
    flat = pc.call_function("list_flatten", [column]).fill_null(np.nan).to_numpy()
    values[lengths > 0] = flat.reshape(-1, width)
    refuse_rows(source, name, np.any(np.isinf(values), axis=1), "infinite", "correct it")
    return values


def _numbered(name: str, values: Shaped[np.ndarray, "*N d"]) -> list[str]:
    d = values.shape[-1]
    return [name] if d == 1 else [f"{name}_{i}" for i in range(d)]


def _components(values: Float[np.ndarray, "N d"], count: int | None) -> Float[np.ndarray, "N c"]:
    """Return the first principal components of rows; a row with a missing number has none."""
    if count is None or count >= values.shape[1]:
        return values
    known = ~np.isnan(values).any(axis=1)
    centred = values - values[known].mean(axis=0)
    _, vectors = np.linalg.eigh(centred[known].T @ centred[known])
    axes = vectors[:, ::-1][:, :count]
    return centred @ (axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(count)]))


class _Rows:
    """Rows of a long log, arranged by query and model."""

    def __init__(self, log: Log, options: Options, source: str) -> None:
        """Arrange the rows; refuse invalid rows, unless they are to be dropped."""
        self.columns = columns = log.columns
        self._rows, self._source, self.notes = log.rows, source, list[str]()
        assert options.query is not None
        assert options.model is not None
        self.query_codes, self.queries = _codes(columns[options.query], source, options.query)
        self._model_codes, self.models = _codes(columns[options.model], source, options.model)
        quality = numbers(columns, options.quality)
        self._failed = self._failures(options)
        quality = np.where(self._failed, np.nan, quality)
        cost, self.extra_costs, self.cost_unit = self._costs(options)
        values = [cost, *self.extra_costs.values()]
        if options.draws == "arms":
            self._split_draws()
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
        self._present, averaged = present, options.draws == "mean"
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
        self._scores = quality
        self.quality, self.cost = self.by_model(quality), self.by_model(cost)
        counts = np.bincount(self._pairs[self._used], minlength=N * K)
        self.n_draws = counts.astype(np.int32).reshape(N, K)

        needed = [f"one of the {K} models", "its quality"]
        needed.append("one of its costs" if self.extra_costs else "its cost")
        self.prompts: list[str] = []
        usable = np.ones(N, bool)
        if options.prompt is not None:
            codes, distinct = distinct_codes(columns[options.prompt].fill_null(""))
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
        self.notes += _dropped_notes(self.quality, self.cost, complete, self.models)

    def _failures(self, options: Options) -> Bool[np.ndarray, " R"]:
        """Return the rows whose call failed, by its status."""
        if options.status is None:
            return np.zeros(len(self.query_codes), bool)
        codes, names = distinct_codes(self.columns[options.status].fill_null(""))
        for word in options.ok:
            if word not in names:
                unknown = unknown_name("status", word, names)
                raise CascjaxError(f"{self._source}: column {options.status!r}: {unknown}")
        return ~np.isin(codes, [names.index(word) for word in options.ok])

    def _costs(self, options: Options) -> tuple[np.ndarray, dict[str, np.ndarray], str]:
        """Return the cost of each row, its extra costs by name, and the unit of the cost."""
        columns, source, unit = self.columns, self._source, options.cost_unit or ""
        named = [options.cost, *options.tokens.values(), *options.extra_costs.values()]
        for name in filter(None, named):
            negative = numbers(columns, name) < 0
            refuse_rows(source, name, negative, "negative", "costs must be at least 0")
        tokens = {kind: numbers(columns, name) for kind, name in options.tokens.items()}
        for kind in set(tokens) - {"input", "output"}:
            tokens[kind] = np.nan_to_num(tokens[kind])
        if tokens:
            tokens, wrong = disjoint(tokens, options.token_counts == "nested")
            problem = "fewer input or output tokens than cached or reasoning ones"
            fix = "if they are counted apart, say so with token_counts='separate'"
            refuse_rows(source, options.tokens.get("input", "input"), wrong, problem, fix)
        extra = {name: numbers(columns, each) for name, each in options.extra_costs.items()}
        for kind in tokens:
            if kind + SUFFIX in extra:
                raise CascjaxError(
                    f"extra cost {kind + SUFFIX!r} is listed twice; name it in tokens"
                )
            extra[kind + SUFFIX] = tokens[kind]
        if options.cost is not None:
            return numbers(columns, options.cost), extra, unit
        if options.strong is not None:
            if options.strong not in self.models:
                raise CascjaxError(
                    f"{source}: {unknown_name('model', options.strong, self.models)}"
                )
            strong = self._model_codes == self.models.index(options.strong)
            return strong.astype(np.float64), extra, unit or CALLS
        assert options.prices is not None
        prices, time = read_prices(options.prices), None
        if options.time is not None:
            column = columns[options.time]
            missing = column.is_null().to_numpy()
            refuse_rows(source, options.time, missing, "null", "every call needs a time")
            time = column.to_numpy().astype("datetime64[us]")
        elif any(p.discount or p.start for each in prices.find(self.models) for p in each):
            self.notes.append(
                f"{prices.source}: the latest prices, without discounts; name the time of the calls"
                " with time"
            )
        cost = prices.cost(self.models, self._model_codes, tokens, time)
        return cost, extra, unit or prices.unit

    def _split_draws(self) -> None:
        """Make each draw of a model a model of its own; draws are numbered by their order."""
        K = len(self.models)
        pairs = self.query_codes.astype(np.int64) * K + self._model_codes
        order = np.argsort(pairs, kind="stable")
        starts = np.flatnonzero(np.diff(pairs[order], prepend=-1))
        draw = np.zeros(len(pairs), np.int64)
        draw[order] = np.arange(len(pairs)) - np.repeat(starts, np.diff(starts, append=len(pairs)))
        n_draws = [int(draw[self._model_codes == k].max()) + 1 for k in range(K)]
        first = np.cumsum([0, *n_draws[:-1]])
        names = [
            model if n == 1 else f"{model}#{i + 1}"
            for model, n in zip(self.models, n_draws, strict=True)
            for i in range(n)
        ]
        check_distinct(names, f"{self._source}: draws as models")
        self._model_codes, self.models = first[self._model_codes] + draw, names

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
                " draws='first', make each a model with draws='arms', or keep one"
                " kind of rows with where='COLUMN=VALUE'"
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
        failed = np.zeros(self.first_row.size, bool)
        failed[self._pairs[self._failed]] = True
        shape, missing = self.first_row.shape, self.first_row.reshape(-1) < 0
        return {
            "without a row": (~listed).reshape(shape),
            "failed": (failed & ~scored).reshape(shape),
            "without a quality": (listed & ~scored & ~failed).reshape(shape),
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

    def variance(self) -> Float[np.ndarray, "N K"]:
        """Return the variance of quality between the rows of a cell, NaN where there is one."""
        deviations = self._scores - self.quality.reshape(-1)[self._pairs]
        count = np.where(self.n_draws > 1, self.n_draws, np.nan)
        return self.by_model(deviations**2) * count / (count - 1)

    def by_query(
        self, name: str, values: Shaped[np.ndarray, "R ..."]
    ) -> Shaped[np.ndarray, "N ..."]:
        """Return the value that each query has in all of its rows; refuse several values."""
        of_query = values[self.last_row]
        other = of_query[self.query_codes]
        differs = (other != values) & ~((other != other) & (values != values))  # NaN equals NaN
        differs = differs.reshape(len(differs), -1).any(axis=1)
        if differs.any():
            query = self.queries[self.query_codes[np.argmax(differs)]]
            problem = f"query {query!r} has several values"
            fix = "a query needs the same value in all rows"
            refuse_rows(self._source, name, differs, problem, fix)
        return of_query


def _kinds(
    options: Options, present: Sequence[str], source: str, models: Sequence[str] = ()
) -> dict[str, ColumnKind]:
    """Return the columns to read and the kinds of their values."""
    for name in options.extra_costs:
        extra_cost_column(name, source)
    kinds: dict[str, ColumnKind] = {}
    known, patterns = set(present), options.patterns
    for kind, names in options.columns:
        for name in names:
            if name in kinds and name not in patterns:
                raise CascjaxError(f"column {name!r} is named twice; name one column for each")
            if name in patterns:
                each = (name.replace(MODEL, model) for model in models)
                kinds |= {column: kind for column in each if column in known}
            elif name not in (None, ROW) and not (models and name == options.model):
                kinds[name] = kind
                _check_present(name, known, present, source)
    for name in options.row_filters:
        _check_present(name, known, present, source)
        if kinds.setdefault(name, "text") != "text":
            raise CascjaxError(f"where cannot filter by {name!r}, a column of numbers")
    return kinds


def _check_present(name: str, known: set[str], present: Sequence[str], source: str) -> None:
    """Refuse a column that is absent; of a list, such as "choices.0.text", the list must be."""
    if name.startswith("{") and name not in known:
        what = name.strip("{}")
        raise CascjaxError(
            f"{source}: nothing names the {what} of a record: give {what}='PATH', or a path of the"
            f" records with {name}" + (", or model_from_path" if name == MODEL else "")
        )
    parts = name.split(".")
    lists = (".".join(parts[:i]) for i, part in enumerate(parts) if i and part.isdecimal())
    if name not in known and known.isdisjoint(lists):
        raise CascjaxError(f"{source}: {unknown_name('column', name, present)}")
