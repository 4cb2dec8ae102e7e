"""What learned estimators have in common: their training set, and what they declare and return."""

import abc
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from cascjax.core.estimates import Estimates, Estimator
from cascjax.core.random import hash_numbers
from cascjax.data.table import Table
from cascjax.errors import CascjaxError
from cascjax.estimators.design import Design
from cascjax.estimators.feature_spec import FeatureSpec
from cascjax.estimators.joint import Joint
from cascjax.estimators.run_sets import RunSets
from cascjax.words import counted

COST_MODELS = ("constant", "features", "seen")
"""Inputs of the cost of a model that has not run, the simplest first: nothing, what is known before
any model runs, and also what models that have run showed and cost."""

_FOLDS = 0x464F4C44  # Seed of the folds of new queries


@dataclass(frozen=True)
class Folds:
    """Cross-fitting folds: no row is scored by weights that were fitted on it."""

    fold: Int[np.ndarray, " N"]  # the fold of each row that is fitted on, F for every other row
    n_folds: int  # F

    @classmethod
    def drawn(
        cls, n_rows: int, fit_rows: Int[np.ndarray, " n"], n_folds: int, seed: int
    ) -> "Folds":
        """Return folds of equal size, drawn by a permutation of the rows to fit on."""
        if len(fit_rows) < 2 * n_folds:
            raise CascjaxError(
                f"{counted(len(fit_rows), 'row to fit on is', 'rows to fit on are')} too few"
                f" for {n_folds} folds: at least {2 * n_folds} are needed;"
                " bring more rows or ask for fewer folds"
            )
        if seed < 0:
            raise CascjaxError(f"the seed of the folds must not be negative, but is {seed}")
        fold = np.full(n_rows, n_folds, np.int32)
        shuffled = np.random.default_rng(seed).permutation(fit_rows)
        fold[shuffled] = np.arange(len(fit_rows)) % n_folds
        return cls(fold, n_folds)

    @property
    def fit_rows(self) -> Int[np.ndarray, " n"]:
        """All rows that are fitted on."""
        return np.flatnonzero(self.fold < self.n_folds)

    def of_rows(
        self, numbers: Int[np.ndarray, " m"], known: Int[np.ndarray, " N"]
    ) -> Int[np.ndarray, " m"]:
        """Return the fold of each row by its number, where `known` are the numbers of all N rows.

        Rows that were not fitted on get a fold as new queries do, see `fold_numbers`.
        """
        fold = fold_numbers(numbers, self.n_folds)
        place = np.searchsorted(known, numbers).clip(max=len(known) - 1)
        own = (known[place] == numbers) & (self.fold[place] < self.n_folds)
        fold[own] = self.fold[place[own]]
        return fold


@dataclass(frozen=True)
class TrainingSet:
    """Training data of an estimator; quality and cost are NaN on rows excluded from training.

    Attributes:
        design: the columns of all N queries.
        quality: `[N, K]` true qualities.
        cost: `[N, K]` true costs, in the table's cost unit.
        cost_run: `[N, K]` cost of each model once it has run; complete, as it is an input then.
        folds: the cross-fitting folds.
        models: the K names.
        cost_model: one of `COST_MODELS`, or None for the one with the lowest cross-validated error.
        ridge: penalty on squared weights of quality; None for the one with the lowest
            cross-validated error.
        seed: seed of random numbers.
    """

    design: Design
    quality: Float[np.ndarray, "N K"]
    cost: Float[np.ndarray, "N K"]
    cost_run: Float[np.ndarray, "N K"]
    folds: Folds
    models: tuple[str, ...]
    cost_model: str | None = None
    ridge: float | None = 1.0
    seed: int = 0


def fold_numbers(numbers: Int[np.ndarray, " n"], n_folds: int) -> Int[np.ndarray, " n"]:
    """Return the fold whose weights estimate each query, by the query's number.

    A row that was fitted on is estimated by weights of the other folds. A new query is estimated by
    the weights of a fold drawn at random, so that new queries get estimates as the rows did that
    parameters were searched on: also where all queries of a fold share one.
    """
    return (hash_numbers(_FOLDS, numbers) % np.uint64(n_folds)).astype(np.int32)


@runtime_checkable
class Weights(Protocol):
    """Fitted weights: a pytree that makes the estimates of any queries."""

    def estimator(
        self, design: Design, cost_run: Float[np.ndarray, "N K"], fold: Int[np.ndarray, " N"]
    ) -> Estimator:
        """Return the estimates of the queries of a design, each by the weights of its fold."""
        ...


