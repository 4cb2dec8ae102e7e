"""Joint Gaussian of a policy: the normals of each fold, for other tables and live queries."""

import functools
from dataclasses import dataclass, field
from typing import Any, Literal

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
from jaxtyping import Array, Bool, Float, Int

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
from cascjax.estimators.training import fold_numbers

JOINT = "joint"  # Field "kind" of such a model in a policy file

_ARRAYS = ("spread", "covariance", "least_cost")

_LAYERS = ("first", "first bias", "second", "second bias", "last", "linear", "bias")

_NETWORKS = ("slope", "middle", "spread", "mean", "scale")  # Arrays of networks beside their layers

_LARGEST_SCALE = 10.0


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class JointModel:
    """Means from predictors, one covariance for all run sets, and the feature spec.

    There are G predictors and covariances: one per fold, and one of all rows, which says how far
    estimates may move.
    """

    predictions: tuple[Linear | Networks, ...]
    spread: Float[np.ndarray, "G M"]  # as in `Normal`
    covariance: Float[np.ndarray, "G P P"]  # as in `Normal`
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

    @property
    def n_folds(self) -> int:
        """Number of folds; 1 where there is nothing but the normal of all rows."""
        return max(1, len(self.predictions) - 1)

    def estimator(self, table: Table, fold: Int[np.ndarray, " N"] | None = None) -> RunSets | Joint:
        """Return the estimates of a table's queries, models in the order of the feature spec."""
        features, signals = self._parts(self.feature_spec.seen(table))
        if table.models and table.models != self.feature_spec.models:
            table = table.select_models(self.feature_spec.models)
        if fold is None:
            fold = fold_numbers(np.arange(len(features)), self.n_folds)
        normal = Normal(self.spread, self.covariance, self.needs, self.least_cost)
        joint = Joint.expected(self.predictions, normal, features, signals, table.cost, fold)
        joint = joint.scaled(self.sigma_scale)
        return joint if len(self.feature_spec.models) > MAX_TABULATED else joint.to_run_sets()

    def estimates(
        self,
        row: Float[np.ndarray, "*B D"],
        run: Bool[np.ndarray, "*B K"] | Bool[Array, "*B K"],
        costs: Float[np.ndarray, "*B K"] | None = None,
        fold: Int[np.ndarray, "*B"] | int = 0,
    ) -> Estimates:
        """Return the estimates of a query, or of a batch; gains are solved once per run set."""
        run = np.asarray(run)
        (m, k), shape = self.needs.shape, run.shape
        features, signals = self._parts(row.reshape(-1, row.shape[-1]))
        folds = np.broadcast_to(np.asarray(fold), shape[:-1]).reshape(-1)
        expected = np.empty((len(features), m + 2 * k), np.float32)
        for f in np.unique(folds).tolist():
            expected[folds == f] = self._expected(features[folds == f], f)
        surprise = (signals - expected[:, :m]) / self.spread[folds]
        kinds = np.concatenate([run.reshape(-1, k), folds[:, None]], axis=1).astype(int)
        sets, which = np.unique(kinds, axis=0, return_inverse=True)
        solved = [self._gains(tuple(map(bool, kind[:-1])), int(kind[-1])) for kind in sets]
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

    def _expected(self, features: Float[np.ndarray, "n F"], fold: int) -> Float[np.ndarray, "n H"]:
        """Return the predictions from features; weights are kept on the host or moved once."""
        prediction = self.predictions[fold]
        if isinstance(prediction, Linear):
            return features @ np.asarray(prediction.weights) + prediction.offset
        return np.asarray(self._on_device[fold].predict(features))

    @functools.cached_property
    def _on_device(self) -> tuple[Linear | Networks, ...]:
        return jax.device_put(self.predictions)

    def _gains(
        self, run: tuple[bool, ...], fold: int
    ) -> tuple[Float[np.ndarray, "K M"], Float[np.ndarray, "K K"]]:
        """Return the gains of a run set in a fold, and the covariance that is left after it."""
        if (run, fold) not in self._solved:
            (m, k), ran = self.needs.shape, np.array(run)
            own, whole = self.covariance[[fold, -1]].astype(np.float64)
            shown = np.asarray(shown_by(np.stack([ran, np.ones(k, bool)]), self.needs))
            gains, all_gains = gains_of(whole, shown, k)
            left = (all_gains - gains) @ whole[:m, m:]
            left = np.where(with_ran(ran[None])[0], 0, left * self.sigma_scale**2)
            gains = gains_of(own, shown[:1], k)[0]
            self._solved[run, fold] = gains.astype(np.float32), left.astype(np.float32)
        return self._solved[run, fold]

    @functools.cached_property
    def _solved(self) -> dict[tuple[tuple[bool, ...], int], tuple[np.ndarray, np.ndarray]]:
        return {}

    def check(self) -> None:
        """Refuse damaged weights; on the host."""
        (m, k), f = self.needs.shape, int((~self._is_signal).sum()) - 1
        heads, g = m + 2 * k, len(self.predictions)
        arrays = {name: np.asarray(getattr(self, name)) for name in _ARRAYS}
        shapes = {"spread": (g, m), "covariance": (g, m + k, m + k), "least_cost": (k,)}
        for prediction in self.predictions:
            own = {f"prediction {n}": x for n, x in _prediction_arrays(prediction).items()}
            if isinstance(prediction, Linear):
                own_shapes = {"prediction weights": (f, heads), "prediction offset": (heads,)}
            else:
                e, width = own["prediction first bias"].shape
                inner = ((f, width), (width,), (width, width), (width,), (width, heads), (f, heads),
                         (heads,))  # fmt: skip
                outer = ((e, heads), (f,), (f,), (heads,), (heads,))
                every = (*((e, *size) for size in inner), *outer)
                own_shapes = dict(
                    zip((f"prediction {n}" for n in _LAYERS + _NETWORKS), every, strict=True)
                )
            sizes = f"{k} models, {f} features and {m} signals"
            both = arrays | own
            check_arrays(both, {n: [shape] for n, shape in (shapes | own_shapes).items()}, sizes)
            for name, array in both.items():
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
        content = {"kind": JOINT, "prediction": predictions}
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
