"""The command line: what it writes, what it says, and that nothing half-done stays behind."""

import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from cascjax import words
from cascjax.cli import arguments
from cascjax.cli.main import main
from cascjax.cli.stream import resampling
from cascjax.cli.terminal import keep_compiled, uninterrupted
from cascjax.data import read_table
from cascjax.errors import CascjaxError
from cascjax.metrics import SCORES
from cascjax.strategies import STRATEGIES

HUNG = 300
"""Seconds after which a process is given up; it takes three, but on a machine that is shared."""

COMMAND = Path(sysconfig.get_path("scripts")) / "cascjax"
COLUMNS = ["strategy", "budget", "cost", "quality", "fit_cost", "fit_quality", "gamma"]
ENDS = ["cost_low", "cost_high", "quality_low", "quality_high"]
OUTPUTS = ["frontier.parquet", "report.html", "summary.json"]


@pytest.fixture(autouse=True, scope="module")
def cache_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache folder of the tests' own: the user's is left alone."""
    before = jax.config.values["jax_compilation_cache_dir"]
    home = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(home))
        patch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
        patch.setenv("JAX_PLATFORMS", "cpu")
        yield home
    jax.config.update("jax_compilation_cache_dir", before)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world of 200 queries x 3 models; one shape for all, since compiling is what takes long."""
    path = tmp_path_factory.mktemp("made") / "world.arrow"
    succeeds("world", str(path), "--queries", "200", "--models", "3", "--seed", "1")
    return path


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An own working folder with a copy of the world in it, `world.arrow`."""
    shutil.copy(made, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of numbers alone: a page's pictures take most of the time of a small frontier."""
    monkeypatch.setattr("cascjax.report.html.render", lambda *_: "")


def run(*args: str) -> Result:
    return CliRunner().invoke(main, list(args))


def succeeds(*args: str) -> str:
    result = run(*args)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    return result.stdout


def refused(*args: str) -> str:
    """Runs a command that must fail as one line on stderr and change no file; that line."""
    before = files(Path.cwd())
    result = run(*args)
    assert isinstance(result.exception, SystemExit)  # and nothing that would be a traceback
    assert result.exit_code == 2
    assert files(Path.cwd()) == before
    return one_line(result.stderr)


def test_import_does_not_write_over_its_own_log(here: Path) -> None:
    (here / "log.parquet").write_bytes(b"PAR1")
    words = ["--query", "q", "--model", "m", "--quality", "s", "--cost", "c"]
    assert "is the log itself" in refused("import", "long", "log.parquet", "log.parquet", *words)


def one_line(text: str) -> str:
    assert text.startswith("cascjax: ")
    assert text.endswith("\n")
    assert text.count("\n") == 1
    assert text[:-1].isprintable()
    return text[:-1]


