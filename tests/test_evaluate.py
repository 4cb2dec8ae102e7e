"""A policy's evaluation against a plain loop over queries, on a table and on files."""

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import plain
import pytest
from test_fit import world

from cascjax.data.source import open_files, write_parts
from cascjax.data.table import (
    ESTIMATE_COLUMNS,
    EVALUATE,
    FIT,
    Table,
    concatenate,
    split_rows,
)
from cascjax.engine.options import RunOptions
from cascjax.errors import CascjaxError
from cascjax.estimators.specs import Noisy, Supplied
from cascjax.evaluation import Evaluation, Mean, evaluate
from cascjax.fitting import fit
from cascjax.policy import Policy
from cascjax.report.evaluation import to_json
from cascjax.search.rules import Fitted, Rule
from cascjax.strategies import Pandora, Routing

N, K = 120, 3
SIGMA = np.array([0.2, 0.15, 0.1])


@functools.cache
def make_table(seed: int = 0, n: int = N) -> Table:
    """A table without a split, in two groups."""
    group = (np.arange(n) % 2).astype(np.int32)
    return replace(world(seed, n), split=None, group=group, groups=("chat", "law"))


def policy(**more: Any) -> Policy:
    fitted = Fitted(60, 0.5, (0.1, 2.0), (0.1, None), (0.0, 0.0))
    rule = Rule(np.array([1.5, 0.4]), np.array([0.25, 0.75]), None, fitted)
    given: dict[str, Any] = {
        "rule": rule,
        "group_rules": {"law": Rule(np.array([3.0]), np.ones(1))},
        "costs": ("cost", "seconds"),
        "cost_units": ("USD", "s"),
        "estimates_spec": Supplied(),
    }
    given |= {"sigma": SIGMA, "mean_costs": np.array([[0.012, 0.06, 0.33], [1.1, 3.2, 2.3]])}
    return Policy(Pandora(), ("a", "b", "c"), **(given | more))


def by_hand(policy: Policy, table: Table) -> dict[str, np.ndarray]:
    """Expected quality, costs and steps of every query; what ran and answered, in expectation."""
    n = table.n_queries
    sums = {name: np.zeros(n) for name in ("quality", "cost", "seconds", "steps")}
    sums |= {name: np.zeros((n, K)) for name in ("ran", "answered", "depth")}
    for i in range(n):
        rule = policy.group_rules.get(table.groups[table.group[i]], policy.rule)
        numbers = (
            table.quality_ante[i], table.quality_post[i], policy.sigma, policy.mean_costs[0],
            table.cost[i],
        )  # fmt: skip
        query = plain.Query(*(number.astype(float) for number in numbers))
        for weight, price in zip(rule.weights, rule.parameters.tolist(), strict=True):
            run, answer, lead = plain.rollout(plain.pandora, price, query)
            assert lead > 1e-5  # no choice that rounding could turn
            models = sorted(run)
            sums["quality"][i] += weight * table.quality[i, answer]
            sums["cost"][i] += weight * table.cost[i, models].sum()
            sums["seconds"][i] += weight * table.extra_costs["seconds"][i, models].sum()
            sums["steps"][i] += weight * len(models)
            sums["ran"][i, models] += weight
            sums["answered"][i, answer] += weight
            sums["depth"][i, len(models) - 1] += weight
    return sums


def test_every_number_is_that_of_a_loop_over_queries() -> None:
    table, fitted = make_table(), policy()
    got, want = evaluate(fitted, table), by_hand(fitted, table)
    np.testing.assert_array_equal(got.rows, np.arange(N))
    np.testing.assert_allclose(got.quality, want["quality"], rtol=1e-6)
    np.testing.assert_allclose(got.cost, [want["cost"], want["seconds"]], rtol=1e-6)
    np.testing.assert_allclose(got.steps, want["steps"], rtol=1e-9)
    np.testing.assert_array_equal(got.answer, want["answered"].argmax(1))
    for name in ("ran", "answered", "depth"):
        np.testing.assert_allclose(getattr(got, name), want[name].mean(0), rtol=1e-9)
    np.testing.assert_allclose(got.total.quality.value, want["quality"].mean(), rtol=1e-6)
    law = table.group == 1
    for name, rows in (("law", law), ("chat", ~law)):
        part = got.groups[name]
        assert part.n == rows.sum()
        np.testing.assert_allclose(part.quality.value, want["quality"][rows].mean(), rtol=1e-6)
        costs = [want[cost][rows].mean() for cost in ("cost", "seconds")]
        np.testing.assert_allclose([mean.value for mean in part.cost], costs, rtol=1e-6)
    assert set(got.rules) == {"", "law"}
    assert got.rules["law"] == got.groups["law"]
    assert got.groups["chat"].budget == (0.1, None)
    assert got.total.budget == (None, None)  # queries under two rules have none in common
    np.testing.assert_allclose(got.single_quality, table.quality.mean(0), rtol=1e-6)
    np.testing.assert_allclose(got.single_cost[1], table.extra_costs["seconds"].mean(0), rtol=1e-6)
    # The hull by hand: all three models are on it.
    x, y = table.cost.mean(0, dtype=float), table.quality.mean(0, dtype=float)
    assert plain.upper_hull(x, y) == [0, 1, 2]
    assert got.hull_quality is not None
    np.testing.assert_allclose(got.hull_quality, np.interp(want["cost"].mean(), x, y), rtol=1e-6)


