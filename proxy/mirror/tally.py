"""What the comparison of reads has found so far, by command and pattern of the key.

Knows: counts, and how those of several workers add up. Refuses to know: replies, and how patterns are made.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field

from proxy.engine.stats import BUCKET_BOUNDS_NS, BUCKETS, quantile_ns
from proxy.mirror.compare import Seen

#: Rows that are told apart; later ones are one row.
MOST_ROWS = 500
OTHERS = "(other patterns)"
Key = tuple[str, str]


@dataclass(slots=True)
class Row:
    """One command on one pattern of keys. ``again``: how often the source itself was asked a second time, and
    ``again_differed``: answered something else then: the noise floor. ``shapes``: how the replies differed. Latencies
    are counts by the engine's buckets; the source's as its client saw it, the target's on a connection of shunt's."""

    compared: int = 0
    differed: int = 0
    again: int = 0
    again_differed: int = 0
    source_bytes: int = 0
    target_bytes: int = 0
    shapes: Counter[str] = field(default_factory=Counter)
    target_errors: Counter[str] = field(default_factory=Counter)
    source_ns: list[int] = field(default_factory=lambda: [0] * BUCKETS)
    target_ns: list[int] = field(default_factory=lambda: [0] * BUCKETS)

    def add(self, other: Row) -> None:
        for name in ("compared", "differed", "again", "again_differed", "source_bytes", "target_bytes"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.shapes.update(other.shapes)
        self.target_errors.update(other.target_errors)
        self.source_ns = [one + two for one, two in zip(self.source_ns, other.source_ns, strict=True)]
        self.target_ns = [one + two for one, two in zip(self.target_ns, other.target_ns, strict=True)]

    @property
    def noise(self) -> float | None:
        """The share of second questions that the source answered otherwise; None: it was not asked."""
        return self.again_differed / self.again if self.again else None


def ms(buckets: list[int], share: float) -> float | None:
    """A quantile in milliseconds; None where nothing was counted."""
    return round(quantile_ns(buckets, share) / 1e6, 3) if any(buckets) else None


class Tally:
    """All rows."""

    def __init__(self) -> None:
        self.rows: dict[Key, Row] = {}

    def row(self, command: str, pattern: str) -> Row:
        key = (command, pattern)
        if key not in self.rows and len(self.rows) >= MOST_ROWS:
            key = (command, OTHERS)
        return self.rows.setdefault(key, Row())

    def compared(self, row: Row, same: bool, source: Seen, target: Seen, source_ns: int, target_ns: int) -> None:
        """One read, answered by both."""
        row.compared += 1
        row.source_bytes += source.size
        row.target_bytes += target.size
        row.source_ns[_bucket(source_ns)] += 1
        row.target_ns[_bucket(target_ns)] += 1
        if same:
            return
        row.differed += 1
        if target.error and not source.error:
            row.target_errors[target.error] += 1
        shape = f"{source.kind} → {target.kind}"
        if source.kind == target.kind:
            shape = f"another {source.kind}" + ("" if source.size == target.size else ", another size")
        row.shapes[shape] += 1

    def add(self, rows: dict[Key, Row]) -> None:
        for (command, pattern), row in rows.items():
            self.row(command, pattern).add(row)


def _bucket(ns: int) -> int:
    return min(bisect_left(BUCKET_BOUNDS_NS, ns), BUCKETS - 1)
