"""A policy's evaluation against a plain loop over queries, and what it says in words."""

from dataclasses import replace
from typing import Any

import numpy as np
import plain
import pytest

from cascjax.data.table import EVALUATE, FIT, Table, split_rows
from cascjax.errors import CascjaxError
from cascjax.evaluation import Evaluation, Mean, evaluate
from cascjax.fitting import fit
from cascjax.policy import Policy
from cascjax.report.evaluation import to_json
from cascjax.search.rules import Fitted, Rule
from cascjax.strategies import Pandora, Routing

N, K = 120, 3
SIGMA = np.array([0.2, 0.15, 0.1])


def world(seed: int = 0, n: int = N) -> Table:
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
    table, of = world(), policy()
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
    found = evaluate(policy(), world(n=2000), resamples=4000)
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
    narrow = evaluate(policy(), world(n=2000), resamples=1000, confidence=0.5).total.quality
    wide = found.total.quality
    assert wide.low is not None
    assert narrow.low is not None
    assert wide.low < narrow.low < narrow.value
    assert evaluate(policy(), world(), resamples=0).total.quality.low is None


def test_models_and_groups_are_matched_by_name() -> None:
    table, of = world(), policy()
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
    with pytest.raises(CascjaxError, match="the table lacks: c"):
        evaluate(of, table.select_models(["a", "b"]))


def test_a_cost_that_the_policy_does_not_know_is_said_not_to_be_limited() -> None:
    table = world()
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
    table = world()
    fitted = fit(table, "routing", budget=0.08, seed=3)
    fit_rows, evaluate_rows = split_rows(table, 3)
    np.testing.assert_array_equal(evaluate(fitted, table).rows, evaluate_rows)
    np.testing.assert_array_equal(evaluate(fitted, table, rows=fit_rows).rows, fit_rows)
    np.testing.assert_array_equal(evaluate(fitted, world(1)).rows, np.arange(N))
    split = replace(table, split=np.where(np.arange(N) < 70, FIT, EVALUATE).astype(np.int8))
    np.testing.assert_array_equal(evaluate(fitted, split).rows, np.arange(70, N))
    none = replace(table, split=np.full(N, FIT, np.int8))
    with pytest.raises(CascjaxError, match="no rows to evaluate on"):
        evaluate(fitted, none)
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
    found = evaluate(policy(group_rules={}), world(), resamples=0)
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
    found = evaluate(policy(group_rules={}, record={"quality": 0.6}), world(), resamples=0)
    said: Evaluation = replace(found, total=replace(found.total, quality=mean), rules={})
    (line,) = said.verdicts()
    assert words in line
    assert said.met() is met
    # A record is free: what is no number is no target.
    other = policy(group_rules={}, record={"quality": "high"})
    assert evaluate(other, world(), resamples=0).target is None


def test_what_gives_no_interval_is_refused() -> None:
    with pytest.raises(CascjaxError, match="confidence must lie between 0 and 1"):
        evaluate(policy(), world(), confidence=1.0)
    with pytest.raises(CascjaxError, match="20 queries are too few"):
        evaluate(policy(), world(n=20))
    with pytest.raises(CascjaxError, match="resamples are too few"):
        evaluate(policy(), world(), resamples=10)
    with pytest.raises(CascjaxError, match="no column 'quality_ante'"):
        evaluate(policy(), replace(world(), quality_ante=None, quality_post=None))
    assert evaluate(policy(), world(n=20), resamples=0).total.n == 20


def test_a_policy_that_learned_nothing_of_budgets() -> None:
    alone = Policy(Routing(), ("a", "b"), Rule(np.array([0.0]), np.ones(1)), SIGMA[:2],
                   np.array([[1.0, 2.0]]))  # fmt: skip
    found = evaluate(alone, world())
    (seconds,) = found.verdicts()
    assert "is not limited: the policy was fitted without this cost" in seconds
    assert found.met()
    assert found.models == ("a", "b")


def test_a_budget_the_table_has_no_column_for_is_not_met() -> None:
    fitted = Fitted(60, 0.5, (0.1, 2.0), (9.0, 9.0), (0.0, 0.0))
    rule = Rule(np.array([1.5]), np.ones(1), None, fitted)
    of = replace(policy(), rule=rule, group_rules={})
    assert evaluate(of, world(), resamples=0).met()
    found = evaluate(of, replace(world(), extra_costs={}), resamples=0)
    words = "budget of seconds: the table lacks the column 'cost.seconds', not checked"
    assert found.verdicts()[1:] == [words]
    assert not found.met()


def test_rules_of_groups_on_a_table_without_groups_are_not_passed_over() -> None:
    table = replace(world(), group=None, groups=())
    found = evaluate(policy(), table, resamples=0)
    assert "the table lacks the column 'group', not checked" in found.verdicts()[-1]
    assert not found.met()


def test_a_group_named_default_is_kept_apart_from_the_default_rule() -> None:
    table = replace(world(), groups=("chat", "default"))
    of = policy(group_rules={"default": Rule(np.array([3.0]), np.ones(1))})
    found = to_json(evaluate(of, table, resamples=0))
    assert found["rule"]["budget"] == {"cost": 0.1}
    assert found["group_rules"]["default"]["budget"] == {}
