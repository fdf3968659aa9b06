"""Rules about keys in several hash slots. Knows: slots and transactions. Refuses to know: which node holds a slot.

Where a target has a slot function of its own, the rows that rules see carry its slots (``studies.judging``).
"""

from __future__ import annotations

from proxy.capture.format import SLOT_CROSS, Flag
from proxy.capture.predicate import Above, Equal, Has, OneOf
from proxy.report.rules.rule import EXEC, EXECABORT, QUEUED, REACHED, Row, Severity, ShardedRule, When, in_transaction
from proxy.report.targets import Target

_SHARDED = OneOf("command", [b"SSUBSCRIBE", b"SUNSUBSCRIBE"])
_CROSS = REACHED & Equal("slot", SLOT_CROSS)


class CrossSlot(ShardedRule):
    """
    One command names keys in several hash slots: `BRPOP queue:a queue:b 2`, `MGET a b`, `RENAME a b`.

    **Error:** `CROSSSLOT Keys in request don't hash to the same slot`. Outside a transaction it is the command's
    reply. Inside MULTI it comes when the command is queued, and EXEC then fails too (`txn-refused`).

    Some targets serve a few commands over all shards (`MGET`, `DEL` and the like), not atomically and not inside MULTI:
    these are not counted. A proxy before plain servers answers without an error, from the first key's server.

    **Instead:** give the keys one hash tag (`{app}:queue:a`, `{app}:queue:b`), or send one command per key. A BRPOP
    over several queues needs the tag, or a worker per queue: it cannot be split.
    """

    id = "cross-slot"
    severity = Severity.ERROR
    title = "a command's keys lie in several hash slots"
    predicate = _CROSS & ~Has("flags", Flag.SCRIPT) & ~_SHARDED & ~EXEC
    remedy = "one hash tag for its keys, or one command per key"

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        facts = target.cross_slot
        self.text = facts.error
        if facts.allowed:
            allowed = OneOf("command", [name.encode() for name in facts.allowed])
            self.predicate = self.predicate & ~(allowed & ~QUEUED)
        if target.refusals:
            lacked = [name.encode() for name in target.refusals if target.lacks(name)]
            self.predicate = self.predicate & ~OneOf("command", lacked)
        if facts.others == "first-key":
            self.severity = Severity.SILENT  # and yet it blocks: data would be missed

    def error(self, row: Row) -> str:
        return (self.target.transactions.queue_error or self.text) if in_transaction(row) else self.text


class TxnCrossSlot(ShardedRule):
    """
    The commands of one transaction are each in one slot, but not all in the same. Redis judges a transaction as a
    whole, when EXEC arrives.

    **Error:** every command is answered QUEUED and EXEC answers `CROSSSLOT Keys in request don't hash to the same
    slot`: nothing runs. Where the slots are on different nodes, the commands that the connected node does not serve
    get `MOVED <slot> <address>` when queued, and EXEC answers `EXECABORT Transaction discarded because of previous
    errors.` A transaction that works against a cluster of one node breaks with the second. Redis Enterprise refuses
    the first command that leaves the slot, when it is queued.

    **Instead:** give all keys of the transaction one hash tag, or drop MULTI where it is only used to save round
    trips.
    """

    id = "txn-cross-slot"
    severity = Severity.ERROR
    title = "a transaction's keys lie in several hash slots"
    predicate = REACHED & EXEC & Has("flags", Flag.TXN_CROSS) & ~Has("flags", Flag.TXN_REFUSED)
    remedy = "one hash tag for its keys, or no MULTI where it only saves round trips"

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self.text = target.transactions.error

    @classmethod
    def concerns(cls, target: Target) -> bool:
        return target.sharded and not target.lacks("EXEC")

    def when(self, row: Row) -> When:
        return When.QUEUE if self.target.transactions.fails == "queue" else When.EXEC


