"""What is believed before and after a model runs."""

from cascjax.estimators.base import Estimates, Estimator
from cascjax.estimators.independent import (
    NOISE_LEVELS,
    Independent,
    noise_level,
    noisy,
    supplied,
    truth,
)
from cascjax.estimators.run_sets import Grouped, RunSets, Tabulable, Tabulated

__all__ = [
    "NOISE_LEVELS",
    "Estimates",
    "Estimator",
    "Grouped",
    "Independent",
    "RunSets",
    "Tabulable",
    "Tabulated",
    "noise_level",
    "noisy",
    "supplied",
    "truth",
]
