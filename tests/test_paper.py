"""The paper's experiments: protocol, published numbers, tables, noise levels, files, resuming."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from sklearn.model_selection import train_test_split

import cascjax as cj
from benchmarks.paper import ablation, areas, noise_grid, runtime, settings
from benchmarks.paper.__main__ import EXPERIMENTS, main
from benchmarks.paper.base import Cell, Experiment, Findings, Job, latex, markdown, run, signed
from benchmarks.paper.protocol import choose, noisy_estimates, paper_split, paper_strategy, twin
from benchmarks.paper.published import AREAS, COLUMNS, MODELS, STRATEGIES
from cascjax import core
from cascjax.data.table import split_rows


@pytest.fixture(scope="module")
def table() -> cj.Table:
    return twin(600, 0)


@pytest.mark.parametrize("n", [400, 401, 419, 420, 3150, 36_497])
def test_the_split_is_that_of_the_paper(n: int) -> None:
    fit, evaluate = train_test_split(np.arange(n), test_size=0.95, random_state=42)
    ours = paper_split(n)
    np.testing.assert_array_equal(ours[0], np.sort(fit))
    np.testing.assert_array_equal(ours[1], np.sort(evaluate))


def test_models_are_in_the_order_of_the_file(shared_data: Path) -> None:
    names = pq.read_schema(shared_data / "routerbench-sample.parquet").names
    assert tuple(names[3:14]) == MODELS


def test_chosen_models_are_those_of_the_paper_and_cheapest_first(table: cj.Table) -> None:
    three = choose(table, 3)
    assert set(three.models) == {
        "mistralai/mixtral-8x7b-chat", "gpt-3.5-turbo-1106", "gpt-4-1106-preview",
    }  # fmt: skip
    fit, evaluate = split_rows(three)
    assert (len(fit), len(evaluate)) == (30, 570)
    assert np.all(np.diff(three.cost[fit].mean(0)) > 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.select_models(t.models[:5]), "lacks 6 of RouterBench's 11 models"),
        (lambda t: t.take(np.arange(300)), "300 rows leave 15 to fit on"),
    ],
)
def test_unsuitable_tables_are_refused(table: cj.Table, change, message: str) -> None:
    with pytest.raises(cj.CascjaxError, match=message):
        choose(change(table), 3)


def test_published_numbers_are_complete() -> None:
    assert len(AREAS) == len(STRATEGIES) * len(COLUMNS) == 45
    for column in COLUMNS:
        assert max(STRATEGIES, key=lambda s, c=column: AREAS[s, *c]) == "cascade-routing"


def test_order_of_published_pairs() -> None:
    aucs = pd.DataFrame({c: {s: AREAS[s, *c] / 100 for s in STRATEGIES} for c in COLUMNS})
    assert areas.order_note(aucs) == "Published order: 90 of 90 pairs of strategies."
    aucs.loc["routing", (3, "low")] = aucs.loc["thresholding", (3, "low")] + 0.001
    assert areas.order_note(aucs) == (
        "Published order: 89 of 90 pairs of strategies. Otherwise, in points of AUC: 3 low:"
        " routing above thresholding by 0.10."
    )


def test_tables_are_written_as_markdown_and_latex() -> None:
    frame = pd.DataFrame({"a_b": ["**1.0** (2.0)", "50%"]}, index=pd.Index(["x|y", "z"], name="s"))
    assert markdown(frame).splitlines() == [
        "| s | a_b |", "| --- | ---: |", "| x\\|y | **1.0** (2.0) |", "| z | 50% |",
    ]  # fmt: skip
    text = latex("AUC in %", frame)
    assert r"\textbf{1.0} (2.0)" in text
    assert r"50\%" in text
    assert r"a\_b" in text
    assert [signed(x) for x in (0.004, 0.126, -1.0)] == ["0.00", "+0.13", "\N{MINUS SIGN}1.00"]


def experiment(log: list[str], stop_at: str = "") -> Experiment:
    def cells(job: Job) -> Iterator[Cell]:
        for key in ("a", "b", "c"):

            def work(key: str = key) -> list[dict]:
                if key == stop_at:
                    raise KeyboardInterrupt
                log.append(key)
                return [{"key": key, "values": [1.0, 2.0]}]

            yield key, work

    def findings(job: Job, rows: pd.DataFrame) -> Findings:
        frame = rows[["key"]].set_index("key").assign(n=rows["values"].map(len).values)
        return Findings({"Title": frame}, ["A note."], lambda figure: figure.subplots())

    return Experiment("an experiment", cells, findings, needs_table=False)


def test_an_interrupted_run_resumes_and_another_run_is_refused(tmp_path: Path) -> None:
    log: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        run("x", experiment(log, "b"), Job(None), tmp_path, "command")
    assert not list(tmp_path.glob("x.md"))
    run("x", experiment(log), Job(None), tmp_path, "command")
    assert log == ["a", "b", "c"]
    assert sorted(p.suffix for p in tmp_path.glob("x.*") if p.is_file()) == [
        ".md", ".parquet", ".png", ".svg", ".tex",
    ]  # fmt: skip
    assert pd.read_parquet(tmp_path / "x.parquet")["key"].tolist() == ["a", "b", "c"]
    assert "A note." in (tmp_path / "x.md").read_text()
    with pytest.raises(cj.CascjaxError, match="other settings"):
        run("x", experiment(log), Job(None, seed=1), tmp_path, "command")
    run("x", experiment(log), Job(None, seed=1), tmp_path, "command", force=True)
    assert log[3:] == ["a", "b", "c"]


def test_levels_a_strategy_does_not_read_are_computed_once() -> None:
    assert len(noise_grid.PAIRS) == 136
    counts = {
        name: len({noise_grid.first(name, pair) for pair in noise_grid.PAIRS})
        for name in ("cascade-routing", "routing", "thresholding")
    }
    assert counts == {"cascade-routing": 136, "routing": 16, "thresholding": 16}


def test_gains_are_at_their_levels() -> None:
    rows = [
        {"strategy": name, "ante": pair[0], "post": pair[1],
         "auc": 10 * pair[0] + pair[1] + 100 * (name == "cascade-routing")}
        for name in ("cascade-routing", *noise_grid.OTHERS)
        for pair in dict.fromkeys(noise_grid.first(name, p) for p in noise_grid.PAIRS)
    ]  # fmt: skip
    gain = noise_grid.gains(pd.DataFrame(rows))
    assert gain["cascading"].loc[0.4, 1.0] == pytest.approx(100)
    # Thresholding reads only the estimate afterwards: its AUC is that of the first level with it.
    assert gain["thresholding"].loc[0.4, 1.0] == pytest.approx(100 + 10 * 0.6)
    assert np.isnan(gain["pandora"].loc[1.0, 0.4])


@pytest.mark.parametrize("name", ["routing", "pandora"])
def test_levels_mapped_by_vmap_are_those_of_compare(table: cj.Table, name: str) -> None:
    five = replace(choose(table, noise_grid.N_MODELS), split=np.arange(600, dtype=np.int8) % 2)
    pairs, strategy = [(0.6, 0.6), (0.6, 0.2)], paper_strategy(name)
    rows = noise_grid.grid_rows(five, name, pairs, 3)
    fit, _ = split_rows(five)
    levels = [noise_grid.level_estimates(five, *pair, 3) for pair in pairs]
    stack = jax.tree.map(lambda *x: np.stack(x), *levels)
    truth = five.quality[fit], five.cost[fit]
    for i, pair in enumerate(pairs):
        study = cj.compare(five, strategy, cj.Noisy((*pair, 0.0002, 0.00005)), seed=3, grid="paper")
        frontier = study[name]
        curves = noise_grid.fit_levels(
            strategy, noise_grid.take(stack, fit), *truth, frontier.budget
        )
        # Both mix on the hull of the settings they try: 300 rows, each worth 0.003 of quality.
        assert np.all(curves.cost[i] <= frontier.fit_cost * (1 + 1e-3))
        assert np.all(curves.quality[i] >= frontier.fit_quality - 5e-3)
        # On 300 rows that choice moves the AUC of other rows by up to a standard error.
        assert rows[i]["auc"] == pytest.approx(frontier.auc, abs=0.015)
        settings = frontier.parameters.T.reshape(1, -1).repeat(len(pairs), 0)
        _, evaluate = split_rows(five)
        totals = noise_grid.level_totals(
            strategy, settings, noise_grid.take(stack, evaluate), five.quality[evaluate],
            five.cost[evaluate],
        )  # fmt: skip
        cheap, expensive = np.split(np.asarray(totals.quality)[i] / len(evaluate), 2)
        mixed = (1 - frontier.gamma) * cheap + frontier.gamma * expensive
        np.testing.assert_allclose(mixed, frontier.quality, atol=1e-5)


@pytest.mark.slow
def test_areas_are_those_of_a_study_and_differences_are_paired(table: cj.Table) -> None:
    three = choose(table, 3)
    job = Job(table, "twin", 3, {"tuned": "none", "resamples": 40})
    rows = pd.DataFrame(areas.plain_rows(three, "low", job, 40)).set_index("strategy")
    names = [paper_strategy(name) for name in areas.PLAIN]
    study = cj.compare(three, names, cj.Noisy("low"), seed=3, resamples=40, grid="paper")
    for i, j in itertools.permutations(range(len(names)), 2):
        found = areas.difference(rows.iloc[i], rows.iloc[j])
        expected = (study.difference[i, j], *study.difference_interval[i, j])
        np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.slow
def test_slow_is_the_same_rule(table: cj.Table) -> None:
    three = choose(table, 3)
    estimates = noisy_estimates(three, "low", 0).take(slice(0, 64)).sized()
    fast, slow = cj.CascadeRouting(max_depth=3), ablation.Slow(max_depth=3)
    ours, plain = (core.sweep(s, [0.0, 50.0, 1e4], estimates) for s in (fast, slow))
    np.testing.assert_array_equal(ours.run, plain.run)
    np.testing.assert_array_equal(ours.answer, plain.answer)


def test_decisions_are_timed_by_models_and_variant() -> None:
    (row,) = runtime.time_rows(2, "greedy", 0)
    assert row["models"] == 2
    assert 0 < row["live_median"] < 1
    assert 0 < row["batch"] < 1


@pytest.mark.slow
def test_the_command_writes_all_files(tmp_path: Path) -> None:
    arguments = ["settings", "--queries", "200", "--out", str(tmp_path)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    rows = pd.read_parquet(tmp_path / "settings.parquet")
    assert len(rows) == len(settings.KINDS) * len(settings.ESTIMATES) * len(areas.PLAIN)
    assert rows["auc"].between(0, 1).all()
    assert "Cascade routing is at or above" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["table1"], "needs either a TABLE or --synthetic"),
        (["runtime", "--synthetic"], "draws its own data"),
        (["runtime", "--tuned", "all"], "runtime has no --tuned"),
        (["settings", "--queries", "10"], "needs at least 200 queries"),
        (["table1", "missing.arrow"], "missing.arrow"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], message: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, [*arguments, "--out", str(tmp_path / "out")])
    assert result.exit_code == 1
    assert message in result.output
    assert len(result.output.strip().splitlines()) == 1


def test_every_experiment_is_there() -> None:
    assert list(EXPERIMENTS) == [
        "table1", "table4", "noise-grid", "ablation", "runtime", "settings", "uncertainty",
    ]  # fmt: skip
