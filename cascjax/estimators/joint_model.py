"""Joint Gaussian of a policy: fitted on all rows, for other tables and live queries."""

import functools
from dataclasses import dataclass, field
from typing import Any, Literal

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
from jaxtyping import Array, Bool, Float

from cascjax.core.estimates import Estimates
from cascjax.data.codec import from_json, to_json
from cascjax.data.table import Table
from cascjax.errors import CascjaxError, unknown_name
from cascjax.estimators.base import shown_by, with_ran
from cascjax.estimators.feature_spec import FeatureSpec
from cascjax.estimators.joint import MAX_TABULATED, Joint, Normal, gains_of
from cascjax.estimators.learned_model import check_arrays, check_covariance
from cascjax.estimators.predictors import Linear, Networks
from cascjax.estimators.run_sets import RunSets

JOINT = "joint"  # Field "kind" of such a model in a policy file

_ARRAYS = ("spread", "covariance", "least_cost")

_LAYERS = ("first", "first bias", "second", "second bias", "last", "linear", "bias")

_NETWORKS = ("slope", "middle", "spread", "mean", "scale")  # Arrays of networks beside their layers

_LARGEST_SCALE = 10.0


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class JointModel:
    """Means from a predictor, one covariance for all run sets, and the feature spec."""

    prediction: Linear | Networks
    spread: Float[np.ndarray, " M"]  # as in `Normal`
    covariance: Float[np.ndarray, "P P"]  # as in `Normal`
    least_cost: Float[np.ndarray, " K"]  # lower bound of expected costs, in the table's cost unit
    sigma_scale: float = field(metadata={"static": True})
    feature_spec: FeatureSpec = field(metadata={"static": True})

    @functools.cached_property
    def needs(self) -> Bool[np.ndarray, "M K"]:
        """The models that must have run for each signal to be known."""
        return self.feature_spec.needs[self._is_signal]

    @functools.cached_property
    def _is_signal(self) -> Bool[np.ndarray, " D"]:
        return np.asarray(self.feature_spec.needs.any(1))

    def _parts(
        self, seen: Float[np.ndarray, "n D"]
    ) -> tuple[Float[np.ndarray, "n F"], Float[np.ndarray, "n M"]]:
        """Return the features, without the constant, and the signals."""
        return seen[:, ~self._is_signal][:, 1:], seen[:, self._is_signal]

    def estimator(self, table: Table) -> RunSets | Joint:
        """Return the estimates of a table's queries, models in the order of the feature spec."""
        features, signals = self._parts(self.feature_spec.seen(table))
        if table.models and table.models != self.feature_spec.models:
            table = table.select_models(self.feature_spec.models)
        normal = Normal(self.spread[None], self.covariance[None], self.needs, self.least_cost)
        joint = Joint.expected((self.prediction,), normal, features, signals, table.cost)
        joint = joint.scaled(self.sigma_scale)
        return joint if len(self.feature_spec.models) > MAX_TABULATED else joint.to_run_sets()

    def estimates(
        self,
        row: Float[np.ndarray, "*B D"],
        run: Bool[np.ndarray, "*B K"] | Bool[Array, "*B K"],
        costs: Float[np.ndarray, "*B K"] | None = None,
    ) -> Estimates:
        """Return the estimates of a query, or of a batch; gains are solved once per run set."""
        run = np.asarray(run)
        (m, k), shape = self.needs.shape, run.shape
        features, signals = self._parts(row.reshape(-1, row.shape[-1]))
        expected = self._expected(features)
        surprise = (signals - expected[:, :m]) / self.spread
        sets, which = np.unique(run.reshape(-1, k), axis=0, return_inverse=True)
        solved = [self._gains(tuple(run_set.tolist())) for run_set in sets]
        gains, left = (np.stack(x)[which.reshape(-1)] for x in zip(*solved, strict=True))
        quality = expected[:, m : m + k] + np.einsum("bkm,bm->bk", gains, surprise)
        cost = np.maximum(expected[:, m + k :], self.least_cost).reshape(shape)
        if costs is not None:
            cost = np.where(run & np.isfinite(costs), np.asarray(costs, np.float32), cost)
        return Estimates(
            jnp.asarray(quality.reshape(shape)),
            jnp.asarray(left.reshape(*shape, k)),
            jnp.asarray(cost),
        )

    def _expected(self, features: Float[np.ndarray, "n F"]) -> Float[np.ndarray, "n H"]:
        """Return the predictions from features; weights are kept on the host or moved once."""
        if isinstance(self.prediction, Linear):
            return features @ np.asarray(self.prediction.weights) + self.prediction.offset
        return np.asarray(self._on_device.predict(features))

    @functools.cached_property
    def _on_device(self) -> Linear | Networks:
        return jax.device_put(self.prediction)

    def _gains(
        self, run: tuple[bool, ...]
    ) -> tuple[Float[np.ndarray, "K M"], Float[np.ndarray, "K K"]]:
        """Return the gains of a run set, and the covariance that is left after it."""
        if run not in self._solved:
            (m, k), ran = self.needs.shape, np.array(run)
            whole = self.covariance.astype(np.float64)
            shown = np.asarray(shown_by(np.stack([ran, np.ones(k, bool)]), self.needs))
            gains, all_gains = gains_of(whole, shown, k)
            left = (all_gains - gains) @ whole[:m, m:]
            left = np.where(with_ran(ran[None])[0], 0, left * self.sigma_scale**2)
            self._solved[run] = gains.astype(np.float32), left.astype(np.float32)
        return self._solved[run]

    @functools.cached_property
    def _solved(self) -> dict[tuple[bool, ...], tuple[np.ndarray, np.ndarray]]:
        return {}

    def check(self) -> None:
        """Refuse damaged weights; on the host."""
        (m, k), f = self.needs.shape, int((~self._is_signal).sum()) - 1
        heads = m + 2 * k
        arrays = {name: np.asarray(getattr(self, name)) for name in _ARRAYS}
        arrays |= {f"prediction {n}": x for n, x in _prediction_arrays(self.prediction).items()}
        shapes = {"spread": (m,), "covariance": (m + k, m + k), "least_cost": (k,)}
        if isinstance(self.prediction, Linear):
            shapes |= {"prediction weights": (f, heads), "prediction offset": (heads,)}
        else:
            e, width = arrays["prediction first bias"].shape
            inner = ((f, width), (width,), (width, width), (width,), (width, heads), (f, heads),
                     (heads,))  # fmt: skip
            outer = ((e, heads), (f,), (f,), (heads,), (heads,))
            every = (*((e, *size) for size in inner), *outer)
            shapes |= dict(
                zip((f"prediction {n}" for n in _LAYERS + _NETWORKS), every, strict=True)
            )
        sizes = f"{k} models, {f} features and {m} signals"
        check_arrays(arrays, {name: [shape] for name, shape in shapes.items()}, sizes)
        for name, array in arrays.items():
            if name.endswith(("spread", "scale")) and not (array > 0).all():
                raise CascjaxError(f"{name} of learned estimates must be above 0; refit the policy")
        if (self.least_cost < 0).any() or not 0 <= self.sigma_scale <= _LARGEST_SCALE:
            raise CascjaxError(
                "least_cost of learned estimates must not be negative, and sigma_scale must be from"
                " 0 to 10; refit the policy"
            )
        check_covariance(arrays["covariance"])

    def to_json(self) -> dict[str, Any]:
        """Return the content of the field "learned" of a policy file."""
        content = {"kind": JOINT, "prediction": to_json(_prediction_arrays(self.prediction))}
        names = ("sigma_scale", "feature_spec", *_ARRAYS)
        return content | {name: to_json(getattr(self, name)) for name in names}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "JointModel":
        """Return the model that `to_json` wrote."""
        stored = from_json(content, _Stored, "learned")
        with np.errstate(over="ignore"):  # an overflow is refused as not finite
            arrays = {name: getattr(stored, name).astype(np.float32) for name in _ARRAYS}
            prediction = _prediction(stored.prediction)
        model = cls(
            prediction, **arrays, sigma_scale=stored.sigma_scale, feature_spec=stored.feature_spec
        )
        model.check()
        return model


