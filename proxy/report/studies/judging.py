"""What each target would refuse: the rows that any rule may look at, and what the rules say of them.

Knows: which exchanges are kept row by row (``candidates``, ``members`` of transactions, ``watches``, ``ends`` of a
WATCH besides EXEC), and how occurrences are grouped. Refuses to know: what a rule says (``rules``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from proxy.capture.format import Flag
from proxy.report import chunks
from proxy.report.document import FindingGroup, TargetReport
from proxy.report.rules import CANDIDATE, TARGETS, Rule, Severity, Target
from proxy.report.scripts import script_facts
from proxy.report.source import Source
from proxy.report.study import Study, dicts
from proxy.report.verdict import explain, in_order

_CANDIDATE_COLUMNS = (
    "cid, seq, ts, db, command, keys, nkeys, slot, unknown, txn, error, flags, script, args, gap, gap_rows"
)
_FINDING_COLUMNS = "cid, seq, ts, command, keys, unknown, txn, flags, args, gap, gap_rows"
_NOTIFICATIONS = (
    r"command IN ('SUBSCRIBE'::BLOB, 'PSUBSCRIBE'::BLOB) AND len(list_filter(args, "
    r"lambda a: regexp_matches(a::VARCHAR, '^__key(space|event)@'))) > 0"
)
_SCHEMA = """
CREATE TABLE candidates (cid BIGINT, seq BIGINT, ts BIGINT, db INT, command BLOB, keys BLOB[], nkeys INT, slot SMALLINT,
    unknown UTINYINT, txn BIGINT, error BLOB, flags UINTEGER, script BLOB, args BLOB[], gap BLOB, gap_rows BIGINT,
    notifications UTINYINT, db_unseen UTINYINT, script_facts UTINYINT, watch_apart UTINYINT);
CREATE TABLE elsewhere AS FROM candidates;
CREATE TABLE members (cid BIGINT, txn BIGINT, command BLOB, keys BLOB[], slot SMALLINT);
CREATE TABLE watches (cid BIGINT, seq BIGINT, slot SMALLINT);
CREATE TABLE ends (cid BIGINT, seq BIGINT, txn BIGINT, command BLOB);
"""

_CHUNK = (
    f"""INSERT INTO candidates SELECT {_CANDIDATE_COLUMNS}, ({_NOTIFICATIONS})::UTINYINT, 0, 0, 0 FROM chunk
    WHERE {CANDIDATE.sql()} OR command = 'EXEC'::BLOB""",
    f"INSERT INTO candidates SELECT {_CANDIDATE_COLUMNS}, 0, 0, 0, 0 FROM chunk_gaps",
    f"""INSERT INTO elsewhere SELECT {_CANDIDATE_COLUMNS}, 0, 1, 0, 0 FROM chunk WHERE db > 0
    QUALIFY row_number() OVER (PARTITION BY cid ORDER BY seq) = 1""",
    """INSERT INTO members SELECT cid, txn, command, keys, slot FROM chunk
    WHERE txn > 0 AND command NOT IN ('MULTI'::BLOB, 'EXEC'::BLOB, 'DISCARD'::BLOB, 'WATCH'::BLOB)""",
    "INSERT INTO watches SELECT cid, seq, slot FROM chunk WHERE command = 'WATCH'::BLOB",
    """INSERT INTO ends SELECT cid, seq, txn, command FROM chunk
    WHERE command IN ('DISCARD'::BLOB, 'UNWATCH'::BLOB, 'RESET'::BLOB)""",
)

#: EXECs whose transaction and the WATCHes before it lie in more than one slot: ``apart (cid, seq)``.
_WATCH_APART = """
CREATE TABLE apart AS
WITH watched AS (SELECT DISTINCT cid FROM watches),
boundaries AS (FROM ends UNION ALL SELECT cid, seq, txn, command FROM candidates WHERE command = 'EXEC'::BLOB),
spans AS (SELECT *, lag(seq, 1, -1) OVER (PARTITION BY cid ORDER BY seq) AS since
    FROM boundaries SEMI JOIN watched USING (cid)),
