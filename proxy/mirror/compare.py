"""Whether two servers' replies to the same read are the same.

Knows: which reads can never be equal, which have no order, which may be off by a little; and the shape of a reply.
Refuses to know: where the replies come from, and what a difference means.

The mirror is asked in RESP2. A client that speaks RESP3 gets maps, sets and doubles: its replies are compared leaf by
leaf, in one row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from proxy.mirror.effects import Args, Failed, Unreadable


def _names(why: str, names: str) -> dict[str, str]:
    return {name.replace("_", " "): why for name in names.split()}


#: Reads that are not compared, with why. What is no read (TIME, INFO, CLIENT, LASTSAVE, DEBUG …) is not either.
NEVER_EQUAL: dict[str, str] = {
    **_names("a cursor is the server's own", "SCAN SSCAN HSCAN ZSCAN"),
    **_names("by chance", "RANDOMKEY SRANDMEMBER HRANDFIELD ZRANDMEMBER VRANDMEMBER LOLWUT"),
    **_names(
        "how the server keeps it",
        "OBJECT_ENCODING OBJECT_FREQ OBJECT_IDLETIME OBJECT_REFCOUNT MEMORY_USAGE DUMP VINFO VLINKS",
    ),
    **_names("it tells how long ago something was", "XINFO_CONSUMERS XINFO_GROUPS XINFO_STREAM XPENDING"),
    **_names("its count is an estimate that may be renewed", "PFCOUNT"),
}
#: Reads whose elements have no order; a set of pairs for HGETALL.
UNORDERED = frozenset({"SMEMBERS", "SUNION", "SINTER", "SDIFF", "HKEYS", "HVALS", "KEYS"})
PAIRS = frozenset({"HGETALL"})
#: Numbers that may differ by so much: they count down while they are asked for, or were set by another clock.
TOLERANCE = {"TTL": 1, "PTTL": 1000, "EXPIRETIME": 1, "PEXPIRETIME": 1000, "HTTL": 1, "HPTTL": 1000}


#: Elements of a reply that is looked at.
ELEMENTS_MOST = 5_000


@dataclass(frozen=True, slots=True)
class Seen:
    """One reply. ``checksum`` is of its value in canonical form; ``size``: bytes of its leaves. ``error``: the first
    word of an error, else ""."""

    kind: str
    checksum: str
    size: int
    error: str = ""


def too_long(reply: Any) -> bool:
    """Whether a look at all of it would take the event loop's time."""
    return isinstance(reply, (list, dict, set)) and len(reply) > ELEMENTS_MOST


def comparable(name: str, args: Args) -> bool:
    """Whether this call of a read can be compared: one that would wait can't."""
    return name not in NEVER_EQUAL and not (name == "XREAD" and any(arg.upper() == b"BLOCK" for arg in args))


def seen(name: str, reply: Any) -> Seen:
    """What there is to say of a reply."""
    if isinstance(reply, Failed):
        word = (str(reply).split() or ["ERR"])[0][:32]
        return Seen("error", word, 0, word)
    canonical = _canonical(name, reply)
    leaves = b"\0".join(_leaves(canonical))
    return Seen(_kind(reply), hashlib.blake2b(leaves, digest_size=8).hexdigest(), len(leaves))


def same(name: str, one: Any, other: Any) -> bool:
    """Whether two replies to the same read are equal. Errors are by their first word."""
    if isinstance(one, Unreadable) or isinstance(other, Unreadable):
        return False
    if isinstance(one, Failed) or isinstance(other, Failed):
        return seen(name, one).error == seen(name, other).error
    if (most := TOLERANCE.get(name)) and isinstance(one, int) and isinstance(other, int) and min(one, other) >= 0:
        return abs(one - other) <= most
    if _speaks_resp3(one) != _speaks_resp3(other):
        ours, theirs = list(_leaves(_canonical(name, one))), list(_leaves(_canonical(name, other)))
        return len(ours) == len(theirs) and all(map(_alike, ours, theirs))
    return bool(_canonical(name, one) == _canonical(name, other))


def _kind(reply: Any) -> str:
    if reply is None:
        return "null"
    if isinstance(reply, int):
        return "integer"
    if isinstance(reply, (bytes, str)):
        return "string"
    return "double" if isinstance(reply, float) else "array"


def _canonical(name: str, reply: Any) -> Any:
    if isinstance(reply, dict):
        reply = [part for pair in reply.items() for part in pair]
    if not isinstance(reply, (list, set)):
        return reply
    items = list(reply)
    if name in UNORDERED:
        return sorted(items, key=repr)
    if name in PAIRS and len(items) % 2 == 0:
        pairs = sorted(zip(items[::2], items[1::2], strict=True), key=repr)
        return [part for pair in pairs for part in pair]
    return [_canonical("", item) for item in items]


def _leaves(value: Any) -> Iterator[bytes]:
    if isinstance(value, list):
        for each in value:
            yield from _leaves(each)
    elif value is None:
        yield b"(nil)"
    elif isinstance(value, bool):
        yield b"%d" % value
    elif isinstance(value, bytes):
        yield value
    else:
        yield str(value).encode()


def _speaks_resp3(value: Any) -> bool:
    if isinstance(value, (dict, set, float, bool)):
        return True
    return isinstance(value, list) and any(map(_speaks_resp3, value))


def _alike(one: bytes, other: bytes) -> bool:
    """Equal, or the same number in two spellings: a double's in RESP2 depends on the server's version."""
    if one == other:
        return True
    try:
        return float(one) == float(other)
    except ValueError:
        return False
