# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The commands of one connection that wait for their replies, oldest first.

Knows: order. A ring of fixed-size entries, and an arena with the bytes that the capture will want of them (keys,
arguments). Refuses to know: what the bytes mean, and sockets. Both are bounded: ``push`` and ``reserve`` answer NULL
when there is no room, and the caller says so in the capture.
"""
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memmove

cimport cython

cdef enum:
    FIRST_CAPACITY = 4
    SMALL_ARENA = 65536         # an empty arena larger than this is given back


@cython.final
cdef class Inflight:

    def __dealloc__(self):
        free(self.ring)
        free(self.arena)

    cdef bint _grow(self) noexcept nogil:
        cdef Py_ssize_t capacity = self.capacity * 2 if self.capacity else FIRST_CAPACITY
        cdef Py_ssize_t tail
        cdef Entry *ring
        if capacity > MAX_IN_FLIGHT:
            return False
        ring = <Entry *>malloc(capacity * sizeof(Entry))
        if ring == NULL:
            return False
        tail = self.capacity - self.first
        if self.count:
            memcpy(ring, self.ring + self.first, tail * sizeof(Entry))
            memcpy(ring + tail, self.ring, self.first * sizeof(Entry))
        free(self.ring)
        self.ring = ring
        self.capacity = capacity
        self.first = 0
        return True

    cdef void _emptied(self) noexcept nogil:
        """Nothing is in flight any more: the arena begins anew, and what is large is given back."""
        self.arena_base += self.arena_length
        self.arena_length = 0
        self.first = 0
        if self.arena_capacity > SMALL_ARENA:
            free(self.arena)
            self.arena = NULL
            self.arena_capacity = 0
        if self.capacity > 4096:
            free(self.ring)
            self.ring = NULL
            self.capacity = 0

    cdef char *_more(self, Py_ssize_t n) noexcept nogil:
        """As reserve, where the arena must grow, or lose what is dead."""
        cdef Py_ssize_t capacity, dead
        cdef char *grown
        dead = self.ring[self.first].blob - self.arena_base if self.count else 0
        if dead > self.arena_length // 2:       # most of it belongs to commands long answered
            memmove(self.arena, self.arena + dead, self.arena_length - dead)
            self.arena_base += dead
            self.arena_length -= dead
        if self.arena_length + n > MAX_BLOB:
            return NULL
        if self.arena_length + n > self.arena_capacity:
            capacity = self.arena_capacity * 2 if self.arena_capacity else 128
            while capacity < self.arena_length + n:
                capacity *= 2
            grown = <char *>realloc(self.arena, capacity)
            if grown == NULL:
                return NULL
            self.arena = grown
            self.arena_capacity = capacity
        self.arena_length += n
        return self.arena + self.arena_length - n

    cdef void give_back(self, Py_ssize_t n) noexcept nogil:
        """Undo the last n reserved bytes."""
        self.arena_length -= n
