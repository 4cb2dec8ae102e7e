"""Estimates learned from the features, signals and answers of a table, by cross-fitting."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int

from cascjax.core.estimates import Estimator
from cascjax.data.table import Table
from cascjax.errors import CascjaxError, RefusedError, unknown_name
from cascjax.estimators.design import Design, design
from cascjax.estimators.registry import ESTIMATORS, learned_estimator
from cascjax.estimators.training import (
    COST_MODELS,
    FittedEstimator,
    Folds,
    LearnedEstimator,
    PolicyModel,
    TrainingSet,
)

_ALIKE = (
    "nothing is known of a query before a model runs, neither features nor a group: all queries"
    " share the estimates, so that routing does no better than mixing models"
)


@dataclass(frozen=True)
class LearnedEstimates:
    """Learned estimates of a table's queries, and of any others."""

    estimator: Estimator  # out of fold on rows that were fitted on
    design: Design  # the columns they are made of
    kind: LearnedEstimator  # the estimator that was fitted
    fitted: FittedEstimator  # its weights, and facts on the fit
    folds: Folds  # the cross-fitting folds

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out, filled in or replaced by a default, one line each."""
        known = ~self.design.feature_spec.needs.any(1)  # before any model runs; the first is 1
        alike = (_ALIKE,) if known.sum() == 1 else ()
        return (*alike, *self.design.notes, *self.fitted.notes)

    @property
    def model(self) -> PolicyModel:
        """The weights, for a policy."""
        check_keepable(self.kind)
        assert isinstance(self.fitted.weights, PolicyModel)
        return self.fitted.weights

    def estimator_for(self, table: Table, fold: Int[np.ndarray, " N"]) -> Estimator:
        """Return the estimates of any queries, each by the weights of its fold."""
        columns = replace(self.design, seen=self.design.feature_spec.seen(table))
        return self.fitted.weights.estimator(columns, table.cost, fold)

    @property
    def digest(self) -> str:
        """Hash of the weights, to the bit, and of the columns they belong to."""
        digest = hashlib.sha256(repr(self.design.feature_spec).encode())
        for leaf in jax.tree.leaves(self.fitted.weights):
            digest.update(np.asarray(leaf).tobytes())
        return digest.hexdigest()

    def settings(self) -> dict[str, Any]:
        """Return the options of the fit, and its notes, for the record of a result."""
        return {
            "estimator": self.kind.name,
            "folds": self.folds.n_folds,
            "cost_model": self.fitted.cost_model,
            "ridge": self.fitted.ridge,
            "notes": list(self.notes),
        }


def learned(
    table: Table,
    fit_rows: Int[np.ndarray, " n"],
    *,
    estimator: str | LearnedEstimator = "logistic",
    folds: int = 5,
    seed: int = 0,
    cost_model: str | None = None,
    ridge: float | None = 1.0,
) -> LearnedEstimates:
    """Learn estimates from a table, cross-fitted.

    Parameters searched on the rows to fit on would rely too much on estimates fitted on the same
    rows, so each of these rows gets estimates fitted on the other folds, and every other row those
    of a fold drawn at random. Quality and cost of other
    rows are not read.

    Args:
        table: the true qualities and costs, and the columns to learn from.
        fit_rows: `[n]` rows to fit on.
        estimator: a name in `ESTIMATORS`, or an estimator of your own.
        folds: number of folds, at least 2.
        seed: seed of the folds, and of what the estimator draws.
        cost_model: inputs of the cost estimates: "constant", "features" or "seen", the last
            including what models that have run showed; None for the one with the lowest
            cross-validated error.
        ridge: penalty on squared weights of the quality regressions, above 0; None for the one of
            1, 10, 100 and 1000 with the lowest cross-validated error.

    Raises:
        CascjaxError: an unknown name, a number out of range, too few rows for the folds, or a
            table that the estimator does not take.

    Example:
        >>> from cascjax import synthetic
        >>> table = synthetic.sample(synthetic.make_dataset(3, 0), 0, 300, features=True)
        >>> estimates = learned(table, np.arange(200), estimator="linear")
        >>> estimates.fitted.cost_model
        'seen'
    """
    kind = learned_estimator(estimator)
    check_learning(kind, cost_model, ridge, folds, n_models=table.n_models)
    rows = np.unique(np.asarray(fit_rows))
    drawn = Folds.drawn(table.n_queries, rows, folds, seed)
    columns = design(table, rows, drawn.fold, logistic=kind.logistic)
    models = table.models or tuple(f"model {i}" for i in range(table.n_models))
    check_quality(kind, table.quality[rows], rows, models)
    known = (drawn.fold < folds)[:, None]
    fitted = kind.fit(
        TrainingSet(
            design=columns,
            quality=np.where(known, table.quality, np.float32(np.nan)),
            cost=np.where(known, table.cost, np.float32(np.nan)),
            cost_run=table.cost,
            folds=drawn,
            models=models,
            cost_model=cost_model,
            ridge=ridge,
            seed=seed,
        )
    )
    every = np.arange(table.n_queries)
    estimates = fitted.weights.estimator(columns, table.cost, drawn.of_rows(every, every))
    return LearnedEstimates(estimates, columns, kind, fitted, drawn)


def check_learning(
    estimator: str | LearnedEstimator = "logistic",
    cost_model: str | None = None,
    ridge: float | None = 1.0,
    folds: int = 5,
    *,
    n_models: int = 0,
) -> None:
    """Refuse options that `learned` refuses, as far as that needs no table."""
    kind = learned_estimator(estimator)
    if ridge is not None and not 0 < ridge < np.inf:
        raise CascjaxError(f"ridge must be finite and above 0, not {ridge}; or None to choose it")
    if folds < 2:
        raise CascjaxError(f"folds must be at least 2, not {folds}")
    if cost_model is not None and cost_model not in kind.cost_models:
        if cost_model not in COST_MODELS:
            raise unknown_name("cost model", cost_model, kind.cost_models)
        raise CascjaxError(
            f"estimator {kind.name!r} has no cost model {cost_model!r}; leave out cost_model,"
            f" or use {_listed(kind.cost_models)}"
        )
    if ridge not in (None, TrainingSet.ridge) and not kind.takes_ridge:
        raise CascjaxError(
            f"estimator {kind.name!r} has no use for ridge {ridge:g}, as it chooses its own"
            " penalties; leave out ridge"
        )
    if kind.max_models is not None and n_models > kind.max_models:
        others = _others(lambda other: other.max_models is None)
        raise CascjaxError(
            f"estimator {kind.name!r} takes at most {kind.max_models} models, not {n_models}; use"
            f" estimator {others}, or select fewer models"
        )


def check_quality(
    estimator: str | LearnedEstimator,
    quality: Float[np.ndarray, "n K"],
    rows: Int[np.ndarray, " n"],
    models: Sequence[str],
) -> None:
    """Refuse qualities outside the range that an estimator takes."""
    kind = learned_estimator(estimator)
    if kind.quality_range is None:
        return
    low, high = kind.quality_range
    beyond = (quality < low) | (quality > high)
    if beyond.any():
        row, model = np.argwhere(beyond)[0]
        others = _others(lambda other: other.quality_range is None)
        raise RefusedError(
            f"row {rows[row]}: quality of model {models[model]!r} is {quality[row, model]:g}, not"
            f" between {low:g} and {high:g} as estimator {kind.name!r} needs; use estimator"
            f" {others}, or rescale quality"
        )


def check_keepable(estimator: str | LearnedEstimator) -> None:
    """Refuse an estimator whose estimates a policy cannot keep."""
    kind = learned_estimator(estimator)
    if kind.model is None:
        others = _others(lambda other: other.model is not None)
        raise CascjaxError(
            f"estimates of estimator {kind.name!r} cannot be kept in a policy; use estimator"
            f" {others}"
        )


def _others(suits: Any) -> str:
    """Return the names of the registered estimators that suit."""
    return _listed(tuple(name for name, kind in ESTIMATORS.items() if suits(kind)))


def _listed(names: Sequence[str]) -> str:
    quoted = [repr(name) for name in names]
    return " or ".join(filter(None, [", ".join(quoted[:-1]), *quoted[-1:]]))
