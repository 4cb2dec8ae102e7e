"""What is to be believed of every model once some have run, as exactly as numbers allow.

The yardstick of learned estimators: the conditional mean of quality and cost given all a world
shows, under any run set. A judged world is Gaussian until its last step, so there it is a closed
form. In a world of answers everything seen is independent given ease, the right answer and the
lure: the likelihood is summed over right answers and lures, and integrated over ease by the
trapezoid rule, whose error falls as exp(-2 (pi width / step)^2) for Gaussian-like integrands.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import log_ndtr, logsumexp, ndtr

from cascjax.data.table import Table
from cascjax.errors import CascjaxError
from cascjax.synthetic.answering import FREE, NO_IDENTITY, AnswerWorld, seen_certainty, signal
from cascjax.synthetic.judged import ANSWER_EFFORT, ANSWER_SPREAD, Dataset

_REACH = 6.5  # standard deviations of ease integrated over: beyond lies less than 1e-10
_CELLS = 1 << 21  # numbers of one row chunk's largest array


class Posterior(NamedTuple):
    """Conditional means under a run set, of all N queries and K models.

    Attributes:
        quality: `[N, K]` mean of each model's quality.
        cost: `[N, K]` mean of each model's cost, in the table's cost unit; what it was, once run.
    """

    quality: Float[np.ndarray, "N K"]
    cost: Float[np.ndarray, "N K"]


def known_posterior(
    world: Dataset | AnswerWorld,
    table: Table,
    run: Bool[np.ndarray, " K"] | Bool[np.ndarray, "N K"],
) -> Posterior:
    """The conditional mean of every model's quality and cost, given all that a run set shows.

    Given are the features, and of the models that have run the signals, the answers (so that
    agreement counts) and the cost. Errors are those of float32 signals, about 1e-5.

    Args:
        world: the world the table was drawn from.
        table: its queries, drawn with `features=True`.
        run: which models have run: for all queries, or query by query.

    Raises:
        CascjaxError: the table has no features and signals, or other models than the world.
    """
    if table.features is None or table.signals is None:
        raise CascjaxError("the table shows nothing to condition on: draw it with features=True")
    if table.models != world.models:
        raise CascjaxError("the table's models are not the world's: draw it from this world")
    mask = np.broadcast_to(np.asarray(run, bool), table.quality.shape)
    if isinstance(world, Dataset):
        return _judged(world, table, mask)
    assert table.group is not None
    quality = np.empty(mask.shape)
    cost = np.empty(mask.shape)
    for g in range(len(world.groups)):
        grid = _grid(world, g)
        width = len(grid.first) * (world.n_models if world.has_certainty else 1)
        chunk = max(_CELLS // width, 1)
        rows = np.flatnonzero(table.group == g)
        for start in range(0, len(rows), chunk):
            part = rows[start : start + chunk]
            quality[part], cost[part] = _group(world, g, grid, table.take(part), mask[part])
    return Posterior(quality, np.where(mask, table.cost, cost))


class _Grid(NamedTuple):
    """Points of ease of a group, and what models do there, by the place of the right option.

    Attributes:
        first: `[M]` the first factor of ease.
        log_prior: `[M]` logarithm of the prior of the other factors.
        mean: `[R, M, K]` mean of each margin.
        right: `[R, M, K]` chance that an answer is right.
        log_right: `[R, M, K]` its logarithm.
        log_wrong: `[R, M, K]` logarithm of the chance that it is not.
    """

    first: Float[np.ndarray, " M"]
    log_prior: Float[np.ndarray, " M"]
    mean: Float[np.ndarray, "R M K"]
    right: Float[np.ndarray, "R M K"]
    log_right: Float[np.ndarray, "R M K"]
    log_wrong: Float[np.ndarray, "R M K"]


def _grid(world: AnswerWorld, g: int) -> _Grid:
    """The step is the least width the posterior of ease can have.

    That is where all is seen with no error but what is its own; of a margin known by its sign
    alone at most 2 / pi counts.
    """
    load, own = world.loading[:, g], _own(world.loading[:, g])
    by_sign = 1.0 if world.has_certainty else 2 / math.pi
    information = 1 / (1 - world.prompt_ease[g] ** 2)
    information += by_sign * ((load / own[:, None]) ** 2).sum()
    if world.labelled:
        information += 1 / world.label_noise**2
    length = world.own_spread[:, g]
    information += (world.effort[g] ** 2 / length[length > 0] ** 2).sum()
    size = 2 * math.ceil(_REACH * math.sqrt(information)) + 1
    F = load.shape[-1]
    nodes = np.stack(np.meshgrid(*[np.linspace(-_REACH, _REACH, size)] * F), axis=-1)
    nodes = nodes.reshape(-1, F)
    nodes = nodes[(nodes**2).sum(-1) <= _REACH**2]
    mean = world.threshold[:, g].T[:, None] + nodes @ load.T
    standard = mean / own
    log_prior = -(nodes[:, 1:] ** 2).sum(-1) / 2
    both = log_ndtr(standard), log_ndtr(-standard)
    return _Grid(nodes[:, 0], log_prior, mean, ndtr(standard), *both)


def _group(
    world: AnswerWorld, g: int, grid: _Grid, table: Table, run: Bool[np.ndarray, "N K"]
) -> tuple[Float[np.ndarray, "N K"], Float[np.ndarray, "N K"]]:
    """Quality and cost of queries of one group."""
    assert table.features is not None
    n, R = len(run), world.rate.shape[-1]
    features, first = table.features.astype(np.float64), grid.first

    # What is known of ease beforehand: the prompt's length, and perhaps a label.
    spread, rho = world.prompt_spread[g], world.prompt_ease[g]
    prompt = (features[:, 0] - math.log(world.prompt_tokens[g]) + spread**2 / 2) / spread
    ease = grid.log_prior - (first - rho * prompt[:, None]) ** 2 / (2 * (1 - rho**2))  # [N, M]
    if world.labelled:
        ease = ease - (features[:, 1:2] + first) ** 2 / (2 * world.label_noise**2)
    lengths, tokens, scale = _lengths(world, g, table, run, prompt, first)
    ease = ease + lengths

    # What answers tell. What models that have not run would show is never looked at.
    own, noise = _own(world.loading[:, g]), world.certainty_noise**2
    certainty = seen_certainty(world, table, np.full(n, max(world.options[g], 2)))
    answered = run
    if table.answer is not None and world.options[g] != NO_IDENTITY:
        answered = run & (table.answer != -1)
    total, quality, expected = np.full(n, -np.inf), np.zeros(run.shape), np.zeros(n)
    for right, meeting, correct in _right_answers(world, g, table, run, answered):
        place = right % R
        joint, seen = ease, None
        if certainty is not None:
            # A margin seen with noise: how likely that is, and what it leaves of the margin.
            gain, error = own**2 / (own**2 + noise), certainty[:, None] - grid.mean[place]
            density = -(error**2) / (2 * (own**2 + noise))  # [N, M, K]
            joint = joint + np.where(run[:, None], density, 0).sum(-1)
            seen = (grid.mean[place] + gain * error) / (own * np.sqrt(1 - gain))
        if correct is not None:
            yes = grid.log_right[place] if seen is None else log_ndtr(seen)
            no = grid.log_wrong[place] if seen is None else log_ndtr(-seen)
            joint = joint + _over_models(yes, answered & correct)
            joint = joint + _over_models(no, answered & ~correct)
        top = joint.max(1)
        mass = np.exp(joint - top[:, None])
        norm = mass.sum(1)
        believed = (1 - world.refusal[:, g]) * (mass @ grid.right[place]) / norm[:, None]
        if correct is not None:
            believed = np.where(run, answered & correct, believed)
        elif seen is not None:
            own_look = np.einsum("nm,nmk->nk", mass, ndtr(seen)) / norm[:, None]
            believed = np.where(run, own_look, believed)
        # This right answer beside those before it, by their likelihoods.
        likelihood = top + np.log(norm) + meeting
        total = np.logaddexp(total, likelihood)
        with np.errstate(invalid="ignore"):  # none of them possible yet
            share = np.where(likelihood > -np.inf, np.exp(likelihood - total), 0)
        quality += share[:, None] * (believed - quality)
        expected += share * (np.einsum("nm,nm->n", mass, tokens) / norm - expected)
    prompt_cost = world.price_prompt * np.exp(features[:, :1])
    wrong, right = world.scores[g]
    quality = wrong + (right - wrong) * quality
    return quality, prompt_cost + world.price_answer * expected[:, None] * scale


def _lengths(
    world: AnswerWorld,
    g: int,
    table: Table,
    run: Bool[np.ndarray, "N K"],
    prompt: Float[np.ndarray, " N"],
    first: Float[np.ndarray, " M"],
) -> tuple[Float[np.ndarray, "N M"] | float, Float[np.ndarray, "N M"], Float[np.ndarray, " K"]]:
    """The log-likelihood of the lengths seen, and the tokens expected of models that have not run.

    The tokens are a factor by ease times one by model. Given ease, log lengths share one Gaussian,
    which is integrated out in closed form.
    """
    effort, shared, phi = world.effort[g], world.shared_spread[g], world.prompt_length[g]
    own, total = world.own_spread[:, g], world.length_spread[:, g]
    before = 1 - phi**2  # variance of what is shared, once the prompt is seen
    likelihood, information, pulled = 0.0, np.zeros((len(run), 1)), 0.0
    if "log_answer_tokens" in world.signal_names and (own > 0).any():
        log_mean = np.log(world.answer_tokens[:, g]) - total**2 / 2
        # Each length less its mean given prompt and ease 0; ease adds `effort * first` to it.
        rest = signal(world, table, "log_answer_tokens") - log_mean - shared * phi * prompt[:, None]
        seen = np.where(run & (own > 0), 1 / np.where(own > 0, own, 1) ** 2, 0)  # [N, K]
        rest = np.where(run, rest, 0)
        count, plain = seen.sum(1)[:, None], (seen * rest).sum(1)[:, None]
        square = (seen * rest**2).sum(1)[:, None]
        pulled = plain + effort * count * first
        square = square + 2 * effort * plain * first + effort**2 * count * first**2
        information = shared**2 * before * count
        likelihood = -(square - shared**2 * before * pulled**2 / (1 + information)) / 2
    mean = phi * prompt[:, None] + shared * before * pulled / (1 + information)
    variance = before / (1 + information)
    tokens = np.exp(shared * mean + shared**2 * variance / 2 - effort * first)
    scale = world.answer_tokens[:, g] * np.exp((own**2 - total**2) / 2)
    return likelihood, tokens, scale


def _right_answers(
    world: AnswerWorld,
    g: int,
    table: Table,
    run: Bool[np.ndarray, "N K"],
    answered: Bool[np.ndarray, "N K"],
) -> list[tuple[int, Float[np.ndarray, " N"], Bool[np.ndarray, "N K"] | None]]:
    """All that could be right: its place, log weight but for ease, and which models have it.

    The weight counts how the wrong answers meet in a lure. None where answers tell nothing.
    """
    n, K = run.shape
    options, lure = int(world.options[g]), float(world.lure[g])
    none = np.zeros(n)
    if world.tested[g]:
        return [(0, none, signal(world, table, "passed") > 0.5)]
    if options == NO_IDENTITY:
        return [(0, none, None)]
    assert table.answer is not None
    answer = table.answer
    found = []
    if options != FREE:
        for right in range(options):
            correct = answer == right
            wrong = answered & ~correct
            lures = []
            for tempting in range(options):
                if tempting != right:
                    met = (wrong & (answer == tempting)).sum(1)
                    rest = wrong.sum(1) - met
                    lures.append(_power(lure if options > 2 else 1.0, met))
                    lures[-1] = lures[-1] + _power((1 - lure) / max(options - 2, 1), rest)
            found.append((right, logsumexp(lures, axis=0), correct))
        return found
    # Free answers: right is one that was given, or none of them; so is the lure.
    same = (answer[:, :, None] == answer[:, None]) & answered[:, :, None] & answered[:, None]
    leads = answered & ~(same & np.tri(K, k=-1, dtype=bool)).any(2)  # first of its answer
    for k in range(K + 1):
        correct = same[:, k] if k < K else np.zeros_like(answered)
        wrong = answered & ~correct
        lures = []
        for j in range(K + 1):
            tempted = same[:, j] & wrong if j < K else np.zeros_like(wrong)
            alone = wrong & ~tempted
            # What is neither right nor the lure is no other model's.
            allowed = ~(alone & ((same & alone[:, None]).sum(2) > 1)).any(1)
            if j < K:
                allowed &= leads[:, j] & ~correct[:, j]
            weight = _power(lure, tempted.sum(1)) + _power(1 - lure, alone.sum(1))
            lures.append(np.where(allowed, weight, -np.inf))
        weight = logsumexp(lures, axis=0)
        found.append((0, np.where(leads[:, k], weight, -np.inf) if k < K else weight, correct))
    return found


def _power(base: float, times: Int[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    """The logarithm of a power, where 0 to the 0 is 1."""
    return times * math.log(base) if base > 0 else np.where(times > 0, -np.inf, 0.0)


def _over_models(
    log: Float[np.ndarray, "M K"] | Float[np.ndarray, "N M K"], where: Bool[np.ndarray, "N K"]
) -> Float[np.ndarray, "N M"]:
    """The sum over the models of a mask, of numbers by point of ease."""
    if log.ndim == 2:
        return where @ log.T
    return np.where(where[:, None], log, 0).sum(-1)


def _own(loading: Float[np.ndarray, "K F"]) -> Float[np.ndarray, " K"]:
    """Standard deviation of the part of a margin that is a model's own."""
    return np.sqrt(1 - (loading**2).sum(-1))


