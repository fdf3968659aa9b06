"""The live line."""

from __future__ import annotations

import pytest

from proxy.console.status import Look, show_ns
from proxy.engine.stats import EngineStats
from tests.console.source import FakeSource, Written, command


def test_a_line_is_about_the_time_since_the_last_one() -> None:
    source, look = FakeSource(EngineStats(commands=[command("GET", 1_000_000)])), Look()
    assert look.line(source, 1.0) == "1 commands/s · p99 1.0 ms · 3 clients · no findings"
    assert look.line(source, 1.0) == "0 commands/s · p99 – · 3 clients · no findings"
    source.stats = EngineStats(commands=[command("GET", 1_000_000, 9_000, 9_000, 9_000), command("SET", 9_000)])
    assert look.line(source, 2.0).startswith("2 commands/s · p99 10 µs")


def test_waiting_does_not_count_as_latency() -> None:
    source = FakeSource(EngineStats(commands=[command("BRPOP", waits_ns=(2 * 10**9,))]))
    assert Look().line(source, 1.0).startswith("1 commands/s · p99 – ·")


def test_it_says_what_was_recorded_found_and_lost() -> None:
    source = FakeSource(found={"cross-slot": 1200, "txn": 3, "db": 2, "watch": 1}, written=Written())
    assert "recorded 7 rows, 2.5 MB" in Look().line(source, 1.0)
    assert "1,206 findings (cross-slot 1,200, txn 3, db 2, 1 more rules)" in Look().line(source, 1.0)
    source.written = Written(gap_rows=5, failing="No space left on device")
    assert "5 rows lost · capture fails: No space left on device" in Look().line(source, 1.0)


def test_it_says_when_clients_are_not_served() -> None:
    assert Look().line(FakeSource(up=False), 1.0).endswith("backend is down")
    assert Look().line(FakeSource(drains=True), 1.0).endswith("draining")


def test_it_says_which_class_is_held() -> None:
    line = Look().line(FakeSource(held={"queues": 2, "default": 0}), 1.0)
    assert line.endswith("no findings · class queues is held")


@pytest.mark.parametrize(("ns", "text"), [(0, "–"), (8_400, "8 µs"), (1_250_000, "1.2 ms"), (3.4e9, "3.4 s")])
def test_a_latency_is_shown_in_the_unit_that_fits(ns: float, text: str) -> None:
    assert show_ns(ns) == text
