"""The paper's experiments: protocol, cells that are kept, tables, sweeps over levels of noise."""

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pyarrow.parquet as pq
import pytest
from cascjax.cli.legacy import experiments as experiment_commands
from click.testing import CliRunner, Result
from matplotlib.figure import Figure
from rich.console import Console
from sklearn.model_selection import train_test_split

from cascjax import synthetic
from cascjax.cli import main
from cascjax.comparison import frontier, study
from cascjax.data import write_table
from cascjax.data.table import Table, mean_rows, split_rows
from cascjax.engine.parts import RUN, Parts
from cascjax.engine.simulate import query_outcomes
from cascjax.errors import CascjaxError
from cascjax.estimators import NOISE_LEVELS, learned, noisy
from cascjax.experiments import (
    EXPERIMENTS,
    Experiment,
    Findings,
    Job,
    ablation,
    base,
    noise_grid,
    runtime,
    settings,
    table1,
    table4,
)
from cascjax.experiments.batched import NoiseStack, aucs
from cascjax.experiments.cells import Cell, run_cells
from cascjax.experiments.live import decision_seconds
from cascjax.experiments.protocol import Setup, setup, setup_of, split
from cascjax.experiments.published import AREAS, CHOICES, COLUMNS, MODELS, QUERIES, STRATEGIES
from cascjax.experiments.tables import Entry, Grid, latex, markdown, signed, turned
from cascjax.metrics import auc, budgets
from cascjax.metrics.bootstrap import interval
from cascjax.search import budgets as budget
from cascjax.strategies import (
    CascadeRouting,
    Cascading,
    Pandora,
    Routing,
    Strategy,
    Thresholding,
)


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
def twin() -> Table:
    return synthetic.sample(synthetic.make_dataset(11, kind="routerbench"), 0, 600)


@pytest.fixture(scope="module")
def three(twin: Table) -> Setup:
    return setup(twin, 3)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


# What the paper does.


@pytest.mark.parametrize("n", [400, 401, 419, 420, 3150, 36_497])
def test_the_split_is_the_papers(n: int) -> None:
    fit, evaluate = train_test_split(np.arange(n), test_size=0.95, random_state=42)
    ours = split(n)
    np.testing.assert_array_equal(ours[0], np.sort(fit))
    np.testing.assert_array_equal(ours[1], np.sort(evaluate))


def test_models_are_those_the_paper_counts(twin: Table) -> None:
    # Of data.columns[3:14] of RouterBench's file, numbers 9, 4 and 5.
    assert set(setup(twin, 3).table.models) == {
        "mistralai/mixtral-8x7b-chat", "gpt-3.5-turbo-1106", "gpt-4-1106-preview",
    }  # fmt: skip
    assert setup(twin, 5).table.models.index("gpt-4-1106-preview") == 4  # in rising cost


def test_models_stand_in_the_order_of_routerbenchs_file(shared_data: Path) -> None:
    names = pq.read_schema(shared_data / "routerbench-sample.parquet").names
    assert tuple(names[3:14]) == MODELS


def test_budgets_are_ten_between_neighbours_on_the_hull(twin: Table, three: Setup) -> None:
    cost, quality = three.single
    assert np.all(np.diff(cost) > 0)
    # The second model is better than mixing the first and the third: three are on the hull.
    assert quality[1] > np.interp(cost[1], cost[[0, 2]], quality[[0, 2]])
    expected = np.union1d(*(np.linspace(cost[i], cost[i + 1], 10) for i in (0, 1)))
    np.testing.assert_allclose(three.budgets, expected, rtol=1e-12)
    # claude-v2, the fourth of five, is not.
    five = setup(twin, 5)
    assert len(five.budgets) == 3 * 9 + 1
    assert np.isclose(five.budgets[:, None], five.single[0]).any(0).tolist() == [
        True, True, True, False, True,
    ]  # fmt: skip


def test_published_areas_are_whole() -> None:
    assert len(AREAS) == len(STRATEGIES) * len(COLUMNS) == 45
    for column in COLUMNS:
        assert max(STRATEGIES, key=lambda s, c=column: AREAS[(s, *c)]) == "cascade-routing"


def test_a_table_of_other_models_is_refused(twin: Table) -> None:
    with pytest.raises(CascjaxError, match="lacks claude-v2: make it with cascjax import"):
        setup(twin.select_models([m for m in twin.models if m != "claude-v2"]), 11)
    judged = synthetic.sample(synthetic.make_dataset(5), 0, 600)
    with pytest.raises(CascjaxError, match=r"5 models, and of RouterBench's 11 it lacks .* 8 more"):
        setup(judged, 3)


def test_too_few_rows_are_refused(twin: Table) -> None:
    with pytest.raises(CascjaxError, match=r"399 rows leave 19 to fit on.*at least 400 rows"):
        setup(twin.take(np.arange(399)), 3)
    assert len(setup(twin.take(np.arange(400)), 3).fit_rows) == 20


# Cells.


