"""Resamples held to copies in a loop, to drawing with replacement, to theory and to coverage."""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import plain
import pytest
import test_search
from jax.extend.random import threefry_2x32
from scipy import stats

from cascjax.comparison import Study, compare, frontier
from cascjax.core.random import COUNTS_OF_2_16, MIN_QUERIES, key_of, threefry, weights
from cascjax.core.sweep import rollout
from cascjax.data.table import Table
from cascjax.engine import simulate
from cascjax.engine.blocks import BlockSizes, use_block_sizes
from cascjax.engine.simulate import Resampled, resampled_sums
from cascjax.errors import CascjaxError
from cascjax.metrics import auc
from cascjax.metrics.bootstrap import (
    Bootstrap,
    aucs,
    differences,
    interval,
    queries_needed,
    resampled_means,
)
from cascjax.search.budgets import fit_budgets
from cascjax.strategies import STRATEGIES, Pandora, Routing, Strategy, Thresholding


@functools.cache
def drawn(seed: int, n: int, resamples: int) -> np.ndarray:
    """The weights `[R, n]` of rows 0 to n - 1."""
    rows = np.arange(n, dtype=np.uint32)
    return np.asarray(jax.jit(weights, static_argnums=2)(key_of(seed), rows, resamples))


# The weights.


def test_the_cipher_is_that_of_jax() -> None:
    rng = np.random.default_rng(0)
    key, x, y = (jnp.asarray(rng.integers(0, 2**32, n, np.uint32)) for n in (2, 50, 50))
    found = jnp.concatenate(threefry(key, x, y))
    np.testing.assert_array_equal(found, threefry_2x32(key, jnp.concatenate([x, y])))


def test_the_table_of_weights_is_poisson_with_mean_and_variance_1() -> None:
    above = np.array(COUNTS_OF_2_16)
    assert above.sum() == 1 << 16  # the mean: the sum of P(W > k)
    assert 2 * (above * np.arange(len(above))).sum() == 1 << 16  # E[W (W - 1)], 1 as well
    exact = stats.poisson.sf(np.arange(len(above)), 1)
    np.testing.assert_allclose(above / 2**16, exact, atol=2e-5)


def test_weights_are_as_frequent_as_the_table_says() -> None:
    w = drawn(7, 2000, 1000)
    assert set(np.unique(w)) <= set(range(9))
    above = np.append(np.array(COUNTS_OF_2_16), 0)
    share = np.diff(-np.append(1 << 16, above)) / 2**16
    seen = np.bincount(w.astype(int).ravel(), minlength=9)
    few = share[6:].sum(), seen[6:].sum()
    expected = w.size * np.append(share[:6], few[0])
    _, p_value = stats.chisquare(np.append(seen[:6], few[1]), expected)
    assert p_value > 1e-3


def test_a_weight_is_of_its_seed_row_and_resample_alone() -> None:
    w = drawn(3, 100, 41)
    np.testing.assert_array_equal(drawn(3, 100, 6), w[:6])
    rows = np.array([70, 3, 99], np.uint32)
    np.testing.assert_array_equal(weights(key_of(3), rows, 41), w[:, rows])
    assert (drawn(4, 100, 41) != w).mean() > 0.5
    # Both halves of a seed count.
    assert (drawn(3 + (1 << 32), 100, 41) != w).mean() > 0.5


# Means.


def test_means_are_those_of_copies() -> None:
    rng = np.random.default_rng(0)
    values = np.stack([rng.random(333), rng.lognormal(-8, 2, 333)], axis=1).astype(np.float32)
    means = resampled_means(values, 50, seed=5)
    times = drawn(5, 333, 50).astype(int)
    copies = [np.repeat(values, w, axis=0).mean(0, dtype=np.float64) for w in times]
    np.testing.assert_allclose(means, copies, rtol=1e-6)


