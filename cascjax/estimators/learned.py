"""Estimates learned from a user's own log: what it shows of a query, and how well models did."""

import functools
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from cascjax.data.table import Table
from cascjax.errors import CascjaxError, RefusedError, unknown_name
from cascjax.estimators.base import Estimator, every_run_set, with_ran
from cascjax.estimators.design import Design, design
from cascjax.estimators.joint import MAX_TABULATED_OF, Joint, JointFit, fit_joint
from cascjax.estimators.joint_model import JointModel
from cascjax.estimators.learned_model import LearnedModel
from cascjax.estimators.predictors import PREDICTORS, Predictor
from cascjax.estimators.regression import Blocks, Regressions, fit_linear, fit_logistic, moments
from cascjax.estimators.run_sets import RunSets
from cascjax.words import counted

MAX_RUN_SETS_OF = 8
"""Models at most whose every run set is fitted: 256 run sets."""

LEAST_OF_CLASS = 10
"""Answers of the rarer kind, good or bad, that a model's regression needs."""

COST_MODELS = ("constant", "features", "seen")
"""What the cost of a model that has not run is told from, the simplest first: nothing, what is
known beforehand, and also what models that have run showed and cost."""

RIDGES = (1.0, 10.0, 100.0, 1000.0)
"""Ridges tried where none is given; the paper's, that of scikit-learn, is 1."""

_SIMPLER = 0.01
"""Share of a model's cost variance that a less simple cost model must explain more."""


@dataclass(frozen=True)
class Folds:
    """Which rows teach the estimates of which.

    Attributes:
        fold: `[N]` the fold of each row to fit on, F for every other row.
        n_folds: F.
    """

    fold: Int[np.ndarray, " N"]
    n_folds: int

    @classmethod
    def drawn(
        cls, n_rows: int, fit_rows: Int[np.ndarray, " n"], n_folds: int, seed: int
    ) -> "Folds":
        """Folds of even size, by a permutation of the rows to fit on.

        Raises:
            CascjaxError: fewer than two rows a fold, or a negative seed.
        """
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
        """All rows to fit on."""
        return np.flatnonzero(self.fold < self.n_folds)


