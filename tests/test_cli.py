"""Commands: what they write and print, and that a failure leaves nothing half-written."""

import json
import os
import re
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any

import click
import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import cascjax as cj
from cascjax import synthetic
from cascjax.cli import Cascjax, main
from cascjax.cli.errors import translate
from cascjax.engine.compiled import keep_compiled
from cascjax.importers import IMPORTERS
from cascjax.metrics import SCORES
from cascjax.strategies import STRATEGIES

# isort: split
from commands import (
    cache_home,
    error_line,
    files,
    heeded_interrupts,
    here,
    made,
    refused,
    rows,
    run,
    succeeds,
)

_ = (cache_home, heeded_interrupts, here, made)  # fixtures

HUNG = 300
"""Seconds after which a process is given up; it takes three, except on a busy machine."""

COMMAND = Path(sysconfig.get_path("scripts")) / "cascjax"
COLUMNS = ["strategy", "budget", "cost", "quality", "fit_cost", "fit_quality", "gamma"]
ENDS = ["cost_low", "cost_high", "quality_low", "quality_high"]
OUTPUTS = ["frontier.parquet", "report.html", "summary.json"]


@pytest.mark.parametrize(
    ("strategies", "learned", "most"),
    [("routing,frugal,cascade-routing", False, 14), ("frugal,routing", True, 8),
     ("routing", True, 8)],
)  # fmt: skip
def test_advice_about_too_many_models_works_at_once(
    here: Path, strategies: str, learned: bool, most: int
) -> None:
    table = synthetic.sample(synthetic.make_dataset(15, seed=0), 0, 60, features=True)
    cj.write_table("wide.arrow", table)
    words = f"compare wide.arrow --budgets 2 --out out --strategies {strategies}".split()
    options = ["learned", "--estimator", "logistic", "--folds", "2", "--sigma-scale", "1"]
    words += ["--estimates", *options] * learned
    line = refused(*words)
    advice = rf"15 models are too many for .*; use (.*), or choose at most {most} models"
    found = re.search(advice, line)
    assert found is not None, line
    succeeds(*words, *found[1].replace(" and ", " ").split())
    if strategies == "routing":
        succeeds(*words, "--models", ",".join(map(str, range(most))))


def compared(*args: str, out: str = "out") -> list[dict]:
    """Return the rows of a comparison, of routing at three budgets unless options say otherwise."""
    given = {"--strategies": "routing", "--budgets": "3"}
    given |= dict(zip(args[::2], args[1::2], strict=True))
    succeeds("compare", "data.arrow", *(w for pair in given.items() for w in pair), "--out", out)
    return rows(out)


def summary(folder: Path = Path("out")) -> dict[str, Any]:
    return json.loads((folder / "summary.json").read_text())


@pytest.fixture(scope="module")
def whole(made: Path) -> tuple[Path, str]:
    """The folder of a comparison of every strategy, and the text that it prints."""
    out = made.parent / "whole"
    options = ["--estimates", "supplied", "--resamples", "40", "--confidence", "0.9"]
    return out, succeeds("compare", str(made), *options, "--out", str(out))


