"""Design matrix: all that can be known of a query, as columns of numbers."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import expit, ndtri

from cascjax.data.table import Table, take_rows
from cascjax.errors import CascjaxError
from cascjax.estimators.feature_spec import RANKED, Column, FeatureSpec, column_names

MIN_GROUP_ROWS = 10  # Rows to fit on that a group needs for a column of its own

_MIN_SPREAD = 1e-6
"""Spread relative to size below which a column is constant, as float32 cannot resolve less."""

MIN_GAIN = 0.005
"""Share of the loss by which scores must predict quality better than the values do."""

_CHOICE_ROWS = 4000  # Most rows that choose between values and scores
_NEWTON_STEPS = 8  # A regression on a column of spread 1 needs no more

MAX_KNOTS = 128  # Most points of the table that takes a quantity to its normal score


@dataclass(frozen=True)
class Design:
    """The D columns of N queries.

    Attributes:
        seen: `[N, D]` columns, float32; the first is 1, the others have mean 0 and standard
            deviation 1 on the rows fitted on.
        feature_spec: how the columns are made of any queries.
        notes: what was left out or filled in, and why, one line each.
    """

    seen: Float[np.ndarray, "N D"]
    feature_spec: FeatureSpec
    notes: tuple[str, ...] = ()

    @property
    def needs(self) -> Bool[np.ndarray, "D K"]:
        """Models that must have run for each column to be known."""
        return self.feature_spec.needs

    @property
    def names(self) -> tuple[str, ...]:
        """Description of each column."""
        return tuple(column.name for column in self.feature_spec.columns)


def design(
    table: Table,
    fit_rows: Int[np.ndarray, " n"],
    fold: Int[np.ndarray, " N"] | None = None,
    *,
    logistic: bool = True,
) -> Design:
    """Return every column that can be made of a table.

    Before any model has run: the features, and a column for each group but the most frequent. Once
    a model has run: its signals, whether it gave an answer if any are missing, and the logarithm of
    its cost, as longer answers are informative. Once two have run: whether their answers agree; a
    missing answer agrees with none (paper, section 6).

    A feature or signal is taken as it is or by its normal scores (`normal_scores`), whichever
    predicts quality better out of fold, so that estimates do not depend on the scale on which it
    was logged. The prediction is a regression on the column alone, logistic or linear: of the
    qualities of all models on a feature; and on a signal, the same for all models, of each model's
    own quality.

    Args:
        table: the queries; quality is read only to choose between a column and its scores.
        fit_rows: `[n]` rows on which columns are brought to mean 0 and standard deviation 1.
        fold: `[N]` cross-fitting fold of each row; None to take every column as it is.
        logistic: whether the better prediction has the lower log loss of a logistic regression, or
            squared error of a linear one: what the estimator minimises.

    Raises:
        CascjaxError: there are no rows to fit on, or signals are not a multiple of the models.

    Example:
        >>> cost = np.array([[1, 2], [1, 4], [1, 8]], np.float32)
        >>> table = Table(quality=cost, cost=cost, features=cost[:, 1:], models=("a", "b"))
        >>> design(table, np.arange(3)).names
        ('1', 'feature 0', 'log cost of b')
    """
    if not len(fit_rows):
        raise CascjaxError("no rows to fit on: the split must leave at least one")
    notes, constant = [], []
    names = column_names(table)
    candidates = (Column("one"), *_candidates(table, names, fit_rows, notes))
    raw = FeatureSpec(*names, candidates).raw(table)
    columns, kept = [candidates[0]], [0]
    for d, column in enumerate(candidates[1:], start=1):
        values = raw[fit_rows, d].astype(np.float64)
        values = values[np.isfinite(values)]
        if not len(values):
            notes.append(f"{column.name} is missing in every row to fit on: left out")
            continue
        centre, spread = float(values.mean()), float(values.std())
        if spread <= _MIN_SPREAD * max(float(np.abs(values).max()), 1e-30):
            constant.append(column.name)
            continue
        if count := int(np.count_nonzero(~np.isfinite(raw[:, d]))):
            notes.append(
                f"{column.name} is missing in {count:,} of {table.n_queries:,} rows: taken as its"
                " mean there"
            )
        columns.append(replace(column, centre=centre, spread=spread))
        kept.append(d)
    if constant:
        which = ", ".join(constant[:4]) + (f" and {len(constant) - 4} more" * (len(constant) > 4))
        verb = "is" if len(constant) == 1 else "are"
        notes.append(f"{which} {verb} the same in all rows to fit on: left out")
    if len(kept) == 1:
        notes.append(
            "the table has nothing that tells queries apart (no features, groups, signals or"
            " answers that vary): every estimate is a mean"
        )
    if fold is not None:
        loss = _log_loss if logistic else _squared_loss
        chosen = _ranked_where_better(columns, raw[fit_rows][:, kept], table, fit_rows, fold, loss)
        by_rank = dict.fromkeys(f"{c.kind} {' '.join(c.of)}" for c in chosen if c.knots)
        if ranked := list(by_rank):
            which = ", ".join(ranked[:4]) + f" and {len(ranked) - 4} more" * (len(ranked) > 4)
            verb = "is" if len(ranked) == 1 else "are"
            notes.append(f"{which} {verb} taken by rank, which predicts quality better out of fold")
        columns = chosen
    feature_spec = FeatureSpec(*names, tuple(columns))
    return Design(feature_spec.scale(raw[:, kept]), feature_spec, tuple(notes))


def _ranked_where_better(
    columns: Sequence[Column],
    raw: Float[np.ndarray, "n D"],
    table: Table,
    fit_rows: Int[np.ndarray, " n"],
    fold: Int[np.ndarray, " N"],
    loss_of: Callable[..., Float[np.ndarray, " C"]],
) -> list[Column]:
    """Return the columns, those with scores that predict quality better with their scores."""
    models = list(column_names(table)[0])
    few = np.linspace(0, len(fit_rows) - 1, min(len(fit_rows), _CHOICE_ROWS)).astype(np.int64)
    quality = take_rows(table.quality, fit_rows[few]).astype(np.float64)
    quality = (quality - quality.min(0)) / np.maximum(np.ptp(quality, axis=0), 1e-30)
    fold, ranked, losses = fold[fit_rows[few]], list(columns), {}
    for d, column in enumerate(columns):
        present = np.isfinite(raw[:, d])
        values = raw[present, d].astype(np.float64)
        if column.kind not in RANKED or len(np.unique(values)) <= 2:
            continue  # two values are the same on any scale
        knots, scores = normal_scores(values)
        ranks = np.interp(values, knots, scores)
        centre, spread = float(ranks.mean()), float(ranks.std())
        ranked[d] = replace(column, centre=centre, spread=spread, knots=knots, scores=scores)
        both = np.zeros((len(raw), 2))  # missing values are at the mean
        both[present] = np.stack(
            [(values - column.centre) / column.spread, (ranks - centre) / spread], axis=1
        )
        own = [models.index(name) for name in column.models] or slice(None)
        loss = loss_of(both[few], quality[:, own], fold)
        losses.setdefault((column.kind, column.of), []).append(loss)
    means = {quantity: np.mean(loss, axis=0) for quantity, loss in losses.items()}
    better = {quantity for quantity, (plain, rank) in means.items() if rank < plain - MIN_GAIN}
    return [
        new if (column.kind, column.of) in better else column
        for column, new in zip(columns, ranked, strict=True)
    ]


def _log_loss(
    x: Float[np.ndarray, "n C"], y: Float[np.ndarray, "n K"], fold: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " C"]:
    """Return the out-of-fold log loss of logistic regressions of y on each column alone.

    Penalty 1 on squared slopes, as of `logistic`; y is from 0 to 1. The loss is relative to that
    of the mean of y, and averaged over the columns of y that vary.
    """
    y = y[:, y.std(0) > 0]
    total, base, columns = np.zeros((x.shape[1], y.shape[1])), np.zeros(y.shape[1]), x.T[:, None]
    for f in np.unique(fold):
        fitted, held = fold != f, fold == f
        level = (y[fitted].sum(0) + 0.5) / (fitted.sum() + 1)
        intercept = np.zeros(total.shape) + np.log(level / (1 - level))
        slope, a, b = np.zeros(total.shape), columns[:, :, fitted], y[fitted].T
        for _ in range(_NEWTON_STEPS):
            p = expit(intercept[..., None] + slope[..., None] * a)
            w = p * (1 - p) + 1e-9
            g0, g1 = (b - p).sum(-1), ((b - p) * a).sum(-1) - slope
            h00, h01, h11 = w.sum(-1), (w * a).sum(-1), (w * a * a).sum(-1) + 1
            determinant = h00 * h11 - h01 * h01
            intercept += np.clip((h11 * g0 - h01 * g1) / determinant, -1, 1)
            slope += np.clip((h00 * g1 - h01 * g0) / determinant, -1, 1)
        z, b = intercept[..., None] + slope[..., None] * columns[:, :, held], y[held].T
        total += (np.logaddexp(0, z) - b * z).sum(-1)
        base -= (b * np.log(level)[:, None] + (1 - b) * np.log(1 - level)[:, None]).sum(-1)
    return (total / base).mean(1) if y.shape[1] else np.zeros(x.shape[1])


def _squared_loss(
    x: Float[np.ndarray, "n C"], y: Float[np.ndarray, "n K"], fold: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " C"]:
    """Return the out-of-fold squared error of linear regressions of y on each column alone.

    Penalty 1 on squared slopes, relative to the error of the mean of y, and averaged, as the log
    loss is.
    """
    y = y[:, y.std(0) > 0]
    total, base = np.zeros((x.shape[1], y.shape[1])), np.zeros(y.shape[1])
    for f in np.unique(fold):
        fitted, held = fold != f, fold == f
        middle, level = x[fitted].mean(0), y[fitted].mean(0)
        a, b = x[fitted] - middle, y[held] - level
        slope = a.T @ (y[fitted] - level) / (np.square(a).sum(0) + 1)[:, None]
        predicted = (x[held] - middle)[:, :, None] * slope
        total += np.square(b[:, None] - predicted).sum(0)
        base += np.square(b).sum(0)
    return (total / base).mean(1) if y.shape[1] else np.zeros(x.shape[1])


def normal_scores(
    values: Float[np.ndarray, " n"],
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return knots and scores of the map from values to normal quantiles of their ranks.

    Equal values share the middle of their ranks. If there are more distinct values than knots, the
    knots are spread evenly over the scores and include the lowest and the highest value. The map
    of increasing functions of the values gives the same scores, up to interpolation.

    Args:
        values: `[n]` finite values.

    Returns:
        Q distinct values, rising, and their Q scores.

    Example:
        >>> knots, scores = normal_scores(np.array([5.0, 1.0, 1.0, 100.0]))
        >>> knots, [round(score, 2) for score in scores]
        ((1.0, 5.0, 100.0), [-0.67, 0.32, 1.15])
    """
    distinct, count = np.unique(values, return_counts=True)
    score = ndtri((np.cumsum(count) - count / 2) / len(values))
    if len(distinct) > MAX_KNOTS:
        wanted = np.linspace(score[0], score[-1], MAX_KNOTS)
        at = np.unique(np.abs(score[:, None] - wanted).argmin(0))
        distinct, score = distinct[at], score[at]
    # Values are float32, so few digits suffice.
    knots = distinct.astype(np.float32).astype(str).astype(np.float64)
    return tuple(knots.tolist()), tuple(score.round(6).tolist())