def test_intervals_are_those_of_a_mean() -> None:
    wide = evaluate(policy(), make_table(n=2000), resamples=2000)
    narrow = evaluate(policy(), make_table(n=2000), resamples=1000, confidence=0.5)
    for values, mean in ((wide.quality, wide.total.quality), (wide.cost[0], wide.total.cost[0])):
        assert mean.low is not None
        assert mean.high is not None
        half = 1.959964 * values.std() / np.sqrt(len(values))
        # The bootstrap's own noise, and skewness, which moves both ends.
        np.testing.assert_allclose(mean.high - mean.low, 2 * half, rtol=0.08)
        assert mean.low < mean.value < mean.high
    assert wide.total.quality.low < narrow.total.quality.low < narrow.total.quality.value  # pyright: ignore[reportOperatorIssue, reportOptionalOperand]
    assert plain_evaluation().total.quality.low is None


def test_models_and_groups_are_matched_by_name() -> None:
    table, fitted = make_table(), policy()
    assert table.group is not None
    other = replace(
        table.select_models(["c", "a", "b"]),
        group=(1 - table.group).astype(np.int32), groups=("law", "chat"),
    )  # fmt: skip
    one, two = evaluate(fitted, table), evaluate(fitted, other)
    np.testing.assert_array_equal(one.quality, two.quality)
    np.testing.assert_array_equal(one.cost, two.cost)
    assert one.groups == two.groups
    # A group it has not seen falls under the default, and so does a table without groups.
    strange = replace(table, groups=("chat", "medicine"))
    assert set(evaluate(fitted, strange).rules) == {""}
    assert set(evaluate(fitted, replace(table, group=None, groups=())).rules) == {""}
    # A extra cost the table lacks is left out.
    assert evaluate(fitted, replace(table, extra_costs={}, extra_cost_units=())).costs == ("cost",)
    with pytest.raises(CascjaxError, match="the table lacks models of the policy: c"):
        evaluate(fitted, table.select_models(["a", "b"]))


def test_a_cost_that_the_policy_does_not_know_is_said_not_to_be_limited() -> None:
    table = make_table()
    rows = split_rows(table, 0)[1]
    without = fit(replace(table, extra_costs={}, extra_cost_units=()), "routing", budget=0.08)
    got = evaluate(without, table, rows=rows)
    assert got.costs == ("cost", "seconds")
    assert got.foreign == ("seconds",)
    assert got.total.budget == (0.08, None)
    # As a policy that knows it would have it.
    known = evaluate(fit(table, "routing", budget=0.08), table, rows=rows)
    assert known.foreign == ()
    assert got.total.cost[1] == known.total.cost[1]
    (line,) = (line for line in got.verdicts() if "seconds" in line)
    assert line.endswith("is not limited: the policy was fitted without this cost")
    assert got.met() == known.met()


def test_which_rows_are_evaluated() -> None:
    table = make_table()
    fitted = fit(table, "routing", budget=0.08, seed=3)
    fit_rows, evaluate_rows = split_rows(table, 3)
    np.testing.assert_array_equal(evaluate(fitted, table).rows, evaluate_rows)
    np.testing.assert_array_equal(evaluate(fitted, table, rows=fit_rows).rows, fit_rows)
    np.testing.assert_array_equal(evaluate(fitted, make_table(1)).rows, np.arange(N))
    split = replace(table, split=np.where(np.arange(N) < 70, FIT, EVALUATE).astype(np.int8))
    np.testing.assert_array_equal(evaluate(fitted, split).rows, np.arange(70, N))


