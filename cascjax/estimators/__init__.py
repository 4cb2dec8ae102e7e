"""Estimates of quality and cost before and after a model has run."""

from cascjax.core.estimates import (
    Estimates,
    Estimator,
    Grouped,
    Independent,
    Tabulable,
    Tabulated,
)
from cascjax.estimators.base import Scalable
from cascjax.estimators.design import Design, design
from cascjax.estimators.feature_spec import FeatureSpec
from cascjax.estimators.independent import (
    NOISE_LEVELS,
    noise_level,
    noisy,
    supplied,
    truth,
)
from cascjax.estimators.joint import Joint
from cascjax.estimators.joint_model import JointModel
from cascjax.estimators.learned import (
    LearnedEstimates,
    check_keepable,
    check_learning,
    check_quality,
    learned,
)
from cascjax.estimators.learned_model import LearnedModel
from cascjax.estimators.registry import (
    ESTIMATORS,
    learned_estimator,
    load_model,
    register,
)
from cascjax.estimators.run_sets import RunSets
from cascjax.estimators.training import (
    COST_MODELS,
    FittedEstimator,
    LearnedEstimator,
    PolicyModel,
    TrainingSet,
    Weights,
)

__all__ = [
    "COST_MODELS",
    "ESTIMATORS",
    "NOISE_LEVELS",
    "Design",
    "Estimates",
    "Estimator",
    "FeatureSpec",
    "FittedEstimator",
    "Grouped",
    "Independent",
    "Joint",
    "JointModel",
    "LearnedEstimates",
    "LearnedEstimator",
    "LearnedModel",
    "PolicyModel",
    "RunSets",
    "Scalable",
    "Tabulable",
    "Tabulated",
    "TrainingSet",
    "Weights",
    "check_keepable",
    "check_learning",
    "check_quality",
    "design",
    "learned",
    "learned_estimator",
    "load_model",
    "noise_level",
    "noisy",
    "register",
    "supplied",
    "truth",
]
