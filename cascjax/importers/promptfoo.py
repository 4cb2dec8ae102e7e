"""Results of promptfoo: the JSON of `promptfoo eval`, written with its option for an output file.

Fields are those of EvaluateResult and EvaluateSummary in src/types/index.ts of
https://github.com/promptfoo/promptfoo: results.results holds one record per test, prompt and
provider. A provider under one of several prompts is a model of its own.
"""

import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from cascjax.errors import CascjaxError, unknown_name
from cascjax.importers.base import ImportResult, option
from cascjax.importers.logs import Data
from cascjax.importers.records import Record, RecordOptions, decode_file, read_records

_ERROR = 2  # failureReason of a call that failed, unlike one whose answer was judged


@dataclass(frozen=True, kw_only=True)
class Options(RecordOptions):
    """Options of promptfoo's results."""

    metric: str = option(
        "text", "Quality: score, success, or the name of a named score.", default="score"
    )


class _Tokens(msgspec.Struct):
    prompt: float | None = None
    completion: float | None = None


class _Response(msgspec.Struct):
    output: Any = None
    cost: float | None = None
    tokenUsage: _Tokens | None = None  # noqa: N815


class _Named(msgspec.Struct):
    id: str = ""
    label: str | None = None
    raw: Any = None


class _TestCase(msgspec.Struct):
    description: str | None = None


class _Result(msgspec.Struct):
    provider: _Named | str
    prompt: _Named
    vars: dict[str, Any] = {}  # msgspec copies it
    testCase: _TestCase | None = None  # noqa: N815
    response: _Response | None = None
    success: bool | None = None
    score: float | None = None
    namedScores: dict[str, float] = {}  # noqa: N815, msgspec copies it
    failureReason: int | None = None  # noqa: N815
    cost: float | None = None
    latencyMs: float | None = None  # noqa: N815


class _Summary(msgspec.Struct):
    results: list[_Result]


class _Output(msgspec.Struct):
    results: _Summary | list[_Result]


def read(data: Data, options: Options) -> ImportResult:
    """Read results; a query is a test: its description and variables. Costs are in USD."""
    return read_records(data, options, functools.partial(_records, options=options))


def _records(path: str, options: Options) -> Iterator[Record]:
    content = decode_file(path, _Output).results
    results = content if isinstance(content, list) else content.results
    prompts = {_label(result.prompt) for result in results}
    for i, result in enumerate(results):
        provider = result.provider
        model = provider if isinstance(provider, str) else provider.label or provider.id
        if len(prompts) > 1:
            model = f"{model} | {_label(result.prompt)}"
        response = result.response or _Response()
        tokens = response.tokenUsage or _Tokens()
        failed = result.failureReason == _ERROR
        yield {
            "query": _query(result),
            "model": model,
            "quality": None if failed else _quality(result, options.metric, f"{path}: row {i}"),
            "cost": result.cost if response.cost is None else response.cost,
            "input": tokens.prompt,
            "output": tokens.completion,
            "prompt": _text(result.prompt.raw),
            "response": _text(response.output),
            "seconds": None if result.latencyMs is None else result.latencyMs / 1000,
        }


def _label(prompt: _Named) -> str:
    return prompt.label or str(prompt.id)


def _query(result: _Result) -> str:
    """Return the identity of a test."""
    variables = {name: value for name, value in result.vars.items() if name != "sessionId"}
    about = result.testCase.description if result.testCase is not None else None
    texts = [about] if about else []
    if variables or not about:
        only = next(iter(variables.values())) if len(variables) == 1 else None
        plain = only if isinstance(only, str) else json.dumps(variables, sort_keys=True)
        texts.append(plain)
    return " | ".join(texts)


def _quality(result: _Result, metric: str, where: str) -> Any:
    if metric in ("score", "success"):
        return getattr(result, metric)
    if metric not in result.namedScores:
        known = ("score", "success", *result.namedScores)
        raise CascjaxError(f"{where}: {unknown_name('metric', metric, known)}")
    return result.namedScores[metric]


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value)