@dataclass(frozen=True)
class TrainingSet:
    """What a learner is given: of rows not to be fitted on neither quality nor cost.

    Attributes:
        design: what is seen of all N queries.
        quality: `[N, K]` true qualities; nan where they must not be known.
        cost: `[N, K]` true costs, in the table's unit; nan where they must not be known.
        cost_run: `[N, K]` cost of each model, which is seen once it has run and not before.
        folds: which rows teach which.
        models: the K names.
        cost_model: one of `COST_MODELS`, or None for the one of least error out of fold.
        ridge: what the squares of weights of quality cost, see `cascjax.estimators.regression`;
            None for the one of `RIDGES` of least error out of fold.
        seed: of what a learner draws.
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


@dataclass(frozen=True)
class Learned:
    """Estimates learned from a table, and what is to be said of them.

    Attributes:
        estimator: the estimates of all N queries: of rows fitted on those of weights that were
            not fitted on them, of all others those of weights fitted on the whole fit split.
        design: what they are made of.
        learner: its name.
        cost_model: what costs are told from, see `COST_MODELS`; a learner may have its own.
        folds: of the cross-fitting.
        notes: what was left out, filled in or fallen back on, a line each.
        explained: `[K]` share of the variance of each model's quality that estimates explain
            before anything has run, out of fold; nan where quality does not vary.
        explained_run: `[K]` the same once every model has run.
        cost_explained: `[K]` that of cost before anything has run; nan where it does not vary.
        ridge: that of the regressions of quality, given or chosen; None where there are none.
        joint: the joint normal that the estimates come from, if they do.
        sigma_scale: scale that sigmas of `estimator` already have, see
            `cascjax.search.sigma_scale`.
    """

    estimator: Estimator
    design: Design
    learner: str
    cost_model: str
    folds: Folds
    notes: tuple[str, ...] = ()
    explained: Float[np.ndarray, " K"] = field(default_factory=lambda: np.zeros(0))
    explained_run: Float[np.ndarray, " K"] = field(default_factory=lambda: np.zeros(0))
    cost_explained: Float[np.ndarray, " K"] = field(default_factory=lambda: np.zeros(0))
    ridge: float | None = None
    joint: JointFit | None = None
    sigma_scale: float = 1.0

    @functools.cached_property
    def model(self) -> LearnedModel | JointModel:
        """What was fitted on all rows to fit on, to take along to other queries.

        Raises:
            CascjaxError: the estimates hold the rows themselves, or are of another kind.
        """
        of, feature_spec = self.estimator, self.design.feature_spec
        if self.joint is not None and feature_spec is not None:
            return JointModel.of(self.joint, feature_spec, self.sigma_scale)
        if not isinstance(of, RunSets) or of.seen is not self.design.seen or feature_spec is None:
            raise CascjaxError(
                f"estimates of learner {self.learner!r} cannot be kept in a policy; those of"
                f" {', '.join(repr(name) for name in KEPT)} can: take one of these (--learner)"
            )
        quality, cost = (np.asarray(x)[-1] for x in (of.quality_weights, of.cost_weights))
        return LearnedModel(quality, cost, np.asarray(of.covariance), of.logistic, feature_spec)

    def of(self, table: Table, fold: Int[np.ndarray, " N"] | None = None) -> RunSets | Joint:
        """Estimates of any queries, made as those of the table learned from.

        Args:
            table: the queries, its models in the same order.
            fold: `[N]` the fold of a query that was fitted on, whose weights come from the other
                folds; F for others, as all are by default.

        Raises:
            CascjaxError: the estimates hold the rows themselves, or what `FeatureSpec.seen`
                refuses.
        """
        of, feature_spec, joint = self.estimator, self.design.feature_spec, self.joint
        own = joint is not None or (isinstance(of, RunSets) and of.seen is self.design.seen)
        if feature_spec is None or not own:
            raise CascjaxError(
                f"estimates of learner {self.learner!r} are of the rows learned from alone: for"
                f" others take one of {', '.join(LEARNERS)} (--learner)"
            )
        if fold is None:
            fold = np.full(table.n_queries, self.folds.n_folds, np.int32)
        design = replace(self.design, seen=feature_spec.seen(table))
        if joint is None:
            assert isinstance(of, RunSets)
            return replace(of, seen=design.seen, fold=fold, cost_run=table.cost)
        made = joint.estimator(design, table.cost, fold)
        if isinstance(of, RunSets):
            return replace(of, seen=made.seen, fold=made.fold, cost_run=made.cost_run)
        return replace(made, sigma_scale=self.sigma_scale)

    @property
    def digest(self) -> str:
        """What was learned, hashed: the weights to the bit and the columns they are of."""
        none = np.zeros(0, np.int64)
        found = hashlib.sha256(repr(self.design.feature_spec).encode())
        for leaf in jax.tree.leaves((self.estimator.take(none), self.joint)):
            found.update(np.asarray(leaf).tobytes())
        return found.hexdigest()

    def settings(self) -> dict[str, Any]:
        """What was learned with, and the notes, for the record."""
        return {
            "learner": self.learner,
            "folds": self.folds.n_folds,
            "cost_model": self.cost_model,
            "ridge": self.ridge,
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Taught:
    """What a learner returns.

    Attributes:
        estimator: as in `Learned`.
        cost_model: what its costs are told from.
        notes: what was fallen back on, a line each.
        explained: as in `Learned`.
        explained_run: as in `Learned`.
        cost_explained: as in `Learned`.
        ridge: as in `Learned`.
        joint: as in `Learned`.
    """

    estimator: Estimator
    cost_model: str
    notes: tuple[str, ...]
    explained: Float[np.ndarray, " K"]
    explained_run: Float[np.ndarray, " K"]
    cost_explained: Float[np.ndarray, " K"]
    ridge: float | None = None
    joint: JointFit | None = None


Learner = Callable[[TrainingSet], Taught]


def logistic(training: TrainingSet) -> Taught:
    """A logistic regression a run set and model, the paper's choice for right or wrong answers.

    Raises:
        CascjaxError: a quality outside 0 to 1, or more than `MAX_RUN_SETS_OF` models.
    """
    rows = training.folds.fit_rows
    check_shares(training.quality[rows], rows, training.models)
    return _regressions(training, logistic=True)


def check_shares(
    quality: Float[np.ndarray, "n K"], rows: Int[np.ndarray, " n"], models: Sequence[str]
) -> None:
    """Refuses qualities that the logistic function cannot reach.

    Args:
        quality: of some rows.
        rows: their numbers, for the message.
        models: the K names.

    Raises:
        RefusedError: one is not between 0 and 1.
    """
    beyond = (quality < 0) | (quality > 1)
    if beyond.any():
        row, model = np.argwhere(beyond)[0]
        raise RefusedError(
            f"quality {quality[row, model]:g} of model {models[model]!r} in row {rows[row]} is not"
            " between 0 and 1, as learner 'logistic' needs; use learner 'linear' (--learner"
            " linear), or bring quality to that range"
        )


def linear(training: TrainingSet) -> Taught:
    """A linear regression a run set and model, with a ridge.

    Raises:
        CascjaxError: more than `MAX_RUN_SETS_OF` models.
    """
    return _regressions(training, logistic=False)


def joint(training: TrainingSet, predictor: Predictor | None = None) -> Taught:
    """Qualities and signals as one normal around what features tell: any number of models.

    Costs are told from features alone. Few models come as a table of their run sets, which
    simulations are fastest with.

    Args:
        training: what is given.
        predictor: of what features tell; ridge regression by default.

    Raises:
        CascjaxError: a cost model other than "features", or a ridge.
    """
    _check_joint(training.cost_model, training.ridge)
    rows, fold = training.folds.fit_rows, training.folds.fold
    key = jax.random.key(training.seed)
    fitted = fit_joint(
        training.design, training.quality, training.cost, fold, key, predictor=predictor,
        n_folds=training.folds.n_folds,
    )  # fmt: skip
    estimator = fitted.estimator(training.design, training.cost_run, fold)
    quality, cost = (of[rows].astype(np.float64) for of in (training.quality, training.cost))
    taught = estimator.take(rows)
    everything = jax.jit(lambda these, run: these(run))(taught, np.ones(quality.shape, bool))

    def explained(
        told: Float[np.ndarray, "n K"], true: Float[np.ndarray, "n K"]
    ) -> Float[np.ndarray, " K"]:
        return _explained(np.square(told - true).mean(0), true.var(0))

    share = float(fitted.normal.shrinkage[-1])
    notes = [shrinkage_note(share)]
    tabulated = len(training.models) <= MAX_TABULATED_OF
    if not tabulated:
        notes.append(
            f"of more than {MAX_TABULATED_OF} models the spread that estimates state is believed as"
            " it is, unless another sigma_scale is asked for (--sigma-scale): none is tried"
        )
    return Taught(
        estimator.to_run_sets() if tabulated else estimator,
        "features",
        tuple(notes),
        explained(np.asarray(taught.quality), quality),
        explained(np.asarray(everything.quality), quality),
        explained(np.asarray(taught.cost), cost),
        joint=fitted,
    )


LEARNERS: dict[str, Learner] = {
    "logistic": logistic,
    "linear": linear,
    "joint": joint,
    "joint-knn": functools.partial(joint, predictor=PREDICTORS["knn"]),
    "joint-mlp": functools.partial(joint, predictor=PREDICTORS["mlp"]),
}
"""Learners by name; a new one is a function from `TrainingSet` to `Taught`, added here."""

KEPT = ("logistic", "linear", "joint", "joint-mlp")
"""Those whose estimates a policy can keep."""

HELD = ("joint-knn",)
"""Those whose estimates it cannot: they hold the rows fitted on."""


def learned(
    table: Table,
    fit_rows: Int[np.ndarray, " n"],
    *,
    learner: str = "logistic",
    folds: int = 5,
    seed: int = 0,
    cost_model: str | None = None,
    ridge: float | None = 1.0,
) -> Learned:
    """Learns estimates from the features, signals and answers of a table.

    Cross-fitted: parameters searched on the rows to fit on would sigma_scale estimates too much
    that were
    fitted on the same rows, so each of these gets estimates fitted on the others' folds. Nothing
    that is fitted sees quality or cost of any other row.

    Args:
        table: the truth, and what is seen of each query.
        fit_rows: rows to fit on.
        learner: a name in `LEARNERS`.
        folds: at least 2.
        seed: of the folds, and of what the learner draws.
        cost_model: one of `COST_MODELS`; by default the one of least error out of fold.
        ridge: of the regressions of quality, above 0; by default the paper's. None tries `RIDGES`
            and takes the one of least error out of fold: many columns and few rows want more.
            Learner "joint" finds penalties of its own and takes none but these two.

    Raises:
        CascjaxError: an unknown learner or cost model, a ridge that is none, too few rows for the
            folds, or what the learner refuses.
    """
    check_learning(learner, cost_model, ridge, folds)
    rows = np.unique(np.asarray(fit_rows))
    drawn = Folds.drawn(table.n_queries, rows, folds, seed)
    seen = design(table, rows)
    known = (drawn.fold < folds)[:, None]
    taught = LEARNERS[learner](
        TrainingSet(
            design=seen,
            quality=np.where(known, table.quality, np.float32(np.nan)),
            cost=np.where(known, table.cost, np.float32(np.nan)),
            cost_run=table.cost,
            folds=drawn,
            models=table.models or tuple(f"model {i}" for i in range(table.n_models)),
            cost_model=cost_model,
            ridge=ridge,
            seed=seed,
        )
    )
    return Learned(
        estimator=taught.estimator,
        design=seen,
        learner=learner,
        cost_model=taught.cost_model,
        folds=drawn,
        notes=(*seen.notes, *taught.notes),
        explained=taught.explained,
        explained_run=taught.explained_run,
        cost_explained=taught.cost_explained,
        ridge=taught.ridge,
        joint=taught.joint,
    )


def check_learning(
    learner: str = "logistic",
    cost_model: str | None = None,
    ridge: float | None = 1.0,
    folds: int = 5,
    *,
    n_models: int = 0,
) -> None:
    """Refuses what `learned` would, as far as that can be told without a table.

    Raises:
        CascjaxError: an unknown learner or cost model, a ridge that is none, fewer than two folds,
            too many models, or what learner "joint" has no use for.
    """
    if learner not in LEARNERS:
        raise unknown_name("learner", learner, LEARNERS)
    if cost_model not in (None, *COST_MODELS):
        raise unknown_name("cost model", cost_model, COST_MODELS)
    if ridge is not None and not 0 < ridge < np.inf:
        raise CascjaxError(f"ridge must be finite and above 0, not {ridge}; or None to choose it")
    if folds < 2:
        raise CascjaxError(f"folds must be at least 2, not {folds}")
    of = LEARNERS[learner]
    if getattr(of, "func", of) is joint:
        _check_joint(cost_model, ridge)
    if of in (logistic, linear):
        _check_run_sets(n_models)


def _check_run_sets(n_models: int) -> None:
    if n_models > MAX_RUN_SETS_OF:
        raise CascjaxError(
            "learners 'logistic' and 'linear' fit a regression for every set of models that has"
            f" run, for at most {MAX_RUN_SETS_OF} models, not {n_models}: take learner 'joint'"
            " (--learner joint), or fewer models (--models)"
        )


def _check_joint(cost_model: str | None, ridge: float | None) -> None:
    if cost_model not in (None, "features"):
        raise CascjaxError(
            f"learner 'joint' has no cost model {cost_model!r}: it tells costs from features;"
            " leave the cost model (--cost-model) out"
        )
    if ridge not in (None, TrainingSet.ridge):
        raise CascjaxError(
            f"learner 'joint' has no use for ridge {ridge:g}: it finds penalties and shrinkage on"
            " rows left out; leave the ridge (--ridge) out"
        )


def _regressions(training: TrainingSet, *, logistic: bool) -> Taught:
    """A regression for every run set and model."""
    k, rows = len(training.models), training.folds.fit_rows
    _check_run_sets(k)
    shown, quality = training.design.shown(), training.quality[rows].astype(np.float64)
    fold, notes = training.folds.fold[rows], []
    few = np.ptp(quality, axis=0) == 0
    if logistic:
        few |= _too_few(quality, training.folds, fold)
    taught = np.flatnonzero(~few)
    weights = np.zeros((training.folds.n_folds + 1, len(shown), k, shown.shape[1]))
    weights[:, :, few, 0] = _prior(training, quality, few, logistic=logistic)[:, None]
    for i in np.flatnonzero(few):
        notes.append(_few_note(training.models[i], quality[:, i]))
    if not training.cost[rows].any():
        notes.append("every model costs 0 on all rows to fit on: there is no cost to save")
    seen = training.design.seen[rows]
    blocks = Blocks.of(seen, quality, fold, n_sets=len(shown))
    moved, some, chosen = moments(blocks, weights, logistic=logistic), blocks, None
    if len(taught):
        if few.any():
            some = Blocks.of(seen, quality[:, taught], fold, n_sets=len(shown))
        tried = RIDGES if training.ridge is None else (training.ridge,)
        least, unsettled, chosen = np.inf, "", tried[0]
        for ridge in tried:
            found = (fit_logistic if logistic else fit_linear)(some, shown, ridge=ridge)
            guess = weights.copy()
            guess[:, :, taught] = found.weights
            off = moments(blocks, guess, logistic=logistic)
            if not off.error.mean() < least and least < np.inf:
                break
            least, weights, moved, chosen = off.error.mean(), guess, off, ridge
            unsettled = _unsettled(found)
        if training.ridge is None:
            notes.append(f"of the ridges tried, {chosen:g} errs least out of fold")
        notes += [unsettled] if unsettled else []
    covariance = np.where(with_ran(every_run_set(k)), 0, moved.covariance)
    costs = _costs(training)
    estimator = RunSets(
        seen=training.design.seen,
        fold=training.folds.fold.astype(np.int32),
        quality_weights=weights.astype(np.float32),
        cost_weights=costs.weights.astype(np.float32),
        covariance=covariance.astype(np.float32),
        cost_run=np.asarray(training.cost_run, np.float32),
        logistic=logistic,
    )
    variance = quality.var(0)
    return Taught(
        estimator,
        costs.name,
        (*notes, *costs.notes),
        _explained(moved.error[0], variance),
        _explained(moved.error[-1], variance),
        costs.explained,
        chosen,
    )


def _unsettled(found: Regressions) -> str:
    """What is to be said of regressions that did not converge; nothing if all did."""
    if not found.unfinished:
        return ""
    return (
        f"{found.unfinished:,} of {found.weights[..., 0].size:,} regressions had not settled after"
        f" {found.passes} passes: a coefficient still moved by {found.remaining:.1g}"
    )


def _explained(
    error: Float[np.ndarray, " K"], variance: Float[np.ndarray, " K"]
) -> Float[np.ndarray, " K"]:
    return np.where(variance > 0, 1 - error / np.where(variance > 0, variance, 1), np.nan)


def _too_few(
    quality: Float[np.ndarray, "n K"], folds: Folds, fold: Int[np.ndarray, " n"]
) -> Bool[np.ndarray, " K"]:
    """Models with too few good or too few bad answers, over all or with a fold left out."""
    good = np.stack([quality[fold != f].sum(0) for f in range(folds.n_folds)])
    count = np.stack([np.count_nonzero(fold != f) for f in range(folds.n_folds)])[:, None]
    rarer = np.minimum(good, count - good)
    overall = np.minimum(quality.sum(0), (1 - quality).sum(0))
    return (overall < LEAST_OF_CLASS) | (rarer.min(0) <= 0)


def _prior(
    training: TrainingSet,
    quality: Float[np.ndarray, "n K"],
    few: Bool[np.ndarray, " K"],
    *,
    logistic: bool,
) -> Float[np.ndarray, "F1 few"]:
    """The first weight of models whose estimate is their mean, of each fold's other rows."""
    fold = training.folds.fold[training.folds.fit_rows]
    means = []
    for f in range(training.folds.n_folds + 1):
        rest = quality[fold != f][:, few]
        # Half an answer of each kind more, so that nothing is certain.
        means.append((rest.sum(0) + 0.5) / (len(rest) + 1) if logistic else rest.mean(0))
    mean = np.stack(means)
    return np.log(mean / (1 - mean)) if logistic else mean


