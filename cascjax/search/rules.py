"""Rules: mixtures of parameter settings, checked, and simulated query by query."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike

from cascjax.core.sweep import single_model
from cascjax.data.table import Table, take_rows
from cascjax.engine.simulate import query_outcomes
from cascjax.errors import CascjaxError
from cascjax.estimators import Estimator
from cascjax.strategies import Strategy
from cascjax.words import counted

COST = "cost"  # Name of the column cost, the first cost of every rule

LARGEST = 1 << 12
"""Maximum number of settings of a rule, of steps of a setting, and of any option of a strategy."""


@dataclass(frozen=True)
class Fitted:
    """Target a rule was fitted for and its means on the n_fit queries; R costs.

    `budget` is None where a cost is not limited, `margin` the amount by which the fit stayed below
    each budget for the confidence asked for, `reachable` the lowest and highest mean cost within
    reach, None where several costs were fitted.
    """

    n_fit: int
    quality: float
    cost: tuple[float, ...]
    budget: tuple[float | None, ...]
    margin: tuple[float, ...]
    reachable: tuple[float, float] | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Rule:
    """A mixture of M settings of a strategy: each query takes one of them at random.

    `parameters` has one setting per row: one number, or one per step; a model alone is -1e30 times
    its number from 1, whatever the strategy. `prices[m, r]` weigh the R
    costs in the single cost that the strategy sees under setting m; None where it sees the first
    cost unchanged. `fitted` is None where the rule was not fitted.
    """

    parameters: Float[np.ndarray, "M *D"]
    weights: Float[np.ndarray, " M"]
    prices: Float[np.ndarray, "M R"] | None = None
    fitted: Fitted | None = None

    def __post_init__(self):
        with np.errstate(over="ignore"):  # an overflow is refused later as not finite
            for name, dtype in (("parameters", "f4"), ("weights", "f8"), ("prices", "f4")):
                if (value := getattr(self, name)) is not None:
                    object.__setattr__(self, name, np.asarray(value, dtype))

    def __repr__(self) -> str:
        settings = [", ".join(f"{x:.6g}" for x in np.ravel(row)) for row in self.parameters[:4]]
        shares = zip(self.weights, settings, strict=False)
        text = " + ".join(f"{weight:.2%} ({setting})" for weight, setting in shares)
        text += " + ..." * (len(self.weights) > 4)
        if self.fitted is None:
            return text
        cost = ", ".join(f"{value:.6g}" for value in self.fitted.cost)
        return (
            f"{text}; mean quality {self.fitted.quality:.4f} at mean cost {cost} on"
            f" {counted(self.fitted.n_fit, 'query', 'queries')}"
        )

    def check(self, strategy: Strategy, n_models: int, n_costs: int) -> None:
        """Refuse a rule that is not valid for a strategy, K models and R costs."""
        m, settings, prices = len(self.weights), self.parameters, self.prices
        if not 1 <= m <= LARGEST or self.weights.ndim != 1:
            raise CascjaxError(f"a rule mixes 1 to {LARGEST} settings, not {m}")
        if settings.ndim not in (1, 2) or len(settings) != m or not 0 < settings[0].size <= LARGEST:
            raise CascjaxError(
                f"parameters must be [{m}] or [{m}, D], one row per weight, not"
                f" {shape_of(settings)}"
            )
        if not (
            np.isfinite(self.weights).all()
            and self.weights.min() >= 0
            and abs(self.weights.sum() - 1) < 1e-6
        ):
            raise CascjaxError("weights must be non-negative and sum to 1")
        if not np.isfinite(settings).all():
            raise CascjaxError("parameters must be finite")
        if prices is not None:
            if prices.shape != (m, n_costs):
                raise CascjaxError(f"prices must be [{m}, {n_costs}], not {shape_of(prices)}")
            if not np.isfinite(prices).all() or prices.min() < 0:
                raise CascjaxError("prices must be finite and non-negative")
        alone = single_model(settings)
        if alone.max() >= n_models:
            raise CascjaxError(f"there is no model {alone.max()}: they go from 0 to {n_models - 1}")
        if (alone < 0).any():
            strategy.check_settings(settings[alone < 0], n_models)
        if (fitted := self.fitted) is not None:
            sizes = {len(fitted.cost), len(fitted.budget), len(fitted.margin)}
            if sizes != {n_costs} or fitted.n_fit < 0:
                raise CascjaxError(f"'fitted' must have {counted(n_costs, 'cost')}")
            if not all(budget is None or 0 < budget < np.inf for budget in fitted.budget):
                raise CascjaxError("every budget of 'fitted' must be above 0, or null")


@dataclass(frozen=True)
class CostEstimates:
    """An estimator, with ex-ante estimates of the extra costs beside those of the first cost."""

    estimator: Estimator
    extra: tuple[Float[np.ndarray, "N K"], ...] = ()

    def weighed(self, prices: Float[np.ndarray, " R"] | None) -> Estimator:
        """Return the estimator with all costs weighed into one, or unchanged without prices."""
        if prices is None:
            return self.estimator
        weigh = getattr(self.estimator, "weighed", None)
        if weigh is None:
            raise CascjaxError(
                f"estimates of kind {type(self.estimator).__name__} have one cost: give a budget"
                " of the table's own cost alone, or use other estimates"
            )
        return weigh(prices, self.extra)


@dataclass(frozen=True)
class RuleOutcome:
    """Outcome of each of the M settings of a rule on each of n queries.

    `run` has the models that ran, `answer` the model whose answer was returned, `quality` and
    `cost` the truth.
    """

    weights: Float[np.ndarray, " M"]
    run: Bool[np.ndarray, "M n K"]
    answer: Int[np.ndarray, "M n"]
    quality: Float[np.ndarray, "M n"]
    cost: Float[np.ndarray, "R M n"]


def simulate_rule(
    strategy: Strategy,
    rule: Rule,
    estimates: CostEstimates,
    table: Table,
    rows: Int[np.ndarray, " n"],
    costs: Sequence[str] = (COST,),
    progress: Callable[[int], None] = lambda queries: None,
) -> RuleOutcome:
    """Return the outcome of every setting of a rule, query by query."""
    m, shape = len(rule.weights), table.cost.shape
    run, answer = np.empty((m, len(rows), shape[1]), bool), np.empty((m, len(rows)), np.int32)
    prices = np.zeros((m, 1)) if rule.prices is None else rule.prices
    for price in np.unique(prices, axis=0):
        same = np.flatnonzero((prices == price).all(1))
        estimator = estimates.weighed(None if rule.prices is None else price)
        run[same], answer[same] = query_outcomes(
            strategy, rule.parameters[same], estimator, shape, rows=rows, progress=progress
        )
    quality = np.take_along_axis(take_rows(table.quality, rows), answer.T, axis=1).T
    cost = [
        np.einsum("mnk,nk->mn", run, take_rows(cost_column(table, name), rows).astype(np.float64))
        for name in costs
    ]
    return RuleOutcome(rule.weights, run, answer, quality.astype(np.float64), np.stack(cost))


def cost_column(table: Table, name: str) -> Float[np.ndarray, "N K"]:
    """Return a cost of a table by its name: the column cost or an extra cost."""
    return table.cost if name == COST else table.extra_costs[name]


def shape_of(array: ArrayLike) -> str:
    """Return the shape of an array in words: "[3, 4]"."""
    return f"[{', '.join(str(n) for n in np.shape(array))}]"