def test_means_do_not_depend_on_blocks_or_order() -> None:
    rng = np.random.default_rng(1)
    values, rows = rng.random((9000, 2)).astype(np.float32), rng.permutation(20_000)[:9000]
    means = resampled_means(values, 20, rows=rows)
    order = rng.permutation(9000)
    again = resampled_means(values[order], 20, rows=rows[order])
    np.testing.assert_allclose(again, means, rtol=1e-6)
    np.testing.assert_allclose(resampled_means(values, 20, rows=rows, block=64), means, rtol=1e-6)
    more = resampled_means(values, 21, rows=rows)
    np.testing.assert_allclose(more[:20], means, rtol=1e-6)


def test_means_spread_as_drawing_with_replacement_does() -> None:
    rng = np.random.default_rng(2)
    values = rng.exponential(size=(300, 1)).astype(np.float32)
    means = resampled_means(values, 5000, seed=1)[:, 0]
    loop = [values[rng.integers(0, 300, 300), 0].mean() for _ in range(5000)]
    assert float(np.asarray(stats.ks_2samp(means, loop))[1]) > 1e-3
    # Standard deviations of 5,000 each: known to 1%.
    assert means.std() == pytest.approx(np.std(loop), rel=0.05)
    assert means.std() == pytest.approx(values.std() / np.sqrt(300), rel=0.05)


def test_an_interval_is_that_of_normal_theory() -> None:
    rng = np.random.default_rng(3)
    values = rng.random((4000, 1)).astype(np.float32)
    low, high = interval(resampled_means(values, 4000, seed=9)[:, 0], 0.9)
    error = values.std() / np.sqrt(4000)
    # The 5% quantile of 4,000 resamples is known to 0.033 standard errors: four times that.
    assert (np.array([low, high]) - values.mean()) / error == pytest.approx(
        stats.norm.ppf([0.05, 0.95]), abs=0.14
    )


def test_intervals_by_hand() -> None:
    samples = np.stack([np.arange(101.0), -2 * np.arange(101.0)], axis=1)
    expected = [[5, 95], [-190, -10]]
    np.testing.assert_allclose(interval(samples, 0.9), expected, atol=1e-9)
    np.testing.assert_allclose(interval(samples[:, 0], 0.9), expected[0], atol=1e-9)
    of_pairs = differences(samples.T, 0.9)
    np.testing.assert_array_equal(of_pairs[[0, 1], [0, 1]], 0)
    np.testing.assert_allclose(of_pairs[0, 1], [15, 285], atol=1e-9)
    np.testing.assert_allclose(of_pairs[1, 0], [-285, -15], atol=1e-9)


def test_intervals_of_means_cover() -> None:
    # A thousand data sets of 200 queries: their coverage is known to 0.7%, and percentile
    # intervals of 200 queries are about half a percent short (variance by N, not N - 1).
    rng = np.random.default_rng(4)
    values = rng.gamma(2, 0.5, (200, 1000)).astype(np.float32)
    low, high = interval(resampled_means(values, 1000), 0.95).T
    assert ((low <= 1) & (high >= 1)).mean() == pytest.approx(0.943, abs=0.021)


# AUCs.


