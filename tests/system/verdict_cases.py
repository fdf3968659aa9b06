"""Commands whose verdict is checked against a real cluster: every multi-key command, and what else a cluster refuses.

Knows: command lines with places for keys (``1``, ``2``, ``3`` in angle brackets) and where the keys of a case lie.
Refuses to know: what a cluster answers; the cluster says that.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

#: Where the keys of a case lie. The three keys of each place, with the slots of a three-node cluster in mind:
#: one slot; three slots of one node; three slots of three nodes.
PLACES: dict[str, tuple[str, str, str]] = {
    "one slot": ("{t}1", "{t}2", "{t}3"),
    "one node": ("k:1", "k:1", "k:1"),  # replaced by ``place_keys``
    "three nodes": ("k:1", "k:1", "k:1"),
}

FUNCTIONS = (
    "#!lua name=cases\n"
    "redis.register_function('f', function(keys, args) return #keys end)\n"
    "redis.register_function{function_name='g', callback=function(keys, args) return #keys end, flags={'no-writes'}}"
)
SCRIPT = "return #KEYS"
#: Words of a line that stand for a script with spaces in it.
BODIES = {
    "SHEBANG": "#!lua\nreturn #KEYS",
    "NO_CLUSTER": "#!lua flags=no-cluster\nreturn #KEYS",
    "READS": "return redis.call('exists', KEYS[1])",
}
SHA = "ddea31cd1a3fbf3abe63ff1de2a0f2e8c8d7e5b6"  # replaced by what SCRIPT LOAD answers

#: One command each. Blocking commands with a timeout so short that they never wait long.
SINGLE = """
MGET <1> <2>
MSET <1> a <2> b
MSETNX <1> a <2> b
DEL <1> <2>
UNLINK <1> <2>
EXISTS <1> <2>
TOUCH <1> <2>
RENAME <1> <2>
RENAMENX <1> <2>
COPY <1> <2>
COPY <1> <2> REPLACE
OBJECT ENCODING <1>
MEMORY USAGE <1>
BITOP AND <1> <2> <3>
LCS <1> <2>
PFCOUNT <1> <2>
PFMERGE <1> <2> <3>
RPOPLPUSH <1> <2>
LMOVE <1> <2> LEFT RIGHT
LMPOP 2 <1> <2> LEFT
BLPOP <1> <2> 0.01
BRPOP <1> <2> <3> 0.01
BRPOPLPUSH <1> <2> 0.01
BLMOVE <1> <2> LEFT RIGHT 0.01
BLMPOP 0.01 2 <1> <2> LEFT
BZPOPMIN <1> <2> 0.01
BZPOPMAX <1> <2> 0.01
BZMPOP 0.01 2 <1> <2> MIN
SMOVE <1> <2> m
SDIFF <1> <2>
SDIFFSTORE <1> <2> <3>
SINTER <1> <2>
SINTERCARD 2 <1> <2> LIMIT 1
SINTERSTORE <1> <2> <3>
SUNION <1> <2>
SUNIONSTORE <1> <2> <3>
ZDIFF 2 <1> <2>
ZDIFFSTORE <1> 2 <2> <3>
ZINTER 2 <1> <2> WITHSCORES
ZINTERCARD 2 <1> <2>
ZINTERSTORE <1> 2 <2> <3> WEIGHTS 1 2
ZUNION 2 <1> <2>
ZUNIONSTORE <1> 1 <2>
ZUNIONSTORE <1> 2 <2> <3> AGGREGATE MAX
ZMPOP 2 <1> <2> MIN
ZRANGESTORE <1> <2> 0 -1
GEORADIUS <1> 0 0 1 km
GEORADIUS <1> 0 0 1 km STORE <2>
GEORADIUSBYMEMBER <1> m 1 km STOREDIST <2>
GEOSEARCHSTORE <1> <2> FROMLONLAT 0 0 BYRADIUS 1 km
SORT <1>
SORT <1> STORE <2>
SORT <1> BY nosort
SORT <1> BY w_*
SORT <1> GET o_*
SORT <1> LIMIT 0 10 GET # DESC
SORT <1> GET o_*->f
SORT <1> BY w_* STORE <2>
SORT <1> BY w_* GET # GET o_*
SORT_RO <1>
SORT_RO <1> LIMIT 0 1 ALPHA
SORT_RO <1> BY w_*
SORT_RO <1> GET o_*
XREAD STREAMS <1> <2> 0 0
XREAD COUNT 1 BLOCK 1 STREAMS <1> <2> $ $
XREADGROUP GROUP g c STREAMS <1> <2> > >
XGROUP CREATE <1> g $ MKSTREAM
MIGRATE 127.0.0.1 1 <1> 0 10
MIGRATE 127.0.0.1 1 '' 0 10 KEYS <1> <2>
MIGRATE 127.0.0.1 1 '' 0 10 COPY REPLACE KEYS <1> <2>
EVAL return(1) 0
EVAL return(#KEYS) 1 <1>
EVAL return(#KEYS) 2 <1> <2>
EVAL return(#KEYS) 1 <1> <2>
EVAL_RO return(#KEYS) 2 <1> <2>
EVALSHA SHA 2 <1> <2>
EVALSHA_RO SHA 2 <1> <2>
EVAL SHEBANG 2 <1> <2>
EVAL SHEBANG 1 <1>
EVAL NO_CLUSTER 1 <1>
EVAL NO_CLUSTER 0
EVAL READS 1 <1>
FCALL f 2 <1> <2>
FCALL f 1 <1> <2>
FCALL_RO g 2 <1> <2>
WATCH <1> <2>
WATCH <1>
SET <1> v
GET <1>
SET <1> <2>
HSET <1> <2> <3>
LPUSH <1> <2> <3>
ZADD <1> 1 <2>
XADD <1> * f <2>
SPUBLISH <1> <2>
PUBLISH <1> <2>
SELECT 0
SELECT 1
SELECT x
SWAPDB 0 1
MOVE <1> 1
COPY <1> <2> DB 1
COPY <1> <2> DB 0
COPY <1> <1> DB 1
KEYS *
SCAN 0
DBSIZE
RANDOMKEY
FLUSHDB
FLUSHALL ASYNC
FUNCTION LIST
SCRIPT EXISTS SHA
PUBSUB CHANNELS
SPUBLISH <1> m
UNSUBSCRIBE
PING
INFO server
SCRIPT LOAD return(1)
WAIT 0 0
"""

#: Several commands on one connection.
SEQUENCES = {
    "a transaction on one key": "MULTI|SET <1> a|GET <1>|EXEC",
    "a transaction on two keys": "MULTI|SET <1> a|SET <2> b|EXEC",
    "a transaction on three keys and none": "MULTI|PING|SET <1> a|GET <2>|GET <3>|PING|EXEC",
    "a transaction without keys": "MULTI|PING|EXEC",
    "an empty transaction": "MULTI|EXEC",
    "a transaction with a command that crosses by itself": "MULTI|SET <1> a|MGET <1> <2>|GET <1>|EXEC",
    "a transaction with an unknown command": "MULTI|SET <1> a|FOO <2>|EXEC",
    "a transaction that is discarded": "MULTI|SET <1> a|SET <2> b|DISCARD|GET <1>",
    "a transaction that is discarded after a command that crosses": "MULTI|MGET <1> <2>|DISCARD|GET <1>",
    "a transaction with a script": "MULTI|SET <1> a|EVAL return(#KEYS) 1 <2>|EXEC",
    "a transaction with a sharded message": "MULTI|SET <1> a|SPUBLISH <2> m|EXEC",
    "a transaction with a script that crosses": "MULTI|SET <1> a|EVAL return(#KEYS) 2 <1> <2>|EXEC",
    "a transaction with a script that forbids a cluster": "MULTI|EVAL NO_CLUSTER 1 <1>|EXEC",
    "a transaction with a function": "MULTI|SET <1> a|FCALL f 1 <2>|EXEC",
    "a transaction with a function that crosses": "MULTI|FCALL f 2 <1> <2>|EXEC",
    "a transaction with a pop from several lists": "MULTI|BRPOP <1> <2> 1|EXEC",
    "a transaction with a pop from one list": "MULTI|SET <1> a|BRPOP <2> 1|EXEC",
    "a transaction with XREAD": "MULTI|XREAD STREAMS <1> <2> 0 0|EXEC",
    "a transaction with SORT STORE": "MULTI|SORT <1> STORE <2>|EXEC",
    "a transaction with SORT GET": "MULTI|RPUSH <1> a|SORT <1> GET o_*|EXEC",
    "a transaction with SELECT 0": "MULTI|SELECT 0|SET <1> a|EXEC",
    "a transaction with a message": "MULTI|SET <1> a|PUBLISH <2> m|EXEC",
    "a transaction with FLUSHDB": "MULTI|SET <1> a|FLUSHDB|EXEC",
    "a transaction with an unwatched key": "WATCH <1>|UNWATCH|MULTI|SET <1> a|EXEC",
    "a transaction with COPY into another database": "MULTI|SET <1> a|COPY <1> <1> DB 1|EXEC",
    "a transaction with SELECT": "MULTI|SELECT 1|SET <1> a|EXEC",
    "a transaction with SWAPDB": "MULTI|SET <1> a|SWAPDB 0 1|EXEC",
    "a transaction with MOVE": "MULTI|SET <1> a|MOVE <1> 1|EXEC",
    "a transaction with SORT BY": "MULTI|RPUSH <1> a|SORT <1> BY w_*|EXEC",
    "two transactions, the second of which crosses": "MULTI|SET <1> a|EXEC|MULTI|SET <1> a|SET <2> b|EXEC|GET <1>",
    "WATCH and a transaction on its key": "WATCH <1>|GET <1>|MULTI|SET <1> a|EXEC",
    "WATCH of two keys and a transaction": "WATCH <1> <2>|MULTI|SET <1> a|EXEC",
    "SELECT and back": "SELECT 2|SET <1> a|SELECT 0|GET <1>",
    "a pop after another": "LPUSH <1> a|RPOPLPUSH <1> <2>|GET <3>",
    "what a Sidekiq of 6.0 pushes": "MULTI|SADD <1> q|LPUSH <2> job|EXEC",
}
#: A cluster lets these run on one node and breaks them on several: judged as latent, so only one node can tell.
ONE_NODE_ONLY = {
    "WATCH of one key and a transaction on another": "WATCH <1>|MULTI|SET <2> a|EXEC",
}
#: Subscriptions answer with a push per channel.
SUBSCRIPTIONS = ["SSUBSCRIBE <1> <2>", "SSUBSCRIBE <1>", "SUBSCRIBE <1> <2>", "PSUBSCRIBE <1>* <2>*"]

#: Commands that may have several keys and have no case, with the reason.
WITHOUT_CASE = {
    "RESTORE-ASKING": "internal to MIGRATE",
    "PFDEBUG": "internal",
    "SUNSUBSCRIBE": "refused only where SSUBSCRIBE was, with nothing to unsubscribe from",
}


@dataclass(frozen=True)
class Case:
    name: str
    place: str
    commands: tuple[tuple[str, ...], ...]
    pushes: int = 0  # frames that each command answers with, where it is not one

    @property
    def id(self) -> str:
        return f"{self.name} ({self.place})"


def cases(places: dict[str, tuple[str, str, str]], sha: str) -> list[Case]:
    """Every case at every place of ``places``."""
    made: list[Case] = []
    for place, keys in places.items():

        def fill(line: str, keys: tuple[str, str, str] = keys) -> tuple[str, ...]:
            words = re.sub(r"<([123])>", lambda found: keys[int(found[1]) - 1], line).split()
            return tuple({"''": "", "SHA": sha, **BODIES}.get(word, word) for word in words)

        made += [Case(line, place, (fill(line),)) for line in SINGLE.strip().splitlines()]
        named = {**SEQUENCES, **(ONE_NODE_ONLY if place == "one node" else {})}
        for name, lines in named.items():
            made.append(Case(name, place, tuple(fill(line) for line in lines.split("|"))))
        made += [Case(line, place, (fill(line),), pushes=line.count("<")) for line in SUBSCRIPTIONS]
    return made
