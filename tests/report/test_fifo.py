"""Queues replayed from what was seen of them: depths, waits, and what is not known."""

from __future__ import annotations

from array import array
from typing import Any

import pytest

from proxy.report.fifo import (
    BUCKETS,
    CLEARED,
    DISTURBED,
    EMPTY,
    POP,
    POP_LEFT,
    PUSH,
    REQUEUE,
    STEPS,
    Fifo,
)

MS = 1_000_000
Event = tuple[int, int, int]  # ms, kind, amount


def replayed(events: list[Event], *, queue: int = 0, keep: int = 1000, step_ms: int = 100, points: int = 10) -> Fifo:
    fifo = Fifo(2, 0, step_ms * MS, points, 20 * MS, keep)
    fifo.feed(
        memoryview(array("q", [at * MS for at, _, _ in events])),
        memoryview(array("i", [queue] * len(events))),
        memoryview(array("b", [kind for _, kind, _ in events])),
        memoryview(array("i", [amount for _, _, amount in events])),
    )
    fifo.finish()
    return fifo


def waits_ms(fifo: Fifo) -> list[tuple[int, int]]:
    """Waits as (ms, how many), rounded: a bucket is 2 % wide."""
    return [(round(2 ** ((bucket + 0.5) / STEPS) / MS / 10) * 10, count) for bucket, count in fifo.waits(0)]


#: What happens; the waits that follow (ms to the next ten, count); some of the totals.
STORIES: dict[str, tuple[list[Event], list[tuple[int, int]], dict[str, Any]]] = {
    "seen empty first: the first in is the first out": (
        [(0, EMPTY, 1), (100, PUSH, 1), (150, PUSH, 1), (300, POP, 1), (310, POP, 1)],
        [(160, 1), (200, 1)],
        {"depth": 0, "pushed": 2, "popped": 2, "paired": 2},
    ),
    "seen empty at the end: what came before is known too": (
        [(100, PUSH, 1), (200, POP, 1), (500, EMPTY, 1)],
        [(100, 1)],
        {"depth": 0, "paired": 1, "unseen_out": 0, "highest": 1},
    ),
    "never seen empty: waits are not known, the depth is relative": (
        [(100, PUSH, 5), (200, POP, 1)],
        [],
        {"depth": None, "relative": 4, "at_least": 4, "paired": 0, "highest": 5},
    ),
    "never seen empty, more popped than pushed: there was something before": (
        [(100, POP, 1), (200, POP, 1), (300, PUSH, 1)],
        [],
        {"depth": None, "relative": -1, "at_least": 1},
    ),
    "elements from before the capture have no wait": (
        [(50, POP, 1), (60, POP, 1), (100, PUSH, 1), (200, POP, 1), (400, EMPTY, 1)],
        [(100, 1)],
        {"depth": 0, "paired": 1, "unseen_in": 0},
    ),
    "a bulk push is so many elements": (
        [(0, EMPTY, 1), (100, PUSH, 3), (200, POP, 1), (300, POP, 1)],
        [(100, 1), (200, 1)],
        {"depth": 1, "pushed": 3},
    ),
    "what is put back at the right is popped next": (
        [(0, EMPTY, 1), (100, PUSH, 1), (400, REQUEUE, 1), (450, POP, 1), (460, POP, 1)],
        [(50, 1), (360, 1)],
        {"depth": 0, "requeued": 1, "pushed": 1},
    ),
    "a pop at the left takes the newest": (
        [(0, EMPTY, 1), (100, PUSH, 1), (200, PUSH, 1), (250, POP_LEFT, 1), (300, POP, 1)],
        [(50, 1), (200, 1)],
        {"depth": 0},
    ),
    "a pop's reply that overtakes its push waited for nothing": (
        [(0, EMPTY, 1), (100, POP, 1), (101, PUSH, 1), (500, EMPTY, 1)],
        [(0, 1)],
        {"depth": 0, "paired": 1, "unseen_in": 0, "unseen_out": 0},
    ),
    "a pop of what nobody was seen to push": (
        [(0, EMPTY, 1), (100, POP, 1), (500, EMPTY, 1)],
        [],
        {"depth": 0, "unseen_in": 1, "paired": 0},
    ),
    "an element that nobody was seen to pop": (
        [(0, EMPTY, 1), (100, PUSH, 2), (200, POP, 1), (500, EMPTY, 1)],
        [(100, 1)],
        {"depth": 0, "unseen_out": 1},
    ),
    "an observation close to another event does not count": (
        [(100, PUSH, 1), (110, EMPTY, 1), (115, POP, 1)],
        [],
        {"depth": None, "relative": 0},
    ),
    "nor does one just before another event": (
        [(100, EMPTY, 1), (105, PUSH, 1), (200, POP, 1)],
        [],
        {"depth": None, "relative": 0},
    ),
    "all removed": (
        [(0, EMPTY, 1), (100, PUSH, 4), (200, CLEARED, 1), (300, PUSH, 1), (350, POP, 1)],
        [(50, 1)],
        {"depth": 0, "removed": 4, "unseen_out": 0, "highest": 4},
    ),
    "some removed: not known until it is seen empty again": (
        [(0, EMPTY, 1), (100, PUSH, 4), (200, DISTURBED, 1), (300, POP, 1)],
        [],
        {"depth": None, "relative": None, "paired": 0, "highest": 4},
    ),
    "some removed, and seen empty again: known since then": (
        [(0, EMPTY, 1), (100, PUSH, 1), (200, DISTURBED, 1), (300, PUSH, 1), (350, POP, 1), (500, EMPTY, 1)],
        [(50, 1)],
        {"depth": 0, "paired": 1},
    ),
    "a push of it is not known how many": (
        [(0, EMPTY, 1), (100, PUSH, -1), (200, POP, 1)],
        [],
        {"depth": None, "unknown_pushes": 1, "pushed": 0},
    ),
}


