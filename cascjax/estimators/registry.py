"""Registry of learned estimators.

To add an estimator to the package:

1. Write one file in this folder that derives a frozen dataclass from `LearnedEstimator` and makes
   an instance of it. The instance states its name, description and limits; its method `fit` turns
   a `TrainingSet` into a `FittedEstimator`, whose weights are a pytree that makes the estimates of
   any queries.
2. Import the instance here, and add it to `ESTIMATORS`.

Nothing else in the package names it. `register` does the same for an estimator outside the package.
"""

from typing import Any

from cascjax.errors import CascjaxError, check_name
from cascjax.estimators.joint_gaussian import JOINT, JOINT_KNN, JOINT_MLP
from cascjax.estimators.learned_model import LearnedModel
from cascjax.estimators.run_set_regression import LINEAR, LOGISTIC
from cascjax.estimators.training import LearnedEstimator, PolicyModel

ESTIMATORS: dict[str, LearnedEstimator] = {
    estimator.name: estimator for estimator in (LOGISTIC, LINEAR, JOINT, JOINT_KNN, JOINT_MLP)
}
"""Every learned estimator by name; the first is the default."""


def learned_estimator(estimator: str | LearnedEstimator) -> LearnedEstimator:
    """Return the estimator of a name; an estimator is returned as it is."""
    if isinstance(estimator, LearnedEstimator):
        return estimator
    check_name("estimator", estimator, ESTIMATORS)
    return ESTIMATORS[estimator]


def register(estimator: LearnedEstimator) -> LearnedEstimator:
    """Make an estimator known by its name, and return it.

    An estimator that is registered again, as by a notebook cell that runs twice, replaces the
    previous one of its class name.

    Args:
        estimator: an instance of a subclass of `LearnedEstimator`.

    Raises:
        CascjaxError: it is none, it has no name, or another estimator has its name.

    Example:
        >>> register(ESTIMATORS["linear"]).name
        'linear'
    """
    if not isinstance(estimator, LearnedEstimator) or not estimator.name:
        raise CascjaxError(
            f"{estimator!r:.80} is no learned estimator; register an instance of a subclass of"
            " LearnedEstimator that has a name"
        )
    taken = ESTIMATORS.get(estimator.name)
    if taken is not None and type(taken).__qualname__ != type(estimator).__qualname__:
        raise CascjaxError(
            f"another estimator is named {estimator.name!r} already; choose another name"
        )
    ESTIMATORS[estimator.name] = estimator
    return estimator


def load_model(content: dict[str, Any]) -> PolicyModel:
    """Return the learned estimates that a policy file keeps."""
    form = content.get("kind", LearnedModel.form)
    models = {kind.model.form: kind.model for kind in ESTIMATORS.values() if kind.model is not None}
    check_name("kind of learned estimates", form, models)
    return models[form].from_json(content)
