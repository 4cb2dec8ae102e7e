"""Every strategy against plain loops; pandora against dynamic programming; all against theory."""

import functools
import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import plain
import pytest

from cascjax.core.sweep import outcomes, rollout
from cascjax.errors import CascjaxError
from cascjax.estimators import Estimates, Independent
from cascjax.strategies import (
    STOP,
    STRATEGIES,
    CascadeRouting,
    Cascading,
    Frugal,
    Mixing,
    Oracle,
    Outcome,
    Pandora,
    Routing,
    Strategy,
    Thresholding,
    reservation_value,
    strategy,
)

K, QUERIES, PLAIN = 5, 400, 20
"""Models, queries drawn, and those of them the plain loops go through."""

TIE = 1e-5  # A lead below this is a tie: E[max] in float32 is known to 1e-5 of sigma, here below 1


class Case(NamedTuple):
    """A strategy, its plain version, and the parameters both are asked for."""

    name: str
    strategy: Strategy
    policy: plain.Policy
    parameters: np.ndarray
    last_answers: bool = False


PRICES = np.array([0.02, 0.2, 1.0, 7.0])

BY_STEP = np.stack([np.geomspace(0.03, 0.9, K), np.geomspace(2.0, 0.02, K)])

TAUS = np.array([-9.0, 0.5, 0.9, 9.0])

TAUS_BY_STEP = np.array([[1.2, 0.9, 0.6, 0.3], [0.2, 0.5, 0.8, 1.1]])

CHAINS = np.array([[0b11111, 0.6], [0b10110, 0.9], [0b01001, 9.0], [0b00100, 0.7]])

CHAINS_BY_STEP = np.array([[0b10101, 1.2, 0.6], [0b01011, 0.2, 0.8]])

EXACT, CERTAIN = plain.cascade_routing(), plain.cascade_routing(uncertainty=False)

NARROW = CascadeRouting(search="beam", beam_width=3, max_depth=3)

CASES = [
    Case("mixing", Mixing(), plain.mixing, np.array([0.0, 3.0])),
    Case("routing", Routing(), plain.routing, PRICES),
    Case("thresholding", Thresholding(), plain.thresholding, TAUS, True),
    Case("thresholding by step", Thresholding(), plain.thresholding, TAUS_BY_STEP, True),
    Case("frugal", Frugal(), plain.frugal, CHAINS, True),
    Case("frugal by step", Frugal(max_depth=3), plain.frugal, CHAINS_BY_STEP, True),
    Case("cascading", Cascading(), plain.cascading, PRICES),
    Case("cascading by step", Cascading(), plain.cascading, BY_STEP),
    Case("cascade-routing", CascadeRouting(), EXACT, PRICES),
    Case("cascade-routing by step", CascadeRouting(), EXACT, BY_STEP),
    Case("depth 3", CascadeRouting(max_depth=3), plain.cascade_routing(3), PRICES),
    Case(
        "depth 2 by step", CascadeRouting(max_depth=2), plain.cascade_routing(2),
        np.array([[0.5, 0.05], [0.1, 0.8]]),
    ),
    Case("no uncertainty", CascadeRouting(uncertainty=False), CERTAIN, PRICES),
    Case("greedy", CascadeRouting(search="greedy"), plain.beam(8, 1), PRICES[:3]),
    Case(
        "beam 3, depth 3", NARROW, plain.beam(3, 3, 3),
        np.array([[0.5, 0.05, 0.2], [0.1, 0.8, 0.05]]),
    ),
    # Ten sets of two or of three models, the most of one size: nothing is ever cut.
    Case("beam 10 is exact", CascadeRouting(search="beam", beam_width=10), EXACT, PRICES[:3]),
    Case("pandora", Pandora(), plain.pandora, PRICES),
]  # fmt: skip


