# Table of contents of the two ends of a connection; the story is in endpoint.pyx.
from libc.stdint cimport int64_t

from proxy.engine.session cimport Session

cdef class Traffic:                 # totals of one worker, in bytes
    cdef public int64_t client_rx, client_tx

cdef class ReadBuffer:              # where all connections of a worker read to, one after the other
    cdef readonly bytearray data
    cdef char *start

cdef class Endpoint:
    cdef:
        readonly object transport
        readonly Session session
        readonly Endpoint peer
        readonly bint lost          # the transport is gone
        readonly bint closing       # close() was called; what is buffered may still leave
        readonly bint eof_received_, eof_sent
        int fd                      # for direct writes; -1: through the transport only
        bint queued                 # the transport may hold bytes that came before ours
        int read_holds              # reasons not to read, a bit set
        ReadBuffer buffer
        Traffic traffic
        readonly bint secure        # TLS
        readonly int64_t last_ns    # when bytes last came in
        public object rider         # takes the client when its backend connection ends (net.riding); None: nobody does

    cdef int send(self, const char *p, Py_ssize_t n) except -1
    cdef void broke(self) noexcept
    cdef int send_all(self, list pieces) except -1

cdef enum:
    UNSENT = 1                      # none of these bytes have left, and none will: the other side is gone

cpdef enum:
    HOLD_PEER_FULL = 1              # the other side does not take what was read
    HOLD_OWN_FULL = 4               # it does not take what shunt answers it
    HOLD_POOL = 8                   # it waits for a backend connection, or for what it sent before
    HOLD_TRUNK = 16                 # the shared connection does not take what was read
    HOLD_GATE = 32                  # traffic is held
    HOLD_RIDE = 64                  # its backend does not serve it
    HOLD_FETCH = 128                # its fetches must not reach the backend
    HOLD_ROUTE = 256                # its next command waits until the client has gone over to another backend
    HOLD_CLASS = 512                # its next command, or the fetch that it waits in, is of a class that is held
    HOLD_DRAIN = 2                  # shunt is being stopped, or the connection is to end at a command boundary

cdef int64_t monotonic_ns() noexcept nogil
