"""Routing, cascading and cascade routing of language models, simulated at scale in JAX."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cascjax.comparison import Frontier, Study, compare
    from cascjax.data import read_table, write_table
    from cascjax.data.source import Files, Source, reprice
    from cascjax.data.source import open_files as open
    from cascjax.data.table import Table
    from cascjax.diagnosis import Diagnosis, diagnose
    from cascjax.engine.devices import use_devices
    from cascjax.engine.options import RunOptions
    from cascjax.errors import CascjaxError
    from cascjax.estimators import Estimates, Estimator
    from cascjax.estimators.specs import Learned, Noisy, Supplied
    from cascjax.evaluation import Evaluation, evaluate
    from cascjax.fitting import Confidence, fit
    from cascjax.importers import import_log, import_long, import_routerbench
    from cascjax.metrics.bootstrap import Bootstrap
    from cascjax.policy import Policy, load_policy
    from cascjax.strategies import (
        STOP,
        STRATEGIES,
        CascadeRouting,
        Cascading,
        Frugal,
        Mixing,
        Oracle,
        Pandora,
        Routing,
        Strategy,
        Thresholding,
        register,
        strategy,
    )
    from cascjax.tuning import Tuning, tune

__version__ = "0.1.0"

_HOMES = {
    "cascjax.comparison": ("Frontier", "Study", "compare"),
    "cascjax.data": ("read_table", "write_table"),
    "cascjax.data.source": ("Files", "Source", "reprice"),
    "cascjax.data.table": ("Table",),
    "cascjax.diagnosis": ("Diagnosis", "diagnose"),
    "cascjax.engine.devices": ("use_devices",),
    "cascjax.engine.options": ("RunOptions",),
    "cascjax.errors": ("CascjaxError",),
    "cascjax.estimators": ("Estimates", "Estimator"),
    "cascjax.estimators.specs": ("Learned", "Noisy", "Supplied"),
    "cascjax.evaluation": ("Evaluation", "evaluate"),
    "cascjax.fitting": ("Confidence", "fit"),
    "cascjax.importers": ("import_log", "import_long", "import_routerbench"),
    "cascjax.metrics.bootstrap": ("Bootstrap",),
    "cascjax.policy": ("Policy", "load_policy"),
    "cascjax.strategies": (
        "STOP", "STRATEGIES", "CascadeRouting", "Cascading", "Frugal", "Mixing", "Oracle",
        "Pandora", "Routing", "Strategy", "Thresholding", "register", "strategy",
    ),
    "cascjax.tuning": ("Tuning", "tune"),
}  # fmt: skip
"""Public names by the module that defines them."""

_PUBLIC = {name: (home, name) for home, names in _HOMES.items() for name in names}
_PUBLIC["open"] = ("cascjax.data.source", "open_files")

__all__ = [
    *sorted(_PUBLIC)  # pyright: ignore[reportUnsupportedDunderAll]
]


def __getattr__(name: str) -> Any:
    # JAX takes most of a second to import, so it is imported on first use: `--help` is instant.
    if name not in _PUBLIC:
        raise AttributeError(f"module 'cascjax' has no attribute {name!r}")
    module, attribute = _PUBLIC[name]
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted(["__version__", *_PUBLIC])
