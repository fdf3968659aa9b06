"""Transactions and WATCHes put together while a capture is read: what an EXEC runs may stand chunks before it.

Knows: the rows between MULTI and EXEC, which of them are still open at a chunk's end, how another slot function sees
them, and whether a WATCH lies in another slot. Refuses to know: rules, and what is said of a transaction (``judging``,
``together``).

``execs`` has one row for each transaction whose EXEC is in the chunk: its ``keys`` and commands (``members``) in order;
``bits``: the flags that it has by the other slot function, NULL if that makes no difference; ``watch_apart`` and
``apart_enterprise`` (NULL: no). What is kept between chunks are the transactions and WATCHes that are open, and the
different sets of keys, ``transactions (keys, n)``: of these the rarest go where there are too many.
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
CREATE TEMP TABLE execs (cid BIGINT, txn BIGINT, keys BLOB[], members BLOB[], bits UINTEGER, watch_apart UTINYINT,
    apart_enterprise UTINYINT);
CREATE TEMP TABLE marks (cid BIGINT, txn BIGINT, bits UINTEGER, watch_apart UTINYINT, apart_enterprise UTINYINT);
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

#: Of those whose EXEC is here, in order: ``_joined`` makes lists of them.
_RAN = """SELECT cid, txn, command, keys FROM members SEMI JOIN (FROM ended WHERE ran) e USING (cid, txn)
    ORDER BY cid, txn, seq"""
_EXECS = """CREATE OR REPLACE TEMP TABLE execs AS SELECT cid, txn, keys, members, bits, watch_apart, apart_enterprise
    FROM joined LEFT JOIN (SELECT cid, txn, max(bits) AS bits, max(watch_apart) AS watch_apart,
        max(apart_enterprise) AS apart_enterprise FROM marks GROUP BY cid, txn) m USING (cid, txn)"""
_INSIDE = "command <> 'WATCH'::BLOB"
_TOLD = f"slot_enterprise NOT IN ({SLOT_NONE}, {SLOT_UNKNOWN})"
_BITS = f"""INSERT INTO marks SELECT cid, txn, (
        CASE WHEN count(DISTINCT slot_enterprise) FILTER ({_TOLD}) > 1 THEN {int(Flag.TXN_CROSS)} ELSE 0 END
        | CASE WHEN bool_or(slot_enterprise = {SLOT_CROSS}) THEN {int(Flag.TXN_REFUSED)} ELSE 0 END)::UINTEGER, 0, 0
    FROM members WHERE {_INSIDE} GROUP BY cid, txn HAVING bool_or(slot_enterprise <> slot)"""

_SETS = """INSERT INTO key_sets SELECT list_sort(list_distinct(keys)) AS sorted, sum(n) FROM (
    SELECT keys, count(*) AS n FROM joined_all WHERE len(keys) > 1 GROUP BY keys)
    GROUP BY sorted HAVING len(sorted) > 1"""
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


def _apart(slot: str, watch_apart: int, apart_enterprise: int) -> str:
    """Mark EXECs whose transaction and the WATCHes before it lie in more than one ``slot``."""
    return f"""INSERT INTO marks SELECT cid, txn, NULL, {watch_apart}, {apart_enterprise} FROM (
        SELECT b.cid, b.txn, w.{slot} AS slot, true AS watch FROM boundaries b JOIN watches w
            ON w.cid = b.cid AND w.seq > b.since AND w.seq < b.seq
            WHERE b.command = 'EXEC'::BLOB AND w.{slot} >= 0
        UNION ALL
        SELECT b.cid, b.txn, m.{slot}, false FROM boundaries b JOIN members m ON m.cid = b.cid AND m.txn = b.txn
            WHERE b.command = 'EXEC'::BLOB AND m.{_INSIDE} AND m.{slot} >= 0)
    GROUP BY cid, txn HAVING count(DISTINCT slot) > 1 AND bool_or(watch) AND NOT bool_and(watch)"""


class Transactions(Study):
    """It comes before what reads ``execs``. ``seen``: transactions with several keys that were to run."""

    SCHEMA = _SCHEMA
    seen = 0

    def take(self, exchanges: pa.Table) -> None:
        for table in ("execs", "marks"):
            self._db.execute(f"DELETE FROM {table}")
        some = (pc.max(exchanges["txn"]).as_py() or 0) > 0
        if some:
            for statement in (_MEMBERS, _ENDED, _BITS):
                self._db.execute(statement)
        self._db.execute(_WATCHES)
        if self._count("watches"):
            self._db.execute(_BOUNDARIES)
            if some:
                self._db.execute(_apart("slot", 1, 0))
                self._db.execute(_apart("slot_enterprise", 0, 1))
            self._db.execute(_OPEN_WATCHES)
        if some:
            self._take_execs()
            self._db.execute(_OPEN)

    def _take_execs(self) -> None:
        """Make ``execs``, and count the sets of their keys."""
        ran: pa.Table = self._db.connection.sql(_RAN).to_arrow_table()
        inside = pc.not_equal(ran["command"], pa.scalar(b"WATCH", pa.binary()))
        joined_all = _joined(ran)
        joined = joined_all if pc.all(inside).as_py() else _joined(ran.filter(inside))
        for name, table in (("joined_all", joined_all), ("joined", joined)):
            self._db.connection.register(name, table)
        self._db.execute(_EXECS)
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


def _joined(rows: pa.Table) -> pa.Table:
    """Rows of the same cid and txn, which stand one behind the other, as one: cid, txn, keys, members. Their lists
    lie one behind the other too, so only the places where lists begin are new."""
    rows = rows.combine_chunks()
    if not rows.num_rows:
        return pa.table({**{name: rows[name] for name in ("cid", "txn", "keys")}, "members": rows["keys"]})
    cid, txn, command, keys = (rows[name].chunk(0) for name in ("cid", "txn", "command", "keys"))
    last = rows.num_rows - 1
    differs = pc.or_(*(pc.not_equal(each.slice(1), each.slice(0, last)) for each in (cid, txn)))
    after = pc.add(pc.indices_nonzero(differs), pa.scalar(1, pa.uint64())).cast(pa.int32())
    starts = pa.concat_arrays([pa.array([0], pa.int32()), after])
    bounds = pa.concat_arrays([starts, pa.array([rows.num_rows], pa.int32())])
    return pa.table(
        {
            "cid": cid.take(starts),
            "txn": txn.take(starts),
            "keys": type(keys).from_arrays(keys.offsets.take(bounds), keys.values),
            "members": pa.ListArray.from_arrays(bounds, command),
        }
    )
