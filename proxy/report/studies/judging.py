"""What each target would refuse: the rows that any rule may look at, and what the rules say of them.

Knows: which exchanges are kept row by row (``candidates``, ``members`` of transactions, ``watches``, ``ends`` of a
WATCH besides EXEC), and the second slot of those few whose keys another slot function sees elsewhere. Refuses to know:
what a rule says (``rules``), how occurrences are grouped for a report (``studies.kinds``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from proxy.capture.format import SLOT_CROSS, SLOT_NONE, SLOT_UNKNOWN, Flag
from proxy.report.document import FindingGroup, TargetReport
from proxy.report.rules import RULES, RefusedCommand, Rule, TxnCommand, candidates
from proxy.report.rules.rule import NOT_REFUSED
from proxy.report.scripts import script_facts
from proxy.report.source import Source
from proxy.report.studies.kinds import Kinds, counted_group, groups_of
from proxy.report.study import Database, Study
from proxy.report.targets import DEFAULT, TARGETS, SlotFunction, Target
from proxy.report.verdict import judge

_CANDIDATE_COLUMNS = """cid, seq, ts, db, command, keys, nkeys, slot, unknown, txn, error, flags, script, args, gap,
    gap_rows, slot_enterprise, flags AS flags_enterprise"""
_FINDING_COLUMNS = "cid, seq, ts, command, keys, unknown, txn, flags, args, gap, gap_rows"
_NOTIFICATIONS = (
    r"command IN ('SUBSCRIBE'::BLOB, 'PSUBSCRIBE'::BLOB) AND len(list_filter(args, "
    r"lambda a: regexp_matches(a::VARCHAR, '^__key(space|event)@'))) > 0"
)
_SCHEMA = """
CREATE TABLE candidates (cid BIGINT, seq BIGINT, ts BIGINT, db INT, command BLOB, keys BLOB[], nkeys INT, slot SMALLINT,
    unknown UTINYINT, txn BIGINT, error BLOB, flags UINTEGER, script BLOB, args BLOB[], gap BLOB, gap_rows BIGINT,
    slot_enterprise SMALLINT, flags_enterprise UINTEGER,
    notifications UTINYINT, db_unseen UTINYINT, script_facts UTINYINT, watch_apart UTINYINT, apart_enterprise UTINYINT);
CREATE TABLE elsewhere AS FROM candidates;
CREATE TABLE members (cid BIGINT, txn BIGINT, ts BIGINT, command BLOB, keys BLOB[], slot SMALLINT,
    slot_enterprise SMALLINT);
CREATE TABLE watches (cid BIGINT, seq BIGINT, slot SMALLINT, slot_enterprise SMALLINT);
CREATE TABLE tally (command BLOB, n BIGINT, first_ts BIGINT, last_ts BIGINT);
CREATE TABLE ends (cid BIGINT, seq BIGINT, txn BIGINT, command BLOB);
"""

_TXN_BITS = int(Flag.TXN_CROSS | Flag.TXN_REFUSED)
_TOLD = f"slot_enterprise NOT IN ({SLOT_NONE}, {SLOT_UNKNOWN})"

#: What a rule sees of a row, by the target's slot function.
_SEEN = {
    SlotFunction.REDIS: "judged",
    SlotFunction.ENTERPRISE: """(SELECT * REPLACE (slot_enterprise AS slot, flags_enterprise AS flags,
        apart_enterprise AS watch_apart) FROM judged)""",
}

#: A key that another slot function sees elsewhere makes its command a candidate.
_ODD = "slot_enterprise <> slot"

_CHUNK = (
    f"INSERT INTO candidates SELECT {_CANDIDATE_COLUMNS}, 0, 0, 0, 0, 0 FROM chunk_gaps",
    f"""INSERT INTO elsewhere SELECT {_CANDIDATE_COLUMNS}, 0, 1, 0, 0, 0 FROM chunk WHERE db > 0
    QUALIFY row_number() OVER (PARTITION BY cid ORDER BY seq) = 1""",
    """INSERT INTO members SELECT cid, txn, ts, command, keys, slot, slot_enterprise FROM chunk
    WHERE txn > 0 AND command NOT IN ('MULTI'::BLOB, 'EXEC'::BLOB, 'DISCARD'::BLOB, 'WATCH'::BLOB)""",
    "INSERT INTO watches SELECT cid, seq, slot, slot_enterprise FROM chunk WHERE command = 'WATCH'::BLOB",
    """INSERT INTO ends SELECT cid, seq, txn, command FROM chunk
    WHERE command IN ('DISCARD'::BLOB, 'UNWATCH'::BLOB, 'RESET'::BLOB)""",
    f"INSERT INTO tally SELECT command, count(*), min(ts), max(ts) FROM chunk WHERE {NOT_REFUSED.sql()} GROUP BY ALL",
)

#: EXECs whose transaction and the WATCHes before it lie in more than one slot: ``apart (cid, seq)``. ``{slot}``: by
#: which slot function.
_WATCH_APART = """
CREATE OR REPLACE TABLE apart AS
WITH watched AS (SELECT DISTINCT cid FROM watches),
boundaries AS (FROM ends UNION ALL SELECT cid, seq, txn, command FROM candidates WHERE command = 'EXEC'::BLOB),
spans AS (SELECT *, lag(seq, 1, -1) OVER (PARTITION BY cid ORDER BY seq) AS since
    FROM boundaries SEMI JOIN watched USING (cid)),
