"""How the columns of a design are made of what is seen of a query: of any table, or of one query.

A feature spec is fixed on the table fitted on, and knows models, features, signals and groups by
name.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from jaxtyping import Bool, Float, Int

from cascjax.data.table import Table
from cascjax.errors import CascjaxError, unknown_name
from cascjax.estimators.base import every_run_set, shown_by

Kind: TypeAlias = Literal[
    "one", "feature", "group", "small groups", "signal", "answers", "cost", "agreement"
]

_MODELS = {"signal": 1, "answers": 1, "cost": 1, "agreement": 2}
"""Models that a column of each kind is of, where it is of any."""

_NAMED = ("feature", "group", "signal")
"""Kinds whose columns are of one thing that has a name."""

Live: TypeAlias = np.ndarray | Sequence[Any]


@dataclass(frozen=True)
class Column:
    """Where the values of a column come from, and how they are brought to mean 0 and spread 1.

    Attributes:
        kind: "one" is 1 for all. Beforehand: a "feature", whether a query is of a "group", or of
            one of the "small groups". Of models that have run: a "signal", whether one "answers",
            the logarithm of its "cost", and the "agreement" of two answers.
        of: the name of the feature, group or signal; of small groups the names of all others.
        models: names of the models that must have run.
        centre: what is taken off, and stands in where a value is missing.
        spread: what it is then divided by.
        least: what a cost below counts as; else 0.
    """

    kind: Kind
    of: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    centre: float = 0.0
    spread: float = 1.0
    least: float = 0.0

    @property
    def name(self) -> str:
        """The column in words."""
        models = " and ".join(self.models)
        return {
            "one": "1",
            "feature": f"feature {' '.join(self.of)}",
            "group": f"group {' '.join(self.of)}",
            "small groups": "small groups",
            "signal": f"signal {' '.join(self.of)} of {models}",
            "answers": f"whether {models} answers",
            "cost": f"log cost of {models}",
            "agreement": f"agreement of {models}",
        }[self.kind]

    def scaled(self, values: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
        """Its values as the design has them, float32; 0 where they are missing."""
        missing = ~np.isfinite(values)
        scaled = np.where(missing, 0, (values.astype(np.float64) - self.centre) / self.spread)
        return scaled.astype(np.float32)


@dataclass(frozen=True)
class Places:
    """Where a table has what has a name.

    Attributes:
        models: the place of each model by its name.
        features: that of each feature.
        signals: that of each signal, among those of one model.
    """

    models: dict[str, int]
    features: dict[str, int]
    signals: dict[str, int]

    @classmethod
    def of(cls, table: Table) -> "Places":
        """Those of a table; what has no name there has that of its number.

        Raises:
            CascjaxError: `signals` are not a whole number a model.
        """
        k = table.n_models
        if table.signals is not None and table.signals.shape[1] % k:
            raise CascjaxError(
                f"column 'signals' has {table.signals.shape[1]} values a row, which {k} models"
                " cannot share evenly; give each model as many"
            )
        width = 0 if table.features is None else table.features.shape[1]
        per = 0 if table.signals is None else table.signals.shape[1] // k
        return cls(
            _places(table.models or tuple(f"model {i}" for i in range(k)), k),
            _places(table.feature_names, width),
            _places(table.signal_names, per),
        )

    def values(self, table: Table, column: Column) -> Float[np.ndarray, " N"]:
        """The values of a column as they are in the table.

        Raises:
            CascjaxError: the table lacks what they are made of.
        """
        n = table.n_queries
        at = [self._found("model", name, self.models) for name in column.models]
        if column.kind == "one":
            return np.ones(n, np.float32)
        if column.kind == "feature":
            given = _given(table.features, "features", column)
            return given[:, self._found("feature", column.of[0], self.features)]
        if column.kind in ("group", "small groups"):
            code = _given(table.group, "group", column)
            named = [name in column.of for name in table.groups]
            wanted = np.flatnonzero(np.array(named) == (column.kind == "group"))
            return np.isin(code, wanted).astype(np.float32)
        if column.kind == "signal":
            given = _given(table.signals, "signals", column)
            place = self._found("signal", column.of[0], self.signals)
            return given[:, at[0] * len(self.signals) + place]
        if column.kind == "cost":
            return _log_cost(table.cost[:, at[0]], column.least)
        answer = _given(table.answer, "answer", column)
        if column.kind == "answers":
            return (answer[:, at[0]] >= 0).astype(np.float32)
        return _agree(answer[:, at[0]], answer[:, at[1]]).astype(np.float32)

    @staticmethod
    def _found(what: str, name: str, places: dict[str, int]) -> int:
        if name not in places:
            raise CascjaxError(
                f"the table lacks the {what} {name!r}, which the estimates are made of; bring it,"
                " as the table fitted on had it"
            )
        return places[name]


def _places(names: tuple[str, ...], width: int) -> dict[str, int]:
    """The place of each name, of each number where there are no names or one is listed twice."""
    if len(set(names)) != width or len(names) != width:
        names = tuple(str(i) for i in range(width))
    return {name: i for i, name in enumerate(names)}


def _given(column: Any, name: str, of: Column) -> np.ndarray:
    if column is None:
        raise CascjaxError(
            f"the table lacks the column {name!r}, which the estimates are made of ({of.name});"
            " bring it, as the table fitted on had it"
        )
    return column


def _log_cost(cost: np.ndarray, least: float | np.ndarray) -> np.ndarray:
    return np.log(np.maximum(cost, least))


def _agree(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Whether two answers are the same; what has no answer agrees with none."""
    return (one == other) & (one >= 0)


