"""The nouns of load: over time, by latency, by hash slot and shard; and the arithmetic of equal slot ranges.

Knows: shapes and units. Refuses to know: how they are counted (``studies``), and how they are drawn (``charts``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SLOTS = 16384


@dataclass(frozen=True)
class Interval:
    """One interval of a timeline. ``ts``: its start, ns since the epoch, UTC. The quantiles are of the ``timed``
    exchanges (blocking and queued ones are not), within 5 %, and 0 without any."""

    ts: int
    commands: int
    errors: int
    bytes: int
    timed: int
    p50_ns: int
    p99_ns: int


@dataclass(frozen=True)
class Timeline:
    """Intervals of one width, in order of time. One without any exchange is left out: was the client idle, or was
    nothing recorded? The timeline does not know."""

    width_ns: int
    intervals: tuple[Interval, ...]

    def rate(self, interval: Interval) -> float:
        """Commands per second."""
        return interval.commands * 1e9 / self.width_ns


@dataclass(frozen=True)
class TimeCell:
    """Timed exchanges that began in the interval from ``ts`` on and took between ``low_ns`` and twice that."""

    ts: int
    low_ns: int
    count: int


@dataclass(frozen=True)
class CommandCell:
    """The same for one command, over the whole capture."""

    command: bytes
    low_ns: int
    count: int


@dataclass(frozen=True)
class CommandInterval:
    """One command's timed exchanges in one interval. The quantile is within 20 %."""

    command: bytes
    ts: int
    count: int
    p99_ns: int


@dataclass(frozen=True)
class LatencyHeat:
    """Where service times lie: over time, by command, and by both. ``commands``: those shown, by total service time,
    longest first; the others are left out of ``by_command`` and ``by_both``. Empty cells are left out."""

    width_ns: int
    commands: tuple[bytes, ...]
    by_time: tuple[TimeCell, ...]
    by_command: tuple[CommandCell, ...]
    by_both: tuple[CommandInterval, ...]


@dataclass(frozen=True)
class SlotRange:
    """The load of the slots ``first`` to ``last``. A command counts once at each slot in which it has keys; its bytes
    are shared out evenly among its keys."""

    first: int
    last: int
    commands: int
    bytes: int


@dataclass(frozen=True)
class HotSlot:
    """One of the busiest slots, and its busiest key with that key's commands; empty and 0 where no key is known."""

    slot: int
    key: bytes
    key_commands: int
    commands: int
    bytes: int


@dataclass(frozen=True)
class SlotLoad:
    """How a cluster's slots would share today's load. ``placed``: commands that have slots; ``unplaced``: commands
    with keys whose slots are not known. ``shards``: predicted, for that many shards with equal slot ranges."""

    placed: int
    unplaced: int
    commands: int  # at slots: more than ``placed`` where commands have keys in several
    bytes: int
    ranges: tuple[SlotRange, ...]
    hottest: tuple[HotSlot, ...]
    shards: dict[int, tuple[SlotRange, ...]]


def shard_ranges(shards: int) -> list[tuple[int, int]]:
    """First and last slot of each of ``shards`` shards, as ``redis-cli --cluster create`` lays them out."""
    ends = [round((i + 1) * SLOTS / shards) - 1 for i in range(shards)]
    return [(last + 1, end) for last, end in zip([-1, *ends[:-1]], ends, strict=True)]


def summed(slots: Sequence[tuple[int, int]], first: int, last: int) -> SlotRange:
    """The load of a range out of (commands, bytes) of each of all slots."""
    commands = sum(each[0] for each in slots[first : last + 1])
    return SlotRange(first, last, commands, sum(each[1] for each in slots[first : last + 1]))


#: Of an empty capture.
NO_TIMELINE = Timeline(1, ())
NO_HEAT = LatencyHeat(1, (), (), (), ())
NO_LOAD = SlotLoad(0, 0, 0, 0, (), (), {})
