"""Breakpoints, and the one pass over them, held to sorting, argmax and loops in float64."""

import functools
import math
from collections.abc import Callable
from dataclasses import fields, replace
from types import SimpleNamespace
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import plain
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from test_strategies import drawn, swept

from cascjax.core.breakpoints import Breakpoints, SortedSettings
from cascjax.core.random import key_of, weights
from cascjax.core.sweep import has_breakpoints
from cascjax.data.table import Table, mean_rows
from cascjax.engine.blocks import BlockSizes, use_block_sizes
from cascjax.engine.simulate import Totals, grid_means, resampled_sums, totals
from cascjax.estimators import Independent
from cascjax.search import budgets as budget
from cascjax.search.budgets import fit_budgets
from cascjax.strategies import (
    STRATEGIES,
    Cascading,
    Frugal,
    Pandora,
    Routing,
    Strategy,
    Thresholding,
)

Ran: TypeAlias = tuple[np.ndarray, np.ndarray]
"""What has run `[*L, B, K]` and which answers `[*L, B]`."""

STAGED = [kind() for kind in STRATEGIES.values() if kind.has_breakpoints and not kind.sees_truth]

EACH = pytest.mark.parametrize("kind", STAGED, ids=lambda kind: kind.name)

SAME = settings(deadline=None, derandomize=True)
"""The same examples each time, so that a run is one."""


N = 200  # Queries where their number does not matter: one shape compiles once


# A number's place among settings.


counted = jax.jit(lambda ladder, x: ladder.count_below(x))

ROOM, ASKED = 64, 128  # Settings and numbers of each example: one shape compiles once

NORMAL = st.floats(width=32, allow_nan=False, allow_subnormal=False)


@st.composite
def crowds(draw: st.DrawFn) -> np.ndarray:
    """Settings a few bits apart, and some far away, which make the buckets wide."""
    middle = draw(st.floats(-1e6, 1e6, width=32, allow_subnormal=False))
    bits = np.float32(middle).view(np.int32) + np.array(draw(st.lists(st.integers(-40, 40))))
    far = draw(st.lists(NORMAL, max_size=3))
    return np.concatenate([bits.astype(np.int32).view(np.float32), far, [middle]])


def normal(x: np.ndarray) -> np.ndarray:
    """Denormals and nan left out."""
    return x[(x == 0) | (np.abs(x) >= np.finfo(np.float32).tiny)].astype(np.float32)


def assert_counts(values: np.ndarray, more: np.ndarray, room: int, asked: int) -> None:
    rising = np.unique(normal(values))[:room]
    # What ties, and what falls just short of it or beyond.
    with np.errstate(over="ignore"):
        near = [np.nextafter(rising, np.float32(side)) for side in (-np.inf, np.inf)]
    ends = np.array([0.0, -0.0, np.inf, -np.inf])
    x = normal(np.concatenate([more, ends, rising, *near]))[:asked]
    padded = np.append(x, np.zeros(asked - len(x), np.float32))
    found = np.asarray(counted(SortedSettings.of(rising, room), jnp.asarray(padded)))[: len(x)]
    np.testing.assert_array_equal(found, np.searchsorted(rising, x, side="left"))


@SAME
@given(values=st.lists(NORMAL, min_size=1, max_size=40), more=st.lists(NORMAL, max_size=40))
@example(values=[0.0], more=[])
@example(values=[-0.0], more=[])
@example(values=[-0.0, 1.0], more=[-1.0])
@example(values=[np.inf], more=[3e38])
@example(values=[-np.inf, np.inf], more=[-3e38, 3e38])
def test_any_number_finds_its_place_among_any_settings(
    values: list[float], more: list[float]
) -> None:
    assert_counts(np.array(values), np.array(more), ROOM, ASKED)


@SAME
@given(values=crowds())
def test_settings_may_crowd_into_one_bucket(values: np.ndarray) -> None:
    assert_counts(values, np.empty(0), ROOM, 2 * ASKED)


THOUSANDS = {
    "normal": lambda rng: rng.normal(size=4000),
    "over many decades": lambda rng: np.append(0, np.geomspace(1e-30, 1e30, 4000)),
    "both signs": lambda rng: np.outer([-1, 1], np.geomspace(1e-3, 1e3, 2000)).ravel(),
    "crowded": lambda rng: np.append(1 + np.arange(4000) * 2.0**-23, [-1e30, 1e30]),
    "one a bucket": lambda rng: (
        ((0x3A00 + np.arange(4000)) << 16).astype(np.int32).view(np.float32)
    ),
    "no room left": lambda rng: np.linspace(-2, 5, 4096),
}


