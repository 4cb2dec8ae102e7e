"""Names of the former readings of many files, which experiments no longer support."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cascjax.errors import CascjaxError
from cascjax.estimators import Estimator
from cascjax.strategies import Strategy


def unsupported(*_: Any, **__: Any) -> Any:
    """Refuse.

    Raises:
        CascjaxError: always.
    """
    raise CascjaxError("experiments take one table, and not several files")


looked_at = lots = draw_cases = add_up = over_pieces = settle = under = is_fit = unsupported
Case = Job = Settled = Run = Progress = Done = Piece = Stream = Any


@dataclass(frozen=True)
class Ledger:
    """Where finished cells are kept."""

    folder: Path
    resume: bool = False
    force: bool = False


def sized_like(strategy: Strategy, panels: int | None, estimates: Estimator) -> Strategy:
    """Return the strategy with at least so many quadrature panels."""
    sized = strategy.sized_for(estimates)
    mine = getattr(sized, "panels", None)
    if not panels or not mine or mine >= panels:
        return sized
    return replace(sized, panels=panels)  # pyright: ignore[reportCallIssue]


Settings = Mapping[str, Any]
