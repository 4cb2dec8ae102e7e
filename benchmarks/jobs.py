"""Time whole jobs, as users call them, each in a new process; write the first table of RESULTS.md.

    python -m benchmarks.jobs [--only TEXT] [--rounds 3]

Each job is timed in a new process: the first call, which compiles or reads what an earlier process
compiled, then the median of some more. Seconds are those of the clock and those of all cores; a
"pass" is `(quality - price * cost).argmax(1)` of NumPy over 1,000,000 x 11 on one thread, timed in
the same process. Peak memory is the process's, with Python and JAX (about 0.35 GB).
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results import replace_tables

HERE = Path(__file__).parent

JOBS: dict[str, tuple[str, int, int, dict[str, Any]]] = {
    "compare routing, 1M x 11, 100 budgets": ("routing", 1_000_000, 11, {"budgets": 100}),
    "compare pandora, the same": ("pandora", 1_000_000, 11, {"budgets": 100}),
    "compare cascade-routing, 100k x 5, 20 budgets": (
        "cascade-routing", 100_000, 5, {"budgets": 20}
    ),
    "the same, 100k x 11": ("cascade-routing", 100_000, 11, {"budgets": 20}),
    "intervals, 1,000 resamples, 100k x 5, 20 budgets, routing": (
        "routing", 100_000, 5, {"budgets": 20, "resamples": 1000}
    ),
    "intervals, the same, pandora": (
        "pandora", 100_000, 5, {"budgets": 20, "resamples": 1000}
    ),
    "first compare of a process, routing and pandora, 2k x 5": (
        "routing,pandora", 2_000, 5, {"budgets": 20}
    ),
}  # fmt: skip
"""Strategies, queries, models, and arguments of `compare`."""


def clock(call: Callable[[], Any]) -> tuple[float, float]:
    """Return seconds of the clock and of all cores."""
    wall, cores = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - cores


def medians(call: Callable[[], Any], rounds: int) -> tuple[float, float]:
    """Return the medians of some rounds."""
    wall, cores = np.median([clock(call) for _ in range(rounds)], axis=0)
    return float(wall), float(cores)


def numpy_pass(rounds: int = 5) -> float:
    """Return the seconds of NumPy's argmax over 1,000,000 x 11."""
    quality, cost = np.random.default_rng(0).random((2, 1_000_000, 11), np.float32)
    return medians(lambda: (quality - np.float32(0.1) * cost).argmax(1), rounds)[0]


def measure(name: str, rounds: int) -> dict[str, float]:
    """Return the seconds and the memory of a job, in this process."""
    from cascjax import compare, synthetic

    strategies, n, k, arguments = JOBS[name]
    one_pass = numpy_pass()
    table = synthetic.sample(synthetic.make_dataset(k, seed=0), 0, n)

    def job() -> None:
        compare(table, strategies.split(","), "supplied", **arguments)

    first, _ = clock(job)
    wall, cores = medians(job, rounds)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"first": first, "wall": wall, "cores": cores, "pass": one_pass, "peak": peak}


def in_process(arguments: list[str], cache: Path) -> tuple[str, float]:
    """Return the output of a new process and its seconds, with this cache of compiled programs."""
    environment = os.environ | {"XDG_CACHE_HOME": str(cache), "JAX_COMPILATION_CACHE_DIR": ""}
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", *arguments], env=environment, stdout=subprocess.PIPE, text=True,
        check=True,
    )  # fmt: skip
    return done.stdout, time.perf_counter() - start


def main() -> None:
    """Time every job twice, with an empty cache of compiled programs and with a full one."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="jobs whose name contains this")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--here", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.here:
        print(json.dumps(measure(asked.here, asked.rounds)))
        return
    head = ("job", "first, cold", "first, cached", "warm", "of all cores", "passes", "peak memory")
    lines = [f"| {' | '.join(head)} |", "| --- |" + " ---: |" * (len(head) - 1)]
    with tempfile.TemporaryDirectory() as folder:
        for place, name in enumerate(name for name in JOBS if asked.only in name):
            cache = Path(folder) / str(place)
            words = ["benchmarks.jobs", "--here", name, "--rounds", str(asked.rounds)]
            cold, warm = (json.loads(in_process(words, cache)[0]) for _ in range(2))
            cells = [f"{x:.2f} s" for x in (cold["first"], warm["first"], warm["wall"])]
            cells += [f"{warm['cores']:.2f} s", f"{warm['wall'] / warm['pass']:.1f}"]
            lines.append(f"| {' | '.join([name, *cells])} | {warm['peak']:.2f} GB |")
            print(lines[-1], file=sys.stderr, flush=True)
        if asked.only in "cascjax demo":
            out = Path(folder) / "demo"
            words = ["cascjax", "demo", "--json", "--out", str(out)]
            seconds = []
            for _ in range(2):
                seconds.append(in_process(words, Path(folder) / "cache")[1])
                subprocess.run(["rm", "-r", str(out)], check=True)
            cells = [f"{x:.1f} s" for x in seconds]
            lines.append(f"| `cascjax demo`, all strategies | {' | '.join(cells)} | | | | |")
    table = "\n".join([*lines, ""])
    print(table)
    if not asked.only:
        marks = "<!-- jobs: made by jobs.py -->\n", "<!-- end of jobs -->\n"
        replace_tables(HERE / "RESULTS.md", *marks, table)


if __name__ == "__main__":
    main()
