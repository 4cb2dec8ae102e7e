"""A joint normal to take along: what was fitted on all rows, for other tables and live use."""

import functools
from dataclasses import dataclass, field
from typing import Any, Literal

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
from jaxtyping import Array, Bool, Float

from cascjax.data.codec import from_json, to_json
from cascjax.data.table import Table
from cascjax.errors import CascjaxError, unknown_name
from cascjax.estimators.base import Estimates, shown_by, with_ran
from cascjax.estimators.feature_spec import FeatureSpec
from cascjax.estimators.joint import MAX_TABULATED, Joint, Normal, gains_of
from cascjax.estimators.learned_model import ROUNDED
from cascjax.estimators.predictors import Linear, Networks
from cascjax.estimators.run_sets import RunSets

JOINT = "joint"
"""What the field "kind" of such a model says in a policy's file."""

_ARRAYS = ("spread", "covariance", "least_cost")

_LAYERS = ("first", "first bias", "second", "second bias", "last", "linear", "bias")

_NETWORKS = ("slope", "middle", "spread", "mean", "scale")
"""Arrays of networks beside their layers."""

_LARGEST_SCALE = 10.0


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class JointModel:
    """Means from a predictor, one covariance for all run sets, and how to make what they are of.

    Attributes:
        prediction: of the M signals, K qualities and K costs from features.
        spread: `[M]` as in `Normal`.
        covariance: `[M + K, M + K]` as in `Normal`.
        least_cost: `[K]` what no model is expected to cost less than, in the table's cost unit.
        sigma_scale: scale on the sigmas stated, see `cascjax.search.sigma_scale`.
        feature spec: of the columns: features are those of no model, signals all others.
    """

    prediction: Linear | Networks
    spread: Float[np.ndarray, " M"]
    covariance: Float[np.ndarray, "P P"]
    least_cost: Float[np.ndarray, " K"]
    sigma_scale: float = field(metadata={"static": True})
    feature_spec: FeatureSpec = field(metadata={"static": True})

    @functools.cached_property
    def needs(self) -> Bool[np.ndarray, "M K"]:
        """The models that must have run for a signal to be seen."""
        return self.feature_spec.needs[self._is_signal]

    @functools.cached_property
    def _is_signal(self) -> Bool[np.ndarray, " D"]:
        return np.asarray(self.feature_spec.needs.any(1))

    def _parts(
        self, seen: Float[np.ndarray, "n D"]
    ) -> tuple[Float[np.ndarray, "n F"], Float[np.ndarray, "n M"]]:
        """Features, without the constant, and signals."""
        return seen[:, ~self._is_signal][:, 1:], seen[:, self._is_signal]

    def estimator(self, table: Table) -> RunSets | Joint:
        """Estimates of a table's queries, models in the order of the feature spec.

        Raises:
            CascjaxError: the table lacks a model, or what `FeatureSpec.seen` refuses.
        """
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
        """The estimates of a query, or of a batch; gains are solved for once a run set.

        Args:
            row: what is seen of it, as `FeatureSpec.row` makes it.
            run: the models that have run.
            costs: what these cost, in the table's cost unit; by default what was expected.
        """
        run = np.asarray(run)
        (m, k), shape = self.needs.shape, run.shape
        features, signals = self._parts(row.reshape(-1, row.shape[-1]))
        expected = self._expected(features)
        surprise = (signals - expected[:, :m]) / self.spread
        sets, which = np.unique(run.reshape(-1, k), axis=0, return_inverse=True)
        known = [self._moved(tuple(one.tolist())) for one in sets]
        gains, left = (np.stack(of)[which.reshape(-1)] for of in zip(*known, strict=True))
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
        """What features tell of the heads; weights are not brought to the device for each query."""
        if isinstance(self.prediction, Linear):
            weights, offset = self._linear
            return features @ weights + offset
        return np.asarray(self._on_device.predict(features))

    @functools.cached_property
    def _linear(self) -> tuple[Float[np.ndarray, "F H"], Float[np.ndarray, " H"]]:
        assert isinstance(self.prediction, Linear)
        return np.asarray(self.prediction.weights), np.asarray(self.prediction.offset)

    @functools.cached_property
    def _on_device(self) -> Linear | Networks:
        return jax.device_put(self.prediction)

    def _moved(
        self, run: tuple[bool, ...]
    ) -> tuple[Float[np.ndarray, "K M"], Float[np.ndarray, "K K"]]:
        """By how much signals move estimates once these models ran, and how far these may move."""
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
        """Refuse what is no such model; on the host.

        Raises:
            CascjaxError: a shape is wrong, a number is not finite or out of its range, or a matrix
                is no covariance.
        """
        (m, k), f = self.needs.shape, int((~self._is_signal).sum()) - 1
        heads = m + 2 * k
        shapes = {"spread": (m,), "covariance": (m + k, m + k), "least_cost": (k,)}
        arrays = {name: np.asarray(getattr(self, name)) for name in _ARRAYS}
        of = self.prediction
        if isinstance(of, Linear):
            arrays |= {"weights": np.asarray(of.weights), "offset": np.asarray(of.offset)}
            shapes |= {"weights": (f, heads), "offset": (heads,)}
        else:
            e, width = np.asarray(of.weights["first bias"]).shape
            sizes = ((f, width), (width,), (width, width), (width,), (width, heads), (f, heads),
                     (heads,))  # fmt: skip
            arrays |= {name: np.asarray(of.weights[name]) for name in _LAYERS}
            shapes |= {name: (e, *size) for name, size in zip(_LAYERS, sizes, strict=True)}
            for name, size in (("middle", f), ("spread of features", f), ("mean", heads),
                               ("scale", heads)):  # fmt: skip
                arrays[name] = np.asarray(getattr(of, name.split(" ")[0]))
                shapes[name] = (size,)
            arrays["slope"], shapes["slope"] = np.asarray(of.slope), (e, heads)
        for name, array in arrays.items():
            if array.shape != shapes[name]:
                raise CascjaxError(
                    f"{name} of learned estimates of {k} models, {f} features and {m} signals must"
                    f" be {list(shapes[name])}, not {list(array.shape)}: fit again"
                )
            if not np.isfinite(array).all():
                raise CascjaxError(f"{name} of learned estimates must be finite: fit again")
            if name.startswith(("spread", "scale")) and not (array > 0).all():
                raise CascjaxError(f"{name} of learned estimates must be above 0: fit again")
        if (self.least_cost < 0).any() or not 0 <= self.sigma_scale <= _LARGEST_SCALE:
            raise CascjaxError(
                "least_cost of learned estimates must not be negative, and sigma_scale must be"
                " from 0 to 10:"
                " fit again"
            )
        covariance = arrays["covariance"].astype(np.float64)
        off = ROUNDED * max(float(np.abs(covariance).max(initial=0)), 1e-30)
        alike = np.abs(covariance - covariance.T).max(initial=0) <= off
        if not alike or np.linalg.eigvalsh(covariance).min(initial=0) < -off:
            raise CascjaxError("covariance of learned estimates holds what is none: fit again")

    def to_json(self) -> dict[str, Any]:
        """Return the content of the field "learned" of a policy file."""
        prediction = self.prediction
        if isinstance(prediction, Linear):
            arrays = {"weights": prediction.weights, "offset": prediction.offset}
        else:
            arrays = {name: prediction.weights[name] for name in _LAYERS}
            arrays |= {name: getattr(prediction, name) for name in _NETWORKS}
        names = ("sigma_scale", "feature_spec", *_ARRAYS)
        rest = {name: to_json(getattr(self, name)) for name in names}
        return {"kind": JOINT, "prediction": to_json(arrays)} | rest

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "JointModel":
        """Return the model that `to_json` wrote.

        Raises:
            CascjaxError: a field is missing, unknown or invalid.
        """
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
