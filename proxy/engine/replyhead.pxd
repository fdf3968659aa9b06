# Table of contents of the looks into replies; the story is in replyhead.pyx.
from libc.stdint cimport int64_t

from proxy.engine.inflight cimport Entry
from proxy.engine.recorder cimport Reply

cdef const char *first_item(Reply *reply, Py_ssize_t *length) noexcept nogil
cdef bint confirms(Entry *entry, const char *word, Py_ssize_t length) noexcept nogil
cdef int64_t last_integer(Reply *reply) noexcept nogil
cdef int64_t integer_after(Reply *reply, const char *mark, Py_ssize_t length) noexcept nogil
