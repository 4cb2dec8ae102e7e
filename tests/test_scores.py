"""The field's scores: on numbers worked by hand, by plain loops, and what must not matter."""

import functools
import itertools
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from cascjax.comparison import Study, compare
from cascjax.core.sweep import rollout
from cascjax.data.table import Table
from cascjax.errors import CascjaxError
from cascjax.estimators import Independent, truth
from cascjax.metrics import SCORES, Evidence, auc, check_scores
from cascjax.metrics.scores import cpt, sound
from cascjax.strategies import Mixing, Oracle, Pandora, Routing, Strategy

# Three models: cheap and poor, of middling cost and best, expensive and second best.
COST, QUALITY = np.array([1.0, 3.0, 5.0]), np.array([0.2, 0.8, 0.7])
STRONG = 1


def given(cost: Any, quality: Any, calls: Any = 0.123, **more: Any) -> Evidence:
    """Evidence of points with these shares of calls to the strong model."""
    ran = np.full((len(quality), len(more.get("single_cost", COST))), 0.123)
    ran[:, STRONG] = calls
    values = {"cost": cost, "quality": quality, "single_cost": COST, "single_quality": QUALITY}
    values |= {"ran": ran} | {name: more.pop(name) for name in [*more] if "single" in name}
    ends = {"floor": (0.9, 0.3), "ceiling": 8.0} | more
    return Evidence(**{name: np.array(x, float) for name, x in values.items()}, **ends)


EQUAL = np.full(3, 0.5)
CALLS, RECOVERED = [0, 0.1, 0.4, 1], [0.2, 0.44, 0.62, 0.8]
"""Weak .2, strong .8: these qualities recover 0, .4, .7, 1 of the gap."""

