"""Datasets of answers that are right or wrong, as in the five settings of the paper.

A query has a latent ease of F factors; model k is right where its margin

    ndtri(rate) + loading . ease + own error,        own error ~ Normal(0, 1 - |loading|^2)

is above 0. This is the normal-ogive factor model of Bock and Lieberman ("Fitting a response model
for n dichotomously scored items", Psychometrika 1970): the tetrachoric correlation of two models is
the product of their loadings. Wrong answers share a lure, so agreement is informative. The
certainty of a model, the length of its answer and the results of tests are known once it has run.
Given ease all of these are independent, and ease is low-dimensional, so `known_posterior` can
integrate over it for any run set.
"""

from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int
from scipy.special import expit, logit, ndtr, ndtri, owens_t

from cascjax.data.table import Table
from cascjax.synthetic.base import BLOCK, FIRST_TOKEN_SPREAD, lognormal

CERTAINTY_SLOPE, CERTAINTY_SHIFT = 1.4, 0.6
"""Log-odds of a model's first class are the shift plus the slope times its certainty."""

LOGPROB_SLOPE, LOGPROB_SHIFT = 0.7, -1.2
"""Log of the mean negative log-probability of a token is the shift minus slope times certainty."""

FIRST_TOKEN = 0.4  # Mean time to the first token of an answer, in seconds