@functools.cache
def plain_evaluation() -> Evaluation:
    return evaluate(policy(group_rules={}, record={"quality": 0.6}), make_table(), resamples=0)


@pytest.mark.parametrize(
    ("name", "mean", "words", "met"),
    [
        ("cost", Mean(0.09, 0.08, 0.099), "mean cost 0.09 USD is within the budget of 0.1", True),
        ("cost", Mean(0.1), "mean cost 0.1 USD is within the budget of 0.1", True),
        ("cost", Mean(0.09, 0.08, 0.11), "the budget of 0.1; other queries may exceed it", True),
        ("cost", Mean(0.11, 0.09, 0.12), "10.00% above the budget of 0.1; the interval", False),
        ("cost", Mean(0.12, 0.11, 0.13), "mean cost 0.12 USD is 20.00% above the budget", False),
        ("quality", Mean(0.7, 0.6, 0.8), "mean quality 0.7 reaches the target of 0.6", True),
        ("quality", Mean(0.6), "mean quality 0.6 reaches the target of 0.6", True),
        ("quality", Mean(0.61, 0.55, 0.65), "target of 0.6; other queries may fall below", True),
        ("quality", Mean(0.55, 0.5, 0.65), "0.0500 below the target of 0.6; the interval", False),
        ("quality", Mean(0.5, 0.45, 0.55), "mean quality 0.5 is 0.1000 below the target", False),
    ],
)
def test_budgets_and_targets_in_words(name: str, mean: Mean, words: str, met: bool) -> None:
    evaluation = plain_evaluation()
    assert evaluation.target == 0.6
    if name == "cost":
        part = replace(evaluation.total, cost=(mean, evaluation.total.cost[1]))
        changed: Evaluation = replace(evaluation, rules={"": part}, target=None)
    else:
        part = replace(evaluation.total, quality=mean)
        changed = replace(evaluation, total=part, rules={})
    (line,) = changed.verdicts()
    assert words in line
    assert changed.met() is met


def test_a_record_may_hold_anything() -> None:
    other = policy(group_rules={}, record={"quality": "high"})
    assert evaluate(other, make_table(), resamples=0).target is None


