"""Interrupts of the program: a signal sets a flag, and a thread ends the program in time.

An exception raised by a signal handler may arrive in a callback of JAX, which swallows it, or in an
import, which it breaks. So handlers raise nothing: the work calls `check` between its parts, and a
thread ends a program that does not react, because it compiles or imports. This module imports
little, so that signals are handled from the start. Without `handle`, as in a program that uses the
library, an interrupt is an ordinary KeyboardInterrupt.
"""

import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

PATIENCE = 3.0
"""Seconds after a signal in which work that keeps partial results may end by itself."""

_SAME = 0.2  # Seconds within which another signal counts as the same; timeout(1) sends two

_CLEAR = b"\r\033[K\033[?25h"  # Removes a progress bar, and shows the cursor again


@dataclass
class _State:
    handled: bool = False
    patience: float = 0.0  # without results to keep, the program ends at once
    kept: Callable[[], str] = str
    undo: list[Callable[[], object]] = field(default_factory=list)
    asked: bool = False  # set by the main thread, which runs the handlers
    # Held by the thread that says why the program ends.
    last_words: threading.RLock = field(default_factory=threading.RLock)


_state = _State()


def handle() -> None:
    """Handle signals until the program ends; what is ignored, as by nohup, stays ignored."""
    if _state.handled or threading.current_thread() is not threading.main_thread():
        return
    received, sent = socket.socketpair()
    sent.setblocking(False)
    # Python writes the number of a signal here at once, whatever the main thread is doing.
    signal.set_wakeup_fd(sent.detach(), warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(received,), daemon=True).start()
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _ask)
    _state.handled = True


def check() -> None:
    """Raise KeyboardInterrupt, once, if a signal has arrived."""
    if _state.asked:
        _state.asked = False
        raise KeyboardInterrupt


def line(kept: str) -> str:
    """Return what is said of an interrupt, given in words what is kept."""
    return f"cascjax: interrupted; {kept or 'nothing half-written is left'}"


@contextmanager
def patience(kept: Callable[[], str]) -> Iterator[None]:
    """Let the block end by itself after a signal; `kept` tidies up, and returns what is kept."""
    before = _state.patience, _state.kept
    _state.patience, _state.kept = PATIENCE, kept
    try:
        yield
    finally:
        _state.patience, _state.kept = before


@contextmanager
def undone(undo: Callable[[], object]) -> Iterator[None]:
    """Call a function if the program is ended within the block, without the block's exit."""
    _state.undo.append(undo)
    try:
        yield
    finally:
        _state.undo.remove(undo)


def claim() -> None:
    """Have the last words of the program; wait for its end if the other thread has them."""
    if _state.handled and not _state.last_words.acquire(blocking=False):
        time.sleep(60)


def leave(code: int) -> NoReturn:
    """End the program at once: threads that Python stops at a normal exit may crash it.

    A signal that comes too late to change anything still decides the exit code.
    """
    claim()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # closed, or none
            stream.flush()
    if not code and _state.asked:
        _say("the command was complete")
        code = 130
    os._exit(code)


def _ask(number: int, frame: object) -> None:
    _state.asked = True


def _say(kept: str) -> None:
    """Print the line, not through the stream, whose lock another thread may hold."""
    with suppress(OSError, ValueError, AttributeError):
        error = sys.stderr.fileno()
        os.write(error, _CLEAR * os.isatty(error) + line(kept).encode() + b"\n")


def _watch(received: socket.socket) -> None:
    """End the program after a second signal, or if it has not ended in time after the first."""
    while received.recv(1)[0] not in SIGNALS:
        pass
    patience = _state.patience
    if patience:
        time.sleep(_SAME)
        with suppress(BlockingIOError):
            received.recv(1 << 10, socket.MSG_DONTWAIT)
        select.select([received], [], [], patience)
    if _state.last_words.acquire(blocking=False):
        text = ""
        with suppress(Exception):
            text = _state.kept()
        for undo in reversed(_state.undo):
            with suppress(Exception):
                undo()
        _say(text)
    else:
        time.sleep(1)  # the main thread is saying why it ends
    os._exit(130)