def files(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def rows(folder: str) -> list[dict]:
    return pq.read_table(f"{folder}/frontier.parquet").to_pylist()


def drawn(*args: str, out: str = "out") -> list[dict]:
    """The rows of a frontier of the world, by routing at three budgets where nothing is said."""
    given = {"--strategies": "routing", "--budgets": "3"}
    given |= dict(zip(args[::2], args[1::2], strict=True))
    words = [word for pair in given.items() for word in pair]
    succeeds("frontier", "world.arrow", *words, "--out", out)
    return rows(out)


@pytest.fixture(scope="module")
def whole(made: Path) -> tuple[Path, str]:
    """The folder of a frontier of every strategy, and what was said meanwhile."""
    out = made.parent / "whole"
    words = ["frontier", str(made), "--estimates", "supplied", "--out", str(out)]
    return out, succeeds(*words)


class TestWorldToFrontier:
    def test_inspect(self, here: Path) -> None:
        text = succeeds("inspect", "world.arrow")
        assert text.startswith("world.arrow\n200 rows, 3 models, cost in USD\n")
        table = read_table(here / "world.arrow")
        for k, name in enumerate(table.models):
            assert re.search(rf"{name} +{table.quality[:, k].mean():.4f} ", text)

    def test_inspect_a_folder(self, here: Path) -> None:
        asked = ("--queries", "200", "--models", "3", "--features", "--seconds")
        succeeds("world", "one.arrow", *asked)
        succeeds("world", "parts", *asked, "--parts", "3")
        one, parts = succeeds("inspect", "one.arrow"), succeeds("inspect", "parts")
        assert "parts\n200 rows in 3 files, 3 models" in parts
        assert parts.splitlines()[2:] == one.splitlines()[2:]
        assert succeeds("inspect", *(str(path) for path in sorted(Path("parts").iterdir()))) == (
            parts.replace("parts\n", "parts/part-00000.arrow and 2 more\n", 1)
        )
        Path("parts/part-00001.arrow").write_bytes(b"")
        assert "parts/part-00001.arrow" in refused("inspect", "parts")

    def test_parquet(self, whole: tuple[Path, str]) -> None:
        table = pq.read_table(whole[0] / "frontier.parquet")
        assert table.column_names == [*COLUMNS, "parameters", *ENDS]
        names = table["strategy"].to_pylist()
        assert list(dict.fromkeys(names)) == list(STRATEGIES)
        assert len(set(map(names.count, STRATEGIES))) == 1
        # The two neighbours; of frugal each is a chain and its threshold.
        for name, pair in zip(names, table["parameters"].to_pylist(), strict=True):
            assert len(pair) == (4 if name == "frugal" else 2)
        for name in COLUMNS[1:] + ENDS:
            assert np.isfinite(table[name].to_numpy()).all()
        gamma = table["gamma"].to_numpy()
        assert gamma.min() >= 0
        assert gamma.max() <= 1

    def test_summary(self, whole: tuple[Path, str], made: Path) -> None:
        found = json.loads((whole[0] / "summary.json").read_text())
        sigma_scale = {"resamples", "confidence", "differences"}
        assert (
            set(found) == {"models", "n_fit", "n_evaluate", "strategies", "settings"} | sigma_scale
        )
        assert set(found["models"]) == set(read_table(made).models)
        assert (found["n_fit"], found["n_evaluate"]) == (100, 100)
        assert list(found["strategies"]) == list(STRATEGIES)
        for score in found["strategies"].values():
            assert set(score) == {"auc", "seconds", "auc_interval"}
            low, high = score["auc_interval"]
            assert 0 < low < score["auc"] < high < 1
        assert found["strategies"]["oracle"]["auc"] == max(
            score["auc"] for score in found["strategies"].values()
        )
        assert found["settings"]["estimates"] == "supplied"

    def test_report_names_the_command(self, whole: tuple[Path, str], made: Path) -> None:
        assert sorted(path.name for path in whole[0].iterdir()) == OUTPUTS
        page = (whole[0] / "report.html").read_text("utf-8")
        assert f"cascjax frontier {made} --estimates supplied --out {whole[0]}" in page

    def test_terminal(self, whole: tuple[Path, str], made: Path) -> None:
        lines = whole[1].splitlines()
        assert lines[:2] == [
            f"Reading {made}",
            "200 queries x 3 models, 100 to fit, 100 to evaluate; supplied estimates.",
        ]
        assert lines[-1] == f"Report: {whole[0] / 'report.html'}"
        assert sum(line.startswith("note:") for line in lines) <= 3
        for row in pq.read_table(whole[0] / "frontier.parquet").to_pylist():
            assert row["strategy"] in whole[1]

    def test_demo(self, here: Path) -> None:
        text = succeeds("demo", "--queries", "200", "--models", "3", "--budgets", "2")
        assert text.startswith("A synthetic workload: 200 queries x 3 models (seed 0).\n")
        assert sorted(os.listdir("demo")) == [*OUTPUTS, "table.arrow"]
        assert len(rows("demo")) == 2 * len(STRATEGIES)
        assert "cascjax inspect demo/table.arrow" in text
        assert "cascjax demo --queries 200" in Path("demo/report.html").read_text("utf-8")
        succeeds("inspect", "demo/table.arrow")

    def test_world_to_parquet(self, here: Path) -> None:
        text = succeeds("world", "w.parquet", "--queries", "10", "--quality", "graded")
        assert text == "Wrote w.parquet: 10 queries x 5 models\n"
        assert read_table("w.parquet").n_queries == 10

    def test_out_of_several_new_folders(self, here: Path) -> None:
        drawn(out="a/b c")
        assert sorted(os.listdir("a/b c")) == OUTPUTS


@pytest.mark.usefixtures("unread")
class TestOptions:
    def test_models_by_name_and_by_number(self, here: Path) -> None:
        models = read_table("world.arrow").models
        mixing = ("--strategies", "mixing")  # the quickest to compile for two models
        by_name = drawn("--models", f"{models[2]},{models[0]}", *mixing)
        assert drawn("--models", "0, 2", *mixing) == by_name
        found = json.loads(Path("out/summary.json").read_text())
        assert set(found["models"]) == {models[0], models[2]}

    def test_models_named_like_numbers_go_by_name(self) -> None:
        assert arguments.models("1,0", ("a", "1")) == ["1", "a"]

    def test_number_of_budgets(self, here: Path) -> None:
        table = read_table("world.arrow")
        budget = [row["budget"] for row in drawn("--budgets", "7", "--strategies", "mixing")]
        assert len(budget) == 7
        np.testing.assert_allclose(np.diff(budget), np.diff(budget)[0])
        np.testing.assert_allclose(budget[-1], table.cost.mean(0).max(), rtol=0.5)

    def test_budgets_as_costs(self, here: Path) -> None:
        table = read_table("world.arrow")
        low, middle, high = np.sort(table.cost.mean(0, dtype=np.float64))
        found = drawn("--budgets", f"{middle},{(low + middle) / 2}", "--strategies", "mixing")
        assert [row["budget"] for row in found] == [(low + middle) / 2, middle]
        np.testing.assert_allclose([row["fit_cost"] for row in found], [(low + middle) / 2, middle])
        (alone,) = drawn("--budgets", f"{(middle + high) / 2:f}")
        assert alone["budget"] == float(f"{(middle + high) / 2:f}")

    def test_max_depth(self, here: Path) -> None:
        shallow = drawn("--strategies", "cascade-routing", "--max-depth", "1")
        routed = drawn("--strategies", "routing")
        # A set of one model is what routing chooses among. On what they are fitted on: prices
        # alike there need not be on other queries.
        for a, b in zip(shallow, routed, strict=True):
            np.testing.assert_allclose(a["fit_quality"], b["fit_quality"], atol=1e-6)
            np.testing.assert_allclose(a["fit_cost"], b["fit_cost"], rtol=1e-5)

    def test_search(self, here: Path) -> None:
        found = drawn("--strategies", "cascade-routing", "--search", "greedy", "--budgets", "2")
        assert len(found) == 2
        assert json.loads(Path("out/summary.json").read_text())["settings"]["search"] == "greedy"

    def test_resamples(self, here: Path) -> None:
        words = ["frontier", "world.arrow", "--strategies", "mixing,routing,pandora"]
        text = succeeds(*words, "--resamples", "40", "--confidence", "0.9", "--out", "out")
        assert "90% interval" in text
        assert "90% bootstrap intervals from 40 resamples of the 100 evaluation queries" in text
        found = json.loads(Path("out/summary.json").read_text())
        assert (found["resamples"], found["confidence"]) == (40, 0.9)
        pairs = [one["strategies"] for one in found["differences"]]
        assert pairs == [["mixing", "routing"], ["mixing", "pandora"], ["routing", "pandora"]]
        auc = [found["strategies"][name]["auc"] for name in ("mixing", "pandora")]
        low, high = found["differences"][1]["auc_interval"]
        assert low < auc[0] - auc[1] == found["differences"][1]["auc"] < high
        for row in rows("out"):
            assert row["cost_low"] < row["cost"] < row["cost_high"]
            assert row["quality_low"] < row["quality"] < row["quality_high"]

    def test_no_resamples(self, here: Path) -> None:
        text = succeeds(
            "frontier", "world.arrow", "--strategies", "mixing", "--resamples", "0", "--out", "out"
        )
        assert "interval" not in text
        assert "differences" not in json.loads(Path("out/summary.json").read_text())
        assert {row[name] for row in rows("out") for name in ENDS} == {None}

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            ("--resamples 1", "the number of resamples must be from 2 to 100,000, not 1"),
            ("--resamples 30", "30 resamples are too few .* confidence 0.95: it needs at least 40"),
            ("--confidence 0.99", "100 queries are too few .* it needs at least 200"),
        ],
    )
    def test_resamples_that_will_not_do(self, here: Path, words: str, said: str) -> None:
        text = refused("frontier", "world.arrow", *words.split(), "--out", "out")
        assert re.fullmatch(rf"cascjax: world.arrow: {said}.*", text)

    @pytest.mark.parametrize(
        ("asked", "queries", "found"),
        [
            ((None, None), 39, (0, 0.95)),
            ((None, None), 40, (1000, 0.95)),
            ((None, None), 100_000, (1000, 0.95)),
            ((None, None), 100_001, (0, 0.95)),
            # Who asks for a confidence hears of what is missing for it.
            ((None, 0.9), 10, (1000, 0.9)),
            ((50, None), 10**6, (50, 0.95)),
            ((0, 0.9), 1000, (0, 0.9)),
        ],
    )
    def test_resamples_by_default(
        self, asked: tuple, queries: int, found: tuple[int, float]
    ) -> None:
        resamples, confidence = found
        expected = {"resamples": resamples, "confidence": confidence}
        assert resampling(asked[0], asked[1], queries) == expected

    def test_scores(self, here: Path) -> None:
        drawn("--scores", "qnc, auc,cpt80", "--strategies", "mixing,routing")
        found = json.loads(Path("out/summary.json").read_text())["strategies"]
        for score in found.values():
            assert list(score["scores"]) == ["qnc", "auc", "cpt80"]
            assert score["scores"]["auc"] == score["auc"]
        # Nobody asked to see the oracle that one of the scores is held against.
        drawn("--scores", "all", "--strategies", "mixing,routing")
        found = json.loads(Path("out/summary.json").read_text())["strategies"]
        assert list(found) == ["mixing", "routing"]
        assert list(found["routing"]["scores"]) == list(SCORES)
        assert isinstance(found["routing"]["scores"]["oracle-gap"], float)

    def test_a_score_that_does_not_exist(self, here: Path) -> None:
        table = read_table("world.arrow")
        low, middle, _ = np.sort(table.cost.mean(0, dtype=np.float64))
        text = succeeds(
            "frontier", "world.arrow", "--strategies", "mixing", "--scores", "peak,qnc",
            "--budgets", f"{(low + middle) / 2:f}", "--out", "out",
        )  # fmt: skip
        assert re.search(r"mixing +0\.\d{4} +n/a", text)
        assert "note: no qnc for mixing: no point is as good as the best single model" in text
        scores = json.loads(Path("out/summary.json").read_text())["strategies"]["mixing"]["scores"]
        assert scores["qnc"] is None
        assert 0 < scores["peak"] < 1

    def test_noise_by_name_and_by_numbers(self, here: Path) -> None:
        low = drawn("--estimates", "noisy")
        assert drawn("--noise", "low") == low
        assert drawn("--noise", "0.6,0.3,0.0002,0.00005") == low
        assert drawn("--noise", "high") != low
        settings = json.loads(Path("out/summary.json").read_text())["settings"]
        assert (settings["estimates"], settings["noise"]) == ("noisy", "high")

    def test_supplied_is_the_default(self, here: Path) -> None:
        assert drawn() == drawn("--estimates", "supplied")

    def test_same_seed_same_bytes(self, here: Path) -> None:
        drawn("--estimates", "noisy", out="one")
        drawn("--estimates", "noisy", "--seed", "0", out="two")
        first, second = (Path(name, "frontier.parquet").read_bytes() for name in ("one", "two"))
        assert first == second

    @pytest.mark.parametrize("estimates", ["noisy", "supplied"])
    def test_other_seed_other_result(self, here: Path, estimates: str) -> None:
        results = [drawn("--estimates", estimates, "--seed", seed) for seed in ("0", "1")]
        assert results[0] != results[1]

    def test_worlds_by_seed(self, here: Path) -> None:
        for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
            succeeds("world", f"{name}.arrow", "--queries", "200", "--models", "3", "--seed", seed)
        a, b, c, first = (Path(f"{n}.arrow").read_bytes() for n in ("a", "b", "c", "world"))
        assert a == b == first
        assert a != c

    @pytest.mark.parametrize("suffix", [".arrow", ".parquet"])
    def test_a_world_with_seconds(self, here: Path, suffix: str) -> None:
        words = ["--queries", "200", "--models", "3", "--seed", "1", "--seconds"]
        succeeds("world", f"timed{suffix}", *words)
        timed, plain = read_table(f"timed{suffix}"), read_table("world.arrow")
        np.testing.assert_array_equal(timed.cost, plain.cost)
        np.testing.assert_array_equal(timed.quality, plain.quality)
        assert timed.unit_of("seconds") == "s"
        assert not plain.extra_costs
        text = succeeds("inspect", f"timed{suffix}")
        assert "mean seconds (s)" in text
        assert "cost.seconds [200, 3]" in text
        lines = [line.split() for line in text.splitlines()]
        for model, mean in zip(timed.models, timed.extra_costs["seconds"].mean(0), strict=True):
            assert [model, f"{mean:.2f}"] in lines


