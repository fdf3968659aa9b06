"""Transactions and WATCHes put together while a capture is read: what an EXEC runs may stand chunks before it.

Knows: the rows between MULTI and EXEC, which of them are still open at a chunk's end, how another slot function sees
them, and whether a WATCH lies in another slot. Refuses to know: rules, and what is said of a transaction (``judging``,
``together``).

``execs`` has one row for each transaction whose EXEC is in the chunk: its ``keys`` and commands (``members``) in order,
``bits`` (NULL, or the flags that it has by the other slot function), ``watch_apart`` and ``apart_enterprise``. What is
kept between chunks are the transactions and WATCHes that are open, and the different sets of keys:
``transactions (keys, n)``, of which the rarest go where there are too many.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from proxy.capture.format import SLOT_CROSS, SLOT_NONE, SLOT_UNKNOWN, Flag
from proxy.report.source import Source
from proxy.report.study import Study

#: Different sets of keys that are kept, and how many there may be before they are cut to that.
MOST_SETS = 100_000
CUT_SETS_AT = 300_000

TXN_BITS = int(Flag.TXN_CROSS | Flag.TXN_REFUSED)
_ROW = "cid BIGINT, txn BIGINT, seq BIGINT, command BLOB, keys BLOB[], slot SMALLINT, slot_enterprise SMALLINT"
_COLUMNS = "cid, txn, seq, command, keys, slot, slot_enterprise"
_SCHEMA = f"""
CREATE TEMP TABLE open_members ({_ROW});
CREATE TEMP TABLE open_watches (cid BIGINT, seq BIGINT, slot SMALLINT, slot_enterprise SMALLINT);
CREATE TEMP TABLE key_sets (keys BLOB[], n BIGINT);
CREATE TEMP TABLE execs (cid BIGINT, txn BIGINT, keys BLOB[], members BLOB[], every_key BLOB[], bits UINTEGER,
    watch_apart UTINYINT, apart_enterprise UTINYINT);
