"""Estimates as an argument: `Supplied`, `Noisy`, `Learned`, or an estimator of the caller's own.

A spec describes estimates before any row is read. It states which columns it needs and which
statistics of all rows; these are collected chunk by chunk and merged. `fit` then turns the merged
statistics and a sample of the fit split into a `ChunkEstimates`, which gives the estimator of any
chunk.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from cascjax.core.checks import check_numbers
from cascjax.core.estimates import Estimates, Estimator, Independent
from cascjax.data.source import Source
from cascjax.data.table import ESTIMATE_COLUMNS, Chunk, Table, take_rows
from cascjax.errors import CascjaxError, RefusedError, check_name
from cascjax.estimators.independent import (
    check_estimator,
    from_columns,
    from_lines,
    noise_level,
    noise_scale,
    truth,
)
from cascjax.estimators.learned import check_keepable, check_learning, check_quality, learned
from cascjax.estimators.registry import ESTIMATORS, learned_estimator
from cascjax.estimators.statistics import Moments, fit_lines, noise_keys, normals
from cascjax.estimators.training import PolicyModel
from cascjax.words import counted

NoiseLevel: TypeAlias = Literal["low", "medium", "high"] | str | Sequence[float]


_COST_NOISE = (1e-4, 10.0)
"""Noise of cost relative to the highest mean cost beyond which a named level is questioned."""


@dataclass(frozen=True)
class FitData:
    """What estimates are fitted on; models in rising mean cost."""

    order: Int[np.ndarray, " K"]  # position of each model in the order of the source
    mean_cost: Float[np.ndarray, " K"]  # mean cost of each model over the fit split
    statistics: Any  # merged statistics of all rows, models in the order of the source
    table: Table  # the sample of the fit split
    rows: Int[np.ndarray, " m"]  # row numbers of the sample, rising
    n_fit: int  # number of rows of the fit split
    seed: int  # seed of noise and folds
    sigma: Float[np.ndarray, " K"] | None = None  # of a policy, in place of what would be fitted


@dataclass(frozen=True, eq=False)
class ChunkEstimates:
    """Estimates that are ready to be computed for any chunk, models in rising mean cost.

    Attributes:
        estimator: from a table and its row numbers `[n]` to the estimator of these rows.
        notes: what a report says about them in addition to the spec.
        sigma_scale: factor on sigmas; None to choose it for each strategy.
        digest: hash of what was learned, equal in all processes; empty if nothing was.
        model: what was learned, for a policy; None if nothing was, or a policy cannot keep it.
        spec: spec that a policy keeps, if not the one that was fitted.
    """

    estimator: Callable[[Table, Int[np.ndarray, " n"]], Estimator]
    notes: Mapping[str, Any] = field(default_factory=dict)
    sigma_scale: float | None = 1.0
    digest: str = ""
    model: PolicyModel | None = None
    spec: "EstimatesSpec | None" = None

    def record(self) -> dict[str, Any]:
        """Return what a report says about them in addition to the spec."""
        return dict(self.notes)


@dataclass(frozen=True)
class EstimatesSpec(ABC):
    """Description of estimates; see `Supplied`, `Noisy` and `Learned`."""

    kind: ClassVar[str]
    columns: ClassVar[tuple[str, ...]] = ()  # read in addition to quality and cost
    simulated: ClassVar[bool] = False  # from the true quality and cost of all rows
    learns: ClassVar[bool] = False  # from the sample, of which it wants many rows
    instead: ClassVar[str] = ""  # what to choose where there are too many models, for the message

    @property
    def max_models(self) -> int | None:
        """Largest number of models; None where any number will do."""
        return None

    def check(self, source: Source, sample: int) -> None:  # noqa: B027
        """Refuse, before rows are read, estimates that the source or the sample cannot give."""

    def check_policy(self) -> None:  # noqa: B027
        """Refuse, before rows are read, estimates that a policy cannot keep."""

    def statistics(self, chunk: Chunk, table: Table, fit: Bool[np.ndarray, " n"], seed: int) -> Any:
        """Return statistics of a chunk that have a method `merge` and `fit` needs, or None."""
        return None

    @abstractmethod
    def fit(self, data: FitData) -> ChunkEstimates:
        """Return the fitted estimates."""

    def to_json(self) -> dict[str, Any]:
        """Return the spec as JSON values."""
        return {"kind": self.kind} | asdict(self)

    def record(self) -> dict[str, Any]:
        """Return what a report says about the spec."""
        return {"estimates": self.kind}


@dataclass(frozen=True)
class Supplied(EstimatesSpec):
    """Estimates in the columns quality_ante, quality_post, cost_ante and cost_post of the source.

    Without a column quality_sigma, sigma is the standard deviation of ante minus post over the fit
    split. Without cost columns, the cost of a model is its mean over the fit split until it has
    run, and its true cost afterwards.

    Example:
        >>> Supplied().to_json()
        {'kind': 'supplied'}
    """

    kind: ClassVar[str] = "supplied"
    columns: ClassVar[tuple[str, ...]] = ESTIMATE_COLUMNS

    def check(self, source: Source, sample: int) -> None:
        """Refuse a source without quality_ante or quality_post."""
        for column in ("quality_ante", "quality_post"):
            if column not in source.columns:
                raise CascjaxError(
                    f"{source.name} has no column {column!r}, which supplied estimates need; add"
                    " the column, or use learned or noisy estimates"
                )

    def statistics(
        self, chunk: Chunk, table: Table, fit: Bool[np.ndarray, " n"], seed: int
    ) -> Moments | None:
        """Return the spread of ante minus post over the fit rows, unless quality_sigma says it."""
        assert table.quality_ante is not None
        assert table.quality_post is not None
        if table.quality_sigma is not None:
            advice = "give standard deviations that are finite and not negative (quality_sigma)"
            check_numbers("sigma", table.quality_sigma, 0.0, advice, table.models)
            return None
        return Moments.of_difference(table.quality_ante, table.quality_post, np.flatnonzero(fit))

    def fit(self, data: FitData) -> ChunkEstimates:
        """Return the estimates with sigma and mean costs of the fit split filled in."""
        spread: Moments | None = data.statistics
        sigma = data.sigma if spread is None else spread.sigma[data.order]
        return ChunkEstimates(lambda table, rows: from_columns(table, sigma, data.mean_cost))


@dataclass(frozen=True)
class NoiseMoments:
    """Moments of quality and of cost, each with its two noises, and the range of quality."""

    quality: Moments
    cost: Moments
    span: Float[np.ndarray, "2"]  # lowest and highest quality

    def merge(self, other: "NoiseMoments") -> "NoiseMoments":
        """Return the moments over the rows of both."""
        low, high = np.minimum(self.span[0], other.span[0]), np.maximum(self.span[1], other.span[1])
        quality, cost = self.quality.merge(other.quality), self.cost.merge(other.cost)
        return NoiseMoments(quality, cost, np.array([low, high]))


@dataclass(frozen=True)
class Noisy(EstimatesSpec):
    """Simulated estimates: the truth with normal noise, then least squares (the paper's protocol).

    They show how good estimates of a given accuracy would be, and need no column beside quality
    and cost. The regressions use all rows.

    The named levels are the paper's, for qualities from 0 to 1. Where qualities range over more
    than 1.5 or less than 0.1, the noise of quality is multiplied by their range, so that a log
    with scores of 0 to 100 has the same frontier as the log with these divided by 100. Costs are
    taken as USD: a note says where a level's noise is out of proportion to the costs.

    Args:
        level: "low" (0.6, 0.3, 0.0002, 0.00005), "medium" (1.6, 0.8, 0.0004, 0.0001), "high" (2.4,
            1.2, 100, 100), or four standard deviations: of quality before and after the model has
            run, and of cost before and after, in the units of the source, never multiplied.

    Raises:
        CascjaxError: an unknown level, or not four finite numbers of at least 0.

    Reference: Dekoninck, Baader and Vechev, "A Unified Approach to Routing and Cascading for LLMs",
    ICML 2025, section 5.

    Example:
        >>> Noisy("low").sigmas
        (0.6, 0.3, 0.0002, 5e-05)
    """

    level: NoiseLevel = "low"

    kind: ClassVar[str] = "noisy"
    simulated: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the level."""
        level = self.level if isinstance(self.level, str) else tuple(map(float, self.level))
        noise_level(level)
        object.__setattr__(self, "level", level)

    @property
    def sigmas(self) -> tuple[float, float, float, float]:
        """Standard deviations of the noise of quality ante and post, and of cost ante and post."""
        return noise_level(self.level)

    def statistics(
        self, chunk: Chunk, table: Table, fit: Bool[np.ndarray, " n"], seed: int
    ) -> NoiseMoments:
        """Return the moments of quality, cost and their noises over all rows of the chunk."""
        noise = normals(noise_keys(seed), chunk.rows, table.n_models)
        return NoiseMoments(
            Moments.of_noise(table.quality, noise[0], noise[1]),
            Moments.of_noise(table.cost, noise[2], noise[3]),
            np.array([table.quality.min(), table.quality.max()], np.float64),
        )

    def fit(self, data: FitData) -> ChunkEstimates:
        """Return the estimates with the regressions over all rows filled in.

        The noise of a row depends on seed and row number only.
        """
        moments: NoiseMoments = data.statistics
        quality, cost = self.sigmas[:2], self.sigmas[2:]
        record: dict[str, Any] = {}
        if isinstance(self.level, str):
            low, high = moments.span.tolist()
            if (scale := noise_scale(low, high)) != 1:
                quality = quality[0] * scale, quality[1] * scale
                record = {"noise_scale": scale, "quality_range": [low, high]}
            record |= _cost_notes(self.level, cost[0], moments.cost.mean[: len(data.order)])
        *lines, spread = fit_lines(moments.quality, quality, data.order)
        lines += fit_lines(moments.cost, cost, data.order)[:2]
        sigma = spread if data.sigma is None else data.sigma

        def estimator(table: Table, rows: Int[np.ndarray, " n"]) -> Estimator:
            noise = normals(noise_keys(data.seed), rows, table.n_models)
            return from_lines(table, lines, noise, sigma)

        return ChunkEstimates(estimator, record)

    def record(self) -> dict[str, Any]:
        """Return what a report says about the spec."""
        noise = self.level if isinstance(self.level, str) else list(self.level)
        return {"estimates": self.kind, "noise": noise}


def _cost_notes(level: str, sigma: float, mean: Float[np.ndarray, " K"]) -> dict[str, Any]:
    """Return a note if the noise of a level is out of proportion to the costs, which it fits."""
    highest = float(mean.max())
    if not highest or level == "high":  # a level at which nothing is known of costs
        return {}
    ratio = sigma / highest
    if _COST_NOISE[0] <= ratio <= _COST_NOISE[1]:
        return {}
    effect = "hides all differences" if ratio > 1 else "is next to none"
    return {
        "notes": [
            f"noise level {level!r} is made for costs in USD: its {sigma:g} {effect} where mean"
            f" costs go up to {highest:.3g}; give four standard deviations instead"
        ]
    }


@dataclass(frozen=True)
class Learned(EstimatesSpec):
    """Estimates fitted on features, signals, answers and group of the fit split, cross-fitted.

    Args:
        estimator: "logistic" or "linear" (up to 8 models), "joint", "joint-knn" or "joint-mlp".
        folds: number of folds of the cross-fitting.
        ridge: penalty on squared weights of the quality regressions, or None to choose among 1,
            10, 100 and 1000 by out-of-fold error.
        cost_model: inputs of the cost model: "constant", "features" or "seen"; None to choose by
            out-of-fold error.
        sigma_scale: factor on the standard deviations, from 0 to 10, or "auto" to choose the best
            of 1, 0.75, 0.5, 0.25 and 0 on the fit split, strategy by strategy.

    Raises:
        CascjaxError: an unknown name, or a number outside its range.

    Example:
        >>> Learned("linear", folds=3).to_json()["folds"]
        3
    """

    estimator: str = "logistic"
    folds: int = 5
    ridge: float | None = 1.0
    cost_model: str | None = None
    sigma_scale: float | Literal["auto"] = "auto"

    kind: ClassVar[str] = "learned"
    learns: ClassVar[bool] = True
    columns: ClassVar[tuple[str, ...]] = ("features", "signals", "answer", "group")
    instead: ClassVar[str] = "estimator=joint"

    def __post_init__(self) -> None:
        """Check the values."""
        check_learning(self.estimator, self.cost_model, self.ridge, self.folds)
        scale = self.sigma_scale
        if scale != "auto" and (isinstance(scale, str) or not 0 <= scale <= 10):
            raise CascjaxError(
                f"sigma_scale must be 'auto' or a number from 0 to 10, not {scale!r:.40}"
            )

    @property
    def max_models(self) -> int | None:
        """Largest number of models that the estimator takes."""
        return learned_estimator(self.estimator).max_models

    def check(self, source: Source, sample: int) -> None:
        """Refuse too many models for the estimator, or a sample too small for the folds."""
        check_learning(
            self.estimator, self.cost_model, self.ridge, self.folds, n_models=source.n_models
        )
        if sample < 2 * self.folds:
            raise CascjaxError(
                f"a sample of {counted(sample, 'row')} is too small for {self.folds} folds; use"
                f" sample={2 * self.folds} or more"
            )

    def check_policy(self) -> None:
        """Refuse an estimator that keeps the rows it was fitted on."""
        check_keepable(self.estimator)

    def statistics(
        self, chunk: Chunk, table: Table, fit: Bool[np.ndarray, " n"], seed: int
    ) -> None:
        """Refuse a quality in any fit row that the estimator cannot take."""
        rows = np.flatnonzero(fit)
        quality = take_rows(table.quality, rows)
        try:
            check_quality(self.estimator, quality, chunk.start + rows, table.models)
        except RefusedError as error:
            if not chunk.file:
                raise
            raise RefusedError(f"{chunk.file}: {error}") from error

    def fit(self, data: FitData) -> ChunkEstimates:
        """Return the estimates learned from the sample."""
        every = np.arange(len(data.rows))
        try:
            result = learned(
                data.table,
                every,
                estimator=self.estimator,
                folds=self.folds,
                seed=data.seed,
                cost_model=self.cost_model,
                ridge=self.ridge,
            )
            check_estimator(result.estimator, data.table)
        except CascjaxError as error:
            raise RefusedError(str(error)) from error
        notes = result.settings()
        if len(data.rows) < data.n_fit:
            notes["notes"] += [
                f"estimates were learned from a sample of {len(data.rows):,} of {data.n_fit:,} fit"
                " rows"
            ]
        return ChunkEstimates(
            lambda table, rows: result.estimator_for(table, result.folds.of_rows(rows, data.rows)),
            notes,
            sigma_scale=None if self.sigma_scale == "auto" else float(self.sigma_scale),
            digest=result.digest,
            model=result.model if result.kind.model is not None else None,
        )


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Reordered:
    """An estimator with its models in another order."""

    estimator: Estimator
    order: tuple[int, ...] = field(metadata={"static": True})

    def __call__(self, run: Bool[Array, "B K"]) -> Estimates:
        """Return the estimates once the models in `run` have answered."""
        order = np.array(self.order)
        estimates = self.estimator(run[:, np.argsort(order)])
        covariance = estimates.covariance[:, order]
        if covariance.ndim > estimates.quality.ndim:
            covariance = covariance[:, :, order]
        return Estimates(estimates.quality[:, order], covariance, estimates.cost[:, order])

    def take(self, rows: slice | Int[np.ndarray, " n"]) -> "Reordered":
        """Return the estimator of some of its queries."""
        return replace(self, estimator=self.estimator.take(rows))


@dataclass(frozen=True, eq=False)
class Own(EstimatesSpec):
    """An estimator of all rows of the source, made by the caller."""

    estimator_of_all: Estimator  # the estimator, models in the order of the source
    order: tuple[int, ...] = ()  # of the models, once fitted

    kind: ClassVar[str] = "own"

    def check(self, source: Source, sample: int) -> None:
        """Refuse an estimator of another number of queries or models."""
        n_rows, n_models = source.n_rows, source.n_models
        # The last row, and one that must not exist.
        last = self.estimator_of_all.take(slice(n_rows - 1, n_rows + 1))
        run = jnp.zeros((1, n_models), bool)
        try:
            shape = jax.jit(lambda these, run: these(run))(last, run).quality.shape
        except (TypeError, ValueError):
            shape = ()
        if shape != (1, n_models):
            raise CascjaxError(
                f"the estimator is not one of {n_rows:,} queries x {n_models} models, which"
                f" {source.name} has; make it from all rows of the source, in their order"
            )

    def fit(self, data: FitData) -> ChunkEstimates:
        """Return the estimator with its models in rising mean cost."""
        if self.order:
            return ChunkEstimates(self._rows)
        order = tuple(data.order.tolist())
        names = [data.table.models[i] for i in np.argsort(data.order)]
        check_estimator(self.estimator_of_all, data.table.select_models(names))
        ordered = replace(self, order=order)
        return ChunkEstimates(ordered._rows, spec=ordered)

    def _rows(self, table: Table, rows: Int[np.ndarray, " n"]) -> Estimator:
        """Return the estimator of some rows."""
        start, stop = int(rows[0]), int(rows[-1]) + 1
        consecutive = stop - start == len(rows)  # row numbers rise
        taken = self.estimator_of_all.take(slice(start, stop) if consecutive else rows)
        if self.order == tuple(range(len(self.order))):
            return taken
        if isinstance(taken, Independent):
            return jax.tree.map(lambda leaf: leaf[:, np.array(self.order)], taken)
        return Reordered(taken, self.order)

    def to_json(self) -> dict[str, Any]:
        """Refuse: an estimator of the caller's own cannot be written as JSON."""
        raise CascjaxError("an estimator of your own cannot be written as JSON")


@dataclass(frozen=True)
class Unread(EstimatesSpec):
    """The truth in place of estimates, for strategies that read none or the truth itself."""

    kind: ClassVar[str] = "none"

    def fit(self, data: FitData) -> ChunkEstimates:
        """Return the truth of any rows."""
        return ChunkEstimates(lambda table, rows: truth(table))


ESTIMATES: dict[str, type[EstimatesSpec]] = {spec.kind: spec for spec in (Supplied, Noisy, Learned)}
"""Estimates by name."""


def as_estimates(
    estimates: EstimatesSpec | Estimator | str | None, source: Source
) -> EstimatesSpec:
    """Return the spec of what a caller gave as estimates."""
    if estimates is None:
        return _default_estimates(source)
    if isinstance(estimates, EstimatesSpec):
        return estimates
    if isinstance(estimates, str):
        check_name("kind of estimates", estimates, ESTIMATES)
        return ESTIMATES[estimates]()
    if isinstance(estimates, Estimator):
        return Own(estimates)
    raise CascjaxError(
        f"estimates must be Supplied(), Noisy(), Learned() or an estimator, not {estimates!r:.60}"
    )


def _default_estimates(source: Source) -> EstimatesSpec:
    """Return supplied estimates if the source has them, else learned ones if it can teach any."""
    if {"quality_ante", "quality_post"} <= set(source.columns):
        return Supplied()
    if set(Learned.columns) & set(source.columns):
        first = ESTIMATORS[Learned.estimator]
        fits = first.max_models is None or source.n_models <= first.max_models
        return Learned() if fits else Learned("joint")
    raise CascjaxError(
        f"{source.name} has neither estimates (quality_ante and quality_post) nor anything to learn"
        " them from (features, signals, answer or group); add such columns, or simulate estimates"
        " of a given accuracy with estimates='noisy'"
    )
