"""End to end on real data: RouterBench's sample, from its own file to AUCs."""

import itertools
from pathlib import Path

import numpy as np
import pytest

import cascjax as cj
from benchmarks.paper.published import CHOICES, LEVELS
from benchmarks.routerbench import STRATEGIES, noisy

PAGE = Path(__file__).parents[1] / "benchmarks" / "ROUTERBENCH.md"


def printed(page: Path, n_models: int, noise: str) -> np.ndarray:
    """Return the AUCs that a page prints for a choice of models and a level of noise."""
    lines = page.read_text("utf-8").splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith(f"| {n_models} ("))
    cells = lines[first + LEVELS.index(noise)].strip("| ").split("|")
    return np.array([float(cell.strip(" *")) for cell in cells[-len(STRATEGIES) :]])


def test_the_readme_prints_the_rows_of_the_page() -> None:
    for n_models, noise in itertools.product((3, 11), LEVELS):
        pages = (PAGE, PAGE.parents[1] / "README.md")
        rows = [printed(page, n_models, noise).tolist() for page in pages]
        assert rows[0] == rows[1]


@pytest.mark.slow
@pytest.mark.parametrize("noise", LEVELS)
@pytest.mark.parametrize("n_models", CHOICES)
def test_aucs_are_those_printed_and_in_the_order_of_the_theory(
    shared_data: Path, n_models: int, noise: str
) -> None:
    file = shared_data / "routerbench-sample.parquet"
    study = noisy(cj.import_routerbench(file, invalid="drop").table, n_models, noise)
    auc = {frontier.strategy: frontier.auc for frontier in study.frontiers}
    # Half a digit of what is printed, and as much for another processor.
    np.testing.assert_allclose(list(auc.values()), printed(PAGE, n_models, noise), atol=1e-4)
    assert auc["mixing"] < auc["routing"] < auc["cascade-routing"] < auc["oracle"]
    # Pandora is optimal for independent estimates; estimates of real models are correlated.
    assert auc["pandora"] > auc["cascade-routing"] - 0.005
    assert auc["cascading"] < auc["cascade-routing"] + 0.001
