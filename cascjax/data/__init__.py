"""Tables and their files: the schema, sources of rows, reading and writing."""

from cascjax.data.arrow import TableWriter, from_arrow, read_table, to_arrow, write_table
from cascjax.data.files import atomic_write

__all__ = ["TableWriter", "atomic_write", "from_arrow", "read_table", "to_arrow", "write_table"]
