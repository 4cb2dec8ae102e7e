"""Estimators "joint", "joint-knn" and "joint-mlp": signals and qualities as one normal.

They take any number of models, see `cascjax.estimators.joint`. Costs are estimated from features
alone.
"""

from dataclasses import dataclass, field

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from cascjax.data.table import mean_rows
from cascjax.errors import CascjaxError
from cascjax.estimators.design import Design
from cascjax.estimators.joint import JITTER, MAX_TABULATED
from cascjax.estimators.joint_model import JointModel, predict_by_fold, split_columns
from cascjax.estimators.predictors import Neighbours, Network, Predictor, Ridge
from cascjax.estimators.training import (
    FittedEstimator,
    LearnedEstimator,
    TrainingSet,
)

_SHARES = (0.0, *np.geomspace(0.005, 1.0, 16).round(4))
"""Shares of shrinkage that held-out rows choose among."""

_SINGLE_FACTORS = (1.0, 8.0, 64.0)
"""How much more than agreements the signals of single models may be shrunk, as there are many of
them, often about the text alone. Held-out rows choose."""


_MIN_SPREAD = 0.03
"""Smallest error of a signal, relative to its standard deviation of 1. If features determine a
signal exactly on rows fitted on, an exception elsewhere would else be thousands of errors away."""

_MIN_COST = 0.01  # Share of a model's mean cost below which no cost is expected, as lines cross 0


def fit_joint(
    design: Design,
    quality: Float[np.ndarray, "N K"],
    cost: Float[np.ndarray, "N K"],
    fold: Int[np.ndarray, " N"],
    key: Array,
    *,
    n_folds: int,
    predictor: Predictor | None = None,
) -> tuple[JointModel, float]:
    """Return means and covariances, those of each fold without its rows, and the shrinkage.

    The shrinkage is the share by which the correlations of all rows were shrunk, from 0 to 1.

    A fold's covariance is that of the errors of the other folds' predictions on their own rows.
    These predictions were fitted on the fold's rows too, but a row moves a prediction by 1 / n, so
    that no skill is found in noise.
    """
    rows = np.flatnonzero(fold < n_folds)
    if n_folds < 2 or len(np.unique(fold[rows])) < n_folds:
        raise CascjaxError(
            "a joint fit needs at least two folds of rows, none of them empty; bring more rows to"
            " fit on, or use fewer folds"
        )
    predictor = Ridge() if predictor is None else predictor
    features, signals = split_columns(design.seen, design.feature_spec)
    m, k = signals.shape[1], quality.shape[1]
    heads = np.concatenate([signals, quality, cost], axis=1).astype(np.float32)
    parts = [*(rows[fold[rows] != f] for f in range(n_folds)), rows]
    predictions = tuple(
        predictor.fit(features[part], heads[part], part_key)
        for part, part_key in zip(parts, jax.random.split(key, len(parts)), strict=True)
    )
    error = heads[rows] - predict_by_fold(predictions, features[rows], fold[rows])
    error = error[:, : m + k].astype(np.float64)
    needs = design.needs[design.needs.any(1)]
    fits = [_normal(error[fold[rows] != f], needs.sum(1) == 1) for f in range(n_folds + 1)]
    spread, covariance = (np.stack(x).astype(np.float32) for x in list(zip(*fits, strict=True))[:2])
    least_cost = (_MIN_COST * mean_rows(cost, rows)).astype(np.float32)
    model = JointModel(predictions, spread, covariance, least_cost, 1.0, design.feature_spec)
    return model, fits[-1][2]


