"""The checks: each compares the public interface with `reference` on many instances."""

import functools
import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.stats import binom

import cascjax as cj
from benchmarks.audit import reference
from benchmarks.audit.instances import Instance, float32, instance
from cascjax import core, synthetic

RULES = ("routing", "thresholding", "cascading", "pandora", "cascade-routing")
SAME = (*RULES, "mixing")

drawn = functools.cache(instance)


@dataclass(frozen=True)
class Size:
    """How much is done: kinds, shapes (N, K) and seeds of instances, numbers, logs and fits."""

    kinds: tuple[str, ...]
    shapes: tuple[tuple[int, int], ...]
    seeds: range
    draws: int
    logs: int
    fits: int

    def instances(self) -> Iterator[Instance]:
        """Yield every instance; two identical models leave nothing to compare."""
        for n, k in self.shapes:
            for kind in self.kinds:
                if (kind, k) != ("identical models", 2):
                    yield from (drawn(kind, n, k, seed) for seed in self.seeds)


@dataclass(frozen=True)
class Row:
    """Result of a check: the worst deviation of all cases, where it is, and what is allowed."""

    check: str
    cases: int
    worst: float
    bound: float
    where: str = ""

    @property
    def ok(self) -> bool:
        """Whether the bound holds; it does not for NaN."""
        return self.worst <= self.bound


def row(check: str, bound: float, cases: list[tuple[float, str]]) -> Row:
    """Return the row of deviations, each with the place it belongs to."""
    worst, where = max(cases, key=lambda case: math.inf if math.isnan(case[0]) else case[0])
    return Row(check, len(cases), float(worst), bound, where)


def share(check: str, bad: list[bool], expected: float) -> Row:
    """Return the row of a share, allowed what 999 of 1,000 binomial samples keep within."""
    n = len(bad)
    return Row(check, n, sum(bad) / n, float(binom.ppf(0.999, n, expected)) / n)