def cells_of(done: list[str], stop: str | None = None) -> list[Cell]:
    def work(key: str) -> Callable[[Callable[[float], None]], list[dict[str, Any]]]:
        def one(progress: Callable[[float], None]) -> list[dict[str, Any]]:
            if key == stop:
                raise KeyboardInterrupt
            progress(0.5)
            done.append(key)
            return [{"key": key, "values": [1.0, 2.0]}, {"key": key, "values": []}]

        return one

    return [
        Cell(key, f"cell {key}", work(key), weight)
        for key, weight in zip("abcd", [1.0, 1.0, 2.0, 4.0], strict=True)
    ]


def parts_of(folder: Path, **more: Any) -> Parts:
    return Parts(folder / "x.cells", {"version": "1", "table": "t", "seed": 0} | more)


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    done: list[str] = []
    parts = parts_of(tmp_path)
    parts.open()
    with pytest.raises(KeyboardInterrupt):
        run_cells(cells_of(done, stop="c"), parts)
    assert sorted(p.name for p in (tmp_path / "x.cells").iterdir()) == [
        "a.parquet", "b.parquet", RUN,
    ]  # fmt: skip
    seen: list[tuple[str, float, int]] = []
    parts = parts_of(tmp_path)
    parts.open()
    rows = run_cells(cells_of(done), parts, lambda *moved: seen.append(moved))
    assert done == ["a", "b", "c", "d"]  # none of them twice
    assert [row["key"] for row in rows] == list("aabbccdd")
    assert rows[0]["values"] == [1.0, 2.0]
    assert all(row["wall"] >= 0 for row in rows)
    shares = [share for _, share, _ in seen]
    assert shares == sorted(shares)
    assert seen[-1] == ("cell d", 1.0, 4)
    # Half of the third cell: two of eight parts done before it, one of its two.
    assert ("cell c", 3 / 8, 2) in seen


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"seed": 1}, "a run of other settings, seed 0 and not 1: choose another --out"),
        ({"table": "u"}, "a run on another table"),
        ({"version": "2"}, "version 1 and not 2"),
        ({"resamples": 40}, "resamples None and not 40"),
    ],
)
def test_another_run_is_refused_and_nothing_lost(
    tmp_path: Path, more: dict[str, Any], says: str
) -> None:
    parts = parts_of(tmp_path)
    parts.open()
    run_cells(cells_of([]), parts)
    with pytest.raises(CascjaxError, match=says):
        parts_of(tmp_path, **more).open()
    assert parts.read("a") is not None
    other = parts_of(tmp_path, **more)
    other.open(force=True)
    assert other.read("a") is None
    other.open()


def test_a_damaged_cell_is_named(tmp_path: Path) -> None:
    parts = parts_of(tmp_path)
    parts.open()
    run_cells(cells_of([]), parts)
    path = tmp_path / "x.cells" / "b.parquet"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(CascjaxError, match=r"b\.parquet.*; remove it to do that part again"):
        parts.read("b")
    path.unlink()
    done: list[str] = []
    run_cells(cells_of(done), parts)
    assert done == ["b"]


def test_a_cell_of_another_run_is_not_taken_for_one_of_this(tmp_path: Path) -> None:
    ours, other = parts_of(tmp_path / "1"), parts_of(tmp_path / "2", seed=1)
    for parts, name in ((ours, "1"), (other, "2")):
        (tmp_path / name).mkdir()
        parts.open()
        run_cells(cells_of([]), parts)
    cell = (tmp_path / "2/x.cells/a.parquet").read_bytes()
    (tmp_path / "1/x.cells/a.parquet").write_bytes(cell)
    with pytest.raises(CascjaxError, match=r"a\.parquet is of another run"):
        ours.read("a")


def test_folders_that_are_no_run(tmp_path: Path) -> None:
    folder = tmp_path / "x.cells"
    folder.mkdir()
    (folder / RUN).write_text("{")
    with pytest.raises(CascjaxError, match=r"holds a damaged run\.json"):
        parts_of(tmp_path).open()
    (folder / RUN).unlink()
    (folder / "a.parquet").write_text("mine")
    with pytest.raises(CascjaxError, match="holds parts of an unknown run"):
        parts_of(tmp_path).open()
    assert (folder / "a.parquet").read_text() == "mine"


# Tables.

GRID = Grid(
    "AUC & more_of it",
    ["strategy", "3 low"],
    [["a|b", Entry("82.36", "81.09", best=True)], ["c_d", Entry("−1.00")], ["plain", "yes"]],
    ("50% of it.",),
)


def test_markdown_is_a_table() -> None:
    lines = markdown(GRID).splitlines()
    assert lines[2:7] == [
        "| strategy | 3 low |",
        "| --- | ---: |",
        "| a\\|b | **82.36** (81.09) |",
        "| c_d | −1.00 |",
        "| plain | yes |",
    ]
    assert lines[-1] == "50% of it."


def test_latex_is_escaped() -> None:
    text = latex(GRID)
    # As wide as if something stood in brackets: numbers stand below each other.
    assert r"c\_d & $-$1.00\phantom{ {\scriptsize (81.09)}} \\" in text
    assert r"a|b & \textbf{82.36} {\scriptsize (81.09)} \\" in text
    assert r"\caption{AUC \& more\_of it.}" in text
    assert r"{\footnotesize\raggedright 50\% of it.\par}" in text
    assert text.count("{") == text.count("}")


