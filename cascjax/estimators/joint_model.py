"""Joint normals, one per fold and one of all rows: for tables, live queries and in files."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
from jaxtyping import Bool, Float, Int

from cascjax.data.codec import from_json, to_json
from cascjax.errors import CascjaxError, check_name
from cascjax.estimators.design import Design
from cascjax.estimators.feature_spec import FeatureSpec
from cascjax.estimators.joint import MAX_TABULATED, Joint, gains_of
from cascjax.estimators.learned_model import check_arrays, check_covariance
from cascjax.estimators.predictors import Linear, Networks, Prediction
from cascjax.estimators.run_sets import RunSets
from cascjax.estimators.training import PolicyModel

_ARRAYS = ("spread", "covariance", "least_cost")

_LAYERS = ("first", "first bias", "second", "second bias", "last", "linear", "bias")

_NETWORKS = ("slope", "middle", "spread", "mean", "scale")  # Arrays of networks beside their layers

_LARGEST_SCALE = 10.0


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class JointModel(PolicyModel):
    """Means from predictors, one covariance for all run sets, and the feature spec.

    There are G predictors and covariances: one per fold, and one of all rows, which says how far
    estimates may move.
    """

    form: ClassVar[str] = "joint"

    predictions: tuple[Prediction, ...]
    spread: Float[np.ndarray, "G M"]  # RMSE of the expected signals, at least 0.03; 1 where 0
    covariance: Float[np.ndarray, "G P P"]  # of M signals / spread, then of K qualities
    least_cost: Float[np.ndarray, " K"]  # lower bound of expected costs, in the table's cost unit
    sigma_scale: float = field(metadata={"static": True})
    feature_spec: FeatureSpec = field(metadata={"static": True})

    @functools.cached_property
    def needs(self) -> Bool[np.ndarray, "M K"]:
        """The models that must have run for each signal to be known."""
        return self.feature_spec.needs[self.feature_spec.needs.any(1)]

    @property
    def n_folds(self) -> int:
        """Number of folds; 1 where there is nothing but the normal of all rows."""
        return max(1, len(self.predictions) - 1)

    @functools.cached_property
    def _normal(self) -> Joint:
        """The joint normal without a query."""
        (m, k), whole = self.needs.shape, self.covariance[-1].astype(np.float64)
        gains, none = gains_of(whole, np.ones((1, m), bool), k)[0], np.zeros((0, k), np.float32)
        return Joint(
            quality=none,
            surprise=np.zeros((0, m), np.float32),
            cost=none,
            cost_run=none,
            fold=np.zeros(0, np.int32),
            covariance=self.covariance,
            remaining=(whole[m:, m:] - gains @ whole[:m, m:]).astype(np.float32),
            needs=self.needs,
            sigma_scale=self.sigma_scale,
        )

    @functools.cached_property
    def _table(self) -> RunSets:
        return self._normal.to_run_sets()

    def joint(
        self, design: Design, cost_run: Float[np.ndarray, "N K"], fold: Int[np.ndarray, " N"]
    ) -> Joint:
        """Return the estimates of the queries of a design, those of fold G by all rows' normal."""
        features, signals = split_columns(design.seen, self.feature_spec)
        expected, (m, k) = predict_by_fold(self.predictions, features, fold), self.needs.shape
        return replace(
            self._normal,
            quality=expected[:, m : m + k],
            surprise=(signals - expected[:, :m]) / self.spread[fold],
            cost=np.maximum(expected[:, m + k :], self.least_cost),
            cost_run=np.asarray(cost_run, np.float32),
            fold=np.asarray(fold, np.int32),
        )

    def estimator(
        self, design: Design, cost_run: Float[np.ndarray, "N K"], fold: Int[np.ndarray, " N"]
    ) -> RunSets | Joint:
        """Return the same estimates, as a table of all run sets up to `MAX_TABULATED` models."""
        joint = self.joint(design, cost_run, fold)
        if len(self.feature_spec.models) > MAX_TABULATED:
            return joint
        return replace(self._table, seen=joint.seen, fold=joint.fold, cost_run=joint.cost_run)

    def scaled(self, sigma_scale: float) -> "JointModel":
        """Return the same model with every sigma multiplied by a number."""
        return replace(self, sigma_scale=self.sigma_scale * sigma_scale)

    def check(self) -> None:
        """Refuse damaged weights; on the host."""
        (m, k), g = self.needs.shape, len(self.predictions)
        f, heads = len(self.feature_spec.columns) - 1 - m, m + 2 * k
        arrays = {name: np.asarray(getattr(self, name)) for name in _ARRAYS}
        shapes = {"spread": (g, m), "covariance": (g, m + k, m + k), "least_cost": (k,)}
        for prediction in self.predictions:
            own = _prediction_arrays(prediction)
            every = arrays | {f"prediction {name}": array for name, array in own.items()}
            wanted = shapes | {f"prediction {n}": s for n, s in _shapes(own, f, heads).items()}
            sizes = f"{k} models, {f} features and {m} signals"
            check_arrays(every, {name: [shape] for name, shape in wanted.items()}, sizes)
            for name, array in every.items():
                if name.endswith(("spread", "scale")) and not (array > 0).all():
                    raise CascjaxError(
                        f"{name} of learned estimates must be above 0; refit the policy"
                    )
        if (self.least_cost < 0).any() or not 0 <= self.sigma_scale <= _LARGEST_SCALE:
            raise CascjaxError(
                "least_cost of learned estimates must not be negative, and sigma_scale must be from"
                " 0 to 10; refit the policy"
            )
        check_covariance(arrays["covariance"])

    def to_json(self) -> dict[str, Any]:
        """Return the content of the field "learned" of a policy file."""
        predictions = [to_json(_prediction_arrays(each)) for each in self.predictions]
        content = {"kind": self.form, "prediction": predictions}
        names = ("sigma_scale", "feature_spec", *_ARRAYS)
        return content | {name: to_json(getattr(self, name)) for name in names}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "JointModel":
        """Return the model that `to_json` wrote."""
        if isinstance(content.get("prediction"), dict):  # versions 1 and 2: one of all rows
            folded = ("prediction", "spread", "covariance")
            content = content | {name: [content[name]] for name in folded if name in content}
        stored = from_json(content, _Stored, "learned")
        with np.errstate(over="ignore"):  # an overflow is refused as not finite
            arrays = {name: getattr(stored, name).astype(np.float32) for name in _ARRAYS}
            predictions = tuple(map(_prediction, stored.prediction))
        model = cls(
            predictions, **arrays, sigma_scale=stored.sigma_scale, feature_spec=stored.feature_spec
        )
        model.check()
        return model