def _normal(
    error: Float[np.ndarray, "n P"], single: Bool[np.ndarray, " M"]
) -> tuple[Float[np.ndarray, " M"], Float[np.ndarray, "P P"], float]:
    """Return spread, covariance and shrinkage of the errors of M signals, then the qualities."""
    m = len(single)
    spread = np.sqrt(np.square(error).mean(0))
    least = np.where(np.arange(error.shape[1]) < m, _MIN_SPREAD, 0)
    divisor = np.where(spread > 0, np.maximum(spread, least), 1)
    standard = error / divisor
    share, factor = shrinkage(standard, single)
    target = np.ones(error.shape[1])
    target[:m][single] = factor
    correlation = (1 - share) * (standard.T @ standard) / max(len(standard), 1)
    # Shrinking a signal equals adding noise to it, so the result is still a normal. So is a signal
    # whose error is below the smallest, filled up to a variance of 1.
    correlation += np.diag(share * target + 1 - np.square(standard).mean(0))
    unit = np.concatenate([np.ones(m), spread[m:]])
    return divisor[:m], correlation * unit * unit[:, None], share


def shrinkage(
    standard: Float[np.ndarray, "n P"], single: Bool[np.ndarray, " M"], folds: int = 5
) -> tuple[float, float]:
    """Return the share and single-model factor of shrinkage with the least held-out error."""
    n, m = len(standard), len(single)
    if m == 0 or n < 2 * folds:
        return 1.0, 1.0
    held, shares = np.arange(n) % folds, np.array(_SHARES)[:, None]
    # If all signals are of one kind, more for that kind is just another share.
    factors = _SINGLE_FACTORS if single.any() and not single.all() else (1.0,)
    errors = np.zeros((len(factors), len(_SHARES)))
    for f in range(folds):
        products = standard[held != f].T @ standard[held != f] / np.count_nonzero(held != f)
        test = standard[held == f]
        for i, factor in enumerate(factors):
            # In units in which all signals are shrunk alike, and in the basis of the axes of their
            # covariance, each share is a division.
            unit = np.where(single, factor**-0.5, 1)
            squares, axes = np.linalg.eigh(products[:m, :m] * unit * unit[:, None])
            along = test[:, :m] * unit @ axes
            slopes = axes.T @ (unit[:, None] * products[:m, m:])
            gains = (1 - shares) / ((1 - shares) * squares.clip(0) + shares + JITTER)
            for j, gain in enumerate(gains):
                errors[i, j] += np.square(test[:, m:] - along @ (gain[:, None] * slopes)).sum()
    i, j = np.unravel_index(int(np.argmin(errors)), errors.shape)
    return float(_SHARES[j]), float(factors[i])


@dataclass(frozen=True)
class JointGaussian(LearnedEstimator):
    """Estimator that conditions a joint normal on the signals of what has run."""

    predictor: Predictor = field(default_factory=Ridge)  # of signals, qualities and costs

    def fit(self, training: TrainingSet) -> FittedEstimator:
        """Return the fitted normal."""
        fitted, share = fit_joint(
            training.design, training.quality, training.cost, training.folds.fold,
            jax.random.key(training.seed), n_folds=training.folds.n_folds, predictor=self.predictor,
        )  # fmt: skip
        notes = [f"correlations of signals and qualities are shrunk by {share:.0%}"]
        if share >= 0.995:
            notes[0] += ": models are taken as independent, as held-out rows showed no correlation"
        if len(training.models) > MAX_TABULATED:
            notes.append(
                f"with more than {MAX_TABULATED} models the estimated sigmas are used as they are:"
                " no sigma_scale is searched, though one may be given"
            )
        return FittedEstimator(fitted, cost_model="features", notes=tuple(notes))


JOINT = JointGaussian(
    name="joint",
    description="joint normal of signals and qualities around ridge regressions on features",
    cost_models=("features",),
    model=JointModel,
)

JOINT_KNN = JointGaussian(
    name="joint-knn",
    description="joint normal around nearest neighbours; not for policies, as it holds its rows",
    cost_models=("features",),
    predictor=Neighbours(),
)

JOINT_MLP = JointGaussian(
    name="joint-mlp",
    description="joint normal around small neural networks",
    cost_models=("features",),
    model=JointModel,
    predictor=Network(),
)
