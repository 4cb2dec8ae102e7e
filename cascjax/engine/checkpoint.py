"""Checkpoints: the finished parts of a job, each in a file of its own, so that it can resume.

A folder holds run.json, which describes the job, one npz file per part, and the lock of the process
that uses it. A part is any nesting of arrays, numbers, strings, None, tuples, lists, dictionaries
and dataclasses of this package. Every file is written under another name and renamed when complete,
so the folder is consistent at any moment. Every file has a checksum; a part that is not what was
written is computed again.
"""

import hashlib
import importlib
import io
import json
import os
import struct
import weakref
import zipfile
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import jax
import msgspec
import numpy as np

from cascjax.data.files import atomic_write, lock, one_line, sweep
from cascjax.errors import CascjaxError, print_note

RUN = "run.json"  # Name of the file that describes the job
LOCK = "lock"  # Name of the file that the process that uses the folder locks
FILES = "files"  # Key of the description under which the identity of each input file is kept

UNFINISHED = "an unfinished run"

_BAD = "bad"  # Noted in place of the identity of an input file that must be fixed
_CHECKSUM = "checksum"  # Key of the description's checksum

_SEAL = 16  # Bytes of the checksum at the end of a part

_DAMAGE = (
    ValueError, TypeError, AttributeError, KeyError, EOFError, IndexError, NotImplementedError,
    ImportError, zipfile.BadZipFile, zlib.error, struct.error,
)  # fmt: skip
"""Exceptions of NumPy, zipfile and `_join` for a file that is not what was written."""


