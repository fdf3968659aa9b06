"""Who speaks to Redis: Sidekiq's processes out of their heartbeats, and the connections of all clients.

Knows: heartbeats, how a process signs off, what a heartbeat tells of its process. Refuses to know: queues.
"""

from __future__ import annotations

import json
from typing import Any

from proxy.capture.format import Flag, ReplyKind
from proxy.report.sidekiq import CallerLine, ProcessLine
from proxy.report.sidekiq_keys import Role, which
from proxy.report.studies.sidekiq_queues import HOST, blobs
from proxy.report.study import Database

#: Processes that are looked at, those with the most heartbeats first.
PROCESSES_MOST = 500
#: A connection that ended after so many commands was hardly worth its making.
SHORT_COMMANDS = 5
#: A heartbeat's text is about 500 bytes; a larger one is left unread.
INFO_MOST = 65_536
#: Fetches without a reply that are kept of a chunk.
_LOST_PER_CHUNK = 10_000
#: Fetches that end with shunt itself say nothing of their clients, ns.
_AT_THE_END_NS = 3_000_000_000

SCHEMA = """
CREATE TABLE sk_conns (cid BIGINT, addr BLOB, name BLOB, first_ts BIGINT, last_ts BIGINT, first_seq BIGINT, n BIGINT,
    fetches BIGINT, fetched BIGINT, pushes BIGINT, undelivered BIGINT, waits BOOLEAN);
CREATE TABLE sk_beats (key BLOB, ts BIGINT, cid BIGINT, addr BLOB);
CREATE TABLE sk_infos (key BLOB, info BLOB, ts BIGINT);
CREATE TABLE sk_ends (key BLOB, ts BIGINT);
CREATE TABLE sk_lost (cid BIGINT, seq BIGINT, ts BIGINT, addr BLOB);
"""

_WAITS = int(Flag.BLOCKING)
_FETCH = f"flags & {int(Flag.BLOCKING | Flag.POP)} = {int(Flag.BLOCKING | Flag.POP)}"

#: Run on every chunk: who is connected matters also where nothing of Sidekiq's was seen.
CONNECTIONS = f"""INSERT INTO sk_conns SELECT cid, any_value(client_addr), arg_max(client_name, seq), min(ts),
    max(ts + greatest(latency_ns, 0)), min(seq), count(*), count_if({_FETCH}),
    count_if({_FETCH} AND flags & {int(Flag.SERVED)} <> 0), count_if(command IN {blobs(("LPUSH", "RPUSH"))}),
    count_if(flags & {int(Flag.UNDELIVERED)} <> 0), bool_or(flags & {_WAITS} <> 0) FROM chunk GROUP BY cid"""

CHUNK = (
    f"""INSERT INTO sk_beats SELECT keys[1], ts, cid, client_addr FROM chunk WHERE command IN {blobs(("HSET", "HMSET"))}
        AND template IN (SELECT template FROM sk_names WHERE role = '{Role.IDENTITY}')""",
    f"""INSERT INTO sk_infos SELECT key, arg_max(info, ts), max(ts) FROM (SELECT keys[1] AS key, ts,
            args[list_position(args, 'info'::BLOB) + 1] AS info FROM chunk WHERE command IN {blobs(("HSET", "HMSET"))}
            AND flags & {int(Flag.ARGS)} <> 0 AND template IN (SELECT template FROM sk_names
            WHERE role = '{Role.IDENTITY}')) WHERE octet_length(info) BETWEEN 2 AND {INFO_MOST} GROUP BY key""",
    f"""INSERT INTO sk_ends SELECT keys[1], max(ts) FROM chunk WHERE command IN {blobs(("DEL", "UNLINK"))} AND txn = 0
        AND template IN (SELECT template FROM sk_names WHERE role = '{Role.WORK}') GROUP BY keys[1]""",
)  # fmt: skip
_LOST = f"""INSERT INTO sk_lost SELECT cid, seq, ts, client_addr FROM chunk WHERE reply = {int(ReplyKind.LOST)} AND {_FETCH}
    LIMIT {_LOST_PER_CHUNK}"""

_BEATS = f"""
WITH gapped AS (SELECT key, ts, cid, addr, ts - lag(ts) OVER (PARTITION BY key ORDER BY ts) AS gap FROM sk_beats)
SELECT key, count(*), min(ts), max(ts), median(gap)::BIGINT, coalesce(max(gap), 0),
    arg_max({HOST}, ts)::BLOB FROM gapped GROUP BY key ORDER BY 2 DESC, 1 LIMIT {PROCESSES_MOST}
"""


