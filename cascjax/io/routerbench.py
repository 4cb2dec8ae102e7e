"""RouterBench's wide format: a score column a model (Hu et al. 2024, arXiv 2403.12031)."""

import os
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int32

from cascjax.errors import CascjaxError
from cascjax.io import checks
from cascjax.io.arrow import Metadata, from_arrow, list_column, with_metadata
from cascjax.io.bad_rows import ImportResult, check_policy, settle
from cascjax.io.logs import ColumnKind, numbers, read_log, strings

QUERY, GROUP = "sample_id", "eval_name"
COST, RESPONSE = "|total_cost", "|model_response"

_WRAPPED = r"(?s)^\[['\"](?:\\[nrt]|\s)*(.*?)(?:\\[nrt]|\s)*['\"]\]$"
"""RouterBench keeps a response as Python prints a list of it, its white space escaped."""


def import_routerbench(path: str | os.PathLike[str], on_bad: str = "fail") -> ImportResult:
    r"""Import RouterBench's table from parquet, Arrow, CSV or pickle; costs in USD.

    The column `answer` gives two models of a query the same number just where their responses are
    equal but for surrounding white space, also where RouterBench wraps them: "['A']" is "['A\n']".

    Args:
        path: a file with the columns sample_id, "<model>" and "<model>|total_cost", and maybe
            eval_name and "<model>|model_response"; models keep the order of their score columns.
        on_bad: "fail" refuses a file with missing scores or costs, or with repeated ids; "drop"
            leaves out the rows without, then all but the first of each id.

    Raises:
        CascjaxError: the file cannot be read, is not in the format, or has bad rows.
    """
    check_policy(on_bad)
    source = os.fspath(path)
    log = read_log(path, lambda names: _choose(names, source))
    models = [name for name in log.column_names if name + COST in log.column_names]
    quality = np.stack([numbers(log[model]) for model in models], axis=1)
    cost = np.stack([numbers(log[model + COST]) for model in models], axis=1)
    for k, model in enumerate(models):
        checks.check_not_negative(cost[:, [k]], source, model + COST, (model,))

    ids = log[QUERY]
    complete = np.isfinite(quality).all(axis=1) & np.isfinite(cost).all(axis=1)
    complete &= np.asarray(ids.is_valid())
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
        missing_means="rows with a score, a cost or the id missing",
        repeated_means="rows repeating an id",
    )

    columns = {"query_id": ids.take(pa.array(keep)).cast(pa.string())}
    if GROUP in log.column_names:
        groups = checks.text(log[GROUP].take(pa.array(keep)), source, GROUP)
        columns["group"] = groups.cast(pa.string()).dictionary_encode()
    columns["quality"] = list_column(quality[keep].astype(np.float32))
    columns["cost"] = list_column(cost[keep].astype(np.float32))
    if any(model + RESPONSE in log.column_names for model in models):
        columns["answer"] = list_column(_answers(log, models)[keep])
    arrow = with_metadata(pa.table(columns), Metadata(tuple(models), "USD"))
    from_arrow(arrow, source)
    return ImportResult(
        arrow,
        n_rows=len(keep),
        n_models=len(models),
        n_missing=len(missing),
        n_repeated=int(repeated.sum()),
        n_dropped=log.num_rows - len(keep),
    )


def _choose(names: Sequence[str], source: str) -> dict[str, ColumnKind]:
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
    columns: dict[str, ColumnKind] = {model: "number" for model in models}
    columns |= {model + COST: "number" for model in models}
    text = (QUERY, GROUP, *(model + RESPONSE for model in models))
    columns |= {name: "text" for name in text if name in names}
    return columns


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
