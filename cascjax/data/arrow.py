"""Evaluation tables as Arrow IPC (Feather v2) and Parquet files.

One row a query, in either format the same columns:

    query_id                  string, unique
    quality, cost             fixed_size_list<float>[K]: what each model gave and cost
    split                     string or dictionary, "fit" or "evaluate"; optional, as all below
    group                     string or dictionary: the benchmark or customer of the query
    quality_ante, quality_post, quality_sigma, cost_ante, cost_post
                              fixed_size_list<float>[K]: estimates from elsewhere
    cost.<name>               fixed_size_list<float>[K]: a extra cost of each model, such as
                              cost.seconds; any number of them
    features                  fixed_size_list<float>[F]: known before any model runs
    signals                   fixed_size_list<float>[K*P]: seen once a model has run, model-major;
                              in both a value may be missing, as NaN or null, but not infinite
    answer                    fixed_size_list<int32>[K]: the answer's identity, -1 for none

The schema's metadata has a key "cascjax", JSON with version (1), models (names in column order),
cost_unit, cost_units (of extra costs, by name: {"seconds": "s"}), features and signals (names); a
file without it names its models by number.
"""

import json
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq

from cascjax.data import checks
from cascjax.data.files import atomic_write, one_line, sniff, whole
from cascjax.data.table import ESTIMATE_COLUMNS, Table
from cascjax.errors import CascjaxError
from cascjax.words import counted

VERSION = 1
METADATA_KEY = b"cascjax"
REQUIRED = ("query_id", "quality", "cost")
COLUMNS = (*REQUIRED, "split", "group", *ESTIMATE_COLUMNS, "features", "signals", "answer")
"""Every column of the format but the extra costs; a file may have others, which are ignored."""
EXTRA_COST = "cost."
"""What the column of a extra cost begins with, before the name of that cost."""

_IPC_SUFFIXES = (".arrow", ".feather", ".ipc")


def read_table(path: str | os.PathLike[str]) -> Table:
    """Read an evaluation table, its matrices float32; an IPC file is mapped, not copied.

    Raises:
        CascjaxError: the file is missing, neither Arrow IPC nor Parquet, damaged, or its content
            is not an evaluation table.
    """
    kind = sniff(path)
    if kind not in ("ipc", "parquet"):
        what = "is empty" if kind == "empty" else "is neither Arrow IPC (Feather v2) nor Parquet"
        raise CascjaxError(
            f"cannot read {path}: it {what}; make a table with cascjax import or cascjax world"
        )
    with one_line(f"cannot read {path}"):
        return _from_arrow(FileColumns(os.fspath(path), kind), os.fspath(path))


def read_ids(path: str | os.PathLike[str]) -> pa.ChunkedArray:
    """The column query_id of a file that `read_table` reads.

    Raises:
        CascjaxError: the file cannot be read.
    """
    with one_line(f"cannot read {path}"):
        columns = FileColumns(os.fspath(path), sniff(path))
        return columns.column(checks.find_column(columns.schema, "query_id", os.fspath(path)))


class FileColumns:
    """The columns of a file, each read when asked for: what one is copied from is let go of.

    Like a `pa.Table`, of which the schema and single columns are wanted.
    """

    def __init__(self, path: str, kind: str) -> None:
        """Read the schema alone; `kind` is "ipc" or "parquet"."""
        self._path, self._kind, self._compressed = path, kind, False
        with whole(path):
            if kind == "ipc":
                self.schema = ipc.open_file(pa.memory_map(path)).schema
            else:
                with pq.ParquetFile(path, memory_map=True) as file:
                    self.schema = file.schema_arrow
        self.column_names = self.schema.names

    def column(self, index: int) -> pa.ChunkedArray:
        """Read one column: mapped from an IPC file, decoded from Parquet."""
        if self._kind == "ipc":
            # A map of its own, which goes with the column. To ask for one field is to copy it,
            # but where the file is compressed to read all would be to decompress all.
            if not self._compressed:
                before = pa.total_allocated_bytes()
                found = ipc.open_file(pa.memory_map(self._path)).read_all()
                self._compressed = pa.total_allocated_bytes() > before + (1 << 20)
                return found.column(index)
            options = ipc.IpcReadOptions(included_fields=[index])
            return ipc.open_file(pa.memory_map(self._path), options=options).read_all().column(0)
        with pq.ParquetFile(self._path, memory_map=True) as file:
            return file.read(columns=[self.column_names[index]]).column(0)


