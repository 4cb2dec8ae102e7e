"""Importers: one file per format of a log."""

from cascjax.importers.invalid import ImportResult
from cascjax.importers.long import import_long
from cascjax.importers.routerbench import import_routerbench

__all__ = ["ImportResult", "import_long", "import_routerbench"]
