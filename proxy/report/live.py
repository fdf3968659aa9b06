"""Findings while the traffic runs: counts by rule, for the metrics and the live line.

Knows: how to try all rules on a batch cheaply: a mask leaves the candidates, these are counted by what rules can
see of them, and each different kind is judged once. Refuses to know: single findings; a report on the
capture has those. What a rule needs the whole capture for (``watch_apart``, script bodies) is left out here.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from functools import lru_cache

import pyarrow as pa
import pyarrow.acero  # group_by would load it at the first finding, in a client's time
import pyarrow.compute as pc

from proxy.capture.predicate import Equal, OneOf
from proxy.report.rules import DERIVED, Rule, Severity, candidates, rules_of
from proxy.report.targets import DEFAULT

_COLUMNS = ["command", "error", "flags", "slot", "unknown", "nkeys", "txn"]
_DB_0 = Equal("db", 0)
_IS_GAP = ~OneOf("gap", [b""])
_SELECT = OneOf("command", [b"SELECT"])
_SUBSCRIBE = OneOf("command", [b"SUBSCRIBE", b"PSUBSCRIBE"])
#: Typed scalars: out of a bare number pyarrow would look for numpy on the disk, each time.
_CUT = {"nkeys": pa.scalar(1, pa.int32()), "txn": pa.scalar(1, pa.int64()), "slot": pa.scalar(0, pa.int16())}
#: Rows that are judged at once: no client waits for longer than that takes.
_PIECE_ROWS = 16384
#: Rows that are grouped at once: what is larger than the processor's cache takes several times as long a row.
_GROUP_ROWS = 8192
_SELECT_RULE, _USE_RULE, _ARGS_RULE = "select-database", "database-in-use", "keyspace-notifications"

#: What rules can see of a row, in the order of _COLUMNS.
_Kind = tuple[bytes, bytes, int, int, int, int, int]


class LiveFindings:
    """A consumer of batches. They wait to be judged: a piece at a time (``judge_next``), and all when somebody asks.
    A piece costs a few array operations where nothing is found. Nothing here ever raises.

    ``target``: an id or alias; TargetError: there is none of that name. Slots are those that the engine computes: keys
    with odd braces, which another slot function puts elsewhere, are judged by the report alone.
    """

    def __init__(self, target: str = DEFAULT) -> None:
        self._rules = rules_of(target)
        self._candidates = candidates([target])
        self._severity = {rule.id: rule.severity for rule in self._rules}
        self._counts = {rule.id: 0 for rule in self._rules}
        self._elsewhere: set[int] = set()  # connections whose database has been reported, by SELECT or by use
        self._waiting: deque[pa.RecordBatch] = deque()
        self._failed = 0

    def consume(self, batch: pa.RecordBatch) -> None:
        """Take a batch."""
        if batch.num_rows <= _PIECE_ROWS:
            self._waiting.append(batch)
            return
        self._waiting.extend(batch.slice(start, _PIECE_ROWS) for start in range(0, batch.num_rows, _PIECE_ROWS))

    def judge_next(self) -> bool:
        """Count the findings of one piece; whether more wait. What cannot be judged is counted in ``failed``."""
        if self._waiting:
            try:
                self._judge(self._waiting.popleft())
            except Exception:  # bookkeeping must never reach the client's path
                self._failed += 1
        return bool(self._waiting)

    def judge_on(self, later: Callable[..., object]) -> None:
        """Judge a piece now and the others later: ``later(f, x)`` calls f(x) when others have had their turn."""
        if self.judge_next():
            later(self.judge_on, later)

    def failed(self) -> int:
        """Pieces of batches that could not be judged."""
        self._judge_all()
        return self._failed

    def counts(self) -> dict[str, int]:
        """Occurrences so far by rule, zeros included."""
        self._judge_all()
        return dict(self._counts)

    def severities(self) -> dict[str, int]:
        """Occurrences so far by severity, zeros included."""
        totals = dict.fromkeys(map(str, Severity), 0)
        for rule, count in self.counts().items():
            totals[self._severity[rule]] += count
        return totals

    def _judge_all(self) -> None:
        while self.judge_next():
            pass

    def _judge(self, batch: pa.RecordBatch) -> None:
        if _has_bytes(batch.column("gap")):
            gaps = _IS_GAP.mask(batch)
            self._counts["gap"] += gaps.true_count
            batch = batch.filter(pc.invert(gaps))
        candidates = self._candidates.mask(batch)
        if candidates.true_count:
            self._count(batch, candidates)
        elsewhere = pc.invert(_DB_0.mask(batch))
        if _USE_RULE in self._counts and elsewhere.true_count:
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
    cut = [
        pc.min_element_wise(rows.column(name), _CUT[name]) if name in _CUT else rows.column(name) for name in _COLUMNS
    ]
    table = pa.table(cut, names=_COLUMNS)
    kinds: Counter[_Kind] = Counter()
    for start in range(0, len(table), _GROUP_ROWS):
        grouped = table.slice(start, _GROUP_ROWS).group_by(_COLUMNS, use_threads=False).aggregate([([], "count_all")])
        for *kind, count in zip(*(column.to_pylist() for column in grouped.columns), strict=True):
            kinds[tuple(kind)] += count
    return kinds


@lru_cache(maxsize=4096)
def _judge(rules: tuple[Rule, ...], kind: _Kind, notifications: int = 0) -> tuple[str, ...]:
    """The rules that hold for exchanges of this kind."""
    row = dict(zip(_COLUMNS, kind, strict=True)) | dict.fromkeys(DERIVED, 0)
    row |= {"gap": b"", "notifications": notifications}
    return tuple(rule.id for rule in rules if not rule.reads_gaps and rule.predicate.matches(row))


def _has_bytes(column: pa.Array) -> bool:
    """Whether any value of a binary column is not empty."""
    if not len(column):
        return False
    offsets = memoryview(column.buffers()[1]).cast("B").cast("i")
    return bool(offsets[column.offset] != offsets[column.offset + len(column)])


def names_notifications(args: list[bytes]) -> bool:
    """Whether a subscription's arguments name a channel of keyspace or keyevent notifications."""
    return any(arg.startswith((b"__keyspace@", b"__keyevent@")) for arg in args)
