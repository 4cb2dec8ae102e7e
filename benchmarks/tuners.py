"""Tuning beside peers: random search and a Tree-Parzen tuner, on the same objective.

    pip install -e '.[dev]'                                  # brings Optuna
    python benchmarks/tuners.py --table routerbench-sample.parquet --device "2 cores"

For every budget there is a multiplier mu, the slope of the plain frontier there, and the objective
is worth: mean quality - mu * mean cost on the queries fitted on, simulated exactly. Ours searches
for all budgets at once (`cascjax.search.tune.propose`). A peer has 200 trials a budget, the plain
solution the first of them, in a box around it. Its trials are cheap: what a strategy knows of a
query is tabulated before the clock starts, and one trial is a pass over that table.

Numbers are kept in measured/tuning/ by device; the tables of TUNING.md are made of them.
"""

import argparse
import functools
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, cast

import jax
import jax.numpy as jnp
import numpy as np
import optuna
from jaxtyping import Array, Float, Int
from results import number, table

import cascjax
from cascjax.core.expected_max import members, supermodel_tables
from cascjax.data import from_arrow
from cascjax.data.table import Table, mean_rows, split_rows, upper_hull
from cascjax.engine.simulate import query_spends
from cascjax.errors import CascjaxError
from cascjax.estimators import Independent, noisy
from cascjax.metrics import budgets as default_budgets
from cascjax.search.budgets import mix
from cascjax.search.tune import Problem, propose, tune
from cascjax.strategies import CascadeRouting, InOrder, Pandora, strategy

HERE = Path(__file__).parent
BEGIN, END = "<!-- tables: made by tuners.py -->\n", "<!-- end of tables -->\n"
SUBSETS = {3: (9, 4, 5), 5: (0, 9, 4, 3, 5), 11: tuple(range(11))}
"""The paper's models, by position among the score columns."""

NOISE = ("low", "medium", "high")
STRATEGIES = ("thresholding", "cascading", "pandora", "cascade-routing")
BUDGETS, TRIALS, ROUNDS = 8, 200, 3
FEW = (2, 5)
"""Of the eight budgets those that cascade routing of 11 models is compared at."""

WIDE = 3.0
"""Half the width of the box along a price or threshold, in standard deviations of the limits."""

CORRECTED = 1.0
"""The same along a correction: of log sigma, and of quality in units of sigma."""

ALIKE = 1e-6
"""What counts as at least as good, in units of quality."""

Evaluate: TypeAlias = Callable[[np.ndarray], tuple[float, float]]
"""From one point of the box to mean cost and mean quality on the queries fitted on."""

EvaluateMany: TypeAlias = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""The same of many points at once."""


@dataclass(frozen=True)
class Setting:
    """Models and noise: what a strategy is tuned on."""

    table: Table
    estimator: Independent
    fit: Int[np.ndarray, " n"]
    evaluate: Int[np.ndarray, " m"]
    budgets: Float[np.ndarray, " P"]

    @classmethod
    def of(cls, sample: Table, n_models: int, noise: str) -> "Setting":
        """As `cascjax.compare` with noisy estimates and seed 0 prepares it."""
        some = sample.select_models([sample.models[i] for i in SUBSETS[n_models]])
        fit, evaluate = split_rows(some, 0)
        some = some.sort_models(mean_rows(some.cost, fit))
        at = default_budgets(mean_rows(some.cost, fit), mean_rows(some.quality, fit))
        at = at[np.linspace(0, len(at) - 1, BUDGETS).round().astype(int)]
        return cls(some, noisy(some, jax.random.key(0), noise), fit, evaluate, at)

    def problem(self, name: str) -> Problem:
        """What all tuners are given, in one piece: no folds."""
        kind = strategy(name)
        return Problem.of(kind, self.table, self.estimator, self.budgets, rows=self.fit, folds=0)


@functools.cache
def sample_of(file: Path) -> Table:
    """RouterBench's sample, from its own file."""
    return from_arrow(cascjax.import_routerbench(file, invalid="drop").arrow, file.stem)


# The box, and one trial in it.


