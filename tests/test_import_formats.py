"""Named formats, each on a small log written by hand as the tool writes it."""

import io
import json
import re
import shlex
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from cascjax.cli import main
from cascjax.data.prices import read_prices
from cascjax.errors import CascjaxError
from cascjax.importers import IMPORTERS, ImportResult, import_log

NAN = float("nan")


def read(name: str, data: Any, **options: Any) -> ImportResult:
    return import_log(name, data, **options)


def refusal(name: str, data: Any, **options: Any) -> str:
    with pytest.raises(CascjaxError) as caught:
        read(name, data, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content, indent=2))
    return path


def groups(result: ImportResult) -> list[str]:
    return [result.table.groups[code] for code in np.asarray(result.table.group)]


# LLMRouterBench


def run_of(model: str, dataset: str, scores: list[Any], **more: Any) -> dict[str, Any]:
    return {
        "performance": 0.5, "time_taken": 1.5, "prompt_tokens": 30, "completion_tokens": 9,
        "cost": 0.1, "counts": len(scores), "model_name": model, "dataset_name": dataset,
        "split": "test", "demo": False, "extra_metrics": {}, "data_fingerprint": "f00",
        "records": [
            {"index": i + 1, "origin_query": f"What is {i}?", "prompt": f"Q: What is {i}?",
             "prompt_tokens": 10 + i, "completion_tokens": 3, "cost": 0.001 * (i + 1),
             "score": score, "prediction": "7", "ground_truth": "7",
             "raw_output": f"It is {i}.", "extra_fields": {"latency": [1, {"a": None}]}}
            for i, score in enumerate(scores)
        ],
    } | more  # fmt: skip


def bench(folder: Path) -> Path:
    for model in ("org-a", "b"):
        for dataset in ("aime", "bbh"):
            where = folder / "bench" / dataset / "test" / model
            scores = [1.0, 0.0] if model == "b" else [0.0, 0.5]
            write(where / f"{dataset}-test-{model}-20250101_120000.json",
                  run_of(model, dataset, scores))  # fmt: skip
    return folder / "bench"


def test_llmrouterbench(tmp_path: Path) -> None:
    folder = bench(tmp_path)
    old = folder / "aime/test/b/aime-test-b-20240101_120000.json"
    write(old, run_of("b", "aime", [0.25, 0.25]))  # an earlier run of the same
    write(folder / "aime/test/b/aime-test-b.json", run_of("b", "aime", [9, 9, 9], demo=True))
    result = read("llmrouterbench", folder, features="text", n_components=1)
    assert result.table.models == ("b", "org-a")
    assert result.query_id.to_pylist() == [f"{d}/test/{i}" for d in ("aime", "bbh") for i in (1, 2)]
    assert groups(result) == ["aime", "aime", "bbh", "bbh"]
    np.testing.assert_array_equal(result.table.quality, [[1, 0], [0, 0.5]] * 2)
    np.testing.assert_allclose(result.table.cost, [[0.001, 0.001], [0.002, 0.002]] * 2)
    tokens = result.table.extra_costs["input_tokens"]
    np.testing.assert_array_equal(tokens, [[10, 10], [11, 11]] * 2)
    assert dict(result.table.extra_cost_units)["output_tokens"] == "tokens"
    assert result.table.cost_unit == "USD"
    assert result.table.signals is not None
    old.unlink()
    prices = write(tmp_path / "p.yaml", "models: {org-a: {input: 1, output: 2}, b: {input: 2}}")
    message = refusal("llmrouterbench", folder, prices=prices)
    assert f"{prices}: 'b' has no price of output tokens; add it" in message
    prices.write_text("models: {org-a: {input: 1, output: 2}, b: {input: 10, output: 100}}")
    priced = read("llmrouterbench", folder, prices=prices).table
    np.testing.assert_allclose(priced.cost[0], [400e-6, 16e-6])
    assert priced.cost_unit == "USD"


def test_llmrouterbench_refusals(tmp_path: Path) -> None:
    folder = bench(tmp_path)
    path = folder / "bbh/test/b/bbh-test-b-20250101_120000.json"
    whole = path.read_text()
    path.write_text(whole.replace('"index": 2', '"indeks": 2'))
    assert "records[1]: object missing required field `index`" in refusal("llmrouterbench", folder)
    path.write_text(whole[:-100])
    assert f"cannot read {path}: line" in refusal("llmrouterbench", folder)
    path.write_bytes(whole.encode().replace(b"It is", b"It \xffs"))
    assert f"cannot read {path}: it is not JSON" in refusal("llmrouterbench", folder)
    path.write_text(whole.replace('"score": 1.0', '"score": NaN'))
    assert "'b' 1 without a quality" in refusal("llmrouterbench", folder)
    path.unlink()
    assert "'b' 2 without a row" in refusal("llmrouterbench", folder)
    assert "the folder has no files *.json" in refusal("llmrouterbench", path.parent)


