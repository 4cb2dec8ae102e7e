r"""Answers in responses: conventions by which an answer is marked, and when two are the same.

A convention finds the part of a response that is its answer:

    boxed      The content of the last complete \boxed{..} or \fbox{..}, with nested braces.
    json       The value of "answer", "final_answer", "result", "choice" and the like in a JSON
               object that ends the response, or an <answer> tag.
    choice     A letter: alone, as "(B)" or "**B**"; first, as in "A. As ..."; alone on the last
               line; or stated once, as in "Answer: (C)", "the correct option is D", "I choose B".
               Where the prompt letters options (`prompts.options`), the letter must be one of
               them, and the text of an option stands for its letter.
    code       The first block of code that Python parses and that defines a function or class,
               or else the first block.
    stated     What follows "####", "answer is" or "Answer:" last: a number, or, after "####" or a
               colon, a text of at most 12 words.
    number     The number in the box, or the number that is stated, or else the last number of the
               response that does not number a line.
    last-line  The last line that is not empty.

"auto" takes the first of boxed, json, choice, code and stated that finds something; then number,
if the prompt asks for one: it says "how many", "calculate" and the like or has two numbers, and
asks for no code or prose; then the whole text. It depends on prompt and response alone, so a live
system identifies answers as an import did.

A marked text that is no number, such as "Answer: she has 42", counts by its last number where the
prompt asks for one.

Answers that different conventions find are compared by value. A number is exact, without units,
currency, percent signs, thousands separators and trailing zeros, so that 1/2, \frac{1}{2} and 0.50
are equal; 50% is 50. Letters are letters. Code is compared by its compiled form. Other texts are
compared without case, marks of emphasis and final punctuation.
"""

import json
import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from cascjax.features.prompts import question
from cascjax.words import share_text

CONVENTIONS = ("auto", "boxed", "number", "choice", "code", "json", "last-line")
"""Conventions that a caller may name."""

_OPEN, _CLOSE = r"[\s\"'(\[*$]*", r"[\s\"')\].:*$]*"
_END = r"(?=[)\].:;\"'*$\n]|\s*$|\s+(?:because|since|is)\b|\s+[-–—(])"
_BARE = re.compile(rf"{_OPEN}([A-Z]){_CLOSE}")
_LEADING = re.compile(rf"{_OPEN}([A-Z]){_END}")
_STATED_LETTER = (
    re.compile(
        r"\b(?i:answer|correct (?:option|choice))(?i:\s+is|\s+would be|\s+should be)?[*\s]*[:=]?"
        rf"(?i:[*\s]*(?:the\s+)?(?:option|choice|letter)\b)?{_OPEN}\b([A-Z]){_END}"
    ),
    re.compile(
        r"\b(?i:option|choice|letter|choose|pick|select|go with)(?i:\s+is)?[*\s]*:?"
        rf"{_OPEN}\b([A-Z]){_END}"
    ),
)
"""Forms that state a letter; the second counts where the first finds none."""

_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_TAG = re.compile(r"<(answer|final_answer|result)>\s*(.*?)\s*</\1>", re.DOTALL | re.IGNORECASE)
_FIELDS = (
    *("answer", "final_answer", "finalanswer", "result", "choice", "response", "output"),
    *("prediction", "label", "value"),
)
"""Fields of JSON that hold an answer, the first that is present; case and spaces do not count."""

_STATED = re.compile(
    r"(####|\b(?i:answer)(?i:\s+is\b[\s*]*:?|[\s*]*[:=]))[\s*_]*"
    r"(?i:(?:therefore|thus|about|approximately|equal to|simply)\s+)?(?=([^\n]*))"
)
_WORD = re.compile(
    r"[\W_]*(yes|no|true|false)\b(?=[\s*_]*(?:[.,;:!)]|$|(?:because|since)\b))", re.IGNORECASE
)
_LINE_MARK = re.compile(r"^[#*\s]*(?:(?:the\s+)?(?:final\s+)?answer(?:\s+is)?\s*[:*=]*\s*)?", re.I)
_LIST_MARK = re.compile(r"^[ \t]*\d+[.)](?=\s)", re.MULTILINE)
_LATEX = (
    (r"\\(?:text|textbf|mathrm|mathbf|mathit|mbox|operatorname)\s*\{([^{}]*)\}", r" \1 "),
    (r"(\d)?\s*\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}", r"\1 \2/\3"),
    (r"(\d)?\s*\\[dt]?frac\s*(\d)\s*(\d)", r"\1 \2/\3"),
    (r"-\s+(?=\d+/\d)", "-"),
    (r"(?<=\d)(?:\{,\}|\\[,!;:]|\\ )(?=\d{3})", ","),
    (r"\\([$%])", r"\1"),
    (r"\\[,!;:]|\\(?:left|right)\b|\\\(|\\\)|\\\[|\\\]", ""),
    (r"\^\s*\{?\\circ\}?|\\degree\b", "°"),
    ("[\N{MINUS SIGN}\N{EN DASH}]", "-"),
)
"""LaTeX that means plain characters, replaced in this order."""

