"""SWE-bench in kind: agents on issues of repositories, whose tests tell at once what is right."""

import numpy as np

from cascjax.synthetic.answering import NO_IDENTITY, AnswerWorld
from cascjax.synthetic.base import count, model_names
from cascjax.synthetic.draw import build, shifted

REPOSITORIES = 12
"""Repositories issues come from, a third of them from the first."""


def swebench(n_models: int = 10, seed: int = 0) -> AnswerWorld:
    """Draw K agents: low base rates, costs that vary much by query, correctness seen after a run.

    Beforehand there are the repository and the issue's length, and both tell little (paper,
    section 5.2): routing can do next to nothing, and a cascade knows when to stop.

    Args:
        n_models: K, at least 2.
        seed: picks the models; no less than 0.

    Raises:
        CascjaxError: an argument is out of its range.
    """
    K, G = count("n_models", n_models, 2), REPOSITORIES
    rng = np.random.default_rng(count("seed", seed, 0))
    rank = np.linspace(0, 1, K)
    base = 0.16 + 0.28 * rank + 0.03 * rng.standard_normal(K)
    # Repositories shift all agents together, and each agent a little on its own.
    by_repository = 0.2 * rng.standard_normal(G) + 0.1 * rng.standard_normal((K, G))
    weights = 0.68 ** np.arange(G)
    tokens = 6e4 * np.exp(0.5 * rng.standard_normal(K))
    return build(
        kind="swebench",
        models=model_names(K, "agent"),
        groups=model_names(G, "repository"),
        group_weights=weights / weights.sum(),
        rate=shifted(np.clip(base, 0.08, 0.6), by_repository),
        loading=np.full((K, G, 1), 0.8),
        options=np.full(G, NO_IDENTITY),
        tested=np.ones(G, int),
        prompt_tokens=np.full(G, 450.0),
        prompt_spread=np.full(G, 0.7),
        prompt_ease=np.full(G, -0.15),
        prompt_length=np.full(G, 0.15),
        answer_tokens=np.repeat(tokens[:, None], G, axis=1),
        effort=np.full(G, 0.25),
        shared_spread=np.full(G, 0.45),
        own_spread=np.full((K, G), 0.6),
        price_prompt=3e-6 * np.ones(K),
        price_answer=1.2e-6 * 16**rank * np.exp(0.2 * rng.standard_normal(K)),
        speed=2000 * np.exp(0.3 * rng.standard_normal(K)),
        signal_names=("passed", "log_answer_tokens"),
    )
