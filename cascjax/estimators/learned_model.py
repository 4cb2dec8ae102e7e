"""Regressions of every run set, one set of weights per fold: for tables, live and in files."""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import jax
import msgspec
import numpy as np
from jaxtyping import Bool, Float, Int

from cascjax.data.codec import from_json, to_json
from cascjax.errors import CascjaxError
from cascjax.estimators.base import every_run_set, with_ran
from cascjax.estimators.design import Design
from cascjax.estimators.feature_spec import FeatureSpec
from cascjax.estimators.run_sets import RunSets
from cascjax.estimators.training import PolicyModel

_ARRAYS = ("quality_weights", "cost_weights", "covariance")

_ROUNDED = 1e-5
"""Rounding of a float32 covariance that is tolerated, as a share of the largest variance."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LearnedModel(PolicyModel):
    """One regression per fold, run set and model, and the feature spec of their columns.

    Run sets count in binary: bit i of their number is set where model i has run.
    """

    form: ClassVar[str] = "run sets"  # where a policy file states none

    quality_weights: Float[np.ndarray, "F S K D"]  # 0 where a run set does not show a column
    cost_weights: Float[np.ndarray, "F #S K D"]  # S = 1: independent of the models that have run
    covariance: Float[np.ndarray, "S K K"]  # of estimate under a run set - estimate under all
    logistic: bool = field(metadata={"static": True})
    feature_spec: FeatureSpec = field(metadata={"static": True})  # how the D columns are made

    @property
    def n_folds(self) -> int:
        """Number of sets of weights."""
        return len(self.quality_weights)

    def estimator(
        self, design: Design, cost_run: Float[np.ndarray, "N K"], fold: Int[np.ndarray, " N"]
    ) -> RunSets:
        """Return the estimates of the queries of a design."""
        return RunSets(
            seen=design.seen,
            fold=fold,
            quality_weights=np.asarray(self.quality_weights),
            cost_weights=np.asarray(self.cost_weights),
            covariance=np.asarray(self.covariance),
            cost_run=cost_run,
            logistic=self.logistic,
        )

    def scaled(self, sigma_scale: float) -> "LearnedModel":
        """Return the same model with every sigma multiplied by a number."""
        return replace(self, covariance=self.covariance * np.float32(sigma_scale**2))

    def check(self) -> None:
        """Refuse damaged weights; on the host."""
        _check_sizes(self.feature_spec, {name: np.asarray(getattr(self, name)) for name in _ARRAYS})
        k = len(self.feature_spec.models)
        hidden = ~self.feature_spec.shown()[:, None]
        for name in ("quality_weights", "cost_weights"):
            weights = np.asarray(getattr(self, name))
            if (weights[:, hidden[: weights.shape[1]].repeat(k, 1)] != 0).any():
                raise CascjaxError(
                    f"{name} of learned estimates use columns that are not known yet; refit the"
                    " policy"
                )
        check_covariance(np.asarray(self.covariance), np.asarray(with_ran(every_run_set(k))))

    def to_json(self) -> dict[str, Any]:
        """Return the content of the field "learned" of a policy file."""
        return to_json(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "LearnedModel":
        """Return the model that `to_json` wrote."""
        stored = from_json(content, _Stored, "learned")
        with np.errstate(over="ignore"):  # an overflow is refused as not finite
            arrays = {name: getattr(stored, name).astype(np.float32) for name in _ARRAYS}
        for name in ("quality_weights", "cost_weights"):
            if arrays[name].ndim == 3:  # as versions 1 and 2 of the format have it: one fold
                arrays[name] = arrays[name][None]
        _check_sizes(stored.feature_spec, arrays)
        model = cls(**arrays, logistic=stored.logistic, feature_spec=stored.feature_spec)
        model.check()
        return model


class _Stored(msgspec.Struct, forbid_unknown_fields=True):
    """The fields of a learned model in a policy file."""

    quality_weights: np.ndarray
    cost_weights: np.ndarray
    covariance: np.ndarray
    logistic: bool
    feature_spec: FeatureSpec


def _check_sizes(feature_spec: FeatureSpec, arrays: dict[str, np.ndarray]) -> None:
    k, d = len(feature_spec.models), len(feature_spec.columns)
    folds = max(1, len(arrays["quality_weights"]))
    shapes = {
        "quality_weights": [(folds, 2**k, k, d)],
        "cost_weights": [(folds, 1, k, d), (folds, 2**k, k, d)],
        "covariance": [(2**k, k, k)],
    }
    check_arrays(arrays, shapes, f"{k} models and {d} columns")


def check_arrays(
    arrays: dict[str, np.ndarray], shapes: dict[str, list[tuple[int, ...]]], sizes: str
) -> None:
    """Refuse arrays of none of their shapes, or with numbers that are not finite."""
    for name, array in arrays.items():
        if array.shape not in shapes[name]:
            allowed = " or ".join(str(list(shape)) for shape in shapes[name])
            raise CascjaxError(
                f"{name} of learned estimates of {sizes} must be {allowed}, not"
                f" {list(array.shape)}; refit the policy"
            )
        if not np.isfinite(array).all():
            raise CascjaxError(f"{name} of learned estimates must be finite; refit the policy")


def check_covariance(
    covariance: Float[np.ndarray, "*S P P"], ran: Bool[np.ndarray, "*S P P"] | None = None
) -> None:
    """Refuse a matrix that is no covariance, up to rounding, or not 0 for models that have run."""
    exact = covariance.astype(np.float64)
    off = _ROUNDED * max(float(np.abs(exact).max(initial=0)), 1e-30)
    symmetric = np.abs(exact - exact.mT).max(initial=0) <= off
    left = ran is not None and exact[ran].any()
    if left or not symmetric or np.linalg.eigvalsh(exact).min(initial=0) < -off:
        raise CascjaxError(
            "covariance of learned estimates holds a matrix that is not a covariance; refit the"
            " policy"
        )
