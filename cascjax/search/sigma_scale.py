"""Sigma scale: the factor on the standard deviations that learned estimates state.

The covariance of a run set says how far estimates move until every model has run (the
paper's section 6). A strategy that stops after a few sees less of it: agreement, for instance,
tells nothing until a second answer is there. So one number, a scale on every sigma, is searched on
the rows to fit on, whose estimates are out of fold: 1 keeps them, 0 drops them.
"""

import numpy as np
from jaxtyping import Float, Int

from cascjax.core.estimates import Estimator, Tabulable
from cascjax.data.table import Table, mean_rows
from cascjax.estimators.base import Scalable
from cascjax.metrics import auc
from cascjax.search.budgets import fit_budgets
from cascjax.strategies import Strategy

SCALES = (1.0, 0.75, 0.5, 0.25, 0.0)  # Scales that are tried; of equals the first is taken
_SAMPLE = 1 << 13  # Rows at most that they are tried on

_BUDGETS = 12


def scaled(estimator: Scalable, sigma_scale: float) -> Estimator:
    """Return the same estimates, every sigma times `sigma_scale`."""
    if sigma_scale == 1:
        return estimator
    return estimator.scaled(sigma_scale)


def with_sigma_scale(
    strategy: Strategy,
    table: Table,
    estimator: Estimator,
    rows: Int[np.ndarray, " n"],
    sigma_scale: float | None,
    seed: int = 0,
) -> tuple[Estimator, float]:
    """Return the estimates with the sigma scale a strategy does best with, and the scale.

    Estimates of the fit rows must be out of fold. A scale of None is searched by AUC on a sample of
    them; it is 1 for estimates that are no `Tabulable`, too expensive to simulate for each.
    """
    if not isinstance(estimator, Scalable) or strategy.sees_truth or "sigma" not in strategy.reads:
        return estimator, 1.0
    if sigma_scale is None:
        tried = isinstance(estimator, Tabulable)
        sigma_scale = _best(strategy, table, estimator, rows, seed) if tried else 1.0
    return scaled(estimator, sigma_scale), sigma_scale


def _best(
    strategy: Strategy, table: Table, estimator: Scalable, rows: Int[np.ndarray, " n"], seed: int
) -> float:
    if len(rows) > _SAMPLE:
        rows = np.sort(np.random.default_rng(seed).choice(rows, _SAMPLE, replace=False))
    cost, quality = mean_rows(table.cost, rows), mean_rows(table.quality, rows)
    # Nearer to the cheap end, where most of a frontier rises.
    at = np.geomspace(cost.min() + 0.02 * np.ptp(cost), cost.max(), _BUDGETS)

    def reached(sigma_scale: float) -> float:
        fit = fit_budgets(strategy, scaled(estimator, sigma_scale), table, at, rows=rows)
        return auc(fit.cost, fit.quality, cost, quality)

    aucs: Float[np.ndarray, " T"] = np.array([reached(sigma_scale) for sigma_scale in SCALES])
    return SCALES[int(np.argmax(aucs))]
