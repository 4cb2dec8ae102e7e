"""Fits against the frontier, linear programs over queries, and new queries; tables and files."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jaxtyping import Float
from scipy.optimize import linprog

from cascjax.comparison import compare, compare_job
from cascjax.data.source import open_files, write_parts
from cascjax.data.table import EVALUATE, FIT, Table, split_rows
from cascjax.engine.jobs import prepare, start_run
from cascjax.engine.options import RunOptions
from cascjax.errors import CascjaxError
from cascjax.estimators import Independent
from cascjax.estimators.specs import Learned
from cascjax.evaluation import evaluate
from cascjax.fitting import Confidence, FitData, fit
from cascjax.policy import Policy, load_policy
from cascjax.search.budgets import simulate_settings
from cascjax.search.confidence import Spread
from cascjax.search.rules import Fitted
from cascjax.strategies import STRATEGIES, SearchContext

N, K = 2000, 3

BRINK = 2 * 1.0 / (N // 2)
"""What two queries of the highest cost, or of quality 1, are to a mean over those fitted on. A fit
comes to stand where one query is about to change its mind, and rounding decides for it: the live
way and the fast one may differ there."""


def world(seed: int = 0, n: int = N, k: int = K) -> Table:
    """A table with estimates, a second cost, groups and a split by halves."""
    rng = np.random.default_rng(seed)
    quality = rng.beta(2, 2, (n, k)) * 0.5 + np.linspace(0.1, 0.5, k)
    cost = np.geomspace(0.01, 0.3, k) * rng.lognormal(0, 0.4, (n, k))
    seconds = (1.0 + np.arange(k) * 2 % k) * rng.lognormal(0, 0.5, (n, k))
    post = quality + rng.normal(0, 0.05, (n, k))
    ante = post + 0.2 * rng.standard_normal((n, k))
    quality, cost, seconds, post, ante = (
        x.astype(np.float32) for x in (quality, cost, seconds, post, ante)
    )
    return Table(
        quality, cost, quality_ante=ante, quality_post=post,
        extra_costs={"seconds": seconds}, extra_cost_units=(("seconds", "s"),),
        split=np.where(np.arange(n) % 2, EVALUATE, FIT).astype(np.int8),
        group=(np.arange(n) // 2 % 3).astype(np.int32), groups=("chat", "law", "math"),
        models=tuple("abcdef"[:k]), cost_unit="USD",
    )  # fmt: skip


def simulated(policy: Policy, table: Table) -> tuple[float, Float[np.ndarray, " R"]]:
    """Mean quality and costs of a policy on the rows it was fitted on, replayed."""
    total = evaluate(policy, table, rows=np.arange(0, table.n_queries, 2), resamples=0).total
    return total.quality.value, np.array([mean.value for mean in total.cost])


def searched(table: Table, name: str, estimates: Any = None) -> FitData:
    """The rows that a strategy's parameters are searched on, and their estimates."""
    job = compare_job(table, name, estimates, columns=("extra_costs",))
    setup = prepare(job, start_run(job, RunOptions()))
    return FitData.from_setup(job, setup, job.strategies[0])


def fitted(policy: Policy) -> Fitted:
    """What the default rule gave on the rows it was fitted on."""
    assert policy.rule.fitted is not None
    return policy.rule.fitted


# One cost.


EACH = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n == "cascading" else n for n in STRATEGIES]
)
"""Every strategy; that which takes longest to compile in the slow tier."""


