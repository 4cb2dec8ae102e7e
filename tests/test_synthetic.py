"""Synthetic datasets: reproducible row by row, as they state, and with known posteriors."""

import dataclasses
import itertools
import math
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Bool, Float
from scipy.special import ndtr
from scipy.stats import multivariate_normal

import cascjax
from cascjax.data.table import Table, upper_hull
from cascjax.errors import CascjaxError
from cascjax.synthetic import KINDS, batches, known_posterior, make_dataset, sample
from cascjax.synthetic.answers import FREE, NO_IDENTITY, AnswerDataset
from cascjax.synthetic.base import FIRST_TOKEN_SPREAD
from cascjax.synthetic.judged import (
    PROMPT_TOKENS,
    QUALITIES,
    SIGNAL_NAMES,
    JudgedDataset,
)
from cascjax.synthetic.routerbench import MODELS, PAPER_CHOICES

ANSWERING = tuple(kind for kind in KINDS if kind != "judged")
SUPPLIED = ("swebench", "code-math", "classification", "open-form")
N, N_ANSWERS = 1 << 17, 1 << 16
BINS = tuple(np.arange(0, 1, 0.2))

# Standard errors by which a mean may be off: a sound mean exceeds them with probability 7e-6, and
# the tests look at some thousands of means, whose draws the seeds fix.
ERRORS = 4.5


def answers(kind: str, n_models: int = 4, seed: int = 0) -> AnswerDataset:
    dataset = make_dataset(n_models, seed, kind=kind)
    assert isinstance(dataset, AnswerDataset)
    return dataset


def judges(n_models: int = 5, seed: int = 0, **options: Any) -> JudgedDataset:
    dataset = make_dataset(n_models, seed, **options)
    assert isinstance(dataset, JudgedDataset)
    return dataset


@pytest.fixture(scope="module", params=QUALITIES)
def judged(request: pytest.FixtureRequest) -> tuple[JudgedDataset, Table]:
    dataset = judges(quality=request.param)
    return dataset, sample(dataset, 0, N, features=True)


@pytest.fixture(scope="module", params=ANSWERING)
def drawn(request: pytest.FixtureRequest) -> tuple[AnswerDataset, Table]:
    dataset = answers(request.param)
    return dataset, sample(dataset, 0, N_ANSWERS, features=True)


def assert_centred(
    values: Float[np.ndarray, "N K"],
    where: Bool[np.ndarray, "N K"] | None = None,
    atol: float = 1e-6,
) -> None:
    """Each column's mean (over `where`) is 0 within `ERRORS` of its own standard errors."""
    for k, column in enumerate(values.T):
        part = column if where is None else column[where[:, k]]
        if len(part) >= 200:  # fewer are not yet near Gaussian
            assert abs(part.mean()) < ERRORS * part.std() / np.sqrt(len(part)) + atol


def assert_expected(
    right: Float[np.ndarray, "N K"],
    probability: Float[np.ndarray, "N K"],
    where: Bool[np.ndarray, "N K"] | None = None,
) -> None:
    """Answers are right as often as their probabilities say, within `ERRORS`."""
    for k in range(right.shape[1]):
        rows = slice(None) if where is None else where[:, k]
        p, n_right = probability[rows, k], right[rows, k].sum(dtype=np.float64)
        if (variance := (p * (1 - p)).sum()) >= 20:  # less is not yet near Gaussian
            assert abs(n_right - p.sum()) < ERRORS * np.sqrt(variance)


def random_runs(n: int, n_models: int) -> Bool[np.ndarray, "N K"]:
    """A run set per query, from none to all models."""
    rng = np.random.default_rng(9)
    return rng.random((n, n_models)) < rng.random((n, 1)) * 1.2


def in_group(table: Table, g: int) -> np.ndarray:
    return np.flatnonzero(np.asarray(table.group) == g)


def correct(
    dataset: JudgedDataset | AnswerDataset, table: Table, quality: Float[np.ndarray, "N K"]
) -> Float[np.ndarray, "N K"]:
    """Qualities on a scale where 0 is a wrong answer and 1 a right one."""
    if not isinstance(dataset, AnswerDataset):
        return quality
    wrong, right = dataset.scores.T[:, table.group, None]
    return (quality - wrong) / (right - wrong)


