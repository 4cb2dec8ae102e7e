"""Sources of evaluation data: a table in memory, one file, or many files larger than memory.

All rows of all files, in the order of the file names, are numbered consecutively and divided into
chunks: consecutive rows of one file that fit in memory together. The chunks depend only on the
files and `chunk_rows`, so every thread, process and later run works on the same chunks. Query ids
of files are checked for duplicates if all rows are one chunk, and not read otherwise.
"""

import bisect
import hashlib
import itertools
import os
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import msgspec
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.ipc as ipc
import pyarrow.parquet as pq

from cascjax.data.files import (
    TableWriter,
    find_files,
    read_ids,
    sniff,
    sweep,
    temporary_path,
    whole,
)
from cascjax.data.prices import Prices, at_date, counted_tokens, priced, read_prices
from cascjax.data.schema import (
    COLUMNS,
    EXTRA_COST,
    REQUIRED,
    BadRowsError,
    Metadata,
    check_columns,
    check_unique,
    matrix,
    read_metadata,
    strings,
    table_of_columns,
    to_arrow,
)
from cascjax.data.table import (
    Chunk,
    Table,
    check_models,
    rows_per_chunk,
)
from cascjax.errors import CascjaxError, one_line

Paths: TypeAlias = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
"""What `open_files` opens: a file, a folder, a pattern such as "logs/*.parquet", or a list."""

_BATCH = 1 << 16  # Rows of a Parquet file that are decoded at once

_SAMPLED = 1 << 20
"""Bytes from the start and the middle of a file that are compared to detect copies."""

_FOOTER = 1 << 16  # Bytes at the end of a file that are hashed to identify it

_WAY_OUT = "write the file again, or read it by itself"


