"""Scores of a frontier."""

from cascjax.metrics.area import area, budgets, upper_hull

__all__ = ["area", "budgets", "upper_hull"]
