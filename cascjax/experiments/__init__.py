"""The paper's tables and figures, each run in cells that are kept, and set beside its numbers."""

from cascjax.experiments.ablation import ABLATION_EXPERIMENT
from cascjax.experiments.base import Experiment, Findings, Job, page, reproduce
from cascjax.experiments.noise_grid import NOISE_GRID
from cascjax.experiments.runtime import RUNTIME
from cascjax.experiments.settings import SETTINGS_EXPERIMENT
from cascjax.experiments.streams import PIECE_ROWS
from cascjax.experiments.table1 import TABLE1
from cascjax.experiments.table4 import TABLE4

EXPERIMENTS: dict[str, Experiment] = {
    e.name: e
    for e in (
        TABLE1,
        TABLE4,
        NOISE_GRID,
        ABLATION_EXPERIMENT,
        RUNTIME,
        SETTINGS_EXPERIMENT,
    )
}
"""Experiments by name."""

__all__ = ["EXPERIMENTS", "PIECE_ROWS", "Experiment", "Findings", "Job", "page", "reproduce"]