class Checkpoint:
    """The finished parts of one job in a folder."""

    def __init__(
        self, folder: Path, job: Mapping[str, Any], note: Callable[[str], None] = print_note
    ) -> None:
        """Describe where parts are kept; nothing is read or written yet.

        `note` is called with a line for each damaged file.
        """
        self.folder, self._job, self._note = folder, json.loads(json.dumps(job)), note
        settings = {name: value for name, value in self._job.items() if name != FILES}
        self._digest = hashlib.sha256(_canonical(settings)).digest()
        self._lock: Lock | None = None

    def open(
        self,
        *,
        resume: bool,
        force: bool = False,
        unaffected: Callable[[set[str]], bool] = lambda changed: False,
        exclusive: bool = True,
    ) -> None:
        """Resume the job that the folder holds, or start one.

        `exclusive` refuses a folder that another process has opened so, and keeps it from others
        for as long as the checkpoint is referenced.
        """
        with one_line(f"cannot use the folder {self.folder}"):
            _make(self.folder)
            self._lock = hold(self.folder) if exclusive else None
            content = self._other_content(resume, unaffected)
            if content and not force:
                if self._lock is not None:
                    self._lock.release()
                advice = "resume it with resume=True" if content == UNFINISHED else "use another"
                raise CascjaxError(
                    f"{self.folder} holds {content}: {advice}, or start over with force=True"
                )
            if content:
                self._clear()
            sweep(self.folder)
        if self._read_job() != self._job:
            self._write_job(self._job)

    @property
    def keys(self) -> list[str]:
        """Names of the parts that are kept."""
        return sorted(path.stem for path in self.folder.glob("*.npz"))

    @property
    def bad_files(self) -> set[str]:
        """Input files that were noted as invalid, see `note_bad`."""
        files = (self._read_job() or {}).get(FILES, {})
        return {name for name, identity in files.items() if identity == _BAD}

    def note_bad(self, file: str) -> None:
        """Note that an input file must be fixed, so it may have changed when the job resumes."""
        job = self._read_job() or {}
        if file in job.get(FILES, {}):
            self._write_job(job | {FILES: job[FILES] | {file: _BAD}})

    def get(self, key: str) -> Any | None:
        """Return a part, or None if it is not kept; what is not what was written is removed."""
        path = self._path(key)
        if not path.exists():
            return None
        with one_line(f"cannot read {path}"):
            content = path.read_bytes()
        with suppress(*_DAMAGE):
            if self._seal(key, content[:-_SEAL]) == content[-_SEAL:]:
                return unpack(content[:-_SEAL])
        self._note(f"{path} is damaged, or of another run: it is computed again")
        self.remove(key)
        return None

    def put(self, key: str, value: Any) -> None:
        """Keep a part."""
        content = pack(value)
        with atomic_write(self._path(key), tidy=False) as temporary:
            temporary.write_bytes(content + self._seal(key, content))

    def remove(self, key: str) -> None:
        """Remove a part if it is kept."""
        with one_line(f"cannot remove {self._path(key)}"):
            self._path(key).unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.npz"

    def _seal(self, key: str, content: bytes) -> bytes:
        """Return the checksum of a part: of its content, its name and its job."""
        seal = hashlib.blake2b(self._digest + key.encode() + b"\0", digest_size=_SEAL)
        seal.update(content)
        return seal.digest()

    def _clear(self) -> None:
        for path in [*self.folder.glob("*.npz"), self.folder / RUN]:
            path.unlink(missing_ok=True)

    def _read_job(self) -> dict[str, Any] | None:
        """Return the description in the folder; None if there is none, or it is damaged."""
        path = self.folder / RUN
        if not path.exists():
            return None
        with one_line(f"cannot read {path}"):
            text = path.read_bytes()
        try:
            job = msgspec.json.decode(text, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return None
        checksum, files = job.pop(_CHECKSUM, None), job.get(FILES, {})
        sound = isinstance(files, dict) and checksum == _checksum(job)
        return job if sound else None

    def _write_job(self, job: Mapping[str, Any]) -> None:
        with atomic_write(self.folder / RUN, tidy=False) as temporary:
            content = {**job, _CHECKSUM: _checksum(job)}
            temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    def _other_content(self, resume: bool, unaffected: Callable[[set[str]], bool]) -> str | None:
        """Return what prevents the folder from being used, in words; None if nothing does."""
        if not self.keys:
            return None
        if not (self.folder / RUN).exists():
            return "parts of an unknown run"
        if (job := self._read_job()) is None:
            if not resume:
                return f"a damaged {RUN}"
            # Nothing says which files its parts were computed from.
            self._note(f"{self.folder / RUN} is damaged: the run starts over")
            self._clear()
            return None
        for name in {**self._job, **job}:
            before, now = job.get(name), self._job.get(name)
            if before == now:
                continue
            if name == FILES and isinstance(before, dict) and isinstance(now, dict):
                changed = {k for k in {**now, **before} if before.get(k) != now.get(k)}
                changed -= self.bad_files
                if not changed or (resume and unaffected(changed)):
                    continue
                return f"a run of other files: {min(changed)} has changed, come or gone"
            return f"a run of other settings, {name} {before} and not {now}"
        return None if resume else UNFINISHED


class Lock:
    """The use of a folder by this process, until it is released or no longer referenced."""

    def __init__(self, path: Path) -> None:
        """Open the file that is to be locked."""
        self._path, self._held, self._file = path, False, -1
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)

    def acquire(self) -> bool:
        """Return whether no other process holds the lock; then this one does."""
        self._held = lock(self._file)
        return self._held

    def holds(self) -> bool:
        """Return whether the file is still in place; it may be removed with its folder."""
        with suppress(OSError):
            return self._held and os.path.samestat(os.fstat(self._file), self._path.stat())
        return False

    def release(self) -> None:
        """Remove the file, and the folder if it is empty, and let others use it."""
        if self.holds():
            with suppress(OSError):
                self._path.unlink()
                self._path.parent.rmdir()
        self._held = False
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> "Lock":
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

    def __del__(self) -> None:
        self.release()


_locks: weakref.WeakValueDictionary[str, Lock] = weakref.WeakValueDictionary()
"""Locks of this process, by folder; it may use a folder more than once."""


