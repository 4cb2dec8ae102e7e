"""The whole way on real data: RouterBench's sample, from its own file to AUCs."""

from pathlib import Path

import pytest

import cascjax
from cascjax.data import from_arrow

# The paper's subsets, by position among the score columns.
SUBSETS = {3: (9, 4, 5), 5: (0, 9, 4, 3, 5), 11: tuple(range(11))}


@pytest.mark.slow
@pytest.mark.parametrize("noise", ["low", "medium", "high"])
@pytest.mark.parametrize("n_models", SUBSETS)
def test_areas_come_in_the_order_theory_says(shared_data: Path, n_models: int, noise: str) -> None:
    result = cascjax.import_routerbench(shared_data / "routerbench-sample.parquet", invalid="drop")
    table = from_arrow(result.arrow, "sample")
    table = table.select_models([table.models[i] for i in SUBSETS[n_models]])
    study = cascjax.compare(table, estimates=cascjax.Noisy(noise))
    auc = {frontier.strategy: frontier.auc for frontier in study.frontiers}
    assert auc["mixing"] < auc["routing"] < auc["cascade-routing"] < auc["oracle"]
    # Pandora is optimal where estimates are independent; those of real models are not quite.
    assert auc["pandora"] > auc["cascade-routing"] - 0.005
    assert auc["cascading"] < auc["cascade-routing"] + 0.001
