"""How a study prints, its data frame, its picture and its files; see `cascjax.results`."""

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cascjax.comparison import Study
from cascjax.data.files import atomic_write
from cascjax.report.findings import frame, summary, to_json
from cascjax.report.html import render
from cascjax.report.pictures import plot

__all__ = ["frame", "plot", "save", "summary"]


def save(
    study: Study,
    folder: Path,
    command: str = "",
    more: Mapping[str, object] | None = None,
    texts: Mapping[str, str] | None = None,
    tuning: Mapping[str, Any] | None = None,
) -> Path:
    """Write frontier.parquet, summary.json and report.html; an error or interrupt leaves none.

    The folder must exist. `command` is the command line that made it, `more` are further entries
    of summary.json, `texts` further files by name, and `tuning` is passed to the page; returns the
    path of the report.
    """
    rows = pa.Table.from_pandas(frame(study), preserve_index=False).replace_schema_metadata()
    rows = rows.set_column(0, "strategy", rows["strategy"].cast(pa.string()))
    numbers = json.dumps(to_json(study) | dict(more or {}), indent=2, allow_nan=False)
    contents = {
        "summary.json": f"{numbers}\n",
        "report.html": render(study, command, tuning),
        **(texts or {}),
    }
    # All are finished before the first of them is moved into place.
    with ExitStack() as files:
        pq.write_table(rows, files.enter_context(atomic_write(folder / "frontier.parquet")))
        for name, content in contents.items():
            file = files.enter_context(atomic_write(folder / name))
            file.write_text(content, encoding="utf-8")
    return folder / "report.html"
