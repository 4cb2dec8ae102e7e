"""Synthetic synthetic: reproducible row by row, and calibrated by construction."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Bool, Float
from scipy.special import ndtr

from cascjax.data.table import Table
from cascjax.errors import CascjaxError
from cascjax.synthetic import (
    ANSWER_EFFORT,
    ANSWER_SPREAD,
    FIRST_TOKEN_SPREAD,
    PROMPT_TOKENS,
    QUALITIES,
    SIGNAL_NAMES,
    Dataset,
    batches,
    make_dataset,
    sample,
)

N = 1 << 17

# Standard errors a mean may lie off: one sound mean in 150,000 does, and the tests
# look at some hundreds, whose draws the seeds hold fixed.
ERRORS = 4.5


@pytest.fixture(scope="module", params=QUALITIES)
def drawn(request: pytest.FixtureRequest) -> tuple[Dataset, Table]:
    world = make_dataset(quality=request.param)
    return world, sample(world, 0, N, features=True)


def assert_same(one: Table | Dataset, other: Table | Dataset) -> None:
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for left, right in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(left, right)


def assert_centred(
    values: Float[np.ndarray, "N K"], where: Bool[np.ndarray, "N K"] | None = None
) -> None:
    """Each column's mean (over `where`) is 0 within `ERRORS` of its own standard errors."""
    for k, column in enumerate(values.T):
        part = column if where is None else column[where[:, k]]
        if len(part) >= 200:  # fewer are not yet near Gaussian
            assert abs(part.mean()) < ERRORS * part.std() / np.sqrt(len(part)) + 1e-6


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(1, 50_000),
    batch=st.integers(500, 60_000),
    features=st.booleans(),
    seconds=st.booleans(),
)
def test_batch_size_does_not_change_rows(n: int, batch: int, features: bool, seconds: bool) -> None:
    world = make_dataset(n_models=3)
    tables = list(batches(world, n, 5, batch, features=features, seconds=seconds))
    sizes = [table.n_queries for table in tables]
    assert sizes == [min(batch, n - start) for start in range(0, n, batch)]
    joined = jax.tree.map(lambda *columns: np.concatenate(columns), *tables)
    assert_same(joined, sample(world, 5, n, features=features, seconds=seconds))


def test_one_row_batches() -> None:
    world = make_dataset(n_models=2)
    tables = list(batches(world, 20, 0, 1))
    assert len(tables) == 20
    assert_same(tables[7], sample(world, 0, 20).take(np.array([7])))


def test_rows_depend_on_the_seed_and_their_number_alone() -> None:
    world = make_dataset()
    small, large = sample(world, 1, 1_000), sample(world, 1, 40_000)
    assert_same(small, large.take(np.arange(1_000)))
    assert not np.array_equal(small.cost, sample(world, 2, 1_000).cost)
    # Blocks have streams of their own.
    assert np.unique(large.cost[:, 0]).size > 39_900


def test_world_is_a_function_of_its_seed() -> None:
    assert_same(make_dataset(seed=3), make_dataset(seed=3))
    assert not np.array_equal(make_dataset(seed=3).ability, make_dataset(seed=4).ability)
    # How quality is scored and estimated does not change who the models are.
    graded = make_dataset(seed=3, quality="graded", judge_noise=2.0)
    np.testing.assert_array_equal(graded.ability, make_dataset(seed=3).ability)


@given(n_models=st.integers(2, 30), n_domains=st.integers(1, 20), seed=st.integers(0, 2**40))
@settings(max_examples=50, deadline=None)
def test_world_is_well_formed(n_models: int, n_domains: int, seed: int) -> None:
    world = make_dataset(n_models, seed, n_domains=n_domains)
    assert world.n_models == len(set(world.models)) == n_models
    assert len(set(world.domains)) == n_domains
    assert world.ability.shape == (n_models, n_domains)
    assert world.domain_weights.sum() == pytest.approx(1, abs=1e-5)
    mean_cost = world.price_prompt * PROMPT_TOKENS + world.price_answer * world.answer_tokens
    assert (np.diff(mean_cost) >= 0).all()
    assert (world.price_prompt > 0).all()
    assert (world.answer_tokens > 0).all()


