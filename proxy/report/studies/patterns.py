"""Commands by key pattern: how many, how long, how much. What ``shunt report`` calls "command patterns".

Knows: the SQL of one table, and its caps. Refuses to know: what is slow or too much (``costs``).

One pass over a chunk groups it by command, template, kind of time and latency bucket: the view ``grouped``, which other
studies use too. Of each chunk, and in all, only so many patterns are kept by time, by bytes and by number; the others
go on as one.
"""

from __future__ import annotations

import pyarrow as pa

from proxy.capture.format import Flag
from proxy.report.costs import PatternLine, Spread
from proxy.report.study import Database, Study

#: Latency buckets per doubling: a bucket's middle is at most 0.6 % off.
BUCKETS = 64
#: Patterns that are kept: so many by time, by bytes, and by number of commands.
KEPT = 700
#: The table is brought together again when it has grown by so many rows.
MERGE_ROWS = 300_000

SERVICE, WAIT, QUEUED, NO_REPLY = range(4)
KIND = f"""CASE WHEN flags & {int(Flag.QUEUED)} <> 0 THEN {QUEUED} WHEN latency_ns < 0 THEN {NO_REPLY}
    WHEN flags & {int(Flag.BLOCKING)} <> 0 THEN {WAIT} ELSE {SERVICE} END"""

_COLUMNS = """command BLOB, template BLOB, other BOOLEAN, kind INT, bucket INT, n BIGINT, errors BIGINT,
    total_ns HUGEINT, max_ns BIGINT, request_bytes HUGEINT, reply_bytes HUGEINT, most_args INT, most_items INT,
    first_ts BIGINT, last_ts BIGINT"""
_SUMS = """sum(n)::BIGINT AS n, sum(errors)::BIGINT AS errors, sum(total_ns)::HUGEINT AS total_ns,
    max(max_ns) AS max_ns, sum(request_bytes)::HUGEINT AS request_bytes, sum(reply_bytes)::HUGEINT AS reply_bytes,
    max(most_args) AS most_args, max(most_items) AS most_items, min(first_ts) AS first_ts, max(last_ts) AS last_ts"""
_SCHEMA = f"CREATE TABLE patterns ({_COLUMNS}); CREATE TABLE grouped ({_COLUMNS});"

#: Bucket -1: less than a nanosecond, or no time at all.
_GROUP = f"""INSERT INTO grouped SELECT command, template, false, {KIND} AS kind,
    CASE WHEN latency_ns > 0 THEN floor(log2(latency_ns) * {BUCKETS})::INT ELSE -1 END AS bucket,
    count(*), count(*) FILTER (error <> ''::BLOB), sum(latency_ns), max(latency_ns), sum(request_bytes),
    sum(reply_bytes), max(nargs), max(reply_items), min(ts), max(ts)
FROM chunk GROUP BY command, template, kind, bucket"""

_TIME = f"coalesce(sum(total_ns) FILTER (kind = {SERVICE}), 0)"


def _capped(source: str) -> str:
    """The rows of ``source``, patterns beyond the cap as one without a name. A union of three short lists: ranking all
    patterns took five times as long where there are a million."""
    most = " UNION ".join(
        f"(SELECT command, template FROM total ORDER BY {by} DESC, command, template LIMIT {KEPT})"
        for by in ("took", "bytes", "n")
    )
    return f"""WITH total AS MATERIALIZED (SELECT command, template, {_TIME} AS took, sum(n) AS n,
            sum(request_bytes + reply_bytes) AS bytes FROM {source} WHERE NOT other GROUP BY command, template),
    most AS MATERIALIZED ({most}),
    named AS (SELECT * FROM {source} SEMI JOIN most USING (command, template) WHERE NOT other),
    rest AS (SELECT * FROM {source} WHERE other UNION ALL
        SELECT * FROM (FROM {source} WHERE NOT other) ANTI JOIN most USING (command, template))
    SELECT command, template, false AS other, kind, bucket, {_SUMS} FROM named GROUP BY ALL
    UNION ALL SELECT ''::BLOB, ''::BLOB, true, kind, bucket, {_SUMS} FROM rest GROUP BY kind, bucket"""


