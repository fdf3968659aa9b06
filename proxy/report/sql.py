"""The SQL of a report. Knows: which columns go into which table. Refuses to know: Python's side (``analysis``).

A capture is read once, in chunks of about a million rows. ``CHUNK`` runs on each (the view ``chunk``) and keeps what
does not grow with the capture: histograms, tops, totals. What the rules may want is kept row by row: ``candidates``,
``members`` (commands inside a transaction), ``watches``, ``ends`` (what ends a WATCH besides EXEC).
``cid`` names a connection across runs and workers.
"""

from __future__ import annotations

from proxy.capture.format import Flag
from proxy.report.rules import CANDIDATE

#: Columns that a report reads, besides ``cid``.
COLUMNS = (
    "ts", "seq", "client_addr", "client_name", "db", "command", "keys", "nkeys", "slot", "unknown", "txn",
    "latency_ns", "request_bytes", "reply_bytes", "reply", "error", "flags", "script", "args", "gap", "gap_rows",
)  # fmt: skip

#: Latency buckets per doubling: a bucket's middle is at most 0.6 % off.
BUCKETS = 64

#: Of each chunk, only so many keys by count, and by bytes, go on: memory stays bounded however many keys there are.
KEYS_PER_CHUNK = 10_000

SERVICE, WAIT, QUEUED, NO_REPLY = range(4)

_CANDIDATE_COLUMNS = (
    "cid, seq, ts, db, command, keys, nkeys, slot, unknown, txn, error, flags, script, args, gap, gap_rows"
)
FINDING_COLUMNS = "cid, seq, ts, command, keys, unknown, txn, flags, args, gap, gap_rows"
_NOTIFICATIONS = (
    r"command IN ('SUBSCRIBE'::BLOB, 'PSUBSCRIBE'::BLOB) AND len(list_filter(args, "
    r"lambda a: regexp_matches(a::VARCHAR, '^__key(space|event)@'))) > 0"
)
_KIND = f"""CASE WHEN flags & {int(Flag.QUEUED)} <> 0 THEN {QUEUED} WHEN latency_ns < 0 THEN {NO_REPLY}
    WHEN flags & {int(Flag.BLOCKING)} <> 0 THEN {WAIT} ELSE {SERVICE} END"""
_LINE = "ts, cid, seq, command, keys[1] AS key, latency_ns, request_bytes, reply_bytes"


def _top(table: str, by: str, where: str = "true") -> str:
    """The chunk's 100 rows with the highest ``by``. The bound comes first: fetching names for all rows is dear."""
    return f"""INSERT INTO {table} SELECT {_LINE} FROM chunk WHERE {where} AND {by} >= (
        SELECT min({by}) FROM (SELECT {by} FROM chunk WHERE {where} ORDER BY {by} DESC LIMIT 100))
    ORDER BY {by} DESC, ts LIMIT 100"""


SCHEMA = """
CREATE TABLE times (command BLOB, kind INT, bucket INT, n BIGINT, total_ns HUGEINT, max_ns BIGINT,
    request_bytes HUGEINT, reply_bytes HUGEINT, first_ts BIGINT, last_ts BIGINT);
CREATE TABLE errors (error BLOB, command BLOB, n BIGINT, first_ts BIGINT, last_ts BIGINT);
CREATE TABLE keys (key BLOB, n BIGINT, bytes HUGEINT);
CREATE TABLE conns (cid BIGINT, addr BLOB, name BLOB, last_seq BIGINT, n BIGINT, bytes HUGEINT, selected BOOLEAN);
CREATE TABLE slowest (ts BIGINT, cid BIGINT, seq BIGINT, command BLOB, key BLOB, latency_ns BIGINT,
    request_bytes BIGINT, reply_bytes BIGINT);
CREATE TABLE requests AS FROM slowest;
CREATE TABLE replies AS FROM slowest;
CREATE TABLE candidates (cid BIGINT, seq BIGINT, ts BIGINT, db INT, command BLOB, keys BLOB[], nkeys INT, slot SMALLINT,
    unknown UTINYINT, txn BIGINT, error BLOB, flags UINTEGER, script BLOB, args BLOB[], gap BLOB, gap_rows BIGINT,
    notifications UTINYINT, db_unseen UTINYINT, script_facts UTINYINT, watch_apart UTINYINT);
CREATE TABLE elsewhere AS FROM candidates;
CREATE TABLE members (cid BIGINT, txn BIGINT, command BLOB, keys BLOB[], slot SMALLINT);
CREATE TABLE watches (cid BIGINT, seq BIGINT, slot SMALLINT);
CREATE TABLE ends (cid BIGINT, seq BIGINT, txn BIGINT, command BLOB);
"""