class TxnRefused(ShardedRule):
    """
    A command inside MULTI crosses slots by itself (`cross-slot`), so the cluster refuses it when it is queued. That
    spoils the whole transaction.

    **Error:** EXEC answers `EXECABORT Transaction discarded because of previous errors.`: nothing runs. (It answers
    CROSSSLOT if the commands queued before it cross slots too.)

    **Instead:** as for `cross-slot`.
    """

    id = "txn-refused"
    severity = Severity.ERROR
    title = "a transaction holds a command that is refused when queued"
    predicate = REACHED & EXEC & Has("flags", Flag.TXN_REFUSED)
    text = EXECABORT
    follows = True
    remedy = "goes away with the command that is refused"

    @classmethod
    def concerns(cls, target: Target) -> bool:
        return target.sharded and not target.lacks("EXEC")


class ShardedPubSub(ShardedRule):
    """
    SSUBSCRIBE or SUNSUBSCRIBE names shard channels of several slots. A channel is served by its slot's node.

    **Error:** `CROSSSLOT Keys in request don't hash to the same slot`.

    **Instead:** one SSUBSCRIBE per channel, or one hash tag for the channels that belong together.
    """

    id = "sharded-pubsub"
    severity = Severity.ERROR
    title = "shard channels of one subscription lie in several hash slots"
    predicate = _CROSS & _SHARDED
    remedy = "one SSUBSCRIBE per channel, or one hash tag for them"

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self.text = target.cross_slot.error

    @classmethod
    def concerns(cls, target: Target) -> bool:
        return target.sharded and not target.lacks("SSUBSCRIBE")


class SortPattern(ShardedRule):
    """
    SORT or SORT_RO with a BY or GET pattern reads keys that are not among its arguments.

    **Error:** `ERR BY option of SORT denied in Cluster mode.` or `ERR GET option of SORT denied in Cluster mode.`
    Redis 7.4 and later allow patterns whose hash tag pins them to the sorted key's slot, and end the text with "when
    keys formed by the pattern may be in different slots." Inside MULTI the error stands in EXEC's reply.

    **Instead:** read the elements, then their weights or fields by commands of their own. `BY nosort` and `GET #`
    are fine.
    """

    id = "sort-pattern"
    severity = Severity.ERROR
    title = "SORT reads keys by a pattern"
    predicate = REACHED & Has("flags", Flag.SORT_PATTERN) & ~Equal("slot", SLOT_CROSS)  # that comes first
    remedy = "read the elements, then their weights or fields"

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        if target.sort.patterns == "unknown":
            self.severity, self.blocks = Severity.UNKNOWN, False

    @classmethod
    def concerns(cls, target: Target) -> bool:
        return target.sharded and target.sort.patterns != "fine"

    def error(self, row: Row) -> str:
        words = [word.upper() for word in row["args"][2:]]
        option = "BY" if b"BY" in words or b"GET" not in words else "GET"
        text = self.target.sort.error.replace("{option}", option)
        return text if words or "{option}" not in self.target.sort.error else f"{text} (or GET option)"

    def when(self, row: Row) -> When:
        return When.EXEC if in_transaction(row) else When.COMMAND


class WatchApart(ShardedRule):
    """
    WATCH names a key in another slot than the transaction that follows it.

    **Error:** none while both slots are on one node: Redis does not compare them. Once they are on different nodes
    the commands get `MOVED <slot> <address>` when queued, and a client that follows the redirection leaves the WATCH
    behind on the first node.

    **Instead:** give the watched key the hash tag of the transaction's keys. Redis Enterprise demands it always: there
    this is an error.
    """

    id = "watch-apart"
    severity = Severity.LATENT
    title = "WATCH on another slot than the transaction's"
    predicate = REACHED & EXEC & Above("watch_apart", 0) & ~Has("flags", Flag.TXN_CROSS | Flag.TXN_REFUSED)
    remedy = "one hash tag for the watched key and the transaction's"

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self.text = target.watch.error
        if target.watch.apart == "error":
            self.severity, self.blocks = Severity.ERROR, True

    @classmethod
    def concerns(cls, target: Target) -> bool:
        return target.sharded and target.watch.apart != "fine"
