"""Estimates that depend on all that has run: tables, sweeps and stages held to the plain way."""

import functools
import itertools
import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import plain
import pytest
from scipy import stats

from cascjax.core.estimates import Tabulable
from cascjax.core.expected_max import expected_max
from cascjax.core.sweep import has_breakpoints, rollout
from cascjax.data.table import Table
from cascjax.engine import simulate
from cascjax.engine.blocks import BlockSizes, use_block_sizes
from cascjax.errors import CascjaxError
from cascjax.estimators import Independent, RunSets
from cascjax.estimators.independent import check_estimator
from cascjax.strategies import (
    CascadeRouting,
    Cascading,
    Frugal,
    Mixing,
    Outcome,
    Pandora,
    Routing,
    Strategy,
    Thresholding,
)
from cascjax.strategies.supersets import gains_over, joint_points, run_sets_up_to, supersets

FEATURES, SIGNALS = 3, 1


def runs_of(k: int) -> np.ndarray:
    """`[2**K, K]` what has run under each run set."""
    bits: np.ndarray = np.right_shift(np.arange(2**k)[:, None], np.arange(k)) & 1
    return bits.astype(bool)


def drawn(
    n: int,
    k: int,
    *,
    seed: int = 0,
    folds: int = 1,
    logistic: bool = False,
    cost_moves: bool = False,
) -> RunSets:
    """Random regressions whose estimates truly move with what has run, and random covariances."""
    rng = np.random.default_rng(seed)
    columns = 1 + FEATURES + k * SIGNALS
    needs = np.concatenate([np.zeros((1 + FEATURES, k), bool), np.eye(k, dtype=bool)])
    runs = runs_of(k)
    shown = np.logical_not((needs & ~runs[:, None]).any(-1))
    seen = rng.standard_normal((n, columns))
    seen[:, 0] = 1
    quality = 0.3 * rng.standard_normal((folds, 1, k, columns))
    quality = quality + 0.1 * rng.standard_normal((folds, 2**k, k, columns))
    quality[:, :, range(k), range(1 + FEATURES, columns)] += 0.7  # its own signal tells most
    cost = 0.1 * rng.standard_normal((folds, 2**k if cost_moves else 1, k, columns))
    cost[..., 0] = 1
    cost *= np.geomspace(0.03, 1, k)[:, None]
    if cost_moves:
        cost *= shown[:, None]
    else:
        cost[..., 1 + FEATURES :] = 0
    covariance = np.zeros((2**k, k, k))
    for run_set in range(2**k):
        left = np.flatnonzero(~runs[run_set])
        root = 0.3 * rng.standard_normal((len(left), len(left))) / np.sqrt(max(len(left), 1))
        covariance[run_set][np.ix_(left, left)] = root @ root.T + 0.01 * np.eye(len(left))
    scale = 0.2 if logistic else 1.0
    return RunSets(
        seen.astype(np.float32),
        rng.integers(0, folds, n).astype(np.int32),
        (quality * shown[:, None]).astype(np.float32),
        cost.astype(np.float32),
        (covariance * scale).astype(np.float32),
        (np.geomspace(0.03, 1, k) * rng.lognormal(0, 0.3, (n, k))).astype(np.float32),
        logistic,
    )


def as_run_sets(of: Independent) -> RunSets:
    """Independent estimates written as regressions: each picks one column of what is seen."""
    ante, post, cost_ante = (
        np.asarray(x) for x in (of.quality_ante, of.quality_post, of.cost_ante)
    )
    n, k = ante.shape
    seen = np.concatenate([np.ones((n, 1), np.float32), ante, post, cost_ante], axis=1)
    runs, models = runs_of(k), np.arange(k)
    weights = np.zeros((1, 2**k, k, 1 + 3 * k), np.float32)
    for run_set, run in enumerate(runs):
        weights[0, run_set, models, np.where(run, 1 + k + models, 1 + models)] = 1
    cost = np.zeros((1, 1, k, 1 + 3 * k), np.float32)
    cost[0, 0, models, 1 + 2 * k + models] = 1
    covariance = np.zeros((2**k, k, k), np.float32)
    covariance[:, models, models] = np.where(runs, 0, np.square(np.asarray(of.sigma)))
    fold = np.zeros(n, np.int32)
    return RunSets(seen, fold, weights, cost, covariance, np.asarray(of.cost_post), False)


