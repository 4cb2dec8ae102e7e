"""The functional core: pure functions of arrays, for use inside jit, vmap, grad and shard_map.

The strategy is a static argument, the estimates are a pytree: `Independent`, or any estimator that
can be called with a run set. Everything is computed in float32, also under `jax_enable_x64`.
"""

# The functions hide the modules of the same name.
from cascjax.core.auc import auc
from cascjax.core.estimates import Estimates, Estimator, Independent, Tabulated
from cascjax.core.expected_max import expected_max
from cascjax.core.frontier import Curve, frontier
from cascjax.core.reservation import reservation_value
from cascjax.core.sweep import STOP, Outcome, sweep
from cascjax.core.totals import Totals, totals

__all__ = [
    "STOP",
    "Curve",
    "Estimates",
    "Estimator",
    "Independent",
    "Outcome",
    "Tabulated",
    "Totals",
    "auc",
    "expected_max",
    "frontier",
    "reservation_value",
    "sweep",
    "totals",
]
