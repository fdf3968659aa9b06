"""Which of a chunk's keys may be Sidekiq's, for the studies of Sidekiq: the view ``sk_names``.

Knows: key templates, and the numbers that queues get. Refuses to know: what is asked of them (``sidekiq``,
``sidekiq_queues`` and so on).
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from proxy.report.sidekiq_keys import Key, Role, namespaces, which
from proxy.report.study import Database

#: What a template of Sidekiq's looks like, for a first look at all of a chunk's: ``which`` then says what it is.
_LIKELY = (
    r"(^|:)(queue:.+|queues|schedule|retry|dead|processes|stat:(processed|failed).*"
    r"|[^:]+:<id>:<id>(:work(ers)?|-signals)?)$"
)
#: Templates and queues beyond these numbers are left alone: an application with more of them is none that we know.
TEMPLATES_MOST = 10_000
QUEUES_MOST = 1_000

_NAMES = pa.schema([("template", pa.binary()), ("namespace", pa.binary()), ("role", pa.string())])


class Names:
    """The templates seen so far, and the queues by number."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._seen: dict[bytes, Key] = {}
        self.queues: dict[tuple[int, bytes], int] = {}
        self.queues_left_out = 0

    def take(self, exchanges: pa.Table) -> bool:
        """Look at one chunk's templates, and register ``sk_names``. Returns whether any may be Sidekiq's."""
        templates = pc.unique(exchanges["template"])
        likely = pc.match_substring_regex(templates, _LIKELY)
        found: list[tuple[bytes, Key]] = []
        for template in templates.filter(likely)[:TEMPLATES_MOST].to_pylist():
            key = which(template)
            if key is not None:
                found.append((template, key))
                if len(self._seen) < TEMPLATES_MOST:
                    self._seen[template] = key
        columns = [[each[0] for each in found], [k.namespace for _, k in found], [str(k.role) for _, k in found]]
        self._db.connection.register("sk_names", pa.table(columns, _NAMES))
        return bool(found)

    def namespaces(self) -> frozenset[bytes]:
        """The namespaces that are Sidekiq's."""
        return namespaces(self._seen)

    def queue(self, db: int, key: bytes) -> int:
        """The number of a queue; -1: it is none, or there are too many."""
        number = self.queues.get((db, key))
        if number is not None:
            return number
        found = which(key)
        if found is None or found.role is not Role.QUEUE:
            return -1
        if len(self.queues) >= QUEUES_MOST:
            self.queues_left_out += 1
            return -1
        self.queues[db, key] = len(self.queues)
        return self.queues[db, key]