MODELS = ("small", "middle", "large")


def wide(n: int = 40, **changed: list) -> pa.Table:
    """A log as RouterBench keeps it."""
    rng = np.random.default_rng(0)
    columns: dict[str, object] = {
        "sample_id": [f"mmlu.{i}" for i in range(n)],
        "eval_name": ["mmlu" if i % 3 else "gsm" for i in range(n)],
    }
    for k, model in enumerate(MODELS):
        columns[model] = (rng.random(n) < 0.4 + 0.2 * k).astype(float)
        columns[f"{model}|total_cost"] = 10.0**k * 1e-4 * (1 + rng.random(n))
        columns[f"{model}|model_response"] = [f"['{i % 4}']" for i in range(n)]
    return pa.table(columns | changed)


def long_csv(path: str, n: int = 30, extra: str = "") -> None:
    rng = np.random.default_rng(0)
    lines = [
        f"q{i},{model},{rng.random():.3f},{10.0**k * (1 + rng.random()):.3f},g{i % 2}"
        for i in range(n)
        for k, model in enumerate(MODELS)
    ]
    Path(path).write_text("query,model,score,price,topic\n" + "\n".join(lines) + "\n" + extra)


def table_of_runs(n: int = 30) -> pa.Table:
    """A long log with the seconds and calls of each run."""
    rng = np.random.default_rng(0)
    K = len(MODELS)
    return pa.table(
        {
            "query": np.repeat([f"q{i}" for i in range(n)], K),
            "model": np.tile(MODELS, n),
            "score": rng.random(n * K),
            "price": np.tile([1.0, 10, 100], n) * (1 + rng.random(n * K)),
            "latency = s": np.tile([3.0, 1, 9], n) * (1 + rng.random(n * K)),
            "calls": rng.integers(1, 4, n * K),
        }
    )


