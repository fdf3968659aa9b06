"""What the engine has counted: the numbers behind ``/metrics``, the live line and the report at the end.

Knows: the shape of the counters and how to read a quantile out of them. Refuses to know: how they are counted
(``engine.columns``, compiled) and how they are shown (``console``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

#: Steps within one doubling: a bucket's bounds are at most 25 % apart.
STEPS = 4
#: Doublings above one microsecond: the last bounded bucket ends at 2**27 us, about 134 s.
OCTAVES = 27

#: Upper bounds in nanoseconds, ascending, exclusive: bucket i counts latencies below BUCKET_BOUNDS_NS[i]; one more
#: bucket, without a bound, follows. 1 us * 2**k * (1, 1.25, 1.5, 1.75).
BUCKET_BOUNDS_NS: tuple[int, ...] = tuple(
    (1000 << octave) * (STEPS + step) // STEPS for octave in range(OCTAVES) for step in range(STEPS)
)
BUCKETS = len(BUCKET_BOUNDS_NS) + 1


@dataclass(slots=True)
class CommandStats:
    """Totals of one command name since start. Times in nanoseconds, sizes in bytes."""

    command: str
    count: int = 0
    errors: int = 0
    request_bytes: int = 0
    reply_bytes: int = 0
    cross_slot: int = 0
    unknown_keys: int = 0
    service_ns: int = 0  # sum over commands that do not block
    service_buckets: list[int] = field(default_factory=lambda: [0] * BUCKETS)
    wait_ns: int = 0  # sum over blocking commands
    wait_buckets: list[int] = field(default_factory=lambda: [0] * BUCKETS)


@dataclass(slots=True)
class EngineStats:
    """A snapshot of one worker's engine."""

    commands: list[CommandStats] = field(default_factory=list)
    errors: dict[str, int] = field(default_factory=dict)  # first word of error replies -> count
    pushes: int = 0  # RESP3 pushes, pub/sub messages and MONITOR lines: counted, not rows
    plain_pipes: dict[str, int] = field(default_factory=dict)  # reason -> connections that became byte pipes
    rehearsal: dict[str, int] = field(default_factory=dict)  # outcome (rehearsed.OUTCOMES) -> commands
    rehearsal_refused: dict[str, int] = field(default_factory=dict)  # command -> refused as the target would
    crossbackend: dict[tuple[str, str], int] = field(default_factory=dict)  # (routed.OUTCOMES, command) -> commands
    rows: int = 0  # exchanges recorded into batches
    gap_rows: int = 0  # exchanges that could not be recorded
    lost_replies: int = 0  # commands whose connection ended before their reply
    open_pops: int = 0  # of lost_replies: pops and other blocking fetches, whose job may be gone
    given_back: int = 0  # of undelivered: pops that were put back
    given_back_elements: int = 0  # the elements of these
    not_given_back: dict[str, int] = field(default_factory=dict)  # giving_back.WHY -> pops that were not
    undelivered: int = 0  # pops that took something, and whose reply came when their client had gone


def merged(parts: Iterable[EngineStats]) -> EngineStats:
    """The totals of several engines together, a command of each name once. None of ``parts`` is changed or kept."""
    whole = EngineStats()
    commands: dict[str, CommandStats] = {}
    for part in parts:
        _add(whole, part)
        for each in part.commands:
            _add(commands.setdefault(each.command, CommandStats(each.command)), each)
    whole.commands = list(commands.values())
    return whole


def _add(total: Any, part: Any) -> None:
    """Adds every number, every counted word and every bucket of ``part`` to ``total``; names and lists of others stay.

    It goes by the fields, so that one that is added to a class later is not forgotten here.
    """
    for each in fields(part):
        old, new = getattr(total, each.name), getattr(part, each.name)
        if isinstance(new, int):
            setattr(total, each.name, old + new)
        elif isinstance(new, dict):
            for word, count in new.items():
                old[word] = old.get(word, 0) + count
        elif each.name.endswith("_buckets"):
            old[:] = [a + b for a, b in zip(old, new, strict=True)]


def quantile_ns(buckets: Sequence[int], q: float) -> float:
    """The q-quantile (0 < q <= 1) of a histogram with BUCKETS counts, in nanoseconds, interpolated in its bucket.

    Returns 0.0 for an empty histogram, and the last bound for what lies above it.
    """
    total = sum(buckets)
    if total == 0:
        return 0.0
    rank = q * total
    seen = 0
    for index, count in enumerate(buckets[:-1]):
        if count and seen + count >= rank:
            low = BUCKET_BOUNDS_NS[index - 1] if index else 0
            high = BUCKET_BOUNDS_NS[index]
            return low + (high - low) * (rank - seen) / count
        seen += count
    return float(BUCKET_BOUNDS_NS[-1])