BY_HAND: list[tuple[str, Evidence, float]] = [
    # The hull goes from (1, .2) to (3, .8), then flat: .2, .5, .8, .8 at 1, 2, 3, 5.
    ("gain", given([1, 2, 3, 5], [0.2, 0.6, 0.85, 0.95]), 0.95 - 0.8),
    ("gain", given([1, 2, 3], [0.2, 0.6, 0.85]), 0.6 - 0.5),
    # Nowhere above: what is missing least.
    ("gain", given([2], [0.4]), -0.1),
    # From (0, .3) to (2, .5) is .4 at the cheapest model's cost, and .5 at 2, where the hull is.
    ("gain", given([0, 2], [0.3, 0.5]), 0.2),
    ("gain", given([0.5], [0.9]), np.nan),
    # The hull of the points leaves out (2, .3), below the line from (1, .2) to (3, .8), and the
    # more expensive but worse (4, .7): a ramp of mean .5 over half of the range, .8 over the other.
    ("aiq", given([1, 2, 3, 4], [0.2, 0.3, 0.8, 0.7]), (0.5 + 0.8) / 2),
    # A concave rising curve is its own hull.
    ("aiq", given([1, 2, 5], [0.2, 0.6, 0.9]), auc([1, 2, 5], [0.2, 0.6, 0.9], COST, QUALITY)),
    # The two cases of ORBIT's own tests: 0.2 * .25 + .6 * .7 + .2 * .9, then (.5 + .9) / 2.
    ("nauc", given([0.2, 0.8], [0.5, 0.9], floor=(0.0, 0.0), ceiling=1.0), 0.65),
    ("nauc", given([0.2, 0.8], [0.5, 0.9], floor=(0.2, 0.5), ceiling=0.8), 0.7),
    # From the cheapest answers at (0, .4): (2, .3) is dominated, (4, .8) and the floor are not;
    # (9, 1) costs more than a query can. A ramp of mean .6 to 4, then .8 to 8.
    ("nauc", given([9, 4, 2], [1, 0.8, 0.3], floor=(0.0, 0.4)), 0.7),
    # No point that counts leaves the floor.
    ("nauc", given([9], [1], floor=(0.0, 0.4)), 0.4),
    # Of points at one cost the best; a point a rounding error below the floor is at it.
    ("nauc", given([-1e-9, 4, 4], [0.5, 0.6, 0.7], floor=(0.0, 0.4)), (0.6 + 0.7) / 2),
    # Nothing to spend: the best of what costs that.
    ("nauc", given([2, 2], [0.4, 0.8], floor=(2.0, 0.1), ceiling=2.0), 0.8),
    ("peak", given([1, 2, 3], [0.3, 0.9, 0.7], floor=(0.0, 0.4)), 0.9),
    ("peak", given([1], [0.3], floor=(0.0, 0.4)), 0.4),
    # The best model: .8 at 3. Points as good: 2.4 and 4; joined, .8 would be had before 2.4.
    ("qnc", given([4, 1, 2.4], [0.9, 0.2, 0.85]), 2.4 / 3),
    # Where everybody's cheapest answer is as good, that is what it costs.
    ("qnc", given([4, 1, 2.4], [0.9, 0.2, 0.85], floor=(0.9, 0.8)), 0.3),
    ("qnc", given([4, 5], [0.7, 0.79]), np.nan),
    # The sum over queries of the very same answers may differ in its last digits.
    ("qnc", given([3], [0.8 - 1e-8]), 1),
    # Two models as good: the cheaper one is what is compared with, and a free one cannot be.
    ("qnc", given([4, 1, 2.4], [0.9, 0.2, 0.85], single_quality=[0.2, 0.8, 0.8]), 2.4 / 3),
    ("qnc", given([4, 1, 2.4], [0.9, 0.2, 0.85], single_cost=[1, 0, 5]), np.nan),
    # .5 is a third of the way from (.1, .4) to (.4, .7), .8 a third from there to (1, 1).
    ("cpt50", given(RECOVERED, RECOVERED, CALLS), 0.2),
    ("cpt80", given(RECOVERED, RECOVERED, CALLS), 0.6),
    ("cpt80", given(RECOVERED[:3], RECOVERED[:3], CALLS[:3]), np.nan),
    # Others are good enough that the strong model need not be called.
    ("cpt80", given([1, 2], [0.3, 0.7], [0, 0]), 0),
    # The first time counts: at .25 the line from (0, 0) to (.5, 1) recovers half, as it does
    # again on the way down to (1, 0).
    ("cpt50", given([1, 2, 3], [0.2, 0.8, 0.2], [0, 0.5, 1]), 0.25),
    # Models as good as each other leave no gap.
    ("cpt50", given([1], [0.5], [0.3], single_quality=EQUAL), np.nan),
    # (0, 0), (.1, .4), (.4, .7), (1, 1): .02 + .165 + .51. Without its ends they are put there.
    ("apgr", given(RECOVERED, RECOVERED, CALLS), 0.695),
    ("apgr", given(RECOVERED[1:3], RECOVERED[1:3], CALLS[1:3]), 0.695),
    # Weak and strong at random recover half; never calling and the strong one's quality, 1.
    ("apgr", given([1, 2], [0.2, 0.8], [0, 1]), 0.5),
    ("apgr", given([1, 2], [0.2, 0.8], [0, 0]), 1),
    ("apgr", given(RECOVERED, RECOVERED, CALLS, single_quality=EQUAL), np.nan),
    # Mixing has .65: .5 over 2 and .8 over 2, of 4.
    ("oracle-gap", given([1], [0.75], oracle=1.05), 1 / 4),
    ("oracle-gap", given([1], [0.55], oracle=1.05), -1 / 4),
    ("oracle-gap", given([1], [1.05], oracle=1.05), 1),
    ("oracle-gap", given([1], [0.75], oracle=0.65), np.nan),
    ("oracle-gap", given([1], [0.75]), np.nan),
]


@pytest.mark.parametrize(("name", "evidence", "expected"), BY_HAND)
def test_by_hand(name: str, evidence: Evidence, expected: float) -> None:
    assert SCORES[name].compute(evidence) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("quality", "calls", "share", "expected"),
    [
        (RECOVERED, CALLS, 0.4, 0.1),
        (RECOVERED, CALLS, 1.0, 1),
        # Every point calls the strong model: half of the way from weak alone to (.3, .8).
        ([0.68], [0.3], 0.4, 0.15),
    ],
)
def test_cpt_of_other_shares(quality: list, calls: list, share: float, expected: float) -> None:
    assert cpt(given(quality, quality, calls), share) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(20))
