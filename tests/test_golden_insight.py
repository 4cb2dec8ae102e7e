"""Tuning and diagnosis give the numbers recorded from the code before the redesign."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cascjax
from cascjax import synthetic
from cascjax.data.table import Table
from cascjax.report.diagnosis import to_json

CASES = json.loads((Path(__file__).parent / "golden/golden.json").read_text())["cases"]

NAMES = {
    "rungs": "scenarios", "area": "auc", "area_now": "auc_now", "area_reached": "auc_reached",
    "area_checked": "auc_checked", "all_alike": "all_equal", "found": "measured",
    "trust": "sigma_scale",
}  # fmt: skip
"""New names by the recorded ones."""


def dataset(spec: dict[str, Any]) -> Table:
    made = synthetic.make_dataset(spec["n_models"], seed=0, kind=spec["world"])
    return synthetic.sample(made, 0, spec["n"], features=True, seconds=True)


def assert_equal(recorded: Any, new: Any, place: str) -> None:
    if isinstance(recorded, list) and isinstance(new, dict):  # a number and its interval
        new = list(new.values())
    if isinstance(recorded, dict):
        for name, value in recorded.items():
            assert_equal(value, new[NAMES.get(name, name)], f"{place}/{name}")
    elif isinstance(recorded, list) and recorded and not isinstance(recorded[0], int | float):
        assert len(recorded) == len(new), place
        for i, (value, other) in enumerate(zip(recorded, new, strict=True)):
            assert_equal(value, other, f"{place}/{i}")
    elif isinstance(recorded, float | list):
        numbers = (np.array(x, np.float64) for x in (recorded, new))
        np.testing.assert_allclose(*numbers, rtol=1e-6, atol=1e-6, err_msg=place)
    else:
        assert recorded == new, place


def source(table: Table, folder: Path, files: int) -> Any:
    """Return the table itself, or the folder of its rows in several files."""
    if files == 1:
        return table
    for i, rows in enumerate(np.array_split(np.arange(table.n_queries), files)):
        cascjax.write_table(folder / f"{i}.parquet", table.take(rows))
    return folder


@pytest.mark.parametrize(
    ("strategy", "files"),
    [("pandora", 1), ("thresholding", 1), ("thresholding", 4),
     pytest.param("cascading", 1, marks=pytest.mark.slow)],
)  # fmt: skip
def test_tuning(strategy: str, files: int, tmp_path: Path) -> None:
    case = CASES[f"tune/{strategy}"]
    options, recorded = case["input"]["options"], case["output"]
    table = dataset(case["input"]["dataset"])
    tuning = cascjax.tune(source(table, tmp_path, files), strategy, **options)
    tuned, frontiers = tuning.tuned, tuning.study.frontiers
    for name in ("multiplier", "settings", "scale", "offset", "chosen", "folds", "n_queries"):
        assert_equal(recorded[name], getattr(tuned, name), name)
    for candidate, other in zip(recorded["candidates"], tuned.candidates, strict=True):
        assert_equal(candidate, vars(other), candidate["name"])
    assert_equal(recorded["budgets"], tuning.budgets, "budgets")
    for frontier in frontiers:
        name = frontier.strategy
        assert_equal(recorded["area"][name], frontier.auc, name)
        assert_equal(recorded["area_interval"][name], list(frontier.auc_interval or ()), name)
    assert_equal(recorded["cost"], frontiers[-1].cost, "cost")
    assert_equal(recorded["quality"], frontiers[-1].quality, "quality")
    difference = tuning.study.difference_interval
    assert difference is not None
    assert_equal(recorded["difference_interval"], difference.tolist(), "difference")
    rule = tuning.policies[len(tuning.policies) // 2].rule
    assert_equal(recorded["policy"]["rule"]["parameters"], rule.parameters, "parameters")
    assert_equal(recorded["policy"]["rule"]["weights"], rule.weights, "weights")


@pytest.mark.parametrize(
    ("name", "files"),
    [("supplied", 1), ("supplied", 4), pytest.param("logistic", 1, marks=pytest.mark.slow),
     pytest.param("joint", 1, marks=pytest.mark.slow)],
)  # fmt: skip
def test_diagnosis(name: str, files: int, tmp_path: Path) -> None:
    case = CASES[f"diagnose/{name}"]
    options, recorded = dict(case["input"]["options"]), dict(case["output"])
    estimates = cascjax.Supplied()
    if options.pop("estimates") == "learned":
        estimates = cascjax.Learned(options.pop("learner", "logistic"))
    table = dataset(case["input"]["dataset"])
    found = to_json(cascjax.diagnose(source(table, tmp_path, files), estimates, **options))
    pandora_above, both = recorded.pop("pandora_above"), recorded.pop("both_at_once")
    assert_equal(recorded, found, "")
    for apart, other in ((pandora_above, found["combined"]), (both, found["both_at_once"])):
        if apart is not None:
            assert_equal(apart, list(other["above"].values()), "difference")