def test_intervals_of_area_differences_cover() -> None:
    # Queries of normal costs and qualities around known means, correlated across both
    # strategies; 200 data sets of 150 queries, whose coverage is known to 2.1%.
    sets, n, points = 200, 150, 3
    single = np.array([[0.1, 1.0], [0.3, 0.7]])  # cost, quality of two models
    first = np.array([[0.15, 0.5, 0.9], [0.4, 0.6, 0.7]])
    second = np.array([[0.2, 0.45, 0.95], [0.35, 0.62, 0.68]])
    true = [auc(*s, *single) for s in (first, second)]
    means = np.concatenate([first, second, single], axis=1).reshape(-1)
    rng = np.random.default_rng(5)
    common = rng.normal(0, 0.3, (n, sets, 1))
    values = means + common + rng.normal(0, 0.1, (n, sets, len(means)))
    flat = values.reshape(n, -1).astype(np.float32)
    resampled = resampled_means(flat, 200).reshape(200 * sets, 2, -1)
    cost, quality = resampled[:, 0], resampled[:, 1]
    ends = cost[:, 2 * points :], quality[:, 2 * points :]
    samples = [
        aucs(cost[:, part], quality[:, part], *ends).reshape(200, sets)
        for part in (slice(points), slice(points, 2 * points))
    ]
    low, high = interval(samples[0] - samples[1], 0.9).T
    gap = true[0] - true[1]
    assert ((low <= gap) & (gap <= high)).mean() == pytest.approx(0.9, abs=0.045)
    # What the two have in common cancels: an interval of unpaired resamples is far wider.
    unpaired = interval(samples[0] - samples[1][::-1], 0.9)
    assert np.diff(unpaired).mean() > 1.5 * (high - low).mean()


# Strategies.

R = 45

rolled = functools.partial(jax.jit, static_argnums=0)(rollout)

LONG = ("cascading", "cascade-routing")
"""What takes longest to compile."""


def resampled(kind: Strategy, *given: simulate.Any, **options: simulate.Any) -> Resampled:
    return Resampled.of(resampled_sums(kind, *given, resamples=R, **options), len(given[1]))


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in LONG else n for n in STRATEGIES]
)
def test_resampled_is_what_copies_of_rolled_out_queries_give(name: str) -> None:
    kind = STRATEGIES[name]()
    table, estimator = test_search.world(1)
    estimates = test_search.truth(table) if kind.sees_truth else estimator
    rows = np.random.default_rng(0).permutation(table.n_queries)[:150]
    fit = fit_budgets(kind, estimates, table, test_search.reachable(table, 2), singles=False)
    # Two mixes of two settings far apart, so that gamma counts; and not where a query's choice
    # changes, to a digit. (Of frugal tau, not the chain.)
    parameters = np.stack([fit.parameters[:, 0], fit.parameters[::-1, 1]], axis=1)
    parameters *= {"mixing": 1.0, "frugal": np.array([1, 1.003])}.get(kind.name, 1.003)
    gamma, each = np.array([0.25, 0.6]), []
    for p in parameters.reshape(4, *parameters.shape[2:]):
        run = jnp.zeros(table.quality.shape, bool)
        outcome = rolled(kind, jnp.float32(p), estimates, run)
        cost = np.where(outcome.run, table.cost, 0).sum(1, dtype=np.float64)
        answer = np.asarray(outcome.answer)[:, None]
        each.append([cost, np.take_along_axis(table.quality, answer, 1)[:, 0]])
    pairs = np.array(each).reshape(2, 2, 2, -1)
    mixed = (1 - gamma)[:, None, None] * pairs[:, 0] + gamma[:, None, None] * pairs[:, 1]
    w = np.asarray(weights(key_of(11), rows.astype(np.uint32), R), np.float64)
    w /= w.sum(1, keepdims=True)
    given = (parameters, gamma, estimates, table.quality, table.cost)
    found = resampled(kind, *given, seed=11, rows=rows)
    means = np.einsum("rn,pcn->crp", w, mixed[..., rows])
    np.testing.assert_allclose([found.cost, found.quality], means, rtol=1e-6)
    np.testing.assert_allclose(found.single_cost, w @ table.cost[rows], rtol=1e-6)
    np.testing.assert_allclose(found.single_quality, w @ table.quality[rows], rtol=1e-6)
    # The same resamples that plain values get.
    singles = resampled_means(table.cost[rows], R, 11, rows=rows)
    np.testing.assert_allclose(found.single_cost, singles, rtol=1e-6)


