import ast
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

from cascjax.cli.main import main
from cascjax.data import from_arrow, read_table, write_table
from cascjax.data.table import EVALUATE, FIT
from cascjax.errors import CascjaxError
from cascjax.features import read_text_model, response_signals, text_features
from cascjax.features.answers import SIGNALS
from cascjax.features.prompts import FACTS
from cascjax.importers import ImportResult, import_long, import_routerbench
from cascjax.importers.routerbench import _unwrapped

KINDS = ("parquet", "arrow", "csv", "pkl")


def save(folder: Path, columns: Mapping[str, Sequence[Any]], kind: str) -> Path:
    path = folder / f"log.{kind}"
    arrow = pa.table({name: pa.array(values) for name, values in columns.items()})
    if kind == "parquet":
        pq.write_table(arrow, path)
    elif kind == "arrow":
        with ipc.new_file(path, arrow.schema) as writer:
            writer.write_table(arrow)
    elif kind == "csv":
        pd.DataFrame(dict(columns)).to_csv(path, index=False)
    else:
        pd.DataFrame(dict(columns)).to_pickle(path)
    return path


def refusal(call: Any, *args: Any, **options: Any) -> str:
    with pytest.raises(CascjaxError) as caught:
        call(*args, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# RouterBench


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


@pytest.mark.parametrize("kind", KINDS)
def test_routerbench_from_every_format(tmp_path: Path, kind: str) -> None:
    result = import_routerbench(save(tmp_path, wide(), kind))
    assert result.arrow["query_id"].to_pylist() == ["w.1", "w.2", "w.3", "w.4"]
    table = from_arrow(result.arrow, "result")
    assert table.models == ("acme/z-1.5", "acme/a")
    assert table.cost_unit == "USD"
    assert [table.groups[code] for code in table.group] == ["w", "w", "v", "w"]  # pyright: ignore
    np.testing.assert_array_equal(table.quality, [[0, 1], [1, 1], [0.5, 1], [1, 0]])
    np.testing.assert_allclose(table.cost, [[0.1, 0.01], [0.2, 0.02], [0.3, 0.03], [0.4, 0.04]])
    assert table.answer is not None
    same = table.answer[:, 0] == table.answer[:, 1]
    assert same.tolist() == [True, False, False, False]
    assert (table.answer == -1).tolist() == [[False, False]] * 3 + [[False, True]]
    assert result.summary == "4 queries of 2 models"


def test_an_import_is_written_and_read(tmp_path: Path) -> None:
    result = import_routerbench(save(tmp_path, wide(), "parquet"))
    write_table(tmp_path / "table.parquet", result.arrow)
    assert read_table(tmp_path / "table.parquet").n_queries == 4


def test_responses_and_groups_may_be_absent(tmp_path: Path) -> None:
    some = wide(eval_name=None, **{"acme/a|model_response": None})
    table = from_arrow(import_routerbench(save(tmp_path, some, "parquet")).arrow, "result")
    assert table.group is None
    assert table.answer is not None
    assert (table.answer[:, 1] == -1).all()
    none = some | {"acme/z-1.5|model_response": None}
    none = {name: values for name, values in none.items() if values is not None}
    table = from_arrow(import_routerbench(save(tmp_path, none, "parquet")).arrow, "result")
    assert table.answer is None


@pytest.mark.parametrize("kind", KINDS)
def test_missing_and_repeated_rows_are_counted_then_dropped(tmp_path: Path, kind: str) -> None:
    bad = wide(
        sample_id=["w.1", "w.2", "w.1", "w.2"],
        **{"acme/a": [None, 1.0, 1.0, 0.0], "acme/a|total_cost": [0.01, 0.02, 0.03, 0.04]},
    )
    path = save(tmp_path, bad, kind)
    message = refusal(import_routerbench, path)
    assert "1 row with a score, a cost or the id missing (first: 'w.1')" in message
    assert "2 rows repeating an id (first: 'w.1', 'w.2')" in message
    result = import_routerbench(path, on_bad="drop")
    assert result.arrow["query_id"].to_pylist() == ["w.2", "w.1"]  # the second w.1 is complete
    assert (result.n_rows, result.n_missing, result.n_repeated, result.n_dropped) == (2, 1, 1, 2)
    assert result.summary == (
        "2 queries of 2 models; left out 2 rows of the file: 1 query with missing values,"
        " 1 repeated row"
    )


def test_missing_means_nan_and_infinite_too_and_ids(tmp_path: Path) -> None:
    bad = wide(
        sample_id=["w.1", None, "w.3", "w.4"],
        **{"acme/a": [np.nan, 1.0, 1.0, 1.0], "acme/a|total_cost": [0.1, 0.1, np.inf, 0.1]},
    )
    result = import_routerbench(save(tmp_path, bad, "parquet"), on_bad="drop")
    assert result.arrow["query_id"].to_pylist() == ["w.4"]
    assert result.n_missing == 3


def test_routerbench_refusals(tmp_path: Path) -> None:
    def message(replaced: dict[str, Any], kind: str = "parquet", on_bad: str = "fail") -> str:
        return refusal(import_routerbench, save(tmp_path, wide(**replaced), kind), on_bad=on_bad)

    assert "column 'sample_id' is missing" in message({"sample_id": None})
    assert "column 'acme/a|total_cost' is missing" in message({"acme/a|total_cost": None})
    assert "column 'acme/a' is missing" in message({"acme/a": None})
    text = {"acme/a": ["1", "0", "1", "x"]}
    assert "'acme/a' must hold number" in message(text)
    assert "invalid value 'x'" in message(text, "csv")
    assert "'acme/a' must hold number" in message(text, "pkl")
    assert "'acme/a|total_cost', row 1: -1 for model 'acme/a' is negative" in message(
        {"acme/a|total_cost": [0.0, -1.0, 0.0, 0.0]}
    )
    assert "no query is left, for no row of 'acme/a' has" in message(
        {"acme/a": [None] * 4}, on_bad="drop"
    )
    assert "unknown on_bad 'dorp' (did you mean 'drop'?)" in message({}, on_bad="dorp")
    assert "has 1 model" in message({name: None for name in wide() if name.startswith("acme/z")})
    assert "not in RouterBench's wide format" in refusal(
        import_routerbench, save(tmp_path, {"a": [1], "b": [2]}, "csv")
    )


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe\x00", b"PAR1", b"ARROW1", b"\x80\x04."])
def test_other_bytes_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(content)
    assert "log.csv" in refusal(import_routerbench, path)
    assert "log.csv" in refusal(import_long, path, "q", "m", "s", "c")


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
    result = import_routerbench(save(tmp_path, wide(**responses), "parquet"))
    answer = result.arrow["answer"].to_pylist()[0]
    assert (answer[0] == answer[1]) == same


def test_missing_files_and_folders(tmp_path: Path) -> None:
    assert "No such file" in refusal(import_routerbench, tmp_path / "none.csv")
    assert "it is a folder" in refusal(import_routerbench, tmp_path)


def test_a_column_that_stands_twice(tmp_path: Path) -> None:
    path = save(tmp_path, wide(), "csv")
    path.write_text(path.read_text().replace("prompt", "sample_id"))
    assert "'sample_id' stands 2 times" in refusal(import_routerbench, path)


def test_types_do_not_hang_on_the_first_rows_of_a_csv(tmp_path: Path) -> None:
    rows = wide(**{"acme/a": [1, 1, 0, 0.25], "sample_id": ["1", "2", "3", "x"]})
    path = save(tmp_path, rows, "csv")
    assert import_routerbench(path).arrow["query_id"].to_pylist() == ["1", "2", "3", "x"]


def test_the_pickled_fixtures_are_imported() -> None:
    paths = sorted((Path(__file__).parent / "data").glob("*.pkl"))
    results = [import_routerbench(path, on_bad="drop") for path in paths]
    assert {result.summary for result in results} == {
        "4 queries of 3 models; left out 2 rows of the file: 1 query with missing values,"
        " 1 repeated row"
    }
    assert all(result.arrow.equals(results[0].arrow) for result in results)
    assert results[0].arrow["quality"].to_pylist()[1] == [1, 0.5, 0.5]


def test_the_real_sample(shared_data: Path) -> None:
    path = shared_data / "routerbench-sample.parquet"
    message = refusal(import_routerbench, path)
    assert "28 rows with a score, a cost or the id missing" in message
    assert "14 rows repeating an id" in message
    result = import_routerbench(path, on_bad="drop")
    # The repeated ids are the rows that lack scores: one row has what the other lacks, its costs
    # doubled.
    counts = (result.n_rows, result.n_missing, result.n_repeated, result.n_dropped)
    assert counts == (3150, 28, 0, 28)
    table = from_arrow(result.arrow, "sample")
    frame = pd.read_parquet(path).dropna(subset=list(table.models))
    assert table.models[:2] == ("WizardLM/WizardLM-13B-V1.2", "claude-instant-v1")
    np.testing.assert_array_equal(
        table.quality, frame[list(table.models)].to_numpy().astype(np.float32)
    )
    costs = frame[[f"{model}|total_cost" for model in table.models]]
    np.testing.assert_array_equal(table.cost, costs.to_numpy().astype(np.float32))
    assert table.answer is not None
    texts = frame[[f"{model}|model_response" for model in table.models]].to_numpy()
    for row in range(0, len(texts), 97):
        words = [ast.literal_eval(text)[0].strip() for text in texts[row]]
        equal = [[a == b for b in words] for a in words]
        answer = table.answer[row]
        np.testing.assert_array_equal(answer[:, None] == answer[None], equal)


# Long logs

LONG = {
    "id": ["q2", "q1", "q1", "q2", "q3", "q3"],
    "llm": ["big", "big", "small", "small", "small", "big"],
    "score": [1.0, 0.5, 0.0, 1.0, 1.0, 0.0],
    "price": [9.0, 8.0, 1.0, 2.0, 3.0, 7.0],
    "task": ["b", "a", "a", "b", "a", "a"],
    "part": ["fit", "fit", "fit", "fit", "evaluate", "evaluate"],
}
NAMES = ("id", "llm", "score", "price")


@pytest.mark.parametrize("kind", KINDS)
def test_long_from_every_format(tmp_path: Path, kind: str) -> None:
    result = import_long(save(tmp_path, LONG, kind), *NAMES, group="task", split="part")
    assert isinstance(result, ImportResult)
    assert result.arrow["query_id"].to_pylist() == ["q2", "q1", "q3"]
    table = from_arrow(result.arrow, "result")
    assert table.models == ("big", "small")
    np.testing.assert_array_equal(table.quality, [[1, 1], [0.5, 0], [0, 1]])
    np.testing.assert_array_equal(table.cost, [[9, 2], [8, 1], [7, 3]])
    assert [table.groups[code] for code in table.group] == ["b", "a", "a"]  # pyright: ignore
    assert table.split.tolist() == [FIT, FIT, EVALUATE]  # pyright: ignore
    assert result.summary == "3 queries of 2 models"


@pytest.mark.parametrize("kind", KINDS)
def test_further_costs_of_a_long_log(tmp_path: Path, kind: str) -> None:
    log = LONG | {"latency": [0.5, 0.25, 2, 3, 4, 8], "calls": [1, 1, 1, 1, 2, 1]}
    more = {"seconds": "latency", "calls": "calls"}
    result = import_long(save(tmp_path, log, kind), *NAMES, extra_costs=more)
    table = from_arrow(result.arrow, "result")
    np.testing.assert_array_equal(table.cost, [[9, 2], [8, 1], [7, 3]])
    assert list(table.extra_costs) == ["calls", "seconds"]
    np.testing.assert_array_equal(table.extra_costs["seconds"], [[0.5, 3], [0.25, 2], [8, 4]])
    np.testing.assert_array_equal(table.extra_costs["calls"], [[1, 1], [1, 1], [1, 2]])


def test_a_row_without_a_further_cost_counts_as_absent(tmp_path: Path) -> None:
    # q1 of small has none at first, and one in a row further down; q3 of big has none at all.
    log = {name: [*column, column[2]] for name, column in LONG.items()}
    path = save(tmp_path, log | {"latency": [1, 2, None, 4, 5, np.inf, 7]}, "parquet")
    more = {"seconds": "latency"}
    message = refusal(import_long, path, *NAMES, extra_costs=more)
    lacking = "1 query lacking one of the 2 models, its quality or one of its costs (first: 'q3')"
    assert lacking in message
    result = import_long(path, *NAMES, on_bad="drop", extra_costs=more)
    assert result.arrow["query_id"].to_pylist() == ["q2", "q1"]
    assert result.arrow["cost.seconds"].to_pylist() == [[1, 4], [2, 7]]


def test_whole_numbers_may_be_ids(tmp_path: Path) -> None:
    path = save(tmp_path, LONG | {"id": [2, 1, 1, 2, 3, 3], "score": [1, 0, 1, 0, 1, 0]}, "parquet")
    assert import_long(path, *NAMES).arrow["query_id"].to_pylist() == ["2", "1", "3"]


@pytest.mark.parametrize("kind", KINDS)
def test_missing_and_repeated_pairs(tmp_path: Path, kind: str) -> None:
    bad = {
        "id": ["q1", "q1", "q1", "q2", "q2", "q3", "q3", "q3"],
        "llm": ["a", "b", "a", "a", "b", "a", "a", "b"],
        "score": [1.0, 0.0, 0.5, 1.0, None, None, 0.25, 1.0],
        "price": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0],
    }
    path = save(tmp_path, bad, kind)
    message = refusal(import_long, path, *NAMES)
    assert "1 query lacking one of the 2 models, its quality or its cost (first: 'q2')" in message
    assert "1 row repeating a query and model (first: 'q1 of a')" in message
    result = import_long(path, *NAMES, on_bad="drop")
    assert result.arrow["query_id"].to_pylist() == ["q1", "q3"]
    assert result.arrow["quality"].to_pylist() == [[1, 0], [0.25, 1]]
    assert result.arrow["cost"].to_pylist() == [[1, 2], [7, 8]]
    assert (result.n_rows, result.n_missing, result.n_repeated, result.n_dropped) == (2, 1, 1, 4)