def drawn(n: int, k: int, seed: int = 0, certain: float = 0.1) -> Independent:
    """Random estimates, a share of them certain, costs over two orders of magnitude."""
    rng = np.random.default_rng(seed)
    shape = (n, k)
    sigma = rng.uniform(0.2, 0.8, shape) * (rng.random(shape) >= certain)
    ante = rng.normal(0.6, 0.3, shape) + np.linspace(0, 0.3, k)
    post = ante + sigma * rng.standard_normal(shape)
    cost = np.geomspace(0.01, 1, k) * rng.lognormal(0, 0.4, shape)
    columns = (ante, post, sigma, cost, cost * rng.lognormal(0, 0.2, shape))
    return Independent(*(column.astype(np.float32) for column in columns), panels=None)


def queries(estimator: Independent) -> list[plain.Query]:
    rows = zip(*(np.asarray(x, np.float64) for x in jax.tree.leaves(estimator)), strict=True)
    return [plain.Query(*row) for row in rows]


@functools.partial(jax.jit, static_argnums=0)
def swept(strategy: Strategy, parameters: jax.Array, estimator: Independent) -> Outcome:
    return outcomes(strategy, parameters, estimator, estimator.shape)


@functools.partial(jax.jit, static_argnums=0)
def rolled(strategy: Strategy, parameters: jax.Array, estimator: Independent) -> Outcome:
    nothing_run = jnp.zeros(estimator.quality_ante.shape, bool)
    return jax.lax.map(lambda p: rollout(strategy, p, estimator, nothing_run), parameters)


def sized(strategy: Strategy, parameters: jax.Array, estimator: Independent) -> Outcome:
    """The sweep as `totals` runs it: with numerics sized for the estimates."""
    return swept(strategy, parameters, estimator.sized())


def world(way: Callable[..., Outcome]) -> Independent:
    """What a way is tried on: where every estimate is uncertain, sizing finds a shorter way."""
    return drawn(QUERIES, K, certain=0.0 if way is sized else 0.1)


def ways(case: Case) -> dict[str, Callable[..., Outcome]]:
    """Each way a case can be run; a search that is not exact has no sweep of its own."""
    if getattr(case.strategy, "search", "exact") != "exact":
        return {"rollout": rolled}
    # Sizing takes its time to compile: of those that mind it, two.
    more = {"sized": sized} if case.name in ("cascade-routing", "depth 2 by step") else {}
    return {"sweep": swept, "rollout": rolled, **more}


@functools.partial(jax.jit, static_argnums=0)
def next_models(
    strategy: Strategy, price: jax.Array, estimates: Estimates, run: jax.Array
) -> jax.Array:
    return strategy.next_model(price, estimates, run)


def float32(parameters: np.ndarray | float) -> jax.Array:
    return jnp.asarray(parameters, jnp.float32)


