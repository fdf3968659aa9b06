"""Kinds of candidates: rows that no rule can tell apart, counted once for all targets; and the findings made of them.

Knows: which columns rules look at, and how coarsely; which occurrences stand as examples. Refuses to know: what a rule
says, and how candidates come to be (``studies.judging`` selects them).

Judging a target costs a pass over its rules and the kinds, not over the rows: any number of targets are judged at the
price of one. Keys are folded to templates; an EXEC has the keys and commands of its transaction. Each chunk's kinds are
added to those before, so that what is kept grows with the number of kinds, not of rows.

Examples are the first three of the rows with equal keys that came first; where these are fewer than three, of the
next keys in the same order of templates, then of the next order. So a chunk's rows are grouped three times: ``raw``
(equal keys), ``listed`` (equal templates in equal order), ``kind`` (equal sets of templates).
"""

from __future__ import annotations

from collections import defaultdict
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
#: What tells kinds apart while reading: a script's facts are known at the end.
_KEPT = ", ".join(name for name in _TOLD if name != "script_facts") + ", script"

#: Most transactions are fine: no rule says anything of an EXEC without one of these.
WORTH = f"""flags & {_TXN} <> 0 OR flags_enterprise & {_TXN} <> 0 OR watch_apart > 0 OR apart_enterprise > 0
    OR slot < {SLOT_NONE} OR unknown > 0 OR db_unseen > 0"""

#: Of rows with equal keys, of equal orders of templates, and of kinds, so many are kept as examples.
_EXAMPLES = 3
#: The tables are brought together again when they have grown by so many rows.
_MERGE_ROWS = 20_000

_KIND = """command BLOB, txn BIGINT, unknown UTINYINT, gap BLOB, slot SMALLINT, slot_enterprise SMALLINT,
    flags UINTEGER, flags_enterprise UINTEGER, error BLOB, nkeys INT, notifications UTINYINT, db_unseen UTINYINT,
    watch_apart UTINYINT, apart_enterprise UTINYINT, script BLOB, members BLOB[], keys BLOB[], kind UBIGINT"""
_AMOUNTS = "n BIGINT, gap_rows BIGINT, first_ts BIGINT, last_ts BIGINT, args BLOB[]"
#: ``kind``, ``listed`` and ``raw`` of an example are hashes of what is equal.
_SCHEMA = f"""
CREATE TEMP TABLE kinds ({_KIND}, {_AMOUNTS});
CREATE TEMP TABLE examples (kind UBIGINT, listed UBIGINT, raw UBIGINT, ts BIGINT, cid BIGINT, seq BIGINT);
"""

#: Rows with equal keys in equal order: sorting comes later, it is dear per row.
_GROUPED = f"""
SELECT *, hash(keys) AS raw FROM (
    SELECT keys, members, {_TOLD_SQL}, script, count(*) AS n, sum(gap_rows)::BIGINT AS gap_rows, min(ts) AS first_ts,
        max(ts) AS last_ts, arg_min({{'ts': ts, 'cid': cid, 'seq': seq}}, ts, {_EXAMPLES}) AS examples,
        any_value(args) AS args
    FROM (SELECT * REPLACE ([]::BLOB[] AS members) FROM ({{rows}}) UNION ALL
        SELECT * REPLACE (coalesce(txn_keys, []::BLOB[]) AS keys, coalesce(members, []::BLOB[]) AS members)
        FROM ({{execs}}))
    GROUP BY ALL)
"""
_SUMS = """sum(n)::BIGINT AS n, sum(gap_rows)::BIGINT AS gap_rows, min(first_ts) AS first_ts, max(last_ts) AS last_ts,
    arg_min(args, first_ts) AS args"""
#: ``folded``: the same, keys replaced by templates. ``known``: keys of which there are examples already.
_LISTED = f"""
CREATE OR REPLACE TEMP TABLE listed AS SELECT *, list_sort(list_distinct(members)) AS member_set,
    list_sort(list_distinct(keys)) AS key_set, hash({_KEPT}, member_set, key_set) AS kind,
    hash(members, keys) AS listed
FROM (
    SELECT {_KEPT}, members, keys, {_SUMS}, arg_min(example, first_ts, {_EXAMPLES}) AS earliest,
        list(example) FILTER (known) AS known
    FROM (SELECT *, {{'raw': raw, 'each': examples}} AS example, raw IN (SELECT raw FROM examples) AS known FROM folded)
    GROUP BY {_KEPT}, members, keys)
"""
_ADDED = (
    f"INSERT INTO kinds SELECT {_KEPT}, member_set, key_set, kind, n, gap_rows, first_ts, last_ts, args FROM listed",
    """INSERT INTO examples SELECT kind, listed, example.raw, e.ts, e.cid, e.seq FROM (
        SELECT kind, listed, example, unnest(example.each) AS e FROM (
            SELECT kind, listed, unnest(list_distinct(earliest || coalesce(known, []))) AS example FROM listed))""",
)
_MERGED = f"SELECT {_KEPT}, members, keys, kind, {_SUMS} FROM kinds GROUP BY {_KEPT}, members, keys, kind"


