"""Which estimates are the default, and the scale of simulated ones."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from rich.console import Console

import cascjax as cj
from cascjax.data.source import as_source
from cascjax.data.table import Table
from cascjax.errors import CascjaxError
from cascjax.estimators import noisy
from cascjax.estimators.specs import as_estimates
from cascjax.report.diagnosis import print_diagnosis
from cascjax.report.evaluation import print_evaluation
from cascjax.report.findings import print_study
from cascjax.report.policy import print_policy
from cascjax.report.tuning import print_tuning

from commands import refused  # isort: skip

N, K = 400, 3


def plain(**columns: Any) -> Table:
    """Return a table of scores and costs alone, and further columns."""
    rng = np.random.default_rng(0)
    quality = (rng.random((N, K)) < [0.4, 0.6, 0.8]).astype(np.float32)
    cost = ([0.001, 0.004, 0.02] * rng.uniform(0.8, 1.2, (N, K))).astype(np.float32)
    return Table(quality, cost, models=("small", "mid", "big"), cost_unit="USD", **columns)


def printed(result: Any) -> str:
    """Return what the command line prints of a result."""
    console = Console(record=True, width=100, file=io.StringIO())
    {
        cj.Study: print_study,
        cj.Policy: print_policy,
        cj.Evaluation: print_evaluation,
        cj.Diagnosis: print_diagnosis,
        cj.Tuning: print_tuning,
    }[type(result)](result, console)
    return console.export_text()


ONES = np.ones((N, K), np.float32)
LEARNABLE: dict[str, dict[str, Any]] = {
    "features": {"features": ONES, "feature_names": ("x", "y", "z")},
    "signals": {"signals": ONES, "signal_names": ("s",)},
    "answer": {"answer": ONES.astype(np.int32)},
    "group": {"group": np.zeros(N, np.int32), "groups": ("law",)},
}
SUPPLIED = {"quality_ante": ONES, "quality_post": ONES}


@pytest.mark.parametrize("column", LEARNABLE)
def test_estimates_are_supplied_or_else_learned(column: str) -> None:
    learnable = LEARNABLE[column]
    both = as_source(plain(**SUPPLIED, **learnable))
    assert as_estimates(None, both) == cj.Supplied()
    assert as_estimates(None, as_source(plain(**learnable))) == cj.Learned()
    half = as_source(plain(quality_ante=ONES, **learnable))
    assert as_estimates(None, half) == cj.Learned()


def test_many_models_are_learned_by_an_estimator_that_takes_them() -> None:
    many = np.ones((N, 9), np.float32)
    table = Table(many, many, features=many, models=tuple("abcdefghi"))
    assert as_estimates(None, as_source(table)) == cj.Learned("joint")


@pytest.mark.parametrize(
    "call",
    [
        lambda table: cj.compare(table, ["mixing", "routing"], budgets=3),
        lambda table: cj.fit(table, "routing", budget=0.01),
        lambda table: cj.diagnose(table),
        lambda table: cj.tune(table, "pandora", budgets=3),
    ],
)
def test_nothing_to_estimate_from_is_refused_with_the_choices(call: Callable[[Table], Any]) -> None:
    with pytest.raises(
        CascjaxError, match=r"features, signals, answer or group.*estimates='noisy'"
    ) as caught:
        call(plain())
    assert "\n" not in str(caught.value)


def test_the_command_names_the_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cj.write_table("table.arrow", plain())
    assert refused("compare", "table.arrow", "--out", "out").endswith("with --estimates noisy")


def test_strategies_that_read_no_estimates_need_none(tmp_path: Path) -> None:
    study = cj.compare(plain(), ["mixing", "oracle"], budgets=3)
    assert study["oracle"].auc > study["mixing"].auc
    assert "Simulation" not in str(study)
    policy = cj.fit(plain(), "mixing", budget=0.01)
    policy.save(tmp_path / "policy.json")
    one, two = (
        cj.evaluate(each, plain(), resamples=0).total
        for each in (policy, cj.load_policy(tmp_path / "policy.json"))
    )
    assert one == two
    assert one.cost[0].value == pytest.approx(0.01, rel=0.02)  # of other queries


@pytest.mark.parametrize(
    ("factor", "shift", "scale"),
    [(100.0, 0.0, 100.0), (9.0, 1.0, 9.0), (2.0, -1.0, 2.0), (0.01, 0.0, 0.01), (1.0, 5.0, None)],
)
def test_a_named_level_scales_with_the_range_of_quality(
    factor: float, shift: float, scale: float | None
) -> None:
    # The frontier of scores of 0 to 100 is that of 0 to 1, times 100.
    table = plain()
    other = replace(table, quality=(table.quality * factor + shift).astype(np.float32))
    names = ["mixing", "routing", "cascade-routing"]
    one, two = (
        cj.compare(t, names, cj.Noisy("low"), budgets=6, resamples=0) for t in (table, other)
    )
    for name in names:
        np.testing.assert_allclose(
            two[name].quality, one[name].quality * factor + shift, rtol=1e-4, atol=1e-4 * factor
        )
        assert two[name].auc == pytest.approx(one[name].auc * factor + shift, rel=1e-4)
    text, title = printed(two), str(two).splitlines()[0]
    assert text.startswith("Simulation")
    assert "simulated estimates" in title
    assert (f"qualities from {shift:g} to" in title) == (scale is not None)
    assert two.settings.get("noise_scale") == (None if scale is None else pytest.approx(scale))
    if scale is not None:
        note = "noise level 'low' is made for 0 to 1, so the noise of quality is multiplied by"
        before, _, after = " ".join(text.split()).partition(f"{note} {scale:g}.")
        assert f"Qualities range from {shift:g} to {factor + shift:g};" in before
        assert "routing" in after


def test_given_standard_deviations_are_taken_as_they_are() -> None:
    table = plain()
    percent = replace(table, quality=100 * table.quality)
    level = (60.0, 30.0, 0.0002, 0.00005)
    key = jax.random.key(0)
    given, named = noisy(percent, key, level), noisy(percent, key, "low")
    np.testing.assert_allclose(given.quality_ante, named.quality_ante, rtol=1e-5)
    np.testing.assert_allclose(given.sigma, named.sigma, rtol=1e-5)
    study = cj.compare(percent, ["routing"], cj.Noisy((0.6, 0.3, 0.0002, 0.00005)), budgets=3)
    assert "multiplied" not in str(study)


def test_every_result_under_noisy_estimates_says_so_first(tmp_path: Path) -> None:
    table = replace(plain(), quality=100 * plain().quality)
    policy = cj.fit(table, "routing", cj.Noisy("low"), budget=0.01)
    policy.save(tmp_path / "policy.json")
    results = [
        policy,
        cj.load_policy(tmp_path / "policy.json"),
        cj.evaluate(policy, table, resamples=0),
        cj.diagnose(table, cj.Noisy("low"), strategies=["routing"], budgets=3, resamples=0),
        cj.tune(table, "pandora", cj.Noisy("low"), budgets=3),
    ]
    for result in results:
        assert "simulated estimates, noise scaled to" in str(result).splitlines()[0].lower()
        text = " ".join(printed(result).split())
        assert text.startswith("Simulation: the estimates are the true values with added noise")
        assert "Qualities range from 0 to 100; noise level 'low' is made for 0 to 1" in text


@pytest.mark.parametrize(
    ("factor", "words"), [(1e-6, "hides all differences"), (1e6, "is next to none"), (7.0, "")]
)
def test_costs_far_from_the_level_are_noted(factor: float, words: str) -> None:
    table = plain()
    other = replace(table, cost=(table.cost * factor).astype(np.float32))
    notes = cj.compare(other, ["routing"], cj.Noisy("low"), budgets=3).settings.get("notes", [])
    assert [words in note for note in notes] == [True] * bool(words)
