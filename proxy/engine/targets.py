"""The targets that can be rehearsed (``--rehearse``): what each refuses.

Knows: names and error texts, each checked against the real server in ``tests/system/test_rehearsal.py``. Refuses to
know: how a refusal is made (``rehearsal``). A target is added here, and nowhere else.
"""

from __future__ import annotations

from proxy.engine.rehearsal import Refusals, TransactionCheck

_REPLICAOF = "ERR REPLICAOF not allowed in cluster mode."

#: Redis Cluster 7.0, as a node answers that serves every slot: no MOVED, no ASK.
REDIS_CLUSTER = Refusals(
    cross_slot="CROSSSLOT Keys in request don't hash to the same slot",
    transaction=TransactionCheck.AT_EXEC,
    databases=1,
    select="ERR SELECT is not allowed in cluster mode",
    copy="ERR Copying to another database is not allowed in cluster mode",
    sort_by="ERR BY option of SORT denied in Cluster mode.",
    sort_get="ERR GET option of SORT denied in Cluster mode.",
    when_run={
        "SWAPDB": "ERR SWAPDB is not allowed in cluster mode",
        "MOVE": "ERR MOVE is not allowed in cluster mode",
        "REPLICAOF": _REPLICAOF,
        "SLAVEOF": _REPLICAOF,
        "FAILOVER": "ERR FAILOVER not allowed in cluster mode. Use CLUSTER FAILOVER command instead.",
    },
)

TARGETS: dict[str, Refusals] = {"redis-cluster": REDIS_CLUSTER}
