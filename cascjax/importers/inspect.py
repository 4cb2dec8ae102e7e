"""Logs of Inspect (UK AI Security Institute): .eval archives, and their form as JSON.

An archive is a zip file with header.json or _journal/start.json, which name the task and the model,
and samples/<id>_epoch_<n>.json; as JSON, a log is one object with "eval" and "samples". Fields are
those of https://inspect.aisi.org.uk/reference/inspect_ai.log.html, and counts of tokens those of
ModelUsage, where input_tokens excludes cached tokens. Epochs are draws. The values C, P, I and N
are read as 1, 0.5, 0 and 0, as Inspect's own metrics read them.
"""

import contextlib
import functools
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from cascjax.errors import CascjaxError, first_line
from cascjax.importers.base import ImportResult, option
from cascjax.importers.logs import Data
from cascjax.importers.records import Record, RecordOptions, decode, decode_file, only, read_records

MEMBER = 1 << 28
"""Largest number of bytes of a sample; a larger one is refused as a decompression bomb."""

_HEADERS = ("header.json", "_journal/start.json", "start.json")
_SAMPLE = re.compile(r"samples/(?P<id>.*)_epoch_(?P<epoch>\d+)\.json")
_FLOATS = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}


@dataclass(frozen=True, kw_only=True)
class Options(RecordOptions):
    """Options of Inspect's logs."""

    scorer: str | None = option(
        "text",
        "Scorer that gives the quality, or scorer.key where it gives several. [default: the only"
        " one]",
    )


class _Usage(msgspec.Struct):
    input_tokens: float = 0
    output_tokens: float = 0
    input_tokens_cache_write: float | None = None
    input_tokens_cache_read: float | None = None
    reasoning_tokens: float | None = None
    total_cost: float | None = None


class _Score(msgspec.Struct):
    value: Any = None


class _Output(msgspec.Struct):
    completion: str | None = None
    choices: list[dict[str, Any]] = []  # msgspec copies it


class _Sample(msgspec.Struct):
    id: int | str
    epoch: int = 1
    input: Any = None
    output: _Output | None = None
    scores: dict[str, _Score] | None = None
    model_usage: dict[str, _Usage] = {}  # msgspec copies it
    total_time: float | None = None
    started_at: str | None = None


class _Eval(msgspec.Struct):
    task: str
    model: str


class _Header(msgspec.Struct):
    eval: _Eval


class _Log(msgspec.Struct):
    eval: _Eval
    samples: list[_Sample] | None = None


def read(data: Data, options: Options) -> ImportResult:
    """Read logs; the task is the group, costs are in USD where a log has them."""
    records = functools.partial(_records, options=options)
    return read_records(data, options, records, names=("*.eval", "*.json"), nested=False)


def _records(path: str, options: Options) -> Iterator[Record]:
    with open(path, "rb") as file:
        archive = file.read(2) == b"PK" or path.endswith(".eval")
    if not archive:
        log = decode_file(path, _Log)
        for i, sample in enumerate(log.samples or ()):
            yield _record(log.eval, sample, options, f"{path}: samples[{i}]")
        return
    with _whole(path), zipfile.ZipFile(path) as zipped:
        names = set(zipped.namelist())
        header = next((name for name in _HEADERS if name in names), None)
        if header is None:
            raise CascjaxError(f"cannot read {path}: it has none of {', '.join(_HEADERS)}")
        about = decode(_member(zipped, header, path), _Header, f"{path}: {header}").eval
        samples = (match for match in map(_SAMPLE.fullmatch, names) if match)
        for match in sorted(samples, key=lambda each: (each["id"], int(each["epoch"]))):
            where = f"{path}: {match[0]}"
            sample = decode(_member(zipped, match[0], path), _Sample, where)
            yield _record(about, sample, options, where)


@contextlib.contextmanager
def _whole(path: str) -> Iterator[None]:
    """Turn errors about an archive into one line."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise CascjaxError(
            f"cannot read {path}: the archive is damaged or cut short ({first_line(error)}); copy"
            " it again"
        ) from None
    except (NotImplementedError, RuntimeError) as error:
        raise CascjaxError(
            f"cannot read {path}: {first_line(error)}; convert it to JSON with"
            " 'inspect log convert'"
        ) from None


def _member(zipped: zipfile.ZipFile, name: str, path: str) -> bytes:
    """Return a file of an archive, never more than `MEMBER` bytes, whatever its header claims."""
    with zipped.open(name) as file:
        content = file.read(MEMBER + 1)
    if len(content) > MEMBER:
        raise CascjaxError(
            f"cannot read {path}: {name} holds more than {MEMBER:,} bytes; is it a zip bomb?"
        )
    return content


def _record(about: _Eval, sample: _Sample, options: Options, where: str) -> Record:
    usage = sample.model_usage.get(about.model)
    if usage is None and len(sample.model_usage) == 1:
        usage = next(iter(sample.model_usage.values()))
    output = sample.output
    return {
        "query": f"{about.task}/{sample.id}",
        "model": about.model,
        "group": about.task,
        "quality": _quality(sample.scores or {}, options, where),
        "prompt": _text(sample.input),
        "response": None if output is None else output.completion or _choice(output),
        "seconds": sample.total_time,
        "time": sample.started_at,
        **({} if usage is None else _tokens(usage)),
    }


def _tokens(usage: _Usage) -> dict[str, Any]:
    reasoning = min(usage.reasoning_tokens or 0, usage.output_tokens)
    return {
        "input": usage.input_tokens,
        "cached": usage.input_tokens_cache_read,
        "cache_write": usage.input_tokens_cache_write,
        "output": usage.output_tokens - reasoning,
        "reasoning": None if usage.reasoning_tokens is None else reasoning,
        "cost": usage.total_cost,
    }


def _quality(scores: Mapping[str, _Score], options: Options, where: str) -> Any:
    name, _, key = (options.scorer or "").partition(".")
    if options.scorer in scores:
        name, key = options.scorer or "", ""
    scorer = only(scores, name or None, "scorer", where) or ""
    if not scores:  # the sample failed
        return None
    if scorer not in scores:
        raise CascjaxError(f"{where}: no score of {scorer!r}; scorers are {', '.join(scores)}")
    value = scores[scorer].value
    if isinstance(value, dict):
        key = only(value, key or None, "scorer", f"{where}: {scorer}")
        if key not in value:
            raise CascjaxError(f"{where}: {scorer!r} gives {', '.join(value)}, not {key!r}")
        value = value[key]
    return _FLOATS.get(value, value) if isinstance(value, str) else value


def _text(content: Any) -> str | None:
    """Return the text of an input: of messages, those of the user."""
    if not isinstance(content, list):
        return content
    said = [m for m in content if isinstance(m, dict) and m.get("role") == "user"]
    return "\n".join(_parts(message.get("content")) for message in said)


def _choice(output: _Output) -> str:
    message = output.choices[0].get("message") if output.choices else None
    return _parts(message.get("content")) if isinstance(message, dict) else ""


def _parts(content: Any) -> str:
    """Return the text of a message, which may have several parts."""
    if isinstance(content, list):
        return "\n".join(str(p.get("text", "")) for p in content if isinstance(p, dict))
    return content if isinstance(content, str) else ""
