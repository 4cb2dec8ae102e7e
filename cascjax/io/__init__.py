"""Files in and out: evaluation tables, and the logs they are imported from."""

from cascjax.io.answers import response_answers, response_signals
from cascjax.io.arrow import TableWriter, from_arrow, read_table, to_arrow, write_table
from cascjax.io.bad_rows import ImportResult
from cascjax.io.files import atomic_write
from cascjax.io.longform import import_long
from cascjax.io.routerbench import import_routerbench
from cascjax.io.text import (
    TextModel,
    fit_text_model,
    read_text_model,
    text_features,
    write_text_model,
)

__all__ = [
    "ImportResult",
    "TableWriter",
    "TextModel",
    "atomic_write",
    "fit_text_model",
    "from_arrow",
    "import_long",
    "import_routerbench",
    "read_table",
    "read_text_model",
    "response_answers",
    "response_signals",
    "text_features",
    "to_arrow",
    "write_table",
    "write_text_model",
]
