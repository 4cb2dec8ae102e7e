"""Parts that the kinds of synthetic of answers are put together from."""

from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr, ndtri

from cascjax.synthetic.answering import AnswerWorld


def build(
    *, models: tuple[str, ...], groups: tuple[str, ...], kind: str, **fields: Any
) -> AnswerWorld:
    """A world of answers whose models rise in mean cost; what is not given plays no part."""
    K, G = len(models), len(groups)
    given: dict[str, Any] = {
        "refusal": np.zeros((K, G)),
        "certainty_noise": np.ones(K),
        "lure": np.zeros(G),
        "tested": np.zeros(G, int),
        "scores": np.tile([0.0, 1.0], (G, 1)),
        "prompt_ease": np.zeros(G),
        "prompt_length": np.zeros(G),
        "label_noise": np.inf,
        "effort": np.zeros(G),
        "shared_spread": np.zeros(G),
        "own_spread": np.zeros((K, G)),
        "first_token": np.full(K, 0.4),
        "supplied": True,
    } | fields
    world = AnswerWorld(models=models, groups=groups, kind=kind, **given)
    order = np.argsort(world.mean_cost, kind="stable")
    by_model = (
        "rate", "loading", "refusal", "certainty_noise", "answer_tokens", "own_spread",
        "price_prompt", "price_answer", "first_token", "speed",
    )  # fmt: skip
    sorted_fields = {name: given[name][order] for name in by_model}
    names = tuple(models[i] for i in order)
    return AnswerWorld(models=names, groups=groups, kind=kind, **(given | sorted_fields))


def shifted(
    base: Float[np.ndarray, " K"], shift: Float[np.ndarray, "K G"]
) -> Float[np.ndarray, "K G 1"]:
    """Rates by model and group: the model's own, with its threshold shifted by group."""
    return ndtr(ndtri(base)[:, None] + shift)[..., None]
