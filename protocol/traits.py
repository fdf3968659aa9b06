"""What no server tells about a command, as tables: kinds, traits, replies, special key finders.

Knows: names of commands and what a proxy must know of each. Refuses to know: key positions and arities, which the
server tells (``commands.json``). The numbers are written into compiled code (``keyspecs.pxd``): never renumber.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag


class Kind(IntEnum):
    """Commands that a session treats in a way of its own; all others are PLAIN."""

    PLAIN = 0
    HELLO = 1
    AUTH = 2
    SELECT = 3
    RESET = 4
    QUIT = 5
    MULTI = 6
    EXEC = 7
    DISCARD = 8
    WATCH = 9
    UNWATCH = 10
    SUBSCRIBE = 11
    PSUBSCRIBE = 12
    SSUBSCRIBE = 13
    UNSUBSCRIBE = 14
    PUNSUBSCRIBE = 15
    SUNSUBSCRIBE = 16
    MONITOR = 17
    SYNC = 18  # SYNC and PSYNC
    CLIENT_REPLY = 19
    CLIENT_SETNAME = 20
    CLIENT_TRACKING = 21
    SHUTDOWN = 22
    EVAL = 23  # EVAL and EVAL_RO: the argument behind the name is a script
    EVALSHA = 24  # EVALSHA and EVALSHA_RO: the argument behind the name is a SHA-1
    FCALL = 25  # FCALL and FCALL_RO
    SCRIPT_LOAD = 26
    REPLCONF = 27
    SWAPDB = 28
    MOVE = 29
    COPY = 30
    SORT = 31  # SORT and SORT_RO
    XREAD = 32  # XREAD and XREADGROUP
    ACL_SETUSER = 33
    CONFIG_SET = 34
    MIGRATE = 35
    CLIENT_ID = 36
    CLIENT_CACHING = 37
    CLIENT_KILL = 38
    FUNCTION_LOAD = 39
    PING = 40  # answered in another form while subscribed in RESP2


class Trait(IntFlag):
    """Bits that any command may have."""

    WRITE = 1 << 0  # may change the data set; scripts count as writes, since nothing says that they don't
    READONLY = 1 << 1
    BLOCKING = 1 << 2  # may always wait in Redis
    MAYBE_BLOCKING = 1 << 3  # waits only with an option: BLOCK
    SCRIPT = 1 << 4
    POP = 1 << 5  # takes an element out of a list, set, sorted set or stream
    SERVED_FIRST = 1 << 6  # the reply is null or an array whose first element is the key served
    SECRET = 1 << 7  # its arguments are a secret
    MAYBE_SECRET = 1 << 8  # its arguments may hold a secret: keyspecs.has_secret looks
    NODE_LOCAL = 1 << 9  # without a key, acts on the data of the node that it is sent to
    PUBSUB = 1 << 10
    ADMIN = 1 << 11
    NOSCRIPT = 1 << 12
    NO_MULTI = 1 << 13
    SHARD_CHANNEL = 1 << 14  # what its key specs find are shard channels: they decide the slot and are no keys


class Replies(IntEnum):
    """How many replies a command has."""

    ONE = 0
    NONE = 1  # REPLCONF ACK and GETACK: see keyspecs.replies_due
    PER_CHANNEL = 2  # one per channel or pattern named; without any, one per subscription, at least one
    STREAM = 3  # one, then lines without end
    RAW = 4  # afterwards the connection is a replication stream
    AT_MOST_ONE = 5  # none if it succeeds: the server is gone


class Finder(IntEnum):
    """How keys are found where key specs don't tell (they are "incomplete", "unknown", or a keyword may be missing)."""

    SPECS = 0
    SORT = 1
    MIGRATE = 2
    GEORADIUS = 3
    XREAD = 4
    FIRST = 5  # the first argument alone: SORT_RO's BY and GET are patterns, no keys


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_SAME_NAME = (
    "HELLO AUTH SELECT RESET QUIT MULTI EXEC DISCARD WATCH UNWATCH SUBSCRIBE PSUBSCRIBE SSUBSCRIBE UNSUBSCRIBE "
    "PUNSUBSCRIBE SUNSUBSCRIBE MONITOR SYNC SHUTDOWN EVAL EVALSHA FCALL REPLCONF SWAPDB MOVE COPY SORT XREAD MIGRATE "
    "PING"
)