@dataclass(frozen=True)
class FeatureSpec:
    """How D columns are made of what is seen of a query.

    Attributes:
        models: K names.
        features: F names, those of their numbers where the table fitted on has none.
        signals: P names of what is seen of each model, likewise.
        columns: the D columns, the first of which is 1.
    """

    models: tuple[str, ...]
    features: tuple[str, ...]
    signals: tuple[str, ...]
    columns: tuple[Column, ...]

    @functools.cached_property
    def needs(self) -> Bool[np.ndarray, "D K"]:
        """The models that must have run for each column to be seen."""
        return np.array([[m in column.models for m in self.models] for column in self.columns])

    def shown(self) -> Bool[np.ndarray, "S D"]:
        """Which columns each of the 2**K run sets shows; bit i of a run set is model i."""
        return np.asarray(shown_by(every_run_set(len(self.models)), self.needs))

    def seen(self, table: Table) -> Float[np.ndarray, "N D"]:
        """The columns of a table's queries, float32; what is missing is taken as its mean.

        Models, features, signals and groups are matched by name. A group that the table fitted on
        did not have is one of the small groups, if these have a column.

        Raises:
            CascjaxError: the table lacks what a column is made of, or its names.
        """
        at = Places.of(table)
        for what, own, found, named in (
            ("features", self.features, at.features, table.feature_names),
            ("signals", self.signals, at.signals, table.signal_names),
        ):
            # Without names there is no telling what is what, but by a number that is the same.
            if found and not named and own and tuple(found) != own:
                raise CascjaxError(
                    f"the table does not name its {len(found)} {what}, and those fitted on were"
                    f" {', '.join(own[:3])}{' and more' * (len(own) > 3)}: name them alike"
                )
        seen = np.empty((table.n_queries, len(self.columns)), np.float32)
        for d, column in enumerate(self.columns):
            seen[:, d] = column.scaled(at.values(table, column))
        return seen

    def row(
        self,
        *,
        features: Live | None = None,
        group: str | Sequence[str] | None = None,
        signals: Live | None = None,
        answers: Live | None = None,
        costs: Live | None = None,
    ) -> Float[np.ndarray, "*B D"]:
        """The columns of a query, or of a batch of B, of what a live system sees of it.

        What has not been seen, of models that have not run or because it is missing, may be
        anything, and is nan by custom; what is left out is taken as its mean.

        Args:
            features: `[F]` or `[B, F]`, in the order of `features`.
            group: a name, or one a row.
            signals: `[K, P]` or `[B, K, P]`, in the orders of `models` and `signals`.
            answers: `[K]` or `[B, K]` the identity of each answer, -1 where there is none.
            costs: `[K]` or `[B, K]` what each model that has run cost, in the table's cost unit.

        Raises:
            CascjaxError: a shape is wrong, or something is no number.
        """
        k, plan = len(self.models), self._plan
        parts: dict[str, np.ndarray] = {}
        for name, given, shape in (
            ("features", features, (len(self.features),)),
            ("signals", signals, (k, len(self.signals))),
            ("answers", answers, (k,)),
            ("costs", costs, (k,)),
        ):
            if given is not None:
                part = _numbers(given, name)
                if part.shape[-len(shape) :] != shape or part.ndim > len(shape) + 1:
                    raise CascjaxError(
                        f"{name} must be {_sizes(shape)}, or [B, {_sizes(shape)[1:]} for B queries,"
                        f" not {_sizes(part.shape)}"
                    )
                parts[name] = part
        batches = [
            part.shape[: part.ndim - 1 - (name == "signals")] for name, part in parts.items()
        ]
        if group is not None and not isinstance(group, str):
            if np.ndim(group) != 1 or not all(isinstance(name, str) for name in group):
                raise CascjaxError("group must be a group's name, or a list of names, one a query")
            batches.append((len(group),))
        if len(set(batches)) > 1:
            raise CascjaxError(f"what is given is of {' and '.join(map(_sizes, batches))} queries")
        batch = batches[0] if batches else ()
        raw = np.full((*batch, len(self.columns)), np.nan)
        raw[..., 0] = 1
        if "features" in parts:
            raw[..., plan.feature] = parts["features"][..., plan.of_feature]
        if group is not None and len(plan.group):
            raw[..., plan.group] = self._groups(group)
        if "signals" in parts:
            raw[..., plan.signal] = parts["signals"].reshape(*batch, -1)[..., plan.of_signal]
        if "costs" in parts:
            raw[..., plan.cost] = _log_cost(parts["costs"][..., plan.of_cost], plan.least)
        if "answers" in parts:
            answer = parts["answers"]
            raw[..., plan.answers] = answer[..., plan.of_answers] >= 0
            one, other = (answer[..., of] for of in plan.of_agreement)
            raw[..., plan.agreement] = _agree(one, other)
        scaled = (raw - plan.centre) / plan.spread
        return np.where(np.isfinite(raw), scaled, 0).astype(np.float32)

    def asks(self, name: str) -> bool:
        """Whether a column is made of an argument of `row`."""
        plan = self._plan
        return {
            "features": len(plan.feature) > 0,
            "group": len(plan.group) > 0,
            "signals": len(plan.signal) > 0,
            "answers": len(plan.answers) + len(plan.agreement) > 0,
            "costs": len(plan.cost) > 0,
        }[name]

    def _groups(self, group: str | Sequence[str]) -> Float[np.ndarray, "*B G"]:
        if isinstance(group, str):
            return self._group(group)
        names, place = np.unique(np.asarray(group), return_inverse=True)
        return np.stack([self._group(name) for name in names.tolist()])[place]

    def _group(self, name: str) -> Float[np.ndarray, " G"]:
        columns = [self.columns[d] for d in self._plan.group.tolist()]
        return np.array([(name in of.of) == (of.kind == "group") for of in columns], np.float64)

    @functools.cached_property
    def _plan(self) -> "_Plan":
        """Where each part of what is seen goes: worked out once, as queries come one by one."""
        at: dict[str, list[int]] = {kind: [] for kind in get_args(Kind)}
        for d, column in enumerate(self.columns):
            at[column.kind].append(d)

        def columns(kind: str) -> list[Column]:
            return [self.columns[d] for d in at[kind]]

        def models(kind: str, nth: int = 0) -> Int[np.ndarray, " C"]:
            return _whole([self.models.index(column.models[nth]) for column in columns(kind)])

        signals = _whole([self.signals.index(column.of[0]) for column in columns("signal")])
        return _Plan(
            feature=_whole(at["feature"]),
            of_feature=_whole([self.features.index(of.of[0]) for of in columns("feature")]),
            group=_whole(at["group"] + at["small groups"]),
            signal=_whole(at["signal"]),
            of_signal=models("signal") * len(self.signals) + signals,
            cost=_whole(at["cost"]),
            of_cost=models("cost"),
            least=np.array([column.least for column in columns("cost")], np.float32),
            answers=_whole(at["answers"]),
            of_answers=models("answers"),
            agreement=_whole(at["agreement"]),
            of_agreement=(models("agreement"), models("agreement", 1)),
            centre=np.array([column.centre for column in self.columns]),
            spread=np.array([column.spread for column in self.columns]),
        )

    def __post_init__(self):
        """Refuse a feature spec that no table can give.

        Raises:
            CascjaxError: a name is listed twice, or a column is invalid.
        """
        for what in ("models", "features", "signals"):
            if len(set(getattr(self, what))) < len(getattr(self, what)):
                raise CascjaxError(f"{what} of a feature spec must be distinct names")
        if [column.kind for column in self.columns].count("one") != 1 or (
            self.columns[0] != Column("one")
        ):
            raise CascjaxError("the first column of a feature spec must be 1, and no other column")
        for column in self.columns:
            self._check(column)

    def _check(self, column: Column) -> None:
        kind, of, models = column.kind, column.of, column.models
        valid = len(models) == len(set(models)) == _MODELS.get(kind, 0)
        if not valid or not set(models) <= set(self.models):
            raise CascjaxError(f"a column of kind {kind!r} has models that it cannot have")
        if (kind in _NAMED) != (len(of) == 1) and kind != "small groups":
            raise CascjaxError(f"a column of kind {kind!r} must have one name or none")
        named = {"feature": self.features, "signal": self.signals}
        if kind in named and of[0] not in named[kind]:
            raise unknown_name(kind, of[0][:40], named[kind])
        if not column.spread > 0 or not (column.least > 0 if kind == "cost" else not column.least):
            raise CascjaxError(f"spread and least of a column of kind {kind!r} must be above 0")