class TestResults:
    def test_frontier(self, whole: tuple[Path, str]) -> None:
        assert sorted(path.name for path in whole[0].iterdir()) == OUTPUTS
        table = pq.read_table(whole[0] / "frontier.parquet")
        assert table.column_names == [*COLUMNS, "parameters", *ENDS]
        names = table["strategy"].to_pylist()
        assert list(dict.fromkeys(names)) == list(STRATEGIES)
        assert len(set(map(names.count, STRATEGIES))) == 1
        for name in COLUMNS[1:] + ENDS:
            assert np.isfinite(table[name].to_numpy()).all()
        for row in table.to_pylist():
            assert row["cost_low"] <= row["cost"] <= row["cost_high"]
            assert 0 <= row["gamma"] <= 1

    def test_summary(self, whole: tuple[Path, str], made: Path) -> None:
        content = summary(whole[0])
        assert set(content["models"]) == set(cj.read_table(made).models)
        assert (content["n_fit"], content["n_evaluate"]) == (200, 200)
        assert (content["resamples"], content["confidence"]) == (40, 0.9)
        assert list(content["strategies"]) == list(STRATEGIES)
        for score in content["strategies"].values():
            low, high = score["auc_interval"]
            assert 0 < low < score["auc"] < high < 1
        assert content["settings"]["estimates"] == "supplied"
        assert len(content["differences"]) == len(STRATEGIES) * (len(STRATEGIES) - 1) // 2

    def test_report_and_table(self, whole: tuple[Path, str]) -> None:
        assert "<html" in (whole[0] / "report.html").read_text("utf-8")
        assert "90% interval" in whole[1]
        assert all(name in whole[1] for name in STRATEGIES)

    def test_demo(self, here: Path) -> None:
        result = run("demo", "--queries", "400", "--models", "3", "--budgets", "2")
        assert "cascjax inspect demo/table.arrow" in result.stderr
        assert "routing" in result.stdout
        assert sorted(os.listdir("demo")) == [*OUTPUTS, "table.arrow"]
        assert len(rows("demo")) == 2 * len(STRATEGIES)

    def test_inspect(self, here: Path) -> None:
        table, text = cj.read_table("data.arrow"), succeeds("inspect", "data.arrow")
        assert text.startswith("data.arrow\n400 rows, 3 models, cost in USD\n")
        for k, name in enumerate(table.models):
            assert re.search(rf"{name} +{table.quality[:, k].mean():.4f} ", text)
        contents = json.loads(succeeds("inspect", "data.arrow", "--json"))
        assert contents["models"] == list(table.models)

    def test_inspect_a_folder(self, here: Path) -> None:
        asked = ("--queries", "200", "--models", "3", "--features", "--seconds")
        succeeds("synthesize", "one.arrow", *asked)
        succeeds("synthesize", "parts", *asked, "--parts", "3")
        one, parts = succeeds("inspect", "one.arrow"), succeeds("inspect", "parts")
        assert "parts\n200 rows in 3 files, 3 models" in parts
        assert parts.splitlines()[2:] == one.splitlines()[2:]
        paths = [str(path) for path in sorted(Path("parts").iterdir())]
        assert succeeds("inspect", *paths).splitlines()[1:] == parts.splitlines()[1:]
        Path("parts/part-00001.arrow").write_bytes(b"")
        assert "parts/part-00001.arrow" in refused("inspect", "parts")

    @pytest.mark.parametrize("name", ["new.arrow", "new.parquet"])
    def test_synthesize(self, here: Path, name: str) -> None:
        words = ["synthesize", name, "--queries", "200", "--models", "3", "--seed"]
        content = json.loads(succeeds(*words, "1", "--json"))
        assert content == {"table": name, "queries": 200, "models": 3}
        new, data = cj.read_table(name), cj.read_table("data.arrow")
        np.testing.assert_array_equal(new.cost, data.cost[:200])
        assert not new.extra_costs
        assert data.unit_of("seconds") == "s"
        succeeds(*words, "2")
        assert (cj.read_table(name).cost != new.cost).any()