@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES.keys())
def test_a_queue_is_replayed(story: tuple[list[Event], list[tuple[int, int]], dict[str, Any]]) -> None:
    events, waits, totals = story
    fifo = replayed(events)
    assert waits_ms(fifo) == waits
    assert {name: fifo.totals(0)[name] for name in totals} == totals


def test_the_time_line_of_a_known_queue_is_absolute_from_the_start() -> None:
    fifo = replayed([(50, POP, 1), (150, PUSH, 3), (160, POP, 1), (350, POP, 1), (450, POP, 1), (650, EMPTY, 1)])
    assert fifo.line(0)[:7] == [
        (0, 1, 0, 0, False),
        (3, 1, 3, 2, False),
        (0, 0, 2, 2, False),
        (0, 1, 1, 1, False),
        (0, 1, 0, 0, False),
        (0, 0, 0, 0, False),
        (0, 0, 0, 0, False),
    ]


def test_the_time_line_of_an_unknown_queue_is_relative() -> None:
    fifo = replayed([(50, PUSH, 2), (250, POP, 1)])
    assert fifo.line(0)[:4] == [(2, 0, 2, 2, True), (0, 0, 2, 2, True), (0, 1, 1, 1, True), (0, 0, 1, 1, True)]


def test_where_a_depth_is_not_known_the_time_line_says_so() -> None:
    fifo = replayed(
        [(0, EMPTY, 1), (50, PUSH, 1), (150, DISTURBED, 1), (350, PUSH, 1), (450, POP, 1), (650, CLEARED, 1)]
    )
    depths = [last for _, _, _, last, _ in fifo.line(0)]
    assert depths == [1, None, None, None, None, None, 0, 0, 0, 0]


def test_what_concerns_all_queues_has_the_number_minus_one() -> None:
    fifo = replayed([(100, PUSH, 1), (200, DISTURBED, 1)], queue=-1)
    assert [fifo.totals(queue)["relative"] for queue in (0, 1)] == [None, None]


def test_pairs_are_given_up_where_too_much_waits_but_depths_are_not() -> None:
    events = [(0, EMPTY, 1), *((100 + i, PUSH, 1) for i in range(50)), *((300 + i, POP, 1) for i in range(20))]
    totals = replayed(events, keep=10).totals(0)
    assert (totals["depth"], totals["paired"]) == (30, 0)


def test_after_that_pairs_are_made_again_once_the_queue_was_empty() -> None:
    events = [(0, EMPTY, 1), *((100 + i, PUSH, 1) for i in range(50)), *((300 + i, POP, 1) for i in range(50))]
    totals = replayed([*events, (500, EMPTY, 1), (600, PUSH, 1), (700, POP, 1)], keep=10).totals(0)
    assert (totals["depth"], totals["paired"], totals["unseen_in"]) == (0, 1, 0)


def test_many_elements_go_round_the_ring() -> None:
    events = [(0, EMPTY, 1)]
    for i in range(500):
        events += [(100 + i, PUSH, 3), (100 + i, POP, 1), (100 + i, POP, 1)]
    totals = replayed(events).totals(0)
    assert (totals["depth"], totals["paired"], totals["pushed"]) == (500, 1000, 1500)


def test_a_histogram_has_room_for_every_wait() -> None:
    assert BUCKETS == STEPS * 64
    fifo = Fifo(1, 0, 1, 1)
    with pytest.raises(IndexError):
        fifo.totals(1)
    with pytest.raises(ValueError, match="time line"):
        Fifo(1, 0, 0, 1)
