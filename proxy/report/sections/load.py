"""The section on load: its busiest and slowest moment, the hottest slots, and how shards would share it."""

from __future__ import annotations

from collections.abc import Sequence

from proxy.report.cells import Section, TextTable, columns, duration, instant, name, percent, size, span, with_rows
from proxy.report.document import Report
from proxy.report.load import SlotLoad, SlotRange, Timeline

TOP_SLOTS = 5
#: An interval with fewer timed exchanges says nothing of a 99th percentile.
LEAST_TIMED = 100


def load(report: Report) -> Section:
    """How the load lies over time and slots."""
    said = [busiest(report.timeline), slowest(report.timeline), sharing(report.slot_load)]
    tables = [_shards(report.slot_load), _slots(report.slot_load)]
    return Section("load", "Load over time and slots", tuple(filter(None, said)), tables=with_rows(tables))


def busiest(timeline: Timeline) -> str:
    """When most commands came; empty where there is nothing to compare."""
    if len(timeline.intervals) < 2:
        return ""
    top = max(timeline.intervals, key=lambda each: each.commands)
    seconds = timeline.width_ns / 1e9
    mean = sum(each.commands for each in timeline.intervals) / len(timeline.intervals) / seconds
    return (
        f"Busiest {_width(timeline)}: from {instant(top.ts, timeline.width_ns)} UTC, {timeline.rate(top):,.0f} "
        f"commands/s; {mean:,.0f} on average while anything was recorded."
    )


def slowest(timeline: Timeline) -> str:
    """When latencies were highest; empty where no interval has enough of them."""
    timed = [each for each in timeline.intervals if each.timed >= LEAST_TIMED]
    if len(timed) < 2:
        return ""
    top = max(timed, key=lambda each: each.p99_ns)
    usual = sorted(each.p99_ns for each in timed)[len(timed) // 2]
    return (
        f"Slowest {_width(timeline)}: from {instant(top.ts, timeline.width_ns)} UTC, p99 {duration(top.p99_ns)} (p50 "
        f"{duration(top.p50_ns)}); the p99 is usually {duration(usual)}."
    )


def sharing(slots: SlotLoad) -> str:
    """The hottest slot and its key; empty without slots."""
    if not slots.hottest:
        return ""
    hot = slots.hottest[0]
    key = f", most of it for {name(hot.key)}" if hot.key_commands * 2 > hot.commands else ""
    unplaced = f" The slots of {slots.unplaced:,} more commands are not known." if slots.unplaced else ""
    return (
        f"Hottest slot: {hot.slot}, {percent(hot.commands / slots.commands)} of all commands with keys{key}. A slot "
        f"cannot be divided: no number of shards makes it smaller.{unplaced}"
    )


def _width(timeline: Timeline) -> str:
    seconds = timeline.width_ns / 1e9
    return span(seconds) if seconds % 60 else f"{seconds / 60:,.0f} min"


def _shards(slots: SlotLoad) -> TextTable:
    heads = columns("shards", "shares of commands, in slot order", "busiest*", "shares of bytes", "busiest by bytes*")
    rows = [
        (
            str(number), _shares([each.commands for each in ranges], slots.commands), _widest(ranges, "commands"),
            _shares([each.bytes for each in ranges], slots.bytes), _widest(ranges, "bytes"),
        )
        for number, ranges in slots.shards.items()
        if slots.commands
    ]  # fmt: skip
    note = "Equal slot ranges. A command counts at each slot in which it has keys; busiest: times an equal share."
    return TextTable("Predicted load of shards", heads, tuple(rows), note)


def _shares(loads: Sequence[int], whole: int) -> str:
    return " ".join(f"{each / max(1, whole) * 100:.0f}%" for each in loads)


def _widest(ranges: Sequence[SlotRange], field: str) -> str:
    """How much more than an equal share the busiest has."""
    loads: list[int] = [getattr(each, field) for each in ranges]
    return f"{max(loads) * len(loads) / max(1, sum(loads)):.1f}×"


def _slots(slots: SlotLoad) -> TextTable:
    rows = tuple(
        (
            str(each.slot), f"{each.commands:,}", percent(each.commands / slots.commands), size(each.bytes),
            name(each.key) or "–",
        )
        for each in slots.hottest[:TOP_SLOTS]
    )  # fmt: skip
    return TextTable("Hottest slots", columns("slot*", "commands*", "share*", "bytes*", "busiest key"), rows)