slots AS (
    SELECT e.cid, e.seq, w.slot, true AS watch FROM spans e JOIN watches w
        ON w.cid = e.cid AND w.seq > e.since AND w.seq < e.seq WHERE e.command = 'EXEC'::BLOB AND w.slot >= 0
    UNION ALL
    SELECT e.cid, e.seq, m.slot, false FROM spans e JOIN members m ON m.cid = e.cid AND m.txn = e.txn
        WHERE e.command = 'EXEC'::BLOB AND m.slot >= 0)
SELECT cid, seq FROM slots GROUP BY ALL HAVING count(DISTINCT slot) > 1 AND bool_or(watch) AND NOT bool_and(watch)
"""

#: The derived columns that need the whole capture, and the view that the rules look at. Updates instead of joins:
#: the view is read once per rule. ``elsewhere`` holds connections' first rows in a database above 0.
_JUDGED = """
UPDATE candidates SET script_facts = s.facts FROM script_facts s WHERE script = s.sha AND s.facts <> 0;
UPDATE candidates SET watch_apart = 1 FROM apart a WHERE candidates.cid = a.cid AND candidates.seq = a.seq;
CREATE VIEW judged AS
FROM candidates
UNION ALL
FROM (FROM elsewhere QUALIFY row_number() OVER (PARTITION BY cid ORDER BY seq) = 1) e
ANTI JOIN (SELECT cid FROM conns WHERE selected) s USING (cid)
"""

#: Every occurrence, with the keys of its transaction if it is an EXEC.
_OCCURRENCES = """
WITH transactions AS (
    SELECT cid, txn, list_sort(list_distinct(flatten(list(keys)))) AS keys
    FROM members SEMI JOIN (SELECT cid, txn FROM findings WHERE command = 'EXEC'::BLOB) f USING (cid, txn)
    GROUP BY ALL)
SELECT f.* REPLACE (coalesce(t.keys, f.keys) AS keys)
FROM findings f LEFT JOIN transactions t ON f.command = 'EXEC'::BLOB AND f.cid = t.cid AND f.txn = t.txn
ORDER BY ts, f.cid, seq, rule
"""

_GROUP_COLUMNS = f"""rule, command, (flags & {int(Flag.QUEUED)} <> 0 OR txn > 0) AS queued, unknown, gap,
    count(*) AS n, sum(gap_rows)::BIGINT AS gap_rows, min(ts) AS first_ts, max(ts) AS last_ts,
    arg_min({{'cid': cid, 'seq': seq}}, ts, 3) AS examples, any_value(flags) AS flags, any_value(args) AS args"""

#: Occurrences with equal keys in equal order: sorting comes later, it is dear per row.
_GROUPED = f"""
SELECT keys, []::BLOB[] AS members, {_GROUP_COLUMNS} FROM findings
WHERE command <> 'EXEC'::BLOB GROUP BY ALL
UNION ALL
SELECT keys, members, {_GROUP_COLUMNS} FROM (
    SELECT f.* EXCLUDE (keys), coalesce(t.keys, []::BLOB[]) AS keys, coalesce(t.members, []::BLOB[]) AS members
    FROM (FROM findings WHERE command = 'EXEC'::BLOB) f LEFT JOIN (
        SELECT cid, txn, flatten(list(keys)) AS keys, list(command) AS members FROM members GROUP BY ALL) t
    USING (cid, txn)) GROUP BY ALL
"""

_MERGED = """sum(n)::BIGINT AS n, sum(gap_rows)::BIGINT AS gap_rows, min(first_ts) AS first_ts,
    max(last_ts) AS last_ts, flatten(arg_min(examples, first_ts, 3))[:3] AS examples, any_value(flags) AS flags,
    any_value(args) AS args"""

#: ``folded``: the same, keys replaced by templates. Grouped once as they are, then as sets.
_REGROUPED = f"""
WITH listed AS (
    SELECT rule, command, queued, unknown, gap, members, keys, {_MERGED} FROM folded GROUP BY ALL)
SELECT rule, command, queued, unknown, gap, list_sort(list_distinct(members)) AS members,
    list_sort(list_distinct(keys)) AS keys, {_MERGED}
