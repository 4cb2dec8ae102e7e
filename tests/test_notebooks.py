"""Every notebook runs from clean and is kept with its pictures; one that fails is noticed."""

import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))

LARGEST = 256_000
"""Bytes of a notebook at most: its pictures are in the history for ever."""

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
LONG = ("estimators", "paper", "policy", "strategy")
"""All but the first, which shows in the fast tier that notebooks run: in the slow tier."""


def run(notebook: NotebookNode, folder: Path) -> None:
    """Runs all cells in a fresh kernel that finds nothing in its folder."""
    resources = {"metadata": {"path": str(folder)}}
    # A kernel that other tests compete with may take many times what it takes alone.
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources).execute()


def printed(notebook: NotebookNode) -> list[str]:
    """What each code cell prints."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return ["".join(output.get("text", "") for output in cell.outputs) for cell in code]


def numbers_that_moved(before: list[str], after: list[str]) -> float:
    """The share of printed numbers off by more than 2% and 0.01; 1 where they are not as many."""
    number = re.compile(r"-?\d+(?:\.\d+)?")
    old, new = ([float(x) for text in of for x in number.findall(text)] for of in (before, after))
    if len(old) != len(new):
        return 1.0
    return float(np.mean(~np.isclose(new, old, rtol=0.02, atol=0.01)))


def test_numbers_of_another_run_are_noticed() -> None:
    assert numbers_that_moved(["AUC 0.81 [0.80, 0.82]"], ["AUC 0.815 [0.80, 0.82]"]) == 0
    assert numbers_that_moved(["AUC 0.81 [0.80, 0.82]"], ["AUC 0.91 [0.90, 0.92]"]) == 1
    assert numbers_that_moved(["1 2 3 4"], ["1 2 3 5"]) == 0.25
    assert numbers_that_moved(["1 2"], ["1"]) == 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the Jupyter client, not ours
@pytest.mark.parametrize(
    "path",
    [pytest.param(p, marks=[pytest.mark.slow] * (p.stem in LONG)) for p in NOTEBOOKS],
    ids=lambda path: path.stem,
)
def test_a_notebook_runs_from_clean(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XLA_FLAGS", raising=False)  # compiled as for a user: it runs for long
    notebook = nbformat.read(path, as_version=4)
    kept = printed(notebook)
    for cell in notebook.cells:
        assert "raises-exception" not in cell.metadata.get("tags", []), "a failure would be hidden"
    run(notebook, tmp_path)
    assert not list(tmp_path.iterdir()), "a notebook leaves nothing behind"
    # Times differ, and what rounding decides may; a result that changed shows in many numbers.
    assert numbers_that_moved(kept, printed(notebook)) < 0.1, "its numbers are of an older cascjax"


@each_notebook
def test_a_notebook_is_kept_as_it_ran(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    again = f"run it and save it: .venv/bin/jupyter execute --inplace notebooks/{path.name}"
    # From the first cell to the last, each once.
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1)), again
    outputs = [output for cell in code for output in cell.outputs]
    assert all(o.output_type != "error" and o.get("name") != "stderr" for o in outputs), again
    assert any("image/png" in o.get("data", {}) for o in outputs), again
    assert path.stat().st_size <= LARGEST, "draw its pictures smaller"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_notebook_that_fails_is_noticed(tmp_path: Path) -> None:
    cells = [nbformat.v4.new_code_cell(source) for source in ("a = 1", "assert a == 2")]
    with pytest.raises(CellExecutionError, match="AssertionError"):
        run(nbformat.v4.new_notebook(cells=cells), tmp_path)


def test_the_readme_points_at_every_notebook() -> None:
    readme = (FOLDER.parent / "README.md").read_text(encoding="utf-8")
    assert len(NOTEBOOKS) == 5
    for path in NOTEBOOKS:
        assert f"(notebooks/{path.name})" in readme