class TestOptions:
    def test_a_result_goes_to_standard_output_and_notes_do_not(self, here: Path) -> None:
        words = ["compare", "data.arrow", "--strategies", "mixing", "--budgets", "2"]
        plain = run(*words, "--out", "a")
        assert "mixing" in plain.stdout
        assert "Reading data.arrow" in plain.stderr
        quiet = run(*words, "--out", "b", "--quiet", "--json")
        assert quiet.stderr == ""
        content = json.loads(quiet.stdout)
        saved = summary(Path("b"))
        for score in (*content["strategies"].values(), *saved["strategies"].values()):
            score.pop("seconds")
        assert content == saved
        assert len(run(*words, "--out", "c", "--verbose").stderr) > len(plain.stderr)

    def test_models_by_name_and_by_number(self, here: Path) -> None:
        models = cj.read_table("data.arrow").models
        mixing = ("--strategies", "mixing")
        by_name = compared("--models", f"{models[2]},{models[0]}", *mixing)
        assert compared("--models", "0, 2", *mixing) == by_name
        assert set(summary()["models"]) == {models[0], models[2]}

    def test_budgets(self, here: Path) -> None:
        low, middle, high = np.sort(cj.read_table("data.arrow").cost.mean(0, dtype=np.float64))
        by_number = [r["budget"] for r in compared("--budgets", "7", "--strategies", "mixing")]
        np.testing.assert_allclose(np.diff(by_number), np.diff(by_number)[0])
        np.testing.assert_allclose(by_number[-1], high, rtol=0.5)
        costs = [(low + middle) / 2, middle]
        given = f"{costs[1]},{costs[0]}"
        by_cost = compared("--budgets", given, "--strategies", "mixing")
        assert [row["budget"] for row in by_cost] == costs

    def test_options_of_strategies_are_those_they_declare(self, here: Path) -> None:
        shallow = compared("--strategies", "cascade-routing", "--max-depth", "1")
        # A set of one model is what routing chooses among.
        for a, b in zip(shallow, compared("--strategies", "routing"), strict=True):
            # Of routing thousands of prices are tried at once.
            np.testing.assert_allclose(a["fit_quality"], b["fit_quality"], atol=3e-3)
            np.testing.assert_allclose(a["fit_cost"], b["fit_cost"], rtol=1e-5)
        options = {p.name: p for p in command("compare").params}
        for kind in STRATEGIES.values():
            for option in kind.options():
                assert str(option.default) in str(getattr(options[option.name], "help", ""))

    def test_noise_by_name_and_by_numbers(self, here: Path) -> None:
        low = compared("--estimates", "noisy")
        assert compared("--noise", "low") == low
        assert compared("--noise", "0.6,0.3,0.0002,0.00005") == low
        assert compared("--noise", "high") != low
        settings = summary()["settings"]
        assert (settings["estimates"], settings["noise"]) == ("noisy", "high")
        assert compared() == compared("--estimates", "supplied")

    @pytest.mark.parametrize("estimates", ["noisy", "supplied"])
    def test_a_seed_decides(self, here: Path, estimates: str) -> None:
        words = ["--estimates", estimates, "--seed"]
        first, again, other = (compared(*words, seed) for seed in ("0", "0", "1"))
        assert first == again != other

    def test_scores(self, here: Path) -> None:
        compared("--scores", "qnc, auc", "--strategies", "mixing,routing")
        for score in summary()["strategies"].values():
            assert list(score["scores"]) == ["qnc", "auc"]
            assert score["scores"]["auc"] == score["auc"]
        compared("--scores", "all", "--budgets", "2")
        (score,) = summary()["strategies"].values()
        assert list(score["scores"]) == list(SCORES)

    def test_every_source(self, here: Path) -> None:
        succeeds("synthesize", "parts", *("--queries", "400", "--models", "3"), "--parts", "2")
        succeeds("synthesize", "one.arrow", *("--queries", "400", "--models", "3"))
        words = ["--strategies", "mixing", "--budgets", "3", "--seed", "0", "--out"]
        parts = ["parts/part-00000.arrow", "parts/part-00001.arrow"]
        results = []
        for i, source in enumerate([["one.arrow"], ["parts"], ["parts/*.arrow"], parts]):
            succeeds("compare", *source, *words, str(i))
            results.append([row["fit_cost"] for row in rows(str(i))])
        for result in results[1:]:
            np.testing.assert_allclose(result, results[1], rtol=1e-6)


MODELS = ("small", "middle", "large")
LONG = ["--query", "query", "--model", "model", "--quality", "score", "--cost", "price"]
TO_LONG = ["long", "log.csv", "t.arrow", *LONG, "--extra-costs"]


def wide(n: int = 40, **changed: list) -> pa.Table:
    """A log in RouterBench's format."""
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


def long_csv(path: str, n: int = 30) -> None:
    rng = np.random.default_rng(0)
    lines = [
        f"q{i},{model},{rng.random():.3f},{10.0**k * (1 + rng.random()):.3f},g{i % 2},{k + 1}"
        for i in range(n)
        for k, model in enumerate(MODELS)
    ]
    Path(path).write_text("query,model,score,price,topic,s = t\n" + "\n".join(lines) + "\n")