@dataclass(frozen=True)
class Box:
    """Where peers search: for each of P budgets a box around the plain solution.

    Attributes:
        plain: `[P, D]` the plain solution of most worth; logarithms of prices, -tau, corrections.
        width: `[D]` half its width.
        one: simulates one point, as fast as can be on two cores.
        many: simulates many.
    """

    plain: Float[np.ndarray, "P D"]
    width: Float[np.ndarray, " D"]
    one: Evaluate
    many: EvaluateMany


def box_of(problem: Problem) -> Box:
    """The box of a problem; a strategy's tables are made here, once."""
    worth = problem.grid_quality.mean(1, dtype=np.float64)
    worth = worth - problem.multiplier[:, None] * problem.grid_cost.mean(1, dtype=np.float64)
    best, kind = problem.grid[worth.argmax(1)], problem.strategy
    k = problem.quality.shape[1]
    if isinstance(kind, InOrder):
        limit = on_line(kind, np.asarray(jax.jit(kind.limits)(problem.estimator), np.float64))
        center = -best if kind.rising else log_price(best)
        # Beyond all limits nothing changes, and no one would find back.
        inside = np.where(decides(limit), limit, np.nan)
        low, high = np.nanmin(inside, axis=1) - 1, np.nanmax(inside, axis=1) + 1
        plain = np.clip(center[:, None], low, high)
        one, many = in_order(problem, kind, limit)
        return Box(plain, WIDE * spread(limit), one, many)
    cascading = cast(InOrder, strategy("cascading"))
    limit = np.asarray(jax.jit(cascading.limits)(problem.estimator), np.float64)
    wide = WIDE * float(spread(on_line(cascading, limit)).mean())
    prices = problem.grid[problem.grid > 0]
    center = log_price(np.clip(best, prices.min(), prices.max()))[:, None]
    if isinstance(kind, Pandora):
        none = np.zeros((len(center), 2 * k))
        one, many = pandora(problem, kind)
        width = np.append(np.full(2 * k, CORRECTED), wide)
        return Box(np.concatenate([none, center], axis=1), width, one, many)
    if not isinstance(kind, CascadeRouting):
        raise CascjaxError(f"nothing to tune in {kind.name}")
    steps = kind.max_steps(k)
    one, many = cascade_routing(problem, kind)
    return Box(np.repeat(center, steps, axis=1), np.full(steps, wide), one, many)


def log_price(price: np.ndarray) -> np.ndarray:
    """Its logarithm, also of none."""
    return np.log(np.clip(price, 1e-30, 1e30))


def on_line(kind: InOrder, limit: Float[np.ndarray, "J n"]) -> Float[np.ndarray, "J n"]:
    """Limits where they are compared: logarithms of those of prices."""
    return limit if kind.rising else log_price(limit)


def decides(limit: Float[np.ndarray, "J n"]) -> np.ndarray:
    """Limits that a price may lie on either side of."""
    return np.abs(limit) < 60


def spread(limit: Float[np.ndarray, "J n"]) -> Float[np.ndarray, " J"]:
    """Standard deviation of each step's limits."""
    return np.nanstd(np.where(decides(limit), limit, np.nan), axis=1)


def in_order(problem: Problem, kind: InOrder, limit: np.ndarray) -> tuple[Evaluate, EvaluateMany]:
    """A query goes as deep as it keeps below its limits: what that gives is looked up."""
    answer = np.asarray(jax.jit(kind.answers)(problem.estimator))
    got = np.take_along_axis(problem.quality.T, answer, axis=0).astype(np.float64)
    spent = np.cumsum(problem.cost.T, axis=0, dtype=np.float64)
    n = got.shape[1]
    flat_got, flat_spent, query = got.ravel(), spent.ravel(), np.arange(n)

    def one(theta: np.ndarray) -> tuple[float, float]:
        on = np.logical_and.accumulate(theta[:, None] < limit)
        place = on.sum(0) * n + query
        return float(flat_spent[place].mean()), float(flat_got[place].mean())

    @jax.jit
    def many(theta: Array, limit: Array, got: Array, spent: Array) -> tuple[Array, Array]:
        on, cost, quality = True, jnp.broadcast_to(spent[0], (len(theta), n)), got[0]
        for j in range(len(limit)):
            on = on & (theta[:, j, None] < limit[j])
            cost, quality = jnp.where(on, spent[j + 1], cost), jnp.where(on, got[j + 1], quality)
        return cost.mean(1), quality.mean(1)

    tables = tuple(jnp.asarray(of, jnp.float32) for of in (limit, got, spent))
    return one, on_host(lambda theta: many(theta, *tables))