def _numbers(given: Live, name: str) -> np.ndarray:
    """Of answers whole numbers, -1 for none or nan; of all else float32, as a table has them."""
    try:
        if name != "answers":
            return np.asarray(given, np.float32)
        # Whole numbers stay whole: float64 would take large ones for the same.
        if (part := np.asarray(given)).dtype.kind not in "iu":
            part = np.asarray(given, np.float64)
            part = np.where(np.isfinite(part), part, -1)
        return part.astype(np.int64)
    except (TypeError, ValueError) as error:
        raise CascjaxError(f"{name} must be numbers, nan or -1 where there are none") from error


@dataclass(frozen=True)
class _Plan:
    """Of each kind the columns there are, and which of what is seen they are of."""

    feature: Int[np.ndarray, " f"]
    of_feature: Int[np.ndarray, " f"]
    group: Int[np.ndarray, " g"]
    signal: Int[np.ndarray, " s"]
    of_signal: Int[np.ndarray, " s"]
    cost: Int[np.ndarray, " c"]
    of_cost: Int[np.ndarray, " c"]
    least: Float[np.ndarray, " c"]
    answers: Int[np.ndarray, " a"]
    of_answers: Int[np.ndarray, " a"]
    agreement: Int[np.ndarray, " p"]
    of_agreement: tuple[Int[np.ndarray, " p"], Int[np.ndarray, " p"]]
    centre: Float[np.ndarray, " D"]
    spread: Float[np.ndarray, " D"]


def _whole(of: list[int]) -> Int[np.ndarray, " C"]:
    return np.array(of, np.int64)


def _sizes(shape: tuple[int, ...]) -> str:
    return f"[{', '.join(str(n) for n in shape)}]"
