"""Estimators "logistic" and "linear": a regression for every run set and model (paper, section 6).

A regression of a run set sees the columns that the run set shows. The estimate of a model that has
too few good or bad answers to learn from is its mean.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from cascjax.estimators.base import every_run_set, with_ran
from cascjax.estimators.learned_model import LearnedModel
from cascjax.estimators.regression import Blocks, Regressions, fit_linear, fit_logistic, moments
from cascjax.estimators.training import (
    COST_MODELS,
    FittedEstimator,
    LearnedEstimator,
    TrainingSet,
)

MIN_CLASS_COUNT = 10
"""Answers of the rarer kind, good or bad, that a logistic regression of a model needs."""

RIDGES = (1.0, 10.0, 100.0, 1000.0)
"""Ridges tried where none is given; the paper's, which is scikit-learn's default, is 1."""

_COST_GAIN = 0.01
"""Share of cost variance by which a cost model must improve on a simpler one to replace it."""

_MIN_COST = 0.01  # Share of a model's mean cost that its estimates stay above on rows fitted on


@dataclass(frozen=True)
class RunSetRegression(LearnedEstimator):
    """Estimator that fits a ridge or logistic regression for every run set and model."""

    logistic: bool = True

    def fit(self, training: TrainingSet) -> FittedEstimator:
        """Return the weights of all regressions."""
        rows, visible = training.folds.fit_rows, training.design.feature_spec.shown()
        quality = training.quality[rows].astype(np.float64)
        fold, columns, k = training.folds.fold[rows], training.design.seen[rows], quality.shape[1]
        constant = np.ptp(quality, axis=0) == 0
        if self.logistic:
            constant |= _too_few(quality, training.folds.n_folds, fold)
        notes = [_mean_note(training.models[i], quality[:, i]) for i in np.flatnonzero(constant)]
        if not training.cost[rows].any():
            notes.append("every model costs 0 on all rows to fit on: there is no cost to save")
        blocks = Blocks.cut(columns, quality, fold, n_sets=len(visible))
        weights = np.zeros((training.folds.n_folds, len(visible), k, visible.shape[1]))
        weights[:, :, constant, 0] = self._intercepts(training, quality[:, constant])[:, None]
        covariance, error = moments(blocks, weights, logistic=self.logistic)
        chosen, unsettled = None, ""
        if not constant.all():
            varying = blocks
            if constant.any():
                varying = Blocks.cut(columns, quality[:, ~constant], fold, n_sets=len(visible))
            fit = fit_logistic if self.logistic else fit_linear
            for ridge in RIDGES if training.ridge is None else (training.ridge,):
                fitted, trial = fit(varying, visible, ridge=ridge), weights.copy()
                trial[:, :, ~constant] = fitted.weights
                moved, off = moments(blocks, trial, logistic=self.logistic)
                if chosen is not None and not off.mean() < error.mean():
                    break
                covariance, error, chosen, weights = moved, off, ridge, trial
                unsettled = _unsettled(fitted)
            if training.ridge is None:
                notes.append(f"ridge {chosen:g} has the lowest cross-validated error")
            notes += [unsettled] * bool(unsettled)
        cost_weights, cost_model, cost_notes = _fit_costs(training)
        covariance = np.where(with_ran(every_run_set(k)), 0, covariance)
        weights, cost_weights, covariance = (
            x.astype(np.float32) for x in (weights, cost_weights, covariance)
        )
        return FittedEstimator(
            weights=LearnedModel(
                weights, cost_weights, covariance, self.logistic, training.design.feature_spec
            ),
            cost_model=cost_model,
            notes=(*notes, *cost_notes),
            ridge=chosen,
        )

    def _intercepts(
        self, training: TrainingSet, quality: Float[np.ndarray, "n C"]
    ) -> Float[np.ndarray, "F C"]:
        """Return the intercepts of models whose estimate is the mean of each fold's other rows."""
        fold = training.folds.fold[training.folds.fit_rows]
        rest = [quality[fold != f] for f in range(training.folds.n_folds)]
        if not self.logistic:
            return np.stack([part.mean(0) for part in rest])
        # Half an answer of each kind more, so that nothing is certain.
        mean = np.stack([(part.sum(0) + 0.5) / (len(part) + 1) for part in rest])
        return np.log(mean / (1 - mean))


def _unsettled(fitted: Regressions) -> str:
    """Return a note on regressions that did not converge; empty if all did."""
    if not fitted.unfinished:
        return ""
    return (
        f"{fitted.unfinished:,} of {fitted.weights[..., 0].size:,} regressions had not converged"
        f" after {fitted.passes} passes: a coefficient still moved by {fitted.remaining:.1g}"
    )


