"""Arguments and options that several commands have."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from cascjax.cli.launch import WAIT
from cascjax.cli.launch import Place as Asked

F = TypeVar("F", bound=Callable[..., Any])

TABLE = click.argument("table", type=click.Path(path_type=Path))
TABLES = click.argument(
    "tables", type=click.Path(path_type=Path), nargs=-1, required=True, metavar="TABLE|FOLDER|GLOB"
)
ANY_TABLES = click.argument(
    "tables", type=click.Path(path_type=Path), nargs=-1, metavar="[TABLE|FOLDER|GLOB]"
)
FILE = click.argument("file", type=click.Path(path_type=Path))
POLICY = click.argument("policy", type=click.Path(path_type=Path))

ESTIMATES = click.option(
    "--estimates",
    type=click.Choice(["supplied", "noisy", "learned"]),
    help="Default: supplied where the table has them and no --noise is given, else noisy; learned"
    " ones cannot be tuned.",
)
_ANY_ESTIMATES = click.option(
    "--estimates",
    type=click.Choice(["supplied", "noisy", "learned"]),
    help="Default: supplied where the table has them and no --noise is given, else noisy; learned"
    " where an option of learned ones is given.",
)
_LEARNER = click.option(
    "--learner",
    metavar="NAME",
    help="What learned estimates are made with: logistic or linear (up to 8 models), joint,"
    " joint-knn, joint-mlp; default: logistic.",
)
_LEARNER_FOLDS = click.option(
    "--folds",
    type=click.IntRange(2, 100),
    help="Of the cross-fitting of learned estimates; default: 5.",
)
_RIDGE = click.option(
    "--ridge",
    metavar="X|auto",
    help="Of learned estimates: what squared weights cost, or auto for the one of 1, 10, 100 and"
    " 1000 of least error out of fold; default: 1, the paper's. Learner joint finds its own.",
)
_TRUST = click.option(
    "--sigma-scale",
    metavar="X|auto",
    help="Of learned estimates: a scale on the sigmas they state, or auto for the one of 1, 0.75,"
    " 0.5, 0.25 and 0 that does best on the rows to fit on, for each strategy; of more than 11"
    " models auto is 1. Default: auto.",
)
_COST_MODEL = click.option(
    "--cost-model",
    metavar="constant|features|seen",
    help="What learned costs are told from; default: the one of least error out of fold.",
)


def learned_estimates(command: F) -> F:
    """The kind of estimates, and all options of learned ones: see `arguments.learning`."""
    for option in (_TRUST, _RIDGE, _COST_MODEL, _LEARNER_FOLDS, _LEARNER, _ANY_ESTIMATES):
        command = option(command)
    return command


NOISE = click.option(
    "--noise",
    metavar="LEVEL|QA,QP,CA,CP",
    help="low (0.6,0.3,0.0002,0.00005), medium, high, or the four sigmas of quality ante, post and"
    " cost ante, post, in the table's own units; default: low.",
)
MODELS = click.option(
    "--models",
    metavar="LIST",
    help="Comma-separated names, or numbers, from 0, as cascjax inspect shows them.",
)
MAX_DEPTH = click.option("--max-depth", type=click.IntRange(min=1), default=5, show_default=True)
SEARCH = click.option(
    "--search",
    type=click.Choice(["exact", "beam", "greedy"]),
    default="exact",
    show_default=True,
    help="How cascade-routing looks for sets of models.",
)
SEED_TYPE: Any = {"type": click.IntRange(0, 2**32 - 1), "default": 0, "show_default": True}
SEED = click.option("--seed", help="Of split and noise.", **SEED_TYPE)
OUT_FOLDER = click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Folder to write."
)
RESUME = click.option(
    "--resume", is_flag=True, help="Of many files: go on with what a run that was cut off left."
)
FORCE = click.option(
    "--force", is_flag=True, help="Of many files: start over whatever such a run left in --out."
)
SAMPLE = click.option(
    "--sample",
    type=click.IntRange(min=1),
    help="Of many files: rows of the fit split that settings are looked for on, and estimates"
    " learned from; default: 262,144.",
)


_DISTRIBUTED = click.option(
    "--distributed",
    is_flag=True,
    help="Of many files: be one of several processes, started by srun, mpirun, torchrun or in a"
    " Kubernetes job, whose variables say which.",
)
_COORDINATOR = click.option(
    "--coordinator",
    metavar="HOST:PORT",
    help="The same where nothing says which: where process 0 is to listen.",
)
_PROCESSES = click.option("--processes", type=click.IntRange(min=1), help="How many there are.")
_PROCESS = click.option("--process", type=click.IntRange(min=0), help="Which this is, from 0.")
_WAIT = click.option(
    "--wait",
    type=click.IntRange(min=1),
    default=WAIT,
    show_default=True,
    help="Seconds that processes wait for each other at the start.",
)


def processes(command: F) -> F:
    """What is said of several processes, given to the command as `several`."""

    @functools.wraps(command)
    def with_processes(
        *arguments: Any,
        distributed: bool,
        coordinator: str | None,
        processes: int | None,
        process: int | None,
        wait: int,
        **rest: Any,
    ) -> Any:
        several = Asked(distributed, coordinator, processes, process, wait)
        return command(*arguments, several=several, **rest)

    found = cast(F, with_processes)
    for option in (_WAIT, _PROCESS, _PROCESSES, _COORDINATOR, _DISTRIBUTED):
        found = option(found)
    return found


def places(several: Asked) -> dict[str, Any]:
    """What says so, by option."""
    names = ("distributed", "coordinator", "processes", "process")
    return {name: getattr(several, name) for name in names}
