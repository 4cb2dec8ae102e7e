"""What an import keeps and drops: repeated rows, missing cells, filters, and implausible values."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

import cascjax as cj
from cascjax.cli import main
from cascjax.data import read_table, write_table
from cascjax.data.scales import scales_of
from cascjax.data.table import Table
from cascjax.errors import CascjaxError
from cascjax.importers import ImportResult, import_long
from cascjax.importers.base import absent_cells

COLUMNS = ["id", "model", "score", "cost"]
WORDS = ["--query", "id", "--model", "model", "--quality", "score", "--cost", "cost"]


def frame_of(n: int, models: str = "abc", trials: int = 1, seed: int = 0) -> Any:
    """Random scores and costs of every query, model and trial."""
    rng = np.random.default_rng(seed)
    rows = itertools.product(range(trials), (f"q{i}" for i in range(n)), models)
    frame: Any = pd.DataFrame(rows, columns=["trial", "id", "model"])
    frame["score"] = rng.integers(2, size=len(frame))
    frame["cost"] = rng.integers(1, 999, size=len(frame)) / 1000
    return frame


def read(folder: Path, frame: Any, **options: Any) -> ImportResult:
    frame.to_csv(folder / "log.csv", index=False)
    return import_long(folder / "log.csv", *COLUMNS, **options)


def refusal(folder: Path, frame: Any, **options: Any) -> str:
    with pytest.raises(CascjaxError) as caught:
        read(folder, frame, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def command(folder: Path, frame: Any, *words: str) -> Result:
    frame.to_csv(folder / "log.csv", index=False)
    files = [str(folder / "log.csv"), str(folder / "table.arrow")]
    return CliRunner().invoke(main, ["import", "long", *files, *WORDS, *words])


def test_identical_repeats_are_merged_and_counted(tmp_path: Path) -> None:
    frame = frame_of(9)
    result = read(tmp_path, pd.concat([frame, frame.head(5)]))
    assert result.table == read(tmp_path, frame).table
    assert (result.n_repeated, result.n_dropped, result.n_missing) == (5, 5, 0)
    assert "5 rows repeat a query and model, with the same quality and cost: merged" in result.notes


def test_differing_repeats_are_refused_whatever_is_dropped(tmp_path: Path) -> None:
    frame = frame_of(9)
    again = frame.head(6).assign(trial=1)
    again.loc[1, "score"] = 1 - again.loc[1, "score"]  # query q0 and model b
    again.loc[[3, 4], "cost"] += 1  # query q1, models a and b
    both = pd.concat([frame, again])
    first, second = int(frame.loc[1, "score"]), int(again.loc[1, "score"])
    for options in ({}, {"invalid": "drop"}):
        message = refusal(tmp_path, both, **options)
        assert "6 rows repeat a query and model, 3 of them with another quality or cost" in message
        assert "('b' 2, 'a' 1); first: query 'q0' and model 'b' have quality" in message
        assert f"have quality {first} and {second} in rows 1 and 28; take their mean" in message
    for words in ([], ["--invalid", "drop"]):
        result = command(tmp_path, both, *words)
        assert result.exit_code == 2
        assert (
            "--draws mean, keep the first with --draws first, make each a model with"
            in result.output
        )
        assert "--where COLUMN=VALUE" in result.output
        assert not (tmp_path / "table.arrow").exists()
    more_cost = frame.assign(seconds=1.0), frame.head(1).assign(seconds=2.0)
    message = refusal(tmp_path, pd.concat(more_cost), extra_costs={"s": "seconds"})
    assert "have different extra costs in rows 0 and 27" in message


@pytest.mark.parametrize("trials", [2, 4, 20])
def test_the_mean_of_draws_agrees_with_pandas(tmp_path: Path, trials: int) -> None:
    frame = frame_of(6, trials=trials).assign(sure=lambda f: f["cost"] * 2)
    frame = frame[(frame["model"] != "c") | (frame["trial"] == 0)]  # one draw of c alone
    frame = frame.sample(frac=1, random_state=0)
    frame.loc[frame["sure"] < 0.3, "sure"] = np.nan
    result = read(tmp_path, frame, draws="mean", extra_signals={"sure": "sure"})
    means = frame.groupby(["id", "model"])[["score", "cost", "sure"]].mean().unstack()
    order = [means.loc[result.query_id.to_pylist(), name] for name in ("score", "cost", "sure")]
    quality, cost, sure = (each[list(result.table.models)].to_numpy() for each in order)
    np.testing.assert_allclose(result.table.quality, quality, rtol=1e-6)
    np.testing.assert_allclose(result.table.cost, cost, rtol=1e-6)
    np.testing.assert_allclose(np.asarray(result.table.signals), sure, rtol=1e-6)
    assert result.summary == "6 queries, 3 models, 0 features, 1 signal per model"
    assert f"the mean is taken, of up to {trials} rows per query and model" in result.notes[0]
    assert f"{6 * 2 * (trials - 1)} rows repeat" in result.notes[0]


def test_the_first_draw_and_the_rows_of_one_kind(tmp_path: Path) -> None:
    frame = frame_of(6, trials=3)
    frame["filter"] = [f"kind {trial}" for trial in frame["trial"]]
    first = read(tmp_path, frame, draws="first")
    for trial in range(3):
        alone = read(tmp_path, frame[frame["trial"] == trial])
        for where in (f"trial={trial}", [f"filter=kind {trial}"]):
            chosen = read(tmp_path, frame, where=where)
            assert chosen.table == alone.table
            assert not chosen.notes
        assert (first.table == alone.table) == (trial == 0)
    assert "the first is kept" in first.notes[0]
    result = command(tmp_path, frame, "--where", "filter=kind 2", "--where", "model=a",
                     "--where", "model=c")  # fmt: skip
    assert result.exit_code == 0, result.output
    kept = frame[(frame["trial"] == 2) & (frame["model"] != "b")]
    assert read_table(tmp_path / "table.arrow") == read(tmp_path, kept).table


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("trial", "where must be 'COLUMN=VALUE', not 'trial'"),
        ("trail=1", "unknown column 'trail' (did you mean 'trial'?)"),
        ("trial=7", "column 'trial': unknown value '7'; known: 0, 1, 2"),
        (["model=a", "model=d"], "column 'model': unknown value 'd'; known: a, b, c"),
        ("cost=1", "where cannot filter by 'cost', a column of numbers"),
        ("model=a", "has 1 model"),
    ],
)
def test_filters_that_are_refused(tmp_path: Path, where: Any, message: str) -> None:
    assert message in refusal(tmp_path, frame_of(6, trials=3), where=where, draws="first")


def test_errors_after_a_filter_name_the_row_of_the_file(tmp_path: Path) -> None:
    frame = frame_of(6, trials=2).astype({"score": object})
    frame.loc[20, "score"] = "bad"
    assert "'score', row 20: 'bad' is not" in refusal(tmp_path, frame, where="trial=1")
    assert read(tmp_path, frame, where="trial=0").table.n_queries == 6  # row 20 is not read
    frame.loc[20, "score"] = 1
    frame.loc[[21, 22], "cost"] = -1.0
    message = refusal(tmp_path, frame, where="trial=1")
    assert "'cost', row 21 (and 1 more): negative" in message


def test_incomplete_rows_beside_complete_ones_are_counted(tmp_path: Path) -> None:
    frame = frame_of(4).astype({"score": float})
    failed = frame.head(2).assign(score=np.nan)
    result = read(tmp_path, pd.concat([failed, frame]))
    assert result.table == read(tmp_path, frame).table
    assert (
        "2 rows without a quality or a cost ignored: other rows have the query" in result.notes[0]
    )


def test_a_rare_model_is_named(tmp_path: Path) -> None:
    frame = frame_of(100, "abcd").astype({"score": float})
    frame = frame[(frame["model"] != "d") | (frame["id"].isin(["q1", "q2", "q3"]))]
    frame.loc[frame["id"].isin(["q7"]) & (frame["model"] == "b"), "score"] = np.nan
    expected = (
        "'d' 97 without a row; 'b' 1 without a quality; 3 of 100 queries have all models, and"
        " without 'd' 99 of 100 queries would be complete"
    )
    message = refusal(tmp_path, frame)
    assert expected in message
    assert "drop them with invalid='drop', which keeps 3 queries" in message
    result = command(tmp_path, frame, "--invalid", "drop")
    assert result.exit_code == 0, result.output
    assert f"Missing by model: {expected}" in result.output
    assert "3 queries, 4 models; dropped 291 rows of the file" in result.output
    assert read(tmp_path, frame, where=["model=a", "model=b", "model=c"], invalid="drop").notes == (
        "Missing by model: 'b' 1 without a quality",
    )


@pytest.mark.parametrize("seed", range(4))
def test_no_complete_query_names_the_most_complete_groups(tmp_path: Path, seed: int) -> None:
    frame = frame_of(60, "abcde", seed=seed)
    rng = np.random.default_rng(seed)
    ran = rng.random((60, 5)) < np.linspace(0.7, 0.3, 5)
    ran[ran.all(axis=1), 0] = False
    ran[~ran.any(axis=1), 1] = True
    frame = frame[ran.ravel()]
    message = refusal(tmp_path, frame, invalid="drop")
    share = ran[ran.any(axis=1)].mean()
    assert f"no query ran on all 5 models (cells present: {share:.0%}); the most" in message
    for size in (2, 3, 4):
        best = max(
            ran[:, list(g)].all(axis=1).sum() for g in itertools.combinations(range(5), size)
        )
        groups = [
            f"{size}{' models' * (size == 2)}: {', '.join(repr('abcde'[k]) for k in g)}: {best}"
            for g in itertools.combinations(range(5), size)
            if ran[:, list(g)].all(axis=1).sum() == best
        ]
        assert any(group in message for group in groups) or not best
    assert "where='model=NAME'" in message
    assert "--where model=NAME" in command(tmp_path, frame, "--invalid", "drop").output


def test_many_models_are_left_out_again_and_again() -> None:
    rng = np.random.default_rng(0)
    models = [f"m{k}" for k in range(40)]
    present = np.ones((500, 40), bool)
    present[:, :4] = rng.random((500, 4)) < 0.1
    text = absent_cells(models, {"without a row": ~present}, np.ones(500, bool))
    assert "no query ran on all 40 models" in text
    assert "36: 'm10', 'm11', 'm12', 'm13', 'm14', 'm15' and 30 more: 500" in text
    present[:] = True
    present[5:, 7] = False
    text = absent_cells(models, {"without a row": ~present}, np.ones(500, bool))
    assert "5 of 500 queries have all models, and without 'm7' 500 of 500 queries would" in text
    assert absent_cells(models, {"without a row": present & False}, np.ones(500, bool)) == ""


def test_two_rare_models_are_named_together() -> None:
    present = np.ones((100, 5), bool)
    present[4:, 1] = present[:96, 3] = False
    present[0] = True
    text = absent_cells(list("abcde"), {"without a row": ~present}, np.ones(100, bool))
    assert "; 1 of 100 queries have all models, and without 'b' 5 of 100 queries would" in text
    assert text.endswith("and without 'b', 'd' 100 of 100 queries would be complete")
    present = np.random.default_rng(0).random((100, 5)) < 0.99
    text = absent_cells(list("abcde"), {"without a row": ~present}, np.ones(100, bool))
    assert "would be complete" not in text
    two = np.array([[True, True], [True, False], [True, False]])
    text = absent_cells(list("ab"), {"without a row": ~two}, np.ones(3, bool))
    assert text == "missing by model: 'b' 2 without a row"


def noted(quality: Any, cost: Any, unit: str = "") -> str:
    shape = (200, np.shape(cost)[-1])
    quality, cost = (np.broadcast_to(np.float32(each), shape) for each in (quality, cost))
    models = tuple("abcdefgh"[: shape[1]])
    table = Table(np.array(quality), np.array(cost), models=models, cost_unit=unit)
    whole = scales_of(table)
    parts = scales_of(table.take(np.arange(70))) + scales_of(table.take(np.arange(70, 200)))
    assert parts.notes == whole.notes
    return "\n".join(whole.notes)


def test_notes_on_costs_and_qualities() -> None:
    rng = np.random.default_rng(0)
    quality, cost = rng.random((2, 200, 3))
    assert noted(quality, cost) == ""
    free = "free, or not priced?"
    assert noted(quality, cost * [0, 0, 1]) == f"models 'a' and 'b' cost 0 in every row: {free}"
    assert noted(quality, cost * [1, 0, 1]) == f"model 'b' costs 0 in every row: {free}"
    all_free = f"models 'a', 'b' and 'c' cost 0 in every row: {free}"
    assert noted(quality, cost * 0) == all_free
    partly = np.where(np.arange(200)[:, None] < [0, 40, 2], 0, cost)
    assert noted(quality, partly) == f"model 'b' costs 0 in up to 20% of the rows: {free}"
    same = "model 'c' has the same quality in every row (1): was it scored?"
    assert noted(np.where([0, 0, 1], 1, quality), cost) == same
    flat = "model 'a' costs the same in every row (0.5): a flat price, or a placeholder?"
    assert noted(quality, np.where([1, 0, 0], 0.5, cost)) == flat
    two = noted(quality, np.where([1, 0, 1], [0.5, 0, 5000], cost))
    assert two.startswith("models 'a' and 'c' cost the same in every row (0.5 and 5000): a flat")
    tiny = "models 'a', 'b' and 'c' cost less than 1e-09 per query on average: is the unit right?"
    assert noted(quality, cost * 1e-12) == tiny
    mixed = np.where(np.arange(200)[:, None] < 3, 100, quality.round())
    right = mixed[(mixed > 0) & (mixed <= 1)].size
    scale = f"{right:,} qualities lie above 0 and up to 1, and 9 above that, up to 100"
    assert noted(mixed, cost) == f"{scale}: are they on one scale?"
    assert noted(100 * quality.round(), cost) == noted(100 * quality, cost) == ""
    high = noted(quality, (cost + 1) * [1, 1, 2000], "USD")
    assert high.startswith("model 'c' costs 1,000 or more per query on average (up to $")
    assert noted(quality, (cost + 1) * [1, 1, 600], "USD") == ""
    span = noted(quality, (cost + 1) * [1e-9, 1, 10])
    assert span.startswith("costs span a factor of more than 1e+09, from 1e-09 (model 'a') to")
    assert noted(rng.random((200, 8)), np.zeros(8)).startswith("8 models cost 0 in every row")


def test_import_and_inspect_print_the_same_notes(tmp_path: Path) -> None:
    frame = frame_of(30)
    frame.loc[frame["model"] != "c", "cost"] = 0.0
    frame.loc[frame["model"] == "a", "score"] = 1
    result = command(tmp_path, frame)
    assert result.exit_code == 0, result.output
    free = "odels 'a' and 'b' cost 0 in every row: free, or not priced?"
    scored = "odel 'a' has the same quality in every row (1): was it scored?"
    assert f"M{free}\nM{scored}\n" in result.output
    inspected = CliRunner().invoke(main, ["inspect", str(tmp_path / "table.arrow")])
    assert f"m{free}" in inspected.output
    assert f"m{scored}" in inspected.output
    as_json = CliRunner().invoke(main, ["inspect", "--json", str(tmp_path / "table.arrow")])
    assert json.loads(as_json.output)["notes"] == [f"m{free}", f"m{scored}"]


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("quality", 1e30, "column 'quality', row 3: 1e+30 is too large; its magnitude must be"),
        ("quality", -1e6, "column 'quality', row 3: -1e+06 is too large"),
        ("quality_ante", 2e6, "column 'quality_ante', row 3: 2e+06 is too large"),
        (
            "cost",
            1e12,
            "column 'cost', row 3: 1e+12 is too large; its magnitude must be below 1e+12",
        ),
        ("cost_post", -1e13, "column 'cost_post', row 3: -1e+13 is too large"),
        ("cost", 9e11, None),
        ("quality", 9e5, None),
    ],
)
def test_tables_with_values_out_of_range_are_refused(
    tmp_path: Path, column: str, value: float, message: str | None
) -> None:
    values: dict[str, Any] = {
        name: np.ones((6, 2), np.float32) for name in ("quality", "cost", column)
    }
    values[column][3, 1] = value
    write_table(tmp_path / "table.arrow", Table(**values, models=("a", "b")))
    if message is None:
        assert read_table(tmp_path / "table.arrow").n_queries == 6
        return
    with pytest.raises(CascjaxError, match="row 3") as caught:
        read_table(tmp_path / "table.arrow")
    assert message in str(caught.value)
    with pytest.raises(CascjaxError, match="row 3"):
        list(cj.open(tmp_path / "table.arrow").read(cj.open(tmp_path).chunks, (column,)))


def test_draws_of_the_shared_log(shared_data: Path) -> None:
    path = shared_data / "date-draws.csv"
    names = ("query", "model", "correct", "completion_tokens")
    with pytest.raises(CascjaxError, match=r"7,011 rows repeat a query and model, 4,208 of them"):
        import_long(path, *names)
    table = import_long(path, *names, draws="mean").table
    means: Any = pd.read_csv(path).groupby("model")["correct"].mean()
    np.testing.assert_allclose(table.quality.mean(axis=0), means[list(table.models)], rtol=1e-6)
