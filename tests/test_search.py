"""Budgets met, linear programs solved, sums recomputed, and what must not change a result."""

import functools
import itertools
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from cascjax.comparison import Frontier, compare, frontier
from cascjax.data.table import Table
from cascjax.engine import simulate
from cascjax.engine.blocks import BlockSizes, use_block_sizes
from cascjax.engine.options import RunOptions
from cascjax.errors import CascjaxError
from cascjax.estimators import Independent, supplied, truth
from cascjax.metrics import auc, budgets, upper_hull
from cascjax.search.budgets import Pool, fit_budgets, fit_settings, simulate_settings
from cascjax.strategies import (
    STRATEGIES,
    CascadeRouting,
    Frugal,
    Mixing,
    Routing,
    Strategy,
    Thresholding,
)

N, K = 256, 3

KINDS = [*(kind() for kind in STRATEGIES.values()), CascadeRouting(search="greedy")]


@functools.cache
def world(seed: int, n: int = N, k: int = K) -> tuple[Table, Independent]:
    """A table and estimates of it, models in rising mean cost."""
    rng = np.random.default_rng(seed)
    quality = rng.beta(2, 2, (n, k)) * 0.5 + np.linspace(0.1, 0.5, k)
    cost = np.geomspace(0.01, 0.3, k) * rng.lognormal(0, 0.4, (n, k))
    sigma = rng.uniform(0.1, 0.3, (1, k))
    post = quality + rng.normal(0, 0.05, (n, k))
    ante = post + sigma * rng.standard_normal((n, k))
    estimated = 0.7 * cost + 0.3 * cost.mean(0)
    ante, post, sigma, estimated, quality, cost = (
        x.astype(np.float32) for x in (ante, post, sigma, estimated, quality, cost)
    )
    table = Table(quality, cost, models=tuple("abcdefgh"[:k]), cost_unit="USD")
    assert (np.diff(cost.mean(0)) > 0).all()
    return table, Independent(ante, post, sigma, estimated, cost)


def reachable(table: Table, count: int) -> np.ndarray:
    """Budgets between the cheapest and the most expensive model, the ends left out."""
    cost = table.cost.mean(0, dtype=np.float64)
    return np.linspace(cost.min(), cost.max(), count + 2)[1:-1]


# The linear program.


def programmed(table: Table, budget: float) -> float:
    """Best mean quality of a router that may mix: max x.q, sum_i x_ni = 1, mean cost <= B."""
    n, k = table.quality.shape
    result = linprog(
        -table.quality.astype(np.float64).ravel() / n,
        A_ub=table.cost.astype(np.float64).reshape(1, -1) / n, b_ub=[budget],
        A_eq=np.kron(np.eye(n), np.ones(k)), b_eq=np.ones(n), bounds=(0, 1), method="highs",
    )  # fmt: skip
    assert result.success
    return -result.fun


