"""Load over time, by latency, by slot and shard: what is counted, and that it stays small."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.slots import slot
from proxy.capture.format import SLOT_CROSS, SLOT_UNKNOWN, Flag, ReplyKind
from proxy.report import chunks
from proxy.report.load import SLOTS, Interval, Timeline, shard_ranges
from proxy.report.run import run
from proxy.report.sections.load import busiest, load, slowest
from proxy.report.studies import placement, timeline
from proxy.report.studies.timeline import MOST_HEAT_INTERVALS, MOST_INTERVALS, Width
from tests.report.world import Rows, command

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND


def report_of(rows: list[dict[str, Any]], **world: Any) -> Any:
    return run(Rows(rows, **world))


# -- intervals -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("span_s", "width_s"),
    [(0, 0.1), (59.8, 0.1), (60, 0.2), (500, 1), (3600, 10), (86_400, 600), (86_400 * 365, 86_400)],
)
def test_intervals_are_as_narrow_as_their_number_allows(span_s: float, width_s: float) -> None:
    width = Width(MOST_INTERVALS)
    width.cover(START, START + int(span_s * SECOND))
    assert width.ns == width_s * SECOND


@given(st.lists(st.integers(0, 2**60), min_size=1, max_size=20), st.sampled_from([7, 120, 600]))
def test_intervals_only_merge_and_never_exceed_their_number(times: list[int], most: int) -> None:
    width = Width(most)
    before = width.ns
    for ts in times:
        merged = width.cover(ts, ts)
        assert width.ns == before * merged
        before = width.ns
    assert max(times) // width.ns - min(times) // width.ns < most


@settings(max_examples=6, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10**13), st.integers(0, 10**10)), min_size=1, max_size=60))
def test_what_is_counted_does_not_depend_on_how_the_capture_is_cut(given_: list[tuple[int, int]]) -> None:
    rows = [command("GET a", ts=START + ts, latency_ns=latency) for ts, latency in given_]
    whole = report_of(rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "CHUNK_ROWS", 5)
        patch.setattr(timeline, "COMPACT_AT", 3)
        patch.setattr(placement, "SLOTS_COMPACT_AT", 0)
        patch.setattr(placement, "LISTS_COMPACT_AT", 0)
        cut = report_of(rows, batch_rows=5)
    assert cut.timeline == whole.timeline
    assert cut.latency_heat == whole.latency_heat
    assert cut.slot_load == whole.slot_load
    counts = dict.fromkeys((START + ts) // whole.timeline.width_ns * whole.timeline.width_ns for ts, _ in given_)
    assert [each.ts for each in whole.timeline.intervals] == sorted(counts)
    assert sum(each.commands for each in whole.timeline.intervals) == len(rows)


def test_an_interval_counts_commands_errors_bytes_and_times_what_is_served() -> None:
    rows = [
        *(command("GET a", ts=START, latency_ns=n * 1_000_000, request_bytes=10, reply_bytes=5) for n in range(1, 101)),
        command("BRPOP a", ts=START, flags=Flag.BLOCKING, latency_ns=3 * SECOND),
        command("GET a", ts=START, flags=Flag.QUEUED, txn=1, latency_ns=SECOND),
        command("GET a", ts=START + SECOND, latency_ns=-1, reply=ReplyKind.LOST),
        command("GET a", ts=START + SECOND, reply=ReplyKind.ERROR, error="WRONGTYPE", latency_ns=50_000),
    ]
    first, second = report_of(rows).timeline.intervals
    assert (first.ts, first.commands, first.errors, first.timed) == (START, 102, 0, 100)
    assert first.bytes == 100 * 15 + 2 * 21
    assert first.p50_ns == pytest.approx(50_000_000, rel=0.05)
    assert first.p99_ns == pytest.approx(99_000_000, rel=0.05)
    assert (second.ts, second.commands, second.errors, second.timed) == (START + SECOND, 2, 1, 1)


def test_an_interval_without_timed_commands_has_no_quantile() -> None:
    (only,) = report_of([command("BRPOP a", flags=Flag.BLOCKING)]).timeline.intervals
    assert (only.timed, only.p50_ns, only.p99_ns) == (0, 0, 0)


# -- latencies -----------------------------------------------------------------------


def test_latencies_lie_in_doublings_by_time_and_by_command() -> None:
    rows = [
        *(command("GET a", ts=START, latency_ns=100_000) for _ in range(3)),
        command("GET a", ts=START + 2 * SECOND, latency_ns=200_000),
        command("SMEMBERS b", ts=START, latency_ns=5_000_000),
    ]
    heat = report_of(rows).latency_heat
    assert heat.commands == (b"SMEMBERS", b"GET")
    assert [(cell.ts - START, cell.low_ns, cell.count) for cell in heat.by_time] == [
        (0, 2**16, 3),
        (0, 2**22, 1),
        (2 * SECOND, 2**17, 1),
    ]
    assert [(cell.command, cell.low_ns, cell.count) for cell in heat.by_command] == [
        (b"GET", 2**16, 3),
        (b"GET", 2**17, 1),
        (b"SMEMBERS", 2**22, 1),
    ]
    assert [(each.command, each.ts - START, each.count) for each in heat.by_both] == [
        (b"GET", 0, 3),
        (b"GET", 2 * SECOND, 1),
        (b"SMEMBERS", 0, 1),
    ]
    assert heat.by_both[0].p99_ns == pytest.approx(100_000, rel=0.2)


def test_heat_has_few_columns_and_rare_commands_lose_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK_ROWS", 100)
    monkeypatch.setattr(timeline, "COMPACT_AT", 50)
    rows = [command(f"CMD{i % 150} a", ts=START + i * SECOND, latency_ns=1_000_000 - i % 150) for i in range(1500)]
    heat = report_of(rows, batch_rows=100).latency_heat
    assert len({cell.ts for cell in heat.by_time}) <= MOST_HEAT_INTERVALS
    assert sum(cell.count for cell in heat.by_time) == len(rows)
    assert len(heat.commands) == timeline.SHOWN_COMMANDS
    assert b"" not in heat.commands


# -- slots and shards ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("shards", "ranges"),
    [
        (1, [(0, 16383)]),
        (3, [(0, 5460), (5461, 10922), (10923, 16383)]),  # as redis-cli --cluster create prints them
        (6, [(0, 2730), (2731, 5460), (5461, 8191), (8192, 10922), (10923, 13652), (13653, 16383)]),
    ],
)
def test_shards_have_the_slots_that_redis_cli_gives_them(shards: int, ranges: list[tuple[int, int]]) -> None:
    assert shard_ranges(shards) == ranges


def test_a_command_counts_at_each_slot_of_its_keys_with_a_share_of_its_bytes() -> None:
    rows = [
        command("GET a", request_bytes=10, reply_bytes=10),
        command("MGET a b c", request_bytes=20, reply_bytes=10),
        command("MGET {a}x {a}y", request_bytes=5, reply_bytes=5),
        command("PING"),
    ]
    slots = report_of(rows).slot_load
    assert [(each.slot, each.commands, each.bytes, each.key) for each in slots.hottest] == [
        (slot(b"a"), 3, 20 + 10 + 10, b"a"),
        *sorted(((slot(key), 1, 10, key) for key in (b"b", b"c")), key=lambda each: each[0]),
    ]
    assert (slots.placed, slots.unplaced, slots.commands, slots.bytes) == (3, 0, 5, 60)
    for ranges in (slots.ranges, *slots.shards.values()):
        assert (ranges[0].first, ranges[-1].last) == (0, SLOTS - 1)
        assert sum(each.commands for each in ranges) == 5
        assert sum(each.bytes for each in ranges) == 60
    assert list(slots.shards) == [3, 6]


def test_what_has_no_known_slot_is_counted_as_such() -> None:
    rows = [
        command("GET a"),
        command("FT.SEARCH", slot=SLOT_UNKNOWN, unknown=1),
        {**command("MGET a b"), "keys": [], "nkeys": 2, "slot": SLOT_CROSS},
        command(f"MGET a {'k' * 512}"),
    ]
    slots = report_of(rows).slot_load
    assert (slots.placed, slots.unplaced) == (1, 3)


def test_lists_of_keys_beyond_the_limit_are_not_placed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "LISTS_COMPACT_AT", 5)
    monkeypatch.setattr(placement, "MOST_LISTS", 2)
    rows = [command("MGET a b") for _ in range(3)] + [command(f"MGET a b{i}") for i in range(7)]
    slots = report_of(rows).slot_load
    assert (slots.placed, slots.unplaced) == (4, 6)


# -- in words ------------------------------------------------------------------------


def line(*intervals: tuple[int, int, int]) -> Timeline:
    made = (Interval(START + i * SECOND, n, 0, 0, n, 100_000, p99) for i, n, p99 in intervals)
    return Timeline(SECOND, tuple(made))


def test_the_section_names_the_busiest_and_the_slowest_moment() -> None:
    seen = line((0, 200, 300_000), (1, 900, 400_000), (5, 400, 9_000_000), (6, 10, 99_000_000))
    assert busiest(seen).startswith("Busiest 1.0 s: from 2023-11-14 22:13:21 UTC, 900 commands/s; 378 on average")
    assert slowest(seen).startswith("Slowest 1.0 s: from 2023-11-14 22:13:25 UTC, p99 9.00 ms (p50 100 µs)")


def test_one_interval_has_nothing_to_be_compared_with() -> None:
    assert busiest(line((0, 200, 300_000))) == ""
    assert slowest(line((0, 200, 300_000), (1, 5, 300_000))) == ""


def test_the_section_names_the_hottest_slot_and_the_shards() -> None:
    section = load(report_of([command("GET a") for _ in range(9)] + [command("GET b")]))
    assert f"Hottest slot: {slot(b'a')}, 90.0% of all commands with keys, most of it for a." in section.paragraphs[-1]
    shards, hottest = section.tables
    assert [row[:3] for row in shards.rows] == [("3", "10% 0% 90%", "2.7×"), ("6", "0% 10% 0% 0% 0% 90%", "5.4×")]
    assert hottest.rows[0][:3] == (str(slot(b"a")), "9", "90.0%")


def test_a_capture_without_keys_has_no_words_on_slots() -> None:
    assert load(report_of([command("PING")])).tables == ()
    assert load(report_of([])).empty
