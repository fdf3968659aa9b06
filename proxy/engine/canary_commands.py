"""What each command means for a client that reads elsewhere (``canary``): a table, made once out of the command table.

Knows: which commands are reads that may go to the target, which go to the backend and change nothing about that, and
which end it for their client. Refuses to know: arguments (XREAD BLOCK, SORT_RO BY), which ``canary`` looks at, and
which reads two servers never answer alike (``apart``; the mirror's comparison knows).

A command that no rule names ends it: what is not known to be harmless counts as a write.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from enum import IntEnum

from protocol.commands import CommandSpec
from protocol.traits import Kind, Trait


class Way(IntEnum):
    """What becomes of a command. The numbers are written into compiled code (``canary.pyx``)."""

    READ = 0  # the target may answer it
    STAYS = 1  # it goes where the client stands
    HOME = 2  # the backend answers it; the next read may go to the target again
    WRITES = 3  # from here on these: the backend answers this and all that follows
    SCRIPT = 4
    BLOCKS = 5
    TRANSACTION = 6
    LISTENS = 7
    CONNECTION = 8
    OTHER = 9


#: The words for the ways that end it, and those that no command is the cause of.
LEFT = {
    Way.WRITES: "write",
    Way.SCRIPT: "script",
    Way.BLOCKS: "blocking",
    Way.TRANSACTION: "transaction",
    Way.LISTENS: "pubsub",
    Way.CONNECTION: "connection",
    Way.OTHER: "other",
}
UNKNOWN, INLINE, NOT_RESP, TOO_LARGE, NAME, UNREACHABLE, STUCK, LOST = (
    "unknown-command", "inline", "protocol-error", "too-large", "name", "unreachable", "stuck", "lost",
)  # fmt: skip
REASONS = (*LEFT.values(), UNKNOWN, INLINE, NOT_RESP, TOO_LARGE, NAME, UNREACHABLE, STUCK, LOST)


def _names(text: str) -> frozenset[str]:
    return frozenset(name.replace("_", " ") for name in text.split())


_STAYS = frozenset({"PING", "ECHO", "QUIT"})
#: No reads of keys, and known to change neither data nor what the connection is, but for what is told to the target too
#: (protocol, name, database).
_HOME = _names(
    "HELLO SELECT INFO TIME LASTSAVE ROLE ACL_WHOAMI OBJECT_HELP CONFIG_GET CONFIG_HELP "
    "CLIENT_SETNAME CLIENT_SETINFO CLIENT_GETNAME CLIENT_ID CLIENT_INFO CLIENT_LIST CLIENT_GETREDIR "
    "CLIENT_TRACKINGINFO CLIENT_HELP COMMAND COMMAND_COUNT COMMAND_DOCS COMMAND_GETKEYS COMMAND_GETKEYSANDFLAGS "
    "COMMAND_INFO COMMAND_LIST COMMAND_HELP MEMORY_DOCTOR MEMORY_STATS MEMORY_MALLOC-STATS MEMORY_HELP "
    "SLOWLOG_GET SLOWLOG_LEN SLOWLOG_HELP LATENCY_LATEST LATENCY_HISTORY LATENCY_DOCTOR LATENCY_GRAPH "
    "LATENCY_HISTOGRAM LATENCY_HELP CLUSTER_INFO CLUSTER_NODES CLUSTER_SLOTS CLUSTER_SHARDS CLUSTER_KEYSLOT "
    "CLUSTER_MYID PUBSUB_CHANNELS PUBSUB_NUMSUB PUBSUB_NUMPAT PUBSUB_SHARDCHANNELS PUBSUB_SHARDNUMSUB"
)
_TRANSACTION = frozenset({Kind.MULTI, Kind.EXEC, Kind.DISCARD, Kind.WATCH, Kind.UNWATCH})
_CONNECTION = frozenset({Kind.AUTH, Kind.RESET, Kind.CLIENT_REPLY, Kind.CLIENT_TRACKING, Kind.CLIENT_CACHING})
#: A read with one of these is not asked of the target.
_NOT_THERE = Trait.ADMIN | Trait.NODE_LOCAL | Trait.SHARD_CHANNEL | Trait.NO_MULTI


def way(spec: CommandSpec, apart: Container[str]) -> Way:
    """The rules, the first that fits. ``apart``: reads that two servers never answer alike."""
    traits = spec.traits
    rules = (
        (spec.name in _STAYS, Way.STAYS),
        (spec.name in _HOME, Way.HOME),
        (traits & Trait.SCRIPT, Way.SCRIPT),
        (traits & Trait.BLOCKING, Way.BLOCKS),
        (traits & Trait.WRITE, Way.WRITES),
        (spec.kind in _TRANSACTION, Way.TRANSACTION),
        (spec.kind is Kind.MONITOR or traits & Trait.PUBSUB, Way.LISTENS),
        (spec.kind in _CONNECTION, Way.CONNECTION),
        (spec.container or not traits & Trait.READONLY, Way.OTHER),
        (spec.name in apart or not spec.key_specs or traits & _NOT_THERE, Way.HOME),
    )
    return next((found for fits, found in rules if fits), Way.READ)


def ways(names: Iterable[str], specs: dict[str, CommandSpec], apart: Container[str]) -> bytes:
    """One byte for each command by its id, for compiled code: its Way."""
    return bytes(way(specs[name], apart) for name in names)
