"""Print the error and the time of every E[max] kernel, as a table in Markdown.

    python benchmarks/expected_max.py [--models 11]

Takes two minutes on an idle machine. EXPECTED_MAX.md has the last output, and explains the methods.
"""

import argparse
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
    Segments,
    expected_max,
    members,
    panels_needed,
    prefix_values,
    supermodel_tables,
    supermodel_values,
)

# The float64 integrals of the tests, which compare them with adaptive quadrature.
_SPEC = importlib.util.spec_from_file_location(
    "plain", Path(__file__).parents[1] / "tests" / "plain.py"
)
assert _SPEC
assert _SPEC.loader
plain = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(plain)

ROWS, SETS, INCUMBENTS = 16, 32, 4
"""Queries per number of models; sets of models checked per query; incumbents per query."""
TIMED_FLOATS, TIMED_QUERIES = 1 << 21, 16384
"""Largest number of intermediate numbers, and of queries, in a timed call."""
ROUNDS, ROUND_SECONDS = 9, 0.05


# Random problems, in float32.


@dataclass(frozen=True)
class Problem:
    """Random queries: means, variances or covariance matrices, and rising incumbents."""

    mean: np.ndarray
    covariance: np.ndarray
    incumbent: np.ndarray

    @property
    def sigma(self) -> np.ndarray:
        """Standard deviation of each model."""
        whole = self.covariance.ndim == 3
        return np.sqrt(np.diagonal(self.covariance, 0, 1, 2) if whole else self.covariance)

    @property
    def panels(self) -> int:
        """Number of panels, for the kernels that take it."""
        needed = panels_needed(self.mean, self.sigma)
        assert needed is not None
        return needed


Problems: TypeAlias = Callable[[int, int, int], Problem]
"""Function of the numbers of models, queries and incumbents."""


def _problem(
    rng: np.random.Generator, mean: np.ndarray, covariance: np.ndarray, incumbents: int
) -> Problem:
    problem = Problem(mean.astype(np.float32), covariance.astype(np.float32), np.empty(0))
    spread = problem.sigma.max(1, keepdims=True) * rng.normal(0, 1, (len(mean), incumbents))
    incumbent = np.sort(mean.mean(1, keepdims=True) + spread, axis=1).astype(np.float32)
    return Problem(problem.mean, problem.covariance, incumbent)


def wide(k: int, rows: int, incumbents: int) -> Problem:
    """Return sigmas from 1e-3 to 10, some 0; means near, far, equal or tied, by largest sigma."""
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
    return _problem(rng, mean, np.square(sigma), incumbents)


def narrow(k: int, rows: int, incumbents: int) -> Problem:
    """Return sigmas within a factor of two."""
    rng = np.random.default_rng(k)
    mean, sigma = rng.normal(0.7, 0.2, (rows, k)), rng.uniform(0.3, 0.6, (rows, k))
    return _problem(rng, mean, np.square(sigma), incumbents)