LONG = ["--query", "query", "--model", "model", "--quality", "score", "--cost", "price"]
TO_LONG = ["long", "log.csv", "t.arrow", *LONG, "--extra-cost"]


@pytest.mark.usefixtures("unread")
class TestImport:
    def test_routerbench_then_noisy(self, here: Path) -> None:
        pq.write_table(wide(), "log.parquet")
        text = succeeds("import", "routerbench", "log.parquet", "t.parquet")
        assert text.splitlines() == [
            "Reading log.parquet",
            "40 queries, 3 models",
            "Wrote t.parquet",
        ]
        assert read_table("t.parquet").models == MODELS
        succeeds(
            "frontier", "t.parquet", "--estimates", "noisy", "--strategies", "mixing,routing",
            "--budgets", "3", "--out", "out",
        )  # fmt: skip
        assert [row["strategy"] for row in rows("out")] == ["mixing"] * 3 + ["routing"] * 3

    def test_long_then_noisy_by_default(self, here: Path) -> None:
        long_csv("log.csv")
        text = succeeds("import", "long", "log.csv", "t.arrow", *LONG, "--group", "topic")
        assert text.endswith("30 queries, 3 models\nWrote t.arrow\n")
        assert read_table("t.arrow").groups == ("g0", "g1")
        text = succeeds("frontier", "t.arrow", "--strategies", "mixing", "--out", "out")
        assert "15 to fit, 15 to evaluate; noisy estimates." in text

    def test_further_costs_of_a_long_log(self, here: Path) -> None:
        log = table_of_runs()
        pq.write_table(log, "log.parquet")
        more = ["--extra-cost", "seconds=latency = s", "--extra-cost", "calls=calls"]
        succeeds("import", "long", "log.parquet", "t.arrow", *LONG, *more)
        found = read_table("t.arrow").extra_costs
        assert list(found) == ["calls", "seconds"]
        for name, column in (("calls", "calls"), ("seconds", "latency = s")):
            expected = log[column].to_numpy().reshape(-1, len(MODELS))
            np.testing.assert_allclose(found[name], expected, rtol=1e-6)
        lines = [line.split() for line in succeeds("inspect", "t.arrow").splitlines()]
        seconds = log["latency = s"].to_numpy().reshape(-1, len(MODELS)).mean(0)
        calls = log["calls"].to_numpy().reshape(-1, len(MODELS)).mean(0)
        for k, model in enumerate(MODELS):
            assert [model, f"{calls[k]:.2f}", f"{seconds[k]:.2f}"] in lines

    def test_bad_rows_of_routerbench(self, here: Path) -> None:
        scores: list[float | None] = [0.5] * 40
        scores[7] = None
        pq.write_table(wide(small=scores), "log.parquet")
        line = refused("import", "routerbench", "log.parquet", "t.arrow")
        assert "log.parquet" in line
        assert "'mmlu.7'" in line
        assert line.endswith("or drop them with --invalid drop")
        text = succeeds("import", "routerbench", "log.parquet", "t.arrow", "--invalid", "drop")
        assert "39 queries, 3 models; dropped 1 row" in text
        assert read_table("t.arrow").n_queries == 39

    def test_bad_rows_of_a_long_log(self, here: Path) -> None:
        long_csv("log.csv", extra="q3,small,1,1,g1\nq99,small,1,1,g1\n")
        line = refused("import", "long", "log.csv", "t.arrow", *LONG)
        for part in ("log.csv", "'q99'", "'q3 of small'", "--invalid drop"):
            assert part in line
        succeeds("import", "long", "log.csv", "t.arrow", *LONG, "--invalid", "drop")
        assert read_table("t.arrow").n_queries == 30

    def test_hostile_pickle(self, here: Path) -> None:
        class Hostile:
            def __reduce__(self) -> tuple[object, tuple[str]]:
                return os.system, ("touch obeyed",)

        Path("log.pkl").write_bytes(pickle.dumps(Hostile()))
        line = refused("import", "routerbench", "log.pkl", "t.arrow")
        assert "log.pkl" in line
        assert "parquet or csv" in line
        assert not Path("obeyed").exists()

    @pytest.mark.parametrize(
        ("words", "parts"),
        [
            (["long", "log.csv", "t.arrow", *LONG[:-1], "prize"], ["'prize'", "'price'"]),
            (["long", "log.csv", "t.arrow", *LONG[:-2]], ["--cost", "import long --help"]),
            (["long", "log.csv", "t.arrow", *LONG[:-1], "model"], ["column", "named twice"]),
            ([*TO_LONG, "seconds=price"], ["column", "named twice"]),
            ([*TO_LONG, "seconds=latency"], ["log.csv", "unknown column 'latency'"]),
            ([*TO_LONG, "seconds"], ["--extra-cost 'seconds'", "such as seconds=latency_s"]),
            ([*TO_LONG, "=topic"], ["--extra-cost '=topic'", "a name and a column"]),
            ([*TO_LONG, "cost=topic"], ["--extra-cost 'cost=topic'", "'cost'", "--cost"]),
            (
                [*TO_LONG, "s=topic", "--extra-cost", "s=score"],
                ["--extra-cost", "'s' is listed twice"],
            ),
            (["routerbench", "log.csv", "t.arrow"], ["log.csv", "is a long log"]),
            (["routerbench", "none.csv", "t.arrow"], ["none.csv", "No such file"]),
            (["routerbench", "log.csv", "t.txt"], ["t.txt", "'.txt'", ".parquet"]),
            (["routerbench", "log.csv", "no/t.arrow"], ["no/t.arrow", "folder"]),
            (["routerbench", "log.csv"], ["'TABLE'", "import routerbench --help"]),
        ],
    )
    def test_refused(self, here: Path, words: list[str], parts: list[str]) -> None:
        long_csv("log.csv")
        line = refused("import", *words)
        assert all(part in line for part in parts), line


