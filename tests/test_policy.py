"""Policies: live decisions held to the simulation, files that come back the same or not at all."""

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bent import Change, assert_refused, put

from cascjax.core.sweep import outcomes
from cascjax.data.table import Table
from cascjax.errors import CascjaxError
from cascjax.estimators import Estimates, Independent
from cascjax.estimators.specs import Noisy, Supplied
from cascjax.evaluation import evaluate
from cascjax.policy import Policy, load_policy
from cascjax.search.rules import Fitted, Rule
from cascjax.strategies import (
    STOP,
    STRATEGIES,
    CascadeRouting,
    Mixing,
    Pandora,
    Routing,
    Strategy,
    Thresholding,
)

N, K = 96, 4
MODELS = ("tiny", "small", "large", "huge")
KINDS = [
    *(kind() for kind in STRATEGIES.values()),
    CascadeRouting(search="greedy"),
    CascadeRouting(search="beam", beam_width=4),
    CascadeRouting(max_depth=2),
]
NAMES = [f"{kind.name}-{i}" for i, kind in enumerate(KINDS)]
LONG = (CascadeRouting(search="beam", beam_width=4), CascadeRouting(max_depth=2))
"""What takes longest to compile, and is decided like cascade routing of the other searches."""

EACH = pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=[pytest.mark.slow] * (kind in LONG)) for kind in KINDS],
    ids=NAMES,
)


def independent(seed: int = 0) -> Independent:
    rng = np.random.default_rng(seed)
    ante = 0.5 + 0.2 * rng.standard_normal((N, K)) + np.linspace(-0.1, 0.1, K)
    sigma = rng.uniform(0.1, 0.3, (1, K))
    post = ante + sigma * rng.standard_normal((N, K))
    cost = np.geomspace(0.01, 0.2, K) * rng.lognormal(0, 0.3, (N, K))
    ante, post, sigma, cost = (x.astype(np.float32) for x in (ante, post, sigma, cost))
    return Independent(ante, post, sigma, cost, cost)


def supplying(estimator: Independent) -> Table:
    """A table that gives these estimates."""
    ante, post, estimates, cost = (
        np.asarray(getattr(estimator, name))
        for name in ("quality_ante", "quality_post", "cost_ante", "cost_post")
    )
    return Table(
        post, cost, models=MODELS, quality_ante=ante, quality_post=post, cost_ante=estimates
    )


def settings(kind: Strategy) -> tuple[Any, Any]:
    chains = ([13.0, 0.7], [14.0, 0.45])
    of = {"mixing": (1.0, 3.0), "thresholding": (0.7, 0.45), "frugal": chains}
    return of.get(kind.name, (0.8, 0.3))


def policy(kind: Strategy, **more: Any) -> Policy:
    rule = Rule(np.array(settings(kind)), np.array([0.4, 0.6]))
    given = {
        "estimates_spec": Supplied(),
        "rule": rule,
        "sigma": independent().sigma[0],
        "mean_costs": np.ones((1, K)),
    }
    return Policy(kind, MODELS, **(given | more))


def stepped(fitted: Policy, estimator: Independent, **how: Any) -> tuple[np.ndarray, np.ndarray]:
    """What a batch runs and answers, asked for step by step as a live system would."""
    run = np.zeros((N, K), bool)
    for _ in range(K + 1):
        estimates = estimator(jnp.asarray(run))
        new = np.asarray(fitted.next_model(estimates, run, jax.random.key(5), **how))
        if (new == STOP).all():
            return run, np.asarray(fitted.answer(estimates, run))
        run[np.flatnonzero(new != STOP), new[new != STOP]] = True
    raise AssertionError("it never stops")


swept = functools.partial(jax.jit, static_argnums=(0, 3))(outcomes)


def simulated(
    kind: Strategy, parameters: np.ndarray, estimator: Independent
) -> tuple[np.ndarray, np.ndarray]:
    outcome = swept(kind, jnp.asarray(parameters, jnp.float32), estimator.sized(), (N, K))
    return np.asarray(outcome.run), np.asarray(outcome.answer)


DRAWS = np.asarray(jax.random.uniform(jax.random.key(5), (N,)))
"""The number each row draws: the second setting where it is beyond the first's share."""

# Deciding.