def from_arrow(arrow: pa.Table, source: str) -> Table:
    """Turn an Arrow table into an evaluation table, checking all of it.

    Args:
        arrow: the columns of the format; others are ignored.
        source: what error messages call the table, its file for instance.

    Raises:
        CascjaxError: a required column is missing; a type, width, id, name or value is wrong.
    """
    with one_line(f"cannot read {source}"):
        return _from_arrow(arrow, source)


def _from_arrow(arrow: pa.Table | FileColumns, source: str) -> Table:
    check_names(arrow.schema, source)
    ids = arrow.column(checks.find_column(arrow.schema, "query_id", source))
    ids.validate(full=True)
    if not len(ids):
        raise CascjaxError(f"{source}: the table has no rows; at least one query is needed")
    checks.check_unique(checks.text(ids, source, "query_id"), source, "query_id")
    del ids
    return columns_of(arrow, source, read_metadata(arrow.schema, source))


def check_names(schema: pa.Schema, source: str) -> None:
    """Refuse a schema that lacks a required column, or has one of the format twice.

    Raises:
        CascjaxError: it does.
    """
    present = [name for name in COLUMNS if name in schema.names]
    extra_costs = sorted({name for name in schema.names if name.startswith(EXTRA_COST)})
    for name in (*REQUIRED, *present, *extra_costs):
        checks.find_column(schema, name, source)


def columns_of(
    arrow: pa.Table | FileColumns, source: str, metadata: "Metadata", width: int | None = None
) -> Table:
    """The evaluation table of columns that have passed `check_names`, all but their ids checked.

    Args:
        arrow: the columns, "quality" and "cost" at least.
        source: what error messages call them.
        metadata: what their schema says.
        width: K, where it is known; else that of the column "quality".

    Raises:
        CascjaxError: a type, width or value is wrong.
    """
    present = [name for name in COLUMNS if name in arrow.column_names]

    def column(name: str) -> pa.ChunkedArray:
        found = arrow.column(checks.find_column(arrow.schema, name, source))
        found.validate(full=True)  # offsets and text of a mapped file are yet unseen
        return found

    extra_costs = sorted({name for name in arrow.column_names if name.startswith(EXTRA_COST)})
    columns: dict[str, Any] = {
        "quality": checks.matrix(column("quality"), source, "quality", width)
    }
    K = columns["quality"].shape[1]
    models = metadata.models or tuple(f"model {k + 1}" for k in range(K))
    if K < 2:
        raise CascjaxError(
            f"{source}: column 'quality' has {K} model; a choice needs at least 2: bring another"
        )
    if len(models) != K:
        raise CascjaxError(
            f"{source}: column 'quality' has {counted(K, 'value')} a row and the metadata"
            f" names {counted(len(models), 'model')}; make them agree"
        )
    for name in ("cost", *ESTIMATE_COLUMNS):
        if name in present:
            columns[name] = checks.matrix(column(name), source, name, K)
    for name in ("cost", "quality_sigma"):  # an estimate of a cost may be negative
        if name in present:
            checks.check_not_negative(columns[name], source, name, models)
    columns["extra_costs"] = {}
    for name in extra_costs:
        cost = name.removeprefix(EXTRA_COST)
        more_cost_column(cost, source)
        values = checks.matrix(column(name), source, name, K)
        checks.check_not_negative(values, source, name, models)
        columns["extra_costs"][cost] = values
    columns["extra_cost_units"] = tuple(
        (cost, unit) for cost, unit in metadata.cost_units if cost in columns["extra_costs"]
    )
    if "answer" in present:
        columns["answer"] = checks.answers(column("answer"), source, "answer", K)
    if "split" in present:
        columns["split"] = checks.split_codes(column("split"), source, "split")
    if "group" in present:
        columns["group"], columns["groups"] = checks.group_codes(column("group"), source, "group")
    for name, names, per in (("features", metadata.features, 1), ("signals", metadata.signals, K)):
        if name in present:
            columns[name] = checks.matrix(
                column(name), source, name, len(names) * per if names else None, missing=True
            )
            if columns[name].shape[1] % per:
                raise CascjaxError(
                    f"{source}: column {name!r} has {counted(columns[name].shape[1], 'value')} a"
                    f" row, no multiple of the {K} models; give every model as many"
                )
            columns[f"{name[:-1]}_names"] = names
    return Table(models=models, cost_unit=metadata.cost_unit, **columns)


