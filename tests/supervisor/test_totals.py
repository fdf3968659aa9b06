"""Several workers' numbers as one, and what stays of a worker that is gone."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from proxy.capture.writer import CaptureStats
from proxy.engine.stats import EngineStats
from proxy.supervisor.totals import Snapshot, left_behind, share, together
from tests.console.source import command


def snapshot(count: int, **changed: Any) -> Snapshot:
    whole: dict[str, Any] = dict(
        engine=EngineStats([command("GET", *[1000] * count)]),
        capture=CaptureStats(rows=count, bytes=10 * count, queued_bytes=7),
        findings={"cross-slot": count},
        counters={"clients_accepted": count},
        clients=count,
        backends=count,
        backend_up=True,
    )
    return Snapshot(**{**whole, **changed})


def test_several_workers_are_shown_as_one() -> None:
    whole = together([snapshot(1), snapshot(2, counters={"new": 4}), snapshot(3, backend_up=False)])
    assert [(each.command, each.count) for each in whole.engine.commands] == [("GET", 6)]
    assert whole.capture is not None
    assert (whole.capture.rows, whole.capture.bytes, whole.capture.queued_bytes) == (6, 60, 21)
    assert whole.findings == {"cross-slot": 6}
    assert whole.counters == {"clients_accepted": 4, "new": 4}
    assert (whole.clients, whole.backends, whole.backend_up, whole.draining) == (6, 6, True, False)


def test_a_class_is_held_in_as_many_workers_as_live_and_hold_it() -> None:
    held, free = {"queues": 1, "default": 0}, {"queues": 0, "default": 0}
    parts = [
        snapshot(1, held_classes=held),
        snapshot(1, held_classes=free),
        left_behind(snapshot(1, held_classes=held)),
    ]
    assert together(parts).held_classes == held


def test_a_capture_fails_if_one_worker_s_does_and_is_none_if_none_has_one() -> None:
    failing = together([snapshot(1), snapshot(1, capture=CaptureStats(failing="disk full"))]).capture
    assert failing is not None
    assert failing.failing == "disk full"
    assert together([snapshot(1, capture=None)]).capture is None


def test_every_number_of_a_capture_is_added() -> None:
    names = [each.name for each in fields(CaptureStats) if each.name != "failing"]
    one = CaptureStats(**dict.fromkeys(names, 2))
    assert together([snapshot(1, capture=one), snapshot(1, capture=one)]).capture == CaptureStats(
        **dict.fromkeys(names, 4)
    )


def test_a_worker_that_is_gone_leaves_its_totals_and_takes_its_gauges() -> None:
    gone = left_behind(snapshot(5, capture=CaptureStats(rows=5, failing="disk full", queued_bytes=9)))
    whole = together([gone, snapshot(1)])
    assert whole.engine.commands[0].count == 6
    assert whole.counters == {"clients_accepted": 6}
    assert (whole.clients, whole.backends) == (1, 1)
    assert whole.capture == CaptureStats(rows=6, bytes=10, queued_bytes=7)
    assert not together([gone]).backend_up


def test_totals_of_the_dead_pile_up() -> None:
    past = Snapshot()
    for _ in range(3):
        past = together([past, left_behind(snapshot(2))])
    assert past.engine.commands[0].count == 6
    assert past.findings == {"cross-slot": 6}


@pytest.mark.parametrize(("total", "workers", "parts"), [(10, 3, [4, 3, 3]), (3, 3, [1, 1, 1]), (8, 2, [4, 4])])
def test_shares_add_up_to_the_limit(total: int, workers: int, parts: list[int]) -> None:
    assert [share(total, index, workers) for index in range(workers)] == parts


def test_what_is_not_limited_has_no_shares() -> None:
    assert share(None, 0, 3) is None
