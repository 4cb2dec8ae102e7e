"""The commands fit and evaluate: what they write and print, and that nothing half-done stays."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from rich.console import Console

import cascjax as cj
from cascjax.cli import main
from cascjax.policy import Policy
from cascjax.report.policy import print_policy
from cascjax.search.rules import Rule

# isort: split
from commands import cache_home, error_line, files, here, made, refused, run, succeeds

_ = (cache_home, here, made)  # fixtures


def fitted(*words: str, strategy: str = "routing") -> str:
    return succeeds("fit", "data.arrow", "--strategy", strategy, *words, "--out", "policy.json")


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        (["--budget", "0.0003"], {"budget": 0.0003}),
        (["--budget", "cost=0.0003"], {"budget": {"cost": 0.0003}}),
        (
            ["--budget", "0.0003", "--budget", "seconds=2.5"],
            {"budget": {"cost": 0.0003, "seconds": 2.5}},
        ),
        (["--quality", "0.6"], {"quality": 0.6}),
        (["--parameter", "20"], {"parameter": 20.0}),
        (
            ["--budget", "0.0003", "--group-budgets", "law=0.0005"],
            {"budget": 0.0003, "group_budgets": {"law": {"cost": 0.0005}}},
        ),
        (
            ["--budget", "0.0003", "--confidence", "0.9", "--new-queries", "inf"],
            {"budget": 0.0003, "confidence": cj.Confidence(0.9, math.inf)},
        ),
        (
            ["--budget", "0.0003", "--noise", "0.2,0.1,0,0", "--seed", "4"],
            {"budget": 0.0003, "estimates": cj.Noisy((0.2, 0.1, 0.0, 0.0)), "seed": 4},
        ),
    ],
)
def test_fit_writes_what_python_returns(
    words: list[str], asked: dict[str, Any], here: Path
) -> None:
    result = run("fit", "data.arrow", "--strategy", "routing", *words, "--out", "policy.json")
    assert result.exit_code == 0, result.output
    policy = cj.fit(cj.open("data.arrow"), "routing", **asked)
    assert cj.load_policy("policy.json").text() == policy.text()
    assert "try: cascjax evaluate policy.json data.arrow" in result.stderr
    assert "mean quality" in result.stdout
    assert not list(Path().glob("*.checkpoint"))


def test_a_target_is_named_by_fit_and_checked_by_evaluate(here: Path) -> None:
    content = json.loads(fitted("--quality", "0.65", "--json"))
    assert content == json.loads(Path("policy.json").read_text())
    assert "0.65" in fitted("--quality", "0.65")
    assert "the target of 0.65" in succeeds("evaluate", "policy.json", "data.arrow", "--out", "out")
    summary = json.loads(Path("out/summary.json").read_text())
    assert summary["target"] == 0.65
    assert summary["budgets_met"] is (summary["total"]["quality"]["mean"] >= 0.65 * (1 - 1e-5))


def test_settings_that_differ_look_different() -> None:
    models, mean_costs = ("a", "b"), np.array([[1.0, 2.0]])
    for parameters in ([2707.3601, 2707.3604], [[1.0, 2.0], [1.0, 2.0000005]]):
        rule = Rule(np.array(parameters), np.array([0.25, 0.75]))
        policy = Policy(cj.Pandora(), models, rule, np.full(2, 0.1), mean_costs)
        with (console := Console(width=100)).capture() as shown:
            print_policy(policy, console)
        lines = [line.split(maxsplit=1)[1] for line in shown.get().splitlines() if "%" in line]
        assert len(set(lines)) == 2, shown.get()


def test_models_and_options_of_the_strategy_are_kept(here: Path) -> None:
    words = ["--models", "model-1,model-3", "--max-depth", "1", "--search", "greedy"]
    fitted("--budget", "0.0003", *words, strategy="cascade-routing")
    policy = cj.load_policy("policy.json")
    assert policy.models == ("model-1", "model-3")
    assert policy.strategy == cj.CascadeRouting(max_depth=1, search="greedy")
    fitted("--parameter", "1,2,3", strategy="cascading")
    assert cj.load_policy("policy.json").rule.parameters.tolist() == [[1, 2, 3]]


def test_evaluate_writes_one_row_per_query_and_a_summary(here: Path) -> None:
    fitted("--budget", "0.0003", "--budget", "seconds=2.5", "--group-budgets", "law=0.0005")
    text = succeeds("evaluate", "policy.json", "data.arrow", "--out", "new/folder")
    evaluation = cj.evaluate(cj.load_policy("policy.json"), cj.open("data.arrow"), per_query=True)
    rows = pq.read_table("new/folder/evaluation.parquet")
    assert rows.column_names[1:] == ["cost", "cost.seconds", "quality", "steps", "answer"]
    expected = (*evaluation.cost, evaluation.quality)
    for name, values in zip(rows.column_names[1:4], expected, strict=True):
        np.testing.assert_allclose(rows[name].to_numpy(), values, rtol=1e-6)
    assert rows["answer"].to_pylist() == [evaluation.models[i] for i in evaluation.answer]
    summary = json.loads(Path("new/folder/summary.json").read_text())
    assert summary["total"]["n"] == 200
    assert summary["total"]["quality"]["mean"] == pytest.approx(evaluation.total.quality.value)
    assert summary["group_rules"]["law"]["budget"] == {"cost": 0.0005}
    assert summary["rule"]["budget"] == {"cost": 0.0003, "seconds": 2.5}
    assert summary["verdicts"] == evaluation.verdicts()
    assert summary["budgets_met"] is evaluation.met()
    for line in evaluation.verdicts():
        assert line in " ".join(text.split())
    words = ["evaluate", "policy.json", "data.arrow", "--no-per-query", "--json", "--out", "out"]
    content = json.loads(succeeds(*words))
    assert content["total"] == summary["total"]
    assert sorted(files(Path("out"))) == ["report.html", "summary.json"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("", "give exactly one of"),
        ("--budget 1 --quality 0.5", "budget and"),
        ("--budget cheap", "'cheap': give a number"),
        ("--budget =3", "give it as COST=B"),
        ("--budget 1 --budget 2", "'cost' is listed twice"),
        ("--budget 1 --budget cost=2", "'cost' is listed twice"),
        ("--budget minutes=2", "unknown cost 'minutes'"),
        ("--budget 1e-9", "budget 1e-09 is out of reach of routing"),
        ("--budget nan", "give a number"),
        ("--quality 3", "quality 3 is out of reach"),
        ("--parameter 1,x", "'x': give a number"),
        ("--budget 1 --group-budgets 0.1", "give it as GROUP=B"),
        ("--budget 1 --group-budgets lore=0.1", "unknown group with fit rows 'lore'"),
        ("--budget 1 --group-budgets law:hours=1", "'law:hours'"),
        ("--budget 1 --group-budgets law=1 --group-budgets law:cost=1", "is listed twice"),
        ("--budget 1 --confidence 0.3", "between 0.5 and 1"),
        ("--budget 1 --confidence 0.9 --new-queries 0", "of at least 1 or inf"),
        ("--budget 1 --new-queries 5", "--new-queries needs --confidence"),
        ("--budget 1 --models model-1", "at least 2 models"),
        ("--budget 1 --noise 1,2", "four numbers"),
        ("--budget 1 --max-depth 3", "--max-depth is an option of"),
    ],
)
def test_options_of_fit_that_are_refused(words: str, line: str, here: Path) -> None:
    command = ["fit", "data.arrow", "--strategy", "routing", *words.split()]
    assert line in refused(*command, "--out", "policy.json")


def test_files_that_are_refused(here: Path) -> None:
    words = ["--strategy", "routing", "--budget", "0.0003"]
    assert "is the source" in refused("fit", "data.arrow", *words, "--out", "data.arrow")
    assert "there is no folder" in refused("fit", "data.arrow", *words, "--out", "no/policy.json")
    assert "none.arrow" in refused("fit", "none.arrow", *words, "--out", "policy.json")
    unknown = ["fit", "data.arrow", "--strategy", "rooting", "--budget", "1", "--out", "p.json"]
    assert "unknown strategy 'rooting'" in refused(*unknown)
    fitted("--budget", "0.0003")
    text = Path("policy.json").read_text()
    Path("bent.json").write_text(text.replace("model-2", "model-9"))
    line = refused("evaluate", "bent.json", "data.arrow", "--out", "out")
    assert "bent.json" in line
    assert "checksum" in line
    for name, models, more, words in (
        ("two.arrow", "2", [], ["two.arrow", "model-3"]),
        ("few.arrow", "3", ["--resamples", "1000"], ["20 queries are too few", "--resamples 0"]),
    ):
        succeeds("synthesize", name, "--queries", "20", "--models", models, "--seed", "1")
        line = refused("evaluate", "policy.json", name, *more, "--out", "out")
        assert all(word in line for word in words)


def test_too_few_rows_for_intervals_get_none_by_default_and_a_note(here: Path) -> None:
    fitted("--budget", "0.0003")
    succeeds("synthesize", "few.arrow", "--queries", "39", "--models", "3", "--seed", "1")
    words = ["evaluate", "policy.json", "few.arrow", "--out", "out"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    assert "[" not in result.stdout.split("model ")[0]
    assert "note: no intervals (--resamples 0)" in result.stderr
    assert "at least 40 queries, and 39 are evaluated" in result.stderr
    assert json.loads(Path("out/summary.json").read_text())["total"]["quality"]["low"] is None
    # With what the note names nothing is left to say.
    assert "note: no intervals" not in CliRunner().invoke(main, [*words, "--resamples", "0"]).stderr


def test_an_interrupt_leaves_the_policy_there_was(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted("--budget", "0.0003")
    before = files(here)

    def interrupted(*args: Any, **more: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cj, "fit", interrupted, raising=False)
    words = ["--strategy", "routing", "--budget", "0.0004", "--out", "policy.json"]
    result = CliRunner().invoke(main, ["fit", "data.arrow", *words])
    assert result.exit_code == 130
    assert error_line(result.stderr) == "cascjax: interrupted; nothing half-written is left"
    assert files(here) == before


def test_costs_in_another_unit_are_refused_or_converted(here: Path) -> None:
    table = cj.read_table("data.arrow")
    cj.write_table("cents.arrow", table.converted({"cost": 100.0}, {"cost": "cents"}))
    fitted = ["fit", "data.arrow", "--strategy", "routing", "--budget", "0.0003", "--out", "p.json"]
    succeeds(*fitted)
    evaluate = ["evaluate", "p.json", "--resamples", "0"]
    line = refused(*evaluate, "cents.arrow", "--out", "out")
    assert line == (
        "cascjax: cents.arrow has cost in cents, and the policy in USD: give --unit-rate, the"
        " number of USD per cents, to convert it"
    )
    assert "leave out --unit-rate" in refused(
        *evaluate, "data.arrow", "--out", "out", "--unit-rate", "2"
    )
    rows = ["--seed", "0"]
    succeeds(*evaluate, "data.arrow", "--out", "whole", *rows)
    for i, rate in enumerate((["0.01"], ["cost=0.01"], ["cost=0.01", "--unit-rate", "seconds=1"])):
        text = succeeds(*evaluate, "cents.arrow", "--out", f"{i}", "--unit-rate", *rate)
        assert "USD" in text
        assert "cents" not in text
        numbers = json.loads(Path(f"{i}/summary.json").read_text())
        assert numbers["cost_units"] == {"cost": "USD", "seconds": "s"}