def signal(dataset: AnswerDataset, table: Table, name: str) -> Float[np.ndarray, "N K"]:
    by_model = np.asarray(table.signals).reshape(table.n_queries, dataset.n_models, -1)
    return by_model[..., dataset.signal_names.index(name)].astype(np.float64)


def mean_quality(dataset: AnswerDataset) -> Float[np.ndarray, " K"]:
    right = (1 - dataset.refusal) * dataset.rate.mean(-1)
    wrong_score, right_score = dataset.scores.T
    return (wrong_score + (right_score - wrong_score) * right) @ dataset.group_weights


def estimates(table: Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    assert table.quality_ante is not None
    assert table.quality_post is not None
    assert table.cost_ante is not None
    return table.quality_ante, table.quality_post, table.cost_ante


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=5, deadline=None)
@given(
    n=st.integers(1, 40_000),
    batch=st.integers(700, 40_000),
    features=st.booleans(),
    seconds=st.booleans(),
)
def test_a_small_table_is_the_head_of_a_large_one(
    kind: str, n: int, batch: int, features: bool, seconds: bool
) -> None:
    dataset = make_dataset(2, kind=kind)
    tables = list(batches(dataset, n, 5, batch, features=features, seconds=seconds))
    assert [t.n_queries for t in tables] == [min(batch, n - start) for start in range(0, n, batch)]
    joined = jax.tree.map(lambda *columns: np.concatenate(columns), *tables)
    large = sample(dataset, 5, 40_000, features=features, seconds=seconds)
    assert joined == large.take(np.arange(n))
    assert next(itertools.islice(batches(dataset, 20, 5, 1), 7, 8)) == sample(dataset, 5, 20).take(
        np.array([7])
    )