def test_wide_latex_is_made_to_fit() -> None:
    heads = [f"{k} {level}" for k in (3, 5, 11) for level in ("low", "medium", "high")]
    numbers = [Entry("+11.26 [+10.50, +12.03]", "+12.74")] * 9
    text = latex(Grid("AUCs", ["strategy", *heads], [["mixing", *numbers]], together=3))
    # Three lots below each other, each with the first column, and none of them parted.
    for k in (3, 5, 11):
        assert rf"strategy & {k} low & {k} medium & {k} high \\" in text
    assert r"\begin{tabular}{lrrr}" in text
    assert text.count("mixing & ") == text.count(r"\toprule") + text.count(r"\midrule") - 3 == 3
    # Still wider than a page: it is shrunk, and never widened.
    assert text.index(r"\resizebox{\ifdim\width>\linewidth") < text.index(r"\begin{tabular}")
    assert r"\end{tabular}}" in text
    assert text.count("{") == text.count("}")
    # Lots are as even as can be, whatever their number.
    words = latex(Grid("Words", ["w" * 30] * 7, [["x"] * 7]))
    assert r"\begin{tabular}{lrr}" in words
    assert words.count(" & ".join(["w" * 30] * 3) + r" \\") == 3
    assert "resizebox" not in latex(GRID)


def test_long_latex_is_set_small() -> None:
    short, long = (Grid("t", ["a", "b"], [["1", "2"]] * n) for n in (20, 40))
    assert r"\small" + "\n" not in latex(short)
    assert r"\small" + "\n" in latex(long)


def test_numbers_have_signs() -> None:
    assert [signed(x) for x in (1.234, -1.234, 0.001, -0.001)] == ["+1.23", "−1.23", "0.00", "0.00"]


def test_pairs_that_stand_the_other_way() -> None:
    published = {"a": 3.0, "b": 2.0, "c": 1.0}
    assert turned({"a": 0.9, "b": 0.8, "c": 0.7}, published) == []
    assert turned({"a": 0.7, "b": 0.8, "c": 0.6}, published) == [("a", "b")]
    # Equal here is not as published; equal as published says nothing.
    assert turned({"a": 0.8, "b": 0.8, "c": 0.6}, published) == [("a", "b")]
    assert turned({"a": 0.1, "b": 0.8, "c": 0.6}, published | {"b": 3.0}) == [("a", "c")]


# Table 1 and 4.


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str]]:
    """Two columns of three models: the rest is the same, and compiles for minutes."""
    columns = [(3, "low"), (3, "high")]
    for module in (table1, table4):
        monkeypatch.setattr(module, "COLUMNS", tuple(columns))
    monkeypatch.setattr(table1, "CHOICES", {3: CHOICES[3]})
    return columns


QUICK = ("routing", "cascade-routing")


def rows_of(experiment: Experiment, job: Job, folder: Path) -> list[dict[str, Any]]:
    parts = Parts(folder / "cells", {})
    parts.open()
    return run_cells(experiment.cells(job), parts)


