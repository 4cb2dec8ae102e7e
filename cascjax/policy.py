"""Policies: a fitted strategy that decides for a live system, and is kept in a file."""

import functools
import hashlib
import os
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt32

from cascjax import __version__, policy_file
from cascjax.data.files import atomic_write
from cascjax.data.table import Table, take_rows
from cascjax.engine.simulate import query_outcomes
from cascjax.errors import CascjaxError, unknown_name
from cascjax.estimators import (
    Estimates,
    Estimator,
    Independent,
    PolicyModel,
    RunSets,
    noisy,
    supplied,
    truth,
)
from cascjax.policy_file import Source
from cascjax.search.rules import COST, Rule, shape_of
from cascjax.strategies import Strategy
from cascjax.words import counted

_BLOCK = 1 << 20
"""Maximum number of values that queries decided at once may take."""

_ROWS = 1 << 14
"""Rows of a table that are hashed at once."""

Numbers: TypeAlias = Float[np.ndarray, "*B K"] | Float[Array, "*B K"]
Ran: TypeAlias = Bool[np.ndarray, "*B K"] | Bool[Array, "*B K"]
Seen: TypeAlias = np.ndarray | Sequence[Any]


@dataclass(frozen=True)
class Beliefs:
    """What a strategy may be shown of a table's queries.

    Attributes:
        estimator: estimates of quality and of the first cost.
        more: estimates of each extra cost before a model runs, each `[N, K]`; beside learned
            estimates the same for all queries.
    """

    estimator: Estimator
    more: tuple[Float[np.ndarray, "N K"], ...] = ()

    @typing.overload
    def priced(self, prices: None) -> Estimator: ...
    @typing.overload
    def priced(self, prices: Float[np.ndarray, " R"]) -> Independent | RunSets: ...
    @typing.overload
    def priced(self, prices: Float[np.ndarray, " R"] | None) -> Estimator: ...
    def priced(self, prices: Float[np.ndarray, " R"] | None) -> Estimator:
        """The estimates with all costs weighed into one; without prices the first as it is.

        Raises:
            CascjaxError: there are prices, and estimates of a kind whose cost cannot be weighed.
        """
        if prices is None:
            return self.estimator
        if isinstance(self.estimator, RunSets):
            more = np.zeros(self.estimator.cost_run.shape[-1], np.float32)
            for price, of in zip(prices[1:], self.more, strict=True):
                more = more + np.float32(price) * of[0]
            return self.estimator.priced(float(prices[0]), more)
        if not isinstance(self.estimator, Independent):
            raise CascjaxError(
                f"estimates of kind {type(self.estimator).__name__} have one cost: limit that"
                " alone, or take others"
            )
        # Only what is yet to run is ever weighed, so one matrix serves before and after.
        cost = np.float32(prices[0]) * np.asarray(self.estimator.cost_ante)
        for price, ante in zip(prices[1:], self.more, strict=True):
            if price:
                cost = cost + np.float32(price) * ante
        return replace(self.estimator, cost_ante=cost, cost_post=cost)