def plain_rollouts(case: Case, estimator: Independent) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Run sets `[L, B, K]`, answers and leads `[L, B]` of the first queries, by plain loops."""
    shape = (len(case.parameters), PLAIN)
    run, answer, lead = np.zeros((*shape, K), bool), np.zeros(shape, int), np.zeros(shape)
    for (at, p), (b, query) in itertools.product(
        enumerate(np.asarray(float32(case.parameters), np.float64)),
        enumerate(queries(estimator)[:PLAIN]),
    ):
        chosen, answer[at, b], lead[at, b] = plain.rollout(case.policy, p, query, case.last_answers)
        run[at, b, sorted(chosen)] = True
    return run, answer, lead


SLOW = ("cascade-routing by step", "depth 3", "beam 10 is exact")
"""What compiles long and combines what other cases show one by one."""


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=[pytest.mark.slow] * (case.name in SLOW), id=case.name)
        for case in CASES
    ],
)
def test_sweep_rollout_and_plain_loops_choose_alike(case: Case) -> None:
    found = {}
    for name, way in ways(case).items():
        estimator = world(way)
        outcome = way(case.strategy, float32(case.parameters), estimator)
        run, answer = found[name] = np.asarray(outcome.run), np.asarray(outcome.answer)
        assert (run.sum(-1) >= 1).all()
        assert (run.sum(-1) <= case.strategy.max_steps(K)).all()
        assert np.take_along_axis(run, answer[..., None], -1).all()

        plain_run, plain_answer, lead = plain_rollouts(case, estimator)
        clear = lead > TIE
        assert clear.mean() > 0.97  # else the comparison would say nothing
        np.testing.assert_array_equal(run[:, :PLAIN][clear], plain_run[clear], name)
        np.testing.assert_array_equal(answer[:, :PLAIN][clear], plain_answer[clear], name)
        # Nor would it if all queries were treated alike, unless that is the strategy.
        kinds = np.unique(plain_run.reshape(-1, K), axis=0)
        assert len(kinds) >= (2 if case.name == "mixing" else 4)
    if "sweep" in found:
        (run, answer), (other_run, other_answer) = found["sweep"], found["rollout"]
        differ = (run != other_run).any(-1) | (answer != other_answer)
        # Leads are spread over about 0.1, and rounding moves them by less than 1e-6: of some
        # 5,000 choices less than one is expected to fall the other way.
        assert differ.sum() <= 2


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=[pytest.mark.slow] * (case.name in SLOW), id=case.name)
        for case in CASES
        if getattr(case.strategy, "search", "exact") != "beam" and case.strategy.max_steps(K) > 1
    ],
)
def test_of_equal_answers_that_of_the_first_model_is_returned(case: Case) -> None:
    estimator = world(swept)
    post = np.round(5 * np.asarray(estimator.quality_post)) / 5
    estimator = replace(estimator, quality_post=post.astype(np.float32))
    found = [way(case.strategy, float32(case.parameters), estimator) for way in (swept, rolled)]
    alike = (found[0].run == found[1].run).all(-1)
    assert alike.mean() > 0.99
    np.testing.assert_array_equal(found[0].answer[alike], found[1].answer[alike])
    if not case.last_answers:
        best = np.where(found[0].run, post, -np.inf)
        assert ((best == best.max(-1, keepdims=True)).sum(-1) > 1).any()


def test_every_strategy_is_held_to_plain_loops() -> None:
    assert {type(case.strategy) for case in CASES} | {Oracle} == set(STRATEGIES.values())
    # The oracle is routing, on the truth.
    assert Oracle.sweep is Routing.sweep
    assert Oracle.next_model is Routing.next_model
    assert Oracle.sees_truth
    assert not Routing.sees_truth


# Many models, where supermodels cannot be enumerated.

MANY = [(CascadeRouting(search="greedy"), plain.beam(8, 1))]
MANY += [(CascadeRouting(search="beam", beam_width=4), plain.beam(4, 5))]


@pytest.mark.parametrize(("strategy", "policy"), MANY, ids=["greedy", "beam 4"])
def test_twenty_models(strategy: Strategy, policy: plain.Policy) -> None:
    estimator, prices = drawn(4, 20, seed=2), np.array([0.1, 1.0])
    found = rolled(strategy, float32(prices), estimator)
    clear = 0
    for (at, p), (b, query) in itertools.product(enumerate(prices), enumerate(queries(estimator))):
        run, answer, lead = plain.rollout(policy, np.float64(np.float32(p)), query)
        if lead > TIE:
            clear += 1
            assert set(np.flatnonzero(found.run[at, b]).tolist()) == run
            assert int(found.answer[at, b]) == answer
    assert clear >= 7
    with pytest.raises(CascjaxError, match="too many"):
        rolled(CascadeRouting(), float32(prices), estimator)


def test_greedy_goes_on_exactly_where_exact_does() -> None:
    # E[max] is submodular and cost additive: if no single model pays, no set of models does.
    estimator = drawn(QUERIES, K, seed=3)
    run = jnp.asarray(np.random.default_rng(3).random((QUERIES, K)) < 0.4)
    greedy, exact = (
        np.asarray(next_models(kind, jnp.float32(1), estimator(run), run))
        for kind in (CascadeRouting(search="greedy"), CascadeRouting())
    )
    assert 40 < (greedy == STOP).sum() < QUERIES - 40
    assert ((greedy == STOP) != (exact == STOP)).sum() <= 1  # a tie, see above
    assert (greedy != exact).any()  # and yet they choose differently


def test_wider_beams_reach_more_and_never_more_than_exact() -> None:
    n, k, price = 40, 6, 0.1
    estimator, nothing_run = drawn(n, k, seed=4), jnp.zeros((n, k), bool)
    kinds = [
        CascadeRouting(search="greedy"),
        CascadeRouting(search="beam", beam_width=3),
        CascadeRouting(),
    ]
    estimates = estimator(nothing_run)
    firsts = np.array([next_models(kind, float32(price), estimates, nothing_run) for kind in kinds])
    shortfall = np.zeros(firsts.shape)
    for b in np.flatnonzero((firsts != firsts[-1]).any(0)):
        believed = queries(estimator)[b].believed(frozenset())
        worth = {m: believed.worth(m, price) for m in plain.supersets(k, frozenset(), 5)[1:]}
        best = [max(w for m, w in worth.items() if i in m) for i in range(k)]
        shortfall[:, b] = max(best) - np.array(best)[firsts[:, b]]
    assert shortfall[0].mean() > shortfall[1].mean()
    assert shortfall[-1].max() <= TIE


# Correlated estimates: matrices in place of variances.

AWARE = [
    case for case in CASES if case.name in ("cascading", "cascade-routing", "greedy", "pandora")
]


@pytest.mark.parametrize("case", AWARE, ids=lambda case: case.name)
def test_diagonal_matrices_choose_as_variances_do(case: Case) -> None:
    estimator = drawn(PLAIN, K, seed=5)
    run = jnp.arange(K) < jnp.arange(PLAIN)[:, None] % K
    estimates = estimator(run)
    matrices = Estimates(
        estimates.quality, estimates.covariance[..., None] * jnp.eye(K), estimates.cost
    )
    found = np.asarray(next_models(case.strategy, float32(0.3), matrices, run))
    clear = 0
    for b, query in enumerate(queries(estimator)):
        ran = frozenset(range(b % K))
        choice, lead = case.policy(query.believed(ran), float(np.float32(0.3)), ran)
        # 1024 quasi-random points leave 0.004 of sigma, here at most 0.8, on either worth.
        if lead > 0.01:
            clear += 1
            assert found[b] == (STOP if choice is None else choice)
    assert clear > PLAIN / 2


def test_with_its_twin_in_hand_a_model_has_nothing_left_to_show() -> None:
    # Qualities that move together: once model 0 has run, model 1 is known too. Independent, it
    # might still be better, by E[(Q - 0.5)+] = 0.1 for a cost of 0.02.
    quality, cost = jnp.array([[0.5, 0.45]]), jnp.array([[0.01, 0.02]])
    nothing_run, first_run = jnp.zeros((1, 2), bool), jnp.array([[True, False]])
    together, price = jnp.full((1, 2, 2), 0.09), jnp.float32(1)
    for kind in (CascadeRouting(), Cascading()):
        before = Estimates(quality, together, cost)
        assert int(next_models(kind, price, before, nothing_run)[0]) == 0
        known = Estimates(quality, 0 * together, cost)
        assert int(next_models(kind, price, known, first_run)[0]) == STOP
        alone = Estimates(quality, jnp.diag(jnp.array([0, 0.09]))[None], cost)
        assert int(next_models(kind, price, alone, first_run)[0]) == 1


# Pandora.


@pytest.mark.parametrize("sigma", [1e-3, 0.3, 10.0])
def test_reservation_value_solves_its_equation(sigma: float) -> None:
    mean, deviation = np.float32(0.4), np.float32(sigma)
    cost = (np.geomspace(1e-9, 1e3, 100) * sigma).astype(np.float32)
    found = np.asarray(jax.jit(reservation_value)(mean, deviation, cost), np.float64)
    with mpmath.workdps(40):
        for z, c in zip(found, cost, strict=True):
            u = mpmath.mpf(float(c)) / mpmath.mpf(float(deviation))
            # The loss is convex and falls: from the left Newton's steps never pass the root.
            t, step = -u - 1, mpmath.mpf(1)
            while step > 1e-12:
                loss = mpmath.npdf(t) - t * mpmath.ncdf(-t)
                step = (loss - u) / mpmath.ncdf(-t)
                t += step
            expected = float(mean) + float(deviation) * float(t)
            # 1e-5 of sigma, and the rounding of z and of its terms in float32.
            assert abs(z - expected) <= 1e-5 * sigma + 2e-7 * (abs(expected) + 0.4)


def test_reservation_value_at_its_ends() -> None:
    z = jax.jit(reservation_value)(jnp.float32(0), jnp.float32(1), jnp.geomspace(1e-10, 1e3, 5000))
    assert (np.diff(z) < 4e-6).all()  # its error: it falls with cost
    mean, sigma = jnp.array([0.4, 0.4, 0.4, 0.4]), jnp.array([0.3, 0.3, 0.0, 0.0])
    found = reservation_value(mean, sigma, jnp.array([0.0, -1.0, 0.25, 0.0]))
    np.testing.assert_allclose(found, [np.inf, np.inf, 0.15, np.inf], rtol=1e-6)


def certain(*columns: list[list[float]]) -> Independent:
    return Independent(*(np.array(column, np.float32) for column in columns), panels=None)


@pytest.mark.parametrize("way", [swept, rolled])
def test_ties_and_free_models(way: Callable[..., Outcome]) -> None:
    def run(kind: Strategy, prices: list[float], estimator: Independent) -> list:
        return np.asarray(way(kind, jnp.array(prices), estimator).run).tolist()

    # The same model twice, and nothing to learn: running the second only costs.
    twice, ones = [[0.6, 0.6, 0.1]], [[1.0, 1.0, 1.0]]
    (ran,) = run(Pandora(), [0.1], certain(twice, twice, [[0.0] * 3], ones, ones))
    assert sum(ran[0]) == 1
    assert np.all(run(Pandora(), [0.0] * len(PRICES), drawn(QUERIES, K)))
    # A free model is left where it adds nothing.
    ante, free = [[0.8, 0.5], [0.5, 0.8]], [[0.0, 0.0]] * 2
    estimator = certain(ante, ante, free[:1], free, free)
    assert run(Cascading(), [0.0, 1.0], estimator) == [[[True, False], [True, True]]] * 2
    # Of the same reservation value one runs after the other.
    estimator = certain([[0.5, 0.5]], [[0.0, 0.9]], [[0.3, 0.3]], [[0.1, 0.1]], [[0.1, 0.1]])
    outcome = way(Pandora(), jnp.array([0.3]), estimator)
    assert outcome.run.all()
    assert int(outcome.answer[0, 0]) == 1


def discretised(mean: np.ndarray, sigma: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Probabilities `[K, G]` of each Q_i rounded to the nearest point of a grid."""
    edges = np.concatenate([[-np.inf], (grid[1:] + grid[:-1]) / 2, [np.inf]])
    return np.diff(
        [[plain.ndtr((e - m) / s) for e in edges] for m, s in zip(mean, sigma, strict=True)]
    )