@functools.partial(jax.jit, static_argnums=0)
def swept(strategy: Strategy, parameters: jax.Array, estimator: Independent | RunSets) -> Outcome:
    return simulate.outcomes(strategy, parameters, estimator, estimator.shape)


@functools.partial(jax.jit, static_argnums=0)
def rolled(strategy: Strategy, parameters: jax.Array, estimator: RunSets) -> Outcome:
    nothing = jnp.zeros((len(estimator.seen), estimator.covariance.shape[-1]), bool)
    return jax.lax.map(lambda p: rollout(strategy, p, estimator, nothing), parameters)


@pytest.mark.parametrize(
    ("k", "folds", "logistic", "cost_moves"), [(2, 1, True, True), (3, 4, False, False)]
)
def test_the_table_is_what_each_run_set_says(
    k: int, folds: int, logistic: bool, cost_moves: bool
) -> None:
    estimator = drawn(50, k, folds=folds, logistic=logistic, cost_moves=cost_moves)
    assert isinstance(estimator, Tabulable)
    asked = np.array([2, 0, 2**k - 1])
    for run_sets in (np.arange(2**k), asked):
        # Without an argument, all of them.
        table = jax.jit(lambda e, of=run_sets: e.tabulate(None if len(of) == 2**k else of))(
            estimator
        )
        assert table.cost.shape[0] == (len(run_sets) if cost_moves else 1)
        for row, run_set in enumerate(run_sets.tolist()):
            run = np.broadcast_to(runs_of(k)[run_set], (50, k))
            believed = estimator(jnp.asarray(run))
            # Sums of seven products of float32.
            np.testing.assert_allclose(table.quality[row].T, believed.quality, atol=2e-6)
            np.testing.assert_array_equal(table.covariance[row], believed.covariance[0])
            cost = table.cost[row if cost_moves else 0].T
            np.testing.assert_allclose(cost[~run], believed.cost[~run], atol=1e-6)
            np.testing.assert_array_equal(believed.cost[run], estimator.cost_run[run])


PRICES = np.array([0.0, 0.01, 0.05, 0.2, 0.6, 3.0], np.float32)
TAUS = np.array([-9, 0.2, 0.45, 0.7, 9], np.float32)


def by_step(k: int, low: float = 0.02, high: float = 0.6) -> np.ndarray:
    rising = np.geomspace(low, high, k, dtype=np.float32)
    return np.stack([rising, rising[::-1]])


KINDS: list[tuple[Strategy, np.ndarray | None]] = [
    (Mixing(), np.array([0, 1], np.float32)),
    (Routing(), PRICES),
    (Thresholding(), TAUS),
    (Thresholding(), None),
    (Frugal(), np.array([[3, 0.45], [1, 0.2], [2, 9], [3, 0.7]], np.float32)),
    (Cascading(), PRICES),
    (Cascading(), None),
    (CascadeRouting(), PRICES),
    (CascadeRouting(), None),
    (CascadeRouting(max_depth=2), PRICES),
    (CascadeRouting(search="greedy"), PRICES[1:]),
    (CascadeRouting(uncertainty=False), PRICES[1:]),
    (Pandora(), PRICES),
    (Pandora(), None),
]
NAMES = [
    f"{kind.name}{'' if parameters is not None else ' by step'} {i}"
    for i, (kind, parameters) in enumerate(KINDS)
]

WORLDS = [
    pytest.param(2, {"logistic": True, "cost_moves": True}, id="2 models"),
    pytest.param(4, {"folds": 3}, id="4 models"),
    pytest.param(5, {"folds": 2, "logistic": True}, id="5 models"),
    pytest.param(3, {"cost_moves": True}, id="3 models"),
]


def most_to_gain(estimator: RunSets, query: int, run: np.ndarray) -> float:
    """The most that any one model more would add to the best of what has run, in expectation."""
    believed = estimator.take(np.array([query]))(jnp.asarray(run[None]))
    quality, covariance = (
        np.asarray(of, np.float64)[0] for of in (believed.quality, believed.covariance)
    )
    left = np.flatnonzero(~run)
    sigma = np.sqrt(np.diag(covariance)[left])
    z = (quality[left] - quality[run].max()) / sigma
    return float((sigma * (stats.norm.pdf(z) + z * stats.norm.cdf(z))).max(initial=0))


QUICK = {"2 models": (0, 1, 2, 3, 4, 9, 11), "4 models": (0, 1, 2, 3, 5, 6, 9, 12)}
"""The kinds of each world that are tried in the unit tier: every one is in one of the two, but for
shortcuts of cascade routing and its steps, which compile longest."""


