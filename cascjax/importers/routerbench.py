"""RouterBench's wide format: a score column a model (Hu et al. 2024, arXiv 2403.12031)."""

import os
import re
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float, Int32

from cascjax.data import checks
from cascjax.data.arrow import Metadata, from_arrow, list_column, with_metadata
from cascjax.errors import CascjaxError
from cascjax.features.columns import Gathered, TextOptions, gather_text, text_of
from cascjax.features.prompts import write_text_model
from cascjax.importers.base import ColumnKind, numbers, read_log, strings
from cascjax.importers.invalid import ImportResult, check_policy, settle

QUERY, PROMPT, GROUP = "sample_id", "prompt", "eval_name"
COST, RESPONSE = "|total_cost", "|model_response"

_WRAPPED = r"(?s)^\[['\"](?:\\[nrt]|\s)*(.*?)(?:\\[nrt]|\s)*['\"]\]$"
"""RouterBench keeps a response as Python prints a list of it, its white space escaped."""
_ITEM = r"""'([^'\\]*(?:\\.[^'\\]*)*)'|"([^"\\]*(?:\\.[^"\\]*)*)\""""
_LIST = re.compile(rf"\[(?:{_ITEM})(?:,\s*(?:{_ITEM}))*\]", re.DOTALL)
_ESCAPE = re.compile(r"\\(x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8}|.)", re.DOTALL)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t"}


def import_routerbench(
    path: str | os.PathLike[str],
    on_bad: str = "fail",
    features: str | None = None,
    text_model: str | os.PathLike[str] | None = None,
    n_components: int | None = None,
    signals: Mapping[str, str] | None = None,
) -> ImportResult:
    r"""Import RouterBench's table from parquet, Arrow, CSV or pickle; costs in USD.

    Without text features, the column `answer` gives two models of a query the same number just
    where their responses are equal but for surrounding white space, also where RouterBench wraps
    them: "['A']" is "['A\n']". With them, where they answer the same by the rules of
    `cascjax.features.answers`: "A" is "A. Because ..." where the prompt has such options, and
    programs are equal but for names and comments. Scores are in no feature, signal or answer.

    Args:
        path: a file with the columns sample_id, "<model>" and "<model>|total_cost", and maybe
            prompt, eval_name and "<model>|model_response"; models keep the order of their score
            columns.
        on_bad: "fail" refuses a file with missing scores or costs, or with repeated ids; "drop"
            leaves out the rows without, then all but the first of each id. With text features a
            row without a prompt is missing too.
        features: "text" adds features of the prompts and signals of the responses, as of
            `cascjax.features.prompts` and `cascjax.features.answers`.
        text_model: the file of the text model: read where it exists, else fitted on the prompts of
            all rows and written.
        n_components: directions the words are reduced to; by default 32, or as in `text_model`.
        signals: further signals by name, the numbers in the columns "<model>|<this>": {"logprob":
            "mean_logprob"}, for instance. A model that lacks the column has them missing.

    Raises:
        CascjaxError: the file cannot be read, is not in the format, has no text where that is asked
            for, or has bad rows; or the text model cannot be read or written.
    """
    check_policy(on_bad)
    options = TextOptions(features, text_model, n_components)
    source, more = os.fspath(path), dict(signals or {})
    log = read_log(path, lambda names: _choose(names, source, features is not None, more))
    models = [name for name in log.column_names if name + COST in log.column_names]
    quality = np.stack([numbers(log[model]) for model in models], axis=1)
    cost = np.stack([numbers(log[model + COST]) for model in models], axis=1)
    for k, model in enumerate(models):
        checks.check_not_negative(cost[:, [k]], source, model + COST, (model,))

    ids = log[QUERY]
    complete = np.isfinite(quality).all(axis=1) & np.isfinite(cost).all(axis=1)
    complete &= np.asarray(ids.is_valid())
    prompts: list[str] = []
    has_prompt = np.ones(log.num_rows, bool)
    if features is not None:
        prompts = [_unwrapped(prompt) for prompt in text_of(log[PROMPT])]
        has_prompt = np.array([bool(prompt.strip()) for prompt in prompts], bool)
        complete &= has_prompt
    codes, _ = checks.encode(ids.fill_null(""))
    repeated = checks.repeats(codes, complete)
    keep = np.flatnonzero(complete & ~repeated)
    missing = np.flatnonzero(~complete)
    settle(
        source,
        on_bad,
        missing=strings(ids, missing),
        # A file refused is described as it is: also where both rows of an id lack scores.
        repeated=strings(ids, np.flatnonzero(checks.repeats(codes, np.asarray(ids.is_valid())))),
        n_left=len(keep),
        missing_means=(
            "row",
            "rows",
            "with a score, a cost"
            + (" or the id missing" if features is None else ", the id or the prompt missing"),
        ),
        repeated_means=("row", "rows", "repeating an id"),
        never=[
            model
            for k, model in enumerate(models)
            if len(quality) and not np.isfinite(quality[:, k] + cost[:, k]).any()
        ],
    )

    columns = {"query_id": ids.take(pa.array(keep)).cast(pa.string())}
    if GROUP in log.column_names:
        groups = checks.text(log[GROUP].take(pa.array(keep)), source, GROUP)
        columns["group"] = groups.cast(pa.string()).dictionary_encode()
    columns["quality"] = list_column(quality[keep].astype(np.float32))
    columns["cost"] = list_column(cost[keep].astype(np.float32))
    gathered, model = Gathered(), None
    if features is not None:
        responses = [log[name + RESPONSE].take(pa.array(keep)) for name in models]
        model = gather_text(
            gathered,
            [prompts[row] for row in keep],
            [[_unwrapped(response) for response in text_of(of)] for of in responses],
            [prompts[row] for row in np.flatnonzero(has_prompt)],
            options,
            source,
        )
    elif any(name + RESPONSE in log.column_names for name in models):
        gathered.answer = np.ascontiguousarray(_answers(log, models)[keep])
    for name, column in more.items():
        gathered.signal_names.append(name)
        gathered.signals.append(_signal(log, models, column, source)[keep, :, None])
    columns |= gathered.columns(source)
    metadata = Metadata(
        tuple(models),
        "USD",
        features=tuple(gathered.feature_names),
        signals=tuple(gathered.signal_names),
    )
    arrow = with_metadata(pa.table(columns), metadata)
    from_arrow(arrow, source)
    if model is not None and text_model is not None:
        write_text_model(text_model, model)
    return ImportResult(
        arrow,
        n_rows=len(keep),
        n_models=len(models),
        n_missing=len(missing),
        n_repeated=int(repeated.sum()),
        n_dropped=log.num_rows - len(keep),
        n_features=len(gathered.feature_names),
        n_signals=len(gathered.signal_names),
        notes=tuple(gathered.notes),
    )


