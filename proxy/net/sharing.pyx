# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The two ends of a connection where clients share backend connections: hops 1, 4, 5 and 6 of ``--pool shared``.

Knows: whose commands went out in what order over a shared connection (a *trunk*), and that nothing of a client that has
gone is sent any more. Refuses to know: which commands may share one (``engine.pooled``), and how connections are had
and kept (``pool``).

A trunk writes once per turn of the loop, however many clients' commands came in with it: at pipeline 1 and 50 clients
that is half of session mode's system calls. Each client's run of replies is written before it is looked at any closer.

What a trunk's socket does not take stays here, not in the transport, so that the commands of a client that leaves can
still be taken out. Only the rest of a command that is partly sent is left to the transport.
"""
# Over 300 lines: trunk, private connection and client call each other on every read; C calls between them want one module.
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcmp, memcpy, memmove, memset
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF

import select

from protocol cimport keyspecs as ks
from protocol.resp cimport SCAN_BAD, SCAN_DONE, SCAN_MORE, ReplyScan, ScanResult, scan_reply
from proxy.engine.inflight cimport MODE_STAND_IN, Entry
from proxy.engine.pooled cimport PooledSession
from proxy.engine.session cimport EDITED
from proxy.net.backend cimport Backend
from proxy.net.client cimport Client
from proxy.net.endpoint cimport (
    HOLD_GATE, HOLD_OWN_FULL, HOLD_PEER_FULL, HOLD_POOL, HOLD_TRUNK, UNSENT, Endpoint, monotonic_ns,
)

from proxy.engine import access as access_module
from proxy.net.endpoint import HIGH_WATER

cdef extern from "<sys/socket.h>" nogil:
    ssize_t c_send "send"(int fd, const void *p, size_t n, int flags)
    int MSG_DONTWAIT, MSG_NOSIGNAL

cdef enum:
    CUTS = 128                  # replies cut before they are delivered and noted
    BUSY = 16384                # Redis reads so much of a connection at once; what is more waits for its next turn
    BACKLOG = 262144            # bytes that wait for a trunk's socket; beyond it their clients are not read
    SMALL_OUT = 1048576         # an empty buffer larger than this is given back
    PATIENCE_NS = 500000000     # a client that has waited longer may have given up: Sidekiq's shortest timeout is 1 s
    AHEAD = 65536               # commands of one client in flight on a trunk; beyond it that client is not read

cdef Cut[CUTS] cutting          # of the read under way: one worker, one loop, one read at a time

#: What EXEC's error may begin with when the transaction is surely over. Any other error leaves that open.
OVER = (b"-EXECABORT", b"-ERR", b"-CROSSSLOT", b"-MOVED", b"-ASK", b"-TRYAGAIN", b"-CLUSTERDOWN")


cdef class Trunk(Endpoint):
    """One shared backend connection. ``key``: what its clients have in common; ``pool``: ``pool.Pool``."""

    def __init__(self, session, buffer, traffic, pool, key):
        self.pool = pool
        self.recorder = pool.recorder
        self.key = key
        self.held = []

    def __dealloc__(self):
        cdef Py_ssize_t i
        for i in range(self.waiting):
            if self._span(i).client != NULL:
                Py_DECREF(<object>self._span(i).client)
        free(self.spans)
        free(self.out)

    @property
    def usable(self):
        """Whether commands may be given to it."""
        return self.failure is None and not self.lost and not self.closing

    @property
    def busy(self):
        """Whether another one would serve a client sooner."""
        return self.full or self.streaming or self.out_length > BUSY

    # ---- what goes out ------------------------------------------------------------------------------------------------

    def introduce(self, commands):
        """Send these commands of shunt's own first, and swallow their replies."""
        data = b"".join(access_module.encode(args) for args in commands)
        if commands:
            self._store(PyBytes_AS_STRING(data), len(data))
            self._push(None, len(data), len(commands))

    def connection_made(self, transport):
        Endpoint.connection_made(self, transport)
        # To be told when the last byte has gone. uvloop's TLS pauses from the limit on, be that 0, and with nothing to
        # write: a trunk would wait for ever for the end of a pause without bytes.
        transport.set_write_buffer_limits(1 if self.secure else 0, 0)
        self.used_ns = monotonic_ns()
        self.ready = True
        self.schedule()

    cdef Span *_span(self, Py_ssize_t i) noexcept nogil:
        return &self.spans[(self.head + i) & (self.capacity - 1)]

    cdef int _push(self, PooledClient client, Py_ssize_t n, int replies) except -1:
        """The last n bytes of ``out`` are this client's."""
        cdef Span *span
        cdef Span *grown
        cdef Py_ssize_t i, capacity
        cdef int64_t end = self.out_begin + self.out_length
        if self.waiting:
            span = self._span(self.waiting - 1)
            if span.client == <PyObject *>client and client is not None and span.begin >= self.out_begin:
                span.end = end
                span.replies += replies
                return 0
        if self.waiting == self.capacity:
            capacity = self.capacity * 2 if self.capacity else 64
            grown = <Span *>malloc(capacity * sizeof(Span))
            if grown == NULL:
                raise MemoryError
            for i in range(self.waiting):
                grown[i] = self._span(i)[0]
            free(self.spans)
            self.spans = grown
            self.capacity = capacity
            self.head = 0
        self.waiting += 1
        span = self._span(self.waiting - 1)
        span.client = NULL if client is None else <PyObject *>client
        if client is not None:
            Py_INCREF(client)
        span.begin = end - n
        span.end = end
        span.replies = replies
        return 0

    cdef int _pop(self) except -1:
        cdef PyObject *client = self.spans[self.head].client
        self.head = (self.head + 1) & (self.capacity - 1)
        self.waiting -= 1
        if client != NULL:
            Py_DECREF(<object>client)
        return 0

    cdef int _store(self, const char *p, Py_ssize_t n) except -1:
        cdef Py_ssize_t capacity = self.out_capacity if self.out_capacity else 4096
        cdef char *grown
        while capacity < self.out_length + n:
            capacity *= 2
        if capacity != self.out_capacity:
            grown = <char *>realloc(self.out, capacity)
            if grown == NULL:
                raise MemoryError
            self.out = grown
            self.out_capacity = capacity
        memcpy(self.out + self.out_length, p, n)
        self.out_length += n
        return 0

    cdef int submit(self, PooledClient client, const char *p, Py_ssize_t n, int replies) except -1:
        """Send whole commands of one client at the end of this turn of the loop. p is free on return."""
        self._store(p, n)
        self._push(client, n, replies)
        if not self.scheduled:
            self.schedule()
        if self.out_length > BACKLOG and not client.read_holds & HOLD_TRUNK:
            client.hold_reading(HOLD_TRUNK)
            self.held.append(client)
        return 0

    cdef int schedule(self) except -1:
        self.scheduled = True
        self.pool.call_soon(self.flush)
        return 0

    def flush(self):
        """Write what the clients gave since the last turn."""
        self.scheduled = False
        if self.ready and not self.full and not self.lost and not self.closing and self.out_length:
            self._send_more()

    cdef int _send_more(self) except -1:
        cdef ssize_t done = 0
        cdef Py_ssize_t i = 0, upto
        cdef bytes rest
        self.used_ns = monotonic_ns()
        if self.fd >= 0:
            done = c_send(self.fd, self.out, self.out_length, MSG_DONTWAIT | MSG_NOSIGNAL)
            if done < 0:
                done = 0            # EAGAIN, or an error that the transport meets and reports
        upto = self.out_length
        if self.fd >= 0 and done < self.out_length:
            while self._span(i).end <= self.out_begin + done:
                i += 1
            upto = <Py_ssize_t>(self._span(i).end - self.out_begin)
        rest = PyBytes_FromStringAndSize(self.out + done, upto - done) if done < upto else None
        self.out_begin += upto
        self.out_length -= upto
        if self.out_length:
            memmove(self.out, self.out + upto, self.out_length)
        if rest is not None:            # last: a TLS transport may call resume_writing, and so this, from within
            self.full = True
            self.transport.write(rest)
            self.full = self.transport.get_write_buffer_size() > 0
        if self.out_length:
            if not self.full and not self.scheduled:
                self.schedule()
            return 0
        if self.out_capacity > SMALL_OUT:
            free(self.out)
            self.out = NULL
            self.out_capacity = 0
        if self.held:
            self._read_again()
        return 0

    def _read_again(self):
        held, self.held = self.held, []
        for client in held:
            client.release_reading(HOLD_TRUNK)

    def pause_writing(self):
        self.full = self.transport.get_write_buffer_size() > 0

    def resume_writing(self):
        self.full = False
        self.flush()

    cdef int forget(self, PooledClient client) except -1:
        """A client has gone: what has not been sent of it never will be; replies to the rest are nobody's."""
        cdef Py_ssize_t i, kept = 0
        cdef int64_t cut = 0, size
        cdef Span span
        if self.out_length == 0:
            return 0
        for i in range(self.waiting):
            span = self._span(i)[0]
            size = span.end - span.begin
            if span.client == <PyObject *>client and span.begin >= self.out_begin:
                memmove(self.out + (span.begin - cut - self.out_begin), self.out + (span.end - cut - self.out_begin),
                        self.out_length - (span.end - cut - self.out_begin))
                self.out_length -= size
                cut += size
                Py_DECREF(client)
                continue
            if span.begin >= self.out_begin:
                span.begin -= cut
                span.end -= cut
            self._span(kept)[0] = span
            kept += 1
        self.waiting = kept
        return 0

    def owed(self, PooledClient client not None):
        """How many replies are still due to what was sent for this client."""
        cdef Py_ssize_t i
        cdef int64_t replies = 0
        for i in range(self.waiting):
            if self._span(i).client == <PyObject *>client:
                replies += self._span(i).replies
        return replies

    # ---- what comes in ------------------------------------------------------------------------------------------------

    def buffer_updated(self, Py_ssize_t n):
        cdef int64_t now = monotonic_ns()
        cdef const char *p = self.buffer.start
        cdef Py_ssize_t at = 0
        cdef Span *span
        while at < n and not self.closing:
            span = NULL if self.waiting == 0 else self._span(0)
            if span != NULL and span.begin >= self.out_begin:
                span = NULL             # it has not been sent: this answers nobody
            if span == NULL or span.client == NULL or self.scan.started:
                at += self._own(p + at, n - at, span != NULL and span.client == NULL)
            elif p[at] == b'>' and not (<PooledClient>span.client).pooled.scan.started:
                at += self._own(p + at, n - at, False)      # a push on a connection that asked for none
            else:
                at += self._serve(span, p + at, n - at, now)
        self.recorder.check_full()

    cdef Py_ssize_t _own(self, const char *p, Py_ssize_t n, bint swallow) except -1:
        """One frame that is no client's: a reply to shunt itself, a push, or a word that nobody asked for."""
        cdef Py_ssize_t used = 0
        cdef ScanResult result
        cdef bint whole = not self.scan.started
        result = scan_reply(&self.scan, p, n, &used)
        if result == SCAN_MORE:
            return n
        if result == SCAN_BAD or self.scan.kind == b'-' or not (swallow or self.scan.kind == b'>'):
            self.failure = "it answers in no RESP"
            if result != SCAN_BAD and whole:
                self.failure = p[1:used - 2].decode("utf-8", "replace").split("\r")[0]
            self.abort()
            return n
        if swallow and self.scan.kind != b'>':
            self._span(0).replies -= 1
            if self._span(0).replies == 0:
                self._pop()
        memset(&self.scan, 0, sizeof(ReplyScan))
        return used

    cdef Py_ssize_t _serve(self, Span *span, const char *p, Py_ssize_t n, int64_t now_ns) except -1:
        """As many replies as there are for the oldest client: to the client first, then noted. How many bytes."""
        cdef PooledClient client = <PooledClient>span.client
        cdef PooledSession session = client.pooled
        cdef Py_ssize_t at = 0, used = 0, cuts = 0, most = span.replies
        cdef ScanResult result = SCAN_DONE
        cdef ReplyScan rest
        cdef bint begun = session.reply_begun()
        if most > CUTS:
            most = CUTS
        if session.splices:
            most = 1                # an answer of shunt's own may come between two of these
            if session.queue.count and session.queue.head().mode == MODE_STAND_IN:
                return self._serve_instead(span, p, n, now_ns)
        while at < n and cuts < most:
            if p[at] == b'>' and not session.scan.started:
                break
            result = scan_reply(&session.scan, p + at, n - at, &used)
            if result == SCAN_MORE:
                used = n - at
                break
            if result == SCAN_BAD:
                self.failure = "it answers in no RESP"
                self.abort()
                return n
            cutting[cuts].at = at
            cutting[cuts].used = used
            cutting[cuts].scan = session.scan
            memset(&session.scan, 0, sizeof(ReplyScan))
            at += used
            cuts += 1
        if client.deliver(p, n if result == SCAN_MORE else at) == UNSENT:
            session.lose_client(begun)
        span.replies -= <int>cuts
        if span.replies == 0:
            self._pop()             # client stays: the local name holds it
        rest = session.scan
        if not client.lost or client.orphan is not None:
            self._settle(client, p, cuts, now_ns)
        session.scan = rest
        self.streaming = result == SCAN_MORE
        if result == SCAN_MORE:
            if not client.lost or client.orphan is not None:
                session._stash(p + at, n - at)
            return n
        if not client.lost and cuts and session.salvage is None:
            client.settled(now_ns)
        elif client.orphan is not None:
            client.orphan.look(now_ns)
        return at

    cdef Py_ssize_t _serve_instead(self, Span *span, const char *p, Py_ssize_t n, int64_t now_ns) except -1:
        """The reply to what was sent in the place of a refused command (``engine.rehearsed``). How many bytes."""
        cdef PooledClient client = <PooledClient>span.client
        cdef PooledSession session = client.pooled
        cdef Py_ssize_t used = 0
        cdef ScanResult result = scan_reply(&session.scan, p, n, &used)
        self.streaming = result == SCAN_MORE
        if result == SCAN_BAD:
            self.failure = "it answers in no RESP"
            self.abort()
            return n
        if result == SCAN_MORE:
            session._stash(p, n)
            return n
        span.replies -= 1
        if span.replies == 0:
            self._pop()             # client stays: the local name holds it
        session.to_client = []
        session._swallowed(p, used, now_ns)
        memset(&session.scan, 0, sizeof(ReplyScan))
        client.send_all(session.to_client)
        client.settled(now_ns)
        return used

    cdef int _settle(self, PooledClient client, const char *p, Py_ssize_t cuts, int64_t now_ns) except -1:
        cdef PooledSession session = client.pooled
        cdef Py_ssize_t i
        cdef Entry *head
        cdef bytes word
        for i in range(cuts):
            head = session.queue.head()
            if head != NULL and head.spec != NULL and head.spec.kind == ks.KIND_EXEC and cutting[i].scan.kind == b'-':
                word = p[cutting[i].at:cutting[i].at + min(cutting[i].used, 32)]
                if session.stash_length or not word.startswith(OVER):
                    self.failure = "EXEC failed in a way that may leave its transaction open"
                    self.abort()
            session.scan = cutting[i].scan
            session._frame(p + cutting[i].at, cutting[i].used, now_ns)
        return 0

    # ---- ending -------------------------------------------------------------------------------------------------------

    def eof_received(self):
        return False

    def connection_lost(self, exc):
        self.mark_lost()
        self.fail(self.failure or "it closed the connection")
        self.pool.trunk_lost(self)

    def fail(self, str why, bytes reply=None):
        """It can't be used (any more): close the clients that have commands in flight on it, after ``reply``."""
        cdef PooledClient client
        self.failure = why
        while self.waiting:
            if self._span(0).client != NULL:
                client = <PooledClient>self._span(0).client
                if reply is not None and not client.closing:
                    client.write(reply)
                client.close()
                if client.orphan is not None:
                    client.orphan.ended()
            self._pop()
        self._read_again()


