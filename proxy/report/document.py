"""The nouns of a finished report, and the verdict. Pure data: nothing in it knows how it is made or printed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from proxy.report.remedies import NO_REMEDIES, Remedies
from proxy.report.rules import Severity
from proxy.report.rules.advice import Example


class Verdict(Enum):
    """What a report says of one target. The value is the exit code."""

    COMPATIBLE = 0
    NOT_COMPATIBLE = 1
    CANNOT_TELL = 3

    @property
    def words(self) -> str:
        return {0: "compatible", 1: "not compatible", 3: "can't tell"}[self.value]


def verdict_of(severities: Sequence[Severity], *, commands: int, losses: int) -> Verdict:
    """The verdict: errors decide, then whatever is not known. An empty capture says nothing."""
    if Severity.ERROR in severities:
        return Verdict.NOT_COMPATIBLE
    if Severity.UNKNOWN in severities or losses or not commands:
        return Verdict.CANNOT_TELL
    return Verdict.COMPATIBLE


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict that decides the exit code: not compatible, can't tell, compatible."""
    order = (Verdict.NOT_COMPATIBLE, Verdict.CANNOT_TELL, Verdict.COMPATIBLE)
    return min(verdicts, key=order.index)


@dataclass(frozen=True)
class FindingGroup:
    """Occurrences that differ only in the changing parts of their keys. ``ts`` in ns since the epoch, UTC."""

    rule: str
    title: str
    severity: Severity
    command: bytes
    members: tuple[bytes, ...]  # of an EXEC: the queued commands
    keys: tuple[bytes, ...]  # templates, sorted
    error: str
    when: str
    count: int
    first_ts: int
    last_ts: int
    examples: tuple[Example, ...]


@dataclass(frozen=True)
class TargetReport:
    """One target's verdict, the reason in a sentence, and its findings, worst and most frequent first."""

    target: str
    verdict: Verdict
    reason: str
    counts: dict[str, int]  # severity to occurrences
    findings: tuple[FindingGroup, ...]


@dataclass(frozen=True)
class Overview:
    """What was captured. Times in ns since the epoch, UTC; 0 in an empty capture."""

    first_ts: int
    last_ts: int
    commands: int
    connections: int
    clients: int
    runs: int
    gaps: int
    gap_rows: int
    request_bytes: int
    reply_bytes: int
    backends: tuple[str, ...]


@dataclass(frozen=True)
class Times:
    """A distribution. ns; quantiles within 1 %, the maximum exact."""

    count: int
    total_ns: int
    p50_ns: int
    p99_ns: int
    p999_ns: int
    max_ns: int


@dataclass(frozen=True)
class CommandLine:
    """One command's totals. ``service`` leaves out blocking and queued exchanges, ``wait`` holds the blocking ones."""

    command: bytes
    count: int
    errors: int
    queued: int
    request_bytes: int
    reply_bytes: int
    service: Times | None
    wait: Times | None


@dataclass(frozen=True)
class ExchangeLine:
    """One exchange that stands out."""

    ts: int
    example: Example
    command: bytes
    key: bytes
    latency_ns: int
    request_bytes: int
    reply_bytes: int


@dataclass(frozen=True)
class ErrorLine:
    """Error replies of one kind (their first word) to one command."""

    error: bytes
    command: bytes
    count: int
    first_ts: int
    last_ts: int


@dataclass(frozen=True)
class KeyLine:
    """One key. ``bytes``: of requests and replies; a command's are shared out evenly among its keys."""

    key: bytes
    count: int
    bytes: int


@dataclass(frozen=True)
class ClientLine:
    """Connections from one address (without port) under one name."""

    addr: bytes
    name: bytes
    connections: int
    commands: int
    bytes: int


@dataclass(frozen=True)
class Selection:
    """The filter that a report's exchanges passed, and what it left out. ``doubtful``: left out, and it can't be told
    whether they are wanted. ``torn``: transactions that are here in part, but without their EXEC."""

    where: str
    exchanges: int
    gaps: int
    doubtful: int
    torn: int


@dataclass(frozen=True)
class RehearsedLine:
    """Refusals in rehearsal of one command. ``queued``: the error stands in EXEC's reply, ``error`` is empty then."""

    command: bytes
    error: bytes  # its first word
    queued: bool
    count: int
    first_ts: int
    last_ts: int


@dataclass(frozen=True)
class Report:
    """A whole report."""

    overview: Overview
    targets: tuple[TargetReport, ...]
    losses: tuple[str, ...]
    commands: tuple[CommandLine, ...]  # by total service time, longest first
    slowest: tuple[ExchangeLine, ...]
    errors: tuple[ErrorLine, ...]
    biggest_requests: tuple[ExchangeLine, ...]
    biggest_replies: tuple[ExchangeLine, ...]
    hot_keys: tuple[KeyLine, ...]
    heavy_keys: tuple[KeyLine, ...]
    clients: tuple[ClientLine, ...]
    more: dict[str, int]  # table name to rows left out
    remedies: Remedies = NO_REMEDIES
    selection: Selection | None = None  # None: of the whole capture
    rehearsed: tuple[RehearsedLine, ...] = ()

    @property
    def verdict(self) -> Verdict:
        return worst([target.verdict for target in self.targets])
