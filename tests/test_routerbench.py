"""End to end on real data: RouterBench's sample, from its own file to AUCs."""

from pathlib import Path

import pytest

import cascjax as cj
from benchmarks.paper.published import CHOICES, LEVELS, MODELS


@pytest.mark.slow
@pytest.mark.parametrize("noise", LEVELS)
@pytest.mark.parametrize("n_models", CHOICES)
def test_aucs_are_in_the_order_of_the_theory(shared_data: Path, n_models: int, noise: str) -> None:
    file = shared_data / "routerbench-sample.parquet"
    table = cj.import_routerbench(file, invalid="drop").table
    table = table.select_models([MODELS[i] for i in CHOICES[n_models]])
    study = cj.compare(table, estimates=cj.Noisy(noise))
    auc = {frontier.strategy: frontier.auc for frontier in study.frontiers}
    assert auc["mixing"] < auc["routing"] < auc["cascade-routing"] < auc["oracle"]
    # Pandora is optimal for independent estimates; estimates of real models are correlated.
    assert auc["pandora"] > auc["cascade-routing"] - 0.005
    assert auc["cascading"] < auc["cascade-routing"] + 0.001
