"""Several processes at one job: who does what of it, and how they tell each other what came of it.

They are JAX's own: a program that has called `jax.distributed.initialize` is one of as many as it
said there, any other is alone. What is told goes as bytes, so that sums in float64 arrive to the
bit, whatever JAX computes in.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import jax
import numpy as np
from jaxtyping import Shaped, UInt8

from cascjax.errors import CascjaxError

T = TypeVar("T")

GONE = "another process of this run has stopped, or cannot be reached any more"
"""What is said where a peer does not answer."""

_LEAST_BYTES = 1 << 12
"""Bytes are told in lots of a power of two: JAX compiles for each size."""

_WORDS = 1 << 10
"""Bytes of an error that others are told."""

_STATUS = re.compile(r"[A-Z]+(_[A-Z]+)*: ")
"""What words of XLA's own errors begin with, as in "UNKNOWN: Gloo AllGather failed"."""


@dataclass(frozen=True)
class Processes:
    """The processes that do a job together, seen from one of them.

    Everything but `share` is to be called in all of them, in the same order.

    Attributes:
        index: of this one, from 0.
        count: of all.
    """

    index: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that speaks and writes for all."""
        return self.index == 0

    def share(self, items: Sequence[T]) -> list[T]:
        """Those of some items, the same in all processes, that fall to this one."""
        return list(items[self.index :: self.count])

    def gather(self, mine: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "P ..."]:
        """What all processes have, in their order.

        Args:
            mine: of the same shape and kind in all of them.

        Raises:
            CascjaxError: one of them does not answer.
        """
        if self.count == 1:
            return mine[None]
        from jax.experimental import multihost_utils

        with _reached():
            told = np.asarray(multihost_utils.process_allgather(_bytes(mine)))
        return told.reshape(self.count, -1).view(mine.dtype).reshape(self.count, *mine.shape)

    def tell(self, teller: int, words: bytes | None) -> bytes:
        """What one process says to all.

        Args:
            teller: which.
            words: what; only its own count.

        Raises:
            CascjaxError: one of them does not answer.
        """
        mine = words if self.index == teller and words is not None else b""
        if self.count == 1:
            return mine
        from jax.experimental import multihost_utils

        size = int(self.gather(np.array(len(mine)))[teller])
        lot = max(_LEAST_BYTES, 1 << (size - 1).bit_length()) if size else _LEAST_BYTES
        sent = np.zeros(lot, np.uint8)
        sent[: len(mine)] = np.frombuffer(mine, np.uint8)
        with _reached():
            told = multihost_utils.broadcast_one_to_all(sent, is_source=self.index == teller)
        return np.asarray(told)[:size].tobytes()

    def agree(self, do: Callable[[], T]) -> T:
        """Does something in every process, first in the first, and fails in all if in one.

        Raises:
            CascjaxError: it fails here, or in another, whose words are passed on.
        """
        found: list[T] = []
        for turn in (self.first, not self.first):
            failed: CascjaxError | None = None
            if turn:
                try:
                    found.append(do())
                except CascjaxError as error:
                    if self.count == 1:
                        raise
                    failed = error
            said = np.frombuffer(str(failed or "").encode()[:_WORDS].ljust(_WORDS), np.uint8)
            words = [bytes(one).decode(errors="ignore").strip() for one in self.gather(said)]
            if failed is not None:
                raise failed
            for index, one in enumerate(words):
                if one:
                    raise CascjaxError(f"process {index} has stopped: {one}")
        return found[0]

    def check_alike(self, what: str, digest: bytes) -> None:
        """Refuses processes that were not asked for the same.

        Args:
            what: in words.
            digest: of it; of the same length in all processes.

        Raises:
            CascjaxError: the first process has another.
        """
        of_all = self.gather(np.frombuffer(digest, np.uint8))
        other = np.flatnonzero((of_all != of_all[0]).any(1))
        if len(other):
            raise CascjaxError(
                f"process {other[0]} has other {what} than process 0: start all of them with the"
                " same command, over the same files"
            )


ALONE = Processes()
"""The one process of a job that is not shared out."""


def all_processes() -> Processes:
    """Those of `jax.distributed`, or this one alone.

    Raises:
        CascjaxError: they have different numbers of devices.
    """
    counts = Counter(device.process_index for device in jax.devices())
    other = next((index for index in sorted(counts) if counts[index] != counts[0]), None)
    if other is not None:  # JAX's own words go by a mesh of both
        raise CascjaxError(
            f"process {other} has another number of devices, {counts[other]}, than process 0,"
            f" {counts[0]}: let all see as many, by CUDA_VISIBLE_DEVICES or JAX_LOCAL_DEVICE_IDS"
        )
    return Processes(jax.process_index(), jax.process_count())


def _bytes(of: Shaped[np.ndarray, "..."]) -> UInt8[np.ndarray, " B"]:
    return np.ascontiguousarray(of).reshape(-1).view(np.uint8)


@contextmanager
def _reached() -> Iterator[None]:
    """Says in one line that a peer does not answer.

    Raises:
        CascjaxError: in place of what JAX raises.
    """
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        # What gloo says while the call is being dispatched JAX raises as a ValueError.
        if isinstance(error, ValueError) and not _STATUS.match(str(error)):
            raise
        raise CascjaxError(GONE) from error
