"""What the traffic was like: commands and their times, the slowest and the biggest, errors, keys, clients.

Knows: the SQL of those tables, and how their rows become the nouns of ``document``. Refuses to know: rules.
"""

from __future__ import annotations

from typing import Any

from proxy.capture.format import Flag
from proxy.report.document import ClientLine, CommandLine, ErrorLine, ExchangeLine, KeyLine, Overview, Times
from proxy.report.studies.patterns import BUCKETS, KIND, QUEUED, SERVICE, WAIT
from proxy.report.study import Study

#: Of each chunk, only so many keys by count, and by bytes, go on: memory stays bounded however many keys there are.
KEYS_PER_CHUNK = 10_000

_LINE = "ts, cid, seq, command, keys[1] AS key, latency_ns, request_bytes, reply_bytes"


def _top(table: str, by: str, where: str = "true") -> str:
    """The chunk's 100 rows with the highest ``by``. The bound comes first: fetching names for all rows is dear."""
    return f"""INSERT INTO {table} SELECT {_LINE} FROM chunk WHERE {where} AND {by} >= (
        SELECT min({by}) FROM (SELECT {by} FROM chunk WHERE {where} ORDER BY {by} DESC LIMIT 100))
    ORDER BY {by} DESC, ts LIMIT 100"""


_SCHEMA = """
CREATE TABLE times (command BLOB, kind INT, bucket INT, n BIGINT, total_ns HUGEINT, max_ns BIGINT,
    request_bytes HUGEINT, reply_bytes HUGEINT, first_ts BIGINT, last_ts BIGINT);
CREATE TABLE errors (error BLOB, command BLOB, n BIGINT, first_ts BIGINT, last_ts BIGINT);
CREATE TABLE keys (key BLOB, n BIGINT, bytes HUGEINT);
CREATE TABLE conns (cid BIGINT, addr BLOB, name BLOB, last_seq BIGINT, n BIGINT, bytes HUGEINT, selected BOOLEAN);
CREATE TABLE slowest (ts BIGINT, cid BIGINT, seq BIGINT, command BLOB, key BLOB, latency_ns BIGINT,
    request_bytes BIGINT, reply_bytes BIGINT);
CREATE TABLE requests AS FROM slowest;
CREATE TABLE replies AS FROM slowest;
"""

_CHUNK = (
    """INSERT INTO times SELECT command, kind, bucket, sum(n), sum(total_ns), max(max_ns), sum(request_bytes),
        sum(reply_bytes), min(first_ts), max(last_ts) FROM grouped GROUP BY command, kind, bucket""",
    """INSERT INTO errors SELECT error, command, count(*), min(ts), max(ts) FROM chunk WHERE error <> ''::BLOB
    GROUP BY ALL""",
    f"""INSERT INTO conns SELECT cid, any_value(client_addr), arg_max(client_name, seq), max(seq), count(*),
        sum(request_bytes + reply_bytes),
        bool_or(command = 'SELECT'::BLOB AND flags & {int(Flag.FOREIGN_DB)} <> 0) FROM chunk GROUP BY cid""",
    f"""INSERT INTO keys WITH total AS MATERIALIZED (
        SELECT key, count(*) AS n, sum(bytes) AS bytes FROM (
            SELECT unnest(keys) AS key, (request_bytes + reply_bytes) // nkeys AS bytes FROM chunk WHERE nkeys > 0)
        GROUP BY key)
    (FROM total ORDER BY n DESC, key LIMIT {KEYS_PER_CHUNK}) UNION
    (FROM total ORDER BY bytes DESC, key LIMIT {KEYS_PER_CHUNK})""",
    _top("slowest", "latency_ns", f"{KIND} = {SERVICE}"),
    _top("requests", "request_bytes"),
    _top("replies", "reply_bytes"),
)


def _quantile(share: float) -> str:
    return f"min(bucket) FILTER (before + n >= {share} * total)"


#: Per command and kind: totals and quantiles (as buckets).
_COMMAND_TIMES = f"""
WITH merged AS (SELECT command, kind, bucket, sum(n) AS n, sum(total_ns) AS total_ns, max(max_ns) AS max_ns,
        sum(request_bytes) AS request_bytes, sum(reply_bytes) AS reply_bytes FROM times GROUP BY ALL),
ranked AS (SELECT *, sum(n) OVER (PARTITION BY command, kind ORDER BY bucket) - n AS before,
        sum(n) OVER (PARTITION BY command, kind) AS total FROM merged)
SELECT command, kind, sum(n)::BIGINT, sum(total_ns)::BIGINT, {_quantile(0.5)}, {_quantile(0.99)}, {_quantile(0.999)},
    max(max_ns), sum(request_bytes)::BIGINT, sum(reply_bytes)::BIGINT
FROM ranked GROUP BY command, kind
"""

