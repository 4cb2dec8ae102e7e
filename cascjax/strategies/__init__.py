"""Strategies by name: which model to run next, and when to stop."""

import inspect
from typing import TypeVar

from cascjax.core.breakpoints import Breakpoints
from cascjax.core.reservation import reservation_value
from cascjax.core.sweep import STOP, Outcome
from cascjax.errors import CascjaxError, check_name
from cascjax.strategies.base import (
    InOrder,
    Option,
    Priced,
    SearchContext,
    Statistics,
    Strategy,
    Style,
    option,
)
from cascjax.strategies.baselines import Mixing, Oracle
from cascjax.strategies.cascade_routing import CascadeRouting
from cascjax.strategies.cascading import Cascading
from cascjax.strategies.frugal import Frugal
from cascjax.strategies.pandora import Pandora
from cascjax.strategies.routing import Routing
from cascjax.strategies.thresholding import Thresholding

STRATEGIES: dict[str, type[Strategy]] = {
    kind.name: kind
    for kind in (Mixing, Routing, Thresholding, Frugal, Cascading, CascadeRouting, Pandora, Oracle)
}
"""Every strategy by its name, in the order of a report; `register` adds others."""

Kind = TypeVar("Kind", bound=type)


def register(kind: Kind) -> Kind:
    """Make a strategy known by its name, and return it, so as to decorate its class.

    `strategy`, `compare`, `fit` and policy files then take the name like any other. A class that is
    defined again, by a notebook's cell run again, takes the place of its former self.

    Args:
        kind: a class derived from `Strategy`, a frozen dataclass.

    Raises:
        CascjaxError: it is no class of strategies, not a frozen dataclass on its own, it lacks a
            method or a name, or the name belongs to another.

    Example:
      >>> from dataclasses import dataclass
      >>> @register
      ... @dataclass(frozen=True)
      ... class Careful(Pandora):
      ...     name = "careful"
      >>> strategy("careful")
      Careful()
      >>> del STRATEGIES["careful"]
    """
    title = getattr(kind, "__name__", "")  # none if it is a strategy and not its class
    if not title:
        raise CascjaxError(f"{kind!r} is no class: register its class")
    if not issubclass(kind, Strategy):
        raise CascjaxError(f"{title} is no strategy: derive it from cascjax.strategies.Strategy")
    # An undecorated subclass is a dataclass as well, but one that does not know its own fields.
    parameters = vars(kind).get("__dataclass_params__")
    if parameters is None or not parameters.frozen:
        raise CascjaxError(
            f"{title} is no frozen dataclass: put @dataclass(frozen=True) on it first"
        )
    if inspect.isabstract(kind):
        missing = ", ".join(sorted(kind.__abstractmethods__))
        raise CascjaxError(f"{title} lacks {missing}: a strategy defines them all")
    name = getattr(kind, "name", "")
    if not isinstance(name, str) or not name:
        raise CascjaxError(f'{title} has no name: give it name: ClassVar[str] = "..."')
    taken = STRATEGIES.get(name)
    if taken is not None and (taken.__module__, taken.__qualname__) != (
        kind.__module__,
        kind.__qualname__,
    ):
        raise CascjaxError(
            f"the name {name!r} belongs to {taken.__qualname__}: give {title} another"
        )
    STRATEGIES[name] = kind
    return kind


def strategy(name: str, **options: object) -> Strategy:
    """Return the strategy of that name, with its options.

    Args:
        name: a key of `STRATEGIES`.
        **options: fields of its class, see `Strategy.options`.

    Raises:
        CascjaxError: the name is unknown, or an option does not belong to the strategy.

    Example:
      >>> strategy("frugal", max_depth=3)
      Frugal(max_depth=3)
    """
    check_name("strategy", name, STRATEGIES)
    try:
        return STRATEGIES[name](**options)
    except TypeError as error:
        raise CascjaxError(f"strategy {name!r}: {error}") from error


__all__ = [
    "STOP",
    "STRATEGIES",
    "Breakpoints",
    "CascadeRouting",
    "Cascading",
    "Frugal",
    "InOrder",
    "Mixing",
    "Option",
    "Oracle",
    "Outcome",
    "Pandora",
    "Priced",
    "Routing",
    "SearchContext",
    "Statistics",
    "Strategy",
    "Style",
    "Thresholding",
    "option",
    "register",
    "reservation_value",
    "strategy",
]
