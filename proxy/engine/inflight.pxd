# Table of contents of the in-flight queue; the story is in inflight.pyx.
from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from protocol.keyspecs cimport Spec

cdef enum ReplyMode:        # how a command in flight is answered
    MODE_ONE = 0            # by one frame
    MODE_NONE = 1           # not at all
    MODE_CHANNELS = 2       # by `due` frames, pushes under RESP3
    MODE_AT_MOST_ONE = 3    # by one frame or by the end of the connection (SHUTDOWN)
    MODE_LOCAL = 4          # by shunt
    MODE_SWALLOW = 5        # by one frame that the client must not see: the command is shunt's own
    MODE_PIPE = 6           # by what can't be counted: from here on the connection is a plain byte pipe
    MODE_STAND_IN = 7       # by one frame that answers another command in its place: the client gets something else

cdef enum:
    MAX_IN_FLIGHT = 262144  # commands; beyond it the connection becomes a plain byte pipe
    MAX_BLOB = 4194304      # bytes of keys and arguments that wait for their replies, per connection

cdef struct Entry:          # one command in flight
    int64_t at_ns           # arrival of its last byte, monotonic
    int64_t ts              # the same, on the wall clock
    int64_t seq
    int64_t epoch           # of the route that it was bound to when it was dispatched
    int64_t request_bytes
    const Spec *spec        # NULL: not in the command table
    Py_ssize_t blob         # where its bytes start in the arena
    int32_t blob_length
    int32_t nkeys, nargs
    int32_t keys_kept, keys_length      # in the blob, after the name: u32 length and bytes of each key
    int32_t cuts                        # then CutKey of each key that was cut
    int32_t args_kept, args_length      # then u32 length and bytes of each argument
    int32_t aux             # SELECT's database, channels due (-1: as many as are subscribed)
    uint32_t flags          # capture.format.Flag
    int16_t slot
    int16_t backend         # that it was dispatched to: index into the segment header's backends
    uint8_t unknown
    uint8_t mode
    uint8_t name_length     # of a command that is not in the table: its name starts the blob
    uint8_t script_length   # 40: the script's SHA-1 comes after the cut keys
    uint16_t note_length    # last in the blob: a client name that takes effect when the reply is good

cdef struct CutKey:
    int32_t index
    int64_t length
    uint64_t hash

cdef class Inflight:
    cdef:
        Entry *ring
        Py_ssize_t capacity, first
        readonly Py_ssize_t count
        char *arena
        Py_ssize_t arena_length, arena_capacity, arena_base

    cdef bint _grow(self) noexcept nogil
    cdef Entry *push(self) noexcept nogil
    cdef Entry *head(self) noexcept nogil
    cdef void pop(self) noexcept nogil
    cdef char *reserve(self, Py_ssize_t n) noexcept nogil
    cdef void give_back(self, Py_ssize_t n) noexcept nogil
    cdef const char *blob(self, Entry *entry) noexcept nogil