@pytest.mark.parametrize(
    ("kind", "parameters", "k", "options"),
    [
        pytest.param(
            *kind, *world.values, id=f"{name}-{world.id}",
            marks=[pytest.mark.slow] * (i not in QUICK.get(str(world.id), ())),
        )
        for world in WORLDS
        for i, (kind, name) in enumerate(zip(KINDS, NAMES, strict=True))
    ],
)  # fmt: skip
def test_sweeps_choose_as_rollouts_do(
    kind: Strategy, parameters: np.ndarray | None, k: int, options: dict
) -> None:
    estimator = drawn(150, k, seed=k, **options)
    settings = jnp.asarray(by_step(k) if parameters is None else parameters)
    fast, slow = (way(kind, settings, estimator) for way in (swept, rolled))
    # The same points and closed forms: what differs is what float32 leaves to chance at a tie.
    ran, answered = (
        np.asarray((fast.run == slow.run).all(-1)),
        np.asarray(fast.answer == slow.answer),
    )
    free = np.asarray(settings).reshape(len(settings), -1).min(1) == 0
    assert free.all() or ran[~free].mean() > 0.999
    # Where cost is no object, also a gain of a hair decides, the last bit of a float32: what either
    # way left out was then worth no more than that. It may show more than it was worth, and change
    # the answer.
    assert answered[ran | ~free[:, None]].mean() > 0.999
    for at, query in np.argwhere(~ran & free[:, None]).tolist():
        for way in (fast, slow):
            assert most_to_gain(estimator, query, np.asarray(way.run[at, query])) < 1e-6
    assert np.asarray(slow.run).sum(-1).mean() > 1 or isinstance(kind, Routing | Mixing)


STAGED = [Routing(), Thresholding(), Cascading()]


@pytest.mark.parametrize("kind", STAGED, ids=lambda kind: kind.name)
def test_breakpoints_count_as_sweeps_do(kind: Strategy) -> None:
    n, k = 300, 4
    estimator = drawn(n, k, folds=3, logistic=True)
    rng = np.random.default_rng(0)
    quality, cost = (rng.integers(0, 65, (2, n, k)) / 64).astype(np.float32)
    settings = np.unique(np.concatenate([PRICES, np.geomspace(1e-3, 5, 40)])).astype(np.float32)
    assert has_breakpoints(kind, estimator)
    # Chunks smaller than a block, and several blocks a fold.
    with use_block_sizes(BlockSizes(16 * kind.table_footprint(k), 64)):
        found = simulate.totals(kind, settings, estimator, quality, cost)
    expected = simulate.totals(plain.swept_only(kind), settings, estimator, quality, cost)
    run, answer = simulate.query_outcomes(kind, settings, estimator, (n, k))
    spent, got = simulate.query_spends(kind, settings, estimator, quality, cost)
    # Sums of 64ths are exact; a price may meet the end of a stage, of hundreds, once.
    for one, other in ((found, expected), (expected, None)):
        if other is None:
            by_query = ((run * cost).sum((1, 2)), quality[np.arange(n), answer].sum(1))
            np.testing.assert_allclose(spent.sum(1), by_query[0], rtol=1e-6)
            np.testing.assert_allclose(got.sum(1), by_query[1], rtol=1e-6)
        else:
            by_query = (other.cost, other.quality)
            np.testing.assert_allclose(one.ran, other.ran, atol=1)
        np.testing.assert_allclose(one.cost, by_query[0], atol=1)
        np.testing.assert_allclose(one.quality, by_query[1], atol=1)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(CascadeRouting(), marks=pytest.mark.slow),
        Pandora(),
        pytest.param(Cascading(), marks=pytest.mark.slow),
    ],
    ids=lambda of: of.name,
)
def test_blocks_and_folds_do_not_matter(kind: Strategy) -> None:
    n, k = 300, 3
    estimator = drawn(n, k, folds=3)
    rng = np.random.default_rng(0)
    quality, cost = (rng.integers(0, 65, (2, n, k)) / 64).astype(np.float32)
    rows = rng.permutation(n)[:200]  # in no order
    settings = by_step(k)
    whole = simulate.totals(kind, settings, estimator, quality, cost, rows=rows)
    run, answer = simulate.query_outcomes(kind, settings, estimator, (n, k), rows=rows)
    spent, _ = simulate.query_spends(kind, settings, estimator, quality, cost, rows=rows)
    mixes = np.stack([settings, settings], axis=1)
    given = (kind, mixes, np.array([0.3, 1]), estimator, quality, cost)
    drawn_once = simulate.resampled_sums(*given, resamples=50, rows=rows)
    # As one estimator whose folds are all there at once.
    plain_run = swept(kind, jnp.asarray(settings), estimator.take(rows))
    np.testing.assert_array_equal(run, plain_run.run)
    np.testing.assert_array_equal(answer, plain_run.answer)
    np.testing.assert_allclose(spent, (run * cost[rows]).sum(-1), rtol=1e-6)
    with use_block_sizes(BlockSizes(floats=1, queries=16)):
        cut = simulate.totals(kind, settings, estimator, quality, cost, rows=rows)
        again = simulate.resampled_sums(*given, resamples=50, rows=rows)
    for name in ("cost", "quality", "ran", "answered", "depth", "count"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(cut, name))
    # Sums of float32 in another order.
    np.testing.assert_allclose(drawn_once, again, rtol=1e-5)