FROM listed GROUP BY ALL ORDER BY n DESC, first_ts
"""

_GAPS = "SELECT count(*), coalesce(sum(gap_rows), 0)::BIGINT FROM candidates WHERE gap <> ''::BLOB"


class Judging(Study):
    """The findings of any number of targets."""

    SCHEMA = _SCHEMA
    CHUNK = _CHUNK

    def finish(self, source: Source) -> None:
        """Add what can be said only of a whole capture: script bodies, WATCH and its EXEC."""
        facts = [(sha, int(script_facts(body))) for sha, body in source.scripts().items()]
        table = pa.table(
            {
                "sha": pa.array([sha for sha, _ in facts], pa.binary()),
                "facts": pa.array([bits for _, bits in facts], pa.uint8()),
            }
        )
        self._db.connection.register("facts", table)
        self._db.execute("CREATE TABLE script_facts AS FROM facts")
        self._db.execute(_WATCH_APART)
        self._db.execute(_JUDGED)

    def _judge(self, target: Target) -> None:
        """Make the view ``findings``: one row per occurrence, ``rule`` an index into the target's rules."""
        selections = (
            f"SELECT {i} AS rule, {_FINDING_COLUMNS} FROM judged WHERE {_selection(rule)}"
            for i, rule in enumerate(target.rules)
        )
        self._db.execute("DROP VIEW IF EXISTS findings")
        self._db.execute("CREATE VIEW findings AS " + " UNION ALL ".join(selections))

    def target(self, target_id: str, commands: int, losses: Sequence[str]) -> TargetReport:
        """The findings of one target, grouped, and its verdict."""
        target = TARGETS[target_id]
        self._judge(target)
        groups = in_order(list(self._groups(target)))
        counts = dict.fromkeys(map(str, Severity), 0)
        for group in groups:
            counts[group.severity] += group.count
        verdict, reason = explain(groups, counts, commands=commands, losses=losses)
        return TargetReport(target_id, verdict, reason, counts, tuple(groups))

    def _groups(self, target: Target) -> Iterator[FindingGroup]:
        cursor = self._db.connection.cursor()
        grouped: pa.RecordBatchReader = self._db.connection.sql(_GROUPED).to_arrow_reader(65_536)
        folded = pa.RecordBatchReader.from_batches(grouped.schema, (chunks.fold_keys(batch) for batch in grouped))
        cursor.register("folded", folded)
        for row in dicts(cursor.execute(_REGROUPED)):
            rule = target.rules[row["rule"]]
            row["txn"] = int(row["queued"])
            yield FindingGroup(
                rule=rule.id,
                title=rule.title,
                severity=rule.severity,
                command=row["command"],
                members=tuple(row["members"]),
                keys=tuple(row["keys"]),
                error=rule.error(row),
                when=rule.when(row),
                count=row["n"],
                first_ts=row["first_ts"],
                last_ts=row["last_ts"],
                examples=tuple(self._db.example(each["cid"], each["seq"]) for each in row["examples"]),
            )
        cursor.close()

    def occurrences(self, target_id: str) -> Iterator[dict[str, Any]]:
        """Every occurrence in the order of time: run, worker, conn, seq, ts, rule, target, severity, command, keys,
        error, when. Byte strings are bytes."""
        target = TARGETS[target_id]
        self._judge(target)
        for row in self._db.dicts(_OCCURRENCES):
            rule = target.rules[row["rule"]]
            where = self._db.example(row["cid"], row["seq"])
            yield {
                "conn": where.conn,
                "seq": where.seq,
                "rule": rule.id,
                "target": target_id,
                "severity": str(rule.severity),
                "command": row["command"],
                "keys": row["keys"],
                "error": rule.error(row),
                "when": str(rule.when(row)),
                "ts": row["ts"],
                "run": where.run,
                "worker": where.worker,
            }

    def script_calls(self) -> dict[bytes, int]:
        """Calls by EVAL and EVALSHA, by the script's SHA-1."""
        calls = f"flags & {int(Flag.SCRIPT)} <> 0 AND script <> ''::BLOB"
        return dict(self._db.rows(f"SELECT script, count(*) FROM candidates WHERE {calls} GROUP BY script"))

    def gaps(self) -> tuple[int, int]:
        """Gap rows, and the exchanges that are missing at them as far as it is known."""
        gaps, rows = self._db.rows(_GAPS)[0]
        return gaps, rows


def _selection(rule: Rule) -> str:
    gap = "<>" if rule.reads_gaps else "="
    return f"gap {gap} ''::BLOB AND {rule.predicate.sql()} AND db_unseen = {int(rule.id == 'database-in-use')}"
