"""Fits and evaluations held to golden numbers from before the redesign; old policy files."""

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from cascjax import Evaluation, Policy, evaluate, fit, load_policy, read_table, synthetic
from cascjax.data.source import Files, open_files, write_parts
from cascjax.data.table import Table
from cascjax.estimators.specs import EstimatesSpec, Learned, Noisy, Supplied
from cascjax.fitting import Confidence

HERE = Path(__file__).parent / "golden"
GOLDEN = json.loads((HERE / "golden.json").read_text())["cases"]
FITS = [name for name in GOLDEN if name.startswith("fit/")]
STREAMS = [name for name in GOLDEN if name.startswith("stream/fit")]
FAST = ("fit/budget-pandora", "fit/quality-routing", "fit/costs-routing", "fit/groups-pandora",
        "fit/confidence-thresholding", "fit/noisy-pandora", "fit/oracle", "fit/joint-routing",
        "fit/linear-pandora-confidence", "stream/fit-supplied", "stream/fit-linear",
        "stream/fit-noisy")  # fmt: skip


def cases(names: list[str]) -> Any:
    """The cases, those that take long in the slow tier."""
    slow = pytest.mark.slow
    marked = [pytest.param(n, marks=[] if n in FAST else slow) for n in names]
    return pytest.mark.parametrize("name", marked)


def dataset(spec: dict[str, Any]) -> Table:
    made = synthetic.make_dataset(spec["n_models"], seed=0, kind=spec["world"])
    table = synthetic.sample(made, 0, spec["n"], features=True, seconds=True)
    if "split" in spec:
        split = (np.arange(table.n_queries) % spec["split"] == 0).astype(np.int8)
        table = replace(table, split=split)
    return table


def spec_of(options: dict[str, Any]) -> EstimatesSpec:
    """Take the estimates out of the options of a case."""
    kind = options.pop("estimates")
    if kind == "noisy":
        return Noisy(tuple(options.pop("noise")))
    if kind == "learned":
        names = {"learner": "estimator", "trust": "sigma_scale"}
        return Learned(**{new: options.pop(old) for old, new in names.items() if old in options})
    return Supplied()


def fitted(source: Table | Files, case: dict[str, Any]) -> Policy:
    options = dict(case["options"])
    estimates = spec_of(options)
    if "new_queries" in options:
        level, new = options.pop("confidence"), options.pop("new_queries")
        options["confidence"] = Confidence(level, new)
    return fit(source, case["strategy"], estimates, **options)


def plain(value: Any) -> Any:
    """Numbers, lists and dictionaries of a result; a mean is [value, low, high]."""
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        return np.asarray(value).tolist()
    if hasattr(value, "low"):
        return [value.value, value.low, value.high]
    if hasattr(value, "__dataclass_fields__"):
        return {name: plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, tuple | list) else value


ROUNDING = 1e-6
"""Relative tolerance. Programs that XLA did not optimise may decide a query at a threshold
differently, which moves a mean by up to 1e-4; see `XLA_FLAGS` in the Makefile."""

if "optimization_level=0" in os.environ.get("XLA_FLAGS", ""):
    LOOSE = ("fit/quality-cascading", "fit/logistic-cascade-routing")
else:
    LOOSE = ()


def check(got: Any, want: Any, at: str = "", rel: float = ROUNDING) -> None:
    """Hold numbers to a tolerance, at every place that the golden numbers have."""
    if isinstance(want, dict):
        for name, value in want.items():
            check(got[name], value, f"{at}.{name}", rel)
    elif isinstance(want, list):
        assert len(got) == len(want), at
        for i, (one, other) in enumerate(zip(got, want, strict=True)):
            check(one, other, f"{at}[{i}]", rel)
    elif isinstance(want, float):
        assert got == pytest.approx(want, rel=rel, abs=1e-12), at
    else:
        assert got == want, at


def check_policy(policy: Policy, want: dict[str, Any], rel: float = ROUNDING) -> None:
    got = {name: plain(getattr(policy, name)) for name in ("sigma", "rule", "group_rules",
           "mean_costs", "scale", "offset")}  # fmt: skip
    got |= {"strategy": policy.strategy.name, "trust": policy.record.get("sigma_scale")}
    costs = len(want["rule"]["fitted"]["cost"])
    for name in ("cost", "budget", "margin"):
        got["rule"]["fitted"][name] = got["rule"]["fitted"][name][:costs]
    check(got, want, "policy", rel)


