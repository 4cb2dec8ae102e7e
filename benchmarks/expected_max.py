"""E[max]: the error and the time of every method, as a table in Markdown.

Run with `python benchmarks/expected_max.py`, on an idle machine; two minutes. What it printed
last, and what the methods are, stands in EXPECTED_MAX.md beside it.
"""

import datetime
import functools
import importlib.util
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import jax
import numpy as np
import scipy
from scipy.special import ndtri
from scipy.stats import qmc

from cascjax.core.expected_max import (
    expected_max,
    members,
    panels_needed,
    prefix_gains,
    prefix_values,
    supermodel_gains,
    supermodel_tables,
    supermodel_values,
)

# The float64 integrals the tests lean on, held there to adaptive quadrature.
_SPEC = importlib.util.spec_from_file_location(
    "plain", Path(__file__).parents[1] / "tests" / "plain.py"
)
assert _SPEC
assert _SPEC.loader
plain = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(plain)

MODELS = range(1, 12)
ROWS, SETS, FLOORS = 16, 32, 4
"""Queries for each number of models; supermodels of each that are checked; floors of quality."""
TIMED_FLOATS, TIMED_QUERIES = 1 << 21, 16384
"""Numbers at the widest point of a timed call, and queries, at most."""
ROUNDS, ROUND_SECONDS = 9, 0.05


# Random problems, in float32.


@dataclass(frozen=True)
class Problem:
    """So many queries: means, variances or matrices, and rising qualities in hand."""

    mean: np.ndarray
    covariance: np.ndarray
    floor: np.ndarray

    @property
    def sigma(self) -> np.ndarray:
        """Of each model."""
        whole = self.covariance.ndim == 3
        return np.sqrt(np.diagonal(self.covariance, 0, 1, 2) if whole else self.covariance)

    @property
    def panels(self) -> int:
        """For the kernels that take panels."""
        needed = panels_needed(self.mean, self.sigma)
        assert needed is not None
        return needed


Problems: TypeAlias = Callable[[int, int, int], Problem]
"""Of so many models, queries and floors."""


def _problem(
    rng: np.random.Generator, mean: np.ndarray, covariance: np.ndarray, floors: int
) -> Problem:
    problem = Problem(mean.astype(np.float32), covariance.astype(np.float32), np.empty(0))
    spread = problem.sigma.max(1, keepdims=True) * rng.normal(0, 1, (len(mean), floors))
    floor = np.sort(mean.mean(1, keepdims=True) + spread, axis=1).astype(np.float32)
    return Problem(problem.mean, problem.covariance, floor)


