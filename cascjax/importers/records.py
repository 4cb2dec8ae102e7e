"""Named formats: a function from a file to records, and what all of them share.

A record is a dictionary with the fields `query`, `model` and `quality`, and any others of `KINDS`.
"""

import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import pyarrow as pa

from cascjax.data.prices import TOKENS
from cascjax.errors import CascjaxError, first_line, one_line
from cascjax.importers import long
from cascjax.importers.base import ImportResult
from cascjax.importers.logs import Data, Part, converted, find_logs, name_of
from cascjax.importers.text import Columns

Record = Mapping[str, Any]

EXTRA_COSTS = ("seconds", "calls")
TEXTS = ("prompt", "response")
KINDS = {
    **dict.fromkeys(("query", "model", "group", *TEXTS), "text"),
    "quality": "quality",
    **dict.fromkeys(("cost", *TOKENS, *EXTRA_COSTS), "cost"),
    "time": "time",
}
"""Fields of a record, and their kinds; counts of tokens are named as in `cascjax.data.prices`."""

_BATCH = 4096  # Records that become columns at once


@dataclass(frozen=True, kw_only=True)
class RecordOptions(long.PivotOptions):
    """Options of every named format."""


def read_records(
    data: Data,
    options: RecordOptions,
    records: Callable[[str], Iterable[Record]],
    *,
    names: tuple[str, ...] = ("*.json",),
    nested: bool = True,
) -> ImportResult:
    """Return the table of the records of files.

    Args:
      data: Path, folder, pattern, or a list of paths.
      options: Options of the format.
      records: Reads the records of a file.
      names: Patterns of the names of files that are taken from folders.
      nested: Whether cached and reasoning tokens are among input and output tokens.
    """
    with_text = options.features is not None
    kinds = {name: kind for name, kind in KINDS.items() if with_text or name not in TEXTS}
    parts: list[Part] = []
    present: set[str] = set()
    for path in find_logs(data, names):
        columns, batch = Columns(kinds), list[Record]()
        with one_line(f"cannot read {path}"):
            for record in records(path):
                batch.append(record)
                if len(batch) == _BATCH:
                    present |= _add(columns, batch)
                    batch = []
            present |= _add(columns, batch)
        parts.append(Part(path, pa.table(columns.finish()), kinds))
    log = converted(parts, {})
    shared = {each.name: getattr(options, each.name) for each in _SHARED}
    tokens = {kind: kind for kind in TOKENS if kind in present}
    priced = options.prices is not None or options.strong is not None
    if not priced and "cost" not in present:
        lacking = "counts of tokens but no costs" if tokens else "no costs"
        raise CascjaxError(
            f"{name_of(data)}: the log has {lacking}; give prices=FILE, of tokens or of calls, or"
            " strong=MODEL, whose share of calls is the cost"
        )
    if not priced:
        shared["cost_unit"] = options.cost_unit or "USD"  # of all formats that have costs
    columns = {name: name for name in ("group", *TEXTS) if name in present}
    chosen = long.Options(
        query="query",
        model="model",
        quality="quality",
        cost=None if priced else "cost",
        tokens=tokens,
        token_counts="nested" if nested else "separate",
        time="time" if "time" in present and options.prices is not None else None,
        extra_costs={name: name for name in EXTRA_COSTS if name in present},
        **columns,
        **shared,
    )
    log = dataclasses.replace(log, columns=log.columns.select(sorted(present)))
    return long.pivot(log, chosen, name_of(data))


_SHARED = dataclasses.fields(long.PivotOptions)


def _add(columns: Columns, batch: list[Record]) -> set[str]:
    """Append records; return the fields that have a value in any of them."""
    present = set()
    for name in columns.kinds:
        values = [record.get(name) for record in batch]
        columns.add_values(name, values)
        if any(value is not None for value in values):
            present.add(name)
    return present


def decode(content: bytes | memoryview, kind: Any, where: str) -> Any:
    """Return JSON as a msgspec.Struct; errors name the record and the field."""
    try:
        try:
            return msgspec.json.decode(content, type=kind, strict=False)
        except msgspec.ValidationError:
            raise
        except msgspec.DecodeError:  # NaN, as Python writes it
            return msgspec.convert(json.loads(bytes(content)), kind, strict=False)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at ")
        field = path.strip("`").removeprefix("$").lstrip(".") or "the file"
        raise CascjaxError(f"{where}: {field}: {text[:1].lower()}{text[1:]}") from None
    except json.JSONDecodeError as error:
        raise CascjaxError(
            f"cannot read {where}: line {error.lineno}, column {error.colno} is not JSON"
            f" ({error.msg}); it may be cut short"
        ) from None
    except RecursionError:
        raise CascjaxError(f"cannot read {where}: its JSON is nested too deeply") from None
    except (UnicodeDecodeError, msgspec.DecodeError) as error:
        raise CascjaxError(f"cannot read {where}: it is not JSON ({first_line(error)})") from None


def decode_file(path: str, kind: Any) -> Any:
    """Return a file of JSON as a msgspec.Struct."""
    if os.path.getsize(path) == 0:
        raise CascjaxError(f"cannot read {path}: it is empty")
    with pa.memory_map(path) as file:
        return decode(memoryview(file.read_buffer()), kind, path)


def only(known: Iterable[str], chosen: str | None, what: str, where: str) -> str | None:
    """Return the chosen name, or the only one that is known; refuse a choice that is left open."""
    names = list(dict.fromkeys(known))
    if chosen is not None or not names:
        return chosen
    if len(names) > 1:
        listed = ", ".join(map(repr, names[:8]))
        raise CascjaxError(f"{where}: several {what}s: {listed}; choose one with {what}='NAME'")
    return names[0]