def test_a_pivot_agrees_with_pandas(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        [(f"q{q}", f"m{m}") for q in range(200) for m in range(4)], columns=["id", "llm"]
    )
    frame["score"], frame["price"] = rng.random((2, 800)).astype(np.float32)
    frame = frame.sample(700, random_state=0)
    frame.to_parquet(tmp_path / "log.parquet")
    result = import_long(tmp_path / "log.parquet", *NAMES, on_bad="drop")
    table = from_arrow(result.arrow, "result")
    pivot = frame.pivot(index="id", columns="llm", values="score").dropna()
    pivot = pivot.loc[result.arrow["query_id"].to_pylist(), list(table.models)]
    np.testing.assert_array_equal(table.quality, pivot.to_numpy())
    assert result.n_missing == 200 - len(pivot)


def test_long_refusals(tmp_path: Path) -> None:
    def message(names: Sequence[str] = NAMES, kind: str = "parquet", **changed: Any) -> str:
        given = ("group", "split", "on_bad", "extra_costs")
        options = {key: changed.pop(key) for key in given if key in changed}
        path = save(tmp_path, LONG | changed, kind)
        return refusal(import_long, path, *names, **options)

    assert "unknown column 'scor' (did you mean 'score'?)" in message(
        ("id", "llm", "scor", "price")
    )
    assert "unknown column 'prt'" in message(split="prt")
    assert "named for two things" in message(("id", "id", "score", "price"))
    assert "named for two things" in message(group="llm")
    assert "unknown on_bad" in message(on_bad="keep")
    assert "'id', row 1 (and 1 more): null" in message(id=["q2", None, None, "q2", "q3", "q3"])
    assert "'price', row 3: negative" in message(price=[1.0, 1, 1, -1, 1, 1])
    assert "unknown column 'pricy' (did you mean 'price'?)" in message(extra_costs={"s": "pricy"})
    for column in ("price", "score", "id"):
        assert "named for two things" in message(extra_costs={"s": column})
    assert "named for two things" in message(extra_costs={"s": "more", "t": "more"}, more=[1] * 6)
    assert "'more', row 4: negative" in message(extra_costs={"s": "more"}, more=[1, 1, 1, 1, -1, 1])
    assert "'cost.': the name of its cost is empty" in message(extra_costs={"": "more"})
    assert "is that of the column 'cost'" in message(extra_costs={"cost": "more"})
    assert "'score' must hold number" in message(score=["a"] * 6)
    assert "invalid value 'a'" in message(kind="csv", score=["a"] * 6)
    assert "has 1 model" in message(llm=["m"] * 6, id=list("abcdef"))
    assert "'part', row 1: 'train'" in message(part=["fit", "train", *["fit"] * 4], split="part")
    assert "'task', row 1: query 'q1' has several values" in message(
        task=["b", "a", "c", "b", "a", "a"], group="task"
    )
    assert "no query is left" in message(
        on_bad="drop", id=list("aabbcc"), llm=["x", "y", "x", "z", "y", "z"]
    )
    assert "no row of 'y' has both a quality and all costs; leave that model out" in message(
        on_bad="drop", id=list("aabbcc"), llm=["x", "y"] * 3, score=[1, None] * 3
    )
    empty = pa.table({name: pa.array([], pa.string()) for name in LONG})
    pacsv.write_csv(empty, tmp_path / "empty.csv")
    assert "no query is left" in refusal(import_long, tmp_path / "empty.csv", *NAMES)


