"""What comes by the clock is named, and what only seems to is not."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from proxy.report.rhythm import DAY_NS, HOUR_NS, MINUTE_NS, Schedule, occurrences, schedule

MIDNIGHT = 1_795_046_400_000_000_000  # 2026-11-19 00:00 UTC


def at(*moments: float) -> list[int]:
    """Moments as hours after midnight."""
    return [MIDNIGHT + int(hours * HOUR_NS) for hours in moments]


def days(count: int, *hours: float) -> list[int]:
    return [moment + day * DAY_NS for day in range(count) for moment in at(*hours)]


def hours(count: int, *minutes: float) -> list[int]:
    return at(*(hour + minute / 60 for hour in range(count) for minute in minutes))


def jittered(moments: Sequence[int], *minutes: float) -> list[int]:
    return [moment + int(minutes[i % len(minutes)] * MINUTE_NS) for i, moment in enumerate(moments)]


@pytest.mark.parametrize(
    ("moments", "covered_hours", "words"),
    [
        (days(3, 4.25), 72, "daily, 04:15 UTC, 1 a day (3 of 3 days)"),
        (days(2, 4.25), 49, "daily, 04:15 UTC, 1 a day (2 of 2 days)"),
        (days(7, 4.25, 16.5), 168, "daily, 04:15, 16:30 UTC, 2 a day (7 of 7 days)"),
        (jittered(days(5, 4.25), 0, 1.5, 0.5, 3), 120, "daily, 04:15 UTC, 1 a day (5 of 5 days)"),
        (jittered(days(4, 23.99), 0, 1.2), 96, "daily, 23:59 UTC, 1 a day (4 of 4 days)"),
        ([*days(10, 4.25), *at(50)], 240, "daily, 04:15 UTC, 1 a day (10 of 10 days)"),  # once by hand
        (days(10, 4.25)[:4] + days(10, 4.25)[5:], 240, "daily, 04:15 UTC, 1 a day (9 of 10 days)"),  # skipped once
        (hours(6, 17), 6, "hourly, at minute 17, 1 an hour (6 of 6 hours)"),
        (hours(3, 0, 15, 30, 45), 3, "hourly, at minute 0, 15, 30, 45, 4 an hour (3 of 3 hours)"),
        (hours(4, 59.5) + hours(4, 60.5), 5, "hourly, at minute 59, 1 an hour (4 of 5 hours)"),
        # one occurrence is many commands
        ([m + i * 10**9 for m in days(3, 4.25) for i in range(50)], 72, "daily, 04:15 UTC, 1 a day (3 of 3 days)"),
    ],
)  # fmt: skip
def test_a_schedule_is_named(moments: list[int], covered_hours: float, words: str) -> None:
    found = schedule(moments, MIDNIGHT, MIDNIGHT + int(covered_hours * HOUR_NS) - 1)
    assert found is not None
    assert found.words == words


@pytest.mark.parametrize(
    ("moments", "covered_hours"),
    [
        ([], 100),
        (at(4.25), 100),  # once
        (days(2, 4.25), 47),  # shorter than two days
        (hours(2, 17), 2.5),  # two hits of an hour may be chance
        (at(4.25, 29, 53.5), 72),  # each day, at other times
        (days(10, 4.25)[::2], 240),  # every other day
        (at(4.25, 28.4, 52.6), 72),  # 9 and 12 minutes late: no clock
        (hours(72, 0, 12, 24, 36, 48), 72),  # more often than a person's schedule
        ([MIDNIGHT + i * MINUTE_NS for i in range(4320)], 72),  # all the time
        ([*days(3, 4.25), *at(1, 7, 20, 30)], 72),  # as often at other times
        (days(3, *(9 + hour for hour in range(8))), 72),  # office hours
    ],
)
def test_near_misses_are_no_schedule(moments: list[int], covered_hours: float) -> None:
    assert schedule(moments, MIDNIGHT, MIDNIGHT + int(covered_hours * HOUR_NS)) is None


def test_a_period_that_the_capture_covers_and_that_was_not_hit_counts_against() -> None:
    assert schedule(days(3, 4.25), MIDNIGHT, MIDNIGHT + 3 * DAY_NS) == Schedule("daily", (255,), 3, 3)
    assert schedule(days(3, 4.25), MIDNIGHT, MIDNIGHT + 5 * DAY_NS) is None


def test_occurrences_are_bursts() -> None:
    assert occurrences(at(2, 1, 1.01, 1.08)) == at(1, 2)
