"""The nouns of a capture: the row of one exchange, its flags, its reply kinds, its reasons for "unknown".

Knows: names, types and numbers that the engine writes and every reader reads. Refuses to know: files, frames,
threads (``capture.segments``), and how a row comes to be (``engine``). ``docs/capture-format.md`` describes the
same byte by byte; a test keeps the two in step.

An *exchange* is one command together with its reply's kind, sizes and times. A *gap* row stands where exchanges
were lost: its ``gap`` column is not empty, and ``gap_rows`` says how many are missing (0: unknown).
"""

from __future__ import annotations

from enum import IntEnum, IntFlag

import pyarrow as pa

FORMAT_VERSION = 2

#: Key names longer than this many bytes are cut in a capture; ``keys_cut`` keeps their length and hash.
KEY_CUT_BYTES = 512

# Values of the ``slot`` column that are no hash slot.
SLOT_NONE = -1  # the command has no key
SLOT_CROSS = -2  # its keys lie in several slots
SLOT_UNKNOWN = -3  # its keys could not be told; ``unknown`` says why


class ArgsMode(IntEnum):
    """What of a command's arguments a capture keeps (``--capture-args``)."""

    NONE = 0
    KEYS = 1
    FULL = 2


class ReplyKind(IntEnum):
    """The ``reply`` column. ``NONE``: no reply was due. ``LOST``: the connection ended before the reply."""

    NONE = 0
    LOST = 1
    SIMPLE = 2
    ERROR = 3
    INTEGER = 4
    BULK = 5
    NULL = 6
    ARRAY = 7
    MAP = 8
    SET = 9
    DOUBLE = 10
    BOOLEAN = 11
    BIGNUM = 12
    VERBATIM = 13
    PUSH = 14


class Flag(IntFlag):
    """The ``flags`` column, a bit set. Names in lower case are what ``capture cat`` prints."""

    BLOCKING = 1 << 0  # the command may wait in Redis (BRPOP, XREAD BLOCK, WAIT): kept out of service times
    QUEUED = 1 << 1  # answered +QUEUED inside MULTI
    SCRIPT = 1 << 2  # EVAL, EVALSHA, FCALL and their read-only forms
    INLINE = 1 << 3  # sent as an inline command, not as an array
    REPLIED_BY_PROXY = 1 << 4  # answered by shunt; the backend has not seen it
    WRITE = 1 << 5  # the command table says that it writes; unknown commands count as writes
    POP = 1 << 6  # takes an element out of a list, set, zset or stream
    SERVED = 1 << 7  # ``served_key`` is present (it may be the empty string)
    KEYS_CUT = 1 << 8  # some keys are missing from ``keys``; ``nkeys`` is still exact
    ARGS = 1 << 9  # ``args`` is present
    ARGS_CUT = 1 << 10  # some of ``args`` were left out or shortened, for size
    REDACTED = 1 << 11  # the command carries a secret; its arguments are never recorded
    TXN_CROSS = 1 << 12  # EXEC: the queued commands' keys lie in several slots
    TXN_REFUSED = 1 << 13  # EXEC: at least one queued command crosses slots by itself
    TXN_UNKNOWN = 1 << 14  # EXEC: the keys of at least one queued command are unknown
    ASYNC_REPLY = 1 << 15  # replied out of band or per channel (SUBSCRIBE and its relatives)
    TXN_REFUSED_DB = 1 << 16  # EXEC: a queued command has FOREIGN_DB
    FOREIGN_DB = 1 << 17  # names a database other than 0, or another database: SELECT n, MOVE, SWAPDB, COPY DB n
    SORT_PATTERN = 1 << 18  # SORT with a BY or GET pattern that reads other keys
    UNDELIVERED = (
        1 << 20
    )  # a pop's reply came after the client had closed its side or gone: what it took is lost, unless given back
    GIVEN_BACK = 1 << 21  # sent by shunt itself: puts back what an UNDELIVERED pop of the same connection took
    REHEARSED = 1 << 19  # refused by shunt as a target would (``--rehearse``); the backend has not seen it