# lm-evaluation-harness


def sample(i: int, name: str, **metrics: Any) -> dict[str, Any]:
    return {
        "doc_id": i, "doc": {"question": f"Q{i}", "answer": 3}, "target": "3",
        "arguments": {"gen_args_0": {"arg_0": f"Question: Q{i}", "arg_1": {"until": ["Q:"]}}},
        "resps": [[f" It is {i}."]], "filtered_resps": [str(i)], "filter": name,
        "metrics": list(metrics), "doc_hash": "d", "prompt_hash": "p", "target_hash": "t",
    } | metrics  # fmt: skip


def harness(folder: Path, filters: tuple[str, ...] = ("none",), **more: Any) -> Path:
    for model, name in (("org__a", "org/a"), ("b", "b")):
        time = "2025-02-03T04-05-06.789"
        lines = [
            sample(i, each, exact_match=float(i % 2 == (model == "b")), **more)
            for i in range(4)
            for each in filters
        ]
        text = "\n".join(map(json.dumps, lines)) + "\n"
        write(folder / model / f"samples_gsm_8k_{time}.jsonl", text)
        write(folder / model / f"results_{time}.json", {"model_name": name, "results": {"x": 1}})
    return folder


def test_lm_eval(tmp_path: Path) -> None:
    folder = harness(tmp_path / "out")
    result = read("lm-eval", folder, strong="b")
    assert result.table.models == ("b", "org/a")
    assert result.query_id.to_pylist() == [f"gsm_8k/{i}" for i in range(4)]
    assert groups(result) == ["gsm_8k"] * 4
    np.testing.assert_array_equal(result.table.quality, [[0, 1], [1, 0]] * 2)
    np.testing.assert_array_equal(result.table.cost, [[1, 0]] * 4)
    prices = write(tmp_path / "p.yaml", "models: {b: {call: 0.5}, org/a: {call: 0.25}}")
    with_text = read("lm-eval", folder, prices=prices, features="text", n_components=1)
    np.testing.assert_array_equal(with_text.table.cost, [[0.5, 0.25]] * 4)
    # A later run of a task is taken, as the harness does.
    later = folder / "b" / "samples_gsm_8k_2025-03-03T04-05-06.789.jsonl"
    write(later, "\n".join(json.dumps(sample(i, "none", exact_match=1)) for i in range(4)))
    table = read("lm-eval", folder, strong="b").table
    np.testing.assert_array_equal(table.quality[:, 0], np.ones(4))
    assert "the log has no costs; give prices=FILE, of tokens or of calls" in refusal(
        "lm-eval", folder
    )
    write(tmp_path / "q.yaml", "models: {b: {input: 1}, org/a: {input: 1}}")
    message = refusal("lm-eval", folder, prices=tmp_path / "q.yaml")
    assert "'b' has no price per call, and there are no counts of tokens" in message


def test_lm_eval_metrics_and_filters(tmp_path: Path) -> None:
    filters = ("strict-match", "flexible-extract")
    message = refusal("lm-eval", harness(tmp_path / "out", filters), strong="b")
    assert "several filters: 'flexible-extract', 'strict-match'; choose one with filter" in message
    folder = harness(tmp_path / "out", filters, f1=0.25)
    message = refusal("lm-eval", folder, strong="b", filter="strict-match")
    assert "several metrics: 'exact_match', 'f1'; choose one with metric" in message
    table = read("lm-eval", folder, strong="b", filter="strict-match", metric="f1").table
    np.testing.assert_array_equal(table.quality, np.full((4, 2), 0.25))
    message = refusal("lm-eval", folder, strong="b", filter="strict-match", metric="f2")
    assert "row 0: unknown metric 'f2'; known: exact_match, f1" in message
    assert "unknown filter 'x'" in refusal("lm-eval", folder, strong="b", filter="x")
    for path in folder.glob("*/samples_*"):
        path.unlink()
    write(folder / "b" / "samples_x.jsonl", '{"id": 1}\n{"id": 2}')
    assert "row 0: field 'doc_id' is missing" in refusal("lm-eval", folder, strong="b")


# Inspect


