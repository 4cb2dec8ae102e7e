"""Texts of numbers and names, the same in messages, tables and pages."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence


def counted(count: int, singular: str, plural: str = "") -> str:
    """Return a number and its noun, such as "1 row" or "2,000 rows".

    Args:
      count: How many there are.
      singular: Noun of exactly one.
      plural: Noun of any other number. [default: `singular` with an "s"]

    Example:
      >>> counted(2000, "row")
      '2,000 rows'
    """
    return f"{count:,} {singular if count == 1 else plural or singular + 's'}"


def plain(text: object) -> str:
    """Return `text` as one printable line: names from files go to terminals and into XML."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(text))


def listed(names: Sequence[str]) -> str:
    """Return names as an enumeration: "a, b and c"."""
    return " and ".join([*filter(None, [", ".join(names[:-1])]), *names[-1:]])


def short_names(names: Iterable[object], width: int = 24) -> list[str]:
    """Return distinct labels of at most `width` characters: the last path component if unique."""
    full = [plain(name) for name in names]
    last = [name.rstrip("/").rsplit("/", 1)[-1].strip() or name or "(unnamed)" for name in full]
    unique = Counter(last)
    labels = [
        _cut(short if unique[short] == 1 else name, width)
        for short, name in zip(last, full, strict=True)
    ]
    unique = Counter(labels)
    return [
        label if unique[label] == 1 else f"{_cut(label, width - 5)} #{i}"
        for i, label in enumerate(labels, 1)
    ]


def _cut(text: str, width: int) -> str:
    """Return `text` without its middle: model names end with versions and sizes."""
    if len(text) <= width:
        return text
    head = (width - 1) // 2
    return f"{text[:head]}…{text[len(text) - (width - 1 - head) :]}"


def unit_text(unit: str) -> str:
    """Return a cost unit without its "per query", which every cost here is, known or not."""
    return plain(unit).removesuffix("/query")


def headed(name: str, unit: str) -> str:
    """Return the heading of a column of costs: "cost (USD)"."""
    unit = unit_text(unit)
    return f"{plain(name)} ({unit})" if unit else plain(name)


def price_text(value: float, unit: str) -> str:
    """Return a cost and its unit in prose: "$0.0178", "12.0 seconds"."""
    text, unit = cost_text(value), unit_text(unit)
    return f"${text}" if unit == "USD" else f"{text} {unit}".rstrip()


def cost_text(value: float) -> str:
    """Return a cost with three significant digits, without an exponent where that is readable."""
    return cost_texts([value])[0]


def cost_texts(values: Iterable[float]) -> list[str]:
    """Return costs with one number of decimals, so that a column of them lines up.

    The smallest positive one keeps three significant digits.
    """
    costs = [float(v) for v in values]
    sizes = [abs(v) for v in costs if math.isfinite(v) and v]
    decimals = max(0, 2 - math.floor(math.log10(min(sizes)))) if sizes else 0
    if decimals > 8 or (sizes and max(sizes) >= 1e9):
        return [f"{v:.3g}" for v in costs]
    return [f"{v:,.{decimals}f}" for v in costs]


def quality_text(value: float, decimals: int = 4) -> str:
    """Return a quality or AUC: `decimals` on a scale of 0 to 1, 2 fewer on a scale up to 100."""
    if not math.isfinite(value):
        return "–"
    if abs(value) >= 1e7:
        return f"{value:.4g}"
    decimals -= 0 if abs(value) < 10 else 2
    return f"{round(value, decimals) + 0.0:,.{decimals}f}"  # + 0.0: no minus before zero


def gain_text(value: float, decimals: int = 4) -> str:
    """Return a difference of qualities, signed."""
    text = quality_text(value, decimals)
    return f"+{text}" if value > 0 and text.strip("0.") else text


def interval_text(ends: Sequence[float] | None, between: str = " to ") -> str:
    """Return an interval of qualities or AUCs; a dash where there is none."""
    return "–" if ends is None else between.join(quality_text(float(end)) for end in ends)


def percent_text(confidence: float) -> str:
    """Return a confidence in percent."""
    return f"{100 * confidence:.4g}%"


def share_text(value: float, none: str = "–") -> str:
    """Return a share of queries in whole percent; a dash, or another text, for 0."""
    if value <= 0:
        return none
    if round(100 * value) == 0:
        return "<1%"
    # What falls short of all queries must not read as all of them.
    return ">99%" if round(100 * value) == 100 and value < 1 - 1e-9 else f"{value:.0%}"