def _choose(
    names: Sequence[str], source: str, wants_text: bool, more: Mapping[str, str]
) -> dict[str, ColumnKind]:
    """The columns to read, score columns first and in their order."""
    models = [n for n in names if n + COST in names or n + RESPONSE in names]
    wanted = [QUERY, *(name.removesuffix(COST) for name in names if name.endswith(COST))]
    wanted += [model + COST for model in models]
    if len(wanted) == 1:
        raise CascjaxError(
            f"{source}: not in RouterBench's wide format: no column is named '<model>{COST}';"
            " a log of a row a query and model is for cascjax import long"
        )
    for name in wanted:
        if name not in names:
            raise CascjaxError(
                f"{source}: column {name!r} is missing; RouterBench's wide format has {QUERY},"
                f" and '<model>' and '<model>{COST}' of every model"
            )
    if wants_text:
        for name in (PROMPT, *(model + RESPONSE for model in models)):
            if name not in names:
                raise CascjaxError(
                    f"{source}: column {name!r} is missing; text features are of the column"
                    f" {PROMPT} and of '<model>{RESPONSE}' of every model"
                )
    columns: dict[str, ColumnKind] = {model: "number" for model in models}
    columns |= {model + COST: "number" for model in models}
    text = (QUERY, GROUP, *(model + RESPONSE for model in models), *[PROMPT] * wants_text)
    columns |= {name: "text" for name in text if name in names}
    for name, column in more.items():
        of_models = [f"{model}|{column}" for model in models]
        if not any(of in names for of in of_models):
            raise CascjaxError(
                f"{source}: signal {name!r}: no column is named '<model>|{column}';"
                " name what stands after the model and the bar"
            )
        for of in of_models:
            if of in columns:
                raise CascjaxError(
                    f"{source}: signal {name!r}: column {of!r} is a cost or a response; name"
                    " another"
                )
        columns |= {of: "number" for of in of_models if of in names}
    return columns


def _signal(
    log: pa.Table, models: Sequence[str], column: str, source: str
) -> Float[np.ndarray, "N K"]:
    """The numbers of "<model>|<column>", NaN where a model has none."""
    values = np.full((log.num_rows, len(models)), np.nan)
    for k, model in enumerate(models):
        if (name := f"{model}|{column}") in log.column_names:
            values[:, k] = numbers(log[name])
            checks.refuse(
                source, name, np.isinf(values[:, k]), "infinite", "leave it empty or fix it"
            )
    return values


def _unwrapped(printed: str) -> str:
    """What RouterBench keeps as Python prints a list of strings, its lines joined; else as is."""
    if not _LIST.fullmatch(printed):
        return printed
    items = (single or double for single, double in re.findall(_ITEM, printed, re.DOTALL))
    return "\n".join(_ESCAPE.sub(_unescaped, item) if "\\" in item else item for item in items)


def _unescaped(found: re.Match[str]) -> str:
    """The character that an escape of Python's stands for."""
    code = found[1]
    if len(code) > 1:
        value = int(code[1:], 16)
        return chr(value) if value < 0xD800 or 0xE000 <= value < 0x110000 else found[0]
    return _ESCAPED.get(code, code)


def _answers(log: pa.Table, models: Sequence[str]) -> Int32[np.ndarray, "N K"]:
    """One number a distinct response, over all of the file; -1 where there is none."""
    nothing = pa.chunked_array([pa.nulls(log.num_rows, pa.large_string())])
    columns = [
        log[name] if (name := model + RESPONSE) in log.column_names else nothing for model in models
    ]
    every = pa.chunked_array([chunk for column in columns for chunk in column.chunks])
    stripped = pc.call_function("utf8_trim_whitespace", [every])
    bare = pc.call_function(
        "replace_substring_regex", [stripped], pc.ReplaceSubstringOptions(_WRAPPED, r"\1")
    )
    codes = pa.chunked_array(
        [chunk.indices for chunk in bare.dictionary_encode().unify_dictionaries().chunks]
    )
    found = codes.fill_null(-1).to_numpy().astype(np.int32, copy=False)
    return np.ascontiguousarray(found.reshape(len(models), -1).T)
