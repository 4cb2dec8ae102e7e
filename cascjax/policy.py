"""Policies: a fitted strategy that decides for a live system."""

import functools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt32

from cascjax import __version__, policy_file
from cascjax.core.sweep import next_model
from cascjax.data.files import atomic_write
from cascjax.data.source import Source
from cascjax.errors import CascjaxError, check_name
from cascjax.estimators import Estimates, PolicyModel
from cascjax.estimators.specs import EstimatesSpec, Learned
from cascjax.estimators.training import fold_numbers
from cascjax.results import Result
from cascjax.search.rules import COST, Rule, shape_of
from cascjax.strategies import Strategy
from cascjax.words import counted

_BLOCK = 1 << 20  # Maximum number of values that queries decided at once may take

Numbers: TypeAlias = Float[np.ndarray, "*B K"] | Float[Array, "*B K"]
RunSet: TypeAlias = Bool[np.ndarray, "*B K"] | Bool[Array, "*B K"]
Live: TypeAlias = np.ndarray | Sequence[Any]
AnySource = TypeVar("AnySource", bound=Source)


@dataclass(frozen=True, eq=False, repr=False)
class Policy(Result):
    """A strategy with its parameters and everything that deciding for new queries needs.

    The K models are in the order of `models`: every axis K, and every index returned, counts in
    it. The R costs begin with the source's own, named "cost".

    Attributes:
        strategy: the strategy, with its options.
        models: K names, in rising mean cost on the queries fitted on.
        rule: the mixture of settings for all queries except those of the groups below.
        sigma: `[K]` standard deviation of the quality estimate before minus after a model runs.
        mean_costs: `[R, K]` mean costs of each model on the queries fitted on.
        costs: R names.
        cost_units: R units.
        group_rules: mixtures of the groups that have their own, by name.
        estimates_spec: estimates the policy was fitted on, to evaluate it on other sources; None
            if a file was read of a policy fitted on an estimator of the caller's own.
        seed: seed of the fit: of noise and folds, and of the split if the source had none.
        scale: `[K]` correction: sigma is multiplied by it.
        offset: `[K]` correction: added to quality estimates before a model has run.
        fingerprint: hash of the source it was fitted on, "" if there was none.
        record: further JSON values about the fit.
        version: version of the library that made it.
        learned: model that makes the estimates, if they are learned; then `sigma` is not used and
            nothing is corrected.

    Raises:
        CascjaxError: sizes do not match, or a number is out of its range.

    Example:
      >>> from cascjax.strategies import Routing
      >>> rule = Rule(np.array([0.5]), np.array([1.0]))
      >>> policy = Policy(Routing(), ("a", "b"), rule, np.ones(2), np.array([[0.1, 0.8]]))
      >>> run = np.zeros(2, bool)
      >>> policy.next_model(policy.estimates([0.6, 0.9], run), run)
      0
    """

    strategy: Strategy
    models: tuple[str, ...]
    rule: Rule
    sigma: Float[np.ndarray, " K"]
    mean_costs: Float[np.ndarray, "R K"]
    costs: tuple[str, ...] = (COST,)
    cost_units: tuple[str, ...] = ("",)
    group_rules: Mapping[str, Rule] = field(default_factory=dict)
    estimates_spec: EstimatesSpec | None = None
    seed: int = 0
    scale: Float[np.ndarray, " K"] | None = None
    offset: Float[np.ndarray, " K"] | None = None
    fingerprint: str = ""
    record: Mapping[str, Any] = field(default_factory=dict)
    version: str = __version__
    learned: PolicyModel | None = None

    view: ClassVar[str] = "policy"

    def __post_init__(self):
        k = len(self.models)
        put = functools.partial(object.__setattr__, self)
        put("scale", np.ones(k, np.float32) if self.scale is None else self.scale)
        put("offset", np.zeros(k, np.float32) if self.offset is None else self.offset)
        with np.errstate(over="ignore"):  # an overflow is refused as not finite
            for name in ("sigma", "mean_costs", "scale", "offset"):
                put(name, np.asarray(getattr(self, name), np.float32))
        put("group_rules", dict(self.group_rules))
        _check_policy(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Policy) and self.text() == other.text()

    def __hash__(self) -> int:
        return hash((self.strategy, self.models, self.fingerprint))

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups that have rules of their own."""
        return tuple(self.group_rules)

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The default rule, then the rules of the groups."""
        return (self.rule, *self.group_rules.values())

    @property
    def corrected(self) -> bool:
        """Whether estimates are corrected before the strategy sees them."""
        return bool(np.any(self.scale != 1) or np.any(self.offset != 0))

    def matched(self, source: AnySource) -> AnySource:
        """Return a source with the policy's models, in the policy's order.

        Raises:
            CascjaxError: the source lacks a model.
        """
        missing = [name for name in self.models if name not in source.models]
        if missing:
            raise CascjaxError(
                f"{source.name} lacks models of the policy: {', '.join(missing)}; it has"
                f" {', '.join(source.models) or 'no model names'}"
            )
        return source if source.models == self.models else source.select_models(self.models)  # pyright: ignore[reportReturnType]

    def estimates(
        self, quality: Numbers | Sequence[float], run: RunSet, cost: Numbers | None = None
    ) -> Estimates:
        """Return the estimates of a query, or of a batch, from a live system's quality estimates.

        Args:
            quality: `[K]` or `[B, K]` quality estimates: post-hoc for the models that have run,
                ex-ante for the others.
            run: `[K]` or `[B, K]` the models that have run.
            cost: `[K]` or `[B, K]` expected costs, in the first of `cost_units`; by default the
                means of the queries fitted on.

        Raises:
            CascjaxError: a shape is wrong, or the policy makes its estimates itself.
        """
        if self.learned is not None:
            raise CascjaxError(
                "the policy was fitted on learned estimates, which it makes itself: call"
                " learned_estimates instead"
            )
        quality, k = np.asarray(quality, np.float32), len(self.models)
        if quality.shape[-1:] != (k,) or quality.ndim > 2 or np.shape(run) != quality.shape:
            raise CascjaxError(
                f"quality of {shape_of(quality)} and run of {shape_of(run)} must both be [{k}], one"
                f" number per model, or [B, {k}]"
            )
        variance = np.where(run, np.float32(0), np.square(self.sigma))
        if cost is None:
            cost = np.broadcast_to(self.mean_costs[0], quality.shape)
        # In one call: three conversions take as long as a decision.
        return Estimates(*jax.device_put((quality, variance, np.asarray(cost, np.float32))))

    def learned_estimates(
        self,
        run: RunSet | Sequence[bool],
        *,
        features: Live | None = None,
        group: str | Sequence[str] | None = None,
        signals: Live | None = None,
        answers: Live | None = None,
        costs: Live | None = None,
        key: Array | int | Sequence[int] | Int[np.ndarray, " B"] | None = None,
    ) -> Estimates:
        """Return the estimates of a query, or of a batch, from what a live system knows of it.

        The policy keeps the weights of each cross-fitting fold, and every query is estimated by
        those of one fold, drawn by its key: so are the rows that the policy was fitted on. Names
        and order of features and signals are in `learned.feature_spec`. Values of models
        that have not run are ignored, and NaN is missing: it is replaced by the mean.

        Args:
            run: `[K]` or `[B, K]` the models that have run.
            features: `[F]` or `[B, F]`.
            group: the query's group, or one per row.
            signals: `[K, P]` or `[B, K, P]`.
            answers: `[K]` or `[B, K]` whole numbers, equal where two answers are the same; -1
                where a model gave none.
            costs: `[K]` or `[B, K]` cost of the models that have run, in the first of
                `cost_units`.
            key: the query's key, as for `next_model`, or one per row; a whole number for a batch is
                the first row's. May be left out for a policy with one set of weights.

        Raises:
            CascjaxError: the policy's estimates are not learned, a shape is wrong, the key is
                missing, or an input that they are made of is missing.
        """
        if self.learned is None:
            raise CascjaxError(
                "the policy makes no estimates itself: give yours to its method estimates, or fit"
                " a policy on learned estimates"
            )
        feature_spec, run = self.learned.feature_spec, np.asarray(run)
        k = len(self.models)
        if run.ndim not in (1, 2) or run.shape[-1] != k or run.dtype != bool:
            raise CascjaxError(f"run must be booleans [{k}] or [B, {k}], not {shape_of(run)}")
        before = {"features": features, "group": group}
        after = {"signals": signals, "answers": answers, "costs": costs}
        # Before a model has run nothing is known of its answer.
        for name, given in (before | (after if run.any() else {})).items():
            if given is None and feature_spec.asks(name):
                raise CascjaxError(f"{name} is missing: the policy's estimates are made of it too")
        row = feature_spec.row(features=features, group=group, **after)
        if row.ndim > 1 and row.shape[:-1] != run.shape[:-1]:
            raise CascjaxError(
                f"{counted(row.shape[0], 'query does', 'queries do')} not fit run of"
                f" {shape_of(run)}"
            )
        row = np.broadcast_to(row, (*run.shape[:-1], row.shape[-1]))
        fold = self._fold(key, run.shape[:-1], self.learned.n_folds)
        return self.learned.estimates(row, run, None if costs is None else np.asarray(costs), fold)

    def _fold(self, key: Any, batch: tuple[int, ...], n_folds: int) -> Int[np.ndarray, "*B"] | int:
        """Return the fold whose weights estimate each query."""
        if n_folds == 1:
            return 0
        if key is None:
            raise CascjaxError(
                "the key is missing: the policy has weights of several folds; give the same key at"
                " each step of a query, and to next_model"
            )
        if isinstance(key, jax.Array):
            typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
            key = np.asarray(jax.random.key_data(key))[..., -1] if typed else np.asarray(key)
        numbers = np.asarray(key, np.int64)
        if batch and not numbers.shape:
            numbers = numbers + np.arange(batch[0])
        if numbers.shape != batch:
            raise CascjaxError(f"key must be a number, or one per row, not {shape_of(numbers)}")
        return fold_numbers(numbers.reshape(-1), n_folds).reshape(batch)

    def next_model(
        self,
        estimates: Estimates,
        run: RunSet,
        key: Array | int | Sequence[int] | Int[np.ndarray, " B"] | None = None,
        *,
        group: str | int | Sequence[str] | Int[np.ndarray, " B"] | None = None,
        extra_costs: Mapping[str, Numbers] | None = None,
    ) -> int | Int[np.ndarray, " B"]:
        """Return the model to run next, or STOP (-1), for one query or for a batch.

        A rule that mixes settings draws one for each query, so a query must be given the same key
        at each of its steps, and a row of a batch the same position. Compiled once for each batch
        size.

        Args:
            estimates: estimates of one query or of B, as `estimates` or `learned_estimates`
                returns them; not corrected. Their costs are in the first of `cost_units`: the
                parameters price that unit, and no other is recognised.
            run: `[K]` or `[B, K]` the models that have run.
            key: a JAX random key, or a whole number such as the query's number. For a batch, one
                per row, which draws the same as for that query alone; or one for all, from which
                each row draws by its position. May be left out if no rule mixes settings.
            group: the query's group, or one per row: names, or positions in `groups`, -1 for none.
                Names without a rule of their own fall under the default.
            extra_costs: expected extra costs by name, in the policy's `cost_units` and shaped as
                the estimates; by default the means of the queries fitted on.

        Returns:
            An index into `models`, or -1; an array of them for a batch.

        Raises:
            CascjaxError: a shape is wrong, a quality or cost is not finite, the key is missing,
                or a name is unknown.
        """
        k = len(self.models)
        # On the host from here on: a query is decided by one call of one program.
        run = np.asarray(run)
        quality, cost = np.asarray(estimates.quality), np.asarray(estimates.cost)
        covariance = np.asarray(estimates.covariance)
        batch = run.shape[:-1]
        if run.ndim not in (1, 2) or run.shape[-1] != k or run.dtype != bool:
            raise CascjaxError(f"run must be booleans [{k}] or [B, {k}], not {shape_of(run)}")
        fits = quality.shape == cost.shape == run.shape
        if not fits or covariance.shape not in (run.shape, (*run.shape, k)):
            raise CascjaxError(
                f"estimates of shapes {shape_of(quality)}, {shape_of(covariance)},"
                f" {shape_of(cost)} do not fit run of {shape_of(run)}: give quality and cost of"
                f" its shape, and covariance of its shape or with one more axis of {k}"
            )
        for name, value in (("quality", quality), ("covariance", covariance), ("cost", cost)):
            if not np.isfinite(value).all():
                raise CascjaxError(f"the estimates hold a {name} that is not finite; give numbers")
        costs = self._all_costs(cost, extra_costs) if extra_costs else None
        which = None if group is None else self.rule_of(group, batch)
        key = self._check_key(key, run)
        chosen = _decided(
            self.strategy, self._on_device, quality, covariance, cost, costs, run, key, which
        )
        return np.asarray(chosen) if batch else int(chosen[0])

    def answer(self, estimates: Estimates, run: RunSet) -> int | Int[np.ndarray, " B"]:
        """Return the model whose answer to return once nothing more is run, for each query.

        Args:
            estimates: estimates of one query or of B.
            run: `[K]` or `[B, K]` the models that have run, at least one on each query.

        Raises:
            CascjaxError: no model has run on a query.
        """
        run = np.asarray(run)
        if not run.any(axis=-1).all():
            raise CascjaxError("a query on which nothing has run has no answer: run a model first")
        answer = np.asarray(_answered(self.strategy, estimates, run))
        return answer if run.ndim == 2 else int(answer[0])

    def rule_of(
        self,
        group: str | int | Sequence[str] | Int[np.ndarray, " B"],
        batch: tuple[int, ...] | None = None,
    ) -> Int[np.ndarray, "*B"]:
        """Return positions in `rules` of groups given by name or by position in `groups`.

        Args:
            group: names or positions, -1 for none.
            batch: shape of the batch; None for the shape of `group`.

        Raises:
            CascjaxError: a position does not exist, or there is not one for each query.
        """
        if isinstance(group, str):
            group = self.groups.index(group) if group in self.group_rules else -1
        elif not isinstance(group, int | np.integer | np.ndarray):
            positions = {name: i for i, name in enumerate(self.groups)}
            group = np.array([positions.get(name, -1) for name in group], np.int32)
        places = np.asarray(group) + 1
        if places.size and not (places.min() >= 0 and places.max() < len(self.rules)):
            raise CascjaxError(
                f"{counted(len(self.groups), 'group has its', 'groups have their')} own rule,"
                f" so a group's number must be from -1, no group, to {len(self.groups) - 1}"
            )
        if batch is not None and places.shape not in ((), batch):
            raise CascjaxError(
                f"{counted(places.shape[0], 'group does', 'groups do')} not fit run of"
                f" {list(batch)} queries"
            )
        return places if batch is None else np.broadcast_to(places, batch)

    def save(self, path: str | os.PathLike[str]) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Write the policy to a file, whole or not at all.

        Raises:
            CascjaxError: the file cannot be written.
        """
        with atomic_write(path) as temporary:
            temporary.write_text(self.text(), encoding="utf-8")

    def text(self) -> str:
        """Return the content of the policy's file."""
        return policy_file.to_text(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """Return the content of the policy's file as dictionaries, lists, numbers and strings."""
        return policy_file.to_content({f.name: getattr(self, f.name) for f in fields(self)})

    def _check_key(self, key: Any, run: np.ndarray) -> Any:
        if key is None:
            if any(len(rule.weights) > 1 for rule in self.rules):
                raise CascjaxError(
                    "the policy mixes settings at random: give each query a key, the same at each"
                    " of its steps"
                )
            key = 0
        if isinstance(key, int | np.integer):
            return np.uint32(int(key) & 0xFFFFFFFF)
        if not isinstance(key, jax.Array):
            key = _keys_of(np.asarray(key, np.int64).astype(np.uint32))
        typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
        if typed and key.shape not in ((), run.shape[:-1]):
            raise CascjaxError(
                f"{counted(key.shape[0], 'key does', 'keys do')} not fit run of"
                f" {shape_of(run)}: give one per row"
            )
        return key

    def _all_costs(
        self, cost: np.ndarray, extra_costs: Mapping[str, Numbers]
    ) -> Float[np.ndarray, "R *B K"]:
        for name, value in extra_costs.items():
            check_name("cost", name, self.costs[1:])
            if np.shape(value) != cost.shape or not np.isfinite(np.asarray(value)).all():
                raise CascjaxError(
                    f"extra_costs {name!r} must be finite, of shape {shape_of(cost)}"
                )
        means = zip(self.costs[1:], self.mean_costs[1:], strict=True)
        rest = [np.broadcast_to(extra_costs.get(name, mean), cost.shape) for name, mean in means]
        return np.stack([cost, *rest])

    @functools.cached_property
    def _on_device(self) -> "_Rules":
        return _Rules.from_policy(self)


def load_policy(path: str | os.PathLike[str]) -> Policy:
    """Return the policy that `Policy.save` wrote.

    Raises:
        CascjaxError: the file is missing or damaged, is not a policy, has another version of the
            format, or holds a value that no policy can have.

    Example:
      >>> import tempfile
      >>> from pathlib import Path
      >>> from cascjax.strategies import Routing
      >>> rule = Rule(np.array([0.5]), np.array([1.0]))
      >>> policy = Policy(Routing(), ("a", "b"), rule, np.ones(2), np.array([[0.1, 0.8]]))
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     policy.save(Path(folder) / "policy.json")
      ...     load_policy(Path(folder) / "policy.json") == policy
      True
    """
    content = policy_file.read(path)
    try:
        return Policy(**content)
    except CascjaxError as error:
        raise CascjaxError(f"{path}: {error}") from error


# Deciding.


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _Rules:
    """The G rules of a policy as arrays of M settings each, padded.

    `upto` has cumulative shares of the settings, infinite from the last one on.
    """

    parameters: Float[Array, "G M D"]
    upto: Float[Array, "G M"]
    prices: Float[Array, "G M R"]
    mean_costs: Float[Array, "R K"]
    scale: Float[Array, " K"]
    offset: Float[Array, " K"]

    @classmethod
    def from_policy(cls, policy: Policy) -> "_Rules":
        rules = policy.rules
        most = max(len(rule.weights) for rule in rules)
        steps = max(rule.parameters.shape[1] if rule.parameters.ndim > 1 else 1 for rule in rules)
        alone = np.eye(1, len(policy.costs), dtype=np.float32)

        def filled(rows: Float[np.ndarray, "M C"]) -> Float[np.ndarray, "N C"]:
            return np.concatenate([rows, np.repeat(rows[-1:], most - len(rows), axis=0)])

        def each_step(settings: Float[np.ndarray, "M *D"]) -> Float[np.ndarray, "M E"]:
            settings = settings.reshape(len(settings), -1)
            return settings[:, np.minimum(np.arange(steps), settings.shape[1] - 1)]

        def summed(weights: Float[np.ndarray, " M"]) -> Float[np.ndarray, " N"]:
            upto = np.full(most, np.inf)
            upto[: len(weights) - 1] = np.cumsum(weights)[:-1]
            return upto.astype(np.float32)

        prices = [alone if rule.prices is None else rule.prices for rule in rules]
        return cls(
            jnp.array(np.stack([filled(each_step(rule.parameters)) for rule in rules])),
            jnp.array(np.stack([summed(rule.weights) for rule in rules])),
            jnp.array(np.stack([filled(p) for p in prices])),
            *map(jnp.array, (policy.mean_costs, policy.scale, policy.offset)),
        )


@functools.partial(jax.jit, static_argnums=0)
def _decided(
    strategy: Strategy,
    rules: _Rules,
    quality: Float[Array, "*B K"],
    covariance: Float[Array, "*B K"] | Float[Array, "*B K K"],
    cost: Float[Array, "*B K"],
    costs: Float[Array, "R *B K"] | None,
    run: Bool[Array, "*B K"],
    key: Array,
    which: Int[Array, "*B"] | None,
) -> Int[Array, " B"]:
    """Return the next model of every query: draw a setting, correct and price, ask the strategy."""
    n, k = (run.shape[0] if run.ndim == 2 else 1), run.shape[-1]
    diagonal = covariance.ndim == run.ndim
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        key = jax.random.key(key) if key.ndim == 0 else jax.random.wrap_key_data(key)
    number = jnp.float32 if quality.dtype != jnp.float64 else quality.dtype
    quality, cost = (x.reshape(n, k).astype(number) for x in (quality, cost))
    covariance = covariance.reshape((n, k) if diagonal else (n, k, k)).astype(number)
    run = run.reshape(n, k)
    place = jnp.zeros(n, jnp.int32) if which is None else which.reshape(n)
    draw = jnp.zeros(n)
    if rules.upto.shape[1] > 1:
        # A key per row draws the same as for its query alone.
        draw = jax.vmap(_drawn)(key) if key.ndim else jax.random.uniform(key, (n,))
    setting = jnp.sum(draw[:, None] >= rules.upto[place], axis=-1)
    rows = {
        "parameters": rules.parameters[place, setting],
        "quality": quality,
        "covariance": covariance,
        "cost": cost,
        "run": run,
        "prices": rules.prices[place, setting],
    }
    if costs is not None:
        rows["costs"] = jnp.moveaxis(costs.reshape(-1, n, k), 0, 1)

    def decide(row: dict[str, Array]) -> Int[Array, ""]:
        quality, covariance, cost, run = (
            row[name] for name in ("quality", "covariance", "cost", "run")
        )
        every = row.get("costs", jnp.concatenate([cost[None], rules.mean_costs[1:]]))
        cost = jnp.sum(row["prices"][:, None] * every, axis=0)
        scale = jnp.where(run, 1, rules.scale)
        quality = quality + jnp.where(run, 0, rules.offset)
        covariance = covariance * (scale * scale if diagonal else scale[:, None] * scale)
        corrected = Estimates(quality[None], covariance[None], cost[None])
        return next_model(strategy, row["parameters"], corrected, run[None])[0]

    if n == 1:
        # Not mapped over: conditions that keep work from being done twice would be dropped.
        return decide({name: array[0] for name, array in rows.items()})[None]
    at_once = max(1, _BLOCK // (8 * strategy.footprint(k)))
    if n <= at_once:
        return jax.vmap(decide)(rows)
    return jax.lax.map(decide, rows, batch_size=at_once)


@jax.jit
def _keys_of(numbers: UInt32[Array, " B"] | UInt32[np.ndarray, " B"]) -> Array:
    return jax.vmap(jax.random.key)(numbers)


def _drawn(key: Array) -> Float[Array, ""]:
    return jax.random.uniform(key, (1,))[0]


@functools.partial(jax.jit, static_argnums=0)
def _answered(
    strategy: Strategy, estimates: Estimates, run: Bool[Array, "*B K"]
) -> Int[Array, " B"]:
    quality, cost = (jnp.atleast_2d(x) for x in (estimates.quality, estimates.cost))
    covariance = estimates.covariance[None] if run.ndim == 1 else estimates.covariance
    return strategy.answer(Estimates(quality, covariance, cost), jnp.atleast_2d(run))


# What a policy can be.


def _check_policy(policy: Policy) -> None:
    k, r = len(policy.models), len(policy.costs)
    for what, names in (("models", policy.models), ("costs", policy.costs)):
        if not names or len(set(names)) < len(names) or not all(names):
            raise CascjaxError(f"the {what} of a policy must be distinct names, at least one")
    if policy.costs[0] != COST or len(policy.cost_units) != r:
        raise CascjaxError(f"the first cost of a policy is {COST!r}, and each cost has a unit")
    shapes = {"sigma": (k,), "mean_costs": (r, k), "scale": (k,), "offset": (k,)}
    for name, shape in shapes.items():
        value = getattr(policy, name)
        if value.shape != shape:
            raise CascjaxError(
                f"{name} of a policy of {k} models must be {list(shape)}, not {shape_of(value)}"
            )
        if not np.isfinite(value).all() or (name in ("sigma", "scale") and value.min() < 0):
            bound = "" if name in ("mean_costs", "offset") else " and non-negative"
            raise CascjaxError(f"{name} of a policy must be finite{bound}")
    if not 0 <= policy.seed < 2**32:
        raise CascjaxError(f"'seed' of a policy must be from 0 to 4294967295, not {policy.seed}")
    if isinstance(policy.estimates_spec, Learned) != (policy.learned is not None):
        raise CascjaxError("a policy on learned estimates has a learned model, and no other has")
    if (learned := policy.learned) is not None:
        learned.check()
        if learned.feature_spec.models != policy.models:
            raise CascjaxError("the learned model of a policy must have its models, in its order")
        if policy.corrected:
            raise CascjaxError("learned estimates are not corrected: leave out scale and offset")
    for name, rule in zip(("default", *policy.groups), policy.rules, strict=True):
        try:
            rule.check(policy.strategy, k, r)
        except CascjaxError as error:
            raise CascjaxError(f"rule {name!r}: {error}") from error
