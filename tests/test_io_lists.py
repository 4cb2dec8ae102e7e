"""Signals of lists beside an answer: log-probabilities of tokens, and class distributions."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from scipy.stats import entropy
from test_importers import KINDS, refusal, save

from cascjax.cli.main import main
from cascjax.data import from_arrow, read_table
from cascjax.importers import import_long

NAMES = ("id", "model", "score", "usd")
LOGPROBS = [[-0.5, -1.5, -0.1], [-2.0], None, [], [-0.25, 0.0], [-1.0, -3.0]]
CLASSES = [[0.7, 0.2, 0.1], [0.5, 0.5], None, [], [1.0, 0.0, 0.0, 0.0], [0.1, 0.2, 0.7002]]


def log(**replaced: Any) -> dict[str, Any]:
    return {
        "id": ["a", "a", "b", "b", "c", "c"],
        "model": ["m", "n"] * 3,
        "score": [0.0, 1, 1, 1, 0, 1],
        "usd": [1.0, 2, 1, 2, 1, 2],
        "lp": LOGPROBS,
        "p": CLASSES,
    } | replaced


@pytest.mark.parametrize("kind", KINDS)
def test_signals_are_what_each_list_says_by_itself(tmp_path: Path, kind: str) -> None:
    path = save(tmp_path, log(), kind)
    found = import_long(path, *NAMES, logprobs="lp", class_probabilities="p")
    table = from_arrow(found.arrow, "log")
    assert table.signal_names == (
        "logprob_mean", "logprob_last", "class_entropy", "class_margin",
    )  # fmt: skip
    assert table.signals is not None
    expected = np.full((6, 4), np.nan)
    for row, (logprobs, p) in enumerate(zip(LOGPROBS, CLASSES, strict=True)):
        if logprobs:
            expected[row, :2] = np.mean(logprobs), logprobs[-1]
        if p:
            low, high = np.sort(np.array(p) / np.sum(p))[-2:]
            expected[row, 2:] = entropy(p), high - low
    np.testing.assert_allclose(table.signals.reshape(6, 4), expected, atol=1e-6)  # float32


def test_other_kinds_of_lists_and_none_at_all(tmp_path: Path) -> None:
    whole = pa.array([[-1, -2]] * 6, pa.list_(pa.int64(), 2))
    path = save(tmp_path, log(lp=whole, p=pa.nulls(6)), "parquet")
    found = import_long(path, *NAMES, logprobs="lp", class_probabilities="p")
    signals = np.array(found.arrow["signals"].to_pylist(), float).reshape(6, 4)
    np.testing.assert_array_equal(signals[:, :2], [[-1.5, -2]] * 6)
    assert np.isnan(signals[:, 2:]).all()


def test_refusals(tmp_path: Path) -> None:
    def said(kind: str = "parquet", **replaced: Any) -> str:
        path = save(tmp_path, log(**replaced), kind)
        return refusal(import_long, path, *NAMES, logprobs="lp", class_probabilities="p")

    ok = [[0.5, 0.5]] * 5
    assert "column 'lp', row 1 (and 2 more): a log-probability above 0" in said(
        lp=[[-1.0], [0.5]] * 3
    )
    assert "row 0 (and 5 more): a number that is missing" in said(lp=[[-1.0, float("nan")]] * 6)
    assert "row 0 (and 5 more): a number that is missing" in said(lp=[[-float("inf")]] * 6)
    assert "column 'p', row 5: probabilities that do not sum to 1" in said(p=[*ok, [0.5, 0.4]])
    assert "column 'p', row 5: a negative probability" in said(p=[*ok, [1.5, -0.5]])
    assert "column 'p', row 5: a distribution of one class" in said(p=[*ok, [1.0]])
    assert "must hold lists of numbers, not double" in said(lp=[-1.0] * 6)
    assert "row 0: 'x' is no list of numbers" in said("csv", lp=["x"] * 6)
    assert "row 0: '3' is no list of numbers" in said("csv", lp=["3", *["[-1]"] * 5])
    assert "row 0: '[\"a\"]' is no list of numbers" in said("csv", lp=['["a"]', *["[-1]"] * 5])
    path = save(tmp_path, log(), "parquet")
    assert "named for two things" in refusal(import_long, path, *NAMES, logprobs="score")


def test_the_command(tmp_path: Path) -> None:
    path, table = save(tmp_path, log(), "csv"), tmp_path / "t.arrow"
    words = ["import", "long", str(path), str(table), "--query", "id", "--model", "model"]
    words += ["--quality", "score", "--cost", "usd", "--logprobs", "lp"]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    assert "2 signals a model" in done.output
    assert read_table(table).signal_names == ("logprob_mean", "logprob_last")