cdef class PrivateBackend(Backend):
    """A backend connection that belongs to one client at a time. ``state``: as a client's ``key``; None: not yet known."""

    def __init__(self, session, buffer, traffic, pool, state):
        self.early = b""
        self.open = True
        self.pool = pool
        self.state = state

    @property
    def usable(self):
        """Whether another client may have it."""
        return not (self.lost or self.closing or self.eof_sent or self.eof_received_)

    def give(self, state):
        """Nobody's any more; ``state``: what it is like now."""
        self.state = state
        self.session = None
        self.peer = None
        self.release_reading(HOLD_PEER_FULL)

    def retire(self):
        """End it so that Redis' own end is seen: only then it is surely none of Redis' clients any more.

        What waits to be sent is the exception: it must not be sent, so the connection is broken off.
        """
        self.session = None
        self.peer = None
        if self.lost or self.closing or self.fd < 0 or self.transport.get_write_buffer_size():
            self.abort()
            return
        self.release_reading(HOLD_PEER_FULL)
        if not self.eof_sent:
            self.eof_sent = True
            self.transport.write_eof()

    def buffer_updated(self, Py_ssize_t n):
        if self.orphan is not None:
            Backend.buffer_updated(self, n)
            return
        if self.peer is None or self.session is None:
            if self.on_bytes is not None:
                self.on_bytes(PyBytes_FromStringAndSize(self.buffer.start, n))
            elif not self.eof_sent:
                self.abort()            # it speaks, and nobody asked it
            return
        client = self.peer
        Backend.buffer_updated(self, n)
        if client.session.failure is not None:
            self.pool.refused(client.session.failure)
        elif not client.lost and client.session.salvage is None:    # else it is about to be lost
            (<PooledClient>client).settled(monotonic_ns())

    def connection_lost(self, exc):
        Backend.connection_lost(self, exc)
        self.pool.private_lost(self)


