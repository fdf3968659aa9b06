# Table of contents of shared backend connections; the story is in sharing.pyx.
from libc.stdint cimport int64_t, uint8_t
from cpython.object cimport PyObject

from protocol.resp cimport ReplyScan
from proxy.engine.pooled cimport PooledSession
from proxy.engine.recorder cimport Recorder
from proxy.net.backend cimport Backend
from proxy.net.client cimport Client
from proxy.net.endpoint cimport Endpoint

cdef struct Span:               # commands of one client that went out one behind the other
    PyObject *client            # PooledClient, owned; NULL: shunt's own
    int64_t begin, end          # of their bytes, counted from the connection's first
    int replies                 # still due

cdef class PooledClient(Client)

cdef struct Cut:                # one reply in the read buffer
    Py_ssize_t at, used
    ReplyScan scan

cdef class Trunk(Endpoint):
    cdef:
        readonly object key         # what its clients have in common: (RESP3, database, credentials)
        public str failure          # why it can't be used; None: it can
        object pool
        Recorder recorder
        Span *spans
        Py_ssize_t capacity, head
        readonly Py_ssize_t waiting     # spans in the queue
        char *out
        readonly Py_ssize_t out_length      # bytes that have not been sent
        Py_ssize_t out_capacity
        int64_t out_begin           # where out[0] stands, counted from the connection's first byte
        bint scheduled, full, ready
        bint streaming              # the last read ended inside a reply
        public bint first           # of those with its key: the one to use as long as it keeps up
        list held                   # clients that are not read while too much waits here
        ReplyScan scan              # of what is nobody's
        readonly int64_t used_ns    # when something last went out

    cdef Span *_span(self, Py_ssize_t i) noexcept nogil
    cdef int _push(self, PooledClient client, Py_ssize_t n, int replies) except -1
    cdef int _pop(self) except -1
    cdef int submit(self, PooledClient client, const char *p, Py_ssize_t n, int replies) except -1
    cdef int schedule(self) except -1
    cdef int _store(self, const char *p, Py_ssize_t n) except -1
    cdef int _send_more(self) except -1
    cdef int forget(self, PooledClient client) except -1
    cdef Py_ssize_t _serve(self, Span *span, const char *p, Py_ssize_t n, int64_t now_ns) except -1
    cdef Py_ssize_t _own(self, const char *p, Py_ssize_t n, bint swallow) except -1
    cdef Py_ssize_t _serve_instead(self, Span *span, const char *p, Py_ssize_t n, int64_t now_ns) except -1
    cdef int _settle(self, PooledClient client, const char *p, Py_ssize_t cuts, int64_t now_ns) except -1

cdef class PrivateBackend(Backend):
    cdef:
        readonly object state       # what it is like: (RESP3, database, credentials)
        object pool

cdef class PooledClient(Client):
    cdef:
        object pool
        Recorder recorder
        PooledSession pooled
        readonly Trunk trunk
        public object orphan        # orphans.Orphan: it has gone, and what it popped is waited for; None: not so
        object refused              # timer handle of a wait for a connection
        bint half_closed, full
        int64_t held_ns             # since when it is not read because it waits; 0: it is read
        readonly bint waiting       # for a private connection

    cdef int _take(self, const char *p, Py_ssize_t n) except -1
    cdef int _choose(self) except -1
    cdef int _go_on(self) except -1
    cdef int deliver(self, const char *p, Py_ssize_t n) except -1
    cdef int _check_full(self) except -1
    cdef int settled(self, int64_t now_ns) except -1
    cdef int _read_on(self) except -1
    cdef int _give_back(self) except -1
