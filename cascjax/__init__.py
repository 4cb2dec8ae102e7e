"""Routing, cascading and cascade routing of language models, simulated at scale in JAX."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cascjax.devices import use_devices
    from cascjax.diagnosis import Diagnosis, diagnose
    from cascjax.errors import CascjaxError
    from cascjax.evaluation import Evaluation, evaluate
    from cascjax.evaluation_stream import evaluate_stream
    from cascjax.io import import_long, import_routerbench, read_table, write_table
    from cascjax.io.stream import Stream, open_stream
    from cascjax.policy import Policy, load_policy
    from cascjax.search.compare_stream import compare_stream
    from cascjax.search.fit import fit
    from cascjax.search.fit_stream import fit_stream
    from cascjax.search.frontier import Frontier, Study, compare
    from cascjax.search.run import Ledger
    from cascjax.search.tuned import Tuning, tune
    from cascjax.strategies import STOP, STRATEGIES, register, strategy
    from cascjax.table import Table

__version__ = "0.1.0"

_HOMES = {
    "CascjaxError": "cascjax.errors",
    "Diagnosis": "cascjax.diagnosis",
    "diagnose": "cascjax.diagnosis",
    "Evaluation": "cascjax.evaluation",
    "evaluate": "cascjax.evaluation",
    "evaluate_stream": "cascjax.evaluation_stream",
    "import_long": "cascjax.io",
    "import_routerbench": "cascjax.io",
    "read_table": "cascjax.io",
    "Stream": "cascjax.io.stream",
    "open_stream": "cascjax.io.stream",
    "write_table": "cascjax.io",
    "Policy": "cascjax.policy",
    "load_policy": "cascjax.policy",
    "compare_stream": "cascjax.search.compare_stream",
    "fit": "cascjax.search.fit",
    "fit_stream": "cascjax.search.fit_stream",
    "Frontier": "cascjax.search.frontier",
    "Study": "cascjax.search.frontier",
    "compare": "cascjax.search.frontier",
    "Ledger": "cascjax.search.run",
    "Tuning": "cascjax.search.tuned",
    "tune": "cascjax.search.tuned",
    "STOP": "cascjax.strategies",
    "STRATEGIES": "cascjax.strategies",
    "register": "cascjax.strategies",
    "strategy": "cascjax.strategies",
    "Table": "cascjax.table",
    "use_devices": "cascjax.devices",
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
