"""Estimators "joint", "joint-knn" and "joint-mlp": signals and qualities as one normal.

They take any number of models, see `cascjax.estimators.joint`. Costs are estimated from features
alone.
"""

from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int

from cascjax.estimators.design import Design
from cascjax.estimators.feature_spec import FeatureSpec
from cascjax.estimators.joint import MAX_TABULATED_OF, Joint, JointFit, fit_joint
from cascjax.estimators.joint_model import JOINT as FORM
from cascjax.estimators.joint_model import JointModel
from cascjax.estimators.predictors import PREDICTORS
from cascjax.estimators.run_sets import RunSets
from cascjax.estimators.training import (
    FittedEstimator,
    LearnedEstimator,
    TrainingSet,
    explained_variance,
)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class JointWeights:
    """A fitted joint normal.

    Attributes:
        fit: predictors and covariances.
        table: the gains of all run sets, without queries; None for more than `MAX_TABULATED_OF`
            models. Simulations are fastest with a table.
    """

    fit: JointFit
    table: RunSets | None

    def estimator(
        self,
        design: Design,
        cost_run: Float[np.ndarray, "N K"],
        fold: Int[np.ndarray, " N"] | None = None,
    ) -> RunSets | Joint:
        """Return the estimates of the queries of a design, see `Weights.estimator`."""
        joint = self.fit.estimator(design, cost_run, fold)
        if self.table is None:
            return joint
        return replace(self.table, seen=joint.seen, fold=joint.fold, cost_run=joint.cost_run)

    def model(self, feature_spec: FeatureSpec, sigma_scale: float) -> JointModel:
        """Return the normal fitted on all rows, for a policy."""
        return JointModel.of(self.fit, feature_spec, sigma_scale)


@dataclass(frozen=True)
class JointGaussian(LearnedEstimator):
    """Estimator that conditions a joint normal on the signals of what has run.

    Attributes:
        predictor: name of the predictor of what features tell, see `PREDICTORS`.
    """

    predictor: str = "ridge"

    def fit(self, training: TrainingSet) -> FittedEstimator:
        """Return the fitted normal."""
        rows, fold = training.folds.fit_rows, training.folds.fold
        fitted = fit_joint(
            training.design, training.quality, training.cost, fold, jax.random.key(training.seed),
            n_folds=training.folds.n_folds, predictor=PREDICTORS[self.predictor],
        )  # fmt: skip
        joint = fitted.estimator(training.design, training.cost_run, fold)
        quality, cost = (x[rows].astype(np.float64) for x in (training.quality, training.cost))
        before = joint.take(rows)
        after = jax.jit(lambda joint, run: joint(run))(before, np.ones(quality.shape, bool))

        def explained(
            estimate: Float[np.ndarray, "n K"], true: Float[np.ndarray, "n K"]
        ) -> Float[np.ndarray, " K"]:
            return explained_variance(np.square(estimate - true).mean(0), true.var(0))

        notes = [shrinkage_note(float(fitted.normal.shrinkage[-1]))]
        table = None
        if len(training.models) <= MAX_TABULATED_OF:
            table = joint.take(np.zeros(0, np.int64)).to_run_sets()
        else:
            notes.append(
                f"with more than {MAX_TABULATED_OF} models the estimated sigmas are used as they"
                " are: no sigma_scale is searched, though one may be given"
            )
        return FittedEstimator(
            weights=JointWeights(fitted, table),
            cost_model="features",
            notes=tuple(notes),
            explained=explained(np.asarray(before.quality), quality),
            explained_run=explained(np.asarray(after.quality), quality),
            cost_explained=explained(np.asarray(before.cost), cost),
        )

    def load(self, content: dict[str, Any]) -> JointModel:
        """Return the normal that a policy file keeps."""
        return JointModel.from_json(content)


def shrinkage_note(share: float) -> str:
    """Return a note on how far correlations are shrunk, and what shrinking them to 0 means."""
    note = f"correlations of signals and qualities are shrunk by {share:.0%}"
    if share < 0.995:
        return note
    return f"{note}: models are taken as independent, as held-out rows showed no correlation"


JOINT = JointGaussian(
    name="joint",
    description="joint normal of signals and qualities around ridge regressions on features",
    cost_models=("features",),
    form=FORM,
)

JOINT_KNN = JointGaussian(
    name="joint-knn",
    description="joint normal around nearest neighbours; not for policies, as it holds its rows",
    cost_models=("features",),
    predictor="knn",
)

JOINT_MLP = JointGaussian(
    name="joint-mlp",
    description="joint normal around small neural networks",
    cost_models=("features",),
    form=FORM,
    predictor="mlp",
)