def inspect_sample(i: str, epoch: int, value: Any, model: str, **more: Any) -> dict[str, Any]:
    return {
        "id": i, "epoch": epoch, "input": [{"role": "system", "content": "Be brief."},
                                           {"role": "user", "content": f"Say {i}"}],
        "target": "x", "messages": [], "metadata": {},
        "output": {"model": model, "choices": [{"message": {"role": "assistant", "content": [
            {"type": "text", "text": "x"}]}, "stop_reason": "stop"}]},
        "scores": {"match": {"value": value, "answer": "x", "explanation": "..."}},
        "model_usage": {
            model: {"input_tokens": 100, "output_tokens": 50, "total_tokens": 170,
                    "input_tokens_cache_read": 20, "reasoning_tokens": 10},
            "openai/grader": {"input_tokens": 9999, "output_tokens": 9999, "total_tokens": 19998},
        },
        "started_at": "2025-02-10T17:00:00+00:00", "total_time": 2.5, "events": [{"x": [1]}],
    } | more  # fmt: skip


def inspect_log(model: str, samples: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "version": 2,
        "status": "success",
        "eval": {"task": "popularity", "model": model, "dataset": {"samples": 2}},
        "plan": {"name": "plan", "steps": []},
        "samples": samples,
    }


def archive(path: Path, log: dict[str, Any], header: str = "header.json") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr(header, json.dumps({k: v for k, v in log.items() if k != "samples"}))
        for each in log["samples"][::-1]:
            zipped.writestr(f"samples/{each['id']}_epoch_{each['epoch']}.json", json.dumps(each))
        zipped.writestr("summaries.json", "[]")
    return path


VALUES = {"openai/gpt": ["C", "I", "P", "N"], "anthropic/claude": [1, 0.25, True, False]}
PRICES = """
models:
  gpt: {input: 1, cached: 0.5, output: 2, reasoning: 4}
  claude: {input: 10, output: 20}
"""


def logs(folder: Path) -> Path:
    for model, values in VALUES.items():
        samples = [
            inspect_sample(i, epoch, values[2 * (i == "q/2") + epoch - 1], model)
            for i in ("q 1", "q/2")
            for epoch in (1, 2)
        ]
        log, name = inspect_log(model, samples), model.replace("/", "_")
        if model.startswith("openai"):
            archive(folder / f"2025_{name}.eval", log)
        else:
            write(folder / f"2025_{name}.json", log)
    return folder


def test_inspect(tmp_path: Path) -> None:
    folder, prices = logs(tmp_path / "logs"), write(tmp_path / "p.yaml", PRICES)
    assert "make each a model with draws='arms'" in refusal("inspect", folder, prices=prices)
    mean = read("inspect", folder, prices=prices, draws="mean")
    assert mean.table.models == ("anthropic/claude", "openai/gpt")
    assert mean.query_id.to_pylist() == ["popularity/q 1", "popularity/q/2"]
    np.testing.assert_allclose(mean.table.quality, [[0.625, 0.5], [0.5, 0.25]])
    # 100 input, 20 cached (not among them), 40 output and 10 reasoning tokens; claude has no price
    # of cached and reasoning tokens.
    costs = np.array([120 * 10 + 50 * 20, 100 + 10 + 80 + 40]) / 1e6
    np.testing.assert_allclose(mean.table.cost, [costs, costs], rtol=1e-6)
    assert sorted(mean.table.extra_costs) == [
        *("cached_tokens", "input_tokens", "output_tokens", "reasoning_tokens", "seconds"),
    ]
    arms = read("inspect", folder, prices=prices, draws="arms").table
    names = ("anthropic/claude#1", "anthropic/claude#2", "openai/gpt#1", "openai/gpt#2")
    assert arms.models == names
    np.testing.assert_allclose(arms.quality, [[1, 0.25, 1, 0], [1, 0, 0.5, 0]])
    text = read("inspect", folder, prices=prices, draws="first", features="text", n_components=1)
    assert text.table.signals is not None
    assert "counts of tokens but no costs; give prices=FILE" in refusal("inspect", folder)