def _too_few(
    quality: Float[np.ndarray, "n K"], n_folds: int, fold: Int[np.ndarray, " n"]
) -> Bool[np.ndarray, " K"]:
    """Return the models with too few good or bad answers, over all or with a fold left out."""
    good = np.stack([quality[fold != f].sum(0) for f in range(n_folds)])
    count = np.array([[np.count_nonzero(fold != f)] for f in range(n_folds)])
    overall = np.minimum(quality.sum(0), (1 - quality).sum(0))
    return (overall < MIN_CLASS_COUNT) | (np.minimum(good, count - good).min(0) <= 0)


def _mean_note(model: str, quality: Float[np.ndarray, " n"]) -> str:
    """Return the note that a model's estimate is its mean, and why."""
    if np.ptp(quality) == 0:
        return (
            f"{model}: quality is {quality[0]:g} in all {len(quality):,} rows to fit on; that is"
            " its estimate for every query"
        )
    good = quality.sum()
    count, kind = (good, "good") if 2 * good < len(quality) else (len(quality) - good, "bad")
    return (
        f"{model}: {count:.3g} {kind} answers in {len(quality):,} rows to fit on are too few to"
        f" learn from (fewer than {MIN_CLASS_COUNT}); its mean quality, {quality.mean():.3g}, is"
        " its estimate for every query"
    )


def _fit_costs(
    training: TrainingSet,
) -> tuple[Float[np.ndarray, "F #S K D"], str, list[str]]:
    """Return the cost model asked for, or the one with the lowest cross-validated error."""
    rows, k = training.folds.fit_rows, len(training.models)
    visible = training.design.feature_spec.shown()
    cost = training.cost[rows].astype(np.float64)
    # Relative to its mean, so that ridge and float32 act alike on all models.
    mean = cost.mean(0)
    scale = np.where(mean > 0, mean, 1)
    variance = (cost / scale).var(0)
    blocks = Blocks.cut(
        training.design.seen[rows],
        (cost / scale).astype(np.float32),
        training.folds.fold[rows],
        n_sets=len(visible),
    )
    columns = {
        "constant": visible[:1] & (np.arange(visible.shape[1]) == 0),
        "features": visible[:1],
        "seen": visible,
    }
    # Run sets in which a model has not run count alike.
    counts = ~every_run_set(k) / 2 ** (k - 1)
    varies = variance > 1e-12
    fitted: dict[str, np.ndarray] = {}
    best, lowest = "", np.inf
    for name in COST_MODELS if training.cost_model is None else (training.cost_model,):
        weights = _keep_positive(fit_linear(blocks, columns[name]).weights, blocks)
        _, error = moments(blocks, weights, logistic=False)
        fitted[name] = weights
        each = np.sum(error * counts, 0) if len(error) > 1 else error[0]
        share = float(np.mean(each[varies] / variance[varies])) if varies.any() else 0.0
        if share < lowest - (_COST_GAIN if best else 0):
            best, lowest = name, share
    notes = []
    if training.cost_model is None and best != "constant":
        inputs = {"features": "features", "seen": "features and what models that have run showed"}
        notes.append(
            f"costs are estimated from {inputs[best]}, which explains {1 - lowest:.0%} of their"
            " variance"
        )
    return fitted[best] * scale[:, None], best, notes


def _keep_positive(
    weights: Float[np.ndarray, "F S K D"], blocks: Blocks
) -> Float[np.ndarray, "F S K D"]:
    """Return the weights with slopes shrunk until no row fitted on has a cost below 0.

    A regression's line crosses 0 where costs are skewed. All slopes of a model, run set and fold
    are shrunk by one factor towards the mean cost, so that the mean stays as it is.
    """
    lowest, mean = np.full(weights.shape[:3], np.inf), np.zeros(weights.shape[:3])
    for x in blocks.columns:
        x64 = np.asarray(x, np.float64)[:, np.asarray(x[0]) > 0]
        cost = weights @ x64
        lowest = np.minimum(lowest, cost.min(-1))
        mean += cost.sum(-1) / blocks.n_rows
    least = _MIN_COST * mean
    factor = np.where(lowest < least, (mean - least) / np.maximum(mean - lowest, 1e-300), 1)
    centre = sum(np.asarray(x, np.float64).sum(1) for x in blocks.columns) / blocks.n_rows
    shrunk = weights * factor[..., None]
    shrunk[..., 0] = 0
    shrunk[..., 0] = mean - shrunk @ centre
    return shrunk


LOGISTIC = RunSetRegression(
    name="logistic",
    description="logistic regressions, one for each run set and model; quality from 0 to 1",
    max_models=8,
    quality_range=(0.0, 1.0),
    cost_models=COST_MODELS,
    takes_ridge=True,
    model=LearnedModel,
)

LINEAR = RunSetRegression(
    name="linear",
    description="ridge regressions, one for each run set and model",
    max_models=8,
    cost_models=COST_MODELS,
    takes_ridge=True,
    model=LearnedModel,
    logistic=False,
)