slots AS (
    SELECT e.cid, e.seq, w.{slot} AS slot, true AS watch FROM spans e JOIN watches w
        ON w.cid = e.cid AND w.seq > e.since AND w.seq < e.seq WHERE e.command = 'EXEC'::BLOB AND w.{slot} >= 0
    UNION ALL
    SELECT e.cid, e.seq, m.{slot}, false FROM spans e JOIN members m ON m.cid = e.cid AND m.txn = e.txn
        WHERE e.command = 'EXEC'::BLOB AND m.{slot} >= 0)
SELECT cid, seq FROM slots GROUP BY ALL HAVING count(DISTINCT slot) > 1 AND bool_or(watch) AND NOT bool_and(watch)
"""

#: The derived columns that need the whole capture, and the view that the rules look at. Updates instead of joins:
#: the view is read once per rule. ``elsewhere`` holds connections' first rows in a database above 0.
_JUDGED = """
UPDATE candidates SET script_facts = s.facts FROM script_facts s WHERE script = s.sha AND s.facts <> 0;
UPDATE candidates SET watch_apart = 1, apart_enterprise = 1 FROM apart a
    WHERE candidates.cid = a.cid AND candidates.seq = a.seq;
CREATE VIEW judged AS
FROM candidates
UNION ALL
FROM (FROM elsewhere QUALIFY row_number() OVER (PARTITION BY cid ORDER BY seq) = 1) e
ANTI JOIN (SELECT cid FROM conns WHERE selected) s USING (cid)
"""

_ODD_ROWS = f"""SELECT (SELECT count(*) FROM candidates WHERE {_ODD}) + (SELECT count(*) FROM members WHERE {_ODD})
    + (SELECT count(*) FROM watches WHERE {_ODD})"""

#: Only where there are odd rows: transactions judged again by the other slot function.
_ENTERPRISE = f"""
UPDATE candidates SET flags_enterprise = (flags & ~{_TXN_BITS}) | t.bits FROM (
    SELECT cid, txn, (
        CASE WHEN count(DISTINCT slot_enterprise) FILTER ({_TOLD}) > 1 THEN {int(Flag.TXN_CROSS)} ELSE 0 END
        | CASE WHEN bool_or(slot_enterprise = {SLOT_CROSS}) THEN {int(Flag.TXN_REFUSED)} ELSE 0 END)::UINTEGER AS bits
    FROM members GROUP BY ALL HAVING bool_or({_ODD})) t
WHERE command = 'EXEC'::BLOB AND candidates.cid = t.cid AND candidates.txn = t.txn;
UPDATE candidates SET apart_enterprise = 0;
UPDATE candidates SET apart_enterprise = 1 FROM apart a WHERE candidates.cid = a.cid AND candidates.seq = a.seq;
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

_GAPS = "SELECT count(*), coalesce(sum(gap_rows), 0)::BIGINT FROM candidates WHERE gap <> ''::BLOB"


