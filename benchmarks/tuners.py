"""Compare tuning with random search and a Tree-Parzen tuner, on the same objective.

    pip install -e '.[dev]'                                  # installs Optuna
    python benchmarks/tuners.py --table routerbench-sample.parquet --device "2 cores"

The objective at a budget is the net quality: mean quality - mu * mean cost on the fit queries,
simulated exactly, where mu is the slope of the plain frontier at the budget. Ours searches for all
budgets at once (`cascjax.search.tune.propose`). A peer has 200 trials per budget in a box around
the plain solution, which is the first trial. Its trials are cheap: the values a strategy needs are
tabulated before the clock starts, and one trial is a pass over that table.

Numbers are kept in measured/tuning/ by device, and written to the tables of TUNING.md.
"""

import argparse
import functools
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, cast

import jax
import jax.numpy as jnp
import numpy as np
import optuna
from cold import fresh_seconds
from jaxtyping import Array, Float, Int
from results import headline, machine, number, replace_tables, table

import cascjax as cj
from benchmarks.paper.published import CHOICES, MODELS
from benchmarks.paper.published import LEVELS as NOISE
from cascjax.core.expected_max import members, supermodel_tables
from cascjax.data.table import mean_rows, split_rows
from cascjax.engine.simulate import query_spends
from cascjax.estimators import Independent, noisy
from cascjax.metrics import budgets as default_budgets
from cascjax.search.budgets import Pool
from cascjax.search.tune import Problem, propose, tune
from cascjax.strategies import CascadeRouting, InOrder, Pandora, strategy

HERE = Path(__file__).parent
BEGIN, END = "<!-- tables: made by tuners.py -->\n", "<!-- end of tables -->\n"
STRATEGIES = ("thresholding", "cascading", "pandora", "cascade-routing")
BUDGETS, TRIALS, ROUNDS = 8, 200, 3
FEW = (2, 5)
"""Positions of the budgets at which cascade routing of 11 models is compared."""

WIDE = 3.0
"""Half the width of the box along a price or threshold, in standard deviations of the limits."""

CORRECTED = 1.0
"""Half the width along a correction: of log sigma, and of quality in units of sigma."""

TOLERANCE = 1e-6
"""Difference in quality that counts as equal."""

Evaluate: TypeAlias = Callable[[np.ndarray], tuple[float, float]]
"""From one point of the box to mean cost and mean quality on the fit queries."""

EvaluateMany: TypeAlias = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""From many points to mean costs and mean qualities."""


@dataclass(frozen=True)
class Setting:
    """The data that a strategy is tuned on."""

    table: cj.Table
    estimator: Independent
    fit: Int[np.ndarray, " n"]
    evaluate: Int[np.ndarray, " m"]
    budgets: Float[np.ndarray, " P"]

    @classmethod
    def of(cls, sample: cj.Table, n_models: int, noise: str) -> "Setting":
        """Return the data as `cascjax.compare` prepares it, with noisy estimates and seed 0."""
        chosen = sample.select_models([MODELS[i] for i in CHOICES[n_models]])
        fit, evaluate = split_rows(chosen, 0)
        chosen = chosen.sort_models(mean_rows(chosen.cost, fit))
        at = default_budgets(mean_rows(chosen.cost, fit), mean_rows(chosen.quality, fit))
        at = at[np.linspace(0, len(at) - 1, BUDGETS).round().astype(int)]
        return cls(chosen, noisy(chosen, jax.random.key(0), noise), fit, evaluate, at)

    def problem(self, name: str) -> Problem:
        """Return the problem of all tuners, without folds."""
        kind = strategy(name)
        return Problem.make(kind, self.table, self.estimator, self.budgets, rows=self.fit, folds=0)


@functools.cache
def sample_of(file: Path) -> cj.Table:
    """Return RouterBench's sample, from its own file."""
    return cj.import_routerbench(file, invalid="drop").table


# The box, and one trial in it.


