"""Options and arguments that several commands share."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from cascjax.cli.types import PATH, F, budgets, gathered, integer, names, noise, number
from cascjax.estimators.registry import ESTIMATORS
from cascjax.estimators.specs import ESTIMATES, EstimatesSpec, Learned, Noisy
from cascjax.strategies import STRATEGIES, Option, Strategy, strategy
from cascjax.words import listed

if TYPE_CHECKING:
    from cascjax.data.source import Files


def _spec(estimates: str | None, **values: Any) -> EstimatesSpec | None:
    """Return the estimates that options describe; None for the default of the library."""
    given = {name: value for name, value in values.items() if value is not None}
    kinds = {name: (Noisy if name == "level" else Learned).kind for name in given}
    kind = estimates or next(iter(kinds.values()), None)
    for name, needed in kinds.items():
        if needed != kind:
            option = "--noise" if name == "level" else f"--{name.replace('_', '-')}"
            raise click.UsageError(f"{option} needs {needed} estimates, not {kind} ones")
    if given.get("ridge") == "auto":
        given["ridge"] = None
    return None if kind is None else ESTIMATES[kind](**given)


_KIND_AND_NOISE = (
    click.option(
        "--estimates",
        type=click.Choice(list(ESTIMATES)),
        help="Kind of estimates. [default: learned if an option of learned estimates is given,"
        " noisy if --noise is given, supplied if the source has them, else learned if it has"
        " features, signals, answers or groups]",
    ),
    click.option(
        "--noise",
        "level",
        type=noise,
        metavar="LEVEL|QA,QP,CA,CP",
        help="Level of noisy estimates: low (0.6,0.3,0.0002,0.00005), medium, high, or standard"
        " deviations of quality before and after a model runs, and of cost. [default: low]",
    ),
)
_LEARNED = (
    click.option(
        "--estimator",
        type=click.Choice(list(ESTIMATORS)),
        help="Estimator of learned estimates. [default: logistic]",
    ),
    integer("--folds", 2, 100, None, "Number of folds of the cross-fitting. [default: 5]"),
    click.option(
        "--ridge",
        type=number(0, auto="auto"),
        metavar="X|auto",
        help="Penalty on squared weights of learned quality estimates; auto for the one of 1, 10,"
        " 100 and 1000 with the lowest out-of-fold error. [default: 1]",
    ),
    click.option(
        "--cost-model",
        metavar="constant|features|seen",
        help="Inputs of the learned cost model. [default: lowest out-of-fold error]",
    ),
    click.option(
        "--sigma-scale",
        type=number(0, 10, auto="auto"),
        metavar="X|auto",
        help="Factor on the standard deviations of learned estimates; auto for the best of 1, 0.75,"
        " 0.5, 0.25 and 0 on the fit split, for each strategy. [default: auto]",
    ),
)

estimates = gathered("estimates", _spec, (*_KIND_AND_NOISE, *_LEARNED))
"""Options of all estimates; the command gets a spec as `estimates`."""

independent_estimates = gathered("estimates", _spec, _KIND_AND_NOISE)
"""Options of supplied and noisy estimates; the command gets a spec as `estimates`."""


def _declared() -> dict[str, dict[str, Option]]:
    """Return the options that strategies declare, by name and strategy."""
    declared: dict[str, dict[str, Option]] = {}
    for kind in STRATEGIES.values():
        for option in kind.options():
            declared.setdefault(option.name, {})[kind.name] = option
    return declared


def _strategy_option(name: str, by_strategy: dict[str, Option]) -> Any:
    """Return the option of the command line for an option that strategies declare."""
    option = next(iter(by_strategy.values()))
    flag, kind = name.replace("_", "-"), option.kind
    value = click.IntRange(min=1) if kind is int else kind
    return click.option(
        f"--{flag}/--no-{flag}" if kind is bool else f"--{flag}",
        name,
        default=None,
        type=click.Choice(option.choices) if option.choices else value,
        help=f"{option.help} For {listed(list(by_strategy))}. [default: {option.default}]",
    )


_STRATEGY_OPTIONS = [_strategy_option(*each) for each in _declared().items()]


def _make_strategies(chosen: Sequence[str], **options: Any) -> list[Strategy]:
    """Return strategies, each with the options that it declares."""
    declared = _declared()
    given = {name: value for name, value in options.items() if value is not None}
    for name in given:
        if not set(declared[name]) & set(chosen):
            raise click.UsageError(
                f"--{name.replace('_', '-')} is an option of {listed(list(declared[name]))}"
            )
    return [
        strategy(kind, **{name: value for name, value in given.items() if kind in declared[name]})
        for kind in chosen
    ]


def strategies(default: Sequence[str]) -> Callable[[F], F]:
    """Return the options of several strategies; the command gets a list of them as `strategies`."""
    words = "all" if len(default) == len(STRATEGIES) else ", ".join(default)
    option = click.option(
        "--strategies",
        type=names,
        metavar="LIST",
        help=f"Names of strategies, with commas. [default: {words}]",
    )
    return gathered(
        "strategies",
        lambda strategies, **options: _make_strategies(strategies or default, **options),
        (option, *_STRATEGY_OPTIONS),
    )


one_strategy = gathered(
    "strategy",
    lambda strategy, **options: _make_strategies([strategy], **options)[0],
    (
        click.option("--strategy", required=True, metavar="NAME", help="Name of the strategy."),
        *_STRATEGY_OPTIONS,
    ),
)
"""Options of one strategy; the command gets it as `strategy`."""

SOURCE = click.argument("paths", type=PATH, nargs=-1, required=True, metavar="SOURCE...")
MODELS = click.option(
    "--models",
    type=names,
    metavar="LIST",
    help="Names of the models to use, or their numbers from 0 in cascjax inspect. [default: all]",
)
BUDGETS = click.option(
    "--budgets",
    type=budgets,
    metavar="N|COSTS",
    help="Number of budgets, or mean costs per query. [default: 20 from the cheapest to the most"
    " expensive model, and the models on the hull]",
)
CONFIDENCE = click.option(
    "--confidence",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.95,
    show_default=True,
    help="Confidence of the intervals.",
)
OUT = click.option("--out", required=True, type=PATH, help="Folder for the results.")


def seed(purposes: str) -> Any:
    """Return the option --seed."""
    return integer("--seed", 0, 2**32 - 1, 0, f"Seed of {purposes}.")


def resamples(default: int | None, words: str = "") -> Any:
    """Return the option --resamples, with a default or words for it."""
    help = "Number of bootstrap resamples of the evaluation rows; 0 for no intervals."
    help += f" [default: {words}]" if words else ""
    return integer("--resamples", 0, 100_000, default, help)


def select(source: "Files", models: Sequence[str] | None) -> "Files":
    """Return a source with the models of --models; a number is a position, from 0."""
    if models is None:
        return source
    known, chosen = source.models, list(models)
    for i, name in enumerate(chosen):
        if name not in known and name.isdecimal():
            if int(name) >= len(known):
                last = len(known) - 1
                raise click.UsageError(f"--models: no model has number {name}; give 0 to {last}")
            chosen[i] = known[int(name)]
    if len(chosen) < 2:
        raise click.UsageError("--models: a choice needs at least 2 models; name another")
    return source.select_models(chosen)