def test_columns_that_a_policy_or_a_table_lacks() -> None:
    table, rule = make_table(), Rule(np.array([0.0]), np.ones(1))
    means = np.array([[1.0, 2.0]])
    alone = Policy(Routing(), ("a", "b"), rule, SIGMA[:2], means, estimates_spec=Supplied())
    evaluation = evaluate(alone, table, resamples=0)
    (line,) = evaluation.verdicts()
    assert "is not limited: the policy was fitted without this cost" in line
    assert evaluation.met()
    assert evaluation.models == ("a", "b")
    # A budget of a cost that the table lacks, and rules of groups on a table without groups.
    fitted = Fitted(60, 0.5, (0.1, 2.0), (9.0, 9.0), (0.0, 0.0))
    limited = policy(rule=Rule(np.array([1.5]), np.ones(1), None, fitted), group_rules={})
    assert evaluate(limited, table, resamples=0).met()
    for each, change, words in (
        (limited, {"extra_costs": {}}, "lacks the column 'cost.seconds', not checked"),
        (policy(), {"group": None, "groups": ()}, "lacks the column 'group', not checked"),
    ):
        evaluation = evaluate(each, replace(table, **change), resamples=0)
        assert words in evaluation.verdicts()[1]
        assert not evaluation.met()
    with pytest.raises(CascjaxError, match="an estimator of your own"):
        evaluate(policy(estimates_spec=None), table)


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        ({}, {"confidence": 1.0}, "confidence must lie between 0 and 1"),
        ({}, {"rows": np.arange(20), "resamples": 100}, "20 queries are too few.*resamples=0"),
        ({}, {"resamples": 10}, "resamples are too few"),
        ({"quality_ante": None, "quality_post": None}, {}, "no column 'quality_ante'"),
        ({"split": np.full(N, FIT, np.int8)}, {}, "no rows to evaluate on"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(
    change: dict[str, Any], options: dict[str, Any], words: str
) -> None:
    with pytest.raises(CascjaxError, match=words):
        evaluate(policy(), replace(make_table(), **change), **options)


def test_a_group_named_default_is_kept_apart_from_the_default_rule() -> None:
    table = replace(make_table(), groups=("chat", "default"))
    fitted = policy(group_rules={"default": Rule(np.array([3.0]), np.ones(1))})
    got = to_json(evaluate(fitted, table, resamples=0))
    assert got["rule"]["budget"] == {"cost": 0.1}
    assert got["group_rules"]["default"]["budget"] == {}


@pytest.mark.parametrize("noisy", [False, True])
def test_files_give_the_numbers_of_the_table(noisy: bool, tmp_path: Path) -> None:
    table, fitted = make_table(n=400), policy()
    if noisy:
        fitted = replace(fitted, estimates_spec=Noisy((0.2, 0.1, 0.01, 0.0)), seed=3)
    write_parts(tmp_path / "parts", [table], 400, 3)
    source = open_files(tmp_path / "parts", chunk_rows=60)
    assert len(source.chunks) > 6
    rows = np.arange(5, 390, 3)
    for chosen in (None, rows):
        want = evaluate(fitted, table, rows=chosen, resamples=100)
        got = evaluate(fitted, source, rows=chosen, resamples=100, per_query=True)
        for name in ("rows", "answer"):
            np.testing.assert_array_equal(getattr(got, name), getattr(want, name))
        for name in ("quality", "cost", "steps", "ran", "answered", "depth", "single_cost"):
            np.testing.assert_allclose(getattr(got, name), getattr(want, name), rtol=1e-6)
        assert got.to_pandas().equals(want.to_pandas()) or noisy
        for one, other in zip(
            (got.total, *got.rules.values(), *got.groups.values()),
            (want.total, *want.rules.values(), *want.groups.values()), strict=True,
        ):  # fmt: skip
            assert (one.n, one.rule, one.budget) == (other.n, other.rule, other.budget)
            for mean, same in zip((one.quality, *one.cost), (other.quality, *other.cost)):  # noqa: B905
                assert mean.value == pytest.approx(same.value, rel=1e-9)
                assert mean.low == pytest.approx(same.low, rel=1e-6)
    assert len(evaluate(fitted, source, resamples=0).rows) == 0


def test_a_policy_is_recognised_on_table_and_files_of_the_same_rows(tmp_path: Path) -> None:
    table = make_table(n=400)
    write_parts(tmp_path / "parts", [table], 400, 3)
    source, rows = open_files(tmp_path / "parts", chunk_rows=60), split_rows(table, 3)[1]
    for fitted_on in (table, source):
        fitted = fit(fitted_on, "routing", budget=0.08, seed=3)
        for other in (table, source):
            got = evaluate(fitted, other, resamples=0, per_query=True)
            np.testing.assert_array_equal(got.rows, rows)


def test_an_interrupted_evaluation_resumes(tmp_path: Path) -> None:
    write_parts(tmp_path / "parts", [make_table(n=400)], 400, 2)
    source, chunks = open_files(tmp_path / "parts", chunk_rows=60), []

    def stop(work: str, rows: int) -> None:
        chunks.append(rows)
        if len(chunks) == 4:
            raise KeyboardInterrupt

    options = RunOptions(checkpoint=tmp_path / "checkpoint", progress=stop)
    with pytest.raises(KeyboardInterrupt):
        evaluate(policy(), source, options=options)
    done = len(list((tmp_path / "checkpoint").glob("*.npz")))
    assert done >= 2
    with pytest.raises(CascjaxError, match="unfinished run"):
        evaluate(policy(), source, options=RunOptions(checkpoint=tmp_path / "checkpoint"))
    chunks.clear()
    rest = RunOptions(
        checkpoint=tmp_path / "checkpoint", resume=True,
        progress=lambda work, rows: chunks.extend([rows] * (work == "evaluating")),
    )  # fmt: skip
    got, want = evaluate(policy(), source, options=rest), evaluate(policy(), source)
    assert len(chunks) - 1 == len(source.chunks) - done  # the first call says what was done before
    assert got.total == want.total
    assert got.groups == want.groups


def test_an_evaluation_prints_short_and_gives_data_frames() -> None:
    got = evaluate(policy(), make_table(), resamples=100)
    text = repr(got)
    assert "Evaluation of pandora" in text
    assert len(text) < 1500
    assert "<table" in got._repr_html_()
    table = got.to_pandas()
    assert table.shape == (N, 6)
    np.testing.assert_array_equal(table["quality"], got.quality)
    assert got == got
    assert isinstance(hash(got), int)


# Units.


def in_units(table: Table, cost: str = "USD", seconds: str = "s", rate: float = 1.0) -> Table:
    return replace(
        table.converted({"cost": rate}, {}),
        cost_unit=cost,
        extra_cost_units=(("seconds", seconds),),
    )


@pytest.mark.parametrize("files", [False, True])
@pytest.mark.parametrize("spec", [Supplied(), Noisy((0.2, 0.1, 0.01, 0.005))])
def test_costs_in_another_unit_are_refused_unless_they_are_converted(
    files: bool, spec: Any, tmp_path: Path
) -> None:
    table, fitted = make_table(), policy(estimates_spec=spec)
    in_usd, in_cents = in_units(table), in_units(table, "cents", rate=100.0)
    sources: list[Any] = [in_usd, in_cents]
    if files:
        for i, each in enumerate(sources):
            write_parts(tmp_path / str(i), [each], N, 3)
            sources[i] = open_files(tmp_path / str(i), chunk_rows=20)
    with pytest.raises(
        CascjaxError,
        match="cost in cents, and the policy in USD: give unit_rate, the number of USD per cents",
    ):
        evaluate(fitted, sources[1])
    whole = evaluate(fitted, sources[0], per_query=True)
    for rate in (0.01, {"cost": 0.01}, {"cost": 0.01, "seconds": 1.0}):
        converted = evaluate(fitted, sources[1], unit_rate=rate, per_query=True)
        assert converted.cost_units == ("USD", "s")
        np.testing.assert_allclose(converted.cost, whole.cost, rtol=1e-5)
        np.testing.assert_allclose(converted.single_cost, whole.single_cost, rtol=1e-5)
        np.testing.assert_array_equal(converted.answer, whole.answer)
        assert [line.split()[:3] for line in converted.verdicts()] == [
            line.split()[:3] for line in whole.verdicts()
        ]


@pytest.mark.parametrize(
    ("units", "rate", "words"),
    [
        (("EUR", "s"), None, "cost in EUR, and the policy in USD"),
        (("tokens", "s"), None, "cost in tokens, and the policy in USD"),
        (("USD", "ms"), None, "seconds in ms, and the policy in s: give unit_rate"),
        (("EUR", "ms"), 1.1, "seconds in ms, and the policy in s"),
        (("USD", "s"), 1.1, "has cost in USD, as the policy has: leave out unit_rate"),
        (("EUR", "s"), 0.0, "unit_rate must be a finite number above 0, not 0"),
        (("EUR", "s"), np.inf, "unit_rate must be a finite number above 0"),
        (("EUR", "s"), {"dollars": 2.0}, "unknown cost 'dollars'; known: cost, seconds"),
        (("", "s"), None, ""),
        (("usd/query ", "S"), None, ""),
        (("USD", "s"), 1.0, ""),
        (("", ""), 2.0, ""),
        (("EUR", "ms"), {"cost": 1.1, "seconds": 0.001}, ""),
    ],
)
def test_units_that_are_refused_and_not(units: tuple[str, str], rate: Any, words: str) -> None:
    table = in_units(make_table(), *units)
    if not words:
        assert evaluate(policy(), table, unit_rate=rate, resamples=0).cost_units == ("USD", "s")
        return
    with pytest.raises(CascjaxError, match=words):
        evaluate(policy(), table, unit_rate=rate)


def test_a_policy_without_a_unit_has_that_of_the_source() -> None:
    plain_policy = policy(cost_units=("", ""))
    assert evaluate(plain_policy, in_units(make_table(), "EUR"), resamples=0).cost_units == (
        "EUR",
        "s",
    )


def test_costs_of_files_are_converted_as_those_of_a_table(tmp_path: Path) -> None:
    table = in_units(make_table(), "EUR", "ms")
    write_parts(tmp_path / "parts", [table], N, 2)
    files = open_files(tmp_path / "parts", chunk_rows=50).select_models(["c", "a"])
    rates, units = {"cost": 2.0, "seconds": 0.001}, {"cost": "USD", "seconds": "s"}
    read = concatenate(
        [
            each
            for _, each in files.converted(rates, units).read(
                files.chunks, (*ESTIMATE_COLUMNS, "extra_costs")
            )
        ]
    )
    assert (read.cost_unit, read.extra_cost_units) == ("USD", (("seconds", "s"),))
    expected = table.select_models(["c", "a"])
    for name, rate in (("cost", 2), ("cost_ante", 2), ("cost_post", 2), ("quality_ante", 1)):
        if getattr(expected, name) is not None:
            np.testing.assert_array_equal(
                getattr(read, name), getattr(expected, name) * np.float32(rate)
            )
    np.testing.assert_allclose(
        read.extra_costs["seconds"], expected.extra_costs["seconds"] / 1000, rtol=1e-6
    )
