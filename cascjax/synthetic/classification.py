"""Classification in kind: multiple choice, where a model gives a distribution over classes."""

import numpy as np

from cascjax.synthetic.answering import AnswerWorld
from cascjax.synthetic.base import count, model_names
from cascjax.synthetic.draw import build, shifted

GROUPS, OPTIONS = ("mmlu", "arc", "mixeval"), 4


def classification(n_models: int = 3, seed: int = 0) -> AnswerWorld:
    """Draw models that name one of four classes, some surer of themselves than they may be.

    An answer is one token, so cost is linear in the prompt's length and known beforehand. After a
    run there are the class and, of the class distribution, the highest probability, the entropy
    (in nats) and the margin of the first class over the second (paper, section 5.2).

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
    by_group = np.array([0.0, 0.4, -0.1]) + 0.08 * rng.standard_normal((K, G))
    price = 1.5e-7 * 25**rank * np.exp(0.2 * rng.standard_normal(K))
    return build(
        kind="classification",
        models=model_names(K),
        groups=GROUPS,
        group_weights=np.array([0.5, 0.2, 0.3]),
        rate=shifted(np.clip(base, 0.3, 0.95), by_group),
        loading=np.full((K, G, 1), 0.85),
        certainty_noise=1.6 - 0.4 * rank,
        options=np.full(G, OPTIONS),
        lure=np.full(G, 0.55),
        prompt_tokens=np.array([160.0, 90.0, 110.0]),
        prompt_spread=np.array([0.6, 0.35, 0.5]),
        prompt_ease=np.full(G, -0.1),
        answer_tokens=np.ones((K, G)),
        price_prompt=price,
        price_answer=price,
        speed=60 * 0.5**rank,
        signal_names=("top_probability", "entropy", "margin"),
    )
