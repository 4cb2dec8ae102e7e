"""The field's scores: on numbers worked by hand, by plain loops, and what must not matter."""

import functools
import itertools
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from cascjax.comparison import Study, compare
from cascjax.core.sweep import rollout
from cascjax.data.table import Table
from cascjax.errors import CascjaxError
from cascjax.estimators import Independent, truth
from cascjax.metrics import SCORES, Evidence, auc, check_scores
from cascjax.metrics.scores import aiq, apgr, cpt, gain, nauc, oracle_gap, peak, qnc, rci, sound
from cascjax.strategies import Mixing, Oracle, Pandora, Routing, Strategy

# Three models: cheap and poor, of middling cost and best, expensive and second best.
COST, QUALITY = np.array([1.0, 3.0, 5.0]), np.array([0.2, 0.8, 0.7])
WEAK, STRONG = 0, 1


def array(*values: float) -> np.ndarray:
    return np.array(values, float)


def calls(*shares: float, model: int = STRONG) -> np.ndarray:
    """`ran` where only the calls of one of three models matter."""
    ran = np.full((len(shares), 3), 0.123)
    ran[:, model] = shares
    return ran


def test_gain_by_hand() -> None:
    # The hull goes from (1, .2) to (3, .8), then flat: .2, .5, .8, .8 at 1, 2, 3, 5.
    cost, quality = array(1, 2, 3, 5), array(0.2, 0.6, 0.85, 0.95)
    assert gain(cost, quality, COST, QUALITY) == pytest.approx(0.95 - 0.8)
    assert gain(cost[:3], quality[:3], COST, QUALITY) == pytest.approx(0.6 - 0.5)
    # Nowhere above: what is missing least.
    assert gain(array(2), array(0.4), COST, QUALITY) == pytest.approx(-0.1)
    # From (0, .3) to (2, .5) is .4 at the cheapest model's cost, and .5 at 2, where the hull is.
    assert gain(array(0, 2), array(0.3, 0.5), COST, QUALITY) == pytest.approx(0.2)
    assert np.isnan(gain(array(0.5), array(0.9), COST, QUALITY))


def test_aiq_by_hand() -> None:
    # The hull of the points leaves out (2, .3), below the line from (1, .2) to (3, .8), and the
    # more expensive but worse (4, .7): a ramp of mean .5 over half of the range, .8 over the other.
    cost, quality = array(1, 2, 3, 4), array(0.2, 0.3, 0.8, 0.7)
    assert aiq(cost, quality, COST, QUALITY) == pytest.approx((0.5 + 0.8) / 2)
    # A concave rising curve is its own hull.
    cost, quality = array(1, 2, 5), array(0.2, 0.6, 0.9)
    assert aiq(cost, quality, COST, QUALITY) == pytest.approx(auc(cost, quality, COST, QUALITY))


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
    assert aiq(cost, quality, COST, QUALITY) == pytest.approx(expected, abs=1e-5)


def test_nauc_by_hand() -> None:
    # The two cases of ORBIT's own tests: 0.2 * .25 + .6 * .7 + .2 * .9, then (.5 + .9) / 2.
    cost, quality = array(0.2, 0.8), array(0.5, 0.9)
    assert nauc(cost, quality, (0.0, 0.0), 1.0) == pytest.approx(0.65)
    assert nauc(cost, quality, (0.2, 0.5), 0.8) == pytest.approx(0.7)
    # From the cheapest answers at (0, .4): (2, .3) is dominated, (4, .8) and the floor are not;
    # (9, 1) costs more than a query can. A ramp of mean .6 to 4, then .8 to 8.
    cost, quality = array(9, 4, 2), array(1, 0.8, 0.3)
    assert nauc(cost, quality, (0.0, 0.4), 8.0) == pytest.approx(0.7)
    # No point that counts leaves the floor.
    assert nauc(array(9), array(1), (0.0, 0.4), 8.0) == pytest.approx(0.4)
    # Of points at one cost the best; a point a rounding error below the floor is at it.
    cost, quality = array(-1e-9, 4, 4), array(0.5, 0.6, 0.7)
    assert nauc(cost, quality, (0.0, 0.4), 8.0) == pytest.approx((0.6 + 0.7) / 2)
    # Nothing to spend: the best of what costs that.
    assert nauc(array(2, 2), array(0.4, 0.8), (2.0, 0.1), 2.0) == 0.8


