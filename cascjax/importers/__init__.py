"""Importers: one file per format of a log.

A new format is one file and one entry in `IMPORTERS` (or a call of `register`). The file defines
`Options`, a dataclass derived from `cascjax.importers.base.ImportOptions` whose fields are declared
with `cascjax.importers.base.option`, and `read(path, options)`, which returns an `ImportResult`.
"""

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cascjax.errors import CascjaxError, unknown_name

if TYPE_CHECKING:
    from cascjax.importers.base import ImportResult, Option
    from cascjax.importers.long import import_long
    from cascjax.importers.routerbench import import_routerbench


@dataclass(frozen=True)
class Importer:
    """A format of logs, read by a module that is imported on first use.

    Attributes:
      name: Name of the format, as on the command line.
      summary: Description of the format in one line.
      module: Module, or its name, with the dataclass `Options` and the function
        `read(path, options)`.

    Example:
      >>> IMPORTERS["long"].summary
      'Long log with one row per query and model: CSV, JSON, Parquet, Arrow or pickle.'
      >>> [option.name for option in IMPORTERS["long"].options if option.required]
      ['query', 'model', 'quality']
    """

    name: str
    summary: str
    module: Any

    @property
    def options(self) -> "tuple[Option, ...]":
        """Options of the format, in order of declaration."""
        from cascjax.importers.base import options_of

        return options_of(self._loaded().Options)

    def read(self, data: Any, **options: Any) -> "ImportResult":
        """Import a log: a path, a folder, a pattern, a list of paths, or a table in memory."""
        module = self._loaded()
        return module.read(data, module.Options(**options))

    def _loaded(self) -> Any:
        named = isinstance(self.module, str)
        return importlib.import_module(self.module) if named else self.module


IMPORTERS: dict[str, Importer] = {
    importer.name: importer
    for importer in (
        Importer(
            "long",
            "Long log with one row per query and model: CSV, JSON, Parquet, Arrow or pickle.",
            "cascjax.importers.long",
        ),
        Importer(
            "wide",
            "Wide log with one row per query and columns per model.",
            "cascjax.importers.wide",
        ),
        Importer(
            "json",
            "JSON and JSON Lines of any shape, files or folders of them, by dotted paths.",
            "cascjax.importers.json",
        ),
        Importer(
            "routerbench",
            "RouterBench's wide table with one row per query: CSV, JSON, Parquet, Arrow or pickle.",
            "cascjax.importers.routerbench",
        ),
        Importer(
            "llmrouterbench",
            "LLMRouterBench's results, one JSON file per dataset, split and model.",
            "cascjax.importers.llmrouterbench",
        ),
        Importer(
            "lm-eval",
            "Samples of lm-evaluation-harness: folders of samples_*.jsonl, one per model.",
            "cascjax.importers.lm_eval",
        ),
        Importer(
            "inspect",
            "Logs of Inspect: .eval archives or JSON, one per model and task; epochs are draws.",
            "cascjax.importers.inspect",
        ),
        Importer("promptfoo", "Results of promptfoo as JSON.", "cascjax.importers.promptfoo"),
        Importer(
            "swe-bench",
            "SWE-bench results per instance: maps, leaderboards, or reports of the harness.",
            "cascjax.importers.swe_bench",
        ),
    )
}
"""Importers by name of the format."""


def register(importer: Importer) -> None:
    """Add an importer to `IMPORTERS`, from where the command line takes it.

    Raises:
      CascjaxError: There is another importer with that name.
    """
    if importer.name in IMPORTERS:
        raise CascjaxError(f"importer {importer.name!r} is registered already; choose another name")
    IMPORTERS[importer.name] = importer


def import_log(format: str, data: Any, **options: Any) -> "ImportResult":
    """Import a log of any registered format, as `cascjax import FORMAT` does.

    Args:
      format: Name of the format, one of `IMPORTERS`.
      data: Path, folder, pattern, or a list of paths; for "long", "wide" and "routerbench" also a
        table of pandas, polars or Arrow.
      options: Options of the format, see `IMPORTERS[format].options`.

    Returns:
      The evaluation table, and counts of what was left out.

    Raises:
      CascjaxError: The format is unknown, or its importer refuses the log.

    Example:
      >>> import pandas as pd
      >>> frame = pd.DataFrame({"a": [0, 1], "b": [1, 1], "a usd": [1, 2], "b usd": [9, 8]})
      >>> import_log("wide", frame, cost="{model} usd")
      ImportResult: 2 queries, 2 models
    """
    if format not in IMPORTERS:
        raise unknown_name("format", format, IMPORTERS)
    return IMPORTERS[format].read(data, **options)


_LAZY = {
    "ImportResult": "cascjax.importers.base",
    "Option": "cascjax.importers.base",
    "import_long": "cascjax.importers.long",
    "import_routerbench": "cascjax.importers.routerbench",
}

__all__ = [
    "IMPORTERS",
    "ImportResult",
    "Importer",
    "Option",
    "import_log",
    "import_long",
    "import_routerbench",
    "register",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:  # names of formats are listed without importing what reads them
        raise AttributeError(f"module 'cascjax.importers' has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)