_DIGITS = r"(?:\d{1,3}(?:[,'’\u00a0\u202f]\d{3})+(?!\d)|\d{1,60})(?:\.\d{1,60})?|\.\d{1,60}"
_NUMBER = re.compile(
    r"(?<![\w.^])(?P<sign>-?)[$€£¥₹]?\s?(?P<inner>-?)(?:"
    r"(?P<clock>\d{1,2}:\d{2})(?![\d:])"
    r"|(?P<mixed>\d{1,9})\s+(?P<part>\d{1,9})\s?/\s?(?P<parts>[1-9]\d{0,8})"
    rf"|(?P<value>{_DIGITS})(?:[eE](?P<exponent>[+-]?\d{{1,2}})(?!\w))?"
    r"(?:\s?/\s?(?P<over>\d{1,60}(?:\.\d{1,60})?))?"
    r")(?:\s?(?P<scale>(?i:thousand|million|billion|trillion))\b)?"
)
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_UNITS = re.compile(r"[%°]?(?:[A-Za-z]{2}[\w/²³.]*)?(?:\s+[A-Za-z°%][\w/²³°.%$-]*){0,3}[\s.$*]*")
_JOINED = re.compile(r"\b(?:and|or|to|by|plus|minus|times)\b")

_ASKS_NUMBER = re.compile(
    r"\bhow (?:many|much|far|long|old|tall|fast|often|big|heavy|wide|deep)\b", re.IGNORECASE
)
_ASKS_MATHS = re.compile(
    r"\b(?:calculate|compute|evaluate|solve|add|subtract|multiply|divide|sum|total|difference"
    r"|product|quotient|average|median|percent|percentage|probability|number|remainder|integer"
    r"|area|volume|perimeter|cost|price|profit|\d[\d,.]*\D+\d)",
    re.IGNORECASE,
)
_ASKS_OTHER = re.compile(
    r"```|\bassert\b|\b(?:python|function|program|code|script|sql|write|compose|draft|essay|poem"
    r"|story|translate|summari[sz]e|explain|describe|rewrite)\b",
    re.IGNORECASE,
)


def asks_number(prompt: str) -> bool:
    """Return whether a prompt asks for a number, as far as its words tell."""
    text = question(prompt)
    if _ASKS_NUMBER.search(text):
        return True
    return bool(_ASKS_MATHS.search(text)) and not _ASKS_OTHER.search(text)


def boxed(response: str) -> str | None:
    r"""Return the content of the last complete \boxed{..} that is not empty, if any."""
    for start in reversed([match.end() for match in _BOX.finditer(response)]):
        depth = 1
        for end in range(start, len(response)):
            depth += (response[end] == "{") - (response[end] == "}")
            if depth == 0:
                content = response[start:end].strip()
                while content.startswith("{") and content.endswith("}"):
                    content = content[1:-1].strip()
                if content:
                    return content
                break
    return None


def json_answer(response: str) -> str | None:
    """Return the answer in a JSON object that ends a response, or in a tag, if any."""
    if tags := _TAG.findall(response):
        return tags[-1][1]
    text = response.rstrip("` \n")
    if not text.endswith("}"):
        return None
    start = -1
    for _ in range(32):  # enclosing objects come later than the objects in them
        if (start := text.find("{", start + 1)) < 0:
            return None
        try:
            value = json.loads(text[start:])
        except (ValueError, RecursionError):
            continue
        return _field(value)
    return None


def _field(value: Any) -> str | None:
    if not isinstance(value, dict):
        return None if value is None else _text_of(value)
    named = {
        str(k).strip().lower().replace(" ", "_").replace("-", "_"): v for k, v in value.items()
    }
    for name in _FIELDS:
        if named.get(name) is not None:
            return _text_of(named[name])
    return None


def _text_of(value: Any) -> str:
    if isinstance(value, dict):
        inner = _field(value)
        return json.dumps(value, sort_keys=True) if inner is None else inner
    return value if isinstance(value, str) else json.dumps(value)


def letter(response: str) -> tuple[str, bool]:
    """Return the letter that a response names, if any, and whether it has nothing else."""
    if match := _BARE.fullmatch(response):
        return match[1], True
    if match := _LEADING.match(response):
        return match[1], False
    if match := _BARE.fullmatch(last_line(response)):
        return match[1], False
    for form in _STATED_LETTER:
        if stated := set(form.findall(response)):
            return (stated.pop(), False) if len(stated) == 1 else ("", False)
    return "", False


def last_line(response: str) -> str:
    """Return the last line that is not empty, if any, without a mark such as "Answer:"."""
    return _LINE_MARK.sub("", response.rstrip().rpartition("\n")[2].strip())


