"""Streams."""

import glob
from collections.abc import Sequence
from pathlib import Path


def is_stream(tables: Sequence[Path]) -> bool:
    """Whether these words are to be read as a stream and not as one table."""
    if len(tables) != 1:
        return True
    return tables[0].is_dir() or (not tables[0].exists() and glob.has_magic(str(tables[0])))
