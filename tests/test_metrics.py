"""AUCs, budgets and hulls, by hand and by plain loops."""

import numpy as np
import plain
import pytest

from cascjax.errors import CascjaxError
from cascjax.metrics import auc, budgets, upper_hull

LOW_HIGH = (np.array([1.0, 3.0]), np.array([0.2, 0.8]))  # two models: cost, quality

BY_HAND = {
    # One line from (1, .2) to (3, .8).
    "a line": ([1, 3], [0.2, 0.8], 0.5),
    # Flat at .6 right of 2: half of a ramp of mean .4, half of .6.
    "flat on the right": ([1, 2], [0.2, 0.6], 0.5),
    # Nothing left of 2: joined to (1, .2), then a ramp from .6 to .8.
    "joined on the left": ([2, 3], [0.6, 0.8], 0.55),
    # One point in the middle: a ramp from .2 to .6, then flat.
    "one point": ([2], [0.6], 0.5),
    # Points outside: from (0, 0) to (4, 1) is .25 at 1 and .75 at 3.
    "clipped": ([0, 4], [0, 1], 0.5),
    # In any order.
    "unsorted": ([3, 1, 2], [0.8, 0.2, 0.8], (0.5 + 0.8) / 2),
    # All left of the range, flat.
    "all cheap": ([0.1, 0.5], [0.3, 0.4], 0.4),
    # All right of it: the ramp from (1, .2) to (5, 1) as far as 3 is .2 to .6.
    "all expensive": ([5], [1.0], 0.4),
    # Of points at one cost the best counts on the right.
    "one cost": ([2, 2, 1], [0.7, 0.3, 0.3], (0.3 + 0.7) / 2),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_area_by_hand(name: str) -> None:
    cost, quality, expected = BY_HAND[name]
    assert auc(cost, quality, *LOW_HIGH) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(40))
def test_area_is_that_of_plain_segments(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cost, quality = rng.uniform(0, 10, 7), rng.random(7)
    single_cost, single_quality = rng.uniform(1, 9, 4), rng.random(4)
    found = auc(cost, quality, single_cost, single_quality)
    ends = single_cost.min(), single_cost.max(), single_quality.min()
    assert found == pytest.approx(plain.auc(cost, quality, *ends), abs=1e-12)
    # Neither the order of the points nor the units of cost matter.
    order = rng.permutation(7)
    same = auc(9 * cost[order], quality[order], 9 * single_cost, single_quality)
    assert found == pytest.approx(same, abs=1e-12)


def test_area_of_nothing_to_trade_is_refused() -> None:
    with pytest.raises(CascjaxError, match="same mean cost"):
        auc(*np.ones((4, 3)))


@pytest.mark.parametrize("seed", range(60))
def test_hull_is_what_no_point_or_mix_beats(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cost, quality = rng.random(9), rng.random(9)
    if seed % 3 == 0:  # costs and qualities that stand twice; few points on a line
        cost, quality = rng.integers(0, 5, 9) / 7, rng.integers(0, 7, 9) * rng.random()
        _, first = np.unique(np.stack([cost, quality]), axis=1, return_index=True)
        cost, quality = cost[first], quality[first]
    assert upper_hull(cost, quality).tolist() == plain.upper_hull(cost, quality)


def test_hull_of_models_of_one_quality_is_the_cheapest() -> None:
    assert upper_hull(np.array([2.0, 1.0, 3.0]), np.full(3, 0.5)).tolist() == [1]


def test_budgets_by_hand() -> None:
    cost, quality = np.array([1.0, 4.0, 2.0, 3.0]), np.array([0.1, 0.9, 0.6, 0.2])
    # The model of cost 3 is below the hull: gaps 1 to 2 and 2 to 4, an end shared.
    paper = budgets(cost, quality, grid="paper")
    np.testing.assert_allclose(paper, np.append(np.linspace(1, 2, 10), np.linspace(2, 4, 10)[1:]))
    np.testing.assert_allclose(budgets(cost, quality, count=4), [1, 2, 3, 4])
    # By default the whole range, with the hull: also where that is one model.
    evenly = np.linspace(1, 4, 20)
    np.testing.assert_allclose(budgets(cost, quality), np.sort([*evenly, 2]))
    np.testing.assert_allclose(budgets(cost, -cost), evenly)
    np.testing.assert_allclose(budgets(cost, -cost, grid="paper"), [1])
