"""How a job over a stream is done: what is kept of it, who does what, and who is told."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from cascjax import __version__
from cascjax.data.source import BadFileError, Piece, Stream
from cascjax.engine.parts import FILES, Parts
from cascjax.engine.processes import ALONE, Processes, all_processes

Progress: TypeAlias = Callable[[str, int], None]
"""Called with what is being done and a number of rows that it is done with."""

_ROUND = 300.0
"""Seconds after which processes meet, if they are not done before: JAX waits for 30 minutes."""

Done: TypeAlias = Generator[tuple[int, pa.Table], None, None]
"""Parts of a job one after the other: the place of each, and what came of it."""

Do: TypeAlias = Callable[[Sequence[int]], Done]
"""Does some of the parts of a job, by their places."""


@dataclass(frozen=True)
class Ledger:
    """Where a run keeps what it has done, so that it can be gone on with after an interrupt.

    Attributes:
        folder: made where it is not there yet; its parent exists. See `cascjax.engine.parts`.
        resume: go on with what an earlier run of the same job left there.
        force: start over whatever an earlier run left.
    """

    folder: str | os.PathLike[str]
    resume: bool = False
    force: bool = False


@dataclass(frozen=True)
class Run:
    """Doing a job: in how many processes, what is kept of it, and who is told how far it is.

    Attributes:
        parts: where what is done is kept and found, opened; None to keep nothing.
        progress: who is told.
        processes: who does it.
        files: the files that some parts are of, by what they are kept as; all other parts are of
            all files.
    """

    parts: Parts | None = None
    progress: Progress = field(default=lambda doing, rows: None)
    processes: Processes = ALONE
    files: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @classmethod
    def begun(
        cls,
        ledger: Ledger | None,
        stream: Stream,
        settings: Mapping[str, Any],
        progress: Progress,
        of_some: Mapping[str, Sequence[Piece]],
    ) -> "Run":
        """A run of all processes there are.

        Args:
            ledger: where to keep what is done; by default nowhere.
            stream: the rows.
            settings: what tells the job from another on the same rows.
            progress: who is told.
            of_some: the pieces that some parts are of, by what they are kept as; all other parts
                are of all pieces. A file of which nothing is kept yet may have been fixed.

        Raises:
            CascjaxError: another run left something in the ledger, or this one did and is not to
                be gone on with; it cannot be written; or processes were asked for different jobs.
        """
        processes, parts = all_processes(), None
        files = {key: {stream.path(piece) for piece in some} for key, some in of_some.items()}
        layout = [piece.n_rows for piece in stream.pieces]
        asked = {
            "version": __version__,
            "files": stream.fingerprint(),
            "pieces": layout,
            "ledger": ledger is not None,
            **settings,
        }
        # One after the other, so that what differs is named; they have as many, if of one command.
        processes.check_alike("settings", _digest(sorted(asked)))
        for name, of in sorted(asked.items()):
            processes.check_alike("files" if name == "files" else f"settings ({name})", _digest(of))
        if ledger is not None:
            run = {"version": __version__, FILES: stream.identity(), "pieces": layout, **settings}
            parts = opened = Parts(Path(ledger.folder), run)

            # Of a bad file another process may have kept a part since it was named, or elsewhere.
            noted = [json.dumps(sorted(opened.bad)).encode()] * processes.count
            told = [processes.tell(teller, words) for teller, words in enumerate(noted)]
            bad = {path for words in told for path in json.loads(words)}

            def spared(changed: set[str]) -> bool:
                return all(not changed & files.get(key, changed) for key in opened.keys)

            def open_parts() -> None:
                for key in opened.keys if ledger.resume else []:
                    if bad & files.get(key, set()):
                        opened.remove(key)
                opened.open(force=ledger.force, resume=ledger.resume, spared=spared)

            processes.agree(open_parts)
        named = {key: frozenset(some) for key, some in files.items()}
        return cls(parts, progress, processes, named)

    def each(
        self, doing: str, keys: Sequence[str], rows: Sequence[int], do: Do
    ) -> Iterator[pa.Table]:
        """What came of every part of a job, in order: kept, done here, or told by whoever did it.

        What no process has kept is dealt out in turn, and after a while again what is then left: a
        process that is slower than the others does less. Of what is kept none is held in memory.

        Args:
            doing: what is being done, in words.
            keys: what each part is kept as.
            rows: of each part.
            do: does those it is given; it says itself how far it is.

        Raises:
            CascjaxError: what `do` raises, a kept part is damaged, or a process does not answer.
        """
        done, held = np.zeros(len(keys), bool), {}
        for place, key in enumerate(keys):
            if self.parts is not None and self.parts.read_table(key) is not None:
                done[place] = True
        # Each process tells its share: how far all are is about as many times that.
        of_all = self.processes.gather(done)
        self.progress(doing, int(np.asarray(rows)[of_all.any(0)].sum()) // self.processes.count)
        while not of_all.any(0).all():
            left = np.flatnonzero(~of_all.any(0)).tolist()
            for place, table in self._for_a_while(do, self.processes.share(left)):
                if self.parts is None:
                    held[place] = table
                else:
                    self.parts.write_table(keys[place], table)
                done[place] = True
            of_all = self.processes.gather(done)
        owner = of_all.argmax(0)
        for place, key in enumerate(keys):
            table = None
            if owner[place] == self.processes.index:
                table = held.pop(place, None)
                if table is None and self.parts is not None:
                    table = self.parts.read_table(key)
            if self.processes.count > 1:
                words = None if table is None else _written(table)
                words = self.processes.tell(int(owner[place]), words)
                table = pa.ipc.open_stream(words).read_all()
            assert table is not None
            yield table

    def _for_a_while(self, do: Do, places: Sequence[int]) -> Iterator[tuple[int, pa.Table]]:
        """Does some parts; of several processes each as many as it can before they meet again."""
        start = time.monotonic()
        try:
            with closing(do(places)) as found:
                for place, table in found:
                    yield place, table
                    if self.processes.count > 1 and time.monotonic() - start > _ROUND:
                        return
        except BadFileError as error:
            self._forget(os.path.abspath(error.path))
            raise

    def _forget(self, path: str) -> None:
        """Lets go of what is kept of a bad file: it is to be fixed, and then it is another."""
        if self.parts is None:
            return
        self.parts.note_bad(path)
        for key in self.parts.keys:
            if path in self.files.get(key, ()):
                self.parts.remove(key)


def _digest(of: Any) -> bytes:
    return hashlib.sha256(json.dumps(of, sort_keys=True).encode()).digest()


def _written(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()