def test_columns(drawn: tuple[Dataset, Table]) -> None:
    world, table = drawn
    K, D = world.ability.shape
    for name in ("quality", "cost", "quality_ante", "quality_post", "cost_ante", "cost_post"):
        column = getattr(table, name)
        assert column.shape == (N, K)
        assert column.dtype == np.float32
        assert np.isfinite(column).all()
        assert (column > 0 if "cost" in name else (column >= 0) & (column <= 1)).all()
    np.testing.assert_array_equal(table.cost_post, table.cost)
    assert table.models == world.models
    assert table.cost_unit == "USD"
    assert table.groups == world.domains
    assert table.features is not None
    assert table.features.shape == (N, 2 + D) == (N, len(table.feature_names))
    assert table.signals is not None
    assert table.signals.shape == (N, K * len(SIGNAL_NAMES))
    assert table.features.dtype == table.signals.dtype == np.float32
    assert table.group is not None
    np.testing.assert_array_equal(table.features[:, 2:].argmax(1), table.group)
    assert table.split is None


def test_features_change_nothing_else() -> None:
    world = make_dataset()
    plain, full = sample(world, 0, 100), sample(world, 0, 100, features=True)
    assert plain.features is None
    assert plain.signals is None
    bare = dataclasses.replace(full, features=None, signals=None, feature_names=(), signal_names=())
    assert_same(plain, bare)


@pytest.mark.parametrize("features", [False, True])
def test_seconds_change_nothing_else(features: bool) -> None:
    world = make_dataset()
    plain, timed = (sample(world, 0, 100, features=features, seconds=s) for s in (False, True))
    assert not plain.extra_costs
    assert list(timed.extra_costs) == ["seconds"]
    assert timed.extra_cost_units == (("seconds", "s"),)
    assert_same(plain, dataclasses.replace(timed, extra_costs={}, extra_cost_units=()))


def test_a_world_is_what_it_was_before_it_had_seconds() -> None:
    # Written down from the version before; other numbers are another world under the same seed.
    weights = [0.2004588, 0.1607495, 0.3181662, 0.3206255]
    tokens = [221.6051, 281.7527, 286.0066, 352.8476, 319.9550]
    cost = [1.422595e-05, 8.075620e-05, 3.132865e-04, 4.822760e-04, 4.368044e-03]
    world = make_dataset()
    np.testing.assert_allclose(world.domain_weights, weights, rtol=1e-5)
    np.testing.assert_allclose(world.answer_tokens, tokens, rtol=1e-5)
    np.testing.assert_allclose(sample(world, 0, 1, seconds=True).cost[0], cost, rtol=1e-5)


def test_seconds_are_first_token_and_tokens_by_speed() -> None:
    world = make_dataset(n_models=4, seed=2)
    table = sample(world, 0, N, features=True, seconds=True)
    seconds = table.extra_costs["seconds"]
    assert seconds.dtype == np.float32
    assert table.signals is not None
    tokens = np.exp(table.signals.reshape(N, 4, -1)[:, :, 1].astype(np.float64))
    first = seconds - tokens / world.speed
    # What the tokens leave is lognormal, of the stated mean and spread, and knows no tokens.
    log = np.log(first[(first > 1e-3).all(axis=1)])
    assert len(log) > 0.999 * N
    assert_centred(first / world.first_token - 1)
    np.testing.assert_allclose(log.std(0), FIRST_TOKEN_SPREAD, rtol=0.02)
    assert_centred((first / world.first_token - 1) * (tokens / world.answer_tokens - 1))
    assert_centred(seconds / (world.first_token + world.answer_tokens / world.speed) - 1)