def hold(folder: Path) -> Lock:
    """Make a folder if there is none, and lock it; refuse a folder that another process uses."""
    name = os.path.realpath(folder)
    if (held := _locks.get(name)) is not None and held.holds():
        return held
    with one_line(f"cannot use the folder {folder}"):
        while True:
            _make(folder)
            held = Lock(folder / LOCK)
            if not held.acquire():
                raise CascjaxError(
                    f"{folder} is in use by another run: wait until it ends, or use another folder"
                )
            if held.holds():
                _locks[name] = held
                return held


def _make(folder: Path) -> None:
    if not folder.parent.is_dir():
        raise CascjaxError(f"cannot write {folder}: there is no folder {folder.parent}; make it")
    folder.mkdir(exist_ok=True)


def discard(folder: Path) -> None:
    """Remove a checkpoint folder, once its job is complete."""
    # Another process may remove it at the same time.
    with one_line(f"cannot remove {folder}"), suppress(FileNotFoundError):
        if not folder.exists():
            return
        with hold(folder):
            for part in folder.glob("*.npz"):
                part.unlink(missing_ok=True)
            sweep(folder)
            (folder / RUN).unlink(missing_ok=True)


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def _checksum(job: Mapping[str, Any]) -> str:
    return hashlib.blake2b(_canonical(job), digest_size=_SEAL).hexdigest()


def content_digest(value: Any) -> str:
    """Return a checksum of a value that a checkpoint can hold, such as a table."""
    arrays: list[np.ndarray] = []
    digest = zlib.crc32(_canonical(_split(value, arrays)))
    for array in arrays:
        digest = zlib.crc32(f"{array.dtype}{array.shape}".encode(), digest)
        digest = zlib.crc32(np.ascontiguousarray(array).view(np.uint8).data, digest)
    return f"{digest:08x}"


def pack(value: Any) -> bytes:
    """Return a value as the bytes of an npz file; arrays are kept to the bit."""
    arrays: list[np.ndarray] = []
    tree = json.dumps(_split(value, arrays))
    buffer = io.BytesIO()
    named = {str(i): array for i, array in enumerate(arrays)}
    np.savez(buffer, allow_pickle=False, tree=np.array(tree), **named)  # pyright: ignore[reportArgumentType]
    return buffer.getvalue()


def unpack(content: bytes) -> Any:
    """Return the value that `pack` wrote."""
    with np.load(io.BytesIO(content)) as arrays:
        return _join(json.loads(str(arrays["tree"])), arrays)


def _split(value: Any, arrays: list[np.ndarray]) -> Any:
    """Return a value as JSON, in which arrays are replaced by their position in a list."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        arrays.append(np.asarray(value))
        return {"array": len(arrays) - 1}
    if isinstance(value, tuple | list):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_split(item, arrays) for item in value]}
    if isinstance(value, Mapping):
        pairs = value.items()
        return {"dict": [[_split(k, arrays), _split(item, arrays)] for k, item in pairs]}
    if is_dataclass(value) and not isinstance(value, type):
        kind = type(value)
        content = {f.name: _split(getattr(value, f.name), arrays) for f in fields(value)}
        return {"class": f"{kind.__module__}:{kind.__qualname__}", "fields": content}
    raise TypeError(f"a checkpoint cannot hold {type(value).__name__}")


def _join(tree: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """Return the value that `_split` made JSON of."""
    if not isinstance(tree, dict):
        return tree
    if "array" in tree:
        return arrays[str(tree["array"])]
    if "tuple" in tree:
        return tuple(_join(item, arrays) for item in tree["tuple"])
    if "list" in tree:
        return [_join(item, arrays) for item in tree["list"]]
    if "dict" in tree:
        return {_join(k, arrays): _join(item, arrays) for k, item in tree["dict"]}
    module, _, name = tree["class"].partition(":")
    kind = getattr(importlib.import_module(module), name) if module.startswith("cascjax.") else None
    if not (isinstance(kind, type) and is_dataclass(kind)):
        raise ValueError(f"unknown class {tree['class']}")
    return kind(**{key: _join(item, arrays) for key, item in tree["fields"].items()})
