# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The backend's end: where a command leaves (hop 4) and its reply enters (hop 5).

Knows: that the client is served before anything is noted of its reply. Refuses to know: RESP, and how a backend is
found (``upstream``).

Until the client's end takes bytes, what the backend says (an error that it greets with, replies to the prelude) is
kept, at most EARLY_BYTES of it.
"""
from libc.stdint cimport int64_t
from cpython.bytes cimport PyBytes_FromStringAndSize

from proxy.engine.session cimport EDITED, Session
from proxy.net.endpoint cimport HOLD_PEER_FULL, UNSENT, Endpoint, monotonic_ns

cdef enum:
    EARLY_BYTES = 65536


cdef class Backend(Endpoint):
    """``on_prelude()`` is called when the replies to the prelude are in, or the connection ended before."""

    def __init__(self, session, buffer, traffic):
        self.early = b""

    def start_prelude(self, on_prelude):
        """Send AUTH and SELECT, if credentials or a database stand in the backend's URL."""
        prelude = self.session.prelude()
        if prelude:
            self.on_prelude = on_prelude
            self.write(prelude)
        else:
            on_prelude()

    def tell(self, bytes words, on_bytes):
        """Nobody has this connection yet: send commands of shunt's own. ``on_bytes(data)`` gets what comes until it is
        adopted, and b"" at its end."""
        self.on_bytes = on_bytes
        self.write(words)

    def adopt(self, Session session not None):
        """It carries this client's commands from now on; its state is as the client's."""
        self.session = session
        self.on_bytes = None
        self.open = True

    def buffer_updated(self, Py_ssize_t n):
        cdef int64_t now = monotonic_ns()
        cdef Session session = self.session
        if not self.open:
            self._early(n, now)
        elif session.splices == 0 and not session.swallowing and session.tape is None:
            self.traffic.client_tx += n
            if self.peer.send(self.buffer.start, n) == UNSENT:      # the client first
                session.lose_client(session.reply_begun())
            session.on_backend_bytes(self.buffer.start, n, now)
            session.recorder.check_full()
            if session.draining:
                self._at_boundary()
        else:
            self._edited(n, now)

    cdef _edited(self, Py_ssize_t n, int64_t now):
        self.traffic.client_tx += n
        if self.session.on_backend_bytes(self.buffer.start, n, now) != EDITED:
            self.peer.send(self.buffer.start, n)
        else:
            self.peer.send_all(self.session.to_client)
        if self.session.tape is not None:
            self.session.tape.trim(self.session.due())
            if self.session.parked is not None and self.peer.rider is not None:
                self.peer.rider.parked(self.peer)
        if self.session.failure is not None or (self.session.close_after and self.session.in_flight == 0):
            self.peer.close()
        self.session.recorder.check_full()
        if self.session.draining:
            self._at_boundary()

    def keep_for(self, orphan):
        """The client has gone: ``orphan.received(data, now_ns)`` is called with what comes, ``orphan.ended()`` at the end."""
        self.orphan = orphan
        self.open = False
        self.peer = None
        self.release_reading(HOLD_PEER_FULL)

    cdef _early(self, Py_ssize_t n, int64_t now):
        if self.orphan is not None:
            self.orphan.received(PyBytes_FromStringAndSize(self.buffer.start, n), now)
            return
        if self.session is None:
            if self.on_bytes is not None:
                self.on_bytes(PyBytes_FromStringAndSize(self.buffer.start, n))
            return
        if self.session.on_backend_bytes(self.buffer.start, n, now) != EDITED:
            self.early += PyBytes_FromStringAndSize(self.buffer.start, n)
        else:
            self.early += b"".join(self.session.to_client)
        if len(self.early) > EARLY_BYTES:
            self.abort()
        self._prelude_done()

    cdef _unadopted_end(self):
        if self.on_bytes is not None:
            on_bytes, self.on_bytes = self.on_bytes, None
            on_bytes(b"")

    cdef _prelude_done(self):
        if self.on_prelude is not None and (not self.session.prelude_pending or self.session.failure is not None
                                            or self.early_eof or self.lost):
            on_prelude, self.on_prelude = self.on_prelude, None
            on_prelude()

    def flush_early(self):
        """The client's end takes bytes: pass on what came before it."""
        if self.peer is None:
            return                      # it has gone already
        self.open = True
        if self.early:
            self.peer.write(self.early)
            self.early = b""
        if self.early_eof or self.lost:
            self._ended()

    cdef _at_boundary(self):
        """While shunt is being stopped: close the client as soon as it stands at a command boundary."""
        if self.session.quiet and self.peer is not None:
            self.peer.close()

    def eof_received(self):
        self.eof_received_ = True
        self.early_eof = True
        self._prelude_done()
        self._unadopted_end()
        self._ended()
        return False

    def connection_lost(self, exc):
        self.mark_lost()
        orphan, self.orphan = self.orphan, None
        if orphan is not None:
            orphan.ended()
        self._prelude_done()
        self._unadopted_end()
        self._ended()

    cdef _ended(self):
        """Its client ends too, after the bytes that came before, unless somebody takes it along."""
        if self.open and self.peer is not None and (self.peer.rider is None or not self.peer.rider.broke(self.peer)):
            self.peer.close()