def test_inspect_scorers_and_failed_samples(tmp_path: Path) -> None:
    prices = write(tmp_path / "p.yaml", PRICES)
    for model in VALUES:
        samples = [inspect_sample(f"q{i}", 1, "C", model) for i in range(3)]
        for each in samples:
            each["scores"]["judge"] = {"value": {"style": 0.5, "facts": 1}}
        if model == "openai/gpt":
            samples[1] |= {"scores": None, "error": {"message": "timeout"}, "model_usage": {}}
        archive(tmp_path / "logs" / f"{model[:6]}.eval", inspect_log(model, samples),
                "_journal/start.json")  # fmt: skip
    folder = tmp_path / "logs"
    message = refusal("inspect", folder, prices=prices)
    assert "several scorers: 'match', 'judge'; choose one with scorer" in message
    message = refusal("inspect", folder, prices=prices, scorer="judge")
    assert "judge: several scorers: 'style', 'facts'" in message
    message = refusal("inspect", folder, prices=prices, scorer="judge.style")
    assert "'openai/gpt' 1 without a quality" in message
    table = read("inspect", folder, prices=prices, scorer="judge.style", invalid="drop").table
    np.testing.assert_array_equal(table.quality, np.full((2, 2), 0.5))
    assert "no score of 'jury'; scorers are match" in refusal(
        "inspect", folder, prices=prices, scorer="jury"
    )


