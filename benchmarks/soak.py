"""Frontiers of files larger than memory: rows a second and peak memory, as the rows grow.

    python benchmarks/soak.py [--queries 1000000,10000000] [--models 5] [--jobs "routing,pandora"]
                              [--folder DIR] [--json FILE]

Writes synthetic workloads in files of a million rows (24 bytes a query and model), then runs
`cascjax compare` over each folder as a process of its own, whose wall time and peak resident
memory are taken. With --folder the workloads are kept there, and used again.
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
"""Rows of a file."""

CASCJAX = [sys.executable, "-m", "cascjax"]


def measured(command: list[str]) -> dict[str, float]:
    """Seconds of a process and its peak resident memory in MB."""
    start = time.perf_counter()
    with subprocess.Popen([*CASCJAX, *command], stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"cascjax {' '.join(command)} failed")
    return {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_mb": usage.ru_maxrss / 1024,
    }


def written(folder: Path, queries: int, models: int) -> Path:
    """The workload of so many rows, made if it is not there."""
    path = folder / f"{queries}x{models}"
    if not path.exists():
        parts = str(max(1, queries // ROWS))
        size = ["--queries", str(queries), "--models", str(models), "--parts", parts]
        measured(["synthesize", str(path), *size])
    return path


def soak(
    folder: Path, queries: list[int], models: int, jobs: list[str]
) -> dict[str, dict[str, float]]:
    """Rows a second and peak memory of every job and number of rows."""
    found = {}
    for job in jobs:
        for count in queries:
            table, out = written(folder, count, models), folder / "out"
            options = ["--budgets", "8", "--out", str(out), "--force", "--strategies", *job.split()]
            run = measured(["compare", str(table), *options])
            run["rows_per_second"] = count / run["seconds"]
            found[f"{job}, {count:,} x {models}"] = run
            print(f"{job}, {count:,} x {models}: {run}", flush=True)
    return found


def main() -> None:
    """Measures, prints, and writes JSON where asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--queries", default="1000000,10000000", metavar="N,N")
    parser.add_argument("--models", type=int, default=5)
    parser.add_argument("--jobs", default="routing;pandora", help="strategies and options, by ;")
    parser.add_argument("--folder", type=Path, help="where workloads are kept")
    parser.add_argument("--write-only", action="store_true", help="only make the workloads")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers here")
    asked = parser.parse_args()
    queries = [int(n) for n in asked.queries.split(",")]
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.folder or Path(temporary)
        folder.mkdir(exist_ok=True)
        for count in queries:
            written(folder, count, asked.models)
        if asked.write_only:
            return
        found = soak(folder, queries, asked.models, asked.jobs.split(";"))
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
