"""Fields of JSON that someone may have changed: each held to its type, or refused by its name."""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from cascjax.errors import CascjaxError, unknown_name

_WORDS = {dict: "object", list: "list", str: "string", int: "whole number", bool: "true or false"}

_BIGGEST = sys.float_info.max


def known(found: dict[str, Any], where: str, names: Sequence[str]) -> None:
    """Refuse an object that lacks one of these fields, or has another.

    Raises:
        CascjaxError: it does.
    """
    for name in names:
        if name not in found:
            raise CascjaxError(f"{where} lacks the field {name!r}: fit again")
    for name in found:
        if name not in names:
            raise unknown_name(f"field of {where}", name[:40], names)


def typed(found: dict[str, Any], name: str, kind: type) -> Any:
    """A field of a type: dict, list, str, int or bool.

    Raises:
        CascjaxError: it is of another.
    """
    if type(found[name]) is not kind:
        raise CascjaxError(f"the field {name[:40]!r} is no {_WORDS[kind]}: fit again")
    return found[name]


def names(found: dict[str, Any], name: str) -> tuple[str, ...]:
    """A field that is a list of strings.

    Raises:
        CascjaxError: it is none.
    """
    listed = typed(found, name, list)
    if not all(isinstance(one, str) for one in listed):
        raise CascjaxError(f"the field {name!r} is no list of strings: fit again")
    return tuple(listed)


def number(value: object, name: str) -> float:
    """A number of float64.

    Raises:
        CascjaxError: it is none.
    """
    # A whole number of JSON may be beyond any float.
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise CascjaxError(f"the field {name!r} holds what is no number: fit again")
    if not -_BIGGEST <= value <= _BIGGEST:
        raise CascjaxError(f"the field {name!r} holds what is no number of float64: fit again")
    return float(value)


def array(found: dict[str, Any], name: str, *axes: int) -> np.ndarray:
    """A field that is an array of numbers, of one of these numbers of axes.

    Raises:
        CascjaxError: it is none.
    """
    listed = typed(found, name, list)
    try:
        held = np.array(listed)
    except ValueError:  # rows of different lengths
        held = np.array([None])
    if held.dtype.kind not in "fi" or held.ndim not in axes:
        which = " or ".join(str(n) for n in axes)
        raise CascjaxError(f"the field {name!r} is no array of numbers of {which} axes: fit again")
    return held.astype(np.float64)
