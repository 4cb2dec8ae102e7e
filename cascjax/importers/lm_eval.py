"""Samples of EleutherAI's lm-evaluation-harness: files samples_<task>_<time>.jsonl.

Fields are those that lm_eval/evaluator.py of https://github.com/EleutherAI/lm-evaluation-harness
collects, and folders those of lm_eval/loggers/evaluation_tracker.py: one folder per model, with
results_<time>.json beside the samples, whose model_name is the name before it became a folder's.
"""

import functools
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from cascjax.errors import CascjaxError, unknown_name
from cascjax.importers.base import ImportResult, option
from cascjax.importers.logs import Data, find_logs
from cascjax.importers.records import Record, RecordOptions, decode_file, only, read_records
from cascjax.importers.scan import blocks, value_at

_NAME = re.compile(r"samples_(?P<task>.+)_(?P<time>\d{4}-\d\d-\d\dT[\d.-]+)\.jsonl$")


@dataclass(frozen=True, kw_only=True)
class Options(RecordOptions):
    """Options of the harness's samples."""

    metric: str | None = option(
        "text", "Metric that is the quality, such as exact_match. [default: the only one]"
    )
    filter: str | None = option(
        "text", "Filter of the responses, such as strict-match. [default: the only one]"
    )


class _Results(msgspec.Struct):
    model_name: str | None = None


def read(data: Data, options: Options) -> ImportResult:
    """Read samples; the task is the group. The harness logs neither costs nor tokens."""
    latest: dict[tuple[str, str], str] = {}
    for path in find_logs(data, ("samples_*.jsonl",)):
        folder, task = os.path.dirname(path), _task(path)
        latest[folder, task] = max(latest.get((folder, task), ""), path)
    records = functools.partial(_records, options=options)
    return read_records(sorted(latest.values()), options, records)


def _task(path: str) -> str:
    match = _NAME.search(os.path.basename(path))
    return match["task"] if match else os.path.basename(path).removesuffix(".jsonl")


def _model(path: str) -> str:
    """Return the model's name, from the results beside the samples or from their folder."""
    folder, name = os.path.split(path)
    match = _NAME.search(name)
    results = os.path.join(folder, f"results_{match['time']}.json") if match else ""
    if os.path.exists(results):
        model = decode_file(results, _Results).model_name
        if model:
            return model
    return os.path.basename(os.path.abspath(folder))


def _records(path: str, options: Options) -> Iterator[Record]:
    task, model = _task(path), _model(path)
    row, filters, metric = 0, set[str](), options.metric
    with open(path, "rb") as file:
        for samples, _ in blocks(file.read, path, strict=True):
            for sample in samples:
                where = f"{path}: row {row}"
                row += 1
                if not isinstance(sample, dict) or "doc_id" not in sample:
                    raise CascjaxError(f"{where}: field 'doc_id' is missing; it is no sample")
                name = str(sample.get("filter", "none"))
                if options.filter is not None and name != options.filter:
                    filters.add(name)
                    continue
                filters.add(name)
                only(sorted(filters), options.filter, "filter", where)
                metrics = _metrics(sample)
                metric = only(metrics, metric, "metric", where)
                if metric not in sample:
                    raise CascjaxError(f"{where}: {unknown_name('metric', str(metric), metrics)}")
                yield {
                    "query": f"{task}/{sample['doc_id']}",
                    "model": model,
                    "group": task,
                    "quality": sample[metric],
                    "prompt": _first(sample, "arguments.gen_args_0.arg_0", "arguments.0.0"),
                    "response": _first(sample, "filtered_resps.0.0", "filtered_resps.0"),
                }
    if options.filter is not None and options.filter not in filters and filters:
        raise CascjaxError(f"{path}: {unknown_name('filter', options.filter, sorted(filters))}")


def _metrics(sample: dict[str, Any]) -> list[str]:
    """Return the metrics of a sample: as listed, else every number that is no other field."""
    if isinstance(listed := sample.get("metrics"), list):
        return [str(name) for name in listed]
    numbers = (name for name, value in sample.items() if isinstance(value, int | float))
    return [name for name in numbers if name != "doc_id"]


def _first(sample: dict[str, Any], *paths: str) -> Any:
    """Return the first value that is at one of the paths, of harness versions."""
    for path in paths:
        try:
            value = value_at(sample, path)
        except TypeError:
            continue
        if value is not None:
            return value
    return None
