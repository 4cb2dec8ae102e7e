"""The page of benchmark results: new measurements replace old ones, all others stay."""

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """benchmarks/results.py with a folder of its own, and nothing measured of this machine."""
    spec = importlib.util.spec_from_file_location("results", ROOT / "benchmarks" / "results.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "HERE", tmp_path)
    monkeypatch.setattr(module, "bandwidth", lambda: 1e9)
    (tmp_path / "RESULTS.md").write_text(f"before\n{module.BEGIN}{module.END}after\n")
    return module


Write = Callable[..., str]


@pytest.fixture
def write(results: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write a file of measurements, run the program on it, and return the page."""

    def write(name: str, content: dict[str, Any], device: str = "one") -> str:
        (tmp_path / name).write_text(json.dumps(content))
        words = ["results.py", "--device", device, str(tmp_path / name)]
        monkeypatch.setattr(sys, "argv", words)
        results.main()
        return (tmp_path / "RESULTS.md").read_text()

    return write


def suite(seconds: dict[tuple[str, str, int, int], float], day: int = 1) -> dict[str, Any]:
    names = ("job", "strategy", "models", "queries", "us", "numpy")
    rows = [
        {"stats": {"median": s}, "extra_info": dict(zip(names, (*key, s, 1.0), strict=True))}
        for key, s in seconds.items()
    ]
    return {"datetime": f"2026-01-0{day}T00:00:00", "benchmarks": rows}


def test_new_measurements_leave_the_others(
    results: ModuleType, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = {("next_model", name, 11, 1): 0.003 for name in "abcde"}
    whole |= {("bootstrap", "with pandora", 5, 36_000): 4.0}
    part, text = {("next_model", "c", 11, 1): 0.0005}, ""
    for day, seconds in enumerate((whole, part), 1):
        monkeypatch.setattr(results, "strftime", lambda _, day=day: f"2026-01-0{day}")
        text = write("suite.json", suite(seconds, day))
    kept = json.loads((tmp_path / "measured" / "one.json").read_text())
    assert {results.key(row): row["s"] for row in kept["suite"]} == whole | part
    assert kept["date"] == "2026-01-01"
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    again = "| decision on one live query, c, K = 11 | 1 ms |  | 0.5 ms of CPU (2026-01-02) |"
    assert again in text
    assert "| decision on one live query, a, K = 11 | 1 ms |  | 3 ms of CPU |" in text
    assert "5 strategies with pandora | 5 s |  | 4.00 s |" in text


def test_devices_are_columns_and_a_dash_is_missing(write: Write) -> None:
    few, many = ("pass", "routing", 11, 10_000), ("pass", "routing", 11, 100_000)
    write("suite.json", suite({few: 1.0, many: 2.0}), "a CPU")
    large = {few: 3.0, ("large", "pandora", 11, 10_000_000): 1.25}
    text = write("suite.json", suite(large), "b GPU")
    head = "| strategy | models | 10,000, a CPU | 10,000, b GPU | 100,000, a CPU | 100,000, b GPU |"
    assert f"{head}\n| --- |{5 * ' ---: |'}\n| routing | 11 | 1 | 3 | 2 | - |" in text
    assert "| strategy | queries x models | a CPU | b GPU |" in text
    assert "| pandora | 10,000,000 x 11 | - | 1.25 |" in text
    assert "what other searches lose" not in text  # nothing was measured: no empty table


def test_memory_of_tables_of_other_sizes_stays(write: Write) -> None:
    text = ""
    for size, first in (("10,000,000 x 11", 2.0), ("2,000,000 x 11", 1.0)):
        memory = {f"routing, {size}": {"table": first, "peak": first + 0.5}}
        calls = {"routing, 11 models": [first, 0.1]}
        text = write("cold.json", {"first calls": calls, "memory": memory})
    assert "first call, routing, 11 models | 5 s | 2 s | 1.00 s" in text
    assert "routing, 10,000,000 x 11 (table 2.00 GB) | 5.00 GB | 2.50 GB | 2.50 GB" in text
    assert "routing, 2,000,000 x 11 (table 1.00 GB) | 3.00 GB | 1.50 GB | 1.50 GB" in text