@dataclass(frozen=True, eq=False)
class Policy:
    """A strategy with its parameters, and all that deciding for new queries needs.

    The K models are in the order of `models`: every axis K, and every index returned, counts in
    it. The R costs begin with the table's own, named "cost".

    Attributes:
        strategy: the strategy, with its options.
        models: K names, in rising mean cost on the queries fitted on.
        rule: the mixture of settings of all queries, but those of the groups below.
        sigma: `[K]` standard deviation of the quality estimate before minus after a model runs.
        mean_costs: `[R, K]` mean costs of each model on the queries fitted on.
        costs: R names.
        cost_units: R units.
        group_rules: rules of their own, by the name of the group.
        source: where estimates of a table's queries come from.
        scale: `[K]` correction: sigma is multiplied by it.
        offset: `[K]` correction: added to quality estimates before a model has run.
        fingerprint: of the table it was fitted on, see `fingerprint`; "" where there was none.
        record: what else was asked for and found, for the reader: JSON.
        version: of the library that made it.
        learned: what makes estimates, where these are learned: they take the place of `sigma`, and
            are not corrected.

    Raises:
        CascjaxError: sizes do not fit, or a number is out of its range.
    """

    strategy: Strategy
    models: tuple[str, ...]
    rule: Rule
    sigma: Float[np.ndarray, " K"]
    mean_costs: Float[np.ndarray, "R K"]
    costs: tuple[str, ...] = (COST,)
    cost_units: tuple[str, ...] = ("",)
    group_rules: Mapping[str, Rule] = field(default_factory=dict)
    source: Source = field(default_factory=Source)
    scale: Float[np.ndarray, " K"] | None = None
    offset: Float[np.ndarray, " K"] | None = None
    fingerprint: str = ""
    record: Mapping[str, Any] = field(default_factory=dict)
    version: str = __version__
    learned: PolicyModel | None = None

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

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups that have rules of their own."""
        return tuple(self.group_rules)

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The default rule, then those of the groups."""
        return (self.rule, *self.group_rules.values())

    @property
    def corrected(self) -> bool:
        """Whether estimates are corrected before the strategy sees them."""
        return bool(np.any(self.scale != 1) or np.any(self.offset != 0))

    def estimates(
        self, quality: Numbers | Sequence[float], run: Ran, cost: Numbers | None = None
    ) -> Estimates:
        """The estimates of a query, or of a batch, from a live system's quality numbers.

        Args:
            quality: `[K]` or `[B, K]` quality as now believed: of the models that have run, as
                seen of their answers; of the others, as expected.
            run: the models that have run.
            cost: expected costs, in the first of `cost_units`; by default the means of the queries
                fitted on.

        Raises:
            CascjaxError: a shape is wrong, or the policy's own estimates are learned ones.
        """
        if self.learned is not None:
            raise CascjaxError(
                "the policy was fitted on estimates it makes itself: take its learned_estimates"
            )
        quality, k = np.asarray(quality, np.float32), len(self.models)
        if quality.shape[-1:] != (k,) or quality.ndim > 2 or np.shape(run) != quality.shape:
            raise CascjaxError(
                f"quality of {shape_of(quality)} and run of {shape_of(run)} must both be [{k}], a"
                f" number a model, or [B, {k}]"
            )
        variance = np.where(run, np.float32(0), np.square(self.sigma))
        if cost is None:
            cost = np.broadcast_to(self.mean_costs[0], quality.shape)
        # In one go: three conversions take as long as a decision.
        return Estimates(*jax.device_put((quality, variance, np.asarray(cost, np.float32))))

    def learned_estimates(
        self,
        run: Ran | Sequence[bool],
        *,
        features: Seen | None = None,
        group: str | Sequence[str] | None = None,
        signals: Seen | None = None,
        answers: Seen | None = None,
        costs: Seen | None = None,
    ) -> Estimates:
        """The estimates of a query, or of a batch, from what a live system sees of it.

        The names and order of features and signals are those of `learned.feature_spec`; what is of
        models that have not run is not looked at, and nan is missing: taken as its mean.

        Args:
            run: `[K]` or `[B, K]` the models that have run.
            features: `[F]` or `[B, F]`.
            group: the query's group, or one a row.
            signals: `[K, P]` or `[B, K, P]`.
            answers: `[K]` or `[B, K]` whole numbers, the same where two answers are the same; -1
                where a model gave none.
            costs: `[K]` or `[B, K]` what the models that have run cost, in the first of
                `cost_units`.

        Raises:
            CascjaxError: the policy's estimates are not learned, a shape is wrong, or something
                that they are made of is left out.
        """
        if self.learned is None:
            raise CascjaxError(
                "the policy makes no estimates itself: give yours to its method estimates, or fit"
                " one on learned estimates"
            )
        feature_spec, run = self.learned.feature_spec, np.asarray(run)
        k = len(self.models)
        if run.ndim not in (1, 2) or run.shape[-1] != k or run.dtype != bool:
            raise CascjaxError(f"run must be booleans [{k}] or [B, {k}], not {shape_of(run)}")
        seen = {"features": features, "group": group}
        of_run = {"signals": signals, "answers": answers, "costs": costs}
        # Before anything has run there is nothing of it to see.
        for name, given in (seen | (of_run if run.any() else {})).items():
            if given is None and feature_spec.asks(name):
                raise CascjaxError(f"the policy's estimates are made of {name} too: give them")
        row = feature_spec.row(features=features, group=group, **of_run)
        if row.ndim > 1 and row.shape[:-1] != run.shape[:-1]:
            raise CascjaxError(
                f"{counted(row.shape[0], 'query does', 'queries do')} not fit run of"
                f" {shape_of(run)}"
            )
        row = np.broadcast_to(row, (*run.shape[:-1], row.shape[-1]))
        return self.learned.estimates(row, run, None if costs is None else np.asarray(costs))

    def next_model(
        self,
        estimates: Estimates,
        run: Ran,
        key: Array | int | Sequence[int] | Int[np.ndarray, " B"] | None = None,
        *,
        group: str | int | Sequence[str] | Int[np.ndarray, " B"] | None = None,
        extra_costs: Mapping[str, Numbers] | None = None,
    ) -> int | Int[np.ndarray, " B"]:
        """The model to run next, or `cascjax.strategies.STOP`, -1; of one query or of a batch.

        A rule that mixes settings draws one for each query, so a query must be given the same key
        at each of its steps, and a row of a batch the same place. Compiled once for each batch
        size.

        Args:
            estimates: as `estimates` or `learned_estimates` makes them, of one query or of B; not
                corrected.
            run: `[K]` or `[B, K]` the models that have run.
            key: a JAX random key, or a whole number such as the query's own. Of a batch one a
                row, which draws what it would for that query alone; or one for all, from which
                each row draws by its place. May be left out where no rule mixes settings.
            group: the query's group, or one a row: names, or places in `groups`, -1 for none.
                Names without a rule of their own fall under the default.
            extra_costs: expected extra costs by name, shaped as the estimates; by default the
                means of the queries fitted on.

        Returns:
            An index into `models` or -1; an array of them for a batch.

        Raises:
            CascjaxError: a shape is wrong, a quality or cost is not finite, the key is missing,
                or a name is unknown.
        """
        k = len(self.models)
        # Of the host from here on: a query is decided by one call of one program.
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
                f" {shape_of(cost)} do not fit run of {shape_of(run)}: give quality"
                f" and cost of its shape, and covariance of its shape or with one more axis of {k}"
            )
        for name, value in (("quality", quality), ("covariance", covariance), ("cost", cost)):
            if not np.isfinite(value).all():
                raise CascjaxError(f"the estimates hold a {name} that is not finite; give numbers")
        costs = None
        if extra_costs:
            costs = self._all_costs(cost, extra_costs)
        if key is None:
            if any(len(rule.weights) > 1 for rule in self.rules):
                raise CascjaxError(
                    "the policy mixes settings at random: give each query a key, the same at each"
                    " of its steps"
                )
            key = 0
        chosen_by: Any = key
        if isinstance(key, int | np.integer):
            chosen_by = np.uint32(int(key) & 0xFFFFFFFF)
        elif not isinstance(key, jax.Array):
            chosen_by = _keys_of(np.asarray(key, np.int64).astype(np.uint32))
        typed = jnp.issubdtype(chosen_by.dtype, jax.dtypes.prng_key)
        if typed and chosen_by.shape not in ((), batch):
            raise CascjaxError(
                f"{counted(chosen_by.shape[0], 'key does', 'keys do')} not fit run of"
                f" {shape_of(run)}: give one a row"
            )
        which = None if group is None else self.rule_of(group, batch)
        chosen = _decided(
            self.strategy, self._on_device, quality, covariance, cost, costs, run, chosen_by, which
        )
        return np.asarray(chosen) if batch else int(chosen[0])

    def answer(self, estimates: Estimates, run: Ran) -> int | Int[np.ndarray, " B"]:
        """The model whose answer to return once nothing more is run, of one query or of each."""
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
        """Places in `rules` of groups given by name or by place in `groups`.

        Raises:
            CascjaxError: there is no such place, or not one for each query of the batch.
        """
        if isinstance(group, str):
            group = self.groups.index(group) if group in self.group_rules else -1
        elif not isinstance(group, int | np.integer | np.ndarray):
            known = {name: i for i, name in enumerate(self.groups)}
            group = np.array([known.get(name, -1) for name in group], np.int32)
        places = np.asarray(group) + 1
        if places.size and not (places.min() >= 0 and places.max() < len(self.rules)):
            raise CascjaxError(
                f"{counted(len(self.groups), 'group has its', 'groups have their')} own rule,"
                f" so a group's number goes from -1, none of them, to {len(self.groups) - 1}"
            )
        if batch is not None and places.shape not in ((), batch):
            raise CascjaxError(
                f"{counted(places.shape[0], 'group does', 'groups do')} not fit run of"
                f" {list(batch)} queries"
            )
        return places if batch is None else np.broadcast_to(places, batch)

    def _all_costs(
        self, cost: np.ndarray, extra_costs: Mapping[str, Numbers]
    ) -> Float[np.ndarray, "R *B K"]:
        for name, of in extra_costs.items():
            if name not in self.costs[1:]:
                raise unknown_name("cost", name, self.costs[1:])
            if np.shape(of) != cost.shape or not np.isfinite(np.asarray(of)).all():
                raise CascjaxError(
                    f"extra_costs {name!r} must be finite, of shape {shape_of(cost)}"
                )
        means = zip(self.costs[1:], self.mean_costs[1:], strict=True)
        rest = [np.broadcast_to(extra_costs.get(name, mean), cost.shape) for name, mean in means]
        return np.stack([cost, *rest])

    @functools.cached_property
    def _on_device(self) -> "_Rules":
        return _Rules.of(self)

    def matched(self, table: Table) -> Table:
        """The table of the policy's models, in its order.

        Raises:
            CascjaxError: the table lacks a model.
        """
        missing = [name for name in self.models if name not in table.models]
        if missing:
            raise CascjaxError(
                f"the policy chooses among models the table lacks: {', '.join(missing)};"
                f" the table has {', '.join(table.models) or 'no names of models'}"
            )
        return table if table.models == self.models else table.select_models(self.models)

    def estimator(self, table: Table) -> Estimator:
        """Estimates of a table's queries, by the policy's own sigma and mean costs, or as learned.

        Models are in the order of the policy, see `matched`. Not corrected yet, see `beliefs`.
        The table's own quality_sigma counts for more than the policy's.

        Raises:
            CascjaxError: what `matched` refuses, or the table lacks the estimates, or what learned
                ones are made of.
        """
        table = self.matched(table)
        if self.learned is not None:
            return self.learned.estimator(table)
        if self.source.kind == "truth":
            return truth(table)
        if self.source.kind == "noisy":
            key = jax.random.key(self.source.seed)
            return replace(noisy(table, key, self.source.noise or "low"), sigma=self.sigma[None])
        shape = table.cost.shape
        if table.quality_sigma is None:
            table = replace(table, quality_sigma=np.broadcast_to(self.sigma, shape))
        if table.cost_ante is None:
            table = replace(table, cost_ante=np.broadcast_to(self.mean_costs[0], shape))
        given = supplied(table, np.arange(0))
        # One row for all where it is one: a matrix of the table's size is not read then.
        sigma = np.asarray(given.sigma)
        return replace(given, sigma=sigma[:1]) if sigma.strides[0] == 0 else given

    def beliefs(self, table: Table, estimator: Estimator | None = None) -> Beliefs:
        """What the strategy is shown of a table's queries: estimates, corrected, and all costs.

        Args:
            table: the queries.
            estimator: estimates of theirs, not corrected yet; by default those of `estimator`.

        Raises:
            CascjaxError: what `estimator` refuses, or an oracle's table lacks a extra cost.
        """
        table = self.matched(table)
        estimator = self.estimator(table) if estimator is None else estimator
        if self.corrected:
            assert isinstance(estimator, Independent)  # learned ones are not corrected
            estimator = replace(
                estimator,
                quality_ante=np.asarray(estimator.quality_ante) + self.offset,
                sigma=np.asarray(estimator.sigma) * self.scale,
            )
        if self.source.kind == "truth":
            lacking = [name for name in self.costs[1:] if name not in table.extra_costs]
            if lacking:
                raise CascjaxError(
                    f"the table lacks a cost an oracle was fitted with: {', '.join(lacking)};"
                    f" bring it as the column '{COST}.{lacking[0]}'"
                )
            return Beliefs(estimator, tuple(table.extra_costs[name] for name in self.costs[1:]))
        shape = table.cost.shape
        return Beliefs(estimator, tuple(np.broadcast_to(m, shape) for m in self.mean_costs[1:]))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the policy to a file, whole or not at all.

        Raises:
            CascjaxError: the file cannot be written.
        """
        with atomic_write(path) as temporary:
            temporary.write_text(self.text(), encoding="utf-8")

    def text(self) -> str:
        """Return the content of the policy's file."""
        return policy_file.text({f.name: getattr(self, f.name) for f in fields(self)})


