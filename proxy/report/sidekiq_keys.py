"""Sidekiq's own keys by name: which namespace a key is in, and what Sidekiq uses it for.

Knows: the key names of Sidekiq 5 to 8, of Sidekiq Pro's private queues and batches, as they are and as templates
(``templates``). Refuses to know: rows. A name alone proves little (any application may have a list ``app:queue:mail``):
``namespaces`` says where enough of them stand together.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple


class Role(StrEnum):
    """What Sidekiq uses a key for."""

    QUEUE = "queue"  # list: queue:NAME
    PRIVATE = "private"  # list of Sidekiq Pro's super_fetch: queue:sq|IDENTITY|NAME
    QUEUES = "queues"  # set of queue names
    SCHEDULE = "schedule"  # sorted set: jobs for later
    RETRY = "retry"  # sorted set: jobs that failed
    DEAD = "dead"  # sorted set: jobs that have failed too often
    PROCESSES = "processes"  # set of identities
    IDENTITY = "identity"  # hash of one process: HOST:PID:NONCE
    WORK = "work"  # hash of what a process works on: IDENTITY:workers, IDENTITY:work from 6.5 on
    SIGNALS = "signals"  # list: IDENTITY-signals
    STAT = "stat"  # stat:processed, stat:failed, and for each day
    METRICS = "metrics"  # hash: j|DAY|TIME
    CLEANUP = "cleanup"  # process_cleanup
    ITERATION = "iteration"  # hash of an iterable job: it-JID
    PAUSED = "paused"  # set of paused queues
    LEADER = "leader"  # dear-leader (Sidekiq Enterprise)
    BATCH = "batch"  # b-BID-jids and its relatives (Sidekiq Pro)


class Key(NamedTuple):
    """A key that has the name of one of Sidekiq's. ``rest``: of a queue its name, of IDENTITY, WORK and SIGNALS the
    identity, else empty. ``namespace`` without its last colon; empty: none."""

    namespace: bytes
    role: Role
    rest: bytes = b""


#: HOST:PID:NONCE, or its template. A nonce has 12 hexadecimal digits.
_IDENTITY = rb"(?P<rest>[^:]+:(?:\d+|<id>):(?:[0-9a-f]{12}|<id>))"
_DAY = rb"(?:<date>|\d{4}-\d\d-\d\d)"

#: What follows the namespace. The first that fits counts; only a queue's name may hold anything.
_SHAPES: tuple[tuple[Role, bytes], ...] = (
    (Role.PRIVATE, rb"queue:sq\|(?P<rest>.+)"),
    (Role.QUEUE, rb"queue:(?P<rest>.+)"),
    (Role.QUEUES, rb"queues"),
    (Role.SCHEDULE, rb"schedule"),
    (Role.RETRY, rb"retry"),
    (Role.DEAD, rb"dead"),
    (Role.PROCESSES, rb"processes"),
    (Role.WORK, _IDENTITY + rb":work(?:ers)?"),
    (Role.SIGNALS, _IDENTITY + rb"-signals"),
    (Role.IDENTITY, _IDENTITY),
    (Role.STAT, rb"stat:(?:processed|failed)(?::" + _DAY + rb")?"),
    (Role.METRICS, rb"[jh]\|(?:<id>|<date>|\d+)\|.+"),
    (Role.CLEANUP, rb"process_cleanup"),
    (Role.ITERATION, rb"it-(?:<id>|[0-9a-f]{24})"),
    (Role.PAUSED, rb"paused"),
    (Role.LEADER, rb"dear-leader"),
    (Role.BATCH, rb"b-.+-(?:jids|failinfo|notify|cbsucc|died)"),
)
_MATCH = tuple((role, re.compile(rb"(?:(?P<namespace>.+?):)?" + shape, re.DOTALL)) for role, shape in _SHAPES)

#: A namespace with only one of these may be anybody's.
_PROVING = frozenset(
    {Role.QUEUE, Role.QUEUES, Role.SCHEDULE, Role.RETRY, Role.PROCESSES, Role.WORK, Role.SIGNALS, Role.STAT}
)


@lru_cache(maxsize=65536)
def which(key: bytes) -> Key | None:
    """What ``key`` (a key or its template) is to Sidekiq by its name; None: nothing.

    A bare identity has no shape of its own (``user:12:4567`` folds to the same template as ``host:12:3f…``): of
    IDENTITY only a key itself is certain, a template is where ``namespaces`` holds for it.
    """
    for role, pattern in _MATCH:
        found = pattern.fullmatch(key)
        if found is not None:
            parts = found.groupdict()
            return Key(parts["namespace"] or b"", role, parts.get("rest") or b"")
    return None


def namespaces(keys: Iterable[bytes]) -> frozenset[bytes]:
    """The namespaces in which keys (or templates) of two different roles stand, as only Sidekiq has them."""
    roles: dict[bytes, set[Role]] = defaultdict(set)
    for key in keys:
        found = which(key)
        if found is not None and found.role in _PROVING:
            roles[found.namespace].add(found.role)
    return frozenset(namespace for namespace, there in roles.items() if len(there) > 1)
