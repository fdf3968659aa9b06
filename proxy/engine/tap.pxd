# Table of contents of the tap; the story is in tap.pyx.
from libc.stdint cimport int64_t

from protocol.keyspecs cimport Arg, CommandTable
from proxy.engine.inflight cimport Entry, Inflight
from proxy.engine.recorder cimport Caller, Reply

cdef class TapQueue:
    cdef:
        bytes wanted                # by spec id: 1 where the command is copied
        readonly object records     # deque of records (FIELDS), oldest first
        readonly int64_t bytes      # that they cost, and what is copied of commands in flight
        int64_t limit, value_limit
        readonly dict drops         # reason -> commands
        object on_first
        CommandTable table

    cdef bint _room(self, int64_t size) except -1
    cdef int drop(self, str reason) except -1

cdef class Tap:
    cdef:
        TapQueue queue
        object pending              # deque of (seq, packed arguments or None, cost), oldest first
        int64_t head_seq            # of pending's first; -1: there is none
        bint holed                  # something was dropped since the last record
        bint missed                 # the reply under way began before the tap was there
        list pieces                 # of a reply that spans reads
        int64_t pieces_length

    cdef void asked(self, Entry *entry, const Arg *argv, Py_ssize_t argc, Py_ssize_t kept) noexcept
    cdef int _ask(self, Entry *entry, const Arg *argv, Py_ssize_t argc, Py_ssize_t kept) except -1
    cdef void more(self, Inflight queue, const char *p, Py_ssize_t n) noexcept
    cdef void forget(self) noexcept
    cdef void answered(self, Caller *caller, Entry *entry, Reply *reply, int64_t now_ns) noexcept
    cdef int _answer(self, Caller *caller, Entry *entry, Reply *reply, int64_t now_ns) except -1
    cdef int adopt(self, Entry *entry) except -1
    cdef int _push(self, int64_t seq, bytes packed, int64_t cost) except -1
    cdef int end(self, Caller *caller) except -1
