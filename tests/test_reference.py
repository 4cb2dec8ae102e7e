"""Against the paper's own implementation, on its own estimates and at its own prices.

The tables and what that implementation found on them stand beside the repository. Two things
keep the two apart: its E[max] is a mean over 100 quasi-random points, about 1e-2 off, and its
search for lambda is a plain bisection whose neighbours may lie far apart.
"""

import functools
import json
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cascjax.comparison import frontier
from cascjax.data import read_table
from cascjax.data.table import Table, split_rows
from cascjax.engine import simulate
from cascjax.estimators import Independent, supplied
from cascjax.metrics import auc, budgets
from cascjax.strategies import CascadeRouting, Cascading, Mixing, Pandora, Routing, Thresholding

KINDS = (Mixing(), Routing(), Thresholding(), Cascading(), CascadeRouting(), Pandora())

# Our strategy, the reference's name for it, and how far the AUCs may lie apart. Theirs carry
# the noise of 100 points and of one split: four runs lay within 0.001, and thresholding, where
# a few thresholds far apart make the whole curve, within 0.004.
MATCHES = {
    "routing": ("routing", 0.003),
    "thresholding": ("thresholding", 0.006),
    "cascading": ("cascading_correct", 0.003),
    "cascade-routing": ("cascade-routing_correct", 0.003),
}

NAMES = ("k3-low", "k3-medium", "k3-high", "k5-low")


@dataclass(frozen=True)
class Reference:
    """One table, its estimates and split, and what the reference found on it."""

    table: Table
    estimator: Independent
    fit: np.ndarray
    evaluate: np.ndarray
    results: list[dict]

    def singles(self) -> tuple[np.ndarray, np.ndarray]:
        part = self.table.take(self.evaluate)
        return part.cost.mean(0, dtype=np.float64), part.quality.mean(0, dtype=np.float64)

    def points(self, strategy: str) -> list[dict]:
        return [row for row in self.results if row["strategy"] == strategy]

    def their_area(self, strategy: str) -> float:
        rows = self.points(strategy)
        cost, quality = (np.array([row[name] for row in rows]) for name in ("cost", "quality"))
        return auc(cost, quality, *self.singles())


@functools.cache
def loaded(folder: Path, name: str) -> Reference:
    results = json.loads((folder / f"reference-{name}.json").read_text())["results"]
    table = read_table(folder / f"reference-{name}.parquet")
    fit, evaluate = split_rows(table)
    table = table.sort_models(table.take(fit).cost.mean(0, dtype=np.float64))
    return Reference(table, supplied(table, fit), fit, evaluate, results)


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=[pytest.mark.slow] * (name != NAMES[0])) for name in NAMES],
)
def reference(request: pytest.FixtureRequest, shared_data: Path) -> Reference:
    if not (shared_data / f"reference-{request.param}.json").exists():
        pytest.skip(f"reference-{request.param} is absent from {shared_data}")
    return loaded(shared_data, request.param)


def test_areas_and_their_order_are_those_of_the_paper(reference: Reference) -> None:
    asked = np.unique([row["budget"] for row in reference.results])
    # Our own budgets would be the same, to the nine digits that stand in the file.
    np.testing.assert_allclose(asked, budgets(*reference.singles(), len(asked)), atol=1e-9)
    rows = (reference.table, reference.estimator, reference.fit, reference.evaluate)
    ours = {kind.name: frontier(kind, *rows, asked).auc for kind in KINDS}
    theirs = {name: reference.their_area(match) for name, (match, _) in MATCHES.items()}
    print("ours", ours, "theirs", theirs)
    for name, (_, apart) in MATCHES.items():
        assert ours[name] == pytest.approx(theirs[name], abs=apart), name
    assert ours["mixing"] < ours["routing"] < ours["cascade-routing"]
    # The adaptive index may lead; where the models' errors are not independent it may trail.
    assert ours["pandora"] > theirs["cascade-routing"] - 0.005


Kind = Routing | Cascading | CascadeRouting


@functools.partial(jax.jit, static_argnums=0)
def swept(kind: Kind, prices: jax.Array, estimator: Independent) -> tuple[jax.Array, jax.Array]:
    nothing_run = jnp.zeros(estimator.quality_ante.shape, bool)
    outcome = simulate.outcomes(kind, prices, estimator, nothing_run)
    return outcome.run, outcome.answer


def spent_and_gained(
    reference: Reference, kind: Kind, prices: list[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Mean cost and quality on the evaluation split at each price, in float64."""
    table = reference.table.take(reference.evaluate)
    estimator = reference.estimator.take(reference.evaluate)
    # One number of prices, so that each strategy compiles once a table.
    padded = jnp.array([*prices, *[0.0] * (9 - len(prices))], jnp.float32)
    run, answer = (np.asarray(x)[: len(prices)] for x in swept(kind, padded, estimator))
    cost = (run * table.cost.astype(float)).sum(2).mean(1)
    return cost, table.quality.astype(float)[np.arange(table.n_queries), answer].mean(1)


# Prices beyond this are the reference's way to say that nothing but cost counts.
WITHIN = 1e4


@pytest.mark.parametrize("kind", [Cascading(), CascadeRouting()], ids=lambda kind: kind.name)
def test_at_their_prices_we_spend_and_gain_as_they_do(reference: Reference, kind: Kind) -> None:
    points = reference.points(MATCHES[kind.name][0])
    # At a gamma of 0 or 1 a point is a single setting.
    rows = [row for row in points if row["gamma"] in (0, 1) and row["lambdas"][0] < WITHIN]
    assert len(rows) >= 4
    cost, quality = spent_and_gained(reference, kind, [row["lambdas"][0] for row in rows])
    # Worths 1e-2 off turn some one or two choices in a hundred: four runs lay within 1.9 % of
    # the cost, and within two answers of some 700 of the quality.
    np.testing.assert_allclose(cost, [row["cost"] for row in rows], rtol=0.03)
    np.testing.assert_allclose(quality, [row["quality"] for row in rows], atol=0.005)


def test_routing_at_their_prices_is_theirs(reference: Reference) -> None:
    rows = [row for row in reference.points("routing") if row["lambdas"][0] < WITHIN]
    assert len(rows) >= 4
    # 20 bisections from 10,000 leave lambda within 0.0096; the mix is of that bracket's ends.
    at = np.array([row["lambdas"][0] for row in rows])
    low, high = (
        spent_and_gained(reference, Routing(), list(np.maximum(at + shift, 0)))
        for shift in (0.0096, -0.0096)
    )
    for name, cheap, expensive in zip(("cost", "quality"), low, high, strict=True):
        theirs = np.array([row[name] for row in rows])
        # Six digits after the point of quality, nine of cost, stand in the file.
        slack = 1e-9 if name == "cost" else 1e-6
        between = (np.minimum(cheap, expensive) - slack, np.maximum(cheap, expensive) + slack)
        assert ((between[0] <= theirs) & (theirs <= between[1])).all()
        # Nearly exactly: few queries lie within such a bracket.
        np.testing.assert_allclose(cheap, expensive, rtol=0.01)
