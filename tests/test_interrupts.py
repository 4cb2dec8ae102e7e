"""Interrupts: whatever a command is doing, a signal ends it in time, and it can be resumed."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import interruptions
import pytest

from commands import heeded_interrupts  # isort: skip

_ = (heeded_interrupts,)  # fixtures

TRIALS = 24

START = """
import gc, hashlib, signal, sys, time
from cascjax import interrupts
interrupts.handle()
def kept():
    return "a part is kept"
def ready():
    print("ready", flush=True)
"""

WAITS = "ready(); time.sleep(60)"
IN_A_CALLBACK = """
gc.callbacks.append(lambda *_: time.sleep(0.01))
ready()
while True:
    gc.collect()
"""
COMPILES = "ready(); hashlib.pbkdf2_hmac('sha256', b'', b'', 1 << 30)"  # does not come back
CHECKS = """
try:
    with interrupts.patience(kept):
        ready()
        while True:
            interrupts.check()
            time.sleep(0.01)
except KeyboardInterrupt:
    interrupts.claim()
    print(interrupts.line("all is well"), file=sys.stderr)
    interrupts.leave(130)
"""

FINISHES = """
with interrupts.patience(kept):
    ready()
    time.sleep(1)
    print("x" * 100)
    interrupts.leave(0)
"""


def patient(code: str) -> str:
    return f"with interrupts.patience(kept):\n    {code}"


def start(code: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", START + code],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n"
    return process


def ended(process: subprocess.Popen[str]) -> tuple[int, str, float]:
    """Return exit code, standard error and seconds."""
    begin = time.monotonic()
    error = process.communicate(timeout=60)[1]
    return process.returncode, error, time.monotonic() - begin


@pytest.mark.usefixtures("heeded_interrupts")
@pytest.mark.parametrize("sent", interruptions.SIGNALS)
@pytest.mark.parametrize(
    ("code", "words"),
    [
        (WAITS, "nothing half-written is left"),
        (IN_A_CALLBACK, "nothing half-written is left"),
        (COMPILES, "nothing half-written is left"),
        (patient(COMPILES), "a part is kept"),
        (CHECKS, "all is well"),
        (FINISHES, "the command was complete"),
    ],
)
def test_a_signal_ends_the_program_in_time(code: str, words: str, sent: signal.Signals) -> None:
    process = start(code)
    process.send_signal(sent)
    code_, error, seconds = ended(process)
    assert (code_, error) == (130, f"cascjax: interrupted; {words}\n")
    assert seconds < interruptions.LIMIT


@pytest.mark.usefixtures("heeded_interrupts")
def test_a_second_signal_ends_the_program_at_once() -> None:
    process = start(patient(COMPILES))
    process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    code, error, seconds = ended(process)
    assert (code, error) == (130, "cascjax: interrupted; a part is kept\n")
    assert seconds < 2


def test_what_is_ignored_stays_ignored() -> None:
    """As a shell does with a command in the background, and nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = start("ready(); time.sleep(1)")
    finally:
        signal.signal(signal.SIGHUP, before)
    process.send_signal(signal.SIGHUP)
    assert ended(process)[:2] == (0, "")


@pytest.mark.usefixtures("heeded_interrupts")
def test_temporary_files_go_with_the_program(tmp_path: Path) -> None:
    code = "from cascjax.data.files import atomic_write\nwith atomic_write(FILE):\n    " + WAITS
    process = start(code.replace("FILE", repr(str(tmp_path / "table.arrow"))))
    assert len(list(tmp_path.iterdir())) == 1
    process.send_signal(signal.SIGTERM)
    assert ended(process)[0] == 130
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.usefixtures("heeded_interrupts")
def test_signals_at_random_moments(tmp_path: Path) -> None:
    done = interruptions.trials(interruptions.make(tmp_path), TRIALS, seed=5)
    assert not [trial for trial in done if trial.faults]