@dataclass(frozen=True)
class Box:
    """Search space of the peers: for each of P budgets a box around the plain solution.

    Attributes:
        plain: `[P, D]` the best plain solution: logarithms of prices, -tau, corrections.
        width: `[D]` half its width.
        one: simulates one point as fast as possible on two cores.
        many: simulates many.
    """

    plain: Float[np.ndarray, "P D"]
    width: Float[np.ndarray, " D"]
    one: Evaluate
    many: EvaluateMany


def box_of(problem: Problem) -> Box:
    """Return the box of a problem, with the tables that trials read."""
    net = problem.grid_quality.mean(1, dtype=np.float64)
    net = net - problem.multiplier[:, None] * problem.grid_cost.mean(1, dtype=np.float64)
    best, kind = problem.grid[net.argmax(1)], problem.strategy
    k = problem.quality.shape[1]
    if isinstance(kind, InOrder):
        limit = on_line(kind, np.asarray(jax.jit(kind.limits)(problem.estimator), np.float64))
        center = -best if kind.rising else log_price(best)
        # Beyond all limits nothing changes, so a search would not return.
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
        raise cj.CascjaxError(f"strategy {kind.name!r} has nothing to tune")
    steps = kind.max_steps(k)
    one, many = cascade_routing(problem, kind)
    return Box(np.repeat(center, steps, axis=1), np.full(steps, wide), one, many)


def log_price(price: np.ndarray) -> np.ndarray:
    """Return the logarithm of prices, clipped to finite values."""
    return np.log(np.clip(price, 1e-30, 1e30))


def on_line(kind: InOrder, limit: Float[np.ndarray, "J n"]) -> Float[np.ndarray, "J n"]:
    """Return limits as they are compared: thresholds, or logarithms of prices."""
    return limit if kind.rising else log_price(limit)


def decides(limit: Float[np.ndarray, "J n"]) -> np.ndarray:
    """Return which limits a parameter can lie on either side of."""
    return np.abs(limit) < 60


def spread(limit: Float[np.ndarray, "J n"]) -> Float[np.ndarray, " J"]:
    """Return the standard deviation of the limits of each step."""
    return np.nanstd(np.where(decides(limit), limit, np.nan), axis=1)


def in_order(problem: Problem, kind: InOrder, limit: np.ndarray) -> tuple[Evaluate, EvaluateMany]:
    """Return trials that look up how deep a query goes: while it is below its limits."""
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

    tables = tuple(jnp.asarray(x, jnp.float32) for x in (limit, got, spent))
    return one, on_host(lambda theta: many(theta, *tables))


