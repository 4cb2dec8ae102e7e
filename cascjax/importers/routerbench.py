"""RouterBench's wide format: one score column per model (Hu et al. 2024, arXiv 2403.12031)."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int32

from cascjax.data.schema import check_not_negative, encode, repeats, strings
from cascjax.data.table import Table
from cascjax.errors import CascjaxError
from cascjax.importers.base import (
    Assembly,
    ImportResult,
    TextOptions,
    absent_cells,
    check_invalid,
    option,
)
from cascjax.importers.logs import (
    ColumnKind,
    Data,
    distinct_codes,
    name_of,
    numbers,
    optional_numbers,
    read_log,
    texts,
)
from cascjax.words import counted

QUERY, PROMPT, GROUP = "sample_id", "prompt", "eval_name"
COST, RESPONSE = "|total_cost", "|model_response"

_WRAPPED = r"(?s)^\[['\"](?:\\[nrt]|\s)*(.*?)(?:\\[nrt]|\s)*['\"]\]$"
"""A response as Python prints a list that holds it, its white space escaped."""
_ITEM = r"""'([^'\\]*(?:\\.[^'\\]*)*)'|"([^"\\]*(?:\\.[^"\\]*)*)\""""
_LIST = re.compile(rf"\[(?:{_ITEM})(?:,\s*(?:{_ITEM}))*\]", re.DOTALL)
_ESCAPE = re.compile(r"\\(x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8}|.)", re.DOTALL)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t"}


@dataclass(frozen=True, kw_only=True)
class Options(TextOptions):
    """Options of RouterBench's format."""

    extra_signals: Mapping[str, str] = option(
        "columns",
        "Numbers known once a model has run, and what follows the model and the bar in the names"
        " of their columns '<model>|COLUMN'.",
    )


def import_routerbench(data: Data, **options: Any) -> ImportResult:
    r"""Import RouterBench's table from Parquet, Arrow, CSV or pickle; costs are in USD.

    The column `answer` gives two models of a query the same number where their responses agree.
    Without text features, responses agree if they are equal but for surrounding white space, also
    where RouterBench wraps them: "['A']" is "['A\n']". With text features, they agree by the rules
    of `cascjax.features.responses`. No score enters a feature, signal or answer.

    Args:
      data: Path or table with the columns sample_id, "<model>" and "<model>|total_cost", and
        maybe prompt, eval_name and "<model>|model_response"; models keep the order of their
        score columns.
      options: Optional, by name. `invalid`: "error" refuses a file with missing scores or costs,
        or with repeated ids; "drop" drops these rows. `features="text"` adds features of the
        prompts and signals of the responses, with `text_model` (a file, read or else fitted and
        written) and `n_components`; a row without a prompt is missing too. `extra_signals`: further
        signals, a dictionary from name to the COLUMN of "<model>|COLUMN"; missing numbers, and
        models without the column, have NaN.

    Returns:
      The evaluation table, and counts of what was left out.

    Raises:
      CascjaxError: The file cannot be read, is not in the format, has no text where that is asked
        for, or has invalid rows; or the text model cannot be read or written.

    Example:
      >>> import os, tempfile
      >>> path = os.path.join(tempfile.mkdtemp(), "log.csv")
      >>> with open(path, "w") as file:
      ...     rows = ["sample_id,a,b,a|total_cost,b|total_cost", "q1,0,1,0.1,0.9"]
      ...     _ = file.write("\n".join(rows))
      >>> import_routerbench(path).table.models
      ('a', 'b')
    """
    return read(data, Options(**options))


def read(data: Data, options: Options) -> ImportResult:
    """Read RouterBench's table, as `import_routerbench`."""
    source, with_text = name_of(data), options.features is not None
    file = read_log(data, lambda names: _kinds(options, names, source))
    log = file.columns
    models = [name for name in log.column_names if name + COST in log.column_names]
    quality = np.stack([numbers(log, model) for model in models], axis=1)
    cost = np.stack([numbers(log, model + COST) for model in models], axis=1)
    for k, model in enumerate(models):
        check_not_negative(cost[:, [k]], source, model + COST, (model,))

    ids, has_id = log[QUERY], np.asarray(log[QUERY].is_valid())
    scored = np.isfinite(quality) & np.isfinite(cost)
    complete = scored.all(axis=1) & has_id
    prompts: list[str] = []
    has_prompt = np.ones(log.num_rows, bool)
    if with_text:
        prompts = [unwrap(prompt) for prompt in texts(log[PROMPT])]
        has_prompt = np.array([bool(prompt.strip()) for prompt in prompts], bool)
        complete &= has_prompt
    codes, _ = distinct_codes(ids.fill_null(""))
    repeated = repeats(codes, complete)
    keep, missing = np.flatnonzero(complete & ~repeated), np.flatnonzero(~complete)
    nouns = "row", "rows"
    lacking = "without a score, a cost" + (", a prompt or an id" if with_text else " or an id")

    def ids_of(rows: np.ndarray) -> list[str]:
        return [str(value) for value in ids.take(pa.array(rows)).to_pylist()]

    cells = {"without a score": ~np.isfinite(quality)}
    cells["without a cost"] = ~scored & np.isfinite(quality)
    absent = absent_cells(models, cells, has_id & has_prompt)
    check_invalid(
        source,
        options.invalid,
        [
            (ids_of(missing), nouns, lacking),
            # A refused file is described as it is: also where both rows of an id lack scores.
            (ids_of(np.flatnonzero(repeats(codes, has_id))), nouns, "repeating an id"),
        ],
        len(keep),
        absent,
    )

    columns: dict[str, Any] = {"models": tuple(models), "cost_unit": "USD"}
    kept = ids.take(pa.array(keep)).cast(pa.string()).combine_chunks()
    if GROUP in log.column_names:
        groups = strings(log[GROUP].take(pa.array(keep)), source, GROUP)
        columns["group"], columns["groups"] = encode(groups)
    made = Assembly(source, kept, Table(quality[keep], cost[keep], **columns))
    made.notes += [*file.notes, *([absent[0].upper() + absent[1:]] if absent else [])]
    if repeated.any():
        first = np.zeros(codes.max() + 1, np.int64)
        first[codes[keep]] = keep
        rows, values = np.flatnonzero(repeated), np.hstack([quality, cost])
        differ = (values[rows] != values[first[codes[rows]]]).any(axis=1)
        made.notes.append(
            f"{counted(len(rows), 'row repeats', 'rows repeat')} an id,"
            f" {np.count_nonzero(differ):,} of them with another score or cost than the row kept,"
            " the first"
        )
    if with_text:
        responses = [log[model + RESPONSE].take(pa.array(keep)) for model in models]
        made.add_text(
            [prompts[row] for row in keep],
            [[unwrap(response) for response in texts(each)] for each in responses],
            [prompts[row] for row in np.flatnonzero(has_prompt)],
            options,
        )
    elif any(model + RESPONSE in log.column_names for model in models):
        made.answer = np.ascontiguousarray(_answers(log, models)[keep])
    for name, column in options.extra_signals.items():
        values = np.full((log.num_rows, len(models)), np.nan)
        for k, model in enumerate(models):
            if f"{model}|{column}" in log.column_names:
                values[:, k] = optional_numbers(log, f"{model}|{column}", source)
        made.signals.append(([name], values[keep, :, None]))
    return made.finish(len(missing), int(repeated.sum()), log.num_rows - len(keep))


def _kinds(options: Options, present: Sequence[str], source: str) -> dict[str, ColumnKind]:
    """Return the columns to read, score columns first and in their order."""
    models = [n for n in present if n + COST in present or n + RESPONSE in present]
    required = [QUERY, *(name.removesuffix(COST) for name in present if name.endswith(COST))]
    required += [model + COST for model in models]
    if len(required) == 1:
        raise CascjaxError(
            f"{source}: not in RouterBench's wide format: no column is named '<model>{COST}'; a"
            " file with one row per query and model is a long log"
        )
    needed = f"RouterBench's wide format has {QUERY}, and '<model>' and '<model>{COST}' per model"
    if options.features is not None:
        required += [PROMPT, *(model + RESPONSE for model in models)]
        needed += f"; text features need {PROMPT}, and '<model>{RESPONSE}' per model"
    for name in required:
        if name not in present:
            raise CascjaxError(f"{source}: column {name!r} is missing; {needed}")
    columns: dict[str, ColumnKind] = {model: "quality" for model in models}
    columns |= {model + COST: "cost" for model in models}
    text = [QUERY, GROUP, *(model + RESPONSE for model in models)]
    text += [PROMPT] * (options.features is not None)
    columns |= {name: "text" for name in text if name in present}
    for name, column in options.extra_signals.items():
        signals = {f"{model}|{column}": "number" for model in models}
        if taken := [signal for signal in signals if signal in columns]:
            raise CascjaxError(
                f"{source}: signal {name!r}: column {taken[0]!r} is a cost or a response; name"
                " another column"
            )
        if not any(signal in present for signal in signals):
            raise CascjaxError(
                f"{source}: signal {name!r}: no column is named '<model>|{column}'; name what"
                " follows the model and the bar"
            )
        columns |= {signal: "number" for signal in signals if signal in present}
    return columns


def unwrap(printed: str) -> str:
    """Return the lines of a list of strings as Python prints it; other text as it is."""
    if not _LIST.fullmatch(printed):
        return printed
    items = (single or double for single, double in re.findall(_ITEM, printed, re.DOTALL))
    return "\n".join(_ESCAPE.sub(_unescaped, item) if "\\" in item else item for item in items)


def _unescaped(match: re.Match[str]) -> str:
    """Return the character that an escape sequence of Python stands for."""
    code = match[1]
    if len(code) > 1:
        value = int(code[1:], 16)
        return chr(value) if value < 0xD800 or 0xE000 <= value < 0x110000 else match[0]
    return _ESCAPED.get(code, code)


def _answers(log: pa.Table, models: Sequence[str]) -> Int32[np.ndarray, "N K"]:
    """Return one number per distinct response of the file; -1 where there is none."""
    nothing = pa.chunked_array([pa.nulls(log.num_rows, pa.large_string())])
    columns = [
        log[name] if (name := model + RESPONSE) in log.column_names else nothing for model in models
    ]
    responses = pa.chunked_array([chunk for column in columns for chunk in column.chunks])
    stripped = pc.call_function("utf8_trim_whitespace", [responses])
    bare = pc.call_function(
        "replace_substring_regex", [stripped], pc.ReplaceSubstringOptions(_WRAPPED, r"\1")
    )
    chunks = bare.dictionary_encode().unify_dictionaries().chunks
    codes = pa.chunked_array([chunk.indices for chunk in chunks]).fill_null(-1).to_numpy()
    return np.ascontiguousarray(codes.astype(np.int32, copy=False).reshape(len(models), -1).T)