def test_aiq_is_the_best_mix_of_any_two_points(seed: int) -> None:
    """The hull as RouterBench's code makes it: at each cost the best point or mix of two."""
    rng = np.random.default_rng(seed)
    cost, quality = np.append(1.0, rng.uniform(1, 5, 6)), rng.random(7)
    grid = np.linspace(1, 5, 4001)

    def best(at: float) -> float:
        # Flat extension is to pay more for the same; a mix of two may reach their better one.
        found = quality[cost <= at].max()
        for i, j in itertools.permutations(range(7), 2):
            if cost[i] <= at <= cost[j]:
                t = (at - cost[i]) / (cost[j] - cost[i])
                found = max(found, (1 - t) * quality[i] + t * quality[j])
        return found

    expected = np.trapezoid([best(at) for at in grid], grid) / 4
    # Trapezoids of a thousandth of the range miss kinks by about that squared.
    assert SCORES["aiq"].compute(given(cost, quality)) == pytest.approx(expected, abs=1e-5)


def rci(answer: np.ndarray, quality: np.ndarray, single_cost: np.ndarray) -> float:
    return float(1 - sound(quality, single_cost)[np.arange(len(answer)), answer].mean())


def test_rci_by_hand() -> None:
    # The third model is most expensive on the whole.
    quality = np.array(
        [
            [1, 0, 1],  # a cheaper one is as good: only the first may answer
            [0, 0, 1],  # the most expensive alone is best: it may answer
            [0, 0, 0],  # all fail alike: any but the most expensive
            [1, 0, 0],  # only the first
        ],
        float,
    )
    passes = [[1, 0, 0], [0, 0, 1], [1, 1, 0], [1, 0, 0]]
    assert sound(quality, COST).astype(int).tolist() == passes
    assert rci(np.array([0, 2, 1, 0]), quality, COST) == 0
    assert rci(np.array([2, 1, 2, 1]), quality, COST) == 1


@pytest.mark.parametrize("seed", range(10))
def test_rci_is_that_of_a_loop_over_queries(seed: int) -> None:
    rng = np.random.default_rng(seed)
    quality, answer = rng.integers(0, 3, (50, 4)) / 2, rng.integers(0, 4, 50)
    cost = np.array([1.0, 4.0, 2.0, 4.0]) if seed % 2 else rng.random(4)
    most_expensive, wrong = {k for k in range(4) if cost[k] == cost.max()}, 0
    for row, k in zip(quality, answer.tolist(), strict=True):
        best = {j for j in range(4) if row[j] == row.max()}
        wrong += not (
            (k in best and k not in most_expensive) or (k in best and best <= most_expensive)
        )
    assert rci(answer, quality, cost) == pytest.approx(wrong / 50)


def test_apgr_is_that_of_routellm() -> None:
    """As their code has it: AUCs of the curve, of weak alone and of strong alone, of qualities."""
    rng = np.random.default_rng(0)
    shares = np.append(np.sort(rng.random(8)), 1)
    shares[0] = 0
    quality = np.append(0.2, np.append(np.sort(rng.uniform(0.2, 0.9, 7)), 0.8))
    expected = (np.trapezoid(quality, shares) - 0.2) / (0.8 - 0.2)
    found = SCORES["apgr"].compute(given(quality, quality, shares))
    assert found == pytest.approx(expected)


def test_of_equal_models_the_cheapest_is_strong_or_weak() -> None:
    # Qualities .8, .2, .8, .2 at costs 4, 2, 3, 1: strong is the third, weak the fourth.
    singles = {"single_cost": [4.0, 2, 3, 1], "single_quality": [0.8, 0.2, 0.8, 0.2]}
    evidence = given([1, 2], [0.2, 0.8], 0.9, **singles)
    evidence.ran[:, 2] = [0, 0.5]
    assert SCORES["cpt50"].compute(evidence) == pytest.approx(0.25)