KINDS: dict[str, Kind] = {
    **{name: Kind[name] for name in _SAME_NAME.split()},
    "PSYNC": Kind.SYNC,
    "EVAL_RO": Kind.EVAL,
    "EVALSHA_RO": Kind.EVALSHA,
    "FCALL_RO": Kind.FCALL,
    "SORT_RO": Kind.SORT,
    "XREADGROUP": Kind.XREAD,
    "CLIENT REPLY": Kind.CLIENT_REPLY,
    "CLIENT SETNAME": Kind.CLIENT_SETNAME,
    "CLIENT TRACKING": Kind.CLIENT_TRACKING,
    "CLIENT ID": Kind.CLIENT_ID,
    "CLIENT CACHING": Kind.CLIENT_CACHING,
    "CLIENT KILL": Kind.CLIENT_KILL,
    "SCRIPT LOAD": Kind.SCRIPT_LOAD,
    "FUNCTION LOAD": Kind.FUNCTION_LOAD,
    "ACL SETUSER": Kind.ACL_SETUSER,
    "CONFIG SET": Kind.CONFIG_SET,
}

REPLIES: dict[str, Replies] = {
    "SUBSCRIBE": Replies.PER_CHANNEL,
    "PSUBSCRIBE": Replies.PER_CHANNEL,
    "SSUBSCRIBE": Replies.PER_CHANNEL,
    "UNSUBSCRIBE": Replies.PER_CHANNEL,
    "PUNSUBSCRIBE": Replies.PER_CHANNEL,
    "SUNSUBSCRIBE": Replies.PER_CHANNEL,
    "MONITOR": Replies.STREAM,
    "SYNC": Replies.RAW,
    "PSYNC": Replies.RAW,
    "SHUTDOWN": Replies.AT_MOST_ONE,
}

FINDERS: dict[str, Finder] = {
    "SORT": Finder.SORT,
    "SORT_RO": Finder.FIRST,
    "MIGRATE": Finder.MIGRATE,
    "GEORADIUS": Finder.GEORADIUS,
    "GEORADIUSBYMEMBER": Finder.GEORADIUS,
    "XREAD": Finder.XREAD,
    "XREADGROUP": Finder.XREAD,
}

#: The server's own flags that become traits as they are. Its "blocking" is not among them: it also marks XREAD.
SERVER_FLAG_TRAITS: dict[str, Trait] = {
    "write": Trait.WRITE,
    "readonly": Trait.READONLY,
    "pubsub": Trait.PUBSUB,
    "admin": Trait.ADMIN,
    "noscript": Trait.NOSCRIPT,
    "no_multi": Trait.NO_MULTI,
}

_EITHER_END = "BLPOP BRPOP BZPOPMIN BZPOPMAX LMPOP ZMPOP BLMPOP BZMPOP"

TRAITS: dict[Trait, frozenset[str]] = {
    Trait.WRITE: _words("EVAL EVALSHA FCALL"),
    Trait.BLOCKING: _words("BLPOP BRPOP BLMOVE BRPOPLPUSH BLMPOP BZPOPMIN BZPOPMAX BZMPOP WAIT WAITAOF"),
    Trait.MAYBE_BLOCKING: _words("XREAD XREADGROUP"),
    Trait.SCRIPT: _words("EVAL EVAL_RO EVALSHA EVALSHA_RO FCALL FCALL_RO"),
    Trait.POP: _words(f"LPOP RPOP SPOP ZPOPMIN ZPOPMAX LMOVE BLMOVE RPOPLPUSH BRPOPLPUSH XREADGROUP {_EITHER_END}"),
    Trait.SERVED_FIRST: _words(_EITHER_END),
    Trait.SECRET: frozenset({"AUTH", "ACL SETUSER"}),
    Trait.MAYBE_SECRET: frozenset({"HELLO", "CONFIG SET", "MIGRATE"}),
    Trait.NODE_LOCAL: _words("KEYS SCAN DBSIZE FLUSHDB FLUSHALL RANDOMKEY"),
}
