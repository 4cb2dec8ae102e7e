"""Compare choices and speed with the paper's implementation.

Both get the same estimates of the same queries, one after the other, in one process:

    git clone https://github.com/eth-sri/cascade-routing
    pip install loguru hyperopt scikit-learn        # imported by its selection code
    python benchmarks/reference.py --reference cascade-routing

The reference (its v1.1) is timed by `_execute`, one price over the queries, which its search for a
budget calls repeatedly; ours by `simulate.totals`, 64 prices over a large table of the same
dataset. Run sets are compared on the same queries and prices. The mean costs at these prices are
evenly spaced between the cheapest and the most expensive single model, like budgets of a frontier.

A difference must be a tie, else the exit code is 1. The reference's E[max] is a mean over 100
quasi-random points. The query is therefore simulated again in float64 loops (tests/plain.py). It
is a tie if
- with exact E[max] the loops choose as ours did;
- with the reference's E[max] they choose as the reference did at every step, so its error is the
  only difference;
- in exact net value its choices lose at most 2e per step, where e is the largest error of its
  E[max] among the sets of that step: once on the set it took and once on the best set; and 2e more
  for each model that its pruning, which compares the same numbers, dropped from the best set;
- e is below a tenth of the largest sigma, the standard error of 100 plain random points: a larger
  error would not be from an E[max] of these estimates.
"""

import argparse
import functools
import importlib
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float
from rich import box
from rich.table import Table as Grid
from scipy.stats import qmc

from cascjax import synthetic
from cascjax.cli.terminal import make_console
from cascjax.data.table import Table
from cascjax.engine.simulate import totals
from cascjax.errors import CascjaxError
from cascjax.estimators import Independent, supplied
from cascjax.strategies import Strategy, strategy

STRATEGIES = ("routing", "cascading", "cascade-routing")
MAX_DEPTH = 5
SETTINGS = 64
PACKAGES = "loguru hyperopt scikit-learn"

OUR_ERROR = 1e-5
"""Error of our E[max] in units of the largest sigma, see `cascjax.core.expected_max`."""

THEIR_ROUNDING = 1e-8
"""The reference rounds net values to 8 digits, and takes the cheapest of equal ones."""

THEIR_MOST = 0.1
"""Largest error of its E[max] with 100 points, in units of the largest sigma."""


# The reference.


def load(path: Path, seed: int) -> SimpleNamespace:
    """Return the modules of the reference, from a checkout.

    Raises:
        CascjaxError: the folder is no such checkout, or a package it imports is missing.
    """
    folder = path / "src" / "selection"
    if not (folder / "cascade_router.py").is_file():
        raise CascjaxError(
            f"{path} is no checkout of https://github.com/eth-sri/cascade-routing:"
            " it has no src/selection/cascade_router.py"
        )
    # Its package without its __init__, which imports torch, transformers and clients of model
    # APIs: the selection itself needs none of them.
    package = ModuleType("selection")
    package.__path__ = [str(folder)]
    sys.modules["selection"] = package
    names = ("router", "cascade_router", "quality_computer", "cost_computer", "statistics")
    try:
        its = SimpleNamespace(**{n: importlib.import_module(f"selection.{n}") for n in names})
    except ModuleNotFoundError as error:
        reason = f"the reference imports {error.name!r}, which is missing: pip install {PACKAGES}"
        raise CascjaxError(reason) from error

    # Its points are scrambled randomly; a seed makes runs repeatable. It takes 100 points, which is
    # no power of two, and scipy warns of that.
    its.statistics.qmc = SimpleNamespace(Sobol=functools.partial(qmc.Sobol, rng=seed))
    warnings.filterwarnings("ignore", message="The balance properties of Sobol' points")

    # For a set of one model it takes float() of an array of one: an error from numpy 2.4 on.
    expected_max = its.statistics.compute_expected_max

    def also_of_one(quality: np.ndarray, sigma: np.ndarray, **options: Any) -> tuple[float, float]:
        if len(quality) == 1:
            return float(quality[0]), float(sigma[0, 0])
        return expected_max(quality, sigma, **options)

    its.quality_computer.compute_expected_max = also_of_one
    return its