class _Stored(msgspec.Struct, forbid_unknown_fields=True):
    """The fields of a joint model in a policy file."""

    kind: Literal["joint"]
    sigma_scale: float
    feature_spec: FeatureSpec
    prediction: tuple[dict[str, np.ndarray], ...]
    spread: np.ndarray
    covariance: np.ndarray
    least_cost: np.ndarray


def split_columns(
    seen: Float[np.ndarray, "n D"], feature_spec: FeatureSpec
) -> tuple[Float[np.ndarray, "n F"], Float[np.ndarray, "n M"]]:
    """Return the features, without the constant, and the signals."""
    signal = feature_spec.needs.any(1)
    return seen[:, ~signal][:, 1:], seen[:, signal]


def predict_by_fold(
    predictions: Sequence[Prediction],
    features: Float[np.ndarray, "n F"],
    fold: Int[np.ndarray, " n"],
) -> Float[np.ndarray, "n H"]:
    """Return what the prediction of each row's fold expects of it."""
    parts = {f: np.flatnonzero(fold == f) for f in np.unique(fold).tolist() or [0]}
    expected = [np.asarray(predictions[f].predict(features[rows])) for f, rows in parts.items()]
    order = np.argsort(np.concatenate(list(parts.values())))
    return np.concatenate(expected)[order]


def _prediction_arrays(prediction: Prediction) -> dict[str, np.ndarray]:
    if isinstance(prediction, Linear):
        return {name: np.asarray(getattr(prediction, name)) for name in ("weights", "offset")}
    assert isinstance(prediction, Networks)  # others hold the rows fitted on
    arrays = {name: prediction.weights[name] for name in _LAYERS}
    arrays |= {name: getattr(prediction, name) for name in _NETWORKS}
    return {name: np.asarray(array) for name, array in arrays.items()}


def _shapes(arrays: dict[str, np.ndarray], f: int, heads: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes that the arrays of a prediction of F features must have."""
    if "weights" in arrays:
        return {"weights": (f, heads), "offset": (heads,)}
    e, width = len(arrays["first bias"]), arrays["first bias"].shape[-1]
    sizes = ((f, width), (width,), (width, width), (width,), (width, heads), (f, heads), (heads,))
    layers = {name: (e, *size) for name, size in zip(_LAYERS, sizes, strict=True)}
    others = ((e, heads), (f,), (f,), (heads,), (heads,))
    return layers | dict(zip(_NETWORKS, others, strict=True))


def _prediction(arrays: dict[str, np.ndarray]) -> Linear | Networks:
    arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
    names = ("weights", "offset") if "weights" in arrays else (*_LAYERS, *_NETWORKS)
    for name in names:
        if name not in arrays:
            raise CascjaxError(f"'learned.prediction' lacks the field {name!r}; refit the policy")
    for name in arrays:
        check_name("field of 'learned.prediction'", name, names)
    if "weights" in arrays:
        weights, offset = arrays["weights"], arrays["offset"]
        if not weights.size:  # without features the list is empty, whatever the other axis
            weights = np.zeros((0, len(offset)), np.float32)
        return Linear(weights, offset)
    layers = {name: jnp.asarray(arrays[name]) for name in _LAYERS}
    return Networks(layers, **{name: jnp.asarray(arrays[name]) for name in _NETWORKS})
