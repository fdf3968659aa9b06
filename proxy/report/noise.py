"""Whether one series of measurements differs from another by more than its noise. Pure.

Knows: the method of batch means, with Welch's interval. Refuses to know: what was measured.

Commands that follow each other are not independent: a slow second makes thousands of them slow. A test that counts each
command as a witness calls any two captures different. So a capture is cut into slices of time with one number each (the
median latency, the number of commands), and these into six long batches. What neighbours have in common stays within a
batch; the six batches are the witnesses, and how they differ among themselves is the noise
(docs/decisions/0013-before-and-after.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, log, sqrt

BATCHES = 6
#: Series of fewer slices tell nothing.
LEAST_SLICES = 2 * BATCHES
#: The interval is made to hold the true ratio in this share of cases.
CONFIDENCE = 0.99
#: A change of less than a tenth is not worth a sentence, however certain.
LEAST_CHANGE = 0.10
#: Student's t for CONFIDENCE, two-sided, by degrees of freedom: with six batches each there are 5 to 10.
_STUDENT = {5: 4.032, 6: 3.707, 7: 3.499, 8: 3.355, 9: 3.250, 10: 3.169}

Statistic = Callable[[Sequence[float]], float]


@dataclass(frozen=True)
class Change:
    """``ratio``: after by before. It lies between ``low`` and ``high`` as far as noise goes."""

    ratio: float
    low: float
    high: float

    @property
    def beyond_noise(self) -> bool:
        """Whether it is larger than the noise, and large enough to matter."""
        return (self.low > 1 or self.high < 1) and not 1 / (1 + LEAST_CHANGE) < self.ratio < 1 + LEAST_CHANGE


def median(values: Sequence[float]) -> float:
    """The upper median: what it is taken of are buckets' middles, and a mean of two of them would be no better."""
    return sorted(values)[len(values) // 2]


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def change(before: Sequence[float], after: Sequence[float], statistic: Statistic) -> Change | None:
    """How ``statistic`` of ``after`` stands to that of ``before``; both are slices in order of time. The ratio is
    that of the batches' geometric means. None: there are too few slices to tell, or a batch of nothing."""
    if min(len(before), len(after)) < LEAST_SLICES:
        return None
    old, new = (_batches(values, statistic) for values in (before, after))
    if min(*old, *new) <= 0:
        return None
    (old_mean, old_error), (new_mean, new_error) = (
        _mean_and_error([log(each) for each in side]) for side in (old, new)
    )
    moved, error = new_mean - old_mean, old_error + new_error
    reach = _student(old_error, new_error) * sqrt(error)
    return Change(exp(moved), exp(moved - reach), exp(moved + reach))


def _batches(values: Sequence[float], statistic: Statistic) -> list[float]:
    count = len(values)
    return [statistic(values[i * count // BATCHES : (i + 1) * count // BATCHES]) for i in range(BATCHES)]


def _mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and the variance of that mean."""
    middle = mean(values)
    return middle, sum((each - middle) ** 2 for each in values) / (BATCHES - 1) / BATCHES


def _student(one: float, two: float) -> float:
    """Student's t for two means with these variances (degrees of freedom after Welch and Satterthwaite, rounded
    down)."""
    if not one + two:
        return 0.0
    freedom = (one + two) ** 2 * (BATCHES - 1) / (one**2 + two**2)
    return _STUDENT[max(5, min(10, int(freedom)))]