@pytest.mark.parametrize("kind", [Routing(), Pandora(), Thresholding()])
def test_blocks_and_order_do_not_change_resamples(kind: Strategy) -> None:
    table, estimator = test_search.world(2, 1000)
    # More than 64 settings.
    parameters = np.random.default_rng(3).uniform(0.05, 1.5, (40, 2))
    args = kind, parameters, np.linspace(0, 1, 40), estimator, table.quality, table.cost
    whole = resampled(*args)
    with use_block_sizes(BlockSizes(floats=1)):
        blocks = resampled(*args)
    order = resampled(*args, rows=np.random.default_rng(0).permutation(1000))
    for found in (blocks, order):
        for name, values in vars(found).items():
            np.testing.assert_allclose(values, getattr(whole, name), rtol=1e-6)


# Frontiers and studies.


def drawn_study(resamples: int = 200, seed: int = 0, strategies: tuple = ()) -> simulate.Any:
    table, estimator = test_search.world(3, 600)
    split = (np.arange(600) >= 300).astype(np.int8)
    return compare(
        replace(table, split=split), strategies or (Routing(), Pandora(), Routing()), estimator,
        budgets=6, resamples=resamples, confidence=0.9, seed=seed,
    )  # fmt: skip


def test_a_study_has_intervals_around_what_it_found() -> None:
    found, plain = drawn_study(), drawn_study(0)
    assert (found.resamples, found.confidence, plain.resamples) == (200, 0.9, 0)
    assert plain.difference is plain.difference_interval is None
    for f, bare in zip(found.frontiers, plain.frontiers, strict=True):
        assert bare.auc_interval is bare.cost_interval is bare.auc_samples is None
        np.testing.assert_array_equal(f.cost, bare.cost)
        for value, ends in ((f.cost, f.cost_interval), (f.quality, f.quality_interval)):
            assert ((ends[:, 0] < value) & (value < ends[:, 1])).all()
        assert f.auc_interval == tuple(interval(f.auc_samples, 0.9))
        assert f.auc_interval[0] < f.auc < f.auc_interval[1]
        # The middle of the resamples is what was found, but for a tenth of their spread or so.
        assert abs(f.auc_samples.mean() - f.auc) < 0.3 * f.auc_samples.std()
    assert drawn_study(seed=1).frontiers[0].auc_interval != found.frontiers[0].auc_interval


def test_differences_are_paired() -> None:
    found = drawn_study()
    routing, pandora, again = found.frontiers
    # The same strategy drawn twice: no difference in any resample.
    np.testing.assert_array_equal(found.difference_interval[[0, 0, 1], [2, 0, 1]], 0)
    assert found.difference[0, 2] == 0
    assert found.difference[1, 0] == pandora.auc - routing.auc
    paired = interval(pandora.auc_samples - again.auc_samples, 0.9)
    np.testing.assert_array_equal(found.difference_interval[1, 0], paired)
    np.testing.assert_allclose(found.difference_interval[0, 1], -paired[::-1], atol=1e-12)
    unpaired = interval(pandora.auc_samples - np.roll(routing.auc_samples, 1), 0.9)
    assert np.diff(paired) < np.diff(unpaired)
    assert paired[0] < found.difference[1, 0] < paired[1]


# What is refused.