def stated(response: str) -> str | None:
    """Return what a response states last as its answer, a number or a short text, if any."""
    for mark, rest in reversed(_STATED.findall(response)):
        # Of "18 * 2 = 36", the answer is 36.
        if value := leading_number(rest.rpartition("=")[2]) or leading_number(rest):
            return value
        if _BARE.fullmatch(rest):
            return rest
        if word := _WORD.match(rest):
            return word[1]
        if (
            not mark.rstrip(" *\n").lower().endswith("is")
            and rest.strip()
            and len(rest.split()) <= 12
        ):
            return rest
    # "No" begins many answers that are numbers.
    word = None if re.search(r"\d", response) else _WORD.match(response)
    return word[1] if word else None


def leading_number(text: str) -> str:
    """Return the number that a text begins with, after an equals sign if there is one."""
    text = re.sub(r"^[\s*_$(\"']*(?:\\?[A-Za-z]\w*\s*=\s*)?", _keep_currency, plain(text))
    match = _NUMBER.match(text)
    return "" if match is None else _value(match)


def _keep_currency(match: re.Match[str]) -> str:
    return "$" * match[0].endswith("$")


def last_number(response: str) -> str:
    """Return the last number of a response that does not number a line, if any."""
    text = plain(_LIST_MARK.sub("", response))
    values = [value for match in _NUMBER.finditer(text) if (value := _value(match))]
    return values[-1] if values else ""


def plain(text: str) -> str:
    """Return a text with the LaTeX of numbers and units replaced by plain characters."""
    if "\\" in text or "{" in text or not text.isascii():
        for pattern, replacement in _LATEX:
            text = re.sub(pattern, replacement, text)
    return text


def _value(match: re.Match[str]) -> str:
    """Return the canonical form of a number, empty if it is divided by 0."""
    if match["clock"]:
        return match["clock"]
    if match["mixed"]:
        value = int(match["mixed"]) + Fraction(int(match["part"]), int(match["parts"]))
    else:
        value = Fraction(re.sub(r"[^\d.]", "", match["value"]))
        value *= Fraction(10) ** int(match["exponent"] or 0)
        over = Fraction(match["over"] or 1)
        if not over:
            return ""
        value /= over
    value *= _SCALES.get((match["scale"] or "").lower(), 1)
    if (match["sign"] or match["inner"]) and value:
        value = -value
    return str(value.numerator) if value.denominator == 1 else f"{float(value):.12g}"


def identity(content: str, letters: Mapping[str, str] | None = None) -> str | None:
    r"""Return the identity of an answer's text: a letter, a number or a text, None if it is empty.

    Args:
      content: Text of the answer.
      letters: Letter of each option of the prompt by its text, as `plain_text` returns it.

    Example:
      >>> identity("(B)"), identity(r"x = \frac{1}{2}"), identity("**Paris.**")
      ('choice B', 'number 0.5', 'text paris')
    """
    text, letters = plain(content).strip().strip("$").strip(), letters or {}
    match = _BARE.fullmatch(text) or re.fullmatch(r"\(?([A-Z])[).:]\s.*", text, re.DOTALL)
    if match is None and letters:
        match = re.fullmatch(r"\(?([a-z])[).:]*", text)
    if match is not None and (not letters or match[1].upper() in letters.values()):
        return f"choice {match[1].upper()}"
    if option := letters.get(plain_text(text)):
        return f"choice {option}"
    right = re.sub(r"^\s*\\?[A-Za-z]\w*\s*(?:\([\w, ]*\)\s*)?=\s*", "", text)
    number = _NUMBER.match(right)
    if number is not None and (value := _value(number)):
        units = right[number.end() :]
        if _UNITS.fullmatch(units) and not _JOINED.search(units):
            return f"number {value}"
    if "\\" in text:  # white space means nothing in LaTeX
        text = "".join(text.split())
    return f"text {words}" if (words := plain_text(text)) else None


def plain_text(text: str) -> str:
    """Return a text without case, emphasis, surrounding punctuation and runs of white space."""
    return " ".join(text.split()).strip(" .*_`\"'").casefold()


def agreements(answer: Int[np.ndarray, "N K"]) -> Float[np.ndarray, " J"]:
    """Return the number of queries on which each of the K (K - 1) / 2 pairs of models agrees."""
    pairs = combinations(answer.T, 2)
    return np.array([np.sum((a == b) & (a >= 0)) for a, b in pairs], np.float64)


def agreement_text(agreed: Float[np.ndarray, " J"], n_queries: int, models: Sequence[str]) -> str:
    """Return in words how often models agree, given what `agreements` counts."""
    shares, pairs = agreed / max(n_queries, 1), list(combinations(models, 2))
    if not pairs:
        return ""
    if len(pairs) == 1:
        return f"the two models agree on {share_text(shares[0], '0%')} of queries"
    least, most = (
        f"{share_text(shares[i], '0%')} ({' and '.join(pairs[i])})"
        for i in (shares.argmin(), shares.argmax())
    )
    return (
        f"two models agree on {share_text(shares.mean(), '0%')} of queries, from {least} to {most}"
    )
