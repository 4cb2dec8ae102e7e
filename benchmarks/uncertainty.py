"""What cascade routing and cascading gain where they are told of less uncertainty than there is.

    python benchmarks/uncertainty.py rb.arrow
    python benchmarks/uncertainty.py --synthetic --cases as-is

Prints the tables of PAPER.md's "No uncertainty above the exact rule": AUCs in percent by the
paper's protocol, and how many points above the exact rule's they are, with 95% intervals of paired
bootstrap resamples. The estimates are the same in all columns; only the standard deviations that go
into E[max] differ. The cases: the table as it is; half of the rows to evaluate taken to fit on,
and AUCs on the other half; every model's scores shuffled on their own, so that models know
nothing of each other. It takes minutes on the sample of RouterBench, and more on its twin.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Array, Float

from cascjax import synthetic
from cascjax.cli.terminal import keep_compiled
from cascjax.comparison import frontier
from cascjax.data import read_table
from cascjax.data.table import Table
from cascjax.experiments.cells import Row
from cascjax.experiments.protocol import MAX_DEPTH, Setup, setup
from cascjax.experiments.published import CHOICES, LEVELS, QUERIES
from cascjax.experiments.table4 import difference, with_interval
from cascjax.strategies import CascadeRouting, Cascading

Sigma = Float[Array, "#B K"] | Float[np.ndarray, "#B K"]

TOLD: dict[str, Callable[[Sigma], Sigma]] = {
    "exact": lambda sigma: sigma,
    "no uncertainty": lambda sigma: 0 * sigma,
    "sigma / 4": lambda sigma: sigma / 4,
    "variance for sigma": lambda sigma: sigma**2,
}
"""What a strategy is told the standard deviation is, by column."""

SHUFFLE_SEED = 1


def as_is(table: Table, n_models: int) -> Setup:
    """The paper's protocol."""
    return setup(table, n_models)


def half(table: Table, n_models: int) -> Setup:
    """Every other row to evaluate, to fit on: ten times as many as the paper has."""
    given = setup(table, n_models)
    rows = given.evaluate_rows
    return replace(given, fit_rows=rows[::2], evaluate_rows=rows[1::2])


def shuffled(table: Table, n_models: int) -> Setup:
    """Each model's qualities in an order of their own; its costs stay."""
    rng = np.random.default_rng(SHUFFLE_SEED)
    columns = [rng.permutation(table.quality[:, k]) for k in range(table.n_models)]
    return setup(replace(table, quality=np.stack(columns, axis=1)), n_models)


CASES = {"as-is": as_is, "half": half, "shuffled": shuffled}
STRATEGIES = {kind.name: kind for kind in (CascadeRouting(max_depth=MAX_DEPTH), Cascading())}


def row(
    given: Setup, strategy: CascadeRouting | Cascading, level: str, seed: int, resamples: int
) -> list[str]:
    """The mean of sigma and of its square, then the AUC of each column, and what it gains."""
    estimator = given.noisy(level, seed)
    cells = [f"{np.mean(estimator.sigma):.2f}, {np.mean(np.square(estimator.sigma)):.2f}"]
    exact: Row | None = None
    for told in TOLD.values():
        believed = replace(estimator, sigma=told(estimator.sigma))
        drawn = frontier(
            strategy, given.table, believed, given.fit_rows, given.evaluate_rows, given.budgets,
            resamples=resamples, seed=seed,
        )  # fmt: skip
        found: Row = {"auc": drawn.auc, "auc_samples": drawn.auc_samples}
        gain = f" ({with_interval(difference(found, exact)).ours})" if exact else ""
        cells.append(f"{100 * drawn.auc:.2f}{gain}")
        exact = exact or found
    return cells


def main() -> None:
    """Print one table a strategy, its rows as they come."""
    parser = argparse.ArgumentParser(description="AUCs with less uncertainty than there is.")
    parser.add_argument("table", type=Path, nargs="?", help="RouterBench, imported")
    parser.add_argument("--synthetic", action="store_true", help="instead, the twin of RouterBench")
    parser.add_argument("--queries", type=int, default=QUERIES, help="of the twin")
    parser.add_argument("--models", type=int, choices=tuple(CHOICES), default=11)
    parser.add_argument("--cases", nargs="+", choices=tuple(CASES), default=list(CASES))
    parser.add_argument(
        "--strategies", nargs="+", choices=tuple(STRATEGIES), default=list(STRATEGIES)
    )
    parser.add_argument("--levels", nargs="+", choices=LEVELS, default=list(LEVELS))
    parser.add_argument("--seed", type=int, default=0, help="of the noise, and of the twin")
    parser.add_argument("--resamples", type=int, default=1000, help="for the intervals")
    arguments = parser.parse_args()
    if (arguments.table is None) == (not arguments.synthetic):
        parser.error("give a table or --synthetic, one of them")
    keep_compiled()
    if arguments.synthetic:
        world = synthetic.make_dataset(11, kind="routerbench")
        table = synthetic.sample(world, arguments.seed, arguments.queries)
    else:
        table = read_table(arguments.table)
    print(
        f"{table.n_queries:,} queries, {arguments.models} models, noise of seed {arguments.seed};"
    )
    print("AUCs in percent, in brackets how many points above exact, with 95% intervals\n")
    for strategy in (STRATEGIES[name] for name in arguments.strategies):
        print(f"| {strategy.name} | noise | mean sigma, of its square | {' | '.join(TOLD)} |")
        print("| --- | --- | --- |" + " ---: |" * len(TOLD))
        for case in arguments.cases:
            given = CASES[case](table, arguments.models)
            for level in arguments.levels:
                cells = row(given, strategy, level, arguments.seed, arguments.resamples)
                print(f"| {case} | {level} | {' | '.join(cells)} |", flush=True)
        print()


if __name__ == "__main__":
    main()
