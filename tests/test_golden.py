"""Results keep their numbers: recorded ones of comparisons, fits, tunings and diagnoses.

Record them again after a change that is meant to move numbers: `python tests/test_golden.py`.
"""

import functools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cascjax as cj
from cascjax import synthetic
from cascjax.data.source import write_parts
from cascjax.data.table import Table

KEPT = Path(__file__).parent / "golden" / "numbers.json"
NOISE = cj.Noisy((0.4, 0.2, 0.0002, 0.00005))


@functools.cache
def world(kind: str, n_models: int = 4, n: int = 2000) -> Table:
    made = synthetic.make_dataset(n_models, seed=0, kind=kind)
    return synthetic.sample(made, 0, n, features=True, seconds=True)


def numbers(study: cj.Study) -> dict[str, Any]:
    """Everything of a study that a reader sees."""
    return {
        f.strategy: {
            "auc": [f.auc, *(f.auc_interval or ())], "cost": f.cost, "quality": f.quality,
            "fit_quality": f.fit_quality, "ran": f.ran[len(f.ran) // 2],
        }
        for f in study.frontiers
    }  # fmt: skip


def compared(kind: str, names: list[Any], estimates: Any, source: Any = None) -> dict[str, Any]:
    source = world(kind) if source is None else source
    return numbers(cj.compare(source, names, estimates, budgets=5, resamples=100))


def fitted(kind: str, name: str, estimates: Any = None, **target: Any) -> dict[str, Any]:
    table = world(kind)
    policy = cj.fit(table, name, estimates or cj.Supplied(), **target)
    total = cj.evaluate(policy, table, resamples=100).total
    rules = [rule.fitted for rule in policy.rules if rule.fitted is not None]
    means = [total.quality, *total.cost]
    return {
        "fit": [[fitted.quality, *fitted.cost, *fitted.margin] for fitted in rules],
        "evaluation": [[mean.value, mean.low, mean.high] for mean in means],
    }


def tuned(name: str) -> dict[str, Any]:
    table = world("judged", 3, 1000)
    tuning = cj.tune(table, name, cj.Supplied(), budgets=4, folds=3, resamples=100)
    gains = [[c.gain, c.error] for c in tuning.tuned.candidates]
    return {"gains": gains, "study": numbers(tuning.study)}


def diagnosed(names: list[str], estimates: Any) -> dict[str, Any]:
    table = world("classification", 3, 1000)
    found = cj.diagnose(table, estimates, strategies=names, budgets=6, target=0, resamples=100)
    scenarios = [
        {name: [span.value, span.low, span.high] for name, span in scenario.auc.items()}
        for scenario in found.scenarios
    ]
    return {"scenarios": scenarios, "oracle": found.oracle.value, "mixing": found.mixing.value}


SIX = ["mixing", "routing", "thresholding", "frugal", "cascading", "pandora", "oracle"]
THREE = ["routing", "cascade-routing", "pandora"]
BEAM = cj.strategy("cascade-routing", search="beam", max_depth=3, beam_width=3)

CASES: dict[str, Callable[[], dict[str, Any]]] = {
    "compare/supplied": lambda: compared("judged", SIX, cj.Supplied()),
    "compare/noisy": lambda: compared("code-math", SIX, NOISE),
    "compare/logistic": lambda: compared("classification", THREE, cj.Learned()),
    "compare/linear": lambda: compared("judged", THREE, cj.Learned("linear")),
    "compare/joint": lambda: compared("classification", THREE, cj.Learned("joint")),
    "compare/beam": lambda: compared("judged", [BEAM], cj.Supplied()),
    "fit/budget": lambda: fitted("judged", "pandora", budget=0.001),
    "fit/quality": lambda: fitted("judged", "routing", quality=0.75),
    "fit/confidence": lambda: fitted("judged", "thresholding", budget=0.001, confidence=0.95),
    "fit/costs": lambda: fitted("judged", "routing", budget={"cost": 0.001, "seconds": 3.2}),
    "fit/groups": lambda: fitted("judged", "pandora", budget=8e-4, group_budgets={"law": 0.0015}),
    "fit/logistic": lambda: fitted("classification", "pandora", cj.Learned(), budget=0.0002),
    "tune/pandora": lambda: tuned("pandora"),
    "tune/thresholding": lambda: tuned("thresholding"),
    "diagnose/supplied": lambda: diagnosed(["routing", "pandora"], cj.Supplied()),
    "diagnose/logistic": lambda: diagnosed(["routing", "pandora"], cj.Learned()),
}
QUICK = ("compare/supplied", "fit/budget", "fit/costs", "tune/thresholding", "diagnose/supplied")
LEAST = 1e-6 if "optimization_level=0" not in os.environ.get("XLA_FLAGS", "") else 1e-4
"""Relative tolerance: a program that XLA did not optimise may decide a query another way."""


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [plain(each) for each in value]
    return np.asarray(value, np.float64).tolist()


def check(value: Any, kept: Any, place: str = "") -> None:
    if isinstance(kept, dict):
        assert value.keys() == kept.keys(), place
        for name in kept:
            check(value[name], kept[name], f"{place}/{name}")
    elif isinstance(kept, list) and kept and isinstance(kept[0], dict):
        for i, (one, other) in enumerate(zip(value, kept, strict=True)):
            check(one, other, f"{place}/{i}")
    else:
        np.testing.assert_allclose(value, kept, LEAST, atol=1e-7, err_msg=place)


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in CASES],
)
def test_results_keep_their_numbers(name: str) -> None:
    check(CASES[name](), json.loads(KEPT.read_text())[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["supplied", "noisy", "linear"])
def test_files_have_the_numbers_of_the_table(name: str, tmp_path: Path) -> None:
    kind, names, estimates = {
        "supplied": ("judged", SIX, cj.Supplied()),
        "noisy": ("code-math", SIX, NOISE),
        "linear": ("judged", THREE, cj.Learned("linear")),
    }[name]
    table = world(kind)
    write_parts(tmp_path / "parts", [table], table.n_rows, 4)
    source = cj.open(tmp_path / "parts", chunk_rows=300)
    check(compared(kind, names, estimates, source), json.loads(KEPT.read_text())[f"compare/{name}"])


if __name__ == "__main__":
    recorded = {name: plain(case()) for name, case in CASES.items()}
    KEPT.write_text(json.dumps(recorded, indent=1) + "\n")