@EACH
def test_stepping_through_queries_is_the_simulation(kind: Strategy) -> None:
    estimator = independent()
    run, answer = stepped(policy(kind), estimator)
    both_run, both_answer = simulated(kind, np.array(settings(kind)), estimator)
    assert (both_run[0] != both_run[1]).any()  # else nothing would tell the settings apart
    which, row = (DRAWS >= 0.4).astype(int), np.arange(N)
    np.testing.assert_array_equal(run, both_run[which, row])
    np.testing.assert_array_equal(answer, both_answer[which, row])
    # One query at a time, as in a batch.
    alone = policy(kind, rule=Rule(np.array(settings(kind)[:1]), np.ones(1)))
    run[: N // 2] = False
    estimates = estimator(jnp.asarray(run))
    batch = np.asarray(alone.next_model(estimates, run))
    for i in (0, N // 2, N - 1):
        query = jax.tree.map(lambda x, i=i: x[i], estimates)
        assert alone.next_model(query, run[i]) == batch[i]
        assert not run[i].any() or isinstance(alone.answer(query, run[i]), int)


def test_a_large_batch_is_decided_in_parts() -> None:
    kind = CascadeRouting()
    at_once = (1 << 20) // (8 * kind.footprint(K))
    rows = np.arange(at_once + 7) % N
    estimator = independent().take(rows)
    run = np.zeros((len(rows), K), bool)
    alone = policy(kind, rule=Rule(np.array([0.5]), np.ones(1)))
    found = alone.next_model(estimator(jnp.asarray(run)), run)
    some = alone.next_model(independent()(jnp.asarray(run[:N])), run[:N])
    np.testing.assert_array_equal(found, np.asarray(some)[rows])


def test_a_price_per_step_holds_at_its_step() -> None:
    kind, estimator, steps = Pandora(), independent(), np.array([[0.2, 1.0, 3.0]])
    run, answer = stepped(policy(kind, rule=Rule(steps, np.ones(1))), estimator)
    want_run, want_answer = simulated(kind, steps, estimator)
    np.testing.assert_array_equal(run, want_run[0])
    np.testing.assert_array_equal(answer, want_answer[0])


def test_a_group_has_its_own_rule() -> None:
    kind, estimator = Routing(), independent()
    rules = {"law": Rule(np.array([0.0]), np.ones(1)), "math": Rule(np.array([[9.0]]), np.ones(1))}
    fitted = policy(kind, group_rules=rules)
    groups = ["law", "chat", "math"] * (N // 3)
    run, _ = stepped(fitted, estimator, group=groups)
    default, _ = stepped(fitted, estimator)
    for name, want in (("law", 0.0), ("math", 9.0), ("chat", None)):
        rows = np.flatnonzero(np.array(groups) == name)
        expected = default if want is None else simulated(kind, np.array([want]), estimator)[0][0]
        np.testing.assert_array_equal(run[rows], expected[rows])
    # By place, and one for all.
    places = np.array([fitted.groups.index(g) if g in fitted.groups else -1 for g in groups])
    np.testing.assert_array_equal(stepped(fitted, estimator, group=places)[0], run)
    want, _ = simulated(kind, np.array([0.0]), estimator)
    np.testing.assert_array_equal(stepped(fitted, estimator, group="law")[0], want[0])


def test_corrections_are_of_models_that_have_not_run() -> None:
    scale, offset = np.array([1, 2, 0.5, 1]), np.array([0, 0.1, -0.2, 0.05])
    kind, estimator = Pandora(), independent()
    rule = Rule(np.array([0.8]), np.ones(1))
    fitted = policy(kind, rule=rule, scale=scale, offset=offset)
    assert fitted.corrected
    estimates = replace(
        estimator,
        quality_ante=estimator.quality_ante + offset.astype(np.float32),
        sigma=estimator.sigma * scale.astype(np.float32),
    )
    run, answer = stepped(fitted, estimator)
    want, _ = simulated(kind, np.array([0.8]), estimates)
    np.testing.assert_array_equal(run, want[0])
    plain, _ = simulated(kind, np.array([0.8]), estimator)
    assert (want != plain).any()
    # As matrices, the same.
    some = estimator(jnp.asarray(run))
    matrices = replace(some, covariance=jax.vmap(jnp.diag)(some.covariance))
    found = fitted.next_model(matrices, run)
    np.testing.assert_array_equal(found, np.full(N, STOP))
    # A replay is corrected too, once.
    replayed = evaluate(fitted, supplying(estimator), resamples=0)
    np.testing.assert_array_equal(replayed.answer, answer)
    np.testing.assert_allclose(replayed.steps, run.sum(1))


def test_several_costs_are_weighed_by_the_prices_of_each_setting() -> None:
    rng = np.random.default_rng(1)
    estimator = independent()
    seconds = rng.lognormal(0, 0.5, (N, K)).astype(np.float32)
    prices = np.array([[1.0, 0.05], [0.2, 0.3]])
    rule = Rule(np.array([0.8, 1.5]), np.array([0.5, 0.5]), prices)
    fitted = policy(
        Routing(), rule=rule, costs=("cost", "seconds"), cost_units=("USD", "s"),
        mean_costs=np.stack([np.ones(K), np.arange(1.0, K + 1)]),
    )  # fmt: skip
    ante, cost = np.asarray(estimator.quality_ante), np.asarray(estimator.cost_ante)
    for given, of_seconds in (
        ({"extra_costs": {"seconds": seconds}}, seconds),
        ({}, np.arange(1.0, K + 1)),
    ):
        run, _ = stepped(fitted, estimator, **given)
        both = [
            np.argmax(ante - lam * (p[0] * cost + p[1] * of_seconds), axis=1)
            for lam, p in zip((0.8, 1.5), prices, strict=True)
        ]
        want = np.where(DRAWS < 0.5, both[0], both[1])
        np.testing.assert_array_equal(run.argmax(1), want)
        assert (run.sum(1) == 1).all()


def test_a_key_is_a_number_or_a_key_and_draws_by_the_weights() -> None:
    fitted = policy(Mixing())
    quality, run = np.full((4096, K), 0.5), np.zeros((4096, K), bool)
    estimates = fitted.estimates(quality, run)
    by_number = np.asarray(fitted.next_model(estimates, run, 11))
    np.testing.assert_array_equal(by_number, fitted.next_model(estimates, run, jax.random.key(11)))
    np.testing.assert_array_equal(
        by_number, fitted.next_model(estimates, run, jax.random.PRNGKey(11))
    )
    assert set(by_number.tolist()) == {1, 3}
    # Within five standard deviations of a binomial share.
    assert abs((by_number == 3).mean() - 0.6) < 5 * np.sqrt(0.24 / 4096)
    assert (np.asarray(fitted.next_model(estimates, run, 12)) != by_number).any()


def test_estimates_of_a_live_system() -> None:
    sigma, costs = np.array([0.1, 0.2, 0.3, 0.4]), np.array([[1.0, 2, 3, 4]])
    fitted = policy(Pandora(), sigma=sigma, mean_costs=costs)
    found = fitted.estimates([0.5, 0.6, 0.7, 0.8], np.array([True, False, False, True]))
    np.testing.assert_allclose(found.quality, [0.5, 0.6, 0.7, 0.8], rtol=1e-6)
    np.testing.assert_allclose(found.variance, [0, 0.04, 0.09, 0], rtol=1e-6)
    np.testing.assert_allclose(found.cost, [1, 2, 3, 4])
    own = fitted.estimates(np.zeros((2, K)), np.zeros((2, K), bool), np.full((2, K), 7.0))
    np.testing.assert_allclose(own.cost, 7)


def bad(**change: Any) -> Estimates:
    fine: dict[str, Any] = {"quality": jnp.zeros(K), "covariance": jnp.ones(K), "cost": jnp.ones(K)}
    return Estimates(**(fine | change))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda p: p.next_model(bad(), np.zeros(K, bool)), "give each query a key"),
        (lambda p: p.next_model(bad(), np.zeros(3, bool), 0), r"run must be booleans \[4\]"),
        (lambda p: p.next_model(bad(), np.zeros((2, K), bool), 0), "do not fit run of"),
        (
            lambda p: p.next_model(bad(quality=jnp.full(K, jnp.nan)), np.zeros(K, bool), 0),
            "quality that is not finite",
        ),
        (
            lambda p: p.next_model(bad(), np.zeros(K, bool), 0, extra_costs={"x": np.ones(K)}),
            "unknown cost 'x'",
        ),
        (lambda p: p.next_model(bad(), np.zeros(K, bool), 0, group=0), "from -1, no group"),
        (lambda p: p.answer(bad(), np.zeros(K, bool)), "has no answer"),
    ],
)
def test_what_cannot_be_decided_is_refused(call: Callable[[Policy], Any], words: str) -> None:
    with pytest.raises(CascjaxError, match=words):
        call(policy(Routing()))


