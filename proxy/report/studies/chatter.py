"""Reads that come one by one: many keys of one pattern in a row, and the same key again and again.

Knows: how such runs are found in a bounded piece of each chunk. Refuses to know: what is said of them
(``rules.costs``).

Runs are local in time, so a piece without holes shows them as well as the whole: the first 100,000 commands of each
chunk. Commands of one connection with consecutive numbers and the same command and pattern are one run. A run was
*not* pipelined if the latencies of its reads, one after another, fit between its beginning and its end.
"""

from __future__ import annotations

import pyarrow as pa

from proxy.capture.format import Flag
from proxy.report.rules.costs import RUN_PAUSE_NS, RUN_READS, SAME_READS, Measure, Site
from proxy.report.studies.costs import client
from proxy.report.studies.patterns import Patterns
from proxy.report.study import Database, Study

#: Commands of each chunk that are looked at.
WINDOW_ROWS = 100_000
#: Lines that are kept of each chunk.
LINES = 300

#: Reads of single keys, of which several can be one command or one pipeline.
READS = (
    "GET", "HGET", "HGETALL", "HMGET", "EXISTS", "TTL", "PTTL", "TYPE", "STRLEN", "LLEN", "SCARD", "ZCARD", "HLEN",
    "ZSCORE", "SISMEMBER", "HEXISTS", "LINDEX", "SMEMBERS", "GETRANGE", "JSON.GET",
)  # fmt: skip
_COLUMNS = [
    "ts", "seq", "cid", "command", "template", "keys", "nkeys", "latency_ns", "flags", "client_addr", "client_name",
    "txn",
]  # fmt: skip
_LINE = """measure VARCHAR, command BLOB, template BLOB, addr BLOB, name BLOB, runs BIGINT, reads BIGINT,
    longest BIGINT, wait_ns HUGEINT, first_ts BIGINT, last_ts BIGINT,
    place STRUCT(n BIGINT, before BIGINT, cid BIGINT, seq BIGINT)"""
_CLIENT = "any_value(client_addr) AS client_addr, any_value(client_name) AS client_name"
_TAKEN = f"""CREATE OR REPLACE TEMP TABLE reads AS SELECT cid, seq, ts, latency_ns, command, template, keys[1] AS key,
    client_addr, client_name FROM chatter_window WHERE nkeys = 1 AND txn = 0 AND latency_ns >= 0
    AND flags & {int(Flag.QUEUED | Flag.REPLIED_BY_PROXY)} = 0 AND command IN ({{names}})"""
_PAUSES = "(max(ts + latency_ns) - min(ts) - sum(latency_ns))"
_ONE_BY_ONE = f"{_PAUSES} >= 0"
_ISLANDS = "SELECT *, seq - row_number() OVER (PARTITION BY cid, command, template ORDER BY seq) AS island FROM reads"
_RUNS = f"""SELECT cid, command, template, {_CLIENT}, count(*) AS n, sum(latency_ns) AS wait_ns, min(ts) AS first_ts,
        max(ts) AS last_ts, min(seq) AS seq
    FROM ({_ISLANDS}) GROUP BY cid, command, template, island
    HAVING n >= {RUN_READS} AND {_ONE_BY_ONE} AND {_PAUSES} <= {RUN_PAUSE_NS} * n
        AND count(DISTINCT key) > n // 2"""
_SAME = f"""SELECT cid, command, any_value(template) AS template, {_CLIENT}, count(*) AS n, sum(latency_ns) AS wait_ns,
        min(ts) AS first_ts, max(ts) AS last_ts, min(seq) AS seq
    FROM reads GROUP BY cid, command, key HAVING n >= {SAME_READS} AND {_ONE_BY_ONE}"""


def _kept(measure: Measure, source: str) -> str:
    return f"""INSERT INTO chatter SELECT '{measure}', command, template, any_value(client_addr),
        any_value(client_name), count(*), sum(n), max(n), sum(wait_ns), min(first_ts), max(last_ts),
        max({{'n': n, 'before': -first_ts, 'cid': cid, 'seq': seq}})
    FROM ({source}) GROUP BY cid, command, template ORDER BY sum(n) DESC, cid, command, template LIMIT {LINES}"""


class Chatter(Study):
    """Reads one by one. ``sites`` as ``rules.costs`` wants them. ``looked_at``: commands that were searched."""

    SCHEMA = f"CREATE TABLE chatter ({_LINE})"

    def __init__(self, db: Database, patterns: Patterns) -> None:
        super().__init__(db)
        self._patterns = patterns
        self.looked_at = 0

    def take(self, exchanges: pa.Table) -> None:
        window = exchanges.slice(0, WINDOW_ROWS)
        self.looked_at += window.num_rows
        names = ", ".join(f"'{name}'::BLOB" for name in READS if name.encode() in self._patterns.commands)
        if not names:
            return
        self._db.connection.register("chatter_window", window.select(_COLUMNS))
        self._db.execute(_TAKEN.format(names=names))
        self._db.execute(_kept(Measure.RUNS, _RUNS))
        self._db.execute(_kept(Measure.SAME, _SAME))

    def sites(self) -> tuple[Site, ...]:
        """Runs and repetitions by command and pattern, with the clients."""
        return tuple(
            Site(
                clients=tuple((client(host.encode(), name), reads) for host, name, reads in row.pop("clients")),
                examples=(self._db.example(row.pop("cid"), row.pop("seq")),),
                measure=Measure(row.pop("measure")),
                **row,
            )
            for row in self._db.dicts(_SITES)
        )


_SITES = """
WITH hosts AS (SELECT *, regexp_replace(addr::VARCHAR, ':[0-9]+$', '') AS host FROM chatter),
clients AS (SELECT measure, command, template, host, name, sum(runs) AS runs, sum(reads) AS reads,
    max(longest) AS longest, sum(wait_ns) AS wait_ns, min(first_ts) AS first_ts, max(last_ts) AS last_ts,
    max(place) AS place FROM hosts GROUP BY ALL)
SELECT measure, command, template, sum(reads)::BIGINT AS count, max(longest) AS worst, sum(wait_ns)::BIGINT AS total_ns,
    min(first_ts) AS first_ts, max(last_ts) AS last_ts, sum(runs)::BIGINT AS runs,
    max(place).cid AS cid, max(place).seq AS seq,
    list((host, name, reads::BIGINT) ORDER BY reads DESC, host, name)[:100] AS clients
FROM clients GROUP BY measure, command, template ORDER BY count DESC, command, template
"""