class Estimates(NamedTuple):
    """Estimates for both implementations, `[N, K]` each, in float64."""

    quality_ante: Float[np.ndarray, "N K"]
    quality_post: Float[np.ndarray, "N K"]
    sigma: Float[np.ndarray, "N K"]
    cost_ante: Float[np.ndarray, "N K"]
    cost_post: Float[np.ndarray, "N K"]

    @classmethod
    def of(cls, estimator: Independent) -> "Estimates":
        """Return the estimates of an estimator."""
        shape = np.shape(estimator.quality_ante)
        leaves = (getattr(estimator, name) for name in cls._fields)
        return cls(*(np.broadcast_to(np.asarray(leaf, np.float64), shape) for leaf in leaves))


def computers(its: SimpleNamespace, estimates: Estimates) -> tuple[Any, Any]:
    """Return the reference's quality and cost computers; a question is a row number."""
    quality_base: Any = its.quality_computer.BaseQualityComputer
    cost_base: Any = its.cost_computer.BaseCostComputer
    ante, post, sigma, cost_ante, cost_post = estimates

    def has_run(model_answers: list[list[Any]]) -> np.ndarray:
        return np.array([[answer is not None for answer in row] for row in model_answers])

    class Quality(quality_base):
        def predict(self, questions: list[int], model_answers: list[list[Any]]) -> Any:
            run = has_run(model_answers)
            # For independent estimates its E[max] scales its points by the given diagonal: right
            # for standard deviations, as here, wrong for the variances of its own computers. These
            # also give an answer that is known a variance of 1e-6; here it is certain.
            spread = np.where(run, 0, sigma[questions])
            quality = np.where(run, post[questions], ante[questions])
            return quality, np.array([np.diag(row) for row in spread])

    class Cost(cost_base):
        def predict(self, questions: list[int], model_answers: list[list[Any]]) -> Any:
            return np.where(has_run(model_answers), cost_post[questions], cost_ante[questions])

    return Quality(), Cost()


class Charged:
    """True costs of one query, which record the models that were run."""

    def __init__(self, cost: Float[np.ndarray, " K"]):
        self.cost = cost
        self.models: Any = ()

    def __getitem__(self, models: Any) -> Any:
        self.models = models
        return self.cost[models]

    def in_order(self) -> tuple[int, ...]:
        """Return the models run, first to last."""
        return tuple(np.atleast_1d(self.models).tolist())


def evaluation(
    its: SimpleNamespace, name: str, estimates: Estimates, table: Table
) -> Callable[[float, list[Charged]], Any]:
    """Return the reference's evaluation of a price: mean cost and quality over the queries."""
    quality_computer, cost_computer = computers(its, estimates)
    models, questions = list(range(table.n_models)), list(range(table.n_queries))
    shared = (quality_computer, cost_computer, models, None)
    evaluate: Any
    if name == "routing":
        # Estimated once, before the search, like in its `fit`.
        nothing = [[None] * len(models)] * len(questions)
        qualities = quality_computer.predict(questions, nothing)[0]
        given = (qualities, cost_computer.predict(questions, nothing))
        evaluate, steps = its.router.Router(*shared)._execute, 1
    else:
        # All supersets, as in its runs on RouterBench; its default never returns to a cheaper
        # model. Lambda is the same at each step.
        cascade = name == "cascading"
        depth = len(models) if cascade else min(MAX_DEPTH, len(models))
        router = its.cascade_router.CascadeRouter(
            *shared, force_order=False, max_depth=depth, cascade=cascade
        )
        given = (questions, [[True] * len(models)] * len(questions))
        evaluate, steps = router._execute, depth
    return lambda price, charged: evaluate([price] * steps, *given, table.quality, charged)


