"""A policy's evaluation against a plain loop over queries, on a table and on files."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import plain
import pytest

from cascjax.data.source import open_files, write_parts
from cascjax.data.table import EVALUATE, FIT, Table, split_rows
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


def make_table(seed: int = 0, n: int = N) -> Table:
    rng = np.random.default_rng(seed)
    quality = rng.beta(2, 2, (n, K)) * 0.5 + np.linspace(0.1, 0.5, K)
    cost = np.geomspace(0.01, 0.3, K) * rng.lognormal(0, 0.4, (n, K))
    seconds = np.array([1.0, 3, 2]) * rng.lognormal(0, 0.5, (n, K))
    post = quality + rng.normal(0, 0.05, (n, K))
    ante = post + SIGMA * rng.standard_normal((n, K))
    quality, cost, seconds, post, ante = (
        x.astype(np.float32) for x in (quality, cost, seconds, post, ante)
    )
    return Table(
        quality, cost, quality_ante=ante, quality_post=post, extra_costs={"seconds": seconds},
        group=(np.arange(n) % 2).astype(np.int32), groups=("chat", "law"),
        models=("a", "b", "c"), cost_unit="USD",
    )  # fmt: skip


def policy(**more: Any) -> Policy:
    fitted = Fitted(60, 0.5, (0.1, 2.0), (0.1, None), (0.0, 0.0))
    rule = Rule(np.array([1.5, 0.4]), np.array([0.25, 0.75]), None, fitted)
    given: dict[str, Any] = {
        "group_rules": {"law": Rule(np.array([3.0]), np.ones(1))},
        "costs": ("cost", "seconds"),
        "cost_units": ("USD", "s"),
        "estimates_spec": Supplied(),
    }
    means = np.array([[0.012, 0.06, 0.33], [1.1, 3.2, 2.3]])
    return Policy(Pandora(), ("a", "b", "c"), rule, SIGMA, means, **(given | more))


def by_hand(of: Policy, table: Table) -> dict[str, np.ndarray]:
    """Expected quality, costs and steps of every query; what ran and answered, in expectation."""
    n = table.n_queries
    found = {name: np.zeros(n) for name in ("quality", "cost", "seconds", "steps")}
    found |= {name: np.zeros((n, K)) for name in ("ran", "answered", "depth")}
    assert table.group is not None
    assert table.quality_ante is not None
    assert table.quality_post is not None
    for i in range(n):
        rule = of.group_rules.get(table.groups[table.group[i]], of.rule)
        query = plain.Query(
            table.quality_ante[i].astype(float), table.quality_post[i].astype(float),
            of.sigma.astype(float), of.mean_costs[0].astype(float), table.cost[i].astype(float),
        )  # fmt: skip
        for weight, price in zip(rule.weights, rule.parameters.tolist(), strict=True):
            run, answer, lead = plain.rollout(plain.pandora, price, query)
            assert lead > 1e-5  # no choice that rounding could turn
            models = sorted(run)
            found["quality"][i] += weight * table.quality[i, answer]
            found["cost"][i] += weight * table.cost[i, models].sum()
            found["seconds"][i] += weight * table.extra_costs["seconds"][i, models].sum()
            found["steps"][i] += weight * len(models)
            found["ran"][i, models] += weight
            found["answered"][i, answer] += weight
            found["depth"][i, len(models) - 1] += weight
    return found


def test_every_number_is_that_of_a_loop_over_queries() -> None:
    table, of = make_table(), policy()
    found, want = evaluate(of, table), by_hand(of, table)
    np.testing.assert_array_equal(found.rows, np.arange(N))
    np.testing.assert_allclose(found.quality, want["quality"], rtol=1e-6)
    np.testing.assert_allclose(found.cost, [want["cost"], want["seconds"]], rtol=1e-6)
    np.testing.assert_allclose(found.steps, want["steps"], rtol=1e-9)
    np.testing.assert_array_equal(found.answer, want["answered"].argmax(1))
    for name in ("ran", "answered", "depth"):
        np.testing.assert_allclose(getattr(found, name), want[name].mean(0), rtol=1e-9)
    np.testing.assert_allclose(found.total.quality.value, want["quality"].mean(), rtol=1e-6)
    assert table.group is not None
    law = table.group == 1
    for name, rows in (("law", law), ("chat", ~law)):
        part = found.groups[name]
        assert part.n == rows.sum()
        np.testing.assert_allclose(part.quality.value, want["quality"][rows].mean(), rtol=1e-6)
        costs = [want[cost][rows].mean() for cost in ("cost", "seconds")]
        np.testing.assert_allclose([mean.value for mean in part.cost], costs, rtol=1e-6)
    assert set(found.rules) == {"", "law"}
    assert found.rules["law"] == found.groups["law"]
    assert found.groups["chat"].budget == (0.1, None)
    assert found.total.budget == (None, None)  # queries under two rules have none in common
    np.testing.assert_allclose(found.single_quality, table.quality.mean(0), rtol=1e-6)
    np.testing.assert_allclose(
        found.single_cost[1], table.extra_costs["seconds"].mean(0), rtol=1e-6
    )
    # The hull by hand: all three models are on it.
    x, y = table.cost.mean(0, dtype=float), table.quality.mean(0, dtype=float)
    assert plain.upper_hull(x, y) == [0, 1, 2]
    assert found.hull_quality is not None
    np.testing.assert_allclose(found.hull_quality, np.interp(want["cost"].mean(), x, y), rtol=1e-6)


def test_intervals_are_those_of_a_mean() -> None:
    found = evaluate(policy(), make_table(n=2000), resamples=4000)
    for values, mean in (
        (found.quality, found.total.quality),
        (found.cost[0], found.total.cost[0]),
    ):
        assert mean.low is not None
        assert mean.high is not None
        half = 1.959964 * values.std() / np.sqrt(len(values))
        # The bootstrap's own noise at 4,000 resamples, and skewness, which moves the ends alike.
        np.testing.assert_allclose(mean.high - mean.low, 2 * half, rtol=0.08)
        assert mean.low < mean.value < mean.high
    narrow = evaluate(policy(), make_table(n=2000), resamples=1000, confidence=0.5).total.quality
    wide = found.total.quality
    assert wide.low is not None
    assert narrow.low is not None
    assert wide.low < narrow.low < narrow.value
    assert evaluate(policy(), make_table(), resamples=0).total.quality.low is None


def test_models_and_groups_are_matched_by_name() -> None:
    table, of = make_table(), policy()
    assert table.group is not None
    other = replace(
        table.select_models(["c", "a", "b"]),
        group=(1 - table.group).astype(np.int32), groups=("law", "chat"),
    )  # fmt: skip
    one, two = evaluate(of, table), evaluate(of, other)
    np.testing.assert_array_equal(one.quality, two.quality)
    np.testing.assert_array_equal(one.cost, two.cost)
    assert one.groups == two.groups
    # A group it has not seen falls under the default, and so does a table without groups.
    strange = replace(table, groups=("chat", "medicine"))
    assert set(evaluate(of, strange).rules) == {""}
    assert set(evaluate(of, replace(table, group=None, groups=())).rules) == {""}
    # A extra cost the table lacks is left out.
    assert evaluate(of, replace(table, extra_costs={}, extra_cost_units=())).costs == ("cost",)
    with pytest.raises(CascjaxError, match="the table lacks models of the policy: c"):
        evaluate(of, table.select_models(["a", "b"]))


def test_a_cost_that_the_policy_does_not_know_is_said_not_to_be_limited() -> None:
    table = make_table()
    rows = split_rows(table, 0)[1]
    without = fit(replace(table, extra_costs={}, extra_cost_units=()), "routing", budget=0.08)
    found = evaluate(without, table, rows=rows)
    assert found.costs == ("cost", "seconds")
    assert found.foreign == ("seconds",)
    assert found.total.budget == (0.08, None)
    # As a policy that knows it would have it.
    known = evaluate(fit(table, "routing", budget=0.08), table, rows=rows)
    assert known.foreign == ()
    assert found.total.cost[1] == known.total.cost[1]
    (line,) = (line for line in found.verdicts() if "seconds" in line)
    assert line.endswith("is not limited: the policy was fitted without this cost")
    assert found.met() == known.met()


def test_which_rows_are_looked_at() -> None:
    table = make_table()
    fitted = fit(table, "routing", budget=0.08, seed=3)
    fit_rows, evaluate_rows = split_rows(table, 3)
    np.testing.assert_array_equal(evaluate(fitted, table).rows, evaluate_rows)
    np.testing.assert_array_equal(evaluate(fitted, table, rows=fit_rows).rows, fit_rows)
    np.testing.assert_array_equal(evaluate(fitted, make_table(1)).rows, np.arange(N))
    split = replace(table, split=np.where(np.arange(N) < 70, FIT, EVALUATE).astype(np.int8))
    np.testing.assert_array_equal(evaluate(fitted, split).rows, np.arange(70, N))
    # On the rows it was fitted on, it gives what the fit said, but for the query at the brink.
    again, of = evaluate(fitted, table, rows=fit_rows).total, fitted.rule.fitted
    assert of is not None
    np.testing.assert_allclose(again.quality.value, of.quality, atol=2 / len(fit_rows))
    np.testing.assert_allclose(again.cost[0].value, of.cost[0], atol=2 * 1 / len(fit_rows))


@pytest.mark.parametrize(
    ("mean", "words", "met"),
    [
        (Mean(0.09, 0.08, 0.099), "mean cost 0.09 USD is within the budget of 0.1", True),
        (Mean(0.1, None, None), "mean cost 0.1 USD is within the budget of 0.1", True),
        (Mean(0.09, 0.08, 0.11), "within the budget of 0.1; other queries may exceed it", True),
        (Mean(0.11, 0.09, 0.12), "10.00% above the budget of 0.1; the interval reaches", False),
        (Mean(0.12, 0.11, 0.13), "mean cost 0.12 USD is 20.00% above the budget of 0.1", False),
    ],
)
def test_budgets_in_words(mean: Mean, words: str, met: bool) -> None:
    found = evaluate(policy(group_rules={}), make_table(), resamples=0)
    part = replace(found.total, cost=(mean, found.total.cost[1]))
    said: Evaluation = replace(found, rules={"": part})
    (line,) = said.verdicts()
    assert words in line
    assert said.met() is met


@pytest.mark.parametrize(
    ("mean", "words", "met"),
    [
        (Mean(0.7, 0.6, 0.8), "mean quality 0.7 reaches the target of 0.6", True),
        (Mean(0.6, None, None), "mean quality 0.6 reaches the target of 0.6", True),
        (Mean(0.61, 0.55, 0.65), "reaches the target of 0.6; other queries may fall below", True),
        (Mean(0.55, 0.5, 0.65), "0.0500 below the target of 0.6; the interval reaches up", False),
        (Mean(0.5, 0.45, 0.55), "mean quality 0.5 is 0.1000 below the target of 0.6", False),
    ],
)
def test_a_target_in_words(mean: Mean, words: str, met: bool) -> None:
    found = evaluate(policy(group_rules={}, record={"quality": 0.6}), make_table(), resamples=0)
    said: Evaluation = replace(found, total=replace(found.total, quality=mean), rules={})
    (line,) = said.verdicts()
    assert words in line
    assert said.met() is met
    # A record is free: what is no number is no target.
    other = policy(group_rules={}, record={"quality": "high"})
    assert evaluate(other, make_table(), resamples=0).target is None


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        ({}, {"confidence": 1.0}, "confidence must lie between 0 and 1"),
        ({}, {"rows": np.arange(20)}, "20 queries are too few"),
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


def test_a_policy_on_estimates_that_its_file_does_not_hold_is_not_evaluated() -> None:
    with pytest.raises(CascjaxError, match="an estimator of your own"):
        evaluate(policy(estimates_spec=None), make_table())


def test_a_policy_that_learned_nothing_of_budgets() -> None:
    alone = Policy(Routing(), ("a", "b"), Rule(np.array([0.0]), np.ones(1)), SIGMA[:2],
                   np.array([[1.0, 2.0]]), estimates_spec=Supplied())  # fmt: skip
    found = evaluate(alone, make_table())
    (seconds,) = found.verdicts()
    assert "is not limited: the policy was fitted without this cost" in seconds
    assert found.met()
    assert found.models == ("a", "b")


def test_a_budget_the_table_has_no_column_for_is_not_met() -> None:
    fitted = Fitted(60, 0.5, (0.1, 2.0), (9.0, 9.0), (0.0, 0.0))
    rule = Rule(np.array([1.5]), np.ones(1), None, fitted)
    of = replace(policy(), rule=rule, group_rules={})
    assert evaluate(of, make_table(), resamples=0).met()
    found = evaluate(of, replace(make_table(), extra_costs={}), resamples=0)
    words = "budget of seconds: the table lacks the column 'cost.seconds', not checked"
    assert found.verdicts()[1:] == [words]
    assert not found.met()


def test_rules_of_groups_on_a_table_without_groups_are_not_passed_over() -> None:
    table = replace(make_table(), group=None, groups=())
    found = evaluate(policy(), table, resamples=0)
    assert "the table lacks the column 'group', not checked" in found.verdicts()[-1]
    assert not found.met()


def test_a_group_named_default_is_kept_apart_from_the_default_rule() -> None:
    table = replace(make_table(), groups=("chat", "default"))
    of = policy(group_rules={"default": Rule(np.array([3.0]), np.ones(1))})
    found = to_json(evaluate(of, table, resamples=0))
    assert found["rule"]["budget"] == {"cost": 0.1}
    assert found["group_rules"]["default"]["budget"] == {}


@pytest.mark.parametrize("noisy", [False, True])
def test_files_give_the_numbers_of_the_table(noisy: bool, tmp_path: Path) -> None:
    table, of = make_table(n=400), policy()
    if noisy:
        of = replace(of, estimates_spec=Noisy((0.2, 0.1, 0.01, 0.0)), seed=3)
    write_parts(tmp_path / "parts", [table], 400, 3)
    source = open_files(tmp_path / "parts", chunk_rows=60)
    assert len(source.chunks) > 6
    rows = np.arange(5, 390, 3)
    for chosen in (None, rows):
        want = evaluate(of, table, rows=chosen, resamples=100)
        found = evaluate(of, source, rows=chosen, resamples=100, per_query=True)
        for name in ("rows", "answer"):
            np.testing.assert_array_equal(getattr(found, name), getattr(want, name))
        for name in ("quality", "cost", "steps", "ran", "answered", "depth", "single_cost"):
            np.testing.assert_allclose(getattr(found, name), getattr(want, name), rtol=1e-6)
        assert found.to_pandas().equals(want.to_pandas()) or noisy
        for one, other in zip(
            (found.total, *found.rules.values(), *found.groups.values()),
            (want.total, *want.rules.values(), *want.groups.values()), strict=True,
        ):  # fmt: skip
            assert (one.n, one.rule, one.budget) == (other.n, other.rule, other.budget)
            for mean, same in zip((one.quality, *one.cost), (other.quality, *other.cost)):  # noqa: B905
                assert mean.value == pytest.approx(same.value, rel=1e-9)
                assert mean.low == pytest.approx(same.low, rel=1e-6)
    assert len(evaluate(of, source, resamples=0).rows) == 0


def test_a_policy_is_recognised_on_table_and_files_of_the_same_rows(tmp_path: Path) -> None:
    table = make_table(n=400)
    write_parts(tmp_path / "parts", [table], 400, 3)
    source, rows = open_files(tmp_path / "parts", chunk_rows=60), split_rows(table, 3)[1]
    for fitted_on in (table, source):
        of = fit(fitted_on, "routing", budget=0.08, seed=3)
        for other in (table, source):
            found = evaluate(of, other, resamples=0, per_query=True)
            np.testing.assert_array_equal(found.rows, rows)


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
        progress=lambda work, rows: chunks.append(rows),
    )  # fmt: skip
    found, want = evaluate(policy(), source, options=rest), evaluate(policy(), source)
    assert len(chunks) - 1 == len(source.chunks) - done  # the first call says what was done before
    assert found.total == want.total
    assert found.groups == want.groups


def test_an_evaluation_prints_short_and_gives_data_frames() -> None:
    found = evaluate(policy(), make_table(), resamples=100)
    text = repr(found)
    assert "Evaluation of pandora" in text
    assert len(text) < 1500
    assert "<table" in found._repr_html_()
    table = found.to_pandas()
    assert table.shape == (N, 6)
    np.testing.assert_array_equal(table["quality"], found.quality)
    assert found == found
    assert isinstance(hash(found), int)
