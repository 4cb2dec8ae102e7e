"""Long logs: a row a query and model."""

import os
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int32

from cascjax.data import checks
from cascjax.data.arrow import Metadata, from_arrow, list_column, more_cost_column, with_metadata
from cascjax.errors import CascjaxError, unknown_name
from cascjax.features.columns import Gathered, TextOptions, gather_text, text_of
from cascjax.features.lists import (
    CLASS_SIGNALS,
    LOGPROB_SIGNALS,
    class_signals,
    logprob_signals,
)
from cascjax.features.prompts import write_text_model
from cascjax.importers.base import ColumnKind, numbers, read_log
from cascjax.importers.invalid import ImportResult, check_policy, settle

_MOST_CELLS = 1 << 31


def import_long(
    path: str | os.PathLike[str],
    query: str,
    model: str,
    quality: str,
    cost: str,
    on_bad: str = "fail",
    group: str | None = None,
    split: str | None = None,
    extra_costs: Mapping[str, str] | None = None,
    prompt: str | None = None,
    response: str | None = None,
    features: str | None = None,
    text_model: str | os.PathLike[str] | None = None,
    n_components: int | None = None,
    more_features: Mapping[str, str] | None = None,
    more_signals: Mapping[str, str] | None = None,
    logprobs: str | None = None,
    class_probabilities: str | None = None,
) -> ImportResult:
    """Import a log with a row a query and model from parquet, Arrow, CSV or pickle.

    Queries and models keep the order of their first appearance; costs keep the file's unit.

    Args:
        path: the log.
        query: name of the column with the query's id.
        model: name of the column with the model's name.
        quality: name of the column with the quality of the answer.
        cost: name of the column with the cost of the answer.
        on_bad: "fail" refuses a file in which a query lacks a model or a pair of query and model
            repeats; "drop" keeps the first complete row of each pair, then leaves out the queries
            that lack a model. A row without quality or any of its costs counts as absent.
        group: name of the column with the benchmark or customer of the query, if any.
        split: name of the column with "fit" or "evaluate", if any.
        extra_costs: names of the columns with extra costs of the answer, by the name of the cost:
            {"seconds": "latency_s"}, for instance.
        prompt: name of the column with the prompt of the query, for text features. A query without
            one counts as absent.
        response: name of the column with the response of the model, for text features: what the
            signals and the column `answer` are made of.
        features: "text" adds features of the prompts and signals of the responses, as of
            `cascjax.features.prompts` and `cascjax.features.answers`. Scores are in none of them.
        text_model: the file of the text model: read where it exists, else fitted on the prompts of
            all queries and written.
        n_components: directions the words are reduced to; by default 32, or as in `text_model`.
        more_features: names of columns with numbers known of a query before any model runs, by the
            name of the feature; missing numbers stay missing.
        more_signals: names of columns with numbers seen once a model has run, by the name of the
            signal: {"logprob": "mean_logprob"}, for instance; missing numbers stay missing.
        logprobs: name of the column with a list of log-probabilities, of the answer's tokens, which
            the signals `cascjax.features.lists.LOGPROB_SIGNALS` are made of; a missing or empty
            list leaves them missing. In CSV as in "[-0.1, -2.5]".
        class_probabilities: likewise with the probability of each class, for `CLASS_SIGNALS`.

    Raises:
        CascjaxError: the file cannot be read, a name is unknown or given twice, a value is wrong,
            or there are bad rows; or the text model cannot be read, fitted or written.
    """
    check_policy(on_bad)
    options = TextOptions(features, text_model, n_components)
    if features is not None and prompt is None:
        raise CascjaxError("text features are of prompts: name the column of the prompt")
    if features is None and (prompt or response) is not None:
        raise CascjaxError("a prompt or response is for text features: ask for features 'text' too")
    features_of, signals_of = dict(more_features or {}), dict(more_signals or {})
    source = os.fspath(path)
    costs = [cost, *(extra_costs or {}).values()]
    cost_columns = ["cost", *(more_cost_column(name, source) for name in extra_costs or {})]
    optional = (group, split, prompt, response)
    texts = [query, model, *(name for name in optional if name is not None)]
    measured = [quality, *costs, *features_of.values(), *signals_of.values()]
    kinds: dict[str, ColumnKind] = dict.fromkeys(texts, "text")
    kinds |= dict.fromkeys(measured, "number")
    lists = [name for name in (logprobs, class_probabilities) if name is not None]
    kinds |= dict.fromkeys(lists, "numbers")
    if len(kinds) != len(texts) + len(measured) + len(lists):
        raise CascjaxError("a column is named for two things; name one column for each")

    def choose(names: Sequence[str]) -> dict[str, ColumnKind]:
        for name in kinds:
            if name not in names:
                raise CascjaxError(f"{source}: {unknown_name('column', name, names)}")
        return kinds

    log = read_log(path, choose)
    query_codes, queries = checks.encode(checks.text(log[query], source, query))
    model_codes, models = checks.encode(checks.text(log[model], source, model))
    values = [numbers(log[name]) for name in (quality, *costs)]
    for name, cost_values in zip(costs, values[1:], strict=True):
        checks.refuse(source, name, cost_values < 0, "negative", "a cost must be at least 0")
    N, K = len(queries), len(models)
    if N * K > _MOST_CELLS:
        raise CascjaxError(
            f"{source}: {N:,} queries of {K:,} models are too many; are the columns of query and"
            " model swapped?"
        )

    pairs = query_codes.astype(np.int64) * K + model_codes
    present = np.logical_and.reduce([np.isfinite(of) for of in values])
    repeated = checks.repeats(pairs, present)
    used = np.flatnonzero(present & ~repeated)
    wide = np.full((len(values), N * K), np.nan)
    for of, to in zip(values, wide, strict=True):
        to[pairs[used]] = of[used]
    wide = wide.reshape(len(values), N, K)
    complete = ~np.isnan(wide[0]).any(axis=1)
    prompts: list[str] = []
    if prompt is not None:
        column = log[prompt].fill_null("")
        codes, texts_of = checks.encode(column)
        of_query = _of_query(codes, query_codes, queries, source, prompt)
        prompts = [texts_of[code] for code in of_query]
        complete &= np.array([bool(text.strip()) for text in prompts], bool)
    keep = np.flatnonzero(complete)
    missing = np.flatnonzero(~complete)
    settle(
        source,
        on_bad,
        missing=[queries[row] for row in missing],
        repeated=[
            f"{queries[query_codes[row]]} of {models[model_codes[row]]}"
            for row in np.flatnonzero(repeated)
        ],
        n_left=len(keep),
        missing_means=(
            "query",
            "queries",
            f"lacking one of the {K} models, its quality or"
            + (" one of its costs" if extra_costs else " its cost")
            + (", or a prompt" if prompt is not None else ""),
        ),
        repeated_means=("row", "rows", "repeating a query and model"),
        never=[models[k] for k in np.flatnonzero(np.isnan(wide[0]).all(axis=0))],
    )

    columns = {"query_id": pa.array(queries, pa.string()).take(pa.array(keep))}
    if group is not None:
        codes, names = checks.encode(checks.text(log[group], source, group))
        of_query = _of_query(codes, query_codes, queries, source, group)
        columns["group"] = pa.array(names, pa.string()).take(pa.array(of_query[keep]))
        columns["group"] = columns["group"].dictionary_encode()
    if split is not None:
        codes = checks.split_codes(log[split], source, split).astype(np.int32)
        of_query = _of_query(codes, query_codes, queries, source, split)
        columns["split"] = pa.DictionaryArray.from_arrays(
            pa.array(of_query[keep], pa.int8()), pa.array(checks.SPLITS)
        )
    columns["quality"] = list_column(wide[0, keep].astype(np.float32))
    for name, of in zip(cost_columns, wide[1:], strict=True):
        columns[name] = list_column(of[keep].astype(np.float32))
    gathered, text_fitted = Gathered(), None
    if features is not None:
        responses = []
        if response is not None:
            # Row of the file for each query and model; kept queries have one for every model.
            rows = np.zeros(N * K, np.int64)
            rows[pairs[used]] = used
            rows = rows.reshape(N, K)[keep]
            responses = [text_of(log[response].take(pa.array(of))) for of in rows.T]
        text_fitted = gather_text(
            gathered,
            [prompts[row] for row in keep],
            responses,
            [text for text in prompts if text.strip()],
            options,
            source,
        )
    for name, column in features_of.items():
        gathered.feature_names.append(name)
        of_rows = _optional_numbers(log[column], source, column)
        of_query = _number_of_query(of_rows, query_codes, queries, source, column)
        gathered.features.append(of_query[keep, None])
    for name, column in signals_of.items():
        gathered.signal_names.append(name)
        of_pairs = np.full(N * K, np.nan)
        of_pairs[pairs[used]] = _optional_numbers(log[column], source, column)[used]
        gathered.signals.append(of_pairs.reshape(N, K)[keep, :, None])
    for column, names, make in (
        (logprobs, LOGPROB_SIGNALS, logprob_signals),
        (class_probabilities, CLASS_SIGNALS, class_signals),
    ):
        if column is not None:
            gathered.signal_names += names
            of_pairs = np.full((N * K, len(names)), np.nan)
            of_pairs[pairs[used]] = make(log[column], source, column)[used]
            gathered.signals.append(of_pairs.reshape(N, K, -1)[keep])
    columns |= gathered.columns(source)
    metadata = Metadata(
        models,
        features=tuple(gathered.feature_names),
        signals=tuple(gathered.signal_names),
    )
    arrow = with_metadata(pa.table(columns), metadata)
    from_arrow(arrow, source)
    if text_fitted is not None and text_model is not None:
        write_text_model(text_model, text_fitted)
    return ImportResult(
        arrow,
        n_rows=len(keep),
        n_models=K,
        n_missing=len(missing),
        n_repeated=int(repeated.sum()),
        n_dropped=log.num_rows - len(keep) * K,
        n_features=len(gathered.feature_names),
        n_signals=len(gathered.signal_names),
        notes=tuple(gathered.notes),
    )