class PolicyModel(abc.ABC):
    """Weights that a policy keeps: those of each fold, and how their columns are made."""

    form: ClassVar[str]  # the field "kind" of the weights in a policy file
    feature_spec: FeatureSpec

    @property
    @abc.abstractmethod
    def n_folds(self) -> int:
        """Number of sets of weights that queries are estimated with."""

    @abc.abstractmethod
    def estimator(
        self, design: Design, cost_run: Float[np.ndarray, "N K"], fold: Int[np.ndarray, " N"]
    ) -> RunSets | Joint:
        """Return the estimates of the queries of a design, each by the weights of its fold."""

    def estimator_for(self, table: Table, fold: Int[np.ndarray, " N"] | None = None) -> Estimator:
        """Return the estimates of a table's queries, by default by their row numbers.

        Models are in the order of the feature spec. Rows that the weights were fitted on get better
        estimates than other rows.
        """
        design = Design(self.feature_spec.seen(table), self.feature_spec)
        if fold is None:
            fold = fold_numbers(np.arange(table.n_queries), self.n_folds)
        if table.models and table.models != self.feature_spec.models:
            table = table.select_models(self.feature_spec.models)
        return self.estimator(design, table.cost, fold)

    def estimates(
        self,
        row: Float[np.ndarray, "*B D"],
        run: Bool[np.ndarray, "*B K"],
        costs: Float[np.ndarray, "*B K"] | None = None,
        fold: Int[np.ndarray, "*B"] | int = 0,
    ) -> Estimates:
        """Return the estimates of live queries on the host, from what `FeatureSpec.row` makes."""
        shape, folds = run.shape, np.broadcast_to(fold, run.shape[:-1]).reshape(-1)
        runs = run.reshape(-1, shape[-1])
        design = Design(row.reshape(-1, row.shape[-1]), self.feature_spec)
        estimator = self.estimator(design, np.zeros(runs.shape, np.float32), folds)
        quality, covariance, cost = estimator.on_host(runs)
        cost = cost.reshape(shape)
        if costs is not None:
            cost = np.where(run & np.isfinite(costs), np.asarray(costs, np.float32), cost)
        covariance = covariance.reshape(*shape, shape[-1])
        return Estimates(
            jnp.asarray(quality.reshape(shape)), jnp.asarray(covariance), jnp.asarray(cost)
        )

    @abc.abstractmethod
    def scaled(self, sigma_scale: float) -> "PolicyModel":
        """Return the same model with every sigma multiplied by a number."""

    @abc.abstractmethod
    def check(self) -> None:
        """Refuse weights that are damaged."""

    @abc.abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Return the content of a policy file."""

    @classmethod
    @abc.abstractmethod
    def from_json(cls, content: dict[str, Any]) -> "PolicyModel":
        """Return the model that `to_json` wrote."""


@dataclass(frozen=True)
class FittedEstimator:
    """What fitting an estimator returns.

    Attributes:
        weights: the fitted weights; of the estimator's `model` if it has one.
        cost_model: inputs of the cost estimates, one of `COST_MODELS` or the estimator's own.
        notes: what was left out or replaced by a default, one line each.
        ridge: penalty of the quality regressions, given or chosen; None where there are none.
    """

    weights: Weights
    cost_model: str
    notes: tuple[str, ...] = ()
    ridge: float | None = None


@dataclass(frozen=True)
class LearnedEstimator(abc.ABC):
    """A way to learn estimates from a table; `cascjax.estimators.registry` says how to add one.

    Attributes:
        name: what users call it.
        description: one line for help texts and reports.
        max_models: most models it takes; None for any number.
        quality_range: lowest and highest quality it takes; None for any.
        cost_models: choices of `cost_model` it takes.
        takes_ridge: whether it takes a `ridge`.
        logistic: whether it minimises log loss rather than squared error.
        model: class of its weights, for policy files; None if a policy cannot keep them.
    """

    name: str
    description: str
    max_models: int | None = None
    quality_range: tuple[float, float] | None = None
    cost_models: tuple[str, ...] = ()
    takes_ridge: bool = False
    logistic: bool = False
    model: type[PolicyModel] | None = None

    @abc.abstractmethod
    def fit(self, training: TrainingSet) -> FittedEstimator:
        """Return the weights fitted on a training set that keeps within the limits declared."""
