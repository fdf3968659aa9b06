"""What a pop took for a client that has gone, and the commands that put it back.

Knows: which pops lose an element when nobody reads their reply, where the reply names it, and from which end it came.
Refuses to know: whose pop it was, and what carries the commands (``net.lines``).

Elements go back to the end that they came from, the last one taken first, so that the list is as it was. What is no
list stays lost: a sorted set's member may have a newer score by then, and a set has no order to restore.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import hiredis

#: Longest reply that is kept for giving back, bytes; ``engine.session`` has the same number.
REPLY_MOST = 16 << 20
#: Elements in one command: Redis refuses more than a million arguments, and the engine looks at 65,536.
AT_ONCE = 65_534


class Way(IntEnum):
    """What becomes of what a command takes, when its reply reaches nobody."""

    KEEPS = 0  # nothing is lost: it takes nothing, or Redis keeps it elsewhere (LMOVE, XREADGROUP)
    NAMED = 1  # the reply names the list; the command's name says which end: BRPOP
    OWN_KEY = 2  # the reply has elements only: RPOP
    OWN_END = 3  # the reply names the list, an argument the end: LMPOP
    LOSES = 4  # lost, and it can't be put back as it was: sets and sorted sets


_LEFT, _RIGHT = b"LPUSH", b"RPUSH"
_POPS: dict[str, tuple[Way, bytes]] = {
    "BLPOP": (Way.NAMED, _LEFT),
    "BRPOP": (Way.NAMED, _RIGHT),
    "LPOP": (Way.OWN_KEY, _LEFT),
    "RPOP": (Way.OWN_KEY, _RIGHT),
    "LMPOP": (Way.OWN_END, b""),
    "BLMPOP": (Way.OWN_END, b""),
    "EXEC": (Way.KEEPS, b""),  # its reply may hold those of pops
} | dict.fromkeys(["SPOP", "ZPOPMIN", "ZPOPMAX", "ZMPOP", "BZPOPMIN", "BZPOPMAX", "BZMPOP"], (Way.LOSES, b""))


def way(command: str) -> Way:
    """What becomes of what this command (upper case) takes, when its reply reaches nobody."""
    return _POPS.get(command, (Way.KEEPS, b""))[0]


@dataclass(frozen=True, slots=True)
class Pop:
    """A pop whose reply reached nobody. ``command``: upper case; ``key``: its own, None: not known; ``left``: the end
    that an argument named, None: none did; ``reply``: the whole frame, None: it was longer than REPLY_MOST;
    ``begun``: some bytes of it had been sent to the client."""

    command: str
    db: int
    key: bytes | None
    left: bool | None
    reply: bytes | None
    begun: bool = False


@dataclass(frozen=True, slots=True)
class GiveBack:
    """``commands``, in this order, put ``elements`` back into the list ``key`` of database ``db``."""

    pop: str
    db: int
    key: bytes
    elements: int
    commands: tuple[tuple[bytes, ...], ...]


@dataclass(frozen=True, slots=True)
class Kept:
    """It is not put back: ``why`` is one of WHY."""

    pop: str
    why: str


#: Why something is not put back; labels of ``shunt_pops_not_given_back_total``.
WHY = {
    "begun": "some of the reply had been sent to the client",
    "too-long": "the reply is longer than 16 MB",
    "no-list": "it was taken out of a set or sorted set",
    "transaction": "it was popped inside a transaction",
    "key-unknown": "the key or the end was not kept",
    "unreadable": "the reply is not what this command is answered with",
    "failed": "the backend did not take it",
}


def answer(pop: Pop) -> GiveBack | Kept | None:
    """How to put back what ``pop`` took, or why not; None: it took nothing."""
    which, push = _POPS[pop.command]
    if which is Way.KEEPS:
        return Kept(pop.command, "transaction")
    if pop.begun:
        return Kept(pop.command, "begun")
    if pop.reply is None:
        return Kept(pop.command, "too-long")
    if which is Way.LOSES:
        return Kept(pop.command, "no-list")
    try:
        found = _taken(which, pop.key, _read(pop.reply))
    except _Unreadable:
        return Kept(pop.command, "unreadable")
    if found is None:
        return None
    key, elements = found
    if which is Way.OWN_END and pop.left is not None:
        push = _LEFT if pop.left else _RIGHT
    if key is None or not push:
        return Kept(pop.command, "key-unknown")
    last_first = elements[::-1]
    commands = tuple((push, key, *last_first[at : at + AT_ONCE]) for at in range(0, len(elements), AT_ONCE))
    return GiveBack(pop.command, pop.db, key, len(elements), commands)


class _Unreadable(Exception):
    """Not the reply of this command."""


def _read(reply: bytes) -> Any:
    """The reply's value; None: a null, or an error."""
    reader = hiredis.Reader()
    reader.feed(reply)
    try:
        value = reader.gets()
    except hiredis.ProtocolError:
        raise _Unreadable from None
    if value is False and not reply.startswith(b"#"):
        raise _Unreadable  # the frame is not whole
    return None if isinstance(value, hiredis.ReplyError) else value


def _taken(which: Way, own_key: bytes | None, value: Any) -> tuple[bytes | None, list[bytes]] | None:
    """(key, elements in the order in which they were taken); None: nothing was. Raises _Unreadable."""
    if value is None or value == []:
        return None
    if which is Way.OWN_KEY:
        return own_key, _elements(value if isinstance(value, list) else [value])
    if not isinstance(value, list) or len(value) != 2 or not isinstance(value[0], bytes):
        raise _Unreadable
    elements = _elements([value[1]] if which is Way.NAMED else value[1])
    return (value[0], elements) if elements else None


def _elements(values: Any) -> list[bytes]:
    if not isinstance(values, list) or not all(isinstance(each, bytes) for each in values):
        raise _Unreadable
    return values
