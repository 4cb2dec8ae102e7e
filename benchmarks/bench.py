"""The whole speed table on whatever device there is, in less than eight minutes.

    make bench
    python benchmarks/bench.py [--device NAME] [--seconds 440]

Measures the suite, then what only a fresh process shows, and adds to RESULTS.md, beside the columns
of other devices, the one of this. Begins with what matters most, and begins nothing once its time
is over: on a slow or busy device rows may be missing, and keep what was measured of them before.
What it compiles it keeps in .benchmarks, so that a second run has time for more.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
KEPT = HERE.parent / ".benchmarks"

FRESH = 100
"""Seconds that what only a fresh process shows takes, about."""


def main() -> None:
    """Measures, and writes the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", help="a name for the machine; by default what JAX calls it")
    parser.add_argument("--seconds", type=int, default=440, help="for all, about (%(default)s)")
    given = parser.parse_args()
    suite, cold = KEPT / "suite.json", KEPT / "cold.json"
    KEPT.mkdir(exist_ok=True)

    def run(script: str, *words: str | Path, **more: str) -> None:
        command = [sys.executable, *script.split(), *map(str, words)]
        subprocess.run(command, cwd=HERE.parent, env=os.environ | more, check=True)

    device = ("--device", given.device) if given.device else ()
    limits = {
        "JAX_COMPILATION_CACHE_DIR": str(KEPT / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
        "BENCH_SECONDS": str(max(0, given.seconds - FRESH)),
    }
    # What a search loses is quality, not time, and the same on every device.
    timed = ("-k", "not search_loss", "--benchmark-only", "--benchmark-json", suite)
    run("-m pytest -q -o addopts= --benchmark-columns=median,rounds", HERE, *timed, **limits)
    run("benchmarks/results.py", *device, suite)
    run("benchmarks/cold.py", "--json", cold)
    run("benchmarks/results.py", *device, cold)


if __name__ == "__main__":
    main()
