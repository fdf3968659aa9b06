"""Sidekiq's own traffic, told by its key names: what of a finding an application can change, and how.

Knows: the shapes of Sidekiq's commands from 5.2 to 8, out of what its keys are and the commands of a transaction.
Refuses to know: key names and namespaces (``sidekiq_keys``), targets, rules, and what runs in a job.

An application can rename its queues, serve one queue per process, or move to another version. It can't rename
Sidekiq's own keys (``queues``, ``processes``, ``stat:…``, a process's identity), so a finding about those stays.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from proxy.report.rules.rule import Change
from proxy.report.sidekiq_keys import Role, which

#: The one operation that every Sidekiq does every few seconds and no configuration avoids.
HEARTBEAT = "heartbeat of a process"


@dataclass(frozen=True)
class Shape:
    """One operation of Sidekiq. ``name`` finishes the sentence "this is Sidekiq's …"."""

    name: str
    change: Change
    remedy: str


@dataclass(frozen=True)
class _Seen:
    """A finding: the command, a transaction's commands, and what each of its keys is to Sidekiq (None: nothing)."""

    command: bytes
    members: frozenset[bytes]
    roles: tuple[Role | None, ...]

    def has(self, *roles: Role) -> bool:
        return all(role in self.roles for role in roles)

    def all_are(self, role: Role) -> bool:
        return bool(self.roles) and set(self.roles) == {role}


def _super_fetch(seen: _Seen) -> bool:
    return seen.command in (b"BRPOPLPUSH", b"RPOPLPUSH", b"BLMOVE", b"LMOVE") and seen.has(Role.PRIVATE)


def _fetch(seen: _Seen) -> bool:
    """Of several queues: it crosses slots. Names that differ in a number only are one template."""
    return seen.command in (b"BRPOP", b"BLPOP") and seen.all_are(Role.QUEUE)


def _push(seen: _Seen) -> bool:
    return seen.has(Role.QUEUES, Role.QUEUE) and seen.members >= {b"SADD", b"LPUSH"}


def _clear(seen: _Seen) -> bool:
    return seen.has(Role.QUEUES, Role.QUEUE) and b"SREM" in seen.members


def _heartbeat_stats(seen: _Seen) -> bool:
    return bool(seen.members & {b"INCRBY", b"INCR"}) and seen.roles.count(Role.STAT) >= 2


def _process(seen: _Seen) -> bool:
    beats = {b"SADD", b"EXPIRE"} <= seen.members and bool(seen.members & {b"HSET", b"HMSET"})
    return seen.has(Role.PROCESSES) and beats


def _process_set(seen: _Seen) -> bool:
    return seen.has(Role.PROCESSES) and bool(seen.members & {b"SISMEMBER", b"HMGET", b"HGET"})


def _history(seen: _Seen) -> bool:
    return seen.command == b"MGET" and seen.all_are(Role.STAT)


def _reset(seen: _Seen) -> bool:
    return seen.command == b"MSET" and seen.all_are(Role.STAT)


_TAGS = "let each worker process serve one queue, or give the queues' names one hash tag"

_UPGRADE = "which sends it without MULTI"
_FIXED = "Sidekiq's own keys can't be renamed"

SHAPES: tuple[tuple[Callable[[_Seen], bool], Shape], ...] = (
    (_super_fetch, Shape("super_fetch (Pro)", Change.APPLICATION, "basic fetch: jobs of a killed worker are lost")),
    (_fetch, Shape("fetch of several queues", Change.APPLICATION, _TAGS)),
    (_push, Shape("push up to 6.2", Change.APPLICATION, f"Sidekiq 6.3 or later, {_UPGRADE}")),
    (_clear, Shape("clearing of a queue (Web UI, API)", Change.NOBODY, _FIXED)),
    (_heartbeat_stats, Shape("statistics up to 6.5", Change.APPLICATION, f"Sidekiq 7 and up, {_UPGRADE}")),
    (_process, Shape(HEARTBEAT, Change.NOBODY, f"{_FIXED}; jobs run, but the Web UI sees no process")),
    (_process_set, Shape("look at one process (Web UI, API)", Change.NOBODY, _FIXED)),
    (_history, Shape("history page (Web UI)", Change.NOBODY, _FIXED)),
    (_reset, Shape("reset of the statistics (API)", Change.NOBODY, _FIXED)),
)


def shape_of(command: bytes, members: Collection[bytes], keys: Collection[bytes]) -> Shape | None:
    """The operation of Sidekiq that a finding's command (or transaction) and key templates show; None: no such."""
    roles = tuple(found.role if (found := which(key)) else None for key in keys)
    seen = _Seen(command, frozenset(members), roles)
    return next((shape for matches, shape in SHAPES if matches(seen)), None)
