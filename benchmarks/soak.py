"""Measure rows per second and peak memory of comparing strategies on files larger than memory.

    python benchmarks/soak.py [--queries 1000000,10000000] [--models 5] [--jobs "routing;pandora"]
                              [--folder DIR] [--json FILE]

Writes synthetic tables in files of a million rows (24 bytes per query and model), then runs
`cascjax compare` on each folder in a process of its own, and measures its wall time and peak
resident memory. With --folder the tables are kept there and used again.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROWS = 1_000_000
"""Rows per file."""

CASCJAX = [sys.executable, "-m", "cascjax"]


def run_cascjax(arguments: list[str]) -> dict[str, float]:
    """Return the seconds of a cascjax command and its peak resident memory in MB."""
    start = time.perf_counter()
    with subprocess.Popen([*CASCJAX, *arguments], stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"cascjax {' '.join(arguments)} failed")
    return {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_mb": usage.ru_maxrss / 1024,
    }


def write_table(folder: Path, queries: int, models: int) -> Path:
    """Return the folder of a table with this many rows; write it if it does not exist."""
    path = folder / f"{queries}x{models}"
    if not path.exists():
        parts = str(max(1, queries // ROWS))
        size = ["--queries", str(queries), "--models", str(models), "--parts", parts]
        run_cascjax(["synthesize", str(path), *size])
    return path


def soak(
    folder: Path, queries: list[int], models: int, jobs: list[str]
) -> dict[str, dict[str, float]]:
    """Return rows per second and peak memory of every job and number of rows."""
    results = {}
    for job in jobs:
        for count in queries:
            table, out = write_table(folder, count, models), folder / "out"
            options = ["--budgets", "8", "--out", str(out), "--force", "--strategies", *job.split()]
            run = run_cascjax(["compare", str(table), *options])
            run["rows_per_second"] = count / run["seconds"]
            results[f"{job}, {count:,} x {models}"] = run
            print(f"{job}, {count:,} x {models}: {run}", flush=True)
    return results


def main() -> None:
    """Measure, print, and write JSON if asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--queries", default="1000000,10000000", metavar="N,N")
    parser.add_argument("--models", type=int, default=5)
    parser.add_argument("--jobs", default="routing;pandora", help="strategies and options, by ;")
    parser.add_argument("--folder", type=Path, help="folder in which the tables are kept")
    parser.add_argument("--write-only", action="store_true", help="only write the tables")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers here")
    asked = parser.parse_args()
    queries = [int(n) for n in asked.queries.split(",")]
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.folder or Path(temporary)
        folder.mkdir(exist_ok=True)
        for count in queries:
            write_table(folder, count, asked.models)
        if asked.write_only:
            return
        results = soak(folder, queries, asked.models, asked.jobs.split(";"))
    if asked.json:
        asked.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