@pytest.mark.parametrize("run_models", [pytest.param(0, marks=pytest.mark.slow), 1, 2])
def test_gains_are_those_of_many_points_and_of_clark(run_models: int) -> None:
    n, k = 20, 4
    estimator = drawn(n, k, seed=3)
    table = estimator.tabulate(run_sets_up_to(k, k))
    of = supersets(k, run_models, k)
    here = of.part(table)
    quality, covariance = (np.asarray(x, np.float64) for x in (here.quality, here.covariance))
    floor = None
    if run_models:
        floor = jnp.stack([here.quality[c, ran].max(0) for c, ran in enumerate(of.ran)])
    gain = np.asarray(gains_over(here, of, floor, joint_points(here.covariance)))
    assert gain.shape[1] == 2 ** (k - run_models)
    sigma = np.sqrt(covariance[:, range(k), range(k)]).max()
    errors = []
    for c, a in itertools.product(range(len(of.ran)), range(1, gain.shape[1])):
        mask = of.added[c, a]
        added = np.flatnonzero(mask)
        assert not np.isin(added, of.ran[c]).any()
        assert of.first[c, a] == 1 << added[0]
        with_floor = added if floor is None else np.append(added, of.ran[c][0])
        mean = quality[c][with_floor].T.copy()
        cov = covariance[c][np.ix_(with_floor, with_floor)]
        if floor is not None:
            mean[:, -1] = floor[c]
        many = expected_max(
            jnp.asarray(mean, jnp.float32),
            jnp.broadcast_to(jnp.asarray(cov, jnp.float32), (n, *cov.shape)),
            samples=1 << 14,
        )
        exact = np.asarray(many, np.float64) - (0 if floor is None else np.asarray(floor[c]))
        if len(added) == 1:
            # In closed form: Clark's, with what is in hand as a normal of no variance.
            pair = [mean[q] if floor is not None else np.repeat(mean[q], 2) for q in range(n)]
            both = cov if floor is not None else np.full((2, 2), cov[0, 0])
            clark = [plain.expected_max_of_two(each, both) for each in pair]
            exact = np.array(clark) - (0 if floor is None else np.asarray(floor[c]))
            np.testing.assert_allclose(gain[c, a], exact, atol=2e-6)
        elif floor is None and len(added) == 2:
            clark = [plain.expected_max_of_two(each, cov) for each in mean]
            # The 14 bits of points err by less than 1e-3 of sigma themselves.
            np.testing.assert_allclose(exact, clark, atol=1e-3 * sigma)
            exact = np.array(clark)
        errors.append(gain[c, a] - exact)
    # 128 points: as measured, 0.0065 of sigma in the root mean square, 0.03 at worst.
    assert np.sqrt(np.mean(np.square(errors))) < 0.01 * sigma
    assert np.abs(errors).max() < 0.05 * sigma


