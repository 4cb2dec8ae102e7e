"""Coverage of the intervals of AUC and of paired differences, by simulation.

    python -m benchmarks.coverage --repetitions 300 --out docs/intervals.md

Every repetition draws a new log of 400 queries from a synthetic dataset, half of them to fit on.
Two questions are asked of its intervals. Fixed parameters: does the interval contain the AUC that
these very parameters have on 20,000 other queries? Refitted: does it contain the mean AUC of all
logs of that size, whose parameters differ?
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.stats import binom

import cascjax as cj
from cascjax import synthetic
from cascjax.data.table import EVALUATE, FIT, concatenate

STRATEGIES = ("mixing", "routing", "thresholding")
N, MANY = 400, 20_000
PAIRS = ((1, 0), (2, 1))  # differences: routing less mixing, thresholding less routing


def log(dataset: synthetic.Dataset, first: int, n: int, split: int) -> cj.Table:
    """Return rows of a synthetic dataset, all of one split."""
    table = synthetic.sample(dataset, first, n)
    return replace(table, split=np.full(n, split, np.int8))


def one_log(dataset: synthetic.Dataset, others: cj.Table, place: int, resamples: int) -> np.ndarray:
    """Return `[quantity, (value, truth of fixed, low and high fixed, low and high refitted)]`."""
    start = MANY + place * N
    fit, rows = log(dataset, start, N // 2, FIT), log(dataset, start + N // 2, N // 2, EVALUATE)
    truth = cj.compare(concatenate([fit, others]), STRATEGIES, budgets=4)
    fixed, refit = (
        cj.compare(
            concatenate([fit, rows]), STRATEGIES, budgets=4, seed=place,
            resamples=cj.Bootstrap(resamples, refit=again),
        )
        for again in (False, True)
    )  # fmt: skip
    rows = []
    for name in STRATEGIES:
        intervals = [study[name].auc_interval or () for study in (fixed, refit)]
        rows.append([fixed[name].auc, truth[name].auc, *intervals[0], *intervals[1]])
    for a, b in PAIRS:
        values = [s[STRATEGIES[a]].auc - s[STRATEGIES[b]].auc for s in (fixed, truth)]
        intervals = [np.asarray(study.difference_interval)[a, b] for study in (fixed, refit)]
        rows.append([*values, *intervals[0], *intervals[1]])
    return np.array(rows)


def report(found: np.ndarray, resamples: int) -> str:
    """Return the table of coverages as Markdown."""
    n, names = len(found), [f"AUC of {name}" for name in STRATEGIES]
    names += [f"AUC of {STRATEGIES[a]} less {STRATEGIES[b]}" for a, b in PAIRS]
    value, truth, low, high, low_again, high_again = np.moveaxis(found, -1, 0)
    mean = value.mean(0)
    fixed = ((low <= truth) & (truth <= high)).mean(0)
    again = ((low_again <= mean) & (mean <= high_again)).mean(0)
    chance = binom.interval(0.95, n, 0.95)
    lines = [
        "# How often intervals of 95% confidence hold", "",
        f"{n} synthetic logs of {N} queries and 3 models, supplied estimates, {resamples}"
        " resamples; made by `python -m benchmarks.coverage`. If 95% were exact, chance would give"
        f" {chance[0] / n:.1%} to {chance[1] / n:.1%} in 19 of 20 tables.", "",
        "| quantity | fixed parameters | refitted |", "|---|---|---|",
        *(f"| {q} | {a:.1%} | {b:.1%} |" for q, a, b in zip(names, fixed, again, strict=True)),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the simulation."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--repetitions", type=int, default=300)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    dataset = synthetic.make_dataset(3, 0)
    others = log(dataset, 0, MANY, EVALUATE)
    places = range(asked.repetitions)
    text = report(
        np.stack([one_log(dataset, others, place, asked.resamples) for place in places]),
        asked.resamples,
    )
    print(text)
    if asked.out:
        asked.out.parent.mkdir(exist_ok=True)
        asked.out.write_text(text)


if __name__ == "__main__":
    main()
