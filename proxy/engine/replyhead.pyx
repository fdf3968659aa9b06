# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Small looks into the first bytes of a reply.

Knows: how to read one item of a reply's head, within its bounds. Refuses to know: what follows from it (``session``).
"""
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memchr, memcmp

from proxy.engine.inflight cimport Entry
from proxy.engine.recorder cimport Reply


cdef int32_t counted_items(Reply *reply) noexcept nogil:
    """The count in an aggregate's header; -1 where the head is no such header ("*?", an attribute in front)."""
    cdef int64_t count = 0
    cdef Py_ssize_t i = 1
    if reply.head_length < 2 or reply.head[0] == b'|' or not 48 <= reply.head[1] <= 57:
        return -1
    while i < reply.head_length and 48 <= reply.head[i] <= 57 and count <= 2147483647:
        count = count * 10 + (reply.head[i] - 48)
        i += 1
    return <int32_t>(count if count <= 2147483647 else 2147483647)


cdef const char *first_item(Reply *reply, Py_ssize_t *length) noexcept nogil:
    """The first element of an array or push, if it is a bulk string that lies within the head; else NULL."""
    cdef Py_ssize_t i = 0
    while i < reply.head_length and reply.head[i] != 10:
        i += 1
    return _bulk_at(reply, i + 1, length)


cdef const char *second_item(Reply *reply, Py_ssize_t *length) noexcept nogil:
    """The second element, if it and the first are bulk strings that lie within the head; else NULL."""
    cdef const char *first = first_item(reply, length)
    return NULL if first == NULL else _bulk_at(reply, first - reply.head + length[0] + 2, length)


cdef const char *_bulk_at(Reply *reply, Py_ssize_t i, Py_ssize_t *length) noexcept nogil:
    """The bulk string whose header begins at byte i of the head, if all of it lies there; else NULL."""
    cdef const char *p = reply.head
    cdef Py_ssize_t n = reply.head_length, size = 0
    if i >= n or p[i] != b'$':
        return NULL
    i += 1
    while i < n and 48 <= p[i] <= 57 and size < 1024:
        size = size * 10 + (p[i] - 48)
        i += 1
    i += 2
    if i + size > n:
        return NULL
    length[0] = size
    return p + i


cdef bint confirms(Entry *entry, const char *word, Py_ssize_t length) noexcept nogil:
    """Whether a push named ``word`` confirms this SUBSCRIBE or UNSUBSCRIBE."""
    cdef Py_ssize_t i
    if length != entry.spec.name_length:
        return False
    for i in range(length):
        if (word[i] & 0xDF) != entry.spec.name[i]:
            return False
    return True


cdef int64_t last_integer(Reply *reply) noexcept nogil:
    """The integer that ends a frame (":<n>\\r\\n"), or -1."""
    cdef Py_ssize_t i = reply.head_length - 3
    cdef int64_t value = 0, unit = 1
    while i >= 0 and 48 <= reply.head[i] <= 57 and unit < 1000000000000LL:
        value += unit * (reply.head[i] - 48)
        unit *= 10
        i -= 1
    return value if i >= 0 and reply.head[i] == b':' and unit > 1 else -1


cdef int64_t integer_after(Reply *reply, const char *mark, Py_ssize_t length) noexcept nogil:
    """The integer behind the first ``mark`` in a reply's head, or -1."""
    cdef Py_ssize_t i, k
    cdef int64_t value = 0
    for i in range(reply.head_length - length):
        if memcmp(reply.head + i, mark, length) == 0:
            for k in range(i + length, reply.head_length):
                if not 48 <= reply.head[k] <= 57 or value > 1000000000000000LL:
                    return value
                value = value * 10 + (reply.head[k] - 48)
            return value
    return -1


cdef bint refusal(const char *p, Py_ssize_t n) noexcept nogil:
    """Whether an error may prove that a command didn't run (``routing.ride`` says for sure). One whose line is not whole
    may."""
    cdef Py_ssize_t length = 0
    if memchr(p, 10, n) == NULL:
        return n < 1024
    while length + 1 < n and p[length + 1] > 32:
        length += 1
    return ((length == 7 and memcmp(p + 1, b"LOADING", 7) == 0)
            or (length == 8 and memcmp(p + 1, b"READONLY", 8) == 0)
            or (length == 9 and (memcmp(p + 1, b"EXECABORT", 9) == 0 or memcmp(p + 1, b"UNBLOCKED", 9) == 0))
            or (length == 10 and memcmp(p + 1, b"MASTERDOWN", 10) == 0)
            or (length == 11 and memcmp(p + 1, b"CLUSTERDOWN", 11) == 0))