def table(n: int = 20, models: int = 3, **changed: object) -> pa.Table:
    """An evaluation table without metadata; columns can be changed, or given as functions of it."""
    rng = np.random.default_rng(0)
    columns = {
        "query_id": [f"q{i}" for i in range(n)],
        "quality": rng.random((n, models)),
        "cost": rng.random((n, models)) + np.arange(models),
    } | changed
    return pa.table({name: column(value) for name, value in columns.items()})


def column(value: object) -> object:
    if not isinstance(value, np.ndarray):
        return value
    return pa.FixedSizeListArray.from_arrays(pa.array(value.reshape(-1)), value.shape[1])


def further(name: str, cost: np.ndarray) -> pa.Table:
    return table().append_column(name, [column(cost)])


def values(at: tuple[int, int], value: float) -> np.ndarray:
    changed = np.ones((20, 3))
    changed[at] = value
    return changed


def damaged(change: Callable[[bytes], bytes], name: str) -> None:
    feather.write_feather(table(400), "whole.arrow", "uncompressed")
    pq.write_table(table(400), "whole.parquet")
    Path(name).write_bytes(change(Path(f"whole{Path(name).suffix}").read_bytes()))


BAD_TABLES: dict[str, tuple[Callable[[], pa.Table], list[str]]] = {
    "empty": (lambda: table(0), ["no rows"]),
    "one model": (lambda: table(models=1), ["'quality'", "at least 2"]),
    "widths differ": (lambda: table(cost=np.ones((20, 4))), ["'cost'", "4", "3"]),
    "nan": (lambda: table(quality=values((7, 1), np.nan)), ["'quality'", "row 7", "finite"]),
    "infinite": (lambda: table(cost=values((9, 0), np.inf)), ["'cost'", "row 9", "finite"]),
    "negative cost": (
        lambda: table(cost=values((5, 2), -1.0)),
        ["'cost'", "row 5", "-1", "'model 3'", "at least 0"],
    ),
    "negative extra cost": (
        lambda: further("cost.seconds", values((5, 2), -1.0)),
        ["'cost.seconds'", "row 5", "-1", "'model 3'", "at least 0"],
    ),
    "extra cost of no name": (
        lambda: further("cost.", np.ones((20, 3))),
        ["'cost.'", "empty", "'cost.seconds'"],
    ),
    "repeated ids": (
        lambda: table(query_id=["a", "b"] * 10),
        ["'query_id'", "row 2", "'a'", "unique"],
    ),
    "no cost": (lambda: table().drop_columns(["cost"]), ["'cost'", "missing"]),
    "text": (lambda: table(quality=["good"] * 20), ["'quality'", "numbers"]),
    "unknown split": (lambda: table(split=["fit", "test"] * 10), ["'split'", "row 1", "'test'"]),
    "nothing to evaluate": (lambda: table(split=["fit"] * 20), ["'split'", "0 to evaluate"]),
    "one cost": (lambda: table(cost=np.ones((20, 3))), ["same mean cost", "different cost"]),
}

