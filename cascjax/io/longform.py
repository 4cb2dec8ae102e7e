"""Long logs: a row a query and model."""

import os
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from jaxtyping import Int32

from cascjax.errors import CascjaxError, unknown_name
from cascjax.io import checks
from cascjax.io.arrow import Metadata, from_arrow, list_column, more_cost_column, with_metadata
from cascjax.io.bad_rows import ImportResult, check_policy, settle
from cascjax.io.logs import ColumnKind, numbers, read_log

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
    more_costs: Mapping[str, str] | None = None,
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
        more_costs: names of the columns with further costs of the answer, by the name of the cost:
            {"seconds": "latency_s"}, for instance.

    Raises:
        CascjaxError: the file cannot be read, a name is unknown or given twice, a value is wrong,
            or there are bad rows.
    """
    check_policy(on_bad)
    source = os.fspath(path)
    costs = [cost, *(more_costs or {}).values()]
    cost_columns = ["cost", *(more_cost_column(name, source) for name in more_costs or {})]
    texts = [query, model, *(name for name in (group, split) if name is not None)]
    kinds: dict[str, ColumnKind] = dict.fromkeys(texts, "text")
    kinds |= dict.fromkeys([quality, *costs], "number")
    if len(kinds) != len(texts) + 1 + len(costs):
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
        missing_means=f"queries lacking one of the {K} models, its quality or"
        + (" one of its costs" if more_costs else " its cost"),
        repeated_means="rows repeating a query and model",
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
    arrow = with_metadata(pa.table(columns), Metadata(models))
    from_arrow(arrow, source)
    return ImportResult(
        arrow,
        n_rows=len(keep),
        n_models=K,
        n_missing=len(missing),
        n_repeated=int(repeated.sum()),
        n_dropped=log.num_rows - len(keep) * K,
    )


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
