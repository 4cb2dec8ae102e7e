"""Turns what was measured into the tables of RESULTS.md.

    python benchmarks/bench.py    # measures, and calls this
    python benchmarks/reference.py --reference PATH --json reference.json    # the paper's code
    python benchmarks/results.py --device "2 cores" reference.json

Numbers are kept in measured/ by device, so that a run on another one, a GPU for instance, adds its
columns beside the others and leaves those as they are.
"""

import argparse
import json
import os
import platform
from importlib.metadata import version
from pathlib import Path
from time import perf_counter, strftime
from typing import Any

import jax
import numpy as np

HERE = Path(__file__).parent
HEADER = ("date", "cores", "backend", "machine", "python", "versions", "bandwidth")
"""What is said of the machine, and of the day."""

LARGE = (
    ("cascade-routing", 11, 1_000_000),
    ("routing", 11, 10_000_000),
    ("pandora", 11, 10_000_000),
)
"""Strategies, numbers of models and of queries that accelerators alone are asked for."""

BEGIN, END = "<!-- tables: made by results.py -->\n", "<!-- end of tables -->\n"


def measured(files: list[Path], device: str) -> dict[str, Any]:
    """All that the files hold, and what it was measured on."""
    found: dict[str, Any] = {
        "device": device,
        "date": strftime("%Y-%m-%d"),
        "cores": os.cpu_count(),
        "backend": jax.devices()[0].device_kind,
        "machine": platform.machine(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("jax", "jaxlib", "numpy", "pyarrow")},
        "bandwidth": bandwidth(),
    }
    for file in files:
        content = json.loads(file.read_text())
        if "benchmarks" in content:
            rows = [
                one["extra_info"] | {"s": one["stats"]["median"], "date": content["datetime"][:10]}
                for one in content["benchmarks"]
            ]
            found["suite"] = merged(found.get("suite", []), rows)
        else:
            found["cold" if "first calls" in content else "reference"] = content
    return found


def this_device() -> str:
    """A name for it: the kind of accelerator and how many, or how many cores."""
    devices = jax.local_devices()
    if devices[0].platform == "cpu":
        return f"{os.cpu_count()} cores"
    several = f"{len(devices)} x " if len(devices) > 1 else ""
    return several + devices[0].device_kind


