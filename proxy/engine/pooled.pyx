# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""A session whose commands share backend connections as long as its state is neutral (``--pool shared``).

Knows: which commands any neutral connection answers alike, and where a client must stop because it needs a connection
of its own, or because nothing may overtake what it sent before. Refuses to know: connections (``net``), what each command
does to one, and shunt's own answers (``pooling``).

Two phases. *Shared*: what it sends goes over a connection that others use too; whole commands only, so that nobody else's
bytes fall between. *Private*: a connection carries its commands alone, as in session mode, from the first command
that needs it until nothing is in flight and the state is neutral again. Between the two it stops: what was read and
not taken in stays in ``held``.
"""
# Over 300 lines: one client's way through its phases; C methods of one class can't be spread over files.
from libc.stdint cimport int64_t, uint8_t
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE

from protocol cimport keyspecs as ks
from protocol.inline import split_inline
from protocol.keyspecs cimport Spec
from protocol.resp cimport (
    MAX_ARGS, SCAN_BAD, SCAN_DONE, SCAN_EMPTY, SCAN_INLINE, SCAN_MORE, SCAN_TOO_BIG,
    PartialCommand, Scan, ScanResult, scan_command,
)
from proxy.engine.inflight cimport MODE_CHANNELS, MODE_SWALLOW, Entry
from proxy.engine.recorder cimport F_INLINE, R_ERROR, SLOT_NONE, Recorder, Reply
from proxy.engine.session cimport EDITED, FORWARD, Session

from proxy.engine import access as access_module, pooling
from proxy.engine.session import TOO_BIG

cdef enum:
    HELD_MAX = 65536            # bytes of an unfinished command that wait here; a larger one streams through
    UNTRUSTED_MAX = 131072      # the same of a client that has not authenticated
    STOP = -1

cdef bytes UNREADABLE = b"-ERR Protocol error\r\n"
cdef bytes UNAUTHENTICATED_ARGS = b"-ERR Protocol error: unauthenticated multibulk length\r\n"
cdef bytes UNAUTHENTICATED_BULK = b"-ERR Protocol error: unauthenticated bulk length\r\n"
cdef bytes AUTH_IN_MULTI = b"*1\r\n$4\r\nAUTH\r\n"      # Redis refuses it by its arity and aborts the transaction

for _way, _number in (("SHARED", WAY_SHARED), ("BLOCKS", WAY_BLOCKS), ("PRIVATE", WAY_PRIVATE),
                      ("PINNED", WAY_PINNED), ("LOCAL", WAY_LOCAL), ("REFUSED", WAY_REFUSED)):
    if pooling.Way[_way] != _number:
        raise ImportError(f"engine.pooling and engine.pooled disagree about Way.{_way}")


cdef class PooledSession(Session):

    def __init__(self, Recorder recorder, bytes addr, access, tables, int64_t first_id):
        self.ways = tables.ways
        self.in_piece = tables.in_piece
        self.access = access
        self.person = pooling.Person(first_id + self.caller.conn, addr.decode("utf-8", "replace"))
        self.authenticated = access is None or not access.protected
        if access is not None:
            self.caller.db = self.home_db = access.db
        self.changes = {}

    def admit(self, access):
        """What the URLs say from now on."""
        self.access = access

    @property
    def access_now(self):
        """What the URLs say; None: nothing."""
        return self.access

    @property
    def trusted(self):
        """Whether the client has authenticated, or need not."""
        return bool(self.authenticated)

    @property
    def is_neutral(self):
        return self.neutral()

    @property
    def keeps_private(self):
        """Whether it will need its private connection still when nothing is in flight any more."""
        return bool(self.private and (
            self.watch_txn or self.channels + self.patterns + self.shards or self.monitor or self.tracking or self.pinned))

    def key(self):
        return bool(self.resp3), self.caller.db, self.creds

    def settings(self, int64_t home):
        """As a Session's, but for its name: that is kept here, and the connection may be another client's later."""
        return [command for command in Session.settings(self, home) if command[:2] != [b"CLIENT", b"SETNAME"]]

    def moved(self, int64_t backend_id, int64_t home):
        """As a Session's. The new connection is not the client's for good, and knows nothing of what it wrote before."""
        Session.moved(self, -1, home)
        if self.wrote_private:
            self.wrote_private, self.wrote_shared = False, True

    cdef bint neutral(self) noexcept:
        return (self.queue.count == 0 and self.partial is None and not self.in_multi and not self.multi
                and self.watch_txn == 0 and self.channels + self.patterns + self.shards == 0 and not self.monitor
                and not self.reply_off and not self.skip_now and not self.skip_next and self.tracking == 0
                and not self.pinned and not self.unheard and not self.up_pipe and not self.down_pipe and not self.close_after
                and self.scan.bytes == 0)

    cdef int leased(self, Py_ssize_t prelude) except -1:
        """A private connection is there; it was told ``prelude`` commands first, whose replies are not the client's."""
        cdef Entry *entry
        for _ in range(prelude):
            entry = self.queue.push()
            if entry == NULL:
                raise MemoryError
            entry.mode = MODE_SWALLOW
            entry.slot = SLOT_NONE
            self.splices += 1
        self.private = True
        self.wants_private = self.stopped = False
        self.wrote_private = False
        return 0

    cdef int released(self) except -1:
        """The private connection was given back, or closed."""
        if self.private and self.wrote_private:
            self.wrote_shared = True        # a later connection knows nothing of that write's offset
        self.private = self.reset = False
        return 0

    def refuse_private(self, bytes reply, int64_t now_ns):
        cdef bytes data = self.held
        cdef Py_ssize_t used
        cdef Scan scan
        cdef list args
        self.wants_private = self.stopped = False
        self.to_client = []
        self.to_backend = []
        if self.blocks and scan_command(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), self.recorder.argv,
                                        self.recorder.max_frame, &scan) == SCAN_DONE:
            args = [PyBytes_FromStringAndSize(self.recorder.argv[i].ptr, self.recorder.argv[i].kept)
                    for i in range(scan.kept)]
            self.held = data[scan.used:] or None
            self._load(args)
            self._answer_noted(reply, args, scan.used, 0, now_ns)
            return False
        self.held = None
        self.close_after = True             # what it sends next would run without what it asked for
        self._answer(reply, now_ns)
        return True

    # ---- from the client ----------------------------------------------------------------------------------------------

    cdef int on_client_bytes(self, const char *p, Py_ssize_t n, int64_t now_ns) except -1:
        """As a Session's, with ``due`` replies to come over the shared connection; what must wait stays in ``held``."""
        cdef Py_ssize_t at
        cdef bytes data = None
        self.due = 0
        if self.close_after or self.stopped:
            return self._while_stopped(p, n)
        if self.held is not None:
            data = self.held + PyBytes_FromStringAndSize(p, n) if n else self.held
            self.held = None
            p = PyBytes_AS_STRING(data)
            n = PyBytes_GET_SIZE(data)
        self.piece_end = self.seg = 0
        at = self._run(p, n, 0, now_ns)
        if at == n and data is None:
            return FORWARD
        self.to_backend = []
        self.to_client = []
        while at < n:
            at = self._one(p, n, at, now_ns)
            if at == STOP:
                return EDITED
            at = self._run(p, n, at, now_ns)
        return self._emit(p, n)

    cdef int _while_stopped(self, const char *p, Py_ssize_t n) except -1:
        self.to_backend = []
        self.to_client = []
        if not self.close_after and n:
            self.held = PyBytes_FromStringAndSize(p, n) if self.held is None else self.held + p[:n]
        return EDITED

    cdef Py_ssize_t _run(self, const char *p, Py_ssize_t n, Py_ssize_t at, int64_t now_ns) noexcept:
        """Take in commands from ``at`` on while they go the usual way; where the first one begins that doesn't."""
        cdef Scan scan
        cdef const Spec *spec
        cdef int way
        if self.up_pipe and self.private:
            return n
        if self.partial is not None or not self.authenticated:
            return at
        while at < n and not self.up_pipe:
            if scan_command(p + at, n - at, self.recorder.argv, self.recorder.max_frame, &scan) != SCAN_DONE:
                return at
            spec = self.recorder.table.lookup(self.recorder.argv, scan.kept)
            if spec == NULL:
                return at
            if at >= self.piece_end:
                way = self._way(spec, scan.argc, scan.kept)
                if way != WAY_SHARED and not (way == WAY_PRIVATE and self.private and spec.kind == ks.KIND_PLAIN):
                    return at
            if spec.flags & ks.TRAIT_WRITE:
                self.wrote_private = self.private
                self.wrote_shared = not self.private
            self.recorder.found = spec
            self._command(scan.argc, scan.kept, scan.used, 0, now_ns)
            self.recorder.found = NULL
            self.due += 1
            at += scan.used
        return n if self.up_pipe else at

    cdef int _way(self, const Spec *spec, Py_ssize_t argc, Py_ssize_t kept) noexcept:
        cdef int way = (<const uint8_t *>PyBytes_AS_STRING(self.ways))[spec.id]
        if way != WAY_BLOCKS:
            return way
        return WAY_PRIVATE if ks.may_block(spec, self.recorder.argv, argc, kept) else WAY_SHARED

    cdef Py_ssize_t _one(self, const char *p, Py_ssize_t n, Py_ssize_t at, int64_t now_ns) except -2:
        """Deal with one command that does not go the usual way. Where the next begins, or STOP: the rest is held."""
        cdef Py_ssize_t used
        cdef Scan scan
        cdef ScanResult result
        if self.partial is not None:
            result = self.partial.feed(p + at, n - at, &used)
            if result == SCAN_MORE:
                return n
            if result == SCAN_TOO_BIG:
                return self._turn_away(TOO_BIG, now_ns)
            self._unusual(result, p + at, used, now_ns)
            return at + used
        result = scan_command(p + at, n - at, self.recorder.argv, self.recorder.max_frame, &scan)
        if result == SCAN_DONE:
            return self._dispatch(p, n, at, scan.used, scan.argc, scan.kept, False, now_ns)
        if result == SCAN_MORE:
            return self._unfinished(p, n, at, now_ns)
        if result == SCAN_TOO_BIG:
            self._emit(p, at)
            return self._turn_away(TOO_BIG, now_ns)
        return self._broken(result, p, n, at, &scan, now_ns)

    cdef Py_ssize_t _unfinished(self, const char *p, Py_ssize_t n, Py_ssize_t at, int64_t now_ns) except -2:
        """A command that goes on in the next read waits here; a large one gets a connection, and streams through."""
        cdef PartialCommand start
        cdef Py_ssize_t used
        if not self.authenticated and n - at > UNTRUSTED_MAX:
            return self._turn_away(UNAUTHENTICATED_BULK, now_ns)
        start = PartialCommand()
        start.feed(p + at, n - at, &used)
        if not self.authenticated or (n - at <= HELD_MAX and start.remaining <= HELD_MAX):
            self._emit(p, at)
            self.held = PyBytes_FromStringAndSize(p + at, n - at)
            return STOP
        if start.narg and PyBytes_FromStringAndSize(start.scratch, start.pieces[0].kept).upper() in (
                b"AUTH", b"HELLO", b"RESET", b"QUIT"):
            return self._turn_away(UNREADABLE, now_ns)
        if not self.private:
            return self._stop(p, n, at)
        self.partial = PartialCommand(self.recorder.mode == 2 or self.tap is not None, self.recorder.max_frame)
        return at

    cdef Py_ssize_t _broken(self, ScanResult result, const char *p, Py_ssize_t n, Py_ssize_t at, Scan *scan,
                            int64_t now_ns) except -2:
        """Inline commands, empty ones, and bytes that are none: those Redis must answer, on a private connection."""
        cdef Py_ssize_t i
        cdef list words
        cdef bytes word
        if result == SCAN_INLINE:
            words = split_inline(PyBytes_FromStringAndSize(p + at, scan.used - 1))
            if words:
                self._load(words)       # recorder.argv points into ``words``, which lives until the end of this
                i = self._dispatch(p, n, at, scan.used, len(words), min(len(words), MAX_ARGS), True, now_ns)
                return i
            if words is not None:
                result = SCAN_EMPTY
        if result == SCAN_EMPTY and self.private:
            self._next_skip()           # Redis resets its client here too
            return at + scan.used
        if result == SCAN_EMPTY:
            self._emit(p, at)
            self.seg = at + scan.used
            return self.seg
        if not self.authenticated:
            return self._turn_away(UNREADABLE, now_ns)
        if not self.private:
            return self._stop(p, n, at)
        self._unusual(SCAN_BAD, p + at, scan.used, now_ns)
        return n

    cdef Py_ssize_t _dispatch(self, const char *p, Py_ssize_t n, Py_ssize_t at, Py_ssize_t size, Py_ssize_t argc,
                              Py_ssize_t kept, bint line, int64_t now_ns) except -2:
        """One whole command, in recorder.argv."""
        cdef const Spec *spec = self.recorder.table.lookup(self.recorder.argv, kept)
        cdef int way = WAY_PINNED if spec == NULL else self._way(spec, argc, kept)
        cdef int kind = ks.KIND_PLAIN if spec == NULL else spec.kind
        cdef int flags = F_INLINE if line else 0
        cdef Py_ssize_t end
        cdef bint skips = self.skip_now
        cdef list args = None
        if not self.authenticated or way == WAY_LOCAL or way == WAY_REFUSED or kind == ks.KIND_AUTH \
                or kind == ks.KIND_HELLO or kind == ks.KIND_CLIENT_TRACKING:
            args = [PyBytes_FromStringAndSize(self.recorder.argv[i].ptr, self.recorder.argv[i].kept)
                    for i in range(kept)]
        if (not self.authenticated and kind != ks.KIND_RESET and kind != ks.KIND_QUIT) or (
                (kind == ks.KIND_AUTH or kind == ks.KIND_HELLO) and self.access is not None and self.access.answers):
            forward = self._credentials(args[0].upper(), args, size, flags, now_ns)
            if forward is None:
                self._emit(p, at)
                if skips:
                    self.to_backend.append(access_module.EMPTY)     # for Redis to skip it
                self.seg = at + size
                return STOP if self.close_after else self.seg
            if not self.private:
                self.blocks = False
                return self._stop(p, n, at)
            self._emit(p, at)
            self.to_backend.append(forward)
            self.seg = at + size
            self._load(args)
            self._command(argc, kept, size, flags, now_ns)
            return at + size
        if (kind == ks.KIND_CLIENT_REPLY or kind == ks.KIND_MULTI) and self.private and self._may_listen():
            self.uncounted = True
        if kind == ks.KIND_MONITOR and self.private and self._may_monitor():
            self.uncounted = True                   # Redis does not answer a second one
        if self.in_multi and kind >= ks.KIND_SUBSCRIBE and kind <= ks.KIND_CLIENT_REPLY and self.private:
            self.uncounted = self.pinned = True     # if its MULTI was refused, it has been run already
        if self.uncounted and way >= WAY_LOCAL:
            way = WAY_PINNED
        if way == WAY_LOCAL and not (self.in_multi and kind != ks.KIND_QUIT and kind != ks.KIND_RESET):
            self._emit(p, at)
            return self._local(args, p, n, at, size, flags, now_ns)
        if way == WAY_REFUSED:
            if self.wrote_shared and not self.in_multi and not self.skip_now:
                self._emit(p, at)
                self.seg = at + size
                self._load(args)
                self._answer_noted(pooling.WAIT_REFUSED % args[0].upper(), args, size, flags, now_ns)
                return self.seg
            way = WAY_PRIVATE
        if way != WAY_SHARED and not self.private:
            if kind == ks.KIND_MULTI and not line:
                end = self._piece(p, n, at)
                if end:
                    self.piece_end = end
                    return at
            self.blocks = kind == ks.KIND_PLAIN and way == WAY_PRIVATE or kind == ks.KIND_XREAD
            return self._stop(p, n, at)
        if way == WAY_PINNED or way == WAY_LOCAL or (
                self.in_multi and (kind == ks.KIND_HELLO or kind == ks.KIND_AUTH)):
            self.pinned = True              # what EXEC makes of it is not followed
            if args is not None and self.in_multi and _own_credentials(args) is not None:
                self.lost_track = "it may have logged in inside a transaction"
        if spec != NULL and spec.flags & ks.TRAIT_WRITE:
            self.wrote_private = self.private
            self.wrote_shared = not self.private
        if kind == ks.KIND_AUTH or kind == ks.KIND_HELLO:
            self.changes[self.seq] = _own_credentials(args)
        elif kind == ks.KIND_CLIENT_TRACKING:
            self._note_tracking(args)
        self._command(argc, kept, size, flags, now_ns)
        self.due += 1
        if kind == ks.KIND_RESET and argc == 1 and self.access is not None and self.access.prelude:
            self._emit(p, at + size)        # what the URL says is undone on a connection that nothing can be put in
            self.close_after = True
            return STOP
        return n if self.up_pipe else at + size

    cdef bint _may_listen(self) noexcept:
        """Whether Redis may refuse CLIENT REPLY or MULTI because the client is subscribed in RESP2: no count is sure then."""
        cdef Py_ssize_t i
        cdef Entry *entry
        if self.resp3:
            return False
        for i in range(self.queue.count):
            entry = &self.queue.ring[(self.queue.first + i) & (self.queue.capacity - 1)]
            if entry.mode == MODE_CHANNELS and entry.spec.kind <= ks.KIND_SSUBSCRIBE:
                return True
        return self.channels + self.patterns + self.shards > 0

    cdef bint _may_monitor(self) noexcept:
        """Whether a MONITOR has been sent, as far as is known."""
        cdef Py_ssize_t i
        cdef Entry *entry
        for i in range(self.queue.count):
            entry = &self.queue.ring[(self.queue.first + i) & (self.queue.capacity - 1)]
            if entry.spec != NULL and entry.spec.kind == ks.KIND_MONITOR:
                return True
        return self.monitor

    cdef int _note_tracking(self, list args) except -1:
        """CLIENT TRACKING: from the command on until a good reply to OFF the state is not neutral."""
        if self.in_multi:
            self.pinned = True
        elif len(args) > 2 and args[2].upper() == b"OFF":
            self.changes[self.seq] = False
        else:
            self.tracking = self.seq + 1
        return 0

    cdef Py_ssize_t _piece(self, const char *p, Py_ssize_t n, Py_ssize_t at):
        """The end of the whole transaction that begins at ``at``, if it may go over a shared connection; 0: it may not."""
        cdef Scan scan
        cdef const Spec *spec
        cdef bint first = True
        while at < n:
            if scan_command(p + at, n - at, self.recorder.argv, self.recorder.max_frame, &scan) != SCAN_DONE:
                return 0
            spec = self.recorder.table.lookup(self.recorder.argv, scan.kept)
            if spec == NULL or (first and scan.argc != 1):
                return 0
            at += scan.used
            if spec.kind == ks.KIND_EXEC:
                return at if scan.argc == 1 else 0
            if not first and (spec.kind == ks.KIND_DISCARD or spec.kind == ks.KIND_UNWATCH
                              or not (<const uint8_t *>PyBytes_AS_STRING(self.in_piece))[spec.id]):
                return 0
            first = False
        return 0

    cdef int _emit(self, const char *p, Py_ssize_t upto) except -1:
        """What was passed over goes on as it is, up to ``upto``."""
        if self.seg < upto:
            self.to_backend.append(PyBytes_FromStringAndSize(p + self.seg, upto - self.seg))
        self.seg = upto
        return EDITED

    cdef Py_ssize_t _stop(self, const char *p, Py_ssize_t n, Py_ssize_t at) except -2:
        """The command at ``at`` needs a private connection: it and what follows wait for that."""
        self._emit(p, at)
        self.held = PyBytes_FromStringAndSize(p + at, n - at)
        self.wants_private = self.stopped = True
        return STOP

    cdef Py_ssize_t _turn_away(self, bytes reply, int64_t now_ns) except -2:
        """Say what is wrong, in its turn, and close the client."""
        self.partial = None
        self.close_after = True
        self._answer(reply, now_ns)
        return STOP

    # ---- answers of shunt's own -----------------------------------------------------------------------------------------

    cdef object _credentials(self, bytes name, list args, Py_ssize_t size, int flags, int64_t now_ns):
        """Where shunt says who may speak. None: answered; else the bytes that go to the backend instead."""
        reply = None
        self._load(args)
        if name == b"AUTH" and self.in_multi:
            return AUTH_IN_MULTI
        if name == b"HELLO" and self.in_multi:
            return access_module.without_auth(args)
        if name == b"AUTH":
            reply, ok = self.access.auth(args)
            self.authenticated = self.authenticated or ok
        elif name == b"HELLO":
            answer = self.access.hello(args, self.authenticated)
            if answer.reply is None and not self.private:
                return answer.forward       # asked again when the connection is there
            reply, self.authenticated = answer.reply, answer.authenticated
            if reply is None:
                return answer.forward
        else:
            reply = access_module.NOAUTH
            if len(args) > access_module.UNAUTHENTICATED_ARGS:
                reply, self.close_after = UNAUTHENTICATED_ARGS, True
            elif max(len(arg) for arg in args) > access_module.UNAUTHENTICATED_BULK:
                reply, self.close_after = UNAUTHENTICATED_BULK, True
        self._answer_noted(reply, args, size, flags, now_ns)
        return None

    cdef Py_ssize_t _local(self, list args, const char *p, Py_ssize_t n, Py_ssize_t at, Py_ssize_t size, int flags,
                           int64_t now_ns) except -2:
        """A command that shunt answers, with what it knows when its turn has come."""
        cdef bytes name = args[0].upper()
        cdef bint stop = False
        if self.skip_now and (name == b"CLIENT" or (name == b"RESET" and len(args) > 1)):
            self._local_reply(args)         # in force, but unanswered; Redis gets it too, to skip it there
            self.seg = at
            self._load(args)
            self._command(len(args), min(len(args), MAX_ARGS), size, flags, now_ns)
            return at + size
        self.seg = at + size
        if name == b"QUIT":
            stop = self.close_after = True
        elif name == b"RESET" and len(args) == 1 and self.private:
            self.seg = at                   # Redis says when it has run what came before, be that unanswered
            self._emit(p, at + size)
            self.stopped = True
            self.held = PyBytes_FromStringAndSize(p + at + size, n - at - size) if at + size < n else None
            self._load(args)
            self._command(1, 1, size, flags, now_ns)
            return STOP
        elif name == b"RESET" and len(args) == 1:
            stop = self.stopped = True      # what comes next starts from nothing
            self.reply_off = False
            self.held = PyBytes_FromStringAndSize(p + at + size, n - at - size) if at + size < n else None
        self._load(args)
        self._answer_noted(args, args, size, flags, now_ns)
        return STOP if stop else self.seg

    cdef bytes _local_reply(self, object request):
        """The reply to one of ``pooling``'s own commands, now that it is its turn; what it changes is changed."""
        cdef bytes name = request[0].upper()
        if name == b"QUIT":
            return pooling.OK
        if name == b"RESET":
            if len(request) > 1:
                return b"-ERR wrong number of arguments for 'reset' command\r\n"
            self._reset()
            return pooling.RESET_OK
        if self.channels + self.patterns + self.shards > 0 and not self.resp3:
            return pooling.NOT_WHILE_SUBSCRIBED % b"|".join(word.lower() for word in request[:2])
        user = self.creds[0] if self.creds is not None and len(self.creds) == 2 else b"default"
        reply = pooling.answer(request, self.person, resp3=bool(self.resp3), db=self.caller.db,
                               user=user.decode("utf-8", "replace"))
        if self.name != self.person.name:
            self._rename(self.person.name)
        return reply

    cdef void _reset(self) noexcept:
        Session._reset(self)
        self.person.name = b""
        self.in_multi = self.uncountable = False
        self.skip_now = self.skip_next = False
        self.stopped = self.unheard = False
        self.tracking = 0
        self.creds = None
        self.changes.clear()
        self.authenticated = self.access is None or not self.access.protected
        if not self.uncounted:              # else more may be under way on that connection, and it stays
            self.pinned = False
            self.reset = True

    # ---- from the backend ---------------------------------------------------------------------------------------------

    cdef void _apply_silent(self, Entry *entry) noexcept:
        self.unheard = True
        if entry.spec != NULL and (entry.spec.kind <= ks.KIND_SUNSUBSCRIBE and entry.spec.kind != ks.KIND_PLAIN
                                   or entry.spec.kind == ks.KIND_CLIENT_TRACKING):
            self.pinned = True          # nobody hears whether it changed the connection
        Session._apply_silent(self, entry)

    cdef void _reply(self, Entry *head, Reply *reply, int64_t now_ns) noexcept:
        self.unheard = False
        if reply.kind == R_ERROR and head.spec != NULL and head.spec.kind == ks.KIND_RESET and self.stopped:
            self.close_after = True         # a Redis without RESET: nothing that comes next would be right
        Session._reply(self, head, reply, now_ns)

    cdef void _apply(self, Entry *entry, Reply *reply) noexcept:
        cdef int kind = entry.spec.kind
        Session._apply(self, entry, reply)
        if kind == ks.KIND_HELLO:
            self.backend_id = -1            # the connection's, which others will use too
        if kind == ks.KIND_AUTH or kind == ks.KIND_HELLO or kind == ks.KIND_CLIENT_TRACKING:
            self._change(entry.seq, reply.kind != R_ERROR)

    cdef int _change(self, int64_t seq, bint good) except -1:
        change = self.changes.pop(seq, None)
        if good and change is False:
            if seq >= self.tracking:    # else it was switched on again behind this
                self.tracking = 0
        elif good and change is not None:
            self.creds = change
        if self.name != self.person.name:
            self.person.name = self.name    # HELLO … SETNAME
        return 0


def _own_credentials(list args):
    """The credentials in AUTH or HELLO, as AUTH takes them behind its name; None: there are none."""
    if args[0].upper() == b"AUTH":
        return tuple(args[1:]) if len(args) in (2, 3) else None
    for i in range(2, len(args) - 2):
        if args[i].upper() == b"AUTH":
            return args[i + 1], args[i + 2]
    return None
