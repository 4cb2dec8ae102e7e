"""Chains of chosen models: every chain in one pass, the hull over all, and what a policy keeps."""

import itertools
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import plain
import pytest
import test_run_sets
import test_search
from test_core import Hidden

from cascjax.data.table import Table, upper_hull
from cascjax.engine.simulate import grid_means
from cascjax.errors import CascjaxError
from cascjax.estimators import Estimator, Independent
from cascjax.evaluation import evaluate
from cascjax.fitting import fit
from cascjax.policy import load_policy
from cascjax.search.budgets import fit_budgets, fit_targets, simulate_settings
from cascjax.strategies import Frugal, SearchContext

N, K = 300, 4


def learned_world() -> tuple[Table, Estimator]:
    """Estimates that depend on all that has run, of a truth they tell something of."""
    estimator = test_run_sets.drawn(N, K, folds=3, logistic=True)
    everything = np.asarray(estimator(jnp.ones((N, K), bool)).quality)
    rng = np.random.default_rng(0)
    right = 0.6 * everything + np.linspace(0, 0.4, K)
    quality = (rng.random((N, K)) < right).astype(np.float32)
    return Table(quality, np.asarray(estimator.cost_run), models=tuple("abcd")), estimator


def synthetic() -> dict[str, tuple[Table, Estimator]]:
    table, estimator = test_search.world(3, N, K)
    return {
        "independent": (table, estimator),
        "learned": learned_world(),
        "any": (table, Hidden(estimator)),
    }


@pytest.mark.parametrize("name", ["independent", "learned", "any"])
def test_one_pass_over_all_chains_is_each_setting_by_itself(name: str) -> None:
    table, estimator = synthetic()[name]
    kind, rows = Frugal(max_depth=3), np.random.default_rng(1).permutation(N)[:200]
    taus = np.unique(kind.initial_grid(SearchContext(table, estimator, rows), 7)).astype(np.float32)
    found = grid_means(kind, taus, estimator, table.quality, table.cost, rows=rows)
    chains = kind.chains(K)
    assert found.shape == (len(chains), len(taus), 2) == (14, 7, 2)
    settings = np.array(list(itertools.product(chains.tolist(), taus.tolist())))
    means = simulate_settings(kind, settings, estimator, table, rows=rows, usage=False)
    # Settings by themselves: float32 sums over at most 64 queries.
    np.testing.assert_allclose(found[..., 0].ravel(), means.cost, rtol=1e-6)
    np.testing.assert_allclose(found[..., 1].ravel(), means.quality, rtol=1e-6)


@pytest.mark.parametrize("name", ["independent", "learned"])
def test_no_budget_is_below_the_single_models_hull_on_the_queries_fitted_on(name: str) -> None:
    table, estimator = synthetic()[name]
    rows = np.arange(0, N, 2)
    cost, quality = (of[rows].mean(0, dtype=np.float64) for of in (table.cost, table.quality))
    hull = upper_hull(cost, quality)
    assert hull.tolist() == plain.upper_hull(cost, quality)
    asked = np.linspace(cost.min(), cost[hull[-1]], 15)
    found = fit_budgets(Frugal(), estimator, table, asked, rows=rows)
    # Sums of float32.
    least = np.interp(asked, cost[hull], quality[hull])
    assert (found.quality >= least - 1e-6).all()
    assert (found.quality > least + 0.01).sum() >= 5
    # A target of quality that is had for a budget costs no more than it.
    reached = found.quality[(found.reach == 0) & (asked < found.most_expensive)]
    turned = fit_targets(Frugal(), estimator, table, reached, rows=rows)
    np.testing.assert_allclose(turned.cost, asked[: len(reached)], rtol=1e-4)


