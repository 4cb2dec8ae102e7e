"""The whole speed table on whatever device there is, in less than eight minutes.

    make bench
    python benchmarks/bench.py [--device NAME]

Measures what only a fresh process shows, then the suite, and adds to RESULTS.md, beside the columns
of other devices, the one of this. Begins with what matters most, and begins nothing once its time
is over: on a slow or busy device rows may be missing, and keep what was measured of them before.
What it compiles it keeps in .benchmarks, so that a second run has time for more.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
KEPT = HERE.parent / ".benchmarks"

SECONDS = 440
"""After which no benchmark begins; the longest take half a minute."""


def main() -> None:
    """Measures, and writes the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", help="a name for the machine; by default what JAX calls it")
    given = parser.parse_args()
    suite, cold = KEPT / "suite.json", KEPT / "cold.json"
    KEPT.mkdir(exist_ok=True)

    def run(script: str, *words: str | Path, **more: str) -> None:
        command = [sys.executable, *script.split(), *map(str, words)]
        subprocess.run(command, cwd=HERE.parent, env=os.environ | more, check=True)

    start = time.perf_counter()
    run("benchmarks/cold.py", "--json", cold)
    compiled = {
        "JAX_COMPILATION_CACHE_DIR": str(KEPT / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
        "BENCH_SECONDS": str(SECONDS - round(time.perf_counter() - start)),
    }
    # What a search loses is quality, not time, and the same on every device.
    timed = ("-k", "not search_loss", "--benchmark-only", "--benchmark-json", suite)
    run("-m pytest -q -o addopts= --benchmark-columns=median,rounds", HERE, *timed, **compiled)
    device = ("--device", given.device) if given.device else ()
    run("benchmarks/results.py", *device, suite, cold)


if __name__ == "__main__":
    main()
