"""Scores of a frontier."""

from cascjax.metrics.area import area, budgets
from cascjax.table import upper_hull

__all__ = ["area", "budgets", "upper_hull"]
