"""The functional core: held to the engine, under every transformation, dtype and device count."""

import ast
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import wide

import cascjax
from cascjax import CascjaxError, core
from cascjax.engine import simulate
from cascjax.strategies import STRATEGIES, Pandora, Routing, Strategy

KINDS = pytest.mark.parametrize("kind", [kind() for kind in STRATEGIES.values()], ids=STRATEGIES)


def test_it_imports_nothing_of_the_rest() -> None:
    allowed = {"jax", "numpy", "jaxtyping", "scipy", *sys.stdlib_module_names}
    for path in (Path(cascjax.__file__).parent / "core").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                inside = name == "cascjax.errors" or name.startswith("cascjax.core")
                assert inside or name.split(".")[0] in allowed, f"{path.name} imports {name}"


@pytest.fixture(scope="module")
def here() -> dict[str, np.ndarray]:
    return wide.results()


@KINDS
def test_sweep_and_totals_are_those_of_the_engine(kind: Strategy, here: dict) -> None:
    table, estimates = wide.workload()
    settings = wide.settings_of(kind)
    run, answer = simulate.query_outcomes(kind, settings, estimates, (wide.N, wide.K))
    np.testing.assert_array_equal(here[f"{kind.name}/run"], run)
    np.testing.assert_array_equal(here[f"{kind.name}/answer"], answer)
    sums = core.totals(kind, settings, estimates, table.quality, table.cost)
    plain = (run * table.cost).sum((1, 2), dtype=float)
    np.testing.assert_allclose(sums.cost, plain, rtol=1e-6)
    got = np.take_along_axis(table.quality[None], answer[..., None], 2).sum((1, 2), dtype=float)
    np.testing.assert_allclose(sums.quality, got, rtol=1e-6)
    np.testing.assert_array_equal(sums.ran, run.sum(1))
    np.testing.assert_array_equal(sums.depth.sum(1), wide.N)
    assert float(sums.means().count) == 1


@KINDS
def test_a_frontier_is_at_least_the_engines(kind: Strategy, here: dict) -> None:
    """Both mix on the hull of the settings they try, which for the engine may be thousands."""
    table, estimates = wide.workload()
    cost, quality = here[f"{kind.name}/curve/cost"], here[f"{kind.name}/curve/quality"]
    fit_cost, fit_quality = here[f"{kind.name}/fit/cost"], here[f"{kind.name}/fit/quality"]
    single = table.cost.mean(0)
    at = np.linspace(single.min(), single.max(), 5)
    assert (cost <= np.maximum(at, fit_cost) * (1 + 1e-5)).all()
    assert (quality >= fit_quality - 4e-3).all()
    curve = core.frontier(kind, estimates, table.quality, table.cost, at)
    flat = curve.parameters.reshape(10, *curve.parameters.shape[2:])
    means = core.totals(kind, flat, estimates, table.quality, table.cost).means()
    ends = np.asarray(means.quality).reshape(5, 2)
    mixed = ends[:, 0] + np.asarray(curve.gamma) * (ends[:, 1] - ends[:, 0])
    np.testing.assert_allclose(curve.quality, mixed, rtol=1e-5)


def test_64_bits_and_two_devices_change_nothing(here: dict, tmp_path: Path) -> None:
    script, out = Path(wide.__file__), tmp_path / "out.npz"
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
    environment = os.environ | {
        "XLA_FLAGS": flags, "JAX_ENABLE_X64": "1", "JAX_PLATFORMS": "cpu",
    }  # fmt: skip
    subprocess.run([sys.executable, str(script), str(out)], env=environment, check=True)
    with np.load(out) as file:
        found = {name: file[name] for name in file.files}
    assert (int(found.pop("devices")), bool(found.pop("wide"))) == (2, True)
    assert found.keys() == here.keys() - {"devices", "wide"}
    for name, value in found.items():
        exact = name.split("/")[-1] in ("run", "answer", "depth")
        np.testing.assert_allclose(value, here[name], rtol=0 if exact else 2e-6, err_msg=name)


def stacked(levels: int) -> core.Independent:
    """Estimates of several noise levels, along a first axis of all leaves."""
    _, estimates = wide.workload()
    noise = 0.05 * np.random.default_rng(0).normal(0, 1, (levels, wide.N, wide.K))
    each = [
        replace(estimates, quality_ante=np.float32(estimates.quality_ante + x), panels=None)
        for x in noise
    ]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)


@KINDS
def test_levels_are_mapped_over(kind: Strategy) -> None:
    table, _ = wide.workload()
    levels, settings = stacked(2), wide.settings_of(kind)
    at = np.quantile(table.cost.mean(0), [0.3, 0.7])

    def totals(estimates: core.Independent) -> core.Totals:
        return core.totals(kind, settings, estimates, table.quality, table.cost)

    def frontier(estimates: core.Independent) -> core.Curve:
        return core.frontier(kind, estimates, table.quality, table.cost, at, rounds=1)

    together, curves = (jax.jit(jax.vmap(f))(levels) for f in (totals, frontier))
    for g in range(2):
        one = jax.tree.map(lambda x: x[g], levels)  # noqa: B023
        alone, curve = jax.jit(totals)(one), jax.jit(frontier)(one)
        np.testing.assert_allclose(together.cost[g], alone.cost, rtol=1e-5)
        np.testing.assert_array_equal(together.ran[g], alone.ran)
        np.testing.assert_allclose(curves.quality[g], curve.quality, rtol=1e-4)


# What is given, and in which numbers.


