"""The numbers of several workers as one, those of workers that are gone included.

Knows: what is added up, and that a gauge ends with its worker while a total stays. Refuses to know: processes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace

from proxy.capture.writer import CaptureStats
from proxy.engine.stats import EngineStats, merged
from proxy.net.pool import PoolStats


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one worker had to tell at one moment: the answers of a ``console.metrics.Source``."""

    engine: EngineStats = field(default_factory=EngineStats)
    capture: CaptureStats | None = None
    findings: dict[str, int] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)
    clients: int = 0
    backends: int = 0
    pool: PoolStats | None = None
    backend_up: bool = False
    draining: bool = False
    held_classes: dict[str, int] = field(default_factory=dict)


def together(parts: Iterable[Snapshot]) -> Snapshot:
    """Several workers as one. The backend is up if it is for one of them."""
    parts = list(parts)
    return Snapshot(
        engine=merged(part.engine for part in parts),
        capture=_capture([part.capture for part in parts if part.capture is not None]),
        findings=by_key(part.findings for part in parts),
        counters=by_key(part.counters for part in parts),
        clients=sum(part.clients for part in parts),
        backends=sum(part.backends for part in parts),
        pool=_pool([part.pool for part in parts if part.pool is not None]),
        backend_up=any(part.backend_up for part in parts),
        draining=any(part.draining for part in parts),
        held_classes=by_key(part.held_classes for part in parts),
    )


def left_behind(last: Snapshot) -> Snapshot:
    """What stays of a worker that is gone: its totals, without what was true only while it lived."""
    capture = None if last.capture is None else replace(last.capture, failing=None, queued_bytes=0)
    pool = None if last.pool is None else replace(last.pool, shared=0, private=0, idle=0, waiting=0)
    return replace(
        last, capture=capture, pool=pool, clients=0, backends=0, backend_up=False, draining=False, held_classes={}
    )


def _pool(parts: list[PoolStats]) -> PoolStats | None:
    if not parts:
        return None
    return PoolStats(**{each.name: sum(getattr(part, each.name) for part in parts) for each in fields(PoolStats)})


def by_key(parts: Iterable[dict[str, int]]) -> dict[str, int]:
    """The sum of each key's values."""
    total: dict[str, int] = {}
    for part in parts:
        for key, count in part.items():
            total[key] = total.get(key, 0) + count
    return total


def share(total: int | None, index: int, workers: int) -> int | None:
    """One worker's part of a limit. The parts add up to it, and none is 0 unless the limit is below ``workers``."""
    return None if total is None else total // workers + (index < total % workers)


def _capture(parts: list[CaptureStats]) -> CaptureStats | None:
    if not parts:
        return None
    numbers = {
        each.name: sum(getattr(part, each.name) for part in parts)
        for each in fields(CaptureStats)
        if each.name != "failing"
    }
    return CaptureStats(**numbers, failing=next((part.failing for part in parts if part.failing is not None), None))