def whole(unit: float = 1.0, order: slice = slice(None)) -> Evidence:
    cost, quality = [1, 2, 3.5, 5], [0.2, 0.62, 0.74, 0.86]
    made = given(cost, quality, [0, 0.2, 0.6, 0.9], collapsed=0.25, oracle=0.9)
    points = {name: getattr(made, name)[order] for name in ("quality", "ran")}
    singles = {"single_cost": unit * COST, "floor": (unit * 0.9, 0.3), "ceiling": unit * 5.5}
    return replace(made, cost=unit * made.cost[order], **points, **singles)


def test_scores_by_name() -> None:
    # The curve: .41 over 1, .68 over 1.5, .8 over 1.5, of 4: 2.63 / 4. Mixing: .65.
    expected = {
        "auc": 2.63 / 4,
        "gain": 0.12,  # at 2, where the hull has .5
        "aiq": 2.63 / 4,  # rising by .42, .08 and .08 a unit of cost: its own hull
        # From (.9, .3) along (2, .62): (1, .2) is dominated. .46 * 1.1 + .68 * 1.5 + .8 * 1.5
        # + .86 * .5, of 4.6.
        "nauc": (0.506 + 1.02 + 1.2 + 0.43) / 4.6,
        "peak": 0.86,
        "qnc": 5 / 3,
        "rci": 0.25,
        # Recovered: 0, .7, .9, 1.1 at shares 0, .2, .6, .9.
        "cpt50": 0.2 * 5 / 7,
        "cpt80": 0.4,
        "apgr": 0.07 + 0.32 + 0.3 + 0.105,
        "oracle-gap": (2.63 / 4 - 0.65) / (0.9 - 0.65),
    }
    assert list(SCORES) == list(expected)
    for name, value in expected.items():
        assert SCORES[name].compute(whole()) == pytest.approx(value, rel=1e-12), name


@pytest.mark.parametrize("name", SCORES)
def test_neither_units_of_cost_nor_order_of_points_matter(name: str) -> None:
    score = SCORES[name].compute
    expected = score(whole())
    assert score(whole(unit=1e-5)) == pytest.approx(expected, rel=1e-9)
    assert score(whole(order=slice(None, None, -1))) == pytest.approx(expected, rel=1e-12)


def test_higher_is_better_where_it_says_so() -> None:
    lower = {name for name, score in SCORES.items() if not score.higher}
    assert lower == {"qnc", "rci", "cpt50", "cpt80"}


def test_names_are_checked() -> None:
    assert check_scores(["qnc", "auc"]) == ("qnc", "auc")
    with pytest.raises(CascjaxError, match=r"unknown score 'oracle_gap'.*'oracle-gap'"):
        check_scores(["oracle_gap"])
    with pytest.raises(CascjaxError, match="'qnc' is listed twice"):
        check_scores(["qnc", "auc", "qnc"])


# Of whole studies.

N = 200
EVALUATE = np.arange(80, N)


@functools.cache
def world() -> tuple[Table, Independent]:
    """A table of answers right or wrong, and estimates of it; models in rising mean cost."""
    rng = np.random.default_rng(5)
    quality = (rng.random((N, 3)) < [0.4, 0.6, 0.7]).astype(np.float32)
    cost = (np.array([1.0, 3, 9]) * rng.lognormal(0, 0.5, (N, 3))).astype(np.float32)
    post = quality + rng.normal(0, 0.2, (N, 3))
    ante = post + rng.normal(0, 0.5, (N, 3))
    sigma = np.full((1, 3), 0.5, np.float32)
    beliefs = Independent(
        ante.astype(np.float32), post.astype(np.float32), sigma, cost.mean(0) + 0 * cost, cost
    )
    return Table(quality, cost, models=("a", "b", "c"), cost_unit="USD"), beliefs


@functools.cache
def scored(strategies: tuple[Strategy, ...] = (Routing(), Pandora())) -> Study:
    table, beliefs = world()
    return compare(split(table), strategies, beliefs, budgets=4, scores=tuple(SCORES))


