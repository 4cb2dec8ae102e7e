"""Kinds of datasets that resemble settings of the paper (Dekoninck et al. 2025, section 5.2)."""

from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr, ndtri

from cascjax.synthetic.answers import FREE, NO_IDENTITY, AnswerDataset
from cascjax.synthetic.base import model_names, sizes

N_REPOSITORIES = 12  # Repositories of swebench; a third of the issues come from the first

_BY_MODEL = (
    *("rate", "loading", "refusal", "certainty_noise", "answer_tokens", "own_spread"),
    *("price_prompt", "price_answer", "speed"),
)


def build(models: tuple[str, ...], groups: tuple[str, ...], **fields: Any) -> AnswerDataset:
    """Return a dataset whose models rise in mean cost; fields that are left out have no effect."""
    K, G = len(models), len(groups)
    values: dict[str, Any] = {
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
        "supplied": True,
        "groups": groups,
    } | fields
    order = np.argsort(AnswerDataset(models=models, **values).mean_cost, kind="stable")
    values |= {name: values[name][order] for name in _BY_MODEL}
    return AnswerDataset(models=tuple(models[i] for i in order), **values)


def _shifted(
    base: Float[np.ndarray, " K"], shift: Float[np.ndarray, "K G"]
) -> Float[np.ndarray, "K G 1"]:
    """Return rates by model and group: the rate of the model, its threshold shifted by group."""
    return ndtr(ndtri(base)[:, None] + shift)[..., None]


def swebench(n_models: int = 10, seed: int = 0) -> AnswerDataset:
    """Draw agents that fix issues of repositories, as in SWE-bench.

    Base rates are low, costs vary much by query, and tests tell after a run whether it was right.
    The repository and the length of the issue, which are known before, tell little: routing gains
    next to nothing, and a cascade knows when to stop. Arguments as `make_dataset`.
    """
    (K, rng), G = sizes(n_models, seed), N_REPOSITORIES
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
        rate=_shifted(np.clip(base, 0.08, 0.6), by_repository),
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


def code_math(n_models: int = 4, seed: int = 0) -> AnswerDataset:
    """Draw models for code and models for mathematics in turn, in rising sizes.

    Group, length and a label of difficulty are known before a run; afterwards the length of the
    answer, for code whether tests pass, and for mathematics the answer itself, which agrees with
    the answers of other models or not. Arguments as `make_dataset`.
    """
    K, rng = sizes(n_models, seed)
    size = np.repeat(np.linspace(0, 1, -(-K // 2)), 2)[:K]
    codes = np.arange(K) % 2 == 1
    code = np.where(codes, 0.22 + 0.24 * size, 0.08 + 0.12 * size)
    mathematics = np.where(codes, 0.42 + 0.22 * size, 0.58 + 0.24 * size)
    rate = np.stack([code, mathematics], axis=1) + 0.015 * rng.standard_normal((K, 2))
    tokens = np.stack([np.full(K, 450.0), np.where(codes, 420.0, 600.0)], axis=1)
    price = 1e-7 * 5**size * np.exp(0.05 * rng.standard_normal(K))
    names = zip(codes, model_names(K, ""), strict=True)
    return build(
        kind="code-math",
        models=tuple(f"{'code' if is_code else 'math'}{name}" for is_code, name in names),
        groups=("code", "math"),
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


def classification(n_models: int = 3, seed: int = 0) -> AnswerDataset:
    """Draw models that name one of four classes, some of them overconfident.

    An answer is one token, so cost is linear in the length of the prompt and known before a run.
    Afterwards the class is known, and of the class distribution the highest probability, the
    entropy in nats, and the margin between the two most likely classes. Arguments as
    `make_dataset`.
    """
    (K, rng), G = sizes(n_models, seed), 3
    rank = np.linspace(0, 1, K)
    base = 0.62 + 0.24 * rank + 0.02 * rng.standard_normal(K)
    by_group = np.array([0.0, 0.4, -0.1]) + 0.08 * rng.standard_normal((K, G))
    price = 1.5e-7 * 25**rank * np.exp(0.2 * rng.standard_normal(K))
    return build(
        kind="classification",
        models=model_names(K),
        groups=("mmlu", "arc", "mixeval"),
        group_weights=np.array([0.5, 0.2, 0.3]),
        rate=_shifted(np.clip(base, 0.3, 0.95), by_group),
        loading=np.full((K, G, 1), 0.85),
        certainty_noise=1.6 - 0.4 * rank,
        options=np.full(G, 4),
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


def open_form(n_models: int = 3, seed: int = 0) -> AnswerDataset:
    """Draw models that reason before they answer, at lengths that are correlated.

    Cost is linear in prompt and answer, so the length of one answer tells about the cost of the
    next. After a run the mean and least log-probability of the tokens (in nats) are known, their
    number, and the answer, if the text has one. Arguments as `make_dataset`.
    """
    (K, rng), G = sizes(n_models, seed), 2
    rank = np.linspace(0, 1, K)
    base = 0.62 + 0.24 * rank + 0.02 * rng.standard_normal(K)
    by_group = np.array([-0.1, 0.3]) + 0.1 * rng.standard_normal((K, G))
    tokens = np.array([180.0, 150.0]) * np.exp(0.15 * rng.standard_normal((K, G)))
    price = 1.5e-7 * 25**rank * np.exp(0.2 * rng.standard_normal(K))
    return build(
        kind="open-form",
        models=model_names(K),
        groups=("mmlu", "gsm8k"),
        group_weights=np.array([0.6, 0.4]),
        rate=_shifted(np.clip(base, 0.3, 0.95), by_group),
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