def hull_by_loops(table: Table, estimator: Estimator) -> np.ndarray:
    """Upper hull of all chains with all thresholds, a query's walk along each by the definition."""
    n, points = table.n_queries, []
    for size in range(1, K + 1):
        for chain in itertools.combinations(range(K), size):
            seen = []
            for step in range(size - 1):
                run = np.broadcast_to(np.isin(np.arange(K), chain[: step + 1]), (n, K))
                seen.append(np.asarray(estimator(jnp.asarray(run)).quality)[:, chain[step]])
            for tau in np.append(np.unique(seen), np.inf):
                going, cost, quality = np.ones(n, bool), np.zeros(n), np.zeros(n)
                for step, model in enumerate(chain):
                    cost[going] += table.cost[going, model]
                    quality[going] = table.quality[going, model]
                    if step < size - 1:
                        going &= seen[step] < tau
                points.append((cost.mean(), quality.mean()))
    cost, quality = np.array(points).T
    return np.array(points)[upper_hull(cost, quality)]


@pytest.mark.parametrize("name", ["independent", "learned", "any"])
def test_every_budget_gets_what_all_chains_and_thresholds_reach(name: str) -> None:
    table, estimator = synthetic()[name]
    cost, quality = hull_by_loops(table, estimator).T
    budgets = np.linspace(cost[0], cost[-1], 50)
    found = fit_budgets(Frugal(), estimator, table, budgets)
    np.testing.assert_allclose(found.quality, np.interp(budgets, cost, quality), atol=1e-5)


def test_a_useless_model_changes_nothing() -> None:
    table, estimator = test_search.world(3, N, K)
    assert isinstance(estimator, Independent)
    mean = table.cost.mean(0)
    budgets, fits = np.linspace(mean.min(), mean.max(), 30), []
    useless = np.zeros((N, 1), np.float32), np.full((N, 1), 9, np.float32)
    q, c = (
        np.hstack([x, column])
        for x, column in zip((table.quality, table.cost), useless, strict=True)
    )
    post = np.hstack([estimator.quality_post, useless[0]])
    longer = Independent(post, post, np.full((1, K + 1), 0.1, np.float32), c, c)
    for pair in ((table, estimator), (Table(q, c, models=tuple("abcde")), longer)):
        fits.append(fit_budgets(Frugal(), pair[1], pair[0], budgets).quality)
    np.testing.assert_allclose(fits[1], fits[0], atol=1e-4)


def test_a_policy_keeps_chains_and_decides_as_simulated(tmp_path: Path) -> None:
    table, estimator = test_search.world(4, N, K)
    assert isinstance(estimator, Independent)
    table = Table(
        table.quality, table.cost, models=table.models, cost_unit="USD",
        quality_ante=np.asarray(estimator.quality_ante),
        quality_post=np.asarray(estimator.quality_post),
        extra_costs={"seconds": table.cost},
    )  # fmt: skip
    policy = fit(table, "frugal", budget=0.06, confidence=0.9)
    assert policy.rule.parameters.shape[1] == 2
    policy.save(tmp_path / "policy.json")
    loaded = load_policy(tmp_path / "policy.json")
    np.testing.assert_array_equal(loaded.rule.parameters, policy.rule.parameters)
    found = evaluate(loaded, table, resamples=0)
    assert found.total.cost[0].value == pytest.approx(0.06, rel=0.2)
    # Live, a query at a time along the chain of its setting.
    chain = int(policy.rule.parameters[0, 0])
    alone = fit(table, "frugal", parameter=policy.rule.parameters[0])
    run = np.zeros(K, bool)
    first = alone.next_model(alone.estimates(np.full(K, 0.5), run), run)
    assert first == (chain & -chain).bit_length() - 1
    with pytest.raises(CascjaxError, match="own cost alone"):
        fit(table, "frugal", budget={"cost": 0.06, "seconds": 0.06})
    for parameter, message in (
        (0.7, "a chain of models in binary"),
        ([0.0, 0.5], "there is no chain 0 of 4 models"),
        ([16.0, 0.5], "from 1 to 15"),
        ([2.5, 0.5], "there is no chain 2.5"),
    ):
        with pytest.raises(CascjaxError, match=message):
            fit(table, "frugal", parameter=parameter)
    with pytest.raises(CascjaxError, match="more than max_depth 2"):
        fit(table, Frugal(max_depth=2), parameter=[7.0, 0.5])
    with pytest.raises(CascjaxError, match="at most 14 models and not 15"):
        Frugal().footprint(15)
