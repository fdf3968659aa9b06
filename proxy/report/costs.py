"""The nouns of what is slow and costly: patterns of commands, slow commands, and the advice on both. Pure data."""

from __future__ import annotations

from dataclasses import dataclass

from proxy.report.rhythm import Schedule
from proxy.report.rules.advice import Advice, Example
from proxy.report.rules.costs import SLOW_NS


@dataclass(frozen=True)
class Spread:
    """A distribution of service times in ns: quantiles within 1 %, the maximum exact."""

    count: int
    total_ns: int
    p50_ns: int
    p99_ns: int
    max_ns: int


@dataclass(frozen=True)
class PatternLine:
    """One command on keys of one template. ``other``: all those that found no place in the table. ``service`` leaves
    out blocking and queued exchanges. ``most_args``: 0 if not known; ``most_items``: -1 if no reply was an
    aggregate, or if it is not known."""

    command: bytes
    template: bytes
    other: bool
    count: int
    errors: int
    service: Spread | None
    request_bytes: int
    reply_bytes: int
    most_args: int
    most_items: int


@dataclass(frozen=True)
class SlowLine:
    """Slow commands of one pattern from one client. ``*_bytes``: of the biggest. ``schedule``: of the pattern, from
    whatever client. ``example``: the slowest."""

    command: bytes
    template: bytes
    other: bool
    addr: bytes
    name: bytes
    count: int
    total_ns: int
    max_ns: int
    request_bytes: int
    reply_bytes: int
    first_ts: int
    last_ts: int
    schedule: Schedule | None
    example: Example


@dataclass(frozen=True)
class Costs:
    """What is slow and costly. ``slow_ns``: the threshold. ``uncounted``: commands whose number of arguments the
    capture does not tell (format 1). ``looked_at``: commands that were searched for chatter, of all."""

    slow_ns: int = SLOW_NS
    slow_count: int = 0
    slow: tuple[SlowLine, ...] = ()
    patterns: tuple[PatternLine, ...] = ()
    advice: tuple[Advice, ...] = ()
    uncounted: int = 0
    looked_at: int = 0


NO_COSTS = Costs()