@EACH
def test_a_fit_is_the_point_of_the_frontier(name: str) -> None:
    table, budget = world(), 0.08
    policy = fit(table, name, budget=budget)
    point = compare(table, [name], budgets=[budget]).frontiers[0]
    if name != "oracle":  # in a comparison a bound is fitted on the evaluation split
        # A whole frontier is searched at more budgets than one.
        np.testing.assert_allclose(fitted(policy).quality, point.fit_quality[0], atol=2e-3)
    quality, cost = simulated(policy, table)
    means = fitted(policy)
    np.testing.assert_allclose(means.cost[0], budget, rtol=1e-9)
    np.testing.assert_allclose([quality, *cost], [means.quality, *means.cost], atol=BRINK)
    assert (means.budget, means.n_fit) == ((budget, None), N // 2)


def test_an_estimator_of_the_callers_own(tmp_path: Path) -> None:
    table = world()
    table = table.select_models([table.models[i] for i in (2, 0, 1)])
    assert table.quality_ante is not None
    assert table.quality_post is not None
    sigma = np.full((1, K), 0.2, np.float32)
    mine = Independent(table.quality_ante, table.quality_post, sigma, table.cost, table.cost)
    policy = fit(table, "pandora", mine, budget=0.08)
    np.testing.assert_allclose(policy.sigma, 0.2)
    quality, _ = simulated(policy, table)
    np.testing.assert_allclose(quality, fitted(policy).quality, atol=BRINK)
    policy.save(tmp_path / "policy.json")
    loaded = load_policy(tmp_path / "policy.json")
    assert loaded.estimates_spec is None
    run = np.zeros(K, bool)
    estimates = loaded.estimates([0.5, 0.6, 0.7], run)
    assert loaded.next_model(estimates, run, 0) == policy.next_model(estimates, run, 0)


@EACH
def test_a_target_is_met_at_the_least_cost(name: str) -> None:
    table = world()
    wanted = fitted(fit(table, name, budget=0.08)).quality
    policy = fit(table, name, quality=wanted)
    means = fitted(policy)
    # This quality can be had at a cost of 0.08, so it need not cost more.
    assert means.quality >= wanted - 1e-6
    assert means.cost[0] <= 0.08 * (1 + 1e-4)
    quality, cost = simulated(policy, table)
    np.testing.assert_allclose([quality, cost[0]], [means.quality, means.cost[0]], atol=BRINK)
    # No single setting that reaches the target is cheaper.
    ready = searched(table, name)
    estimator = ready.estimates.weighed(None)
    context = SearchContext(ready.table, estimator)
    settings = np.unique(ready.strategy.initial_grid(context, 512).astype(np.float32))
    if name == "frugal":
        chain = np.repeat(np.arange(1, 2**ready.table.n_models), 8)
        settings = np.stack([chain, np.resize(settings[::64], len(chain))], axis=1)
    sums = simulate_settings(
        ready.strategy, settings.astype(np.float64), estimator, ready.table, usage=False
    )
    reach = np.asarray(sums.cost)[np.asarray(sums.quality) >= wanted]
    assert means.cost[0] <= reach.min() * (1 + 1e-6)


def test_targets_and_budgets_beyond_the_ends() -> None:
    table = world()
    cheapest = fit(table, "mixing", quality=0.01)
    assert cheapest.rule.parameters.tolist() == [0.0]
    least = table.cost[::2].mean(0, dtype=np.float64).min()
    np.testing.assert_allclose(simulated(cheapest, table)[1][0], least, rtol=1e-6)
    best = fit(table, "routing", budget=100.0)
    assert (reachable := fitted(best).reachable) is not None
    assert fitted(best).cost[0] == reachable[1] < 1
    assert len(best.rule.weights) == 1


def test_given_parameters_are_used() -> None:
    table = world()
    assert fit(table, "pandora", parameter=1.5).rule.parameters.tolist() == [1.5]
    steps = fit(table, "cascading", parameter=[1.0, 2.0, 0.5])
    assert steps.rule.parameters.tolist() == [[1.0, 2.0, 0.5]]
    quality, cost = simulated(steps, table)
    means = fitted(steps)
    np.testing.assert_allclose([means.quality, *means.cost], [quality, *cost], rtol=1e-12)
    assert means.budget == (None, None)
    with pytest.raises(CascjaxError, match="there is no model 7"):
        fit(table, "mixing", parameter=7)


# Several costs.


def programmed(table: Table, cost: float, seconds: float) -> float:
    """Best mean quality of a router that may mix, within both budgets: a program over queries."""
    n, k = table.quality.shape
    spend = np.stack([table.cost, table.extra_costs["seconds"]]).astype(np.float64)
    solution = linprog(
        -table.quality.astype(np.float64).ravel() / n,
        A_ub=spend.reshape(2, -1) / n, b_ub=[cost, seconds],
        A_eq=np.kron(np.eye(n), np.ones(k)), b_eq=np.ones(n), bounds=(0, 1), method="highs",
    )  # fmt: skip
    return -solution.fun if solution.success else -math.inf


@pytest.mark.parametrize(
    ("cost", "seconds"), [(0.1, 1.5), (0.05, 1.3), (0.15, 1.4), (0.08, 1.2), (0.03, 100.0)]
)
def test_routing_within_two_budgets_is_the_program_over_queries(
    cost: float, seconds: float
) -> None:
    table = world(n=400)
    half = table.take(np.arange(0, 400, 2))
    policy = fit(table, "oracle", budget={"cost": cost, "seconds": seconds})
    means = fitted(policy)
    assert (np.array(means.cost) <= np.array([cost, seconds]) * (1 + 1e-6)).all()
    # float32 sums of simulated settings.
    np.testing.assert_allclose(means.quality, programmed(half, cost, seconds), atol=1e-5)
    quality, costs = simulated(policy, table)
    brink = BRINK * N / 400 * 3
    np.testing.assert_allclose([quality, *costs], [means.quality, *means.cost], atol=brink)
    assert len(policy.rule.weights) <= 3
    if seconds == 100:  # not the bottleneck: no price
        assert policy.rule.prices is None
    else:
        assert means.quality < programmed(half, cost, 100.0) - 1e-3
        assert (policy.rule.prices[:, 1] > 0).any()


@pytest.mark.parametrize(
    "name",
    [
        "pandora",
        "routing",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("cascading", "cascade-routing")),
    ],
)
def test_several_budgets_are_kept(name: str) -> None:
    table = world()
    one = fitted(fit(table, name, budget=0.1))
    limit = one.cost[1] * 0.97
    policy = fit(table, name, budget={"cost": 0.1, "seconds": limit})
    means = fitted(policy)
    assert (np.array(means.cost) <= np.array([0.1, limit]) * (1 + 1e-6)).all()
    assert 0.9 * one.quality < means.quality <= one.quality + 1e-3
    quality, cost = simulated(policy, table)
    np.testing.assert_allclose([quality, *cost], [means.quality, *means.cost], atol=10 * BRINK)
    # A budget for one cost is the same by itself as by name.
    assert fit(table, name, budget={"cost": 0.1}) == fit(table, name, budget=0.1)