def pandora(problem: Problem, kind: Pandora) -> tuple[Evaluate, EvaluateMany]:
    """Return trials of pandora on estimates corrected for each point."""
    k = problem.quality.shape[1]
    sigma = np.sqrt(np.mean(np.square(problem.estimator.sigma), axis=0))
    data = jax.tree.map(jnp.asarray, (problem.estimator, problem.quality, problem.cost, sigma))

    def one(theta: Array, data: Any) -> tuple[Array, Array]:
        estimates, quality, cost, sigma = data
        estimates = Independent(
            estimates.quality_ante + theta[k : 2 * k] * sigma, estimates.quality_post,
            estimates.sigma * jnp.exp(theta[:k]), estimates.cost_ante, estimates.cost_post,
        )  # fmt: skip
        outcome = kind.sweep(jnp.exp(theta[2 * k :]), estimates)
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
    """Return trials that take the best set from a table of the values of all sets."""
    ante, post, sigma, cost = problem.estimator.queries_last()
    k, n = ante.shape
    depth, masks = kind.max_steps(k), members(k, kind.max_steps(k))
    tables = jax.jit(supermodel_tables, static_argnums=(3, 4))
    values, gains = tables(post, ante, sigma, depth, problem.estimator.panels)
    # One row per query and state: a trial reads whole rows.
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
            net = gains[at, answer[at], :count] - price[step] * total[at, :count]
            net[(bits[:count] & ran[at, None]) != 0] = -np.inf
            best = net.argmax(1)
            go_on = net[np.arange(len(at)), best] > 0
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
    """Return a function that moves points to the device, and means back."""

    def evaluate(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        cost, quality = jax.device_get(many(theta.astype(np.float32)))
        return np.asarray(cost, np.float64), np.asarray(quality, np.float64)

    return evaluate


# Tuners: each returns one point per budget.


def tree_parzen(
    box: Box, multiplier: float, place: int, seed: int, trials: int, *, multivariate: bool
) -> Float[np.ndarray, " D"]:
    """Run Optuna's sampler with its defaults, or with independent parameters as in hyperopt."""
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
    """Return the best of a number of random points per budget, and that number.

    Args:
        box: search space.
        multiplier: multipliers of all budgets.
        at: positions of the budgets to search for, all at once.
        seed: seed of the points.
        trials: largest number of points per budget.
        seconds: time after which no further points are tried.
    """
    rng, start, done, places = np.random.default_rng(seed), time.perf_counter(), 0, list(at)
    plain, price = box.plain[places], multiplier[places]
    best, highest = plain.copy(), np.full(len(places), -np.inf)
    chunk = 8  # points per budget and call: one program
    while done < trials and (done == 0 or time.perf_counter() < start + seconds):
        step = rng.uniform(-box.width, box.width, (len(places), chunk, len(box.width)))
        if done == 0:
            step[:, 0] = 0
        points = plain[:, None] + step
        cost, quality = box.many(points.reshape(-1, points.shape[-1]))
        net = (quality - np.repeat(price, chunk) * cost).reshape(len(places), chunk)
        place, rows = net.argmax(1), np.arange(len(places))
        better = net[rows, place] > highest
        best[better] = points[rows, place][better]
        highest = np.maximum(highest, net[rows, place])
        done += chunk
    return best, done


def ours(problem: Problem, box: Box) -> tuple[Float[np.ndarray, "P D"], float]:
    """Return the result of `propose` as points of the box, and the largest correction.

    For a random search, the best of its proposals and the plain parameters is taken for each
    budget, by an exact simulation.
    """
    proposals = propose(problem, 0)
    if isinstance(problem.strategy, InOrder):
        return cast(np.ndarray, proposals[-1].theta)[-1], 0.0
    truths, plain = (problem.quality, problem.cost), box.plain
    if isinstance(problem.strategy, Pandora):
        sigma = np.sqrt(np.mean(np.square(problem.estimator.sigma), axis=0))
        # Line searches use exact outcomes, and the last proposal is the best.
        last = proposals[-1]
        scale, offset, price = (
            cast(np.ndarray, x)[-1] for x in (last.scale, last.offset, last.log_price)
        )
        shared = np.concatenate([np.log(scale), offset / sigma])
        points = np.column_stack([np.tile(shared, (len(price), 1)), price])
        return points, float(np.abs(shared).max())
    points = np.stack([plain, *(cast(np.ndarray, proposal.theta)[-1] for proposal in proposals)])
    settings = np.exp(points.reshape(-1, points.shape[-1]))
    spent, got = query_spends(problem.strategy, settings, problem.estimator, *truths)
    each = np.arange(len(plain))
    own = net_qualities(problem, spent, got).reshape(len(plain), len(points), -1)[each, :, each]
    return points[own.argmax(1), each], 0.0


def net_qualities(problem: Problem, spent: np.ndarray, got: np.ndarray) -> Float[np.ndarray, "P L"]:
    """Return the net quality of every setting at every multiplier."""
    cost, quality = (x.mean(1, dtype=np.float64) for x in (spent, got))
    return quality - problem.multiplier[:, None] * cost


# Scores of the results, on all queries.


@dataclass(frozen=True)
class Score:
    """Score of a tuner's settings: means over the budgets compared."""

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
    """Return the score of a tuner's points, by exact simulation.

    Quality is at equal budget: the mixture on the hull of a tuner's settings and the two plain
    ends, fitted on the fit queries.
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
        own = tuple(np.concatenate(x) for x in zip(*parts, strict=True))
    else:
        rising = isinstance(kind, InOrder) and kind.rising
        idle = kind.idle if isinstance(kind, InOrder) else 0
        padded = np.concatenate([points[:, :idle], points], axis=1)
        own = simulated(-padded if rising else np.exp(padded), setting.estimator)
    budgets, multiplier = problem.budgets[list(at)], problem.multiplier[list(at)]
    cost, quality = (x[:, setting.fit].mean(1, dtype=np.float64) for x in own)
    net = quality - multiplier * cost
    spent, got = (np.concatenate(x) for x in zip(own, ends, strict=True))
    cost, quality = (x[:, setting.fit].mean(1, dtype=np.float64) for x in (spent, got))
    fit = Pool(np.arange(float(len(cost))), cost, quality).mix(budgets)
    cheap, expensive = fit.parameters.astype(int).T
    other = got[:, setting.evaluate].mean(1, dtype=np.float64)
    mixed = (1 - fit.gamma) * other[cheap] + fit.gamma * other[expensive]
    return Score(
        float(net.mean()), float(fit.quality.mean()), float(mixed.mean()), *seconds, trials
    )


class Seconds(NamedTuple):
    """Time of a piece of work: wall seconds, and CPU seconds of all cores."""

    wall: float
    cpu: float

    def times(self, factor: float) -> "Seconds":
        """Return the time multiplied by a factor."""
        return Seconds(self.wall * factor, self.cpu * factor)


def clocked(work: Callable[[], Any], rounds: int) -> tuple[Any, Seconds]:
    """Return the result of the work, and the median of its times."""
    taken, result = [], None
    for _ in range(rounds):
        start = time.perf_counter(), time.process_time()
        result = work()
        taken.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    return result, Seconds(*np.median(taken, axis=0).tolist())


def compared(setting: Setting, name: str, n_models: int, noise: str) -> dict[str, Any]:
    """Return the row of one strategy in one setting, with the scores of all tuners."""
    setting.problem(name)  # compiles
    problem, set_up = clocked(lambda: setting.problem(name), 1)
    box = box_of(problem)
    expensive = name == "cascade-routing" and n_models > 5
    at = FEW if expensive else range(len(problem.budgets))
    check_trial(problem, box)

    ours(problem, box)  # compiles
    (points, largest), seconds = clocked(lambda: ours(problem, box), ROUNDS)
    _, alone = clocked(lambda: propose(problem, 0), ROUNDS)
    whole = functools.partial(
        tune, strategy(name), setting.table, setting.estimator, setting.budgets, rows=setting.fit
    )
    # A minute for cascade routing of 11 models, so at one level of noise only.
    whole_seconds = None
    if not expensive or noise == "medium":
        whole()  # compiles
        _, whole_seconds = clocked(whole, 1)

    def scored(
        points: np.ndarray, seconds: Seconds | None = None, trials: int = 0
    ) -> dict[str, Any]:
        return asdict(score(setting, problem, at, points, seconds or Seconds(0, 0), trials))

    places, share = list(at), len(problem.budgets) / len(at)
    rows = {"plain": scored(box.plain[places]), "ours": scored(points[places], seconds)}
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
    evaluations = [box.plain[places[0]]] * 20
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
    """Check that trials agree with the library's simulation, except for ties in float32.

    Raises:
        cj.CascjaxError: they do not agree.
    """
    rng = np.random.default_rng(0)
    points = box.plain + rng.uniform(-1, 1, box.plain.shape) * box.width
    kind, k, apart = problem.strategy, problem.quality.shape[1], 0.0
    sigma = np.sqrt(np.mean(np.square(problem.estimator.sigma), axis=0))
    together = box.many(points)
    for at, point in enumerate(points):
        estimates, settings = problem.estimator, np.exp(point)[None]
        if isinstance(kind, Pandora):
            estimates = estimates.corrected(np.exp(point[:k]), point[k : 2 * k] * sigma)
            settings = settings[:, 2 * k]
        elif isinstance(kind, InOrder):
            padded = np.concatenate([point[: kind.idle], point])[None]
            settings = -padded if kind.rising else np.exp(padded)
        spent, got = query_spends(kind, settings, estimates, problem.quality, problem.cost)
        truth = got.mean(dtype=np.float64), spent.mean(dtype=np.float64)
        for cost, quality in (box.one(point), (together[0][at], together[1][at])):
            expensive = abs(cost / truth[1] - 1)
            apart = max(apart, abs(quality - truth[0]), expensive)
    if apart > 3 / len(problem.quality):
        raise cj.CascjaxError(
            f"{kind.name}: a trial differs from the simulation by {apart:g}; update box_of to the"
            " strategy"
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
    """Return the seconds of the first `tune` of a process, without a compilation cache."""
    code = COLD.format(folder=str(HERE), file=str(file.resolve()), k=n_models, name=name)
    return fresh_seconds(code, None)


# The page.


def facts(device: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the content of the JSON file."""
    settings = {"load": os.getloadavg(), "trials": TRIALS, "budgets": BUDGETS, "rows": rows}
    return machine(device, ("jax", "numpy", "optax", "optuna")) | settings


def setting_of(row: dict[str, Any]) -> tuple[str, int, str]:
    """Return what identifies a row."""
    return row["strategy"], row["models"], row["noise"]


def reached(rows: list[dict[str, Any]], peer: str) -> str:
    """Return in how many settings ours is as good as a peer, and in a hundredth of its time."""
    head = ["strategy", "settings", "net quality as high", "quality, fit", "quality, evaluate",
            "time 1/100", "net quality and time", "ratio, lowest", "median", "highest",
            "whole tune, median"]  # fmt: skip
    body = []
    for name in dict.fromkeys(row["strategy"] for row in rows):
        mine = [row for row in rows if row["strategy"] == name and peer in row["tuners"]]
        if not mine:
            continue
        net, fit, evaluate = (
            np.array([as_good(row, peer, value) for row in mine])
            for value in ("worth", "quality_fit", "quality_evaluate")
        )
        ratio = np.array([ratio_of(row, peer) for row in mine])
        whole = [x for row in mine if (x := whole_ratio(row, peer)) is not None]
        fast = ratio >= 100
        counts = [str(int(x.sum())) for x in (net, fit, evaluate, fast, net & fast)]
        ratios = (ratio.min(), np.median(ratio), ratio.max(), np.median(whole))
        body.append([name, str(len(mine)), *counts, *(number(float(x)) for x in ratios)])
    return table(head, body)


def as_good(row: dict[str, Any], peer: str, value: str) -> bool:
    """Return whether a value of ours is at least the peer's."""
    return row["tuners"]["ours"][value] >= row["tuners"][peer][value] - TOLERANCE


def ratio_of(row: dict[str, Any], peer: str) -> float:
    """Return a peer's time over ours: in CPU seconds if measured, else in wall seconds."""
    unit = "cpu" if "cpu" in row["tuners"]["ours"] else "seconds"
    return row["tuners"][peer][unit] / row["tuners"]["ours"][unit]


def whole_ratio(row: dict[str, Any], peer: str) -> float | None:
    """Return a peer's time over the time of all of `tune`, if that was measured."""
    if not row["tune"]:
        return None
    if row.get("tune_cpu"):
        return row["tuners"][peer]["cpu"] / row["tune_cpu"]
    return row["tuners"][peer]["seconds"] / row["tune"]


def qualities(rows: list[dict[str, Any]], value: str) -> str:
    """Return a table of one value of every tuner, one row per setting."""
    tuners = ["plain", "ours", "TPE", "TPE, one by one", "random", "random, our time"]
    head = ["strategy", "models", "noise", *tuners]
    body = [
        [row["strategy"], str(row["models"]), row["noise"],
         *(f"{row['tuners'][t][value]:.4f}" if t in row["tuners"] else "" for t in tuners)]
        for row in rows
    ]  # fmt: skip
    return table(head, body)


def times(rows: list[dict[str, Any]]) -> str:
    """Return the table of seconds of every tuner, one row per setting."""
    head = ["strategy", "models", "noise", "ours", "ours, tune", "ours, tune, cold", "TPE",
            "TPE, one by one", "one trial", "random", "trials in our time",
            "ours, CPU", "tune, CPU", "TPE, CPU", "TPE / ours", "TPE / tune",
            "date", "load"]  # fmt: skip
    body = []
    for row in rows:
        seconds = {name: one["seconds"] for name, one in row["tuners"].items()}
        body.append([
            row["strategy"], str(row["models"]), row["noise"], number(seconds["ours"]),
            number(row["tune"]), number(row.get("cold")), number(seconds["TPE"]),
            number(seconds.get("TPE, one by one")), f"{row['trial'] * 1e3:.2g} ms",
            number(seconds["random"]), number(row["tuners"]["random, our time"]["trials"]),
            *(number(x) for x in (
                row["tuners"]["ours"].get("cpu"), row.get("tune_cpu"),
                row["tuners"]["TPE"].get("cpu"), ratio_of(row, "TPE"), whole_ratio(row, "TPE"),
            )),
            row.get("date", ""), number(row.get("load")),
        ])  # fmt: skip
    return table(head, body)


def page(kept: dict[str, Any]) -> str:
    """Return all tables of a device."""
    rows = kept["rows"]
    load = ", ".join(f"{x:.1f}" for x in kept["load"])
    return "\n".join([
        f"{headline(kept)} Load averages at the end: {load}.\n",
        "### Ours against the Tree-Parzen tuner\n\n" + reached(rows, "TPE"),
        "With one parameter at a time:\n\n" + reached(rows, "TPE, one by one"),
        "### Net quality on the fit queries\n\n" + qualities(rows, "worth"),
        "### Quality at equal budget, fit queries\n\n" + qualities(rows, "quality_fit"),
        "### Quality at equal budget, evaluation queries\n\n"
        + qualities(rows, "quality_evaluate"),
        "### Seconds\n\n" + times(rows),
    ])  # fmt: skip


def write_page() -> None:
    """Rewrite the tables of TUNING.md."""
    files = sorted((HERE / "measured" / "tuning").glob("*.json"))
    tables = "\n".join(page(json.loads(file.read_text())) for file in files)
    replace_tables(HERE / "TUNING.md", BEGIN, END, tables)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, store the numbers, write the tables, and return the exit code."""
    summary, _, rest = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--table", type=Path, help="RouterBench's sample; by default only the tables are rewritten"
    )
    parser.add_argument(
        "--device", default="this machine", help="name of the machine, for example '2 cores'"
    )
    parser.add_argument("--models", type=int, nargs="+", choices=CHOICES, default=list(CHOICES))
    parser.add_argument("--noise", nargs="+", choices=NOISE, default=NOISE)
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=STRATEGIES)
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the numbers here, and no tables"
    )
    parser.add_argument("--warm", action="store_true", help="do not measure first calls")
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
            # Rows that were measured again replace the earlier ones.
            new = {setting_of(row): row for row in rows}
            if file.exists():
                old = json.loads(file.read_text())
                earlier = {"date": old["date"], "load": old["load"][0]}
                kept = {setting_of(row): earlier | row for row in old["rows"]}
                rows = list((kept | new).values())
            file.write_text(json.dumps(facts(asked.device, rows), indent=1) + "\n")
        if not asked.json:
            write_page()
    except cj.CascjaxError as error:
        print(f"tuners.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
