"""Rules: mixtures of parameter settings, and what they gave on the queries they were fitted on."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from cascjax.errors import CascjaxError
from cascjax.strategies import Strategy
from cascjax.words import counted

COST = "cost"
"""Name of the column cost, the first cost of every rule."""

LARGEST = 1 << 12
"""Maximum number of settings of a rule, of steps of a setting, and of any option of a strategy."""


@dataclass(frozen=True)
class Fitted:
    """The target a rule was fitted for and its means on the n_fit queries; R costs.

    Attributes:
        n_fit: number of queries.
        quality: mean quality.
        cost: R mean costs, in the units of the policy's costs.
        budget: R bounds on mean cost, None where a cost is not limited.
        margin: R amounts by which the fit stayed below each budget, for the confidence asked for.
        reachable: lowest and highest mean cost within reach; None where several costs were fitted.
    """

    n_fit: int
    quality: float
    cost: tuple[float, ...]
    budget: tuple[float | None, ...]
    margin: tuple[float, ...]
    reachable: tuple[float, float] | None = None


@dataclass(frozen=True, eq=False)
class Rule:
    """A mixture of M settings of a strategy: each query takes one of them at random.

    Attributes:
        parameters: `[M]` or `[M, D]` one setting per row: one number, or one per step.
        weights: `[M]` share of queries that take each setting; they sum to 1.
        prices: `[M, R]` weights of the R costs in the single cost the strategy sees under a
            setting, sum_r prices[m, r] c_r; None where it sees the first cost unchanged.
        fitted: means on the queries the rule was fitted on, None where it was not fitted.
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

    def check(self, strategy: Strategy, n_models: int, n_costs: int) -> None:
        """Refuse a rule that is not valid for a strategy, K models and R costs.

        Raises:
            CascjaxError: a shape or a number is wrong.
        """
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
        strategy.check_settings(settings, n_models)
        if (fitted := self.fitted) is not None:
            sizes = {len(fitted.cost), len(fitted.budget), len(fitted.margin)}
            if sizes != {n_costs} or fitted.n_fit < 0:
                raise CascjaxError(f"'fitted' must have {counted(n_costs, 'cost')}")
            if not all(budget is None or 0 < budget < np.inf for budget in fitted.budget):
                raise CascjaxError("every budget of 'fitted' must be above 0, or null")


def shape_of(array: ArrayLike) -> str:
    """Return the shape of an array in words: "[3, 4]"."""
    return f"[{', '.join(str(n) for n in np.shape(array))}]"
