# Table of contents of the backend's end; the story is in backend.pyx.
from libc.stdint cimport int64_t

from proxy.net.endpoint cimport Endpoint

cdef class Backend(Endpoint):
    cdef object on_prelude
    cdef object on_bytes            # while it has no client
    cdef bytes early
    cdef bint early_eof
    cdef bint open                  # the client's end takes bytes
    cdef object orphan              # orphans.Orphan: reads what comes, because the client has gone; None: nobody need

    cdef _edited(self, Py_ssize_t n, int64_t now)
    cdef _early(self, Py_ssize_t n, int64_t now)
    cdef _unadopted_end(self)
    cdef _prelude_done(self)
    cdef _at_boundary(self)
    cdef _ended(self)