class UnknownWhy(IntEnum):
    """The ``unknown`` column: why a command's keys could not be told. 0: they were."""

    NOTHING = 0
    NOT_IN_TABLE = 1  # the command or subcommand is not in the command table
    NO_KEY_SPEC = 2  # the server itself declares the key positions as unknown or incomplete
    BAD_ARGUMENTS = 3  # too few arguments, or a key count that is no number or does not fit
    TOO_MANY_ARGUMENTS = 4  # more arguments than the engine looks at
    ARGUMENT_CUT = 5  # an argument that decides was too long to be kept


UNKNOWN_TEXT = {
    UnknownWhy.NOTHING: "",
    UnknownWhy.NOT_IN_TABLE: "the command is not in the command table",
    UnknownWhy.NO_KEY_SPEC: "its key positions cannot be told from its arguments",
    UnknownWhy.BAD_ARGUMENTS: "its arguments do not fit its key specification",
    UnknownWhy.TOO_MANY_ARGUMENTS: "it has more arguments than are looked at",
    UnknownWhy.ARGUMENT_CUT: "an argument that decides was too long to be kept",
}

_CUT_KEY = pa.struct(
    [
        pa.field("index", pa.int32(), nullable=False),  # position in ``keys``
        pa.field("length", pa.int64(), nullable=False),  # the whole key's length in bytes
        pa.field("hash", pa.uint64(), nullable=False),  # FNV-1a 64 of the whole key
    ]
)


def _column(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


#: One row per exchange or gap. No nulls and no dictionaries: a row says "absent" by a value or a flag, so that a
#: torn file can be salvaged batch by batch. Lists' children are not nullable either.
SCHEMA = pa.schema(
    [
        _column("ts", pa.int64()),  # ns since the epoch, UTC: arrival of the command's last byte
        _column("conn", pa.int64()),  # number of the client connection within the run, from 1
        _column("seq", pa.int64()),  # the client's n-th command on that connection, from 0
        _column("client_addr", pa.binary()),  # "ip:port", "[ip6]:port" or "unix:n"
        _column("client_name", pa.binary()),  # CLIENT SETNAME as acknowledged by Redis; empty: none
        _column("db", pa.int32()),  # database that the command ran in
        _column("command", pa.binary()),  # upper case; "CLIENT SETNAME"; empty on a gap row
        _column("keys", pa.list_(pa.field("item", pa.binary(), nullable=False))),  # each cut at KEY_CUT_BYTES
        _column("keys_cut", pa.list_(pa.field("item", _CUT_KEY, nullable=False))),  # only for cut keys
        _column("nkeys", pa.int32()),
        _column("slot", pa.int16()),  # hash slot, or SLOT_NONE, SLOT_CROSS, SLOT_UNKNOWN
        _column("unknown", pa.uint8()),  # UnknownWhy
        _column("txn", pa.int64()),  # number of the transaction on its connection, from 1; 0: none
        _column("latency_ns", pa.int64()),  # command's last byte read to reply's last byte read; -1: no reply
        _column("held_ns", pa.int64()),  # of latency_ns: time held back by shunt
        _column("request_bytes", pa.int64()),
        _column("reply_bytes", pa.int64()),
        _column("reply", pa.uint8()),  # ReplyKind
        _column("error", pa.binary()),  # first word of an error reply
        _column("served_key", pa.binary()),  # of a pop, when Flag.SERVED
        _column("backend", pa.int16()),  # index into the segment header's ``backends``
        _column("epoch", pa.int64()),  # route epoch that the command was bound to
        _column("flags", pa.uint32()),  # Flag
        _column("script", pa.binary()),  # SHA-1 (40 hex digits) of EVAL, EVALSHA, SCRIPT LOAD, FUNCTION LOAD
        _column("args", pa.list_(pa.field("item", pa.binary(), nullable=False))),  # name first; Flag.ARGS
        _column("reply_checksum", pa.uint64()),  # reserved: 0
        _column("gap", pa.binary()),  # why rows are missing here; empty: this row is an exchange
        _column("gap_rows", pa.int64()),  # how many are missing; 0: not known
        _column("nargs", pa.int32()),  # arguments, the name included; 0: not known
        _column("reply_items", pa.int32()),  # elements of an aggregate reply (a map's pairs); -1: none, or not known
    ]
)

#: Script bodies, once per SHA and segment; only with ArgsMode.KEYS and FULL.
SCRIPT_SCHEMA = pa.schema([_column("sha", pa.binary()), _column("body", pa.binary())])