cdef class PooledClient(Client):
    """A client that shares. ``pool``: ``pool.Pool``."""

    def __init__(self, session, buffer, traffic, on_made, on_lost, pool):
        self.on_made = on_made
        self.on_lost = on_lost
        self.pooled = session
        self.pool = pool
        self.recorder = pool.recorder

    # ---- from the client ----------------------------------------------------------------------------------------------

    def buffer_updated(self, Py_ssize_t n):
        if self.read_holds & HOLD_GATE:
            self.overtaken(n)
            return
        self.last_ns = monotonic_ns()
        self.traffic.client_rx += n
        self._take(self.buffer.start, n)
        self.recorder.check_full()

    cdef int _take(self, const char *p, Py_ssize_t n) except -1:
        cdef PooledSession session = self.pooled
        cdef bytes data
        if n == 0 and session.held is None:
            return self._go_on()
        if session.on_client_bytes(p, n, self.last_ns) != EDITED:
            if session.private:
                self.peer.send(p, n)
                if session.queue.count == 0:
                    self._go_on()           # CLIENT REPLY: nothing will come that could tell
            else:
                self._choose()
                self.trunk.submit(self, p, n, session.due)
        else:
            if session.to_backend:
                if session.private:
                    self.peer.send_all(session.to_backend)
                else:
                    self._choose()
                    data = b"".join(session.to_backend)
                    self.trunk.submit(self, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), session.due)
            if session.to_client:
                self.send_all(session.to_client)
                if self.queued:
                    self._check_full()
            if not session.authenticated and self.queued and self.transport.get_write_buffer_size() > HIGH_WATER:
                self.hold_reading(HOLD_OWN_FULL)    # who has no password yet can't have answers piled up for it
            self._go_on()
        if session.queue.count > AHEAD and not session.private:
            self.hold_reading(HOLD_POOL)
        return 0

    cdef int _choose(self) except -1:
        """The trunk for what was just taken in: the same as before, while anything is in flight there."""
        cdef Trunk trunk = self.trunk
        if trunk is None or trunk.failure is not None or trunk.lost or trunk.closing or (
                self.pooled.queue.count == self.pooled.due
                and (not trunk.first or trunk.full or trunk.streaming or trunk.out_length > BUSY)):
            self.trunk = self.pool.trunk(self.pooled.key())
        return 0

    cdef int _go_on(self) except -1:
        """Whatever is due now that it was not when the bytes came: a lease, the rest of a read, the end."""
        cdef PooledSession session = self.pooled
        if session.reset:
            backend, self.peer = self.peer, None
            session.released()
            self.trunk = None
            if backend is not None:
                self.pool.retire(backend)   # it is as it was, and RESET has been answered
            self._read_on()
            return self._take(NULL, 0)
        if session.queue.count == 0 and not self.waiting:
            if session.close_after:
                self.close()
            elif session.wants_private:
                self.waiting = True
                self.pool.lease(self)
            elif self.half_closed and (not session.private or session.neutral()):
                self.close()
            elif session.private:
                if session.neutral():
                    self._give_back()
            elif not session.stopped:
                self._read_on()
        if session.stopped:
            self.hold_reading(HOLD_POOL)
            if self.held_ns == 0:
                self.held_ns = monotonic_ns()
        return 0

    cdef int settled(self, int64_t now_ns) except -1:
        """Replies have passed: answers of shunt's own may be due, and what waited for them."""
        cdef PooledSession session = self.pooled
        cdef list answers
        if session.splices and not session.private:
            answers = []
            session._run_locals(answers, now_ns)
            if answers:
                self.send_all(answers)
                if self.queued:
                    self._check_full()
        if session.queue.count == 0 or session.reset:
            if session.draining and session.quiet and not self.closing:
                self.close()
                return 0
            self._go_on()
        return 0

    # ---- a connection of its own ----------------------------------------------------------------------------------------

    def leased(self, PrivateBackend backend not None, list commands):
        """A private connection is there; it must be told ``commands`` first to be as this client left its state."""
        cdef PooledSession session = self.pooled
        self.waiting = False
        if self.lost or self.closing or self._has_left():
            self.pool.give_back(backend, backend.state)
            if not self.lost:
                self.abort()            # it will try again; what it sent before must not run too
            return
        backend.session = session
        self.attach(backend)
        if self.full:
            backend.hold_reading(HOLD_PEER_FULL)
        session.leased(len(commands))
        if commands:
            backend.write(b"".join(access_module.encode(args) for args in commands))
        self._read_on()
        self._take(NULL, 0)
        if self.half_closed and self.peer is not None:
            self.peer.send_eof()

    def move(self, Backend backend not None):
        """It has a connection of its own, and stands at a command boundary: this one carries what it sends from now on."""
        cdef PrivateBackend old = self.peer
        self.peer = None
        self.pool.retire(old)
        backend.adopt(self.session)
        self.attach(backend)
        if self.full:
            backend.hold_reading(HOLD_PEER_FULL)
        if self.half_closed:
            backend.send_eof()

    def not_leased(self, bytes reply):
        """No connection is to be had: ``reply`` says so; None: the backend is down, and the client is closed."""
        self.waiting = False
        if self.lost or self.closing:
            return
        if reply is None:
            self.close()
            return
        self.pooled.refuse_private(reply, monotonic_ns())
        self.send_all(self.pooled.to_client)
        if self.pooled.close_after:
            self.close()
            return
        self._read_on()
        self._take(NULL, 0)

    cdef int _read_on(self) except -1:
        """It waits for nothing any more: read it again, from the next turn of the loop on."""
        if self.read_holds & HOLD_POOL:
            self.release_reading(HOLD_POOL)
        self.held_ns = 0
        return 0

    cdef int _give_back(self) except -1:
        cdef PrivateBackend backend = self.peer
        cdef PooledSession session = self.pooled
        self.peer = None
        session.released()
        key = session.key()
        if self.trunk is not None and self.trunk.key != key:
            self.trunk = None
        self.pool.give_back(backend, key)
        return 0

    def _has_left(self):
        """Whether the client has closed its side while it was not being read: its reader was not told.

        Asked only after a wait that may have been too long for it. A client that sends all and closes its side at
        once, as ``printf … | nc`` does, may have its answers.
        """
        if self.held_ns == 0 or monotonic_ns() - self.held_ns < PATIENCE_NS:
            return False
        poll = select.poll()
        sock = self.transport.get_extra_info("socket")
        try:
            poll.register(sock.fileno(), select.POLLRDHUP)
            return bool(poll.poll(0))
        except (OSError, ValueError, AttributeError):
            return True

    # ---- to the client --------------------------------------------------------------------------------------------------

    cdef int deliver(self, const char *p, Py_ssize_t n) except -1:
        cdef int outcome
        if n == 0:
            return 0
        if self.lost:
            return UNSENT
        self.traffic.client_tx += n
        outcome = self.send(p, n)
        if self.queued:
            self._check_full()
        return outcome

    cdef int _check_full(self) except -1:
        """A client that does not read what it asked for is closed before it costs the others."""
        if not self.closing and self.transport.get_write_buffer_size() > self.pool.client_buffer:
            self.pool.overflowed += 1
            self.abort()
        return 0

    def pause_writing(self):
        self.full = True
        if self.peer is not None:
            self.peer.hold_reading(HOLD_PEER_FULL)

    def resume_writing(self):
        self.full = False
        if self.peer is not None:
            self.peer.release_reading(HOLD_PEER_FULL)
        self.release_reading(HOLD_OWN_FULL)

    # ---- ending ---------------------------------------------------------------------------------------------------------

    def eof_received(self):
        self.eof_received_ = True
        self.pooled.client_gone = True
        if self.secure:
            return False
        self.half_closed = True
        if self.peer is not None:
            self.peer.send_eof()
        elif self.pooled.queue.count == 0 and not self.waiting:
            return False                # nothing is owed to it
        return True

    def connection_lost(self, exc):
        self.mark_lost()
        self.pooled.lose_client(self.pooled.reply_begun())
        if self.trunk is not None:
            self.trunk.forget(self)
        if self.waiting:
            self.pool.give_up(self)
        backend = self.peer
        if not self.on_lost(self) and backend is not None:
            self.pool.retire(backend)

    def send_own(self, bytes data, int replies):
        """Send a command of shunt's own over the trunk, as if it were this client's."""
        self.trunk.submit(self, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), replies)
