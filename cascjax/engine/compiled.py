"""Compiled programs, kept between processes."""

import functools

import jax

from cascjax.caches import private_folder


@functools.cache
def keep_compiled() -> None:
    """Cache compiled programs between runs, in a folder that only this user can enter.

    Once per process, and not where JAX has been given a folder of its own or told to keep none, by
    its options `jax_compilation_cache_dir` and `jax_enable_compilation_cache` or their variables.
    """
    if not jax.config.values["jax_enable_compilation_cache"]:
        return
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    if jax.config.values["jax_compilation_cache_dir"]:
        return
    # Others could put programs into a folder that is open to them.
    if (folder := private_folder("xla")) is not None:
        jax.config.update("jax_compilation_cache_dir", str(folder))