class Processes:
    """One part of the study of Sidekiq."""

    def __init__(self, db: Database) -> None:
        self._db = db
        db.execute(SCHEMA)

    def take_connections(self) -> None:
        """Every chunk: who is connected."""
        self._db.execute(CONNECTIONS)
        self._db.execute(_LOST)

    def take(self) -> None:
        """One chunk in which Sidekiq may be."""
        for statement in CHUNK:
            self._db.execute(statement)

    # ---- results ------------------------------------------------------------------------------------------------------

    def lines(self, namespaces: frozenset[bytes]) -> list[ProcessLine]:
        """The processes of these namespaces in order of their first heartbeat."""
        infos = dict(self._db.rows("SELECT key, arg_max(info, ts) FROM sk_infos GROUP BY key"))
        ends = dict(self._db.rows("SELECT key, max(ts) FROM sk_ends GROUP BY key"))
        made = []
        for key, beats, first, last, interval, silence, address in self._db.rows(_BEATS):
            found = which(key)
            if found is None or found.role is not Role.IDENTITY or found.namespace not in namespaces:
                continue
            # It may have signed off, and beaten once more: then the sign-off does not count.
            ended = max((ts for suffix in (b":workers", b":work") if (ts := ends.get(key + suffix, 0))), default=0)
            made.append(
                ProcessLine(
                    found.namespace, found.rest, address, beats, first, last, interval, silence,
                    ended if ended >= last else 0, self._lost_by(address, last, interval), **told(infos.get(key)),
                )
            )  # fmt: skip
        return sorted(made, key=lambda process: (process.first_ts, process.identity))

    def callers(self) -> list[CallerLine]:
        """All clients by address and name, those with the most connections first."""
        rows = self._db.rows(f"""WITH one AS (SELECT cid, any_value({HOST})::BLOB AS host, arg_max(name, last_ts) AS name,
                min(first_ts) AS first_ts, max(last_ts) AS last_ts, min(first_seq) = 0 AS opened, sum(n) AS n,
                sum(fetches) AS fetches, sum(fetched) AS fetched, sum(pushes) AS pushes, sum(undelivered) AS undelivered,
                bool_or(waits) AS waits FROM sk_conns GROUP BY cid),
            lost AS (SELECT {HOST}::BLOB AS host, cid, count(*) AS lost, min(seq) AS seq FROM sk_lost
                WHERE ts < {self._end()} GROUP BY ALL),
            steps AS (SELECT host, name, first_ts AS t, 1 AS d FROM one UNION ALL
                SELECT host, name, last_ts, -1 FROM one),
            levels AS (SELECT host, name, sum(d) OVER (PARTITION BY host, name ORDER BY t, d DESC
                ROWS UNBOUNDED PRECEDING) AS level FROM steps),
            most AS (SELECT host, name, max(level)::BIGINT AS at_once FROM levels GROUP BY ALL)
            SELECT o.host, o.name, count(*), any_value(m.at_once), count_if(opened),
                count_if(opened AND o.n <= {SHORT_COMMANDS}), sum(o.n)::BIGINT, count_if(waits), sum(fetches)::BIGINT,
                sum(fetched)::BIGINT, sum(pushes)::BIGINT, coalesce(sum(l.lost), 0)::BIGINT, sum(undelivered)::BIGINT,
                any_value(l.cid), any_value(l.seq)
            FROM one o JOIN most m ON o.host = m.host AND o.name = m.name LEFT JOIN lost l ON o.cid = l.cid
            GROUP BY o.host, o.name ORDER BY 3 DESC, 1, 2""")
        return [
            CallerLine(*row[:13], example=None if row[13] is None else self._db.example(row[13], row[14]))
            for row in rows
        ]

    def at_once(self) -> int:
        """The most connections at a time, as far as their commands show it."""
        rows = self._db.rows("""WITH one AS (SELECT min(first_ts) AS a, max(last_ts) AS b FROM sk_conns GROUP BY cid),
            steps AS (SELECT a AS t, 1 AS d FROM one UNION ALL SELECT b, -1 FROM one)
            SELECT max(level) FROM (SELECT sum(d) OVER (ORDER BY t, d DESC ROWS UNBOUNDED PRECEDING) AS level
            FROM steps)""")
        return int(rows[0][0] or 0)

    def span(self) -> tuple[int, int]:
        """First and last moment of the capture."""
        first, last = self._db.rows("SELECT min(first_ts), max(last_ts) FROM sk_conns")[0]
        return first or 0, last or 0

    def _end(self) -> int:
        return self.span()[1] - _AT_THE_END_NS

    def _lost_by(self, address: bytes, last_ts: int, interval: int | None) -> int:
        """Fetches from an address that ended without a reply about when its heartbeats ended."""
        around = 2 * (interval or 10_000_000_000)
        rows = self._db.connection.execute(
            f"SELECT count(*) FROM sk_lost WHERE {HOST}::BLOB = ? AND ts BETWEEN ? AND ? AND ts < ?",
            [address, last_ts - around, last_ts + around, self._end()],
        ).fetchall()
        return int(rows[0][0])


def told(info: bytes | None) -> dict[str, Any]:
    """What a heartbeat's text tells of its process, as fields of ProcessLine; empty: nothing that can be read."""
    try:
        data = json.loads(info or b"")
        return {
            "told": True,
            "hostname": str(data.get("hostname") or ""),
            "pid": int(data.get("pid") or 0),
            "tag": str(data.get("tag") or ""),
            "version": str(data.get("version") or ""),
            "concurrency": int(data.get("concurrency") or 0),
            "queues": tuple(sorted(map(str, data.get("queues") or ()))),
            "started_ts": int(float(data.get("started_at") or 0) * 1e9),
        }
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return {}
