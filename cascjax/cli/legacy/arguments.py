"""Words of the command line to values, or one line that names the argument."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cascjax.errors import CascjaxError

if TYPE_CHECKING:
    from cascjax.estimators.specs import EstimatesSpec
    from cascjax.strategies import Strategy

MAX_BUDGETS = 10_000
"""Budgets that can be asked for; each is a point of a picture."""

NoiseLevel = str | tuple[float, float, float, float]


def names(option: str, text: str) -> list[str]:
    """A comma-separated list of distinct names, at least one.

    Raises:
        CascjaxError: a name is listed twice, or there is none.
    """
    found = [name.strip() for name in text.split(",") if name.strip()]
    if not found:
        raise CascjaxError(f"{option} {text!r}: give at least one name")
    for i, name in enumerate(found):
        if name in found[:i]:
            raise CascjaxError(f"{option}: {name!r} is listed twice; name it once")
    return found


def extra_costs(pairs: Sequence[str]) -> dict[str, str]:
    """Columns of extra costs by the name of the cost, from words such as seconds=latency_s.

    Raises:
        CascjaxError: what `named_columns` refuses, or a name is that of the first cost.
    """
    found = named_columns("--extra-cost", pairs, "seconds=latency_s")
    if "cost" in found:
        raise CascjaxError(
            f"--extra-cost {'cost=' + found['cost']!r}: 'cost' is the name of what --cost gives;"
            " take another"
        )
    return found


def named_columns(
    option: str, pairs: Sequence[str], example: str = "logprob=mean_logprob"
) -> dict[str, str]:
    """Columns by the name they are to have, from words such as the example.

    Raises:
        CascjaxError: a word is no such pair, or a name is listed twice.
    """
    found: dict[str, str] = {}
    for pair in pairs:
        name, _, column = (part.strip() for part in pair.partition("="))
        if not name or not column:
            raise CascjaxError(
                f"{option} {pair[:80]!r}: give a name and a column, such as {example}"
            )
        if name in found:
            raise CascjaxError(f"{option}: {name!r} is listed twice; name it once")
        found[name] = column
    return found


def strategies(text: str | None, max_depth: int, search: str) -> "list[Strategy]":
    """Strategies of a comma-separated list, by default all, with cascade-routing's options.

    Raises:
        CascjaxError: a name is unknown or is listed twice.
    """
    from cascjax.strategies import STRATEGIES, strategy

    named = STRATEGIES if text is None else names("--strategies", text)
    return [strategy(name, **of_strategy(name, max_depth, search)) for name in named]


def check_sizes(strategies: "Sequence[Strategy]", n_models: int) -> None:
    """Refuses strategies that look at every set of more models than can be.

    Raises:
        CascjaxError: there is one; names the ways out.
    """
    from cascjax.core.expected_max import MAX_ENUMERATED
    from cascjax.strategies import CascadeRouting, Frugal

    if n_models <= MAX_ENUMERATED:
        return
    every = [
        s
        for s in strategies
        if isinstance(s, Frugal) or (isinstance(s, CascadeRouting) and s.search == "exact")
    ]
    if every:
        rest = [other.name for other in strategies if other not in every] or ["pandora"]
        searches = isinstance(every[-1], CascadeRouting)
        raise CascjaxError(
            f"strategy {every[-1].name!r} looks at every set of models, for at most"
            f" {MAX_ENUMERATED} models and not {n_models}: choose fewer with --models,"
            f" {'or take --search beam or greedy, ' if searches else ''}or leave it out with"
            f" --strategies {','.join(rest)}"
        )


def models(text: str, known: tuple[str, ...]) -> list[str]:
    """Models by name, or by column number, from 0; at least two.

    Raises:
        CascjaxError: there is no such column, or only one model is named.
    """
    found = names("--models", text)
    for i, name in enumerate(found):
        if name not in known and name.isdecimal():
            if int(name) >= len(known):
                raise CascjaxError(
                    f"--models: there is no model number {name}; they go from 0 to {len(known) - 1}"
                )
            found[i] = known[int(name)]
    if len(found) < 2:
        raise CascjaxError(f"--models {text!r}: a choice needs at least 2; name another")
    return found


def noise(text: str) -> NoiseLevel:
    """A level by name, unchecked, or four sigmas: quality ante, post and cost ante, post.

    Raises:
        CascjaxError: the numbers are not four, or one is negative or not finite.
    """
    if text.isalpha():
        return text
    try:
        quality_ante, quality_post, cost_ante, cost_post = (float(x) for x in text.split(","))
        level = quality_ante, quality_post, cost_ante, cost_post
        if all(math.isfinite(sigma) and sigma >= 0 for sigma in level):
            return level
    except ValueError:
        pass
    raise CascjaxError(
        f"--noise {text!r}: give low, medium, high, or four numbers of at least 0, QA,QP,CA,CP"
    )


def learning(
    estimates: str | None,
    noise: str | None,
    learner: str | None,
    folds: int | None,
    cost_model: str | None,
    ridge: str | None,
    sigma_scale: str | None,
) -> tuple[str | None, dict[str, Any]]:
    """The kind of estimates, "learned" where one of its options is given, and those options.

    Raises:
        CascjaxError: an option of learned estimates is no such value, or is given beside another
            kind of them, or the noise of noisy ones beside learned ones.
    """
    given: dict[str, Any] = {}
    for name, value in (("learner", learner), ("folds", folds), ("cost_model", cost_model)):
        if value is not None:
            given[name] = value
    if ridge is not None:
        given["ridge"] = None if ridge == "auto" else number("--ridge", ridge)
    if sigma_scale is not None:
        given["sigma_scale"] = _sigma_scale(sigma_scale)
    first = "--" + next(iter(given), "estimates learned").replace("_", "-")
    if given and estimates not in (None, "learned"):
        raise CascjaxError(f"{first} is of learned estimates: leave out --estimates {estimates}")
    if noise is not None and (given or estimates == "learned"):
        raise CascjaxError(f"--noise is of noisy estimates: leave out it or {first}")
    return ("learned" if given else estimates), given


def spec(
    estimates: str | None, noise: str | None, learning: "dict[str, Any]"
) -> "EstimatesSpec | None":
    """Return the estimates of the options; None where none are given.

    Args:
        estimates: kind of estimates, see `learning`.
        noise: option --noise.
        learning: options of learned estimates, see `learning`.

    Raises:
        CascjaxError: a value is invalid.
    """
    from cascjax.estimators.specs import Learned, Noisy, Supplied

    if estimates is None and noise is None:
        return None
    if estimates == "learned":
        options = dict(learning)
        if "learner" in options:
            options["estimator"] = options.pop("learner")
        return Learned(**options)
    return Supplied() if estimates == "supplied" else Noisy(_level(noise or "low"))


def _level(text: str) -> Any:
    return noise(text)


def _sigma_scale(text: str) -> float | str:
    """A scale on sigma, or "auto"."""
    if text == "auto":
        return text
    if 0 <= (scale := number("--sigma-scale", text)) <= 10:
        return scale
    raise CascjaxError(f"--sigma-scale {text[:40]!r}: give auto, or a number from 0 to 10")


def of_strategy(name: str, max_depth: int, search: str) -> dict[str, Any]:
    """Those of the options that the strategy of that name has."""
    has = {
        "cascade-routing": {"max_depth": max_depth, "search": search},
        "frugal": {"max_depth": max_depth},
    }
    return has.get(name, {})


def budgets(text: str | None) -> tuple[int | None, list[float] | None]:
    """How many budgets, or the mean costs themselves; neither where nothing is given.

    Raises:
        CascjaxError: it is no such number, or no list of costs.
    """
    if text is None:
        return None, None
    try:
        if text.isdecimal():
            if 2 <= int(text) <= MAX_BUDGETS:
                return int(text), None
        else:
            costs = [float(x) for x in text.split(",")]
            if all(0 < cost < math.inf for cost in costs) and len(costs) <= MAX_BUDGETS:
                return None, costs
    except ValueError:
        pass
    shown = text if len(text) <= 40 else f"{text[:40]}..."
    raise CascjaxError(
        f"--budgets {shown!r}: give how many (2 to {MAX_BUDGETS:,}), or costs such as 0.001,0.002"
    )


def number(option: str, text: str) -> float:
    """A finite number.

    Raises:
        CascjaxError: it is none.
    """
    try:
        if math.isfinite(value := float(text)):
            return value
    except ValueError:
        pass
    raise CascjaxError(f"{option} {text[:40]!r}: give a number")


def named_numbers(option: str, texts: Sequence[str], default: str | None) -> dict[str, float]:
    """NAME=NUMBER, each name once; a number alone is that of the default name, if there is one.

    Raises:
        CascjaxError: a name is missing or is listed twice, or a number is none.
    """
    found: dict[str, float] = {}
    for text in texts:
        # The last sign: names come from a table, and may hold one.
        name, sign, value = text.rpartition("=")
        if not sign and default is not None:
            name = default
        if not name:
            raise CascjaxError(f"{option} {text[:40]!r}: give it as NAME=NUMBER")
        if name in found:
            raise CascjaxError(f"{option}: {name!r} is listed twice; name it once")
        found[name] = number(option, value)
    return found


def count(option: str, text: str) -> float | int:
    """A whole number of at least 1, or "inf".

    Raises:
        CascjaxError: it is neither.
    """
    if text == "inf":
        return math.inf
    if text.isdecimal() and len(text) <= 15 and int(text) >= 1:
        return int(text)
    raise CascjaxError(f"{option} {text[:40]!r}: give a whole number of at least 1, or inf")