def load_policy(path: str | os.PathLike[str]) -> Policy:
    """Return the policy that `Policy.save` wrote.

    Raises:
        CascjaxError: the file is missing or damaged, is not a policy, has another version of the
            format, or holds a value that no policy can have.
    """
    found = policy_file.read(path)
    try:
        return Policy(**found)
    except CascjaxError as error:
        raise CascjaxError(f"{path}: {error}") from error


def fingerprint(table: Table) -> str:
    """A hash of the table's true qualities and costs: the same table has the same one."""
    found = hashlib.sha256(f"{table.quality.shape} {table.models}".encode())
    for start in range(0, table.n_queries, _ROWS):
        rows = slice(start, start + _ROWS)
        for column in (table.quality, table.cost):
            found.update(np.ascontiguousarray(column[rows], "<f4").tobytes())
    return found.hexdigest()


@dataclass(frozen=True)
class Spent:
    """What a rule of M settings did on each of n queries.

    Attributes:
        weights: `[M]` share of queries that take each setting.
        run: `[M, n, K]` the models that ran.
        answer: `[M, n]` the model whose answer was returned.
        quality: `[M, n]` true quality of that answer.
        cost: `[R, M, n]` true costs of all models run.
    """

    weights: Float[np.ndarray, " M"]
    run: Bool[np.ndarray, "M n K"]
    answer: Int[np.ndarray, "M n"]
    quality: Float[np.ndarray, "M n"]
    cost: Float[np.ndarray, "R M n"]

    def mean_cost(self) -> Float[np.ndarray, " R"]:
        """Mean costs, in expectation over the settings."""
        return self.cost.mean(2) @ self.weights


