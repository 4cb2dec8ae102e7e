"""Open answers in kind: free text ending in an answer, whose tokens have log-probabilities."""

import numpy as np

from cascjax.synthetic.answering import FREE, AnswerWorld
from cascjax.synthetic.base import count, model_names
from cascjax.synthetic.draw import build, shifted

GROUPS = ("mmlu", "gsm8k")


def open_form(n_models: int = 3, seed: int = 0) -> AnswerWorld:
    """Draw models that reason before they answer, at lengths that go together.

    Cost is linear in prompt and answer, so one answer's length tells of the cost of the next.
    After a run there are mean and least log-probability of the tokens (in nats), their number and
    the answer, if one can be read from the text (paper, section 5.2).

    Args:
        n_models: K, at least 2.
        seed: picks the models; no less than 0.

    Raises:
        CascjaxError: an argument is out of its range.
    """
    K, G = count("n_models", n_models, 2), len(GROUPS)
    rng = np.random.default_rng(count("seed", seed, 0))
    rank = np.linspace(0, 1, K)
    base = 0.62 + 0.24 * rank + 0.02 * rng.standard_normal(K)
    by_group = np.array([-0.1, 0.3]) + 0.1 * rng.standard_normal((K, G))
    tokens = np.array([180.0, 150.0]) * np.exp(0.15 * rng.standard_normal((K, G)))
    price = 1.5e-7 * 25**rank * np.exp(0.2 * rng.standard_normal(K))
    return build(
        kind="open-form",
        models=model_names(K),
        groups=GROUPS,
        group_weights=np.array([0.6, 0.4]),
        rate=shifted(np.clip(base, 0.3, 0.95), by_group),
        loading=np.full((K, G, 1), 0.8),
        refusal=np.repeat(0.03 * (1 - 0.8 * rank)[:, None], G, axis=1),
        certainty_noise=1.7 - 0.3 * rank,
        options=np.array([4, FREE]),
        lure=np.array([0.5, 0.2]),
        prompt_tokens=np.array([150.0, 70.0]),
        prompt_spread=np.array([0.6, 0.35]),
        prompt_ease=np.full(G, -0.1),
        prompt_length=np.full(G, 0.3),
        answer_tokens=tokens,
        effort=np.array([0.15, 0.25]),
        shared_spread=np.array([0.35, 0.3]),
        own_spread=np.full((K, G), 0.25),
        price_prompt=price,
        price_answer=price,
        speed=150 * 0.3**rank,
        signal_names=("mean_logprob", "min_logprob", "log_answer_tokens"),
    )
