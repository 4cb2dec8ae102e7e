"""Scores of a frontier."""

from cascjax.metrics.area import area, budgets
from cascjax.metrics.scores import SCORES, Evidence, Score, check_scores
from cascjax.table import upper_hull

__all__ = ["SCORES", "Evidence", "Score", "area", "budgets", "check_scores", "upper_hull"]