def _candidates(
    table: Table,
    names: tuple[tuple[str, ...], ...],
    fit_rows: Int[np.ndarray, " n"],
    notes: list[str],
) -> Iterator[Column]:
    """Yield each possible column, not yet scaled."""
    models, features, signals = names
    for name in features:
        yield Column("feature", (name,))
    if table.group is not None:
        yield from _groups(table, fit_rows, notes)
    for model, name in itertools.product(models, signals):
        yield Column("signal", (name,), (model,))
    for i, model in enumerate(models):
        paid = take_rows(table.cost[:, i], fit_rows)
        paid = paid[paid > 0]
        # A cost of 0 counts as half the lowest cost that was paid.
        least = float(paid.min()) / 2 if len(paid) else 1.0
        yield Column("cost", (), (model,), least=least)
    if table.answer is not None:
        for i, model in enumerate(models):
            if not (table.answer[fit_rows, i] >= 0).all():
                yield Column("answers", (), (model,))
        for pair in itertools.combinations(models, 2):
            yield Column("agreement", (), pair)


def _groups(table: Table, fit_rows: Int[np.ndarray, " n"], notes: list[str]) -> Iterator[Column]:
    """Yield a column for each group but the most frequent, which others are measured against.

    By name, whatever the order in which a file lists them.
    """
    assert table.group is not None
    by_name = np.array(sorted(range(len(table.groups)), key=lambda g: table.groups[g]))
    count = np.bincount(table.group[fit_rows], minlength=len(table.groups))
    others = by_name[by_name != by_name[np.argmax(count[by_name])]]
    large, small = (others[(count[others] >= MIN_GROUP_ROWS) == size] for size in (True, False))
    for g in large:
        yield Column("group", (table.groups[g],))
    if not len(small):
        return
    named = ", ".join(table.groups[g] for g in small[:3])
    more = f" and {len(small) - 3} more" if len(small) > 3 else ""
    which = f"group {named} has" if len(small) == 1 else f"groups {named}{more} have"
    if count[small].sum() < MIN_GROUP_ROWS:
        notes.append(
            f"{which} fewer than {MIN_GROUP_ROWS} rows to fit on: no column tells them from the"
            " rest"
        )
    else:
        notes.append(
            f"{which} fewer than {MIN_GROUP_ROWS} rows to fit on each: they share a column"
        )
        rest = by_name[~np.isin(by_name, small)]
        yield Column("small groups", tuple(table.groups[g] for g in rest))