@pytest.mark.parametrize(
    "strategies", [QUICK, pytest.param(table1.PLAIN, marks=pytest.mark.slow)], ids=["some", "all"]
)
def test_areas_are_those_of_a_study(
    strategies: tuple[str, ...], small: list[tuple[int, str]], twin: Table, three: Setup,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(table1, "PLAIN", strategies)
    job = Job(twin, "twin", 3, {"tuned": "none", "resamples": 40})
    rows = rows_of(EXPERIMENTS["table4"], job, tmp_path)
    found = table1.areas_of(rows)
    for k, level in small:
        drawn = study(
            [table1.named(name) for name in strategies], three.table,
            noisy(three.table, jax.random.key(3), level), three.fit_rows, three.evaluate_rows,
            resamples=40, seed=3,
        )  # fmt: skip
        assert [found[f.strategy, k, level] for f in drawn.frontiers] == [
            f.auc for f in drawn.frontiers
        ]
        # Its differences are those of the study, whose resamples are pairs.
        assert drawn.difference is not None
        assert drawn.difference_interval is not None
        ours = strategies.index("cascade-routing")
        for i, name in enumerate(strategies):
            if i != ours:
                middle, low, high = table4.differences(rows)[name, k, level]
                np.testing.assert_allclose(middle, drawn.difference[ours, i])
                np.testing.assert_allclose((low, high), drawn.difference_interval[ours, i])


def test_the_order_of_strategies_is_compared_column_by_column(small: list[tuple[int, str]]) -> None:
    aucs = {(s, k, level): AREAS[s, k, level] / 100 for s in STRATEGIES for k, level in small}
    said, notes = table1.order_row(aucs)
    assert said[1:] == ["yes", "yes"]
    assert notes == ["Order as published: in 2 of 2 columns; 20 of 20 pairs of strategies."]
    aucs["routing", 3, "low"] = aucs["thresholding", 3, "low"] + 0.001
    said, notes = table1.order_row(aucs)
    assert said[1:] == ["no", "yes"]
    assert "in 1 of 2 columns; 19 of 20 pairs" in notes[0]
    assert "3 low: routing above thresholding by 0.10 (published: below by 1.13)" in notes[0]
    # Two that are turned in one column are two.
    turned_twice = aucs | {("cascading", 3, "low"): aucs["routing", 3, "low"] - 0.0005}
    _, notes = table1.order_row(turned_twice)
    assert "in 1 of 2 columns; 18 of 20 pairs" in notes[0]
    # The published thresholding is tuned: ours may stand for it.
    tuned = {
        ("tuned thresholding", k, level): AREAS["thresholding", k, level] / 100 + 0.0015
        for k, level in small
    }
    said, notes = table1.order_row(aucs | tuned, {"thresholding": "tuned thresholding"})
    assert said == ["the same, tuned", "yes", "yes"]
    assert notes[0].startswith("Order as published, with tuned thresholding: in 2 of 2 columns")


# Many levels of noise at once.

PAIRS = np.array([[0, 0], [1, 0], [1, 1], [2, 1]])


@pytest.fixture(scope="module")
def stack(three: Setup) -> NoiseStack:
    return NoiseStack.of(three, (0.0, 0.6, 2.4), PAIRS, NOISE_LEVELS["low"][2:], 5)


def test_levels_are_those_of_noisy_estimates(three: Setup, stack: NoiseStack) -> None:
    for g, (a, p) in enumerate(PAIRS):
        sigmas = ((0.0, 0.6, 2.4)[a], (0.0, 0.6, 2.4)[p], *NOISE_LEVELS["low"][2:])
        expected = noisy(three.table, jax.random.key(5), sigmas)
        for one, other in zip(
            jax.tree.leaves(stack.level(g)), jax.tree.leaves(expected), strict=True
        ):
            # Sigma is summed in another order.
            np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    "strategy",
    [
        *(Routing(), Thresholding(), Pandora()),
        *(pytest.param(kind, marks=pytest.mark.slow) for kind in (Cascading(), CascadeRouting())),
    ],
    ids=lambda s: s.name,
)
def test_a_sweep_over_levels_draws_each_frontier(
    three: Setup, stack: NoiseStack, strategy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Strategies of stages are searched through thousands of settings there, and 64 at once here:
    # with as many in either, the rounds are the same.
    monkeypatch.setattr(budget, "MANY_SETTINGS", budget.SETTINGS)
    # Half of the rows to fit on: of 30, another pair of settings may be found around a budget.
    three = replace(three, fit_rows=np.arange(0, 600, 2), evaluate_rows=np.arange(1, 600, 2))
    shares: list[float] = []
    found = aucs(strategy, three, stack, np.arange(4), shares.append)
    expected = [
        frontier(
            strategy, three.table, stack.level(g), three.fit_rows, three.evaluate_rows,
            three.budgets,
        ).auc
        for g in range(4)
    ]  # fmt: skip
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1)


def test_some_levels_are_as_all_levels(three: Setup, stack: NoiseStack) -> None:
    every = aucs(Pandora(), three, stack, np.arange(4))
    some = aucs(Pandora(), three, stack, np.array([3, 1]))
    np.testing.assert_allclose(some, every[[3, 1]], rtol=1e-6)


def test_levels_that_a_strategy_does_not_read_are_left_out() -> None:
    assert len(noise_grid.PAIRS) == 136
    assert len(noise_grid.levels_of(Routing())) == 16
    assert len(noise_grid.levels_of(Thresholding())) == 16
    assert len(noise_grid.levels_of(CascadeRouting())) == 136


def test_gains_stand_at_their_levels() -> None:
    def auc(name: str, ante: float, post: float) -> float:
        # Each reads what it reads: routing the first, thresholding the second.
        return {"routing": ante, "thresholding": post}.get(name, 10 * ante + post)

    rows = []
    for name in ("routing", "thresholding", "cascading", "pandora", "cascade-routing"):
        for g in noise_grid.levels_of(table1.named(name)):
            ante, post = (noise_grid.LEVELS[i] for i in noise_grid.PAIRS[g])
            of = {"strategy": name, "noise_ante": ante, "noise_post": post}
            rows.append(of | {"auc": auc(name, ante, post)})
    found = noise_grid.gains(rows)
    for a, p in noise_grid.PAIRS:
        ante, post = noise_grid.LEVELS[a], noise_grid.LEVELS[p]
        np.testing.assert_allclose(found["routing"][p, a], 9 * ante + post)
        np.testing.assert_allclose(found["thresholding"][p, a], 10 * ante)
        assert found["pandora"][p, a] == 0
    assert np.isnan(found["routing"][1, 0])


# One decision after another.


@pytest.mark.parametrize("strategy", [CascadeRouting(max_depth=2), Pandora()])
def test_decisions_are_timed_to_the_end_of_each_query(three: Setup, strategy: Any) -> None:
    estimator, rows = three.noisy("low", 0), three.evaluate_rows[:20]
    took = decision_seconds(strategy, three.table.models, estimator, 20.0, rows)
    ran, _ = query_outcomes(strategy, np.array([20.0]), estimator, (600, 3), rows=rows)
    depth = ran[0].sum(-1)
    # One decision a model run, and one to stop unless all have run; a policy does not know that
    # its strategy stops at a depth, and asks.
    assert len(took) == (depth + (depth < 3)).sum()
    assert np.all(took > 0)
    first = decision_seconds(strategy, three.table.models, estimator, 20.0, rows, first_only=True)
    assert len(first) == 20


