"""Commands by key pattern over time: how many in each slice of time, and how long they took. What ``shunt diff``
compares.

Knows: slices that grow with the capture, and the caps. Refuses to know: what a difference is (``noise``).

Slices are pieces of the clock, a power of two times 250 ms long, so that neighbours can be joined when a capture
turns out longer: there are never more than 128.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from proxy.report.studies.patterns import KIND, SERVICE, middle_ns
from proxy.report.study import Database, Study

FIRST_NS = 250_000_000
MOST_SLICES = 128
#: Buckets per doubling: a bucket's middle is at most 4.5 % off, and a change of less than a tenth is none.
BUCKETS = 8
#: Patterns that are kept of a chunk: so many by time and by number.
PATTERNS = 150

Pattern = tuple[bytes, bytes]

_SCHEMA = """
CREATE TABLE paces (command BLOB, template BLOB, slice BIGINT, bucket INT, n BIGINT);
CREATE TABLE pace_chunk AS FROM paces;
"""


def _group(width_ns: int) -> str:
    return f"""INSERT INTO pace_chunk SELECT command, template, ts // {width_ns} AS slice,
        CASE WHEN {KIND} <> {SERVICE} THEN -2 WHEN latency_ns > 0 THEN floor(log2(latency_ns) * {BUCKETS})::INT
            ELSE -1 END AS bucket, count(*) FROM chunk GROUP BY command, template, slice, bucket"""


_KEPT = f"""INSERT INTO paces FROM pace_chunk SEMI JOIN (
    SELECT command, template FROM (SELECT command, template, row_number() OVER (ORDER BY sum(n) DESC) AS by_number,
        row_number() OVER (ORDER BY sum(CASE WHEN bucket > 0 THEN n * pow(2, bucket / {BUCKETS}) ELSE 0 END) DESC)
            AS by_time
        FROM pace_chunk GROUP BY command, template) WHERE least(by_number, by_time) <= {PATTERNS})
    kept USING (command, template)"""
_JOINED = """CREATE OR REPLACE TABLE paces AS SELECT command, template, slice // 2 AS slice, bucket, sum(n)::BIGINT AS n
    FROM paces GROUP BY ALL"""
_SLICES = """
WITH merged AS (SELECT command, template, slice, bucket, sum(n) AS n FROM paces GROUP BY ALL),
ranked AS (SELECT *, sum(CASE WHEN bucket > -2 THEN n ELSE 0 END) OVER w AS upto,
    sum(CASE WHEN bucket > -2 THEN n ELSE 0 END) OVER (PARTITION BY command, template, slice) AS served FROM merged
    WINDOW w AS (PARTITION BY command, template, slice ORDER BY bucket))
SELECT command, template, slice, sum(n)::BIGINT, min(bucket) FILTER (bucket > -2 AND 2 * upto >= served)
FROM ranked GROUP BY command, template, slice ORDER BY command, template, slice
"""


@dataclass(frozen=True)
class Pace:
    """One pattern in the slices of one capture. ``counts``: commands in each whole slice, in order of time.
    ``medians``: of the service times in ns, of those slices that have some."""

    counts: tuple[int, ...] = ()
    medians: tuple[float, ...] = ()


@dataclass(frozen=True)
class PaceTable:
    """All patterns' paces. ``slice_s``: how long a slice is."""

    slice_s: float = 0.0
    paces: Mapping[Pattern, Pace] = field(default_factory=dict)


class Paces(Study):
    """Commands by pattern in slices of time."""

    SCHEMA = _SCHEMA

    def __init__(self, db: Database) -> None:
        super().__init__(db)
        self._width_ns = FIRST_NS
        self._slices: set[int] = set()

    def take(self, exchanges: pa.Table) -> None:
        times = pc.min_max(exchanges["ts"]).as_py()
        while times["min"] is not None and (times["max"] - times["min"]) // self._width_ns >= MOST_SLICES:
            self._join()
        self._db.execute("DELETE FROM pace_chunk")
        self._db.execute(_group(self._width_ns))
        self._db.execute(_KEPT)
        self._slices.update(row[0] for row in self._db.rows("SELECT DISTINCT slice FROM pace_chunk"))
        while len(self._slices) > MOST_SLICES:
            self._join()

    def _join(self) -> None:
        """Twice as long slices."""
        self._db.execute(_JOINED)
        self._width_ns *= 2
        self._slices = {each // 2 for each in self._slices}

    def table(self) -> PaceTable:
        """The paces. The first and the last slice are cut by the capture's ends, and left out; so are slices in
        which nothing was recorded at all."""
        whole = sorted(self._slices)[1:-1]
        place = {each: number for number, each in enumerate(whole)}
        counts: dict[Pattern, list[int]] = defaultdict(lambda: [0] * len(whole))
        medians: dict[Pattern, list[float]] = defaultdict(list)
        for command, template, number, n, bucket in self._db.rows(_SLICES):
            if number in place:
                counts[command, template][place[number]] = n
                if bucket is not None:
                    medians[command, template].append(middle_ns(bucket, BUCKETS))
        paces = {each: Pace(tuple(counts[each]), tuple(medians.get(each, ()))) for each in counts}
        return PaceTable(self._width_ns / 1e9, paces)
