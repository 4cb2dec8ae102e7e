"""Strategies by name: which model to run next, and when to stop."""

from cascjax.errors import CascjaxError, unknown_name
from cascjax.strategies.base import STOP, InOrder, Outcome, Relaxed, Sketch, Stages, Strategy
from cascjax.strategies.baselines import Mixing, Oracle
from cascjax.strategies.cascade_routing import CascadeRouting
from cascjax.strategies.cascading import Cascading
from cascjax.strategies.frugal import Frugal
from cascjax.strategies.pandora import Pandora, reservation_value
from cascjax.strategies.routing import Routing
from cascjax.strategies.thresholding import Thresholding

STRATEGIES: dict[str, type[Strategy]] = {
    kind.name: kind
    for kind in (Mixing, Routing, Thresholding, Frugal, Cascading, CascadeRouting, Pandora, Oracle)
}
"""Every strategy by its name, in the order of a report."""


def strategy(name: str, **options: object) -> Strategy:
    """The strategy of that name, with its options.

    Raises:
        CascjaxError: the name is unknown, or an option does not belong to the strategy.
    """
    if name not in STRATEGIES:
        raise unknown_name("strategy", name, STRATEGIES)
    try:
        return STRATEGIES[name](**options)
    except TypeError as error:
        raise CascjaxError(f"strategy {name!r}: {error}") from error


__all__ = [
    "STOP",
    "STRATEGIES",
    "CascadeRouting",
    "Cascading",
    "Frugal",
    "InOrder",
    "Mixing",
    "Oracle",
    "Outcome",
    "Pandora",
    "Relaxed",
    "Routing",
    "Sketch",
    "Stages",
    "Strategy",
    "Thresholding",
    "reservation_value",
    "strategy",
]
