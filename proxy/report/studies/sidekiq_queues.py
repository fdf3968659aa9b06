"""Sidekiq's queues: what was pushed and fetched, how deep they were, how long jobs waited.

Knows: which commands push, fetch, show that a queue is empty, or disturb it; transactions. Refuses to know: how a queue
is replayed (``fifo``), payloads (``sidekiq_jobs``).

A push counts from its command's arrival, a fetch from its reply's: a reply to a fetch may overtake the one to the push
that it waited for. Events of all workers of a shunt are put in order of time at the end, so that a push through one
and a fetch through another meet.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from proxy.capture.format import Flag, ReplyKind
from proxy.report.fifo import CLEARED, DISTURBED, EMPTY, POP, POP_LEFT, PUSH, REQUEUE, STEPS, Fifo
from proxy.report.sidekiq import DepthPoint, QueueLine, Spread
from proxy.report.sidekiq_keys import Key, which
from proxy.report.studies.in_order import in_order
from proxy.report.studies.sidekiq_names import COMMANDS, Names, cmd, role
from proxy.report.study import Database

#: Points of a queue's time line at most; and the shortest step between two, ns.
POINTS = 240
STEP_NS = 1_000_000_000
#: Jobs above this size are counted apart, bytes.
BIG_JOB = 65_536
#: Buckets of a size's histogram per doubling: 2.2 % at most.
SIZE_STEPS = 16
#: Clients that push to a queue, of each chunk and in a report.
_PUSHERS_PER_CHUNK = 1_000
_PUSHERS = 4
#: How many events go to ``fifo`` at a time.
_EVENTS = 131_072

_PUSHES = {"LPUSH": PUSH, "LPUSHX": PUSH, "RPUSH": REQUEUE, "RPUSHX": REQUEUE}
_REMOVALS = {"DEL": CLEARED, "UNLINK": CLEARED, "LREM": DISTURBED, "LTRIM": DISTURBED, "RENAME": DISTURBED}
_FETCHES = {
    "BRPOP": POP, "RPOP": POP, "BRPOPLPUSH": POP, "RPOPLPUSH": POP, "BLMOVE": POP, "LMOVE": POP,
    "BLPOP": POP_LEFT, "LPOP": POP_LEFT,
}  # fmt: skip


def _kinds(table: dict[str, int]) -> str:
    """SQL: a command's kind."""
    return "CASE cmd " + " ".join(f"WHEN {COMMANDS.index(name)} THEN {kind}" for name, kind in table.items()) + " END"


def jobs_in(columns: list[str], others: int, each: int = 1) -> str:
    """SQL: how many jobs a command carries, of ``each`` arguments, after ``others`` arguments; -1: not known."""
    by_args = f"CASE WHEN flags & {int(Flag.ARGS | Flag.ARGS_CUT)} = {int(Flag.ARGS)} THEN len(args) ELSE 0 END"
    count = f"CASE WHEN nargs > 0 THEN nargs ELSE {by_args} END" if "nargs" in columns else by_args
    return f"coalesce(nullif(greatest(({count}) - {others}, 0) // {each}, 0), -1)::INT"


SCHEMA = """
CREATE TABLE sk_events (t BIGINT, queue INT, kind TINYINT, amount INT);
CREATE TABLE sk_queued (cid BIGINT, txn BIGINT, db INT, key BLOB, kind TINYINT, amount INT, age INT);
CREATE TABLE sk_pushers (db INT, key BLOB, cid BIGINT, n BIGINT, first_ts BIGINT, last_ts BIGINT,
    seq BIGINT);
CREATE TABLE sk_sizes (db INT, key BLOB, bucket INT, n BIGINT, biggest BIGINT, big BIGINT);
"""

_QUEUES = f"role IN {role('queue')}"
_CHANGES = {**_PUSHES, **_REMOVALS}
_DONE = f"reply <> {int(ReplyKind.ERROR)} AND flags & {int(Flag.REPLIED_BY_PROXY)} = 0"
_QUEUED = f"flags & {int(Flag.QUEUED)} <> 0"