# The file.


def full() -> Policy:
    """A policy in which every field holds something."""
    rng = np.random.default_rng(2)
    fitted = Fitted(70, 0.61, (0.1, 3.0), (0.125, None), (0.001, 0.0), (0.01, 0.4))
    rule = Rule(rng.random((3, 2)), np.array([0.2, 0.3, 0.5]), rng.random((3, 2)), fitted)
    return Policy(
        CascadeRouting(max_depth=3, search="greedy"), MODELS, rule, rng.random(K),
        rng.random((2, K)) / 3, ("cost", "seconds"), ("USD", "s"),
        {"law: a=b": Rule(np.array([1 / 3]), np.ones(1))},
        Noisy((0.6, 0.3, 0.1, 0.05)), 7, rng.random(K), rng.standard_normal(K),
        "ab12", {"confidence": 0.95, "note": "é"},
    )  # fmt: skip


def test_a_file_comes_back_the_same_to_the_last_bit(tmp_path: Path) -> None:
    saved, path = full(), tmp_path / "policy.json"
    saved.save(path)
    loaded = load_policy(path)
    assert loaded == saved
    assert hash(loaded) == hash(saved)
    assert loaded != replace(saved, seed=8)
    for name in ("sigma", "mean_costs", "scale", "offset"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(saved, name))
        assert getattr(loaded, name).dtype == np.float32
    np.testing.assert_array_equal(loaded.rule.weights, saved.rule.weights)
    for name in ("strategy", "estimates_spec", "groups"):
        assert getattr(loaded, name) == getattr(saved, name)
    assert loaded.rule.fitted == saved.rule.fitted
    assert len(repr(loaded)) < 800
    assert "law: a=b" in repr(loaded)


