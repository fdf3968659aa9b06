# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The client's end: where a command enters (hop 1) and its reply leaves (hop 6).

Knows: what the client's bytes, its end and its breaking off mean for the backend connection. Refuses to know: RESP.

A client that sends FIN may still read: the FIN is passed on behind its bytes, and Redis decides. A client whose
connection breaks takes its backend connection with it at once, and what waits to be sent there is dropped: a BRPOP
left behind would eat a job, and a command sent for a client that is gone would run twice when it tries again. Only
where a pop is in flight is that connection read a little longer (``orphans``).
"""
from libc.stdint cimport int64_t
from cpython.bytes cimport PyBytes_FromStringAndSize

from proxy.engine.session cimport EDITED, Session
from proxy.net.backend cimport Backend
from proxy.net.endpoint cimport HOLD_GATE, HOLD_OWN_FULL, HOLD_PEER_FULL, Endpoint, monotonic_ns

from proxy.net.endpoint import HIGH_WATER


cdef class Client(Endpoint):
    """``on_made(client)`` is called when it is connected, before it is read; ``on_lost(client)`` once, at its end: True
    when the backend connection is still read."""

    def __init__(self, session, buffer, traffic, on_made, on_lost):
        self.on_made = on_made
        self.on_lost = on_lost

    def connection_made(self, transport):
        Endpoint.connection_made(self, transport)
        self.on_made(self)

    def move(self, Backend backend not None):
        """What it sends goes to this connection from now on. It must stand at a command boundary."""
        cdef Endpoint old = self.peer
        if old is not None:
            old.detach()
            old.close()
        backend.adopt(self.session)
        self.attach(backend)
        if old is not None and old.read_holds & HOLD_PEER_FULL:
            backend.hold_reading(HOLD_PEER_FULL)

    cdef int overtaken(self, Py_ssize_t n) except -1:
        """A hold began while it came in: uvloop reads it once, whatever was asked. Keep that for the release."""
        data = PyBytes_FromStringAndSize(self.buffer.start, n)
        self.kept = data if self.kept is None else self.kept + data
        self.transport.pause_reading()
        return 0

    def release_reading(self, int reason):
        Endpoint.release_reading(self, reason)
        if self.kept is not None and not self.read_holds & HOLD_GATE and not self.closing and not self.lost:
            data, self.kept = self.kept, None
            self.buffer.data[:len(data)] = data
            self.buffer_updated(len(data))

    def buffer_updated(self, Py_ssize_t n):
        if self.read_holds & HOLD_GATE:
            self.overtaken(n)
            return
        cdef int64_t now = monotonic_ns()
        cdef Session session = self.session
        self.last_ns = now
        self.traffic.client_rx += n
        if session.on_client_bytes(self.buffer.start, n, now) != EDITED:
            self.peer.send(self.buffer.start, n)
            if session.tape is not None:
                session.tape.add(self.buffer.start, n)
        else:
            self._edited()
        if session.tape is not None:
            session.tape.trim(session.due())    # what gets no reply is settled
        session.recorder.check_full()       # commands without a reply are rows at once

    cdef _edited(self):
        """Some of the bytes were answered or changed by shunt (credentials in a URL, --max-frame)."""
        cdef bytes piece
        self.peer.send_all(self.session.to_backend)
        if self.session.tape is not None:
            for piece in self.session.to_backend:
                self.session.tape.add(piece, len(piece))
        self.send_all(self.session.to_client)
        if self.session.close_after and self.session.in_flight == 0:
            self.close()
        elif not self.session.trusted and self.transport.get_write_buffer_size() > HIGH_WATER:
            self.hold_reading(HOLD_OWN_FULL)    # who has no password yet can't have answers piled up for it

    def resume_writing(self):
        super().resume_writing()
        self.release_reading(HOLD_OWN_FULL)

    cdef void broke(self) noexcept:
        self.session.client_gone = True

    def eof_received(self):
        self.eof_received_ = True
        self.session.client_gone = True
        if self.secure:
            return False                # TLS has no half-close: both sides end
        self.peer.send_eof()
        return True

    def connection_lost(self, exc):
        self.mark_lost()
        self.session.lose_client(self.session.reply_begun())
        peer = self.peer
        if not self.on_lost(self) and peer is not None:
            peer.abort()