def test_dear_models_are_slower_on_the_whole_but_not_one_by_one() -> None:
    synthetic = [make_dataset(seed=seed) for seed in range(100)]
    seconds = np.array([w.first_token + w.answer_tokens / w.speed for w in synthetic])
    rising = np.diff(seconds, axis=1) >= 0
    assert rising.mean() > 0.6
    assert rising.all(axis=1).mean() < 0.4
    assert not rising[0].all()  # nor in the world of every default
    assert (np.median(seconds, axis=0)[[0, -1]] > 0.5).all()
    assert np.median(seconds[:, -1] / seconds[:, 0]) > 3


def test_quality_kinds() -> None:
    binary = sample(make_dataset(), 0, 20_000).quality
    graded = sample(make_dataset(quality="graded"), 0, 20_000).quality
    assert set(np.unique(binary)) == {0, 1}
    assert np.unique(graded).size > 50_000
    # Right or wrong is drawn with the grade as its probability: one mean, more spread.
    np.testing.assert_allclose(binary.mean(0), graded.mean(0), atol=0.02)
    assert (graded.std(0) < binary.std(0)).all()


def test_means_are_those_of_the_formula(drawn: tuple[Dataset, Table]) -> None:
    world, table = drawn
    a = world.discrimination
    by_domain = ndtr(a * world.ability / np.sqrt(1 + world.interaction**2 + a**2))
    assert_centred(table.quality - by_domain @ world.domain_weights)
    mean_cost = world.price_prompt * PROMPT_TOKENS + world.price_answer * world.answer_tokens
    assert_centred(table.cost / mean_cost - 1)
    assert table.group is not None
    for d, weight in enumerate(world.domain_weights):
        assert_centred((table.group == d)[:, None] - weight)


def test_seeds_agree_on_the_means(drawn: tuple[Dataset, Table]) -> None:
    world, table = drawn
    other = sample(world, 1, N)
    assert_centred(table.quality - other.quality)
    assert_centred((table.cost - other.cost) / table.cost.mean(0))


def test_estimates_are_calibrated(drawn: tuple[Dataset, Table]) -> None:
    _, table = drawn
    for estimate in (table.quality_ante, table.quality_post):
        assert estimate is not None
        error = table.quality - estimate
        for low in np.arange(0, 1, 0.1):
            assert_centred(error, where=(estimate >= low) & (estimate < low + 0.1))
        assert table.group is not None
        for d in range(len(table.groups)):
            assert_centred(error, where=np.broadcast_to((table.group == d)[:, None], error.shape))


def test_estimates_are_a_martingale(drawn: tuple[Dataset, Table]) -> None:
    _, table = drawn
    assert table.quality_ante is not None
    assert table.quality_post is not None
    for low in np.arange(0, 1, 0.1):
        where = (table.quality_ante >= low) & (table.quality_ante < low + 0.1)
        assert_centred(table.quality_post - table.quality_ante, where)
    # Each look at a query tells more of it.
    ante_error, post_error = (
        np.square(table.quality - e).mean(0) for e in (table.quality_ante, table.quality_post)
    )
    assert (post_error < 0.6 * ante_error).all()
    assert (ante_error < 0.9 * table.quality.var(0)).all()


