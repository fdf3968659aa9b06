"""Slow commands, and commands that read or write too much at once: who sent them, on which keys, when.

Knows: the tables of *sites* (one measure, command, pattern and client), and their caps. Refuses to know: how a
measure is found in a row (``measures``), and what is said of it (``rules``).

Few rows pass a threshold. They are copied once per chunk, and each measure takes its own from that copy.
"""

from __future__ import annotations

from collections import defaultdict

import pyarrow as pa

from proxy.report.costs import SlowLine
from proxy.report.rhythm import MINUTE_NS, Schedule, schedule
from proxy.report.rules.costs import Measure, Site
from proxy.report.studies import measures
from proxy.report.studies.patterns import Patterns
from proxy.report.study import Database, Study

#: Sites of each measure that are kept of a chunk, and in all; the others go on as one.
SITES = 1_000
#: Patterns of slow commands whose minutes are kept of a chunk.
BEATS = 300
#: The table is brought together again when it has so many rows.
MERGE_ROWS = 50_000

_SITE = """measure VARCHAR, command BLOB, template BLOB, other BOOLEAN, addr BLOB, name BLOB, n BIGINT, worst BIGINT,
    total_ns HUGEINT, request_bytes BIGINT, reply_bytes BIGINT, first_ts BIGINT, last_ts BIGINT,
    place STRUCT(worst BIGINT, before BIGINT, cid BIGINT, seq BIGINT)"""
#: ``place``: of the worst, the earliest of those that are as bad.
_SCHEMA = f"""
CREATE TABLE sites ({_SITE}); CREATE TABLE site_chunk ({_SITE});
CREATE TABLE beats (command BLOB, template BLOB, minute BIGINT, n BIGINT);
"""
_SUMS = """sum(n)::BIGINT AS n, max(worst) AS worst, sum(total_ns)::HUGEINT AS total_ns,
    max(request_bytes) AS request_bytes, max(reply_bytes) AS reply_bytes, min(first_ts) AS first_ts,
    max(last_ts) AS last_ts, max(place) AS place"""
_HOST = "regexp_replace(client_addr::VARCHAR, ':[0-9]+$', '')::BLOB"


def _grouped(rows: str) -> str:
    """Rows of ``measures.rows`` as sites."""
    return f"""INSERT INTO site_chunk SELECT measure, command, template, false, {_HOST} AS addr, name, {_SUMS} FROM (
        SELECT measure, command, template, client_addr, client_name AS name, count(*) AS n, max(worst) AS worst,
            sum(took) AS total_ns, max(request_bytes) AS request_bytes, max(reply_bytes) AS reply_bytes,
            min(ts) AS first_ts, max(ts) AS last_ts,
            max({{'worst': worst, 'before': -ts, 'cid': cid, 'seq': seq}}) AS place
        FROM ({rows}) GROUP BY ALL) GROUP BY ALL"""


def _named(column: str) -> str:
    return f"CASE WHEN beyond THEN ''::BLOB ELSE {column} END AS {column}"


#: Sites beyond the cap become one for each measure: those that took the least time.
_CAPPED = f"""INSERT INTO sites WITH placed AS (SELECT *,
        other OR row_number() OVER (PARTITION BY measure
            ORDER BY other, total_ns DESC, command, template, addr, name) > {SITES} AS beyond
    FROM (SELECT measure, command, template, other, addr, name, {_SUMS} FROM site_chunk GROUP BY ALL))
SELECT measure, {_named("command")}, {_named("template")}, beyond AS other, {_named("addr")}, {_named("name")}, {_SUMS}
FROM placed GROUP BY ALL"""
_BEATS = f"""INSERT INTO beats SELECT command, template, ts // {MINUTE_NS}, count(*) FROM costly
    SEMI JOIN (SELECT command, template FROM costly WHERE {{slow}} GROUP BY ALL ORDER BY sum(took) DESC LIMIT {BEATS})
    most USING (command, template) WHERE {{slow}} GROUP BY ALL"""
_NAMED = f"NOT other AND measure <> '{Measure.SLOW}'"