def shrinkage_note(share: float) -> str:
    """By how much correlations are shrunk, and what it means that nothing is left of them."""
    note = f"correlations of signals and qualities are shrunk by {share:.0%}"
    if share < 0.995:
        return note
    return f"{note}: models are taken as independent, for held-out rows bore no correlation out"


def _few_note(model: str, quality: Float[np.ndarray, " n"]) -> str:
    if np.ptp(quality) == 0:
        return (
            f"{model}: quality is {quality[0]:g} in all {len(quality):,} rows to fit on; that is"
            " its estimate everywhere, whatever a query shows"
        )
    good = quality.sum()
    count, kind = (good, "good") if 2 * good < len(quality) else (len(quality) - good, "bad")
    return (
        f"{model}: {count:.3g} {kind} answers in {len(quality):,} rows to fit on are too few to"
        f" learn from (fewer than {LEAST_OF_CLASS}); its mean quality, {quality.mean():.3g}, is its"
        " estimate everywhere"
    )


@dataclass(frozen=True)
class _Costs:
    """Weights of the costs of models that have not run, and how far they are off.

    Attributes:
        weights: `[F + 1, S or 1, K, D]`.
        name: of the cost model.
        notes: what is to be said of them.
        explained: `[K]` share of the variance of cost explained before anything has run.
    """

    weights: Float[np.ndarray, "G S K D"]
    name: str
    notes: tuple[str, ...]
    explained: Float[np.ndarray, " K"]