class TestImport:
    def test_routerbench(self, here: Path) -> None:
        pq.write_table(wide(), "log.parquet")
        text = succeeds("import", "routerbench", "log.parquet", "t.parquet")
        assert text == "40 queries, 3 models\nWrote t.parquet\n"
        assert cj.read_table("t.parquet").models == MODELS

    def test_long(self, here: Path) -> None:
        long_csv("log.csv")
        words = [*LONG, "--group", "topic", "--extra-costs", "seconds=s = t", "--json"]
        content = json.loads(succeeds("import", "long", "log.csv", "t.arrow", *words))
        assert (content["queries"], content["models"]) == (30, list(MODELS))
        table = cj.read_table("t.arrow")
        assert table.groups == ("g0", "g1")
        np.testing.assert_array_equal(table.extra_costs["seconds"], np.tile([1, 2, 3], (30, 1)))

    def test_every_importer_is_a_command_with_its_options(self) -> None:
        for name, importer in IMPORTERS.items():
            text = succeeds("import", name, "--help")
            assert importer.summary.split(":")[0] in text
            assert all(f"--{o.name.replace('_', '-')} " in text for o in importer.options)

    def test_invalid_rows(self, here: Path) -> None:
        pq.write_table(wide(small=[0.5] * 7 + [None] + [0.5] * 32), "log.parquet")
        words = ["import", "routerbench", "log.parquet", "t.arrow"]
        line = refused(*words)
        assert "log.parquet" in line
        assert "'mmlu.7'" in line
        assert line.endswith("or drop them with --invalid drop, which keeps 39 queries")
        assert "39 queries, 3 models; dropped 1 row" in succeeds(*words, "--invalid", "drop")

    @pytest.mark.parametrize(
        ("words", "parts"),
        [
            (["long", "log.csv", "t.arrow", *LONG[:-2]], ["--cost COLUMN", "--strong MODEL"]),
            (["long", "log.csv", "log.csv", *LONG], ["log.csv", "given twice"]),
            (
                ["long", "log.csv", "t.arrow", *LONG, "--features", "text", "--prompt", "topic",
                 "--text-model", "log.csv"],
                ["log.csv", "given twice"],
            ),
            (["long", "log.csv", "t.arrow", *LONG, "--prompt", "topic"], ["--features text"]),
            (["long", "log.csv", "t.arrow", *LONG, "--features", "text"], ["--prompt"]),
            ([*TO_LONG, "seconds=latency"], ["log.csv", "unknown column 'latency'"]),
            ([*TO_LONG, "seconds"], ["'--extra-costs'", "'seconds'", "NAME=COL"]),
            ([*TO_LONG, "=topic"], ["'--extra-costs'", "'=topic'", "NAME=COL"]),
            ([*TO_LONG, "s=topic", "--extra-costs", "s=score"], ["'s' is listed twice"]),
            (["routerbench", "log.csv", "t.arrow"], ["log.csv", "is a long log"]),
            (["routerbench", "log.csv", "t.txt"], ["t.txt", "'.txt'", ".parquet"]),
            (["routerbench", "log.csv", "no/t.arrow"], ["no/t.arrow", "folder"]),
            (["routerbench", "log.csv"], ["'FILES...'", "import routerbench --help"]),
            (["short"], ["'short'", "cascjax import --help"]),
        ],
    )  # fmt: skip
    def test_refused(self, here: Path, words: list[str], parts: list[str]) -> None:
        long_csv("log.csv")
        line = refused("import", *words)
        assert all(part in line for part in parts), line


def table(**changed: np.ndarray) -> pa.Table:
    """An evaluation table without metadata, with columns changed."""
    rng = np.random.default_rng(0)
    lists = {"quality": rng.random((20, 3)), "cost": rng.random((20, 3)) + np.arange(3)} | changed
    return pa.table(
        {"query_id": [f"q{i}" for i in range(20)]} | {k: [*v] for k, v in lists.items()}
    )


