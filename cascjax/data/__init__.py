"""Evaluation tables and their files: the schema, sources of rows, reading and writing."""

from cascjax.data import frames as frames  # which enters the conversions of a table
from cascjax.data.files import TableWriter, atomic_write, read_ids, read_table, write_table
from cascjax.data.schema import from_arrow, to_arrow

__all__ = [
    "TableWriter",
    "atomic_write",
    "from_arrow",
    "read_ids",
    "read_table",
    "to_arrow",
    "write_table",
]