@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
def test_every_strategy_keeps_its_options(kind: Strategy, tmp_path: Path) -> None:
    policy(kind).save(tmp_path / "policy.json")
    assert load_policy(tmp_path / "policy.json").strategy == kind


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (put("version", value=4), "version 4 of the policy format"),
        (put("version", value="1"), "version '1' of the policy format"),
        (put("format", value="other"), "is not a policy"),
        (put("models", value=["a", "b"]), r"policy of 2 models must be \[2\], not \[4\]"),
        (put("models", value=["a", "a", "b", "c"]), "distinct names"),
        (put("models", value=["a", 1, "b", "c"]), "'policy.models.1.' is wrong .expected 'str'"),
        (put("sigma", value=[0.1, 0.1, 0.1, -1]), "sigma of a policy must be finite and non"),
        (put("sigma", value=[0.1, 0.1, 0.1, 1e39]), "sigma of a policy must be finite"),
        (put("sigma", value=["0.1"] * 4), "'policy.sigma' must be an array of numbers"),
        (put("sigma", value={"a": 1}), "'policy.sigma' must be an array of numbers"),
        (put("mean_costs", value=[[1, 1, 1, 1], [1]]), "'policy.mean_costs' must be an array"),
        (put("scale", value=None), "'policy.scale' must be an array of numbers"),
        (put("offset", value=[True] * 4), "'policy.offset' must be an array of numbers"),
        (put("rule", "weights", value=[0.2, 0.3, 0.6]), "sum to 1"),
        (put("rule", "weights", value=[-0.2, 0.7, 0.5]), "must be non-negative"),
        (put("rule", "weights", value=[]), "one row per setting"),
        (put("rule", "parameters", value=[1.0, 2.0]), "one row per setting"),
        (
            put("rule", "parameters", value=[[[1.0]]] * 3),
            r"must be .3. or .3, D., one row per weight",
        ),
        (put("rule", "prices", value=[[1.0, -1.0]] * 3), "prices must be finite and non"),
        (put("rule", "prices", value=[[1.0]] * 3), "prices must be"),
        (put("rule", "fitted", "cost", value=[1.0]), "must have 2 costs"),
        (put("rule", "fitted", "n_fit", value=1.5), "fitted.n_fit' is wrong .expected 'int'"),
        (put("rule", "fitted", "budget", value=["x", None]), "fitted.budget.0.' is wrong"),
        (put("rule", "fitted", "budget", value=[0, None]), "budget .* must be above 0"),
        (put("rule", "fitted", "reachable", value=[]), "reachable' .* of length 2"),
        (put("rule", "fitted", "quality", value=10**400), "quality' .* out of range"),
        (put("estimates", "level", value=[1e308 * 10, 0, 0, 0]), "not valid JSON"),
        (put("version", value=True), "version True of the policy format"),
        (put("rule", "more", value=1), "policy.rule' is wrong .* unknown field 'more'"),
        (put("group_rules", "law: a=b", "weights", value=[2.0]), "rule 'law: a=b'"),
        (put("group_rules", "law: a=b", value=3), "group_rules.*expected 'object'"),
        (put("strategy", "name", value="magic"), "unknown strategy 'magic'"),
        (put("strategy", "options", "search", value="wide"), "search' .* value 'wide'"),
        (put("strategy", "options", "max_depth", value=10**9), "above 4096"),
        (put("strategy", "options", "max_depth", value=0), "at least 1"),
        (put("strategy", "options", "max_depth", value=True), "max_depth' .* 'int'"),
        (put("strategy", "options", "depth", value=3), "unknown field .* 'depth'"),
        (put("estimates", "kind", value="guessed"), "unknown kind of estimates 'guessed'"),
        (put("estimates", value={"kind": "learned"}), "has a learned model"),
        (put("estimates", "level", value=[1.0]), "four finite numbers"),
        (put("estimates", "level", value=[-1.0, 0, 0, 0]), "four finite numbers"),
        (put("estimates", "level", value="loud"), "unknown noise level 'loud'"),
        (put("seed", value=-1), "must be from 0 to 4294967295"),
        (put("costs", value=["seconds", "cost"]), "first cost of a policy"),
        (put("cost_units", value=["USD"]), "each cost has a unit"),
        (put("record", value=[]), "policy.record' is wrong"),
        (put("library", value=None), "policy.library' is wrong"),
        (lambda c: c.pop("sigma"), "missing required field 'sigma'"),
        (put("extra", value=1), "unknown field 'extra'"),
    ],
)
def test_a_file_that_is_no_policy_is_refused(change: Change, words: str, tmp_path: Path) -> None:
    assert_refused(tmp_path / "policy.json", full().text(), change, words)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path, text = tmp_path / "policy.json", full().text()
    invalid = (text[:-40], "", "\x00" * 10, "[" * 100_000, text.replace("0.2", "NaN", 1), "\udcff")
    cases = [(damaged, "not valid JSON") for damaged in invalid]
    cases += [("[1]", "is not a policy")]
    cases += [(text.replace('"n_fit": 70', '"n_fit": 71'), "its checksum does not match")]
    for damaged, words in cases:
        path.write_text(damaged, errors="surrogateescape")
        with pytest.raises(CascjaxError, match=words):
            load_policy(path)
    with pytest.raises(CascjaxError, match="No such file"):
        load_policy(tmp_path / "none.json")
    with pytest.raises(CascjaxError, match="is a folder"):
        load_policy(tmp_path)


