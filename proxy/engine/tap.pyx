# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Copies of commands and their replies for whoever wants them whole: a mirror.

Knows: which commands are wanted, how much may be kept, and what is missing when it was too much. Refuses to know: what
becomes of the copies (``mirror``), sockets, clocks.

A ``Tap`` hangs on a session and sees each command when it is noted and again when its reply is settled, both on the
client's time: it copies bytes, and nothing else happens here. What there is no room for is dropped, counted by its
reason, and the next record of that connection is flagged ``holed``.
"""
from libc.stdint cimport int64_t, uint32_t
from libc.string cimport memcpy
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE

from collections import deque

from protocol.keyspecs cimport Arg, CommandTable
from proxy.engine.inflight cimport MODE_AT_MOST_ONE, MODE_ONE, Entry, Inflight
from proxy.engine.recorder cimport F_QUEUED, R_LOST, Caller, Reply

cdef enum:
    RECORD_COST = 400           # what a record takes beside the bytes that were copied

#: Why a command was dropped.
DROPS = ("queue-full", "too-large", "unknown-command", "plain-pipe")


#: The places in a record, a plain tuple because one is made for each exchange. ``name``: None: the connection has
#: ended. ``args``: packed, None where they are not known. ``kind``: capture.format.ReplyKind. ``reply``: the whole frame,
#: None where there is none or it is not known whole. ``wall_ns``: when it came.
FIELDS = ("conn", "name", "args", "db", "kind", "queued", "holed", "reply", "reply_bytes", "wall_ns", "latency_ns", "cost")


def unpack(bytes packed):
    """The arguments out of a record's."""
    cdef const char *p = PyBytes_AS_STRING(packed)
    cdef Py_ssize_t at = 0, n = PyBytes_GET_SIZE(packed)
    cdef uint32_t length
    cdef list args = []
    while at < n:
        memcpy(&length, p + at, 4)
        args.append(PyBytes_FromStringAndSize(p + at + 4, length))
        at += 4 + <Py_ssize_t>length
    return tuple(args)


cdef class TapQueue:
    """What all taps of a worker put in, and one consumer takes out.

    ``names``: the commands that are wanted. ``limit``: bytes that may wait; ``value_limit``: of one command or reply.
    ``on_first()`` is called when there is something again after all had been taken: it must be quick and not fail.
    """

    def __init__(self, CommandTable table, names, int64_t limit, int64_t value_limit, on_first):
        cdef set chosen = set(names) | {"MULTI", "EXEC", "DISCARD", "RESET", "SELECT"}
        self.table = table
        self.wanted = bytes(1 if name in chosen else 0 for name in table.names)
        self.records = deque()
        self.limit = limit
        self.value_limit = value_limit
        self.drops = dict.fromkeys(DROPS, 0)
        self.on_first = on_first

    cdef bint _room(self, int64_t size) except -1:
        return self.bytes + size <= self.limit

    cdef int drop(self, str reason) except -1:
        self.drops[reason] += 1
        return 0

    def take(self, Py_ssize_t most):
        """The oldest records, at most so many. What they cost counts until ``release``."""
        cdef Py_ssize_t n = min(most, len(self.records))
        popleft = self.records.popleft
        return [popleft() for _ in range(n)]

    def close(self):
        """Nothing is wanted any more."""
        self.wanted = bytes(len(self.wanted))

    def release(self, int64_t cost):
        """So much is no longer kept by anybody."""
        self.bytes -= cost


