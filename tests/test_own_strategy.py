"""A user's own strategy: registered, simulated, compared, fitted, saved and loaded."""

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cascjax as cj
from cascjax import core, synthetic
from cascjax.estimators import supplied
from cascjax.strategies import STOP, STRATEGIES, Priced, Routing, Strategy, register


@pytest.fixture(autouse=True)
def _restore_registry() -> Iterator[None]:
    before = dict(STRATEGIES)
    yield
    STRATEGIES.clear()
    STRATEGIES.update(before)


@dataclass(frozen=True)
class Second(Priced, Strategy):
    """Run the cheapest; below `good`, also the model of highest quality - lambda cost."""

    name: ClassVar[str] = "second"
    good: float = 0.5

    def max_steps(self, n_models: int) -> int:
        return min(2, n_models)

    def next_model(
        self, parameters: jax.Array, estimates: cj.Estimates, run: jax.Array
    ) -> jax.Array:
        net = estimates.quality - parameters.reshape(-1)[0] * estimates.cost
        second = jnp.argmax(jnp.where(run, -jnp.inf, net), axis=-1)
        enough = (jnp.sum(run, axis=-1) == 2) | (estimates.quality[:, 0] >= self.good)
        return jnp.where(jnp.any(run, axis=-1), jnp.where(enough, STOP, second), 0)


@pytest.fixture(scope="module")
def table() -> cj.Table:
    sample = synthetic.sample(synthetic.make_dataset(n_models=3, seed=4), 1, 600)
    return sample.sort_models(sample.cost.mean(0))


def test_a_sweep_agrees_with_a_plain_loop(table: cj.Table) -> None:
    estimates, prices = supplied(table, np.arange(600)), np.array([0.0, 20.0, 500.0])
    outcome = core.sweep(Second(), prices, estimates)
    ran, answered = np.asarray(outcome.run), np.asarray(outcome.answer)
    cost = np.asarray(estimates.cost_ante)
    for at, price in enumerate(prices.astype(np.float32)):
        for query in range(0, 600, 7):
            run, post = {0}, table.quality_post[query]
            if post[0] < 0.5:
                net = table.quality_ante[query] - price * cost[query]
                run.add(1 + int(np.argmax(net[1:])))
            assert set(np.flatnonzero(ran[at, query])) == run
            assert answered[at, query] == max(sorted(run), key=lambda k: post[k])


def test_compare_takes_its_name_and_instances(table: cj.Table) -> None:
    with pytest.raises(cj.CascjaxError, match="unknown strategy 'second'"):
        cj.compare(table, ["second"])
    assert register(Second) is Second
    strategies = ["second", Second(), Second(good=0.9)]
    by_name, instance, other = cj.compare(table, strategies, budgets=4).frontiers
    assert by_name.strategy == "second"
    np.testing.assert_array_equal(by_name.quality, instance.quality)
    assert other.auc != by_name.auc
    # Within reach, the cost on the fit rows is the budget.
    met = by_name.reach == 0
    assert met.sum() >= 2
    np.testing.assert_allclose(by_name.fit_cost[met], by_name.budget[met], rtol=1e-6)


def test_its_policy_is_saved_and_loaded(table: cj.Table, tmp_path: Path) -> None:
    register(Second)
    policy = cj.fit(table, Second(good=0.75), budget=float(table.cost.mean()))
    policy.save(tmp_path / "policy.json")
    live = cj.load_policy(tmp_path / "policy.json")
    assert live.strategy == Second(good=0.75)
    run, quality = np.zeros(3, bool), np.array([0.7, 0.8, 0.9])
    assert live.next_model(live.estimates(quality, run), run, key=0) == 0
    run[0] = True
    assert live.next_model(live.estimates(quality, run), run, key=0) != STOP
    quality[0] = 0.75
    assert live.next_model(live.estimates(quality, run), run, key=0) == STOP
    del STRATEGIES["second"]
    with pytest.raises(cj.CascjaxError, match="unknown strategy 'second'"):
        cj.load_policy(tmp_path / "policy.json")


def test_it_describes_its_options_and_style() -> None:
    (option,) = Second.options()
    assert (option.name, option.kind, option.choices, option.default) == ("good", float, (), 0.5)
    by_name = {option.name: option for option in STRATEGIES["cascade-routing"].options()}
    assert by_name["search"].choices == ("exact", "beam", "greedy")
    for kind in STRATEGIES.values():
        assert kind.description.endswith(".")
        assert kind.style is not None
        assert all(option.help for option in kind.options())


def test_a_class_defined_again_replaces_the_first() -> None:
    def define() -> type[Strategy]:
        @register
        @dataclass(frozen=True)
        class Again(Second):
            name: ClassVar[str] = "again"

        return Again

    first, second = define(), define()
    assert first is not second
    assert STRATEGIES["again"] is second


def test_bad_classes_are_refused() -> None:
    class Bare(Second):
        name: ClassVar[str] = "bare"

    @dataclass
    class Other:
        name: ClassVar[str] = "other"

    @dataclass(frozen=True)
    class Half(Priced, Strategy):
        name: ClassVar[str] = "half"

    @dataclass(frozen=True)
    class Nameless(Second):
        name: ClassVar[str] = ""

    @dataclass(frozen=True)
    class Copy(Routing):
        pass

    for kind, message in (
        (Other, "Other is no strategy: derive it from"),
        (Bare, r"Bare is no frozen dataclass: put @dataclass\(frozen=True\)"),
        (Half, "Half lacks next_model"),
        (Nameless, "Nameless has no name"),
        (Copy, "the name 'routing' belongs to Routing: give Copy another"),
    ):
        with pytest.raises(cj.CascjaxError, match=message):
            register(kind)
    with pytest.raises(cj.CascjaxError, match=r"Second\(good=0.5\) is no class"):
        # Without the type checks, which are on in tests only.
        inspect.unwrap(register)(Second())
    assert list(STRATEGIES)[-1] == "oracle"
