"""JSON of dataclasses: each field is read by its annotation, or refused by its name.

What is read may have been edited by anyone, so nothing in it is trusted: numbers must be numbers,
names must be known, and nothing but lists, numbers and strings is built from it.
"""

import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

import msgspec
import numpy as np

from cascjax.errors import CascjaxError, unknown_name

T = TypeVar("T")

_NESTED: tuple[Any, ...] = (
    list[float], list[list[float]], list[list[list[float]]], list[list[list[list[float]]]],
)  # fmt: skip
"""JSON of arrays with 1 to 4 axes."""


def from_json(content: Any, kind: type[T], where: str) -> T:
    """Return JSON content as a dataclass or msgspec.Struct; arrays are float64."""
    try:
        value = msgspec.convert(content, kind, dec_hook=_array)
    except msgspec.ValidationError as error:
        raise CascjaxError(_message(str(error), where)) from error
    _refuse_unknown(content, value, where)
    return value


def to_json(value: Any) -> Any:
    """Return what `from_json` reads: dictionaries, lists, numbers and strings.

    A float32 array is written with the fewest digits that give the same float32.
    """
    if hasattr(value, "__array__"):
        array = np.asarray(value)
        if array.dtype == np.float32:
            array = array.ravel().astype(str).astype(np.float64).reshape(array.shape)
        return array.tolist()
    if is_dataclass(value):
        return {field.name: to_json(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {name: to_json(item) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_json(item) for item in value]
    return value


def _array(kind: Any, content: Any) -> np.ndarray:
    """Return nested lists of numbers as an array."""
    if kind is not np.ndarray:
        raise NotImplementedError(kind)
    n_axes, inner = 0, content
    while isinstance(inner, list) and n_axes < len(_NESTED):
        n_axes, inner = n_axes + 1, inner[0] if inner else None
    try:
        # Checked before NumPy sees it, which would make long strings of everything else.
        checked = msgspec.convert(content, _NESTED[max(n_axes, 1) - 1])
        return np.array(checked, np.float64)
    except (msgspec.ValidationError, ValueError) as error:
        raise ValueError("must be an array of numbers") from error


def _message(text: str, where: str) -> str:
    """Return a message of msgspec with the field's name first."""
    text, _, path = text.partition(" - at ")
    field = where + path.strip("`").removeprefix("$") if path else where
    text = re.sub(r"`(\w+)`", r"'\1'", text)
    if not text.startswith("must"):
        text = f"is wrong ({text[:1].lower()}{text[1:]})"
    return f"{field!r} {text}; refit the policy"


def _refuse_unknown(content: Any, value: Any, where: str) -> None:
    """Refuse what the content says beyond the fields of the classes that were read from it."""
    if isinstance(content, list) and isinstance(value, tuple):
        for place, (part, item) in enumerate(zip(content, value, strict=True)):
            _refuse_unknown(part, item, f"{where}[{place}]")
    if not isinstance(content, dict):
        return
    if isinstance(value, Mapping):
        for name, item in value.items():
            _refuse_unknown(content[name], item, f"{where}.{name}")
    names = getattr(value, "__struct_fields__", ())
    if is_dataclass(value):
        names = tuple(field.name for field in fields(value))
    for name in content if names else ():
        if name not in names:
            raise unknown_name(f"field of {where!r}", name[:40], names)
        _refuse_unknown(content[name], getattr(value, name), f"{where}.{name}")
