"""Files of evaluation tables: reading, and writing that is atomic."""

import fcntl
import fnmatch
import functools
import glob
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq

from cascjax import interrupts
from cascjax.data.schema import find_column, from_arrow, to_arrow
from cascjax.data.table import Table
from cascjax.errors import CascjaxError, first_line, one_line

FileKind = Literal["parquet", "ipc", "pickle", "empty", "other"]

_IPC_SUFFIXES = (".arrow", ".feather", ".ipc")


@contextmanager
def atomic_write(path: str | os.PathLike[str], *, tidy: bool = True) -> Iterator[Path]:
    """Yield a temporary path that becomes `path` on success and is removed on any error.

    The temporary file is in the same folder, empty, with the permissions of a new file. `tidy` also
    removes the temporary files of dead processes in that folder.
    """
    with one_line(f"cannot write {path}"):
        target = Path(os.path.realpath(path))  # write through a symbolic link, not over it
        if target.exists() and not target.is_file():
            kind = "a folder" if target.is_dir() else "not a plain file"
            raise CascjaxError(f"cannot write {path}: it is {kind}; name a file")
        if not target.parent.is_dir():
            raise CascjaxError(f"cannot write {path}: there is no folder {target.parent}; make it")
    try:
        if tidy:
            sweep(target.parent)
        with temporary_path(target) as temporary:
            yield temporary
            os.replace(temporary, target)
    except OSError as error:
        raise CascjaxError(f"cannot write {path}: {first_line(error)}") from error


@contextmanager
def temporary_path(target: Path, *, folder: bool = False) -> Iterator[Path]:
    """Yield a new empty file or folder beside a path; it is removed unless it is moved away.

    It is locked until then. The lock ends with the process, so `sweep` knows what is left over.
    """
    while True:
        path = target.with_name(f".cascjax-{secrets.token_hex(8)}.tmp")
        if folder:
            path.mkdir()
        # Not tempfile: its files are private, and the finished file is to obey the umask.
        flags = os.O_RDONLY if folder else os.O_CREAT | os.O_EXCL | os.O_RDWR
        descriptor = os.open(path, flags, 0o666)
        # Another process may have swept it away before it was locked.
        if lock(descriptor) and path.exists():
            break
        os.close(descriptor)
    remove = functools.partial(_remove, path)
    try:
        with interrupts.undone(remove):
            yield path
    finally:
        os.close(descriptor)
        remove()


def sweep(folder: Path) -> None:
    """Remove the temporary files that dead processes have left in a folder."""
    for path in folder.glob(".cascjax-*.tmp"):
        with suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(path)
            finally:
                os.close(descriptor)


