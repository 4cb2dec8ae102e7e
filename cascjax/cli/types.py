"""Types of option values, and options that become one argument of a command; imports no JAX."""

import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

PATH: Any = click.Path(path_type=Path)  # Type of a path
MAX_BUDGETS = 10_000  # Largest number of budgets, each of which is a point of a chart


def names(text: str) -> list[str]:
    """Return comma-separated distinct names."""
    values = [name.strip() for name in text.split(",") if name.strip()]
    if not values:
        raise click.BadParameter("give at least one name")
    return list(distinct((name, None) for name in values))


def number(
    low: float | int = -math.inf, high: float | int = math.inf, **words: Any
) -> Callable[[Any], Any]:
    """Return the type of a finite number in a range, or of a word that stands for a value."""

    def convert(text: Any) -> Any:
        if text in words:
            return words[text]
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or not low <= value <= high:
            bounds = "" if low == -math.inf else f" of at least {low:g}"
            bounds = bounds if high == math.inf else f" from {low:g} to {high:g}"
            other = "".join(f" or {word}" for word in words)
            raise click.BadParameter(f"{str(text)[:40]!r}: give a number{bounds}{other}")
        return value

    return convert


def numbers(text: str) -> float | list[float]:
    """Return one number, or a list of several with commas between them."""
    values = [number()(part) for part in text.split(",")]
    return values[0] if len(values) == 1 else values


def budgets(text: str) -> int | list[float]:
    """Return a number of budgets, or mean costs with commas between them."""
    try:
        if text.isdecimal() and 2 <= int(text) <= MAX_BUDGETS:
            return int(text)
        costs = [] if text.isdecimal() else [float(cost) for cost in text.split(",")]
    except ValueError:
        costs = []
    if not 0 < len(costs) <= MAX_BUDGETS or not all(0 < cost < math.inf for cost in costs):
        start = text if len(text) <= 40 else f"{text[:40]}..."
        raise click.BadParameter(
            f"{start!r}: give a number from 2 to {MAX_BUDGETS:,}, or costs such as 0.001,0.002"
        )
    return costs


def noise(text: str) -> str | tuple[float, ...]:
    """Return the name of a noise level, or four standard deviations."""
    if text.isalpha():
        return text
    values = numbers(text) if text.count(",") == 3 else None
    if not isinstance(values, list) or min(values) < 0:
        raise click.BadParameter(
            f"{text!r}: give low, medium, high, or four numbers of at least 0, QA,QP,CA,CP"
        )
    return tuple(values)


def pair(form: str) -> Callable[[str], tuple[str, str]]:
    """Return the type of a pair NAME=VALUE; the form is for messages."""

    def convert(text: str) -> tuple[str, str]:
        name, _, value = (part.strip() for part in text.partition("="))
        if not name or not value:
            raise click.BadParameter(f"{text[:80]!r}: give it as {form}")
        return name, value

    return convert


def named_number(form: str, default: str = "") -> Callable[[str], tuple[str, float]]:
    """Return the type of a pair NAME=NUMBER, or of a number alone if there is a default name."""

    def convert(text: str) -> tuple[str, float]:
        name, sign, value = text.rpartition("=")  # the last sign: a name may have others
        name = name if sign else default
        if not name:
            raise click.BadParameter(f"{text[:80]!r}: give it as {form}")
        return name, number()(value)

    return convert


def distinct(pairs: Any) -> dict[str, Any]:
    """Return pairs as a dictionary, refusing repeated names."""
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name in values:
            raise click.BadParameter(f"{name!r} is listed twice; name it once")
        values[name] = value
    return values


def several(
    ctx: click.Context, param: click.Parameter, pairs: Sequence[tuple[str, Any]]
) -> dict[str, Any]:
    """Return the pairs of a repeated option as a dictionary; for its callback."""
    return distinct(pairs)


def integer(flag: str, low: int, high: int | None, default: int | None, help: str) -> Any:
    """Return an option for an integer in a range; without a default, the help says what holds."""
    shown = default is not None
    kind = click.IntRange(low, high)
    return click.option(flag, type=kind, default=default, show_default=shown, help=help)


def gathered(name: str, make: Callable[..., Any], options: Sequence[Any]) -> Callable[[F], F]:
    """Return a decorator that adds options to a command, which gets them as one argument."""

    def parameters() -> None:
        pass

    def add(function: Any) -> Any:
        for option in reversed(options):
            option(function)
        return function

    own = [parameter.name for parameter in add(parameters).__click_params__]

    def decorate(command: F) -> F:
        @functools.wraps(command)
        def wrapped(*arguments: Any, **values: Any) -> Any:
            made = make(**{each: values.pop(each) for each in own})
            return command(*arguments, **{name: made}, **values)

        return add(wrapped)

    return decorate
