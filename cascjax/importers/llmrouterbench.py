"""Results of LLMRouterBench: one JSON file per dataset, split and model.

Fields and folders are those that data_collector/storage.py of
https://github.com/ynulihao/LLMRouterBench writes (arXiv 2601.07206):
bench/<dataset>/<split>/<model>/<dataset>-<split>-<model>-<time>.json. As there, demonstration
runs are left out, and the latest run of a dataset, split and model is taken.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from cascjax.importers.base import ImportResult
from cascjax.importers.logs import Data, find_logs
from cascjax.importers.records import Record, RecordOptions, decode_file, read_records

_TIME = re.compile(r"-(\d{8}_\d{6})\.json$")


@dataclass(frozen=True, kw_only=True)
class Options(RecordOptions):
    """Options of LLMRouterBench's format."""


class _Result(msgspec.Struct):
    index: int | str
    score: Any = None
    cost: float | None = None
    prompt_tokens: float | None = None
    completion_tokens: float | None = None
    origin_query: Any = None
    raw_output: Any = None


class _Run(msgspec.Struct):
    model_name: str
    dataset_name: str
    records: list[_Result]
    split: str = ""
    demo: bool = False


def read(data: Data, options: Options) -> ImportResult:
    """Read results; the dataset is the group, costs are in USD."""
    latest: dict[str, str] = {}
    for path in find_logs(data, ("*.json",)):
        run = _TIME.sub("", path)  # the same for all runs of a dataset, split and model
        latest[run] = max(latest.get(run, path), path, key=_time)
    return read_records(list(latest.values()), options, _records)


def _time(path: str) -> str:
    match = _TIME.search(path)
    return match[1] if match else ""


def _records(path: str) -> Iterator[Record]:
    run = decode_file(path, _Run)
    for result in run.records if not run.demo else ():
        yield {
            "query": "/".join(filter(None, (run.dataset_name, run.split, str(result.index)))),
            "model": run.model_name,
            "group": run.dataset_name,
            "quality": result.score,
            "cost": result.cost,
            "input": result.prompt_tokens,
            "output": result.completion_tokens,
            "prompt": result.origin_query,
            "response": result.raw_output,
        }
