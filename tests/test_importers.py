"""Importers: tables from logs of several formats, and what is refused."""

import ast
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.ipc as ipc
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from scipy.stats import entropy

from cascjax.cli import main
from cascjax.data import read_table, write_table
from cascjax.data.table import EVALUATE, FIT, Table
from cascjax.errors import CascjaxError
from cascjax.features import read_text_model, response_signals, text_features
from cascjax.features.prompts import FACTS
from cascjax.features.responses import SIGNALS
from cascjax.importers import IMPORTERS, Importer, import_long, import_routerbench, register
from cascjax.importers.routerbench import unwrap

FORMATS = pytest.mark.parametrize("suffix", ["parquet", "arrow", "csv", "pkl"])
NAN, INF = float("nan"), float("inf")


def save(folder: Path, columns: Mapping[str, Any], suffix: str = "parquet") -> Path:
    path = folder / f"log.{suffix}"
    arrow = pa.table({name: pa.array(values) for name, values in columns.items()})
    if suffix == "parquet":
        pq.write_table(arrow, path)
    elif suffix == "arrow":
        with ipc.new_file(path, arrow.schema) as writer:
            writer.write_table(arrow)
    elif suffix == "csv":
        pd.DataFrame(dict(columns)).to_csv(path, index=False)
    else:
        pd.DataFrame(dict(columns)).to_pickle(path)
    return path


