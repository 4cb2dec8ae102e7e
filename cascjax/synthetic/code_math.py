"""Code and mathematics in kind: tests tell which code is right, only agreement which sum is."""

import numpy as np

from cascjax.synthetic.answering import FREE, NO_IDENTITY, AnswerWorld
from cascjax.synthetic.base import count
from cascjax.synthetic.draw import build

GROUPS = ("code", "math")


def code_math(n_models: int = 4, seed: int = 0) -> AnswerWorld:
    """Draw models for code and models for mathematics by turns, in sizes that rise.

    Beforehand there are group, length and a label of difficulty, as both benchmarks have; after a
    run the length of an answer, for code whether tests pass, for mathematics the answer itself,
    which other models' answers agree with or not (paper, section 5.2).

    Args:
        n_models: K, at least 2.
        seed: picks the models; no less than 0.

    Raises:
        CascjaxError: an argument is out of its range.
    """
    K = count("n_models", n_models, 2)
    rng = np.random.default_rng(count("seed", seed, 0))
    size = np.repeat(np.linspace(0, 1, -(-K // 2)), 2)[:K]
    codes = np.arange(K) % 2 == 1
    code = np.where(codes, 0.22 + 0.24 * size, 0.08 + 0.12 * size)
    mathematics = np.where(codes, 0.42 + 0.22 * size, 0.58 + 0.24 * size)
    rate = np.stack([code, mathematics], axis=1) + 0.015 * rng.standard_normal((K, 2))
    tokens = np.stack([np.full(K, 450.0), np.where(codes, 420.0, 600.0)], axis=1)
    price = 1e-7 * 5**size * np.exp(0.05 * rng.standard_normal(K))
    width = len(str(K))
    return build(
        kind="code-math",
        models=tuple(f"{'code' if codes[k] else 'math'}-{k + 1:0{width}d}" for k in range(K)),
        groups=GROUPS,
        group_weights=np.array([0.45, 0.55]),
        rate=np.clip(rate, 0.03, 0.95)[..., None],
        loading=np.full((K, 2, 1), 0.8),
        options=np.array([NO_IDENTITY, FREE]),
        lure=np.array([0.0, 0.25]),
        tested=np.array([1, 0]),
        prompt_tokens=np.array([420.0, 110.0]),
        prompt_spread=np.array([0.4, 0.5]),
        prompt_ease=np.full(2, -0.1),
        prompt_length=np.full(2, 0.1),
        label_noise=1.0,
        answer_tokens=tokens * np.exp(0.1 * rng.standard_normal((K, 2))),
        effort=np.array([0.2, 0.3]),
        shared_spread=np.array([0.2, 0.25]),
        own_spread=np.full((K, 2), 0.35),
        price_prompt=price,
        price_answer=price,
        speed=250 * 0.4**size * np.exp(0.1 * rng.standard_normal(K)),
        signal_names=("passed", "log_answer_tokens"),
    )
