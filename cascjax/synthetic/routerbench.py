"""A dataset that resembles RouterBench: eleven models on its zero-shot table.

Measured on 3,150 queries of the zero-shot table of Hu et al. (arXiv 2403.12031, 2024), in
arc-challenge, winogrande and mbpp:

- how often each model is right when it answers; in winogrande by the place of the right option,
  because some models name the first or second whatever the question;
- how often claude-v2 declines to answer;
- tetrachoric correlations of right answers, per group, corrected for place and refusals; the two
  loadings per model are their rank-two fit (root mean square error 0.03, and 0.06 for winogrande);
- prices, and lengths of prompts and answers in tokens. The first two groups ask for a letter.

Published by others for the whole table of 36,497 queries:

- mean score and mean cost of each model, and its mean score in grade-school-math, where a wrong
  answer scores 0.25 and a right one 0.75 (a sixth score 0.5, which are one or the other here);
- lengths of responses, from which those in grade-school-math follow;
- for how many queries each model is the cheapest that is right.

The queries outside the four named groups are one group here, "multiple-choice": MMLU, HellaSwag and
1,799 queries of small benchmarks. Its rates complete the published means, and a single length of
prompt gives the costs of all models to 5%. Correlations there and in grade-school-math are not
published: loadings are those of arc-challenge and mbpp, shrunk until the cheapest right models are
as published (cumulative shares to 0.02, root mean square). Their wrong answers are unknown: the
last two groups have no answers.
"""

import numpy as np
from scipy.special import ndtr, ndtri

from cascjax.synthetic.answers import NO_IDENTITY, AnswerDataset
from cascjax.synthetic.base import sizes
from cascjax.synthetic.kinds import build

GROUPS = ("arc-challenge", "winogrande", "mbpp", "grade-school-math", "multiple-choice")
"""The first three are measured; the others follow from what is published."""

MODELS = (
    "mistralai/mistral-7b-chat",
    "WizardLM/WizardLM-13B-V1.2",
    "mistralai/mixtral-8x7b-chat",
    "meta/code-llama-instruct-34b-chat",
    "zero-one-ai/Yi-34B-Chat",
    "meta/llama-2-70b-chat",
    "claude-instant-v1",
    "gpt-3.5-turbo-1106",
    "claude-v1",
    "claude-v2",
    "gpt-4-1106-preview",
)

PAPER_CHOICES = {3: (2, 7, 10), 5: (1, 2, 7, 9, 10), 11: tuple(range(11))}
"""Models of the paper's experiments with 3, 5 and 11 models, as places in `MODELS`."""

_QUERIES = np.array([1470, 1267, 427, 7450, 25883])
_PRICE_PROMPT = 1e-6 * np.array([0.2, 0.3, 0.6, 0.776, 0.8, 0.9, 0.8, 1.0, 8.0, 8.0, 10.0])
_PRICE_ANSWER = 1e-6 * np.array([0.2, 0.3, 0.6, 0.776, 0.8, 0.9, 2.4, 2.0, 24.0, 24.0, 30.0])
_REFUSAL = 9, (0.372, 0.414, 0.0, 0.0, 0.0)  # claude-v2, by group; unknown in the last two

# By model, as in MODELS. Winogrande: the right option is the first, or the second.
_ARC = [0.671, 0.658, 0.854, 0.663, 0.903, 0.803, 0.829, 0.834, 0.909, 0.938, 0.954]
_WINOGRANDE = (
    [0.779, 0.200, 0.705, 0.847, 0.849, 0.041, 0.998, 0.794, 0.169, 0.654, 0.933],
    [0.338, 0.881, 0.677, 0.304, 0.652, 0.997, 0.002, 0.477, 0.982, 0.959, 0.779],
)
_MBPP = [0.344, 0.370, 0.541, 0.518, 0.386, 0.330, 0.604, 0.653, 0.597, 0.642, 0.686]
_MATH = [0.323, 0.513, 0.538, 0.413, 0.596, 0.546, 0.754, 0.710, 0.802, 0.825, 0.818]
_CHOICE = [0.242, 0.392, 0.531, 0.079, 0.661, 0.236, 0.582, 0.610, 0.612, 0.639, 0.805]
_MATH_SCORES = 0.25, 0.75  # of a wrong and a right answer; elsewhere 0 and 1

_LOADING = (
    (
        [0.714, 0.711, 0.868, 0.709, 0.861, 0.866, 0.790, 0.866, 0.901, 0.858, 0.843],
        [0.300, 0.414, -0.017, 0.500, -0.174, 0.095, -0.090, -0.053, -0.163, -0.291, -0.317],
    ),
    (
        [0.601, 0.492, 0.589, 0.576, 0.754, 0.872, 0.916, 0.634, 0.543, 0.828, 0.753],
        [0.298, 0.243, -0.213, 0.303, -0.001, 0.370, 0.076, 0.174, -0.242, -0.463, -0.445],
    ),
    (
        [0.823, 0.802, 0.785, 0.780, 0.814, 0.777, 0.835, 0.834, 0.856, 0.868, 0.791],
        [0.173, 0.285, -0.071, 0.168, 0.115, 0.214, -0.022, -0.245, -0.081, -0.053, -0.464],
    ),
)

