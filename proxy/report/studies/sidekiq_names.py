"""Which rows of a chunk may be Sidekiq's, for the studies of Sidekiq: the views ``sk_names`` and ``sk_chunk``.

Knows: key templates, and the numbers that queues get. Refuses to know: what is asked of them (``sidekiq``,
``sidekiq_queues`` and so on).

``sk_chunk`` is the chunk with two small numbers more: ``role`` (place in ROLES of what the first key is, 0: nothing)
and ``cmd`` (place in COMMANDS, 0: another). To look for names in a million rows again for each question takes longer
than all the rest.
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

#: The numbers of roles and commands; 0 is none of them.
ROLES = ("", *(str(role) for role in Role))
COMMANDS = (
    "", "LPUSH", "LPUSHX", "RPUSH", "RPUSHX", "DEL", "UNLINK", "LREM", "LTRIM", "RENAME", "BRPOP", "RPOP", "BRPOPLPUSH",
    "RPOPLPUSH", "BLMOVE", "LMOVE", "BLPOP", "LPOP", "EXEC", "HSET", "HMSET", "ZADD", "ZREM", "EVAL", "EVALSHA",
    "ZRANGEBYSCORE",
)  # fmt: skip

_NAMES = pa.schema([("template", pa.binary()), ("namespace", pa.binary()), ("role", pa.int8())])


def role(*names: str) -> str:
    """SQL: the numbers of these roles."""
    return "(" + ", ".join(str(ROLES.index(name)) for name in names) + ")"


def cmd(*names: str) -> str:
    """SQL: the numbers of these commands."""
    return "(" + ", ".join(str(COMMANDS.index(name)) for name in names) + ")"


class Names:
    """The templates seen so far, and the queues by number."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._seen: dict[bytes, Key] = {}
        self.queues: dict[tuple[int, bytes], int] = {}
        self.queues_left_out = 0

    def take(self, exchanges: pa.Table) -> bool:
        """Look at one chunk's templates and commands; register the views. Returns whether any may be Sidekiq's."""
        templates = exchanges["template"].combine_chunks().dictionary_encode()
        likely = pc.match_substring_regex(templates.dictionary, _LIKELY)
        found: list[tuple[bytes, Key]] = []
        for template in templates.dictionary.filter(likely)[:TEMPLATES_MOST].to_pylist():
            key = which(template)
            if key is not None:
                found.append((template, key))
                if len(self._seen) < TEMPLATES_MOST:
                    self._seen[template] = key
        if not found:
            return False
        numbers = [ROLES.index(key.role) for _, key in found]
        names = pa.table([[template for template, _ in found], [key.namespace for _, key in found], numbers], _NAMES)
        self._db.connection.register("sk_names", names)
        commands = exchanges["command"].combine_chunks().dictionary_encode()
        known = pa.array([name.encode() for name in COMMANDS], pa.binary())
        added = {
            "role": _numbered(templates, names["template"].combine_chunks(), names["role"].combine_chunks()),
            "cmd": _numbered(commands, known, pa.array(range(len(COMMANDS)), pa.int8())),
        }
        view = exchanges
        for name, column in added.items():
            view = view.append_column(name, column)
        self._db.connection.register("sk_chunk", view)
        return True

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


def _numbered(column: pa.DictionaryArray, values: pa.Array, numbers: pa.Array) -> pa.Array:
    """For each row the number of its value; 0 where it has none."""
    places = pc.index_in(column.dictionary, values)
    return pc.fill_null(numbers.take(places), pa.scalar(0, pa.int8())).take(column.indices)