def test_slow_is_the_same_rule(three: Setup) -> None:
    estimator = three.noisy("medium", 0)
    prices = np.array([5.0, 50.0])
    ways = [
        query_outcomes(kind, prices, estimator, (600, 3), rows=three.evaluate_rows[:64])
        for kind in (ablation.Slow(max_depth=2), CascadeRouting(max_depth=2))
    ]
    for one, other in zip(*ways, strict=True):
        np.testing.assert_array_equal(one, other)


# The command.


@pytest.fixture(scope="module")
def table(twin: Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("twin") / "rb.arrow"
    write_table(path, twin)
    return path


def reproduced(name: str, *arguments: str, out: Path) -> Result:
    return run("reproduce", name, *arguments, "--out", str(out))


def supposed(kind: Strategy, *_: Any, **__: Any) -> SimpleNamespace:
    """A frontier in place of one worked out: its AUC is as published, or a little above."""
    auc = AREAS.get((kind.name, 3, "low"), 83.0) / 100
    none = np.zeros(2)
    return SimpleNamespace(
        auc=auc, auc_samples=None, reach=none, budget=none, cost=none, quality=none
    )


@pytest.mark.parametrize(
    ("tuned", "parts"),
    [pytest.param("cheap", 18, marks=pytest.mark.slow), pytest.param("none", 12, id="supposed")],
)
def test_table1_leaves_five_files(
    tuned: str, parts: int, small: list[tuple[int, str]], table: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if tuned == "none":  # what is written, without what compiles for minutes
        monkeypatch.setattr(table1, "frontier", supposed)
    out = tmp_path / "out"
    result = reproduced("table1", str(table), "--tuned", tuned, out=out)
    assert result.exit_code == 0, result.output
    files = [f"table1{suffix}" for suffix in base.SUFFIXES]
    assert sorted(p.name for p in out.iterdir()) == sorted([*files, "table1.cells"])
    rows = pq.read_table(out / "table1.parquet").to_pylist()
    assert len(rows) == parts
    page = (out / "table1.md").read_text()
    assert "| cascade-routing | " in page
    assert "(82.36)" in page
    # What is tuned stands for the published cascades in a line of its own.
    like = "Order as published, with tuned thresholding and tuned cascading"
    assert "order as published" in page
    assert (like in page) == (tuned == "cheap")
    assert ("| the same, tuned | " in page) == (tuned == "cheap")
    assert f"cascjax reproduce table1 {table}" in page
    for row in rows:
        assert f"{100 * row['auc']:.2f}" in page
    assert r"\begin{tabular}" in (out / "table1.tex").read_text()
    assert (out / "table1.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (out / "table1.svg").read_text()
    assert "order as published" in result.output
    # Again: nothing is worked out, and the same stands there; another seed is refused.
    before = (out / "table1.parquet").read_bytes()
    again = reproduced("table1", str(table), "--tuned", tuned, out=out)
    assert f"{parts} of {parts} parts were done before" in again.output
    assert (out / "table1.parquet").read_bytes() == before
    other = reproduced("table1", str(table), "--tuned", tuned, "--seed", "1", out=out)
    assert other.exit_code == 2
    assert "seed 0 and not 1: choose another --out, or start over with --force" in other.stderr
    assert (out / "table1.parquet").read_bytes() == before


def sketch(stop: bool = False) -> Experiment:
    """An experiment of three cells that takes no time."""

    def findings(job: Job, rows: Any) -> Findings:
        return Findings([GRID], ["A line."], lambda figure: figure.text(0.5, 0.5, "x") and None)

    cells = lambda job: cells_of([], stop="c" if stop else None)[:3]  # noqa: E731
    return Experiment("table1", "a sketch", cells, findings, {"tuned": "cheap"})


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    def put(stop: bool) -> None:
        monkeypatch.setitem(EXPERIMENTS, "table1", sketch(stop))

    put(False)
    return put


def test_an_interrupt_is_said_and_gone_on_from(
    quick: Callable[[bool], None], table: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    quick(True)
    stopped = reproduced("table1", str(table), out=out)
    assert stopped.exit_code == 130
    assert "interrupted; 2 of 3 parts are kept" in stopped.stderr
    assert [p.name for p in out.iterdir()] == ["table1.cells"]
    quick(False)
    ended = reproduced("table1", str(table), out=out)
    assert ended.exit_code == 0, ended.output
    assert "2 of 3 parts were done before, and are kept." in ended.output
    assert (out / "table1.md").exists()


def test_files_of_no_run_are_not_written_over(
    quick: Callable[[bool], None], table: Path, tmp_path: Path
) -> None:
    (tmp_path / "table1.md").write_text("mine")
    refused = reproduced("table1", str(table), out=tmp_path)
    assert refused.exit_code == 2
    assert "table1.md is there, and not the cells it came from" in refused.stderr
    assert (tmp_path / "table1.md").read_text() == "mine"
    assert [p.name for p in tmp_path.iterdir()] == ["table1.md"]
    assert reproduced("table1", str(table), "--force", out=tmp_path).exit_code == 0
    assert "A line." in (tmp_path / "table1.md").read_text()


def test_synthetic_needs_no_table(quick: Callable[[bool], None], tmp_path: Path) -> None:
    result = reproduced("table1", "--synthetic", "--queries", "450", "--seed", "7", out=tmp_path)
    assert result.exit_code == 0, result.output
    page = (tmp_path / "table1.md").read_text()
    assert "On a synthetic twin of RouterBench (seed 7): 450 queries, of which 22 to fit on" in page
    run_of = json.loads((tmp_path / "table1.cells" / RUN).read_text())
    assert run_of["seed"] == 7
    assert run_of["tuned"] == "cheap"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["table1"], "table1 needs a TABLE or --synthetic, one of them"),
        (["table1", "x.arrow", "--synthetic"], "one of them"),
        (["table1", "x.arrow", "--queries", "9"], "--queries is of a synthetic table"),
        (["table1", "x.arrow"], "x.arrow"),
        (["runtime", "x.arrow"], "needs no table: leave out x.arrow"),
        (["runtime", "--synthetic"], "leave out --synthetic"),
        (["runtime", "--tuned", "all"], "runtime has no --tuned: leave it out"),
        (["runtime", "--queries", "9"], "runtime has no --queries: leave it out"),
        (["settings", "--queries", "9"], "9 queries are too few to learn estimates from"),
        (["table1", "--synthetic", "--resamples", "100"], "table1 has no --resamples"),
        (["table1", "--synthetic", "--queries", "399"], "399 rows leave 19 to fit on"),
        (["table9", "x.arrow"], "table9"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = reproduced(*arguments, out=tmp_path / "out")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert says in result.stderr
    assert not (tmp_path / "out").exists()


def test_every_experiment_of_the_command_is_there() -> None:
    assert list(EXPERIMENTS) == list(experiment_commands.EXPERIMENTS)
    without = [name for name, e in EXPERIMENTS.items() if not e.needs_table]
    assert without == list(experiment_commands._TABLELESS)
    assert experiment_commands.QUERIES == QUERIES
    assert EXPERIMENTS["settings"].defaults["queries"] == 1000  # as the help says


def test_the_help_says_what_there_is() -> None:
    lines = [line.split() for line in run("reproduce", "--help").output.splitlines()]
    for name, about in experiment_commands.EXPERIMENTS.items():
        assert [name, *about.split()] in lines


def test_a_wide_table_is_shown_in_parts_without_a_number_cut() -> None:
    long = [Entry(f"+{i}.00 [+1.00, +2.00]", f"+{i}.50", True) for i in range(9)]
    grid = Grid("wide", ["strategy", *(f"head {i}" for i in range(9))], [["mixing", *long]])
    for width in (50, 80, 200):
        console = Console(width=width, file=io.StringIO())
        parts = experiment_commands._parts(grid, width)
        for part in parts:
            console.print(part)
        text = console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
        assert text.count("mixing") == len(parts)
        for i in range(9):
            assert text.count(f"+{i}.00 [+1.00, +2.00] (+{i}.50)") == 1
        assert max(map(len, text.splitlines())) <= width


def drawn(findings: Findings) -> None:
    findings.draw(Figure(figsize=findings.size))


def test_runtime_is_told_by_models_and_variant(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(runtime, "MODELS", (2, 17))
    monkeypatch.setattr(runtime, "_QUERIES", 10)
    monkeypatch.setattr(
        runtime, "VARIANTS", {name: runtime.VARIANTS[name] for name in ("exact", "pandora")}
    )
    job = Job(None, "")
    rows = rows_of(EXPERIMENTS["runtime"], job, tmp_path)
    # Sets of 17 models are too many to enumerate.
    assert [(row["models"], row["variant"]) for row in rows] == [
        (2, "exact"), (2, "pandora"), (17, "pandora"),
    ]  # fmt: skip
    assert all(row["live_median"] > 0 and row["batch"] > 0 for row in rows)
    monkeypatch.setattr(runtime, "_COLORS", ("#000000", "#111111"))
    findings = EXPERIMENTS["runtime"].findings(job, rows)
    assert findings.grids[0].rows[1][1] == "–"
    drawn(findings)


ROUTE = "cascade-routing"


@pytest.fixture
def quick_ablation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three models at one level of noise, and strategies that compile in seconds."""
    monkeypatch.setattr(ablation, "N_MODELS", 3)
    monkeypatch.setattr(ablation, "LEVELS", ("low",))
    monkeypatch.setattr(ablation, "_LIVE", 2)
    monkeypatch.setattr(ablation, "_BATCH", 64)
    kinds = {ROUTE: Pandora(), "other": Routing()}
    monkeypatch.setattr(ablation, "VARIANTS", kinds)


def test_intervals_of_the_ablation_are_those_of_a_loop(
    quick_ablation: None, three: Setup, twin: Table, tmp_path: Path
) -> None:
    """Queries drawn with replacement, again and again, and the AUC of either worked out again."""
    rows = rows_of(EXPERIMENTS["ablation"], Job(twin, "twin", 0, {"resamples": 1000}), tmp_path)
    found = np.array(ablation.above(rows)["other", "low"])
    table, estimator, at = three.table, three.noisy("low", 0), three.evaluate_rows

    def each(kind: Strategy) -> np.ndarray:
        """`[2, P, n]` expected cost and quality of every query at every budget."""
        drawn = frontier(kind, table, estimator, three.fit_rows, at, three.budgets)
        ran, answer = query_outcomes(
            kind, drawn.parameters.reshape(-1), estimator, table.quality.shape, rows=at
        )
        cost = np.where(ran, table.cost[at], 0).sum(-1, dtype=np.float64)
        quality = table.quality[at[None], answer].astype(np.float64)
        gamma = drawn.gamma[:, None]
        pairs = np.stack([cost, quality]).reshape(2, -1, 2, len(at))
        return (1 - gamma) * pairs[:, :, 0] + gamma * pairs[:, :, 1]

    one, other = (each(kind) for kind in (Routing(), Pandora()))
    singles = np.stack([table.cost[at], table.quality[at]]).astype(np.float64)

    def above(rows: np.ndarray) -> float:
        single = singles[:, rows].mean(1)
        return auc(*one[:, :, rows].mean(2), *single) - auc(*other[:, :, rows].mean(2), *single)

    # Quality of a query whose choice turns on the last digit may be another's.
    assert found[0] == pytest.approx(above(np.arange(len(at))), abs=1e-4)
    rng = np.random.default_rng(0)
    loop = np.array([above(rng.integers(0, len(at), len(at))) for _ in range(1000)])
    # An end of either is off by a standard error of 0.085 deviations (of 1,000, at the density of
    # a normal's 2.5% tail), both by 0.12: four of these.
    np.testing.assert_allclose(found[1:], np.quantile(loop, [0.025, 0.975]), atol=0.5 * loop.std())


def ablated(**aucs: tuple[float, float]) -> list[dict[str, Any]]:
    """Rows of an ablation: AUCs, and how uncertain each is by itself."""
    rng = np.random.default_rng(0)
    return [
        {"variant": name.replace("_", "-"), "noise": "low", "auc": auc, "alike": 1.0,
         "auc_samples": auc + spread * rng.standard_normal(1000), "live": 1e-3,
         "live_median": 1e-3, "batch": 1e-6, "wall": 1.0, "cpu": 1.0}
        for name, (auc, spread) in aucs.items()
    ]  # fmt: skip


def test_the_order_of_the_ablation_is_told_beside_what_is_beyond_intervals(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Published at low noise: 87.29, 85.93 and 85.98.
    monkeypatch.setattr(ablation, "LEVELS", ("low",))
    names = (ROUTE, "slow", "greedy", "no-uncertainty")
    monkeypatch.setattr(ablation, "VARIANTS", {name: ablation.VARIANTS[name] for name in names})

    def told(**aucs: tuple[float, float]) -> tuple[Findings, list[Any]]:
        findings = EXPERIMENTS["ablation"].findings(
            Job(None, "", 0, {"resamples": 1000}), ablated(slow=(0.5, 0.0), **aucs)
        )
        return findings, [findings.grids[0].rows[-1][1], findings.grids[1].rows[-1][1]]

    sure = {"cascade_routing": (0.88, 1e-4), "greedy": (0.86, 1e-4)}
    findings, said = told(**sure, no_uncertainty=(0.87, 1e-4))
    assert said == ["yes", "yes"]
    assert findings.lines[0].endswith(
        "1 of 1 columns; 3 of 3 pairs, of which 3 beyond their interval."
    )
    # As published, but one of two within its interval.
    findings, said = told(**sure, no_uncertainty=(0.861, 5e-3))
    assert said == ["yes", "open"]
    assert "3 of 3 pairs, of which 2 beyond" in findings.lines[0]
    # The other way round, within; and beyond.
    findings, said = told(**sure, no_uncertainty=(0.882, 5e-3))
    assert said == ["no", "open"]
    line = "low: no-uncertainty above cascade-routing by 0.20, within its interval. Beyond"
    assert line in findings.lines[0]
    assert findings.lines[0].endswith("the order is another in 0 of 1 columns.")
    findings, said = told(**sure, no_uncertainty=(0.882, 1e-4))
    assert said == ["no", "no"]
    assert "low: no-uncertainty above cascade-routing by 0.20. Beyond" in findings.lines[0]
    assert findings.lines[0].endswith("the order is another in 1 of 1 columns.")
    # What is beyond stands out, with its interval and what was published beside.
    assert [row[0] for row in findings.grids[1].rows] == [
        "greedy",
        "no-uncertainty",
        "as published",
    ]
    greedy, exact = (row[1] for row in findings.grids[1].rows[:2])
    assert isinstance(greedy, Entry)
    assert isinstance(exact, Entry)
    assert (greedy.best, exact.best) == (False, True)
    assert (greedy.published, exact.published) == ("−1.36", "−1.31")
    assert exact.ours.startswith("+0.20 [+0.1")
    # And in the rows that are written.
    assert findings.rows is not None
    of = {row["variant"]: row for row in findings.rows}
    assert of["no-uncertainty"]["above_cascade_routing"] == pytest.approx(0.002)
    low, high = of["no-uncertainty"]["above_cascade_routing_interval"]
    assert 0.0015 < low < 0.002 < high < 0.0025
    assert "above_cascade_routing" not in of[ROUTE]
    drawn(findings)


@pytest.mark.slow
def test_ablation_puts_slow_beside_the_rule(
    monkeypatch: pytest.MonkeyPatch, twin: Table, tmp_path: Path
) -> None:
    monkeypatch.setattr(ablation, "N_MODELS", 3)
    monkeypatch.setattr(ablation, "LEVELS", ("low",))
    monkeypatch.setattr(ablation, "_LIVE", 4)
    monkeypatch.setattr(ablation, "_BATCH", 64)
    monkeypatch.setattr(ablation, "_SLOW", 64)
    some = ("cascade-routing", "slow", "greedy", "no-uncertainty", ablation.SQUARED)
    monkeypatch.setattr(ablation, "VARIANTS", {name: ablation.VARIANTS[name] for name in some})
    job = Job(twin, "twin", 0, {"resamples": 40})
    rows = rows_of(EXPERIMENTS["ablation"], job, tmp_path)
    by_variant = {row["variant"]: row for row in rows}
    assert by_variant["slow"]["alike"] == 1
    findings = EXPERIMENTS["ablation"].findings(job, rows)
    exact, slow = findings.grids[0].rows[:2]
    assert isinstance(exact[1], Entry)
    assert isinstance(slow[1], Entry)
    assert exact[1].ours == slow[1].ours
    assert (exact[1].published, slow[1].published) == ("87.29", "87.30")
    drawn(findings)
    given = setup(twin, 3)
    expected = frontier(
        CascadeRouting(max_depth=5, uncertainty=False), given.table, given.noisy("low", 0),
        given.fit_rows, given.evaluate_rows, given.budgets,
    )  # fmt: skip
    assert by_variant["no-uncertainty"]["auc"] == expected.auc
    estimator = given.noisy("low", 0)
    expected = frontier(
        CascadeRouting(max_depth=5), given.table,
        replace(estimator, sigma=np.square(estimator.sigma)),
        given.fit_rows, given.evaluate_rows, given.budgets,
    )  # fmt: skip
    assert by_variant[ablation.SQUARED]["auc"] == expected.auc


def test_settings_learn_from_half_of_a_world(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(settings, "SETTINGS", {"classification": 3})
    monkeypatch.setattr(settings, "PLAIN", ("mixing", "routing"))
    job = Job(None, "", 0, {"queries": 200})
    cells = [c for c in EXPERIMENTS["settings"].cells(job) if "learned-casc" not in c.key]
    parts = Parts(tmp_path / "cells", {})
    parts.open()
    rows = run_cells(cells, parts)
    found = {(row["estimates"], row["strategy"]): row for row in rows}
    # Mixing knows nothing of a query, however it is estimated; the sums of its costs, in another
    # order, find gamma.
    auc = found["known", "mixing"]["auc"]
    assert found["learned", "mixing"]["auc"] == pytest.approx(auc, rel=1e-6)
    assert found["learned", "routing"]["fit"] == found["learned", "routing"]["evaluate"] == 100
    table = settings.world("classification", 200, 0)
    fit, evaluate = split_rows(table, 0)
    taught = learned(replace(table, quality_ante=None, quality_post=None), fit)
    cost, quality = (mean_rows(of, evaluate) for of in (table.cost, table.quality))
    expected = frontier(
        Routing(), table, taught.estimator, fit, evaluate, budgets(cost, quality)
    ).auc
    # Another order of the float32 sums of the regressions.
    assert found["learned", "routing"]["auc"] == pytest.approx(expected, rel=1e-6)
    with pytest.raises(CascjaxError, match="199 queries are too few to learn estimates from"):
        EXPERIMENTS["settings"].cells(Job(None, "", 0, {"queries": 199}))


def test_any_models_can_be_set_up(twin: Table) -> None:
    given = setup_of(twin, ["gpt-4-1106-preview", "claude-v1"])
    assert given.table.models == ("claude-v1", "gpt-4-1106-preview")


def test_intervals_are_of_pairs() -> None:
    rng = np.random.default_rng(0)
    luck = rng.standard_normal(1000)
    rows = [
        {"strategy": name, "models": 3, "noise": "low", "auc": auc, "auc_samples": auc + luck}
        for name, auc in (("cascade-routing", 0.8), ("routing", 0.7))
    ]
    middle, low, high = table4.differences(rows)["routing", 3, "low"]
    # Alone each is known to about 2; what they share cancels.
    np.testing.assert_allclose((middle, low, high), 0.1, rtol=1e-6)
    assert np.ptp(interval(luck, 0.95)) > 3