# Ours.


def spending_evenly(
    kind: Strategy, table: Table, estimator: Independent, count: int
) -> Float[np.ndarray, " count"]:
    """Return the lambdas of evenly spaced mean costs over the range of the single models."""
    few = slice(0, 2000)
    part = (estimator.take(few), table.quality[few], table.cost[few])
    single = table.cost.mean(0, dtype=np.float64)
    # Quality is from 0 to 1: from prices where cost does not matter to prices where no model pays.
    wide = np.geomspace(1e3 / single.min(), 1e-4 / single.max(), 128).astype(np.float32)
    spent = np.asarray(totals(kind, wide, *part, usage=False).cost) / len(part[1])
    low, high = max(single.min(), spent.min()), min(single.max(), spent.max())
    at = np.linspace(low, high, count + 2)[1:-1]
    rising = np.argsort(spent, kind="stable")
    return np.exp(np.interp(at, spent[rising], np.log(wide)[rising])).astype(np.float32)


def our_run_sets(
    kind: Strategy, prices: Float[np.ndarray, " L"], table: Table, estimator: Independent
) -> list[list[frozenset[int]]]:
    """Return the models ours runs at each price on each query, by the function that is timed.

    The function returns sums only. So the models of one query cost 1, 2, 4, 8 and so on, and all
    other costs are 0: the sum is the run set in binary.
    """
    run_sets: list[list[frozenset[int]]] = [[] for _ in prices]
    for query in range(table.n_queries):
        cost = np.zeros_like(table.cost)
        cost[query] = 2 ** np.arange(table.n_models)
        sums = totals(kind, prices, estimator, table.quality, cost, usage=False)
        for at_price, bits in zip(run_sets, np.rint(sums.cost).astype(int).tolist(), strict=True):
            at_price.append(frozenset(i for i in range(table.n_models) if bits >> i & 1))
    return run_sets


# Differences between the two.


@dataclass(frozen=True)
class Verdict:
    """Verdict on one query and price on which the two differ.

    Attributes:
        tie: whether numerical error explains the difference.
        loss: largest loss in exact net value of the reference's choices per step, in quality.
        error: largest error of its E[max] over the sets of these steps, in quality.
    """

    tie: bool
    loss: float
    error: float