def refusal(call: Any, *args: Any, **options: Any) -> str:
    with pytest.raises(CascjaxError) as caught:
        call(*args, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def groups_of(table: Table) -> list[str]:
    return [table.groups[code] for code in np.asarray(table.group)]


OPTIONS = "Which?\nA) stone\nB) iron\nPrint a letter."


def wide(**replaced: Any) -> dict[str, Sequence[Any]]:
    """Four rows of two models, the cost and response columns in another order than the scores."""
    columns: dict[str, Any] = {
        "sample_id": ["w.1", "w.2", "w.3", "w.4"],
        "prompt": ["a,\nb", 'say "c"', "d", "e"],
        "eval_name": ["w", "w", "v", "w"],
        "acme/z-1.5": [0.0, 1.0, 0.5, 1.0],
        "acme/a": [1.0, 1.0, 1.0, 0.0],
        "acme/a|model_response": ["yes ", "NA", "\n7", None],
        "acme/z-1.5|model_response": ["yes", "na", "7 and more,\nmuch", "e"],
        "acme/a|total_cost": [0.01, 0.02, 0.03, 0.04],
        "acme/z-1.5|total_cost": [0.1, 0.2, 0.3, 0.4],
        "oracle_model_to_route_to": ["acme/a", "acme/a", "acme/a", "acme/z-1.5"],
    } | replaced
    return {name: values for name, values in columns.items() if values is not None}


def wide_text(**replaced: Any) -> dict[str, Any]:
    """The wide log with prompts and responses as RouterBench prints them."""
    columns = {
        "prompt": [f"[{OPTIONS!r}]", "['Write\\nit.']", '["It\'s", "two"]', OPTIONS],
        "acme/z-1.5|model_response": ["['A\\n']", "['I do']", "['It\\'s x']", "['B, no']"],
        "acme/a|model_response": ["['A. As so']", "I do", '["It\'s x"]', None],
    }
    return wide(**columns | replaced)


LONG: dict[str, Any] = {
    "id": ["q2", "q1", "q1", "q2", "q3", "q3"],
    "llm": ["big", "big", "small", "small", "small", "big"],
    "score": [1.0, 0.5, 0.0, 1.0, 1.0, 0.0],
    "price": [9.0, 8.0, 1.0, 2.0, 3.0, 7.0],
    "task": ["b", "a", "a", "b", "a", "a"],
    "part": ["fit", "fit", "fit", "fit", "evaluate", "evaluate"],
    "latency": [0.5, 0.25, 2, 3, 4, 8],
    "calls": [1, 1, 1, 1, 2, 1],
    "ask": ["Write it.", OPTIONS, OPTIONS, "Write it.", "two", "two"],
    "said": ["I do", "A", "A. As so", "I do", None, "x"],
    "sure": [0.5, None, 1, 2, 3, NAN],
    "hour": [7.0, None, None, 7, 9, 9],
}
NAMES = ("id", "llm", "score", "price")
TEXT: dict[str, Any] = {"prompt": "ask", "response": "said", "features": "text"}


def test_an_importer_is_added_from_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One file and one registry entry."""
    (tmp_path / "pairs_format.py").write_text('''
from dataclasses import dataclass
import numpy as np, pyarrow as pa
from cascjax import Table
from cascjax.importers.base import Assembly, ImportOptions, option

@dataclass(frozen=True, kw_only=True)
class Options(ImportOptions):
    """Options of the format."""
    scale: int = option("integer", "Factor of all costs.", default=1)
    unit: str = option("column", "Unit of cost.", required=True)

def read(path, options):
    values = np.loadtxt(path)
    ids = pa.array([f"row {i}" for i in range(len(values))])
    cost = values[:, 2:] * options.scale
    table = Table(values[:, :2], cost, models=("a", "b"), cost_unit=options.unit)
    return Assembly(str(path), ids, table).finish()
''')
    monkeypatch.syspath_prepend(tmp_path)
    importer = Importer("pairs", "Pairs of models.", "pairs_format")
    monkeypatch.setitem(IMPORTERS, "pairs", importer)
    assert [(o.name, o.kind, o.default, o.required) for o in IMPORTERS["pairs"].options] == [
        ("invalid", "choice", "error", False),
        ("scale", "integer", 1, False),
        ("unit", "column", None, True),
    ]
    (tmp_path / "log.txt").write_text("0 1 2 3\n1 1 4 5\n")
    result = IMPORTERS["pairs"].read(tmp_path / "log.txt", unit="EUR", scale=10)
    np.testing.assert_array_equal(result.table.cost, [[20, 30], [40, 50]])
    assert result.table.cost_unit == "EUR"
    assert result.query_id.to_pylist() == ["row 0", "row 1"]
    assert "importer 'pairs' is registered already" in refusal(register, importer)
    del IMPORTERS["pairs"]
    register(importer)
    assert "pairs" in IMPORTERS
    sys.modules.pop("pairs_format")


@FORMATS
def test_routerbench(tmp_path: Path, suffix: str) -> None:
    result = import_routerbench(save(tmp_path, wide(), suffix))
    assert result.arrow["query_id"].to_pylist() == ["w.1", "w.2", "w.3", "w.4"]
    table = result.table
    assert (table.models, table.cost_unit) == (("acme/z-1.5", "acme/a"), "USD")
    assert groups_of(table) == ["w", "w", "v", "w"]
    np.testing.assert_array_equal(table.quality, [[0, 1], [1, 1], [0.5, 1], [1, 0]])
    np.testing.assert_allclose(table.cost, [[0.1, 0.01], [0.2, 0.02], [0.3, 0.03], [0.4, 0.04]])
    assert (table.answer[:, 0] == table.answer[:, 1]).tolist() == [True, False, False, False]
    assert (table.answer == -1).tolist() == [[False, False]] * 3 + [[False, True]]
    assert result.summary == "4 queries, 2 models"
    write_table(tmp_path / "table.parquet", result.arrow)
    assert read_table(tmp_path / "table.parquet") == table


def test_responses_and_groups_may_be_absent(tmp_path: Path) -> None:
    columns = wide(eval_name=None, **{"acme/a|model_response": None})
    table = import_routerbench(save(tmp_path, columns)).table
    assert table.group is None
    assert (np.asarray(table.answer)[:, 1] == -1).all()
    del columns["acme/z-1.5|model_response"]
    assert import_routerbench(save(tmp_path, columns)).table.answer is None


@FORMATS
def test_missing_and_repeated_rows_are_counted_then_dropped(tmp_path: Path, suffix: str) -> None:
    invalid = wide(
        sample_id=["w.1", "w.2", "w.1", "w.2"],
        **{"acme/a": [None, 1.0, 1.0, 0.0], "acme/a|total_cost": [0.01, 0.02, 0.03, 0.04]},
    )
    path = save(tmp_path, invalid, suffix)
    message = refusal(import_routerbench, path)
    assert "1 row without a score, a cost or an id (first: 'w.1')" in message
    assert "2 rows repeating an id (first: 'w.1', 'w.2'); missing by model: 'acme/a' 1" in message
    assert "drop them with invalid='drop', which keeps 2 queries" in message
    result = import_routerbench(path, invalid="drop")
    assert result.query_id.to_pylist() == ["w.2", "w.1"]  # the second w.1 is complete
    assert result.summary == (
        "2 queries, 2 models; dropped 2 rows of the file: 1 query with missing values,"
        " 1 repeated row"
    )


def test_repeated_ids_with_other_scores_are_counted(tmp_path: Path) -> None:
    columns = wide(sample_id=["w.1", "w.1", "w.2", "w.2"], **{"acme/a": [1.0, 1.0, 0.0, 0.0]})
    for name in columns:
        if name.startswith("acme/z") or name.endswith("total_cost"):
            columns[name] = [columns[name][0]] * 3 + [columns[name][3]]
    result = import_routerbench(save(tmp_path, columns), invalid="drop")
    assert result.notes == (
        "2 rows repeat an id, 1 of them with another score or cost than the row kept, the first",
    )


def test_nan_infinity_and_a_null_id_are_missing(tmp_path: Path) -> None:
    invalid = wide(
        sample_id=["w.1", None, "w.3", "w.4"],
        **{"acme/a": [NAN, 1.0, 1.0, 1.0], "acme/a|total_cost": [0.1, 0.1, INF, 0.1]},
    )
    result = import_routerbench(save(tmp_path, invalid), invalid="drop")
    assert (result.query_id.to_pylist(), result.n_missing) == (["w.4"], 3)


COST_2 = {"acme/a|total_cost": [0.0, -1.0, 0.0, 0.0]}
SURE = {"acme/a|sure": [0, 1, 0, 0]}
BLANK = {"prompt": ["[' \\n']", "one", None, "two"]}
EXTRA = {"extra_signals": {"s": "sure"}}


@pytest.mark.parametrize(
    ("replaced", "options", "message"),
    [
        ({"sample_id": None}, {}, "column 'sample_id' is missing"),
        ({"acme/a|total_cost": None}, {}, "column 'acme/a|total_cost' is missing"),
        ({"acme/a": None}, {}, "column 'acme/a' is missing"),
        ({"acme/a": ["1", "0", "1", "x"]}, {}, "row 3: 'x' is not a number"),
        (
            {"acme/a": ["1", "0", "1", "x"]},
            {"suffix": "pkl"},
            "row 3: 'x' is not a number",
        ),
        (
            {"acme/a": ["1", "0", "1", "x"]},
            {"suffix": "csv"},
            "row 3: 'x' is not a number",
        ),
        (COST_2, {}, "'acme/a|total_cost', row 1: -1 for model 'acme/a' is negative"),
        (
            {"acme/a": [None] * 4},
            {"invalid": "drop"},
            "(cells present: 50%); missing by model: 'acme/a' 4",
        ),
        ({}, {"invalid": "dorp"}, "unknown invalid 'dorp' (did you mean 'drop'?)"),
        ({n: None for n in wide() if n.startswith("acme/z")}, {}, "has 1 model"),
        ({n: None for n in wide() if n != "prompt"}, {}, "not in RouterBench's wide format"),
        ({"prompt": None}, {"features": "text"}, "column 'prompt' is missing"),
        ({"acme/a|model_response": None}, {"features": "text"}, "response' is missing"),
        (BLANK, {"features": "text"}, "2 rows without a score, a cost, a prompt or an id (first: "),
        ({"prompt": [""] * 4}, {"features": "text", "invalid": "drop"}, "no query is complete"),
        ({"prompt": ["?"] * 4}, {"features": "text"}, "log.parquet: no prompt has a word"),
        ({}, {"features": "txt"}, "unknown features 'txt'"),
        ({}, {"n_components": 3}, "need features='text'"),
        ({}, {"features": "text", "text_model": "log.parquet"}, "is damaged, or not a text model"),
        ({}, {"features": "text", "text_model": "none/words.npz"}, "there is no folder"),
        ({}, {"extra_signals": {"s": "sure"}}, "no column is named '<model>|sure'"),
        ({}, {"extra_signals": {"s": "total_cost"}}, "is a cost or a response"),
        ({"acme/a|sure": [0, INF, 0, 0]}, EXTRA, "'acme/a|sure', row 1: infinite"),
        (SURE, {"features": "text", "extra_signals": {"empty": "sure"}}, "'empty' is listed twice"),
    ],
)
def test_routerbench_refusals(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    replaced: dict[str, Any],
    options: dict[str, Any],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    suffix = options.get("suffix", "parquet")
    options = {name: value for name, value in options.items() if name != "suffix"}
    save(Path(), wide_text(**replaced), suffix)
    assert message in refusal(import_routerbench, f"log.{suffix}", **options)
    assert [path.name for path in tmp_path.iterdir()] == [f"log.{suffix}"]


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe\x00", b"PAR1", b"ARROW1", b"\x80\x04."])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(content)
    assert "log.csv" in refusal(import_routerbench, path)
    assert "log.csv" in refusal(import_long, path, "q", "m", "s", "c")
    assert "No such file" in refusal(import_routerbench, tmp_path / "none.csv")
    assert "log.csv" in refusal(import_routerbench, tmp_path)  # the only file of the folder


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("['A']", "['A\\n']", True),
        ("['A']", '["A"]', True),
        ("['it\nis']", "['  it\nis\\t\\n']", True),
        ("['A']", "['B']", False),
        ("['A']", "['A', 'B']", False),
        ("['']", "[' \\n']", True),
        ("[A]", "A", False),
    ],
)
def test_wrapped_responses(tmp_path: Path, one: str, other: str, same: bool) -> None:
    responses = {"acme/a|model_response": [one] * 4, "acme/z-1.5|model_response": [other] * 4}
    answer = import_routerbench(save(tmp_path, wide(**responses))).table.answer
    assert (answer[0, 0] == answer[0, 1]) == same


def test_csv_columns_listed_twice_and_types_of_later_rows(tmp_path: Path) -> None:
    rows = wide(**{"acme/a": [1, 1, 0, 0.25], "sample_id": ["1", "2", "3", "x"]})
    path = save(tmp_path, rows, "csv")
    assert import_routerbench(path).query_id.to_pylist() == ["1", "2", "3", "x"]
    path.write_text(path.read_text().replace("prompt", "sample_id"))
    assert "'sample_id' is listed 2 times" in refusal(import_routerbench, path)


def test_the_pickled_fixtures_are_imported() -> None:
    paths = sorted((Path(__file__).parent / "data").glob("*.pkl"))
    first, *rest = [import_routerbench(path, invalid="drop") for path in paths]
    assert first.summary == (
        "4 queries, 3 models; dropped 2 rows of the file: 1 query with missing values,"
        " 1 repeated row"
    )
    assert all(other.arrow.equals(first.arrow) for other in rest)
    assert first.table.quality[1].tolist() == [1, 0.5, 0.5]


def test_the_real_sample(shared_data: Path) -> None:
    path = shared_data / "routerbench-sample.parquet"
    message = refusal(import_routerbench, path)
    assert "28 rows without a score, a cost or an id" in message
    assert "14 rows repeating an id" in message
    result = import_routerbench(path, invalid="drop")
    # The repeated ids are the rows that lack scores: one row has what the other lacks, its costs
    # doubled.
    counts = (result.table.n_queries, result.n_missing, result.n_repeated, result.n_dropped)
    assert counts == (3150, 28, 0, 28)
    table = result.table
    frame = pd.read_parquet(path).dropna(subset=list(table.models))
    assert table.models[:2] == ("WizardLM/WizardLM-13B-V1.2", "claude-instant-v1")
    for column, suffix in ((table.quality, ""), (table.cost, "|total_cost")):
        expected = frame[[model + suffix for model in table.models]].to_numpy().astype(np.float32)
        np.testing.assert_array_equal(column, expected)
    texts = frame[[f"{model}|model_response" for model in table.models]].to_numpy()
    for row in range(0, len(texts), 97):
        words = [ast.literal_eval(text)[0].strip() for text in texts[row]]
        equal = [[a == b for b in words] for a in words]
        np.testing.assert_array_equal(table.answer[row][:, None] == table.answer[row], equal)
    for column in ("prompt", "claude-v1|model_response"):
        for text in frame[column].dropna()[::31]:
            assert unwrap(text) == "\n".join(ast.literal_eval(text))


def test_text_is_unwrapped_as_python_printed_it() -> None:
    texts = ["", "a", "it's", '"', "'\"", "a\nb\r\t\\n", "\\", "é\x00\x1b\u2028\U0001f600", "[']"]
    for text in texts:
        for other in texts:
            assert unwrap(str([text])) == text
            assert unwrap(str([text, other])) == f"{text}\n{other}"
    for plain in ("[A]", "A", "['a'", "['a' 'b']", "[1, 2]", "['a']x"):
        assert unwrap(plain) == plain


@FORMATS
def test_routerbench_text(tmp_path: Path, suffix: str) -> None:
    path, saved = save(tmp_path, wide_text(), suffix), tmp_path / "words.npz"
    result = import_routerbench(path, features="text", text_model=saved, n_components=2)
    table = result.table
    prompts = [OPTIONS, "Write\nit.", "It's\ntwo", OPTIONS]
    expected = text_features(prompts, read_text_model(saved))
    np.testing.assert_array_equal(table.features, expected)  # pyright: ignore
    assert table.feature_names == (*FACTS, "text_0", "text_1")
    assert table.signal_names == SIGNALS
    one = response_signals(prompts, ["A", "I do", "It's x", "B, no"])
    other = response_signals(prompts, ["A. As so", "I do", "It's x", None])
    np.testing.assert_array_equal(table.signals, np.hstack([one, other]))  # pyright: ignore
    assert (table.answer[:, 0] == table.answer[:, 1]).tolist() == [True, True, True, False]
    assert table.answer[3, 1] == -1
    assert result.summary == "4 queries, 2 models, 10 features, 19 signals per model"
    assert result.notes == (
        f"Text model: fitted on 4 prompts and written to {saved}",
        "Answers: found in 25% of responses by convention 'choice', 62% are compared as whole"
        " texts; the two models agree on 75% of queries",
    )
    # The text model gives another log the same features.
    before = saved.read_bytes()
    rows = {name: values[1:2] for name, values in wide_text().items()}
    again = import_routerbench(save(tmp_path, rows), features="text", text_model=saved)
    assert saved.read_bytes() == before
    np.testing.assert_array_equal(again.table.features, expected[1:2])  # pyright: ignore
    assert again.notes[0] == f"Text model: read from {saved}"
    assert again.notes[1].startswith("Answers: found in 0% of responses, 100% are compared as")


def test_no_score_and_no_cost_changes_a_feature_or_signal(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scores = {name: rng.random(4).tolist() for name in ("acme/a", "acme/z-1.5")}
    costs = {f"{name}|total_cost": rng.random(4).tolist() for name in scores}
    plain = import_routerbench(save(tmp_path, wide_text()), features="text").arrow
    scrambled = wide_text(**scores, **costs, oracle_model_to_route_to=["x"] * 4)
    other = import_routerbench(save(tmp_path, scrambled), features="text").arrow
    assert not plain["quality"].equals(other["quality"])
    for name in ("features", "signals", "answer"):
        assert plain[name].equals(other[name])
    # A row that lacks a score or a prompt is dropped, but the words of all prompts are fitted on.
    path = save(tmp_path, wide_text(**{"acme/a": [None, 1.0, 1.0, 1.0]}))
    fewer = import_routerbench(path, invalid="drop", features="text")
    assert fewer.arrow["features"].to_pylist() == plain["features"].to_pylist()[1:]


def test_routerbench_signals_from_numbers(tmp_path: Path) -> None:
    columns = wide_text(**{"acme/a|sure": [0.5, None, NAN, 2]})
    table = import_routerbench(save(tmp_path, columns), extra_signals={"margin": "sure"}).table
    assert (table.signal_names, table.features) == (("margin",), None)
    expected = [[NAN, 0.5], [NAN, NAN], [NAN, NAN], [NAN, 2]]
    np.testing.assert_array_equal(table.signals, expected)  # pyright: ignore


@FORMATS
def test_long(tmp_path: Path, suffix: str) -> None:
    extra = {"seconds": "latency", "calls": "calls"}
    path = save(tmp_path, LONG, suffix)
    result = import_long(path, *NAMES, group="task", split="part", extra_costs=extra)
    table = result.table
    assert result.query_id.to_pylist() == ["q2", "q1", "q3"]
    assert table.models == ("big", "small")
    np.testing.assert_array_equal(table.quality, [[1, 1], [0.5, 0], [0, 1]])
    np.testing.assert_array_equal(table.cost, [[9, 2], [8, 1], [7, 3]])
    assert list(table.extra_costs) == ["calls", "seconds"]
    np.testing.assert_array_equal(table.extra_costs["seconds"], [[0.5, 3], [0.25, 2], [8, 4]])
    np.testing.assert_array_equal(table.extra_costs["calls"], [[1, 1], [1, 1], [1, 2]])
    assert groups_of(table) == ["b", "a", "a"]
    assert np.asarray(table.split).tolist() == [FIT, FIT, EVALUATE]
    assert result.summary == "3 queries, 2 models"


def test_whole_numbers_may_be_ids(tmp_path: Path) -> None:
    path = save(tmp_path, LONG | {"id": [2, 1, 1, 2, 3, 3], "score": [1, 0, 1, 0, 1, 0]})
    assert import_long(path, *NAMES).query_id.to_pylist() == ["2", "1", "3"]


def test_a_row_without_an_extra_cost_counts_as_absent(tmp_path: Path) -> None:
    # q1 of small has none at first, and one in a row further down; q3 of big has none at all.
    log = {name: [*column, column[2]] for name, column in LONG.items()}
    path = save(tmp_path, log | {"latency": [1, 2, None, 4, 5, INF, 7]})
    extra = {"seconds": "latency"}
    message = refusal(import_long, path, *NAMES, extra_costs=extra)
    lacking = "1 query lacking one of the 2 models, its quality or one of its costs (first: 'q3')"
    assert lacking in message
    result = import_long(path, *NAMES, invalid="drop", extra_costs=extra)
    assert result.query_id.to_pylist() == ["q2", "q1"]
    assert result.table.extra_costs["seconds"].tolist() == [[1, 4], [2, 7]]


@FORMATS
def test_missing_and_repeated_pairs(tmp_path: Path, suffix: str) -> None:
    invalid = {
        "id": ["q1", "q1", "q1", "q2", "q2", "q3", "q3", "q3"],
        "llm": ["a", "b", "a", "a", "b", "a", "a", "b"],
        "score": [1.0, 0.0, 0.5, 1.0, None, None, 0.25, 1.0],
        "price": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0],
    }
    path = save(tmp_path, invalid, suffix)
    message = refusal(import_long, path, *NAMES)
    assert (
        "1 row repeats a query and model, 1 of them with another quality or cost ('a' 1)" in message
    )
    assert (
        "also 1 query lacking one of the 2 models, its quality or its cost (first: 'q2')" in message
    )
    assert "row repeats" in refusal(import_long, path, *NAMES, invalid="drop")
    result = import_long(path, *NAMES, invalid="drop", draws="first")
    assert result.query_id.to_pylist() == ["q1", "q3"]
    assert result.table.quality.tolist() == [[1, 0], [0.25, 1]]
    assert result.table.cost.tolist() == [[1, 2], [7, 8]]
    assert (result.n_missing, result.n_repeated, result.n_dropped) == (1, 1, 4)


def test_a_pivot_agrees_with_pandas(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        [(f"q{q}", f"m{m}") for q in range(200) for m in range(4)], columns=["id", "llm"]
    )
    frame["score"], frame["price"] = rng.random((2, 800)).astype(np.float32)
    frame = frame.sample(700, random_state=0)
    frame.to_parquet(tmp_path / "log.parquet")
    result = import_long(tmp_path / "log.parquet", *NAMES, invalid="drop")
    pivot = frame.pivot(index="id", columns="llm", values="score").dropna()
    pivot = pivot.loc[result.query_id.to_pylist(), list(result.table.models)]
    np.testing.assert_array_equal(result.table.quality, pivot.to_numpy())
    assert result.n_missing == 200 - len(pivot)


HOURS, CALLS = {"hour": [1.0, 2, 2, None, 3, 3]}, {"extra_costs": {"s": "calls"}}
ONE = {"id": list("aabbcc"), "llm": ["x", "y"] * 3}
LP, OK = {"logprobs": "lp"}, [[0.5, 0.5]] * 5
P = {"class_probabilities": "p"}


@pytest.mark.parametrize(
    ("changed", "options", "message"),
    [
        ({}, {"quality": "scor"}, "unknown column 'scor' (did you mean 'score'?)"),
        ({}, {"model": "id"}, "column 'id' is named twice"),
        ({}, {"group": "llm"}, "column 'llm' is named twice"),
        ({}, {"invalid": "keep"}, "unknown invalid"),
        ({"id": ["q2", None, None, "q2", "q3", "q3"]}, {}, "'id', row 1 (and 1 more): null"),
        ({"price": [1.0, 1, 1, -1, 1, 1]}, {}, "'price', row 3: negative"),
        ({}, {"extra_costs": {"s": "price"}}, "column 'price' is named twice"),
        ({}, {"extra_costs": {"s": "calls", "t": "calls"}}, "column 'calls' is named twice"),
        ({"calls": [1, 1, 1, 1, -1, 1]}, CALLS, "'calls', row 4: negative"),
        ({}, {"extra_costs": {"": "calls"}}, "'cost.': the name of the extra cost is empty"),
        ({}, {"extra_costs": {"cost": "calls"}}, "is taken by the column 'cost'"),
        ({"score": ["a"] * 6}, {}, "'score', row 0 (and 5 more): 'a' is not a"),
        ({"score": ["a"] * 6}, {"suffix": "csv"}, "'score', row 0 (and 5 more): 'a' is not a"),
        ({"llm": ["m"] * 6, "id": list("abcdef")}, {}, "has 1 model"),
        (
            {"part": ["fit", "train", *["fit"] * 4]},
            {"split": "part"},
            "'part', row 1: 'train'",
        ),
        ({"task": list("bacbaa")}, {"group": "task"}, "'task', row 1: query 'q1' has several val"),
        (ONE | {"llm": list("xyxzyz")}, {"invalid": "drop"}, "no query ran on all 3"),
        (
            ONE | {"score": [1, None] * 3},
            {"invalid": "drop"},
            "no row of 'y' has a quality",
        ),
        ({}, {"features": "text"}, "features='text' needs prompt"),
        ({}, {"prompt": "ask"}, "prompt and response need features='text'"),
        ({}, TEXT | {"response": "ask"}, "column 'ask' is named twice"),
        ({"ask": ["a", "b", "c", "a", "d", "d"]}, TEXT, "'ask', row 1: query 'q1' has several"),
        (HOURS, {"extra_features": {"h": "hour"}}, "'hour', row 0: query 'q2' has several values"),
        ({"sure": [0, 0, 0, 0, -INF, 0]}, EXTRA, "'sure', row 4: infinite"),
        ({"ask": [*"abba", None, ""]}, TEXT, "its quality, its cost or a prompt (first: 'q3')"),
        ({}, TEXT | {"extra_features": {"asks": "hour"}}, "features: 'asks' is listed twice"),
        ({"lp": [[-1.0], [0.5]] * 3}, LP, "'lp', row 1 (and 2 more): a log-probability above 0"),
        ({"lp": [[-1.0, NAN]] * 6}, LP, "row 0 (and 5 more): a number that is missing"),
        ({"lp": [[-INF]] * 6}, LP, "row 0 (and 5 more): a number that is missing"),
        ({"lp": [-1.0] * 6}, LP, "must hold lists of numbers, not double"),
        ({"lp": ["x"] * 6}, LP | {"suffix": "csv"}, "row 0: 'x' is not a list of numbers"),
        ({"lp": ["3"] * 6}, LP | {"suffix": "csv"}, "row 0: '3' is not a list of numbers"),
        ({"lp": ['["a"]'] * 6}, LP | {"suffix": "csv"}, "row 0: '[\"a\"]' is not a list"),
        ({"p": [*OK, [0.5, 0.4]]}, P, "'p', row 5: probabilities that do not sum to 1"),
        ({"p": [*OK, [1.5, -0.5]]}, P, "'p', row 5: a negative probability"),
        ({"p": [*OK, [1.0]]}, P, "'p', row 5: a distribution with one class"),
    ],
)
def test_long_refusals(
    tmp_path: Path, changed: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    names = dict(zip(("query", "model", "quality", "cost"), NAMES, strict=True)) | options
    path = save(tmp_path, LONG | changed, names.pop("suffix", "parquet"))
    assert message in refusal(import_long, path, **names)


def test_an_empty_csv_is_refused(tmp_path: Path) -> None:
    pacsv.write_csv(pa.table({name: pa.array([], pa.string()) for name in LONG}), tmp_path / "log")
    assert "no query is complete" in refusal(import_long, tmp_path / "log", *NAMES)


@FORMATS
def test_long_text(tmp_path: Path, suffix: str) -> None:
    path, saved = save(tmp_path, LONG, suffix), tmp_path / "words.npz"
    table = import_long(
        path, *NAMES, **TEXT, text_model=saved, n_components=1,
        extra_features={"hour": "hour"}, extra_signals={"sureness": "sure"},
    ).table  # fmt: skip
    words = text_features(["Write it.", OPTIONS, "two"], read_text_model(saved))
    hours = np.array([[7], [NAN], [9]], np.float32)
    np.testing.assert_array_equal(table.features, np.hstack([words, hours]))  # pyright: ignore
    assert table.feature_names == (*FACTS, "text_0", "hour")
    assert table.signal_names == (*SIGNALS, "sureness")
    signals = np.asarray(table.signals).reshape(3, 2, -1)
    said = {"big": ["I do", "A", "x"], "small": ["I do", "A. As so", None]}
    for k, model in enumerate(table.models):
        expected = response_signals(["Write it.", OPTIONS, "two"], said[model])
        np.testing.assert_array_equal(signals[:, k, :-1], expected)
    np.testing.assert_array_equal(signals[:, :, -1], [[0.5, 2], [NAN, 1], [NAN, 3]])
    assert (table.answer[:, 0] == table.answer[:, 1]).tolist() == [True, True, False]
    assert table.answer[2, 1] == -1


def test_long_prompts_alone_and_numbers_alone(tmp_path: Path) -> None:
    path = save(tmp_path, LONG)
    table = import_long(path, *NAMES, prompt="ask", features="text").table
    assert table.signals is table.answer is None
    result = import_long(path, *NAMES, extra_signals={"sure": "sure"})
    assert result.summary == "3 queries, 2 models, 0 features, 1 signal per model"


@FORMATS
def test_signals_of_lists(tmp_path: Path, suffix: str) -> None:
    lists = {
        "lp": [[-0.5, -1.5, -0.1], [-2.0], None, [], [-0.25, 0.0], [-1.0, -3.0]],
        "p": [[0.7, 0.2, 0.1], [0.5, 0.5], None, [], [1.0, 0.0, 0.0, 0.0], [0.1, 0.2, 0.7002]],
    }
    log = LONG | lists | {"id": list("aabbcc"), "llm": ["m", "n"] * 3}
    table = import_long(save(tmp_path, log, suffix), *NAMES, **LP, **P).table
    assert table.signal_names == (
        *("logprob_mean", "logprob_last", "class_entropy", "class_margin"),
    )
    expected = np.full((6, 4), NAN)
    for row, (logprobs, p) in enumerate(zip(lists["lp"], lists["p"], strict=True)):
        if logprobs:
            expected[row, :2] = np.mean(logprobs), logprobs[-1]
        if p:
            low, high = np.sort(np.array(p) / np.sum(p))[-2:]
            expected[row, 2:] = entropy(p), high - low
    np.testing.assert_allclose(table.signals.reshape(6, 4), expected, atol=1e-6)  # float32


def test_lists_of_whole_numbers_and_columns_of_nulls(tmp_path: Path) -> None:
    whole = pa.array([[-1, -2]] * 6, pa.list_(pa.int64(), 2))
    path = save(tmp_path, LONG | {"lp": whole, "p": pa.nulls(6)})
    signals = import_long(path, *NAMES, **LP, **P).table.signals
    np.testing.assert_array_equal(signals, [[-1.5, -2, NAN, NAN] * 2] * 3)  # pyright: ignore


def test_the_command_writes_a_table_that_inspect_describes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save(tmp_path, LONG | {"lp": [[-0.5]] * 6})
    words = [
        f"--{n}={c}" for n, c in zip(("query", "model", "quality", "cost"), NAMES, strict=True)
    ]
    words += ["--prompt=ask", "--response=said", "--features=text", "--text-model=words.npz"]
    words += ["--n-components=1", "--extra-signals=sureness=sure", "--logprobs=lp"]
    result = CliRunner().invoke(main, ["import", "long", "log.parquet", "table.arrow", *words])
    assert result.exit_code == 0, result.output
    assert "Text model: fitted on 3 prompts and written to words.npz" in result.output
    assert read_table("table.arrow").signal_names[-3:] == (
        *("sureness", "logprob_mean", "logprob_last"),
    )
    shown = CliRunner().invoke(main, ["inspect", "table.arrow"])
    assert shown.exit_code == 0, shown.output
    assert "missing values: sureness 33%" in shown.output
    assert "83% of responses have one; the two models agree on 67% of queries" in shown.output