# Text

OPTIONS = "Which?\nA) stone\nB) iron\nPrint a letter."


def told(**replaced: Any) -> dict[str, Any]:
    """The wide log with prompts and responses as RouterBench prints them."""
    return wide(
        **{
            "prompt": [f"[{OPTIONS!r}]", "['Write\\nit.']", '["It\'s", "two"]', OPTIONS],
            "acme/z-1.5|model_response": ["['A\\n']", "['I do']", "['It\\'s x']", "['B, no']"],
            "acme/a|model_response": ["['A. As so']", "I do", '["It\'s x"]', None],
        }
        | replaced
    )


@pytest.mark.parametrize("kind", KINDS)
def test_features_and_signals_of_text(tmp_path: Path, kind: str) -> None:
    path, saved = save(tmp_path, told(), kind), tmp_path / "words.npz"
    result = import_routerbench(path, features="text", text_model=saved, n_components=2)
    table = from_arrow(result.arrow, "result")
    model = read_text_model(saved)
    prompts = [OPTIONS, "Write\nit.", "It's\ntwo", OPTIONS]
    np.testing.assert_array_equal(table.features, text_features(prompts, model))  # pyright: ignore
    assert table.feature_names == (*FACTS, "text_0", "text_1")
    assert table.signals is not None
    assert table.signal_names == SIGNALS
    one = response_signals(prompts, ["A", "I do", "It's x", "B, no"])
    other = response_signals(prompts, ["A. As so", "I do", "It's x", None])
    np.testing.assert_array_equal(table.signals, np.hstack([one, other]))
    assert table.answer is not None
    assert (table.answer[:, 0] == table.answer[:, 1]).tolist() == [True, True, True, False]
    assert table.answer[3].tolist()[1] == -1
    assert result.summary == "4 queries of 2 models, 10 features, 19 signals a model"
    assert result.notes == (f"Text model: fitted on the 4 prompts of the file, written to {saved}",)