@pytest.mark.parametrize("kind", KINDS)
def test_features_and_seconds_change_nothing_else(kind: str) -> None:
    dataset = make_dataset(kind=kind)
    plain, full = sample(dataset, 1, 300), sample(dataset, 1, 300, features=True, seconds=True)
    bare = dataclasses.replace(
        full, features=None, signals=None, answer=None, feature_names=(), signal_names=(),
        extra_costs={}, extra_cost_units=(),
    )  # fmt: skip
    assert plain == bare
    assert full.extra_cost_units == (("seconds", "s"),)
    assert (full.extra_costs["seconds"] > 0).all()
    assert not np.array_equal(plain.cost, sample(dataset, 2, 300).cost)
    assert np.unique(sample(dataset, 1, 40_000).cost[:, -1]).size > 30_000  # blocks differ


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_models", [2, 3, 10, 30])
def test_datasets_of_any_number_of_models(kind: str, n_models: int) -> None:
    dataset, other = make_dataset(n_models, kind=kind), make_dataset(n_models, 7, kind=kind)
    assert dataset.n_models == len(set(dataset.models)) == n_models
    table = sample(dataset, 0, 400, features=True)
    assert np.asarray(table.features).shape == (400, len(table.feature_names))
    assert np.asarray(table.signals).shape == (400, n_models * len(table.signal_names))
    for column in jax.tree.leaves(table):
        assert np.isfinite(column).all()
        assert column.dtype in (np.float32, np.int32)
    again = make_dataset(n_models, kind=kind)
    for left, right in zip(jax.tree.leaves(dataset), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(left, right)
    if isinstance(dataset, AnswerDataset) and isinstance(other, AnswerDataset):
        assert (np.diff(dataset.mean_cost) >= 0).all()
        assert ((dataset.rate > 0) & (dataset.rate < 1)).all()
        assert ((dataset.loading**2).sum(-1) < 0.95).all()
        measured = kind == "routerbench" and n_models <= len(MODELS)
        assert np.array_equal(dataset.rate, other.rate) == measured


def test_the_first_rows_are_those_of_the_first_version() -> None:
    # Other numbers are another dataset under the same seed.
    weights = [0.2004588, 0.1607495, 0.3181662, 0.3206255]
    tokens = [221.6051, 281.7527, 286.0066, 352.8476, 319.9550]
    cost = [1.422595e-05, 8.075620e-05, 3.132865e-04, 4.822760e-04, 4.368044e-03]
    dataset = judges()
    np.testing.assert_allclose(dataset.domain_weights, weights, rtol=1e-5)
    np.testing.assert_allclose(dataset.answer_tokens, tokens, rtol=1e-5)
    np.testing.assert_allclose(sample(dataset, 0, 1, seconds=True).cost[0], cost, rtol=1e-5)


@pytest.mark.parametrize(("n_models", "n_domains"), [(2, 1), (5, 4), (30, 20)])
def test_judged_datasets_are_well_formed(n_models: int, n_domains: int) -> None:
    dataset = judges(n_models, 3, n_domains=n_domains)
    assert len(set(dataset.domains)) == n_domains
    assert dataset.ability.shape == (n_models, n_domains)
    assert dataset.domain_weights.sum() == pytest.approx(1, abs=1e-5)
    mean_cost = dataset.price_prompt * PROMPT_TOKENS + dataset.price_answer * dataset.answer_tokens
    assert (np.diff(mean_cost) >= 0).all()
    # Quality and estimates do not change who the models are.
    graded = judges(n_models, 3, n_domains=n_domains, quality="graded", judge_noise=2.0)
    np.testing.assert_array_equal(graded.ability, dataset.ability)


def test_columns(judged: tuple[JudgedDataset, Table]) -> None:
    dataset, table = judged
    for name in ("quality", "cost", "quality_ante", "quality_post", "cost_ante", "cost_post"):
        column = getattr(table, name)
        assert (column > 0 if "cost" in name else (column >= 0) & (column <= 1)).all()
    np.testing.assert_array_equal(table.cost_post, table.cost)
    assert (table.models, table.cost_unit) == (dataset.models, "USD")
    assert (table.groups, table.signal_names) == (dataset.domains, SIGNAL_NAMES)
    np.testing.assert_array_equal(np.asarray(table.features)[:, 2:].argmax(1), table.group)
    values = set(np.unique(table.quality[:20_000]))
    assert values == {0, 1} if dataset.quality == "binary" else len(values) > 50_000


def test_judged_means(judged: tuple[JudgedDataset, Table]) -> None:
    dataset, table = judged
    a = dataset.discrimination
    by_domain = ndtr(a * dataset.ability / np.sqrt(1 + dataset.interaction**2 + a**2))
    assert_centred(table.quality - by_domain @ dataset.domain_weights)
    mean_cost = dataset.price_prompt * PROMPT_TOKENS + dataset.price_answer * dataset.answer_tokens
    assert_centred(table.cost / mean_cost - 1)
    for d, weight in enumerate(dataset.domain_weights):
        assert_centred((table.group == d)[:, None] - weight)
    other = sample(dataset, 1, N)
    assert_centred(table.quality - other.quality)
    assert_centred((table.cost - other.cost) / table.cost.mean(0))
    # Costs have long tails, and share the prompt.
    assert (np.quantile(table.cost, 0.99, axis=0) > 5 * np.median(table.cost, axis=0)).all()
    assert (np.corrcoef(np.log(table.cost), rowvar=False) > 0.05).all()


def test_seconds_are_first_token_and_tokens_by_speed() -> None:
    dataset = judges(n_models=4, seed=2)
    table = sample(dataset, 0, N, features=True, seconds=True)
    seconds = table.extra_costs["seconds"]
    tokens = np.exp(np.asarray(table.signals).reshape(N, 4, -1)[:, :, 1].astype(np.float64))
    first = seconds - tokens / dataset.speed
    # The rest is lognormal, of the stated mean and spread, and independent of the tokens.
    log = np.log(first[(first > 1e-3).all(axis=1)])
    assert len(log) > 0.999 * N
    assert_centred(first / dataset.first_token - 1)
    np.testing.assert_allclose(log.std(0), FIRST_TOKEN_SPREAD, rtol=0.02)
    assert_centred((first / dataset.first_token - 1) * (tokens / dataset.answer_tokens - 1))
    assert_centred(seconds / (dataset.first_token + dataset.answer_tokens / dataset.speed) - 1)
    # Expensive models are slower overall, but not one by one.
    many = [judges(seed=seed) for seed in range(100)]
    means = np.array([d.first_token + d.answer_tokens / d.speed for d in many])
    rising = np.diff(means, axis=1) >= 0
    assert rising.mean() > 0.6
    assert rising.all(axis=1).mean() < 0.4
    assert np.median(means[:, -1] / means[:, 0]) > 3


def test_judged_estimates_are_calibrated_martingales(judged: tuple[JudgedDataset, Table]) -> None:
    _, table = judged
    ante, post, _ = estimates(table)
    for estimate in (ante, post):
        error = table.quality - estimate
        for low in np.arange(0, 1, 0.1):
            assert_centred(error, (estimate >= low) & (estimate < low + 0.1))
        for d in range(len(table.groups)):
            assert_centred(error, np.broadcast_to((table.group == d)[:, None], error.shape))
    for low in np.arange(0, 1, 0.1):
        assert_centred(post - ante, (ante >= low) & (ante < low + 0.1))
    # The more is known, the smaller the error.
    ante_error, post_error = (np.square(table.quality - e).mean(0) for e in (ante, post))
    assert (post_error < 0.6 * ante_error).all()
    assert (ante_error < 0.9 * table.quality.var(0)).all()


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    quality=st.sampled_from(QUALITIES),
    discrimination=st.floats(0.3, 4),
    interaction=st.floats(0, 2),
    difficulty_noise=st.floats(0, 3),
    judge_noise=st.floats(0.05, 5),
)
def test_calibration_holds_for_any_noise(**options: Any) -> None:
    table = sample(make_dataset(n_models=3, **options), 0, 16_000)
    for estimate in estimates(table)[:2]:
        assert_centred(table.quality - estimate)
        # The error of a conditional mean is orthogonal to it.
        assert_centred((table.quality - estimate) * (estimate - estimate.mean(0)))


