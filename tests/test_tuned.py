"""Tuning as one job, and cascjax tune: what it writes, what it says, interrupts and refusals."""

import html
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

import cascjax
from cascjax import synthetic
from cascjax.cli import main
from cascjax.comparison import frontier
from cascjax.data.table import Table, mean_rows, split_rows
from cascjax.engine.simulate import query_spends
from cascjax.errors import CascjaxError
from cascjax.estimators import supplied
from cascjax.metrics import auc
from cascjax.strategies import Pandora, Thresholding


@pytest.fixture(autouse=True, scope="module")
def cache_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache folder of the tests' own: the user's is left alone."""
    before = jax.config.values["jax_compilation_cache_dir"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
        yield
    jax.config.update("jax_compilation_cache_dir", before)


@pytest.fixture(scope="module")
def misjudged() -> Table:
    """Three models that cost about the same, of which the second, the worst, is flattered."""
    rng, n = np.random.default_rng(0), 2_000
    ante = np.array([0.5, 0.4, 0.6]) + 0.1 * rng.standard_normal((n, 3))
    quality = ante + 0.2 * rng.standard_normal((n, 3))
    cost = np.array([1.0, 1.2, 1.5]) * rng.lognormal(0, 0.1, (n, 3))
    flattered = ante + np.array([0.0, 0.35, 0.0])
    quality, cost, ante = (x.astype(np.float32) for x in (quality, cost, flattered))
    return Table(quality, cost, ante, quality, models=("a", "b", "c"), cost_unit="USD")


@pytest.fixture(scope="module")
def few(misjudged: Table) -> Table:
    """Half of them, for properties of any number of queries."""
    return misjudged.take(np.arange(1000))


@pytest.fixture(scope="module")
def tuning(misjudged: Table) -> cascjax.Tuning:
    return cascjax.tune(misjudged, "pandora", budgets=6, resamples=200)


def test_errors_of_estimates_are_corrected_out_of_sample(tuning: cascjax.Tuning) -> None:
    plain, better = tuning.study.frontiers[1:]
    assert (plain.strategy, better.strategy) == ("pandora", "tuned pandora")
    assert tuning.tuned.replaces
    # The flattered model is corrected, relative to the others.
    offset = tuning.tuned.offset
    assert offset[1] < min(offset[0], offset[2]) - 0.05
    low, _ = tuning.study.difference_interval[-1, -2]
    assert better.auc > plain.auc
    assert low > 0


def test_both_frontiers_are_those_of_a_plain_fit(tuning: cascjax.Tuning, misjudged: Table) -> None:
    fit, evaluate = split_rows(misjudged, 0)
    table = misjudged.sort_models(mean_rows(misjudged.cost, fit))
    plain = supplied(table, fit)
    corrected = plain.corrected(tuning.tuned.scale, tuning.tuned.offset)
    for drawn, estimator in zip(tuning.study.frontiers[1:], (plain, corrected), strict=True):
        again = frontier(Pandora(), table, estimator, fit, evaluate, tuning.budgets)
        np.testing.assert_allclose(drawn.cost, again.cost, rtol=1e-6)
        np.testing.assert_allclose(drawn.quality, again.quality, rtol=1e-6)
    study = tuning.study
    for drawn in study.frontiers:
        curve = drawn.curve_cost, drawn.curve_quality
        assert drawn.auc == auc(*curve, study.single_cost, study.single_quality)


@pytest.mark.parametrize("strategy", ["pandora", "thresholding"])
def test_a_policy_does_what_the_tuned_frontier_says(few: Table, strategy: str) -> None:
    if strategy == "thresholding":
        # Each answer is judged on a scale of its own.
        scales = np.array([1.0, 0.3, 1.0], np.float32)
        few = replace(few, quality_post=few.quality * scales)
    tuning = cascjax.tune(few, strategy, budgets=5)
    assert tuning.tuned.replaces
    drawn = tuning.study.frontiers[-1]
    for p in (1, 2):
        policy = tuning.policies[p]
        replayed = cascjax.evaluate(policy, few, resamples=0).total
        np.testing.assert_allclose(replayed.quality.value, drawn.quality[p], rtol=1e-6)
        np.testing.assert_allclose(replayed.cost[0].value, drawn.cost[p], rtol=1e-6)
        np.testing.assert_allclose(policy.rule.fitted.cost[0], tuning.budgets[p], rtol=1e-6)


def test_a_tuning_as_text_table_and_policies(tuning: cascjax.Tuning, tmp_path: Path) -> None:
    assert len(repr(tuning).splitlines()) == 2 + len(tuning.tuned.candidates)
    assert "Cross-validated" in repr(tuning).splitlines()[0]
    assert "<table" in tuning._repr_html_()
    numbers = tuning.to_pandas()
    assert numbers["gain"].tolist() == [c.gain for c in tuning.tuned.candidates]
    assert numbers["chosen"].to_numpy().argmax() == tuning.tuned.chosen
    assert tuning == tuning
    assert hash(tuning)
    low, high = tuning.budgets[1:3]
    assert tuning.policy(low) is tuning.policies[1]
    assert tuning.policy((low + high) / 2) is tuning.policies[1]
    with pytest.raises(CascjaxError, match="no policy keeps within"):
        tuning.policy(tuning.budgets[0] / 2)
    policy = tuning.policies[2]
    policy.save(tmp_path / "policy.json")
    loaded = cascjax.load_policy(tmp_path / "policy.json")
    assert loaded.corrected
    assert loaded.text() == policy.text()


def test_where_nothing_does_better_the_plain_parameters_stay() -> None:
    # Models that are all alike and estimates that are pure noise: there is nothing to learn.
    rng = np.random.default_rng(0)
    quality = (rng.random((600, 3)) < 0.5).astype(np.float32)
    cost = np.tile(np.arange(1, 4, dtype=np.float32), (600, 1))
    ante = np.full_like(quality, 0.5)
    table = Table(quality, cost, ante, ante.copy(), models=("a", "b", "c"))
    tuning = cascjax.tune(table, "thresholding", budgets=4)
    assert not tuning.tuned.replaces
    assert [c.gain <= 0 for c in tuning.tuned.candidates] == [True] * 4
    plain, same = tuning.study.frontiers[1:]
    np.testing.assert_allclose(plain.quality, same.quality, rtol=1e-6)


def test_per_step_settings_meet_budgets_by_a_plain_sum(misjudged: Table) -> None:
    fit, _ = split_rows(misjudged, 0)
    table = misjudged.sort_models(mean_rows(misjudged.cost, fit))
    tuning = cascjax.tune(misjudged, "thresholding", budgets=5)
    drawn, estimator = tuning.study.frontiers[-1], supplied(table, fit)
    for p in range(5):
        spent, got = query_spends(
            Thresholding(), drawn.parameters[p], estimator, table.quality, table.cost, rows=fit
        )
        share = np.array([1 - drawn.gamma[p], drawn.gamma[p]])
        assert share @ spent.mean(1, dtype=np.float64) <= tuning.budgets[p] * (1 + 1e-6)
        np.testing.assert_allclose(
            share @ got.mean(1, dtype=np.float64), drawn.fit_quality[p], rtol=1e-6
        )


def test_the_evaluation_split_is_not_read_before_the_end(few: Table) -> None:
    _, evaluate = split_rows(few, 0)
    split, quality = np.zeros(few.n_queries, np.int8), few.quality.copy()
    split[evaluate], quality[evaluate] = 1, 1 - quality[evaluate]
    first, other = (
        cascjax.tune(replace(few, quality=q, split=split), "pandora", budgets=3)
        for q in (few.quality, quality)
    )
    np.testing.assert_array_equal(first.tuned.scale, other.tuned.scale)
    np.testing.assert_array_equal(first.tuned.offset, other.tuned.offset)
    assert first.tuned.candidates == other.tuned.candidates
    parameters = [t.policies[1].rule.parameters.tolist() for t in (first, other)]
    assert parameters[0] == parameters[1]
    assert first.tuned.replaces
    assert first.study.frontiers[-1].auc != other.study.frontiers[-1].auc


def test_budgets_below_the_cheapest_model_are_out_of_reach() -> None:
    # Some noisy estimates of costs are negative: cascading cannot run the cheapest model alone,
    # but a policy can.
    table = synthetic.sample(synthetic.make_dataset(4, seed=1), 0, 600)
    tuning = cascjax.tune(table, "cascading", budgets=3, estimates=cascjax.Noisy())
    low, _ = tuning.study.frontiers[1].reachable
    cheapest = mean_rows(table.cost, split_rows(table, 0)[0]).min()
    np.testing.assert_allclose([low, tuning.budgets[0]], cheapest, rtol=1e-6)
    with pytest.raises(CascjaxError, match="out of reach of cascading"):
        cascjax.tune(table, "cascading", budgets=[low / 1.5], estimates=cascjax.Noisy())


def test_an_interrupt_returns_the_best_so_far_and_a_resumed_call_the_whole(
    few: Table, tmp_path: Path
) -> None:
    for rows, name in ((np.arange(400), "a"), (np.arange(400, 1000), "b")):
        cascjax.write_table(tmp_path / f"{name}.parquet", few.take(rows))
    files = [tmp_path / "a.parquet", tmp_path / "b.parquet"]

    def interrupt(work: str, rows: int) -> None:
        if work == "tuning":
            raise KeyboardInterrupt

    def tuned(**options: Any) -> cascjax.Tuning:
        return cascjax.tune(files, "pandora", budgets=3, options=cascjax.RunOptions(**options))

    part = tuned(checkpoint=tmp_path / "checkpoint", progress=interrupt)
    assert part.tuned.interrupted
    assert part.tuned.candidates[-1].name == "1 round of line searches"
    with pytest.raises(CascjaxError, match="an unfinished run"):
        tuned(checkpoint=tmp_path / "checkpoint")
    whole, plain = tuned(checkpoint=tmp_path / "checkpoint", resume=True), tuned()
    assert not whole.tuned.interrupted
    assert whole.tuned.candidates == plain.tuned.candidates
    assert [p.text() for p in whole.policies] == [p.text() for p in plain.policies]
    assert [f.auc for f in whole.study.frontiers] == [f.auc for f in plain.study.frontiers]


def test_many_rows_are_sampled(misjudged: Table) -> None:
    options = cascjax.RunOptions(sample=500)
    tuning = cascjax.tune(misjudged, "thresholding", budgets=4, options=options)
    assert tuning.tuned.n_queries == 500
    assert tuning.study.n_fit == tuning.study.n_evaluate == 1000
    # Budgets are met on all fit rows, not only on the sample.
    frontier = tuning.study.frontiers[-1]
    met = frontier.reach == 0
    np.testing.assert_allclose(frontier.fit_cost[met], tuning.budgets[met], rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"budgets": [1e-9, 0.001]}, "out of reach of pandora: the lowest mean cost it reaches is"),
        ({"budgets": [0.1, np.nan]}, "finite and above 0"),
        ({"budgets": [np.inf]}, "finite and above 0"),
        ({"budgets": [-1.0]}, "finite and above 0"),
        ({"budgets": []}, "finite and above 0"),
        ({"estimates": cascjax.Learned()}, "learned ones are not"),
        ({"estimates": "nonesuch"}, "unknown kind of estimates"),
    ],
)
def test_arguments_that_are_refused(few: Table, arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(CascjaxError, match=says):
        cascjax.tune(few, "pandora", **arguments)


# The command.


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tuned") / "world.arrow"
    assert run("synthesize", str(path), "--queries", "400", "--models", "3").exit_code == 0
    return path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def tuned(world: Path, out: Path, *more: str) -> Result:
    return run(
        "tune", str(world), "--strategy", "pandora", "--budgets", "4", "--out", str(out), *more
    )


def test_the_folder_holds_policies_and_a_report(world: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = tuned(world, out)
    assert result.exit_code == 0, result.output
    policies = [f"policy-0{i}.json" for i in range(1, 5)]
    names = ["frontier.parquet", *policies, "report.html", "summary.json"]
    assert sorted(os.listdir(out)) == names
    summary = json.loads((out / "summary.json").read_text())
    assert list(summary["strategies"]) == ["mixing", "pandora", "tuned pandora"]
    assert list(summary["policies"]) == policies
    verdict, candidates = summary["tuned"]["verdict"], summary["tuned"]["candidates"]
    assert candidates[0]["name"] == "plain"
    assert verdict in " ".join(result.output.split())
    page = html.unescape((out / "report.html").read_text())
    assert "tuned pandora" in page
    assert verdict in page
    for c in candidates[1:]:
        assert f"{c['name']}</th><td>{c['gain']:+.4f}</td><td>{c['error']:.4f}</td>" in page
    rows = pq.read_table(out / "frontier.parquet").to_pandas()
    assert rows.strategy.value_counts().to_dict() == dict.fromkeys(summary["strategies"], 4)
    for name, budget in summary["policies"].items():
        policy = cascjax.load_policy(out / name)
        assert policy.rule.fitted.budget == (budget,)
    replay = run("evaluate", str(out / "policy-02.json"), str(world), "--out", str(tmp_path / "e"))
    assert replay.exit_code == 0, replay.output


@pytest.mark.slow
def test_fewer_budgets_leave_no_policy_of_more(world: Path, tmp_path: Path) -> None:
    for mine in ("policy-of-mine.json", "policy-7.json"):
        (tmp_path / mine).write_text("{}")
    assert tuned(world, tmp_path).exit_code == 0
    assert tuned(world, tmp_path, "--budgets", "2").exit_code == 0
    assert sorted(p.name for p in tmp_path.glob("policy-*")) == [
        "policy-01.json", "policy-02.json", "policy-7.json", "policy-of-mine.json",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--strategy", "routing"], "strategy 'routing' has nothing to tune"),
        (["--strategy", "oracle"], "nothing to tune"),
        (["--strategy", "pandorra"], "did you mean 'pandora'?"),
        (["--budgets", "1e-9,0.001"], "out of reach"),
        (["--folds", "1"], "--folds"),
        (["--folds", "100"], "too few to tune on with 100 folds"),
        (["--noise", "loud"], "unknown noise level"),
        (["--resamples", "3"], "resamples"),
    ],
)
def test_what_is_refused(world: Path, tmp_path: Path, more: list[str], says: str) -> None:
    result = tuned(world, tmp_path / "out", *more)
    assert result.exit_code == 2, result.output
    assert says in result.output
    assert len(result.output.strip().splitlines()[-1]) < 400
    assert not (tmp_path / "out").exists()
