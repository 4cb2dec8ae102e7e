"""Write the tables of RESULTS.md from measurements.

    python benchmarks/bench.py    # measures, and calls this
    python benchmarks/reference.py --reference PATH --json reference.json    # the paper's code
    python benchmarks/results.py --device "2 cores" reference.json

Numbers are kept in measured/ by device, so a run on another device adds columns to the tables and
leaves the other columns unchanged.
"""

import argparse
import json
import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from time import perf_counter, strftime
from typing import Any

import jax
import numpy as np

HERE = Path(__file__).parent
HEADER = ("date", "cores", "backend", "machine", "python", "versions", "bandwidth")
"""Entries about the machine and the date."""

LARGE = (
    ("cascade-routing", 11, 1_000_000),
    ("routing", 11, 10_000_000),
    ("pandora", 11, 10_000_000),
)
"""Strategies, numbers of models and of queries that are measured on accelerators only."""

BEGIN, END = "<!-- tables: made by results.py -->\n", "<!-- end of tables -->\n"


def machine(device: str, packages: Sequence[str]) -> dict[str, Any]:
    """Return the date, the machine, and the versions of Python and of packages."""
    return {
        "device": device,
        "date": strftime("%Y-%m-%d"),
        "cores": os.cpu_count(),
        "backend": jax.devices()[0].device_kind,
        "machine": platform.machine(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
    }


def headline(kept: dict[str, Any]) -> str:
    """Return the title of a device's tables, and a sentence about the machine."""
    versions = ", ".join(f"{name} {v}" for name, v in kept["versions"].items())
    return (
        f"## {kept['date']}, {kept['device']}\n\n{kept['backend']}, {kept['machine']},"
        f" {kept['cores']} cores, Python {kept['python']}, {versions}."
    )


def replace_tables(file: Path, begin: str, end: str, tables: str) -> None:
    """Replace everything between two marks of a page."""
    text = file.read_text()
    before, after = text[: text.index(begin) + len(begin)], text[text.index(end) :]
    file.write_text(f"{before}\n{tables}\n{after}")


def measured(files: list[Path], device: str) -> dict[str, Any]:
    """Return the content of the files, and the machine."""
    numbers: dict[str, Any] = machine(device, ("jax", "jaxlib", "numpy", "pyarrow")) | {
        "bandwidth": bandwidth()
    }
    for file in files:
        content = json.loads(file.read_text())
        if "benchmarks" in content:
            rows = [
                row["extra_info"] | {"s": row["stats"]["median"], "date": content["datetime"][:10]}
                for row in content["benchmarks"]
            ]
            numbers["suite"] = merged(numbers.get("suite", []), rows)
        else:
            numbers["cold" if "first calls" in content else "reference"] = content
    return numbers


def this_device() -> str:
    """Return a name of the device: number and kind of accelerators, or number of cores."""
    devices = jax.local_devices()
    if devices[0].platform == "cpu":
        return f"{os.cpu_count()} cores"
    several = f"{len(devices)} x " if len(devices) > 1 else ""
    return several + devices[0].device_kind


def merged(before: list[dict[str, Any]], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of the suite, replaced by those that were measured again."""
    return list({key(row): row for row in [*before, *rows]}.values())


def key(row: dict[str, Any]) -> tuple[Any, ...]:
    """Return what identifies a row of the suite."""
    return tuple(row.get(name) for name in ("job", "strategy", "models", "queries"))


def day(row: dict[str, Any], device: dict[str, Any]) -> str:
    """Return the date of a row that was measured on another day than the rest."""
    date = row.get("date", device["date"])
    return "" if date == device["date"] else f" ({date})"


def bandwidth() -> float:
    """Return the bytes per second that one core reads, from the maximum of 512 MB."""
    ones, times = np.ones(1 << 27, np.float32), []
    for _ in range(9):
        start = perf_counter()
        ones.max()
        times.append(perf_counter() - start)
    return ones.nbytes / float(np.median(times))


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table, the first column left-aligned."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, rule, *rows)) + "\n"


def number(x: float | None) -> str:
    """Return three digits, or a dash if nothing was measured."""
    if x is None:
        return "-"
    return f"{x:,.0f}" if abs(x) >= 100 else f"{x:.3g}"


def cells(suites: list[dict[str, Any]], job: str, value: str) -> dict[tuple[str, int, int], list]:
    """Return one value of every cell of a job, device by device."""
    values: dict[tuple[str, int, int], list] = {}
    for place, device in enumerate(suites):
        for row in device.get("suite", []):
            if row.get("job") == job:
                cell = (row["strategy"], row["models"], row["queries"])
                values.setdefault(cell, [None] * len(suites))[place] = row[value]
    return values


def by_size(suites: list[dict[str, Any]], job: str, value: str, times: float = 1) -> str:
    """Return a table with rows by strategy and models, and columns by queries and device.

    Values are multiplied by `times`, for their unit.
    """
    by_cell = cells(suites, job, value)
    sizes = sorted({n for _, _, n in by_cell})
    head = ["strategy", "models"]
    head += [f"{n:,}, {device['device']}" for n in sizes for device in suites]
    rows = []
    for strategy, k in sorted({(s, k) for s, k, _ in by_cell}):
        at = [by_cell.get((strategy, k, n), [None] * len(suites)) for n in sizes]
        values = [number(None if v is None else v * times) for a in at for v in a]
        rows.append([strategy, str(k), *values])
    return table(head, rows)


def goals(device: dict[str, Any]) -> str:
    """Return the table of goals and measurements on one device."""
    suite = {key(row): row for row in device.get("suite", [])}
    rows: list[list[str]] = []
    most = 1_000_000
    row = suite.get(("frontier", "routing", 11, most))
    passes = f"{number(row['numpy'])} passes ({row['s']:.2f} s)" if row else "not measured"
    rows.append(["routing frontier, 100 budgets, 1M x 11", "15 NumPy passes", "5", passes])
    pandora = suite.get(("pass", "pandora", 11, most))
    if pandora and (grid := suite.get(("pass", "routing, as a grid", 11, most))):
        ratio = (
            f"{number(pandora['s'] / grid['s'])}x ({pandora['s']:.2f} s, grid {grid['s']:.2f} s)"
        )
        rows.append(["pandora, 64 lambdas, 1M x 11, against routing's grid", "4x", "2x", ratio])
    for name in ("with pandora", "with cascade-routing"):
        if row := suite.get(("bootstrap", name, 5, 36_000)):
            job = f"1,000 resamples of 36,000 x 5, 40 budgets, 5 strategies {name}"
            rows.append([job, "5 s", "", f"{row['s']:.2f} s{day(row, device)}"])
    decided = [(key, row) for key, row in suite.items() if key[0] == "next_model"]
    for (_, name, k, _), row in sorted(decided, key=lambda item: item[0][1:3]):
        if k == 11:
            job = f"decision on one live query, {name}, K = {k}"
            rows.append([job, "1 ms", "", f"{1e3 * row['s']:.3g} ms of CPU{day(row, device)}"])
    limits = {5: ("2,000x", "5,000x"), 11: ("500x", "5,000x")}
    for row in device.get("reference", {}).get("rows", []):
        if row["strategy"] == "cascade-routing" and row["n_models"] in limits:
            job = f"cascade-routing, K = {row['n_models']}, against the paper's code"
            rows.append([job, *limits[row["n_models"]], f"{number(row['ratio'])}x"])
    cold = device.get("cold", {})
    for job, (first, second) in cold.get("first calls", {}).items():
        rows.append([f"first call, {job}", "5 s", "2 s", f"{first:.2f} s"])
        rows.append([f"first call in a second process, {job}", "", "0.5 s", f"{second:.2f} s"])
    for job, use in cold.get("memory", {}).items():
        size = use["table"]
        rows.append(
            [f"peak memory, {job} (table {size:.2f} GB)",
             f"{2 * size + 1:.2f} GB", f"{size + 0.5:.2f} GB", f"{use['peak']:.2f} GB"]
        )  # fmt: skip
    return table(["job", "at least", "goal", "measured"], rows)


def shares(device: dict[str, Any]) -> str:
    """Return the share of the memory bandwidth of a pass, if it reads each matrix once."""
    reads = {"routing": 4, "thresholding": 3, "pandora": 6}
    rows = []
    for row in device.get("suite", []):
        name = row.get("strategy")
        if row.get("job") == "pass" and name in reads and row["queries"] == 1_000_000:
            gigabytes = reads[name] * 4 * row["models"] * row["queries"] / row["s"] / 1e9
            share = f"{gigabytes * 1e9 / device['bandwidth']:.1%}"
            rows.append([name, str(row["models"]), number(gigabytes), share])
    return table(["strategy", "models", "GB/s", "share"], rows)


def large(suites: list[dict[str, Any]]) -> str:
    """Return a table with one row per strategy and size, and one column per device."""
    sizes = cells(suites, "large", "s") or dict.fromkeys(LARGE, [None] * len(suites))
    rows = [[name, f"{n:,} x {k}", *map(number, s)] for (name, k, n), s in sizes.items()]
    return table(["strategy", "queries x models", *(device["device"] for device in suites)], rows)


def growth(device: dict[str, Any]) -> str:
    """Return the exponents of time in the numbers of queries and models, for 64 settings."""
    times = {cell: v[0] for cell, v in cells([device], "pass", "s").items()}
    rows = []
    for name in dict.fromkeys(s for s, _, _ in times):
        mine = {(k, n): s for (strategy, k, n), s in times.items() if strategy == name}
        exponents = []
        for axis in (1, 0):
            steps = [
                np.log(mine[b] / mine[a]) / np.log(b[axis] / a[axis])
                for a in mine
                for b in mine
                if b[axis] > a[axis] and a[1 - axis] == b[1 - axis]
            ]
            exponents.append(f"{np.median(steps):.2f}" if steps else "")
        rows.append([name, *exponents])
    return table(["strategy", "queries", "models"], rows)


def searches(device: dict[str, Any]) -> str:
    """Return the mean quality that each search loses by not looking at every set."""
    fitted = cells([device], "search", "fitted")
    sizes = sorted({k for _, k, _ in fitted})
    rows = []
    for name in dict.fromkeys(s for s, _, _ in fitted):
        exact = [fitted["exact", k, 2_000][0] for k in sizes]
        mine = [fitted[name, k, 2_000][0] for k in sizes]
        gaps = [f"{b - a:+.4f}" for a, b in zip(exact, mine, strict=True)]
        rows.append([name, *(gaps if name != "exact" else [f"{e:.4f}" for e in exact])])
    return table(["search", *(f"{k} models" for k in sizes)], rows)


def page(devices: list[dict[str, Any]]) -> str:
    """Return all tables."""
    parts = []
    for device in devices:
        speed = f"One core reads memory at {device['bandwidth'] / 1e9:.1f} GB/s."
        parts.append(f"{headline(device)} {speed}\n\n{goals(device)}")
        if rows := device.get("reference", {}).get("rows"):
            head = [
                "strategy",
                "models",
                "the paper's code",
                "ours",
                "ratio",
                "per core",
                "same choice",
            ]
            body = [
                [r["strategy"], str(r["n_models"]), number(r["reference_us"]), number(r["ours_us"]),
                 f"{r['ratio']:,.0f}", f"{r['ratio_per_core']:,.0f}", f"{r['alike']:.1%}"]
                for r in rows
            ]  # fmt: skip
            parts.append(f"Microseconds per query and price:\n\n{table(head, body)}")
    parts.append(
        "A dash: not measured, because a round would take more than 2.5 s, or the time of the run\n"
        "was over.\n\n"
        "## Microseconds per query and setting, 64 settings\n\n" + by_size(devices, "pass", "us")
    )
    parts.append(
        "## The largest tables, 64 settings, seconds; on accelerators only\n\n" + large(devices)
    )
    parts.append("## 64 settings in NumPy passes\n\n" + by_size(devices, "pass", "numpy"))
    parts.append("## A frontier of 100 budgets, seconds\n\n" + by_size(devices, "frontier", "s"))
    parts.append("## A frontier in NumPy passes\n\n" + by_size(devices, "frontier", "numpy"))
    if cells(devices, "learned", "s"):
        parts.append(
            "## A frontier of 100 budgets, independent estimates and one per run set, seconds"
            "\n\n" + by_size(devices, "learned", "s")
        )
    parts.append(
        "## Decision on one live query, from estimates to the next model, CPU milliseconds\n\n"
        + by_size(devices, "next_model", "s", 1e3)
    )
    for title, job, tables in (
        ("Growth: exponents of time in queries and in models", "pass", growth),
        ("Share of one core's memory bandwidth, 64 settings", "pass", shares),
        (
            "Mean quality on the fit queries, 10 budgets, and the loss of other searches",
            "search",
            searches,
        ),
    ):
        for device in [device for device in devices if cells([device], job, "s")]:
            parts.append(f"## {title} ({device['device']})\n\n{tables(device)}")
    return "\n".join(parts)


def main() -> None:
    """Store the numbers, and rewrite the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", help="name of the machine, for example '2 cores'")
    parser.add_argument("files", type=Path, nargs="*", help="JSON of the suite and the scripts")
    asked = parser.parse_args()
    kept = HERE / "measured"
    if asked.files:
        kept.mkdir(exist_ok=True)
        numbers = measured(asked.files, asked.device or this_device())
        name = numbers["device"].replace(" ", "-")
        file = kept / f"{name}.json"
        before = json.loads(file.read_text()) if file.exists() else {}
        # Other rows are kept, and so is the machine if most rows are kept.
        if "suite" in numbers:
            new = numbers["suite"]
            numbers["suite"] = merged(before.get("suite", []), new)
            if before and 2 * len(new) < len(numbers["suite"]):
                numbers = {name: value for name, value in numbers.items() if name not in HEADER}
        if "cold" in numbers and "cold" in before:
            cold = before["cold"]["memory"] | numbers["cold"]["memory"]
            numbers["cold"] = numbers["cold"] | {"memory": cold}
        file.write_text(json.dumps(before | numbers, indent=1) + "\n")
    devices = [json.loads(file.read_text()) for file in sorted(kept.glob("*.json"))]
    replace_tables(HERE / "RESULTS.md", BEGIN, END, page(devices))


if __name__ == "__main__":
    main()