@runtime_checkable
class Source(Protocol):
    """Rows of evaluation data; implemented by `Table` (in memory) and `Files`.

    Attributes:
        name: name of the source in messages.
        n_rows: number of rows.
        n_models: K, number of models.
        models: the K model names, in column order.
        columns: names of the `Table` columns it has; "extra_costs" if there is any extra cost.
        cost_unit: unit of the column cost, empty if unknown.
        extra_costs: names of the extra costs.
        extra_cost_units: (name, unit) of every extra cost whose unit is known.
        chunks: all chunks, in row order.

    Example:
      >>> from cascjax import synthetic
      >>> table = synthetic.sample(synthetic.make_dataset(2), 0, 100)
      >>> isinstance(table, Source)
      True
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def n_rows(self) -> int: ...  # noqa: D102
    @property
    def n_models(self) -> int: ...  # noqa: D102
    @property
    def models(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def columns(self) -> frozenset[str]: ...  # noqa: D102
    @property
    def cost_unit(self) -> str: ...  # noqa: D102
    @property
    def extra_costs(self) -> Collection[str]: ...  # noqa: D102
    @property
    def extra_cost_units(self) -> tuple[tuple[str, str], ...]: ...  # noqa: D102
    @property
    def chunks(self) -> tuple[Chunk, ...]: ...  # noqa: D102

    def select_models(self, models: Sequence[str]) -> "Source":
        """Return the source restricted to the named models, in that order."""
        ...

    def read(
        self, chunks: Iterable[Chunk], columns: Iterable[str]
    ) -> Iterator[tuple[Chunk, Table]]:
        """Yield each chunk with its rows; `columns` are read in addition to quality and cost."""
        ...

    def fingerprint(self) -> str:
        """Return a hash of the contents; for files, of their sizes and footers."""
        ...

    def identity(self) -> dict[str, Any]:
        """Return what identifies each file (or the table), to detect changes between runs."""
        ...


class BadFileError(CascjaxError):
    """The contents of one file of a source are invalid; `path` is the file to fix."""

    def __init__(self, message: str, path: str) -> None:
        """Keep the message and the path of the file."""
        super().__init__(message)
        self.path = path


@dataclass(frozen=True)
class DataFile:
    """One file of a source, as it was when the source was opened."""

    path: str  # path as it was given
    kind: str  # "ipc" or "parquet"
    n_rows: int  # number of rows
    size: int  # number of bytes
    changed: int  # time of the last write, in nanoseconds
    footer: str  # hash of the last bytes, which hold the schema and the column offsets
    compressed: bool = False  # whether the columns of an Arrow file are compressed
    starts: tuple[int, ...] = ()  # first row of each row group, then n_rows


@dataclass(frozen=True)
class Files:
    """Evaluation data in one or more files of the same columns, read as one table.

    Made by `open_files` (`cascjax.open`).

    Attributes:
        name: what was opened, for messages.
        files: the files, in the order of their names.
        chunks: all chunks, in row order.
        models: the K model names, in column order or as chosen by `select_models`.
        columns: names of the `Table` columns the files have, "extra_costs" for extra costs.
        metadata: contents of the schema metadata, the same in all files.
        extra_costs: names of the extra costs.
        widths: numbers per row of "features" and "signals", where the files have them.
        rates: factors that costs are multiplied by when they are read, by name; see
            `Table.converted`.
        prices: prices at which costs are computed from counts of tokens; see `reprice`.

    Example:
      >>> import tempfile
      >>> import cascjax as cj
      >>> from cascjax import synthetic
      >>> table = synthetic.sample(synthetic.make_dataset(2), 0, 100)
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     cj.write_table(f"{folder}/a.arrow", table)
      ...     files = cj.open(folder)
      >>> files.n_rows, files.n_models
      (100, 2)
    """

    name: str
    files: tuple[DataFile, ...]
    chunks: tuple[Chunk, ...]
    models: tuple[str, ...]
    columns: frozenset[str]
    metadata: Metadata
    extra_costs: tuple[str, ...] = ()
    widths: Mapping[str, int] = field(default_factory=dict)
    rates: Mapping[str, float] = field(default_factory=dict)
    prices: Prices | None = None
    _n_models: int = field(default=0, repr=False)

    @property
    def n_rows(self) -> int:
        """Number of rows of all files."""
        return sum(file.n_rows for file in self.files)

    @property
    def n_models(self) -> int:
        """K, the number of models."""
        return len(self.models)

    @property
    def cost_unit(self) -> str:
        """Unit of the column cost, empty if unknown."""
        return self.metadata.cost_unit

    @property
    def extra_cost_units(self) -> tuple[tuple[str, str], ...]:
        """Name and unit of every extra cost whose unit is known."""
        return tuple(u for u in self.metadata.cost_units if u[0] in self.extra_costs)

    def select_models(self, models: Sequence[str]) -> "Files":
        """Return the same rows restricted to the named models, in that order."""
        check_models(models, self.models)
        return replace(self, models=tuple(models))

    def converted(self, rates: Mapping[str, float], units: Mapping[str, str]) -> "Files":
        """Return the same rows with costs in other units, as `Table.converted` does."""
        metadata = msgspec.structs.replace(
            self.metadata,
            cost_unit=units.get("cost", self.cost_unit),
            units={name: units.get(name, unit) for name, unit in self.metadata.cost_units},
        )
        return replace(self, rates=rates, metadata=metadata)

    def query_ids(self) -> pa.ChunkedArray:
        """Read the query ids of all rows."""
        columns = [read_ids(file.path) for file in self.files]
        return pa.chunked_array([chunk for column in columns for chunk in column.chunks])

    def identity(self) -> dict[str, list[int | str]]:
        """Return size, time of the last write and footer hash of each file, by absolute path."""
        return {
            os.path.abspath(file.path): [file.size, file.changed, file.footer + self._pricing]
            for file in self.files
        }

    @property
    def _pricing(self) -> str:
        """Hash of the prices at which costs are computed, empty without any."""
        if self.prices is None:
            return ""
        models = {name: self.prices.models[name] for name in sorted(self.prices.models)}
        return hashlib.sha256(repr((models, self.prices.unit)).encode()).hexdigest()[:16]

    def fingerprint(self) -> str:
        """Return a hash of the sizes and footers, which stays the same if files are moved."""
        known = repr([(file.size, file.footer) for file in self.files]) + self._pricing
        return "stream " + hashlib.sha256(known.encode()).hexdigest()

    def read(
        self, chunks: Iterable[Chunk], columns: Iterable[str]
    ) -> Generator[tuple[Chunk, Table], None, None]:
        """Yield each chunk with its rows; a thread reads one chunk ahead."""
        with ExitStack() as stack:
            # Exited in reverse order: reading stops before the file is closed.
            tables = _read(self, chunks, frozenset(columns) & self.columns)
            stack.callback(tables.close)
            pool = ThreadPoolExecutor(1, thread_name_prefix="cascjax-read")
            stack.callback(pool.shutdown, wait=True, cancel_futures=True)
            ahead = pool.submit(next, tables, None)
            while (ready := ahead.result()) is not None:
                ahead = pool.submit(next, tables, None)
                yield ready
                del ready


def as_source(source: Source | Paths) -> Source:
    """Return a source: a `Table` or `Files` as it is, anything else opened by `open_files`."""
    # Not isinstance(source, Source): that would look up every attribute, and hash the columns.
    if isinstance(source, Table | Files):
        return source
    if isinstance(source, str | os.PathLike | Sequence):
        return open_files(source)
    return source


def open_files(paths: Paths, *, chunk_rows: int | None = None) -> Files:
    """Open files of the same columns as one source.

    Only the footers are read, and the query ids of a source of one chunk.

    Args:
        paths: a file; a folder, whose files are taken unless their names begin with "." or "_"; a
            pattern such as "logs/*.parquet"; or a list of files. Files are read in the order of
            their paths.
        chunk_rows: largest number of rows of a chunk. By default about a million, and fewer if
            rows are wide.

    Returns:
        The source. `Files.read` reads its rows chunk by chunk.

    Raises:
        CascjaxError: there is no file; or a file is empty, cut short, not an evaluation table, a
            copy of another file, or differs from the first file in columns, models or units; or a
            query id is repeated in a source of one chunk.

    Example:
      >>> import tempfile
      >>> import cascjax as cj
      >>> from cascjax import synthetic
      >>> table = synthetic.sample(synthetic.make_dataset(2), 0, 100)
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     cj.write_table(f"{folder}/a.arrow", table)
      ...     open_files(f"{folder}/*.arrow").n_rows
      100
    """
    name, paths = _find_files(paths)
    first, schema = _open(paths[0])
    check_columns(schema, first.path)
    metadata = read_metadata(schema, first.path)
    n_models = _count_models(schema, metadata, first)
    shape = _shape(schema, metadata, n_models, first.path)
    files = [first]
    for path in paths[1:]:
        file, schema = _open(path)
        _check_same(shape, _shape(schema, None, n_models, path), first.path, path)
        files.append(file)
    _check_copies(files)
    if chunk_rows is not None and chunk_rows < 1:
        raise CascjaxError(f"chunk_rows must be at least 1, not {chunk_rows}")
    columns = {column for column in shape if column in COLUMNS[1:]}
    extra_costs = tuple(
        sorted(c.removeprefix(EXTRA_COST) for c in shape if c.startswith(EXTRA_COST))
    )
    widths = _input_widths(shape, first)
    rows = chunk_rows or rows_per_chunk(n_models, sum(widths.values()), "answer" in columns)
    chunks = tuple(_divide(files, rows))
    if len(chunks) == 1:
        check_unique(strings(read_ids(first.path), first.path, "query_id"), first.path, "query_id")
    return Files(
        name=name,
        files=tuple(files),
        chunks=chunks,
        models=metadata.models or tuple(f"model {k + 1}" for k in range(n_models)),
        columns=frozenset(columns | ({"extra_costs"} if extra_costs else set())),
        metadata=metadata,
        extra_costs=extra_costs,
        widths=widths,
        _n_models=n_models,
    )


def reprice(
    source: Source | Paths, prices: Prices | str | os.PathLike[str], date: str | None = None
) -> Source:
    """Return a source whose costs are computed from its counts of tokens at other prices.

    Args:
        source: a `Table` or files with the extra costs input_tokens and output_tokens, as importers
            write them.
        prices: prices, or a file of them, see `cascjax.data.prices`.
        date: day of the prices, such as "2025-02-08". By default the latest prices; discounts of a
            time of day are left out.

    Raises:
        CascjaxError: the source has no counts of tokens or has estimates of costs, or a model
            has no prices.

    Example:
      >>> import numpy as np
      >>> from cascjax.data.prices import Price, Prices
      >>> one = np.ones((1, 2))
      >>> tokens = {"input_tokens": 100 * one, "output_tokens": 10 * one}
      >>> table = Table(one, one, extra_costs=tokens, models=("a", "b"))
      >>> prices = {name: (Price({"input": 1.0, "output": 2.0}),) for name in table.models}
      >>> reprice(table, Prices("prices", "USD", prices)).columns == table.columns
      True
    """
    opened = as_source(source)
    known = prices if isinstance(prices, Prices) else read_prices(prices)
    current = at_date(known, date)
    counted_tokens(opened.name, opened.extra_costs)
    current.find(opened.models)
    if isinstance(opened, Table):
        return priced(opened, current)
    if not isinstance(opened, Files):
        raise CascjaxError("reprice needs a table or files: convert the costs of your source")
    metadata = msgspec.structs.replace(opened.metadata, cost_unit=current.unit)
    return replace(opened, prices=current, metadata=metadata)


def write_parts(
    folder: str | os.PathLike[str], batches: Iterable[Table], n_rows: int, parts: int
) -> None:
    """Write tables, one after the other, to files of nearly equal numbers of rows.

    The folder appears complete at the end, with part-00000.arrow and so on.
    """
    target = Path(folder)
    with one_line(f"cannot write {target}"):
        if target.exists() and not (target.is_dir() and not any(target.iterdir())):
            raise CascjaxError(f"cannot write {target}: it exists; name a new folder")
        if not target.parent.is_dir():
            raise CascjaxError(
                f"cannot write {target}: there is no folder {target.parent}; create it"
            )
        sweep(target.parent)
        with temporary_path(target, folder=True) as temporary:
            _write_parts(temporary, batches, n_rows, parts)
            temporary.rename(target)


def _write_parts(folder: Path, batches: Iterable[Table], n_rows: int, parts: int) -> None:
    ends = [n_rows * (part + 1) // parts for part in range(parts)]
    row = part = 0
    with ExitStack() as stack:
        writer: TableWriter | None = None
        for batch in batches:
            arrow = to_arrow(batch, first_row=row)
            while arrow.num_rows:
                if writer is None:
                    writer = stack.enter_context(TableWriter(folder / f"part-{part:05d}.arrow"))
                head = arrow.slice(0, ends[part] - row)
                writer.write(head)
                row, arrow = row + head.num_rows, arrow.slice(head.num_rows)
                if row == ends[part]:
                    stack.close()
                    writer, part = None, part + 1


def _find_files(paths: Paths) -> tuple[str, list[str]]:
    """Return a name for the source, and the paths of its files in order."""
    if not isinstance(paths, str | os.PathLike):
        if not paths:
            raise CascjaxError("there is no file to read: name at least one")
        if len(paths) == 1:
            return _find_files(paths[0])
        files = sorted(os.fspath(path) for path in paths)
        for path, after in itertools.pairwise(files):
            if path == after:
                raise CascjaxError(f"{path} is listed twice among the files; name it once")
        return f"{files[0]} and {len(files) - 1} more", files
    name = os.fspath(paths)
    return name, find_files(name)


def _open(path: str) -> tuple[DataFile, pa.Schema]:
    """Return what the footer of a file says."""
    kind = sniff(path)
    if kind not in ("ipc", "parquet"):
        fault = "is empty" if kind == "empty" else "is neither Arrow IPC (Feather v2) nor Parquet"
        raise CascjaxError(f"cannot read {path}: it {fault}; remove it, or write it again")
    with one_line(f"cannot read {path}"), whole(path):
        status = os.stat(path)
        with open(path, "rb") as file:
            file.seek(max(0, status.st_size - _FOOTER))
            footer = hashlib.sha256(file.read()).hexdigest()[:16]
        starts, compressed = (), False
        if kind == "parquet":
            with pq.ParquetFile(path) as parquet:
                schema, groups = parquet.schema_arrow, parquet.metadata
                counts = (groups.row_group(i).num_rows for i in range(groups.num_row_groups))
                starts = tuple(itertools.accumulate(counts, initial=0))
                n_rows = groups.num_rows
        else:
            with pa.memory_map(path) as file:
                # Before rows are counted, since pyarrow's messages on bad files are shorter here.
                reader = ipc.open_file(file)
                n_rows = ds.dataset(path, format="ipc").count_rows()
                schema, before = reader.schema, pa.total_allocated_bytes()
                batch = reader.get_batch(0) if n_rows else None
                compressed = pa.total_allocated_bytes() > before + (1 << 12)
                del batch, reader
    if not n_rows:
        raise CascjaxError(f"{path}: the table has no rows; remove the file")
    size, changed = status.st_size, status.st_mtime_ns
    return DataFile(path, kind, n_rows, size, changed, footer, compressed, starts), schema


def _count_models(schema: pa.Schema, metadata: Metadata, file: DataFile) -> int:
    """Return K, from the type of the column quality, the model names, or the first row."""
    kind = schema.field("quality").type
    if pa.types.is_fixed_size_list(kind):
        return kind.list_size
    if metadata.models:
        return len(metadata.models)
    with _Rows(file, ["quality"]) as rows:
        return matrix(rows.read(0, 1).column(0), file.path, "quality").shape[1]


def _input_widths(shape: Mapping[str, Any], file: DataFile) -> dict[str, int]:
    """Return the numbers of features and of signals per row, from the schema or the first row."""
    widths = {name: shape[name] for name in ("features", "signals") if name in shape}
    variable = [name for name, width in widths.items() if width is None]
    if variable:
        with one_line(f"cannot read {file.path}"), _Rows(file, variable) as rows:
            row = rows.read(0, 1)
        widths |= {name: len(row.column(name)[0].as_py() or ()) for name in variable}
    return widths


def _shape(
    schema: pa.Schema, metadata: Metadata | None, n_models: int, path: str
) -> dict[str, Any]:
    """Return what all files must share: the metadata, and the width of each fixed column."""
    check_columns(schema, path)
    metadata = read_metadata(schema, path) if metadata is None else metadata
    used = [name for name in schema.names if name in COLUMNS or name.startswith(EXTRA_COST)]
    shape: dict[str, Any] = {"metadata": metadata, **dict.fromkeys(used)}
    kinds = {name: schema.field(name).type for name in used}
    fixed = {name for name in used if pa.types.is_fixed_size_list(kinds[name])}
    shape["quality"] = kinds["quality"].list_size if "quality" in fixed else n_models
    if shape["quality"] != n_models:
        return shape
    shape |= {name: kinds[name].list_size for name in {"features", "signals"} & fixed}
    # A table without rows shows whether a type or a width is wrong. Lists of variable length are
    # taken for lists of the right length here, and checked when they are read.
    checked = {name: kinds[name] for name in used if name not in {"features", "signals"} - fixed}
    for name, kind in checked.items():
        if pa.types.is_list(kind) or pa.types.is_large_list(kind):
            checked[name] = pa.list_(kind.value_type, n_models)
    empty = {name: pa.array([], kind) for name, kind in checked.items()}
    table_of_columns(pa.table(empty), path, metadata, n_models)
    return shape


def _check_same(first: dict[str, Any], other: dict[str, Any], first_path: str, path: str) -> None:
    """Refuse a file that differs from the first in metadata, columns or widths."""
    # Models first: if they differ, anything else may differ as well.
    parts = ("models", "cost_unit", "cost_units", "features", "signals")
    pairs = [(part, *(getattr(x["metadata"], part) for x in (first, other))) for part in parts]
    pairs.append(("columns", *(tuple(sorted({*x} - {"metadata"})) for x in (first, other))))
    for part, before, now in pairs:
        if before != now:
            raise CascjaxError(
                f"{path}: {part} differ from {first_path}: {_difference(before, now)}; {_WAY_OUT}"
            )
    for name, width in first.items():
        if name != "metadata" and other[name] != width:
            raise _other_width(path, name, other[name], first_path, width)


def _difference(before: Any, now: Any) -> str:
    """Return how two values differ; of lists of names, those that only one has."""
    if not isinstance(now, tuple):
        return f"{now!r:.80} instead of {before!r:.80}"
    phrases = []
    for verb, names, others in (("has", now, before), ("lacks", before, now)):
        if names := [name for name in names if name not in others]:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            phrases.append(f"it {verb} {names[0]!r:.80}{more}")
    return " and ".join(phrases) or "the order differs"


def _other_width(
    path: str, name: str, width: int | None, first_path: str, first_width: int | None
) -> CascjaxError:
    """Return the error that lists of a column are of another length than in the first file."""
    mine, first = ("a variable number of" if w is None else w for w in (width, first_width))
    return CascjaxError(
        f"{path}: column {name!r} has {mine} values per row, and {first_path} {first}; {_WAY_OUT}"
    )


def _check_copies(files: Sequence[DataFile]) -> None:
    """Refuse a file that is a copy of another, since its rows would count twice.

    Copies are equal in size and footer; such files are compared by their first and middle megabyte.
    """
    similar: dict[tuple[int, str], list[DataFile]] = {}
    for file in files:
        similar.setdefault((file.size, file.footer), []).append(file)
    for group in similar.values():
        paths: dict[bytes, str] = {}
        for file in group if len(group) > 1 else []:
            with one_line(f"cannot read {file.path}"), open(file.path, "rb") as content:
                digest = hashlib.sha256(content.read(_SAMPLED))
                content.seek(file.size // 2)
                digest.update(content.read(_SAMPLED))
            other = paths.setdefault(digest.digest(), file.path)
            if other != file.path:
                raise CascjaxError(
                    f"{file.path} holds the same rows as {other}, which would count twice: remove"
                    " one of them"
                )


def _divide(files: Sequence[DataFile], most: int) -> Iterator[Chunk]:
    """Yield chunks of at most `most` rows, aligned to row groups where these are smaller."""
    index = first = 0
    for file in files:
        start = 0
        while start < file.n_rows:
            stop = min(start + most, file.n_rows)
            if file.starts and stop < file.n_rows:
                group = file.starts[bisect.bisect_right(file.starts, stop) - 1]
                stop = group if group > start else stop
            yield Chunk(index, file.path, start, stop - start, first)
            index, first, start = index + 1, first + stop - start, stop


class _Rows:
    """Reads consecutive rows of one file, and continues from what was decoded."""

    def __init__(self, file: DataFile, columns: Sequence[str]) -> None:
        self._file, self._columns = file, list(columns)
        self._at, self._starts = 0, [0]
        self._left: pa.Table | None = None
        self._parquet: pq.ParquetFile | None = None
        self._batches: Iterator[pa.RecordBatch] = iter(())

    def __enter__(self) -> "_Rows":
        with one_line(f"cannot read {self._file.path}"):
            status = os.stat(self._file.path)
        if (status.st_size, status.st_mtime_ns) != (self._file.size, self._file.changed):
            raise CascjaxError(f"{self._file.path} has changed since it was opened: start over")
        return self

    def __exit__(self, *_: object) -> None:
        self._batches, self._left = iter(()), None
        if self._parquet is not None:
            self._parquet.close()
            self._parquet = None

    def read(self, start: int, count: int) -> pa.Table:
        """Return `count` rows from `start` on as columns."""
        return (
            self._read_parquet(start, count) if self._file.starts else self._read_ipc(start, count)
        )

    def _read_parquet(self, start: int, count: int) -> pa.Table:
        group = bisect.bisect_right(self._file.starts, start) - 1
        if self._parquet is None or start < self._at or self._at < self._file.starts[group]:
            if self._parquet is None:
                # Without reading column chunks ahead, which would be those of all row groups.
                self._parquet = pq.ParquetFile(self._file.path, pre_buffer=False)
            parquet, groups = self._parquet, range(group, len(self._file.starts) - 1)
            self._batches = (
                batch
                for g in groups
                for batch in parquet.iter_batches(_BATCH, row_groups=[g], columns=self._columns)
            )
            self._at, self._left = self._file.starts[group], None
        parts: list[pa.Table] = []
        while count:
            rows = self._left
            if rows is None:
                rows = pa.Table.from_batches([next(self._batches)])
            skip = min(start - self._at, rows.num_rows)
            part = rows.slice(skip, count)
            used = skip + part.num_rows
            self._at += used
            self._left = rows.slice(used) if used < rows.num_rows else None
            if part.num_rows:
                parts.append(part)
                count, start = count - part.num_rows, start + part.num_rows
        return pa.concat_tables(parts)

    def _read_ipc(self, start: int, count: int) -> pa.Table:
        # Mapped again each time, so that pages that were read are released. Selecting columns
        # copies all of them, unless they are compressed: then reading all would decode all.
        with pa.memory_map(self._file.path) as file:
            schema, options = ipc.open_file(file).schema, None
            if self._file.compressed:
                included = sorted(schema.get_field_index(name) for name in self._columns)
                options = ipc.IpcReadOptions(included_fields=included)
            reader, parts = ipc.open_file(file, options=options), []
            batch = bisect.bisect_right(self._starts, start) - 1
            while count:
                rows = reader.get_batch(batch)
                if batch + 1 == len(self._starts):
                    self._starts.append(self._starts[batch] + rows.num_rows)
                skip = start - self._starts[batch]
                part = rows.select(self._columns).slice(min(skip, rows.num_rows), count)
                if part.num_rows:
                    parts.append(part)
                    count, start = count - part.num_rows, start + part.num_rows
                batch += 1
            return pa.Table.from_batches(parts)


def _read(
    source: Files, chunks: Iterable[Chunk], wanted: frozenset[str]
) -> Generator[tuple[Chunk, Table], None, None]:
    """Yield each chunk with its rows; consecutive chunks of a file are read from one reader."""
    files = {file.path: file for file in source.files}
    columns = [name for name in COLUMNS if name in {*REQUIRED[1:], *wanted}]
    if "extra_costs" in wanted or source.prices is not None:
        columns += [EXTRA_COST + name for name in source.extra_costs]
    for path, group in itertools.groupby(chunks, lambda chunk: chunk.file):
        with _Rows(files[path], columns) as rows:
            for chunk in group:
                table = _read_chunk(source, chunk, rows)
                if "extra_costs" not in wanted:  # read for their prices
                    table = replace(table, extra_costs={}, extra_cost_units=())
                yield chunk, table


def _read_chunk(source: Files, chunk: Chunk, rows: _Rows) -> Table:
    """Return the checked rows of a chunk, with the selected models."""
    path = chunk.file
    try:
        with one_line(f"cannot read {path}"), whole(path):
            arrow = rows.read(chunk.start, chunk.n_rows)
        with one_line(f"cannot read {path}"):
            table = table_of_columns(arrow, path, source.metadata, source._n_models)
        for name, width in source.widths.items():
            values = getattr(table, name)
            if values is not None and values.shape[1] != width:
                raise _other_width(path, name, values.shape[1], source.files[0].path, width)
    except BadRowsError as error:
        raise BadFileError(str(error.moved(error.row + chunk.start)), path) from error
    except CascjaxError as error:
        raise BadFileError(str(error), path) from error
    table = table.converted(source.rates, {}) if source.rates else table
    if source.prices is not None:
        table = priced(table, source.prices)
    return table if table.models == source.models else table.select_models(source.models)