@pytest.mark.parametrize("name", THOUSANDS)
def test_thousands_of_settings(name: str) -> None:
    rng = np.random.default_rng(0)
    assert_counts(THOUSANDS[name](rng), rng.normal(size=1000), 4096, 16384)


def test_denormals_count_as_themselves_or_as_zero() -> None:
    # XLA may take them for 0, as in any comparison of its own; no more than that is lost.
    tiny = np.finfo(np.float32).tiny
    rising = np.array([-1, -tiny, -1e-40, 0, 1e-45, 1e-40, 2e-40, tiny, 1], np.float32)
    x = np.array([-tiny, -1e-39, -1e-45, 1e-45, 1e-40, 1.5e-40, 2e-40, tiny, 1], np.float32)
    for kept in (rising, normal(rising)):
        found = np.asarray(counted(SortedSettings.of(kept, ROOM), jnp.asarray(x)))
        assert (found >= np.searchsorted(kept, np.minimum(x, normal(x).min()))).all()
        is_tiny = np.abs(x) < tiny
        np.testing.assert_array_equal(found[~is_tiny], np.searchsorted(kept, x[~is_tiny]))
        first, last = np.searchsorted(kept, -tiny, side="right"), np.searchsorted(kept, tiny)
        assert ((found[is_tiny] >= first) & (found[is_tiny] <= last)).all()
        assert (np.diff(found) >= 0).all()


# What is in force at a parameter.


@functools.partial(jax.jit, static_argnums=0)
def on_device(kind: Strategy, estimator: Independent, least: float) -> Breakpoints:
    found = kind.breakpoints(estimator, least)
    assert found is not None
    return replace(found, count=jnp.asarray(found.count))


def breakpoints_of(
    kind: Strategy, estimator: Independent, least: float = -np.inf
) -> SimpleNamespace:
    """The breakpoints on the host, once they are seen to be breakpoints at all."""
    device = on_device(kind, estimator.sized(), least)
    found = SimpleNamespace(**{name: np.asarray(part) for name, part in vars(device).items()})
    n, k = estimator.shape
    assert found.below.shape[1] == found.model.shape[1] == found.answer.shape[1] == n
    assert 1 <= found.count <= len(found.below)
    np.testing.assert_array_equal(found.below[0], np.inf)
    assert (found.below[1:] <= found.below[:-1]).all()
    assert (found.below[found.count :] == -np.inf).all()
    for index in (found.model, found.answer):
        assert ((index >= 0) & (index < k)).all()
    return found


def in_force(found: SimpleNamespace, parameter: np.float32) -> np.ndarray:
    """Each query's step: the last of those with parameter < below."""
    return (parameter < found.below).sum(0) - 1


def outcome_of(kind: Strategy, found: SimpleNamespace, parameter: float, k: int = 5) -> Ran:
    """What a parameter leads to, by the docstring of `Breakpoints`."""
    step = in_force(found, np.float32(-parameter if kind.rising else parameter))
    n = len(step)
    run = np.zeros((n, k), bool)
    for b in range(n):
        first = 0 if found.cumulative else step[b]
        run[b, found.model[first : step[b] + 1, b]] = True
    return run, found.answer[step, np.arange(n)]


def estimates_of_routing(quality: np.ndarray, cost: np.ndarray) -> Independent:
    """All but what routing reads is nan."""
    none = np.full_like(quality, np.nan)
    return Independent(quality, none, none, cost, none)


def assert_routed(quality: np.ndarray, cost: np.ndarray, prices: np.ndarray) -> None:
    """At every price the model in force is worth as much as any, in float64."""
    found = breakpoints_of(Routing(), estimates_of_routing(quality, cost))
    assert not found.cumulative
    np.testing.assert_array_equal(found.model, found.answer)
    each, q, c = np.arange(len(quality)), quality.astype(float), cost.astype(float)
    for price in np.unique(prices.astype(np.float32)):
        worth = q - float(price) * c
        model = found.model[in_force(found, price), each]
        # A slope is two differences and a quotient in float32: 2e-7 of the terms.
        scale = np.abs(q).max(1) + abs(float(price)) * np.abs(c).max(1)
        assert (worth.max(1) - worth[each, model] <= 1e-6 * scale).all()