def _quantile(share: float) -> str:
    return f"min(bucket) FILTER (kind = {SERVICE} AND before + n >= {share} * served)"


_PATTERN = "PARTITION BY command, template, other"
_LINES = f"""
WITH merged AS (SELECT command, template, other, kind, bucket, {_SUMS} FROM patterns GROUP BY ALL),
counted AS (SELECT *, CASE WHEN kind = {SERVICE} THEN n ELSE 0 END AS timed FROM merged),
ranked AS (SELECT *, sum(timed) OVER ({_PATTERN} ORDER BY bucket, kind) - timed AS before,
    sum(timed) OVER ({_PATTERN}) AS served FROM counted)
SELECT command, template, other, sum(n)::BIGINT, sum(errors)::BIGINT, any_value(served)::BIGINT,
    {_TIME}::BIGINT AS took, {_quantile(0.5)}, {_quantile(0.99)}, max(max_ns) FILTER (kind = {SERVICE}),
    sum(request_bytes)::BIGINT, sum(reply_bytes)::BIGINT, max(most_args), max(most_items)
FROM ranked GROUP BY command, template, other ORDER BY other, took DESC, 4 DESC, command, template
"""


class Patterns(Study):
    """Commands by key pattern. It comes first: ``grouped`` and ``commands`` are of the chunk that was taken last."""

    SCHEMA = _SCHEMA

    def __init__(self, db: Database) -> None:
        super().__init__(db)
        self._merged = 0
        self.commands: frozenset[bytes] = frozenset()  # names in this chunk
        self.uncounted = 0  # commands whose number of arguments is not known

    def take(self, exchanges: pa.Table) -> None:
        self._db.execute("DELETE FROM grouped")
        self._db.execute(_GROUP)
        self._db.execute(f"INSERT INTO patterns {_capped('grouped')}")
        self.commands = frozenset(row[0] for row in self._db.rows("SELECT DISTINCT command FROM grouped"))
        self.uncounted += self._count(
            "coalesce(sum(n), 0)::BIGINT", "grouped WHERE most_args = 0 AND request_bytes > 0"
        )
        if self._count("count(*)", "patterns") > self._merged + MERGE_ROWS:
            self._merge()
            self._merged = self._count("count(*)", "patterns")

    def _count(self, what: str, source: str) -> int:
        return int(self._db.rows(f"SELECT {what} FROM {source}")[0][0])

    def _merge(self) -> None:
        self._db.execute(f"CREATE OR REPLACE TEMP TABLE merged_patterns AS {_capped('patterns')}")
        self._db.execute("DELETE FROM patterns")
        self._db.execute("INSERT INTO patterns FROM merged_patterns")
        self._db.execute("DROP TABLE merged_patterns")

    def lines(self) -> tuple[PatternLine, ...]:
        """All patterns by service time, the longest first; the nameless rest is last."""
        self._merge()
        return tuple(
            PatternLine(command, template, other, n, errors, _spread(*times), *more)
            for command, template, other, n, errors, *rest in self._db.rows(_LINES)
            for times, more in [(rest[:5], rest[5:])]
        )


def middle_ns(bucket: int | None, buckets: int = BUCKETS) -> int:
    """The latency that stands for a bucket."""
    return 0 if bucket is None or bucket < 0 else int(2 ** ((bucket + 0.5) / buckets))


def _spread(served: int, total: int, p50: int | None, p99: int | None, longest: int | None) -> Spread | None:
    if not served or longest is None:
        return None
    return Spread(served, total, min(middle_ns(p50), longest), min(middle_ns(p99), longest), longest)