class Judge:
    """Judge of differences, which simulates queries in float64 without code of cascjax."""

    def __init__(self, its: SimpleNamespace, name: str, estimates: Estimates):
        # The tests are no package, and this is no test.
        tests = str(Path(__file__).resolve().parents[1] / "tests")
        if tests not in sys.path:
            sys.path.insert(0, tests)
        self.plain: Any = importlib.import_module("plain")
        self.rule = {
            "routing": self.plain.routing,
            "cascading": self.plain.cascading,
            "cascade-routing": self.plain.cascade_routing(MAX_DEPTH),
        }[name]
        self.name = name
        self.queries = [self.plain.Query(*rows) for rows in zip(*estimates, strict=True)]
        self.quality_computer = computers(its, estimates)[0]
        self.values = functools.cache(self._values)

    def verdict(
        self, query: int, price: float, ours: frozenset[int], theirs: tuple[int, ...]
    ) -> Verdict:
        """Return the verdict on the run sets of the two for this query and price."""
        sigma = self.queries[query].sigma.max()
        best, _, lead = self.plain.rollout(self.rule, price, self.queries[query])
        ours_is_best = ours == best or lead <= 2 * OUR_ERROR * sigma
        choices = [*theirs, None]
        steps = [self.step(query, price, theirs[:n], choices[n]) for n in range(len(choices))]
        error = max(step.error for step in steps)
        tie = ours_is_best and error <= THEIR_MOST * sigma and all(step.tie for step in steps)
        return Verdict(bool(tie), max(step.loss for step in steps), error)

    def step(self, query: int, price: float, ran: tuple[int, ...], chosen: int | None) -> Verdict:
        """Return the verdict on one choice: the model run next, or None to stop."""
        run = frozenset(ran)
        cost = price * self.queries[query].cost_ante
        exact, its = self.values(query, run)
        error = max(abs(its[models] - exact[models]) for models in exact)
        added = {models: cost[sorted(models - run)].sum() for models in exact}
        net = {models: exact[models] - added[models] for models in exact}
        to_its = {
            models: its[models] - added[models]
            for models in exact
            if self.pruned_at(run, models, its, cost) is None
        }

        def falls_short(net: dict[frozenset[int], float]) -> float:
            made = (w for m, w in net.items() if min(m - run, default=None) == chosen)
            return max(net.values()) - max(made, default=-np.inf)

        best, pruned = max(net, key=net.__getitem__), 0
        while (model := self.pruned_at(run, best, its, cost)) is not None:
            best, pruned = best - {model}, pruned + 1
        loss = falls_short(net)
        allowed = 2 * error * (1 + pruned) + THEIR_ROUNDING
        return Verdict(loss <= allowed and falls_short(to_its) <= THEIR_ROUNDING, loss, error)

    def pruned_at(
        self,
        run: frozenset[int],
        models: frozenset[int],
        value: dict[frozenset[int], float],
        cost: Float[np.ndarray, " K"],
    ) -> int | None:
        """Return the model that the reference prunes as it grows a set in rising order."""
        held = run
        for model in sorted(models - run) if self.name == "cascade-routing" else ():
            grown = held | {model}
            if held and value[grown] - value[held] < cost[model]:
                return model
            held = grown
        return None

    def _values(self, query: int, run: frozenset[int]) -> tuple[dict[frozenset[int], float], ...]:
        """Return E[max] of all sets to choose from: exact, and the reference's."""
        believed = self.queries[query].believed(run)
        k, sigma = len(believed.sigma), np.diag(believed.sigma)
        if self.name == "routing":
            sets = [run] if run else [frozenset([i]) for i in range(k)]
        elif self.name == "cascading":
            sets = [frozenset(range(j)) for j in range(max(len(run), 1), k + 1)]
        else:
            sets = [models for models in self.plain.supersets(k, run, MAX_DEPTH) if models]
        # Its points belong to positions: models that have run come first.
        ordered = [[*sorted(run), *sorted(models - run)] for models in sets]
        rest = (believed.quality, sigma, None)
        its = self.quality_computer.predict_supermodels(
            [query] * len(sets), ordered, *([given] * len(sets) for given in rest)
        )[0]
        exact = [believed.value(models) for models in sets]
        return dict(zip(sets, exact, strict=True)), dict(zip(sets, its.tolist(), strict=True))


# Times.


class Time(NamedTuple):
    """Microseconds per query and price: wall time, and CPU time of all cores."""

    clock: float
    cores: float


def timed(rounds: int, count: int, work: Callable[[], Any]) -> Time:
    """Return the median over rounds of work on `count` queries and prices."""
    times = []
    for _ in range(rounds):
        clock, cores, passes = time.perf_counter(), time.process_time(), 0
        while passes == 0 or time.perf_counter() < clock + 0.2:
            work()
            passes += 1
        both = (time.perf_counter() - clock, time.process_time() - cores)
        times.append(np.array(both) / (passes * count) * 1e6)
    clock, cores = np.median(times, axis=0).tolist()
    return Time(clock, cores)