def wide(k: int, rows: int, floors: int) -> Problem:
    """Sigmas from 1e-3 to 10, some 0; means near, far, equal or tied, by the largest sigma."""
    rng = np.random.default_rng(k)
    sigma = 10 ** rng.uniform(-3, 1, (rows, k))
    sigma[::2] *= rng.random((rows // 2, k)) < 0.7
    sigma[:, 0] = np.where(sigma.any(1), sigma[:, 0], 1)
    kinds = [
        rng.normal(0, 0.5, (rows, k)),
        rng.normal(0, 3, (rows, k)),
        np.repeat(rng.normal(0, 1, (rows, 1)), k, axis=1),
        rng.integers(0, 3, (rows, k)) / 2,
    ]
    mean = np.choose((np.arange(rows) // 2 % 4)[:, None], kinds) * sigma.max(1, keepdims=True)
    return _problem(rng, mean, np.square(sigma), floors)


def alike(k: int, rows: int, floors: int) -> Problem:
    """Sigmas within a factor of two."""
    rng = np.random.default_rng(k)
    mean, sigma = rng.normal(0.7, 0.2, (rows, k)), rng.uniform(0.3, 0.6, (rows, k))
    return _problem(rng, mean, np.square(sigma), floors)


def matrices(k: int, rows: int, floors: int) -> Problem:
    """A A^T: half with sigmas from 1e-3 to 10, half with a model that has run; some means equal."""
    rng = np.random.default_rng(k)
    root = rng.normal(0, 0.7, (rows, k, k))
    root[rows // 2 :] *= 10 ** rng.uniform(-3, 1, (rows - rows // 2, k, 1))
    if k > 1:
        root[::2, 0] = 0
    sigma = np.sqrt(np.square(root).sum(2).max(1))
    mean = rng.normal(0, 0.5, (rows, k)) * sigma[:, None]
    mean[1::4] = mean[1::4, :1]
    return _problem(rng, mean, root @ root.swapaxes(1, 2), floors)


# References, in float64.


def reference(problem: Problem, models: np.ndarray, floor: int | None) -> np.ndarray:
    """E[max] of some models of each query, or what they add to a floor."""
    mean, covariance = (x.astype(np.float64) for x in (problem.mean, problem.covariance))
    if covariance.ndim == 3:
        return by_many_points(mean.shape[1])[0]
    rows = zip(mean[:, models], np.sqrt(covariance)[:, models], strict=True)
    if floor is None:
        return np.array([plain.expected_max(*row) for row in rows])
    floors = problem.floor[:, floor]
    return np.array([plain.gain(f, *row) for f, row in zip(floors, rows, strict=True)])


@functools.cache
def by_many_points(k: int) -> tuple[np.ndarray, np.ndarray]:
    """E[max] of `matrices`, and its standard error.

    Clark's formula for two models; else the mean over 8 x 2^17 points, scrambled otherwise than
    the library's and taken through the symmetric root; the 8 give the standard error.
    """
    problem = matrices(k, ROWS, 1)
    mean, covariance = (x.astype(np.float64) for x in (problem.mean, problem.covariance))
    if k == 2:
        values = [plain.expected_max_of_two(*row) for row in zip(mean, covariance, strict=True)]
        return np.array(values), np.zeros(len(mean))
    eigenvalue, vector = np.linalg.eigh(covariance)
    root = vector * np.sqrt(eigenvalue.clip(0))[:, None, :]
    parts = []
    for seed in range(8):
        points = ndtri(qmc.Sobol(k, rng=1000 + seed).random(1 << 17).clip(1e-10, None)).T
        parts.append([(m + (r @ points).T).max(1).mean() for m, r in zip(mean, root, strict=True)])
    return np.mean(parts, axis=0), np.std(parts, axis=0, ddof=1) / np.sqrt(8)


# What each kernel's answer says: some models of K, the floor they are held to, and the answer.

Said: TypeAlias = Iterator[tuple[np.ndarray, int | None, np.ndarray]]


def some_sets(k: int) -> Iterator[tuple[int, np.ndarray]]:
    """Rows of `members`, never that of the empty set, and the masks."""
    masks = members(k)
    for row in 1 + np.random.default_rng(k).permutation(len(masks) - 1)[:SETS]:
        yield row, masks[row]


def of_all(k: int, answer: np.ndarray) -> Said:
    yield np.ones(k, bool), None, answer


def of_sets(k: int, answer: np.ndarray) -> Said:
    for row, mask in some_sets(k):
        yield mask, None, answer[:, row]


def of_set_gains(k: int, answer: np.ndarray) -> Said:
    for row, mask in some_sets(k):
        for j in range(FLOORS):
            yield mask, j, answer[:, j, row]


def of_tables(k: int, answer: tuple[np.ndarray, np.ndarray]) -> Said:
    values, gains = answer
    yield from of_sets(k, values.T)
    yield from of_set_gains(k, gains.transpose(2, 1, 0))


def of_prefixes(k: int, answer: np.ndarray) -> Said:
    for j in range(k):
        yield np.arange(k) <= j, None, answer[:, j]


def of_prefix_gains(k: int, answer: np.ndarray) -> Said:
    for s in range(1, k):
        for j in range(s, k):
            yield (np.arange(k) >= s) & (np.arange(k) <= j), s - 1, answer[:, s - 1, j]


def of_prefix_table(k: int, answer: list[np.ndarray]) -> Said:
    for s in range(1, k):
        for j in range(s, k):
            yield (np.arange(k) >= s) & (np.arange(k) <= j), s - 1, answer[s - 1][j - s]


# Methods.


@dataclass(frozen=True)
class Method:
    """A row of the table.

    Attributes:
        name: what it is called.
        problems: what its error is measured on.
        call: a jitted kernel and what it is given.
        says: how to read its answer.
        floats: numbers a query of K models at its widest point.
        sets: supermodels of K models it answers for.
        floors: qualities in hand it is given.
        samples: quasi-random points, 0 for quadrature.
        timed: what its time is measured on.
    """

    name: str
    problems: Problems
    call: Callable[[Problem], tuple[Callable[..., Any], tuple[np.ndarray, ...]]]
    says: Callable[[int, Any], Said]
    floats: Callable[[int], int]
    sets: Callable[[int], int] = lambda k: 1
    floors: Callable[[int], int] = lambda k: 1
    samples: int = 0
    timed: Problems = alike

    def errors(self, k: int) -> np.ndarray:
        """All errors on queries of K models, in units of each one's largest sigma."""
        problem = self.problems(k, ROWS, self.floors(k))
        kernel, given = self.call(problem)
        answer = jax.tree.map(np.asarray, kernel(*given))
        errors = [
            (got - reference(problem, models, floor)) / problem.sigma.max(1)
            for models, floor, got in self.says(k, answer)
        ]
        return np.concatenate([np.zeros(0), *errors])

    def stated(self, most: int) -> str:
        """The largest error stated for up to 5 or 11 models, in units of the largest sigma."""
        if not self.samples:
            return "1e-05"
        return f"{3 * self.samples ** -(0.8 if most <= 5 else 0.7):.1e}"

    def microseconds(self, k: int) -> float:
        """Median time a query."""
        queries = min(TIMED_QUERIES, max(16, TIMED_FLOATS // self.floats(k)))
        queries = 1 << queries.bit_length() - 1
        kernel, given = self.call(self.timed(k, queries, self.floors(k)))
        given = [jax.device_put(x) for x in given]
        jax.block_until_ready(kernel(*given))
        times = []
        for _ in range(ROUNDS):
            start, calls = time.perf_counter(), 0
            while not calls or time.perf_counter() - start < ROUND_SECONDS:
                jax.block_until_ready(kernel(*given))
                calls += 1
            times.append((time.perf_counter() - start) / calls)
        return statistics.median(times) / queries * 1e6


def of_covariance(kernel: Callable[..., Any], **static: Any) -> Any:
    """`Method.call` of a kernel of means and covariance."""
    fixed = jax.jit(functools.partial(kernel, **static))
    return lambda problem: (fixed, (problem.mean, problem.covariance))


def of_floors(kernel: Callable[..., Any]) -> Any:
    """`Method.call` of a kernel of floors, means and sigmas."""
    fixed = jax.jit(kernel)
    return lambda problem: (fixed, (problem.floor, problem.mean, problem.sigma))


def queries_last(kernel: Callable[..., Any]) -> Any:
    """`Method.call` of a kernel of the same with queries last, and panels."""

    def call(problem: Problem) -> tuple[Callable[..., Any], tuple[np.ndarray, ...]]:
        given = (problem.floor, problem.mean, problem.sigma)
        fixed = jax.jit(functools.partial(kernel, panels=problem.panels))
        return fixed, tuple(np.ascontiguousarray(x.T) for x in given)

    return call


def tables_of_all(floor: jax.Array, mean: jax.Array, sigma: jax.Array, panels: int) -> Any:
    return supermodel_tables(floor, mean, sigma, len(mean), panels)


def nodes(k: int) -> int:
    """Quadrature nodes between the sorted knots of K models."""
    return 8 * (5 * k - 1)


def halves(k: int) -> int:
    """Numbers of products over the subsets of each half of the models."""
    return 2 * 2 ** (k - k // 2) * nodes(k) + 2**k


def every(k: int) -> int:
    """Supermodels of K models."""
    return 2**k - 1


def other_floors(k: int) -> int:
    """Of each number of models run."""
    return max(1, k - 1)


METHODS = [
    Method(
        "`expected_max`", wide, of_covariance(expected_max), of_all, lambda k: k * nodes(k)
    ),
    Method(
        "`supermodel_values`", wide, of_covariance(supermodel_values), of_sets, halves, every
    ),
    Method(
        f"`supermodel_gains`, {FLOORS} floors", wide, of_floors(supermodel_gains), of_set_gains,
        lambda k: FLOORS * halves(k), every, lambda k: FLOORS,
    ),
    Method(
        f"`supermodel_tables`, values and {FLOORS} floors", alike, queries_last(tables_of_all),
        of_tables, lambda k: 2**k * 40, every, lambda k: FLOORS,
    ),
    Method(
        "`prefix_values`", wide, of_covariance(prefix_values), of_prefixes,
        lambda k: k * nodes(k), lambda k: k,
    ),
    Method(
        "`prefix_gains`, K - 1 floors", wide, of_floors(prefix_gains), of_prefix_gains,
        lambda k: k * k * nodes(k), lambda k: k, other_floors,
    ),
    Method(
        "`prefix_table`, K - 1 floors", alike, queries_last(prefix_table), of_prefix_table,
        lambda k: k * k * 80, lambda k: k, other_floors,
    ),
    *(
        Method(
            f"`expected_max`, {n} points", problems,
            of_covariance(expected_max, method="qmc", samples=n),
            of_all, lambda k, n=n: k * n, samples=n, timed=problems,
        )
        for problems in (wide, matrices)
        for n in (256, 1024, 4096, 16384)
    ),
]  # fmt: skip

APPLIES: dict[Problems, str] = {
    wide: "variances",
    alike: "variances, sigmas alike",
    matrices: "matrices",
}


def machine() -> str:
    """What the times were taken on."""
    if jax.default_backend() != "cpu":
        return jax.devices()[0].device_kind
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores"


def main() -> None:
    """Prints where and when, the table, and the standard error of the reference."""
    versions = f"jax {jax.__version__}, numpy {np.__version__}, scipy {scipy.__version__}"
    print(f"{datetime.date.today()}: {machine()}, Python {platform.python_version()}, {versions}.")
    print(
        "\n| method | applies to | rms error, K ≤ 5; K ≤ 11 | largest error | stated"
        " | µs, K = 5 | µs, K = 11 | µs a supermodel, K = 11 |\n|---|---|---|---|---|---|---|---|"
    )
    for method in METHODS:
        errors = [method.errors(k) for k in MODELS]
        # Of the number of models on which it is the largest.
        rms = [np.sqrt(np.square(e).mean()) if len(e) else 0 for e in errors]
        largest = [abs(e).max(initial=0) for e in errors]
        few, many = (method.microseconds(k) for k in (5, 11))
        times = (few, many, many / method.sets(11))
        cells = [method.name, APPLIES[method.problems]]
        cells += [f"{max(worst[:5]):.1e}; {max(worst):.1e}" for worst in (rms, largest)]
        cells += [f"{method.stated(5)}; {method.stated(11)}"]
        cells += [f"{x:.3g}" if x < 1000 else f"{x:,.0f}" for x in times]
        print(f"| {' | '.join(cells)} |", flush=True)
    sigma = [matrices(k, ROWS, 1).sigma.max(1) for k in MODELS]
    own = max((by_many_points(k)[1] / s).max() for k, s in zip(MODELS, sigma, strict=True))
    print(f"\nThe reference of matrices has a standard error of at most {own:.0e} sigma.")


if __name__ == "__main__":
    main()