#: Run on each chunk, in this order. ``chunk`` is an Arrow table of exchanges, ``chunk_gaps`` one of gap rows.
CHUNK = (
    f"""INSERT INTO times SELECT command, {_KIND} AS kind,
        CASE WHEN latency_ns > 0 THEN floor(log2(latency_ns) * {BUCKETS})::INT ELSE -1 END AS bucket,
        count(*), sum(latency_ns), max(latency_ns), sum(request_bytes), sum(reply_bytes), min(ts), max(ts)
    FROM chunk GROUP BY ALL""",
    """INSERT INTO errors SELECT error, command, count(*), min(ts), max(ts) FROM chunk WHERE error <> ''::BLOB
    GROUP BY ALL""",
    f"""INSERT INTO conns SELECT cid, any_value(client_addr), arg_max(client_name, seq), max(seq), count(*),
        sum(request_bytes + reply_bytes),
        bool_or(command = 'SELECT'::BLOB AND flags & {int(Flag.FOREIGN_DB)} <> 0) FROM chunk GROUP BY cid""",
    f"""INSERT INTO keys WITH total AS MATERIALIZED (
        SELECT key, count(*) AS n, sum(bytes) AS bytes FROM (
            SELECT unnest(keys) AS key, (request_bytes + reply_bytes) // nkeys AS bytes FROM chunk WHERE nkeys > 0)
        GROUP BY key)
    (FROM total ORDER BY n DESC LIMIT {KEYS_PER_CHUNK}) UNION
    (FROM total ORDER BY bytes DESC LIMIT {KEYS_PER_CHUNK})""",
    _top("slowest", "latency_ns", f"{_KIND} = {SERVICE}"),
    _top("requests", "request_bytes"),
    _top("replies", "reply_bytes"),
    f"""INSERT INTO candidates SELECT {_CANDIDATE_COLUMNS}, ({_NOTIFICATIONS})::UTINYINT, 0, 0, 0 FROM chunk
    WHERE {CANDIDATE.sql()} OR command = 'EXEC'::BLOB""",
    f"INSERT INTO candidates SELECT {_CANDIDATE_COLUMNS}, 0, 0, 0, 0 FROM chunk_gaps",
    f"""INSERT INTO elsewhere SELECT {_CANDIDATE_COLUMNS}, 0, 1, 0, 0 FROM chunk WHERE db > 0
    QUALIFY row_number() OVER (PARTITION BY cid ORDER BY seq) = 1""",
    """INSERT INTO members SELECT cid, txn, command, keys, slot FROM chunk
    WHERE txn > 0 AND command NOT IN ('MULTI'::BLOB, 'EXEC'::BLOB, 'DISCARD'::BLOB, 'WATCH'::BLOB)""",
    "INSERT INTO watches SELECT cid, seq, slot FROM chunk WHERE command = 'WATCH'::BLOB",
    """INSERT INTO ends SELECT cid, seq, txn, command FROM chunk
    WHERE command IN ('DISCARD'::BLOB, 'UNWATCH'::BLOB, 'RESET'::BLOB)""",
)

#: EXECs whose transaction and the WATCHes before it lie in more than one slot: ``apart (cid, seq)``.
WATCH_APART = """
CREATE TABLE apart AS
WITH watched AS (SELECT DISTINCT cid FROM watches),
boundaries AS (FROM ends UNION ALL SELECT cid, seq, txn, command FROM candidates WHERE command = 'EXEC'::BLOB),
spans AS (SELECT *, lag(seq, 1, -1) OVER (PARTITION BY cid ORDER BY seq) AS since
    FROM boundaries SEMI JOIN watched USING (cid)),
slots AS (
    SELECT e.cid, e.seq, w.slot, true AS watch FROM spans e JOIN watches w
        ON w.cid = e.cid AND w.seq > e.since AND w.seq < e.seq WHERE e.command = 'EXEC'::BLOB AND w.slot >= 0
    UNION ALL
    SELECT e.cid, e.seq, m.slot, false FROM spans e JOIN members m ON m.cid = e.cid AND m.txn = e.txn
        WHERE e.command = 'EXEC'::BLOB AND m.slot >= 0)
SELECT cid, seq FROM slots GROUP BY ALL HAVING count(DISTINCT slot) > 1 AND bool_or(watch) AND NOT bool_and(watch)
"""

#: The derived columns that need the whole capture, and the view that the rules look at. Updates instead of joins:
#: the view is read once per rule. ``elsewhere`` holds connections' first rows in a database above 0.
JUDGED = """
UPDATE candidates SET script_facts = s.facts FROM script_facts s WHERE script = s.sha AND s.facts <> 0;
UPDATE candidates SET watch_apart = 1 FROM apart a WHERE candidates.cid = a.cid AND candidates.seq = a.seq;
CREATE VIEW judged AS
FROM candidates
UNION ALL
FROM (FROM elsewhere QUALIFY row_number() OVER (PARTITION BY cid ORDER BY seq) = 1) e
ANTI JOIN (SELECT cid FROM conns WHERE selected) s USING (cid)
"""