def after_running(chance: np.ndarray, value: np.ndarray) -> np.ndarray:
    """E[value(max(best, Q))] for every best on the grid, Q of the given chances."""
    upward = np.cumsum((chance * value)[::-1])[::-1]
    return np.cumsum(chance) * value + np.append(upward[1:], 0)


def net_value(
    chances: np.ndarray, price: np.ndarray, grid: np.ndarray, policy: dict | None = None
) -> float:
    """Net value of a policy, the model it runs in every run set at every best quality.

    Without one, of the best adaptive policy: dynamic programming over run sets.
    """
    k, values = len(price), {}
    for run in reversed(range(2**k)):
        worth = grid if run else np.full_like(grid, -np.inf)  # something must run
        for i in range(k):
            if not run >> i & 1:
                more = after_running(chances[i], values[run | 1 << i]) - price[i]
                runs = more > worth if policy is None else policy[run] == i
                worth = np.where(runs, more, worth)
        values[run] = worth
    return float(values[0][0])


def chosen_everywhere(
    strategy: Strategy, mean: np.ndarray, sigma: np.ndarray, price: np.ndarray, grid: np.ndarray
) -> dict[int, np.ndarray]:
    """What `next_model` says in every run set at every best quality in hand."""
    k, chosen = len(mean), {}
    for bits in range(2**k):
        run = np.broadcast_to([bool(bits >> i & 1) for i in range(k)], (len(grid), k))
        # One of those run gave the best quality, the others something worse.
        quality = np.where(run, np.minimum(grid[:, None], -9 + 0 * mean), mean)
        if bits:
            quality[:, int(bits).bit_length() - 1] = grid
        estimates = Estimates(
            jnp.asarray(quality, jnp.float32),
            jnp.asarray(np.where(run, 0, sigma**2), jnp.float32),
            jnp.asarray(np.broadcast_to(price, run.shape), jnp.float32),
        )
        chosen[bits] = np.asarray(
            next_models(strategy, jnp.float32(1), estimates, jnp.asarray(run))
        )
    return chosen


