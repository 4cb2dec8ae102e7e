"""What every importer shares: options, the table that is assembled, and the result."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Int32

from cascjax.data.scales import scales_of
from cascjax.data.schema import check_distinct, from_arrow, to_arrow
from cascjax.data.table import Table
from cascjax.errors import CascjaxError, unknown_name
from cascjax.features.answers import CONVENTIONS, agreement_text, agreements
from cascjax.features.prompts import TextModel, text_features, text_model_of, write_text_model
from cascjax.features.responses import SIGNALS, ResponseReader
from cascjax.words import counted, share_text

OptionKind = Literal["choice", "column", "columns", "file", "filters", "integer", "names", "text"]


@dataclass(frozen=True)
class Option:
    """An option of an importer; the command line derives its own option from it.

    Attributes:
      name: Name of the argument.
      kind: Type of the value. "column" is the name of a column, "columns" a dictionary from the
        name of a quantity to the name of its column, "filters" a text
        "COLUMN=VALUE" or several, "file" a path, "choice" one of `choices`, "names" a list of
        names, "text" any text.
      help: Description in one sentence.
      default: Value where none is given; None unless the description says otherwise.
      required: Whether a value must be given.
      choices: Allowed values of a "choice".
    """

    name: str
    kind: OptionKind
    help: str
    default: Any = None
    required: bool = False
    choices: tuple[str, ...] = ()


def option(
    kind: OptionKind,
    help: str,
    *,
    default: Any = None,
    required: bool = False,
    choices: tuple[str, ...] = (),
) -> Any:
    """Return the dataclass field of an option; the arguments are those of `Option`."""
    metadata = {"kind": kind, "help": help, "choices": choices}
    if required:
        return field(metadata=metadata)
    if kind == "columns":
        return field(default_factory=dict, metadata=metadata)
    if kind in ("filters", "names"):
        return field(default=(), metadata=metadata)
    return field(default=default, metadata=metadata)


def options_of(dataclass_type: type) -> tuple[Option, ...]:
    """Return the options that the fields of a dataclass declare."""
    return tuple(
        Option(
            name=each.name,
            default=None if each.default is MISSING else each.default,
            required=each.default is MISSING and each.default_factory is MISSING,
            **each.metadata,
        )
        for each in fields(dataclass_type)
        if each.metadata
    )


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """Options of every importer."""

    invalid: str = option(
        "choice",
        "Refuse a file with missing scores or repeated ids, or drop such queries.",
        default="error",
        choices=("error", "drop"),
    )

    def __post_init__(self) -> None:
        """Refuse values that are not among the choices of an option."""
        for each in options_of(type(self)):
            value = getattr(self, each.name)
            if each.choices and value != each.default and value not in each.choices:
                raise unknown_name(each.name, value, each.choices)


@dataclass(frozen=True, kw_only=True)
class TextOptions(ImportOptions):
    """Options of importers that make features and signals from text."""

    features: str | None = option(
        "choice",
        "Add features of the prompts and signals of the responses, for learned estimates.",
        choices=("text",),
    )
    text_model: str | os.PathLike[str] | None = option(  # noqa: RUF009
        "file",
        "Text model, so that other logs get the same features: read if the file exists, else"
        " fitted on the prompts of this log and written.",
    )
    n_components: int | None = option(
        "integer",
        "Number of features that words are reduced to. [default: as in text_model, else 32]",
    )
    answers: str = option(
        "choice",
        "Convention by which responses mark their answers; auto takes the first that finds one,"
        " response by response.",
        default="auto",
        choices=CONVENTIONS,
    )

    def __post_init__(self) -> None:
        """Refuse a text model without text features."""
        super().__post_init__()
        if self.features is None and (self.text_model, self.n_components) != (None, None):
            raise CascjaxError("text_model and n_components need features='text'")
        if self.features is None and self.answers != "auto":
            raise CascjaxError("answers needs features='text'")


@dataclass(frozen=True, eq=False, repr=False)
class ImportResult:
    """An imported evaluation table, and counts of what was left out.

    Attributes:
      table: Table of N queries and K models.
      query_id: `[N]` ids of the queries.
      n_missing: Queries left out because a score or a cost is missing or not finite.
      n_repeated: Rows left out because an earlier row has the same id (in a long log: the same
        query and model).
      n_dropped: Rows of the file left out for either reason.
      notes: Further information, one line each.
    """

    table: Table
    query_id: pa.Array
    n_missing: int = 0
    n_repeated: int = 0
    n_dropped: int = 0
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Return the summary."""
        return f"ImportResult: {self.summary}"

    @cached_property
    def arrow(self) -> pa.Table:
        """Arrow columns of the table with its ids, as `cascjax.write_table` takes them."""
        return to_arrow(self.table, self.query_id)

    @property
    def summary(self) -> str:
        """Size of the table and counts of what was left out, in one line."""
        table = self.table
        size = f"{counted(table.n_queries, 'query', 'queries')}, {counted(table.n_models, 'model')}"
        if table.feature_names or table.signal_names:
            size += f", {counted(len(table.feature_names), 'feature')}"
            size += f", {counted(len(table.signal_names), 'signal')} per model"
        if not self.n_dropped:
            return size
        return (
            f"{size}; dropped {counted(self.n_dropped, 'row')} of the file:"
            f" {counted(self.n_missing, 'query', 'queries')} with missing values,"
            f" {counted(self.n_repeated, 'repeated row')}"
        )


