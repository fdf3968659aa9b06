"""Who speaks to Redis: Sidekiq's processes out of their heartbeats, and the connections of all clients.

Knows: heartbeats, how a process signs off, what a heartbeat tells of its process. Refuses to know: queues.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from proxy.capture.format import Flag, ReplyKind
from proxy.report.rules.advice import Example
from proxy.report.sidekiq import CallerLine, ProcessLine
from proxy.report.sidekiq_keys import Role, which
from proxy.report.studies.sidekiq_names import cmd, role
from proxy.report.studies.sidekiq_queues import HOST
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
CREATE TABLE sk_conns (cid BIGINT, first_ts BIGINT, last_ts BIGINT, first_seq BIGINT, fetches BIGINT, fetched BIGINT,
    undelivered BIGINT, waits BOOLEAN);
CREATE TABLE sk_pushing (cid BIGINT, pushes BIGINT);
CREATE TABLE sk_beats (key BLOB, ts BIGINT, cid BIGINT, addr BLOB);
CREATE TABLE sk_infos (key BLOB, info BLOB, ts BIGINT);
CREATE TABLE sk_ends (key BLOB, ts BIGINT);
CREATE TABLE sk_lost (cid BIGINT, seq BIGINT, ts BIGINT, addr BLOB);
"""

_WAITS = int(Flag.BLOCKING)
_FETCH = f"flags & {int(Flag.BLOCKING | Flag.POP)} = {int(Flag.BLOCKING | Flag.POP)}"
#: What shunt pushed back is not lost.
_UNDELIVERED = f"""count_if(flags & {int(Flag.UNDELIVERED)} <> 0)
    - count_if(flags & {int(Flag.GIVEN_BACK)} <> 0 AND reply = {int(ReplyKind.INTEGER)})"""

#: Run on every chunk: who is connected matters also where nothing of Sidekiq's was seen. Addresses and names are in the
#: table ``conns`` of the study of traffic.
CONNECTIONS = (
    f"""INSERT INTO sk_conns SELECT cid, min(ts), max(ts + greatest(latency_ns, 0)), min(seq), count_if({_FETCH}),
        count_if({_FETCH} AND flags & {int(Flag.SERVED)} <> 0), {_UNDELIVERED},
        bool_or(flags & {_WAITS} <> 0) FROM chunk GROUP BY cid""",
    f"""INSERT INTO sk_lost SELECT cid, seq, ts, client_addr FROM chunk WHERE reply = {int(ReplyKind.LOST)} AND {_FETCH}
        LIMIT {_LOST_PER_CHUNK}""",
)
_BEAT = f"role IN {role('identity')} AND cmd IN {cmd('HSET', 'HMSET')}"
CHUNK = (
    f"""INSERT INTO sk_pushing SELECT cid, count(*) FROM sk_chunk WHERE cmd IN {cmd("LPUSH", "RPUSH")}
        AND flags & {int(Flag.GIVEN_BACK)} = 0 GROUP BY cid""",
    f"INSERT INTO sk_beats SELECT keys[1], ts, cid, client_addr FROM sk_chunk WHERE {_BEAT}",
    f"""INSERT INTO sk_ends SELECT keys[1], max(ts) FROM sk_chunk WHERE role IN {role("work")}
        AND cmd IN {cmd("DEL", "UNLINK")} AND txn = 0 GROUP BY keys[1]""",
)

