import os
from pathlib import Path

import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # before any test imports jax


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of data that stands beside the repository, never in it."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the data folder ../shared/data is absent")
    return folder
