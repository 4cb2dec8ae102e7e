"""Estimates of quality and cost before and after a model has run."""

from cascjax.core.estimates import Estimates, Estimator, Independent
from cascjax.estimators.base import Scalable
from cascjax.estimators.design import Design, design
from cascjax.estimators.feature_spec import FeatureSpec
from cascjax.estimators.independent import NOISE_LEVELS, noisy, supplied, truth
from cascjax.estimators.learned import learned
from cascjax.estimators.registry import ESTIMATORS, register
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
    "Independent",
    "LearnedEstimator",
    "PolicyModel",
    "RunSets",
    "Scalable",
    "TrainingSet",
    "Weights",
    "design",
    "learned",
    "noisy",
    "register",
    "supplied",
    "truth",
]