def test_peak_by_hand() -> None:
    assert peak(array(0.3, 0.9, 0.7), (0.0, 0.4)) == 0.9
    assert peak(array(0.3), (0.0, 0.4)) == 0.4


def test_qnc_by_hand() -> None:
    # The best model: .8 at 3. Points as good: 2.4 and 4; joined, .8 would be had before 2.4.
    cost, quality = array(4, 1, 2.4), array(0.9, 0.2, 0.85)
    floor = (0.9, 0.3)
    assert qnc(cost, quality, COST, QUALITY, floor) == pytest.approx(2.4 / 3)
    # Where everybody's cheapest answer is as good, that is what it costs.
    assert qnc(cost, quality, COST, QUALITY, (0.9, 0.8)) == pytest.approx(0.3)
    assert np.isnan(qnc(array(4, 5), array(0.7, 0.79), COST, QUALITY, floor))
    # The sum over queries of the very same answers may differ in its last digits.
    assert qnc(array(3), array(0.8 - 1e-8), COST, QUALITY, floor) == pytest.approx(1)
    # Two models as good: the cheaper one is what is compared with, and a free one cannot be.
    twice = array(0.2, 0.8, 0.8)
    assert qnc(cost, quality, COST, twice, floor) == pytest.approx(2.4 / 3)
    assert np.isnan(qnc(cost, quality, array(1, 0, 5), QUALITY, floor))


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
    always = [rci(np.full(4, k), quality, COST) for k in range(3)]
    assert always == [1 / 4, 3 / 4, 3 / 4]
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


def test_cpt_by_hand() -> None:
    # Weak .2, strong .8: qualities .2, .44, .62, .8 recover 0, .4, .7, 1 of the gap.
    ran, quality = calls(0, 0.1, 0.4, 1), array(0.2, 0.44, 0.62, 0.8)
    # .5 is a third of the way from (.1, .4) to (.4, .7), .8 a third from there to (1, 1).
    assert cpt(quality, ran, COST, QUALITY, 0.5) == pytest.approx(0.2)
    assert cpt(quality, ran, COST, QUALITY, 0.8) == pytest.approx(0.6)
    assert cpt(quality, ran, COST, QUALITY, 0.4) == pytest.approx(0.1)
    assert cpt(quality, ran, COST, QUALITY, 1.0) == pytest.approx(1)
    assert np.isnan(cpt(quality[:3], ran[:3], COST, QUALITY, 0.8))


def test_cpt_of_other_curves() -> None:
    # Every point calls the strong model: half of the way from weak alone to (.3, .8).
    assert cpt(array(0.68), calls(0.3), COST, QUALITY, 0.4) == pytest.approx(0.15)
    # Others are good enough that it need not be called.
    assert cpt(array(0.3, 0.7), calls(0, 0), COST, QUALITY, 0.8) == 0
    # The first time counts: at .25 the line from (0, 0) to (.5, 1) recovers half, as it does
    # again on the way down to (1, 0).
    assert cpt(array(0.2, 0.8, 0.2), calls(0, 0.5, 1), COST, QUALITY, 0.5) == pytest.approx(0.25)
    # Models as good as each other leave no gap.
    assert np.isnan(cpt(array(0.5), calls(0.3), COST, np.full(3, 0.5), 0.5))


