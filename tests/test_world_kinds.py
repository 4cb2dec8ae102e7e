"""Worlds in kind of the paper's settings: what they state, and what is to be believed in them."""

import dataclasses
import itertools
import math
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Bool, Float
from scipy.stats import multivariate_normal

import cascjax
from cascjax import synthetic
from cascjax.cli import main as cli
from cascjax.data import from_arrow
from cascjax.data.table import Table, upper_hull
from cascjax.errors import CascjaxError
from cascjax.synthetic import KINDS, AnswerWorld, known_posterior, make_dataset, sample
from cascjax.synthetic.answering import FREE, NO_IDENTITY
from cascjax.synthetic.routerbench import MODELS, PAPER_CHOICES

ANSWERING = tuple(kind for kind in KINDS if kind != "judged")
N = 1 << 16

# Standard errors a mean may lie off: one sound mean in 16,000 does, and the tests look at some
# thousands, whose draws the seeds hold fixed; what a few of them look at is held to the same.
ERRORS = 4.5


def drawn_world(kind: str, n_models: int = 4, seed: int = 0) -> AnswerWorld:
    world = make_dataset(n_models, seed, kind=kind)
    assert isinstance(world, AnswerWorld)
    return world


@pytest.fixture(scope="module", params=ANSWERING)
def drawn(request: pytest.FixtureRequest) -> tuple[AnswerWorld, Table]:
    world = drawn_world(request.param)
    return world, sample(world, 0, N, features=True)


def assert_same(one: Table, other: Table) -> None:
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
            assert abs(part.mean()) < ERRORS * part.std() / np.sqrt(len(part)) + 1e-5


def assert_believed(
    right: Float[np.ndarray, "N K"],
    belief: Float[np.ndarray, "N K"],
    where: Bool[np.ndarray, "N K"] | None = None,
) -> None:
    """Answers are right (1) as often as believed, within `ERRORS` of what beliefs say of that."""
    for k in range(right.shape[1]):
        rows = slice(None) if where is None else where[:, k]
        p, n_right = belief[rows, k], right[rows, k].sum(dtype=np.float64)
        # Of few that can go either way the sum is not yet near Gaussian.
        if (variance := (p * (1 - p)).sum()) >= 20:
            assert abs(n_right - p.sum()) < ERRORS * np.sqrt(variance)


def some_runs(world: synthetic.Dataset | AnswerWorld, n: int) -> Bool[np.ndarray, "N K"]:
    """A run set a query, from none to all."""
    rng = np.random.default_rng(9)
    return rng.random((n, world.n_models)) < rng.random((n, 1)) * 1.2


def in_group(world: AnswerWorld, table: Table, g: int) -> np.ndarray:
    assert table.group is not None
    return np.flatnonzero(table.group == g)


def correct(
    world: synthetic.Dataset | AnswerWorld, table: Table, quality: Float[np.ndarray, "N K"]
) -> Float[np.ndarray, "N K"]:
    """How often answers are right, of qualities: 0 where they are that of a wrong one, 1 right."""
    if not isinstance(world, AnswerWorld):
        return quality
    wrong, right = world.scores.T[:, table.group, None]
    return (quality - wrong) / (right - wrong)


def shown(world: AnswerWorld, table: Table, name: str) -> Float[np.ndarray, "N K"]:
    assert table.signals is not None
    by_model = table.signals.reshape(table.n_queries, world.n_models, -1)
    return by_model[..., world.signal_names.index(name)].astype(np.float64)


# Rows.


@pytest.mark.parametrize("kind", ANSWERING)
@settings(max_examples=5, deadline=None)
@given(n=st.integers(1, 40_000), batch=st.integers(700, 40_000), seconds=st.booleans())
def test_a_small_table_is_the_head_of_a_large_one(
    kind: str, n: int, batch: int, seconds: bool
) -> None:
    world = drawn_world(kind, 2)
    tables = list(synthetic.batches(world, n, 5, batch, features=True, seconds=seconds))
    joined = jax.tree.map(lambda *columns: np.concatenate(columns), *tables)
    large = sample(world, 5, 40_000, features=True, seconds=seconds)
    assert_same(joined, large.take(np.arange(n)))


