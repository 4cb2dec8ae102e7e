"""How a job over a stream is done: what is kept of it, who does what, and who is told."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from cascjax import __version__
from cascjax.io.parts import Parts
from cascjax.io.stream import Stream
from cascjax.processes import ALONE, Processes, all_processes

Progress: TypeAlias = Callable[[str, int], None]
"""Called with what is being done and a number of rows that it is done with."""

Do: TypeAlias = Callable[[Sequence[int]], Iterator[tuple[int, pa.Table]]]
"""Does some of the parts of a job, by their places: each part's place, and what came of it."""


@dataclass(frozen=True)
class Ledger:
    """Where a run keeps what it has done, so that it can be gone on with after an interrupt.

    Attributes:
        folder: made where it is not there yet; its parent exists. See `cascjax.io.parts`.
        resume: go on with what an earlier run of the same job left there.
        force: begin anew whatever an earlier run left.
    """

    folder: Path
    resume: bool = False
    force: bool = False


@dataclass(frozen=True)
class Run:
    """Doing a job: in how many processes, what is kept of it, and who is told how far it is.

    Attributes:
        parts: where what is done is kept and found, opened; None to keep nothing.
        progress: who is told.
        processes: who does it.
    """

    parts: Parts | None = None
    progress: Progress = field(default=lambda doing, rows: None)
    processes: Processes = ALONE

    @classmethod
    def begun(
        cls, ledger: Ledger | None, stream: Stream, settings: Mapping[str, Any], progress: Progress
    ) -> "Run":
        """A run of all processes there are.

        Args:
            ledger: where to keep what is done; by default nowhere.
            stream: the rows.
            settings: what tells the job from another on the same rows.
            progress: who is told.

        Raises:
            CascjaxError: another run left something in the ledger, or this one did and is not to
                be gone on with; it cannot be written; or processes were asked for different jobs.
        """
        processes, parts = all_processes(), None
        asked = json.dumps([__version__, stream.fingerprint(), settings], sort_keys=True)
        processes.check_alike("files or settings", hashlib.sha256(asked.encode()).digest())
        if ledger is not None:
            files = stream.identity()
            parts = Parts(ledger.folder, {"version": __version__, "files": files, **settings})

            def opened(parts: Parts = parts) -> None:
                parts.open(force=ledger.force, resume=ledger.resume)

            processes.agree(opened)
        return cls(parts, progress, processes)

    def each(
        self, doing: str, keys: Sequence[str], rows: Sequence[int], do: Do
    ) -> Iterator[pa.Table]:
        """What came of every part of a job, in order: kept, done here, or told by whoever did it.

        What no process has kept is dealt out in turn. Of what a process keeps it holds nothing.

        Args:
            doing: what is being done, in words.
            keys: what each part is kept as.
            rows: of each part.
            do: does those it is given; it says itself how far it is.

        Raises:
            CascjaxError: what `do` raises, a kept part is damaged, or a process does not answer.
        """
        mine, held = np.zeros(len(keys), bool), {}
        for place, key in enumerate(keys):
            if self.parts is not None and self.parts.read_table(key) is not None:
                mine[place] = True
        kept = self.processes.gather(mine)
        owner = np.where(kept.any(0), kept.argmax(0), -1)
        # Each process tells its share: how far all are is about as many times that.
        done = int(np.asarray(rows)[owner >= 0].sum())
        self.progress(doing, done // self.processes.count)
        left = np.flatnonzero(owner < 0)
        owner[left] = np.arange(len(left)) % self.processes.count
        for place, table in do(self.processes.share(left.tolist())):
            if self.parts is None:
                held[place] = table
            else:
                self.parts.write_table(keys[place], table)
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


def _written(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()