@dataclass(frozen=True)
class Row:
    """Results for a strategy and number of models; times in microseconds per query and price.

    Attributes:
        strategy: name of the strategy.
        n_models: K.
        reference_us: wall time of the reference.
        ours_us: our wall time.
        ratio: reference over ours, wall time.
        ratio_per_core: reference over ours, CPU time.
        reference_cores: mean number of busy cores of the reference.
        ours_cores: mean number of busy cores of ours.
        timed_queries: queries of the table that ours was timed on.
        pairs: number of queries times prices compared.
        alike: share of pairs on which both run the same set.
        different: number of pairs on which they differ.
        ties: number of differences that numerical error explains.
        largest_loss: largest `Verdict.loss`.
        largest_error: largest `Verdict.error`.
    """

    strategy: str
    n_models: int
    reference_us: float
    ours_us: float
    ratio: float
    ratio_per_core: float
    reference_cores: float
    ours_cores: float
    timed_queries: int
    pairs: int
    alike: float
    different: int
    ties: int
    largest_loss: float
    largest_error: float


def compared(its: SimpleNamespace, name: str, n_models: int, arguments: argparse.Namespace) -> Row:
    """Run a strategy by the reference, then by ours."""
    # About 1 to 10 seconds per pass of ours.
    size = 20_000 if name == "cascade-routing" and n_models > 5 else 100_000
    dataset = synthetic.make_dataset(n_models, seed=arguments.seed)
    table = synthetic.sample(dataset, arguments.seed, max(size, arguments.queries))
    table = table.sort_models(table.cost.mean(0, dtype=np.float64))
    estimator = supplied(table, np.arange(table.n_queries))
    head = slice(0, arguments.queries)
    few, few_estimates = table.take(np.arange(arguments.queries)), estimator.take(head)
    estimates = Estimates.of(few_estimates)
    kind = strategy(name, max_depth=MAX_DEPTH) if name == "cascade-routing" else strategy(name)
    prices = spending_evenly(kind, table, estimator, arguments.prices)

    evaluate = evaluation(its, name, estimates, few)
    charged = [[Charged(row) for row in few.cost] for _ in prices]
    evaluate(float(prices[0]), charged[0])  # draws its points

    def reference_pass() -> None:
        for price, queries in zip(prices.tolist(), charged, strict=True):
            evaluate(price, queries)

    pairs = len(prices) * few.n_queries
    reference = timed(arguments.rounds, pairs, reference_pass)
    theirs = [[query.in_order() for query in queries] for queries in charged]

    ours = our_run_sets(kind, prices, few, few_estimates)
    settings = spending_evenly(kind, table, estimator, SETTINGS)

    def our_pass() -> None:
        totals(kind, settings, estimator, table.quality, table.cost, usage=False)

    our_pass()  # compiles
    our = timed(arguments.rounds, table.n_queries * SETTINGS, our_pass)

    judge = Judge(its, name, estimates)
    verdicts = [
        judge.verdict(query, price, ours[at][query], theirs[at][query])
        for at, price in enumerate(prices.tolist())
        for query in range(few.n_queries)
        if ours[at][query] != frozenset(theirs[at][query])
    ]
    return Row(
        strategy=name,
        n_models=n_models,
        reference_us=reference.clock,
        ours_us=our.clock,
        ratio=reference.clock / our.clock,
        ratio_per_core=reference.cores / our.cores,
        reference_cores=reference.cores / reference.clock,
        ours_cores=our.cores / our.clock,
        timed_queries=table.n_queries,
        pairs=pairs,
        alike=1 - len(verdicts) / pairs,
        different=len(verdicts),
        ties=sum(verdict.tie for verdict in verdicts),
        largest_loss=max((verdict.loss for verdict in verdicts), default=0.0),
        largest_error=max((verdict.error for verdict in verdicts), default=0.0),
    )


