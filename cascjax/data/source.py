"""Evaluation tables of many files, larger than memory, read piece by piece.

All rows of all files, in the order of the files' names, are numbered through, and cut into pieces:
runs of rows that never cross a file and fit in memory. A piece depends on the files and
`piece_rows` alone, so whoever works on some of the pieces (a thread, a process, a later run) finds
the same ones. The files' ids are neither read nor held to be unique.
"""

import bisect
import glob
import hashlib
import itertools
import os
import secrets
import shutil
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.ipc as ipc
import pyarrow.parquet as pq
from jaxtyping import Int

from cascjax.data.files import TableWriter, one_line, sniff, whole
from cascjax.data.schema import (
    COLUMNS,
    EXTRA_COST,
    REQUIRED,
    BadRowsError,
    Metadata,
    check_columns,
    matrix,
    read_metadata,
    table_of_columns,
    to_arrow,
)
from cascjax.data.table import ESTIMATE_COLUMNS, Table, check_models
from cascjax.errors import CascjaxError

PIECE_ROWS = 1 << 20
"""Rows of a piece at most."""

_PIECE_NUMBERS = 1 << 24
"""Numbers a column of a piece may hold: of many models a piece has fewer rows."""

_LEAST_ROWS = 1 << 14

_BATCH = 1 << 16
"""Rows decoded at once of a Parquet file."""

_SAMPLED = 1 << 20
"""Bytes at the start and in the middle of a file that tell it from another that ends alike."""

_FOOTER = 1 << 16
"""Bytes at the end of a file that it is known by."""

_WAY_OUT = "write it again, or read it by itself"
"""Of a file that is not of the shape of the first."""

SUFFIXES = (".parquet", ".arrow", ".feather", ".ipc")


class BadFileError(CascjaxError):
    """What a file of a stream holds is bad: it is to be fixed, and `path` says which it is."""

    def __init__(self, message: str, path: str) -> None:
        """Says so in one line."""
        super().__init__(message)
        self.path = path


@dataclass(frozen=True)
class StreamFile:
    """A file of a stream, as it was when the stream was opened.

    Attributes:
        path: where it is.
        kind: "ipc" or "parquet".
        n_rows: its rows.
        size: its bytes.
        changed: when it was last written to, in nanoseconds.
        footer: hash of its last bytes, which hold the schema and where the columns are.
        compressed: whether an Arrow file's columns must be decoded.
        starts: first row of each row group of a Parquet file, and the rows of all.
    """

    path: str
    kind: str
    n_rows: int
    size: int
    changed: int
    footer: str
    compressed: bool = False
    starts: tuple[int, ...] = ()


@dataclass(frozen=True)
class Piece:
    """A run of rows of one file.

    Attributes:
        index: its place among the pieces.
        file: place of its file among the files.
        start: its first row, in the file.
        n_rows: its rows.
        first: its first row, among those of all files.
    """

    index: int
    file: int
    start: int
    n_rows: int
    first: int

    @property
    def rows(self) -> Int[np.ndarray, " n"]:
        """The numbers of its rows, among those of all files."""
        return np.arange(self.first, self.first + self.n_rows)


