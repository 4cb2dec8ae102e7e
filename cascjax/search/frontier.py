"""Whole frontiers: one point a budget, for every strategy asked for."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True)
class Frontier:
    """What one strategy reaches at P budgets.

    Attributes:
        strategy: its name.
        budget: `[P]` mean cost allowed, in the table's cost unit.
        cost: `[P]` mean cost on the evaluation split, in the table's cost unit.
        quality: `[P]` mean quality on the evaluation split.
        fit_cost: `[P]` mean cost on the fit split; equals the budget where it is reachable.
        fit_quality: `[P]` mean quality on the fit split.
        gamma: `[P]` share of queries that take the dear one of the two neighbouring parameters.
        parameters: `[P, 2]` the neighbours, cheap then dear (lambda, or tau for thresholding).
        reach: `[P]` 0 where the budget is met exactly on the fit split, -1 where it lies below
            the cheapest reachable cost, 1 where it lies above the dearest.
        ran: `[P, K]` share of evaluation queries on which each model ran.
        answered: `[P, K]` share of evaluation queries each model's answer was returned for.
        depth: `[P, K]` share of evaluation queries on which 1, 2, ..., K models ran.
        area: area under (cost, quality), divided by its width (DESIGN.md, section 4).
        seconds: wall time to fit and evaluate.
    """

    strategy: str
    budget: Float[np.ndarray, " P"]
    cost: Float[np.ndarray, " P"]
    quality: Float[np.ndarray, " P"]
    fit_cost: Float[np.ndarray, " P"]
    fit_quality: Float[np.ndarray, " P"]
    gamma: Float[np.ndarray, " P"]
    parameters: Float[np.ndarray, "P 2"]
    reach: Int[np.ndarray, " P"]
    ran: Float[np.ndarray, "P K"]
    answered: Float[np.ndarray, "P K"]
    depth: Float[np.ndarray, "P K"]
    area: float
    seconds: float


@dataclass(frozen=True)
class Study:
    """All that one run over one table found.

    Attributes:
        frontiers: one a strategy, in the order asked for.
        models: the K model names, cheapest mean cost first; every `[K]` axis is in this order.
        cost_unit: the unit of every cost.
        single_cost: `[K]` mean cost of each model alone, on the evaluation split.
        single_quality: `[K]` mean quality of each model alone, on the evaluation split.
        n_fit: rows the parameters were found on.
        n_evaluate: rows the scores were taken on.
        settings: what was asked for, name to value, for the record.
    """

    frontiers: tuple[Frontier, ...]
    models: tuple[str, ...]
    cost_unit: str
    single_cost: Float[np.ndarray, " K"]
    single_quality: Float[np.ndarray, " K"]
    n_fit: int
    n_evaluate: int
    settings: dict[str, Any] = field(default_factory=dict)