def test_strategies_without_prices_mix_settings_as_they_are() -> None:
    table, budgets = world(), {"cost": 0.1, "seconds": 1.6}
    half = table.take(np.arange(0, N, 2))
    means = [x.mean(0, dtype=np.float64) for x in (half.cost, half.extra_costs["seconds"])]
    program = linprog(
        -half.quality.mean(0, dtype=np.float64), A_ub=np.stack(means), b_ub=list(budgets.values()),
        A_eq=np.ones((1, K)), b_eq=[1],
    )  # fmt: skip
    mixing = fit(table, "mixing", budget=budgets)
    np.testing.assert_allclose(simulated(mixing, table)[0], -program.fun, rtol=1e-6)
    thresholding = fit(table, "thresholding", budget=budgets | {"seconds": 2.5})
    assert mixing.rule.prices is thresholding.rule.prices is None
    assert (np.array(fitted(thresholding).cost) <= np.array([0.1, 2.5]) * (1 + 1e-6)).all()


def test_a_cost_other_than_the_first_alone() -> None:
    table = world()
    policy = fit(table, "routing", budget={"seconds": 1.4})
    np.testing.assert_allclose(simulated(policy, table)[1][1], 1.4, atol=10 * BRINK)
    # As if that cost were the table's own.
    other = replace(table, cost=table.extra_costs["seconds"], extra_costs={}, extra_cost_units=())
    want = fit(other, "routing", budget=1.4).rule.fitted
    # But that there thousands of prices are tried, and here a few dozen.
    assert want.quality - 1e-3 <= fitted(policy).quality <= want.quality + 1e-3


