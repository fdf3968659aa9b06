"""What each target would refuse: the rows that any rule may look at, and what the rules say of them.

Knows: which exchanges a rule may look at (candidates), and what of them needs the whole capture: script bodies,
connections in a database that they were never seen to select. Refuses to know: what a rule says (``rules``), how
transactions are put together (``studies.transactions``), and how candidates are grouped (``studies.kinds``).

Candidates are grouped chunk by chunk. They are kept row by row only for those who ask for every occurrence.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from proxy.capture.format import Flag
from proxy.report.document import FindingGroup, TargetReport
from proxy.report.rules import RULES, RefusedCommand, Rule, TxnCommand, candidates
from proxy.report.rules.rule import NOT_REFUSED
from proxy.report.scripts import script_facts
from proxy.report.source import Source
from proxy.report.studies.kinds import WORTH, Kinds, counted_group, groups_of
from proxy.report.studies.transactions import TXN_BITS
from proxy.report.study import Database, Study
from proxy.report.targets import DEFAULT, TARGETS, SlotFunction, Target
from proxy.report.verdict import judge

_COLUMNS = """cid, seq, ts, db, command, keys, nkeys, slot, unknown, txn, error, flags, script, args, gap, gap_rows,
    slot_enterprise"""
_FINDING_COLUMNS = "cid, seq, ts, command, keys, txn_keys, unknown, txn, flags, args, gap, gap_rows"
_NOTIFICATIONS = (
    r"command IN ('SUBSCRIBE'::BLOB, 'PSUBSCRIBE'::BLOB) AND len(list_filter(args, "
    r"lambda a: regexp_matches(a::VARCHAR, '^__key(space|event)@'))) > 0"
)
#: ``occurred``: all candidates, if they are kept; ``elsewhere``: connections' first rows in a database above 0.
#: ``txn_keys`` and ``members``: keys and commands of an EXEC's transaction.
_ROW = """cid BIGINT, seq BIGINT, ts BIGINT, db INT, command BLOB, keys BLOB[], nkeys INT, slot SMALLINT,
    unknown UTINYINT, txn BIGINT, error BLOB, flags UINTEGER, script BLOB, args BLOB[], gap BLOB, gap_rows BIGINT,
    slot_enterprise SMALLINT, flags_enterprise UINTEGER, notifications UTINYINT, db_unseen UTINYINT,
    script_facts UTINYINT, watch_apart UTINYINT, apart_enterprise UTINYINT, txn_keys BLOB[], members BLOB[]"""
_SCHEMA = f"""
CREATE TABLE occurred ({_ROW});
CREATE TABLE elsewhere ({_ROW});
CREATE TABLE tally (command BLOB, n BIGINT, first_ts BIGINT, last_ts BIGINT);
CREATE TABLE queued (command BLOB, n BIGINT, first_ts BIGINT, last_ts BIGINT);
CREATE TABLE script_calls (script BLOB, n BIGINT);
"""

#: What a rule sees of a row, by the target's slot function.
_SEEN = {
    SlotFunction.REDIS: "judged",
    SlotFunction.ENTERPRISE: """(SELECT * REPLACE (slot_enterprise AS slot, flags_enterprise AS flags,
        apart_enterprise AS watch_apart) FROM judged)""",
}


def _rows(
    source: str,
    *,
    flags: str = "flags",
    notifications: str = "0",
    unseen: int = 0,
    apart: str = "0",
    apart_enterprise: str = "0",
    transaction: str = "NULL",
) -> str:
    """SELECT of the columns of ``_ROW``. ``transaction``: the row of ``execs`` that it has, if any."""
    keys, members = ("NULL", "NULL") if transaction == "NULL" else (f"{transaction}.keys", f"{transaction}.members")
    columns = ", ".join(f"r.{name.strip()}" for name in _COLUMNS.split(","))
    return f"""SELECT {columns}, ({flags})::UINTEGER AS flags_enterprise, ({notifications})::UTINYINT AS notifications,
        {unseen}::UTINYINT AS db_unseen, 0::UTINYINT AS script_facts, ({apart})::UTINYINT AS watch_apart,
        ({apart_enterprise})::UTINYINT AS apart_enterprise, {keys}::BLOB[] AS txn_keys, {members}::BLOB[] AS members
        FROM {source}"""


_GAPS = _rows("chunk_gaps r")
_EXECS = _rows(
    "(FROM chunk WHERE command = 'EXEC'::BLOB) r LEFT JOIN execs e ON e.cid = r.cid AND e.txn = r.txn",
    flags=f"CASE WHEN e.bits IS NULL THEN r.flags ELSE (r.flags & ~{TXN_BITS}) | e.bits END",
    apart="coalesce(e.watch_apart, 0)",
    apart_enterprise="coalesce(e.apart_enterprise, 0)",
    transaction="e",
)
_FIRST = "QUALIFY row_number() OVER (PARTITION BY cid ORDER BY seq) = 1"
_ELSEWHERE = _rows(
    f"""(FROM chunk WHERE db > 0 {_FIRST}) r
    LEFT JOIN execs e ON r.command = 'EXEC'::BLOB AND e.cid = r.cid AND e.txn = r.txn""",
    unseen=1,
    transaction="e",
)
#: Of connections that were never seen to select their database.
_UNSEEN = "(FROM elsewhere ANTI JOIN (SELECT cid FROM conns WHERE selected) s USING (cid))"
#: A key that another slot function sees elsewhere makes its command a candidate.
_ODD = "slot_enterprise <> slot"
_IS_CALL = f"flags & {int(Flag.SCRIPT)} <> 0 AND script <> ''::BLOB"

_COUNTS = (
    f"INSERT INTO tally SELECT command, count(*), min(ts), max(ts) FROM chunk WHERE {NOT_REFUSED.sql()} GROUP BY ALL",
    """INSERT INTO queued SELECT command, count(*), min(ts), max(ts) FROM chunk WHERE txn > 0
    AND command NOT IN ('MULTI'::BLOB, 'EXEC'::BLOB, 'DISCARD'::BLOB, 'WATCH'::BLOB) GROUP BY ALL""",
    f"INSERT INTO script_calls SELECT script, count(*) FROM chunk WHERE {_IS_CALL} GROUP BY ALL",
)

#: Every occurrence, with the keys of its transaction if it is an EXEC.
_OCCURRENCES = """
SELECT * EXCLUDE (txn_keys) REPLACE (coalesce(list_sort(list_distinct(txn_keys)), keys) AS keys) FROM findings
ORDER BY ts, cid, seq, rule
"""


class Judging(Study):
    """The findings of any number of targets; it reads ``execs`` of ``studies.transactions``. ``targets``: those that
    are judged command by command; of the others, commands that they do not run whatever their keys are only counted.
    ``occurrences``: whether they will be asked for; they are kept row by row."""

    SCHEMA = _SCHEMA

    def __init__(self, db: Database, targets: Sequence[str] = (DEFAULT,), *, occurrences: bool = False) -> None:
        super().__init__(db)
        self._chosen = frozenset(targets)
        single = _rows("chunk r", notifications=_NOTIFICATIONS)
        self._single = f"{single} WHERE ({candidates(targets).sql()} OR {_ODD}) AND command <> 'EXEC'::BLOB"
        self._kept = occurrences
        #: Most transactions are fine, and of no interest to a target that runs EXEC.
        self._worth = "true" if any("EXEC" in TARGETS[name].refusals for name in self._chosen) else WORTH
        self._kinds = Kinds(db)
        self._gaps = (0, 0)  # rows, and the exchanges missing there
        self._tally: dict[bytes, tuple[int, int, int]] = {}  # count, first and last time
        self._queued: dict[bytes, tuple[int, int, int]] = {}  # the same of commands inside MULTI

    def take(self, exchanges: pa.Table) -> None:
        """Group what any rule may look at."""
        gaps, missing = self._db.rows("SELECT count(*), coalesce(sum(gap_rows), 0)::BIGINT FROM chunk_gaps")[0]
        self._gaps = (self._gaps[0] + gaps, self._gaps[1] + missing)
        for statement in _COUNTS:
            self._db.execute(statement)
        if (pc.max(exchanges["db"]).as_py() or 0) > 0:
            self._db.execute(f"INSERT INTO elsewhere {_ELSEWHERE}")
            self._db.execute(f"CREATE OR REPLACE TEMP TABLE firsts AS FROM elsewhere {_FIRST}")
            self._db.execute("DELETE FROM elsewhere")
            self._db.execute("INSERT INTO elsewhere FROM firsts")
        rows = f"{self._single} UNION ALL {_GAPS}" if gaps else self._single
        self._kinds.take(rows, f"FROM ({_EXECS}) WHERE {self._worth}")
        if self._kept:
            self._db.execute(f"INSERT INTO occurred {rows} UNION ALL {_EXECS}")

    def finish(self, source: Source) -> None:
        """Add what can be said only of a whole capture: script bodies, who never selected its database."""
        facts = [(sha, int(script_facts(body))) for sha, body in source.scripts().items()]
        table = pa.table(
            {
                "sha": pa.array([sha for sha, _ in facts], pa.binary()),
                "facts": pa.array([bits for _, bits in facts], pa.uint8()),
            }
        )
        self._db.connection.register("facts", table)
        self._db.execute("CREATE TABLE script_facts AS FROM facts")
        # No script is looked at in these rows: what they say is said of their connections.
        unseen = f"SELECT * REPLACE (''::BLOB AS script) FROM {_UNSEEN}"
        self._kinds.take(f"{unseen} WHERE command <> 'EXEC'::BLOB", f"{unseen} WHERE command = 'EXEC'::BLOB")
        self._kinds.finish()
        if self._kept:
            self._db.execute("UPDATE occurred SET script_facts = s.facts FROM script_facts s WHERE script = s.sha")
        self._db.execute(f"CREATE VIEW judged AS FROM occurred UNION ALL FROM {_UNSEEN}")
        self._tally, self._queued = self._counted_of("tally"), self._counted_of("queued")

    def _counted_of(self, table: str) -> dict[bytes, tuple[int, int, int]]:
        rows = self._db.rows(f"SELECT command, sum(n)::BIGINT, min(first_ts), max(last_ts) FROM {table} GROUP BY ALL")
        return {command: (n, first, last) for command, n, first, last in rows}

    def target(self, target_id: str, commands: int, losses: Sequence[str]) -> TargetReport:
        """The findings of one target, grouped, and its verdict. What does not depend on the target is done once."""
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
        """Every occurrence of a chosen target, if they were kept, in the order of time: run, worker, conn, seq, ts,
        rule, target, severity, command, keys, error, when, blocks. Byte strings are bytes."""
        if not self._kept:
            raise RuntimeError("occurrences were not kept: ask for them when the capture is read")
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
        return dict(self._db.rows("SELECT script, sum(n)::BIGINT FROM script_calls GROUP BY script"))

    def gaps(self) -> tuple[int, int]:
        """Gap rows, and the exchanges that are missing at them as far as it is known."""
        return self._gaps


def _selection(rule: Rule) -> str:
    gap = "<>" if rule.reads_gaps else "="
    return f"gap {gap} ''::BLOB AND {rule.predicate.sql()} AND db_unseen = {int(rule.id == 'database-in-use')}"
