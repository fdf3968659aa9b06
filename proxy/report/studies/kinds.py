"""Kinds of candidates: rows that no rule can tell apart, counted once for all targets; and the findings made of them.

Knows: which columns rules look at, and how coarsely. Refuses to know: what a rule says, and how candidates come to be
(``studies.judging`` makes the tables ``judged``, ``findings`` and ``members``).

Judging a target costs a pass over its rules and the kinds, not over the rows: any number of targets are judged at the
price of one. Keys are folded to templates; an EXEC has the keys and commands of its transaction.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from proxy.capture.format import SLOT_NONE, Flag
from proxy.capture.predicate import Predicate
from proxy.report import chunks
from proxy.report.document import FindingGroup
from proxy.report.rules import Rule
from proxy.report.rules.advice import Example
from proxy.report.rules.sidekiq_traffic import shape_of
from proxy.report.study import Database

_FLAGS = int(
    Flag.REPLIED_BY_PROXY | Flag.QUEUED | Flag.SCRIPT | Flag.TXN_CROSS | Flag.TXN_REFUSED | Flag.TXN_UNKNOWN
    | Flag.TXN_REFUSED_DB | Flag.FOREIGN_DB | Flag.SORT_PATTERN
)  # fmt: skip
_TXN = int(Flag.TXN_CROSS | Flag.TXN_REFUSED | Flag.TXN_UNKNOWN | Flag.TXN_REFUSED_DB)
_ERRORS = "'ERR'::BLOB, 'NOAUTH'::BLOB, 'NOPERM'::BLOB, 'NOSCRIPT'::BLOB, 'EXECABORT'::BLOB"

#: Column and its values as rules tell them apart.
_TOLD = {
    "command": "command",
    "txn": f"(flags & {int(Flag.QUEUED)} <> 0 OR txn > 0)::BIGINT",
    "unknown": "unknown",
    "gap": "gap",
    "slot": "least(slot, 0)",
    "slot_enterprise": "least(slot_enterprise, 0)",
    "flags": f"(flags & {_FLAGS})::UINTEGER",
    "flags_enterprise": f"(flags_enterprise & {_FLAGS})::UINTEGER",
    "error": f"CASE WHEN error IN ({_ERRORS}) THEN error ELSE ''::BLOB END",
    "nkeys": "least(nkeys, 1)",
    "script_facts": "script_facts",
    "notifications": "notifications",
    "db_unseen": "db_unseen",
    "watch_apart": "watch_apart",
    "apart_enterprise": "apart_enterprise",
}
_TOLD_SQL = ", ".join(f"{sql} AS {name}" for name, sql in _TOLD.items())
_NAMES = ", ".join(_TOLD)
_AMOUNTS = """count(*) AS n, sum(gap_rows)::BIGINT AS gap_rows, min(ts) AS first_ts, max(ts) AS last_ts,
    arg_min({'cid': cid, 'seq': seq}, ts, 3) AS examples, any_value(args) AS args"""

#: Most transactions are fine: no rule says anything of an EXEC without one of these.
_WORTH = f"""flags & {_TXN} <> 0 OR flags_enterprise & {_TXN} <> 0 OR watch_apart > 0 OR apart_enterprise > 0
    OR slot < {SLOT_NONE} OR unknown > 0 OR db_unseen > 0"""

#: Rows with equal keys in equal order: sorting comes later, it is dear per row.
_GROUPED = f"""
SELECT keys, []::BLOB[] AS members, {_TOLD_SQL}, {_AMOUNTS} FROM judged
WHERE command <> 'EXEC'::BLOB GROUP BY ALL
UNION ALL
SELECT keys, members, {_TOLD_SQL}, {_AMOUNTS} FROM (
    SELECT j.* EXCLUDE (keys), coalesce(t.keys, []::BLOB[]) AS keys, coalesce(t.members, []::BLOB[]) AS members
    FROM (FROM judged WHERE command = 'EXEC'::BLOB AND ({{worth}})) j LEFT JOIN (
        SELECT cid, txn, flatten(list(keys)) AS keys, list(command) AS members FROM members GROUP BY ALL) t
    USING (cid, txn)) GROUP BY ALL
