"""Old policy files are read, and evaluated and decide as the version that wrote them did."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from cascjax import Evaluation, Policy, evaluate, load_policy, read_table

HERE = Path(__file__).parent / "golden"
GOLDEN = json.loads((HERE / "policies.json").read_text())["cases"]


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
"""Relative tolerance."""


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
