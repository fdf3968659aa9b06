"""The target profiles: which rules hold for which target.

Knows: every rule by name. Refuses to know: rows. ``redis-cluster`` is open-source Redis Cluster without a layout:
every two slots may be on two nodes.
"""

from __future__ import annotations

from dataclasses import dataclass

from proxy.capture.format import SLOT_NONE, Flag
from proxy.capture.predicate import Above, Below, Has, OneOf, Predicate, any_of
from proxy.report.rules.databases import DatabaseInUse, OtherDatabase, SelectDatabase, TxnOtherDatabase
from proxy.report.rules.nodes import KeyspaceNotifications, NodeLocal, Replication
from proxy.report.rules.rule import DERIVED, Finding, Row, Rule, Severity, When
from proxy.report.rules.scripts import (
    ScriptCrossSlot,
    ScriptFact,
    ScriptHiddenKeys,
    ScriptLoad,
    ScriptNoCluster,
    ScriptNoKeys,
    ScriptUndeclaredKeys,
    ScriptUndeclaredSlots,
)
from proxy.report.rules.slots import CrossSlot, ShardedPubSub, SortPattern, TxnCrossSlot, TxnRefused, WatchApart
from proxy.report.rules.unknowns import Gap, KeysUnknown, TxnUnknown

__all__ = [
    "CANDIDATE", "DERIVED", "TARGETS", "Finding", "Row", "Rule", "ScriptFact", "Severity", "Target", "When",
]  # fmt: skip


@dataclass(frozen=True)
class Target:
    """A kind of Redis that commands may be moved to."""

    id: str
    title: str
    rules: tuple[Rule, ...]


TARGETS: dict[str, Target] = {
    target.id: target
    for target in [
        Target(
            "redis-cluster",
            "open-source Redis Cluster, any layout of slots",
            (
                CrossSlot(),
                TxnCrossSlot(),
                TxnRefused(),
                SelectDatabase(),
                DatabaseInUse(),
                OtherDatabase(),
                TxnOtherDatabase(),
                SortPattern(),
                ScriptCrossSlot(),
                ScriptNoCluster(),
                ShardedPubSub(),
                NodeLocal(),
                KeyspaceNotifications(),
                WatchApart(),
                ScriptUndeclaredKeys(),
                ScriptLoad(),
                Replication(),
                KeysUnknown(),
                TxnUnknown(),
                ScriptNoKeys(),
                ScriptUndeclaredSlots(),
                ScriptHiddenKeys(),
                Gap(),
            ),
        ),
    ]
}

_FLAGS = (
    Flag.SCRIPT | Flag.TXN_CROSS | Flag.TXN_REFUSED | Flag.TXN_UNKNOWN | Flag.TXN_REFUSED_DB
    | Flag.FOREIGN_DB | Flag.SORT_PATTERN
)  # fmt: skip
_NAMES = [
    *(b"KEYS", b"SCAN", b"DBSIZE", b"FLUSHDB", b"FLUSHALL", b"RANDOMKEY", b"REPLICAOF", b"SLAVEOF", b"FAILOVER"),
    *(b"SUBSCRIBE", b"PSUBSCRIBE", b"SCRIPT LOAD", b"FUNCTION LOAD"),
]

#: Holds for every exchange that any rule could have something to say of, by the capture's own columns, but for the
#: rules of ``db_unseen`` and ``watch_apart``. Cheap: it keeps most rows away from the rules.
CANDIDATE: Predicate = any_of(
    Below("slot", SLOT_NONE),  # SLOT_CROSS or SLOT_UNKNOWN
    Above("unknown", 0),
    Has("flags", _FLAGS),
    OneOf("command", _NAMES),
)
