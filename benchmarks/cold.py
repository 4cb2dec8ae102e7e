"""Measure first calls, with and without a compilation cache, and peak memory, in fresh processes.

    python benchmarks/cold.py [--json FILE] [--queries 2000000]

A first call simulates 64 settings on 4,096 queries; the time of a second call is subtracted. Memory
is the peak of `cascjax compare` on a table of --queries queries and 11 models, which is written to
a temporary folder first (0.56 GB for 2 million queries).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from soak import run_cascjax

JOBS = [("routing", 11), ("pandora", 11), ("cascading", 11), ("cascade-routing", 5)]
JOBS += [("cascade-routing", 11)]

FIRST = """
import sys, time
sys.path.insert(0, {folder!r})
import conftest
from cascjax.strategies import strategy
from cascjax.engine.compiled import keep_compiled
keep_compiled()
run = conftest.one_pass(strategy({name!r}), 4096, {k})
times = []
for _ in range(3):
    start = time.perf_counter()
    run()
    times.append(time.perf_counter() - start)
print(times[0] - min(times[1:]))
"""


def fresh_seconds(code: str, cache: str | None) -> float:
    """Return the seconds that a program prints, run in a fresh process.

    Args:
        code: Python program.
        cache: folder of the compilation cache, or None for no cache.
    """
    env = {key: value for key, value in os.environ.items() if key != "JAX_COMPILATION_CACHE_DIR"}
    if cache is not None:
        env["JAX_COMPILATION_CACHE_DIR"] = cache
    command = [sys.executable, "-c", code]
    return float(subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE).stdout)


def first_calls(jobs: list[tuple[str, int]] = JOBS) -> dict[str, list[float]]:
    """Return the extra seconds of a first call: with an empty cache, then with a filled one."""
    seconds = {}
    for name, k in jobs:
        code = FIRST.format(folder=str(Path(__file__).parent), name=name, k=k)
        with tempfile.TemporaryDirectory() as cache:
            seconds[f"{name}, {k} models"] = [fresh_seconds(code, cache) for _ in range(2)]
    return seconds


def memory(n_queries: int) -> dict[str, dict[str, float]]:
    """Return the GB of a table's matrices, and the peak of comparing strategies on its file."""
    peaks, matrices = {}, 6
    with tempfile.TemporaryDirectory() as folder:
        table = os.path.join(folder, "table.arrow")
        run_cascjax(["synthesize", table, "--queries", str(n_queries), "--models", "11"])
        for job in ("routing", "pandora", "routing --noise low"):
            out = ["--budgets", "2", "--out", os.path.join(folder, "out"), "--force"]
            peak = run_cascjax(["compare", table, *out, "--strategies", *job.split()])["peak_mb"]
            size = matrices * n_queries * 11 * 4 / 1e9
            peaks[f"{job}, {n_queries:,} x 11"] = {"table": size, "peak": peak * 2**20 / 1e9}
    return peaks


def main() -> None:
    """Measure, print, and write JSON if asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers here")
    parser.add_argument("--queries", type=int, default=2_000_000, help="queries of the table")
    parser.add_argument("--first", type=int, default=len(JOBS), help="number of first calls")
    asked = parser.parse_args()
    numbers = {"first calls": first_calls(JOBS[: asked.first]), "memory": memory(asked.queries)}
    print(json.dumps(numbers, indent=1))
    if asked.json:
        asked.json.write_text(json.dumps(numbers, indent=1) + "\n")


if __name__ == "__main__":
    main()
