"""Evaluation tables as data frames of pandas, one row per query and model, and as Arrow columns."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from cascjax.data.schema import EXTRA_COST, SPLITS, from_arrow, to_arrow
from cascjax.data.table import CONVERTERS, DRAW_COLUMNS, ESTIMATE_COLUMNS, Table
from cascjax.errors import CascjaxError, unknown_name

if TYPE_CHECKING:
    from pandas import DataFrame

_PER_MODEL = ("quality", "cost", *ESTIMATE_COLUMNS, "answer", *DRAW_COLUMNS)
_PER_QUERY = ("split", "group")


def frame_of_table(table: Table) -> "DataFrame":
    """Return a table as a data frame, without its features and signals; see `Table.to_pandas`."""
    import pandas as pd  # takes long to import

    N, K = table.n_queries, table.n_models
    names = table.models or tuple(f"model {k + 1}" for k in range(K))
    columns: dict[str, Any] = {"query": np.repeat(np.arange(N), K), "model": [*names] * N}
    per_model = {name: getattr(table, name) for name in _PER_MODEL}
    per_model |= {EXTRA_COST + name: values for name, values in table.extra_costs.items()}
    columns |= {n: np.asarray(v).reshape(-1) for n, v in per_model.items() if v is not None}
    if table.split is not None:
        columns["split"] = np.repeat(np.array(SPLITS)[np.asarray(table.split)], K)
    if table.group is not None:
        columns["group"] = np.repeat(np.array(table.groups)[np.asarray(table.group)], K)
    return pd.DataFrame(columns)


def table_of_frame(frame: "DataFrame", cost_unit: str = "") -> Table:
    """Return the table of a data frame such as `frame_of_table` makes."""
    for name in ("query", "model", "quality", "cost"):
        if name not in frame:
            known = [str(each) for each in frame.columns]
            raise CascjaxError(f"the data frame: {unknown_name('column', name, known)}")
    queries, models = frame["query"].drop_duplicates(), frame["model"].drop_duplicates()
    if frame.duplicated(["query", "model"]).any():
        first = frame[frame.duplicated(["query", "model"])].iloc[0]
        raise CascjaxError(
            f"the data frame: query '{first['query']}' and model '{first['model']}' have"
            " several rows; take their mean, or import it with import_long"
        )
    pairs = frame.set_index(["query", "model"])
    complete = pairs.reindex([(query, model) for query in queries for model in models])
    N, K = len(queries), len(models)
    columns: dict[str, pa.Array] = {"query_id": pa.array([str(query) for query in queries])}
    for name in complete.columns:
        values: Any = complete[name]
        if name in _PER_QUERY:
            columns[str(name)] = pa.array(values.iloc[::K].astype(str), pa.string())
        elif name in _PER_MODEL or str(name).startswith(EXTRA_COST):
            kind = pa.int32() if name in ("answer", "draws") else pa.float32()
            flat = pa.array(values.to_numpy(), kind, from_pandas=True)
            columns[str(name)] = pa.FixedSizeListArray.from_arrays(flat, K)
    nothing = np.zeros((N, K))
    metadata = to_arrow(
        Table(nothing, nothing, models=tuple(map(str, models)), cost_unit=cost_unit)
    ).schema.metadata
    return from_arrow(pa.table(columns).replace_schema_metadata(metadata), "the data frame")


def _from_arrow(arrow: Any) -> Table:
    return from_arrow(arrow if isinstance(arrow, pa.Table) else pa.table(arrow), "the Arrow table")


CONVERTERS |= {
    "from_arrow": _from_arrow,
    "to_arrow": to_arrow,
    "from_pandas": table_of_frame,
    "to_pandas": frame_of_table,
}
