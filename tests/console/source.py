"""A worker that is not there: a ``Source`` whose numbers a test sets."""

from __future__ import annotations

from dataclasses import dataclass, field

from proxy.engine.stats import BUCKET_BOUNDS_NS, BUCKETS, CommandStats, EngineStats
from proxy.net.pool import PoolStats


@dataclass
class Written:
    rows: int = 7
    bytes: int = 2_500_000
    segments: int = 2
    deleted_segments: int = 1
    gaps: int = 0
    gap_rows: int = 0
    failing: str | None = None


@dataclass
class FakeSource:
    stats: EngineStats = field(default_factory=EngineStats)
    written: Written | None = None
    found: dict[str, int] = field(default_factory=dict)
    up: bool = True
    drains: bool = False
    counted: dict[str, int] = field(default_factory=dict)
    pooled: PoolStats | None = None
    held: dict[str, int] = field(default_factory=dict)

    def engine(self) -> EngineStats:
        return self.stats

    def capture(self) -> Written | None:
        return self.written

    def findings(self) -> dict[str, int]:
        return self.found

    def clients(self) -> int:
        return 3

    def pool(self) -> PoolStats | None:
        return self.pooled

    def backends(self) -> int:
        return 4

    def backend_up(self) -> bool:
        return self.up

    def draining(self) -> bool:
        return self.drains

    def held_classes(self) -> dict[str, int]:
        return self.held

    def counters(self) -> dict[str, int]:
        return self.counted


@dataclass
class FakeWorkforce:
    """Workers that are not there."""

    runs: int = 2
    lost: list[str] = field(default_factory=list)
    pids: dict[str, int] = field(default_factory=dict)
    refreshed: int = 0

    async def refresh(self) -> None:
        self.refreshed += 1

    def running(self) -> int:
        return self.runs

    def serving(self) -> int:
        return self.runs

    def missing(self) -> list[str]:
        return self.lost

    def restarts(self) -> dict[str, int]:
        return {"died": 1, "reload": 4}

    def processes(self) -> dict[str, int]:
        return self.pids


def command(name: str, *latencies_ns: int, waits_ns: tuple[int, ...] = (), errors: int = 0) -> CommandStats:
    """The statistics after commands that took so long."""
    stats = CommandStats(name, count=len(latencies_ns) + len(waits_ns), errors=errors)
    for latencies, buckets in ((latencies_ns, stats.service_buckets), (waits_ns, stats.wait_buckets)):
        for latency_ns in latencies:
            buckets[bucket(latency_ns)] += 1
    stats.service_ns = sum(latencies_ns)
    stats.wait_ns = sum(waits_ns)
    return stats


def bucket(latency_ns: int) -> int:
    return next((i for i, bound in enumerate(BUCKET_BOUNDS_NS) if latency_ns < bound), BUCKETS - 1)