NO_IDENTITY, FREE = 0, 1
"""Values of `options` for answers without identity, and for answers out of endlessly many."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class AnswerDataset:
    """K models whose answers are right or wrong, on queries of G groups; they rise in mean cost.

    Supplied estimates are exact means given what is known before the run, and given the model's own
    answer too, with the exact standard deviation of their difference; they need R = 1 and scores of
    0 and 1.
    """

    rate: Float[np.ndarray, "K G R"]  # P(right) by place of the right option modulo R
    loading: Float[np.ndarray, "K G F"]  # correlation of a margin with each factor of ease
    refusal: Float[np.ndarray, "K G"]  # probability that a model gives no answer, which is wrong
    certainty_noise: Float[np.ndarray, " K"]  # SD of a certainty around its own margin
    options: Int[np.ndarray, " G"]  # number of answers to choose from; or `NO_IDENTITY`, or `FREE`
    lure: Float[np.ndarray, " G"]  # P(wrong answer is the one that others give too)
    tested: Int[np.ndarray, " G"]  # 1 where tests tell right from wrong once a model has run
    scores: Float[np.ndarray, "G 2"]  # quality of a wrong (or no) answer, and of a right one
    group_weights: Float[np.ndarray, " G"]  # share of queries of each group; sums to 1
    prompt_tokens: Float[np.ndarray, " G"]  # mean tokens of a prompt
    prompt_spread: Float[np.ndarray, " G"]  # standard deviation of their logarithm, above 0
    prompt_ease: Float[np.ndarray, " G"]  # correlation of log prompt tokens and ease
    prompt_length: Float[np.ndarray, " G"]  # the same with the shared length of answers
    label_noise: float  # SD of the error of the feature "difficulty" (-ease); inf: no feature
    answer_tokens: Float[np.ndarray, "K G"]  # mean tokens of an answer
    effort: Float[np.ndarray, " G"]  # log answer tokens lost per unit of the first factor of ease
    shared_spread: Float[np.ndarray, " G"]  # SD of log answer tokens that models share
    own_spread: Float[np.ndarray, "K G"]  # standard deviation of log answer tokens of a model alone
    price_prompt: Float[np.ndarray, " K"]  # price of a prompt token, in USD
    price_answer: Float[np.ndarray, " K"]  # price of an answer token, in USD
    speed: Float[np.ndarray, " K"]  # answer tokens per second
    signal_names: tuple[str, ...] = field(metadata={"static": True})
    supplied: bool = field(metadata={"static": True})
    kind: str = field(metadata={"static": True})  # Name of the kind of dataset
    models: tuple[str, ...] = field(metadata={"static": True})  # K model names
    groups: tuple[str, ...] = field(metadata={"static": True})  # G group names

    def __repr__(self) -> str:
        """Return the kind and the names of the models."""
        return f"{self.kind} dataset: {', '.join(self.models)}"

    @property
    def n_models(self) -> int:
        """Number of models K."""
        return self.rate.shape[0]

    @property
    def labelled(self) -> bool:
        """Whether difficulty is a feature."""
        return bool(np.isfinite(self.label_noise))

    @property
    def has_certainty(self) -> bool:
        """Whether a signal shows how certain a model is."""
        return bool({"top_probability", "mean_logprob"} & set(self.signal_names))

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the features."""
        label = ("difficulty",) if self.labelled else ()
        return ("log_prompt_tokens", *label, *(f"is_{name}" for name in self.groups))

    @property
    def threshold(self) -> Float[np.ndarray, "K G R"]:
        """Mean of each margin."""
        return ndtri(self.rate)

    @property
    def mean_cost(self) -> Float[np.ndarray, " K"]:
        """Mean cost of each model over all queries, in USD."""
        prompt = self.price_prompt[:, None] * self.prompt_tokens
        answer = self.price_answer[:, None] * self.answer_tokens
        return (prompt + answer) @ self.group_weights

    @property
    def length_spread(self) -> Float[np.ndarray, "K G"]:
        """Standard deviation of log answer tokens within a group."""
        both = self.prompt_ease * self.prompt_length
        common = self.effort**2 - 2 * self.effort * self.shared_spread * both
        return np.sqrt(common + self.shared_spread**2 + self.own_spread**2)

    def block(self, seed: int, index: int, features: bool, seconds: bool) -> Table:
        """Return block `index` of the queries of a seed, `BLOCK` rows."""
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(index,)))
        K, _, F = self.loading.shape

        def normal(columns: int) -> np.ndarray:
            return rng.standard_normal((BLOCK, columns), np.float32)

        def by_group(values: np.ndarray) -> np.ndarray:  # [K, G] to [B, K], or [G] to [B, 1]
            return np.atleast_2d(values).T.astype(np.float32)[group]

        # A query: its group, a prompt for all models, its ease, and the shared length of answers.
        u = rng.random(BLOCK, np.float32)
        cuts = np.cumsum(self.group_weights)[:-1].astype(np.float32)
        group = np.searchsorted(cuts, u, side="right").astype(np.int32)
        prompt, ease, shared = normal(1), normal(F), normal(1)
        ease[:, :1] = _correlated(by_group(self.prompt_ease), prompt, ease[:, :1])
        shared = _correlated(by_group(self.prompt_length), prompt, shared)
        spread = by_group(self.prompt_spread)
        prompt_tokens = lognormal(by_group(self.prompt_tokens), spread * prompt, spread)

        # The answers: right where the margin is above 0, unless the model refuses.
        R, options = self.rate.shape[-1], self.options[group]
        right = (rng.random(BLOCK) * np.maximum(options, 1)).astype(np.int32)
        threshold = self.threshold.transpose(1, 2, 0).astype(np.float32)[group, right % R]
        own = by_group(np.sqrt(1 - (self.loading**2).sum(-1)))
        margin = threshold + own * normal(K)
        for f in range(F):
            margin += by_group(self.loading[..., f]) * ease[:, f : f + 1]
        refused = np.zeros((BLOCK, K), bool)
        if self.refusal.any():
            refused = rng.random((BLOCK, K), np.float32) < by_group(self.refusal)
        correct = (margin > 0) & ~refused
        answer = None
        if (self.options != NO_IDENTITY).any():
            answer = _answers(rng, correct, refused, right, options, self.lure[group])

        # What a run shows. Certainty is a noisy view of a model's own margin.
        certainty = margin
        if self.has_certainty:
            certainty = margin + self.certainty_noise.astype(np.float32) * normal(K)
        length = by_group(self.shared_spread) * shared - by_group(self.effort) * ease[:, :1]
        length = np.broadcast_to(length, (BLOCK, K))
        if self.own_spread.any():
            length = length + by_group(self.own_spread) * normal(K)
        answer_tokens = lognormal(
            by_group(self.answer_tokens), length, by_group(self.length_spread)
        ).astype(np.float32)
        label = None
        if self.labelled:
            label = np.float32(self.label_noise) * normal(1) - ease[:, :1]

        prompt_cost = self.price_prompt.astype(np.float32) * prompt_tokens
        cost = prompt_cost + self.price_answer.astype(np.float32) * answer_tokens
        scores = self.scores.astype(np.float32)[group]
        quality = np.where(correct, scores[:, 1:], scores[:, :1])
        table: dict[str, Any] = {}
        if self.supplied:
            beforehand = [prompt] if label is None else [prompt, label]
            estimates = self._estimates(group, beforehand, certainty - threshold, length)
            quality_ante, quality_post, quality_sigma, expected_tokens = estimates
            tested = by_group(self.tested) > 0
            quality_post = np.where(tested, quality, np.where(refused, 0, quality_post))
            table = {
                "quality_ante": quality_ante,
                "quality_post": quality_post.astype(np.float32),
                "quality_sigma": quality_sigma,
                "cost_ante": prompt_cost + self.price_answer.astype(np.float32) * expected_tokens,
                "cost_post": cost,
            }
        if features:
            extra = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(index, 1)))
            is_group = np.eye(len(self.groups), dtype=np.float32)[group]
            columns = [np.log(prompt_tokens), *([] if label is None else [label]), is_group]
            table |= {
                "features": np.concatenate(columns, axis=1),
                "signals": self._signals(extra, group, quality, certainty, answer_tokens),
                "answer": answer,
                "feature_names": self.feature_names,
                "signal_names": self.signal_names,
            }
        if seconds:  # a generator of their own: a query is the same with and without
            clock = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(index, 2)))
            busy = FIRST_TOKEN_SPREAD * clock.standard_normal((BLOCK, K), np.float32)
            wait = lognormal(FIRST_TOKEN, busy, FIRST_TOKEN_SPREAD)
            table["extra_costs"] = {"seconds": wait + answer_tokens / self.speed.astype(np.float32)}
            table["extra_cost_units"] = (("seconds", "s"),)
        return Table(
            quality=quality,
            cost=cost,
            group=group,
            models=self.models,
            cost_unit="USD",
            groups=self.groups,
            **table,
        )

    def _signals(
        self,
        rng: np.random.Generator,
        group: Int[np.ndarray, " B"],
        quality: Float[np.ndarray, "B K"],
        certainty: Float[np.ndarray, "B K"],
        answer_tokens: Float[np.ndarray, "B K"],
    ) -> Float[np.ndarray, "B KP"]:
        """Return the signals of each answer, model-major, in float32."""
        values: dict[str, np.ndarray] = {}
        if "passed" in self.signal_names:
            values["passed"] = quality * self.tested[group][:, None]
        if "top_probability" in self.signal_names:
            # The second class takes a random share of the rest; the others share the remainder.
            classes = self.options[group][:, None].astype(np.float32)
            top = 1 / classes + (1 - 1 / classes) * expit(
                np.float32(CERTAINTY_SLOPE) * certainty + np.float32(CERTAINTY_SHIFT)
            )
            rest, least = 1 - top, 1 / (classes - 1)
            most = np.minimum(1, top / np.maximum(rest, 1e-12))
            share = least + (most - least) * rng.random(top.shape, np.float32)
            second, others = rest * share, rest * (1 - share)
            each = others / np.maximum(classes - 2, 1)
            values["top_probability"] = top
            values["entropy"] = -(_xlog(top) + _xlog(second) + (classes - 2) * _xlog(each))
            values["margin"] = top - second
        if "mean_logprob" in self.signal_names:
            mean = -np.exp(np.float32(LOGPROB_SHIFT) - np.float32(LOGPROB_SLOPE) * certainty)
            # The least likely token: rarer in longer answers.
            noise = np.float32(0.3) * rng.standard_normal(mean.shape, np.float32)
            values["mean_logprob"] = mean
            values["min_logprob"] = mean * (1 + np.log1p(answer_tokens) * np.exp(noise))
        if "log_answer_tokens" in self.signal_names:
            values["log_answer_tokens"] = np.log(answer_tokens)
        signals = np.stack([values[name] for name in self.signal_names], axis=-1)
        return signals.astype(np.float32).reshape(len(signals), -1)

    def _estimates(
        self,
        group: Int[np.ndarray, " B"],
        beforehand: list[Float[np.ndarray, "B 1"]],
        certainty: Float[np.ndarray, "B K"],
        length: Float[np.ndarray, "B K"],
    ) -> tuple[
        Float[np.ndarray, "B K"],
        Float[np.ndarray, "B K"],
        Float[np.ndarray, "B K"],
        Float[np.ndarray, "B K"],
    ]:
        """Return exact means of quality before and after the own answer, sigma, and mean tokens.

        Margin, prompt, label, certainty and length are jointly Gaussian, so this is one small
        regression per group and model in closed form; `certainty` and `length` are centred.
        """
        cov = self._covariance()
        n = len(beforehand)
        late = np.arange(n + 2)[[True] * n + [self.has_certainty, bool(self.own_spread.any())]]
        observed = [*beforehand, certainty, length]

        def regress(target: int, on: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            """Return slopes `[G, K, n]` on observed columns, and the residual variance `[G, K]`."""
            shared = cov[..., on, target]
            # A group whose answers all have the same length has no slope on it.
            slopes = np.linalg.pinv(cov[..., on[:, None], on], hermitian=True) @ shared[..., None]
            return slopes[..., 0], cov[..., target, target] - (slopes[..., 0] * shared).sum(-1)

        def weigh(weights: np.ndarray, start: np.ndarray, on: np.ndarray) -> np.ndarray:
            total = start.astype(np.float32)[group]
            for c, column in enumerate(on):
                if weights[..., c].any():
                    total += weights[..., c].astype(np.float32)[group] * observed[column]
            return total

        def standard(on: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            """Return the expected margin over its residual deviation, and the residual variance."""
            slopes, left = regress(n + 2, on)
            root = np.sqrt(left)
            return weigh(slopes / root[..., None], self.threshold[..., 0].T / root, on), left

        early = np.arange(n)
        (before, left), (after, left_after) = standard(early), standard(late)
        ante = ndtr(before)
        # The second moment of the posterior probability is the probability that two margins are
        # above 0 that share what is unobserved: a bivariate normal of equal bounds, by Owen's T.
        ratio = np.where(self.tested[:, None] > 0, 0, left_after / left)
        skew = np.sqrt(ratio / (2 - ratio)).astype(np.float32)[group]
        answers = 1 - self.refusal.T.astype(np.float32)[group]
        square = answers * (ante - 2 * owens_t(before, skew))
        ante = answers * ante
        sigma = np.sqrt(np.maximum(square - ante**2, 0))
        slopes, left = regress(n + 1, early)
        log_tokens = np.log(self.answer_tokens.T) + (left - self.length_spread.T**2) / 2
        return ante, ndtr(after), sigma, np.exp(weigh(slopes, log_tokens, early))

    def _covariance(self) -> Float[np.ndarray, "G K M M"]:
        """Return the covariance of prompt, label (if any), certainty, length and margin."""
        K, G, F = self.loading.shape
        rho, phi = self.prompt_ease[:, None], self.prompt_length[:, None]
        # Rows: the five variables; columns: their independent components, which are the prompt, the
        # rest of the factors and of the shared length, and the errors of label, margin, certainty
        # and length.
        made = np.zeros((G, K, 5, F + 6))
        ease = np.zeros((G, 1, F, F + 6))
        ease[..., 1 : 1 + F] = np.eye(F)
        ease[..., 0, 0] = rho
        ease[..., 0, 1] = np.sqrt(1 - rho**2)
        loading = self.loading.transpose(1, 0, 2)
        made[..., 0, 0] = 1
        made[..., 1, :] = -ease[..., 0, :]
        made[..., 1, F + 2] = self.label_noise if self.labelled else 0
        made[..., 4, :] = (loading[..., None] * ease).sum(-2)
        made[..., 4, F + 3] = np.sqrt(1 - (loading**2).sum(-1))
        made[..., 2, :] = made[..., 4, :]
        made[..., 2, F + 4] = self.certainty_noise
        made[..., 3, :] = -self.effort[:, None, None] * ease[..., 0, :]
        made[..., 3, 0] += self.shared_spread[:, None] * phi
        made[..., 3, F + 1] = self.shared_spread[:, None] * np.sqrt(1 - phi**2)
        made[..., 3, F + 5] = self.own_spread.T
        if not self.labelled:
            made = np.delete(made, 1, axis=-2)
        return made @ made.mT


def seen_certainty(
    dataset: AnswerDataset, table: Table, options: Int[np.ndarray, " N"]
) -> Float[np.ndarray, "N K"] | None:
    """Return the certainty of each model, read from its signals; None where none shows it."""
    if "top_probability" in dataset.signal_names:
        top, chance = signal(dataset, table, "top_probability"), 1 / options[:, None]
        inside = np.clip((top - chance) / (1 - chance), 1e-9, 1 - 1e-9)
        return (logit(inside) - CERTAINTY_SHIFT) / CERTAINTY_SLOPE
    if "mean_logprob" in dataset.signal_names:
        mean = signal(dataset, table, "mean_logprob")
        return (LOGPROB_SHIFT - np.log(-mean)) / LOGPROB_SLOPE
    return None


def signal(dataset: AnswerDataset, table: Table, name: str) -> Float[np.ndarray, "N K"]:
    """Return a signal of every model by name, in float64."""
    assert table.signals is not None
    by_model = table.signals.reshape(len(table.signals), dataset.n_models, -1)
    return by_model[..., dataset.signal_names.index(name)].astype(np.float64)


def _answers(
    rng: np.random.Generator,
    correct: np.ndarray,
    refused: np.ndarray,
    right: Int[np.ndarray, " B"],
    options: Int[np.ndarray, " B"],
    lure: Float[np.ndarray, " B"],
) -> Int[np.ndarray, "B K"]:
    """Return the identity of each answer; of free answers, the first model that gives it."""
    n, K = correct.shape
    right, options = right[:, None], options[:, None]
    lured = rng.random((n, K), np.float32) < lure[:, None].astype(np.float32)
    place, other = rng.random((n, 1), np.float32), rng.random((n, K), np.float32)
    # Among options: the lure is not the right one, and other wrong answers are neither.
    count = np.maximum(options, 2)
    tempting = (right + 1 + (place * (count - 1)).astype(np.int32)) % count
    wrong = (other * (count - 2)).astype(np.int32)
    wrong += wrong >= np.minimum(right, tempting)
    wrong += wrong >= np.maximum(right, tempting)
    wrong = np.where(lured | (count == 2), tempting, wrong)
    chosen = np.where(correct, right, wrong)
    # Free answers: the right one, the lure, or one that no other model gives.
    tempted = ~correct & lured & ~refused
    first_right, first_tempted = correct.argmax(1)[:, None], tempted.argmax(1)[:, None]
    free = np.where(correct, first_right, np.where(tempted, first_tempted, np.arange(K)))
    answer = np.where(options == FREE, free, chosen)
    return np.where(refused | (options == NO_IDENTITY), -1, answer).astype(np.int32)


def _correlated(correlation: np.ndarray, given: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """Return a standard normal with the given correlation with another."""
    return correlation * given + np.sqrt(1 - correlation**2) * rest


def _xlog(p: np.ndarray) -> np.ndarray:
    """Return p log(p), in nats."""
    return p * np.log(np.maximum(p, 1e-30))