def test_damaged_archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cascjax.importers import inspect

    folder, prices = logs(tmp_path / "logs"), write(tmp_path / "p.yaml", PRICES)
    path = folder / "2025_openai_gpt.eval"
    whole = path.read_bytes()

    def message() -> str:
        return refusal("inspect", folder, prices=prices, draws="mean")

    for cut in (len(whole) // 2, len(whole) - 30, 10):
        path.write_bytes(whole[:cut])
        assert f"cannot read {path}: the archive is damaged or cut short" in message()
    place = whole.index(b"samples/") + 200
    path.write_bytes(whole[:place] + bytes(50) + whole[place + 50 :])
    assert f"cannot read {path}: " in message()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zipped:
        zipped.writestr("a.txt", "x")
    path.write_bytes(buffer.getvalue())
    assert "it has none of header.json" in message()
    log = inspect_log(
        "openai/gpt", [inspect_sample("q", 1, "C", "openai/gpt", pad="0" * (1 << 21))]
    )
    archive(path, log)
    assert path.stat().st_size < 1 << 14
    monkeypatch.setattr(inspect, "MEMBER", 1 << 20)
    assert "holds more than 1,048,576 bytes; is it a zip bomb?" in message()


# promptfoo


def promptfoo_result(i: int, provider: Any, score: float, **more: Any) -> dict[str, Any]:
    return {
        "id": f"r{i}", "promptIdx": 0, "testIdx": i, "promptId": "h", "provider": provider,
        "prompt": {"raw": f"Translate word {i}", "label": "Translate {{word}}"},
        "vars": {"word": f"word {i}"}, "testCase": {"vars": {"word": f"word {i}"}, "assert": []},
        "response": {"output": {"text": "mot"}, "cost": 0.01 * (i + 1), "cached": False,
                     "tokenUsage": {"total": 15, "prompt": 10, "completion": 5}},
        "success": score == 1, "failureReason": 0 if score == 1 else 1, "score": score,
        "latencyMs": 1500, "namedScores": {"tone": 0.75}, "cost": 0.01 * (i + 1),
        "gradingResult": {"pass": True, "score": score, "reason": "..."}, "error": "wrong",
    } | more  # fmt: skip


def test_promptfoo(tmp_path: Path) -> None:
    a, b = {"id": "openai:gpt", "label": "GPT"}, {"id": "anthropic:claude", "label": ""}
    results = [
        promptfoo_result(i, p, [1, 0.5][(i + (p is b)) % 2]) for i in range(3) for p in (a, b)
    ]
    summary = {"version": 3, "timestamp": "2025", "prompts": [], "results": results, "stats": {}}
    path = write(tmp_path / "out.json", {"evalId": "e", "results": summary, "config": {}})
    result = read("promptfoo", path)
    assert result.query_id.to_pylist() == ["word 0", "word 1", "word 2"]
    assert result.table.models == ("GPT", "anthropic:claude")
    np.testing.assert_array_equal(result.table.quality, [[1, 0.5], [0.5, 1], [1, 0.5]])
    np.testing.assert_allclose(result.table.cost, [[0.01] * 2, [0.02] * 2, [0.03] * 2])
    np.testing.assert_array_equal(result.table.extra_costs["seconds"], np.full((3, 2), 1.5))
    passed = read("promptfoo", path, metric="success").table.quality
    np.testing.assert_array_equal(passed, [[1, 0], [0, 1], [1, 0]])
    np.testing.assert_array_equal(
        read("promptfoo", path, metric="tone").table.quality, np.full((3, 2), 0.75)
    )
    message = refusal("promptfoo", path, metric="tune")
    assert "row 0: unknown metric 'tune' (did you mean 'tone'?)" in message
    results[3] |= {"failureReason": 2, "response": None, "score": 0, "error": "429"}
    write(path, {"results": results})  # the layout of a summary alone
    assert "'anthropic:claude' 1 without a quality" in refusal("promptfoo", path)
    again = [promptfoo_result(0, a, 0.5), *results[:3], *results[4:]]
    write(path, {"results": again})
    assert "row repeats a query and model" in refusal("promptfoo", path)
    for result in again[:3]:
        result["prompt"] = result["prompt"] | {"label": "Other"}
    write(path, {"results": again})
    assert "'GPT | Other'" in refusal("promptfoo", path)
    write(path, {"results": [1]})
    assert "results[0]: expected `object`, got `int`" in refusal("promptfoo", path)


# SWE-bench

DETAILS = {
    "a": {"django__django-1": {"resolved": True, "cost": 0.5, "api_calls": 3},
          "sympy__sympy-22": {"resolved": False, "cost": 0.25, "api_calls": 4}},
    "b": {"django__django-1": {"resolved": False, "cost": 1.5, "api_calls": 5},
          "sympy__sympy-22": {"resolved": True, "cost": 2.5, "api_calls": 6}},
}  # fmt: skip


def test_swe_bench(tmp_path: Path) -> None:
    path = write(tmp_path / "agents.json", DETAILS)
    results = [read("swe-bench", path)]
    entries = [{"name": n, "resolved": 50, "per_instance_details": d} for n, d in DETAILS.items()]
    boards = [
        {"name": "Verified", "results": [*entries, {"name": "old", "resolved": 1}]},
        {"name": "Lite", "results": [{"name": "x", "resolved": 1}]},
    ]
    path = write(tmp_path / "leaderboards.json", {"leaderboards": boards})
    results.append(read("swe-bench", path))
    for result in results:
        assert result.query_id.to_pylist() == ["django__django-1", "sympy__sympy-22"]
        assert groups(result) == ["django/django", "sympy/sympy"]
        np.testing.assert_array_equal(result.table.quality, [[1, 0], [0, 1]])
        np.testing.assert_array_equal(result.table.cost, [[0.5, 1.5], [0.25, 2.5]])
        np.testing.assert_array_equal(result.table.extra_costs["calls"], [[3, 5], [4, 6]])
    boards[1]["results"] = entries
    write(path, {"leaderboards": boards})
    assert "several leaderboards: 'Verified', 'Lite'" in refusal("swe-bench", path)
    assert read("swe-bench", path, leaderboard="Lite").table == results[0].table
    assert "unknown leaderboard 'Light' (did" in refusal("swe-bench", path, leaderboard="Light")
    write(path, DETAILS | {"c": {"django__django-1": {"cost": 1}}})
    assert "missing required field `resolved`" in refusal("swe-bench", path)


def test_swe_bench_reports(tmp_path: Path) -> None:
    for agent, solved in (("org__a-1.5", ["i-1"]), ("b", ["i-1", "i-2"])):
        report = {"total_instances": 9, "submitted_ids": ["i-1", "i-2"], "resolved_ids": solved}
        write(tmp_path / "runs" / f"{agent}.run1.json", report)
    table = read("swe-bench", tmp_path / "runs", strong="b").table
    assert table.models == ("b", "org__a-1.5")
    np.testing.assert_array_equal(table.quality, [[1, 1], [1, 0]])
    assert "the log has no costs" in refusal("swe-bench", tmp_path / "runs")


def test_the_shared_agents(shared_data: Path) -> None:
    path = shared_data / "swe-bench-agents.json"
    result = read("swe-bench", path)
    mapped = read("json", path, records="{model}.{query}", quality="resolved", cost="cost")
    np.testing.assert_array_equal(result.table.quality, mapped.table.quality)
    assert f"{result.table.quality.max(axis=1).mean():.3f}" == "0.794"
    assert len(result.table.groups) == 12


def test_the_page_of_formats_is_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every format has a command, whose options exist; the price file in it can be read."""
    page = (Path(__file__).parents[1] / "docs" / "formats.md").read_text(encoding="utf-8")
    commands = re.findall(r"`import (\S.*?)` \|$", page, re.MULTILINE)
    assert [command.split()[0] for command in commands] == list(IMPORTERS)
    monkeypatch.chdir(tmp_path)
    for command in commands:
        result = CliRunner().invoke(main, ["import", *shlex.split(command)])
        assert result.exit_code == 2
        assert "cannot read" in result.output.splitlines()[-1], result.output
    prices = re.search(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert prices is not None
    assert set(read_prices(write(tmp_path / "p.yaml", prices[1])).models) == {
        *("gpt-4o", "my-model", "deepseek-chat"),
    }