def test_a_text_model_gives_another_log_the_same_features(tmp_path: Path) -> None:
    saved = tmp_path / "words.npz"
    path = save(tmp_path, told(), "parquet")
    first = import_routerbench(path, features="text", text_model=saved)
    before = saved.read_bytes()
    rows = {name: values[1:2] for name, values in told().items()}
    second = import_routerbench(
        save(tmp_path, rows, "parquet"), features="text", text_model=saved, n_components=None
    )
    assert saved.read_bytes() == before
    assert second.arrow["features"].to_pylist() == first.arrow["features"].to_pylist()[1:2]
    assert second.notes == (f"Text model: read from {saved}",)


def test_no_score_and_no_cost_changes_a_feature_or_signal(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scores = {name: rng.random(4).tolist() for name in ("acme/a", "acme/z-1.5")}
    costs = {f"{name}|total_cost": rng.random(4).tolist() for name in scores}
    one = import_routerbench(save(tmp_path, told(), "parquet"), features="text").arrow
    scrambled = told(**scores, **costs, oracle_model_to_route_to=["x"] * 4)
    other = import_routerbench(save(tmp_path, scrambled, "parquet"), features="text").arrow
    assert not one["quality"].equals(other["quality"])
    for name in ("features", "signals", "answer"):
        assert one[name].equals(other[name])
    # Rows that lack a score are left out, but the words of all rows are reduced as before.
    fewer = told(**{"acme/a": [None, 1.0, 1.0, 1.0]})
    path = save(tmp_path, fewer, "parquet")
    left = import_routerbench(path, on_bad="drop", features="text").arrow
    assert left["features"].to_pylist() == one["features"].to_pylist()[1:]


def test_wide_signals_from_numbers(tmp_path: Path) -> None:
    more = told(**{"acme/a|sure": [0.5, None, float("nan"), 2]})
    result = import_routerbench(save(tmp_path, more, "parquet"), signals={"margin": "sure"})
    write_table(tmp_path / "table.parquet", result.arrow)
    table = read_table(tmp_path / "table.parquet")
    assert table.signal_names == ("margin",)
    expected = [[np.nan, 0.5], [np.nan, np.nan], [np.nan, np.nan], [np.nan, 2]]
    np.testing.assert_array_equal(table.signals, expected)  # pyright: ignore
    assert table.features is None


def test_refusals_of_text(tmp_path: Path) -> None:
    def message(replaced: dict[str, Any], features: str | None = "text", **options: Any) -> str:
        path = save(tmp_path, told(**replaced), "parquet")
        return refusal(import_routerbench, path, features=features, **options)

    assert "column 'prompt' is missing" in message({"prompt": None})
    assert "'acme/a|model_response' is missing" in message({"acme/a|model_response": None})
    blank = {"prompt": ["[' \\n']", "one", None, "two"]}
    lacking = "2 rows with a score, a cost, the id or the prompt missing (first: 'w.1', 'w.3')"
    assert lacking in message(blank)
    result = import_routerbench(
        save(tmp_path, told(**blank), "parquet"), on_bad="drop", features="text"
    )
    assert result.arrow["query_id"].to_pylist() == ["w.2", "w.4"]
    assert "no query is left" in message({"prompt": [""] * 4}, on_bad="drop")
    assert "log.parquet: no prompt has a word" in message({"prompt": ["?"] * 4})
    assert "unknown features 'txt'" in message({}, features="txt")
    assert "ask for features 'text'" in message({}, features=None, n_components=3)
    assert "is damaged, or no text model" in message({}, text_model=tmp_path / "log.parquet")
    assert "there is no folder" in message({}, text_model=tmp_path / "none" / "words.npz")
    assert "no column is named '<model>|sure'" in message({}, signals={"s": "sure"})
    assert "is a cost or a response" in message({}, signals={"s": "total_cost"})
    infinite = {"acme/a|sure": [0, np.inf, 0, 0]}
    assert "'acme/a|sure', row 1: infinite" in message(infinite, signals={"s": "sure"})
    sure = {"acme/a|sure": [0, 1, 0, 0]}
    assert "two signals are named 'empty'" in message(sure, signals={"empty": "sure"})


def test_wrapped_text_is_what_python_printed() -> None:
    texts = ["", "a", "it's", '"', "'\"", "a\nb\r\t\\n", "\\", "é\x00\x1b\u2028\U0001f600", "[']"]
    for text in texts:
        for other in texts:
            assert _unwrapped(str([text])) == text
            assert _unwrapped(str([text, other])) == f"{text}\n{other}"
    for plain in ("[A]", "A", "['a'", "['a' 'b']", "[1, 2]", "['a']x"):
        assert _unwrapped(plain) == plain


def test_the_real_prompts_are_unwrapped(shared_data: Path) -> None:
    columns = ["prompt", "claude-v1|model_response", "mistralai/mixtral-8x7b-chat|model_response"]
    frame = pd.read_parquet(shared_data / "routerbench-sample.parquet", columns=columns)
    for column in columns:
        for text in frame[column].dropna()[::31]:
            assert _unwrapped(text) == "\n".join(ast.literal_eval(text))


TOLD = LONG | {
    "ask": ["Write it.", OPTIONS, OPTIONS, "Write it.", "two", "two"],
    "said": ["I do", "A", "A. As so", "I do", None, "x"],
    "sure": [0.5, None, 1, 2, 3, float("nan")],
    "hour": [7.0, None, None, 7, 9, 9],
}
TEXT: dict[str, Any] = {"prompt": "ask", "response": "said", "features": "text"}


@pytest.mark.parametrize("kind", KINDS)
def test_long_text(tmp_path: Path, kind: str) -> None:
    path, saved = save(tmp_path, TOLD, kind), tmp_path / "words.npz"
    result = import_long(
        path, *NAMES, **TEXT, text_model=saved, n_components=1,
        more_features={"hour": "hour"}, more_signals={"sureness": "sure"},
    )  # fmt: skip
    table = from_arrow(result.arrow, "result")
    prompts = ["Write it.", OPTIONS, "two"]
    assert table.features is not None
    assert table.signals is not None
    assert table.answer is not None
    words = text_features(prompts, read_text_model(saved))
    hours = np.array([[7], [np.nan], [9]], np.float32)
    np.testing.assert_array_equal(table.features, np.hstack([words, hours]))
    assert table.feature_names == (*FACTS, "text_0", "hour")
    assert table.signal_names == (*SIGNALS, "sureness")
    signals = table.signals.reshape(3, 2, -1)
    said = {"big": ["I do", "A", "x"], "small": ["I do", "A. As so", None]}
    for k, model in enumerate(table.models):
        np.testing.assert_array_equal(signals[:, k, :-1], response_signals(prompts, said[model]))
    np.testing.assert_array_equal(signals[:, :, -1], [[0.5, 2], [np.nan, 1], [np.nan, 3]])
    assert (table.answer[:, 0] == table.answer[:, 1]).tolist() == [True, True, False]
    assert table.answer[2, 1] == -1


def test_long_prompts_alone_and_numbers_alone(tmp_path: Path) -> None:
    path = save(tmp_path, TOLD, "parquet")
    table = from_arrow(import_long(path, *NAMES, prompt="ask", features="text").arrow, "result")
    assert table.features is not None
    assert table.signals is table.answer is None
    result = import_long(path, *NAMES, more_signals={"sure": "sure"})
    assert result.arrow["signals"].to_pylist()[0] == [0.5, 2]
    assert result.summary == "3 queries of 2 models, 0 features, 1 signal a model"


def test_refusals_of_long_text(tmp_path: Path) -> None:
    def message(options: dict[str, Any], **replaced: Any) -> str:
        path = save(tmp_path, TOLD | replaced, "parquet")
        return refusal(import_long, path, *NAMES, **options)

    assert "name the column of the prompt" in message({"features": "text"})
    assert "ask for features 'text' too" in message({"prompt": "ask"})
    assert "unknown column 'aks' (did you mean 'ask'?)" in message(TEXT | {"prompt": "aks"})
    assert "named for two things" in message(TEXT | {"response": "ask"})
    assert "named for two things" in message({"more_signals": {"s": "score"}})
    assert "'ask', row 1: query 'q1' has several values" in message(
        TEXT, ask=["a", "b", "c", "a", "d", "d"]
    )
    assert "'hour', row 0: query 'q2' has several values" in message(
        {"more_features": {"hour": "hour"}}, hour=[1.0, 2, 2, None, 3, 3]
    )
    assert "'sure', row 4: infinite" in message(
        {"more_signals": {"s": "sure"}}, sure=[0, 0, 0, 0, -np.inf, 0]
    )
    assert "or a prompt (first: 'q3')" in message(TEXT, ask=["one", "two", "two", "one", None, ""])
    assert "two features are named 'asks'" in message(TEXT | {"more_features": {"asks": "hour"}})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--text-model", "words.npz"], "give --features text too"),
        (["--features", "text", "--text-model", "log.parquet"], "is the log"),
        (["--features", "text", "--text-model", "table.arrow"], "is the table"),
        (["--signal", "sure"], "--signal 'sure': give a name and a column"),
        (["--features", "text"], "column 'prompt' is missing"),
    ],
)
def test_the_command_says_what_is_wrong_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    save(tmp_path, wide(prompt=None), "parquet")
    found = CliRunner().invoke(
        main, ["import", "routerbench", "log.parquet", "table.arrow", *options]
    )
    assert found.exit_code == 2
    assert said in found.stderr
    assert found.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["log.parquet"]


def test_the_commands_write_tables_that_inspect_describes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save(tmp_path, TOLD, "parquet")
    names = [f"--{name}={column}" for name, column in zip(
        ("query", "model", "quality", "cost"), NAMES, strict=True
    )]  # fmt: skip
    found = CliRunner().invoke(
        main,
        ["import", "long", "log.parquet", "table.arrow", *names, "--prompt=ask", "--response=said",
         "--features=text", "--text-model=words.npz", "--components=1", "--signal=sureness=sure"],
    )  # fmt: skip
    assert found.exit_code == 0, found.output
    assert "Text model: fitted on the 3 prompts of the file, written to words.npz" in found.output
    shown = CliRunner().invoke(main, ["inspect", "table.arrow"])
    assert shown.exit_code == 0, shown.output
    assert "missing values: sureness 33%" in shown.output
    assert "9: log_chars" in shown.output
    assert "of 83% of responses; two models agree on 67% of queries" in " ".join(
        shown.output.split()
    )