@dataclass
class Assembly:
    """An evaluation table in the making."""

    source: str  # File that is imported, for messages
    query_id: pa.Array  # ids of the queries
    table: Table  # Table without features, signals and answers
    features: list[tuple[Sequence[str], Float[np.ndarray, "N f"]]] = field(default_factory=list)
    signals: list[tuple[Sequence[str], Float[np.ndarray, "N K p"]]] = field(default_factory=list)
    answer: Int32[np.ndarray, "N K"] | None = None
    notes: list[str] = field(default_factory=list)
    _fitted: tuple[Any, TextModel] | None = None

    def add_text(
        self,
        prompts: Sequence[str],
        responses: Sequence[Sequence[str]],
        fit_prompts: Sequence[str],
        options: TextOptions,
    ) -> None:
        """Add features of N prompts, and signals and answers of N responses of each of K models.

        Responses are empty for features alone. The text model is fitted on `fit_prompts` where its
        file does not exist.
        """
        path = options.text_model
        try:
            model, fitted = text_model_of(fit_prompts, path, options.n_components)
        except CascjaxError as error:
            if path is not None and str(path) in str(error):
                raise
            raise CascjaxError(f"{self.source}: {error}") from error
        self.features.append((model.feature_names, text_features(prompts, model)))
        if path is not None:
            origin = f"fitted on {counted(len(fit_prompts), 'prompt')} and written to {path}"
            self.notes.append(f"Text model: {origin if fitted else f'read from {path}'}")
            self._fitted = (path, model) if fitted else None
        if responses:
            reader = ResponseReader(prompts, options.answers)
            read = [reader.read(each) for each in responses]
            self.signals.append((SIGNALS, np.stack([each.signals for each in read], axis=1)))
            codes: dict[str | None, int] = {None: -1}
            by_model = [
                [codes.setdefault(a, len(codes) - 1) for a in each.answers] for each in read
            ]
            self.answer = np.array(by_model, np.int32).T.copy()
            names = [name for each in read for name in each.conventions]
            self.notes.append(_answers_note(names, options.answers, self.answer, self.table.models))

    def finish(self, n_missing: int = 0, n_repeated: int = 0, n_dropped: int = 0) -> ImportResult:
        """Check the table, write a text model that was fitted, and return the result."""
        columns: dict[str, Any] = {"answer": self.answer}
        for kind, parts in (("feature", self.features), ("signal", self.signals)):
            names = [name for part, _ in parts for name in part]
            check_distinct(names, f"{self.source}: {kind}s")
            columns[f"{kind}_names"] = tuple(names)
            if parts:
                values = np.concatenate([values for _, values in parts], axis=-1)
                columns[f"{kind}s"] = values.reshape(len(values), -1)
        arrow = to_arrow(replace(self.table, **columns), self.query_id)
        table = from_arrow(arrow, self.source)
        if self._fitted is not None:
            write_text_model(*self._fitted)
        notes = (*self.notes, *(f"{note[0].upper()}{note[1:]}" for note in scales_of(table).notes))
        return ImportResult(table, self.query_id, n_missing, n_repeated, n_dropped, notes)


