"""The rules of each target: every rule that has something to say of it, made with its facts.

Knows: every rule by name, their order, and which rows are worth a look. Refuses to know: rows, and what differs between
targets (``report.targets``).
"""

from __future__ import annotations

from collections.abc import Iterable

from proxy.capture.format import SLOT_NONE, Flag
from proxy.capture.predicate import Above, Below, Has, OneOf, Predicate, any_of
from proxy.report.rules.backends import CrossBackend
from proxy.report.rules.commands import ForbiddenCommand, MissingCommand, RefusedCommand, TxnCommand, UnverifiedCommand
from proxy.report.rules.databases import DatabaseInUse, OtherDatabase, SelectDatabase, TxnOtherDatabase
from proxy.report.rules.nodes import KeyspaceNotifications, NodeLocal
from proxy.report.rules.rule import DERIVED, Change, Finding, Row, Rule, Severity, When
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
from proxy.report.targets import TARGETS, Target, find

__all__ = [
    "CANDIDATE", "DERIVED", "EVERY_RULE", "RULES", "Change", "Finding", "RefusedCommand", "Row", "Rule", "ScriptFact",
    "Severity", "TxnCommand", "When", "candidates", "rules_of",
]  # fmt: skip

#: In the order of the docs.
EVERY_RULE: tuple[type[Rule], ...] = (
    CrossSlot,
    TxnCrossSlot,
    TxnRefused,
    MissingCommand,
    TxnCommand,
    SelectDatabase,
    DatabaseInUse,
    OtherDatabase,
    TxnOtherDatabase,
    SortPattern,
    ScriptCrossSlot,
    ScriptNoCluster,
    ShardedPubSub,
    NodeLocal,
    KeyspaceNotifications,
    WatchApart,
    ScriptUndeclaredKeys,
    ScriptLoad,
    ForbiddenCommand,
    KeysUnknown,
    TxnUnknown,
    ScriptNoKeys,
    ScriptUndeclaredSlots,
    ScriptHiddenKeys,
    UnverifiedCommand,
    CrossBackend,
    Gap,
)


def rules_for(target: Target) -> tuple[Rule, ...]:
    """The rules that concern a target."""
    return tuple(rule(target) for rule in EVERY_RULE if rule.concerns(target))


#: Every target's rules, by its id.
RULES: dict[str, tuple[Rule, ...]] = {target.id: rules_for(target) for target in TARGETS.values()}


def rules_of(name: str) -> tuple[Rule, ...]:
    """The rules of the target of this id or alias. Raises TargetError."""
    return RULES[find(name).id]


_FLAGS = (
    Flag.SCRIPT | Flag.TXN_CROSS | Flag.TXN_REFUSED | Flag.TXN_UNKNOWN | Flag.TXN_REFUSED_DB
    | Flag.FOREIGN_DB | Flag.SORT_PATTERN | Flag.REPLIED_BY_PROXY
)  # fmt: skip
_NAMES = [
    *(b"KEYS", b"SCAN", b"DBSIZE", b"FLUSHDB", b"FLUSHALL", b"RANDOMKEY"),
    *(b"SUBSCRIBE", b"PSUBSCRIBE", b"SCRIPT LOAD", b"FUNCTION LOAD"),
]

#: Holds for every exchange that any rule could have something to say of, by the capture's own columns, but for the
#: rules of ``db_unseen`` and ``watch_apart`` and those of single commands (``candidates``). Cheap: it keeps most rows
#: away from the rules.
CANDIDATE: Predicate = any_of(
    Below("slot", SLOT_NONE),  # SLOT_CROSS or SLOT_UNKNOWN
    Above("unknown", 0),
    Has("flags", _FLAGS),
    OneOf("command", _NAMES),
)


def candidates(names: Iterable[str]) -> Predicate:
    """CANDIDATE, and the commands that one of these targets does not run whatever their keys."""
    chosen = [find(name) for name in names]
    refused = {command for target in chosen for command in (*target.refusals, *target.transactions.refuses)}
    return CANDIDATE | OneOf("command", [command.encode() for command in refused]) if refused else CANDIDATE