def _first(kind: str, source: str) -> str:
    """The examples of ``source`` that are kept, in order of ``place`` within their kind."""
    return f"""SELECT *, row_number() OVER (
            PARTITION BY {kind} ORDER BY listed_ts, listed, raw_ts, raw, ts, cid, seq) AS place FROM (
        SELECT *, dense_rank() OVER (PARTITION BY {kind} ORDER BY listed_ts, listed) AS lists,
            dense_rank() OVER (PARTITION BY {kind}, listed ORDER BY raw_ts, raw) AS raws,
            row_number() OVER (PARTITION BY {kind}, listed, raw ORDER BY ts, cid, seq) AS rows FROM (
            SELECT *, min(ts) OVER (PARTITION BY {kind}, listed) AS listed_ts,
                min(ts) OVER (PARTITION BY {kind}, listed, raw) AS raw_ts
            FROM (SELECT DISTINCT {kind}, listed, raw, ts, cid, seq FROM {source})))
    WHERE lists <= {_EXAMPLES} AND raws <= {_EXAMPLES} AND rows <= {_EXAMPLES}"""


_MERGE = (
    f"CREATE OR REPLACE TEMP TABLE kinds AS {_MERGED}",
    f"""CREATE OR REPLACE TEMP TABLE examples AS
    SELECT kind, listed, raw, ts, cid, seq FROM ({_first("kind", "examples")})""",
)
#: Kinds as rules see them, scripts replaced by what is known of them.
_FINAL = f"""
CREATE OR REPLACE TEMP TABLE final AS SELECT row_number() OVER (ORDER BY n DESC, first_ts) AS id, * FROM (
    SELECT {_NAMES}, members, keys, {_SUMS}, list(kind) AS kinds
    FROM (SELECT kinds.*, coalesce(facts, 0)::UTINYINT AS script_facts
        FROM kinds LEFT JOIN script_facts ON script = sha)
    GROUP BY {_NAMES}, members, keys)
"""
_OF_FINAL = "(SELECT id, examples.* FROM examples JOIN (SELECT id, unnest(kinds) AS kind FROM final) USING (kind))"


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
    """The kinds of all candidates. ``finish`` comes before anything is asked."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._merged = 0
        self._batch: pa.RecordBatch
        self._other: pa.RecordBatch | None = None
        self._rows: list[dict[str, Any]] = []
        self._examples: dict[int, list[Example]] = defaultdict(list)
        self._found: dict[tuple[Predicate, bool, bool, bool], list[int]] = {}
        db.execute(_SCHEMA)

    def take(self, rows: str, execs: str) -> None:
        """Add the candidates that two statements select, with the columns of ``studies.judging``."""
        grouped = self._db.connection.sql(_GROUPED.replace("{rows}", rows).replace("{execs}", execs)).to_arrow_table()
        if not grouped.num_rows:
            return
        folded = pa.Table.from_batches([chunks.fold_keys(batch) for batch in grouped.to_batches()])
        self._db.connection.register("folded", folded)
        for statement in (_LISTED, *_ADDED):
            self._db.execute(statement)
        self._db.connection.unregister("folded")
        if self._count() > self._merged + _MERGE_ROWS:
            self._merge()

    def _count(self) -> int:
        return int(self._db.rows("SELECT (SELECT count(*) FROM kinds) + (SELECT count(*) FROM examples)")[0][0])

    def _merge(self) -> None:
        for statement in _MERGE:
            self._db.execute(statement)
        self._merged = self._count()

    def finish(self) -> None:
        """Everything was taken, and the table ``script_facts`` is there."""
        self._merge()
        self._db.execute(_FINAL)
        table: pa.Table = self._db.connection.sql("FROM final ORDER BY id").to_arrow_table().combine_chunks()
        batches = table.to_batches()
        self._batch = batches[0] if batches else pa.RecordBatch.from_pylist([], table.schema)
        self._rows = self._batch.to_pylist()
        first = f"SELECT id, cid, seq FROM ({_first('id', _OF_FINAL)}) WHERE place <= {_EXAMPLES} ORDER BY id, place"
        for kind, cid, seq in self._db.rows(first):
            self._examples[kind].append(self._db.example(cid, seq))

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
        for each in self._examples[row["id"]]:
            yield row["first_ts"], each


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
