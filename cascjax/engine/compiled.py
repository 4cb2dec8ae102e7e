"""Compiled programs, kept between processes."""

import functools
import os

import jax
import platformdirs


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
    folder = platformdirs.user_cache_path("cascjax") / "xla"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError:
        return
    # Others could put programs into a folder that is open to them.
    if status.st_uid == os.getuid() and not status.st_mode & 0o077:
        jax.config.update("jax_compilation_cache_dir", str(folder))