class Judging(Study):
    """The findings of any number of targets. ``targets``: those that are judged command by command; of the others,
    commands that they do not run whatever their keys are only counted."""

    SCHEMA = _SCHEMA

    def __init__(self, db: Database, targets: Sequence[str] = (DEFAULT,)) -> None:
        super().__init__(db)
        self._chosen = frozenset(targets)
        self._keep = f"""INSERT INTO candidates
            SELECT {_CANDIDATE_COLUMNS}, ({_NOTIFICATIONS})::UTINYINT, 0, 0, 0, 0 FROM chunk
            WHERE {candidates(targets).sql()} OR {_ODD} OR command = 'EXEC'::BLOB"""
        self._kinds: Kinds | None = None
        self._tally: dict[bytes, tuple[int, int, int]] = {}  # count, first and last time
        self._queued: dict[bytes, tuple[int, int, int]] = {}  # the same of commands inside MULTI

    def take(self, exchanges: pa.Table) -> None:
        """Keep what any rule may look at."""
        for statement in (self._keep, *_CHUNK):
            self._db.execute(statement)

    def finish(self, source: Source) -> None:
        """Add what can be said only of a whole capture: script bodies, WATCH and its EXEC, the other slots."""
        facts = [(sha, int(script_facts(body))) for sha, body in source.scripts().items()]
        table = pa.table(
            {
                "sha": pa.array([sha for sha, _ in facts], pa.binary()),
                "facts": pa.array([bits for _, bits in facts], pa.uint8()),
            }
        )
        self._db.connection.register("facts", table)
        self._db.execute("CREATE TABLE script_facts AS FROM facts")
        self._db.execute(_WATCH_APART.format(slot="slot"))
        self._db.execute(_JUDGED)
        if self._db.rows(_ODD_ROWS)[0][0]:
            self._db.execute(_WATCH_APART.format(slot="slot_enterprise"))
            self._db.execute(_ENTERPRISE)
        rows = self._db.rows("SELECT command, sum(n)::BIGINT, min(first_ts), max(last_ts) FROM tally GROUP BY command")
        self._tally = {command: (n, first, last) for command, n, first, last in rows}
        queued = self._db.rows("SELECT command, count(*), min(ts), max(ts) FROM members GROUP BY command")
        self._queued = {command: (n, first, last) for command, n, first, last in queued}

    def target(self, target_id: str, commands: int, losses: Sequence[str]) -> TargetReport:
        """The findings of one target, grouped, and its verdict. What does not depend on the target is done once."""
        if self._kinds is None:
            self._kinds = Kinds(self._db, every_exec=any("EXEC" in TARGETS[name].refusals for name in self._chosen))
        target = TARGETS[target_id]
        enterprise = target.slots.function is SlotFunction.ENTERPRISE
        groups = groups_of(self._kinds, self._by_kind(target_id), enterprise=enterprise)
        groups += list(self._counted(target_id))
        return judge(target_id, target.title, groups, commands=commands, losses=losses)

    def _by_kind(self, target_id: str) -> list[Rule]:
        """The rules that are tried on rows. Those of single commands are, if the target was chosen."""
        chosen = target_id in self._chosen
        return [rule for rule in RULES[target_id] if chosen or not isinstance(rule, RefusedCommand)]

    def _counted(self, target_id: str) -> Iterator[FindingGroup]:
        """Of a target that was not chosen: its refused commands, by command only."""
        if target_id in self._chosen:
            return
        target = TARGETS[target_id]
        for rule in RULES[target_id]:
            if isinstance(rule, RefusedCommand):
                queued = isinstance(rule, TxnCommand)
                tally = self._queued if queued else self._tally
                names = {name.encode() for name in target.transactions.refuses} if queued else target.names(rule.kind)
                for command in sorted(tally.keys() & names):
                    yield counted_group(rule, command, *tally[command], queued=queued)

    def _judge(self, target: Target) -> None:
        """Make the view ``findings``: one row per occurrence, ``rule`` an index into the target's rules."""
        seen = _SEEN.get(target.slots.function, "judged")
        selections = (
            f"SELECT {i} AS rule, {_FINDING_COLUMNS} FROM {seen} WHERE {_selection(rule)}"
            for i, rule in enumerate(RULES[target.id])
        )
        self._db.execute("DROP VIEW IF EXISTS findings")
        self._db.execute("CREATE VIEW findings AS " + " UNION ALL ".join(selections))

    def occurrences(self, target_id: str) -> Iterator[dict[str, Any]]:
        """Every occurrence of a chosen target in the order of time: run, worker, conn, seq, ts, rule, target, severity,
        command, keys, error, when, blocks. Byte strings are bytes."""
        rules = RULES[target_id]
        self._judge(TARGETS[target_id])
        for row in self._db.dicts(_OCCURRENCES):
            rule = rules[row["rule"]]
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
                "blocks": rule.blocks,
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