def _answers_note(
    names: Sequence[str], convention: str, answer: Int32[np.ndarray, "N K"], models: Sequence[str]
) -> str:
    """Return how many responses have an answer, by which convention, and how often models agree.

    `names` are the conventions that found the answer of each response, see `Responses`.
    """
    counts = Counter(names)
    whole, n_none = counts.pop("text", 0), counts.pop("", 0)
    found = len(names) - whole - n_none
    shares = {name: share_text(n / len(names)) for name, n in counts.most_common()}
    by = f" by convention {convention!r}"
    if convention == "auto" and len(shares) < 2:
        by = f" by convention {next(iter(shares))!r}" if shares else ""
    elif convention == "auto":
        by = f" ({', '.join(f'{name} {share}' for name, share in shares.items())})"
    rest = f", {share_text(whole / len(names))} are compared as whole texts" if whole else ""
    agreed = agreement_text(agreements(answer), len(answer), models)
    return (
        f"Answers: found in {share_text(found / len(names), '0%')} of responses{by}{rest}; {agreed}"
    )


def check_invalid(
    source: str,
    invalid: str,
    problems: Sequence[tuple[Sequence[str], tuple[str, str], str]],
    n_left: int,
    absent: str = "",
    refused: str = "",
    fix: str = "add complete rows",
) -> None:
    """Refuse a file with problems, unless its invalid rows are to be dropped and queries are left.

    Each problem is the ids that have it, the noun for one and for several, and what is wrong with
    them, such as "repeating an id". `absent` is the text of `absent_cells`, `refused` a problem
    that dropping does not solve, and its solution; `fix` is what to do where no query is complete.
    """
    listed = " and ".join(
        f"{counted(len(ids), *nouns)} {wrong} (first: {', '.join(map(repr, ids[:3]))})"
        for ids, nouns, wrong in problems
        if ids
    )
    reason = "; ".join(filter(None, [listed, absent]))
    if refused:
        also = f"; also {listed}: drop them with invalid='drop'" if listed else ""
        raise CascjaxError(f"{source}: {refused}{also if invalid == 'error' else ''}")
    if not n_left:
        problem = f"no query is complete: {listed}" if listed else "no query is complete"
        raise CascjaxError(f"{source}: {absent or problem}; {fix}")
    if listed and invalid == "error":
        raise CascjaxError(
            f"{source}: {reason}; fix them, or drop them with invalid='drop',"
            f" which keeps {counted(n_left, 'query', 'queries')}"
        )


_EXACT = 16  # Number of models up to which all groups of models are counted
_NAMED = 6  # Number of models or groups in a message
_WORTH = 1.05  # Factor of complete queries from which the model that costs them is named


