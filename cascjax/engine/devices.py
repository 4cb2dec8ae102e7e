"""Which devices the queries of a simulation are spread over: by default all there are."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeAlias

import jax
import numpy as np
from jax.sharding import Mesh

from cascjax.errors import CascjaxError

Device: TypeAlias = jax.Device  # pyright: ignore[reportInvalidTypeForm]

AXIS = "devices"
"""The axis of a mesh of devices."""

_chosen: ContextVar[tuple[Device, ...] | None] = ContextVar("devices", default=None)


@contextmanager
def use_devices(devices: Sequence[Device]) -> Iterator[None]:
    """Simulates on these devices alone, as long as the context lasts.

    Raises:
        CascjaxError: there is none, or one is listed twice, or is not of `jax.local_devices()`.
    """
    some = tuple(devices)
    if not some or len(set(some)) < len(some) or not set(some) <= set(jax.local_devices()):
        raise CascjaxError(
            f"cannot simulate on devices [{', '.join(map(str, some))}]; give at least one of"
            f" jax.local_devices(), none twice: [{', '.join(map(str, jax.local_devices()))}]"
        )
    before = _chosen.set(some)
    try:
        yield
    finally:
        _chosen.reset(before)


def mesh() -> Mesh:
    """The devices in use: those chosen, else JAX's default device if one is set, else all local."""
    default = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]
    some = _chosen.get()
    if some is None and isinstance(default, Device):
        some = (default,)
    return Mesh(np.array(jax.local_devices() if some is None else some), (AXIS,))