@pytest.mark.parametrize("kind", ANSWERING)
def test_what_is_asked_for_besides_changes_nothing_else(kind: str) -> None:
    world = drawn_world(kind)
    plain, full = sample(world, 1, 300), sample(world, 1, 300, features=True, seconds=True)
    bare = dataclasses.replace(
        full, features=None, signals=None, answer=None, feature_names=(), signal_names=(),
        extra_costs={}, extra_cost_units=(),
    )  # fmt: skip
    assert_same(plain, bare)
    assert (full.extra_costs["seconds"] > 0).all()
    assert not np.array_equal(plain.cost, sample(world, 2, 300).cost)


@pytest.mark.parametrize("kind", ANSWERING)
@pytest.mark.parametrize("n_models", [2, 3, 10, 30])
def test_worlds_of_any_number_of_models(kind: str, n_models: int) -> None:
    world, other = drawn_world(kind, n_models), drawn_world(kind, n_models, 7)
    assert world.n_models == len(set(world.models)) == n_models
    assert (np.diff(world.mean_cost) >= 0).all()
    assert ((world.rate > 0) & (world.rate < 1)).all()
    assert ((world.loading**2).sum(-1) < 0.95).all()
    table = sample(world, 0, 400, features=True)
    assert table.features is not None
    assert table.signals is not None
    assert table.features.shape == (400, len(table.feature_names))
    assert table.signals.shape == (400, n_models * len(table.signal_names))
    for column in jax.tree.leaves(table):
        assert np.isfinite(column).all()
        assert column.dtype in (np.float32, np.int32)
    again = drawn_world(kind, n_models)
    for left, right in zip(jax.tree.leaves(world), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(left, right)
    measured = kind == "routerbench" and n_models <= len(MODELS)
    assert np.array_equal(world.rate, other.rate) == measured


# What a world states.


def test_rates_and_correlations_are_as_stated(drawn: tuple[AnswerWorld, Table]) -> None:
    world, table = drawn
    assert_centred(table.quality - world.mean_quality)
    pairs = list(itertools.combinations(range(world.n_models), 2))
    for g in range(len(world.groups)):
        quality = correct(world, table, table.quality)[in_group(world, table, g)]
        assert_centred(quality - ((1 - world.refusal) * world.rate.mean(-1))[:, g])
        # Both right: the bivariate normal, its correlation the product of loadings.
        both = np.empty(len(pairs))
        for p, (i, j) in enumerate(pairs):
            tetrachoric = float(world.loading[i, g] @ world.loading[j, g])
            cov: Any = [[1, tetrachoric], [tetrachoric, 1]]  # its stub says a number
            places = [
                multivariate_normal.cdf(world.threshold[[i, j], g, r], cov=cov)
                for r in range(world.rate.shape[-1])
            ]
            both[p] = np.mean(places) * (1 - world.refusal[i, g]) * (1 - world.refusal[j, g])
        assert_centred(np.stack([quality[:, i] * quality[:, j] for i, j in pairs], 1) - both)


def test_costs_are_as_stated(drawn: tuple[AnswerWorld, Table]) -> None:
    world, table = drawn
    assert table.features is not None
    assert (table.cost > 0).all()
    assert_centred(table.cost / world.mean_cost - 1)
    prompt = np.exp(table.features[:, :1].astype(np.float64))
    tokens = (table.cost - world.price_prompt * prompt) / world.price_answer
    for g in range(len(world.groups)):
        rows = in_group(world, table, g)
        log_prompt = np.log(prompt[rows, 0])
        assert_centred(prompt[rows] / world.prompt_tokens[g] - 1)
        # Relative standard errors of a deviation are 1 / sqrt(2 n).
        near = ERRORS / math.sqrt(2 * len(rows))
        assert log_prompt.std() == pytest.approx(world.prompt_spread[g], rel=near + 1e-3)
        if not world.own_spread[:, g].any():
            # Cost is linear in the prompt, up to the rounding of the two costs' difference.
            line = (
                world.price_prompt * prompt[rows] + world.price_answer * world.answer_tokens[:, g]
            )
            np.testing.assert_allclose(table.cost[rows], line, rtol=1e-5)
            continue
        assert_centred(tokens[rows] / world.answer_tokens[:, g] - 1)
        log_tokens = np.log(np.maximum(tokens[rows], 1e-3))
        np.testing.assert_allclose(log_tokens.std(0), world.length_spread[:, g], rtol=near + 0.01)
        spread = world.length_spread[:, g]
        common = (spread**2 - world.own_spread[:, g] ** 2)[0]
        stated = common / np.outer(spread, spread)
        found = np.corrcoef(log_tokens, rowvar=False)
        off = ~np.eye(world.n_models, dtype=bool)
        np.testing.assert_allclose(found[off], stated[off], atol=ERRORS / math.sqrt(len(rows)))


def test_answers_are_right_together_and_wrong_apart(drawn: tuple[AnswerWorld, Table]) -> None:
    world, table = drawn
    if table.answer is None:
        assert (world.options == NO_IDENTITY).all()
        return
    for g in range(len(world.groups)):
        rows = in_group(world, table, g)
        right, answer = table.quality[rows] > 0, table.answer[rows]
        if world.options[g] == NO_IDENTITY:
            assert (answer == -1).all()
            continue
        assert not right[answer == -1].any()
        assert_centred((answer == -1) - world.refusal[:, g])
        top = world.options[g] if world.options[g] != FREE else world.n_models
        assert answer.max() < top
        where_right = np.where(right, answer, -2).max(1)
        assert ((answer == where_right[:, None]) == right)[right.any(1)].all()
        for i, j in itertools.combinations(range(world.n_models), 2):
            given = (answer[:, i] >= 0) & (answer[:, j] >= 0)
            agree = given & (answer[:, i] == answer[:, j])
            # Between two options, two models that always name the same one agree on nothing.
            for k in (i, j) if world.options[g] != 2 else ():
                assert right[agree, k].mean() > right[given, k].mean() + 0.01
            wrong = given & ~right[:, i] & ~right[:, j]
            others = max(world.options[g] - 2, 1)
            lure = 1.0 if world.options[g] == 2 else world.lure[g]
            met = lure**2 + ((1 - lure) ** 2 / others if world.options[g] != FREE else 0)
            assert_centred((agree[wrong] - met)[:, None])


def test_signals_are_what_they_are_called(drawn: tuple[AnswerWorld, Table]) -> None:
    world, table = drawn
    assert table.group is not None
    assert table.features is not None
    np.testing.assert_array_equal(table.features[:, -len(world.groups) :].argmax(1), table.group)
    if "passed" in world.signal_names:
        tested = world.tested[table.group][:, None] > 0
        np.testing.assert_array_equal(shown(world, table, "passed"), table.quality * tested)
    if "log_answer_tokens" in world.signal_names:
        tokens = np.exp(shown(world, table, "log_answer_tokens"))
        prompt = np.exp(table.features[:, :1].astype(np.float64))
        cost = world.price_prompt * prompt + world.price_answer * tokens
        np.testing.assert_allclose(table.cost, cost, rtol=1e-5)  # float32 logarithms
    if "top_probability" in world.signal_names:
        top, gap = (shown(world, table, name) for name in ("top_probability", "margin"))
        second, classes = top - gap, world.options[0]
        each = np.maximum(1 - top - second, 1e-12) / (classes - 2)
        assert (gap >= 0).all()
        assert (second >= each - 1e-6).all()
        entropy = -(top * np.log(top) + second * np.log(np.maximum(second, 1e-12)))
        entropy -= (classes - 2) * each * np.log(each)
        np.testing.assert_allclose(shown(world, table, "entropy"), entropy, atol=1e-5)
    if "mean_logprob" in world.signal_names:
        mean, least = (shown(world, table, name) for name in ("mean_logprob", "min_logprob"))
        assert (least < mean).all()
        assert (mean < 0).all()
        # Surer answers are right more often.
        assert all(
            np.corrcoef(mean[:, k], table.quality[:, k])[0, 1] > 0.1 for k in range(world.n_models)
        )


# What is to be believed.


@pytest.mark.parametrize("kind", KINDS)
def test_the_posterior_is_calibrated_under_any_run_set(kind: str) -> None:
    # Two factors of ease are two dimensions to integrate over: fewer queries.
    world = make_dataset(4, kind=kind)
    n = 6_000 if kind == "routerbench" else 12_000
    table = sample(world, 3, n, features=True)
    run = some_runs(world, n)
    quality, cost = known_posterior(world, table, run)
    assert ((quality >= 0) & (quality <= 1 + 1e-9)).all()
    quality = correct(world, table, quality)
    right, unrun = correct(world, table, table.quality), ~run
    assert table.signals is not None
    first_signal = table.signals.reshape(n, world.n_models, -1)[..., 0]
    looks_right = first_signal > np.median(first_signal, axis=0)
    for where in (run, unrun):
        assert_believed(right, quality, where)
        assert_centred((right - quality) * (quality - quality.mean(0)), where)
        for low in np.arange(0, 1, 0.2):
            inside = (quality >= low) & (quality < low + 0.2 + 1e-6)
            assert_believed(right, quality, where & inside)
    assert table.group is not None
    for g in range(len(table.groups)):
        assert_believed(right, quality, np.broadcast_to((table.group == g)[:, None], run.shape))
    # Split by how the answer of a model that has run looked, and by whether another's was the same.
    for i in range(world.n_models):
        for value in (0, 1):
            seen = run[:, i : i + 1] & (looks_right[:, i : i + 1] == value)
            assert_believed(right, quality, seen & run)
            assert_believed(right, quality, seen & unrun)
        if table.answer is not None:
            same = run[:, i : i + 1] & run & (table.answer[:, i : i + 1] == table.answer)
            assert_believed(right, quality, same)
            assert_believed(right, quality, run[:, i : i + 1] & run & ~same)
    np.testing.assert_array_equal(cost[run], table.cost[run])
    assert_centred(table.cost / cost - 1, unrun)
    wide = np.log(cost) - np.log(cost).mean(0)
    assert_centred((table.cost / cost - 1) * wide, unrun)


@pytest.mark.parametrize("kind", KINDS)
def test_the_posterior_agrees_with_closed_forms(kind: str) -> None:
    # Of float32 columns; certainty is read back from probabilities near 0 and 1.
    world = make_dataset(3, kind=kind)
    table = sample(world, 1, 1_500, features=True)
    none = np.zeros(3, bool)
    quality, cost = known_posterior(world, table, none)
    if kind == "routerbench":  # supplies none
        assert isinstance(world, AnswerWorld)
        assert table.quality_ante is None
        for g in range(2):  # where the prompt's length tells nothing, it is the base rate
            rows = in_group(world, table, g)
            base = ((1 - world.refusal) * world.rate.mean(-1))[:, g]
            np.testing.assert_allclose(
                quality[rows], np.broadcast_to(base, (len(rows), 3)), atol=1e-6
            )
        return
    assert table.quality_ante is not None
    assert table.quality_post is not None
    assert table.cost_ante is not None
    np.testing.assert_allclose(quality, table.quality_ante, atol=1e-5)
    np.testing.assert_allclose(cost, table.cost_ante, rtol=1e-5)
    if kind == "judged":
        return  # its post column does not use the length of the answer
    for k in range(3):
        own, _ = known_posterior(world, table, np.arange(3) == k)
        np.testing.assert_allclose(own[:, k], table.quality_post[:, k], atol=1e-4)


@pytest.mark.parametrize("kind", ["swebench", "code-math", "classification", "open-form"])
def test_how_far_an_estimate_moves_is_known(kind: str) -> None:
    table = sample(drawn_world(kind), 2, N)
    assert table.quality_ante is not None
    assert table.quality_post is not None
    assert table.quality_sigma is not None
    moved = np.square(table.quality_post - table.quality_ante) - table.quality_sigma**2
    edges = np.quantile(table.quality_sigma, np.linspace(0, 1, 6), axis=0)
    for low, high in itertools.pairwise(edges):
        assert_centred(moved, (table.quality_sigma >= low) & (table.quality_sigma <= high))
    for low in np.arange(0, 1, 0.2):
        assert_centred(moved, (table.quality_ante >= low) & (table.quality_ante < low + 0.2))


@pytest.mark.parametrize("kind", KINDS)
def test_what_has_not_run_is_not_looked_at(kind: str) -> None:
    world = make_dataset(3, kind=kind)
    table = sample(world, 1, 300, features=True)
    run = some_runs(world, 300)
    assert table.signals is not None
    by_model = table.signals.reshape(300, 3, -1)
    hidden = dataclasses.replace(
        table,
        quality=np.where(run, table.quality, np.nan),
        signals=np.where(run[..., None], by_model, np.nan).reshape(300, -1),
        answer=None if table.answer is None else np.where(run, table.answer, 99),
    )
    for one, other in zip(
        known_posterior(world, table, run), known_posterior(world, hidden, run), strict=True
    ):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("kind", ["code-math", "open-form", "classification", "routerbench"])
def test_agreement_is_weighed_as_often_as_it_happens(kind: str) -> None:
    """Every pattern of who agrees with whom: mean belief and mean truth are one."""
    world = drawn_world(kind, 3)
    table = sample(world, 4, 6_000, features=True)
    quality, _ = known_posterior(world, table, np.ones(3, bool))
    right, believed = correct(world, table, table.quality), correct(world, table, quality)
    assert table.answer is not None
    assert table.group is not None
    a = table.answer
    same = np.stack([(a[:, i] == a[:, j]) for i, j in ((0, 1), (0, 2), (1, 2))], axis=1)
    pattern = table.group * 8 + same @ np.array([1, 2, 4])
    for value in np.unique(pattern):
        assert_believed(right[pattern == value], believed[pattern == value])


def test_settings_differ_as_the_papers_do() -> None:
    """Share of the variance of quality known beforehand, and from a model's own answer."""
    before, after = {}, {}
    for kind in ("swebench", "code-math", "classification", "open-form"):
        table = sample(drawn_world(kind), 0, 40_000)
        assert table.quality_ante is not None
        assert table.quality_post is not None
        variance = table.quality.var(0)
        before[kind] = 1 - np.square(table.quality - table.quality_ante).mean(0) / variance
        after[kind] = 1 - np.square(table.quality - table.quality_post).mean(0) / variance
    # Tests leave nothing to guess; before a run there is hardly anything to go by.
    assert (before["swebench"] < 0.06).all()
    np.testing.assert_allclose(after["swebench"], 1)
    # Half of the groups are tested, and which model suits which group is known.
    assert (before["code-math"] > 0.15).all()
    assert (after["code-math"] > before["code-math"] + 0.01).all()
    assert (after["code-math"] < 0.8).all()
    for kind in ("classification", "open-form"):
        assert (before[kind] < 0.06).all()
        assert (after[kind] < 0.35).all()
        assert (after[kind] > before[kind] + 0.03).all()


def test_base_rates_are_low_where_issues_are_mended() -> None:
    world = drawn_world("swebench", 10)
    assert 0.1 < world.mean_quality.min() < 0.25
    assert 0.3 < world.mean_quality.max() < 0.55
    table = sample(world, 0, N)
    assert (np.quantile(table.cost, 0.95, axis=0) > 8 * np.quantile(table.cost, 0.05, axis=0)).all()


# The twin of RouterBench, beside RouterBench.


def test_the_twin_is_like_the_sample(shared_data: Path) -> None:
    result = cascjax.import_routerbench(shared_data / "routerbench-sample.parquet", invalid="drop")
    real = from_arrow(result.arrow, "sample").select_models(MODELS)
    world = drawn_world("routerbench", 11)
    # Of its groups three are measured; here they have the whole table to themselves.
    counts = [
        np.count_nonzero(real.group == real.groups.index(name)) if name in real.groups else 0
        for name in world.groups
    ]
    assert counts[3:] == [0, 0]
    world = dataclasses.replace(world, group_weights=np.array(counts) / sum(counts))
    twin = sample(world, 0, 200_000).select_models(MODELS)
    assert real.group is not None
    assert twin.group is not None
    for g, name in enumerate(world.groups[:3]):
        one = real.take(np.flatnonzero(real.group == real.groups.index(name)))
        two = twin.take(np.flatnonzero(twin.group == g))
        share = two.n_queries / twin.n_queries
        assert share == pytest.approx(one.n_queries / real.n_queries, abs=0.005)
        # Rates were measured there, and stand with three digits.
        np.testing.assert_allclose(two.quality.mean(0), one.quality.mean(0), atol=0.02)
        np.testing.assert_allclose(two.cost.mean(0), one.cost.mean(0), rtol=0.03)
        # What lengths share is one number for all models; claude-v2's code varies less than that.
        np.testing.assert_allclose(two.cost.std(0), one.cost.std(0), rtol=0.6)
        # Correlations: the error of 55 of them from 427 queries is 0.05, and that of the fit 0.03.
        off = ~np.eye(11, dtype=bool)
        gap = np.corrcoef(two.quality.T)[off] - np.corrcoef(one.quality.T)[off]
        assert np.sqrt(np.mean(gap**2)) < 0.08, name
        assert abs(gap).max() < 0.25, name
    np.testing.assert_allclose(twin.quality.mean(0), real.quality.mean(0), atol=0.015)


# Published of the whole zero-shot table: mean score and mean cost in thousandths of a dollar, by
# model, in the order of MODELS.
WHOLE = np.array(
    [
        (0.3061, 0.046), (0.4311, 0.073), (0.5471, 0.135), (0.2022, 0.172), (0.6475, 0.186),
        (0.3287, 0.203), (0.5984, 0.233), (0.6193, 0.243), (0.6301, 2.145), (0.6358, 2.419),
        (0.7814, 3.293),
    ]
)  # fmt: skip


def test_the_twin_is_like_the_whole_table() -> None:
    world = drawn_world("routerbench", 11)
    assert world.models == MODELS
    # Rates stand with three digits, and one length of prompt serves all models of a group.
    np.testing.assert_allclose(world.mean_quality, WHOLE[:, 0], atol=0.002)
    np.testing.assert_allclose(1000 * world.mean_cost, WHOLE[:, 1], rtol=0.05)
    twin = sample(world, 0, 36_497)
    # In mathematics no answer is worth 1; of all queries 3.6% are answered right by no model.
    assert np.all(np.unique(twin.quality) == (0, 0.25, 0.75, 1))
    assert (twin.quality > 0.5).any(1).mean() == pytest.approx(0.964, abs=0.02)
    # The AUCs that Dekoninck et al. print for mixing, from which loadings were not made.
    for k, auc in {3: 0.6962, 5: 0.6922, 11: 0.7051}.items():
        some = twin.select_models([MODELS[i] for i in PAPER_CHOICES[k]])
        cost, quality = some.cost.mean(0), some.quality.mean(0)
        hull = upper_hull(cost, quality)
        width = cost[hull[-1]] - cost[hull[0]]
        assert np.trapezoid(quality[hull], cost[hull]) / width == pytest.approx(auc, abs=0.005)


def test_the_papers_choices_of_models() -> None:
    assert [MODELS[i] for i in PAPER_CHOICES[3]] == [
        "mistralai/mixtral-8x7b-chat",
        "gpt-3.5-turbo-1106",
        "gpt-4-1106-preview",
    ]
    assert drawn_world("routerbench", 3).models == tuple(MODELS[i] for i in PAPER_CHOICES[3])
    many = drawn_world("routerbench", 25)
    assert set(MODELS) < set(many.models)


# Errors, and the command.


def test_errors_name_what_is_wrong() -> None:
    with pytest.raises(CascjaxError, match=r"kind of world 'swebnech'.*did you mean 'swebench'"):
        make_dataset(kind="swebnech")
    with pytest.raises(CascjaxError, match=r"swebench world has no setting 'quality'.*none"):
        make_dataset(kind="swebench", quality="graded")
    with pytest.raises(CascjaxError, match=r"no setting 'grade'.*judge_noise"):
        make_dataset(grade=1)
    for kind in KINDS:
        with pytest.raises(CascjaxError, match="n_models"):
            make_dataset(1, kind=kind)
        with pytest.raises(CascjaxError, match="seed"):
            make_dataset(2, -1, kind=kind)
    world = drawn_world("swebench", 3)
    with pytest.raises(CascjaxError, match="features=True"):
        known_posterior(world, sample(world, 0, 5), np.ones(3, bool))
    table = sample(world, 0, 5, features=True)
    with pytest.raises(CascjaxError, match="draw it from this world"):
        known_posterior(drawn_world("open-form", 3), table, np.ones(3, bool))


def test_the_command_knows_the_kinds() -> None:
    assert tuple(cli._KINDS) == tuple(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_the_command_writes_every_kind(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "world.parquet"
    words = ["world", str(path), "--kind", kind, "--queries", "50", "--models", "3", "--seed", "2"]
    result = CliRunner().invoke(cli.main, [*words, "--features"])
    assert result.exit_code == 0, result.output
    assert_same_columns(
        cascjax.read_table(path), sample(make_dataset(3, 2, kind=kind), 2, 50, features=True)
    )
    if kind != "judged":
        result = CliRunner().invoke(cli.main, [*words, "--quality", "graded"])
        assert result.exit_code == 2
        assert "--quality" in result.output


def assert_same_columns(one: Table, other: Table) -> None:
    for field in dataclasses.fields(Table):
        left, right = getattr(one, field.name), getattr(other, field.name)
        if isinstance(right, np.ndarray):
            np.testing.assert_array_equal(left, right)
        else:
            assert left == right or (field.name == "groups" and set(left) == set(right))