def spent(
    strategy: Strategy,
    rule: Rule,
    beliefs: Beliefs,
    table: Table,
    rows: Int[np.ndarray, " n"],
    costs: Sequence[str] = (COST,),
    progress: Callable[[int], None] = lambda queries: None,
) -> Spent:
    """Simulates every setting of a rule, query by query.

    Args:
        strategy: what to simulate.
        rule: its settings.
        beliefs: what it is shown of the table's queries.
        table: the truth, models as in the beliefs.
        rows: the queries to look at.
        costs: the R costs to add up, "cost" or a further one of the table.
        progress: called with the number of queries of each block as it ends.
    """
    m, shape = len(rule.weights), table.cost.shape
    run, answer = np.empty((m, len(rows), shape[1]), bool), np.empty((m, len(rows)), np.int32)
    prices = np.zeros((m, 1)) if rule.prices is None else rule.prices
    for one in np.unique(prices, axis=0):
        alike = np.flatnonzero((prices == one).all(1))
        shown = beliefs.priced(None if rule.prices is None else one)
        run[alike], answer[alike] = query_outcomes(
            strategy, rule.parameters[alike], shown, shape, rows=rows, progress=progress
        )
    got = np.take_along_axis(take_rows(table.quality, rows), answer.T, axis=1).T
    truths = [table.cost if name == COST else table.extra_costs[name] for name in costs]
    cost = [np.einsum("mnk,nk->mn", run, take_rows(of, rows).astype(np.float64)) for of in truths]
    return Spent(rule.weights, run, answer, got.astype(np.float64), np.stack(cost))