def few() -> np.ndarray:
    return np.zeros((MIN_QUERIES, 1), np.float32)


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "one resample": (lambda: resampled_means(few(), 1), "from 2 to 100,000, not 1"),
    "too many": (lambda: resampled_means(few(), 10**6), "not 1000000"),
    "few queries": (lambda: resampled_means(few()[1:], 9), "29 queries are too few .* least 30"),
    "seed": (lambda: resampled_means(few(), 9, -1), "seed .* not -1"),
    "confidence 0": (lambda: interval(np.zeros(50), 0.0), "between 0 and 1, not 0"),
    "confidence 1": (lambda: interval(np.zeros(50), 1.0), "between 0 and 1, not 1"),
    "few for it": (lambda: interval(np.zeros(39), 0.95), "39 resamples .* 0.95: .* at least 40"),
    "study": (lambda: drawn_study(1), "from 2 to"),
    "less than none": (lambda: drawn_study(-3), "not -3"),
    "study of few": (lambda: drawn_study(19), "19 resamples .* at least 20"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_gives_no_interval_is_refused(name: str) -> None:
    call, words = REFUSED[name]
    with pytest.raises(CascjaxError, match=words):
        call()


def test_a_frontier_of_too_few_queries_says_how_many_are_needed() -> None:
    assert [queries_needed(c) for c in (0.5, 0.95, 0.99, 0.999)] == [30, 40, 200, 2000]
    table, estimator = test_search.world(3, 600)
    rows, budgets = np.arange(600), test_search.reachable(table, 2)
    ask = functools.partial(frontier, Routing(), table, estimator, rows, budgets=budgets)
    with pytest.raises(CascjaxError, match=r"199 queries .* confidence 0.99: .* at least 200"):
        ask(rows[:199], resamples=500, confidence=0.99)
    with pytest.raises(CascjaxError, match="between 0 and 1, not 95"):
        ask(rows, resamples=500, confidence=95.0)


# Refitted.


def split_study(names: list[str], again: bool, n: int = 400) -> tuple[Table, Any, Study]:
    table, estimator = test_search.world(4, n)
    table = replace(table, split=(np.arange(n) % 2).astype(np.int8))
    bootstrap = Bootstrap(60, refit=again)
    return table, estimator, compare(table, names, estimator, budgets=4, resamples=bootstrap)


def test_a_refitted_interval_is_that_of_a_plain_bootstrap_of_both_splits() -> None:
    table, _, study = split_study(["mixing"], True)
    frontier, key = study["mixing"], key_of(0)
    means = []
    for split in (0, 1):
        rows = np.flatnonzero(table.split == split)
        w = np.asarray(weights(key, rows.astype(np.uint32), 60), np.float64)
        w /= w.sum(1, keepdims=True)
        means.append((w @ table.cost[rows], w @ table.quality[rows]))
    cost, quality, samples = np.empty((60, 4)), np.empty((60, 4)), np.empty(60)
    for r in range(60):
        (c, q), (other_c, other_q) = ((x[r], y[r]) for x, y in means)
        hull = plain.upper_hull(c, q)
        places = np.interp(frontier.budget, c[hull], np.arange(len(hull)))
        at = np.arange(len(hull))
        cost[r] = np.interp(places, at, other_c[hull])
        quality[r] = np.interp(places, at, other_q[hull])
        samples[r] = auc(other_c[hull], other_q[hull], other_c, other_q)
    samples += frontier.auc - np.median(samples)
    np.testing.assert_allclose(np.asarray(frontier.auc_samples), samples, rtol=1e-6)
    pairs = (
        (cost, frontier.cost, frontier.cost_interval),
        (quality, frontier.quality, frontier.quality_interval),
    )
    for drawn, value, found in pairs:
        expected = interval(drawn - np.median(drawn, 0) + value, 0.95)
        np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-6)
    assert study.settings["refit"]


def test_refitted_intervals_are_wider_and_hold_the_budgets() -> None:
    fixed, again = (split_study(["routing", "oracle"], refit)[2] for refit in (False, True))
    assert not fixed.settings["refit"]
    for name in ("routing", "oracle"):
        np.testing.assert_array_equal(fixed[name].cost, again[name].cost)
        np.testing.assert_array_equal(fixed[name].budget, again[name].budget)
    spans = [np.ptp(np.asarray(study["routing"].cost_interval), 1) for study in (fixed, again)]
    met = fixed["routing"].reach == 0
    assert met.sum() >= 2
    low, high = np.asarray(again["routing"].cost_interval)[met].T
    assert (low <= fixed["routing"].budget[met] * 1.02).all()
    assert (high >= fixed["routing"].budget[met] * 0.98).all()
    assert spans[1][met].mean() > 0.9 * spans[0][met].mean()