"""

_MERGED = """sum(n)::BIGINT AS n, sum(gap_rows)::BIGINT AS gap_rows, min(first_ts) AS first_ts,
    max(last_ts) AS last_ts, flatten(arg_min(examples, first_ts, 3))[:3] AS examples, any_value(args) AS args"""

#: ``folded``: the same, keys replaced by templates. Grouped once as they are, then as sets.
_REGROUPED = f"""
WITH listed AS (SELECT {_NAMES}, members, keys, {_MERGED} FROM folded GROUP BY ALL)
SELECT {_NAMES}, list_sort(list_distinct(members)) AS members, list_sort(list_distinct(keys)) AS keys, {_MERGED}
FROM listed GROUP BY ALL ORDER BY n DESC, first_ts
"""


@dataclass
class _Merged:
    """One group while kinds are added to it."""

    rule: Rule
    row: dict[str, Any]
    count: int = 0
    first_ts: int = 1 << 63
    last_ts: int = 0
    examples: list[tuple[int, Example]] = field(default_factory=list)


class Kinds:
    """The kinds of all candidates. ``every_exec``: also of transactions that nothing is wrong with."""

    def __init__(self, db: Database, *, every_exec: bool) -> None:
        self._db = db
        cursor = db.connection.cursor()
        grouped = cursor.sql(_GROUPED.replace("{worth}", "true" if every_exec else _WORTH)).to_arrow_reader(65_536)
        folded = pa.RecordBatchReader.from_batches(grouped.schema, (chunks.fold_keys(batch) for batch in grouped))
        with db.connection.cursor() as merging:
            merging.register("folded", folded)
            table: pa.Table = pa.table(merging.sql(_REGROUPED).to_arrow_table()).combine_chunks()
        cursor.close()
        batches = table.to_batches()
        self._batch = batches[0] if batches else pa.RecordBatch.from_pylist([], table.schema)
        self._other: pa.RecordBatch | None = None
        self._rows: list[dict[str, Any]] = self._batch.to_pylist()
        self._found: dict[tuple[Predicate, bool, bool, bool], list[int]] = {}

    def matching(self, rule: Rule, *, enterprise: bool) -> list[dict[str, Any]]:
        """The kinds that a rule finds. Rules of several targets with one predicate are tried once."""
        key = (rule.predicate, rule.reads_gaps, enterprise, rule.id == "database-in-use")
        if key not in self._found:
            self._found[key] = self._try(rule.predicate, rule, self._seen(enterprise))
        return [self._rows[index] for index in self._found[key]]

    def _try(self, predicate: Predicate, rule: Rule, seen: pa.RecordBatch) -> list[int]:
        found = predicate.mask(seen).to_pylist()
        use = int(rule.id == "database-in-use")
        return [
            index
            for index, holds in enumerate(found)
            if holds and bool(self._rows[index]["gap"]) == rule.reads_gaps and self._rows[index]["db_unseen"] == use
        ]

    def _seen(self, enterprise: bool) -> pa.RecordBatch:
        """The kinds as rules see them under a slot function."""
        if not enterprise:
            return self._batch
        if self._other is None:
            columns = {name: self._batch.column(name) for name in self._batch.schema.names}
            columns |= {
                "slot": columns["slot_enterprise"],
                "flags": columns["flags_enterprise"],
                "watch_apart": columns["apart_enterprise"],
            }
            self._other = pa.RecordBatch.from_pydict(columns)
        return self._other

    def examples(self, row: dict[str, Any]) -> Iterator[tuple[int, Example]]:
        """Up to three occurrences of a kind, with the time of the first."""
        for each in row["examples"]:
            yield row["first_ts"], self._db.example(each["cid"], each["seq"])


def groups_of(kinds: Kinds, rules: Sequence[Rule], *, enterprise: bool) -> list[FindingGroup]:
    """What the rules say of the kinds: occurrences that differ in nothing that a report shows are one group."""
    merged: dict[tuple[Any, ...], _Merged] = {}
    for rule in rules:
        for row in kinds.matching(rule, enterprise=enterprise):
            key = (rule.id, row["command"], tuple(row["members"]), tuple(row["keys"]), rule.error(row), rule.when(row))
            one = merged.setdefault(key, _Merged(rule, row))
            one.count += row["n"]
            one.first_ts = min(one.first_ts, row["first_ts"])
            one.last_ts = max(one.last_ts, row["last_ts"])
            one.examples += kinds.examples(row)
    return [_group(each) for each in merged.values()]


def _group(one: _Merged) -> FindingGroup:
    rule, row = one.rule, one.row
    change, remedy = rule.change_of(row)
    shape = shape_of(row["command"], row["members"], row["keys"]) if rule.id in SLOT_RULES else None
    if shape is not None:
        change, remedy = shape.change, shape.remedy
    return FindingGroup(
        rule=rule.id,
        title=rule.title,
        severity=rule.severity,
        command=row["command"],
        members=tuple(row["members"]),
        keys=tuple(row["keys"]),
        error=rule.error(row),
        when=rule.when(row),
        count=one.count,
        first_ts=one.first_ts,
        last_ts=one.last_ts,
        examples=tuple(example for _, example in sorted(one.examples, key=lambda each: each[0])[:3]),
        blocks=rule.blocks,
        change=change,
        remedy=remedy,
        whose=shape.name if shape else "",
        follows=rule.follows,
    )


def counted_group(
    rule: Rule, command: bytes, count: int, first_ts: int, last_ts: int, *, queued: bool = False
) -> FindingGroup:
    """What a rule says of a command whatever its keys, where only the number of them is known."""
    row = {"command": command, "flags": 0, "txn": int(queued)}
    change, remedy = rule.change_of(row)
    return FindingGroup(
        rule=rule.id, title=rule.title, severity=rule.severity, command=command, members=(), keys=(),
        error=rule.error(row), when=rule.when(row), count=count, first_ts=first_ts, last_ts=last_ts, examples=(),
        blocks=rule.blocks, change=change, remedy=remedy,
    )  # fmt: skip


#: The rules whose remedy is another name for a key: Sidekiq's own keys can't have one.
SLOT_RULES = frozenset({"cross-slot", "txn-cross-slot", "txn-refused"})