class TestBadInput:
    """Bad tables and files are tested with the readers; here, how commands report them."""

    def test_tables(self, here: Path) -> None:
        negative, same = np.ones((20, 3)), np.ones((20, 3))
        negative[5, 2] = -1
        pq.write_table(table(cost=negative), "bad.parquet")
        compared = ["compare", "bad.parquet", "--estimates", "noisy", "--out", "new/out"]
        for words in (["inspect", "bad.parquet"], compared):
            line = refused(*words)
            for part in ("bad.parquet", "'cost'", "row 5", "-1", "'model 3'", "at least 0"):
                assert part in line
        pq.write_table(table(cost=same), "same.parquet")
        line = refused("compare", "same.parquet", "--strategies", "mixing", "--out", "new/out")
        assert "same mean cost" in line
        assert "different cost" in line

    @pytest.mark.parametrize("name", ["none.arrow", "t\x1b[31m.arrow", "cut.arrow", "folder.arrow"])
    def test_files(self, here: Path, name: str) -> None:
        Path("folder.arrow").mkdir()
        Path("cut.arrow").write_bytes(Path("data.arrow").read_bytes()[:-300])
        shown = name.replace("\x1b", "\N{REPLACEMENT CHARACTER}")
        assert f"cannot read {shown}: " in refused("inspect", name)
        assert f"cannot read {shown}: " in refused("compare", name, "--out", "out")

    @pytest.mark.parametrize(
        ("words", "parts"),
        [
            ("--strategies casccading", ["'casccading'", "did you mean 'cascading'?"]),
            ("--strategies mixing,mixing", ["--strategies", "'mixing'", "twice"]),
            ("--strategies ,", ["--strategies", "at least one"]),
            ("--models model-1,modle-2", ["'modle-2'", "did you mean 'model-2'?"]),
            ("--models 0,3", ["--models", "number 3", "0 to 2"]),
            ("--models 0,model-1", ["model-1", "twice"]),
            ("--models 1", ["--models", "at least 2"]),
            ("--models ,", ["--models", "at least one"]),
            ("--budgets 1", ["--budgets", "'1'", "2 to 10,000"]),
            ("--budgets 99999999", ["--budgets", "'99999999'", "2 to 10,000"]),
            ("--budgets many", ["--budgets", "'many'", "costs such as"]),
            ("--budgets 0.1,-0.2", ["--budgets", "'0.1,-0.2'"]),
            ("--budgets 0.1,nan", ["--budgets", "'0.1,nan'"]),
            ("--budgets " + "0.1," * 999, ["--budgets", "'0.1,"]),
            ("--budgets 0.0000001,0.0005", ["budget 1e-07 is out of reach", "USD"]),
            ("--budgets 77.0", ["budget 77 is out of reach", "USD"]),
            ("--noise loud", ["'loud'", "low, medium, high"]),
            ("--noise hihg", ["did you mean 'high'?"]),
            ("--noise 1,2,3", ["--noise", "'1,2,3'", "four numbers"]),
            ("--noise 1,2,3,nan", ["--noise", "'nan'"]),
            ("--noise 1,2,3,-4", ["--noise", "'1,2,3,-4'", "at least 0"]),
            ("--noise low --ridge 1", ["--noise needs noisy estimates, not learned"]),
            ("--estimates supplied --noise low", ["--noise needs noisy estimates, not supplied"]),
            ("--estimates good", ["'--estimates'", "'good'", "'supplied', 'noisy'"]),
            ("--estimator best", ["'--estimator'", "'best'", "'logistic'"]),
            ("--ridge -1", ["'--ridge'", "at least 0 or auto"]),
            ("--sigma-scale 11", ["'--sigma-scale'", "from 0 to 10 or auto"]),
            ("--scores qcn", ["unknown score 'qcn'", "did you mean 'qnc'?"]),
            ("--scores all,qnc", ["unknown score 'all'", "oracle-gap"]),
            ("--scores qnc,qnc", ["--scores", "'qnc' is listed twice"]),
            ("--max-depth 0", ["'--max-depth'", "0", "x>=1"]),
            ("--strategies routing --max-depth 2", ["--max-depth is an option of frugal and"]),
            ("--search wide", ["'--search'", "'beam'"]),
            ("--seed -1", ["'--seed'", "-1"]),
            (f"--seed {1 << 32}", ["'--seed'", str(1 << 32)]),
            ("--resamples 1", ["resamples must be from 2 to 100,000, not 1"]),
            ("--resamples 30", ["30 resamples are too few", "at least 40"]),
            ("--resamples 5000 --confidence 0.999", ["queries are too few"]),
            ("--confidence 1", ["'--confidence'", "0<x<1"]),
            ("--sample 0", ["'--sample'", "x>=1"]),
            ("--budget 3", ["'--budget'", "--budgets", "cascjax compare --help"]),
            ("more.arrow", ["more.arrow", "No such file"]),
            ("--processes 2", ["--processes and --process need --coordinator"]),
        ],
    )
    def test_options(self, here: Path, words: str, parts: list[str]) -> None:
        line = refused("compare", "data.arrow", *words.split(), "--out", "out")
        assert all(part in line for part in parts), line

    @pytest.mark.parametrize(
        ("words", "parts"),
        [
            ("compare data.arrow", ["'--out'", "cascjax compare --help"]),
            ("compare", ["SOURCE", "cascjax compare --help"]),
            ("comparre", ["'comparre'", "cascjax --help"]),
            ("--loud", ["'--loud'", "cascjax --help"]),
            ("synthesize w.txt", ["w.txt", "'.txt'", ".parquet"]),
            ("synthesize no/w.arrow", ["no/w.arrow", "there is no folder", "make it"]),
            ("synthesize w.arrow --models 1", ["'--models'", "1"]),
            ("synthesize w.arrow --queries 0", ["'--queries'", "0"]),
            ("synthesize w.arrow --queries 99999999999999999999", ["w.arrow", "free", "--queries"]),
            ("synthesize w.arrow --quality rough", ["'--quality'", "'graded'"]),
            ("synthesize w.arrow --kind swebench --quality graded", ["swebench", "quality"]),
            ("synthesize w --queries 3 --parts 4", ["--parts must be at most the 3 queries"]),
            ("demo --budgets 1", ["'--budgets'", "1"]),
            ("demo --out data.arrow", ["data.arrow", "choose another"]),
        ],
    )
    def test_other_commands(self, here: Path, words: str, parts: list[str]) -> None:
        line = refused(*words.split())
        assert all(part in line for part in parts), line

    @pytest.mark.parametrize("out", ["data.arrow/out", "/proc/out", "data.arrow", "x" * 300])
    def test_folder_that_cannot_be_written(self, here: Path, out: str) -> None:
        line = refused("compare", "data.arrow", "--out", out)
        assert out in line
        assert "choose another" in line

    def test_file_names_taken_by_folders(self, here: Path) -> None:
        words = ["compare", "data.arrow", "--strategies", "mixing", "--budgets", "2"]
        Path("out/summary.json").mkdir(parents=True)
        line = error_line(run(*words, "--out", "out").stderr)
        assert "out/summary.json" in line
        assert "--resume" in line
        Path("out/summary.json").rmdir()
        assert "--force" in error_line(run(*words, "--out", "out").stderr)
        succeeds(*words, "--out", "out", "--resume")
        assert sorted(os.listdir("out")) == OUTPUTS

    def test_sources_that_are_refused(self, here: Path) -> None:
        pq.write_table(table(), "t.parquet")
        succeeds("synthesize", "many.arrow", "--queries", "64", "--models", "20")
        for words, parts in (
            (["t.parquet", "--estimates", "supplied"], ["t.parquet", "'quality_ante'", "noisy"]),
            (["many.arrow"], ["20 models", "choose at most 14 models"]),
        ):
            line = refused("compare", *words, "--out", "out")
            assert all(part in line for part in parts), line

    def test_old_results_survive_a_failure(self, here: Path) -> None:
        compared("--strategies", "mixing")
        refused("compare", "data.arrow", "--budgets", "77.0", "--out", "out")


