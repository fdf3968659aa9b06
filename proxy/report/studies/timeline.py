"""How the load ran over time: commands, errors, bytes and latencies by interval, and where latencies lie by command.

Knows: intervals that widen as the capture's span grows, so that there are never more than a few hundred, and
histograms of latencies in them. Refuses to know: single exchanges, and how any of it is drawn.
"""

from __future__ import annotations

from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from proxy.capture.format import Flag
from proxy.report.load import CommandCell, CommandInterval, Interval, LatencyHeat, TimeCell, Timeline
from proxy.report.study import Database, Study

#: Widths of an interval in seconds; each divides the next, so that narrow intervals merge into wide ones exactly.
#: Where the last is too narrow, it is doubled.
_WIDTHS_S = (0.1, 0.2, 1, 2, 10, 30, 60, 120, 600, 1800, 3600, 7200, 21_600, 43_200, 86_400)
MOST_INTERVALS = 600
MOST_HEAT_INTERVALS = 120

#: Latency buckets per doubling: of the timeline, and of the heat. Half a bucket is what a quantile is off at most.
_FINE, _COARSE = 8, 2
#: Commands whose latencies are kept by themselves; the rest is one, without a name.
MOST_COMMANDS = 64
SHOWN_COMMANDS = 15

#: Rows are added up again when a table holds so many.
COMPACT_AT = 250_000

_TIMED = f"latency_ns >= 0 AND flags & {int(Flag.QUEUED | Flag.BLOCKING)} = 0"


class Width:
    """The width of intervals, in ns: the narrowest with which the times seen so far need no more than ``most``."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._wider = [int(width * 1e9) for width in reversed(_WIDTHS_S)]
        self.ns = self._wider.pop()
        self._first: int | None = None
        self._last = 0

    def cover(self, first: int, last: int) -> int:
        """Widen until these times fit in. Returns how many of the intervals so far make a new one (1: not widened)."""
        self._first = first if self._first is None else min(self._first, first)
        self._last = max(self._last, last)
        before = self.ns
        while self._last // self.ns - self._first // self.ns >= self._most:
            self.ns = self._wider.pop() if self._wider else self.ns * 2
        return self.ns // before


class OverTime(Study):
    """Two tables of histograms; ``part`` is an interval's number since the epoch. ``timeline``: narrow intervals and
    buckets (-1: not timed). ``heat``: wide ones, by command."""

    SCHEMA: ClassVar[str] = """
    CREATE TABLE timeline (part BIGINT, bucket INT, n BIGINT, errors BIGINT, bytes HUGEINT);
    CREATE TABLE heat (part BIGINT, command BLOB, bucket INT, n BIGINT, total_ns HUGEINT);
    """

    def __init__(self, db: Database) -> None:
        super().__init__(db)
        self._narrow, self._wide = Width(MOST_INTERVALS), Width(MOST_HEAT_INTERVALS)

    def take(self, exchanges: pa.Table) -> None:
        if not exchanges.num_rows:
            return
        bounds = pc.min_max(exchanges.column("ts")).as_py()
        for table, width in (("timeline", self._narrow), ("heat", self._wide)):
            merged = width.cover(bounds["min"], bounds["max"])
            if merged > 1:
                self._db.execute(f"UPDATE {table} SET part = part // {merged}")
        self._db.execute(
            f"""INSERT INTO timeline SELECT ts // {self._narrow.ns} AS part,
            CASE WHEN {_TIMED} THEN {_bucket(_FINE)} ELSE -1 END AS bucket,
            count(*), count(*) FILTER (error <> ''::BLOB), sum(request_bytes + reply_bytes) FROM chunk GROUP BY ALL"""
        )
        self._db.execute(
            f"""INSERT INTO heat SELECT ts // {self._wide.ns} AS part, command, {_bucket(_COARSE)} AS bucket, count(*),
            sum(latency_ns) FROM chunk WHERE {_TIMED} GROUP BY ALL"""
        )
        self._db.compact("timeline", COMPACT_AT, _TIMELINE_SUMS)
        self._db.compact("heat", COMPACT_AT, _HEAT_SUMS)

    def timeline(self) -> Timeline:
        """Every interval in which something was recorded."""
        width = self._narrow.ns
        rows = self._db.rows(_INTERVALS)
        return Timeline(width, tuple(_interval(width, *row) for row in rows))

    def latency_heat(self) -> LatencyHeat:
        """Service times over time, by command, and both."""
        width = self._wide.ns
        commands = tuple(row[0] for row in self._db.rows(_SHOWN))
        by_both = self._db.rows(_BY_BOTH) if commands else []
        return LatencyHeat(
            width,
            commands,
            tuple(TimeCell(part * width, 2**power, n) for part, power, n in self._db.rows(_BY_TIME)),
            tuple(CommandCell(command, 2**power, n) for command, power, n in self._db.rows(_BY_COMMAND)),
            tuple(CommandInterval(command, part * width, n, _middle(b, _COARSE)) for command, part, n, b in by_both),
        )


def _bucket(per_doubling: int) -> str:
    return f"floor(log2(greatest(latency_ns, 1)) * {per_doubling})::INT"


def _middle(bucket: int | None, per_doubling: int) -> int:
    """A latency in the middle of its bucket; 0 without one."""
    return 0 if bucket is None or bucket < 0 else int(2 ** ((bucket + 0.5) / per_doubling))


def _interval(width: int, part: int, n: int, errors: int, size: int, timed: int, *quantiles: int | None) -> Interval:
    p50, p99 = (_middle(bucket, _FINE) for bucket in quantiles)
    return Interval(part * width, n, errors, size, timed, p50, p99)


def _ranked(table: str, group: str) -> str:
    """The rows of a histogram with how many exchanges lie ``before`` a bucket, and the ``total``."""
    return f"""SELECT *, sum(n) OVER (PARTITION BY {group} ORDER BY bucket) - n AS before,
        sum(n) OVER (PARTITION BY {group}) AS total FROM {table}"""


#: Rows of the same interval and bucket become one; commands that take little time lose their names.
_TIMELINE_SUMS = "SELECT part, bucket, sum(n), sum(errors), sum(bytes) FROM timeline GROUP BY ALL"
_HEAT_SUMS = f"""
WITH kept AS (SELECT command FROM heat GROUP BY command ORDER BY sum(total_ns) DESC, command LIMIT {MOST_COMMANDS})
SELECT part, CASE WHEN command IN (FROM kept) THEN command ELSE ''::BLOB END AS command, bucket, sum(n), sum(total_ns)
FROM heat GROUP BY ALL
"""

_INTERVALS = f"""
WITH merged AS (
    SELECT part, bucket, sum(n) AS n, sum(errors) AS errors, sum(bytes) AS bytes FROM timeline GROUP BY ALL),