@pytest.mark.parametrize("difficulty_noise", [0.4, 3.0])
def test_expected_cost_is_calibrated(difficulty_noise: float) -> None:
    table = sample(make_dataset(difficulty_noise=difficulty_noise), 0, N)
    assert table.cost_ante is not None
    edges = np.quantile(table.cost_ante, np.linspace(0, 1, 6), axis=0)
    for low, high in itertools.pairwise(edges):
        where = (table.cost_ante >= low) & (table.cost_ante < high)
        assert_centred(table.cost / table.cost_ante - 1, where)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    quality=st.sampled_from(QUALITIES),
    discrimination=st.floats(0.3, 4),
    interaction=st.floats(0, 2),
    difficulty_noise=st.floats(0, 3),
    judge_noise=st.floats(0.05, 5),
)
def test_calibration_holds_for_any_noise(
    quality: str,
    discrimination: float,
    interaction: float,
    difficulty_noise: float,
    judge_noise: float,
) -> None:
    world = make_dataset(
        n_models=3,
        quality=quality,
        discrimination=discrimination,
        interaction=interaction,
        difficulty_noise=difficulty_noise,
        judge_noise=judge_noise,
    )
    table = sample(world, 0, 16_000)
    assert table.quality_ante is not None
    assert table.quality_post is not None
    for estimate in (table.quality_ante, table.quality_post):
        assert_centred(table.quality - estimate)
        # Uncorrelated with itself: the error of a conditional mean is orthogonal to it.
        assert_centred((table.quality - estimate) * (estimate - estimate.mean(0)))


def test_costs_have_a_long_tail(drawn: tuple[Dataset, Table]) -> None:
    _, table = drawn
    assert (np.quantile(table.cost, 0.99, axis=0) > 5 * np.median(table.cost, axis=0)).all()
    # A prompt is every model's, so are the costs it drives.
    correlation = np.corrcoef(np.log(table.cost), rowvar=False)
    assert (correlation > 0.05).all()


def test_hard_queries_get_long_answers(drawn: tuple[Dataset, Table]) -> None:
    world, table = drawn
    assert table.features is not None
    assert table.signals is not None
    log_tokens = table.signals.reshape(N, world.n_models, -1)[:, :, 1]
    expected = ANSWER_EFFORT / np.hypot(ANSWER_EFFORT, ANSWER_SPREAD)
    expected /= np.sqrt(1 + world.difficulty_noise**2)
    for k in range(world.n_models):
        seen = np.corrcoef(table.features[:, 0], log_tokens[:, k])[0, 1]
        assert seen == pytest.approx(expected, abs=ERRORS / np.sqrt(N))


@pytest.mark.parametrize("quality", QUALITIES)
def test_default_world_rewards_routing(quality: str) -> None:
    table = sample(make_dataset(quality=quality), 1, 20_000)
    assert table.quality_ante is not None
    assert table.cost_ante is not None
    cost, skill = table.cost.mean(0), table.quality.mean(0)
    assert 0.3 < skill.min() < 0.55
    assert 0.75 < skill.max() < 0.95
    assert cost.max() > 50 * cost.min()
    rows = np.arange(table.n_queries)
    for price in (30, 100, 300):
        choice = (table.quality_ante - price * table.cost_ante).argmax(1)
        spent, gained = (x[rows, choice].mean() for x in (table.cost, table.quality))
        # Mixing: the best any two single models give at the same mean cost.
        mixed = max(
            np.interp(spent, cost[[i, j]], skill[[i, j]])
            for j in range(table.n_models)
            for i in range(j)
            if cost[i] <= spent <= cost[j]
        )
        assert gained > mixed + 0.02


@pytest.mark.parametrize(
    "settings",
    [
        {"n_models": 1},
        {"n_domains": 0},
        {"seed": -1},
        {"quality": "grade"},
        {"discrimination": 0.0},
        {"interaction": -0.1},
        {"difficulty_noise": float("nan")},
        {"judge_noise": 0.0},
        {"judge_noise": float("inf")},
    ],
)
def test_bad_worlds_name_the_argument(settings: dict) -> None:
    with pytest.raises(CascjaxError, match=next(iter(settings))) as caught:
        make_dataset(**settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("n", "seed", "batch", "named"), [(0, 0, 5, "n "), (9, -1, 5, "seed"), (9, 0, 0, "batch")]
)
def test_bad_sizes_are_named_before_the_first_table(
    n: int, seed: int, batch: int, named: str
) -> None:
    with pytest.raises(CascjaxError, match=named):
        batches(make_dataset(), n, seed, batch)
