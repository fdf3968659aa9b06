"""Which keys come together in one command or transaction: what hash tags are worked out from.

Knows: how many different sets of keys are kept, and where transactions' keys are found. Refuses to know: how tags are
chosen and priced (``report.remedies``).
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from proxy.report.remedies import KeyWeight, Remedies, Use, Weight, find_tags, price
from proxy.report.studies.transactions import Transactions
from proxy.report.study import Database, Study
from proxy.report.templates import fold

#: Of each chunk, so many different lists of keys go on, the most frequent first, and so many templates.
USES_PER_CHUNK = 2_000
TEMPLATES_PER_CHUNK = 5_000
#: Tags are worked out from so many uses at most, and priced with so many keys.
MOST_USES = 10_000
MOST_KEYS = 10_000

_SCHEMA = """
CREATE TABLE together (command BLOB, keys BLOB[], n BIGINT);
CREATE TABLE together_seen (n BIGINT);
CREATE TABLE first_templates (template BLOB, n BIGINT, bytes HUGEINT);
"""
_SEVERAL = "nkeys > 1 AND len(keys) > 1 AND (txn = 0 OR command = 'WATCH'::BLOB)"
_CHUNK = (
    f"""INSERT INTO together SELECT command, keys, count(*) AS n FROM chunk WHERE {_SEVERAL}
    GROUP BY ALL ORDER BY n DESC, keys LIMIT {USES_PER_CHUNK}""",
    f"INSERT INTO together_seen SELECT count(*) FROM chunk WHERE {_SEVERAL}",
    f"""INSERT INTO first_templates SELECT template, sum(n) AS n, sum(request_bytes + reply_bytes) FROM grouped
    WHERE template <> ''::BLOB GROUP BY template ORDER BY n DESC, template LIMIT {TEMPLATES_PER_CHUNK}""",
)
_USES = f"""SELECT command, keys, sum(n)::BIGINT AS n FROM together GROUP BY ALL
    ORDER BY n DESC, keys LIMIT {MOST_USES}"""
#: Each transaction that was to run is one use of all its keys and those of its WATCH: see ``studies.transactions``.
_TRANSACTIONS = f"SELECT keys, n FROM transactions ORDER BY n DESC, keys LIMIT {MOST_USES}"
_WEIGHTS = """SELECT template, sum(n)::BIGINT, sum(bytes)::BIGINT FROM first_templates
    GROUP BY template ORDER BY template"""
_KEYS = f"""SELECT key, sum(n)::BIGINT AS n, sum(bytes)::BIGINT FROM keys GROUP BY key
    ORDER BY n DESC, key LIMIT {MOST_KEYS}"""


class Together(Study):
    """Keys that came together, and what their templates carry. Reads the tables of traffic and transactions at the
    end."""

    SCHEMA = _SCHEMA
    CHUNK = _CHUNK

    def __init__(self, db: Database, transactions: Transactions) -> None:
        super().__init__(db)
        self._transactions = transactions

    def remedies(self) -> Remedies:
        """The tags that make the traffic pass, and their price."""
        uses = [Use(command, _distinct(keys), n) for command, keys, n in self._db.rows(_USES)]
        uses += [Use(b"EXEC", tuple(keys), n) for keys, n in self._db.rows(_TRANSACTIONS)]
        checked = sum(use.count for use in uses)
        uses = [use for use in uses if len(use.keys) > 1]
        seen = self._count("SELECT sum(n)::BIGINT FROM together_seen") + self._transactions.seen
        found = Remedies(find_tags(uses, _fold), None, None, checked, seen)
        rows = self._db.rows(_KEYS)
        templates = _fold([key for key, *_ in rows])
        keys = [KeyWeight(key, t, n, size) for (key, n, size), t in zip(rows, templates, strict=True)]
        return price(found, [Weight(*row) for row in self._db.rows(_WEIGHTS)], keys)

    def _count(self, statement: str) -> int:
        return self._db.rows(statement)[0][0] or 0


def _distinct(keys: Sequence[bytes]) -> tuple[bytes, ...]:
    return tuple(dict.fromkeys(keys))


def _fold(keys: Sequence[bytes]) -> list[bytes]:
    folded: list[bytes] = fold(pa.array(keys, pa.binary())).to_pylist()
    return folded
