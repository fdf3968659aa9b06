# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""What the two ends of a connection have in common: a transport to write to, flow control, closing.

Knows: sockets as far as they push back, end and break. Refuses to know: RESP, and who is on the other end. ``client``
and ``backend`` say what happens to the bytes.

Writing goes straight to the socket while the transport holds nothing (one ``send`` from the read buffer, no Python
object, no copy): this is what makes a parsed and recorded exchange cheaper than a plain uvloop pipe's. Only what the
socket does not take is copied and given to the transport, because uvloop keeps a reference to what a short write
leaves over, and the read buffer is shared by all connections.

The descriptor is written to only between ``connection_made`` and ``connection_lost``: uvloop closes it after
``connection_lost``, and then the number may belong to another client.
"""
from libc.errno cimport EAGAIN, ECONNRESET, EINTR, EPIPE, errno
from libc.stdint cimport int64_t
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec
from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE

import socket

from proxy.engine.session cimport Session

cdef extern from "<sys/socket.h>" nogil:
    ssize_t c_send "send"(int fd, const void *p, size_t n, int flags)
    int MSG_DONTWAIT, MSG_NOSIGNAL

#: As Redis' own tcp-keepalive of 300 s. Redis watches its end of the backend connection, where shunt is always alive: a
#: client whose machine is gone must be found out here, or its BRPOP stays behind and eats jobs.
KEEPALIVE = (
    ((socket.SOL_SOCKET, socket.SO_KEEPALIVE), 1),
    ((socket.IPPROTO_TCP, socket.TCP_KEEPIDLE), 300),
    ((socket.IPPROTO_TCP, socket.TCP_KEEPINTVL), 100),
    ((socket.IPPROTO_TCP, socket.TCP_KEEPCNT), 3),
)
#: Bytes that a transport may hold before the other side's reading pauses, and resumes.
HIGH_WATER = 65536
LOW_WATER = 16384
#: One read takes at most this much.
READ_BYTES = 262144


cdef int64_t monotonic_ns() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <int64_t>now.tv_sec * 1000000000 + now.tv_nsec


def now_ns():
    """The clock of all latencies: monotonic, nanoseconds."""
    return monotonic_ns()


cdef class Traffic:
    """Bytes read from and written to clients, of one worker."""


cdef class ReadBuffer:
    """One buffer for all reads: uvloop fills it and hands it on before the next connection reads."""

    def __cinit__(self, Py_ssize_t size=READ_BYTES):
        self.data = bytearray(size)
        self.start = PyByteArray_AS_STRING(self.data)


cdef class Endpoint:
    """One end: an ``asyncio.BufferedProtocol`` by its methods. ``session`` None: it carries nobody's commands, or many's."""

    def __cinit__(self, Session session, ReadBuffer buffer not None, Traffic traffic not None, *args):
        self.session = session
        self.buffer = buffer
        self.traffic = traffic
        self.fd = -1

    def attach(self, Endpoint peer not None):
        """Join two ends, each the other's peer."""
        self.peer = peer
        peer.peer = self

    def detach(self):
        """Forget the peer, so that a finished connection is no reference cycle."""
        self.peer = None

    # ---- asyncio's side -----------------------------------------------------------------------------------------------

    def connection_made(self, transport):
        self.transport = transport
        self.secure = transport.get_extra_info("sslcontext") is not None
        transport.set_write_buffer_limits(HIGH_WATER, LOW_WATER)
        self.last_ns = monotonic_ns()
        sock = transport.get_extra_info("socket")
        if sock.family != socket.AF_UNIX:
            for option, value in KEEPALIVE:
                sock.setsockopt(*option, value)
        if not self.secure:
            self.fd = sock.fileno()

    def get_buffer(self, hint):
        return self.buffer.data

    def pause_writing(self):
        if self.peer is not None:
            self.peer.hold_reading(HOLD_PEER_FULL)

    def resume_writing(self):
        if self.peer is not None:
            self.peer.release_reading(HOLD_PEER_FULL)

    # ---- writing ------------------------------------------------------------------------------------------------------

    cdef int send(self, const char *p, Py_ssize_t n) except -1:
        """Send n bytes at p, or as many as go now and the rest when the socket takes them. p is free on return.

        Returns UNSENT when none of them will ever leave, else 0.
        """
        cdef ssize_t done = 0
        cdef int outcome = 0
        if self.lost or self.closing or self.eof_sent or self.transport is None:
            return UNSENT
        if self.queued:
            self.queued = self.transport.get_write_buffer_size() > 0
        if self.fd >= 0 and not self.queued:
            done = c_send(self.fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL)
            if done == n:
                return 0
            if done < 0:
                if errno == EPIPE or errno == ECONNRESET:
                    self.broke()
                    outcome = UNSENT
                done = 0        # EAGAIN: wait; anything else: the transport meets it again, and reports it
        self.queued = True
        self.transport.write(PyBytes_FromStringAndSize(p + done, n - done))
        return outcome

    cdef void broke(self) noexcept:
        """The other side is gone, as a direct write has just found out; ``connection_lost`` will follow."""

    cdef int send_all(self, list pieces) except -1:
        cdef bytes piece
        for piece in pieces:
            self.send(PyBytes_AS_STRING(piece), PyBytes_GET_SIZE(piece))
        return 0

    def write(self, bytes data):
        """Send ``data``."""
        self.send(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))

    def send_eof(self):
        """Half-close after the bytes before it. With TLS, which knows no half-close, close."""
        if self.lost or self.closing or self.eof_sent or self.transport is None:
            return
        if self.secure:
            self.close()
            return
        self.eof_sent = True
        self.transport.write_eof()

    # ---- reading ------------------------------------------------------------------------------------------------------

    def hold_reading(self, int reason):
        """Stop reading for this reason; TCP pushes back."""
        if not self.read_holds and self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()
        self.read_holds |= reason

    def release_reading(self, int reason):
        """This reason is gone; read again if it was the last."""
        if not self.read_holds & reason:
            return
        self.read_holds &= ~reason
        if not self.read_holds and self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    @property
    def reading_held(self):
        return self.read_holds != 0

    # ---- ending -------------------------------------------------------------------------------------------------------

    def close(self):
        """Close after what is buffered has left."""
        if self.transport is not None and not self.closing and not self.lost:
            self.closing = True
            self.transport.close()

    def abort(self):
        """Close at once; what is buffered is dropped."""
        if self.transport is not None and not self.lost:
            self.closing = True
            self.transport.abort()

    def mark_lost(self):
        """The transport is gone: its descriptor must not be written to any more."""
        self.lost = True
        self.fd = -1
