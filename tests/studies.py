"""Studies of random but well-formed frontiers, for tests of what is made of a study."""

from dataclasses import replace

import numpy as np

from cascjax.comparison import Frontier, Study
from cascjax.evaluation import Evaluation, Mean, Part

PLAIN = ("mixing", "routing", "thresholding", "cascading")
STRATEGIES = (*PLAIN, "cascade-routing", "pandora", "oracle", "some-new-one")
ONE_MODEL = ("mixing", "routing", "oracle")
HOSTILE = (
    "<script>alert(1)</script>",
    "a$x^2$ & \"quoted\" 'names'",
    "模型 😀 [bold]x[/bold] {{ 7 * 7 }}",
    "esc\x1b[31m nul\x00 line\nfeed ]]> <!--",
    "-->" + "very-long/" * 20 + "end",
)
ROUTERBENCH = {  # mean quality and cost of the 11 models of Hu et al. (2024), on a sample
    "mistralai/mistral-7b-chat": (0.584, 0.0000819),
    "WizardLM/WizardLM-13B-V1.2": (0.568, 0.000124),
    "mistralai/mixtral-8x7b-chat": (0.742, 0.000249),
    "meta/code-llama-instruct-34b-chat": (0.611, 0.000313),
    "zero-one-ai/Yi-34B-Chat": (0.774, 0.000331),
    "claude-instant-v1": (0.674, 0.000367),
    "meta/llama-2-70b-chat": (0.619, 0.000379),
    "gpt-3.5-turbo-1106": (0.732, 0.000422),
    "claude-v1": (0.728, 0.0036),
    "claude-v2": (0.551, 0.00381),
    "gpt-4-1106-preview": (0.880, 0.00504),
}


def make_study(names: tuple[str, ...], points: int = 12, seed: int = 0) -> Study:
    """A study of random but well-formed frontiers; RouterBench's models keep their own means."""
    rng, K = np.random.default_rng(seed), len(names)
    if set(names) <= set(ROUTERBENCH):
        quality, cost = np.array([ROUTERBENCH[name] for name in names]).T
    else:
        quality, cost = np.sort(rng.random(K)), np.linspace(0.5, 2.5, K)
    budget = np.linspace(cost[0], cost[-1], points)

    def shares(rows: int) -> np.ndarray:
        return rng.dirichlet(np.full(K, 0.4), rows)

    frontiers = []
    for i, name in enumerate(STRATEGIES):
        single, depth, ran = name in ONE_MODEL, shares(points), shares(points)
        numbers = {
            "cost": budget * (1 + 0.01 * rng.random(points)),
            "quality": np.sort(rng.random(points)),
            "fit_cost": budget,
            "fit_quality": np.sort(rng.random(points)),
            "gamma": rng.random(points),
            "parameters": rng.random((points, 2)),
            "reach": np.zeros(points, int),
            "ran": ran,
            "answered": ran if single else shares(points),
            "depth": np.eye(K)[np.zeros(points, int)] if single else depth,
        }
        ends = {"reachable": (float(cost[0]), float(cost[-1])), "auc": 0.5 + 0.0123 * i}
        frontiers.append(Frontier(name, budget, **numbers, **ends, seconds=0.5 + i))
    settings = {"estimates": "noisy", "seed": 7}
    return Study(tuple(frontiers), names, "USD", cost, quality, 1000, 2345, settings)


def with_intervals(study: Study) -> Study:
    """The same with intervals of 0.01 to either side; differences of 0.03 and less are noise."""
    side = np.array([-0.01, 0.01])
    auc = np.array([f.auc for f in study.frontiers])
    difference = auc[:, None] - auc
    frontiers = [
        replace(
            f,
            cost_interval=f.cost[:, None] * (1 + side),
            quality_interval=f.quality[:, None] + side,
            auc_interval=(f.auc - 0.01, f.auc + 0.01),
        )
        for f in study.frontiers
    ]
    apart = {"difference": difference, "difference_interval": difference[..., None] + 3 * side}
    return replace(study, frontiers=tuple(frontiers), resamples=1000, confidence=0.9, **apart)


def make_evaluation() -> Evaluation:
    """An evaluation of two models on eight queries, of one group."""
    spans = (Mean(0.625, 0.5, 0.75), (Mean(1.5),))
    part, half = Part(8, *spans, "", (1.4,)), np.full(2, 0.5)
    numbers = np.linspace(0, 1, 8)
    return Evaluation(
        "frugal", ("org/small", "org/large"), ("cost",), ("USD",), part, {"": part}, {"g": part},
        half, half, half, np.array([[1.0, 2.0]]), half, 0.5, 0.95, np.arange(8), numbers,
        numbers[None], numbers, np.arange(8) % 2,
    )  # fmt: skip


SETS = {"3": tuple(ROUTERBENCH)[::5], "5": HOSTILE, "11": tuple(ROUTERBENCH)}
