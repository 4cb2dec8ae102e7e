"""Synthetic datasets of any size whose truth is known.

A query's rows come from fixed blocks, each with its own random generator: row r depends on the
dataset, the seed and r alone, so a small table is the head of a large one.
"""

import inspect
from collections.abc import Callable
from typing import Any

from cascjax.errors import CascjaxError, check_name
from cascjax.synthetic.answers import AnswerDataset
from cascjax.synthetic.base import Dataset, batches, sample
from cascjax.synthetic.judged import JudgedDataset, judged
from cascjax.synthetic.kinds import classification, code_math, open_form, swebench
from cascjax.synthetic.posterior import known_posterior
from cascjax.synthetic.routerbench import routerbench

KINDS: dict[str, Callable[..., JudgedDataset | AnswerDataset]] = {
    "judged": judged,
    "routerbench": routerbench,
    "swebench": swebench,
    "code-math": code_math,
    "classification": classification,
    "open-form": open_form,
}
"""Kinds of datasets by name, each a function of `n_models`, `seed` and options of its own."""


def make_dataset(
    n_models: int = 5, seed: int = 0, *, kind: str = "judged", **options: Any
) -> JudgedDataset | AnswerDataset:
    """Draw the models of a synthetic dataset; `sample` and `batches` draw tables from it.

    Args:
      n_models: Number of models K, at least 2.
      seed: Seed of the models, at least 0.
      kind: "judged" has a judge that scores answers; "routerbench" resembles RouterBench, and
        "swebench", "code-math", "classification" and "open-form" the other settings of the paper.
      options: Further arguments of the function in `KINDS`.

    Returns:
      The dataset, its models in order of rising mean cost.

    Raises:
      CascjaxError: The kind or an option is unknown, or an argument is out of range.

    Example:
      >>> make_dataset(n_models=3, kind="swebench")
      swebench dataset: agent-1, agent-2, agent-3
    """
    check_name("kind of dataset", kind, KINDS)
    parameters = inspect.signature(KINDS[kind]).parameters.values()
    known = [each.name for each in parameters if each.kind is inspect.Parameter.KEYWORD_ONLY]
    for name in options:
        if name not in known:
            raise CascjaxError(
                f"kind {kind!r} has no option {name!r}; it has: {', '.join(known) or 'none'}"
            )
    return KINDS[kind](n_models, seed, **options)


__all__ = [
    "KINDS",
    "Dataset",
    "batches",
    "known_posterior",
    "make_dataset",
    "sample",
]
