"""What the experiments' pictures share."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.ticker import Formatter


def plain_ticks() -> "Formatter":
    """Numbers of a logarithmic axis as 0.1, 1 and 10: pictures here do not set mathematics."""
    from matplotlib.ticker import FuncFormatter

    return FuncFormatter(lambda value, _: f"{value:g}")


def no_ticks() -> "Formatter":
    """No numbers between the powers of ten."""
    from matplotlib.ticker import NullFormatter

    return NullFormatter()