@pytest.mark.parametrize("mode", [None, 0o777, 0o750, 0o701, "file", "own"])
def test_compiled_programs_are_kept_where_only_the_user_can_go(
    here: Path, monkeypatch: pytest.MonkeyPatch, mode: int | str | None
) -> None:
    """That they are kept is tested in a process of its own below."""
    kept = here / "cascjax" / "xla"
    before = jax.config.values["jax_compilation_cache_dir"]
    jax.config.update("jax_compilation_cache_dir", "own" if mode == "own" else None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(here))
    if isinstance(mode, int):
        kept.mkdir(parents=True)
        kept.chmod(mode)
    elif mode == "file":
        kept.parent.touch()
    keep_compiled.__wrapped__()
    after = jax.config.values["jax_compilation_cache_dir"]
    jax.config.update("jax_compilation_cache_dir", before)
    assert after == (str(kept) if mode is None else "own" if mode == "own" else None)
    if mode is None:
        assert kept.stat().st_mode & 0o777 == 0o700
    assert mode != "own" or not kept.parent.exists()


def command(name: str) -> click.Command:
    found = main.get_command(click.Context(main), name)
    assert found is not None
    return found


class TestProgram:
    def test_help_needs_no_jax(self) -> None:
        code = "import sys\nfrom cascjax.cli import main\ntry: main(['--help'])\nexcept SystemExit:"
        code += " sys.exit('jax' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 0
        assert "Usage: " in done.stdout

    def test_help_is_not_cut_off(self) -> None:
        text = " ".join(succeeds("--help").split())
        assert all(summary in text for summary in Cascjax.summaries.values())
        assert "..." not in text.replace("[ARGS]...", "")

    @pytest.mark.parametrize("name", Cascjax.summaries)
    def test_help(self, name: str) -> None:
        text = succeeds(name, "--help")
        assert text.startswith(f"Usage: cascjax {name}")
        assert run(name, "-h").exit_code == 0
        for parameter in command(name).params:
            words = (getattr(parameter, "help", None) or "Noun").split()[0]
            assert words not in ("Of", "The", "What", "Whether", "How", "Which"), parameter.name

    @pytest.mark.parametrize("words", [[], ["import"]])
    def test_a_group_alone_shows_its_help(self, words: list[str]) -> None:
        result = run(*words)
        assert result.exit_code == 2
        assert "Commands:" in result.stderr

    def test_version(self) -> None:
        assert cj.__version__ in succeeds("--version")

    def test_defaults_are_those_of_python(self) -> None:
        import inspect

        for name in ("compare", "fit", "evaluate", "tune", "diagnose"):
            arguments = inspect.signature(getattr(cj, name)).parameters
            for parameter in command(name).params:
                argument = arguments.get(parameter.name or "")
                if argument is None or not isinstance(argument.default, int | float):
                    continue
                assert parameter.default == argument.default, (name, parameter.name)

    def test_errors_name_options(self) -> None:
        words = "seed must be 0: use resume=True or n='2' and 'seed=1'"
        assert translate(words, command("compare")) == (
            "--seed must be 0: use --resume or n='2' and 'seed=1'"
        )