_SHRUNK = 0.8, 0.83  # of the loadings of mbpp for mathematics, of arc-challenge for the rest

_ANSWER_TOKENS = np.array([219, 247, 267, 178, 263, 307, 193, 156, 170, 235, 305], float)
_ANSWER_SPREAD = np.array([0.40, 0.36, 0.44, 0.40, 0.51, 0.36, 0.34, 0.41, 0.48, 0.18, 0.38])
_MATH_TOKENS = np.array([155, 225, 142, 134, 178, 148, 119, 97, 83, 134, 181], float)
_SHARED_SPREAD, _EFFORT = 0.21, 0.13  # of code, together a covariance of 0.064


def routerbench(n_models: int = 11, seed: int = 0) -> AnswerDataset:
    """Draw the dataset that resembles RouterBench, its models by their names.

    It has no supplied estimates: the paper's are the truth with noise. A query shows its group and
    length, and a model its answer and the length of the answer.

    Args:
      n_models: Number of models K, at least 2. 3, 5 and 11 are the paper's choices; below 11,
        models of evenly spaced price; above 11, models are added that resemble these.
      seed: Seed of the added models.
    """
    (K, rng), known = sizes(n_models, seed), len(MODELS)
    if K in PAPER_CHOICES:
        chosen = np.array(PAPER_CHOICES[K])
    elif known > K:
        chosen = np.linspace(0, known - 1, K).round().astype(int)
    else:
        chosen = np.arange(K) % known
    # An added model resembles one of RouterBench, somewhat better or worse, cheaper or not.
    added = (np.arange(K) >= known)[:, None]
    shift = np.where(added, 0.25 * rng.standard_normal((K, len(GROUPS))), 0)
    factor = np.where(added[:, 0], np.exp(0.3 * rng.standard_normal(K)), 1)
    by_place = [np.stack([_ARC, right, _MBPP, _MATH, _CHOICE], axis=1) for right in _WINOGRANDE]
    rate = np.stack(by_place, axis=-1)
    rate = np.clip(ndtr(ndtri(rate[chosen]) + shift[..., None]), 0.002, 0.998)
    refusal = np.zeros((known, len(GROUPS)))
    refusal[_REFUSAL[0]] = _REFUSAL[1]
    common = np.sqrt(_SHARED_SPREAD**2 + _EFFORT**2)
    own = np.maximum(np.sqrt(np.maximum(_ANSWER_SPREAD**2 - common**2, 0)), 0.1)
    one, none = np.ones(known), np.zeros(known)
    loading = np.array(_LOADING)
    loading = np.concatenate([loading, [_SHRUNK[0] * loading[2], _SHRUNK[1] * loading[0]]])
    scores = np.tile([0.0, 1.0], (len(GROUPS), 1))
    scores[3] = _MATH_SCORES
    tokens = np.stack([one, one, _ANSWER_TOKENS, _MATH_TOKENS, one], axis=1)
    return build(
        kind="routerbench",
        models=tuple(MODELS[m] + f"-{i // known + 1}" * (i >= known) for i, m in enumerate(chosen)),
        groups=GROUPS,
        group_weights=_QUERIES / _QUERIES.sum(),
        rate=rate,
        loading=loading.transpose(2, 0, 1)[chosen],
        refusal=refusal[chosen],
        scores=scores,
        options=np.array([4, 2, NO_IDENTITY, NO_IDENTITY, NO_IDENTITY]),
        lure=np.array([0.73, 1.0, 0.0, 0.0, 0.0]),
        prompt_tokens=np.array([501.0, 351.0, 23.3, 320.0, 142.0]),
        prompt_spread=np.array([0.046, 0.011, 0.35, 0.2, 0.5]),
        prompt_ease=np.array([0.0, 0.0, -0.13, -0.13, 0.0]),
        prompt_length=np.array([0.0, 0.0, 0.33, 0.33, 0.0]),
        answer_tokens=tokens[chosen],
        effort=np.array([0.0, 0.0, _EFFORT, _EFFORT, 0.0]),
        shared_spread=np.array([0.0, 0.0, _SHARED_SPREAD, _SHARED_SPREAD, 0.0]),
        own_spread=np.stack([none, none, own, own, none], axis=1)[chosen],
        price_prompt=_PRICE_PROMPT[chosen] * factor,
        price_answer=_PRICE_ANSWER[chosen] * factor,
        speed=np.full(K, 60.0),
        signal_names=("log_answer_tokens",),
        supplied=False,
    )
