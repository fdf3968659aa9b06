# Table of contents of the looks into replies; the story is in replyhead.pyx.
from libc.stdint cimport int32_t, int64_t

from proxy.engine.inflight cimport Entry
from proxy.engine.recorder cimport R_ARRAY, R_PUSH, R_SET, Reply

cdef int32_t counted_items(Reply *reply) noexcept nogil

cdef inline int32_t items(Reply *reply) noexcept nogil:
    """Elements (of a map: pairs) of an aggregate reply; -1: it is none."""
    return counted_items(reply) if R_ARRAY <= reply.kind <= R_SET or reply.kind == R_PUSH else -1

cdef const char *first_item(Reply *reply, Py_ssize_t *length) noexcept nogil
cdef const char *second_item(Reply *reply, Py_ssize_t *length) noexcept nogil
cdef const char *_bulk_at(Reply *reply, Py_ssize_t i, Py_ssize_t *length) noexcept nogil
cdef bint confirms(Entry *entry, const char *word, Py_ssize_t length) noexcept nogil
cdef int64_t last_integer(Reply *reply) noexcept nogil
cdef int64_t integer_after(Reply *reply, const char *mark, Py_ssize_t length) noexcept nogil
cdef bint refusal(const char *p, Py_ssize_t n) noexcept nogil
