"""Every notebook runs from a clean state and is kept with its outputs; failures are noticed."""

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
"""Largest size of a notebook in bytes: its pictures stay in the history."""

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
LONG = ("estimators", "paper", "policy", "strategy")
"""Notebooks of the slow tier; the fast tier runs the first only."""


def run(notebook: NotebookNode, folder: Path) -> None:
    """Run all cells in a fresh kernel, in this folder."""
    resources = {"metadata": {"path": str(folder)}}
    # Other tests running at the same time can slow a kernel many times.
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources).execute()


def printed(notebook: NotebookNode) -> list[str]:
    """Return the text of each code cell's outputs, without tables of wall times."""

    def text(output: NotebookNode) -> str:
        shown = output.get("text") or output.get("data", {}).get("text/plain", "")
        return "" if "seconds\n" in shown else shown

    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return ["".join(map(text, cell.outputs)) for cell in code]


def numbers_that_moved(before: list[str], after: list[str]) -> float:
    """Return the share of numbers that differ by more than 2% and 0.01; 1 if counts differ."""
    number = re.compile(r"-?\d+(?:\.\d+)?")
    old, new = (
        [float(x) for text in texts for x in number.findall(text)] for texts in (before, after)
    )
    if len(old) != len(new):
        return 1.0
    return float(np.mean(~np.isclose(new, old, rtol=0.02, atol=0.01)))


def test_changed_numbers_are_noticed() -> None:
    assert numbers_that_moved(["AUC 0.81 [0.80, 0.82]"], ["AUC 0.815 [0.80, 0.82]"]) == 0
    assert numbers_that_moved(["AUC 0.81 [0.80, 0.82]"], ["AUC 0.91 [0.90, 0.92]"]) == 1
    assert numbers_that_moved(["1 2 3 4"], ["1 2 3 5"]) == 0.25
    assert numbers_that_moved(["1 2"], ["1"]) == 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # from the Jupyter client
@pytest.mark.parametrize(
    "path",
    [pytest.param(p, marks=[pytest.mark.slow] * (p.stem in LONG)) for p in NOTEBOOKS],
    ids=lambda path: path.stem,
)
def test_a_notebook_runs_from_clean(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XLA_FLAGS", raising=False)  # compiled as for a user
    notebook = nbformat.read(path, as_version=4)
    kept = printed(notebook)
    for cell in notebook.cells:
        assert "raises-exception" not in cell.metadata.get("tags", []), "a failure would be hidden"
    run(notebook, tmp_path)
    assert not list(tmp_path.iterdir()), "a notebook leaves nothing behind"
    # Times differ, and so may results of rounding; a changed result shows in many numbers.
    assert numbers_that_moved(kept, printed(notebook)) < 0.1, "run and save the notebook again"


@each_notebook
def test_a_notebook_is_kept_with_its_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    again = f"run and save it: .venv/bin/jupyter execute --inplace notebooks/{path.name}"
    # From the first cell to the last, each once.
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1)), again
    outputs = [output for cell in code for output in cell.outputs]
    assert all(o.output_type != "error" and o.get("name") != "stderr" for o in outputs), again
    assert any("image/png" in o.get("data", {}) for o in outputs), again
    assert path.stat().st_size <= LARGEST, "make its pictures smaller"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_notebook_that_fails_is_noticed(tmp_path: Path) -> None:
    cells = [nbformat.v4.new_code_cell(source) for source in ("a = 1", "assert a == 2")]
    with pytest.raises(CellExecutionError, match="AssertionError"):
        run(nbformat.v4.new_notebook(cells=cells), tmp_path)


def test_the_readme_links_every_notebook() -> None:
    readme = (FOLDER.parent / "README.md").read_text(encoding="utf-8")
    assert len(NOTEBOOKS) == 5
    for path in NOTEBOOKS:
        assert f"(notebooks/{path.name})" in readme