def singles(case: Instance) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean cost and quality of every model alone."""
    sums = [[math.fsum(x.tolist()) for x in values.T] for values in (case.cost, case.quality)]
    cost, quality = np.array(sums) / len(case.cost)
    return cost, quality


def budgets_of(case: Instance) -> np.ndarray:
    """Return budgets on the costs of all models, between them, and evenly spaced."""
    cost = np.sort(singles(case)[0])
    return np.unique([*cost, *(cost[1:] + cost[:-1]) / 2, *np.linspace(cost[0], cost[-1], 7)])


@functools.cache
def study(case: Instance) -> cj.Study:
    """Return the study of an instance that is fitted on the queries it is scored on."""
    names = ["mixing", "oracle"]
    return cj.compare(case.table(), names, "supplied", budgets=budgets_of(case))


def single_means(size: Size) -> Iterator[Row]:
    """Compare the means of single models with exact sums."""
    cases = []
    for case in size.instances():
        cost, quality = singles(case)
        worst = [
            np.abs(found - exact) / np.maximum(np.abs(exact), 1e-300)
            for found, exact in (
                (study(case).single_cost, cost), (study(case).single_quality, quality)
            )
        ]  # fmt: skip
        cases.append((np.max(worst), case.name))
    yield row("single-model means, relative", 1e-6, cases)


def mixing(size: Size) -> Iterator[Row]:
    """Compare mixing with the best of all pairs of models, at budgets and by area."""
    points, areas = [], []
    for case in size.instances():
        alone, found = singles(case), study(case)["mixing"]
        for budget, quality in zip(found.budget, found.quality, strict=True):
            exact = reference.mixture(*alone, budget)
            points.append((abs(quality - exact) / case.span, case.name))
        areas.append((abs(found.auc - reference.mixture_auc(*alone)) / case.span, case.name))
    yield row("mixing at budgets = best pair of models", 1e-6, points)
    yield row("AUC of mixing = exact polygon", 1e-6, areas)


def routing(size: Size) -> Iterator[Row]:
    """Compare the oracle, and routing on exact estimates, with the best routing there is."""
    rows: dict[str, list[tuple[float, str]]] = {"oracle": [], "routing": []}
    areas: dict[str, list[tuple[float, str]]] = {"oracle": [], "routing": []}
    program = []
    for case in size.instances():
        exact = case.exact()
        for name in rows:
            found = study(case)[name] if name == "oracle" else cj.compare(
                exact.table(), "routing", "supplied", budgets=budgets_of(case)
            )[name]  # fmt: skip
            truth = case.quality.astype(float), case.cost.astype(float)
            best = np.interp(found.budget, *reference.routed(*truth))
            rows[name] += [(x, case.name) for x in np.abs(found.quality - best) / case.span]
            area = abs(found.auc - reference.routed_auc(*truth)) / case.span
            areas[name].append((area, case.name))
            if name == "routing" and "wide" not in case.name:
                for at in range(0, len(found.budget), 4):
                    optimum = reference.linear_program(*truth, found.budget[at])
                    program.append((abs(found.quality[at] - optimum) / case.span, case.name))
    for name, cases in rows.items():
        label = "oracle" if name == "oracle" else "routing on exact estimates"
        yield row(f"{label} at budgets = exact knapsack", 1e-4, cases)
        yield row(f"AUC of {label} = exact knapsack", 1e-4, areas[name])
    yield row("routing on exact estimates = linear program", 1e-4, program)


def outcomes(size: Size) -> Iterator[Row]:
    """Compare what runs and what answers with loops over queries; a tie may go either way.

    The deviation of a query decided otherwise is the worth by which the choice of the loop leads.
    """
    for name in RULES:
        cases = []
        for case in size.instances():
            unit = case.span / case.cost.mean()
            values = np.quantile(case.post, [0, 0.3, 0.7, 1], method="nearest")
            settings = values if name == "thresholding" else unit * np.array([0, 0.02, 0.3, 5])
            settings = float32(settings)
            arrays = case.ante, case.post, case.sigma, case.cost_ante
            estimates = core.Independent(*arrays, case.cost_ante)
            found = core.sweep(cj.strategy(name), settings, estimates)
            run, answer = np.asarray(found.run), np.asarray(found.answer)
            queries = [np.stack(row) for row in zip(*map(np.float64, arrays), strict=True)]
            for at, setting in enumerate(settings):
                for i, query in enumerate(queries):
                    exact, best, lead = reference.rollout(name, float(setting), *query)
                    # Answers of equal estimates are equally right.
                    lost = abs(query[1][best] - query[1][answer[at, i]])
                    worst = lost if set(np.flatnonzero(run[at, i])) == exact else lead
                    cases.append((worst / case.span, case.name))
        yield row(f"outcomes of {name} = loop over queries", 1e-5, cases)


def integrals(size: Size) -> Iterator[Row]:
    """Compare E[max] and reservation values with adaptive quadrature."""
    rng, gains, values = np.random.default_rng(0), [], []
    for k in (2, 3, 6):
        scale = np.array([1.0, 100.0])[rng.integers(0, 2, size.draws)]
        mean = float32(rng.normal(0, 1, (size.draws, k)) * scale[:, None])
        sigma = rng.choice([0, 1e-3, 0.1, 0.3, 1], (size.draws, k)) * scale[:, None]
        mean[::5] = mean[::5, :1]  # ties
        variance = float32(sigma**2)
        sigma = np.sqrt(variance.astype(float))
        for m, s, found in zip(mean, sigma, core.expected_max(mean, variance), strict=True):
            exact = reference.expected_max_quad(m.astype(float), s) if s.any() else m.max()
            # Beside 1e-5 of the largest sigma, what float32 rounds of the means.
            error = abs(float(found) - exact) - 2.0**-22 * np.abs(m).max()
            gains.append((max(error, 0) / max(s.max(), 1e-30), f"mean {m}, sigma {s}"))
    yield row("E[max] = quadrature, in the largest sigma", 1e-5, gains)
    mean = float32(rng.normal(0, 1, 4 * size.draws))
    sigma = float32(rng.choice([0, 0.01, 0.3, 1], mean.size))
    cost = float32(10 ** rng.uniform(-9, 1, mean.size) * np.where(sigma > 0, sigma, 1))
    for m, s, c, z in zip(
        mean, sigma, cost, core.reservation_value(mean, sigma, cost), strict=True
    ):
        exact = reference.reservation_value(float(m), float(s), float(c), reference.unit_loss_quad)
        error = max(abs(float(z) - exact) - 2.0**-22 * max(abs(m), abs(exact)), 0)
        values.append((error / (s or 1), f"mean {m}, sigma {s}, cost {c}"))
    yield row("reservation value = quadrature, in sigma", 4e-6, values)


def half(case: Instance) -> cj.Table:
    """Return the table that is fitted on the first half of the queries."""
    return case.table(fit=max(1, len(case.cost) // 2))


def bounds(size: Size) -> Iterator[Row]:
    """Compare every strategy with the oracle at the same cost, scored on other queries."""
    cases = []
    for case in size.instances():
        table = half(case)
        found = cj.compare(table, list(SAME), "supplied", budgets=5)
        cost = np.concatenate([f.cost for f in found.frontiers])
        quality = np.concatenate([f.quality for f in found.frontiers])
        at, place = np.unique(np.minimum(cost, found.single_cost.max()), return_inverse=True)
        oracle = cj.compare(table, "oracle", "supplied", budgets=at)["oracle"]
        above = (quality - oracle.quality[place]) / case.span
        cases += [(max(x, 0.0), case.name) for x in above]
    yield row("no strategy above the oracle at its cost", 1e-6, cases)


def budgets(size: Size) -> Iterator[Row]:
    """Compare what a fitted policy costs on the queries it was fitted on with its budget."""
    cases = []
    for case in size.instances():
        table = case.table()
        for name in ("routing", "thresholding", "pandora"):
            for budget in budgets_of(case)[1:-1:3]:
                policy = cj.fit(table, name, "supplied", budget=float(budget))
                cost = cj.evaluate(policy, table, resamples=0).total.cost[0].value
                cases.append((max(cost / budget - 1, 0), f"{name}, {case.name}"))
    yield row("mean cost of a fitted policy above its budget", 1e-6, cases)


def _shuffled(case: Instance, axis: int) -> Instance:
    n, rng = case.cost.shape[axis], np.random.default_rng(1)
    order = rng.permutation(n)
    if axis == 0:  # within each split
        order = np.concatenate([order[order < n // 2], order[order >= n // 2]])
    return case.map(lambda x: x.take(order, axis=axis))


def _useless(case: Instance) -> Instance:
    low = min(x.min() for x in (case.quality, case.ante, case.post)) - case.span
    middle = (case.cost.mean(0).min() + case.cost.mean(0).max()) / 2
    more = {"sigma": 0, "cost": middle, "cost_ante": middle}
    columns = {
        name: np.insert(value, 1, more.get(name, low), axis=1)
        for name, value in vars(case).items()
        if name != "name"
    }
    return replace(case, **columns)


def _scaled(case: Instance, factor: float) -> Instance:
    return replace(
        case, cost=float32(case.cost * factor), cost_ante=float32(case.cost_ante * factor)
    )


def _points(source: cj.Source, names: tuple[str, ...]) -> np.ndarray:
    found = cj.compare(source, list(names), "supplied", budgets=7)
    return np.array([[*found[name].quality, found[name].auc] for name in names])


RELATIONS: dict[str, tuple[Callable[[Instance], Instance], float]] = {
    "rows permuted": (lambda case: _shuffled(case, 0), 1e-6),
    "models permuted": (lambda case: _shuffled(case, 1), 1e-6),
    "costs times 1024": (lambda case: _scaled(case, 1024), 1e-6),
    "costs times 1000": (lambda case: _scaled(case, 1000), 1e-4),
    "all rows twice": (lambda case: case.map(lambda x: np.repeat(x, 2, axis=0)), 1e-4),
}
"""What is changed, and the bound on qualities at budgets and AUCs."""


def relations(size: Size) -> Iterator[Row]:
    """Compare qualities and AUCs of a table and of the same table, changed."""
    # Without the kinds that tie: there the order of models decides, and rounding.
    kinds = tuple(k for k in size.kinds if k in ("random", "sigma 0", "wide costs", "percent"))
    cases = list(replace(size, kinds=kinds, shapes=size.shapes[-1:]).instances())
    plain = [_points(half(case), SAME) for case in cases]
    for label, (change, bound) in RELATIONS.items():
        rows = []
        for case, points in zip(cases, plain, strict=True):
            worst = np.abs(_points(half(change(case)), SAME) - points).max(1) / case.span
            rows += [(x, f"{name}, {case.name}") for x, name in zip(worst, SAME, strict=True)]
        yield row(f"same results with {label}", bound, rows)
    files, areas = [], []
    names = ("routing", "pandora", "cascade-routing", "mixing")
    with tempfile.TemporaryDirectory() as folder:
        for number, (case, points) in enumerate(zip(cases, plain, strict=True)):
            table, cut, n = half(case), len(case.cost) // 3, len(case.cost)
            paths = [Path(folder) / f"{number}-{part}.parquet" for part in range(2)]
            for path, part in zip(paths, (np.arange(cut), np.arange(cut, n)), strict=True):
                cj.write_table(path, table.take(part))
            found = _points(cj.open(paths), SAME)
            files.append((np.abs(found - points).max() / case.span, case.name))
            # Searched from another grid: AUC is stable, and on the queries fitted on.
            pair = [_points(each.table(), names)[:, -1] for each in (case, _useless(case))]
            worst = np.abs(pair[0] - pair[1]) / case.span
            areas += [(x, f"{name}, {case.name}") for x, name in zip(worst, names, strict=True)]
    yield row("same results from two files", 1e-6, files)
    yield row("same AUC with a useless model more", 1e-4, areas)


def shuffled_scores(size: Size) -> Iterator[Row]:
    """Count false gains of routing over mixing where every query has another's estimates.

    A loss is real: what is fitted to estimates that say nothing is fitted to noise.
    """
    gains, false = [], []
    for seed in range(size.logs):
        table = synthetic.sample(synthetic.make_dataset(3, seed=seed), seed, 2000)
        other = table.take(np.random.default_rng(seed).permutation(2000))
        names = ("quality_ante", "quality_post", "quality_sigma", "cost_ante", "cost_post")
        table = replace(table, **{name: getattr(other, name) for name in names})
        found = cj.compare(
            table, ["mixing", "routing"], "supplied", budgets=5, resamples=200, seed=seed
        )
        assert found.difference is not None
        assert found.difference_interval is not None
        gains.append(found.difference[1, 0])
        false.append(bool(found.difference_interval[1, 0, 0] > 0))
    yield share("shuffled estimates: 95% intervals of routing's gain above 0", false, 0.025)
    error = np.std(gains, ddof=1) / math.sqrt(len(gains))
    check = "shuffled estimates: mean gain of routing, in standard errors"
    yield Row(check, len(gains), float(np.mean(gains) / error), 3)


def log(n: int, seed: int, known: str) -> cj.Table:
    """Return a log of three models; `known` says what estimates are learned from."""
    rng = np.random.default_rng(seed)
    group, k = rng.integers(0, 4, n), 3
    ease = np.array([[0.3, 0.55, 0.7], [0.5, 0.6, 0.65], [0.2, 0.4, 0.8], [0.6, 0.62, 0.63]])[group]
    more = {"group": group.astype(np.int32), "groups": ("a", "b", "c", "d")}
    if known != "groups":
        x = rng.normal(size=(n, 4))
        names = tuple("wxyz")
        if known == "weak features":
            x, names = x[:, :2], names[:2]
        else:
            ease = 1 / (1 + np.exp(-(x[:, :k] + [-0.5, 0.2, 1])))
        more = {"features": float32(x), "feature_names": names}
    quality = float32(rng.random((n, k)) < ease)
    cost = float32([0.001, 0.004, 0.02] * rng.lognormal(0, 0.5, (n, k)))
    return cj.Table(quality, cost, models=("small", "medium", "large"), cost_unit="USD", **more)


def confidence(size: Size) -> Iterator[Row]:
    """Count fits with confidence 95% whose mean cost on as many new queries is above the budget."""
    n = 400
    split = np.append(np.zeros(n - 1), 1).astype(np.int8)
    for known in ("groups", "weak features", "four features"):
        above = []
        for seed in range(size.fits):
            budget, table = (0.004, 0.009)[seed % 2], replace(log(n, seed, known), split=split)
            policy = cj.fit(
                table, "routing", cj.Learned("logistic"), budget=budget, confidence=0.95, seed=seed
            )
            new = cj.evaluate(policy, log(n, 10**6 + seed, known), resamples=0)
            above.append(new.total.cost[0].value > budget)
        yield share(f"confidence 95%, {known}: fits above budget", above, 0.05)


CHECKS = (
    single_means, mixing, routing, outcomes, integrals, bounds, budgets, relations,
    shuffled_scores, confidence,
)  # fmt: skip
