import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # before any test imports jax
# Programs that the tests compile are kept apart from the user's, for all workers and later runs.
_CACHE = Path(tempfile.gettempdir()) / f"cascjax-tests-{os.getuid()}"
os.environ.setdefault("XDG_CACHE_HOME", str(_CACHE))

MAPS = 30_000  # Memory maps of a test process at which it drops its compiled programs


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of data that stands beside the repository, never in it."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the data folder ../shared/data is absent")
    return folder


@pytest.fixture(autouse=True)
def few_memory_maps() -> Iterator[None]:
    """Drop compiled programs before Linux refuses memory to new ones.

    Each program takes several memory maps, and a process that reaches vm.max_map_count of them
    (65,530 by default) crashes inside XLA.
    """
    yield
    maps = Path("/proc/self/maps")
    if "jax" in sys.modules and maps.exists() and maps.read_bytes().count(b"\n") > MAPS:
        sys.modules["jax"].clear_caches()