class CostSites(Study):
    """Sites, slow commands, and the minutes at which these came."""

    SCHEMA = _SCHEMA

    def __init__(self, db: Database, patterns: Patterns, slow_ns: int) -> None:
        super().__init__(db)
        self._patterns = patterns
        self._slow_ns = slow_ns

    def take(self, exchanges: pa.Table) -> None:
        self._db.execute(measures.costly(self._slow_ns, self._patterns.commands))
        if deprecated := measures.deprecated(self._patterns.commands):
            self._db.execute(_grouped(deprecated))
        if self._db.rows("SELECT count(*) FROM costly")[0][0]:
            self._db.execute(_grouped(measures.rows(self._slow_ns, self._patterns.commands)))
            self._db.execute(_BEATS.format(slow=measures.slow(self._slow_ns)))
        self._db.execute(_CAPPED)
        self._db.execute("DELETE FROM site_chunk")
        if self._db.rows("SELECT count(*) FROM sites")[0][0] > MERGE_ROWS:
            self._merge()

    def _merge(self) -> None:
        for statement in ("INSERT INTO site_chunk FROM sites", "DELETE FROM sites", _CAPPED, "DELETE FROM site_chunk"):
            self._db.execute(statement)

    def slow(self, first_ns: int, last_ns: int) -> tuple[SlowLine, ...]:
        """Slow commands by pattern and client, the longest in all first; the nameless rest is last."""
        self._merge()
        rhythms = self._rhythms(first_ns, last_ns)
        found = self._db.dicts(f"""SELECT command, template, other, addr, name, n AS count,
            total_ns::BIGINT AS total_ns, worst AS max_ns, request_bytes, reply_bytes, first_ts, last_ts,
            place.cid AS cid, place.seq AS seq FROM sites WHERE measure = '{Measure.SLOW}'
            ORDER BY other, total_ns DESC, command, template, addr, name""")
        return tuple(
            SlowLine(
                schedule=rhythms.get((row["command"], row["template"])),
                example=self._db.example(row.pop("cid"), row.pop("seq")),
                **row,
            )
            for row in found
        )

    def sites(self) -> tuple[Site, ...]:
        """Where any other threshold was passed: by command and pattern, with the clients."""
        self._merge()
        clients = self._clients()
        found = self._db.dicts(f"""SELECT measure, command, template, sum(n)::BIGINT AS count, max(worst) AS worst,
            sum(total_ns)::BIGINT AS total_ns, min(first_ts) AS first_ts, max(last_ts) AS last_ts,
            max(place).cid AS cid, max(place).seq AS seq FROM sites WHERE {_NAMED}
            GROUP BY measure, command, template ORDER BY total_ns DESC, command, template""")
        return tuple(
            Site(
                clients=tuple(clients[row["measure"], row["command"], row["template"]]),
                examples=(self._db.example(row.pop("cid"), row.pop("seq")),),
                measure=Measure(row.pop("measure")),
                **row,
            )
            for row in found
        )

    def _clients(self) -> dict[tuple[str, bytes, bytes], list[tuple[bytes, int]]]:
        """The clients of each measure, command and template, the busiest first."""
        found: dict[tuple[str, bytes, bytes], list[tuple[bytes, int]]] = defaultdict(list)
        rows = f"SELECT measure, command, template, addr, name, n FROM sites WHERE {_NAMED} ORDER BY n DESC, addr, name"
        for measure, command, template, addr, name, n in self._db.rows(rows):
            found[measure, command, template].append((client(addr, name), n))
        return found

    def _rhythms(self, first_ns: int, last_ns: int) -> dict[tuple[bytes, bytes], Schedule]:
        minutes: dict[tuple[bytes, bytes], list[int]] = defaultdict(list)
        for command, template, minute in self._db.rows("SELECT DISTINCT command, template, minute FROM beats"):
            minutes[command, template].append(minute * MINUTE_NS)
        found = {pattern: schedule(moments, first_ns, last_ns) for pattern, moments in minutes.items()}
        return {pattern: each for pattern, each in found.items() if each is not None}


def client(addr: bytes, name: bytes) -> bytes:
    """A client as people know it: by its name, if it has one, and where it is."""
    return b"%b (%b)" % (name, addr) if name else addr