def start(folder: Path, *words: str, **environment: str) -> subprocess.Popen[str]:
    pipe: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([COMMAND, *words], cwd=folder, env=os.environ | environment, **pipe)


class TestProcess:
    """The installed command."""

    def test_error(self, here: Path) -> None:
        process = start(here, "compare", "none.arrow", "--out", "out")
        out, error = process.communicate(timeout=HUNG)
        assert (process.returncode, out) == (2, "")
        line = "cascjax: cannot read none.arrow: No such file or directory"
        assert error == f"Reading none.arrow\n{line}\n"
        assert not Path("out").exists()

    def test_closed_pipe(self, here: Path) -> None:
        process = start(here, "inspect", "data.arrow")
        assert process.stdout
        process.stdout.close()
        process.wait(HUNG)
        assert process.stderr
        assert process.stderr.read() == ""
        process.stderr.close()

    def test_compiled_programs_are_kept(self, here: Path) -> None:
        cache = here / "cache"
        words = ["compare", "data.arrow", "--strategies", "mixing", "--budgets", "2", "--quiet"]
        environment = {"XDG_CACHE_HOME": str(cache), "JAX_COMPILATION_CACHE_DIR": ""}
        process = start(here, *words, "--out", "out", **environment)
        assert process.communicate(timeout=HUNG)[1] == ""
        assert process.returncode == 0
        assert any((cache / "cascjax" / "xla").iterdir())

    @pytest.mark.usefixtures("heeded_interrupts")
    @pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
    @pytest.mark.parametrize("first", ["Reading", "queries"])
    def test_interrupt(self, here: Path, sent: signal.Signals, first: str) -> None:
        succeeds("synthesize", "large.arrow", "--queries", "400000", "--models", "5")
        before = set(files(here))
        process = start(here, "compare", "large.arrow", "--out", "new/out")
        assert process.stderr
        while first not in process.stderr.readline():
            pass
        time.sleep(0.1 if first == "Reading" else 2)
        process.send_signal(sent)
        _, error = process.communicate(timeout=HUNG)
        assert process.returncode == 130
        line = error_line(error)
        if "--resume" not in line:
            assert line == "cascjax: interrupted; nothing half-written is left"
            assert set(files(here)) == before
