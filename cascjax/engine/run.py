"""Doing a job: sharing its parts among processes, and keeping and resuming them."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Bool

from cascjax import __version__
from cascjax.data.source import BadFileError, Source
from cascjax.data.table import Chunk, Table
from cascjax.engine.checkpoint import FILES, Checkpoint, content_digest, pack, unpack
from cascjax.engine.options import Progress, RunOptions, no_progress
from cascjax.engine.processes import ALONE, Processes, all_processes
from cascjax.errors import CascjaxError

ROUND_SECONDS = 300.0
"""Seconds after which processes exchange what is done; JAX waits at most 30 minutes."""

Inputs: TypeAlias = Mapping[tuple[int, tuple[str, ...]], str]
"""Content digests of what was read, by chunk and columns."""

Do: TypeAlias = Callable[[Sequence[int]], Generator[tuple[int, Any], None, None]]
"""Computes the parts of a job at the given positions; yields each position and its result."""


@dataclass(frozen=True)
class Run:
    """Doing a job in one or more processes."""

    checkpoint: Checkpoint | None = None  # opened; None to keep nothing
    progress: Progress = field(default=no_progress)
    processes: Processes = ALONE
    # Input files that a part depends on, by its key; any other part depends on all.
    files: Mapping[str, frozenset[str]] = field(default_factory=dict)
    source: Source | None = None  # None if nothing is read
    digests: dict[tuple[int, tuple[str, ...]], str] = field(default_factory=dict)

    @classmethod
    def start(
        cls,
        options: RunOptions,
        source: Source,
        settings: Mapping[str, Any],
        chunks: Mapping[str, Sequence[Chunk]],
        processes: Processes | None = None,
    ) -> "Run":
        """Return a run of a job, which all its processes must start with the same arguments."""
        processes, checkpoint = processes or all_processes(), None
        files = {key: {os.path.abspath(c.file) for c in part} for key, part in chunks.items()}
        layout = [chunk.n_rows for chunk in source.chunks]
        job = {"version": __version__, "chunks": layout, **settings}
        if processes.count > 1:
            _check_same(processes, job | {"checkpoint": options.checkpoint is not None}, source)
        if options.checkpoint is not None:
            checkpoint = Checkpoint(
                Path(options.checkpoint), job | {FILES: source.identity()}, options.note
            )
            _open(checkpoint, options, processes, files)
        named = {key: frozenset(part) for key, part in files.items()}
        return cls(checkpoint, options.progress, processes, named, source)

    def read(
        self, chunks: Sequence[Chunk], columns: Iterable[str]
    ) -> Iterator[tuple[Chunk, Table]]:
        """Yield chunks of the source with their rows, and note their content."""
        assert self.source is not None
        columns = tuple(sorted(columns))
        for chunk, table in self.source.read(chunks, columns):
            if self.checkpoint is not None:
                digest, at = content_digest(table), (chunk.index, columns)
                if self.digests.setdefault(at, digest) != digest:
                    raise self._changed(chunk.index)
            yield chunk, table

    def each(
        self, work: str, keys: Sequence[str], chunks: Sequence[Sequence[Chunk]], do: Do
    ) -> Iterator[Any]:
        """Yield the result of every part in order: kept before, computed here, or received.

        Each part is computed from its chunks, which `do` reads by `read`. Missing parts are dealt
        out in turn, and after a while what is then missing is dealt out again, so a slow process
        does less. No kept part is held in memory.
        """
        done, held, inputs = np.zeros(len(keys), bool), {}, {}
        for place, key in enumerate(keys):
            # Read, not only looked up: a damaged part is computed again.
            if self.checkpoint is not None and (kept := self.checkpoint.get(key)) is not None:
                done[place], inputs[place] = True, kept["inputs"]
        # Each process reports its share.
        all_done = self.processes.gather(done)
        rows = np.array([sum(chunk.n_rows for chunk in part) for part in chunks])
        self._check_inputs(inputs, all_done)
        count = int(rows[all_done.any(0)].sum()) // self.processes.count
        self.progress(work, count)
        while not all_done.any(0).all():
            missing = np.flatnonzero(~all_done.any(0)).tolist()
            for place, result in self._for_a_while(do, self.processes.share(missing)):
                if self.checkpoint is None:
                    held[place] = result
                else:
                    indices = {chunk.index for chunk in chunks[place]}
                    read = {at: text for at, text in self.digests.items() if at[0] in indices}
                    self.checkpoint.put(keys[place], {"inputs": read, "result": result})
                done[place] = True
            all_done = self.processes.gather(done)
        owner = all_done.argmax(0)
        for place, key in enumerate(keys):
            result = None
            if owner[place] == self.processes.index:
                result = held.pop(place, None)
                if result is None and self.checkpoint is not None:
                    result = (self.checkpoint.get(key) or {}).get("result")
                if result is None:
                    raise CascjaxError(f"the part {key} has been damaged: resume with resume=True")
            if self.processes.count > 1:
                content = None if result is None else pack(result)
                result = unpack(self.processes.broadcast(int(owner[place]), content))
            yield result

    def _check_inputs(
        self, inputs: Mapping[int, Inputs], all_done: Bool[np.ndarray, "P parts"]
    ) -> None:
        """Refuse files whose content is not what kept parts were computed from.

        Of the processes that keep a part, one reads its chunks again, once for all parts.
        """
        mine: dict[tuple[int, tuple[str, ...]], str] = {}
        for place, expected in inputs.items():
            holders = np.flatnonzero(all_done[:, place])
            if holders[place % len(holders)] == self.processes.index:
                mine |= expected

        def do() -> None:
            for columns in {columns for _, columns in mine}:
                wanted = sorted(i for i, c in {*mine} - {*self.digests} if c == columns)
                if wanted and self.source is not None:
                    for chunk, _ in self.read([self.source.chunks[i] for i in wanted], columns):
                        self.progress("checking", chunk.n_rows)
            for at, expected in mine.items():
                if self.digests.get(at) != expected:
                    raise self._changed(at[0])

        self.processes.agree(do)

    def _changed(self, chunk: int) -> CascjaxError:
        """Return the error that the content of a chunk is not what was read before."""
        assert self.source is not None
        assert self.checkpoint is not None
        return CascjaxError(
            f"{self.checkpoint.folder} holds a run of other content:"
            f" {self.source.chunks[chunk].file or self.source.name} has changed, though not in"
            " size and time: use another, or start over with force=True"
        )

    def _for_a_while(self, do: Do, places: Sequence[int]) -> Iterator[tuple[int, Any]]:
        """Yield parts; with several processes, as many as are done before they next exchange."""
        start = time.monotonic()
        try:
            with closing(do(places)) as results:
                for result in results:
                    yield result
                    if self.processes.count > 1 and time.monotonic() - start > ROUND_SECONDS:
                        return
        except BadFileError as error:
            self._forget(os.path.abspath(error.path))
            raise

    def _forget(self, path: str) -> None:
        """Remove all parts that depend on an invalid file, which must be fixed."""
        if self.checkpoint is None:
            return
        self.checkpoint.note_bad(path)
        for key in self.checkpoint.keys:
            if path in self.files.get(key, ()):
                self.checkpoint.remove(key)


def _check_same(processes: Processes, job: Mapping[str, Any], source: Source) -> None:
    """Refuse processes that were started with different settings or files, naming the first."""
    processes.check_same("settings", _digest(sorted(job)))
    for name, value in sorted(job.items()):
        processes.check_same(f"settings ({name})", _digest(value))
    processes.check_same("files", _digest(source.fingerprint()))


def _open(
    checkpoint: Checkpoint,
    options: RunOptions,
    processes: Processes,
    files: Mapping[str, set[str]],
) -> None:
    # Another process may have kept a part of a bad file after the file was noted, or elsewhere.
    noted = [json.dumps(sorted(checkpoint.bad_files)).encode()] * processes.count
    received = [processes.broadcast(sender, words) for sender, words in enumerate(noted)]
    bad = {path for words in received for path in json.loads(words)}

    def unaffected(changed: set[str]) -> bool:
        return all(not changed & files.get(key, changed) for key in checkpoint.keys)

    def do() -> None:
        for key in checkpoint.keys if options.resume else []:
            if bad & files.get(key, set()):
                checkpoint.remove(key)
        checkpoint.open(
            force=options.force, resume=options.resume, unaffected=unaffected,
            exclusive=processes.first,
        )  # fmt: skip

    processes.agree(do)


def _digest(value: Any) -> bytes:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).digest()