def pandora(problem: Problem, kind: Pandora) -> tuple[Evaluate, EvaluateMany]:
    """The closed form, on estimates corrected for each point."""
    k = problem.quality.shape[1]
    sigma = np.sqrt(np.mean(np.square(problem.estimator.sigma), axis=0))
    data = jax.tree.map(jnp.asarray, (problem.estimator, problem.quality, problem.cost, sigma))

    def one(theta: Array, data: Any) -> tuple[Array, Array]:
        beliefs, quality, cost, sigma = data
        beliefs = Independent(
            beliefs.quality_ante + theta[k : 2 * k] * sigma, beliefs.quality_post,
            beliefs.sigma * jnp.exp(theta[:k]), beliefs.cost_ante, beliefs.cost_post,
        )  # fmt: skip
        outcome = kind.sweep(jnp.exp(theta[2 * k :]), beliefs)
        assert outcome is not None
        got = jnp.take_along_axis(quality, outcome.answer[0][:, None], axis=1)
        return jnp.sum(jnp.where(outcome.run[0], cost, 0)) / len(cost), jnp.mean(got)

    many = jax.jit(lambda theta, data: jax.lax.map(lambda t: one(t, data), theta, batch_size=8))
    single = jax.jit(one)

    def evaluate(theta: np.ndarray) -> tuple[float, float]:
        cost, quality = jax.device_get(single(theta.astype(np.float32), data))
        return float(cost), float(quality)

    return evaluate, on_host(lambda theta: many(theta, data))


