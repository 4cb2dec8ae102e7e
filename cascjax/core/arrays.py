"""Array helpers that the kernels share: dtypes, memory, and loops that XLA vectorises."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from cascjax.errors import CascjaxError

P = ParamSpec("P")
X = TypeVar("X")
Y = TypeVar("Y")
Carry = TypeVar("Carry")
Bits = TypeVar("Bits", Array, np.ndarray)

Numbers: TypeAlias = Array | np.ndarray | float | int | Sequence[Any]
"""An array, or what can be made an array; its shape is in the docstring of the function."""

UNROLLED = 64  # Rows up to which a loop over them is unrolled

_UNROLLED_MODELS = 16  # Models up to which a loop over them is unrolled


def in_float32(function: Callable[P, Y]) -> Callable[P, Y]:
    """Trace and run a function with 32-bit numbers, also where `jax_enable_x64` is set."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> Y:
        with jax.enable_x64(False):
            return function(*args, **kwargs)

    return wrapped


def as_float32(name: str, values: Any) -> Array:
    """Return an array, list or number as float32 of JAX; integers and truth values included."""
    try:
        array = values if isinstance(values, jax.Array) else np.asarray(values)
        real = jnp.issubdtype(array.dtype, jnp.floating) or array.dtype.kind in "biu"
    except ValueError as error:
        raise CascjaxError(f"{name} is no array: its rows differ in length") from error
    if not real:
        raise CascjaxError(f"{name} must hold real numbers, not values of dtype {array.dtype}")
    if isinstance(array, jax.Array):
        return array if array.dtype == np.float32 else array.astype(np.float32)
    return jnp.asarray(array.astype(np.float32))


def leaves_as_float32(name: str, tree: X) -> X:
    """Return a pytree with its floating-point leaves, and lists of numbers, as float32."""

    def convert(leaf: Any) -> Any:
        dtype = getattr(leaf, "dtype", None)
        exact = dtype is not None and np.dtype(dtype).kind in "biu"
        return leaf if exact else as_float32(name, leaf)

    return jax.tree.map(convert, tree, is_leaf=lambda leaf: isinstance(leaf, list))


def materialize(x: X) -> X:
    """Keep XLA from computing `x` again for each of its uses.

    Its CPU compiler drops `optimization_barrier` and fuses cheap producers into each consumer,
    which multiplies the work here; what leaves a conditional is in memory. The condition holds
    for all data, but the compiler cannot know.
    """
    if jax.default_backend() != "cpu":
        return x
    first = jax.tree.leaves(x)[0].reshape(-1)[0]
    return jax.lax.cond(
        (first <= jnp.inf) | (first != first),
        lambda y: y,
        lambda y: jax.tree.map(jnp.zeros_like, y),
        x,
    )


def over_models(
    step: Callable[[Carry, tuple[Array, ...]], tuple[Carry, Y]], carry: Carry, *per_model: Array
) -> tuple[Carry, Y]:
    """Scan arrays with models first, as `jax.lax.scan` does, unrolled up to 16 models.

    The step is given the model's index before the rows of the arrays.
    """
    n_models, line = len(per_model[0]), _UNROLLED_MODELS
    rows = (jnp.arange(n_models, dtype=jnp.int32), *per_model)
    if n_models <= line:
        return jax.lax.scan(step, carry, rows, unroll=n_models)
    whole = n_models // line * line

    def one_line(carry: Carry, rows: tuple[Array, ...]) -> tuple[Carry, Y]:
        # Cut out first: a moving slice inside the arithmetic would keep XLA from vectorising.
        return jax.lax.scan(step, carry, materialize(rows), unroll=line)

    lines = tuple(row[:whole].reshape(-1, line, *row.shape[1:]) for row in rows)
    carry, out = jax.lax.scan(one_line, carry, lines)
    out = jax.tree.map(lambda y: y.reshape(whole, *y.shape[2:]), out)
    if whole == n_models:
        return carry, out
    rest = tuple(row[whole:] for row in rows)
    carry, last = jax.lax.scan(step, carry, rest, unroll=n_models - whole)
    return carry, jax.tree.map(lambda *parts: jnp.concatenate(parts), out, last)


def over_rows(
    step: Any, carry: Any, count: int | Array, *rows: Array, unrolled: int = UNROLLED
) -> Any:
    """Fold `step` over the first `count` rows, eight at a time, or all where they are few."""
    if len(rows[0]) <= unrolled:
        return jax.lax.scan(step, carry, tuple(row[:count] for row in rows), unroll=unrolled)[0]
    line = 8
    short = -len(rows[0]) % line
    # Rows beyond the count repeat the first, which must change nothing when it comes again.
    rows = tuple(jnp.concatenate([row, jnp.repeat(row[:1], short, axis=0)]) for row in rows)

    def one_line(index: Array, carry: Any) -> Any:
        # Cut out first: a moving slice inside the arithmetic would keep XLA from vectorising.
        cut = [jax.lax.dynamic_slice_in_dim(row, index * line, line) for row in rows]
        return jax.lax.scan(step, carry, materialize(tuple(cut)), unroll=line)[0]

    return jax.lax.fori_loop(0, (count + line - 1) // line, one_line, carry)


def order_of_bits(bits: Bits) -> Bits:
    """Return integers in the order of the floats with these bits; its own inverse."""
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


def take_model(rows: Float[Array, "K B"], model: Int[Array, " B"]) -> Float[Array, " B"]:
    """Return the entry of each query's model."""
    k, n_queries = rows.shape
    place = model * n_queries + jnp.arange(n_queries, dtype=jnp.int32)
    return rows.reshape(k * n_queries).at[place].get(mode="promise_in_bounds")


def select_model(rows: Float[Array, "K B"], model: Int[Array, "L B"]) -> Float[Array, "L B"]:
    """Return the entry of each query's model, by selection: it fills vector lanes, a gather not."""
    picked = jnp.broadcast_to(rows[0], model.shape)
    for k in range(1, len(rows)):
        picked = jnp.where(model == k, rows[k], picked)
    return picked


def better_of(worth: Array, choice: Array, new_worth: Array, new: Array) -> tuple[Array, Array]:
    """Return the higher worth with its choice; the first of equals."""
    better = new_worth > worth
    return jnp.where(better, new_worth, worth), jnp.where(better, new, choice)


def at_step(parameters: Float[Array, "*D"], step: Int[Array, " B"]) -> Float[Array, "*B"]:
    """Return the parameter in force: the only one, or the one of each query's step."""
    if parameters.ndim == 0:
        return parameters
    return parameters[jnp.minimum(step, parameters.shape[0] - 1)]


def per_step(parameters: Float[Array, "L *D"], steps: int) -> Float[Array, "D L 1"]:
    """Return the parameter of each step and setting, as `at_step` has it."""
    each = parameters.reshape(parameters.shape[0], -1)
    return each.T[np.minimum(np.arange(steps), each.shape[1] - 1), :, None]
