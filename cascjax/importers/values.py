"""Numbers in text: words for right and wrong, percentages, currencies, separators."""

import re
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cascjax.data.schema import encode, refuse_rows

Quantity = Literal["quality", "cost", "number"]

MISSING = frozenset(
    ("", "-", ".", "na", "n/a", "#n/a", "#na", "<na>", "nan", "-nan", "null", "none", "missing")
)
"""Words for a missing number, in lower case."""

_RIGHT = (
    *("true", "t", "yes", "y", "pass", "passed", "correct", "c", "right"),
    *("success", "successful", "succeeded", "resolved", "solved"),
)
_WRONG = (
    *("false", "f", "no", "n", "fail", "failed", "failure", "incorrect", "i", "wrong"),
    *("unsuccessful", "unresolved", "unsolved"),
)
WORDS = dict.fromkeys(_RIGHT, 1.0) | dict.fromkeys(_WRONG, 0.0)
"""Words for a quality of 1 or 0, in lower case; C, I, P and N are those of Inspect."""
_BOOLEANS = {
    spelled for word in ("true", "false") for spelled in (word, word.title(), word.upper())
}

_CURRENCY = r"US\$|[$€£¥₹]|USD|EUR|GBP|JPY|CNY|RMB|INR"
_CODES = {"US$": "USD", "$": "USD", "€": "EUR", "£": "GBP", "¥": "JPY or CNY", "₹": "INR"}
_PARTS = re.compile(
    rf"(?P<sign>[+-]?)\s*(?P<before>{_CURRENCY})?\s*(?P<inner>[+-]?)"
    rf"(?P<digits>[\d.,\s'’]*\d[\d.]*)(?P<power>e[+-]?\d+)?\s*(?P<after>%|{_CURRENCY})?",
    re.IGNORECASE,
)
_SPACED = re.compile(r"\d{1,3}(?:[\s'’]\d{3})+(?=[.,]|$)")
_PLAIN = re.compile(r"\d+\.?\d*|\.\d+")
_THOUSANDS = re.compile(r"[1-9]\d{0,2}(?:,\d{3})+(?:\.\d*)?")
_DECIMAL = re.compile(r"\d{1,3}(?:\.\d{3})+,\d+|\d*,\d+")

_FIX = {
    "quality": "give numbers, or words such as true and false, pass and fail, C and I",
    "cost": "give numbers such as 0.01 or $0.01, and leave missing ones empty",
    "number": "give numbers, and leave missing ones empty",
}


class _BadValueError(ValueError):
    """Text that is not a number, by its position among the distinct texts."""


def parse_numbers(
    column: pa.ChunkedArray, quantity: Quantity, source: str, name: str, decimal_comma: bool = False
) -> tuple[pa.ChunkedArray, tuple[str, ...]]:
    """Return a column of text as float64, null where missing, and notes on what was converted.

    Words such as "True" and "fail" are 1 and 0 except in costs, "85%" is 0.85 except in costs, and
    "$0.01" is 0.01 in costs only. Commas separate thousands or decimals, as all values of the
    column allow; where both are possible, `decimal_comma` decides.

    Raises:
      BadRowsError: A value is not a number; the message has its column and row.

    Example:
      >>> column = pa.chunked_array([["50%", "NA"]])
      >>> values, notes = parse_numbers(column, "quality", "log.csv", "score")
      >>> values.to_pylist(), notes
      ([0.5, None], ("Column 'score': percentages are divided by 100: '50%' is 0.5",))
    """
    text = pc.call_function("utf8_trim_whitespace", [column.cast(pa.large_string())])
    blank = pc.call_function("equal", [text, pa.scalar("", pa.large_string())])
    nothing = pa.scalar(None, pa.large_string())
    text = pc.call_function("if_else", [blank.fill_null(True), nothing, text])
    try:
        return text.cast(pa.float64()), ()
    except pa.ArrowInvalid:
        codes, texts = encode(text.fill_null(""))
    try:
        values, notes = _parse(texts, quantity, decimal_comma)
    except _BadValueError as error:
        position, problem = error.args
        shown = texts[position] if len(texts[position]) <= 40 else f"{texts[position][:40]}..."
        refuse_rows(source, name, codes == position, f"{shown!r} {problem}", _FIX[quantity])
        raise AssertionError from error  # pragma: no cover - every distinct text has a row
    numbers = pa.array(values[codes], from_pandas=True)  # NaN is null
    return pa.chunked_array([numbers]), tuple(f"Column {name!r}: {note}" for note in notes)