BAD_FILES: dict[str, tuple[str, Callable[[], object]]] = {
    "truncated arrow": ("t.arrow", lambda: damaged(lambda b: b[: len(b) // 2], "t.arrow")),
    "truncated parquet": ("t.parquet", lambda: damaged(lambda b: b[: len(b) // 2], "t.parquet")),
    "no end": ("t.parquet", lambda: damaged(lambda b: b[:-3], "t.parquet")),
    "zeros": (
        "t.arrow",
        lambda: damaged(lambda b: b[:200] + bytes(len(b) - 400) + b[-200:], "t.arrow"),
    ),
    "random bytes": (
        "t.arrow",
        lambda: Path("t.arrow").write_bytes(np.random.default_rng(0).bytes(4096)),
    ),
    "random after magic": (
        "t.parquet",
        lambda: Path("t.parquet").write_bytes(b"PAR1" + np.random.default_rng(0).bytes(99)),
    ),
    "csv": ("t.csv", lambda: Path("t.csv").write_text("query_id,quality\n1,2\n")),
    "empty file": ("t.arrow", lambda: Path("t.arrow").touch()),
    "missing": ("t.arrow", lambda: None),
    "folder": ("t.arrow", lambda: Path("t.arrow").mkdir()),
    "escape codes": ("t\x1b[31m.arrow", lambda: None),
}


class TestBadInput:
    @pytest.mark.parametrize("kind", BAD_TABLES)
    def test_table(self, here: Path, kind: str) -> None:
        make, parts = BAD_TABLES[kind]
        pq.write_table(make(), "bad.parquet")
        line = refused("frontier", "bad.parquet", "--strategies", "mixing", "--out", "new/out")
        assert all(part in line for part in ["bad.parquet", *parts]), line
        if kind not in ("one cost", "nothing to evaluate"):  # to look at, these are fine
            assert refused("inspect", "bad.parquet") == line

    @pytest.mark.parametrize("kind", BAD_FILES)
    def test_file(self, here: Path, kind: str) -> None:
        name, make = BAD_FILES[kind]
        make()
        shown = name.replace("\x1b", "\N{REPLACEMENT CHARACTER}")
        assert f"cannot read {shown}: " in refused("inspect", name)
        assert f"cannot read {shown}: " in refused("frontier", name, "--out", "out")

    @pytest.mark.parametrize(
        ("words", "parts"),
        [
            (["--strategies", "casccading"], ["'casccading'", "did you mean 'cascading'?"]),
            (["--strategies", "mixing, mixing"], ["--strategies", "'mixing'", "twice"]),
            (["--strategies", ","], ["--strategies", "at least one"]),
            (["--models", "model-1,modle-2"], ["'modle-2'", "did you mean 'model-2'?"]),
            (["--models", "0,3"], ["--models", "number 3", "0 to 2"]),
            (["--models", "0,model-1"], ["model-1", "twice"]),
            (["--models", "1"], ["--models", "at least 2"]),
            (["--models", ""], ["--models", "at least one"]),
            (["--budgets", "1"], ["--budgets '1'", "2 to 10,000"]),
            (["--budgets", "99999999"], ["--budgets '99999999'", "2 to 10,000"]),
            (["--budgets", "many"], ["--budgets 'many'", "costs such as"]),
            (["--budgets", "0.1,-0.2"], ["--budgets '0.1,-0.2'"]),
            (["--budgets", "0.1,nan"], ["--budgets '0.1,nan'"]),
            (["--budgets", ""], ["--budgets ''"]),
            (["--budgets", "0.1," * 999], ["--budgets '0.1,"]),
            (["--noise", "loud"], ["'loud'", "low, medium, high"]),
            (["--noise", "hihg"], ["did you mean 'high'?"]),
            (["--scores", "qcn"], ["unknown score 'qcn'", "did you mean 'qnc'?"]),
            (["--scores", "all,qnc"], ["unknown score 'all'", "oracle-gap"]),
            (["--scores", "qnc,qnc"], ["--scores", "'qnc' is listed twice"]),
            (["--scores", ","], ["--scores", "at least one"]),
            (["--noise", "1,2,3"], ["--noise '1,2,3'", "four numbers"]),
            (["--noise", "1,2,3,nan"], ["--noise '1,2,3,nan'", "four numbers"]),
            (["--noise", "1,2,3,-4"], ["--noise '1,2,3,-4'", "at least 0"]),
            (["--max-depth", "0"], ["'--max-depth'", "0", "x>=1"]),
            (["--max-depth", "deep"], ["'--max-depth'", "'deep'"]),
            (["--seed", "-1"], ["'--seed'", "-1"]),
            (["--seed", str(1 << 32)], ["'--seed'", str(1 << 32)]),
            (["--estimates", "good"], ["'--estimates'", "'good'", "'supplied', 'noisy'"]),
            (["--search", "wide"], ["'--search'", "'beam'"]),
            (["--budget", "3"], ["'--budget'", "--budgets", "cascjax frontier --help"]),
            (["more.arrow"], ["more.arrow", "No such file"]),
        ],
    )
    def test_argument(self, here: Path, words: list[str], parts: list[str]) -> None:
        line = refused("frontier", "world.arrow", *words, "--out", "out")
        assert all(part in line for part in parts), line

    @pytest.mark.parametrize(
        ("words", "parts"),
        [
            (["frontier", "world.arrow"], ["'--out'", "cascjax frontier --help"]),
            (["frontier"], ["TABLE", "cascjax frontier --help"]),
            (["fronteir"], ["'fronteir'", "cascjax --help"]),
            (["--loud"], ["'--loud'", "cascjax --help"]),
            (["import", "short"], ["'short'", "cascjax import --help"]),
            (["world", "w.txt"], ["w.txt", "'.txt'", ".parquet"]),
            (["world", "no/w.arrow"], ["no/w.arrow", "there is no folder", "make it"]),
            (["world", "w.arrow", "--models", "1"], ["'--models'", "1"]),
            (["world", "w.arrow", "--queries", "0"], ["'--queries'", "0"]),
            (["world", "w.arrow", "--queries", "9" * 20], ["w.arrow", "free", "--queries"]),
            (["world", "w.arrow", "--quality", "rough"], ["'--quality'", "'graded'"]),
            (["world", "w.arrow", "--seed", "-1"], ["'--seed'", "-1"]),
            (["demo", "--budgets", "1"], ["'--budgets'", "1"]),
            (["demo", "--out", "world.arrow"], ["world.arrow", "choose another"]),
        ],
    )
    def test_other_commands(self, here: Path, words: list[str], parts: list[str]) -> None:
        line = refused(*words)
        assert all(part in line for part in parts), line

    def test_supplied_estimates_that_are_not_there(self, here: Path) -> None:
        pq.write_table(table(), "t.parquet")
        line = refused("frontier", "t.parquet", "--estimates", "supplied", "--out", "out")
        for part in ("t.parquet", "'quality_ante'", "noisy estimates"):
            assert part in line

    @pytest.mark.parametrize("budget", ["0.0000001,0.0005", "77"])
    def test_budget_out_of_reach(self, here: Path, budget: str) -> None:
        costs = read_table("world.arrow").cost
        words = ["--strategies", "mixing", "--budgets", budget + ",", "--out", "out"]
        line = refused("frontier", "world.arrow", *words)
        assert "--budgets" in line  # a trailing comma is nonsense
        words[3] = words[3].rstrip(",") + ("" if "," in budget else ".0")
        line = refused("frontier", "world.arrow", *words)
        found = re.search(r"budget (\S+) is out of reach: .* from (\S+) to (\S+) USD", line)
        assert found
        assert float(found[1]) == float(budget.split(",")[0])
        assert float(found[2]) == pytest.approx(costs.mean(0).min(), rel=0.5)
        assert float(found[3]) == pytest.approx(costs.mean(0).max(), rel=0.5)

    @pytest.mark.parametrize("out", ["world.arrow/out", "/proc/out", "world.arrow", "x" * 300])
    def test_folder_that_cannot_be_written(self, here: Path, out: str) -> None:
        line = refused("frontier", "world.arrow", "--out", out)
        assert out in line
        assert "choose another" in line

    def test_file_names_taken_by_folders(self, here: Path) -> None:
        Path("out/summary.json").mkdir(parents=True)
        line = refused(
            "frontier", "world.arrow", "--strategies", "mixing", "--budgets", "2", "--out", "out"
        )
        assert "out/summary.json" in line

    @pytest.mark.usefixtures("unread")
    def test_too_many_models_to_enumerate(self, here: Path) -> None:
        succeeds("world", "many.arrow", "--queries", "64", "--models", "20")
        line = refused("frontier", "many.arrow", "--out", "out")
        rest = ",".join(name for name in STRATEGIES if name not in ("cascade-routing", "frugal"))
        for part in (
            "many.arrow", "'cascade-routing'", "at most 14", "20", "--models", "--search beam",
            f"--strategies {rest}",
        ):  # fmt: skip
            assert part in line
        words = ["--strategies", "mixing", "--budgets", "2", "--out", "out"]
        succeeds("frontier", "many.arrow", *words)
        assert len(rows("out")) == 2

    def test_old_results_survive_a_failure(self, here: Path) -> None:
        drawn()
        before = files(Path("out"))
        refused("frontier", "world.arrow", "--strategies", "mixing", "--budgets", "77.0",
                "--out", "out")  # fmt: skip
        assert files(Path("out")) == before

    def test_a_full_disk(self, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(pq, "write_table", full)
        line = refused("frontier", "world.arrow", "--strategies", "mixing", "--out", "new")
        assert "No space left on device" in line


class TestCompiledCode:
    """Where it is kept; that it is, is seen in a process of its own below."""

    @pytest.fixture(autouse=True)
    def unset(self, here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        before = jax.config.values["jax_compilation_cache_dir"]
        jax.config.update("jax_compilation_cache_dir", None)
        monkeypatch.setenv("XDG_CACHE_HOME", str(here))
        yield
        jax.config.update("jax_compilation_cache_dir", before)

    def kept_in(self) -> str | None:
        keep_compiled()
        return jax.config.values["jax_compilation_cache_dir"]

    def test_private(self, here: Path) -> None:
        assert self.kept_in() == str(here / "cascjax" / "xla")
        assert (here / "cascjax" / "xla").stat().st_mode & 0o777 == 0o700

    @pytest.mark.parametrize("mode", [0o777, 0o750, 0o701])
    def test_not_where_others_can_go(self, here: Path, mode: int) -> None:
        (here / "cascjax" / "xla").mkdir(parents=True)
        (here / "cascjax" / "xla").chmod(mode)
        assert self.kept_in() is None

    def test_the_users_own_choice_stands(self, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(here / "own"))
        assert self.kept_in() is None  # as it was: JAX has read it at its import
        assert not (here / "cascjax").exists()

    def test_no_folder_is_no_failure(self, here: Path) -> None:
        (here / "cascjax").touch()
        assert self.kept_in() is None


class TestGroup:
    def test_help_needs_no_jax(self) -> None:
        code = "import sys, cascjax.cli.main as c; c.main.main(['--help'], standalone_mode=True)"
        code = f"import sys\ntry:\n {code}\nexcept SystemExit as e: sys.exit('jax' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 0
        assert "frontier" in done.stdout
        assert "Usage: " in done.stdout

    @pytest.mark.parametrize("words", [[], ["import"]])
    def test_a_group_alone_shows_its_help(self, words: list[str]) -> None:
        result = run(*words)
        assert result.exit_code == 2
        assert "Commands:" in result.stderr

    @pytest.mark.parametrize("command", ["demo", "frontier", "inspect", "world", "import"])
    def test_help(self, command: str) -> None:
        assert succeeds(command, "--help").startswith(f"Usage: cascjax {command}")
        assert run(command, "-h").exit_code == 0

    def test_version(self) -> None:
        assert succeeds("--version").strip().endswith("0.1.0")

    @pytest.mark.usefixtures("heeded_interrupts")
    def test_interrupt_held_back(self) -> None:
        done = []

        def work() -> None:
            with uninterrupted():
                signal.raise_signal(signal.SIGINT)
                done.append("all of it")

        with pytest.raises(KeyboardInterrupt):
            work()
        assert done
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def test_words_of_the_report_are_plain(self) -> None:
        assert words.plain("a\x1bb") == "a\N{REPLACEMENT CHARACTER}b"
        with pytest.raises(CascjaxError, match="at least one name"):
            arguments.names("--models", " , ")


@pytest.fixture
def heeded_interrupts() -> Iterator[None]:
    """Python's own handler, here and in what is started: a background job ignores interrupts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def start(folder: Path, *words: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [COMMAND, *words],
        cwd=folder,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


class TestProcess:
    """The installed command itself."""

    def test_error(self, here: Path) -> None:
        process = start(here, "frontier", "none.arrow", "--out", "out")
        out, error = process.communicate(timeout=HUNG)
        assert process.returncode == 2
        assert out == "Reading none.arrow\n"
        assert one_line(error) == "cascjax: cannot read none.arrow: No such file or directory"
        assert not Path("out").exists()

    def test_usage_error(self, here: Path) -> None:
        process = start(here, "frontier", "world.arrow", "--strategeis", "x")
        out, error = process.communicate(timeout=HUNG)
        assert (process.returncode, out) == (2, "")
        assert "cascjax frontier --help" in one_line(error)

    def test_closed_pipe(self, here: Path) -> None:
        process = start(here, "inspect", "world.arrow")
        assert process.stdout
        process.stdout.close()
        process.wait(HUNG)
        assert process.stderr
        assert process.stderr.read() == ""
        process.stderr.close()

    def test_compiled_code_is_kept(self, here: Path) -> None:
        words = ["frontier", "world.arrow", "--strategies", "mixing", "--budgets", "2"]
        process = start(here, *words, "--out", "out", XDG_CACHE_HOME=str(here / "cache"))
        assert process.communicate(timeout=HUNG)[1] == ""
        assert process.returncode == 0
        folder = here / "cache" / "cascjax" / "xla"
        assert folder.stat().st_mode & 0o777 == 0o700
        assert any(folder.iterdir())

    @pytest.mark.usefixtures("heeded_interrupts")
    @pytest.mark.parametrize("when", ["importing", "drawing", "terminated"])
    def test_interrupt(self, here: Path, when: str) -> None:
        succeeds("world", "large.arrow", "--queries", "400000", "--models", "5")
        before = set(files(here))
        process = start(here, "frontier", "large.arrow", "--out", "new/out")
        assert process.stdout
        assert process.stdout.readline() == "Reading large.arrow\n"
        if when != "importing":
            assert "200,000 to fit" in process.stdout.readline()
            time.sleep(2)
        else:
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM if when == "terminated" else signal.SIGINT)
        _, error = process.communicate(timeout=HUNG)
        assert process.returncode == 130
        assert one_line(error) == "cascjax: interrupted; nothing half-written is left"
        assert set(files(here)) == before
