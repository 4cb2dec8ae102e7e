"""Lists of numbers as features and signals, embeddings, and repeated runs."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import cascjax as cj
from cascjax.errors import CascjaxError
from cascjax.importers import import_long

NAMES = ("id", "llm", "score", "usd")
NAN = float("nan")


def log(n: int = 30, d: int = 5) -> tuple[pd.DataFrame, np.ndarray]:
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(n, d)) @ np.diag([5, 2, 1, 0.1, 0.1][:d])
    cells = [(f"q{i}", m, float(i % 2), 1.0 + i, vectors[i].tolist(), [i, 0.5]) for i in range(n)
             for m in ("a", "b")]  # fmt: skip
    columns = ["id", "llm", "score", "usd", "vector", "pair"]
    return pd.DataFrame(cells, columns=columns), vectors


@pytest.mark.parametrize("kind", ["frame", "jsonl", "csv", "parquet"])
def test_embeddings_and_lists(tmp_path: Path, kind: str) -> None:
    frame, vectors = log()
    data: Any = frame
    if kind == "jsonl":
        data = tmp_path / "log.jsonl"
        data.write_text("\n".join(map(json.dumps, frame.to_dict("records"))))
    elif kind == "csv":
        data = tmp_path / "log.csv"
        frame.to_csv(data, index=False)
    elif kind == "parquet":
        data = tmp_path / "log.parquet"
        frame.to_parquet(data)
    lists = {"extra_features": {"f": "pair"}, "embedding": "vector"}
    table = import_long(data, *NAMES, **lists).table
    assert table.feature_names == (*(f"embedding_{i}" for i in range(5)), "f_0", "f_1")
    np.testing.assert_allclose(table.features[:, :5], vectors, rtol=1e-6)  # pyright: ignore
    np.testing.assert_array_equal(table.features[:, 5], np.arange(30))  # pyright: ignore
    table = import_long(data, *NAMES, extra_signals={"s": "pair"}).table
    assert table.signal_names == ("s_0", "s_1")
    assert table.signals is not None
    np.testing.assert_array_equal(table.signals[3], [3, 0.5, 3, 0.5])


def test_principal_components() -> None:
    from sklearn.decomposition import PCA

    frame, vectors = log()
    table = import_long(frame, *NAMES, embedding="vector", embedding_components=2).table
    expected = PCA(2).fit_transform(vectors)
    assert table.features is not None
    signs = np.sign(np.sum(table.features * expected, axis=0))
    np.testing.assert_allclose(table.features * signs, expected, rtol=1e-4, atol=1e-5)


def test_lists_that_do_not_fit() -> None:
    frame, _ = log()

    def message(**options: Any) -> str:
        with pytest.raises(CascjaxError) as caught:
            import_long(frame, *NAMES, **options)
        return str(caught.value)

    frame["vector"] = [*frame["vector"][:5], [1.0], *frame["vector"][6:]]
    assert "column 'vector', row 5: 1 numbers where other lists have 5" in message(
        embedding="vector"
    )
    frame["vector"] = [[]] * 60
    assert "has no list of numbers" in message(embedding="vector")
    assert "embedding_components needs embedding" in message(embedding_components=3)
    frame["vector"] = [[1.0, None]] * 60
    import_long(frame, *NAMES, embedding="vector")  # a missing number is NaN


def runs(n: int = 40, draws: int = 3) -> pd.DataFrame:
    rng = np.random.default_rng(2)
    cells = [(f"q{i}", m, j) for i in range(n) for j in range(draws) for m in ("a", "b", "c")
             if m != "c" or j == 0]  # fmt: skip
    frame = pd.DataFrame(cells, columns=["id", "llm", "run"])
    frame["score"] = rng.random(len(frame)).round(2)
    frame["usd"] = rng.random(len(frame))
    return frame


def test_the_number_and_variance_of_draws_are_kept(tmp_path: Path) -> None:
    frame = runs()
    result = import_long(frame, *NAMES, draws="mean")
    table = result.table
    np.testing.assert_array_equal(table.draws, [[3, 3, 1]] * 40)  # pyright: ignore
    variances: Any = frame.groupby(["id", "llm"], sort=False)["score"].var()
    grouped = variances.unstack(sort=False)
    expected = grouped.loc[result.query_id.to_pylist(), list(table.models)].to_numpy()
    np.testing.assert_allclose(table.quality_variance, expected, atol=1e-6)  # pyright: ignore
    assert any(
        note.startswith("Run-to-run noise, at most: the quality of") for note in result.notes
    )
    for suffix in ("arrow", "parquet"):
        path = tmp_path / f"t.{suffix}"
        cj.write_table(path, result.arrow)
        assert cj.read_table(path) == table
        assert {"draws", "quality_variance"} <= cj.open(path).columns
    chosen = table.select_models(["c", "a"])
    np.testing.assert_array_equal(chosen.draws, [[1, 3]] * 40)  # pyright: ignore
    assert import_long(frame, *NAMES, draws="first").table.draws is None


def test_failed_calls_and_dropped_queries() -> None:
    rng = np.random.default_rng(3)
    frame = pd.DataFrame([(f"q{i}", m) for i in range(200) for m in "ab"], columns=["id", "llm"])
    hard = np.repeat(np.arange(200) < 40, 2)
    frame["score"] = np.where(hard, 0.0, rng.integers(2, size=400))
    frame["usd"] = np.where(hard, 2.0, 1.0) + rng.random(400) / 9
    frame["state"] = np.where(hard & (frame["llm"] == "b"), "timeout", "done")
    frame.loc[3, "state"] = "cached"
    words: dict[str, Any] = {"status": "state", "ok": ["done", "cached"]}
    with pytest.raises(CascjaxError, match="missing by model: 'b' 39 failed"):
        import_long(frame, *NAMES, **words)
    result = import_long(frame, *NAMES, **words, invalid="drop")
    assert result.table.n_queries == 161
    quality, cost = [note for note in result.notes if note.startswith("Dropped queries differ")]
    kept = frame[(frame["llm"] == "a") & ~(hard & (frame["id"] != "q1"))]["score"].mean()
    assert f"mean quality of 'a' is 0 in 39 dropped ones, {kept:.3g} in kept ones" in quality
    assert "mean cost of 'a' is 2." in cost
    without = frame.assign(score=np.arange(400) // 2 % 2, usd=1.0)
    notes = import_long(without, *NAMES, **words, invalid="drop").notes
    assert not [note for note in notes if note.startswith("Dropped queries")]
    with pytest.raises(CascjaxError, match="column 'state': unknown status 'ok'"):
        import_long(frame, *NAMES, status="state", ok=["ok"])
    with pytest.raises(CascjaxError, match="status and ok need each other"):
        import_long(frame, *NAMES, status="state")


def test_draws_as_models() -> None:
    frame = runs()
    table = import_long(frame, *NAMES, draws="arms").table
    assert table.models == ("a#1", "a#2", "a#3", "b#1", "b#2", "b#3", "c")
    for model in table.models:
        name, _, draw = model.partition("#")
        rows = frame[(frame["llm"] == name) & (frame["run"] == int(draw or 1) - 1)]
        np.testing.assert_allclose(
            table.quality[:, table.models.index(model)], rows["score"], rtol=1e-6
        )
    lacking = (frame["id"] == "q7") & (frame["llm"] == "a") & (frame["run"] == 2)
    with pytest.raises(CascjaxError, match=r"'a#3' 1 without a row"):
        import_long(frame[~lacking], *NAMES, draws="arms")
