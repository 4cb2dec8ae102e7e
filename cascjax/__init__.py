"""Routing, cascading and cascade routing of language models, simulated at scale in JAX."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cascjax.comparison import Frontier, Study, compare
    from cascjax.comparison_stream import compare_stream
    from cascjax.data import read_table, write_table
    from cascjax.data.source import Stream, open_stream
    from cascjax.data.table import Table
    from cascjax.diagnosis import Diagnosis, diagnose
    from cascjax.engine.devices import use_devices
    from cascjax.engine.run import Ledger
    from cascjax.errors import CascjaxError
    from cascjax.evaluation import Evaluation, evaluate
    from cascjax.evaluation_stream import evaluate_stream
    from cascjax.fitting import fit
    from cascjax.fitting_stream import fit_stream
    from cascjax.importers import import_long, import_routerbench
    from cascjax.policy import Policy, load_policy
    from cascjax.strategies import STOP, STRATEGIES, register, strategy
    from cascjax.tuning import Tuning, tune

__version__ = "0.1.0"

_HOMES = {
    "CascjaxError": "cascjax.errors",
    "Diagnosis": "cascjax.diagnosis",
    "diagnose": "cascjax.diagnosis",
    "Evaluation": "cascjax.evaluation",
    "evaluate": "cascjax.evaluation",
    "evaluate_stream": "cascjax.evaluation_stream",
    "import_long": "cascjax.importers",
    "import_routerbench": "cascjax.importers",
    "read_table": "cascjax.data",
    "Stream": "cascjax.data.source",
    "open_stream": "cascjax.data.source",
    "write_table": "cascjax.data",
    "Policy": "cascjax.policy",
    "load_policy": "cascjax.policy",
    "compare_stream": "cascjax.comparison_stream",
    "fit": "cascjax.fitting",
    "fit_stream": "cascjax.fitting_stream",
    "Frontier": "cascjax.comparison",
    "Study": "cascjax.comparison",
    "compare": "cascjax.comparison",
    "Ledger": "cascjax.engine.run",
    "Tuning": "cascjax.tuning",
    "tune": "cascjax.tuning",
    "STOP": "cascjax.strategies",
    "STRATEGIES": "cascjax.strategies",
    "register": "cascjax.strategies",
    "strategy": "cascjax.strategies",
    "Table": "cascjax.data.table",
    "use_devices": "cascjax.engine.devices",
}

__all__ = [
    "STOP",
    "STRATEGIES",
    "CascjaxError",
    "Diagnosis",
    "Evaluation",
    "Frontier",
    "Ledger",
    "Policy",
    "Stream",
    "Study",
    "Table",
    "Tuning",
    "compare",
    "compare_stream",
    "diagnose",
    "evaluate",
    "evaluate_stream",
    "fit",
    "fit_stream",
    "import_long",
    "import_routerbench",
    "load_policy",
    "open_stream",
    "read_table",
    "register",
    "strategy",
    "tune",
    "use_devices",
    "write_table",
]


def __getattr__(name: str) -> Any:
    # JAX takes most of a second to import: whoever only asks for --help does not wait for it.
    if name not in _HOMES:
        raise AttributeError(f"module 'cascjax' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