def test_apgr_by_hand() -> None:
    # (0, 0), (.1, .4), (.4, .7), (1, 1): .02 + .165 + .51.
    ran, quality = calls(0, 0.1, 0.4, 1), array(0.2, 0.44, 0.62, 0.8)
    assert apgr(quality, ran, COST, QUALITY) == pytest.approx(0.695)
    # Without its ends they are put there.
    assert apgr(quality[1:3], ran[1:3], COST, QUALITY) == pytest.approx(0.695)
    # Weak and strong at random recover half; never calling and the strong one's quality, 1.
    assert apgr(array(0.2, 0.8), calls(0, 1), COST, QUALITY) == pytest.approx(0.5)
    assert apgr(array(0.2, 0.8), calls(0, 0), COST, QUALITY) == pytest.approx(1)
    assert np.isnan(apgr(quality, ran, COST, np.full(3, 0.5)))


def test_apgr_is_that_of_routellm() -> None:
    """As their code has it: AUCs of the curve, of weak alone and of strong alone, of qualities."""
    rng = np.random.default_rng(0)
    shares = np.append(np.sort(rng.random(8)), 1)
    shares[0] = 0
    quality = np.append(0.2, np.append(np.sort(rng.uniform(0.2, 0.9, 7)), 0.8))
    under = np.trapezoid(quality, shares)
    expected = (under - 0.2) / (0.8 - 0.2)
    assert apgr(quality, calls(*shares), COST, QUALITY) == pytest.approx(expected)


def test_of_equal_models_the_cheapest_is_strong_or_weak() -> None:
    # Qualities .8, .2, .8, .2 at costs 4, 2, 3, 1: strong is the third, weak the fourth.
    cost, quality = array(4, 2, 3, 1), array(0.8, 0.2, 0.8, 0.2)
    ran = np.array([[0.9, 0.9, 0, 0.9], [0.9, 0.9, 0.5, 0.9]])
    assert cpt(array(0.2, 0.8), ran, cost, quality, 0.5) == pytest.approx(0.25)


def test_oracle_gap_by_hand() -> None:
    assert oracle_gap(0.7, 0.6, 1.0) == pytest.approx(1 / 4)
    assert oracle_gap(0.5, 0.6, 1.0) == pytest.approx(-1 / 4)
    assert oracle_gap(1.0, 0.6, 1.0) == pytest.approx(1)
    assert np.isnan(oracle_gap(0.7, 0.7, 0.7))
    assert np.isnan(oracle_gap(0.7, 0.6, np.nan))


def evidence(unit: float = 1.0, order: slice = slice(None)) -> Evidence:
    cost, quality = array(1, 2, 3.5, 5), array(0.2, 0.62, 0.74, 0.86)
    return Evidence(
        cost=unit * cost[order],
        quality=quality[order],
        ran=calls(0, 0.2, 0.6, 0.9)[order],
        single_cost=unit * COST,
        single_quality=QUALITY,
        floor=(unit * 0.9, 0.3),
        ceiling=unit * 5.5,
        collapsed=0.25,
        oracle=0.9,
    )


def test_scores_by_name() -> None:
    # The curve: .41 over 1, .68 over 1.5, .8 over 1.5, of 4: 2.63 / 4. Mixing: .5 over 2 and
    # .8 over 2, of 4: .65.
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
        assert SCORES[name].of(evidence()) == pytest.approx(value, rel=1e-12), name


@pytest.mark.parametrize("name", SCORES)
def test_neither_units_of_cost_nor_order_of_points_matter(name: str) -> None:
    score = SCORES[name].of
    expected = score(evidence())
    assert score(evidence(unit=1e-5)) == pytest.approx(expected, rel=1e-9)
    assert score(evidence(order=slice(None, None, -1))) == pytest.approx(expected, rel=1e-12)


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
    cost = (array(1, 3, 9) * rng.lognormal(0, 0.5, (N, 3))).astype(np.float32)
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
        args = drawn.quality, drawn.ran, found.single_cost, found.single_quality
        assert drawn.scores["cpt50"] == cpt(*args, 0.5)
        assert drawn.scores["cpt80"] == cpt(*args, 0.8)
        want = nauc(drawn.cost, drawn.quality, *extremes(table))
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
    asked = compare(table, "routing", budgets=4, scores=["qnc", "peak"])
    assert list(asked.frontiers[0].scores) == ["qnc", "peak"]