"""

#: WATCHes with a transaction's number are its first rows.
_MEMBERS = f"""CREATE OR REPLACE TEMP TABLE members AS SELECT * FROM open_members UNION ALL
    SELECT {_COLUMNS} FROM chunk
    WHERE txn > 0 AND command NOT IN ('MULTI'::BLOB, 'EXEC'::BLOB, 'DISCARD'::BLOB)"""
_ENDED = """CREATE OR REPLACE TEMP TABLE ended AS SELECT DISTINCT cid, txn, command = 'EXEC'::BLOB AS ran FROM chunk
    WHERE txn > 0 AND command IN ('EXEC'::BLOB, 'DISCARD'::BLOB, 'RESET'::BLOB)"""
#: A connection has one transaction at a time: one with a lower number than its last is not open any more.
_OPEN = """CREATE OR REPLACE TEMP TABLE open_members AS SELECT * FROM members
    SEMI JOIN (SELECT cid, max(txn) AS txn FROM members GROUP BY cid) last USING (cid, txn)
    ANTI JOIN ended USING (cid, txn)"""

_INSIDE = "command <> 'WATCH'::BLOB"
_TOLD = f"{_INSIDE} AND slot_enterprise NOT IN ({SLOT_NONE}, {SLOT_UNKNOWN})"
_BITS = f"""CASE WHEN bool_or({_INSIDE} AND slot_enterprise <> slot) THEN (
    CASE WHEN min(slot_enterprise) FILTER ({_TOLD}) < max(slot_enterprise) FILTER ({_TOLD})
        THEN {int(Flag.TXN_CROSS)} ELSE 0 END
    | CASE WHEN bool_or({_INSIDE} AND slot_enterprise = {SLOT_CROSS}) THEN {int(Flag.TXN_REFUSED)} ELSE 0 END
    )::UINTEGER END"""
_EXECS = f"""INSERT INTO execs SELECT cid, txn,
    flatten(list(keys ORDER BY seq) FILTER ({_INSIDE})), list(command ORDER BY seq) FILTER ({_INSIDE}),
    flatten(list(keys ORDER BY seq)), {_BITS}, 0, 0
    FROM members SEMI JOIN (FROM ended WHERE ran) e USING (cid, txn) GROUP BY cid, txn"""

_SETS = """INSERT INTO key_sets SELECT list_sort(list_distinct(every_key)) AS keys, sum(n) FROM (
    SELECT every_key, count(*) AS n FROM execs WHERE len(every_key) > 1 GROUP BY every_key)
    GROUP BY keys HAVING len(keys) > 1"""
_MERGED_SETS = "SELECT keys, sum(n)::BIGINT AS n FROM key_sets GROUP BY keys"
_CUT_SETS = f"CREATE OR REPLACE TEMP TABLE key_sets AS {_MERGED_SETS} ORDER BY n DESC, keys LIMIT {MOST_SETS}"

_WATCHES = """CREATE OR REPLACE TEMP TABLE watches AS FROM open_watches UNION ALL
    SELECT cid, seq, slot, slot_enterprise FROM chunk WHERE command = 'WATCH'::BLOB"""
#: Where a WATCH ends.
_BOUNDARIES = """CREATE OR REPLACE TEMP TABLE boundaries AS SELECT cid, seq, txn, command,
        lag(seq, 1, -1) OVER (PARTITION BY cid ORDER BY seq) AS since
    FROM chunk SEMI JOIN (SELECT cid FROM watches) w USING (cid)
    WHERE command IN ('EXEC'::BLOB, 'DISCARD'::BLOB, 'UNWATCH'::BLOB, 'RESET'::BLOB)"""
_OPEN_WATCHES = """CREATE OR REPLACE TEMP TABLE open_watches AS
    SELECT cid, max(w.seq) AS seq, slot, slot_enterprise FROM watches w
    LEFT JOIN (SELECT cid, max(seq) AS seq FROM boundaries GROUP BY cid) b USING (cid)
    WHERE b.seq IS NULL OR w.seq > b.seq GROUP BY cid, slot, slot_enterprise"""


def _apart(column: str, slot: str) -> str:
    """Mark EXECs whose transaction and the WATCHes before it lie in more than one ``slot``."""
    return f"""UPDATE execs SET {column} = 1 FROM (
        SELECT cid, txn FROM (
            SELECT b.cid, b.txn, w.{slot} AS slot, true AS watch FROM boundaries b JOIN watches w
                ON w.cid = b.cid AND w.seq > b.since AND w.seq < b.seq
                WHERE b.command = 'EXEC'::BLOB AND w.{slot} >= 0
            UNION ALL
            SELECT b.cid, b.txn, m.{slot}, false FROM boundaries b JOIN members m ON m.cid = b.cid AND m.txn = b.txn
                WHERE b.command = 'EXEC'::BLOB AND m.{_INSIDE} AND m.{slot} >= 0)
        GROUP BY cid, txn HAVING count(DISTINCT slot) > 1 AND bool_or(watch) AND NOT bool_and(watch)) a
    WHERE execs.cid = a.cid AND execs.txn = a.txn"""


class Transactions(Study):
    """It comes before what reads ``execs``. ``seen``: transactions with several keys that were to run."""

    SCHEMA = _SCHEMA
    seen = 0

    def take(self, exchanges: pa.Table) -> None:
        self._db.execute("DELETE FROM execs")
        if (pc.max(exchanges["txn"]).as_py() or 0) > 0:
            for statement in (_MEMBERS, _ENDED, _EXECS, _OPEN):
                self._db.execute(statement)
            self._add_sets()
        self._db.execute(_WATCHES)
        if self._count("watches"):
            self._db.execute(_BOUNDARIES)
            if self._count("execs"):
                self._db.execute(_apart("watch_apart", "slot"))
                self._db.execute(_apart("apart_enterprise", "slot_enterprise"))
            self._db.execute(_OPEN_WATCHES)

    def _add_sets(self) -> None:
        before = self._sum_of_sets()
        self._db.execute(_SETS)
        self.seen += self._sum_of_sets() - before
        if self._count("key_sets") > CUT_SETS_AT:
            self._db.execute(_CUT_SETS)

    def _count(self, table: str) -> int:
        return int(self._db.rows(f"SELECT count(*) FROM {table}")[0][0])

    def _sum_of_sets(self) -> int:
        return int(self._db.rows("SELECT coalesce(sum(n), 0)::BIGINT FROM key_sets")[0][0])

    def finish(self, source: Source) -> None:
        """Make the table that ``together`` reads."""
        self._db.execute(f"CREATE TABLE transactions AS {_MERGED_SETS}")