# Groups.


@pytest.mark.parametrize("wanted", [0.08, {"cost": 0.08, "seconds": 2.5}])
def test_a_margin_takes_few_passes_more(wanted: Any) -> None:
    passes = [0, 0]

    def counted(which: int, confidence: float | None) -> None:
        def count(work: str, queries: int) -> None:
            passes[which] += queries * work.startswith("fitting")

        options = RunOptions(progress=count)
        fit(world(), "pandora", budget=wanted, confidence=confidence, options=options)

    counted(0, None)
    counted(1, 0.95)
    # Many times as many would be needed if each round of the margin started over.
    assert passes[0] <= passes[1] < 4 * passes[0]


def test_groups_with_budgets_are_fitted_by_themselves() -> None:
    table = world()
    policy = fit(table, "routing", budget=0.05, group_budgets={"law": 0.15, "math": {"cost": 0.02}})
    assert policy.groups == ("law", "math")
    for name, budget in {"law": 0.15, "math": 0.02, "chat": 0.05}.items():
        rows = np.arange(0, N, 2)
        rows = rows[table.group[rows] == table.groups.index(name)]
        evaluation = evaluate(policy, table, rows=rows, resamples=0)
        assert list(evaluation.rules) == ["" if name == "chat" else name]
        np.testing.assert_allclose(evaluation.total.cost[0].value, budget, atol=3 * BRINK)
        means = policy.group_rules.get(name, policy.rule).fitted
        np.testing.assert_allclose(means.cost[0], budget, rtol=1e-9)
        assert means.n_fit == len(rows)
    # Where no row is left the default is fitted on all.
    every = fit(table, "routing", budget=0.05, group_budgets=dict.fromkeys(table.groups, 0.1))
    assert fitted(every).n_fit == N // 2


# Confidence.


COSTS = (1.0, 3.0)  # Means of two lognormal models, but for the factor their spread makes


def draws(rng: np.random.Generator, n: int) -> Float[np.ndarray, "2 n"]:
    """Two costs of n queries, dependent and skewed, as of two settings."""
    common = rng.lognormal(0, 0.5, n)
    return np.stack([mean * common * rng.lognormal(0, 0.3, n) for mean in COSTS])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "m", "confidence"),
    [(100, 100, 0.95), (400, 400, 0.95), (200, 1000, 0.9), (100, 30, 0.95), (400, math.inf, 0.95)],
)
def test_the_margin_covers_new_queries_as_often_as_promised(
    n: int, m: float, confidence: float
) -> None:
    rng, weights, repetitions = np.random.default_rng(4), np.array([0.3, 0.7]), 4000
    kept = plain = 0
    for _ in range(repetitions):
        fitted = draws(rng, n)
        mean, spread = (weights @ fitted).mean(), Spread.from_costs(fitted, weights)
        if math.isinf(m):
            new = weights @ COSTS * np.exp((0.5**2 + 0.3**2) / 2)
        else:
            drawn = draws(rng, int(m))
            new = np.where(rng.random(int(m)) < weights[0], *drawn).mean()
        kept += new <= mean + spread.margin(n, m, confidence)
        plain += new <= mean
    # Three deviations of a binomial share, and half a percent that a first correction leaves.
    room = 3 * np.sqrt(confidence * (1 - confidence) / repetitions) + 0.005
    assert abs(kept / repetitions - confidence) < room
    assert plain / repetitions < 0.7  # without a margin the promise is not kept


