"""Files in and out: evaluation tables, and the logs they are imported from."""

from cascjax.io.arrow import TableWriter, from_arrow, read_table, to_arrow, write_table
from cascjax.io.bad_rows import ImportResult
from cascjax.io.files import atomic_write
from cascjax.io.longform import import_long
from cascjax.io.routerbench import import_routerbench

__all__ = [
    "ImportResult",
    "TableWriter",
    "atomic_write",
    "from_arrow",
    "import_long",
    "import_routerbench",
    "read_table",
    "to_arrow",
    "write_table",
]
