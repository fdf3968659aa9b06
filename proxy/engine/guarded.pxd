# Table of contents of a session with credentials; the story is in guarded.pyx.
from libc.stdint cimport int64_t

from protocol.resp cimport Scan, ScanResult
from proxy.engine.session cimport Session

cdef class GuardedSession(Session):
    cdef:
        object access
        bint authenticated

    cdef int _inject(self) except -1
    cdef bint _must_hold(self, const char *p, Py_ssize_t n, Py_ssize_t kept, int64_t now_ns) except -1
    cdef bytes _first_word(self, const char *p, Py_ssize_t n)
    cdef list _arguments(self, const char *p, ScanResult result, Scan *scan)
    cdef bint _edited(self, list args, bytes before, Py_ssize_t size, ScanResult result, int64_t now_ns) except -1
    cdef int _after_reset(self) except -1