def test_moments_and_the_margin_of_costs_without_skewness() -> None:
    # One setting, costs -1 and 1 in equal parts about 5: nothing but Student's quantile is left.
    cost = 5 + np.tile([-1.0, 1.0], 50)[None]
    found = Spread.from_costs(cost, np.ones(1))
    np.testing.assert_allclose(found.expected, 100 / 99)
    np.testing.assert_allclose(found.drawn, 100 / 99)
    t = 1.6603911559963895  # 95% of Student's with 99 degrees of freedom, from tables
    np.testing.assert_allclose(found.margin(100, 100, 0.95), t * np.sqrt(2 / 99), rtol=1e-9)
    np.testing.assert_allclose(found.margin(100, math.inf, 0.95), t * np.sqrt(1 / 99), rtol=1e-9)
    # Two settings of costs 0 and 2, the same for all queries: only the draw varies.
    fixed = Spread.from_costs(np.tile([[0.0], [2.0]], (1, 100)), np.array([0.5, 0.5]))
    assert fixed.expected == 0
    np.testing.assert_allclose(fixed.drawn, 1)
    np.testing.assert_allclose(fixed.margin(100, 25, 0.95), t / 5, rtol=1e-9)
    assert fixed.margin(100, math.inf, 0.95) == 0


@pytest.mark.slow
def test_fitted_policies_keep_within_the_budget_as_often_as_promised() -> None:
    rng, n, confidence, repetitions = np.random.default_rng(5), 256, 0.9, 200
    split = np.where(np.arange(2 * n) < n, FIT, EVALUATE).astype(np.int8)

    def drawn_table() -> Table:
        cost = draws(rng, 2 * n).T.astype(np.float32)
        quality = rng.random((2 * n, 2)).astype(np.float32) + np.array([0, 0.3], np.float32)
        return Table(quality, cost, quality, quality, split=split, models=("cheap", "expensive"))

    def kept(table: Table, confidence: float | None) -> bool:
        policy = fit(table, "routing", budget=2.2, confidence=confidence)
        run = np.zeros((n, 2), bool)
        estimates = policy.estimates(table.quality[n:], run)
        model = policy.next_model(estimates, run, int(rng.integers(1 << 31)))
        return bool(table.cost[np.arange(n, 2 * n), model].mean() <= 2.2)

    tables = [drawn_table() for _ in range(repetitions)]
    # Three deviations of a binomial share; about half of the fits without a margin exceed.
    share = np.mean([kept(table, confidence) for table in tables])
    assert abs(share - confidence) < 3 * np.sqrt(0.09 / repetitions)
    assert np.mean([kept(table, None) for table in tables[:60]]) < 0.75


def test_a_margin_is_held_below_each_budget() -> None:
    table = world(n=600)
    one = fitted(fit(table, "routing", budget=0.08, confidence=0.95))
    np.testing.assert_allclose(one.cost[0], 0.08 - one.margin[0], rtol=1e-3)
    again = fitted(fit(table, "routing", budget=one.cost[0]))
    np.testing.assert_allclose(one.quality, again.quality, rtol=1e-6)
    # More new queries move less, more confidence takes more, and so do several promises.
    wide = [
        fit(table, "routing", budget=0.08, confidence=Confidence(p, m)).rule.fitted
        for p, m in ((0.95, math.inf), (0.95, 10_000), (0.95, 300), (0.99, 300), (0.99, 30))
    ]
    margins = [means.margin[0] for means in wide if means is not None]
    assert margins == sorted(margins)
    assert len(set(margins)) == 5
    several = fit(table, "routing", budget={"cost": 0.08, "seconds": 1.6}, confidence=0.95)
    safer, _ = fitted(several).margin
    assert safer > one.margin[0]
    assert (np.array(fitted(several).cost) <= [0.08 - safer * 0.99, 1.6]).all()


