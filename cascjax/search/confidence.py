"""Margins below a budget, so that mean cost on new queries keeps within it.

Settings are fitted so that mean cost on n queries is the budget less a margin. Mean cost on m new
queries differs for two reasons: the n queries were a sample, and so are the m. Let T be the
difference of the two means divided by its estimated standard deviation. The margin is that
deviation times the quantile of T: Student's, corrected for the skewness of costs by its Edgeworth
expansion (Hall, "The Bootstrap and Edgeworth Expansion", 1992, section 2.6) and by the cubic that
removes it (Hall, "On the removal of skewness by transformation", Journal of the Royal Statistical
Society B, 1992).

Few queries show too little of costs with long tails. If 95% is asked for, lognormal costs of
skewness 2 keep within the budget 95% of the time, with 100 queries or 400; with skewness 7, 92.5%
of the time with 100 queries and 93.5% with 400 (without any correction 89% and 91%).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import stdtrit

from cascjax.errors import CascjaxError, too_few

MIN_QUERIES = 30  # Minimum number of queries to estimate a variance and a skewness from


@dataclass(frozen=True)
class Spread:
    """Central moments of a query's expected cost X, and of its cost Y under the setting drawn.

    A rule mixes settings, so Y varies more than X: fitted queries count with X, new ones with Y.
    `expected` and `drawn` are the variances of X and Y; `mixed_third` is E[(X - mean) (Y -
    mean)^2].
    """

    expected: float
    drawn: float
    expected_third: float
    drawn_third: float
    mixed_third: float

    @classmethod
    def from_costs(
        cls, cost: Float[np.ndarray, "M n"], weights: Float[np.ndarray, " M"]
    ) -> "Spread":
        """Return the moments of the costs of n queries under M settings, mixed by weights."""
        n = cost.shape[1]
        x = weights @ cost
        y = cost - x.mean()
        x = x - x.mean()
        second, third = weights @ y**2, weights @ y**3
        return cls(
            expected=float(x @ x) / (n - 1),
            # The variance of the draw is known, given the query; the rest is estimated.
            drawn=float(second.sum() - x @ x) / n + float(x @ x) / (n - 1),
            expected_third=float((x**3).mean()),
            drawn_third=float(third.mean()),
            mixed_third=float((x * second).mean()),
        )

    def margin(self, n: int, m: float | int, confidence: float) -> float:
        """Return the most by which the mean of m new queries exceeds the mean of n fitted.

        Let D be the difference of the means and v its variance, drawn / m + expected / n. The
        fitted queries give both the mean and the estimate of v, which therefore move together: with
        a = mixed_third / m + expected_third / n, Cov(mean, estimate of v) = a / n. To first order T
        = D (1 - (estimate of v - v) / 2v) / sqrt(v), so

            E[T] = a / (2 n v^1.5)
            third cumulant = (drawn_third / m^2 - expected_third / n^2 + 3 a / n) / v^1.5

        so that with A = third cumulant / 6, T - A (T^2 - 1) - E[T] has no skewness left. Adding A^2
        T^3 / 3, which is of higher order, makes it monotone in T: the variable with Student's
        distribution is (1 - (1 - A T)^3) / 3A + A - E[T], and the quantile is the T at which it
        equals Student's t at the one-sided confidence; m may be infinite.
        """
        v = self.drawn / m + self.expected / n
        if v <= 0:
            return 0.0
        a = self.mixed_third / m + self.expected_third / n
        third = self.drawn_third / m**2 - self.expected_third / n**2 + 3 * a / n
        mean, skew = a / (2 * n) / v**1.5, third / 6 / v**1.5
        beyond = stdtrit(n - 1, confidence) - skew + mean
        if abs(skew) > 1e-6:
            beyond = (1 - np.cbrt(1 - 3 * skew * beyond)) / skew
        return float(beyond * np.sqrt(v))

    def queries_needed(
        self, n: int, m: float | int | None, confidence: float, room: float
    ) -> tuple[int | None, int | None]:
        """Return how many queries to fit on for a margin that fits the room; or new ones.

        The second number is None if the first is not; both are None if no number is enough. An m of
        None means as many new queries as are fitted on.
        """

        def fits(n: int) -> bool:
            return self.margin(n, n if m is None else m, confidence) <= room

        if (needed := _least(fits, n)) is not None:
            return needed, None
        return None, _least(lambda m: self.margin(1 << 40, m, confidence) <= room, 1)


def _least(fits: Callable[[int], bool], start: int) -> int | None:
    """Return the least number that fits, rounded up to two digits; None beyond 2^40."""
    high = start
    while not fits(high):
        if high >= 1 << 40:
            return None
        high *= 2
    low = high // 2
    while high - low > max(1, high // 100):
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    digits = max(0, len(str(high)) - 2)
    return -(-high // 10**digits) * 10**digits


def check_fit_confidence(confidence: float, n: int) -> None:
    """Refuse an invalid confidence, or too few queries for one."""
    if not 0.5 < confidence < 1:
        raise CascjaxError(
            f"the confidence must lie between 0.5 and 1, as 0.95 does, and not be {confidence:g}"
        )
    if n < MIN_QUERIES:
        raise CascjaxError(
            f"{too_few(n)} to fit with confidence: at least {MIN_QUERIES} are needed"
        )