@pytest.mark.parametrize("quality", QUALITIES)
def test_the_default_dataset_rewards_routing(quality: str) -> None:
    table = sample(make_dataset(quality=quality), 1, 20_000)
    ante, _, cost_ante = estimates(table)
    cost, skill = table.cost.mean(0), table.quality.mean(0)
    assert 0.3 < skill.min() < 0.55
    assert 0.75 < skill.max() < 0.95
    assert cost.max() > 50 * cost.min()
    rows, hull = np.arange(table.n_queries), upper_hull(cost, skill)
    for price in (30, 100, 300):
        choice = (ante - price * cost_ante).argmax(1)
        spent, gained = (x[rows, choice].mean() for x in (table.cost, table.quality))
        assert gained > np.interp(spent, cost[hull], skill[hull]) + 0.02


def test_rates_and_correlations_are_as_stated(drawn: tuple[AnswerDataset, Table]) -> None:
    dataset, table = drawn
    assert_centred(table.quality - mean_quality(dataset), atol=1e-5)
    pairs = list(itertools.combinations(range(dataset.n_models), 2))
    for g in range(len(dataset.groups)):
        quality = correct(dataset, table, table.quality)[in_group(table, g)]
        answered = 1 - dataset.refusal[:, g]
        assert_centred(quality - answered * dataset.rate.mean(-1)[:, g], atol=1e-5)
        # Both right: the bivariate normal, its correlation the product of loadings.
        both = np.empty(len(pairs))
        for p, (i, j) in enumerate(pairs):
            tetrachoric = float(dataset.loading[i, g] @ dataset.loading[j, g])
            cov: Any = [[1, tetrachoric], [tetrachoric, 1]]  # its stub says a number
            places = [
                multivariate_normal.cdf(dataset.threshold[[i, j], g, r], cov=cov)
                for r in range(dataset.rate.shape[-1])
            ]
            both[p] = np.mean(places) * answered[i] * answered[j]
        together = np.stack([quality[:, i] * quality[:, j] for i, j in pairs], 1)
        assert_centred(together - both, atol=1e-5)


