"""Texts of numbers and names."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cascjax import words

CASES: list[tuple[Callable[..., Any], tuple[Any, ...], Any]] = [
    (words.counted, (0, "row"), "0 rows"),
    (words.counted, (1, "row"), "1 row"),
    (words.counted, (12_345, "row"), "12,345 rows"),
    (words.counted, (1, "query is", "queries are"), "1 query is"),
    (words.counted, (3, "query is", "queries are"), "3 queries are"),
    (words.short_names, (["a/b", "c/d"],), ["b", "d"]),
    (words.short_names, (["a/b", "c/b", "d"],), ["a/b", "c/b", "d"]),
    (words.short_names, (["org/", "", "x\ny"],), ["org", "(unnamed)", "x\ufffdy"]),
    (words.short_names, (["m" * 30],), ["m" * 11 + "…" + "m" * 12]),
    (words.cost_texts, ([0.0000819, 0.005036],), ["0.0000819", "0.0050360"]),
    (words.cost_texts, ([0.0, 1.5],), ["0.00", "1.50"]),
    (words.cost_texts, ([1234.5, 99999.0],), ["1,234", "99,999"]),
    (words.cost_texts, ([1e-12, 1.0],), ["1e-12", "1"]),
    (words.cost_texts, ([],), []),
    (words.gain_text, (-1e-9,), "0.0000"),
    (words.gain_text, (1e-9,), "0.0000"),
    (words.gain_text, (np.nan,), "–"),
    (words.quality_text, (87.654,), "87.65"),
    (words.quality_text, (1e30,), "1e+30"),
    (words.share_text, (0.0,), "–"),
    (words.share_text, (1e-4,), "<1%"),
    (words.share_text, (0.5,), "50%"),
    (words.share_text, (0.999,), ">99%"),
    (words.share_text, (1.0,), "100%"),
    (words.percent_text, (0.95,), "95%"),
    (words.price_text, (0.0178, "USD/query"), "$0.0178"),
    (words.price_text, (12.0, "seconds"), "12.0 seconds"),
    (words.listed, (["a"],), "a"),
    (words.listed, (["a", "b", "c"],), "a, b and c"),
]


@pytest.mark.parametrize(("text", "arguments", "expected"), CASES)
def test_texts(text: Callable[..., Any], arguments: tuple[Any, ...], expected: Any) -> None:
    assert text(*arguments) == expected


def test_short_names_stay_distinct() -> None:
    labels = words.short_names([f"{'x' * 20}{i}{'y' * 20}" for i in range(11)])
    assert len(set(labels)) == 11
    assert max(map(len, labels)) <= 24
