"""Findings while the traffic runs: counts by rule, for the metrics and the live line.

Knows: how to try all rules on a batch cheaply: a mask leaves the candidates, these are counted by what rules can
see of them, and each different kind is judged once. Refuses to know: single findings; a report on the
capture has those. What a rule needs the whole capture for (``watch_apart``, script bodies) is left out here.
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache

import pyarrow as pa
import pyarrow.compute as pc

from proxy.capture.predicate import Equal, OneOf
from proxy.report.rules import CANDIDATE, DERIVED, TARGETS, Rule, Severity

_COLUMNS = ["command", "error", "flags", "slot", "unknown", "nkeys", "txn"]
_DB_0 = Equal("db", 0)
_IS_GAP = ~OneOf("gap", [b""])
_SELECT = OneOf("command", [b"SELECT"])
_SUBSCRIBE = OneOf("command", [b"SUBSCRIBE", b"PSUBSCRIBE"])
#: Typed scalars: out of a bare number pyarrow would look for numpy on the disk, each time.
_CUT = {"nkeys": pa.scalar(1, pa.int32()), "txn": pa.scalar(1, pa.int64()), "slot": pa.scalar(0, pa.int16())}
_MEMORY = {
    pa.int32(): ("i", 4),
    pa.uint32(): ("I", 4),
    pa.int16(): ("h", 2),
    pa.uint8(): ("B", 1),
    pa.int64(): ("q", 8),
}
_SELECT_RULE, _USE_RULE, _ARGS_RULE = "select-database", "database-in-use", "keyspace-notifications"

#: What rules can see of a row, in the order of _COLUMNS.
_Kind = tuple[bytes, bytes, int, int, int, int, int]


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
        if _has_bytes(batch.column("gap")):
            gaps = _IS_GAP.mask(batch)
            self._counts["gap"] += gaps.true_count
            batch = batch.filter(pc.invert(gaps))
        candidates = CANDIDATE.mask(batch)
        if candidates.true_count:
            self._count(batch, candidates)
        elsewhere = pc.invert(_DB_0.mask(batch))
        if elsewhere.true_count:
            self._count_databases(batch.select(["conn", "command"]).filter(elsewhere))

    def _count(self, batch: pa.RecordBatch, candidates: pa.BooleanArray) -> None:
        for kind, rows in _kinds(batch.select(_COLUMNS).filter(candidates)).items():
            for rule in _judge(self._rules, kind):
                self._counts[rule] += rows
                if rule == _SELECT_RULE:
                    selects = batch.select(["conn", "command"]).filter(candidates)
                    chosen = selects.column("conn").filter(_SELECT.mask(selects))
                    self._elsewhere.update(pc.unique(chosen).to_pylist())
            if kind[0] in _SUBSCRIBE.values:
                self._count_subscriptions(batch.select(["command", "args", "error", "flags"]).filter(candidates), kind)

    def _count_subscriptions(self, rows: pa.RecordBatch, kind: _Kind) -> None:
        """Subscriptions of one kind: those to keyspace notifications. They are rare, and looked at one by one."""
        if _ARGS_RULE not in _judge(self._rules, kind, notifications=1):
            return
        for row in rows.to_pylist():
            same = (row["command"], row["error"], row["flags"]) == kind[:3]
            self._counts[_ARGS_RULE] += same and names_notifications(row["args"])

    def _count_databases(self, rows: pa.RecordBatch) -> None:
        """Connections in another database that were not seen to select it."""
        conns = set(pc.unique(rows.column("conn")).to_pylist()) - self._elsewhere
        if conns:
            self._elsewhere |= conns
            self._counts[_USE_RULE] += len(conns)


def _kinds(rows: pa.RecordBatch) -> Counter[_Kind]:
    """How many rows look the same to the rules. Numbers that rules only compare with 0 are cut to 0 and 1."""
    names = [rows.column(name).dictionary_encode() for name in ("command", "error")]
    cut = [pc.min_element_wise(rows.column(name), _CUT[name]) for name in ("nkeys", "txn")]
    slots = pc.min_element_wise(rows.column("slot"), _CUT["slot"])
    columns = [*(name.indices for name in names), rows.column("flags"), slots]
    counted = Counter(zip(*map(_ints, (*columns, rows.column("unknown"), *cut)), strict=True))
    commands, errors = (name.dictionary.to_pylist() for name in names)
    kinds: Counter[_Kind] = Counter()
    for (command, error, *numbers), count in counted.items():
        kinds[(commands[command], errors[error], *numbers)] += count
    return kinds


@lru_cache(maxsize=4096)
def _judge(rules: tuple[Rule, ...], kind: _Kind, notifications: int = 0) -> tuple[str, ...]:
    """The rules that hold for exchanges of this kind."""
    row = dict(zip(_COLUMNS, kind, strict=True)) | dict.fromkeys(DERIVED, 0)
    row |= {"gap": b"", "notifications": notifications}
    return tuple(rule.id for rule in rules if not rule.reads_gaps and rule.predicate.matches(row))


def _ints(column: pa.Array) -> list[int]:
    """An integer column without nulls; much faster than ``to_pylist``."""
    code, width = _MEMORY[column.type]
    start = column.offset * width
    view = memoryview(column.buffers()[1])[start : start + len(column) * width]
    return view.cast("B").cast(code).tolist()  # type: ignore[call-overload,no-any-return]


def _has_bytes(column: pa.Array) -> bool:
    """Whether any value of a binary column is not empty."""
    if not len(column):
        return False
    offsets = memoryview(column.buffers()[1]).cast("B").cast("i")
    return bool(offsets[column.offset] != offsets[column.offset + len(column)])


def names_notifications(args: list[bytes]) -> bool:
    """Whether a subscription's arguments name a channel of keyspace or keyevent notifications."""
    return any(arg.startswith((b"__keyspace@", b"__keyevent@")) for arg in args)
