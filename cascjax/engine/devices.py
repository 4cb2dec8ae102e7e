"""The devices that simulations run on: by default all local devices."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeAlias

import jax
import numpy as np
from jax.sharding import Mesh

from cascjax.errors import CascjaxError

Device: TypeAlias = jax.Device  # pyright: ignore[reportInvalidTypeForm]

AXIS = "devices"  # Name of the axis of a mesh of devices

_chosen: ContextVar[tuple[Device, ...] | None] = ContextVar("devices", default=None)


@contextmanager
def use_devices(devices: Sequence[Device]) -> Iterator[None]:
    """Simulate on the given devices only, while the context lasts.

    Args:
        devices: devices of `jax.local_devices()`, at least one.

    Raises:
        CascjaxError: there is none, or one is listed twice or is not a local device.

    Example:
        >>> with use_devices(jax.local_devices()[:1]):
        ...     mesh().size
        1
    """
    chosen, local = tuple(devices), jax.local_devices()
    if not chosen or len({*chosen}) < len(chosen) or not {*chosen} <= {*local}:
        raise CascjaxError(
            f"cannot simulate on devices [{', '.join(map(str, chosen))}]; give at least one of"
            f" jax.local_devices(), none twice: [{', '.join(map(str, local))}]"
        )
    before = _chosen.set(chosen)
    try:
        yield
    finally:
        _chosen.reset(before)


def mesh() -> Mesh:
    """Return the mesh of devices: those chosen, else JAX's default device if set, else all."""
    default = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]
    devices = _chosen.get()
    if devices is None and isinstance(default, Device):
        devices = (default,)
    return Mesh(np.array(jax.local_devices() if devices is None else devices), (AXIS,))