def collinear(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    x = rng.permuted(np.tile(np.arange(shape[1]), (shape[0], 1)), axis=1)
    return x * 0.3, x * 0.1


KINDS_OF_MODELS: dict[str, Callable[..., tuple[np.ndarray, np.ndarray]]] = {
    "random": lambda rng, shape: (rng.random(shape), rng.lognormal(-3, 2, shape)),
    "same for all": lambda rng, shape: (rng.random(shape), np.ones(shape) * rng.random(shape[1])),
    "equal costs": lambda rng, shape: (rng.random(shape), np.full(shape, 0.1)),
    "equal qualities": lambda rng, shape: (np.full(shape, 0.7), rng.random(shape)),
    "all alike": lambda rng, shape: (np.full(shape, 0.7), np.full(shape, 0.1)),
    "few values": lambda rng, shape: tuple(rng.integers(-2, 3, (2, *shape)) / 2),
    "collinear": collinear,
    "negative costs": lambda rng, shape: tuple(rng.normal(size=(2, *shape))),
    "nearly equal costs": lambda rng, shape: (rng.random(shape), 1 + 1e-6 * rng.random(shape)),
    "many scales": lambda rng, shape: tuple(10 ** rng.uniform(-7, 3, (2, *shape))),
}


@pytest.mark.parametrize("k", [1, 2, 5, 11, 33])
@pytest.mark.parametrize("name", KINDS_OF_MODELS)
def test_routing_by_breakpoints_takes_a_best_model_at_any_price(name: str, k: int) -> None:
    rng = np.random.default_rng(k)
    pair = KINDS_OF_MODELS[name](rng, (64, k))
    quality, cost = (x.astype(np.float32) for x in pair)
    # The slopes themselves are where models tie.
    i, j = rng.integers(k, size=(2, 64))
    rise, run = (x[np.arange(64), i] - x[np.arange(64), j] for x in (quality, cost))
    slopes = np.divide(rise, run, where=run != 0, out=np.zeros_like(rise))
    signed = np.outer([-1, 1], np.geomspace(1e-9, 1e9, 40)).ravel()
    assert_routed(quality, cost, np.concatenate([[0], slopes, signed, rng.normal(size=20)]))


SMALL = hnp.arrays(np.int8, (8, 5), elements=st.integers(-3, 3))


@SAME
@given(quality=SMALL, cost=SMALL)
def test_routing_by_breakpoints_where_almost_all_models_tie(
    quality: np.ndarray, cost: np.ndarray
) -> None:
    # All slopes there can be, and what lies between them.
    slopes = np.unique(np.divide.outer(np.arange(-6.0, 7), np.arange(1.0, 7)))
    between = (slopes[1:] + slopes[:-1]) / 2
    assert_routed(quality.astype(np.float32), cost.astype(np.float32), np.append(slopes, between))


@SAME
@given(seed=st.integers(0, 2**32 - 1), tau=st.floats(-2, 2, width=32, allow_subnormal=False))
def test_thresholding_by_breakpoints_goes_as_deep_as_the_loop(seed: int, tau: float) -> None:
    rng = np.random.default_rng(seed)
    post = rng.choice([-1, -0.25, -0.0, 0, 0.5, 0.5 + 2**-24, 1, tau], (8, 5)).astype(np.float32)
    found = breakpoints_of(Thresholding(), Independent(*[post] * 5, panels=None))
    for at in (tau, *post[0]):
        depth = [next((j for j in range(4) if not row[j] < at), 4) for row in post]
        run, answer = outcome_of(Thresholding(), found, float(at))
        np.testing.assert_array_equal(answer, depth)
        np.testing.assert_array_equal(run, np.arange(5) <= np.array(depth)[:, None])


PARAMETERS = np.array([-0.5, 0.0, 1e-3, 0.02, 0.1, 0.2, 0.4, 0.6, 1.0, 1.3, 7.0, 100.0])


def mixed(n: int, k: int) -> Independent:
    """Sizes that ask for equal panels, and costs of any sign, 0 among them."""
    rng = np.random.default_rng(0)
    sigma = rng.uniform(0.3, 0.5, (n, k)).astype(np.float32)
    cost = (rng.integers(-1, 4, (n, k)) / 8).astype(np.float32)
    return replace(drawn(n, k, seed=3), sigma=sigma, cost_ante=cost).sized()


@pytest.mark.parametrize(
    ("kind", "estimator"),
    [*((kind, drawn(256, 5, seed=1).sized()) for kind in STAGED), (Cascading(), mixed(N, 3))],
    ids=[*(kind.name for kind in STAGED), "cascading in equal panels"],
)
def test_breakpoints_choose_as_the_sweep_does(kind: Strategy, estimator: Independent) -> None:
    found, k = breakpoints_of(kind, estimator), estimator.shape[1]
    outcome = swept(kind, jnp.asarray(PARAMETERS, jnp.float32), estimator)
    differ, depths = 0, set()
    for at, parameter in enumerate(PARAMETERS.tolist()):
        run, answer = outcome_of(kind, found, parameter, k)
        theirs = np.asarray(outcome.run[at]), np.asarray(outcome.answer[at])
        differ += ((run != theirs[0]).any(1) | (answer != theirs[1])).sum()
        depths |= {tuple(row) for row in run}
    # Leads are spread over about 0.1, and rounding moves them by less than 1e-6: of some 3,000
    # choices less than one is expected to fall the other way.
    assert differ <= 1
    assert len(depths) >= (5 if k == 5 else 3)


@EACH
def test_breakpoints_below_the_least_setting_alone_may_be_left_out(
    kind: Strategy,
) -> None:
    queries, left_out = drawn(16, 5, seed=1).sized(), 0
    for b in range(16):
        # One query: of several, breakpoints are there as long as any of them needs them.
        estimator = queries.take(slice(b, b + 1))
        whole = breakpoints_of(kind, estimator)
        for least in (-7.0, 0.05, 0.3, 2.0):
            part = breakpoints_of(kind, estimator, least)
            left_out += whole.count - part.count
            for at in (least + np.append(0, np.geomspace(1e-3, 100, 9))).astype(np.float32):
                same = -float(at) if kind.rising else float(at)
                pair = (outcome_of(kind, one, same) for one in (part, whole))
                for one, other in zip(*pair, strict=True):
                    np.testing.assert_array_equal(one, other)
    assert kind.name != "routing" or left_out > 20


@EACH
def test_what_a_strategy_does_not_read_need_not_be_there(kind: Strategy) -> None:
    estimator, (quality, cost) = drawn(N, 3, seed=5), dyadic(N)
    names = [f.name for f in fields(estimator) if f.name != "panels"]
    unread = [name for name in names if name not in kind.reads]
    assert unread
    estimator = estimator.sized()
    blank = replace(estimator, **{name: np.full_like(cost, np.nan) for name in unread})
    only = estimator.only(kind.reads)
    for name in names:
        np.testing.assert_array_equal(getattr(only, name), getattr(blank, name))
    whole = breakpoints_of(kind, estimator)
    for less in (blank, only):
        for name, same in vars(whole).items():
            np.testing.assert_array_equal(getattr(breakpoints_of(kind, less), name), same)
    found, expected = (totals(kind, SETTINGS, one, quality, cost) for one in (blank, estimator))
    assert_same(found, expected)


# Sums over queries.


def dyadic(n: int, k: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """True qualities and costs, 256ths: what they sum to here, float32 holds exactly."""
    quality, cost = np.random.default_rng(n).integers(-20, 257, (2, n, k)) / 256
    return quality.astype(np.float32), cost.astype(np.float32)


SETTINGS = np.array([0.3, 7.0, 0.02, 1.0, 0.3, 0.0, 0.6, -0.1, 1.3, 0.3])
"""In no order, and some again."""


def recount(run: np.ndarray, answer: np.ndarray, quality: np.ndarray, cost: np.ndarray) -> Totals:
    """Sums of outcomes `[L, B, K]` and `[L, B]`, in float64."""
    k = quality.shape[1]
    return Totals(
        cost=(run * cost.astype(float)).sum((1, 2)),
        quality=np.array([quality.astype(float)[np.arange(len(a)), a].sum() for a in answer]),
        ran=run.sum(1).astype(float),
        answered=np.array([np.bincount(a, minlength=k) for a in answer]).astype(float),
        depth=np.array([np.bincount(r.sum(1), minlength=k + 1)[1:] for r in run]).astype(float),
        count=float(len(quality)),
    )


def assert_same(found: Totals, expected: Totals) -> None:
    for f in fields(found):
        np.testing.assert_array_equal(
            getattr(found, f.name), getattr(expected, f.name), f.name, strict=True
        )


def by_rule(kind: Strategy, parameters: np.ndarray, estimator: Independent) -> Ran:
    """What runs and answers: by rules in float64 where they are short, else by the sweep."""
    ante, post, cost = (
        np.asarray(x, float)
        for x in (estimator.quality_ante, estimator.quality_post, estimator.cost_ante)
    )
    k, at = ante.shape[1], np.asarray(parameters, np.float32).astype(float).reshape(-1, 1, 1)
    if isinstance(kind, Routing):
        answer = (ante - at * cost).argmax(-1)
        return answer[..., None] == np.arange(k), answer
    if isinstance(kind, Thresholding):
        enough = post >= at
        enough[..., -1] = True
        answer = enough.argmax(-1)
        return np.arange(k) <= answer[..., None], answer
    found = swept(kind, jnp.asarray(parameters, jnp.float32).reshape(-1), estimator.sized())
    return np.asarray(found.run), np.asarray(found.answer)


@pytest.mark.parametrize(
    ("kind", "n"),
    [
        *((Routing(), n) for n in (1, 64, 65, 200)),
        *((Thresholding(), n) for n in (5, 20_000)),
        *(pytest.param(Routing(), n, marks=pytest.mark.slow) for n in (5, 63, 20_000)),
    ],
    ids=lambda x: x.name if isinstance(x, Strategy) else str(x),
)
def test_totals_of_any_number_of_queries(kind: Strategy, n: int) -> None:
    estimator, (quality, cost) = drawn(n, 3, seed=n), dyadic(n)
    (run, answer), seen = by_rule(kind, SETTINGS, estimator), []
    found = totals(kind, SETTINGS, estimator, quality, cost, progress=seen.append)
    assert_same(found, recount(run, answer, quality, cost))
    assert sum(seen) == n
    np.testing.assert_array_equal(found.depth.sum(1), n)
    np.testing.assert_array_equal(found.answered.sum(1), n)


ROWS = {
    "all": None,
    "some, in no order, one again": np.append(np.random.default_rng(0).permutation(N)[:150], 7),
    "one again and again": np.full(250, 11),
    "more than there are": np.arange(N + 50) % N,
}

BLOCKS = {"one block": (1 << 14, 1 << 14), "blocks of 64": (64, 64), "chunks of 2": (128, 2)}
"""Queries per block, and per chunk of one."""


@pytest.mark.parametrize(
    ("kind", "blocks"),
    [
        pytest.param(kind, blocks, id=f"{kind.name}-{blocks}", marks=[pytest.mark.slow] * long)
        for kind in STAGED
        for blocks in BLOCKS
        # Blocks of 64 hold each kind to most; other sizes need not do so for each.
        for long in [blocks != "blocks of 64" and kind.name != "thresholding"]
    ],
)
def test_totals_by_breakpoints_are_those_by_sweep_and_by_loops(kind: Strategy, blocks: str) -> None:
    block, chunk = BLOCKS[blocks]
    with use_block_sizes(BlockSizes(chunk * kind.footprint(3), block)):
        check_totals(kind, blocks)


def check_totals(kind: Strategy, blocks: str) -> None:
    estimator, (quality, cost) = drawn(N, 3, seed=5), dyadic(N)
    run, answer = by_rule(kind, SETTINGS, estimator)
    assert len(np.unique(answer)) == 3
    for name, rows in ROWS.items():
        at = np.arange(N) if rows is None else rows
        expected = recount(run[:, at], answer[:, at], quality[at], cost[at])
        for parameters in (SETTINGS, SETTINGS[:, None]):
            found = totals(kind, parameters, estimator, quality, cost, rows=rows)
            assert_same(found, expected)
        if blocks == "blocks of 64":
            spend = totals(kind, SETTINGS, estimator, quality, cost, rows=rows, usage=False)
            np.testing.assert_array_equal(spend.cost, expected.cost, name)
            np.testing.assert_array_equal(spend.quality, expected.quality, name)
            assert not np.size(spend.ran)
    one = totals(kind, SETTINGS[:1], estimator, quality, cost)
    assert_same(one, recount(run[:1], answer[:1], quality, cost))
    if blocks == "blocks of 64":
        plainly = totals(plain.swept_only(kind), SETTINGS, estimator, quality, cost)
        assert_same(plainly, recount(run, answer, quality, cost))


def test_thousands_of_settings_at_once() -> None:
    n, parameters = N, np.random.default_rng(0).permutation(np.geomspace(1e-3, 1e3, 3000))
    estimator, (quality, cost) = drawn(n, 3, seed=6), dyadic(n)
    found = totals(Routing(), parameters, estimator, quality, cost)
    run, answer = by_rule(Routing(), parameters, estimator)
    expected = recount(run, answer, quality, cost)
    # One of 600,000 choices may be a tie of float32, and costs are below 1.1.
    np.testing.assert_allclose(found.cost, expected.cost, atol=1.1)
    assert (found.answered != expected.answered).any(1).sum() <= 1


def test_which_strategies_have_breakpoints() -> None:
    estimator = drawn(4, 3)
    assert {kind.name for kind in STAGED} >= {"routing", "thresholding", "cascading"}
    assert all(has_breakpoints(kind, estimator) for kind in STAGED)
    assert not has_breakpoints(Pandora(), estimator)
    assert not has_breakpoints(Routing(), lambda run: estimator(run))


@EACH
def test_totals_at_the_ends(kind: Strategy) -> None:
    """One query per block, one model, a parameter without end, and one parameter per step."""
    estimator, (quality, cost) = drawn(N, 3, seed=5), dyadic(N)
    (run, answer), seen = by_rule(kind, SETTINGS, estimator), []
    with use_block_sizes(BlockSizes(breakpoint_queries=16, queries=1)):
        found = totals(kind, SETTINGS, estimator, quality, cost, progress=seen.append)
    assert_same(found, recount(run, answer, quality, cost))
    assert (sum(seen), max(seen)) == (N, 16)
    last = np.array([-np.inf if kind.rising else np.inf])
    found = totals(kind, last, estimator, quality, cost)
    np.testing.assert_array_equal(found.depth, [[N, 0, 0]])
    if kind.name != "routing":
        steps = np.array([[0.3, 0.9, 0.1], [1.2, 0.2, 0.6]])
        outcome = swept(kind, jnp.asarray(steps, jnp.float32), estimator.sized())
        went = np.asarray(outcome.run), np.asarray(outcome.answer)
        assert_same(totals(kind, steps, estimator, quality, cost), recount(*went, quality, cost))
    estimator, (quality, cost) = drawn(N, 1, seed=5), dyadic(N, 1)
    always = np.ones((len(SETTINGS), N, 1), bool), np.zeros((len(SETTINGS), N), int)
    found = totals(kind, SETTINGS, estimator, quality, cost)
    assert_same(found, recount(*always, quality, cost))


# What sums lose.


@functools.cache
def a_million() -> tuple[np.ndarray, Independent, np.ndarray]:
    """Prices, a million queries' estimates, and the model each price routes them to."""
    n, prices = 1_000_000, np.array([0.5, 1e3])
    ante = np.random.default_rng(0).random((n, 3)).astype(np.float32)
    cost = np.broadcast_to(np.array([0.1, 0.2, 0.4], np.float32), (n, 3))
    estimator = estimates_of_routing(ante, cost)
    return prices, estimator, by_rule(Routing(), prices, estimator)[1]


MILLIONS = {
    "random": lambda rng, n: rng.random((n, 3)),
    "all 0.1": lambda rng, n: np.full((n, 3), 0.1),
    "many scales": lambda rng, n: 10 ** rng.uniform(-9, 3, (n, 3)),
    "one expensive query a block": lambda rng, n: np.where(
        np.arange(n)[:, None] % 16384, [0.1, 0.3, 0.7], 1000.0
    ),
}


@pytest.mark.parametrize("name", MILLIONS)
def test_a_million_queries_sum_to_nine_digits(name: str) -> None:
    prices, estimator, answer = a_million()
    n = answer.shape[1]
    truth = MILLIONS[name](np.random.default_rng(1), n).astype(np.float32)
    found = totals(Routing(), prices, estimator, truth, truth, usage=False)
    expected = [math.fsum(truth[np.arange(n), one].tolist()) for one in answer]
    np.testing.assert_allclose(found.cost, expected, rtol=1e-9)
    np.testing.assert_allclose(found.quality, expected, rtol=1e-9)


def test_a_hundred_models_sum_as_exactly() -> None:
    n, k = 40_000, 100
    ante = np.random.default_rng(0).random((n, k)).astype(np.float32)
    estimator = estimates_of_routing(ante, np.broadcast_to(np.float32(0.1), (n, k)))
    truth = np.where(np.arange(n)[:, None] % 16384, np.full(k, 0.001), 3.0).astype(np.float32)
    found = totals(Routing(), np.array([0.5]), estimator, truth, truth, usage=False)
    np.testing.assert_allclose(found.cost, math.fsum(truth[:, 0].tolist()), rtol=1e-9)


SPANS = {
    "1e10": 10.0 ** np.array([-7, -2, 3]),
    "1e24": 10.0 ** np.array([-14, 0, 10]),
    "millions of either sign": np.array([-1e6, 1e-3, 3e6]),
}


@pytest.mark.parametrize("n", [300, 20_000])
@pytest.mark.parametrize("span", SPANS)
def test_each_model_sums_to_float64_whatever_others_cost(span: str, n: int) -> None:
    rng, scale, k = np.random.default_rng(0), SPANS[span], 3
    truth = (scale * rng.lognormal(0, 1, (n, k))).astype(np.float32)
    cost, estimated = np.abs(truth), np.full((n, k), 1e-3, np.float32)
    alone = np.array([[math.fsum(column.tolist()) / n for column in x.T] for x in (cost, truth)])
    for model in range(k):
        best = np.broadcast_to(np.arange(k) == model, (n, k)).astype(np.float32)
        estimator = estimates_of_routing(best, estimated)
        found = totals(Routing(), np.array([0.5]), estimator, truth, cost, usage=False).means()
        np.testing.assert_allclose([found.cost, found.quality], alone[:, [model]], rtol=1e-14)
    post = Independent(*[np.zeros((n, k), np.float32)] * 5, panels=None)
    taus = np.array([-1.0, 1.0])
    depths = totals(Thresholding(), taus, post, truth, cost, usage=False).means()
    np.testing.assert_allclose(depths.cost, [alone[0, 0], alone[0].sum()], rtol=1e-14)
    np.testing.assert_allclose(depths.quality, alone[1, [0, 2]], rtol=1e-14)
    singles = np.flatnonzero(np.isin(Frugal().chains(k), 1 << np.arange(k)))
    chains = grid_means(Frugal(), taus, post, truth, cost)[singles, 0]
    np.testing.assert_allclose(chains.T, alone, rtol=1e-14)
    mixture = np.zeros((1, 2)), np.zeros(1)
    sums = resampled_sums(Routing(), *mixture, post, truth, cost, resamples=20, seed=3)
    counts = np.asarray(weights(key_of(3), np.arange(n, dtype=np.uint32), 20), np.float64)
    expected = counts @ np.hstack([cost, truth]).astype(np.float64)
    np.testing.assert_allclose(sums[:, 2:-1], expected, rtol=1e-6)


@EACH
def test_sums_do_not_depend_on_order_nor_blocks_by_a_bit(kind: Strategy) -> None:
    n, rng = 1000, np.random.default_rng(0)
    estimator = drawn(n, 3, seed=5)
    scale = 10 ** rng.uniform(-20, 3, (2, n, 3))
    quality, cost = (scale * rng.choice([-1.0, 1.0], scale.shape)).astype(np.float32)
    first = totals(kind, SETTINGS, estimator, quality, np.abs(cost))
    for block in (64, 512):
        with use_block_sizes(BlockSizes(breakpoint_queries=block, queries=1)):
            rows = rng.permutation(n)
            other = totals(kind, SETTINGS, estimator, quality, np.abs(cost), rows=rows)
        assert_same(other, first)


@pytest.mark.parametrize("k", [9, *(pytest.param(k, marks=pytest.mark.slow) for k in (8, 17))])
def test_cascading_stops_also_where_a_good_model_has_failed(k: int) -> None:
    # The best in hand lies below all that the others may give: every gain starts at its floor.
    n, shape = 64, (64, k)
    post = np.full(shape, 0.99, np.float32)
    post[:, :2] = 0.1, 0.2
    ante, cost = np.full(shape, 0.99, np.float32), np.ones(shape, np.float32)
    estimator = Independent(ante, post, np.full((1, k), 0.1, np.float32), cost, cost)
    prices = np.array([0.5, 5.0, 50.0])
    found = totals(Cascading(), prices, estimator, post, cost)
    plain = totals(Cascading(), prices, replace(estimator, panels=0), post, cost)
    np.testing.assert_array_equal(found.depth, plain.depth)
    np.testing.assert_array_equal(found.cost, [3 * n, n, n])


@pytest.mark.parametrize("rows", [None, np.arange(99_999, 0, -3)], ids=["all", "some"])
def test_means_of_rows_are_float64(rows: np.ndarray | None) -> None:
    rng = np.random.default_rng(0)
    column = (10 ** rng.uniform(-9, 3, (100_000, 3))).astype(np.float32)
    column[:, 1] = 0.1
    part = column if rows is None else column[rows]
    expected = [math.fsum(values.tolist()) / len(part) for values in part.T]
    np.testing.assert_allclose(mean_rows(column, rows), expected, rtol=1e-13)


# Budgets, first looked for on a sample.


def misleading(n: int, every: int) -> tuple[Table, Independent]:
    """Every so many queries is of another kind: more expensive by far, and its good models bad."""
    rng = np.random.default_rng(0)
    quality = rng.beta(2, 2, (n, 3)) * 0.5 + np.array([0.1, 0.3, 0.5])
    cost = np.array([0.01, 0.05, 0.3]) * rng.lognormal(0, 0.4, (n, 3))
    odd = np.arange(n) % every == 0
    quality[odd] = quality[odd, ::-1] - 3
    cost[odd] *= 40
    post = quality + rng.normal(0, 0.05, (n, 3))
    ante = post + 0.2 * rng.standard_normal((n, 3))
    columns = (x.astype(np.float32) for x in (ante, post, np.full((1, 3), 0.2), cost, cost))
    table = Table(quality.astype(np.float32), cost.astype(np.float32), models=("a", "b", "c"))
    return table, Independent(*columns, panels=None)


@pytest.mark.parametrize(
    ("kind", "every", "some"),
    [(Routing(), 8, False), (Thresholding(), 8, True), (Thresholding(), 1 << 20, False)],
    ids=["routing misled", "thresholding misled on some rows", "thresholding"],
)
def test_a_sample_shows_where_to_look_and_no_more(
    kind: Strategy, every: int, some: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    n = 2048
    # The sample takes every eighth of the rows it is given.
    table, estimator = misleading(2 * n if some else n, every)
    rows = np.arange(n)
    cost = table.cost[:n].astype(float)
    best, _ = by_rule(Routing(), np.zeros(1), estimator.take(rows))
    most_expensive = ((best[0] if kind.name == "routing" else 1) * cost).sum(1).mean()
    asked = np.linspace(cost.min(1).mean(), most_expensive, 10)[1:-1]
    asked = np.concatenate([[cost.min(1).mean() / 50], asked, [9 * cost.sum(1).mean()]])
    fits = []
    for sample in (n // 8, n):
        monkeypatch.setattr(budget, "SAMPLE", sample)
        of = rows if some else None
        fits.append(fit_budgets(kind, estimator, table, asked, rows=of, singles=False))
    fit, whole = fits
    np.testing.assert_array_equal(fit.reach, whole.reach)
    met = fit.reach == 0
    assert (fit.reach[0], fit.reach[-1]) == (-1, 1)
    assert met.sum() >= 6
    np.testing.assert_allclose(fit.cost[met], asked[met], rtol=1e-9)
    np.testing.assert_allclose(fit.cost, whole.cost, rtol=1e-6)
    np.testing.assert_allclose(fit.quality, whole.quality, atol=2e-4)
    # By rules that share no code; a query or two may be just about to change its mind.
    runs = [by_rule(kind, p, estimator.take(rows))[0] for p in fit.parameters.T]
    cheap, expensive = ((run * cost).sum((1, 2)) / n for run in runs)
    mixed = (1 - fit.gamma) * cheap + fit.gamma * expensive
    np.testing.assert_allclose(mixed, fit.cost, atol=3 * cost.max() / n)