class Queues:
    """One part of the study of Sidekiq."""

    def __init__(self, db: Database, names: Names) -> None:
        self._db = db
        self._names = names
        self._listened: set[tuple[int, bytes]] = set()
        self._first_ts: int | None = None
        self._last_ts = 0
        db.execute(SCHEMA)

    def take(self, columns: list[str]) -> None:
        """One chunk in which Sidekiq may be: it is the view ``sk_chunk``."""
        amount = jobs_in(columns, 2)
        lost = f"reply = {int(ReplyKind.LOST)}"
        changes = f"""SELECT ts, cid, seq, txn, db, keys[1] AS key, request_bytes, {_QUEUED} AS queued,
                CASE WHEN {lost} THEN {DISTURBED} ELSE {_kinds(_CHANGES)} END::TINYINT AS kind, {amount} AS amount
            FROM sk_chunk WHERE {_QUEUES} AND cmd IN {cmd(*_CHANGES)} AND {_DONE}"""
        self._db.execute(f"CREATE OR REPLACE TEMP TABLE sk_changes AS {changes}")
        self._pushers()
        self._transactions()
        self._add("SELECT ts AS t, db, key, kind, amount FROM sk_changes WHERE NOT queued")
        served = int(Flag.SERVED)
        several = f"cmd IN {cmd('RPOP', 'LPOP')} AND reply NOT IN ({int(ReplyKind.BULK)}, {int(ReplyKind.NULL)})"
        self._add(f"""SELECT ts + greatest(latency_ns, 0) AS t, db, served_key AS key,
                CASE WHEN {several} THEN {DISTURBED} ELSE {_kinds(_FETCHES)} END::TINYINT AS kind, 1::INT AS amount
            FROM sk_chunk WHERE {_QUEUES} AND flags & {served} <> 0 AND cmd IN {cmd(*_FETCHES)}""")
        self._fetched_nothing()
        gaps = self._db.rows("SELECT DISTINCT ts FROM chunk_gaps LIMIT 1000")
        for (ts,) in gaps:
            self._db.execute(f"INSERT INTO sk_events VALUES ({ts}, -1, {DISTURBED}, 1)")

    def _pushers(self) -> None:
        pushes = f"kind IN ({PUSH}, {REQUEUE})"
        self._db.execute(f"""INSERT INTO sk_pushers SELECT db, key, cid, count(*) AS n, min(ts), max(ts),
            arg_min(seq, ts) FROM sk_changes WHERE {pushes} GROUP BY db, key, cid
            ORDER BY n DESC, db, key, cid LIMIT {_PUSHERS_PER_CHUNK}""")
        self._db.execute(f"""INSERT INTO sk_sizes SELECT db, key, floor(log2(size) * {SIZE_STEPS})::INT AS bucket,
            sum(amount), max(size), sum(amount) FILTER (size > {BIG_JOB})
            FROM (SELECT *, request_bytes // amount AS size FROM sk_changes WHERE {pushes} AND amount > 0 AND size > 0)
            GROUP BY ALL""")

    def _transactions(self) -> None:
        """Pushes between MULTI and EXEC count when EXEC ran. An EXEC may come one chunk after what it runs."""
        db = self._db
        db.execute("INSERT INTO sk_queued SELECT cid, txn, db, key, kind, amount, 0 FROM sk_changes WHERE queued")
        if not db.rows("SELECT count(*) FROM sk_queued")[0][0]:
            return
        db.execute(f"""CREATE OR REPLACE TEMP TABLE sk_execs AS SELECT cid, txn, ts, reply
            FROM sk_chunk WHERE cmd IN {cmd("EXEC")} AND txn > 0""")
        self._add(f"""SELECT e.ts AS t, q.db, q.key, q.kind, q.amount FROM sk_queued q JOIN sk_execs e USING (cid, txn)
            WHERE e.reply = {int(ReplyKind.ARRAY)}""")
        db.execute("DELETE FROM sk_queued WHERE age > 0 OR (cid, txn) IN (SELECT (cid, txn) FROM sk_execs)")
        db.execute("UPDATE sk_queued SET age = age + 1")

    def _fetched_nothing(self) -> None:
        """What fetches asked for: a connection always asks for the same queues, in changing order. And where one came
        back empty, its queues were: one observation a second will do. A fetch of which no reply was seen (in a capture
        imported from MONITOR) may have taken something."""
        empty, unseen = f"reply = {int(ReplyKind.NULL)}", f"reply = {int(ReplyKind.NONE)}"
        asked = f"CASE WHEN cmd IN {cmd('BRPOP', 'BLPOP')} THEN keys ELSE keys[:1] END"
        fetch = f"FROM sk_chunk WHERE {_QUEUES} AND cmd IN {cmd(*_FETCHES)} AND NOT {_QUEUED}"
        self._db.execute(f"""CREATE OR REPLACE TEMP TABLE sk_empty AS
            SELECT db, unnest(keys) AS key, kind, max(t) AS t FROM (
                SELECT db, {asked} AS keys, CASE WHEN {empty} THEN {EMPTY} ELSE {DISTURBED} END::TINYINT AS kind,
                    ts // 1000000000 AS second, max(ts + greatest(latency_ns, 0)) AS t {fetch} AND ({empty} OR {unseen})
                GROUP BY db, 2, kind, second) GROUP BY db, key, kind, second""")
        for db, key in self._db.rows(f"""SELECT DISTINCT db, unnest(keys) FROM (
                SELECT db, any_value({asked}) AS keys {fetch} GROUP BY db, cid) UNION SELECT db, key FROM sk_empty"""):
            if self._names.queue(db, key) >= 0:
                self._listened.add((db, key))
        self._add("SELECT t, db, key, kind, 1::INT AS amount FROM sk_empty")

    def _add(self, statement: str) -> None:
        """The rows t, db, key, kind, amount of ``statement`` become events of their queues."""
        found: pa.Table = self._db.connection.sql(statement).to_arrow_table().combine_chunks()
        if not found.num_rows:
            return
        span = pc.min_max(found["t"]).as_py()
        self._first_ts = span["min"] if self._first_ts is None else min(self._first_ts, span["min"])
        self._last_ts = max(self._last_ts, span["max"])
        keys = found["key"].combine_chunks().dictionary_encode()
        if isinstance(keys, pa.ChunkedArray):
            keys = keys.combine_chunks()
        names = keys.dictionary.to_pylist()
        # Which queue: by database and key; the number of pairs is small.
        pair = pc.add(pc.multiply(found["db"].cast(pa.int64()), len(names)), keys.indices.cast(pa.int64()))
        pairs = (
            pair.combine_chunks().dictionary_encode() if isinstance(pair, pa.ChunkedArray) else pair.dictionary_encode()
        )
        numbers = [self._names.queue(*divmod_name(each, names)) for each in pairs.dictionary.to_pylist()]
        queue = pa.array(numbers, pa.int32()).take(pairs.indices)
        events = pa.table({"t": found["t"], "queue": queue, "kind": found["kind"], "amount": found["amount"]})
        self._db.connection.register("sk_new", events)
        self._db.execute("INSERT INTO sk_events SELECT * FROM sk_new WHERE queue >= 0")

    # ---- results ----------------------------------------------------------------------------------------------------

    def lines(self, namespaces: frozenset[bytes]) -> list[QueueLine]:
        """The queues of these namespaces, the busiest first."""
        numbers = self._names.queues
        if not numbers or self._first_ts is None:
            return []
        span = self._last_ts - self._first_ts
        step = max(STEP_NS, -(-(span + 1) // POINTS))
        fifo = Fifo(len(numbers), self._first_ts, step, span // step + 1)
        # Of one moment a push goes before a fetch, and that before an observation (see the numbers of ``fifo``).
        for batch in in_order(self._db, "sk_events", "t, queue, kind, amount", _EVENTS):
            fifo.feed(*(_view(batch.column(name), code) for name, code in zip(batch.schema.names, "qibi", strict=True)))
        fifo.finish()
        peaks, sizes, pushers = self._peaks(), self._sizes(), self._pushed_by()
        made = []
        for (db, key), number in numbers.items():
            found = which(key)
            if found is None or found.namespace not in namespaces:
                continue
            line = _points(fifo.line(number), self._first_ts, step)
            more: dict[str, Any] = {**peaks.get(number, {}), **sizes.get((db, key), {}), **pushers.get((db, key), {})}
            made.append(_queue_line(found, db, fifo, number, line, listened=(db, key) in self._listened, **more))
        return sorted(made, key=lambda queue: (-queue.pushes - queue.fetched, queue.key, queue.db))

    def _peaks(self) -> dict[int, dict[str, int]]:
        rows = self._db.rows(f"""SELECT queue, max(pushed)::BIGINT, max(popped)::BIGINT FROM (
            SELECT queue, t // 1000000000 AS s, sum(amount) FILTER (kind = {PUSH} AND amount > 0) AS pushed,
                count(*) FILTER (kind IN ({POP}, {POP_LEFT})) AS popped FROM sk_events GROUP BY queue, s)
            GROUP BY queue""")
        return {q: {"peak_pushed_per_s": pushed or 0, "peak_fetched_per_s": popped} for q, pushed, popped in rows}

    def _sizes(self) -> dict[tuple[int, bytes], dict[str, Any]]:
        waits: dict[tuple[int, bytes], list[tuple[int, int]]] = defaultdict(list)
        most: dict[tuple[int, bytes], tuple[int, int]] = {}
        for db, key, bucket, n, biggest, big in self._db.rows(
            """SELECT db, key, bucket, sum(n)::BIGINT, max(biggest), coalesce(sum(big), 0)::BIGINT FROM sk_sizes
            GROUP BY ALL ORDER BY bucket"""
        ):
            waits[db, key].append((bucket, n))
            before = most.get((db, key), (0, 0))
            most[db, key] = (max(before[0], biggest), before[1] + big)
        return {
            place: {"job_bytes": spread(found, SIZE_STEPS, most[place][0]), "big_jobs": most[place][1]}
            for place, found in waits.items()
        }

    def _pushed_by(self) -> dict[tuple[int, bytes], dict[str, Any]]:
        rows = self._db.rows(f"""WITH who AS (SELECT cid, any_value({HOST})::BLOB AS host FROM conns GROUP BY cid),
            one AS (SELECT db, key, host, sum(n) AS n, min(first_ts) AS first_ts, max(last_ts) AS last_ts,
                arg_min(cid, first_ts) AS cid, arg_min(seq, first_ts) AS seq
                FROM sk_pushers JOIN who USING (cid) GROUP BY ALL)
            SELECT db, key, sum(n)::BIGINT, min(first_ts), max(last_ts), arg_min(cid, first_ts), arg_min(seq, first_ts),
                list(host ORDER BY n DESC)[:{_PUSHERS}] FROM one GROUP BY db, key""")
        return {
            (db, key): {
                "pushes": n, "first_push_ts": first, "last_push_ts": last, "pushers": tuple(hosts),
                "example": self._db.example(cid, seq),
            }
            for db, key, n, first, last, cid, seq, hosts in rows
        }  # fmt: skip


#: SQL: a client's address without its port. Addresses are in the table ``conns`` of the study of traffic.
HOST = r"regexp_replace(addr::VARCHAR, ':[0-9]+$', '')"


def divmod_name(pair: int, names: list[bytes]) -> tuple[int, bytes]:
    """Database and key out of their common number."""
    db, index = divmod(pair, len(names))
    return db, names[index]


def spread(histogram: list[tuple[int, int]], steps: int, most: int) -> Spread | None:
    """A distribution out of (bucket, count) in order of buckets, ``steps`` to a doubling. None: nothing was counted."""
    total = sum(count for _, count in histogram)
    if not total:
        return None

    def quantile(share: float) -> int:
        before = 0
        for bucket, count in histogram:
            before += count
            if before >= share * total:
                return min(int(2 ** ((bucket + 0.5) / steps)), most)
        return most

    return Spread(total, quantile(0.5), quantile(0.99), most)


def _queue_line(key: Key, db: int, fifo: Fifo, number: int, line: tuple[DepthPoint, ...], **more: Any) -> QueueLine:
    """One queue out of what ``fifo`` has of it, and ``more`` fields."""
    totals = fifo.totals(number)
    counts: dict[str, Any] = {
        name: totals[name] or 0
        for name in ("pushed", "requeued", "removed", "unseen_in", "unseen_out", "unknown_pushes")
    }
    depths: dict[str, Any] = {name: totals[name] for name in ("depth", "relative", "at_least", "highest")}
    return QueueLine(
        key.namespace,
        key.rest,
        db,
        fetched=totals["popped"] or 0,
        wait_ns=spread(fifo.waits(number), STEPS, totals["wait_max_ns"] or 0),
        line=line,
        **counts,
        **depths,
        **more,
    )


def _points(
    line: list[tuple[int, int, int | None, int | None, bool]], start_ns: int, step_ns: int
) -> tuple[DepthPoint, ...]:
    return tuple(
        DepthPoint(start_ns + i * step_ns, pushed, popped, high, last)
        for i, (pushed, popped, high, last, _) in enumerate(line)
    )


def _view(column: pa.Array, code: str) -> memoryview:
    """An integer column without nulls as it lies in memory."""
    width = {"q": 8, "i": 4, "b": 1}[code]
    start = column.offset * width
    return memoryview(column.buffers()[1])[start : start + len(column) * width].cast("B").cast(code)  # type: ignore[call-overload,no-any-return]
