"""Several processes that share a job: who computes what, and how they exchange results.

They are the processes of `jax.distributed`; a program that has not initialised it is alone. Results
are exchanged as bytes, so that float64 sums arrive to the bit whatever precision JAX computes in.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import jax
import numpy as np
from jaxtyping import Shaped

from cascjax.errors import CascjaxError

T = TypeVar("T")

GONE = "another process of this run has stopped, or cannot be reached any more"
"""Message for a process that does not answer."""

_LEAST_BYTES = 1 << 12
"""Messages are padded to a power of two of at least this size: JAX compiles for each size."""

_ERROR_BYTES = 1 << 10  # Bytes of an error message that other processes receive

_STATUS = re.compile(r"[A-Z]+(_[A-Z]+)*: ")
"""How messages of XLA's own errors begin, as in "UNKNOWN: Gloo AllGather failed"."""


@dataclass(frozen=True)
class Processes:
    """The processes that share a job, seen from one of them.

    Every method but `share` must be called in all of them, in the same order.
    """

    index: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this process prints and writes for all."""
        return self.index == 0

    def share(self, items: Sequence[T]) -> list[T]:
        """Return the items of this process, from a sequence that is equal in all of them."""
        return list(items[self.index :: self.count])

    def gather(self, mine: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "P ..."]:
        """Return the arrays of all processes, in their order."""
        if self.count == 1:
            return mine[None]
        from jax.experimental import multihost_utils

        content = np.ascontiguousarray(mine).reshape(-1).view(np.uint8)
        with _one_line():
            received = np.asarray(multihost_utils.process_allgather(content))
        return received.reshape(self.count, -1).view(mine.dtype).reshape(self.count, *mine.shape)

    def broadcast(self, sender: int, content: bytes | None) -> bytes:
        """Return what one process sends to all."""
        mine = content if self.index == sender and content is not None else b""
        if self.count == 1:
            return mine
        from jax.experimental import multihost_utils

        size = int(self.gather(np.array(len(mine)))[sender])
        padded = np.zeros(max(_LEAST_BYTES, 1 << max(0, size - 1).bit_length()), np.uint8)
        padded[: len(mine)] = np.frombuffer(mine, np.uint8)
        with _one_line():
            received = multihost_utils.broadcast_one_to_all(padded, is_source=self.index == sender)
        return np.asarray(received)[:size].tobytes()

    def agree(self, do: Callable[[], T]) -> T:
        """Call a function in every process, first in the first; fail in all if it fails in one."""
        results: list[T] = []
        for turn in (self.first, not self.first):
            failure: CascjaxError | None = None
            if turn:
                try:
                    results.append(do())
                except CascjaxError as error:
                    if self.count == 1:
                        raise
                    failure = error
            padded = str(failure or "").encode()[:_ERROR_BYTES].ljust(_ERROR_BYTES)
            messages = self.gather(np.frombuffer(padded, np.uint8))
            if failure is not None:
                raise failure
            for index, message in enumerate(messages):
                if text := bytes(message).decode(errors="ignore").strip():
                    raise CascjaxError(f"process {index} has stopped: {text}")
        return results[0]

    def check_same(self, what: str, digest: bytes) -> None:
        """Refuse processes that were started for different jobs."""
        digests = self.gather(np.frombuffer(digest, np.uint8))
        others = np.flatnonzero((digests != digests[0]).any(1))
        if len(others):
            raise CascjaxError(
                f"process {others[0]} has other {what} than process 0: start all of them with the"
                " same command, over the same files"
            )


ALONE = Processes()  # The one process of a job that is not shared


def all_processes() -> Processes:
    """Return the processes of `jax.distributed`, or this one alone."""
    counts = Counter(device.process_index for device in jax.devices())
    other = next((index for index in sorted(counts) if counts[index] != counts[0]), None)
    if other is not None:  # JAX's own message is about a mesh of both
        raise CascjaxError(
            f"process {other} has another number of devices, {counts[other]}, than process 0,"
            f" {counts[0]}: let all see as many, by CUDA_VISIBLE_DEVICES or JAX_LOCAL_DEVICE_IDS"
        )
    return Processes(jax.process_index(), jax.process_count())


@contextmanager
def _one_line() -> Iterator[None]:
    """Replace JAX's errors about a process that does not answer."""
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        # JAX raises a ValueError for errors of gloo while the call is being dispatched.
        if isinstance(error, ValueError) and not _STATUS.match(str(error)):
            raise
        raise CascjaxError(GONE) from error
