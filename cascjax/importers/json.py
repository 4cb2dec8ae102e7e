"""Logs in JSON of any shape, by dotted paths."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from cascjax.errors import CascjaxError
from cascjax.importers import long
from cascjax.importers.base import ImportResult, option
from cascjax.importers.logs import MODEL, Data
from cascjax.importers.scan import is_capture
from cascjax.importers.text import Json

_NAMES = tuple(
    f"*.{kind}{packed}"
    for kind in ("json", "jsonl", "ndjson")
    for packed in ("", ".gz", ".bz2", ".zst")
)
QUERY = "{query}"
"""Path of the query that the key of a map names."""


@dataclass(frozen=True, kw_only=True)
class Options(long.Options):
    """Paths of a log in JSON.

    Each "column" is the dotted path of a field of the records, such as "usage.cost".
    """

    query: str | None = option(
        "column", "Path of the id of the query. [default: the key {query} of the records]"
    )
    model: str | None = option(
        "column",
        "Path of the name of the model. [default: the key {model} of the records or of the paths,"
        " or what model_from_path finds]",
    )
    models: Sequence[str] = option(
        "names", "Models to read, where columns are named by models. [default: all]"
    )
    records: str = option(
        "text",
        "Path of the records, such as data.results; keys of maps are named in braces, as in"
        " {model}.{query}. [default: recognised]",
        default="",
    )
    model_from_path: str | None = option(
        "text",
        "Regular expression whose first group is the model in the path of a file, such as"
        " '([^/]+)/[^/]+$'.",
    )

    def __post_init__(self) -> None:
        """Refuse names in braces that mean nothing."""
        super().__post_init__()
        for part in self.records.split("."):
            if is_capture(part) and part not in (MODEL, QUERY):
                raise CascjaxError(f"records: {part} is unknown; name keys {MODEL} or {QUERY}")

    @property
    def layout(self) -> Json:
        """Layout of the log."""
        return Json(self.records, only=True, names=_NAMES, all_names=bool(self.patterns))


def read(data: Data, options: Options) -> ImportResult:
    """Read a log in JSON.

    A path with "{model}" stands for one field per model: with quality="scores.{model}", the record
    {"scores": {"a": 1, "b": 0}} holds an answer of "a" and one of "b".
    """
    query = options.query or QUERY
    model = options.model or (long.MELTED if options.patterns else MODEL)
    return long.read(data, dataclasses.replace(options, query=query, model=model))