@pytest.mark.parametrize("logistic", [False, True])
def test_pandora_recomputes_its_indices_after_each_answer(logistic: bool) -> None:
    n, k = 25, 4
    estimator = drawn(n, k, seed=5, logistic=logistic, cost_moves=True)
    went = swept(Pandora(), jnp.asarray(PRICES[1:5]), estimator)
    believed = {
        run_set: estimator(jnp.broadcast_to(jnp.asarray(run), (n, k)))
        for run_set, run in enumerate(runs_of(k))
    }
    seen = {
        s: tuple(np.asarray(x, np.float64) for x in (of.quality, of.variance, of.cost))
        for s, of in believed.items()
    }
    for (at, price), query in itertools.product(enumerate(PRICES[1:5].tolist()), range(n)):
        run, close = 0, False
        while run != 2**k - 1:
            quality, variance, cost = (x[query] for x in seen[run])
            left = [i for i in range(k) if not run >> i & 1]
            index = {
                i: plain.reservation_value(quality[i], np.sqrt(variance[i]), price * cost[i])
                for i in left
            }
            best = max(left, key=lambda i: index[i])
            in_hand = max((quality[i] for i in range(k) if run >> i & 1), default=-np.inf)
            others = [index[i] for i in left if i != best] + [in_hand]
            # The index is known to 4e-6 of sigma, and a float32 to 1e-7 of itself.
            close |= min(abs(index[best] - other) for other in others) < 1e-5
            if run and in_hand >= index[best]:
                break
            run |= 1 << best
        if not close:
            ran = np.asarray(went.run[at, query])
            assert ran.tolist() == runs_of(k)[run].tolist()
            quality = np.where(runs_of(k)[run], seen[run][0][query], -np.inf)
            assert quality[went.answer[at, query]] >= quality.max() - 1e-6


EXACT = [
    Mixing(),
    Routing(),
    Thresholding(),
    CascadeRouting(search="greedy"),
    CascadeRouting(max_depth=2),
    Cascading(),
    Pandora(),
]


@pytest.mark.parametrize("kind", EXACT, ids=lambda kind: f"{kind.name} {kind.max_steps(3)}")
def test_independent_estimates_written_as_regressions_choose_alike(kind: Strategy) -> None:
    n, k = 400, 3
    rng = np.random.default_rng(1)
    ante = rng.normal(0.5, 0.2, (n, k)) + np.linspace(0, 0.2, k)
    sigma = np.array([[0.1, 0.25, 0.2]])
    post = ante + sigma * rng.standard_normal((n, k))
    cost = np.geomspace(0.05, 1, k) * rng.lognormal(0, 0.3, (n, k))
    columns = (x.astype(np.float32) for x in (ante, post, sigma, cost, cost))
    supplied = Independent(*columns, panels=None)
    settings = np.array([0, 1, 2]) if isinstance(kind, Mixing) else PRICES[1:]
    both = [
        swept(kind, jnp.asarray(settings, jnp.float32), e)
        for e in (supplied, as_run_sets(supplied))
    ]
    alike = np.asarray((both[0].run == both[1].run).all(-1))
    # Two or more models at once are worth what 128 points say: within 0.01 of sigma.
    exact = not isinstance(kind, Cascading) and kind != CascadeRouting(max_depth=2)
    assert alike.mean() > (0.998 if exact else 0.97)
    answers = np.asarray(both[0].answer == both[1].answer)
    assert answers[alike].mean() > 0.999


def refused(change: dict, said: str) -> None:
    estimator = replace(drawn(20, 2, folds=2), **change)
    ones = np.ones((20, 2), np.float32)
    with pytest.raises(CascjaxError, match=re.escape(said)) as info:
        check_estimator(estimator, Table(ones, ones, models=("a", "b")))
    assert "\n" not in str(info.value)


def test_what_is_no_estimate_is_refused() -> None:
    fine = drawn(20, 2, folds=2)
    ones = np.ones((20, 2), np.float32)
    check_estimator(fine, Table(ones, ones, models=("a", "b")))

    def changed(name: str, at: tuple[int, ...], value: float) -> dict:
        array = np.array(getattr(fine, name))
        array[at] = value
        return {name: array}

    refused(changed("quality_weights", (1, 1, 1, 2), np.nan), "'b' once 'a' has run, fold 1")
    refused(changed("cost_weights", (0, 0, 0, 1), np.inf), "cost weight of column 1")
    refused(changed("seen", (7, 3), np.nan), "of query 7")
    refused(changed("cost_run", (3, 1), np.inf), "'b' of query 3")
    refused(changed("fold", (4,), 2), "query 4 is of fold 2")
    refused(changed("covariance", (1, 0, 0), 0.1), "once 'a' has run is 0.1")
    refused(changed("covariance", (0, 0, 1), 5.0), "give symmetric matrices")
    refused(changed("covariance", (2, 0, 0), -0.1), "model 'a' is -0.1 once 'b' has run")