@dataclass(frozen=True)
class Stream:
    """Evaluation tables of one shape, to be read as one; see `open_stream`.

    Attributes:
        name: what was opened, for messages.
        files: in the order of their names.
        pieces: all of them, in the order of the rows.
        models: K names, in column order, or those chosen by `select_models`.
        columns: what the files have of `Table`: "quality", "cost", "split", and so on; of further
            costs "extra_costs".
        metadata: what all their schemas say.
        extra_costs: names of the extra costs.
        seen: numbers of "features" and of "signals" a row, where there are any.
    """

    name: str
    files: tuple[StreamFile, ...]
    pieces: tuple[Piece, ...]
    models: tuple[str, ...]
    columns: frozenset[str]
    metadata: Metadata
    extra_costs: tuple[str, ...] = ()
    seen: Mapping[str, int] = field(default_factory=dict)
    _width: int = field(default=0, repr=False)

    @property
    def n_rows(self) -> int:
        """Rows of all files."""
        return sum(file.n_rows for file in self.files)

    @property
    def n_models(self) -> int:
        """K, the number of models."""
        return len(self.models)

    @property
    def cost_unit(self) -> str:
        """The unit of the column cost, empty where none is known."""
        return self.metadata.cost_unit

    @property
    def n_seen(self) -> int:
        """Numbers of features and signals a row."""
        return sum(self.seen.values())

    def select_models(self, models: Sequence[str]) -> "Stream":
        """The stream of the named models alone, in that order.

        Raises:
            CascjaxError: a name is unknown or is listed twice.
        """
        check_models(models, self.models)
        return replace(self, models=tuple(models))

    def with_room_for(self, numbers: int) -> "Stream":
        """The same rows, in smaller pieces if so many numbers of each row are worked on at once."""
        most = max(_LEAST_ROWS, _PIECE_NUMBERS // numbers)
        if all(piece.n_rows <= most for piece in self.pieces):
            return self
        return replace(self, pieces=tuple(_cut(self.files, most)))

    def identity(self) -> dict[str, list[int | str]]:
        """What tells these files from others, by their paths: size, time of change and footer."""
        return {
            os.path.abspath(file.path): [file.size, file.changed, file.footer]
            for file in self.files
        }

    def path(self, piece: Piece) -> str:
        """The path of a piece's file, as `identity` has it."""
        return os.path.abspath(self.files[piece.file].path)

    def fingerprint(self) -> str:
        """What the files are known by wherever they lie: their sizes and footers."""
        known = repr([(file.size, file.footer) for file in self.files])
        return "stream " + hashlib.sha256(known.encode()).hexdigest()

    def tables(
        self, pieces: Iterable[Piece], columns: Iterable[str]
    ) -> Generator[tuple[Piece, Table], None, None]:
        """The tables of some pieces, one after the other, the next one being read meanwhile.

        One is read ahead and no more, by a thread that ends with the iterator.

        Args:
            pieces: which to read; fastest in the order of the rows.
            columns: fields of `Table` to read beside quality and cost, those that the files have.

        Raises:
            CascjaxError: a value is wrong (named by file, row in the file, and column), or a file
                has changed or cannot be read any more.
        """
        wanted = frozenset(columns) & self.columns
        with ExitStack() as stack:
            # Left in reverse: no more is read once the files are closed.
            reader = stack.enter_context(_Reader(self, wanted))
            pool = ThreadPoolExecutor(1, thread_name_prefix="cascjax-read")
            stack.callback(pool.shutdown, wait=True, cancel_futures=True)
            ahead: Future[tuple[Piece, Table]] | None = None
            for piece in itertools.chain(pieces, [None]):
                found = None if ahead is None else ahead.result()
                ahead = None if piece is None else pool.submit(reader.read, piece)
                if found is not None:
                    yield found
                del found


def open_stream(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    piece_rows: int | None = None,
) -> Stream:
    """Opens files of one shape as one table: reads their footers, and holds all to the first.

    Args:
        source: a folder, whose files are taken but for those whose names begin with "." or "_"; a
            pattern such as "logs/*.parquet"; a file; or a list of files. Taken in the order of
            their paths, whatever the order given.
        piece_rows: rows of a piece at most; by default `PIECE_ROWS`, and fewer of many models.

    Raises:
        CascjaxError: there is no file; or one is empty, cut short, no evaluation table, a copy of
            another, or has other columns, models or units than the first.
    """
    name, paths = _paths(source)
    first, schema = _opened(paths[0])
    check_columns(schema, first.path)
    metadata = read_metadata(schema, first.path)
    width = _width(schema, metadata, first)
    shape = _shape(schema, metadata, width, first.path)
    files = [first]
    for path in paths[1:]:
        file, schema = _opened(path)
        _check_alike(shape, _shape(schema, None, width, path), first.path, path)
        files.append(file)
    _check_copies(files)
    rows = piece_rows or min(PIECE_ROWS, max(_LEAST_ROWS, _PIECE_NUMBERS // width))
    if rows < 1:
        raise CascjaxError(f"piece_rows must be at least 1, not {rows}")
    columns = {
        column for column in shape if column in ("quality", "cost", "split", "group",
        *ESTIMATE_COLUMNS, "features", "signals", "answer")
    }  # fmt: skip
    extra_costs = tuple(
        sorted(c.removeprefix(EXTRA_COST) for c in shape if c.startswith(EXTRA_COST))
    )
    return Stream(
        name=name,
        files=tuple(files),
        pieces=tuple(_cut(files, rows)),
        models=metadata.models or tuple(f"model {k + 1}" for k in range(width)),
        columns=frozenset(columns | ({"extra_costs"} if extra_costs else set())),
        metadata=metadata,
        extra_costs=extra_costs,
        seen=_seen(shape, first),
        _width=width,
    )


def write_parts(
    folder: str | os.PathLike[str], batches: Iterable[Table], n_rows: int, parts: int
) -> None:
    """Writes tables, one after the other, to files of nearly as many rows each.

    The folder appears whole at the end, with part-00000.arrow and so on.

    Args:
        folder: made; there may be an empty one.
        batches: tables of one shape.
        n_rows: rows of all of them.
        parts: how many files, each of a row at least.

    Raises:
        CascjaxError: there is something of that name, or it cannot be written.
    """
    target = Path(folder)
    with one_line(f"cannot write {target}"):
        if target.exists() and not (target.is_dir() and not any(target.iterdir())):
            raise CascjaxError(f"cannot write {target}: it is there already; name a new folder")
        if not target.parent.is_dir():
            raise CascjaxError(
                f"cannot write {target}: there is no folder {target.parent}; make it"
            )
        temporary = target.with_name(f".cascjax-{secrets.token_hex(8)}.tmp")
        temporary.mkdir()
        try:
            _write_parts(temporary, batches, n_rows, parts)
            temporary.rename(target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)  # gone already on success


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
                some = arrow.slice(0, ends[part] - row)
                writer.write(some)
                row, arrow = row + some.num_rows, arrow.slice(some.num_rows)
                if row == ends[part]:
                    stack.close()
                    writer, part = None, part + 1


def _is_pattern(source: str | os.PathLike[str]) -> bool:
    return glob.has_magic(os.fspath(source))


def _paths(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
) -> tuple[str, list[str]]:
    """What to call a source, and its files in order."""
    if not isinstance(source, str | os.PathLike):
        if len(source) == 1:
            return _paths(source[0])
        paths = sorted(os.fspath(path) for path in source)
        if not paths:
            raise CascjaxError("there is no file to read: name at least one")
        for path, after in itertools.pairwise(paths):
            if path == after:
                raise CascjaxError(f"{path} is listed twice among the files; name it once")
        return f"{paths[0]} and {len(paths) - 1} more", paths
    name = os.fspath(source)
    path = Path(name)
    if path.is_dir():
        with one_line(f"cannot read {name}"):
            found = sorted(p for p in path.iterdir() if p.name[0] not in "._" and p.is_file())
        if not found:
            raise CascjaxError(
                f"cannot read {name}: the folder has no files; name another, or those of its"
                f" folders as '{path / '*' / '*.parquet'}'"
            )
        return name, [os.fspath(p) for p in found]
    if _is_pattern(name) and not path.exists():
        found = sorted(p for p in glob.glob(name, recursive=True) if os.path.isfile(p))
        if not found:
            raise CascjaxError(f"cannot read {name}: no file has such a name; fix the pattern")
        return name, found
    return name, [name]


def _opened(path: str) -> tuple[StreamFile, pa.Schema]:
    """What the end of a file says of it."""
    kind = sniff(path)
    if kind not in ("ipc", "parquet"):
        what = "is empty" if kind == "empty" else "is neither Arrow IPC (Feather v2) nor Parquet"
        raise CascjaxError(f"cannot read {path}: it {what}; take it away, or write it again")
    with one_line(f"cannot read {path}"), whole(path):
        size, changed = _stamp(path)
        with open(path, "rb") as file:
            file.seek(max(0, size - _FOOTER))
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
                # Before rows are counted: of a bad file pyarrow says least here.
                reader = ipc.open_file(file)
                n_rows = ds.dataset(path, format="ipc").count_rows()
                schema, before = reader.schema, pa.total_allocated_bytes()
                batch = reader.get_batch(0) if n_rows else None
                compressed = pa.total_allocated_bytes() > before + (1 << 12)
                del batch, reader
    if not n_rows:
        raise CascjaxError(f"{path}: the table has no rows; take the file away")
    return StreamFile(path, kind, n_rows, size, changed, footer, compressed, starts), schema


def _stamp(path: str) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_size, found.st_mtime_ns


def _width(schema: pa.Schema, metadata: Metadata, file: StreamFile) -> int:
    """K: by the type of the column quality, the names of the models, or the first row."""
    kind = schema.field("quality").type
    if pa.types.is_fixed_size_list(kind):
        return kind.list_size
    if metadata.models:
        return len(metadata.models)
    with _Rows(file, ["quality"]) as rows:
        found = rows.read(0, 1).column(0)
    return matrix(found, file.path, "quality").shape[1]


def _seen(shape: Mapping[str, Any], file: StreamFile) -> dict[str, int]:
    """Numbers of features and of signals a row: by the schema, or else the first row."""
    found = {name: shape[name] for name in ("features", "signals") if name in shape}
    varying = [name for name, count in found.items() if count is None]
    if varying:
        with one_line(f"cannot read {file.path}"), _Rows(file, varying) as rows:
            row = rows.read(0, 1)
        for name in varying:
            found[name] = len(row.column(name)[0].as_py() or ())
    return found


def _shape(schema: pa.Schema, metadata: Metadata | None, width: int, source: str) -> dict[str, Any]:
    """What must be the same of all files: columns and their widths, and what the schema says."""
    check_columns(schema, source)
    metadata = read_metadata(schema, source) if metadata is None else metadata
    # A table of no rows shows what is wrong with a type or a width.
    used = [name for name in schema.names if name in COLUMNS or name.startswith(EXTRA_COST)]
    none = pa.table({name: pa.array([], _fixed(schema.field(name).type, width)) for name in used})
    found: dict[str, Any] = {"metadata": metadata}
    if pa.types.is_fixed_size_list(kind := schema.field("quality").type):
        found["quality"] = kind.list_size
        if kind.list_size != width:
            return found | {name: None for name in used if name != "quality"}
    varying = [n for n in ("features", "signals") if n in used and not _is_fixed(schema, n)]
    table_of_columns(none.drop_columns(varying), source, metadata, width)
    for name in used:
        seen = name in ("features", "signals") and name not in varying
        found[name] = schema.field(name).type.list_size if seen else None
    found["quality"] = width
    return found


def _is_fixed(schema: pa.Schema, name: str) -> bool:
    return pa.types.is_fixed_size_list(schema.field(name).type)


def _fixed(kind: pa.DataType, width: int) -> pa.DataType:
    """A type of lists of any length as one of a fixed length: those are held to it when read."""
    varies = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    return pa.list_(kind.value_type, width) if varies else kind


def _check_alike(first: dict[str, Any], other: dict[str, Any], first_path: str, path: str) -> None:
    """Refuse a file that is not of the shape of the first, naming what differs."""
    one, another = first["metadata"], other["metadata"]
    # Models first: of other models everything else may differ as well.
    for part in ("models", "cost_unit", "cost_units", "features", "signals"):
        before, now = getattr(one, part), getattr(another, part)
        if before == now:
            continue
        if isinstance(now, tuple):
            # Of many names those that differ.
            came, gone = (
                [of for of in now if of not in before],
                [of for of in before if of not in now],
            )
            if not came and not gone:
                raise CascjaxError(
                    f"{path}: the metadata has {part} in another order than that of {first_path};"
                    f" {_WAY_OUT}"
                )
            differs = [f"has {part} {_some(came)} that {first_path} lacks"] if came else []
            differs += [f"lacks {part} {_some(gone)} of {first_path}"] if gone else []
            raise CascjaxError(f"{path}: the metadata {' and '.join(differs)}; {_WAY_OUT}")
        raise CascjaxError(
            f"{path}: the metadata has {part} {now!r:.80}, and that of {first_path}"
            f" {before!r:.80}; {_WAY_OUT}"
        )
    for name in first:
        if name not in other:
            raise CascjaxError(f"{path}: column {name!r} is missing, and {first_path} has it;"
                               f" {_WAY_OUT}")  # fmt: skip
    for name in other:
        if name not in first:
            raise CascjaxError(f"{path}: column {name!r} is there, and {first_path} lacks it;"
                               f" {_WAY_OUT}")  # fmt: skip
    for name, of in first.items():
        if name != "metadata" and other[name] != of:
            raise _other_width(path, name, other[name], first_path, of)


def _other_width(
    path: str, name: str, found: int | None, first_path: str, wanted: int | None
) -> CascjaxError:
    """The error that a column's lists are of another length than those of the first file."""
    mine, yours = ("a varying number of" if of is None else of for of in (found, wanted))
    return CascjaxError(
        f"{path}: column {name!r} has {mine} values a row, and {first_path} {yours}; {_WAY_OUT}"
    )


def _some(names: Sequence[Any]) -> str:
    """The first of some names, or of pairs, and how many more there are."""
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{names[0]!r:.80}{more}"


def _check_copies(files: Sequence[StreamFile]) -> None:
    """Refuses a file that is a copy of another: its rows would count twice.

    Copies are of one size and end alike; of those that do, the first and the middle megabyte tell.
    """
    alike: dict[tuple[int, str], list[StreamFile]] = {}
    for file in files:
        alike.setdefault((file.size, file.footer), []).append(file)
    for some in alike.values():
        seen: dict[bytes, str] = {}
        for file in some if len(some) > 1 else []:
            with one_line(f"cannot read {file.path}"), open(file.path, "rb") as opened:
                digest = hashlib.sha256(opened.read(_SAMPLED))
                opened.seek(file.size // 2)
                digest.update(opened.read(_SAMPLED))
            other = seen.setdefault(digest.digest(), file.path)
            if other != file.path:
                raise CascjaxError(
                    f"{file.path} holds the same rows as {other}, which would count twice: take"
                    " one of them away"
                )


def _cut(files: Sequence[StreamFile], most: int) -> Iterator[Piece]:
    """Pieces of at most so many rows: whole row groups where these are no larger than that."""
    index = first = 0
    for place, file in enumerate(files):
        start = 0
        while start < file.n_rows:
            stop = min(start + most, file.n_rows)
            if file.starts and stop < file.n_rows:
                group = file.starts[bisect.bisect_right(file.starts, stop) - 1]
                stop = group if group > start else stop
            yield Piece(index, place, start, stop - start, first)
            index, first, start = index + 1, first + stop - start, stop


class _Rows:
    """Rows of one file, a run of them at a time; what was decoded is gone on from."""

    def __init__(self, file: StreamFile, columns: Sequence[str]) -> None:
        self._file, self._columns = file, list(columns)
        self._at, self._starts = 0, [0]
        self._left: pa.Table | None = None
        self._parquet: pq.ParquetFile | None = None
        self._batches: Iterator[pa.RecordBatch] = iter(())

    def __enter__(self) -> "_Rows":
        if _stamp(self._file.path) != (self._file.size, self._file.changed):
            raise CascjaxError(f"{self._file.path} has changed while it was read: start over")
        return self

    def __exit__(self, *_: object) -> None:
        self._batches, self._left = iter(()), None
        if self._parquet is not None:
            self._parquet.close()
            self._parquet = None

    def read(self, start: int, count: int) -> pa.Table:
        """Rows `start` to `start + count` as columns."""
        return self._of_parquet(start, count) if self._file.starts else self._of_ipc(start, count)

    def _of_parquet(self, start: int, count: int) -> pa.Table:
        group = bisect.bisect_right(self._file.starts, start) - 1
        if self._parquet is None or start < self._at or self._at < self._file.starts[group]:
            if self._parquet is None:
                # Column chunks are not fetched ahead: of all row groups they may be many.
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

    def _of_ipc(self, start: int, count: int) -> pa.Table:
        # Mapped again each time: pages that were read do not pile up. To ask for some of the
        # columns is to copy all, but where they are compressed to read all is to decode all.
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


class _Reader:
    """Reads the pieces of a stream; holds the file of the last one open."""

    def __init__(self, stream: Stream, wanted: frozenset[str]) -> None:
        self._stream = stream
        names = [name for name in COLUMNS if name in {*REQUIRED[1:], *wanted}]
        if "extra_costs" in wanted:
            names += [EXTRA_COST + name for name in stream.extra_costs]
        self._columns = names
        self._file: int | None = None
        self._stack = ExitStack()

    def __enter__(self) -> "_Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def read(self, piece: Piece) -> tuple[Piece, Table]:
        """The checked table of a piece, of the models chosen."""
        stream = self._stream
        file = stream.files[piece.file]
        if self._file != piece.file:
            self._stack.close()
            self._file = None
            with one_line(f"cannot read {file.path}"):
                self._rows = self._stack.enter_context(_Rows(file, self._columns))
            self._file = piece.file
        try:
            with one_line(f"cannot read {file.path}"), whole(file.path):
                arrow = self._rows.read(piece.start, piece.n_rows)
            with one_line(f"cannot read {file.path}"):
                table = table_of_columns(arrow, file.path, stream.metadata, stream._width)
            for name, count in stream.seen.items():
                held = getattr(table, name)
                if held is not None and held.shape[1] != count:
                    first = stream.files[0].path
                    raise _other_width(file.path, name, held.shape[1], first, count)
        except BadRowsError as error:
            raise BadFileError(str(error.shifted(piece.start)), file.path) from error
        except CascjaxError as error:
            raise BadFileError(str(error), file.path) from error
        else:
            if table.models != stream.models:
                table = table.select_models(stream.models)
            return piece, table
