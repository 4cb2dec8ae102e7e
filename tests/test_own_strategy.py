"""A strategy that cascjax does not come with: registered, drawn, fitted, saved and loaded."""

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cascjax
from cascjax import synthetic
from cascjax.engine.simulate import query_outcomes
from cascjax.estimators import Estimates, supplied
from cascjax.strategies import STOP, STRATEGIES, Priced, Routing, Strategy, register


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
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

    def next_model(self, parameters: jax.Array, estimates: Estimates, run: jax.Array) -> jax.Array:
        worth = estimates.quality - parameters.reshape(-1)[0] * estimates.cost
        second = jnp.argmax(jnp.where(run, -jnp.inf, worth), axis=-1)
        enough = (jnp.sum(run, axis=-1) == 2) | (estimates.quality[:, 0] >= self.good)
        return jnp.where(jnp.any(run, axis=-1), jnp.where(enough, STOP, second), 0)


@pytest.fixture(scope="module")
def table() -> cascjax.Table:
    drawn = synthetic.sample(synthetic.make_dataset(n_models=3, seed=4), 1, 600)
    return drawn.sort_models(drawn.cost.mean(0))


def test_it_is_simulated_as_a_plain_loop_has_it(table: cascjax.Table) -> None:
    estimates, prices = supplied(table, np.arange(600)), np.array([0.0, 20.0, 500.0])
    ran, answered = query_outcomes(Second(), prices, estimates, table.quality.shape)
    assert table.quality_ante is not None
    assert table.quality_post is not None
    cost = np.asarray(estimates.cost_ante)
    for at, price in enumerate(prices.astype(np.float32)):
        for query in range(0, 600, 7):
            run, seen = {0}, table.quality_post[query]
            if seen[0] < 0.5:
                worth = table.quality_ante[query] - price * cost[query]
                run.add(1 + int(np.argmax(worth[1:])))
            assert set(np.flatnonzero(ran[at, query])) == run
            assert answered[at, query] == max(sorted(run), key=lambda k: seen[k])


def test_its_name_is_as_good_as_an_instance(table: cascjax.Table) -> None:
    with pytest.raises(cascjax.CascjaxError, match="unknown strategy 'second'"):
        cascjax.compare(table, ["second"])
    assert register(Second) is Second
    by_name, by_itself, other = cascjax.compare(
        table, ["second", Second(), Second(good=0.9)], budgets=4
    ).frontiers
    assert by_name.strategy == "second"
    np.testing.assert_array_equal(by_name.quality, by_itself.quality)
    assert other.auc != by_name.auc
    # Between its budgets' ends the price is found: the cost on the rows to fit is the budget.
    met = by_name.reach == 0
    assert met.sum() >= 2
    np.testing.assert_allclose(by_name.fit_cost[met], by_name.budget[met], rtol=1e-6)


def test_a_policy_of_it_is_saved_and_loaded(table: cascjax.Table, tmp_path: Path) -> None:
    register(Second)
    policy = cascjax.fit(table, Second(good=0.75), budget=float(table.cost.mean()))
    policy.save(tmp_path / "policy.json")
    live = cascjax.load_policy(tmp_path / "policy.json")
    assert live.strategy == Second(good=0.75)
    run, believed = np.zeros(3, bool), np.array([0.7, 0.8, 0.9])
    assert live.next_model(live.estimates(believed, run), run, key=0) == 0
    run[0] = True
    assert live.next_model(live.estimates(believed, run), run, key=0) != STOP
    believed[0] = 0.75
    assert live.next_model(live.estimates(believed, run), run, key=0) == STOP
    del STRATEGIES["second"]
    with pytest.raises(cascjax.CascjaxError, match="unknown strategy 'second'"):
        cascjax.load_policy(tmp_path / "policy.json")


def test_a_command_line_and_a_report_learn_of_it_from_itself() -> None:
    (given,) = Second.options()
    assert (given.name, given.kind, given.choices, given.default) == ("good", float, (), 0.5)
    by_name = {option.name: option for option in STRATEGIES["cascade-routing"].options()}
    assert by_name["search"].choices == ("exact", "beam", "greedy")
    for kind in STRATEGIES.values():
        assert kind.description.endswith(".")
        assert kind.style is not None
        assert all(option.help for option in kind.options())


def test_a_class_defined_anew_takes_its_own_place() -> None:
    def define() -> type[Strategy]:
        @register
        @dataclass(frozen=True)
        class Again(Second):
            name: ClassVar[str] = "again"

        return Again

    first, second = define(), define()
    assert first is not second
    assert STRATEGIES["again"] is second


def test_what_cannot_be_registered_says_why() -> None:
    class Bare(Second):
        name: ClassVar[str] = "bare"

    @dataclass
    class Melted:
        name: ClassVar[str] = "melted"

    @dataclass(frozen=True)
    class Half(Priced, Strategy):
        name: ClassVar[str] = "half"

    @dataclass(frozen=True)
    class Nameless(Second):
        name: ClassVar[str] = ""

    @dataclass(frozen=True)
    class Thief(Routing):
        pass

    for kind, said in (
        (Melted, "Melted is no strategy: derive it from"),
        (Bare, r"Bare is no frozen dataclass: put @dataclass\(frozen=True\)"),
        (Half, "Half lacks next_model"),
        (Nameless, "Nameless has no name"),
        (Thief, "the name 'routing' belongs to Routing: give Thief another"),
    ):
        with pytest.raises(cascjax.CascjaxError, match=said):
            register(kind)
    with pytest.raises(cascjax.CascjaxError, match=r"Second\(good=0.5\) is no class"):
        # Past the checks of types that hold in tests alone.
        inspect.unwrap(register)(Second())
    assert list(STRATEGIES)[-1] == "oracle"
