"""Which way a command goes when clients share backend connections (``--pool shared``), and what shunt answers itself.

Knows: what each command does to its connection, as a table; ``docs/pooling.md`` is kept in step with it. Refuses to
know: connections, and when there is one to be had (``net.pool``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from protocol.keyspecs import CommandTable
from protocol.traits import TRAITS, Trait

#: What a backend connection must be like to serve a client: (RESP3, database, credentials of the client's own).
Key = tuple[bool, int, tuple[bytes, ...] | None]


class Way(IntEnum):
    """Where a command goes. The numbers are written into compiled code (``pooled.pxd``)."""

    SHARED = 0  # any neutral connection answers it alike
    BLOCKS = 1  # to a private connection when its arguments make it wait (XREAD BLOCK), else shared
    PRIVATE = 2  # to a private connection, until the client's state is neutral again
    PINNED = 3  # to a private connection that is not given back: what it did to it can't be told or undone
    LOCAL = 4  # answered by shunt, which keeps what it says for each client
    REFUSED = 5  # answered with an error, unless the client's last write went over a private connection


_BLOCKING = TRAITS[Trait.BLOCKING] - {"WAIT", "WAITAOF"}

#: Every command that does not simply go over a shared connection. One that is not in the command table is PINNED.
WAYS: dict[str, Way] = {
    **dict.fromkeys(sorted(TRAITS[Trait.MAYBE_BLOCKING]), Way.BLOCKS),
    **dict.fromkeys(sorted(_BLOCKING), Way.PRIVATE),
    **dict.fromkeys(
        (
            "AUTH", "HELLO", "SELECT", "MULTI", "WATCH", "SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "UNSUBSCRIBE",
            "PUNSUBSCRIBE", "SUNSUBSCRIBE", "MONITOR", "SHUTDOWN", "CLIENT REPLY", "CLIENT TRACKING", "CLIENT CACHING",
            # These must reach Redis while a trunk is held up, by what they are there to end.
            "SCRIPT KILL", "FUNCTION KILL", "CLIENT KILL", "CLIENT UNBLOCK", "CLIENT UNPAUSE",
        ),
        Way.PRIVATE,
    ),
    **dict.fromkeys(
        (
            "SYNC", "PSYNC", "REPLCONF", "DEBUG", "SCRIPT DEBUG", "READONLY", "READWRITE", "ASKING", "PFDEBUG",
            "CLIENT CAPA", "CLIENT IMPORT-SOURCE",
        ),
        Way.PINNED,
    ),
    **dict.fromkeys(
        (
            "CLIENT SETNAME", "CLIENT GETNAME", "CLIENT SETINFO", "CLIENT NO-EVICT", "CLIENT NO-TOUCH", "CLIENT ID",
            "CLIENT INFO", "QUIT", "RESET",
        ),
        Way.LOCAL,
    ),
    "WAIT": Way.REFUSED,
    "WAITAOF": Way.REFUSED,
}  # fmt: skip

#: CLIENT ID begins here, so that no id of shunt's is ever one of Redis' own: CLIENT UNBLOCK with it hits nobody.
FIRST_ID = 1 << 48
#: Connections of one worker that have an id of their own; the next worker's ids begin behind them.
IDS_PER_WORKER = 1 << 40

#: One command's transaction in one piece may hold these besides shared ones: inside MULTI they do not wait.
NO_WAIT_IN_MULTI = frozenset(_BLOCKING | TRAITS[Trait.MAYBE_BLOCKING])

OK = b"+OK\r\n"
RESET_OK = b"+RESET\r\n"
BAD_NAME = b"-ERR Client names cannot contain spaces, newlines or special characters.\r\n"
SYNTAX = b"-ERR syntax error\r\n"
NOT_WHILE_SUBSCRIBED = (
    b"-ERR Can't execute '%b': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context"
    b"\r\n"
)
WAIT_REFUSED = (
    b"-ERR %b answers for its own connection's writes, and this client's last write went over a connection that "
    b"shunt shares between clients (--pool shared); use --pool session for this client\r\n"
)
NO_CONNECTION = (
    b"-ERR max number of backend connections reached: none of shunt's --max-backend-connections became free within "
    b"--pool-wait\r\n"
)


@dataclass(frozen=True, slots=True)
class Tables:
    """One byte for each command by its id, for compiled code. ``ways``: its Way; ``in_piece``: 1 if a transaction that
    holds it may go over a shared connection in one piece."""

    ways: bytes
    in_piece: bytes


def tables(table: CommandTable) -> Tables:
    return Tables(
        bytes(WAYS.get(name, Way.SHARED) for name in table.names),
        bytes(name in NO_WAIT_IN_MULTI or name not in WAYS for name in table.names),
    )


@dataclass(slots=True)
class Person:
    """What shunt keeps of a client that Redis would keep of a connection."""

    id: int
    addr: str
    name: bytes = b""
    lib_name: bytes = b""
    lib_ver: bytes = b""
    no_evict: bool = False
    no_touch: bool = False


def answer(args: Sequence[bytes], person: Person, *, resp3: bool, db: int, user: str) -> bytes:
    """The reply to CLIENT SETNAME, GETNAME, SETINFO, NO-EVICT, NO-TOUCH, ID or INFO, as Redis words it."""
    word = args[1].upper().decode("latin-1") if len(args) > 1 else ""
    if len(args) != _ARGUMENTS[word]:
        return b"-ERR wrong number of arguments for 'client|%b' command\r\n" % word.lower().encode("latin-1")
    if word == "ID":
        return b":%d\r\n" % person.id
    if word == "GETNAME":
        return _bulk(person.name) if person.name else (b"_\r\n" if resp3 else b"$-1\r\n")
    if word == "INFO":
        text = _info(person, resp3, db, user)
        return b"=%d\r\ntxt:%b\r\n" % (len(text) + 4, text) if resp3 else _bulk(text)
    if word == "SETNAME":
        return _set_name(args[2], person)
    if word == "SETINFO":
        return _set_info(args[2], args[3], person)
    return _switch(word, args[2].upper(), person)


_ARGUMENTS = {"ID": 2, "GETNAME": 2, "INFO": 2, "SETNAME": 3, "SETINFO": 4, "NO-EVICT": 3, "NO-TOUCH": 3}


def _set_name(name: bytes, person: Person) -> bytes:
    if not _is_plain(name):
        return BAD_NAME
    person.name = name
    return OK


def _set_info(what: bytes, value: bytes, person: Person) -> bytes:
    field = {b"LIB-NAME": "lib_name", b"LIB-VER": "lib_ver"}.get(what.upper())
    if field is None:
        return b"-ERR Unrecognized option '%b'\r\n" % what.replace(b"\r", b" ").replace(b"\n", b" ")
    if not _is_plain(value):
        return b"-ERR %b cannot contain spaces, newlines or special characters.\r\n" % what.lower()
    setattr(person, field, value)
    return OK


def _switch(word: str, value: bytes, person: Person) -> bytes:
    if value not in (b"ON", b"OFF"):
        return SYNTAX
    setattr(person, word.lower().replace("-", "_"), value == b"ON")
    return OK


def _info(person: Person, resp3: bool, db: int, user: str) -> bytes:
    """One line in the form of CLIENT LIST; what shunt does not know is left out."""
    flags = ("e" if person.no_evict else "") + ("T" if person.no_touch else "")
    return (
        b"id=%d addr=%b name=%b flags=%b db=%d cmd=client|info user=%b lib-name=%b lib-ver=%b resp=%d\n"
        % (
            person.id, person.addr.encode(), person.name, (flags or "N").encode(), db, user.encode("utf-8", "replace"),
            person.lib_name, person.lib_ver, 3 if resp3 else 2,
        )
    )  # fmt: skip


def _is_plain(text: bytes) -> bool:
    """Whether Redis takes it as a client's name: printable ASCII without spaces."""
    return all(0x21 <= byte <= 0x7E for byte in text)


def _bulk(text: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(text), text)
