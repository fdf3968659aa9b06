"""Rules about commands that concern one node: no error, or an administrator's business."""

from __future__ import annotations

from proxy.capture.predicate import Above, OneOf
from proxy.report.rules.rule import NOT_REFUSED, Row, Rule, Severity

_NODE_LOCAL = [b"KEYS", b"SCAN", b"DBSIZE", b"FLUSHDB", b"FLUSHALL", b"RANDOMKEY"]
_REPLICATION = [b"REPLICAOF", b"SLAVEOF", b"FAILOVER"]


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
    predicate = NOT_REFUSED & OneOf("command", _NODE_LOCAL)


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


class Replication(Rule):
    """
    REPLICAOF, SLAVEOF and FAILOVER: a cluster keeps its replicas by commands of its own.

    **Error:** `ERR REPLICAOF not allowed in cluster mode.`, `ERR FAILOVER not allowed in cluster mode.`

    **Instead:** CLUSTER REPLICATE and CLUSTER FAILOVER. An application has no business with any of them.
    """

    id = "replication"
    severity = Severity.RESTRICTED
    title = "replication is the cluster's own business"
    predicate = NOT_REFUSED & OneOf("command", _REPLICATION)

    def error(self, row: Row) -> str:
        name = "FAILOVER" if row["command"] == b"FAILOVER" else "REPLICAOF"
        return f"ERR {name} not allowed in cluster mode."
