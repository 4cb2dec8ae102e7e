"""Exact sums of float32 numbers: digits that add up as whole numbers, whatever the order.

Sums of float32 would not do: what is added again and again is rounded the same way each time, and
what is small is lost beside what is large.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

_WIDTH = 45
"""Bits below the largest number that its digits cover at least: exact down to 2^-21 of it."""

_BASE = 24
"""Bits per digit on the host."""


def int32_bits(count: int) -> int:
    """Return the most bits per digit with which the sum of so many digits fits an int32."""
    return 31 - (count - 1).bit_length()


def n_digits(bits: int) -> int:
    """Return how many digits of so many bits a number is cut into."""
    return -(-_WIDTH // bits)


def power_above(values: Float[Array, "K B"]) -> Float[Array, ""]:
    """Return the power of two next above all values."""
    _, exponent = jnp.frexp(jnp.max(jnp.abs(values)))
    return jnp.ldexp(jnp.float32(1), exponent)


def digits_of(value: Float[Array, "*B"], unit: Float[Array, ""], bits: int) -> list[Array]:
    """Return float32 as whole numbers of unit / 2^bits, unit / 4^bits, and so on."""
    digits, rest = [], value / unit
    for _ in range(n_digits(bits)):
        rest = rest * np.float32(2**bits)
        # Towards 0, which is one instruction; `round` is a call that does not fill the lanes.
        digits.append(rest.astype(jnp.int32))
        rest = rest - digits[-1].astype(value.dtype)
    return digits


def is_cut(value: Float[Array, "K B"], unit: Float[Array, ""], bits: int) -> Bool[Array, ""]:
    """Return whether any value has more bits than its digits hold."""
    last = value / unit * np.float32(2.0 ** (bits * n_digits(bits)))
    return jnp.any(last > jnp.floor(last))


@dataclass(frozen=True)
class ExactSums:
    """Sums as whole numbers on the host: multiples of 2^p by position p."""

    parts: Mapping[int, Int[np.ndarray, "..."]]

    @classmethod
    def from_digits(
        cls, digits: Int[np.ndarray, "S M D"], unit: Float[np.ndarray, " S"], bits: int
    ) -> "ExactSums":
        """Return sums over S devices of the digits that each cut by its own unit."""
        total = cls({})
        for part, exponent in zip(digits, np.frexp(unit)[1] - 1, strict=True):
            places = int(exponent) - bits * np.arange(1, part.shape[1] + 1)
            total += cls(dict(zip(places.tolist(), part.T.astype(np.int64), strict=True)))
        return total

    def __add__(self, other: "ExactSums") -> "ExactSums":
        """Return the sums of both."""
        parts = dict(self.parts)
        for place, part in other.parts.items():
            parts[place] = parts[place] + part if place in parts else part
        return ExactSums(parts)

    def map(self, linear: Callable[[np.ndarray], np.ndarray]) -> "ExactSums":
        """Return a linear function of the sums that takes whole numbers to whole numbers."""
        return ExactSums({place: linear(part) for place, part in self.parts.items()})

    def in_float64(self) -> Float[np.ndarray, "..."]:
        """Return the sums as float64, which depend on nothing but their exact values."""
        low, high = min(self.parts) // _BASE, max(self.parts) // _BASE
        digits = np.zeros((high - low + 4, *next(iter(self.parts.values())).shape), np.int64)
        for place, part in self.parts.items():
            at, shift = divmod(place, _BASE)
            for more in range(3):
                piece = part >> _BASE * more
                piece = piece & (1 << _BASE) - 1 if more < 2 else piece
                digits[at - low + more] += piece << shift
        total = np.zeros(digits.shape[1:])
        for at in range(len(digits) - 1):
            digits[at + 1] += digits[at] >> _BASE
            digits[at] &= (1 << _BASE) - 1
        for at, digit in reversed(list(enumerate(digits))):
            total += digit * 2.0 ** (_BASE * (low + at))
        return total