def _costs(training: TrainingSet) -> _Costs:
    """The cost model asked for, or that of least error on rows it was not fitted on."""
    rows, k = training.folds.fit_rows, len(training.models)
    cost = training.cost[rows].astype(np.float64)
    # In units of its mean, so that a ridge on weights and float32 do the same for all models.
    mean = cost.mean(0)
    scale = np.where(mean > 0, mean, 1)
    shown = training.design.shown()
    before = np.arange(len(training.design.names)) > 0
    blocks = Blocks.of(
        training.design.seen[rows],
        (cost / scale).astype(np.float32),
        training.folds.fold[rows],
        n_sets=len(shown),
    )
    # Of run sets in which a model has not run all count the same.
    counts = ~every_run_set(k) / 2 ** (k - 1)
    variance = (cost / scale).var(0)
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for name in COST_MODELS if training.cost_model is None else (training.cost_model,):
        of = {"constant": shown[:1] & ~before, "features": shown[:1], "seen": shown}[name]
        weights = _kept_positive(fit_linear(blocks, of).weights, blocks)
        found[name] = weights, moments(blocks, weights, logistic=False).error
    varies = variance > 1e-12
    best, least = "", np.inf
    for name, (_, error) in found.items():
        each = np.sum(error * counts, 0) if len(error) > 1 else error[0]
        share = float(np.mean(each[varies] / variance[varies])) if varies.any() else 0.0
        if share < least - (_SIMPLER if best else 0):
            best, least = name, share
    weights, error = found[best]
    notes = []
    if training.cost_model is None and best != "constant":
        what = "what is known beforehand"
        what = what if best == "features" else f"{what} and from models that have run"
        notes.append(f"costs are told from {what}: that explains {1 - least:.0%} of their variance")
    return _Costs(weights * scale[:, None], best, tuple(notes), _explained(error[0], variance))


