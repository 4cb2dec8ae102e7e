"""Synthetic worlds: queries of latent difficulty; models of differing skill, price and length.

Ability meets difficulty as in the two-parameter normal-ogive item response model (Lord,
"Applications of Item Response Theory to Practical Testing Problems", 1980). The ogive, and not
its logistic cousin, because it keeps every belief Gaussian until the last step: the estimates a
world hands out are then exact conditional expectations, so calibration can be tested against.

A query's rows come from fixed blocks, each with its own stream of the seed: row r depends on
the world, the seed and r alone, so a small table is the head of a large one.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from jaxtyping import Float
from scipy.special import ndtr

from cascjax.errors import CascjaxError, unknown_name
from cascjax.table import Table

QUALITIES = ("binary", "graded")
DOMAINS = ("chat", "code", "math", "law", "medicine", "science", "writing", "translation")
SIGNAL_NAMES = ("judge", "log_answer_tokens")

PROMPT_TOKENS, PROMPT_SPREAD = 400.0, 1.0
"""Mean tokens of a prompt, and the standard deviation of their logarithm."""

ANSWER_EFFORT, ANSWER_SPREAD = 0.3, 0.9
"""Log answer tokens gained per unit of difficulty, and the standard deviation of the rest."""

FIRST_TOKEN_SPREAD = 0.5
"""Standard deviation of the logarithm of the time to the first token: how busy a model is."""

_BLOCK = 1 << 14  # rows a stream; a constant of the format: another value is another world


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class World:
    """The K models and D domains that queries are drawn against; models rise in mean cost.

    Attributes:
        ability: `[K, D]` the difficulty at which a model is right half of the time.
        price_prompt: `[K]` price of a prompt token, in `cost_unit`.
        price_answer: `[K]` price of an answer token, in `cost_unit`.
        answer_tokens: `[K]` mean length of an answer, in tokens.
        first_token: `[K]` mean time to the first token of an answer, in seconds.
        speed: `[K]` tokens of an answer a second.
        domain_weights: `[D]` the share of queries of each domain; sums to 1.
        discrimination: how sharply quality falls with difficulty.
        interaction: standard deviation of what a query and a model share beyond ability and
            difficulty, in units of the margin `discrimination * (ability - difficulty)`.
        difficulty_noise: standard deviation of the error difficulty is seen with beforehand.
        judge_noise: standard deviation of the error a seen answer's margin is judged with.
        quality: "binary" (right or wrong) or "graded" (anywhere in 0 to 1).
        models: the K model names.
        domains: the D domain names.
        cost_unit: the unit of every price and cost.
    """

    ability: Float[np.ndarray, "K D"]
    price_prompt: Float[np.ndarray, " K"]
    price_answer: Float[np.ndarray, " K"]
    answer_tokens: Float[np.ndarray, " K"]
    first_token: Float[np.ndarray, " K"]
    speed: Float[np.ndarray, " K"]
    domain_weights: Float[np.ndarray, " D"]
    discrimination: float
    interaction: float
    difficulty_noise: float
    judge_noise: float
    quality: str = field(metadata={"static": True})
    models: tuple[str, ...] = field(metadata={"static": True})
    domains: tuple[str, ...] = field(metadata={"static": True})
    cost_unit: str = field(default="USD", metadata={"static": True})

    @property
    def n_models(self) -> int:
        """K, the number of models."""
        return self.ability.shape[0]

    @property
    def feature_names(self) -> tuple[str, ...]:
        """What is seen of a query beforehand: noisy difficulty, log prompt length, its domain."""
        return ("difficulty", "log_prompt_tokens", *(f"is_{name}" for name in self.domains))


def make_world(
    n_models: int = 5,
    seed: int = 0,
    *,
    n_domains: int = 4,
    quality: str = "binary",
    discrimination: float = 1.5,
    interaction: float = 1.0,
    difficulty_noise: float = 0.4,
    judge_noise: float = 0.6,
) -> World:
    """Draw a world: prices over two orders of magnitude, ability that only roughly follows them.

    So some models are dominated, and some are worth their price in a few domains alone. Dear models
    are slower on the whole, but not one by one: seconds and price are two costs.

    Args:
        n_models: K, at least 2.
        seed: picks the models; no less than 0.
        n_domains: D, at least 1.
        quality: "binary" or "graded".
        discrimination: above 0.
        interaction: no less than 0, in units of the margin.
        difficulty_noise: no less than 0; difficulty itself has standard deviation 1.
        judge_noise: above 0, in units of the margin.

    Raises:
        CascjaxError: an argument is out of its range.
    """
    K, D = _count("n_models", n_models, 2), _count("n_domains", n_domains, 1)
    rng = np.random.default_rng(_count("seed", seed, 0))
    if quality not in QUALITIES:
        raise unknown_name("quality", quality, QUALITIES)
    _positive("discrimination", discrimination)
    _positive("interaction", interaction, zero=True)
    _positive("difficulty_noise", difficulty_noise, zero=True)
    _positive("judge_noise", judge_noise)

    rank = np.linspace(0, 1, K)
    general = -0.25 + 1.6 * rank + 0.15 * rng.standard_normal(K)
    ability = general[:, None] + 0.45 * rng.standard_normal((K, D))
    price = 1e-7 * 100**rank * np.exp(0.2 * rng.standard_normal(K))
    tokens = 300 * np.exp(0.3 * rng.standard_normal(K))
    order = np.argsort(price * (PROMPT_TOKENS / 4 + tokens))
    weights = rng.dirichlet(np.full(D, 5.0))
    # Drawn last, so that a world's other numbers are those it had before it had these.
    first_token = 0.25 * 3**rank * np.exp(0.4 * rng.standard_normal(K))
    speed = 160 * 0.25**rank * np.exp(0.4 * rng.standard_normal(K))

    def column(values: np.ndarray) -> np.ndarray:
        return values.astype(np.float32)

    return World(
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
        models=tuple(f"model-{k:0{len(str(K))}d}" for k in range(1, K + 1)),
        domains=tuple(
            DOMAINS[d % len(DOMAINS)] + (f"-{d // len(DOMAINS) + 1}" if d >= len(DOMAINS) else "")
            for d in range(D)
        ),
    )


def sample(
    world: World, seed: int, n: int, *, features: bool = False, seconds: bool = False
) -> Table:
    """The first `n` queries of a seed as one table, float32, costs in `world.cost_unit`.

    Raises:
        CascjaxError: an argument is out of its range.
    """
    return next(batches(world, n, seed, n, features=features, seconds=seconds))


def batches(
    world: World,
    n: int,
    seed: int,
    batch: int = 1 << 17,
    *,
    features: bool = False,
    seconds: bool = False,
) -> Iterator[Table]:
    """The first `n` queries of a seed in tables of `batch` rows, the last one maybe shorter.

    The rows are the same whatever the batch; memory grows with the batch and not with `n`.

    Args:
        world: the models and domains.
        n: N, the number of queries, at least 1.
        seed: picks the queries; no less than 0.
        batch: rows a table, at least 1.
        features: also give the columns `features` `[N, 2 + D]` and `signals` `[N, K * 2]`.
        seconds: also give the further cost "seconds" `[N, K]`: how long an answer takes.

    Raises:
        CascjaxError: an argument is out of its range.
    """
    n, seed, batch = _count("n", n, 1), _count("seed", seed, 0), _count("batch", batch, 1)

    def tables() -> Iterator[Table]:
        drawn, block = -1, None
        for start in range(0, n, batch):
            stop, pieces = min(start + batch, n), []
            for index in range(start // _BLOCK, -(-stop // _BLOCK)):
                if index != drawn:  # the last block of one batch may be the first of the next
                    drawn, block = index, _sample_block(world, seed, index, features, seconds)
                first = index * _BLOCK
                rows = slice(max(start - first, 0), stop - first)
                pieces.append(jax.tree.map(lambda column, rows=rows: column[rows], block))
            yield jax.tree.map(lambda *columns: np.concatenate(columns), *pieces)

    return tables()


def _sample_block(world: World, seed: int, index: int, features: bool, seconds: bool) -> Table:
    """The generative model: block `index` of the queries of `seed`."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(index,)))
    K = world.n_models

    def normal(columns: int) -> np.ndarray:
        return rng.standard_normal((_BLOCK, columns), np.float32)

    # A query: its domain, its difficulty and a prompt every model reads.
    u = rng.random(_BLOCK, np.float32)
    domain = np.searchsorted(np.cumsum(world.domain_weights)[:-1], u, side="right").astype(np.int32)
    difficulty = normal(1)
    prompt_tokens = _lognormal(PROMPT_TOKENS, PROMPT_SPREAD * normal(1), PROMPT_SPREAD)

    # Beforehand difficulty is seen through noise; given that, it is Normal(believed, doubt).
    seen = difficulty + world.difficulty_noise * normal(1)
    doubt = world.difficulty_noise**2 / (1 + world.difficulty_noise**2)
    believed = (1 - doubt) * seen

    # Quality is the normal CDF of the margin (graded), or whether margin + Normal(0, 1) is above
    # 0 (binary). Both have the mean ndtr(mean / sqrt(1 + variance of the margin)): the one
    # Normal(0, 1) is averaged over there, and has been drawn here.
    a, ability = world.discrimination, world.ability.T[domain]
    binary = world.quality == "binary"
    drawn, averaged = (1.0, 0.0) if binary else (0.0, 1.0)
    own_variance = world.interaction**2 + drawn
    margin = a * (ability - difficulty) + math.sqrt(own_variance) * normal(K)
    quality = (margin > 0).astype(np.float32) if binary else ndtr(margin)

    # The estimates: what is believed of the margin beforehand, then once a judge has seen the
    # answer. A Gaussian update, so E[post | ante] = ante.
    mean, variance = a * (ability - believed), a**2 * doubt + own_variance
    judged = margin + world.judge_noise * normal(K)
    gain = variance / (variance + world.judge_noise**2)
    mean_post, variance_post = mean + gain * (judged - mean), (1 - gain) * variance

    # The price: long-tailed token counts, and longer answers to harder queries.
    spread = math.sqrt(ANSWER_EFFORT**2 + ANSWER_SPREAD**2)
    effort = ANSWER_EFFORT * difficulty + ANSWER_SPREAD * normal(K)
    answer_tokens = _lognormal(world.answer_tokens, effort, spread)
    expected_tokens = _lognormal(
        world.answer_tokens, ANSWER_EFFORT * believed, ANSWER_EFFORT * math.sqrt(1 - doubt)
    )
    prompt_cost = world.price_prompt * prompt_tokens
    cost = prompt_cost + world.price_answer * answer_tokens

    table: dict[str, Any] = {}
    if features:
        is_domain = np.eye(len(world.domains), dtype=np.float32)[domain]
        signals = np.stack([judged, np.log(answer_tokens)], axis=-1)
        table = {
            "features": np.concatenate([seen, np.log(prompt_tokens), is_domain], axis=1),
            "signals": signals.reshape(_BLOCK, -1),
            "feature_names": world.feature_names,
            "signal_names": SIGNAL_NAMES,
        }
    if seconds:  # drawn last: a query is the same with and without
        busy = FIRST_TOKEN_SPREAD * normal(K)
        first_token = _lognormal(world.first_token, busy, FIRST_TOKEN_SPREAD)
        table["more_costs"] = {"seconds": first_token + answer_tokens / world.speed}
        table["more_cost_units"] = (("seconds", "s"),)
    return Table(
        quality=quality,
        cost=cost,
        quality_ante=ndtr(mean / math.sqrt(variance + averaged)),
        quality_post=ndtr(mean_post / math.sqrt(variance_post + averaged)),
        cost_ante=prompt_cost + world.price_answer * expected_tokens,
        cost_post=cost,
        group=domain,
        models=world.models,
        cost_unit=world.cost_unit,
        groups=world.domains,
        **table,
    )


def _lognormal(mean: float | np.ndarray, log: np.ndarray, spread: float) -> np.ndarray:
    """Lognormal values of the given mean, from a centred Gaussian `log` of deviation `spread`."""
    return mean * np.exp(log - spread**2 / 2)


def _count(name: str, value: int, least: int) -> int:
    """The whole number `value`, or an error that names the argument."""
    if not isinstance(value, int | np.integer) or value < least:
        raise CascjaxError(f"{name} must be a whole number of at least {least}, not {value!r}")
    return int(value)


def _positive(name: str, value: float, zero: bool = False) -> None:
    """Raise an error that names the argument unless `value` is finite and above 0."""
    if not math.isfinite(value) or value < 0 or (value == 0 and not zero):
        bound = "at least 0" if zero else "above 0"
        raise CascjaxError(f"{name} must be finite and {bound}, not {value!r}")
