# Table of contents of the in-flight queue; the story is in inflight.pyx.
cimport cython
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

cdef inline void clear_entry(Entry *entry) noexcept nogil:
    """All zero. By name, because compilers make ``rep stos`` of a memset of this size, which takes three times as long."""
    entry.at_ns = entry.ts = entry.seq = entry.epoch = entry.request_bytes = 0
    entry.spec = NULL
    entry.blob = 0
    entry.blob_length = entry.nkeys = entry.nargs = entry.keys_kept = entry.keys_length = entry.cuts = 0
    entry.args_kept = entry.args_length = entry.aux = 0
    entry.flags = 0
    entry.slot = entry.backend = 0
    entry.unknown = entry.mode = entry.name_length = entry.script_length = 0
    entry.note_length = 0

@cython.final
cdef class Inflight:
    cdef:
        Entry *ring
        Py_ssize_t capacity, first
        readonly Py_ssize_t count
        char *arena
        Py_ssize_t arena_length, arena_capacity, arena_base

    cdef bint _grow(self) noexcept nogil
    cdef void _emptied(self) noexcept nogil
    cdef char *_more(self, Py_ssize_t n) noexcept nogil
    cdef void give_back(self, Py_ssize_t n) noexcept nogil

    # What happens to every command stands here, so that other modules need not call it through a table.

    cdef inline Entry *push(self) noexcept nogil:
        """Room for one more command, all zero but where its blob starts; NULL: full or no memory."""
        cdef Entry *entry
        if self.count == self.capacity and not self._grow():
            return NULL
        entry = &self.ring[(self.first + self.count) & (self.capacity - 1)]
        clear_entry(entry)
        entry.blob = self.arena_base + self.arena_length
        self.count += 1
        return entry

    cdef inline Entry *head(self) noexcept nogil:
        """The oldest command; NULL: none is in flight."""
        return &self.ring[self.first] if self.count else NULL

    cdef inline void pop(self) noexcept nogil:
        """Drop the oldest command and its bytes. Its entry stays readable until the next push."""
        self.first = (self.first + 1) & (self.capacity - 1)
        self.count -= 1
        if self.count == 0:
            self._emptied()

    cdef inline char *reserve(self, Py_ssize_t n) noexcept nogil:
        """n more bytes at the end of the arena, for the newest command; NULL: no room."""
        if self.arena_length + n > self.arena_capacity:
            return self._more(n)
        self.arena_length += n
        return self.arena + self.arena_length - n

    cdef inline const char *blob(self, Entry *entry) noexcept nogil:
        """The bytes of a command in flight; valid until the next reserve or pop."""
        return self.arena + (entry.blob - self.arena_base)