def _judged(world: Dataset, table: Table, run: Bool[np.ndarray, "N K"]) -> Posterior:
    """A judged world: difficulty is Normal given all that is seen, and margins are given it."""
    assert table.features is not None
    assert table.signals is not None
    assert table.group is not None
    features = table.features.astype(np.float64)
    signals = table.signals.astype(np.float64).reshape(*run.shape, -1)
    # What models that have not run would show is never looked at.
    judged, log_tokens = np.where(run, signals[..., 0], 0), np.where(run, signals[..., 1], 0)
    a, ability = world.discrimination, world.ability.T.astype(np.float64)[table.group]
    drawn = 1.0 if world.quality == "binary" else 0.0
    own = world.interaction**2 + drawn
    log_mean = np.log(world.answer_tokens.astype(np.float64))
    log_mean = log_mean - (ANSWER_EFFORT**2 + ANSWER_SPREAD**2) / 2

    # Precision and precision times mean of difficulty: beforehand, then each model's share.
    noise = max(world.difficulty_noise, 1e-9)
    by_judge, by_length = a**2 / (own + world.judge_noise**2), (ANSWER_EFFORT / ANSWER_SPREAD) ** 2
    precision = 1 + noise**-2 + run.sum(1) * (by_judge + by_length)
    pull = features[:, 0] / noise**2
    pull = pull + (run * (ability - judged / a)).sum(1) * by_judge
    pull = pull + (run * (log_tokens - log_mean)).sum(1) * by_length / ANSWER_EFFORT
    mean, variance = (pull / precision)[:, None], (1 / precision)[:, None]

    margin, spread = a * (ability - mean), a**2 * variance + own
    # A model that has run: its own error, from its judged margin, beside what is left of ease.
    gain = own / (own + world.judge_noise**2)
    margin_run = margin + gain * (judged - margin)
    spread_run = (1 - gain) ** 2 * a**2 * variance + (1 - gain) * own
    averaged = 1 - drawn
    quality = ndtr(
        np.where(run, margin_run, margin) / np.sqrt(averaged + np.where(run, spread_run, spread))
    )
    tokens = np.exp(
        log_mean + ANSWER_EFFORT * mean + (ANSWER_EFFORT**2 * variance + ANSWER_SPREAD**2) / 2
    )
    cost = world.price_prompt * np.exp(features[:, 1:2]) + world.price_answer * tokens
    return Posterior(quality, np.where(run, table.cost, cost))
