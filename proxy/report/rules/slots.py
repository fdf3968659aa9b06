"""Rules about keys in several hash slots. Knows: slots and transactions. Refuses to know: which node holds a slot."""

from __future__ import annotations

from proxy.capture.format import SLOT_CROSS, Flag
from proxy.capture.predicate import Above, Equal, Has, OneOf
from proxy.report.rules.rule import CROSSSLOT, EXEC, EXECABORT, REACHED, Row, Rule, Severity, When, in_transaction

_SHARDED = OneOf("command", [b"SSUBSCRIBE", b"SUNSUBSCRIBE"])
_CROSS = REACHED & Equal("slot", SLOT_CROSS)


class CrossSlot(Rule):
    """
    One command names keys in several hash slots: `BRPOP queue:a queue:b 2`, `MGET a b`, `RENAME a b`.

    **Error:** `CROSSSLOT Keys in request don't hash to the same slot`. Outside a transaction it is the command's
    reply. Inside MULTI it comes when the command is queued, and EXEC then fails too (`txn-refused`).

    **Instead:** give the keys one hash tag (`{app}:queue:a`, `{app}:queue:b`), or send one command per key. A BRPOP
    over several queues needs the tag: it cannot be split.
    """

    id = "cross-slot"
    severity = Severity.ERROR
    title = "a command's keys lie in several hash slots"
    predicate = _CROSS & ~Has("flags", Flag.SCRIPT) & ~_SHARDED & ~EXEC
    text = CROSSSLOT


class TxnCrossSlot(Rule):
    """
    The commands of one transaction are each in one slot, but not all in the same. Redis judges a transaction as a
    whole, when EXEC arrives.

    **Error:** every command is answered QUEUED and EXEC answers `CROSSSLOT Keys in request don't hash to the same
    slot`: nothing runs. Where the slots are on different nodes, the commands that the connected node does not serve
    get `MOVED <slot> <address>` when queued, and EXEC answers `EXECABORT Transaction discarded because of previous
    errors.` A transaction that works against a cluster of one node breaks with the second.

    **Instead:** give all keys of the transaction one hash tag, or drop MULTI where it is only used to save round
    trips.
    """

    id = "txn-cross-slot"
    severity = Severity.ERROR
    title = "a transaction's keys lie in several hash slots"
    predicate = REACHED & EXEC & Has("flags", Flag.TXN_CROSS) & ~Has("flags", Flag.TXN_REFUSED)
    text = f"{CROSSSLOT} (with the slots on several nodes: MOVED when queued, then EXECABORT)"


class TxnRefused(Rule):
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


class ShardedPubSub(Rule):
    """
    SSUBSCRIBE or SUNSUBSCRIBE names shard channels of several slots. A channel is served by its slot's node.

    **Error:** `CROSSSLOT Keys in request don't hash to the same slot`.

    **Instead:** one SSUBSCRIBE per channel, or one hash tag for the channels that belong together.
    """

    id = "sharded-pubsub"
    severity = Severity.ERROR
    title = "shard channels of one subscription lie in several hash slots"
    predicate = _CROSS & _SHARDED
    text = CROSSSLOT


class SortPattern(Rule):
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
    predicate = REACHED & Has("flags", Flag.SORT_PATTERN)

    def error(self, row: Row) -> str:
        words = [word.upper() for word in row["args"][2:]]
        option = "BY" if b"BY" in words or b"GET" not in words else "GET"
        text = f"ERR {option} option of SORT denied in Cluster mode."
        return text if words else f"{text} (or GET option)"

    def when(self, row: Row) -> When:
        return When.EXEC if in_transaction(row) else When.COMMAND


class WatchApart(Rule):
    """
    WATCH names a key in another slot than the transaction that follows it.

    **Error:** none while both slots are on one node: Redis does not compare them. Once they are on different nodes
    the commands get `MOVED <slot> <address>` when queued, and a client that follows the redirection leaves the WATCH
    behind on the first node.

    **Instead:** give the watched key the hash tag of the transaction's keys. Some managed offerings demand it always.
    """

    id = "watch-apart"
    severity = Severity.LATENT
    title = "WATCH on another slot than the transaction's"
    predicate = REACHED & EXEC & Above("watch_apart", 0) & ~Has("flags", Flag.TXN_CROSS | Flag.TXN_REFUSED)
    text = "MOVED when queued, then EXECABORT, once the slots are on different nodes"