def _optional_numbers(column: pa.ChunkedArray, source: str, name: str) -> Float[np.ndarray, " R"]:
    """The numbers of a column, NaN where they are missing.

    Raises:
        CascjaxError: one is infinite.
    """
    values = numbers(column)
    checks.refuse(source, name, np.isinf(values), "infinite", "leave it empty or fix it")
    return values


def _number_of_query(
    values: Float[np.ndarray, " R"],
    query_codes: Int32[np.ndarray, " R"],
    queries: Sequence[str],
    source: str,
    name: str,
) -> Float[np.ndarray, " N"]:
    """The number every query has in all of its rows, as `_of_query`; missing is one of them."""
    distinct, codes = np.unique(values, return_inverse=True)  # NaN is equal to NaN here
    return distinct[_of_query(codes.astype(np.int32), query_codes, queries, source, name)]


def _of_query(
    codes: Int32[np.ndarray, " R"],
    query_codes: Int32[np.ndarray, " R"],
    queries: Sequence[str],
    source: str,
    name: str,
) -> Int32[np.ndarray, " N"]:
    """The value every query has in all of its rows.

    Raises:
        CascjaxError: a query has two.
    """
    value = np.zeros(len(queries), np.int32)
    value[query_codes] = codes
    differs = value[query_codes] != codes
    if differs.any():
        query = queries[query_codes[np.argmax(differs)]]
        checks.refuse(source, name, differs, f"query {query!r} has several values", "give it one")
    return value