# Other tables.


def test_models_are_matched_by_name() -> None:
    table = supplying(independent())
    fitted = policy(Thresholding())
    assert fitted.matched(table) is table
    other = table.select_models(["large", "huge", "tiny", "small"])
    assert fitted.matched(other).models == MODELS
    found, want = (evaluate(fitted, source, resamples=0) for source in (other, table))
    np.testing.assert_array_equal(found.quality, want.quality)
    with pytest.raises(CascjaxError, match="lacks models of the policy: small, huge"):
        fitted.matched(table.select_models(["large", "tiny"]))


def test_a_key_per_row_draws_as_for_the_query_alone() -> None:
    rule = Rule(np.array([0.0, 100.0]), np.array([0.5, 0.5]))
    policy = Policy(Routing(), ("a", "b"), rule, np.ones(2), np.array([[0.1, 1.0]]))
    run = np.zeros((32, 2), bool)
    estimates = policy.estimates(np.tile(np.array([0.1, 0.9], np.float32), (32, 1)), run)
    single = policy.estimates([0.1, 0.9], run[0])
    alone = [policy.next_model(single, run[0], i) for i in range(32)]
    assert 4 < sum(alone) < 28
    keys = jax.vmap(jax.random.key)(np.arange(32, dtype=np.uint32))
    for each in (np.arange(32), keys):
        np.testing.assert_array_equal(policy.next_model(estimates, run, each), alone)
    with pytest.raises(CascjaxError, match="3 keys do not fit"):
        policy.next_model(estimates, run, np.arange(3))
    with pytest.raises(CascjaxError, match="must both be"):
        policy.estimates([0.1, 0.2, 0.3], np.zeros(2, bool))
