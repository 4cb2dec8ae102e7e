"""What the paper printed: choices of models, AUCs and times (arXiv 2410.10347)."""

MODELS = (
    "WizardLM/WizardLM-13B-V1.2",
    "claude-instant-v1",
    "claude-v1",
    "claude-v2",
    "gpt-3.5-turbo-1106",
    "gpt-4-1106-preview",
    "meta/code-llama-instruct-34b-chat",
    "meta/llama-2-70b-chat",
    "mistralai/mistral-7b-chat",
    "mistralai/mixtral-8x7b-chat",
    "zero-one-ai/Yi-34B-Chat",
)
"""RouterBench's models in the order of its files, in which the paper counts them."""

CHOICES = {3: (9, 4, 5), 5: (0, 9, 4, 3, 5), 11: tuple(range(11))}
"""The paper's choices of 3, 5 and 11 of them."""

LEVELS = ("low", "medium", "high")
"""Noise levels, see `cascjax.estimators.NOISE_LEVELS`."""

COLUMNS = tuple((k, level) for k in CHOICES for level in LEVELS)
"""The columns of tables 1 and 4: models and noise."""

QUERIES = 36_497
"""Rows of RouterBench's zero-shot table, which the printed numbers are of."""

GOALS = f"Goals are for {QUERIES:,} queries on two free cores."
"""What the seconds aimed at are of."""

_AREAS = {
    "mixing": (69.62, 69.62, 69.62, 69.22, 69.22, 69.22, 70.51, 70.51, 70.51),
    "routing": (79.73, 74.97, 71.81, 81.24, 74.43, 71.33, 83.25, 74.63, 72.67),
    "thresholding": (80.86, 74.64, 72.48, 82.33, 73.03, 69.53, 84.48, 73.64, 69.79),
    "cascading": (81.09, 76.16, 72.67, 83.06, 75.17, 70.18, 84.47, 75.10, 70.26),
    "cascade-routing": (82.36, 76.55, 73.22, 84.33, 76.31, 72.75, 87.24, 77.57, 74.40),
}

AREAS = {
    (strategy, *column): auc
    for strategy, aucs in _AREAS.items()
    for column, auc in zip(COLUMNS, aucs, strict=True)
}
"""AUC in percent by strategy, number of models and noise; zero-shot, `mixing` is their linear
interpolation and `thresholding` their baseline cascade."""

STRATEGIES = tuple(_AREAS)
"""The strategies that the paper has AUCs of."""

_ABLATION = {
    "cascade-routing": ((87.29, 15.3), (77.61, 9.5), (74.41, 13.7)),
    "slow": ((87.30, 78.9), (77.61, 87.7), (74.40, 88.8)),
    "greedy": ((85.93, 1.39), (77.17, 1.17), (74.35, 0.89)),
    "no-uncertainty": ((85.98, 4.78), (77.11, 2.49), (74.35, 2.08)),
}

ABLATION = {
    (variant, level): found
    for variant, row in _ABLATION.items()
    for level, found in zip(LEVELS, row, strict=True)
}
"""AUC in percent and mean milliseconds of a decision, by variant of cascade routing and noise.

Of 11 models, one price for all steps, and a program that runs no model cheaper than the last.
"""

CAVEAT = (
    "The published numbers were made on RouterBench's full zero-shot table, by an implementation"
    " whose E[max] of independent estimates multiplies its samples by the variance where the"
    " standard deviation belongs. On another table, such as a sample or a synthetic twin, what"
    " should come back is the order of the strategies and the signs of their differences, not"
    " the AUCs."
)
"""What stands beside every published number."""
