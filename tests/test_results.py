"""Numbers measured again take the place of what they were; all others stay."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

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


def measured(path: Path, day: str, seconds: dict[tuple[str, str, int, int], float]) -> None:
    rows = [
        {
            "stats": {"median": s},
            "extra_info": {"job": job, "strategy": name, "models": k, "queries": n},
        }
        for (job, name, k, n), s in seconds.items()
    ]
    path.write_text(json.dumps({"datetime": f"{day}T00:00:00", "benchmarks": rows}))


def test_a_part_measured_anew_leaves_the_rest(
    results: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = {("next_model", name, 11, 1): 0.003 for name in "abcde"}
    whole |= {("bootstrap", "with pandora", 5, 36_000): 4.0}
    part = {("next_model", "c", 11, 1): 0.0005}
    for number, of in enumerate((whole, part)):
        measured(tmp_path / "suite.json", f"2026-01-0{number + 1}", of)
        monkeypatch.setattr(results, "strftime", lambda of, n=number: f"2026-01-0{n + 1}")
        words = ["results.py", "--device", "one", str(tmp_path / "suite.json")]
        monkeypatch.setattr(sys, "argv", words)
        results.main()
    kept = json.loads((tmp_path / "measured" / "one.json").read_text())
    assert {results.key_of(row): row["s"] for row in kept["suite"]} == whole | part
    assert kept["date"] == "2026-01-01"
    text = (tmp_path / "RESULTS.md").read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "| one live query decided, c, K = 11 | 1 ms |  | 0.5 ms of CPU (2026-01-02) |" in text
    assert "| one live query decided, a, K = 11 | 1 ms |  | 3 ms of CPU |" in text
    assert "5 strategies with pandora | 5 s |  | 4.00 s |" in text


def test_devices_stand_side_by_side_and_a_dash_is_what_is_missing(
    results: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few, many = ("pass", "routing", 11, 10_000), ("pass", "routing", 11, 100_000)
    suites = {"a CPU": {few: 1.0, many: 2.0}, "b GPU": {few: 3.0}}
    suites["b GPU"] |= {("large", "pandora", 11, 10_000_000): 1.25}
    for device, seconds in suites.items():
        measured(tmp_path / "suite.json", "2026-01-01", seconds)
        content = json.loads((tmp_path / "suite.json").read_text())
        for row in content["benchmarks"]:
            row["extra_info"] |= {"us": row["stats"]["median"], "numpy": 1.0}
        (tmp_path / "suite.json").write_text(json.dumps(content))
        words = ["results.py", "--device", device, str(tmp_path / "suite.json")]
        monkeypatch.setattr(sys, "argv", words)
        results.main()
    text = (tmp_path / "RESULTS.md").read_text()
    head = "| strategy | models | 10,000, a CPU | 10,000, b GPU | 100,000, a CPU | 100,000, b GPU |"
    assert f"{head}\n| --- |{5 * ' ---: |'}\n| routing | 11 | 1 | 3 | 2 | - |" in text
    assert "| strategy | queries x models | a CPU | b GPU |" in text
    assert "| pandora | 10,000,000 x 11 | - | 1.25 |" in text
    # Nothing was searched on either: no empty table.
    assert "what other searches lose" not in text


def test_memory_of_tables_of_other_sizes_stays(
    results: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for size, first in (("10,000,000 x 11", 2.0), ("2,000,000 x 11", 1.0)):
        memory = {f"routing, {size}": {"table": first, "peak": first + 0.5}}
        content = {"first calls": {"routing, 11 models": [first, 0.1]}, "memory": memory}
        (tmp_path / "cold.json").write_text(json.dumps(content))
        words = ["results.py", "--device", "one", str(tmp_path / "cold.json")]
        monkeypatch.setattr(sys, "argv", words)
        results.main()
    text = (tmp_path / "RESULTS.md").read_text()
    assert "first call, routing, 11 models | 5 s | 2 s | 1.00 s" in text
    assert "routing, 10,000,000 x 11 (table 2.00 GB) | 5.00 GB | 2.50 GB | 2.50 GB" in text
    assert "routing, 2,000,000 x 11 (table 1.00 GB) | 3.00 GB | 1.50 GB | 1.50 GB" in text