def test_costs_are_as_stated(drawn: tuple[AnswerDataset, Table]) -> None:
    dataset, table = drawn
    assert (table.cost > 0).all()
    assert_centred(table.cost / dataset.mean_cost - 1, atol=1e-5)
    prompt = np.exp(np.asarray(table.features)[:, :1].astype(np.float64))
    tokens = (table.cost - dataset.price_prompt * prompt) / dataset.price_answer
    for g in range(len(dataset.groups)):
        rows = in_group(table, g)
        assert_centred(prompt[rows] / dataset.prompt_tokens[g] - 1, atol=1e-5)
        # Relative standard errors of a deviation are 1 / sqrt(2 n).
        near = ERRORS / math.sqrt(2 * len(rows))
        deviation = np.log(prompt[rows, 0]).std()
        assert deviation == pytest.approx(dataset.prompt_spread[g], rel=near + 1e-3)
        if not dataset.own_spread[:, g].any():
            # Cost is linear in the prompt, up to rounding.
            answer_cost = dataset.price_answer * dataset.answer_tokens[:, g]
            line = dataset.price_prompt * prompt[rows] + answer_cost
            np.testing.assert_allclose(table.cost[rows], line, rtol=1e-5)
            continue
        assert_centred(tokens[rows] / dataset.answer_tokens[:, g] - 1, atol=1e-5)
        log_tokens = np.log(np.maximum(tokens[rows], 1e-3))
        spread = dataset.length_spread[:, g]
        np.testing.assert_allclose(log_tokens.std(0), spread, rtol=near + 0.01)
        common = (spread**2 - dataset.own_spread[:, g] ** 2)[0]
        off = ~np.eye(dataset.n_models, dtype=bool)
        correlation = np.corrcoef(log_tokens, rowvar=False)[off]
        stated = (common / np.outer(spread, spread))[off]
        np.testing.assert_allclose(correlation, stated, atol=ERRORS / math.sqrt(len(rows)))


def test_answers_are_right_together_and_wrong_apart(drawn: tuple[AnswerDataset, Table]) -> None:
    dataset, table = drawn
    if table.answer is None:
        assert (dataset.options == NO_IDENTITY).all()
        return
    for g in range(len(dataset.groups)):
        rows, options = in_group(table, g), dataset.options[g]
        right, answer = table.quality[rows] > 0, table.answer[rows]
        if options == NO_IDENTITY:
            assert (answer == -1).all()
            continue
        assert not right[answer == -1].any()
        assert_centred((answer == -1) - dataset.refusal[:, g], atol=1e-5)
        assert answer.max() < (options if options != FREE else dataset.n_models)
        where_right = np.where(right, answer, -2).max(1)
        assert ((answer == where_right[:, None]) == right)[right.any(1)].all()
        for i, j in itertools.combinations(range(dataset.n_models), 2):
            given = (answer[:, i] >= 0) & (answer[:, j] >= 0)
            agree = given & (answer[:, i] == answer[:, j])
            # Between two options, models that always name the same one agree on nothing.
            for k in (i, j) if options != 2 else ():
                assert right[agree, k].mean() > right[given, k].mean() + 0.01
            wrong = given & ~right[:, i] & ~right[:, j]
            lure = 1.0 if options == 2 else dataset.lure[g]
            met = lure**2
            met += (1 - lure) ** 2 / max(options - 2, 1) if options != FREE else 0
            assert_centred((agree[wrong] - met)[:, None], atol=1e-5)


