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

__all__ = [
    "NOISE_LEVELS",
    "Estimates",
    "Estimator",
    "Independent",
    "noise_level",
    "noisy",
    "supplied",
    "truth",
]
