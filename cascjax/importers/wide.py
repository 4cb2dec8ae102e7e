"""Wide logs: one row per query, and one column of scores per model."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from cascjax.importers import long
from cascjax.importers.base import ImportResult, option
from cascjax.importers.logs import MODEL, ROW, Data


@dataclass(frozen=True, kw_only=True)
class Options(long.Options):
    """Columns of a wide log; names of columns per model contain "{model}"."""

    query: str | None = option("column", "Column with the id of the query. [default: row number]")
    model: str | None = None
    models: Sequence[str] = option(
        "names", "Models to read, where columns are named by models. [default: all]"
    )
    quality: str = option(
        "column", "Columns with the quality of each model's answer.", default=MODEL
    )
    cost: str | None = option(
        "column",
        "Columns with the cost of each model's answer, such as '{model}|total_cost'. [default:"
        " from tokens and prices]",
    )


def read(data: Data, options: Options) -> ImportResult:
    """Read a wide log."""
    query = options.query or ROW
    return long.read(data, dataclasses.replace(options, query=query, model=long.MELTED))