def test_signals_are_as_named(drawn: tuple[AnswerDataset, Table]) -> None:
    dataset, table = drawn
    np.testing.assert_array_equal(table.features[:, -len(dataset.groups) :].argmax(1), table.group)
    if "passed" in dataset.signal_names:
        tested = dataset.tested[table.group][:, None] > 0
        np.testing.assert_array_equal(signal(dataset, table, "passed"), table.quality * tested)
    if "log_answer_tokens" in dataset.signal_names:
        tokens = np.exp(signal(dataset, table, "log_answer_tokens"))
        prompt = np.exp(table.features[:, :1].astype(np.float64))
        cost = dataset.price_prompt * prompt + dataset.price_answer * tokens
        np.testing.assert_allclose(table.cost, cost, rtol=1e-5)  # float32 logarithms
    if "top_probability" in dataset.signal_names:
        top, gap = (signal(dataset, table, name) for name in ("top_probability", "margin"))
        second, others = top - gap, dataset.options[0] - 2
        each = np.maximum(1 - top - second, 1e-12) / others
        assert (gap >= 0).all()
        assert (second >= each - 1e-6).all()
        entropy = -(top * np.log(top) + second * np.log(np.maximum(second, 1e-12)))
        entropy -= others * each * np.log(each)
        np.testing.assert_allclose(signal(dataset, table, "entropy"), entropy, atol=1e-5)
    if "mean_logprob" in dataset.signal_names:
        mean, least = (signal(dataset, table, name) for name in ("mean_logprob", "min_logprob"))
        assert (least < mean).all()
        assert (mean < 0).all()
        for k in range(dataset.n_models):  # surer answers are right more often
            assert np.corrcoef(mean[:, k], table.quality[:, k])[0, 1] > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_the_posterior_is_calibrated_under_any_run_set(kind: str) -> None:
    dataset = make_dataset(4, kind=kind)
    n = 6_000 if kind == "routerbench" else 12_000  # two factors take longer to integrate over
    table = sample(dataset, 3, n, features=True)
    run = random_runs(n, 4)
    quality, cost = known_posterior(dataset, table, run)
    assert ((quality >= 0) & (quality <= 1 + 1e-9)).all()
    quality = correct(dataset, table, quality)
    right = correct(dataset, table, table.quality)
    first_signal = np.asarray(table.signals).reshape(n, 4, -1)[..., 0]
    looks_right = first_signal > np.median(first_signal, axis=0)
    for where in (run, ~run):
        assert_expected(right, quality, where)
        assert_centred((right - quality) * (quality - quality.mean(0)), where, atol=1e-5)
        for low in BINS:
            inside = (quality >= low) & (quality < low + 0.2 + 1e-6)
            assert_expected(right, quality, where & inside)
    for g in range(len(table.groups)):
        group = np.broadcast_to((table.group == g)[:, None], run.shape)
        assert_expected(right, quality, group)
    # Split by how the answer of a model that has run looked, and by agreement with another.
    for i in range(4):
        for value in (0, 1):
            seen = run[:, i : i + 1] & (looks_right[:, i : i + 1] == value)
            assert_expected(right, quality, seen & run)
            assert_expected(right, quality, seen & ~run)
        if table.answer is not None:
            same = run[:, i : i + 1] & run & (table.answer[:, i : i + 1] == table.answer)
            assert_expected(right, quality, same)
            assert_expected(right, quality, run[:, i : i + 1] & run & ~same)
    np.testing.assert_array_equal(cost[run], table.cost[run])
    assert_centred(table.cost / cost - 1, ~run, atol=1e-5)
    wide = np.log(cost) - np.log(cost).mean(0)
    assert_centred((table.cost / cost - 1) * wide, ~run, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_posterior_agrees_with_closed_forms(kind: str) -> None:
    dataset = make_dataset(3, kind=kind)
    table = sample(dataset, 1, 1_500, features=True)
    quality, cost = known_posterior(dataset, table, np.zeros(3, bool))
    if kind == "routerbench":
        assert isinstance(dataset, AnswerDataset)
        assert table.quality_ante is None
        for g in range(2):  # where the length of the prompt tells nothing, it is the base rate
            base = ((1 - dataset.refusal) * dataset.rate.mean(-1))[:, g]
            error = quality[in_group(table, g)] - base
            np.testing.assert_allclose(error, 0, atol=1e-6)
        return
    ante, post, cost_ante = estimates(table)
    np.testing.assert_allclose(quality, ante, atol=1e-5)
    np.testing.assert_allclose(cost, cost_ante, rtol=1e-5)
    for k in range(3) if kind != "judged" else ():  # its post-hoc estimate leaves out lengths
        own, _ = known_posterior(dataset, table, np.arange(3) == k)
        np.testing.assert_allclose(own[:, k], post[:, k], atol=1e-4)


@pytest.mark.parametrize("kind", SUPPLIED)
def test_sigma_is_how_far_estimates_move(kind: str) -> None:
    table = sample(answers(kind), 2, N_ANSWERS)
    ante, post, _ = estimates(table)
    sigma = table.quality_sigma
    assert sigma is not None
    moved = np.square(post - ante) - sigma**2
    edges = np.quantile(sigma, np.linspace(0, 1, 6), axis=0)
    for low, high in itertools.pairwise(edges):
        assert_centred(moved, (sigma >= low) & (sigma <= high), atol=1e-5)
    for low in BINS:
        assert_centred(moved, (ante >= low) & (ante < low + 0.2), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_models_that_have_not_run_are_not_used(kind: str) -> None:
    dataset = make_dataset(3, kind=kind)
    table = sample(dataset, 1, 300, features=True)
    run = random_runs(300, 3)
    by_model = np.asarray(table.signals).reshape(300, 3, -1)
    hidden = dataclasses.replace(
        table,
        quality=np.where(run, table.quality, np.nan),
        signals=np.where(run[..., None], by_model, np.nan).reshape(300, -1),
        answer=None if table.answer is None else np.where(run, table.answer, 99),
    )
    whole, part = (known_posterior(dataset, each, run) for each in (table, hidden))
    np.testing.assert_array_equal(whole, part)


@pytest.mark.parametrize("kind", ["code-math", "open-form", "classification", "routerbench"])
def test_agreement_counts_as_often_as_it_happens(kind: str) -> None:
    """For every pattern of agreement, mean probability and mean truth are equal."""
    dataset = answers(kind, 3)
    table = sample(dataset, 4, 6_000, features=True)
    quality, _ = known_posterior(dataset, table, np.ones(3, bool))
    right, expected = (correct(dataset, table, each) for each in (table.quality, quality))
    a = table.answer
    same = np.stack([(a[:, i] == a[:, j]) for i, j in ((0, 1), (0, 2), (1, 2))], axis=1)
    pattern = np.asarray(table.group) * 8 + same @ np.array([1, 2, 4])
    for value in np.unique(pattern):
        assert_expected(right[pattern == value], expected[pattern == value])


def test_kinds_differ_as_the_papers_settings_do() -> None:
    """Share of the variance of quality known before a run, and from a model's own answer."""
    before, after = {}, {}
    for kind in SUPPLIED:
        table = sample(answers(kind), 0, 40_000)
        for shares, estimate in zip((before, after), estimates(table)[:2], strict=True):
            error = np.square(table.quality - estimate).mean(0)
            shares[kind] = 1 - error / table.quality.var(0)
    # Tests leave nothing to guess; before a run hardly anything is known.
    assert (before["swebench"] < 0.06).all()
    np.testing.assert_allclose(after["swebench"], 1)
    # Half of the groups are tested, and it is known which model suits which group.
    assert (before["code-math"] > 0.15).all()
    assert (after["code-math"] > before["code-math"] + 0.01).all()
    assert (after["code-math"] < 0.8).all()
    for kind in ("classification", "open-form"):
        assert (before[kind] < 0.06).all()
        assert (after[kind] < 0.35).all()
        assert (after[kind] > before[kind] + 0.03).all()
    swebench = answers("swebench", 10)
    assert 0.1 < mean_quality(swebench).min() < 0.25
    assert 0.3 < mean_quality(swebench).max() < 0.55
    low, high = np.quantile(sample(swebench, 0, N_ANSWERS).cost, [0.05, 0.95], axis=0)
    assert (high > 8 * low).all()


def test_routerbench_resembles_the_sample(shared_data: Path) -> None:
    path = shared_data / "routerbench-sample.parquet"
    real = cascjax.import_routerbench(path, invalid="drop").table.select_models(MODELS)
    dataset = answers("routerbench", 11)
    # Three of its groups are measured; here they are the whole table.
    counts = [
        np.count_nonzero(real.group == real.groups.index(name)) if name in real.groups else 0
        for name in dataset.groups
    ]
    assert counts[3:] == [0, 0]
    dataset = dataclasses.replace(dataset, group_weights=np.array(counts) / sum(counts))
    twin = sample(dataset, 0, 200_000).select_models(MODELS)
    for g, name in enumerate(dataset.groups[:3]):
        one = real.take(in_group(real, real.groups.index(name)))
        two = twin.take(in_group(twin, g))
        share = two.n_queries / twin.n_queries
        assert share == pytest.approx(one.n_queries / real.n_queries, abs=0.005)
        # Rates have three digits.
        np.testing.assert_allclose(two.quality.mean(0), one.quality.mean(0), atol=0.02)
        np.testing.assert_allclose(two.cost.mean(0), one.cost.mean(0), rtol=0.03)
        # The shared length is one number for all models; claude-v2's code varies less than that.
        np.testing.assert_allclose(two.cost.std(0), one.cost.std(0), rtol=0.6)
        # Correlations: the error of 55 of them from 427 queries is 0.05, and of the fit 0.03.
        off = ~np.eye(11, dtype=bool)
        gap = np.corrcoef(two.quality.T)[off] - np.corrcoef(one.quality.T)[off]
        assert np.sqrt(np.mean(gap**2)) < 0.08, name
        assert abs(gap).max() < 0.25, name
    np.testing.assert_allclose(twin.quality.mean(0), real.quality.mean(0), atol=0.015)


# Published for the whole zero-shot table, in the order of MODELS: mean score, and mean cost in
# thousandths of a dollar.
SCORES = [
    0.3061, 0.4311, 0.5471, 0.2022, 0.6475, 0.3287, 0.5984, 0.6193, 0.6301, 0.6358, 0.7814
]  # fmt: skip
COSTS = [0.046, 0.073, 0.135, 0.172, 0.186, 0.203, 0.233, 0.243, 2.145, 2.419, 3.293]


def test_routerbench_resembles_the_whole_table() -> None:
    dataset = answers("routerbench", 11)
    assert dataset.models == MODELS
    # Rates have three digits, and a single length of prompt serves all models of a group.
    np.testing.assert_allclose(mean_quality(dataset), SCORES, atol=0.002)
    np.testing.assert_allclose(1000 * dataset.mean_cost, COSTS, rtol=0.05)
    twin = sample(dataset, 0, 36_497)
    # In mathematics no answer scores 1; 3.6% of all queries are answered right by no model.
    assert np.all(np.unique(twin.quality) == (0, 0.25, 0.75, 1))
    assert (twin.quality > 0.5).any(1).mean() == pytest.approx(0.964, abs=0.02)
    # The AUCs of mixing of Dekoninck et al., from which loadings were not made.
    for k, auc in {3: 0.6962, 5: 0.6922, 11: 0.7051}.items():
        part = twin.select_models([MODELS[i] for i in PAPER_CHOICES[k]])
        cost, quality = part.cost.mean(0), part.quality.mean(0)
        hull = upper_hull(cost, quality)
        width = cost[hull[-1]] - cost[hull[0]]
        assert np.trapezoid(quality[hull], cost[hull]) / width == pytest.approx(auc, abs=0.005)
    assert answers("routerbench", 3).models == (
        *("mistralai/mixtral-8x7b-chat", "gpt-3.5-turbo-1106", "gpt-4-1106-preview"),
    )
    assert set(MODELS) < set(answers("routerbench", 25).models)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_domains": 0}, "n_domains"),
        ({"quality": "grade"}, "quality"),
        ({"discrimination": 0.0}, "discrimination"),
        ({"interaction": -0.1}, "interaction"),
        ({"difficulty_noise": float("nan")}, "difficulty_noise"),
        ({"judge_noise": 0.0}, "judge_noise"),
        ({"judge_noise": float("inf")}, "judge_noise"),
        ({"kind": "swebnech"}, r"kind of dataset 'swebnech'.*did you mean 'swebench'"),
        ({"kind": "swebench", "quality": "graded"}, r"'swebench' has no option 'quality'.*none"),
        ({"grade": 1}, r"no option 'grade'.*judge_noise"),
        *(({"kind": kind, "n_models": 1}, "n_models") for kind in KINDS),
        *(({"kind": kind, "seed": -1}, "seed") for kind in KINDS),
    ],
)
def test_bad_datasets_name_the_argument(options: dict[str, Any], message: str) -> None:
    with pytest.raises(CascjaxError, match=message) as caught:
        make_dataset(**options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("n", "seed", "batch", "message"), [(0, 0, 5, "n "), (9, -1, 5, "seed"), (9, 0, 0, "batch")]
)
def test_bad_sizes_are_named_before_the_first_table(
    n: int, seed: int, batch: int, message: str
) -> None:
    with pytest.raises(CascjaxError, match=message):
        batches(make_dataset(), n, seed, batch)


def test_posteriors_need_features_of_the_same_dataset() -> None:
    dataset, run = answers("swebench", 3), np.ones(3, bool)
    with pytest.raises(CascjaxError, match="features=True"):
        known_posterior(dataset, sample(dataset, 0, 5), run)
    table = sample(dataset, 0, 5, features=True)
    with pytest.raises(CascjaxError, match="draw it from this dataset"):
        known_posterior(answers("open-form", 3), table, run)