timed AS (SELECT part, bucket, n FROM merged WHERE bucket >= 0),
ranked AS ({_ranked("timed", "part")}),
quantiles AS (SELECT part, sum(n)::BIGINT AS timed, min(bucket) FILTER (before + n >= 0.5 * total) AS p50,
    min(bucket) FILTER (before + n >= 0.99 * total) AS p99 FROM ranked GROUP BY part)
SELECT part, sum(n)::BIGINT, sum(errors)::BIGINT, sum(bytes)::BIGINT, coalesce(any_value(q.timed), 0), any_value(q.p50),
    any_value(q.p99)
FROM merged LEFT JOIN quantiles q USING (part) GROUP BY part ORDER BY part
"""
_SHOWN = f"""SELECT command FROM heat WHERE command <> ''::BLOB GROUP BY command
ORDER BY sum(total_ns) DESC, command LIMIT {SHOWN_COMMANDS}"""
_BY_TIME = f"SELECT part, bucket // {_COARSE} AS power, sum(n)::BIGINT FROM heat GROUP BY ALL ORDER BY ALL"
_BY_COMMAND = f"""SELECT command, bucket // {_COARSE} AS power, sum(n)::BIGINT FROM heat
WHERE command IN ({_SHOWN}) GROUP BY ALL ORDER BY ALL"""
_BY_BOTH = f"""
WITH merged AS (SELECT command, part, bucket, sum(n) AS n FROM heat WHERE command IN ({_SHOWN}) GROUP BY ALL),
ranked AS ({_ranked("merged", "command, part")})
SELECT command, part, sum(n)::BIGINT, min(bucket) FILTER (before + n >= 0.99 * total) FROM ranked
GROUP BY command, part ORDER BY command, part
"""
