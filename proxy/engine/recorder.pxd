# Table of contents of the recorder; the story is in recorder.pyx.
from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint32_t

from protocol.keyspecs cimport Arg, CommandTable, Spec
from protocol.resp cimport PartialCommand
from proxy.engine.columns cimport Columns
from proxy.engine.counters cimport Counters
from proxy.engine.inflight cimport Entry, Inflight

cdef enum:                      # capture.format.Flag
    F_BLOCKING = 1
    F_QUEUED = 2
    F_SCRIPT = 4
    F_INLINE = 8
    F_REPLIED_BY_PROXY = 16
    F_WRITE = 32
    F_POP = 64
    F_SERVED = 128
    F_KEYS_CUT = 256
    F_ARGS = 512
    F_ARGS_CUT = 1024
    F_REDACTED = 2048
    F_TXN_CROSS = 4096
    F_TXN_REFUSED = 8192
    F_TXN_UNKNOWN = 16384
    F_ASYNC_REPLY = 32768
    F_TXN_REFUSED_DB = 65536
    F_FOREIGN_DB = 131072
    F_SORT_PATTERN = 262144
    F_UNDELIVERED = 1048576
    F_GIVEN_BACK = 2097152
    F_REHEARSED = 524288

cdef enum:                      # giving_back.Way
    WAY_NAMED = 1
    WAY_OWN_KEY = 2
    WAY_OWN_END = 3
    WAY_LOSES = 4

cdef enum:                      # what a pop's entry.aux tells
    POP_LEFT = 1
    POP_RIGHT = 2
    POP_KEY = 4                 # its key is its note

cdef enum:                      # capture.format.ReplyKind
    R_NONE = 0
    R_LOST = 1
    R_SIMPLE = 2
    R_ERROR = 3
    R_INTEGER = 4
    R_BULK = 5
    R_NULL = 6
    R_ARRAY = 7
    R_MAP = 8
    R_SET = 9
    R_DOUBLE = 10
    R_BOOLEAN = 11
    R_BIGNUM = 12
    R_VERBATIM = 13
    R_PUSH = 14

cdef enum:
    SLOT_NONE = -1
    SLOT_CROSS = -2
    SLOT_UNKNOWN = -3

cdef struct Caller:             # on whose behalf a row is written; pointers are borrowed
    int64_t conn, txn
    int32_t db
    const char *addr
    const char *name
    int32_t addr_length, name_length

cdef struct Reply:              # what settled a command
    uint8_t kind
    int64_t bytes
    const char *head            # first bytes of the frame, head_length of them
    Py_ssize_t head_length

cdef class Recorder:
    cdef:
        readonly CommandTable table
        readonly Columns columns
        readonly Counters counters
        bytes pop_ways              # giving_back.Way by Spec.id
        Arg *argv
        int *key_index
        const Spec *found           # what argv names, while a caller knows; NULL: it must be looked up
        int mode
        public bint recording
        public int64_t wall_offset_ns
        int64_t last_ts
        public int64_t max_frame
        public int64_t epoch
        public int16_t backend
        readonly int64_t conns
        Py_ssize_t hand_over_rows, hand_over_bytes
        object on_full, on_script
        dict scripts
        Py_ssize_t script_bytes

    cdef void note(self, Inflight queue, Entry *entry, Py_ssize_t argc, Py_ssize_t kept,
                   PartialCommand partial) noexcept
    cdef void _note_pop(self, Inflight queue, Entry *entry, Py_ssize_t nkeys, Py_ssize_t kept) noexcept
    cdef int pop_way(self, Entry *entry) noexcept
    cdef void _note_database(self, Entry *entry, Py_ssize_t argc, Py_ssize_t kept) noexcept
    cdef void _note_name_of_unknown(self, Inflight queue, Entry *entry, Py_ssize_t kept) noexcept
    cdef void _note_cuts(self, Inflight queue, Entry *entry, Py_ssize_t have, PartialCommand partial) noexcept
    cdef void _keep_body(self, Entry *entry, Py_ssize_t kept) noexcept
    cdef bytes _script(self, bytes body, bint recorded=*)
    cdef Py_ssize_t _within(self, Py_ssize_t nkeys, Py_ssize_t kept) noexcept nogil
    cdef void _note_keys(self, Inflight queue, Entry *entry, Py_ssize_t nkeys, Py_ssize_t have,
                         PartialCommand partial) noexcept
    cdef void _note_script(self, Inflight queue, Entry *entry, Py_ssize_t kept) noexcept
    cdef void _note_args(self, Inflight queue, Entry *entry, Py_ssize_t argc, Py_ssize_t kept) noexcept
    cdef void _note_name(self, Inflight queue, Entry *entry, Py_ssize_t kept) noexcept
    cdef int16_t _slot(self, Py_ssize_t nkeys, uint8_t *unknown) noexcept nogil
    cdef void settle(self, Caller *caller, Inflight queue, Entry *entry, Reply *reply, int64_t now_ns) noexcept
    cdef void gap(self, Caller *caller, const char *why, int length, int64_t rows, int64_t now_ns) noexcept
    cdef void check_full(self) noexcept
