"""Numbers measured anew take the place of what they were; all others stay."""

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