@pytest.mark.parametrize(
    ("convert", "tolerance"),
    [
        (lambda x: np.asarray(x, np.float64), 0),
        (lambda x: np.asarray(x).tolist(), 0),
        (lambda x: jnp.asarray(x, jnp.bfloat16), 0.02),
        (lambda x: np.asarray(x, np.float16), 0.002),
    ],
    ids=["float64", "lists", "bfloat16", "float16"],
)
def test_other_numbers_are_converted(convert, tolerance: float) -> None:
    table, estimates = wide.workload()
    expected = core.totals(Pandora(), [0.5, 2], estimates, table.quality, table.cost)
    leaves = [convert(x) for x in jax.tree.leaves(estimates)]
    other = estimates
    if not isinstance(leaves[0], list):
        other = core.Independent(*leaves, panels=estimates.panels)
    given = (other, convert(table.quality), convert(table.cost))
    found = core.totals(Pandora(), [0.5, 2], *given)
    assert found.cost.dtype == np.float32
    np.testing.assert_allclose(found.cost, expected.cost, rtol=tolerance)
    whole = core.totals(Routing(), [1], estimates, table.quality > 0.5, table.cost)
    assert float(whole.quality[0]) == round(float(whole.quality[0]))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Hidden:
    """Estimates that can only be called."""

    inner: core.Independent

    def __call__(self, run: jax.Array) -> core.Estimates:
        return self.inner(run)

    def take(self, rows: slice | np.ndarray) -> "Hidden":
        return Hidden(self.inner.take(rows))


def test_any_estimates_are_rolled_out() -> None:
    _, estimates = wide.workload()
    found = core.sweep(Pandora(), [0.1, 2], Hidden(estimates), shape=estimates.shape)
    expected = core.sweep(Pandora(), [0.1, 2], estimates)
    assert (np.asarray(found.run) != np.asarray(expected.run)).mean() < 0.005


@pytest.mark.parametrize(
    ("quality", "said"),
    [
        (np.ones((2, 2), complex), "quality must hold real numbers, not values of dtype complex"),
        ([["a", "b"], ["c", "d"]], "quality must hold real numbers, not values of dtype <U1"),
        ([[1.0], [1.0, 2.0]], "quality is no array: its rows differ in length"),
        (np.ones((2, 3)), r"quality \(2, 3\) and cost \(2, 2\) must have the same shape"),
    ],
)
def test_what_is_no_array_of_numbers_is_refused(quality: object, said: str) -> None:
    estimates = core.Independent(*[np.ones((2, 2))] * 5, panels=None)
    with pytest.raises(CascjaxError, match=said):
        core.totals(Routing(), [1.0], estimates, quality, np.ones((2, 2)))  # pyright: ignore[reportArgumentType]
    with pytest.raises(CascjaxError, match=r"parameters must be \[L\]"):
        core.sweep(Routing(), 1.0, estimates)  # pyright: ignore[reportArgumentType]
    with pytest.raises(CascjaxError, match="no attribute 'shape'; give the argument shape"):
        core.sweep(Routing(), [1.0], Hidden(estimates))


# Gradients.


def test_totals_are_linear_in_the_truth() -> None:
    table, estimates = wide.workload()

    def mean(quality: jax.Array, cost: jax.Array) -> jax.Array:
        sums = core.totals(Pandora(), [0.5], estimates, quality, cost)
        return sums.quality[0] - 2 * sums.cost[0]

    slopes = jax.grad(mean, argnums=(0, 1))(jnp.asarray(table.quality), jnp.asarray(table.cost))
    outcome = core.sweep(Pandora(), [0.5], estimates)
    answered = np.arange(wide.K) == np.asarray(outcome.answer)[0, :, None]
    np.testing.assert_array_equal(slopes[0], answered)
    np.testing.assert_array_equal(slopes[1], -2 * np.asarray(outcome.run)[0])


def test_a_reservation_value_has_the_slopes_of_its_equation() -> None:
    mean, sigma = jnp.float32(0.3), jnp.float32(0.2)
    for cost in (1e-5, 1e-3, 0.02, 0.1, 0.3):
        slopes = jax.grad(core.reservation_value, argnums=(0, 1, 2))(mean, sigma, jnp.float32(cost))
        z = float(core.reservation_value(mean, sigma, cost))
        t = (z - 0.3) / 0.2
        tail = 0.5 * float(jax.scipy.special.erfc(t / np.sqrt(2)))
        density = float(np.exp(-t * t / 2) / np.sqrt(2 * np.pi))
        np.testing.assert_allclose(slopes, [1, density / tail, -1 / tail], rtol=2e-3)


def test_the_slope_of_an_auc_is_that_of_finite_differences() -> None:
    rng = np.random.default_rng(0)
    cost, quality = np.sort(rng.uniform(0.5, 4, 7)), rng.random(7)
    single = np.array([1.0, 2.0, 3.0]), np.array([0.2, 0.5, 0.6])
    given = [jnp.asarray(x, jnp.float32) for x in (cost, quality)]
    slopes = jax.jit(jax.grad(core.auc, argnums=(0, 1)))(given[0], given[1], *single)
    for at, values in enumerate((cost, quality)):
        for i in range(7):
            ends = []
            for step in (-1e-6, 1e-6):
                moved = [cost.copy(), quality.copy()]
                moved[at][i] = values[i] + step
                ends.append(core.auc(moved[0], moved[1], *single))
            np.testing.assert_allclose(slopes[at][i], (ends[1] - ends[0]) / 2e-6, atol=1e-4)
    area = core.auc(cost, quality, *single)
    np.testing.assert_allclose(core.auc(given[0], given[1], *single), area, rtol=1e-6)
    many = jax.vmap(core.auc, in_axes=(0, 0, None, None))
    np.testing.assert_allclose(
        many(*(jnp.stack([x, x]) for x in given), *(jnp.asarray(x) for x in single)),
        [area] * 2,
        rtol=1e-6,
    )