class _Stored(msgspec.Struct, forbid_unknown_fields=True):
    """The fields of a joint model in a policy file."""

    kind: Literal["joint"]
    sigma_scale: float
    feature_spec: FeatureSpec
    prediction: dict[str, np.ndarray]
    spread: np.ndarray
    covariance: np.ndarray
    least_cost: np.ndarray


def _prediction_arrays(prediction: Linear | Networks) -> dict[str, np.ndarray]:
    if isinstance(prediction, Linear):
        return {name: np.asarray(getattr(prediction, name)) for name in ("weights", "offset")}
    arrays = {name: prediction.weights[name] for name in _LAYERS}
    arrays |= {name: getattr(prediction, name) for name in _NETWORKS}
    return {name: np.asarray(array) for name, array in arrays.items()}


def _prediction(arrays: dict[str, np.ndarray]) -> Linear | Networks:
    arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
    names = ("weights", "offset") if "weights" in arrays else (*_LAYERS, *_NETWORKS)
    for name in names:
        if name not in arrays:
            raise CascjaxError(f"'learned.prediction' lacks the field {name!r}; refit the policy")
    for name in arrays:
        if name not in names:
            raise unknown_name("field of 'learned.prediction'", name[:40], names)
    if "weights" in arrays:
        weights, offset = arrays["weights"], arrays["offset"]
        if not weights.size:  # without features the list is empty, whatever the other axis
            weights = np.zeros((0, len(offset)), np.float32)
        return Linear(weights, offset, np.zeros_like(offset))
    layers = {name: jnp.asarray(arrays[name]) for name in _LAYERS}
    return Networks(layers, **{name: jnp.asarray(arrays[name]) for name in _NETWORKS})
