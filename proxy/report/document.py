"""The nouns of a finished report. Pure data: nothing in it knows how it is made or printed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from proxy.capture.mirrored import Mirrored
from proxy.report.costs import NO_COSTS, Costs
from proxy.report.load import NO_HEAT, NO_LOAD, NO_TIMELINE, LatencyHeat, SlotLoad, Timeline
from proxy.report.remedies import NO_REMEDIES, Remedies
from proxy.report.rules import Change, Severity
from proxy.report.rules.advice import Example
from proxy.report.scripts import ScriptLine
from proxy.report.sidekiq import NO_SIDEKIQ, Sidekiq


class Verdict(Enum):
    """What a report says of one target."""

    COMPATIBLE = "compatible"
    AFTER_CHANGES = "compatible after changes"
    NOT_COMPATIBLE = "not compatible"
    CANNOT_TELL = "can't tell"

    @property
    def exit_code(self) -> int:
        """0 compatible, 1 not compatible (as it is), 3 can't tell."""
        return {Verdict.COMPATIBLE: 0, Verdict.CANNOT_TELL: 3}.get(self, 1)

    def words(self, changes: int = 0) -> str:
        """The verdict as it is said. ``changes``: how many call sites have to be changed."""
        if self is not Verdict.AFTER_CHANGES:
            return str(self.value)
        return f"compatible after {changes:,} {'change' if changes == 1 else 'changes'}"


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict that decides the exit code: not compatible, after changes, can't tell, compatible."""
    order = (Verdict.NOT_COMPATIBLE, Verdict.AFTER_CHANGES, Verdict.CANNOT_TELL, Verdict.COMPATIBLE)
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
    blocks: bool = False  # keeps the target from being compatible
    change: Change = Change.APPLICATION  # who can make it go away
    remedy: str = ""  # how
    whose: str = ""  # an operation of Sidekiq; empty: the application's own
    follows: bool = False  # goes away with another finding: no change of its own


@dataclass(frozen=True)
class TargetReport:
    """One target's verdict, the reason in a sentence, and its findings, worst and most frequent first.

    ``changes``: call sites (groups of findings) that must be changed before it is compatible.
    """

    target: str
    verdict: Verdict
    reason: str
    counts: dict[str, int]  # severity to occurrences
    findings: tuple[FindingGroup, ...]
    title: str = ""
    changes: int = 0

    @property
    def words(self) -> str:
        """The verdict as it is said."""
        return self.verdict.words(self.changes)


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
class TargetLine:
    """One target's verdict in short, of the table of all.

    ``counts``: severity to occurrences; ``fixed``: occurrences that block and that nobody can change.
    """

    target: str
    title: str
    kind: str
    words: str
    exit_code: int
    changes: int
    counts: dict[str, int]
    fixed: int
    reason: str


@dataclass(frozen=True)
class Way:
    """One way. ``answer``: its best verdict in words. ``targets``: those with that verdict."""

    id: str
    title: str
    answer: str
    targets: tuple[str, ...]
    evidence: tuple[str, ...]
    cost: str


@dataclass(frozen=True)
class Ways:
    """All three, and every target's verdict, best first."""

    ways: tuple[Way, ...]
    targets: tuple[TargetLine, ...]


NO_WAYS = Ways((), ())


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
    scripts: tuple[ScriptLine, ...] = ()
    costs: Costs = NO_COSTS
    selection: Selection | None = None  # None: of the whole capture
    timeline: Timeline = NO_TIMELINE
    latency_heat: LatencyHeat = NO_HEAT
    slot_load: SlotLoad = NO_LOAD
    ways: Ways = NO_WAYS
    sidekiq: Sidekiq = NO_SIDEKIQ
    rehearsed: tuple[RehearsedLine, ...] = ()
    mirrored: tuple[Mirrored, ...] = ()

    @property
    def verdict(self) -> Verdict:
        return worst([target.verdict for target in self.targets])

    @property
    def words(self) -> str:
        """The worst target's verdict as it is said."""
        verdict = self.verdict
        return verdict.words(max(target.changes for target in self.targets if target.verdict is verdict))