_OVERVIEW = """
SELECT coalesce(min(first_ts), 0), coalesce(max(last_ts), 0), coalesce(sum(n), 0)::BIGINT,
    coalesce(sum(request_bytes), 0)::BIGINT, coalesce(sum(reply_bytes), 0)::BIGINT FROM times
"""
_HOST = r"regexp_replace(addr::VARCHAR, ':[0-9]+$', '')"
_CLIENTS = f"""
WITH one AS (SELECT cid, any_value(addr) AS addr, arg_max(name, last_seq) AS name, sum(n) AS n, sum(bytes) AS bytes
    FROM conns GROUP BY cid)
SELECT {_HOST}::BLOB AS host, name, count(*), sum(n)::BIGINT, sum(bytes)::BIGINT, FROM one GROUP BY host, name
ORDER BY 4 DESC, host, name
"""
_ERRORS = """SELECT error, command, sum(n)::BIGINT, min(first_ts), max(last_ts) FROM errors GROUP BY ALL
ORDER BY 3 DESC, error, command"""


class Traffic(Study):
    """Everything that was captured, in tables."""

    SCHEMA = _SCHEMA
    CHUNK = _CHUNK

    def overview(self, gaps: int, gap_rows: int, backends: tuple[str, ...]) -> Overview:
        """Span and totals of the capture."""
        first, last, commands, request_bytes, reply_bytes = self._db.rows(_OVERVIEW)[0]
        connections = self._db.rows("SELECT count(DISTINCT cid) FROM conns")[0][0]
        clients, runs = len(self.clients()), self._db.runs
        return Overview(
            first, last, commands, connections, clients, runs, gaps, gap_rows, request_bytes, reply_bytes, backends
        )

    def commands(self) -> tuple[CommandLine, ...]:
        """Every command, the one that took most of the server's time first."""
        by_kind: dict[bytes, dict[int, tuple[Any, ...]]] = {}
        for command, kind, *rest in self._db.rows(_COMMAND_TIMES):
            by_kind.setdefault(command, {})[kind] = tuple(rest)
        failed: dict[bytes, int] = {}
        for line in self.errors():
            failed[line.command] = failed.get(line.command, 0) + line.count
        lines = [
            CommandLine(
                command,
                sum(kind[0] for kind in kinds.values()),
                failed.get(command, 0),
                kinds[QUEUED][0] if QUEUED in kinds else 0,
                sum(kind[6] for kind in kinds.values()),
                sum(kind[7] for kind in kinds.values()),
                _times(kinds.get(SERVICE)),
                _times(kinds.get(WAIT)),
            )
            for command, kinds in by_kind.items()
        ]
        return tuple(sorted(lines, key=lambda line: (-_service_ns(line), -line.count, line.command)))

    def exchanges(self, table: str, by: str, limit: int) -> tuple[ExchangeLine, ...]:
        """The top of one of the tables slowest, requests, replies by the column that it was made for."""
        rows = self._db.rows(f"FROM {table} ORDER BY {by} DESC, ts, cid, seq LIMIT {limit}")
        return tuple(
            ExchangeLine(ts, self._db.example(cid, seq), command, key or b"", *numbers)
            for ts, cid, seq, command, key, *numbers in rows
        )

    def errors(self) -> tuple[ErrorLine, ...]:
        """Error replies by first word and command."""
        return tuple(ErrorLine(*row) for row in self._db.rows(_ERRORS))

    def keys(self, by: str, limit: int) -> tuple[KeyLine, ...]:
        """The keys with the highest ``n`` or ``bytes``."""
        statement = f"""SELECT key, sum(n)::BIGINT AS n, sum(bytes)::BIGINT AS bytes FROM keys GROUP BY key
            ORDER BY {by} DESC, key LIMIT {limit}"""
        return tuple(KeyLine(*row) for row in self._db.rows(statement))

    def clients(self) -> tuple[ClientLine, ...]:
        """Clients by address and name, the busiest first."""
        return tuple(ClientLine(*row) for row in self._db.rows(_CLIENTS))


def _times(kind: tuple[Any, ...] | None) -> Times | None:
    if kind is None:
        return None
    count, total, *buckets, longest = kind[:6]
    quantiles = [0 if b is None or b < 0 else int(2 ** ((b + 0.5) / BUCKETS)) for b in buckets]
    p50, p99, p999 = (min(value, longest) for value in quantiles)
    return Times(count, total, p50, p99, p999, longest)


def _service_ns(line: CommandLine) -> int:
    return line.service.total_ns if line.service else 0
