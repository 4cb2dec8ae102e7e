"""Words that go with a number."""


def counted(count: int, one: str, many: str = "") -> str:
    """A number and its noun: "1 row", "2,000 rows".

    Args:
        count: how many there are.
        one: the noun of one of them.
        many: the noun of any other number; by default the same with an "s".
    """
    return f"{count:,} {one if count == 1 else many or one + 's'}"