def split(table: Table) -> Table:
    """The table with the rows to fit on and to evaluate on."""
    return replace(table, split=np.isin(np.arange(N), EVALUATE).astype(np.int8))


def extremes(table: Table) -> tuple[tuple[float, float], float]:
    """Mean cost and quality of the cheapest model of each query, and mean cost of the dearest."""
    cheapest = [min(range(3), key=lambda k, n=n: table.cost[n, k]) for n in EVALUATE]
    taken = list(zip(EVALUATE.tolist(), cheapest, strict=True))
    return (
        float(np.mean([table.cost[n, k] for n, k in taken])),
        float(np.mean([table.quality[n, k] for n, k in taken])),
    ), float(np.mean([max(table.cost[n]) for n in EVALUATE]))


@pytest.mark.parametrize("strategy", [Routing(), Pandora(), Oracle()], ids=lambda s: s.name)
def test_collapse_is_that_of_the_answers_step_by_step(strategy: Strategy) -> None:
    table, beliefs = world()
    drawn = next(
        f for f in scored((Routing(), Pandora(), Oracle())).frontiers if f.strategy == strategy.name
    )
    seen = (truth(table) if strategy.sees_truth else beliefs).take(EVALUATE)
    nothing = jnp.zeros((len(EVALUATE), 3), bool)
    at, single_cost = int(drawn.budget.argmax()), table.cost[EVALUATE].mean(0, dtype=np.float64)
    cheap, expensive = (
        rci(
            np.asarray(rollout(strategy, jnp.float32(p), seen, nothing).answer),
            table.quality[EVALUATE],
            single_cost,
        )
        for p in drawn.parameters[at]
    )
    gamma = drawn.gamma[at]
    assert drawn.scores["rci"] == pytest.approx((1 - gamma) * cheap + gamma * expensive, abs=1e-6)
    assert 0 < drawn.scores["rci"] < 1


def test_scores_of_a_study() -> None:
    table, _ = world()
    found = scored()
    for drawn in found.frontiers:
        assert list(drawn.scores) == list(SCORES)
        assert drawn.scores["auc"] == drawn.auc
        assert drawn.scores["peak"] >= drawn.quality.max()
        singles = found.single_cost, found.single_quality
        curve = drawn.curve_cost, drawn.curve_quality, drawn.curve_ran
        evidence = Evidence(*curve, *singles, *extremes(table))
        assert drawn.scores["cpt50"] == SCORES["cpt50"].compute(evidence)
        want = SCORES["nauc"].compute(evidence)
        assert drawn.scores["nauc"] == pytest.approx(want, rel=1e-6)


def test_the_oracle_is_drawn_where_a_score_needs_it() -> None:
    alone, beside = scored(), scored((Routing(), Pandora(), Oracle()))
    assert [f.strategy for f in alone.frontiers] == ["routing", "pandora"]
    for a, b in zip(alone.frontiers, beside.frontiers, strict=False):
        assert a.scores == b.scores
    assert beside.frontiers[2].scores["oracle-gap"] == pytest.approx(1)


def test_two_models_at_random_score_as_routellms_random_router() -> None:
    table, _ = world()
    table = table.select_models(["a", "c"])
    names = ["cpt50", "cpt80", "apgr"]
    args = split(table), Mixing(), truth(table)
    found = compare(*args, budgets=7, scores=names).frontiers[0].scores
    assert [found[name] for name in names] == pytest.approx([0.5, 0.8, 0.5], abs=1e-6)


def test_no_scores_where_none_is_asked_for_and_unknown_ones_refused() -> None:
    table, beliefs = world()
    plain = compare(table, Routing(), beliefs, budgets=4)
    assert plain.frontiers[0].scores == {}
    with pytest.raises(CascjaxError, match=r"unknown score 'qcn' \(did you mean 'qnc'\?\)"):
        compare(table, Routing(), beliefs, budgets=4, scores=["qcn"])
    asked = compare(table, "routing", beliefs, budgets=4, scores=["qnc", "peak"])
    assert list(asked.frontiers[0].scores) == ["qnc", "peak"]
