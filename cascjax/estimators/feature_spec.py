"""Feature spec: how the columns of a design are made of a table, or of one live query.

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

_ARGUMENTS = {
    "feature": "features", "group": "group", "small groups": "group", "signal": "signals",
    "cost": "costs", "answers": "answers", "agreement": "answers",
}  # fmt: skip
"""Argument of `FeatureSpec.row` that each kind of column is made of."""

_N_MODELS = {"signal": 1, "answers": 1, "cost": 1, "agreement": 2}
_NAMED = ("feature", "group", "signal")
RANKED = ("feature", "signal")  # Kinds of quantities whose scale is arbitrary

_BLOCK = 1 << 14  # Rows of a table that are worked on at once

Live: TypeAlias = np.ndarray | Sequence[Any]


@dataclass(frozen=True)
class Column:
    """Source of a column, and how it is brought to mean 0 and standard deviation 1.

    Knots and scores are a monotone table, interpolated linearly and constant beyond its ends, that
    a feature or signal goes through before it is centred. It makes estimates independent of the
    scale on which a quantity was logged.
    """

    kind: Kind
    of: tuple[str, ...] = ()  # feature, group or signal; for small groups all other groups
    models: tuple[str, ...] = ()  # names of the models that must have run
    centre: float = 0.0  # subtracted; stands in for missing values
    spread: float = 1.0  # divisor
    least: float = 0.0  # lowest cost; 0 for other kinds
    knots: tuple[float, ...] = ()  # rising values of the quantity; empty to take it as it is
    scores: tuple[float, ...] = ()  # their normal scores, rising

    @property
    def name(self) -> str:
        """Description of the column."""
        models, name = " and ".join(self.models), " ".join(self.of)
        return {
            "one": "1",
            "feature": f"feature {name}",
            "group": f"group {name}",
            "small groups": "small groups",
            "signal": f"signal {name} of {models}",
            "answers": f"whether {models} answers",
            "cost": f"log cost of {models}",
            "agreement": f"agreement of {models}",
        }[self.kind]


def column_names(
    table: Table,
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Return the names of models, features and signals; numbers where a table has no names."""
    k = table.n_models
    n_features, n_signals = (
        0 if x is None else x.shape[1] for x in (table.features, table.signals)
    )
    if n_signals % k:
        raise CascjaxError(
            f"column 'signals' has {n_signals} values per row, which {k} models cannot share"
            " evenly; give each model the same number of signals"
        )

    def distinct(names: tuple[str, ...], width: int) -> tuple[str, ...]:
        unique = len(names) == len(set(names)) == width
        return names if unique else tuple(str(i) for i in range(width))

    return (
        distinct(table.models or tuple(f"model {i}" for i in range(k)), k),
        distinct(table.feature_names, n_features),
        distinct(table.signal_names, n_signals // k),
    )


@dataclass(frozen=True)
class FeatureSpec:
    """How D columns are made of what is known of a query.

    Attributes:
        models: K names.
        features: F names.
        signals: P names of the signals of each model.
        columns: the D columns, of which the first is 1.
    """

    models: tuple[str, ...]
    features: tuple[str, ...]
    signals: tuple[str, ...]
    columns: tuple[Column, ...]

    def __post_init__(self):
        """Refuse a feature spec that no table can give."""
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
        kind, names, models = column.kind, column.of, column.models
        valid = len(models) == len(set(models)) == _N_MODELS.get(kind, 0)
        if not valid or not set(models) <= set(self.models):
            raise CascjaxError(f"a column of kind {kind!r} has models that it cannot have")
        if (kind in _NAMED) != (len(names) == 1) and kind != "small groups":
            raise CascjaxError(f"a column of kind {kind!r} must have one name or none")
        named = {"feature": self.features, "signal": self.signals}
        if kind in named and names[0] not in named[kind]:
            raise unknown_name(kind, names[0][:40], named[kind])
        if not column.spread > 0 or not (column.least > 0 if kind == "cost" else not column.least):
            raise CascjaxError(f"spread and least of a column of kind {kind!r} must be above 0")
        rising = len(column.knots) == len(column.scores) and all(
            (np.diff(values) > least).all() and np.isfinite(values).all()
            for values, least in ((column.knots, 0), (column.scores, -1e-12))
        )
        if not rising or (column.knots and kind not in RANKED):
            raise CascjaxError(
                f"knots and scores of a column of kind {kind!r} must be numbers that rise, as many"
                " of each; refit the policy"
            )

    @functools.cached_property
    def needs(self) -> Bool[np.ndarray, "D K"]:
        """Models that must have run for each column to be known."""
        return np.array([[m in column.models for m in self.models] for column in self.columns])

    def shown(self) -> Bool[np.ndarray, "S D"]:
        """Return the columns that each of the 2**K run sets shows; bit i of a set is model i."""
        return np.asarray(shown_by(every_run_set(len(self.models)), self.needs))

    def asks(self, name: str) -> bool:
        """Return whether a column is made of an argument of `row`."""
        return any(_ARGUMENTS.get(column.kind) == name for column in self.columns)

    def seen(self, table: Table) -> Float[np.ndarray, "N D"]:
        """Return the columns of a table's queries, missing values at their mean.

        Models, features, signals and groups are matched by name. A group that the table fitted on
        did not have counts as one of the small groups, if these have a column.
        """
        return self.scale(self.raw(table))

    def raw(self, table: Table) -> Float[np.ndarray, "N D"]:
        """Return the columns before scaling, float32, NaN where values are missing; see `seen`."""
        names = column_names(table)
        self._check_table(table, names)
        # The place in the table of every name; of names that no column uses, any.
        models, features, signals = (
            np.array([given.index(name) if name in given else 0 for name in own], np.int64)
            for own, given in zip((self.models, self.features, self.signals), names, strict=True)
        )
        parts: dict[str, np.ndarray] = {"costs": table.cost[:, models]}
        if table.features is not None and len(features):
            parts["features"] = table.features[:, features]
        if table.signals is not None and len(signals):
            by_model = table.signals.reshape(table.n_queries, table.n_models, -1)
            parts["signals"] = by_model[:, models][:, :, signals]
        if table.answer is not None:
            parts["answers"] = table.answer[:, models]
        if table.group is not None:
            parts["members"] = self._members(table.groups)[table.group]
        return self._raw((table.n_queries,), **parts)

    def _check_table(self, table: Table, names: tuple[tuple[str, ...], ...]) -> None:
        """Refuse a table that lacks what a column is made of."""
        for what, own, given, named in (
            ("features", self.features, names[1], table.feature_names),
            ("signals", self.signals, names[2], table.signal_names),
        ):
            # Without names columns are matched by number, which must then be equal.
            if given and not named and own and given != own:
                raise CascjaxError(
                    f"the table does not name its {len(given)} {what}, and those fitted on were"
                    f" {', '.join(own[:3])}{' and more' * (len(own) > 3)}: name them alike"
                )
        given = {"features": table.features, "group": table.group, "signals": table.signals,
                 "answers": table.answer, "costs": table.cost}  # fmt: skip
        for column in self.columns[1:]:
            argument, what = _ARGUMENTS[column.kind], column.kind
            lacks = [("model", name) for name in column.models if name not in names[0]]
            if given[argument] is None:
                lacks.append(("column", {"answers": "answer"}.get(argument, argument)))
            elif what in ("feature", "signal"):
                held = names[1 if what == "feature" else 2]
                lacks += [(what, name) for name in column.of if name not in held]
            for kind, name in lacks:
                raise CascjaxError(
                    f"the table lacks the {kind} {name!r}, which the column {column.name!r} of the"
                    " estimates is made of; add it, as in the table fitted on"
                )

    def row(
        self,
        *,
        features: Live | None = None,
        group: str | Sequence[str] | None = None,
        signals: Live | None = None,
        answers: Live | None = None,
        costs: Live | None = None,
    ) -> Float[np.ndarray, "*B D"]:
        """Return the columns of a live query, or of a batch of B.

        What is not known, as the model has not run or a value is missing, may be anything, by
        convention NaN; an argument that is left out is taken at its mean.

        Args:
            features: `[F]` or `[B, F]`, in the order of `features`.
            group: a name, or one name per query.
            signals: `[K, P]` or `[B, K, P]`, in the orders of `models` and `signals`.
            answers: `[K]` or `[B, K]` identity of each answer, -1 where there is none.
            costs: `[K]` or `[B, K]` cost of each model that has run, in the table's cost unit.

        Example:
            >>> length = Column("feature", ("length",), centre=3.0, spread=2.0)
            >>> spec = FeatureSpec(("a", "b"), ("length",), (), (Column("one"), length))
            >>> spec.row(features=[7.0]).tolist()
            [1.0, 2.0]
        """
        k = len(self.models)
        given: dict[str, np.ndarray] = {}
        batches: list[tuple[int, ...]] = []
        for name, values, shape in (
            ("features", features, (len(self.features),)),
            ("signals", signals, (k, len(self.signals))),
            ("answers", answers, (k,)),
            ("costs", costs, (k,)),
        ):
            if values is None:
                continue
            part = _numbers(values, name)
            if part.shape[-len(shape) :] != shape or part.ndim > len(shape) + 1:
                raise CascjaxError(
                    f"{name} must be {_sizes(shape)}, or [B, {_sizes(shape)[1:]} for B queries,"
                    f" not {_sizes(part.shape)}"
                )
            given[name] = part
            batches.append(part.shape[: part.ndim - len(shape)])
        if isinstance(group, str):
            given["members"] = self._members((group,))[0]
        elif group is not None:
            if np.ndim(group) != 1 or not all(isinstance(name, str) for name in group):
                raise CascjaxError("group must be a group's name, or a list with one per query")
            names, place = np.unique(np.asarray(group), return_inverse=True)
            given["members"] = self._members(tuple(names.tolist()))[place]
            batches.append((len(group),))
        if len(set(batches)) > 1:
            raise CascjaxError(f"arguments are of {' and '.join(map(_sizes, batches))} queries")
        return self.scale(self._raw(batches[0] if batches else (), **given))

    def _raw(
        self,
        batch: tuple[int, ...],
        *,
        features: np.ndarray | None = None,
        members: np.ndarray | None = None,
        signals: np.ndarray | None = None,
        answers: np.ndarray | None = None,
        costs: np.ndarray | None = None,
    ) -> Float[np.ndarray, "*B D"]:
        """Return the columns before scaling, NaN where they are missing."""
        plan, raw = self._plan, np.full((*batch, len(self.columns)), np.nan, np.float32)
        raw[..., 0] = 1
        if features is not None:
            at, name, _, _ = plan["feature"]
            raw[..., at] = features[..., name]
        if members is not None:
            raw[..., plan["group"][0]] = members
        if signals is not None:
            at, name, model, _ = plan["signal"]
            raw[..., at] = signals[..., model, name]
        if costs is not None:
            at, _, model, _ = plan["cost"]
            raw[..., at] = np.log(np.maximum(costs[..., model], self._least))
        if answers is not None:
            at, _, model, _ = plan["answers"]
            raw[..., at] = answers[..., model] >= 0
            at, _, model, other = plan["agreement"]
            first, second = answers[..., model], answers[..., other]
            raw[..., at] = (first == second) & (first >= 0)  # what has no answer agrees with none
        return raw

    def scale(self, raw: Float[np.ndarray, "*B D"]) -> Float[np.ndarray, "*B D"]:
        """Return raw columns scaled to mean 0 and standard deviation 1; 0 where missing."""
        if raw.ndim > 1 and len(raw) > _BLOCK:
            starts = range(0, len(raw), _BLOCK)
            return np.concatenate([self.scale(raw[start : start + _BLOCK]) for start in starts])
        centre, spread = self._scales
        values = raw.astype(np.float64)
        for d, knots, scores in self._tables:
            values[..., d] = np.interp(values[..., d], knots, scores)
        return np.where(np.isfinite(raw), (values - centre) / spread, 0).astype(np.float32)

    def _members(self, names: tuple[str, ...]) -> Float[np.ndarray, "G C"]:
        """Return whether each group is in each of the columns of groups."""
        columns = [self.columns[d] for d in self._plan["group"][0].tolist()]
        inside = [
            [(n in column.of) == (column.kind == "group") for column in columns] for n in names
        ]
        return np.array(inside, np.float64).reshape(len(names), len(columns))

    @functools.cached_property
    def _plan(self) -> dict[str, tuple[Int[np.ndarray, " C"], ...]]:
        """Places of the columns of each kind, of their names, and of their two models.

        Computed once, as live queries come one by one.
        """
        places: dict[str, list[tuple[int, ...]]] = {kind: [] for kind in get_args(Kind)}
        named = {"feature": self.features, "signal": self.signals}
        for d, column in enumerate(self.columns):
            name = named[column.kind].index(column.of[0]) if column.kind in named else 0
            models = [self.models.index(model) for model in column.models]
            kind = "group" if column.kind == "small groups" else column.kind
            places[kind].append((d, name, *models, *[0] * (2 - len(models))))
        return {
            kind: tuple(np.array(listed, np.int64).reshape(-1, 4).T)
            for kind, listed in places.items()
        }

    @functools.cached_property
    def _scales(self) -> tuple[Float[np.ndarray, " D"], Float[np.ndarray, " D"]]:
        centre, spread = np.array([(c.centre, c.spread) for c in self.columns]).T
        return centre, spread

    @functools.cached_property
    def _tables(self) -> list[tuple[int, Float[np.ndarray, " Q"], Float[np.ndarray, " Q"]]]:
        return [
            (d, np.array(column.knots), np.array(column.scores))
            for d, column in enumerate(self.columns)
            if column.knots
        ]

    @functools.cached_property
    def _least(self) -> Float[np.ndarray, " C"]:
        return np.array([c.least for c in self.columns if c.kind == "cost"], np.float32)


def _numbers(values: Live, name: str) -> np.ndarray:
    """Return answers as whole numbers, -1 for none or NaN, and other arguments as float32."""
    try:
        if name != "answers":
            return np.asarray(values, np.float32)
        # Whole numbers stay whole: large ones are not exact in float64.
        if (part := np.asarray(values)).dtype.kind not in "iu":
            part = np.asarray(values, np.float64)
            part = np.where(np.isfinite(part), part, -1)
        return part.astype(np.int64)
    except (TypeError, ValueError) as error:
        raise CascjaxError(f"{name} must be numbers, NaN or -1 where there are none") from error


def _sizes(shape: tuple[int, ...]) -> str:
    return f"[{', '.join(str(n) for n in shape)}]"