def to_arrow(
    table: Table, query_id: Sequence[str] | np.ndarray | pa.Array | None = None, first_row: int = 0
) -> pa.Table:
    """Turn an evaluation table into Arrow columns; `[N]` ids, or else row numbers from `first_row`.

    Raises:
        CascjaxError: the ids are not strings, or not one a row; a extra cost has no name or one
            that is taken.
    """
    N = table.n_queries
    if query_id is None:
        ids = checks.row_numbers(first_row, N)
    else:
        with one_line("the query ids are no strings"):
            ids = pa.array(query_id, pa.string())
    if len(ids) != N:
        raise CascjaxError(
            f"{counted(len(ids), 'query id is', 'query ids are')} given for"
            f" {counted(N, 'query', 'queries')}; give one a query"
        )
    columns: dict[str, pa.Array] = {"query_id": ids}
    if table.split is not None:
        columns["split"] = _dictionary(np.asarray(table.split), pa.int8(), checks.SPLITS)
    if table.group is not None:
        columns["group"] = _dictionary(np.asarray(table.group), pa.int32(), table.groups)
    for name in ("quality", "cost", *ESTIMATE_COLUMNS, "features", "signals"):
        if (values := getattr(table, name)) is not None:
            columns[name] = list_column(np.asarray(values, np.float32))
    for cost in sorted(table.extra_costs):
        values = np.asarray(table.extra_costs[cost], np.float32)
        columns[more_cost_column(cost, "the table")] = list_column(values)
    if table.answer is not None:
        columns["answer"] = list_column(np.asarray(table.answer, np.int32))
    metadata = Metadata(
        models=table.models,
        cost_unit=table.cost_unit,
        cost_units=table.extra_cost_units,
        features=table.feature_names,
        signals=table.signal_names,
    )
    return with_metadata(pa.table(columns), metadata)


def write_table(path: str | os.PathLike[str], table: Table | pa.Table) -> None:
    """Write a table whole: Parquet for the suffix .parquet, IPC for .arrow, .feather and .ipc.

    Raises:
        CascjaxError: another suffix, or the file cannot be written.
    """
    with TableWriter(path) as writer:
        writer.write(table)


class TableWriter:
    """Writes a table batch by batch in constant memory; the file appears whole at the end.

    A context manager. The schema is that of the first batch. Batches without ids are numbered on.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Choose the format by the suffix, as `write_table` does.

        Raises:
            CascjaxError: the suffix is of neither format.
        """
        suffix = Path(path).suffix.lower()
        if suffix != ".parquet" and suffix not in _IPC_SUFFIXES:
            raise CascjaxError(
                f"cannot write {os.fspath(path)}: the suffix {suffix!r} is of no known format;"
                f" use .parquet, {', '.join(_IPC_SUFFIXES[:-1])} or {_IPC_SUFFIXES[-1]}"
            )
        self.n_rows = 0
        self._path = path
        self._parquet = suffix == ".parquet"
        self._schema: pa.Schema | None = None

    def __enter__(self) -> "TableWriter":
        # Left in reverse: close the writer and the file, check that something was written, and
        # only then move the file into place.
        with ExitStack() as stack:
            temporary = stack.enter_context(atomic_write(self._path))
            stack.push(self._refuse_nothing)
            self._sink = stack.enter_context(pa.OSFile(os.fspath(temporary), "wb"))
            self._stack = stack.pop_all()
        return self

    def write(self, batch: Table | pa.Table) -> None:
        """Add rows, at least one.

        Raises:
            CascjaxError: the columns or metadata are not those of the first batch, or the disk
                takes no more.
        """
        arrow = to_arrow(batch, first_row=self.n_rows) if isinstance(batch, Table) else batch
        with one_line(f"cannot write {self._path}"):
            if self._schema is None:
                self._writer = self._stack.enter_context(self._open(arrow.schema))
                self._schema = arrow.schema
            elif not arrow.schema.equals(self._schema, check_metadata=True):
                raise CascjaxError(
                    f"cannot write {self._path}: the batch at row {self.n_rows} has other columns,"
                    " models or units than the first; write it to a table of its own"
                )
            self._writer.write_table(arrow.unify_dictionaries())
        self.n_rows += arrow.num_rows

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def _open(self, schema: pa.Schema) -> Any:
        if not self._parquet:
            return ipc.new_file(self._sink, schema)
        return pq.ParquetWriter(self._sink, schema, compression="zstd")

    def _refuse_nothing(self, kind: object, error: object, trace: object) -> None:
        if kind is None and not self.n_rows:
            raise CascjaxError(f"cannot write {self._path}: there are no rows to write")