cdef class Tap:
    """One connection's; ``Session.tapped`` puts it there."""

    def __init__(self, TapQueue queue):
        self.queue = queue
        self.pending = deque()
        self.head_seq = -1

    # ---- the command ------------------------------------------------------------------------------------------------

    cdef void asked(self, Entry *entry, const Arg *argv, Py_ssize_t argc, Py_ssize_t kept) noexcept:
        """The command in argv has been noted in ``entry``."""
        if entry.spec == NULL or PyBytes_AS_STRING(self.queue.wanted)[entry.spec.id]:
            self._ask(entry, argv, argc, kept)

    cdef int _ask(self, Entry *entry, const Arg *argv, Py_ssize_t argc, Py_ssize_t kept) except -1:
        cdef Py_ssize_t i, total = 0
        cdef uint32_t length
        cdef bytes packed
        cdef char *to
        if entry.spec == NULL:
            self.queue.drop("unknown-command")
            self.holed = True
            return 0
        for i in range(kept):
            if argv[i].kept != argv[i].length:
                total = -1
                break
            total += 4 + argv[i].length
        if total < 0 or kept != argc or total > self.queue.value_limit:
            self.queue.drop("too-large")
            self.holed = True
            return 0
        if not self.queue._room(total + RECORD_COST):
            self.queue.drop("queue-full")
            self.holed = True
            return 0
        packed = PyBytes_FromStringAndSize(NULL, total)
        to = PyBytes_AS_STRING(packed)
        for i in range(kept):
            length = <uint32_t>argv[i].length
            memcpy(to, &length, 4)
            memcpy(to + 4, argv[i].ptr, length)
            to += 4 + length
        self._push(entry.seq, packed, total + RECORD_COST)
        return 0

    cdef int adopt(self, Entry *entry) except -1:
        """A command in flight was sent before the tap was there: only its reply will be known."""
        if entry.mode == MODE_ONE and entry.spec != NULL and PyBytes_AS_STRING(self.queue.wanted)[entry.spec.id]:
            self._push(entry.seq, None, RECORD_COST)
        return 0

    cdef int _push(self, int64_t seq, bytes packed, int64_t cost) except -1:
        if self.head_seq < 0:
            self.head_seq = seq
        self.pending.append((seq, packed, cost))
        self.queue.bytes += cost
        return 0

    # ---- its reply --------------------------------------------------------------------------------------------------

    cdef void more(self, Inflight queue, const char *p, Py_ssize_t n) noexcept:
        """A piece of a reply that spans reads."""
        cdef Entry *head = queue.head()
        if self.missed or head == NULL or head.seq != self.head_seq or (
                head.mode != MODE_ONE and head.mode != MODE_AT_MOST_ONE):
            return
        self.pieces_length += n
        if self.pieces_length > self.queue.value_limit or not self.queue._room(self.pieces_length):
            self.pieces = None
            return
        if self.pieces_length == n:
            self.pieces = []
        if self.pieces is not None:
            self.pieces.append(PyBytes_FromStringAndSize(p, n))

    cdef void forget(self) noexcept:
        """What came in pieces was no reply."""
        self.pieces = None
        self.pieces_length = 0
        self.missed = False

    cdef void answered(self, Caller *caller, Entry *entry, Reply *reply, int64_t now_ns) noexcept:
        """The command is being settled."""
        if entry.seq == self.head_seq or entry.flags & F_QUEUED:    # what is queued has its place in EXEC's reply
            self._answer(caller, entry, reply, now_ns)
        if self.pieces_length or self.missed:
            self.forget()

    cdef int _answer(self, Caller *caller, Entry *entry, Reply *reply, int64_t now_ns) except -1:
        cdef bytes packed = None, frame = None
        cdef int64_t cost = 0
        cdef bint idle = not self.queue.records
        if entry.seq == self.head_seq:
            _, packed, cost = self.pending.popleft()
            self.head_seq = self.pending[0][0] if self.pending else -1
        elif not self.queue._room(RECORD_COST):
            self.queue.drop("queue-full")
            self.holed = True
            return 0
        else:
            cost = RECORD_COST
            self.queue.bytes += cost
        if entry.flags & F_QUEUED or reply.kind <= R_LOST:
            pass
        elif reply.head_length == reply.bytes:
            if reply.bytes <= self.queue.value_limit and self.queue._room(reply.bytes):
                frame = PyBytes_FromStringAndSize(reply.head, reply.bytes)
        elif self.pieces is not None and self.pieces_length == reply.bytes:
            frame = b"".join(self.pieces)
        if frame is not None:
            cost += reply.bytes
            self.queue.bytes += reply.bytes
        self.queue.records.append((
            caller.conn, "" if entry.spec == NULL else self.queue.table.names[entry.spec.id], packed, caller.db,
            reply.kind, bool(entry.flags & F_QUEUED), bool(self.holed), frame, reply.bytes,
            entry.ts + (now_ns - entry.at_ns), now_ns - entry.at_ns, cost,
        ))
        self.holed = False
        if idle:
            self.queue.on_first()
        return 0

    cdef int end(self, Caller *caller) except -1:
        """The connection has ended, or is no longer looked at."""
        cdef bint idle = not self.queue.records
        while self.pending:
            self.queue.bytes -= self.pending.popleft()[2]
        self.head_seq = -1
        self.forget()
        self.queue.bytes += RECORD_COST
        self.queue.records.append((caller.conn, None, None, 0, 0, False, True, None, 0, 0, 0, RECORD_COST))
        if idle:
            self.queue.on_first()
        return 0
