"""The nouns of what a report says of Sidekiq. Pure data: nothing in it knows how it is found, judged or printed.

Times are ns since the epoch, UTC; 0: never. Sizes are bytes. None: not known.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from proxy.capture.facts import BackendFacts
from proxy.report.rules.advice import Advice, Example


@dataclass(frozen=True)
class Spread:
    """A distribution: quantiles within 2 %, the maximum exact."""

    count: int
    p50: int
    p99: int
    max: int


@dataclass(frozen=True)
class DepthPoint:
    """A queue in one step of the time line: jobs pushed and fetched in it, highest and last depth."""

    ts: int
    pushed: int
    fetched: int
    high: int | None
    last: int | None


@dataclass(frozen=True)
class QueueLine:
    """One queue. ``pushes``: commands; ``pushed``: jobs, of those commands whose number of jobs is known; put back by a
    stopping worker: ``requeued``. ``unseen_in``, ``unseen_out``: jobs that must have come or gone past shunt.

    ``listened``: a fetch asked for it. ``depth``: at the end; ``relative``: the same, counted from the start, where
    the depth then is not known (but ``at_least`` jobs are in it at the end). ``line`` is relative as well then."""

    namespace: bytes
    name: bytes
    db: int = 0
    pushes: int = 0
    pushed: int = 0
    unknown_pushes: int = 0
    requeued: int = 0
    fetched: int = 0
    removed: int = 0
    unseen_in: int = 0
    unseen_out: int = 0
    listened: bool = False
    depth: int | None = None
    relative: int | None = None
    at_least: int | None = None
    highest: int | None = None
    wait_ns: Spread | None = None
    job_bytes: Spread | None = None
    big_jobs: int = 0
    peak_pushed_per_s: int = 0
    peak_fetched_per_s: int = 0
    first_push_ts: int = 0
    last_push_ts: int = 0
    pushers: tuple[bytes, ...] = ()
    example: Example | None = None
    line: tuple[DepthPoint, ...] = ()

    @property
    def key(self) -> bytes:
        """The list's name in Redis."""
        prefix = self.namespace + b":" if self.namespace else b""
        return prefix + b"queue:" + self.name


@dataclass(frozen=True)
class JobLine:
    """One class of jobs, out of payloads. ``retries``: times that a job of it was set aside to be tried again."""

    namespace: bytes
    name: bytes
    count: int
    bytes: Spread | None
    per_minute: float
    retries: int = 0
    scheduled: int = 0
    dead: int = 0


@dataclass(frozen=True)
class ProcessLine:
    """One Sidekiq process, out of its heartbeats. ``interval_ns``: between two of them, usually; ``silence_ns``: the
    longest. ``ended_ts``: it signed off. ``lost_fetches``: fetches that still waited when their connection ended, of
    connections that this process has sent heartbeats on or that share its address.

    ``told``: whether the rest was told: it stands in the heartbeat's own text, in captures with all arguments."""

    namespace: bytes
    identity: bytes
    address: bytes
    beats: int
    first_ts: int
    last_ts: int
    interval_ns: int | None = None
    silence_ns: int = 0
    ended_ts: int = 0
    lost_fetches: int = 0
    told: bool = False
    hostname: str = ""
    pid: int = 0
    tag: str = ""
    version: str = ""
    concurrency: int = 0
    queues: tuple[str, ...] = ()
    started_ts: int = 0


@dataclass(frozen=True)
class CallerLine:
    """Connections from one address (without port) under one name. ``at_once``: the most at a time; ``opened``: during
    the capture, ``short``: of these, closed again after at most SHORT_COMMANDS commands. ``blocking``: connections
    that wait for jobs. ``lost_fetches``, ``undelivered``: fetches whose connection ended before their reply, and whose
    reply came when the client had gone."""

    address: bytes
    name: bytes
    connections: int
    at_once: int
    opened: int
    short: int
    commands: int
    blocking: int = 0
    fetches: int = 0
    fetched: int = 0
    pushes: int = 0
    lost_fetches: int = 0
    undelivered: int = 0
    example: Example | None = None


@dataclass(frozen=True)
class SetLine:
    """One of the sorted sets schedule, retry, dead: jobs put in; jobs taken out to be run; looks at it."""

    namespace: bytes
    role: str
    added: int
    taken: int
    polls: int
    unknown_adds: int = 0


@dataclass(frozen=True)
class NamespaceLine:
    """A prefix under which Sidekiq's keys were seen; empty: none."""

    namespace: bytes
    pushes: int
    fetches: int
    processes: int


@dataclass(frozen=True)
class RoundTrip:
    """Time from a command to its reply, as shunt measures it: of PING, SADD and LPUSH. ns."""

    p50_ns: int
    p99_ns: int
    count: int


@dataclass(frozen=True)
class Sidekiq:
    """Everything that a report says of Sidekiq. ``jobs`` None: the capture has no arguments.

    ``rooms``: what shared mode would need of backend connections: those that wait for jobs, and a few. ``at_once``:
    the most connections at a time in this capture."""

    first_ts: int = 0
    last_ts: int = 0
    namespaces: tuple[NamespaceLine, ...] = ()
    queues: tuple[QueueLine, ...] = ()
    jobs: tuple[JobLine, ...] | None = None
    sets: tuple[SetLine, ...] = ()
    processes: tuple[ProcessLine, ...] = ()
    callers: tuple[CallerLine, ...] = ()
    at_once: int = 0
    blocking: int = 0
    opened: int = 0
    fetches: int = 0
    round_trip: RoundTrip | None = None
    facts: tuple[BackendFacts, ...] = ()
    advice: tuple[Advice, ...] = ()
    partial: bool = False  # a filter has left out a part of the capture
    more: dict[str, int] = field(default_factory=dict)  # table to rows left out

    @property
    def seconds(self) -> float:
        """How long the capture is."""
        return (self.last_ts - self.first_ts) / 1e9


#: Nothing was seen.
NO_SIDEKIQ = Sidekiq()
