"""Smallest and largest qualities and costs of each model, and notes on implausible ones."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from cascjax.data.table import Table
from cascjax.words import listed, price_text

CALLS = "calls"  # Unit of a cost that is 1 for calls of one model, and else 0
_CONSTANT_ROWS = 5  # Rows from which a constant quality or cost is worth a note
_ZERO_SHARE = 0.05  # Share of rows from which costs of 0 are worth a note
_LEAST_COST = 1e-9  # Mean cost per query below which the unit is questioned
_PERCENT = 20.0  # Quality from which a scale is taken for one of 0 to 100
_MIXED = 0.05  # Share of positive qualities up to 1 from which that scale is questioned
_MEAN_COST = 1000.0  # Mean cost per query from which the unit is questioned
_NAMED = 6  # Models that a note names
_SPAN = 1e9  # Ratio of the largest to the smallest positive cost from which it is


@dataclass(frozen=True)
class Scales:
    """Ranges of quality and cost over the rows of a table; those of two chunks can be added.

    Attributes:
      models: Names of the K models.
      cost_unit: Unit of cost, empty if unknown.
      n_queries: Number of rows.
      quality: `[2, K]` smallest and largest quality.
      cost: `[2, K]` smallest and largest cost.
      positive: `[K]` smallest cost above 0; infinite where there is none.
      total: `[K]` sum of costs.
      n_zero: `[K]` rows with a cost of 0.
      n_small: `[K]` rows with a quality above 0 and up to 1.
      n_large: `[K]` rows with a quality above 1.

    Example:
      >>> quality, cost = np.ones((9, 2), np.float32), np.ones((9, 2), np.float32) * [0, 2]
      >>> scales_of(Table(quality, np.float32(cost), models=("a", "b"))).notes[0]
      "model 'a' costs 0 in every row: free, or not priced?"
    """

    models: tuple[str, ...]
    cost_unit: str
    n_queries: int
    quality: Float[np.ndarray, "2 K"]
    cost: Float[np.ndarray, "2 K"]
    positive: Float[np.ndarray, " K"]
    total: Float[np.ndarray, " K"]
    n_zero: Int[np.ndarray, " K"]
    n_small: Int[np.ndarray, " K"]
    n_large: Int[np.ndarray, " K"]

    def __add__(self, other: "Scales") -> "Scales":
        """Return the ranges over the rows of both, whose models are the same."""

        def wider(mine: np.ndarray, others: np.ndarray) -> np.ndarray:
            return np.stack([np.minimum(mine[0], others[0]), np.maximum(mine[1], others[1])])

        return Scales(
            self.models,
            self.cost_unit,
            self.n_queries + other.n_queries,
            wider(self.quality, other.quality),
            wider(self.cost, other.cost),
            np.minimum(self.positive, other.positive),
            self.total + other.total,
            self.n_zero + other.n_zero,
            self.n_small + other.n_small,
            self.n_large + other.n_large,
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """Questions about qualities and costs that are zero, constant or implausible."""
        N, notes = self.n_queries, list[str]()
        priced = self.cost_unit != CALLS  # a share of calls is 0 or 1 by design
        free = (self.cost[1] == 0) & priced
        if free.any():
            notes.append(f"{self._of(free, 'cost')} 0 in every row: free, or not priced?")
        partly = ~free & priced & (self.n_zero >= _ZERO_SHARE * N)
        if partly.any():
            share = self.n_zero[partly].max() / N
            notes.append(
                f"{self._of(partly, 'cost')} 0 in up to {share:.0%} of the rows: free, or not"
                " priced?"
            )
        if N >= _CONSTANT_ROWS:
            constant = self.quality[0] == self.quality[1]
            if constant.any():
                notes.append(
                    f"{self._of(constant, 'have')} the same quality in every row"
                    f" ({self.quality[0, int(np.argmax(constant))]:.6g}): was it scored?"
                )
            flat = (self.cost[0] == self.cost[1]) & ~free & priced
            if flat.any():
                prices = [f"{x:.6g}" for x in np.unique(self.cost[0, flat])[:_NAMED]]
                notes.append(
                    f"{self._of(flat, 'cost')} the same in every row ({listed(prices)}):"
                    " a flat price, or a placeholder?"
                )
        small, large = int(self.n_small.sum()), int(self.n_large.sum())
        if large and self.quality[1].max() >= _PERCENT and small >= _MIXED * (small + large):
            notes.append(
                f"{small:,} qualities lie above 0 and up to 1, and {large:,} above that, up to"
                f" {self.quality[1].max():.6g}: are they on one scale?"
            )
        mean = self.total / max(N, 1)
        if (high := mean >= _MEAN_COST).any():
            most = price_text(float(mean.max()), self.cost_unit)
            notes.append(
                f"{self._of(high, 'cost')} {_MEAN_COST:,.0f} or more per query on average (up to"
                f" {most}): is the unit right?"
            )
        if (tiny := priced & ~free & (mean < _LEAST_COST)).any():
            notes.append(
                f"{self._of(tiny, 'cost')} less than {_LEAST_COST:g} per query on average: is the"
                " unit right?"
            )
        if self.cost[1].max() > _SPAN * self.positive.min():
            low, k = int(np.argmin(self.positive)), int(np.argmax(self.cost[1]))
            notes.append(
                f"costs span a factor of more than {_SPAN:g}, from {self.positive[low]:.3g} (model"
                f" {self.models[low]!r}) to {self.cost[1, k]:.3g} (model {self.models[k]!r}): do"
                " they have one unit?"
            )
        return tuple(notes)

    def _of(self, chosen: Bool[np.ndarray, " K"], verb: Literal["cost", "have"]) -> str:
        """Return the chosen models and a verb, as the subject of a sentence."""
        names = [repr(name) for name, each in zip(self.models, chosen, strict=True) if each]
        if len(names) == 1:
            return f"model {names[0]} {'costs' if verb == 'cost' else 'has'}"
        few = f"models {listed(names)}" if len(names) <= _NAMED else f"{len(names)} models"
        return f"{few} {verb}"


def scales_of(table: Table) -> Scales:
    """Return the ranges of quality and cost of a table with at least one row."""
    cost = np.asarray(table.cost)
    quality = np.asarray(table.quality)
    return Scales(
        table.models or tuple(f"model {k + 1}" for k in range(table.n_models)),
        table.cost_unit,
        table.n_queries,
        np.stack([quality.min(axis=0), quality.max(axis=0)]),
        np.stack([cost.min(axis=0), cost.max(axis=0)]),
        np.min(cost, axis=0, where=cost > 0, initial=np.inf),
        cost.sum(axis=0, dtype=np.float64),
        np.count_nonzero(cost == 0, axis=0),
        np.count_nonzero((quality > 0) & (quality <= 1), axis=0),
        np.count_nonzero(quality > 1, axis=0),
    )
