"""Numbers and their nouns."""

import pytest

from cascjax.words import counted


@pytest.mark.parametrize(
    ("count", "nouns", "says"),
    [
        (0, ("row",), "0 rows"),
        (1, ("row",), "1 row"),
        (2, ("row",), "2 rows"),
        (12_345, ("row",), "12,345 rows"),
        (1, ("query is", "queries are"), "1 query is"),
        (3, ("query is", "queries are"), "3 queries are"),
    ],
)
def test_a_noun_agrees_with_its_number(count: int, nouns: tuple[str, ...], says: str) -> None:
    assert counted(count, *nouns) == says