def cascade_routing(problem: Problem, kind: CascadeRouting) -> tuple[Evaluate, EvaluateMany]:
    """The worth of every supermodel in every state is tabulated; a trial takes the best of them."""
    ante, post, sigma, cost = problem.estimator.queries_last()
    k, n = ante.shape
    depth, masks = kind.max_steps(k), members(k, kind.max_steps(k))
    tables = jax.jit(supermodel_tables, static_argnums=(3, 4))
    values, gains = tables(post, ante, sigma, depth, problem.estimator.panels)
    # A row a query and state: a trial reads whole rows.
    values, gains = np.asarray(values).T.copy(), np.asarray(gains).transpose(2, 1, 0).copy()
    total, post = (masks.astype(np.float32) @ np.asarray(cost)).T.copy(), np.asarray(post).T
    bits, cheapest = masks @ (1 << np.arange(k)), masks.argmax(1)
    counts = [int((masks.sum(1) <= depth - step).sum()) for step in range(depth)]
    query = np.arange(n)

    def one(theta: np.ndarray) -> tuple[float, float]:
        price = np.exp(theta).astype(np.float32)
        new = cheapest[(values - price[0] * total).argmax(1)]
        run = np.zeros((n, k), bool)
        run[query, new] = True
        ran, answer, at, left = 1 << new, new.copy(), query, post[query, new].copy()
        for step in range(1, depth):
            count = counts[step]
            worth = gains[at, answer[at], :count] - price[step] * total[at, :count]
            worth[(bits[:count] & ran[at, None]) != 0] = -np.inf
            best = worth.argmax(1)
            go_on = worth[np.arange(len(at)), best] > 0
            at, new = at[go_on], cheapest[best[go_on]]
            if not len(at):
                break
            run[at, new] = True
            ran[at] |= 1 << new
            better = post[at, new] > left[at]
            answer[at] = np.where(better, new, answer[at])
            left[at] = np.where(better, post[at, new], left[at])
        spent = np.where(run, problem.cost, 0).sum() / n
        return float(spent), float(problem.quality[query, answer].mean(dtype=np.float64))

    def many(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        spent, got = query_spends(
            kind, np.exp(theta), problem.estimator, problem.quality, problem.cost
        )
        return spent.mean(1, dtype=np.float64), got.mean(1, dtype=np.float64)

    return one, many


def on_host(many: Callable[[Any], tuple[Array, Array]]) -> EvaluateMany:
    """Points to the device, means back."""

    def evaluate(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        cost, quality = jax.device_get(many(theta.astype(np.float32)))
        return np.asarray(cost, np.float64), np.asarray(quality, np.float64)

    return evaluate


# Tuners: each returns a point a budget.


def tree_parzen(
    box: Box, multiplier: float, place: int, seed: int, trials: int, *, multivariate: bool
) -> Float[np.ndarray, " D"]:
    """Optuna's sampler with its defaults, or each parameter by itself as hyperopt has it."""
    low, high = box.plain[place] - box.width, box.plain[place] + box.width
    names = [f"x{d:02}" for d in range(len(low))]
    inside: dict[str, optuna.distributions.BaseDistribution] = {
        name: optuna.distributions.FloatDistribution(a, b)
        for name, a, b in zip(names, low.tolist(), high.tolist(), strict=True)
    }
    sampler = optuna.samplers.TPESampler(seed=seed, multivariate=multivariate)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.enqueue_trial(dict(zip(names, box.plain[place].tolist(), strict=True)))
    for _ in range(trials):
        trial = study.ask(inside)
        cost, quality = box.one(np.array([trial.params[name] for name in names]))
        study.tell(trial, quality - multiplier * cost)
    return np.array([study.best_params[name] for name in names])


def random_search(
    box: Box, multiplier: np.ndarray, at: Sequence[int], seed: int, trials: int, seconds: float
) -> tuple[Float[np.ndarray, "P D"], int]:
    """The best of so many points a budget, or of as many as fit in the seconds; and how many.

    Args:
        box: where to search.
        multiplier: of all budgets.
        at: the budgets to search for, all at once.
        seed: of the points.
        trials: a budget; at most.
        seconds: none is begun beyond them.
    """
    rng, start, done, some = np.random.default_rng(seed), time.perf_counter(), 0, list(at)
    plain, price = box.plain[some], multiplier[some]
    best, highest = plain.copy(), np.full(len(some), -np.inf)
    chunk = 8  # points a budget and call: one program
    while done < trials and (done == 0 or time.perf_counter() < start + seconds):
        step = rng.uniform(-box.width, box.width, (len(some), chunk, len(box.width)))
        if done == 0:
            step[:, 0] = 0
        points = plain[:, None] + step
        cost, quality = box.many(points.reshape(-1, points.shape[-1]))
        worth = (quality - np.repeat(price, chunk) * cost).reshape(len(some), chunk)
        place, rows = worth.argmax(1), np.arange(len(some))
        better = worth[rows, place] > highest
        best[better] = points[rows, place][better]
        highest = np.maximum(highest, worth[rows, place])
        done += chunk
    return best, done


def ours(problem: Problem, box: Box) -> tuple[Float[np.ndarray, "P D"], float]:
    """What `propose` finds, as points of the box; and how far from plain corrections go.

    Where a search takes all its guesses by chance, the best of its looks and of the plain
    parameters is taken for each budget, by an exact simulation of all.
    """
    guesses = propose(problem, 0)
    if isinstance(problem.strategy, InOrder):
        return cast(np.ndarray, guesses[-1].theta)[-1], 0.0
    truths, plain = (problem.quality, problem.cost), box.plain
    if isinstance(problem.strategy, Pandora):
        sigma = np.sqrt(np.mean(np.square(problem.estimator.sigma), axis=0))
        # Line searches look at exact outcomes, and what they hold is the best they have seen.
        last = guesses[-1]
        scale, offset, price = (
            cast(np.ndarray, x)[-1] for x in (last.scale, last.offset, last.log_price)
        )
        shared = np.concatenate([np.log(scale), offset / sigma])
        found = np.column_stack([np.tile(shared, (len(price), 1)), price])
        return found, float(np.abs(shared).max())
    points = np.stack([plain, *(cast(np.ndarray, guess.theta)[-1] for guess in guesses)])
    settings = np.exp(points.reshape(-1, points.shape[-1]))
    spent, got = query_spends(problem.strategy, settings, problem.estimator, *truths)
    each = np.arange(len(plain))
    own = worths(problem, spent, got).reshape(len(plain), len(points), -1)[each, :, each]
    return points[own.argmax(1), each], 0.0


def worths(problem: Problem, spent: np.ndarray, got: np.ndarray) -> Float[np.ndarray, "P L"]:
    """Of every setting at every multiplier."""
    cost, quality = (of.mean(1, dtype=np.float64) for of in (spent, got))
    return quality - problem.multiplier[:, None] * cost


# What is found, on all queries.


@dataclass(frozen=True)
class Score:
    """One tuner's settings. Means over the budgets compared."""

    worth: float
    quality_fit: float
    quality_evaluate: float
    seconds: float
    cpu: float
    trials: int


def score(
    setting: Setting, problem: Problem, at: Sequence[int], points: np.ndarray,
    seconds: "Seconds", trials: int,
) -> Score:  # fmt: skip
    """Exactly, by one simulation for all tuners.

    Quality is at equal budget: the mix along the hull of a tuner's settings and the two plain
    ends, found on the queries fitted on.
    """
    kind, k = problem.strategy, problem.quality.shape[1]
    truths = (setting.table.quality, setting.table.cost)

    def simulated(settings: np.ndarray, estimator: Independent) -> tuple[np.ndarray, ...]:
        return query_spends(kind, settings, estimator, *truths)

    ends = simulated(problem.ends, setting.estimator)
    if isinstance(kind, Pandora):
        sigma = np.sqrt(np.mean(np.square(setting.estimator.sigma), axis=0))
        ends = simulated(problem.ends[:, :1], setting.estimator)
        parts = [
            simulated(
                np.exp(point[2 * k :]),
                setting.estimator.corrected(np.exp(point[:k]), point[k : 2 * k] * sigma),
            )
            for point in points
        ]
        own = tuple(np.concatenate(of) for of in zip(*parts, strict=True))
    else:
        rising = isinstance(kind, InOrder) and kind.rising
        idle = kind.idle if isinstance(kind, InOrder) else 0
        padded = np.concatenate([points[:, :idle], points], axis=1)
        own = simulated(-padded if rising else np.exp(padded), setting.estimator)
    budgets, multiplier = problem.budgets[list(at)], problem.multiplier[list(at)]
    cost, quality = (of[:, setting.fit].mean(1, dtype=np.float64) for of in own)
    worth = quality - multiplier * cost
    spent, got = (np.concatenate(of) for of in zip(own, ends, strict=True))
    cost, quality = (of[:, setting.fit].mean(1, dtype=np.float64) for of in (spent, got))
    hull = upper_hull(cost, quality)
    fit = mix(np.stack([hull, cost[hull], quality[hull]]).astype(np.float64), budgets)
    cheap, expensive = fit.parameters.astype(int).T
    other = got[:, setting.evaluate].mean(1, dtype=np.float64)
    mixed = (1 - fit.gamma) * other[cheap] + fit.gamma * other[expensive]
    return Score(
        float(worth.mean()), float(fit.quality.mean()), float(mixed.mean()), *seconds, trials
    )


class Seconds(NamedTuple):
    """What something took: by the clock, and of all cores together."""

    wall: float
    cpu: float

    def times(self, factor: float) -> "Seconds":
        """As many times as long."""
        return Seconds(self.wall * factor, self.cpu * factor)


def clocked(work: Callable[[], Any], rounds: int) -> tuple[Any, Seconds]:
    """Its result, and the median of its seconds."""
    taken, found = [], None
    for _ in range(rounds):
        start = time.perf_counter(), time.process_time()
        found = work()
        taken.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    return found, Seconds(*np.median(taken, axis=0).tolist())


def compared(setting: Setting, name: str, n_models: int, noise: str) -> dict[str, Any]:
    """One strategy in one setting, by all tuners."""
    setting.problem(name)  # compiles
    problem, set_up = clocked(lambda: setting.problem(name), 1)
    box = box_of(problem)
    expensive = name == "cascade-routing" and n_models > 5
    at = FEW if expensive else range(len(problem.budgets))
    check_trial(problem, box)

    ours(problem, box)  # compiles
    (found, largest), seconds = clocked(lambda: ours(problem, box), ROUNDS)
    _, alone = clocked(lambda: propose(problem, 0), ROUNDS)
    whole = functools.partial(
        tune, strategy(name), setting.table, setting.estimator, setting.budgets, rows=setting.fit
    )
    # A minute, where cascade routing has 11 models: at one level of noise.
    whole_seconds = None
    if not expensive or noise == "medium":
        whole()  # compiles
        _, whole_seconds = clocked(whole, 1)

    def scored(
        points: np.ndarray, seconds: Seconds | None = None, trials: int = 0
    ) -> dict[str, Any]:
        return asdict(score(setting, problem, at, points, seconds or Seconds(0, 0), trials))

    some, share = list(at), len(problem.budgets) / len(at)
    rows = {"plain": scored(box.plain[some]), "ours": scored(found[some], seconds)}
    kinds = {"TPE": True} | (
        {"TPE, one by one": False} if noise == "medium" and not expensive else {}
    )
    for tuner, multivariate in kinds.items():
        points, taken = clocked(
            lambda multivariate=multivariate: np.stack([
                tree_parzen(box, problem.multiplier[p], p, p, TRIALS, multivariate=multivariate)
                for p in at
            ]),
            1,
        )  # fmt: skip
        rows[tuner] = scored(points, taken.times(share), TRIALS)
    random = functools.partial(random_search, box, problem.multiplier, at, 0)
    random(8, np.inf)  # compiles
    (points, _), taken = clocked(lambda: random(TRIALS, np.inf), 1)
    rows["random"] = scored(points, taken.times(share), TRIALS)
    (points, trials), taken = clocked(lambda: random(1 << 30, seconds.wall / share), 1)
    rows["random, our time"] = scored(points, taken.times(share), trials)
    evaluations = [box.plain[some[0]]] * 20
    _, trial = clocked(lambda: [box.one(point) for point in evaluations], ROUNDS)
    return {
        "strategy": name, "models": n_models, "noise": noise, "budgets": len(at),
        "set_up": set_up.wall, "searched": alone.wall,
        "tune": whole_seconds and whole_seconds.wall,
        "tune_cpu": whole_seconds and whole_seconds.cpu, 
        "largest_correction": largest, "trial": trial.wall / len(evaluations), "tuners": rows,
        "date": time.strftime("%Y-%m-%d"), "load": os.getloadavg()[0],
    }  # fmt: skip


def check_trial(problem: Problem, box: Box) -> None:
    """Peers' trials give what the library's simulation gives, but for ties in float32.

    Raises:
        CascjaxError: they do not.
    """
    rng = np.random.default_rng(0)
    points = box.plain + rng.uniform(-1, 1, box.plain.shape) * box.width
    kind, k, apart = problem.strategy, problem.quality.shape[1], 0.0
    sigma = np.sqrt(np.mean(np.square(problem.estimator.sigma), axis=0))
    together = box.many(points)
    for at, point in enumerate(points):
        beliefs, settings = problem.estimator, np.exp(point)[None]
        if isinstance(kind, Pandora):
            beliefs = beliefs.corrected(np.exp(point[:k]), point[k : 2 * k] * sigma)
            settings = settings[:, 2 * k]
        elif isinstance(kind, InOrder):
            padded = np.concatenate([point[: kind.idle], point])[None]
            settings = -padded if kind.rising else np.exp(padded)
        spent, got = query_spends(kind, settings, beliefs, problem.quality, problem.cost)
        truth = got.mean(dtype=np.float64), spent.mean(dtype=np.float64)
        for cost, quality in (box.one(point), (together[0][at], together[1][at])):
            expensive = abs(cost / truth[1] - 1)
            apart = max(apart, abs(quality - truth[0]), expensive)
    if apart > 3 / len(problem.quality):
        raise CascjaxError(
            f"{kind.name}: a trial is {apart:g} from the simulation; box_of and the strategy no"
            " longer agree"
        )


COLD = """
import sys, time
from pathlib import Path
sys.path.insert(0, {folder!r})
import tuners
from cascjax.search.tune import tune
from cascjax.strategies import strategy
setting = tuners.Setting.of(tuners.sample_of(Path({file!r})), {k}, "medium")
start = time.perf_counter()
tune(strategy({name!r}), setting.table, setting.estimator, setting.budgets, rows=setting.fit)
print(time.perf_counter() - start)
"""


def cold(file: Path, name: str, n_models: int) -> float:
    """Seconds of the first `tune` of a process, nothing compiled before."""
    code = COLD.format(folder=str(HERE), file=str(file.resolve()), k=n_models, name=name)
    env = {key: value for key, value in os.environ.items() if key != "JAX_COMPILATION_CACHE_DIR"}
    command = [sys.executable, "-c", code]
    return float(subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE).stdout)


# The page.


def facts(device: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What is written as JSON."""
    names = ("jax", "numpy", "optax", "optuna")
    return {
        "device": device,
        "date": time.strftime("%Y-%m-%d"),
        "cores": os.cpu_count(),
        "backend": jax.devices()[0].device_kind,
        "machine": platform.machine(),
        "python": platform.python_version(),
        "load": os.getloadavg(),
        "versions": {name: version(name) for name in names},
        "trials": TRIALS,
        "budgets": BUDGETS,
        "rows": rows,
    }


def setting_of(row: dict[str, Any]) -> tuple[str, int, str]:
    """What tells a row from others."""
    return row["strategy"], row["models"], row["noise"]


def reached(rows: list[dict[str, Any]], peer: str) -> str:
    """In how many settings ours is as good as a peer, and in a hundredth of its time."""
    head = ["strategy", "settings", "worth as high", "quality, fit", "quality, evaluate",
            "time 1/100", "worth and time", "ratio, least", "median", "most",
            "of whole tune, median"]  # fmt: skip
    body = []
    for name in dict.fromkeys(row["strategy"] for row in rows):
        mine = [row for row in rows if row["strategy"] == name and peer in row["tuners"]]
        if not mine:
            continue
        worth, fit, evaluate = (
            np.array([as_good(row, peer, value) for row in mine])
            for value in ("worth", "quality_fit", "quality_evaluate")
        )
        ratio = np.array([ratio_of(row, peer) for row in mine])
        whole = [of for row in mine if (of := whole_ratio(row, peer)) is not None]
        fast = ratio >= 100
        counts = [str(int(of.sum())) for of in (worth, fit, evaluate, fast, worth & fast)]
        of_time = (ratio.min(), np.median(ratio), ratio.max(), np.median(whole))
        body.append([name, str(len(mine)), *counts, *(number(float(of)) for of in of_time)])
    return table(head, body)


def as_good(row: dict[str, Any], peer: str, value: str) -> bool:
    """Whether ours is at least a peer's."""
    return row["tuners"]["ours"][value] >= row["tuners"][peer][value] - ALIKE


def ratio_of(row: dict[str, Any], peer: str) -> float:
    """A peer's seconds over ours: of the cores where they were taken, else by the clock."""
    of = "cpu" if "cpu" in row["tuners"]["ours"] else "seconds"
    return row["tuners"][peer][of] / row["tuners"]["ours"][of]


def whole_ratio(row: dict[str, Any], peer: str) -> float | None:
    """The same over all of `tune`, where that was timed."""
    if not row["tune"]:
        return None
    if row.get("tune_cpu"):
        return row["tuners"][peer]["cpu"] / row["tune_cpu"]
    return row["tuners"][peer]["seconds"] / row["tune"]


def qualities(rows: list[dict[str, Any]], value: str) -> str:
    """One value of every tuner, a row a setting."""
    tuners = ["plain", "ours", "TPE", "TPE, one by one", "random", "random, our time"]
    head = ["strategy", "models", "noise", *tuners]
    body = [
        [row["strategy"], str(row["models"]), row["noise"],
         *(f"{row['tuners'][t][value]:.4f}" if t in row["tuners"] else "" for t in tuners)]
        for row in rows
    ]  # fmt: skip
    return table(head, body)


def times(rows: list[dict[str, Any]]) -> str:
    """Seconds of every tuner, a row a setting."""
    head = ["strategy", "models", "noise", "ours", "ours, tune", "ours, tune, cold", "TPE",
            "TPE, one by one", "one trial", "random", "trials in our time",
            "ours, of a core", "tune, of a core", "TPE, of a core", "TPE / ours", "TPE / tune",
            "date", "load"]  # fmt: skip
    body = []
    for row in rows:
        seconds = {name: one["seconds"] for name, one in row["tuners"].items()}
        body.append([
            row["strategy"], str(row["models"]), row["noise"], number(seconds["ours"]),
            number(row["tune"]), number(row.get("cold")), number(seconds["TPE"]),
            number(seconds.get("TPE, one by one")), f"{row['trial'] * 1e3:.2g} ms",
            number(seconds["random"]), number(row["tuners"]["random, our time"]["trials"]),
            *(number(of) for of in (
                row["tuners"]["ours"].get("cpu"), row.get("tune_cpu"),
                row["tuners"]["TPE"].get("cpu"), ratio_of(row, "TPE"), whole_ratio(row, "TPE"),
            )),
            row.get("date", ""), number(row.get("load")),
        ])  # fmt: skip
    return table(head, body)


def page(one: dict[str, Any]) -> str:
    """All tables of a device."""
    rows = one["rows"]
    versions = ", ".join(f"{name} {v}" for name, v in one["versions"].items())
    load = ", ".join(f"{of:.1f}" for of in one["load"])
    return "\n".join([
        f"## {one['date']}, {one['device']}\n\n{one['backend']}, {one['machine']}, {one['cores']}"
        f" cores, Python {one['python']}, {versions}. Load averages at the end: {load}.\n",
        "### Ours against the Tree-Parzen tuner\n\n" + reached(rows, "TPE"),
        "The same against it with one parameter at a time:\n\n" + reached(rows, "TPE, one by one"),
        "### Worth on the queries fitted on\n\n" + qualities(rows, "worth"),
        "### Quality at equal budget, queries fitted on\n\n" + qualities(rows, "quality_fit"),
        "### Quality at equal budget, queries evaluated on\n\n"
        + qualities(rows, "quality_evaluate"),
        "### Seconds\n\n" + times(rows),
    ])  # fmt: skip


def write_page() -> None:
    """The tables of TUNING.md, again."""
    kept = sorted((HERE / "measured" / "tuning").glob("*.json"))
    file = HERE / "TUNING.md"
    text = file.read_text()
    before, after = text[: text.index(BEGIN) + len(BEGIN)], text[text.index(END) :]
    tables = "\n".join(page(json.loads(one.read_text())) for one in kept)
    file.write_text(f"{before}\n{tables}\n{after}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, keeps the numbers, writes the tables, and returns the exit code."""
    summary, _, rest = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", type=Path, help="RouterBench's sample; without it only the page")
    parser.add_argument("--device", default="this machine", help="a name for it: '2 cores'")
    parser.add_argument("--models", type=int, nargs="+", choices=SUBSETS, default=list(SUBSETS))
    parser.add_argument("--noise", nargs="+", choices=NOISE, default=NOISE)
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=STRATEGIES)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write there and make no page")
    parser.add_argument("--warm", action="store_true", help="leave out first calls")
    asked = parser.parse_args(arguments)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        if asked.table:
            rows = []
            for name in asked.strategies:
                for n_models in asked.models:
                    for noise in asked.noise:
                        setting = Setting.of(sample_of(asked.table), n_models, noise)
                        row = compared(setting, name, n_models, noise)
                        if noise == "medium" and not asked.warm:
                            row["cold"] = cold(asked.table, name, n_models)
                        rows.append(row)
                        best = {t: round(o["worth"], 5) for t, o in row["tuners"].items()}
                        ratio = round(ratio_of(row, "TPE"))
                        print(name, n_models, noise, best, f"ratio {ratio}", flush=True)
            folder = HERE / "measured" / "tuning"
            folder.mkdir(parents=True, exist_ok=True)
            file = asked.json or folder / f"{asked.device.replace(' ', '-')}.json"
            # What was measured again stands in the place of what was; the rest stays.
            new = {setting_of(row): row for row in rows}
            if file.exists():
                old = json.loads(file.read_text())
                of_then = {"date": old["date"], "load": old["load"][0]}
                kept = {setting_of(row): of_then | row for row in old["rows"]}
                rows = list((kept | new).values())
            file.write_text(json.dumps(facts(asked.device, rows), indent=1) + "\n")
        if not asked.json:
            write_page()
    except CascjaxError as error:
        print(f"tuners.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
