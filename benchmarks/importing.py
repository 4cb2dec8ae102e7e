"""Speed and memory of importing a long log in JSON Lines, beside pandas.

    python -m benchmarks.importing --rows 1000000 --folder /tmp

Each reader runs in a process of its own; memory is its peak, less that of the process after its
imports. pandas reads lines in chunks of 100,000 and pivots; it checks and names nothing.
"""

import argparse
import json
import multiprocessing
import resource
import time
from pathlib import Path
from typing import Any

MODELS = 10


def write(path: Path, rows: int) -> None:
    """Write a log with prompts and responses, as tools write them."""
    with open(path, "w", encoding="utf-8") as file:
        for row in range(rows):
            query, model = divmod(row, MODELS)
            record = {
                "id": f"query-{query}",
                "model": f"provider/model-{model}",
                "prompt": f"What is the answer to question {query}? " * 3,
                "response": f"The answer of model {model} is {row % 97}. " * 3,
                "eval": {"score": (row * 2654435761 >> 7) & 1, "judge": "exact"},
                "usage": {"input": 100 + query % 50, "output": 20 + row % 97,
                          "usd": (100 + row % 997) * 1e-6},
            }  # fmt: skip
            file.write(json.dumps(record) + "\n")


def by_cascjax(path: str) -> Any:
    from cascjax.importers.long import import_long

    yield
    table = import_long(path, "id", "model", "eval.score", "usage.usd").table
    yield float(table.quality.mean(dtype=float))


def by_pandas(path: str) -> Any:
    import pandas as pd

    yield
    parts = []
    for chunk in pd.read_json(path, lines=True, chunksize=100_000):
        chunk["score"] = [each["score"] for each in chunk["eval"]]
        chunk["usd"] = [each["usd"] for each in chunk["usage"]]
        parts.append(chunk[["id", "model", "score", "usd"]])
    log = pd.concat(parts)
    quality = log.pivot(index="id", columns="model", values="score")
    log.pivot(index="id", columns="model", values="usd")
    yield float(quality.to_numpy().mean())


READERS = {"cascjax": by_cascjax, "pandas": by_pandas}


def measured(name: str, path: str, queue: Any) -> None:
    steps = READERS[name](path)
    next(steps)
    before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    mean = next(steps)
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    queue.put((seconds, cpu, (after.ru_maxrss - before.ru_maxrss) / 1024, mean))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, default=Path("/tmp"))
    parser.add_argument("--readers", default=",".join(READERS))
    arguments = parser.parse_args()
    path = arguments.folder / f"log-{arguments.rows}.jsonl"
    if not path.exists():
        write(path, arguments.rows)
    size = path.stat().st_size / 1e6
    print(f"{arguments.rows:,} rows, {size:,.0f} MB")
    context, means = multiprocessing.get_context("spawn"), set()
    for name in arguments.readers.split(","):
        queue = context.Queue()
        process = context.Process(target=measured, args=(name, str(path), queue))
        process.start()
        seconds, cpu, megabytes, mean = queue.get()
        process.join()
        means.add(round(mean, 6))
        speed = arguments.rows / seconds
        print(
            f"{name}: {seconds:.1f} s, {cpu:.1f} s of CPU, {speed:,.0f} rows/s, {megabytes:,.0f} MB"
        )
    assert len(means) == 1, means


if __name__ == "__main__":
    main()