@pytest.mark.parametrize(("n", "k", "seed"), [(256, 2, 0), (256, 6, 1), (64, 4, 0), (16, 3, 1)])
def test_routing_is_the_optimum_of_the_linear_program(n: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    quality = rng.random((n, k)).astype(np.float32)
    cost = (np.geomspace(0.05, 1, k) * rng.lognormal(0, 0.5, (n, k))).astype(np.float32)
    table = Table(quality, cost, models=tuple("abcdef"[:k]))
    cheapest = cost.min(1).mean(dtype=np.float64)
    most_expensive = np.take_along_axis(cost, quality.argmax(1)[:, None], 1).mean(dtype=np.float64)
    asked = np.linspace(cheapest, most_expensive, 8)[1:-1]
    fit = fit_budgets(Routing(), truth(table), table, asked)
    assert (fit.reach == 0).all()
    # The share the mix gives up, for its neighbours may lie a thousandth of the range apart, and
    # float32 sums of N qualities: both below 1e-5.
    np.testing.assert_allclose(fit.quality, [programmed(table, b) for b in asked], atol=1e-5)
    # No gamma, no equality: somewhere the budget falls between two settings.
    assert ((fit.gamma > 0.01) & (fit.gamma < 0.99)).any()


# Budgets.


INDEX = pytest.mark.parametrize("index", range(len(KINDS)), ids=[kind.name for kind in KINDS])


@INDEX
def test_a_budget_is_met_in_expectation_or_said_to_be_out_of_reach(index: int) -> None:
    table, estimator = world(0)
    cost = table.cost.mean(0, dtype=np.float64)
    asked = np.concatenate([[cost.min() / 50], reachable(table, 7), [cost.sum() * 2]])
    fit = fit_budgets(KINDS[index], estimator, table, asked)
    np.testing.assert_array_equal(
        fit.reach, np.where(asked < fit.cheapest, -1, np.where(asked > fit.most_expensive, 1, 0))
    )
    assert fit.reach[0] == -1
    assert fit.reach[-1] == 1
    assert (fit.reach == 0).sum() >= 4
    met = fit.reach == 0
    np.testing.assert_allclose(fit.cost[met], asked[met], rtol=1e-6)
    assert ((fit.gamma >= 0) & (fit.gamma <= 1)).all()
    np.testing.assert_array_equal(fit.parameters[~met, 0], fit.parameters[~met, 1])
    np.testing.assert_allclose(fit.cost[[0, -1]], [fit.cheapest, fit.most_expensive], rtol=1e-12)
    # And it is so: simulate each neighbour again, and mix. (Not by another way: a fit comes to
    # stand where one query is just about to change its mind, and rounding decides for it.)
    pairs = np.moveaxis(fit.parameters, 1, 0)
    ends = [simulate_settings(KINDS[index], p, estimator, table) for p in pairs]
    for name in ("cost", "quality"):
        cheap, expensive = (np.asarray(getattr(end, name)) for end in ends)
        mixed = (1 - fit.gamma) * cheap + fit.gamma * expensive
        np.testing.assert_allclose(mixed, getattr(fit, name), rtol=1e-9)  # float64 from there


@functools.partial(jax.jit, static_argnums=0)
def outcomes(
    kind: Strategy, parameters: jax.Array, estimator: Independent
) -> tuple[jax.Array, jax.Array]:
    outcome = simulate.outcomes(kind, parameters, estimator, estimator.shape)
    return outcome.run, outcome.answer


def recounted(index: int, parameters: np.ndarray) -> tuple[np.ndarray, ...]:
    """Mean cost, quality, and shares ran, answered and depth, in plain float64 NumPy."""
    table, estimator = world(0)
    run, answer = outcomes(KINDS[index], jnp.asarray(parameters, jnp.float32), estimator)
    run, answer = np.asarray(run), np.asarray(answer)
    rows, cost, quality = np.arange(N), table.cost.astype(float), table.quality.astype(float)
    return (
        np.array([(ran * cost).sum() for ran in run]) / N,
        np.array([quality[rows, model].sum() for model in answer]) / N,
        run.mean(1),
        np.array([np.bincount(model, minlength=K) for model in answer]) / N,
        np.array([np.bincount(ran.sum(1), minlength=K + 1)[1:] for ran in run]) / N,
    )


SETTINGS = np.array([0.02, 0.3, 0.7, 1.0, 1.3, 2.0, 3.0, 9.0, 30.0])


def total_means(index: int) -> list[np.ndarray]:
    (table, estimator), kind = world(0), KINDS[index]
    parameters = np.array([0.0, 1, 2] * 3) if kind == Mixing() else SETTINGS
    if kind == Frugal():
        parameters = np.stack([[1, 2, 3, 4, 5, 5, 6, 7, 7], np.geomspace(0.3, 2, 9)], axis=1)
    sums = simulate.totals(kind, parameters, estimator, table.quality, table.cost).means()
    names = ("cost", "quality", "ran", "answered", "depth")
    means = [np.asarray(getattr(sums, name)) for name in names]
    for mean, expected in zip(means, recounted(index, parameters), strict=True):
        np.testing.assert_allclose(mean, expected, rtol=1e-6)  # float32 sums, as above
    return means


@INDEX
def test_totals_are_the_sums_over_outcomes_in_blocks_of_any_size(index: int) -> None:
    whole = total_means(index)
    with use_block_sizes(BlockSizes(600, 128)):
        for mean, same in zip(total_means(index), whole, strict=True):
            np.testing.assert_allclose(mean, same, rtol=1e-6)


def test_totals_of_any_number_of_queries() -> None:
    table, estimator = world(0)
    ante, price = (np.asarray(x, float) for x in (estimator.quality_ante, estimator.cost_ante))
    best = (ante - price).argmax(1)
    for n in (1, 5, 63, 64, 65, 200):
        rows = np.arange(n)
        part = table.take(rows)
        sums = simulate.totals(
            Routing(), np.array([1.0]), estimator.take(rows), part.quality, part.cost
        )
        assert float(sums.count) == n
        expected = part.cost.astype(float)[rows, best[:n]].sum()
        assert float(sums.cost[0]) == pytest.approx(expected, rel=1e-6)
        np.testing.assert_array_equal(sums.answered[0], np.bincount(best[:n], minlength=K))


def test_mixing_is_a_line_between_models_on_the_hull() -> None:
    table, estimator = world(3, k=5)
    cost, quality = (x.mean(0, dtype=np.float64) for x in (table.cost, table.quality))
    quality_low = table.quality.copy()
    quality_low[:, 2] -= 0.4  # a model that no mix would use
    table = replace(table, quality=quality_low)
    quality = quality_low.mean(0, dtype=np.float64)
    hull, asked = upper_hull(cost, quality), reachable(table, 9)
    assert 2 not in hull
    fit = fit_budgets(Mixing(), estimator, table, asked)
    np.testing.assert_allclose(fit.quality, np.interp(asked, cost[hull], quality[hull]), rtol=1e-6)
    assert set(fit.parameters.ravel()) <= set(hull.tolist())


# Frontiers.


def test_a_study_is_fitted_on_one_part_and_scored_on_the_other() -> None:
    table, estimator = world(0, 2 * N)
    kinds = [kind() for kind in STRATEGIES.values()]
    rows = np.arange(1, 2 * N, 2)
    split = (np.arange(2 * N) % 2).astype(np.int8)
    study = compare(replace(table, split=split), kinds, estimator, budgets=6)
    assert [drawn.strategy for drawn in study.frontiers] == list(STRATEGIES)
    assert study.models == table.models
    assert (study.n_fit, study.n_evaluate) == (N, N)
    rest = table.take(rows)
    np.testing.assert_allclose(study.single_cost, rest.cost.mean(0, dtype=float), rtol=1e-12)
    np.testing.assert_allclose(study.single_quality, rest.quality.mean(0, dtype=float), rtol=1e-12)
    expected = budgets(study.single_cost, study.single_quality, 6)
    for drawn, kind in zip(study.frontiers, kinds, strict=True):
        np.testing.assert_array_equal(drawn.budget, expected)
        estimates = truth(rest) if kind.sees_truth else estimator.take(rows)
        assert_scored(drawn, kind, rest, estimates)
    aucs = {drawn.strategy: drawn.auc for drawn in study.frontiers}
    assert aucs["oracle"] > aucs["routing"] > aucs["mixing"]


MANY = np.random.default_rng(0).random((2, 8, 20), np.float32)


@pytest.mark.parametrize(
    ("change", "arguments", "says"),
    [
        ({"cost": np.ones((N, K), np.float32)}, {}, "same mean cost"),
        ({"models": ()}, {}, "names 0 of its 3 models"),
        ({}, {"budgets": 0}, "at least 1"),
        ({}, {"estimates": "lerned"}, "unknown kind of estimates 'lerned'"),
        ({}, {"strategies": []}, "name at least one"),
        ({}, {"strategies": "rooting"}, "did you mean 'routing'"),
        *(
            (
                {"quality": MANY[0], "cost": MANY[1], "models": tuple("abcdefghijklmnopqrst")},
                {"strategies": ["routing", name]},
                "at most 14 models",
            )
            for name in ("cascade-routing", "frugal")
        ),
    ],
)
def test_what_cannot_be_compared_is_refused_at_once(
    change: dict[str, Any], arguments: dict[str, Any], says: str
) -> None:
    def progress(work: str, rows: int) -> None:
        assert not work.startswith("fitting"), "a strategy was fitted before the call was refused"

    keywords = {"estimates": "noisy", "budgets": 5} | arguments
    with pytest.raises(CascjaxError, match=says):
        compare(replace(world(0)[0], **change), options=RunOptions(progress=progress), **keywords)


def test_a_budget_out_of_reach_is_refused() -> None:
    with pytest.raises(CascjaxError, match="out of reach"):
        compare(world(0)[0], "routing", "noisy", budgets=[1e-9])


def assert_scored(drawn: Frontier, kind: Strategy, rest: Table, estimator: Independent) -> None:
    """The scores are those of the neighbours, run again and mixed in float64."""
    met = drawn.reach == 0
    assert met.any()
    np.testing.assert_allclose(drawn.fit_cost[met], drawn.budget[met], rtol=1e-6)
    cost, quality, depth = np.zeros((3, len(drawn.budget)))
    for side, share in ((0, 1 - drawn.gamma), (1, drawn.gamma)):
        parameters = jnp.asarray(drawn.parameters[:, side], jnp.float32)
        run, answer = (np.asarray(x) for x in outcomes(kind, parameters, estimator))
        cost += share * (run * rest.cost.astype(float)).sum(2).mean(1)
        quality += share * rest.quality.astype(float)[np.arange(N), answer].mean(1)
        depth += share * run.sum(2).mean(1)
    # float32 sums of at most 64 numbers within a block, as above.
    for mean, expected in (
        (drawn.cost, cost), (drawn.quality, quality), (drawn.ran.sum(1), depth),
        (drawn.depth @ np.arange(1, K + 1), depth), (drawn.answered.sum(1), np.ones(len(depth))),
    ):  # fmt: skip
        np.testing.assert_allclose(mean, expected, rtol=1e-6)


def test_shuffled_estimates_gain_nothing_and_auc_does_not_depend_on_budgets() -> None:
    table, estimator = world(5, 4000)
    rows = np.random.default_rng(0).permutation(4000)
    shuffled = estimator.take(rows)
    split = (np.arange(4000) % 2).astype(np.int8)
    table = replace(table, split=split)
    studies = [
        compare(table, ["mixing", "routing"], shuffled, budgets=n, resamples=200) for n in (3, 30)
    ]
    for study in studies:
        low, high = np.asarray(study.difference_interval)[1, 0]
        assert low <= 0 <= high
        gain = study["routing"].auc - study["mixing"].auc
        assert abs(gain) < 0.003
    # Mixing is integrated exactly: the polygon of its hull, on the rows that are scored.
    first, other = (study["mixing"] for study in studies)
    assert first.auc == pytest.approx(other.auc, abs=1e-12)
    assert studies[0]["routing"].auc == pytest.approx(studies[1]["routing"].auc, abs=2e-3)
    means = [x[split == 0].mean(0, dtype=float) for x in (table.cost, table.quality)]
    hull = upper_hull(*means)
    other = [x[split == 1].mean(0, dtype=float) for x in (table.cost, table.quality)]
    assert first.auc == pytest.approx(auc(*(x[hull] for x in other), *other), rel=1e-7)


# What must not change a result, and what may only help.


SEED = st.integers(0, 2**32 - 1)

FEW = settings(max_examples=3, deadline=None, derandomize=True)
"""Few examples, since each is a whole fit; the same ones each time, so that a run is one."""


COLUMNS = ("quality_ante", "quality_post", "quality_sigma", "cost_ante", "cost_post")


def aucs(table: Table) -> np.ndarray:
    """Every strategy's AUC on a table that holds its own estimates."""
    rows = np.arange(N)
    ante, post, sigma, *costs = (getattr(table, name) for name in COLUMNS)
    estimator = Independent(ante, post, sigma[:1], *costs)  # the same for all queries
    cost, quality = (x.mean(0, dtype=np.float64) for x in (table.cost, table.quality))
    asked = budgets(cost, quality, 5)
    kinds = [kind() for kind in STRATEGIES.values()]
    return np.array([frontier(k, table, estimator, rows, rows, asked).auc for k in kinds])


@functools.cache
def unmoved(seed: int) -> tuple[Table, np.ndarray]:
    """A table with its estimates as columns, and the AUCs on it."""
    table, estimator = world(seed)
    ante, post, sigma, *costs = jax.tree.leaves(estimator)
    columns = dict(zip(COLUMNS, (ante, post, np.repeat(sigma, N, 0), *costs), strict=True))
    table = replace(table, **columns)
    return table, aucs(table)


@FEW
@given(seed=SEED)
def test_the_order_of_queries_and_of_models_does_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    table, expected = unmoved(int(rng.integers(2)))
    moved = table.take(rng.permutation(N))
    moved = moved.select_models([table.models[i] for i in rng.permutation(K)])
    moved = moved.sort_models(moved.cost.mean(0, dtype=np.float64))
    assert moved.models == table.models
    # Sums in another order: float32 over at most 64 numbers.
    np.testing.assert_allclose(aucs(moved), expected, rtol=1e-6)


@FEW
@given(seed=SEED)
def test_with_exact_estimates_one_more_model_never_hurts(seed: int) -> None:
    rng = np.random.default_rng(seed)
    table, _ = world(int(rng.integers(1000)), 128, 4)
    fewer = table.select_models([table.models[i] for i in sorted(rng.permutation(4)[:3])])
    asked = reachable(fewer, 6)
    for kind in (Routing(), CascadeRouting()):
        more = fit_budgets(kind, truth(table), table, asked)
        less = fit_budgets(kind, truth(fewer), fewer, asked)
        open_ = less.reach == 0
        assert open_.any()
        # Both are optima of linear programs, found to 1e-5 as above. A budget beyond what more
        # models can use is one at which they have already bought the best there is.
        assert (more.quality >= less.quality - 1e-5)[open_].all()


# Settings given.


def test_neighbours_on_the_hull_are_mixed_by_hand() -> None:
    # Out of order in cost, with a dip at 4 and a setting at 8 that costs more and has less.
    pool = Pool(
        np.array([10.0, 11, 12, 13, 14]),
        np.array([1.0, 4, 2, 6, 8]),
        np.array([0.1, 0.35, 0.4, 0.9, 0.8]),
    )
    fit = pool.mix(np.array([0.5, 1, 1.5, 3, 5, 6, 7]))
    assert fit.reach.tolist() == [-1, 0, 0, 0, 0, 0, 1]
    np.testing.assert_allclose(fit.cost, [1, 1, 1.5, 3, 5, 6, 6])
    np.testing.assert_allclose(fit.quality, [0.1, 0.1, 0.25, 0.525, 0.775, 0.9, 0.9])
    np.testing.assert_allclose(fit.gamma[2:5], [1 / 2, 1 / 4, 3 / 4])
    assert fit.parameters[2:5].tolist() == [[10, 12], [12, 13], [12, 13]]
    assert fit.parameters[[0, -1]].tolist() == [[10, 10], [13, 13]]
    assert (fit.cheapest, fit.most_expensive, fit.best) == (1, 6, 0.9)
    assert fit.knots.tolist() == [10, 12, 13]
    # By quality: a target between two settings, one below the cheapest, one above the best.
    fit = pool.mix(np.array([0.25, 0.65, 0.0, 1.0]), targets=True)
    np.testing.assert_allclose(fit.cost, [1.5, 4, 1, 6])
    assert fit.reach.tolist() == [0, 0, 1, -1]


def test_adjacent_settings_are_mixed_as_in_the_paper() -> None:
    # Out of order in cost: 1, 4, 2, 6; the pairs 1-4, 4-2 and 2-6 are neighbours.
    values = np.array([[10.0, 11, 12, 13], [1, 4, 2, 6], [0.1, 0.4, 0.3, 0.9]])
    fit = Pool(*values, line=True, adjacent=True).mix(np.array([0.5, 1, 1.5, 3, 5, 6, 7]))
    assert fit.reach.tolist() == [-1, 0, 0, 0, 0, 0, 1]
    # At 3: 1-4 gives 0.3, 4-2 gives 0.35 and 2-6 gives 0.45.
    np.testing.assert_allclose(fit.cost, [1, 1, 1.5, 3, 5, 6, 6])
    np.testing.assert_allclose(fit.quality, [0.1, 0.1, 0.15, 0.45, 0.75, 0.9, 0.9])
    assert fit.parameters[2:5].tolist() == [[10, 11], [12, 13], [12, 13]]


def test_a_setting_lies_amid_those_that_decide_alike() -> None:
    # Three plateaus of cost; the middle one is a millionth wide: no setting to rely on.
    value = np.array([0.0, 1.0, 2.0, 3.0, 3.0000005, 3.000001, 4.0, 5.0, 6.0])
    cost = np.array([9.0, 9.0, 9.0, 9.0, 5.0, 1.0, 1.0, 1.0, 1.0])
    quality = np.array([0.9, 0.9, 0.9, 0.9, 0.8, 0.1, 0.1, 0.1, 0.1])
    pool = Pool(value, cost, quality, line=True)
    fit = pool.mix(np.array([3.0]))
    assert fit.parameters[0, 0] in (4.0, 5.0)
    assert fit.parameters[0, 1] in (1.0, 2.0)
    assert fit.quality[0] == pytest.approx(0.1 + 0.8 * 2 / 8)
    # A wide one is used: it lies above the line between the others.
    wide = Pool(np.array([0.0, 1, 2, 3, 3.5, 4, 5, 6, 7]), cost, quality, line=True)
    assert wide.mix(np.array([3.0])).quality[0] == pytest.approx(0.45)


def test_the_knots_draw_the_whole_hull() -> None:
    cost = np.linspace(0, 1, 500)
    pool = Pool(np.arange(500.0), cost, np.sqrt(cost))
    knots = pool.mix(np.array([0.5])).knots.astype(int)
    assert len(knots) < 60
    area = np.trapezoid(np.sqrt(cost), cost)
    assert area - np.trapezoid(np.sqrt(cost[knots]), cost[knots]) < 5e-5


@pytest.mark.parametrize("seed", range(2))
def test_no_other_two_of_the_given_settings_mix_to_more(seed: int) -> None:
    table, estimator = world(seed)
    given = np.random.default_rng(seed).uniform(0.1, 1.0, (12, K - 1))
    rows = np.arange(0, N, 2)
    means = simulate_settings(Thresholding(), given, estimator, table, rows=rows)
    cost, quality = np.asarray(means.cost), np.asarray(means.quality)
    asked = np.linspace(cost.min(), cost[quality.argmax()], 9)
    fit = fit_settings(Thresholding(), given, estimator, table, np.append(asked, 9.0), rows=rows)
    for at, budget in enumerate(asked.tolist()):
        best = -np.inf
        for i, j in itertools.product(range(12), repeat=2):
            if cost[i] <= budget <= cost[j]:
                share = (budget - cost[i]) / max(cost[j] - cost[i], 1e-12)
                best = max(best, (1 - share) * quality[i] + share * quality[j])
        assert fit.quality[at] == pytest.approx(best, abs=1e-9)
        assert fit.cost[at] == pytest.approx(budget, rel=1e-9)
    # Beyond the best setting a budget buys nothing.
    assert fit.reach.tolist() == [0] * 9 + [1]
    assert fit.quality[-1] == pytest.approx(quality.max())
    # The settings are among the given, and mix to the means of the fit.
    place = [(fit.parameters[:, side, None] == given).all(-1).argmax(1) for side in (0, 1)]
    np.testing.assert_array_equal(given[place[1]], fit.parameters[:, 1])
    for each, mixed in ((cost, fit.cost), (quality, fit.quality)):
        both = (1 - fit.gamma) * each[place[0]] + fit.gamma * each[place[1]]
        np.testing.assert_allclose(both, mixed, rtol=1e-9)


def test_qualities_of_exactly_0_and_1_are_told_apart_by_thresholds() -> None:
    """Between 0 and the least normal float32 lie thresholds that some programs take for 0."""
    rng = np.random.default_rng(0)
    quality = (rng.random((300, 3)) < [0.4, 0.6, 0.8]).astype(np.float32)
    cost = np.broadcast_to(np.array([1, 3, 9], np.float32), quality.shape).copy()
    table = Table(quality, cost, quality_ante=quality, quality_post=quality)
    rows = np.arange(300)
    budgets = np.array([1.5, 2.5, 4.0])
    drawn = frontier(Thresholding(), table, supplied(table, rows), rows, rows, budgets)
    # Fitted and scored on the same rows, by different programs.
    np.testing.assert_allclose(drawn.cost, budgets, rtol=1e-6)
    np.testing.assert_allclose(drawn.quality, drawn.fit_quality, rtol=1e-6)
    assert not np.any((np.abs(drawn.parameters) < 1e-38) & (drawn.parameters != 0))
