# Table of contents of the tape; the story is in tape.pyx.
from proxy.engine.recorder cimport Recorder
from protocol.resp cimport PartialCommand

cdef class Tape:
    cdef:
        Recorder recorder
        object pieces               # deque of bytes, a command each, oldest first; None: there was no room
        PartialCommand partial
        list halves                 # of a command that has been sent in part; None: there was no room
        Py_ssize_t half_bytes
        Py_ssize_t limit
        readonly Py_ssize_t kept    # bytes, with what keeping them takes
        readonly bint lost          # the bytes are no commands any more: nothing can be sent again

    cdef int add(self, const char *p, Py_ssize_t n) except -1
    cdef int trim(self, Py_ssize_t count) except -1
    cdef int _whole(self, const char *p, Py_ssize_t n) except -1
    cdef int _half(self, const char *p, Py_ssize_t n) except -1
