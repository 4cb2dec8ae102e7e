"""Logs in JSON of any shape, wide logs, folders of files, tables in memory."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from cascjax.cli import main
from cascjax.data import read_table
from cascjax.errors import CascjaxError
from cascjax.importers import IMPORTERS, ImportResult, import_long

SCORES = {"q1": {"a": 1.0, "b": 0.0}, "q2": {"a": 0.5, "b": 1.0}, "q3": {"a": 0.0, "b": 0.25}}
COSTS = {"q1": {"a": 0.1, "b": 0.9}, "q2": {"a": 0.2, "b": 0.8}, "q3": {"a": 0.3, "b": 0.7}}
QUALITY = [[1, 0], [0.5, 1], [0, 0.25]]
COST = np.array([[0.1, 0.9], [0.2, 0.8], [0.3, 0.7]], np.float32)
NAMES = {"query": "id", "model": "llm", "quality": "eval.score", "cost": "usage.usd"}


def rows(*models: str) -> list[dict[str, Any]]:
    return [
        {"id": q, "llm": m, "eval": {"score": SCORES[q][m]}, "usage": {"usd": COSTS[q][m]}}
        for q in SCORES
        for m in models or ("a", "b")
    ]


def lines(records: list[Any]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def read(path: Any, content: str | bytes | None = None, **options: Any) -> ImportResult:
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return IMPORTERS["json"].read(path, **options)


def refusal(path: Path, content: str | bytes | None = None, **options: Any) -> str:
    with pytest.raises(CascjaxError) as caught:
        read(path, content, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def check(result: ImportResult, models: tuple[str, ...] = ("a", "b")) -> None:
    assert result.query_id.to_pylist() == ["q1", "q2", "q3"]
    assert result.table.models == models
    np.testing.assert_array_equal(result.table.quality, QUALITY)
    np.testing.assert_array_equal(result.table.cost, COST)


MAPS = [
    ({m: {q: {"s": SCORES[q][m], "c": COSTS[q][m]} for q in SCORES} for m in "ab"},
     "{model}.{query}", "s", "c"),
    ({q: {m: {"s": SCORES[q][m], "c": COSTS[q][m]} for m in "ab"} for q in SCORES},
     "{query}.{model}", "s", "c"),
    ({"runs": {"x": {m: [{"id": q, "s": SCORES[q][m], "c": COSTS[q][m]} for q in SCORES]
                     for m in "ab"}}}, "runs.x.{model}", "s", "c"),
    ({"data": [{"id": q, "s": SCORES[q], "c": COSTS[q]} for q in SCORES]},
     "data", "s.{model}", "c.{model}"),
    ([{"id": q, "by": {m: {"s": SCORES[q][m], "c": [COSTS[q][m]]} for m in "ab"}} for q in SCORES],
     "", "by.{model}.s", "by.{model}.c.0"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "records", "quality", "cost"), MAPS)
@pytest.mark.parametrize("indent", [None, 2])
def test_maps_and_lists_of_records(
    tmp_path: Path, content: Any, records: str, quality: str, cost: str, indent: int | None
) -> None:
    query = {} if "{query}" in records else {"query": "id"}
    text = json.dumps(content, indent=indent)
    options = {"records": records, "quality": quality, "cost": cost, **query}
    if cost.endswith(".0"):  # a list is named by its position
        with pytest.raises(CascjaxError, match="unknown column"):
            read(tmp_path / "log.json", text, **options)
        return
    check(read(tmp_path / "log.json", text, **options))
    check(read(tmp_path / "log.json.gz", gzip.compress(text.encode()), **options))


def test_models_with_dots_and_slashes_in_maps(tmp_path: Path) -> None:
    names = {"a": "org/gpt-4.1", "b": "größe|2.5"}
    records = [
        {"id": q, "s": {names[m]: SCORES[q][m] for m in "ab"}}
        | {f"{names[m]} cost": COSTS[q][m] for m in "ab"}
        for q in SCORES
    ]
    options = {"query": "id", "quality": "s.{model}", "cost": "{model} cost"}
    result = read(tmp_path / "log.jsonl", lines(records), **options)
    check(result, ("org/gpt-4.1", "größe|2.5"))
    chosen = read(tmp_path / "log.jsonl", models=["größe|2.5", "org/gpt-4.1"], **options).table
    np.testing.assert_array_equal(chosen.quality, np.array(QUALITY)[:, ::-1])


def test_one_file_per_model(tmp_path: Path) -> None:
    for model in "ab":
        (tmp_path / "runs" / model).mkdir(parents=True)
        for i, record in enumerate(rows(model)):
            del record["llm"]
            (tmp_path / "runs" / model / f"{i}.json").write_text(json.dumps(record))
    (tmp_path / "runs" / "_notes").mkdir()
    (tmp_path / "runs" / "_notes" / "x.json").write_text("not read")
    (tmp_path / "runs" / "table.arrow").write_text("not read")
    options = NAMES | {"model": None, "model_from_path": r"([^/]+)/[^/]+\.json$"}
    check(read(tmp_path / "runs", **options))
    check(read([tmp_path / "runs" / "a", tmp_path / "runs" / "b"], **options))
    check(read(tmp_path / "runs" / "*" / "[0-9].json", **options))
    message = refusal(tmp_path / "runs", **NAMES | {"model": None, "model_from_path": "(x+)/y"})
    assert message.startswith(str(tmp_path / "runs/a/0.json"))
    assert "model_from_path '(x+)/y' does not match; put parentheses" in message
    assert "no regular expression" in refusal(
        tmp_path / "runs", **options | {"model_from_path": "("}
    )
    assert "has no group" in refusal(tmp_path / "runs", **options | {"model_from_path": "json"})
    assert "nothing names the model of a record" in refusal(
        tmp_path / "runs", **NAMES | {"model": None}
    )


def test_errors_of_one_of_several_files_name_it_and_its_row(tmp_path: Path) -> None:
    (tmp_path / "1.jsonl").write_text(lines(rows("a")))
    wrong = rows("b")
    wrong[2]["usage"]["usd"] = -1
    (tmp_path / "2.jsonl").write_text(lines(wrong))
    message = refusal(tmp_path, **NAMES)
    assert f"{tmp_path}/2.jsonl: column 'usage.usd', row 2: negative" in message
    wrong[1]["eval"]["score"] = "maybe"
    (tmp_path / "2.jsonl").write_text(lines(wrong))
    assert "2.jsonl: column 'eval.score', row 1: 'maybe' is not a number" in refusal(
        tmp_path, **NAMES
    )
    (tmp_path / "2.jsonl").write_text(lines(rows("b")[:1]))
    assert "'b' 2 without a row" in refusal(tmp_path, **NAMES)  # a model in one file only


def test_blocks_of_lines_and_fields_that_appear_late(tmp_path: Path) -> None:
    # Longer than what is read at once, with fields of some records only.
    n = 9000
    records = [
        {"id": f"q{i}", "llm": m, "eval": {"score": i % 2}, "usage": {"usd": 0.5}, "x": "y" * 300}
        | ({"late": i} if i > n - 9 else {})
        for i in range(n)
        for m in "ab"
    ]
    for text in (lines(records), json.dumps(records), json.dumps({"r": records, "s": []})):
        options = NAMES | {"extra_signals": {"late": "late"}}
        table = read(tmp_path / "log.json", text, **options).table
        assert (table.n_queries, table.models) == (n, ("a", "b"))
        np.testing.assert_array_equal(table.quality[:, 0], np.arange(n) % 2)
        late = np.asarray(table.signals)[:, 0]
        np.testing.assert_array_equal(late[-8:], np.arange(n - 8, n))
        assert np.isnan(late[:-8]).all()


BAD = [
    (lines(rows()), {"cost": "usage.uds"}, "'usage.uds' (did you mean 'usage.usd'?)"),
    (lines(rows()), {"records": "data.rows"}, "there is nothing at the path 'data.rows'"),
    (lines([*rows()[:3], {"id": 1, "usage": "free"}]), {},
     "row 3: field 'usage' holds text, not an object with 'usd'; give all records one shape"),
    (lines([*rows()[:3], {"id": 1, "eval": [1]}]), {}, "row 3: field 'eval' holds a list"),
    (lines([*rows()[:3], 7]), {}, "row 3: 7 is not a JSON object"),
    (lines(rows()) + '{"id": "q4", "llm"', {}, "line 7, column"),
    (json.dumps(rows())[:-9], {}, "is not JSON"),
    (json.dumps({"r": rows()}, indent=1)[:-30], {"records": "r"}, "is not JSON"),
    (lines(rows()).encode().replace(b'"q3", "llm": "b"', b'"q\xff3", "llm": "b"'), {},
     "line 6: field 'id' is not UTF-8"),
    (json.dumps(rows()).encode().replace(b"q3", b"q\xff3"), {}, "line 1 is not UTF-8"),
    (gzip.compress(lines(rows()).encode())[:-20], {}, "log.json"),
    (json.dumps({"a": {"q1": {"s": 1, "c": 1}}, "b": 7}),
     {"records": "{model}.{query}", "query": None, "model": None, "quality": "s", "cost": "c"},
     "line 1: '7' where the path of the records goes on with '{query}'; give all records one"),
    ("id,llm\nq,a\n", {}, "it is not JSON but starts with 'id,llm'"),
    ("", {}, "it is empty"),
    ("[]", {}, "unknown column 'id'"),
    (lines(rows()), {"records": "{task}.x"}, "records: {task} is unknown"),
    (lines(rows()).replace("0.25", "NaN"), {}, "'b' 1 without a quality"),
    (lines(rows()).replace("0.25", "null"), {}, "'b' 1 without a quality"),
    (lines([*rows(), *rows("a")[:1], rows("b")[0] | {"eval": {"score": 1}}]), {},
     "in rows 1 and 7; take their mean with draws='mean'"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "options", "message"), BAD, ids=[each[2] for each in BAD])
def test_refusals(tmp_path: Path, content: Any, options: dict[str, Any], message: str) -> None:
    assert message in refusal(tmp_path / "log.json", content, **NAMES | options)


def test_a_bomb_of_one_record_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cascjax.importers import scan

    monkeypatch.setattr(scan, "RECORD", 1 << 20)
    for text in ('{"id": "', lines(rows()) + '{"id": "'):
        bomb = gzip.compress(text.encode() + b"0" * (8 << 20))
        assert "longer than 1,048,576 characters" in refusal(tmp_path / "log.gz", bomb, **NAMES)


# Wide logs


def test_wide(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"id": list(SCORES)}
        | {m: [SCORES[q][m] for q in SCORES] for m in "ab"}
        | {f"{m} usd": [COSTS[q][m] for q in SCORES] for m in "ab"}
        | {"note": list("xyz")}
    )
    frame.to_csv(tmp_path / "wide.csv.gz", index=False)
    wide = IMPORTERS["wide"].read
    for data in (tmp_path / "wide.csv.gz", frame, pa.Table.from_pandas(frame)):
        check(wide(data, query="id", cost="{model} usd"))
    numbered = wide(frame, cost="{model} usd", group="note")
    assert numbered.query_id.to_pylist() == ["0", "1", "2"]
    assert numbered.table.groups == ("x", "y", "z")
    calls = wide(frame, query="id", models=["b", "a"], strong="b")
    assert calls.table.cost_unit == "calls"
    np.testing.assert_array_equal(calls.table.cost, [[1, 0]] * 3)
    assert not calls.notes
    for options, message in (
        ({"strong": "b"}, "every column may be a model's"),
        ({"strong": "c", "models": ["a", "b"]}, "unknown model 'c'"),
        ({"strong": "b", "models": ["a", "z"]}, "unknown model 'z'"),
        ({"cost": "{model} eur"}, "unknown column '{model} eur'"),
        ({"cost": "{model} usd", "strong": "a"}, "cost and strong exclude each other"),
        ({}, "costs need cost=COLUMN"),
    ):
        with pytest.raises(CascjaxError) as caught:
            wide(frame, query="id", **options)
        assert message in str(caught.value), str(caught.value)


def test_a_missing_score_of_a_wide_log_is_counted(tmp_path: Path) -> None:
    records = [{"id": q, **SCORES[q]} for q in SCORES]
    del records[1]["b"]
    (tmp_path / "log.jsonl").write_text(lines(records))
    options = {"query": "id", "models": ["a", "b"], "strong": "b"}
    with pytest.raises(CascjaxError, match="'b' 1 without a quality"):
        IMPORTERS["wide"].read(tmp_path / "log.jsonl", **options)


# Tables in memory


def flat() -> pd.DataFrame:
    return pd.DataFrame(
        [(r["id"], r["llm"], r["eval"]["score"], r["usage"]["usd"]) for r in rows()],
        columns=["id", "llm", "score", "usd"],
    )


def test_tables_in_memory() -> None:
    frame = flat()
    categories = frame.astype({"llm": pd.CategoricalDtype(["b", "a"]), "score": object})
    words = frame.assign(usd=[f"${usd}" for usd in frame["usd"]])
    for data in (frame, categories, words, pa.Table.from_pandas(frame)):
        check(import_long(data, "id", "llm", "score", "usd"))
    with pytest.raises(CascjaxError, match="the table: column 'usd', row 0"):
        import_long(frame.assign(usd=-1), "id", "llm", "score", "usd")
    with pytest.raises(CascjaxError, match="the table: unknown column 'cost'"):
        import_long(frame, "id", "llm", "score", "cost")
    with pytest.raises(CascjaxError, match="cannot import a dict; give a path"):
        import_long({"id": [1]}, "id", "llm", "score", "usd")


def test_nested_fields_of_parquet_and_arrow(tmp_path: Path) -> None:
    table = pa.Table.from_pylist(rows())
    pq.write_table(table, tmp_path / "log.parquet")
    with ipc.new_file(tmp_path / "log.arrow", table.schema) as writer:
        writer.write_table(table)
    names = (NAMES["query"], NAMES["model"], NAMES["quality"], NAMES["cost"])
    for data in (table, tmp_path / "log.parquet", tmp_path / "log.arrow"):
        check(import_long(data, *names))
    with pytest.raises(CascjaxError, match=r"known: id, llm, eval\.score, usage\.usd"):
        import_long(table, *names[:3], "usage.eur")


def test_polars() -> None:
    pl = pytest.importorskip("polars")
    check(import_long(pl.from_pandas(flat()), "id", "llm", "score", "usd"))


# The command line


def run(*words: str) -> Result:
    return CliRunner().invoke(main, ["import", *words])


def test_the_command_takes_folders_and_writes_nothing_where_it_fails(tmp_path: Path) -> None:
    for model in "ab":
        (tmp_path / f"{model}.jsonl").write_text(lines(rows(model)))
    table = tmp_path / "out" / "table.arrow"
    table.parent.mkdir()
    words = [f"--{name}={path}" for name, path in NAMES.items() if name != "model"]
    words += ["--model-from-path", r"([^/]+)\.jsonl$"]
    files = [str(tmp_path / f"{model}.jsonl") for model in "ab"]
    result = run("json", *files, str(table), *words)
    assert result.exit_code == 0, result.output
    assert read_table(table).models == ("a", "b")
    table.unlink()
    (tmp_path / "a.jsonl").write_text("{")
    result = run("json", *files, str(table), *words)
    assert result.exit_code == 2
    assert "is not JSON" in result.output.splitlines()[-1]
    assert not list(table.parent.iterdir())
    result = run("json", *files, str(tmp_path / "a.jsonl"), *words)
    assert "given twice" in result.output


# Real logs beside the repository


def test_swe_bench_agents(shared_data: Path) -> None:
    table = read(
        shared_data / "swe-bench-agents.json", records="{model}.{query}", quality="resolved",
        cost="cost", cost_unit="USD", extra_costs={"calls": "api_calls"},
    ).table  # fmt: skip
    order = [table.models.index(m) for m in ("gpt-5-mini", "sonnet-4", "gpt-5", "sonnet-4-5")]
    means = table.quality.mean(axis=0, dtype=np.float64)[order]
    assert [f"{mean:.3f}" for mean in means] == ["0.598", "0.648", "0.650", "0.706"]
    costs = table.cost.mean(axis=0, dtype=np.float64)[order]
    assert [f"{c:.6f}" for c in costs] == ["0.035477", "0.371453", "0.280383", "0.558335"]
    assert f"{table.quality.max(axis=1).mean():.3f}" == "0.794"


def test_routerbench_mini(shared_data: Path) -> None:
    result = import_long(
        shared_data / "routerbench-mini.csv", "canonical_id", "strategy", "correct", "cost",
        where=["strategy=always_cheap", "strategy=always_strong"], cost_unit="CNY",
    )  # fmt: skip
    table = result.table
    assert table.models == ("always_cheap", "always_strong")
    assert table.quality.mean(axis=0).tolist() == [pytest.approx(0.6825), pytest.approx(0.7275)]
    costs = [f"{c:.10f}" for c in table.cost.mean(axis=0, dtype=np.float64)]
    assert costs == ["0.0002918565", "0.0007993005"]
    best = table.quality.max(axis=1)  # the oracle takes the cheapest of the best answers
    cheap = np.where(table.quality == best[:, None], table.cost, np.inf).min(axis=1)
    assert (f"{best.mean():.4f}", f"{cheap.mean(dtype=np.float64):.10f}") == (
        *("0.7625", "0.0003205365"),
    )


def test_routellm_gsm8k(shared_data: Path) -> None:
    names = ["mistralai/Mixtral-8x7B-Instruct-v0.1", "gpt-4-1106-preview"]
    path = shared_data / "routellm-gsm8k.csv"
    table = IMPORTERS["wide"].read(path, models=names, strong=names[1]).table
    frame: Any = pd.read_csv(path)
    np.testing.assert_array_equal(table.quality, frame[names].to_numpy(float))
    assert (table.n_queries, table.cost_unit) == (1319, "calls")


def test_date_draws_as_arms(shared_data: Path) -> None:
    path = shared_data / "date-draws.csv"
    names = ("query", "model", "correct", "completion_tokens")
    table = import_long(path, *names, draws="arms", answer="answer").table
    assert table.models == (*(f"gpt-3.5-cot#{i + 1}" for i in range(20)), "gpt-4-cot")
    means = table.quality.mean(axis=0, dtype=np.float64)
    assert (f"{means[:20].mean():.4f}", f"{means[20]:.4f}") == ("0.6144", "0.8645")
    # The majority of the draws, ties to the first answer, is what was published.
    answer = np.asarray(table.answer)[:, :20]
    votes = (answer[:, :, None] == answer[:, None, :]).sum(axis=2)
    first = votes.argmax(axis=1)
    voted = table.quality[np.arange(len(first)), first].mean()
    assert f"{voted:.4f}" == "0.6450"


REAL = {
    "routerbench-mini.csv": (
        "long", "--query=canonical_id", "--model=strategy", "--quality=correct", "--cost=cost",
        "--where=strategy=always_cheap", "--where=strategy=always_strong",
    ),
    "swe-bench-agents.json": ("swe-bench",),
    "routellm-gsm8k.csv": (
        "wide", "--strong=gpt-4-1106-preview",
        "--models=mistralai/Mixtral-8x7B-Instruct-v0.1,gpt-4-1106-preview",
    ),
    "date-draws.csv": (
        "long", "--query=query", "--model=model", "--quality=correct", "--cost=completion_tokens",
        "--draws=mean",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REAL)
def test_from_file_to_compare(shared_data: Path, tmp_path: Path, name: str) -> None:
    table, out = tmp_path / "table.arrow", tmp_path / "out"
    format, *words = REAL[name]
    result = run(format, str(shared_data / name), str(table), *words)
    assert result.exit_code == 0, result.output
    words = ["compare", str(table), "--strategies", "mixing,oracle", "--out", str(out)]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    summary = json.loads((out / "summary.json").read_text())
    assert summary["strategies"]["oracle"]["auc"] > summary["strategies"]["mixing"]["auc"]
