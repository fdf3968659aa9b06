# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""A session with credentials or a database in one of the URLs: AUTH, HELLO and RESET are answered or edited by shunt.

Knows: which commands are about credentials, and that no byte of an unauthenticated client may pass but QUIT, RESET and a
HELLO that authenticates. Refuses to know: what is right or wrong about them (``access``).

A command that is cut off at the end of a read is held back while it may be one of these; everything else goes on at
once. Where a connection without credentials would become a plain pipe, one that is not authenticated is closed.
"""
from libc.stdint cimport int64_t
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE

from protocol cimport keyspecs as ks
from protocol.inline import split_inline
from protocol.resp cimport (
    MAX_ARGS, SCAN_DONE, SCAN_INLINE, SCAN_MORE, SCAN_TOO_BIG, PartialCommand, Scan, ScanResult, scan_command,
)
from proxy.engine.inflight cimport MODE_SWALLOW, Entry
from proxy.engine.recorder cimport F_INLINE, SLOT_NONE, Recorder
from proxy.engine.session cimport EDITED, Session

from proxy.engine import access as access_module
from proxy.engine.session import TOO_BIG

cdef enum:
    HELD_MAX = 131072           # bytes held back of a command that may carry credentials

cdef bytes UNREADABLE = b"-ERR Protocol error\r\n"
cdef bytes UNAUTHENTICATED_ARGS = b"-ERR Protocol error: unauthenticated multibulk length\r\n"
cdef bytes UNAUTHENTICATED_BULK = b"-ERR Protocol error: unauthenticated bulk length\r\n"
cdef bytes AUTH_IN_MULTI = b"*1\r\n$4\r\nAUTH\r\n"      # Redis refuses it by its arity and aborts the transaction


def session(Recorder recorder, bytes addr, access):
    """The session that a client needs: a guarded one where ``access`` (``access.Access``) says something, else a plain one."""
    return Session(recorder, addr) if access is None else GuardedSession(recorder, addr, access)


cdef class GuardedSession(Session):
    """``access``: the credentials of both sides."""

    def __init__(self, Recorder recorder, bytes addr, access):
        self.access = access
        self.authenticated = not access.protected
        self.caller.db = self.home_db = access.db

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

    def prelude(self):
        """AUTH and SELECT, as the backend's URL has them; their replies will be swallowed. b"": none."""
        if not self.access.prelude:
            return b""
        self._inject()
        return b"".join(access_module.encode(args) for args in self.access.prelude)

    cdef int _inject(self) except -1:
        """Expect one reply to swallow for each command of the prelude."""
        cdef Entry *entry
        for _ in self.access.prelude:
            entry = self.queue.push()
            if entry == NULL:
                raise MemoryError
            entry.mode = MODE_SWALLOW
            entry.slot = SLOT_NONE
            self.splices += 1
        return 0

    cdef int on_client_bytes(self, const char *p, Py_ssize_t n, int64_t now_ns) except -1:
        """As a Session's, looking at each command before it goes on. Ordinary Python: this is not the usual way."""
        cdef bytes data
        cdef Py_ssize_t at = 0, seg = 0, used
        cdef Scan scan
        cdef ScanResult result
        self.to_backend = []
        self.to_client = []
        if self.close_after:
            return EDITED
        data = PyBytes_FromStringAndSize(p, n) if not self.held else self.held + PyBytes_FromStringAndSize(p, n)
        self.held = None
        if self.up_pipe:                # since the last read, by what the backend said
            if self.authenticated:
                self.to_backend.append(data)
            else:
                self.close_after = True
            return EDITED
        p = PyBytes_AS_STRING(data)
        n = PyBytes_GET_SIZE(data)
        while at < n and not self.up_pipe:
            if self.partial is None:
                result = scan_command(p + at, n - at, self.recorder.argv, self.recorder.max_frame, &scan)
                used = scan.used
                if result == SCAN_MORE:
                    if self._must_hold(p + at, n - at, scan.kept, now_ns):
                        if seg < at:
                            self.to_backend.append(data[seg:at])
                        self.held = data[at:]
                        return EDITED
                    if self.close_after:
                        break
                    self.partial = PartialCommand(self.recorder.mode == 2 or self.tap is not None,
                                                  self.recorder.max_frame)
            if self.partial is not None:
                result = self.partial.feed(p + at, n - at, &used)
                if result == SCAN_MORE:
                    at = n
                    break
            if result == SCAN_TOO_BIG:
                self.partial = None
                self.up_pipe = True
                self.close_after = True
                self._answer(TOO_BIG, now_ns)
                break
            if (result == SCAN_DONE or result == SCAN_INLINE) and self.partial is None:
                args = self._arguments(p + at, result, &scan)
                if args and self._edited(args, data[seg:at], used, result, now_ns):
                    at += used
                    seg = at
                    continue
            if result == SCAN_DONE and self.partial is None:
                self._command(scan.argc, scan.kept, scan.used, 0, now_ns)
            else:
                self._unusual(result, p + at, used, now_ns)
            at += used
        if self.up_pipe and not self.close_after:
            if self.authenticated:
                at = n
            else:                       # a plain pipe would let it past the password
                at = seg
                self.close_after = True
                self._answer(UNREADABLE, now_ns)
        if seg < at:
            self.to_backend.append(data[seg:at])
        return EDITED

    cdef bint _must_hold(self, const char *p, Py_ssize_t n, Py_ssize_t kept, int64_t now_ns) except -1:
        """Whether an unfinished command must wait here, because it is, or may be, about credentials."""
        if self.authenticated and p[0] == b'*':
            name = self._first_word(p, n)
            if name is None and n > 256:
                return False            # no command of ours has so long a name
            if name is not None and name.upper() not in (b"AUTH", b"HELLO", b"RESET"):
                return False
        if n > HELD_MAX:
            self._answer(UNAUTHENTICATED_BULK, now_ns)
            self.up_pipe = self.close_after = True
            return False
        return True

    cdef bytes _first_word(self, const char *p, Py_ssize_t n):
        """The name of an unfinished command in RESP, or None while it isn't whole."""
        cdef PartialCommand start = PartialCommand()
        cdef Py_ssize_t used
        start.feed(p, n if n < 512 else 512, &used)
        return None if start.narg == 0 else PyBytes_FromStringAndSize(start.scratch, start.pieces[0].kept)

    cdef list _arguments(self, const char *p, ScanResult result, Scan *scan):
        """The arguments of a whole command, if it is about credentials or its client isn't authenticated; else []."""
        cdef Py_ssize_t i
        cdef const ks.Spec *spec
        if result == SCAN_INLINE:
            return split_inline(PyBytes_FromStringAndSize(p, scan.used - 1)) or []
        spec = self.recorder.table.lookup(self.recorder.argv, scan.kept)
        if self.authenticated and (spec == NULL or (spec.kind != ks.KIND_AUTH and spec.kind != ks.KIND_HELLO
                                                    and spec.kind != ks.KIND_RESET)):
            return []
        return [PyBytes_FromStringAndSize(self.recorder.argv[i].ptr, self.recorder.argv[i].kept)
                for i in range(scan.kept)]

    cdef bint _edited(self, list args, bytes before, Py_ssize_t size, ScanResult result, int64_t now_ns) except -1:
        """Decide about one command. True: it was dealt with here, and ``before`` sent on."""
        name = args[0].upper()
        flags = F_INLINE if result == SCAN_INLINE else 0
        skips = self.skip_now
        reply = forward = None
        if not self.access.answers and name != b"RESET":
            return False                # credentials are between the client and Redis
        if name == b"AUTH":
            if self.in_multi:
                forward = AUTH_IN_MULTI
            else:
                reply, ok = self.access.auth(args)
                self.authenticated = self.authenticated or ok
        elif name == b"HELLO" and self.in_multi:
            forward = access_module.without_auth(args)
        elif name == b"HELLO":
            answer = self.access.hello(args, self.authenticated)
            reply, forward, self.authenticated = answer.reply, answer.forward, answer.authenticated
        elif name == b"RESET":
            forward = access_module.encode(args)
        elif not self.authenticated and name != b"QUIT":
            reply = access_module.NOAUTH
            if len(args) > access_module.UNAUTHENTICATED_ARGS:
                reply, self.close_after = UNAUTHENTICATED_ARGS, True
            elif max(len(arg) for arg in args) > access_module.UNAUTHENTICATED_BULK:
                reply, self.close_after = UNAUTHENTICATED_BULK, True
        else:
            return False
        if before:
            self.to_backend.append(before)
        self._load(args)
        if reply is not None:
            if skips:
                self.to_backend.append(access_module.EMPTY)     # for Redis to skip it
            self._answer_noted(reply, args, size, flags, now_ns)
            self.up_pipe = self.up_pipe or self.close_after
        else:
            self.to_backend.append(forward)
            self._command(len(args), min(len(args), MAX_ARGS), size, flags, now_ns)
            if name == b"RESET" and len(args) == 1:
                self._after_reset()
        return True

    cdef int _after_reset(self) except -1:
        """RESET logs out on both sides: the client must AUTH again, and the backend gets the prelude again."""
        self.authenticated = not self.access.protected
        if self.access.prelude:
            self._inject()
            self.to_backend.extend(access_module.encode(args) for args in self.access.prelude)
        return 0