#: Run where there are arguments.
INFOS = f"""INSERT INTO sk_infos SELECT key, arg_max(info, ts), max(ts) FROM (SELECT keys[1] AS key, ts,
            args[list_position(args, 'info'::BLOB) + 1] AS info FROM sk_chunk WHERE {_BEAT}
            AND flags & {int(Flag.ARGS)} <> 0) WHERE octet_length(info) BETWEEN 2 AND {INFO_MOST} GROUP BY key"""

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
        for statement in CONNECTIONS:
            self._db.execute(statement)

    def take(self, *, arguments: bool) -> None:
        """One chunk in which Sidekiq may be; ``arguments``: some of its rows have them."""
        for statement in (*CHUNK, INFOS) if arguments else CHUNK:
            self._db.execute(statement)

    # ---- results ----------------------------------------------------------------------------------------------------

    def lines(self, namespaces: frozenset[bytes]) -> list[ProcessLine]:
        """The processes of these namespaces in order of their first heartbeat."""
        infos = dict(self._db.rows("SELECT key, arg_max(info, ts) FROM sk_infos GROUP BY key"))
        ends = dict(self._db.rows("SELECT key, max(ts) FROM sk_ends GROUP BY key"))
        lost = self._lost_fetches()
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
                    ended if ended >= last else 0, _about(lost.get(address, ()), last, interval),
                    **told(infos.get(key)),
                )
            )  # fmt: skip
        return sorted(made, key=lambda process: (process.first_ts, process.identity))

    def callers(self) -> list[CallerLine]:
        """All clients by address and name, those with the most connections first."""
        rows = self._db.rows(f"""WITH who AS (SELECT cid, any_value({HOST})::BLOB AS host,
                arg_max(name, last_seq) AS name, sum(n) AS n FROM conns GROUP BY cid),
            pushing AS (SELECT cid, sum(pushes) AS pushes FROM sk_pushing GROUP BY cid),
            what AS (SELECT cid, min(first_ts) AS first_ts, max(last_ts) AS last_ts, min(first_seq) = 0 AS opened,
                sum(fetches) AS fetches, sum(fetched) AS fetched, sum(undelivered) AS undelivered,
                bool_or(waits) AS waits FROM sk_conns GROUP BY cid),
            one AS (SELECT * FROM who JOIN what USING (cid) LEFT JOIN pushing USING (cid)),
            lost AS (SELECT {HOST}::BLOB AS host, cid, count(*) AS lost, min(seq) AS seq FROM sk_lost
                WHERE ts < {self._end()} GROUP BY ALL),
            steps AS (SELECT host, name, first_ts AS t, 1 AS d FROM one UNION ALL
                SELECT host, name, last_ts, -1 FROM one),
            levels AS (SELECT host, name, sum(d) OVER (PARTITION BY host, name ORDER BY t, d DESC
                ROWS UNBOUNDED PRECEDING) AS level FROM steps),
            most AS (SELECT host, name, max(level)::BIGINT AS at_once FROM levels GROUP BY ALL)
            SELECT o.host, o.name, count(*), any_value(m.at_once), count_if(opened),
                count_if(opened AND o.n <= {SHORT_COMMANDS}), sum(o.n)::BIGINT, count_if(waits), sum(fetches)::BIGINT,
                sum(fetched)::BIGINT, coalesce(sum(pushes), 0)::BIGINT, coalesce(sum(l.lost), 0)::BIGINT,
                greatest(sum(undelivered), 0)::BIGINT,
                any_value(l.cid), any_value(l.seq)
            FROM one o JOIN most m ON o.host = m.host AND o.name = m.name LEFT JOIN lost l ON o.cid = l.cid
            GROUP BY o.host, o.name ORDER BY 3 DESC, 1, 2""")
        return [replace(CallerLine(*row[:13]), example=self._example(*row[13:])) for row in rows]

    def _example(self, cid: int | None, seq: int) -> Example | None:
        return None if cid is None else self._db.example(cid, seq)

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

    def _lost_fetches(self) -> dict[bytes, list[int]]:
        """When fetches without a reply were sent, by address."""
        rows = self._db.rows(f"SELECT {HOST}::BLOB, ts FROM sk_lost WHERE ts < {self._end()}")
        found: dict[bytes, list[int]] = defaultdict(list)
        for address, ts in rows:
            found[address].append(ts)
        return found


def _about(moments: Iterable[int], last_ts: int, interval_ns: int | None) -> int:
    """How many of ``moments`` are about when the heartbeats ended."""
    around = 2 * (interval_ns or 10_000_000_000)
    return sum(abs(ts - last_ts) <= around for ts in moments)


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