def _kept_positive(
    weights: Float[np.ndarray, "G S K D"], blocks: Blocks
) -> Float[np.ndarray, "G S K D"]:
    """The weights, all but the first made smaller until no row fitted on is told a cost below 0.

    A regression's line crosses 0 where costs are skewed. All slopes of a model, run set and fold
    are shrunk by one factor towards the mean cost, so that the mean stays as it is.
    """
    lowest = np.full(weights.shape[:3], np.inf)
    middle = np.zeros(weights.shape[:3])
    for x in blocks.seen:
        x64 = np.asarray(x, np.float64)[:, np.asarray(x[0]) > 0]
        told = weights @ x64
        lowest = np.minimum(lowest, told.min(-1))
        middle += told.sum(-1) / blocks.n_rows
    least = _LEAST_COST * middle
    factor = np.where(lowest < least, (middle - least) / np.maximum(middle - lowest, 1e-300), 1)
    centre = sum(np.asarray(x, np.float64).sum(1) for x in blocks.seen) / blocks.n_rows
    shrunk = weights * factor[..., None]
    shrunk[..., 0] = 0
    shrunk[..., 0] = middle - shrunk @ centre
    return shrunk


_LEAST_COST = 0.01
"""Share of a model's mean cost that estimates of it stay above on rows fitted on."""