def test_groups_share_the_new_queries() -> None:
    table = world(n=600)
    same, as_many = (
        fit(table, "routing", budget=0.08, confidence=confidence, group_budgets={"law": 0.1})
        for confidence in (0.9, Confidence(0.9, new_queries=300))
    )
    assert [rule.fitted for rule in same.rules] == [rule.fitted for rule in as_many.rules]
    # Two promises at 0.9 are kept at once where each is at 0.95: a wider margin than for one.
    alone = fitted(fit(table, "routing", budget=0.08, confidence=0.9))
    group = fitted(same)
    assert group.margin[0] / np.sqrt(300 / group.n_fit) > alone.margin[0] * 1.05


def test_too_few_queries_say_how_many_are_needed() -> None:
    table = world(n=120)
    with pytest.raises(CascjaxError, match=r"20 queries are too few .* at least 30"):
        fit(table.take(np.arange(40)), "routing", budget=0.08, confidence=0.95)
    tight = fitted(fit(table, "routing", parameter=1e6)).cost[0] * 1.05
    with pytest.raises(CascjaxError, match=r"about ([0-9,]+) are needed") as error:
        fit(table, "routing", budget=tight, confidence=0.95)
    needed = int(str(error.value).split("about ")[1].split(" ")[0].replace(",", ""))
    assert needed > 60
    # Somewhat more than that number of the same queries are enough; half of it is not.
    enough, half = (
        table.take(np.append(np.resize(np.arange(0, 120, 2), int(share * needed)), 1))
        for share in (1.3, 0.5)
    )
    fit(enough, "routing", budget=tight, confidence=0.95)
    with pytest.raises(CascjaxError, match="are too few"):
        fit(half, "routing", budget=tight, confidence=0.95)
    with pytest.raises(CascjaxError, match="for 5 new queries, but for about"):
        fit(table, "routing", budget=tight, confidence=Confidence(0.95, 5))


