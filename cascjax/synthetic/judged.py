"""Datasets in which a judge scores answers: latent difficulty, models of different skill and price.

Ability meets difficulty as in the two-parameter normal-ogive item response model (Lord,
"Applications of Item Response Theory to Practical Testing Problems", 1980). With the ogive, unlike
its logistic approximation, every distribution stays Gaussian until the last step: the supplied
estimates are exact conditional expectations, so calibration can be tested against them.
"""

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float
from scipy.special import ndtr

from cascjax.data.table import Table
from cascjax.errors import check_name
from cascjax.synthetic.base import (
    BLOCK,
    FIRST_TOKEN_SPREAD,
    count,
    lognormal,
    model_names,
    positive,
    sizes,
)

QUALITIES = ("binary", "graded")
DOMAINS = ("chat", "code", "math", "law", "medicine", "science", "writing", "translation")
SIGNAL_NAMES = ("judge", "log_answer_tokens")

PROMPT_TOKENS, PROMPT_SPREAD = 400.0, 1.0
"""Mean tokens of a prompt, and the standard deviation of their logarithm."""

ANSWER_EFFORT, ANSWER_SPREAD = 0.3, 0.9
"""Log answer tokens gained per unit of difficulty, and the standard deviation of the rest."""


class Posterior(NamedTuple):
    """Conditional means under a run set, of all N queries and K models."""

    quality: Float[np.ndarray, "N K"]  # mean of each model's quality
    cost: Float[np.ndarray, "N K"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class JudgedDataset:
    """K models and D domains that queries are drawn from; models rise in mean cost."""

    ability: Float[np.ndarray, "K D"]  # difficulty at which a model is right half of the time
    price_prompt: Float[np.ndarray, " K"]  # price of a prompt token, in USD
    price_answer: Float[np.ndarray, " K"]  # price of an answer token, in USD
    answer_tokens: Float[np.ndarray, " K"]  # mean length of an answer, in tokens
    first_token: Float[np.ndarray, " K"]  # mean time to the first token of an answer, in seconds
    speed: Float[np.ndarray, " K"]  # answer tokens per second
    domain_weights: Float[np.ndarray, " D"]  # share of queries of each domain; sums to 1
    discrimination: float  # How sharply quality falls with difficulty
    interaction: float  # SD of a query-model interaction, in units of the margin
    difficulty_noise: float  # SD of the error of difficulty known before a run
    judge_noise: float  # Standard deviation of the error with which a judge sees an answer's margin
    # "binary" (right or wrong) or "graded" (from 0 to 1)
    quality: str = field(metadata={"static": True})
    models: tuple[str, ...] = field(metadata={"static": True})  # K model names
    domains: tuple[str, ...] = field(metadata={"static": True})  # D domain names

    def __repr__(self) -> str:
        """Return the kind and the names of the models."""
        return f"judged dataset: {', '.join(self.models)}"

    @property
    def n_models(self) -> int:
        """Number of models K."""
        return self.ability.shape[0]

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the features: noisy difficulty, log prompt length, and the domain."""
        return ("difficulty", "log_prompt_tokens", *(f"is_{name}" for name in self.domains))

    def block(self, seed: int, index: int, features: bool, seconds: bool) -> Table:
        """Return block `index` of the queries of a seed, `BLOCK` rows."""
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(index,)))
        K = self.n_models

        def normal(columns: int) -> np.ndarray:
            return rng.standard_normal((BLOCK, columns), np.float32)

        # A query: its domain, its difficulty, and a prompt for all models.
        u = rng.random(BLOCK, np.float32)
        domain = np.searchsorted(np.cumsum(self.domain_weights)[:-1], u, side="right").astype(
            np.int32
        )
        difficulty = normal(1)
        prompt_tokens = lognormal(PROMPT_TOKENS, PROMPT_SPREAD * normal(1), PROMPT_SPREAD)

        # Before a run, difficulty is seen with noise; given that, it is Normal(expected, doubt).
        observed = difficulty + self.difficulty_noise * normal(1)
        doubt = self.difficulty_noise**2 / (1 + self.difficulty_noise**2)
        expected = (1 - doubt) * observed

        # Quality is the normal CDF of the margin (graded), or whether margin + Normal(0, 1) is
        # above 0 (binary). Both have the mean ndtr(mean / sqrt(1 + variance of the margin)): the
        # Normal(0, 1) is averaged over in the former, and drawn in the latter.
        a, ability = self.discrimination, self.ability.T[domain]
        binary = self.quality == "binary"
        drawn, averaged = (1.0, 0.0) if binary else (0.0, 1.0)
        own_variance = self.interaction**2 + drawn
        margin = a * (ability - difficulty) + math.sqrt(own_variance) * normal(K)
        quality = (margin > 0).astype(np.float32) if binary else ndtr(margin)

        # The estimates: the margin given what is known before, and given the judge too. This is a
        # Gaussian update, so E[post | ante] = ante.
        mean, variance = a * (ability - expected), a**2 * doubt + own_variance
        judged = margin + self.judge_noise * normal(K)
        gain = variance / (variance + self.judge_noise**2)
        mean_post, variance_post = mean + gain * (judged - mean), (1 - gain) * variance

        # The cost: long-tailed token counts, and longer answers to harder queries.
        spread = math.sqrt(ANSWER_EFFORT**2 + ANSWER_SPREAD**2)
        effort = ANSWER_EFFORT * difficulty + ANSWER_SPREAD * normal(K)
        answer_tokens = lognormal(self.answer_tokens, effort, spread)
        expected_tokens = lognormal(
            self.answer_tokens, ANSWER_EFFORT * expected, ANSWER_EFFORT * math.sqrt(1 - doubt)
        )
        prompt_cost = self.price_prompt * prompt_tokens
        cost = prompt_cost + self.price_answer * answer_tokens

        table: dict[str, Any] = {}
        if features:
            is_domain = np.eye(len(self.domains), dtype=np.float32)[domain]
            signals = np.stack([judged, np.log(answer_tokens)], axis=-1)
            table = {
                "features": np.concatenate([observed, np.log(prompt_tokens), is_domain], axis=1),
                "signals": signals.reshape(BLOCK, -1),
                "feature_names": self.feature_names,
                "signal_names": SIGNAL_NAMES,
            }
        if seconds:  # drawn last: a query is the same with and without
            busy = FIRST_TOKEN_SPREAD * normal(K)
            first_token = lognormal(self.first_token, busy, FIRST_TOKEN_SPREAD)
            table["extra_costs"] = {"seconds": first_token + answer_tokens / self.speed}
            table["extra_cost_units"] = (("seconds", "s"),)
        return Table(
            quality=quality,
            cost=cost,
            quality_ante=ndtr(mean / math.sqrt(variance + averaged)),
            quality_post=ndtr(mean_post / math.sqrt(variance_post + averaged)),
            cost_ante=prompt_cost + self.price_answer * expected_tokens,
            cost_post=cost,
            group=domain,
            models=self.models,
            cost_unit="USD",
            groups=self.domains,
            **table,
        )

    def posterior(self, table: Table, run: Bool[np.ndarray, "N K"]) -> Posterior:
        """Return conditional means; given all that is seen, difficulty and margins are Normal."""
        assert table.features is not None
        assert table.signals is not None
        assert table.group is not None
        features = table.features.astype(np.float64)
        signals = table.signals.astype(np.float64).reshape(*run.shape, -1)
        # Signals of models that have not run are not used.
        judged, log_tokens = np.where(run, signals[..., 0], 0), np.where(run, signals[..., 1], 0)
        a, ability = self.discrimination, self.ability.T.astype(np.float64)[table.group]
        drawn = 1.0 if self.quality == "binary" else 0.0
        own = self.interaction**2 + drawn
        log_mean = np.log(self.answer_tokens.astype(np.float64))
        log_mean = log_mean - (ANSWER_EFFORT**2 + ANSWER_SPREAD**2) / 2

        # Precision and precision times mean of difficulty: of the features, then of each model.
        noise = max(self.difficulty_noise, 1e-9)
        by_judge, by_length = (
            a**2 / (own + self.judge_noise**2),
            (ANSWER_EFFORT / ANSWER_SPREAD) ** 2,
        )
        precision = 1 + noise**-2 + run.sum(1) * (by_judge + by_length)
        pull = features[:, 0] / noise**2
        pull = pull + (run * (ability - judged / a)).sum(1) * by_judge
        pull = pull + (run * (log_tokens - log_mean)).sum(1) * by_length / ANSWER_EFFORT
        mean, variance = (pull / precision)[:, None], (1 / precision)[:, None]

        margin, spread = a * (ability - mean), a**2 * variance + own
        # A model that has run: its own error given its judged margin, and the rest of difficulty.
        gain = own / (own + self.judge_noise**2)
        margin_run = margin + gain * (judged - margin)
        spread_run = (1 - gain) ** 2 * a**2 * variance + (1 - gain) * own
        averaged = 1 - drawn
        quality = ndtr(
            np.where(run, margin_run, margin)
            / np.sqrt(averaged + np.where(run, spread_run, spread))
        )
        tokens = np.exp(
            log_mean + ANSWER_EFFORT * mean + (ANSWER_EFFORT**2 * variance + ANSWER_SPREAD**2) / 2
        )
        cost = self.price_prompt * np.exp(features[:, 1:2]) + self.price_answer * tokens
        return Posterior(quality, np.where(run, table.cost, cost))


def judged(
    n_models: int = 5,
    seed: int = 0,
    *,
    n_domains: int = 4,
    quality: str = "binary",
    discrimination: float = 1.5,
    interaction: float = 1.0,
    difficulty_noise: float = 0.4,
    judge_noise: float = 0.6,
) -> JudgedDataset:
    """Draw models whose prices span two orders of magnitude and whose ability roughly follows.

    Some models are dominated, and some are worth their price in a few domains only. Expensive
    models are slower overall, but not one by one: seconds and price are two costs.

    Args:
      n_models: Number of models K, at least 2.
      seed: Seed of the models, at least 0.
      n_domains: Number of domains D, at least 1.
      quality: "binary" or "graded".
      discrimination: Above 0.
      interaction: At least 0, in units of the margin.
      difficulty_noise: At least 0; difficulty itself has standard deviation 1.
      judge_noise: Above 0, in units of the margin.
    """
    (K, rng), D = sizes(n_models, seed), count("n_domains", n_domains, 1)
    check_name("quality", quality, QUALITIES)
    positive("discrimination", discrimination)
    positive("interaction", interaction, zero=True)
    positive("difficulty_noise", difficulty_noise, zero=True)
    positive("judge_noise", judge_noise)

    rank = np.linspace(0, 1, K)
    general = -0.25 + 1.6 * rank + 0.15 * rng.standard_normal(K)
    ability = general[:, None] + 0.45 * rng.standard_normal((K, D))
    price = 1e-7 * 100**rank * np.exp(0.2 * rng.standard_normal(K))
    tokens = 300 * np.exp(0.3 * rng.standard_normal(K))
    order = np.argsort(price * (PROMPT_TOKENS / 4 + tokens))
    weights = rng.dirichlet(np.full(D, 5.0))
    # Drawn last, because datasets without them came first and must not change.
    first_token = 0.25 * 3**rank * np.exp(0.4 * rng.standard_normal(K))
    speed = 160 * 0.25**rank * np.exp(0.4 * rng.standard_normal(K))

    def column(values: np.ndarray) -> np.ndarray:
        return values.astype(np.float32)

    return JudgedDataset(
        ability=column(ability[order]),
        price_prompt=column(price[order] / 4),  # the usual ratio in price lists
        price_answer=column(price[order]),
        answer_tokens=column(tokens[order]),
        first_token=column(first_token[order]),
        speed=column(speed[order]),
        domain_weights=column(weights),
        discrimination=float(discrimination),
        interaction=float(interaction),
        difficulty_noise=float(difficulty_noise),
        judge_noise=float(judge_noise),
        quality=quality,
        models=model_names(K),
        domains=tuple(
            DOMAINS[d % len(DOMAINS)] + (f"-{d // len(DOMAINS) + 1}" if d >= len(DOMAINS) else "")
            for d in range(D)
        ),
    )