#: Every occurrence, with the keys of its transaction if it is an EXEC.
OCCURRENCES = """
WITH transactions AS (
    SELECT cid, txn, list_sort(list_distinct(flatten(list(keys)))) AS keys
    FROM members SEMI JOIN (SELECT cid, txn FROM findings WHERE command = 'EXEC'::BLOB) f USING (cid, txn)
    GROUP BY ALL)
SELECT f.* REPLACE (coalesce(t.keys, f.keys) AS keys)
FROM findings f LEFT JOIN transactions t ON f.command = 'EXEC'::BLOB AND f.cid = t.cid AND f.txn = t.txn
ORDER BY ts, f.cid, seq, rule
"""

_GROUP_COLUMNS = f"""rule, command, (flags & {int(Flag.QUEUED)} <> 0 OR txn > 0) AS queued, unknown, gap,
    count(*) AS n, sum(gap_rows)::BIGINT AS gap_rows, min(ts) AS first_ts, max(ts) AS last_ts,
    arg_min({{'cid': cid, 'seq': seq}}, ts, 3) AS examples, any_value(flags) AS flags, any_value(args) AS args"""

#: Occurrences with equal keys in equal order: sorting comes later, it is dear per row.
GROUPED = f"""
SELECT keys, []::BLOB[] AS members, {_GROUP_COLUMNS} FROM findings
WHERE command <> 'EXEC'::BLOB GROUP BY ALL
UNION ALL
SELECT keys, members, {_GROUP_COLUMNS} FROM (
    SELECT f.* EXCLUDE (keys), coalesce(t.keys, []::BLOB[]) AS keys, coalesce(t.members, []::BLOB[]) AS members
    FROM (FROM findings WHERE command = 'EXEC'::BLOB) f LEFT JOIN (
        SELECT cid, txn, flatten(list(keys)) AS keys, list(command) AS members FROM members GROUP BY ALL) t
    USING (cid, txn)) GROUP BY ALL
"""

_MERGED = """sum(n)::BIGINT AS n, sum(gap_rows)::BIGINT AS gap_rows, min(first_ts) AS first_ts,
    max(last_ts) AS last_ts, flatten(arg_min(examples, first_ts, 3))[:3] AS examples, any_value(flags) AS flags,
    any_value(args) AS args"""

#: ``folded``: the same, keys replaced by templates. Grouped once as they are, then as sets.
REGROUPED = f"""
WITH listed AS (
    SELECT rule, command, queued, unknown, gap, members, keys, {_MERGED} FROM folded GROUP BY ALL)
SELECT rule, command, queued, unknown, gap, list_sort(list_distinct(members)) AS members,
    list_sort(list_distinct(keys)) AS keys, {_MERGED}
FROM listed GROUP BY ALL ORDER BY n DESC, first_ts
"""


def _quantile(share: float) -> str:
    return f"min(bucket) FILTER (before + n >= {share} * total)"


#: Per command and kind: totals and quantiles (as buckets).
COMMAND_TIMES = f"""
WITH merged AS (SELECT command, kind, bucket, sum(n) AS n, sum(total_ns) AS total_ns, max(max_ns) AS max_ns,
        sum(request_bytes) AS request_bytes, sum(reply_bytes) AS reply_bytes FROM times GROUP BY ALL),
ranked AS (SELECT *, sum(n) OVER (PARTITION BY command, kind ORDER BY bucket) - n AS before,
        sum(n) OVER (PARTITION BY command, kind) AS total FROM merged)
SELECT command, kind, sum(n)::BIGINT, sum(total_ns)::BIGINT, {_quantile(0.5)}, {_quantile(0.99)}, {_quantile(0.999)},
    max(max_ns), sum(request_bytes)::BIGINT, sum(reply_bytes)::BIGINT
FROM ranked GROUP BY command, kind
"""

OVERVIEW = """
SELECT coalesce(min(first_ts), 0), coalesce(max(last_ts), 0), coalesce(sum(n), 0)::BIGINT,
    coalesce(sum(request_bytes), 0)::BIGINT, coalesce(sum(reply_bytes), 0)::BIGINT FROM times
"""
GAPS = "SELECT count(*), coalesce(sum(gap_rows), 0)::BIGINT FROM candidates WHERE gap <> ''::BLOB"
_HOST = r"regexp_replace(addr::VARCHAR, ':[0-9]+$', '')"
CLIENTS = f"""
WITH one AS (SELECT cid, any_value(addr) AS addr, arg_max(name, last_seq) AS name, sum(n) AS n, sum(bytes) AS bytes
    FROM conns GROUP BY cid)
SELECT {_HOST}::BLOB AS host, name, count(*), sum(n)::BIGINT, sum(bytes)::BIGINT, FROM one GROUP BY host, name
ORDER BY 4 DESC, host, name
"""
ERRORS = """SELECT error, command, sum(n)::BIGINT, min(first_ts), max(last_ts) FROM errors GROUP BY ALL
ORDER BY 3 DESC, error, command"""
