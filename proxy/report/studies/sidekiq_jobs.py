"""Sidekiq's jobs by class, out of payloads; and the sorted sets schedule, retry and dead.

Knows: what stands in a payload (``class``, ``wrapped`` of ActiveJob), and which commands move jobs. Refuses to know:
queues' depths. Payloads are there only in captures with all arguments; DuckDB parses them, each at most PAYLOAD_MOST
bytes long. Of each chunk only the commonest classes go on.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from proxy.capture.format import Flag, ReplyKind
from proxy.report.sidekiq import JobLine, SetLine
from proxy.report.studies.sidekiq_names import ROLES, cmd, role
from proxy.report.studies.sidekiq_queues import SIZE_STEPS, jobs_in, spread
from proxy.report.study import Database

#: A larger payload is counted, but not parsed, bytes.
PAYLOAD_MOST = 1 << 20
#: Classes of each chunk, and of a report.
CLASSES_PER_CHUNK = 1_000
CLASSES = 50
TOO_BIG = b"(too big to be read)"
UNREADABLE = b"(no job that can be read)"
OTHER = b"(other classes)"

SCHEMA = """
CREATE TABLE sk_jobs (namespace BLOB, role TINYINT, class BLOB, bucket INT, n BIGINT, biggest BIGINT, first_ts BIGINT,
    last_ts BIGINT);
CREATE TABLE sk_sets (namespace BLOB, role TINYINT, added BIGINT, unknown BIGINT, taken BIGINT, polls BIGINT);
"""

_SETS = role("schedule", "retry", "dead")
_PAYLOADS = f"""
WITH named AS (SELECT c.ts, n.namespace, n.role, CASE WHEN cmd IN {cmd("ZADD")}
        THEN list_filter(args[4:], lambda x, i: i % 2 = 1) ELSE args[3:] END AS payloads
    FROM sk_chunk c JOIN sk_names n USING (template) WHERE flags & {int(Flag.ARGS)} <> 0
        AND reply <> {int(ReplyKind.ERROR)} AND (cmd IN {cmd("LPUSH")} AND c.role IN {role("queue")}
        OR cmd IN {cmd("ZADD")} AND c.role IN {_SETS})),
each AS (SELECT ts, namespace, role, unnest(payloads) AS payload FROM named),
parsed AS (SELECT ts, namespace, role, octet_length(payload) AS size,
    CASE WHEN octet_length(payload) <= {PAYLOAD_MOST} THEN try(decode(payload)) END AS text FROM each),
classed AS (SELECT *, CASE WHEN text IS NOT NULL AND json_valid(text)
    THEN json_extract_string(text, ['$.wrapped', '$.class']) END AS found FROM parsed)
INSERT INTO sk_jobs SELECT namespace, role, CASE WHEN size > {PAYLOAD_MOST} THEN '{TOO_BIG.decode()}'::BLOB
        ELSE coalesce(encode(coalesce(found[1], found[2])[:200]), '{UNREADABLE.decode()}'::BLOB) END AS class,
    floor(log2(greatest(size, 1)) * {SIZE_STEPS})::INT AS bucket, count(*) AS n, max(size), min(ts), max(ts)
FROM classed GROUP BY namespace, role, 3, 4 ORDER BY n DESC LIMIT {CLASSES_PER_CHUNK * SIZE_STEPS}
"""


class Jobs:
    """One part of the study of Sidekiq."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._with_arguments = False
        db.execute(SCHEMA)

    def take(self, columns: list[str], *, arguments: bool) -> None:
        """One chunk in which Sidekiq may be; ``arguments``: some of its rows have them."""
        taken = f"""count_if(cmd IN {cmd("EVALSHA", "EVAL")} AND reply = {int(ReplyKind.BULK)}
            OR cmd IN {cmd("ZREM")} AND reply = {int(ReplyKind.INTEGER)})"""
        added = f"CASE WHEN cmd IN {cmd('ZADD')} AND reply <> {int(ReplyKind.ERROR)} THEN {jobs_in(columns, 2, 2)} END"
        polls = cmd("EVALSHA", "EVAL", "ZRANGEBYSCORE")
        self._db.execute(f"""INSERT INTO sk_sets SELECT namespace, role, sum(amount) FILTER (amount > 0),
                count_if(amount < 0), {taken}, count_if(cmd IN {polls})
            FROM (SELECT n.namespace, n.role, cmd, reply, {added} AS amount
                FROM sk_chunk c JOIN sk_names n USING (template)
                WHERE c.role IN {_SETS} AND cmd IN {cmd("ZADD", "EVALSHA", "EVAL", "ZREM", "ZRANGEBYSCORE")})
            GROUP BY namespace, role""")
        if arguments:
            self._with_arguments = True
            self._db.execute(_PAYLOADS)

    def sets(self, namespaces: frozenset[bytes]) -> list[SetLine]:
        """What went into schedule, retry and dead, and what was taken out of them to be run."""
        rows = self._db.rows("""SELECT namespace, role, coalesce(sum(added), 0)::BIGINT,
            coalesce(sum(taken), 0)::BIGINT, coalesce(sum(polls), 0)::BIGINT, coalesce(sum(unknown), 0)::BIGINT
            FROM sk_sets GROUP BY ALL ORDER BY namespace, role""")
        return [SetLine(row[0], ROLES[row[1]], *row[2:]) for row in rows if row[0] in namespaces]

    def lines(self, namespaces: frozenset[bytes], seconds: float) -> list[JobLine] | None:
        """Job classes, the commonest first; None: the capture has no arguments."""
        if not self._with_arguments:
            return None
        sizes: dict[tuple[bytes, bytes], list[tuple[int, int]]] = defaultdict(list)
        biggest: dict[tuple[bytes, bytes], int] = defaultdict(int)
        counts: dict[tuple[bytes, bytes], dict[str, int]] = defaultdict(lambda: defaultdict(int))
        rows = self._db.rows("""SELECT namespace, class, role, bucket, sum(n)::BIGINT, max(biggest) FROM sk_jobs
            GROUP BY ALL ORDER BY bucket""")
        shown = self._commonest(rows)
        for namespace, name, number, bucket, count, size in rows:
            if namespace not in namespaces:
                continue
            job = (namespace, name if (namespace, name) in shown else OTHER)
            counts[job][ROLES[number]] += count
            if ROLES[number] == "queue":
                sizes[job].append((bucket, count))
                biggest[job] = max(biggest[job], size)
        lines = [
            JobLine(
                *job, by["queue"], spread(sizes[job], SIZE_STEPS, biggest[job]),
                by["queue"] * 60 / seconds if seconds > 0 else 0.0, by["retry"], by["schedule"], by["dead"],
            )
            for job, by in counts.items()
        ]  # fmt: skip
        return sorted(lines, key=lambda line: (-line.count, line.namespace, line.name))

    @staticmethod
    def _commonest(rows: list[tuple[Any, ...]]) -> set[tuple[bytes, bytes]]:
        totals: dict[tuple[bytes, bytes], int] = defaultdict(int)
        for namespace, name, _, _, count, _ in rows:
            totals[namespace, name] += count
        return set(sorted(totals, key=lambda job: -totals[job])[:CLASSES])