def matrices(k: int, rows: int, incumbents: int) -> Problem:
    """Return matrices A A^T: half with sigmas from 1e-3 to 10, half with a model that has run."""
    rng = np.random.default_rng(k)
    root = rng.normal(0, 0.7, (rows, k, k))
    root[rows // 2 :] *= 10 ** rng.uniform(-3, 1, (rows - rows // 2, k, 1))
    if k > 1:
        root[::2, 0] = 0
    sigma = np.sqrt(np.square(root).sum(2).max(1))
    mean = rng.normal(0, 0.5, (rows, k)) * sigma[:, None]
    mean[1::4] = mean[1::4, :1]
    return _problem(rng, mean, root @ root.swapaxes(1, 2), incumbents)


# References, in float64.


def reference(problem: Problem, models: np.ndarray, incumbent: int | None) -> np.ndarray:
    """Return E[max] of a set of models for each query, or what they add to an incumbent."""
    mean, covariance = (x.astype(np.float64) for x in (problem.mean, problem.covariance))
    if covariance.ndim == 3:
        return by_many_points(mean.shape[1])[0]
    rows = zip(mean[:, models], np.sqrt(covariance)[:, models], strict=True)
    if incumbent is None:
        return np.array([plain.expected_max(*row) for row in rows])
    incumbents = problem.incumbent[:, incumbent]
    return np.array([plain.gain(f, *row) for f, row in zip(incumbents, rows, strict=True)])


@functools.cache
def by_many_points(k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return E[max] of `matrices`, and its standard error.

    For two models, Clark's formula; else the mean over 8 x 2^17 points, scrambled independently of
    the library's and multiplied by the symmetric root. The 8 repetitions give the standard error.
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


# Results of each kernel: a set of the K models, the incumbent they are compared with, the values.

Results: TypeAlias = Iterator[tuple[np.ndarray, int | None, np.ndarray]]


def random_sets(k: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield random rows of `members`, without the empty set, and their masks."""
    masks = members(k)
    for row in 1 + np.random.default_rng(k).permutation(len(masks) - 1)[:SETS]:
        yield row, masks[row]


def all_results(k: int, answer: np.ndarray) -> Results:
    yield np.ones(k, bool), None, answer


def set_results(k: int, answer: np.ndarray) -> Results:
    for row, mask in random_sets(k):
        yield mask, None, answer[:, row]


def set_gain_results(k: int, answer: np.ndarray) -> Results:
    for row, mask in random_sets(k):
        for j in range(INCUMBENTS):
            yield mask, j, answer[:, j, row]


def table_results(k: int, answer: tuple[np.ndarray, np.ndarray]) -> Results:
    values, gains = answer
    yield from set_results(k, values.T)
    yield from set_gain_results(k, gains.transpose(2, 1, 0))


def prefix_results(k: int, answer: np.ndarray) -> Results:
    for j in range(k):
        yield np.arange(k) <= j, None, answer[:, j]


def prefix_table_results(k: int, answer: list[np.ndarray]) -> Results:
    for s in range(1, k):
        for j in range(s, k):
            yield (np.arange(k) >= s) & (np.arange(k) <= j), s - 1, answer[s - 1][j - s]


# Methods.


@dataclass(frozen=True)
class Method:
    """Row of the table.

    Attributes:
        name: name of the method.
        problems: problems on which its error is measured.
        call: returns a jitted kernel and its arguments.
        results: reads the result of the kernel.
        floats: largest number of intermediate numbers per query of K models.
        sets: number of sets of K models that it returns values for.
        incumbents: number of incumbents it takes.
        samples: quasi-random points, 0 for quadrature.
        timed: problems on which its time is measured.
    """

    name: str
    problems: Problems
    call: Callable[[Problem], tuple[Callable[..., Any], tuple[np.ndarray, ...]]]
    results: Callable[[int, Any], Results]
    floats: Callable[[int], int]
    sets: Callable[[int], int] = lambda k: 1
    incumbents: Callable[[int], int] = lambda k: 1
    samples: int = 0
    timed: Problems = narrow

    def errors(self, k: int) -> np.ndarray:
        """Return all errors on queries of K models, in units of the largest sigma of each query."""
        problem = self.problems(k, ROWS, self.incumbents(k))
        kernel, arguments = self.call(problem)
        answer = jax.tree.map(np.asarray, kernel(*arguments))
        errors = [
            (value - reference(problem, models, incumbent)) / problem.sigma.max(1)
            for models, incumbent, value in self.results(k, answer)
        ]
        return np.concatenate([np.zeros(0), *errors])

    def stated(self, most: int) -> str:
        """Return the documented largest error for up to 5 or 11 models, in largest sigmas."""
        if not self.samples:
            return "1e-05"
        return f"{3 * self.samples ** -(0.8 if most <= 5 else 0.7):.1e}"

    def microseconds(self, k: int) -> float:
        """Return the median time per query."""
        queries = min(TIMED_QUERIES, max(16, TIMED_FLOATS // self.floats(k)))
        queries = 1 << queries.bit_length() - 1
        kernel, arguments = self.call(self.timed(k, queries, self.incumbents(k)))
        arguments = [jax.device_put(x) for x in arguments]
        jax.block_until_ready(kernel(*arguments))
        times = []
        for _ in range(ROUNDS):
            start, calls = time.perf_counter(), 0
            while not calls or time.perf_counter() - start < ROUND_SECONDS:
                jax.block_until_ready(kernel(*arguments))
                calls += 1
            times.append((time.perf_counter() - start) / calls)
        return statistics.median(times) / queries * 1e6


def takes_covariance(kernel: Callable[..., Any], **static: Any) -> Any:
    """Return `Method.call` for a kernel of means and covariance."""
    fixed = jax.jit(functools.partial(kernel, **static))
    return lambda problem: (fixed, (problem.mean, problem.covariance))


def queries_last(kernel: Callable[..., Any], *, knots: bool = False) -> Any:
    """Return `Method.call` for a kernel of incumbents, means and sigmas, by panels or knots."""

    def call(problem: Problem) -> tuple[Callable[..., Any], tuple[np.ndarray, ...]]:
        arrays = (problem.incumbent, problem.mean, problem.sigma)
        fixed = jax.jit(functools.partial(kernel, panels=None if knots else problem.panels))
        return fixed, tuple(np.ascontiguousarray(x.T) for x in arrays)

    return call


def tables_of_all(
    incumbent: jax.Array, mean: jax.Array, sigma: jax.Array, panels: int | None
) -> Any:
    return supermodel_tables(incumbent, mean, sigma, len(mean), panels)


def prefix_table(
    incumbent: jax.Array, mean: jax.Array, sigma: jax.Array, panels: int | None
) -> Any:
    table = Segments.of(incumbent, mean, sigma, panels)
    return [table.prefix_gains(s) for s in range(1, len(mean))]


def nodes(k: int) -> int:
    """Return the number of quadrature nodes between the sorted knots of K models."""
    return 8 * (5 * k - 1)


def halves(k: int) -> int:
    """Return the number of products over the subsets of each half of the models."""
    return 2 * 2 ** (k - k // 2) * nodes(k) + 2**k


def every(k: int) -> int:
    """Return the number of nonempty sets of K models."""
    return 2**k - 1


def other_incumbents(k: int) -> int:
    """Return one incumbent per number of models run."""
    return max(1, k - 1)


METHODS = [
    Method(
        "`expected_max`", wide, takes_covariance(expected_max), all_results, lambda k: k * nodes(k)
    ),
    Method(
        "`supermodel_values`", wide, takes_covariance(supermodel_values), set_results, halves, every
    ),
    Method(
        f"`supermodel_tables` by knots, {INCUMBENTS} incumbents", wide,
        queries_last(tables_of_all, knots=True), table_results, lambda k: 2**k * 5 * k, every,
        lambda k: INCUMBENTS,
    ),
    Method(
        f"`supermodel_tables`, values and {INCUMBENTS} incumbents", narrow,
        queries_last(tables_of_all), table_results, lambda k: 2**k * 40, every,
        lambda k: INCUMBENTS,
    ),
    Method(
        "`prefix_values`", wide, takes_covariance(prefix_values), prefix_results,
        lambda k: k * nodes(k), lambda k: k,
    ),
    Method(
        "`prefix_table` by knots, K - 1 incumbents", wide, queries_last(prefix_table, knots=True),
        prefix_table_results, lambda k: k * k * nodes(k), lambda k: k, other_incumbents,
    ),
    Method(
        "`prefix_table`, K - 1 incumbents", narrow, queries_last(prefix_table),
        prefix_table_results, lambda k: k * k * 80, lambda k: k, other_incumbents,
    ),
    *(
        Method(
            f"`expected_max`, {n} points", problems,
            takes_covariance(expected_max, method="qmc", samples=n),
            all_results, lambda k, n=n: k * n, samples=n, timed=problems,
        )
        for problems in (wide, matrices)
        for n in (256, 1024, 4096, 16384)
    ),
]  # fmt: skip

APPLIES: dict[Problems, str] = {
    wide: "variances",
    narrow: "variances, sigmas alike",
    matrices: "matrices",
}


def machine() -> str:
    """Return the name of the device and the number of cores."""
    if jax.default_backend() != "cpu":
        return jax.devices()[0].device_kind
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores"


def main() -> None:
    """Print the machine, the table, and the standard error of the reference."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", type=int, default=11, help="largest number of models checked")
    models = range(1, parser.parse_args().models + 1)
    versions = f"jax {jax.__version__}, numpy {np.__version__}, scipy {scipy.__version__}"
    print(f"{datetime.date.today()}: {machine()}, Python {platform.python_version()}, {versions}.")
    print(
        "\n| method | applies to | rms error, K ≤ 5; K ≤ 11 | largest error | stated"
        " | µs, K = 5 | µs, K = 11 | µs a supermodel, K = 11 |\n|---|---|---|---|---|---|---|---|"
    )
    for method in METHODS:
        errors = [method.errors(k) for k in models]
        # The largest over the numbers of models.
        rms = [np.sqrt(np.square(e).mean()) if len(e) else 0 for e in errors]
        largest = [abs(e).max(initial=0) for e in errors]
        few, many = (method.microseconds(k) for k in (5, 11))
        times = (few, many, many / method.sets(11))
        cells = [method.name, APPLIES[method.problems]]
        cells += [f"{max(worst[:5]):.1e}; {max(worst):.1e}" for worst in (rms, largest)]
        cells += [f"{method.stated(5)}; {method.stated(11)}"]
        cells += [f"{x:.3g}" if x < 1000 else f"{x:,.0f}" for x in times]
        print(f"| {' | '.join(cells)} |", flush=True)
    sigma = [matrices(k, ROWS, 1).sigma.max(1) for k in models]
    own = max((by_many_points(k)[1] / s).max() for k, s in zip(models, sigma, strict=True))
    print(f"\nThe reference of matrices has a standard error of at most {own:.0e} sigma.")


if __name__ == "__main__":
    main()