def lock(descriptor: int) -> bool:
    """Lock an open file; return False if another process has. The lock ends with the process."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # the file system has no locks
        pass
    return True


def _remove(path: Path) -> None:
    with suppress(OSError):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


@contextmanager
def whole(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn pyarrow's errors about the content of a file into one line."""
    try:
        yield
    except (pa.ArrowInvalid, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = first_line(error).rstrip(".")
        raise CascjaxError(
            f"cannot read {path}: it is damaged or cut short ({reason}); copy or write it again"
        ) from error


def find_files(path: str, names: Sequence[str] = ("*",), *, deep: bool = False) -> list[str]:
    """Return the files of a folder or a pattern in order, or the path of a file itself.

    Of a folder, files and folders whose names begin with "." or "_" are left out, and files whose
    names match none of the patterns `names`; the folders in it are searched if that is `deep`.
    """
    if not os.path.isdir(path):
        if not glob.has_magic(path) or os.path.exists(path):
            return [path]
        if files := sorted(filter(os.path.isfile, glob.glob(path, recursive=True))):
            return files
        raise CascjaxError(f"cannot read {path}: no file matches the pattern")
    files = []
    with one_line(f"cannot read {path}"):
        os.listdir(path)  # an error here is that of the folder
        for folder, folders, inside in os.walk(path):
            folders[:] = [each for each in folders if deep and each[0] not in "._"]
            named = (each for each in inside if any(fnmatch.fnmatch(each, n) for n in names))
            paths = (os.path.join(folder, each) for each in named if each[0] not in "._")
            files += filter(os.path.isfile, paths)
    if not files:
        kind = f"files {' or '.join(names)}".removesuffix(" *")
        more = os.path.join(path, "*", "*.parquet")
        hint = "" if deep else f", or the files of its folders as {more!r}"
        raise CascjaxError(f"cannot read {path}: the folder has no {kind}; name another{hint}")
    return sorted(files)


def sniff(path: str | os.PathLike[str]) -> FileKind:
    """Return a file's kind, judged by its first bytes; "other" may be text."""
    if Path(path).is_dir():
        raise CascjaxError(f"cannot read {path}: it is a folder; name a file")
    with one_line(f"cannot read {path}"), open(path, "rb") as file:
        head = file.read(6)
    if head.startswith(b"PAR1"):
        return "parquet"
    if head == b"ARROW1":
        return "ipc"
    if len(head) > 1 and head[0] == 0x80 and 2 <= head[1] <= 5:
        return "pickle"
    return "other" if head else "empty"


def read_table(path: str | os.PathLike[str]) -> Table:
    """Read an evaluation table from an Arrow IPC or Parquet file.

    Matrices are float32. An IPC file is memory-mapped, not copied.

    Args:
      path: File in the format of `cascjax.data.schema`; its kind is told by its content.

    Returns:
      The table, with every column and value checked.

    Raises:
      CascjaxError: The file is missing, damaged, or not an evaluation table.

    Example:
      >>> import tempfile
      >>> from cascjax import synthetic
      >>> path = os.path.join(tempfile.mkdtemp(), "table.arrow")
      >>> write_table(path, synthetic.sample(synthetic.make_dataset(n_models=3), seed=0, n=100))
      >>> read_table(path).quality.shape
      (100, 3)
    """
    kind = sniff(path)
    if kind not in ("ipc", "parquet"):
        problem = "empty" if kind == "empty" else "neither Arrow IPC (Feather v2) nor Parquet"
        raise CascjaxError(
            f"cannot read {path}: it is {problem}; make a table with cascjax.importers"
        )
    with one_line(f"cannot read {path}"):
        columns = _FileColumns(os.fspath(path), kind)
    return from_arrow(columns, os.fspath(path))


def read_ids(path: str | os.PathLike[str]) -> pa.ChunkedArray:
    """Read the column query_id of an evaluation table."""
    with one_line(f"cannot read {path}"):
        columns = _FileColumns(os.fspath(path), sniff(path))
        return columns.column(find_column(columns.schema, "query_id", os.fspath(path)))


class _FileColumns:
    """Columns of a file, each read on demand, so that its memory goes with it."""

    def __init__(self, path: str, kind: str) -> None:
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
        if self._kind != "ipc":
            with pq.ParquetFile(self._path, memory_map=True) as file:
                # By name: "cost.list" is a column, and also what Parquet calls a part of "cost".
                name = self.column_names[index]
                return file.read(columns=[name]).column(name)
        # Each column has its own map, released with it. Selecting a field copies it, so all are
        # read, except in a compressed file, where that would decompress all.
        if not self._compressed:
            before = pa.total_allocated_bytes()
            table = ipc.open_file(pa.memory_map(self._path)).read_all()
            self._compressed = pa.total_allocated_bytes() > before + (1 << 20)
            return table.column(index)
        options = ipc.IpcReadOptions(included_fields=[index])
        return ipc.open_file(pa.memory_map(self._path), options=options).read_all().column(0)


def write_table(path: str | os.PathLike[str], table: Table | pa.Table) -> None:
    """Write an evaluation table to one file, atomically.

    Args:
      path: File to write; .parquet is Parquet, and .arrow, .feather and .ipc are Arrow IPC.
      table: Table of N queries, at least one, or its Arrow columns; a `Table` gets row numbers as
        query ids.

    Raises:
      CascjaxError: The suffix is another, or the file cannot be written.

    Example:
      >>> import tempfile
      >>> path = os.path.join(tempfile.mkdtemp(), "table.parquet")
      >>> ids, values = ["a", "b"], [[0.5, 1.0], [0.0, 1.0]]
      >>> write_table(path, pa.table({"query_id": ids, "quality": values, "cost": values}))
      >>> read_ids(path).to_pylist()
      ['a', 'b']
    """
    with TableWriter(path) as writer:
        writer.write(table)


class TableWriter:
    """Write a table batch by batch in constant memory; the file appears whole at the end.

    A context manager. The first batch sets the schema. Batches of type `Table` get row numbers as
    query ids, continued from batch to batch.

    Attributes:
      n_rows: Rows written so far.

    Example:
      >>> import tempfile
      >>> from cascjax import synthetic
      >>> dataset = synthetic.make_dataset(n_models=2)
      >>> with TableWriter(os.path.join(tempfile.mkdtemp(), "table.parquet")) as writer:
      ...     for table in synthetic.batches(dataset, n=100, seed=0, batch=60):
      ...         writer.write(table)
      >>> writer.n_rows
      100
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Choose the format by the suffix, as `write_table` does."""
        suffix = Path(path).suffix.lower()
        if suffix != ".parquet" and suffix not in _IPC_SUFFIXES:
            raise CascjaxError(
                f"cannot write {os.fspath(path)}: unknown suffix {suffix!r}; use .parquet,"
                f" {', '.join(_IPC_SUFFIXES[:-1])} or {_IPC_SUFFIXES[-1]}"
            )
        self.n_rows = 0
        self._path = path
        self._parquet = suffix == ".parquet"
        self._schema: pa.Schema | None = None

    def __enter__(self) -> "TableWriter":
        # Exit order is the reverse: close the writer and the file, check that rows were written,
        # and only then move the file into place.
        with ExitStack() as stack:
            temporary = stack.enter_context(atomic_write(self._path))
            stack.push(self._refuse_no_rows)
            self._sink = stack.enter_context(pa.OSFile(os.fspath(temporary), "wb"))
            self._stack = stack.pop_all()
        return self

    def write(self, batch: Table | pa.Table) -> None:
        """Append rows, at least one."""
        arrow = to_arrow(batch, first_row=self.n_rows) if isinstance(batch, Table) else batch
        with one_line(f"cannot write {self._path}"):
            if self._schema is None:
                open_writer: Any = pq.ParquetWriter if self._parquet else ipc.new_file
                options = {"compression": "zstd"} if self._parquet else {}
                writer = open_writer(self._sink, arrow.schema, **options)
                self._writer = self._stack.enter_context(writer)
                self._schema = arrow.schema
            elif not arrow.schema.equals(self._schema, check_metadata=True):
                raise CascjaxError(
                    f"cannot write {self._path}: the batch at row {self.n_rows} has other columns,"
                    " models or units than the first; write it to another file"
                )
            self._writer.write_table(arrow.unify_dictionaries())
        self.n_rows += arrow.num_rows

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def _refuse_no_rows(self, kind: object, *_: object) -> None:
        if kind is None and not self.n_rows:
            raise CascjaxError(f"cannot write {self._path}: there are no rows to write")
