"""What is believed before and after a model runs."""

from cascjax.estimators.base import Estimates, Estimator, check_kind
from cascjax.estimators.design import Design, design
from cascjax.estimators.feature_spec import FeatureSpec
from cascjax.estimators.independent import (
    NOISE_LEVELS,
    Independent,
    noise_level,
    noisy,
    supplied,
    truth,
)
from cascjax.estimators.joint import Joint
from cascjax.estimators.joint_model import JointModel
from cascjax.estimators.learned import COST_MODELS, LEARNERS, Learned, learned
from cascjax.estimators.learned_model import LearnedModel
from cascjax.estimators.run_sets import Grouped, RunSets, Tabulable, Tabulated

__all__ = [
    "COST_MODELS",
    "LEARNERS",
    "NOISE_LEVELS",
    "Design",
    "Estimates",
    "Estimator",
    "FeatureSpec",
    "Grouped",
    "Independent",
    "Joint",
    "JointModel",
    "Learned",
    "LearnedModel",
    "RunSets",
    "Tabulable",
    "Tabulated",
    "check_kind",
    "design",
    "learned",
    "noise_level",
    "noisy",
    "supplied",
    "truth",
]