def absent_cells(
    models: Sequence[str],
    cells: Mapping[str, Bool[np.ndarray, "N K"]],
    usable: Bool[np.ndarray, " N"],
) -> str:
    """Return what is missing by reason and model, and which models have most complete queries.

    Args:
      models: Names of the K models.
      cells: Cells that are missing, by reason, such as "without a row"; a cell has one reason.
      usable: Queries that would be complete if no cell were missing.

    Returns:
      The text, without a full stop; empty where no cell is missing.
    """
    missing = np.logical_or.reduce(list(cells.values()))
    if not missing.any():
        return ""
    N, K = missing.shape
    counts = missing.sum(axis=0)
    order = [k for k in np.argsort(-counts, kind="stable").tolist() if counts[k]]
    by_reason = {why: lacking.sum(axis=0) for why, lacking in cells.items()}
    alike: dict[str, list[str]] = {}
    for k in order:
        why = ", ".join(f"{n[k]:,} {why}" for why, n in by_reason.items() if n[k])
        alike.setdefault(why, []).append(str(models[k]))
    texts = [
        f"{_names(names, K)} {'each ' * (len(names) > 1)}{why}" for why, names in alike.items()
    ]
    more = len(texts) - _NAMED
    texts = texts[:_NAMED] + [f"and {more:,} more counts"] * (more > 0)
    text = f"missing by model: {'; '.join(texts)}"
    never = [models[k] for k in np.flatnonzero(counts == N).tolist()]
    if never and len(never) < K:
        text += f"; no row of {_names(never)} has a quality and all costs"
    if not usable.any():  # the reason is another than missing cells
        return ""
    groups = _complete_groups(~missing[usable])
    n_all = groups[K][0]
    if not n_all:
        start = f"no query ran on all {K} models (cells present: {1 - missing.mean():.0%})"
        if K > 2:
            start += f"; the most complete queries for {_listed_groups(models, groups)}"
        return f"{start}; {text}"
    # Without the model that costs most queries, and without those that cost most cells.
    sizes = {K - 1} if groups[K - 1][0] >= _WORTH * n_all else set[int]()
    sizes |= {max(groups, key=lambda size: groups[size][0] * size)} - {K}
    for i, size in enumerate(sorted(sizes - {1}, reverse=True)):
        count, group = groups[size]
        rare = _names([models[k] for k in range(K) if k not in group])
        start = f"; {n_all:,} of {N:,} queries have all models, and" if not i else ", and"
        text += f"{start} without {rare} {count:,} of {N:,} queries would be complete"
    return text


def _names(names: Sequence[str], n_models: int = 0) -> str:
    """Return the names of models, of many only the first; in short if they are all models."""
    if len(names) == n_models > 2:
        return f"the {n_models} models"
    quoted = ", ".join(map(repr, names[:_NAMED]))
    return f"{quoted} and {len(names) - _NAMED:,} more" if len(names) > _NAMED else quoted


def _listed_groups(models: Sequence[str], groups: Mapping[int, tuple[int, list[int]]]) -> str:
    """Return groups of models with a complete query: "2 models: 'a', 'c': 12; for 3: ..."."""
    sizes = [size for size, (count, _) in sorted(groups.items()) if size >= 2 and count]
    if len(sizes) > _NAMED:  # the smallest and the largest
        sizes = sizes[:2] + sizes[-(_NAMED - 2) :]
    texts = []
    for size in sizes:
        count, group = groups[size]
        noun = " models" if not texts else ""
        texts.append(f"{size}{noun}: {_names(sorted(models[k] for k in group))}: {count:,}")
    return "; for ".join(texts) if texts else "2 models: none"


def _complete_groups(present: Bool[np.ndarray, "N K"]) -> dict[int, tuple[int, list[int]]]:
    """Return the group of models with the most complete queries, and their number, by its size.

    Up to `_EXACT` models all groups are compared. Of more, the model that costs most complete
    queries, or else lacks most cells, is left out again and again.
    """
    K = present.shape[1]
    groups: dict[int, tuple[int, list[int]]] = {}
    if K <= _EXACT:
        codes = present.astype(np.int64) @ (1 << np.arange(K))
        complete = np.bincount(codes, minlength=1 << K)
        for k in range(K):  # add the queries of each superset
            by_bit = complete.reshape(-1, 2, 1 << k)
            by_bit[:, 0] += by_bit[:, 1]
        sizes = np.bitwise_count(np.arange(1 << K))
        for size in range(1, K + 1):
            best = np.flatnonzero(sizes == size)
            code = int(best[np.argmax(complete[best])])
            groups[size] = int(complete[code]), [k for k in range(K) if code >> k & 1]
        return groups
    left = list(range(K))
    lacking = K - present.sum(axis=1)
    while left:
        groups[len(left)] = int(np.sum(lacking == 0)), list(left)
        gains = [(np.sum(~present[:, k] & (lacking == 1)), -np.sum(present[:, k])) for k in left]
        worst = left.pop(max(range(len(left)), key=gains.__getitem__))
        lacking = lacking - ~present[:, worst]
    return groups