# Deciding.


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _Rules:
    """The rules of a policy and its corrections, as one call needs them; G rules, M settings.

    Attributes:
        parameters: `[G, M, D]` one a step.
        upto: `[G, M]` shares summed up, infinite from the last setting on.
        prices: `[G, M, R]` or None.
        mean_costs: `[R, K]` mean costs.
        scale: `[K]` or None where nothing is corrected.
        offset: `[K]` or None.
    """

    parameters: Float[Array, "G M D"]
    upto: Float[Array, "G M"]
    prices: Float[Array, "G M R"] | None
    mean_costs: Float[Array, "R K"]
    scale: Float[Array, " K"] | None
    offset: Float[Array, " K"] | None

    @classmethod
    def of(cls, policy: Policy) -> "_Rules":
        rules = policy.rules
        most = max(len(rule.weights) for rule in rules)
        steps = max(rule.parameters.shape[1] if rule.parameters.ndim > 1 else 1 for rule in rules)
        alone = np.eye(1, len(policy.costs), dtype=np.float32)

        def filled(of: Float[np.ndarray, "M C"]) -> Float[np.ndarray, "N C"]:
            return np.concatenate([of, np.repeat(of[-1:], most - len(of), axis=0)])

        def each_step(of: Float[np.ndarray, "M *D"]) -> Float[np.ndarray, "M E"]:
            of = of.reshape(len(of), -1)
            return of[:, np.minimum(np.arange(steps), of.shape[1] - 1)]

        def summed(weights: Float[np.ndarray, " M"]) -> Float[np.ndarray, " N"]:
            upto = np.full(most, np.inf)
            upto[: len(weights) - 1] = np.cumsum(weights)[:-1]
            return upto.astype(np.float32)

        priced = any(rule.prices is not None for rule in rules)
        prices = [alone if rule.prices is None else rule.prices for rule in rules]
        return cls(
            jnp.array(np.stack([filled(each_step(rule.parameters)) for rule in rules])),
            jnp.array(np.stack([summed(rule.weights) for rule in rules])),
            jnp.array(np.stack([filled(p) for p in prices])) if priced else None,
            jnp.array(policy.mean_costs),
            jnp.array(policy.scale) if policy.corrected else None,
            jnp.array(policy.offset) if policy.corrected else None,
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
    """The next model of every query: draws a setting, corrects and prices, asks the strategy."""
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
        # A key a row draws what it would for its query alone.
        draw = jax.vmap(_drawn)(key) if key.ndim else jax.random.uniform(key, (n,))
    setting = jnp.sum(draw[:, None] >= rules.upto[place], axis=-1)
    rows = {
        "parameters": rules.parameters[place, setting],
        "quality": quality,
        "covariance": covariance,
        "cost": cost,
        "run": run,
    }
    if rules.prices is not None:
        rows["prices"] = rules.prices[place, setting]
        if costs is not None:
            rows["costs"] = jnp.moveaxis(costs.reshape(-1, n, k), 0, 1)

    def one(row: dict[str, Array]) -> Int[Array, ""]:
        quality, covariance, cost, run = (
            row[name] for name in ("quality", "covariance", "cost", "run")
        )
        if rules.prices is not None:
            every = row.get("costs", jnp.concatenate([cost[None], rules.mean_costs[1:]]))
            cost = jnp.sum(row["prices"][:, None] * every, axis=0)
        if rules.scale is not None and rules.offset is not None:
            scale = jnp.where(run, 1, rules.scale)
            quality = quality + jnp.where(run, 0, rules.offset)
            covariance = covariance * (scale * scale if diagonal else scale[:, None] * scale)
        believed = Estimates(quality[None], covariance[None], cost[None])
        return strategy.next_model(row["parameters"], believed, run[None])[0]

    if n == 1:
        # Not mapped over: conditions that keep work from being done twice would be dropped.
        return one({name: of[0] for name, of in rows.items()})[None]
    at_once = max(1, _BLOCK // (8 * strategy.footprint(k)))
    if n <= at_once:
        return jax.vmap(one)(rows)
    return jax.lax.map(one, rows, batch_size=at_once)


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
    if (policy.source.kind == "learned") != (policy.learned is not None):
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