def _parse(
    texts: Sequence[str], quantity: Quantity, decimal_comma: bool
) -> tuple[np.ndarray, list[str]]:
    """Return the numbers of distinct texts, and notes on what was converted."""
    values = np.full(len(texts), np.nan)
    lower = [text.lower() for text in texts]
    words = WORDS
    if ("c" in lower or "i" in lower) != ("f" in lower):  # P is partial beside C and I
        words = WORDS | {"p": 1.0 if "f" in lower else 0.5}
    used: dict[str, float] = {}
    parts: dict[int, re.Match[str]] = {}
    for i, (text, word) in enumerate(zip(texts, lower, strict=True)):
        if word in MISSING:
            continue
        if quantity != "cost" and word in words:
            values[i] = used[text] = words[word]
        elif word.lstrip("+-") in ("inf", "infinity"):
            values[i] = float(word)
        elif match := _PARTS.fullmatch(text):
            parts[i] = match
        else:
            raise _BadValueError(i, "is not a number")
    notes: dict[str, str] = {}
    if any(text.lower() not in ("true", "false") for text in used):  # which need no note
        pairs = [f"{text!r} is {value:g}" for text, value in list(used.items())[:6]]
        notes["words are read as numbers"] = ", ".join(pairs)
    digits = {
        i: _SPACED.sub(lambda spaced: re.sub(r"\D", "", spaced[0]), match["digits"])
        for i, match in parts.items()
    }
    commas = _convention(digits, decimal_comma)
    currencies: set[str] = set()
    percent = any(match["after"] == "%" for match in parts.values())
    for i, match in parts.items():
        if match["after"] == "%" and quantity == "cost":
            raise _BadValueError(i, "is a percentage, and costs are amounts")
        plain = digits[i].replace(",", "")
        if commas == "decimal":
            plain = digits[i].replace(".", "").replace(",", ".") if "," in digits[i] else digits[i]
        if not _PLAIN.fullmatch(plain) or (match["sign"] and match["inner"]):
            raise _BadValueError(i, "is not a number")
        negative = "-" in (match["sign"], match["inner"])
        value = float(plain + (match["power"] or "")) * (-1 if negative else 1)
        kind = ""
        if match["digits"] != plain:
            kind = "commas are decimal points" if commas == "decimal" else "thousands are separated"
        units = {match["before"], match["after"]} - {None, "%"}
        if units:
            currencies |= {_CODES.get(unit.upper(), unit.upper()) for unit in units}
            if quantity != "cost":
                raise _BadValueError(i, "is an amount of money")
            if len(currencies) > 1 or match["after"] == "%":
                raise _BadValueError(i, "has another unit than earlier values")
            kind = "the currency is left out"
        if percent and match["after"] != "%" and value and quantity != "cost":
            raise _BadValueError(i, "is not a percentage, as other values of the column are")
        if match["after"] == "%":
            # Dividing the decimal text, not the number, gives 0.07 for "7%".
            value = float(f"{value!r}e-2") if "e" not in repr(value) else value / 100
            kind = "percentages are divided by 100"
        values[i] = value
        if kind:
            notes.setdefault(kind, f"{texts[i]!r} is {value:g}")
    return values, [f"{kind}: {example}" for kind, example in notes.items()]


def _convention(digits: dict[int, str], decimal_comma: bool) -> str:
    """Return what commas separate, "decimal" or "thousands", consistent with all values."""
    thousands = decimal = True
    for i, text in digits.items():
        if "," in text:
            thousands &= _THOUSANDS.fullmatch(text) is not None
            decimal &= _DECIMAL.fullmatch(text) is not None
            if not (thousands or decimal):
                raise _BadValueError(i, "separates thousands or decimals unlike earlier values")
    commas = any("," in text for text in digits.values())
    if not commas or (thousands and not (decimal and decimal_comma)):
        return "thousands"
    for i, text in digits.items():
        if "." in text and "," not in text:
            raise _BadValueError(i, "has a decimal point where other values have a comma")
    return "decimal"
