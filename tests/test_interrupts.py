"""Interrupts: whatever a command is doing, a signal ends it in time, and it can be resumed."""

from pathlib import Path

import interruptions
import pytest

from commands import heeded_interrupts  # isort: skip

_ = (heeded_interrupts,)  # fixtures

TRIALS = 24


@pytest.mark.slow
@pytest.mark.usefixtures("heeded_interrupts")
def test_signals_at_random_moments(tmp_path: Path) -> None:
    done = interruptions.trials(interruptions.make(tmp_path), TRIALS, seed=5)
    assert not [trial for trial in done if trial.faults]