def merged(before: list[dict[str, Any]], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of the suite, those measured again in place of what they were; the others stay."""
    found = {key_of(row): row for row in before}
    return list((found | {key_of(row): row for row in rows}).values())


def key_of(row: dict[str, Any]) -> tuple[Any, ...]:
    """What tells a row of the suite from others."""
    return tuple(row.get(name) for name in ("job", "strategy", "models", "queries"))


def day(row: dict[str, Any], one: dict[str, Any]) -> str:
    """The day of a row measured on another than the rest."""
    date = row.get("date", one["date"])
    return "" if date == one["date"] else f" ({date})"


def bandwidth() -> float:
    """Bytes a second that one core reads, from the maximum of 512 MB; median of nine."""
    ones, times = np.ones(1 << 27, np.float32), []
    for _ in range(9):
        start = perf_counter()
        ones.max()
        times.append(perf_counter() - start)
    return ones.nbytes / float(np.median(times))


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table, the first column to the left."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, rule, *rows)) + "\n"


def number(x: float | None) -> str:
    """Three digits, or a dash where nothing was measured."""
    if x is None:
        return "-"
    return f"{x:,.0f}" if abs(x) >= 100 else f"{x:.3g}"


def cells(suites: list[dict[str, Any]], job: str, value: str) -> dict[tuple[str, int, int], list]:
    """One value of every cell of a job, device by device."""
    found: dict[tuple[str, int, int], list] = {}
    for place, one in enumerate(suites):
        for row in one.get("suite", []):
            if row.get("job") == job:
                key = (row["strategy"], row["models"], row["queries"])
                found.setdefault(key, [None] * len(suites))[place] = row[value]
    return found


def by_size(suites: list[dict[str, Any]], job: str, value: str, times: float = 1) -> str:
    """A row a strategy and number of models; a column a number of queries and, beside it, device.

    Values are multiplied by `times`, for their unit.
    """
    found = cells(suites, job, value)
    sizes = sorted({n for _, _, n in found})
    head = ["strategy", "models"]
    head += [f"{n:,}, {one['device']}" for n in sizes for one in suites]
    rows = []
    for strategy, k in sorted({(s, k) for s, k, _ in found}):
        at = [found.get((strategy, k, n), [None] * len(suites)) for n in sizes]
        values = [number(None if v is None else v * times) for a in at for v in a]
        rows.append([strategy, str(k), *values])
    return table(head, rows)


def asked(one: dict[str, Any]) -> str:
    """What the project asks of itself beside what was measured on one device."""
    suite = {key_of(row): row for row in one.get("suite", [])}
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
            rows.append([job, "5 s", "", f"{row['s']:.2f} s{day(row, one)}"])
    decided = [(key, row) for key, row in suite.items() if key[0] == "next_model"]
    for (_, name, k, _), row in sorted(decided, key=lambda item: item[0][1:3]):
        if k == 11:
            job = f"one live query decided, {name}, K = {k}"
            rows.append([job, "1 ms", "", f"{1e3 * row['s']:.3g} ms of CPU{day(row, one)}"])
    bars = {5: ("2,000x", "5,000x"), 11: ("500x", "5,000x")}
    for row in one.get("reference", {}).get("rows", []):
        if row["strategy"] == "cascade-routing" and row["n_models"] in bars:
            job = f"cascade-routing, K = {row['n_models']}, against the paper's code"
            rows.append([job, *bars[row["n_models"]], f"{number(row['ratio'])}x"])
    cold = one.get("cold", {})
    for job, (first, second) in cold.get("first calls", {}).items():
        rows.append([f"first call, {job}", "5 s", "2 s", f"{first:.2f} s"])
        rows.append([f"the same in a second process, {job}", "", "0.5 s", f"{second:.2f} s"])
    for job, use in cold.get("memory", {}).items():
        size = use["table"]
        rows.append(
            [f"peak memory, {job} (table {size:.2f} GB)",
             f"{2 * size + 1:.2f} GB", f"{size + 0.5:.2f} GB", f"{use['peak']:.2f} GB"]
        )  # fmt: skip
    return table(["job", "at least", "goal", "measured"], rows)


def shares(one: dict[str, Any]) -> str:
    """How much of the memory's bandwidth a pass takes that has to read each matrix once."""
    reads = {"routing": 4, "thresholding": 3, "pandora": 6}
    rows = []
    for row in one.get("suite", []):
        name = row.get("strategy")
        if row.get("job") == "pass" and name in reads and row["queries"] == 1_000_000:
            gigabytes = reads[name] * 4 * row["models"] * row["queries"] / row["s"] / 1e9
            share = f"{gigabytes * 1e9 / one['bandwidth']:.1%}"
            rows.append([name, str(row["models"]), number(gigabytes), share])
    return table(["strategy", "models", "GB/s", "share"], rows)


def large(suites: list[dict[str, Any]]) -> str:
    """A row a strategy and size, a column a device."""
    found = cells(suites, "large", "s")
    sizes = found or dict.fromkeys(LARGE, [None] * len(suites))
    rows = [[name, f"{n:,} x {k}", *map(number, of)] for (name, k, n), of in sizes.items()]
    return table(["strategy", "queries x models", *(one["device"] for one in suites)], rows)


def growth(one: dict[str, Any]) -> str:
    """Exponents of time in the number of queries and of models, of a pass of 64 settings."""
    found = {key: v[0] for key, v in cells([one], "pass", "s").items()}
    rows = []
    for name in dict.fromkeys(s for s, _, _ in found):
        mine = {(k, n): s for (strategy, k, n), s in found.items() if strategy == name}
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


def searches(one: dict[str, Any]) -> str:
    """Mean quality lost where not every set is looked at."""
    found = cells([one], "search", "fitted")
    sizes = sorted({k for _, k, _ in found})
    rows = []
    for name in dict.fromkeys(s for s, _, _ in found):
        exact = [found["exact", k, 2_000][0] for k in sizes]
        mine = [found[name, k, 2_000][0] for k in sizes]
        gaps = [f"{b - a:+.4f}" for a, b in zip(exact, mine, strict=True)]
        rows.append([name, *(gaps if name != "exact" else [f"{e:.4f}" for e in exact])])
    return table(["search", *(f"{k} models" for k in sizes)], rows)


def page(all_: list[dict[str, Any]]) -> str:
    """All tables."""
    parts = []
    for one in all_:
        versions = ", ".join(f"{name} {v}" for name, v in one["versions"].items())
        parts.append(
            f"## {one['date']}, {one['device']}\n\n{one['backend']}, {one['machine']},"
            f" {one['cores']} cores, Python {one['python']}, {versions}. One core reads memory at"
            f" {one['bandwidth'] / 1e9:.1f} GB/s.\n\n{asked(one)}"
        )
        if rows := one.get("reference", {}).get("rows"):
            head = ["strategy", "models", "the paper's code", "ours", "ratio", "per core", "alike"]
            body = [
                [r["strategy"], str(r["n_models"]), number(r["reference_us"]), number(r["ours_us"]),
                 f"{r['ratio']:,.0f}", f"{r['ratio_per_core']:,.0f}", f"{r['alike']:.1%}"]
                for r in rows
            ]  # fmt: skip
            parts.append(f"Microseconds a query and price, side by side:\n\n{table(head, body)}")
    parts.append(
        "A dash is what was not measured: where a round would take more than 2.5 s, or no time\n"
        "was left of what a run may take.\n\n"
        "## Microseconds a query and setting, 64 settings\n\n" + by_size(all_, "pass", "us")
    )
    parts.append("## The largest, 64 settings, seconds; on accelerators alone\n\n" + large(all_))
    parts.append("## The same in NumPy passes\n\n" + by_size(all_, "pass", "numpy"))
    parts.append("## A frontier of 100 budgets, seconds\n\n" + by_size(all_, "frontier", "s"))
    parts.append("## The same in NumPy passes\n\n" + by_size(all_, "frontier", "numpy"))
    if cells(all_, "learned", "s"):
        parts.append(
            "## A frontier of 100 budgets, estimates by themselves and under every run set, seconds"
            "\n\n" + by_size(all_, "learned", "s")
        )
    parts.append(
        "## One live query decided, from quality numbers to the next model, CPU milliseconds\n\n"
        + by_size(all_, "next_model", "s", 1e3)
    )
    for title, job, of in (
        ("Growth: time goes as queries and as models to the power of", "pass", growth),
        ("Share of one core's memory bandwidth, 64 settings", "pass", shares),
        (
            "Mean quality on the fitted queries, 10 budgets, and what other searches lose",
            "search",
            searches,
        ),
    ):
        for one in [one for one in all_ if cells([one], job, "s")]:
            parts.append(f"## {title} ({one['device']})\n\n{of(one)}")
    return "\n".join(parts)


def main() -> None:
    """Keeps the numbers, and writes the tables again."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", help="a name for the machine, for instance '2 cores'")
    parser.add_argument("files", type=Path, nargs="*", help="JSON of the suite and the scripts")
    given = parser.parse_args()
    kept = HERE / "measured"
    if given.files:
        kept.mkdir(exist_ok=True)
        found = measured(given.files, given.device or this_device())
        name = found["device"].replace(" ", "-")
        file = kept / f"{name}.json"
        before = json.loads(file.read_text()) if file.exists() else {}
        # What is not measured again stays: with the machine as it was, where that is most of it.
        if "suite" in found:
            new = found["suite"]
            found["suite"] = merged(before.get("suite", []), new)
            if before and 2 * len(new) < len(found["suite"]):
                found = {name: of for name, of in found.items() if name not in HEADER}
        if "cold" in found and "cold" in before:
            cold = before["cold"]["memory"] | found["cold"]["memory"]
            found["cold"] = found["cold"] | {"memory": cold}
        file.write_text(json.dumps(before | found, indent=1) + "\n")
    all_ = [json.loads(file.read_text()) for file in sorted(kept.glob("*.json"))]
    results = HERE / "RESULTS.md"
    text = results.read_text()
    before, after = text[: text.index(BEGIN) + len(BEGIN)], text[text.index(END) :]
    results.write_text(f"{before}\n{page(all_)}\n{after}")


if __name__ == "__main__":
    main()
