"""Run the speed benchmarks on the current device, in less than eight minutes.

    make bench
    python benchmarks/bench.py [--device NAME] [--seconds 440]

Runs the suite, then the benchmarks that need a fresh process, and adds the columns of this device
to RESULTS.md. The most important benchmarks come first, and none starts after the time limit: on a
slow or busy device rows may be missing, which keep their earlier numbers. Compiled programs are
kept in .benchmarks, so a second run has time for more.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
KEPT = HERE.parent / ".benchmarks"

FRESH = 100
"""Approximate seconds of the benchmarks that need a fresh process."""


def main() -> None:
    """Run the benchmarks and write the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", help="name of the machine; by default JAX's name")
    parser.add_argument("--seconds", type=int, default=440, help="total time, about (%(default)s)")
    asked = parser.parse_args()
    suite, cold = KEPT / "suite.json", KEPT / "cold.json"
    KEPT.mkdir(exist_ok=True)

    def run(script: str, *arguments: str | Path, **variables: str) -> None:
        command = [sys.executable, *script.split(), *map(str, arguments)]
        subprocess.run(command, cwd=HERE.parent, env=os.environ | variables, check=True)

    device = ("--device", asked.device) if asked.device else ()
    limits = {
        "JAX_COMPILATION_CACHE_DIR": str(KEPT / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
        "BENCH_SECONDS": str(max(0, asked.seconds - FRESH)),
    }
    # The quality that a search loses is the same on every device.
    timed = ("-k", "not search_loss", "--benchmark-only", "--benchmark-json", suite)
    run("-m pytest -q -o addopts= --benchmark-columns=median,rounds", HERE, *timed, **limits)
    run("benchmarks/results.py", *device, suite)
    run("-m benchmarks.jobs")
    run("benchmarks/cold.py", "--json", cold)
    run("benchmarks/results.py", *device, cold)


if __name__ == "__main__":
    main()
