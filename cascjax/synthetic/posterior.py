"""Exact posterior of every model once some have run: the reference for learned estimators.

The posterior is the conditional mean of quality and cost given all that a run set shows. A judged
dataset is Gaussian until its last step, so it has a closed form. In a dataset of answers everything
observed is independent given ease, the right answer and the lure: the likelihood is summed over
right answers and lures, and integrated over ease by the trapezoidal rule, whose error falls as
exp(-2 (pi width / step)^2) for Gaussian-like integrands.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import log_ndtr, logsumexp, ndtr

from cascjax.data.table import Table
from cascjax.errors import CascjaxError
from cascjax.synthetic.answers import FREE, NO_IDENTITY, AnswerDataset, seen_certainty, signal
from cascjax.synthetic.judged import JudgedDataset, Posterior

_REACH = 6.5  # standard deviations of ease integrated over: beyond lies less than 1e-10
_CELLS = 1 << 21  # numbers of one row chunk's largest array


def known_posterior(
    dataset: JudgedDataset | AnswerDataset,
    table: Table,
    run: Bool[np.ndarray, " K"] | Bool[np.ndarray, "N K"],
) -> Posterior:
    """Return the conditional mean of every model's quality and cost given all that is known.

    The features are known, and for the models that have run the signals, the answers (so that
    agreement counts) and the cost. The error is that of float32 signals, about 1e-5.

    Args:
      dataset: Dataset that the table was drawn from.
      table: N queries, drawn with `features=True`.
      run: `[K]` or `[N, K]` run set, of all queries or per query.

    Returns:
      `[N, K]` quality and cost.

    Raises:
      CascjaxError: The table has no features and signals, or other models than the dataset.

    Example:
      >>> from cascjax import synthetic
      >>> dataset = synthetic.make_dataset(n_models=2)
      >>> table = synthetic.sample(dataset, seed=0, n=4, features=True)
      >>> known_posterior(dataset, table, np.array([True, False])).quality.shape
      (4, 2)
    """
    if table.features is None or table.signals is None:
        raise CascjaxError("the table has no features and signals; draw it with features=True")
    if table.models != dataset.models:
        raise CascjaxError(
            "the table and the dataset have different models; draw it from this dataset"
        )
    mask = np.broadcast_to(np.asarray(run, bool), table.quality.shape)
    if isinstance(dataset, JudgedDataset):
        return dataset.posterior(table, mask)
    assert table.group is not None
    quality = np.empty(mask.shape)
    cost = np.empty(mask.shape)
    for g in range(len(dataset.groups)):
        grid = _grid(dataset, g)
        width = len(grid.first) * (dataset.n_models if dataset.has_certainty else 1)
        chunk = max(_CELLS // width, 1)
        rows = np.flatnonzero(table.group == g)
        for start in range(0, len(rows), chunk):
            part = rows[start : start + chunk]
            quality[part], cost[part] = _group(dataset, g, grid, table.take(part), mask[part])
    return Posterior(quality, np.where(mask, table.cost, cost))


class _Grid(NamedTuple):
    """Points of ease of a group, and the models there, by the place of the right option."""

    first: Float[np.ndarray, " M"]  # first factor of ease
    log_prior: Float[np.ndarray, " M"]  # logarithm of the prior of the other factors
    mean: Float[np.ndarray, "R M K"]  # mean of each margin
    right: Float[np.ndarray, "R M K"]  # probability that an answer is right
    log_right: Float[np.ndarray, "R M K"]  # logarithm of that probability
    log_wrong: Float[np.ndarray, "R M K"]  # logarithm of the probability that it is not


def _grid(dataset: AnswerDataset, g: int) -> _Grid:
    """Return a grid whose step is the least width that the posterior of ease can have.

    That is its width where everything is observed with no error but the own one; a margin known by
    its sign alone counts for at most 2 / pi.
    """
    load, own = dataset.loading[:, g], _own(dataset.loading[:, g])
    by_sign = 1.0 if dataset.has_certainty else 2 / math.pi
    information = 1 / (1 - dataset.prompt_ease[g] ** 2)
    information += by_sign * ((load / own[:, None]) ** 2).sum()
    if dataset.labelled:
        information += 1 / dataset.label_noise**2
    length = dataset.own_spread[:, g]
    information += (dataset.effort[g] ** 2 / length[length > 0] ** 2).sum()
    size = 2 * math.ceil(_REACH * math.sqrt(information)) + 1
    F = load.shape[-1]
    nodes = np.stack(np.meshgrid(*[np.linspace(-_REACH, _REACH, size)] * F), axis=-1)
    nodes = nodes.reshape(-1, F)
    nodes = nodes[(nodes**2).sum(-1) <= _REACH**2]
    mean = dataset.threshold[:, g].T[:, None] + nodes @ load.T
    standard = mean / own
    log_prior = -(nodes[:, 1:] ** 2).sum(-1) / 2
    both = log_ndtr(standard), log_ndtr(-standard)
    return _Grid(nodes[:, 0], log_prior, mean, ndtr(standard), *both)


def _group(
    dataset: AnswerDataset, g: int, grid: _Grid, table: Table, run: Bool[np.ndarray, "N K"]
) -> tuple[Float[np.ndarray, "N K"], Float[np.ndarray, "N K"]]:
    """Return quality and cost of queries of a group."""
    assert table.features is not None
    n, R = len(run), dataset.rate.shape[-1]
    features, first = table.features.astype(np.float64), grid.first

    # Ease given what is known before a run: the length of the prompt, and maybe a label.
    spread, rho = dataset.prompt_spread[g], dataset.prompt_ease[g]
    prompt = (features[:, 0] - math.log(dataset.prompt_tokens[g]) + spread**2 / 2) / spread
    ease = grid.log_prior - (first - rho * prompt[:, None]) ** 2 / (2 * (1 - rho**2))  # [N, M]
    if dataset.labelled:
        ease = ease - (features[:, 1:2] + first) ** 2 / (2 * dataset.label_noise**2)
    lengths, tokens, scale = _lengths(dataset, g, table, run, prompt, first)
    ease = ease + lengths

    # The answers. Signals of models that have not run are not used.
    own, noise = _own(dataset.loading[:, g]), dataset.certainty_noise**2
    certainty = seen_certainty(dataset, table, np.full(n, max(dataset.options[g], 2)))
    answered = run
    if table.answer is not None and dataset.options[g] != NO_IDENTITY:
        answered = run & (table.answer != -1)
    total, quality, expected = np.full(n, -np.inf), np.zeros(run.shape), np.zeros(n)
    for right, meeting, correct in _right_answers(dataset, g, table, run, answered):
        place = right % R
        joint, residual = ease, None
        if certainty is not None:
            # A margin seen with noise: its likelihood, and the residual of the margin.
            gain, error = own**2 / (own**2 + noise), certainty[:, None] - grid.mean[place]
            density = -(error**2) / (2 * (own**2 + noise))  # [N, M, K]
            joint = joint + np.where(run[:, None], density, 0).sum(-1)
            residual = (grid.mean[place] + gain * error) / (own * np.sqrt(1 - gain))
        if correct is not None:
            yes = grid.log_right[place] if residual is None else log_ndtr(residual)
            no = grid.log_wrong[place] if residual is None else log_ndtr(-residual)
            joint = joint + _over_models(yes, answered & correct)
            joint = joint + _over_models(no, answered & ~correct)
        top = joint.max(1)
        mass = np.exp(joint - top[:, None])
        norm = mass.sum(1)
        expected_right = (1 - dataset.refusal[:, g]) * (mass @ grid.right[place]) / norm[:, None]
        if correct is not None:
            expected_right = np.where(run, answered & correct, expected_right)
        elif residual is not None:
            by_own = np.einsum("nm,nmk->nk", mass, ndtr(residual)) / norm[:, None]
            expected_right = np.where(run, by_own, expected_right)
        # This right answer and those before it, weighted by their likelihoods.
        likelihood = top + np.log(norm) + meeting
        total = np.logaddexp(total, likelihood)
        with np.errstate(invalid="ignore"):  # none of them is possible yet
            share = np.where(likelihood > -np.inf, np.exp(likelihood - total), 0)
        quality += share[:, None] * (expected_right - quality)
        expected += share * (np.einsum("nm,nm->n", mass, tokens) / norm - expected)
    prompt_cost = dataset.price_prompt * np.exp(features[:, :1])
    wrong, right = dataset.scores[g]
    quality = wrong + (right - wrong) * quality
    return quality, prompt_cost + dataset.price_answer * expected[:, None] * scale


def _lengths(
    dataset: AnswerDataset,
    g: int,
    table: Table,
    run: Bool[np.ndarray, "N K"],
    prompt: Float[np.ndarray, " N"],
    first: Float[np.ndarray, " M"],
) -> tuple[Float[np.ndarray, "N M"] | float, Float[np.ndarray, "N M"], Float[np.ndarray, " K"]]:
    """Return the log-likelihood of observed lengths, and expected tokens of the other models.

    The tokens are a factor by ease times a factor by model. Given ease, log lengths share one
    Gaussian, which is integrated out in closed form.
    """
    effort, shared, phi = dataset.effort[g], dataset.shared_spread[g], dataset.prompt_length[g]
    own, total = dataset.own_spread[:, g], dataset.length_spread[:, g]
    before = 1 - phi**2  # variance of what is shared, once the prompt is seen
    likelihood, information, pulled = 0.0, np.zeros((len(run), 1)), 0.0
    if "log_answer_tokens" in dataset.signal_names and (own > 0).any():
        log_mean = np.log(dataset.answer_tokens[:, g]) - total**2 / 2
        # Each length less its mean given prompt and ease 0; ease adds `effort * first` to it.
        rest = (
            signal(dataset, table, "log_answer_tokens") - log_mean - shared * phi * prompt[:, None]
        )
        precision = np.where(run & (own > 0), 1 / np.where(own > 0, own, 1) ** 2, 0)  # [N, K]
        rest = np.where(run, rest, 0)
        count, plain = precision.sum(1)[:, None], (precision * rest).sum(1)[:, None]
        square = (precision * rest**2).sum(1)[:, None]
        pulled = plain + effort * count * first
        square = square + 2 * effort * plain * first + effort**2 * count * first**2
        information = shared**2 * before * count
        likelihood = -(square - shared**2 * before * pulled**2 / (1 + information)) / 2
    mean = phi * prompt[:, None] + shared * before * pulled / (1 + information)
    variance = before / (1 + information)
    tokens = np.exp(shared * mean + shared**2 * variance / 2 - effort * first)
    scale = dataset.answer_tokens[:, g] * np.exp((own**2 - total**2) / 2)
    return likelihood, tokens, scale


def _right_answers(
    dataset: AnswerDataset,
    g: int,
    table: Table,
    run: Bool[np.ndarray, "N K"],
    answered: Bool[np.ndarray, "N K"],
) -> list[tuple[int, Float[np.ndarray, " N"], Bool[np.ndarray, "N K"] | None]]:
    """Return each possible right answer: its place, log weight, and which models give it.

    The weight leaves ease out, and sums over lures that the wrong answers may share. The last is
    None where answers have no identity.
    """
    n, K = run.shape
    options, lure = int(dataset.options[g]), float(dataset.lure[g])
    none = np.zeros(n)
    if dataset.tested[g]:
        return [(0, none, signal(dataset, table, "passed") > 0.5)]
    if options == NO_IDENTITY:
        return [(0, none, None)]
    assert table.answer is not None
    answer = table.answer
    possible = []
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
            possible.append((right, logsumexp(lures, axis=0), correct))
        return possible
    # Free answers: the right answer is one that was given, or none of them; so is the lure.
    same = (answer[:, :, None] == answer[:, None]) & answered[:, :, None] & answered[:, None]
    leads = answered & ~(same & np.tri(K, k=-1, dtype=bool)).any(2)  # first of its answer
    for k in range(K + 1):
        correct = same[:, k] if k < K else np.zeros_like(answered)
        wrong = answered & ~correct
        lures = []
        for j in range(K + 1):
            tempted = same[:, j] & wrong if j < K else np.zeros_like(wrong)
            alone = wrong & ~tempted
            # An answer that is neither right nor the lure is given by no other model.
            allowed = ~(alone & ((same & alone[:, None]).sum(2) > 1)).any(1)
            if j < K:
                allowed &= leads[:, j] & ~correct[:, j]
            weight = _power(lure, tempted.sum(1)) + _power(1 - lure, alone.sum(1))
            lures.append(np.where(allowed, weight, -np.inf))
        weight = logsumexp(lures, axis=0)
        possible.append((0, np.where(leads[:, k], weight, -np.inf) if k < K else weight, correct))
    return possible


def _power(base: float, times: Int[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    """Return the logarithm of a power, where 0 to the 0 is 1."""
    return times * math.log(base) if base > 0 else np.where(times > 0, -np.inf, 0.0)


def _over_models(
    log: Float[np.ndarray, "M K"] | Float[np.ndarray, "N M K"], where: Bool[np.ndarray, "N K"]
) -> Float[np.ndarray, "N M"]:
    """Return sums over the models of a mask, by point of ease."""
    if log.ndim == 2:
        return where @ log.T
    return np.where(where[:, None], log, 0).sum(-1)


def _own(loading: Float[np.ndarray, "K F"]) -> Float[np.ndarray, " K"]:
    """Return the standard deviation of the part of a margin that is a model's own."""
    return np.sqrt(1 - (loading**2).sum(-1))
