"""Rules about commands that see one node only, where others are meant too: no error, another answer."""

from __future__ import annotations

from proxy.capture.predicate import Above, OneOf
from proxy.report.rules.rule import NOT_REFUSED, Rule, Severity
from proxy.report.targets import Target


def _seeing_one_node(target: Target) -> list[bytes]:
    local = target.keyspace.commands if target.keyspace.scope == "node" else ()
    return [name.encode() for name in local if not target.lacks(name)]


class NodeLocal(Rule):
    """
    KEYS, SCAN, DBSIZE, FLUSHDB, FLUSHALL and RANDOMKEY see or empty the connected node only.

    **Error:** none. The answer covers a part of the data: a SCAN finds a third of the keys on three nodes, a
    FLUSHDB leaves two thirds behind.

    **Instead:** send it to every primary node and join the answers (cluster clients have helpers), or keep a set of
    the names that you need to list.
    """

    id = "node-local"
    severity = Severity.SILENT
    title = "answers for one node only"
    remedy = "send it to every primary node, or keep a set of the names"

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self.predicate = NOT_REFUSED & OneOf("command", _seeing_one_node(target))

    @classmethod
    def concerns(cls, target: Target) -> bool:
        return bool(_seeing_one_node(target))


class KeyspaceNotifications(Rule):
    """
    A subscription to keyspace or keyevent notifications (`__keyspace@0__:…`, `__keyevent@0__:…`). Nodes do not pass
    these on to each other. Channel names are only seen in captures with full arguments.

    **Error:** none. Events of the other nodes' keys never arrive.

    **Instead:** subscribe on every primary node, and again after each change of the layout.
    """

    id = "keyspace-notifications"
    severity = Severity.SILENT
    title = "keyspace notifications of one node only"
    predicate = NOT_REFUSED & Above("notifications", 0)
    remedy = "subscribe on every primary node"

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        if target.notifications.scope == "unknown":
            self.severity = Severity.UNKNOWN
            self.text = "unknown: whose keys' notifications arrive was not verified"

    @classmethod
    def concerns(cls, target: Target) -> bool:
        return target.notifications.scope != "all" and not target.lacks("SUBSCRIBE")
