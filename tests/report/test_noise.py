"""The test of a change sees changes, and not the noise of what is slow for a while."""

from __future__ import annotations

from math import exp
from random import Random

import pytest

from proxy.report.noise import LEAST_SLICES, Change, Statistic, change, mean, median


def series(random: Random, count: int, level: float, memory: float, spread: float = 0.2) -> list[float]:
    """Latencies of slices, each near the one before (an autoregressive series of the first order)."""
    value, made = 0.0, []
    for _ in range(count + 50):
        value = memory * value + random.gauss(0, spread)
        made.append(level * exp(value))
    return made[50:]


@pytest.mark.parametrize("memory", [0.0, 0.5, 0.7])
@pytest.mark.parametrize("statistic", [median, mean])
def test_two_series_of_the_same_source_are_rarely_called_different(memory: float, statistic: Statistic) -> None:
    random = Random(7)
    found = [change(series(random, 64, 1.0, memory), series(random, 64, 1.0, memory), statistic) for _ in range(200)]
    assert sum(each is not None and each.beyond_noise for each in found) <= 4  # of 200


@pytest.mark.parametrize("ratio", [0.5, 2.0])
def test_a_change_by_half_is_seen_through_the_noise(ratio: float) -> None:
    random = Random(8)
    found = [change(series(random, 64, 1.0, 0.5), series(random, 64, ratio, 0.5), median) for _ in range(50)]
    assert sum(each is not None and each.beyond_noise for each in found) >= 48
    assert all(each is not None and each.low <= each.ratio <= each.high for each in found)


def test_noise_with_a_memory_makes_a_wider_interval_than_the_same_values_without_order() -> None:
    """Why batches: a slow minute must not count as sixty slow seconds."""
    random = Random(9)
    wider = 0
    for _ in range(20):
        before, after = series(random, 64, 1.0, 0.9), series(random, 64, 1.0, 0.9)
        found = change(before, after, mean)
        shuffled = change(random.sample(before, 64), random.sample(after, 64), mean)
        assert found is not None
        assert shuffled is not None
        wider += found.high / found.low > shuffled.high / shuffled.low
    assert wider >= 18


@pytest.mark.parametrize(
    ("change_", "said"),
    [
        (Change(1.5, 1.2, 1.8), True),
        (Change(0.5, 0.4, 0.9), True),
        (Change(1.5, 0.9, 2.0), False),  # may be noise
        (Change(1.09, 1.05, 1.13), False),  # certain, but little
        (Change(0.92, 0.90, 0.94), False),
    ],
)
def test_a_change_must_be_certain_and_large_enough(change_: Change, said: bool) -> None:
    assert change_.beyond_noise is said


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([1.0] * (LEAST_SLICES - 1), [2.0] * 100),
        ([1.0] * 100, [2.0] * (LEAST_SLICES - 1)),
        ([0.0] * 100, [2.0] * 100),
        ([1.0] * 100, [1.0] * 50 + [0.0] * 50),  # a sixth of it without any
        ([], []),
    ],
)
def test_too_little_is_no_answer(before: list[float], after: list[float]) -> None:
    assert change(before, after, mean) is None


def test_the_same_question_has_the_same_answer() -> None:
    random = Random(3)
    one, two = series(random, 40, 1.0, 0.3), series(random, 30, 1.2, 0.3)
    assert change(one, two, median) == change(one, two, median)


def test_steady_series_are_compared_exactly() -> None:
    found = change([2.0] * 20, [3.0] * 20, median)
    assert found is not None
    assert (found.ratio, found.low, found.high) == pytest.approx((1.5, 1.5, 1.5))
