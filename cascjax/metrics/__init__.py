"""Scores of a frontier."""

from cascjax.core.auc import auc
from cascjax.data.table import upper_hull
from cascjax.metrics.grid import Grid, budgets
from cascjax.metrics.scores import SCORES, Evidence, Score, check_scores

__all__ = ["SCORES", "Evidence", "Grid", "Score", "auc", "budgets", "check_scores", "upper_hull"]
