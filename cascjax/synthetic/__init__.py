"""Synthetic synthetic: workloads of any size whose truth is known, one kind a setting of the paper.

A query's rows come from fixed blocks, each with its own stream of the seed: row r depends on
the world, the seed and r alone, so a small table is the head of a large one.
"""

import inspect
from collections.abc import Callable
from typing import Any, Literal, overload

from cascjax.errors import CascjaxError, unknown_name
from cascjax.synthetic.answering import AnswerWorld
from cascjax.synthetic.base import FIRST_TOKEN_SPREAD, batches, sample
from cascjax.synthetic.classification import classification
from cascjax.synthetic.code_math import code_math
from cascjax.synthetic.judged import (
    ANSWER_EFFORT,
    ANSWER_SPREAD,
    DOMAINS,
    PROMPT_SPREAD,
    PROMPT_TOKENS,
    QUALITIES,
    SIGNAL_NAMES,
    Dataset,
    judged,
)
from cascjax.synthetic.open_form import open_form
from cascjax.synthetic.posterior import Posterior, known_posterior
from cascjax.synthetic.routerbench import routerbench
from cascjax.synthetic.swebench import swebench

KINDS: dict[str, Callable[..., Dataset | AnswerWorld]] = {
    "judged": judged,
    "routerbench": routerbench,
    "swebench": swebench,
    "code-math": code_math,
    "classification": classification,
    "open-form": open_form,
}
"""Kinds of world by name, each a function of `n_models`, `seed` and settings of its own."""


@overload
def make_dataset(
    n_models: int = 5, seed: int = 0, *, kind: Literal["judged"] = "judged", **settings: Any
) -> Dataset: ...
@overload
def make_dataset(
    n_models: int = 5, seed: int = 0, *, kind: str, **settings: Any
) -> Dataset | AnswerWorld: ...
def make_dataset(
    n_models: int = 5, seed: int = 0, *, kind: str = "judged", **settings: Any
) -> Dataset | AnswerWorld:
    """Draw a world of a kind; `sample` and `batches` draw tables from it.

    Args:
        n_models: K, at least 2.
        seed: picks the models; no less than 0.
        kind: a name of `KINDS`.
        settings: what the function of that kind takes besides.

    Raises:
        CascjaxError: there is no such kind or setting, or an argument is out of its range.
    """
    if kind not in KINDS:
        raise unknown_name("kind of world", kind, tuple(KINDS))
    make = KINDS[kind]
    for name in settings:
        if name not in (known := _settings(make)):
            takes = ", ".join(known) or "none"
            raise CascjaxError(f"a {kind} world has no setting {name!r}; it takes: {takes}")
    return make(n_models, seed, **settings)


def _settings(make: Callable[..., Any]) -> list[str]:
    """The keyword-only arguments of a function."""
    parameters = inspect.signature(make).parameters.values()
    return [p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]


__all__ = [
    "ANSWER_EFFORT",
    "ANSWER_SPREAD",
    "DOMAINS",
    "FIRST_TOKEN_SPREAD",
    "KINDS",
    "PROMPT_SPREAD",
    "PROMPT_TOKENS",
    "QUALITIES",
    "SIGNAL_NAMES",
    "AnswerWorld",
    "Dataset",
    "Posterior",
    "batches",
    "classification",
    "code_math",
    "judged",
    "known_posterior",
    "make_dataset",
    "open_form",
    "routerbench",
    "sample",
    "swebench",
]