# What is refused.


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({}, "exactly one of budget, quality and parameter, not none"),
        ({"budget": 1.0, "quality": 0.5}, "not budget and quality"),
        ({"budget": 0.001}, r"budget 0.001 is out of reach of routing: .* it reaches is 0.0"),
        ({"budget": math.nan}, "finite and above 0"),
        ({"budget": -1.0}, "finite and above 0"),
        ({"budget": {}}, "finite and above 0"),
        ({"budget": {"minutes": 1.0}}, "unknown cost 'minutes'.*known: cost, seconds"),
        ({"budget": {"cost": 0.02, "seconds": 0.5}}, "nearest it reaches is cost .* and seconds"),
        ({"quality": 2.0}, "quality 2 is out of reach of routing: the highest .* is 0.7"),
        ({"quality": math.nan}, "must be a finite number"),
        ({"parameter": math.inf}, "all finite"),
        ({"parameter": []}, "all finite"),
        ({"parameter": [1.0, -1.0, 1.0]}, "of routing must not be negative, as -1 is: .* choose 0"),
        ({"budget": 0.1, "group_budgets": {"medicine": 0.1}}, "unknown group .* 'medicine'"),
        ({"budget": 0.1, "group_budgets": {"law": 1e-4}}, "group 'law': budget 0.0001 is out of"),
        ({"quality": 0.5, "group_budgets": {"law": 0.1}}, "give a budget instead of quality"),
        ({"parameter": 1.0, "confidence": 0.9}, "give a budget instead of parameter"),
        ({"budget": 0.1, "confidence": 1.0}, "between 0.5 and 1"),
        ({"budget": 0.1, "confidence": 0.0}, "between 0.5 and 1"),
        ({"budget": 0.1, "confidence": Confidence(0.9, 0)}, "at least 1"),
        ({"budget": 0.1, "estimates": "guessed"}, "unknown kind of estimates"),
    ],
)
def test_nonsense_is_refused(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(CascjaxError, match=words) as error:
        fit(world(), "routing", **asked)
    assert "\n" not in str(error.value)


def test_what_the_table_lacks_is_named() -> None:
    table = world()
    with pytest.raises(CascjaxError, match="no column 'group'"):
        fit(replace(table, group=None), "routing", budget=0.1, group_budgets={"law": 0.1})
    with pytest.raises(CascjaxError, match=r"unknown strategy 'rooting'.*did you mean 'routing'"):
        fit(table, "rooting", budget=0.1)
    with pytest.raises(CascjaxError, match="names 0 of its 3 models"):
        fit(replace(table, models=()), "routing", budget=0.1)
    rows = np.flatnonzero((np.arange(N) % 2 == 1) | (np.asarray(table.group) != 1))
    with pytest.raises(CascjaxError, match="unknown group with fit rows 'law'"):
        fit(table.take(rows), "routing", budget=0.1, group_budgets={"law": 0.1})


@pytest.mark.parametrize("new_queries", [None, np.inf])
@pytest.mark.parametrize("budget", [1e-9, {"cost": 1e-9}])
def test_a_budget_out_of_reach_is_not_a_matter_of_confidence(
    budget: Any, new_queries: float | None
) -> None:
    with pytest.raises(CascjaxError, match=r"out of reach of routing: the (nearest|lowest)"):
        fit(world(), "routing", budget=budget, confidence=Confidence(0.95, new_queries))


def test_a_budget_that_buys_less_is_not_spent() -> None:
    # The second model costs more and is worse; thresholding high enough always ends with it.
    rng = np.random.default_rng(0)
    quality = (rng.random((400, 2)) < [0.8, 0.4]).astype(np.float32)
    cost = np.tile(np.array([1, 3], np.float32), (400, 1))
    table = Table(quality, cost, quality, quality, models=("good", "bad"))
    rows, _ = split_rows(table, 0)
    means = fitted(fit(table, "thresholding", budget=3.9))
    # To try the second only where the first is wrong is the best there is.
    np.testing.assert_allclose(means.quality, quality[rows].max(1).mean(), rtol=1e-6)
    np.testing.assert_allclose(means.cost[0], 1 + 3 * (1 - quality[rows, 0].mean()), rtol=1e-6)
    assert means.cost[0] < 3.9 / 2


# Files.


@pytest.mark.parametrize(
    "asked",
    [
        {"budget": 0.08},
        {"budget": {"cost": 0.08, "seconds": 2.5}, "confidence": 0.9},
        {"budget": 0.08, "group_budgets": {"law": 0.1}},
        {"quality": 0.55},
    ],
    ids=["budget", "costs", "groups", "quality"],
)
def test_files_give_the_policy_of_the_table(asked: dict[str, Any], tmp_path: Path) -> None:
    table = world()
    write_parts(tmp_path / "parts", [table], N, 3)
    source = open_files(tmp_path / "parts", chunk_rows=300)
    want, found = fit(table, "routing", **asked), fit(source, "routing", **asked)
    assert found.fingerprint == source.fingerprint()
    same = replace(found, fingerprint=want.fingerprint)
    assert same == want
    # On a sample, one budget is met on all fit rows all the same.
    options = RunOptions(sample=400, checkpoint=tmp_path / "checkpoint")
    part = fit(source, "routing", **asked, options=options)
    assert part.record["sample"] == 400
    met = list(asked) == ["budget"] and "confidence" not in asked
    assert ("notes" in part.record) == (not met)
    assert fitted(part).n_fit == (N // 2 if met else fitted(want).n_fit * 2 // 5) or (
        "group_budgets" in asked
    )
    if met:
        np.testing.assert_allclose(fitted(part).cost[0], 0.08, rtol=1e-6)
        np.testing.assert_allclose(simulated(part, table)[1][0], 0.08, atol=BRINK)
    resumed = RunOptions(sample=400, checkpoint=tmp_path / "checkpoint", resume=True)
    assert fit(source, "routing", **asked, options=resumed) == part


def test_an_estimator_that_keeps_rows_is_refused_before_rows_are_read() -> None:
    with pytest.raises(CascjaxError, match="cannot be kept in a policy"):
        fit(world(), "routing", Learned("joint-knn"), budget=0.08)