@dataclass(frozen=True)
class Metadata:
    """What the schema says beside the columns; empty names where the file gives none."""

    models: tuple[str, ...] = ()
    cost_unit: str = ""
    cost_units: tuple[tuple[str, str], ...] = ()
    features: tuple[str, ...] = ()
    signals: tuple[str, ...] = ()


def with_metadata(arrow: pa.Table, metadata: Metadata) -> pa.Table:
    """The table with its schema metadata set."""
    names = {
        "version": VERSION,
        "models": metadata.models,
        "cost_unit": metadata.cost_unit,
        "features": metadata.features,
        "signals": metadata.signals,
    }
    if metadata.cost_units:
        names["cost_units"] = dict(metadata.cost_units)
    return arrow.replace_schema_metadata({METADATA_KEY: json.dumps(names)})


def more_cost_column(name: str, source: str) -> str:
    """The column a extra cost stands in.

    Raises:
        CascjaxError: the name is empty, or "cost", which is that of the table's first cost.
    """
    if not name or name == "cost":
        what = "that of the column 'cost'" if name else "empty"
        raise CascjaxError(
            f"{source}: column {EXTRA_COST + name!r}: the name of its cost is {what}; take another,"
            f" as in {EXTRA_COST + 'seconds'!r}"
        )
    return EXTRA_COST + name


def list_column(values: np.ndarray) -> pa.FixedSizeListArray:
    """`[N, W]` values as a column of lists of W, without a copy where they lie in row order."""
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])


def _dictionary(codes: np.ndarray, kind: pa.DataType, names: Sequence[str]) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(codes, kind), pa.array(names, pa.string()))


def read_metadata(schema: pa.Schema, source: str) -> Metadata:
    """What the schema says under the key "cascjax".

    Raises:
        CascjaxError: it is damaged, or of another version of the format.
    """
    raw = (schema.metadata or {}).get(METADATA_KEY)
    if raw is None:
        return Metadata()
    try:
        content = json.loads(raw)
        version = content["version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise CascjaxError(
            f"{source}: the schema metadata 'cascjax' is not JSON with a version; write it again"
        ) from None
    if version != VERSION or isinstance(version, bool):
        raise CascjaxError(
            f"{source}: the table is of format version {version!r} and this cascjax reads"
            f" {VERSION}; use the cascjax that wrote it, or write it again"
        )
    names = {}
    for key in ("models", "features", "signals"):
        value = content.get(key) or []
        if not isinstance(value, list) or not all(isinstance(v, str) and v for v in value):
            raise CascjaxError(
                f"{source}: {key!r} in the schema metadata must be a list of names; fix it"
            )
        if repeated := [v for i, v in enumerate(value) if v in value[:i]]:
            raise CascjaxError(
                f"{source}: {repeated[0]!r} is listed twice among the {key} of the schema metadata;"
                " name each once"
            )
        names[key] = tuple(value)
    cost_unit = content.get("cost_unit") or ""
    if not isinstance(cost_unit, str):
        raise CascjaxError(f"{source}: 'cost_unit' in the schema metadata must be a string")
    cost_units = content.get("cost_units") or {}
    if not isinstance(cost_units, dict) or not all(isinstance(u, str) for u in cost_units.values()):
        raise CascjaxError(
            f"{source}: 'cost_units' in the schema metadata must give names of costs their units,"
            ' such as {"seconds": "s"}; fix it'
        )
    units = tuple(sorted((name, unit) for name, unit in cost_units.items() if unit))
    return Metadata(cost_unit=cost_unit, cost_units=units, **names)
