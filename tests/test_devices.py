"""Over any number of devices the sums are the same; which ones, can be said."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from cascjax import CascjaxError, use_devices
from cascjax.engine.devices import mesh
from cascjax.strategies import STRATEGIES


def test_any_number_of_devices_does_the_same(tmp_path: Path) -> None:
    # Nearly all of the time is XLA's: the least of optimisation, in one thread, halves it.
    flags = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
    flags += " --xla_cpu_parallel_codegen_split_count=1"
    code, out = Path(__file__).with_name("spread.py"), tmp_path / "out.npz"
    flags = f"{os.environ.get('XLA_FLAGS', '')} {flags}"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, str(code), str(out)], env=environment, check=True)
    with np.load(out) as file:
        found = {name: file[name] for name in file.files}
    apart = {name: name.split("/", 1) for name in found if "/" in name}
    assert {tuple(name.split("/")[:2]) for name in apart} >= {
        (count, name) for count in "128" for name in STRATEGIES
    }
    for name, (_, what) in apart.items():
        # Whole numbers are added exactly. Sums are of float32 lanes of other lengths: each adds
        # up some dozens at most.
        exact = what.split("/")[-1] in ("ran", "answered", "depth", "count", "run", "answer")
        rtol = 0 if exact else 1e-6
        np.testing.assert_allclose(found[name], found[f"1/{what}"], rtol=rtol, err_msg=name)
    # Settings of a family differ, and so do queries: else anything would be the same as anything.
    assert len(np.unique(found["1/pandora/cost"])) > 1
    assert len(np.unique(found["1/spent/cost"])) > 10
    # The settings, and the sigma all queries share; of all else each device gets its part.
    assert found["whole"].sum() == 2 < len(found["whole"])


def test_which_devices_can_be_said() -> None:
    everything = jax.local_devices()
    assert mesh().devices.tolist() == everything
    with jax.default_device(everything[-1]):
        assert mesh().devices.tolist() == everything[-1:]
        with use_devices(everything):
            assert mesh().devices.tolist() == everything
    with use_devices(everything[:1]):
        assert mesh().devices.tolist() == everything[:1]
    assert mesh().devices.tolist() == everything


@pytest.mark.parametrize("times", [0, 2])
def test_devices_that_cannot_be_used_are_refused(times: int) -> None:
    with (
        pytest.raises(CascjaxError, match=r"give at least one of jax\.local_devices\(\)"),
        use_devices(jax.local_devices()[:1] * times),
    ):
        pass
