"""The command fit."""

import contextlib
import math
import shlex
from pathlib import Path
from typing import Any

import click

import cascjax as cj
from cascjax.cli import options
from cascjax.cli.errors import Command
from cascjax.cli.job import Job, job
from cascjax.cli.types import PATH, named_number, number, numbers, several
from cascjax.data.files import atomic_write
from cascjax.data.source import Files
from cascjax.report.policy import print_policy
from cascjax.search.rules import COST


@click.command("fit", cls=Command)
@options.SOURCE
@options.one_strategy
@click.option(
    "--budget",
    type=named_number("COST=B", COST),
    metavar="B|COST=B",
    multiple=True,
    callback=several,
    help="Largest mean cost; with several costs one each, as in cost=0.001 and seconds=2.",
)
@click.option("--quality", type=float, help="Smallest mean quality, reached at the lowest cost.")
@click.option(
    "--parameter",
    type=numbers,
    metavar="X|X,X,...",
    help="Parameter: lambda, or tau for thresholding, or one number per step; for frugal the models"
    " of a chain in binary and tau, as in 5,0.7 for the first and the third model.",
)
@click.option(
    "--group-budgets",
    type=named_number("GROUP=B"),
    metavar="GROUP=B|GROUP:COST=B",
    multiple=True,
    callback=several,
    help="Largest mean cost of the queries of a group, which get parameters of their own.",
)
@click.option(
    "--confidence",
    type=float,
    metavar="P",
    help="Probability that new queries keep within every budget, above 0.5 and below 1.",
)
@click.option(
    "--new-queries",
    type=number(1, inf=math.inf),
    metavar="M|inf",
    help="Number of these new queries. [default: as many as are fitted on]",
)
@options.estimates
@options.MODELS
@options.seed("noise, folds and sample, and of the split if the source has none")
@job
@click.option("--out", required=True, type=PATH, help="File for the policy.")
def command(
    paths: tuple[Path, ...],
    models: list[str] | None,
    budget: dict[str, float],
    group_budgets: dict[str, float],
    confidence: float | None,
    new_queries: float | None,
    job: Job,
    out: Path,
    **arguments: Any,
) -> None:
    """Fit a strategy to a budget or a quality, and write it as a policy.

    SOURCE is a table, or a folder, a pattern or several files, which may be larger than memory.
    """
    if new_queries is not None and confidence is None:
        raise click.UsageError("--new-queries needs --confidence")
    if confidence is not None:
        arguments["confidence"] = cj.Confidence(confidence, new_queries)
    with contextlib.ExitStack() as stack:
        # Opened first, so that a file that cannot be written is refused before the work.
        source, run = stack.enter_context(job.run(paths, models, out, file=True))
        file = stack.enter_context(atomic_write(out)) if job.first else out
        policy = cj.fit(
            source,
            **arguments,
            budget=budget or None,
            group_budgets=_by_group(group_budgets, source) or None,
            options=run,
        )
        job.save(lambda: policy.save(file))
    for note in policy.record.get("notes", ()):
        job.note(f"note: {note}.")
    job.result(policy.to_json, lambda console: print_policy(policy, console))
    evaluate = shlex.join(["cascjax", "evaluate", str(out), *map(str, paths)])
    job.note(f"Wrote {out}; try: {evaluate} --out evaluation")


def _by_group(budgets: dict[str, float], source: Files) -> dict[str, dict[str, float]]:
    """Return budgets by group and cost, from names such as GROUP or GROUP:COST."""
    by_group: dict[str, dict[str, float]] = {}
    for name, budget in budgets.items():
        group, _, cost = name.rpartition(":")
        if not group or cost not in (COST, *source.extra_cost_units):
            group, cost = name, COST  # the name of a group may have a colon
        if cost in by_group.setdefault(group, {}):
            raise click.UsageError(f"--group-budgets: {name!r} is listed twice; name it once")
        by_group[group][cost] = budget
    return by_group
