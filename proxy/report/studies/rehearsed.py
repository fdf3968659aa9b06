"""What was refused in rehearsal (``shunt run --rehearse``): the rows that carry the flag, by command and error.

Knows: where a refusal stands in a capture. Refuses to know: which target was rehearsed, and whether it would be right.
"""

from __future__ import annotations

from proxy.capture.format import Flag
from proxy.report.document import RehearsedLine
from proxy.report.study import Study

_SCHEMA = """
CREATE TABLE rehearsed (command BLOB, error BLOB, queued BOOLEAN, n BIGINT, first_ts BIGINT, last_ts BIGINT);
"""
_CHUNK = (
    f"""INSERT INTO rehearsed SELECT command, error, flags & {int(Flag.QUEUED)} <> 0, count(*), min(ts), max(ts)
    FROM chunk WHERE flags & {int(Flag.REHEARSED)} <> 0 GROUP BY ALL""",
)
_LINES = """SELECT command, error, queued, sum(n)::BIGINT AS n, min(first_ts), max(last_ts) FROM rehearsed GROUP BY ALL
ORDER BY n DESC, command, error, queued"""


class Rehearsed(Study):
    """Refusals in rehearsal, counted."""

    SCHEMA = _SCHEMA
    CHUNK = _CHUNK

    def lines(self) -> tuple[RehearsedLine, ...]:
        """By command and first word of the error, the most frequent first."""
        return tuple(RehearsedLine(*row) for row in self._db.rows(_LINES))