def check_evaluation(found: Evaluation, want: dict[str, Any], rel: float = ROUNDING) -> None:
    got = {name: plain(getattr(found, name)) for name in want if hasattr(found, name)}
    costs = len(want["costs"])
    got |= {"met": found.met(), "costs": got["costs"][:costs]}
    for part in (got["total"], *got.get("rules", {}).values()):
        part["cost"], part["budget"] = part["cost"][:costs], part["budget"][:costs]
    if "groups" in want:
        got["groups"] = {
            name: [part.n, part.quality.value, *(mean.value for mean in part.cost)]
            for name, part in found.groups.items()
        }
    if "first" in want:
        rows = len(want["first"]["rows"])
        got["first"] = {name: plain(getattr(found, name)[..., :rows]) for name in want["first"]}
        got["steps_mean"] = found.steps.mean()
        got["answer_counts"] = np.bincount(found.answer, minlength=len(found.models)).tolist()
    if "hull_quality" in want and want["hull_quality"] is None:
        assert found.hull_quality is None
        want = {name: value for name, value in want.items() if name != "hull_quality"}
    check(got, want, "evaluation", rel)


@cases(FITS)
def test_a_fit_and_its_evaluation_give_the_golden_numbers(name: str) -> None:
    case, want = GOLDEN[name]["input"], GOLDEN[name]["output"]
    table = dataset(case["dataset"])
    policy = fitted(table, case)
    rel = 1e-4 if name in LOOSE else ROUNDING
    check_policy(policy, want["policy"], rel)
    if name not in LOOSE:
        check_evaluation(evaluate(policy, table, **case["evaluate"]), want["evaluation"])


@cases(STREAMS)
def test_four_files_give_the_golden_numbers(name: str, tmp_path: Path) -> None:
    case, want = GOLDEN[name]["input"], GOLDEN[name]["output"]["stream"]
    table = dataset(case["dataset"])
    write_parts(tmp_path / "parts", [table], table.n_queries, case["files"])
    source = open_files(tmp_path / "parts", chunk_rows=case["piece_rows"])
    policy = fitted(source, case)
    check_policy(policy, want["policy"])
    check_evaluation(evaluate(policy, source, **case["evaluate"]), want["evaluation"])


@pytest.mark.parametrize("path", sorted((HERE / "policies").glob("*.json")), ids=lambda p: p.stem)
def test_old_policy_files_are_read_evaluated_and_decide(path: Path) -> None:
    case = GOLDEN[f"policies/{path.stem}"]
    policy, table = load_policy(path), read_table(HERE / "tables" / "small.arrow")
    assert load_policy(path) == policy
    check_policy(policy, case["output"]["policy"])
    found = evaluate(policy, table, **case["input"]["evaluate"])
    check_evaluation(found, case["output"]["evaluation"])
    # Live decisions on eight queries, at first and with the cheapest model run.
    rows = policy.matched(table).take(np.arange(8))
    group = [rows.groups[g] for g in rows.group] if rows.group is not None else None
    for n_run, want in enumerate(case["output"]["live"]):
        run = np.zeros((8, len(policy.models)), bool)
        run[:, :n_run] = True
        if policy.learned is None:
            assert rows.quality_ante is not None
            assert rows.quality_post is not None
            estimates = policy.estimates(np.where(run, rows.quality_post, rows.quality_ante), run)
        else:
            assert rows.signals is not None
            estimates = policy.learned_estimates(
                run, features=rows.features, group=group, answers=rows.answer, costs=rows.cost,
                signals=rows.signals.reshape(8, len(policy.models), -1),
            )  # fmt: skip
        extra = {name: rows.extra_costs[name] for name in policy.costs[1:]}
        chosen = policy.next_model(
            estimates, run, key=np.arange(8), group=group if policy.groups else None,
            extra_costs=extra or None,
        )  # fmt: skip
        check(plain(estimates.quality), want["quality"], "live quality")
        np.testing.assert_array_equal(chosen, want["next_model"])