def grid(rows: Sequence[Row]) -> Grid:
    """Return the table that is printed."""
    table = Grid(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("strategy", no_wrap=True)
    headings = ("K", "reference", "ours", "ratio", "per core", "alike", "differ", "ties")
    for heading in (*headings, "loss", "error"):
        table.add_column(heading, justify="right")
    for row in rows:
        losses = (row.largest_loss, row.largest_error) if row.different else ()
        table.add_row(
            row.strategy,
            f"{row.n_models}",
            f"{row.reference_us:,.1f}",
            f"{row.ours_us:.2g}",
            f"{row.ratio:,.0f}",
            f"{row.ratio_per_core:,.0f}",
            f"{row.alike:.1%}",
            f"{row.different}",
            f"{row.ties}",
            *(f"{loss:.4f}" for loss in losses),
        )
    return table


def legend(rows: Sequence[Row], asked: argparse.Namespace) -> str:
    """Return the meaning of the columns of the table."""
    busy = " to ".join(f"{end(row.ours_cores for row in rows):.1f}" for end in (min, max))
    sizes = " or ".join(f"{size:,}" for size in sorted({row.timed_queries for row in rows}))
    most = max(row.reference_cores for row in rows)
    return (
        f"reference, ours: microseconds per query and price, medians of {asked.rounds} rounds; the"
        f" reference at {asked.prices} prices on {asked.queries} queries, in one process with"
        f" {most:.1f} cores busy; ours at {SETTINGS} prices on {sizes} queries, with {busy} of"
        f" {os.cpu_count()} cores busy. per core: the ratio of time summed over cores. alike,"
        " differ: queries and prices on which both run the same models, or not. ties: those for"
        " which the reference's numerical error accounts. loss: the most it loses on them in exact"
        " worth, a step. error: the largest of its E[max] there. Both in units of quality, 0 to 1."
    )


def facts(rows: Sequence[Row], asked: argparse.Namespace) -> dict[str, Any]:
    """Return the content of the JSON file."""
    counts = {name: getattr(asked, name) for name in ("queries", "prices", "rounds", "seed")}
    machine = {"device": jax.devices()[0].device_kind, "cores": os.cpu_count()}
    versions = {"python": sys.version.split()[0], "numpy": np.__version__, "jax": jax.__version__}
    settings = {**counts, "our_prices": SETTINGS, "max_depth": MAX_DEPTH}
    return settings | machine | versions | {"rows": [asdict(row) for row in rows]}


def at_least_1(text: str) -> int:
    """Return a whole number of at least 1, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not {text!r}")
    return int(text)


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the parsed command line."""
    summary, _, rest = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    option = functools.partial(parser.add_argument, type=at_least_1)
    parser.add_argument("--reference", type=Path, required=True, help="checkout of the reference")
    option("--models", nargs="+", default=[3, 5, 11], metavar="K", help="3 5 11")
    option("--queries", default=50, metavar="N", help="queries both choose on (50)")
    option("--prices", default=4, metavar="L", help="prices both choose at (4)")
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=STRATEGIES)
    parser.add_argument("--seed", type=int, default=0, help="seed of dataset and points (0)")
    option("--rounds", default=3, metavar="R", help="rounds, of which the median counts (3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows here")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare, print, and return the exit code."""
    asked = parsed(arguments)
    console, rows = make_console(), []
    try:
        if asked.json and not asked.json.parent.is_dir():
            raise CascjaxError(f"there is no folder {asked.json.parent} for --json")
        its = load(asked.reference, asked.seed)
        for n_models in asked.models:
            for name in asked.strategies:
                with console.status(f"{name}, {n_models} models"):
                    rows.append(compared(its, name, n_models, asked))
        console.print(grid(rows))
        console.print(legend(rows, asked), style="dim", markup=False, highlight=False)
        if asked.json:
            asked.json.write_text(json.dumps(facts(rows, asked), indent=1) + "\n")
    except CascjaxError as error:
        print(f"reference.py: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"reference.py: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    apart = [row for row in rows if row.ties < row.different]
    for row in apart:
        count = row.different - row.ties
        reason = f"differ by more than a tie on {count} of {row.pairs} queries and prices"
        print(f"reference.py: {row.strategy}, {row.n_models} models: {reason}", file=sys.stderr)
    return 1 if apart else 0


if __name__ == "__main__":
    sys.exit(main())
