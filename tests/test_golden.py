"""Comparisons give the numbers that the code before its redesign gave."""

import json
from pathlib import Path
from typing import Any

import golden_cases
import numpy as np
import pytest
from golden_cases import CASES, dataset

import cascjax
from cascjax import Study
from cascjax.data.source import write_parts

QUICK = ("reference/k3-low", "world/judged-noisy", "world/judged-logistic", "stream/compare-noisy")


ONE_QUERY = {"routerbench/joint-text": 2e-3}
"""Cases in which one of 1,575 queries decides another way, by tolerance: ridge regressions are
scikit-learn's now, which round another way, and the query is at a price."""


def check_study(study: Study, golden: dict[str, Any], least: float = 1e-6) -> None:
    """Compare all that was recorded; intervals and shares of the second and last but one point."""

    def check(new: Any, recorded: Any, name: str, rtol: float = 1e-6) -> None:
        golden_cases.check(new, recorded, name, max(rtol, least))

    assert list(study.models) == golden["models"]
    assert (study.n_fit, study.n_evaluate) == (golden["n_fit"], golden["n_evaluate"])
    check(study.single_cost, golden["single_cost"], "single_cost")
    check(study.single_quality, golden["single_quality"], "single_quality")
    for frontier in study.frontiers:
        kept, at = golden["strategies"][frontier.strategy], [1, len(frontier.budget) - 2]
        check(frontier.budget, golden["budget"], "budget")
        check(frontier.auc, kept["area"], "auc")
        check(frontier.reach, kept.get("reach", np.zeros(len(frontier.budget))), "reach")
        check(frontier.sigma_scale, kept.get("trust", 1), "sigma_scale")
        for name in ("cost", "quality", "gamma"):
            check(getattr(frontier, name), kept[name], name)
        # Between two breakpoints of the queries, where compilers may round another way.
        check(frontier.parameters, kept["parameters"], "parameters", 1e-5)
        for name in ("ran", "answered"):
            check(getattr(frontier, name)[at], kept[name], name)
        for name, value in kept.get("scores", {}).items():
            check(frontier.scores["auc" if name == "area" else name], value, name)
        for name in ("cost", "quality"):
            if (interval := kept.get(f"{name}_interval")) is not None:
                check(getattr(frontier, f"{name}_interval")[at], interval, name, 1e-5)
        if "area_interval" in kept:
            check(frontier.auc_interval, kept["area_interval"], "auc_interval", 1e-5)
    if "difference_first_row" in golden:
        assert study.difference is not None
        check(study.difference[0], golden["difference_first_row"], "difference")


def compare(case: dict[str, Any], source: Any = None) -> Study:
    """Make the call of a case, on its table by default."""
    table = dataset(case["dataset"])
    options = dict(case["options"])
    depth = options.pop("max_depth", None)
    spec = golden_cases.estimates(options, table)
    names = case["strategies"]
    kinds = None if names is None else [golden_cases.strategy(n, depth) for n in names]
    options["scores"] = ["auc" if s == "area" else s for s in options.get("scores", ())]
    return cascjax.compare(table if source is None else source, kinds, spec, **options)


@pytest.mark.parametrize("name", golden_cases.named("compare", lambda name: name not in QUICK))
def test_comparisons(name: str) -> None:
    check_study(compare(CASES[name]["input"]), CASES[name]["output"], ONE_QUERY.get(name, 1e-6))


STREAMS = [
    pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
    for name in CASES
    if name.startswith("stream/compare")
]


@pytest.mark.parametrize("name", STREAMS)
def test_comparisons_of_files(name: str, tmp_path: Path) -> None:
    case = CASES[name]["input"]
    table = dataset(case["dataset"])
    write_parts(tmp_path / "parts", [table], table.n_rows, case["files"])
    source = cascjax.open(tmp_path / "parts", chunk_rows=case["piece_rows"])
    check_study(compare(case, source), CASES[name]["output"]["stream"])


def test_estimates_can_be_written_and_read() -> None:
    from cascjax.estimators.specs import spec_from_json

    for name in golden_cases.named("compare"):
        case = CASES[name]["input"]
        if case["dataset"].get("world"):
            spec = golden_cases.estimates(dict(case["options"]), dataset(case["dataset"]))
            assert spec_from_json(json.loads(json.dumps(spec.to_json()))) == spec
