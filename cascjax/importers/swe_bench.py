"""Results of SWE-bench agents: maps of instances, leaderboards, and reports of the harness.

Three layouts are read: {agent: {instance: {"resolved": ..., "cost": ..., "api_calls": ...}}}; the
leaderboards of https://github.com/SWE-bench/swe-bench.github.io (data/leaderboards.json), whose
entries hold such a map in "per_instance_details"; and reports of
https://github.com/SWE-bench/SWE-bench, <agent>.<run>.json with "submitted_ids" and "resolved_ids",
which have no costs. The repository of an instance, before its number, is its group.
"""

import functools
import os
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from cascjax.errors import CascjaxError, unknown_name
from cascjax.importers.base import ImportResult, option
from cascjax.importers.logs import Data
from cascjax.importers.records import Record, RecordOptions, decode_file, only, read_records


@dataclass(frozen=True, kw_only=True)
class Options(RecordOptions):
    """Options of SWE-bench's results."""

    leaderboard: str | None = option(
        "text", "Leaderboard to read, such as Verified. [default: the only one with instances]"
    )


class _Instance(msgspec.Struct):
    resolved: bool
    cost: float | None = None
    api_calls: float | None = None


class _Entry(msgspec.Struct):
    name: str
    per_instance_details: dict[str, _Instance] | None = None


class _Board(msgspec.Struct):
    name: str
    results: list[_Entry]


class _Boards(msgspec.Struct):
    leaderboards: list[_Board]


class _Report(msgspec.Struct):
    submitted_ids: list[str]
    resolved_ids: list[str]


def read(data: Data, options: Options) -> ImportResult:
    """Read results; costs are in USD."""
    return read_records(data, options, functools.partial(_records, options=options))


def _records(path: str, options: Options) -> Iterator[Record]:
    fields = set(decode_file(path, dict[str, msgspec.Raw]))
    if "leaderboards" in fields:
        boards = decode_file(path, _Boards).leaderboards
        full = {b.name: b for b in boards if any(e.per_instance_details for e in b.results)}
        name = only(full, options.leaderboard, "leaderboard", path) or ""
        if name not in full:
            raise CascjaxError(f"{path}: {unknown_name('leaderboard', name, full)}")
        agents = {e.name: e.per_instance_details or {} for e in full[name].results}
    elif "resolved_ids" in fields:
        report = decode_file(path, _Report)
        resolved = set(report.resolved_ids)
        agent = os.path.basename(path).removesuffix(".json").rpartition(".")
        agents = {agent[0] or agent[2]: {i: _Instance(i in resolved) for i in report.submitted_ids}}
    else:
        agents = decode_file(path, dict[str, dict[str, _Instance]])
    for agent, instances in agents.items():
        for name, instance in instances.items():
            yield {
                "query": name,
                "model": agent,
                "group": name.rpartition("-")[0].replace("__", "/") or name,
                "quality": instance.resolved,
                "cost": instance.cost,
                "calls": instance.api_calls,
            }
