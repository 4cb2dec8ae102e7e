"""What every reader and writer shares: whole files or none, and errors of one line."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

import pyarrow as pa

from cascjax.errors import CascjaxError

FileKind = Literal["parquet", "ipc", "pickle", "empty", "other"]


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path that becomes `path` on success and vanishes on error or interrupt.

    The temporary file stands in the same folder, empty, with the permissions of a new file.

    Raises:
        CascjaxError: the folder is missing or cannot be written, or `path` is not a plain file.
    """
    with one_line(f"cannot write {path}"):
        target = Path(os.path.realpath(path))  # write through a symbolic link, not over it
        if target.exists() and not target.is_file():
            kind = "a folder" if target.is_dir() else "no plain file"
            raise CascjaxError(f"cannot write {path}: it is {kind}; name a file")
        if not target.parent.is_dir():
            raise CascjaxError(f"cannot write {path}: there is no folder {target.parent}; make it")
    temporary = target.with_name(f".cascjax-{secrets.token_hex(8)}.tmp")
    try:
        # Not tempfile: its files are private, and the finished one is to obey the umask.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        yield temporary
        os.replace(temporary, target)
    except OSError as error:
        raise CascjaxError(f"cannot write {path}: {first_line(error)}") from error
    finally:
        with suppress(OSError):  # gone already on success
            temporary.unlink()


@contextmanager
def one_line(action: str) -> Iterator[None]:
    """Turn what the system and pyarrow raise into one line: `action`, then the reason.

    Raises:
        CascjaxError: in place of the error raised inside.
    """
    try:
        yield
    except CascjaxError:
        raise
    except (pa.ArrowException, OSError, UnicodeError, OverflowError, MemoryError) as error:
        raise CascjaxError(f"{action}: {first_line(error)}") from error


@contextmanager
def whole(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what pyarrow says of a file that is not as it was written into what is wrong with it.

    Raises:
        CascjaxError: in place of the error raised inside.
    """
    try:
        yield
    except (pa.ArrowInvalid, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the system, and not of what the file holds
        reason = first_line(error).rstrip(".")
        raise CascjaxError(
            f"cannot read {path}: it is damaged or cut short ({reason}); bring it again"
        ) from error


def first_line(error: BaseException) -> str:
    """The first line of an error's message, without the system's number and file name."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.splitlines()[0]
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def sniff(path: str | os.PathLike[str]) -> FileKind:
    """Tell a file's kind by its first bytes; "other" may be text.

    Raises:
        CascjaxError: the file is missing, a folder, or cannot be read.
    """
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
