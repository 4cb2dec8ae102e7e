"""What only a fresh process shows: first calls, with and without a compilation cache, and memory.

    python benchmarks/cold.py [--json FILE] [--queries 2000000]

Each first call is a process of its own, timed inside it: 64 settings over 4,096 queries once, less
the same again. Memory is the peak of `cascjax compare` over a table of that many queries of 11
models, which is written to a temporary folder first (0.56 GB for 2 million).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

JOBS = [("routing", 11), ("pandora", 11), ("cascading", 11), ("cascade-routing", 5)]
JOBS += [("cascade-routing", 11)]

FIRST = """
import sys, time
sys.path.insert(0, {folder!r})
import conftest
from cascjax.strategies import strategy
from cascjax.cli.terminal import keep_compiled
keep_compiled()
run = conftest.one_pass(strategy({name!r}), 4096, {k})
times = []
for _ in range(3):
    start = time.perf_counter()
    run()
    times.append(time.perf_counter() - start)
print(times[0] - min(times[1:]))
"""


def first_calls() -> dict[str, list[float]]:
    """Seconds that the first call takes longer than the next: cache empty, then filled."""
    found = {}
    for name, k in JOBS:
        code = FIRST.format(folder=str(Path(__file__).parent), name=name, k=k)
        with tempfile.TemporaryDirectory() as cache:
            env = os.environ | {"JAX_COMPILATION_CACHE_DIR": cache}
            command = [sys.executable, "-c", code]
            found[f"{name}, {k} models"] = [
                float(subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE).stdout)
                for _ in range(2)
            ]
    return found


def memory(n_queries: int) -> dict[str, dict[str, float]]:
    """GB of a table's matrices, and at the peak of drawing frontiers from its file."""
    cascjax, found = [sys.executable, "-m", "cascjax"], {}
    with tempfile.TemporaryDirectory() as folder:
        table = os.path.join(folder, "table.arrow")
        size = ["--queries", str(n_queries), "--models", "11"]
        subprocess.run(
            [*cascjax, "synthesize", table, *size], check=True, stdout=subprocess.DEVNULL
        )
        for job, matrices in (("routing", 6), ("pandora", 6), ("routing --noise low", 6)):
            out = ["--budgets", "2", "--out", os.path.join(folder, "out")]
            command = [*cascjax, "compare", table, *out, "--strategies", *job.split()]
            with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
                _, status, usage = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                sys.exit(f"{' '.join(command)} failed")
            gigabytes = usage.ru_maxrss * 1024 / 1e9
            name = f"{job}, {n_queries:,} x 11"
            found[name] = {"table": matrices * n_queries * 11 * 4 / 1e9, "peak": gigabytes}
    return found


def main() -> None:
    """Measures, prints, and writes JSON where asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers here")
    parser.add_argument("--queries", type=int, default=2_000_000, help="of the table for memory")
    asked = parser.parse_args()
    found = {"first calls": first_calls(), "memory": memory(asked.queries)}
    print(json.dumps(found, indent=1))
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
