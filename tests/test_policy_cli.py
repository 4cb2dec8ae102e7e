"""cascjax fit and evaluate: what they write, what they say, and that nothing half-done stays."""

import json
import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from rich.console import Console

from cascjax import evaluate, fit, load_policy, read_table
from cascjax import fitting as search
from cascjax.cli.main import main
from cascjax.estimators.specs import Noisy
from cascjax.fitting import Confidence
from cascjax.policy import Policy
from cascjax.report import console as report
from cascjax.report.policy import print_policy
from cascjax.search.rules import Rule
from cascjax.strategies import strategy


@pytest.fixture(autouse=True, scope="module")
def cache_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache folder of the tests' own: the user's is left alone."""
    before = jax.config.values["jax_compilation_cache_dir"]
    home = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(home))
        patch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
        yield home
    jax.config.update("jax_compilation_cache_dir", before)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world of 400 queries x 3 models with seconds."""
    path = tmp_path_factory.mktemp("made") / "world.arrow"
    words = ["--queries", "400", "--models", "3", "--seconds", "--seed", "1"]
    assert CliRunner().invoke(main, ["world", str(path), *words]).exit_code == 0
    return path


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An own working folder with a copy of the world in it, `world.arrow`."""
    shutil.copy(made, tmp_path)
    monkeypatch.chdir(tmp_path)
    # pytest-xdist tells its workers how wide the terminal is, and lines would be broken to fit.
    monkeypatch.delenv("COLUMNS", raising=False)
    return tmp_path


def succeeds(*args: str) -> str:
    result = CliRunner().invoke(main, list(args))
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    return result.stdout


def refused(*args: str) -> str:
    """Runs a command that must fail as one line on stderr and change no file; that line."""
    before = sorted(Path.cwd().rglob("*"))
    result = CliRunner().invoke(main, list(args))
    assert isinstance(result.exception, SystemExit)
    assert result.exit_code == 2
    assert sorted(Path.cwd().rglob("*")) == before
    assert result.stderr.startswith("cascjax: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


def fitted(*words: str, strategy: str = "routing") -> str:
    return succeeds("fit", "world.arrow", "--strategy", strategy, *words, "--out", "policy.json")


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        (["--budget", "0.0003"], {"budget": 0.0003}),
        (["--budget", "cost=0.0003"], {"budget": {"cost": 0.0003}}),
        (
            ["--budget", "0.0003", "--budget", "seconds=2.5"],
            {"budget": {"cost": 0.0003, "seconds": 2.5}},
        ),
        (["--quality", "0.6"], {"quality": 0.6}),
        (["--parameter", "20"], {"parameter": 20.0}),
        (
            ["--budget", "0.0003", "--group-budget", "law=0.0005"],
            {"budget": 0.0003, "group_budgets": {"law": {"cost": 0.0005}}},
        ),
        (
            ["--budget", "0.0003", "--confidence", "0.9", "--new-queries", "inf"],
            {"budget": 0.0003, "confidence": Confidence(0.9, math.inf)},
        ),
        (
            ["--budget", "0.0003", "--noise", "0.2,0.1,0,0", "--seed", "4"],
            {"budget": 0.0003, "estimates": Noisy((0.2, 0.1, 0.0, 0.0)), "seed": 4},
        ),
    ],
)
def test_the_command_writes_what_python_finds(
    words: list[str], asked: dict[str, Any], here: Path
) -> None:
    said = fitted(*words)
    want = fit(read_table("world.arrow"), "routing", **asked)
    assert load_policy("policy.json").text() == want.text()
    assert "Wrote policy.json; try: cascjax evaluate policy.json world.arrow" in said
    assert "fit queries: mean quality" in said


def test_a_target_is_named_by_the_fit_and_checked_by_evaluate(here: Path) -> None:
    assert "mean quality 0.6500, target 0.65." in fitted("--quality", "0.65")
    said = succeeds("evaluate", "policy.json", "world.arrow", "--out", "out")
    assert "the target of 0.65" in said
    found = json.loads(Path("out/summary.json").read_text())
    assert found["target"] == 0.65
    assert found["budgets_met"] is (found["total"]["quality"]["mean"] >= 0.65 * (1 - 1e-5))
    # The lowest there is may be above what is wanted.
    assert "target 0.1; no cheaper setting exists." in fitted("--quality", "0.1")


def test_settings_that_differ_look_different() -> None:
    models, mean_costs = ("a", "b"), np.array([[1.0, 2.0]])
    for parameters in ([2707.3601, 2707.3604], [[1.0, 2.0], [1.0, 2.0000005]]):
        rule = Rule(np.array(parameters), np.array([0.25, 0.75]))
        policy = Policy(strategy("pandora"), models, rule, np.full(2, 0.1), mean_costs)
        with (console := Console(width=100)).capture() as shown:
            print_policy(policy, console)
        rows = [line.split(maxsplit=1)[1] for line in shown.get().splitlines() if "%" in line]
        assert len(set(rows)) == 2, shown.get()


def test_models_depth_and_search_are_kept(here: Path) -> None:
    words = ["--models", "model-1,model-3", "--max-depth", "1", "--search", "greedy"]
    fitted("--budget", "0.0003", *words, strategy="cascade-routing")
    policy = load_policy("policy.json")
    assert policy.models == ("model-1", "model-3")
    content = json.loads(Path("policy.json").read_text())["strategy"]
    assert content["options"]["max_depth"] == 1
    assert content["options"]["search"] == "greedy"
    fitted("--parameter", "1,2,3", strategy="cascading")
    assert load_policy("policy.json").rule.parameters.tolist() == [[1, 2, 3]]


def test_evaluate_writes_a_row_a_query_and_a_summary(here: Path) -> None:
    fitted("--budget", "0.0003", "--budget", "seconds=2.5", "--group-budget", "law=0.0005")
    said = succeeds("evaluate", "policy.json", "world.arrow", "--out", "new/folder")
    want = evaluate(load_policy("policy.json"), read_table("world.arrow"))
    rows = pq.read_table("new/folder/evaluation.parquet")
    names = ["query_id", "cost", "cost.seconds", "quality", "steps", "answer"]
    assert rows.column_names == names
    ids = pq_ids("world.arrow")
    assert rows["query_id"].to_pylist() == [ids[i] for i in want.rows]
    np.testing.assert_array_equal(rows["quality"].to_numpy(), want.quality)
    np.testing.assert_array_equal(rows["cost"].to_numpy(), want.cost[0])
    np.testing.assert_array_equal(rows["cost.seconds"].to_numpy(), want.cost[1])
    assert rows["answer"].to_pylist() == [want.models[i] for i in want.answer]
    summary = json.loads(Path("new/folder/summary.json").read_text())
    assert summary["total"]["n"] == 200
    assert summary["total"]["quality"]["mean"] == want.total.quality.value
    assert summary["group_rules"]["law"]["budget"] == {"cost": 0.0005}
    assert summary["rule"]["budget"] == {"cost": 0.0003, "seconds": 2.5}
    assert summary["groups"]["math"]["cost"]["seconds"]["high"] == want.groups["math"].cost[1].high
    assert summary["verdicts"] == want.verdicts()
    assert summary["budgets_met"] is want.met()
    assert summary["settings"]["table"] == "world.arrow"
    for line in want.verdicts():
        assert line in " ".join(said.split())
    assert "for picking models at random at the same cost." in " ".join(said.split())
    assert "model-3" in said


def pq_ids(path: str) -> list[str]:
    from pyarrow import feather

    return feather.read_table(path)["query_id"].to_pylist()


def test_evaluate_without_intervals_on_other_queries(here: Path) -> None:
    fitted("--budget", "0.0003")
    succeeds("world", "other.arrow", "--queries", "20", "--models", "3", "--seed", "1")
    line = refused("evaluate", "policy.json", "other.arrow", "--out", "out")
    assert "other.arrow: 20 queries are too few" in line
    said = succeeds("evaluate", "policy.json", "other.arrow", "--out", "out", "--resamples", "0")
    assert "[" not in said.split("model ")[0]
    assert json.loads(Path("out/summary.json").read_text())["total"]["n"] == 20


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "give one of --budget, --quality and --parameter, not none"),
        (["--budget", "1", "--quality", "0.5"], "not --budget and --quality"),
        (["--budget", "cheap"], "--budget 'cheap': give a number"),
        (["--budget", "=3"], "give it as NAME=NUMBER"),
        (["--budget", "1", "--budget", "2"], "--budget: 'cost' is listed twice"),
        (["--budget", "1", "--budget", "cost=2"], "--budget: 'cost' is listed twice"),
        (["--budget", "minutes=2"], "world.arrow: unknown cost 'minutes'"),
        (["--budget", "1e-9"], "world.arrow: budget 1e-09 is out of reach of routing"),
        (["--budget", "nan"], "give a number"),
        (["--quality", "3"], "quality 3 is out of reach"),
        (["--parameter", "1,x"], "--parameter 'x': give a number"),
        (["--budget", "1", "--group-budget", "0.1"], "give it as NAME=NUMBER"),
        (["--budget", "1", "--group-budget", "lore=0.1"], "unknown group 'lore'"),
        (["--budget", "1", "--group-budget", "law:hours=1"], "unknown cost 'hours'"),
        (["--budget", "1", "--confidence", "0.3"], "between 0.5 and 1"),
        (["--budget", "1", "--confidence", "0.9", "--new-queries", "0"], "or inf"),
        (["--budget", "1", "--new-queries", "5"], "goes with a confidence"),
        (["--budget", "1", "--models", "model-1"], "a choice needs at least 2"),
        (["--budget", "1", "--noise", "1,2"], "four numbers"),
    ],
)
def test_what_can_be_mended_is_one_line_and_leaves_nothing(
    words: list[str], line: str, here: Path
) -> None:
    said = refused("fit", "world.arrow", "--strategy", "routing", *words, "--out", "policy.json")
    assert line in said


def test_files_that_are_wrong_are_refused(here: Path) -> None:
    words = ["--strategy", "routing", "--budget", "0.0003"]
    assert "is the table itself" in refused("fit", "world.arrow", *words, "--out", "world.arrow")
    assert "there is no folder" in refused("fit", "world.arrow", *words, "--out", "no/policy.json")
    assert "none.arrow" in refused("fit", "none.arrow", *words, "--out", "policy.json")
    nothing = ["fit", "world.arrow", "--strategy", "rooting", "--budget", "1", "--out", "p.json"]
    assert "unknown strategy 'rooting'" in refused(*nothing)
    fitted("--budget", "0.0003")
    text = Path("policy.json").read_text()
    Path("bent.json").write_text(text.replace("model-2", "model-9"))
    said = refused("evaluate", "bent.json", "world.arrow", "--out", "out")
    assert "bent.json is damaged: its checksum" in said
    succeeds("world", "two.arrow", "--queries", "40", "--models", "2")
    said = refused("evaluate", "policy.json", "two.arrow", "--out", "out")
    assert "two.arrow: the table lacks models of the policy: model-3" in said
    assert not Path("out").exists()


def test_progress_is_shown(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved: dict[str, int] = {}

    @contextmanager
    def counted(doing: str) -> Iterator[Callable[[int], None]]:
        def advance(queries: int) -> None:
            moved[doing] = moved.get(doing, 0) + queries

        yield advance

    monkeypatch.setattr(report, "query_progress", counted)
    fitted("--budget", "0.0003")
    words = ["policy.json", "world.arrow", "--out", "out"]
    assert CliRunner().invoke(main, ["evaluate", *words]).exit_code == 0
    assert moved["fitting"] > moved["evaluating"] > 0


def test_the_bar_stands_on_a_terminal_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with report.query_progress("fitting") as advance:
        advance(1000)
    assert capsys.readouterr() == ("", "")


def test_an_interrupt_leaves_the_policy_there_was(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted("--budget", "0.0003")
    before = {path: path.read_bytes() for path in here.iterdir()}

    def interrupted(*args: Any, **more: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(search, "fit_budgets", interrupted)
    words = ["--strategy", "routing", "--budget", "0.0004", "--out", "policy.json"]
    result = CliRunner().invoke(main, ["fit", "world.arrow", *words])
    assert result.exit_code == 130
    assert {path: path.read_bytes() for path in here.iterdir()} == before