@pytest.mark.parametrize(("k", "seed"), [(3, 0), (3, 1), (4, 0), (4, 1)])
def test_pandora_is_the_optimal_adaptive_policy(k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mean, sigma = rng.normal(0, 0.3, k), rng.uniform(0.2, 1, k)
    price, grid = np.sort(rng.uniform(0.01, 0.3, k)), np.linspace(-6, 6, 801)
    chances = discretised(mean, sigma, grid)
    best = net_value(chances, price, grid)
    reached = {
        kind.name: net_value(
            chances, price, grid, chosen_everywhere(kind, mean, sigma, price, grid)
        )
        for kind in (Pandora(), CascadeRouting(), Cascading())
    }
    # Rounding to a step h of the grid shifts z by about h^2 / sigma and what that loses is of
    # second order: below 1e-8. At equality of z and best in hand both choices are worth the same.
    assert best - 1e-6 < reached["pandora"] < best + 1e-12
    assert max(reached["cascade-routing"], reached["cascading"]) < best + 1e-12


def test_weitzmans_rule_is_optimal_on_a_few_points() -> None:
    # The theorem itself, with reservation values by their definition on discrete qualities.
    rng = np.random.default_rng(0)
    grid = np.linspace(-1, 1, 9)
    for _ in range(30):
        k = int(rng.integers(2, 5))
        chances = rng.dirichlet(np.full(len(grid), 0.4), k)
        price = rng.uniform(0.01, 0.4, k)
        z = np.array(
            [discrete_reservation(c, p, grid) for c, p in zip(chances, price, strict=True)]
        )
        policy = {}
        for run in range(2**k):
            left = [i for i in range(k) if not run >> i & 1]
            first = max(left, key=lambda i: z[i], default=STOP)
            must = run == 0
            policy[run] = np.where((z[first] > grid) | must, first, STOP) if left else grid * 0 - 1
        found = net_value(chances, price, grid, policy)
        assert found == pytest.approx(net_value(chances, price, grid), abs=1e-12)


def discrete_reservation(chance: np.ndarray, price: float, grid: np.ndarray) -> float:
    """z of E[(Q - z)+] = price: linear between points, so exact on the piece that crosses."""
    for j in reversed(range(len(grid))):
        gain = float((chance * np.maximum(grid - grid[j], 0)).sum())
        if gain >= price:
            return float(grid[j] + (gain - price) / chance[j + 1 :].sum())
    return float((chance * grid).sum() - price)


# What the theory orders, on draws from the very model believed in.


@pytest.mark.slow
def test_the_order_of_strategies_where_the_model_is_true() -> None:
    n, block, k = 1 << 16, 1 << 11, 3
    rng = np.random.default_rng(7)
    ante = rng.normal([0.4, 0.5, 0.65], 0.15, (n, k))
    sigma = np.array([[0.35, 0.3, 0.25]], np.float32)
    post = ante + sigma * rng.standard_normal((n, k))
    cost = np.array([0.01, 0.05, 0.2]) * rng.lognormal(0, 0.5, (n, k))
    columns = [x.reshape(-1, block, k).astype(np.float32) for x in (ante, post, cost)]
    prices = jnp.array([0.3, 1.0, 3.0])

    @functools.partial(jax.jit, static_argnums=0)
    def net(strategy: Strategy) -> jax.Array:
        def of_block(columns: list[jax.Array]) -> jax.Array:
            ante, post, cost = columns
            estimator = Independent(ante, post, sigma, cost, cost)
            outcome = outcomes(strategy, prices, estimator, (block, k))
            quality = post[jnp.arange(block), outcome.answer]
            return quality - prices[:, None] * jnp.sum(outcome.run * cost, axis=-1)

        return jnp.swapaxes(jax.lax.map(of_block, columns), 0, 1).reshape(len(prices), -1)

    def no_less(better: np.ndarray, worse: np.ndarray) -> np.ndarray:
        lead = better - worse  # paired: each query under both
        return lead.mean(1) >= -3 * lead.std(1) / np.sqrt(n)

    pandora, cascade_routing, cascading, routing = (
        np.asarray(net(kind), np.float64)
        for kind in (Pandora(), CascadeRouting(), Cascading(), Routing())
    )
    assert no_less(pandora, cascade_routing).all()
    assert no_less(cascade_routing, cascading).all()
    assert no_less(cascade_routing, routing).all()
    # And the leads over the simpler ways are real.
    assert not no_less(cascading, pandora).any()
    assert not no_less(routing, cascade_routing).any()


# By name.


def test_strategies_by_name() -> None:
    assert list(STRATEGIES) == [
        "mixing", "routing", "thresholding", "frugal", "cascading", "cascade-routing", "pandora",
        "oracle",
    ]  # fmt: skip
    assert strategy("cascade-routing", max_depth=2) == CascadeRouting(max_depth=2)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("pandra", {}, "pandora"),
        ("routing", {"max_depth": 3}, "max_depth"),
        ("cascade-routing", {"max_depth": 0}, "max_depth"),
        ("frugal", {"max_depth": 0}, "max_depth"),
        ("cascade-routing", {"beam_width": 0}, "beam_width"),
    ],
)
def test_bad_names_and_options_are_refused(name: str, options: dict, message: str) -> None:
    with pytest.raises(CascjaxError, match=message):
        strategy(name, **options)


def test_answers_in_order_by_hand() -> None:
    post = np.array([[0.5, 0.9, 0.2, 0.9], [0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1]], np.float32)
    estimator = Independent(post, post, np.full((1, 4), 0.2, np.float32), post, post)
    assert Thresholding().answers(estimator).T.tolist() == [[0, 1, 2, 3]] * 3
    # The first of equals stays: the last query's first model is never beaten.
    assert Cascading().answers(estimator).T.tolist() == [[0, 1, 1, 1], [0, 1, 2, 3], [0, 0, 0, 0]]
    np.testing.assert_array_equal(Thresholding().limits(estimator), -post[:, :3].T)
