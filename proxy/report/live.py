"""Findings while the traffic runs: counts by rule, for the metrics and the live line.

Knows: how to try all rules on a batch at once, on Arrow columns. Refuses to know: single findings; a report on the
capture has those. What a rule needs the whole capture for (``watch_apart``, script bodies) is left out here.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from proxy.report.predicate import Equal, OneOf
from proxy.report.rules import CANDIDATE, DERIVED, TARGETS, Severity

_COLUMNS = ("command", "flags", "slot", "unknown", "nkeys", "txn", "error", "gap", "args")
_SUBSCRIBE = OneOf("command", [b"SUBSCRIBE", b"PSUBSCRIBE"])
_GAP = ~OneOf("gap", [b""])
_DB_0 = Equal("db", 0)
_SELECT = OneOf("command", [b"SELECT"])


class LiveFindings:
    """A consumer of batches. ``consume`` costs a few array operations where nothing is found, and never raises."""

    def __init__(self, target: str = "redis-cluster") -> None:
        self._rules = TARGETS[target].rules
        self._counts = {rule.id: 0 for rule in self._rules}
        self._elsewhere: set[int] = set()  # connections whose database has been reported, by SELECT or by use
        self.failed_batches = 0

    def consume(self, batch: pa.RecordBatch) -> None:
        """Count the findings of one batch. What cannot be judged is counted in ``failed_batches``."""
        try:
            self._consume(batch)
        except Exception:  # bookkeeping must never reach the client's path
            self.failed_batches += 1

    def counts(self) -> dict[str, int]:
        """Occurrences so far by rule, zeros included."""
        return dict(self._counts)

    def severities(self) -> dict[str, int]:
        """Occurrences so far by severity, zeros included."""
        totals = dict.fromkeys(map(str, Severity), 0)
        for rule in self._rules:
            totals[rule.severity] += self._counts[rule.id]
        return totals

    def _consume(self, batch: pa.RecordBatch) -> None:
        if not batch.num_rows:
            return
        gaps = _GAP.mask(batch)
        if gaps.true_count:
            self._count(batch.filter(gaps), gap=True)
            batch = batch.filter(pc.invert(gaps))
        candidates = CANDIDATE.mask(batch)
        if candidates.true_count:
            self._count(batch.filter(candidates), gap=False)
        elsewhere = pc.invert(_DB_0.mask(batch))
        if elsewhere.true_count:
            self._count_databases(batch.filter(elsewhere))

    def _count(self, rows: pa.RecordBatch, *, gap: bool) -> None:
        columns: dict[str, pa.Array] = {name: rows.column(name) for name in _COLUMNS}
        columns |= {name: _zeros(rows.num_rows) for name in DERIVED}
        columns["notifications"] = _notifications(rows)
        for rule in self._rules:
            if rule.reads_gaps == gap:
                mask = rule.predicate.mask(columns)
                self._counts[rule.id] += mask.true_count
                if rule.id == "select-database" and mask.true_count:
                    self._elsewhere.update(pc.unique(rows.column("conn").filter(mask)).to_pylist())

    def _count_databases(self, rows: pa.RecordBatch) -> None:
        """Connections in another database that were not seen to select it."""
        conns = set(pc.unique(rows.column("conn")).to_pylist()) - self._elsewhere
        if not conns:
            return
        self._elsewhere |= conns
        selecting = set(pc.unique(rows.column("conn").filter(_SELECT.mask(rows))).to_pylist())
        self._counts["database-in-use"] += len(conns - selecting)


def _zeros(count: int) -> pa.Array:
    return pa.repeat(pa.scalar(0, pa.uint8()), count)


def _notifications(rows: pa.RecordBatch) -> pa.Array:
    """The column of that name. Subscriptions are rare: they are looked at one by one."""
    mask = _SUBSCRIBE.mask(rows)
    if not mask.true_count:
        return _zeros(rows.num_rows)
    args = rows.column("args")
    return pa.array(
        [int(hit and names_notifications(args[i].as_py())) for i, hit in enumerate(mask.to_pylist())], pa.uint8()
    )


def names_notifications(args: list[bytes]) -> bool:
    """Whether a subscription's arguments name a channel of keyspace or keyevent notifications."""
    return any(arg.startswith((b"__keyspace@", b"__keyevent@")) for arg in args)
